/* onnx_move.c: operators that put elements elsewhere without looking at them. */
#include "analysis/exec/ops_onnx.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <string.h>

static void row_strides(const int64_t *dims, unsigned rank, int64_t *strides)
{
    int64_t step = 1;
    for (unsigned k = rank; k-- > 0;) {
        strides[k] = step;
        step *= dims[k];
    }
}

/* ---- Transpose ---- */

static qn_code perm_of(const qn_node *n, unsigned rank, unsigned *perm, qn_err *err)
{
    unsigned count;
    const int64_t *p = qn_node_ints(n, "perm", &count);
    uint32_t seen = 0;
    for (unsigned k = 0; k < rank; k++)
        perm[k] = rank - 1 - k;
    if (!p)
        return QN_OK;
    if (count != rank)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "perm has %u entries for a tensor of rank %u", count, rank);
    for (unsigned k = 0; k < rank; k++) {
        unsigned a;
        QN_TRY(qn_axis_of(p[k], rank, &a, err));
        if (seen >> a & 1)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "perm names axis %u twice", a);
        seen |= 1u << a;
        perm[k] = a;
    }
    return QN_OK;
}

qn_code qn_onnx_transpose_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    unsigned perm[QN_ARRAY_RANK_MAX];
    out->dtype = in->dtype;
    if (!qn_info_ranked(in))
        return QN_OK;
    QN_TRY(perm_of(n, in->rank, perm, err));
    out->rank = in->rank;
    for (unsigned k = 0; k < in->rank; k++)
        out->dims[k] = in->dims[perm[k]];
    return QN_OK;
}

qn_code qn_onnx_transpose(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    unsigned perm[QN_ARRAY_RANK_MAX];
    int64_t from[QN_ARRAY_RANK_MAX], strides[1][QN_ARRAY_RANK_MAX] = {{0}};
    QN_TRY(perm_of(n, in->rank, perm, err));
    row_strides(in->dims, in->rank, from);
    QN_TRY(qn_plan_new(x, n, in, out, err));
    for (unsigned k = 0; k < in->rank; k++)
        strides[0][k] = from[perm[k]];
    qn_walk w;
    qn_walk_strides(&w, out->dims, out->rank, (const int64_t (*)[QN_ARRAY_RANK_MAX])strides, 1);
    return qn_walk_copy(x, &w, qn_elem_bytes(in->dtype), in->data, out->data, err);
}

/* ---- Expand ---- */

qn_code qn_onnx_expand_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_ints sizes;
    out->dtype = in->dtype;
    QN_TRY(qn_ints_of(n, in, 1, NULL, &sizes, err));
    if (!sizes.sized)
        return QN_OK;
    if (sizes.n > QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a shape of rank %u; at most %u is supported", sizes.n, (unsigned)QN_ARRAY_RANK_MAX);
    qn_info two[2] = {in[0], {.rank = (uint8_t)sizes.n}};
    for (unsigned k = 0; k < sizes.n; k++) {
        two[1].dims[k] = !sizes.known && sizes.v[k] == QN_INT_UNKNOWN ? QN_DIM_UNKNOWN : sizes.v[k];
        if (sizes.v[k] < 0 && two[1].dims[k] != QN_DIM_UNKNOWN)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a shape with a dimension of %" PRId64, sizes.v[k]);
        if (sizes.v[k] == -1)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a shape with a dimension of -1");
    }
    return qn_info_broadcast(two, 2, out, err);
}

qn_code qn_onnx_expand(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const qn_array *ops[] = {in};
    qn_walk w;
    QN_TRY(qn_plan_new(x, n, in, out, err));
    qn_walk_init(&w, out->dims, out->rank, ops, 1);
    return qn_walk_copy(x, &w, qn_elem_bytes(in->dtype), in->data, out->data, err);
}

/* ---- Concat, Split ---- */

struct piece {
    const uint8_t *src;
    uint8_t *dst;
    uint64_t src_row, dst_row, n_bytes; /* rows of the outer dimensions */
    uint64_t n_rows, per_part;
};

static qn_code copy_rows(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct piece *p = ctx;
    const uint64_t last = qn_min_u64(p->n_rows, (i + 1) * p->per_part);
    for (uint64_t r = i * p->per_part; r < last; r++)
        memcpy(p->dst + r * p->dst_row, p->src + r * p->src_row, p->n_bytes);
    return QN_OK;
}

static qn_code copy_piece(qn_exec *x, struct piece *p, qn_err *err)
{
    if (!p->n_bytes || !p->n_rows)
        return QN_OK;
    p->per_part = qn_max_u64(1, (1 << 18) / p->n_bytes);
    return qn_exec_parts(x, qn_ceil_div(p->n_rows, p->per_part), p->n_rows * p->n_bytes / 8, copy_rows, p, err);
}

