/* lm_act.c: what is done element by element: activations, gates, sums, products, scale, softcap. */
#include "analysis/exec/lm_act.h"
#include "analysis/exec/lm_help.h"
#include "analysis/exec/vmath.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

/* Formulas. gelu: Hendrycks and Gimpel 2016, x · Φ(x); its tanh form is x · σ(2u), u = √(2/π) (x + 0.044715 x³), because
 * (1 + tanh u) / 2 = σ(2u). silu: x · σ(x) (Elfwing et al. 2017). relu2: max(x, 0)² (So et al. 2021). */
static float silu(float x) { return x * qn_vsigmoid(x); }
static float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }
static float gelu_tanh(float x) { return x * qn_vsigmoid(1.5957691216057308f * (x + 0.044715f * x * x * x)); }
static float quick_gelu(float x) { return x * qn_vsigmoid(1.702f * x); }
static float relu(float x) { return x > 0.0f ? x : (x != x ? x : 0.0f); }
static float relu2(float x) { return relu(x) * relu(x); }
static float sigmoid(float x) { return qn_vsigmoid(x); }
static float tanh_(float x) { return qn_vtanh(x); }

/* Their derivatives; of relu at 0: 0. With s = σ(v(x)): (x · s)' = s + x · s (1 − s) · v'. */
static float swish_d(float x, float v, float dv)
{
    const float s = qn_vsigmoid(v);
    return s + x * s * (1.0f - s) * dv;
}

static float silu_d(float x) { return swish_d(x, x, 1.0f); }
static float gelu_d(float x)
{
    return 0.5f * (1.0f + erff(x * 0.70710678118654752f)) + x * 0.39894228040143268f * qn_vexp(-0.5f * x * x);
}
static float gelu_tanh_d(float x)
{
    return swish_d(x, 1.5957691216057308f * (x + 0.044715f * x * x * x), 1.5957691216057308f * (1.0f + 0.134145f * x * x));
}
static float quick_gelu_d(float x) { return swish_d(x, 1.702f * x, 1.702f); }
static float relu_d(float x) { return x > 0.0f ? 1.0f : (x != x ? x : 0.0f); }
static float relu2_d(float x) { return 2.0f * relu(x); }
static float sigmoid_d(float x) { return qn_vsigmoid(x) * qn_vsigmoid(-x); }
static float tanh__d(float x) { return 1.0f - qn_vtanh(x) * qn_vtanh(x); }

/* A loop for each, so that the function is inlined and the loop made vector code. */
#define LOOPS(f)                                                                                   \
    static void act_##f(const float *x, float *y, uint64_t n)                                       \
    {                                                                                              \
        for (uint64_t i = 0; i < n; i++)                                                           \
            y[i] = f(x[i]);                                                                        \
    }                                                                                              \
    static void gated_##f(const float *x, const float *u, float *y, uint64_t n)                     \
    {                                                                                              \
        for (uint64_t i = 0; i < n; i++)                                                           \
            y[i] = f(x[i]) * u[i];                                                                 \
    }                                                                                              \
    static void back_##f(const float *x, const float *d, float *y, uint64_t n)                      \
    {                                                                                              \
        for (uint64_t i = 0; i < n; i++)                                                           \
            y[i] = f##_d(x[i]) * d[i];                                                             \
    }

LOOPS(silu)
LOOPS(gelu)
LOOPS(gelu_tanh)
LOOPS(quick_gelu)
LOOPS(relu)
LOOPS(relu2)
LOOPS(sigmoid)
LOOPS(tanh_)

static const qn_lm_act acts[] = {
    {"silu", act_silu, gated_silu, back_silu},
    {"gelu", act_gelu, gated_gelu, back_gelu},
    {"gelu_tanh", act_gelu_tanh, gated_gelu_tanh, back_gelu_tanh},
    {"quick_gelu", act_quick_gelu, gated_quick_gelu, back_quick_gelu},
    {"relu", act_relu, gated_relu, back_relu},
    {"relu2", act_relu2, gated_relu2, back_relu2},
    {"sigmoid", act_sigmoid, gated_sigmoid, back_sigmoid},
    {"tanh", act_tanh_, gated_tanh_, back_tanh_},
};

qn_code qn_lm_act_find(const qn_node *n, const qn_lm_act **act, qn_err *err)
{
    const char *kind = qn_node_string(n, "kind", "");
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++)
        if (!strcmp(acts[i].name, kind)) {
            *act = &acts[i];
            return QN_OK;
        }
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the activation \"%s\" is not known", kind);
}

/* --- operators ------------------------------------------------------------------------------------------------------- */

struct work {
    const float *x, *u;
    float *y, by;
    uint64_t n; /* of a row */
    const qn_lm_act *act;
};

static void rows_act(const void *ctx, uint64_t first, uint64_t n)
{
    const struct work *w = ctx;
    w->act->one(w->x + first * w->n, w->y + first * w->n, n * w->n);
}

static void rows_gated(const void *ctx, uint64_t first, uint64_t n)
{
    const struct work *w = ctx;
    w->act->gated(w->x + first * w->n, w->u + first * w->n, w->y + first * w->n, n * w->n);
}

static void rows_scale(const void *ctx, uint64_t first, uint64_t n)
{
    const struct work *w = ctx;
    for (uint64_t i = first * w->n; i < (first + n) * w->n; i++)
        w->y[i] = w->x[i] * w->by;
}

