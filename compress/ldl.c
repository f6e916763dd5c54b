/* ldl.c: see ldl.h. The work is in f64: f32 fails at condition numbers that real layers have. */
#include "compress/ldl.h"
#include "base/err.h"
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Columns below this share of the largest diagonal element have seen nothing. */
#define DEAD_SHARE 1e-12
#define DEAD_BELOW 1e-20

enum { TILE = 64 }; /* of a matrix and its transpose, so that both stay in the cache */

struct key {
    double size; /* what decides the order, larger first */
    uint32_t at;
};

static int by_size(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    if (x->size != y->size)
        return x->size > y->size ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static qn_code order_columns(qn_ldl *l, const double *diag, uint32_t group, qn_ldl_order order, qn_err *err)
{
    const uint32_t n = l->n, n_groups = n / group + (n % group != 0);
    struct key *g = qn_mem_get(l->alloc, (uint64_t)n_groups * sizeof *g, err);
    struct key *c = g ? qn_mem_get(l->alloc, (uint64_t)group * sizeof *c, err) : NULL;
    if (!c) {
        qn_mem_put(l->alloc, g);
        return QN_E_MEMORY;
    }
    const bool sorted = order == QN_ORDER_ACT && diag;
    for (uint32_t k = 0; k < n_groups; k++) {
        const uint32_t first = k * group, len = n - first < group ? n - first : group;
        double sum = 0;
        for (uint32_t i = 0; sorted && i < len; i++)
            sum += diag[first + i];
        g[k] = (struct key){.size = sum / len, .at = k};
    }
    if (sorted)
        qsort(g, n_groups, sizeof *g, by_size);
    uint32_t v = 0;
    for (uint32_t k = 0; k < n_groups; k++) {
        const uint32_t first = g[k].at * group, len = n - first < group ? n - first : group;
        for (uint32_t i = 0; i < len; i++)
            c[i] = (struct key){.size = sorted ? diag[first + i] : 0, .at = first + i};
        if (sorted)
            qsort(c, len, sizeof *c, by_size);
        l->begins[k] = v;
        for (uint32_t i = 0; i < len; i++)
            l->visit[v++] = c[i].at;
    }
    l->begins[n_groups] = v;
    l->n_groups = n_groups;
    qn_mem_put(l->alloc, g);
    qn_mem_put(l->alloc, c);
    return QN_OK;
}

static bool all_finite(const double *p, uint64_t n)
{
    bool ok = true;
    for (uint64_t i = 0; i < n; i++)
        ok &= isfinite(p[i]) != 0;
    return ok;
}

/* Finds dead columns and the mean of the others; false when no diagonal element can be used. */
static bool look_at_diagonal(qn_ldl *l, double *diag, double *mean)
{
    double most = 0, sum = 0;
    for (uint32_t j = 0; j < l->n; j++)
        most = diag[j] > most ? diag[j] : most;
    if (!(most > DEAD_BELOW))
        return false;
    l->n_dead = 0;
    for (uint32_t j = 0; j < l->n; j++) {
        if (!(diag[j] > DEAD_BELOW && diag[j] > DEAD_SHARE * most)) {
            diag[j] = 0;
            l->n_dead++;
        }
        sum += diag[j];
    }
    *mean = sum / (l->n - l->n_dead);
    return isfinite(*mean);
}

/* The matrix lies in h's own place throughout: for wide layers it is most of what a run needs. Place p holds visit n − 1 − p, so that
 * the last is taken first. */
static void permute(const qn_ldl *l, double *h, double *row, uint8_t *done)
{
    const uint32_t n = l->n;
    memset(done, 0, n);
    for (uint32_t first = 0; first < n; first++) { /* rows, by cycles */
        if (done[first])
            continue;
        memcpy(row, h + (uint64_t)first * n, n * sizeof *row);
        for (uint32_t p = first;;) {
            const uint32_t from = l->visit[n - 1 - p];
            done[p] = 1;
            if (from == first) {
                memcpy(h + (uint64_t)p * n, row, n * sizeof *row);
                break;
            }
            memcpy(h + (uint64_t)p * n, h + (uint64_t)from * n, n * sizeof *row);
            p = from;
        }
    }
    for (uint32_t p = 0; p < n; p++) {
        double *to = h + (uint64_t)p * n;
        memcpy(row, to, n * sizeof *row);
        for (uint32_t q = 0; q < n; q++)
            to[q] = row[l->visit[n - 1 - q]];
    }
}

/* Both triangles of the permuted matrix, without its diagonal: symmetric, scaled, dead columns cut off from the others. */
static void scale_both(const qn_ldl *l, double *a, const double *diag, double mean)
{
    const uint32_t n = l->n;
    for (uint32_t p0 = 0; p0 < n; p0 += TILE)
        for (uint32_t q0 = 0; q0 <= p0; q0 += TILE)
            for (uint32_t p = p0; p < n && p < p0 + TILE; p++) {
                const bool dead = diag[l->visit[n - 1 - p]] == 0;
                for (uint32_t q = q0; q < p && q < q0 + TILE; q++) {
                    double *x = a + (uint64_t)p * n + q, *y = a + (uint64_t)q * n + p;
                    *x = *y = dead || diag[l->visit[n - 1 - q]] == 0 ? 0 : 0.5 * (*x + *y) / mean;
                }
            }
}

/* The lower triangle again, from the upper one, which a factor leaves alone. */
static void lower_again(uint32_t n, double *a)
{
    for (uint32_t p0 = 0; p0 < n; p0 += TILE)
        for (uint32_t q0 = 0; q0 <= p0; q0 += TILE)
            for (uint32_t p = p0; p < n && p < p0 + TILE; p++)
                for (uint32_t q = q0; q < p && q < q0 + TILE; q++)
                    a[(uint64_t)p * n + q] = a[(uint64_t)q * n + p];
}

static void put_diagonal(const qn_ldl *l, double *a, const double *diag, double mean, double damping)
{
    for (uint32_t p = 0; p < l->n; p++) {
        const double d = diag[l->visit[l->n - 1 - p]];
        a[(uint64_t)p * l->n + p] = d == 0 ? 1 : d / mean + damping;
    }
}

/* True when `a` became a good factor. */
static bool factor(uint32_t n, double *a)
{
    /* the lower triangle by rows is the upper one by columns, which LAPACK takes as it is */
    if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', (lapack_int)n, a, (lapack_int)n) != 0)
        return false;
    for (uint32_t p = 0; p < n; p++) {
        const double d = a[(uint64_t)p * n + p];
        if (!(d > 1e-9 && d < 1e9))
            return false;
    }
    return true;
}

static void take_weights(qn_ldl *l, const double *a, const double *diag)
{
    const uint32_t n = l->n;
    double least = (double)INFINITY, most = 0;
    for (uint32_t p = 0; p < n; p++) {
        const double d = a[(uint64_t)p * n + p], w = d * d;
        const uint32_t j = l->visit[n - 1 - p];
        l->weight[j] = diag[j] == 0 ? 0 : w;
        if (diag[j] != 0) {
            least = w < least ? w : least;
            most = w > most ? w : most;
        }
    }
    l->spread = most / least;
}

/* Rows of L become rows of feed in the first half of their own place: an error in visit v is row n − 1 − v of L. row: n doubles. */
static void narrow(uint32_t n, double *a, const double *pivot, double *row)
{
    float *to = (float *)row;
    unsigned char *all = (unsigned char *)a;
    const size_t bytes = n * sizeof *to;
    for (uint32_t k = 0; k < n; k++) {
        const double *from = a + (uint64_t)k * n;
        memset(to, 0, bytes);
        for (uint32_t p = 0; p < k; p++)
            to[n - 1 - p] = (float)(from[p] / pivot[p]);
        memcpy(all + k * bytes, to, bytes);
    }
    for (uint32_t k = 0; k < n / 2; k++) {
        memcpy(to, all + k * bytes, bytes);
        memcpy(all + k * bytes, all + (n - 1 - k) * bytes, bytes);
        memcpy(all + (n - 1 - k) * bytes, to, bytes);
    }
}

/* Rows for the work in place: freed by the caller. */
struct rows {
    double *row, *pivot;
    uint8_t *done;
};

static qn_code full(qn_ldl *l, double **h, const struct rows *r, const double *diag, double mean, double damping, qn_err *err)
{
    double *a = *h;
    l->diagonal = qn_mem_get(l->alloc, l->n * sizeof *l->diagonal, err);
    if (!l->diagonal)
        return QN_E_MEMORY;
    openblas_set_num_threads(1); /* the same factor for every number of threads */
    permute(l, a, r->row, r->done);
    scale_both(l, a, diag, mean);
    /* the first that gives a factor: more is regularisation, and costs accuracy */
    for (double add = damping; l->kind != QN_LDL_FULL && (add == damping || add < 1.01 * QN_LDL_DAMPING_MAX); add *= 10) {
        if (add != damping)
            lower_again(l->n, a);
        put_diagonal(l, a, diag, mean, add);
        if (!factor(l->n, a))
            continue;
        for (uint32_t j = 0; j < l->n; j++)
            l->diagonal[j] = diag[j] == 0 ? 0 : diag[j] / mean + add;
        take_weights(l, a, diag);
        for (uint32_t p = 0; p < l->n; p++)
            r->pivot[p] = a[(uint64_t)p * l->n + p];
        narrow(l->n, a, r->pivot, r->row);
        *h = NULL;
        l->feed = qn_mem_shrink(l->alloc, a, (uint64_t)l->n * l->n * sizeof *l->feed);
        l->kind = QN_LDL_FULL;
        l->damping = add;
    }
    if (l->kind != QN_LDL_FULL) {
        qn_mem_put(l->alloc, l->diagonal);
        l->diagonal = NULL;
    }
    return QN_OK;
}

static qn_code full_in_place(qn_ldl *l, double **h, const double *diag, double mean, double damping, qn_err *err)
{
    struct rows r = {.row = qn_mem_get(l->alloc, l->n * sizeof *r.row, err)};
    r.pivot = r.row ? qn_mem_get(l->alloc, l->n * sizeof *r.pivot, err) : NULL;
    r.done = r.pivot ? qn_mem_get(l->alloc, l->n, err) : NULL;
    const qn_code rc = r.done ? full(l, h, &r, diag, mean, damping, err) : QN_E_MEMORY;
    qn_mem_put(l->alloc, r.row);
    qn_mem_put(l->alloc, r.pivot);
    qn_mem_put(l->alloc, r.done);
    return rc;
}

static void diagonal_only(qn_ldl *l, const double *diag, double mean)
{
    double least = (double)INFINITY, most = 0;
    for (uint32_t j = 0; j < l->n; j++) {
        l->weight[j] = diag[j] / mean;
        if (diag[j] != 0) {
            least = diag[j] < least ? diag[j] : least;
            most = diag[j] > most ? diag[j] : most;
        }
    }
    l->spread = most / least;
    l->kind = QN_LDL_DIAGONAL;
}

static qn_code make(qn_ldl *l, double **taken, double *diag, uint32_t group, qn_ldl_order order, double damping, qn_err *err)
{
    const uint32_t n = l->n;
    const double *h = *taken;
    double mean = 1;
    const bool given = diag != NULL;
    bool good = given && (h ? all_finite(h, (uint64_t)n * n) : all_finite(diag, n));
    for (uint32_t j = 0; h && j < n; j++)
        diag[j] = h[(uint64_t)j * n + j];
    good = good && look_at_diagonal(l, diag, &mean);
    QN_TRY(order_columns(l, good ? diag : NULL, group, order, err));
    l->scale = 1;
    l->spread = 1;
    if (!good) {
        l->kind = given ? QN_LDL_REFUSED : QN_LDL_NONE;
        l->n_dead = 0;
        return QN_OK;
    }
    l->weight = qn_mem_get(l->alloc, n * sizeof *l->weight, err);
    if (!l->weight)
        return QN_E_MEMORY;
    l->scale = mean;
    if (h)
        QN_TRY(full_in_place(l, taken, diag, mean, damping > 0 ? damping : QN_LDL_DAMPING, err));
    if (l->kind != QN_LDL_FULL)
        diagonal_only(l, diag, mean);
    return QN_OK;
}

qn_code qn_ldl_take(qn_ldl *l, const qn_alloc *alloc, uint32_t n, double *h, const double *diagonal, uint32_t group,
                    qn_ldl_order order, double damping, qn_err *err)
{
    *l = (qn_ldl){.alloc = alloc, .n = n};
    double *diag = NULL;
    if (n == 0 || group == 0 || group > n) {
        qn_mem_put(alloc, h);
        return QN_BUG(err, "ldl: %u columns in groups of %u", n, group);
    }
    l->visit = qn_mem_get(alloc, n * sizeof *l->visit, err);
    l->begins = l->visit ? qn_mem_get(alloc, ((uint64_t)n / group + 2) * sizeof *l->begins, err) : NULL;
    qn_code rc = l->begins ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK && (h || diagonal)) {
        diag = qn_mem_get(alloc, n * sizeof *diag, err);
        rc = diag ? QN_OK : QN_E_MEMORY;
        if (diag && diagonal)
            memcpy(diag, diagonal, n * sizeof *diag);
    }
    if (rc == QN_OK)
        rc = make(l, &h, diag, group, order, damping, err);
    qn_mem_put(alloc, diag);
    qn_mem_put(alloc, h);
    if (rc != QN_OK)
        qn_ldl_release(l);
    return rc;
}

