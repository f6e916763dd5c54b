/* bisect_search.c: the search of bisect.h, over numbered items. */
#include "analysis/gate/bisect.h"
#include "base/err.h"
#include "base/num.h"
#include <stdlib.h>
#include <string.h>

struct part {
    uint32_t id;
    double alone;
    bool in;
};

struct search {
    const uint32_t *group_of; /* what a part's id is compared with; NULL: the item itself */
    uint32_t n;
    uint8_t *taken;
    struct part *parts;
    uint32_t n_parts;
    double target;
    qn_distance_fn measure;
    void *ctx;
};

static qn_code distance(struct search *s, double *d, qn_err *err)
{
    memset(s->taken, 0, s->n);
    for (uint32_t p = 0; p < s->n_parts; p++) {
        if (!s->parts[p].in)
            continue;
        if (!s->group_of)
            s->taken[s->parts[p].id] = 1;
        else
            for (uint32_t i = 0; i < s->n; i++)
                s->taken[i] = (uint8_t)(s->taken[i] | (s->group_of[i] == s->parts[p].id));
    }
    return s->measure(s->ctx, s->taken, d, err);
}

static void take_first(struct search *s, uint32_t k)
{
    for (uint32_t p = 0; p < s->n_parts; p++)
        s->parts[p].in = p < k;
}

static int stronger(const void *pa, const void *pb)
{
    const struct part *a = pa, *b = pb;
    return a->alone > b->alone ? -1 : a->alone < b->alone ? 1 : a->id < b->id ? -1 : 1;
}

static qn_code each_alone(struct search *s, qn_err *err)
{
    for (uint32_t p = 0; p < s->n_parts; p++) {
        for (uint32_t q = 0; q < s->n_parts; q++)
            s->parts[q].in = q == p;
        QN_TRY(distance(s, &s->parts[p].alone, err));
    }
    qsort(s->parts, s->n_parts, sizeof *s->parts, stronger);
    return QN_OK;
}

/* All parts together explain; *k: the fewest of the strongest that do. */
static qn_code shortest(struct search *s, uint32_t *k, qn_err *err)
{
    uint32_t low = 1, high = s->n_parts;
    while (low < high) {
        const uint32_t mid = low + (high - low) / 2;
        double d;
        take_first(s, mid);
        if (mid == 1)
            d = s->parts[0].alone;
        else
            QN_TRY(distance(s, &d, err));
        if (d >= s->target)
            high = mid;
        else
            low = mid + 1;
    }
    *k = high;
    return QN_OK;
}

/* Leaves parts[].in with what was found. */
static qn_code find(struct search *s, double *explained, qn_err *err)
{
    uint32_t k = s->n_parts;
    QN_TRY(each_alone(s, err));
    QN_TRY(shortest(s, &k, err));
    take_first(s, k);
    QN_TRY(distance(s, explained, err));
    if (k == 1)
        return QN_OK;
    for (uint32_t p = k; p-- > 0;) { /* the strongest too: two weak ones may do what it does */
        double d;
        s->parts[p].in = false;
        QN_TRY(distance(s, &d, err));
        if (d >= s->target)
            *explained = d;
        else
            s->parts[p].in = true;
    }
    return QN_OK;
}

static uint32_t drop_others(struct search *s)
{
    uint32_t n = 0;
    for (uint32_t p = 0; p < s->n_parts; p++)
        if (s->parts[p].in)
            s->parts[n++] = s->parts[p];
    return s->n_parts = n;
}

static qn_code search(struct search *s, const uint32_t *group_of, uint32_t n_groups, qn_culprit *found, uint32_t *n_found, double *explained, bool *spread,
                      qn_err *err)
{
    *spread = false;
    if (n_groups > 1) {
        s->group_of = group_of;
        s->n_parts = n_groups;
        for (uint32_t g = 0; g < n_groups; g++)
            s->parts[g] = (struct part){.id = g};
        QN_TRY(find(s, explained, err));
        *spread = drop_others(s) > n_groups / 2 && n_groups > 2;
        *n_found = 0;
        for (uint32_t p = 0; p < s->n_parts; p++)
            for (uint32_t i = 0; i < s->n; i++)
                if (group_of[i] == s->parts[p].id)
                    found[(*n_found)++] = (qn_culprit){.item = i, .alone = s->parts[p].alone};
        if (*spread)
            return QN_OK;
    } else {
        *n_found = s->n;
        for (uint32_t i = 0; i < s->n; i++)
            found[i].item = i;
    }
    s->group_of = NULL;
    s->n_parts = *n_found;
    for (uint32_t p = 0; p < *n_found; p++)
        s->parts[p] = (struct part){.id = found[p].item};
    QN_TRY(find(s, explained, err));
    *n_found = drop_others(s);
    for (uint32_t p = 0; p < *n_found; p++)
        found[p] = (qn_culprit){.item = s->parts[p].id, .alone = s->parts[p].alone};
    return QN_OK;
}

qn_code qn_bisect_search(const qn_alloc *alloc, uint32_t n, const uint32_t *group_of, uint32_t n_groups, double share, double all, qn_distance_fn measure,
                         void *ctx, qn_culprit *found, uint32_t *n_found, double *explained, bool *spread, qn_err *err)
{
    struct search s = {.n = n, .target = share * all, .measure = measure, .ctx = ctx};
    s.taken = qn_mem_get(alloc, n, err);
    s.parts = s.taken ? qn_mem_get(alloc, (uint64_t)(n > n_groups ? n : n_groups) * sizeof *s.parts, err) : NULL;
    const qn_code rc = s.parts ? search(&s, group_of, n_groups, found, n_found, explained, spread, err) : QN_E_MEMORY;
    qn_mem_put(alloc, s.taken);
    qn_mem_put(alloc, s.parts);
    return rc;
}
