/* grad_onnx_unary.c: operators of one operand, element by element: dx = dy · f′(x), written with x or with y = f(x), whichever is cheaper. Where f has a
 * kink, the derivative is that of the side to which the forward pass counts the point. */
#include "analysis/exec/ops_onnx.h"
#include "analysis/grad/backs.h"
#include <math.h>
#include <string.h>

struct unary {
    const float *x, *y, *dy;
    float *dx, p, q; /* the operator's parameters */
};

#define KERNEL(name, of, expr)                                           \
    static void name(void *ctx, uint64_t from, uint64_t to)              \
    {                                                                    \
        const struct unary *u = ctx;                                     \
        const float *of = u->of, *dy = u->dy, p = u->p, q = u->q;        \
        float *dx = u->dx;                                               \
        (void)p;                                                         \
        (void)q;                                                         \
        for (uint64_t i = from; i < to; i++) {                           \
            const float v = of[i];                                       \
            dx[i] = dy[i] * (expr);                                      \
        }                                                                \
    }

/* 1 / √2 and the density of the normal distribution's 1 / √(2π) */
#define ROOT_HALF 0.70710678f
#define DENSITY 0.39894228f
#define GELU_A 0.79788456f
#define GELU_B 0.044715f

static inline float sigmoid_of(float v)
{
    return 1.0f / (1.0f + expf(-v));
}

static inline float gelu_slope(float v)
{
    return 0.5f * (1.0f + erff(v * ROOT_HALF)) + v * DENSITY * expf(-0.5f * v * v);
}

static inline float gelu_tanh_slope(float v)
{
    const float t = tanhf(GELU_A * (v + GELU_B * v * v * v));
    return 0.5f * (1.0f + t) + 0.5f * v * (1.0f - t * t) * GELU_A * (1.0f + 3.0f * GELU_B * v * v);
}

static inline float mish_slope(float v)
{
    const float t = tanhf((v > 0 ? v : 0) + log1pf(expf(-fabsf(v))));
    return t + v * (1.0f - t * t) * sigmoid_of(v);
}

static inline float quick_gelu_slope(float v, float p)
{
    const float s = sigmoid_of(p * v);
    return s + p * v * s * (1.0f - s);
}

/* No product: what is infinite or no number behind a unit that is off does not get through. */
static void relu(void *ctx, uint64_t from, uint64_t to)
{
    const struct unary *u = ctx;
    const float *y = u->y, *dy = u->dy;
    float *dx = u->dx;
    for (uint64_t i = from; i < to; i++)
        dx[i] = y[i] > 0 ? dy[i] : 0;
}

static void neg(void *ctx, uint64_t from, uint64_t to)
{
    const struct unary *u = ctx;
    for (uint64_t i = from; i < to; i++)
        u->dx[i] = -u->dy[i];
}

KERNEL(abs_, x, (float)((v > 0) - (v < 0)))
KERNEL(exp_, y, v)
KERNEL(log_, x, 1.0f / v)
KERNEL(sqrt_, y, 0.5f / v)
KERNEL(reciprocal, y, -v * v)
KERNEL(erf_, x, 2.0f * ROOT_HALF * 2.0f * DENSITY * expf(-v * v))
KERNEL(sin_, x, cosf(v))
KERNEL(cos_, x, -sinf(v))
KERNEL(tanh_, y, 1.0f - v * v)
KERNEL(sigmoid, y, v * (1.0f - v))
KERNEL(softplus, x, sigmoid_of(v))
KERNEL(softsign, x, 1.0f / ((1.0f + fabsf(v)) * (1.0f + fabsf(v))))
KERNEL(leaky, x, v < 0 ? p : 1.0f)
KERNEL(elu, x, v < 0 ? p * expf(v) : 1.0f)
KERNEL(selu, x, v > 0 ? q : q * p * expf(v))
KERNEL(celu, x, v > 0 ? 1.0f : expf(v / p))
KERNEL(threshold, x, v > p ? 1.0f : 0.0f)
KERNEL(hard_sigmoid, x, p * v + q > 0 && p * v + q < 1 ? p : 0.0f)
KERNEL(hard_swish, x, v <= -3 ? 0.0f : v < 3 ? v / 3.0f + 0.5f : 1.0f)
KERNEL(mish, x, mish_slope(v))
KERNEL(gelu, x, gelu_slope(v))
KERNEL(gelu_tanh, x, gelu_tanh_slope(v))
KERNEL(quick_gelu, x, quick_gelu_slope(v, p))
KERNEL(clip, x, v < p || v > q ? 0.0f : 1.0f)

