/* ints.h: a file that is one array of integers: tokens, labels. */
#ifndef QN_ANALYSIS_EVAL_INTS_H
#define QN_ANALYSIS_EVAL_INTS_H

#include "formats/source.h"

/* All n values of the source's tensor, which must be of an integer dtype (qn_dtype_is_integer). *out is the caller's (qn_mem_put). A U64
 * past INT64_MAX becomes INT64_MAX: whoever asks for numbers of something refuses it as too large. */
qn_code qn_ints_read(const qn_env *env, qn_source *s, uint64_t tensor, int64_t **out, uint64_t *n, qn_err *err) QN_MUST_CHECK;

#endif
