/* grad_onnx_binary.c: operators of several operands with broadcasting: the derivative in the shape of the result first, then summed over what was
 * repeated. */
#include "analysis/grad/backs.h"
#include <math.h>
#include <string.h>

#define BACK(name)                                                                                                                       \
    qn_code qn_back_##name(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, \
                           qn_array *d_in, qn_err *err)

/* o[i] from the operands and the derivative d[i] of the result; a step of 0 repeats the operand's one element. */
typedef void (*partial_fn)(const float *a, int64_t sa, const float *b, int64_t sb, const float *d, float *o, uint64_t n);

#define PARTIAL(name, expr)                                                                                            \
    static void name(const float *a, int64_t sa, const float *b, int64_t sb, const float *d, float *o, uint64_t n)     \
    {                                                                                                                  \
        if (sa == 1 && sb == 1)                                                                                        \
            for (uint64_t i = 0; i < n; i++) {                                                                         \
                const float u = a[i], v = b[i], g = d[i];                                                              \
                (void)u;                                                                                               \
                (void)v;                                                                                               \
                o[i] = (expr);                                                                                         \
            }                                                                                                          \
        else                                                                                                           \
            for (uint64_t i = 0; i < n; i++) {                                                                         \
                const float u = a[(int64_t)i * sa], v = b[(int64_t)i * sb], g = d[i];                                  \
                (void)u;                                                                                               \
                (void)v;                                                                                               \
                o[i] = (expr);                                                                                         \
            }                                                                                                          \
    }

/* of the first operand u, of the second v */
PARTIAL(mul_u, g * v)
PARTIAL(mul_v, g * u)
PARTIAL(div_u, g / v)
PARTIAL(div_v, -g * u / (v * v))
PARTIAL(pow_u, v == 2.0f ? g * 2.0f * u : v == 0 ? 0 : g * v * powf(u, v - 1.0f))
PARTIAL(pow_v, u > 0 ? g * powf(u, v) * logf(u) : 0)

struct call {
    partial_fn fn;
    const float *a, *b, *d;
    float *o;
};

static qn_code run(void *ctx, const qn_walk *w, const int64_t *off, uint64_t at, uint64_t n, qn_err *err)
{
    (void)err;
    const struct call *c = ctx;
    c->fn(c->a + off[0], w->strides[0][w->rank - 1], c->b + off[1], w->strides[1][w->rank - 1], c->d + at, c->o + at, n);
    return QN_OK;
}

static qn_code partial(qn_exec *x, partial_fn fn, const qn_array *a, const qn_array *b, const qn_array *d, const qn_array *like, qn_array *d_in,
                       qn_err *err)
{
    qn_array full;
    const qn_array *ops[] = {a, b};
    qn_walk w;
    QN_TRY(qn_grad_like(x, d, false, &full, err));
    qn_walk_init(&w, d->dims, d->rank, ops, 2);
    struct call c = {.fn = fn, .a = a->data, .b = b->data, .d = d->data, .o = full.data};
    qn_code rc = qn_walk_run(x, &w, run, &c, err);
    if (rc == QN_OK)
        rc = qn_grad_reduce(x, &full, NULL, like, d_in, err);
    qn_array_release(&full);
    return rc;
}

static qn_code two(qn_exec *x, partial_fn of_a, partial_fn of_b, const qn_array *in, const qn_array *d, const bool *want, qn_array *d_in, qn_err *err)
{
    if (want[0])
        QN_TRY(partial(x, of_a, &in[0], &in[1], d, &in[0], &d_in[0], err));
    if (want[1])
        QN_TRY(partial(x, of_b, &in[0], &in[1], d, &in[1], &d_in[1], err));
    return QN_OK;
}

/* A product's sum needs no room for the products when the other operand is not repeated. */
BACK(mul)
{
    (void)n;
    (void)out;
    for (unsigned i = 0; i < 2; i++) {
        const qn_array *other = &in[1 - i];
        if (!want[i])
            continue;
        if (in[i].n < d_out[0].n && other->n == d_out[0].n)
            QN_TRY(qn_grad_reduce(x, &d_out[0], other->data, &in[i], &d_in[i], err));
        else
            QN_TRY(partial(x, i ? mul_v : mul_u, &in[0], &in[1], &d_out[0], &in[i], &d_in[i], err));
    }
    return QN_OK;
}

BACK(div)
{
    (void)n;
    (void)out;
    return two(x, div_u, div_v, in, d_out, want, d_in, err);
}

/* The exponent may be of another dtype: it is read as f32. */
BACK(pow)
{
    (void)n;
    (void)out;
    if (in[1].dtype == QN_F32)
        return two(x, pow_u, pow_v, in, d_out, want, d_in, err);
    qn_array both[2] = {in[0], {0}};
    QN_TRY(qn_grad_like(x, &in[1], false, &both[1], err));
    qn_code rc = qn_convert(in[1].dtype, in[1].data, QN_F32, both[1].data, in[1].n, err);
    if (rc == QN_OK)
        rc = two(x, pow_u, pow_v, both, d_out, want, d_in, err);
    qn_array_release(&both[1]);
    return rc;
}

/* --- sums: no operand's value is read ---------------------------------------------------------------------------------------- */

