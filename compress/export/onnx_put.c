/* onnx_put.c: the nodes and tensors of the new model.
 *
 * MatMulNBits takes the place of each MatMul or Gemm, and an Add follows where the Gemm had a bias. All other forms leave the nodes alone: the weight
 * becomes what a node in front of all others gives under the weight's name, so whatever reads it, in a subgraph too, goes on as before. */
#include "base/err.h"
#include "base/num.h"
#include "compress/export/onnx_impl.h"
#include "compress/export/onnx_opset.h"
#include <stdio.h>
#include <string.h>

enum { OPSET_AXIS = 13, OPSET_HALF_SCALES = 19, OPSET_BLOCKS = 21, IR_AXIS = 7, IR_HALF_SCALES = 9, IR_BLOCKS = 10 };

static qn_code name_for(qn_to_onnx_export *x, const qn_to_onnx_pick *p, const char *tail, const char **name, qn_err *err)
{
    const size_t n = strlen(p->name) + strlen(tail) + 1;
    char *text = qn_arena_get(&x->edit.arena, n, 1, err);
    if (!text)
        return QN_E_MEMORY;
    snprintf(text, n, "%s%s", p->name, tail);
    return qn_onnx_edit_new_name(&x->edit, text, name, err);
}

static qn_code add(qn_to_onnx_export *x, const qn_to_onnx_pick *p, qn_to_onnx_part part, const char *tail, uint8_t data_type, const int64_t *dims, unsigned rank,
                   const char **name, qn_err *err)
{
    QN_TRY(name_for(x, p, tail, name, err));
    return qn_onnx_edit_add(&x->edit, *name, data_type, dims, rank, NULL, 4 * (uint64_t)(p - x->picks) + part, err);
}

/* The weight's own tensor goes: what has its name is another thing now. */
static qn_code drop(qn_to_onnx_export *x, const qn_to_onnx_pick *p, qn_err *err)
{
    const qn_onnx_graph *g = x->edit.model->graph;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i].n_attrs; k++)
            if (g->nodes[i].attrs[k].type == QN_ONNX_ATTR_TENSOR && g->nodes[i].attrs[k].v.tensors == p->file)
                return qn_onnx_edit_remove(&x->edit, i, err);
    return qn_onnx_edit_drop(&x->edit, p->name, err);
}

static qn_code front(qn_to_onnx_export *x, const char *type, const char *const *in, unsigned n_in, const char *out, const qn_onnx_new_attr *attrs,
                     unsigned n_attrs, qn_err *err)
{
    return qn_onnx_edit_add_node(&x->edit, QN_NO_NODE, &(qn_onnx_add_node){.name = out, .op_type = type, .domain = "", .inputs = in, .n_inputs = n_in,
                                                                          .outputs = &out, .n_outputs = 1, .attrs = attrs, .n_attrs = n_attrs}, err);
}

static qn_onnx_new_attr int_attr(const char *name, const int64_t *v)
{
    return (qn_onnx_new_attr){.name = name, .ints = v, .n = QN_ONNX_ONE_INT};
}

static uint8_t scale_type(const qn_to_onnx_pick *p)
{
    return p->file->data_type;
}

/* ---- MatMulNBits ---- */

