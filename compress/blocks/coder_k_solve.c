/* coder_k_solve.c: scales, minima and levels of a super-block, together.
 *
 * A start: each part fitted for itself in real numbers; d and dmin such that whole multiples of them come nearest, by what a distance costs.
 * A pass: part after part in the order of visits, each with the errors of the parts before it fed in. Pairs of whole numbers (s, m) near those so
 * far are tried, each with the levels that feedback inside the part gives: the loss of a span is the sum of Σ weight (u − r)² over its parts,
 * whatever was chosen, so a part's best pair is the one whose own sum is least. After it d and dmin are fitted to what was chosen, and so on. 
 * Then turns of moves under M, all else as it is: of a part with new levels, of single levels, of d and dmin. */
#include "compress/blocks/coder_k.h"
#include "base/half.h"
#include <math.h>
#include <string.h>

#define LARGEST 3e8f /* no type reaches further: 65504 · 127 · 32 */

struct answer {
    qn_k_fields f;
    float r[QN_SPAN_MAX]; /* by column */
    double loss;
};

struct work {
    const qn_k_layout *y;
    const qn_span_metric *m;
    const qn_k_kern *kern;
    struct answer now, best;
    float t[QN_SPAN_MAX]; /* by column */
    float tv[QN_SPAN_MAX], wv[QN_SPAN_MAX], u[QN_SPAN_MAX]; /* by visit                                            */
    float feed[QN_SPAN_MAX * QN_K_WIDTH]; /* inside each part: by visit, row k what its k-th error does to those that follow in it */
    float part_m[QN_K_WIDTH * QN_K_WIDTH];
    float g[QN_SPAN_MAX], start[QN_K_WIDTH];
    qn_k_lanes lanes;
};
_Static_assert(sizeof(struct work) <= QN_K_SCRATCH_BYTES, "scratch");

static float half(uint16_t h)
{
    return qn_f16_to_f32(h);
}

/* Nearest half, finite; the least one for what would be 0. */
static uint16_t to_half(float v)
{
    const float most = 65504, size = v < 0 ? -v : v;
    uint16_t h = qn_f32_to_f16(size > most ? most : size);
    if (h == 0 && size > 0)
        h = 1;
    return (uint16_t)(v < 0 ? h | 0x8000 : h);
}

static int whole(float x, int lo, int hi)
{
    return x <= (float)lo ? lo : x >= (float)hi ? hi : (int)floorf(x + 0.5f);
}

/* --- d and dmin --------------------------------------------------------------------------------------------------------------- */

enum { STEPS = 28 };

/* The half of which whole multiples lo … hi come nearest to x, distances weighed: rank 0 the best, 1 the next, … */
static uint16_t common(const float *x, const float *weight, uint32_t n, int lo, int hi, unsigned rank)
{
    float most = 0, least = 0;
    for (uint32_t i = 0; i < n; i++) {
        most = x[i] > most ? x[i] : most;
        least = x[i] < least ? x[i] : least;
    }
    if (most == 0 && least == 0)
        return 0;
    const float size = most > -least ? most : -least;
    uint16_t at[4] = {0};
    float loss[4] = {INFINITY, INFINITY, INFINITY, INFINITY};
    for (int k = 0; k < STEPS * (lo < 0 ? 2 : 1); k++) {
        const bool flip = k >= STEPS; /* the largest meets lo */
        const float end = (float)(flip == (most > -least) ? -lo : hi), step = (float)(hi + 1) / 64;
        const uint16_t h = to_half((flip ? -size : size) / ((end > 0 ? end : 1) + step * (float)(2 - k % STEPS)));
        const float d = half(h), inv = 1 / d;
        float sum = 0;
        for (uint32_t i = 0; i < n; i++) {
            float s = x[i] * inv;
            s = s < (float)lo ? (float)lo : s > (float)hi ? (float)hi : s;
            const float off = x[i] - d * ((s + 12582912.0f) - 12582912.0f);
            sum += weight[i] * (off * off);
        }
        for (unsigned p = 0; p < 4; p++) {
            if (at[p] == h && loss[p] < INFINITY)
                break;
            if (!(sum < loss[p]))
                continue;
            memmove(at + p + 1, at + p, (3 - p) * sizeof *at);
            memmove(loss + p + 1, loss + p, (3 - p) * sizeof *loss);
            at[p] = h;
            loss[p] = sum;
            break;
        }
    }
    return at[rank] || !rank ? at[rank] : at[0];
}

