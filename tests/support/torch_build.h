/* torch_build.h: pickles spelled out, and checkpoints around them. */
#ifndef QN_TESTS_TORCH_BUILD_H
#define QN_TESTS_TORCH_BUILD_H

#include "tests/support/zip_build.h"

/* Pieces of pickles. Storage '0' has 8 elements of F32; W is a tensor (2, 4) over all of it. */
#define PT_ID(class, key, n)   "(X\7\0\0\0storagectorch\n" class "\nX\1\0\0\0" key "X\3\0\0\0cpuK" n "tQ"
#define PT_STORE               PT_ID("FloatStorage", "0", "\x08")
#define PT_V2                  "ctorch._utils\n_rebuild_tensor_v2\n"
#define PT_HOOKS               "\x89" "ccollections\nOrderedDict\n)R"
#define PT_TENSOR(first, size, stride) PT_V2 "(" PT_STORE first "(" size "t(" stride "t" PT_HOOKS "tR"
#define PT_W                   PT_TENSOR("K\0", "K\2K\4", "K\4K\1")
#define PT_KEY(k)              "X\1\0\0\0" k

/* A zip checkpoint: m/data.pkl, m/byteorder, m/data/0 of 32 bytes 0, 1, 2, …; returns where the pickle begins. */
size_t qt_torch_zip(qt_zip *z, const void *pickle, size_t n);
/* A stream: the four pickles around `pickle`, then storage '0' of 8 elements, 32 bytes; returns where the pickle begins. */
size_t qt_torch_legacy(qt_buf *b, const void *pickle, size_t n);

#endif
