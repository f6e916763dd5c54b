/* errsum.c: see errsum.h. */
#include "analysis/errsum.h"
#include <float.h>
#include <math.h>

enum { LANES = 8 };

static bool all_finite(const double *a, const double *b, uint64_t n)
{
    int bad = 0;
    for (uint64_t i = 0; i < n; i++)
        bad |= !(fabs(a[i]) <= DBL_MAX) | !(fabs(b[i]) <= DBL_MAX);
    return !bad;
}

/* Counts pairs with a NaN or an Inf and makes them (0, 0), which adds nothing to any sum. */
static void set_aside(qn_errsum *s, double *a, double *b, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (isfinite(a[i]) && isfinite(b[i]))
            continue;
        s->n_finite--;
        if (isnan(a[i]) || isnan(b[i]))
            s->n_nan_mismatch += !isnan(a[i]) || !isnan(b[i]);
        else
            s->n_inf_mismatch += !(a[i] >= b[i] && a[i] <= b[i]);
        a[i] = b[i] = 0;
    }
}

static double sum_lanes(const double v[LANES])
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

static double max_lanes(const double v[LANES])
{
    double m = v[0];
    for (unsigned l = 1; l < LANES; l++)
        m = v[l] > m ? v[l] : m;
    return m;
}

void qn_errsum_add(qn_errsum *s, double *a, double *b, uint64_t n, uint64_t at)
{
    double abs[LANES] = {0}, sq[LANES] = {0}, aa[LANES] = {0}, bb[LANES] = {0}, ab[LANES] = {0};
    double most[LANES] = {0}, rel[LANES] = {0};
    s->n += n;
    s->n_finite += n;
    if (!all_finite(a, b, n))
        set_aside(s, a, b, n);
    for (uint64_t i = 0; i < n; i += LANES) {
        const uint64_t w = n - i < LANES ? n - i : LANES;
        for (uint64_t l = 0; l < w; l++) {
            const double x = a[i + l], y = b[i + l], e = fabs(x - y), m = fabs(x), r = m > 0 ? e / m : 0;
            abs[l] += e;
            sq[l] += e * e;
            aa[l] += x * x;
            bb[l] += y * y;
            ab[l] += x * y;
            most[l] = e > most[l] ? e : most[l];
            rel[l] = r > rel[l] ? r : rel[l];
        }
    }
    s->abs += sum_lanes(abs);
    s->sq += sum_lanes(sq);
    s->aa += sum_lanes(aa);
    s->bb += sum_lanes(bb);
    s->ab += sum_lanes(ab);
    const double worst = max_lanes(most), worst_rel = max_lanes(rel);
    s->max_rel = worst_rel > s->max_rel ? worst_rel : s->max_rel;
    if (worst <= s->max_abs)
        return;
    s->max_abs = worst;
    for (uint64_t i = 0; i < n; i++)
        if (fabs(a[i] - b[i]) >= worst) {
            s->max_abs_at = at + i;
            break;
        }
}

void qn_errsum_merge(qn_errsum *s, const qn_errsum *p)
{
    s->n += p->n;
    s->n_finite += p->n_finite;
    s->n_nan_mismatch += p->n_nan_mismatch;
    s->n_inf_mismatch += p->n_inf_mismatch;
    s->abs += p->abs;
    s->sq += p->sq;
    s->aa += p->aa;
    s->bb += p->bb;
    s->ab += p->ab;
    s->max_rel = p->max_rel > s->max_rel ? p->max_rel : s->max_rel;
    if (p->max_abs > s->max_abs) {
        s->max_abs = p->max_abs;
        s->max_abs_at = p->max_abs_at;
    }
}

double qn_errsum_mean_abs(const qn_errsum *s)
{
    return s->n_finite ? s->abs / (double)s->n_finite : 0;
}

double qn_errsum_rms(const qn_errsum *s)
{
    return s->n_finite ? sqrt(s->sq / (double)s->n_finite) : 0;
}

double qn_errsum_rel_rms(const qn_errsum *s)
{
    if (!(s->sq > 0))
        return 0;
    return s->aa > 0 ? sqrt(s->sq / s->aa) : HUGE_VAL;
}

double qn_errsum_cosine(const qn_errsum *s)
{
    if (!(s->aa > 0) || !(s->bb > 0))
        return s->aa > 0 || s->bb > 0 ? 0 : 1;
    const double c = s->ab / (sqrt(s->aa) * sqrt(s->bb));
    return c > 1 ? 1 : c < -1 ? -1 : c;
}

double qn_errsum_sqnr_db(const qn_errsum *s)
{
    if (!(s->sq > 0))
        return HUGE_VAL;
    return s->aa > 0 ? 10 * log10(s->aa / s->sq) : -HUGE_VAL;
}
