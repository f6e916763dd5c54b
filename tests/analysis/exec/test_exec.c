/* The executor: what a small model of Embed and Linear computes, whole and block by block, with weights held, dropped and read
 * by rows, with taps, and with a loader of the caller's own. */
#include "analysis/exec/exec.h"
#include "base/err.h"
#include "tests/support/made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 7, WIDTH = 5, HIDDEN = 3, LAYERS = 4 };

static float embed[VOCAB * WIDTH], up[LAYERS][HIDDEN * WIDTH], down[LAYERS][WIDTH * HIDDEN], bias[LAYERS][WIDTH];

/* tokens → Embed → per layer: x = down(up(x)) + bias → logits by the embedding. */
static qn_graph *build(const qn_env *env, qn_source *s)
{
    qn_err err = {0};
    qn_graph *g;
    uint32_t tokens, w, x, b;
    const int64_t unknown = QN_DIM_UNKNOWN;
    cr_assert_eq(qn_graph_new(env, s, "test", &g, &err), QN_OK);
    cr_assert_eq(qn_graph_input(g, "tokens", QN_I64, &unknown, 1, &tokens, &err), QN_OK);
    cr_assert_eq(qn_graph_begin_block(g, "embedding", &err), QN_OK);
    cr_assert_eq(qn_graph_weight(g, "embed", &w, &err), QN_OK);
    cr_assert_eq(qn_graph_node(g, "quern", "Embed", 0, "embedding", (uint32_t[]){tokens, w}, 2, NULL, 0, NULL, &x, 1, &err), QN_OK);
    for (unsigned i = 0; i < LAYERS; i++) {
        char name[64];
        snprintf(name, sizeof name, "layers.%u", i);
        cr_assert_eq(qn_graph_begin_block(g, name, &err), QN_OK);
        snprintf(name, sizeof name, "up.%u", i);
        cr_assert_eq(qn_graph_weight(g, name, &w, &err), QN_OK);
        snprintf(name, sizeof name, "layers.%u.up", i);
        cr_assert_eq(qn_graph_node(g, "quern", "Linear", 0, name, (uint32_t[]){x, w}, 2, NULL, 0, NULL, &x, 1, &err), QN_OK);
        snprintf(name, sizeof name, "down.%u", i);
        cr_assert_eq(qn_graph_weight(g, name, &w, &err), QN_OK);
        snprintf(name, sizeof name, "bias.%u", i);
        cr_assert_eq(qn_graph_weight(g, name, &b, &err), QN_OK);
        snprintf(name, sizeof name, "layers.%u.down", i);
        const qn_attr layout = {.name = "layout", .type = QN_ATTR_STRING, .v.s = "in_out"};
        cr_assert_eq(qn_graph_node(g, "quern", "Linear", 0, name, (uint32_t[]){x, w, b}, 3, &layout, 1, NULL, &x, 1, &err), QN_OK);
    }
    cr_assert_eq(qn_graph_begin_block(g, "head", &err), QN_OK);
    cr_assert_eq(qn_graph_weight(g, "embed", &w, &err), QN_OK);
    cr_assert_eq(qn_graph_node(g, "quern", "Linear", 0, "head", (uint32_t[]){x, w}, 2, NULL, 0, NULL, &x, 1, &err), QN_OK);
    cr_assert_eq(qn_graph_output(g, x, &err), QN_OK);
    cr_assert_eq(qn_graph_seal(g, &err), QN_OK, "%s", err.text);
    cr_assert_eq(g->values[x].rank, 2);
    cr_assert_eq(g->values[x].dims[1], VOCAB);
    return g;
}

