/* iq_tmpl.h: one super-block through the search; the same text for every step of processor. To be set: TARGET, ENCODE (the name).
 *
 * Nothing here is reduced across lanes, so the numbers do not depend on how wide they are. */
#include "compress/blocks/iq_work.h"
#include "base/half.h"
#include <math.h>
#include <string.h>

/* ---- the nearest points of a set ---- */

typedef struct hit {
    float cost;
    uint16_t first, second, point;
    bool odd;
} hit;

typedef struct tables { /* by half: what its levels cost; what the cheapest change of sign among them costs */
    float cost[2][TABLE], flip[2][TABLE];
} tables;

/* Eight levels each, of two columns: t[a + 8 b]. */
TARGET static inline void pair8(const float *x, const float *y, bool least, float *t)
{
    for (unsigned b = 0; b < 8; b++)
        for (unsigned a = 0; a < 8; a++)
            t[8 * b + a] = least ? (x[a] < y[b] ? x[a] : y[b]) : x[a] + y[b];
}

/* Three levels each, of four columns. */
TARGET static inline void quad3(const float (*x)[8], bool least, float *t)
{
    float p[2][9];
    for (unsigned k = 0; k < 2; k++)
        for (unsigned b = 0; b < 3; b++)
            for (unsigned a = 0; a < 3; a++) {
                const float u = x[2 * k][a], v = x[2 * k + 1][b];
                p[k][3 * b + a] = least ? (u < v ? u : v) : u + v;
            }
    for (unsigned b = 0; b < 9; b++)
        for (unsigned a = 0; a < 9; a++)
            t[9 * b + a] = least ? (p[0][a] < p[1][b] ? p[0][a] : p[1][b]) : p[0][a] + p[1][b];
}

TARGET static inline void fill(const qn_iq_kind *k, const float (*x)[8], bool least, float (*t)[TABLE])
{
    for (unsigned h = 0; h < 2; h++) {
        if (k->values == 8) {
            quad3(x + 4 * h, least, t[h]);
            for (unsigned i = 81; i < TABLE; i++)
                t[h][i] = FAR;
        } else {
            pair8(x[2 * h], x[2 * h + 1], least, t[h]);
            for (unsigned i = 64; i < TABLE; i++)
                t[h][i] = FAR;
        }
    }
}

TARGET static inline float least_of(const float *t)
{
    float m[8];
    for (unsigned l = 0; l < 8; l++)
        m[l] = t[l];
    for (unsigned i = 8; i < TABLE; i += 8)
        for (unsigned l = 0; l < 8; l++)
            m[l] = t[i + l] < m[l] ? t[i + l] : m[l];
    for (unsigned s = 4; s; s /= 2)
        for (unsigned l = 0; l < s; l++)
            m[l] = m[l + s] < m[l] ? m[l + s] : m[l];
    return m[0];
}

/* The `keep` cheapest points, cheapest first; with an odd number of minuses against that of the targets when `odd`. Exact: a first half is skipped
 * only when it costs too much with the cheapest second half there is. */
TARGET static unsigned search(const qn_iq_index *x, const tables *t, bool odd, unsigned keep, hit *out)
{
    const float *t1 = t->cost[0], *t2 = t->cost[1], *f1 = t->flip[0], *f2 = t->flip[1];
    const float low1 = least_of(t1), low2 = least_of(t2);
    float limit = FAR;
    unsigned n = 0, h0 = 0;
    while (t1[h0] > low1)
        h0++;
    for (unsigned k = 0; k <= x->halves; k++) {
        const unsigned h = k ? k - 1 : h0;
        if (t1[h] + low2 >= limit || (k && h == h0))
            continue;
        for (unsigned e = x->begin[h]; e < x->begin[h + 1]; e++) {
            const unsigned second = x->entry[e].second;
            float c = t1[h] + t2[second];
            if (odd)
                c += f1[h] < f2[second] ? f1[h] : f2[second];
            if (c >= limit)
                continue;
            unsigned at = n < keep ? n++ : keep - 1;
            for (; at > 0 && out[at - 1].cost > c; at--)
                out[at] = out[at - 1];
            out[at] = (hit){.cost = c, .first = (uint16_t)h, .second = (uint16_t)second, .point = x->entry[e].point, .odd = odd};
            if (n == keep)
                limit = out[keep - 1].cost;
        }
    }
    return n;
}

