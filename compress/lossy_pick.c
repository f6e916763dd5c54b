/* lossy_pick.c: which tensors are approximated, and as which matrix. The graph says what multiplies what; names say nothing. */
#include "compress/lossy.h"
#include <string.h>

enum {
    COLS_MIN = 32, ROWS_MIN = 16,
    COLS_MAX = 1 << 18,
    STORED_ROW_BYTES_MAX = QN_CHUNK_MAX_BYTES / 32 /* of a turned matrix: a chunk has COLS_MIN of them at least */
};

/* What an operator makes of one of its weights. */
typedef struct use {
    qn_lossy_role role; /* QN_ROLE_NONE: nothing that is worth a row */
    qn_lossy_view view;
    uint32_t family;
    const char *kept;
} use;

/* --- the view ------------------------------------------------------------------------------------------------------ */

static uint64_t product(const qn_value *w, unsigned from)
{
    uint64_t n = 1;
    for (unsigned i = from; i < w->rank; i++)
        n *= (uint64_t)w->dims[i];
    return n;
}

/* Numbers that fit no view are caught later: they are too large there. */
static uint32_t narrow(uint64_t n)
{
    return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static use as_is(qn_lossy_role role, const qn_value *w)
{
    return (use){.role = role, .view = {.rows = narrow((uint64_t)w->dims[0]), .cols = narrow(product(w, 1)), .parts = 1}};
}

static use turned(qn_lossy_role role, const qn_value *w)
{
    return (use){.role = role, .view = {.rows = narrow(product(w, 1)), .cols = narrow((uint64_t)w->dims[0]), .parts = 1, .turned = true}};
}

/* (parts, out, in) */
static use stacked(qn_lossy_role role, const qn_value *w, bool own_statistics)
{
    return (use){.role = role, .view = {.rows = narrow((uint64_t)w->dims[1]), .cols = narrow(product(w, 2)), .parts = narrow((uint64_t)w->dims[0]),
                                        .own_statistics = own_statistics}};
}

static use keep(const char *why)
{
    return (use){.role = QN_ROLE_LINEAR, .kept = why};
}

/* What is no layer's: a vector, also one that lies as (1, n, 1), is not worth a row. */
static use other(const qn_value *w)
{
    uint64_t widest = 1;
    for (unsigned i = 0; i < w->rank; i++)
        widest = (uint64_t)w->dims[i] > widest ? (uint64_t)w->dims[i] : widest;
    return product(w, 0) > widest ? keep("not a plain linear layer") : (use){0};
}

/* --- operators ----------------------------------------------------------------------------------------------------- */

static bool is(const qn_node *n, const char *type)
{
    return strcmp(n->type, type) == 0;
}

static bool is_output(const qn_graph *g, uint32_t value)
{
    for (uint32_t i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == value)
            return true;
    return false;
}

/* A head makes a number for each word: its output is the graph's, or all but (a soft cap may follow). */
static qn_lossy_role role_of_linear(const qn_graph *g, const qn_node *n, uint64_t n_out)
{
    return (g->n_vocab && n_out == g->n_vocab) || (n->n_out && is_output(g, n->out[0])) ? QN_ROLE_HEAD : QN_ROLE_LINEAR;
}

/* Does the node's output choose among experts? What they are given follows in the same block. */
static bool routes(const qn_graph *g, const qn_node *n)
{
    const qn_graph_block *b = &g->blocks[n->block];
    for (uint32_t i = b->first_node; n->n_out && i < b->first_node + b->n_nodes; i++)
        if (is(&g->nodes[i], "Experts") && g->nodes[i].n_in > 1 && g->nodes[i].in[1] == n->out[0])
            return true;
    return false;
}

static use use_linear(const qn_graph *g, const qn_node *n, const qn_value *w, bool in_out)
{
    const qn_lossy_role role = role_of_linear(g, n, (uint64_t)w->dims[in_out ? 1 : 0]);
    return in_out ? turned(role, w) : as_is(role, w);
}

/* Tables of positions have a row for each place of a sequence: few, and each is added to all that stands there. */
static use use_table(const qn_graph *g, const qn_value *ids, const qn_value *w)
{
    if (ids->kind == QN_VALUE_NODE && is(&g->nodes[ids->node], "Positions"))
        return keep("a table of positions: small, and added to every token");
    return as_is(QN_ROLE_EMBEDDING, w);
}

static use use_experts(const qn_node *n, uint32_t node, unsigned k, const qn_value *w)
{
    const bool separate = strcmp(qn_node_string(n, "layout", ""), "separate") == 0;
    const unsigned each = separate ? (n->n_in - 2u) / 3 : 1;
    use u = separate ? as_is(QN_ROLE_LINEAR, w) : stacked(QN_ROLE_LINEAR, w, true);
    if (w->rank != (separate ? 2 : 3))
        return keep("not a matrix for each expert");
    u.family = 1 + 4 * node + (k - 2) / (each ? each : 1);
    return u;
}

/* Our own operators. What a scan multiplies its state with again and again is kept: an error there grows with the sequence, and
 * these tensors are some thousandths of the model (Quamba, Chiang et al. 2024, keeps A and D apart for the same reason). */
static use use_own(const qn_graph *g, const qn_node *n, uint32_t node, unsigned k, const qn_value *w)
{
    if (is(n, "Linear") && k == 1 && routes(g, n))
        return keep("sends tokens to experts: small, and an error sends them to others");
    if (is(n, "Linear") && k == 1 && w->rank == 2)
        return use_linear(g, n, w, strcmp(qn_node_string(n, "layout", "out_in"), "out_in") != 0);
    if (is(n, "Embed") && k == 1 && w->rank == 2)
        return use_table(g, &g->values[n->in[0]], w);
    if (is(n, "Experts") && k >= 2)
        return use_experts(n, node, k, w);
    if (is(n, "CausalConv1d") && k == 2)
        return keep("a convolution of each channel for itself: a few taps");
    if ((is(n, "SelectiveScan") && k == 2) || (is(n, "SsdScan") && k == 3))
        return keep("the decay of a scan: its errors add up along the sequence");
    if (is(n, "SelectiveScan") || is(n, "SsdScan"))
        return keep("a vector of a scan: few bytes");
    if (is(n, "Wkv5"))
        return keep("decay or bonus of a recurrence: its errors add up along the sequence");
    if (is(n, "TokenShift"))
        return keep("shares of the token before: few bytes");
    return other(w);
}

static use use_conv(const qn_node *n, const qn_value *w, bool transposed)
{
    const int64_t groups = qn_node_int(n, "group", 1);
    if (groups < 1 || w->rank < 3 || w->dims[0] % groups)
        return keep("not a convolution that is known");
    if (transposed)
        return groups == 1 ? turned(QN_ROLE_LINEAR, w) : keep("a transposed convolution in groups");
    use u = as_is(QN_ROLE_LINEAR, w);
    u.view.parts = narrow((uint64_t)groups);
    u.view.rows = narrow((uint64_t)(w->dims[0] / groups));
    u.view.own_statistics = groups > 1;
    if (w->dims[1] == 1 && groups > 1)
        u.kept = "a convolution of each channel for itself: a few taps";
    return u;
}

static use use_onnx(const qn_graph *g, const qn_node *n, unsigned k, const qn_value *w)
{
    if (is(n, "MatMul") && w->rank == 2)
        return k == 1 ? use_linear(g, n, w, true) : as_is(QN_ROLE_LINEAR, w); /* W · x: never measured */
    if (is(n, "Gemm") && k == 1 && w->rank == 2)
        return use_linear(g, n, w, qn_node_int(n, "transB", 0) == 0);
    if ((is(n, "Conv") || is(n, "ConvTranspose")) && k == 1)
        return use_conv(n, w, is(n, "ConvTranspose"));
    if (is(n, "Gather") && k == 0 && w->rank == 2 && qn_node_int(n, "axis", 0) == 0)
        return as_is(QN_ROLE_EMBEDDING, w);
    /* both directions of W see one input; those of R are measured together */
    if ((is(n, "LSTM") || is(n, "GRU") || is(n, "RNN")) && (k == 1 || k == 2) && w->rank == 3)
        return stacked(QN_ROLE_LINEAR, w, false);
    return other(w);
}

/* --- the tensor ---------------------------------------------------------------------------------------------------- */

/* Zip archives (.pt, .npz) hold a CRC of each tensor, which approximated bytes would not have. */
static bool is_zip(qn_source *src, uint32_t file)
{
    const qn_source_file *f = &src->files[file];
    uint8_t head[4];
    return f->n_objects && src->objects[f->first_object].n_bytes >= 4 &&
           qn_source_read(src, f->first_object, 0, 4, head, NULL) == QN_OK && memcmp(head, "PK\3\4", 4) == 0;
}

static const char *why_kept(qn_source *src, const qn_source_tensor *t, const qn_lossy_view *v)
{
    const qn_object *o = &src->objects[t->object];
    const uint64_t n = (uint64_t)v->rows * v->cols;
    if (o->dtype != QN_F32 && o->dtype != QN_F16 && o->dtype != QN_BF16)
        return "not F32, F16 or BF16";
    if (v->cols < COLS_MIN || v->rows < ROWS_MIN)
        return "too small";
    if (v->cols > COLS_MAX || v->rows > UINT32_MAX / 4 || n > UINT64_MAX / 4 / v->parts || n * v->parts / v->cols > UINT32_MAX / 4)
        return "rows too long";
    const unsigned unit = qn_unit_bytes((qn_dtype)o->dtype);
    if (o->dtype != t->dtype || o->n_bytes != t->n_bytes || n * v->parts * unit != o->n_bytes)
        return "its file holds it in another shape";
    if (v->turned && (v->parts > 1 || (uint64_t)v->rows * unit > STORED_ROW_BYTES_MAX))
        return "stored (in, out), and its rows are too long";
    if (is_zip(src, o->file))
        return "its file is a zip archive, which holds a checksum of it";
    return NULL;
}

static bool same_view(const qn_lossy_view *a, const qn_lossy_view *b)
{
    return a->rows == b->rows && a->cols == b->cols && a->parts == b->parts && a->turned == b->turned && a->own_statistics == b->own_statistics;
}

static void note(qn_source *src, qn_lossy_pick *picks, const qn_value *v, const use *u)
{
    const qn_source_tensor *t = &src->tensors[v->tensor];
    if (t->object == QN_NO_OBJECT)
        return;
    qn_lossy_pick *p = &picks[t->object];
    const char *kept = u->kept ? u->kept : why_kept(src, t, &u->view);
    if (!kept && !p->kept && p->role != QN_ROLE_NONE && !same_view(&p->view, &u->view))
        kept = "two layers multiply with it in two ways";
    /* a head that is also the embedding is a head; a use that keeps it wins over all others */
    p->tied = p->tied || (p->role != QN_ROLE_NONE && (p->role == QN_ROLE_EMBEDDING) != (u->role == QN_ROLE_EMBEDDING));
    if (p->role == QN_ROLE_NONE || (p->role == QN_ROLE_EMBEDDING && u->role != QN_ROLE_EMBEDDING)) {
        p->role = u->role;
        p->view = u->view;
        p->family = u->family;
    }
    if (!p->kept)
        p->kept = kept;
}

/* The weight that a node reads, which may be one of a graph around. NULL: it reads none. */
static const qn_value *weight_of(const qn_graph *g, uint32_t value)
{
    if (value == QN_NO_VALUE)
        return NULL;
    const qn_value *v = &g->values[value];
    for (; v->kind == QN_VALUE_OUTER && g->outer; g = g->outer)
        v = &g->outer->values[v->outer];
    return v->kind == QN_VALUE_WEIGHT ? v : NULL;
}

/* Branches and bodies of loops, as far down as a graph may hold them. */
static void pick_subgraphs(qn_source *src, const qn_node *n, qn_lossy_pick *picks)
{
    for (unsigned i = 0; i < n->n_attrs; i++)
        if (n->attrs[i].type == QN_ATTR_GRAPH)
            qn_lossy_pick_all(src, n->attrs[i].v.graph, picks);
}

void qn_lossy_pick_all(qn_source *src, const qn_graph *g, qn_lossy_pick *picks)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        pick_subgraphs(src, n, picks);
        for (unsigned k = 0; k < n->n_in; k++) {
            const qn_value *w = weight_of(g, n->in[k]);
            use u = {0};
            if (!w)
                continue;
            if (strcmp(n->domain, "quern") == 0)
                u = use_own(g, n, i, k, w);
            else if (*n->domain == '\0')
                u = use_onnx(g, n, k, w);
            else
                u = other(w);
            if (u.role != QN_ROLE_NONE)
                note(src, picks, w, &u);
        }
    }
}
