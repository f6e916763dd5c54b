/* obs.c: see obs.h. Everything is f64: f32 loses the inverse at condition numbers that real layers have. */
#include "compress/prune/obs.h"
#include "base/err.h"
#include <cblas.h>
#include <inttypes.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

enum {
    FLUSH = 192,   /* rows of updates that may be put off */
    EVERY = 256,
    SMALL = 24     /* blocks up to this are factored by loops of our own: a call would cost more */
};
#define NO_PLACE UINT32_MAX

/* One reader on the way. Matrices are a × a, row-major, of which the lower triangle counts; a shrinks. */
struct state {
    const qn_obs_reader *r;
    uint32_t a;           /* columns that are still in the matrices, dead ones not yet taken out among them */
    uint32_t *place;      /* per column of the reader: its row, or NO_PLACE                                 */
    uint32_t *column;     /* per row                                                                         */
    double *hi, *mm;      /* H⁻¹ and WᵀW as of the last flush                                                 */
    double *v, *p;        /* n_put × a: now H⁻¹ − vᵀv and WᵀW − pᵀv − vᵀp                                     */
    uint32_t n_put, cap_put, widest;
    double **hi_bb, **m_bb; /* per group: the blocks as they are now, b × b                                 */
    double *blocks, *work;
};

struct greedy {
    const qn_obs_job *job;
    struct state *s;
    uint8_t *gone;
    uint32_t n_gone;
};

static uint32_t block(const qn_obs_reader *r, uint32_t g)
{
    return r->start[g + 1] - r->start[g];
}

static uint32_t widest(const qn_obs_reader *r, uint32_t n_groups)
{
    uint32_t b = 1;
    for (uint32_t g = 0; g < n_groups; g++)
        b = block(r, g) > b ? block(r, g) : b;
    return b;
}

static double lower(const double *a, uint32_t n, uint32_t i, uint32_t j)
{
    return i >= j ? a[(uint64_t)i * n + j] : a[(uint64_t)j * n + i];
}

/* Lower factor of a b × b matrix in place, row-major. False: not positive. */
static bool factor(double *x, uint32_t b)
{
    if (b > SMALL) {
        if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', (lapack_int)b, x, (lapack_int)b) != 0)
            return false;
        return isfinite(x[(uint64_t)b * b - 1]) != 0;
    }
    for (uint32_t j = 0; j < b; j++) {
        double d = x[j * b + j];
        for (uint32_t k = 0; k < j; k++)
            d -= x[j * b + k] * x[j * b + k];
        if (!(d > 0) || !isfinite(d))
            return false;
        const double root = sqrt(d);
        x[j * b + j] = root;
        for (uint32_t i = j + 1; i < b; i++) {
            double t = x[i * b + j];
            for (uint32_t k = 0; k < j; k++)
                t -= x[i * b + k] * x[j * b + k];
            x[i * b + j] = t / root;
        }
    }
    return true;
}

/* tr(A⁻¹ M), A given by its factor: Σ over columns of ‖…‖ would need M's root, so two solves. m is destroyed. */
static double trace_solved(const double *l, double *m, uint32_t b)
{
    double sum = 0;
    if (b > SMALL) {
        cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, (blasint)b, (blasint)b, 1, l, (blasint)b, m, (blasint)b);
        cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, (blasint)b, (blasint)b, 1, l, (blasint)b, m, (blasint)b);
        for (uint32_t i = 0; i < b; i++)
            sum += m[(uint64_t)i * b + i];
        return sum;
    }
    for (uint32_t i = 0; i < b; i++) { /* m ← L⁻¹ m, row by row */
        for (uint32_t k = 0; k < i; k++)
            for (uint32_t c = 0; c < b; c++)
                m[i * b + c] -= l[i * b + k] * m[k * b + c];
        for (uint32_t c = 0; c < b; c++)
            m[i * b + c] /= l[i * b + i];
    }
    for (uint32_t r = 0; r < b; r++) { /* the diagonal of m L⁻ᵀ: rows of it, each up to its diagonal element */
        for (uint32_t c = 0; c <= r; c++) {
            double t = m[r * b + c];
            for (uint32_t k = 0; k < c; k++)
                t -= m[r * b + k] * l[c * b + k];
            m[r * b + c] = t / l[c * b + c];
        }
        sum += m[r * b + r];
    }
    return sum;
}

