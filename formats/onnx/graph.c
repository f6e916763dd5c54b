/* graph.c: GraphProto, NodeProto, ValueInfoProto and the types of values. */
#include "base/err.h"
#include "formats/onnx/parse.h"

/* GraphProto; NodeProto; TypeProto */
enum { G_NODE = 1, G_NAME = 2, G_INIT = 5, G_INPUT = 11, G_OUTPUT = 12, G_VALUE = 13, G_SPARSE = 15 };
enum { N_INPUT = 1, N_OUTPUT = 2, N_NAME = 3, N_OP = 4, N_ATTR = 5, N_DOMAIN = 7, N_OVERLOAD = 8 };
enum { T_TENSOR = 1, T_SEQUENCE = 4, T_MAP = 5, T_OPAQUE = 7, T_SPARSE = 8, T_OPTIONAL = 9 };

/* ---- types ---- */

static qn_code read_dim(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_dim *d, qn_err *err)
{
    qn_wire_field f;
    d->value = -1;
    for (;;) {
        bool more;
        QN_TRY(qn_wire_next(&p->wire, &m, &f, &more, err));
        if (!more)
            return QN_OK;
        if (f.number == 1) { /* the two are one of: the last one counts */
            QN_TRY(qn_onnx_expect(&f, QN_WIRE_VARINT, err));
            d->value = f.value <= QN_DIM_MAX ? (int64_t)f.value : -1;
            d->param = NULL;
        } else if (f.number == 2) {
            QN_TRY(qn_onnx_name(p, &f, &d->param, err));
            d->value = -1;
            d->param = d->param[0] ? d->param : NULL;
        }
    }
}

static qn_code read_shape(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_type *t, qn_err *err)
{
    const qn_wire_msg whole = m;
    uint32_t n[QN_ONNX_FIELDS];
    qn_onnx_dim *dims = NULL;
    QN_TRY(qn_onnx_count(p, m, n, err));
    if (n[1] > QN_RANK_MAX)
        return QN_FAIL(err, QN_E_INPUT, m.at, "%u dimensions: at most %d are allowed", n[1], QN_RANK_MAX);
    QN_TRY(qn_onnx_take(p, n[1], sizeof *dims, &dims, err));
    for (uint32_t i = 0; i < n[1]; i++) {
        qn_wire_field f;
        qn_wire_msg sub;
        QN_TRY(qn_onnx_next_of(p, &m, 1, &f, err));
        QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
        QN_TRY(read_dim(p, sub, &dims[i], err));
    }
    t->dims = dims;
    t->rank = (uint8_t)n[1];
    t->has_shape = true;
    return QN_OK;
}

/* TypeProto.Tensor and .SparseTensor: 1 elem_type, 2 shape. Sequence, Optional: 1 elem_type. Map: 1 key_type, 2 value_type. */
static qn_code read_type_body(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_type *t, qn_err *err)
{
    const qn_wire_msg whole = m;
    const bool nested = t->kind == QN_ONNX_KIND_SEQUENCE || t->kind == QN_ONNX_KIND_OPTIONAL;
    const uint32_t inner = nested ? 1 : t->kind == QN_ONNX_KIND_MAP ? 2 : 0;
    qn_wire_field f;
    for (;;) {
        bool more;
        qn_wire_msg sub;
        QN_TRY(qn_wire_next(&p->wire, &m, &f, &more, err));
        if (!more)
            return QN_OK;
        if (f.number == inner) {
            qn_onnx_type *deeper = NULL;
            if (t->inner)
                return qn_onnx_twice(&f, err);
            QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
            QN_TRY(qn_onnx_take(p, 1, sizeof *deeper, &deeper, err));
            t->inner = deeper;
            QN_TRY(qn_onnx_read_type(p, sub, deeper, err));
        } else if (f.number == 1) {
            QN_TRY(qn_onnx_expect(&f, QN_WIRE_VARINT, err));
            t->elem_type = (uint32_t)f.value;
        } else if (f.number == 2 && !nested) {
            if (t->has_shape)
                return qn_onnx_twice(&f, err);
            QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
            QN_TRY(read_shape(p, sub, t, err));
        }
    }
}

