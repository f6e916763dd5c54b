/* test_random.c: random networks: whatever groups are found, the network without some of them must compute what it computes with zeros in their place.
 * A tie that is wrong must not pass unseen: one that is broken on purpose is. And a large graph must be fast. */
#include "tests/support/net_made.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TENSORS = 64 };

struct tensor {
    char name[24];
    unsigned rank;
    int64_t dims[4];
    bool used;
};

struct maker {
    qt_net *n;
    qt_rng *r;
    struct tensor t[TENSORS];
    unsigned n_t, n_names;
};

static uint64_t below(struct maker *m, uint64_t n)
{
    return qt_below(m->r, n);
}

static const char *fresh(struct maker *m, const char *what)
{
    static char name[8][24];
    static unsigned at;
    char *p = name[at++ % 8];
    snprintf(p, 24, "%s%u", what, m->n_names++);
    return p;
}

static const char *weight(struct maker *m, const char *what, unsigned rank, int64_t a, int64_t b, int64_t c, int64_t d)
{
    const char *name = fresh(m, what);
    qt_net_weight_dims(m->n, name, rank, (const int64_t[]){a, b, c, d});
    return name;
}

static const char *ints(struct maker *m, unsigned count, const int64_t *v)
{
    const char *name = fresh(m, "i");
    qt_net_ints(m->n, name, count, v);
    return name;
}

static struct tensor *result(struct maker *m, const char *name, unsigned rank, const int64_t *dims)
{
    if (m->n_t == TENSORS)
        return NULL;
    struct tensor *t = &m->t[m->n_t++];
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s", name);
    t->rank = rank;
    for (unsigned i = 0; i < rank; i++)
        t->dims[i] = dims[i];
    return t;
}

static void op(struct maker *m, const char *type, const char *in, const char *out, const qn_attr *attrs, unsigned n_attrs, unsigned rank,
               const int64_t *dims)
{
    qt_net_op(m->n, type, in, out, attrs, n_attrs);
    if (rank)
        result(m, out, rank, dims);
}

/* A tensor of that rank; NULL when there is none. */
static struct tensor *any(struct maker *m, unsigned rank)
{
    unsigned n = 0, k;
    for (unsigned i = 0; i < m->n_t; i++)
        n += m->t[i].rank == rank;
    if (!n)
        return NULL;
    k = (unsigned)below(m, n);
    for (unsigned i = 0; i < m->n_t; i++)
        if (m->t[i].rank == rank && k-- == 0) {
            m->t[i].used = true;
            return &m->t[i];
        }
    return NULL;
}

/* Another of the same shape. */
static struct tensor *like(struct maker *m, const struct tensor *x)
{
    for (unsigned tries = 0; tries < 20; tries++) {
        struct tensor *t = &m->t[below(m, m->n_t)];
        if (t != x && t->rank == x->rank && !memcmp(t->dims, x->dims, sizeof t->dims)) {
            t->used = true;
            return t;
        }
    }
    return NULL;
}

static const char *pair(const char *a, const char *b)
{
    static char text[128];
    snprintf(text, sizeof text, "%s %s", a, b);
    return text;
}

static const char *three(const char *a, const char *b, const char *c)
{
    static char text[128];
    snprintf(text, sizeof text, "%s %s %s", a, b, c);
    return text;
}

static void conv(struct maker *m, const struct tensor *x)
{
    int64_t out = 2 + (int64_t)below(m, 7), group = 1, d[4] = {x->dims[0], 0, x->dims[2], x->dims[3]};
    const int64_t k = below(m, 2) ? 3 : 1;
    switch (m->n_t < 2 ? 3 : below(m, 4)) { /* what reads the input has its own channels */
    case 0: /* depthwise, maybe with a multiplier */
        group = x->dims[1];
        out = group * (1 + (int64_t)below(m, 2));
        break;
    case 1:
        for (group = 2; group < x->dims[1] && x->dims[1] % group; group++)
            ;
        out = group * (1 + (int64_t)below(m, 3));
        break;
    default: break;
    }
    if (x->dims[1] % group)
        return;
    const char *w = weight(m, "w", 4, out, x->dims[1] / group, k, k), *b = weight(m, "b", 1, out, 0, 0, 0);
    d[1] = out;
    const qn_attr a[] = {QT_I("group", group), QT_INTS("pads", k / 2, k / 2, k / 2, k / 2)};
    op(m, "Conv", below(m, 2) ? three(x->name, w, b) : pair(x->name, w), fresh(m, "conv"), a, 2, 4, d);
}

