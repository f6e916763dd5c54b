/* onnx_pad.c: Pad and Tile: for each axis of the output a list of where its entries come from. */
#include "analysis/exec/ops_onnx.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <string.h>

#define PAD_MAX (INT64_C(1) << 48)

struct map {
    const qn_array *in;
    qn_array *out;
    int64_t *from[QN_ARRAY_RANK_MAX]; /* per entry of the output's axis: the input's, −1: filled */
    uint64_t fill;                    /* an element */
    uint64_t block_bytes;             /* of the trailing axes that are taken as they are */
    unsigned rank;                    /* axes before them */
    uint64_t n_rows, per_part;
};

static void fill_elems(uint8_t *dst, uint64_t n_bytes, unsigned bytes, uint64_t fill)
{
    for (uint64_t i = 0; i < n_bytes; i += bytes)
        memcpy(dst + i, &fill, bytes); /* the first bytes: little-endian */
}

/* Rows along the last mapped axis. */
static qn_code rows(void *ctx, uint64_t part, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct map *m = ctx;
    const unsigned bytes = qn_elem_bytes(m->in->dtype), last = m->rank - 1;
    const uint64_t n = (uint64_t)m->out->dims[last], end = qn_min_u64(m->n_rows, (part + 1) * m->per_part);
    for (uint64_t r = part * m->per_part; r < end; r++) {
        uint8_t *dst = (uint8_t *)m->out->data + r * n * m->block_bytes;
        uint64_t rest = r, at = 0, step = (uint64_t)m->in->dims[last];
        bool filled = false;
        for (unsigned k = last; k-- > 0;) {
            const int64_t f = m->from[k][rest % (uint64_t)m->out->dims[k]];
            rest /= (uint64_t)m->out->dims[k];
            filled = filled || f < 0;
            at += (uint64_t)f * step;
            step *= (uint64_t)m->in->dims[k];
        }
        if (filled) {
            fill_elems(dst, n * m->block_bytes, bytes, m->fill);
            continue;
        }
        const uint8_t *src = (const uint8_t *)m->in->data + at * m->block_bytes;
        const int64_t *from = m->from[last];
        for (uint64_t i = 0; i < n;) {
            uint64_t run = 1;
            while (i + run < n && (from[i] < 0 ? from[i + run] < 0 : from[i + run] == from[i] + (int64_t)run))
                run++;
            if (from[i] < 0)
                fill_elems(dst + i * m->block_bytes, run * m->block_bytes, bytes, m->fill);
            else
                memcpy(dst + i * m->block_bytes, src + (uint64_t)from[i] * m->block_bytes, run * m->block_bytes);
            i += run;
        }
    }
    return QN_OK;
}

typedef int64_t (*source_fn)(int64_t i, int64_t before, int64_t n);

static int64_t from_constant(int64_t i, int64_t before, int64_t n)
{
    return i >= before && i - before < n ? i - before : -1;
}
static int64_t from_edge(int64_t i, int64_t before, int64_t n)
{
    return i < before ? 0 : i - before < n ? i - before : n - 1;
}
static int64_t from_wrap(int64_t i, int64_t before, int64_t n)
{
    const int64_t k = (i - before) % n;
    return k < 0 ? k + n : k;
}
static int64_t from_reflect(int64_t i, int64_t before, int64_t n)
{
    if (n == 1)
        return 0;
    const int64_t k = from_wrap(i, before, 2 * (n - 1));
    return k < n ? k : 2 * (n - 1) - k;
}

/* out has its shape; before: per axis. */
static qn_code mapped(qn_exec *x, const qn_array *in, const int64_t *before, source_fn fn, uint64_t fill, qn_array *out, qn_err *err)
{
    struct map m = {.in = in, .out = out, .fill = fill, .block_bytes = qn_elem_bytes(in->dtype), .rank = in->rank};
    uint64_t sum = 0, at = 0;
    if (!out->n)
        return QN_OK;
    while (m.rank > 1 && before[m.rank - 1] == 0 && out->dims[m.rank - 1] == in->dims[m.rank - 1])
        m.block_bytes *= (uint64_t)in->dims[--m.rank];
    if (m.rank == 0) {
        memcpy(out->data, in->data, m.block_bytes);
        return QN_OK;
    }
    for (unsigned k = 0; k < m.rank; k++)
        sum += (uint64_t)out->dims[k];
    int64_t *room = qn_mem_get(qn_exec_env(x)->alloc, sum * sizeof *room, err);
    if (!room)
        return QN_E_MEMORY;
    for (unsigned k = 0; k < m.rank; at += (uint64_t)out->dims[k++]) {
        m.from[k] = room + at;
        for (int64_t i = 0; i < out->dims[k]; i++)
            m.from[k][i] = in->dims[k] ? fn(i, before[k], in->dims[k]) : -1;
    }
    m.n_rows = qn_span(out->dims, 0, m.rank - 1);
    m.per_part = qn_max_u64(1, (1 << 16) / ((uint64_t)out->dims[m.rank - 1] * m.block_bytes + 1));
    const qn_code rc = qn_exec_parts(x, qn_ceil_div(m.n_rows, m.per_part), out->n, rows, &m, err);
    qn_mem_put(qn_exec_env(x)->alloc, room);
    return rc;
}

