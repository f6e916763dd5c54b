/* looks.c: see looks.h. */
#include "analysis/gate/looks.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES_MAX = 1 << 26, SAMPLE = 1 << 14, SORT_MAX = 1 << 20, PIECE = 1024 };

/* The two tensors, as matrices of rows × cols. */
struct pair {
    float *a, *b; /* reference, candidate; n of each, finite or not */
    uint64_t n, rows, cols;
};

struct sums {
    double aa, bb, ab;
};

static void add(struct sums *s, float a, float b)
{
    if (!isfinite(a) || !isfinite(b))
        return;
    s->aa += (double)a * (double)a;
    s->bb += (double)b * (double)b;
    s->ab += (double)a * (double)b;
}

static double cosine(const struct sums *s)
{
    return s->aa > 0 && s->bb > 0 ? s->ab / sqrt(s->aa * s->bb) : 0;
}

/* The first n values as f32; NULL and QN_OK when the dtype has none. */
static qn_code load(const qn_env *env, qn_source *s, uint64_t tensor, uint64_t n, float **out, qn_err *err)
{
    const qn_source_tensor *t = &s->tensors[tensor];
    const qn_dtype dtype = (qn_dtype)t->dtype;
    const uint64_t block = qn_dtype_block_elems(dtype);
    double wide[PIECE];
    *out = NULL;
    n = n / block * block;
    uint8_t *raw = qn_mem_get(env->alloc, qn_bytes_of_elems(dtype, n), err);
    float *v = raw ? qn_mem_get(env->alloc, (n + 1) * sizeof *v, err) : NULL;
    qn_code rc = v ? qn_source_tensor_read(s, tensor, 0, qn_bytes_of_elems(dtype, n), raw, err) : QN_E_MEMORY;
    for (uint64_t i = 0; i < n && rc == QN_OK; i += PIECE / block * block) {
        const uint64_t m = qn_min_u64(PIECE / block * block, n - i);
        rc = qn_widen(dtype, raw + qn_bytes_of_elems(dtype, i), m, wide, err);
        for (uint64_t k = 0; k < m && rc == QN_OK; k++)
            v[i + k] = (float)wide[k];
    }
    qn_mem_put(env->alloc, raw);
    if (rc == QN_OK)
        *out = v;
    else
        qn_mem_put(env->alloc, v);
    return rc;
}

static bool multiple(const struct pair *p, char *buf, size_t n)
{
    struct sums s = {0};
    for (uint64_t i = 0; i < p->n; i++)
        add(&s, p->a[i], p->b[i]);
    const double k = s.aa > 0 ? s.ab / s.aa : 1;
    if (s.bb > 0 && fabs(cosine(&s)) > 0.97 && fabs(k - 1) > 0.2)
        return snprintf(buf, n, "is about %.3g × the reference's", fabs(k - round(k)) < 0.03 * fabs(k) ? round(k) : k) > 0;
    if (s.aa > 0 && s.bb <= 0)
        return snprintf(buf, n, "is all zero") > 0;
    return false;
}

static bool transposed(const struct pair *p, char *buf, size_t n)
{
    struct sums s = {0};
    if (p->rows < 2 || p->cols < 2)
        return false;
    for (uint64_t i = 0; i < p->n; i++)
        add(&s, p->a[i], p->b[i % p->cols * p->rows + i / p->cols]);
    return cosine(&s) > 0.9 && snprintf(buf, n, "looks transposed") > 0;
}

/* Share of the error that the worst `most` of m items hold; err2 is reordered. */
static int falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static double share_of_worst(double *err2, uint64_t m, uint64_t most)
{
    double all = 0, top = 0;
    for (uint64_t i = 0; i < m; i++)
        all += err2[i];
    qsort(err2, (size_t)m, sizeof *err2, falling);
    for (uint64_t i = 0; i < most; i++)
        top += err2[i];
    return all > 0 ? top / all : 0;
}

static double error2(const struct pair *p, uint64_t i)
{
    const double d = (double)p->b[i] - (double)p->a[i];
    return isfinite(d) ? d * d : 0;
}

