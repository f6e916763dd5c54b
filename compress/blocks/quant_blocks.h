/* quant_blocks.h: one quantizer for all block types. */
#ifndef QN_COMPRESS_BLOCKS_QUANT_BLOCKS_H
#define QN_COMPRESS_BLOCKS_QUANT_BLOCKS_H

#include "compress/blocks/block.h"
#include "compress/quantizer.h"

/* q->name is that of a coder. Knows the setting gain; bits may be given only as the type has them. */
qn_code qn_quantizer_blocks(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err);

/* Bits of a weight, everything counted, when the codec is a block type; else (and for NULL) 0. */
double qn_blocks_bits(const char *codec);

#endif
