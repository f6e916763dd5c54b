/* grad_onnx_resize.c: Resize, Upsample: the forward pass's passes in the other order, each the other way: what an output place took with some weight, it gives
 * back with the same. */
#include "analysis/exec/onnx_resize.h"
#include "analysis/grad/backs.h"
#include <string.h>

typedef struct pass {
    uint64_t n_in, n_out, inner, n_taps;
    const int64_t *place; /* (n_out, n_taps) */
    const float *weight;
    const float *dy;
    float *dx;
} pass;

/* Task: one outer index. */
static qn_code unmix(void *ctx, uint64_t outer, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const pass *p = ctx;
    const float *dy = p->dy + outer * p->n_out * p->inner;
    float *dx = p->dx + outer * p->n_in * p->inner;
    memset(dx, 0, p->n_in * p->inner * sizeof *dx);
    for (uint64_t o = 0; o < p->n_out; o++, dy += p->inner)
        for (uint64_t k = 0; k < p->n_taps; k++) {
            float *row = dx + (uint64_t)p->place[o * p->n_taps + k] * p->inner;
            const float weight = p->weight[o * p->n_taps + k];
            for (uint64_t i = 0; i < p->inner; i++)
                row[i] += weight * dy[i];
        }
    return QN_OK;
}

static qn_code back_axis(qn_exec *x, const qn_resize *r, unsigned axis, const qn_array *dy, qn_array *dx, qn_err *err)
{
    int64_t dims[QN_ARRAY_RANK_MAX];
    memcpy(dims, dy->dims, sizeof dims);
    dims[axis] = r->in[axis];
    qn_array place, weight;
    QN_TRY(qn_resize_taps(x, r, axis, &place, &weight, err));
    qn_code rc = qn_exec_new(x, dx, QN_F32, dims, dy->rank, err);
    if (rc == QN_OK) {
        pass p = {.n_in = (uint64_t)r->in[axis], .n_out = (uint64_t)r->out[axis], .inner = qn_span(dims, axis + 1, dy->rank),
                  .n_taps = (uint64_t)place.dims[1], .place = place.data, .weight = weight.data, .dy = dy->data, .dx = dx->data};
        rc = qn_exec_parts(x, qn_span(dims, 0, axis), dy->n * p.n_taps, unmix, &p, err);
    }
    qn_array_release(&place);
    qn_array_release(&weight);
    return rc;
}

qn_code qn_back_resize(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                       qn_array *d_in, qn_err *err)
{
    qn_resize r = {0};
    (void)out;
    if (!want[0])
        return QN_OK; /* of scales and regions there is none */
    QN_TRY(qn_resize_read(&r, n, in, err));
    if (!d_out[0].n || !in[0].n)
        return qn_grad_like(x, &in[0], true, &d_in[0], err);
    qn_array now = {0};
    if (r.crop) { /* what was filled in has come from nowhere */
        QN_TRY(qn_grad_like(x, &d_out[0], false, &now, err));
        memcpy(now.data, d_out[0].data, qn_array_bytes(&now));
        qn_resize_extrapolate(&r, 0, now.data);
    } else {
        qn_array_share(&d_out[0], &now);
    }
    for (unsigned axis = r.rank; axis-- > 0;) {
        if (!qn_resize_changes(&r, axis))
            continue;
        qn_array next = {0};
        const qn_code rc = back_axis(x, &r, axis, &now, &next, err);
        qn_array_release(&now);
        now = next;
        if (rc != QN_OK) {
            qn_array_release(&now);
            return rc;
        }
    }
    d_in[0] = now;
    return QN_OK;
}
