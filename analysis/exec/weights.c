/* weights.c: weights on their way from the source into the forward pass: widened to f32, held while there is room. */
#include "analysis/exec/exec_impl.h"
#include "base/err.h"
#include "base/ggml.h"
#include "base/half.h"
#include "base/num.h"
#include <inttypes.h>
#include <string.h>

enum { CHUNK_ELEMS = 1 << 18 }; /* read and widened at a time; whole blocks of every dtype */

static qn_code widen(qn_dtype t, const void *src, uint64_t n, float *dst, qn_err *err)
{
    const uint8_t *p = src;
    switch (t) {
    case QN_BF16:
        for (uint64_t i = 0; i < n; i++)
            dst[i] = qn_bits_f32((uint32_t)qn_load16(p + 2 * i) << 16);
        return QN_OK;
    case QN_F16:
        for (uint64_t i = 0; i < n; i++)
            dst[i] = qn_f16_to_f32(qn_load16(p + 2 * i));
        return QN_OK;
    default:
        break;
    }
    if (qn_dtype_is_block(t))
        return qn_ggml_f32(t, src, n, dst, err);
    double some[256];
    const uint64_t per = qn_dtype_block_elems(t);
    for (uint64_t i = 0; i < n;) {
        const uint64_t m = qn_min_u64(n - i, 256 / per * per);
        QN_TRY(qn_widen(t, p + qn_bytes_of_elems(t, i), m, some, err));
        for (uint64_t k = 0; k < m; k++)
            dst[i + k] = (float)some[k];
        i += m;
    }
    return QN_OK;
}

/* Elements [first, first + n) of a tensor as they are while the model runs. */
static qn_code read_elems(qn_source *s, uint64_t tensor, qn_dtype to, uint64_t first, uint64_t n, void *dst, const qn_alloc *alloc,
                          qn_err *err)
{
    const qn_source_tensor *t = &s->tensors[tensor];
    const qn_dtype from = (qn_dtype)t->dtype;
    if (from == to)
        return qn_source_tensor_read(s, tensor, qn_bytes_of_elems(from, first), qn_bytes_of_elems(from, n), dst, err);
    const uint64_t per = qn_dtype_block_elems(from);
    if (first % per || n % per)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "rows of %s that do not begin at a block", qn_dtype_name(from));
    void *raw = qn_mem_get(alloc, qn_bytes_of_elems(from, qn_min_u64(n, CHUNK_ELEMS)), err);
    if (!raw)
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < n && rc == QN_OK; i += CHUNK_ELEMS) {
        const uint64_t m = qn_min_u64(n - i, CHUNK_ELEMS);
        rc = qn_source_tensor_read(s, tensor, qn_bytes_of_elems(from, first + i), qn_bytes_of_elems(from, m), raw, err);
        if (rc == QN_OK)
            rc = widen(from, raw, m, (float *)dst + i, err);
    }
    qn_mem_put(alloc, raw);
    return rc;
}

static uint64_t row_elems(const qn_value *v)
{
    uint64_t n = 1;
    for (unsigned k = 1; k < v->rank; k++)
        n *= (uint64_t)v->dims[k];
    return n;
}

qn_code qn_weight_from_source(const qn_env *env, qn_source *from, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst,
                              qn_err *err)
{
    const qn_value *v = &g->values[value];
    const uint64_t row = row_elems(v), tensor = from == g->source ? v->tensor : qn_source_tensor_find(from, v->name);
    if (tensor == UINT64_MAX)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "is not in %s", qn_source_given(from)), v->name);
    const qn_source_tensor *t = &from->tensors[tensor];
    bool same = t->rank == v->rank;
    for (unsigned k = 0; k < v->rank && same; k++)
        same = t->dims[k] == (uint64_t)v->dims[k];
    if (!same)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "has another shape in %s", qn_source_given(from)), v->name);
    return qn_err_in_tensor(err, read_elems(from, tensor, (qn_dtype)v->dtype, first * row, n * row, dst, env->alloc, err), v->name);
}

void qn_exec_forget(qn_exec *x, uint32_t value)
{
    qn_array_release(&x->weights[x->graph->values[value].tensor]);
}

/* Rows of the outermost dimension; a scalar is one row. */
static qn_code read_rows(qn_exec *x, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err)
{
    const qn_value *v = &g->values[value];
    if (x->options.read)
        return qn_err_in_tensor(err, x->options.read(x->options.read_ctx, g, value, first, n, dst, err), v->name);
    return qn_weight_from_source(x->env, g->source, g, value, first, n, dst, err);
}

struct load {
    qn_exec *x;
    const qn_graph *g;
    uint32_t value;
    uint64_t n_rows, per_part, row_bytes;
    uint8_t *dst;
};

static qn_code load_part(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    const struct load *l = ctx;
    const uint64_t first = i * l->per_part, n = qn_min_u64(l->per_part, l->n_rows - first);
    return read_rows(l->x, l->g, l->value, first, n, l->dst + first * l->row_bytes, err);
}

qn_code qn_weight_get(qn_exec *x, const qn_graph *g, uint32_t value, bool by_rows, qn_array *out, qn_err *err)
{
    const qn_value *v = &g->values[value];
    qn_array *have = &x->weights[v->tensor];
    if (have->buffer) {
        *out = *have;
        return QN_OK;
    }
    QN_TRY(qn_err_in_tensor(err, qn_array_wrap(out, (qn_dtype)v->dtype, v->dims, v->rank, NULL, err), v->name));
    const uint64_t n_bytes = qn_array_bytes(out);
    if (by_rows && n_bytes > x->whole_bytes && v->rank >= 2 && v->dtype == QN_F32)
        return QN_OK;
    QN_TRY(qn_err_in_tensor(err, qn_array_new(&x->pool, have, (qn_dtype)v->dtype, v->dims, v->rank, err), v->name));
    struct load l = {.x = x, .g = g, .value = value, .n_rows = v->rank ? (uint64_t)v->dims[0] : 1, .dst = have->data};
    l.row_bytes = l.n_rows ? n_bytes / l.n_rows : 0;
    l.per_part = qn_max_u64(1, l.row_bytes ? (4u << 20) / l.row_bytes : 1);
    /* A part begins at a whole block: rows of a block type are blocks, sub-byte rows come in eights. */
    l.per_part = (l.per_part + 7) / 8 * 8;
    const qn_code rc = have->n ? qn_exec_parts(x, qn_ceil_div(l.n_rows, l.per_part), have->n, load_part, &l, err) : QN_OK;
    if (rc != QN_OK) {
        qn_array_release(have);
        return rc;
    }
    *out = *have;
    return QN_OK;
}

void qn_weights_drop(qn_exec *x)
{
    for (uint64_t i = 0; x->graph->source && i < x->graph->source->n_tensors; i++)
        qn_array_release(&x->weights[i]);
}

qn_code qn_exec_weight_rows(qn_exec *x, uint32_t value, uint64_t first, uint64_t n, float *dst, qn_err *err)
{
    const qn_graph *g = x->frame->graph;
    const qn_value *v = &g->values[value];
    if (v->kind != QN_VALUE_WEIGHT || v->rank < 1 || first > (uint64_t)v->dims[0] || n > (uint64_t)v->dims[0] - first)
        return QN_BUG(err, "rows outside of the weight '%s'", v->name);
    const qn_array *have = &x->weights[v->tensor];
    if (have->buffer) {
        const uint64_t row = row_elems(v);
        memcpy(dst, (const float *)have->data + first * row, n * row * sizeof(float));
        return QN_OK;
    }
    return read_rows(x, g, value, first, n, dst, err);
}
