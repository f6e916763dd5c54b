/* onnx_op.h: one operator of ONNX as a graph of its own, run. */
#ifndef QN_TESTS_ONNX_OP_H
#define QN_TESTS_ONNX_OP_H

#include "analysis/exec/exec.h"

#define QT_I(key, x)        {.name = (key), .type = QN_ATTR_INT, .v.i = (x)}
#define QT_F(key, x)        {.name = (key), .type = QN_ATTR_FLOAT, .v.f = (x)}
#define QT_S(key, x)        {.name = (key), .type = QN_ATTR_STRING, .v.s = (x)}
#define QT_INTS(key, ...)   {.name = (key), .type = QN_ATTR_INTS, .v.ints = (const int64_t[]){__VA_ARGS__}, \
                           .n = sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)}
#define QT_FLOATS(key, ...) {.name = (key), .type = QN_ATTR_FLOATS, .v.floats = (const double[]){__VA_ARGS__}, \
                           .n = sizeof((const double[]){__VA_ARGS__}) / sizeof(double)}
#define QT_STRINGS(key, ...) {.name = (key), .type = QN_ATTR_STRINGS, .v.strings = (const char *const[]){__VA_ARGS__}, \
                            .n = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)}

enum { QT_OP_IN = 10, QT_OP_OUT = 3 };

typedef struct qt_op_in {
    const void *data; /* NULL: left out                                          */
    qn_dtype dtype;   /* 0: f32                                                   */
    unsigned rank;
    int64_t dims[6];
    bool constant;    /* known when shapes are inferred, as an initializer is not */
} qt_op_in;

typedef struct qt_op {
    const char *type;
    unsigned version; /* 0: 18 */
    const char *domain; /* NULL: ai.onnx */
    qn_attr attrs[10];
    qt_op_in in[QT_OP_IN];
    unsigned n_out;   /* 0: 1 */
    /* 0: 1. Everything that is not constant is a graph input of unknown shape when `blind`. */
    unsigned n_threads;
    bool blind;
    const qn_exec_options *options;
} qt_op;

/* Seals and runs it. outs: copies that live until exit; what was inferred about them is checked against what came out
 * (Criterion's failure). outs may be NULL. */
qn_code qt_onnx_run(const qt_op *op, qn_array *outs, qn_err *err);
/* It must run, and output 0 must be f32 of n values, close to these (absolute 1e-5). */
void qt_onnx_gives(const qt_op *op, const float *want, uint64_t n);

#endif