static void batch_norm(struct maker *m, const struct tensor *x)
{
    char in[160];
    snprintf(in, sizeof in, "%s %s %s %s ", x->name, weight(m, "s", 1, x->dims[1], 0, 0, 0), weight(m, "b", 1, x->dims[1], 0, 0, 0),
             weight(m, "mean", 1, x->dims[1], 0, 0, 0));
    snprintf(in + strlen(in), sizeof in - strlen(in), "%s", weight(m, "var", 1, x->dims[1], 0, 0, 0));
    op(m, "BatchNormalization", in, fresh(m, "bn"), NULL, 0, 4, x->dims);
}

static void unary(struct maker *m, const struct tensor *x)
{
    static const char *const types[] = {"Relu", "Tanh", "Sigmoid", "HardSwish", "Exp", "Neg", "Abs", "LeakyRelu", "Identity"};
    op(m, types[below(m, 9)], x->name, fresh(m, "u"), NULL, 0, x->rank, x->dims);
}

static void binary(struct maker *m, const struct tensor *x)
{
    static const char *const types[] = {"Add", "Sub", "Mul", "Max"};
    const struct tensor *y = like(m, x);
    if (y)
        op(m, types[below(m, 4)], pair(x->name, y->name), fresh(m, "o"), NULL, 0, x->rank, x->dims);
}

static void concat(struct maker *m, const struct tensor *x)
{
    const struct tensor *y = any(m, x->rank);
    int64_t d[4];
    memcpy(d, x->dims, sizeof d);
    for (unsigned k = 0; k < x->rank; k++)
        if (k != 1 && y->dims[k] != x->dims[k])
            return;
    d[1] += y->dims[1];
    const qn_attr a[] = {QT_I("axis", below(m, 2) ? 1 : 1 - (int64_t)x->rank)};
    if (d[1] <= 24)
        op(m, "Concat", pair(x->name, y->name), fresh(m, "cat"), a, 1, x->rank, d);
}

static void split(struct maker *m, const struct tensor *x)
{
    if (x->dims[1] < 4)
        return;
    int64_t d[2][4];
    memcpy(d[0], x->dims, sizeof d[0]);
    memcpy(d[1], x->dims, sizeof d[1]);
    d[0][1] = 1 + (int64_t)below(m, (uint64_t)x->dims[1] - 2);
    d[1][1] = x->dims[1] - d[0][1];
    const char *sizes = ints(m, 2, (const int64_t[]){d[0][1], d[1][1]});
    char a[24], b[24];
    snprintf(a, sizeof a, "%s", fresh(m, "sp"));
    snprintf(b, sizeof b, "%s", fresh(m, "sp"));
    const qn_attr attr[] = {QT_I("axis", 1)};
    char in[64], out[64];
    snprintf(in, sizeof in, "%s %s", x->name, sizes);
    snprintf(out, sizeof out, "%s %s", a, b);
    const unsigned rank = x->rank;
    qt_net_op(m->n, "Split", in, out, attr, 1);
    result(m, a, rank, d[0]);
    result(m, b, rank, d[1]);
}

static void slice(struct maker *m, const struct tensor *x)
{
    if (x->dims[1] < 3)
        return;
    int64_t d[4], from = (int64_t)below(m, 2), to = x->dims[1] - (int64_t)below(m, 2);
    memcpy(d, x->dims, sizeof d);
    d[1] = to - from;
    char in[128];
    snprintf(in, sizeof in, "%s %s", x->name, ints(m, 1, &from));
    snprintf(in + strlen(in), sizeof in - strlen(in), " %s", ints(m, 1, &to));
    snprintf(in + strlen(in), sizeof in - strlen(in), " %s", ints(m, 1, (const int64_t[]){1}));
    op(m, "Slice", in, fresh(m, "sl"), NULL, 0, x->rank, d);
}

static void pad(struct maker *m, const struct tensor *x)
{
    int64_t d[4], pads[8] = {0};
    memcpy(d, x->dims, sizeof d);
    pads[1] = (int64_t)below(m, 3);
    pads[1 + x->rank] = (int64_t)below(m, 3);
    d[1] += pads[1] + pads[1 + x->rank];
    op(m, "Pad", pair(x->name, ints(m, 2 * x->rank, pads)), fresh(m, "pad"), NULL, 0, x->rank, d);
}

