/* test_lm_ops.c: norms, activations, sums, splits and experts against their definitions in f64; what does not fit is refused. */
#include "base/err.h"
#include "tests/support/made.h"
#include "tests/support/one_op.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Runs with one thread and with three, which must give the same bits. */
static float *run(const char *type, const qn_attr *attrs, unsigned n_attrs, const qn_array *in, unsigned n_in, uint64_t n)
{
    qn_err err = {0};
    float *y, *z;
    cr_assert_eq(qt_op_run(1, type, attrs, n_attrs, in, n_in, &y, 1, &err), QN_OK, "%s: %s", type, err.text);
    cr_assert_eq(qt_op_run(3, type, attrs, n_attrs, in, n_in, &z, 1, &err), QN_OK);
    cr_assert_arr_eq(y, z, n * sizeof *y, "%s: threads give other numbers", type);
    return y;
}

static double *zeros(uint64_t n)
{
    return qt_made_keep(calloc(n + 1, sizeof(double)));
}

static void refused(const char *type, const qn_attr *attrs, unsigned n_attrs, const qn_array *in, unsigned n_in, const char *words)
{
    qn_err err = {0};
    float *y[4];
    const qn_code rc = qt_op_run(1, type, attrs, n_attrs, in, n_in, y, 1, &err);
    cr_assert(rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED, "%s is taken", words);
    cr_assert(strstr(err.text, words), "%s stands for %s", err.text, words);
}

/* Groups of m along rows of `cols`; offset: RMSNorm's; bias with mean taken away: LayerNorm. */
static double *norm(const float *x, uint64_t n, uint64_t m, const float *w, const float *b, double offset, double eps, bool centred)
{
    double *y = zeros(n);
    for (uint64_t g = 0; g < n; g += m) {
        double mean = 0, square = 0;
        for (uint64_t i = 0; i < m && centred; i++)
            mean += (double)x[g + i] / (double)m;
        for (uint64_t i = 0; i < m; i++)
            square += pow((double)x[g + i] - mean, 2) / (double)m;
        for (uint64_t i = 0; i < m; i++)
            y[g + i] = ((double)x[g + i] - mean) / sqrt(square + eps) * (w ? offset + (double)w[i] : 1) + (b ? (double)b[i] : 0);
    }
    return y;
}

Test(lm_ops, norms)
{
    enum { T = 300, N = 42, M = 21 };
    qt_rng r = qt_seed(5);
    const float *x = qt_op_random(&r, T * N, 2, 1), *w = qt_op_random(&r, N, 1, 0), *b = qt_op_random(&r, N, 1, 0);
    const qn_attr attrs[] = {{.name = "eps", .type = QN_ATTR_FLOAT, .v.f = 0.125}, {.name = "offset", .type = QN_ATTR_INT, .v.i = 1}};
    qn_array in[3] = {qt_op_floats(x, 2, T, N), qt_op_floats(w, 1, N), qt_op_floats(b, 1, N)};
    qt_op_close("RMSNorm", run("RMSNorm", attrs, 1, in, 2, T * N), norm(x, T * N, N, w, NULL, 0, 0.125, false), T * N, 3e-7);
    qt_op_close("RMSNorm, 1 + w", run("RMSNorm", attrs, 2, in, 2, T * N), norm(x, T * N, N, w, NULL, 1, 0.125, false), T * N, 3e-7);
    qt_op_close("RMSNorm, no weight", run("RMSNorm", attrs, 1, in, 1, T * N), norm(x, T * N, N, NULL, NULL, 0, 0.125, false), T * N, 3e-7);
    qt_op_close("LayerNorm", run("LayerNorm", attrs, 1, in, 3, T * N), norm(x, T * N, N, w, b, 0, 0.125, true), T * N, 3e-7);
    qt_op_close("LayerNorm, no bias", run("LayerNorm", attrs, 1, in, 2, T * N), norm(x, T * N, N, w, NULL, 0, 0.125, true), T * N, 3e-7);
    in[1] = qt_op_floats(w, 1, M);
    qt_op_close("RMSNorm, heads", run("RMSNorm", attrs, 1, in, 2, T * N), norm(x, T * N, M, w, NULL, 0, 0.125, false), T * N, 3e-7);
    in[1] = qt_op_floats(w, 1, 20);
    refused("RMSNorm", attrs, 1, in, 2, "rows of 42 values cannot be normalised in groups of 20");
    in[1] = qt_op_floats(w, 1, M);
    refused("LayerNorm", attrs, 1, in, 3, "the bias has 42 values, groups have 21");
}

struct kind {
    const char *name;
    double (*f)(double);
};

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double silu(double x) { return x / (1 + exp(-x)); }
static double gelu(double x) { return x * 0.5 * erfc(-x / sqrt(2)); }
static double gelu_tanh(double x) { return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x))); }
static double quick_gelu(double x) { return x * sigmoid(1.702 * x); }
static double relu(double x) { return fmax(x, 0); }
static double relu2(double x) { return relu(x) * relu(x); }

