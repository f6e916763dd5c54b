/* allocate_latency.c: what a run takes on this machine, by a table.
 *
 * Measured: the whole dense model once, and by itself every node that has to do with a unit, dense and with that unit alone cut to some levels (same operator, cut
 * shapes, made-up numbers). A node between several units is taken to shrink by the product of their ratios; between levels lines are drawn, and no cut is slower
 * than a smaller one. Clocks are noisy: medians. A node that does not run in the cut shape by itself (its attributes would have to change
 * with it) is taken to shrink with its multiplications, or its elements. It is the executor here that is timed, not another runtime. */
#include "base/err.h"
#include "base/hash.h"
#include "base/num.h"
#include "compress/prune/allocate_impl.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LEVELS = 5, ROUNDS = 5, REPEATS_MAX = 64, INPUTS_MAX = 32, OUTPUTS_MAX = 32 };
#define ROUND_SECONDS 0.002

struct tie {
    uint32_t spot, unit;
    double ratio[LEVELS]; /* of the node's time, by the unit's levels; falling from 1 */
};

struct known {
    uint64_t key;
    double seconds;
};

struct qn_latency {
    qn_allocator *a;
    qn_array *seen;          /* per value of the graph: its shape in a run; data only of those that are no floats */
    uint32_t *levels;        /* n_units × LEVELS: steps                     */
    double *seconds;         /* per spot: of the node, dense                */
    double *left;            /* per spot, while adding up                   */
    struct tie *ties;
    struct known *known;     /* times by shapes: layers repeat              */
    double rest;             /* of the run that no unit has to do with      */
    uint64_t n_spots, n_ties, n_known, cap_spots, cap_ties, cap_known;
};

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double median(double *v, unsigned n)
{
    for (unsigned i = 1; i < n; i++)
        for (unsigned k = i; k > 0 && v[k] < v[k - 1]; k--) {
            const double swap = v[k];
            v[k] = v[k - 1];
            v[k - 1] = swap;
        }
    return v[n / 2];
}

/* Rounds of as many runs as take a while. */
static qn_code time_runs(qn_exec *x, const qn_graph *g, const qn_array *feeds, double *seconds, qn_err *err)
{
    double rounds[ROUNDS];
    unsigned n = 1;
    for (unsigned r = 0; r <= ROUNDS; r++) {
        const double begin = now();
        for (unsigned i = 0; i < n; i++) {
            qn_array outs[OUTPUTS_MAX];
            QN_TRY(qn_exec_run(x, feeds, outs, err));
            for (uint32_t k = 0; k < g->n_outputs; k++)
                qn_array_release(&outs[k]);
        }
        const double took = (now() - begin) / n;
        if (r) /* the first one warms up, and says how many make a round */
            rounds[r - 1] = took;
        else
            n = took * REPEATS_MAX < ROUND_SECONDS ? REPEATS_MAX : 1 + (unsigned)(ROUND_SECONDS / took);
    }
    *seconds = median(rounds, ROUNDS);
    return QN_OK;
}

/* --- the dense run -------------------------------------------------------------------------------------------------- */

static qn_code look(void *ctx, const qn_graph *g, uint32_t node, const qn_array *out, qn_err *err)
{
    (void)err;
    qn_latency *l = ctx;
    for (unsigned i = 0; g == l->a->graph && i < g->nodes[node].n_out; i++) {
        const uint32_t v = g->nodes[node].out[i];
        if (v == QN_NO_VALUE)
            continue;
        qn_array_release(&l->seen[v]);
        if (out[i].dtype != QN_F32 && out[i].buffer) {
            qn_array_share(&out[i], &l->seen[v]);
            continue;
        }
        l->seen[v] = out[i];
        l->seen[v].buffer = NULL;
        l->seen[v].data = NULL;
    }
    return QN_OK;
}

/* --- a node by itself ------------------------------------------------------------------------------------------------ */

