/* test_kern_dense.c: every variant of the rANS and merge kernels against C, between guard pages. */
#include "base/num.h"
#include "runtime/dense.h"
#include "runtime/rans_tab.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* Any states from 2^16 up and any words are a stream: no encoder is needed to compare decoders. */
static void compare_decode(qt_rng *r, unsigned log2_lanes, size_t n, size_t n_bytes, bool wide)
{
    uint16_t weight[256], freq[256];
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu), n_sym = wide ? 256 : 64, most = 1u << qt_below(r, 12);
    qt_guarded words = qt_guard_tail(n_bytes), a = qt_guard_tail(n), c = qt_guard_tail(n);
    qn_rans_tab t;
    qn_rans first = {.n_lanes = 1u << log2_lanes};
    for (unsigned i = 0; i < 256; i++)
        weight[i] = (uint16_t)(qt_below(r, 3) ? 1 + qt_below(r, most) : i == 7);
    weight[7] = (uint16_t)(weight[7] ? weight[7] : 1);
    qn_rans_normalise(weight, n_sym, freq);
    if (wide)
        qn_rans_tab_make(&t, freq);
    else
        qn_rans_tab_make64(&t, freq);
    for (size_t i = 0; i < n_bytes; i++)
        words.p[i] = (uint8_t)qt_next(r);
    for (unsigned i = 0; i < first.n_lanes; i++) {
        first.lo[i] = (uint16_t)qt_next(r);
        first.hi[i] = (uint16_t)(qt_below(r, 4) ? qt_next(r) | 1 : 1);
    }
    first.p = words.p;
    first.end = words.p + n_bytes;
    qn_rans want = first;
    const bool ok = qn_rans_decode_c(&want, &t, a.p, n);
    for (unsigned i = 0; i < n_cpu; i++) {
        qn_kern k;
        qn_rans got = first;
        qn_kern_init(&k, cpu[i]);
        cr_assert_eq(k.dense.decode(&got, &t, c.p, n), ok);
        if (!ok)
            continue;
        cr_assert(memcmp(a.p, c.p, n) == 0 && got.p == want.p);
        cr_assert(memcmp(got.lo, want.lo, 2 * first.n_lanes) == 0 && memcmp(got.hi, want.hi, 2 * first.n_lanes) == 0);
    }
    qt_guard_free(&words);
    qt_guard_free(&a);
    qt_guard_free(&c);
}

Test(kern_dense, decode)
{
    qt_rng r = qt_seed(1);
    for (unsigned log2_lanes = 0; log2_lanes <= 8; log2_lanes++)
        for (unsigned wide = 0; wide < 2; wide++) {
            for (size_t n = 1; n <= 257; n += 4)
                compare_decode(&r, log2_lanes, n, qt_below(&r, 2 * n + 2), wide);
            for (unsigned i = 0; i < 20; i++)
                compare_decode(&r, log2_lanes, 20000 + i, i < 4 ? 3000 * (i + 1) : 40100, wide);
        }
}

static void compare_merge(qt_rng *r, const qn_dense_cut *cut, size_t at, size_t n, bool cols)
{
    const size_t unit = cut->top_bits / 8u + cut->n_low, n_pack = ((at + n) * cut->n_pack + 7) / 8;
    const size_t n_esc = qt_below(r, 4) ? n : n / 16; /* sometimes too few */
    qt_guarded sym = qt_guard_tail(n), pack = qt_guard_tail(n_pack), low = qt_guard_tail((at + n) * cut->n_low);
    qt_guarded esc = qt_guard_tail(2 * n_esc), col = qt_guard_tail(2 * n), a = qt_guard_tail(n * unit), c = qt_guard_tail(n * unit);
    qt_guarded *const noise[] = {&pack, &low, &esc, &col};
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (size_t k = 0; k < 4; k++)
        for (size_t i = 0; i < noise[k]->n; i++)
            noise[k]->p[i] = (uint8_t)qt_next(r);
    for (size_t i = 0; i < n; i++)
        sym.p[i] = (uint8_t)qt_below(r, 64);
    const qn_dense_row first = {.sym = sym.p,
                                .pack = pack.p,
                                .n_pack_bytes = n_pack,
                                .at = at,
                                .low = low.p,
                                .col = cols ? (const uint16_t *)(const void *)col.p : NULL,
                                .esc = esc.p,
                                .esc_end = esc.p + 2 * n_esc,
                                .base = (uint16_t)qt_next(r),
                                .n = n};
    qn_dense_row want = first;
    const bool ok = qn_dense_merge_one(cut, &want, a.p);
    for (unsigned i = 0; i < n_cpu; i++) {
        qn_kern k;
        qn_dense_row got = first;
        qn_kern_init(&k, cpu[i]);
        cr_assert_eq(k.dense.merge(cut, &got, c.p), ok);
        cr_assert(!ok || (memcmp(a.p, c.p, n * unit) == 0 && got.esc == want.esc));
    }
    qt_guarded *const all[] = {&sym, &pack, &low, &esc, &col, &a, &c};
    for (size_t k = 0; k < 7; k++)
        qt_guard_free(all[k]);
}

Test(kern_dense, merge)
{
    static const qn_dtype types[] = {QN_BF16, QN_F16, QN_F32, QN_F64};
    qt_rng r = qt_seed(2);
    for (size_t t = 0; t < 4; t++)
        for (unsigned m = 0; m <= QN_DENSE_M_MAX; m++)
            for (unsigned sign = 0; sign < 2; sign++) {
                qn_dense_cut cut;
                if (!qn_dense_cut_make(&cut, types[t], m, sign))
                    continue;
                for (size_t n = 1; n <= 257; n += m == 2 ? 2 : 16)
                    compare_merge(&r, &cut, qt_below(&r, 40), n, n % 4 == 1);
            }
}
