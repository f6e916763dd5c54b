/* iq_point_tmpl.h: the best points for one unit of columns; part of iq_tmpl.h. */
#include "compress/blocks/iq_work.h"
#include "base/half.h"
#include <string.h>

#define MOST 1e6f /* of a target in units of the scale: beyond that the levels are all the same */

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

/* Three levels each, of four columns; writes some floats more. */
TARGET static inline void quad3(const float (*x)[8], bool least, float *t)
{
    float p[2][24];
    for (unsigned k = 0; k < 2; k++)
        for (unsigned b = 0; b < 3; b++)
            for (unsigned a = 0; a < 4; a++) {
                const float u = x[2 * k][a], v = x[2 * k + 1][b];
                p[k][3 * b + a] = least ? (u < v ? u : v) : u + v;
            }
    for (unsigned b = 0; b < 9; b++)
        for (unsigned a = 0; a < 12; a++)
            t[9 * b + a] = least ? (p[0][a] < p[1][b] ? p[0][a] : p[1][b]) : p[0][a] + p[1][b];
}

TARGET static inline void fill(const qn_iq_kind *k, const float (*x)[8], bool least, float (*t)[TABLE])
{
    if (k->values == 8) {
        quad3(x, least, t[0]);
        quad3(x + 4, least, t[1]);
    } else {
        pair8(x[0], x[1], least, t[0]);
        pair8(x[2], x[3], least, t[1]);
    }
}

/* A point's cost in the upper half, its entry in the lower: comparing these picks the cheaper one, and the first of equal ones, without a branch. */
static inline uint64_t key(float cost, unsigned entry)
{
    return (uint64_t)qn_f32_bits(cost) << 16 | entry;
}

TARGET static inline uint64_t scan(const qn_iq_index *x, const tables *t, bool odd, unsigned h, uint64_t best)
{
    const float t1 = t->cost[0][h], f1 = t->flip[0][h];
    for (unsigned e = x->begin[h]; e < x->begin[h + 1]; e++) {
        const unsigned second = x->second[e];
        float c = t1 + t->cost[1][second];
        if (odd)
            c += f1 < t->flip[1][second] ? f1 : t->flip[1][second];
        const uint64_t now = key(c, e);
        best = now < best ? now : best;
    }
    return best;
}

/* The cheapest point, if there is one below `above`; with an odd number of minuses against that of the targets when `odd`. low1, low2: the cheapest halves.
 * Exact: a first half is skipped only when it costs too much with the cheapest second half there is. */
TARGET static inline uint64_t search(const qn_iq_index *x, const tables *t, bool odd, unsigned low1, unsigned low2, float above)
{
    const float *t1 = t->cost[0], least = t->cost[1][low2];
    if (t1[low1] + least >= above)
        return key(above, 0);
    uint64_t best = scan(x, t, odd, low1, key(above, 0));
    const float limit = qn_bits_f32((uint32_t)(best >> 16));
    uint8_t some[QN_IQ_HALVES + 1];
    unsigned n = 0;
    for (unsigned h = 0; h < x->halves; h++) {
        some[n] = (uint8_t)h;
        n += t1[h] + least < limit;
    }
    for (unsigned i = 0; i < n; i++) {
        const unsigned h = some[i];
        if (h != low1 && t1[h] + least <= qn_bits_f32((uint32_t)(best >> 16)))
            best = scan(x, t, odd, h, best);
    }
    return best;
}

/* ---- units ---- */

static inline void put_part(const qn_iq_kind *k, const qn_iq_index *x, uint64_t found, bool odd, unsigned part, const float (*flip)[8],
                            unsigned signs, float shift, choice *o)
{
    const unsigned point = x->point[found & 0xffff], packed = k->grid[point], mask = (1u << k->bits) - 1, from = part * k->values;
    unsigned at = 0, s = signs >> from & ((1u << k->values) - 1);
    float least = FAR;
    for (unsigned i = 0; i < k->values; i++) {
        const unsigned l = packed >> k->bits * i & mask;
        o->c[from + i] = k->level[l] + shift;
        if (odd && flip[from + i][l] < least) {
            at = i;
            least = flip[from + i][l];
        }
    }
    s ^= (unsigned)odd << at;
    o->index[part] = (uint16_t)point;
    o->signs = (uint8_t)(o->signs | s << from);
    for (unsigned i = 0; i < k->values; i++)
        o->c[from + i] = s >> i & 1 ? -o->c[from + i] : o->c[from + i];
}

