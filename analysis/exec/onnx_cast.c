/* onnx_cast.c: Cast, CastLike, Where, and conversion of elements for others. */
#include "analysis/exec/ops_onnx.h"
#include "base/err.h"
#include "base/half.h"
#include "formats/onnx/model.h"
#include <math.h>
#include <string.h>

/* Of floats out of range the result is open in ONNX: it is held to the range here, NaN gives 0. */
static inline int64_t whole(double v)
{
    if (!(v == v))
        return 0;
    return v >= 9223372036854775807.0 ? INT64_MAX : v <= -9223372036854775808.0 ? INT64_MIN : (int64_t)v;
}
static inline uint64_t whole_u(double v)
{
    if (!(v == v))
        return 0;
    if (v < 0)
        return (uint64_t)whole(v);
    return v >= 18446744073709551615.0 ? UINT64_MAX : (uint64_t)v;
}

#define FROM_INT(T)                                                               \
    {                                                                             \
        const T *s = src;                                                         \
        switch (to) {                                                             \
        case QN_F32: for (uint64_t i = 0; i < n; i++) ((float *)dst)[i] = (float)s[i]; return QN_OK;       \
        case QN_F64: for (uint64_t i = 0; i < n; i++) ((double *)dst)[i] = (double)s[i]; return QN_OK;     \
        case QN_I64: for (uint64_t i = 0; i < n; i++) ((int64_t *)dst)[i] = (int64_t)s[i]; return QN_OK;   \
        case QN_U64: for (uint64_t i = 0; i < n; i++) ((uint64_t *)dst)[i] = (uint64_t)s[i]; return QN_OK; \
        case QN_I32: for (uint64_t i = 0; i < n; i++) ((int32_t *)dst)[i] = (int32_t)s[i]; return QN_OK;   \
        case QN_U32: for (uint64_t i = 0; i < n; i++) ((uint32_t *)dst)[i] = (uint32_t)s[i]; return QN_OK; \
        case QN_I16: for (uint64_t i = 0; i < n; i++) ((int16_t *)dst)[i] = (int16_t)s[i]; return QN_OK;   \
        case QN_U16: for (uint64_t i = 0; i < n; i++) ((uint16_t *)dst)[i] = (uint16_t)s[i]; return QN_OK; \
        case QN_I8: for (uint64_t i = 0; i < n; i++) ((int8_t *)dst)[i] = (int8_t)s[i]; return QN_OK;      \
        case QN_U8: for (uint64_t i = 0; i < n; i++) ((uint8_t *)dst)[i] = (uint8_t)s[i]; return QN_OK;    \
        case QN_BOOL: for (uint64_t i = 0; i < n; i++) ((uint8_t *)dst)[i] = s[i] != 0; return QN_OK;      \
        default: break;                                                           \
        }                                                                         \
        break;                                                                    \
    }
#define FROM_FLOAT(T)                                                             \
    {                                                                             \
        const T *s = src;                                                         \
        switch (to) {                                                             \
        case QN_F32: for (uint64_t i = 0; i < n; i++) ((float *)dst)[i] = (float)s[i]; return QN_OK;       \
        case QN_F64: for (uint64_t i = 0; i < n; i++) ((double *)dst)[i] = (double)s[i]; return QN_OK;     \
        case QN_I64: for (uint64_t i = 0; i < n; i++) ((int64_t *)dst)[i] = whole((double)s[i]); return QN_OK;               \
        case QN_U64: for (uint64_t i = 0; i < n; i++) ((uint64_t *)dst)[i] = whole_u((double)s[i]); return QN_OK;            \
        case QN_I32: for (uint64_t i = 0; i < n; i++) ((int32_t *)dst)[i] = (int32_t)whole((double)s[i]); return QN_OK;      \
        case QN_U32: for (uint64_t i = 0; i < n; i++) ((uint32_t *)dst)[i] = (uint32_t)whole((double)s[i]); return QN_OK;    \
        case QN_I16: for (uint64_t i = 0; i < n; i++) ((int16_t *)dst)[i] = (int16_t)whole((double)s[i]); return QN_OK;      \
        case QN_U16: for (uint64_t i = 0; i < n; i++) ((uint16_t *)dst)[i] = (uint16_t)whole((double)s[i]); return QN_OK;    \
        case QN_I8: for (uint64_t i = 0; i < n; i++) ((int8_t *)dst)[i] = (int8_t)whole((double)s[i]); return QN_OK;         \
        case QN_U8: for (uint64_t i = 0; i < n; i++) ((uint8_t *)dst)[i] = (uint8_t)whole((double)s[i]); return QN_OK;       \
        case QN_BOOL: for (uint64_t i = 0; i < n; i++) ((uint8_t *)dst)[i] = s[i] != 0; return QN_OK;      \
        default: break;                                                           \
        }                                                                         \
        break;                                                                    \
    }

