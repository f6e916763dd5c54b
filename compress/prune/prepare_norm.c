/* prepare_norm.c: batch norms folded into the product in front of them.
 *
 *     y = (W x + b − mean) · s + shift,  s = scale / sqrt(variance + ε)   =   (s W) x + (b − mean) · s + shift
 *
 * by output channel. The product is a Conv, a ConvTranspose or a Gemm, which take a bias; or a MatMul of two axes with an Add behind it, or without
 * one: then the batch norm becomes the Add. Nothing else may read what the product gives. Weights that others read too are left to them, and
 * the product gets its own. Only f32: of narrower floats the product would have to be rounded. */
#include "base/err.h"
#include "compress/prune/prepare.h"
#include <math.h>
#include <string.h>

typedef struct norm {
    double *scale, *shift; /* n_channels each */
    uint64_t n_channels;
} norm;

/* The operand as f32 that nobody else sees. */
static qn_code floats_of(qn_prepare *p, uint32_t value, qn_array *out, qn_err *err)
{
    qn_array a;
    QN_TRY(qn_prepare_content(p, value, &a, err));
    qn_code rc = qn_array_new(&p->pool, out, QN_F32, a.dims, a.rank, err);
    if (rc == QN_OK && a.n)
        memcpy(out->data, a.data, qn_array_bytes(&a));
    qn_array_release(&a);
    return rc;
}

static bool is_floats(const qn_prepare *p, uint32_t value)
{
    return value != QN_NO_VALUE && qn_prepare_is_known(p, value) && p->data_type[value] == QN_ONNX_FLOAT;
}

static bool is_plain(const qn_node *n, const char *type)
{
    return !*n->domain && !strcmp(n->type, type);
}

/* Does it norm by channel with constants, in the way our own executor runs it? */
static bool is_foldable(const qn_prepare *p, const qn_node *n)
{
    if (!is_plain(n, "BatchNormalization") || qn_node_int(n, "training_mode", 0) || (n->version < 7 && !qn_node_int(n, "is_test", 0)) ||
        !qn_node_int(n, "spatial", 1) || n->n_in != 5)
        return false;
    for (unsigned k = 1; k < n->n_out; k++)
        if (n->out[k] != QN_NO_VALUE && (p->uses[n->out[k]] || p->pinned[n->out[k]]))
            return false;
    for (unsigned k = 1; k < 5; k++)
        if (!is_floats(p, qn_prepare_input(p, n, k)))
            return false;
    return true;
}

static qn_code read_norm(qn_prepare *p, const qn_node *n, norm *m, bool *ok, qn_err *err)
{
    qn_array a[5] = {{0}};
    qn_code rc = QN_OK;
    for (unsigned k = 1; k < 5 && rc == QN_OK; k++)
        rc = qn_prepare_content(p, qn_prepare_input(p, n, k), &a[k], err);
    m->n_channels = a[1].n;
    *ok = rc == QN_OK && a[2].n == a[1].n && a[3].n == a[1].n && a[4].n == a[1].n;
    if (*ok) {
        m->scale = qn_mem_zeros(p->env->alloc, m->n_channels + 1, 2 * sizeof(double), err);
        rc = m->scale ? QN_OK : QN_E_MEMORY;
        m->shift = m->scale ? m->scale + m->n_channels : NULL;
    }
    for (uint64_t c = 0; rc == QN_OK && *ok && c < m->n_channels; c++) {
        const double variance = (double)((const float *)a[4].data)[c] + qn_node_float(n, "epsilon", 1e-5);
        m->scale[c] = (double)((const float *)a[1].data)[c] / sqrt(variance);
        m->shift[c] = (double)((const float *)a[2].data)[c] - (double)((const float *)a[3].data)[c] * m->scale[c];
        *ok = isfinite(m->scale[c]) && isfinite(m->shift[c]);
    }
    for (unsigned k = 1; k < 5; k++)
        qn_array_release(&a[k]);
    return rc;
}

/* ---- operands that change ---- */

