/* pvq_rate.h: how many pulses and bits of gain a column gets. */
#ifndef QN_COMPRESS_PVQ_RATE_H
#define QN_COMPRESS_PVQ_RATE_H

#include "quern/base.h"

#define QN_PVQ_RATE_N 16 /* rows of a group */

typedef struct qn_pvq_offer {
    uint8_t pulses, gain_bits, bits; /* bits of a whole group, level included */
    double error;                    /* of a weight of variance 1             */
} qn_pvq_offer;

/* Ascending in bits, convex: each further bit is worth less. The first one is no pulses at all. */
extern const qn_pvq_offer qn_pvq_offers[];
extern const unsigned qn_pvq_n_offers;

/* choice[j]: number of an offer for column j, where an error costs value[j] ≥ 0 times the offer's. The choices minimise
 * Σ value · error under Σ bits ≤ bits · n, bits a group's mean; what is left over after the last whole step of all equal columns
 * is given to columns spread over the layer. All offers are at most the largest. */
void qn_pvq_rate_choose(const double *value, uint32_t n, double bits, uint8_t *choice);

#endif