/* ---- Pad: attributes up to version 10, then inputs; axes from 18 on ---- */

/* before and behind for every axis. */
static qn_code pads_of(const qn_node *n, const qn_info *in, int64_t *before, int64_t *behind, bool *known, qn_err *err)
{
    qn_ints pads, axes;
    uint32_t mask;
    *known = false;
    QN_TRY(qn_ints_of(n, in, 1, "pads", &pads, err));
    QN_TRY(qn_ints_of(n, in, 3, NULL, &axes, err));
    if (!pads.there)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "pads are not given");
    if (!pads.known || (axes.there && !axes.known))
        return QN_OK;
    if (!axes.there)
        for (axes.n = 0; axes.n < in->rank; axes.n++)
            axes.v[axes.n] = axes.n;
    if (pads.n != 2 * axes.n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%u pads for %u axes", pads.n, axes.n);
    QN_TRY(qn_axes_mask(&axes, in->rank, &mask, err));
    for (unsigned k = 0; k < in->rank; k++)
        before[k] = behind[k] = 0;
    for (unsigned i = 0; i < axes.n; i++) {
        unsigned a;
        QN_TRY(qn_axis_of(axes.v[i], in->rank, &a, err));
        before[a] = pads.v[i];
        behind[a] = pads.v[axes.n + i];
    }
    *known = true;
    return QN_OK;
}

qn_code qn_onnx_pad_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    int64_t before[QN_ARRAY_RANK_MAX], behind[QN_ARRAY_RANK_MAX];
    bool known;
    out->dtype = in->dtype;
    if (!qn_info_ranked(in))
        return QN_OK;
    QN_TRY(pads_of(n, in, before, behind, &known, err));
    out->rank = in->rank;
    for (unsigned k = 0; k < in->rank; k++) {
        out->dims[k] = QN_DIM_UNKNOWN;
        if (!known || in->dims[k] == QN_DIM_UNKNOWN)
            continue;
        int64_t d;
        if (before[k] < -PAD_MAX || before[k] > PAD_MAX || behind[k] < -PAD_MAX || behind[k] > PAD_MAX ||
            __builtin_add_overflow(in->dims[k], before[k] + behind[k], &d) || d < 0)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "axis %u of %" PRId64 " entries with pads of %" PRId64 " and %" PRId64, k, in->dims[k],
                           before[k], behind[k]);
        out->dims[k] = d;
    }
    return QN_OK;
}

qn_code qn_onnx_pad(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const char *mode = qn_node_string(n, "mode", "constant");
    int64_t before[QN_ARRAY_RANK_MAX], behind[QN_ARRAY_RANK_MAX];
    uint64_t fill = 0;
    bool known;
    qn_info info[4] = {{.rank = in->rank, .dtype = in->dtype}};
    memcpy(info[0].dims, in->dims, sizeof in->dims);
    for (unsigned i = 1; i < n->n_in; i++)
        info[i].partly = info[i].value = in[i].dtype == QN_BYTES ? NULL : &in[i];
    QN_TRY(qn_plan_new(x, n, in, out, err));
    QN_TRY(pads_of(n, info, before, behind, &known, err));
    if (qn_node_has(n, 2)) {
        if (in[2].n != 1)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the value to pad with has %" PRIu64 " elements", in[2].n);
        QN_TRY(qn_convert(in[2].dtype, in[2].data, in->dtype, &fill, 1, err));
    } else {
        const double value = qn_node_float(n, "value", 0);
        QN_TRY(qn_convert(QN_F64, &value, in->dtype, &fill, 1, err));
    }
    const source_fn fn = !strcmp(mode, "reflect") ? from_reflect : !strcmp(mode, "edge") ? from_edge : !strcmp(mode, "wrap") ? from_wrap
                         : !strcmp(mode, "constant") ? from_constant : NULL;
    if (!fn)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "mode '%s'", mode);
    if (fn != from_constant && !in->n && out->n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "nothing to pad an empty tensor with");
    return mapped(x, in, before, fn, fill, out, err);
}

/* ---- Tile ---- */

qn_code qn_onnx_tile_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_ints repeats;
    out->dtype = in->dtype;
    QN_TRY(qn_ints_of(n, in, 1, NULL, &repeats, err));
    if (!qn_info_ranked(in))
        return QN_OK;
    out->rank = in->rank;
    if (repeats.sized && repeats.n != in->rank)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%u repeats for a tensor of rank %u", repeats.n, in->rank);
    for (unsigned k = 0; k < in->rank; k++) {
        out->dims[k] = QN_DIM_UNKNOWN;
        if (!repeats.known || in->dims[k] == QN_DIM_UNKNOWN)
            continue;
        if (repeats.v[k] < 0 || __builtin_mul_overflow(in->dims[k], repeats.v[k], &out->dims[k]))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "axis %u repeated %" PRId64 " times", k, repeats.v[k]);
    }
    return QN_OK;
}

qn_code qn_onnx_tile(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    static const int64_t before[QN_ARRAY_RANK_MAX];
    QN_TRY(qn_plan_new(x, n, in, out, err));
    return mapped(x, in, before, from_wrap, 0, out, err);
}
