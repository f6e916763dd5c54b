/* spool.h: bytes that are written once from front to back and then read anywhere: in memory while they are few, else in a
 * temporary file that has no name (it is gone with the program, however that ends). */
#ifndef QN_FORMATS_ARCHIVE_SPOOL_H
#define QN_FORMATS_ARCHIVE_SPOOL_H

#include "base/env.h"

typedef struct qn_spool {
    const qn_env *env;
    uint64_t n_bytes, memory_max;
    uint8_t *mem;  /* all of them while n_bytes ≤ memory_max, else NULL */
    uint64_t cap;
    qn_file file;
} qn_spool;

/* Holds at most 16 MiB in memory, an eighth of env->memory_bytes when that is less. */
void qn_spool_init(qn_spool *sp, const qn_env *env);
qn_code qn_spool_append(qn_spool *sp, const void *p, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* Thread-safe once everything is written. */
qn_code qn_spool_read(const qn_spool *sp, void *dst, uint64_t n, uint64_t off, qn_err *err) QN_MUST_CHECK;
void qn_spool_release(qn_spool *sp);

#endif
