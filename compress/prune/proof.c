/* proof.c: the zeroed and the sliced model side by side. */
#include "compress/prune/proof.h"
#include "base/err.h"
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { PARAMETERS_LEAST = 16, MODELS = 3, DENSE = 0, ZEROED = 1, SLICED = 2, OUTPUTS_MAX = 32 };

struct proof {
    const qn_calibrate_feed *feed;
    const qn_graph *graph[MODELS];
    qn_exec *exec[MODELS];
    /* per output: largest |zeroed|, |sliced − zeroed|, |zeroed − dense| */
    double size[OUTPUTS_MAX], off[OUTPUTS_MAX], moved[OUTPUTS_MAX];
};

/* A weight as the overlay has it, each element moved by about its last bit, up or down by its place. */
static qn_code read_moved(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err)
{
    QN_TRY(qn_overlay_read(ctx, g, value, first, n, dst, err));
    const qn_value *v = &g->values[value];
    uint64_t row = 1;
    for (unsigned k = 1; k < v->rank; k++)
        row *= (uint64_t)v->dims[k];
    float *w = dst;
    /* Exponents, scales and limits are no weights: 2.0000002 as a power means something else. */
    if (v->dtype != QN_F32 || qn_value_elems(v) < PARAMETERS_LEAST)
        return QN_OK;
    for (uint64_t i = 0; i < n * row; i++) {
        if (!(fabsf(w[i]) < 1e30f)) /* a bound that means none: infinity is not near it */
            continue;
        const uint64_t bit = ((first * row + i + value) * 0x9E3779B97F4A7C15u) >> 63;
        w[i] *= bit ? 1 + FLT_EPSILON : 1 - FLT_EPSILON;
    }
    return QN_OK;
}

static qn_code run_one(struct proof *p, unsigned model, uint64_t batch, qn_array *outs, qn_err *err)
{
    const qn_graph *g = p->graph[model];
    qn_array feeds[OUTPUTS_MAX];
    memset(feeds, 0, sizeof feeds);
    *p->feed->pool = qn_exec_pool(p->exec[model]);
    qn_code rc = p->feed->feed(p->feed->ctx, batch, feeds, err);
    if (rc == QN_OK)
        rc = qn_exec_run(p->exec[model], feeds, outs, err);
    for (uint32_t i = 0; i < g->n_inputs; i++)
        qn_array_release(&feeds[i]);
    return rc;
}

/* Element i as a number; whole numbers count as they are: an index that moves is an error as large as the move. */
static double at(const qn_array *a, uint64_t i)
{
    switch (a->dtype) {
    case QN_F32: return (double)((const float *)a->data)[i];
    case QN_F64: return ((const double *)a->data)[i];
    case QN_I64: return (double)((const int64_t *)a->data)[i];
    case QN_I32: return (double)((const int32_t *)a->data)[i];
    case QN_I16: return (double)((const int16_t *)a->data)[i];
    case QN_U16: return (double)((const uint16_t *)a->data)[i];
    case QN_U32: return (double)((const uint32_t *)a->data)[i];
    case QN_U64: return (double)((const uint64_t *)a->data)[i];
    case QN_I8: return (double)((const int8_t *)a->data)[i];
    default: return (double)((const uint8_t *)a->data)[i];
    }
}

static double apart(double a, double b)
{
    if (a == b || (isnan(a) && isnan(b)))
        return 0;
    const double d = fabs(a - b);
    return isnan(d) ? (double)INFINITY : d;
}

