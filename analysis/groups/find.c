/* find.c: the analysis from end to end; see groups.h. */
#include "analysis/groups/impl.h"
#include "base/err.h"
#include <string.h>

static qn_code count_readers(qn_grouping *s, qn_err *err)
{
    const uint64_t n = (uint64_t)s->g->n_values + 1;
    s->n_readers = qn_arena_get(&s->scratch, n * sizeof *s->n_readers, 4, err);
    s->only_reader = qn_arena_get(&s->scratch, n * sizeof *s->only_reader, 4, err);
    s->choice = qn_arena_get(&s->scratch, ((uint64_t)s->g->n_nodes + 1) * sizeof *s->choice, 2, err);
    if (!s->n_readers || !s->only_reader || !s->choice)
        return QN_E_MEMORY;
    memset(s->n_readers, 0, n * sizeof *s->n_readers);
    memset(s->choice, 0, ((uint64_t)s->g->n_nodes + 1) * sizeof *s->choice);
    for (uint32_t i = 0; i < s->g->n_nodes; i++) {
        const qn_node *d = &s->g->nodes[i];
        for (unsigned k = 0; k < d->n_in; k++)
            if (d->in[k] != QN_NO_VALUE) {
                s->n_readers[d->in[k]]++;
                s->only_reader[d->in[k]] = i;
            }
        for (unsigned k = 0; k < d->n_attrs; k++)
            if (d->attrs[k].type == QN_ATTR_GRAPH)
                for (uint32_t v = 0; v < d->attrs[k].v.graph->n_values; v++)
                    if (d->attrs[k].v.graph->values[v].kind == QN_VALUE_OUTER)
                        s->n_readers[d->attrs[k].v.graph->values[v].outer] += 2; /* more than one: nobody's only reader */
    }
    return QN_OK;
}

/* What stays before any operator is looked at. */
static void freeze_ends(qn_grouping *s)
{
    const qn_graph *g = s->g;
    s->node = QN_NO_NODE;
    for (uint32_t i = 0; i < g->n_inputs; i++)
        qn_freeze_value(s, g->inputs[i], qn_reason(s, "belongs to input '%s' of the model", g->values[g->inputs[i]].name));
    for (uint32_t i = 0; i < g->n_outputs; i++)
        qn_freeze_value(s, g->outputs[i], qn_reason(s, "belongs to output '%s' of the model", g->values[g->outputs[i]].name));
    const uint32_t one = qn_reason_dull(s, "is the only one of its axis"), fixed = qn_reason_dull(s, "belongs to a constant of the graph"),
                   whole = qn_reason_dull(s, "belongs to a tensor that holds no floats");
    for (uint32_t v = 0; v < g->n_values; v++) {
        if (g->values[v].kind == QN_VALUE_CONST)
            qn_freeze_value(s, v, fixed);
        else if (g->values[v].kind == QN_VALUE_WEIGHT && !qn_is_weight(s, v))
            qn_freeze_value(s, v, whole);
        for (int k = 0; s->t.rank[v] != QN_RANK_UNKNOWN && k < s->t.rank[v]; k++)
            if (qn_axis_at(s, v, k).n == 1)
                qn_freeze(s, qn_axis_at(s, v, k), one);
    }
}

/* Every weight that somebody groups is 0 then; what is fed, and what is fixed, is not. */
static void set_zeros(qn_grouping *s)
{
    for (uint32_t v = 0; v < s->g->n_values; v++) {
        if (s->g->values[v].kind == QN_VALUE_NODE || s->t.rank[v] == QN_RANK_UNKNOWN)
            continue;
        for (int k = 0; k < s->t.rank[v]; k++) {
            const qn_axis a = qn_axis_at(s, v, k);
            memset(s->zero + a.first, qn_is_weight(s, v) ? QN_ZERO_YES : QN_ZERO_NO, a.n);
        }
    }
}

static void walk(qn_grouping *s)
{
    for (uint32_t i = 0; i < s->g->n_nodes && s->rc == QN_OK; i++) {
        s->node = i;
        qn_rule_apply(s, &s->g->nodes[i]);
    }
}

static qn_code find(qn_grouping *s, qn_groups *r, qn_err *err)
{
    QN_TRY(count_readers(s, err));
    QN_TRY(qn_groups_trace(s, err));
    QN_TRY(qn_atoms_init(s, err));
    freeze_ends(s);
    walk(s);
    s->late = true;
    walk(s);
    s->late = false;
    s->zero_pass = true;
    set_zeros(s);
    walk(s);
    QN_TRY(s->rc);
    r->dims = s->t.dims;
    r->rank = s->t.rank;
    r->varies = s->varies;
    QN_TRY(qn_families_make(s, r, err));
    QN_TRY(qn_frozen_make(s, r, err));
    if (!r->n_families && s->traced.code != QN_OK)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "no shapes to cut by can be found: %s", s->traced.text);
    return QN_OK;
}

qn_code qn_groups_find(const qn_env *env, const qn_graph *g, const qn_groups_options *o, qn_groups **out, qn_err *err)
{
    *out = NULL;
    if (!g->sealed)
        return QN_BUG(err, "the graph is not sealed");
    qn_groups *r = qn_mem_zeros(env->alloc, 1, sizeof *r, err);
    if (!r)
        return QN_E_MEMORY;
    qn_arena_init(&r->arena, env->alloc);
    r->graph = g;
    qn_grouping s = {.env = env, .g = g, .o = o, .arena = &r->arena, .err = err};
    qn_arena_init(&s.scratch, env->alloc);
    const qn_code rc = find(&s, r, err);
    qn_atoms_release(&s);
    qn_arena_release(&s.scratch);
    if (rc != QN_OK) {
        qn_groups_free(r);
        return rc;
    }
    *out = r;
    return QN_OK;
}

void qn_groups_free(qn_groups *s)
{
    if (!s)
        return;
    const qn_alloc *a = s->arena.alloc;
    qn_arena_release(&s->arena);
    qn_mem_put(a, s);
}