static qn_code few_rows(const qn_env *env, const struct pair *p, char *buf, size_t n, bool *found, qn_err *err)
{
    if (p->rows < 16)
        return QN_OK;
    double *e = qn_mem_zeros(env->alloc, p->rows, sizeof *e, err);
    if (!e)
        return QN_E_MEMORY;
    uint64_t worst = 0;
    for (uint64_t i = 0; i < p->n; i++)
        e[i / p->cols] += error2(p, i);
    for (uint64_t r = 1; r < p->rows; r++)
        worst = e[r] > e[worst] ? r : worst;
    const uint64_t few = qn_max_u64(1, p->rows / 64);
    const double share = share_of_worst(e, p->rows, few);
    if (share > 0.3) {
        struct sums s = {0};
        for (uint64_t c = 0; c < p->cols; c++)
            add(&s, p->a[worst * p->cols + c], p->b[worst * p->cols + c]);
        const int at = snprintf(buf, n, "%.0f %% of the error is in %" PRIu64 " of %" PRIu64 " rows, most in row %" PRIu64, 100 * share, few, p->rows, worst);
        if (at > 0 && (size_t)at < n && cosine(&s) > 0.97 && s.aa > 0)
            (void)snprintf(buf + at, n - (size_t)at, ": about %.2g × the reference's", s.ab / s.aa);
        *found = true;
    }
    qn_mem_put(env->alloc, e);
    return QN_OK;
}

static qn_code few_values(const qn_env *env, const struct pair *p, char *buf, size_t n, bool *found, qn_err *err)
{
    const uint64_t m = qn_min_u64(p->n, SORT_MAX), few = m / 250;
    if (few < 2)
        return QN_OK;
    double *e = qn_mem_get(env->alloc, m * sizeof *e, err);
    if (!e)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < m; i++)
        e[i] = error2(p, i);
    const double share = share_of_worst(e, m, few);
    *found = share > 0.3 && snprintf(buf, n, "%.0f %% of the error is in 0.4 %% of the values", 100 * share) > 0;
    qn_mem_put(env->alloc, e);
    return QN_OK;
}

/* Another tensor of the reference, of the same shape, that begins like this one. */
static qn_code another(const qn_env *env, qn_source *ref, uint64_t own, const struct pair *p, char *buf, size_t n, bool *found, qn_err *err)
{
    const qn_source_tensor *t = &ref->tensors[own];
    for (uint64_t i = 0; i < ref->n_tensors && !*found; i++) {
        const qn_source_tensor *u = &ref->tensors[i];
        if (i == own || u->dtype != t->dtype || u->rank != t->rank || memcmp(u->dims, t->dims, t->rank * sizeof *t->dims) != 0)
            continue;
        const uint64_t m = qn_min_u64(SAMPLE, p->n) / qn_dtype_block_elems((qn_dtype)t->dtype) * qn_dtype_block_elems((qn_dtype)t->dtype);
        struct sums s = {0};
        float *v;
        QN_TRY(load(env, ref, i, m, &v, err));
        for (uint64_t k = 0; k < m; k++)
            add(&s, v[k], p->b[k]);
        qn_mem_put(env->alloc, v);
        *found = m >= 16 && cosine(&s) > 0.9 && t->rank > 1 && snprintf(buf, n, "looks like the reference's '%.160s'", u->name) > 0;
    }
    return QN_OK;
}

static qn_code look(const qn_env *env, qn_source *ref, uint64_t own, const struct pair *p, char *buf, size_t n, bool *found, qn_err *err)
{
    *found = multiple(p, buf, n) || transposed(p, buf, n);
    if (!*found)
        QN_TRY(few_rows(env, p, buf, n, found, err));
    struct sums s = {0};
    for (uint64_t i = 0; i < p->n; i++)
        add(&s, p->a[i], p->b[i]);
    if (!*found && cosine(&s) < 0.7)
        QN_TRY(another(env, ref, own, p, buf, n, found, err));
    return *found ? QN_OK : few_values(env, p, buf, n, found, err);
}

qn_code qn_looks(const qn_env *env, qn_source *ref, uint64_t ref_tensor, qn_source *cand, uint64_t cand_tensor, qn_arena *arena,
                 const char **text, qn_err *err)
{
    const qn_source_tensor *t = &ref->tensors[ref_tensor];
    char buf[256];
    bool found = false;
    uint64_t n, n_bytes;
    *text = NULL;
    if (!qn_shape_bytes((qn_dtype)t->dtype, t->dims, t->rank, &n, &n_bytes) || n == 0 || n > VALUES_MAX)
        return QN_OK;
    struct pair p = {.n = n, .rows = t->rank > 1 ? t->dims[0] : 1};
    p.cols = n / p.rows;
    qn_code rc = load(env, ref, ref_tensor, n, &p.a, err);
    if (rc == QN_OK)
        rc = load(env, cand, cand_tensor, n, &p.b, err);
    if (rc == QN_OK)
        rc = look(env, ref, ref_tensor, &p, buf, sizeof buf, &found, err);
    if (rc == QN_OK && found && !(*text = qn_arena_str(arena, buf, strlen(buf), err)))
        rc = QN_E_MEMORY;
    qn_mem_put(env->alloc, p.a);
    qn_mem_put(env->alloc, p.b);
    return rc;
}
