/* prepare.c: an ONNX model made ready for pruning; see emit.h. Identity and Dropout go first (what they give means what they take), then what
 * is constant is computed, then batch norms are folded. Every step leaves the function as it is. */
#include "compress/prune/prepare.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/prune/emit.h"
#include <string.h>

uint32_t qn_prepare_input(const qn_prepare *p, const qn_node *n, unsigned i)
{
    return i < n->n_in && n->in[i] != QN_NO_VALUE ? p->alias[n->in[i]] : QN_NO_VALUE;
}

bool qn_prepare_is_known(const qn_prepare *p, uint32_t value)
{
    const qn_value *v = &p->g->values[value];
    return p->known[value].dtype != QN_BYTES || (v->kind == QN_VALUE_CONST && v->data.data) ||
           (v->kind == QN_VALUE_WEIGHT && v->dtype != QN_BYTES && p->data_type[value] != QN_ONNX_UNDEFINED);
}

qn_code qn_prepare_content(qn_prepare *p, uint32_t value, qn_array *out, qn_err *err)
{
    const qn_value *v = &p->g->values[value];
    if (p->known[value].dtype != QN_BYTES) {
        qn_array_share(&p->known[value], out);
        return QN_OK;
    }
    if (v->kind == QN_VALUE_CONST) {
        *out = v->data;
        out->buffer = NULL;
        return QN_OK;
    }
    QN_TRY(qn_array_new(&p->pool, out, (qn_dtype)v->dtype, v->dims, v->rank, err));
    const qn_code rc = qn_weight_from_source(p->env, p->g->source, p->g, value, 0, v->rank ? (uint64_t)v->dims[0] : 1, out->data, err);
    if (rc != QN_OK)
        qn_array_release(out);
    return rc;
}

qn_code qn_prepare_encode(qn_prepare *p, const qn_array *a, uint8_t data_type, void **out, qn_err *err)
{
    const qn_onnx_dtype_info *info = qn_onnx_dtype_get(data_type);
    if (!info || (info->dtype != a->dtype && (a->dtype != QN_F32 || (info->dtype != QN_F16 && info->dtype != QN_BF16))))
        return QN_BUG(err, "%s cannot be written as ONNX type %u", qn_dtype_name((qn_dtype)a->dtype), data_type);
    uint8_t *b = qn_mem_get(p->env->alloc, a->n * info->bits / 8 + 1, err);
    if (!b)
        return QN_E_MEMORY;
    const float *f = a->data;
    if (info->dtype == a->dtype && a->n)
        memcpy(b, a->data, qn_array_bytes(a));
    for (uint64_t i = 0; info->dtype != a->dtype && i < a->n; i++)
        qn_store16(b + 2 * i, info->dtype == QN_F16 ? qn_f32_to_f16(f[i]) : qn_f32_to_bf16(f[i]));
    *out = b;
    return QN_OK;
}

/* ---- the file's names and types ---- */

/* A tensor of the main graph that a weight of g is: then its type is known. */
static qn_code find_weight(qn_prepare *p, uint32_t value, const char *name)
{
    const qn_onnx_tensor *t = qn_onnx_edit_tensor_of(&p->edit, name);
    const qn_onnx_dtype_info *info = t ? qn_onnx_dtype_get(t->data_type) : NULL;
    if (info && !info->packed && qn_running_dtype(info->dtype) == p->g->values[value].dtype && t->rank == p->g->values[value].rank)
        p->data_type[value] = t->data_type;
    return QN_OK;
}

static qn_code name_values(qn_prepare *p, qn_err *err)
{
    const qn_graph *g = p->g;
    const qn_onnx_graph *file = p->edit.model->graph;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        p->node[i] = qn_onnx_edit_find(&p->edit, n->origin);
        if (p->node[i] == QN_NO_NODE) { /* inside a function: what it touches stays */
            for (unsigned k = 0; k < n->n_in; k++)
                if (n->in[k] != QN_NO_VALUE)
                    p->pinned[n->in[k]] = true;
            for (unsigned k = 0; k < n->n_out; k++)
                if (n->out[k] != QN_NO_VALUE)
                    p->pinned[n->out[k]] = true;
            continue;
        }
        const qn_onnx_node *d = &file->nodes[p->node[i]];
        for (unsigned k = 0; k < n->n_in && k < d->n_inputs; k++)
            if (n->in[k] != QN_NO_VALUE)
                p->name[n->in[k]] = d->inputs[k];
        for (unsigned k = 0; k < n->n_out && k < d->n_outputs; k++)
            if (n->out[k] != QN_NO_VALUE)
                p->name[n->out[k]] = d->outputs[k];
    }
    for (uint32_t v = 0; v < g->n_values; v++) {
        if (!p->name[v])
            continue;
        p->pinned[v] = p->pinned[v] || qn_onnx_edit_is_pinned(&p->edit, p->name[v]);
        if (g->values[v].kind == QN_VALUE_WEIGHT)
            QN_TRY(find_weight(p, v, p->name[v]));
    }
    for (uint32_t i = 0; i < g->n_outputs; i++)
        p->pinned[g->outputs[i]] = true;
    (void)err;
    return QN_OK;
}

/* ---- what gives its input ---- */

static bool gives_input(const qn_prepare *p, const qn_node *n)
{
    if (*n->domain || !n->n_in || n->in[0] == QN_NO_VALUE || !n->n_out || n->out[0] == QN_NO_VALUE)
        return false;
    for (unsigned k = 1; k < n->n_out; k++)
        if (n->out[k] != QN_NO_VALUE && (p->pinned[n->out[k]] || p->g->last_use[n->out[k]] != QN_NO_NODE))
            return false;
    if (!strcmp(n->type, "Identity"))
        return true;
    if (strcmp(n->type, "Dropout"))
        return false;
    if (n->n_in < 3 || n->in[2] == QN_NO_VALUE)
        return true;
    const qn_array *training = &p->g->values[n->in[2]].data;
    int64_t on = 1;
    qn_err ignored = {0};
    return training->data && qn_array_int(training, &on, &ignored) == QN_OK && !on;
}

