/* ints.c: see ints.h. */
#include "analysis/eval/ints.h"
#include "base/err.h"
#include "base/num.h"

/* Little-endian, 1 to 8 bytes. */
static int64_t value_of(qn_dtype t, const uint8_t *p)
{
    switch (t) {
    case QN_U8: return *p;
    case QN_I8: return (int8_t)*p;
    case QN_U16: return qn_load16(p);
    case QN_I16: return (int16_t)qn_load16(p);
    case QN_U32: return qn_load32(p);
    case QN_I32: return (int32_t)qn_load32(p);
    case QN_U64: return (int64_t)qn_min_u64(qn_load64(p), INT64_MAX);
    default: return (int64_t)qn_load64(p);
    }
}

qn_code qn_ints_read(const qn_env *env, qn_source *s, uint64_t tensor, int64_t **out, uint64_t *n, qn_err *err)
{
    const qn_source_tensor *t = &s->tensors[tensor];
    const qn_dtype dtype = (qn_dtype)t->dtype;
    if (!qn_dtype_is_integer(dtype))
        return QN_BUG(err, "%s is no integer", qn_dtype_name(dtype));
    const uint64_t width = qn_dtype_bits(dtype) / 8;
    *n = t->n_bytes / width;
    uint8_t *raw = qn_mem_get(env->alloc, t->n_bytes, err);
    *out = raw ? qn_mem_get(env->alloc, *n * sizeof **out, err) : NULL;
    const qn_code rc = *out ? qn_source_tensor_read(s, tensor, 0, t->n_bytes, raw, err) : QN_E_MEMORY;
    for (uint64_t i = 0; i < *n && rc == QN_OK; i++)
        (*out)[i] = value_of(dtype, raw + i * width);
    qn_mem_put(env->alloc, raw);
    if (rc != QN_OK) {
        qn_mem_put(env->alloc, *out);
        *out = NULL;
    }
    return rc;
}
