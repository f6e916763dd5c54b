/* df11_build.h: a DFloat11 group made slowly, bit by bit, from the layout: for tests of what reads it. */
#ifndef QN_TESTS_DF11_BUILD_H
#define QN_TESTS_DF11_BUILD_H

#include "tests/support/hostile.h"

/* A group "net.0" of two weights, one 2 x 5 and one 3 x k, whose exponents are 127, 126, 125, 100 and 99, with codes of 1, 2, 3, 10 and 18 bits. */
typedef struct qt_df11 {
    char *config;  /* the text of config.json */
    qt_buf luts, codes, rest, positions, gaps, splits;
    uint64_t n_luts; /* rows */
} qt_df11;

/* n weights, n ≥ 13 and n − 10 a multiple of 3; blocks of `threads` slices of `slice` bytes. */
void qt_df11_make(qt_df11 *d, const uint16_t *w, unsigned n, unsigned threads, unsigned slice, const char *version);
/* The safetensors file with its tensors and one F32 beside them. */
void qt_df11_file(const qt_df11 *d, qt_buf *out);
void qt_df11_free(qt_df11 *d);
/* Some weight of the group: exponents as above, the first most often. */
uint16_t qt_df11_weight(uint64_t random);

#endif
