/* emit_onnx_node.c: what a node has to say otherwise after a cut, by operator. An operator that is not here says nothing about widths. */
#include "base/err.h"
#include "compress/prune/emit_onnx.h"
#include <math.h>
#include <string.h>

/* Channels / channels per group of the weight. */
static qn_code edit_group(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    const uint32_t w = qn_emit_in(n, 1), x = strcmp(n->type, "Conv") ? n->out[0] : n->in[0];
    const int64_t old = qn_node_int(n, "group", 1);
    uint32_t file;
    if (old == 1 || w == QN_NO_VALUE)
        return QN_OK;
    const int64_t per = qn_emit_new(e, w, 1), all = qn_emit_new(e, x, 1);
    if (per < 1 || all % per)
        return qn_emit_refuse(e, node, "what is left does not fill whole groups", err);
    const int64_t now = all / per;
    if (now == old)
        return QN_OK;
    QN_TRY(qn_emit_file_node(e, node, &file, err));
    return qn_onnx_edit_attr(&e->edit, file, "group", &now, QN_ONNX_ONE_INT, err);
}

/* Norm groups go as a whole: their size stays. */
static qn_code edit_num_groups(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    const char *name = *n->domain ? "groups" : "num_groups";
    const unsigned axis = *n->domain && qn_node_int(n, "channels_last", 1) ? qn_emit_rank(e, n->in[0]) - 1 : 1;
    const int64_t old = qn_node_int(n, name, 1), all = qn_emit_old(e, n->in[0], axis), left = qn_emit_new(e, n->in[0], axis);
    uint32_t file;
    if (left == all)
        return QN_OK;
    if (old < 1 || all % old || left % (all / old))
        return qn_emit_refuse(e, node, "what is left does not fill whole groups", err);
    const int64_t now = left / (all / old);
    QN_TRY(qn_emit_file_node(e, node, &file, err));
    return qn_onnx_edit_attr(&e->edit, file, name, &now, QN_ONNX_ONE_INT, err);
}

static qn_code edit_hidden(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    const uint32_t r = qn_emit_in(n, 2); /* (directions, gates · hidden, hidden) */
    uint32_t file;
    if (r == QN_NO_VALUE || !e->touched[r])
        return QN_OK;
    const int64_t now = qn_emit_new(e, r, 2);
    QN_TRY(qn_emit_file_node(e, node, &file, err));
    return qn_onnx_edit_attr(&e->edit, file, "hidden_size", &now, QN_ONNX_ONE_INT, err);
}

/* ---- heads ---- */

/* Of an axis of `heads` runs of one size: how many runs are whole (*now), the others being gone; or every run has lost as much and *now = heads. */
static qn_code count_heads(qn_onnx_emission *e, uint32_t node, uint32_t value, unsigned axis, int64_t heads, int64_t *now, int64_t *size, qn_err *err)
{
    uint8_t *keep;
    uint64_t kept;
    const int64_t all = qn_emit_old(e, value, axis);
    if (heads < 1 || all % heads)
        return qn_emit_refuse(e, node, "its heads do not divide its width", err);
    const int64_t old = all / heads;
    QN_TRY(qn_onnx_emission_axis(e, value, axis, &keep, &kept, err));
    *now = 0;
    *size = 0;
    for (int64_t h = 0; h < heads; h++) {
        int64_t here = 0;
        for (int64_t i = 0; i < old; i++)
            here += keep[h * old + i];
        if (here && *size && here != *size)
            return qn_emit_refuse(e, node, "its heads would keep different sizes", err);
        *size = here ? here : *size;
        *now += here != 0;
    }
    return QN_OK;
}

/* Operators over heads: which operand's last axis has as many heads as which attribute says. */
static const struct heads {
    const char *domain, *type, *attr;
    uint8_t in;
    bool in_out; /* the output's last axis in place of an input's */
} heads_tab[] = {
    {"com.microsoft", "Attention", "num_heads", 0, true},
    {"com.microsoft", "MultiHeadAttention", "num_heads", 0, false},
    {"com.microsoft", "DecoderMaskedMultiHeadAttention", "num_heads", 0, false},
    {"com.microsoft", "GroupQueryAttention", "num_heads", 0, false},
    {"com.microsoft", "GroupQueryAttention", "kv_num_heads", 1, false},
    {"com.microsoft", "RotaryEmbedding", "num_heads", 0, false},
    {"", "Attention", "q_num_heads", 0, false},
    {"", "Attention", "kv_num_heads", 1, false},
    {"", "RotaryEmbedding", "num_heads", 0, false},
};

