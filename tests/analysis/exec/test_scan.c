/* Operators that carry something along a sequence, against sums over all earlier tokens in f64 (the operators keep a state and
 * step); alone and in a ragged batch, with one thread and with several; and operands that do not fit. */
#include "analysis/exec/exec.h"
#include "base/err.h"
#include "tests/support/made.h"
#include "tests/support/one_op.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQS = 5, TOKENS = 61 };
static const int64_t starts_of[SEQS + 1] = {0, 23, 24, 24, 40, TOKENS};

/* A graph of one node whose operands are all fed. */
static qn_code run(unsigned n_threads, const char *type, const qn_attr *attrs, unsigned n_attrs, const qn_array *in, unsigned n_in,
                   float **y, qn_err *err)
{
    const qn_env *env = qt_made_env(n_threads);
    qn_graph *g;
    uint32_t v[8], out;
    qn_exec *x = NULL;
    qn_array result;
    cr_assert_eq(qn_graph_new(env, NULL, "test", &g, err), QN_OK);
    for (unsigned i = 0; i < n_in; i++) {
        char name[8];
        snprintf(name, sizeof name, "in%u", i);
        cr_assert_eq(qn_graph_input(g, name, (qn_dtype)in[i].dtype, NULL, QN_RANK_UNKNOWN, &v[i], err), QN_OK);
    }
    cr_assert_eq(qn_graph_node(g, "quern", type, 0, "node", v, n_in, attrs, n_attrs, NULL, &out, 1, err), QN_OK);
    cr_assert_eq(qn_graph_output(g, out, err), QN_OK);
    cr_assert_eq(qn_graph_seal(g, err), QN_OK);
    cr_assert_not_null(g->nodes[0].op);
    cr_assert_eq(qn_exec_open(env, g, NULL, &x, err), QN_OK);
    const qn_code rc = qn_exec_run(x, in, &result, err);
    if (rc == QN_OK) {
        *y = qt_made_keep(malloc(qn_array_bytes(&result) + 1));
        memcpy(*y, result.data, qn_array_bytes(&result));
        qn_array_release(&result);
    }
    cr_assert_eq(atomic_load(&qn_exec_pool(x)->held_bytes), 0u, "%s keeps memory", type);
    qn_exec_close(x);
    qn_graph_close(g);
    return rc;
}

/* Runs it, checks that threads and neighbours change nothing (operands below n_rows are one row a token; starts_at is that of
 * starts), and returns y (TOKENS, width). */
static float *steady(const char *type, const qn_attr *attrs, unsigned n_attrs, const qn_array *in, unsigned n_in, unsigned starts_at,
                     unsigned rows, uint64_t width)
{
    qn_err err = {0};
    float *y, *z;
    cr_assert_eq(run(1, type, attrs, n_attrs, in, n_in, &y, &err), QN_OK, "%s: %s", type, err.text);
    for (unsigned t = 2; t < 4; t++) {
        cr_assert_eq(run(t, type, attrs, n_attrs, in, n_in, &z, &err), QN_OK);
        cr_assert_arr_eq(y, z, TOKENS * width * sizeof *y, "%s: %u threads give other numbers", type, t);
    }
    for (unsigned s = 0; s < SEQS; s++) {
        const int64_t alone[2] = {0, starts_of[s + 1] - starts_of[s]};
        qn_array part[8];
        for (unsigned i = 0; i < n_in; i++) {
            part[i] = in[i];
            if (i == starts_at) {
                part[i] = qt_op_ints(alone, 2);
            } else if (rows >> i & 1) {
                const uint64_t n = in[i].n / TOKENS;
                part[i].dims[0] = alone[1];
                part[i].n = (uint64_t)alone[1] * n;
                part[i].data = (float *)in[i].data + (uint64_t)starts_of[s] * n;
            }
        }
        cr_assert_eq(run(1, type, attrs, n_attrs, part, n_in, &z, &err), QN_OK, "%s: %s", type, err.text);
        cr_assert_arr_eq(y + (uint64_t)starts_of[s] * width, z, (uint64_t)alone[1] * width * sizeof *y, "%s: sequence %u depends on its neighbours",
                         type, s);
    }
    return y;
}