/* Input k of a node becomes `a`, which is used up: in place when nobody else reads it, else under a name of its own. */
static qn_code put_operand(qn_prepare *p, uint32_t node, unsigned k, qn_array *a, const char *base, qn_err *err)
{
    const qn_node *n = &p->g->nodes[node];
    const uint32_t v = qn_prepare_input(p, n, k);
    const char *name;
    void *data;
    if (v != QN_NO_VALUE && p->uses[v] == 1 && !p->pinned[v] && p->known[v].dtype != QN_BYTES) {
        qn_array_release(&p->known[v]);
        p->known[v] = *a;
        *a = (qn_array){0};
        return QN_OK;
    }
    const qn_onnx_tensor *t = v != QN_NO_VALUE && p->uses[v] == 1 && !p->pinned[v] ? qn_onnx_edit_tensor_of(&p->edit, p->name[v]) : NULL;
    QN_TRY(qn_prepare_encode(p, a, QN_ONNX_FLOAT, &data, err));
    if (t)
        return qn_onnx_edit_tensor(&p->edit, t, a->dims, a->rank, data, 0, err);
    qn_code rc = qn_onnx_edit_new_name(&p->edit, base, &name, err);
    if (rc != QN_OK) {
        qn_mem_put(p->env->alloc, data);
        return rc;
    }
    QN_TRY(qn_onnx_edit_add(&p->edit, name, QN_ONNX_FLOAT, a->dims, a->rank, data, 0, err));
    if (v != QN_NO_VALUE)
        p->uses[v]--;
    return qn_onnx_edit_input(&p->edit, p->node[node], k, name, err);
}

/* w: output channel of element i is (i / inner) % n + first(outer): a tensor (outer, n, inner) whose outer blocks may have channels of their own. */
static void scale_weight(qn_array *w, const norm *m, uint64_t n, uint64_t inner, uint64_t outer_per_group)
{
    float *f = w->data;
    for (uint64_t i = 0; i < w->n; i++) {
        const uint64_t outer = i / inner / n, c = i / inner % n + (outer_per_group ? outer / outer_per_group * n : 0);
        f[i] = (float)((double)f[i] * m->scale[c]);
    }
}

/* b · beta · s + shift, of one value, n values, or none at all. */
static qn_code new_bias(qn_prepare *p, uint32_t value, double beta, const norm *m, qn_array *out, qn_err *err)
{
    const int64_t n = (int64_t)m->n_channels;
    qn_array old = {0};
    if (value != QN_NO_VALUE)
        QN_TRY(qn_prepare_content(p, value, &old, err));
    const qn_code rc = qn_array_new(&p->pool, out, QN_F32, &n, 1, err);
    for (uint64_t c = 0; rc == QN_OK && c < m->n_channels; c++) {
        const double b = old.n == 0 ? 0 : (double)((const float *)old.data)[old.n == 1 ? 0 : c];
        ((float *)out->data)[c] = (float)(b * beta * m->scale[c] + m->shift[c]);
    }
    qn_array_release(&old);
    return rc;
}

/* One value, or n in the last axis. */
static qn_code bias_fits(qn_prepare *p, uint32_t value, uint64_t n, bool *fits, qn_err *err)
{
    qn_array a;
    *fits = value == QN_NO_VALUE;
    if (value == QN_NO_VALUE || !is_floats(p, value))
        return QN_OK;
    QN_TRY(qn_prepare_content(p, value, &a, err));
    *fits = a.n == 1 || (a.n == n && a.rank && a.dims[a.rank - 1] == (int64_t)n);
    qn_array_release(&a);
    return QN_OK;
}

/* ---- products ---- */

/* How output channels lie in a weight. */
typedef struct lay {
    uint64_t n, inner, outer_per_group;
    bool fits;
} lay;

static lay lay_of(const qn_node *n, const qn_array *w, uint64_t channels)
{
    lay l = {0};
    uint64_t inner = 1;
    for (unsigned k = 2; k < w->rank; k++)
        inner *= (uint64_t)w->dims[k];
    if (w->rank < 2 || !w->n)
        return l;
    const uint64_t d0 = (uint64_t)w->dims[0], d1 = (uint64_t)w->dims[1];
    if (is_plain(n, "Conv")) {
        l = (lay){d0, inner * d1, 0, d0 == channels};
    } else if (is_plain(n, "ConvTranspose")) {
        const int64_t group = qn_node_int(n, "group", 1);
        if (group > 0 && d0 % (uint64_t)group == 0)
            l = (lay){d1, inner, d0 / (uint64_t)group, d1 * (uint64_t)group == channels};
    } else if (w->rank == 2) {
        const bool rows = is_plain(n, "Gemm") && qn_node_int(n, "transB", 0);
        l = rows ? (lay){d0, d1, 0, d0 == channels} : (lay){d1, 1, 0, d1 == channels};
    }
    return l;
}

