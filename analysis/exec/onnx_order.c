/* onnx_order.c: operators that rank or group elements: TopK, Unique; and those that walk a matrix or a sequence: Trilu,
 * ReverseSequence. */
#include "analysis/exec/ops_onnx.h"
#include "base/err.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- TopK: k is an attribute up to version 9 ---- */

static qn_code k_of(const qn_node *n, const qn_info *in, int64_t *k, bool *known, qn_err *err)
{
    *known = true;
    *k = qn_node_int(n, "k", 0);
    if (qn_node_has(n, 1)) {
        *known = in[1].value != NULL;
        if (*known)
            return qn_array_int(in[1].value, k, err);
    }
    return QN_OK;
}

qn_code qn_onnx_top_k_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    int64_t k;
    unsigned axis;
    bool known;
    qn_info_like(&out[0], in);
    if (!qn_info_ranked(in)) {
        out[1].dtype = QN_I64;
        return QN_OK;
    }
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", -1), in->rank, &axis, err));
    QN_TRY(k_of(n, in, &k, &known, err));
    if (known && (k < 0 || (in->dims[axis] != QN_DIM_UNKNOWN && k > in->dims[axis])))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the first %" PRId64 " of %" PRId64 " entries", k, in->dims[axis]);
    out[0].dims[axis] = known ? k : QN_DIM_UNKNOWN;
    qn_info_like(&out[1], &out[0]);
    out[1].dtype = QN_I64;
    return QN_OK;
}

struct ranked {
    double f; /* or, of integers, in i */
    int64_t i, at;
};

/* Ascending; NaN above everything; equal ones as they stood. */
static int by_float(const void *pa, const void *pb)
{
    const struct ranked *a = pa, *b = pb;
    const bool na = a->f != a->f, nb = b->f != b->f;
    if (na || nb)
        return na != nb ? na - nb : (a->at > b->at) - (a->at < b->at);
    return a->f != b->f ? (a->f > b->f) - (a->f < b->f) : (a->at > b->at) - (a->at < b->at);
}

static int by_int(const void *pa, const void *pb)
{
    const struct ranked *a = pa, *b = pb;
    return a->i != b->i ? (a->i > b->i) - (a->i < b->i) : (a->at > b->at) - (a->at < b->at);
}

qn_code qn_onnx_top_k(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const bool largest = qn_node_int(n, "largest", 1) != 0, is_float = qn_is_float(in->dtype);
    const unsigned bytes = qn_elem_bytes(in->dtype);
    unsigned axis;
    QN_TRY(qn_plan_new(x, n, in, out, err));
    QN_TRY(qn_exec_new(x, &out[1], QN_I64, out[0].dims, out[0].rank, err));
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", -1), in->rank, &axis, err));
    if (!out->n)
        return QN_OK;
    const uint64_t size = (uint64_t)in->dims[axis], k = (uint64_t)out->dims[axis], inner = qn_span(in->dims, axis + 1, in->rank);
    struct ranked *list = qn_mem_get(qn_exec_env(x)->alloc, size * sizeof *list, err);
    if (!list)
        return QN_E_MEMORY;
    for (uint64_t row = 0; row < in->n / size; row++) {
        const uint64_t from = row / inner * size * inner + row % inner, to = row / inner * k * inner + row % inner;
        for (uint64_t j = 0; j < size; j++) {
            /* The largest first and, among equals, the first one: by ranks from behind. */
            const int64_t at = (int64_t)j;
            list[j] = (struct ranked){.at = largest ? -at : at};
            if (is_float)
                list[j].f = qn_elem_float(in, from + j * inner);
            else
                list[j].i = qn_elem_int(in, from + j * inner);
        }
        qsort(list, (size_t)size, sizeof *list, is_float ? by_float : by_int);
        for (uint64_t j = 0; j < k; j++) {
            const struct ranked *e = &list[largest ? size - 1 - j : j];
            const uint64_t at = (uint64_t)(e->at < 0 ? -e->at : e->at);
            memcpy((uint8_t *)out[0].data + (to + j * inner) * bytes, (const uint8_t *)in->data + (from + at * inner) * bytes, bytes);
            ((int64_t *)out[1].data)[to + j * inner] = (int64_t)at;
        }
    }
    qn_mem_put(qn_exec_env(x)->alloc, list);
    return QN_OK;
}

/* ---- Unique ---- */

qn_code qn_onnx_unique_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    const qn_attr *a = qn_node_attr(n, "axis");
    unsigned axis = 0;
    out[0].dtype = in->dtype;
    for (unsigned i = 1; i < n->n_out; i++) {
        out[i].dtype = QN_I64;
        out[i].rank = 1;
        out[i].dims[0] = QN_DIM_UNKNOWN;
    }
    if (!a) {
        out[0].rank = 1;
        out[0].dims[0] = QN_DIM_UNKNOWN;
        return QN_OK;
    }
    if (!qn_info_ranked(in))
        return QN_OK;
    QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in->rank, &axis, err));
    qn_info_like(&out[0], in);
    out[0].dims[axis] = QN_DIM_UNKNOWN;
    return QN_OK;
}

