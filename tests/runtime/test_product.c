/* test_product.c: products of compressed chunks: payloads written here, against sums in double of what the decoder gives, under
 * every CPU variant, between guard pages; the bound is that of product.h. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "runtime/grid.h"
#include "runtime/product.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

struct made {
    uint32_t rows, cols, group;
    unsigned bits, zero, form;
    size_t n_bytes;
    uint8_t *payload;
    double *reach; /* (rows, runs of 32): the largest |w| that codes there can stand for */
};

static uint8_t *nested_raw(uint8_t *p, size_t n)
{
    *p++ = QN_CODEC_RAW;
    for (; n >= 128; n >>= 7)
        *p++ = (uint8_t)(n | 128);
    *p++ = (uint8_t)n;
    return p;
}

static void make(qt_rng *r, struct made *m)
{
    const uint32_t per_row = (m->cols - 1) / m->group + 1, groups = per_row * m->rows, runs = (m->cols - 1) / 32 + 1;
    const size_t n = (size_t)m->rows * m->cols, row = qn_grid_row_bytes(m->cols, m->bits);
    uint8_t *p = m->payload = calloc(64 + 3 * (size_t)groups + n + 8, 1);
    double *reach = m->reach = malloc((size_t)m->rows * runs * sizeof *reach);
    *p++ = (uint8_t)m->bits;
    *p++ = (uint8_t)m->zero;
    *p++ = (uint8_t)m->form;
    *p++ = 0xfd; /* −3 */
    uint32_t g = m->group;
    for (; g >= 128; g >>= 7)
        *p++ = (uint8_t)(g | 128);
    *p++ = (uint8_t)g;
    p = nested_raw(p, 2 * (size_t)groups);
    for (uint32_t i = 0; i < groups; i++) {
        const uint16_t h = qn_f32_to_f16((float)(qt_normal(r) * (i % 9 == 0 ? 100 : 1)));
        qn_store16(p, h);
        for (uint32_t c = i % per_row * m->group; c < m->cols && c < (i % per_row + 1) * m->group; c++) {
            double *at = reach + i / per_row * runs + c / 32;
            const double here = fabs((double)qn_f16_to_f32(h)) / 8 * (1 << m->bits);
            *at = c % 32 == 0 || here > *at ? here : *at;
        }
        p += 2;
    }
    if (m->zero == QN_GRID_ZERO_STORED) {
        p = nested_raw(p, groups);
        for (uint32_t i = 0; i < groups; i++)
            *p++ = (uint8_t)qt_below(r, 1u << m->bits);
    }
    if (m->form == QN_GRID_NESTED) {
        p = nested_raw(p, n);
        for (size_t i = 0; i < n; i++)
            *p++ = (uint8_t)qt_below(r, 1u << m->bits);
    } else {
        for (uint32_t i = 0; i < m->rows; i++, p += row)
            for (uint32_t j = 0; j < m->cols; j++) {
                const unsigned code = (unsigned)qt_below(r, 1u << m->bits);
                for (unsigned b = 0; b < m->bits; b++)
                    p[((size_t)j * m->bits + b) / 8] |= (uint8_t)((code >> b & 1) << ((size_t)j * m->bits + b) % 8);
            }
    }
    m->n_bytes = (size_t)(p - m->payload);
}