/* Shape of an input of a node in a run of the cut model. */
static qn_code shape_of(const qn_latency *l, const qn_cut *cut, uint32_t v, qn_array *shape, qn_err *err)
{
    const qn_groups *s = l->a->groups;
    const qn_value *value = &l->a->graph->values[v];
    int64_t after[QN_ARRAY_RANK_MAX];
    *shape = l->seen[v];
    if (value->kind == QN_VALUE_WEIGHT || value->kind == QN_VALUE_CONST)
        QN_TRY(qn_array_wrap(shape, (qn_dtype)value->dtype, value->dims, value->rank, value->data.data, err));
    if (!cut || s->rank[v] != shape->rank)
        return QN_OK;
    QN_TRY(qn_cut_dims(cut, v, after, err));
    for (unsigned k = 0; k < shape->rank; k++)
        if (after[k] != s->dims[(uint64_t)v * QN_ARRAY_RANK_MAX + k])
            shape->dims[k] = after[k];
    return QN_OK;
}

struct alone {
    qn_graph *graph;
    qn_array feeds[INPUTS_MAX]; /* of the pool below */
    qn_pool pool;
    uint32_t n_feeds;
};

static void alone_release(struct alone *x)
{
    for (uint32_t i = 0; i < x->n_feeds; i++)
        qn_array_release(&x->feeds[i]);
    qn_graph_close(x->graph);
}

static qn_code add_input(struct alone *x, const qn_array *shape, uint32_t *value, qn_err *err)
{
    char name[16] = {'i', (char)('a' + x->n_feeds), 0};
    if (shape->data && shape->dtype != QN_F32 && !shape->buffer)
        return qn_graph_const(x->graph, name, (qn_dtype)shape->dtype, shape->dims, shape->rank, shape->data, value, err);
    QN_TRY(qn_graph_input(x->graph, name, (qn_dtype)shape->dtype, shape->dims, shape->rank, value, err));
    qn_array *feed = &x->feeds[x->n_feeds];
    if (shape->data && shape->dtype != QN_F32) {
        qn_array_share(shape, feed);
    } else {
        QN_TRY(qn_array_new(&x->pool, feed, (qn_dtype)shape->dtype, shape->dims, shape->rank, err));
        memset(feed->data, 0, qn_array_bytes(feed));
        for (uint64_t i = 0; shape->dtype == QN_F32 && i < feed->n; i++)
            ((float *)feed->data)[i] = (float)(i % 61) / 64 - 0.47f;
    }
    x->n_feeds++;
    return QN_OK;
}

static qn_code build_alone(const qn_latency *l, const qn_cut *cut, const qn_node *n, struct alone *x, qn_err *err)
{
    uint32_t in[INPUTS_MAX], out[OUTPUTS_MAX];
    x->pool.alloc = l->a->env->alloc;
    QN_TRY(qn_graph_new(l->a->env, NULL, "timing", &x->graph, err));
    for (unsigned i = 0; i < n->n_in; i++) {
        in[i] = QN_NO_VALUE;
        if (n->in[i] == QN_NO_VALUE)
            continue;
        qn_array shape;
        QN_TRY(shape_of(l, cut, n->in[i], &shape, err));
        QN_TRY(add_input(x, &shape, &in[i], err));
    }
    QN_TRY(qn_graph_node(x->graph, n->domain, n->type, n->version, "node", in, n->n_in, n->attrs, n->n_attrs, NULL, out, n->n_out, err));
    for (unsigned i = 0; i < n->n_out; i++)
        QN_TRY(qn_graph_output(x->graph, out[i], err));
    return qn_graph_seal(x->graph, err);
}

static qn_code key_of(const qn_latency *l, const qn_cut *cut, const qn_node *n, uint64_t *key, qn_err *err)
{
    uint64_t k = qn_hash64(n->type, strlen(n->type));
    for (unsigned i = 0; i < n->n_in; i++) {
        qn_array shape = {0};
        if (n->in[i] != QN_NO_VALUE)
            QN_TRY(shape_of(l, cut, n->in[i], &shape, err));
        const uint64_t part = qn_hash64(shape.dims, shape.rank * sizeof *shape.dims);
        k = (k ^ part) * 0x9e3779b97f4a7c15u + shape.dtype + 1;
    }
    for (unsigned i = 0; i < n->n_attrs; i++) {
        const qn_attr *t = &n->attrs[i];
        const uint64_t part = t->type == QN_ATTR_INTS ? qn_hash64(t->v.ints, t->n * sizeof *t->v.ints) : t->type == QN_ATTR_INT ? (uint64_t)t->v.i : 0;
        k = (k ^ part ^ qn_hash64(t->name, strlen(t->name))) * 0x9e3779b97f4a7c15u;
    }
    *key = k;
    return QN_OK;
}

