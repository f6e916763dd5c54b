/* depth.c: whole layers; see depth.h. */
#include "compress/prune/depth.h"
#include "base/err.h"
#include "compress/prune/depth_impl.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

static bool is(const qn_node *n, const char *type)
{
    return !strcmp(n->domain, "quern") && !strcmp(n->type, type);
}

void qn_depth_size(const qn_graph *g, uint32_t *n_layers, uint32_t *n_experts)
{
    *n_layers = *n_experts = 0;
    for (uint32_t b = 0; b < g->n_blocks; b++)
        *n_layers += qn_emit_layer_of(g, b) >= 0;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (is(&g->nodes[i], "Experts") && (uint32_t)qn_node_int(&g->nodes[i], "experts", 0) > *n_experts)
            *n_experts = (uint32_t)qn_node_int(&g->nodes[i], "experts", 0);
}

/* ---- bypass ---- */

static qn_code zero(const qn_graph *g, uint32_t value, qn_overlay *w, qn_err *err)
{
    float *p;
    if (value == QN_NO_VALUE || g->values[value].kind != QN_VALUE_WEIGHT)
        return QN_OK;
    QN_TRY(qn_overlay_edit(w, value, &p, err));
    memset(p, 0, qn_value_elems(&g->values[value]) * sizeof *p);
    return QN_OK;
}

/* The block's node that puts out a value, or NULL. */
static const qn_node *maker(const qn_graph *g, const qn_graph_block *b, uint32_t value)
{
    for (uint32_t i = b->first_node; i < b->first_node + b->n_nodes; i++)
        for (unsigned k = 0; k < g->nodes[i].n_out; k++)
            if (g->nodes[i].out[k] == value)
                return &g->nodes[i];
    return NULL;
}

/* Makes a value 0, for every input of the block: from the products that it comes from. `stream` is the block's input, which cannot be made 0. */
static qn_code silence(const qn_graph *g, const qn_graph_block *b, uint32_t value, uint32_t stream, qn_overlay *w, qn_err *err)
{
    const qn_node *n = value == stream ? NULL : maker(g, b, value);
    if (n && is(n, "Linear")) {
        QN_TRY(zero(g, n->in[1], w, err));
        return n->n_in > 2 ? zero(g, n->in[2], w, err) : QN_OK;
    }
    if (n && is(n, "Experts")) { /* the last third, or the last one: what puts out */
        const unsigned per = !strcmp(qn_node_string(n, "layout", ""), "separate") ? (n->n_in - 2u) / 3 : 1;
        for (unsigned i = n->n_in - per; i < n->n_in; i++)
            QN_TRY(zero(g, n->in[i], w, err));
        return QN_OK;
    }
    if (n && (is(n, "RMSNorm") || is(n, "Mul"))) /* of 0: 0 */
        return silence(g, b, n->in[0], stream, w, err);
    if (n && is(n, "Add")) {
        QN_TRY(silence(g, b, n->in[0], stream, w, err));
        return silence(g, b, n->in[1], stream, w, err);
    }
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s cannot be passed by: it is no sum of its input and products", b->name);
}

/* value = stream + …: everything else that the sum has becomes 0. */
static qn_code silence_sum(const qn_graph *g, const qn_graph_block *b, uint32_t value, uint32_t stream, qn_overlay *w, bool *found, qn_err *err)
{
    const qn_node *n = value == stream ? NULL : maker(g, b, value);
    *found = value == stream;
    if (!n || !is(n, "Add"))
        return QN_OK;
    /* The stream goes through one of the two operands; sums of two parts beside it (parallel layers) hold none. */
    for (unsigned k = 0; k < 2 && !*found; k++) {
        QN_TRY(silence_sum(g, b, n->in[k], stream, w, found, err));
        if (*found)
            return silence(g, b, n->in[1 - k], stream, w, err);
    }
    return QN_OK;
}

qn_code qn_depth_bypass(const qn_graph *g, const uint8_t *layers, uint32_t n_layers, qn_overlay *w, qn_err *err)
{
    for (uint32_t i = 0; i < g->n_blocks; i++) {
        const qn_graph_block *b = &g->blocks[i];
        const int64_t layer = qn_emit_layer_of(g, i);
        bool found = false;
        if (layer < 0 || layer >= n_layers || !layers[layer] || !b->n_nodes)
            continue;
        QN_TRY(silence_sum(g, b, g->nodes[b->first_node + b->n_nodes - 1].out[0], g->nodes[b->first_node].in[0], w, &found, err));
        if (!found)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s cannot be passed by: it does not end with a sum with its input", b->name);
    }
    return QN_OK;
}

/* ---- angles ---- */

struct angles {
    const qn_graph *g;
    const qn_env *env;
    uint32_t *layer_behind; /* per node: + 1 of the layer whose input its output is; n_layers + 1: of none, but the last one's output; 0 */
    float *last;            /* the stream as it was there last */
    uint64_t n_last;
    double *sum;
    uint64_t n_rows;
    uint32_t n_layers;
};

