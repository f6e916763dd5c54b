/* enc_grid.c: the quantizer of uniform grids: integers of 2 to 8 bits, a scale and maybe a zero point for each group of a row.
 *
 * A scale is searched on the targets as they are when the group is reached: over a range of shrunk ranges, codes are
 * chosen and the least-squares scale for these codes follows, Σ ω t c / Σ ω c², weighted by what errors in the columns cost. The
 * scale is then rounded to few bits (it is stored as binary16, and codes well when its low bits are zero), and codes are chosen
 * for the rounded one. docs/codecs/grid.md. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/grid_joint.h"
#include "compress/nest.h"
#include "compress/quant_shared.h"
#include "compress/quantizer.h"
#include "runtime/grid.h"
#include <math.h>
#include <string.h>

enum {
    GROUP = 32,
    LANES = QN_GRID_LANES, /* rows that are searched together                                        */
    PLAIN_LEAST = -10, PLAIN_MOST = 13, /* exponents of scales that binary16 holds as they are, with room for smaller ones */
    TRIES = 26,      /* from a range of 1.05 times the largest value down, in steps of 5 %           */
    SCALE_BITS = 5   /* significant bits of a scale, when nothing else is asked for                  */
};
#define FIRST_TRY 1.05f
#define NEXT_TRY  0.95f
/* adding and subtracting it rounds to the nearest integer, ties to even, for |x| < 2^22 */
#define ROUNDER 12582912.0f

typedef struct grid {
    unsigned bits, zero, scale_bits;
    bool packed, columnwise, keep_zero;
    uint32_t group; /* UINT32_MAX: a row */
    float gain;
} grid;

struct state {
    const qn_quantizer *q;
    const qn_quant_layer *layer;
    const grid *g;
    uint32_t rows, cols, group;
    uint32_t per_line; /* groups of a row; of a column when columnwise */
    uint32_t lines;    /* rows, or columns                             */
    unsigned zero;
    int exponent;
    float unit, top;      /* 2^exponent; the largest code */
    float *scale;         /* (per_line, lines): whole scale, as decoded       */
    float *zero2;         /* (per_line, lines): twice the zero point          */
    uint8_t *codes;       /* (cols, rows)                                     */
    float *omega;         /* of the columns of a group                        */
    qn_arena *scratch;
};

/* Many exact zeros (a pruned layer) must stay zeros: then zero has to be a level. */
static bool many_zeros(const float *w, size_t n)
{
    size_t zeros = 0;
    for (size_t i = 0; i < n; i++)
        zeros += w[i] == 0;
    return zeros > n / 8;
}

/* The exponent that puts a scale for the largest weight at 1 … 2: binary16 then has room for every other. Formats that a grid with a level at zero is
 * meant for mostly have scales in binary16 themselves, without an exponent: then it is 0 unless the weights are out of the ordinary. */
static int common_exponent(const struct state *s, const float *w)
{
    float most = 0;
    for (size_t i = 0; i < (size_t)s->rows * s->cols; i++)
        most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
    int e = 0;
    if (most > 0)
        (void)frexpf(2 * most / s->top, &e);
    e -= 1;
    if (s->g->keep_zero && e >= PLAIN_LEAST && e <= PLAIN_MOST)
        return 0;
    return e < -QN_GRID_EXPONENT_MAX ? -QN_GRID_EXPONENT_MAX : e > QN_GRID_EXPONENT_MAX ? QN_GRID_EXPONENT_MAX : e;
}

