/* net_sliced.c: a graph without what a cut takes away, put together by hand: the reference that the program's own writers are no part of. */
#include "base/err.h"
#include "tests/support/net_made.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 1 << 16 };

struct slicer {
    const qn_cut *c;
    const qn_graph *from;
    qn_graph *to;
    uint32_t *value; /* per value of from */
    uint8_t keep[LONGEST];
    qn_err err;
    unsigned n_made;
};

static void dims_of(struct slicer *s, uint32_t v, int64_t dims[QN_ARRAY_RANK_MAX])
{
    cr_assert_eq(qn_cut_dims(s->c, v, dims, &s->err), QN_OK, "%s", s->err.text);
}

static int64_t old_dim(const struct slicer *s, uint32_t v, unsigned axis)
{
    return s->c->groups->dims[v * QN_ARRAY_RANK_MAX + axis];
}

static int64_t new_dim(struct slicer *s, uint32_t v, unsigned axis)
{
    int64_t dims[QN_ARRAY_RANK_MAX];
    dims_of(s, v, dims);
    return dims[axis];
}

/* s->keep of an axis; returns its size. */
static uint64_t keep_of(struct slicer *s, uint32_t v, unsigned axis)
{
    const uint64_t n = (uint64_t)old_dim(s, v, axis);
    uint64_t kept;
    cr_assert_leq(n, LONGEST);
    cr_assert_eq(qn_cut_axis(s->c, v, axis, s->keep, n, &kept, &s->err), QN_OK, "%s", s->err.text);
    return n;
}

/* Kept among the indices [from, to). */
static int64_t kept_in(const struct slicer *s, int64_t from, int64_t to)
{
    int64_t n = 0;
    for (int64_t i = from; i < to; i++)
        n += s->keep[i];
    return n;
}

static uint32_t ints(struct slicer *s, const int64_t *v, unsigned n)
{
    char name[32];
    uint32_t value;
    const int64_t dims[1] = {n};
    snprintf(name, sizeof name, "made%u", s->n_made++);
    cr_assert_eq(qn_graph_const(s->to, name, QN_I64, dims, 1, v, &value, &s->err), QN_OK);
    return value;
}

static void weight(struct slicer *s, uint32_t v)
{
    const qn_value *x = &s->from->values[v];
    const uint64_t n = qn_value_elems(x), rows = x->rank ? (uint64_t)x->dims[0] : 1;
    const unsigned bytes = qn_dtype_bits((qn_dtype)x->dtype) / 8;
    uint8_t *full = malloc(n * bytes + 8), *left = malloc(n * bytes + 8);
    int64_t dims[QN_ARRAY_RANK_MAX];
    cr_assert_eq(qn_weight_from_source(s->c->env, s->from->source, s->from, v, 0, rows, full, &s->err), QN_OK, "%s", s->err.text);
    cr_assert_eq(qn_cut_take(s->c, v, bytes, full, left, dims, &s->err), QN_OK, "%s", s->err.text);
    cr_assert_eq(qn_graph_const(s->to, x->name, (qn_dtype)x->dtype, dims, x->rank, left, &s->value[v], &s->err), QN_OK, "%s", s->err.text);
    free(full);
    free(left);
}

static const int64_t *list_of(const struct slicer *s, const qn_node *n, const char *attr, unsigned input, unsigned *count)
{
    *count = 0;
    if (attr && qn_node_ints(n, attr, count))
        return qn_node_ints(n, attr, count);
    if (input >= n->n_in || n->in[input] == QN_NO_VALUE)
        return NULL;
    const qn_array *a = &s->from->values[n->in[input]].data;
    cr_assert(a->dtype == QN_I64, "%s: operand %u is not known", n->name, input);
    *count = (unsigned)a->n;
    return a->data;
}

