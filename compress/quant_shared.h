/* quant_shared.h: what several quantizers do alike before they quantize: look at the sample, estimate what side information takes, and share out bits
 * that do not suffice for all columns. */
#ifndef QN_COMPRESS_QUANT_SHARED_H
#define QN_COMPRESS_QUANT_SHARED_H

#include "compress/quantizer.h"

/* begin() of a quantizer whose segments share nothing. */
qn_code qn_quant_no_plan(const qn_quantizer *q, const qn_quant_layer *layer, qn_arena *arena, const void **plan, qn_err *err);

/* Mean square of column j over the layer's sample; `none` without a sample. */
double qn_quant_square(const qn_quant_layer *l, uint32_t j, double none);

/* Bits of n bytes with the table that goes with them, entropy-coded: ideal lengths, and about a byte for each value that occurs. */
double qn_quant_byte_bits(const uint8_t *v, uint32_t n);

/* An order that visits 0 … n − 1 evenly: the r-th of the numbers below 2^log2 with their bits reversed, r from 0; those that are n or
 * more are not of the order. */
unsigned qn_quant_evenly_log2(uint32_t n);
uint32_t qn_quant_evenly(uint32_t r, unsigned log2_n);

#endif
