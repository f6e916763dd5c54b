/* groups.h: which slices of a model's weights can only be removed together: what structured pruning cuts.
 *
 * An *atom* is an index of an axis of a value: (value, axis, index). Operators tie atoms (a channel of a convolution's output is a row of
 * its weight, an entry of its bias, a channel of whatever is added to it, a column of what reads it …); what is tied is one *group* and
 * goes or stays as a whole. Groups that have the same members, index apart, are a *family*: the width that a user thinks of, such as
 * the channels of a stage or the heads of an attention. Found with a union-find over atoms, from the axis rule of each operator (op.h).
 *
 * A group is *exact* when the model with all its weights set to 0 (producing and reading side) computes what the model without
 * them computes; *inexact* when a statistic over the axis changes (a normalized width); *frozen* when it cannot go: it reaches an
 * input, an output, a spatial axis, an operator that has no rule. Frozen ones are listed with the reason, so that nothing is silent.
 *
 * Sources: OTOv2 (Chen et al. 2023, zero-invariant groups), DepGraph (Fang et al. 2023); the atoms are ours. */
#ifndef QN_ANALYSIS_GROUPS_GROUPS_H
#define QN_ANALYSIS_GROUPS_GROUPS_H

#include "analysis/exec/exec.h"

typedef enum qn_member_role {
    QN_MEMBER_PRODUCER,  /* weight: an axis along which a product puts out (rows of a Linear, axis 0 of a Conv) */
    QN_MEMBER_CONSUMER,  /* weight: an axis that a product sums over                                            */
    QN_MEMBER_PARAMETER, /* weight: goes along (bias, scale, statistics of a batch norm, an embedding's width)   */
    QN_MEMBER_VALUE      /* not a weight: an activation                                                          */
} qn_member_role;

/* What one family has of one axis of one value. A value may be a member with several axes. */
typedef struct qn_member {
    uint32_t value;
    uint8_t axis, role;
    const uint32_t *start; /* n_groups + 1: group i holds index[start[i] … start[i + 1]), ascending; may be none of some groups */
    const uint32_t *index;
} qn_member;

/* A product that sums over a family's axis: what can be refitted when groups go. */
typedef struct qn_consumer {
    uint32_t node, weight;   /* weight: its value in the graph, a WEIGHT                                                  */
    uint32_t bias;           /* value that is added per output channel before anything else happens, or QN_NO_VALUE       */
    uint32_t member;         /* of the family: (weight, axis)                                                             */
    uint32_t per_index;      /* columns of the rows that on_input shows (exec.h) for one index of the axis: kh · kw of a convolution, else 1 */
    bool tapped;             /* on_input shows its rows: the weight is read by the product itself, not through other nodes */
} qn_consumer;

typedef struct qn_family {
    const char *name;        /* of its first producer's weight: "layers.3.mlp.gate_proj.weight" */
    const char *reason;      /* inexact: why; frozen families are not here. NULL: exact          */
    const char *kind;        /* for people: "channels", "heads", "ffn", "width", "experts" …     */
    uint32_t n_groups, n_members, n_consumers;
    const qn_member *members;
    const qn_consumer *consumers;
    uint64_t params_each;    /* elements of weights that one group holds                         */
    double macs_each;        /* multiplications that one group takes part in, of one run of the traced inputs */
    uint32_t first_node, last_node; /* of those that touch its weights: the order to work in       */
} qn_family;

/* Channels of a weight's producing axis that cannot go. */
typedef struct qn_frozen {
    uint32_t value;          /* QN_NO_VALUE: of weights inside a graph in an attribute of `node`   */
    uint8_t axis;
    uint64_t n, of;          /* so many of all                                                    */
    const char *reason;      /* "is an output of the model", "operator NonMaxSuppression of node 'x'"; one line */
    uint32_t node;           /* that froze it, or QN_NO_NODE                                      */
} qn_frozen;

/* A loop nest that multiplies `macs` times in a run; less in proportion when one of its axes is cut. Axes are numbers value · QN_ARRAY_RANK_MAX + axis. */
typedef struct qn_loops {
    double macs;
    uint32_t axis[6];
    uint8_t n_axes;
} qn_loops;

typedef struct qn_groups {
    qn_arena arena;
    const qn_graph *graph;   /* borrowed */
    qn_family *families;     /* sorted by first_node, then by name */
    qn_frozen *frozen;
    uint32_t n_families, n_frozen;
    uint64_t n_channels, n_free; /* output channels of convolutions and linear layers; those of them that are in a family */
    uint64_t n_outputs;      /* those of them that are outputs of the model, which nothing can change                    */
    uint64_t params, free_params; /* elements of float weights; of those that some group holds       */
    double macs;
    const qn_loops *loops;   /* n_loops: every product of the graph */
    uint64_t n_loops;
    /* Shape of every value as traced: dims[v · QN_ARRAY_RANK_MAX + axis], rank[v] (QN_RANK_UNKNOWN: not known, e.g. inside a subgraph) */
    const int64_t *dims;
    const uint8_t *rank;
    const bool *varies;      /* [v · QN_ARRAY_RANK_MAX + axis]: differs between runs (batch, sequence, image): left alone */
} qn_groups;

typedef struct qn_groups_options {
    /* Inputs that the graph is traced with, one per input; NULL: made up from the declared shapes (zeros; unknown dimensions get two small
     * sizes). Only shapes matter. */
    const qn_array *feeds;
    bool inner;              /* where heads × size are one axis: cut sizes in place of whole heads    */
    bool inexact;            /* list inexact families too; without it they are frozen with that reason */
} qn_groups_options;

/* QN_E_UNSUPPORTED only when no shapes can be found (names the node); operators without a rule freeze what they touch. */
qn_code qn_groups_find(const qn_env *env, const qn_graph *g, const qn_groups_options *o, qn_groups **out, qn_err *err) QN_MUST_CHECK;
void qn_groups_free(qn_groups *s); /* NULL is fine */

#endif
