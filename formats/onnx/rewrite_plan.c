/* rewrite_plan.c: walks the model's messages and notes what becomes of each: most are carried over as they lie in the file, a few are written
 * anew around those of their fields that stay. Which ones, is found by the place of the message, which nothing else has. */
#include "formats/onnx/rewrite_plan.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/onnx/rewrite_find.h"
#include <stdio.h>

enum { M_IR = 1, M_GRAPH = 7, M_OPSET = 8, M_PROP = 14, M_FUNCTION = 25 };
enum { F_NODE = 7, F_DEFAULT = 11 };
enum { G_NODE = 1, G_INIT = 5, G_INPUT = 11, G_VALUE = 13 };
enum { N_INPUT = 1, N_OUTPUT = 2, N_NAME = 3, N_OP = 4, N_ATTR = 5, N_DOMAIN = 7 };
enum { A_NAME = 1, A_FLOAT = 2, A_INT = 3, A_TENSOR = 5, A_GRAPH = 6, A_INTS = 8, A_TENSORS = 10, A_GRAPHS = 11, A_TYPE = 20 };
enum { T_DIMS = 1, T_DATA_TYPE = 2, T_FLOATS = 4, T_INT32S = 5, T_STRINGS = 6, T_INT64S = 7, T_NAME = 8, T_RAW = 9, T_DOUBLES = 10,
       T_UINT64S = 11, T_EXTERNAL = 13, T_LOCATION = 14 };
enum { V_NAME = 1, V_TYPE = 2 };
enum { WINDOW_BYTES = 32 << 10, OUTSIDE_BYTES_MIN = 1 << 10, DATA_ALIGN = 64, PAGE_BYTES = 4096, PAGE_FROM = 1 << 20, IR_FREE_INITIALIZERS = 4 };

typedef enum kind { MODEL, MAIN, GRAPH, FUNCTION, NODE, ATTR, INIT, TENSOR } kind;

struct walk {
    qn_onnx_plan *p;
    qn_wire wire;
    qn_onnx_sought sought;
    uint64_t n_done; /* edits that were met */
    bool begun;      /* the main graph has had its first node */
};

/* ---- tensors ---- */

static qn_code add_pair(qn_onnx_rope *r, const char *key, const char *value, qn_err *err)
{
    qn_onnx_rope pair = {.arena = r->arena};
    QN_TRY(qn_onnx_rope_text(&pair, 1, key, err));
    QN_TRY(qn_onnx_rope_text(&pair, 2, value, err));
    return qn_onnx_rope_message(r, T_EXTERNAL, &pair, err);
}

static qn_code add_outside(struct walk *w, qn_onnx_content *c, qn_onnx_rope *r, qn_err *err)
{
    qn_onnx_plan *p = w->p;
    char number[24];
    bool ovf = false;
    c->off = qn_align_up(p->n_data_bytes, c->n_bytes >= PAGE_FROM ? PAGE_BYTES : DATA_ALIGN, &ovf);
    p->n_data_bytes = qn_add(c->off, c->n_bytes, &ovf);
    if (ovf || p->n_data_bytes > INT64_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model's data would be longer than files can be");
    if (p->data_last)
        p->data_last->next = c;
    else
        p->data = c;
    p->data_last = c;
    QN_TRY(add_pair(r, "location", p->location, err));
    snprintf(number, sizeof number, "%llu", (unsigned long long)c->off);
    QN_TRY(add_pair(r, "offset", number, err));
    snprintf(number, sizeof number, "%llu", (unsigned long long)c->n_bytes);
    QN_TRY(add_pair(r, "length", number, err));
    return qn_onnx_rope_varint(r, T_LOCATION, 1, err);
}

/* Data of a tensor: in the model, or outside when that is allowed and worth it. */
static qn_code add_data(struct walk *w, bool outside, qn_onnx_content content, qn_onnx_rope *r, qn_err *err)
{
    qn_onnx_content *c = qn_arena_get(&w->p->arena, sizeof *c, 8, err);
    if (!c)
        return QN_E_MEMORY;
    *c = content;
    return outside && w->p->location && c->n_bytes >= OUTSIDE_BYTES_MIN ? add_outside(w, c, r, err) : qn_onnx_rope_content(r, T_RAW, c, err);
}

static qn_code bytes_of(uint8_t data_type, const uint64_t *dims, unsigned rank, const char *name, uint64_t *n_bytes, qn_err *err)
{
    const qn_onnx_dtype_info *info = qn_onnx_dtype_get(data_type);
    uint64_t n_elems, n_u8;
    bool ovf = false;
    if (!info || info->bits == 0)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "strings cannot be given new content"), name);
    if (!qn_shape_bytes(QN_U8, dims, rank, &n_elems, &n_u8))
        ovf = true;
    *n_bytes = ovf ? 0 : qn_ceil_div(qn_mul(n_elems, info->bits, &ovf), 8);
    return ovf ? QN_BUG(err, "a new shape of '%s' overflows", name) : QN_OK;
}

