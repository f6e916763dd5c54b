/* levels.c: see levels.h.
 *
 * 1. Each block's scale is searched for the targets alone, weighed by what errors cost that later columns make up for: over candidate scales, codes are
 *    nearest and the least-squares scale for them follows (Σ w t l / Σ w l²), which is what counts.
 * 2. The span is rounded column by column with errors fed in, for these scales and some multiples; the least loss stays.
 * 3. Codes move one by one to where the loss is least given all others; then all scales are solved for together; then each block tries other scales, codes
 *    following, with all other blocks as they are. Again until it does not pay.
 * Whatever has the least true loss is the answer, plain rounding included. */
#include "compress/blocks/levels.h"
#include "base/half.h"
#include <math.h>
#include <string.h>

/* adding and subtracting it rounds to the nearest integer, ties to even, for |x| < 2^22 */
#define ROUNDER 12582912.0f

enum { SWEEPS = 3, ROUNDS = 3 };
#define PAYS 0.003 /* share of the loss that a round must take away to be followed by another */

struct work {
    const qn_levels *l;
    const qn_span_metric *m;
    const float *t;
    uint32_t n_blocks, block_log2;
    float w[QN_SPAN_MAX]; /* > 0 */
    float inverse[QN_LEVELS_BLOCKS];
    qn_levels_answer now, best;
    float r[QN_SPAN_MAX], g[QN_SPAN_MAX], best_r[QN_SPAN_MAX];
    double loss;
    float fit[QN_LEVELS_BLOCKS * QN_SPAN_MAX], room[QN_LEVELS_BLOCKS * QN_SPAN_MAX];
};

float qn_levels_half(float d)
{
    if (!(fabsf(d) < 65504))
        d = d < 0 ? -65504.0f : d > 0 ? 65504.0f : 0;
    return qn_f16_to_f32(qn_f32_to_f16(d));
}

/* The code whose level is nearest to x. */
static inline unsigned nearest(const qn_levels *l, float x)
{
    if (!l->level) {
        const float top = (float)(l->n - 1);
        x -= l->lo;
        x = x > 0 ? x : 0;
        x = x < top ? x : top;
        return (unsigned)((x + ROUNDER) - ROUNDER);
    }
    unsigned i = 0;
    i += x > l->mid[i + 7] ? 8 : 0;
    i += x > l->mid[i + 3] ? 4 : 0;
    i += x > l->mid[i + 1] ? 2 : 0;
    i += x > l->mid[i] ? 1 : 0;
    return i;
}

static inline float level(const qn_levels *l, unsigned code)
{
    return l->level ? l->level[code] : l->lo + (float)code;
}

static inline float decode(const qn_levels *l, unsigned code, float d, float m)
{
    const float r = level(l, code) * d;
    return l->offset ? r + m : r;
}

static float pick(void *ctx, uint32_t j, float u)
{
    struct work *k = ctx;
    const uint32_t b = j >> k->block_log2;
    const unsigned code = nearest(k->l, (u - k->now.m[b]) * k->inverse[b]);
    k->now.code[j] = (uint8_t)code;
    return decode(k->l, code, k->now.d[b], k->now.m[b]);
}

static void set_scale(struct work *k, uint32_t b, float d, float m)
{
    k->now.d[b] = d;
    k->now.m[b] = m;
    k->inverse[b] = d != 0 ? 1 / d : 0;
}

/* --- one block for itself ------------------------------------------------------------------------------------------ */

struct sums {
    double w, x, q, qq, xq; /* weighed: 1, t, level, level², t · level */
};