static qn_code grid_segment(const qn_quantizer *q, const qn_quant_layer *layer, const void *plan, const qn_quant_segment *seg,
                            void **out, qn_err *err)
{
    const grid *g = q->self;
    struct state *s = qn_arena_get(seg->scratch, sizeof *s, 64, err);
    (void)plan;
    if (!s)
        return QN_E_MEMORY;
    *s = (struct state){.q = q, .layer = layer, .g = g, .rows = seg->rows, .cols = layer->cols, .zero = g->zero,
                        .scratch = seg->scratch};
    const uint32_t along = g->columnwise ? s->rows : s->cols;
    s->group = g->group < along ? g->group : along;
    s->per_line = (along - 1) / s->group + 1;
    s->lines = g->columnwise ? s->cols : s->rows;
    s->top = (float)((1u << g->bits) - 1);
    if (s->zero == QN_GRID_ZERO_MIDDLE && many_zeros(seg->w, (size_t)s->rows * s->cols))
        s->zero = QN_GRID_ZERO_LEVEL;
    s->exponent = common_exponent(s, seg->w);
    s->unit = ldexpf(1, s->exponent);
    const uint64_t n = (uint64_t)s->lines * s->per_line;
    s->scale = qn_arena_get(seg->scratch, n * sizeof *s->scale, 64, err);
    s->zero2 = s->scale ? qn_arena_get(seg->scratch, n * sizeof *s->zero2, 64, err) : NULL;
    s->omega = s->zero2 ? qn_arena_get(seg->scratch, s->group * sizeof *s->omega, 64, err) : NULL;
    s->codes = s->omega ? qn_arena_get(seg->scratch, (uint64_t)s->rows * s->cols, 64, err) : NULL;
    *out = s;
    return s->codes ? QN_OK : QN_E_MEMORY;
}

/* To as many significant bits as asked for, in binary16 as seen through the common exponent; never beyond binary16. */
static float round_scale(const struct state *s, float v)
{
    float x = v / s->unit;
    if (!(fabsf(x) > 0x1p-24f))
        return 0;
    int e;
    const float m = frexpf(x, &e);
    const int bits = (int)s->g->scale_bits;
    x = ldexpf(rintf(ldexpf(m, bits)), e - bits);
    if (fabsf(x) > 32768)
        x = x < 0 ? -32768.0f : 32768.0f;
    return qn_f16_to_f32(qn_f32_to_f16(x)) * s->unit;
}

/* Twice the levels of LANES rows for targets of one column. */
static inline void choose(const float *t, const float *inverse, const float *zero2, float top, float *level2)
{
    for (unsigned i = 0; i < LANES; i++) {
        float c = t[i] * inverse[i] + 0.5f * zero2[i];
        c = c > 0 ? c : 0;
        c = c < top ? c : top;
        c = (c + ROUNDER) - ROUNDER;
        level2[i] = 2 * c - zero2[i];
    }
}

struct lanes {
    float lo[LANES], hi[LANES], zero2[LANES], best_zero2[LANES], best[LANES], gain[LANES];
};

/* Where the zero point of each lane is for a range shrunk to `part`; the scale that spans it. */
static void start(const struct state *s, struct lanes *l, float part, float *scale)
{
    for (unsigned i = 0; i < LANES; i++) {
        const float lo = l->lo[i] < 0 ? l->lo[i] * part : 0, hi = l->hi[i] > 0 ? l->hi[i] * part : 0;
        const float most = -lo > hi ? -lo : hi;
        if (s->zero == QN_GRID_ZERO_STORED) {
            scale[i] = (hi - lo) / s->top;
            const float z = scale[i] > 0 ? (-lo / scale[i] + ROUNDER) - ROUNDER : 0, least = s->g->keep_zero ? 1 : 0;
            l->zero2[i] = 2 * (z < least ? least : z < s->top ? z : s->top);
        } else {
            l->zero2[i] = s->zero == QN_GRID_ZERO_LEVEL ? s->top + 1 : s->top;
            scale[i] = 2 * most / s->top;
        }
    }
}