qn_code qn_convert(unsigned from, const void *src, unsigned to, void *dst, uint64_t n, qn_err *err)
{
    if (from == to && qn_elem_bytes(from)) {
        if (n)
            memcpy(dst, src, n * qn_elem_bytes(from));
        return QN_OK;
    }
    switch (from) {
    case QN_F32: FROM_FLOAT(float)
    case QN_F64: FROM_FLOAT(double)
    case QN_I64: FROM_INT(int64_t)
    case QN_U64: FROM_INT(uint64_t)
    case QN_I32: FROM_INT(int32_t)
    case QN_U32: FROM_INT(uint32_t)
    case QN_I16: FROM_INT(int16_t)
    case QN_U16: FROM_INT(uint16_t)
    case QN_I8: FROM_INT(int8_t)
    case QN_U8:
    case QN_BOOL: FROM_INT(uint8_t)
    default: break;
    }
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "elements of dtype %s cannot become %s",
                   qn_dtype_name((qn_dtype)from) ? qn_dtype_name((qn_dtype)from) : "?",
                   qn_dtype_name((qn_dtype)to) ? qn_dtype_name((qn_dtype)to) : "?");
}

/* ---- Cast ---- */

struct cast {
    const qn_array *in;
    qn_array *out;
    int64_t to; /* ONNX data_type */
};

enum { PIECE = 1 << 15 };

/* The running model has f32 for every narrow float; what the cast would lose is lost all the same. */
static float narrow(int64_t to, float v)
{
    switch (to) {
    case QN_ONNX_FLOAT16: return qn_f16_to_f32(qn_f32_to_f16(v));
    case QN_ONNX_BFLOAT16: return qn_bf16_to_f32(qn_f32_to_bf16(v));
    case QN_ONNX_FLOAT8E4M3FN: return qn_e4m3_to_f32(qn_f32_to_e4m3(v > 448.0f ? 448.0f : v < -448.0f ? -448.0f : v));
    case QN_ONNX_FLOAT8E5M2: return qn_e5m2_to_f32(qn_f32_to_e5m2(v > 57344.0f ? 57344.0f : v < -57344.0f ? -57344.0f : v));
    default: return v;
    }
}

static qn_code cast_part(void *ctx, uint64_t p, unsigned slot, qn_err *err)
{
    (void)slot;
    const struct cast *c = ctx;
    const uint64_t at = p * PIECE, n = c->in->n - at < PIECE ? c->in->n - at : PIECE;
    const uint8_t *src = (const uint8_t *)c->in->data + at * qn_elem_bytes(c->in->dtype);
    uint8_t *dst = (uint8_t *)c->out->data + at * qn_elem_bytes(c->out->dtype);
    QN_TRY(qn_convert(c->in->dtype, src, c->out->dtype, dst, n, err));
    if (c->out->dtype == QN_F32 && c->to != QN_ONNX_FLOAT)
        for (uint64_t i = 0; i < n; i++)
            ((float *)(void *)dst)[i] = narrow(c->to, ((float *)(void *)dst)[i]);
    if (c->to == QN_ONNX_INT4 || c->to == QN_ONNX_UINT4)
        for (uint64_t i = 0; i < n; i++)
            dst[i] = (uint8_t)(c->to == QN_ONNX_UINT4 || !(dst[i] & 8) ? dst[i] & 15 : dst[i] | 0xf0);
    return QN_OK;
}