/* The choice nearest to x, where column i weighs a[i]. below: the shift. False when none costs less than `above`. */
TARGET static bool nearest(const qn_iq_kind *k, const qn_iq_index *index, const float *x, const float *a, bool below, float above, choice *out)
{
    float cost[8][8], flip[8][8];
    uint8_t low[8];
    const unsigned unit = k->unit, levels = k->values == 8 ? 4 : 8, base = k->values == 8 ? 3 : 8, half = k->values / 2;
    const bool no_signs = k->signs == QN_IQ_SHIFT;
    const float shift = !no_signs ? 0 : below ? -0.125f : 0.125f;
    unsigned signs = 0;
    for (unsigned i = 0; i < unit; i++) {
        const bool minus = !no_signs && x[i] < 0;
        const float size = minus ? -x[i] : x[i], v = size < MOST ? size : MOST;
        signs |= (unsigned)minus << i;
        unsigned at = 0;
        for (unsigned l = 0; l < levels; l++) {
            const float e = v - (k->level[l] + shift);
            cost[i][l] = a[i] * e * e;
            flip[i][l] = 4 * a[i] * v * k->level[l];
        }
        for (unsigned l = 1; l < base; l++)
            at = cost[i][l] < cost[i][at] ? l : at;
        low[i] = (uint8_t)at;
    }
    tables t;
    *out = (choice){.below = below};
    if (k->unit == k->values) {
        const bool odd = k->signs == QN_IQ_EVEN && __builtin_parity(signs);
        unsigned low1 = 0, low2 = 0;
        for (unsigned i = half; i-- > 0;) {
            low1 = low1 * base + low[i];
            low2 = low2 * base + low[half + i];
        }
        fill(k, cost, false, t.cost);
        if (odd)
            fill(k, flip, true, t.flip);
        const uint64_t found = odd ? search(index, &t, true, low1, low2, above) : search(index, &t, false, low1, low2, above);
        out->cost = qn_bits_f32((uint32_t)(found >> 16));
        put_part(k, index, found, odd, 0, flip, signs, shift, out);
        return out->cost < above;
    }
    /* Two points with eight signs: each for itself; where these would make an odd number of minuses, also with one turned, in either. */
    uint64_t found[2][2];
    const bool odd = __builtin_parity(signs);
    for (unsigned part = 0; part < 2; part++) {
        const unsigned low1 = low[4 * part] + 8u * low[4 * part + 1], low2 = low[4 * part + 2] + 8u * low[4 * part + 3];
        fill(k, cost + 4 * part, false, t.cost);
        found[part][0] = search(index, &t, false, low1, low2, above);
        if (odd) {
            fill(k, flip + 4 * part, true, t.flip);
            found[part][1] = search(index, &t, true, low1, low2, above);
        }
    }
    unsigned turn[2] = {0, 0};
    float sum[2] = {0};
    for (unsigned o = 0; o <= odd; o++)
        sum[o] = qn_bits_f32((uint32_t)(found[0][o] >> 16)) + qn_bits_f32((uint32_t)(found[1][o ^ odd] >> 16));
    if (odd)
        turn[sum[0] < sum[1]] = 1;
    out->cost = sum[turn[0]];
    for (unsigned part = 0; part < 2; part++)
        put_part(k, index, found[part][turn[part]], turn[part], part, flip, signs, 0, out);
    return out->cost < above;
}

/* δᵀ A δ − 2 δᵀ b for δ = c − p. */
TARGET static inline float exact(const float *c, const float *p, const float *b, const float *m, size_t stride, unsigned unit)
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
    for (unsigned i = 0; i < unit; i++)
        sum += d[i] * (y[i] - 2 * b[i]);
    return sum;
}

/* The shifts that are open: both, or the one of the sub-block. */
#define EACH_SIDE(side, k, below) \
    for (unsigned side = (below) > 0; side <= ((below) < 0 ? (k)->signs == QN_IQ_SHIFT : (unsigned)(below)); side++)

/* A good c for δᵀ A δ − 2 δᵀ b, δ = c − p: the nearest by A's diagonal as seen from p. That is exact for what one column changes, so that it is a step of
 * descent where p is what there is: with `better`, only c that the diagonal takes for better than p. Its cost is then that of all of A, FAR where there is none. */
TARGET static void choose(const work *w, const float *p, const float *b, const float *m, size_t stride, int below, bool better, choice *best)
{
    const qn_iq_kind *k = w->k;
    const unsigned unit = k->unit;
    float a[8], x[8], above = 0;
    *best = (choice){.cost = FAR};
    for (unsigned i = 0; i < unit; i++) {
        const float step = b[i] / (a[i] = m[i * stride + i] > w->floor ? m[i * stride + i] : w->floor);
        x[i] = p[i] + step;
        above += b[i] * step;
    }
    EACH_SIDE(side, k, below) {
        choice c;
        if (!nearest(k, w->index, x, a, side, better ? above : FAR, &c))
            continue;
        c.cost = exact(c.c, p, b, m, stride, unit);
        if (c.cost < best->cost)
            *best = c;
    }
}

/* Without off-diagonals the nearest is the best. */
TARGET static void choose_alone(const work *w, const float *p, const float *a, int below, choice *best)
{
    *best = (choice){.cost = FAR};
    EACH_SIDE(side, w->k, below) {
        choice c;
        if (nearest(w->k, w->index, p, a, side, best->cost, &c))
            *best = c;
    }
}
