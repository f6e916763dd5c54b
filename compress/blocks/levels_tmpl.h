/* levels_tmpl.h: the search of levels.h, compiled for several processors: defined before it is included are TARGET, an attribute, and ENCODE, the name of what
 * it makes.
 *
 * 1. Each block's scale is searched for the targets alone, weighed by what errors cost that later columns make up for: over candidate scales, codes are
 *    nearest and the least-squares scale for them follows (Σ w t l / Σ w l²), which is what counts.
 * 2. The span is rounded column by column with errors fed in, for these scales and some multiples; the least loss stays.
 * 3. Codes move one by one to where the loss is least given all others; then all scales are solved for together; then each block tries other scales, codes
 *    following, with all other blocks as they are. Again until it does not pay.
 * Whatever has the least true loss is the answer, plain rounding included.
 *
 * Loops over LANES columns are what compilers turn into SIMD; sums are kept by lane and added up in one order, so that all variants give the same bits. */
#include "compress/blocks/levels.h"
#include "base/half.h"
#include <math.h>
#include <string.h>

#define INLINE TARGET static inline __attribute__((always_inline))
/* adding and subtracting it rounds to the nearest integer, ties to even, for |x| < 2^22 */
#define ROUNDER 12582912.0f

enum { SWEEPS = 3, ROUNDS = 3, LANES = 16 };
#define HOPE 0.02f /* of a block that has lost more than this share of the loss after its first pass there is none */
#define PAYS 0.003 /* share of the loss that a round must take away to be followed by another */

struct work {
    const qn_levels *l;
    const qn_span_metric *m;
    const float *t;
    uint32_t n_blocks, block_log2;
    float w[QN_SPAN_MAX];   /* > 0 */
    float own[QN_SPAN_MAX]; /* 1 over the metric's diagonal, 0 for columns that were never seen */
    float inverse[QN_LEVELS_BLOCKS];
    qn_levels_answer now, best;
    float r[QN_SPAN_MAX], g[QN_SPAN_MAX], best_r[QN_SPAN_MAX];
    double loss;
    float fit[QN_LEVELS_BLOCKS * QN_SPAN_MAX], room[QN_LEVELS_BLOCKS * QN_SPAN_MAX];
};

/* The code whose level is nearest to x, as a number. */
INLINE float nearest(const qn_levels *l, float x)
{
    if (!l->level) {
        const float top = (float)(l->n - 1);
        x -= l->lo;
        x = x > 0 ? x : 0;
        x = x < top ? x : top;
        return (x + ROUNDER) - ROUNDER;
    }
    unsigned i = 0;
    i += x > l->mid[i + 7] ? 8 : 0;
    i += x > l->mid[i + 3] ? 4 : 0;
    i += x > l->mid[i + 1] ? 2 : 0;
    i += x > l->mid[i] ? 1 : 0;
    return (float)i;
}

INLINE float level(const qn_levels *l, float code)
{
    return l->level ? l->level[(unsigned)code] : l->lo + code;
}

/* The levels nearest to LANES numbers, in place. */
INLINE void nearest_levels(const qn_levels *l, float *x)
{
    if (!l->level) {
        const float lo = l->lo, hi = l->lo + (float)(l->n - 1);
        for (unsigned a = 0; a < LANES; a++) {
            float y = x[a];
            y = y > lo ? y : lo;
            y = y < hi ? y : hi;
            x[a] = (y + ROUNDER) - ROUNDER;
        }
        return;
    }
    float y[LANES];
    for (unsigned a = 0; a < LANES; a++)
        y[a] = l->level[0];
    for (unsigned k = 0; k + 1 < l->n; k++) {
        const float mid = l->mid[k], step = l->level[k + 1] - l->level[k]; /* whole numbers: sums are exact */
        for (unsigned a = 0; a < LANES; a++)
            y[a] += x[a] > mid ? step : 0;
    }
    for (unsigned a = 0; a < LANES; a++)
        x[a] = y[a];
}

