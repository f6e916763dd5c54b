/* emit_onnx.c: a cut ONNX model as a smaller ONNX model. Weights lose what goes; nodes that say sizes, counts or indices say the new ones
 * (emit_onnx_node.c and beside it); inputs and outputs of the model stay as they are. The rest of the file is carried over byte for byte. */
#include "compress/prune/emit_onnx.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/prune/emit.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

qn_code qn_emit_refuse(const qn_onnx_emission *e, uint32_t node, const char *why, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "node '%s' (%s) cannot be cut: %s", n->name, n->type, why);
}

qn_code qn_emit_file_node(const qn_onnx_emission *e, uint32_t node, uint32_t *file, qn_err *err)
{
    *file = e->node[node];
    return *file == QN_NO_NODE ? qn_emit_refuse(e, node, "it is inside a function of the model", err) : QN_OK;
}

qn_code qn_onnx_emission_axis(qn_onnx_emission *e, uint32_t value, unsigned axis, uint8_t **keep, uint64_t *n_kept, qn_err *err)
{
    const uint64_t n = (uint64_t)qn_emit_old(e, value, axis);
    *keep = qn_arena_get(&e->edit.arena, n + 1, 1, err);
    return *keep ? qn_cut_axis(e->cut, value, axis, *keep, n, n_kept, err) : QN_E_MEMORY;
}

qn_code qn_emit_literal(qn_onnx_emission *e, uint32_t node, unsigned k, const int64_t *ints, uint64_t n, unsigned rank, qn_err *err)
{
    const uint32_t v = qn_emit_in(&e->g->nodes[node], k);
    const bool narrow = v != QN_NO_VALUE && e->g->values[v].dtype == QN_I32;
    const int64_t dims[1] = {(int64_t)n};
    const char *name;
    uint32_t file;
    QN_TRY(qn_emit_file_node(e, node, &file, err));
    const char *base = v != QN_NO_VALUE && e->name[v] ? e->name[v] : e->edit.model->graph->nodes[file].outputs[0];
    QN_TRY(qn_onnx_edit_new_name(&e->edit, base, &name, err));
    uint8_t *data = qn_mem_get(e->env->alloc, n * 8 + 1, err);
    if (!data)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < n; i++) {
        if (narrow)
            qn_store32(data + 4 * i, (uint32_t)ints[i]);
        else
            qn_store64(data + 8 * i, (uint64_t)ints[i]);
    }
    QN_TRY(qn_onnx_edit_add(&e->edit, name, narrow ? QN_ONNX_INT32 : QN_ONNX_INT64, dims, rank, data, 0, err));
    return qn_onnx_edit_input(&e->edit, file, k, name, err);
}

/* ---- weights ---- */

static qn_code encode(const qn_onnx_emission *e, uint32_t value, qn_dtype to, uint64_t n, uint8_t *dst, qn_err *err)
{
    const float *f = e->overlay->data[value];
    switch (to) {
    case QN_F32: memcpy(dst, f, n * sizeof *f); return QN_OK;
    case QN_F16:
        for (uint64_t i = 0; i < n; i++)
            qn_store16(dst + 2 * i, qn_f32_to_f16(f[i]));
        return QN_OK;
    case QN_BF16:
        for (uint64_t i = 0; i < n; i++)
            qn_store16(dst + 2 * i, qn_f32_to_bf16(f[i]));
        return QN_OK;
    default: break;
    }
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "new content in %s, which no pruned weight is written in", qn_dtype_name(to));
}

static qn_code full_weight(const qn_onnx_emission *e, uint32_t value, uint8_t *dst, qn_err *err)
{
    const qn_value *v = &e->g->values[value];
    const qn_source_tensor *t = &e->g->source->tensors[v->tensor];
    if (e->overlay && e->overlay->data[value])
        return encode(e, value, (qn_dtype)t->dtype, qn_value_elems(v), dst, err);
    return qn_source_tensor_read(e->g->source, v->tensor, 0, t->n_bytes, dst, err);
}

/* qn_onnx_make_fn */
static qn_code make_weight(void *ctx, uint64_t id, void **data, uint64_t *n_bytes, qn_err *err)
{
    const qn_onnx_emission *e = ctx;
    const uint32_t value = (uint32_t)id;
    const qn_source_tensor *t = &e->g->source->tensors[e->g->values[value].tensor];
    const unsigned bytes = qn_dtype_bits((qn_dtype)t->dtype) / 8;
    int64_t dims[QN_ARRAY_RANK_MAX];
    uint8_t *full = qn_mem_get(e->env->alloc, t->n_bytes + 1, err), *some = full;
    if (!full)
        return QN_E_MEMORY;
    qn_code rc = full_weight(e, value, full, err);
    *n_bytes = t->n_bytes;
    if (rc == QN_OK && e->touched[value]) {
        some = qn_mem_get(e->env->alloc, t->n_bytes + 1, err);
        rc = some ? qn_cut_take(e->cut, value, bytes, full, some, dims, err) : QN_E_MEMORY;
        *n_bytes = bytes;
        for (unsigned k = 0; rc == QN_OK && k < qn_emit_rank(e, value); k++)
            *n_bytes *= (uint64_t)dims[k];
        qn_mem_put(e->env->alloc, full);
    }
    if (rc != QN_OK) {
        qn_mem_put(e->env->alloc, some);
        return qn_err_in_tensor(err, rc, e->g->values[value].name);
    }
    *data = some;
    return QN_OK;
}

