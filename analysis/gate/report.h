/* report.h: what comparing a model with a reference found, in one piece: the terminal text, JSON, JUnit, Markdown and the HTML report
 * are all made from it, and a baseline is one of these, stored.
 *
 * A report is *of* a candidate; nearly all figures are against a reference, mostly the dense model. Written as JSON (report_json.c) and read
 * back (report_read.c), bit for bit the same numbers. Strings and arrays are from the report's arena. */
#ifndef QN_ANALYSIS_GATE_REPORT_H
#define QN_ANALYSIS_GATE_REPORT_H

#include "analysis/eval/score.h"
#include "base/alloc.h"
#include "base/hash.h"

/* What the figures depend on. Two reports with other bindings must not be compared: tokens, tokenizer, reference. */
typedef struct qn_report_binding {
    qn_digest reference, candidate; /* of names, dtypes, shapes and bits of all tensors (analysis/model_digest.h) */
    qn_digest tokenizer, data;      /* zeros: none; data: of tokens and cuts, or of the arrays                  */
    const char *reference_path, *candidate_path, *data_path; /* as given: for people                             */
    const char *version, *cpu;      /* of the program; "avx512": kernels in use                                */
    const char *recipe;             /* in one line, of an approximated .quern; NULL: none                      */
    uint64_t n_chunks, context, n_scored;
} qn_report_binding;

/* One tensor. rel: √(Σ (w − w_ref)² / Σ w_ref²). */
typedef struct qn_report_tensor {
    const char *name, *dtype, *codec; /* codec: "lossless", "ect", "q4_k", …; NULL: the file does not say */
    uint64_t n_weights, n_bytes;    /* stored bytes: of the candidate                                       */
    double rel, max_abs, cosine;    /* 0, 0, 1 when equal bit for bit                                       */
    uint64_t n_differing;
    const char *trouble;            /* "only in the reference", "shape 4×8, 8×4 in the reference", "NaN at 17": NULL: none   */
    uint32_t layer;                 /* of the model; UINT32_MAX: embedding, head, others                     */
} qn_report_tensor;

/* Output of one block of the model: error against the reference on the same inputs. */
typedef struct qn_report_layer {
    const char *name;
    double rel_rms, max_abs;
    double bits;                    /* stored bits per weight of the block's tensors; NaN: unknown */
} qn_report_layer;

typedef struct qn_report {
    qn_arena arena;
    qn_report_binding b;
    uint64_t size_bytes, reference_bytes, n_weights;
    qn_report_tensor *tensors;
    qn_report_layer *layers;
    uint64_t n_tensors, n_layers;
    bool is_lm;
    /* language models */
    qn_estimate kl, ppl, ppl_ref, ppl_ratio, same_top, excess; /* excess: nll − nll_ref */
    double kl_quantiles[7];         /* at qn_eval_quantiles */
    uint32_t kl_histogram[64];      /* tokens with KL in [2^(i/2 − 32), 2^((i+1)/2 − 32)); the first also holds all below, the last all above */
    double max_dp;                  /* largest |q(target) − p(target)|                                       */
    qn_chunk_score *chunks;         /* of the candidate, paired with the reference                          */
    uint64_t n_chunks;
    /* others: worst output */
    qn_estimate io_same_top, io_right, io_right_ref; /* right: NaN without labels */
    double io_rel_rms, io_max_rel;
    const char *io_output;
    /* reference against itself with another number of threads and another batch: what is noise. Zero: not run. */
    double noise_kl, noise_rel;
    double seconds;
} qn_report;

void qn_report_release(qn_report *r);

#endif