/* Scale and minimum of one part from a pair of real ones. */
static void round_pair(const qn_k_layout *y, const qn_k_pair *p, float d, float dmin, int16_t *scale, uint8_t *min)
{
    *scale = (int16_t)(d == 0 ? 0 : whole(p->scale / d, y->scale_lo, y->scale_hi));
    float offset = p->offset;
    if (p->w > 0)
        offset += (d * (float)*scale - p->scale) * p->l / p->w;
    *min = (uint8_t)(dmin == 0 ? 0 : whole(offset / dmin, 0, y->min_hi));
}

/* Of all parts, from fits to each; rank: of d. */
static void choose(const qn_k_layout *y, const qn_k_pair *pair, unsigned rank, qn_k_fields *f)
{
    float x[QN_K_PARTS], weight[QN_K_PARTS];
    for (uint32_t p = 0; p < y->parts; p++) {
        x[p] = pair[p].scale;
        weight[p] = pair[p].ll;
        if (y->min_hi && pair[p].w > 0)
            weight[p] = pair[p].ll - pair[p].l * pair[p].l / pair[p].w;
    }
    f->d = common(x, weight, y->parts, y->scale_lo, y->scale_hi, rank);
    f->dmin = 0;
    const float d = half(f->d);
    for (uint32_t p = 0; p < y->parts; p++) {
        round_pair(y, &pair[p], d, 0, &f->scale[p], &f->min[p]);
        x[p] = pair[p].offset;
        weight[p] = pair[p].w;
        if (pair[p].w > 0)
            x[p] += (d * (float)f->scale[p] - pair[p].scale) * pair[p].l / pair[p].w;
        x[p] = x[p] > 0 ? x[p] : 0;
    }
    if (!y->min_hi)
        return;
    f->dmin = common(x, weight, y->parts, 0, y->min_hi, 0);
    for (uint32_t p = 0; p < y->parts; p++)
        round_pair(y, &pair[p], d, half(f->dmin), &f->scale[p], &f->min[p]);
}

/* --- a pass ----------------------------------------------------------------------------------------------------------------- */

struct best_pair {
    float loss;
    int scale, min;
    float level[QN_K_WIDTH], e[QN_K_WIDTH];
};

/* Sixteen pairs: scale0 + ds … and min0 + dm …, those out of range at its end. */
static void try_pairs(struct work *w, const qn_k_part *p, float d, float dmin, const int *scale, const int *min, struct best_pair *b)
{
    const qn_k_layout *y = w->y;
    int s[QN_K_LANES], m[QN_K_LANES];
    for (unsigned c = 0; c < QN_K_LANES; c++) {
        s[c] = scale[c] < y->scale_lo ? y->scale_lo : scale[c] > y->scale_hi ? y->scale_hi : scale[c];
        m[c] = min[c] < 0 ? 0 : min[c] > y->min_hi ? y->min_hi : min[c];
        w->lanes.scale[c] = d * (float)s[c];
        w->lanes.offset[c] = dmin * (float)m[c];
    }
    w->kern->round(y, p, &w->lanes);
    unsigned at = 0;
    for (unsigned c = 1; c < QN_K_LANES; c++)
        at = w->lanes.loss[c] < w->lanes.loss[at] ? c : at;
    if (!(w->lanes.loss[at] < b->loss))
        return;
    b->loss = w->lanes.loss[at];
    b->scale = s[at];
    b->min = m[at];
    for (uint32_t i = 0; i < p->n; i++) {
        b->level[i] = w->lanes.level[i][at];
        b->e[i] = w->lanes.e[i][at];
    }
}

/* Pairs near (scale0, min0); without minima, those of the other sign too. */
static void around(const qn_k_layout *y, int scale0, int min0, int *scale, int *min)
{
    for (int c = 0; c < QN_K_LANES; c++) {
        scale[c] = y->min_hi ? scale0 + c % 6 - 3 : c < 16 ? scale0 + c - 8 : c - 24 - scale0;
        min[c] = y->min_hi ? min0 + c / 6 - 2 : 0;
    }
}

