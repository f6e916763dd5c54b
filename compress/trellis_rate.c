/* trellis_rate.c: greedy water-filling. The errors are convex in K, so a column takes every bit that saves more than the price λ; λ is
 * bisected, and what is left of the budget goes to columns that hesitate at it. */
#include "compress/trellis_rate.h"
#include "compress/quant_shared.h"

static unsigned at_price(double value, double lambda)
{
    unsigned k = 0;
    while (k < QN_TRELLIS_K_MAX && value * (qn_trellis_error[k] - qn_trellis_error[k + 1]) > lambda)
        k++;
    return k;
}

void qn_trellis_rate_choose(const double *value, uint32_t n, double bits, uint8_t *k)
{
    const double budget = bits * n;
    double low = 0, high = 1, have = 0;
    for (uint32_t j = 0; j < n; j++)
        high = value[j] > high ? value[j] : high; /* nobody takes a bit at this price */
    for (unsigned i = 0; i < 200; i++) {
        const double middle = low + (high - low) / 2;
        double sum = 0;
        for (uint32_t j = 0; j < n; j++)
            sum += at_price(value[j], middle);
        if (sum > budget)
            low = middle;
        else
            high = middle;
    }
    for (uint32_t j = 0; j < n; j++) {
        k[j] = (uint8_t)at_price(value[j], high);
        have += k[j];
    }
    /* the others in an order that visits the layer evenly */
    const unsigned log2_n = qn_quant_evenly_log2(n);
    for (uint32_t r = 0; r < 1u << log2_n && have + 1 <= budget; r++) {
        const uint32_t j = qn_quant_evenly(r, log2_n);
        if (j >= n)
            continue;
        const unsigned want = at_price(value[j], low);
        if (want > k[j] && have + (want - k[j]) <= budget) {
            have += want - k[j];
            k[j] = (uint8_t)want;
        }
    }
}
