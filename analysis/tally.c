/* tally.c: see tally.h. Numbers (counts, moments) here; what is read off the bits is in tally_bits.c. */
#include "analysis/tally.h"
#include "analysis/tally_impl.h"
#include "base/half.h"
#include "base/num.h"
#include "base/shape.h"
#include <float.h>
#include <math.h>
#include <string.h>

enum { BLOCK = 1024, LANES = 8 }; /* BLOCK: whole blocks of every block type too */

/* Smallest normal number of a float dtype; 0 where nothing is subnormal. */
static double min_normal(qn_dtype t)
{
    switch (t) {
    case QN_F4:
        return 1;
    case QN_F8_E4M3:
        return 0x1p-6;
    case QN_F8_E4M3FNUZ:
        return 0x1p-7;
    case QN_F8_E5M2:
    case QN_F16:
        return 0x1p-14;
    case QN_F8_E5M2FNUZ:
        return 0x1p-15;
    case QN_BF16:
    case QN_F32:
    case QN_C64:
        return 0x1p-126;
    case QN_F64:
        return DBL_MIN;
    default:
        return 0;
    }
}

void qn_tally_begin(qn_tally *t, qn_dtype dtype)
{
    memset(t, 0, sizeof *t);
    t->dtype = dtype;
    t->s.numeric = dtype != QN_BYTES && dtype != QN_F6_E2M3 && dtype != QN_F6_E3M2;
    t->s.min = HUGE_VAL;
    t->s.max = -HUGE_VAL;
}

/* Returns how many values are finite. */
static uint64_t count_special(qn_tensor_stats *s, const double *v, uint64_t n, double tiny)
{
    uint64_t nan = 0, inf = 0, zero = 0, neg = 0, sub = 0;
    for (uint64_t i = 0; i < n; i++) {
        const double m = fabs(v[i]);
        nan += m <= HUGE_VAL ? 0u : 1u;
        inf += m > DBL_MAX;
        zero += m <= 0;
        sub += m < tiny;
    }
    if (zero)
        for (uint64_t i = 0; i < n; i++)
            neg += fabs(v[i]) <= 0 && signbit(v[i]);
    s->n_nan += nan;
    s->n_inf += inf;
    s->n_zero += zero;
    s->n_neg_zero += neg;
    s->n_subnormal += tiny > 0 ? sub - zero : 0;
    return n - nan - inf;
}

static void keep_finite(double *v, uint64_t n)
{
    for (uint64_t i = 0, k = 0; i < n; i++)
        if (fabs(v[i]) <= DBL_MAX)
            v[k++] = v[i];
}

static double add_lanes(const double lane[LANES])
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* Σv and the range, in lanes. */
static double sum_and_range(const double *v, uint64_t n, double *min, double *max)
{
    double lane[LANES] = {0}, lo[LANES], hi[LANES];
    for (unsigned l = 0; l < LANES; l++)
        lo[l] = *min, hi[l] = *max;
    uint64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (unsigned l = 0; l < LANES; l++) {
            const double x = v[i + l];
            lane[l] += x;
            lo[l] = x < lo[l] ? x : lo[l];
            hi[l] = x > hi[l] ? x : hi[l];
        }
    for (unsigned l = 0; i + l < n; l++) {
        const double x = v[i + l];
        lane[l] += x;
        lo[l] = x < lo[l] ? x : lo[l];
        hi[l] = x > hi[l] ? x : hi[l];
    }
    for (unsigned l = 0; l < LANES; l++) {
        *min = lo[l] < *min ? lo[l] : *min;
        *max = hi[l] > *max ? hi[l] : *max;
    }
    return add_lanes(lane);
}

static double sum_of_squares(const double *v, uint64_t n, double centre)
{
    double lane[LANES] = {0};
    uint64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (unsigned l = 0; l < LANES; l++)
            lane[l] += (v[i + l] - centre) * (v[i + l] - centre);
    for (unsigned l = 0; i + l < n; l++)
        lane[l] += (v[i + l] - centre) * (v[i + l] - centre);
    return add_lanes(lane);
}

/* Mean and spread of two sets together (Chan, Golub, LeVeque 1979): no cancellation of large squares. */
static void join(qn_tally *t, uint64_t n, double mean, double m2)
{
    if (n == 0)
        return;
    const double na = (double)t->s.n_finite, nb = (double)n, total = na + nb, delta = mean - t->s.mean;
    t->s.mean += delta * (nb / total);
    t->m2 += m2 + delta * delta * (na * nb / total);
    t->s.n_finite += n;
}

static void add_numbers(qn_tally *t, double *v, uint64_t n, double tiny)
{
    const uint64_t n_finite = count_special(&t->s, v, n, tiny);
    if (n_finite < n)
        keep_finite(v, n);
    if (n_finite == 0)
        return;
    const double mean = sum_and_range(v, n_finite, &t->s.min, &t->s.max) / (double)n_finite;
    join(t, n_finite, mean, sum_of_squares(v, n_finite, mean));
}

qn_code qn_tally_piece(qn_tally *t, const uint8_t *p, uint64_t n_bytes, qn_err *err)
{
    const unsigned per = t->dtype == QN_C64 ? 2 : 1;
    const uint64_t n = qn_elems_of_bytes(t->dtype, n_bytes) * per;
    t->s.n_values = n;
    qn_tally_bits(t, p, n_bytes);
    if (!t->s.numeric)
        return QN_OK;
    double v[BLOCK];
    for (uint64_t i = 0; i < n; i += BLOCK) {
        const uint64_t m = qn_min_u64(BLOCK, n - i);
        const qn_code rc = qn_widen(t->dtype, p + qn_bytes_of_elems(t->dtype, i / per), m / per, v, err);
        if (rc != QN_OK)
            return rc;
        add_numbers(t, v, m, min_normal(t->dtype));
    }
    return QN_OK;
}

void qn_tally_merge(qn_tally *t, const qn_tally *p)
{
    t->s.n_values += p->s.n_values;
    t->s.n_nan += p->s.n_nan;
    t->s.n_inf += p->s.n_inf;
    t->s.n_zero += p->s.n_zero;
    t->s.n_neg_zero += p->s.n_neg_zero;
    t->s.n_subnormal += p->s.n_subnormal;
    t->s.min = p->s.min < t->s.min ? p->s.min : t->s.min;
    t->s.max = p->s.max > t->s.max ? p->s.max : t->s.max;
    join(t, p->s.n_finite, p->s.mean, p->m2);
    qn_tally_merge_bits(t, p);
}

void qn_tally_finish(const qn_tally *t, qn_tensor_stats *out)
{
    *out = t->s;
    if (t->s.n_finite == 0)
        out->min = out->max = 0;
    out->abs_max = fmax(fabs(out->min), fabs(out->max));
    out->std = t->s.n_finite ? sqrt(t->m2 / (double)t->s.n_finite) : 0;
    qn_tally_finish_bits(t, out);
}
