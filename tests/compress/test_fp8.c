/* test_fp8.c: the fp8 codec: a payload worked by hand, what is refused, what the encoder promises under every CPU variant against a second decoder, its error against the plain
 * rounding with the largest weight at 448, damage. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/feedback.h"
#include "tests/support/coded.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Two rows of 3, groups of 2: scales 1, 0.5 | −2, 0. Codes 1 (0x38), −1.5 (0xbc), 448 (0x7e) | 2^−9 (0x01), 0.25 (0x28), 1. */
static const uint8_t hand[] = {2, QN_CODEC_RAW, 16, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0, QN_CODEC_RAW, 6, 0x38, 0xbc, 0x7e, 0x01, 0x28, 0x38};
static const float hand_values[] = {1, -1.5f, 224, -0x1p-8f, -0.5f, 0};

Test(fp8, worked_by_hand)
{
    static const qn_dtype types[] = {QN_F32, QN_BF16, QN_F16};
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (unsigned t = 0; t < 3; t++)
        for (unsigned c = 0; c < n_cpu; c++) {
            const qn_block b = {types[t], 6, 3};
            const unsigned unit = qn_unit_bytes(types[t]);
            uint8_t out[24], want[24];
            qn_err err = {0};
            for (unsigned i = 0; i < 6; i++)
                qt_put(types[t], (double)hand_values[i], want + i * unit);
            cr_assert_eq(qt_decode(QN_CODEC_FP8, cpu[c], &b, hand, sizeof hand, out, &err), QN_OK, "%s", err.text);
            cr_assert_eq(memcmp(out, want, 6 * unit), 0);
        }
}

Test(fp8, refused)
{
    const qn_block b = {QN_F32, 6, 3}, ints = {QN_I32, 6, 3};
    uint8_t p[sizeof hand + 1];
    memcpy(p, hand, sizeof hand);
    p[sizeof hand] = 0;
    qt_coded_refused(QN_CODEC_FP8, p, sizeof hand + 1, &b, "1 bytes too many");
    qt_coded_refused(QN_CODEC_FP8, p, sizeof hand - 1, &b, "cut off");
    qt_coded_refused(QN_CODEC_FP8, p, 0, &b, "cut off");
    qt_coded_refused(QN_CODEC_FP8, p, sizeof hand, &ints, "for I32");
    p[0] = 0;
    qt_coded_refused(QN_CODEC_FP8, p, sizeof hand, &b, "groups of 0");
    p[0] = 4;
    qt_coded_refused(QN_CODEC_FP8, p, sizeof hand, &b, "groups of 4 in rows of 3");
    p[0] = 2;
    p[22] = 0xff;
    qt_coded_refused(QN_CODEC_FP8, p, sizeof hand, &b, "not a number");
    p[22] = 0xbc;
    p[6] = 0x7f; /* 2^127 and more */
    qt_coded_refused(QN_CODEC_FP8, p, sizeof hand, &b, "group 0 is out of range");
    p[5] = 0xc0; /* NaN */
    qt_coded_refused(QN_CODEC_FP8, p, sizeof hand, &b, "group 0 is out of range");
    p[5] = 0;
    p[6] = 0x01;
    qt_coded_refused(QN_CODEC_FP8, p, sizeof hand, &b, "group 0 is out of range");
}

static uint32_t slow_group;

static void nested(qn_cur *c, qn_dtype t, uint32_t n, uint32_t cols, uint8_t *dst)
{
    const unsigned codec = qn_cur_u8(c);
    const size_t n_bytes = (size_t)qn_cur_varint(c);
    qn_err err = {0};
    cr_assert_eq(qt_decode(codec, 0, &(qn_block){t, n, cols}, qn_cur_take(c, n_bytes), n_bytes, dst, &err), QN_OK, "%s", err.text);
}

static void slow(const qt_coded *c, float *dst)
{
    const uint32_t per_row = (c->cols - 1) / slow_group + 1;
    qn_cur cur = qn_cur_over(c->payload, c->n_bytes);
    uint8_t *scales = malloc((size_t)c->rows * per_row * 4), *codes = malloc((size_t)c->rows * c->cols);
    cr_assert_eq(qn_cur_varint(&cur), slow_group);
    nested(&cur, QN_F32, c->rows * per_row, per_row, scales);
    nested(&cur, QN_F8_E4M3, c->rows * c->cols, c->cols, codes);
    for (uint32_t i = 0; i < c->rows; i++)
        for (uint32_t j = 0; j < c->cols; j++) {
            const unsigned b = codes[(size_t)i * c->cols + j], e = b >> 3 & 15, m = b & 7;
            const float v = (float)ldexp(e ? 8 + m : m, (int)(e ? e : 1) - 10), s = qn_bits_f32(qn_load32(scales + 4 * ((size_t)i * per_row + j / slow_group)));
            cr_assert((b & 0x7f) != 0x7f);
            dst[(size_t)i * c->cols + j] = (b & 0x80 ? -v : v) * s;
            cr_assert_eq(qn_f32_bits(s) & 0xffff, 0u, "%u %u: %a", i, j, (double)s); /* BF16 holds it */
        }
    free(scales);
    free(codes);
}

