/* mlp.c: see mlp.h. */
#include "tests/compress/prune/mlp.h"
#include "base/err.h"
#include "tests/support/made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static unsigned cols_of(unsigned l) { return l ? MLP_H : MLP_IN; }
static unsigned rows_of(unsigned l) { return l == 2 ? MLP_OUT : MLP_H; }

void qt_mlp_fill(qt_mlp *m, uint64_t seed)
{
    qt_rng r = qt_seed(seed);
    memset(m, 0, sizeof *m);
    for (unsigned l = 0; l < 3; l++) {
        for (unsigned i = 0; i < rows_of(l) * cols_of(l); i++)
            m->w[l][i] = (float)(qt_normal(&r) / sqrt(cols_of(l)));
        for (unsigned i = 0; i < rows_of(l); i++)
            m->b[l][i] = (float)(0.3 * qt_normal(&r));
    }
    for (unsigned i = 0; i < MLP_BATCHES * MLP_ROWS * MLP_IN; i++)
        m->x[i] = (float)qt_normal(&r);
}

static qn_code feed(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err)
{
    const qt_mlp *m = ctx;
    QN_TRY(qn_array_new(m->pool, &inputs[0], QN_F32, (const int64_t[]){MLP_ROWS, MLP_IN}, 2, err));
    memcpy(inputs[0].data, m->x + batch * MLP_ROWS * MLP_IN, MLP_ROWS * MLP_IN * sizeof(float));
    return QN_OK;
}

static void make_family(qt_mlp *m, unsigned f)
{
    static const char *const names[] = {"w0", "w1"};
    m->members[f][0] = (qn_member){.value = m->wv[f], .axis = 0, .role = QN_MEMBER_PRODUCER, .start = m->start, .index = m->index};
    m->members[f][1] = (qn_member){.value = m->bv[f], .axis = 0, .role = QN_MEMBER_PARAMETER, .start = m->start, .index = m->index};
    m->members[f][2] = (qn_member){.value = m->wv[f + 1], .axis = 1, .role = QN_MEMBER_CONSUMER, .start = m->start, .index = m->index};
    m->consumers[f] = (qn_consumer){.node = 2 * f + 2, .weight = m->wv[f + 1], .bias = m->bv[f + 1], .member = 2, .per_index = 1, .tapped = true};
    m->families[f] = (qn_family){.name = names[f], .kind = "channels", .n_groups = MLP_H, .n_members = 3, .n_consumers = 1, .members = m->members[f],
                                 .consumers = &m->consumers[f], .first_node = 2 * f, .last_node = 2 * f + 2};
}

void qt_mlp_build(qt_mlp *m, const qn_env *env, const char *name)
{
    static const char *const ws[] = {"w0", "w1", "w2"}, *const bs[] = {"b0", "b1", "b2"}, *const ls[] = {"l0", "l1", "l2"}, *const rs[] = {"r0", "r1"};
    qt_made_tensor t[6];
    qn_err err = {0};
    uint32_t x;
    for (unsigned l = 0; l < 3; l++) {
        t[2 * l] = (qt_made_tensor){ws[l], QN_F32, 2, {rows_of(l), cols_of(l)}, m->w[l]};
        t[2 * l + 1] = (qt_made_tensor){bs[l], QN_F32, 1, {rows_of(l)}, m->b[l]};
    }
    m->source = qt_made_open(env, qt_made_safetensors(name, t, 6, NULL));
    cr_assert_eq(qn_graph_new(env, m->source, "mlp", &m->graph, &err), QN_OK);
    qn_graph *g = m->graph;
    cr_assert_eq(qn_graph_input(g, "x", QN_F32, (const int64_t[]){QN_DIM_UNKNOWN, MLP_IN}, 2, &x, &err), QN_OK);
    cr_assert_eq(qn_graph_begin_block(g, "all", &err), QN_OK);
    for (unsigned l = 0; l < 3; l++) {
        cr_assert_eq(qn_graph_weight(g, ws[l], &m->wv[l], &err), QN_OK);
        cr_assert_eq(qn_graph_weight(g, bs[l], &m->bv[l], &err), QN_OK);
        cr_assert_eq(qn_graph_node(g, "quern", "Linear", 0, ls[l], (uint32_t[]){x, m->wv[l], m->bv[l]}, 3, NULL, 0, NULL, &x, 1, &err), QN_OK);
        if (l < 2)
            cr_assert_eq(qn_graph_node(g, "", "Relu", 14, rs[l], &x, 1, NULL, 0, NULL, &x, 1, &err), QN_OK);
    }
    cr_assert_eq(qn_graph_output(g, x, &err), QN_OK);
    cr_assert_eq(qn_graph_seal(g, &err), QN_OK, "%s", err.text);
    for (uint32_t i = 0; i < MLP_H; i++) {
        m->start[i] = m->index[i] = i;
        m->start[i + 1] = i + 1;
    }
    for (unsigned f = 0; f < 2; f++)
        make_family(m, f);
    cr_assert_leq(g->n_values, MLP_VALUES);
    for (uint32_t v = 0; v < g->n_values; v++) {
        m->rank[v] = g->values[v].rank;
        for (unsigned k = 0; k < m->rank[v]; k++)
            m->dims[v * QN_ARRAY_RANK_MAX + k] = g->values[v].dims[k] == QN_DIM_UNKNOWN ? MLP_ROWS : g->values[v].dims[k];
    }
    m->groups = (qn_groups){.graph = g, .families = m->families, .n_families = 2, .dims = m->dims, .rank = m->rank, .varies = m->varies};
    m->feed = (qn_calibrate_feed){.n_batches = MLP_BATCHES, .n_tokens = MLP_BATCHES * MLP_ROWS, .feed = feed, .ctx = m, .pool = &m->pool};
}

void qt_mlp_close(qt_mlp *m)
{
    qn_graph_close(m->graph);
    qn_source_close(m->source);
}

void qt_mlp_layer(const qt_mlp *m, const float *const w[3], const float *const b[3], unsigned l, unsigned first, unsigned n, double *in, double *out)
{
    double *y = malloc((size_t)n * MLP_H * sizeof *y);
    for (unsigned r = 0; r < n; r++)
        for (unsigned c = 0; c < MLP_IN; c++)
            in[r * MLP_IN + c] = (double)m->x[(first + r) * MLP_IN + c];
    for (unsigned k = 0; k <= l; k++) {
        const float *wk = w && w[k] ? w[k] : m->w[k], *bk = b && b[k] ? b[k] : m->b[k];
        const unsigned d = cols_of(k), o = rows_of(k);
        for (unsigned r = 0; r < n; r++)
            for (unsigned i = 0; i < o; i++) {
                y[r * o + i] = (double)bk[i];
                for (unsigned c = 0; c < d; c++)
                    y[r * o + i] += (double)wk[i * d + c] * in[r * d + c];
            }
        if (k == l)
            memcpy(out, y, (size_t)n * o * sizeof *y);
        for (unsigned i = 0; i < n * o && k < l; i++)
            in[i] = y[i] > 0 ? y[i] : 0;
    }
    free(y);
}
