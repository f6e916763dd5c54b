/* quern_build.h: .quern files put together byte by byte, without our writer, so that a test can make any of it wrong and
 * still have right checksums.
 *
 * An index is written as words: bN a byte, vN a varint, sTEXT a string with its length, tTEXT bare text, zN zero bytes,
 * fN bytes 0xff, HN the hash of N zero bytes, '|' nothing, '^' marks the next byte (qt_index_words tells where). */
#ifndef QN_TESTS_QUERN_BUILD_H
#define QN_TESTS_QUERN_BUILD_H

#include "runtime/container.h"
#include "tests/support/hostile.h"

/* The index's bytes; *mark = position of '^', or left alone. */
void qt_index_words(qt_buf *b, const char *words, uint64_t *mark);
/* header │ n_payload zero bytes, padded to 64 │ index │ padding │ footer, all checksums right. Returns the index's place. */
uint64_t qt_quern_file(qt_buf *b, size_t n_payload, const uint8_t *index, size_t n_index, bool zstd);
/* After a change of bytes: puts right the header's, the index's and the footer's checksums (bits 1, 2, 4 of `which`). */
void qt_quern_reseal(qt_buf *b, unsigned which);

#endif