static void close_to(const char *type, const float *y, const double *want, uint64_t n)
{
    double most = 0, worst = 0;
    for (uint64_t i = 0; i < n; i++) {
        most = fmax(most, fabs(want[i]));
        worst = fmax(worst, fabs((double)y[i] - want[i]));
    }
    cr_assert(most > 0.5, "%s: the test has no values", type);
    cr_assert(worst <= 3e-6 * most, "%s: off by %g of %g", type, worst, most);
}

static double softplus(double x)
{
    return log1p(exp(x));
}

static unsigned sequence_of(int64_t t)
{
    unsigned s = 0;
    while (t >= starts_of[s + 1])
        s++;
    return s;
}

Test(scan, positions)
{
    static const int64_t tokens[TOKENS];
    const qn_attr attrs[] = {{.name = "offset", .type = QN_ATTR_INT, .v.i = 2}, {.name = "limit", .type = QN_ATTR_INT, .v.i = 23}};
    const qn_array in[] = {qt_op_ints(tokens, TOKENS), qt_op_ints(starts_of, SEQS + 1)};
    qn_err err = {0};
    float *y;
    cr_assert_eq(run(1, "Positions", attrs, 2, in, 2, &y, &err), QN_OK);
    const void *p = y;
    const int64_t *at = p;
    for (int64_t t = 0; t < TOKENS; t++)
        cr_assert_eq(at[t], t - starts_of[sequence_of(t)] + 2);
    const qn_attr tight = {.name = "limit", .type = QN_ATTR_INT, .v.i = 22};
    cr_assert_eq(run(1, "Positions", &tight, 1, in, 2, &y, &err), QN_E_INPUT);
    cr_assert(strstr(err.text, "sequence 0 has 23 tokens; the model has positions for 22"), "%s", err.text);
}

Test(scan, token_shift)
{
    enum { N = 1100 };
    qt_rng r = qt_seed(1);
    const float *x = qt_op_random(&r, TOKENS * N, 1, 0), *mix = qt_op_random(&r, N, 0.3, 0.5);
    const qn_array in[] = {qt_op_floats(x, 2, TOKENS, N), qt_op_ints(starts_of, SEQS + 1), qt_op_floats(mix, 1, N)};
    const float *y = steady("TokenShift", NULL, 0, in, 3, 1, 1, N);
    double *want = qt_made_keep(malloc(sizeof(double) * TOKENS * N));
    for (int64_t t = 0; t < TOKENS; t++)
        for (unsigned i = 0; i < N; i++) {
            const double before = t == starts_of[sequence_of(t)] ? 0 : (double)x[(t - 1) * N + i];
            want[t * N + i] = before + (double)mix[i] * ((double)x[t * N + i] - before);
        }
    close_to("TokenShift", y, want, TOKENS * N);
}

Test(scan, causal_conv)
{
    enum { N = 301, K = 4 };
    qt_rng r = qt_seed(2);
    const float *x = qt_op_random(&r, TOKENS * N, 1, 0), *w = qt_op_random(&r, N * K, 0.5, 0), *b = qt_op_random(&r, N, 0.3, 0);
    const qn_array in[] = {qt_op_floats(x, 2, TOKENS, N), qt_op_ints(starts_of, SEQS + 1), qt_op_floats(w, 3, N, 1, K), qt_op_floats(b, 1, N)};
    double *want = qt_made_keep(malloc(sizeof(double) * TOKENS * N));
    for (unsigned with_bias = 0; with_bias < 2; with_bias++) {
        const float *y = steady("CausalConv1d", NULL, 0, in, 3 + with_bias, 1, 1, N);
        for (int64_t t = 0; t < TOKENS; t++)
            for (unsigned i = 0; i < N; i++) {
                double sum = with_bias ? (double)b[i] : 0;
                for (int64_t j = 0; j < K; j++) { /* tap j looks K − 1 − j tokens back */
                    const int64_t from = t - (K - 1 - j);
                    if (from >= starts_of[sequence_of(t)])
                        sum += (double)w[i * K + j] * (double)x[from * N + i];
                }
                want[t * N + i] = sum;
            }
        close_to("CausalConv1d", y, want, TOKENS * N);
    }
}

