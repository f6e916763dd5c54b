/* quant_ect.c: the quantizer of the entropy-coded trellis codec.
 *
 * The step of column j is Δ / L_jj with one Δ for all columns: an error then costs the same everywhere, and bits go where they
 * do most, which is what reverse water-filling asks for. Rows are not scaled, for the same reason; their spread only chooses
 * the probabilities. Δ follows from the rate that is asked for: first from the rate of a Gaussian, then from trial
 * runs of the engine on sample rows. docs/codecs/ect.md. */
#include "base/err.h"
#include "compress/ect_pack.h"
#include "compress/feedback.h"
#include "compress/quant_shared.h"
#include <math.h>
#include <string.h>

enum { TRIALS = 4, ROW_CLASS_MAX = 48, DEFAULT_STATES = 256, FINEST = 512, HEAD_BYTES = 16, /* without the states of the lanes */
       CLASS_ROWS = 1000 /* so many rows tell which class suits a column */ };

typedef struct ect {
    double bits, gain;
    unsigned log2_states;
    qn_ekern_ect kern;
} ect;

/* What the segments of a layer share. */
typedef struct plan {
    qn_ect_book book;
    double delta;
    float base;   /* of the steps that targets are measured in       */
    float stored; /* the same times the gain: what the decoder has   */
    uint8_t *q;   /* cols                                            */
    float *rms;   /* cols: of the sample; 1 where that is nothing     */
    float gain;
    bool trial;   /* finish() gives the bits it would take instead of a payload */
} plan;

struct state {
    const qn_quantizer *q;
    const ect *e;
    const qn_quant_layer *layer;
    const plan *p;
    uint32_t rows, cols;
    int8_t *row;      /* rows                                         */
    float *shrink;    /* rows: 2^(−row/6)                             */
    uint8_t *class;   /* cols                                         */
    uint8_t *classes; /* rows: of the column at hand                  */
    float *x;         /* rows                                         */
    int16_t *level;   /* (cols, rows)                                 */
    void *room;
    qn_arena *scratch;
    double bits;      /* of the levels so far                         */
    bool clipped;     /* a value was beyond the last level            */
};

/* Mean of |x| in units of s, for a density ∝ exp(−|x/s|^b / b). */
static const double mean_abs[QN_ECT_SHAPES] = {0.79788, 0.82635, 0.86413, 0.91747, 1.0};
/* Mean of |x| over root mean square, half-way between neighbouring shapes. */
static const double shape_cut[QN_ECT_SHAPES - 1] = {0.7914, 0.7761, 0.7552, 0.7249};
/* Entropy of shape b less that of a Gaussian of the same variance, bits. */
static const double shape_entropy[QN_ECT_SHAPES] = {0, -0.004, -0.018, -0.048, -0.104};

/* --- the layer -------------------------------------------------------------------------------------------------- */

/* Bits of a weight whose spread is v steps. */
static double rate_of(const plan *p, double v)
{
    const double r = p->book.kind == 0 ? log2(1.7321 * v) + 0.254 : log2(2 * v) + (p->book.kind == 1 ? 0.07 : 0.035);
    return r > 0 ? r + shape_entropy[p->book.shape] : 0;
}

static double importance(const qn_quant_layer *l, uint32_t j, double least)
{
    const double w = l->weight ? l->weight[j] : 1;
    return sqrt(w > 0 ? w : least);
}

static double least_weight(const qn_quant_layer *l)
{
    double least = 0;
    for (uint32_t j = 0; l->weight && j < l->cols; j++)
        if (l->weight[j] > 0 && (least == 0 || l->weight[j] < least))
            least = l->weight[j];
    return least > 0 ? least : 1;
}

/* The same, but no more than leaves a level for FINEST of a step in the column's spread: finer ones say nothing, and levels end somewhere. */
static double bounded(const plan *p, const qn_quant_layer *l, uint32_t j, double least, double delta)
{
    const double w = importance(l, j, least), most = p->rms[j] > 0 ? delta * FINEST / (double)p->rms[j] : w;
    return w < most ? w : most;
}

static double rate_at(const plan *p, const qn_quant_layer *l, double least, double delta)
{
    double sum = 0;
    for (uint32_t j = 0; j < l->cols; j++)
        sum += rate_of(p, (double)p->rms[j] * bounded(p, l, j, least, delta) / delta);
    return sum / l->cols;
}

static void measure_columns(plan *p, const qn_quant_layer *l)
{
    for (uint32_t j = 0; j < l->cols; j++)
        p->rms[j] = (float)sqrt(qn_quant_square(l, j, 0));
}

