/* enc_trellis.c: the quantizer of bitshift trellises: every column is a path, with a whole number of bits for each of its weights.
 * docs/codecs/trellis.md.
 *
 * Before the first segment every column gets its K, by what an error in it costs and how large its weights are (trellis_rate.h). At its
 * turn a column is scaled by its own length to the code's spread, the nearest path is found (trellis_search.h), and the step is then
 * the one that loses least with this path. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/nest.h"
#include "compress/quant_shared.h"
#include "compress/quantizer.h"
#include "compress/trellis_rate.h"
#include "compress/trellis_search.h"
#include "runtime/trellis.h"
#include <math.h>
#include <string.h>

enum { DEFAULT_L = 12 };

#define SEGMENT_BYTES (8u << 20)
/* What step and K of a column come to, packed, about. */
#define SIDE_BITS 11
/* A column that calibration never saw counts that much of a mean one. */
#define DEAD_WEIGHT 1e-4

/* Root mean square of the code. */
#define CODE_SPREAD 147.8

struct trellis {
    double bits;
    unsigned log2_windows;
    const float *value; /* (8, 2^L): by K − 1 */
    qn_ekern_trellis kern;
};

struct plan {
    uint8_t *k;      /* (cols) */
    uint64_t *first; /* (cols + 1): bits of the columns before, for each row */
};

struct state {
    const qn_quantizer *q;
    const struct trellis *e;
    const struct plan *plan;
    uint32_t rows, cols;
    uint8_t *step;    /* (cols): bf16, little-endian                               */
    uint8_t *strings; /* the columns' words, one column after the other            */
    float *x;         /* (rows)                                                    */
    uint8_t *bits;    /* (rows)                                                    */
    void *room;
    qn_arena *scratch;
};

/* Bits for each weight after what step and K cost. */
static double net_bits(const struct trellis *e, const qn_quant_layer *l)
{
    const uint32_t rows = l->segment_rows && l->segment_rows < l->rows ? l->segment_rows : l->rows;
    const double bits = e->bits - (double)SIDE_BITS / (rows ? rows : 1);
    return bits > 0 ? bits : 0;
}

static qn_code trellis_begin(const qn_quantizer *q, const qn_quant_layer *l, qn_arena *arena, const void **plan, qn_err *err)
{
    struct plan *p = qn_arena_get(arena, sizeof *p, 64, err);
    double *value = p ? qn_arena_get(arena, (uint64_t)l->cols * sizeof *value, 64, err) : NULL, mean = 0;
    p = value ? p : NULL;
    if (!p)
        return QN_E_MEMORY;
    p->k = qn_arena_get(arena, l->cols, 64, err);
    p->first = p->k ? qn_arena_get(arena, ((uint64_t)l->cols + 1) * sizeof *p->first, 64, err) : NULL;
    if (!p->first)
        return QN_E_MEMORY;
    for (uint32_t j = 0; j < l->cols && l->weight; j++)
        mean += l->weight[j] / l->cols;
    double most = 0;
    for (uint32_t j = 0; j < l->cols; j++) {
        const double weight = l->weight && mean > 0 ? l->weight[j] / mean : 1;
        value[j] = (weight > DEAD_WEIGHT ? weight : DEAD_WEIGHT) * qn_quant_square(l, j, 1);
        most = value[j] > most ? value[j] : most;
    }
    for (uint32_t j = 0; j < l->cols; j++)
        value[j] /= most > 0 ? most : 1;
    qn_trellis_rate_choose(value, l->cols, net_bits(q->self, l), p->k);
    p->first[0] = 0;
    for (uint32_t j = 0; j < l->cols; j++)
        p->first[j + 1] = p->first[j] + p->k[j];
    *plan = p;
    return QN_OK;
}

/* Words of a column of a segment, counted by tiles: K for each whole one. */
static uint32_t column_words(uint32_t k, uint32_t rows)
{
    return (uint32_t)(((uint64_t)k * rows + 31) / 32);
}

/* Where a column's words are: every column before it takes K words for each begun tile. */
static uint8_t *string_of(const struct state *s, uint32_t j)
{
    return s->strings + 4 * s->plan->first[j] * ((s->rows - 1) / QN_TRELLIS_TILE + 1);
}

