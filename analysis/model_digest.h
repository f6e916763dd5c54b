/* model_digest.h: one number for what a checkpoint means, whatever its files: a folder, and the .quern packed from it, have one. */
#ifndef QN_ANALYSIS_MODEL_DIGEST_H
#define QN_ANALYSIS_MODEL_DIGEST_H

#include "formats/source.h"

/* XXH3-128 over every tensor in the order of names: name, dtype, dims, digest of the content. Reads the whole model once. */
qn_code qn_model_digest(const qn_env *env, qn_source *s, qn_digest *out, qn_err *err) QN_MUST_CHECK;

#endif