/* Columns and rows scaled to one spread, how heavy are the tails? */
static unsigned shape_of(const plan *p, const qn_quant_layer *l)
{
    double sum_abs = 0, sum_sq = 0;
    for (uint32_t i = 0; i < l->n_sample; i++) {
        double row_abs = 0, row_sq = 0;
        for (uint32_t j = 0; j < l->cols; j++) {
            const double v = p->rms[j] > 0 ? fabs((double)l->sample[(size_t)i * l->cols + j]) / (double)p->rms[j] : 0;
            row_abs += v;
            row_sq += v * v;
        }
        if (row_sq > 0) {
            sum_abs += row_abs / sqrt(row_sq * l->cols);
            sum_sq += 1;
        }
    }
    const double ratio = sum_sq > 0 ? sum_abs / sum_sq : 0.798;
    unsigned s = 0;
    while (s < QN_ECT_SHAPES - 1 && ratio < shape_cut[s])
        s++;
    return l->n_sample >= 16 ? s : 0;
}

static void set_steps(plan *p, const qn_quant_layer *l, double least, double delta)
{
    double most = 0;
    p->delta = delta;
    for (uint32_t j = 0; j < l->cols; j++)
        most = fmax(most, bounded(p, l, j, least, delta));
    p->base = (float)(delta / most);
    p->base = p->base < 0x1p-60f ? 0x1p-60f : p->base > 0x1p60f ? 0x1p60f : p->base;
    p->stored = p->base * p->gain;
    p->stored = p->stored < 0x1p-70f ? 0x1p-70f : p->stored;
    for (uint32_t j = 0; j < l->cols; j++) {
        const double q = QN_ECT_STEPS * log2(most / bounded(p, l, j, least, delta)) + 0.5;
        p->q[j] = (uint8_t)(q < 255 ? q : 255);
    }
}

/* What a trial run's finish() gives instead of a payload. */
typedef struct tally {
    double by_weight; /* bits of levels and rows  */
    double by_column; /* bits of steps and classes */
} tally;

/* Bits a weight that the engine needs for the sample with these steps; side information as in a whole segment. */
static qn_code trial(const qn_quantizer *q, const qn_quant_layer *l, plan *p, qn_arena *arena, double *bits, qn_err *err)
{
    const uint64_t n = (uint64_t)l->n_sample * l->cols;
    tally c;
    p->trial = true;
    const qn_code rc = qn_feedback_trial(q, l, p, &c, sizeof c, arena, err);
    p->trial = false;
    const double whole = (double)(l->segment_rows ? l->segment_rows : l->rows) * l->cols;
    const double head = 8.0 * (HEAD_BYTES + (4u << qn_ect_log2_lanes((uint64_t)whole, l->cols)));
    *bits = c.by_weight / (double)n + (c.by_column + head) / whole;
    return rc;
}

static qn_code ect_begin(const qn_quantizer *q, const qn_quant_layer *l, qn_arena *arena, const void **out, qn_err *err)
{
    const ect *e = q->self;
    plan *p = qn_arena_get(arena, sizeof *p, 64, err);
    if (!p)
        return QN_E_MEMORY;
    memset(p, 0, sizeof *p);
    p->gain = (float)e->gain;
    p->q = qn_arena_get(arena, l->cols, 64, err);
    p->rms = p->q ? qn_arena_get(arena, l->cols * sizeof *p->rms, 64, err) : NULL;
    if (!p->rms)
        return QN_E_MEMORY;
    const double least = least_weight(l), want = e->bits;
    measure_columns(p, l);
    qn_ect_book_make(&p->book, e->log2_states, shape_of(p, l), 0);
    double lo = -100, hi = 100; /* log2 Δ: the rate falls */
    for (int i = 0; i < 60; i++) {
        const double mid = (lo + hi) / 2;
        if (rate_at(p, l, least, exp2(mid)) > want)
            lo = mid;
        else
            hi = mid;
    }
    double at = lo, last_at = 0, last_bits = 0;
    *out = p;
    for (int i = 0;; i++) {
        double bits;
        set_steps(p, l, least, exp2(at));
        if (i == TRIALS || !l->ldl || !l->n_sample)
            return QN_OK;
        QN_TRY(trial(q, l, p, arena, &bits, err));
        if (fabs(bits - want) < 0.002 || bits == 0)
            return QN_OK;
        /* the slope is a little flatter than −1 bit an octave */
        double slope = i ? (bits - last_bits) / (at - last_at) : -0.95;
        slope = slope < -0.3 && slope > -1.5 ? slope : -0.95;
        last_at = at;
        last_bits = bits;
        at += (want - bits) / slope;
    }
}

/* --- a segment -------------------------------------------------------------------------------------------------- */

