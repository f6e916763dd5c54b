/* impl.h: what the parts of the dependency analysis share.
 *
 * The nodes of a graph are walked twice, both times by the same rules (rule_*.c), which say with a few words how atoms hang together:
 *
 *   tie    pass 1: the classes of the union-find grow; frozen and inexact classes are marked;
 *   zero   pass 2: classes stay. Which atoms of which values are identically 0 once all weights of their class are? What decides whether
 *          a contraction over an axis may lose some of its terms (pruning.md, 2.1, "Exactness certificate").
 *
 * So a rule is written once. Failures (memory) are kept in `rc` and ended with; rules return nothing. */
#ifndef QN_ANALYSIS_GROUPS_IMPL_H
#define QN_ANALYSIS_GROUPS_IMPL_H

#include "analysis/groups/groups.h"

/* An axis of a value, as atoms: first … first + n − 1. n 0: no such axis. */
typedef struct qn_axis {
    uint32_t first, n;
} qn_axis;

typedef enum qn_zero { QN_ZERO_UNSET, QN_ZERO_YES, QN_ZERO_NO } qn_zero;

/* What is known of a class, for its name. */
enum { QN_MARK_HEADS = 1, QN_MARK_HEAD_SIZE = 2, QN_MARK_CHANNELS = 4, QN_MARK_WIDTH = 8, QN_MARK_GATED = 16, QN_MARK_EXPERTS = 32 };

typedef struct qn_why {
    const char *text;
    uint32_t node;
    bool dull; /* says little: any other reason is told instead */
} qn_why;

/* A loop nest that multiplies: its axes, and how often the innermost statement runs. */
enum { QN_PRODUCT_AXES = 6 };
typedef struct qn_product {
    uint32_t node;
    double macs;
    uint8_t n_axes;
    uint32_t axis[QN_PRODUCT_AXES]; /* numbers of axes (qn_axis_number): batch, rows, out, in */
    /* The weight, if it has one: what can be refitted. */
    uint32_t weight, bias;
    uint8_t out_axis, in_axis;      /* of the weight; UINT8_MAX: none */
    uint32_t per_index;
    bool tapped, layer;             /* layer: a convolution or linear layer with a weight */
} qn_product;

/* Shapes of all values, and the content of small ones. */
typedef struct qn_trace {
    int64_t *dims;      /* [v · QN_ARRAY_RANK_MAX + axis]                     */
    uint8_t *rank;      /* or QN_RANK_UNKNOWN                                 */
    uint8_t *dtype;
    qn_array *content;  /* dtype BYTES: not known; data NULL and n > 0: never */
    uint32_t stopped;   /* node whose failure left the rest unknown, or QN_NO_NODE */
} qn_trace;

typedef struct qn_grouping {
    const qn_env *env;
    const qn_graph *g;
    const qn_groups_options *o;
    qn_arena *arena;        /* of the result                                  */
    qn_arena scratch;       /* of the analysis                                */
    qn_code rc;             /* first failure                                  */
    qn_err *err;
    qn_trace t;             /* the trace that atoms are made of               */
    bool *varies;           /* [v · QN_ARRAY_RANK_MAX + axis]                 */
    uint32_t *first;        /* [v · QN_ARRAY_RANK_MAX + axis]: first atom     */
    uint32_t n_atoms;
    uint32_t *parent, *size;
    uint32_t *frozen, *inexact; /* per class (its root): reason + 1, 0: not   */
    uint8_t *mark;          /* per class                                      */
    uint8_t *zero;          /* per atom: qn_zero                              */
    uint8_t *role;          /* per axis: bits 1 << qn_member_role             */
    bool zero_pass, late;   /* late: reshapes that have a choice, after all others            */
    uint16_t *choice;       /* per node: factors that carry (rule_reshape.c)              */
    qn_why *whys;
    uint64_t n_whys, cap_whys;
    qn_product *products;
    uint64_t n_products, cap_products;
    uint32_t node;          /* whose rule runs                                */
    uint32_t *n_readers;    /* per value: nodes that read it                  */
    uint32_t *only_reader;  /* the last of them                               */
    uint8_t *has;           /* per class: a weight that something multiplies with is in it */
    qn_err traced;          /* what ended the trace early                     */
} qn_grouping;

/* --- trace.c ------------------------------------------------------------------------------------------------------- */