static void edit_slice(struct slicer *s, const qn_node *n, uint32_t *in)
{
    unsigned count, n_axes, n_steps;
    const int64_t *starts = list_of(s, n, NULL, 1, &count), *axes = list_of(s, n, NULL, 3, &n_axes), *steps = list_of(s, n, NULL, 4, &n_steps);
    int64_t from[8], to[8];
    for (unsigned k = 0; k < count; k++) {
        const unsigned a = (unsigned)(axes ? axes[k] + (axes[k] < 0 ? s->c->groups->rank[n->in[0]] : 0) : (int64_t)k);
        const int64_t d = (int64_t)keep_of(s, n->in[0], a), out = old_dim(s, n->out[0], a), step = steps ? steps[k] : 1;
        if (step != 1) { /* nothing is cut there */
            cr_assert_eq(kept_in(s, 0, d), d);
            unsigned n_ends;
            const int64_t *ends = list_of(s, n, NULL, 2, &n_ends);
            from[k] = starts[k];
            to[k] = ends[k];
            continue;
        }
        int64_t start = starts[k] + (starts[k] < 0 ? d : 0);
        start = start < 0 ? 0 : start > d ? d : start;
        from[k] = kept_in(s, 0, start);
        to[k] = from[k] + kept_in(s, start, start + out);
        cr_assert_eq(to[k] - from[k], new_dim(s, n->out[0], a), "%s", n->name);
    }
    in[1] = ints(s, from, count);
    in[2] = ints(s, to, count);
}

static void edit_pad(struct slicer *s, const qn_node *n, uint32_t *in)
{
    unsigned count;
    const int64_t *pads = list_of(s, n, NULL, 1, &count);
    int64_t made[16];
    for (unsigned a = 0; a < count / 2; a++) {
        const int64_t d = (int64_t)keep_of(s, n->out[0], a);
        made[a] = kept_in(s, 0, pads[a]);
        made[a + count / 2] = kept_in(s, d - pads[a + count / 2], d);
    }
    in[1] = ints(s, made, count);
}

static void edit_gather(struct slicer *s, const qn_node *n, uint32_t *in)
{
    const qn_array *a = &s->from->values[n->in[1]].data;
    const unsigned axis = (unsigned)(qn_node_int(n, "axis", 0) + (qn_node_int(n, "axis", 0) < 0 ? s->c->groups->rank[n->in[0]] : 0));
    if (a->dtype != QN_I64 || a->rank > 1)
        return;
    static uint8_t out[LONGEST];
    int64_t made[256];
    unsigned count = 0;
    if (a->rank) {
        keep_of(s, n->out[0], axis);
        memcpy(out, s->keep, a->n);
    } else {
        out[0] = 1;
    }
    const int64_t d = (int64_t)keep_of(s, n->in[0], axis);
    for (uint64_t i = 0; i < a->n; i++) {
        const int64_t k = ((const int64_t *)a->data)[i] + (((const int64_t *)a->data)[i] < 0 ? d : 0);
        cr_assert(!out[i] || s->keep[k], "%s picks what is gone", n->name);
        if (out[i])
            made[count++] = kept_in(s, 0, k);
    }
    if (a->rank) {
        in[1] = ints(s, made, count);
    } else {
        uint32_t v;
        char name[32];
        snprintf(name, sizeof name, "made%u", s->n_made++);
        cr_assert_eq(qn_graph_const(s->to, name, QN_I64, NULL, 0, made, &v, &s->err), QN_OK);
        in[1] = v;
    }
}

static void set(qn_attr *attrs, unsigned *n, const qn_attr *a)
{
    for (unsigned i = 0; i < *n; i++)
        if (!strcmp(attrs[i].name, a->name)) {
            attrs[i] = *a;
            return;
        }
    attrs[(*n)++] = *a;
}

static void set_int(qn_attr *attrs, unsigned *n, const char *name, int64_t v)
{
    set(attrs, n, &(qn_attr){.name = name, .type = QN_ATTR_INT, .v.i = v});
}

