/* emit_onnx.h: what the parts of emit_onnx.c share: a cut of an ONNX model and the file's nodes that have to say other numbers after it. */
#ifndef QN_COMPRESS_PRUNE_EMIT_ONNX_H
#define QN_COMPRESS_PRUNE_EMIT_ONNX_H

#include "analysis/exec/overlay.h"
#include "analysis/groups/cut.h"
#include "compress/prune/onnx_edit.h"

typedef struct qn_onnx_emission {
    const qn_env *env;
    const qn_graph *g;
    const qn_cut *cut;
    const qn_overlay *overlay; /* may be NULL */
    qn_onnx_edit edit;
    uint32_t *node;            /* per node of g: its node in the file, or QN_NO_NODE: inside a function     */
    const char **name;         /* per value: what the file calls it, or NULL                                */
    int64_t *dims;             /* as in qn_groups, after the cut                                            */
    bool *touched;             /* per value: something of it goes                                           */
    /* Per value, what it holds where that follows from shapes and constants alone (data NULL: it does not): in the model as it is; in the same with
     * other sizes of whatever varies; and in the cut one, were nothing but weights changed. emit_onnx_eval.c */
    qn_array *old, *other, *now;
    struct qn_emit_piece {     /* inputs of Concat that are literals now                                    */
        uint32_t node, k;
        int64_t *ints;
        uint64_t n;
    } *pieces;
    uint64_t n_pieces, cap_pieces;
} qn_onnx_emission;

static inline int64_t qn_emit_old(const qn_onnx_emission *e, uint32_t v, unsigned axis)
{
    return e->cut->groups->dims[(uint64_t)v * QN_ARRAY_RANK_MAX + axis];
}

static inline int64_t qn_emit_new(const qn_onnx_emission *e, uint32_t v, unsigned axis)
{
    return e->dims[(uint64_t)v * QN_ARRAY_RANK_MAX + axis];
}

static inline unsigned qn_emit_rank(const qn_onnx_emission *e, uint32_t v)
{
    return e->cut->groups->rank[v];
}

/* Input i of a node: QN_NO_VALUE when it is left out. */
static inline uint32_t qn_emit_in(const qn_node *n, unsigned i)
{
    return i < n->n_in ? n->in[i] : QN_NO_VALUE;
}

/* Fills old, other and now. */
qn_code qn_emit_eval(qn_onnx_emission *e, qn_err *err) QN_MUST_CHECK;
/* It would hold something else after the cut. */
bool qn_emit_drifts(const qn_onnx_emission *e, uint32_t value);
/* Element i of an array of integers; QN_INT_UNKNOWN for other types. */
int64_t qn_emit_int_at(const qn_array *a, uint64_t i);
/* The integers a value holds, as far as they are the same whatever varies (others QN_INT_UNKNOWN); *list from the edit's arena, NULL: not known. */
qn_code qn_emit_ints(qn_onnx_emission *e, uint32_t value, int64_t **list, uint64_t *n, qn_err *err) QN_MUST_CHECK;
/* Input k of the node becomes a constant of its own with these integers, in the type that it has; rank 0 or 1. */
qn_code qn_emit_literal(qn_onnx_emission *e, uint32_t node, unsigned k, const int64_t *ints, uint64_t n, unsigned rank, qn_err *err) QN_MUST_CHECK;
/* Flags of what stays of an axis, and how many (from the edit's arena). */
qn_code qn_onnx_emission_axis(qn_onnx_emission *e, uint32_t value, unsigned axis, uint8_t **keep, uint64_t *n_kept, qn_err *err) QN_MUST_CHECK;
/* QN_E_UNSUPPORTED: names the node and says why. */
qn_code qn_emit_refuse(const qn_onnx_emission *e, uint32_t node, const char *why, qn_err *err);
/* The node in the file; refuses nodes inside functions. */
qn_code qn_emit_file_node(const qn_onnx_emission *e, uint32_t node, uint32_t *file, qn_err *err) QN_MUST_CHECK;

/* emit_onnx_node.c: attributes and operands of a node that the cut touches. */
qn_code qn_emit_node(qn_onnx_emission *e, uint32_t node, qn_err *err) QN_MUST_CHECK;
/* emit_onnx_pick.c: Gather, Slice, Split. */
qn_code qn_emit_gather(qn_onnx_emission *e, uint32_t node, qn_err *err) QN_MUST_CHECK;
qn_code qn_emit_slice(qn_onnx_emission *e, uint32_t node, qn_err *err) QN_MUST_CHECK;
qn_code qn_emit_split(qn_onnx_emission *e, uint32_t node, qn_err *err) QN_MUST_CHECK;
/* emit_onnx_shape.c: operands that are shapes. */
qn_code qn_emit_reshape(qn_onnx_emission *e, uint32_t node, qn_err *err) QN_MUST_CHECK;
qn_code qn_emit_sizes(qn_onnx_emission *e, uint32_t node, qn_err *err) QN_MUST_CHECK; /* Expand, ConstantOfShape, Resize, Tile */
/* Operands that are computed from shapes and are no shapes themselves keep the values they have now. */
qn_code qn_emit_frozen_operands(qn_onnx_emission *e, uint32_t node, qn_err *err) QN_MUST_CHECK;
bool qn_emit_is_shape_slot(const qn_node *n, unsigned k);

#endif