/* Spread of each row against its neighbours', columns scaled to one spread, in sixths of an octave. */
static void classify_rows(struct state *s, const float *w)
{
    double sum = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->rows; i++) {
        float sq = 0;
        for (uint32_t j = 0; j < s->cols; j++) {
            const float v = s->p->rms[j] > 0 ? w[(size_t)i * s->cols + j] / s->p->rms[j] : 0;
            sq += v * v;
        }
        s->x[i] = sq > 0 ? 0.5f * QN_ECT_OCTAVE * log2f(sq) : -2000;
        if (sq > 0) {
            sum += (double)s->x[i];
            n++;
        }
    }
    const float mean = n ? (float)(sum / n) : 0;
    double spread = 0;
    for (uint32_t i = 0; i < s->rows; i++)
        spread += s->x[i] > -1000 ? (double)((s->x[i] - mean) * (s->x[i] - mean)) : 0;
    spread /= n ? n : 1;
    /* Rows that are all alike differ by chance: the logarithm of a sum of m squares has variance 2/m (for normal values;
     * for tails as heavy as a Laplace density's 5/m). Only what is beyond that is worth telling. */
    const double unit = 0.5 * QN_ECT_OCTAVE * 1.442695, noise = unit * unit * (2 + 0.75 * s->p->book.shape) / s->cols;
    const float believe = spread > 1.5 * noise ? (float)((spread - noise) / spread) : 0;
    for (uint32_t i = 0; i < s->rows; i++) {
        const float c = rintf((s->x[i] - mean) * believe);
        s->row[i] = (int8_t)(c > ROW_CLASS_MAX ? ROW_CLASS_MAX : c < -ROW_CLASS_MAX ? -ROW_CLASS_MAX : c);
        s->shrink[i] = exp2f(-(float)s->row[i] / QN_ECT_OCTAVE);
    }
}

static qn_code ect_segment(const qn_quantizer *q, const qn_quant_layer *layer, const void *plan_of, const qn_quant_segment *seg,
                           void **out, qn_err *err)
{
    qn_arena *a = seg->scratch;
    const uint64_t rows = seg->rows;
    struct state *s = qn_arena_get(a, sizeof *s, 64, err);
    if (!s)
        return QN_E_MEMORY;
    *s = (struct state){.q = q, .e = q->self, .layer = layer, .p = plan_of, .rows = seg->rows, .cols = layer->cols, .scratch = a};
    s->row = qn_arena_get(a, rows, 64, err);
    s->classes = s->row ? qn_arena_get(a, rows, 64, err) : NULL;
    s->class = s->classes ? qn_arena_get(a, s->cols, 64, err) : NULL;
    s->shrink = s->class ? qn_arena_get(a, rows * sizeof *s->shrink, 64, err) : NULL;
    s->x = s->shrink ? qn_arena_get(a, rows * sizeof *s->x, 64, err) : NULL;
    s->level = s->x ? qn_arena_get(a, rows * s->cols * sizeof *s->level, 64, err) : NULL;
    s->room = s->level ? qn_arena_get(a, qn_ect_search_bytes(s->e->log2_states, s->rows), 64, err) : NULL;
    if (!s->room)
        return QN_E_MEMORY;
    classify_rows(s, seg->w);
    *out = s;
    return QN_OK;
}

/* Class of the column from the mean of |x|, rows brought to one spread. */
static int class_of(const struct state *s)
{
    double sum = 0;
    for (uint32_t i = 0; i < s->rows; i++)
        sum += (double)(fabsf(s->x[i]) * s->shrink[i]);
    const double spread = sum / s->rows / mean_abs[s->p->book.shape];
    const double c = spread > 0 ? rint(QN_ECT_OCTAVE * log2(spread / 0.4)) : 0;
    return c < 0 ? 0 : c > 200 ? 200 : (int)c;
}

static void classes_of(struct state *s, int class)
{
    const unsigned top = s->p->book.top;
    for (uint32_t i = 0; i < s->rows; i++)
        s->classes[i] = (uint8_t)qn_ect_clamp(class + s->row[i], top);
}

/* Σ (x − x̂)² + λ bits of the levels if the column were of this class. */
static double cost_in(struct state *s, const int16_t *level, int class)
{
    const qn_ect_book *b = &s->p->book;
    const uint32_t stride = s->rows / CLASS_ROWS + 1;
    double cost = 0, sum = 0;
    for (uint32_t i = 0; i < s->rows; i += stride) {
        const unsigned c = qn_ect_clamp(class + s->row[i], b->top);
        const double e = (double)(s->x[i] - qn_ect_point_of(b, c, level[i]));
        cost += e * e;
        sum += (double)qn_ect_bits_of(b, c, level[i]);
    }
    return cost + (double)b->lambda * sum;
}

