/* survey.h: what is in a checkpoint and how small each level would make it, without writing anything.
 *
 * One pass over the wanted tensors. Every byte is tallied; each level encodes all of a small tensor and a sample of
 * chunks, evenly spread, of a large one. Results do not depend on the number of threads. */
#ifndef QN_COMPRESS_SURVEY_H
#define QN_COMPRESS_SURVEY_H

#include "analysis/tally.h"
#include "compress/encode.h"
#include "formats/source.h"

enum { QN_LEVELS = QN_LEVEL_MAX + 1 }; /* arrays by level; [0] is unused */

typedef struct qn_survey_options {
    bool level[QN_LEVELS];            /* which to try                                                       */
    uint64_t sample_bytes[QN_LEVELS]; /* encode about this much of the source; 0: a default that takes seconds */
    bool (*want)(void *ctx, const char *tensor); /* NULL: all tensors */
    void *want_ctx;
} qn_survey_options;

typedef struct qn_survey_row {
    uint64_t tensor;       /* in the source                                              */
    qn_tensor_stats stats;
    uint64_t duplicate_of; /* row of the first tensor with these bytes, dtype and shape; UINT64_MAX: none */
    uint64_t level_bytes[QN_LEVELS]; /* payload bytes, were this tensor alone            */
    bool level_exact[QN_LEVELS];     /* all of it was encoded; else scaled from a sample */
} qn_survey_row;

typedef struct qn_survey {
    uint64_t n_rows;
    qn_survey_row *rows;             /* source order */
    uint64_t tensor_bytes;           /* of the rows  */
    uint64_t n_duplicates, duplicate_bytes;
    double bound_bytes;              /* order-0 bound, duplicates counted once */
    uint64_t level_bytes[QN_LEVELS]; /* payloads, duplicates counted once      */
    bool level_exact[QN_LEVELS];
} qn_survey;

qn_code qn_survey_run(const qn_env *env, qn_source *src, const qn_survey_options *opt, qn_survey *out,
                      qn_err *err) QN_MUST_CHECK;
void qn_survey_release(const qn_env *env, qn_survey *s);

#endif
