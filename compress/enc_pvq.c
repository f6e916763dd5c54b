/* enc_pvq.c: the quantizer of pyramids: 16 weights down a column are a point of P(16, K) and a length. docs/codecs/pvq.md.
 *
 * Before the first segment every column gets its K and its bits of gain: the step that suits what an error in it costs and how large
 * its weights are (pvq_rate.h). At its turn a column is cut into groups, the nearest point is found for each, and then the
 * one scale and the levels that the lengths ⟨x, y⟩ / |y| of all its groups lose least with. */
#include "base/err.h"
#include "base/half.h"
#include "compress/enc_pvq.h"
#include "compress/nest.h"
#include "compress/pvq_point.h"
#include "compress/pvq_rate.h"
#include "compress/quant_shared.h"
#include "compress/quantizer.h"
#include "runtime/pvq_codec.h"
#include <math.h>
#include <string.h>

enum { N = QN_PVQ_RATE_N, MOVES = 4, ROUNDS = 4 };

#define SEGMENT_BYTES (4u << 20)
/* What the scale and the class of a column come to, packed, about. */
#define SIDE_BITS 8
/* A column that calibration never saw counts that much of a mean one. */
#define DEAD_WEIGHT 1e-4

struct plan {
    qn_pvq_tab tab;          /* P(N, the most pulses of a class)        */
    const uint8_t *class_of; /* (cols)                                  */
    unsigned n_classes;
    qn_pvq_class cls[QN_PVQ_CLASSES];
};

struct state {
    const qn_quantizer *q;
    const struct plan *plan;
    uint32_t rows, cols, n_blocks;
    float base;
    uint8_t *row_scale; /* (n_blocks)                        */
    uint8_t *col_scale; /* (cols)                            */
    qn_u128 *index;     /* (cols, n_blocks)                  */
    uint8_t *level;     /* (cols, n_blocks)                  */
    int16_t *y;         /* (n_blocks, N): of the column at hand */
    float *length;      /* (n_blocks) likewise               */
    qn_arena *scratch;
};

/* Bits for a whole group of a column, after what the column's scale and class cost a group. */
static double group_bits(const qn_pvq_settings *set, const qn_quant_layer *l)
{
    const uint64_t in_segment = SEGMENT_BYTES / ((uint64_t)l->cols * qn_unit_bytes(l->dtype));
    const double rows = (double)qn_max_u64(1, qn_min_u64(l->rows, in_segment));
    const double bits = N * (set->bits - SIDE_BITS / rows);
    return bits > 0 ? bits : 0;
}

/* Classes are the offers that some column took, in the order of offers. */
static qn_code make_classes(struct plan *p, uint8_t *choice, const qn_quant_layer *l, qn_arena *arena, qn_err *err)
{
    uint8_t class_of[256] = {0};
    bool taken[256] = {false};
    for (uint32_t j = 0; j < l->cols; j++)
        taken[choice[j]] = true;
    for (unsigned i = 0; i < qn_pvq_n_offers; i++) {
        if (!taken[i])
            continue;
        qn_pvq_class *k = p->cls + p->n_classes;
        class_of[i] = (uint8_t)p->n_classes++;
        k->gain_bits = qn_pvq_offers[i].gain_bits;
        k->pulses = qn_pvq_offers[i].pulses;
    }
    QN_TRY(qn_pvq_tab_make(&p->tab, N, p->cls[p->n_classes - 1].pulses, arena, err));
    for (uint32_t j = 0; j < l->cols; j++)
        choice[j] = class_of[choice[j]];
    p->class_of = choice;
    return QN_OK;
}