static bool is_data_field(uint32_t number)
{
    return number == T_DIMS || (number >= T_FLOATS && number <= T_INT64S) || number == T_RAW || number == T_DOUBLES || number == T_UINT64S ||
           number == T_EXTERNAL || number == T_LOCATION;
}

static qn_code tensor_message(struct walk *w, qn_wire_msg m, bool initializer, qn_onnx_rope *r, qn_err *err)
{
    const qn_onnx_new_tensor *edit = qn_onnx_at_place(&w->sought.new_tensors, m.at);
    const qn_onnx_tensor *t = qn_onnx_at_place(&w->sought.weights, m.at);
    const bool beside = t && t->data == QN_ONNX_DATA_EXTERNAL;
    const bool moves = t && w->p->location && initializer && t->data != QN_ONNX_DATA_STRINGS && t->n_bytes >= OUTSIDE_BYTES_MIN;
    if (edit)
        t = edit->tensor;
    if (!edit && !beside && !moves)
        return qn_onnx_rope_copy(r, m.at, m.end - m.at, err);
    const uint64_t *dims = edit ? edit->dims : t->dims;
    const unsigned rank = edit ? edit->rank : t->rank;
    qn_onnx_content c = {.tensor = edit ? NULL : t, .id = edit ? edit->id : 0, .name = t->name, .n_bytes = t->n_bytes};
    w->n_done += edit != NULL;
    if (edit)
        QN_TRY(bytes_of(t->data_type, dims, rank, t->name, &c.n_bytes, err));
    for (unsigned k = 0; k < rank; k++)
        QN_TRY(qn_onnx_rope_varint(r, T_DIMS, dims[k], err));
    for (;;) {
        qn_wire_field f;
        bool more;
        QN_TRY(qn_wire_next(&w->wire, &m, &f, &more, err));
        if (!more)
            break;
        if (!is_data_field(f.number))
            QN_TRY(qn_onnx_rope_copy(r, f.off, m.at - f.off, err));
    }
    r->changed = true; /* also of a scalar, whose fields may all be old ones */
    return add_data(w, initializer || beside, c, r, err);
}

static qn_code add_tensor(struct walk *w, const qn_onnx_add_tensor *a, qn_onnx_rope *r, qn_err *err)
{
    qn_onnx_rope t = {.arena = r->arena};
    qn_onnx_content c = {.id = a->id, .name = a->name};
    QN_TRY(bytes_of(a->data_type, a->dims, a->rank, a->name, &c.n_bytes, err));
    for (unsigned k = 0; k < a->rank; k++)
        QN_TRY(qn_onnx_rope_varint(&t, T_DIMS, a->dims[k], err));
    QN_TRY(qn_onnx_rope_varint(&t, T_DATA_TYPE, a->data_type, err));
    QN_TRY(qn_onnx_rope_text(&t, T_NAME, a->name, err));
    QN_TRY(add_data(w, true, c, &t, err));
    return qn_onnx_rope_message(r, G_INIT, &t, err);
}

/* ---- inputs that stand for initializers ---- */

