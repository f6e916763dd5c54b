/* onnx_kit.c: shapes as far as they are known, lists of integers, axes; the shape rule asked by the forward pass. */
#include "analysis/exec/onnx_kit.h"
#include "base/err.h"
#include "formats/onnx/model.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

bool qn_info_full(const qn_info *i)
{
    if (i->rank == QN_RANK_UNKNOWN)
        return false;
    for (unsigned k = 0; k < i->rank; k++)
        if (i->dims[k] == QN_DIM_UNKNOWN)
            return false;
    return true;
}

int64_t qn_info_count(const qn_info *i)
{
    int64_t n = 1;
    if (!qn_info_full(i))
        return -1;
    for (unsigned k = 0; k < i->rank; k++)
        if (i->dims[k] == 0)
            return 0;
    for (unsigned k = 0; k < i->rank; k++)
        if (__builtin_mul_overflow(n, i->dims[k], &n))
            return -1;
    return n;
}

void qn_info_like(qn_info *out, const qn_info *in)
{
    *out = *in;
    out->value = out->partly = NULL;
}

enum { OPERANDS = 160, RESULTS = 128 }; /* on the stack */

qn_code qn_plan(const qn_node *n, const qn_array *in, qn_info *out, qn_err *err)
{
    qn_info infos[OPERANDS];
    if (n->n_in > OPERANDS)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%u inputs; at most %d are supported", n->n_in, OPERANDS);
    for (unsigned i = 0; i < n->n_in; i++) {
        infos[i] = (qn_info){.dtype = QN_BYTES, .rank = QN_RANK_UNKNOWN};
        if (in[i].dtype == QN_BYTES)
            continue;
        infos[i] = (qn_info){.dtype = in[i].dtype, .rank = in[i].rank, .value = &in[i], .partly = &in[i]};
        memcpy(infos[i].dims, in[i].dims, sizeof infos[i].dims);
    }
    for (unsigned i = 0; i < n->n_out; i++)
        out[i] = (qn_info){.dtype = QN_BYTES, .rank = QN_RANK_UNKNOWN};
    return n->op->shape(n, infos, out, err);
}

qn_code qn_plan_new(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    qn_info info[RESULTS];
    if (n->n_out > RESULTS)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%u outputs; at most %d are supported", n->n_out, RESULTS);
    QN_TRY(qn_plan(n, in, info, err));
    if (!qn_info_full(&info[0]) || info[0].dtype == QN_BYTES)
        return QN_FAIL(err, QN_E_BUG, QN_NO_OFFSET, "the shape rule of %s leaves the shape open", n->type);
    return qn_exec_new(x, &out[0], (qn_dtype)info[0].dtype, info[0].dims, info[0].rank, err);
}

static int64_t to_int(double v)
{
    if (!(v == v))
        return 0;
    return v >= 9223372036854775807.0 ? INT64_MAX : v <= -9223372036854775808.0 ? INT64_MIN : (int64_t)v;
}

int64_t qn_elem_int(const qn_array *a, uint64_t i)
{
    switch (a->dtype) {
    case QN_I64: return ((const int64_t *)a->data)[i];
    case QN_U64: return (int64_t)((const uint64_t *)a->data)[i];
    case QN_I32: return ((const int32_t *)a->data)[i];
    case QN_U32: return ((const uint32_t *)a->data)[i];
    case QN_I16: return ((const int16_t *)a->data)[i];
    case QN_U16: return ((const uint16_t *)a->data)[i];
    case QN_I8: return ((const int8_t *)a->data)[i];
    case QN_U8:
    case QN_BOOL: return ((const uint8_t *)a->data)[i];
    case QN_F32: return to_int((double)((const float *)a->data)[i]);
    case QN_F64: return to_int(((const double *)a->data)[i]);
    default: return 0;
    }
}

double qn_elem_float(const qn_array *a, uint64_t i)
{
    switch (a->dtype) {
    case QN_F32: return (double)((const float *)a->data)[i];
    case QN_F64: return ((const double *)a->data)[i];
    case QN_U64: return (double)((const uint64_t *)a->data)[i];
    default: return (double)qn_elem_int(a, i);
    }
}