static const struct kind kinds[] = {{"silu", silu},   {"gelu", gelu},    {"gelu_tanh", gelu_tanh}, {"quick_gelu", quick_gelu}, {"relu", relu},
                                    {"relu2", relu2}, {"sigmoid", sigmoid}, {"tanh", tanh}};

Test(lm_ops, activations)
{
    enum { T = 500, N = 33 };
    qt_rng r = qt_seed(6);
    const float *x = qt_op_random(&r, T * N, 4, 0), *u = qt_op_random(&r, T * N, 1, 0);
    const qn_array in[2] = {qt_op_floats(x, 2, T, N), qt_op_floats(u, 2, T, N)};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        const qn_attr kind = {.name = "kind", .type = QN_ATTR_STRING, .v.s = kinds[k].name};
        double *want = zeros(T * N), *gated = zeros(T * N);
        for (uint64_t i = 0; i < T * N; i++) {
            want[i] = kinds[k].f((double)x[i]);
            gated[i] = want[i] * (double)u[i];
        }
        qt_op_close(kinds[k].name, run("Act", &kind, 1, in, 1, T * N), want, T * N, 2e-7);
        qt_op_close(kinds[k].name, run("Gated", &kind, 1, in, 2, T * N), gated, T * N, 2e-7);
    }
    const qn_attr odd = {.name = "kind", .type = QN_ATTR_STRING, .v.s = "mish"};
    refused("Act", &odd, 1, in, 1, "the activation \"mish\" is not known");
}

Test(lm_ops, elementwise)
{
    enum { T = 400, N = 30 };
    qt_rng r = qt_seed(7);
    const float *x = qt_op_random(&r, T * N, 2, 0), *u = qt_op_random(&r, T * N, 1, 0);
    double *sum = zeros(T * N), *row = zeros(T * N), *column = zeros(T * N), *scaled = zeros(T * N), *capped = zeros(T * N);
    for (uint64_t i = 0; i < T * N; i++) {
        sum[i] = (double)x[i] + (double)u[i];
        row[i] = (double)x[i] + (double)u[i % N];
        column[i] = (double)x[i] * (double)u[i / N];
        scaled[i] = 2.5 * (double)x[i];
        capped[i] = 3 * tanh((double)x[i] / 3);
    }
    qn_array in[2] = {qt_op_floats(x, 2, T, N), qt_op_floats(u, 2, T, N)};
    qt_op_close("Add", run("Add", NULL, 0, in, 2, T * N), sum, T * N, 1e-7);
    in[1] = qt_op_floats(u, 1, N);
    qt_op_close("Add, a row", run("Add", NULL, 0, in, 2, T * N), row, T * N, 1e-7);
    in[1] = qt_op_floats(u, 2, T, 1);
    qt_op_close("Mul, a column", run("Mul", NULL, 0, in, 2, T * N), column, T * N, 1e-7);
    const qn_attr by = {.name = "by", .type = QN_ATTR_FLOAT, .v.f = 2.5}, cap = {.name = "cap", .type = QN_ATTR_FLOAT, .v.f = 3};
    qt_op_close("Scale", run("Scale", &by, 1, in, 1, T * N), scaled, T * N, 1e-7);
    qt_op_close("Softcap", run("Softcap", &cap, 1, in, 1, T * N), capped, T * N, 3e-7);
    in[1] = qt_op_floats(u, 2, N, T);
    refused("Add", NULL, 0, in, 2, "F32 (30, 400) does not fit F32 (400, 30)");
    refused("Softcap", NULL, 0, in, 1, "cap must be positive");
}

Test(lm_ops, split)
{
    /* two tokens, three groups of (1, 2) values: 0 | 1 2 | 10 | 11 12 | … */
    static const float x[18] = {0, 1, 2, 10, 11, 12, 20, 21, 22, 100, 101, 102, 110, 111, 112, 120, 121, 122};
    static const float first[6] = {0, 10, 20, 100, 110, 120}, second[12] = {1, 2, 11, 12, 21, 22, 101, 102, 111, 112, 121, 122};
    static const int64_t sizes[2] = {1, 2}, whole[2] = {4, 5};
    qn_attr attrs[] = {{.name = "sizes", .type = QN_ATTR_INTS, .v.ints = sizes, .n = 2}, {.name = "groups", .type = QN_ATTR_INT, .v.i = 3}};
    const qn_array in = qt_op_floats(x, 2, 2, 9);
    qn_err err = {0};
    float *y[2];
    cr_assert_eq(qt_op_run(1, "Split", attrs, 2, &in, 1, y, 2, &err), QN_OK, "%s", err.text);
    cr_assert_arr_eq(y[0], first, sizeof first);
    cr_assert_arr_eq(y[1], second, sizeof second);
    attrs[0].v.ints = whole;
    cr_assert_eq(qt_op_run(1, "Split", attrs, 1, &in, 1, y, 2, &err), QN_OK);
    cr_assert(y[0][3] == 10 && y[0][4] == 100 && y[1][0] == 11 && y[1][5] == 111);
    cr_assert_eq(qt_op_run(1, "Split", attrs, 2, &in, 1, y, 2, &err), QN_E_INPUT);
    cr_assert(strstr(err.text, "rows of 9 values are split into 27"), "%s", err.text);
}

