/* io_feed.c: see io_feed.h. */
#include "analysis/eval/io_feed.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include <inttypes.h>
#include <string.h>

static qn_code find_array(const qn_io_feed *f, const qn_value *v, uint64_t *tensor, qn_err *err)
{
    const qn_source *s = f->source;
    *tensor = qn_source_tensor_find(s, v->name);
    if (*tensor == UINT64_MAX && s->n_tensors == 1 && f->graph->n_inputs == 1 && !strcmp(s->ops->format, "npy"))
        *tensor = 0;
    if (*tensor == UINT64_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the model's input '%.200s' has no array here", v->name);
    return QN_OK;
}

/* Rows per run, and how many runs that gives (0: any number). */
static qn_code match(qn_io_feed *f, uint32_t i, uint64_t batch, uint64_t *n_runs, qn_err *err)
{
    const qn_value *v = &f->graph->values[f->graph->inputs[i]];
    QN_TRY(find_array(f, v, &f->in[i].tensor, err));
    const qn_source_tensor *t = &f->source->tensors[f->in[i].tensor];
    const unsigned rank = v->dims ? v->rank : t->rank;
    f->in[i].stacked = t->rank == rank + 1;
    if (t->rank != rank && !f->in[i].stacked)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "has rank %u; the model's input has %u", t->rank, rank), t->name);
    for (unsigned k = f->in[i].stacked ? 0 : 1; k < rank && v->dims; k++) {
        const uint64_t have = t->dims[k + f->in[i].stacked];
        if (v->dims[k] != QN_DIM_UNKNOWN && (uint64_t)v->dims[k] != have)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "dimension %u is %" PRIu64 "; the model's input has %" PRId64,
                                                 k + f->in[i].stacked, have, v->dims[k]), t->name);
    }
    *n_runs = 0;
    if (f->in[i].stacked) {
        f->in[i].per_run = 1;
        *n_runs = t->dims[0];
        return QN_OK;
    }
    if (rank == 0)
        return QN_OK;
    const bool fixed = v->dims && v->dims[0] != QN_DIM_UNKNOWN;
    f->in[i].per_run = fixed ? (uint64_t)v->dims[0] : qn_max_u64(1, batch);
    if (fixed && (f->in[i].per_run == 0 || t->dims[0] % f->in[i].per_run))
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " rows; the model takes %" PRIu64 " at a time", t->dims[0],
                                             f->in[i].per_run), t->name);
    *n_runs = qn_ceil_div(t->dims[0], f->in[i].per_run);
    return QN_OK;
}

static qn_code match_all(qn_io_feed *f, uint64_t batch, qn_err *err)
{
    uint64_t runs[QN_IO_INPUTS_MAX];
    f->n_batches = 0;
    for (uint32_t i = 0; i < f->graph->n_inputs; i++) {
        QN_TRY(match(f, i, batch, &runs[i], err));
        f->n_batches = qn_max_u64(f->n_batches, runs[i]);
    }
    f->n_batches = qn_max_u64(f->n_batches, 1);
    for (uint32_t i = 0; i < f->graph->n_inputs; i++) {
        const qn_source_tensor *t = &f->source->tensors[f->in[i].tensor];
        if (runs[i] <= 1 && f->n_batches > 1 && !f->in[i].stacked)
            f->in[i].per_run = 0; /* the same in every run */
        else if (runs[i] && runs[i] != f->n_batches)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "is enough for %" PRIu64 " runs of the model, another array for %" PRIu64,
                                                 runs[i], f->n_batches), t->name);
        if (f->in[i].per_run)
            f->n_samples = qn_max_u64(f->n_samples, t->dims[0]);
    }
    return QN_OK;
}

/* An array that nobody asked for is most likely a misspelt name. */
static qn_code check_extra(const qn_io_feed *f, qn_err *err)
{
    for (uint64_t t = 0; t < f->source->n_tensors; t++) {
        bool used = false;
        for (uint32_t i = 0; i < f->graph->n_inputs; i++)
            used |= f->in[i].tensor == t;
        if (!used)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the model has no input of this name"), f->source->tensors[t].name);
    }
    return QN_OK;
}

/* The first `limit` runs only. */
static void cut_short(qn_io_feed *f, uint64_t limit)
{
    f->n_batches = limit;
    f->n_samples = 0;
    for (uint32_t i = 0; i < f->graph->n_inputs; i++)
        if (f->in[i].per_run)
            f->n_samples = qn_max_u64(f->n_samples, qn_min_u64(f->source->tensors[f->in[i].tensor].dims[0], limit * f->in[i].per_run));
    f->cut = true;
}

enum { PIECE = 1 << 20 };

static qn_code digest(qn_io_feed *f, const qn_env *env, qn_err *err)
{
    qn_hasher h;
    QN_TRY(qn_hasher_open(&h, err));
    uint8_t *buf = qn_mem_get(env->alloc, PIECE, err);
    qn_code rc = buf ? QN_OK : QN_E_MEMORY;
    for (uint64_t t = 0; t < f->source->n_tensors && rc == QN_OK; t++) {
        const qn_source_tensor *x = &f->source->tensors[t];
        qn_hasher_add(&h, x->name, strlen(x->name) + 1);
        qn_hasher_add(&h, x->dims, x->rank * sizeof *x->dims);
        for (uint64_t at = 0; at < x->n_bytes && rc == QN_OK; at += PIECE) {
            const uint64_t n = qn_min_u64(PIECE, x->n_bytes - at);
            rc = qn_source_tensor_read(f->source, t, at, n, buf, err);
            if (rc == QN_OK)
                qn_hasher_add(&h, buf, n);
        }
    }
    qn_hasher_add(&h, &f->n_batches, sizeof f->n_batches);
    if (rc == QN_OK)
        f->digest = qn_hasher_digest(&h);
    qn_hasher_close(&h);
    qn_mem_put(env->alloc, buf);
    return rc;
}