/* to −= by · row */
INLINE void take(float *restrict to, const float *restrict row, float by, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += LANES)
        for (unsigned a = 0; a < LANES; a++)
            to[i + a] -= by * row[i + a];
}

INLINE float decode(const qn_levels *l, float code, float d, float m)
{
    const float r = level(l, code) * d;
    return l->offset ? r + m : r;
}

TARGET static void set_scale(struct work *k, uint32_t b, float d, float m)
{
    k->now.d[b] = d;
    k->now.m[b] = m;
    k->inverse[b] = d != 0 ? 1 / d : 0;
}

/* --- one block for itself ------------------------------------------------------------------------------------------ */

struct sums {
    double w, x, q, qq, xq; /* weighed: 1, t, level, level², t · level */
};

INLINE float total(const float *x)
{
    float y[LANES];
    for (unsigned a = 0; a < LANES; a++)
        y[a] = x[a];
    for (unsigned n = LANES / 2; n; n /= 2)
        for (unsigned a = 0; a < n; a++)
            y[a] += y[a + n];
    return y[0];
}

TARGET static struct sums sums_of(const struct work *k, uint32_t b, float d, float m)
{
    const uint32_t from = b * k->l->block, n = k->l->block;
    const float inverse = d != 0 ? 1 / d : 0;
    float x[LANES] = {0}, q[LANES] = {0}, qq[LANES] = {0}, xq[LANES] = {0}, w[LANES] = {0};
    for (uint32_t i = from; i < from + n; i += LANES) {
        float v[LANES];
        for (unsigned a = 0; a < LANES; a++)
            v[a] = (k->t[i + a] - m) * inverse;
        nearest_levels(k->l, v);
        for (unsigned a = 0; a < LANES; a++) {
            const float t = k->t[i + a], wi = k->w[i + a], wv = wi * v[a];
            w[a] += wi;
            x[a] += wi * t;
            q[a] += wv;
            qq[a] += wv * v[a];
            xq[a] += wv * t;
        }
    }
    return (struct sums){(double)total(w), (double)total(x), (double)total(q), (double)total(qq), (double)total(xq)};
}

/* The best scale (and minimum) for these codes, and how much of Σ w t² it takes away. */
TARGET static double solve_one(const struct work *k, const struct sums *s, double *d, double *m)
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