/* TypeProto of a tensor. */
static qn_code add_type(qn_onnx_rope *r, uint32_t elem_type, const uint64_t *dims, unsigned rank, qn_err *err)
{
    qn_onnx_rope type = {.arena = r->arena}, tensor = {.arena = r->arena}, shape = {.arena = r->arena};
    for (unsigned k = 0; k < rank; k++) {
        qn_onnx_rope dim = {.arena = r->arena};
        QN_TRY(qn_onnx_rope_varint(&dim, 1, dims[k], err));
        QN_TRY(qn_onnx_rope_message(&shape, 1, &dim, err));
    }
    QN_TRY(qn_onnx_rope_varint(&tensor, 1, elem_type, err));
    QN_TRY(qn_onnx_rope_message(&tensor, 2, &shape, err));
    QN_TRY(qn_onnx_rope_message(&type, 1, &tensor, err));
    return qn_onnx_rope_message(r, V_TYPE, &type, err);
}

static qn_code input_message(struct walk *w, qn_wire_msg m, const qn_onnx_new_tensor *t, qn_onnx_rope *r, qn_err *err)
{
    for (;;) {
        qn_wire_field f;
        bool more;
        QN_TRY(qn_wire_next(&w->wire, &m, &f, &more, err));
        if (!more)
            return add_type(r, t->tensor->data_type, t->dims, t->rank, err);
        if (f.number != V_TYPE)
            QN_TRY(qn_onnx_rope_copy(r, f.off, m.at - f.off, err));
    }
}

static qn_code add_input(const qn_onnx_add_tensor *a, qn_onnx_rope *r, qn_err *err)
{
    qn_onnx_rope v = {.arena = r->arena};
    QN_TRY(qn_onnx_rope_text(&v, V_NAME, a->name, err));
    QN_TRY(add_type(&v, a->data_type, a->dims, a->rank, err));
    return qn_onnx_rope_message(r, G_INPUT, &v, err);
}

/* ---- nodes ---- */

static qn_code add_attr(qn_onnx_rope *r, const qn_onnx_new_attr *a, qn_err *err)
{
    qn_onnx_rope t = {.arena = r->arena};
    uint64_t type = QN_ONNX_ATTR_INTS;
    QN_TRY(qn_onnx_rope_text(&t, A_NAME, a->name, err));
    if (a->n == QN_ONNX_ONE_INT) {
        type = QN_ONNX_ATTR_INT;
        QN_TRY(qn_onnx_rope_varint(&t, A_INT, (uint64_t)a->ints[0], err));
    } else if (a->n == QN_ONNX_ONE_FLOAT) {
        type = QN_ONNX_ATTR_FLOAT;
        QN_TRY(qn_onnx_rope_float(&t, A_FLOAT, a->f, err));
    } else {
        for (uint32_t i = 0; i < a->n; i++)
            QN_TRY(qn_onnx_rope_varint(&t, A_INTS, (uint64_t)a->ints[i], err));
    }
    QN_TRY(qn_onnx_rope_varint(&t, A_TYPE, type, err));
    return qn_onnx_rope_message(r, N_ATTR, &t, err);
}

/* An attribute that is replaced or dropped. */
static bool attr_goes(const qn_onnx_new_node *d, const char *name)
{
    for (uint32_t i = 0; i < d->n_attrs; i++)
        if (!strcmp(d->attrs[i].name, name))
            return true;
    for (uint32_t i = 0; i < d->n_drop_attrs; i++)
        if (!strcmp(d->drop_attrs[i], name))
            return true;
    return false;
}

static bool field_goes(const qn_onnx_new_node *d, const qn_wire_field *f, uint32_t attr)
{
    switch (f->number) {
    case N_INPUT: return d->inputs != NULL;
    case N_OUTPUT: return d->outputs != NULL;
    case N_OP: return d->op_type != NULL;
    case N_DOMAIN: return d->domain != NULL;
    case N_ATTR: return attr < d->node->n_attrs && attr_goes(d, d->node->attrs[attr].name);
    default: return false;
    }
}

static qn_code add_strings(qn_onnx_rope *r, uint32_t field, const char *const *s, uint32_t n, qn_err *err)
{
    for (uint32_t i = 0; i < n; i++)
        QN_TRY(qn_onnx_rope_text(r, field, s[i], err));
    return QN_OK;
}

