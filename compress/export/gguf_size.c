/* gguf_size.c: a type for each tensor, for a file of a given size. What a type costs is
 *
 *     sensitivity of the tensor × expected relative error of the type
 *
 * where the first is measured (divergence in nats for each unit of relative error in the layer's output, analysis/calibrate) or, where statistics do not hold it, the
 * median of those that are: equal shares of error then hurt equally, so small tensors get more bits. The second is a table: mean square error over variance of
 * Gaussian weights in each type, encoded as it is here. The choice is a knapsack over tensors; what rounding leaves of the size goes to the tensors that gain most for
 * their bytes. */
#include "compress/export/gguf_size.h"
#include "analysis/stats/file.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/blocks/block.h"
#include "compress/prune/knapsack.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Best first; of two with the same bits the better. Relative errors: of 0.5 M Gaussian weights; F16's is that of its 11 bits. */
static const struct {
    qn_dtype type;
    double error;
} types[] = {
    {QN_F16, 3e-8},       {QN_Q8_0, 2.9e-5},     {QN_Q6_K, 3.0e-4},    {QN_Q5_K, 1.25e-3},   {QN_Q5_1, 1.15e-3},   {QN_Q5_0, 1.64e-3}, {QN_Q4_K, 5.0e-3},
    {QN_IQ4_NL, 5.4e-3},  {QN_IQ4_XS, 5.7e-3},   {QN_IQ3_S, 1.88e-2},  {QN_IQ3_XXS, 3.3e-2}, {QN_IQ2_S, 6.2e-2},   {QN_IQ2_XS, 8.98e-2}, {QN_Q2_0, 0.122},
    {QN_IQ2_XXS, 0.118},  {QN_IQ1_M, 0.2036},    {QN_IQ1_S, 0.2359},
};
enum { N_TYPES = sizeof types / sizeof types[0] };

/* What one tensor may become. */
struct item {
    qn_ggx_tensor *t;
    double weight; /* < 0: not measured */
    uint8_t level[N_TYPES]; /* of a knapsack level: index in types */
};

static uint64_t bytes_of(const qn_ggx_tensor *t, qn_dtype type)
{
    const uint64_t n = t->rows * qn_bytes_of_elems(type, t->cols);
    return (n + 31) / 32 * 32;
}

/* Sums over experts: each has its own inputs. */
static double sensitivity(const qn_ggx *x, const qn_ggx_tensor *t)
{
    double sum = 0;
    bool any = false;
    for (uint32_t p = 0; x->job->stats && p < t->n_parts; p++) {
        const char *name = x->job->src->tensors[t->parts[p]].name;
        for (uint32_t e = 0; e < (t->stack > 1 ? t->stack : 1); e++) {
            const qn_stats_item *item = qn_stats_find(x->job->stats, name, t->stack > 1 ? e : QN_STATS_NO_EXPERT);
            double a;
            if (item && qn_stats_sensitivity(x->job->stats, item, &a)) {
                sum += a;
                any = true;
            }
        }
    }
    return any ? sum : -1;
}

static int compare(const void *a, const void *b)
{
    const double p = *(const double *)a, q = *(const double *)b;
    return p < q ? -1 : p > q;
}

/* Those that were not measured: as the one in the middle; nothing costs nothing. */
static qn_code fill_weights(qn_ggx *x, struct item *items, uint32_t n, qn_err *err)
{
    double *known = qn_arena_get(x->arena, (n + 1) * sizeof *known, 8, err), middle = 1;
    uint32_t k = 0;
    if (!known)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < n; i++)
        if (items[i].weight > 0)
            known[k++] = items[i].weight;
    qsort(known, k, sizeof *known, compare);
    if (k)
        middle = known[k / 2];
    for (uint32_t i = 0; i < n; i++) {
        const bool head = !strcmp(items[i].t->name, "output.weight") || (x->tied && !strcmp(items[i].t->name, "token_embd.weight"));
        if (items[i].weight < 0)
            items[i].weight = head ? 2 * middle : middle;
        items[i].weight = fmax(items[i].weight, 0.02 * middle);
    }
    return QN_OK;
}