static bool score(const struct state *s, uint32_t g, double *out)
{
    const uint32_t b = block(s->r, g);
    *out = 0;
    if (b == 0)
        return true;
    if (b == 1) {
        *out = s->m_bb[g][0] / s->hi_bb[g][0];
        return s->hi_bb[g][0] > 0 && isfinite(*out);
    }
    double *l = s->work, *m = l + (uint64_t)b * b;
    memcpy(l, s->hi_bb[g], (uint64_t)b * b * sizeof *l);
    memcpy(m, s->m_bb[g], (uint64_t)b * b * sizeof *m);
    if (!factor(l, b))
        return false;
    *out = trace_solved(l, m, b);
    return isfinite(*out) != 0;
}

/* The current rows `at` of H⁻¹ and of WᵀW. */
static void rows_now(const struct state *s, const uint32_t *at, uint32_t b, double *h, double *m, double *pick)
{
    const uint32_t a = s->a;
    for (uint32_t i = 0; i < b; i++) {
        double *hr = h + (uint64_t)i * a, *mr = m + (uint64_t)i * a;
        const uint64_t row = (uint64_t)at[i] * a;
        memcpy(hr, s->hi + row, ((uint64_t)at[i] + 1) * sizeof *hr);
        memcpy(mr, s->mm + row, ((uint64_t)at[i] + 1) * sizeof *mr);
        for (uint32_t j = at[i] + 1; j < a; j++) {
            hr[j] = s->hi[(uint64_t)j * a + at[i]];
            mr[j] = s->mm[(uint64_t)j * a + at[i]];
        }
    }
    if (!s->n_put)
        return;
    double *vb = pick, *pb = pick + (uint64_t)s->n_put * b; /* n_put × b: the columns of v and p */
    for (uint32_t k = 0; k < s->n_put; k++)
        for (uint32_t i = 0; i < b; i++) {
            vb[(uint64_t)k * b + i] = s->v[(uint64_t)k * a + at[i]];
            pb[(uint64_t)k * b + i] = s->p[(uint64_t)k * a + at[i]];
        }
    const blasint nb = (blasint)b, na = (blasint)a, nk = (blasint)s->n_put;
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, nb, na, nk, -1, vb, nb, s->v, na, 1, h, na);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, nb, na, nk, -1, pb, nb, s->v, na, 1, m, na);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, nb, na, nk, -1, vb, nb, s->p, na, 1, m, na);
}

/* Blocks on the diagonal after n new rows v, p. */
static void follow(struct greedy *g, struct state *s, const double *v, const double *p, uint32_t n)
{
    const uint32_t a = s->a;
    for (uint32_t k = 0; k < g->job->n_groups; k++) {
        const uint32_t b = block(s->r, k), *cols = s->r->cols + s->r->start[k];
        double *h = s->hi_bb[k], *m = s->m_bb[k];
        if (g->gone[k] || b == 0)
            continue;
        for (uint32_t r = 0; r < n; r++) {
            const double *vr = v + (uint64_t)r * a, *pr = p + (uint64_t)r * a;
            double *x = s->work, *y = x + b;
            for (uint32_t i = 0; i < b; i++) {
                x[i] = vr[s->place[cols[i]]];
                y[i] = pr[s->place[cols[i]]];
            }
            for (uint32_t i = 0; i < b; i++)
                for (uint32_t j = 0; j < b; j++) {
                    h[(uint64_t)i * b + j] -= x[i] * x[j];
                    m[(uint64_t)i * b + j] -= y[i] * x[j] + x[i] * y[j];
                }
        }
    }
}

