/* op.h: what an operator is: one row in a table.
 *
 * Operators of ONNX (domain "") keep their names and their meaning there, version by version; those of language models (domain
 * "quern") are ours and larger: a Linear, an Attention. Tables: op_onnx_tab.c, op_lm_tab.c. Adding an operator is a row there
 * and its functions in one file of analysis/exec/. */
#ifndef QN_ANALYSIS_GRAPH_OP_H
#define QN_ANALYSIS_GRAPH_OP_H

#include "analysis/graph/graph.h"

/* How the axes of an operator's operands are tied: what structured pruning walks along (analysis/groups/rule_*.c). */
typedef enum qn_axis_rule {
    QN_AXIS_FREEZE = 0,   /* not known: everything it touches keeps its width                                  */
    QN_AXIS_NONE,         /* looks at shapes only, or makes values of its own: ties nothing, freezes nothing     */
    QN_AXIS_FILL,         /* one value all over: nothing is tied, any index of the output can go                 */
    QN_AXIS_ELEMENTWISE,  /* axis i of every operand (broadcast: aligned at the end) is one axis                */
    QN_AXIS_LINEAR,       /* x (…, in) · W: last axis of x with W's in, W's out with the last axis of y and bias */
    QN_AXIS_GEMM,         /* the same with operands that may be transposed                                       */
    QN_AXIS_MATMUL,       /* x (…, m, k) · y (…, k, n)                                                          */
    QN_AXIS_EINSUM,       /* an axis is a letter                                                                */
    QN_AXIS_CONV,         /* channels: axis 1, weight (out, in / groups, …)                                     */
    QN_AXIS_CONV_TRANSPOSE, /* weight (in, out / groups, …)                                                     */
    QN_AXIS_NORM,         /* elementwise, with parameters along the last axes; statistics over them change when they are cut */
    QN_AXIS_LM_NORM,      /* the same over runs of the last axis as long as the weight                           */
    QN_AXIS_GROUP_NORM,   /* statistics over runs of channels (axis 1): a run goes as a whole                    */
    QN_AXIS_BATCH_NORM,   /* parameters along axis 1, no statistics over it                                     */
    QN_AXIS_ALONG,        /* elementwise, but one axis (attribute axis) is looked at as a whole: softmax         */
    QN_AXIS_UNIT,         /* divided by a norm along an axis                                                     */
    QN_AXIS_LRN,          /* elementwise, but channels (axis 1) see their neighbours                             */
    QN_AXIS_MVN,          /* elementwise; statistics over the attribute axes                                     */
    QN_AXIS_LAST_TWO,     /* elementwise, but the last two axes keep their widths                                */
    QN_AXIS_SPATIAL,      /* axes 0 and 1 pass through, the others are the operator's own (pooling)              */
    QN_AXIS_RESIZE,       /* axes that keep their size pass through                                              */
    QN_AXIS_ROI,          /* channels (axis 1) pass through                                                      */
    QN_AXIS_REDUCE,       /* the axes that stay pass through                                                     */
    QN_AXIS_REDUCE_ONE,   /* the same of one axis, which is ranked: ArgMax, TopK                                 */
    QN_AXIS_RESHAPE, QN_AXIS_TRANSPOSE, QN_AXIS_CONCAT, QN_AXIS_SPLIT, QN_AXIS_SLICE, QN_AXIS_GATHER, QN_AXIS_PAD,
    QN_AXIS_TILE, QN_AXIS_EXPAND,
    QN_AXIS_DEPTH_TO_SPACE, QN_AXIS_SPACE_TO_DEPTH,
    QN_AXIS_RECURRENT,    /* x (time, batch, in) with W's in; the rest is the operator's own                     */
    QN_AXIS_QUANTIZE,     /* elementwise, with scale and zero point of all or along an axis                      */
    QN_AXIS_EMBED,        /* rows are picked: W (vocabulary, width), width passes                                */
    QN_AXIS_ROPE,         /* pairs of channels of each head turned                                               */
    QN_AXIS_ATTENTION,    /* heads × head size in the last axis of q, k, v, y                                    */
    QN_AXIS_EXPERTS,      /* routed gated or plain FFNs                                                          */
    QN_AXIS_SCAN          /* channels pass through, states are the operator's own                                */
} qn_axis_rule;

/* What is known about a value while shapes are inferred. */
typedef struct qn_info {
    int64_t dims[QN_ARRAY_RANK_MAX]; /* QN_DIM_UNKNOWN where not known */
    const qn_array *value;           /* the very content, when it is known (a constant, a small computed shape), else NULL */
    const qn_array *partly;          /* the same, or int64 of which some are known: the others are QN_INT_UNKNOWN          */
    uint8_t dtype;                    /* BYTES: not known */
    uint8_t rank;                     /* or QN_RANK_UNKNOWN */
} qn_info;

#define QN_INT_UNKNOWN INT64_MIN

struct qn_exec;

typedef struct qn_op {
    const char *domain, *name;
    const char *doc;             /* one sentence: what it computes, and the formula's source when it is ours */
    uint8_t min_in, max_in;      /* max_in 255: any number */
    uint8_t min_out, max_out;
    uint8_t axis;                /* qn_axis_rule */
    bool by_rows;                /* reads a weight that is too large to be held row by row: see exec.h */
    /* out[i] from in[i]; everything starts as unknown, and unknown is a fine answer. QN_E_INPUT for operands that cannot fit
     * (message names both shapes). NULL: nothing is inferred. */
    qn_code (*shape)(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err);
    /* in[i].dtype is BYTES for an input that is left out. Fills out[i] (zeroed before; an output nobody uses may be filled all the
     * same). in[] may be taken over (qn_array_share) but not written, unless qn_array_is_only. NULL: cannot run. */
    qn_code (*forward)(struct qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err);
} qn_op;

/* Runs a node on what is known of its inputs, when that is enough and small, to know what its outputs hold: shapes that are
 * computed. Whatever fails is left unknown. infos: as for op->shape, outputs behind inputs. In analysis/exec/fold.c. */
qn_code qn_graph_fold(qn_graph *g, uint32_t node, const qn_info *in, qn_err *err) QN_MUST_CHECK;
/* The same without a graph that is to learn: `take` is called with what each output holds, where that was found. content: to be copied. */
typedef qn_code (*qn_fold_take)(void *ctx, unsigned output, const qn_array *content, qn_err *err);
qn_code qn_fold_node(const qn_env *env, const qn_graph *g, const qn_node *n, const qn_info *in, qn_fold_take take, void *ctx,
                     qn_err *err) QN_MUST_CHECK;

/* The row of an operator, or NULL. ai.onnx and "" are one domain. */
const qn_op *qn_op_find(const char *domain, const char *name);

/* The tables, each ended by a row whose name is NULL. */
extern const qn_op qn_ops_onnx[];
extern const qn_op qn_ops_lm[];

#endif
