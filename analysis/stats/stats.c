/* stats.c: see stats.h. */
#include "analysis/stats/stats.h"
#include "analysis/stats/gram.h"
#include "base/err.h"
#include "base/num.h"
#include <math.h>

struct name {
    char *name;      /* the arena's            */
    double *outputs; /* Σ y², n_outputs; owned */
    uint32_t n_outputs;
};

struct qn_stats_entry {
    qn_stats_entry *next;
    struct name *names; /* owned */
    uint64_t n_names, cap_names;
    uint32_t n, expert;
    qn_stats_kind kind;
    uint64_t count;
    double *mem;        /* owned: all vectors, those of a batch behind them */
    qn_gram_vectors sums, batch;
    double *h;          /* owned; NULL for DIAG. Layout: gram.h             */
};

struct qn_stats {
    const qn_env *env;
    uint32_t h_max_columns;
    qn_arena arena; /* names */
    qn_stats_entry *first, **end;
};

qn_code qn_stats_new(const qn_env *env, const qn_stats_options *opt, qn_stats **out, qn_err *err)
{
    qn_stats *s = qn_mem_zeros(env->alloc, 1, sizeof *s, err);
    *out = s;
    if (!s)
        return QN_E_MEMORY;
    s->env = env;
    s->h_max_columns = opt && opt->h_max_columns ? opt->h_max_columns : QN_STATS_COLUMNS_MAX;
    s->end = &s->first;
    qn_arena_init(&s->arena, env->alloc);
    return QN_OK;
}

static void free_entry(const qn_alloc *a, qn_stats_entry *e)
{
    for (uint64_t i = 0; i < e->n_names; i++)
        qn_mem_put(a, e->names[i].outputs);
    qn_mem_put(a, e->names);
    qn_mem_put(a, e->mem);
    qn_mem_put(a, e->h);
    qn_mem_put(a, e);
}

static void forget(qn_stats *s)
{
    while (s->first) {
        qn_stats_entry *e = s->first;
        s->first = e->next;
        free_entry(s->env->alloc, e);
    }
    s->end = &s->first;
    qn_arena_reset(&s->arena);
}

void qn_stats_free(qn_stats *s)
{
    if (!s)
        return;
    forget(s);
    qn_arena_release(&s->arena);
    qn_mem_put(s->env->alloc, s);
}

static struct name *find_name(const qn_stats_entry *e, const char *name)
{
    for (uint64_t i = 0; i < e->n_names; i++)
        if (strcmp(e->names[i].name, name) == 0)
            return &e->names[i];
    return NULL;
}

qn_stats_entry *qn_stats_get(const qn_stats *s, const char *name, uint32_t expert)
{
    for (qn_stats_entry *e = s->first; e; e = e->next)
        if (e->expert == expert && find_name(e, name))
            return e;
    return NULL;
}

qn_code qn_stats_alias(qn_stats *s, qn_stats_entry *e, const char *name, qn_err *err)
{
    if (qn_stats_get(s, name, e->expert))
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is watched already"), name);
    struct name *list = qn_mem_grow(s->env->alloc, e->names, e->n_names, &e->cap_names, e->n_names + 1, sizeof *list, err);
    if (!list)
        return QN_E_MEMORY;
    e->names = list;
    char *copy = qn_arena_str(&s->arena, name, strlen(name), err);
    if (!copy)
        return QN_E_MEMORY;
    list[e->n_names++] = (struct name){.name = copy};
    return QN_OK;
}

static double *cut_vectors(qn_gram_vectors *v, double *at, uint32_t n)
{
    v->sum_sq = at;
    v->sum = at + n;
    v->sum_abs = at + 2ull * n;
    v->min = (float *)(at + 3ull * n);
    v->max = v->min + n;
    return at + 4ull * n;
}

static qn_code fill_entry(qn_stats *s, qn_stats_entry *e, const char *name, qn_err *err)
{
    e->mem = qn_mem_zeros(s->env->alloc, 8ull * e->n, sizeof *e->mem, err);
    if (e->mem && e->kind == QN_STATS_H)
        e->h = qn_mem_zeros(s->env->alloc, qn_gram_size(e->n), sizeof *e->h, err);
    if (!e->mem || (e->kind == QN_STATS_H && !e->h))
        return qn_err_in_tensor(err, QN_E_MEMORY, name);
    (void)cut_vectors(&e->batch, cut_vectors(&e->sums, e->mem, e->n), e->n);
    return qn_stats_alias(s, e, name, err);
}

qn_code qn_stats_open(qn_stats *s, const char *name, uint32_t expert, uint32_t n, qn_stats_kind kind, qn_stats_entry **out,
                      qn_err *err)
{
    *out = NULL;
    if (n == 0 || n > QN_STATS_COLUMNS_MAX)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "input of %lu columns: 1 to 2^24 are allowed",
                                             (unsigned long)n), name);
    qn_stats_entry *e = qn_mem_zeros(s->env->alloc, 1, sizeof *e, err);
    if (!e)
        return QN_E_MEMORY;
    e->n = n;
    e->expert = expert;
    e->kind = n > s->h_max_columns ? QN_STATS_DIAG : kind;
    const qn_code rc = fill_entry(s, e, name, err);
    if (rc != QN_OK) {
        free_entry(s->env->alloc, e);
        return rc;
    }
    *s->end = e;
    s->end = &e->next;
    *out = e;
    return QN_OK;
}

