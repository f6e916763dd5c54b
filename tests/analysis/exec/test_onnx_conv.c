/* Convolutions of many shapes against sums written out in f64; what taps are shown; threads. */
#include "tests/support/made.h"
#include "tests/support/onnx_op.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape {
    int64_t n, c, m, groups, in[2], k[2], s[2], d[2], p[4];
} shape;

static float *normal(qt_rng *r, int64_t n)
{
    float *v = malloc((size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)qt_normal(r);
    return v;
}

/* y from every product of the definition, summed in f64. */
static void direct(const shape *q, const float *x, const float *w, const float *b, double *y, const int64_t out[2])
{
    const int64_t cg = q->c / q->groups, mg = q->m / q->groups;
    for (int64_t n = 0; n < q->n; n++)
        for (int64_t m = 0; m < q->m; m++)
            for (int64_t oh = 0; oh < out[0]; oh++)
                for (int64_t ow = 0; ow < out[1]; ow++) {
                    double sum = (double)b[m];
                    for (int64_t c = 0; c < cg; c++)
                        for (int64_t kh = 0; kh < q->k[0]; kh++)
                            for (int64_t kw = 0; kw < q->k[1]; kw++) {
                                const int64_t ih = oh * q->s[0] - q->p[0] + kh * q->d[0], iw = ow * q->s[1] - q->p[1] + kw * q->d[1];
                                if (ih < 0 || ih >= q->in[0] || iw < 0 || iw >= q->in[1])
                                    continue;
                                const int64_t xc = m / mg * cg + c;
                                sum += (double)x[((n * q->c + xc) * q->in[0] + ih) * q->in[1] + iw] *
                                       (double)w[((m * cg + c) * q->k[0] + kh) * q->k[1] + kw];
                            }
                    y[((n * q->m + m) * out[0] + oh) * out[1] + ow] = sum;
                }
}

static shape draw(qt_rng *r, unsigned round)
{
    shape q = {.n = 1 + (int64_t)qt_below(r, 3), .groups = 1};
    for (unsigned i = 0; i < 2; i++) {
        q.k[i] = 1 + (int64_t)qt_below(r, 4);
        q.s[i] = 1 + (int64_t)qt_below(r, 3);
        q.d[i] = 1 + (int64_t)qt_below(r, 3);
        q.p[i] = (int64_t)qt_below(r, 4);
        q.p[2 + i] = (int64_t)qt_below(r, 4);
        q.in[i] = (q.k[i] - 1) * q.d[i] + 1 + (int64_t)qt_below(r, 20);
    }
    const int64_t cg = round % 3 ? 1 + (int64_t)qt_below(r, 5) : 1, mg = 1 + (int64_t)qt_below(r, 4);
    q.groups = round % 2 ? 1 + (int64_t)qt_below(r, 4) : 1;
    q.c = cg * q.groups;
    q.m = mg * q.groups;
    if (round % 7 == 0) /* 1 × 1 */
        for (unsigned i = 0; i < 2; i++)
            q.k[i] = q.s[i] = 1, q.p[i] = q.p[2 + i] = 0;
    if (round % 11 == 0) /* large enough for many tiles */
        q.in[0] = 90, q.in[1] = 121, q.c = q.groups * 3;
    return q;
}

static qn_attr ints(const char *name, const int64_t *v, unsigned n)
{
    return (qn_attr){.name = name, .type = QN_ATTR_INTS, .v.ints = v, .n = n};
}

Test(onnx_conv, against_the_definition)
{
    qt_rng r = qt_seed(5);
    for (unsigned round = 0; round < 120; round++) {
        const shape q = draw(&r, round);
        int64_t out[2];
        for (unsigned i = 0; i < 2; i++)
            out[i] = (q.in[i] + q.p[i] + q.p[2 + i] - (q.k[i] - 1) * q.d[i] - 1) / q.s[i] + 1;
        float *x = normal(&r, q.n * q.c * q.in[0] * q.in[1]), *w = normal(&r, q.m * (q.c / q.groups) * q.k[0] * q.k[1]);
        float *b = normal(&r, q.m);
        const int64_t n_y = q.n * q.m * out[0] * out[1];
        double *want = malloc((size_t)n_y * sizeof *want);
        direct(&q, x, w, b, want, out);
        qt_op op = {.type = "Conv", .n_threads = 1 + round % 3,
                    .attrs = {QT_I("group", q.groups), ints("strides", q.s, 2), ints("dilations", q.d, 2), ints("pads", q.p, 4)},
                    .in = {{x, .rank = 4, .dims = {q.n, q.c, q.in[0], q.in[1]}}, {w, .rank = 4, .dims = {q.m, q.c / q.groups, q.k[0], q.k[1]}},
                           {b, .rank = 1, .dims = {q.m}}}};
        qn_array y[1], again[1];
        qn_err err = {0};
        cr_assert_eq(qt_onnx_run(&op, y, &err), QN_OK, "%s", err.text);
        cr_assert_eq(y[0].n, (uint64_t)n_y);
        for (int64_t i = 0; i < n_y; i++)
            cr_assert(fabs((double)((float *)y[0].data)[i] - want[i]) < 1e-4, "round %u, value %lld: %g, not %g", round, (long long)i,
                      (double)((float *)y[0].data)[i], want[i]);
        op.n_threads = 3;
        op.blind = true;
        cr_assert_eq(qt_onnx_run(&op, again, &err), QN_OK);
        cr_assert_arr_eq(y[0].data, again[0].data, (size_t)n_y * 4, "round %u: threads change it", round);
        free(x);
        free(w);
        free(b);
        free(want);
    }
}

/* ⟨conv(x), y⟩ = ⟨x, convᵀ(y)⟩: the transposed operator is the transpose. */
Test(onnx_conv, transposed_is_the_transpose)
{
    qt_rng r = qt_seed(6);
    for (unsigned round = 0; round < 60; round++) {
        shape q = draw(&r, round % 11 == 0 ? 1 : round);
        int64_t out[2], rest[2];
        for (unsigned i = 0; i < 2; i++) {
            const int64_t room = q.in[i] + q.p[i] + q.p[2 + i] - (q.k[i] - 1) * q.d[i] - 1;
            out[i] = room / q.s[i] + 1;
            rest[i] = room % q.s[i];
        }
        const int64_t n_x = q.n * q.c * q.in[0] * q.in[1], n_y = q.n * q.m * out[0] * out[1];
        float *x = normal(&r, n_x), *y = normal(&r, n_y), *w = normal(&r, q.m * (q.c / q.groups) * q.k[0] * q.k[1]);
        float *zero = calloc((size_t)q.m, sizeof *zero);
        double *conv = malloc((size_t)n_y * sizeof *conv), left = 0, right = 0;
        direct(&q, x, w, zero, conv, out);
        const qt_op op = {.type = "ConvTranspose", .n_threads = 2,
                          .attrs = {QT_I("group", q.groups), ints("strides", q.s, 2), ints("dilations", q.d, 2), ints("pads", q.p, 4),
                                    ints("output_padding", rest, 2)},
                          .in = {{y, .rank = 4, .dims = {q.n, q.m, out[0], out[1]}}, {w, .rank = 4, .dims = {q.m, q.c / q.groups, q.k[0], q.k[1]}}}};
        qn_array back[1];
        qn_err err = {0};
        cr_assert_eq(qt_onnx_run(&op, back, &err), QN_OK, "%s", err.text);
        cr_assert_eq(back[0].n, (uint64_t)n_x, "round %u: %llu values, not %lld", round, (unsigned long long)back[0].n, (long long)n_x);
        double scale = 0;
        for (int64_t i = 0; i < n_y; i++) {
            left += conv[i] * (double)y[i];
            scale += fabs(conv[i] * (double)y[i]);
        }
        for (int64_t i = 0; i < n_x; i++)
            right += (double)x[i] * (double)((float *)back[0].data)[i];
        cr_assert(fabs(left - right) <= 1e-5 * (scale + 1), "round %u: %g and %g", round, left, right);
        free(x);
        free(y);
        free(w);
        free(zero);
        free(conv);
    }
}

/* --- taps ------------------------------------------------------------------------------------------------------------------ */

typedef struct seen {
    const float *w;
    double y[2][512]; /* by group: patches · the weight's rows */
    uint64_t n[2];
    uint64_t mg;
} seen;

static qn_code see(void *ctx, const qn_graph *g, uint32_t weight, uint32_t part, const float *x, uint64_t rows, uint64_t n, uint64_t ld,
                   qn_err *err)
{
    (void)g;
    (void)weight;
    (void)err;
    seen *s = ctx;
    for (uint64_t i = 0; i < rows; i++)
        for (uint64_t m = 0; m < s->mg; m++) {
            double sum = 0;
            for (uint64_t k = 0; k < n; k++)
                sum += (double)x[i * ld + k] * (double)s->w[(part * s->mg + m) * n + k];
            s->y[part][s->n[part]++] = sum;
        }
    return QN_OK;
}

/* A weight, not an input: taps speak of weights only. */
Test(onnx_conv, patches_times_weight_is_the_output)
{
    qt_rng r = qt_seed(7);
    float *x = normal(&r, 4 * 6 * 5), *w = normal(&r, 6 * 2 * 3 * 2);
    const qt_made_tensor t = {"w", QN_F32, 4, {6, 2, 3, 2}, w};
    const qn_env *env = qt_made_env(2);
    qn_source *s = qt_made_open(env, qt_made_safetensors("conv.safetensors", &t, 1, NULL));
    qn_graph *g;
    qn_err err = {0};
    uint32_t in[2], out;
    static const int64_t dims[] = {1, 4, 6, 5}, pads[] = {1, 0, 0, 1};
    const qn_attr attrs[] = {QT_I("group", 2), ints("pads", pads, 4)};
    cr_assert_eq(qn_graph_new(env, s, "test", &g, &err), QN_OK);
    cr_assert_eq(qn_graph_begin_block(g, "all", &err), QN_OK);
    cr_assert_eq(qn_graph_input(g, "x", QN_F32, dims, 4, &in[0], &err), QN_OK);
    cr_assert_eq(qn_graph_weight(g, "w", &in[1], &err), QN_OK);
    cr_assert_eq(qn_graph_node(g, "", "Conv", 18, "conv", in, 2, attrs, 2, NULL, &out, 1, &err), QN_OK);
    cr_assert_eq(qn_graph_output(g, out, &err), QN_OK);
    cr_assert_eq(qn_graph_seal(g, &err), QN_OK, "%s", err.text);
    seen *got = calloc(1, sizeof *got);
    got->w = w;
    got->mg = 3;
    const qn_exec_options o = {.on_input = see, .tap_ctx = got};
    qn_exec *e;
    qn_array feed, y = {0};
    cr_assert_eq(qn_array_wrap(&feed, QN_F32, dims, 4, x, &err), QN_OK);
    cr_assert_eq(qn_exec_open(env, g, &o, &e, &err), QN_OK);
    cr_assert_eq(qn_exec_run(e, &feed, &y, &err), QN_OK, "%s", err.text);
    const uint64_t places = 5 * 5;
    for (uint64_t p = 0; p < 2; p++) {
        cr_assert_eq(got->n[p], places * 3);
        for (uint64_t i = 0; i < places; i++)
            for (uint64_t m = 0; m < 3; m++)
                cr_assert(fabs(got->y[p][i * 3 + m] - (double)((float *)y.data)[(p * 3 + m) * places + i]) < 1e-4);
    }
    qn_array_release(&y);
    qn_exec_close(e);
    qn_graph_close(g);
    qn_source_close(s);
    free(x);
    free(w);
    free(got);
}
