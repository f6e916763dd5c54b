/* onnx_made.h: small ONNX models written line by line, and run. Failures are Criterion's. */
#ifndef QN_TESTS_ONNX_MADE_H
#define QN_TESTS_ONNX_MADE_H

#include "analysis/exec/overlay.h"
#include "tests/support/hostile.h"

typedef struct qt_onnx {
    qt_buf graph;
    unsigned opset, ir;
    uint64_t seed; /* of the next weights */
} qt_onnx;

void qt_onnx_begin(qt_onnx *m, unsigned opset);
/* rank dims follow, as int. Normal numbers; _around: of this mean. */
void qt_onnx_floats(qt_onnx *m, const char *name, double sigma, double mean, unsigned rank, ...);
/* A vector of int64. */
void qt_onnx_ints(qt_onnx *m, const char *name, unsigned n, ...);
/* Names separated by commas; attrs: text of proto.h, as "@5{@1{'group'} #3=2 #20=2}". */
void qt_onnx_node(qt_onnx *m, const char *type, const char *ins, const char *outs, const char *attrs);
/* dims: text, "1,3,N,8". Float. */
void qt_onnx_input(qt_onnx *m, const char *name, const char *dims);
void qt_onnx_output(qt_onnx *m, const char *name, const char *dims);
/* Any other field of the graph. */
void qt_onnx_text(qt_onnx *m, const char *text);
/* Writes scratch/rel and frees the model; returns the path. */
const char *qt_onnx_write(qt_onnx *m, const char *rel);

/* A model opened and ready to run. */
typedef struct qt_onnx_open {
    qn_source *s;
    qn_graph *g;
} qt_onnx_open;
qt_onnx_open qt_onnx_load(const char *path);
void qt_onnx_close(qt_onnx_open *o);
/* Output i of one run, over normal inputs of this seed; unknown dimensions are `unknown` each. w: NULL or changed weights. Lives until exit. */
qn_array qt_onnx_eval(const qn_graph *g, const qn_overlay *w, uint64_t seed, int64_t unknown, unsigned i);
/* max |a − b| / max |b| of two f32 arrays; they must have one shape. */
double qt_onnx_apart(const qn_array *a, const qn_array *b);
/* Nodes of this type. */
unsigned qt_onnx_count(const qn_graph *g, const char *type);

#endif
