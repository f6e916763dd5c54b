/* The tape: values read several times, weights shared, what leads nowhere, nodes without a derivative, memory, failures on the way. */
#include "base/err.h"
#include "tests/support/grad_check.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/one_op.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 32, ROWS = 3 };

static qn_err err;
static const char *const names[] = {"a", "b", "c", "unused"};
static const qt_grad_in shapes[] = {{QT_NORMAL, 2, {WIDTH, WIDTH}}, {QT_NORMAL, 1, {WIDTH}}, {QT_NORMAL, 2, {WIDTH, WIDTH}}, {QT_NORMAL, 1, {2}}};

static uint32_t node(qn_graph *g, const char *type, const char *name, uint32_t a, uint32_t b)
{
    const uint32_t in[] = {a, b};
    uint32_t out;
    OK(qn_graph_node(g, "", type, 13, name, in, b == QN_NO_VALUE ? 1 : 2, NULL, 0, NULL, &out, 1, &err));
    return out;
}

struct model {
    qn_source *source;
    qn_graph *g;
    uint32_t x, w[4];
    float *data[4];
    qn_array feed;
};

static struct model begin(void)
{
    struct model m;
    qt_rng r = qt_seed(3);
    const int64_t dims[] = {ROWS, WIDTH};
    m.source = qt_grad_source(qt_made_env(1), names, shapes, 4);
    OK(qn_graph_new(qt_made_env(1), m.source, "test", &m.g, &err));
    OK(qn_graph_input(m.g, "x", QN_F32, dims, 2, &m.x, &err));
    for (unsigned i = 0; i < 4; i++) {
        OK(qn_graph_weight(m.g, names[i], &m.w[i], &err));
        m.data[i] = qt_op_random(&r, qn_value_elems(&m.g->values[m.w[i]]), 0.2, 0);
    }
    OK(qn_array_wrap(&m.feed, QN_F32, dims, 2, qt_op_random(&r, ROWS * WIDTH, 1, 0), &err));
    return m;
}

static void end(struct model *m)
{
    qn_graph_close(m->g);
    qn_source_close(m->source);
}

/* h = x·a + b; y = tanh(h·a) + h + h: `a` stands in two products, h is read three times, twice by one node. */
static void build(struct model *m)
{
    OK(qn_graph_begin_block(m->g, "first", &err));
    const uint32_t h = node(m->g, "Add", "add", node(m->g, "MatMul", "first", m->x, m->w[0]), m->w[1]);
    OK(qn_graph_begin_block(m->g, "second", &err));
    const uint32_t t = node(m->g, "Tanh", "tanh", node(m->g, "MatMul", "second", h, m->w[0]), QN_NO_VALUE);
    OK(qn_graph_begin_block(m->g, "third", &err));
    const uint32_t y = node(m->g, "Add", "sum", t, node(m->g, "Add", "twice", h, h));
    OK(qn_graph_output(m->g, node(m->g, "Sigmoid", "sigmoid", h, QN_NO_VALUE), &err));
    OK(qn_graph_output(m->g, y, &err));
    OK(qn_graph_output(m->g, h, &err));
}

Test(grad, values_and_weights_read_several_times)
{
    struct model m = begin();
    build(&m);
    OK(qn_graph_seal(m.g, &err));
    qt_grad_compare("shared", m.g, m.w, m.data, 2, &m.feed, 1e-3);
    end(&m);
}

/* The loss Σ y of output 1, and what a test wants to see. */
struct loss {
    const struct model *m;
    qn_code fail;
    bool give;
};

static qn_code loss(void *ctx, qn_pool *pool, const qn_array *outs, double *value, qn_array *d_outs, qn_err *e)
{
    const struct loss *l = ctx;
    *value = 0;
    if (l->fail != QN_OK)
        return QN_FAIL(e, l->fail, QN_NO_OFFSET, "the loss does not like it");
    if (!l->give)
        return QN_OK;
    QN_TRY(qn_array_new(pool, &d_outs[1], QN_F32, outs[1].dims, outs[1].rank, e));
    for (uint64_t i = 0; i < outs[1].n; i++) {
        *value += (double)((const float *)outs[1].data)[i];
        ((float *)d_outs[1].data)[i] = 1;
    }
    return QN_OK;
}

static qn_code read_weight(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *e)
{
    const struct loss *l = ctx;
    (void)e;
    for (unsigned i = 0; i < 4; i++)
        if (l->m->w[i] == value)
            memcpy(dst, l->m->data[i] + first * (g->values[value].rank > 1 ? WIDTH : 1), n * (g->values[value].rank > 1 ? WIDTH : 1) * sizeof(float));
    return QN_OK;
}

static qn_code run(struct model *m, struct loss *l, uint64_t memory_bytes, float *d, double *value)
{
    qn_grad *t;
    qn_array feed;
    const qn_grad_options o = {.read = read_weight, .read_ctx = l, .weights = m->w, .n_weights = 2, .memory_bytes = memory_bytes};
    l->m = m;
    QN_TRY(qn_grad_open(qt_made_env(1), m->g, &o, &t, &err));
    const uint64_t before = atomic_load(&qn_exec_pool(qn_grad_exec(t))->held_bytes);
    qn_array_share(&m->feed, &feed);
    const qn_code rc = qn_grad_run(t, &feed, loss, l, value, &err);
    cr_assert_eq(feed.dtype, QN_BYTES, "the feed is released");
    memcpy(d, qn_grad_of(t, 0), WIDTH * WIDTH * sizeof(float));
    if (memory_bytes)
        cr_assert_eq(atomic_load(&qn_exec_pool(qn_grad_exec(t))->held_bytes), before, "nothing is kept, weights neither");
    qn_grad_close(t);
    return rc;
}

