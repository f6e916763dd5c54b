/* write.h (zip): an archive that is written member by member and appears under its name only when it is whole.
 *
 *   open → (begin → add … → end) … → finish → close
 *
 * Sizes and CRC stand in the local headers too (they are filled in when a member ends), as simple readers of .npz want it; 64-bit fields only where
 * something needs them. Bytes go to PATH.quern-export, are synced, read back through our own reader with every CRC, and then renamed. */
#ifndef QN_FORMATS_ZIP_WRITE_H
#define QN_FORMATS_ZIP_WRITE_H

#include "base/env.h"

typedef struct qn_zip_out {
    const qn_env *env;
    char *path, *tmp;
    qn_file file;
    uint8_t *buf;         /* what is not in the file yet, of the member's data */
    uint64_t n_buf, at;   /* at: where buf will go                            */
    struct qn_zip_member *members;
    uint64_t n, cap;
    struct qn_zip_deflate *deflate; /* of the member; NULL: stored */
    uint64_t wide_from;   /* members of so many bytes have 64-bit sizes; open sets it, a test may lower it */
    bool made;
} qn_zip_out;

#define QN_ZIP_OUT_CLOSED ((qn_zip_out){.file = {.fd = -1}})

/* QN_E_USAGE when PATH is a folder, or is there and may not be overwritten. */
qn_code qn_zip_out_open(qn_zip_out *o, const qn_env *env, const char *path, bool overwrite, qn_err *err) QN_MUST_CHECK;
/* name: UTF-8, below 2^16 bytes, another than every one before. n_bytes: of its content, as it will be. */
qn_code qn_zip_out_begin(qn_zip_out *o, const char *name, uint64_t n_bytes, bool deflated, qn_err *err) QN_MUST_CHECK;
qn_code qn_zip_out_add(qn_zip_out *o, const void *p, uint64_t n, qn_err *err) QN_MUST_CHECK;
qn_code qn_zip_out_end(qn_zip_out *o, qn_err *err) QN_MUST_CHECK;
/* *n_bytes: of the file. */
qn_code qn_zip_out_finish(qn_zip_out *o, uint64_t *n_bytes, qn_err *err) QN_MUST_CHECK;
void qn_zip_out_close(qn_zip_out *o); /* in any state; without finish nothing is left */

#endif
