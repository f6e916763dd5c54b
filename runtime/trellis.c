/* trellis.c: see trellis.h. */
#include "runtime/trellis.h"
#include <string.h>

void qn_trellis_group_make(qn_trellis_group *g, unsigned log2_windows, const uint8_t *k, uint32_t n)
{
    memset(g, 0, sizeof *g);
    g->n = n;
    for (uint32_t lane = 0; lane < n; lane++) {
        g->k[lane] = k[lane];
        g->multiplier[lane] = k[lane] ? qn_trellis_multiplier[log2_windows - QN_TRELLIS_L_MIN][k[lane] - 1] : 0x83DCD12Du; /* a positive value: times 0 it is 0, not −0 */
        g->last[lane] = k[lane] == 0;
        for (uint32_t i = 0; i < k[lane]; i++) /* word i holds bits 32 i …: the first window to reach it is row ⌊32 i / K⌋ */
            g->refill[QN_TRELLIS_TILE * i / k[lane]] |= (uint16_t)(1u << lane);
    }
    for (uint32_t t = 0, sum = 0; t < QN_TRELLIS_TILE; t++) {
        g->at[t] = (uint8_t)sum;
        sum += (uint32_t)__builtin_popcount(g->refill[t]);
    }
}
