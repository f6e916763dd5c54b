/* tally.h: what one pass over a tensor's bytes tells: counts, moments, entropies, and types narrower than the one it is
 * stored in. Pieces are tallied in parallel and merged in order; the result depends on the data and the cut only. */
#ifndef QN_ANALYSIS_TALLY_H
#define QN_ANALYSIS_TALLY_H

#include "quern/base.h"

enum { QN_TALLY_DISTINCT = 256, QN_TALLY_HIDDEN = 5, QN_TALLY_SYMBOLS = 2048 };

/* In values: a C64 is two. Packed F4 and block types have numbers but are counted for entropy by the byte; BYTES and F6 have none. */
typedef struct qn_tensor_stats {
    uint64_t n_values;
    bool numeric;   /* the fields down to std mean something      */
    uint64_t n_finite, n_nan, n_inf;
    uint64_t n_zero, n_neg_zero; /* zeros of either sign; −0 alone */
    uint64_t n_subnormal;        /* in the tensor's own dtype      */
    double min, max, abs_max, mean, std; /* of the finite values; std divides by their number */
    bool has_exponent;
    double exponent_bits; /* order-0 entropy of the exponent field per value                       */
    /* What order-0 coding cannot beat, bits per value: floats of 16 bits and more: the entropy of the exponent, sign and
     * mantissa raw; 8 bits and less: the entropy of the bytes; wider integers: the sum over their byte planes. */
    double bound_bits;
    unsigned trailing_zeros; /* lowest bits that are zero in every value; all of them when all values are zero */
    qn_dtype hidden;         /* all, or nearly all values are exactly representable in it; QN_BYTES: none */
    uint64_t n_hidden_exceptions;
    unsigned n_distinct;     /* different bit patterns, 0: more than QN_TALLY_DISTINCT, or packed */
} qn_tensor_stats;

/* A tally in the making; about 20 KiB. */
typedef struct qn_tally {
    qn_dtype dtype;
    qn_tensor_stats s; /* counts, min, max and mean so far */
    double m2;         /* Σ(x − mean)² over the finite     */
    uint64_t or_bits;
    uint64_t miss[QN_TALLY_HIDDEN];  /* values that the i-th narrower type cannot hold */
    bool crowded[QN_TALLY_HIDDEN];   /* too many: no longer counted                    */
    unsigned n_distinct;             /* QN_TALLY_DISTINCT + 1: more                    */
    uint64_t distinct[QN_TALLY_DISTINCT];
    uint64_t count[QN_TALLY_SYMBOLS]; /* by exponent, byte, or plane × 256 + byte      */
} qn_tally;

void qn_tally_begin(qn_tally *t, qn_dtype dtype);
/* The one piece of this tally: n_bytes of whole elements. */
qn_code qn_tally_piece(qn_tally *t, const uint8_t *p, uint64_t n_bytes, qn_err *err) QN_MUST_CHECK;
/* Adds a later piece of the same dtype. */
void qn_tally_merge(qn_tally *t, const qn_tally *piece);
void qn_tally_finish(const qn_tally *t, qn_tensor_stats *out);

#endif
