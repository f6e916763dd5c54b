/* tar_build.h: tar archives made by hand, and packed ones. */
#ifndef QN_TESTS_TAR_BUILD_H
#define QN_TESTS_TAR_BUILD_H

#include "tests/support/hostile.h"

/* Appends a POSIX header and the data, padded. type: '0' file, '5' folder, 'x' pax records, … */
void qt_tar_add(qt_buf *b, const char *name, char type, const void *data, size_t n);
/* Two blocks of zeros. */
void qt_tar_end(qt_buf *b);
/* The header at `off` was changed: its sum is made right again. */
void qt_tar_sum(qt_buf *b, size_t off);
/* Packs with a filter of libarchive (ARCHIVE_FILTER_GZIP, …). */
void qt_pack(qt_buf *out, int filter, const void *p, size_t n);

#endif