/* ---- units ---- */

static void put_part(const qn_iq_kind *k, const hit *h, unsigned part, const float (*flip)[8], unsigned signs, float shift, choice *o)
{
    const unsigned packed = k->grid[h->point], mask = (1u << k->bits) - 1, from = part * k->values;
    unsigned least = 0, at = 0;
    for (unsigned i = 0; i < k->values; i++) {
        const unsigned l = packed >> k->bits * i & mask;
        o->c[from + i] = k->level[l] + shift;
        if (h->odd && (i == 0 || flip[from + i][l] < flip[from + at][least])) {
            at = i;
            least = l;
        }
    }
    if (k->signs == QN_IQ_SHIFT) {
        o->index[part] = h->point;
        return;
    }
    unsigned s = signs >> from & ((1u << k->values) - 1);
    if (h->odd)
        s ^= 1u << at;
    for (unsigned i = 0; i < k->values; i++)
        if (s >> i & 1)
            o->c[from + i] = -o->c[from + i];
    o->index[part] = h->point;
    o->signs = (uint8_t)(o->signs | s << from);
}

/* The `keep` (at most KEEP) choices nearest to x, where column i weighs a[i]; cheapest first. below: the shift. */
TARGET static unsigned nearest(const qn_iq_kind *k, const qn_iq_index *index, const float *x, const float *a, bool below, unsigned keep, choice *out)
{
    float cost[8][8], flip[8][8];
    const unsigned unit = k->unit, levels = k->values == 8 ? 3 : 8;
    const float shift = k->signs != QN_IQ_SHIFT ? 0 : below ? -0.125f : 0.125f;
    unsigned signs = 0;
    for (unsigned i = 0; i < unit; i++) {
        const bool minus = k->signs != QN_IQ_SHIFT && x[i] < 0;
        const float v = minus ? -x[i] : x[i];
        signs |= (unsigned)minus << i;
        for (unsigned l = 0; l < levels; l++) {
            const float e = v - (k->level[l] + shift);
            cost[i][l] = a[i] * e * e;
            flip[i][l] = 4 * a[i] * v * k->level[l];
        }
    }
    tables t;
    if (k->unit == k->values) {
        const bool odd = k->signs == QN_IQ_EVEN && __builtin_parity(signs);
        hit h[KEEP];
        fill(k, cost, false, t.cost);
        if (odd)
            fill(k, flip, true, t.flip);
        const unsigned n = search(index, &t, odd, keep, h);
        for (unsigned i = 0; i < n; i++) {
            out[i] = (choice){.cost = h[i].cost, .below = below};
            put_part(k, &h[i], 0, flip, signs, shift, &out[i]);
        }
        return n;
    }
    /* Two points with eight signs: each with both parities, then the pairs. */
    hit h[2][2][2];
    const bool odd = __builtin_parity(signs);
    const unsigned each = keep > 1 ? 2 : 1;
    for (unsigned part = 0; part < 2; part++) {
        fill(k, cost + 4 * part, false, t.cost);
        fill(k, flip + 4 * part, true, t.flip);
        for (unsigned o = 0; o < 2; o++)
            search(index, &t, o, each, h[part][o]);
    }
    struct {
        float cost;
        uint8_t a, b, o;
    } pair[KEEP];
    unsigned n = 0;
    for (unsigned o = 0; o < 2; o++)
        for (unsigned b = 0; b < each; b++)
            for (unsigned c = 0; c < each; c++) {
                const float sum = h[0][o][b].cost + h[1][o ^ odd][c].cost;
                if (n == keep && sum >= pair[n - 1].cost)
                    continue;
                unsigned at = n < keep ? n++ : keep - 1;
                for (; at > 0 && pair[at - 1].cost > sum; at--)
                    pair[at] = pair[at - 1];
                pair[at].cost = sum;
                pair[at].a = (uint8_t)b;
                pair[at].b = (uint8_t)c;
                pair[at].o = (uint8_t)o;
            }
    for (unsigned i = 0; i < n; i++) {
        out[i] = (choice){.cost = pair[i].cost};
        put_part(k, &h[0][pair[i].o][pair[i].a], 0, flip, signs, 0, &out[i]);
        put_part(k, &h[1][pair[i].o ^ odd][pair[i].b], 1, flip, signs, 0, &out[i]);
    }
    return n;
}

