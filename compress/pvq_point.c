/* pvq_point.c: nearest points and their indices. Comparisons are of f32 numbers made in a fixed order, so that they fall out the
 * same everywhere. */
#include "compress/pvq_point.h"
#include "runtime/pvq_codec.h"
#include <float.h>
#include <string.h>

qn_u128 qn_pvq_index(const qn_pvq_tab *t, const int16_t *y, uint32_t m, uint32_t j)
{
    bool ovf = false;
    qn_u128 r = qn_u128_of(0); /* points behind y: pvq.h */
    const qn_u128 v = qn_pvq_tab_size(t, m, j);
    for (uint32_t left = m; left > 0; left--) {
        const int v1 = y[m - left];
        const uint32_t rest = j - (uint32_t)(v1 < 0 ? -v1 : v1);
        const qn_u128 base = qn_pvq_tab_at(t, left, rest);
        r = qn_u128_add(r, base, &ovf);
        if (v1 > 0)
            r = qn_u128_add(r, qn_u128_half(qn_u128_sub(qn_pvq_tab_at(t, left, rest + 1), base)), &ovf);
        j = rest;
    }
    return qn_u128_sub(qn_u128_sub(v, r), qn_u128_of(1));
}

void qn_pvq_put(uint8_t *dst, uint64_t at, unsigned width, qn_u128 v)
{
    for (unsigned i = 0; i < width;) {
        const unsigned shift = (unsigned)((at + i) % 8);
        const uint64_t limb = i < 64 ? v.lo >> i | (i ? v.hi << (64 - i) : 0) : v.hi >> (i - 64);
        const unsigned room = 8 - shift, take = width - i < room ? width - i : room;
        dst[(at + i) / 8] |= (uint8_t)((limb & ((1u << take) - 1)) << shift);
        i += take;
    }
}

typedef struct search {
    float x[QN_PVQ_NEAREST_N]; /* |x|, zeros behind n */
    float y[QN_PVQ_NEAREST_N]; /* counts of pulses: small whole numbers */
    uint32_t n;                /* a multiple of 8     */
    float xy, yy;              /* ⟨x, y⟩, |y|²        */
} search;

/* The place where one more pulse makes ⟨x, y⟩² / |y|² largest. */
static uint32_t best_add(const search *s)
{
    float gain[QN_PVQ_NEAREST_N];
    for (uint32_t i = 0; i < s->n; i++) {
        const float a = s->xy + s->x[i];
        gain[i] = a * a / (s->yy + 2 * s->y[i] + 1);
    }
    uint32_t best = 0;
    for (uint32_t i = 1; i < s->n; i++)
        best = gain[i] > gain[best] ? i : best;
    return best;
}

static void add(search *s, uint32_t i)
{
    s->xy += s->x[i];
    s->yy += 2 * s->y[i] + 1;
    s->y[i] += 1;
}

static void take(search *s, uint32_t i)
{
    s->xy -= s->x[i];
    s->yy -= 2 * s->y[i] - 1;
    s->y[i] -= 1;
}

/* Makes the one move of a pulse that helps most; false when none does. */
static bool move_one(search *s)
{
    float best = s->xy * s->xy / s->yy * (1 + 1e-6f); /* more than rounding, so that it ends */
    uint32_t from = s->n, to = 0;
    for (uint32_t a = 0; a < s->n; a++) {
        if (s->y[a] < 1)
            continue;
        const float less_xy = s->xy - s->x[a], less_yy = s->yy - 2 * s->y[a] + 1;
        float gain[QN_PVQ_NEAREST_N], most = 0;
        for (uint32_t i = 0; i < s->n; i++) {
            const float xy = less_xy + s->x[i];
            gain[i] = xy * xy / (less_yy + 2 * s->y[i] + 1);
        }
        gain[a] = 0;
        for (uint32_t i = 0; i < s->n; i++)
            most = gain[i] > most ? gain[i] : most;
        if (most <= best)
            continue;
        best = most;
        from = a;
        for (to = 0; gain[to] < most; to++)
            ;
    }
    if (from == s->n)
        return false;
    take(s, from);
    add(s, to);
    return true;
}

float qn_pvq_nearest(const float *x, uint32_t n, uint32_t k, unsigned moves, int16_t *y)
{
    search s = {.n = (n + 7) / 8 * 8};
    float sum = 0, most = 0;
    uint32_t used = 0;
    memset(y, 0, n * sizeof *y);
    for (uint32_t i = 0; i < n; i++) {
        const float a = x[i] < 0 ? -x[i] : x[i];
        s.x[i] = a > FLT_MAX ? FLT_MAX : a > 0 ? a : 0;
        most = s.x[i] > most ? s.x[i] : most;
    }
    if (k == 0)
        return 0;
    if (!(most > 0)) {
        y[0] = (int16_t)k;
        return 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        s.x[i] /= most; /* so that squares neither overflow nor vanish */
        sum += s.x[i];
    }
    const float up = (float)k / sum;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t whole = (uint32_t)(s.x[i] * up);
        s.y[i] = (float)whole;
        used += whole;
    }
    for (uint32_t i = 0; used > k; i = (i + 1) % n) /* by rounding, at most one or two */
        if (s.y[i] > 0) {
            s.y[i] -= 1;
            used--;
        }
    for (uint32_t i = 0; i < n; i++) {
        s.xy += s.x[i] * s.y[i];
        s.yy += s.y[i] * s.y[i];
    }
    for (; used < k; used++)
        add(&s, best_add(&s));
    while (moves-- > 0 && move_one(&s))
        ;
    float xy = 0;
    uint32_t q = 0;
    for (uint32_t i = 0; i < n; i++) {
        const int v = (int)s.y[i];
        xy += s.x[i] * s.y[i];
        q += (uint32_t)(v * v);
        y[i] = (int16_t)(x[i] < 0 ? -v : v);
    }
    return xy * qn_pvq_inverse_root(q) * most;
}
