/* score.c: see score.h. */
#include "analysis/eval/score.h"
#include "base/err.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846

/* Largest logit, its place (the first of equals), and ln Σ exp. */
static qn_code norm(const float *x, uint32_t n, double *log_sum, uint32_t *top, qn_err *err)
{
    float most = x[0];
    *top = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (isnan(x[i]) || x[i] == INFINITY)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the model's logits are not finite: %f for token %" PRIu32, (double)x[i], i);
        if (x[i] > most) {
            most = x[i];
            *top = i;
        }
    }
    if (!isfinite(most))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the model's logits are not finite: -inf for every token");
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)x[i] - (double)most);
    *log_sum = (double)most + log(sum);
    return QN_OK;
}

qn_code qn_score_token(const float *logits, const float *ref, uint32_t n_vocab, uint32_t target, qn_token_score *s, qn_err *err)
{
    *s = (qn_token_score){0};
    double lq, lp;
    uint32_t tq, tp;
    QN_TRY(norm(logits, n_vocab, &lq, &tq, err));
    s->nll = lq - (double)logits[target];
    s->top = tq == target;
    if (!ref)
        return QN_OK;
    QN_TRY(norm(ref, n_vocab, &lp, &tp, err));
    s->nll_ref = lp - (double)ref[target];
    s->same_top = tp == tq;
    s->dp = exp(-s->nll) - exp(-s->nll_ref);
    double kl = 0;
    for (uint32_t i = 0; i < n_vocab; i++) {
        const double a = (double)ref[i] - lp, b = (double)logits[i] - lq;
        if (a > -(double)INFINITY) /* p ln p → 0 */
            kl += exp(a) * (a - b);
    }
    s->kl = kl > 0 ? kl : 0; /* below 0 only by rounding */
    return QN_OK;
}

void qn_chunk_add(qn_chunk_score *c, const qn_token_score *s)
{
    c->n++;
    c->nll += s->nll;
    c->nll_ref += s->nll_ref;
    c->kl += s->kl;
    c->dp += s->dp;
    c->dp2 += s->dp * s->dp;
    c->n_top += s->top;
    c->n_same_top += s->same_top;
}

/* Student's t by bisection on the distribution function, which for whole df is a finite sum (Abramowitz and Stegun 26.7.3-4). */
static double student_inside(double t, uint64_t df)
{
    const double th = atan(t / sqrt((double)df)), c2 = cos(th) * cos(th);
    if (df == 1)
        return 2 * th / PI;
    double term = df % 2 ? cos(th) : 1, sum = term;
    for (uint64_t k = df % 2 ? 2 : 1; k + 2 <= df; k += 2) {
        term *= c2 * (double)k / (double)(k + 1);
        sum += term;
    }
    return df % 2 ? 2 / PI * (th + sin(th) * sum) : sin(th) * sum;
}

double qn_student95(uint64_t df)
{
    if (df > 10000)
        return 1.959963984540054; /* within 0.0003 */
    double lo = 1.9, hi = 13;
    for (int i = 0; i < 60; i++) {
        const double mid = (lo + hi) / 2;
        if (student_inside(mid, df) < 0.95)
            lo = mid;
        else
            hi = mid;
    }
    return (lo + hi) / 2;
}

static qn_estimate ratio(const qn_chunk_score *c, uint64_t m, double (*y)(const qn_chunk_score *, size_t), size_t at)
{
    double sum = 0, n = 0, dev = 0;
    for (uint64_t i = 0; i < m; i++) {
        sum += y(&c[i], at);
        n += (double)c[i].n;
    }
    qn_estimate e = {.value = sum / n, .se = (double)NAN, .low = (double)NAN, .high = (double)NAN};
    if (m < 2)
        return e;
    for (uint64_t i = 0; i < m; i++) {
        const double d = y(&c[i], at) - e.value * (double)c[i].n;
        dev += d * d;
    }
    e.se = sqrt((double)m / (double)(m - 1) * dev) / n;
    const double t = qn_student95(m - 1);
    e.low = e.value - t * e.se;
    e.high = e.value + t * e.se;
    return e;
}

static double field(const qn_chunk_score *c, size_t at)
{
    double v;
    memcpy(&v, (const char *)c + at, sizeof v);
    return v;
}

static double excess(const qn_chunk_score *c, size_t at)
{
    (void)at;
    return c->nll - c->nll_ref;
}

qn_estimate qn_mean_of(const qn_chunk_score *c, uint64_t n_chunks, size_t y)
{
    return ratio(c, n_chunks, field, y);
}

qn_estimate qn_mean_excess(const qn_chunk_score *c, uint64_t n_chunks)
{
    return ratio(c, n_chunks, excess, 0);
}

qn_estimate qn_exp_estimate(qn_estimate e)
{
    return (qn_estimate){.value = exp(e.value), .se = exp(e.value) * e.se, .low = exp(e.low), .high = exp(e.high)};
}

static double tops(const qn_chunk_score *c, size_t same)
{
    return (double)(same ? c->n_same_top : c->n_top);
}

qn_estimate qn_share_of(const qn_chunk_score *c, uint64_t n_chunks, bool same_top)
{
    qn_estimate e = ratio(c, n_chunks, tops, same_top);
    double n = 0;
    for (uint64_t i = 0; i < n_chunks; i++)
        n += (double)c[i].n;
    const double p = e.value, plain = p * (1 - p) / n;
    if (n_chunks < 2)
        return e;
    const double effect = plain > 0 ? fmax(1, e.se * e.se / plain) : 1, worth = n / effect, z = 1.959963984540054;
    const double mid = (p + z * z / (2 * worth)) / (1 + z * z / worth);
    const double half = z / (1 + z * z / worth) * sqrt(p * (1 - p) / worth + z * z / (4 * worth * worth));
    e.low = fmax(0, mid - half);
    e.high = fmin(1, mid + half);
    return e;
}

static void order(float *v, uint64_t lo, uint64_t hi, uint64_t k)
{
    /* Quickselect (Hoare 1961): v[k] is what it would be if [lo, hi] were sorted. */
    while (lo < hi) {
        const float pivot = v[lo + (hi - lo) / 2];
        uint64_t i = lo, j = hi;
        for (;;) {
            while (v[i] < pivot)
                i++;
            while (v[j] > pivot)
                j--;
            if (i >= j)
                break;
            const float swap = v[i];
            v[i++] = v[j];
            v[j--] = swap;
        }
        if (k <= j)
            hi = j;
        else
            lo = j + 1;
    }
}

double qn_quantile(float *v, uint64_t n, double q)
{
    if (!n)
        return (double)NAN;
    const double at = q * (double)(n - 1);
    const uint64_t k = (uint64_t)at;
    order(v, 0, n - 1, k);
    const double a = (double)v[k];
    if (k + 1 >= n)
        return a;
    float next = v[k + 1];
    for (uint64_t i = k + 2; i < n; i++)
        next = v[i] < next ? v[i] : next;
    return a + (at - (double)k) * ((double)next - a);
}
