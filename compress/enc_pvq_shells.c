/* enc_pvq_shells.c: the quantizer of shells: whole numbers of steps, 16 down a column at a time, as their norm K and a number
 * inside the shell of that norm. docs/codecs/pvq.md.
 *
 * The step of column j is Δ / L_jj with one Δ for all, so that an error costs the same everywhere (reverse water-filling); K then
 * follows the weights group by group and needs no other scale. Δ comes from trial runs of the engine on the sample. */
#include "base/err.h"
#include "base/half.h"
#include "compress/enc_pvq.h"
#include "compress/feedback.h"
#include "compress/nest.h"
#include "compress/pvq_point.h"
#include "compress/pvq_shells.h"
#include "runtime/pvq_codec.h"
#include <math.h>
#include <string.h>

/* Bits of the payload that belong to no group: about. */
enum { N = QN_PVQ_SHELL_N, TRIALS = 6, HEAD_BITS = 200, CONTEXT_BITS = 56, SCALE_STEPS = 16 };
/* Columns that would need more pulses than there are get larger steps: octaves kept for that; what a group may have in the mean, and
 * at most. */
enum { SPARE = 3 };
static const float mean_most = 85, one_most = 140;
/* A column that calibration never saw counts that much of a mean one. */
#define DEAD_WEIGHT 1e-4
/* What a bit is worth, in squares of the step: −dD/dR of a uniform quantizer is ln 2 / 6 when steps are small. */
#define LAMBDA (0.6931 / 6)

typedef struct sums { /* over what the quantizer saw, in steps; [0]: numbers ±1, [1]: beyond */
    double n[2], excess[2];
} sums;

typedef struct plan {
    qn_pvq_tab tab;   /* P(n, most) */
    float base;
    int8_t shift[2];  /* in 1/256 */
    uint8_t *step;    /* (cols): codes */
    double *length[2];  /* (most + 1): mean bits of a number in its shell, whole groups and the last ones of the segment */
    qn_pvq_price price[2];
    bool trial;       /* finish() gives a tally instead of a payload */
} plan;

typedef struct tally {
    double by_group, by_column;
    sums seen;
} tally;

typedef struct state {
    const qn_quantizer *q;
    const plan *p;
    uint32_t rows, cols, n_blocks;
    uint8_t *step;     /* (cols): codes    */
    uint8_t *k;        /* (cols, n_blocks) */
    qn_u128 *index;    /* (cols, n_blocks); NULL in a trial */
    float *x;          /* (n)  */
    sums seen;
    double length;
    qn_arena *scratch;
} state;

/* Mean bits of a number below v when all are equally frequent: runtime/pvq_codec.h. */
static double mean_length(qn_u128 last)
{
    const unsigned bits = qn_u128_bits(last);
    if (bits == 0)
        return 0;
    const qn_u128 n_short = qn_pvq_n_short(last, bits);
    const double v = ldexp((double)last.hi, 64) + (double)last.lo + 1;
    return bits - (ldexp((double)n_short.hi, 64) + (double)n_short.lo) / v;
}

static qn_code prices(plan *p, uint32_t m, unsigned which, qn_arena *arena, qn_err *err)
{
    float *cost = qn_arena_get(arena, (p->tab.k + 1) * sizeof *cost, 64, err);
    p->length[which] = cost ? qn_arena_get(arena, (p->tab.k + 1) * sizeof *p->length[which], 64, err) : NULL;
    if (!p->length[which])
        return QN_E_MEMORY;
    for (uint32_t k = 0; k <= p->tab.k; k++) {
        p->length[which][k] = mean_length(qn_u128_sub(qn_pvq_tab_size(&p->tab, m, k), qn_u128_of(1)));
        /* what the shell costs in the mean, not what rounding to whole bits makes of it, keeps neighbours comparable */
        const qn_u128 v = qn_pvq_tab_size(&p->tab, m, k);
        cost[k] = (float)(LAMBDA * log2(ldexp((double)v.hi, 64) + (double)v.lo));
    }
    p->price[which] = (qn_pvq_price){.n = m, .most = p->tab.k, .cost = cost};
    return QN_OK;
}

static void set_shift(plan *p)
{
    for (unsigned i = 0; i < 2; i++)
        for (unsigned w = 0; w < 2; w++)
            p->price[w].shift[i] = (float)p->shift[i] / 256.0f;
}