static qn_code edit_heads(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    for (unsigned i = 0; i < sizeof heads_tab / sizeof heads_tab[0]; i++) {
        const struct heads *h = &heads_tab[i];
        int64_t now = 0, size = 0;
        uint32_t file;
        if (strcmp(h->domain, n->domain) || strcmp(h->type, n->type) || !qn_node_attr(n, h->attr))
            continue;
        const uint32_t v = h->in_out ? n->out[0] : qn_emit_in(n, h->in);
        const int64_t heads = qn_node_int(n, h->attr, 0);
        if (v == QN_NO_VALUE || !e->touched[v] || heads == 0)
            continue;
        const unsigned axis = qn_emit_rank(e, v) - 1;
        QN_TRY(count_heads(e, node, v, axis, heads, &now, &size, err));
        QN_TRY(qn_emit_file_node(e, node, &file, err));
        if (now != heads)
            QN_TRY(qn_onnx_edit_attr(&e->edit, file, h->attr, &now, QN_ONNX_ONE_INT, err));
        const int64_t old = qn_emit_old(e, v, axis) / heads;
        if (size == old || !strcmp(h->type, "RotaryEmbedding"))
            continue;
        if (qn_node_float(n, "scale", 0) == 0) /* the default follows the size, which is another now */
            QN_TRY(qn_onnx_edit_attr_float(&e->edit, file, "scale", (float)(1 / sqrt((double)old)), err));
    }
    if (!qn_node_attr(n, "qkv_hidden_sizes"))
        return QN_OK;
    return e->touched[n->in[0]] || (n->n_in > 1 && n->in[1] != QN_NO_VALUE && e->touched[n->in[1]])
               ? qn_emit_refuse(e, node, "qkv_hidden_sizes", err) : QN_OK;
}

/* ---- pads ---- */

/* What is put in may go like anything else: begin and end of one axis count what is left of it. */
static qn_code pad_axis(qn_onnx_emission *e, uint32_t node, unsigned axis, int64_t *begin, int64_t *end, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    const int64_t size = qn_emit_old(e, n->in[0], axis), all = qn_emit_old(e, n->out[0], axis);
    uint8_t *keep, *keep_in;
    uint64_t kept;
    int64_t left[2] = {0};
    if (qn_emit_new(e, n->in[0], axis) == size && qn_emit_new(e, n->out[0], axis) == all)
        return QN_OK;
    if (*begin < 0 || *end < 0 || *begin + size + *end != all)
        return qn_emit_refuse(e, node, "it takes part of an axis away", err);
    QN_TRY(qn_onnx_emission_axis(e, n->in[0], axis, &keep_in, &kept, err));
    QN_TRY(qn_onnx_emission_axis(e, n->out[0], axis, &keep, &kept, err));
    for (int64_t i = 0; i < all; i++) {
        if (i >= *begin && i < *begin + size) {
            if (keep[i] != keep_in[i - *begin])
                return qn_emit_refuse(e, node, "it would lose what it reads", err);
        } else {
            left[i >= *begin] += keep[i];
        }
    }
    *begin = left[0];
    *end = left[1];
    return QN_OK;
}