Test(scan, selective_scan)
{
    enum { N = 139, M = 5 };
    qt_rng r = qt_seed(3);
    const float *x = qt_op_random(&r, TOKENS * N, 1, 0), *dt = qt_op_random(&r, TOKENS * N, 1.5, -1);
    const float *a = qt_op_random(&r, N * M, 0.8, 0), *b = qt_op_random(&r, TOKENS * M, 1, 0), *c = qt_op_random(&r, TOKENS * M, 1, 0);
    const float *d = qt_op_random(&r, N, 0.5, 1);
    const qn_array in[] = {qt_op_floats(x, 2, TOKENS, N), qt_op_floats(dt, 2, TOKENS, N), qt_op_floats(a, 2, N, M), qt_op_floats(b, 2, TOKENS, M),
                           qt_op_floats(c, 2, TOKENS, M), qt_op_floats(d, 1, N), qt_op_ints(starts_of, SEQS + 1)};
    const float *y = steady("SelectiveScan", NULL, 0, in, 7, 6, 0x1b, N);
    double *want = qt_made_keep(malloc(sizeof(double) * TOKENS * N));
    for (int64_t t = 0; t < TOKENS; t++)
        for (unsigned i = 0; i < N; i++) {
            double sum = (double)d[i] * (double)x[t * N + i], passed = 0; /* passed: Σ Δ over the tokens after s */
            for (int64_t s = t; s >= starts_of[sequence_of(t)]; s--) {
                const double delta = softplus((double)dt[s * N + i]);
                for (unsigned j = 0; j < M; j++)
                    sum += (double)c[t * M + j] * exp(-exp((double)a[i * M + j]) * passed) * delta * (double)b[s * M + j] * (double)x[s * N + i];
                passed += delta;
            }
            want[t * N + i] = sum;
        }
    close_to("SelectiveScan", y, want, TOKENS * N);
}

Test(scan, ssd_scan)
{
    enum { H = 6, P = 9, G = 3, M = 7, N = H * P };
    qt_rng r = qt_seed(4);
    const float *x = qt_op_random(&r, TOKENS * N, 1, 0), *dt = qt_op_random(&r, TOKENS * H, 1.5, -1), *bias = qt_op_random(&r, H, 0.5, 0);
    const float *a = qt_op_random(&r, H, 0.8, 0), *b = qt_op_random(&r, TOKENS * G * M, 1, 0), *c = qt_op_random(&r, TOKENS * G * M, 1, 0);
    const float *d = qt_op_random(&r, H, 0.5, 1);
    const qn_array in[] = {qt_op_floats(x, 2, TOKENS, N), qt_op_floats(dt, 2, TOKENS, H), qt_op_floats(bias, 1, H), qt_op_floats(a, 1, H),
                           qt_op_floats(b, 2, TOKENS, G * M), qt_op_floats(c, 2, TOKENS, G * M), qt_op_floats(d, 1, H), qt_op_ints(starts_of, SEQS + 1)};
    const qn_attr attrs[] = {{.name = "groups", .type = QN_ATTR_INT, .v.i = G}, {.name = "dt_min", .type = QN_ATTR_FLOAT, .v.f = 0.1},
                             {.name = "dt_max", .type = QN_ATTR_FLOAT, .v.f = 1.5}};
    const float *y = steady("SsdScan", attrs, 3, in, 8, 7, 0x33, N);
    double *want = qt_made_keep(malloc(sizeof(double) * TOKENS * N));
    for (int64_t t = 0; t < TOKENS; t++)
        for (unsigned h = 0; h < H; h++) {
            double passed = 0;
            for (unsigned p = 0; p < P; p++)
                want[t * N + h * P + p] = (double)d[h] * (double)x[t * N + h * P + p];
            for (int64_t s = t; s >= starts_of[sequence_of(t)]; s--) {
                const double delta = fmin(fmax(softplus((double)dt[s * H + h] + (double)bias[h]), 0.1), 1.5);
                double dot = 0;
                for (unsigned j = 0; j < M; j++)
                    dot += (double)c[(t * G + h / 2) * M + j] * (double)b[(s * G + h / 2) * M + j];
                for (unsigned p = 0; p < P; p++)
                    want[t * N + h * P + p] += dot * exp(-exp((double)a[h]) * passed) * delta * (double)x[s * N + h * P + p];
                passed += delta;
            }
        }
    close_to("SsdScan", y, want, TOKENS * N);
}

