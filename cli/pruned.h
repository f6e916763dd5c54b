/* pruned.h: a pruned copy of a checkpoint for the time of a command: what `compress --prune` packs and `plan --prune` plans for. */
#ifndef QN_CLI_PRUNED_H
#define QN_CLI_PRUNED_H

#include "cli/array_data.h"
#include "compress/prune/prune.h"

/* Zero is closed. */
typedef struct qn_pruned {
    qn_tmptree tree;
    char *path;       /* the pruned checkpoint, with the last name of the original */
    char *statistics; /* measured on it; NULL: not asked for                       */
    qn_cost before, after;
    qn_distance distance; /* from the dense model; n_rows 0: not measured          */
} qn_pruned;

typedef struct qn_pruned_options {
    const qn_prune_wish *wish;
    const qn_data_args *data;
    bool shapes_only; /* for a plan: the shapes are right, no weight is refitted or trained */
    bool calibrate;   /* measure statistics on what was pruned, when there are data         */
} qn_pruned_options;

/* `out`: beside which the copy grows, OUT.quern-pruned. Tells on stderr what was cut. */
qn_code qn_pruned_open(qn_pruned *x, qn_cli *cli, const char *input, const char *out, const qn_pruned_options *o, qn_err *err) QN_MUST_CHECK;
void qn_pruned_close(qn_pruned *x);

#endif
