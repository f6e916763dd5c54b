/* coder_k_solve.c: scales, minima and levels of a super-block, together.
 *
 * A start: each part fitted for itself in real numbers; d and dmin such that whole multiples of them come nearest, by what a distance costs.
 * A pass: part after part in the order of visits, each with the errors of the parts before it fed in. Pairs of whole numbers (s, m) near those so
 * far are tried, each with the levels that feedback inside the part gives: the loss of a span is the sum of Σ weight (u − r)² over its parts,
 * whatever was chosen, so a part's best pair is the one whose own sum is least. After it d and dmin are fitted to what was chosen, and so on.
 * Then turns of moves under M, all else as it is: of a part with new levels, of d and dmin. */
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

enum { PATHS = 4 };

/* The parts so far, and where they leave the others. */
struct path {
    float u[QN_SPAN_MAX]; /* by visit */
    float loss;
    int16_t scale[QN_K_PARTS];
    uint8_t min[QN_K_PARTS];
    int8_t level[QN_SPAN_MAX];
};

/* What one part of one path may become. */
struct step {
    float loss; /* of the path so far, with it */
    unsigned path;
    int scale, min;
    int8_t level[QN_K_WIDTH];
    float e[QN_K_WIDTH];
};

struct work {
    const qn_k_layout *y;
    const qn_span_metric *m;
    const qn_k_kern *kern;
    struct answer now, best;
    struct path path_room[2][PATHS], *paths;
    struct step step[PATHS];
    uint8_t rank[PATHS];
    unsigned n_steps;
    float t[QN_SPAN_MAX]; /* by column */
    float tv[QN_SPAN_MAX], wv[QN_SPAN_MAX]; /* by visit */
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

/* --- a pass ----------------------------------------------------------------------------------------------------------------- */

/* Puts what lane c is among the best, least loss first. */
static void put_step(struct work *w, const qn_k_part *p, unsigned path, float loss, int scale, int min, unsigned c, unsigned most)
{
    struct step *s = w->step;
    unsigned at = w->n_steps;
    for (unsigned i = 0; i < w->n_steps; i++)
        if (s[w->rank[i]].path == path && s[w->rank[i]].scale == scale && s[w->rank[i]].min == min)
            return;
    while (at > 0 && loss < s[w->rank[at - 1]].loss)
        at--;
    if (at == most)
        return;
    const unsigned room = w->n_steps < most ? w->n_steps++ : w->rank[most - 1];
    memmove(w->rank + at + 1, w->rank + at, (w->n_steps - 1 - at) * sizeof *w->rank);
    w->rank[at] = (uint8_t)room;
    s[room] = (struct step){.loss = loss, .path = path, .scale = scale, .min = min};
    for (uint32_t i = 0; i < p->n; i++) {
        s[room].level[i] = (int8_t)w->lanes.level[i][c];
        s[room].e[i] = w->lanes.e[i][c];
    }
}

struct best_pair {
    float loss;
    int scale, min;
};

/* All pairs of a batch, those out of range at its end; b: the best of this path so far. */
static void try_pairs(struct work *w, const qn_k_part *p, float d, float dmin, const int *scale, const int *min, unsigned path, unsigned most,
                      struct best_pair *b)
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
    const float before = w->paths[path].loss;
    for (unsigned c = 0; c < QN_K_LANES; c++) {
        if (w->lanes.loss[c] < b->loss)
            *b = (struct best_pair){w->lanes.loss[c], s[c], m[c]};
        const float loss = before + w->lanes.loss[c];
        if (w->n_steps < most || loss < w->step[w->rank[w->n_steps - 1]].loss)
            put_step(w, p, path, loss, s[c], m[c], c, most);
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

/* Pairs around the one before, or, wide, around a new fit; again around the best while that lies at the edge of what was tried. */
static void search_part(struct work *w, const qn_k_part *p, float d, float dmin, int scale0, int min0, bool wide, unsigned path, unsigned most)
{
    const qn_k_layout *y = w->y;
    int scale[QN_K_LANES], min[QN_K_LANES];
    struct best_pair b = {.loss = INFINITY};
    if (wide) {
        const qn_k_pair g = w->kern->guess(y, p->n, p->u, p->weight);
        int16_t s;
        uint8_t m;
        qn_k_round_pair(y, &g, d, dmin, &s, &m);
        scale0 = s;
        min0 = m;
    }
    for (unsigned k = 0; k < 3; k++) {
        around(y, scale0, min0, scale, min);
        try_pairs(w, p, d, dmin, scale, min, path, most, &b);
        const int ds = b.scale - scale0, dm = b.min - min0;
        if (!y->min_hi || (ds > -3 && ds < 2 && dm > -2 && dm < 2))
            break;
        scale0 = b.scale;
        min0 = b.min;
    }
}

/* Path `to` is one of the paths before, and the step. */
static void extend(struct work *w, uint32_t v0, const struct step *s, struct path *to, const struct path *from)
{
    const qn_k_layout *y = w->y;
    const qn_span_metric *m = w->m;
    const uint32_t k = m->order[v0] / y->width;
    *to = *from;
    to->loss = s->loss;
    to->scale[k] = (int16_t)s->scale;
    to->min[k] = (uint8_t)s->min;
    for (uint32_t i = 0; i < y->width; i++) {
        to->level[m->order[v0 + i]] = s->level[i];
        const uint32_t after = v0 + y->width;
        if (m->feed && after < m->n)
            (m->kern ? m->kern->add : qn_span_add_c)(to->u + after, m->feed + (size_t)(v0 + i) * m->n + after, s->e[i], m->n - after);
    }
}

/* From the whole numbers in `from`, with d and dmin as they are there, keeping the `most` best paths from part to part; the answer in w->now. */
static void pass(struct work *w, const qn_k_fields *from, bool wide, unsigned most)
{
    const qn_k_layout *y = w->y;
    const qn_span_metric *m = w->m;
    const float d = half(from->d), dmin = half(from->dmin);
    unsigned n_paths = 1;
    w->paths = w->path_room[0];
    w->paths[0].loss = 0;
    memcpy(w->paths[0].u, w->tv, m->n * sizeof *w->tv);
    for (uint32_t v0 = 0; v0 < m->n; v0 += y->width) {
        const uint32_t k = m->order[v0] / y->width;
        struct path *next = w->path_room[w->paths == w->path_room[0]];
        w->n_steps = 0;
        for (unsigned i = 0; i < n_paths; i++) {
            const qn_k_part p = {y->width, w->tv + v0, w->paths[i].u + v0, w->wv + v0, m->feed ? w->feed + (size_t)v0 * y->width : NULL};
            search_part(w, &p, d, dmin, from->scale[k], from->min[k], wide, i, most);
        }
        n_paths = w->n_steps;
        for (unsigned i = 0; i < n_paths; i++) {
            const struct step *s = &w->step[w->rank[i]];
            extend(w, v0, s, &next[i], &w->paths[s->path]);
        }
        w->paths = next;
    }
    const struct path *p = w->paths;
    w->now.f = *from;
    memcpy(w->now.f.scale, p->scale, sizeof p->scale);
    memcpy(w->now.f.min, p->min, sizeof p->min);
    memcpy(w->now.f.level, p->level, sizeof p->level);
    w->now.loss = (double)p->loss;
}

static bool keep(struct work *w)
{
    if (!(w->now.loss < w->best.loss))
        return false;
    w->best = w->now;
    return true;
}

/* r of what a says. */
static void decode(const struct work *w, struct answer *a)
{
    const qn_k_layout *y = w->y;
    const float d = half(a->f.d), dmin = half(a->f.dmin);
    for (uint32_t j = 0; j < w->m->n; j++)
        a->r[j] = d * (float)a->f.scale[j / y->width] * (float)a->f.level[j] - dmin * (float)a->f.min[j / y->width];
}

/* r, g and loss of what a says. */
static void evaluate(struct work *w, struct answer *a)
{
    decode(w, a);
    qn_span s = {w->m, w->t, a->r, w->g};
    qn_span_begin(&s);
    a->loss = qn_span_loss(&s);
}

/* d and dmin by least squares, all else as in f. x: what they were, then by how much they grew; work: M times what each of them multiplies in r.
 * False where they stay. */
static bool refit(const struct work *w, qn_k_fields *f, float x[2], float work[2 * QN_SPAN_MAX])
{
    const qn_k_layout *y = w->y;
    float u[2 * QN_SPAN_MAX], to[2];
    const uint32_t n = w->m->n;
    x[0] = to[0] = half(f->d);
    x[1] = to[1] = half(f->dmin);
    for (uint32_t j = 0; j < n; j++) {
        u[j] = (float)f->scale[j / y->width] * (float)f->level[j];
        u[n + j] = -(float)f->min[j / y->width];
    }
    if (!qn_span_fit(w->m, w->t, u, y->min_hi ? 2 : 1, to, work) || !isfinite(to[0]) || !isfinite(to[1]))
        return false;
    f->d = qn_k_to_half(to[0]);
    if (y->min_hi)
        f->dmin = qn_k_to_half(to[1]);
    x[0] = half(f->d) - x[0];
    x[1] = half(f->dmin) - x[1];
    return x[0] != 0 || x[1] != 0;
}

/* One more pass, from d and dmin fitted to the best so far. */
static bool again(struct work *w, unsigned most)
{
    qn_k_fields from = w->best.f;
    float x[2], work[2 * QN_SPAN_MAX];
    if (!refit(w, &from, x, work) && most == 1)
        return false;
    pass(w, &from, false, most);
    return keep(w);
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
    w->kern->move(y, &b, 1, &w->lanes);
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

/* d and dmin fitted, then turns over all parts, and so on until it pays no longer. */
static void polish(struct work *w, unsigned rounds, unsigned turns)
{
    const qn_k_layout *y = w->y;
    const uint32_t n = w->m->n;
    float x[2], work[2 * QN_SPAN_MAX];
    w->now = w->best;
    evaluate(w, &w->now);
    w->best.loss = w->now.loss;
    for (unsigned round = 0; round < rounds; round++) {
        const double before = w->best.loss;
        if (refit(w, &w->now.f, x, work)) {
            decode(w, &w->now);
            for (uint32_t j = 0; j < n; j++)
                w->g[j] -= x[0] * work[j] + (y->min_hi ? x[1] * work[n + j] : 0);
            const qn_span s = {w->m, w->t, w->now.r, w->g};
            w->now.loss = qn_span_loss(&s);
        }
        const float d = half(w->now.f.d), dmin = half(w->now.f.dmin);
        for (unsigned turn = 0; turn < turns; turn++) {
            float gain = 0;
            for (uint32_t v = 0; v < n; v += y->width)
                gain += move_part(w, w->m->order[v] / y->width, d, dmin);
            w->now.loss += (double)gain;
            if ((double)-gain < 2e-3 * before)
                break;
        }
        if (!keep(w) || w->best.loss > 0.998 * before)
            break;
    }
}

/* Each value for itself to the nearest level, with scales fitted to each part for itself: where nothing is worse than to feed errors back. */
static void keep_plain(struct work *w, const qn_k_pair *pair)
{
    const qn_k_layout *y = w->y;
    qn_k_choose(y, pair, 0, &w->now.f);
    const float d = half(w->now.f.d), dmin = half(w->now.f.dmin);
    for (uint32_t j = 0; j < w->m->n; j++) {
        const float scale = d * (float)w->now.f.scale[j / y->width], offset = dmin * (float)w->now.f.min[j / y->width];
        w->now.f.level[j] = (int8_t)qn_k_nearest(y, scale == 0 ? 0 : (w->t[j] + offset) / scale);
    }
    evaluate(w, &w->now);
    keep(w);
}

/* --- all of it -------------------------------------------------------------------------------------------------------------- */

static void prepare(struct work *w, const qn_k_layout *y, const qn_span_metric *m, const float *t)
{
    w->y = y;
    w->m = m;
    w->kern = m->kern ? m->kern->k : qn_k_kern_for(0);
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
    w->best.loss = (double)INFINITY;
    qn_k_fields from = {0};
    for (unsigned rank = 0; rank < (m->m ? 2 : 3); rank++) {
        qn_k_choose(y, pair, rank, &from);
        pass(w, &from, true, 1);
        keep(w);
    }
    if (m->m) {
        again(w, PATHS);
        polish(w, 2, 2);
        keep_plain(w, pair);
    } else {
        for (unsigned turn = 0; turn < 3 && again(w, 1); turn++)
            ;
    }
    decode(w, &w->best);
    *f = w->best.f;
    memcpy(r, w->best.r, m->n * sizeof *r);
}