/* NaN: it does not run so. */
static qn_code time_node(qn_latency *l, const qn_cut *cut, const qn_node *n, double *seconds, qn_err *err)
{
    uint64_t key;
    qn_err ours = {0};
    struct alone x = {0};
    qn_exec *exec = NULL;
    *seconds = (double)NAN;
    if (n->n_in > INPUTS_MAX || n->n_out > OUTPUTS_MAX)
        return QN_OK;
    QN_TRY(key_of(l, cut, n, &key, err));
    for (uint64_t i = 0; i < l->n_known; i++)
        if (l->known[i].key == key) {
            *seconds = l->known[i].seconds;
            return QN_OK;
        }
    qn_code rc = build_alone(l, cut, n, &x, &ours);
    if (rc == QN_OK)
        rc = qn_exec_open(l->a->env, x.graph, NULL, &exec, &ours);
    if (rc == QN_OK)
        rc = time_runs(exec, x.graph, x.feeds, seconds, &ours);
    qn_exec_close(exec);
    alone_release(&x);
    if (rc == QN_E_MEMORY || rc == QN_E_CANCELLED) {
        *err = ours;
        return rc;
    }
    struct known *grown = qn_mem_grow(l->a->env->alloc, l->known, l->n_known, &l->cap_known, l->n_known + 1, sizeof *grown, err);
    if (!grown)
        return QN_E_MEMORY;
    l->known = grown;
    l->known[l->n_known++] = (struct known){key, *seconds};
    return QN_OK;
}

/* --- the table ------------------------------------------------------------------------------------------------------- */

static double elements(const qn_latency *l, const qn_cut *cut, const qn_node *n)
{
    double sum = 0;
    for (unsigned i = 0; i < n->n_out; i++) {
        qn_array shape;
        double all = 1;
        if (n->out[i] == QN_NO_VALUE || shape_of(l, cut, n->out[i], &shape, NULL) != QN_OK)
            continue;
        for (unsigned k = 0; k < shape.rank; k++)
            all *= (double)shape.dims[k];
        sum += all;
    }
    return sum;
}

/* Shares of the weights that stay, or of the outputs where the node has none. */
static double work(const qn_latency *l, const qn_cut *cut, const qn_node *n)
{
    double sum = 0;
    for (unsigned i = 0; i < n->n_in; i++) {
        qn_array shape;
        double all = 1;
        if (n->in[i] == QN_NO_VALUE || l->a->graph->values[n->in[i]].kind != QN_VALUE_WEIGHT || l->a->graph->values[n->in[i]].rank < 2 ||
            shape_of(l, cut, n->in[i], &shape, NULL) != QN_OK)
            continue;
        for (unsigned k = 0; k < shape.rank; k++)
            all *= (double)shape.dims[k];
        sum += all;
    }
    return sum > 0 ? sum : elements(l, cut, n);
}

static bool touches(const qn_cut *cut, const qn_node *n)
{
    for (unsigned i = 0; i < n->n_in; i++)
        if (n->in[i] != QN_NO_VALUE && qn_cut_touches(cut, n->in[i]))
            return true;
    for (unsigned i = 0; i < n->n_out; i++)
        if (n->out[i] != QN_NO_VALUE && qn_cut_touches(cut, n->out[i]))
            return true;
    return false;
}

static bool runs_alone(const qn_node *n)
{
    for (unsigned i = 0; i < n->n_attrs; i++)
        if (n->attrs[i].type == QN_ATTR_GRAPH)
            return false;
    return true;
}

static void cut_to(const qn_allocator *a, uint32_t unit, uint32_t step, qn_cut *cut)
{
    const qn_alloc_unit *u = &a->units[unit];
    for (uint32_t i = 0; i < u->n_families; i++)
        for (uint32_t k = 0; k < u->n; k++)
            qn_cut_set(cut, u->families[i], k, k >= u->keep[step]);
}

/* Times the node dense when nobody has; *spot: its place. */
static qn_code find_spot(qn_latency *l, uint32_t node, uint32_t *spot_of, uint32_t *spot, qn_err *err)
{
    if (spot_of[node] == UINT32_MAX) {
        double t;
        QN_TRY(time_node(l, NULL, &l->a->graph->nodes[node], &t, err));
        if (isnan(t))
            spot_of[node] = UINT32_MAX - 1;
        else {
            double *grown = qn_mem_grow(l->a->env->alloc, l->seconds, l->n_spots, &l->cap_spots, l->n_spots + 1, sizeof *grown, err);
            if (!grown)
                return QN_E_MEMORY;
            l->seconds = grown;
            l->seconds[l->n_spots] = t;
            spot_of[node] = (uint32_t)l->n_spots++;
        }
    }
    *spot = spot_of[node];
    return QN_OK;
}