struct unique {
    const qn_array *in;
    uint64_t size, inner, outer; /* entries of the axis; elements behind and before it */
    uint64_t *order, *group;     /* entries sorted; each entry's group */
    uint64_t *first, *count;     /* of a group */
    uint64_t n;
};

static int compare(const struct unique *u, uint64_t a, uint64_t b)
{
    for (uint64_t o = 0; o < u->outer; o++)
        for (uint64_t i = 0; i < u->inner; i++) {
            const uint64_t p = (o * u->size + a) * u->inner + i, q = (o * u->size + b) * u->inner + i;
            if (qn_is_float(u->in->dtype)) {
                const double v = qn_elem_float(u->in, p), w = qn_elem_float(u->in, q);
                if (v != w)
                    return v < w || w != w ? -1 : 1;
            } else {
                const int64_t v = qn_elem_int(u->in, p), w = qn_elem_int(u->in, q);
                if (v != w)
                    return v < w ? -1 : 1;
            }
        }
    return 0;
}

/* Merge sort of order[0, n): stable, n log n whatever the data. */
static void sort(const struct unique *u, uint64_t *order, uint64_t n, uint64_t *room)
{
    if (n < 2)
        return;
    const uint64_t half = n / 2;
    sort(u, order, half, room);
    sort(u, order + half, n - half, room);
    uint64_t a = 0, b = half, at = 0;
    while (a < half || b < n)
        room[at++] = b == n || (a < half && compare(u, order[a], order[b]) <= 0) ? order[a++] : order[b++];
    memcpy(order, room, n * sizeof *order);
}

static int by_number(const void *pa, const void *pb)
{
    const uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;
    return (a > b) - (a < b);
}

/* Groups in the order of their entries' values, or of their first appearance. */
static void find_groups(struct unique *u, bool sorted)
{
    for (uint64_t i = 0; i < u->size; i++)
        u->order[i] = i;
    sort(u, u->order, u->size, u->first);
    uint64_t start = 0;
    u->n = 0;
    for (uint64_t i = 0; i < u->size; i++) {
        if (i == 0 || compare(u, u->order[start], u->order[i]) != 0) {
            start = i;
            u->count[u->n] = 0;
            u->first[u->n++] = u->order[i]; /* stable: the one that stands first */
        }
        u->count[u->n - 1]++;
        u->group[u->order[i]] = u->n - 1;
    }
    if (sorted || !u->n)
        return;
    /* order is free now: groups by first appearance, then each old number's new one. */
    memcpy(u->order, u->first, u->n * sizeof *u->order);
    qsort(u->order, (size_t)u->n, sizeof *u->order, by_number);
    for (uint64_t i = 0; i < u->n; i++) {
        const uint64_t old = u->group[u->order[i]];
        u->first[old] = i; /* old number → new one */
    }
    for (uint64_t i = 0; i < u->size; i++)
        u->group[i] = u->first[u->group[i]];
    memset(u->count, 0, u->n * sizeof *u->count);
    for (uint64_t i = 0; i < u->size; i++)
        u->count[u->group[i]]++;
    memcpy(u->first, u->order, u->n * sizeof *u->order);
}

static qn_code list_of(qn_exec *x, const uint64_t *src, uint64_t n, qn_array *out, qn_err *err)
{
    const int64_t dims = (int64_t)n;
    QN_TRY(qn_exec_new(x, out, QN_I64, &dims, 1, err));
    if (n)
        memcpy(out->data, src, n * sizeof *src);
    return QN_OK;
}

static qn_code unique(qn_exec *x, const qn_node *n, struct unique *u, const int64_t *dims, unsigned rank, unsigned axis, qn_array *out, qn_err *err)
{
    int64_t shape[QN_ARRAY_RANK_MAX];
    const unsigned bytes = qn_elem_bytes(u->in->dtype);
    find_groups(u, qn_node_int(n, "sorted", 1) != 0);
    memcpy(shape, dims, rank * sizeof *shape);
    shape[axis] = (int64_t)u->n;
    QN_TRY(qn_exec_new(x, &out[0], (qn_dtype)u->in->dtype, shape, rank, err));
    for (uint64_t o = 0; out->n && o < u->outer; o++)
        for (uint64_t i = 0; i < u->n; i++)
            memcpy((uint8_t *)out->data + (o * u->n + i) * u->inner * bytes,
                   (const uint8_t *)u->in->data + (o * u->size + u->first[i]) * u->inner * bytes, u->inner * bytes);
    if (n->n_out > 1)
        QN_TRY(list_of(x, u->first, u->n, &out[1], err));
    if (n->n_out > 2)
        QN_TRY(list_of(x, u->group, u->size, &out[2], err));
    if (n->n_out > 3)
        QN_TRY(list_of(x, u->count, u->n, &out[3], err));
    return QN_OK;
}

