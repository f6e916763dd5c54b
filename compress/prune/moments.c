/* moments.c: see moments.h. */
#include "compress/prune/moments.h"
#include "base/err.h"
#include "base/num.h"
#include <cblas.h>
#include <math.h>
#include <string.h>

enum { TILE = 256, PANEL = 512 }; /* columns of a task; rows that are widened at a time */

qn_code qn_moments_new(qn_moments *s, const qn_alloc *alloc, uint32_t d, uint32_t m, qn_err *err)
{
    const uint64_t n = (uint64_t)d + 1;
    *s = (qn_moments){.alloc = alloc, .d = d, .m = m};
    s->g = qn_mem_zeros(alloc, n * n, sizeof *s->g, err);
    s->c = s->g ? qn_mem_zeros(alloc, n * m + 1, sizeof *s->c, err) : NULL;
    if (s->c)
        return QN_OK;
    qn_moments_release(s);
    return QN_E_MEMORY;
}

void qn_moments_release(qn_moments *s)
{
    if (s->alloc || s->g) {
        qn_mem_put(s->alloc, s->g);
        qn_mem_put(s->alloc, s->c);
    }
    *s = (qn_moments){0};
}

uint64_t qn_moments_bytes(uint32_t d, uint32_t m)
{
    const uint64_t n = (uint64_t)d + 1;
    return (n * n + n * m + PANEL * (n + m)) * sizeof(double);
}

struct add {
    qn_moments *s;
    const double *x, *y;
    uint64_t rows, n_tiles, n_lower, m_tiles;
};

/* Tasks: tiles of the lower triangle, then those of x yᵀ. */
static qn_code add_tile(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct add *a = ctx;
    const uint64_t n = (uint64_t)a->s->d + 1, m = a->s->m;
    if (i < a->n_lower) {
        uint64_t r = 0;
        while (i > r)
            i -= ++r;
        const uint64_t i0 = r * TILE, j0 = i * TILE;
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)qn_min_u64(TILE, n - i0), (blasint)qn_min_u64(TILE, n - j0),
                    (blasint)a->rows, 1, a->x + i0, (blasint)n, a->x + j0, (blasint)n, 1, a->s->g + i0 * n + j0, (blasint)n);
        return QN_OK;
    }
    i -= a->n_lower;
    const uint64_t i0 = i / a->m_tiles * TILE, j0 = i % a->m_tiles * TILE;
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)qn_min_u64(TILE, n - i0), (blasint)qn_min_u64(TILE, m - j0), (blasint)a->rows,
                1, a->x + i0, (blasint)n, a->y + j0, (blasint)m, 1, a->s->c + i0 * m + j0, (blasint)m);
    return QN_OK;
}

qn_code qn_moments_add(qn_moments *s, qn_team *team, const float *x, const float *y, uint64_t rows, qn_err *err)
{
    const uint64_t n = (uint64_t)s->d + 1, m = s->m;
    double *px = qn_mem_get(s->alloc, PANEL * n * sizeof *px, err);
    double *py = px ? qn_mem_get(s->alloc, (PANEL * m + 1) * sizeof *py, err) : NULL;
    qn_code rc = py ? QN_OK : QN_E_MEMORY;
    struct add a = {.s = s, .x = px, .y = py, .n_tiles = qn_ceil_div(n, TILE), .m_tiles = qn_ceil_div(m, TILE)};
    a.n_lower = a.n_tiles * (a.n_tiles + 1) / 2;
    for (uint64_t r = 0; r < rows && rc == QN_OK; r += PANEL) {
        a.rows = qn_min_u64(PANEL, rows - r);
        for (uint64_t i = 0; i < a.rows; i++) {
            for (uint64_t k = 0; k < s->d; k++)
                px[i * n + k] = (double)x[(r + i) * s->d + k];
            px[i * n + s->d] = 1;
            for (uint64_t k = 0; k < m; k++) {
                py[i * m + k] = (double)y[(r + i) * m + k];
                s->yy += py[i * m + k] * py[i * m + k];
            }
        }
        rc = qn_team_run(team, a.n_lower + a.n_tiles * a.m_tiles, add_tile, &a, err);
        s->n += a.rows;
    }
    qn_mem_put(s->alloc, px);
    qn_mem_put(s->alloc, py);
    return rc;
}

bool qn_moments_finite(const qn_moments *s)
{
    const uint64_t n = (uint64_t)s->d + 1;
    bool ok = isfinite(s->yy) != 0;
    for (uint64_t i = 0; i < n; i++) /* what is infinite somewhere is so on the diagonal */
        ok &= isfinite(s->g[i * n + i]) != 0;
    return ok;
}

double qn_moments_second(const qn_moments *a, const qn_moments *b, bool centred, uint32_t i, uint32_t j)
{
    const uint64_t n = (uint64_t)a->d + 1, hi = i > j ? i : j, lo = i > j ? j : i, at = hi * n + lo, last = (n - 1) * n;
    double v = a->g[at], x = a->g[last + i], y = a->g[last + j], rows = (double)a->n;
    if (b) {
        v += b->g[at];
        x += b->g[last + i];
        y += b->g[last + j];
        rows += (double)b->n;
    }
    return centred && rows > 0 ? v - x * y / rows : v;
}

double qn_moments_energy(const qn_moments *a, const qn_moments *b, bool centred)
{
    const uint64_t last = (uint64_t)a->d * a->m;
    const double rows = (double)a->n + (b ? (double)b->n : 0);
    double v = a->yy + (b ? b->yy : 0);
    for (uint32_t k = 0; centred && rows > 0 && k < a->m; k++) {
        const double sum = a->c[last + k] + (b ? b->c[last + k] : 0);
        v -= sum * sum / rows;
    }
    return v > 0 ? v : 0;
}
