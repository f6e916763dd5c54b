/* test_kern_ect.c: every variant of the trellis codec's kernels against C, between guard pages. */
#include "base/num.h"
#include "compress/ect_search.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <string.h>

static void tables(qn_ect_dec *d, unsigned shape)
{
    for (unsigned tab = 0; tab < QN_ECT_TABS; tab++) {
        uint16_t f[QN_ECT_SYMS];
        qn_ect_freq(shape, tab / 2, tab & 1, f);
        qn_ect_alias(f, d->bucket + tab * QN_ECT_SYMS);
        for (unsigned u = 0; u < QN_ECT_SYMS; u++)
            d->point[tab * QN_ECT_SYMS + u] =
                (float)qn_ect_point(2, shape, tab / 2, 2 * ((int32_t)u - QN_ECT_ZERO) + (int32_t)(tab & 1)) / 64;
    }
}

/* Any states from 2^16 up and any words are a stream. */
static void compare_rows(qt_rng *r, unsigned log2_lanes, unsigned nu, size_t n, size_t n_bytes)
{
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    static qn_ect_dec first, want, got;
    qt_guarded words = qt_guard_tail(n_bytes), tab2 = qt_guard_tail(n), ta = qt_guard_tail(n), tb = qt_guard_tail(n),
               ia = qt_guard_tail(2 * n), ib = qt_guard_tail(2 * n), va = qt_guard_tail(4 * n), vb = qt_guard_tail(4 * n),
               step = qt_guard_tail(4 * n);
    uint8_t *start = malloc(n);
    tables(&first, (unsigned)qt_below(r, QN_ECT_SHAPES));
    first.n_lanes = 1u << log2_lanes;
    first.escaped = false;
    cr_assert(qn_ect_code_get(nu, &first.code));
    for (size_t i = 0; i < n_bytes; i++)
        words.p[i] = (uint8_t)qt_next(r);
    for (size_t i = 0; i < n; i++) {
        const float s = (float)qt_normal(r);
        tab2.p[i] = (uint8_t)(2 * qt_below(r, QN_ECT_CLASSES));
        start[i] = (uint8_t)(nu ? qt_below(r, 1u << nu) : 0);
        memcpy(step.p + 4 * i, &s, 4);
    }
    for (unsigned i = 0; i < first.n_lanes; i++)
        first.x[i] = (uint32_t)qt_next(r) | QN_ECT_START;
    first.p = words.p;
    first.end = words.p + n_bytes;
    want = first;
    memcpy(ta.p, start, n);
    const bool ok = qn_ect_row_c(&want, tab2.p, ta.p, (uint16_t *)(void *)ia.p, n);
    if (ok)
        qn_ect_value_c(first.point, (const uint16_t *)(void *)ia.p, (const float *)(void *)step.p, (float *)(void *)va.p, n);
    for (unsigned i = 0; i < n_cpu; i++) {
        qn_kern k;
        qn_kern_init(&k, cpu[i]);
        got = first;
        memcpy(tb.p, start, n);
        cr_assert_eq(k.ect.row(&got, tab2.p, tb.p, (uint16_t *)(void *)ib.p, n), ok);
        if (!ok)
            continue;
        cr_assert(memcmp(ia.p, ib.p, 2 * n) == 0 && memcmp(ta.p, tb.p, n) == 0 && got.p == want.p);
        cr_assert(memcmp(got.x, want.x, 4 * first.n_lanes) == 0 && got.escaped == want.escaped);
        k.ect.value(first.point, (const uint16_t *)(void *)ib.p, (const float *)(void *)step.p, (float *)(void *)vb.p, n);
        cr_assert(memcmp(va.p, vb.p, 4 * n) == 0);
    }
    free(start);
    qt_guarded *all[] = {&words, &tab2, &ta, &tb, &ia, &ib, &va, &vb, &step};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        qt_guard_free(all[i]);
}

Test(kern_ect, rows)
{
    qt_rng r = qt_seed(1);
    for (unsigned log2_lanes = 0; log2_lanes <= 6; log2_lanes++)
        for (unsigned nu = 0; nu <= 8; nu += nu ? 1 : 2)
            for (size_t n = 1; n < 700; n += 1 + qt_below(&r, 60))
                compare_rows(&r, log2_lanes, nu, n, qt_below(&r, 3) ? 2 * n : qt_below(&r, 2 * n + 2));
}

Test(kern_ect, search)
{
    enum { ROWS = 333 };
    static float x[ROWS];
    static uint8_t class[ROWS], da[ROWS * 32 + 1], db[ROWS * 32 + 1];
    static qn_ect_branch ba[ROWS + 16], bb[ROWS + 16];
    static qn_ect_book b;
    qt_rng r = qt_seed(2);
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (unsigned round = 0; round < 200; round++) {
        const unsigned nu = (unsigned)qt_below(&r, 8), rows = 1 + (unsigned)qt_below(&r, ROWS);
        const double scale = (double)(1u << qt_below(&r, 18)) / 4;
        qn_ect_book_make(&b, nu ? nu + 1 : 0, (unsigned)qt_below(&r, QN_ECT_SHAPES), 0);
        for (unsigned i = 0; i < rows; i++) {
            x[i] = (float)(qt_normal(&r) * scale);
            class[i] = (uint8_t)qn_ect_clamp((int)qt_below(&r, 90), b.top);
        }
        qn_ect_branch_c(&b, x, class, rows, ba);
        if (nu)
            qn_ect_viterbi_c(&b.code, ba, rows, da);
        for (unsigned i = 0; i < n_cpu; i++) {
            qn_ekern_ect k;
            qn_ekern_ect_init(&k, cpu[i]);
            k.branch(&b, x, class, rows, bb);
            cr_assert_eq(memcmp(ba, bb, rows * sizeof *ba), 0);
            if (!nu)
                continue;
            k.viterbi(&b.code, ba, rows, db);
            const unsigned n = 1u << b.code.log2_states;
            cr_assert_eq(memcmp(da, db, (size_t)rows * (n < 8 ? 1 : n / 8) + 1), 0, "%u states", n);
        }
    }
}
