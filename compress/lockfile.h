/* lockfile.h: a file that only one run may hold. */
#ifndef QN_COMPRESS_LOCKFILE_H
#define QN_COMPRESS_LOCKFILE_H

#include "base/env.h"

/* Opens or creates `path` and locks it; closing gives the lock back. QN_E_USAGE when another run holds it. A run that
 * ends may remove its lock file: what is held in the end is what the name stands for. *is_new: created here. */
qn_code qn_lockfile_open(qn_file *f, const qn_env *env, const char *path, bool *is_new, qn_err *err) QN_MUST_CHECK;

#endif
