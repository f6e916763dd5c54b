/* fuzz_index.c: a .quern file, raw (first byte odd) or as index bytes around which header, footer and checksums are put.
 * An index has one spelling: what is parsed and written again must be the same bytes. */
#include "formats/quern/write.h"
#include "runtime/reader.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/quern_build.h"
#include <string.h>

static void parse(const uint8_t *p, size_t n)
{
    qt_counter c;
    qn_arena ar;
    qn_index ix;
    qn_err err;
    qt_counter_init(&c);
    qn_arena_init(&ar, &c.alloc);
    qn_err_clear(&err);
    const qn_code rc = qn_index_parse(&ix, &ar, p, n, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED);
    QF_CHECK(rc == QN_OK || err.text[0]);
    QF_CHECK(c.peak <= 16 * n + (128 << 10));
    if (rc == QN_OK) {
        uint8_t *again;
        uint64_t n_again, at = QN_HEADER_BYTES;
        QF_CHECK(qn_index_serialise(&ix, NULL, &again, &n_again, &err) == QN_OK);
        QF_CHECK(n_again == n && memcmp(again, p, n) == 0);
        qn_mem_put(NULL, again);
        for (uint64_t i = 0; i < ix.n_chunks; i++) {
            const qn_index_chunk *k = &ix.chunks[i];
            if (k->codec == QN_CODEC_SHARED) {
                QF_CHECK(k->off < i && ix.chunks[k->off].codec != QN_CODEC_SHARED);
                continue;
            }
            QF_CHECK(k->off >= at && k->stored_bytes >= 1);
            at = k->off + k->stored_bytes;
        }
        for (uint64_t t = 0; t < ix.n_tensors; t++)
            QF_CHECK(qn_index_find(&ix, ix.objects[ix.tensors[t]].name) == t);
    }
    qn_arena_release(&ar);
    QF_CHECK(c.n_live == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_buf file = {0};
    if (n < 2)
        return 0;
    if (p[0] & 1) {
        qt_add(&file, p + 1, n - 1);
    } else {
        parse(p + 2, n - 2);
        (void)qt_quern_file(&file, (size_t)p[1] * 8, p + 2, n - 2, p[0] & 2);
    }
    qt_files t;
    qt_counter c;
    qn_err err;
    qn_reader *r;
    qt_files_init(&t);
    qt_files_add(&t, "m.quern", file.p, file.n);
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    qn_err_clear(&err);
    const qn_code rc = qn_reader_open_env(&env, "m.quern", &r, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    if (rc == QN_OK)
        qn_reader_close(r);
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    qt_buf_free(&file);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[] = {
        "b0 b5 b1 v1 screator st v2 sa.bin v1 sm.st v2 v3 b0 v3 z16 v3 v6 b0 H3 b0 v10 z16 v10 v20 b0 H10 b143 sw b2 v2 v4 z16 v8 v32 b0 H16",
        "b2 b5 b1 v1 screator st v2 sa.bin v1 sm.st v2 v3 b0 v3 z16 v3 v6 b0 H3 b0 v10 z16 v10 v20 b0 H10 b143 sw b2 v2 v4 z16 v8 v32 b0 H16",
        "b0 b0 b0 v0 v1 sm v0 v0",
        "b0 b1 b0 v0 v1 sm v3 v3 b0 v3 z16 v3 v6 b0 H3 b0 v3 z16 v3 v1 v1 b0 v3 z16 v3 v1 v2",
        "b0 b1 b1 v0 v3 sa/b/c v1 sa/b/d v1 sz v1 v4 b133 sx b1 v4 z16 v2 v4 b0 H2 v1 v1 b146 sy b0 z16 v1 v8 b0 H4 b130 se b2 v0 v9 z16",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        qt_buf b = {0}, file = {0};
        uint64_t mark = 0;
        qt_index_words(&b, seeds[i], &mark);
        emit(ctx, b.p, b.n);
        qt_add(&file, "\1", 1);
        qt_buf whole = {0};
        (void)qt_quern_file(&whole, (size_t)b.p[1] * 8, b.p + 2, b.n - 2, b.p[0] & 2);
        qt_add(&file, whole.p, whole.n);
        emit(ctx, file.p, file.n);
        qt_buf_free(&b);
        qt_buf_free(&file);
        qt_buf_free(&whole);
    }
}