Test(grad, weights_that_do_not_stay_in_memory)
{
    struct model m = begin();
    struct loss l = {.give = true};
    float d[WIDTH * WIDTH], tight[WIDTH * WIDTH];
    double value, again;
    build(&m);
    OK(qn_graph_seal(m.g, &err));
    OK(run(&m, &l, 0, d, &value));
    uint64_t least = 64;
    for (; run(&m, &l, least, tight, &again) != QN_OK && least < 65536; least += 64) { /* from some limit on it runs; below it an error */
        cr_assert_eq(err.code, QN_E_MEMORY, "%s", err.text);
        qn_err_clear(&err);
    }
    cr_assert_lt(least, 2 * 4 * (2 * WIDTH * WIDTH + 2 + WIDTH), "weights are dropped: less than twice their size is enough, and not %llu",
                 (unsigned long long)least);
    cr_assert_eq(value, again);
    cr_assert(!memcmp(d, tight, sizeof d));
    end(&m);
}

Test(grad, no_derivative_is_zero)
{
    struct model m = begin();
    struct loss l = {.give = false};
    float d[WIDTH * WIDTH];
    double value;
    build(&m);
    OK(qn_graph_seal(m.g, &err));
    OK(run(&m, &l, 0, d, &value));
    for (unsigned i = 0; i < WIDTH * WIDTH; i++)
        cr_assert_eq(d[i], 0);
    l.fail = QN_E_INPUT;
    cr_assert_eq(run(&m, &l, 0, d, &value), QN_E_INPUT);
    cr_assert_str_eq(err.text, "the loss does not like it");
    end(&m);
}

/* y = floor(x·a) + x·c: c has a way, a has none. */
Test(grad, node_without_a_row_is_named)
{
    struct model m = begin();
    qn_grad *t;
    const uint32_t y = node(m.g, "Floor", "the floor", node(m.g, "MatMul", "first", m.x, m.w[0]), QN_NO_VALUE);
    OK(qn_graph_output(m.g, node(m.g, "Add", "sum", y, node(m.g, "MatMul", "second", m.x, m.w[2])), &err));
    OK(qn_graph_seal(m.g, &err));
    cr_assert_eq(qn_grad_open(qt_made_env(1), m.g, &(qn_grad_options){.weights = m.w, .n_weights = 1}, &t, &err), QN_E_UNSUPPORTED);
    cr_assert_str_eq(err.text, "'a' cannot be trained: node 'the floor' (Floor) on its way to the outputs has no derivative");
    qn_err_clear(&err);
    OK(qn_grad_open(qt_made_env(1), m.g, &(qn_grad_options){.weights = &m.w[2], .n_weights = 1}, &t, &err));
    qn_grad_close(t);
    /* a weight that nothing reads: 0 */
    OK(qn_grad_open(qt_made_env(1), m.g, &(qn_grad_options){.weights = &m.w[3], .n_weights = 1}, &t, &err));
    cr_assert_eq(qn_grad_of(t, 0)[1], 0);
    qn_grad_close(t);
    /* no weight at all */
    cr_assert_eq(qn_grad_open(qt_made_env(1), m.g, &(qn_grad_options){.weights = &m.x, .n_weights = 1}, &t, &err), QN_E_UNSUPPORTED);
    end(&m);
}

/* A weight behind integers only. */
Test(grad, integers_have_no_derivative)
{
    struct model m = begin();
    qn_grad *t;
    OK(qn_graph_output(m.g, node(m.g, "ArgMax", "best", node(m.g, "MatMul", "first", m.x, m.w[0]), QN_NO_VALUE), &err));
    OK(qn_graph_seal(m.g, &err));
    cr_assert_eq(qn_grad_open(qt_made_env(1), m.g, &(qn_grad_options){.weights = m.w, .n_weights = 1}, &t, &err), QN_E_UNSUPPORTED);
    cr_assert_not_null(strstr(err.text, "node 'best' (ArgMax)"), "%s", err.text);
    end(&m);
}

/* Every request for memory fails once: an error, and nothing is lost (the sanitizers look). */
Test(grad, memory_that_is_short)
{
    struct model m = begin();
    build(&m);
    OK(qn_graph_seal(m.g, &err));
    for (uint64_t nth = 1; nth < 400; nth++) {
        qn_grad *t = NULL;
        qn_array feed;
        struct loss l = {.m = &m, .give = true};
        double value;
        const qn_env *env = qt_made_env_short(nth);
        const qn_grad_options o = {.read = read_weight, .read_ctx = &l, .weights = m.w, .n_weights = 2};
        qn_err_clear(&err);
        qn_code rc = qn_grad_open(env, m.g, &o, &t, &err);
        qn_array_share(&m.feed, &feed);
        if (rc == QN_OK)
            rc = qn_grad_run(t, &feed, loss, &l, &value, &err);
        const bool failed = qt_made_memory_failed();
        qn_grad_close(rc == QN_OK || t ? t : NULL);
        cr_assert_eq(rc, failed ? QN_E_MEMORY : QN_OK, "request %llu: %s", (unsigned long long)nth, err.text);
        if (!failed)
            return;
    }
    cr_assert(false, "so many requests");
}
