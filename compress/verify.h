/* verify.h: re-reading what was written; qn_verify (pack.h) is the user's command, this is the packer's last step. */
#ifndef QN_COMPRESS_VERIFY_H
#define QN_COMPRESS_VERIFY_H

#include "base/env.h"

/* Opens the file anew and checks structure, paddings and every payload checksum (chunks were decoded and compared when
 * they were encoded). QN_E_VERIFY when something does not read back. */
qn_code qn_verify_written(const qn_env *env, const char *path, qn_err *err) QN_MUST_CHECK;

#endif