/* Takes group k out of one reader. False: the block is not positive any more. *rise: what it costs there. */
static bool take_out(struct greedy *g, struct state *s, uint32_t k, double *rise)
{
    const uint32_t b = block(s->r, k), a = s->a, *cols = s->r->cols + s->r->start[k];
    *rise = 0;
    if (b == 0)
        return true;
    double *v = s->v + (uint64_t)s->n_put * a, *p = s->p + (uint64_t)s->n_put * a;
    double *l = s->work, *zz = l + (uint64_t)b * b, *pick = zz + (uint64_t)b * b;
    uint32_t *at = (uint32_t *)(pick + 2 * (uint64_t)s->cap_put * b);
    for (uint32_t i = 0; i < b; i++)
        at[i] = s->place[cols[i]];
    rows_now(s, at, b, v, p, pick);
    for (uint32_t i = 0; i < b; i++)
        for (uint32_t j = 0; j < b; j++) {
            l[(uint64_t)i * b + j] = 0.5 * (v[(uint64_t)i * a + at[j]] + v[(uint64_t)j * a + at[i]]);
            zz[(uint64_t)i * b + j] = 0.5 * (p[(uint64_t)i * a + at[j]] + p[(uint64_t)j * a + at[i]]);
        }
    if (!factor(l, b))
        return false;
    const blasint nb = (blasint)b, na = (blasint)a;
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, nb, na, 1, l, nb, v, na);
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, nb, na, 1, l, nb, p, na);
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, nb, nb, 1, l, nb, zz, nb);
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, nb, nb, 1, l, nb, zz, nb);
    for (uint32_t i = 0; i < b; i++)
        *rise += zz[(uint64_t)i * b + i];
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, nb, na, nb, -0.5, zz, nb, v, na, 1, p, na);
    g->gone[k] = 1;
    follow(g, s, v, p, b);
    g->gone[k] = 0; /* until all readers have let it go */
    s->n_put += b;
    return true;
}

/* Puts off no longer, and drops what has gone from the matrices. */
static void flush(struct greedy *g, struct state *s)
{
    const uint32_t a = s->a;
    if (s->n_put) {
        const blasint na = (blasint)a, nk = (blasint)s->n_put;
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, na, nk, -1, s->v, na, 1, s->hi, na);
        cblas_dsyr2k(CblasRowMajor, CblasLower, CblasTrans, na, nk, -1, s->p, na, s->v, na, 1, s->mm, na);
    }
    s->n_put = 0;
    for (uint32_t k = 0; k < g->job->n_groups; k++)
        for (uint32_t i = s->r->start[k]; g->gone[k] && i < s->r->start[k + 1]; i++)
            s->place[s->r->cols[i]] = NO_PLACE;
    uint32_t n = 0;
    for (uint32_t i = 0; i < a; i++)
        n += s->place[s->column[i]] != NO_PLACE;
    if (n == a)
        return;
    uint32_t to = 0;
    for (uint32_t i = 0; i < a; i++) { /* rows move up and get shorter: never past where they are read */
        if (s->place[s->column[i]] == NO_PLACE)
            continue;
        uint32_t q = 0;
        for (uint32_t j = 0; j <= i; j++)
            if (s->place[s->column[j]] != NO_PLACE) {
                s->hi[(uint64_t)to * n + q] = s->hi[(uint64_t)i * a + j];
                s->mm[(uint64_t)to * n + q++] = s->mm[(uint64_t)i * a + j];
            }
        to++;
    }
    to = 0;
    for (uint32_t i = 0; i < a; i++) {
        const uint32_t c = s->column[i];
        if (s->place[c] == NO_PLACE)
            continue;
        s->column[to] = c;
        s->place[c] = to++;
    }
    s->a = n;
}

static void read_blocks(struct greedy *g, struct state *s)
{
    for (uint32_t k = 0; k < g->job->n_groups; k++) {
        const uint32_t b = block(s->r, k), *cols = s->r->cols + s->r->start[k];
        for (uint32_t i = 0; i < b && !g->gone[k]; i++)
            for (uint32_t j = 0; j < b; j++) {
                s->hi_bb[k][(uint64_t)i * b + j] = lower(s->hi, s->a, s->place[cols[i]], s->place[cols[j]]);
                s->m_bb[k][(uint64_t)i * b + j] = lower(s->mm, s->a, s->place[cols[i]], s->place[cols[j]]);
            }
    }
}

/* The optimum over the columns that are left: W_S = (W H)_:S (H_SS)⁻¹. */
static void moments_of_rest(struct state *s, double *wh, double *ws)
{
    const qn_obs_reader *r = s->r;
    const uint32_t a = s->a;
    const blasint m = (blasint)r->m, d = (blasint)r->d, na = (blasint)a;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, d, d, 1, r->w, d, r->h, d, 0, wh, d);
    for (uint32_t i = 0; i < r->m; i++) /* rows get shorter in their own place */
        for (uint32_t j = 0; j < a; j++)
            wh[(uint64_t)i * a + j] = wh[(uint64_t)i * r->d + s->column[j]];
    cblas_dsymm(CblasRowMajor, CblasRight, CblasLower, m, na, 1, s->hi, na, wh, na, 0, ws, na);
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, na, m, 1, ws, na, 0, s->mm, na);
}