/* Levels from the largest type down; a type no smaller than the one before it is passed over. */
static void levels(struct item *m, qn_knapsack_item *k)
{
    const qn_ggx_tensor *t = m->t;
    uint64_t last = UINT64_MAX, first = 0;
    *k = (qn_knapsack_item){0};
    for (unsigned i = 0; i < N_TYPES; i++) {
        const qn_dtype type = types[i].type;
        if (t->cols % qn_dtype_block_elems(type) || (qn_dtype_is_block(type) && !qn_block_coder_of(type)))
            continue;
        const uint64_t bytes = bytes_of(t, type);
        if (bytes >= last)
            continue;
        if (!k->n_levels)
            first = bytes;
        m->level[k->n_levels] = (uint8_t)i;
        k->loss[k->n_levels] = m->weight * types[i].error;
        k->saving[k->n_levels++] = (double)(first - bytes);
        last = bytes;
    }
}

/* What is left of the size: to the tensor that gains most for its bytes, again and again. */
static void spend(const qn_knapsack_item *items, uint32_t n, uint8_t *level, double left)
{
    for (;;) {
        double best = 0;
        uint32_t who = n;
        unsigned to = 0;
        for (uint32_t i = 0; i < n; i++)
            for (unsigned v = 0; v < level[i]; v++) {
                const double cost = items[i].saving[level[i]] - items[i].saving[v], gain = items[i].loss[level[i]] - items[i].loss[v];
                if (cost <= left && gain > best * cost) {
                    best = gain / cost;
                    who = i;
                    to = v;
                }
            }
        if (who == n)
            return;
        left -= items[who].saving[level[who]] - items[who].saving[to];
        level[who] = (uint8_t)to;
    }
}

/* The file with every tensor's type as it is now. */
static qn_code file_bytes(qn_ggx *x, uint64_t *bytes, qn_err *err)
{
    qn_gguf_writer w;
    qn_gguf_writer_count(&w, x->job->env);
    qn_code rc = qn_ggx_put_head(x, &w, err);
    *bytes = qn_gguf_writer_bytes(&w);
    qn_gguf_writer_close(&w);
    return rc;
}

static qn_code target_bytes(const qn_ggx *x, uint64_t *bytes)
{
    double n = 0;
    *bytes = x->job->wish->size_bytes;
    if (*bytes)
        return QN_OK;
    for (uint32_t i = 0; i < x->n; i++)
        n += (double)(x->list[i].rows * x->list[i].cols);
    *bytes = (uint64_t)(x->job->wish->bits * n / 8);
    return QN_OK;
}

static qn_code solve(qn_ggx *x, struct item *items, qn_knapsack_item *k, uint32_t n, qn_err *err)
{
    uint64_t now, target;
    double most = 0, left;
    bool possible = true;
    uint8_t *level = qn_arena_get(x->arena, n + 1, 1, err);
    if (!level)
        return QN_E_MEMORY;
    QN_TRY(target_bytes(x, &target));
    QN_TRY(file_bytes(x, &now, err)); /* all at their first level */
    for (uint32_t i = 0; i < n; i++) {
        most += k[i].saving[k[i].n_levels - 1];
        level[i] = 0;
    }
    if (now > target && (double)(now - target) > most)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gguf: %llu bytes are too few for this model: with the smallest types it has %.0f", (unsigned long long)target,
                       (double)now - most);
    if (now > target) {
        QN_TRY(qn_knapsack(x->job->env->alloc, k, n, (double)(now - target), level, &possible, err));
        left = -(double)(now - target);
        for (uint32_t i = 0; i < n; i++)
            left += k[i].saving[level[i]];
        spend(k, n, level, fmax(left, 0));
    }
    for (uint32_t i = 0; i < n; i++)
        items[i].t->dtype = items[i].t->wanted = types[items[i].level[level[i]]].type;
    return QN_OK;
}

qn_code qn_ggx_choose(qn_ggx *x, qn_err *err)
{
    struct item *items = qn_arena_get(x->arena, (x->n + 1) * sizeof *items, 8, err);
    qn_knapsack_item *k = items ? qn_arena_get(x->arena, (x->n + 1) * sizeof *k, 8, err) : NULL;
    uint32_t n = 0;
    if (!k)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < x->n; i++)
        if (x->list[i].wanted == QN_F16)
            items[n++] = (struct item){.t = &x->list[i], .weight = sensitivity(x, &x->list[i])};
    QN_TRY(fill_weights(x, items, n, err));
    for (uint32_t i = 0; i < n; i++) {
        levels(&items[i], &k[i]);
        items[i].t->dtype = types[items[i].level[0]].type;
    }
    return solve(x, items, k, n, err);
}
