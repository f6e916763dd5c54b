/* inputs.h: which files a run reads, so that it neither writes over one of them nor takes a mixture of two states. */
#ifndef QN_COMPRESS_INPUTS_H
#define QN_COMPRESS_INPUTS_H

#include "formats/source.h"

/* Zero-initialise; release with qn_inputs_release. */
typedef struct qn_inputs {
    const qn_env *env;
    uint64_t n, cap;
    struct qn_input *items;
} qn_inputs;

/* Notes identity, length and time of every file behind a source. */
qn_code qn_inputs_add(qn_inputs *in, const qn_env *env, const qn_source *src, qn_err *err) QN_MUST_CHECK;
/* QN_E_USAGE when `path` is one of them under whatever name (hard link, symlink, ./x). */
qn_code qn_inputs_refuse(const qn_inputs *in, const char *path, qn_err *err) QN_MUST_CHECK;
/* QN_E_INPUT when one of them is no longer what it was. */
qn_code qn_inputs_unchanged(const qn_inputs *in, qn_err *err) QN_MUST_CHECK;
void qn_inputs_release(qn_inputs *in);

#endif