/* δᵀ A δ − 2 δᵀ b for δ = c − p; left: b − A δ. */
TARGET static inline float exact(const float *c, const float *p, const float *b, const float *m, size_t stride, unsigned unit, float *left)
{
    float d[8], y[8] = {0}, sum = 0;
    for (unsigned i = 0; i < unit; i++)
        d[i] = c[i] - p[i];
    if (unit == 8)
        for (unsigned j = 0; j < 8; j++)
            for (unsigned i = 0; i < 8; i++)
                y[i] += d[j] * m[j * stride + i];
    else
        for (unsigned j = 0; j < 4; j++)
            for (unsigned i = 0; i < 4; i++)
                y[i] += d[j] * m[j * stride + i];
    for (unsigned i = 0; i < unit; i++) {
        sum += d[i] * (y[i] - 2 * b[i]);
        left[i] = b[i] - y[i];
    }
    return sum;
}

/* The best c that is found for δᵀ A δ − 2 δᵀ b, δ = c − p: the nearest ones by A's diagonal as seen from p, tried with all of A, then again as seen from
 * the best of them. Its cost includes nothing of p. */
TARGET static void choose(const work *w, const float *p, const float *b, const float *m, size_t stride, int below, unsigned rounds, choice *best)
{
    const qn_iq_kind *k = w->k;
    const unsigned unit = k->unit;
    float a[8], x[8], left[KEEP][8];
    choice c[KEEP];
    best->cost = FAR;
    for (unsigned i = 0; i < unit; i++) {
        a[i] = m[i * stride + i] > w->floor ? m[i * stride + i] : w->floor;
        x[i] = p[i] + b[i] / a[i];
    }
    for (unsigned round = 0; round < rounds; round++) {
        bool better = false;
        float next[8];
        for (unsigned side = 0; side < 2; side++) {
            if (below >= 0 ? side != (unsigned)below : side == 1 && k->signs != QN_IQ_SHIFT)
                continue;
            const unsigned n = nearest(k, w->index, x, a, side, w->keep, c);
            for (unsigned i = 0; i < n; i++) {
                const float cost = exact(c[i].c, p, b, m, stride, unit, left[i]);
                if (cost >= best->cost)
                    continue;
                *best = c[i];
                best->cost = cost;
                memcpy(next, left[i], sizeof next);
                better = true;
            }
        }
        if (!better || round + 1 == rounds)
            break;
        for (unsigned i = 0; i < unit; i++)
            x[i] = best->c[i] + next[i] / a[i];
    }
}

/* Without off-diagonals the nearest is the best. */
TARGET static void choose_alone(const work *w, const float *p, const float *a, int below, choice *best)
{
    best->cost = FAR;
    for (unsigned side = 0; side < 2; side++) {
        choice c;
        if (below >= 0 ? side != (unsigned)below : side == 1 && w->k->signs != QN_IQ_SHIFT)
            continue;
        if (nearest(w->k, w->index, p, a, side, 1, &c) && c.cost < best->cost)
            *best = c;
    }
}

static void take(work *w, uint32_t j, const choice *c)
{
    const qn_iq_kind *k = w->k;
    const unsigned shift = j % 8;
    memcpy(w->c + j, c->c, k->unit * sizeof *w->c);
    for (unsigned p = 0; p < k->unit / k->values; p++)
        w->f.index[j / k->values + p] = c->index[p];
    w->f.below[j / 8] = c->below;
    w->f.signs[j / 8] = (uint8_t)((w->f.signs[j / 8] & ~(((1u << k->unit) - 1) << shift)) | (unsigned)c->signs << shift);
}

static inline float scale_of(const work *w, unsigned s)
{
    return w->d * (w->k->scale0 + w->k->scale1 * (float)s);
}