/* H⁻¹ and WᵀW anew, of what is left. */
static qn_code anew(struct greedy *g, struct state *s, qn_err *err)
{
    const qn_obs_reader *r = s->r;
    flush(g, s);
    const uint32_t a = s->a;
    const lapack_int n = (lapack_int)a;
    if (a == 0)
        return QN_OK;
    for (uint32_t i = 0; i < a; i++)
        for (uint32_t j = 0; j <= i; j++)
            s->hi[(uint64_t)i * a + j] = r->h[(uint64_t)s->column[i] * r->d + s->column[j]];
    /* the lower triangle by rows is the upper one by columns */
    if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', n, s->hi, n) != 0 || LAPACKE_dpotri_work(LAPACK_COL_MAJOR, 'U', n, s->hi, n) != 0 ||
        !isfinite(s->hi[0]))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the second moment of %" PRIu32 " inputs is not positive definite; a larger ridge helps", a);
    if (a == r->d) {
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (blasint)a, (blasint)r->m, 1, r->w, (blasint)a, 0, s->mm, (blasint)a);
    } else {
        double *wh = qn_mem_get(g->job->env->alloc, ((uint64_t)r->m * r->d + 1) * sizeof *wh, err);
        double *ws = wh ? qn_mem_get(g->job->env->alloc, ((uint64_t)r->m * a + 1) * sizeof *ws, err) : NULL;
        if (ws)
            moments_of_rest(s, wh, ws);
        qn_mem_put(g->job->env->alloc, wh);
        qn_mem_put(g->job->env->alloc, ws);
        if (!ws)
            return QN_E_MEMORY;
    }
    read_blocks(g, s);
    return QN_OK;
}

static qn_code open_state(struct greedy *g, struct state *s, const qn_obs_reader *r, qn_err *err)
{
    const qn_alloc *al = g->job->env->alloc;
    const uint32_t n_groups = g->job->n_groups;
    uint64_t n_blocks = 0;
    *s = (struct state){.r = r, .a = r->d, .widest = widest(r, n_groups)};
    s->cap_put = FLUSH + s->widest;
    const uint64_t d = r->d, b = s->widest;
    for (uint32_t k = 0; k < n_groups; k++)
        n_blocks += (uint64_t)block(r, k) * block(r, k);
    const uint64_t n_work = 2 * b * b + 2 * (uint64_t)s->cap_put * b + b + 64;
    if (!(s->place = qn_mem_get(al, (d + 1) * sizeof *s->place, err)) || !(s->column = qn_mem_get(al, (d + 1) * sizeof *s->column, err)) ||
        !(s->hi = qn_mem_get(al, (d * d + 1) * sizeof *s->hi, err)) || !(s->mm = qn_mem_get(al, (d * d + 1) * sizeof *s->mm, err)) ||
        !(s->v = qn_mem_get(al, (d * s->cap_put + 1) * sizeof *s->v, err)) || !(s->p = qn_mem_get(al, (d * s->cap_put + 1) * sizeof *s->p, err)) ||
        !(s->hi_bb = qn_mem_get(al, ((uint64_t)n_groups + 1) * sizeof *s->hi_bb, err)) ||
        !(s->m_bb = qn_mem_get(al, ((uint64_t)n_groups + 1) * sizeof *s->m_bb, err)) ||
        !(s->blocks = qn_mem_get(al, (2 * n_blocks + 1) * sizeof *s->blocks, err)) || !(s->work = qn_mem_get(al, n_work * sizeof *s->work, err)))
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < r->d; i++)
        s->place[i] = s->column[i] = i;
    double *at = s->blocks;
    for (uint32_t k = 0; k < n_groups; k++) {
        const uint64_t n = (uint64_t)block(r, k) * block(r, k);
        s->hi_bb[k] = at;
        s->m_bb[k] = at + n;
        at += 2 * n;
    }
    return anew(g, s, err);
}

static void close_state(const qn_alloc *al, struct state *s)
{
    qn_mem_put(al, s->place);
    qn_mem_put(al, s->column);
    qn_mem_put(al, s->hi);
    qn_mem_put(al, s->mm);
    qn_mem_put(al, s->v);
    qn_mem_put(al, s->p);
    qn_mem_put(al, s->hi_bb);
    qn_mem_put(al, s->m_bb);
    qn_mem_put(al, s->blocks);
    qn_mem_put(al, s->work);
}

