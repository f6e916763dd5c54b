/* pvq_walk.c: see pvq_walk.h. */
#include "runtime/pvq_walk.h"
#include "base/err.h"
#include <string.h>

enum { WIDE_BATCH = 128 };

/* Most pulses of a tier with groups of n. */
static uint32_t tier_most(uint32_t n, unsigned tier)
{
    static const uint8_t most[2][QN_PVQ_TIERS] = {{12, 15, 31, 58, 127}, {7, 15, 22, 22, 105}};
    return most[n > 16][tier];
}

unsigned qn_pvq_tier(const qn_pvq_walk *w, uint32_t k)
{
    unsigned tier = 0;
    while (tier < QN_PVQ_TIER_WIDE && k > tier_most(w->n, tier))
        tier++;
    return tier;
}

static qn_code tables(qn_pvq_walk *w, qn_arena *arena, qn_err *err)
{
    for (unsigned t = 0; t <= qn_pvq_tier(w, w->k_most); t++)
        QN_TRY(qn_pvq_tab_make(w->tab + t, w->n, w->k_most < tier_most(w->n, t) ? w->k_most : tier_most(w->n, t), arena, err));
    if (qn_pvq_tier(w, w->k_most) == QN_PVQ_TIER_WIDE) {
        w->n_rest = w->n;
        while (qn_pvq_bits(w->n_rest, w->k_most) > 64)
            w->n_rest--;
        QN_TRY(qn_pvq_tab_make(&w->rest, w->n_rest, w->k_most, arena, err));
    }
    const qn_pvq_tab *all = w->tab + qn_pvq_tier(w, w->k_most);
    for (unsigned i = 0; i < 2; i++) {
        w->of[i] = qn_arena_get(arena, (w->k_most + 1) * sizeof *w->of[i], 64, err);
        if (!w->of[i])
            return QN_E_MEMORY;
        const uint32_t m = i ? w->tail : w->n;
        for (uint32_t k = 0; m && k <= w->k_most; k++) {
            w->of[i][k].last = qn_u128_sub(qn_pvq_tab_size(all, m, k), qn_u128_of(1));
            w->of[i][k].bits = qn_u128_bits(w->of[i][k].last);
        }
    }
    return QN_OK;
}

qn_code qn_pvq_walk_open(qn_pvq_walk *w, uint32_t n, uint32_t rows, uint32_t cols, uint32_t k_most, qn_arena *arena, qn_err *err)
{
    *w = (qn_pvq_walk){.n = n, .rows = rows, .cols = cols, .tail = rows % n, .k_most = k_most};
    const uint64_t height = rows < n ? rows : n;
    const bool wide = qn_pvq_tier(w, k_most) == QN_PVQ_TIER_WIDE;
    QN_TRY(tables(w, arena, err));
    w->from_end = qn_arena_get(arena, (uint64_t)cols * sizeof *w->from_end, 64, err);
    w->wide = wide ? qn_arena_get(arena, (uint64_t)cols * sizeof *w->wide, 64, err) : NULL;
    w->k = qn_arena_get(arena, cols, 64, err);
    w->y = qn_arena_get(arena, height * cols, 64, err);
    w->pos = qn_arena_get(arena, (uint64_t)cols * sizeof *w->pos, 64, err);
    w->scale = qn_arena_get(arena, (uint64_t)cols * sizeof *w->scale, 64, err);
    return w->from_end && (w->wide || !wide) && w->k && w->y && w->pos && w->scale ? QN_OK : QN_E_MEMORY;
}

/* Coordinates m … stop + 1 of the point at place i; returns the pulses that are left. */
static uint8_t walk_wide(qn_pvq_walk *w, uint32_t m, uint32_t stop, uint32_t i, uint64_t *r_left)
{
    const qn_pvq_tab *t = w->tab + QN_PVQ_TIER_WIDE;
    qn_u128 r = w->wide[i];
    uint32_t k = w->k[i];
    for (uint32_t left = m; left > stop; left--) {
        const qn_u128 *row = (const qn_u128 *)t->w + (size_t)left * t->stride;
        uint32_t rest = k;
        while (!qn_u128_le(row[rest], r))
            rest--;
        r = qn_u128_sub(r, row[rest]);
        int v = (int)(k - rest);
        if (v) {
            const qn_u128 half = qn_u128_half(qn_u128_sub(row[rest + 1], row[rest]));
            if (qn_u128_le(half, r))
                r = qn_u128_sub(r, half);
            else
                v = -v;
        }
        w->y[(size_t)(m - left) * w->cols + i] = (int8_t)v;
        k = rest;
    }
    *r_left = r.lo;
    return (uint8_t)k;
}

/* Some groups whose first coordinates are done: through a tile, as they are not side by side. */
static void walk_rest(qn_pvq_walk *w, const qn_kern *kern, const qn_pvq_tab *t, uint32_t row, uint32_t m, const uint64_t *r, const uint8_t *k,
                      const uint32_t *at, uint32_t count)
{
    int8_t tile[QN_PVQ_KERN_N * WIDE_BATCH];
    kern->pvq.points(t, m, r, k, count, tile, WIDE_BATCH);
    for (uint32_t a = 0; a < m; a++)
        for (uint32_t i = 0; i < count; i++)
            w->y[(size_t)(row + a) * w->cols + at[i]] = tile[a * WIDE_BATCH + i];
}

/* Most have few enough pulses left then for the tables of the tier below. */
static void walk_last_tier(qn_pvq_walk *w, const qn_kern *kern, uint32_t m, uint32_t first, uint32_t count)
{
    const uint32_t stop = m < w->n_rest ? m : w->n_rest, few = w->tab[QN_PVQ_TIER_WIDE - 1].k;
    for (uint32_t done = 0; done < count; done += WIDE_BATCH) {
        uint64_t r[2][WIDE_BATCH];
        uint8_t k[2][WIDE_BATCH];
        uint32_t at[2][WIDE_BATCH], n[2] = {0, 0};
        for (uint32_t i = first + done; i < first + count && i < first + done + WIDE_BATCH; i++) {
            uint64_t left;
            const uint8_t pulses = walk_wide(w, m, stop, i, &left);
            const unsigned many = pulses > few;
            r[many][n[many]] = left;
            k[many][n[many]] = pulses;
            at[many][n[many]++] = i;
        }
        walk_rest(w, kern, w->tab + QN_PVQ_TIER_WIDE - 1, m - stop, stop, r[0], k[0], at[0], n[0]);
        walk_rest(w, kern, &w->rest, m - stop, stop, r[1], k[1], at[1], n[1]);
    }
}

void qn_pvq_walk_points(qn_pvq_walk *w, const qn_kern *kern, uint32_t m, unsigned tier, uint32_t first, uint32_t count)
{
    if (count == 0)
        return;
    if (tier < QN_PVQ_TIER_WIDE) {
        kern->pvq.points(w->tab + tier, m, w->from_end + first, w->k + first, count, w->y + first, w->cols);
        return;
    }
    walk_last_tier(w, kern, m, first, count);
}

void qn_pvq_walk_rows(const qn_pvq_walk *w, const qn_kern *kern, uint32_t m, qn_dtype t, const float shift[2], uint8_t *dst)
{
    const size_t row_bytes = (size_t)w->cols * qn_unit_bytes(t);
    for (uint32_t i = 0; i < m; i++)
        kern->pvq.row(t, w->y + (size_t)i * w->cols, shift, w->scale, w->pos, w->cols, dst + i * row_bytes);
}