static qn_code pvq_begin(const qn_quantizer *q, const qn_quant_layer *l, qn_arena *arena, const void **plan, qn_err *err)
{
    struct plan *p = qn_arena_get(arena, sizeof *p, 64, err);
    uint8_t *choice = p ? qn_arena_get(arena, l->cols, 64, err) : NULL;
    double *value = choice ? qn_arena_get(arena, (uint64_t)l->cols * sizeof *value, 64, err) : NULL, mean = 0;
    if (!value)
        return QN_E_MEMORY;
    memset(p, 0, sizeof *p);
    for (uint32_t j = 0; j < l->cols && l->weight; j++)
        mean += l->weight[j] / l->cols;
    for (uint32_t j = 0; j < l->cols; j++) {
        const double weight = l->weight && mean > 0 ? l->weight[j] / mean : 1;
        value[j] = (weight > DEAD_WEIGHT ? weight : DEAD_WEIGHT) * qn_quant_square(l, j, 1);
    }
    qn_pvq_rate_choose(value, l->cols, group_bits(q->self, l), choice);
    *plan = p;
    return make_classes(p, choice, l, arena, err);
}

/* The code whose scale is nearest to v from below, 1 at least when v > 0. */
static uint8_t scale_below(float v)
{
    unsigned low = v > 0, high = 255;
    while (low < high) {
        const unsigned middle = (low + high + 1) / 2;
        if (qn_pvq_scale((uint8_t)middle) <= v)
            low = middle;
        else
            high = middle - 1;
    }
    return (uint8_t)low;
}

/* Blocks of rows by their length relative to the longest; base: a power of two well above what any column needs. False when the
 * format's scales do not reach. */
static bool scales_of_rows(struct state *s, const float *w)
{
    double most = 0, most_col = 0;
    for (uint32_t pass = 0; pass < 2; pass++)
        for (uint32_t b = 0; b < s->n_blocks; b++) {
            const size_t from = (size_t)b * N * s->cols, rows = s->rows - b * N < N ? s->rows - b * N : N;
            double sum = 0;
            for (size_t i = 0; i < rows * s->cols; i++)
                sum += (double)w[from + i] * (double)w[from + i];
            if (pass)
                s->row_scale[b] = most > 0 ? scale_below((float)sqrt(sum / most) * 1.02f) : 0;
            else
                most = sum > most ? sum : most;
        }
    for (uint32_t j = 0; j < s->cols; j++)
        for (uint32_t b = 0; b < s->n_blocks; b++) {
            double sum = 0;
            for (uint32_t i = b * N; i < s->rows && i < b * N + N; i++)
                sum += (double)w[(size_t)i * s->cols + j] * (double)w[(size_t)i * s->cols + j];
            const double relative = (double)qn_pvq_scale(s->row_scale[b]);
            sum /= relative > 0 ? relative * relative : 1;
            most_col = sum > most_col ? sum : most_col;
        }
    int e = 0;
    if (most_col > 0)
        (void)frexp(sqrt(most_col), &e); /* feedback moves targets: levels of 2 and more leave room for four times that */
    s->base = ldexpf(1, e);
    return s->base >= QN_PVQ_BASE_MIN && s->base <= QN_PVQ_BASE_MAX;
}

static qn_code pvq_segment(const qn_quantizer *q, const qn_quant_layer *l, const void *plan, const qn_quant_segment *seg,
                           void **out, qn_err *err)
{
    struct state *s = qn_arena_get(seg->scratch, sizeof *s, 64, err);
    if (!s)
        return QN_E_MEMORY;
    *s = (struct state){.q = q, .plan = plan, .rows = seg->rows, .cols = l->cols, .n_blocks = (seg->rows - 1) / N + 1,
                        .scratch = seg->scratch};
    const uint64_t groups = (uint64_t)s->cols * s->n_blocks;
    s->row_scale = qn_arena_get(seg->scratch, s->n_blocks, 64, err);
    s->col_scale = s->row_scale ? qn_arena_get(seg->scratch, s->cols, 64, err) : NULL;
    s->index = s->col_scale ? qn_arena_get(seg->scratch, groups * sizeof *s->index, 64, err) : NULL;
    s->level = s->index ? qn_arena_get(seg->scratch, groups, 64, err) : NULL;
    s->y = s->level ? qn_arena_get(seg->scratch, (uint64_t)s->n_blocks * N * sizeof *s->y, 64, err) : NULL;
    s->length = s->y ? qn_arena_get(seg->scratch, s->n_blocks * sizeof *s->length, 64, err) : NULL;
    if (!s->length)
        return QN_E_MEMORY;
    memset(s->col_scale, 0, s->cols);
    if (!scales_of_rows(s, seg->w))
        s->base = 0; /* finish declines */
    *out = s;
    return QN_OK;
}

