/* diff_impl.h: the inside of a comparison, for diff.c and diff_pass.c only. */
#ifndef QN_ANALYSIS_DIFF_IMPL_H
#define QN_ANALYSIS_DIFF_IMPL_H

#include "analysis/diff.h"

enum { BYTES_PIECE = 2 << 20 };

/* Two things to compare: tensors of equal shape, or ranges of two files. */
struct item {
    bool is_tensor, differs;
    uint64_t row;          /* in out->rows or out->files                  */
    uint64_t a, b;         /* tensors; else files                         */
    uint64_t a_off, b_off; /* where the ranges begin; 0 for tensors       */
    uint64_t n_bytes;      /* of A's side                                 */
    uint64_t piece_bytes;  /* of A's side                                 */
    uint64_t first_task;
    qn_diff_status if_differs; /* of files */
};

/* The tensors that lie in one file. */
struct in_file {
    uint64_t n_tensors;
    uint64_t n_alike; /* whose twins, of equal dtype and shape, lie in one file of the other side: */
    uint64_t twins_in;
};

struct diff {
    const qn_env *env;
    qn_source *a, *b;
    const qn_diff_options *opt;
    qn_diff *out;
    struct item *items;
    uint64_t n_items;
    struct in_file *in_a, *in_b; /* one per file */
};

/* All passes over the items: sets statuses, counts and sums. */
qn_code qn_diff_passes(struct diff *d, qn_err *err) QN_MUST_CHECK;

/* Bits of one value of a dtype that has numbers in it (a C64 holds two values of 32); 0 for the others. */
unsigned qn_value_bits(qn_dtype t);
unsigned qn_values_per_element(qn_dtype t);

#endif
