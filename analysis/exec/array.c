/* array.c: see array.h. */
#include "analysis/exec/array.h"
#include "base/err.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* dims → *n elements and *n_bytes; refuses what a file may ask for and memory cannot hold. */
static qn_code measure(qn_dtype dtype, const int64_t *dims, unsigned rank, uint64_t *n, uint64_t *n_bytes, qn_err *err)
{
    if (rank > QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a tensor of rank %u; at most %u is supported", rank,
                       (unsigned)QN_ARRAY_RANK_MAX);
    uint64_t u[QN_ARRAY_RANK_MAX];
    for (unsigned i = 0; i < rank; i++) {
        if (dims[i] < 0)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "dimension %u of a tensor is %" PRId64, i, dims[i]);
        u[i] = (uint64_t)dims[i];
    }
    if (!qn_shape_bytes(dtype, u, rank, n, n_bytes) || *n_bytes > (uint64_t)INT64_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a tensor of dtype %s whose size does not fit into memory",
                       qn_dtype_name(dtype) ? qn_dtype_name(dtype) : "?");
    return QN_OK;
}

static void describe(qn_array *t, qn_dtype dtype, const int64_t *dims, unsigned rank, uint64_t n)
{
    memset(t, 0, sizeof *t);
    t->dtype = (uint8_t)dtype;
    t->rank = (uint8_t)rank;
    t->n = n;
    for (unsigned i = 0; i < rank; i++)
        t->dims[i] = dims[i];
}

static bool charge(qn_pool *p, uint64_t n_bytes)
{
    const uint64_t held = atomic_fetch_add(&p->held_bytes, n_bytes) + n_bytes;
    if (p->limit_bytes && held > p->limit_bytes) {
        atomic_fetch_sub(&p->held_bytes, n_bytes);
        return false;
    }
    uint_fast64_t peak = atomic_load(&p->peak_bytes);
    while (held > peak && !atomic_compare_exchange_weak(&p->peak_bytes, &peak, held))
        ;
    return true;
}

qn_code qn_array_new(qn_pool *p, qn_array *t, qn_dtype dtype, const int64_t *dims, unsigned rank, qn_err *err)
{
    uint64_t n, n_bytes;
    QN_TRY(measure(dtype, dims, rank, &n, &n_bytes, err));
    if (!charge(p, n_bytes))
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET,
                       "%" PRIu64 " bytes more would pass the memory limit of %" PRIu64 " bytes (%" PRIu64 " are held)", n_bytes,
                       p->limit_bytes, (uint64_t)atomic_load(&p->held_bytes));
    qn_buffer *b = qn_mem_get(p->alloc, sizeof *b, err);
    void *data = b ? qn_mem_get(p->alloc, n_bytes, err) : NULL;
    if (!data) {
        qn_mem_put(p->alloc, b);
        atomic_fetch_sub(&p->held_bytes, n_bytes);
        return QN_E_MEMORY;
    }
    b->pool = p;
    b->n_bytes = n_bytes;
    b->data = data;
    atomic_init(&b->refs, 1);
    describe(t, dtype, dims, rank, n);
    t->data = data;
    t->buffer = b;
    return QN_OK;
}

qn_code qn_array_view(const qn_array *src, qn_array *dst, const int64_t *dims, unsigned rank, qn_err *err)
{
    uint64_t n, n_bytes;
    QN_TRY(measure((qn_dtype)src->dtype, dims, rank, &n, &n_bytes, err));
    if (n != src->n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " elements cannot take a shape of %" PRIu64, src->n, n);
    const qn_array from = *src;
    describe(dst, (qn_dtype)from.dtype, dims, rank, n);
    dst->data = from.data;
    dst->buffer = from.buffer;
    if (dst->buffer)
        atomic_fetch_add(&dst->buffer->refs, 1);
    return QN_OK;
}

void qn_array_share(const qn_array *src, qn_array *dst)
{
    *dst = *src;
    if (dst->buffer)
        atomic_fetch_add(&dst->buffer->refs, 1);
}

void qn_array_release(qn_array *t)
{
    qn_buffer *b = t->buffer;
    if (b && atomic_fetch_sub(&b->refs, 1) == 1) {
        atomic_fetch_sub(&b->pool->held_bytes, b->n_bytes);
        qn_mem_put(b->pool->alloc, b->data);
        qn_mem_put(b->pool->alloc, b);
    }
    memset(t, 0, sizeof *t);
}

qn_code qn_array_wrap(qn_array *t, qn_dtype dtype, const int64_t *dims, unsigned rank, void *data, qn_err *err)
{
    uint64_t n, n_bytes;
    QN_TRY(measure(dtype, dims, rank, &n, &n_bytes, err));
    describe(t, dtype, dims, rank, n);
    t->data = data;
    return QN_OK;
}

bool qn_array_is_only(const qn_array *t)
{
    return t->buffer && atomic_load(&t->buffer->refs) == 1;
}

uint64_t qn_array_bytes(const qn_array *t)
{
    return t->dtype == QN_BYTES ? 0 : qn_bytes_of_elems((qn_dtype)t->dtype, t->n);
}

const char *qn_array_text(const qn_array *t, char buf[128])
{
    const char *name = qn_dtype_name((qn_dtype)t->dtype);
    int at = snprintf(buf, 128, "%s (", name ? name : "?");
    for (unsigned i = 0; i < t->rank && at < 110; i++)
        at += snprintf(buf + at, 128 - (size_t)at, "%s%" PRId64, i ? ", " : "", t->dims[i]);
    snprintf(buf + (at < 126 ? at : 126), 2, ")");
    return buf;
}

qn_code qn_array_int(const qn_array *t, int64_t *v, qn_err *err)
{
    char text[128];
    if (t->n == 1) {
        switch (t->dtype) {
        case QN_I64: *v = *(const int64_t *)t->data; return QN_OK;
        case QN_I32: *v = *(const int32_t *)t->data; return QN_OK;
        case QN_I16: *v = *(const int16_t *)t->data; return QN_OK;
        case QN_I8: *v = *(const int8_t *)t->data; return QN_OK;
        case QN_U32: *v = *(const uint32_t *)t->data; return QN_OK;
        case QN_U16: *v = *(const uint16_t *)t->data; return QN_OK;
        case QN_U8:
        case QN_BOOL: *v = *(const uint8_t *)t->data; return QN_OK;
        default: break;
        }
    }
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "one integer is needed, not %s", qn_array_text(t, text));
}