static qn_code trellis_segment(const qn_quantizer *q, const qn_quant_layer *l, const void *plan, const qn_quant_segment *seg,
                               void **out, qn_err *err)
{
    struct state *s = qn_arena_get(seg->scratch, sizeof *s, 64, err);
    if (!s)
        return QN_E_MEMORY;
    *s = (struct state){.q = q, .e = q->self, .plan = plan, .rows = seg->rows, .cols = l->cols, .scratch = seg->scratch};
    const uint64_t tiles = (seg->rows - 1) / QN_TRELLIS_TILE + 1, bytes = 4 * tiles * s->plan->first[s->cols];
    s->step = qn_arena_get(seg->scratch, 2 * (uint64_t)s->cols, 64, err);
    s->strings = s->step ? qn_arena_get(seg->scratch, bytes + 1, 64, err) : NULL;
    s->x = s->strings ? qn_arena_get(seg->scratch, (uint64_t)s->rows * sizeof *s->x, 64, err) : NULL;
    s->bits = s->x ? qn_arena_get(seg->scratch, s->rows, 64, err) : NULL;
    s->room = s->bits ? qn_arena_get(seg->scratch, qn_trellis_search_bytes(s->e->log2_windows), 64, err) : NULL;
    if (!s->room)
        return QN_E_MEMORY;
    memset(s->step, 0, 2 * (size_t)s->cols);
    memset(s->strings, 0, (size_t)bytes);
    *out = s;
    return QN_OK;
}

/* Bits from the top of each word down. */
static void put_string(uint8_t *dst, const uint8_t *bits, uint32_t rows, unsigned k)
{
    uint64_t held = 0;
    unsigned n = 0;
    for (uint32_t i = 0; i < rows; i++) {
        held = held << k | bits[i];
        n += k;
        if (n >= 32) {
            n -= 32;
            qn_store32(dst, (uint32_t)(held >> n));
            dst += 4;
        }
    }
    if (n)
        qn_store32(dst, (uint32_t)(held << (32 - n)));
}

/* What a decoder multiplies with: v as bf16. 0 when it is out of the format's range. */
static float step_of(double v, uint8_t *stored)
{
    const uint16_t h = v >= (double)QN_TRELLIS_STEP_MIN && v <= (double)QN_TRELLIS_STEP_MAX ? qn_f32_to_bf16((float)v) : 0;
    const float f = qn_bits_f32((uint32_t)h << 16);
    qn_store16(stored, f <= QN_TRELLIS_STEP_MAX ? h : 0);
    return f <= QN_TRELLIS_STEP_MAX ? f : 0;
}

static qn_code trellis_column(void *state, uint32_t j, const float *t, float *recon, qn_err *err)
{
    struct state *s = state;
    const unsigned k = s->plan->k[j], high = k ? s->e->log2_windows - k : 0;
    double sum = 0, xv = 0, vv = 0;
    (void)err;
    for (uint32_t i = 0; i < s->rows; i++)
        sum += (double)t[i] * (double)t[i];
    const double step = sqrt(sum / s->rows) * qn_trellis_spread[k] / CODE_SPREAD;
    memset(recon, 0, s->rows * sizeof *recon);
    if (k == 0 || !(step >= (double)QN_TRELLIS_STEP_MIN && step <= (double)QN_TRELLIS_STEP_MAX))
        return QN_OK;
    const float inverse = (float)(1 / step);
    for (uint32_t i = 0; i < s->rows; i++)
        s->x[i] = t[i] * inverse;
    const float *const value = s->e->value + ((size_t)(k - 1) << s->e->log2_windows);
    const qn_trellis_walk w = {.value = value, .log2_windows = s->e->log2_windows, .k = k};
    uint32_t node = qn_trellis_search(&s->e->kern, &w, s->x, s->rows, s->bits, s->room);
    for (uint32_t i = 0; i < s->rows; i++) {
        const uint32_t window = node << k | s->bits[i];
        node = window & ((1u << high) - 1);
        recon[i] = value[window];
        xv += (double)t[i] * (double)recon[i];
        vv += (double)recon[i] * (double)recon[i];
    }
    const float best = step_of(vv > 0 && xv > 0 ? xv / vv : 0, s->step + 2 * (size_t)j);
    for (uint32_t i = 0; i < s->rows; i++)
        recon[i] *= best;
    put_string(string_of(s, j), s->bits, s->rows, k);
    return QN_OK;
}

