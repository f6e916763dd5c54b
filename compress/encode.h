/* encode.h: how one chunk is written, seen from the encoder. The twin of runtime/codec.h.
 *
 * An encoder is a pure function of (block, source bytes, level): its output bytes do not depend on the CPU variant,
 * the thread, the compiler, or on what was encoded before. No libm and no float contraction on any path that decides
 * bytes; floats only where IEEE basic operations in a fixed order do. */
#ifndef QN_COMPRESS_ENCODE_H
#define QN_COMPRESS_ENCODE_H

#include "compress/ekern.h"
#include "runtime/codec.h"

typedef enum qn_level {
    QN_LEVEL_FAST = 1,  /* faster than the disk: decodes at memcpy speed */
    QN_LEVEL_DENSE = 2, /* below the order-0 entropy, still SIMD         */
    QN_LEVEL_MAX = 3    /* for archives: a few MB/s                      */
} qn_level;

/* Blocks up to this size may try everything: they cost little, and headers and tables weigh more than in theory. */
static inline size_t qn_level_small_bytes(qn_level level)
{
    return level == QN_LEVEL_FAST ? 8u << 10 : 64u << 10;
}

typedef struct qn_enc_ctx {
    const qn_ekern *ekern;
    const qn_kern *kern;  /* decoders, for encoders that check themselves */
    qn_arena *scratch;    /* reset by the caller of the outermost encode, never by encoders */
    const uint8_t *base;  /* DELTA: the same block of the base checkpoint, or NULL */
    qn_level level;
    unsigned depth;
    bool no_lookthrough;  /* set while a nested payload is encoded where another see-through cannot pay */
} qn_enc_ctx;

/* Encodes src (n × unit bytes) into dst (cap bytes). *n_out = payload bytes, or 0 when the codec does not apply or would
 * need more than cap bytes: that is not an error. Errors are QN_E_MEMORY and QN_E_BUG only. */
typedef qn_code (*qn_encode_fn)(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                                size_t *n_out, qn_err *err);

qn_code qn_enc_fill(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);
qn_code qn_enc_zstd(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);
qn_code qn_enc_shuffle(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);
qn_code qn_enc_fast(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);
qn_code qn_enc_dense(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);
qn_code qn_enc_order0(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);
qn_code qn_enc_narrow(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);
qn_code qn_enc_dequant(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);
qn_code qn_enc_palette(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);
qn_code qn_enc_rowdup(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);
qn_code qn_enc_delta(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);
qn_code qn_enc_max(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);
qn_code qn_enc_sparse(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, size_t *, qn_err *);

/* Picks the codec with the smallest payload for this block at this level and writes it. Always succeeds within
 * cap ≥ n × unit bytes: RAW is the last resort. Used by the packer for chunks and by encoders for nested payloads
 * (with depth + 1). */
qn_code qn_encode_best(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                       unsigned *codec, size_t *n_out, qn_err *err) QN_MUST_CHECK;

#endif
