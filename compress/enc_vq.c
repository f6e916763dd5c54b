/* enc_vq.c: the quantizer of vectors down the columns, as centroids of small books. docs/codecs/vq.md.
 *
 * Before its first column a segment gets classes of columns by what an error in them costs (vq_rate.h), and books for these
 * (vq_books.h): first for its weights, then twice more for the targets that the engine makes of a part of its rows with the books
 * so far, since error feedback changes what has to be quantized. The vectors of a column weigh what the engine says an error in
 * it costs (L_jj²), times the square of their scale. */
#include "base/err.h"
#include "base/half.h"
#include "compress/feedback.h"
#include "compress/nest.h"
#include "compress/quant_shared.h"
#include "compress/vq_books.h"
#include <math.h>
#include <string.h>

enum { PASSES = 2,             /* trainings on targets, after the one on weights            */
       SIDE_BITS = 8,          /* what scale and class of a column come to, packed, about    */
       TRAIN_VECTORS = 64,     /* for a centroid                                            */
       TRAIN_LEAST = 1 << 14,  /* vectors                                                   */
       TRAIN_MOST = 1 << 20 }; /* weights                                                   */

/* A column that calibration never saw counts that much of a mean one. */
#define DEAD_WEIGHT 1e-4

struct vq {
    double bits;
    unsigned v;
    bool even; /* one book, scales of columns alone: what VPTQ's files hold */
};

/* Of a trial run: books to be tried, and where the targets go. An even layer's plan is one without a place for targets. */
struct trial {
    const qn_vq_books *books;
    qn_vq_capture *capture;
    const uint8_t *scale; /* (cols): codes that columns have whatever their targets are; NULL: they follow these */
    float base;
    unsigned fine;
};

struct state {
    const qn_quantizer *q;
    const qn_quant_layer *layer;
    uint32_t rows, cols, n_strips;
    unsigned v, fine;
    float base;
    const qn_vq_books *books;
    const uint8_t *fixed;   /* see trial: then strips have none   */
    qn_vq_capture *capture; /* of a trial run, else NULL     */
    uint8_t *row_scale;     /* (n_strips)                    */
    uint8_t *col_scale;     /* (cols)                        */
    uint16_t *main, *residual; /* (cols, n_strips)           */
    float *x, *rest;        /* (v, n_strips): the column at hand */
    float *inverse;         /* (n_strips): 1 / (base · scale of the strip) */
    uint16_t *at;           /* (2, n_strips) */
    qn_arena *scratch;
};

/* The code whose scale is nearest to v, 1 at least when v > 0. */
static uint8_t scale_code(double v, unsigned fine)
{
    const double c = v > 0 ? rint(255 + (fine ? 32.0 : 16.0) * log2(v)) : 0;
    return (uint8_t)(!(v > 0) ? 0 : c < 1 ? 1 : c > 255 ? 255 : c);
}

/* --- scales -------------------------------------------------------------------------------------------------------- */

/* Strips by their length relative to the longest. */
static void scale_strips(struct state *s, const float *w)
{
    double most = 0;
    if (s->fixed) {
        memset(s->row_scale, 255, s->n_strips);
        return;
    }
    for (unsigned pass = 0; pass < 2; pass++)
        for (uint32_t b = 0; b < s->n_strips; b++) {
            const size_t from = (size_t)b * s->v * s->cols, rows = s->rows - b * s->v < s->v ? s->rows - b * s->v : s->v;
            double sum = 0;
            for (size_t i = 0; i < rows * (size_t)s->cols; i++)
                sum += (double)w[from + i] * (double)w[from + i];
            sum /= (double)rows;
            if (pass)
                s->row_scale[b] = most > 0 ? scale_code(sqrt(sum / most), 0) : 0;
            else
                most = sum > most ? sum : most;
        }
}

static double relative(const struct state *s, uint32_t row)
{
    return (double)qn_vq_scale(s->row_scale[row / s->v], 0);
}

