/* attr.c: AttributeProto: one value of one kind, or a list. */
#include "base/err.h"
#include "formats/onnx/parse.h"
#include <string.h>

enum { F_NAME = 1, F_F = 2, F_I = 3, F_S = 4, F_TYPE = 20, F_REF = 21 };

/* The field that holds the value, by attribute type (the last four are kept as positions), and its wire type. */
static const struct kind {
    uint8_t field;
    qn_wire_type wire; /* of one value */
    bool list;
} kinds[QN_ONNX_ATTR_COUNT] = {
    [QN_ONNX_ATTR_FLOAT] = {2, QN_WIRE_FIXED32, false},       [QN_ONNX_ATTR_INT] = {3, QN_WIRE_VARINT, false},
    [QN_ONNX_ATTR_STRING] = {4, QN_WIRE_BYTES, false},        [QN_ONNX_ATTR_TENSOR] = {5, QN_WIRE_BYTES, false},
    [QN_ONNX_ATTR_GRAPH] = {6, QN_WIRE_BYTES, false},         [QN_ONNX_ATTR_FLOATS] = {7, QN_WIRE_FIXED32, true},
    [QN_ONNX_ATTR_INTS] = {8, QN_WIRE_VARINT, true},          [QN_ONNX_ATTR_STRINGS] = {9, QN_WIRE_BYTES, true},
    [QN_ONNX_ATTR_TENSORS] = {10, QN_WIRE_BYTES, true},       [QN_ONNX_ATTR_GRAPHS] = {11, QN_WIRE_BYTES, true},
    [QN_ONNX_ATTR_SPARSE_TENSOR] = {22, QN_WIRE_BYTES, false}, [QN_ONNX_ATTR_SPARSE_TENSORS] = {23, QN_WIRE_BYTES, true},
    [QN_ONNX_ATTR_TYPE_PROTO] = {14, QN_WIRE_BYTES, false},   [QN_ONNX_ATTR_TYPE_PROTOS] = {15, QN_WIRE_BYTES, true},
};

static qn_code read_scalars(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_attr *a, qn_err *err)
{
    qn_wire_field f;
    uint64_t type;
    for (;;) {
        bool more;
        QN_TRY(qn_wire_next(&p->wire, &m, &f, &more, err));
        if (!more)
            return QN_OK;
        if (f.number == F_NAME) {
            QN_TRY(qn_onnx_name(p, &f, &a->name, err));
        } else if (f.number == F_REF) {
            QN_TRY(qn_onnx_name(p, &f, &a->ref, err));
        } else if (f.number == F_TYPE) {
            QN_TRY(qn_onnx_expect(&f, QN_WIRE_VARINT, err));
            type = f.value;
            if (type >= QN_ONNX_ATTR_COUNT)
                return QN_FAIL(err, QN_E_UNSUPPORTED, f.off, "attribute type %llu is not known", (unsigned long long)type);
            a->type = (uint8_t)type;
        }
    }
}

/* Files of the first IR versions do not state the type: then the one field that is there says it. */
static qn_code settle_type(const uint32_t n[QN_ONNX_FIELDS], uint64_t off, qn_onnx_attr *a, qn_err *err)
{
    for (unsigned k = 1; k < QN_ONNX_ATTR_COUNT; k++) {
        if (n[kinds[k].field] == 0)
            continue;
        if (a->type == QN_ONNX_ATTR_NONE)
            a->type = (uint8_t)k;
        if (a->type != k)
            return QN_FAIL(err, QN_E_INPUT, off, "attribute '%s' of type %u has a value in field %u", a->name, a->type,
                           kinds[k].field);
        if (!kinds[k].list && n[kinds[k].field] > 1 && k != QN_ONNX_ATTR_FLOAT && k != QN_ONNX_ATTR_INT &&
            k != QN_ONNX_ATTR_STRING)
            return QN_FAIL(err, QN_E_INPUT, off, "attribute '%s': field %u stands twice", a->name, kinds[k].field);
    }
    return QN_OK;
}

static qn_code read_text(qn_onnx_parse *p, const qn_wire_field *f, qn_onnx_text *t, qn_err *err)
{
    char *own = NULL;
    t->span = (qn_onnx_span){f->at, f->n};
    if (f->n > QN_ONNX_TEXT_BYTES_MAX)
        return QN_OK;
    QN_TRY(qn_onnx_take(p, f->n + 1, 1, &own, err));
    QN_TRY(qn_wire_bytes(&p->wire, f->at, f->n, own, err));
    t->p = own;
    return QN_OK;
}

