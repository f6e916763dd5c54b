/* env.h: the seams a run goes through, in one place: memory, files, CPU, threads, progress, cancel.
 * Borrowed by everything that takes it; it must outlive what was opened with it. No global state hides behind it. */
#ifndef QN_BASE_ENV_H
#define QN_BASE_ENV_H

#include "base/cpu.h"
#include "base/io.h"
#include "quern/base.h"
#include <stdatomic.h>

typedef struct qn_env {
    const qn_alloc *alloc;          /* NULL: the heap                                          */
    const qn_fs *fs;                /* never NULL after qn_env_init                            */
    unsigned cpu;                   /* QN_CPU_* bits in use                                    */
    unsigned n_threads;             /* ≥ 1                                                     */
    uint64_t memory_bytes;          /* limit for what we plan, 0 = none                        */
    const char *tmp_dir;            /* for temporary files; NULL: /tmp. Borrowed                */
    const atomic_int *cancel;       /* non-zero: stop at the next chunk; NULL: never           */
    void (*progress)(void *ctx, const char *what, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_ctx;             /* called from one thread at a time                        */
} qn_env;

/* POSIX files, the heap, detected CPU (masked by QUERN_CPU), threads = usable cores, temporary files in TMPDIR.
 * Fails with QN_E_USAGE when QUERN_CPU holds an unknown word. */
qn_code qn_env_init(qn_env *env, qn_err *err) QN_MUST_CHECK;
/* QN_E_CANCELLED once the cancel flag is set, else QN_OK. */
qn_code qn_env_check(const qn_env *env, qn_err *err) QN_MUST_CHECK;

#endif
