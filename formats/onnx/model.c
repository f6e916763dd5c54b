/* model.c: ModelProto and FunctionProto; see model.h. */
#include "formats/onnx/model.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/onnx/parse.h"

/* ModelProto; FunctionProto */
enum { M_IR = 1, M_PRODUCER = 2, M_PRODUCER_VERSION = 3, M_DOMAIN = 4, M_VERSION = 5, M_GRAPH = 7, M_OPSET = 8, M_PROP = 14,
       M_TRAINING = 20, M_FUNCTION = 25 };
enum { F_NAME = 1, F_INPUT = 4, F_OUTPUT = 5, F_ATTR = 6, F_NODE = 7, F_OPSET = 9, F_DOMAIN = 10, F_DEFAULT = 11,
       F_OVERLOAD = 13 };
enum { WINDOW_BYTES = 32 << 10 };

/* OperatorSetIdProto (domain, version) and StringStringEntryProto (key, value). */
static qn_code read_pairs(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, uint32_t n, bool opsets, const qn_onnx_pair **out,
                          qn_err *err)
{
    const qn_wire_msg whole = m;
    qn_onnx_pair *list = NULL;
    QN_TRY(qn_onnx_take(p, n, sizeof *list, &list, err));
    *out = list;
    for (uint32_t i = 0; i < n; i++) {
        qn_wire_field f;
        qn_wire_msg sub;
        bool more = true;
        QN_TRY(qn_onnx_next_of(p, &m, number, &f, err));
        QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
        list[i].key = list[i].value = "";
        for (;;) {
            QN_TRY(qn_wire_next(&p->wire, &sub, &f, &more, err));
            if (!more)
                break;
            if (f.number == 1) {
                QN_TRY(qn_onnx_name(p, &f, &list[i].key, err));
            } else if (f.number == 2 && opsets) {
                QN_TRY(qn_onnx_expect(&f, QN_WIRE_VARINT, err));
                list[i].version = (int64_t)f.value;
            } else if (f.number == 2 && f.n <= QN_ONNX_NAME_BYTES_MAX) { /* longer values are no business of ours */
                QN_TRY(qn_onnx_name(p, &f, &list[i].value, err));
            }
        }
    }
    return QN_OK;
}

static qn_code read_function(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_function *fn, qn_err *err)
{
    qn_wire_msg rest = m;
    uint32_t n[QN_ONNX_FIELDS];
    *fn = (qn_onnx_function){.name = "", .domain = "", .overload = ""};
    QN_TRY(qn_onnx_count(p, m, n, err));
    for (;;) {
        qn_wire_field f;
        bool more;
        QN_TRY(qn_wire_next(&p->wire, &rest, &f, &more, err));
        if (!more)
            break;
        const char **slot = f.number == F_NAME ? &fn->name : f.number == F_DOMAIN ? &fn->domain
                            : f.number == F_OVERLOAD ? &fn->overload : NULL;
        if (slot)
            QN_TRY(qn_onnx_name(p, &f, slot, err));
    }
    if (fn->name[0] == '\0')
        return QN_FAIL(err, QN_E_INPUT, m.at, "a function without a name");
    QN_TRY(qn_onnx_name_list(p, m, F_INPUT, n[F_INPUT], &fn->inputs, err));
    QN_TRY(qn_onnx_name_list(p, m, F_OUTPUT, n[F_OUTPUT], &fn->outputs, err));
    QN_TRY(qn_onnx_name_list(p, m, F_ATTR, n[F_ATTR], &fn->attrs, err));
    QN_TRY(qn_onnx_read_attrs(p, m, F_DEFAULT, n[F_DEFAULT], &fn->defaults, err));
    QN_TRY(read_pairs(p, m, F_OPSET, n[F_OPSET], true, &fn->opsets, err));
    QN_TRY(qn_onnx_read_nodes(p, m, F_NODE, n[F_NODE], &fn->nodes, err));
    fn->n_inputs = n[F_INPUT];
    fn->n_outputs = n[F_OUTPUT];
    fn->n_attrs = n[F_ATTR];
    fn->n_defaults = n[F_DEFAULT];
    fn->n_opsets = n[F_OPSET];
    fn->n_nodes = n[F_NODE];
    return QN_OK;
}

static qn_code read_functions(qn_onnx_parse *p, qn_wire_msg m, uint32_t n, qn_onnx_model *model, qn_err *err)
{
    const qn_wire_msg whole = m;
    qn_onnx_function *list = NULL;
    QN_TRY(qn_onnx_take(p, n, sizeof *list, &list, err));
    model->functions = list;
    for (uint32_t i = 0; i < n; i++) {
        qn_wire_field f;
        qn_wire_msg sub;
        QN_TRY(qn_onnx_next_of(p, &m, M_FUNCTION, &f, err));
        QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
        QN_TRY(read_function(p, sub, &list[i], err));
    }
    model->n_functions = n;
    return QN_OK;
}

