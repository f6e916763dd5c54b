/* bisect.c: hybrids of two models for bisect_search.c. */
#include "analysis/gate/bisect.h"
#include "analysis/eval/evaluate.h"
#include "analysis/eval/evaluate_io.h"
#include "analysis/gate/view.h"
#include "base/err.h"
#include "base/num.h"
#include <math.h>
#include <string.h>

struct item {
    uint32_t value; /* of the reference's graph */
    uint32_t block;
    uint64_t n_weights;
};

struct hybrid {
    const qn_env *env;
    qn_env quiet;          /* without the progress of single runs */
    qn_source *from;       /* the candidate, or the view of it */
    const qn_graph *ref;
    const qn_corpus *corpus;
    qn_io_feed *feed;
    const qn_bisect_options *o;
    uint32_t *item_of;     /* by value: index + 1; 0: none */
    struct item *items;
    uint32_t n_items;
    const uint8_t *taken;
    uint64_t n_runs;
};

/* --- what differs --------------------------------------------------------------------------------------------------- */

static uint64_t elems_of(const qn_value *v, uint64_t *rows)
{
    uint64_t n = 1;
    for (unsigned k = 0; k < v->rank; k++)
        n *= (uint64_t)v->dims[k];
    *rows = v->rank ? (uint64_t)v->dims[0] : 1;
    return n;
}

/* Compared as they are while the model runs, some rows at a time. */
static qn_code differs(struct hybrid *h, uint32_t value, bool *yes, qn_err *err)
{
    const qn_value *v = &h->ref->values[value];
    uint64_t rows;
    const uint64_t n = elems_of(v, &rows), row = rows ? n / rows : 0;
    *yes = false;
    if (!n)
        return QN_OK;
    const uint64_t row_bytes = row * qn_unit_bytes((qn_dtype)v->dtype), some = qn_max_u64(1, qn_min_u64(rows, (1u << 22) / qn_max_u64(1, row_bytes)));
    uint8_t *a = qn_mem_get(h->env->alloc, 2 * some * row_bytes, err);
    if (!a)
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < rows && rc == QN_OK && !*yes; i += some) {
        const uint64_t m = qn_min_u64(some, rows - i);
        rc = qn_weight_from_source(h->env, h->ref->source, h->ref, value, i, m, a, err);
        if (rc == QN_OK)
            rc = qn_weight_from_source(h->env, h->from, h->ref, value, i, m, a + some * row_bytes, err);
        *yes = rc == QN_OK && memcmp(a, a + some * row_bytes, m * row_bytes) != 0;
    }
    qn_mem_put(h->env->alloc, a);
    return rc;
}

/* The block of the first node that reads it, for every value that a node reads. */
static void find_blocks(const qn_graph *g, uint32_t *block)
{
    for (uint32_t n = g->n_nodes; n-- > 0;)
        for (unsigned k = 0; k < g->nodes[n].n_in; k++)
            if (g->nodes[n].in[k] != QN_NO_VALUE)
                block[g->nodes[n].in[k]] = g->nodes[n].block;
}

static qn_code collect(struct hybrid *h, qn_bisect *out, qn_err *err)
{
    const qn_graph *g = h->ref;
    h->item_of = qn_arena_get(&out->arena, (uint64_t)g->n_values * sizeof *h->item_of, 16, err);
    h->items = h->item_of ? qn_arena_get(&out->arena, (uint64_t)g->n_values * sizeof *h->items, 16, err) : NULL;
    uint32_t *block = h->items ? qn_arena_get(&out->arena, (uint64_t)g->n_values * sizeof *block, 16, err) : NULL;
    if (!block)
        return QN_E_MEMORY;
    memset(h->item_of, 0, (uint64_t)g->n_values * sizeof *h->item_of);
    memset(block, 0, (uint64_t)g->n_values * sizeof *block);
    find_blocks(g, block);
    for (uint32_t v = 0; v < g->n_values; v++) {
        bool yes;
        uint64_t rows;
        const bool real = g->values[v].dtype == QN_F32 || g->values[v].dtype == QN_F64; /* shapes and indices are not approximated */
        if (g->values[v].kind != QN_VALUE_WEIGHT || !real)
            continue;
        out->n_tensors++;
        QN_TRY(differs(h, v, &yes, err));
        if (!yes)
            continue;
        h->items[h->n_items] = (struct item){.value = v, .block = block[v], .n_weights = elems_of(&g->values[v], &rows)};
        h->item_of[v] = ++h->n_items;
    }
    out->n_differing = h->n_items;
    return QN_OK;
}

/* --- hybrids -------------------------------------------------------------------------------------------------------- */

static qn_code read_hybrid(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err)
{
    const struct hybrid *h = ctx;
    const bool taken = g == h->ref && h->item_of[value] && h->taken[h->item_of[value] - 1];
    return qn_weight_from_source(h->env, taken ? h->from : g->source, g, value, first, n, dst, err);
}

