/* net_made.h: small networks of ONNX or quern operators, by name, for tests of structured pruning: built over a real source, cut, and run with zeros
 * where something is cut and without it. Failures are Criterion's. */
#ifndef QN_TESTS_NET_MADE_H
#define QN_TESTS_NET_MADE_H

#include "analysis/groups/cut.h"
#include "tests/support/made.h"
#include "tests/support/onnx_op.h"
#include "tests/support/testkit.h"

enum { QT_NET_MOST = 400, QT_NET_OPERANDS = 24 };

typedef struct qt_net_tensor {
    char name[48];
    qn_dtype dtype;
    unsigned rank;
    int64_t dims[6];
    void *data;
} qt_net_tensor;

typedef struct qt_net_node {
    char type[32], domain[8], name[48];
    unsigned version, n_in, n_out, n_attrs;
    char in[QT_NET_OPERANDS][48], out[QT_NET_OPERANDS][48]; /* "-": left out */
    qn_attr attrs[8];
} qt_net_node;

typedef struct qt_net {
    qt_rng rng;
    qt_net_tensor *weights, *consts, *inputs; /* QT_NET_MOST each */
    qt_net_node *nodes;
    unsigned n_weights, n_consts, n_inputs, n_nodes, n_outputs;
    char outputs[8][48];
    qn_source *source;
    qn_graph *graph;
} qt_net;

qt_net *qt_net_new(uint64_t seed);
void qt_net_free(qt_net *n);
/* Dimensions follow, rank of them, as int; an unknown one of an input is −1. Weights: normal, divided by the root of what they sum over (the
 * product of dims but the first); vectors around 1. */
void qt_net_input(qt_net *n, const char *name, unsigned rank, ...);
void qt_net_weight(qt_net *n, const char *name, unsigned rank, ...);
void qt_net_weight_dims(qt_net *n, const char *name, unsigned rank, const int64_t *dims);
void qt_net_ints(qt_net *n, const char *name, unsigned count, const int64_t *values); /* a constant */
void qt_net_doubles(qt_net *n, const char *name, unsigned count, const double *values);
/* operands and results: names, separated by blanks. The node's name is its first result. type "quern.Linear": of domain quern. */
void qt_net_op(qt_net *n, const char *type, const char *in, const char *out, const qn_attr *attrs, unsigned n_attrs);
void qt_net_output(qt_net *n, const char *name);
/* Writes the weights, builds and seals. The graph is the net's. With an input "tokens" it is a language model (of 11 words; the other input must be
 * "starts"). */
qn_graph *qt_net_graph(qt_net *n);

/* The same graph without what the cut takes away; weights are constants. Inputs must have the traced sizes then. */
qn_graph *qt_net_sliced(const qn_cut *c);
/* Random groups of every family go: part of each (but never all); families whose reason is not NULL only with `inexact`. */
void qt_net_cut(qn_cut *c, qt_rng *r, double part, bool inexact);

typedef struct qt_net_result {
    double worst, moved; /* |zeroed − sliced|, |zeroed − dense|, relative to the largest |dense| */
    uint64_t n_cut;
} qt_net_result;
/* Runs all three on random inputs. */
qt_net_result qt_net_compare(const qn_graph *g, const qn_cut *c, qt_rng *r);
/* Finds the groups, cuts, compares: sliced must be zeroed (bar 1e-5). */
qt_net_result qt_net_check(qt_net *n, const qn_groups_options *o, double part);
/* The family of that name (the first of several), or NULL. */
const qn_family *qt_net_family(const qn_groups *s, const char *name);
/* How many indices of an axis of the named value a group of the family holds; 0: it is no member. */
unsigned qt_net_holds(const qn_groups *s, const qn_family *f, const char *value, unsigned axis);

#endif
