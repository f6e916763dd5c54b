/* classifier.c: see classifier.h. */
#include "tests/support/classifier.h"
#include "analysis/graph/graph.h"
#include "tests/support/onnx_op.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { IN = 6, OUT = 4 };

static qn_code feed(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err)
{
    const qt_classifier *m = ctx;
    const int64_t dims[2] = {m->rows, IN};
    const qn_code rc = qn_array_new(m->pool, inputs, QN_F32, dims, 2, err);
    if (rc == QN_OK)
        memcpy(inputs->data, m->x + batch * m->rows * IN, qn_array_bytes(inputs));
    return rc;
}

static const float *normal(qt_rng *r, uint64_t n, double sigma)
{
    float *p = qt_made_keep(malloc((n + 1) * sizeof *p));
    for (uint64_t i = 0; i < n; i++)
        p[i] = (float)(sigma * qt_normal(r));
    return p;
}

void qt_classifier_open(qt_classifier *m, const qn_env *env, unsigned hidden, unsigned rows, unsigned n_batches, bool fixed)
{
    qt_rng r = qt_seed(11);
    qn_err err = {0};
    const unsigned h = hidden;
    const qt_made_tensor t[] = {
        {"a.weight", QN_F32, 2, {h, IN}, normal(&r, (uint64_t)h * IN, 0.6)}, {"a.bias", QN_F32, 1, {h}, normal(&r, h, 0.3)},
        {"b.weight", QN_F32, 2, {h, h}, normal(&r, (uint64_t)h * h, 0.4)},   {"b.bias", QN_F32, 1, {h}, normal(&r, h, 0.3)},
        {"c.weight", QN_F32, 2, {OUT, h}, normal(&r, (uint64_t)OUT * h, 0.8)}, {"c.bias", QN_F32, 1, {OUT}, normal(&r, OUT, 0.3)}};
    *m = (qt_classifier){.env = env, .rows = rows};
    m->x = normal(&r, (uint64_t)n_batches * rows * IN, 1);
    m->source = qt_made_open(env, qt_made_safetensors("mlp.safetensors", t, 6, NULL));
    const int64_t x_dims[2] = {fixed ? (int64_t)rows : QN_DIM_UNKNOWN, IN};
    const qn_attr attrs[] = {QT_I("transB", 1)};
    uint32_t v[3], y;
    qn_graph *g;
    cr_assert_eq(qn_graph_new(env, m->source, "test", &g, &err), QN_OK);
    cr_assert_eq(qn_graph_input(g, "x", QN_F32, x_dims, 2, &y, &err), QN_OK);
    if (fixed) {
        const int64_t shape[2] = {rows, IN}, n[1] = {2};
        uint32_t in[2] = {y};
        cr_assert_eq(qn_graph_const(g, "shape", QN_I64, n, 1, shape, &in[1], &err), QN_OK);
        cr_assert_eq(qn_graph_node(g, "", "Reshape", 13, "reshape", in, 2, NULL, 0, NULL, &y, 1, &err), QN_OK);
    }
    for (unsigned l = 0; l < 3; l++) {
        v[0] = y;
        cr_assert_eq(qn_graph_weight(g, t[2 * l].name, &v[1], &err), QN_OK);
        cr_assert_eq(qn_graph_weight(g, t[2 * l + 1].name, &v[2], &err), QN_OK);
        cr_assert_eq(qn_graph_node(g, "", "Gemm", 13, l == 0 ? "gemm.a" : l == 1 ? "gemm.b" : "gemm.c", v, 3, attrs, 1, NULL, &y, 1, &err), QN_OK);
        if (l < 2) {
            v[0] = y;
            cr_assert_eq(qn_graph_node(g, "", "Relu", 14, l ? "relu.b" : "relu.a", v, 1, NULL, 0, NULL, &y, 1, &err), QN_OK);
        }
    }
    cr_assert_eq(qn_graph_output(g, y, &err), QN_OK);
    cr_assert_eq(qn_graph_seal(g, &err), QN_OK, "%s", err.text);
    m->graph = g;
    m->feed = (qn_calibrate_feed){.n_batches = n_batches, .n_tokens = (uint64_t)n_batches * rows, .feed = feed, .ctx = m, .pool = &m->pool};
}

void qt_classifier_close(qt_classifier *m)
{
    qn_graph_close(m->graph);
    qn_source_close(m->source);
}

uint32_t qt_classifier_weight(const qt_classifier *m, const char *name)
{
    const uint32_t v = qn_graph_find(m->graph, name);
    cr_assert_neq(v, QN_NO_VALUE);
    return v;
}