static qt_coded encode(const qn_quant_settings *set, qn_dtype t, uint32_t rows, uint32_t cols, const float *w, unsigned cpu)
{
    qt_coded c = qt_coded_room(QN_CODEC_FP8, t, rows, cols);
    const qn_quantizer *q;
    const void *plan;
    qn_arena arena;
    qn_ldl ldl;
    qn_err err = {0};
    qn_arena_init(&arena, NULL);
    c.rounded = true;
    cr_assert_eq(qn_quantizer_open("fp8", set, cpu, &arena, &q, &err), QN_OK, "%s", err.text);
    cr_assert_eq(qn_ldl_make(&ldl, NULL, cols, NULL, NULL, q->group_cols ? q->group_cols : cols, QN_ORDER_NATURAL, 0, &err), QN_OK);
    const qn_quant_layer layer = {.name = "w", .rows = rows, .cols = cols, .dtype = t, .weight = ldl.weight, .sample = w, .n_sample = rows, .ldl = &ldl};
    cr_assert_eq(q->ops->begin(q, &layer, &arena, &plan, &err), QN_OK);
    const qn_feedback_job job = {.q = q, .layer = &layer, .plan = plan, .ldl = &ldl, .rows = rows, .w = w};
    cr_assert_eq(qn_feedback_segment(&job, c.recon, c.payload, c.cap, &c.n_bytes, &c.loss, &arena, &err), QN_OK, "%s", err.text);
    qn_ldl_release(&ldl);
    qn_arena_release(&arena);
    return c;
}

static double error(const float *w, const float *v, size_t n)
{
    double e = 0;
    for (size_t i = 0; i < n; i++)
        e += pow((double)w[i] - (double)v[i], 2);
    return e;
}

Test(fp8, promises)
{
    enum { ROWS = 37, COLS = 90 };
    static const uint32_t groups[] = {0, 32};
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    qt_rng r = qt_seed(5);
    for (unsigned kind = 0; kind < 4; kind++)
        for (unsigned g = 0; g < 2; g++) {
            float *w = qt_coded_weights(&r, ROWS, COLS, kind, 0.01);
            const qn_quant_settings set = {.bits = 8, .group = groups[g]};
            const qn_dtype t = kind % 2 ? QN_BF16 : QN_F32;
            slow_group = groups[g] ? groups[g] : COLS;
            qt_coded c = encode(&set, t, ROWS, COLS, w, 0);
            qt_coded_check(&c, slow);
            for (unsigned k = 1; k < n_cpu; k++) {
                qt_coded d = encode(&set, t, ROWS, COLS, w, cpu[k]);
                cr_assert(d.n_bytes == c.n_bytes && memcmp(c.payload, d.payload, c.n_bytes) == 0);
                qt_coded_free(&d);
            }
            if (!groups[g]) { /* no worse than the plain way */
                float plain[ROWS * COLS];
                for (uint32_t i = 0; i < ROWS; i++) {
                    float most = 0;
                    for (uint32_t j = 0; j < COLS; j++)
                        most = fmaxf(most, fabsf(w[i * COLS + j]));
                    for (uint32_t j = 0; j < COLS; j++)
                        plain[i * COLS + j] = most > 0 ? qn_e4m3_to_f32(qn_f32_to_e4m3(w[i * COLS + j] / (most / 448))) * (most / 448) : 0;
                }
                cr_expect_leq(error(w, c.recon, ROWS * COLS), error(w, plain, ROWS * COLS) * 1.001, "kind %u", kind);
            }
            const qn_block b = {t, ROWS * COLS, COLS};
            if (kind < 2)
                cr_assert_gt(qt_codec_mutate(QN_CODEC_FP8, &b, c.payload, c.n_bytes, NULL, 5 + kind, 200), 40);
            qt_coded_free(&c);
            free(w);
        }
}
