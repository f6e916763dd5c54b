/* grad_onnx_reduce.c: Reduce…: what a result's derivative means for each element that went into it. */
#include "analysis/exec/onnx_help.h"
#include "analysis/grad/backs.h"
#include <math.h>
#include <string.h>

typedef enum reduce_kind { SUM, EXTREME, L1, L2, SQUARES, LOG_SUM, LOG_SUM_EXP } reduce_kind;

typedef struct reduce {
    reduce_kind kind;
    float scale;
    const float *x, *y, *dy;
    float *dx;
} reduce;

#define LOOP(expr)                                                                  \
    for (uint64_t i = 0; i < n; i++) {                                              \
        const float v = x ? x[i] : 0, u = y ? y[(int64_t)i * s] : 0, g = dy[(int64_t)i * s]; \
        (void)v;                                                                    \
        (void)u;                                                                    \
        dx[i] = (expr);                                                             \
    }                                                                               \
    break

static qn_code run(void *ctx, const qn_walk *w, const int64_t *off, uint64_t at, uint64_t n, qn_err *err)
{
    (void)err;
    const reduce *r = ctx;
    const int64_t s = w->strides[0][w->rank - 1];
    const float *x = r->x ? r->x + at : NULL, *y = r->y ? r->y + off[0] : NULL, *dy = r->dy + off[0];
    const float scale = r->scale;
    float *dx = r->dx + at;
    switch (r->kind) {
    case SUM: LOOP(g * scale);
    case L1: LOOP(v > 0 ? g : v < 0 ? -g : 0);
    case L2: LOOP(u > 0 ? g * v / u : 0);
    case SQUARES: LOOP(2.0f * g * v);
    case LOG_SUM: LOOP(g * expf(-u));
    case LOG_SUM_EXP: LOOP(g * expf(v - u));
    case EXTREME: break;
    }
    return QN_OK;
}

/* ReduceMax, ReduceMin: to the first element that holds the result. Serial: which is first is known in order only. */
static void to_first(const qn_walk *w, const float *x, const float *y, const float *dy, uint64_t n, bool *taken, float *dx)
{
    uint64_t index[QN_ARRAY_RANK_MAX] = {0};
    int64_t off = 0;
    for (uint64_t i = 0; i < n; i++) {
        const bool mine = x[i] == y[off] && !taken[off];
        dx[i] = mine ? dy[off] : 0;
        taken[off] = taken[off] || mine;
        for (unsigned k = w->rank; k-- > 0;) {
            off += w->strides[0][k];
            if (++index[k] < w->dims[k])
                break;
            off -= w->strides[0][k] * (int64_t)w->dims[k];
            index[k] = 0;
        }
    }
}

static qn_code back(qn_exec *x, const qn_node *n, reduce_kind kind, bool mean, const qn_array *in, const qn_array *out, const qn_array *d_out, qn_array *d_in,
                    qn_err *err)
{
    uint32_t mask;
    bool known;
    qn_info info[2] = {{.rank = in->rank, .dtype = in->dtype}};
    memcpy(info[0].dims, in->dims, sizeof in->dims);
    if (qn_node_has(n, 1))
        info[1].value = info[1].partly = &in[1];
    QN_TRY(qn_onnx_reduce_axes(n, info, &mask, &known, err));
    QN_TRY(qn_grad_like(x, &in[0], false, &d_in[0], err));
    if (!in[0].n)
        return QN_OK;
    qn_array kept = {.rank = in->rank};
    for (unsigned k = 0; k < in->rank; k++)
        kept.dims[k] = mask >> k & 1 ? 1 : in->dims[k];
    const qn_array *ops[] = {&kept};
    qn_walk w;
    qn_walk_init(&w, in->dims, in->rank, ops, 1);
    reduce r = {.kind = kind, .scale = mean ? (float)((double)d_out->n / (double)in->n) : 1, .x = in->data, .y = out->data, .dy = d_out->data,
                .dx = d_in->data};
    if (kind != EXTREME)
        return qn_walk_run(x, &w, run, &r, err);
    bool *taken = qn_mem_zeros(qn_exec_env(x)->alloc, out->n + 1, sizeof *taken, err);
    if (!taken)
        return QN_E_MEMORY;
    to_first(&w, r.x, r.y, r.dy, in->n, taken, r.dx);
    qn_mem_put(qn_exec_env(x)->alloc, taken);
    return QN_OK;
}

#define BACK(name, kind, mean)                                                                                                           \
    qn_code qn_back_##name(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, \
                           qn_array *d_in, qn_err *err)                                                                                  \
    {                                                                                                                                    \
        (void)want;                                                                                                                      \
        return back(x, n, kind, mean, in, out, d_out, d_in, err);                                                                        \
    }
BACK(reduce_sum, SUM, false)
BACK(reduce_mean, SUM, true)
BACK(reduce_extreme, EXTREME, false)
BACK(reduce_l1, L1, false)
BACK(reduce_l2, L2, false)
BACK(reduce_sum_square, SQUARES, false)
BACK(reduce_log_sum, LOG_SUM, false)
BACK(reduce_log_sum_exp, LOG_SUM_EXP, false)
