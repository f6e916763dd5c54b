/* chain.c: see chain.h. */
#include "tests/compress/prune/chain.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qn_err err;

static qn_code feed(void *ctx, uint64_t batch, qn_array *in, qn_err *e)
{
    qt_chain *m = ctx;
    const int64_t dims[2] = {QT_MLP_ROWS, QT_MLP_IN};
    qt_rng r = qt_seed(1000 + batch);
    QN_TRY(qn_array_new(m->pool, &in[0], QN_F32, dims, 2, e));
    for (unsigned i = 0; i < QT_MLP_ROWS * QT_MLP_IN; i++)
        ((float *)in[0].data)[i] = (float)qt_normal(&r);
    return QN_OK;
}

static const char *name(const char *what, uint32_t layer)
{
    char *s = qt_made_keep(malloc(16));
    snprintf(s, 16, "%s%u", what, layer);
    return s;
}

static void make_source(qt_chain *m, const uint32_t *live, uint64_t seed)
{
    qt_made_tensor t[2 * (QT_MLP_LAYERS_MAX + 1)];
    qt_rng r = qt_seed(seed);
    uint32_t in = QT_MLP_IN;
    for (uint32_t i = 0; i <= m->n_layers; i++) {
        const uint32_t out = i < m->n_layers ? m->width[i] : QT_MLP_OUT;
        float *w = qt_made_keep(malloc(((size_t)in * out + out) * sizeof *w)), *b = w + (size_t)in * out;
        for (uint32_t k = 0; k < out; k++) {
            const double scale = i < m->n_layers && live && k >= live[i] ? 0.02 : 1;
            for (uint32_t j = 0; j < in; j++)
                w[(size_t)k * in + j] = (float)(scale * qt_normal(&r) / sqrt((double)in));
            b[k] = (float)(0.1 * scale * qt_normal(&r));
        }
        t[2 * i] = (qt_made_tensor){.name = name("w", i), .dtype = QN_F32, .rank = 2, .dims = {out, in}, .data = w};
        t[2 * i + 1] = (qt_made_tensor){.name = name("b", i), .dtype = QN_F32, .rank = 1, .dims = {out}, .data = b};
        in = out;
    }
    m->src = qt_made_open(m->env, qt_made_safetensors(name("mlp", (uint32_t)(seed % 1000)), t, 2 * (m->n_layers + 1), NULL));
}

static void make_graph(qt_chain *m, uint32_t value[][4])
{
    const int64_t dims[2] = {QT_MLP_ROWS, QT_MLP_IN};
    uint32_t x;
    OK(qn_graph_new(m->env, m->src, "test", &m->graph, &err));
    OK(qn_graph_input(m->graph, "x", QN_F32, dims, 2, &x, &err));
    for (uint32_t i = 0; i <= m->n_layers; i++) {
        uint32_t in[3] = {x};
        OK(qn_graph_begin_block(m->graph, name("block", i), &err));
        OK(qn_graph_weight(m->graph, name("w", i), &in[1], &err));
        OK(qn_graph_weight(m->graph, name("b", i), &in[2], &err));
        OK(qn_graph_node(m->graph, "quern", "Linear", 0, name("linear", i), in, 3, NULL, 0, NULL, &x, 1, &err));
        value[i][0] = in[1];
        value[i][1] = in[2];
        value[i][2] = value[i][3] = x;
        if (i < m->n_layers) {
            OK(qn_graph_node(m->graph, "", "Relu", 14, name("relu", i), &x, 1, NULL, 0, NULL, &x, 1, &err));
            value[i][3] = x;
        }
    }
    OK(qn_graph_output(m->graph, x, &err));
    OK(qn_graph_seal(m->graph, &err));
}

static void *keep_zeros(size_t n, size_t size)
{
    void *p = calloc(n, size);
    cr_assert_not_null(p);
    return qt_made_keep(p);
}

static void make_groups(qt_chain *m, uint32_t value[][4])
{
    qn_groups *s = &m->groups;
    const qn_graph *g = m->graph;
    int64_t *dims = keep_zeros((size_t)g->n_values * QN_ARRAY_RANK_MAX, sizeof *dims);
    uint8_t *rank = keep_zeros(g->n_values, 1);
    *s = (qn_groups){.graph = g, .n_families = m->n_layers, .dims = dims, .rank = rank};
    s->varies = keep_zeros((size_t)g->n_values * QN_ARRAY_RANK_MAX, sizeof *s->varies);
    s->families = keep_zeros(m->n_layers, sizeof *s->families);
    for (uint32_t v = 0; v < g->n_values; v++) {
        rank[v] = g->values[v].rank;
        for (unsigned k = 0; k < rank[v]; k++)
            dims[(size_t)v * QN_ARRAY_RANK_MAX + k] = g->values[v].dims[k];
    }
    qn_loops *loops = keep_zeros(m->n_layers + 1u, sizeof *loops);
    for (uint32_t i = 0; i <= m->n_layers; i++) {
        const uint32_t w = value[i][0] * QN_ARRAY_RANK_MAX;
        loops[i] = (qn_loops){.macs = (double)QT_MLP_ROWS * (double)dims[w] * (double)dims[w + 1], .axis = {w, w + 1}, .n_axes = 2};
        s->macs += loops[i].macs;
    }
    s->loops = loops;
    s->n_loops = m->n_layers + 1u;
    for (uint32_t f = 0; f < m->n_layers; f++) {
        uint32_t *count = keep_zeros(m->width[f] + 1, sizeof *count);
        for (uint32_t i = 0; i <= m->width[f]; i++)
            count[i] = i;
        qn_member *p = keep_zeros(5, sizeof *p);
        p[0] = (qn_member){value[f][0], 0, QN_MEMBER_PRODUCER, count, count};
        p[1] = (qn_member){value[f][1], 0, QN_MEMBER_PARAMETER, count, count};
        p[2] = (qn_member){value[f + 1][0], 1, QN_MEMBER_CONSUMER, count, count};
        p[3] = (qn_member){value[f][2], 1, QN_MEMBER_VALUE, count, count};
        p[4] = (qn_member){value[f][3], 1, QN_MEMBER_VALUE, count, count};
        qn_consumer *c = keep_zeros(1, sizeof *c);
        *c = (qn_consumer){.node = 2 * (f + 1), .weight = value[f + 1][0], .bias = value[f + 1][1], .member = 2, .per_index = 1, .tapped = true};
        s->families[f] = (qn_family){.name = g->values[value[f][0]].name, .kind = "width", .n_groups = m->width[f], .n_members = 5, .n_consumers = 1,
                                     .members = p, .consumers = c, .first_node = 2 * f, .last_node = 2 * (f + 1)};
    }
}

void qt_chain_open(qt_chain *m, unsigned n_threads, const uint32_t *width, const uint32_t *live, uint64_t n_batches, uint64_t seed)
{
    uint32_t value[QT_MLP_LAYERS_MAX + 1][4];
    memset(m, 0, sizeof *m);
    m->env = qt_made_env(n_threads);
    while (m->n_layers < QT_MLP_LAYERS_MAX && width[m->n_layers]) {
        m->width[m->n_layers] = width[m->n_layers];
        m->n_layers++;
    }
    make_source(m, live, seed);
    make_graph(m, value);
    make_groups(m, value);
    m->feed = (qn_calibrate_feed){.n_batches = n_batches, .n_tokens = n_batches * QT_MLP_ROWS, .feed = feed, .ctx = m, .pool = &m->pool};
}

void qt_chain_close(qt_chain *m)
{
    qn_graph_close(m->graph);
    qn_source_close(m->src);
}