/* What a node gets in front of, and behind, the fields that stay. */
static qn_code begin_node(const qn_onnx_new_node *d, qn_onnx_rope *r, qn_err *err)
{
    if (d->inputs)
        QN_TRY(add_strings(r, N_INPUT, d->inputs, d->n_inputs, err));
    if (d->outputs)
        QN_TRY(add_strings(r, N_OUTPUT, d->outputs, d->n_outputs, err));
    if (d->op_type)
        QN_TRY(qn_onnx_rope_text(r, N_OP, d->op_type, err));
    return d->domain && *d->domain ? qn_onnx_rope_text(r, N_DOMAIN, d->domain, err) : QN_OK;
}

static qn_code end_node(const qn_onnx_new_node *d, qn_onnx_rope *r, qn_err *err)
{
    for (uint32_t i = 0; i < d->n_attrs; i++)
        QN_TRY(add_attr(r, &d->attrs[i], err));
    return QN_OK;
}

static qn_code add_node(const qn_onnx_add_node *a, qn_onnx_rope *r, qn_err *err)
{
    qn_onnx_rope t = {.arena = r->arena};
    QN_TRY(add_strings(&t, N_INPUT, a->inputs, a->n_inputs, err));
    QN_TRY(add_strings(&t, N_OUTPUT, a->outputs, a->n_outputs, err));
    if (*a->name)
        QN_TRY(qn_onnx_rope_text(&t, N_NAME, a->name, err));
    QN_TRY(qn_onnx_rope_text(&t, N_OP, a->op_type, err));
    for (uint32_t i = 0; i < a->n_attrs; i++)
        QN_TRY(add_attr(&t, &a->attrs[i], err));
    if (*a->domain)
        QN_TRY(qn_onnx_rope_text(&t, N_DOMAIN, a->domain, err));
    return qn_onnx_rope_message(r, G_NODE, &t, err);
}

/* The added nodes that stand behind the message at this place; 0: in front of all. */
static qn_code add_behind(struct walk *w, uint64_t off, qn_onnx_rope *r, qn_err *err)
{
    uint32_t n;
    const qn_onnx_add_node *const *list = qn_onnx_behind(&w->sought, off, &n);
    for (uint32_t i = 0; i < n; i++)
        QN_TRY(add_node(list[i], r, err));
    w->n_done += n;
    return QN_OK;
}

/* ---- versions ---- */

static bool is_onnx(const char *domain)
{
    return !*domain || !strcmp(domain, "ai.onnx");
}

static bool same_domain(const char *a, const char *b)
{
    return !strcmp(a, b) || (is_onnx(a) && is_onnx(b));
}

static qn_code add_opset(const char *domain, int64_t version, qn_onnx_rope *r, qn_err *err)
{
    qn_onnx_rope t = {.arena = r->arena};
    if (*domain)
        QN_TRY(qn_onnx_rope_text(&t, 1, domain, err));
    QN_TRY(qn_onnx_rope_varint(&t, 2, (uint64_t)version, err));
    return qn_onnx_rope_message(r, M_OPSET, &t, err);
}

/* A field of the model that says a version: written anew when that changes. i: which of its number it is. */
static qn_code version_field(const struct walk *w, const qn_wire_field *f, uint32_t i, bool *done, qn_onnx_rope *r, qn_err *err)
{
    const qn_onnx_edits *e = w->p->edits;
    *done = f->number == M_IR && e->ir_version;
    if (*done)
        return qn_onnx_rope_varint(r, M_IR, (uint64_t)e->ir_version, err);
    for (uint32_t k = 0; f->number == M_OPSET && k < e->n_opsets && i < w->p->model->n_opsets; k++)
        if (same_domain(e->opsets[k].key, w->p->model->opsets[i].key)) {
            *done = true;
            return add_opset(w->p->model->opsets[i].key, e->opsets[k].version, r, err);
        }
    return QN_OK;
}

static bool has_opset(const qn_onnx_model *m, const char *domain)
{
    for (uint32_t i = 0; i < m->n_opsets; i++)
        if (same_domain(m->opsets[i].key, domain))
            return true;
    return false;
}

/* ---- messages ---- */