static qn_source *model(const qn_env *env)
{
    static char names[3 * LAYERS][16];
    qt_rng r = qt_seed(11);
    qt_made_tensor t[1 + 3 * LAYERS] = {{"embed", QN_F32, 2, {VOCAB, WIDTH}, embed}};
    for (unsigned i = 0; i < VOCAB * WIDTH; i++)
        embed[i] = (float)qt_normal(&r);
    for (unsigned l = 0; l < LAYERS; l++) {
        for (unsigned i = 0; i < HIDDEN * WIDTH; i++) {
            up[l][i] = (float)qt_normal(&r);
            down[l][i] = (float)qt_normal(&r);
        }
        for (unsigned i = 0; i < WIDTH; i++)
            bias[l][i] = (float)qt_normal(&r);
        snprintf(names[3 * l], 16, "up.%u", l);
        snprintf(names[3 * l + 1], 16, "down.%u", l);
        snprintf(names[3 * l + 2], 16, "bias.%u", l);
        t[1 + 3 * l] = (qt_made_tensor){names[3 * l], QN_F32, 2, {HIDDEN, WIDTH}, up[l]};
        t[2 + 3 * l] = (qt_made_tensor){names[3 * l + 1], QN_F32, 2, {HIDDEN, WIDTH}, down[l]};
        t[3 + 3 * l] = (qt_made_tensor){names[3 * l + 2], QN_F32, 1, {WIDTH}, bias[l]};
    }
    return qt_made_open(env, qt_made_safetensors("m.safetensors", t, 1 + 3 * LAYERS, NULL));
}

/* The same in f64, written out. */
static void expected(int64_t token, double logits[VOCAB])
{
    double x[WIDTH], h[HIDDEN];
    for (unsigned i = 0; i < WIDTH; i++)
        x[i] = (double)embed[token * WIDTH + i];
    for (unsigned l = 0; l < LAYERS; l++) {
        for (unsigned j = 0; j < HIDDEN; j++) {
            h[j] = 0;
            for (unsigned i = 0; i < WIDTH; i++)
                h[j] += (double)up[l][j * WIDTH + i] * x[i];
        }
        for (unsigned i = 0; i < WIDTH; i++) {
            x[i] = (double)bias[l][i];
            for (unsigned j = 0; j < HIDDEN; j++)
                x[i] += (double)down[l][j * WIDTH + i] * h[j];
        }
    }
    for (unsigned v = 0; v < VOCAB; v++) {
        logits[v] = 0;
        for (unsigned i = 0; i < WIDTH; i++)
            logits[v] += (double)embed[v * WIDTH + i] * x[i];
    }
}

static void check(const qn_array *y, const int64_t *tokens, unsigned n)
{
    cr_assert_eq(y->rank, 2);
    cr_assert_eq(y->dims[0], n);
    cr_assert_eq(y->dims[1], VOCAB);
    for (unsigned i = 0; i < n; i++) {
        double want[VOCAB];
        expected(tokens[i], want);
        for (unsigned v = 0; v < VOCAB; v++)
            cr_assert_float_eq(((const float *)y->data)[i * VOCAB + v], want[v], 1e-4 * (1 + fabs(want[v])), "row %u, %u", i, v);
    }
}

static const int64_t tokens[] = {3, 0, 6, 6, 1};

Test(exec, whole_graph)
{
    const qn_env *env = qt_made_env(2);
    qn_source *s = model(env);
    qn_graph *g = build(env, s);
    qn_err err = {0};
    /* Without a limit; with one that lets weights be held for a block only; with one so small that Linear and Embed read rows. */
    static const uint64_t limits[] = {0, 1200, 960};
    for (unsigned i = 0; i < 3; i++) {
        const qn_exec_options o = {.memory_bytes = limits[i]};
        qn_exec *x;
        qn_array in, out;
        const int64_t n = 5;
        cr_assert_eq(qn_exec_open(env, g, &o, &x, &err), QN_OK);
        union { const int64_t *in; void *out; } u = {.in = tokens};
        cr_assert_eq(qn_array_wrap(&in, QN_I64, &n, 1, u.out, &err), QN_OK);
        cr_assert_eq(qn_exec_run(x, &in, &out, &err), QN_OK, "limit %lu: %s", (unsigned long)limits[i], err.text);
        check(&out, tokens, 5);
        qn_array_release(&out);
        if (limits[i])
            cr_assert_leq(qn_exec_peak_bytes(x), limits[i]);
        cr_assert_eq(atomic_load(&qn_exec_pool(x)->held_bytes) > 0, limits[i] == 0, "weights are held without a limit only");
        qn_exec_close(x);
    }
    qn_graph_close(g);
    qn_source_close(s);
}

