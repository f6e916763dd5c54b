/* grad_lm_act.c: derivatives of what is done element by element: Act, Gated, Scale, Softcap, Add, Mul. Where the second operand is one row or one
 * column for all, its derivative is summed over what it was spread to. */
#include "analysis/exec/lm_parts.h"
#include "analysis/grad/backs.h"
#include "base/err.h"

struct work {
    const float *x, *u, *d;
    float *y, by;
    uint64_t n; /* of a row */
    const qn_lm_act *act;
};

static void rows_act(const void *ctx, uint64_t first, uint64_t n)
{
    const struct work *w = ctx;
    w->act->back(w->x + first * w->n, w->d + first * w->n, w->y + first * w->n, n * w->n);
}

static void rows_gate(const void *ctx, uint64_t first, uint64_t n)
{
    const struct work *w = ctx;
    for (uint64_t i = first * w->n; i < (first + n) * w->n; i++)
        w->y[i] = w->d[i] * w->u[i];
    w->act->back(w->x + first * w->n, w->y + first * w->n, w->y + first * w->n, n * w->n);
}

static void rows_up(const void *ctx, uint64_t first, uint64_t n)
{
    const struct work *w = ctx;
    w->act->gated(w->x + first * w->n, w->d + first * w->n, w->y + first * w->n, n * w->n);
}

static void rows_scale(const void *ctx, uint64_t first, uint64_t n)
{
    const struct work *w = ctx;
    for (uint64_t i = first * w->n; i < (first + n) * w->n; i++)
        w->y[i] = w->d[i] * w->by;
}

/* From y = cap · tanh(x / cap): dx = (1 − (y / cap)²) dy. */
static void rows_softcap(const void *ctx, uint64_t first, uint64_t n)
{
    const struct work *w = ctx;
    const float inverse = 1.0f / w->by;
    for (uint64_t i = first * w->n; i < (first + n) * w->n; i++)
        w->y[i] = (1.0f - (w->x[i] * inverse) * (w->x[i] * inverse)) * w->d[i];
}

static qn_code run(qn_exec *x, const qn_array *like, struct work *w, unsigned cost, void (*fn)(const void *ctx, uint64_t first, uint64_t n), qn_array *d_in,
                   qn_err *err)
{
    QN_TRY(qn_grad_like(x, like, false, d_in, err));
    w->y = d_in->data;
    w->n = (uint64_t)like->dims[like->rank - 1];
    return qn_lm_each_row(x, w->n ? like->n / w->n : 0, w->n * cost, fn, w, err);
}

qn_code qn_back_lm_act(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                       qn_array *d_in, qn_err *err)
{
    (void)out;
    struct work w = {.x = in[0].data, .d = d_out[0].data};
    QN_TRY(qn_lm_act_find(n, &w.act, err));
    return want[0] ? run(x, in, &w, 24, rows_act, d_in, err) : QN_OK;
}

qn_code qn_back_lm_gated(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                         qn_array *d_in, qn_err *err)
{
    (void)out;
    struct work w = {.x = in[0].data, .u = in[1].data, .d = d_out[0].data};
    QN_TRY(qn_lm_act_find(n, &w.act, err));
    if (want[0])
        QN_TRY(run(x, in, &w, 24, rows_gate, d_in, err));
    return want[1] ? run(x, in, &w, 16, rows_up, d_in + 1, err) : QN_OK;
}

qn_code qn_back_lm_scale(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                         qn_array *d_in, qn_err *err)
{
    (void)out;
    struct work w = {.d = d_out[0].data, .by = (float)qn_node_float(n, "by", 1)};
    return want[0] ? run(x, in, &w, 1, rows_scale, d_in, err) : QN_OK;
}

qn_code qn_back_lm_softcap(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                           qn_array *d_in, qn_err *err)
{
    struct work w = {.x = out[0].data, .d = d_out[0].data, .by = (float)qn_node_float(n, "cap", 0)};
    return want[0] ? run(x, in, &w, 2, rows_softcap, d_in, err) : QN_OK;
}

/* --- sums and products ----------------------------------------------------------------------------------------------- */

/* dx of x · u = dy · u, u of x's shape, one row, or one column. */
struct pair {
    const float *d, *u;
    float *y;
    uint64_t n, step_row, step; /* u moves by step_row a row and step a value, as in the forward pass */
};

static void rows_times(const void *ctx, uint64_t first, uint64_t n)
{
    const struct pair *p = ctx;
    for (uint64_t r = first; r < first + n; r++)
        for (uint64_t i = 0; i < p->n; i++)
            p->y[r * p->n + i] = p->d[r * p->n + i] * p->u[r * p->step_row + i * p->step];
}

qn_code qn_back_lm_add(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, qn_array *d_in,
                       qn_err *err)
{
    (void)n;
    (void)out;
    if (want[0])
        qn_array_share(&d_out[0], &d_in[0]);
    return want[1] ? qn_grad_reduce(x, &d_out[0], NULL, &in[1], &d_in[1], err) : QN_OK;
}

qn_code qn_back_lm_mul(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, qn_array *d_in,
                       qn_err *err)
{
    (void)n;
    (void)out;
    const uint64_t cols = (uint64_t)in[0].dims[in[0].rank - 1], rows = cols ? in[0].n / cols : 0;
    const bool same = in[0].n == in[1].n && in[0].rank == in[1].rank, one_row = !same && in[1].rank == 1 && in[1].n == cols;
    if (want[0]) {
        QN_TRY(qn_grad_like(x, &in[0], false, &d_in[0], err));
        const struct pair p = {.d = d_out[0].data, .u = in[1].data, .y = d_in[0].data, .n = cols, .step_row = same ? cols : one_row ? 0 : 1,
                               .step = same || one_row};
        QN_TRY(qn_lm_each_row(x, rows, cols, rows_times, &p, err));
    }
    return want[1] ? qn_grad_reduce(x, &d_out[0], in[0].data, &in[1], &d_in[1], err) : QN_OK;
}