static qn_code cast(qn_exec *x, const qn_array *in, qn_dtype dtype, int64_t to, qn_array *out, qn_err *err)
{
    if (in->dtype == dtype && (dtype != QN_F32 || to == QN_ONNX_FLOAT)) {
        qn_array_share(in, out);
        return QN_OK;
    }
    QN_TRY(qn_exec_new(x, out, dtype, in->dims, in->rank, err));
    struct cast c = {.in = in, .out = out, .to = to};
    return qn_exec_parts(x, (in->n + PIECE - 1) / PIECE, in->n, cast_part, &c, err);
}

qn_code qn_onnx_cast(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const int64_t to = qn_node_int(n, "to", 0);
    const qn_dtype t = qn_dtype_of_onnx(to);
    if (t == QN_BYTES || to == QN_ONNX_FLOAT8E4M3FNUZ || to == QN_ONNX_FLOAT8E5M2FNUZ || to >= QN_ONNX_FLOAT4E2M1) {
        const qn_onnx_dtype_info *i = to > 0 ? qn_onnx_dtype_get((uint64_t)to) : NULL;
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a cast to %s (data_type %lld)", i ? i->name : "nothing known", (long long)to);
    }
    return cast(x, &in[0], t, to, out, err);
}

qn_code qn_onnx_cast_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)err;
    qn_info_like(out, &in[0]);
    out->dtype = (uint8_t)qn_dtype_of_onnx(qn_node_int(n, "to", 0));
    return QN_OK;
}

/* To what the second input is while the model runs: of narrow floats f32, unrounded. */
qn_code qn_onnx_cast_like(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    (void)n;
    return cast(x, &in[0], (qn_dtype)in[1].dtype, QN_ONNX_FLOAT, out, err);
}

qn_code qn_onnx_cast_like_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)err;
    qn_info_like(out, &in[0]);
    out->dtype = in[1].dtype;
    return QN_OK;
}

/* ---- Where ---- */

struct where {
    const uint8_t *c;
    const uint8_t *a, *b;
    uint8_t *o;
    unsigned bytes;
};

#define PICK(T)                                                                                                   \
    do {                                                                                                          \
        const T *a = (const T *)(const void *)s->a + off[1], *b = (const T *)(const void *)s->b + off[2];         \
        T *o = (T *)(void *)s->o + at;                                                                            \
        for (uint64_t i = 0; i < n; i++)                                                                          \
            o[i] = c[(int64_t)i * st[0]] ? a[(int64_t)i * st[1]] : b[(int64_t)i * st[2]];                         \
    } while (0)

static qn_code where_run(void *ctx, const qn_walk *w, const int64_t *off, uint64_t at, uint64_t n, qn_err *err)
{
    const struct where *s = ctx;
    const uint8_t *c = s->c + off[0];
    const int64_t st[3] = {w->strides[0][w->rank - 1], w->strides[1][w->rank - 1], w->strides[2][w->rank - 1]};
    switch (s->bytes) {
    case 1: PICK(uint8_t); return QN_OK;
    case 2: PICK(uint16_t); return QN_OK;
    case 4: PICK(uint32_t); return QN_OK;
    case 8: PICK(uint64_t); return QN_OK;
    default: return QN_BUG(err, "elements of %u bytes", s->bytes);
    }
}

qn_code qn_onnx_where(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    if (in[0].dtype != QN_BOOL)
        return qn_fail_dtype(&in[0], err);
    if (in[1].dtype != in[2].dtype)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the two choices differ in dtype");
    QN_TRY(qn_plan_new(x, n, in, out, err));
    const qn_array *ops[] = {&in[0], &in[1], &in[2]};
    qn_walk w;
    qn_walk_init(&w, out->dims, out->rank, ops, 3);
    struct where s = {.c = in[0].data, .a = in[1].data, .b = in[2].data, .o = out->data, .bytes = qn_elem_bytes(out->dtype)};
    return qn_walk_run(x, &w, where_run, &s, err);
}

qn_code qn_onnx_where_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    out->dtype = in[1].dtype;
    return qn_info_broadcast(in, 3, out, err);
}