static qn_code not_finite(const char *name, const char *what, float v, uint64_t bad, uint32_t n, qn_err *err)
{
    return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is %s in row %llu, column %llu of the batch: finite "
                                         "values are allowed", what, isnan(v) ? "NaN" : "infinite",
                                         (unsigned long long)(bad / n), (unsigned long long)(bad % n)), name);
}

qn_code qn_stats_add(qn_stats *s, qn_stats_entry *e, const float *x, uint64_t rows, uint64_t ld, qn_err *err)
{
    const bool first = e->count == 0;
    uint64_t bad;
    if (ld < e->n)
        return QN_BUG(err, "rows of %lu columns, %llu apart", (unsigned long)e->n, (unsigned long long)ld);
    if (rows == 0)
        return QN_OK;
    QN_TRY(qn_gram_look(s->env, x, rows, ld, e->n, &e->batch, &bad, err));
    if (bad != UINT64_MAX)
        return not_finite(e->names[0].name, "its input", x[bad / e->n * ld + bad % e->n], bad, e->n, err);
    if (e->h)
        QN_TRY(qn_gram_add(s->env, x, rows, ld, e->n, &e->batch, e->h, err));
    for (uint32_t c = 0; c < e->n; c++) {
        e->sums.sum[c] += e->batch.sum[c];
        e->sums.sum_abs[c] += e->batch.sum_abs[c];
        e->sums.sum_sq[c] += e->batch.sum_sq[c];
        e->sums.min[c] = first || e->batch.min[c] < e->sums.min[c] ? e->batch.min[c] : e->sums.min[c];
        e->sums.max[c] = first || e->batch.max[c] > e->sums.max[c] ? e->batch.max[c] : e->sums.max[c];
    }
    e->count += rows;
    return QN_OK;
}

qn_code qn_stats_add_outputs(qn_stats *s, qn_stats_entry *e, const char *name, const float *y, uint64_t rows, uint32_t m,
                             uint64_t ld, qn_err *err)
{
    struct name *of = find_name(e, name);
    uint64_t bad;
    if (!of || ld < m || m == 0 || m > QN_STATS_COLUMNS_MAX || (of->n_outputs && of->n_outputs != m))
        return QN_BUG(err, "%lu outputs of '%s', which is not watched or has another number", (unsigned long)m, name);
    if (!of->outputs) {
        of->outputs = qn_mem_zeros(s->env->alloc, m, sizeof *of->outputs, err);
        if (!of->outputs)
            return QN_E_MEMORY;
        of->n_outputs = m;
    }
    double *batch = qn_mem_get(s->env->alloc, 8ull * m, err);
    if (!batch)
        return QN_E_MEMORY;
    qn_code rc = qn_gram_look(s->env, y, rows, ld, m, &(qn_gram_vectors){.sum_sq = batch}, &bad, err);
    if (rc == QN_OK && bad != UINT64_MAX)
        rc = not_finite(name, "its output", y[bad / m * ld + bad % m], bad, m, err);
    for (uint32_t c = 0; c < m && rc == QN_OK; c++)
        of->outputs[c] += batch[c];
    qn_mem_put(s->env->alloc, batch);
    return rc;
}

uint64_t qn_stats_count(const qn_stats_entry *e)
{
    return e->count;
}

double qn_stats_h(const qn_stats_entry *e, uint32_t i, uint32_t j)
{
    if (!e->h)
        return i == j ? e->sums.sum_sq[i] : (double)NAN;
    return i <= j ? e->h[qn_gram_at(e->n, i, j)] : e->h[qn_gram_at(e->n, j, i)];
}

qn_stats_kind qn_stats_entry_kind(const qn_stats_entry *e)
{
    return e->kind;
}

static qn_code h_row(void *ctx, uint32_t i, float *dst, qn_err *err)
{
    const qn_stats_entry *e = ctx;
    const double *row = e->h + qn_gram_at(e->n, i, i);
    (void)err;
    for (uint32_t j = 0; j < e->n - i; j++)
        dst[j] = (float)row[j];
    return QN_OK;
}

static qn_code write_entry(qn_stats *s, qn_stats_entry *e, qn_stats_writer *w, qn_err *err)
{
    qn_stats_name *names = qn_mem_get(s->env->alloc, e->n_names * sizeof *names, err);
    const double **outputs = qn_mem_get(s->env->alloc, e->n_names * sizeof *outputs, err);
    qn_code rc = QN_E_MEMORY;
    if (names && outputs) {
        for (uint64_t i = 0; i < e->n_names; i++) {
            names[i] = (qn_stats_name){e->names[i].name, e->names[i].n_outputs};
            outputs[i] = e->names[i].outputs;
        }
        const qn_stats_input in = {.n = e->n, .expert = e->expert, .n_names = (uint32_t)e->n_names, .count = e->count,
                                   .names = names,
                                   .parts = QN_STATS_HAS_SUMS | QN_STATS_HAS_EXTREMES | (e->h ? QN_STATS_HAS_H : 0u)};
        rc = qn_stats_writer_add(w, &in, &(qn_stats_data){.sum_sq = e->sums.sum_sq, .sum = e->sums.sum,
                                 .sum_abs = e->sums.sum_abs, .min = e->sums.min, .max = e->sums.max, .outputs = outputs,
                                 .h_row = h_row, .ctx = e}, err);
    }
    qn_mem_put(s->env->alloc, outputs);
    qn_mem_put(s->env->alloc, names);
    return rc;
}

qn_code qn_stats_flush(qn_stats *s, qn_stats_writer *w, qn_err *err)
{
    for (qn_stats_entry *e = s->first; e; e = e->next)
        QN_TRY(write_entry(s, e, w, err));
    forget(s);
    return QN_OK;
}