static struct sums sums_of(const struct work *k, uint32_t b, float d, float m)
{
    const uint32_t from = b * k->l->block, n = k->l->block;
    const float inverse = d != 0 ? 1 / d : 0;
    float x[4] = {0}, q[4] = {0}, qq[4] = {0}, xq[4] = {0}, w[4] = {0};
    for (uint32_t i = 0; i < n; i += 4)
        for (unsigned a = 0; a < 4; a++) {
            const float t = k->t[from + i + a], wi = k->w[from + i + a], v = level(k->l, nearest(k->l, (t - m) * inverse));
            w[a] += wi;
            x[a] += wi * t;
            q[a] += wi * v;
            qq[a] += wi * v * v;
            xq[a] += wi * t * v;
        }
    return (struct sums){(double)(w[0] + w[1] + w[2] + w[3]), (double)(x[0] + x[1] + x[2] + x[3]), (double)(q[0] + q[1] + q[2] + q[3]),
                         (double)(qq[0] + qq[1] + qq[2] + qq[3]), (double)(xq[0] + xq[1] + xq[2] + xq[3])};
}

/* The best scale (and minimum) for these codes, and how much of Σ w t² it takes away. */
static double solve_one(const struct work *k, const struct sums *s, double *d, double *m)
{
    *m = 0;
    if (k->l->offset) {
        const double det = s->w * s->qq - s->q * s->q;
        *d = det > 1e-9 * s->w * s->qq ? (s->w * s->xq - s->x * s->q) / det : 0;
        *m = (s->x - *d * s->q) / s->w;
        return *d * s->xq + *m * s->x;
    }
    *d = s->qq > 0 ? s->xq / s->qq : 0;
    return *d * s->xq;
}

static void search(struct work *k, uint32_t b)
{
    const qn_levels *l = k->l;
    const float *t = k->t + b * l->block;
    float lo = t[0], hi = t[0];
    for (uint32_t i = 1; i < l->block; i++) {
        lo = t[i] < lo ? t[i] : lo;
        hi = t[i] > hi ? t[i] : hi;
    }
    const float top = level(l, l->n - 1), reach = -level(l, 0) > top ? -level(l, 0) : top;
    const float span = l->offset ? (hi - lo) / top : (-lo > hi ? -lo : hi) / reach;
    double best = -1, best_d = 0, best_m = 0;
    for (unsigned c = 0; c < l->tries * (l->both ? 2 : 1) && span > 0; c++) {
        const unsigned at = c % l->tries;
        const float by = l->from + (l->to - l->from) * (float)at / (float)(l->tries > 1 ? l->tries - 1 : 1);
        float d = span * by * (c < l->tries ? 1.0f : -1.0f), m = 0;
        if (l->offset)
            m = 0.5f * (hi + lo) - 0.5f * d * top;
        if (l->next)
            d = l->scale(d);
        const struct sums s = sums_of(k, b, d, m);
        double x, y, gain = solve_one(k, &s, &x, &y);
        if (l->next) { /* there may be none near the best */
            x = (double)d;
            gain = x * (2 * s.xq - x * s.qq);
        }
        if (gain > best) {
            best = gain;
            best_d = x;
            best_m = y;
        }
    }
    if (!(span > 0) && l->offset)
        best_m = (double)lo;
    set_scale(k, b, l->scale((float)best_d), l->offset ? l->scale((float)best_m) : 0);
}

/* --- the span ------------------------------------------------------------------------------------------------------ */

static void keep(struct work *k, double loss)
{
    k->loss = loss;
    k->best = k->now;
    memcpy(k->best_r, k->r, k->m->n * sizeof *k->r);
}

static void restore(struct work *k)
{
    for (uint32_t b = 0; b < k->n_blocks; b++)
        set_scale(k, b, k->best.d[b], k->best.m[b]);
    k->now = k->best;
    memcpy(k->r, k->best_r, k->m->n * sizeof *k->r);
}

static void plain(struct work *k, qn_span *s)
{
    for (uint32_t j = 0; j < k->m->n; j++)
        k->r[j] = pick(k, j, k->t[j]);
    qn_span_begin(s);
    keep(k, qn_span_loss(s));
}

static void redecode(struct work *k)
{
    for (uint32_t j = 0; j < k->m->n; j++)
        k->r[j] = decode(k->l, k->now.code[j], k->now.d[j >> k->block_log2], k->now.m[j >> k->block_log2]);
}