qn_code qn_onnx_read_type(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_type *t, qn_err *err)
{
    static const uint8_t kinds[10] = {
        [T_TENSOR] = QN_ONNX_KIND_TENSOR, [T_SEQUENCE] = QN_ONNX_KIND_SEQUENCE, [T_MAP] = QN_ONNX_KIND_MAP,
        [T_OPAQUE] = QN_ONNX_KIND_OPAQUE, [T_SPARSE] = QN_ONNX_KIND_SPARSE, [T_OPTIONAL] = QN_ONNX_KIND_OPTIONAL};
    const qn_wire_msg whole = m;
    qn_wire_field f;
    *t = (qn_onnx_type){0};
    for (;;) {
        bool more;
        qn_wire_msg sub;
        QN_TRY(qn_wire_next(&p->wire, &m, &f, &more, err));
        if (!more)
            return QN_OK;
        if (f.number >= sizeof kinds || kinds[f.number] == QN_ONNX_KIND_NONE)
            continue;
        if (t->kind)
            return QN_FAIL(err, QN_E_INPUT, f.off, "a type of two kinds");
        t->kind = kinds[f.number];
        QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
        if (t->kind != QN_ONNX_KIND_OPAQUE)
            QN_TRY(read_type_body(p, sub, t, err));
    }
}

qn_code qn_onnx_read_value(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_value *v, qn_err *err)
{
    const qn_wire_msg whole = m;
    qn_wire_field f;
    bool typed = false;
    *v = (qn_onnx_value){.name = ""};
    for (;;) {
        bool more;
        qn_wire_msg sub;
        QN_TRY(qn_wire_next(&p->wire, &m, &f, &more, err));
        if (!more)
            return QN_OK;
        if (f.number == 1) {
            QN_TRY(qn_onnx_name(p, &f, &v->name, err));
        } else if (f.number == 2) {
            if (typed)
                return qn_onnx_twice(&f, err);
            typed = true;
            QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
            QN_TRY(qn_onnx_read_type(p, sub, &v->type, err));
        }
    }
}

static qn_code read_values(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, uint32_t n, const qn_onnx_value **out, qn_err *err)
{
    const qn_wire_msg whole = m;
    qn_onnx_value *list = NULL;
    QN_TRY(qn_onnx_take(p, n, sizeof *list, &list, err));
    *out = list;
    for (uint32_t i = 0; i < n; i++) {
        qn_wire_field f;
        qn_wire_msg sub;
        QN_TRY(qn_onnx_next_of(p, &m, number, &f, err));
        QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
        QN_TRY(qn_onnx_read_value(p, sub, &list[i], err));
    }
    return QN_OK;
}

/* ---- nodes ---- */

static qn_code read_node(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_node *d, qn_err *err)
{
    qn_wire_msg rest = m;
    uint32_t n[QN_ONNX_FIELDS];
    *d = (qn_onnx_node){.name = "", .op_type = "", .domain = "", .overload = "", .off = m.at};
    QN_TRY(qn_onnx_count(p, m, n, err));
    for (;;) {
        qn_wire_field f;
        bool more;
        QN_TRY(qn_wire_next(&p->wire, &rest, &f, &more, err));
        if (!more)
            break;
        const char **slot = f.number == N_NAME ? &d->name : f.number == N_OP ? &d->op_type : f.number == N_DOMAIN ? &d->domain
                            : f.number == N_OVERLOAD ? &d->overload : NULL;
        if (slot)
            QN_TRY(qn_onnx_name(p, &f, slot, err));
    }
    if (d->op_type[0] == '\0')
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, m.at, "a node without op_type"), d->name);
    QN_TRY(qn_onnx_name_list(p, m, N_INPUT, n[N_INPUT], &d->inputs, err));
    QN_TRY(qn_onnx_name_list(p, m, N_OUTPUT, n[N_OUTPUT], &d->outputs, err));
    d->n_inputs = n[N_INPUT];
    d->n_outputs = n[N_OUTPUT];
    d->n_attrs = n[N_ATTR];
    const qn_code rc = qn_onnx_read_attrs(p, m, N_ATTR, n[N_ATTR], &d->attrs, err);
    return qn_err_in_tensor(err, rc, d->name[0] ? d->name : d->n_outputs ? d->outputs[0] : NULL);
}

