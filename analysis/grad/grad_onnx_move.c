/* grad_onnx_move.c: operators that put elements elsewhere: the derivative goes the way back. The frequent ones directly; all others by asking the forward
 * pass where an element came from: it moves the elements' numbers instead of the elements. */
#include "analysis/grad/backs.h"
#include "base/num.h"
#include <string.h>

#define BACK(name)                                                                                                                       \
    qn_code qn_back_##name(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want, \
                           qn_array *d_in, qn_err *err)

/* Reshape, Flatten, Squeeze, Unsqueeze */
BACK(view)
{
    (void)x;
    (void)n;
    (void)out;
    (void)want;
    return qn_array_view(&d_out[0], &d_in[0], in[0].dims, in[0].rank, err);
}

BACK(expand)
{
    (void)n;
    (void)out;
    (void)want;
    return qn_grad_reduce(x, &d_out[0], NULL, &in[0], &d_in[0], err);
}

BACK(transpose)
{
    (void)want;
    (void)out;
    unsigned count;
    const unsigned rank = in[0].rank;
    const int64_t *perm = qn_node_ints(n, "perm", &count);
    int64_t strides[1][QN_ARRAY_RANK_MAX] = {{0}}, step = 1;
    for (unsigned k = rank; k-- > 0; step *= d_out[0].dims[k]) {
        unsigned axis = rank - 1 - k;
        if (perm)
            QN_TRY(qn_axis_of(perm[k], rank, &axis, err));
        strides[0][axis] = step;
    }
    QN_TRY(qn_grad_like(x, &in[0], false, &d_in[0], err));
    qn_walk w;
    qn_walk_strides(&w, in[0].dims, rank, (const int64_t (*)[QN_ARRAY_RANK_MAX])strides, 1);
    return qn_walk_copy(x, &w, sizeof(float), d_out[0].data, d_in[0].data, err);
}

/* --- pieces along an axis --------------------------------------------------------------------------------------------------- */

struct piece {
    const float *src; /* NULL: zeros */
    float *dst;
    uint64_t src_row, dst_row, n, n_rows, per_part; /* elements of a row of the outer dimensions */
};

static qn_code copy_rows(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct piece *p = ctx;
    const uint64_t last = qn_min_u64(p->n_rows, (i + 1) * p->per_part);
    for (uint64_t r = i * p->per_part; r < last; r++)
        if (p->src)
            memcpy(p->dst + r * p->dst_row, p->src + r * p->src_row, p->n * sizeof *p->dst);
        else
            memset(p->dst + r * p->dst_row, 0, p->n * sizeof *p->dst);
    return QN_OK;
}

static qn_code copy_piece(qn_exec *x, struct piece *p, qn_err *err)
{
    if (!p->n || !p->n_rows)
        return QN_OK;
    p->per_part = qn_max_u64(1, (1 << 16) / p->n);
    return qn_exec_parts(x, qn_ceil_div(p->n_rows, p->per_part), p->n_rows * p->n, copy_rows, p, err);
}

BACK(concat)
{
    (void)out;
    unsigned axis;
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 1), d_out[0].rank, &axis, err));
    const uint64_t tail = qn_span(d_out[0].dims, axis + 1, d_out[0].rank);
    struct piece p = {.src = d_out[0].data, .src_row = (uint64_t)d_out[0].dims[axis] * tail, .n_rows = qn_span(d_out[0].dims, 0, axis)};
    for (unsigned i = 0; i < n->n_in; i++) {
        p.dst_row = p.n = (uint64_t)in[i].dims[axis] * tail;
        if (want[i]) {
            QN_TRY(qn_grad_like(x, &in[i], false, &d_in[i], err));
            p.dst = d_in[i].data;
            QN_TRY(copy_piece(x, &p, err));
        }
        p.src += p.n;
    }
    return QN_OK;
}

static qn_code unsplit(qn_exec *x, const qn_node *n, const qn_array *in, const qn_info *info, const qn_array *d_out, qn_array *d_in, qn_err *err)
{
    unsigned axis;
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in[0].rank, &axis, err));
    QN_TRY(qn_grad_like(x, &in[0], false, &d_in[0], err));
    const uint64_t tail = qn_span(in[0].dims, axis + 1, in[0].rank);
    struct piece p = {.dst = d_in[0].data, .dst_row = (uint64_t)in[0].dims[axis] * tail, .n_rows = qn_span(in[0].dims, 0, axis)};
    for (unsigned i = 0; i < n->n_out; i++) {
        p.src = d_out[i].data; /* nobody needed it: zeros */
        p.src_row = p.n = (uint64_t)info[i].dims[axis] * tail;
        QN_TRY(copy_piece(x, &p, err));
        p.dst += p.n;
    }
    return QN_OK;
}