/* What one scale for the column loses in its lengths; levels are chosen for it. */
static double assign(const struct state *s, const uint16_t *level, unsigned n_levels, double scale, uint8_t *chosen, double *best_scale)
{
    double error = 0, al = 0, ll = 0;
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        const double unit = (double)s->base * (double)qn_pvq_scale(s->row_scale[b]) / 4096, a = (double)s->length[b];
        double least = HUGE_VAL;
        chosen[b] = 0;
        for (unsigned i = 0; i < n_levels; i++) {
            const double d = a - unit * scale * level[i];
            if (d * d < least) {
                least = d * d;
                chosen[b] = (uint8_t)i;
            }
        }
        const double l = unit * level[chosen[b]];
        error += least;
        al += a * l;
        ll += l * l;
    }
    *best_scale = ll > 0 ? al / ll : 0;
    return error;
}

static void fit(struct state *s, uint32_t j, unsigned gain_bits, uint8_t *chosen)
{
    const uint16_t *const level = qn_pvq_gain_levels(N, gain_bits);
    double scale = 0, next, least = HUGE_VAL;
    (void)assign(s, qn_pvq_gain_levels(N, 0), 1, 1, chosen, &scale); /* one level: the mean length */
    for (unsigned i = 0; gain_bits && i < ROUNDS; i++) {
        (void)assign(s, level, 1u << gain_bits, scale, chosen, &next);
        scale = next;
    }
    const unsigned below = scale_below((float)(scale < 1 ? scale : 1));
    uint8_t best = 0;
    for (unsigned c = below > 1 ? below - 1 : 0; c <= 255 && c <= below + 2; c++) {
        const double error = assign(s, level, 1u << gain_bits, (double)qn_pvq_scale((uint8_t)c), chosen, &next);
        if (error < least) {
            least = error;
            best = (uint8_t)c;
        }
    }
    (void)assign(s, level, 1u << gain_bits, (double)qn_pvq_scale(best), chosen, &next);
    s->col_scale[j] = best;
}

static qn_code pvq_column(void *state, uint32_t j, const float *t, float *recon, qn_err *err)
{
    struct state *s = state;
    const qn_pvq_class *k = s->plan->cls + s->plan->class_of[j];
    uint8_t *chosen = s->level + (size_t)j * s->n_blocks;
    const uint32_t tail = s->rows % N;
    unsigned width;
    const uint32_t short_k = tail ? qn_pvq_short_k(&s->plan->tab, k->pulses, k->gain_bits, tail, &width) : 0;
    (void)err;
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        const uint32_t m = s->rows - b * N < N ? tail : N, pulses = m == N ? k->pulses : short_k;
        int16_t *y = s->y + (size_t)b * N;
        s->length[b] = qn_pvq_nearest(t + (size_t)b * N, m, pulses, MOVES, y);
        s->index[(size_t)j * s->n_blocks + b] = qn_pvq_index(&s->plan->tab, y, m, pulses);
    }
    fit(s, j, k->gain_bits, chosen);
    const uint16_t *const level = qn_pvq_gain_levels(N, k->gain_bits);
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        const float amplitude = qn_pvq_amplitude(s->base, s->row_scale[b], s->col_scale[j], level[chosen[b]]);
        uint32_t norm2 = 0;
        for (uint32_t i = 0; i < N && b * N + i < s->rows; i++)
            norm2 += (uint32_t)(s->y[b * N + i] * s->y[b * N + i]);
        const float scale = norm2 ? amplitude * qn_pvq_inverse_root(norm2) : 0;
        for (uint32_t i = 0; i < N && b * N + i < s->rows; i++)
            recon[b * N + i] = (float)s->y[b * N + i] * scale;
    }
    return QN_OK;
}

static qn_code pvq_again(void *state, uint32_t j, double share, const float *t, float *recon, qn_err *err)
{
    (void)share;
    return pvq_column(state, j, t, recon, err);
}

