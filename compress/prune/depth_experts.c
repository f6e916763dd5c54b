/* depth_experts.c: experts: a tap that takes them out, and the scores by which they are chosen; see depth.h. */
#include "base/err.h"
#include "compress/prune/depth_impl.h"
#include <cblas.h>
#include <math.h>
#include <string.h>

qn_code qn_depth_run(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, const qn_exec_options *o, qn_err *err)
{
    qn_exec *x;
    qn_array *arrays = qn_mem_zeros(env->alloc, (uint64_t)g->n_inputs + g->n_outputs + 1, sizeof *arrays, err);
    if (!arrays)
        return QN_E_MEMORY;
    qn_code rc = qn_exec_open(env, g, o, &x, err);
    if (rc == QN_OK) {
        if (feed->pool)
            *feed->pool = qn_exec_pool(x);
        for (uint64_t b = 0; b < feed->n_batches && rc == QN_OK; b++) {
            rc = feed->feed(feed->ctx, b, arrays, err);
            if (rc == QN_OK)
                rc = qn_exec_run(x, arrays, arrays + g->n_inputs, err);
            for (uint32_t i = 0; i < g->n_inputs + g->n_outputs; i++)
                qn_array_release(&arrays[i]);
            if (rc == QN_OK)
                rc = qn_env_check(env, err);
        }
        if (feed->pool)
            *feed->pool = NULL;
        qn_exec_close(x);
    }
    qn_mem_put(env->alloc, arrays);
    return rc;
}

static bool is(const qn_node *n, const char *type)
{
    return !strcmp(n->domain, "quern") && !strcmp(n->type, type);
}

/* Per node: the Experts node whose router's logits it puts out, or QN_NO_NODE. */
static qn_code find_routers(const qn_env *env, const qn_graph *g, uint32_t **out, qn_err *err)
{
    uint32_t *of = qn_mem_get(env->alloc, ((uint64_t)g->n_nodes + 1) * sizeof *of, err);
    if (!of)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        of[i] = QN_NO_NODE;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (is(&g->nodes[i], "Experts") && g->values[g->nodes[i].in[1]].kind == QN_VALUE_NODE)
            of[g->values[g->nodes[i].in[1]].node] = i;
    *out = of;
    return QN_OK;
}

/* ---- without experts ---- */

struct qn_depth_mask {
    const qn_env *env;
    const qn_graph *g;
    const qn_depth *d;
    uint32_t *router_of;
};

qn_code qn_depth_mask_open(const qn_env *env, const qn_graph *g, const qn_depth *d, qn_depth_mask **out, qn_err *err)
{
    qn_depth_mask *m = qn_mem_zeros(env->alloc, 1, sizeof *m, err);
    if (!m)
        return QN_E_MEMORY;
    *m = (qn_depth_mask){.env = env, .g = g, .d = d};
    const qn_code rc = find_routers(env, g, &m->router_of, err);
    if (rc != QN_OK)
        qn_depth_mask_close(m);
    else
        *out = m;
    return rc;
}

qn_code qn_depth_mask_tap(void *ctx, const qn_graph *g, uint32_t node, const qn_array *out, qn_err *err)
{
    const qn_depth_mask *m = ctx;
    const int64_t layer = g == m->g && m->router_of[node] != QN_NO_NODE ? qn_emit_layer_of(g, g->nodes[node].block) : -1;
    const uint8_t *gone = layer >= 0 && m->d->experts ? m->d->experts[layer] : NULL;
    if (!gone)
        return QN_OK;
    if ((uint64_t)out->dims[1] != m->d->n_experts)
        return QN_BUG(err, "%u flags for %u experts", (unsigned)m->d->n_experts, (unsigned)out->dims[1]);
    float *logits = out->data;
    for (uint64_t i = 0; i < out->n; i++)
        if (gone[i % m->d->n_experts])
            logits[i] = -INFINITY;
    return QN_OK;
}

void qn_depth_mask_close(qn_depth_mask *m)
{
    if (!m)
        return;
    const qn_alloc *a = m->env->alloc;
    qn_mem_put(a, m->router_of);
    qn_mem_put(a, m);
}