/* rms[j]: of the column's weights over their strips' scales. */
static void measure_columns(const struct state *s, const float *w, double *rms)
{
    memset(rms, 0, s->cols * sizeof *rms);
    for (uint32_t i = 0; i < s->rows; i++) {
        const double r = relative(s, i), f = r > 0 ? 1 / (r * r) : 0;
        for (uint32_t j = 0; j < s->cols; j++)
            rms[j] += (double)w[(size_t)i * s->cols + j] * (double)w[(size_t)i * s->cols + j] * f;
    }
    for (uint32_t j = 0; j < s->cols; j++)
        rms[j] = sqrt(rms[j] / s->rows);
}

/* A power of two that leaves room for twice the largest column, since feedback moves targets; fine steps when all columns are
 * within reach of them. False when the format's scales do not reach. */
static bool base_for(struct state *s, const double *rms)
{
    double most = 0, least = HUGE_VAL;
    int e = 0;
    for (uint32_t j = 0; j < s->cols; j++) {
        most = rms[j] > most ? rms[j] : most;
        least = rms[j] > 0 && rms[j] < least ? rms[j] : least;
    }
    if (most > 0)
        (void)frexp(most, &e);
    s->base = most > 0 ? ldexpf(1, e + 1) : 1;
    s->fine = most <= 16 * least;
    return s->base >= QN_VQ_BASE_MIN && s->base <= QN_VQ_BASE_MAX;
}

/* --- a column ------------------------------------------------------------------------------------------------------ */

static qn_code get_state(struct state *s, unsigned v, bool codes, qn_err *err)
{
    qn_arena *a = s->scratch;
    s->v = v;
    s->n_strips = (s->rows - 1) / v + 1;
    const uint64_t groups = (uint64_t)s->n_strips * (codes ? s->cols : 1), x_bytes = (uint64_t)s->n_strips * v * sizeof *s->x;
    s->row_scale = qn_arena_get(a, s->n_strips, 64, err);
    s->col_scale = s->row_scale ? qn_arena_get(a, s->cols, 64, err) : NULL;
    s->main = s->col_scale ? qn_arena_get(a, groups * sizeof *s->main, 64, err) : NULL;
    s->residual = s->main ? qn_arena_get(a, groups * sizeof *s->residual, 64, err) : NULL;
    s->x = s->residual ? qn_arena_get(a, x_bytes, 64, err) : NULL;
    s->rest = s->x ? qn_arena_get(a, x_bytes, 64, err) : NULL;
    s->inverse = s->rest ? qn_arena_get(a, s->n_strips * sizeof *s->inverse, 64, err) : NULL;
    s->at = s->inverse ? qn_arena_get(a, 2u * s->n_strips * sizeof *s->at, 64, err) : NULL;
    if (!s->at)
        return QN_E_MEMORY;
    memset(s->col_scale, 0, s->cols);
    return QN_OK;
}

static void invert_strips(struct state *s)
{
    for (uint32_t b = 0; b < s->n_strips; b++) {
        const float r = s->base * qn_vq_scale(s->row_scale[b], 0);
        s->inverse[b] = r > 0 ? 1 / r : 0;
    }
}

/* Coordinates of t in units of the strips' scales; returns their root mean square. */
static double to_strips(const struct state *s, const float *t)
{
    double sum = 0;
    for (uint32_t b = 0; b < s->n_strips; b++)
        for (unsigned d = 0; d < s->v; d++) {
            const uint32_t i = b * s->v + d;
            const float x = i < s->rows ? t[i] * s->inverse[b] : 0;
            s->x[(size_t)d * s->n_strips + b] = x;
            sum += (double)x * (double)x;
        }
    return sqrt(sum / s->rows);
}