static qn_code read_head(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_model *model, qn_wire_field *graph, qn_err *err)
{
    bool has_graph = false;
    for (;;) {
        qn_wire_field f;
        bool more;
        QN_TRY(qn_wire_next(&p->wire, &m, &f, &more, err));
        if (!more)
            return has_graph ? QN_OK : QN_FAIL(err, QN_E_INPUT, m.end, "not an ONNX model: it has no graph");
        switch (f.number) {
        case M_IR:
        case M_VERSION:
            QN_TRY(qn_onnx_expect(&f, QN_WIRE_VARINT, err));
            *(f.number == M_IR ? &model->ir_version : &model->model_version) = (int64_t)f.value;
            break;
        case M_PRODUCER:
            QN_TRY(qn_onnx_name(p, &f, &model->producer_name, err));
            break;
        case M_PRODUCER_VERSION:
            QN_TRY(qn_onnx_name(p, &f, &model->producer_version, err));
            break;
        case M_DOMAIN:
            QN_TRY(qn_onnx_name(p, &f, &model->domain, err));
            break;
        case M_GRAPH:
            if (has_graph)
                return qn_onnx_twice(&f, err);
            has_graph = true;
            *graph = f;
            break;
        case M_TRAINING:
            model->has_training = true;
            break;
        default:
            break;
        }
    }
}

static qn_code read_model(qn_onnx_parse *p, qn_onnx_model *model, qn_err *err)
{
    const qn_wire_msg m = qn_wire_whole(&p->wire);
    qn_wire_field f;
    qn_wire_msg sub;
    qn_onnx_graph *graph = NULL;
    uint32_t n[QN_ONNX_FIELDS];
    if (m.end == 0)
        return QN_FAIL(err, QN_E_INPUT, 0, "not an ONNX model: it is empty");
    QN_TRY(qn_onnx_count(p, m, n, err));
    QN_TRY(read_head(p, m, model, &f, err));
    if (model->ir_version < 1 || model->ir_version > 99)
        return QN_FAIL(err, QN_E_INPUT, 0, "ir_version %lld: 1 to 99 are allowed", (long long)model->ir_version);
    QN_TRY(read_pairs(p, m, M_OPSET, n[M_OPSET], true, &model->opsets, err));
    QN_TRY(read_pairs(p, m, M_PROP, n[M_PROP], false, &model->props, err));
    model->n_opsets = n[M_OPSET];
    model->n_props = n[M_PROP];
    QN_TRY(qn_onnx_take(p, 1, sizeof *graph, &graph, err));
    model->graph = graph;
    QN_TRY(qn_wire_enter(&m, &f, &sub, err));
    QN_TRY(qn_onnx_read_graph(p, sub, graph, err));
    QN_TRY(read_functions(p, m, n[M_FUNCTION], model, err));
    return qn_onnx_list_weights(p, model, err);
}

qn_code qn_onnx_read(qn_onnx_model *m, qn_arena *arena, const qn_alloc *alloc, qn_wire_read_fn read, void *ctx,
                     uint64_t n_bytes, qn_err *err)
{
    bool ovf = false;
    *m = (qn_onnx_model){.producer_name = "", .producer_version = "", .domain = ""};
    qn_onnx_parse *p = qn_mem_zeros(alloc, 1, sizeof *p, err);
    uint8_t *window = p ? qn_mem_get(alloc, WINDOW_BYTES, err) : NULL;
    qn_code rc = QN_E_MEMORY;
    if (window) {
        qn_wire_init(&p->wire, read, ctx, n_bytes, window, WINDOW_BYTES);
        p->arena = arena;
        p->alloc = alloc;
        p->memory_max = qn_add(qn_mul(n_bytes, QN_ONNX_MEMORY_FACTOR, &ovf), QN_ONNX_MEMORY_BASE + arena->used_bytes, &ovf);
        p->memory_max = ovf ? UINT64_MAX : p->memory_max;
        rc = read_model(p, m, err);
        qn_mem_put(alloc, p->names.slots);
        qn_mem_put(alloc, p->strings);
    }
    qn_mem_put(alloc, window);
    qn_mem_put(alloc, p);
    return rc;
}

int64_t qn_onnx_opset(const qn_onnx_model *m, const char *domain)
{
    const char *want = strcmp(domain, "ai.onnx") == 0 ? "" : domain;
    for (uint32_t i = 0; i < m->n_opsets; i++) {
        const char *key = strcmp(m->opsets[i].key, "ai.onnx") == 0 ? "" : m->opsets[i].key;
        if (strcmp(key, want) == 0)
            return m->opsets[i].version;
    }
    return 0;
}