/* Shapes by inference, by running the graph where that is not enough; `varies` by a second one. */
qn_code qn_groups_trace(qn_grouping *s, qn_err *err) QN_MUST_CHECK;

/* --- atoms.c: words of the rules ------------------------------------------------------------------------------------- */

qn_code qn_atoms_init(qn_grouping *s, qn_err *err) QN_MUST_CHECK;
void qn_atoms_release(qn_grouping *s);
uint32_t qn_atom_root(qn_grouping *s, uint32_t atom);
static inline uint32_t qn_axis_number(uint32_t value, unsigned axis)
{
    return value * QN_ARRAY_RANK_MAX + axis;
}
/* Axis of a value; none when it has no such axis or its rank is not known. axis < 0 counts from the end. */
qn_axis qn_axis_at(const qn_grouping *s, uint32_t value, int axis);
/* An input or output of the node that is there and whose rank is known: its value, else QN_NO_VALUE. */
uint32_t qn_in(const qn_grouping *s, const qn_node *n, unsigned i);
uint32_t qn_out(const qn_grouping *s, const qn_node *n, unsigned i);
/* The content of an input, if known (the same in every run): integers; NULL. */
const int64_t *qn_in_ints(qn_grouping *s, const qn_node *n, unsigned i, unsigned *count);
/* A list that is an attribute in old versions and an input in new ones. NULL: it is left out (*known true) or not known. */
const int64_t *qn_list(qn_grouping *s, const qn_node *n, const char *attr, unsigned input, unsigned *count, bool *known);