/* Nearest centroids of s->x / scale → main, residual. Returns Σ |x − scale q|² over strips' own weights; *xq, *qq: Σ x q and Σ q². */
static double assign(struct state *s, const qn_vq_class *k, double scale, uint16_t *main, uint16_t *residual, double *xq, double *qq)
{
    const size_t n = s->n_strips;
    const qn_vq_book first = {s->v, 1u << k->bits.main, k->main, k->main_half};
    const float inverse = (float)(1 / scale);
    double error = 0;
    for (size_t i = 0; i < n * s->v; i++)
        s->rest[i] = s->x[i] * inverse;
    s->q->ekern.vq.nearest(&first, s->rest, n, n, main);
    if (k->bits.residual) {
        const qn_vq_book second = {s->v, 1u << k->bits.residual, k->residual, k->residual_half};
        for (unsigned d = 0; d < s->v; d++)
            for (size_t b = 0; b < n; b++)
                s->rest[d * n + b] -= k->main[(size_t)main[b] * s->v + d];
        s->q->ekern.vq.nearest(&second, s->rest, n, n, residual);
    }
    *xq = *qq = 0;
    for (size_t b = 0; b < n; b++) {
        const double r = (double)qn_vq_scale(s->row_scale[b], 0);
        double e2 = 0, a = 0, c = 0;
        for (unsigned d = 0; d < s->v; d++) {
            const double x = (double)s->x[d * n + b];
            double q = (double)k->main[(size_t)main[b] * s->v + d];
            q += k->bits.residual ? (double)k->residual[(size_t)residual[b] * s->v + d] : 0;
            e2 += (x - scale * q) * (x - scale * q);
            a += x * q;
            c += q * q;
        }
        error += r * r * e2;
        *xq += r * r * a;
        *qq += r * r * c;
    }
    return error;
}

static void decode_column(const struct state *s, const qn_vq_class *k, const uint16_t *main, const uint16_t *residual, uint8_t code,
                          float *recon)
{
    const float col = qn_vq_scale(code, s->fine);
    for (uint32_t i = 0; i < s->rows; i++) {
        const uint32_t b = i / s->v, d = i % s->v;
        float c = k->main[(size_t)main[b] * s->v + d];
        if (k->bits.residual)
            c += k->residual[(size_t)residual[b] * s->v + d];
        recon[i] = c * qn_vq_factor(s->base, qn_vq_scale(s->row_scale[b], 0), col);
    }
}

/* The vectors of column j, for training. */
static void keep(struct state *s, uint32_t j, double rms)
{
    const unsigned k = s->books->of[j];
    qn_vq_capture *c = s->capture;
    const double w = s->layer->weight ? s->layer->weight[j] : 1;
    const size_t at = c->n[k], n = s->rows / s->v; /* whole vectors only */
    if (!s->books->cls[k].bits.main || !(rms > 0))
        return;
    for (unsigned d = 0; d < s->v; d++)
        for (size_t b = 0; b < n; b++)
            c->x[k][d * c->room[k] + at + b] = s->x[d * s->n_strips + b] * (float)(1 / rms);
    for (size_t b = 0; b < n; b++) {
        const double r = (double)qn_vq_scale(s->row_scale[b], 0) * rms;
        c->weight[k][at + b] = (float)(w * r * r);
    }
    c->n[k] += n;
}

static qn_code vq_column(void *state, uint32_t j, const float *t, float *recon, qn_err *err)
{
    struct state *s = state;
    (void)err;
    if (!s->books) {
        memset(recon, 0, s->rows * sizeof *recon);
        return QN_OK;
    }
    const qn_vq_class *k = s->books->cls + s->books->of[j];
    const size_t n = s->n_strips;
    uint16_t *main = s->main + (s->capture ? 0 : j * n), *residual = s->residual + (s->capture ? 0 : j * n);
    const double found = to_strips(s, t), rms = s->fixed ? (double)qn_vq_scale(s->fixed[j], s->fine) : found;
    uint8_t code = s->fixed ? s->fixed[j] : k->bits.main ? scale_code(rms, s->fine) : 0;
    s->col_scale[j] = code;
    if (s->capture)
        keep(s, j, rms);
    if (code == 0) {
        memset(main, 0, n * sizeof *main);
        memset(residual, 0, n * sizeof *residual);
        memset(recon, 0, s->rows * sizeof *recon);
        return QN_OK;
    }
    double xq, qq;
    const double error = assign(s, k, (double)qn_vq_scale(code, s->fine), main, residual, &xq, &qq);
    const uint8_t other = qq > 0 && xq > 0 ? scale_code(xq / qq, s->fine) : code;
    if (other != code && !s->fixed) { /* once more with the scale that suits these centroids best */
        uint16_t *main2 = s->at, *residual2 = s->at + n;
        if (assign(s, k, (double)qn_vq_scale(other, s->fine), main2, residual2, &xq, &qq) < error) {
            memcpy(main, main2, n * sizeof *main);
            if (k->bits.residual)
                memcpy(residual, residual2, n * sizeof *residual);
            code = other;
        }
    }
    s->col_scale[j] = code;
    decode_column(s, k, main, residual, code, recon);
    return QN_OK;
}

