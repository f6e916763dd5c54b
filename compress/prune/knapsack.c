/* knapsack.c: see knapsack.h. */
#include "compress/prune/knapsack.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

enum { PARTS = 8192 };

/* The level that saves most, of those, the one that loses least. */
static uint8_t largest(const qn_knapsack_item *it)
{
    uint32_t best = 0;
    for (uint32_t l = 1; l < it->n_levels; l++)
        if (isfinite(it->loss[l]) &&
            (it->saving[l] > it->saving[best] || (it->saving[l] >= it->saving[best] && it->loss[l] < it->loss[best])))
            best = l;
    return (uint8_t)best;
}

/* least[s]: the least loss with which the items so far save at least s parts. Item i's row of `took` is the level that it has there. */
static void add_item(const qn_knapsack_item *it, double target, const double *before, double *least, uint8_t *took)
{
    for (uint32_t s = 0; s <= PARTS; s++) {
        least[s] = (double)INFINITY;
        took[s] = 0;
    }
    for (uint32_t l = 0; l < it->n_levels; l++) {
        if (!isfinite(it->loss[l]))
            continue;
        /* a rounding error below a whole number of parts is none */
        const double parts = l ? floor(it->saving[l] / target * PARTS + 1e-9) : 0;
        const uint32_t n = parts >= PARTS ? PARTS : (uint32_t)parts;
        for (uint32_t s = 0; s <= PARTS; s++) {
            const double e = before[s > n ? s - n : 0] + it->loss[l];
            if (e < least[s]) {
                least[s] = e;
                took[s] = (uint8_t)l;
            }
        }
    }
}

qn_code qn_knapsack(const qn_alloc *alloc, const qn_knapsack_item *items, uint32_t n_items, double target, uint8_t *level, bool *possible,
                    qn_err *err)
{
    memset(level, 0, n_items);
    *possible = true;
    if (!(target > 0))
        return QN_OK;
    double *least = qn_mem_get(alloc, 2 * (PARTS + 1) * sizeof *least, err);
    uint8_t *took = least ? qn_mem_zeros(alloc, (uint64_t)n_items + 1, PARTS + 1, err) : NULL;
    if (!took) {
        qn_mem_put(alloc, least);
        return QN_E_MEMORY;
    }
    double *now = least, *next = least + PARTS + 1;
    for (uint32_t s = 0; s <= PARTS; s++)
        now[s] = s ? (double)INFINITY : 0;
    for (uint32_t i = 0; i < n_items; i++) {
        add_item(&items[i], target, now, next, took + (uint64_t)i * (PARTS + 1));
        double *const swap = now;
        now = next;
        next = swap;
    }
    *possible = isfinite(now[PARTS]);
    uint32_t s = PARTS;
    for (uint32_t i = n_items; i-- > 0;) {
        if (!*possible) {
            level[i] = largest(&items[i]);
            continue;
        }
        level[i] = took[(uint64_t)i * (PARTS + 1) + s];
        const double parts = level[i] ? floor(items[i].saving[level[i]] / target * PARTS + 1e-9) : 0;
        s = parts >= s ? 0 : s - (uint32_t)parts;
    }
    qn_mem_put(alloc, took);
    qn_mem_put(alloc, least);
    return QN_OK;
}