static void check(qt_rng *r, const struct made *m, const qn_block *b, bool fused)
{
    const uint32_t runs = (m->cols - 1) / 32 + 1;
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    qt_guarded pay = qt_guard_tail(m->n_bytes), xs = qt_guard_tail(4 * (size_t)m->cols), ys = qt_guard_tail(4 * (size_t)m->rows);
    float *x = (float *)(void *)xs.p, *y = (float *)(void *)ys.p, *w = malloc(4 * (size_t)b->n);
    memcpy(pay.p, m->payload, m->n_bytes);
    for (uint32_t j = 0; j < m->cols; j++)
        x[j] = (float)(qt_normal(r) * exp(4 * qt_normal(r)));
    for (unsigned v = 0; v < n_cpu; v++) {
        qn_kern k;
        qn_arena scratch, keep;
        qn_err err;
        qn_product p;
        qn_err_clear(&err);
        qn_kern_init(&k, cpu[v]);
        qn_arena_init(&scratch, NULL);
        qn_arena_init(&keep, NULL);
        const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch};
        if (v == 0) {
            const qn_block wide = {QN_F32, b->n, b->cols};
            cr_assert_eq(qn_codec_decode(&cx, QN_CODEC_GRID, &wide, pay.p, m->n_bytes, (uint8_t *)w, &err), QN_OK, "%s", err.text);
        }
        cr_assert_eq(qn_product_prepare(&cx, QN_CODEC_GRID, b, pay.p, m->n_bytes, &keep, &p, &err), QN_OK, "%s", err.text);
        cr_assert_eq(p.fused, fused);
        cr_assert_eq(p.rows, m->rows);
        qt_guarded work = qt_guard_tail((p.work_bytes + 63) / 64 * 64);
        p.load(&p, x, work.p);
        const uint32_t cut = m->rows > 1 ? 1 + (uint32_t)qt_below(r, m->rows - 1) : 0;
        memset(y, 0xff, 4 * (size_t)m->rows);
        p.rows_of(&p, work.p, cut, m->rows, y + cut);
        p.rows_of(&p, work.p, 0, cut, y);
        for (uint32_t i = 0; i < m->rows; i++) {
            double sum = 0, bound = 0, narrow = 0;
            for (uint32_t g = 0; g < runs; g++) {
                double most = 0;
                for (uint32_t j = 32 * g; j < m->cols && j < 32 * g + 32 && (size_t)i * m->cols + j < b->n; j++) {
                    const double xd = (double)x[j], wd = (double)w[(size_t)i * m->cols + j];
                    sum += xd * wd;
                    most = fabs(xd) > most ? fabs(xd) : most;
                    narrow += fabs(xd * wd) * 0x1p-8;
                }
                bound += most * 32 * m->reach[i * runs + g];
            }
            cr_assert_leq(fabs((double)y[i] - sum), bound * 0x1p-15 + (fused ? 0 : narrow),
                          "variant %x: %u bits, zero %u, form %u, group %u, row %u of %u × %u: %g, expected %g", cpu[v], m->bits, m->zero,
                          m->form, m->group, i, m->rows, m->cols, (double)y[i], sum);
        }
        float again[64];
        cr_assert_eq(qn_product_once(&cx, QN_CODEC_GRID, b, pay.p, m->n_bytes, x, again, &err), QN_OK);
        cr_assert_leq(fabsf(again[0] - y[0]), fabsf(y[0]) * 1e-3f + 1e-3f * fabsf(x[0]) * (float)m->reach[0] * 32);
        qt_guard_free(&work);
        qn_arena_release(&scratch);
        qn_arena_release(&keep);
    }
    free(w);
    qt_guard_free(&pay);
    qt_guard_free(&xs);
    qt_guard_free(&ys);
}