/* --- before the columns -------------------------------------------------------------------------------------------- */

/* Strips of v rows from all over the segment, so that there are `rows` of them. */
static const float *some_rows(const struct state *s, const float *w, uint32_t rows, qn_arena *a, qn_err *err)
{
    if (rows >= s->rows)
        return w;
    float *some = qn_arena_get(a, (uint64_t)rows * s->cols * sizeof *some, 64, err);
    const uint32_t n = rows / s->v, of = s->rows / s->v;
    for (uint32_t i = 0; some && i < n; i++)
        memcpy(some + (size_t)i * s->v * s->cols, w + (size_t)((uint64_t)i * of / n) * s->v * s->cols,
               (size_t)s->v * s->cols * sizeof *some);
    return some;
}

static uint32_t rows_to_train(const struct state *s, const qn_vq_books *b)
{
    uint64_t need = 0;
    for (unsigned k = 0; k < b->n_classes; k++) {
        const qn_vq_class *c = b->cls + k;
        const unsigned most = c->bits.main > c->bits.residual ? c->bits.main : c->bits.residual;
        const uint64_t vectors = qn_max_u64(TRAIN_LEAST, (uint64_t)TRAIN_VECTORS << most);
        if (most)
            need = qn_max_u64(need, qn_ceil_div(vectors, c->n_cols));
    }
    need = qn_max_u64(1, qn_min_u64(need, TRAIN_MOST / ((uint64_t)s->v * s->cols))) * s->v;
    return need < s->rows ? (uint32_t)need : s->rows;
}

/* Targets of these rows when the engine quantizes them with the books so far. */
static qn_code run_engine(struct state *s, const qn_vq_books *b, qn_vq_capture *c, const float *w, uint32_t rows, qn_err *err)
{
    const qn_arena_mark mark = qn_arena_tell(s->scratch);
    const struct trial t = {.books = b, .capture = c, .scale = s->fixed, .base = s->base, .fine = s->fine};
    const qn_feedback_job job = {.q = s->q, .layer = s->layer, .plan = &t, .ldl = s->layer->ldl, .rows = rows, .w = w};
    uint8_t payload[1];
    size_t n_out;
    qn_feedback_loss loss;
    float *recon = qn_arena_get(s->scratch, (uint64_t)rows * s->cols * sizeof *recon, 64, err);
    if (!recon)
        return QN_E_MEMORY;
    memset(c->n, 0, sizeof c->n);
    QN_TRY(qn_feedback_segment(&job, recon, payload, sizeof payload, &n_out, &loss, s->scratch, err));
    qn_arena_rewind(s->scratch, mark);
    return QN_OK;
}

/* The weights themselves as targets. */
static qn_code take_weights(struct state *s, const qn_vq_books *b, qn_vq_capture *c, const float *w, uint32_t rows, qn_err *err)
{
    const qn_arena_mark mark = qn_arena_tell(s->scratch);
    struct state part = {.q = s->q, .layer = s->layer, .rows = rows, .cols = s->cols, .books = b, .fixed = s->fixed, .capture = c,
                         .base = s->base, .fine = s->fine, .scratch = s->scratch};
    float *t = qn_arena_get(s->scratch, rows * sizeof *t, 64, err);
    if (!t)
        return QN_E_MEMORY;
    QN_TRY(get_state(&part, s->v, false, err));
    scale_strips(&part, w);
    invert_strips(&part);
    memset(c->n, 0, sizeof c->n);
    for (uint32_t j = 0; j < s->cols; j++) {
        for (uint32_t i = 0; i < rows; i++)
            t[i] = w[(size_t)i * s->cols + j];
        const double rms = to_strips(&part, t);
        keep(&part, j, s->fixed ? (double)qn_vq_scale(s->fixed[j], s->fine) : rms);
    }
    qn_arena_rewind(s->scratch, mark);
    return QN_OK;
}

