/* block.h: rows of weights in ggml's block types, for the error-feedback engine.
 *
 * Blocks lie along a row, the engine goes by columns: so a *span* of up to 256 columns (whole blocks of every type) is one group of the engine.
 * At its turn it is known, with the errors of everything that was visited before, what its columns should best become together: t, and
 * what the span adds to the layer's loss is
 *     (t − r)ᵀ M (t − r),    M_ab = Σ_j L_jj² L̃_aj L̃_bj    over the columns j of the span,
 * exactly, whatever order the codes inside are chosen in (the identity of compress/ldl.h, summed over the group). A coder is given one row's
 * targets and M, and is free: scales, minima and codes of the whole span are chosen together. It knows nothing of what comes after. */
#ifndef QN_COMPRESS_BLOCKS_BLOCK_H
#define QN_COMPRESS_BLOCKS_BLOCK_H

#include "base/alloc.h"
#include "base/ggml.h"
#include "compress/ekern_span.h"

enum { QN_SPAN_MAX = 256 };

/* What an error costs in one span. Read-only, shared by all rows of the layer. Columns are counted from the span's first, as they lie in the
 * tensor. Every array has n (or n × n) entries. */
typedef struct qn_span_metric {
    uint32_t n;          /* columns: whole blocks of the type, at most QN_SPAN_MAX                                        */
    const float *m;      /* (n, n) symmetric, positive semidefinite, rows n apart; NULL: diag(weight), nothing is fed back  */
    const float *weight; /* L_jj² of each column (what is left when all later columns make up for an error); 0: never seen. Never NULL */
    const float *diag;   /* M_jj; equal to weight where m is NULL. Never NULL                                             */
    const uint16_t *order; /* the order in which columns are rounded one after the other: column order[0] first. Aligned runs of 16 columns stay
                              together, and of 32 (qn_span_order) */
    const float *feed;     /* (n, n) by that order: feed[a · n + b], a < b, is L̃ for an error in order[a] and the target of order[b]; NULL with m */
    const qn_span_kern *kern; /* NULL: plain C, which gives the same                                                      */
    const void *prepared;  /* what the coder's `prepare` made of all the rest; NULL where it has none, or m is NULL                             */
} qn_span_metric;

/* A type. `encode` writes n / block whole blocks and what they decode to: r is bit for bit what qn_ggml_f32 gives (the caller checks that). It must be
 * deterministic, and must not fail: any finite t has an answer; scales that overflow binary16 are clamped. The loss of its answer must not be above that of
 * the plain rounding of t (coders keep the better of the two). scratch: `scratch_bytes` bytes, aligned to 64. */
typedef struct qn_block_coder {
    const char *name;     /* of the codec in recipes and on the command line: "q4_k"        */
    qn_dtype dtype;       /* QN_Q4_K …                                                        */
    size_t scratch_bytes;
    void (*encode)(const qn_span_metric *m, const float *t, uint8_t *blocks, float *r, void *scratch);
    /* NULL, or called once for each metric with an m, before any encode: what follows from the metric alone, for all rows. `to`: prepared_bytes
     * bytes, aligned to 64, zeroed; it becomes m->prepared. */
    size_t prepared_bytes;
    void (*prepare)(const qn_span_metric *m, void *to);
} qn_block_coder;

/* coder_tab.c: one row for each type that can be written. NULL when there is none. */
extern const qn_block_coder *const qn_block_coders[];
extern const unsigned qn_block_coder_count;
const qn_block_coder *qn_block_coder_find(const char *name);
const qn_block_coder *qn_block_coder_of(qn_dtype t);

/* One file for each family of layouts. */
extern const qn_block_coder qn_coder_q4_0, qn_coder_q4_1, qn_coder_q5_0, qn_coder_q5_1, qn_coder_q8_0, qn_coder_iq4_nl;     /* coder_q.c     */
extern const qn_block_coder qn_coder_tq1_0, qn_coder_tq2_0, qn_coder_q1_0, qn_coder_q2_0;                                    /* coder_few.c   */
extern const qn_block_coder qn_coder_mxfp4, qn_coder_nvfp4;                                                                 /* coder_fp4.c   */
extern const qn_block_coder qn_coder_q2_k, qn_coder_q3_k, qn_coder_q4_k, qn_coder_q5_k, qn_coder_q6_k, qn_coder_iq4_xs;       /* coder_k*.c    */
extern const qn_block_coder qn_coder_iq1_s, qn_coder_iq1_m, qn_coder_iq2_xxs, qn_coder_iq2_xs, qn_coder_iq2_s, qn_coder_iq3_xxs, qn_coder_iq3_s; /* coder_iq*.c */

#endif