static qn_code drop_identities(qn_prepare *p, qn_err *err)
{
    for (uint32_t i = 0; i < p->g->n_nodes; i++) {
        const qn_node *n = &p->g->nodes[i];
        if (p->node[i] == QN_NO_NODE || !gives_input(p, n) || p->pinned[n->out[0]] || !p->name[n->in[0]])
            continue;
        p->alias[n->out[0]] = p->alias[n->in[0]];
        QN_TRY(qn_onnx_edit_remove(&p->edit, p->node[i], err));
        p->node[i] = QN_NO_NODE;
    }
    return QN_OK;
}

static qn_code rename_inputs(qn_prepare *p, qn_err *err)
{
    for (uint32_t i = 0; i < p->g->n_nodes; i++) {
        const qn_node *n = &p->g->nodes[i];
        if (p->node[i] == QN_NO_NODE)
            continue;
        for (unsigned k = 0; k < n->n_in; k++)
            if (n->in[k] != QN_NO_VALUE && p->alias[n->in[k]] != n->in[k])
                QN_TRY(qn_onnx_edit_input(&p->edit, p->node[i], k, p->name[p->alias[n->in[k]]], err));
    }
    return QN_OK;
}

/* ---- the whole ---- */

static qn_code begin(qn_prepare *p, qn_err *err)
{
    const qn_alloc *a = p->env->alloc;
    const uint64_t n = p->g->n_values + 1ull;
    QN_TRY(qn_onnx_edit_init(&p->edit, p->env, p->g->source, err));
    p->pool.alloc = a;
    if (!(p->node = qn_mem_zeros(a, p->g->n_nodes + 1ull, sizeof *p->node, err)) || !(p->alias = qn_mem_zeros(a, n, sizeof *p->alias, err)) ||
        !(p->maker = qn_mem_zeros(a, n, sizeof *p->maker, err)) || !(p->name = qn_mem_zeros(a, n, sizeof *p->name, err)) ||
        !(p->known = qn_mem_zeros(a, n, sizeof *p->known, err)) || !(p->data_type = qn_mem_zeros(a, n, 1, err)) ||
        !(p->uses = qn_mem_zeros(a, n, sizeof *p->uses, err)) || !(p->pinned = qn_mem_zeros(a, n, sizeof *p->pinned, err)))
        return QN_E_MEMORY;
    for (uint32_t v = 0; v < p->g->n_values; v++) {
        p->alias[v] = v;
        p->maker[v] = p->g->values[v].kind == QN_VALUE_NODE ? p->g->values[v].node : QN_NO_NODE;
    }
    return name_values(p, err);
}

static void end(qn_prepare *p)
{
    const qn_alloc *a = p->env->alloc;
    for (uint32_t v = 0; p->known && v < p->g->n_values; v++)
        qn_array_release(&p->known[v]);
    qn_onnx_edit_release(&p->edit);
    qn_mem_put(a, p->node);
    qn_mem_put(a, p->alias);
    qn_mem_put(a, p->maker);
    qn_mem_put(a, p->name);
    qn_mem_put(a, p->known);
    qn_mem_put(a, p->data_type);
    qn_mem_put(a, p->uses);
    qn_mem_put(a, p->pinned);
}

/* Who reads what, of the nodes that are left; what nobody reads is let go. */
static void count_uses(qn_prepare *p)
{
    for (uint32_t i = 0; i < p->g->n_nodes; i++)
        for (unsigned k = 0; p->node[i] != QN_NO_NODE && k < p->g->nodes[i].n_in; k++) {
            const uint32_t v = qn_prepare_input(p, &p->g->nodes[i], k);
            if (v != QN_NO_VALUE)
                p->uses[v]++;
        }
    for (uint32_t v = 0; v < p->g->n_values; v++)
        if (!p->uses[v])
            qn_array_release(&p->known[v]);
}

/* What was computed and is still read becomes an initializer. */
static qn_code add_known(qn_prepare *p, qn_err *err)
{
    for (uint32_t v = 0; v < p->g->n_values; v++) {
        void *data;
        if (p->known[v].dtype == QN_BYTES || !p->uses[v])
            continue;
        QN_TRY(qn_prepare_encode(p, &p->known[v], p->data_type[v], &data, err));
        QN_TRY(qn_onnx_edit_add(&p->edit, p->name[v], p->data_type[v], p->known[v].dims, p->known[v].rank, data, 0, err));
    }
    return QN_OK;
}

static qn_code prepare(qn_prepare *p, qn_err *err)
{
    QN_TRY(begin(p, err));
    QN_TRY(drop_identities(p, err));
    QN_TRY(rename_inputs(p, err));
    QN_TRY(qn_prepare_fold(p, err));
    count_uses(p);
    QN_TRY(qn_prepare_norms(p, err));
    QN_TRY(add_known(p, err));
    return qn_onnx_edit_sweep(&p->edit, err);
}

qn_code qn_prepare_onnx(const qn_env *env, const qn_graph *g, const char *path, bool *changed, uint32_t *n_folded_norms, qn_err *err)
{
    qn_prepare p = {.env = env, .g = g};
    qn_code rc = prepare(&p, err);
    *n_folded_norms = p.n_norms;
    *changed = rc == QN_OK && qn_onnx_edit_changes(&p.edit);
    if (*changed)
        rc = qn_onnx_edit_write(&p.edit, path, true, false, NULL, 0, err);
    end(&p);
    return rc;
}
