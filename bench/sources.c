/* sources.c: made weights of variance 1: see quant.h. */
#include "bench/quant.h"
#include <math.h>

static uint64_t seed = 88172645463325252u;

double quant_uniform(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return ((double)(seed >> 11) + 0.5) * 0x1p-53;
}

double quant_normal(void)
{
    return sqrt(-2 * log(quant_uniform())) * cos(6.283185307179586 * quant_uniform());
}

static double laplace(void)
{
    const double e = -log(quant_uniform()) * 0.7071067811865476;
    return quant_uniform() < 0.5 ? -e : e;
}

static double student5(void)
{
    double q = 0;
    for (int i = 0; i < 5; i++) {
        const double g = quant_normal();
        q += g * g;
    }
    return quant_normal() / sqrt(q / 5) * sqrt(3.0 / 5);
}

/* Normal, but 16 neighbours in a row share a spread that is log-normal, σ = 0.4. */
static double mixture(void)
{
    static unsigned left;
    static double spread;
    if (left == 0) {
        left = 16;
        spread = exp(0.4 * quant_normal() - 0.4 * 0.4);
    }
    left--;
    return spread * quant_normal();
}

const quant_source quant_sources[] = {
    {"normal", quant_normal}, {"Laplace", laplace}, {"Student's t, 5 degrees of freedom", student5}, {"mixture of scales", mixture}};
const unsigned quant_n_sources = sizeof quant_sources / sizeof quant_sources[0];

/* Gamma(a), a ≤ 1 (Marsaglia and Tsang 2000, with their step for small a). */
static double gamma_of(double a)
{
    const double d = a + 1 - 1.0 / 3, c = 1 / sqrt(9 * d), boost = pow(quant_uniform(), 1 / a);
    for (;;) {
        const double g = quant_normal(), v = (1 + c * g) * (1 + c * g) * (1 + c * g);
        if (v > 0 && log(quant_uniform()) < 0.5 * g * g + d - d * v + d * log(v))
            return d * v * boost;
    }
}

double quant_shaped(unsigned shape)
{
    const double b = 2 - 0.25 * shape, v = pow(b * gamma_of(1 / b), 1 / b);
    return quant_uniform() < 0.5 ? -v : v;
}

void quant_fill(float *w, size_t n, double (*draw)(void))
{
    for (size_t i = 0; i < n; i++)
        w[i] = (float)draw();
}