static qn_code multiply(qn_to_onnx_export *x, const qn_to_onnx_pick *p, const qn_to_onnx_use *u, const char *const *weight, unsigned n_weight, qn_err *err)
{
    const qn_onnx_node *old = &x->edit.model->graph->nodes[u->file];
    const int64_t k = p->cols, n = p->rows, bits = p->bits, block = p->block;
    const qn_onnx_new_attr attrs[] = {int_attr("K", &k), int_attr("N", &n), int_attr("bits", &bits), int_attr("block_size", &block)};
    const bool biased = old->n_inputs > 2 && *old->inputs[2];
    const char *in[4] = {qn_onnx_edit_name(&x->edit, u->file, 0)}, *out = old->outputs[0];
    for (unsigned i = 0; i < n_weight; i++)
        in[1 + i] = weight[i];
    if (biased) {
        const size_t n_bytes = strlen(out) + sizeof "_product";
        char *text = qn_arena_get(&x->edit.arena, n_bytes, 1, err);
        if (!text)
            return QN_E_MEMORY;
        snprintf(text, n_bytes, "%s_product", out);
        QN_TRY(qn_onnx_edit_new_name(&x->edit, text, &out, err));
    }
    QN_TRY(qn_onnx_edit_add_node(&x->edit, u->file, &(qn_onnx_add_node){.name = old->name, .op_type = "MatMulNBits", .domain = "com.microsoft", .inputs = in,
                                                                        .n_inputs = 1 + n_weight, .outputs = &out, .n_outputs = 1, .attrs = attrs,
                                                                        .n_attrs = sizeof attrs / sizeof attrs[0]}, err));
    if (biased) {
        const char *sum[2] = {out, qn_onnx_edit_name(&x->edit, u->file, 2)};
        QN_TRY(qn_onnx_edit_add_node(&x->edit, u->file, &(qn_onnx_add_node){.name = "", .op_type = "Add", .domain = "", .inputs = sum, .n_inputs = 2,
                                                                            .outputs = old->outputs, .n_outputs = 1}, err));
    }
    return qn_onnx_edit_remove(&x->edit, u->file, err);
}

static qn_code put_nbits(qn_to_onnx_export *x, const qn_to_onnx_pick *p, qn_err *err)
{
    const int64_t blocks = qn_to_onnx_blocks(p), codes[3] = {p->rows, blocks, (int64_t)p->block * p->bits / 8}, scales[2] = {p->rows, blocks},
                  zeros[2] = {p->rows, (blocks * p->bits + 7) / 8};
    const char *tail = p->bits == 2 ? "_Q2" : p->bits == 4 ? "_Q4" : "_Q8", *weight[3];
    QN_TRY(add(x, p, QN_TO_ONNX_PART_CODES, tail, QN_ONNX_UINT8, codes, 3, &weight[0], err));
    QN_TRY(add(x, p, QN_TO_ONNX_PART_SCALES, "_scales", scale_type(p), scales, 2, &weight[1], err));
    if (p->zeros)
        QN_TRY(add(x, p, QN_TO_ONNX_PART_ZEROS, "_zero_points", p->float_zeros ? scale_type(p) : QN_ONNX_UINT8, p->float_zeros ? scales : zeros, 2,
                   &weight[2], err));
    for (uint32_t i = 0; i < p->n_uses; i++)
        QN_TRY(multiply(x, p, &p->uses[i], weight, p->zeros ? 3 : 2, err));
    return QN_OK;
}

/* ---- DequantizeLinear ---- */

static void own_dims(const qn_to_onnx_pick *p, int64_t *dims)
{
    for (unsigned k = 0; k < p->file->rank; k++)
        dims[k] = (int64_t)p->file->dims[k];
}

/* A scale for each index of the axis of outputs. */
static qn_code put_axis(qn_to_onnx_export *x, const qn_to_onnx_pick *p, qn_err *err)
{
    int64_t dims[QN_ARRAY_RANK_MAX];
    const int64_t rows = p->rows, axis = p->turned ? 1 : 0;
    const qn_onnx_new_attr attr = int_attr("axis", &axis);
    const char *in[3];
    own_dims(p, dims);
    QN_TRY(add(x, p, QN_TO_ONNX_PART_CODES, "_quantized", p->zeros ? QN_ONNX_UINT8 : QN_ONNX_INT8, dims, p->file->rank, &in[0], err));
    QN_TRY(add(x, p, QN_TO_ONNX_PART_SCALES, "_scale", scale_type(p), &rows, 1, &in[1], err));
    if (p->zeros)
        QN_TRY(add(x, p, QN_TO_ONNX_PART_ZEROS, "_zero_point", QN_ONNX_UINT8, &rows, 1, &in[2], err));
    return front(x, "DequantizeLinear", in, p->zeros ? 3 : 2, p->name, &attr, 1, err);
}

