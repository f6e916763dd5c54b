/* gguf_build.h: GGUF files from a short text.
 *
 * Items stand between spaces: GGUF the magic; i7 a u32; q7 a u64 (0x… and −1 too); b7 a byte; h7 a u16; "abc" a string with its
 * length; 'abc' its bytes alone; z7 seven zeros; d7 data bytes 1, 2, … 7; | zeros up to a multiple of 32; ^ no item: it
 * marks the place of the error. */
#ifndef QN_TESTS_GGUF_BUILD_H
#define QN_TESTS_GGUF_BUILD_H

#include "tests/support/hostile.h"

/* Appends; *mark is where ^ stood, or left alone. */
void qt_add_gguf(qt_buf *b, const char *text, uint64_t *mark);

#endif