/* t: n columns of LANES rows. Keeps in l->best the scale, l->best_zero2 the zero point that lose least. */
static void search(const struct state *s, const float *t, uint32_t n, struct lanes *l)
{
    float part = FIRST_TRY;
    for (unsigned i = 0; i < LANES; i++) {
        l->best[i] = 0;
        l->gain[i] = -1;
    }
    for (unsigned k = 0; k < TRIES; k++, part *= NEXT_TRY) {
        float scale[LANES], inverse[LANES], level2[LANES], num[LANES] = {0}, den[LANES] = {0};
        start(s, l, part, scale);
        for (unsigned i = 0; i < LANES; i++)
            inverse[i] = scale[i] > 0 ? 1 / scale[i] : 0;
        for (uint32_t c = 0; c < n; c++) {
            const float *x = t + (size_t)c * LANES, omega = s->omega[c];
            choose(x, inverse, l->zero2, s->top, level2);
            for (unsigned i = 0; i < LANES; i++) {
                num[i] += omega * level2[i] * x[i];
                den[i] += omega * level2[i] * level2[i];
            }
        }
        for (unsigned i = 0; i < LANES; i++) {
            const float gain = den[i] > 0 ? num[i] * num[i] / den[i] : 0; /* how much of Σ ω t² is taken away */
            if (gain <= l->gain[i])
                continue;
            l->gain[i] = gain;
            l->best[i] = den[i] > 0 ? 2 * num[i] / den[i] : 0;
            l->best_zero2[i] = l->zero2[i];
        }
    }
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

/* The groups of one column, LANES at a time; the last may be short. */
static qn_code column_groups(struct state *s, uint32_t j, const float *t, qn_err *err)
{
    const qn_arena_mark mark = qn_arena_tell(s->scratch);
    float *tile = qn_arena_get(s->scratch, (uint64_t)s->group * LANES * sizeof *tile, 64, err);
    if (!tile)
        return QN_E_MEMORY;
    for (uint32_t c = 0; c < s->group; c++)
        s->omega[c] = 1;
    const uint32_t whole = s->rows / s->group;
    for (uint32_t k0 = 0, m; k0 < s->per_line; k0 += m) {
        const uint32_t n = k0 < whole ? s->group : s->rows % s->group;
        m = k0 >= whole ? 1 : whole - k0 < LANES ? whole - k0 : LANES;
        struct lanes l = {.lo = {0}};
        for (uint32_t i = 0; i < LANES; i++)
            for (uint32_t c = 0; c < n; c++) {
                const float x = i < m ? t[(size_t)(k0 + i) * s->group + c] : 0;
                tile[(size_t)c * LANES + i] = x;
                l.lo[i] = x < l.lo[i] ? x : l.lo[i];
                l.hi[i] = x > l.hi[i] ? x : l.hi[i];
            }
        search(s, tile, n, &l);
        for (uint32_t i = 0; i < m; i++) {
            s->scale[(size_t)(k0 + i) * s->cols + j] = round_scale(s, l.best[i] * s->g->gain);
            s->zero2[(size_t)(k0 + i) * s->cols + j] = l.best_zero2[i];
        }
    }
    qn_arena_rewind(s->scratch, mark);
    return QN_OK;
}

static qn_code grid_group(void *state, const uint32_t *cols, uint32_t n, const float *t, size_t ld, qn_err *err)
{
    struct state *s = state;
    if (s->g->columnwise)
        return column_groups(s, cols[0], t, err);
    const uint32_t g = cols[0] / s->group;
    const qn_arena_mark mark = qn_arena_tell(s->scratch);
    float *tile = qn_arena_get(s->scratch, (uint64_t)n * LANES * sizeof *tile, 64, err);
    if (!tile)
        return QN_E_MEMORY;
    weigh(s, cols, n);
    for (uint32_t i0 = 0; i0 < s->rows; i0 += LANES) {
        const uint32_t m = s->rows - i0 < LANES ? s->rows - i0 : LANES;
        struct lanes l = {.lo = {0}};
        for (uint32_t c = 0; c < n; c++)
            for (uint32_t i = 0; i < LANES; i++) {
                const float x = i < m ? t[c * ld + i0 + i] : 0;
                tile[(size_t)c * LANES + i] = x;
                l.lo[i] = x < l.lo[i] ? x : l.lo[i];
                l.hi[i] = x > l.hi[i] ? x : l.hi[i];
            }
        search(s, tile, n, &l);
        for (uint32_t i = 0; i < m; i++) {
            s->scale[(size_t)g * s->rows + i0 + i] = round_scale(s, l.best[i] * s->g->gain);
            s->zero2[(size_t)g * s->rows + i0 + i] = l.best_zero2[i];
        }
    }
    qn_arena_rewind(s->scratch, mark);
    return QN_OK;
}

static qn_code grid_column(void *state, uint32_t j, const float *t, float *recon, qn_err *err)
{
    struct state *s = state;
    const size_t g = s->g->columnwise ? 0 : j / s->group;
    const float *scale = s->scale + g * s->rows, *zero2 = s->zero2 + g * s->rows;
    uint8_t *codes = s->codes + (size_t)j * s->rows;
    (void)err;
    for (uint32_t i = 0; s->g->columnwise && i < s->rows; i++) {
        const size_t at = (size_t)(i / s->group) * s->cols + j;
        const float inverse = s->scale[at] != 0 ? 1 / s->scale[at] : 0;
        float c = t[i] * inverse + 0.5f * s->zero2[at];
        c = c > 0 ? c : 0;
        c = c < s->top ? c : s->top;
        c = (c + ROUNDER) - ROUNDER;
        codes[i] = (uint8_t)c;
        recon[i] = (2 * c - s->zero2[at]) * (0.5f * s->scale[at]);
    }
    if (s->g->columnwise)
        return QN_OK;
    for (uint32_t i = 0; i < s->rows; i++) {
        const float inverse = scale[i] != 0 ? 1 / scale[i] : 0;
        float c = t[i] * inverse + 0.5f * zero2[i];
        c = c > 0 ? c : 0;
        c = c < s->top ? c : s->top;
        c = (c + ROUNDER) - ROUNDER;
        codes[i] = (uint8_t)c;
        recon[i] = (2 * c - zero2[i]) * (0.5f * scale[i]);
    }
    return QN_OK;
}

static qn_code grid_again(void *state, uint32_t j, double share, const float *t, float *recon, qn_err *err)
{
    (void)share;
    return grid_column(state, j, t, recon, err);
}

struct joint {
    qn_grid_joint j;
    float scale[LANES], zero2[LANES], best[LANES], lost[LANES];
    float *g, *old, *level2, *taken, *room; /* (n, LANES) */
};

/* The scale as it is, and the ones next to it in the raster of 5 significant bits. */
static void try_scales(const struct state *s, struct joint *t)
{
    static const float next[3] = {1, 1.045f, 0.957f};
    float scale[LANES], change[LANES];
    for (unsigned k = 0; k < 3; k++) {
        for (unsigned i = 0; i < LANES; i++)
            scale[i] = k ? round_scale(s, t->scale[i] * next[k]) : t->scale[i];
        qn_grid_joint_try(&t->j, scale, t->level2, change, t->room);
        for (unsigned i = 0; i < LANES; i++) {
            if (k && !(change[i] < t->lost[i]))
                continue;
            t->lost[i] = change[i];
            t->best[i] = scale[i];
            for (uint32_t c = 0; c < t->j.n; c++)
                t->taken[(size_t)c * LANES + i] = t->level2[(size_t)c * LANES + i];
        }
    }
}

static qn_code grid_group_again(void *state, const uint32_t *cols, uint32_t n, const float *h, size_t ldh, const float *g, float *recon,
                                size_t ld, qn_err *err)
{
    struct state *s = state;
    const uint32_t group = cols[0] / s->group;
    const qn_arena_mark mark = qn_arena_tell(s->scratch);
    const uint64_t tile = (uint64_t)n * LANES;
    struct joint t;
    t.g = qn_arena_get(s->scratch, 5 * tile * sizeof *t.g, 64, err);
    if (!t.g)
        return QN_E_MEMORY;
    t.old = t.g + tile;
    t.level2 = t.old + tile;
    t.taken = t.level2 + tile;
    t.room = t.taken + tile;
    t.j = (qn_grid_joint){.n = n, .top = s->top, .h = h, .ldh = ldh, .g = t.g, .old = t.old, .scale = t.scale, .zero2 = t.zero2};
    for (uint32_t i0 = 0; i0 < s->rows; i0 += LANES) {
        const uint32_t m = s->rows - i0 < LANES ? s->rows - i0 : LANES;
        float *scale = s->scale + (size_t)group * s->rows + i0, *zero2 = s->zero2 + (size_t)group * s->rows + i0;
        for (uint32_t i = 0; i < LANES; i++) {
            t.scale[i] = i < m ? scale[i] : 0;
            t.zero2[i] = i < m ? zero2[i] : 0;
        }
        for (uint32_t c = 0; c < n; c++)
            for (uint32_t i = 0; i < LANES; i++) {
                t.g[(size_t)c * LANES + i] = i < m ? g[c * ld + i0 + i] : 0;
                t.old[(size_t)c * LANES + i] = i < m ? 2 * (float)s->codes[(size_t)cols[c] * s->rows + i0 + i] - t.zero2[i] : 0;
            }
        try_scales(s, &t);
        for (uint32_t c = 0; c < n; c++)
            for (uint32_t i = 0; i < m; i++) {
                const float l2 = t.taken[(size_t)c * LANES + i];
                s->codes[(size_t)cols[c] * s->rows + i0 + i] = (uint8_t)(0.5f * (l2 + t.zero2[i]));
                recon[c * ld + i0 + i] = l2 * (0.5f * t.best[i]);
            }
        memcpy(scale, t.best, m * sizeof *scale);
    }
    qn_arena_rewind(s->scratch, mark);
    return QN_OK;
}

/* Codes by rows, one a byte. */
static uint8_t *codes_by_row(struct state *s, qn_err *err)
{
    enum { T = 64 };
    uint8_t *p = qn_arena_get(s->scratch, (uint64_t)s->rows * s->cols, 64, err);
    for (uint32_t j0 = 0; p && j0 < s->cols; j0 += T)
        for (uint32_t i0 = 0; i0 < s->rows; i0 += T)
            for (uint32_t j = j0; j < s->cols && j < j0 + T; j++)
                for (uint32_t i = i0; i < s->rows && i < i0 + T; i++)
                    p[(size_t)i * s->cols + j] = s->codes[(size_t)j * s->rows + i];
    return p;
}

static qn_code put_side(struct state *s, const qn_enc_ctx *cx, qn_sink *sink, qn_err *err)
{
    const uint32_t n = s->lines * s->per_line, in_row = s->g->columnwise ? s->cols : s->per_line;
    const qn_block sb = {QN_F16, n, in_row}, zb = {QN_U8, n, in_row};
    /* stored by rows; by groups of rows when columnwise, which is how they are held */
    const uint32_t outer = s->g->columnwise ? 1 : s->rows, inner = s->g->columnwise ? n : s->per_line;
    const size_t stride = s->g->columnwise ? 1 : s->rows;
    uint8_t *p = qn_arena_get(s->scratch, (uint64_t)n * 2, 64, err);
    if (!p)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < outer; i++)
        for (uint32_t g = 0; g < inner; g++)
            qn_store16(p + 2 * ((size_t)i * inner + g), qn_f32_to_f16(s->scale[g * stride + i] / s->unit));
    QN_TRY(qn_nest_encode(cx, sink, &sb, p, true, err));
    if (s->zero != QN_GRID_ZERO_STORED)
        return QN_OK;
    for (uint32_t i = 0; i < outer; i++)
        for (uint32_t g = 0; g < inner; g++)
            p[(size_t)i * inner + g] = (uint8_t)(s->zero2[g * stride + i] / 2);
    return qn_nest_encode(cx, sink, &zb, p, true, err);
}