/* The batch norm's output is the product's (or its Add's) now. */
static qn_code take_output(qn_prepare *p, uint32_t norm_node, uint32_t giver, qn_err *err)
{
    const qn_node *n = &p->g->nodes[norm_node];
    QN_TRY(qn_onnx_edit_output(&p->edit, p->node[giver], 0, p->name[n->out[0]], err));
    QN_TRY(qn_onnx_edit_remove(&p->edit, p->node[norm_node], err));
    p->maker[n->out[0]] = giver;
    p->node[norm_node] = QN_NO_NODE;
    return QN_OK;
}

static qn_code norm_to_add(qn_prepare *p, uint32_t node, qn_array *bias, qn_err *err)
{
    static const char *const attrs[] = {"epsilon", "momentum", "spatial", "training_mode", "is_test", "consumed_inputs"};
    const qn_node *n = &p->g->nodes[node];
    static const int64_t one = 1;
    const char *name;
    void *data;
    char base[512];
    for (unsigned i = 0; i < sizeof attrs / sizeof attrs[0]; i++)
        if (qn_node_attr(n, attrs[i]))
            QN_TRY(qn_onnx_edit_drop_attr(&p->edit, p->node[node], attrs[i], err));
    if (n->version < 7)
        QN_TRY(qn_onnx_edit_attr(&p->edit, p->node[node], "broadcast", &one, QN_ONNX_ONE_INT, err));
    memset(base, 0, sizeof base);
    strncpy(base, p->name[n->out[0]], sizeof base - 6);
    strcat(base, ".bias");
    QN_TRY(qn_onnx_edit_new_name(&p->edit, base, &name, err));
    QN_TRY(qn_prepare_encode(p, bias, QN_ONNX_FLOAT, &data, err));
    QN_TRY(qn_onnx_edit_add(&p->edit, name, QN_ONNX_FLOAT, bias->dims, bias->rank, data, 0, err));
    for (unsigned k = 1; k < 5; k++)
        p->uses[qn_prepare_input(p, n, k)]--;
    QN_TRY(qn_onnx_edit_type(&p->edit, p->node[node], "Add", err));
    QN_TRY(qn_onnx_edit_n_inputs(&p->edit, p->node[node], 2, err));
    QN_TRY(qn_onnx_edit_input(&p->edit, p->node[node], 1, name, err));
    return qn_onnx_edit_output(&p->edit, p->node[node], 0, p->name[n->out[0]], err);
}

/* What stands in front of the norm. */
typedef struct front {
    uint32_t product, add; /* nodes; add QN_NO_NODE: none */
    unsigned bias_in;      /* input of the add, or of the product */
} front;

static bool only_read_once(const qn_prepare *p, uint32_t v)
{
    return v != QN_NO_VALUE && p->uses[v] == 1 && !p->pinned[v] && p->maker[v] != QN_NO_NODE && p->node[p->maker[v]] != QN_NO_NODE;
}

static bool is_matmul(const qn_prepare *p, const qn_node *n)
{
    const uint32_t w = qn_prepare_input(p, n, 1);
    return is_plain(n, "MatMul") && is_floats(p, w) && p->g->values[n->out[0]].rank == 2;
}

