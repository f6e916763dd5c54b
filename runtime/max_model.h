/* max_model.h: what the MAX codec knows of a block: adaptive probabilities, their mixture, and running scales.
 *
 * Encoder and decoder run the same model over the same weights in the same order (runtime/max_walk.h); the encoder's
 * coder writes each decision, the decoder's reads it. Everything is integer arithmetic with stated widths, so both
 * sides agree to the bit on every machine. docs/codecs/max.md is the specification. */
#ifndef QN_RUNTIME_MAX_MODEL_H
#define QN_RUNTIME_MAX_MODEL_H

#include "base/alloc.h"
#include "runtime/codec.h"

enum {
    QN_MAX_HEADER_BYTES = 11,
    QN_MAX_INPUTS = 12,      /* context predictions per decision                              */
    QN_MAX_SETS_A = 64,      /* mixer weights by kind of decision                             */
    QN_MAX_SETS_B = 144,     /* mixer weights by how much of the row and the column is known  */
    QN_MAX_STRETCH = 2047,   /* log-odds are in 1/256 nat, clamped to ± this                  */
    QN_MAX_UNARY = 24,       /* class steps before the escape                                 */
    QN_MAX_MODELLED = 16,    /* top mantissa bits that can be modelled                        */
    QN_MAX_SCORES = 512,     /* scale score by 1/32 octave, −8 … +8                           */
    QN_MAX_COUNT = 1023
};

/* How the bits of a unit divide: sign (top bit), exponent, mantissa. */
typedef struct qn_max_form {
    unsigned unit_bytes, exp_bits, man_bits;
} qn_max_form;

/* False for dtypes that have no exponent. */
bool qn_max_form_of(qn_dtype t, qn_max_form *f);

/* Parameters in front of the code bytes. */
typedef struct qn_max_head {
    unsigned n_modelled; /* mantissa bits that get a probability; the ones below are stored as they are */
    bool model_sign;
    unsigned lo, hi;     /* smallest and largest class of the block                                     */
    unsigned scale;      /* typical magnitude: class and fraction, 1/16 octave                          */
    unsigned lag[2];     /* distances of two more neighbours; 0 = none                                  */
} qn_max_head;

/* Functions of nothing: built once per block by integer recurrences. */
typedef struct qn_max_tab {
    int16_t stretch[4096];   /* probability in 1/4096 → log-odds */
    uint16_t squash[4096];   /* log-odds + 2048 → probability in 1/65536 */
    uint16_t recip[QN_MAX_COUNT + 1];
    int16_t score[QN_MAX_SCORES];
} qn_max_tab;

typedef struct qn_max {
    qn_max_form form;
    qn_max_head head;
    uint32_t n, cols;
    qn_max_tab tab;

    /* Prediction of one decision. */
    unsigned slot_bits;
    uint32_t *slots; /* (INPUTS, 1 << slot_bits): probability in the top 22 bits, count in the low 10 */
    uint32_t *at[QN_MAX_INPUTS];
    int32_t in[QN_MAX_INPUTS];
    int32_t weights_a[QN_MAX_SETS_A][QN_MAX_INPUTS], weights_b[QN_MAX_SETS_B][QN_MAX_INPUTS];
    uint16_t seen_a[QN_MAX_SETS_A];
    int32_t *wa, *wb;
    uint16_t *seen;
    uint32_t p; /* of a one, in 1/65536 */

    /* What has been seen. */
    uint32_t *past;    /* (lead + n): class << 9 | fraction << 1 | sign; the lead stands for what is before the block */
    int32_t *col;      /* (cols): log-scale of a column relative to the rest, 1/65536 octave */
    int16_t *col_sign; /* (cols): running mean of signs */
    int32_t whole, row, row_alone, near;
    int32_t row_sign;
} qn_max;

enum { QN_MAX_LEAD = 256 }; /* ≥ the largest lag */

/* Zeroes a model for one block; storage from `scratch`. */
qn_code qn_max_init(qn_max *m, const qn_block *b, const qn_max_head *h, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

/* Probability of a one given the contexts; ctx: a hash per input; set_a, set_b select mixer weights. */
uint32_t qn_max_predict(qn_max *m, const uint32_t ctx[QN_MAX_INPUTS], unsigned set_a, unsigned set_b);
/* What it was. */
void qn_max_learn(qn_max *m, unsigned bit);

/* Log-scale estimates after a weight of magnitude `lg` (class and fraction, 1/256 octave) at column j. */
void qn_max_learn_scale(qn_max *m, uint32_t i, uint32_t j, int32_t lg, unsigned sign);

#endif
