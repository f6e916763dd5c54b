/* ridge.c: see ridge.h. */
#include "compress/prune/ridge.h"
#include "base/err.h"
#include <cblas.h>
#include <inttypes.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

/* A column whose variance is below this share of its second moment is constant but for rounding. */
#define CONSTANT 1e-11

double qn_ridge_lambda(const qn_moments *a, const qn_moments *b, bool centred, double delta, uint8_t *dead)
{
    double sum = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->d; i++) {
        const double raw = qn_moments_second(a, b, false, i, i), v = qn_moments_second(a, b, centred, i, i);
        const bool none = !(raw > 0) || v <= CONSTANT * raw;
        if (dead)
            dead[i] = none;
        if (!none) {
            sum += v;
            n++;
        }
    }
    const double rows = (double)a->n + (b ? (double)b->n : 0);
    return n && rows > 0 ? delta * sum / n / rows : 0;
}

void qn_ridge_matrix(const qn_ridge *r, double *h)
{
    const uint64_t n = r->n_cols;
    const double rows = (double)r->a->n + (r->b ? (double)r->b->n : 0);
    for (uint64_t i = 0; i < n; i++)
        for (uint64_t j = 0; j <= i; j++) {
            const double v = qn_moments_second(r->a, r->b, r->centred, r->cols[i], r->cols[j]) / rows + (i == j ? r->lambda : 0);
            h[i * n + j] = v;
            h[j * n + i] = v;
        }
}

static double at(const double *a, const double *b, uint64_t i)
{
    return a[i] + (b ? b[i] : 0);
}

qn_code qn_ridge_solve(const qn_ridge *r, double *h, double *w, double *t, qn_err *err)
{
    const qn_moments *a = r->a, *b = r->b;
    const uint64_t n = r->n_cols, m = a->m, d = a->d, last = d * m;
    const double rows = (double)a->n + (b ? (double)b->n : 0);
    const double *bc = b ? b->c : NULL, *bg = b ? b->g + d * (d + 1) : NULL, *ag = a->g + d * (d + 1);
    openblas_set_num_threads(1);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t col = r->cols[i];
        const double mean = at(ag, bg, col) / rows;
        for (uint64_t k = 0; k < m; k++) {
            double v = at(a->c, bc, col * m + k);
            if (r->centred)
                v -= mean * at(a->c, bc, last + k);
            w[k * n + i] = v / rows + r->lambda * (double)r->old[k * d + col];
        }
    }
    /* the lower triangle by rows is the upper one by columns; rows of w are right sides */
    if (n && (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', (lapack_int)n, h, (lapack_int)n) != 0 || !isfinite(h[n * n - 1]) ||
              LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, 'U', (lapack_int)n, (lapack_int)m, h, (lapack_int)n, w, (lapack_int)n) != 0))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the second moment of %" PRIu64 " inputs has no factor", n);
    for (uint64_t k = 0; k < m; k++) {
        t[k] = 0;
        if (!r->centred)
            continue;
        double sum = at(a->c, bc, last + k);
        for (uint64_t i = 0; i < n; i++)
            sum -= w[k * n + i] * at(ag, bg, r->cols[i]);
        t[k] = sum / rows;
    }
    return QN_OK;
}

/* With W̃ = [W, t]: Σ y² − 2 ⟨W̃, (X̃Yᵀ)ᵀ⟩ + tr(W̃ X̃X̃ᵀ W̃ᵀ). */
qn_code qn_ridge_error(const qn_moments *s, const uint32_t *cols, uint32_t n_cols, const double *w, const double *t, double *out, qn_err *err)
{
    const uint64_t n = (uint64_t)n_cols + 1, m = s->m, ld = (uint64_t)s->d + 1;
    double *g = qn_mem_get(s->alloc, n * n * sizeof *g, err);
    double *a = g ? qn_mem_get(s->alloc, (n * m + 1) * sizeof *a, err) : NULL;
    double *ag = a ? qn_mem_get(s->alloc, (n * m + 1) * sizeof *ag, err) : NULL;
    if (!ag) {
        qn_mem_put(s->alloc, g);
        qn_mem_put(s->alloc, a);
        return QN_E_MEMORY;
    }
    openblas_set_num_threads(1);
    double sum = s->yy;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t ci = i < n_cols ? cols[i] : s->d;
        for (uint64_t j = 0; j <= i; j++)
            g[i * n + j] = s->g[ci * ld + (j < n_cols ? cols[j] : s->d)];
        for (uint64_t k = 0; k < m; k++) {
            a[k * n + i] = i < n_cols ? w[k * n_cols + i] : t[k];
            sum -= 2 * a[k * n + i] * s->c[ci * m + k];
        }
    }
    cblas_dsymm(CblasRowMajor, CblasRight, CblasLower, (blasint)m, (blasint)n, 1, g, (blasint)n, a, (blasint)n, 0, ag, (blasint)n);
    for (uint64_t i = 0; i < n * m; i++)
        sum += a[i] * ag[i];
    *out = sum > 0 ? sum : 0;
    qn_mem_put(s->alloc, g);
    qn_mem_put(s->alloc, a);
    qn_mem_put(s->alloc, ag);
    return QN_OK;
}
