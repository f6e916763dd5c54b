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
    QN_CODES_GRID,   /* integers, a scale and maybe a zero a group   */
    QN_CODES_BLOCKS, /* ggml blocks                                  */
    QN_CODES_VQ, QN_CODES_TRELLIS, QN_CODES_OTHER /* approximated, but by a codec that is only decoded */
} qn_codes_kind;

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
    enum { QN_ZERO_LEVEL, QN_ZERO_MIDDLE, QN_ZERO_STORED } zero; /* 2^(bits−1); (2^bits − 1) / 2; one for each group */
    /* BLOCKS */
    qn_dtype block;
    /* the place, for the readers below */
    qn_source *src;
    uint64_t tensor, object; /* object: QN_NO_OBJECT of what is no .quern                                     */
} qn_codes;

/* Looks at a tensor of any source (of one that is no .quern: DENSE). Reads all of its payloads. QN_E_INPUT for a damaged one. */
qn_code qn_codes_open(qn_codes *c, qn_source *src, uint64_t tensor, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

/* Groups of a row. */
static inline uint32_t qn_codes_groups(const qn_codes *c)
{
    return (c->cols - 1) / c->group + 1;
}

/* GRID: rows [row0, row0 + n) over all parts: codes (n, cols), one a byte; scales, zeros (n, qn_codes_groups) as f32, the scale with its
 * exponent applied; each of the three may be NULL. Zeros are given also where they are not stored. Thread-safe with a scratch of one's own, which is
 * as it was afterwards. */
qn_code qn_codes_grid(const qn_codes *c, uint64_t row0, uint32_t n, uint8_t *codes, float *scales, float *zeros, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;
/* BLOCKS: the bytes of these rows. */
qn_code qn_codes_blocks(const qn_codes *c, uint64_t row0, uint32_t n, uint8_t *bytes, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;
/* Any kind, and any dtype that has a numeric meaning: weights as f32, decoded (and so rounded to the tensor's dtype), (n, cols). */
qn_code qn_codes_dense(const qn_codes *c, uint64_t row0, uint32_t n, float *w, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

#endif
