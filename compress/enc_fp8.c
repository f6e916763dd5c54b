/* enc_fp8.c: the quantizer of FP8: E4M3 numbers, and a scale for each row or for groups of its columns.
 *
 * Numbers of this kind are about equally precise over fifteen binades, so the scale matters little, and what matters is where the
 * largest weights fall between two levels, and how much is left below the least normal one: scales from a little below (largest weight) / 448 up to twice that are
 * tried on the targets as they are when the group is reached, each improved by least squares, weighted by what errors cost. The scale is rounded
 * to 8 significant bits, which BF16 holds, and F16 where it is large enough. docs/codecs/fp8.md. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/nest.h"
#include "compress/quant_shared.h"
#include "compress/quantizer.h"
#include "runtime/fp8.h"
#include <math.h>
#include <string.h>

enum { SCALE_BITS = 8 };
/* 2^(k/8), k = −2 … 7 */
static const float tries[] = {0.840896415f, 0.917004043f, 1, 1.09050773f, 1.18920712f, 1.29683955f, 1.41421356f, 1.54221083f, 1.68179283f, 1.83400809f};
#define TOP     448.0f
#define NORMAL  0x1p-6f
#define ROUNDER 12582912.0f /* adding and subtracting it rounds to the nearest integer, ties to even, for |x| < 2^22 */

typedef struct fp8 {
    uint32_t group; /* UINT32_MAX: a row */
} fp8;

struct state {
    const qn_quantizer *q;
    const qn_quant_layer *layer;
    uint32_t rows, cols, group, per_row;
    float *scale;   /* (per_row, rows) */
    uint8_t *codes; /* (rows, cols)    */
    float *omega;   /* of the columns of a group */
    qn_arena *scratch;
};

static qn_code segment(const qn_quantizer *q, const qn_quant_layer *layer, const void *plan, const qn_quant_segment *seg, void **out, qn_err *err)
{
    const fp8 *f = q->self;
    struct state *s = qn_arena_get(seg->scratch, sizeof *s, 64, err);
    (void)plan;
    if (!s)
        return QN_E_MEMORY;
    *s = (struct state){.q = q, .layer = layer, .rows = seg->rows, .cols = layer->cols, .scratch = seg->scratch};
    s->group = f->group < s->cols ? f->group : s->cols;
    s->per_row = (s->cols - 1) / s->group + 1;
    s->scale = qn_arena_get(seg->scratch, (uint64_t)s->rows * s->per_row * sizeof *s->scale, 64, err);
    s->omega = s->scale ? qn_arena_get(seg->scratch, s->group * sizeof *s->omega, 64, err) : NULL;
    s->codes = s->omega ? qn_arena_get(seg->scratch, (uint64_t)s->rows * s->cols, 64, err) : NULL;
    *out = s;
    return s->codes ? QN_OK : QN_E_MEMORY;
}

/* The E4M3 number nearest to x, ties to even; beyond the largest one that. */
static inline float level(float x)
{
    const float a = fabsf(x);
    const uint32_t u = qn_f32_bits(a);
    const float normal = qn_bits_f32((u + 0x7ffffu + (u >> 20 & 1)) & ~0xfffffu), small = ((a * 512 + ROUNDER) - ROUNDER) * 0x1p-9f;
    const float v = a >= TOP ? TOP : a < NORMAL ? small : normal;
    return x < 0 ? -v : v;
}

/* BF16 holds it; F16 too unless it is below what F16 can tell apart, and FP8 what is left. */
static float round_scale(float v)
{
    int e;
    if (!(v >= QN_FP8_SCALE_LEAST))
        return 0;
    const float m = frexpf(v, &e);
    const float x = ldexpf(rintf(ldexpf(m, SCALE_BITS)), e - SCALE_BITS);
    if (x > QN_FP8_SCALE_MOST)
        return QN_FP8_SCALE_MOST;
    return x < 0x1p-20f || x > 65504 ? x : qn_f16_to_f32(qn_f32_to_f16(x));
}

