/* api.c: the public calls of quern/runtime.h on top of reader.c. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "runtime/reader_impl.h"
#include <string.h>

uint64_t qn_reader_n_tensors(const qn_reader *r)
{
    return r->index.n_tensors;
}

qn_code qn_reader_tensor(const qn_reader *r, uint64_t i, qn_tensor *out, qn_err *err)
{
    if (i >= r->index.n_tensors)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "tensor %llu wanted, there are %llu",
                                           (unsigned long long)i, (unsigned long long)r->index.n_tensors), r->path);
    const uint64_t object = r->index.tensors[i];
    const qn_index_object *o = &r->index.objects[object];
    *out = (qn_tensor){
        .name = o->name,
        .dims = o->dims,
        .rank = o->rank,
        .dtype = (qn_dtype)o->dtype,
        .n_elems = 1,
        .n_bytes = o->n_bytes,
        .n_rows = o->rank ? o->dims[0] : 1,
        .stored_bytes = qn_index_stored_bytes(&r->index, object),
        .n_chunks = qn_index_n_chunks(&r->index, object),
    };
    uint64_t bytes;
    (void)qn_shape_bytes(out->dtype, o->dims, o->rank, &out->n_elems, &bytes); /* held when the index was parsed */
    return QN_OK;
}

uint64_t qn_reader_find(const qn_reader *r, const char *name)
{
    return qn_index_find(&r->index, name);
}

qn_code qn_reader_bytes(qn_reader *r, uint64_t tensor, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    qn_tensor t;
    QN_TRY(qn_reader_tensor(r, tensor, &t, err));
    const qn_code rc = qn_reader_object_bytes(r, r->index.tensors[tensor], off, n, dst, err);
    return qn_err_in_path(err, qn_err_in_tensor(err, rc, t.name), r->path);
}

/* Rows in f32 or f64: through a buffer of stored-dtype bytes, in pieces of whole bytes. */
static qn_code widen_rows(qn_reader *r, const qn_tensor *t, uint64_t object, uint64_t first_elem, uint64_t n_elems,
                          qn_dtype as, uint8_t *dst, qn_err *err)
{
    enum { PIECE = 1 << 16 }; /* elements; whole blocks of every dtype */
    const unsigned per = t->dtype == QN_C64 ? 2 : 1;
    uint8_t *raw = qn_mem_get(r->alloc, qn_bytes_of_elems(t->dtype, PIECE), err);
    double *wide = qn_mem_get(r->alloc, (uint64_t)PIECE * per * sizeof *wide, err);
    qn_code rc = raw && wide ? QN_OK : QN_E_MEMORY;
    for (uint64_t at = 0; at < n_elems && rc == QN_OK; at += PIECE) {
        const uint64_t n = qn_min_u64(PIECE, n_elems - at);
        rc = qn_reader_object_bytes(r, object, qn_bytes_of_elems(t->dtype, first_elem + at),
                                    qn_bytes_of_elems(t->dtype, n), raw, err);
        if (rc == QN_OK)
            rc = qn_widen(t->dtype, raw, n, wide, err);
        for (uint64_t i = 0; i < n * per && rc == QN_OK; i++) {
            if (as == QN_F64) {
                memcpy(dst, &wide[i], 8);
                dst += 8;
            } else {
                const float f = (float)wide[i];
                memcpy(dst, &f, 4);
                dst += 4;
            }
        }
    }
    qn_mem_put(r->alloc, raw);
    qn_mem_put(r->alloc, wide);
    return rc;
}

static qn_code read_rows(qn_reader *r, const qn_tensor *t, uint64_t object, uint64_t first, uint64_t n, qn_dtype as,
                         void *dst, size_t dst_bytes, qn_err *err)
{
    if (first > t->n_rows || n > t->n_rows - first)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "rows %llu + %llu wanted, the tensor has %llu",
                       (unsigned long long)first, (unsigned long long)n, (unsigned long long)t->n_rows);
    const uint64_t per_row = t->n_rows ? t->n_elems / t->n_rows : 0, block = qn_dtype_block_elems(t->dtype);
    const uint64_t n_elems = n * per_row, first_elem = first * per_row; /* ≤ n_elems of the tensor: no overflow */
    if (first_elem % block != 0 || n_elems % block != 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "rows of %llu elements: %s lies in blocks of %llu",
                       (unsigned long long)per_row, qn_dtype_name(t->dtype), (unsigned long long)block);
    const bool stored = as == t->dtype;
    if (!stored && as != QN_F32 && as != QN_F64)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s wanted: allowed are %s, F32, F64",
                       qn_dtype_name(as) ? qn_dtype_name(as) : "unknown dtype", qn_dtype_name(t->dtype));
    bool ovf = false;
    const uint64_t per = t->dtype == QN_C64 ? 2 : 1;
    const uint64_t need = stored ? qn_bytes_of_elems(t->dtype, n_elems) : qn_mul(n_elems, per * qn_dtype_bits(as) / 8, &ovf);
    if (ovf || dst_bytes != need)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "buffer of %zu bytes found, %llu needed", dst_bytes,
                       (unsigned long long)need);
    if (stored)
        return qn_reader_object_bytes(r, object, qn_bytes_of_elems(t->dtype, first_elem), need, dst, err);
    return widen_rows(r, t, object, first_elem, n_elems, as, dst, err);
}

qn_code qn_reader_rows(qn_reader *r, uint64_t tensor, uint64_t first, uint64_t n, qn_dtype as, void *dst,
                       size_t dst_bytes, qn_err *err)
{
    qn_tensor t;
    QN_TRY(qn_reader_tensor(r, tensor, &t, err));
    const qn_code rc = read_rows(r, &t, r->index.tensors[tensor], first, n, as, dst, dst_bytes, err);
    return qn_err_in_path(err, qn_err_in_tensor(err, rc, t.name), r->path);
}

uint64_t qn_reader_n_files(const qn_reader *r)
{
    return r->index.n_files;
}

qn_code qn_reader_file(const qn_reader *r, uint64_t i, qn_packed_file *out, qn_err *err)
{
    if (i >= r->index.n_files)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "file %llu wanted, there are %llu",
                                           (unsigned long long)i, (unsigned long long)r->index.n_files), r->path);
    *out = (qn_packed_file){.path = r->index.files[i].path, .n_bytes = r->index.files[i].n_bytes};
    return QN_OK;
}

const char *qn_reader_property(const qn_reader *r, const char *key)
{
    for (uint64_t i = 0; i < r->index.n_props; i++)
        if (strcmp(r->index.props[2 * i], key) == 0)
            return r->index.props[2 * i + 1];
    return NULL;
}

void qn_err_format(const qn_err *err, char *buf, size_t n)
{
    qn_err_line(err, buf, n);
}