/* Reasons; text is printf's. "dull" ones: qn_why.dull. */
uint32_t qn_reason(qn_grouping *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint32_t qn_reason_dull(qn_grouping *s, const char *text);

/* Pass 1 */
void qn_tie(qn_grouping *s, uint32_t a, uint32_t b);                 /* two atoms                    */
void qn_tie_axes(qn_grouping *s, qn_axis a, qn_axis b);              /* index by index               */
void qn_freeze(qn_grouping *s, qn_axis a, uint32_t why);
void qn_freeze_value(qn_grouping *s, uint32_t value, uint32_t why);  /* all axes; QN_NO_VALUE is fine */
void qn_freeze_node(qn_grouping *s, const qn_node *n, uint32_t why); /* all operands                 */
void qn_inexact(qn_grouping *s, qn_axis a, uint32_t why);
void qn_mark(qn_grouping *s, qn_axis a, unsigned mark);
bool qn_is_free(qn_grouping *s, uint32_t atom);                      /* in a class that is not frozen */

/* Both passes. An input's atom becomes the output's: tied; the output is 0 if this and all other atoms are that flow into it so … */
void qn_flow(qn_grouping *s, uint32_t in, uint32_t out);
void qn_flow_axes(qn_grouping *s, qn_axis in, qn_axis out);
/* … or already if this one is (a factor). Say these before the others. */
void qn_factor(qn_grouping *s, uint32_t in, uint32_t out);
void qn_factor_axes(qn_grouping *s, qn_axis in, qn_axis out);
/* Something that is not 0 is added along the axis: a broadcast operand, f(0). */
void qn_fill(qn_grouping *s, qn_axis out);
/* Summed over: a · b; tied, and in pass 2 inexact unless a or b is 0 where something goes. */
void qn_contract_axes(qn_grouping *s, qn_axis a, qn_axis b);
void qn_contract(qn_grouping *s, uint32_t a, uint32_t b);
/* Summed over with nothing: inexact unless a is 0. */
void qn_sum(qn_grouping *s, qn_axis a);
/* Pass 2: must not be 0 where something goes (a divisor): frozen where it is. */
void qn_refuse_zero(qn_grouping *s, qn_axis a, const char *what);

/* --- products.c ------------------------------------------------------------------------------------------------------- */

/* Notes a product of the node (pass 1). out_axis, in_axis: of `weight_operand`, which may be any value: what lies between it and a weight
 * of the source is gone back through. axes: numbers or UINT32_MAX. */
typedef struct qn_product_spec {
    uint32_t operand;      /* value that is multiplied with as a weight; QN_NO_VALUE: two activations */
    int out_axis, in_axis; /* of it; -1: none. Not counted from the end                              */
    uint32_t bias;         /* value or QN_NO_VALUE                                                   */
    uint32_t per_index;
    bool tapped;
    uint32_t axes[QN_PRODUCT_AXES];
    unsigned n_axes;
    double macs;
} qn_product_spec;
void qn_note_product(qn_grouping *s, const qn_product_spec *p);
/* Is the value a weight, or one that a weight only passes some moves to become? Its weight then, *axis becomes that of the weight. */
uint32_t qn_weight_behind(const qn_grouping *s, uint32_t value, int *axis);
/* A weight that a following Add puts on top of every output channel of `value`, or QN_NO_VALUE. channels: how many; axis: from the end. */
uint32_t qn_bias_behind(const qn_grouping *s, uint32_t value, uint32_t channels, unsigned from_end);
double qn_elems(const qn_grouping *s, uint32_t value);

/* --- rules --------------------------------------------------------------------------------------------------------- */

typedef void (*qn_rule)(qn_grouping *s, const qn_node *n);
void qn_rule_apply(qn_grouping *s, const qn_node *n);

void qn_rule_elementwise(qn_grouping *s, const qn_node *n);
void qn_rule_quantize(qn_grouping *s, const qn_node *n);
void qn_rule_linear(qn_grouping *s, const qn_node *n);
void qn_rule_gemm(qn_grouping *s, const qn_node *n);
void qn_rule_matmul(qn_grouping *s, const qn_node *n);
void qn_rule_einsum(qn_grouping *s, const qn_node *n);
void qn_rule_conv(qn_grouping *s, const qn_node *n);
void qn_rule_conv_transpose(qn_grouping *s, const qn_node *n);
void qn_rule_norm(qn_grouping *s, const qn_node *n);
void qn_rule_lm_norm(qn_grouping *s, const qn_node *n);
void qn_rule_group_norm(qn_grouping *s, const qn_node *n);
void qn_rule_batch_norm(qn_grouping *s, const qn_node *n);
void qn_rule_along(qn_grouping *s, const qn_node *n);
void qn_rule_unit(qn_grouping *s, const qn_node *n);
void qn_rule_lrn(qn_grouping *s, const qn_node *n);
void qn_rule_mvn(qn_grouping *s, const qn_node *n);
void qn_rule_last_two(qn_grouping *s, const qn_node *n);
void qn_rule_spatial(qn_grouping *s, const qn_node *n);
void qn_rule_resize(qn_grouping *s, const qn_node *n);
void qn_rule_roi(qn_grouping *s, const qn_node *n);
void qn_rule_reduce(qn_grouping *s, const qn_node *n);
void qn_rule_reduce_one(qn_grouping *s, const qn_node *n);
void qn_rule_reshape(qn_grouping *s, const qn_node *n);
void qn_rule_transpose(qn_grouping *s, const qn_node *n);
void qn_rule_concat(qn_grouping *s, const qn_node *n);
void qn_rule_split(qn_grouping *s, const qn_node *n);
void qn_rule_slice(qn_grouping *s, const qn_node *n);
void qn_rule_gather(qn_grouping *s, const qn_node *n);
void qn_rule_pad(qn_grouping *s, const qn_node *n);
void qn_rule_tile(qn_grouping *s, const qn_node *n);
void qn_rule_expand(qn_grouping *s, const qn_node *n);
void qn_rule_depth_to_space(qn_grouping *s, const qn_node *n);
void qn_rule_space_to_depth(qn_grouping *s, const qn_node *n);
void qn_rule_recurrent(qn_grouping *s, const qn_node *n);
void qn_rule_embed(qn_grouping *s, const qn_node *n);
void qn_rule_rope(qn_grouping *s, const qn_node *n);
void qn_rule_attention(qn_grouping *s, const qn_node *n);
void qn_rule_experts(qn_grouping *s, const qn_node *n);




/* --- families.c ------------------------------------------------------------------------------------------------------ */

/* Classes → families; frozen list; totals. */
qn_code qn_families_make(qn_grouping *s, qn_groups *r, qn_err *err) QN_MUST_CHECK;
qn_code qn_frozen_make(qn_grouping *s, qn_groups *r, qn_err *err) QN_MUST_CHECK;
/* A class that can go: with a weight that something multiplies with, not frozen, and exact unless inexact ones are asked for. */
bool qn_class_can_go(const qn_grouping *s, uint32_t root);
bool qn_is_weight(const qn_grouping *s, uint32_t value); /* of floats, a tensor of the source */

#endif
