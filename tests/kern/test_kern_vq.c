/* test_kern_vq.c: every variant of the vq kernels against C, and C against sums written out here, between guard pages. */
#include "compress/ekern_vq.h"
#include "runtime/kern.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 4 };

/* Columns with the same books. */
typedef struct run {
    uint32_t main, residual;
    unsigned main_bits, residual_bits;
} run;

typedef struct strip {
    qn_vq_strip s;
    run run[RUNS];
    float *book;
    qt_guarded bytes;
    uint32_t *bit;
    uint8_t *of;
    float *col;
} strip;

static unsigned slow_bits(const uint8_t *p, uint64_t at, unsigned n)
{
    unsigned v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (unsigned)(p[(at + i) / 8] >> (at + i) % 8 & 1) << i;
    return v;
}

static strip make(qt_rng *r, unsigned v, uint32_t cols, unsigned runs, unsigned bits, unsigned residual)
{
    strip t = {.s = {.v = v, .cols = cols, .row = (float)(0.5 + 0.1 * qt_normal(r))}};
    size_t n = v;
    uint64_t all = 0;
    bool second = false;
    for (unsigned i = 0; i < runs; i++) {
        run *k = t.run + i;
        k->main_bits = i == 3 ? 0 : i == 0 ? bits : 1 + (unsigned)qt_below(r, 12);
        k->residual_bits = i == 3 || i == 1 ? 0 : i == 0 ? residual : residual ? (unsigned)qt_below(r, 13) : 0;
        k->main = k->main_bits ? (uint32_t)n : 0;
        n += k->main_bits ? (size_t)v << k->main_bits : 0;
        k->residual = k->residual_bits ? (uint32_t)n : 0;
        n += k->residual_bits ? (size_t)v << k->residual_bits : 0;
        second |= k->residual_bits > 0;
    }
    t.book = calloc(n + QN_VQ_BOOK_SLACK, sizeof *t.book);
    for (size_t i = v; i < n; i++)
        t.book[i] = (float)qt_normal(r);
    t.bit = malloc(cols * sizeof *t.bit);
    t.of = malloc(cols);
    t.col = malloc(cols * sizeof *t.col);
    qn_vq_fields *a = &t.s.at;
    uint32_t **const arrays[] = {&a->byte, &a->shift, &a->mask, &a->base, &a->shift2, &a->mask2, &a->base2};
    for (unsigned i = 0; i < (second ? 7 : 4); i++)
        *arrays[i] = malloc(cols * sizeof **arrays[i]);
    for (uint32_t j = 0; j < cols; j++) {
        const run *k = t.run + (t.of[j] = (uint8_t)qt_below(r, runs));
        t.bit[j] = (uint32_t)all;
        t.col[j] = (float)(qt_below(r, 10) ? 0.01 * qt_normal(r) : 0);
        a->byte[j] = (uint32_t)(all / 8);
        a->shift[j] = all % 8;
        a->mask[j] = (1u << k->main_bits) - 1;
        a->base[j] = k->main;
        if (second) {
            a->shift2[j] = a->shift[j] + k->main_bits;
            a->mask2[j] = (1u << k->residual_bits) - 1;
            a->base2[j] = k->residual;
        }
        all += k->main_bits + k->residual_bits;
    }
    t.bytes = qt_guard_tail((size_t)((all + 7) / 8) + !all);
    for (size_t i = 0; i < t.bytes.n; i++)
        t.bytes.p[i] = (uint8_t)qt_next(r);
    t.s.bytes = t.bytes.p;
    t.s.n_bytes = (size_t)((all + 7) / 8);
    t.s.bytes_all = runs == 1 && bits == 8 && !second;
    t.s.book = t.book;
    t.s.col = t.col;
    return t;
}

static void put_away(strip *t)
{
    const qn_vq_fields *a = &t->s.at;
    uint32_t *const arrays[] = {a->byte, a->shift, a->mask, a->base, a->shift2, a->mask2, a->base2};
    for (unsigned i = 0; i < 7; i++)
        free(arrays[i]);
    free(t->book);
    free(t->bit);
    free(t->of);
    free(t->col);
    qt_guard_free(&t->bytes);
}

static void compare(qt_rng *r, unsigned v, uint32_t cols, unsigned runs, unsigned bits, unsigned residual, qn_dtype type)
{
    strip t = make(r, v, cols, runs, bits, residual);
    const size_t unit = type == QN_F32 ? 4 : 2, row = cols * unit;
    const uint32_t m = 1 + (uint32_t)qt_below(r, v);
    qt_guarded want = qt_guard_tail(row * m), got = qt_guard_tail(row * m);
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (uint32_t j = 0; j < cols; j++) {
        const run *k = t.run + t.of[j];
        const unsigned a = slow_bits(t.bytes.p, t.bit[j], k->main_bits),
                       b = slow_bits(t.bytes.p, t.bit[j] + k->main_bits, k->residual_bits);
        for (uint32_t i = 0; i < m; i++) {
            float x = t.book[k->main + a * v + i];
            if (k->residual_bits)
                x += t.book[k->residual + b * v + i];
            qt_put(type, (double)(x * (t.s.row * t.col[j])), want.p + i * row + j * unit);
        }
    }
    for (unsigned c = 0; c < n_cpu; c++) {
        qn_kern k;
        qn_kern_init(&k, cpu[c]);
        memset(got.p, 0x55, row * m);
        k.vq.rows(&t.s, type, m, got.p, row);
        cr_assert(memcmp(want.p, got.p, row * m) == 0, "variant %x: %u rows, %u columns, %u runs, %u + %u bits", cpu[c], v, cols, runs, bits,
                  residual);
    }
    put_away(&t);
    qt_guard_free(&want);
    qt_guard_free(&got);
}