static qn_code measure(void *ctx, const uint8_t *taken, double *d, qn_err *err)
{
    struct hybrid *h = ctx;
    h->taken = taken;
    h->n_runs++;
    if (h->env->progress)
        h->env->progress(h->env->progress_ctx, "runs of hybrids", h->n_runs, 0);
    QN_TRY(qn_env_check(h->env, err));
    if (h->corpus) {
        const qn_eval_options o = {.memory_bytes = h->o->memory_bytes, .batch_tokens = h->o->batch_tokens, .read = read_hybrid, .read_ctx = h};
        qn_eval e;
        QN_TRY(qn_evaluate(&h->quiet, h->ref, h->ref, h->corpus, &o, &e, err));
        *d = e.kl.value;
        qn_eval_release(&e);
        return QN_OK;
    }
    qn_io_eval e;
    QN_TRY(qn_evaluate_io_with(&h->quiet, h->ref, read_hybrid, h, h->ref, h->feed, h->o->memory_bytes, &e, err));
    *d = 0;
    for (uint32_t i = 0; i < e.n_outputs; i++)
        *d = fmax(*d, qn_io_rel_rms(&e.outputs[i]));
    qn_io_eval_release(&e);
    return QN_OK;
}

/* --- the whole ------------------------------------------------------------------------------------------------------ */

static qn_code keep_rows(const struct hybrid *h, const qn_culprit *found, uint32_t n, qn_bisect *out, qn_err *err)
{
    out->rows = qn_arena_get(&out->arena, (n + 1) * sizeof *out->rows, 16, err);
    if (!out->rows)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < n; i++) {
        const struct item *it = &h->items[found[i].item];
        out->rows[i] = (qn_bisect_row){.name = h->ref->values[it->value].name, .block = h->ref->blocks[it->block].name, .alone = found[i].alone,
                                       .n_weights = it->n_weights};
    }
    out->n_rows = n;
    return QN_OK;
}

/* Groups are the blocks that hold an item, numbered anew. */
static uint32_t number_groups(const struct hybrid *h, uint32_t *group_of, uint32_t *number)
{
    uint32_t n = 0;
    memset(number, 0, (uint64_t)h->ref->n_blocks * sizeof *number);
    for (uint32_t i = 0; i < h->n_items; i++) {
        if (!number[h->items[i].block])
            number[h->items[i].block] = ++n;
        group_of[i] = number[h->items[i].block] - 1;
    }
    return n;
}

static qn_code search(struct hybrid *h, qn_bisect *out, qn_err *err)
{
    QN_TRY(collect(h, out, err));
    if (!h->n_items)
        return QN_OK;
    const uint64_t n = h->n_items;
    uint8_t *taken = qn_arena_get(&out->arena, n, 16, err);
    uint32_t *group_of = taken ? qn_arena_get(&out->arena, n * sizeof *group_of, 16, err) : NULL;
    uint32_t *number = group_of ? qn_arena_get(&out->arena, (uint64_t)h->ref->n_blocks * sizeof *number, 16, err) : NULL;
    qn_culprit *found = number ? qn_arena_get(&out->arena, n * sizeof *found, 16, err) : NULL;
    uint32_t n_found = 0;
    if (!found)
        return QN_E_MEMORY;
    memset(taken, 1, n);
    QN_TRY(measure(h, taken, &out->all, err));
    if (!(out->all > 0))
        return QN_OK;
    const uint32_t n_groups = number_groups(h, group_of, number);
    QN_TRY(qn_bisect_search(h->env->alloc, h->n_items, group_of, n_groups, h->o->share, out->all, measure, h, found, &n_found, &out->explained,
                            &out->spread, err));
    for (uint32_t i = 0; i < n_found; i++)
        taken[found[i].item] = 0;
    QN_TRY(measure(h, taken, &out->restored, err));
    return keep_rows(h, found, n_found, out, err);
}

qn_code qn_bisect_run(const qn_env *env, qn_source *candidate, const qn_graph *ref, const qn_corpus *c, qn_io_feed *feed, const qn_bisect_options *o,
                      qn_bisect *out, qn_err *err)
{
    struct hybrid h = {.env = env, .quiet = *env, .from = candidate, .ref = ref, .corpus = c, .feed = feed, .o = o};
    qn_source *view = NULL;
    h.quiet.progress = NULL;
    *out = (qn_bisect){.tokens = c != NULL};
    qn_arena_init(&out->arena, env->alloc);
    qn_code rc = QN_OK;
    if (qn_is_gguf(candidate) && !qn_is_gguf(ref->source)) {
        rc = qn_gguf_view_open(env, candidate, ref->source, &view, err);
        h.from = view;
    }
    if (rc == QN_OK)
        rc = search(&h, out, err);
    out->n_runs = h.n_runs;
    qn_source_close(view);
    if (rc != QN_OK)
        qn_bisect_release(out);
    return rc;
}

void qn_bisect_release(qn_bisect *b)
{
    qn_arena_release(&b->arena);
    *b = (qn_bisect){0};
}
