/* work.h: the folder OUT.quern-prune in which a pruned checkpoint grows, and how it gets its name. */
#ifndef QN_COMPRESS_PRUNE_WORK_H
#define QN_COMPRESS_PRUNE_WORK_H

#include "compress/tmptree.h"

typedef struct qn_prune_work {
    qn_tmptree tree;
    char *prepared; /* an ONNX model made ready              */
    char *result;   /* file or folder, with OUT's last name  */
} qn_prune_work;

/* QN_E_USAGE when OUT is there and may not be replaced: a file is by a file, a folder only when it holds a config.json. */
qn_code qn_prune_work_check(const qn_env *env, const char *out, bool folder, bool overwrite, qn_err *err) QN_MUST_CHECK;
qn_code qn_prune_work_open(qn_prune_work *w, const qn_env *env, const char *out, qn_err *err) QN_MUST_CHECK;
/* Gives the result its name OUT; data files beside it (RESULT.data) first. */
qn_code qn_prune_work_publish(qn_prune_work *w, const char *out, bool folder, bool overwrite, qn_err *err) QN_MUST_CHECK;
void qn_prune_work_close(qn_prune_work *w);
/* Bytes of a file, or of the files in a folder and of those it holds. */
qn_code qn_prune_work_bytes(const qn_env *env, const char *path, uint64_t *n_bytes, qn_err *err) QN_MUST_CHECK;

#endif