static qn_code edit_pad(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    const unsigned rank = qn_emit_rank(e, n->in[0]);
    unsigned n_attr;
    const char *attr = qn_node_attr(n, "paddings") ? "paddings" : "pads";
    const int64_t *by_attr = qn_node_ints(n, attr, &n_attr);
    int64_t *list, *axes, pads[2 * QN_ARRAY_RANK_MAX], old[2 * QN_ARRAY_RANK_MAX];
    uint64_t n_list, n_axes;
    uint32_t file;
    if (rank > QN_ARRAY_RANK_MAX || !e->touched[n->out[0]])
        return QN_OK;
    QN_TRY(qn_emit_ints(e, qn_emit_in(n, 1), &list, &n_list, err));
    QN_TRY(qn_emit_ints(e, qn_emit_in(n, 3), &axes, &n_axes, err));
    n_list = by_attr ? n_attr : n_list;
    n_axes = axes ? n_axes : rank;
    if ((!by_attr && !list) || n_axes > rank || n_list != 2 * n_axes || (!axes && qn_emit_in(n, 3) != QN_NO_VALUE))
        return qn_emit_refuse(e, node, "its pads are not known", err);
    memcpy(old, by_attr ? by_attr : list, n_list * sizeof *old);
    memcpy(pads, old, n_list * sizeof *old);
    for (unsigned i = 0; i < n_axes; i++) {
        const int64_t axis = !axes ? (int64_t)i : axes[i] < 0 ? axes[i] + (int64_t)rank : axes[i];
        if (axis >= 0 && axis < (int64_t)rank)
            QN_TRY(pad_axis(e, node, (unsigned)axis, &pads[i], &pads[i + n_axes], err));
    }
    if (!memcmp(old, pads, n_list * sizeof *old))
        return QN_OK;
    if (!by_attr)
        return qn_emit_literal(e, node, 1, pads, n_list, 1, err);
    QN_TRY(qn_emit_file_node(e, node, &file, err));
    return qn_onnx_edit_attr(&e->edit, file, attr, pads, (uint32_t)n_list, err);
}

static qn_code refuse_all(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    return qn_emit_refuse(e, node, "no rule for its attributes", err);
}

static const struct rule {
    const char *domain, *type;
    qn_code (*edit)(qn_onnx_emission *e, uint32_t node, qn_err *err);
} rules[] = {
    {"", "Attention", edit_heads},
    {"", "ConstantOfShape", qn_emit_sizes},
    {"", "Conv", edit_group},
    {"", "ConvInteger", edit_group},
    {"", "ConvTranspose", edit_group},
    {"", "Expand", qn_emit_sizes},
    {"", "GRU", edit_hidden},
    {"", "Gather", qn_emit_gather},
    {"", "GroupNormalization", edit_num_groups},
    {"", "LSTM", edit_hidden},
    {"", "Pad", edit_pad},
    {"", "QLinearConv", refuse_all},
    {"", "RNN", edit_hidden},
    {"", "Reshape", qn_emit_reshape},
    {"", "Resize", qn_emit_sizes},
    {"", "RotaryEmbedding", edit_heads},
    {"", "Slice", qn_emit_slice},
    {"", "Split", qn_emit_split},
    {"", "Tile", qn_emit_sizes},
    {"com.microsoft", "Attention", edit_heads},
    {"com.microsoft", "DecoderMaskedMultiHeadAttention", edit_heads},
    {"com.microsoft", "GroupNorm", edit_num_groups},
    {"com.microsoft", "GroupQueryAttention", edit_heads},
    {"com.microsoft", "MatMulNBits", refuse_all},
    {"com.microsoft", "MultiHeadAttention", edit_heads},
    {"com.microsoft", "RotaryEmbedding", edit_heads},
};

static bool concerns(const qn_onnx_emission *e, const qn_node *n, bool *touched)
{
    bool drifts = false;
    *touched = false;
    for (unsigned k = 0; k < n->n_in; k++)
        if (n->in[k] != QN_NO_VALUE) {
            *touched = *touched || e->touched[n->in[k]];
            drifts = drifts || qn_emit_drifts(e, n->in[k]);
        }
    for (unsigned k = 0; k < n->n_out; k++)
        *touched = *touched || (n->out[k] != QN_NO_VALUE && e->touched[n->out[k]]);
    return *touched || drifts;
}

qn_code qn_emit_node(qn_onnx_emission *e, uint32_t node, qn_err *err)
{
    const qn_node *n = &e->g->nodes[node];
    bool touched;
    if (!concerns(e, n, &touched))
        return QN_OK;
    for (unsigned k = 0; touched && k < n->n_attrs; k++)
        if (n->attrs[k].type == QN_ATTR_GRAPH)
            return qn_emit_refuse(e, node, "it has a graph in an attribute", err);
    for (unsigned i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (!strcmp(rules[i].domain, n->domain) && !strcmp(rules[i].type, n->type))
            QN_TRY(rules[i].edit(e, node, err));
    return qn_emit_frozen_operands(e, node, err);
}