/* Steps Δ / L_jj in sixteenths of an octave below the largest. */
static void set_steps(plan *p, const qn_quant_layer *l, double delta)
{
    double mean = 0, least = HUGE_VAL;
    for (uint32_t j = 0; j < l->cols && l->weight; j++)
        mean += l->weight[j] / l->cols;
    for (uint32_t j = 0; j < l->cols; j++) {
        const double w = l->weight && mean > 0 ? fmax(l->weight[j] / mean, DEAD_WEIGHT) : 1;
        least = fmin(least, w);
    }
    p->base = (float)(delta / sqrt(least) * (1 << SPARE));
    p->base = p->base < QN_PVQ_BASE_MIN ? QN_PVQ_BASE_MIN : p->base > QN_PVQ_BASE_MAX ? QN_PVQ_BASE_MAX : p->base;
    for (uint32_t j = 0; j < l->cols; j++) {
        const double w = l->weight && mean > 0 ? fmax(l->weight[j] / mean, DEAD_WEIGHT) : 1;
        const double below = SCALE_STEPS * 0.5 * log2(w / least) + 0.5;
        p->step[j] = (uint8_t)(255 - SCALE_STEPS * SPARE - (below < 200 ? below : 200));
    }
}

static qn_code trial(const qn_quantizer *q, const qn_quant_layer *l, plan *p, qn_arena *arena, double *bits, qn_err *err)
{
    const uint64_t n = (uint64_t)l->n_sample * l->cols;
    tally c;
    p->trial = true;
    const qn_code rc = qn_feedback_trial(q, l, p, &c, sizeof c, arena, err);
    p->trial = false;
    const double whole = (double)(l->segment_rows ? l->segment_rows : l->rows) * l->cols;
    *bits = c.by_group / (double)n + (c.by_column + HEAD_BITS) / whole;
    for (unsigned i = 0; i < 2; i++) {
        const double mean = c.seen.n[i] > 8 ? 256 * c.seen.excess[i] / c.seen.n[i] : 0;
        p->shift[i] = (int8_t)(mean < -120 ? -120 : mean > 120 ? 120 : rint(mean));
    }
    set_shift(p);
    return rc;
}

/* Δ for normal weights: R = log2(σ / Δ) + 2.3 at high rates; near nothing, slower. */
static double first_delta(const qn_quant_layer *l, double bits)
{
    double sum = 0, mean = 0;
    for (uint32_t j = 0; j < l->cols && l->weight; j++)
        mean += l->weight[j] / l->cols;
    for (uint32_t j = 0; j < l->cols; j++) {
        const double w = l->weight && mean > 0 ? fmax(l->weight[j] / mean, DEAD_WEIGHT) : 1;
        double sq = 1e-30;
        for (uint32_t i = 0; i < l->n_sample; i++)
            sq += (double)l->sample[(size_t)i * l->cols + j] * (double)l->sample[(size_t)i * l->cols + j];
        sum += 0.5 * log2(w * (l->n_sample ? sq / l->n_sample : 1)) / l->cols;
    }
    return exp2(sum + 2.1 - (bits > 0.5 ? bits : 0.5));
}

static qn_code shells_begin(const qn_quantizer *q, const qn_quant_layer *l, qn_arena *arena, const void **out, qn_err *err)
{
    const qn_pvq_settings *set = q->self;
    plan *p = qn_arena_get(arena, sizeof *p, 64, err);
    if (!p)
        return QN_E_MEMORY;
    memset(p, 0, sizeof *p);
    *out = p;
    p->step = qn_arena_get(arena, l->cols, 64, err);
    if (!p->step)
        return QN_E_MEMORY;
    QN_TRY(qn_pvq_tab_make(&p->tab, N, QN_PVQ_PULSES, arena, err));
    QN_TRY(prices(p, N, 0, arena, err));
    if (l->rows % N)
        QN_TRY(prices(p, l->rows % N, 1, arena, err));
    p->shift[0] = p->shift[1] = -10;
    set_shift(p);
    double at = log2(first_delta(l, set->bits)), last_at = 0, last_bits = 0;
    for (unsigned i = 0;; i++) {
        double bits;
        set_steps(p, l, exp2(at));
        if (i == TRIALS || !l->ldl || !l->n_sample)
            return QN_OK;
        QN_TRY(trial(q, l, p, arena, &bits, err));
        if (fabs(bits - set->bits) < 0.002 && i > 1)
            return QN_OK;
        double slope = i && at != last_at ? (bits - last_bits) / (at - last_at) : -0.9;
        slope = slope < -0.3 && slope > -1.5 ? slope : -0.9;
        last_at = at;
        last_bits = bits;
        at += (set->bits - bits) / slope;
    }
}