/* --- experts --------------------------------------------------------------------------------------------------------- */

enum { E = 5, K = 2, H = 12, F = 7, T = 90 };

static double *experts(const float *x, const float *logits, const float *gate, const float *up, const float *down, bool norm_topk)
{
    double *y = zeros(T * H);
    for (int t = 0; t < T; t++) {
        double p[E], all = 0, some = 0;
        bool chosen[E] = {false};
        for (int e = 0; e < E; e++)
            all += p[e] = exp((double)logits[t * E + e]);
        for (int k = 0; k < K; k++) {
            int best = -1;
            for (int e = 0; e < E; e++)
                if (!chosen[e] && (best < 0 || p[e] > p[best]))
                    best = e;
            chosen[best] = true;
            some += p[best];
        }
        for (int e = 0; e < E; e++) {
            double h[F];
            if (!chosen[e])
                continue;
            for (int f = 0; f < F; f++) {
                double g = 0, u = 0;
                for (int i = 0; i < H; i++) {
                    g += (double)gate[(e * F + f) * H + i] * (double)x[t * H + i];
                    u += (double)up[(e * F + f) * H + i] * (double)x[t * H + i];
                }
                h[f] = silu(g) * u;
            }
            for (int i = 0; i < H; i++)
                for (int f = 0; f < F; f++)
                    y[t * H + i] += p[e] / (norm_topk ? some : all) * (double)down[(e * H + i) * F + f] * h[f];
        }
    }
    return y;
}

Test(lm_ops, experts_in_three_layouts)
{
    qt_rng r = qt_seed(8);
    const float *x = qt_op_random(&r, T * H, 1, 0), *logits = qt_op_random(&r, T * E, 2, 0);
    const float *gate = qt_op_random(&r, E * F * H, 0.5, 0), *up = qt_op_random(&r, E * F * H, 0.5, 0), *down = qt_op_random(&r, E * F * H, 0.5, 0);
    float *both = qt_made_keep(malloc(2 * E * F * H * sizeof *both));
    for (int e = 0; e < E; e++) {
        memcpy(both + 2 * e * F * H, gate + e * F * H, F * H * sizeof *both);
        memcpy(both + (2 * e + 1) * F * H, up + e * F * H, F * H * sizeof *both);
    }
    qn_attr attrs[] = {{.name = "experts", .type = QN_ATTR_INT, .v.i = E}, {.name = "top_k", .type = QN_ATTR_INT, .v.i = K},
                       {.name = "kind", .type = QN_ATTR_STRING, .v.s = "silu"}, {.name = "norm", .type = QN_ATTR_INT, .v.i = 1},
                       {.name = "layout", .type = QN_ATTR_STRING, .v.s = "stacked"}};
    qn_array in[2 + 3 * E] = {qt_op_floats(x, 2, T, H), qt_op_floats(logits, 2, T, E), qt_op_floats(gate, 3, E, F, H), qt_op_floats(up, 3, E, F, H),
                              qt_op_floats(down, 3, E, H, F)};
    float *y = run("Experts", attrs, 5, in, 5, T * H), *z;
    qt_op_close("stacked", y, experts(x, logits, gate, up, down, true), T * H, 1e-6);
    in[2] = qt_op_floats(both, 3, E, 2 * F, H);
    in[3] = in[4];
    attrs[4].v.s = "fused";
    z = run("Experts", attrs, 5, in, 4, T * H);
    qt_op_close("fused", z, experts(x, logits, gate, up, down, true), T * H, 1e-6);
    in[3] = qt_op_floats(down, 3, E, F, H);
    refused("Experts", attrs, 5, in, 4, "the gate weight of expert 0 is F32 (5, 14, 12): (24, 12) is expected");
    for (int e = 0; e < E; e++) {
        in[2 + e] = qt_op_floats(gate + e * F * H, 2, F, H);
        in[2 + E + e] = qt_op_floats(up + e * F * H, 2, F, H);
        in[2 + 2 * E + e] = qt_op_floats(down + e * F * H, 2, H, F);
    }
    attrs[4].v.s = "separate";
    z = run("Experts", attrs, 5, in, 2 + 3 * E, T * H);
    cr_assert_arr_eq(y, z, T * H * sizeof *y);
    attrs[3].v.i = 0;
    z = run("Experts", attrs, 5, in, 2 + 3 * E, T * H);
    qt_op_close("not normalised", z, experts(x, logits, gate, up, down, false), T * H, 1e-6);
    in[2 + E] = qt_op_floats(up, 2, H, F);
    refused("Experts", attrs, 5, in, 2 + 3 * E, "the up weight of expert 0 is F32 (12, 7): (7, 12) is expected");
    attrs[1].v.i = 6;
    refused("Experts", attrs, 5, in, 2 + 3 * E, "6 of 5 experts");
    attrs[1].v.i = 2;
    attrs[4].v.s = "loose";
    refused("Experts", attrs, 5, in, 4, "layout \"loose\"");
}