/* The same in operators that every version has: Cast, Sub, Mul with scales and zero points that broadcast. */
static qn_code put_arithmetic(qn_to_onnx_export *x, const qn_to_onnx_pick *p, qn_err *err)
{
    int64_t dims[QN_ARRAY_RANK_MAX], side[QN_ARRAY_RANK_MAX];
    const int64_t to = scale_type(p);
    const qn_onnx_new_attr attr = int_attr("to", &to);
    const char *codes, *scale, *wide, *zero, *wide_zero, *less;
    own_dims(p, dims);
    for (unsigned k = 0; k < p->file->rank; k++)
        side[k] = k == (p->turned ? 1 : 0) ? p->rows : 1;
    QN_TRY(add(x, p, QN_TO_ONNX_PART_CODES, "_quantized", p->zeros ? QN_ONNX_UINT8 : QN_ONNX_INT8, dims, p->file->rank, &codes, err));
    QN_TRY(add(x, p, QN_TO_ONNX_PART_SCALES, "_scale", scale_type(p), side, p->file->rank, &scale, err));
    QN_TRY(name_for(x, p, "_wide", &wide, err));
    QN_TRY(front(x, "Cast", &codes, 1, wide, &attr, 1, err));
    if (p->zeros) {
        QN_TRY(add(x, p, QN_TO_ONNX_PART_ZEROS, "_zero_point", QN_ONNX_UINT8, side, p->file->rank, &zero, err));
        QN_TRY(name_for(x, p, "_zero_wide", &wide_zero, err));
        QN_TRY(front(x, "Cast", &zero, 1, wide_zero, &attr, 1, err));
        QN_TRY(name_for(x, p, "_less_zero", &less, err));
        QN_TRY(front(x, "Sub", (const char *[]){wide, wide_zero}, 2, less, NULL, 0, err));
        wide = less;
    }
    return front(x, "Mul", (const char *[]){wide, scale}, 2, p->name, NULL, 0, err);
}

/* What was a matrix gets the weight's own shape: that of a convolution. */
static qn_code reshape(qn_to_onnx_export *x, const qn_to_onnx_pick *p, const char *from, qn_err *err)
{
    const int64_t n = p->file->rank;
    const char *shape;
    uint8_t *data = qn_mem_get(x->env->alloc, 8 * (uint64_t)n + 1, err);
    if (!data)
        return QN_E_MEMORY;
    for (unsigned k = 0; k < p->file->rank; k++)
        qn_store64(data + 8 * k, p->file->dims[k]);
    qn_code rc = name_for(x, p, "_shape", &shape, err);
    if (rc != QN_OK) {
        qn_mem_put(x->env->alloc, data);
        return rc;
    }
    QN_TRY(qn_onnx_edit_add(&x->edit, shape, QN_ONNX_INT64, &n, 1, data, 0, err));
    return front(x, "Reshape", (const char *[]){from, shape}, 2, p->name, NULL, 0, err);
}

/* Blocks along the inputs, as (out, in); a Transpose where the weight lay the other way: blocks along axis 0 are computed wrongly by some releases
 * of the most used runtime. */
static qn_code put_blocks(qn_to_onnx_export *x, const qn_to_onnx_pick *p, qn_err *err)
{
    const bool four = p->bits == 4;
    const int64_t blocks = qn_to_onnx_blocks(p), codes[2] = {p->rows, p->cols}, side[2] = {p->rows, blocks}, axis = 1, block = p->block, perm[2] = {1, 0};
    const qn_onnx_new_attr attrs[] = {int_attr("axis", &axis), int_attr("block_size", &block)};
    const qn_onnx_new_attr turn = {.name = "perm", .ints = perm, .n = 2};
    const uint8_t with = four ? QN_ONNX_UINT4 : QN_ONNX_UINT8, without = four ? QN_ONNX_INT4 : QN_ONNX_INT8;
    const char *in[3], *out = p->name;
    QN_TRY(add(x, p, QN_TO_ONNX_PART_CODES, "_quantized", p->zeros ? with : without, codes, 2, &in[0], err));
    QN_TRY(add(x, p, QN_TO_ONNX_PART_SCALES, "_scale", scale_type(p), side, 2, &in[1], err));
    if (p->zeros)
        QN_TRY(add(x, p, QN_TO_ONNX_PART_ZEROS, "_zero_point", with, side, 2, &in[2], err));
    const bool shaped = p->file->rank != 2;
    if (p->turned || shaped)
        QN_TRY(name_for(x, p, "_out_in", &out, err));
    QN_TRY(front(x, "DequantizeLinear", in, p->zeros ? 3 : 2, out, attrs, 2, err));
    if (shaped)
        return reshape(x, p, out, err);
    return p->turned ? front(x, "Transpose", &out, 1, p->name, &turn, 1, err) : QN_OK;
}