qn_code qn_onnx_unique(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const qn_attr *a = qn_node_attr(n, "axis");
    const int64_t flat = (int64_t)in->n;
    unsigned axis = 0;
    if (a)
        QN_TRY(qn_axis_of(qn_node_int(n, "axis", 0), in->rank, &axis, err));
    struct unique u = {.in = in, .size = in->n, .inner = 1, .outer = 1};
    if (a) {
        u.size = (uint64_t)in->dims[axis];
        u.inner = in->n ? qn_span(in->dims, axis + 1, in->rank) : 0;
        u.outer = in->n ? qn_span(in->dims, 0, axis) : 0;
        if (!in->n)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "an empty tensor along an axis");
    }
    uint64_t *room = qn_mem_get(qn_exec_env(x)->alloc, (4 * u.size + 1) * sizeof *room, err);
    if (!room)
        return QN_E_MEMORY;
    u.order = room;
    u.group = room + u.size;
    u.first = room + 2 * u.size;
    u.count = room + 3 * u.size;
    const qn_code rc = unique(x, n, &u, a ? in->dims : &flat, a ? in->rank : 1, axis, out, err);
    qn_mem_put(qn_exec_env(x)->alloc, room);
    return rc;
}

/* ---- Trilu ---- */

qn_code qn_onnx_trilu(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const bool upper = qn_node_int(n, "upper", 1) != 0;
    int64_t k = 0;
    if (qn_node_has(n, 1))
        QN_TRY(qn_array_int(&in[1], &k, err));
    if (in->rank < 2)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "rank %u; at least 2 is needed", in->rank);
    QN_TRY(qn_exec_new(x, out, (qn_dtype)in->dtype, in->dims, in->rank, err));
    const uint64_t bytes = qn_elem_bytes(in->dtype);
    const int64_t rows = in->dims[in->rank - 2], cols = in->dims[in->rank - 1];
    for (uint64_t r = 0; cols && r < in->n / (uint64_t)cols; r++) {
        /* The first column of the upper triangle in this row; or the first one past the lower. */
        int64_t cut;
        if (__builtin_add_overflow((int64_t)(r % (uint64_t)rows), k, &cut) || (!upper && __builtin_add_overflow(cut, 1, &cut)))
            cut = k > 0 ? cols : 0;
        cut = cut < 0 ? 0 : cut > cols ? cols : cut;
        uint8_t *dst = (uint8_t *)out->data + r * (uint64_t)cols * bytes;
        const uint8_t *src = (const uint8_t *)in->data + r * (uint64_t)cols * bytes;
        const uint64_t left = (uint64_t)cut * bytes, right = (uint64_t)(cols - cut) * bytes;
        if (upper) {
            memset(dst, 0, left);
            memcpy(dst + left, src + left, right);
        } else {
            memcpy(dst, src, left);
            memset(dst + left, 0, right);
        }
    }
    return QN_OK;
}

/* ---- ReverseSequence ---- */

qn_code qn_onnx_reverse_sequence(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const int64_t batch = qn_node_int(n, "batch_axis", 1), time = qn_node_int(n, "time_axis", 0);
    if (in->rank < 2 || batch < 0 || batch > 1 || time != 1 - batch || in[1].rank != 1 || in[1].dims[0] != in->dims[batch])
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "batch_axis %" PRId64 " and time_axis %" PRId64 " of rank %u with %" PRIu64 " lengths", batch,
                       time, in->rank, in[1].n);
    QN_TRY(qn_exec_new(x, out, (qn_dtype)in->dtype, in->dims, in->rank, err));
    if (!in->n)
        return QN_OK;
    const uint64_t n_bytes = qn_span(in->dims, 2, in->rank) * qn_elem_bytes(in->dtype);
    const uint64_t n_batch = (uint64_t)in->dims[batch], n_time = (uint64_t)in->dims[time];
    for (uint64_t b = 0; b < n_batch; b++) {
        const int64_t len = qn_elem_int(&in[1], b);
        if (len < 0 || len > in->dims[time])
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a length of %" PRId64 " of %" PRIu64, len, n_time);
        for (uint64_t t = 0; t < n_time; t++) {
            const uint64_t s = t < (uint64_t)len ? (uint64_t)len - 1 - t : t;
            const uint64_t from = batch ? s * n_batch + b : b * n_time + s, to = batch ? t * n_batch + b : b * n_time + t;
            memcpy((uint8_t *)out->data + to * n_bytes, (const uint8_t *)in->data + from * n_bytes, n_bytes);
        }
    }
    return QN_OK;
}