Test(scan, wkv5)
{
    enum { H = 5, P = 12, N = H * P };
    qt_rng seed = qt_seed(5);
    const float *r = qt_op_random(&seed, TOKENS * N, 1, 0), *k = qt_op_random(&seed, TOKENS * N, 1, 0);
    const float *v = qt_op_random(&seed, TOKENS * N, 1, 0), *u = qt_op_random(&seed, N, 0.5, 0);
    double *want = qt_made_keep(malloc(sizeof(double) * TOKENS * N));
    for (int raw = 0; raw < 2; raw++) {
        const float *w = raw ? qt_op_random(&seed, N, 1, -1) : qt_op_random(&seed, N, 0.1, 0.8);
        const qn_attr attr = {.name = "raw", .type = QN_ATTR_INT, .v.i = raw};
        const qn_array in[] = {qt_op_floats(r, 2, TOKENS, N), qt_op_floats(k, 2, TOKENS, N), qt_op_floats(v, 2, TOKENS, N), qt_op_floats(w, raw ? 2 : 3, H, P, 1),
                               qt_op_floats(u, 2, H, P), qt_op_ints(starts_of, SEQS + 1)};
        const float *y = steady("Wkv5", &attr, 1, in, 6, 5, 7, N);
        for (int64_t t = 0; t < TOKENS; t++)
            for (unsigned h = 0; h < H; h++)
                for (unsigned j = 0; j < P; j++) {
                    double sum = 0;
                    for (int64_t s = starts_of[sequence_of(t)]; s <= t; s++) {
                        double dot = 0;
                        for (unsigned i = h * P; i < (h + 1) * P; i++) {
                            const double stay = raw ? exp(-exp((double)w[i])) : (double)w[i];
                            const double f = s == t ? (double)u[i] : pow(stay, (double)(t - 1 - s));
                            dot += (double)r[t * N + i] * f * (double)k[s * N + i];
                        }
                        sum += dot * (double)v[s * N + h * P + j];
                    }
                    want[t * N + h * P + j] = sum;
                }
        close_to("Wkv5", y, want, TOKENS * N);
    }
}

Test(scan, group_norm)
{
    enum { G = 7, P = 41, N = G * P };
    qt_rng r = qt_seed(6);
    const float *x = qt_op_random(&r, TOKENS * N, 2, 5), *w = qt_op_random(&r, N, 0.3, 1), *b = qt_op_random(&r, N, 0.3, 0);
    const qn_attr attrs[] = {{.name = "groups", .type = QN_ATTR_INT, .v.i = G}, {.name = "eps", .type = QN_ATTR_FLOAT, .v.f = 0.01}};
    double *want = qt_made_keep(malloc(sizeof(double) * TOKENS * N));
    qn_err err = {0};
    for (unsigned shared = 0; shared < 2; shared++) {
        const qn_array in[] = {qt_op_floats(x, 2, TOKENS, N), qt_op_floats(w, 1, shared ? P : N), qt_op_floats(b, 1, shared ? P : N)};
        float *y, *z;
        cr_assert_eq(run(1, "GroupNorm", attrs, 2, in, 3, &y, &err), QN_OK, "%s", err.text);
        cr_assert_eq(run(3, "GroupNorm", attrs, 2, in, 3, &z, &err), QN_OK);
        cr_assert_arr_eq(y, z, TOKENS * N * sizeof *y, "three threads give other numbers");
        for (unsigned g = 0; g < TOKENS * G; g++) {
            double mean = 0, square = 0;
            for (unsigned i = 0; i < P; i++) {
                mean += (double)x[g * P + i] / P;
                square += (double)x[g * P + i] * (double)x[g * P + i] / P;
            }
            for (unsigned i = 0; i < P; i++) {
                const unsigned at = shared ? i : g % G * P + i;
                want[g * P + i] = ((double)x[g * P + i] - mean) / sqrt(square - mean * mean + 0.01) * (double)w[at] + (double)b[at];
            }
        }
        close_to("GroupNorm", y, want, TOKENS * N);
    }
}

