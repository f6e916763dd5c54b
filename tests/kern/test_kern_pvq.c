/* test_kern_pvq.c: every variant of the pvq kernels against C, and C against the walk of pvq.h, between guard pages. */
#include "runtime/kern.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <string.h>

static void compare_points(qt_rng *r, const qn_pvq_tab *t, uint32_t m, uint32_t j, size_t count)
{
    const size_t ld = count + qt_below(r, 3), n_out = (m - 1) * ld + count;
    qt_guarded from_end = qt_guard_tail(count * sizeof(uint64_t)), of = qt_guard_tail(count), want = qt_guard_tail(n_out),
               got = qt_guard_tail(n_out);
    uint64_t *x = (uint64_t *)(void *)from_end.p;
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (size_t i = 0; i < count; i++) {
        of.p[i] = (uint8_t)(i % 2 ? qt_below(r, j + 1) : j);
        const uint64_t last = qn_u128_sub(qn_pvq_tab_size(t, m, of.p[i]), qn_u128_of(1)).lo;
        x[i] = i % 7 == 0 ? last : i % 7 == 1 ? 0 : last == UINT64_MAX ? qt_next(r) : qt_below(r, last + 1);
    }
    memset(want.p, 0x55, n_out);
    qn_pvq_points_c(t, m, x, of.p, count, (int8_t *)want.p, ld);
    for (size_t i = 0; i < count; i += 3) {
        const qn_u128 last = qn_u128_sub(qn_pvq_tab_size(t, m, of.p[i]), qn_u128_of(1));
        int16_t y[64];
        cr_assert(qn_pvq_point(t, m, of.p[i], qn_u128_sub(last, qn_u128_of(x[i])), y));
        for (uint32_t a = 0; a < m; a++)
            cr_assert_eq(y[a], (int8_t)want.p[a * ld + i]);
    }
    for (unsigned v = 0; v < n_cpu; v++) {
        qn_kern k;
        qn_kern_init(&k, cpu[v]);
        memset(got.p, 0x55, n_out);
        k.pvq.points(t, m, x, of.p, count, (int8_t *)got.p, ld);
        cr_assert(memcmp(want.p, got.p, n_out) == 0, "variant %x, P(%u, %u), %zu groups", cpu[v], m, j, count);
    }
    qt_guarded *const all[] = {&from_end, &of, &want, &got};
    for (size_t i = 0; i < 4; i++)
        qt_guard_free(all[i]);
}

Test(kern_pvq, points)
{
    static const uint32_t of[][2] = {{16, 1},  {16, 4},  {16, 12}, {16, 13}, {16, 15}, {16, 16}, {16, 31}, {16, 58}, {32, 1}, {32, 7},
                                     {32, 8},  {32, 15}, {32, 16}, {32, 22}, {1, 127}, {2, 127}, {4, 127}};
    qt_rng r = qt_seed(1);
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    for (size_t c = 0; c < sizeof of / sizeof of[0]; c++) {
        qn_pvq_tab t;
        cr_assert_eq(qn_pvq_tab_make(&t, of[c][0], of[c][1], &arena, NULL), QN_OK);
        for (size_t count = 1; count <= 140; count += count < 40 ? 1 : 25)
            compare_points(&r, &t, of[c][0], of[c][1], count);
        for (unsigned i = 0; i < 30; i++)
            compare_points(&r, &t, 1 + (uint32_t)qt_below(&r, of[c][0]), (uint32_t)qt_below(&r, of[c][1] + 1), 1 + qt_below(&r, 70));
    }
    qn_arena_release(&arena);
}

static void compare_rows(qt_rng *r, qn_dtype type, size_t n, bool moved)
{
    const size_t unit = type == QN_F32 ? 4 : 2;
    qt_guarded y = qt_guard_tail(n), scale = qt_guard_tail(4 * n), pos = qt_guard_tail(4 * n), want = qt_guard_tail(n * unit),
               got = qt_guard_tail(n * unit);
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (size_t i = 0; i < n; i++) {
        const float s = (float)qt_normal(r) * (qt_below(r, 8) ? 0.01f : 1e-6f);
        const uint32_t p = (uint32_t)(n - 1 - i);
        y.p[i] = (uint8_t)(qt_below(r, 255) - 127);
        memcpy(scale.p + 4 * i, &s, 4);
        memcpy(pos.p + 4 * i, &p, 4);
    }
    const uint32_t *at = moved ? (const uint32_t *)(const void *)pos.p : NULL;
    const float shift[2] = {n % 3 ? -0.125f : 0, n % 3 == 2 ? 0.0625f : 0};
    for (size_t i = 0; i < n; i++) { /* one by one, by the bulk conversions' element form */
        float s;
        memcpy(&s, scale.p + 4 * i, 4);
        const int v = (int8_t)y.p[moved ? n - 1 - i : i];
        const float by = v == 0 ? 0 : v == 1 || v == -1 ? shift[0] : shift[1];
        qt_put(type, (double)(((float)v + (v < 0 ? -by : by)) * s), want.p + i * unit);
    }
    for (unsigned v = 0; v < n_cpu; v++) {
        qn_kern k;
        qn_kern_init(&k, cpu[v]);
        memset(got.p, 0x55, n * unit);
        k.pvq.row(type, (const int8_t *)y.p, shift, (const float *)(const void *)scale.p, at, n, got.p);
        cr_assert(memcmp(want.p, got.p, n * unit) == 0, "variant %x, %zu weights", cpu[v], n);
    }
    qt_guarded *const all[] = {&y, &scale, &pos, &want, &got};
    for (size_t i = 0; i < 5; i++)
        qt_guard_free(all[i]);
}

Test(kern_pvq, rows)
{
    qt_rng r = qt_seed(2);
    for (size_t n = 1; n < 300; n += n < 70 ? 1 : 37)
        for (unsigned moved = 0; moved < 2; moved++) {
            compare_rows(&r, QN_F32, n, moved);
            compare_rows(&r, QN_F16, n, moved);
            compare_rows(&r, QN_BF16, n, moved);
        }
}

Test(kern_pvq, norms)
{
    qt_rng r = qt_seed(4);
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (size_t n = 1; n < 200; n += 3) {
        const uint32_t m = 1 + (uint32_t)qt_below(&r, 32);
        qt_guarded y = qt_guard_tail(m * n), got = qt_guard_tail(4 * n);
        for (size_t i = 0; i < m * n; i++)
            y.p[i] = (uint8_t)(qt_below(&r, 255) - 127);
        for (unsigned v = 0; v < n_cpu; v++) {
            qn_kern k;
            qn_kern_init(&k, cpu[v]);
            k.pvq.norms((const int8_t *)y.p, n, m, n, (uint32_t *)(void *)got.p);
            for (size_t c = 0; c < n; c++) {
                uint32_t sum = 0, have;
                for (uint32_t i = 0; i < m; i++)
                    sum += (uint32_t)((int8_t)y.p[i * n + c] * (int8_t)y.p[i * n + c]);
                memcpy(&have, got.p + 4 * c, 4);
                cr_assert_eq(sum, have);
            }
        }
        qt_guard_free(&y);
        qt_guard_free(&got);
    }
}
