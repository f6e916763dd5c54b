/* codec_check.c: the two checks that every codec must pass; see testkit.h. */
#include "base/err.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <string.h>

static size_t encode_once(unsigned cpu, qn_encode_fn encode, qn_level level, const qn_block *b, const uint8_t *src,
                          const uint8_t *base, uint8_t *dst, size_t cap)
{
    qn_ekern ek;
    qn_kern k;
    qn_arena scratch;
    qn_err err;
    size_t n = 0;
    qn_err_clear(&err);
    qn_ekern_init(&ek, cpu);
    qn_kern_init(&k, cpu);
    qn_arena_init(&scratch, NULL);
    const qn_enc_ctx cx = {.ekern = &ek, .kern = &k, .scratch = &scratch, .base = base, .level = level};
    const qn_code rc = encode(&cx, b, src, dst, cap, &n, &err);
    qn_arena_release(&scratch);
    cr_assert_eq(rc, QN_OK, "encode: %s", err.text);
    cr_assert_leq(n, cap);
    return n;
}

static qn_code decode_once(unsigned cpu, unsigned codec, const qn_block *b, const uint8_t *payload, size_t n_bytes,
                           const uint8_t *base, uint8_t *dst, qn_err *err)
{
    qn_kern k;
    qn_arena scratch;
    qn_err_clear(err);
    qn_kern_init(&k, cpu);
    qn_arena_init(&scratch, NULL);
    const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch, .base = base};
    const qn_code rc = qn_codec_decode(&cx, codec, b, payload, n_bytes, dst, err);
    qn_arena_release(&scratch);
    return rc;
}

size_t qt_codec_round_trip(unsigned codec, qn_encode_fn encode, qn_level level, const qn_block *b, const uint8_t *src,
                           const uint8_t *base, uint8_t *payload, size_t cap)
{
    const size_t n = (size_t)b->n * qn_unit_bytes(b->dtype);
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    qt_guarded in = qt_guard_tail(n), head = qt_guard_head(n);
    qt_guarded first = qt_guard_tail(cap), other = qt_guard_tail(cap);
    size_t n_out = 0;
    memcpy(in.p, src, n);
    memcpy(head.p, src, n);
    for (unsigned i = 0; i < n_cpu; i++) {
        const size_t m = encode_once(cpu[i], encode, level, b, i % 2 ? head.p : in.p, base, i ? other.p : first.p, cap);
        if (i == 0)
            n_out = m;
        cr_assert_eq(m, n_out, "variant %x writes %zu bytes, C %zu", cpu[i], m, n_out);
        cr_assert(i == 0 || memcmp(first.p, other.p, n_out) == 0, "variant %x writes other bytes than C", cpu[i]);
    }
    qt_guarded pay = qt_guard_tail(n_out), pay_head = qt_guard_head(n_out);
    memcpy(pay.p, first.p, n_out);
    memcpy(pay_head.p, first.p, n_out);
    for (unsigned i = 0; n_out && i < 2 * n_cpu; i++) {
        qn_err err;
        qt_guarded *dst = i % 2 ? &head : &in;
        memset(dst->p, 0xa5, n);
        const qn_code rc =
            decode_once(cpu[i / 2], codec, b, i % 2 ? pay_head.p : pay.p, n_out, base, dst->p, &err);
        cr_assert_eq(rc, QN_OK, "variant %x: %s", cpu[i / 2], err.text);
        cr_assert_eq(memcmp(dst->p, src, n), 0, "variant %x decodes to other bytes", cpu[i / 2]);
    }
    if (payload)
        memcpy(payload, first.p, n_out);
    qt_guard_free(&in);
    qt_guard_free(&head);
    qt_guard_free(&first);
    qt_guard_free(&other);
    qt_guard_free(&pay);
    qt_guard_free(&pay_head);
    return n_out;
}

/* One kind of damage; returns the new length. p has room for n + 64. */
static size_t damage(qt_rng *r, uint8_t *p, size_t n)
{
    size_t at = qt_below(r, n), len;
    switch (qt_below(r, 6)) {
    case 0:
        p[at] ^= (uint8_t)(1u << qt_below(r, 8));
        return n;
    case 1:
        p[at] = (uint8_t)qt_next(r);
        return n;
    case 2: /* the front holds sizes and tables: hit it more often */
        p[qt_below(r, n < 64 ? n : 64)] = (uint8_t)qt_next(r);
        return n;
    case 3:
        return at;
    case 4:
        len = 1 + qt_below(r, 64);
        for (size_t i = 0; i < len; i++)
            p[n + i] = (uint8_t)qt_next(r);
        return n + len;
    default:
        len = qt_below(r, n - at < 32 ? n - at : 32);
        memset(p + at, qt_next(r) % 2 ? 0 : 0xff, len);
        return n;
    }
}

size_t qt_codec_mutate(unsigned codec, const qn_block *b, const uint8_t *payload, size_t n_bytes, const uint8_t *base,
                       uint64_t seed, unsigned n_rounds)
{
    const size_t n = (size_t)b->n * qn_unit_bytes(b->dtype);
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    qt_rng r = qt_seed(seed);
    uint8_t *room = malloc(n_bytes + 64);
    qt_guarded a = qt_guard_tail(n), c = qt_guard_head(n);
    size_t refused = 0;
    for (unsigned round = 0; round < n_rounds; round++) {
        memcpy(room, payload, n_bytes);
        size_t m = n_bytes;
        for (uint64_t k = 1 + qt_below(&r, 3); k > 0 && m > 0; k--)
            m = damage(&r, room, m > n_bytes ? n_bytes : m);
        qt_guarded p = qt_guard_tail(m);
        qn_code want = QN_OK;
        memcpy(p.p, room, m);
        for (unsigned i = 0; i < n_cpu; i++) {
            qn_err err;
            uint8_t *dst = i ? c.p : a.p;
            const qn_code rc = decode_once(cpu[i], codec, b, p.p, m, base, dst, &err);
            if (i == 0)
                want = rc;
            cr_assert_eq(rc, want, "round %u: variant %x says %d, C %d (%s)", round, cpu[i], rc, want, err.text);
            cr_assert(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED, "round %u: code %d (%s)", round, rc,
                      err.text);
            cr_assert(i == 0 || rc != QN_OK || memcmp(a.p, c.p, n) == 0, "round %u: variant %x differs", round, cpu[i]);
        }
        refused += want != QN_OK;
        qt_guard_free(&p);
    }
    free(room);
    qt_guard_free(&a);
    qt_guard_free(&c);
    return refused;
}