/* Into d_out when nobody else has it. */
static qn_code apply(qn_exec *x, qn_each_fn fn, const qn_array *in, const qn_array *out, const qn_array *d_out, double p, double q, qn_array *d_in,
                     qn_err *err)
{
    if (qn_array_is_only(d_out))
        qn_array_share(d_out, d_in);
    else
        QN_TRY(qn_grad_like(x, d_out, false, d_in, err));
    struct unary u = {.x = in->data, .y = out->data, .dy = d_out->data, .dx = d_in->data, .p = (float)p, .q = (float)q};
    return qn_grad_each(x, d_out->n, 4, fn, &u, err);
}

#define BACK(name)                                                                                                                       \
    qn_code qn_back_##name(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, \
                           qn_array *d_in, qn_err *err)
#define PLAIN(name, kernel)                                          \
    BACK(name)                                                       \
    {                                                                \
        (void)n;                                                     \
        (void)want;                                                  \
        return apply(x, kernel, in, out, d_out, 0, 0, d_in, err);    \
    }
/* With attributes and the defaults of the forward pass. */
#define WITH(name, kernel, a, da, b, db)                                                                                \
    BACK(name)                                                                                                          \
    {                                                                                                                   \
        (void)want;                                                                                                     \
        return apply(x, kernel, in, out, d_out, qn_node_float(n, a, da), qn_node_float(n, b, db), d_in, err);           \
    }
PLAIN(relu, relu)
PLAIN(abs, abs_)
PLAIN(neg, neg)
PLAIN(exp, exp_)
PLAIN(log, log_)
PLAIN(sqrt, sqrt_)
PLAIN(reciprocal, reciprocal)
PLAIN(erf, erf_)
PLAIN(sin, sin_)
PLAIN(cos, cos_)
PLAIN(tanh, tanh_)
PLAIN(sigmoid, sigmoid)
PLAIN(softplus, softplus)
PLAIN(softsign, softsign)
PLAIN(hard_swish, hard_swish)
PLAIN(mish, mish)
WITH(leaky_relu, leaky, "alpha", (double)0.01f, "", 0)
WITH(elu, elu, "alpha", 1, "", 0)
WITH(selu, selu, "alpha", 1.67326319217681884765625, "gamma", 1.05070102214813232421875)
WITH(celu, celu, "alpha", 1, "", 0)
WITH(thresholded_relu, threshold, "alpha", 1, "", 0)
WITH(hard_sigmoid, hard_sigmoid, "alpha", (double)0.2f, "beta", 0.5)
WITH(quick_gelu, quick_gelu, "alpha", 1.702, "", 0)

BACK(gelu)
{
    (void)want;
    const bool by_tanh = !strcmp(qn_node_string(n, "approximate", "none"), "tanh");
    return apply(x, by_tanh ? gelu_tanh : gelu, in, out, d_out, 0, 0, d_in, err);
}

/* Identity, Dropout, casts from float to float: what narrow floats lose has no derivative of its own. */
BACK(same)
{
    (void)x;
    (void)n;
    (void)in;
    (void)out;
    (void)want;
    (void)err;
    if (d_out[0].dtype != QN_BYTES)
        qn_array_share(&d_out[0], &d_in[0]);
    return QN_OK;
}

/* Clip: limits are attributes up to version 10, then inputs; their derivatives sum what they hold. */
BACK(clip)
{
    const bool has_least = qn_node_has(n, 1), has_most = qn_node_has(n, 2);
    const double least = has_least ? qn_elem_float(&in[1], 0) : qn_node_float(n, "min", -(double)INFINITY);
    const double most = has_most ? qn_elem_float(&in[2], 0) : qn_node_float(n, "max", (double)INFINITY);
    for (unsigned k = 1; k < n->n_in; k++) {
        if (!want[k])
            continue;
        QN_TRY(qn_grad_like(x, &in[k], true, &d_in[k], err));
        double sum = 0;
        for (uint64_t i = 0; i < in[0].n; i++) {
            const float v = ((const float *)in[0].data)[i];
            if (k == 1 ? v < (float)least : v > (float)most && !(v < (float)least))
                sum += (double)((const float *)d_out[0].data)[i];
        }
        *(float *)d_in[k].data = (float)sum;
    }
    return want[0] ? apply(x, clip, in, out, d_out, least, most, d_in, err) : QN_OK;
}

