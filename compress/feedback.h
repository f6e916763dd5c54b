/* feedback.h: the error-feedback engine: one segment of a layer through any quantizer.
 *
 * Columns are visited in the order of the qn_ldl; the error of a column moves the targets of those that are still to come.
 * Within a block of at most 128 columns that is done column by column, the rest of the matrix gets it by one product per block:
 * the same result as without blocks but for the rounding of sums. Rows are independent, so segments are too. */
#ifndef QN_COMPRESS_FEEDBACK_H
#define QN_COMPRESS_FEEDBACK_H

#include "compress/ldl.h"
#include "compress/quantizer.h"

/* Losses are tr(E H' Eᵀ) of the segment, H' = scaled H with damping; relative errors follow by dividing by `energy`. */
typedef struct qn_feedback_loss {
    double loss;    /* of what was kept                                                      */
    double fed;     /* with feedback; NAN when it was not tried                              */
    double nearest; /* every column rounded for itself; NAN when it was not tried            */
    double energy;  /* tr(W H' Wᵀ); NAN when it was not asked for                            */
    double error, square; /* Σ (w − ŵ)², Σ w²                                                 */
    bool fell_back; /* rounding for itself was better, and was kept                          */
} qn_feedback_loss;

typedef struct qn_feedback_job {
    const qn_quantizer *q;
    const qn_quant_layer *layer;
    const void *plan;   /* of q->ops->begin */
    const qn_ldl *ldl;
    uint32_t row0, rows;
    const float *w;     /* (rows, cols), finite                                     */
    bool compare;       /* also round without feedback, and keep what is better     */
    bool want_energy;
    uint32_t sweeps;    /* most sweeps over all columns after the pass with feedback; needs qn_ldl_moment */
    uint32_t block;     /* columns in a block, for tests; 0: the default            */
} qn_feedback_job;

/* recon: (rows, cols), what the payload decodes to, rounded to the layer's dtype. *n_out = 0: the quantizer cannot, see
 * quantizer.h; then recon and *loss are undefined. Everything in scratch is given back. */
qn_code qn_feedback_segment(const qn_feedback_job *j, float *recon, uint8_t *payload, size_t cap, size_t *n_out,
                            qn_feedback_loss *loss, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

/* The layer's sample through the engine, for a quantizer that looks for its settings: its finish() writes n_bytes of what it has counted instead
 * of a payload, into *tally, which is zeroed before. */
qn_code qn_feedback_trial(const qn_quantizer *q, const qn_quant_layer *l, const void *plan, void *tally, size_t n_bytes, qn_arena *scratch,
                          qn_err *err) QN_MUST_CHECK;

/* Scratch bytes of the engine itself for a segment of that many weights in rows of cols, with sweeps after the pass or none. */
uint64_t qn_feedback_scratch(uint64_t weights, uint32_t cols, bool sweeps);

/* f32 → the value of the dtype nearest to it, as f32. F32, F16, BF16 only. */
void qn_feedback_round(qn_dtype t, float *v, size_t n);

#endif