Test(product, grid)
{
    static const uint32_t shapes[][2] = {{1, 1},  {3, 5},   {9, 31},  {4, 32},   {5, 33},   {2, 64},   {7, 100},
                                         {6, 511}, {5, 512}, {3, 513}, {4, 1000}, {2, 2080}, {13, 544}};
    static const uint32_t groups[] = {32, 64, 96, 0, 24};
    qt_rng r = qt_seed(11);
    for (unsigned bits = 2; bits <= 8; bits++)
        for (unsigned s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
            for (unsigned g = 0; g < 5; g++) {
                const uint32_t cols = shapes[s][1];
                struct made m = {.rows = shapes[s][0], .cols = cols, .bits = bits, .zero = (g + s) % 3, .form = (g + bits) % 4 == 0,
                                 .group = groups[g] && groups[g] < cols ? groups[g] : cols};
                make(&r, &m);
                const qn_block b = {g == 1 ? QN_BF16 : QN_F32, m.rows * cols, cols};
                check(&r, &m, &b, m.group % 32 == 0 || m.group == cols);
                free(m.payload);
                free(m.reach);
            }
}

/* What a decoder refuses, preparing refuses; other dtypes and unknown codecs too. */
Test(product, refusals)
{
    qt_rng r = qt_seed(12);
    struct made m = {.rows = 4, .cols = 70, .bits = 3, .zero = QN_GRID_ZERO_STORED, .group = 32};
    const qn_block b = {QN_F32, 280, 70}, ints = {QN_I32, 280, 70}, none = {QN_F32, 0, 70};
    qn_kern k;
    qn_arena a;
    qn_product p;
    float x[70] = {0}, y[4];
    make(&r, &m);
    qn_kern_init(&k, 0);
    qn_arena_init(&a, NULL);
    const qn_dec_ctx cx = {.kern = &k, .scratch = &a};
    for (size_t n = 0; n < m.n_bytes; n++)
        cr_assert_eq(qn_product_once(&cx, QN_CODEC_GRID, &b, m.payload, n, x, y, NULL), QN_E_INPUT, "cut at %zu", n);
    cr_assert_eq(qn_product_once(&cx, QN_CODEC_GRID, &b, m.payload, m.n_bytes, x, y, NULL), QN_OK);
    m.payload[m.n_bytes - 1] |= 0x80; /* 210 bits a row: six unused */
    cr_assert_eq(qn_product_once(&cx, QN_CODEC_GRID, &b, m.payload, m.n_bytes, x, y, NULL), QN_E_INPUT);
    cr_assert_eq(qn_product_prepare(&cx, QN_CODEC_GRID, &ints, m.payload, m.n_bytes, &a, &p, NULL), QN_E_UNSUPPORTED);
    cr_assert_eq(qn_product_prepare(&cx, QN_CODEC_GRID, &none, m.payload, m.n_bytes, &a, &p, NULL), QN_E_INPUT);
    cr_assert_eq(qn_product_prepare(&cx, 200, &b, m.payload, m.n_bytes, &a, &p, NULL), QN_E_UNSUPPORTED);
    qn_arena_release(&a);
    free(m.payload);
    free(m.reach);
}

/* A chunk of a codec without products, and a part of a row: decoded. x that is not finite does no harm. */
Test(product, decoded_and_not_finite)
{
    const float w[7] = {1, -2, 3, 0.5f, 4, 5, -6};
    float x[5] = {1, 2, 3, 4, 5}, y[2];
    const qn_block b = {QN_F32, 7, 5};
    qn_kern k;
    qn_arena a;
    qn_kern_init(&k, 0);
    qn_arena_init(&a, NULL);
    const qn_dec_ctx cx = {.kern = &k, .scratch = &a};
    cr_assert_eq(qn_product_once(&cx, QN_CODEC_RAW, &b, (const uint8_t *)w, sizeof w, x, y, NULL), QN_OK);
    cr_assert(y[0] == 28 && y[1] == -7);
    qt_rng r = qt_seed(13);
    struct made m = {.rows = 2, .cols = 5, .bits = 4, .zero = QN_GRID_ZERO_MIDDLE, .group = 5};
    make(&r, &m);
    const qn_block g = {QN_F32, 10, 5};
    x[2] = (float)INFINITY;
    cr_assert_eq(qn_product_once(&cx, QN_CODEC_GRID, &g, m.payload, m.n_bytes, x, y, NULL), QN_OK);
    cr_assert(!isfinite(y[0]) && !isfinite(y[1]));
    qn_arena_release(&a);
    free(m.payload);
    free(m.reach);
}
