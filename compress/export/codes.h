/* codes.h: the codes of an approximated tensor as they stand in a .quern, for targets that take them over.
 *
 * A tensor is stored in chunks of whole rows, each a payload of some codec. It has codes only when all its chunks are of one codec with one and the same set of
 * settings; a chunk that was stored without loss, or a mixed tensor, makes it DENSE. Payloads that lie otherwise (codec TURN) and merged rows (ROWS) are looked
 * through: rows here are always out features. */
#ifndef QN_COMPRESS_EXPORT_CODES_H
#define QN_COMPRESS_EXPORT_CODES_H

#include "formats/source.h"

typedef enum qn_codes_kind {
    QN_CODES_DENSE,  /* decoded weights are all there is           */
    QN_CODES_FP8,    /* E4M3 numbers and a scale a group, read as GRID: bits 8, zeros 0 */
    QN_CODES_GRID,   /* integers, a scale and maybe a zero a group   */
    QN_CODES_BLOCKS, /* ggml blocks                                  */
    QN_CODES_VQ, QN_CODES_TRELLIS, QN_CODES_OTHER /* approximated, but by a codec that is only decoded */
} qn_codes_kind;

/* Where zero is: at 2^(bits − 1), at (2^bits − 1) / 2, at a code of its own for each group. */
typedef enum qn_codes_zero { QN_ZERO_LEVEL, QN_ZERO_MIDDLE, QN_ZERO_STORED } qn_codes_zero;

typedef struct qn_codes {
    qn_codes_kind kind;
    const char *codec;      /* of its first chunk that is an approximation, as in docs/codecs; NULL: every weight is as it was packed */
    uint32_t rows, cols;    /* of the matrix: out, in. DENSE, where nothing tells: dims[0], and all others multiplied  */
    uint32_t parts;         /* matrices one above the other (experts); rows counts those of one               */
    uint32_t chunk_rows;    /* of all parts, in one chunk: what is read in multiples of it is decoded once        */
    bool turned;            /* the tensor lies as (in, out)                                                   */
    qn_dtype dtype;         /* of the tensor                                                                 */
    /* GRID: w = scale × (code − zero), computed in f32, then rounded to the tensor's dtype */
    unsigned bits;
    uint32_t group;         /* columns of a row (the last group may be short); columnwise grids are OTHER here  */
    qn_codes_zero zero;
    /* BLOCKS */
    qn_dtype block;
    /* the place, for the readers below */
    qn_source *src;
    uint64_t tensor, object; /* object: QN_NO_OBJECT of what is no .quern                                     */
} qn_codes;

/* Looks at a tensor of any source (of one that is no .quern: DENSE). Reads all of its payloads. QN_E_INPUT for a damaged one. */
qn_code qn_codes_open(qn_codes *c, qn_source *src, uint64_t tensor, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

/* Is any chunk of a tensor of a .quern an approximation? From the index alone. */
bool qn_codes_approximated(qn_source *src, uint64_t tensor);

/* Groups of a row. */
static inline uint32_t qn_codes_groups(const qn_codes *c)
{
    return (c->cols - 1) / c->group + 1;
}

/* GRID and FP8: rows [row0, row0 + n) over all parts: codes (n, cols), one a byte; scales, zeros (n, qn_codes_groups) as f32, the scale with its
 * exponent applied; each of the three may be NULL. Zeros are given also where they are not stored. Thread-safe with a scratch of one's own, which is
 * as it was afterwards. */
qn_code qn_codes_grid(const qn_codes *c, uint64_t row0, uint32_t n, uint8_t *codes, float *scales, float *zeros, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;
/* BLOCKS: the bytes of these rows. */
qn_code qn_codes_blocks(const qn_codes *c, uint64_t row0, uint32_t n, uint8_t *bytes, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

/* VQ: a book for all columns and strips, as a solve with `vptq` makes it: w = (main[i] + residual[k]) × scale of the column, in f32, then rounded to the dtype. */
typedef struct qn_codes_book {
    unsigned v;                      /* rows of a strip                                 */
    unsigned main_bits, residual_bits; /* residual 0: none                              */
    const float *main, *residual;    /* (2^bits, v): 8 significant bits each            */
    const float *scale;              /* (cols): the same; 0 for a column of zeros       */
    uint32_t n_strips, strip_bytes;  /* ⌈rows / v⌉; ⌈cols · bits / 8⌉                   */
} qn_codes_book;
/* *is = false: it has other books, in its chunks, of its columns, or scales of strips. Arrays from `keep`. */
qn_code qn_codes_vq(const qn_codes *c, qn_codes_book *b, bool *is, qn_arena *keep, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;
/* Indices of strips [strip0, strip0 + n): of each a string of strip_bytes, `stride` apart: column after column the main index and the residual one,
 * lowest bit first. */
qn_code qn_codes_vq_strips(const qn_codes *c, const qn_codes_book *b, uint32_t strip0, uint32_t n, uint8_t *bytes, size_t stride, qn_arena *scratch,
                           qn_err *err) QN_MUST_CHECK;
/* Any kind, and any dtype that has a numeric meaning: weights as f32, decoded (and so rounded to the tensor's dtype), (n, cols). */
qn_code qn_codes_dense(const qn_codes *c, uint64_t row0, uint32_t n, float *w, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

#endif