qn_code qn_onnx_concat_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    unsigned axis = 0;
    bool first = true;
    for (unsigned i = 0; i < n->n_in; i++) {
        if (!qn_node_has(n, i))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "operand %u is left out", i);
        if (out->dtype == QN_BYTES)
            out->dtype = in[i].dtype;
        else if (in[i].dtype != QN_BYTES && in[i].dtype != out->dtype)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "operands 0 and %u differ in dtype", i);
        if (!qn_info_ranked(&in[i]))
            return QN_OK;
    }
    for (unsigned i = 0; i < n->n_in; i++) {
        if (first) {
            QN_TRY(qn_axis_of(qn_node_int(n, "axis", 1), in[i].rank, &axis, err));
            memcpy(out->dims, in[i].dims, sizeof out->dims);
            out->rank = in[i].rank;
            first = false;
            continue;
        }
        if (in[i].rank != out->rank)
            return qn_fail_shapes(&in[0], &in[i], err);
        for (unsigned k = 0; k < out->rank; k++) {
            const int64_t d = in[i].dims[k];
            if (k == axis) {
                if (d == QN_DIM_UNKNOWN || out->dims[k] == QN_DIM_UNKNOWN)
                    out->dims[k] = QN_DIM_UNKNOWN;
                else if (__builtin_add_overflow(out->dims[k], d, &out->dims[k]))
                    return qn_fail_shapes(&in[0], &in[i], err);
            } else if (out->dims[k] == QN_DIM_UNKNOWN)
                out->dims[k] = d;
            else if (d != QN_DIM_UNKNOWN && d != out->dims[k])
                return qn_fail_shapes(&in[0], &in[i], err);
        }
    }
    return QN_OK;
}

qn_code qn_onnx_concat(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    unsigned axis;
    QN_TRY(qn_plan_new(x, n, in, out, err));
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 1), out->rank, &axis, err));
    const uint64_t bytes = qn_elem_bytes(out->dtype), tail = qn_span(out->dims, axis + 1, out->rank) * bytes;
    struct piece p = {.dst = out->data, .dst_row = (uint64_t)out->dims[axis] * tail, .n_rows = qn_span(out->dims, 0, axis)};
    for (unsigned i = 0; i < n->n_in; i++) {
        p.src = in[i].data;
        p.src_row = p.n_bytes = (uint64_t)in[i].dims[axis] * tail;
        QN_TRY(copy_piece(x, &p, err));
        p.dst += p.n_bytes;
    }
    return QN_OK;
}

qn_code qn_onnx_split_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    unsigned axis;
    qn_ints sizes;
    QN_TRY(qn_ints_of(n, in, 1, "split", &sizes, err));
    for (unsigned i = 0; i < n->n_out; i++)
        out[i].dtype = in->dtype;
    if (!qn_info_ranked(in))
        return QN_OK;
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in->rank, &axis, err));
    const int64_t whole = in->dims[axis], parts = qn_node_int(n, "num_outputs", (int64_t)n->n_out);
    if (parts != (int64_t)n->n_out)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "num_outputs is %" PRId64 " for %u outputs", parts, n->n_out);
    int64_t sum = 0;
    for (unsigned i = 0; i < n->n_out; i++) {
        qn_info_like(&out[i], in);
        if (!sizes.there && whole != QN_DIM_UNKNOWN) {
            const int64_t each = whole / parts + (whole % parts != 0); /* from version 18 on the last may be smaller */
            out[i].dims[axis] = whole - sum < each ? whole - sum : each;
        } else
            out[i].dims[axis] = sizes.known && i < sizes.n ? sizes.v[i] : QN_DIM_UNKNOWN;
        if (out[i].dims[axis] != QN_DIM_UNKNOWN && (out[i].dims[axis] < 0 || __builtin_add_overflow(sum, out[i].dims[axis], &sum)))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a piece of %" PRId64 " entries", out[i].dims[axis]);
    }
    if (sizes.known && (sizes.n != n->n_out || (whole != QN_DIM_UNKNOWN && sum != whole)))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%u pieces of %" PRId64 " entries in all; there are %u outputs and %" PRId64 " entries",
                       sizes.n, sum, n->n_out, whole);
    return QN_OK;
}