Test(exec, token_outside)
{
    const qn_env *env = qt_made_env(1);
    qn_source *s = model(env);
    qn_graph *g = build(env, s);
    qn_err err = {0};
    qn_exec *x;
    qn_array in, out;
    int64_t bad[] = {1, VOCAB}, n = 2;
    cr_assert_eq(qn_exec_open(env, g, NULL, &x, &err), QN_OK);
    cr_assert_eq(qn_array_wrap(&in, QN_I64, &n, 1, bad, &err), QN_OK);
    cr_assert_eq(qn_exec_run(x, &in, &out, &err), QN_E_INPUT);
    cr_assert_str_eq(err.text, "node 'embedding' (Embed): token 7 at place 1; the model's vocabulary has 7");
    qn_exec_close(x);
    qn_graph_close(g);
    qn_source_close(s);
}

/* Batches of one token each; what each step has been asked for. */
struct batches {
    qn_pool *pool;
    unsigned n_taken, n_inputs, n_blocks;
    double taps[2];
    bool replay;
};

static qn_code feed(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err)
{
    struct batches *b = ctx;
    const int64_t one = 1;
    QN_TRY(qn_array_new(b->pool, &inputs[0], QN_I64, &one, 1, err));
    *(int64_t *)inputs[0].data = tokens[batch];
    return QN_OK;
}

static qn_code take(void *ctx, uint64_t batch, const qn_array *outs, qn_err *err)
{
    (void)err;
    struct batches *b = ctx;
    check(outs, tokens + batch, 1);
    cr_assert_eq(batch, b->n_taken);
    b->n_taken++;
    return QN_OK;
}

static qn_code on_block(void *ctx, uint32_t block, bool *again, qn_err *err)
{
    (void)err;
    struct batches *b = ctx;
    cr_assert_eq(block, b->n_blocks);
    b->n_blocks++;
    *again = b->replay;
    return QN_OK;
}

static qn_code on_input(void *ctx, const qn_graph *g, uint32_t weight, uint32_t part, const float *x, uint64_t rows, uint64_t n,
                        uint64_t ld, qn_err *err)
{
    (void)part;
    (void)err;
    struct batches *b = ctx;
    b->n_inputs++;
    if (!strcmp(g->values[weight].name, "up.0")) {
        cr_assert_eq(n, WIDTH);
        cr_assert_eq(ld, WIDTH);
        for (uint64_t i = 0; i < rows * n; i++)
            b->taps[0] += (double)x[i];
    }
    return QN_OK;
}

Test(exec, streamed)
{
    const qn_env *env = qt_made_env(2);
    qn_source *s = model(env);
    qn_graph *g = build(env, s);
    qn_err err = {0};
    for (unsigned spill = 0; spill < 2; spill++)
        for (unsigned replay = 0; replay < 2; replay++) {
            struct batches b = {.replay = replay};
            /* A quarter of 320 bytes is less than five rows of five floats. */
            const qn_exec_options o = {.memory_bytes = spill ? 320 : 0, .on_input = on_input, .tap_ctx = &b};
            const qn_stream st = {.n_batches = 5, .feed = feed, .take = take, .on_block = on_block, .ctx = &b};
            qn_exec *x;
            cr_assert_eq(qn_exec_open(env, g, &o, &x, &err), QN_OK);
            b.pool = qn_exec_pool(x);
            cr_assert_eq(qn_exec_stream(x, &st, &err), QN_OK, "%s", err.text);
            cr_assert_eq(b.n_taken, 5);
            cr_assert_eq(b.n_blocks, LAYERS + 2);
            cr_assert_eq(b.n_inputs, 5 * (2 * LAYERS + 1), "taps are silent when a block runs again");
            double sum = 0;
            for (unsigned i = 0; i < 5; i++)
                for (unsigned k = 0; k < WIDTH; k++)
                    sum += (double)embed[tokens[i] * WIDTH + k];
            cr_assert_float_eq(b.taps[0], sum, 1e-6);
            if (spill)
                cr_assert_leq(qn_exec_peak_bytes(x), 320);
            qn_exec_close(x);
        }
    qn_graph_close(g);
    qn_source_close(s);
}

