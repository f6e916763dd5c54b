/* quant_shared.c: see quant_shared.h. */
#include "compress/quant_shared.h"
#include <math.h>

qn_code qn_quant_no_plan(const qn_quantizer *q, const qn_quant_layer *layer, qn_arena *arena, const void **plan, qn_err *err)
{
    (void)q;
    (void)layer;
    (void)arena;
    (void)err;
    *plan = NULL;
    return QN_OK;
}

double qn_quant_square(const qn_quant_layer *l, uint32_t j, double none)
{
    double sum = 0;
    for (uint32_t i = 0; i < l->n_sample; i++) {
        const double v = (double)l->sample[(size_t)i * l->cols + j];
        sum += v * v;
    }
    return l->n_sample ? sum / l->n_sample : none;
}

double qn_quant_byte_bits(const uint8_t *v, uint32_t n)
{
    uint32_t count[256] = {0};
    double sum = 0;
    unsigned live = 0;
    for (uint32_t i = 0; i < n; i++)
        count[v[i]]++;
    for (unsigned i = 0; i < 256; i++) {
        live += count[i] > 0;
        sum += count[i] ? count[i] * log2((double)n / count[i]) : 0;
    }
    return live > 1 ? fmin(sum + 8 * live, 8.0 * n) : 8;
}

unsigned qn_quant_evenly_log2(uint32_t n)
{
    unsigned log2_n = 0;
    while (n > 1u << log2_n)
        log2_n++;
    return log2_n;
}

uint32_t qn_quant_evenly(uint32_t r, unsigned log2_n)
{
    uint32_t j = 0;
    for (unsigned b = 0; b < log2_n; b++)
        j |= (r >> b & 1) << (log2_n - 1 - b);
    return j;
}