static void rows_softcap(const void *ctx, uint64_t first, uint64_t n)
{
    const struct work *w = ctx;
    const float inverse = 1.0f / w->by;
    for (uint64_t i = first * w->n; i < (first + n) * w->n; i++)
        w->y[i] = w->by * qn_vtanh(w->x[i] * inverse);
}

/* cost: operations an element. y is like x. */
static qn_code run(qn_exec *x, const qn_array *in, qn_array *out, struct work *w, unsigned cost,
                   void (*fn)(const void *ctx, uint64_t first, uint64_t n), qn_err *err)
{
    QN_TRY(qn_lm_floats(in, "x", err));
    QN_TRY(qn_exec_new(x, out, QN_F32, in->dims, in->rank, err));
    w->x = in->data;
    w->y = out->data;
    w->n = (uint64_t)in->dims[in->rank - 1];
    const uint64_t rows = w->n ? in->n / w->n : 0;
    const qn_code rc = qn_lm_each_row(x, rows, w->n * cost, fn, w, err);
    if (rc != QN_OK)
        qn_array_release(out);
    return rc;
}

qn_code qn_act_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    const qn_lm_act *act;
    qn_lm_like(in, out);
    return qn_lm_act_find(n, &act, err);
}

qn_code qn_act_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    struct work w = {0};
    QN_TRY(qn_lm_act_find(n, &w.act, err));
    return run(x, in, out, &w, 16, rows_act, err);
}

static bool same_dims(const qn_array *a, const qn_array *b)
{
    return a->rank == b->rank && !memcmp(a->dims, b->dims, a->rank * sizeof a->dims[0]);
}

static qn_code misfit(const qn_array *in, qn_err *err)
{
    char a[128], b[128];
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s does not fit %s", qn_array_text(&in[1], b), qn_array_text(&in[0], a));
}

qn_code qn_gated_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    return qn_act_shape(n, in, out, err);
}

qn_code qn_gated_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    struct work w = {.u = in[1].data};
    QN_TRY(qn_lm_act_find(n, &w.act, err));
    if (in[1].dtype != QN_F32 || !same_dims(&in[0], &in[1]))
        return misfit(in, err);
    return run(x, in, out, &w, 16, rows_gated, err);
}

qn_code qn_scale_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)err;
    qn_lm_like(in, out);
    return QN_OK;
}

qn_code qn_scale_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    struct work w = {.by = (float)qn_node_float(n, "by", 1)};
    return run(x, in, out, &w, 1, rows_scale, err);
}

qn_code qn_softcap_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_lm_like(in, out);
    if (!(qn_node_float(n, "cap", 0) > 0))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "cap must be positive");
    return QN_OK;
}

qn_code qn_softcap_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    struct work w = {.by = (float)qn_node_float(n, "cap", 0)};
    return run(x, in, out, &w, 16, rows_softcap, err);
}

/* --- sums and products: the second operand of the same shape, one row (n), or one column (T, 1) ------------------------ */

/* y and x · or + u; u moves by step_row a row and step a value. */
struct pair {
    const float *x, *u;
    float *y;
    uint64_t n, step_row, step;
    bool mul;
};

static void rows_pair(const void *ctx, uint64_t first, uint64_t n)
{
    const struct pair *p = ctx;
    for (uint64_t r = first; r < first + n; r++) {
        const float *x = p->x + r * p->n, *u = p->u + r * p->step_row;
        float *y = p->y + r * p->n;
        if (p->step == 0 && p->mul)
            for (uint64_t i = 0; i < p->n; i++)
                y[i] = x[i] * u[0];
        else if (p->step == 0)
            for (uint64_t i = 0; i < p->n; i++)
                y[i] = x[i] + u[0];
        else if (p->mul)
            for (uint64_t i = 0; i < p->n; i++)
                y[i] = x[i] * u[i];
        else
            for (uint64_t i = 0; i < p->n; i++)
                y[i] = x[i] + u[i];
    }
}

static qn_code run_pair(qn_exec *x, const qn_array *in, qn_array *out, bool mul, qn_err *err)
{
    QN_TRY(qn_lm_floats(&in[0], "x", err));
    QN_TRY(qn_lm_floats(&in[1], "y", err));
    const uint64_t n = (uint64_t)in[0].dims[in[0].rank - 1], rows = n ? in[0].n / n : 0;
    struct pair p = {.x = in[0].data, .u = in[1].data, .n = n, .mul = mul, .step = 1};
    if (same_dims(&in[0], &in[1]))
        p.step_row = n;
    else if (in[1].rank == 1 && in[1].n == n)
        p.step_row = 0;
    else if (in[1].n == rows && in[1].dims[in[1].rank - 1] == 1)
        p.step_row = 1, p.step = 0;
    else
        return misfit(in, err);
    QN_TRY(qn_exec_new(x, out, QN_F32, in[0].dims, in[0].rank, err));
    p.y = out->data;
    const qn_code rc = qn_lm_each_row(x, rows, n, rows_pair, &p, err);
    if (rc != QN_OK)
        qn_array_release(out);
    return rc;
}

qn_code qn_add_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    return qn_scale_shape(n, in, out, err);
}

qn_code qn_add_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    (void)n;
    return run_pair(x, in, out, false, err);
}

qn_code qn_mul_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    return qn_scale_shape(n, in, out, err);
}

qn_code qn_mul_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    (void)n;
    return run_pair(x, in, out, true, err);
}
