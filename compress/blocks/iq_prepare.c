/* iq_prepare.c: the index of a point set, and what of a metric serves all rows. */
#include "compress/blocks/iq.h"
#include "base/ggml_impl.h"
#include <pthread.h>
#include <string.h>

static const struct {
    const uint16_t *grid;
    uint16_t points;
    uint8_t bits, values;
} sets[] = {
    {qn_grid_iq1, 2048, 2, 8},    {qn_grid_iq2_xxs, 256, 2, 8}, {qn_grid_iq2_xs, 512, 2, 8},
    {qn_grid_iq2_s, 1024, 2, 8},  {qn_grid_iq3_xxs, 256, 3, 4}, {qn_grid_iq3_s, 512, 3, 4},
};
enum { N_SETS = sizeof sets / sizeof *sets };

static qn_iq_index indices[N_SETS];
static pthread_once_t made = PTHREAD_ONCE_INIT;

static unsigned half_of(unsigned point, unsigned bits, unsigned values, unsigned second)
{
    const unsigned n = values / 2, base = values == 8 ? 3 : 8;
    unsigned h = 0;
    for (unsigned i = n; i-- > 0;)
        h = h * base + (point >> bits * (second * n + i) & ((1u << bits) - 1));
    return h;
}

static void make_all(void)
{
    for (unsigned g = 0; g < N_SETS; g++) {
        qn_iq_index *x = &indices[g];
        const unsigned bits = sets[g].bits, values = sets[g].values;
        uint16_t at[QN_IQ_HALVES + 1] = {0};
        x->halves = values == 8 ? 81 : 64;
        for (unsigned p = 0; p < sets[g].points; p++)
            at[half_of(sets[g].grid[p], bits, values, 0) + 1]++;
        for (unsigned h = 0; h < x->halves; h++)
            at[h + 1] = (uint16_t)(at[h + 1] + at[h]);
        memcpy(x->begin, at, sizeof at);
        for (unsigned p = 0; p < sets[g].points; p++) {
            const unsigned h = half_of(sets[g].grid[p], bits, values, 0), e = at[h]++;
            x->second[e] = (uint8_t)half_of(sets[g].grid[p], bits, values, 1);
            x->point[e] = (uint16_t)p;
        }
    }
}

const qn_iq_index *qn_iq_index_of(const qn_iq_kind *k)
{
    pthread_once(&made, make_all);
    for (unsigned g = 0; g < N_SETS; g++)
        if (sets[g].grid == k->grid)
            return &indices[g];
    return NULL;
}

/* Eliminates the last column first: M = Fᵀ diag(w) F with F unit triangular, F_ja = f[a][j] for a before j. Sums in f64, f in f32: M may be badly
 * conditioned. A column without weight neither takes nor gives. */
static void eliminate(const qn_span_metric *m, double ridge, float *f, double *w)
{
    const uint32_t n = QN_IQ_COLS;
    for (uint32_t j = n; j-- > 0;) {
        const float *fj = f + (size_t)j * n;
        w[j] = 0;
        for (uint32_t i = j + 1; i-- > 0;) {
            float *fi = f + (size_t)i * n;
            double v = (double)m->m[(size_t)i * n + j];
            for (uint32_t k = j + 1; k < n; k++)
                v -= w[k] * (double)fi[k] * (double)fj[k];
            if (i == j)
                w[j] = m->diag[j] > 0 && v + ridge > 0 ? v + ridge : 0;
            else
                fi[j] = w[j] > 0 ? (float)(v / w[j]) : 0;
        }
    }
}

static void prepare(const qn_span_metric *m, unsigned unit, qn_iq_prepared *p)
{
    const uint32_t n = QN_IQ_COLS;
    float *f = p->feed;
    double w[QN_IQ_COLS], ridge = 0;
    for (uint32_t j = 0; j < n; j++)
        ridge += (double)m->diag[j];
    eliminate(m, ridge * 1e-6 / n, f, w);
    for (uint32_t u = 0; u < n; u += unit) {
        const float *own = f + (size_t)u * n + u; /* what columns of this unit do to each other goes from f into S = Fᵀ diag(w) F */
        for (uint32_t i = 0; i < unit; i++)
            for (uint32_t k = 0; k < unit; k++) {
                double sum = 0;
                for (uint32_t j = i > k ? i : k; j < unit; j++)
                    sum += w[u + j] * (i == j ? 1 : (double)own[i * n + j]) * (k == j ? 1 : (double)own[k * n + j]);
                p->metric[(size_t)u * unit + (size_t)i * unit + k] = (float)sum;
            }
        for (uint32_t e = 0; e < u; e++) { /* F y = f, first column of the unit first */
            float *y = f + (size_t)e * n + u;
            for (uint32_t j = 0; j < unit; j++)
                for (uint32_t i = 0; i < j; i++)
                    y[j] -= own[i * n + j] * y[i];
        }
    }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = i; j < i - i % unit + unit; j++)
            f[(size_t)i * n + j] = 0;
}

void qn_iq_prepare_8(const qn_span_metric *m, void *to)
{
    prepare(m, 8, to);
}

void qn_iq_prepare_4(const qn_span_metric *m, void *to)
{
    prepare(m, 4, to);
}