static int by_name(const void *pa, const void *pb)
{
    return strcmp((*(const qn_onnx_weight *const *)pa)->name, (*(const qn_onnx_weight *const *)pb)->name);
}

static qn_code edit_weight(qn_onnx_emission *e, uint32_t value, const qn_onnx_weight *const *sorted, uint64_t n, qn_err *err)
{
    const qn_value *v = &e->g->values[value];
    const qn_source_tensor *t = &e->g->source->tensors[v->tensor];
    const qn_onnx_weight key = {.name = v->name}, *const at = &key, *const *found = n ? bsearch(&at, sorted, (size_t)n, sizeof *sorted, by_name) : NULL;
    if (!found)
        return QN_BUG(err, "the model has no tensor '%s'", v->name);
    if (qn_dtype_bits((qn_dtype)t->dtype) < 8 || t->rank != (*found)->tensor->rank)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "elements of %s cannot be cut", qn_dtype_name((qn_dtype)t->dtype)),
                                v->name);
    int64_t dims[QN_ARRAY_RANK_MAX];
    for (unsigned k = 0; k < v->rank; k++)
        dims[k] = e->touched[value] ? qn_emit_new(e, value, k) : v->dims[k];
    return qn_onnx_edit_tensor(&e->edit, (*found)->tensor, dims, v->rank, NULL, value, err);
}

static qn_code edit_weights(qn_onnx_emission *e, qn_err *err)
{
    const qn_onnx_model *m = e->edit.model;
    const qn_onnx_weight **sorted = qn_mem_get(e->env->alloc, (m->n_weights + 1) * sizeof *sorted, err);
    qn_code rc = sorted ? QN_OK : QN_E_MEMORY;
    for (uint64_t i = 0; rc == QN_OK && i < m->n_weights; i++)
        sorted[i] = &m->weights[i];
    if (rc == QN_OK && m->n_weights)
        qsort(sorted, (size_t)m->n_weights, sizeof *sorted, by_name);
    for (uint32_t v = 0; rc == QN_OK && v < e->g->n_values; v++)
        if (e->g->values[v].kind == QN_VALUE_WEIGHT && (e->touched[v] || (e->overlay && e->overlay->data[v])))
            rc = edit_weight(e, v, sorted, m->n_weights, err);
    qn_mem_put(e->env->alloc, sorted);
    return rc;
}

/* A Constant of floats or integers in attributes: an initializer of its name takes its place. */
static qn_code edit_constant(qn_onnx_emission *e, uint32_t value, qn_err *err)
{
    const qn_array *a = &e->g->values[value].data;
    const qn_onnx_graph *file = e->edit.model->graph;
    const uint8_t type = a->dtype == QN_F32 ? QN_ONNX_FLOAT : a->dtype == QN_I64 ? QN_ONNX_INT64 : QN_ONNX_UNDEFINED;
    const unsigned bytes = qn_dtype_bits((qn_dtype)a->dtype) / 8;
    int64_t dims[QN_ARRAY_RANK_MAX];
    uint32_t at = 0;
    while (at < file->n_nodes && (file->nodes[at].n_outputs != 1 || !e->name[value] || strcmp(file->nodes[at].outputs[0], e->name[value])))
        at++;
    if (at == file->n_nodes || type == QN_ONNX_UNDEFINED || !a->data)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "this constant cannot be cut"), e->g->values[value].name);
    void *some = qn_mem_get(e->env->alloc, a->n * bytes + 1, err);
    if (!some)
        return QN_E_MEMORY;
    const qn_code rc = qn_cut_take(e->cut, value, bytes, a->data, some, dims, err);
    if (rc != QN_OK) {
        qn_mem_put(e->env->alloc, some);
        return rc;
    }
    QN_TRY(qn_onnx_edit_remove(&e->edit, at, err));
    return qn_onnx_edit_add(&e->edit, e->name[value], type, dims, qn_emit_rank(e, value), some, 0, err);
}

/* ---- the whole ---- */