static qn_code message(struct walk *w, qn_wire_msg m, kind k, const qn_onnx_new_node *node, qn_onnx_rope *r, qn_err *err);

/* Which kind of message a field holds that is to be looked into; false: none. */
static bool enters(kind k, uint32_t number, kind *sub)
{
    static const struct {
        uint8_t in, number, sub;
    } tab[] = {{MODEL, M_GRAPH, MAIN},   {MODEL, M_FUNCTION, FUNCTION}, {MAIN, G_NODE, NODE},     {MAIN, G_INIT, INIT},
               {GRAPH, G_NODE, NODE},    {GRAPH, G_INIT, TENSOR},       {FUNCTION, F_NODE, NODE}, {FUNCTION, F_DEFAULT, ATTR},
               {NODE, N_ATTR, ATTR},     {ATTR, A_TENSOR, TENSOR},      {ATTR, A_TENSORS, TENSOR}, {ATTR, A_GRAPH, GRAPH},
               {ATTR, A_GRAPHS, GRAPH}};
    for (unsigned i = 0; i < sizeof tab / sizeof tab[0]; i++)
        if (tab[i].in == k && tab[i].number == number) {
            *sub = (kind)tab[i].sub;
            return true;
        }
    return false;
}

/* Does the main graph lose this field? `i`: which of its number it is. */
static bool main_drops(struct walk *w, const qn_wire_field *f, uint32_t i)
{
    const qn_onnx_graph *g = w->p->model->graph;
    switch (f->number) {
    case G_INIT: return i < g->n_initializers && qn_onnx_named(&w->sought.dropped, g->initializers[i].name);
    case G_INPUT: return i < g->n_inputs && qn_onnx_named(&w->sought.dropped, g->inputs[i].name);
    case G_VALUE: return w->p->edits->drop_value_info || (i < g->n_values && qn_onnx_named(&w->sought.gone, g->values[i].name));
    default: return false;
    }
}

static bool prop_goes(const struct walk *w, uint32_t i)
{
    const qn_onnx_edits *e = w->p->edits;
    for (uint32_t k = 0; k < e->n_props && i < w->p->model->n_props; k++)
        if (!strcmp(e->props[k].key, w->p->model->props[i].key))
            return true;
    return false;
}

/* A field of a message: left out, carried over, or looked into. `whole`: its message; `end`: where the field ends. */
static qn_code field(struct walk *w, const qn_wire_msg *whole, const qn_wire_field *f, uint64_t end, kind k, uint32_t i,
                     const qn_onnx_new_node *node, qn_onnx_rope *r, qn_err *err)
{
    const qn_onnx_new_tensor *shape = k == MAIN && f->number == G_INPUT && i < w->p->model->graph->n_inputs
                                      ? qn_onnx_named(&w->sought.new_shapes, w->p->model->graph->inputs[i].name) : NULL;
    const qn_onnx_new_node *d = NULL;
    qn_onnx_rope inner = {.arena = r->arena};
    qn_wire_msg sub;
    kind inside;
    if (k == MODEL) {
        bool done;
        QN_TRY(version_field(w, f, i, &done, r, err));
        if (done)
            return QN_OK;
    }
    if (k == MAIN && f->number == G_NODE && !w->begun) {
        w->begun = true;
        QN_TRY(add_behind(w, 0, r, err));
    }
    const qn_arena_mark mark = qn_arena_tell(r->arena);
    if ((k == MAIN && main_drops(w, f, i)) || (k == MODEL && f->number == M_PROP && prop_goes(w, i)) || (node && field_goes(node, f, i))) {
        w->n_done += k == MAIN && f->number == G_INIT;
        r->changed = true;
        return QN_OK;
    }
    if (shape) {
        QN_TRY(qn_wire_enter(whole, f, &sub, err));
        QN_TRY(input_message(w, sub, shape, &inner, err));
    } else if (enters(k, f->number, &inside)) {
        QN_TRY(qn_wire_enter(whole, f, &sub, err));
        d = k == MAIN && inside == NODE ? qn_onnx_at_place(&w->sought.new_nodes, sub.at) : NULL;
        w->n_done += d != NULL;
        if (d && d->remove) {
            r->changed = true;
            return add_behind(w, sub.at, r, err);
        }
        QN_TRY(message(w, sub, inside, d, &inner, err));
    }
    if (!inner.changed) {
        qn_arena_rewind(r->arena, mark);
        QN_TRY(qn_onnx_rope_copy(r, f->off, end - f->off, err));
    } else {
        QN_TRY(qn_onnx_rope_message(r, f->number, &inner, err));
    }
    return k == MAIN && f->number == G_NODE ? add_behind(w, sub.at, r, err) : QN_OK;
}

