/* onnx_flow.c: operators whose attributes are graphs: If, Loop, Scan. Values of the graph around are seen by the executor. */
#include "analysis/exec/ops_onnx.h"
#include "base/err.h"
#include <inttypes.h>
#include <string.h>

/* A loop that goes on for longer is taken for one that never ends. */
enum { TURNS_MAX = 1 << 20 };

static qn_code graph_of(const qn_node *n, const char *name, const qn_graph **g, qn_err *err)
{
    const qn_attr *a = qn_node_attr(n, name);
    if (!a || a->type != QN_ATTR_GRAPH)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "attribute '%s' is not there", name);
    *g = a->v.graph;
    return QN_OK;
}

static qn_code truth(const qn_array *a, bool *v, qn_err *err)
{
    char text[128];
    if (a->dtype != QN_BOOL || a->n != 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the condition must be one BOOL, not %s", qn_array_text(a, text));
    *v = *(const uint8_t *)a->data != 0;
    return QN_OK;
}

/* ---- If ---- */

/* What both branches agree on. */
qn_code qn_onnx_if_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    const qn_graph *a = NULL, *b = NULL;
    (void)in;
    QN_TRY(graph_of(n, "then_branch", &a, err));
    QN_TRY(graph_of(n, "else_branch", &b, err));
    for (unsigned i = 0; i < n->n_out && i < a->n_outputs && i < b->n_outputs; i++) {
        const qn_value *u = &a->values[a->outputs[i]], *v = &b->values[b->outputs[i]];
        out[i].dtype = u->dtype == v->dtype ? u->dtype : QN_BYTES;
        if (!u->dims || !v->dims || u->rank != v->rank || u->rank > QN_ARRAY_RANK_MAX)
            continue;
        out[i].rank = u->rank;
        for (unsigned k = 0; k < u->rank; k++)
            out[i].dims[k] = u->dims[k] == v->dims[k] ? u->dims[k] : QN_DIM_UNKNOWN;
    }
    return QN_OK;
}

qn_code qn_onnx_if(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const qn_graph *g = NULL;
    bool yes = false;
    QN_TRY(truth(in, &yes, err));
    QN_TRY(graph_of(n, yes ? "then_branch" : "else_branch", &g, err));
    if (g->n_inputs || g->n_outputs != n->n_out)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a branch has %" PRIu32 " inputs and %" PRIu32 " outputs; none and %u are needed", g->n_inputs,
                       g->n_outputs, n->n_out);
    return qn_exec_subgraph(x, g, NULL, out, err);
}

/* ---- stacking what the turns give ---- */

/* Slices of equal shape, gathered one by one. */
struct stack {
    qn_array *slices;
    uint64_t n, cap;
};

static qn_code push(const qn_alloc *a, struct stack *s, qn_array *slice, qn_err *err)
{
    if (s->n && (slice->dtype != s->slices[0].dtype || slice->rank != s->slices[0].rank ||
                 memcmp(slice->dims, s->slices[0].dims, slice->rank * sizeof slice->dims[0]) != 0))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the turns give slices of different shapes");
    qn_array *grown = qn_mem_grow(a, s->slices, s->n, &s->cap, s->n + 1, sizeof *grown, err);
    if (!grown)
        return QN_E_MEMORY;
    s->slices = grown;
    s->slices[s->n++] = *slice;
    memset(slice, 0, sizeof *slice);
    return QN_OK;
}

static void drop(const qn_alloc *a, struct stack *s)
{
    for (uint64_t i = 0; i < s->n; i++)
        qn_array_release(&s->slices[i]);
    qn_mem_put(a, s->slices);
}

