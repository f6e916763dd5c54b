/* cut_cost.c: what a model costs after a cut, and whether it can be cut so. */
#include "analysis/graph/op.h"
#include "analysis/groups/cut.h"
#include "base/err.h"
#include <inttypes.h>
#include <string.h>

struct shapes {
    const qn_cut *cut;
    int64_t *dims; /* per value, QN_ARRAY_RANK_MAX each: after the cut */
};

static bool shape_of(const void *ctx, uint32_t value, int64_t dims[QN_ARRAY_RANK_MAX], unsigned *rank)
{
    const struct shapes *s = ctx;
    *rank = s->cut->groups->rank[value];
    if (*rank > QN_ARRAY_RANK_MAX)
        return false;
    memcpy(dims, s->dims + (uint64_t)value * QN_ARRAY_RANK_MAX, QN_ARRAY_RANK_MAX * sizeof *dims);
    return true;
}

static qn_code shapes_init(const qn_cut *c, struct shapes *s, qn_err *err)
{
    const uint64_t n = c->groups->graph->n_values;
    s->cut = c;
    s->dims = qn_mem_zeros(c->env->alloc, n * QN_ARRAY_RANK_MAX + 1, sizeof *s->dims, err);
    if (!s->dims)
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    for (uint32_t v = 0; v < n && rc == QN_OK; v++) {
        int64_t *dims = s->dims + (uint64_t)v * QN_ARRAY_RANK_MAX;
        if (c->groups->rank[v] > QN_ARRAY_RANK_MAX)
            continue;
        if (c->first[v] == c->first[v + 1])
            memcpy(dims, c->groups->dims + (uint64_t)v * QN_ARRAY_RANK_MAX, c->groups->rank[v] * sizeof *dims);
        else
            rc = qn_cut_dims(c, v, dims, err);
    }
    if (rc != QN_OK)
        qn_mem_put(c->env->alloc, s->dims);
    return rc;
}

static bool is_float(const qn_value *v)
{
    return v->kind == QN_VALUE_WEIGHT && (v->dtype == QN_F32 || v->dtype == QN_F64);
}

/* Loops over axes that were cut turn less often. */
static double macs_left(const struct shapes *s, const qn_loops *l)
{
    double macs = l->macs;
    for (unsigned k = 0; k < l->n_axes; k++) {
        const int64_t before = s->cut->groups->dims[l->axis[k]];
        macs *= before > 0 ? (double)s->dims[l->axis[k]] / (double)before : 0;
    }
    return macs;
}

qn_code qn_cut_cost(const qn_cut *c, qn_cost *out, qn_err *err)
{
    const qn_graph *g = c->groups->graph;
    struct shapes s;
    memset(out, 0, sizeof *out);
    QN_TRY(shapes_init(c, &s, err));
    for (uint32_t v = 0; v < g->n_values; v++) {
        const qn_value *value = &g->values[v];
        if (!is_float(value))
            continue;
        uint64_t n = 1;
        int64_t dims[QN_ARRAY_RANK_MAX];
        unsigned rank;
        if (shape_of(&s, v, dims, &rank))
            for (unsigned k = 0; k < rank; k++)
                n *= (uint64_t)dims[k];
        else
            n = qn_value_elems(value);
        out->params += n;
        /* Of block types the share: rows that are cut keep their rate. */
        const qn_source_tensor *t = &g->source->tensors[value->tensor];
        const uint64_t all = qn_value_elems(value);
        out->bytes += all ? (uint64_t)((double)t->n_bytes * ((double)n / (double)all) + 0.5) : 0;
    }
    for (uint64_t i = 0; i < c->groups->n_loops; i++)
        out->macs += macs_left(&s, &c->groups->loops[i]);
    qn_mem_put(c->env->alloc, s.dims);
    return QN_OK;
}

/* Groups of a convolution read runs of equal length: every run must keep as much. */
static qn_code check_conv(const qn_cut *c, const qn_node *n, qn_err *err)
{
    const uint32_t w = n->in[1], groups = (uint32_t)qn_node_int(n, "group", 1);
    if (groups < 2 || c->groups->rank[w] > QN_ARRAY_RANK_MAX)
        return QN_OK;
    const uint64_t out = (uint64_t)c->groups->dims[(uint64_t)w * QN_ARRAY_RANK_MAX], per = out / groups;
    uint8_t *keep = qn_mem_get(c->env->alloc, out + 1, err);
    uint64_t kept, first = 0;
    if (!keep)
        return QN_E_MEMORY;
    qn_code rc = qn_cut_axis(c, w, 0, keep, out, &kept, err);
    for (uint32_t q = 0; q < groups && rc == QN_OK; q++) {
        uint64_t n_here = 0;
        for (uint64_t i = 0; i < per; i++)
            n_here += keep[q * per + i];
        if (!n_here)
            continue; /* the whole group goes */
        if (first && n_here != first)
            rc = QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "node '%s': its groups would keep %" PRIu64 " and %" PRIu64 " channels", n->name,
                         first, n_here);
        first = n_here;
    }
    qn_mem_put(c->env->alloc, keep);
    return rc;
}

qn_code qn_cut_check(const qn_cut *c, qn_err *err)
{
    const qn_graph *g = c->groups->graph;
    for (uint32_t v = 0; v < g->n_values; v++) {
        int64_t dims[QN_ARRAY_RANK_MAX];
        if (c->first[v] == c->first[v + 1] || c->groups->rank[v] > QN_ARRAY_RANK_MAX)
            continue;
        QN_TRY(qn_cut_dims(c, v, dims, err));
        for (unsigned k = 0; k < c->groups->rank[v]; k++)
            if (dims[k] == 0 && c->groups->dims[(uint64_t)v * QN_ARRAY_RANK_MAX + k] > 0)
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "nothing would be left of axis %u of '%s': at least 1 must stay", k,
                               g->values[v].name);
    }
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && g->nodes[i].op->axis == QN_AXIS_CONV && !strcmp(g->nodes[i].type, "Conv"))
            QN_TRY(check_conv(c, &g->nodes[i], err));
    return QN_OK;
}