static void search_part(struct work *w, const qn_k_part *p, float d, float dmin, int scale0, int min0, bool wide, struct best_pair *b)
{
    const qn_k_layout *y = w->y;
    int scale[QN_K_LANES], min[QN_K_LANES];
    b->loss = INFINITY;
    around(y, scale0, min0, scale, min);
    try_pairs(w, p, d, dmin, scale, min, b);
    if (wide) {
        const qn_k_pair g = w->kern->guess(y, p->n, p->u, p->weight);
        int16_t s;
        uint8_t m;
        round_pair(y, &g, d, dmin, &s, &m);
        if (s != scale0 || m != min0) {
            around(y, s, m, scale, min);
            try_pairs(w, p, d, dmin, scale, min, b);
        }
    }
    for (unsigned k = 0; y->min_hi && k < 3; k++) {
        const int s = b->scale, m = b->min;
        if (s == scale0 && m == min0)
            break;
        around(y, s, m, scale, min);
        try_pairs(w, p, d, dmin, scale, min, b);
        scale0 = s;
        min0 = m;
    }
}

/* From the whole numbers in `from`, with d and dmin as they are there; the answer in w->now. */
static void pass(struct work *w, const qn_k_fields *from, bool wide)
{
    const qn_k_layout *y = w->y;
    const qn_span_metric *m = w->m;
    const float d = half(from->d), dmin = half(from->dmin);
    double loss = 0;
    w->now.f = *from;
    memcpy(w->u, w->tv, m->n * sizeof *w->u);
    for (uint32_t v0 = 0; v0 < m->n; v0 += y->width) {
        const uint32_t k = m->order[v0] / y->width;
        const qn_k_part p = {y->width, w->tv + v0, w->u + v0, w->wv + v0, m->feed ? w->feed + (size_t)v0 * y->width : NULL};
        struct best_pair b;
        search_part(w, &p, d, dmin, from->scale[k], from->min[k], wide, &b);
        w->now.f.scale[k] = (int16_t)b.scale;
        w->now.f.min[k] = (uint8_t)b.min;
        loss += (double)b.loss;
        const float scale = d * (float)b.scale, offset = dmin * (float)b.min;
        for (uint32_t i = 0; i < y->width; i++) {
            const uint32_t j = m->order[v0 + i];
            w->now.f.level[j] = (int8_t)b.level[i];
            w->now.r[j] = scale * b.level[i] - offset;
            if (m->feed) {
                const float *feed = m->feed + (size_t)(v0 + i) * m->n;
                for (uint32_t v = v0 + y->width; v < m->n; v++)
                    w->u[v] += b.e[i] * feed[v];
            }
        }
    }
    w->now.loss = loss;
}

static bool keep(struct work *w)
{
    if (!(w->now.loss < w->best.loss))
        return false;
    w->best = w->now;
    return true;
}

/* d and dmin by least squares, all else as in f. */
static void refit(struct work *w, qn_k_fields *f)
{
    const qn_k_layout *y = w->y;
    float u[2 * QN_SPAN_MAX], work[2 * QN_SPAN_MAX], x[2] = {half(f->d), half(f->dmin)};
    const uint32_t n = w->m->n;
    for (uint32_t j = 0; j < n; j++) {
        u[j] = (float)f->scale[j / y->width] * (float)f->level[j];
        u[n + j] = -(float)f->min[j / y->width];
    }
    if (!qn_span_fit(w->m, w->t, u, y->min_hi ? 2 : 1, x, work))
        return;
    if (isfinite(x[0]))
        f->d = to_half(x[0]);
    if (y->min_hi && isfinite(x[1]))
        f->dmin = to_half(x[1]);
}

/* What f decodes to, and its loss. g is right afterwards. */
static void evaluate(struct work *w, struct answer *a)
{
    const qn_k_layout *y = w->y;
    const float d = half(a->f.d), dmin = half(a->f.dmin);
    for (uint32_t j = 0; j < w->m->n; j++)
        a->r[j] = d * (float)a->f.scale[j / y->width] * (float)a->f.level[j] - dmin * (float)a->f.min[j / y->width];
    qn_span s = {w->m, w->t, a->r, w->g};
    qn_span_begin(&s);
    a->loss = qn_span_loss(&s);
}

/* --- moves under M ------------------------------------------------------------------------------------------------------------ */