/* Codes one by one to where the loss is least; pick() also notes those that are not taken, so they are read from r afterwards. */
static void descend(struct work *k, qn_span *s)
{
    (void)qn_span_descend(s, pick, k, SWEEPS);
    for (uint32_t j = 0; j < k->m->n; j++) {
        const uint32_t b = j >> k->block_log2;
        k->now.code[j] = (uint8_t)nearest(k->l, (k->r[j] - k->now.m[b]) * k->inverse[b]);
    }
}

/* All scales together, for the codes as they are. */
static void fit(struct work *k, qn_span *s)
{
    const uint32_t n = k->m->n, each = k->l->offset ? 2 : 1;
    float x[2 * QN_LEVELS_BLOCKS];
    memset(k->fit, 0, (size_t)n * k->n_blocks * each * sizeof *k->fit);
    for (uint32_t b = 0; b < k->n_blocks; b++) {
        x[b] = k->now.d[b];
        x[k->n_blocks + b] = k->now.m[b];
        for (uint32_t j = b * k->l->block; j < (b + 1) * k->l->block; j++) {
            k->fit[(size_t)b * n + j] = level(k->l, k->now.code[j]);
            if (k->l->offset)
                k->fit[(size_t)(k->n_blocks + b) * n + j] = 1;
        }
    }
    if (!qn_span_fit(k->m, k->t, k->fit, k->n_blocks * each, x, k->room))
        return;
    for (uint32_t b = 0; b < k->n_blocks; b++)
        set_scale(k, b, k->l->scale(x[b]), k->l->offset ? k->l->scale(x[k->n_blocks + b]) : 0);
    redecode(k);
    qn_span_begin(s);
}

/* Block b with another scale: codes go one after the other to where the loss is least, all else as it is. Taken when that is less. */
static bool move(struct work *k, qn_span *s, uint32_t b, float d, float m)
{
    const qn_span_metric *y = k->m;
    const uint32_t from = b * k->l->block, n = k->l->block;
    const float inverse = d != 0 ? 1 / d : 0;
    float r[QN_SPAN_MAX], g[QN_SPAN_MAX];
    uint8_t code[QN_SPAN_MAX];
    double change = 0;
    memcpy(r, k->r + from, n * sizeof *r);
    memcpy(g, k->g + from, n * sizeof *g);
    for (unsigned pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < n; i++) {
            const float own = y->diag[from + i], u = own > 0 ? r[i] + g[i] / own : k->t[from + i];
            const unsigned c = nearest(k->l, (u - m) * inverse);
            const float v = decode(k->l, c, d, m), by = v - r[i], more = by * (by * own - 2 * g[i]);
            if (pass && !(more < 0))
                continue;
            code[i] = (uint8_t)c;
            r[i] = v;
            change += (double)more;
            if (y->m)
                (y->kern ? y->kern->add : qn_span_add_c)(g, y->m + (size_t)(from + i) * y->n + from, -by, n);
            else
                g[i] -= by * own;
        }
    if (!(change < -1e-5 * k->loss))
        return false;
    set_scale(k, b, d, m);
    for (uint32_t i = 0; i < n; i++) {
        k->now.code[from + i] = code[i];
        qn_span_put(s, from + i, r[i]);
    }
    return true;
}

/* The best scale of block b for its codes, all else as it is. */
static float best_scale(struct work *k, uint32_t b)
{
    const qn_span_metric *y = k->m;
    const uint32_t from = b * k->l->block, n = k->l->block;
    float h[QN_SPAN_MAX] = {0};
    double num = 0, den = 0;
    for (uint32_t i = 0; i < n; i++) {
        const float v = level(k->l, k->now.code[from + i]);
        if (y->m)
            (y->kern ? y->kern->add : qn_span_add_c)(h, y->m + (size_t)(from + i) * y->n + from, v, n);
        else
            h[i] = y->weight[from + i] * v;
    }
    for (uint32_t i = 0; i < n; i++) {
        const double v = (double)level(k->l, k->now.code[from + i]);
        num += v * (double)k->g[from + i];
        den += v * (double)h[i];
    }
    return den > 0 ? (float)((double)k->now.d[b] + num / den) : k->now.d[b];
}