static qn_code make_books(struct state *s, qn_vq_books *b, const qn_vq_bits *choice, uint32_t stored, const float *w,
                          uint32_t *constant_too, qn_err *err)
{
    qn_arena *a = s->scratch;
    QN_TRY(qn_vq_books_make(b, s->v, choice, s->cols, a, err));
    for (unsigned k = 0; k < b->n_classes; k++)
        b->cls[k].stored |= stored >> b->cls[k].bits.main & 1;
    const qn_arena_mark mark = qn_arena_tell(a);
    const uint32_t rows = rows_to_train(s, b);
    const float *some = some_rows(s, w, rows, a, err);
    qn_vq_capture c;
    if (!some)
        return QN_E_MEMORY;
    const double whole = (double)s->rows / rows;
    QN_TRY(qn_vq_capture_make(&c, b, rows / s->v, a, err));
    QN_TRY(take_weights(s, b, &c, some, rows, err));
    QN_TRY(qn_vq_books_train(b, &c, &s->q->ekern.vq, whole, constant_too, a, err));
    bool trained = false;
    for (unsigned k = 0; k < b->n_classes; k++)
        trained |= b->cls[k].stored || b->cls[k].bits.residual;
    if (s->fixed)
        qn_vq_books_shorten(b);
    for (unsigned i = 0; i < PASSES && trained && !constant_too && s->layer->ldl && s->layer->ldl->feed; i++) {
        QN_TRY(run_engine(s, b, &c, some, rows, err));
        QN_TRY(qn_vq_books_train(b, &c, &s->q->ekern.vq, whole, NULL, a, err));
        if (s->fixed)
            qn_vq_books_shorten(b);
    }
    qn_arena_rewind(a, mark);
    return QN_OK;
}

/* The same as a nested payload, codec and length in front. */
static double code_bits(const uint8_t *v, uint32_t n)
{
    return 24 + qn_quant_byte_bits(v, n);
}

/* What the head, scales and classes come to, if targets are like the weights. */
static double side_bits(struct state *s, const qn_vq_books *b, const double *rms)
{
    for (uint32_t j = 0; j < s->cols; j++)
        s->col_scale[j] = b->cls[b->of[j]].bits.main ? scale_code(rms[j] / (double)s->base, s->fine) : 0;
    return 56 + 24.0 * b->n_classes + (b->n_classes > 1 ? code_bits(b->of, s->cols) : 0) + code_bits(s->col_scale, s->cols) +
           code_bits(s->row_scale, s->n_strips) + 4.0 * s->n_strips;
}

/* Classes and books: first to see for which the constant books will not do, then for good. */
static qn_code decide(struct state *s, const struct vq *set, const float *w, qn_err *err)
{
    qn_arena *a = s->scratch;
    const qn_quant_layer *l = s->layer;
    double *value = qn_arena_get(a, (uint64_t)s->cols * sizeof *value, 64, err), *rms, mean = 0;
    rms = value ? qn_arena_get(a, (uint64_t)s->cols * sizeof *rms, 64, err) : NULL;
    qn_vq_bits *choice = rms ? qn_arena_get(a, (uint64_t)s->cols * sizeof *choice, 64, err) : NULL;
    qn_vq_books *b = choice ? qn_arena_get(a, sizeof *b, 64, err) : NULL;
    if (!b)
        return QN_E_MEMORY;
    for (uint32_t j = 0; j < s->cols && l->weight; j++)
        mean += l->weight[j] / s->cols;
    QN_TRY(get_state(s, 2, false, err)); /* to measure; vectors are not known yet */
    scale_strips(s, w);
    measure_columns(s, w, rms);
    for (uint32_t j = 0; j < s->cols; j++) {
        const double weight = l->weight && mean > 0 ? l->weight[j] / mean : 1;
        value[j] = (weight > DEAD_WEIGHT ? weight : DEAD_WEIGHT) * rms[j] * rms[j];
    }
    const double many = (double)s->rows * s->cols;
    qn_vq_ask ask = {.value = value, .rows = s->rows, .cols = s->cols, .bits = set->bits - SIDE_BITS * (s->cols + s->rows / 4.0) / many,
                     .v = set->v};
    for (unsigned i = 0; i < 2; i++) {
        uint32_t stored = ask.stored;
        const unsigned v = qn_vq_choose(&ask, choice);
        QN_TRY(get_state(s, v, i == 1, err));
        scale_strips(s, w);
        measure_columns(s, w, rms);
        if (!base_for(s, rms)) {
            s->base = 0; /* finish declines */
            s->books = NULL;
            return QN_OK;
        }
        invert_strips(s);
        QN_TRY(make_books(s, b, choice, ask.stored, w, i == 0 ? &stored : NULL, err));
        ask.bits = set->bits - side_bits(s, b, rms) / many;
        ask.stored = stored;
        ask.v = v;
    }
    s->books = b;
    return QN_OK;
}