qn_code qn_onnx_split(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    unsigned axis;
    qn_info *info = qn_mem_get(qn_exec_env(x)->alloc, n->n_out * sizeof *info, err);
    if (!info)
        return QN_E_MEMORY;
    qn_code rc = qn_plan(n, in, info, err);
    if (rc == QN_OK)
        rc = qn_axis_of(qn_node_int(n, "axis", 0), in->rank, &axis, err);
    if (rc == QN_OK) {
        const uint64_t tail = qn_span(in->dims, axis + 1, in->rank) * qn_elem_bytes(in->dtype);
        struct piece p = {.src = in->data, .src_row = (uint64_t)in->dims[axis] * tail, .n_rows = qn_span(in->dims, 0, axis)};
        for (unsigned i = 0; i < n->n_out && rc == QN_OK; i++) {
            rc = qn_exec_new(x, &out[i], (qn_dtype)in->dtype, info[i].dims, info[i].rank, err);
            p.dst = out[i].data;
            p.dst_row = p.n_bytes = (uint64_t)info[i].dims[axis] * tail;
            if (rc == QN_OK)
                rc = copy_piece(x, &p, err);
            p.src += p.n_bytes;
        }
    }
    qn_mem_put(qn_exec_env(x)->alloc, info);
    return rc;
}

/* ---- Slice: attributes up to version 9, then inputs ---- */

struct slice {
    int64_t start[QN_ARRAY_RANK_MAX], step[QN_ARRAY_RANK_MAX], count[QN_ARRAY_RANK_MAX];
};

static int64_t held(int64_t v, int64_t least, int64_t most)
{
    return v < least ? least : v > most ? most : v;
}

/* *open: which axes' counts are not known. Unknown dims give unknown counts, unless nothing is cut there. */
static qn_code slice_of(const qn_node *n, const qn_info *in, struct slice *s, bool *known, qn_err *err)
{
    qn_ints starts, ends, axes, steps;
    uint32_t mask;
    *known = false;
    QN_TRY(qn_ints_of(n, in, 1, "starts", &starts, err));
    QN_TRY(qn_ints_of(n, in, 2, "ends", &ends, err));
    QN_TRY(qn_ints_of(n, in, 3, "axes", &axes, err));
    QN_TRY(qn_ints_of(n, in, 4, NULL, &steps, err));
    if (!starts.there || !ends.there)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "starts or ends are not given");
    if (!starts.known || !ends.known || (axes.there && !axes.known) || (steps.there && !steps.known))
        return QN_OK;
    if (!axes.there)
        for (axes.n = 0; axes.n < starts.n; axes.n++)
            axes.v[axes.n] = axes.n;
    if (!steps.there)
        for (steps.n = 0; steps.n < starts.n; steps.n++)
            steps.v[steps.n] = 1;
    if (ends.n != starts.n || axes.n != starts.n || steps.n != starts.n || starts.n > in->rank)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%u starts, %u ends, %u axes, %u steps for a tensor of rank %u", starts.n, ends.n, axes.n,
                       steps.n, in->rank);
    QN_TRY(qn_axes_mask(&axes, in->rank, &mask, err));
    for (unsigned k = 0; k < in->rank; k++) {
        s->start[k] = 0;
        s->step[k] = 1;
        s->count[k] = in->dims[k];
    }
    for (unsigned i = 0; i < starts.n; i++) {
        unsigned a;
        QN_TRY(qn_axis_of(axes.v[i], in->rank, &a, err));
        const int64_t d = in->dims[a], step = steps.v[i];
        if (step == 0 || step == INT64_MIN)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a step of %" PRId64, step);
        if (d == QN_DIM_UNKNOWN) {
            s->count[a] = QN_DIM_UNKNOWN;
            continue;
        }
        int64_t from = starts.v[i] < 0 ? starts.v[i] + d : starts.v[i], to = ends.v[i] < 0 ? ends.v[i] + d : ends.v[i];
        from = step > 0 ? held(from, 0, d) : held(from, 0, d - 1);
        to = step > 0 ? held(to, 0, d) : held(to, -1, d - 1);
        const int64_t way = step > 0 ? to - from : from - to, size = step > 0 ? step : -step;
        s->start[a] = from;
        s->step[a] = step;
        s->count[a] = way > 0 && d > 0 ? way / size + (way % size != 0) : 0;
    }
    *known = true;
    return QN_OK;
}

qn_code qn_onnx_slice_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    struct slice s;
    bool known;
    out->dtype = in->dtype;
    if (!qn_info_ranked(in))
        return QN_OK;
    QN_TRY(slice_of(n, in, &s, &known, err));
    out->rank = in->rank;
    for (unsigned k = 0; k < in->rank; k++)
        out->dims[k] = known ? s.count[k] : QN_DIM_UNKNOWN;
    return QN_OK;
}

