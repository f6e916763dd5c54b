/* one_op.h: running a single operator of language models on arrays of a test's own. Failures are Criterion's. */
#ifndef QN_TESTS_ONE_OP_H
#define QN_TESTS_ONE_OP_H

#include "analysis/exec/exec.h"
#include "tests/support/testkit.h"

/* Normal numbers that live until exit. */
float *qt_op_random(qt_rng *r, uint64_t n, double sigma, double mean);
/* The array over data of the caller; then rank dims, as int. */
qn_array qt_op_floats(const float *p, unsigned rank, ...);
qn_array qt_op_doubles(const double *p, int64_t n);
qn_array qt_op_ints(const int64_t *p, int64_t n);

/* A graph of one node of domain quern, all operands fed; y[i]: copies of its n_out outputs, living until exit. The code of the
 * run, or of the seal that refused the node. Asserts that no memory is kept. */
qn_code qt_op_run(unsigned n_threads, const char *type, const qn_attr *attrs, unsigned n_attrs, const qn_array *in, unsigned n_in, float **y,
                  unsigned n_out, qn_err *err);
/* y must be within `bar` times the largest |want| of it. */
void qt_op_close(const char *what, const float *y, const double *want, uint64_t n, double bar);

#endif
