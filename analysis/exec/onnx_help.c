/* onnx_help.c: see onnx_help.h. */
#include "analysis/exec/onnx_help.h"
#include <inttypes.h>
#include <string.h>

qn_code qn_onnx_need_f32(const qn_array *t, const char *what, qn_err *err)
{
    char text[128];
    if (t->dtype == QN_F32)
        return QN_OK;
    return QN_FAIL(err, t->dtype == QN_F64 ? QN_E_UNSUPPORTED : QN_E_INPUT, QN_NO_OFFSET, "%s is %s; this operator runs on f32 only",
                   what, qn_array_text(t, text));
}

qn_code qn_onnx_need_rank(const qn_array *t, const char *what, unsigned least, unsigned most, qn_err *err)
{
    char text[128];
    if (t->rank >= least && t->rank <= most)
        return QN_OK;
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is %s; its rank must be %u to %u", what, qn_array_text(t, text), least, most);
}

qn_code qn_onnx_need_vector(const qn_array *t, const char *what, uint64_t n, qn_err *err)
{
    char text[128];
    QN_TRY(qn_onnx_need_f32(t, what, err));
    if (t->n != n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is %s; %" PRIu64 " values are needed", what, qn_array_text(t, text), n);
    return QN_OK;
}

qn_code qn_onnx_int_list(const qn_array *t, const char *what, int64_t *out, unsigned most, unsigned *n, qn_err *err)
{
    char text[128];
    if ((t->dtype != QN_I64 && t->dtype != QN_I32) || t->rank > 1 || t->n > most)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is %s; a list of at most %u integers is needed", what,
                       qn_array_text(t, text), most);
    *n = (unsigned)t->n;
    for (unsigned i = 0; i < *n; i++)
        out[i] = qn_elem_int(t, i);
    return QN_OK;
}

qn_code qn_onnx_attr_ints(const qn_node *n, const char *name, unsigned count, int64_t *out, bool *given, qn_err *err)
{
    unsigned have;
    const int64_t *v = qn_node_ints(n, name, &have);
    *given = v != NULL && have != 0;
    if (!*given)
        return QN_OK;
    if (have != count)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "attribute '%s' has %u values; %u are needed", name, have, count);
    memcpy(out, v, count * sizeof *out);
    return QN_OK;
}

void qn_info_set(qn_info *o, unsigned dtype, const int64_t *dims, unsigned rank)
{
    o->dtype = (uint8_t)dtype;
    o->rank = (uint8_t)rank;
    for (unsigned i = 0; rank != QN_RANK_UNKNOWN && i < rank; i++)
        o->dims[i] = dims[i];
}
