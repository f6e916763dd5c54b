/* noise.c: see noise.h. In f64; tiles of rows do not depend on the number of threads. */
#include "analysis/calibrate/noise.h"
#include "base/err.h"
#include "base/num.h"
#include "base/random.h"
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

enum { TILE_ROWS = 64 };
#define DAMPING 1e-3 /* over the mean of the diagonal: what the quantizers use */
#define DEAD    1e-12 /* over the largest element of the diagonal */

void qn_noise_release(qn_noise *s)
{
    qn_mem_put(s->env->alloc, s->factor);
    qn_mem_put(s->env->alloc, s->root);
    *s = (qn_noise){.env = s->env, .input = UINT32_MAX};
}

/* Diagonal → its roots, without what was never seen. Returns the mean of the others. */
static double look_at_diagonal(qn_noise *s)
{
    double most = 0, sum = 0;
    for (uint32_t j = 0; j < s->n; j++)
        most = fmax(most, s->root[j]);
    for (uint32_t j = 0; j < s->n; j++) {
        const double d = s->root[j];
        const bool live = d > 0 && d > DEAD * most;
        s->n_live += live;
        sum += live ? d : 0;
        s->root[j] = live ? sqrt(d) : 0;
    }
    return s->n_live ? sum / s->n_live : 0;
}

/* H → its factor in place; false when it has none. */
static bool factor(const qn_noise *s, double *h, double mean)
{
    const uint64_t n = s->n;
    for (uint64_t i = 0; i < n; i++) {
        for (uint64_t j = 0; j < n; j++)
            if (i != j && (s->root[i] == 0 || s->root[j] == 0))
                h[i * n + j] = 0;
        h[i * n + i] = s->root[i] == 0 ? 1 : h[i * n + i] + DAMPING * mean;
    }
    /* the lower triangle by rows is the upper one by columns, which LAPACK takes as it is */
    if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', (lapack_int)n, h, (lapack_int)n) != 0)
        return false;
    for (uint64_t i = 0; i < n; i++)
        if (!(h[i * n + i] > 0) || !isfinite(h[i * n + i]))
            return false;
    return true;
}

static qn_code prepare(qn_noise *s, const qn_stats_file *f, uint32_t input, qn_err *err)
{
    const qn_stats_input *in = &f->inputs[input];
    const qn_alloc *a = s->env->alloc;
    qn_stats_vectors v;
    s->n = in->n;
    s->root = qn_mem_get(a, in->n * sizeof *s->root, err);
    if (!s->root)
        return QN_E_MEMORY;
    QN_TRY(qn_stats_vectors_read(f, input, &v, err));
    memcpy(s->root, v.sum_sq, in->n * sizeof *s->root);
    qn_stats_vectors_release(f, &v);
    const double mean = look_at_diagonal(s);
    if (!(in->parts & QN_STATS_HAS_H) || s->n_live == 0)
        return QN_OK;
    s->factor = qn_mem_get(a, (uint64_t)in->n * in->n * sizeof *s->factor, err);
    if (!s->factor)
        return QN_E_MEMORY;
    QN_TRY(qn_stats_h_read_f64(f, input, s->factor, in->n, err));
    if (!factor(s, s->factor, mean)) {
        qn_mem_put(a, s->factor);
        s->factor = NULL;
    }
    return QN_OK;
}

qn_code qn_noise_prepare(qn_noise *s, const qn_stats_file *f, uint32_t input, qn_err *err)
{
    if (s->input == input)
        return QN_OK;
    qn_noise_release(s);
    const qn_code rc = prepare(s, f, input, err);
    if (rc == QN_OK)
        s->input = input;
    else
        qn_noise_release(s);
    return rc;
}

struct work {
    const qn_noise *s;
    float *w;
    double *energy; /* per tile */
    uint64_t n_out, step_out, step_in; /* an element of (out, in) is w[out · step_out + in · step_in] */
    uint64_t seed;
    double scale;
};

