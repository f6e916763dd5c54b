/* trellis_rate_tab.c: see trellis_rate.h. */
#include "compress/trellis_rate.h"

const double qn_trellis_error[QN_TRELLIS_K_MAX + 1] = {1, 0.281, 0.0724, 0.0188, 0.0049, 0.00134, 0.00041, 0.00014, 0.00006};
const double qn_trellis_spread[QN_TRELLIS_K_MAX + 1] = {1, 0.89, 1.02, 1.08, 1.10, 1.12, 1.14, 1.16, 1.16};