static qn_code shells_segment(const qn_quantizer *q, const qn_quant_layer *l, const void *plan_of, const qn_quant_segment *seg,
                              void **out, qn_err *err)
{
    qn_arena *a = seg->scratch;
    state *s = qn_arena_get(a, sizeof *s, 64, err);
    if (!s)
        return QN_E_MEMORY;
    *s = (state){.q = q, .p = plan_of, .rows = seg->rows, .cols = l->cols, .n_blocks = (seg->rows - 1) / N + 1,
                 .scratch = a};
    const uint64_t groups = (uint64_t)s->cols * s->n_blocks;
    s->k = qn_arena_get(a, groups, 64, err);
    s->step = s->k ? qn_arena_get(a, s->cols, 64, err) : NULL;
    s->x = s->step ? qn_arena_get(a, N * sizeof *s->x, 64, err) : NULL;
    s->index = s->x && !s->p->trial ? qn_arena_get(a, groups * sizeof *s->index, 64, err) : NULL;
    *out = s;
    return s->x && (s->index || s->p->trial) ? QN_OK : QN_E_MEMORY;
}

/* The step that is wanted, or a larger one. */
static uint8_t step_for(const state *s, uint8_t wanted, const float *t)
{
    const float step = s->p->base * qn_pvq_scale(wanted);
    float sum = 0, most = 0;
    for (uint32_t i = 0; i < s->rows;) {
        float group = 0;
        for (const uint32_t end = i + N; i < s->rows && i < end; i++)
            group += t[i] < 0 ? -t[i] : t[i];
        sum += group;
        most = group > most ? group : most;
    }
    const float over = fmaxf(sum / (float)s->n_blocks / mean_most, most / one_most) / step;
    const float raise = over > 1 ? ceilf(SCALE_STEPS * log2f(over)) : 0;
    return (uint8_t)(raise < (float)(255 - wanted) ? (float)wanted + raise : 255);
}

static qn_code shells_column(void *of, uint32_t j, const float *t, float *recon, qn_err *err)
{
    state *s = of;
    const plan *p = s->p;
    s->step[j] = step_for(s, p->step[j], t);
    const float step = p->base * qn_pvq_scale(s->step[j]), inverse = 1 / step;
    (void)err;
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        const uint32_t m = s->rows - b * N < N ? s->rows - b * N : N;
        const float *from = t + (size_t)b * N;
        float *to = recon + (size_t)b * N;
        int16_t y[32];
        qn_pvq_price price = p->price[m < N];
        const double *length = p->length[m < N];
        if (!price.cost || price.n != m) { /* the sample ends elsewhere than the tensor does */
            price = p->price[0];
            price.n = m;
            length = p->length[0];
        }
        for (uint32_t i = 0; i < m; i++)
            s->x[i] = from[i] * inverse;
        const uint32_t k = qn_pvq_shell_point(&price, s->x, y);
        s->k[(size_t)j * s->n_blocks + b] = (uint8_t)k;
        if (s->index)
            s->index[(size_t)j * s->n_blocks + b] = qn_pvq_index(&p->tab, y, m, k);
        s->length += length[k] * (price.cost == p->price[0].cost ? (double)m / N : 1);
        for (uint32_t i = 0; i < m; i++) {
            to[i] = qn_pvq_shell_value(price.shift, y[i]) * step;
            const int abs = y[i] < 0 ? -y[i] : y[i];
            if (abs) {
                s->seen.n[abs > 1] += 1;
                s->seen.excess[abs > 1] += fabs((double)s->x[i]) - abs;
            }
        }
    }
    return QN_OK;
}

/* --- contexts of K ------------------------------------------------------------------------------------------------- */

typedef struct contexts {
    unsigned n;
    uint8_t *col, *row; /* (cols), (blocks) */
    double bits;        /* of all norms and of the contexts themselves, about */
    double bits_of_columns; /* the part that stays the same however many rows there are */
} contexts;

static double entropy(const uint32_t *count, unsigned n, unsigned *live)
{
    double sum = 0, bits = 0;
    *live = 0;
    for (unsigned i = 0; i < n; i++)
        sum += count[i];
    for (unsigned i = 0; i < n; i++) {
        *live += count[i] > 0;
        bits += count[i] ? count[i] * log2(sum / count[i]) : 0;
    }
    return bits;
}

