/* codec.h: how one chunk is written, seen from the decoder.
 *
 * A *block* is the content of one chunk: n units of one dtype, whole rows of a tensor or a part of one long row.
 * A *unit* is what codecs work on: one element for dtypes of 8 … 64 bits, one F32 half of a C64, one byte of packed
 * sub-byte data (F4, F6) and of BYTES. A *payload* is the stored form; its first byte is not the codec: ids live in the
 * container index or, for nested payloads, in front of them.
 *
 * Decoders never trust a payload: sizes, tables, symbols and positions are checked, every read is bounded, and a
 * payload that is too long by one byte is as bad as one that is too short. A decoder is bit-exact on every CPU variant:
 * the same payload gives the same code and, when QN_OK, the same bytes. */
#ifndef QN_RUNTIME_CODEC_H
#define QN_RUNTIME_CODEC_H

#include "base/alloc.h"
#include "base/shape.h"
#include "quern/base.h"
#include "runtime/kern.h"

/* Ids are part of the format (docs/format.md). One row each in runtime/codec_tab.c. */
enum qn_codec {
    QN_CODEC_RAW = 0,     /* the bytes themselves                                                     */
    QN_CODEC_FILL = 1,    /* one unit, repeated                                                       */
    QN_CODEC_ZSTD = 2,    /* one zstd frame over the bytes                                            */
    QN_CODEC_SHUFFLE = 3, /* byte planes (all lowest bytes, …), each its own nested payload           */
    QN_CODEC_FAST = 4,    /* floats: exponents in 8-bit-probability rANS, the rest raw                */
    QN_CODEC_DENSE = 5,   /* floats: scale-relative exponent + top mantissa bits, 12-bit rANS         */
    QN_CODEC_ORDER0 = 6,  /* bytes: whole-byte symbols, 12-bit rANS (fp8, int8, packed int4, indices) */
    QN_CODEC_NARROW = 7,  /* wide floats that are all (or nearly all) exactly representable narrower  */
    QN_CODEC_DEQUANT = 8, /* wide floats that are scale × small integer (or fp8), group by group      */
    QN_CODEC_PALETTE = 9, /* few distinct values: a table and indices                                 */
    QN_CODEC_ROWDUP = 10, /* repeated rows: unique rows and a row map                                 */
    QN_CODEC_DELTA = 11,  /* difference to the same tensor of a base checkpoint                       */
    QN_CODEC_MAX = 12,    /* floats: adaptive context mixing                                          */
    QN_CODEC_SPARSE = 13, /* many zeros: a mask of what is zero, and the rest                         */
    QN_CODEC_GRID = 14,   /* lossy: integers and scales, group by group                               */
    QN_CODEC_ECT = 15,    /* lossy: entropy-coded trellis                                             */
    QN_CODEC_PVQ = 16,    /* lossy: points of pyramids down the columns, and their lengths            */
    QN_CODEC_VQ = 17,     /* lossy: centroids of vectors down the columns                             */
    QN_CODEC_TRELLIS = 18, /* lossy: bit strings down the columns, fixed rate                         */
    QN_CODEC_BLOCKS = 19, /* lossy: blocks of a type of ggml                                          */
    QN_CODEC_TURN = 20,   /* lossy: an approximation of a matrix that lies otherwise in the tensor    */
    QN_CODEC_FP8 = 21,    /* lossy: E4M3 numbers and scales, group by group                           */
    QN_CODEC_ROWS = 22,   /* lossy: ROWDUP around an approximation                                    */
    QN_CODEC_COUNT = 23
};

/* Nested payloads (SHUFFLE, NARROW, …) go at most this deep: a bomb stops here. */
#define QN_CODEC_DEPTH 4
/* ZSTD payloads are frames without their first bytes, which are the same in all. */
#define QN_ZSTD_MAGIC_BYTES 4
/* SHUFFLE: this bit beside the codec id in the first byte: all planes are one payload, which follows. */
#define QN_SHUFFLE_JOINT 0x80u
/* No chunk decodes to more than this: a reader's memory is bounded by it. */
#define QN_CHUNK_MAX_BYTES (16u << 20)

typedef struct qn_block {
    qn_dtype dtype;
    uint32_t n;    /* units, ≥ 1; n × unit bytes ≤ QN_CHUNK_MAX_BYTES                                            */
    uint32_t cols; /* units in a row, 1 … n; the block starts at a row start; the last row may be short            */
} qn_block;

/* What a decoder may use. One per thread; borrowed kernels. */
typedef struct qn_dec_ctx {
    const qn_kern *kern;
    qn_arena *scratch;    /* reset by the caller of the outermost decode, never by decoders */
    const uint8_t *base;  /* DELTA: the same block of the base checkpoint, NULL when there is none */
    unsigned depth;       /* 0 for the outermost payload */
} qn_dec_ctx;

/* Decodes one payload into dst: exactly n × unit bytes, no slack touched. payload has no readable slack behind it.
 * QN_E_INPUT with err->off = position in the payload where it went wrong (QN_NO_OFFSET if unknown). */
typedef qn_code (*qn_decode_fn)(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes,
                                uint8_t *dst, qn_err *err);

typedef struct qn_codec_row {
    const char *name, *summary;
    qn_decode_fn decode;
} qn_codec_row;

extern const qn_codec_row qn_codec_tab[QN_CODEC_COUNT];

/* Looks the id up, checks depth and block limits, decodes. Nested decoders call it with a ctx of depth + 1. */
qn_code qn_codec_decode(const qn_dec_ctx *cx, unsigned codec, const qn_block *b, const uint8_t *payload,
                        size_t n_bytes, uint8_t *dst, qn_err *err) QN_MUST_CHECK;

/* One decoder per file. */
qn_code qn_dec_raw(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_fill(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_zstd(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_shuffle(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_fast(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_dense(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_order0(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_narrow(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_dequant(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_palette(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_rowdup(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_delta(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_max(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_sparse(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_fp8(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_grid(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_pvq(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_vq(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_turn(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_blocks(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);
qn_code qn_dec_trellis(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);

/* Codecs whose chunks decode to approximations of what was packed. */
static inline bool qn_codec_is_lossy(unsigned codec)
{
    return codec >= QN_CODEC_GRID && codec < QN_CODEC_COUNT;
}
qn_code qn_dec_ect(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, uint8_t *, qn_err *);

#endif
