/* prepare_fold.c: nodes whose operands are all constant are run now, and what they give becomes a weight: a weight behind Transpose, Reshape,
 * Cast, Mul …, and what ConstantOfShape makes. Each node is run as a graph of its own; one that cannot be run, or whose result would be larger than
 * is good for the file, stays. Quantized weights stay too: computed they would be four times as large. */
#include "base/err.h"
#include "compress/prune/prepare.h"
#include <string.h>

enum { GROWN_BYTES_MAX = 1 << 20, MADE_BYTES_MAX = 64 << 20, RUN_BYTES = 256 << 20, OPERANDS_MAX = 32 };

static bool is_of(const char *type, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(type, *list))
            return true;
    return false;
}

static bool may_fold(const qn_prepare *p, const qn_node *n)
{
    static const char *const stay[] = {"DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "Identity", "RandomNormal", "RandomNormalLike",
                                       "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout", NULL};
    if (*n->domain || !n->op || !n->op->forward || !n->n_in || n->n_in > OPERANDS_MAX || n->n_out > OPERANDS_MAX || is_of(n->type, stay))
        return false;
    for (unsigned k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == QN_ATTR_GRAPH)
            return false;
    for (unsigned k = 0; k < n->n_out; k++)
        if (n->out[k] != QN_NO_VALUE && p->pinned[n->out[k]])
            return false;
    for (unsigned k = 0; k < n->n_in; k++) {
        const uint32_t v = qn_prepare_input(p, n, k);
        if (v != QN_NO_VALUE && !qn_prepare_is_known(p, v))
            return false;
    }
    return true;
}

/* The file's type of what a node gives, by the type it runs in. Operators keep the type of their first float operand, but for a few. */
static uint8_t type_of(const qn_prepare *p, const qn_node *n, const qn_array *out)
{
    static const uint8_t ints[][2] = {{QN_I64, QN_ONNX_INT64}, {QN_I32, QN_ONNX_INT32}, {QN_I16, QN_ONNX_INT16}, {QN_I8, QN_ONNX_INT8},
                                      {QN_U8, QN_ONNX_UINT8},  {QN_U16, QN_ONNX_UINT16}, {QN_U32, QN_ONNX_UINT32}, {QN_U64, QN_ONNX_UINT64},
                                      {QN_BOOL, QN_ONNX_BOOL}, {QN_F64, QN_ONNX_DOUBLE}};
    for (unsigned i = 0; i < sizeof ints / sizeof ints[0]; i++)
        if (out->dtype == ints[i][0])
            return ints[i][1];
    uint8_t t = QN_ONNX_FLOAT;
    if (!strcmp(n->type, "Cast")) {
        t = (uint8_t)qn_node_int(n, "to", QN_ONNX_FLOAT);
    } else {
        for (unsigned k = n->n_in; k-- > 0;) {
            const uint32_t v = qn_prepare_input(p, n, k);
            const uint8_t have = v == QN_NO_VALUE ? QN_ONNX_UNDEFINED : p->data_type[v];
            if (have == QN_ONNX_FLOAT || have == QN_ONNX_FLOAT16 || have == QN_ONNX_BFLOAT16)
                t = have;
        }
    }
    return t == QN_ONNX_FLOAT || t == QN_ONNX_FLOAT16 || t == QN_ONNX_BFLOAT16 ? t : QN_ONNX_UNDEFINED;
}

/* Narrow floats may come out of ConstantOfShape without an operand that says so. */
static bool type_is_sure(const qn_node *n)
{
    const qn_attr *value = qn_node_attr(n, "value");
    return strcmp(n->type, "ConstantOfShape") || !value || value->type != QN_ATTR_TENSOR || value->v.tensor->dtype != QN_F32;
}

static bool file_says_float(const qn_prepare *p, uint32_t node)
{
    const qn_onnx_node *d = &p->edit.model->graph->nodes[p->node[node]];
    for (uint32_t k = 0; k < d->n_attrs; k++)
        if (d->attrs[k].type == QN_ONNX_ATTR_TENSOR && d->attrs[k].n && !strcmp(d->attrs[k].name, "value"))
            return d->attrs[k].v.tensors->data_type == QN_ONNX_FLOAT;
    return true;
}

/* The node over inputs of these shapes, as a graph. */
static qn_code one_node(qn_prepare *p, const qn_node *n, const qn_array *feeds, const unsigned *feed_of, qn_graph *one, qn_err *err)
{
    uint32_t in[OPERANDS_MAX], out[OPERANDS_MAX];
    char name[32];
    (void)p;
    QN_TRY(qn_graph_begin_block(one, "constant", err));
    for (unsigned k = 0; k < n->n_in; k++) {
        in[k] = QN_NO_VALUE;
        if (n->in[k] == QN_NO_VALUE)
            continue;
        const qn_array *a = &feeds[feed_of[k]];
        memcpy(name, "in", 3);
        name[2] = (char)('0' + k / 10);
        name[3] = (char)('0' + k % 10);
        name[4] = '\0';
        QN_TRY(qn_graph_input(one, name, (qn_dtype)a->dtype, a->dims, a->rank, &in[k], err));
    }
    QN_TRY(qn_graph_node(one, n->domain, n->type, n->version, n->name, in, n->n_in, n->attrs, n->n_attrs, NULL, out, n->n_out, err));
    for (unsigned k = 0; k < n->n_out; k++)
        QN_TRY(qn_graph_output(one, out[k], err));
    return qn_graph_seal(one, err);
}

