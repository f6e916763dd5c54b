/* quant.h: what the parts of bench/quant share: settings to try, made sources, one matrix through a quantizer and back. */
#ifndef QN_BENCH_QUANT_H
#define QN_BENCH_QUANT_H

#include "compress/feedback.h"

/* --- variants: a codec with settings ------------------------------------------------------------------------------- */

enum { QUANT_RATES = 6 };
extern const double quant_rate[QUANT_RATES]; /* bits asked for: 0.5 … 4 */

typedef struct quant_variant {
    const char *codec, *settings; /* "name=value name=value", see settings.h */
    double normal_gap[QUANT_RATES]; /* bits above Shannon's bound for normal weights that the method itself is known for, 0: not known */
    double layer_gap[QUANT_RATES];  /* the same above reverse water-filling on the layer of layer47.c */
    bool in_between;                /* not for the tables of speed: what lies between others there */
} quant_variant;

/* Those of all codecs in qn_quantizer_tab, or of `only`; a codec without rows here has its defaults. False at the end. */
bool quant_next(unsigned *at, const char *only, quant_variant *v);
/* False: it has settings that this build does not know. */
bool quant_set(const quant_variant *v, double bits, qn_quant_settings *set);
/* "ect states=8" */
const char *quant_label(const quant_variant *v);

/* --- sources.c: all of variance 1, seeded: each run draws the same -------------------------------------------------- */

typedef struct quant_source {
    const char *name;
    double (*draw)(void);
} quant_source;
extern const quant_source quant_sources[];
extern const unsigned quant_n_sources;

double quant_uniform(void); /* in (0, 1) */
double quant_normal(void);
/* Density ∝ exp(−|x|^b / b), b = 2 − shape/4. */
double quant_shaped(unsigned shape);
void quant_fill(float *w, size_t n, double (*draw)(void));

/* --- quant_run.c --------------------------------------------------------------------------------------------------- */

typedef struct quant_job {
    const quant_variant *v;
    double bits;
    unsigned cpu;
    const float *w; /* (rows, cols), to be stored as f32 */
    uint32_t rows, cols;
    const qn_ldl *ldl;  /* made for this matrix with quant_ldl */
    bool as_compress;   /* also rounds without feedback where compress does so, and measures energies */
    double seconds;     /* stop after the segment in which they pass; 0: all segments */
} quant_job;

/* The result: some or all segments of the matrix. */
typedef struct quant_coded {
    const qn_quantizer *q;
    uint32_t cols, segment_rows, n_segments, n_done, rows_done;
    uint8_t **payload;
    size_t *n_bytes;
    double bits;            /* all bytes of the payloads, per weight */
    double encode;          /* CPU seconds for the whole matrix: preparing the layer, and segments in proportion */
    float *recon;           /* (rows_done, cols): what quantizers said that decoders give */
    qn_arena arena;
} quant_coded;

/* False when the quantizer refuses these bits, or this matrix. */
bool quant_encode(const quant_job *j, quant_coded *c);
/* One pass of the decoder over all that was coded; dst as large as recon. */
void quant_decode(const quant_coded *c, const qn_kern *kern, float *dst);
/* Ends the program when the decoder gives something else than recon. */
void quant_check(const quant_coded *c, unsigned cpu);
void quant_free(quant_coded *c);

/* The factor that compress would make for this codec. moment: cols², NULL: none. */
void quant_ldl(const quant_variant *v, double bits, uint32_t cols, const double *moment, qn_ldl *ldl);
double quant_mse(const float *w, const float *recon, size_t n);
/* tr(E H Eᵀ) / tr(W H Wᵀ) over these rows */
double quant_relative_loss(const float *w, const float *recon, uint32_t rows, uint32_t cols, const double *moment);
/* H = S Q diag(λ) Qᵀ S, S log-normal (σ 0.7), its mean diagonal brought to 1, 0.01 added. Of n ≤ 1024: λ_i = (i + 5)^−1.2 and Q a
 * random rotation; else Q diag(λ) Qᵀ is what n/4 normal vectors measured, which takes less time. */
void quant_moment(double *h, uint32_t n);

/* --- the tables ----------------------------------------------------------------------------------------------------- */

typedef struct quant_options {
    const char *only;
    unsigned cpu;     /* from QUERN_CPU */
    uint32_t side;    /* of the matrix that speed is measured on */
    bool alike;       /* speed without a second moment: every column is of one class */
    const char *peer; /* libggml-base.so, or NULL */
} quant_options;

void quant_sources_table(const quant_options *o);
void quant_layer_table(const quant_options *o);
void quant_speed_table(const quant_options *o);
void quant_peer_table(const quant_options *o);
void quant_ect_train(void);
void quant_pvq_points(uint32_t groups, uint32_t n);

#endif