static double side_bits(const uint8_t *v, uint32_t n)
{
    uint32_t count[256] = {0};
    unsigned live;
    for (uint32_t i = 0; i < n; i++)
        count[v[i]]++;
    const double bits = entropy(count, 256, &live);
    return live > 1 ? fmin(bits + 6 * live, 8.0 * n) : 8;
}

/* Logarithms of the mean norm of columns and of blocks of rows. */
static void measure(const state *s, double *col, double *row)
{
    memset(row, 0, s->n_blocks * sizeof *row);
    for (uint32_t j = 0; j < s->cols; j++) {
        double sum = 0;
        for (uint32_t b = 0; b < s->n_blocks; b++) {
            sum += s->k[(size_t)j * s->n_blocks + b];
            row[b] += s->k[(size_t)j * s->n_blocks + b];
        }
        col[j] = log2(sum / s->n_blocks + 0.5);
    }
    for (uint32_t b = 0; b < s->n_blocks; b++)
        row[b] = log2(row[b] / s->cols + 0.5);
}

static void code(const double *v, uint32_t n, double per_octave, uint8_t *to)
{
    double least = HUGE_VAL;
    for (uint32_t i = 0; i < n; i++)
        least = fmin(least, v[i]);
    for (uint32_t i = 0; i < n; i++) {
        const double c = rint((v[i] - least) * per_octave);
        to[i] = (uint8_t)(c < QN_PVQ_CONTEXTS - 1 ? c : QN_PVQ_CONTEXTS - 1);
    }
}

static qn_code count_bits(const state *s, contexts *x, qn_arena *a, qn_err *err)
{
    uint32_t(*count)[256] = qn_arena_get(a, QN_PVQ_CONTEXTS * sizeof *count, 64, err);
    unsigned most_col = 0, most_row = 0, live;
    if (!count)
        return QN_E_MEMORY;
    memset(count, 0, QN_PVQ_CONTEXTS * sizeof *count);
    for (uint32_t j = 0; j < s->cols; j++)
        most_col = x->col[j] > most_col ? x->col[j] : most_col;
    for (uint32_t b = 0; b < s->n_blocks; b++)
        most_row = x->row[b] > most_row ? x->row[b] : most_row;
    x->n = most_col + most_row + 1 < QN_PVQ_CONTEXTS ? most_col + most_row + 1 : QN_PVQ_CONTEXTS;
    for (uint32_t j = 0; j < s->cols; j++)
        for (uint32_t b = 0; b < s->n_blocks; b++)
            count[qn_pvq_context(x->col[j], x->row[b], x->n)][s->k[(size_t)j * s->n_blocks + b]]++;
    x->bits = 0;
    x->bits_of_columns = 0;
    for (unsigned i = 0; i < x->n; i++) {
        x->bits += entropy(count[i], 256, &live);
        x->bits_of_columns += live ? CONTEXT_BITS + 5 * live : 0;
    }
    if (x->n > 1) {
        x->bits += side_bits(x->row, s->n_blocks);
        x->bits_of_columns += side_bits(x->col, s->cols);
    }
    return QN_OK;
}

/* Fine contexts tell more and cost more. */
static qn_code choose_contexts(const state *s, contexts *best, qn_err *err)
{
    static const double per_octave[] = {0, 1, 2, 4};
    qn_arena *a = s->scratch;
    double *col = qn_arena_get(a, s->cols * sizeof *col, 64, err), *row = col ? qn_arena_get(a, s->n_blocks * sizeof *row, 64, err) : NULL;
    if (!row)
        return QN_E_MEMORY;
    measure(s, col, row);
    *best = (contexts){.n = 0};
    for (size_t i = 0; i < sizeof per_octave / sizeof per_octave[0]; i++) {
        contexts x = {.col = qn_arena_get(a, s->cols, 64, err)};
        x.row = x.col ? qn_arena_get(a, s->n_blocks, 64, err) : NULL;
        if (!x.row)
            return QN_E_MEMORY;
        code(col, s->cols, per_octave[i], x.col);
        code(row, s->n_blocks, per_octave[i], x.row);
        QN_TRY(count_bits(s, &x, a, err));
        if (best->n == 0 || x.bits + x.bits_of_columns < best->bits + best->bits_of_columns)
            *best = x;
    }
    return QN_OK;
}