qn_code qn_io_feed_open(qn_io_feed *f, const qn_env *env, const qn_graph *g, const char *path, uint64_t batch, uint64_t limit, qn_err *err)
{
    *f = (qn_io_feed){.graph = g};
    if (g->n_inputs > QN_IO_INPUTS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model has %" PRIu32 " inputs; at most %d are supported", g->n_inputs, (int)QN_IO_INPUTS_MAX);
    QN_TRY(qn_source_open(env, path, &f->source, err));
    qn_code rc = match_all(f, batch, err);
    if (rc == QN_OK)
        rc = check_extra(f, err);
    if (rc == QN_OK && limit && limit < f->n_batches)
        cut_short(f, limit);
    if (rc == QN_OK)
        rc = digest(f, env, err);
    if (rc != QN_OK)
        qn_io_feed_close(f);
    return qn_err_in_path(err, rc, path);
}

void qn_io_feed_close(qn_io_feed *f)
{
    qn_source_close(f->source);
    f->source = NULL;
}

/* n elements as the graph's dtype. */
static qn_code convert(qn_dtype from, const void *src, uint64_t n, qn_array *dst, qn_err *err)
{
    if (from == (qn_dtype)dst->dtype) {
        memcpy(dst->data, src, qn_array_bytes(dst));
        return QN_OK;
    }
    /* A complex number is two: it would fill v twice. */
    const bool fits = dst->dtype == QN_F32 || dst->dtype == QN_F64 ? from != QN_C64
                    : dst->dtype == QN_I64                         ? qn_dtype_is_integer(from) && from != QN_U64
                                                                   : dst->dtype == QN_I32 && from == QN_I64;
    if (!fits)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s where the model takes %s", qn_dtype_name(from), qn_dtype_name((qn_dtype)dst->dtype));
    double v[256];
    for (uint64_t i = 0; i < n;) {
        const uint64_t m = qn_min_u64(n - i, 256);
        QN_TRY(qn_widen(from, (const uint8_t *)src + qn_bytes_of_elems(from, i), m, v, err));
        for (uint64_t k = 0; k < m; k++)
            switch (dst->dtype) {
            case QN_F32: ((float *)dst->data)[i + k] = (float)v[k]; break;
            case QN_F64: ((double *)dst->data)[i + k] = v[k]; break;
            case QN_I64: ((int64_t *)dst->data)[i + k] = (int64_t)v[k]; break;
            default:
                if (v[k] < INT32_MIN || v[k] > INT32_MAX)
                    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%.0f is no I32, which the model takes", v[k]);
                ((int32_t *)dst->data)[i + k] = (int32_t)v[k];
            }
        i += m;
    }
    return QN_OK;
}

static qn_code feed_one(const qn_io_feed *f, uint32_t i, uint64_t batch, qn_array *out, qn_err *err)
{
    const qn_source_tensor *t = &f->source->tensors[f->in[i].tensor];
    const qn_value *v = &f->graph->values[f->graph->inputs[i]];
    const qn_dtype from = (qn_dtype)t->dtype, to = v->dtype == QN_BYTES ? from : (qn_dtype)v->dtype;
    int64_t dims[QN_ARRAY_RANK_MAX];
    unsigned rank = 0;
    for (unsigned k = f->in[i].stacked; k < t->rank && rank < QN_ARRAY_RANK_MAX; k++)
        dims[rank++] = (int64_t)t->dims[k];
    uint64_t first = 0;
    if (f->in[i].per_run && !f->in[i].stacked) {
        first = batch * f->in[i].per_run;
        dims[0] = (int64_t)qn_min_u64(f->in[i].per_run, t->dims[0] - first);
    } else if (f->in[i].stacked) {
        first = batch;
    }
    QN_TRY(qn_array_new(f->pool, out, to, dims, rank, err));
    uint64_t row = t->n_bytes;
    if (t->rank && t->dims[0])
        row /= t->dims[0];
    const uint64_t n_bytes = qn_bytes_of_elems(from, out->n);
    void *raw = qn_mem_get(f->pool->alloc, n_bytes ? n_bytes : 1, err);
    qn_code rc = raw ? qn_source_tensor_read(f->source, f->in[i].tensor, first * row, n_bytes, raw, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = convert(from, raw, out->n, out, err);
    qn_mem_put(f->pool->alloc, raw);
    return qn_err_in_tensor(err, rc, t->name);
}

qn_code qn_io_feed_batch(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err)
{
    const qn_io_feed *f = ctx;
    for (uint32_t i = 0; i < f->graph->n_inputs; i++)
        QN_TRY(feed_one(f, i, batch, &inputs[i], err));
    return QN_OK;
}