/* One part: the best of the pairs around its own, with levels chosen again. w->g is that of w->now. */
static float move_part(struct work *w, uint32_t k, float d, float dmin)
{
    const qn_k_layout *y = w->y;
    const qn_span_metric *m = w->m;
    const uint32_t n = y->width, j0 = k * n;
    qn_k_fields *f = &w->now.f;
    int scale[QN_K_LANES], min[QN_K_LANES];
    for (uint32_t i = 0; i < n; i++) {
        w->start[i] = (float)f->level[j0 + i];
        memcpy(w->part_m + (size_t)i * n, m->m + (size_t)(j0 + i) * m->n + j0, n * sizeof *w->part_m);
    }
    around(y, f->scale[k], f->min[k], scale, min);
    for (unsigned c = 0; c < QN_K_LANES; c++) {
        scale[c] = scale[c] < y->scale_lo ? y->scale_lo : scale[c] > y->scale_hi ? y->scale_hi : scale[c];
        min[c] = min[c] < 0 ? 0 : min[c] > y->min_hi ? y->min_hi : min[c];
        w->lanes.scale[c] = d * (float)scale[c];
        w->lanes.offset[c] = dmin * (float)min[c];
    }
    const qn_k_block b = {n, w->part_m, w->g + j0, w->now.r + j0, w->start};
    w->kern->move(y, &b, 2, &w->lanes);
    unsigned at = 0;
    for (unsigned c = 1; c < QN_K_LANES; c++)
        at = w->lanes.loss[c] < w->lanes.loss[at] ? c : at;
    if (!(w->lanes.loss[at] < 0))
        return 0;
    f->scale[k] = (int16_t)scale[at];
    f->min[k] = (uint8_t)min[at];
    qn_span s = {m, w->t, w->now.r, w->g};
    for (uint32_t i = 0; i < n; i++) {
        const float level = w->lanes.level[i][at];
        f->level[j0 + i] = (int8_t)level;
        qn_span_put(&s, j0 + i, w->lanes.scale[at] * level - w->lanes.offset[at]);
    }
    return w->lanes.loss[at];
}

static void polish(struct work *w, unsigned turns)
{
    const qn_k_layout *y = w->y;
    w->now = w->best;
    evaluate(w, &w->now);
    w->best.loss = w->now.loss;
    for (unsigned turn = 0; turn < turns; turn++) {
        const float d = half(w->now.f.d), dmin = half(w->now.f.dmin);
        float gain = 0;
        for (uint32_t v = 0; v < w->m->n; v += y->width)
            gain += move_part(w, w->m->order[v] / y->width, d, dmin);
        refit(w, &w->now.f);
        evaluate(w, &w->now);
        if (!keep(w) || (double)-gain < 1e-3 * w->best.loss)
            break;
    }
}

/* --- all of it -------------------------------------------------------------------------------------------------------------- */

static void prepare(struct work *w, const qn_k_layout *y, const qn_span_metric *m, const float *t)
{
    w->y = y;
    w->m = m;
    w->kern = qn_k_kern_for(0);
    for (uint32_t j = 0; j < m->n; j++)
        w->t[j] = t[j] > LARGEST ? LARGEST : t[j] < -LARGEST ? -LARGEST : t[j];
    for (uint32_t v = 0; v < m->n; v++) {
        w->tv[v] = w->t[m->order[v]];
        w->wv[v] = m->weight[m->order[v]];
    }
    for (uint32_t v0 = 0; m->feed && v0 < m->n; v0 += y->width)
        for (uint32_t i = 0; i < y->width; i++)
            for (uint32_t k = 0; k < i; k++)
                w->feed[(size_t)(v0 + k) * y->width + i] = m->feed[(size_t)(v0 + k) * m->n + v0 + i];
}

void qn_k_solve(const qn_k_layout *y, const qn_span_metric *m, const float *t, qn_k_fields *f, float *r, void *scratch)
{
    struct work *w = scratch;
    qn_k_pair pair[QN_K_PARTS];
    prepare(w, y, m, t);
    for (uint32_t v0 = 0; v0 < m->n; v0 += y->width)
        pair[m->order[v0] / y->width] = w->kern->guess(y, y->width, w->tv + v0, w->wv + v0);
    w->best.loss = INFINITY;
    qn_k_fields from = {0};
    for (unsigned rank = 0; rank < 3; rank++) {
        choose(y, pair, rank, &from);
        pass(w, &from, true);
        keep(w);
    }
    for (unsigned turn = 0; turn < 3; turn++) {
        from = w->best.f;
        refit(w, &from);
        pass(w, &from, false);
        if (!keep(w))
            break;
    }
    if (m->m)
        polish(w, 3);
    *f = w->best.f;
    memcpy(r, w->best.r, m->n * sizeof *r);
}
