/* onnx_feeds.h: a model's inputs from a folder that a script has written. */
#ifndef QN_TESTS_ONNX_FEEDS_H
#define QN_TESTS_ONNX_FEEDS_H

#include "analysis/exec/exec.h"

enum { QT_TENSORS_MAX = 64 };

/* The bytes of a file, malloc'ed, or NULL. */
void *qt_read_whole(const char *path, size_t *n);
/* DIR/inputs: a line for each input: name, dtype, rank, dims, between tabs; its data in DIR/in0, in1, … feeds: QT_TENSORS_MAX of them, all empty. */
qn_code qt_read_inputs(const qn_graph *g, const char *dir, qn_array *feeds, qn_err *err) QN_MUST_CHECK;

#endif
