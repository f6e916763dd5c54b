/* test_kern_trellis.c: every variant of the trellis kernels against C, between guard pages. */
#include "runtime/kern.h"
#include "runtime/trellis.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <string.h>

static void compare(qt_rng *r, uint32_t n, uint32_t rows, bool slack, unsigned log2_windows)
{
    uint8_t bits[16] = {0};
    qn_trellis_group g, want_g;
    for (uint32_t i = 0; i < n; i++)
        bits[i] = (uint8_t)(qt_below(r, 3) ? 2 + qt_below(r, 2) : qt_below(r, 9));
    qn_trellis_group_make(&g, log2_windows, bits, n);
    for (uint32_t i = 0; i < n; i++) {
        g.step[i] = bits[i] ? (float)qt_normal(r) * 1e-3f : 0;
        g.last[i] = bits[i] ? (uint32_t)qt_next(r) : g.last[i];
    }
    const size_t n_words = 4 * (size_t)qn_trellis_words(&g, rows), n_bytes = n_words + (slack ? 700 : 0);
    qt_guarded words = qt_guard_tail(n_bytes ? n_bytes : 1);
    const qn_trellis_tile t = {.words = words.p, .n_bytes = n_bytes, .rows = rows, .mask = (1u << log2_windows) - 1};
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (size_t i = 0; i < n_bytes; i++)
        words.p[i] = (uint8_t)qt_next(r);
    for (unsigned out = 0; out < QN_TRELLIS_OUTS; out++) {
        const size_t unit = out == QN_TRELLIS_F32 ? 4 : 2, row_bytes = unit * (n + 5), n_out = row_bytes * (rows - 1) + unit * n;
        qt_guarded want = qt_guard_tail(n_out), got = qt_guard_tail(n_out);
        memset(want.p, 0x55, n_out);
        want_g = g;
        qn_trellis_tile_c(out, &want_g, &t, want.p, row_bytes);
        for (unsigned v = 0; v < n_cpu; v++) {
            qn_kern k;
            qn_trellis_group got_g = g;
            qn_kern_init(&k, cpu[v]);
            memset(got.p, 0x55, n_out);
            k.trellis.tile[out](&got_g, &t, got.p, row_bytes);
            cr_assert(memcmp(want.p, got.p, n_out) == 0, "variant %x, %u columns, %u rows", cpu[v], n, rows);
            cr_assert(memcmp(want_g.last, got_g.last, sizeof g.last) == 0, "variant %x: last words", cpu[v]);
        }
        qt_guard_free(&want);
        qt_guard_free(&got);
    }
    float xs[16] = {0}, want_sum[16 * 32], got_sum[16 * 32];
    for (uint32_t i = 0; i < n; i++)
        xs[i] = (float)qt_normal(r);
    for (unsigned v = 0; v < n_cpu; v++) {
        qn_kern k;
        qn_trellis_group got_g = g;
        qn_kern_init(&k, cpu[v]);
        for (unsigned i = 0; i < 512; i++)
            want_sum[i] = got_sum[i] = (float)i;
        want_g = g;
        qn_trellis_dot_c(&want_g, &t, xs, want_sum);
        k.trellis.dot(&got_g, &t, xs, got_sum);
        cr_assert(memcmp(want_sum, got_sum, sizeof want_sum) == 0, "variant %x: sums", cpu[v]);
    }
    qt_guard_free(&words);
}

Test(kern_trellis, tiles)
{
    qt_rng r = qt_seed(1);
    for (unsigned i = 0; i < 300; i++) {
        const uint32_t n = i % 3 ? 16 : 1 + (uint32_t)qt_below(&r, 16), rows = i % 2 ? 32 : 1 + (uint32_t)qt_below(&r, 32);
        compare(&r, n, rows, i % 5 != 0, 10 + i % 7);
    }
}

/* Where a word is: counted one by one. */
Test(kern_trellis, places)
{
    qt_rng r = qt_seed(2);
    for (unsigned round = 0; round < 50; round++) {
        const uint32_t n = 1 + (uint32_t)qt_below(&r, 16);
        uint8_t bits[16];
        uint32_t taken[16] = {0}, place = 0;
        qn_trellis_group g;
        for (uint32_t i = 0; i < n; i++)
            bits[i] = (uint8_t)qt_below(&r, 9);
        qn_trellis_group_make(&g, 12, bits, n);
        for (uint32_t t = 0; t < 32; t++) {
            for (uint32_t i = 0; i < n; i++)
                if (bits[i] * (t + 1) > 32 * taken[i])
                    cr_assert_eq(qn_trellis_place(&g, i, taken[i]++), place++);
            cr_assert_eq(qn_trellis_words(&g, t + 1), place);
        }
        for (uint32_t i = 0; i < n; i++)
            cr_assert_eq(taken[i], bits[i]);
    }
}
