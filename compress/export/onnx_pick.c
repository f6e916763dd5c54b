/* onnx_pick.c: which weights of an ONNX model can have another form. What reads them decides, and how they lie; a reason is kept for each matrix
 * that stays. */
#include "base/err.h"
#include "compress/export/onnx_impl.h"
#include "compress/lossy.h"
#include <string.h>

static bool is(const qn_node *n, const char *type)
{
    return !*n->domain && !strcmp(n->type, type);
}

/* ---- what reads a weight ---- */

/* NULL: MatMulNBits can take the node's place. */
static const char *nbits_refuses(const qn_graph *g, const qn_node *n, unsigned k)
{
    if (is(n, "MatMul") && k == 1) {
        const qn_value *a = &g->values[n->in[0]];
        return a->rank == 1 ? "multiplied with a vector" : NULL;
    }
    if (is(n, "MatMul"))
        return "stands in front in a MatMul";
    if (!is(n, "Gemm"))
        return is(n, "Conv") || is(n, "ConvTranspose") ? "a convolution: MatMulNBits knows matrices only" : "read by other nodes than MatMul and Gemm";
    if (k != 1)
        return "not the second operand of a Gemm";
    if (qn_node_int(n, "transA", 0) || qn_node_float(n, "alpha", 1) != 1)
        return "a Gemm that transposes or scales its input";
    return n->n_in > 2 && n->in[2] != QN_NO_VALUE && qn_node_float(n, "beta", 1) != 1 ? "a Gemm that scales its bias" : NULL;
}

static const char *qdq_refuses(const qn_node *n, unsigned k)
{
    const bool takes = (is(n, "MatMul") || is(n, "Gemm") || is(n, "Conv")) && k == 1;
    return takes ? NULL : "read by other nodes than MatMul, Gemm and Conv";
}

static bool layer_reads(const qn_node *n, unsigned k)
{
    return ((is(n, "MatMul") || is(n, "Gemm")) && k < 2) || ((is(n, "Conv") || is(n, "ConvTranspose")) && k == 1) ||
           ((is(n, "LSTM") || is(n, "GRU") || is(n, "RNN")) && (k == 1 || k == 2)) || (is(n, "Gather") && k == 0);
}

static const char *refuses(const qn_to_onnx_export *x, const qn_graph *graph, const qn_node *n, unsigned k)
{
    switch (x->want.form) {
    case QN_TO_ONNX_FORM_NBITS: return graph == x->g ? nbits_refuses(graph, n, k) : "read in a graph of its own (If, Loop)";
    case QN_TO_ONNX_FORM_QDQ: return qdq_refuses(n, k);
    case QN_TO_ONNX_FORM_DENSE:
    case QN_TO_ONNX_FORM_HALF: break;
    }
    return NULL;
}

/* ---- the list ---- */

static bool is_float(const qn_onnx_tensor *t)
{
    return t->data_type == QN_ONNX_FLOAT || t->data_type == QN_ONNX_FLOAT16 || t->data_type == QN_ONNX_BFLOAT16 || t->data_type == QN_ONNX_DOUBLE;
}

/* The pick of a value, made when it is a float weight of the file's main graph. NULL: it is none. */
static qn_code pick_of(qn_to_onnx_export *x, uint32_t *index, uint32_t value, const char *name, qn_to_onnx_pick **out, qn_err *err)
{
    const qn_value *v = &x->g->values[value];
    *out = NULL;
    if (v->kind != QN_VALUE_WEIGHT)
        return QN_OK;
    if (index[value]) {
        *out = &x->picks[index[value] - 1];
        return QN_OK;
    }
    const qn_onnx_tensor *t = qn_onnx_edit_tensor_of(&x->edit, name);
    if (!t || !is_float(t) || t->rank != v->rank)
        return QN_OK;
    qn_to_onnx_pick *p = &x->picks[x->n_picks++];
    *p = (qn_to_onnx_pick){.value = value, .tensor = v->tensor, .file = t, .name = name};
    p->uses = qn_arena_get(&x->edit.arena, sizeof *p->uses, 8, err);
    if (!p->uses)
        return QN_E_MEMORY;
    index[value] = x->n_picks;
    *out = p;
    return QN_OK;
}

static qn_code add_use(qn_to_onnx_export *x, qn_to_onnx_pick *p, uint32_t node, uint32_t file, qn_err *err)
{
    for (uint32_t i = 0; i < p->n_uses; i++)
        if (p->uses[i].node == node)
            return QN_OK;
    qn_to_onnx_use *u = p->uses;
    if (p->n_uses && (p->n_uses & (p->n_uses - 1)) == 0) { /* room for powers of two */
        u = qn_arena_get(&x->edit.arena, 2ull * p->n_uses * sizeof *u, 8, err);
        if (!u)
            return QN_E_MEMORY;
        memcpy(u, p->uses, p->n_uses * sizeof *u);
        p->uses = u;
    }
    u[p->n_uses++] = (qn_to_onnx_use){node, file};
    return QN_OK;
}

static void refuse(qn_to_onnx_pick *p, const char *why)
{
    if (!p->why)
        p->why = why;
}