static void edit_attention(struct slicer *s, const qn_node *n, qn_attr *attrs, unsigned *n_attrs)
{
    const int64_t heads = qn_node_int(n, "heads", 1), kv = qn_node_int(n, "kv_heads", heads);
    const int64_t size = old_dim(s, n->in[0], 1) / heads, v_size = old_dim(s, n->in[2], 1) / kv;
    const int64_t q = new_dim(s, n->in[0], 1), k = new_dim(s, n->in[1], 1), v = new_dim(s, n->in[2], 1);
    bool whole = true; /* whole heads went, or sizes */
    const int64_t total = (int64_t)keep_of(s, n->in[2], 1);
    for (int64_t i = 0; i < total; i++)
        whole = whole && s->keep[i] == s->keep[i - i % v_size];
    set(attrs, n_attrs, &(qn_attr){.name = "scale", .type = QN_ATTR_FLOAT, .v.f = qn_node_float(n, "scale", 1 / sqrt((double)size))});
    set_int(attrs, n_attrs, "heads", whole ? q / size : heads);
    set_int(attrs, n_attrs, "kv_heads", whole ? k / size : kv);
    set_int(attrs, n_attrs, "head_dim", whole ? size : q / heads);
    set_int(attrs, n_attrs, "v_head_dim", whole ? v_size : v / kv);
}

static void edit(struct slicer *s, const qn_node *n, uint32_t *in, unsigned *n_in, qn_attr *attrs, unsigned *n_attrs, int64_t *room)
{
    int64_t dims[QN_ARRAY_RANK_MAX];
    const unsigned rank = s->c->groups->rank[n->out[0]];
    if (!strcmp(n->type, "Reshape") || !strcmp(n->type, "Expand")) {
        dims_of(s, n->out[0], dims);
        in[1] = ints(s, dims, rank);
    } else if (!strcmp(n->type, "ConstantOfShape")) {
        dims_of(s, n->out[0], dims);
        in[0] = ints(s, dims, rank);
    } else if (!strcmp(n->type, "Resize") && n->n_in > 3) {
        dims_of(s, n->out[0], dims);
        in[3] = ints(s, dims, rank);
    } else if (!strcmp(n->type, "Split") && !*n->domain) {
        const int64_t axis = qn_node_int(n, "axis", 0) + (qn_node_int(n, "axis", 0) < 0 ? rank : 0);
        for (unsigned i = 0; i < n->n_out; i++)
            room[i] = new_dim(s, n->out[i], (unsigned)axis);
        in[1] = ints(s, room, n->n_out);
        *n_in = 2;
    } else if (!strcmp(n->type, "Split")) {
        for (unsigned i = 0; i < n->n_out; i++)
            room[i] = new_dim(s, n->out[i], rank - 1);
        cr_assert_eq(qn_node_int(n, "groups", 1), 1);
        set(attrs, n_attrs, &(qn_attr){.name = "sizes", .type = QN_ATTR_INTS, .v.ints = room, .n = n->n_out});
    } else if (!strcmp(n->type, "Slice")) {
        edit_slice(s, n, in);
    } else if (!strcmp(n->type, "Pad")) {
        edit_pad(s, n, in);
    } else if (!strcmp(n->type, "Gather")) {
        edit_gather(s, n, in);
    } else if (!strcmp(n->type, "Conv")) {
        set_int(attrs, n_attrs, "group", new_dim(s, n->in[0], 1) / new_dim(s, n->in[1], 1));
    } else if (!strcmp(n->type, "ConvTranspose")) {
        set_int(attrs, n_attrs, "group", new_dim(s, n->out[0], 1) / new_dim(s, n->in[1], 1));
    } else if (!strcmp(n->type, "GroupNormalization")) {
        const int64_t per = old_dim(s, n->in[0], 1) / qn_node_int(n, "num_groups", 1);
        set_int(attrs, n_attrs, "num_groups", new_dim(s, n->in[0], 1) / per);
    } else if (!strcmp(n->type, "Attention")) {
        edit_attention(s, n, attrs, n_attrs);
    }
}