/* ---- scores ---- */

struct scores {
    const qn_env *env;
    const qn_graph *g;
    uint32_t *router_of, *down_of; /* per node; per value: the Experts node that puts out with it, or QN_NO_NODE */
    uint32_t *expert_of;           /* per value: of a weight of one expert */
    double *reap, *share, *n_tokens;
    uint32_t n_layers, n_experts;
    /* of the router that spoke last: what the experts' outputs are multiplied with, 0: not chosen (rows, experts) */
    float *p;
    uint64_t rows, cap;
    float *buf;                    /* weight, then outputs of an expert */
    uint64_t n_buf;
};

static qn_code room(struct scores *x, float **p, uint64_t *cap, uint64_t n, qn_err *err)
{
    if (*cap >= n)
        return QN_OK;
    qn_mem_put(x->env->alloc, *p);
    *cap = 0;
    *p = qn_mem_get(x->env->alloc, n * sizeof **p, err);
    if (!*p)
        return QN_E_MEMORY;
    *cap = n;
    return QN_OK;
}

/* Softmax, the top_k largest (of equals the first), and their shares: as the operator has it. */
static void route(const float *logits, uint64_t n, uint64_t top_k, bool norm, float *p)
{
    double most = -INFINITY, all = 0, some = 0;
    for (uint64_t e = 0; e < n; e++)
        most = fmax(most, (double)logits[e]);
    for (uint64_t e = 0; e < n; e++) {
        all += exp((double)logits[e] - most);
        p[e] = -1;
    }
    for (uint64_t k = 0; k < top_k; k++) {
        uint64_t best = n;
        for (uint64_t e = 0; e < n; e++)
            if (p[e] < 0 && (best == n || logits[e] > logits[best]))
                best = e;
        p[best] = (float)exp((double)logits[best] - most);
        some += (double)p[best];
    }
    for (uint64_t e = 0; e < n; e++)
        p[e] = p[e] < 0 ? 0 : (float)((double)p[e] / (norm ? some : all));
}

static qn_code on_output(void *ctx, const qn_graph *g, uint32_t node, const qn_array *out, qn_err *err)
{
    struct scores *x = ctx;
    if (g != x->g || x->router_of[node] == QN_NO_NODE)
        return QN_OK;
    const qn_node *experts = &g->nodes[x->router_of[node]];
    const uint64_t n = (uint64_t)out->dims[1], layer = (uint64_t)qn_emit_layer_of(g, experts->block);
    if (layer >= x->n_layers || n != x->n_experts)
        return QN_BUG(err, "layers or experts that were not counted");
    x->rows = (uint64_t)out->dims[0];
    QN_TRY(room(x, &x->p, &x->cap, x->rows * n, err));
    for (uint64_t r = 0; r < x->rows; r++)
        route((const float *)out->data + r * n, n, (uint64_t)qn_node_int(experts, "top_k", 1), qn_node_int(experts, "norm", 0) != 0, x->p + r * n);
    x->n_tokens[layer] += (double)x->rows;
    return QN_OK;
}

/* Rows in front of an expert's last product: its outputs are made once more, for their norms. */
static qn_code on_input(void *ctx, const qn_graph *g, uint32_t weight, uint32_t part, const float *rows, uint64_t n_rows, uint64_t n, uint64_t ld,
                        qn_err *err)
{
    struct scores *x = ctx;
    if (g != x->g || x->down_of[weight] == QN_NO_NODE)
        return QN_OK;
    const qn_value *w = &g->values[weight];
    const bool stacked = w->rank == 3;
    const uint64_t e = stacked ? part : x->expert_of[weight], out = (uint64_t)w->dims[w->rank - 2], layer = (uint64_t)qn_emit_layer_of(g, g->nodes[x->down_of[weight]].block);
    QN_TRY(room(x, &x->buf, &x->n_buf, out * n + n_rows * out, err));
    float *y = x->buf + out * n;
    QN_TRY(qn_weight_from_source(x->env, g->source, g, weight, stacked ? e : 0, stacked ? 1 : out, x->buf, err));
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n_rows, (blasint)out, (blasint)n, 1, rows, (blasint)ld, x->buf, (blasint)n, 0, y,
                (blasint)out);
    double *reap = &x->reap[layer * x->n_experts + e];
    uint64_t at = 0;
    for (uint64_t r = 0; r < x->rows && at < n_rows; r++) {
        const double p = (double)x->p[r * x->n_experts + e];
        double sum = 0;
        if (!(p > 0))
            continue;
        for (uint64_t k = 0; k < out; k++)
            sum += (double)y[at * out + k] * (double)y[at * out + k];
        *reap += p * sqrt(sum);
        at++;
    }
    x->share[layer * x->n_experts + e] += (double)n_rows;
    return QN_OK;
}