/* ---- f16 ---- */

static qn_code put_half(qn_to_onnx_export *x, const qn_to_onnx_pick *p, qn_err *err)
{
    int64_t dims[QN_ARRAY_RANK_MAX];
    const int64_t to = QN_ONNX_FLOAT;
    const qn_onnx_new_attr attr = int_attr("to", &to);
    const char *half;
    own_dims(p, dims);
    QN_TRY(add(x, p, QN_TO_ONNX_PART_HALVES, "_f16", QN_ONNX_FLOAT16, dims, p->file->rank, &half, err));
    return front(x, "Cast", &half, 1, p->name, &attr, 1, err);
}

/* ---- all ---- */

/* The version of the standard operators is raised where that is needed and changes nothing. */
static qn_code need_version(qn_to_onnx_export *x, int64_t version, int64_t ir, bool *has, qn_err *err)
{
    const int64_t now = qn_onnx_opset(x->edit.model, "");
    *has = now >= version || qn_onnx_opset_is_safe(x->edit.model, x->g, now, version);
    if (now < version && *has)
        QN_TRY(qn_onnx_edit_opset(&x->edit, "", version, err));
    if (*has && x->edit.model->ir_version < ir)
        x->edit.ir_version = ir;
    return QN_OK;
}

static qn_code put_qdq(qn_to_onnx_export *x, bool has_axis, bool has_blocks, qn_to_onnx_pick *p, qn_err *err)
{
    if (p->bits == 4 && !has_blocks)
        return QN_BUG(err, "blocks in a model whose operators are too old");
    QN_TRY(drop(x, p, err));
    if (p->bits == 4)
        return put_blocks(x, p, err);
    return (has_axis ? put_axis : put_arithmetic)(x, p, err);
}

qn_code qn_to_onnx_put(qn_to_onnx_export *x, qn_err *err)
{
    bool has_axis = false, has_blocks = false, any = false, four = false, half = false;
    for (uint32_t i = 0; i < x->n_picks; i++) {
        any = any || x->picks[i].chosen;
        four = four || (x->picks[i].chosen && x->picks[i].bits == 4);
        half = half || (x->picks[i].chosen && x->picks[i].file->data_type == QN_ONNX_FLOAT16);
    }
    if (any && x->want.form == QN_TO_ONNX_FORM_QDQ) {
        if (four)
            QN_TRY(need_version(x, OPSET_BLOCKS, IR_BLOCKS, &has_blocks, err));
        has_axis = has_blocks;
        if (!has_axis)
            QN_TRY(need_version(x, half ? OPSET_HALF_SCALES : OPSET_AXIS, half ? IR_HALF_SCALES : IR_AXIS, &has_axis, err));
    }
    if (any && x->want.form == QN_TO_ONNX_FORM_NBITS && qn_onnx_opset(x->edit.model, "com.microsoft") < 1)
        QN_TRY(qn_onnx_edit_opset(&x->edit, "com.microsoft", 1, err));
    for (uint32_t i = 0; i < x->n_picks; i++) {
        qn_to_onnx_pick *p = &x->picks[i];
        if (!p->chosen)
            continue;
        if (x->want.form == QN_TO_ONNX_FORM_NBITS) {
            QN_TRY(put_nbits(x, p, err));
        } else if (x->want.form == QN_TO_ONNX_FORM_QDQ) {
            QN_TRY(put_qdq(x, has_axis, has_blocks, p, err));
        } else {
            QN_TRY(drop(x, p, err));
            QN_TRY(put_half(x, p, err));
        }
    }
    return qn_onnx_edit_sweep(&x->edit, err);
}
