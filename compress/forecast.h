/* forecast.h: what packing with a plan will take, before any of it is done: bytes and time.
 *
 * Bytes of an approximated tensor are its bits times its weights, which trellises and pyramids keep to and grids stay below; all
 * that stays lossless is counted as it is, so the sum is an upper bound, nearly. Time comes from counting operations and from how fast
 * this machine does them, measured in passing on made-up data for a moment: good to a factor of two. */
#ifndef QN_COMPRESS_FORECAST_H
#define QN_COMPRESS_FORECAST_H

#include "compress/lossy.h"

typedef struct qn_forecast {
    uint64_t approximated_bytes; /* of tensors that are approximated, with their tables */
    uint64_t lossless_bytes;     /* of all else, before packing                         */
    double seconds;
} qn_forecast;

/* Bytes of one row of the report, that is not kept. */
uint64_t qn_forecast_row(const qn_lossy_row *r);
/* l may be NULL: nothing is approximated. */
qn_code qn_forecast_all(const qn_env *env, const qn_source *src, const qn_lossy *l, qn_forecast *f, qn_err *err) QN_MUST_CHECK;
/* Bits for all at which approximated and lossless bytes add up to n_bytes; what has bits of its own keeps them. 0: none. */
double qn_forecast_bits(const qn_source *src, const qn_lossy *l, double bits_now, uint64_t n_bytes);

#endif