/* Copies of what the node gives, in memory of ours: the executor's goes with it. */
static qn_code run_one(qn_prepare *p, const qn_node *n, const qn_graph *one, const qn_array *feeds, uint64_t most, qn_array *out, qn_err *err)
{
    qn_env env = *p->env;
    qn_exec *x;
    qn_array got[OPERANDS_MAX];
    memset(got, 0, sizeof got);
    env.n_threads = 1;
    const qn_exec_options o = {.memory_bytes = RUN_BYTES + 2 * most};
    QN_TRY(qn_exec_open(&env, one, &o, &x, err));
    qn_code rc = qn_exec_run(x, feeds, got, err);
    for (unsigned k = 0; k < n->n_out; k++) {
        if (rc == QN_OK && got[k].dtype != QN_BYTES && n->out[k] != QN_NO_VALUE)
            rc = qn_array_new(&p->pool, &out[k], (qn_dtype)got[k].dtype, got[k].dims, got[k].rank, err);
        if (rc == QN_OK && got[k].n && out[k].data)
            memcpy(out[k].data, got[k].data, qn_array_bytes(&got[k]));
        qn_array_release(&got[k]);
    }
    qn_exec_close(x);
    return rc;
}

/* May results of this size stand in the file in place of operands of that size? */
static bool worth_it(const qn_node *n, uint64_t before, uint64_t after)
{
    return after <= before || after <= GROWN_BYTES_MAX || (!strcmp(n->type, "ConstantOfShape") && after <= MADE_BYTES_MAX) ||
           (after <= MADE_BYTES_MAX && after <= 2 * before);
}

static qn_code keep(qn_prepare *p, uint32_t node, qn_array *out, uint64_t before, bool *kept)
{
    const qn_node *n = &p->g->nodes[node];
    uint64_t after = 0;
    uint8_t types[OPERANDS_MAX];
    *kept = type_is_sure(n) || file_says_float(p, node);
    for (unsigned k = 0; k < n->n_out; k++) {
        types[k] = out[k].dtype == QN_BYTES ? QN_ONNX_FLOAT : type_of(p, n, &out[k]);
        *kept = *kept && types[k] != QN_ONNX_UNDEFINED && (out[k].dtype == QN_BYTES || p->name[n->out[k]]);
        after += out[k].dtype == QN_BYTES ? 0 : qn_array_bytes(&out[k]);
    }
    *kept = *kept && worth_it(n, before, after);
    for (unsigned k = 0; k < n->n_out && *kept; k++) {
        if (out[k].dtype == QN_BYTES)
            continue;
        p->data_type[n->out[k]] = types[k];
        p->known[n->out[k]] = out[k];
        out[k] = (qn_array){0};
    }
    return QN_OK;
}

static qn_code fold_node(qn_prepare *p, uint32_t node, bool *folded, qn_err *err)
{
    const qn_node *n = &p->g->nodes[node];
    qn_array feeds[OPERANDS_MAX], out[OPERANDS_MAX];
    unsigned feed_of[OPERANDS_MAX], n_feeds = 0;
    qn_graph *one = NULL;
    uint64_t before = 0;
    qn_err why = {0}; /* of a node that cannot be run: it will say so itself */
    qn_code rc = QN_OK;
    memset(out, 0, sizeof out);
    *folded = false;
    for (unsigned k = 0; k < n->n_in && rc == QN_OK; k++) {
        if (n->in[k] == QN_NO_VALUE)
            continue;
        rc = qn_prepare_content(p, qn_prepare_input(p, n, k), &feeds[n_feeds], err);
        if (rc == QN_OK)
            before += qn_array_bytes(&feeds[n_feeds]);
        feed_of[k] = n_feeds;
        n_feeds += rc == QN_OK;
    }
    if (rc == QN_OK)
        rc = qn_graph_new(p->env, NULL, "constant", &one, err);
    if (rc == QN_OK && one_node(p, n, feeds, feed_of, one, &why) == QN_OK && run_one(p, n, one, feeds, before, out, &why) == QN_OK)
        rc = keep(p, node, out, before, folded);
    if (why.code == QN_E_CANCELLED || why.code == QN_E_IO)
        rc = QN_FAIL(err, why.code, QN_NO_OFFSET, "%s", why.text);
    for (unsigned k = 0; k < n_feeds; k++)
        qn_array_release(&feeds[k]);
    for (unsigned k = 0; k < n->n_out; k++)
        qn_array_release(&out[k]);
    qn_graph_close(one);
    return rc;
}

qn_code qn_prepare_fold(qn_prepare *p, qn_err *err)
{
    for (uint32_t i = 0; i < p->g->n_nodes; i++) {
        bool folded;
        if (p->node[i] == QN_NO_NODE || !may_fold(p, &p->g->nodes[i]))
            continue;
        QN_TRY(fold_node(p, i, &folded, err));
        if (!folded)
            continue;
        QN_TRY(qn_onnx_edit_remove(&p->edit, p->node[i], err));
        p->node[i] = QN_NO_NODE;
    }
    return QN_OK;
}