static qn_code vq_segment(const qn_quantizer *q, const qn_quant_layer *l, const void *plan, const qn_quant_segment *seg, void **out,
                          qn_err *err)
{
    const struct trial *t = plan;
    struct state *s = qn_arena_get(seg->scratch, sizeof *s, 64, err);
    if (!s)
        return QN_E_MEMORY;
    *s = (struct state){.q = q, .layer = l, .rows = seg->rows, .cols = l->cols, .scratch = seg->scratch};
    *out = s;
    if (!t)
        return decide(s, q->self, seg->w, err);
    s->books = t->books;
    s->capture = t->capture;
    s->fixed = t->scale;
    s->base = t->base;
    s->fine = t->fine;
    if (!t->books) /* nothing fits: finish declines */
        return QN_OK;
    QN_TRY(get_state(s, t->books->v, !t->capture, err));
    scale_strips(s, seg->w);
    invert_strips(s);
    return QN_OK;
}

/* Book and scales of a whole layer, from its sample. */
static qn_code begin_even(const qn_quantizer *q, const qn_quant_layer *l, qn_arena *a, struct trial *t, qn_err *err)
{
    const struct vq *set = q->self;
    struct state s = {.q = q, .layer = l, .rows = l->n_sample, .cols = l->cols, .fine = QN_VQ_SHORT, .scratch = a};
    uint8_t *scale = qn_arena_get(a, l->cols, 64, err);
    qn_vq_books *b = scale ? qn_arena_get(a, sizeof *b, 64, err) : NULL;
    qn_vq_bits *choice = b ? qn_arena_get(a, (uint64_t)l->cols * sizeof *choice, 64, err) : NULL;
    double *rms = choice ? qn_arena_get(a, (uint64_t)l->cols * sizeof *rms, 64, err) : NULL;
    if (!rms)
        return QN_E_MEMORY;
    s.fixed = scale;
    const unsigned v = qn_vq_choose_even(l->rows, l->cols, set->bits, set->v, choice);
    for (uint32_t j = 1; j < l->cols; j++)
        choice[j] = choice[0];
    QN_TRY(get_state(&s, v, false, err));
    scale_strips(&s, l->sample);
    measure_columns(&s, l->sample, rms);
    if (!base_for(&s, rms))
        return QN_OK;
    s.fine = QN_VQ_SHORT;
    for (uint32_t j = 0; j < l->cols; j++)
        scale[j] = scale_code(rms[j] / (double)s.base, s.fine);
    invert_strips(&s);
    QN_TRY(make_books(&s, b, choice, UINT32_MAX, l->sample, NULL, err));
    *t = (struct trial){.books = b, .scale = scale, .base = s.base, .fine = s.fine};
    return QN_OK;
}

static qn_code vq_begin(const qn_quantizer *q, const qn_quant_layer *l, qn_arena *arena, const void **plan, qn_err *err)
{
    const struct vq *set = q->self;
    *plan = NULL;
    if (!set->even)
        return QN_OK;
    struct trial *t = qn_arena_get(arena, sizeof *t, 64, err);
    if (!t)
        return QN_E_MEMORY;
    *t = (struct trial){0};
    *plan = t;
    return begin_even(q, l, arena, t, err);
}

/* --- the payload --------------------------------------------------------------------------------------------------- */

static void put_book(qn_sink *sink, const float *book, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t h[2];
        qn_store16(h, qn_f32_to_f16(book[i]));
        qn_sink_put(sink, h, 2);
    }
}