/* L̃ with its columns times L_jj, times its own transpose. */
qn_code qn_ldl_moment(qn_ldl *l, qn_err *err)
{
    const uint64_t n = l->n;
    if (l->kind != QN_LDL_FULL || l->moment)
        return QN_OK;
    float *a = qn_mem_get(l->alloc, n * n * sizeof *a, err);
    l->moment = a ? qn_mem_get(l->alloc, n * n * sizeof *a, err) : NULL;
    if (!l->moment) {
        qn_mem_put(l->alloc, a);
        return QN_E_MEMORY;
    }
    for (uint64_t v = 0; v < n; v++)
        for (uint64_t b = 0; b < n; b++)
            a[v * n + b] = b < v ? 0 : (float)sqrt(l->weight[l->visit[b]]) * (b == v ? 1 : l->feed[v * n + b]);
    openblas_set_num_threads(1);
    cblas_ssyrk(CblasRowMajor, CblasLower, CblasNoTrans, (blasint)n, (blasint)n, 1, a, (blasint)n, 0, l->moment, (blasint)n);
    for (uint64_t v = 0; v < n; v++)
        for (uint64_t b = v + 1; b < n; b++)
            l->moment[v * n + b] = l->moment[b * n + v];
    qn_mem_put(l->alloc, a);
    return QN_OK;
}

