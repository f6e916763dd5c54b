/* gram.c: see gram.h. */
#include "analysis/stats/gram.h"
#include "base/alloc.h"
#include "base/err.h"
#include "base/num.h"
#include "base/threads.h"
#include <cblas.h>
#include <float.h>
#include <math.h>

enum { T = QN_GRAM_TILE, K = QN_GRAM_ROWS };

/* A product of f32 values up to BIG is summed K times without overflow; products of values from TINY up keep all their
 * bits: 2^(56·2) · 32 < 2^127, 2^(−58·2) > 2^−126. */
#define BIG  0x1p56f
#define TINY 0x1p-58f

struct look {
    const float *x;
    uint64_t rows, ld;
    uint32_t n;
    const qn_gram_vectors *v;
    uint64_t *bad; /* one a panel */
};

static uint64_t first_bad(const struct look *k, uint32_t from, uint32_t to)
{
    for (uint64_t r = 0; r < k->rows; r++)
        for (uint32_t c = from; c < to; c++)
            if (!isfinite(k->x[r * k->ld + c]))
                return r * k->n + c;
    return UINT64_MAX;
}

/* Plain loops over w ≤ T columns with everything in small arrays, which compilers turn into SIMD. */
static qn_code look_panel(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    const struct look *k = ctx;
    const uint32_t from = (uint32_t)task * T, w = k->n - from < T ? k->n - from : T;
    double sum[T] = {0}, sum_abs[T] = {0}, sum_sq[T] = {0};
    float lo[T], hi[T];
    (void)slot;
    (void)err;
    for (uint32_t c = 0; c < T; c++) {
        lo[c] = INFINITY;
        hi[c] = -INFINITY;
    }
    for (uint64_t r = 0; r < k->rows; r++) {
        const float *row = k->x + r * k->ld + from;
        for (uint32_t c = 0; c < w; c++) {
            const float f = row[c];
            const double d = (double)f;
            sum[c] += d;
            sum_abs[c] += fabs(d);
            sum_sq[c] += d * d;
            lo[c] = f < lo[c] ? f : lo[c];
            hi[c] = f > hi[c] ? f : hi[c];
        }
    }
    /* a NaN stays in its sums whatever follows, an infinity in sum_abs; finite f32 squares cannot overflow f64 */
    bool finite = true;
    for (uint32_t c = 0; c < w; c++) {
        k->v->sum_sq[from + c] = sum_sq[c];
        finite = finite && isfinite(sum_abs[c]);
        if (k->v->sum) {
            k->v->sum[from + c] = sum[c];
            k->v->sum_abs[from + c] = sum_abs[c];
        }
        if (k->v->min) {
            k->v->min[from + c] = lo[c];
            k->v->max[from + c] = hi[c];
        }
    }
    k->bad[task] = finite ? UINT64_MAX : first_bad(k, from, from + w);
    return QN_OK;
}

qn_code qn_gram_look(const qn_env *env, const float *x, uint64_t rows, uint64_t ld, uint32_t n, const qn_gram_vectors *v,
                     uint64_t *bad, qn_err *err)
{
    const uint64_t n_panels = qn_ceil_div(n, T);
    struct look k = {.x = x, .rows = rows, .ld = ld, .n = n, .v = v};
    const qn_job job = {.work = look_panel, .ctx = &k};
    const bool small = rows * n < 1 << 16; /* a thread would cost more than it brings */
    *bad = UINT64_MAX;
    if (n == 0)
        return QN_OK;
    k.bad = qn_mem_get(env->alloc, n_panels * sizeof *k.bad, err);
    if (!k.bad)
        return QN_E_MEMORY;
    const qn_code rc = qn_run(env, &job, n_panels, small ? 1 : env->n_threads, err);
    for (uint64_t p = 0; p < n_panels && rc == QN_OK; p++)
        *bad = qn_min_u64(*bad, k.bad[p]);
    qn_mem_put(env->alloc, k.bad);
    return rc;
}

/* Rows of a panel are n − pT long: before panel p lie Σ_{q<p} T (n − qT) elements. */
static uint64_t panel_at(uint64_t n, uint64_t p)
{
    return T * (p * n - T * (p * (p - (p > 0)) / 2));
}

uint64_t qn_gram_size(uint32_t n)
{
    if (n == 0)
        return 0;
    const uint64_t last = (n - 1) / T, rows = n - last * T;
    return panel_at(n, last) + rows * rows;
}

uint64_t qn_gram_at(uint32_t n, uint32_t i, uint32_t j)
{
    const uint64_t p = i / T, width = n - p * T;
    return panel_at(n, p) + (i - p * T) * width + (j - p * T);
}

struct add {
    const float *x;
    uint64_t rows, ld;
    uint32_t n, n_panels;
    unsigned cpu;
    const bool *plain; /* panels that f32 suits */
    double *h;
    struct scratch {
        float c[T * T];
        double d[T * T], a[K * T], b[K * T];
    } *scratch; /* one a slot */
};

