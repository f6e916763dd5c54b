/* pvq_walk.c: see pvq_walk.h. */
#include "runtime/pvq_walk.h"
#include "base/err.h"
#include <string.h>

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

void qn_pvq_walk_points(qn_pvq_walk *w, const qn_kern *kern, uint32_t m, unsigned tier, uint32_t first, uint32_t count)
{
    if (tier < QN_PVQ_TIER_WIDE) {
        kern->pvq.points(w->tab + tier, m, w->from_end + first, w->k + first, count, w->y + first, w->cols);
        return;
    }
    const qn_pvq_index_of *of = w->of[m != w->n];
    for (uint32_t i = first; i < first + count; i++) {
        int16_t y[QN_PVQ_KERN_N] = {0};
        (void)qn_pvq_point(w->tab + tier, m, w->k[i], qn_u128_sub(of[w->k[i]].last, w->wide[i]), y);
        for (uint32_t a = 0; a < m; a++)
            w->y[(size_t)a * w->cols + i] = (int8_t)y[a];
    }
}

void qn_pvq_walk_rows(const qn_pvq_walk *w, const qn_kern *kern, uint32_t m, qn_dtype t, const float shift[2], uint8_t *dst)
{
    const size_t row_bytes = (size_t)w->cols * qn_unit_bytes(t);
    for (uint32_t i = 0; i < m; i++)
        kern->pvq.row(t, w->y + (size_t)i * w->cols, shift, w->scale, w->pos, w->cols, dst + i * row_bytes);
}