/* t: n numbers, `step` apart. */
static float search(const float *t, size_t step, const float *omega, uint32_t n)
{
    float most = 0, best = 0, best_gain = -1;
    for (uint32_t c = 0; c < n; c++)
        most = fabsf(t[c * step]) > most ? fabsf(t[c * step]) : most;
    if (!(most > 0))
        return 0;
    for (unsigned k = 0; k < sizeof tries / sizeof tries[0]; k++) {
        const float scale = most / TOP * tries[k], inverse = 1 / scale;
        float num = 0, den = 0;
        for (uint32_t c = 0; c < n; c++) {
            const float v = level(t[c * step] * inverse);
            num += omega[c] * v * t[c * step];
            den += omega[c] * v * v;
        }
        const float gain = den > 0 ? num * num / den : 0; /* how much of Σ ω t² is taken away */
        if (gain > best_gain) {
            best_gain = gain;
            best = den > 0 ? num / den : scale;
        }
    }
    return round_scale(best);
}

/* ω of the group's columns; dead ones weigh next to nothing, but they decide when there is nothing else. */
static void weigh(struct state *s, const uint32_t *cols, uint32_t n)
{
    double sum = 0;
    for (uint32_t c = 0; c < n; c++)
        sum += s->layer->weight ? s->layer->weight[cols[c]] : 1;
    for (uint32_t c = 0; c < n; c++) {
        const double w = s->layer->weight ? s->layer->weight[cols[c]] : 1;
        s->omega[c] = sum > 0 ? (float)(w / sum * n + 1e-6) : 1;
    }
}

static qn_code group(void *state, const uint32_t *cols, uint32_t n, const float *t, size_t ld, qn_err *err)
{
    struct state *s = state;
    float *scale = s->scale + (size_t)(cols[0] / s->group) * s->rows;
    (void)err;
    weigh(s, cols, n);
    for (uint32_t i = 0; i < s->rows; i++)
        scale[i] = search(t + i, ld, s->omega, n);
    return QN_OK;
}

static qn_code column(void *state, uint32_t j, const float *t, float *recon, qn_err *err)
{
    struct state *s = state;
    const float *scale = s->scale + (size_t)(j / s->group) * s->rows;
    (void)err;
    for (uint32_t i = 0; i < s->rows; i++) {
        const float v = scale[i] > 0 ? level(t[i] / scale[i]) : 0;
        s->codes[(size_t)i * s->cols + j] = qn_f32_to_e4m3(v);
        recon[i] = v * scale[i];
    }
    return QN_OK;
}

static qn_code finish(void *state, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    struct state *s = state;
    const uint32_t n = s->rows * s->per_row;
    const qn_enc_ctx cx = {.ekern = &s->q->ekern, .kern = &s->q->kern, .scratch = s->scratch, .level = QN_LEVEL_DENSE};
    const qn_block sb = {QN_F32, n, s->per_row}, cb = {QN_F8_E4M3, s->rows * s->cols, s->cols};
    qn_sink sink = qn_sink_over(dst, cap);
    uint8_t *p = qn_arena_get(s->scratch, (uint64_t)n * 4, 64, err);
    *n_out = 0;
    if (!p)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < s->rows; i++)
        for (uint32_t g = 0; g < s->per_row; g++)
            qn_store32(p + 4 * ((size_t)i * s->per_row + g), qn_f32_bits(s->scale[(size_t)g * s->rows + i]));
    qn_sink_varint(&sink, s->group);
    QN_TRY(qn_nest_encode(&cx, &sink, &sb, p, true, err));
    if (!sink.full)
        QN_TRY(qn_nest_encode(&cx, &sink, &cb, s->codes, true, err));
    *n_out = sink.full ? 0 : sink.n;
    return QN_OK;
}

static const qn_quant_ops ops = {qn_quant_no_plan, segment, group, column, finish};

/* Bits are what they are: a number of them is not looked at. */
qn_code qn_quantizer_fp8(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err)
{
    fp8 *f = qn_arena_get(arena, sizeof *f, 64, err);
    if (!f)
        return QN_E_MEMORY;
    *f = (fp8){.group = set->group ? set->group : UINT32_MAX};
    q->ops = &ops;
    q->codec = QN_CODEC_FP8;
    q->group_cols = f->group == UINT32_MAX ? 0 : f->group;
    q->self = f;
    return QN_OK;
}
