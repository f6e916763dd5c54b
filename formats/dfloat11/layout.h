/* layout.h: how DFloat11 lays out bf16 weights; shared by what reads it and what writes it.
 *
 * A group is the weights of one module, or of several inside it, one behind the other. A weight is its sign and mantissa (a byte
 * as it is) and its exponent, coded with a prefix code of the group's own; codes stand one behind the other, first bit highest. Tensors of a
 * group, behind the module's name and a dot:
 *
 *     encoded_exponent  U8  (bytes)          the codes, the last byte filled with the first bits of a code that no weight has
 *     sign_mantissa     U8  (weights)        bit 7 sign, bits 6 … 0 mantissa
 *     luts              U8  (rows, 256)      row 0 by the next 8 bits: an exponent below 240, or 256 − r: go on with the following 8 bits
 *                                            in row r. The last row: bits of each exponent's code, at most 32
 *     output_positions  U8  (4 · (blocks + 1))  u32: the weight whose code is the first to begin in each block of threads · slice bytes; at
 *                                            the end their number
 *     gaps              U8  (⌈5 · blocks · threads / 8⌉)  5 bits each, first bit highest: at which bit of each slice the first code begins
 *     split_positions   I64 (weights of the module − 1)  where the second, third … of them begins
 *
 * Source: Zhang et al., "70% Size, 100% Accuracy: Lossless LLM Compression for Efficient GPU Inference via Dynamic-Length Float" (2025),
 * and the files that its package writes and reads (versions 0.2.0, 0.3.1, 0.3.2, 0.5.0: one layout). */
#ifndef QN_FORMATS_DFLOAT11_LAYOUT_H
#define QN_FORMATS_DFLOAT11_LAYOUT_H

#define QN_DF11_VERSION "0.5.0"

enum {
    QN_DF11_THREADS = 512,   /* slices of a block                                    */
    QN_DF11_SLICE = 8,       /* coded bytes of a slice                               */
    QN_DF11_POINTER = 240,   /* entries from here on name a row; exponents are below */
    QN_DF11_ROWS_MAX = 17,   /* row 0 and those that entries can name                */
    QN_DF11_BITS_MAX = 32    /* of a code                                            */
};

#endif