/* A loader that gives zeros for one layer's `down`: only its bias is left. */
static qn_code zeros(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err)
{
    (void)ctx;
    const qn_value *v = &g->values[value];
    const uint64_t row = v->rank == 2 ? (uint64_t)v->dims[1] : 1;
    if (!strcmp(v->name, "down.3")) {
        memset(dst, 0, n * row * sizeof(float));
        return QN_OK;
    }
    return qn_source_tensor_read(g->source, v->tensor, first * row * 4, n * row * 4, dst, err);
}

Test(exec, own_loader)
{
    const qn_env *env = qt_made_env(1);
    qn_source *s = model(env);
    qn_graph *g = build(env, s);
    qn_err err = {0};
    const qn_exec_options o = {.read = zeros};
    qn_exec *x;
    qn_array in, out;
    int64_t token = 2, n = 1;
    cr_assert_eq(qn_exec_open(env, g, &o, &x, &err), QN_OK);
    cr_assert_eq(qn_array_wrap(&in, QN_I64, &n, 1, &token, &err), QN_OK);
    cr_assert_eq(qn_exec_run(x, &in, &out, &err), QN_OK);
    for (unsigned v = 0; v < VOCAB; v++) {
        double want = 0;
        for (unsigned i = 0; i < WIDTH; i++)
            want += (double)embed[v * WIDTH + i] * (double)bias[3][i];
        cr_assert_float_eq(((const float *)out.data)[v], want, 1e-5);
    }
    qn_array_release(&out);
    qn_exec_close(x);
    qn_graph_close(g);
    qn_source_close(s);
}

/* Products are the same for every number of threads, at sizes around the tiles. */
Test(exec, gemm_same_for_all_threads)
{
    static const uint64_t sizes[][3] = {{1, 300, 70}, {31, 129, 17}, {33, 513, 64}, {257, 515, 33}, {600, 1030, 5}, {3, 4, 0}};
    qt_rng r = qt_seed(5);
    for (unsigned k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
        for (unsigned b_t = 0; b_t < 2; b_t++) {
            const uint64_t m = sizes[k][0], n = sizes[k][1], d = sizes[k][2];
            float *a = qt_made_keep(malloc((m * d + 1) * 4)), *b = qt_made_keep(malloc((n * d + 1) * 4));
            float *c[2] = {qt_made_keep(malloc(m * n * 4)), qt_made_keep(malloc(m * n * 4))};
            for (uint64_t i = 0; i < m * d; i++)
                a[i] = (float)qt_normal(&r);
            for (uint64_t i = 0; i < n * d; i++)
                b[i] = (float)qt_normal(&r);
            for (unsigned t = 0; t < 2; t++) {
                const qn_env *env = qt_made_env(t ? 3 : 1);
                qn_err err = {0};
                qn_graph *g;
                qn_exec *x;
                cr_assert_eq(qn_graph_new(env, NULL, "none", &g, &err), QN_OK);
                cr_assert_eq(qn_graph_seal(g, &err), QN_OK);
                cr_assert_eq(qn_exec_open(env, g, NULL, &x, &err), QN_OK);
                cr_assert_eq(qn_gemm(x, b_t, m, n, d, a, d, b, b_t ? d : n, 0, c[t], n, &err), QN_OK);
                qn_exec_close(x);
                qn_graph_close(g);
            }
            cr_assert_arr_eq(c[0], c[1], m * n * 4);
            for (uint64_t i = 0; i < m * n; i += 7) {
                double want = 0;
                for (uint64_t j = 0; j < d; j++)
                    want += (double)a[i / n * d + j] * (double)(b_t ? b[i % n * d + j] : b[j * n + i % n]);
                cr_assert_float_eq(c[0][i], want, 1e-4);
            }
        }
}