Test(kern_vq, rows)
{
    static const unsigned lengths[] = {2, 4, 6, 8, 12, 16};
    static const qn_dtype types[] = {QN_F32, QN_BF16, QN_F16};
    qt_rng r = qt_seed(1);
    for (unsigned i = 0; i < 6; i++)
        for (unsigned t = 0; t < 3; t++) {
            for (unsigned bits = 1; bits <= 12; bits++) {
                compare(&r, lengths[i], 1 + (uint32_t)qt_below(&r, 600), 1, bits, 0, types[t]);
                compare(&r, lengths[i], 1 + (uint32_t)qt_below(&r, 70), 1, bits, 1 + (unsigned)qt_below(&r, 12), types[t]);
                compare(&r, lengths[i], 1 + (uint32_t)qt_below(&r, 300), RUNS, bits, bits % 2 ? 5 : 0, types[t]);
            }
            compare(&r, lengths[i], 40, 1, 0, 0, types[t]);
            for (uint32_t cols = 1; cols < 70; cols++)
                compare(&r, lengths[i], cols, cols % 2 ? RUNS : 1, 8, 0, types[t]);
        }
}

static void compare_nearest(qt_rng *r, unsigned v, uint32_t k, size_t n)
{
    const size_t ld = n + qt_below(r, 5);
    float *c = malloc((size_t)k * v * sizeof *c), *half = malloc(k * sizeof *half);
    qt_guarded x = qt_guard_tail(((v - 1) * ld + n) * sizeof(float)), got = qt_guard_tail(n * sizeof(uint16_t));
    float *y = (float *)(void *)x.p;
    uint16_t *at = (uint16_t *)(void *)got.p;
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (size_t i = 0; i < (size_t)k * v; i++)
        c[i] = (float)(int)(qt_below(r, 9)) - 4; /* many equal distances, and twice the same centroid */
    for (size_t i = 0; i < (v - 1) * ld + n; i++)
        y[i] = n % 2 ? (float)(int)(qt_below(r, 17)) / 2 - 4 : (float)qt_normal(r);
    qn_vq_book_halves(c, v, k, half);
    const qn_vq_book b = {v, k, c, half};
    for (unsigned a = 0; a < n_cpu; a++) {
        qn_ekern_vq e;
        qn_ekern_vq_init(&e, cpu[a]);
        memset(got.p, 0xff, got.n);
        e.nearest(&b, y, ld, n, at);
        for (size_t i = 0; i < n; i++) {
            uint32_t best = 0;
            double least = 1e300;
            for (uint32_t q = 0; q < k; q++) {
                double d2 = 0;
                for (unsigned d = 0; d < v; d++)
                    d2 += ((double)y[d * ld + i] - (double)c[q * v + d]) * ((double)y[d * ld + i] - (double)c[q * v + d]);
                if (d2 < least) {
                    least = d2;
                    best = q;
                }
            }
            if (n % 2) { /* small halves: everything is exact, and the first of equals is found */
                cr_assert_eq(at[i], best, "variant %x", cpu[a]);
                continue;
            }
            double d2 = 0;
            for (unsigned d = 0; d < v; d++)
                d2 += ((double)y[d * ld + i] - (double)c[at[i] * v + d]) * ((double)y[d * ld + i] - (double)c[at[i] * v + d]);
            cr_assert(d2 <= least + 1e-4, "variant %x: %g, the nearest is %g away", cpu[a], d2, least);
        }
        uint16_t *want = malloc(n * sizeof *want);
        qn_vq_nearest_c(&b, y, ld, n, want);
        cr_assert(memcmp(want, at, n * sizeof *want) == 0, "variant %x", cpu[a]);
        free(want);
    }
    free(c);
    free(half);
    qt_guard_free(&x);
    qt_guard_free(&got);
}

Test(kern_vq, nearest)
{
    static const unsigned lengths[] = {2, 4, 6, 8, 12, 16};
    qt_rng r = qt_seed(2);
    for (unsigned i = 0; i < 6; i++)
        for (size_t n = 1; n < 300; n += n < 20 ? 1 : 41)
            for (uint32_t k = 1; k <= 512; k *= 8)
                compare_nearest(&r, lengths[i], k, n);
}