static bool find_front(const qn_prepare *p, const qn_node *n, front *f)
{
    const uint32_t x = qn_prepare_input(p, n, 0);
    if (!only_read_once(p, x))
        return false;
    *f = (front){.product = p->maker[x], .add = QN_NO_NODE, .bias_in = 2};
    const qn_node *q = &p->g->nodes[f->product];
    if (is_plain(q, "Conv") || is_plain(q, "ConvTranspose") || is_plain(q, "Gemm"))
        return is_floats(p, qn_prepare_input(p, q, 1));
    if (is_matmul(p, q)) {
        f->bias_in = 0;
        return true;
    }
    if (!is_plain(q, "Add"))
        return false;
    f->add = f->product;
    for (unsigned k = 0; k < 2; k++) {
        const uint32_t product = qn_prepare_input(p, q, k), bias = qn_prepare_input(p, q, 1 - k);
        if (!only_read_once(p, product) || !is_floats(p, bias) || !is_matmul(p, &p->g->nodes[p->maker[product]]))
            continue;
        f->product = p->maker[product];
        f->bias_in = 1 - k;
        return true;
    }
    return false;
}

static void bias_name(const qn_prepare *p, const qn_node *product, char *base, size_t room)
{
    const uint32_t w = qn_prepare_input(p, product, 1);
    memset(base, 0, room);
    strncpy(base, p->name[w], room - 6);
    char *dot = strrchr(base, '.');
    if (dot && !strcmp(dot, ".weight"))
        *dot = '\0';
    strcat(base, ".bias");
}

static qn_code fold_into(qn_prepare *p, uint32_t node, const front *f, const norm *m, qn_array *w, qn_array *bias, bool *done, qn_err *err)
{
    const qn_node *product = &p->g->nodes[f->product];
    const bool gemm = is_plain(product, "Gemm"), bare = f->add == QN_NO_NODE && is_plain(product, "MatMul");
    const uint32_t giver = f->add == QN_NO_NODE ? f->product : f->add, wv = qn_prepare_input(p, product, 1);
    const uint32_t old = bare ? QN_NO_VALUE : qn_prepare_input(p, &p->g->nodes[giver], f->bias_in);
    char base[512];
    bool fits;
    QN_TRY(floats_of(p, wv, w, err));
    const lay l = lay_of(product, w, m->n_channels);
    QN_TRY(bias_fits(p, old, m->n_channels, &fits, err));
    *done = fits && l.fits;
    if (!*done)
        return QN_OK;
    scale_weight(w, m, l.n, l.inner, l.outer_per_group);
    QN_TRY(new_bias(p, old, gemm ? qn_node_float(product, "beta", 1) : 1, m, bias, err));
    bias_name(p, product, base, sizeof base);
    QN_TRY(put_operand(p, f->product, 1, w, p->name[wv], err));
    if (bare)
        return norm_to_add(p, node, bias, err);
    if (gemm && qn_node_float(product, "beta", 1) != 1)
        QN_TRY(qn_onnx_edit_attr_float(&p->edit, p->node[f->product], "beta", 1, err));
    QN_TRY(put_operand(p, giver, f->bias_in, bias, base, err));
    for (unsigned k = 1; k < 5; k++)
        p->uses[qn_prepare_input(p, &p->g->nodes[node], k)]--;
    return take_output(p, node, giver, err);
}

/* A product whose operands have been changed is left alone from then on: what is known of them is the old content. */
qn_code qn_prepare_norms(qn_prepare *p, qn_err *err)
{
    bool *folded = qn_mem_zeros(p->env->alloc, p->g->n_nodes + 1ull, sizeof *folded, err);
    qn_code rc = folded ? QN_OK : QN_E_MEMORY;
    for (uint32_t i = 0; i < p->g->n_nodes && rc == QN_OK; i++) {
        const qn_node *n = &p->g->nodes[i];
        qn_array w = {0}, bias = {0};
        norm m = {0};
        front f;
        bool ok;
        if (p->node[i] == QN_NO_NODE || !is_foldable(p, n) || !p->name[n->out[0]] || !find_front(p, n, &f) || folded[f.product])
            continue;
        rc = read_norm(p, n, &m, &ok, err);
        if (rc == QN_OK && ok)
            rc = fold_into(p, i, &f, &m, &w, &bias, &ok, err);
        folded[f.product] = ok;
        p->n_norms += rc == QN_OK && ok;
        qn_array_release(&w);
        qn_array_release(&bias);
        qn_mem_put(p->env->alloc, m.scale);
    }
    qn_mem_put(p->env->alloc, folded);
    return rc;
}
