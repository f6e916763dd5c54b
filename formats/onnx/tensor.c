/* tensor.c: TensorProto: what it is called, how large it is, and where its bytes are. Its size is what dims and data_type
 * need, checked against the one place that holds the data. */
#include "base/err.h"
#include "base/num.h"
#include "formats/onnx/runs.h"

enum {
    F_DIMS = 1, F_DATA_TYPE = 2, F_SEGMENT = 3, F_FLOATS = 4, F_INT32S = 5, F_STRINGS = 6, F_INT64S = 7, F_NAME = 8, F_RAW = 9,
    F_DOUBLES = 10, F_UINT64S = 11, F_EXTERNAL = 13, F_LOCATION = 14,
    E_KEY = 1, E_VALUE = 2
};

/* What stands in a TensorProto before it is judged. */
struct found {
    qn_wire_msg m;
    const qn_onnx_dtype_info *info;
    qn_onnx_span raw;
    uint64_t location;
    bool has_raw;
    uint32_t n[QN_ONNX_FIELDS];
};

static qn_code read_fields(qn_onnx_parse *p, struct found *x, qn_onnx_tensor *t, qn_err *err)
{
    qn_wire_msg m = x->m;
    qn_wire_field f;
    uint64_t data_type = 0;
    for (;;) {
        bool more;
        QN_TRY(qn_wire_next(&p->wire, &m, &f, &more, err));
        if (!more)
            break;
        switch (f.number) {
        case F_DATA_TYPE:
            QN_TRY(qn_onnx_expect(&f, QN_WIRE_VARINT, err));
            data_type = f.value;
            break;
        case F_SEGMENT:
            return QN_FAIL(err, QN_E_UNSUPPORTED, f.off, "a tensor cut into segments");
        case F_RAW:
            QN_TRY(qn_onnx_expect(&f, QN_WIRE_BYTES, err));
            if (x->has_raw)
                return qn_onnx_twice(&f, err);
            x->has_raw = true;
            x->raw = (qn_onnx_span){f.at, f.n};
            break;
        case F_LOCATION:
            QN_TRY(qn_onnx_expect(&f, QN_WIRE_VARINT, err));
            if (f.value > 1)
                return QN_FAIL(err, QN_E_INPUT, f.off, "data_location %llu: 0 and 1 are allowed", (unsigned long long)f.value);
            x->location = f.value;
            break;
        default:
            break;
        }
    }
    if (data_type == QN_ONNX_UNDEFINED)
        return QN_FAIL(err, QN_E_INPUT, t->off, "data_type is missing");
    x->info = qn_onnx_dtype_get(data_type);
    if (!x->info)
        return QN_FAIL(err, QN_E_UNSUPPORTED, t->off, "data_type %llu is not known", (unsigned long long)data_type);
    t->data_type = (uint8_t)data_type;
    return QN_OK;
}

static qn_code read_dims(qn_onnx_parse *p, const struct found *x, qn_onnx_tensor *t, qn_err *err)
{
    const int64_t *d;
    uint64_t n, n_u8;
    bool ovf = false;
    QN_TRY(qn_onnx_ints(p, x->m, F_DIMS, &d, &n, err));
    if (n > QN_RANK_MAX)
        return QN_FAIL(err, QN_E_INPUT, t->off, "%llu dimensions: at most %d are allowed", (unsigned long long)n, QN_RANK_MAX);
    for (uint64_t i = 0; i < n; i++)
        if (d[i] < 0 || (uint64_t)d[i] > QN_DIM_MAX)
            return QN_FAIL(err, QN_E_INPUT, t->off, "dimension %lld: 0 to 2^48 are allowed", (long long)d[i]);
    t->dims = (const uint64_t *)d;
    t->rank = (uint8_t)n;
    if (!qn_shape_bytes(QN_U8, t->dims, t->rank, &t->n_elems, &n_u8))
        ovf = true;
    else
        t->n_bytes = qn_ceil_div(qn_mul(t->n_elems, x->info->bits, &ovf), 8);
    return ovf ? QN_FAIL(err, QN_E_INPUT, t->off, "shape: its size overflows") : QN_OK;
}

/* ---- external data ---- */

static bool decimal(const char *s, uint64_t *v)
{
    bool ovf = false;
    *v = 0;
    if (!*s || strlen(s) > 20)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return false;
        *v = qn_add(qn_mul(*v, 10, &ovf), (uint64_t)(*s - '0'), &ovf);
    }
    return !ovf && *v <= INT64_MAX;
}

/* One StringStringEntryProto. */
static qn_code read_pair(qn_onnx_parse *p, const qn_wire_msg *outer, const qn_wire_field *field, const char *pair[2],
                         qn_err *err)
{
    qn_wire_msg m;
    qn_wire_field f;
    bool more;
    QN_TRY(qn_wire_enter(outer, field, &m, err));
    pair[0] = pair[1] = "";
    for (;;) {
        QN_TRY(qn_wire_next(&p->wire, &m, &f, &more, err));
        if (!more)
            return QN_OK;
        if (f.number == E_KEY || f.number == E_VALUE)
            QN_TRY(qn_onnx_name(p, &f, &pair[f.number - E_KEY], err));
    }
}