TARGET static void search(struct work *k, uint32_t b)
{
    const qn_levels *l = k->l;
    const float *t = k->t + b * l->block;
    float lo = t[0], hi = t[0];
    for (uint32_t i = 1; i < l->block; i++) {
        lo = t[i] < lo ? t[i] : lo;
        hi = t[i] > hi ? t[i] : hi;
    }
    const float top = level(l, (float)(l->n - 1)), reach = -level(l, 0) > top ? -level(l, 0) : top;
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

TARGET static void keep(struct work *k, double loss)
{
    k->loss = loss;
    k->best = k->now;
    memcpy(k->best_r, k->r, k->m->n * sizeof *k->r);
}

TARGET static void restore(struct work *k)
{
    for (uint32_t b = 0; b < k->n_blocks; b++)
        set_scale(k, b, k->best.d[b], k->best.m[b]);
    k->now = k->best;
    memcpy(k->r, k->best_r, k->m->n * sizeof *k->r);
}

/* Codes are read from r: it is exactly a level (or all levels are one). */
TARGET static void read_codes(struct work *k)
{
    for (uint32_t j = 0; j < k->m->n; j++) {
        const uint32_t b = j >> k->block_log2;
        k->now.code[j] = (uint8_t)nearest(k->l, (k->r[j] - k->now.m[b]) * k->inverse[b]);
    }
}

/* What LANES columns from j on would be for targets u: v. */
INLINE void round_lanes(const struct work *k, uint32_t j, const float *u, float *v)
{
    const uint32_t b = j >> k->block_log2;
    const float d = k->now.d[b], m = k->now.m[b], inverse = k->inverse[b];
    for (unsigned a = 0; a < LANES; a++)
        v[a] = (u[a] - m) * inverse;
    nearest_levels(k->l, v);
    for (unsigned a = 0; a < LANES; a++)
        v[a] = v[a] * d;
    if (k->l->offset)
        for (unsigned a = 0; a < LANES; a++)
            v[a] += m;
}

TARGET static void plain(struct work *k, qn_span *s)
{
    for (uint32_t j = 0; j < k->m->n; j += LANES)
        round_lanes(k, j, k->t + j, k->r + j);
    read_codes(k);
    qn_span_begin(s);
    keep(k, qn_span_loss(s));
}

/* Column after column, with errors fed in; g is not made. Returns the loss. */
TARGET static double feed(struct work *k)
{
    const qn_span_metric *m = k->m;
    float u[QN_SPAN_MAX + LANES]; /* by visit */
    double loss = 0;
    for (uint32_t v = 0; v < m->n; v++)
        u[v] = k->t[m->order[v]];
    for (uint32_t v = 0; v < m->n; v++) {
        const uint32_t j = m->order[v], b = j >> k->block_log2;
        const float code = nearest(k->l, (u[v] - k->now.m[b]) * k->inverse[b]), r = decode(k->l, code, k->now.d[b], k->now.m[b]);
        const float off = u[v] - r;
        k->now.code[j] = (uint8_t)code;
        k->r[j] = r;
        loss += (double)(m->weight[j] * off * off);
        /* from a multiple of LANES on: what was visited needs no target */
        const uint32_t next = v / LANES * LANES;
        take(u + next, m->feed + (size_t)v * m->n + next, r - k->t[j], m->n - next);
    }
    return loss;
}

/* Codes one by one to where the loss is least given all others: of LANES columns the one that gains most, until none does. Returns the moves. */
TARGET static uint32_t sweep(struct work *k, qn_span *s)
{
    const qn_span_metric *m = k->m;
    uint32_t moves = 0;
    for (uint32_t j = 0; j < m->n; j += LANES)
        for (unsigned times = 0; times < LANES; times++) {
            float u[LANES], v[LANES], change[LANES];
            for (unsigned a = 0; a < LANES; a++)
                u[a] = k->r[j + a] + k->g[j + a] * k->own[j + a];
            round_lanes(k, j, u, v);
            for (unsigned a = 0; a < LANES; a++) {
                const float d = v[a] - k->r[j + a];
                change[a] = d * (d * m->diag[j + a] - 2 * k->g[j + a]);
            }
            unsigned best = 0;
            for (unsigned a = 1; a < LANES; a++)
                best = change[a] < change[best] ? a : best;
            if (!(change[best] < 0))
                break;
            qn_span_put(s, j + best, v[best]);
            moves++;
        }
    return moves;
}

TARGET static void descend(struct work *k, qn_span *s)
{
    for (unsigned i = 0; i < SWEEPS && sweep(k, s); i++)
        continue;
    read_codes(k);
}

TARGET static void redecode(struct work *k)
{
    for (uint32_t j = 0; j < k->m->n; j++)
        k->r[j] = decode(k->l, k->now.code[j], k->now.d[j >> k->block_log2], k->now.m[j >> k->block_log2]);
}

/* All scales together, for the codes as they are. */
TARGET static void fit(struct work *k, qn_span *s)
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
TARGET static bool move(struct work *k, qn_span *s, uint32_t b, float d, float m)
{
    const qn_span_metric *y = k->m;
    const uint32_t from = b * k->l->block, n = k->l->block;
    const float inverse = d != 0 ? 1 / d : 0;
    float r[QN_SPAN_MAX], g[QN_SPAN_MAX];
    float change = 0;
    memcpy(r, k->r + from, n * sizeof *r);
    memcpy(g, k->g + from, n * sizeof *g);
    for (unsigned pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < n; i++) {
            const float u = r[i] + g[i] * k->own[from + i]; /* as it is for one that was never seen */
            const float v = decode(k->l, nearest(k->l, (u - m) * inverse), d, m), by = v - r[i], more = by * (by * y->diag[from + i] - 2 * g[i]);
            if (pass && !(more < 0))
                continue;
            r[i] = v;
            change += more;
            take(g, y->m + (size_t)(from + i) * y->n + from, by, n);
        }
        if (!(change < (pass ? -1e-5f : HOPE) * (float)k->loss))
            return false;
    }
    set_scale(k, b, d, m);
    for (uint32_t i = 0; i < n; i++)
        qn_span_put(s, from + i, r[i]);
    return true;
}