/* The sizes are the shape rule's: an output that is left out has none. */
BACK(split)
{
    (void)out;
    (void)want;
    qn_info *info = qn_mem_get(qn_exec_env(x)->alloc, n->n_out * sizeof *info, err);
    if (!info)
        return QN_E_MEMORY;
    qn_code rc = qn_plan(n, in, info, err);
    if (rc == QN_OK)
        rc = unsplit(x, n, in, info, d_out, d_in, err);
    qn_mem_put(qn_exec_env(x)->alloc, info);
    return rc;
}

/* --- Gather: an entry gets the sum of the places where it stands --------------------------------------------------------------- */

struct gather {
    const qn_array *indices;
    const float *dy;
    float *dx;
    uint64_t inner, n_entries, n_blocks;
};

enum { BLOCK = 256 };

/* Task: a block of the inner elements of one outer index; indices in order. */
static qn_code gather_block(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct gather *g = ctx;
    const uint64_t outer = i / g->n_blocks, from = i % g->n_blocks * BLOCK, n = qn_min_u64(BLOCK, g->inner - from);
    const float *dy = g->dy + outer * g->indices->n * g->inner + from;
    float *dx = g->dx + outer * g->n_entries * g->inner + from;
    for (uint64_t k = 0; k < g->indices->n; k++, dy += g->inner) {
        const int64_t v = qn_elem_int(g->indices, k);
        float *row = dx + (uint64_t)(v < 0 ? v + (int64_t)g->n_entries : v) * g->inner;
        for (uint64_t j = 0; j < n; j++)
            row[j] += dy[j];
    }
    return QN_OK;
}

BACK(gather)
{
    (void)out;
    (void)want;
    unsigned axis;
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in[0].rank, &axis, err));
    QN_TRY(qn_grad_like(x, &in[0], true, &d_in[0], err));
    struct gather g = {.indices = &in[1], .dy = d_out[0].data, .dx = d_in[0].data, .inner = qn_span(in[0].dims, axis + 1, in[0].rank),
                       .n_entries = (uint64_t)in[0].dims[axis]};
    g.n_blocks = qn_ceil_div(g.inner, BLOCK);
    return d_out[0].n ? qn_exec_parts(x, qn_span(in[0].dims, 0, axis) * g.n_blocks, d_out[0].n, gather_block, &g, err) : QN_OK;
}

/* --- by numbers ---------------------------------------------------------------------------------------------------------------- */

enum { OPERANDS = 5 };

/* from: for each element of the output the number, counted from 1, of the input's element that stands there; 0: filled in. */
static qn_code sources(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *from, qn_err *err)
{
    static int32_t none;
    qn_array with[OPERANDS] = {{0}};
    uint32_t values[OPERANDS];
    qn_node node = *n;
    if (n->n_in > OPERANDS || in[0].n >= INT32_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a derivative of so many elements");
    for (unsigned k = 0; k < OPERANDS; k++) {
        values[k] = k < n->n_in ? n->in[k] : QN_NO_VALUE;
        if (k && k < n->n_in)
            with[k] = in[k];
    }
    QN_TRY(qn_exec_new(x, &with[0], QN_I32, in[0].dims, in[0].rank, err));
    for (uint64_t i = 0; i < in[0].n; i++)
        ((int32_t *)with[0].data)[i] = (int32_t)(i + 1);
    if (!strcmp(n->type, "Pad")) { /* filled with 0, whatever else it is */
        with[2] = (qn_array){.data = &none, .n = 1, .dtype = QN_I32};
        values[2] = values[0];
        node.n_in = n->n_in < 3 ? 3 : n->n_in;
    }
    node.in = values;
    node.n_out = 1;
    const qn_code rc = n->op->forward(x, &node, with, from, err);
    qn_array_release(&with[0]);
    return rc;
}

/* Slice, Pad, Tile, DepthToSpace, SpaceToDepth, GatherElements, GatherND, Trilu, ReverseSequence, Compress */
BACK(move)
{
    (void)out;
    qn_array from = {0};
    qn_code rc = sources(x, n, in, &from, err);
    if (rc == QN_OK && want[0])
        rc = qn_grad_like(x, &in[0], true, &d_in[0], err);
    if (rc == QN_OK && n->n_in > 2 && want[2]) /* Pad's value */
        rc = qn_grad_like(x, &in[2], true, &d_in[2], err);
    if (rc == QN_OK && from.n != d_out[0].n)
        rc = QN_BUG(err, "the forward pass has moved another number of elements");
    double filled = 0;
    const int32_t *f = from.data;
    const float *dy = d_out[0].data;
    float *dx = d_in[0].data;
    for (uint64_t i = 0; i < from.n && rc == QN_OK; i++)
        if (f[i] <= 0)
            filled += (double)dy[i];
        else if (dx)
            dx[f[i] - 1] += dy[i];
    if (rc == QN_OK && n->n_in > 2 && d_in[2].n)
        *(float *)d_in[2].data = (float)filled;
    qn_array_release(&from);
    return rc;
}
