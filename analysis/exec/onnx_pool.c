/* onnx_pool.c: MaxPool, AveragePool, LpPool and their global forms.  X: (N, C, …in) → Y: (N, C, …out).
 * Sums run over the window row by row, in f64 of an f32 input: one order, whatever the threads. */
#include "analysis/exec/onnx_window.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef enum pool_kind { POOL_MAX, POOL_AVERAGE, POOL_LP } pool_kind;

typedef struct pool {
    qn_window win;
    pool_kind kind;
    bool count_pads, by_columns; /* by_columns: indices count the last two axes in the other order */
    double p;
    uint64_t n_in, n_out;
    const qn_array *x;
    void *y;
    int64_t *where; /* MaxPool's second output, or NULL */
} pool;

static qn_code read_window(pool *p, const qn_node *n, unsigned rank, const int64_t *dims, bool global, qn_err *err)
{
    if (rank < 3 && !(global && rank >= 2))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "pooling of a tensor of rank %u; at least 3 is needed", rank);
    if (!global)
        return qn_window_init(&p->win, n, rank - 2, dims + 2, NULL, true, err);
    /* One window over everything: only its size matters. */
    int64_t all = 1;
    bool unknown = false;
    for (unsigned i = 2; i < rank; i++) {
        unknown = unknown || dims[i] < 0;
        if (!unknown && __builtin_mul_overflow(all, dims[i], &all))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "pooling of a tensor whose size does not fit into memory");
    }
    p->win = (qn_window){.n_axes = 1, .in = {1, 1, all}, .out = {1, 1, 1}, .kernel = {1, 1, all}, .stride = {1, 1, 1},
                         .dilation = {1, 1, 1}};
    return QN_OK;
}

static qn_code pool_shape(const qn_node *n, const qn_info *in, qn_info *out, bool global, qn_err *err)
{
    pool p = {0};
    if (in[0].rank == QN_RANK_UNKNOWN)
        return QN_OK;
    QN_TRY(read_window(&p, n, in[0].rank, in[0].dims, global, err));
    for (unsigned o = 0; o < n->n_out && o < 2; o++) {
        qn_info_set(&out[o], o ? QN_I64 : in[0].dtype, in[0].dims, in[0].rank);
        for (unsigned i = 2; i < in[0].rank; i++)
            out[o].dims[i] = global ? 1 : p.win.out[3 - p.win.n_axes + i - 2];
    }
    return QN_OK;
}

qn_code qn_onnx_pool_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    return pool_shape(n, in, out, false, err);
}

qn_code qn_onnx_global_pool_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    return pool_shape(n, in, out, true, err);
}

/* Of the window at (od, oh, ow): where it begins and which taps lie inside. */
typedef struct spot {
    int64_t at[3], first[3], last[3];
} spot;

static inline void spot_axis(const qn_window *w, spot *s, unsigned axis, int64_t o)
{
    s->at[axis] = o * w->stride[axis] - w->pad[axis];
    qn_window_inside(w, axis, o, &s->first[axis], &s->last[axis]);
}

/* What each dtype's largest value is looked for with: X is the element type, NONE less than all others. The first of equal
 * ones counts; a NaN never wins (as the specification's reference has it, where `>` decides). */
#define MAX_OF(NAME, X, NONE)                                                                              \
    static X NAME(const qn_window *w, const spot *s, const X *x, int64_t *best)                             \
    {                                                                                                      \
        X most = NONE;                                                                                     \
        *best = -1;                                                                                        \
        for (int64_t d = s->first[0]; d < s->last[0]; d++)                                                 \
            for (int64_t h = s->first[1]; h < s->last[1]; h++) {                                           \
                const int64_t row = ((s->at[0] + d * w->dilation[0]) * w->in[1] + s->at[1] + h * w->dilation[1]) * w->in[2]; \
                for (int64_t k = s->first[2]; k < s->last[2]; k++) {                                       \
                    const int64_t i = row + s->at[2] + k * w->dilation[2];                                 \
                    if (x[i] > most || *best < 0) {                                                        \
                        most = x[i];                                                                       \
                        *best = i;                                                                         \
                    }                                                                                      \
                }                                                                                          \
            }                                                                                              \
        return most;                                                                                       \
    }
MAX_OF(max_f32, float, -INFINITY)
MAX_OF(max_f64, double, -(double)INFINITY)
MAX_OF(max_i8, int8_t, INT8_MIN)
MAX_OF(max_u8, uint8_t, 0)

static void max_at(const pool *p, const spot *s, uint64_t plane, uint64_t o)
{
    int64_t best;
    const uint64_t from = plane * p->n_in, to = plane * p->n_out + o;
    switch (p->x->dtype) {
    case QN_F32: ((float *)p->y)[to] = max_f32(&p->win, s, (const float *)p->x->data + from, &best); break;
    case QN_F64: ((double *)p->y)[to] = max_f64(&p->win, s, (const double *)p->x->data + from, &best); break;
    case QN_I8: ((int8_t *)p->y)[to] = max_i8(&p->win, s, (const int8_t *)p->x->data + from, &best); break;
    default: ((uint8_t *)p->y)[to] = max_u8(&p->win, s, (const uint8_t *)p->x->data + from, &best); break;
    }
    if (!p->where)
        return;
    if (p->by_columns && best >= 0) {
        const int64_t w = best % p->win.in[2], rest = best / p->win.in[2], h = rest % p->win.in[1], d = rest / p->win.in[1];
        best = (d * p->win.in[2] + w) * p->win.in[1] + h;
    }
    p->where[to] = best < 0 ? best : best + (int64_t)from;
}