/* The cheapest of those that are left; those that go first before all others, in their order. *sound false: some block is not positive. */
static uint32_t cheapest(const struct greedy *g, bool *sound)
{
    const qn_obs_job *j = g->job;
    uint32_t best = UINT32_MAX;
    double least = 0;
    for (uint32_t k = 0; k < j->n_groups; k++)
        if (!g->gone[k] && j->first && j->first[k])
            return k;
    for (uint32_t k = 0; k < j->n_groups; k++) {
        double sum = 0;
        if (g->gone[k])
            continue;
        for (uint32_t i = 0; i < j->n_readers && !(j->free && j->free[k]); i++) {
            double one = 0;
            if (!score(&g->s[i], k, &one))
                *sound = false;
            sum += j->readers[i].weight * one;
        }
        if (best == UINT32_MAX || sum < least) {
            best = k;
            least = sum;
        }
    }
    return best;
}

static qn_code all_anew(struct greedy *g, qn_err *err)
{
    for (uint32_t i = 0; i < g->job->n_readers; i++)
        QN_TRY(anew(g, &g->s[i], err));
    return QN_OK;
}

/* Takes k out everywhere. A block that has drifted is computed anew once. */
static qn_code remove_group(struct greedy *g, uint32_t k, double *rise, qn_err *err)
{
    for (uint32_t i = 0; i < g->job->n_readers; i++) {
        double one = 0;
        struct state *s = &g->s[i];
        if (!take_out(g, s, k, &one)) {
            QN_TRY(anew(g, s, err));
            if (!take_out(g, s, k, &one))
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the inverse of a second moment has lost its meaning; a larger ridge helps");
        }
        *rise += g->job->readers[i].weight * one;
    }
    g->gone[k] = 1;
    for (uint32_t i = 0; i < g->job->n_readers; i++)
        if (g->s[i].n_put + g->s[i].widest > g->s[i].cap_put)
            flush(g, &g->s[i]);
    return QN_OK;
}

static qn_code walk(struct greedy *g, uint32_t *order, double *error, qn_err *err)
{
    const qn_obs_job *j = g->job;
    const uint32_t every = j->every ? j->every : EVERY;
    double sum = 0;
    for (uint32_t n = 0; n < j->n_remove; n++) {
        bool sound = true;
        QN_TRY(qn_env_check(j->env, err));
        if (n && n % every == 0)
            QN_TRY(all_anew(g, err));
        uint32_t k = j->forced ? j->forced[n] : cheapest(g, &sound);
        if (!sound) {
            QN_TRY(all_anew(g, err));
            sound = true;
            k = cheapest(g, &sound);
        }
        double rise = 0;
        QN_TRY(remove_group(g, k, &rise, err));
        if (!(j->free && j->free[k]) && rise > 0)
            sum += rise;
        order[n] = k;
        error[n] = sum;
    }
    return QN_OK;
}

qn_code qn_obs_run(const qn_obs_job *job, uint32_t *order, double *error, qn_err *err)
{
    const qn_alloc *al = job->env->alloc;
    struct greedy g = {.job = job};
    openblas_set_num_threads(1);
    g.gone = qn_mem_zeros(al, (uint64_t)job->n_groups + 1, 1, err);
    g.s = g.gone ? qn_mem_zeros(al, (uint64_t)job->n_readers + 1, sizeof *g.s, err) : NULL;
    qn_code rc = g.s ? QN_OK : QN_E_MEMORY;
    for (uint32_t i = 0; i < job->n_readers && rc == QN_OK; i++)
        rc = open_state(&g, &g.s[i], &job->readers[i], err);
    if (rc == QN_OK)
        rc = walk(&g, order, error, err);
    for (uint32_t i = 0; i < job->n_readers && g.s; i++)
        close_state(al, &g.s[i]);
    qn_mem_put(al, g.s);
    qn_mem_put(al, g.gone);
    return rc;
}

uint64_t qn_obs_bytes(uint32_t d, uint32_t m)
{
    const uint64_t n = d;
    return (2 * n * n + 3 * n * FLUSH + 2 * (uint64_t)m * n) * sizeof(double);
}
