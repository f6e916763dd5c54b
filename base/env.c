/* env.c: see env.h. */
#include "base/env.h"
#include "base/err.h"
#include "base/threads.h"
#include <stdlib.h>

qn_code qn_env_init(qn_env *env, qn_err *err)
{
    const char *tmp = getenv("TMPDIR");
    *env = (qn_env){.fs = &qn_fs_posix, .n_threads = qn_threads_usable(), .tmp_dir = tmp && tmp[0] ? tmp : NULL};
    return qn_cpu_from_env(&env->cpu, err);
}

qn_code qn_env_check(const qn_env *env, qn_err *err)
{
    if (env->cancel && atomic_load_explicit(env->cancel, memory_order_relaxed) != 0)
        return QN_FAIL(err, QN_E_CANCELLED, QN_NO_OFFSET, "interrupted");
    return QN_OK;
}
