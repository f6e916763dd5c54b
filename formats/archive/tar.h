/* tar.h: where the files of a tar archive lie in it. */
#ifndef QN_FORMATS_ARCHIVE_TAR_H
#define QN_FORMATS_ARCHIVE_TAR_H

#include "base/env.h"
#include "formats/archive/members.h"

/* n bytes of the archive at `off`. */
typedef qn_code (*qn_tar_read_fn)(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err);

/* Does it begin with a header of POSIX or GNU tar? */
bool qn_tar_begins(const uint8_t *head, size_t n);
/* Reads every header of an archive of n_bytes and adds its files to m, in_spool as given. env: to be cancelled. */
qn_code qn_tar_list(const qn_env *env, qn_tar_read_fn read, void *ctx, uint64_t n_bytes, bool in_spool, qn_members *m,
                    qn_err *err) QN_MUST_CHECK;

#endif