static qn_code grid_finish(void *state, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    struct state *s = state;
    const unsigned bits = s->g->bits;
    const size_t row_bytes = qn_grid_row_bytes(s->cols, bits), packed = row_bytes * s->rows;
    const qn_enc_ctx cx = {.ekern = &s->q->ekern, .kern = &s->q->kern, .scratch = s->scratch, .level = QN_LEVEL_DENSE};
    const qn_block cb = {QN_U8, s->rows * s->cols, s->cols};
    qn_sink sink = qn_sink_over(dst, cap);
    uint8_t *codes = codes_by_row(s, err);
    *n_out = 0;
    if (!codes)
        return QN_E_MEMORY;
    qn_sink_u8(&sink, bits);
    qn_sink_u8(&sink, s->zero);
    const size_t form_at = sink.n;
    const unsigned columnwise = s->g->columnwise ? QN_GRID_COLUMNWISE : 0;
    qn_sink_u8(&sink, QN_GRID_PACKED | columnwise);
    qn_sink_u8(&sink, (unsigned)s->exponent & 0xff);
    qn_sink_varint(&sink, s->group);
    QN_TRY(put_side(s, &cx, &sink, err));
    if (sink.full)
        return QN_OK;
    qn_sink nested = sink;
    nested.cap = nested.cap - nested.n < packed ? nested.cap : nested.n + packed;
    if (!s->g->packed)
        QN_TRY(qn_nest_encode(&cx, &nested, &cb, codes, true, err));
    if (!s->g->packed && !nested.full) {
        dst[form_at] = (uint8_t)(QN_GRID_NESTED | columnwise);
        *n_out = nested.n;
        return QN_OK;
    }
    if (packed > qn_sink_left(&sink))
        return QN_OK;
    for (uint32_t i = 0; i < s->rows; i++)
        qn_grid_pack(codes + (size_t)i * s->cols, s->cols, bits, dst + sink.n + i * row_bytes);
    *n_out = sink.n + packed;
    return QN_OK;
}

