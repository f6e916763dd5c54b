/* fast_model.h: the encoder's choice of table for a symbol stream of the fast codec. */
#ifndef QN_COMPRESS_FAST_MODEL_H
#define QN_COMPRESS_FAST_MODEL_H

#include "runtime/kern_fast.h"

typedef struct qn_fast_model {
    unsigned n; /* symbols in slot order, escape included */
    uint8_t sym[QN_FAST_SYMS], freq[QN_FAST_SYMS];
    unsigned esc;      /* byte that stands for the escape, or QN_FAST_NO_ESC */
    bool order;        /* slot order is not ascending with the escape last */
    uint64_t n_esc;    /* weights that escape */
    uint64_t bits_q16; /* estimate of the code, escapes included, × 2^16 */
} qn_fast_model;

/* From the counts of n ≥ 2 symbols of at least two kinds. Pure integer arithmetic: the same
 * everywhere. */
void qn_fast_model_choose(const uint32_t counts[256], uint64_t n, qn_fast_model *m);

/* Writes the table (docs/codecs/fast.md); returns its bytes, at most QN_FAST_TABLE_MAX. dst holds
 * zeros. */
#define QN_FAST_TABLE_MAX 352
size_t qn_fast_model_write(const qn_fast_model *m, uint8_t *dst);

/* 2^16 log2(v), v ≥ 1. */
uint32_t qn_fast_lg(uint64_t v);

extern const uint32_t qn_fast_lg_tab[257], qn_fast_mass_tab[257];

#endif
