/* eval_io.h: eval on arrays: runs, compares, reports. */
#ifndef QN_CLI_EVAL_IO_H
#define QN_CLI_EVAL_IO_H

#include "analysis/graph/graph.h"
#include "cli/cli.h"

typedef struct qn_eval_io_args {
    const char *model, *against; /* paths, for the report */
    const char *inputs, *labels; /* labels: NULL or a .npy */
    uint64_t batch, limit;       /* samples in a run; runs, 0: all */
} qn_eval_io_args;

/* Class numbers of a .npy, in whatever integer type; *labels is the caller's (qn_mem_put). */
qn_code qn_labels_read(qn_cli *cli, const char *path, int64_t **labels, uint64_t *n, qn_err *err) QN_MUST_CHECK;
/* ref may be NULL when there are labels. */
qn_code qn_eval_io(qn_cli *cli, const qn_eval_io_args *a, const qn_graph *g, const qn_graph *ref, qn_err *err) QN_MUST_CHECK;

#endif