/* --- with a second operand ------------------------------------------------------------------------------------------------- */

struct prelu {
    const float *x, *slope, *dy;
    float *dx, *ds; /* NULL: not wanted; ds: of dy's shape, to be summed */
};

static qn_code prelu_run(void *ctx, const qn_walk *w, const int64_t *off, uint64_t at, uint64_t n, qn_err *err)
{
    (void)err;
    const struct prelu *p = ctx;
    const int64_t sx = w->strides[0][w->rank - 1], ss = w->strides[1][w->rank - 1];
    const float *x = p->x + off[0], *s = p->slope + off[1], *dy = p->dy + at;
    if (p->dx)
        for (uint64_t i = 0; i < n; i++)
            p->dx[at + i] = x[(int64_t)i * sx] < 0 ? dy[i] * s[(int64_t)i * ss] : dy[i];
    if (p->ds)
        for (uint64_t i = 0; i < n; i++)
            p->ds[at + i] = x[(int64_t)i * sx] < 0 ? dy[i] * x[(int64_t)i * sx] : 0;
    return QN_OK;
}

/* Sums of a full derivative over what was repeated; takes the full one. */
static qn_code give_reduced(qn_exec *x, qn_array *full, const qn_array *like, const qn_array *shape, qn_array *d_in, qn_err *err)
{
    qn_array r = {0};
    qn_code rc = qn_grad_reduce(x, full, NULL, like, &r, err);
    qn_array_release(full);
    if (rc == QN_OK)
        rc = qn_array_view(&r, d_in, shape->dims, shape->rank, err);
    qn_array_release(&r);
    return rc;
}

BACK(prelu)
{
    (void)out;
    qn_array slope = in[1], dx = {0}, ds = {0};
    if (n->version < 7 && slope.rank == 1)
        while (slope.rank + 1u < in[0].rank)
            slope.dims[slope.rank++] = 1;
    qn_code rc = want[0] ? qn_grad_like(x, &d_out[0], false, &dx, err) : QN_OK;
    if (rc == QN_OK && want[1])
        rc = qn_grad_like(x, &d_out[0], false, &ds, err);
    const qn_array *ops[] = {&in[0], &slope};
    qn_walk w;
    qn_walk_init(&w, d_out[0].dims, d_out[0].rank, ops, 2);
    struct prelu p = {.x = in[0].data, .slope = slope.data, .dy = d_out[0].data, .dx = dx.data, .ds = ds.data};
    if (rc == QN_OK)
        rc = qn_walk_run(x, &w, prelu_run, &p, err);
    if (rc == QN_OK && want[0])
        rc = give_reduced(x, &dx, &in[0], &in[0], &d_in[0], err);
    if (rc == QN_OK && want[1])
        rc = give_reduced(x, &ds, &slope, &in[1], &d_in[1], err);
    qn_array_release(&dx);
    qn_array_release(&ds);
    return rc;
}

/* com.microsoft: Gelu of a sum. */
static qn_code biased(qn_exec *x, const qn_node *n, qn_each_fn fn, const qn_array *in, const qn_array *d_out, const bool *want, qn_array *d_in,
                      qn_err *err)
{
    const bool both = qn_node_has(n, 1);
    qn_array sum, d = {0};
    qn_array_share(&in[0], &sum);
    if (both) {
        qn_node add = *n; /* no node of the graph: nothing of it may be written */
        qn_array s = {0};
        add.n_in = 0;
        qn_array_release(&sum);
        QN_TRY(qn_onnx_add(x, &add, in, &s, err));
        sum = s;
    }
    qn_code rc = apply(x, fn, &sum, &sum, d_out, 0, 0, &d, err);
    for (unsigned i = 0; i < 2 && rc == QN_OK; i++)
        if (i < n->n_in && want[i])
            rc = qn_grad_reduce(x, &d, NULL, &in[i], &d_in[i], err);
    qn_array_release(&sum);
    qn_array_release(&d);
    return rc;
}

BACK(bias_gelu)
{
    (void)out;
    return biased(x, n, gelu, in, d_out, want, d_in, err);
}

BACK(fast_gelu)
{
    (void)out;
    return biased(x, n, gelu_tanh, in, d_out, want, d_in, err);
}