/* Each field of the value, into an array of what it is. */
static qn_code read_each(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_attr *a, uint32_t n, qn_err *err)
{
    const qn_wire_msg whole = m;
    const struct kind *k = &kinds[a->type];
    qn_onnx_text *texts = NULL;
    qn_onnx_tensor *tensors = NULL;
    qn_onnx_graph *graphs = NULL;
    if (k->field == 4 || k->field == 9)
        QN_TRY(qn_onnx_take(p, n, sizeof *texts, &texts, err));
    else if (k->field == 5 || k->field == 10)
        QN_TRY(qn_onnx_take(p, n, sizeof *tensors, &tensors, err));
    else
        QN_TRY(qn_onnx_take(p, n, sizeof *graphs, &graphs, err));
    for (uint32_t i = 0; i < n; i++) {
        qn_wire_field f;
        qn_wire_msg sub;
        QN_TRY(qn_onnx_next_of(p, &m, k->field, &f, err));
        QN_TRY(qn_onnx_expect(&f, k->wire, err));
        if (texts) {
            QN_TRY(read_text(p, &f, &texts[k->list ? i : 0], err));
            continue;
        }
        QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
        if (tensors)
            QN_TRY(qn_onnx_read_tensor(p, sub, &tensors[i], err));
        else
            QN_TRY(qn_onnx_read_graph(p, sub, &graphs[i], err));
    }
    if (texts)
        a->v.strings = texts;
    else if (tensors)
        a->v.tensors = tensors;
    else
        a->v.graphs = graphs;
    a->n = k->list ? n : n != 0;
    return QN_OK;
}

static qn_code read_number(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_attr *a, uint32_t n, qn_err *err)
{
    const struct kind *k = &kinds[a->type];
    qn_wire_field f;
    for (uint32_t i = 0; i < n; i++) {
        QN_TRY(qn_onnx_next_of(p, &m, k->field, &f, err));
        QN_TRY(qn_onnx_expect(&f, k->wire, err));
        a->n = 1;
        if (a->type == QN_ONNX_ATTR_INT)
            a->v.i = (int64_t)f.value;
        else
            memcpy(&a->v.f, &(uint32_t){(uint32_t)f.value}, 4);
    }
    return QN_OK;
}

static qn_code read_attr(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_attr *a, qn_err *err)
{
    uint32_t n[QN_ONNX_FIELDS];
    *a = (qn_onnx_attr){.name = ""};
    QN_TRY(qn_onnx_count(p, m, n, err));
    QN_TRY(read_scalars(p, m, a, err));
    if (a->name[0] == '\0')
        return QN_FAIL(err, QN_E_INPUT, m.at, "an attribute without a name");
    QN_TRY(settle_type(n, m.at, a, err));
    switch ((qn_onnx_attr_type)a->type) {
    case QN_ONNX_ATTR_NONE:
    case QN_ONNX_ATTR_COUNT:
        return QN_OK;
    case QN_ONNX_ATTR_FLOAT:
    case QN_ONNX_ATTR_INT:
        return read_number(p, m, a, n[kinds[a->type].field], err);
    case QN_ONNX_ATTR_FLOATS:
        return qn_onnx_floats(p, m, kinds[a->type].field, &a->v.floats, &a->n, err);
    case QN_ONNX_ATTR_INTS:
        return qn_onnx_ints(p, m, kinds[a->type].field, &a->v.ints, &a->n, err);
    case QN_ONNX_ATTR_STRING:
    case QN_ONNX_ATTR_STRINGS:
    case QN_ONNX_ATTR_TENSOR:
    case QN_ONNX_ATTR_TENSORS:
    case QN_ONNX_ATTR_GRAPH:
    case QN_ONNX_ATTR_GRAPHS:
        return read_each(p, m, a, n[kinds[a->type].field], err);
    case QN_ONNX_ATTR_SPARSE_TENSOR:
    case QN_ONNX_ATTR_SPARSE_TENSORS:
    case QN_ONNX_ATTR_TYPE_PROTO:
    case QN_ONNX_ATTR_TYPE_PROTOS:
        a->v.span = (qn_onnx_span){m.at, m.end - m.at};
        a->n = n[kinds[a->type].field];
        return QN_OK;
    }
    return QN_OK;
}

qn_code qn_onnx_read_attrs(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, uint32_t n, const qn_onnx_attr **out, qn_err *err)
{
    const qn_wire_msg whole = m;
    qn_onnx_attr *list = NULL;
    QN_TRY(qn_onnx_take(p, n, sizeof *list, &list, err));
    *out = list;
    for (uint32_t i = 0; i < n; i++) {
        qn_wire_field f;
        qn_wire_msg sub;
        QN_TRY(qn_onnx_next_of(p, &m, number, &f, err));
        QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
        QN_TRY(read_attr(p, sub, &list[i], err));
    }
    return QN_OK;
}
