/* grad_onnx_pool.c: MaxPool, AveragePool and their global forms. A plane (channel of an image) is worked on by itself, its windows in order. */
#include "analysis/exec/onnx_window.h"
#include "analysis/grad/backs.h"
#include <string.h>

typedef struct pool {
    qn_window win;
    bool most, count_pads;
    uint64_t n_in, n_out;
    const float *x, *y, *dy; /* x, y: MaxPool */
    float *dx;
} pool;

/* Begin of a window and the taps of it that lie inside. */
typedef struct spot {
    int64_t at[3], first[3], last[3];
} spot;

static inline void spot_axis(const qn_window *w, spot *s, unsigned axis, int64_t o)
{
    s->at[axis] = o * w->stride[axis] - w->pad[axis];
    qn_window_inside(w, axis, o, &s->first[axis], &s->last[axis]);
}

static inline int64_t row_of(const qn_window *w, const spot *s, int64_t d, int64_t h)
{
    return ((s->at[0] + d * w->dilation[0]) * w->in[1] + s->at[1] + h * w->dilation[1]) * w->in[2] + s->at[2];
}

/* To the first place that holds the largest value, as the forward pass finds it. */
static void give_most(const qn_window *w, const spot *s, const float *x, float y, float dy, float *dx)
{
    for (int64_t d = s->first[0]; d < s->last[0]; d++)
        for (int64_t h = s->first[1]; h < s->last[1]; h++) {
            const int64_t row = row_of(w, s, d, h);
            for (int64_t k = s->first[2]; k < s->last[2]; k++)
                if (x[row + k * w->dilation[2]] == y) {
                    dx[row + k * w->dilation[2]] += dy;
                    return;
                }
        }
}

static void give_all(const qn_window *w, const spot *s, bool count_pads, float dy, float *dx)
{
    const double inside = (double)((s->last[0] - s->first[0]) * (s->last[1] - s->first[1]) * (s->last[2] - s->first[2]));
    const float each = (float)((double)dy / (count_pads ? qn_window_covered(w, s->at) : inside));
    for (int64_t d = s->first[0]; d < s->last[0]; d++)
        for (int64_t h = s->first[1]; h < s->last[1]; h++) {
            const int64_t row = row_of(w, s, d, h);
            for (int64_t k = s->first[2]; k < s->last[2]; k++)
                dx[row + k * w->dilation[2]] += each;
        }
}

static qn_code back_plane(void *ctx, uint64_t plane, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const pool *p = ctx;
    const qn_window *w = &p->win;
    const float *x = p->most ? p->x + plane * p->n_in : NULL;
    float *dx = p->dx + plane * p->n_in;
    spot s;
    memset(dx, 0, p->n_in * sizeof *dx);
    uint64_t o = plane * p->n_out;
    for (int64_t d = 0; d < w->out[0]; d++) {
        spot_axis(w, &s, 0, d);
        for (int64_t h = 0; h < w->out[1]; h++) {
            spot_axis(w, &s, 1, h);
            for (int64_t k = 0; k < w->out[2]; k++, o++) {
                spot_axis(w, &s, 2, k);
                if (p->most)
                    give_most(w, &s, x, p->y[o], p->dy[o], dx);
                else
                    give_all(w, &s, p->count_pads, p->dy[o], dx);
            }
        }
    }
    return QN_OK;
}

static qn_code run(qn_exec *x, pool *p, const qn_array *in, const qn_array *out, const qn_array *d_out, qn_array *d_in, qn_err *err)
{
    if (d_out[0].dtype == QN_BYTES)
        return QN_OK;
    p->n_in = qn_window_in(&p->win);
    p->n_out = qn_window_out(&p->win);
    QN_TRY(qn_grad_like(x, &in[0], !out[0].n, &d_in[0], err));
    p->x = in[0].data;
    p->y = out[0].data;
    p->dy = d_out[0].data;
    p->dx = d_in[0].data;
    return out[0].n ? qn_exec_parts(x, in[0].n / p->n_in, out[0].n * qn_window_taps(&p->win), back_plane, p, err) : QN_OK;
}

#define BACK(name)                                                                                                                       \
    qn_code qn_back_##name(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, \
                           qn_array *d_in, qn_err *err)

static qn_code windows(qn_exec *x, const qn_node *n, pool *p, const qn_array *in, const qn_array *out, const qn_array *d_out, qn_array *d_in,
                       qn_err *err)
{
    QN_TRY(qn_window_init(&p->win, n, in[0].rank - 2u, in[0].dims + 2, NULL, true, err));
    return run(x, p, in, out, d_out, d_in, err);
}

BACK(max_pool)
{
    (void)want;
    pool p = {.most = true};
    return windows(x, n, &p, in, out, d_out, d_in, err);
}

BACK(average_pool)
{
    (void)want;
    pool p = {.count_pads = qn_node_int(n, "count_include_pad", 0) != 0};
    return windows(x, n, &p, in, out, d_out, d_in, err);
}

/* One window over everything. */
static void whole(pool *p, const qn_array *in)
{
    const int64_t all = (int64_t)qn_span(in->dims, 2, in->rank);
    p->win = (qn_window){.n_axes = 1, .in = {1, 1, all}, .out = {1, 1, 1}, .kernel = {1, 1, all}, .stride = {1, 1, 1}, .dilation = {1, 1, 1}};
}

BACK(global_max_pool)
{
    (void)n;
    (void)want;
    pool p = {.most = true};
    whole(&p, in);
    return run(x, &p, in, out, d_out, d_in, err);
}

BACK(global_average_pool)
{
    (void)n;
    (void)want;
    pool p = {.most = false};
    whole(&p, in);
    return run(x, &p, in, out, d_out, d_in, err);
}