static qn_code compare(struct proof *p, uint32_t output, const qn_array *dense, const qn_array *zeroed, const qn_array *sliced, qn_err *err)
{
    bool same = zeroed->rank == sliced->rank && zeroed->dtype == sliced->dtype;
    for (unsigned k = 0; same && k < zeroed->rank; k++)
        same = zeroed->dims[k] == sliced->dims[k];
    if (!same) {
        char a[128], b[128];
        return QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "output %" PRIu32 " of the cut model is %s, that of the original %s", output,
                       qn_array_text(sliced, a), qn_array_text(zeroed, b));
    }
    for (uint64_t i = 0; i < zeroed->n; i++) {
        const double z = at(zeroed, i);
        if (isfinite(z))
            p->size[output] = fmax(p->size[output], fabs(z));
        p->off[output] = fmax(p->off[output], apart(at(sliced, i), z));
        if (dense->n == zeroed->n)
            p->moved[output] = fmax(p->moved[output], apart(z, at(dense, i)));
    }
    return QN_OK;
}

static qn_code run_batch(struct proof *p, uint64_t batch, qn_err *err)
{
    qn_array outs[MODELS][OUTPUTS_MAX];
    memset(outs, 0, sizeof outs);
    qn_code rc = QN_OK;
    for (unsigned m = 0; m < MODELS && rc == QN_OK; m++)
        rc = run_one(p, m, batch, outs[m], err);
    for (uint32_t i = 0; i < p->graph[ZEROED]->n_outputs && rc == QN_OK; i++)
        rc = compare(p, i, &outs[DENSE][i], &outs[ZEROED][i], &outs[SLICED][i], err);
    for (unsigned m = 0; m < MODELS; m++)
        for (uint32_t i = 0; i < p->graph[m]->n_outputs; i++)
            qn_array_release(&outs[m][i]);
    return rc;
}

qn_code qn_prune_proof(const qn_env *env, const qn_graph *g, const qn_overlay *w, const qn_graph *sliced, qn_depth_mask *mask, const qn_calibrate_feed *feed,
                       uint64_t n_runs, uint64_t memory_bytes, qn_proof *out, qn_err *err)
{
    const bool rounding = !sliced;
    if (rounding)
        sliced = g;
    struct proof p = {.feed = feed, .graph = {g, g, sliced}};
    memset(out, 0, sizeof *out);
    if (g->n_inputs != sliced->n_inputs || g->n_outputs != sliced->n_outputs || g->n_inputs > OUTPUTS_MAX || g->n_outputs > OUTPUTS_MAX)
        return QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "the cut model has %" PRIu32 " inputs and %" PRIu32 " outputs, the original %" PRIu32 " and %" PRIu32,
                       sliced->n_inputs, sliced->n_outputs, g->n_inputs, g->n_outputs);
    union {
        const qn_overlay *in;
        void *ctx;
    } u = {.in = w};
    qn_code rc = QN_OK;
    for (unsigned m = 0; m < MODELS && rc == QN_OK; m++) {
        qn_exec_options o = {.memory_bytes = memory_bytes / MODELS};
        if (m == ZEROED || (m == SLICED && rounding)) {
            o.read = m == ZEROED ? qn_overlay_read : read_moved;
            o.read_ctx = u.ctx;
            o.on_output = mask ? qn_depth_mask_tap : NULL;
            o.tap_ctx = mask;
        }
        rc = qn_exec_open(env, p.graph[m], &o, &p.exec[m], err);
    }
    for (uint64_t b = 0; b < n_runs && b < feed->n_batches && rc == QN_OK; b++, out->n_runs++) {
        rc = qn_env_check(env, err);
        if (rc == QN_OK)
            rc = run_batch(&p, b, err);
    }
    for (unsigned m = 0; m < MODELS; m++)
        qn_exec_close(p.exec[m]);
    *feed->pool = NULL;
    for (uint32_t i = 0; i < g->n_outputs && rc == QN_OK; i++) {
        const double size = p.size[i] > 0 ? p.size[i] : 1;
        if (p.off[i] / size >= out->largest) {
            out->largest = p.off[i] / size;
            out->output = g->values[g->outputs[i]].name;
        }
        out->change = fmax(out->change, p.moved[i] / size);
    }
    return rc;
}