/* Along a new axis, in order or from behind. Without slices: what is known of them from the graph. */
static qn_code join(qn_exec *x, const struct stack *s, const qn_graph *g, uint32_t value, int64_t given_axis, bool reverse, qn_array *out,
                    qn_err *err)
{
    const qn_value *v = &g->values[value];
    int64_t dims[QN_ARRAY_RANK_MAX];
    const unsigned rank = s->n ? s->slices[0].rank : v->dims ? v->rank : 0;
    unsigned axis;
    if (rank + 1 > QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "rank %u; at most %u is supported", rank + 1, (unsigned)QN_ARRAY_RANK_MAX);
    QN_TRY(qn_axis_of(given_axis, rank + 1, &axis, err));
    for (unsigned k = 0, from = 0; k <= rank; k++) {
        if (k == axis) {
            dims[k] = (int64_t)s->n;
            continue;
        }
        dims[k] = s->n ? s->slices[0].dims[from] : v->dims[from] == QN_DIM_UNKNOWN ? 0 : v->dims[from];
        from++;
    }
    const qn_dtype dtype = s->n ? (qn_dtype)s->slices[0].dtype : v->dtype == QN_BYTES ? QN_F32 : (qn_dtype)v->dtype;
    QN_TRY(qn_exec_new(x, out, dtype, dims, rank + 1, err));
    if (!out->n)
        return QN_OK;
    const uint64_t outer = qn_span(dims, 0, axis), n_bytes = qn_span(dims, axis + 1, rank + 1) * qn_elem_bytes(dtype);
    for (uint64_t i = 0; i < s->n; i++) {
        const uint8_t *src = s->slices[reverse ? s->n - 1 - i : i].data;
        for (uint64_t o = 0; o < outer; o++)
            memcpy((uint8_t *)out->data + (o * s->n + i) * n_bytes, src + o * n_bytes, n_bytes);
    }
    return QN_OK;
}

/* ---- what Loop and Scan share: state that goes round, stacks that grow ---- */

struct turns {
    qn_exec *x;
    const qn_graph *g;
    qn_array *feeds, *outs;    /* one per input and output of the graph */
    struct stack *stacks;      /* one per output that is gathered */
    unsigned n_state, n_stacks;
};

static qn_code open_turns(struct turns *t, qn_err *err)
{
    const qn_alloc *a = qn_exec_env(t->x)->alloc;
    t->feeds = qn_mem_zeros(a, t->g->n_inputs + 1u, sizeof *t->feeds, err);
    t->outs = t->feeds ? qn_mem_zeros(a, t->g->n_outputs + 1u, sizeof *t->outs, err) : NULL;
    t->stacks = t->outs ? qn_mem_zeros(a, t->n_stacks + 1u, sizeof *t->stacks, err) : NULL;
    return t->stacks ? QN_OK : QN_E_MEMORY;
}

static void close_turns(struct turns *t)
{
    const qn_alloc *a = qn_exec_env(t->x)->alloc;
    for (uint32_t i = 0; t->feeds && i < t->g->n_inputs; i++)
        qn_array_release(&t->feeds[i]);
    for (uint32_t i = 0; t->outs && i < t->g->n_outputs; i++)
        qn_array_release(&t->outs[i]);
    for (unsigned i = 0; t->stacks && i < t->n_stacks; i++)
        drop(a, &t->stacks[i]);
    qn_mem_put(a, t->feeds);
    qn_mem_put(a, t->outs);
    qn_mem_put(a, t->stacks);
}

/* One turn: outs[skip …] become the state in feeds[to …], then slices. */
static qn_code turn(struct turns *t, unsigned skip, unsigned to, qn_err *err)
{
    QN_TRY(qn_env_check(qn_exec_env(t->x), err));
    QN_TRY(qn_exec_subgraph(t->x, t->g, t->feeds, t->outs, err));
    for (unsigned i = 0; i < t->n_state; i++) {
        qn_array_release(&t->feeds[to + i]);
        t->feeds[to + i] = t->outs[skip + i];
        memset(&t->outs[skip + i], 0, sizeof t->outs[0]);
    }
    for (unsigned i = 0; i < t->n_stacks; i++)
        QN_TRY(push(qn_exec_env(t->x)->alloc, &t->stacks[i], &t->outs[skip + t->n_state + i], err));
    return QN_OK;
}

/* ---- Loop: inputs M, condition, state; the body: turn, condition, state → condition, state, slices ---- */