static qn_code ect_column(void *state, uint32_t j, const float *t, float *recon, qn_err *err)
{
    struct state *s = state;
    const qn_ect_book *b = &s->p->book;
    const float inverse = 1 / qn_ect_step(s->p->base, s->p->q[j]), step = qn_ect_step(s->p->stored, s->p->q[j]);
    int16_t *level = s->level + (size_t)j * s->rows;
    (void)err;
    for (uint32_t i = 0; i < s->rows; i++) {
        s->x[i] = t[i] * inverse;
        s->clipped |= fabsf(s->x[i]) > QN_ECT_LEVEL_MAX - 8;
    }
    int class = class_of(s);
    for (int round = 0; round < 2; round++) {
        classes_of(s, class);
        qn_ect_search(&s->e->kern, b, s->x, s->classes, s->rows, level, s->room);
        int best = class;
        double least = cost_in(s, level, class);
        for (int c = class > 0 ? class - 1 : 0; c <= class + 1; c++) {
            const double v = c == class ? least : cost_in(s, level, c);
            if (v < least) {
                least = v;
                best = c;
            }
        }
        if (best == class)
            break;
        class = best;
        classes_of(s, class);
    }
    float bits = 0; /* a column's: few enough for f32 to count them well */
    for (uint32_t i = 0; i < s->rows; i++) {
        recon[i] = qn_ect_point_of(b, s->classes[i], level[i]) * step;
        bits += qn_ect_bits_of(b, s->classes[i], level[i]);
    }
    s->class[j] = (uint8_t)class;
    s->bits += (double)bits;
    return QN_OK;
}

static void by_rows(const struct state *s, int16_t *to)
{
    enum { T = 64 };
    for (uint32_t j0 = 0; j0 < s->cols; j0 += T)
        for (uint32_t i0 = 0; i0 < s->rows; i0 += T)
            for (uint32_t i = i0; i < s->rows && i < i0 + T; i++)
                for (uint32_t j = j0; j < s->cols && j < j0 + T; j++)
                    to[(size_t)i * s->cols + j] = s->level[(size_t)j * s->rows + i];
}

static qn_code ect_finish(void *state, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    struct state *s = state;
    *n_out = 0;
    if (s->p->trial) {
        const tally c = {s->bits + qn_quant_byte_bits((const uint8_t *)s->row, s->rows), qn_quant_byte_bits(s->p->q, s->cols) + qn_quant_byte_bits(s->class, s->cols)};
        memcpy(dst, &c, sizeof c);
        *n_out = sizeof c;
        return QN_OK;
    }
    if (s->clipped)
        return QN_OK;
    int16_t *level = qn_arena_get(s->scratch, (uint64_t)s->rows * s->cols * sizeof *level, 64, err);
    if (!level)
        return QN_E_MEMORY;
    by_rows(s, level);
    const qn_enc_ctx cx = {.ekern = &s->q->ekern, .kern = &s->q->kern, .scratch = s->scratch, .level = QN_LEVEL_DENSE};
    const qn_ect_levels l = {.rows = s->rows, .cols = s->cols, .base = s->p->stored, .q = s->p->q, .class = s->class,
                             .row = s->row, .level = level};
    return qn_ect_pack(&cx, &s->p->book, &l, dst, cap, n_out, err);
}

static const qn_quant_ops ops = {ect_begin, ect_segment, NULL, ect_column, ect_finish};

qn_code qn_quantizer_ect(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err)
{
    const uint32_t states = set->states ? set->states : DEFAULT_STATES;
    unsigned log2_states = 0;
    qn_ect_code code;
    while (log2_states < 8 && 1u << log2_states < states)
        log2_states++;
    if (1u << log2_states != states || !qn_ect_code_get(log2_states, &code))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "ect: %u states found, allowed are 1, 4, 8, 16, 32, 64, 128 and 256", states);
    if (!(set->bits >= 0.1 && set->bits <= 8))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "ect: %g bits found, allowed are 0.1 to 8", set->bits);
    ect *e = qn_arena_get(arena, sizeof *e, 64, err);
    if (!e)
        return QN_E_MEMORY;
    *e = (ect){.bits = set->bits, .gain = set->gain > 0 ? set->gain : 1, .log2_states = log2_states};
    qn_ekern_ect_init(&e->kern, q->kern.ect.cpu);
    q->ops = &ops;
    q->codec = QN_CODEC_ECT;
    q->segment_bytes = QN_CHUNK_MAX_BYTES;
    q->order_free = true;
    q->costly = true;
    q->self = e;
    return QN_OK;
}
