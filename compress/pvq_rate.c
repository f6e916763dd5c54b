/* pvq_rate.c: Lagrangian choice over a convex set (Shoham and Gersho, IEEE Trans. ASSP 1988): at a price λ of a bit each column takes
 * every step that is worth more than it costs; λ is bisected until the sum of bits is the wanted one. */
#include "compress/pvq_rate.h"
#include "compress/quant_shared.h"

/* What one more bit saves between offers i − 1 and i. */
static double slope(unsigned i)
{
    const qn_pvq_offer *o = qn_pvq_offers + i;
    return (o[-1].error - o->error) / (o->bits - o[-1].bits);
}

static unsigned at_price(double value, double lambda)
{
    unsigned i = 0;
    while (i + 1 < qn_pvq_n_offers && value * slope(i + 1) > lambda)
        i++;
    return i;
}

static double sum_of_bits(const double *value, uint32_t n, double lambda)
{
    double sum = 0;
    for (uint32_t j = 0; j < n; j++)
        sum += qn_pvq_offers[at_price(value[j], lambda)].bits;
    return sum;
}

void qn_pvq_rate_choose(const double *value, uint32_t n, double bits, uint8_t *choice)
{
    double most = 0, low = 0, have = 0;
    const double budget = bits * n;
    for (uint32_t j = 0; j < n; j++)
        most = value[j] > most ? value[j] : most;
    double high = most * slope(1) + 1; /* nobody takes a bit at this price */
    for (unsigned i = 0; i < 200; i++) {
        const double middle = low + (high - low) / 2;
        if (sum_of_bits(value, n, middle) > budget)
            low = middle;
        else
            high = middle;
    }
    for (uint32_t j = 0; j < n; j++) {
        choice[j] = (uint8_t)at_price(value[j], high);
        have += qn_pvq_offers[choice[j]].bits;
    }
    /* columns that hesitate at this price, in an order that visits the layer evenly */
    const unsigned log2_n = qn_quant_evenly_log2(n);
    for (uint32_t r = 0; r < 1u << log2_n; r++) {
        const uint32_t j = qn_quant_evenly(r, log2_n);
        if (j >= n)
            continue;
        const unsigned want = at_price(value[j], low);
        const double more = qn_pvq_offers[want].bits - qn_pvq_offers[choice[j]].bits;
        if (want > choice[j] && have + more <= budget) {
            choice[j] = (uint8_t)want;
            have += more;
        }
    }
}
