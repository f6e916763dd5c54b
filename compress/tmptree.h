/* tmptree.h: the folder in which a restored or pruned file or tree grows before it gets its name: OUT and a suffix, holding
 * `lock` and `data`. One run at a time; what a killed run has left is removed by the next. */
#ifndef QN_COMPRESS_TMPTREE_H
#define QN_COMPRESS_TMPTREE_H

#include "base/env.h"

/* Zero is closed. */
typedef struct qn_tmptree {
    const qn_env *env;
    char *path, *lock_path;
    char *data; /* where to create the file or folder: nothing has that name */
    qn_file lock;
    bool open;
} qn_tmptree;

/* suffix: ".quern-unpack". QN_E_USAGE when another run holds it, or when a folder of that name holds anything else. */
qn_code qn_tmptree_open(qn_tmptree *t, const qn_env *env, const char *out_path, const char *suffix, qn_err *err) QN_MUST_CHECK;
/* Removes whatever is left of it. */
void qn_tmptree_close(qn_tmptree *t);

#endif