static uint64_t tile_of(const struct work *k, uint64_t tile, double **m, qn_err *err)
{
    const uint64_t first = tile * TILE_ROWS, rows = qn_min_u64(TILE_ROWS, k->n_out - first);
    *m = qn_mem_get(k->s->env->alloc, rows * k->s->n * sizeof **m, err);
    return rows;
}

/* tr(W H' Wᵀ) of a tile, = |W L|². */
static qn_code weigh(void *ctx, uint64_t tile, unsigned slot, qn_err *err)
{
    (void)slot;
    const struct work *k = ctx;
    const qn_noise *s = k->s;
    double *m;
    const uint64_t n = s->n, rows = tile_of(k, tile, &m, err);
    if (!m)
        return QN_E_MEMORY;
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t c = 0; c < n; c++) {
            const double v = (double)k->w[(tile * TILE_ROWS + r) * k->step_out + c * k->step_in];
            m[r * n + c] = s->root[c] == 0 ? 0 : s->factor ? v : v * s->root[c];
        }
    if (s->factor)
        cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, (blasint)rows, (blasint)n, 1, s->factor, (blasint)n, m,
                    (blasint)n);
    double sum = 0;
    for (uint64_t i = 0; i < rows * n; i++)
        sum += m[i] * m[i];
    k->energy[tile] = sum;
    qn_mem_put(s->env->alloc, m);
    return QN_OK;
}

/* A tile of random signs U, E = scale · U L⁻¹. */
static qn_code add(void *ctx, uint64_t tile, unsigned slot, qn_err *err)
{
    (void)slot;
    const struct work *k = ctx;
    const qn_noise *s = k->s;
    double *m;
    const uint64_t n = s->n, rows = tile_of(k, tile, &m, err);
    if (!m)
        return QN_E_MEMORY;
    for (uint64_t r = 0; r < rows; r++) {
        uint64_t state = k->seed + (tile * TILE_ROWS + r) * 0xd1342543de82ef95ull, bits = 0;
        for (uint64_t c = 0; c < n; c++, bits >>= 1) {
            if (c % 64 == 0)
                bits = qn_random(&state);
            m[r * n + c] = s->root[c] == 0 ? 0 : (bits & 1 ? k->scale : -k->scale) / (s->factor ? 1 : s->root[c]);
        }
    }
    if (s->factor)
        cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, (blasint)rows, (blasint)n, 1, s->factor, (blasint)n, m,
                    (blasint)n);
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t c = 0; c < n; c++) {
            float *w = &k->w[(tile * TILE_ROWS + r) * k->step_out + c * k->step_in];
            *w = (float)((double)*w + m[r * n + c]);
        }
    qn_mem_put(s->env->alloc, m);
    return QN_OK;
}

qn_code qn_noise_add(const qn_noise *s, qn_exec *x, float *w, uint64_t rows, uint64_t cols, bool in_out, uint64_t seed, double share,
                     bool *added, qn_err *err)
{
    struct work k = {.s = s, .w = w, .n_out = in_out ? cols : rows, .step_out = in_out ? 1 : cols, .step_in = in_out ? cols : 1, .seed = seed};
    const uint64_t n_tiles = qn_ceil_div(k.n_out, TILE_ROWS), ops = k.n_out * s->n * s->n;
    *added = false;
    if (s->n_live == 0 || n_tiles == 0)
        return QN_OK;
    k.energy = qn_mem_zeros(s->env->alloc, n_tiles, sizeof *k.energy, err);
    if (!k.energy)
        return QN_E_MEMORY;
    qn_code rc = qn_exec_parts(x, n_tiles, ops, weigh, &k, err);
    double all = 0;
    for (uint64_t i = 0; i < n_tiles; i++)
        all += k.energy[i];
    k.scale = sqrt(share * all / ((double)k.n_out * s->n_live));
    if (rc == QN_OK && k.scale > 0 && isfinite(k.scale)) {
        rc = qn_exec_parts(x, n_tiles, ops, add, &k, err);
        *added = rc == QN_OK;
    }
    qn_mem_put(s->env->alloc, k.energy);
    return rc;
}
