/* looks.h: what a large error of a tensor looks like, for people who have to find its cause: transposed, a multiple of what it should be, another
 * tensor of the reference, a few rows, a few values. A guess that is made from the numbers, never a verdict. */
#ifndef QN_ANALYSIS_GATE_LOOKS_H
#define QN_ANALYSIS_GATE_LOOKS_H

#include "formats/source.h"

#define QN_LOOKS_FROM 0.02 /* relative error below which it is not worth a look */

/* *text, a phrase that follows the tensor's name: from `arena`, NULL when it looks like nothing known. Tensors of equal shape; of more than 2^26 values it is not tried. */
qn_code qn_looks(const qn_env *env, qn_source *ref, uint64_t ref_tensor, qn_source *cand, uint64_t cand_tensor, qn_arena *arena,
                 const char **text, qn_err *err) QN_MUST_CHECK;

#endif