/* --- payload ------------------------------------------------------------------------------------------------------- */

static qn_code put_norms(const state *s, const qn_enc_ctx *cx, const contexts *x, qn_sink *sink, qn_err *err)
{
    uint8_t *list = qn_arena_get(s->scratch, (uint64_t)s->cols * s->n_blocks, 64, err);
    if (!list)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < x->n; i++) {
        uint32_t n = 0;
        for (uint32_t b = 0; b < s->n_blocks; b++)
            for (uint32_t j = 0; j < s->cols; j++)
                if (qn_pvq_context(x->col[j], x->row[b], x->n) == i)
                    list[n++] = s->k[(size_t)j * s->n_blocks + b];
        const qn_block all = {QN_U8, n, n};
        if (n)
            QN_TRY(qn_nest_encode(cx, sink, &all, list, true, err));
    }
    return QN_OK;
}

static void put_block(const state *s, uint32_t b, qn_sink *sink)
{
    const uint32_t m = s->rows - b * N < N ? s->rows - b * N : N;
    const uint64_t most = (uint64_t)s->cols * 16; /* bytes */
    uint8_t *dst = sink->p + sink->n;
    uint64_t at = 0;
    const size_t left = qn_sink_left(sink);
    memset(dst, 0, (size_t)qn_min_u64(most, left));
    for (uint32_t j = 0; j < s->cols; j++) {
        const size_t g = (size_t)j * s->n_blocks + b;
        const qn_u128 last = qn_u128_sub(qn_pvq_tab_size(&s->p->tab, m, s->k[g]), qn_u128_of(1));
        const unsigned bits = qn_u128_bits(last);
        if (bits == 0)
            continue;
        if ((at + bits + 7) / 8 > left) {
            sink->full = true;
            return;
        }
        const qn_u128 n_short = qn_pvq_n_short(last, bits);
        qn_u128 v = s->index[g];
        if (qn_u128_le(n_short, v)) {
            bool ovf = false;
            v = qn_u128_add(v, n_short, &ovf); /* bits − 1 high ones, then the lowest */
            qn_pvq_put(dst, at, bits - 1, qn_u128_half(v));
            qn_pvq_put(dst, at + bits - 1, 1, qn_u128_of(v.lo & 1));
            at += bits;
        } else {
            qn_pvq_put(dst, at, bits - 1, v);
            at += bits - 1;
        }
    }
    sink->n += (size_t)((at + 7) / 8);
}

static qn_code shells_finish(void *of, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    const state *s = of;
    const plan *p = s->p;
    const qn_block per_col = {QN_U8, s->cols, s->cols}, per_row = {QN_U8, s->n_blocks, s->n_blocks};
    const qn_enc_ctx cx = {.ekern = &s->q->ekern, .kern = &s->q->kern, .scratch = s->scratch, .level = QN_LEVEL_DENSE};
    contexts x;
    uint8_t base[4];
    *n_out = 0;
    QN_TRY(choose_contexts(s, &x, err));
    if (p->trial) {
        const tally c = {s->length + x.bits, x.bits_of_columns + side_bits(s->step, s->cols), s->seen};
        memcpy(dst, &c, sizeof c);
        *n_out = sizeof c;
        return QN_OK;
    }
    qn_sink sink = qn_sink_over(dst, cap);
    qn_store32(base, qn_f32_bits(p->base));
    qn_sink_u8(&sink, QN_PVQ_SHELLS | 4);
    qn_sink_put(&sink, base, 4);
    for (unsigned i = 0; i < 2; i++)
        qn_sink_u8(&sink, (uint8_t)p->shift[i]);
    QN_TRY(qn_nest_encode(&cx, &sink, &per_col, s->step, true, err));
    qn_sink_varint(&sink, x.n);
    if (x.n > 1) {
        QN_TRY(qn_nest_encode(&cx, &sink, &per_col, x.col, true, err));
        QN_TRY(qn_nest_encode(&cx, &sink, &per_row, x.row, true, err));
    }
    QN_TRY(put_norms(s, &cx, &x, &sink, err));
    for (uint32_t b = 0; b < s->n_blocks && !sink.full; b++)
        put_block(s, b, &sink);
    *n_out = sink.full ? 0 : sink.n;
    return QN_OK;
}

const qn_quant_ops qn_pvq_shells_ops = {shells_begin, shells_segment, NULL, shells_column, shells_finish};
