/* test_product_vq.c: products of vq chunks: payloads written here, against sums in double of what the decoder gives, under every CPU
 * variant, between guard pages. */
#include "base/half.h"
#include "base/num.h"
#include "runtime/product.h"
#include "runtime/vq.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *raw(uint8_t *p, size_t n)
{
    *p++ = QN_CODEC_RAW;
    for (; n >= 128; n >>= 7)
        *p++ = (uint8_t)(n | 128);
    *p++ = (uint8_t)n;
    return p;
}

/* `classes` of random sizes, all books stored. */
static uint8_t *make(qt_rng *r, unsigned v, uint32_t rows, uint32_t cols, unsigned classes, bool residual, size_t *n_bytes)
{
    const uint32_t strips = (rows + v - 1) / v;
    uint8_t *all = calloc(1000 + (size_t)classes * v * 2048 + 2 * cols + strips + 16 + (size_t)strips * (3 * cols + 1), 1), *p = all;
    unsigned main[4], second[4];
    uint8_t of[4096];
    uint64_t bits = 0;
    *p++ = (uint8_t)v;
    *p++ = (uint8_t)qt_below(r, 2);
    qn_store32(p, qn_f32_bits(0.25f));
    p += 4;
    *p++ = (uint8_t)classes;
    for (unsigned k = 0; k < classes; k++) {
        *p++ = (uint8_t)(main[k] = k == 3 ? 0 : k == 0 && qt_below(r, 2) ? 8 : 1 + (unsigned)qt_below(r, 8));
        *p++ = (uint8_t)(second[k] = residual && k != 3 && k != 1 ? 1 + (unsigned)qt_below(r, 7) : 0);
        *p++ = main[k] ? QN_VQ_STORED : 0;
    }
    for (uint32_t j = 0; j < cols; j++) {
        of[j] = (uint8_t)qt_below(r, classes);
        bits += main[of[j]] + second[of[j]];
    }
    if (classes > 1) {
        p = raw(p, cols);
        memcpy(p, of, cols);
        p += cols;
    }
    p = raw(p, cols);
    for (uint32_t j = 0; j < cols; j++)
        *p++ = (uint8_t)(qt_below(r, 20) ? 200 + qt_below(r, 56) : 0);
    p = raw(p, strips);
    for (uint32_t i = 0; i < strips; i++)
        *p++ = (uint8_t)(200 + qt_below(r, 56));
    for (unsigned k = 0; k < classes; k++)
        for (unsigned i = 0; i < (main[k] ? v << main[k] : 0) + (second[k] ? v << second[k] : 0); i++, p += 2)
            qn_store16(p, qn_f32_to_f16((float)qt_normal(r)));
    for (uint32_t i = 0; i < strips; i++) {
        for (uint64_t b = 0; b < bits; b += 8)
            *p++ = (uint8_t)(qt_next(r) & (bits - b < 8 ? (1u << (bits - b)) - 1 : 255));
    }
    *n_bytes = (size_t)(p - all);
    return all;
}

static void check(qt_rng *r, unsigned v, uint32_t rows, uint32_t cols, unsigned classes, bool residual)
{
    size_t n;
    uint8_t *made = make(r, v, rows, cols, classes, residual, &n);
    qt_guarded payload = qt_guard_tail(n), x = qt_guard_tail(4 * cols), y = qt_guard_tail(4 * rows);
    float *xs = (float *)(void *)x.p, *ys = (float *)(void *)y.p, *w = malloc(4u * rows * cols);
    const qn_block b = {QN_F32, rows * cols, cols};
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    memcpy(payload.p, made, n);
    for (uint32_t j = 0; j < cols; j++)
        xs[j] = (float)(qt_normal(r) * (qt_below(r, 30) ? 1 : 100));
    for (unsigned c = 0; c < n_cpu; c++) {
        qn_kern k;
        qn_arena a;
        qn_product p;
        qn_err err = {0};
        qn_kern_init(&k, cpu[c]);
        qn_arena_init(&a, NULL);
        const qn_dec_ctx cx = {.kern = &k, .scratch = &a};
        cr_assert_eq(qn_codec_decode(&cx, QN_CODEC_VQ, &b, payload.p, n, (uint8_t *)w, &err), QN_OK, "%s", err.text);
        cr_assert_eq(qn_product_prepare(&cx, QN_CODEC_VQ, &b, payload.p, n, &a, &p, &err), QN_OK, "%s", err.text);
        cr_assert(p.fused && p.rows == rows && p.cols == cols && p.step == v);
        void *work = qn_arena_get(&a, p.work_bytes, 64, &err);
        p.load(&p, xs, work);
        memset(ys, 0x55, 4 * rows);
        const uint32_t half = rows / 2 / v * v;
        p.rows_of(&p, work, 0, half, ys);
        p.rows_of(&p, work, half, rows, ys + half);
        for (uint32_t i = 0; i < rows; i++) {
            double sum = 0, size = 0;
            for (uint32_t j = 0; j < cols; j++) {
                sum += (double)w[i * cols + j] * (double)xs[j];
                size += fabs((double)w[i * cols + j] * (double)xs[j]);
            }
            cr_assert(fabs(sum - (double)ys[i]) <= 0x1p-18 * size, "variant %x: row %u: %g for %g, of size %g", cpu[c], i, (double)ys[i], sum, size);
        }
        cr_assert_eq(qn_product_once(&cx, QN_CODEC_VQ, &b, payload.p, n - 1, xs, ys, &err), QN_E_INPUT);
        qn_arena_release(&a);
    }
    free(made);
    free(w);
    qt_guard_free(&payload);
    qt_guard_free(&x);
    qt_guard_free(&y);
}

Test(product_vq, all)
{
    static const unsigned lengths[] = {2, 4, 6, 8, 12, 16};
    static const uint32_t shapes[][2] = {{1, 1}, {3, 5}, {9, 31}, {16, 255}, {5, 256}, {40, 257}, {23, 600}, {17, 1031}};
    qt_rng r = qt_seed(1);
    for (unsigned i = 0; i < 6; i++)
        for (unsigned s = 0; s < 8; s++)
            for (unsigned classes = 1; classes <= 4; classes++)
                check(&r, lengths[i], shapes[s][0], shapes[s][1], classes, (s + classes) % 2);
}