static qn_code loop(struct turns *t, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    int64_t most = INT64_MAX, i;
    bool go = true;
    if (qn_node_has(n, 0))
        QN_TRY(qn_array_int(&in[0], &most, err));
    if (qn_node_has(n, 1))
        QN_TRY(truth(&in[1], &go, err));
    for (unsigned k = 0; k < t->n_state; k++)
        qn_array_share(&in[2 + k], &t->feeds[2 + k]);
    for (i = 0; i < most && go; i++) {
        if (i == TURNS_MAX)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "more than %d turns", TURNS_MAX);
        qn_array_release(&t->feeds[0]);
        qn_array_release(&t->feeds[1]);
        QN_TRY(qn_exec_new(t->x, &t->feeds[0], QN_I64, NULL, 0, err));
        *(int64_t *)t->feeds[0].data = i;
        QN_TRY(qn_exec_new(t->x, &t->feeds[1], QN_BOOL, NULL, 0, err));
        *(uint8_t *)t->feeds[1].data = 1;
        QN_TRY(turn(t, 1, 2, err));
        QN_TRY(truth(&t->outs[0], &go, err));
        qn_array_release(&t->outs[0]);
    }
    for (unsigned k = 0; k < t->n_state; k++)
        qn_array_share(&t->feeds[2 + k], &out[k]);
    for (unsigned k = 0; k < t->n_stacks; k++)
        QN_TRY(join(t->x, &t->stacks[k], t->g, t->g->outputs[1 + t->n_state + k], 0, false, &out[t->n_state + k], err));
    return QN_OK;
}

qn_code qn_onnx_loop(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    struct turns t = {.x = x};
    QN_TRY(graph_of(n, "body", &t.g, err));
    t.n_state = n->n_in > 2 ? n->n_in - 2u : 0;
    if (t.g->n_inputs != t.n_state + 2 || t.g->n_outputs < t.n_state + 1 || t.g->n_outputs != n->n_out + 1u)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the body has %" PRIu32 " inputs and %" PRIu32 " outputs for %u operands and %u results",
                       t.g->n_inputs, t.g->n_outputs, n->n_in, n->n_out);
    for (unsigned k = 0; k < t.n_state; k++)
        if (in[2 + k].dtype == QN_BYTES)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "state %u is left out", k);
    t.n_stacks = t.g->n_outputs - 1 - t.n_state;
    qn_code rc = open_turns(&t, err);
    if (rc == QN_OK)
        rc = loop(&t, n, in, out, err);
    close_turns(&t);
    return rc;
}

/* ---- Scan: state, then operands that are cut in slices; version 8 has lengths and a batch axis in front ---- */

/* Entry `at` of the axis as an array of its own. */
static qn_code slice_of(qn_exec *x, const qn_array *in, unsigned axis, uint64_t at, qn_array *out, qn_err *err)
{
    int64_t dims[QN_ARRAY_RANK_MAX];
    for (unsigned k = 0, to = 0; k < in->rank; k++)
        if (k != axis)
            dims[to++] = in->dims[k];
    QN_TRY(qn_exec_new(x, out, (qn_dtype)in->dtype, dims, in->rank - 1u, err));
    if (!out->n)
        return QN_OK;
    const uint64_t size = (uint64_t)in->dims[axis], outer = qn_span(in->dims, 0, axis);
    const uint64_t n_bytes = qn_span(in->dims, axis + 1, in->rank) * qn_elem_bytes(in->dtype);
    for (uint64_t o = 0; o < outer; o++)
        memcpy((uint8_t *)out->data + o * n_bytes, (const uint8_t *)in->data + (o * size + at) * n_bytes, n_bytes);
    return QN_OK;
}

static int64_t entry(const qn_node *n, const char *name, unsigned i)
{
    unsigned count;
    const int64_t *list = qn_node_ints(n, name, &count);
    return i < count ? list[i] : 0;
}

static qn_code scan(struct turns *t, const qn_node *n, const qn_array *in, unsigned n_scan, qn_array *out, qn_err *err)
{
    int64_t turns = -1;
    for (unsigned k = 0; k < n_scan; k++) {
        const qn_array *a = &in[t->n_state + k];
        unsigned axis;
        QN_TRY(qn_axis_of(entry(n, "scan_input_axes", k), a->rank, &axis, err));
        if (turns >= 0 && a->dims[axis] != turns)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRId64 " slices of one operand and %" PRId64 " of another", turns, a->dims[axis]);
        turns = a->dims[axis];
    }
    for (unsigned k = 0; k < t->n_state; k++)
        qn_array_share(&in[k], &t->feeds[k]);
    for (int64_t i = 0; i < turns; i++) {
        for (unsigned k = 0; k < n_scan; k++) {
            unsigned axis;
            QN_TRY(qn_axis_of(entry(n, "scan_input_axes", k), in[t->n_state + k].rank, &axis, err));
            qn_array_release(&t->feeds[t->n_state + k]);
            QN_TRY(slice_of(t->x, &in[t->n_state + k], axis, (uint64_t)(entry(n, "scan_input_directions", k) ? turns - 1 - i : i),
                            &t->feeds[t->n_state + k], err));
        }
        QN_TRY(turn(t, 0, 0, err));
    }
    for (unsigned k = 0; k < t->n_state; k++)
        qn_array_share(&t->feeds[k], &out[k]);
    for (unsigned k = 0; k < t->n_stacks; k++)
        QN_TRY(join(t->x, &t->stacks[k], t->g, t->g->outputs[t->n_state + k], entry(n, "scan_output_axes", k),
                    entry(n, "scan_output_directions", k) != 0, &out[t->n_state + k], err));
    return QN_OK;
}

