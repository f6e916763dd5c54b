/* outfile.h: a file that is written front to back and appears under its name only when it is whole.
 *
 *   open → add … → seal (on the disk and read back) → publish (has its name) → close
 *
 * Bytes go to PATH.quern-export; what a killed run has left of that name is replaced. close without publish removes it and
 * leaves PATH as it was. */
#ifndef QN_FORMATS_OUTFILE_H
#define QN_FORMATS_OUTFILE_H

#include "base/env.h"
#include "base/hash.h"

typedef struct qn_outfile {
    const qn_env *env;
    char *path, *tmp; /* owned */
    qn_file file;
    uint8_t *buf;
    uint64_t buf_used;
    uint64_t at;      /* bytes added so far, those in buf included */
    qn_hasher hash;
    bool overwrite, made;
} qn_outfile;

#define QN_OUTFILE_CLOSED ((qn_outfile){.file = {.fd = -1}})

/* QN_E_USAGE when PATH is a folder, or is there and may not be overwritten. */
qn_code qn_outfile_open(qn_outfile *o, const qn_env *env, const char *path, bool overwrite, qn_err *err) QN_MUST_CHECK;
qn_code qn_outfile_add(qn_outfile *o, const void *p, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* Zeros up to a multiple of `align`, a power of two. */
qn_code qn_outfile_pad(qn_outfile *o, uint64_t align, qn_err *err) QN_MUST_CHECK;
/* Everything is synced, read back (QN_E_VERIFY when it is not what was added) and closed; o->tmp can be opened. */
qn_code qn_outfile_seal(qn_outfile *o, qn_err *err) QN_MUST_CHECK;
qn_code qn_outfile_publish(qn_outfile *o, qn_err *err) QN_MUST_CHECK;
/* In any state; also of one that is zero or QN_OUTFILE_CLOSED. */
void qn_outfile_close(qn_outfile *o);

#endif
