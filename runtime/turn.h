/* turn.h: what decoder and encoder of TURN share (docs/codecs/turn.md). */
#ifndef QN_RUNTIME_TURN_H
#define QN_RUNTIME_TURN_H

#include <stddef.h>
#include <stdint.h>

enum { QN_TURN_AS_IS = 0 /* the units in their order, in rows of another length */, QN_TURN_TURNED = 1 /* the transpose */ };

/* dst[c · rows + r] = src[r · cols + c], units of 1, 2, 4 or 8 bytes. They must not overlap. */
void qn_turn(unsigned unit, const uint8_t *src, uint32_t rows, uint32_t cols, uint8_t *dst);

#endif