/* What the main graph and the model get at their ends. */
static qn_code end_message(struct walk *w, kind k, qn_onnx_rope *r, qn_err *err)
{
    const qn_onnx_edits *e = w->p->edits;
    if (k == MAIN && !w->begun)
        QN_TRY(add_behind(w, 0, r, err));
    for (uint32_t i = 0; k == MODEL && i < e->n_opsets; i++)
        if (!has_opset(w->p->model, e->opsets[i].key))
            QN_TRY(add_opset(e->opsets[i].key, e->opsets[i].version, r, err));
    for (uint32_t i = 0; k == MAIN && i < e->n_added; i++)
        QN_TRY(add_tensor(w, &e->added[i], r, err));
    for (uint32_t i = 0; k == MAIN && i < e->n_added && w->p->model->ir_version < IR_FREE_INITIALIZERS; i++)
        QN_TRY(add_input(&e->added[i], r, err));
    for (uint32_t i = 0; k == MODEL && i < e->n_props; i++) {
        qn_onnx_rope pair = {.arena = r->arena};
        QN_TRY(qn_onnx_rope_text(&pair, 1, e->props[i].key, err));
        QN_TRY(qn_onnx_rope_text(&pair, 2, e->props[i].value, err));
        QN_TRY(qn_onnx_rope_message(r, M_PROP, &pair, err));
    }
    return QN_OK;
}

static qn_code message(struct walk *w, qn_wire_msg m, kind k, const qn_onnx_new_node *node, qn_onnx_rope *r, qn_err *err)
{
    const qn_wire_msg whole = m;
    uint32_t seen[32] = {0}; /* how many of each field were met */
    if (k == INIT || k == TENSOR)
        return tensor_message(w, m, k == INIT, r, err);
    if (node)
        QN_TRY(begin_node(node, r, err));
    for (;;) {
        qn_wire_field f;
        bool more;
        QN_TRY(qn_wire_next(&w->wire, &m, &f, &more, err));
        if (!more)
            break;
        QN_TRY(field(w, &whole, &f, m.at, k, f.number < 32 ? seen[f.number]++ : 0, node, r, err));
    }
    if (node)
        return end_node(node, r, err);
    return end_message(w, k, r, err);
}

qn_code qn_onnx_plan_make(qn_onnx_plan *p, qn_err *err)
{
    struct walk w = {.p = p};
    uint8_t *window = qn_mem_get(p->env->alloc, WINDOW_BYTES, err);
    qn_arena_init(&p->arena, p->env->alloc);
    p->rope = (qn_onnx_rope){.arena = &p->arena};
    p->data = p->data_last = NULL;
    p->n_data_bytes = 0;
    if (!window)
        return QN_E_MEMORY;
    qn_wire_init(&w.wire, p->read, p->read_ctx, p->n_file_bytes, window, WINDOW_BYTES);
    qn_code rc = qn_onnx_sought_make(&w.sought, &p->arena, p->model, p->edits, err);
    if (rc == QN_OK)
        rc = message(&w, qn_wire_whole(&w.wire), MODEL, NULL, &p->rope, err);
    const uint64_t n_edits = (uint64_t)p->edits->n_tensors + p->edits->n_nodes + p->edits->n_added_nodes + p->edits->n_drop_initializers;
    if (rc == QN_OK && w.n_done != n_edits)
        rc = QN_BUG(err, "%llu edits of the model meet %llu of its messages", (unsigned long long)n_edits, (unsigned long long)w.n_done);
    qn_mem_put(p->env->alloc, window);
    return rc;
}

void qn_onnx_plan_release(qn_onnx_plan *p)
{
    qn_arena_release(&p->arena);
}
