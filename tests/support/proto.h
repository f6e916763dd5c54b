/* proto.h: protobuf messages written as text, for tests.
 *
 *   #5=7      field 5, varint 7 (decimal, may be negative)      5f  one byte in hex
 *   @5{ … }   field 5, of length kind, with this content       'x' these bytes
 *   { … }     a length and this content                       z12 twelve zero bytes
 *   %5=7      field 5, fixed32                                &5=7 field 5, fixed64
 *   ^         marks a place; spaces are nothing               r3( … ) three times over */
#ifndef QN_TESTS_PROTO_H
#define QN_TESTS_PROTO_H

#include "tests/support/hostile.h"

/* Appends the message; *mark is the marked place's offset in the buffer, left alone when there is none. */
void qt_add_proto(qt_buf *b, const char *text, uint64_t *mark);

#endif