static void try_blocks(struct work *k, qn_span *s)
{
    static const float by[] = {1, 1.04f, 0.96f, 1.1f, 0.9f, 1.2f, 0.82f};
    for (uint32_t b = 0; b < k->n_blocks; b++) {
        if (k->l->next) {
            for (int up = 0; up < 2; up++)
                for (unsigned step = 0; step < 2 && move(k, s, b, k->l->next(k->now.d[b], up), 0); step++)
                    continue;
            continue;
        }
        const float d = best_scale(k, b), m = k->now.m[b], middle = k->l->offset ? 0.5f * level(k->l, k->l->n - 1) : 0;
        for (unsigned i = 0; i < k->l->moves; i++) {
            const float x = k->l->scale(d * by[i]);
            (void)move(k, s, b, x, k->l->offset ? k->l->scale(m + (d - x) * middle) : 0);
        }
    }
}

static void improve(struct work *k, qn_span *s)
{
    const float gain[] = {1, 1.06f, 0.95f};
    float d[QN_LEVELS_BLOCKS], m[QN_LEVELS_BLOCKS];
    memcpy(d, k->now.d, sizeof d);
    memcpy(m, k->now.m, sizeof m);
    for (unsigned i = 0; i < (k->l->next || k->l->offset ? 1 : 3); i++) {
        for (uint32_t b = 0; b < k->n_blocks; b++)
            set_scale(k, b, i ? k->l->scale(d[b] * gain[i]) : d[b], m[b]);
        const double loss = qn_span_feed(s, pick, k);
        if (loss < k->loss)
            keep(k, loss);
    }
    restore(k);
    qn_span_begin(s);
    for (unsigned i = 0; i < ROUNDS && k->loss > 0; i++) {
        const double before = k->loss;
        descend(k, s);
        if (!k->l->next)
            fit(k, s);
        try_blocks(k, s);
        descend(k, s);
        qn_span_begin(s); /* without the rounding of sums */
        const double loss = qn_span_loss(s);
        if (!(loss < k->loss))
            break;
        keep(k, loss);
        if (loss > before * (1 - PAYS))
            break;
    }
}

/* Nothing is fed back: blocks are on their own. */
static void alone(struct work *k)
{
    const qn_levels *l = k->l;
    for (uint32_t b = 0; b < k->n_blocks && !l->next; b++) {
        for (unsigned i = 0; i < 3; i++) {
            double d, m;
            const struct sums s = sums_of(k, b, k->now.d[b], k->now.m[b]);
            (void)solve_one(k, &s, &d, &m);
            const float x = l->scale((float)d), y = l->offset ? l->scale((float)m) : 0;
            if (x == k->now.d[b] && y == k->now.m[b])
                break;
            set_scale(k, b, x, y);
        }
    }
}

static void weigh(struct work *k)
{
    double sum = 0;
    for (uint32_t j = 0; j < k->m->n; j++)
        sum += (double)k->m->weight[j];
    const float least = sum > 0 ? (float)(1e-6 * sum / k->m->n) : 1;
    for (uint32_t j = 0; j < k->m->n; j++)
        k->w[j] = k->m->weight[j] + least;
}

void qn_levels_encode(const qn_levels *l, const qn_span_metric *m, const float *t, qn_levels_answer *a, float *r, void *scratch)
{
    struct work *k = scratch;
    k->l = l;
    k->m = m;
    k->t = t;
    k->n_blocks = m->n / l->block;
    k->block_log2 = 0;
    while (1u << k->block_log2 < l->block)
        k->block_log2++;
    qn_span s = {.m = m, .t = t, .r = k->r, .g = k->g};
    weigh(k);
    for (uint32_t b = 0; b < k->n_blocks; b++)
        search(k, b);
    if (!m->m)
        alone(k);
    plain(k, &s);
    if (m->m)
        improve(k, &s);
    *a = k->best;
    memcpy(r, k->best_r, m->n * sizeof *r);
}

_Static_assert(sizeof(struct work) <= QN_LEVELS_SCRATCH, "scratch of levels");