static void node(struct slicer *s, const qn_node *n)
{
    uint32_t in[QT_NET_OPERANDS + 4], out[QT_NET_OPERANDS];
    const char *names[QT_NET_OPERANDS];
    qn_attr attrs[16];
    int64_t room[QT_NET_OPERANDS];
    unsigned n_in = n->n_in, n_attrs = n->n_attrs;
    cr_assert(n_in <= QT_NET_OPERANDS && n_attrs + 6 <= 16 && n->n_out <= QT_NET_OPERANDS);
    for (unsigned k = 0; k < n_in; k++)
        in[k] = n->in[k] == QN_NO_VALUE ? QN_NO_VALUE : s->value[n->in[k]];
    if (n_attrs)
        memcpy(attrs, n->attrs, n_attrs * sizeof *attrs);
    for (unsigned k = 0; k < n->n_out; k++)
        names[k] = n->out[k] == QN_NO_VALUE ? "" : s->from->values[n->out[k]].name;
    edit(s, n, in, &n_in, attrs, &n_attrs, room);
    cr_assert_eq(qn_graph_node(s->to, n->domain, n->type, n->version, n->name, in, n_in, attrs, n_attrs, names, out, n->n_out, &s->err), QN_OK,
                 "%s", s->err.text);
    for (unsigned k = 0; k < n->n_out; k++)
        if (n->out[k] != QN_NO_VALUE)
            s->value[n->out[k]] = out[k];
}

qn_graph *qt_net_sliced(const qn_cut *c)
{
    static struct slicer s;
    memset(&s, 0, sizeof s);
    s.c = c;
    s.from = c->groups->graph;
    s.value = malloc((s.from->n_values + 1) * sizeof *s.value);
    cr_assert_eq(qn_graph_new(c->env, NULL, "test", &s.to, &s.err), QN_OK);
    cr_assert_eq(qn_graph_begin_block(s.to, "all", &s.err), QN_OK);
    for (uint32_t i = 0; i < s.from->n_inputs; i++) {
        const uint32_t v = s.from->inputs[i];
        const qn_value *x = &s.from->values[v];
        cr_assert_eq(qn_graph_input(s.to, x->name, (qn_dtype)x->dtype, x->dims, x->rank, &s.value[v], &s.err), QN_OK);
    }
    for (uint32_t v = 0; v < s.from->n_values; v++) {
        const qn_value *x = &s.from->values[v];
        if (x->kind == QN_VALUE_WEIGHT)
            weight(&s, v);
        else if (x->kind == QN_VALUE_CONST)
            cr_assert_eq(qn_graph_const(s.to, x->name, (qn_dtype)x->data.dtype, x->data.dims, x->data.rank, x->data.data, &s.value[v], &s.err), QN_OK);
    }
    for (uint32_t i = 0; i < s.from->n_nodes; i++)
        node(&s, &s.from->nodes[i]);
    for (uint32_t i = 0; i < s.from->n_outputs; i++)
        cr_assert_eq(qn_graph_output(s.to, s.value[s.from->outputs[i]], &s.err), QN_OK);
    cr_assert_eq(qn_graph_seal(s.to, &s.err), QN_OK, "what is left does not fit: %s", s.err.text);
    free(s.value);
    return s.to;
}

/* ---- cutting, running, comparing ---- */

void qt_net_cut(qn_cut *c, qt_rng *r, double part, bool inexact)
{
    for (uint32_t f = 0; f < c->groups->n_families; f++) {
        const qn_family *d = &c->groups->families[f];
        if (d->reason && !inexact)
            continue;
        for (uint32_t i = 0; i < d->n_groups; i++)
            if (c->n_gone[f] + 1 < d->n_groups && (double)qt_below(r, 1000) < 1000 * part)
                qn_cut_set(c, f, i, true);
    }
}

static qn_code read_zeroed(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err)
{
    const qn_cut *c = ctx;
    cr_assert(first == 0 && (g->values[value].rank == 0 || n == (uint64_t)g->values[value].dims[0]));
    QN_TRY(qn_weight_from_source(c->env, g->source, g, value, first, n, dst, err));
    return qn_cut_touches(c, value) ? qn_cut_zero(c, value, dst, err) : QN_OK;
}

static void run(const qn_graph *g, const qn_cut *zeroed, const qn_array *feeds, qn_array *outs)
{
    union {
        const void *in;
        void *out;
    } u = {.in = zeroed};
    const qn_exec_options o = {.read = zeroed ? read_zeroed : NULL, .read_ctx = u.out};
    qn_exec *x;
    qn_err err = {0};
    qn_array made[8];
    cr_assert_eq(qn_exec_open(qt_made_env(1), g, &o, &x, &err), QN_OK);
    cr_assert_eq(qn_exec_run(x, feeds, made, &err), QN_OK, "%s", err.text);
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        outs[i] = made[i];
        outs[i].buffer = NULL;
        outs[i].data = malloc(qn_array_bytes(&made[i]) + 1);
        memcpy(outs[i].data, made[i].data, qn_array_bytes(&made[i]));
        qn_array_release(&made[i]);
    }
    qn_exec_close(x);
}