qn_code qn_onnx_slice(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    struct slice s;
    bool known;
    qn_info info[5] = {{.rank = in->rank, .dtype = in->dtype}};
    memcpy(info[0].dims, in->dims, sizeof in->dims);
    for (unsigned i = 1; i < n->n_in; i++)
        info[i].partly = info[i].value = in[i].dtype == QN_BYTES ? NULL : &in[i];
    QN_TRY(slice_of(n, info, &s, &known, err));
    if (!known)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "starts, ends or axes are left out");
    QN_TRY(qn_exec_new(x, out, (qn_dtype)in->dtype, s.count, in->rank, err));
    if (!out->n)
        return QN_OK;
    int64_t strides[1][QN_ARRAY_RANK_MAX], first = 0;
    row_strides(in->dims, in->rank, strides[0]);
    for (unsigned k = 0; k < in->rank; k++) {
        first += s.start[k] * strides[0][k];
        if (s.count[k] > 1)
            strides[0][k] *= s.step[k];
    }
    qn_walk w;
    qn_walk_strides(&w, out->dims, out->rank, (const int64_t (*)[QN_ARRAY_RANK_MAX])strides, 1);
    return qn_walk_copy(x, &w, qn_elem_bytes(in->dtype), (const uint8_t *)in->data + (uint64_t)first * qn_elem_bytes(in->dtype), out->data, err);
}

/* ---- DepthToSpace, SpaceToDepth: six axes in another order ---- */

static qn_code block_shape(const qn_node *n, const qn_info *in, bool to_space, qn_info *out, qn_err *err)
{
    const int64_t b = qn_node_int(n, "blocksize", 0);
    out->dtype = in->dtype;
    if (!qn_info_ranked(in))
        return QN_OK;
    if (in->rank != 4 || b < 1 || b > 4096)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "rank %u with blocksize %" PRId64 "; rank 4 and a size of 1 or more are needed", in->rank, b);
    for (unsigned k = 0; k < 4; k++) {
        const int64_t by = k == 0 ? 1 : k == 1 ? b * b : b;
        const bool grows = (k == 1) != to_space;
        out->dims[k] = in->dims[k];
        if (in->dims[k] == QN_DIM_UNKNOWN || k == 0)
            continue;
        if (!grows && in->dims[k] % by)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "dimension %u is %" PRId64 ", no multiple of %" PRId64, k, in->dims[k], by);
        if (grows && __builtin_mul_overflow(in->dims[k], by, &out->dims[k]))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "dimension %u overflows", k);
        if (!grows)
            out->dims[k] = in->dims[k] / by;
    }
    out->rank = 4;
    return QN_OK;
}

qn_code qn_onnx_depth_to_space_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    return block_shape(n, in, true, out, err);
}

qn_code qn_onnx_space_to_depth_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    return block_shape(n, in, false, out, err);
}

/* dims: the input taken apart; perm: the output's axes in it. */
static qn_code reorder(qn_exec *x, const qn_array *in, const int64_t *dims, const unsigned *perm, qn_array *out, qn_err *err)
{
    int64_t from[6], to[6], strides[1][QN_ARRAY_RANK_MAX] = {{0}};
    row_strides(dims, 6, from);
    for (unsigned k = 0; k < 6; k++) {
        to[k] = dims[perm[k]];
        strides[0][k] = from[perm[k]];
    }
    qn_walk w;
    qn_walk_strides(&w, to, 6, (const int64_t (*)[QN_ARRAY_RANK_MAX])strides, 1);
    return qn_walk_copy(x, &w, qn_elem_bytes(in->dtype), in->data, out->data, err);
}

qn_code qn_onnx_depth_to_space(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    static const unsigned dcr[6] = {0, 3, 4, 1, 5, 2}, crd[6] = {0, 1, 4, 2, 5, 3};
    const int64_t b = qn_node_int(n, "blocksize", 0);
    const bool columns = !strcmp(qn_node_string(n, "mode", "DCR"), "CRD");
    QN_TRY(qn_plan_new(x, n, in, out, err));
    const int64_t c = out->dims[1], a[6] = {in->dims[0], b, b, c, in->dims[2], in->dims[3]}, d[6] = {in->dims[0], c, b, b, in->dims[2], in->dims[3]};
    return reorder(x, in, columns ? d : a, columns ? crd : dcr, out, err);
}

qn_code qn_onnx_space_to_depth(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    static const unsigned perm[6] = {0, 3, 5, 1, 2, 4};
    const int64_t b = qn_node_int(n, "blocksize", 0);
    QN_TRY(qn_plan_new(x, n, in, out, err));
    const int64_t dims[6] = {in->dims[0], in->dims[1], out->dims[2], b, out->dims[3], b};
    return reorder(x, in, dims, perm, out, err);
}