static qn_code name_values(qn_onnx_emission *e)
{
    const qn_onnx_graph *file = e->edit.model->graph;
    for (uint32_t i = 0; i < e->g->n_nodes; i++) {
        const qn_node *n = &e->g->nodes[i];
        e->node[i] = qn_onnx_edit_find(&e->edit, n->origin);
        if (e->node[i] == QN_NO_NODE)
            continue;
        const qn_onnx_node *d = &file->nodes[e->node[i]];
        for (unsigned k = 0; k < n->n_in && k < d->n_inputs; k++)
            if (n->in[k] != QN_NO_VALUE)
                e->name[n->in[k]] = d->inputs[k];
        for (unsigned k = 0; k < n->n_out && k < d->n_outputs; k++)
            if (n->out[k] != QN_NO_VALUE)
                e->name[n->out[k]] = d->outputs[k];
    }
    return QN_OK;
}

static qn_code find_touched(qn_onnx_emission *e, qn_err *err)
{
    const qn_groups *s = e->cut->groups;
    for (uint32_t v = 0; v < e->g->n_values; v++) {
        e->touched[v] = s->rank[v] <= QN_ARRAY_RANK_MAX && qn_cut_touches(e->cut, v);
        for (unsigned k = 0; s->rank[v] <= QN_ARRAY_RANK_MAX && k < s->rank[v]; k++)
            e->dims[(uint64_t)v * QN_ARRAY_RANK_MAX + k] = s->dims[(uint64_t)v * QN_ARRAY_RANK_MAX + k];
        if (e->touched[v])
            QN_TRY(qn_cut_dims(e->cut, v, &e->dims[(uint64_t)v * QN_ARRAY_RANK_MAX], err));
    }
    for (uint32_t i = 0; i < e->g->n_inputs; i++)
        if (e->touched[e->g->inputs[i]])
            return QN_BUG(err, "input '%s' of the model would be cut", e->g->values[e->g->inputs[i]].name);
    for (uint32_t i = 0; i < e->g->n_outputs; i++)
        if (e->touched[e->g->outputs[i]])
            return QN_BUG(err, "output '%s' of the model would be cut", e->g->values[e->g->outputs[i]].name);
    return QN_OK;
}

static qn_code begin(qn_onnx_emission *e, qn_err *err)
{
    const qn_alloc *a = e->env->alloc;
    const uint64_t n = e->g->n_values + 1ull;
    QN_TRY(qn_onnx_edit_init(&e->edit, e->env, e->g->source, err));
    e->edit.make = make_weight;
    e->edit.make_ctx = e;
    if (!(e->node = qn_mem_zeros(a, e->g->n_nodes + 1ull, sizeof *e->node, err)) || !(e->name = qn_mem_zeros(a, n, sizeof *e->name, err)) ||
        !(e->dims = qn_mem_zeros(a, n, QN_ARRAY_RANK_MAX * sizeof *e->dims, err)) || !(e->touched = qn_mem_zeros(a, n, 1, err)) ||
        !(e->old = qn_mem_zeros(a, n, sizeof *e->old, err)) || !(e->other = qn_mem_zeros(a, n, sizeof *e->other, err)) ||
        !(e->now = qn_mem_zeros(a, n, sizeof *e->now, err)))
        return QN_E_MEMORY;
    QN_TRY(name_values(e));
    QN_TRY(find_touched(e, err));
    return qn_emit_eval(e, err);
}

static void end(qn_onnx_emission *e)
{
    const qn_alloc *a = e->env->alloc;
    qn_onnx_edit_release(&e->edit);
    qn_mem_put(a, e->node);
    qn_mem_put(a, e->name);
    qn_mem_put(a, e->dims);
    qn_mem_put(a, e->touched);
    qn_mem_put(a, e->old);
    qn_mem_put(a, e->other);
    qn_mem_put(a, e->now);
    qn_mem_put(a, e->pieces);
}

static qn_code emit(qn_onnx_emission *e, const char *path, const qn_emit_options *o, qn_err *err)
{
    const qn_onnx_pair record = {.key = "quern.pruning", .value = o->record};
    QN_TRY(begin(e, err));
    for (uint32_t i = 0; i < e->g->n_nodes; i++)
        QN_TRY(qn_emit_node(e, i, err));
    for (uint32_t v = 0; v < e->g->n_values; v++)
        if (e->g->values[v].kind == QN_VALUE_CONST && e->touched[v])
            QN_TRY(edit_constant(e, v, err));
    QN_TRY(edit_weights(e, err));
    QN_TRY(qn_onnx_edit_sweep(&e->edit, err));
    return qn_onnx_edit_write(&e->edit, path, o->overwrite, true, &record, o->record ? 1 : 0, err);
}

qn_code qn_emit_onnx(const qn_env *env, const qn_graph *g, const qn_cut *c, const qn_overlay *w, const char *path, const qn_emit_options *o,
                     qn_err *err)
{
    qn_onnx_emission e = {.env = env, .g = g, .cut = c, .overlay = w};
    const qn_code rc = emit(&e, path, o, err);
    end(&e);
    return rc;
}