/* The fields of strip b: dst has room for n_bytes. */
static void put_strip(const struct state *s, uint32_t b, uint8_t *dst, size_t n_bytes)
{
    uint64_t at = 0, hold = 0; /* bits that are not yet a byte */
    size_t n = 0;
    for (uint32_t j = 0; j < s->cols; j++) {
        const qn_vq_bits k = s->books->cls[s->books->of[j]].bits;
        const size_t g = (size_t)j * s->n_strips + b;
        if (k.main == 0)
            continue;
        hold |= (uint64_t)(s->main[g] | (uint32_t)(k.residual ? s->residual[g] : 0) << k.main) << at;
        for (at += k.main + k.residual; at >= 8; at -= 8, hold >>= 8)
            dst[n++] = (uint8_t)hold;
    }
    if (n < n_bytes)
        dst[n] = (uint8_t)hold;
}

static qn_code vq_finish(void *state, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    const struct state *s = state;
    const qn_enc_ctx cx = {.ekern = &s->q->ekern, .kern = &s->q->kern, .scratch = s->scratch, .level = QN_LEVEL_DENSE};
    qn_sink sink = qn_sink_over(dst, cap);
    uint8_t base[4];
    uint64_t bits = 0;
    *n_out = s->capture != NULL;
    if (s->capture || !s->books)
        return QN_OK;
    const qn_vq_books *k = s->books;
    const qn_block per_col = {QN_U8, s->cols, s->cols}, per_strip = {QN_U8, s->n_strips, s->n_strips};
    qn_sink_u8(&sink, s->v);
    qn_sink_u8(&sink, s->fine);
    qn_store32(base, qn_f32_bits(s->base));
    qn_sink_put(&sink, base, 4);
    qn_sink_varint(&sink, k->n_classes);
    for (unsigned i = 0; i < k->n_classes; i++) {
        qn_sink_u8(&sink, k->cls[i].bits.main);
        qn_sink_u8(&sink, k->cls[i].bits.residual);
        qn_sink_u8(&sink, k->cls[i].stored ? QN_VQ_STORED : 0);
        bits += (uint64_t)k->cls[i].n_cols * (k->cls[i].bits.main + k->cls[i].bits.residual);
    }
    if (k->n_classes > 1)
        QN_TRY(qn_nest_encode(&cx, &sink, &per_col, k->of, true, err));
    QN_TRY(qn_nest_encode(&cx, &sink, &per_col, s->col_scale, true, err));
    QN_TRY(qn_nest_encode(&cx, &sink, &per_strip, s->row_scale, true, err));
    for (unsigned i = 0; i < k->n_classes; i++) {
        if (k->cls[i].stored)
            put_book(&sink, k->cls[i].main, (size_t)s->v << k->cls[i].bits.main);
        if (k->cls[i].bits.residual)
            put_book(&sink, k->cls[i].residual, (size_t)s->v << k->cls[i].bits.residual);
    }
    const size_t n_bytes = (size_t)((bits + 7) / 8);
    for (uint32_t b = 0; b < s->n_strips && !sink.full; b++) {
        if (qn_sink_left(&sink) < n_bytes) {
            sink.full = true;
            break;
        }
        put_strip(s, b, dst + sink.n, n_bytes);
        sink.n += n_bytes;
    }
    *n_out = sink.full ? 0 : sink.n;
    return QN_OK;
}

static const qn_quant_ops ops = {vq_begin, vq_segment, NULL, vq_column, vq_finish};

qn_code qn_quantizer_vq(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err)
{
    if (!(set->bits >= 0.25 && set->bits <= 8))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "vq: %g bits found, allowed are 0.25 to 8", set->bits);
    if (set->vector && !qn_vq_vector_ok(set->vector))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "vq: vectors of %u rows found, allowed are 2, 4, 6, 8, 12 and 16", set->vector);
    if (set->asymmetric || set->group)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "vq: has no zero points and no groups of columns");
    struct vq *s = qn_arena_get(arena, sizeof *s, 64, err);
    if (!s)
        return QN_E_MEMORY;
    s->bits = set->bits;
    s->v = set->vector;
    s->even = set->vptq;
    q->ops = &ops;
    q->codec = QN_CODEC_VQ;
    q->group_cols = 1;
    q->segment_bytes = QN_CHUNK_MAX_BYTES;
    q->row_multiple = set->vector ? set->vector : set->vptq ? 48 : 8; /* 48: of every length */
    q->sample_weights = set->vptq ? TRAIN_MOST : 0;
    q->order_free = true;
    q->costly = true;
    q->self = s;
    return QN_OK;
}