static double cosine(const float *a, const float *b, uint64_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (uint64_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 1;
}

static qn_code look_at_stream(void *ctx, const qn_graph *g, uint32_t node, const qn_array *out, qn_err *err)
{
    struct angles *x = ctx;
    const uint32_t behind = g == x->g ? x->layer_behind[node] : 0;
    if (!behind)
        return QN_OK;
    if (behind > 1) {
        const uint64_t rows = (uint64_t)out->dims[0], n = (uint64_t)out->dims[1];
        for (uint64_t r = 0; r < rows; r++)
            x->sum[behind - 2] += 1 - cosine(x->last + r * n, (const float *)out->data + r * n, n);
        x->n_rows += behind == x->n_layers + 1 ? rows : 0;
    }
    if (x->n_last < out->n) {
        qn_mem_put(x->env->alloc, x->last);
        x->n_last = 0;
        x->last = qn_mem_get(x->env->alloc, out->n * sizeof *x->last, err);
        if (!x->last)
            return QN_E_MEMORY;
        x->n_last = out->n;
    }
    memcpy(x->last, out->data, out->n * sizeof *x->last);
    return QN_OK;
}

/* Which node puts out each layer's input, and the last one's output. */
static qn_code find_streams(struct angles *x, qn_err *err)
{
    const qn_graph *g = x->g;
    for (uint32_t b = 0; b < g->n_blocks; b++) {
        const int64_t layer = qn_emit_layer_of(g, b);
        if (layer < 0 || !g->blocks[b].n_nodes)
            continue;
        const qn_node *first = &g->nodes[g->blocks[b].first_node];
        const qn_value *in = &g->values[first->in[0]];
        if (in->kind != QN_VALUE_NODE || in->rank != 2)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s does not begin with a stream of tokens", g->blocks[b].name);
        x->layer_behind[in->node] = (uint32_t)layer + 1;
        if ((uint32_t)layer + 1 == x->n_layers)
            x->layer_behind[g->blocks[b].first_node + g->blocks[b].n_nodes - 1] = x->n_layers + 1;
    }
    return QN_OK;
}

qn_code qn_depth_angles(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, uint64_t memory_bytes, double *score, uint32_t n_layers,
                        qn_err *err)
{
    struct angles x = {.g = g, .env = env, .sum = score, .n_layers = n_layers};
    memset(score, 0, n_layers * sizeof *score);
    x.layer_behind = qn_mem_zeros(env->alloc, (uint64_t)g->n_nodes + 1, sizeof *x.layer_behind, err);
    if (!x.layer_behind)
        return QN_E_MEMORY;
    qn_code rc = find_streams(&x, err);
    if (rc == QN_OK)
        rc = qn_depth_run(env, g, feed, &(qn_exec_options){.memory_bytes = memory_bytes, .on_output = look_at_stream, .tap_ctx = &x}, err);
    for (uint32_t i = 0; i < n_layers && x.n_rows; i++)
        score[i] /= (double)x.n_rows;
    qn_mem_put(env->alloc, x.last);
    qn_mem_put(env->alloc, x.layer_behind);
    return rc;
}

/* ---- greedy ---- */

static qn_code loss_without(const qn_graph *g, qn_measure *m, const qn_overlay *base, uint64_t n_batches, const uint8_t *layers, uint32_t n_layers,
                            double *loss, qn_err *err)
{
    qn_overlay *w;
    qn_distance d;
    QN_TRY(base ? qn_overlay_copy(base, &w, err) : qn_overlay_new(g->env, g, &w, err));
    qn_code rc = qn_depth_bypass(g, layers, n_layers, w, err);
    if (rc == QN_OK)
        rc = qn_measure_run(m, w, 0, n_batches, &d, err);
    if (rc == QN_OK)
        *loss = d.loss;
    qn_overlay_free(w);
    return rc;
}

qn_code qn_depth_choose(const qn_graph *g, qn_measure *m, const qn_overlay *w, uint64_t n_batches, uint32_t n_gone, uint8_t *layers, uint32_t n_layers,
                        double *loss, qn_err *err)
{
    if (n_gone >= n_layers)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%" PRIu32 " of %" PRIu32 " layers are to go: at least one must stay", n_gone, n_layers);
    for (uint32_t k = 0; k < n_gone; k++) {
        uint32_t best = UINT32_MAX;
        double least = INFINITY;
        for (uint32_t i = 0; i < n_layers; i++) {
            double l;
            if (layers[i])
                continue;
            layers[i] = 1;
            const qn_code rc = loss_without(g, m, w, n_batches, layers, n_layers, &l, err);
            layers[i] = 0;
            QN_TRY(rc);
            if (best == UINT32_MAX || l < least || isnan(least)) { /* a NaN is taken only when there is nothing else */
                best = i;
                least = l;
            }
        }
        if (best == UINT32_MAX)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "no %" PRIu32 " layers are left to go", n_gone);
        layers[best] = 1;
        if (loss)
            loss[k] = least;
    }
    return QN_OK;
}
