/* trellis_rate_tab.c: see trellis_rate.h. */
#include "compress/trellis_rate.h"

const double qn_trellis_error[QN_TRELLIS_K_MAX + 1] = {1, 0.272, 0.0713, 0.0185, 0.00483, 0.00127, 0.00034, 0.0001, 0.00004};
const double qn_trellis_spread[QN_TRELLIS_K_MAX + 1] = {1, 0.89, 1.01, 1.08, 1.11, 1.12, 1.12, 1.14, 1.14};