static void pick(struct maker *m, const struct tensor *x)
{
    int64_t d[4], index[6];
    memcpy(d, x->dims, sizeof d);
    d[1] = 2 + (int64_t)below(m, 4);
    for (int64_t i = 0; i < d[1]; i++)
        index[i] = (int64_t)below(m, (uint64_t)x->dims[1]) - (below(m, 4) ? 0 : x->dims[1]);
    const qn_attr a[] = {QT_I("axis", 1)};
    op(m, "Gather", pair(x->name, ints(m, (unsigned)d[1], index)), fresh(m, "ga"), a, 1, x->rank, d);
}

static void pool(struct maker *m, const struct tensor *x)
{
    const qn_attr a[] = {QT_INTS("kernel_shape", 3, 3), QT_INTS("pads", 1, 1, 1, 1)};
    op(m, below(m, 2) ? "MaxPool" : "AveragePool", x->name, fresh(m, "pool"), a, 2, 4, x->dims);
}

/* Channels in g parts, shuffled, and back; or with the parts summed over. */
static void shuffle(struct maker *m, const struct tensor *x)
{
    int64_t g = 2;
    while (g < x->dims[1] && x->dims[1] % g)
        g++;
    if (g >= x->dims[1])
        return;
    const int64_t five[5] = {x->dims[0], g, x->dims[1] / g, x->dims[2], x->dims[3]};
    int64_t four[4];
    memcpy(four, x->dims, sizeof four);
    char a[24], b[24];
    snprintf(a, sizeof a, "%s", fresh(m, "r"));
    snprintf(b, sizeof b, "%s", fresh(m, "t"));
    op(m, "Reshape", pair(x->name, ints(m, 5, five)), a, NULL, 0, 0, NULL);
    if (below(m, 3)) {
        const qn_attr perm[] = {QT_INTS("perm", 0, 2, 1, 3, 4)};
        op(m, "Transpose", a, b, perm, 1, 0, NULL);
        op(m, "Reshape", pair(b, ints(m, 4, four)), fresh(m, "r"), NULL, 0, 4, four);
    } else {
        four[1] /= g;
        const qn_attr keep[] = {QT_I("keepdims", 0)};
        op(m, "ReduceSum", pair(a, ints(m, 1, (const int64_t[]){1})), fresh(m, "sum"), keep, 1, 4, four);
    }
}

/* (n, c, h, w) → (n, c · h · w) or (n, c), or (n, c, h · w). */
static void flatten(struct maker *m, const struct tensor *x)
{
    if (below(m, 3) == 0) {
        const int64_t d[3] = {x->dims[0], x->dims[1], x->dims[2] * x->dims[3]};
        op(m, "Reshape", pair(x->name, ints(m, 3, (const int64_t[]){0, 0, -1})), fresh(m, "r"), NULL, 0, 3, d);
    } else {
        const int64_t d[2] = {x->dims[0], x->dims[1] * x->dims[2] * x->dims[3]};
        op(m, "Flatten", x->name, fresh(m, "fl"), NULL, 0, 2, d);
    }
}

static void linear(struct maker *m, const struct tensor *x)
{
    const int64_t in = x->dims[x->rank - 1], out = 2 + (int64_t)below(m, 9);
    int64_t d[4];
    memcpy(d, x->dims, sizeof d);
    d[x->rank - 1] = out;
    if (x->rank == 2 && below(m, 2)) {
        const bool t = below(m, 2);
        const qn_attr a[] = {QT_I("transB", t)};
        char in_names[96];
        snprintf(in_names, sizeof in_names, "%s %s", x->name, weight(m, "w", 2, t ? out : in, t ? in : out, 0, 0));
        snprintf(in_names + strlen(in_names), sizeof in_names - strlen(in_names), " %s", weight(m, "b", 1, out, 0, 0, 0));
        op(m, "Gemm", in_names, fresh(m, "gemm"), a, 1, 2, d);
    } else {
        char name[24];
        snprintf(name, sizeof name, "%s", fresh(m, "mm"));
        op(m, "MatMul", pair(x->name, weight(m, "w", 2, in, out, 0, 0)), name, NULL, 0, 0, NULL);
        op(m, "Add", pair(name, weight(m, "b", 1, out, 0, 0, 0)), fresh(m, "a"), NULL, 0, x->rank, d);
    }
}

static void turn(struct maker *m, const struct tensor *x)
{
    const int64_t d[3] = {x->dims[0], x->dims[2], x->dims[1]};
    const qn_attr perm[] = {QT_INTS("perm", 0, 2, 1)};
    op(m, "Transpose", x->name, fresh(m, "t"), perm, 1, 3, d);
}