static void feed(const qn_groups *s, uint32_t i, qt_rng *r, qn_array *a)
{
    const uint32_t v = s->graph->inputs[i];
    const char *name = s->graph->values[v].name;
    qn_err err = {0};
    uint64_t n = 1;
    for (unsigned k = 0; k < s->rank[v]; k++)
        n *= (uint64_t)s->dims[v * QN_ARRAY_RANK_MAX + k];
    const bool ids = s->graph->values[v].dtype == QN_I64;
    void *p = malloc(n * 8 + 8);
    for (uint64_t k = 0; k < n; k++)
        if (!ids)
            ((float *)p)[k] = (float)qt_normal(r);
        else if (!strcmp(name, "starts"))
            ((int64_t *)p)[k] = k ? s->dims[s->graph->inputs[0] * QN_ARRAY_RANK_MAX] : 0;
        else
            ((int64_t *)p)[k] = (int64_t)qt_below(r, 5);
    cr_assert_eq(qn_array_wrap(a, ids ? QN_I64 : QN_F32, s->dims + v * QN_ARRAY_RANK_MAX, s->rank[v], p, &err), QN_OK);
}

static double largest(const qn_array *a, const qn_array *b)
{
    double most = 0;
    for (uint64_t i = 0; i < a->n; i++) {
        const double d = (double)((const float *)a->data)[i] - (b ? (double)((const float *)b->data)[i] : 0);
        most = fabs(d) <= most ? most : fabs(d); /* NaN wins */
    }
    return most;
}

qt_net_result qt_net_compare(const qn_graph *g, const qn_cut *c, qt_rng *r)
{
    qt_net_result res = {0};
    qn_array feeds[8], dense[8], zeroed[8], cut[8];
    qn_graph *sliced = qt_net_sliced(c);
    for (uint32_t i = 0; i < g->n_inputs; i++)
        feed(c->groups, i, r, &feeds[i]);
    run(g, NULL, feeds, dense);
    run(g, c, feeds, zeroed);
    run(sliced, NULL, feeds, cut);
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        cr_assert_eq(cut[i].n, dense[i].n, "output %u changed its shape", i);
        const double scale = fmax(largest(&dense[i], NULL), 1e-6);
        res.worst = fmax(res.worst, largest(&zeroed[i], &cut[i]) / fmax(scale, largest(&zeroed[i], NULL)));
        res.moved = fmax(res.moved, largest(&zeroed[i], &dense[i]) / scale);
        free(dense[i].data);
        free(zeroed[i].data);
        free(cut[i].data);
    }
    for (uint32_t i = 0; i < g->n_inputs; i++)
        free(feeds[i].data);
    for (uint32_t f = 0; f < c->groups->n_families; f++)
        res.n_cut += c->n_gone[f];
    qn_graph_close(sliced);
    return res;
}

qt_net_result qt_net_check(qt_net *n, const qn_groups_options *o, double part)
{
    qn_err err = {0};
    qn_groups *s;
    qn_cut *c;
    cr_assert_eq(qn_groups_find(qt_made_env(1), n->graph, o, &s, &err), QN_OK, "%s", err.text);
    cr_assert_eq(qn_cut_new(qt_made_env(1), s, &c, &err), QN_OK);
    qt_net_cut(c, &n->rng, part, false);
    cr_assert_eq(qn_cut_check(c, &err), QN_OK, "%s", err.text);
    const qt_net_result r = qt_net_compare(n->graph, c, &n->rng);
    cr_expect(r.worst <= 1e-5, "zeroed and sliced differ by %g after %llu groups went", r.worst, (unsigned long long)r.n_cut);
    qn_cut_free(c);
    qn_groups_free(s);
    return r;
}