qn_code qn_ints_of(const qn_node *n, const qn_info *in, unsigned input, const char *attr, qn_ints *out, qn_err *err)
{
    unsigned count;
    *out = (qn_ints){.n = 0};
    const int64_t *list = attr ? qn_node_ints(n, attr, &count) : NULL;
    const qn_attr *one = attr ? qn_node_attr(n, attr) : NULL;
    if (one && one->type == QN_ATTR_INT) {
        *out = (qn_ints){.v = {one->v.i}, .n = 1, .there = true, .sized = true, .known = true};
        return QN_OK;
    }
    if (one && one->type == QN_ATTR_INTS) {
        if (count > QN_INTS_MAX)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "attribute '%s' has %u entries; at most %d are supported", attr, count,
                           QN_INTS_MAX);
        if (count)
            memcpy(out->v, list, count * sizeof *list);
        out->n = count;
        out->there = out->sized = out->known = true;
        return QN_OK;
    }
    if (!qn_node_has(n, input))
        return QN_OK;
    out->there = true;
    const qn_array *a = in[input].partly;
    if (!a)
        return QN_OK;
    if (a->n > QN_INTS_MAX || a->rank > 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "input %u is a list of %" PRIu64 " numbers; at most %d are allowed", input, a->n,
                       QN_INTS_MAX);
    if (qn_is_float(a->dtype) || a->dtype == QN_BOOL)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "input %u must be integers, not %s", input, qn_dtype_name((qn_dtype)a->dtype));
    out->sized = out->known = true;
    out->n = (unsigned)a->n;
    for (unsigned i = 0; i < out->n; i++) {
        out->v[i] = qn_elem_int(a, i);
        out->known = out->known && (in[input].value || out->v[i] != QN_INT_UNKNOWN);
    }
    return QN_OK;
}

qn_code qn_axis_of(int64_t axis, unsigned rank, unsigned *out, qn_err *err)
{
    if (axis < -(int64_t)rank || axis >= (int64_t)rank)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "axis %" PRId64 " of a tensor of rank %u", axis, rank);
    *out = (unsigned)(axis < 0 ? axis + (int64_t)rank : axis);
    return QN_OK;
}

qn_code qn_axes_mask(const qn_ints *axes, unsigned rank, uint32_t *mask, qn_err *err)
{
    *mask = 0;
    for (unsigned i = 0; i < axes->n; i++) {
        unsigned a = 0;
        QN_TRY(qn_axis_of(axes->v[i], rank, &a, err));
        if (*mask >> a & 1)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "axis %" PRId64 " is named twice", axes->v[i]);
        *mask |= 1u << a;
    }
    return QN_OK;
}

qn_dtype qn_dtype_of_onnx(int64_t data_type)
{
    const qn_onnx_dtype_info *i = data_type > 0 ? qn_onnx_dtype_get((uint64_t)data_type) : NULL;
    if (!i)
        return QN_BYTES;
    if (i->packed)
        return data_type == QN_ONNX_INT4 || data_type == QN_ONNX_INT2 ? QN_I8 : QN_U8;
    return qn_running_dtype(i->dtype);
}

uint64_t qn_span(const int64_t *dims, unsigned from, unsigned to)
{
    uint64_t n = 1;
    for (unsigned k = from; k < to; k++)
        n *= (uint64_t)dims[k];
    return n;
}

static void text_of(const qn_info *i, char buf[128])
{
    int at = snprintf(buf, 128, "(");
    for (unsigned k = 0; i->rank != QN_RANK_UNKNOWN && k < i->rank && at < 100; k++)
        at += i->dims[k] == QN_DIM_UNKNOWN ? snprintf(buf + at, 128 - (size_t)at, "%s?", k ? ", " : "")
                                           : snprintf(buf + at, 128 - (size_t)at, "%s%" PRId64, k ? ", " : "", i->dims[k]);
    snprintf(buf + at, 128 - (size_t)at, ")");
}

qn_code qn_fail_shapes(const qn_info *a, const qn_info *b, qn_err *err)
{
    char ta[128], tb[128];
    text_of(a, ta);
    text_of(b, tb);
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "shapes %s and %s do not fit", ta, tb);
}

qn_code qn_fail_dtype(const qn_array *a, qn_err *err)
{
    char t[128];
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "is not there for %s", qn_array_text(a, t));
}