static double sum_at(const pool *p, const spot *s, uint64_t plane)
{
    const qn_window *w = &p->win;
    double sum = 0, n = 0;
    for (int64_t d = s->first[0]; d < s->last[0]; d++)
        for (int64_t h = s->first[1]; h < s->last[1]; h++) {
            const int64_t row = ((s->at[0] + d * w->dilation[0]) * w->in[1] + s->at[1] + h * w->dilation[1]) * w->in[2];
            for (int64_t k = s->first[2]; k < s->last[2]; k++) {
                const uint64_t i = plane * p->n_in + (uint64_t)(row + s->at[2] + k * w->dilation[2]);
                const double v = p->x->dtype == QN_F32 ? (double)((const float *)p->x->data)[i] : ((const double *)p->x->data)[i];
                sum += p->kind == POOL_AVERAGE ? v : p->p == 2 ? v * v : p->p == 1 ? fabs(v) : pow(fabs(v), p->p);
            }
            n += (double)(s->last[2] - s->first[2]);
        }
    if (p->kind == POOL_LP)
        return p->p == 2 ? sqrt(sum) : p->p == 1 ? sum : pow(sum, 1 / p->p);
    return sum / (p->count_pads ? qn_window_covered(w, s->at) : n);
}

static qn_code pool_plane(void *ctx, uint64_t plane, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const pool *p = ctx;
    spot s;
    uint64_t o = 0;
    for (int64_t d = 0; d < p->win.out[0]; d++) {
        spot_axis(&p->win, &s, 0, d);
        for (int64_t h = 0; h < p->win.out[1]; h++) {
            spot_axis(&p->win, &s, 1, h);
            for (int64_t w = 0; w < p->win.out[2]; w++, o++) {
                spot_axis(&p->win, &s, 2, w);
                if (p->kind == POOL_MAX)
                    max_at(p, &s, plane, o);
                else if (p->x->dtype == QN_F32)
                    ((float *)p->y)[plane * p->n_out + o] = (float)sum_at(p, &s, plane);
                else
                    ((double *)p->y)[plane * p->n_out + o] = sum_at(p, &s, plane);
            }
        }
    }
    return QN_OK;
}

static qn_code run(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, pool *p, bool global, qn_err *err)
{
    char text[128];
    const bool bytes = in[0].dtype == QN_I8 || in[0].dtype == QN_U8;
    if (in[0].dtype != QN_F32 && in[0].dtype != QN_F64 && !(bytes && p->kind == POOL_MAX))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "pooling of %s; floats are needed", qn_array_text(&in[0], text));
    QN_TRY(read_window(p, n, in[0].rank, in[0].dims, global, err));
    int64_t dims[QN_ARRAY_RANK_MAX];
    for (unsigned i = 0; i < in[0].rank; i++)
        dims[i] = i < 2 ? in[0].dims[i] : global ? 1 : p->win.out[3 - p->win.n_axes + i - 2];
    QN_TRY(qn_exec_new(x, &out[0], (qn_dtype)in[0].dtype, dims, in[0].rank, err));
    if (p->kind == POOL_MAX && qn_onnx_wants(n, 1)) {
        QN_TRY(qn_exec_new(x, &out[1], QN_I64, dims, in[0].rank, err));
        p->where = out[1].data;
    }
    if (!out[0].n)
        return QN_OK;
    if (!in[0].n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "pooling of %s, which is empty", qn_array_text(&in[0], text));
    p->x = &in[0];
    p->y = out[0].data;
    p->n_in = qn_window_in(&p->win);
    p->n_out = qn_window_out(&p->win);
    p->by_columns = qn_node_int(n, "storage_order", 0) == 1;
    const uint64_t planes = (uint64_t)dims[0] * (uint64_t)dims[1];
    return qn_exec_parts(x, planes, out[0].n * qn_window_taps(&p->win), pool_plane, p, err);
}

qn_code qn_onnx_max_pool(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    pool p = {.kind = POOL_MAX};
    return run(x, n, in, out, &p, false, err);
}

qn_code qn_onnx_average_pool(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    pool p = {.kind = POOL_AVERAGE, .count_pads = qn_node_int(n, "count_include_pad", 0) != 0};
    return run(x, n, in, out, &p, false, err);
}

static qn_code lp_pool(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, bool global, qn_err *err)
{
    /* an integer since version 2 of the operator, a float before */
    const qn_attr *a = qn_node_attr(n, "p");
    pool p = {.kind = POOL_LP, .p = a && a->type == QN_ATTR_FLOAT ? a->v.f : (double)qn_node_int(n, "p", 2)};
    if (!(p.p > 0))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "attribute 'p' is %g; it must be above 0", p.p);
    return run(x, n, in, out, &p, global, err);
}

qn_code qn_onnx_lp_pool(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return lp_pool(x, n, in, out, false, err);
}

qn_code qn_onnx_global_lp_pool(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return lp_pool(x, n, in, out, true, err);
}

qn_code qn_onnx_global_max_pool(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    pool p = {.kind = POOL_MAX};
    return run(x, n, in, out, &p, true, err);
}

qn_code qn_onnx_global_average_pool(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    pool p = {.kind = POOL_AVERAGE};
    return run(x, n, in, out, &p, true, err);
}
