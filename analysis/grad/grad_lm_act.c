/* grad_lm_act.c: derivatives of what is done element by element: Act, Gated, Scale, Softcap, Add, Mul. Where the second operand is one row or one
 * column for all, its derivative is summed over what it was spread to. */
#include "analysis/exec/lm_parts.h"
#include "analysis/grad/grad_lm.h"
#include "base/err.h"
#include <string.h>

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
    QN_TRY(qn_lm_back_new(x, like, d_in, err));
    w->y = d_in->data;
    w->n = (uint64_t)like->dims[like->rank - 1];
    return qn_lm_each_row(x, w->n ? like->n / w->n : 0, w->n * cost, fn, w, err);
}

qn_code qn_act_back(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, qn_array *d_in,
                    qn_err *err)
{
    (void)out;
    struct work w = {.x = in[0].data, .d = d_out[0].data};
    QN_TRY(qn_lm_act_find(n, &w.act, err));
    return want[0] ? run(x, in, &w, 24, rows_act, d_in, err) : QN_OK;
}

qn_code qn_gated_back(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, qn_array *d_in,
                      qn_err *err)
{
    (void)out;
    struct work w = {.x = in[0].data, .u = in[1].data, .d = d_out[0].data};
    QN_TRY(qn_lm_act_find(n, &w.act, err));
    if (want[0])
        QN_TRY(run(x, in, &w, 24, rows_gate, d_in, err));
    return want[1] ? run(x, in, &w, 16, rows_up, d_in + 1, err) : QN_OK;
}

qn_code qn_scale_back(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, qn_array *d_in,
                      qn_err *err)
{
    (void)out;
    struct work w = {.d = d_out[0].data, .by = (float)qn_node_float(n, "by", 1)};
    return want[0] ? run(x, in, &w, 1, rows_scale, d_in, err) : QN_OK;
}

qn_code qn_softcap_back(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, qn_array *d_in,
                        qn_err *err)
{
    struct work w = {.x = out[0].data, .d = d_out[0].data, .by = (float)qn_node_float(n, "cap", 0)};
    return want[0] ? run(x, in, &w, 2, rows_softcap, d_in, err) : QN_OK;
}

/* --- sums and products ----------------------------------------------------------------------------------------------- */

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

/* y (rows): Σ over a row of d · u; u NULL: of d. */
static void rows_sum(const void *ctx, uint64_t first, uint64_t n)
{
    const struct pair *p = ctx;
    for (uint64_t r = first; r < first + n; r++) {
        double sum = 0;
        for (uint64_t i = 0; i < p->n; i++)
            sum += (double)p->d[r * p->n + i] * (p->u ? (double)p->u[r * p->n + i] : 1.0);
        p->y[r] = (float)sum;
    }
}

static qn_code back_pair(qn_exec *x, const qn_array *in, const qn_array *d_out, const bool *want, qn_array *d_in, bool mul, qn_err *err)
{
    const uint64_t n = (uint64_t)in[0].dims[in[0].rank - 1], rows = n ? in[0].n / n : 0;
    const bool same = in[0].rank == in[1].rank && !memcmp(in[0].dims, in[1].dims, in[0].rank * sizeof in[0].dims[0]);
    const bool one_row = !same && in[1].rank == 1 && in[1].n == n;
    struct pair p = {.d = d_out[0].data, .n = n};
    if (want[0]) {
        QN_TRY(qn_lm_back_new(x, &in[0], &d_in[0], err));
        p.y = d_in[0].data;
        p.u = in[1].data;
        p.step_row = same ? n : one_row ? 0 : 1;
        p.step = same || one_row;
        if (mul)
            QN_TRY(qn_lm_each_row(x, rows, n, rows_times, &p, err));
        else
            memcpy(p.y, p.d, qn_array_bytes(&d_in[0]));
    }
    if (!want[1])
        return QN_OK;
    QN_TRY(qn_lm_back_new(x, &in[1], &d_in[1], err));
    p.y = d_in[1].data;
    p.u = mul ? in[0].data : NULL;
    p.step_row = n;
    p.step = 1;
    if (one_row)
        return qn_lm_column_sums(x, p.d, p.u, rows, n, p.y, err);
    if (!same)
        return qn_lm_each_row(x, rows, n, rows_sum, &p, err);
    if (mul)
        return qn_lm_each_row(x, rows, n, rows_times, &p, err);
    memcpy(p.y, p.d, qn_array_bytes(&d_in[1]));
    return QN_OK;
}

qn_code qn_add_back(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, qn_array *d_in,
                    qn_err *err)
{
    (void)n;
    (void)out;
    return back_pair(x, in, d_out, want, d_in, false, err);
}

qn_code qn_mul_back(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, qn_array *d_in,
                    qn_err *err)
{
    (void)n;
    (void)out;
    return back_pair(x, in, d_out, want, d_in, true, err);
}
