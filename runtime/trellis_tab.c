/* trellis_tab.c: see trellis.h. */
#include "runtime/trellis.h"

#define M 0x83DCD12Du
const uint32_t qn_trellis_multiplier[QN_TRELLIS_L_MAX - QN_TRELLIS_L_MIN + 1][QN_TRELLIS_K_MAX] = {
    {M, M, M, M, M, M, M, M},
    {M, M, M, M, M, M, M, M},
    {M, M, M, M, M, M, M, M},
    {M, M, M, M, M, M, M, M},
    {M, M, M, M, M, M, M, M},
    {M, M, M, M, M, M, M, M},
    {M, M, M, M, M, M, M, M},
};
