/* inspect_report.h: what inspect has found in one input, as tables or as JSON. */
#ifndef QN_CLI_INSPECT_REPORT_H
#define QN_CLI_INSPECT_REPORT_H

#include "cli/cli.h"
#include "cli/json_write.h"
#include "compress/survey.h"
#include "runtime/container.h"

typedef struct qn_inspection {
    qn_source *source;
    const qn_index *index; /* of a .quern file; else NULL             */
    uint64_t *order;       /* tensors in the order to print           */
    uint64_t n_tensors;    /* in `order`                              */
    bool filtered;         /* by --tensor: files and totals stay whole */
    bool has_stats;
    qn_survey survey;
} qn_inspection;

/* Elements and shape "[2, 3]" of a tensor. */
uint64_t qn_tensor_elems(const qn_source_tensor *t);
void qn_shape_text(char *buf, size_t n, const qn_source_tensor *t);
/* The survey's row of a tensor, NULL when it has none. */
const qn_survey_row *qn_inspection_row(const qn_inspection *x, uint64_t tensor);
/* Is it stored in the .quern file as an object of its own, of which there is more to tell? */
bool qn_inspection_is_stored(const qn_inspection *x, uint64_t tensor);

qn_code qn_inspect_text(qn_cli *cli, const qn_inspection *x, qn_err *err) QN_MUST_CHECK;
/* The tables of --stats. */
qn_code qn_inspect_stats_text(qn_cli *cli, const qn_inspection *x, qn_err *err) QN_MUST_CHECK;
/* One element of the array "inputs". */
void qn_inspect_json(qn_json_writer *j, const qn_inspection *x);

#endif
