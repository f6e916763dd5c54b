/* trace.c: the shape of every value of a graph, for inputs of some size.
 *
 * Shapes are inferred as when a graph is sealed, but with all dimensions of the inputs given; where that leaves something open (sizes that depend
 * on data) the graph is run on zeros. Dimensions that are not declared get sizes that many models take; a second trace with other sizes
 * tells which axes depend on them. */
#include "analysis/groups/impl.h"
#include "base/err.h"
#include <string.h>

enum { CONTENT_MAX = 4096 };

static qn_code trace_new(qn_grouping *s, qn_trace *t, qn_err *err)
{
    const uint64_t n = s->g->n_values ? s->g->n_values : 1;
    t->dims = qn_arena_get(s->arena, n * QN_ARRAY_RANK_MAX * sizeof *t->dims, 8, err);
    t->rank = qn_arena_get(s->arena, n, 1, err);
    t->dtype = qn_arena_get(s->arena, n, 1, err);
    t->content = qn_arena_get(s->arena, n * sizeof *t->content, 8, err);
    t->stopped = QN_NO_NODE;
    return t->dims && t->rank && t->dtype && t->content ? QN_OK : QN_E_MEMORY;
}

static void set_dims(qn_trace *t, uint32_t v, const int64_t *dims, unsigned rank)
{
    if (rank > QN_ARRAY_RANK_MAX) {
        t->rank[v] = QN_RANK_UNKNOWN;
        return;
    }
    t->rank[v] = (uint8_t)rank;
    for (unsigned k = 0; k < rank; k++)
        t->dims[qn_axis_number(v, k)] = dims[k];
}

/* What is there before any node has run. inputs: dims of each input, QN_ARRAY_RANK_MAX apart. */
static void begin(const qn_grouping *s, qn_trace *t, const int64_t *inputs, const uint8_t *ranks)
{
    for (uint32_t v = 0; v < s->g->n_values; v++) {
        const qn_value *x = &s->g->values[v];
        t->rank[v] = QN_RANK_UNKNOWN;
        t->dtype[v] = x->dtype;
        t->content[v] = (qn_array){.dtype = QN_BYTES};
        if (x->kind != QN_VALUE_WEIGHT && x->kind != QN_VALUE_CONST)
            continue;
        if (x->dims && x->rank != QN_RANK_UNKNOWN)
            set_dims(t, v, x->dims, x->rank);
        if (x->data.dtype != QN_BYTES && (x->data.data || !x->data.n))
            t->content[v] = x->data;
    }
    for (uint32_t i = 0; i < s->g->n_inputs; i++)
        if (ranks[i] != QN_RANK_UNKNOWN)
            set_dims(t, s->g->inputs[i], inputs + i * QN_ARRAY_RANK_MAX, ranks[i]);
}

static bool is_whole(const qn_array *a)
{
    if (a->dtype == QN_I64)
        for (uint64_t i = 0; i < a->n; i++)
            if (((const int64_t *)a->data)[i] == QN_INT_UNKNOWN)
                return false;
    return true;
}

static qn_info info_of(const qn_trace *t, uint32_t v)
{
    qn_info i = {.dtype = t->dtype[v], .rank = t->rank[v]};
    for (unsigned k = 0; i.rank != QN_RANK_UNKNOWN && k < i.rank; k++)
        i.dims[k] = t->dims[qn_axis_number(v, k)];
    if (t->content[v].dtype != QN_BYTES) {
        i.partly = &t->content[v];
        if (is_whole(&t->content[v]))
            i.value = &t->content[v];
    }
    return i;
}

struct taker {
    qn_grouping *s;
    qn_trace *t;
    const qn_node *n;
};

static qn_code take(void *ctx, unsigned output, const qn_array *a, qn_err *err)
{
    const struct taker *k = ctx;
    const uint32_t v = k->n->out[output];
    if (a->n > CONTENT_MAX)
        return QN_OK;
    qn_array *c = &k->t->content[v];
    *c = *a;
    c->buffer = NULL;
    c->data = qn_arena_get(k->s->arena, qn_array_bytes(a) + 1, 8, err);
    if (!c->data)
        return QN_E_MEMORY;
    memcpy(c->data, a->data, qn_array_bytes(a));
    k->t->dtype[v] = a->dtype;
    set_dims(k->t, v, a->dims, a->rank);
    return QN_OK;
}

