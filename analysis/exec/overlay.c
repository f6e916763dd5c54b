/* overlay.c: changed weights in front of a graph's source. */
#include "analysis/exec/overlay.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include <string.h>

qn_code qn_overlay_new(const qn_env *env, const qn_graph *g, qn_overlay **out, qn_err *err)
{
    qn_overlay *o = qn_mem_zeros(env->alloc, 1, sizeof *o, err);
    if (!o)
        return QN_E_MEMORY;
    *o = (qn_overlay){.env = env, .graph = g};
    o->data = qn_mem_zeros(env->alloc, (uint64_t)g->n_values + 1, sizeof *o->data, err);
    if (!o->data) {
        qn_overlay_free(o);
        return QN_E_MEMORY;
    }
    *out = o;
    return QN_OK;
}

void qn_overlay_free(qn_overlay *o)
{
    if (!o)
        return;
    for (uint32_t v = 0; o->data && v < o->graph->n_values; v++)
        qn_mem_put(o->env->alloc, o->data[v]);
    qn_mem_put(o->env->alloc, o->data);
    qn_mem_put(o->env->alloc, o);
}

static uint64_t elems(const qn_overlay *o, uint32_t value)
{
    return qn_value_elems(&o->graph->values[value]);
}

qn_code qn_overlay_edit(qn_overlay *o, uint32_t value, float **w, qn_err *err)
{
    const qn_value *v = &o->graph->values[value];
    if (v->kind != QN_VALUE_WEIGHT || v->dtype != QN_F32)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "'%s' is no weight of floats", v->name);
    if (!o->data[value]) {
        const uint64_t n = elems(o, value);
        float *p = qn_mem_get(o->env->alloc, (n ? n : 1) * sizeof *p, err);
        if (!p)
            return QN_E_MEMORY;
        const qn_code rc = qn_weight_from_source(o->env, o->graph->source, o->graph, value, 0, v->rank ? (uint64_t)v->dims[0] : 1, p, err);
        if (rc != QN_OK) {
            qn_mem_put(o->env->alloc, p);
            return rc;
        }
        o->data[value] = p;
        o->n_bytes += n * sizeof *p;
    }
    *w = o->data[value];
    return QN_OK;
}

void qn_overlay_drop(qn_overlay *o, uint32_t value)
{
    if (!o->data[value])
        return;
    o->n_bytes -= elems(o, value) * sizeof(float);
    qn_mem_put(o->env->alloc, o->data[value]);
    o->data[value] = NULL;
}

qn_code qn_overlay_copy(const qn_overlay *src, qn_overlay **out, qn_err *err)
{
    qn_overlay *o;
    QN_TRY(qn_overlay_new(src->env, src->graph, &o, err));
    for (uint32_t v = 0; v < src->graph->n_values; v++) {
        if (!src->data[v])
            continue;
        const uint64_t n = elems(src, v);
        o->data[v] = qn_mem_get(o->env->alloc, (n ? n : 1) * sizeof(float), err);
        if (!o->data[v]) {
            qn_overlay_free(o);
            return QN_E_MEMORY;
        }
        memcpy(o->data[v], src->data[v], n * sizeof(float));
    }
    o->n_bytes = src->n_bytes;
    *out = o;
    return QN_OK;
}

void qn_overlay_round(qn_overlay *o)
{
    for (uint32_t v = 0; v < o->graph->n_values; v++) {
        if (!o->data[v])
            continue;
        const uint8_t dtype = o->graph->source->tensors[o->graph->values[v].tensor].dtype;
        const uint64_t n = elems(o, v);
        for (uint64_t i = 0; i < n && dtype == QN_BF16; i++)
            o->data[v][i] = qn_bf16_to_f32(qn_f32_to_bf16(o->data[v][i]));
        for (uint64_t i = 0; i < n && dtype == QN_F16; i++)
            o->data[v][i] = qn_f16_to_f32(qn_f32_to_f16(o->data[v][i]));
    }
}

qn_code qn_overlay_read(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err)
{
    const qn_overlay *o = ctx;
    /* A subgraph's weight is the source's: only the main graph's can be changed. */
    if (g != o->graph || !o->data[value])
        return qn_weight_from_source(o->env, g->source, g, value, first, n, dst, err);
    const qn_value *v = &g->values[value];
    uint64_t row = 1;
    for (unsigned k = 1; k < v->rank; k++)
        row *= (uint64_t)v->dims[k];
    memcpy(dst, o->data[value] + first * row, n * row * sizeof(float));
    return QN_OK;
}