/* A tile's words of 16 columns from j0 on, in the order of the format. */
static void put_group(const struct state *s, const qn_trellis_group *g, uint32_t j0, uint32_t tile, uint32_t rows, uint8_t *dst)
{
    for (uint32_t lane = 0; lane < g->n; lane++) {
        const uint8_t *from = string_of(s, j0 + lane) + 4 * (size_t)tile * g->k[lane];
        for (uint32_t i = 0; i < column_words(g->k[lane], rows); i++)
            memcpy(dst + 4 * (size_t)qn_trellis_place(g, lane, i), from + 4 * (size_t)i, 4);
    }
}

static qn_code trellis_finish(void *state, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    const struct state *s = state;
    const qn_enc_ctx cx = {.ekern = &s->q->ekern, .kern = &s->q->kern, .scratch = s->scratch, .level = QN_LEVEL_DENSE};
    const qn_block kb = {QN_U8, s->cols, s->cols}, sb = {QN_BF16, s->cols, s->cols};
    const uint32_t n_groups = (s->cols - 1) / QN_TRELLIS_LANES + 1;
    qn_trellis_group *groups = qn_arena_get(s->scratch, (uint64_t)n_groups * sizeof *groups, 64, err);
    qn_sink sink = qn_sink_over(dst, cap);
    *n_out = 0;
    if (!groups)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < n_groups; i++) {
        const uint32_t j0 = i * QN_TRELLIS_LANES;
        qn_trellis_group_make(groups + i, s->e->log2_windows, s->plan->k + j0, s->cols - j0 < QN_TRELLIS_LANES ? s->cols - j0 : QN_TRELLIS_LANES);
    }
    qn_sink_u8(&sink, s->e->log2_windows);
    QN_TRY(qn_nest_encode(&cx, &sink, &kb, s->plan->k, true, err));
    QN_TRY(qn_nest_encode(&cx, &sink, &sb, s->step, true, err));
    for (uint32_t row = 0; row < s->rows; row += QN_TRELLIS_TILE)
        for (uint32_t i = 0; i < n_groups; i++) {
            const uint32_t rows = s->rows - row < QN_TRELLIS_TILE ? s->rows - row : QN_TRELLIS_TILE;
            const size_t n_bytes = 4 * (size_t)qn_trellis_words(groups + i, rows);
            if (n_bytes > qn_sink_left(&sink))
                return QN_OK;
            put_group(s, groups + i, i * QN_TRELLIS_LANES, row / QN_TRELLIS_TILE, rows, dst + sink.n);
            sink.n += n_bytes;
        }
    *n_out = sink.full ? 0 : sink.n;
    return QN_OK;
}

static const qn_quant_ops ops = {trellis_begin, trellis_segment, NULL, trellis_column, trellis_finish};

qn_code qn_quantizer_trellis(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err)
{
    const unsigned log2_windows = set->window ? set->window : DEFAULT_L;
    if (!(set->bits >= 0.25 && set->bits <= QN_TRELLIS_K_MAX))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "trellis: %g bits found, allowed are 0.25 to %d", set->bits, QN_TRELLIS_K_MAX);
    if (log2_windows < QN_TRELLIS_L_MIN || log2_windows > QN_TRELLIS_L_MAX)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "trellis: windows of %u bits found, allowed are %d to %d", log2_windows,
                       QN_TRELLIS_L_MIN, QN_TRELLIS_L_MAX);
    struct trellis *e = qn_arena_get(arena, sizeof *e, 64, err);
    float *value = e ? qn_arena_get(arena, (sizeof *value << log2_windows) * QN_TRELLIS_K_MAX, 64, err) : NULL;
    if (!value)
        return QN_E_MEMORY;
    for (unsigned k = 0; k < QN_TRELLIS_K_MAX; k++)
        for (uint32_t i = 0; i < 1u << log2_windows; i++)
            value[(size_t)k << log2_windows | i] = (float)qn_trellis_value(i, qn_trellis_multiplier[log2_windows - QN_TRELLIS_L_MIN][k]);
    *e = (struct trellis){.bits = set->bits, .log2_windows = log2_windows, .value = value};
    qn_ekern_trellis_init(&e->kern, q->kern.trellis.cpu);
    q->ops = &ops;
    q->codec = QN_CODEC_TRELLIS;
    q->group_cols = 1;
    q->segment_bytes = SEGMENT_BYTES;
    q->row_multiple = QN_TRELLIS_TILE;
    q->costly = true;
    q->self = e;
    return QN_OK;
}
