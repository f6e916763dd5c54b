/* span_order.c: see span.h. In f64: this is done once for all rows of a layer. */
#include "compress/blocks/span.h"
#include <math.h>
#include <stdlib.h>

struct key {
    float size; /* mean of the diagonal; larger first */
    uint16_t at;
};

static int by_size(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    if (x->size != y->size)
        return x->size > y->size ? -1 : 1;
    return x->at < y->at ? -1 : 1;
}

/* The runs of `len` columns in from … to − 1, and so on inside each of them with a `len` half as long, then single columns. */
static uint32_t put_runs(const float *diag, uint32_t from, uint32_t to, uint32_t len, uint16_t *order, uint32_t v)
{
    struct key k[QN_SPAN_MAX];
    uint32_t n = 0;
    for (uint32_t first = from; first < to; first += len) {
        const uint32_t end = to - first < len ? to : first + len;
        double sum = 0;
        for (uint32_t j = first; j < end; j++)
            sum += (double)diag[j];
        k[n++] = (struct key){.size = (float)(sum / (end - first)), .at = (uint16_t)first};
    }
    qsort(k, n, sizeof *k, by_size);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t first = k[i].at, end = to - first < len ? to : first + len;
        if (len > 1)
            v = put_runs(diag, first, end, len > 16 ? 16 : 1, order, v);
        else
            order[v++] = k[i].at;
    }
    return v;
}

bool qn_span_order(uint32_t n, const float *m, const float *diag, uint16_t *order, float *feed, float *weight, double *work)
{
    put_runs(diag, 0, n, 32, order, 0);
    /* Place p of the factor is visit n − 1 − p: what is visited first depends on nothing. */
    for (uint32_t p = 0; p < n; p++) {
        const uint32_t a = order[n - 1 - p];
        double *row = work + (size_t)p * n;
        for (uint32_t q = 0; q <= p; q++) {
            double sum = (double)m[(size_t)a * n + order[n - 1 - q]];
            const double *other = work + (size_t)q * n;
            for (uint32_t k = 0; k < q; k++)
                sum -= row[k] * other[k];
            if (q < p)
                row[q] = other[q] > 0 ? sum / other[q] : 0;
            else if (diag[a] > 0 && !(sum > 0))
                return false;
            else
                row[q] = diag[a] > 0 ? sqrt(sum) : 0;
        }
    }
    for (uint32_t p = 0; p < n; p++) {
        const double own = work[(size_t)p * n + p];
        weight[order[n - 1 - p]] = (float)(own * own);
        for (uint32_t k = p + 1; k < n; k++)
            feed[(size_t)(n - 1 - k) * n + (n - 1 - p)] = own > 0 ? (float)(work[(size_t)k * n + p] / own) : 0;
    }
    return true;
}