TARGET static inline void axpy(float *y, const float *x, float a, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

/* ---- one pass with feedback ---- */

/* Sub-block at column j0 with scale code s; u: targets with everything before it fed in. What it adds to the loss, FAR once that is above `limit`. The
 * choices go to o, what they decode to, to r. */
TARGET static float try_sub(work *w, uint32_t j0, const float *u, unsigned s, int below, float limit, choice *o, float *r)
{
    const qn_iq_kind *k = w->k;
    const unsigned unit = k->unit;
    const float scale = scale_of(w, s), inverse = 1 / scale, square = scale * scale;
    static const float none[8] = {0};
    float v[32], loss = 0;
    memcpy(v, u, k->sub * sizeof *v);
    for (uint32_t j = 0; j < k->sub; j += unit, o++) {
        float x[8];
        for (unsigned i = 0; i < unit; i++)
            x[i] = v[j + i] * inverse;
        if (!w->p || w->plain) {
            float a[8];
            for (unsigned i = 0; i < unit; i++) {
                const float d = w->m->diag[j0 + j + i];
                a[i] = d > w->floor ? d : w->floor;
            }
            choose_alone(w, x, a, below, o);
        } else {
            choose(w, x, none, w->p->metric + (size_t)(j0 + j) * unit, unit, below, w->rounds, o);
        }
        loss += square * o->cost;
        if (loss >= limit)
            return FAR;
        for (unsigned i = 0; i < unit; i++)
            r[j + i] = scale * o->c[i];
        if (w->p && !w->plain)
            for (unsigned i = 0; i < unit; i++)
                axpy(v + j + unit, w->p->feed + (size_t)(j0 + j + i) * QN_IQ_COLS + j0 + j + unit, w->t[j0 + j + i] - r[j + i], k->sub - j - unit);
    }
    return loss;
}

TARGET static unsigned guess(const work *w, uint32_t j0, const float *u)
{
    double sum = 0, weight = 0;
    for (uint32_t j = 0; j < w->k->sub; j++) {
        const double a = (double)(w->m->diag[j0 + j] > w->floor ? w->m->diag[j0 + j] : w->floor);
        sum += a * (double)u[j] * (double)u[j];
        weight += a;
    }
    const float s = ((float)sqrt(sum / weight) * w->k->typical / w->d - w->k->scale0) / w->k->scale1 + 0.5f;
    return s > (float)w->k->top ? w->k->top : s > 0 ? (unsigned)s : 0;
}

/* All columns, with w->d: c, r, and the fields. */
TARGET static float pass(work *w)
{
    const qn_iq_kind *k = w->k;
    const unsigned units = k->sub / k->unit;
    float fed[QN_IQ_COLS] = {0}, total = 0;
    for (uint32_t b = 0; b < QN_IQ_COLS / k->sub; b++) {
        const uint32_t j0 = b * k->sub;
        float u[32], r[2][32], best = FAR;
        choice o[2][8];
        unsigned now = 0, at = 0, side_at = 0;
        for (uint32_t j = 0; j < k->sub; j++)
            u[j] = w->t[j0 + j] + fed[j0 + j];
        const unsigned s0 = guess(w, j0, u);
        for (unsigned side = 0; side < (k->shared_shift ? 2u : 1u); side++)
            for (unsigned way = 0; way < 2; way++)
                for (unsigned s = way && s0 == 0 ? k->top + 1u : s0 - way; s <= k->top; s += way ? -1u : 1u) {
                    const float loss = try_sub(w, j0, u, s, k->shared_shift ? (int)side : -1, best, o[now], r[now]);
                    if (loss < best) {
                        best = loss;
                        at = s;
                        side_at = side;
                        now ^= 1;
                    } else if (way || s > s0) {
                        break;
                    }
                }
        (void)side_at;
        w->f.scale[b] = (uint8_t)at;
        total += best;
        for (unsigned i = 0; i < units; i++)
            take(w, j0 + i * k->unit, &o[now ^ 1][i]);
        memcpy(w->r + j0, r[now ^ 1], k->sub * sizeof *r[0]);
        if (w->p && !w->plain)
            for (uint32_t j = j0; j < j0 + k->sub; j++)
                axpy(fed + j0 + k->sub, w->p->feed + (size_t)j * QN_IQ_COLS + j0 + k->sub, w->t[j] - w->r[j], QN_IQ_COLS - j0 - k->sub);
    }
    return total;
}

/* ---- improving what there is ---- */

/* y = M x */
TARGET static void times(const work *w, const float *x, float *y)
{
    if (!w->m->m) {
        for (uint32_t j = 0; j < QN_IQ_COLS; j++)
            y[j] = w->m->weight[j] * x[j];
        return;
    }
    memset(y, 0, QN_IQ_COLS * sizeof *y);
    for (uint32_t j = 0; j < QN_IQ_COLS; j += 4) { /* four rows at a time: fewer passes over y */
        const float *m = w->m->m + (size_t)j * QN_IQ_COLS;
        for (uint32_t i = 0; i < QN_IQ_COLS; i++)
            y[i] += (x[j] * m[i] + x[j + 1] * m[QN_IQ_COLS + i]) + (x[j + 2] * m[2 * QN_IQ_COLS + i] + x[j + 3] * m[3 * QN_IQ_COLS + i]);
    }
}

static double dot(const float *a, const float *b, uint32_t n)
{
    double s[4] = {0};
    for (uint32_t i = 0; i < n; i += 4)
        for (uint32_t k = 0; k < 4; k++)
            s[k] += (double)a[i + k] * (double)b[i + k];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

static void set_d(work *w, float d)
{
    d = d > 0 ? d : 0;
    w->f.d = qn_f32_to_f16(d < 65504.0f ? d : 65504.0f);
    w->d = qn_f16_to_f32(w->f.d);
}

/* d by least squares; r and g follow. g need not be right before. */
TARGET static void fit_d(work *w)
{
    float y[QN_IQ_COLS];
    times(w, w->r, y);
    const double square = dot(w->r, y, QN_IQ_COLS), with = dot(w->r, w->mt, QN_IQ_COLS);
    float ratio = 1;
    if (square > 0 && with > 0) {
        const float before = w->d;
        set_d(w, before * (float)(with / square));
        if (w->d > 0)
            ratio = w->d / before;
        else
            set_d(w, before);
    }
    for (uint32_t j = 0; j < QN_IQ_COLS; j++) {
        w->r[j] = scale_of(w, w->f.scale[j / w->k->sub]) * w->c[j];
        w->g[j] = w->mt[j] - ratio * y[j];
    }
}

static double loss_of(const work *w)
{
    double sum = 0;
    for (uint32_t j = 0; j < QN_IQ_COLS; j++)
        sum += ((double)w->t[j] - (double)w->r[j]) * (double)w->g[j];
    return sum;
}

TARGET static void move(work *w, uint32_t j0, uint32_t n, const float *r)
{
    for (uint32_t j = 0; j < n; j++) {
        const float d = r[j] - w->r[j0 + j];
        w->r[j0 + j] = r[j];
        if (d == 0)
            continue;
        if (w->m->m)
            axpy(w->g, w->m->m + (size_t)(j0 + j) * QN_IQ_COLS, -d, QN_IQ_COLS);
        else
            w->g[j0 + j] -= w->m->weight[j0 + j] * d;
    }
}

/* Scale codes, each where the loss is least with all else as it is. */
TARGET static unsigned sweep_scales(work *w)
{
    const qn_iq_kind *k = w->k;
    unsigned moved = 0;
    for (uint32_t b = 0; b < QN_IQ_COLS / k->sub; b++) {
        const uint32_t j0 = b * k->sub;
        float y[32] = {0}, q = 0, p = 0, r[32];
        const float *m = w->m->m;
        for (uint32_t j = 0; j < k->sub; j++)
            if (m)
                axpy(y, m + (size_t)(j0 + j) * QN_IQ_COLS + j0, w->r[j0 + j], k->sub);
            else
                y[j] = w->m->weight[j0 + j] * w->r[j0 + j];
        for (uint32_t j = 0; j < k->sub; j++) {
            q += y[j] * w->r[j0 + j];
            p += w->g[j0 + j] * w->r[j0 + j];
        }
        if (!(q > 0))
            continue;
        const float now = k->scale0 + k->scale1 * (float)w->f.scale[b], want = now * (1 + p / q);
        const float at = (want - k->scale0) / k->scale1 + 0.5f;
        const unsigned s = at > (float)k->top ? k->top : at > 0 ? (unsigned)at : 0;
        const float move_by = (k->scale0 + k->scale1 * (float)s) / now - 1;
        if (s == w->f.scale[b] || move_by * (move_by * q - 2 * p) >= 0)
            continue;
        w->f.scale[b] = (uint8_t)s;
        for (uint32_t j = 0; j < k->sub; j++)
            r[j] = scale_of(w, s) * w->c[j0 + j];
        move(w, j0, k->sub, r);
        moved++;
    }
    return moved;
}

/* Units, each the best that is found with all else as it is. */
TARGET static unsigned sweep_units(work *w)
{
    const qn_iq_kind *k = w->k;
    const unsigned unit = k->unit;
    unsigned moved = 0;
    for (uint32_t j = 0; j < QN_IQ_COLS; j += unit) {
        const float scale = scale_of(w, w->f.scale[j / k->sub]), inverse = 1 / scale;
        float b[8], r[8];
        choice o;
        for (unsigned i = 0; i < unit; i++)
            b[i] = w->g[j + i] * inverse;
        choose(w, w->c + j, b, w->m->m + (size_t)j * QN_IQ_COLS + j, QN_IQ_COLS, k->shared_shift ? w->f.below[j / 8] : -1, 1, &o);
        if (!(o.cost < 0))
            continue;
        take(w, j, &o);
        for (unsigned i = 0; i < unit; i++)
            r[i] = scale * o.c[i];
        move(w, j, unit, r);
        moved++;
    }
    return moved;
}

typedef struct kept {
    double loss;
    qn_iq_fields f;
} kept;

TARGET static void keep_if_better(work *w, kept *best)
{
    const double loss = loss_of(w);
    if (loss < best->loss) {
        best->loss = loss;
        best->f = w->f;
    }
}

TARGET void ENCODE(const qn_iq_kind *k, const qn_span_metric *m, const float *t, uint8_t *block, float *r, void *scratch)
{
    work *w = scratch;
    memset(w, 0, sizeof *w);
    w->k = k;
    w->index = qn_iq_index_of(k);
    w->m = m;
    w->p = m->m ? m->prepared : NULL;
    w->t = t;
    w->keep = (unsigned)QN_IQ_TUNE(0, 4);
    w->rounds = (unsigned)QN_IQ_TUNE(1, 2);
    double diag = 0;
    float most = 0;
    for (uint32_t j = 0; j < QN_IQ_COLS; j++)
        diag += (double)m->diag[j];
    w->floor = diag > 0 ? (float)(diag * 1e-5 / QN_IQ_COLS) : 1;
    times(w, t, w->mt);
    for (uint32_t j0 = 0; j0 < QN_IQ_COLS; j0 += k->sub) {
        double sum = 0, weight = 0;
        for (uint32_t j = j0; j < j0 + k->sub; j++) {
            const double a = (double)(m->diag[j] > w->floor ? m->diag[j] : w->floor);
            sum += a * (double)t[j] * (double)t[j];
            weight += a;
        }
        const float rms = (float)sqrt(sum / weight);
        most = rms > most ? rms : most;
    }
    const float d0 = most * k->typical / (k->scale0 + k->scale1 * ((float)k->top - QN_IQ_TUNE(2, 1)));
    kept best = {.loss = INFINITY};
    set_d(w, d0);
    if (w->d > 0)
        for (unsigned start = 0; start < (unsigned)QN_IQ_TUNE(3, 2); start++) {
            pass(w);
            fit_d(w);
            keep_if_better(w, &best);
        }
    if (w->d > 0 && m->m)
        for (unsigned sweep = 0; sweep < (unsigned)QN_IQ_TUNE(4, 3); sweep++) {
            sweep_scales(w);
            const unsigned moved = sweep_units(w);
            fit_d(w);
            keep_if_better(w, &best);
            if (!moved)
                break;
        }
    /* Never worse than rounding every unit for itself. */
    if (w->d > 0 && m->m) {
        w->plain = true;
        pass(w);
        fit_d(w);
        keep_if_better(w, &best);
    }
    k->pack(&best.f, block);
    k->decode(block, r);
}