static qn_code add_tie(qn_latency *l, uint32_t node, uint32_t unit, uint32_t spot, qn_cut *cut, qn_err *err)
{
    const qn_node *n = &l->a->graph->nodes[node];
    struct tie *grown = qn_mem_grow(l->a->env->alloc, l->ties, l->n_ties, &l->cap_ties, l->n_ties + 1, sizeof *grown, err);
    if (!grown)
        return QN_E_MEMORY;
    l->ties = grown;
    struct tie *t = &l->ties[l->n_ties++];
    *t = (struct tie){.spot = spot, .unit = unit, .ratio = {1}};
    const double all = work(l, NULL, n);
    for (unsigned i = 1; i < LEVELS; i++) {
        double s;
        cut_to(l->a, unit, l->levels[(uint64_t)unit * LEVELS + i], cut);
        QN_TRY(time_node(l, cut, n, &s, err));
        const double ratio = !isnan(s) ? s / l->seconds[spot] : all > 0 ? work(l, cut, n) / all : 1;
        t->ratio[i] = fmin(t->ratio[i - 1], ratio);
    }
    return QN_OK;
}

static qn_code time_units(qn_latency *l, uint32_t *spot_of, qn_cut *cut, qn_err *err)
{
    const qn_allocator *a = l->a;
    for (uint32_t u = 0; u < a->n_units; u++) {
        const uint32_t last = a->units[u].n_steps - 1;
        for (uint32_t i = 0; i < LEVELS; i++)
            l->levels[(uint64_t)u * LEVELS + i] = (uint32_t)((uint64_t)last * i / (LEVELS - 1));
        for (uint32_t node = 0; last && node < a->graph->n_nodes; node++) {
            uint32_t spot;
            QN_TRY(qn_env_check(a->env, err));
            cut_to(a, u, last, cut);
            if (!runs_alone(&a->graph->nodes[node]) || !touches(cut, &a->graph->nodes[node]))
                continue;
            QN_TRY(find_spot(l, node, spot_of, &spot, err));
            if (spot < l->n_spots)
                QN_TRY(add_tie(l, node, u, spot, cut, err));
        }
        cut_to(a, u, 0, cut);
        if (a->env->progress)
            a->env->progress(a->env->progress_ctx, "timing cuts", u + 1ull, a->n_units);
    }
    return QN_OK;
}

static qn_code time_whole(qn_latency *l, double *seconds, qn_err *err)
{
    const qn_allocator *a = l->a;
    qn_array feeds[INPUTS_MAX], outs[OUTPUTS_MAX];
    qn_exec *x = NULL, *eye = NULL;
    memset(feeds, 0, sizeof feeds);
    memset(outs, 0, sizeof outs);
    if (a->graph->n_inputs > INPUTS_MAX || a->graph->n_outputs > OUTPUTS_MAX || !a->feed->n_batches)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a run of the model cannot be timed: %u inputs, %u outputs; at most %d are supported",
                       a->graph->n_inputs, a->graph->n_outputs, (int)INPUTS_MAX);
    const qn_exec_options o = {.on_output = look, .tap_ctx = l};
    QN_TRY(qn_exec_open(a->env, a->graph, NULL, &x, err));
    qn_code rc = qn_exec_open(a->env, a->graph, &o, &eye, err);
    *a->feed->pool = qn_exec_pool(x);
    if (rc == QN_OK)
        rc = a->feed->feed(a->feed->ctx, 0, feeds, err);
    if (rc == QN_OK)
        rc = qn_exec_run(eye, feeds, outs, err);
    for (uint32_t i = 0; i < a->graph->n_outputs; i++)
        qn_array_release(&outs[i]);
    if (rc == QN_OK)
        rc = time_runs(x, a->graph, feeds, seconds, err);
    for (uint32_t i = 0; i < a->graph->n_inputs && rc == QN_OK; i++) {
        /* a copy of what is no float, in memory that outlives this executor: it is a constant of the nodes that are timed */
        qn_array *s = &l->seen[a->graph->inputs[i]];
        *s = feeds[i];
        s->buffer = NULL;
        s->data = NULL;
        if (s->dtype != QN_F32 && feeds[i].data) {
            s->data = qn_arena_get(&l->a->arena, qn_array_bytes(&feeds[i]) + 1, 8, err);
            if (s->data)
                memcpy(s->data, feeds[i].data, qn_array_bytes(&feeds[i]));
            else
                rc = QN_E_MEMORY;
        }
    }
    for (uint32_t i = 0; i < a->graph->n_inputs; i++)
        qn_array_release(&feeds[i]);
    /* likewise what nodes have made */
    for (uint32_t v = 0; v < a->graph->n_values; v++) {
        qn_array *s = &l->seen[v], made = *s;
        if (!s->buffer)
            continue;
        s->buffer = NULL;
        s->data = qn_arena_get(&l->a->arena, qn_array_bytes(&made) + 1, 8, rc == QN_OK ? err : NULL);
        if (s->data)
            memcpy(s->data, made.data, qn_array_bytes(&made));
        else
            rc = QN_E_MEMORY;
        qn_array_release(&made);
    }
    qn_exec_close(eye);
    qn_exec_close(x);
    return rc;
}

