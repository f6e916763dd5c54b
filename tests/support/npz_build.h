/* npz_build.h: zip archives of .npy members, made by hand. */
#ifndef QN_TESTS_NPZ_BUILD_H
#define QN_TESTS_NPZ_BUILD_H

#include "tests/support/hostile.h"

/* A .npy file of version 1: the dict as given, padded, and n_data bytes 0, 1, 2, … */
void qt_add_npy(qt_buf *b, const char *dict, size_t n_data);

typedef struct qt_npz {
    qt_buf file, central;
    unsigned n;
} qt_npz;

/* A member as it should be; returns where its local header begins. */
size_t qt_npz_add(qt_npz *z, const char *name, const void *p, size_t n, bool deflate);
/* The same with another declared size and CRC than the content has. */
size_t qt_npz_add_as(qt_npz *z, const char *name, const void *p, size_t n, bool deflate, uint32_t n_declared, uint32_t crc_xor);
/* Central directory and end record: `file` is then the archive. */
void qt_npz_end(qt_npz *z);
void qt_npz_free(qt_npz *z);

#endif