static const qn_quant_ops ops = {qn_quant_no_plan, grid_segment, grid_group, grid_column, grid_finish};

qn_code qn_quantizer_grid(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err)
{
    const unsigned bits = set->bits >= 0 && set->bits < 100 ? (unsigned)set->bits : 0;
    if (bits < QN_GRID_BITS_MIN || bits > QN_GRID_BITS_MAX || set->bits != (double)bits)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "grid: %g bits found, allowed are whole numbers from %d to %d", set->bits,
                       QN_GRID_BITS_MIN, QN_GRID_BITS_MAX);
    grid *g = qn_arena_get(arena, sizeof *g, 64, err);
    if (!g)
        return QN_E_MEMORY;
    *g = (grid){.bits = bits,
                .packed = set->packed,
                .columnwise = set->columnwise,
                .keep_zero = set->keepzero,
                .scale_bits = set->scalebits ? set->scalebits : SCALE_BITS,
                .zero = set->asymmetric ? QN_GRID_ZERO_STORED : set->keepzero ? QN_GRID_ZERO_LEVEL : QN_GRID_ZERO_MIDDLE,
                .group = set->group ? set->group : GROUP,
                .gain = set->gain > 0 ? (float)set->gain : 1};
    q->ops = &ops;
    q->again = set->columnwise ? NULL : grid_again;
    q->group_again = set->columnwise ? NULL : grid_group_again;
    q->codec = QN_CODEC_GRID;
    q->group_cols = g->columnwise ? 1 : g->group == UINT32_MAX ? 0 : g->group;
    q->row_multiple = g->columnwise && g->group <= 1024 ? g->group : 0;
    q->self = g;
    return QN_OK;
}