/* The best scale of block b for its codes, all else as it is. */
TARGET static float best_scale(struct work *k, uint32_t b)
{
    const qn_span_metric *y = k->m;
    const uint32_t from = b * k->l->block, n = k->l->block;
    float v[QN_SPAN_MAX], h[QN_SPAN_MAX] = {0}, num[LANES] = {0}, den[LANES] = {0};
    for (uint32_t i = 0; i < n; i++) {
        v[i] = level(k->l, k->now.code[from + i]);
        take(h, y->m + (size_t)(from + i) * y->n + from, -v[i], n);
    }
    for (uint32_t i = 0; i < n; i += LANES)
        for (unsigned a = 0; a < LANES; a++) {
            num[a] += v[i + a] * k->g[from + i + a];
            den[a] += v[i + a] * h[i + a];
        }
    const float all = total(den);
    return all > 0 ? k->now.d[b] + total(num) / all : k->now.d[b];
}

TARGET static void try_blocks(struct work *k, qn_span *s)
{
    static const float by[] = {1, 1.04f, 0.96f, 1.1f, 0.9f, 1.2f, 0.82f};
    for (uint32_t b = 0; b < k->n_blocks; b++) {
        if (k->l->next) {
            for (int up = 0; up < 2; up++)
                for (unsigned step = 0; step < 2 && move(k, s, b, k->l->next(k->now.d[b], up), 0); step++)
                    continue;
            continue;
        }
        const float d = best_scale(k, b), m = k->now.m[b], middle = k->l->offset ? 0.5f * level(k->l, (float)(k->l->n - 1)) : 0;
        for (unsigned i = 0; i < k->l->moves; i++) {
            const float x = k->l->scale(d * by[i]);
            (void)move(k, s, b, x, k->l->offset ? k->l->scale(m + (d - x) * middle) : 0);
        }
    }
}

TARGET static void improve(struct work *k, qn_span *s)
{
    const float gain[] = {1, 1.06f, 0.95f};
    float d[QN_LEVELS_BLOCKS], m[QN_LEVELS_BLOCKS];
    memcpy(d, k->now.d, sizeof d);
    memcpy(m, k->now.m, sizeof m);
    for (unsigned i = 0; i < (k->l->next || k->l->offset ? 1 : 3); i++) {
        for (uint32_t b = 0; b < k->n_blocks; b++)
            set_scale(k, b, i ? k->l->scale(d[b] * gain[i]) : d[b], m[b]);
        const double loss = feed(k);
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
        descend(k, s); /* and reads codes */
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
TARGET static void alone(struct work *k)
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

TARGET static void weigh(struct work *k)
{
    double sum = 0;
    for (uint32_t j = 0; j < k->m->n; j++)
        sum += (double)k->m->weight[j];
    const float least = sum > 0 ? (float)(1e-6 * sum / k->m->n) : 1;
    for (uint32_t j = 0; j < k->m->n; j++) {
        k->w[j] = k->m->weight[j] + least;
        k->own[j] = k->m->diag[j] > 0 ? 1 / k->m->diag[j] : 0;
    }
}

TARGET void ENCODE(const qn_levels *l, const qn_span_metric *m, const float *t, qn_levels_answer *a, float *r, void *scratch)
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