qn_code qn_ldl_make(qn_ldl *l, const qn_alloc *alloc, uint32_t n, const double *h, const double *diagonal, uint32_t group,
                    qn_ldl_order order, double damping, qn_err *err)
{
    const uint64_t bytes = (uint64_t)n * n * sizeof *h;
    double *copy = h ? qn_mem_get(alloc, bytes, err) : NULL;
    *l = QN_LDL_EMPTY;
    if (h && !copy)
        return QN_E_MEMORY;
    if (copy)
        memcpy(copy, h, bytes);
    return qn_ldl_take(l, alloc, n, copy, diagonal, group, order, damping, err);
}

void qn_ldl_release(qn_ldl *l)
{
    qn_mem_put(l->alloc, l->moment);
    qn_mem_put(l->alloc, l->visit);
    qn_mem_put(l->alloc, l->begins);
    qn_mem_put(l->alloc, l->weight);
    qn_mem_put(l->alloc, l->diagonal);
    qn_mem_put(l->alloc, l->feed);
    *l = QN_LDL_EMPTY;
}

double qn_ldl_unevenness(const qn_ldl *l)
{
    double sum = 0, logs = 0;
    uint32_t n = 0;
    for (uint32_t j = 0; l->weight && j < l->n; j++) {
        if (l->weight[j] <= 0)
            continue;
        sum += l->weight[j];
        logs += log2(l->weight[j]);
        n++;
    }
    return n ? 0.5 * (log2(sum / n) - logs / n) : 0;
}
