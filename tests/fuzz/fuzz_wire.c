/* fuzz_wire.c: the protobuf reader alone. First byte: how small the window is and how little a read gives. Every field must lie
 * in its message; walking again, also from the inside, finds the same fields. */
#include "base/err.h"
#include "base/num.h"
#include "formats/wire/wire.h"
#include "tests/fuzz/fuzz.h"
#include <string.h>

struct bytes {
    const uint8_t *p;
    uint64_t n;
};

static qn_code read_bytes(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const struct bytes *b = ctx;
    (void)err;
    QF_CHECK(off <= b->n && n <= b->n - off);
    if (n)
        memcpy(dst, b->p + off, (size_t)n);
    return QN_OK;
}

struct sum {
    uint64_t fields, hash;
};

/* Tries every payload as a message too: a string that happens to be one is walked, others end with an error. */
static qn_code walk(qn_wire *w, qn_wire_msg m, unsigned deeper, struct sum *s, qn_err *err)
{
    const qn_wire_msg whole = m;
    uint64_t last = m.at;
    for (;;) {
        qn_wire_field f;
        qn_wire_msg sub;
        bool more;
        QN_TRY(qn_wire_next(w, &m, &f, &more, err));
        if (!more) {
            QF_CHECK(m.at == m.end);
            return QN_OK;
        }
        QF_CHECK(f.off == last && f.at > f.off && f.n <= m.end - f.at && m.at == f.at + f.n);
        QF_CHECK(f.number >= 1 && f.number < 1u << 29);
        last = m.at;
        s->fields++;
        s->hash = (s->hash ^ f.off ^ f.value << 7 ^ (uint64_t)f.number << 40) * 0x9e3779b97f4a7c15u;
        if (f.type == QN_WIRE_BYTES && deeper && qn_wire_enter(&whole, &f, &sub, err) == QN_OK) {
            struct sum inner = {0};
            qn_err own = {0};
            QN_IGNORE(walk(w, sub, deeper - 1, &inner, &own));
            s->hash ^= inner.hash;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    uint8_t window[QN_WIRE_WINDOW_MIN + 255];
    struct bytes b = {p + (n > 0), n - (n > 0)};
    struct sum first = {0}, again = {0};
    qn_err err = {0};
    qn_wire w;
    qn_wire_init(&w, read_bytes, &b, b.n, window, QN_WIRE_WINDOW_MIN + (n ? p[0] : 0));
    const qn_code rc = walk(&w, qn_wire_whole(&w), 3, &first, &err);
    QF_CHECK(rc == QN_OK || (rc == QN_E_INPUT && err.off <= b.n && err.text[0]));
    qn_wire_init(&w, read_bytes, &b, b.n, window, QN_WIRE_WINDOW_MIN);
    QF_CHECK(walk(&w, qn_wire_whole(&w), 3, &again, &err) == rc);
    QF_CHECK(first.fields == again.fields && first.hash == again.hash);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[] = {"\0\x08\x08\x42\x02\x10\x0d", "\1\x0a\x04\x0a\x02\x0a\0", "\2\x79" "12345678" "\x7d" "1234",
                                        "\3\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\4\x52\x03" "abc" "\x98\x3f\x01"};
    static const uint8_t n[] = {7, 8, 15, 12, 9};
    for (size_t i = 0; i < sizeof n; i++)
        emit(ctx, (const uint8_t *)seeds[i], n[i]);
}