/* The groups of block b. Returns the bytes; *full when there is no room. */
static size_t put_block(const struct state *s, uint32_t b, uint8_t *dst, size_t cap, bool *full)
{
    const struct plan *p = s->plan;
    const uint32_t m = s->rows - b * N < N ? s->rows - b * N : N;
    unsigned width[QN_PVQ_CLASSES];
    uint64_t bits = 0;
    for (unsigned k = 0; k < p->n_classes; k++)
        (void)qn_pvq_short_k(&p->tab, p->cls[k].pulses, p->cls[k].gain_bits, m, &width[k]);
    for (uint32_t j = 0; j < s->cols; j++)
        bits += width[p->class_of[j]];
    const size_t n_bytes = (size_t)((bits + 7) / 8);
    if (n_bytes > cap) {
        *full = true;
        return 0;
    }
    memset(dst, 0, n_bytes);
    uint64_t at = 0;
    for (unsigned k = 0; k < p->n_classes; k++)
        for (uint32_t j = 0; j < s->cols; j++) {
            if (p->class_of[j] != k || width[k] == 0)
                continue;
            const size_t g = (size_t)j * s->n_blocks + b;
            const unsigned index_bits = width[k] - p->cls[k].gain_bits;
            qn_pvq_put(dst, at, index_bits, s->index[g]);
            qn_pvq_put(dst, at + index_bits, p->cls[k].gain_bits, qn_u128_of(s->level[g]));
            at += width[k];
        }
    return n_bytes;
}

static qn_code pvq_finish(void *state, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    const struct state *s = state;
    const qn_enc_ctx cx = {.ekern = &s->q->ekern, .kern = &s->q->kern, .scratch = s->scratch, .level = QN_LEVEL_DENSE};
    const qn_block per_col = {QN_U8, s->cols, s->cols}, per_row = {QN_U8, s->n_blocks, s->n_blocks};
    uint8_t base[4];
    qn_sink sink = qn_sink_over(dst, cap);
    *n_out = 0;
    if (!(s->base > 0))
        return QN_OK;
    qn_store32(base, qn_f32_bits(s->base));
    qn_sink_u8(&sink, 4);
    qn_sink_put(&sink, base, 4);
    qn_sink_varint(&sink, s->plan->n_classes);
    for (unsigned k = 0; k < s->plan->n_classes; k++) {
        qn_sink_u8(&sink, s->plan->cls[k].pulses);
        qn_sink_u8(&sink, s->plan->cls[k].gain_bits);
    }
    if (s->plan->n_classes > 1)
        QN_TRY(qn_nest_encode(&cx, &sink, &per_col, s->plan->class_of, true, err));
    QN_TRY(qn_nest_encode(&cx, &sink, &per_col, s->col_scale, true, err));
    QN_TRY(qn_nest_encode(&cx, &sink, &per_row, s->row_scale, true, err));
    for (uint32_t b = 0; b < s->n_blocks && !sink.full; b++)
        sink.n += put_block(s, b, dst + sink.n, cap - sink.n, &sink.full);
    *n_out = sink.full ? 0 : sink.n;
    return QN_OK;
}

static const qn_quant_ops ops = {pvq_begin, pvq_segment, NULL, pvq_column, pvq_finish};

qn_code qn_quantizer_pvq(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err)
{
    const double most = (double)qn_pvq_offers[qn_pvq_n_offers - 1].bits / N;
    if (!(set->bits >= 0.25 && set->bits <= most))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "pvq: %g bits found, allowed are 0.25 to %.2f", set->bits, most);
    if (set->asymmetric || set->group)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "pvq: has no zero points and no groups of columns");
    qn_pvq_settings *p = qn_arena_get(arena, sizeof *p, 64, err);
    if (!p)
        return QN_E_MEMORY;
    p->bits = set->bits;
    q->ops = set->shells ? &qn_pvq_shells_ops : &ops;
    q->again = set->shells ? NULL : pvq_again; /* shells choose their pulses by what they cost, not by the error alone */
    q->codec = QN_CODEC_PVQ;
    q->group_cols = 1;
    q->segment_bytes = SEGMENT_BYTES;
    q->row_multiple = N;
    q->order_free = true;
    q->self = p;
    return QN_OK;
}