static qn_code make(qn_latency *l, qn_err *err)
{
    qn_allocator *a = l->a;
    double whole;
    qn_cut *cut = NULL;
    const uint64_t n_nodes = a->graph->n_nodes + 1ull;
    l->seen = qn_arena_get(&a->arena, (a->graph->n_values + 1ull) * sizeof *l->seen, 8, err);
    l->levels = l->seen ? qn_arena_get(&a->arena, (a->n_units + 1ull) * LEVELS * sizeof *l->levels, 4, err) : NULL;
    uint32_t *spot_of = l->levels ? qn_arena_get(&a->arena, n_nodes * sizeof *spot_of, 4, err) : NULL;
    if (!spot_of)
        return QN_E_MEMORY;
    memset(l->seen, 0, a->graph->n_values * sizeof *l->seen);
    for (uint64_t i = 0; i < n_nodes; i++)
        spot_of[i] = UINT32_MAX;
    QN_TRY(time_whole(l, &whole, err));
    QN_TRY(qn_cut_new(a->env, a->groups, &cut, err));
    const qn_code rc = time_units(l, spot_of, cut, err);
    qn_cut_free(cut);
    QN_TRY(rc);
    for (uint64_t i = 0; i < l->n_spots; i++)
        whole -= l->seconds[i];
    l->rest = fmax(0, whole);
    l->left = qn_mem_get(a->env->alloc, (l->n_spots + 1) * sizeof *l->left, err);
    return l->left ? QN_OK : QN_E_MEMORY;
}

qn_code qn_latency_open(qn_allocator *a, qn_latency **out, qn_err *err)
{
    qn_latency *l = qn_mem_zeros(a->env->alloc, 1, sizeof *l, err);
    if (!l)
        return QN_E_MEMORY;
    l->a = a;
    const qn_code rc = make(l, err);
    if (rc != QN_OK) {
        qn_latency_close(l);
        return rc;
    }
    *out = l;
    return QN_OK;
}

void qn_latency_close(qn_latency *l)
{
    if (!l)
        return;
    const qn_alloc *a = l->a->env->alloc;
    qn_mem_put(a, l->seconds);
    qn_mem_put(a, l->left);
    qn_mem_put(a, l->ties);
    qn_mem_put(a, l->known);
    qn_mem_put(a, l);
}

double qn_latency_of(const qn_latency *l, const uint32_t *steps)
{
    double sum = l->rest;
    for (uint64_t i = 0; i < l->n_spots; i++)
        l->left[i] = l->seconds[i];
    for (uint64_t i = 0; i < l->n_ties; i++) {
        const struct tie *t = &l->ties[i];
        const uint32_t *at = l->levels + (uint64_t)t->unit * LEVELS, step = steps[t->unit];
        unsigned k = 1;
        while (k + 1 < LEVELS && at[k] < step)
            k++;
        const double part = at[k] > at[k - 1] ? ((double)step - at[k - 1]) / ((double)at[k] - at[k - 1]) : 1;
        l->left[t->spot] *= t->ratio[k - 1] + (t->ratio[k] - t->ratio[k - 1]) * part;
    }
    for (uint64_t i = 0; i < l->n_spots; i++)
        sum += l->left[i];
    return sum;
}
