/* extract.h: one tensor out of a checkpoint, as a .npy file. */
#ifndef QN_CLI_EXTRACT_H
#define QN_CLI_EXTRACT_H

#include "cli/cli.h"

typedef struct qn_extract_options {
    const char *tensor, *output;
    const char *rows; /* "FIRST:END", either may be left out; NULL: all */
    bool f32, force;
} qn_extract_options;

qn_code qn_cli_extract(qn_cli *cli, qn_source *src, const qn_extract_options *opt, qn_err *err) QN_MUST_CHECK;

#endif