/* Nodes of graphs in attributes read weights of the main graph by name, which forms but MatMulNBits keep. */
static qn_code read_inner(qn_to_onnx_export *x, uint32_t *index, const qn_graph *inner, qn_err *err)
{
    for (uint32_t i = 0; i < inner->n_nodes; i++) {
        const qn_node *n = &inner->nodes[i];
        for (unsigned k = 0; k < n->n_attrs; k++)
            if (n->attrs[k].type == QN_ATTR_GRAPH)
                QN_TRY(read_inner(x, index, n->attrs[k].v.graph, err));
        for (unsigned k = 0; k < n->n_in; k++) {
            const qn_graph *g = inner;
            uint32_t v = n->in[k];
            while (v != QN_NO_VALUE && g->outer && g->values[v].kind == QN_VALUE_OUTER) {
                v = g->values[v].outer;
                g = g->outer;
            }
            qn_to_onnx_pick *p;
            if (v == QN_NO_VALUE || g != x->g)
                continue;
            QN_TRY(pick_of(x, index, v, g->values[v].name, &p, err));
            if (!p)
                continue;
            const char *why = refuses(x, inner, n, k);
            p->matrix = p->matrix || layer_reads(n, k);
            if (why)
                refuse(p, why);
        }
    }
    return QN_OK;
}

static qn_code read_node(qn_to_onnx_export *x, uint32_t *index, uint32_t node, qn_err *err)
{
    const qn_node *n = &x->g->nodes[node];
    for (unsigned k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == QN_ATTR_GRAPH)
            QN_TRY(read_inner(x, index, n->attrs[k].v.graph, err));
    const uint32_t file = qn_onnx_edit_find(&x->edit, n->origin);
    for (unsigned k = 0; k < n->n_in; k++) {
        qn_to_onnx_pick *p;
        if (n->in[k] == QN_NO_VALUE)
            continue;
        if (file == QN_NO_NODE) { /* inside a function: it may be a weight of the main graph all the same */
            if (index[n->in[k]])
                refuse(&x->picks[index[n->in[k]] - 1], "read inside a function");
            continue;
        }
        if (k >= x->edit.model->graph->nodes[file].n_inputs)
            continue;
        QN_TRY(pick_of(x, index, n->in[k], x->edit.model->graph->nodes[file].inputs[k], &p, err));
        if (!p)
            continue;
        const char *why = refuses(x, x->g, n, k);
        p->matrix = p->matrix || layer_reads(n, k);
        if (why)
            refuse(p, why);
        QN_TRY(add_use(x, p, node, file, err));
    }
    return QN_OK;
}

/* ---- how they lie ---- */

/* As compress/lossy_pick.c sees them: so their codes have these rows and columns. */
static qn_code view_all(qn_to_onnx_export *x, qn_err *err)
{
    qn_source *s = x->g->source;
    qn_lossy_pick *seen = qn_mem_zeros(x->env->alloc, s->n_objects + 1, sizeof *seen, err);
    if (!seen)
        return QN_E_MEMORY;
    qn_lossy_pick_all(s, x->g, seen);
    for (uint32_t i = 0; i < x->n_picks; i++) {
        qn_to_onnx_pick *p = &x->picks[i];
        const uint64_t object = s->tensors[p->tensor].object;
        const qn_lossy_pick *l = object == QN_NO_OBJECT ? NULL : &seen[object];
        if (!l || l->role == QN_ROLE_NONE) {
            refuse(p, l ? "not a weight of a layer" : "its values do not lie in one place of the file");
            continue;
        }
        if (l->kept)
            refuse(p, l->kept);
        p->turned = l->view.turned;
        p->rows = l->view.rows * l->view.parts;
        p->cols = l->view.cols;
    }
    qn_mem_put(x->env->alloc, seen);
    return QN_OK;
}

static void choose(qn_to_onnx_export *x, qn_to_onnx_pick *p)
{
    const bool half = x->want.form == QN_TO_ONNX_FORM_HALF;
    if (x->want.form == QN_TO_ONNX_FORM_DENSE)
        return;
    if (half)
        p->why = p->file->data_type != QN_ONNX_FLOAT ? "not f32" : p->file->n_elems < 256 ? "small" : NULL;
    else if (p->file->data_type != QN_ONNX_FLOAT && p->file->data_type != QN_ONNX_FLOAT16)
        refuse(p, "neither f32 nor f16");
    if (x->want.form == QN_TO_ONNX_FORM_NBITS && qn_onnx_edit_is_pinned(&x->edit, p->name))
        refuse(p, "read in a graph of its own (If, Loop), by a function, or an output");
    p->chosen = !p->why;
}

qn_code qn_to_onnx_pick_all(qn_to_onnx_export *x, qn_export_job *job, const qn_to_onnx_wanted *want, qn_err *err)
{
    *x = (qn_to_onnx_export){.env = job->env, .job = job, .g = job->graph, .want = *want};
    QN_TRY(qn_onnx_edit_init(&x->edit, job->env, job->src, err));
    if (!x->g)
        return QN_OK;
    uint32_t *index = qn_mem_zeros(job->env->alloc, x->g->n_values + 1ull, sizeof *index, err);
    x->picks = index ? qn_arena_get(&x->edit.arena, (x->g->n_values + 1ull) * sizeof *x->picks, 8, err) : NULL;
    qn_code rc = x->picks ? QN_OK : QN_E_MEMORY;
    for (uint32_t i = 0; i < x->g->n_nodes && rc == QN_OK; i++)
        rc = read_node(x, index, i, err);
    qn_mem_put(job->env->alloc, index);
    if (rc == QN_OK && want->form != QN_TO_ONNX_FORM_DENSE)
        rc = view_all(x, err);
    for (uint32_t i = 0; i < x->n_picks && rc == QN_OK; i++)
        choose(x, &x->picks[i]);
    return rc;
}

void qn_to_onnx_export_close(qn_to_onnx_export *x)
{
    qn_onnx_edit_release(&x->edit);
}
