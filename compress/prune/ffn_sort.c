/* ffn_sort.c: see ffn_sort.h. */
#include "compress/prune/ffn_sort.h"
#include "base/err.h"
#include "compress/prune/emit_plan.h"
#include <string.h>

qn_code qn_ffn_sort_can(const qn_groups *s, uint8_t *can, qn_err *err)
{
    qn_emit_plan p;
    const qn_code rc = qn_emit_plan_look(s->graph->env, s->graph, s, false, &p, err);
    for (uint32_t f = 0; rc == QN_OK && f < s->n_families; f++)
        can[f] = p.width_of[f] == QN_EMIT_FFN || p.width_of[f] == QN_EMIT_EXPERT_FFN || p.width_of[f] == QN_EMIT_SHARED_FFN;
    qn_emit_plan_release(&p);
    return rc;
}

/* from[i]: which index of the member's axis comes to place i. */
static qn_code places(const qn_family *f, const qn_member *m, const uint32_t *order, uint32_t *from, uint64_t n, qn_err *err)
{
    for (uint64_t i = 0; i < n; i++)
        from[i] = (uint32_t)i;
    for (uint32_t k = 0; k < f->n_groups; k++) {
        const uint32_t to = m->start[k], at = m->start[order[k]], len = m->start[k + 1] - to;
        if (m->start[order[k] + 1] - at != len)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "its groups are of different sizes");
        for (uint32_t i = 0; i < len; i++)
            from[m->index[to + i]] = m->index[at + i];
    }
    return QN_OK;
}

static qn_code sort_member(const qn_groups *s, const qn_family *f, const qn_member *m, const uint32_t *order, qn_overlay *w, qn_err *err)
{
    const qn_value *v = &s->graph->values[m->value];
    const qn_alloc *a = w->env->alloc;
    const uint64_t n = (uint64_t)v->dims[m->axis], elems = qn_value_elems(v);
    uint64_t inner = 1;
    float *x;
    for (unsigned k = m->axis + 1u; k < v->rank; k++)
        inner *= (uint64_t)v->dims[k];
    QN_TRY(qn_overlay_edit(w, m->value, &x, err));
    uint32_t *from = qn_mem_get(a, n * sizeof *from + 1, err);
    float *line = qn_mem_get(a, n * inner * sizeof *line + 1, err);
    qn_code rc = from && line ? places(f, m, order, from, n, err) : QN_E_MEMORY;
    for (uint64_t at = 0; at < elems && rc == QN_OK; at += n * inner) {
        memcpy(line, x + at, n * inner * sizeof *line);
        for (uint64_t i = 0; i < n; i++)
            memcpy(x + at + i * inner, line + from[i] * inner, inner * sizeof *line);
    }
    qn_mem_put(a, from);
    qn_mem_put(a, line);
    return qn_err_in_tensor(err, rc, v->name);
}

qn_code qn_ffn_sort(const qn_groups *s, uint32_t family, const uint32_t *order, qn_overlay *w, qn_err *err)
{
    const qn_family *f = &s->families[family];
    uint8_t *seen = qn_mem_zeros(w->env->alloc, (uint64_t)f->n_groups + 1, 1, err);
    bool good = seen != NULL;
    if (!seen)
        return QN_E_MEMORY;
    for (uint32_t k = 0; k < f->n_groups && good; k++)
        good = order[k] < f->n_groups && !seen[order[k]]++;
    qn_mem_put(w->env->alloc, seen);
    if (!good)
        return QN_BUG(err, "an order of channels that is none");
    for (uint32_t m = 0; m < f->n_members; m++)
        if (s->graph->values[f->members[m].value].kind == QN_VALUE_WEIGHT)
            QN_TRY(sort_member(s, f, &f->members[m], order, w, err));
    return QN_OK;
}

qn_code qn_ffn_sort_all(const qn_groups *s, const uint32_t *const *going, qn_overlay *w, uint32_t *n_sorted, qn_err *err)
{
    const qn_alloc *a = w->env->alloc;
    uint8_t *can = qn_mem_zeros(a, (uint64_t)s->n_families + 1, 1, err);
    qn_code rc = can ? qn_ffn_sort_can(s, can, err) : QN_E_MEMORY;
    *n_sorted = 0;
    for (uint32_t f = 0; f < s->n_families && rc == QN_OK; f++) {
        const uint32_t n = s->families[f].n_groups;
        if (!can[f] || !going[f])
            continue;
        uint32_t *order = qn_mem_get(a, (uint64_t)n * sizeof *order + 1, err);
        if (!order) {
            rc = QN_E_MEMORY;
            break;
        }
        for (uint32_t k = 0; k < n; k++)
            order[k] = going[f][n - 1 - k];
        rc = qn_ffn_sort(s, f, order, w, err);
        qn_mem_put(a, order);
        ++*n_sorted;
    }
    qn_mem_put(a, can);
    return rc;
}
