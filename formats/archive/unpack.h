/* unpack.h: a packed file, from front to back into a spool. */
#ifndef QN_FORMATS_ARCHIVE_UNPACK_H
#define QN_FORMATS_ARCHIVE_UNPACK_H

#include "formats/archive/spool.h"

typedef enum qn_packing { QN_PACKING_NONE, QN_PACKING_GZIP, QN_PACKING_ZSTD, QN_PACKING_XZ, QN_PACKING_BZIP2 } qn_packing;

/* By its first bytes. */
qn_packing qn_packing_of(const uint8_t *head, size_t n);
/* What an archive of n_bytes may unpack to: 256 MiB and 200 times its size. */
uint64_t qn_unpack_limit(uint64_t n_bytes);
/* The packed file is n_bytes of f. gzip is read with zlib, which checks CRC and length; the others with libarchive, whose
 * decoders take memory of their own, outside env->alloc: up to 128 MiB for a zstd window, up to the dictionary for xz. */
qn_code qn_unpack_stream(const qn_env *env, qn_packing how, const qn_file *f, uint64_t n_bytes, qn_spool *out,
                         qn_err *err) QN_MUST_CHECK;

#endif