struct scale {
    const float *d;
    float *o, by;
};

static void scale_piece(void *ctx, uint64_t from, uint64_t to)
{
    const struct scale *s = ctx;
    for (uint64_t i = from; i < to; i++)
        s->o[i] = s->d[i] * s->by;
}

static qn_code scaled(qn_exec *x, const qn_array *d, float by, qn_array *out, qn_err *err)
{
    QN_TRY(qn_grad_like(x, d, false, out, err));
    struct scale s = {.d = d->data, .o = out->data, .by = by};
    return qn_grad_each(x, d->n, 1, scale_piece, &s, err);
}

/* Add, Sum */
BACK(sum)
{
    (void)out;
    for (unsigned i = 0; i < n->n_in; i++)
        if (want[i])
            QN_TRY(qn_grad_reduce(x, &d_out[0], NULL, &in[i], &d_in[i], err));
    return QN_OK;
}

BACK(mean)
{
    qn_array d;
    QN_TRY(scaled(x, &d_out[0], 1.0f / (float)n->n_in, &d, err));
    const qn_code rc = qn_back_sum(x, n, in, out, &d, want, d_in, err);
    qn_array_release(&d);
    return rc;
}

BACK(sub)
{
    (void)n;
    (void)out;
    qn_array d = {0};
    qn_code rc = QN_OK;
    if (want[0])
        rc = qn_grad_reduce(x, &d_out[0], NULL, &in[0], &d_in[0], err);
    if (rc == QN_OK && want[1])
        rc = scaled(x, &d_out[0], -1, &d, err);
    if (rc == QN_OK && want[1])
        rc = qn_grad_reduce(x, &d, NULL, &in[1], &d_in[1], err);
    qn_array_release(&d);
    return rc;
}

/* --- choices ------------------------------------------------------------------------------------------------------------------ */

struct choice {
    const float *v, *y;
    float *rest, *o;
};

/* What is still to be given away goes to the operand whose value stands in the result. */
static qn_code take(void *ctx, const qn_walk *w, const int64_t *off, uint64_t at, uint64_t n, qn_err *err)
{
    (void)err;
    const struct choice *c = ctx;
    const int64_t s = w->strides[0][w->rank - 1];
    const float *v = c->v + off[0], *y = c->y + at;
    float *rest = c->rest + at, *o = c->o + at;
    for (uint64_t i = 0; i < n; i++) {
        const bool mine = v[(int64_t)i * s] == y[i];
        o[i] = mine ? rest[i] : 0;
        rest[i] = mine ? 0 : rest[i];
    }
    return QN_OK;
}

/* Max, Min: of equal operands the last counts, as the forward pass has it. */
BACK(extreme)
{
    qn_array rest, full = {0};
    QN_TRY(qn_grad_like(x, &d_out[0], false, &rest, err));
    if (rest.n)
        memcpy(rest.data, d_out[0].data, qn_array_bytes(&rest));
    qn_code rc = qn_grad_like(x, &d_out[0], false, &full, err);
    for (unsigned i = n->n_in; i-- > 0 && rc == QN_OK;) {
        const qn_array *ops[] = {&in[i]};
        qn_walk w;
        qn_walk_init(&w, out[0].dims, out[0].rank, ops, 1);
        struct choice c = {.v = in[i].data, .y = out[0].data, .rest = rest.data, .o = full.data};
        rc = qn_walk_run(x, &w, take, &c, err);
        if (rc == QN_OK && want[i])
            rc = qn_grad_reduce(x, &full, NULL, &in[i], &d_in[i], err);
        if (rc == QN_OK && want[i] && !qn_array_is_only(&full)) { /* it has become the derivative itself */
            qn_array_release(&full);
            rc = qn_grad_like(x, &d_out[0], false, &full, err);
        }
    }
    qn_array_release(&rest);
    qn_array_release(&full);
    return rc;
}

struct where {
    const uint8_t *cond;
    const float *d;
    float *o;
    bool truth;
};

static qn_code where_run(void *ctx, const qn_walk *w, const int64_t *off, uint64_t at, uint64_t n, qn_err *err)
{
    (void)err;
    const struct where *p = ctx;
    const int64_t s = w->strides[0][w->rank - 1];
    for (uint64_t i = 0; i < n; i++)
        p->o[at + i] = (p->cond[off[0] + (int64_t)i * s] != 0) == p->truth ? p->d[at + i] : 0;
    return QN_OK;
}

BACK(where)
{
    (void)n;
    (void)out;
    for (unsigned i = 1; i < 3; i++) {
        if (!want[i])
            continue;
        qn_array full;
        const qn_array *ops[] = {&in[0]};
        qn_walk w;
        QN_TRY(qn_grad_like(x, &d_out[0], false, &full, err));
        qn_walk_init(&w, d_out[0].dims, d_out[0].rank, ops, 1);
        struct where p = {.cond = in[0].data, .d = d_out[0].data, .o = full.data, .truth = i == 1};
        qn_code rc = qn_walk_run(x, &w, where_run, &p, err);
        if (rc == QN_OK)
            rc = qn_grad_reduce(x, &full, NULL, &in[i], &d_in[i], err);
        qn_array_release(&full);
        QN_TRY(rc);
    }
    return QN_OK;
}