/* Task number → tile: row panel i, column panel j ≥ i, rows of tiles one after another. */
static void tile_of(uint64_t task, uint32_t n_panels, uint32_t *i, uint32_t *j)
{
    *i = 0;
    while (task >= n_panels - *i)
        task -= n_panels - (*i)++;
    *j = *i + (uint32_t)task;
}

/* Element by element, so that wider registers change no bit. */
static inline __attribute__((always_inline)) void add_body(double *h, uint64_t ldh, const float *c, uint32_t wi, uint32_t wj)
{
    for (uint32_t i = 0; i < wi; i++)
        for (uint32_t j = 0; j < wj; j++)
            h[i * ldh + j] += (double)c[i * T + j];
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2"))) static void add_avx2(double *h, uint64_t ldh, const float *c, uint32_t wi, uint32_t wj)
{
    add_body(h, ldh, c, wi, wj);
}
#endif

static void add_narrow(unsigned cpu, double *h, uint64_t ldh, const float *c, uint32_t wi, uint32_t wj)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2) {
        add_avx2(h, ldh, c, wi, wj);
        return;
    }
#endif
    (void)cpu;
    add_body(h, ldh, c, wi, wj);
}

static void add_wide(double *h, uint64_t ldh, const double *c, uint32_t wi, uint32_t wj)
{
    for (uint32_t i = 0; i < wi; i++)
        for (uint32_t j = 0; j < wj; j++)
            h[i * ldh + j] += c[i * T + j];
}

static void widen(double *dst, const float *src, uint64_t ld, uint64_t rows, uint32_t w)
{
    for (uint64_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < w; c++)
            dst[r * T + c] = (double)src[r * ld + c];
}

static qn_code add_tile(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    const struct add *a = ctx;
    struct scratch *s = &a->scratch[slot];
    uint32_t pi, pj;
    tile_of(task, a->n_panels, &pi, &pj);
    const uint32_t i = pi * T, j = pj * T, wi = a->n - i < T ? a->n - i : T, wj = a->n - j < T ? a->n - j : T;
    const uint64_t ldh = a->n - i;
    double *h = a->h + qn_gram_at(a->n, i, j);
    (void)err;
    for (uint64_t r = 0; r < a->rows; r += K) {
        const uint64_t k = qn_min_u64(K, a->rows - r);
        const float *xi = a->x + r * a->ld + i, *xj = a->x + r * a->ld + j;
        if (a->plain[pi] && a->plain[pj]) {
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)wi, (blasint)wj, (blasint)k, 1, xi,
                        (blasint)a->ld, xj, (blasint)a->ld, 0, s->c, T);
            add_narrow(a->cpu, h, ldh, s->c, wi, wj);
        } else {
            widen(s->a, xi, a->ld, k, wi);
            widen(s->b, xj, a->ld, k, wj);
            cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)wi, (blasint)wj, (blasint)k, 1, s->a, T, s->b, T, 0,
                        s->d, T);
            add_wide(h, ldh, s->d, wi, wj);
        }
    }
    return QN_OK;
}

static void judge_panels(bool *plain, uint32_t n, const qn_gram_vectors *batch)
{
    for (uint32_t c = 0; c < n; c++) {
        const float most = fmaxf(-batch->min[c], batch->max[c]);
        if (c % T == 0)
            plain[c / T] = true;
        if (most > BIG || (most > 0 && most < TINY))
            plain[c / T] = false;
    }
}

qn_code qn_gram_add(const qn_env *env, const float *x, uint64_t rows, uint64_t ld, uint32_t n, const qn_gram_vectors *batch,
                    double *h, qn_err *err)
{
    const uint32_t n_panels = (uint32_t)qn_ceil_div(n, T);
    const uint64_t n_tiles = (uint64_t)n_panels * (n_panels + 1) / 2;
    const unsigned n_slots = rows < K ? 1 : (unsigned)qn_max_u64(1, qn_min_u64(env->n_threads, n_tiles));
    if (n == 0 || rows == 0)
        return QN_OK;
    if (ld > INT32_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "rows of %llu values: below 2^31 are allowed",
                       (unsigned long long)ld);
    bool *plain = qn_mem_get(env->alloc, n_panels * sizeof *plain, err);
    struct add a = {.x = x, .rows = rows, .ld = ld, .n = n, .n_panels = n_panels, .cpu = env->cpu, .plain = plain, .h = h};
    a.scratch = plain ? qn_mem_get(env->alloc, n_slots * sizeof *a.scratch, err) : NULL;
    const qn_job job = {.work = add_tile, .ctx = &a};
    qn_code rc = QN_E_MEMORY;
    if (a.scratch) {
        openblas_set_num_threads(1);
        judge_panels(plain, n, batch);
        rc = qn_run(env, &job, n_tiles, n_slots, err);
    }
    qn_mem_put(env->alloc, a.scratch);
    qn_mem_put(env->alloc, plain);
    return rc;
}
