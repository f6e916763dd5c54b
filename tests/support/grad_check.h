/* grad_check.h: derivatives against central differences: a graph runs with one element of a weight moved both ways, and the loss, a sum of its outputs with
 * random factors in double precision, must change as the derivative says. Failures are Criterion's. */
#ifndef QN_TESTS_GRAD_CHECK_H
#define QN_TESTS_GRAD_CHECK_H

#include "analysis/grad/grad.h"
#include "tests/support/onnx_op.h"

typedef enum qt_grad_fill {
    QT_LEFT_OUT = 0,
    QT_NORMAL,   /* a weight, its derivative checked: normal numbers                                                              */
    QT_APART,    /* the same: odd multiples of 1/16, all different: for what has a kink or takes a largest                          */
    QT_BETWEEN,  /* the same: multiples of 1/8, all different: between those of QT_APART                                           */
    QT_POSITIVE, /* the same: 0.5 and more                                                                                         */
    QT_SPREAD,   /* the same: evenly between −0.9 and 0.9                                                                          */
    QT_FIXED,    /* normal numbers fed by the caller: no derivative                                                                */
    QT_CONST,    /* `data` (of dtype, shape), known when shapes are inferred                                                        */
    QT_FED       /* `data`, fed                                                                                                    */
} qt_grad_fill;

typedef struct qt_grad_in {
    qt_grad_fill fill;
    unsigned rank;
    int64_t dims[6];
    const void *data;
    qn_dtype dtype; /* 0: f32 */
} qt_grad_in;

/* One node. */
typedef struct qt_grad_op {
    const char *domain; /* NULL: ONNX's */
    const char *type;
    const char *what;   /* added to messages; may be NULL */
    unsigned version;   /* 0: 18 */
    qn_attr attrs[10];
    qt_grad_in in[10];
    unsigned n_out;     /* 0: 1 */
    double bar;         /* allowed difference, as a part of the largest derivative of the operand; 0: 1e-3 */
} qt_grad_op;

/* Asserts that the derivatives by all weights among the operands are right, the same for one weight at a time and for one and two threads, that they are
 * added up over calls, and that no memory is kept. With several outputs also for each alone. Of an operand of more than 64 elements, 64 are
 * looked at, 8 when the outputs are large. */
void qt_grad_check(const qt_grad_op *op);
/* All of a table that ends with a NULL type. */
void qt_grad_check_all(const qt_grad_op *ops);

/* The same for a sealed graph: data[i] is the content of weight weights[i], all of the graph's weights; feeds as in qn_grad_run, owned by the caller. */
void qt_grad_compare(const char *what, const qn_graph *g, const uint32_t *weights, float *const *data, unsigned n_weights, const qn_array *feeds,
                     double bar);

/* A source of f32 tensors of these names and shapes (rank up to 6), content 0: the weights of a graph that is checked. */
qn_source *qt_grad_source(const qn_env *env, const char *const *names, const qt_grad_in *shapes, unsigned n);

#endif