static qn_code read_external(qn_onnx_parse *p, const struct found *x, qn_onnx_tensor *t, qn_err *err)
{
    qn_wire_msg m = x->m;
    qn_wire_field f;
    const char *offset = NULL, *length = NULL;
    for (uint32_t i = 0; i < x->n[F_EXTERNAL]; i++) {
        const char *pair[2];
        QN_TRY(qn_onnx_next_of(p, &m, F_EXTERNAL, &f, err));
        QN_TRY(read_pair(p, &x->m, &f, pair, err));
        const char **slot = strcmp(pair[0], "location") == 0 ? &t->location
                            : strcmp(pair[0], "offset") == 0 ? &offset
                            : strcmp(pair[0], "length") == 0 ? &length
                                                             : NULL;
        if (slot && *slot)
            return QN_FAIL(err, QN_E_INPUT, f.off, "external_data: '%s' stands twice", pair[0]);
        if (slot)
            *slot = pair[1];
    }
    t->span = (qn_onnx_span){0, UINT64_MAX};
    if (!t->location)
        return QN_FAIL(err, QN_E_INPUT, t->off, "external_data: location is missing");
    if ((offset && !decimal(offset, &t->span.off)) || (length && !decimal(length, &t->span.n_bytes)))
        return QN_FAIL(err, QN_E_INPUT, t->off, "external_data: offset and length must be decimal numbers below 2^63");
    if (length && t->span.n_bytes != t->n_bytes)
        return QN_FAIL(err, QN_E_INPUT, t->off, "external_data of %llu bytes: dims and data_type need %llu",
                       (unsigned long long)t->span.n_bytes, (unsigned long long)t->n_bytes);
    if (x->info->bits == 0)
        return QN_FAIL(err, QN_E_INPUT, t->off, "strings in external data");
    t->data = QN_ONNX_DATA_EXTERNAL;
    return QN_OK;
}

/* ---- data in the file ---- */

static qn_code use_raw(const struct found *x, qn_onnx_tensor *t, qn_err *err)
{
    if (x->info->bits == 0)
        return QN_FAIL(err, QN_E_INPUT, t->off, "raw_data cannot hold strings");
    if (x->raw.n_bytes != t->n_bytes)
        return QN_FAIL(err, QN_E_INPUT, t->off, "raw_data of %llu bytes: dims and data_type need %llu",
                       (unsigned long long)x->raw.n_bytes, (unsigned long long)t->n_bytes);
    t->data = QN_ONNX_DATA_PLAIN;
    t->span = x->raw;
    return QN_OK;
}

static qn_code use_values(qn_onnx_parse *p, const struct found *x, unsigned field, qn_onnx_tensor *t, qn_err *err)
{
    const unsigned width = qn_onnx_field_width(field);
    const uint64_t want = width ? t->n_bytes / width : x->info->bits < 8 && x->info->bits ? t->n_bytes : t->n_elems;
    uint64_t have = x->n[F_STRINGS];
    if (field != x->info->field)
        return QN_FAIL(err, QN_E_INPUT, t->off, "values of %s are in field %u: it holds them in field %u", x->info->name, field,
                       x->info->field);
    t->data = field == F_STRINGS ? QN_ONNX_DATA_STRINGS : QN_ONNX_DATA_CODED;
    if (field != F_STRINGS)
        QN_TRY(qn_onnx_read_runs(p, x->m, field, x->info, t, &have, err));
    if (have != want)
        return QN_FAIL(err, QN_E_INPUT, t->off, "%llu values in field %u: dims and data_type need %llu",
                       (unsigned long long)have, field, (unsigned long long)want);
    if (have == 0) {
        t->data = QN_ONNX_DATA_NONE;
    } else if (width && t->n_runs == 1 && t->runs[0].packed) {
        t->data = QN_ONNX_DATA_PLAIN;
        t->span = t->runs[0].span;
    }
    return QN_OK;
}

static qn_code find_data(qn_onnx_parse *p, const struct found *x, qn_onnx_tensor *t, qn_err *err)
{
    static const uint8_t typed[] = {F_FLOATS, F_INT32S, F_STRINGS, F_INT64S, F_DOUBLES, F_UINT64S};
    unsigned field = 0, n = (unsigned)(x->location == 1) + (unsigned)(x->raw.n_bytes != 0);
    for (size_t i = 0; i < sizeof typed; i++)
        if (x->n[typed[i]]) {
            field = typed[i];
            n++;
        }
    if (n > 1)
        return QN_FAIL(err, QN_E_INPUT, t->off, "its data stand in %u places", n);
    if (x->location == 1)
        return read_external(p, x, t, err);
    if (x->n[F_EXTERNAL])
        return QN_FAIL(err, QN_E_INPUT, t->off, "external_data without a data_location that says so");
    if (field)
        return use_values(p, x, field, t, err);
    if (x->has_raw)
        return use_raw(x, t, err);
    if (t->n_elems)
        return QN_FAIL(err, QN_E_INPUT, t->off, "has no data: dims need %llu elements", (unsigned long long)t->n_elems);
    return QN_OK;
}

static qn_code read_all(qn_onnx_parse *p, struct found *x, qn_onnx_tensor *t, qn_err *err)
{
    QN_TRY(read_fields(p, x, t, err));
    QN_TRY(read_dims(p, x, t, err));
    return find_data(p, x, t, err);
}

qn_code qn_onnx_read_tensor(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_tensor *t, qn_err *err)
{
    struct found x = {.m = m};
    qn_wire_field f;
    *t = (qn_onnx_tensor){.name = "", .off = m.at};
    QN_TRY(qn_onnx_count(p, m, x.n, err));
    for (uint32_t i = 0; i < x.n[F_NAME]; i++) {
        QN_TRY(qn_onnx_next_of(p, &m, F_NAME, &f, err));
        QN_TRY(qn_onnx_name(p, &f, &t->name, err));
    }
    return qn_err_in_tensor(err, read_all(p, &x, t, err), t->name[0] ? t->name : NULL);
}
