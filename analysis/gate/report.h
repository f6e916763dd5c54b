/* report.h: what comparing a model with a reference found, in one piece: the terminal text, JSON, JUnit, Markdown and the HTML report
 * are all made from it, and a baseline is one of these, stored.
 *
 * A report is *of* a candidate; nearly all figures are against a reference, mostly the dense model. Written as JSON (report_json.c) and read
 * back (report_read.c), bit for bit the same numbers. Strings and arrays are from the report's arena. */
#ifndef QN_ANALYSIS_GATE_REPORT_H
#define QN_ANALYSIS_GATE_REPORT_H

#include "analysis/eval/score.h"
#include "base/env.h"
#include "base/hash.h"
#include "base/textbuf.h"

#define QN_REPORT_SCHEMA "quern/report/1"

enum { QN_REPORT_BINS = 64, QN_REPORT_OCTAVE = 26 };
#define QN_REPORT_NO_LAYER UINT32_MAX

/* What the figures depend on. Two reports with other bindings must not be compared: tokens, tokenizer, reference. */
typedef struct qn_report_binding {
    qn_digest reference, candidate; /* of names, dtypes, shapes and bits of all tensors (analysis/model_digest.h) */
    qn_digest tokenizer, data;      /* zeros: none; data: of tokens and cuts, or of the arrays                  */
    const char *reference_path, *candidate_path, *data_path; /* as given: for people                             */
    const char *version, *cpu;      /* of the program; "avx512": kernels in use                                */
    const char *recipe;             /* in one line, of an approximated .quern; NULL: none                      */
    uint64_t n_chunks, context, n_scored;
} qn_report_binding;

/* One tensor, by the reference's name for it (a GGUF file's by the name that Hugging Face folders have, when one of the two is none).
 * rel: √(Σ (w − w_ref)² / Σ w_ref²). */
typedef struct qn_report_tensor {
    const char *name, *dtype, *ref_dtype, *codec; /* ref_dtype: NULL, as dtype. codec: "lossless", "ect", "q4_k", …; NULL: the file does not say */
    uint64_t n_weights, n_bytes;    /* stored bytes: of the candidate; of the reference where the candidate has none */
    double rel, max_abs, cosine;    /* 0, 0, 1 when equal bit for bit; NaN: not compared                        */
    uint64_t n_differing;
    const char *trouble;            /* "only in the reference", "shape 4×8; 8×4 in the reference", "NaN …"; NULL: none */
    const char *looks;              /* what a large error looks like: "looks transposed", "is about 2 × the reference's"; NULL: nothing known */
    uint32_t layer;                 /* of the model; QN_REPORT_NO_LAYER: embedding, head, others                */
} qn_report_tensor;

/* Output of one block of the model, the head excepted: error against the reference on the same tokens. */
typedef struct qn_report_layer {
    const char *name;
    double rel_rms, max_abs;        /* as the candidate has it, with all errors of the blocks before          */
    double own_rel;                 /* of this block alone: it is given what the reference's gets              */
    double bits;                    /* stored bits per weight of the block's tensors; NaN: unknown            */
} qn_report_layer;

/* An output of a model that is no language model. */
typedef struct qn_report_output {
    const char *name;
    uint64_t n_values;
    double rel_rms, max_rel, max_abs, cosine;
} qn_report_output;

/* A limit that was in force when a baseline was written: "kld_mean", "vs_baseline.kld_mean", "layers.rel_err". */
typedef struct qn_report_limit {
    const char *name;
    double value;
    bool times;                     /* a factor on the baseline's value */
} qn_report_limit;

typedef struct qn_report {
    qn_arena arena;
    qn_report_binding b;
    const char *reason;             /* of a baseline: why it was written; NULL: none given                    */
    qn_report_limit *limits;        /* of a baseline */
    uint64_t n_limits;
    uint64_t size_bytes, reference_bytes, n_weights;
    qn_report_tensor *tensors;
    qn_report_layer *layers;
    uint64_t n_tensors, n_layers;
    bool is_lm, is_io;              /* divergence was measured, on tokens or on arrays; neither: tensors only     */
    const char *tokenizer_trouble;  /* how the candidate's tokenizer is another than the reference's; NULL: it is not, or one has none */
    const char *cannot_run;         /* why the candidate could not be evaluated; NULL: it could, or it was not tried */
    /* language models */
    qn_estimate kl, ppl, ppl_ref, ppl_ratio, same_top, excess; /* excess: nll − nll_ref */
    qn_estimate kl_p99;             /* its interval by Woodruff's method (measure_lm.c)                           */
    double kl_quantiles[7];         /* at qn_eval_quantiles */
    uint32_t kl_histogram[QN_REPORT_BINS]; /* tokens with KL in [2^(i/2 − 26), 2^((i+1)/2 − 26)); the first also holds all below, the last all above */
    double max_dp;                  /* largest |q(target) − p(target)|                                       */
    /* Of the candidate, paired with the reference. Arrays: one for each run, n rows of the first output, n_same_top of them with the reference's
     * largest value, n_top right by the labels. */
    qn_chunk_score *chunks;
    uint64_t n_chunks;
    /* others */
    qn_report_output *outputs;
    uint64_t n_outputs;
    qn_estimate io_same_top, io_right, io_right_ref; /* of the first output; right: NaN without labels */
    /* The same measured again with another number of threads and another batch, over the first chunks: what is noise. NaN: not run. */
    double noise_kl, noise_nll;     /* largest change of a chunk's mean */
    double seconds;
} qn_report;

void qn_report_init(qn_report *r, const qn_alloc *alloc);
void qn_report_release(qn_report *r);

/* The layer that a name of a tensor speaks of ("model.layers.3.…", "blk.3.…"), or of a block ("layers.3"), or QN_REPORT_NO_LAYER. */
uint32_t qn_report_layer_of(const char *name);
/* Bits per weight of the whole candidate; NaN without weights. */
double qn_report_bpw(const qn_report *r);
/* The output with the largest rel_rms, NULL when there are none. */
const qn_report_output *qn_report_worst_output(const qn_report *r);
/* The first layer whose own error is more than `times` that of most others, when its output's is worth a word (2 %); NULL: the error grows evenly. */
const qn_report_layer *qn_report_jump(const qn_report *r, double times);

/* The report as one JSON object; fails when memory is gone (qn_textbuf_check). */
void qn_report_json(qn_textbuf *t, const qn_report *r);
/* Reads one. QN_E_INPUT with the place: no report, another schema, a key with another kind of value, more than is allowed. Unknown keys are
 * passed over. Released by the caller only when QN_OK. */
qn_code qn_report_parse(qn_report *r, const qn_alloc *alloc, const char *text, uint64_t n_bytes, qn_err *err) QN_MUST_CHECK;
qn_code qn_report_read(qn_report *r, const qn_env *env, const char *path, qn_err *err) QN_MUST_CHECK;

#endif