/* x · yᵀ of two activations. */
static void product(struct maker *m, const struct tensor *x)
{
    const struct tensor *y = like(m, x);
    if (!y)
        return;
    const int64_t d[3] = {x->dims[0], x->dims[1], x->dims[1]};
    char name[24];
    const qn_attr perm[] = {QT_INTS("perm", 0, 2, 1)};
    snprintf(name, sizeof name, "%s", fresh(m, "t"));
    op(m, "Transpose", y->name, name, perm, 1, 0, NULL);
    op(m, "MatMul", pair(x->name, name), fresh(m, "mm"), NULL, 0, 3, d);
}

static void step(struct maker *m)
{
    void (*const of4[])(struct maker *, const struct tensor *) = {conv, conv, conv, conv, batch_norm, unary, unary, binary, binary, concat, concat,
                                                                  split, slice, pad, pick, pool, shuffle, shuffle, flatten};
    void (*const of3[])(struct maker *, const struct tensor *) = {linear, linear, turn, unary, binary, product, split, concat};
    void (*const of2[])(struct maker *, const struct tensor *) = {linear, linear, unary, binary, concat, split, slice, pad};
    const uint64_t rank = below(m, 10);
    struct tensor *x = any(m, rank < 6 ? 4 : rank < 8 ? 3 : 2);
    if (!x)
        return;
    const struct tensor copy = *x; /* the list grows */
    if (copy.rank == 4)
        of4[below(m, sizeof of4 / sizeof of4[0])](m, &copy);
    else if (copy.rank == 3)
        of3[below(m, sizeof of3 / sizeof of3[0])](m, &copy);
    else
        of2[below(m, sizeof of2 / sizeof of2[0])](m, &copy);
}

/* What nobody has read goes through a last layer, so that outputs freeze little. */
static void end(struct maker *m)
{
    char sum[24] = "";
    for (unsigned i = 0, n = m->n_t; i < n; i++) {
        const struct tensor t = m->t[i];
        if (t.used)
            continue;
        char flat[24], y[24];
        snprintf(flat, sizeof flat, "%s", t.name);
        int64_t width = t.dims[1];
        if (t.rank > 2) {
            snprintf(flat, sizeof flat, "%s", fresh(m, "end"));
            qt_net_op(m->n, "Flatten", t.name, flat, NULL, 0);
            width *= t.dims[2] * (t.rank > 3 ? t.dims[3] : 1);
        }
        snprintf(y, sizeof y, "%s", fresh(m, "last"));
        qt_net_op(m->n, "MatMul", pair(flat, weight(m, "w", 2, width, 3, 0, 0)), y, NULL, 0);
        if (*sum) {
            const char *s = fresh(m, "total");
            qt_net_op(m->n, "Add", pair(sum, y), s, NULL, 0);
            snprintf(sum, sizeof sum, "%s", s);
        } else {
            snprintf(sum, sizeof sum, "%s", y);
        }
    }
    qt_net_output(m->n, sum);
}

static qt_net *make(uint64_t seed, unsigned n_steps)
{
    static struct maker m;
    memset(&m, 0, sizeof m);
    m.n = qt_net_new(seed);
    m.r = &m.n->rng;
    qt_net_input(m.n, "x", 4, 2, 3, 4, 4);
    while (m.n_t < 2) /* nothing else reads the input: its channels stay */
        conv(&m, &(struct tensor){.name = "x", .rank = 4, .dims = {2, 3, 4, 4}});
    for (unsigned i = 0; i < n_steps && m.n_t + 3 < TENSORS; i++)
        step(&m);
    end(&m);
    qt_net_graph(m.n);
    return m.n;
}

enum { NETS = 150 };

Test(groups_random, zeroed_is_sliced)
{
    uint64_t n_cut = 0, n_free = 0, n_channels = 0, n_runs = 0, n_moved = 0;
    for (uint64_t seed = 0; seed < NETS; seed++) {
        qt_net *n = make(1000 + seed, 12 + (unsigned)(seed % 30));
        qn_err err = {0};
        qn_groups *s;
        cr_assert_eq(qn_groups_find(qt_made_env(1), n->graph, NULL, &s, &err), QN_OK, "%s", err.text);
        n_free += s->n_free;
        n_channels += s->n_channels - s->n_outputs;
        qn_groups_free(s);
        const double part[3] = {0.3, 0.6, 0.9};
        for (unsigned k = 0; k < 3; k++) {
            const qt_net_result r = qt_net_check(n, NULL, part[k]);
            cr_assert(r.worst <= 1e-5, "network %llu", (unsigned long long)seed);
            n_cut += r.n_cut;
            n_runs += r.n_cut > 0;
            n_moved += r.n_cut && r.moved > 1e-3;
        }
        qt_net_free(n);
    }
    cr_expect_gt(n_cut, 20u * NETS);
    cr_expect(n_moved * 10 >= n_runs * 9, "%llu of %llu cuts moved anything", (unsigned long long)n_moved, (unsigned long long)n_runs);
    /* A rule that freezes without need shows here. */
    cr_expect(n_free * 100 >= n_channels * 85, "only %llu of %llu channels can be cut", (unsigned long long)n_free, (unsigned long long)n_channels);
}