static qn_code infer_node(qn_grouping *s, qn_trace *t, uint32_t index, qn_info *infos, qn_err *err)
{
    const qn_node *n = &s->g->nodes[index];
    qn_info *in = infos, *out = infos + n->n_in;
    const qn_info nothing = {.dtype = QN_BYTES, .rank = QN_RANK_UNKNOWN};
    for (unsigned i = 0; i < n->n_in; i++)
        in[i] = n->in[i] == QN_NO_VALUE ? nothing : info_of(t, n->in[i]);
    for (unsigned i = 0; i < n->n_out; i++)
        out[i] = nothing;
    if (n->op && n->op->shape)
        QN_TRY(n->op->shape(n, in, out, err));
    for (unsigned i = 0; i < n->n_out; i++) {
        const uint32_t v = n->out[i];
        if (v == QN_NO_VALUE)
            continue;
        const qn_value *x = &s->g->values[v];
        if (out[i].dtype != QN_BYTES)
            t->dtype[v] = out[i].dtype;
        if (out[i].rank != QN_RANK_UNKNOWN)
            set_dims(t, v, out[i].dims, out[i].rank);
        if (!x->dims || x->rank == QN_RANK_UNKNOWN || (t->rank[v] != QN_RANK_UNKNOWN && t->rank[v] != x->rank))
            continue;
        if (t->rank[v] == QN_RANK_UNKNOWN)
            set_dims(t, v, x->dims, x->rank);
        for (unsigned k = 0; k < x->rank; k++) /* what the file says about a value whose rule does not */
            if (t->dims[qn_axis_number(v, k)] < 0)
                t->dims[qn_axis_number(v, k)] = x->dims[k];
    }
    struct taker taker = {s, t, n};
    return n->op ? qn_fold_node(s->env, s->g, n, in, take, &taker, err) : QN_OK;
}

/* Values whose shapes are still open. */
static uint32_t count_open(const qn_grouping *s, const qn_trace *t)
{
    uint32_t n = 0;
    for (uint32_t v = 0; v < s->g->n_values; v++) {
        if (s->g->values[v].kind == QN_VALUE_NODE && s->g->last_use[v] == QN_NO_NODE)
            continue; /* nobody asks */
        bool open = t->rank[v] == QN_RANK_UNKNOWN;
        for (unsigned k = 0; !open && k < t->rank[v]; k++)
            open = t->dims[qn_axis_number(v, k)] < 0;
        n += open;
    }
    return n;
}

/* QN_E_INPUT: the model does not take inputs of these sizes. */
static qn_code infer(qn_grouping *s, qn_trace *t, const int64_t *inputs, const uint8_t *ranks, uint32_t *n_open, qn_err *err)
{
    uint64_t most = 1;
    for (uint32_t i = 0; i < s->g->n_nodes; i++)
        if ((uint64_t)s->g->nodes[i].n_in + s->g->nodes[i].n_out > most)
            most = (uint64_t)s->g->nodes[i].n_in + s->g->nodes[i].n_out;
    qn_info *infos = qn_mem_get(s->env->alloc, most * sizeof *infos, err);
    if (!infos)
        return QN_E_MEMORY;
    begin(s, t, inputs, ranks);
    qn_code rc = QN_OK;
    for (uint32_t i = 0; i < s->g->n_nodes && rc == QN_OK; i++) {
        rc = infer_node(s, t, i, infos, err);
        if (rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED) {
            t->stopped = i;
            rc = qn_node_fail(&s->g->nodes[i], rc, err);
        }
    }
    qn_mem_put(s->env->alloc, infos);
    *n_open = count_open(s, t);
    return rc;
}

/* ---- running ---- */

static qn_code note(void *ctx, const qn_graph *g, uint32_t node, const qn_array *out, qn_err *err)
{
    const struct taker *k = ctx;
    (void)err;
    if (g != k->s->g)
        return QN_OK;
    const qn_node *n = &g->nodes[node];
    for (unsigned i = 0; i < n->n_out; i++)
        if (n->out[i] != QN_NO_VALUE && out[i].dtype != QN_BYTES) {
            k->t->dtype[n->out[i]] = out[i].dtype;
            set_dims(k->t, n->out[i], out[i].dims, out[i].rank);
        }
    k->t->stopped = node + 1;
    return QN_OK;
}

static qn_code zero_feed(const qn_grouping *s, qn_pool *pool, uint32_t i, const int64_t *dims, uint8_t rank, qn_array *a, qn_err *err)
{
    const qn_value *v = &s->g->values[s->g->inputs[i]];
    QN_TRY(qn_array_new(pool, a, v->dtype == QN_BYTES ? QN_F32 : (qn_dtype)v->dtype, dims, rank, err));
    memset(a->data, 0, qn_array_bytes(a));
    if (s->g->n_vocab && !strcmp(v->name, "starts") && a->dtype == QN_I64 && a->n == 2) /* one sequence of all tokens */
        for (uint32_t k = 0; k < s->g->n_inputs; k++)
            if (!strcmp(s->g->values[s->g->inputs[k]].name, "tokens"))
                ((int64_t *)a->data)[1] = dims[(int64_t)QN_ARRAY_RANK_MAX * ((int64_t)k - (int64_t)i)];
    return QN_OK;
}