qn_code qn_onnx_read_nodes(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, uint32_t n, const qn_onnx_node **out, qn_err *err)
{
    const qn_wire_msg whole = m;
    qn_onnx_node *list = NULL;
    QN_TRY(qn_onnx_take(p, n, sizeof *list, &list, err));
    *out = list;
    for (uint32_t i = 0; i < n; i++) {
        qn_wire_field f;
        qn_wire_msg sub;
        QN_TRY(qn_onnx_next_of(p, &m, number, &f, err));
        QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
        QN_TRY(read_node(p, sub, &list[i], err));
    }
    return QN_OK;
}

/* ---- graphs ---- */

/* SparseTensorProto has its name in its values. */
static qn_code refuse_sparse(qn_onnx_parse *p, qn_wire_msg m, qn_err *err)
{
    const qn_wire_msg whole = m;
    qn_wire_field f, g;
    qn_wire_msg sub, values;
    const char *name = "";
    bool more = true;
    QN_TRY(qn_onnx_next_of(p, &m, G_SPARSE, &f, err));
    QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
    const qn_wire_msg outer = sub;
    while (more) {
        QN_TRY(qn_wire_next(&p->wire, &sub, &g, &more, err));
        if (!more || g.number != 1)
            continue;
        QN_TRY(qn_wire_enter(&outer, &g, &values, err));
        for (bool inside = true; inside;) {
            QN_TRY(qn_wire_next(&p->wire, &values, &g, &inside, err));
            if (inside && g.number == 8)
                QN_TRY(qn_onnx_name(p, &g, &name, err));
        }
    }
    return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, f.off, "a sparse initializer, which cannot be read yet"), name);
}

static qn_code read_initializers(qn_onnx_parse *p, qn_wire_msg m, uint32_t n, qn_onnx_graph *g, qn_err *err)
{
    const qn_wire_msg whole = m;
    qn_onnx_tensor *list = NULL;
    QN_TRY(qn_onnx_take(p, n, sizeof *list, &list, err));
    g->initializers = list;
    g->n_initializers = n;
    for (uint32_t i = 0; i < n; i++) {
        qn_wire_field f;
        qn_wire_msg sub;
        QN_TRY(qn_onnx_next_of(p, &m, G_INIT, &f, err));
        QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
        QN_TRY(qn_onnx_read_tensor(p, sub, &list[i], err));
        if (list[i].name[0] == '\0')
            return QN_FAIL(err, QN_E_INPUT, f.off, "an initializer without a name");
    }
    return QN_OK;
}

qn_code qn_onnx_read_graph(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_graph *g, qn_err *err)
{
    qn_wire_msg rest = m;
    uint32_t n[QN_ONNX_FIELDS];
    *g = (qn_onnx_graph){.name = "", .off = m.at};
    QN_TRY(qn_onnx_count(p, m, n, err));
    if (n[G_SPARSE])
        return refuse_sparse(p, m, err);
    for (uint32_t i = 0; i < n[G_NAME]; i++) {
        qn_wire_field f;
        QN_TRY(qn_onnx_next_of(p, &rest, G_NAME, &f, err));
        QN_TRY(qn_onnx_name(p, &f, &g->name, err));
    }
    QN_TRY(read_initializers(p, m, n[G_INIT], g, err));
    QN_TRY(read_values(p, m, G_INPUT, n[G_INPUT], &g->inputs, err));
    QN_TRY(read_values(p, m, G_OUTPUT, n[G_OUTPUT], &g->outputs, err));
    QN_TRY(read_values(p, m, G_VALUE, n[G_VALUE], &g->values, err));
    QN_TRY(qn_onnx_read_nodes(p, m, G_NODE, n[G_NODE], &g->nodes, err));
    g->n_inputs = n[G_INPUT];
    g->n_outputs = n[G_OUTPUT];
    g->n_values = n[G_VALUE];
    g->n_nodes = n[G_NODE];
    return QN_OK;
}
