/* span.c: see span.h. */
#include "compress/blocks/span.h"
#include <math.h>
#include <string.h>

static void add_row(const qn_span_metric *m, float *g, const float *row, float d, uint32_t n)
{
    (m->kern ? m->kern->add : qn_span_add_c)(g, row, d, n);
}

void qn_span_begin(qn_span *s)
{
    const qn_span_metric *m = s->m;
    memset(s->g, 0, m->n * sizeof *s->g);
    for (uint32_t j = 0; j < m->n; j++) {
        const float e = s->t[j] - s->r[j];
        if (m->m)
            add_row(m, s->g, m->m + (size_t)j * m->n, e, m->n);
        else
            s->g[j] = m->weight[j] * e;
    }
}

double qn_span_loss(const qn_span *s)
{
    double loss = 0;
    for (uint32_t j = 0; j < s->m->n; j++)
        loss += ((double)s->t[j] - (double)s->r[j]) * (double)s->g[j];
    return loss;
}

void qn_span_put(qn_span *s, uint32_t j, float v)
{
    const qn_span_metric *m = s->m;
    const float d = v - s->r[j];
    s->r[j] = v;
    if (d == 0)
        return;
    if (m->m)
        add_row(m, s->g, m->m + (size_t)j * m->n, -d, m->n);
    else
        s->g[j] -= m->weight[j] * d;
}

/* Cholesky of the k × k normal equations, in place. */
static bool solve(double *a, double *x, uint32_t k)
{
    for (uint32_t i = 0; i < k; i++)
        for (uint32_t j = 0; j <= i; j++) {
            double sum = a[i * k + j];
            for (uint32_t p = 0; p < j; p++)
                sum -= a[i * k + p] * a[j * k + p];
            if (i == j && !(sum > 0))
                return false;
            a[i * k + j] = i == j ? sqrt(sum) : sum / a[j * k + j];
        }
    for (uint32_t i = 0; i < k; i++) {
        for (uint32_t p = 0; p < i; p++)
            x[i] -= a[i * k + p] * x[p];
        x[i] /= a[i * k + i];
    }
    for (uint32_t i = k; i-- > 0;) {
        for (uint32_t p = i + 1; p < k; p++)
            x[i] -= a[p * k + i] * x[p];
        x[i] /= a[i * k + i];
    }
    return true;
}

static double dot(const float *a, const float *b, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* M u, skipping zeros: a factor's u mostly covers a part of the span. */
static void times(const qn_span_metric *m, const float *u, float *out)
{
    memset(out, 0, m->n * sizeof *out);
    for (uint32_t j = 0; j < m->n; j++) {
        if (u[j] == 0)
            continue;
        if (m->m)
            add_row(m, out, m->m + (size_t)j * m->n, u[j], m->n);
        else
            out[j] = m->weight[j] * u[j];
    }
}

bool qn_span_fit(const qn_span_metric *m, const float *t, const float *u, uint32_t k, float *x, float *work)
{
    const uint32_t n = m->n;
    double a[QN_SPAN_FACTORS * QN_SPAN_FACTORS], y[QN_SPAN_FACTORS], trace = 0;
    uint32_t live = 0;
    for (uint32_t b = 0; b < k; b++) {
        float *mu = work + (size_t)b * n;
        times(m, u + (size_t)b * n, mu);
        y[b] = dot(mu, t, n);
        for (uint32_t c = 0; c <= b; c++)
            a[b * k + c] = dot(mu, u + (size_t)c * n, n);
        trace += a[b * k + b];
        live += a[b * k + b] > 0;
    }
    if (!live)
        return false;
    for (uint32_t b = 0; b < k; b++) {
        if (a[b * k + b] > 0) {
            a[b * k + b] += 1e-6 * trace / live;
            continue;
        }
        for (uint32_t c = 0; c < k; c++)
            a[(c > b ? c : b) * k + (c > b ? b : c)] = 0;
        a[b * k + b] = 1;
        y[b] = (double)x[b];
    }
    if (!solve(a, y, k))
        return false;
    for (uint32_t b = 0; b < k; b++)
        x[b] = (float)y[b];
    return true;
}