/* Fills in what inference left open. What fails leaves the rest open: *t->stopped names the node. */
static qn_code run(qn_grouping *s, qn_trace *t, const int64_t *inputs, const uint8_t *ranks, qn_err *ran, qn_err *err)
{
    struct taker ctx = {.s = s, .t = t};
    const qn_exec_options o = {.on_output = note, .tap_ctx = &ctx};
    qn_exec *x;
    qn_array *feeds = qn_mem_zeros(s->env->alloc, (uint64_t)s->g->n_inputs + 1, sizeof *feeds, err);
    qn_array *outs = qn_mem_zeros(s->env->alloc, (uint64_t)s->g->n_outputs + 1, sizeof *outs, err);
    qn_code rc = feeds && outs ? qn_exec_open(s->env, s->g, &o, &x, err) : QN_E_MEMORY;
    if (rc == QN_OK) {
        t->stopped = 0;
        for (uint32_t i = 0; i < s->g->n_inputs && rc == QN_OK; i++) {
            if (s->o && s->o->feeds)
                qn_array_share(&s->o->feeds[i], &feeds[i]);
            else
                rc = ranks[i] == QN_RANK_UNKNOWN ? QN_FAIL(ran, QN_E_UNSUPPORTED, QN_NO_OFFSET, "input '%s' has no known rank",
                                                           s->g->values[s->g->inputs[i]].name)
                                                 : zero_feed(s, qn_exec_pool(x), i, inputs + i * QN_ARRAY_RANK_MAX, ranks[i], &feeds[i], err);
        }
        if (rc == QN_OK)
            rc = qn_exec_run(x, feeds, outs, ran);
        if (rc == QN_OK)
            t->stopped = QN_NO_NODE;
        else if (rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED)
            rc = QN_OK;
        for (uint32_t i = 0; i < s->g->n_outputs; i++)
            qn_array_release(&outs[i]);
        for (uint32_t i = 0; i < s->g->n_inputs; i++)
            qn_array_release(&feeds[i]);
        qn_exec_close(x);
    }
    qn_mem_put(s->env->alloc, feeds);
    qn_mem_put(s->env->alloc, outs);
    return rc;
}

/* ---- sizes of the inputs ---- */

/* Sizes that are tried for dimensions that are not declared: of the trace, and of the second one. Multiples of 32 first: what halves an
 * image five times takes no others. */
static const int64_t sizes[][2] = {{64, 96}, {32, 64}, {16, 32}, {8, 12}, {224, 256}, {128, 160}, {512, 640}, {320, 352}, {1024, 1056}, {2, 3}, {1, 2}};

static bool is_batch(const qn_value *v, unsigned axis)
{
    const char *symbol = v->symbols ? v->symbols[axis] : NULL;
    return axis == 0 || (symbol && (strstr(symbol, "batch") || !strcmp(symbol, "N")));
}

/* Fills dims of all inputs from the declared ones; returns whether something was open. which: 0, 1 of the pair. */
static bool choose(const qn_grouping *s, unsigned pair, unsigned which, int64_t *dims, uint8_t *ranks)
{
    bool open = false;
    for (uint32_t i = 0; i < s->g->n_inputs; i++) {
        const qn_value *v = &s->g->values[s->g->inputs[i]];
        int64_t *d = dims + i * QN_ARRAY_RANK_MAX;
        const qn_array *feed = s->o && s->o->feeds ? &s->o->feeds[i] : NULL;
        ranks[i] = v->dims && v->rank <= QN_ARRAY_RANK_MAX ? v->rank : QN_RANK_UNKNOWN;
        if (feed && feed->dtype != QN_BYTES)
            ranks[i] = feed->rank;
        for (unsigned k = 0; ranks[i] != QN_RANK_UNKNOWN && k < ranks[i]; k++) {
            const bool declared = v->dims && v->rank == ranks[i] && v->dims[k] >= 0;
            const bool batch = v->rank == ranks[i] && is_batch(v, k);
            open = open || !declared;
            if (declared && !feed)
                d[k] = v->dims[k];
            else if (feed)
                d[k] = feed->dims[k] + (declared || !which ? 0 : batch ? 1 : sizes[pair][1] - sizes[pair][0]);
            else if (s->g->n_vocab)
                d[k] = !strcmp(v->name, "starts") ? 2 : 8 + 4 * (int64_t)which;
            else
                d[k] = batch ? 1 + (int64_t)which : sizes[pair][which];
        }
    }
    return open;
}