/* Runs one set of operands, none of them with a batch axis. */
static qn_code scan_once(qn_exec *x, const qn_node *n, const qn_array *in, unsigned n_in, qn_array *out, qn_err *err)
{
    struct turns t = {.x = x};
    QN_TRY(graph_of(n, "body", &t.g, err));
    const int64_t n_scan = qn_node_int(n, "num_scan_inputs", 0);
    if (n_scan < 1 || n_scan > (int64_t)n_in)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "num_scan_inputs is %" PRId64 " of %u operands", n_scan, n_in);
    t.n_state = n_in - (unsigned)n_scan;
    if (t.g->n_inputs != n_in || t.g->n_outputs < t.n_state || t.g->n_outputs != n->n_out)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the body has %" PRIu32 " inputs and %" PRIu32 " outputs for %u operands and %u results",
                       t.g->n_inputs, t.g->n_outputs, n_in, n->n_out);
    for (unsigned k = 0; k < n_in; k++)
        if (in[k].dtype == QN_BYTES)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "operand %u is left out", k);
    t.n_stacks = t.g->n_outputs - t.n_state;
    qn_code rc = open_turns(&t, err);
    if (rc == QN_OK)
        rc = scan(&t, n, in, (unsigned)n_scan, out, err);
    close_turns(&t);
    return rc;
}

enum { BATCHED_OPERANDS = 16 };

/* Version 8: batch by batch, and the results stacked. */
static qn_code scan_batches(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    qn_array one[BATCHED_OPERANDS] = {{0}}, got[BATCHED_OPERANDS] = {{0}};
    struct stack stacks[BATCHED_OPERANDS] = {{0}};
    const qn_alloc *a = qn_exec_env(x)->alloc;
    const qn_graph *g = NULL;
    const unsigned n_in = n->n_in ? n->n_in - 1u : 0;
    QN_TRY(graph_of(n, "body", &g, err));
    if (qn_node_has(n, 0) || n_in < 1 || n_in > BATCHED_OPERANDS || n->n_out > BATCHED_OPERANDS)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "sequences of different lengths, or %u operands", n_in);
    const int64_t batches = in[1].rank ? in[1].dims[0] : -1;
    for (unsigned k = 0; k < n_in; k++)
        if (in[1 + k].rank < 1 || in[1 + k].dims[0] != batches)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "operand %u has another batch size than the first", k);
    if (g->n_outputs != n->n_out)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the body has %" PRIu32 " outputs for %u results", g->n_outputs, n->n_out);
    qn_code rc = QN_OK;
    for (int64_t b = 0; b < batches && rc == QN_OK; b++) {
        for (unsigned k = 0; k < n_in && rc == QN_OK; k++)
            rc = slice_of(x, &in[1 + k], 0, (uint64_t)b, &one[k], err);
        if (rc == QN_OK)
            rc = scan_once(x, n, one, n_in, got, err);
        for (unsigned k = 0; k < n->n_out && rc == QN_OK; k++)
            rc = push(a, &stacks[k], &got[k], err);
        for (unsigned k = 0; k < BATCHED_OPERANDS; k++) {
            qn_array_release(&one[k]);
            qn_array_release(&got[k]);
        }
    }
    for (unsigned k = 0; k < n->n_out; k++) {
        if (rc == QN_OK)
            rc = join(x, &stacks[k], g, g->outputs[k], 0, false, &out[k], err);
        drop(a, &stacks[k]);
    }
    return rc;
}

qn_code qn_onnx_scan(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return n->version && n->version < 9 ? scan_batches(x, n, in, out, err) : scan_once(x, n, in, n->n_in, out, err);
}