static void refused(const char *type, const qn_attr *attrs, unsigned n_attrs, const qn_array *in, unsigned n_in, const char *text)
{
    qn_err err = {0};
    float *y;
    cr_assert_eq(run(1, type, attrs, n_attrs, in, n_in, &y, &err), QN_E_INPUT, "%s", type);
    cr_assert(strstr(err.text, text), "\"%s\" is not in \"%s\"", text, err.text);
}

Test(scan, operands_that_do_not_fit)
{
    static const float x[64];
    static const int64_t falls[] = {0, 3, 1, 4}, far[] = {0, 9}, late[] = {1, 4}, low[] = {0, -1, 4}, good[] = {0, 4};
    const qn_attr groups = {.name = "groups", .type = QN_ATTR_INT, .v.i = 3};
    const qn_array rows = qt_op_floats(x, 2, 4, 4), mix = qt_op_floats(x, 1, 4), starts = qt_op_ints(good, 2);
    refused("TokenShift", NULL, 0, (qn_array[]){rows, qt_op_ints(falls, 4), mix}, 3, "node 'node' (TokenShift): ");
    refused("TokenShift", NULL, 0, (qn_array[]){rows, qt_op_ints(far, 2), mix}, 3, "4");
    refused("TokenShift", NULL, 0, (qn_array[]){rows, qt_op_ints(late, 2), mix}, 3, "4");
    refused("TokenShift", NULL, 0, (qn_array[]){rows, qt_op_ints(low, 3), mix}, 3, "");
    refused("TokenShift", NULL, 0, (qn_array[]){rows, rows, mix}, 3, "F32 (4, 4)");
    refused("TokenShift", NULL, 0, (qn_array[]){rows, starts, qt_op_floats(x, 1, 3)}, 3, "mix is F32 (3); 4 values");
    refused("CausalConv1d", NULL, 0, (qn_array[]){rows, starts, qt_op_floats(x, 3, 4, 2, 2)}, 3, "the weight F32 (4, 2, 2) does not fit");
    refused("SelectiveScan", NULL, 0, (qn_array[]){rows, rows, qt_op_floats(x, 2, 4, 3), qt_op_floats(x, 2, 4, 2), qt_op_floats(x, 2, 4, 2), mix, starts}, 7,
            "A_log is F32 (4, 3), B is F32 (4, 2)");
    refused("SsdScan", &groups, 1, (qn_array[]){rows, qt_op_floats(x, 2, 4, 2), mix, mix, rows, rows, mix, starts}, 8, "do not fit");
    refused("SsdScan", NULL, 0, (qn_array[]){rows, qt_op_floats(x, 2, 3, 2), mix, mix, rows, rows, mix, starts}, 8, "dt is F32 (3, 2)");
    refused("Wkv5", NULL, 0, (qn_array[]){rows, rows, rows, qt_op_floats(x, 2, 3, 1), mix, starts}, 6, "decay is F32 (3, 1); 4 values");
    refused("Wkv5", NULL, 0, (qn_array[]){rows, rows, rows, mix, mix, starts}, 6, "heads");
    refused("GroupNorm", &groups, 1, (qn_array[]){rows, mix, mix}, 3, "3 groups do not share 4 channels");
}