/* One member's indices of two groups are exchanged, of which one goes: sizes fit, numbers do not. */
Test(groups_random, a_broken_tie_is_seen)
{
    unsigned n_tried = 0, n_seen = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        qt_net *n = make(1000 + seed, 14);
        qn_err err = {0};
        qn_groups *s;
        qn_cut *c;
        cr_assert_eq(qn_groups_find(qt_made_env(1), n->graph, NULL, &s, &err), QN_OK);
        for (uint32_t f = 0; f < s->n_families; f++) {
            const qn_family *d = &s->families[f];
            if (d->n_groups < 2 || !d->n_consumers)
                continue;
            const qn_member *m = &d->members[d->consumers[0].member];
            union {
                const uint32_t *in;
                uint32_t *out;
            } u = {.in = m->index};
            const uint32_t other = m->start[1];
            const uint32_t t = u.out[0];
            u.out[0] = u.out[other];
            u.out[other] = t;
            cr_assert_eq(qn_cut_new(qt_made_env(1), s, &c, &err), QN_OK);
            qn_cut_set(c, f, 0, true);
            n_tried++;
            n_seen += qt_net_compare(n->graph, c, &n->rng).worst <= 1e-5 ? 0u : 1u;
            qn_cut_free(c);
            u.out[other] = u.out[0];
            u.out[0] = t;
        }
        qn_groups_free(s);
        qt_net_free(n);
    }
    cr_expect_gt(n_tried, 40u);
    /* Units that are dead, or whose effect a later ReLU hides, show no difference. */
    cr_expect(n_seen * 10 >= n_tried * 8, "%u of %u broken ties were seen", n_seen, n_tried);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* 1000 nodes, 128 channels: within a second. */
Test(groups_random, a_thousand_nodes)
{
    qn_err err = {0};
    qn_graph *g;
    uint32_t x, w, b, h;
    float *data = calloc(128 * 128, sizeof *data);
    const int64_t xd[4] = {1, 128, 14, 14};
    cr_assert_eq(qn_graph_new(qt_made_env(1), qt_made_open(qt_made_env(1), qt_made_safetensors("big.safetensors", (qt_made_tensor[]){
                     {.name = "w", .dtype = QN_F32, .rank = 4, .dims = {128, 128, 1, 1}, .data = data},
                     {.name = "b", .dtype = QN_F32, .rank = 1, .dims = {128}, .data = data}}, 2, NULL)), "test", &g, &err), QN_OK);
    cr_assert_eq(qn_graph_begin_block(g, "all", &err), QN_OK);
    cr_assert_eq(qn_graph_input(g, "x", QN_F32, xd, 4, &x, &err), QN_OK);
    cr_assert_eq(qn_graph_weight(g, "w", &w, &err), QN_OK);
    cr_assert_eq(qn_graph_weight(g, "b", &b, &err), QN_OK);
    for (unsigned i = 0; i < 500; i++) {
        char name[32];
        snprintf(name, sizeof name, "c%u", i);
        const uint32_t in[3] = {x, w, b};
        cr_assert_eq(qn_graph_node(g, "", "Conv", 17, name, in, 3, NULL, 0, NULL, &h, 1, &err), QN_OK);
        snprintf(name, sizeof name, "a%u", i);
        const uint32_t two[2] = {h, x};
        cr_assert_eq(qn_graph_node(g, "", "Add", 17, name, two, 2, NULL, 0, NULL, &x, 1, &err), QN_OK);
    }
    cr_assert_eq(qn_graph_output(g, x, &err), QN_OK);
    cr_assert_eq(qn_graph_seal(g, &err), QN_OK, "%s", err.text);
    const double t = now();
    qn_groups *s;
    cr_assert_eq(qn_groups_find(qt_made_env(1), g, NULL, &s, &err), QN_OK, "%s", err.text);
    fprintf(stderr, "# 1000 nodes: %.3f s\n", now() - t);
    cr_expect_lt(now() - t, 1.0);
    qn_groups_free(s);
    qn_source *source = g->source;
    qn_graph_close(g);
    qn_source_close(source);
    free(data);
}