/* An axis varies when the two traces differ, or when the second could not be made and nobody says how long it is. */
static void compare(qn_grouping *s, const qn_trace *other)
{
    for (uint32_t v = 0; v < s->g->n_values; v++) {
        const qn_value *x = &s->g->values[v];
        for (unsigned k = 0; s->t.rank[v] != QN_RANK_UNKNOWN && k < s->t.rank[v]; k++) {
            const uint32_t at = qn_axis_number(v, k);
            const bool said = x->dims && x->rank == s->t.rank[v] && x->dims[k] >= 0;
            const bool seen = other && other->rank[v] == s->t.rank[v] && other->dims[at] >= 0;
            s->varies[at] = seen ? other->dims[at] != s->t.dims[at] : !said;
        }
        /* Content that is not the same in both is nothing to go by. */
        qn_array *c = &s->t.content[v];
        if (c->dtype == QN_BYTES || x->kind == QN_VALUE_WEIGHT || x->kind == QN_VALUE_CONST)
            continue;
        const qn_array *d = other ? &other->content[v] : NULL;
        if (!d || d->dtype != c->dtype || d->n != c->n || (c->n && memcmp(c->data, d->data, qn_array_bytes(c)) != 0))
            *c = (qn_array){.dtype = QN_BYTES};
    }
}

qn_code qn_groups_trace(qn_grouping *s, qn_err *err)
{
    const uint64_t n_in = (uint64_t)s->g->n_inputs + 1, n_values = s->g->n_values ? s->g->n_values : 1;
    int64_t *dims = qn_arena_get(&s->scratch, n_in * QN_ARRAY_RANK_MAX * sizeof *dims, 8, err);
    uint8_t *ranks = qn_arena_get(&s->scratch, n_in, 1, err);
    s->varies = qn_arena_get(s->arena, n_values * QN_ARRAY_RANK_MAX, 1, err);
    qn_trace other;
    if (!dims || !ranks || !s->varies)
        return QN_E_MEMORY;
    memset(s->varies, 0, n_values * QN_ARRAY_RANK_MAX);
    QN_TRY(trace_new(s, &s->t, err));
    const unsigned n_pairs = sizeof sizes / sizeof sizes[0];
    unsigned best = n_pairs;
    uint32_t n_open = 0, least = UINT32_MAX;
    bool open = true;
    qn_err last;
    for (unsigned pair = 0; pair < n_pairs && open && least; pair++) {
        open = choose(s, pair, 0, dims, ranks);
        qn_err_clear(&last);
        const qn_code rc = infer(s, &s->t, dims, ranks, &n_open, &last);
        if (rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED)
            continue;
        if (rc != QN_OK)
            return QN_FAIL(err, rc, QN_NO_OFFSET, "%s", last.text);
        if (n_open < least) {
            least = n_open;
            best = pair;
        }
    }
    if (best == n_pairs) /* no size is good: what could be inferred for the first, up to where it failed */
        best = 0;
    open = choose(s, best, 0, dims, ranks);
    qn_err_clear(&last);
    s->t.stopped = QN_NO_NODE;
    qn_code rc = infer(s, &s->t, dims, ranks, &n_open, &last);
    if (n_open && (rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED)) {
        qn_err_clear(&last);
        QN_TRY(run(s, &s->t, dims, ranks, &last, err));
        s->traced = last;
        n_open = count_open(s, &s->t);
    } else if (rc != QN_OK && rc != QN_E_INPUT && rc != QN_E_UNSUPPORTED) {
        return QN_FAIL(err, rc, QN_NO_OFFSET, "%s", last.text);
    }
    if (!open) {
        compare(s, &s->t);
    } else {
        QN_TRY(trace_new(s, &other, err));
        choose(s, best, 1, dims, ranks);
        qn_err ignored = {0};
        uint32_t n_other;
        rc = infer(s, &other, dims, ranks, &n_other, &ignored);
        if (rc == QN_E_MEMORY)
            return QN_FAIL(err, rc, QN_NO_OFFSET, "out of memory");
        compare(s, rc == QN_OK ? &other : NULL);
    }
    /* Ranks with an open dimension are as good as unknown. */
    for (uint32_t v = 0; v < s->g->n_values; v++)
        for (unsigned k = 0; s->t.rank[v] != QN_RANK_UNKNOWN && k < s->t.rank[v]; k++)
            if (s->t.dims[qn_axis_number(v, k)] < 0) {
                s->t.rank[v] = QN_RANK_UNKNOWN;
                break;
            }
    return QN_OK;
}
