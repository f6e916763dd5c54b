/* product.h: y = W x for one chunk that stays compressed.
 *
 * W is the chunk's block as a matrix: cols = b->cols columns, rows = ceil(n / cols), of which the last may be short (it is
 * multiplied with the first x only). A chunk is *prepared* once: the payload is parsed and checked there, as strictly as by its
 * decoder, so that products check nothing. A codec has a row in qn_product_tab when it can multiply what it stores; any other
 * chunk (and one of an unsuitable form) is decoded when it is prepared, and multiplied as the floats that it decodes to.
 *
 * A product is made in two steps, since what can be made of x alone serves all rows:
 *     p.load(&p, x, work);                      x: cols floats; work: p.work_bytes, aligned to 64, the caller's
 *     p.rows_of(&p, work, r0, r1, y);           y[r - r0] for rows r0 ≤ r < r1, written, not added
 * Several threads may call rows_of on one `work`; nothing is allocated and nothing can fail.
 *
 * What y is: Σ_j w_j x_j with the w_j that the codec computes in binary32, which for a chunk of BF16 or F16 a decoder would
 * still round to that dtype. The order of sums, and so the last bits of y, may differ between CPU variants and ranges of rows. With
 * the true sum S of these w,
 *     |y − S| ≤ 2^-15 Σ_G 32 m_G max_{j in G} |x_j|          G: runs of 32 columns
 * where m_G is the largest |w| that the codes of the run could have stood for: x may be held in fixed point of 16 bits within a run, and
 * what is subtracted to centre the codes rounded by itself. |x| below 2^-100 may count as 0; nothing overflows binary32.
 * When some x is Inf or NaN, y is NaN, Inf or what the other terms give, without further promise. */
#ifndef QN_RUNTIME_PRODUCT_H
#define QN_RUNTIME_PRODUCT_H

#include "runtime/codec.h"

typedef struct qn_product qn_product;
struct qn_product {
    uint32_t rows, cols;
    uint32_t step;        /* r0, and r1 unless it is `rows`, are multiples of it */
    bool fused;           /* false: the chunk was decoded                        */
    uint64_t n_bytes;     /* of W that one product over all rows reads           */
    size_t work_bytes;
    void (*load)(const qn_product *p, const float *x, void *work);
    void (*rows_of)(const qn_product *p, const void *work, uint32_t r0, uint32_t r1, float *y);
    const void *self;
};

/* Memory that the product needs comes from `keep`; cx->scratch is for the parsing alone. The payload may be read in place, so it
 * lives as long as *p. *p is filled by the codec but for rows and cols, which are set, and step, which is 1. *taken = false: not
 * in a form that can be multiplied, decode it. QN_E_INPUT as a decoder. */
typedef qn_code (*qn_product_fn)(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_arena *keep,
                                 qn_product *p, bool *taken, qn_err *err);

/* By codec id; NULL: none. */
extern const qn_product_fn qn_product_tab[QN_CODEC_COUNT];

/* Blocks of F32, BF16 and F16; QN_E_UNSUPPORTED for other dtypes and for what the decoder calls so. */
qn_code qn_product_prepare(const qn_dec_ctx *cx, unsigned codec, const qn_block *b, const uint8_t *payload, size_t n_bytes,
                           qn_arena *keep, qn_product *p, qn_err *err) QN_MUST_CHECK;

/* All of it at once: y has p.rows numbers. Prepared object and work come from cx->scratch and are given back. */
qn_code qn_product_once(const qn_dec_ctx *cx, unsigned codec, const qn_block *b, const uint8_t *payload, size_t n_bytes,
                        const float *x, float *y, qn_err *err) QN_MUST_CHECK;

/* One per file. */
qn_code qn_product_grid(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, qn_arena *, qn_product *, bool *, qn_err *);
qn_code qn_product_vq(const qn_dec_ctx *, const qn_block *, const uint8_t *, size_t, qn_arena *, qn_product *, bool *, qn_err *);

#endif