static void map_downs(struct scores *x)
{
    for (uint32_t v = 0; v < x->g->n_values; v++)
        x->down_of[v] = QN_NO_NODE;
    for (uint32_t i = 0; i < x->g->n_nodes; i++) {
        const qn_node *n = &x->g->nodes[i];
        if (!is(n, "Experts"))
            continue;
        const unsigned per = !strcmp(qn_node_string(n, "layout", ""), "separate") ? (n->n_in - 2u) / 3 : 1;
        for (unsigned k = 0; k < per; k++) {
            x->down_of[n->in[n->n_in - per + k]] = i;
            x->expert_of[n->in[n->n_in - per + k]] = k;
        }
    }
}

qn_code qn_depth_experts(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, uint64_t memory_bytes, double *reap, double *share,
                         uint32_t n_layers, uint32_t n_experts, qn_err *err)
{
    struct scores x = {.env = env, .g = g, .reap = reap, .n_layers = n_layers, .n_experts = n_experts};
    const uint64_t cells = (uint64_t)n_layers * n_experts;
    memset(reap, 0, cells * sizeof *reap);
    x.share = qn_mem_zeros(env->alloc, cells + 1, sizeof *x.share, err);
    x.n_tokens = qn_mem_zeros(env->alloc, (uint64_t)n_layers + 1, sizeof *x.n_tokens, err);
    x.down_of = qn_mem_zeros(env->alloc, (uint64_t)g->n_values + 1, sizeof *x.down_of, err);
    x.expert_of = qn_mem_zeros(env->alloc, (uint64_t)g->n_values + 1, sizeof *x.expert_of, err);
    qn_code rc = x.share && x.n_tokens && x.down_of && x.expert_of ? find_routers(env, g, &x.router_of, err) : QN_E_MEMORY;
    if (rc == QN_OK) {
        map_downs(&x);
        const qn_exec_options o = {.memory_bytes = memory_bytes, .on_input = on_input, .on_output = on_output, .tap_ctx = &x};
        rc = qn_depth_run(env, g, feed, &o, err);
    }
    for (uint64_t i = 0; i < cells && rc == QN_OK; i++) {
        reap[i] = x.share[i] > 0 ? reap[i] / x.share[i] : 0;
        if (share)
            share[i] = x.n_tokens[i / n_experts] > 0 ? x.share[i] / x.n_tokens[i / n_experts] : 0;
    }
    void *const all[] = {x.share, x.n_tokens, x.down_of, x.expert_of, x.router_of, x.p, x.buf};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        qn_mem_put(env->alloc, all[i]);
    return rc;
}

void qn_depth_pick(const double *score, uint32_t n_layers, uint32_t n_experts, uint32_t n_gone, uint8_t *gone)
{
    memset(gone, 0, (uint64_t)n_layers * n_experts);
    for (uint32_t l = 0; l < n_layers; l++)
        for (uint32_t k = 0; k < n_gone && k < n_experts; k++) {
            const double *row = score + (uint64_t)l * n_experts;
            uint8_t *flags = gone + (uint64_t)l * n_experts;
            uint32_t least = UINT32_MAX;
            for (uint32_t e = 0; e < n_experts; e++)
                if (!flags[e] && (least == UINT32_MAX || row[e] <= row[least]))
                    least = e;
            flags[least] = 1;
        }
}
