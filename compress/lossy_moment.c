/* lossy_moment.c: the second moment of a layer's input, as statistics have it, or as an expert that saw few rows leans on the others. */
#include "base/err.h"
#include "base/num.h"
#include "compress/lossy_impl.h"
#include <string.h>

/* From here on the other experts' share is below an eighth, and is left out. */
enum { ENOUGH = 8 };

static bool has_h(const qn_lossy *l, uint32_t input)
{
    return (l->stats->inputs[input].parts & QN_STATS_HAS_H) && !l->r->no_feedback;
}

bool qn_lossy_leans(const qn_lossy *l, const qn_lossy_layer *y)
{
    return y->item && y->pick.family &&
           l->stats->inputs[y->item->input].count < ENOUGH * QN_LOSSY_LEAN * (uint64_t)y->pick.view.cols;
}

struct adding {
    double *sum;
    uint32_t n;
};

static qn_code add_row(void *ctx, uint32_t i, const float *row, qn_err *err)
{
    const struct adding *a = ctx;
    double *to = a->sum + (uint64_t)i * a->n + i;
    (void)err;
    to[0] += (double)row[0];
    for (uint32_t j = 1; j < a->n - i; j++) {
        to[j] += (double)row[j];
        to[(uint64_t)j * a->n] += (double)row[j];
    }
    return QN_OK;
}

/* += H or its diagonal */
static qn_code add_input(const qn_lossy *l, uint32_t input, uint32_t n, bool diagonal, double *sum, qn_err *err)
{
    if (!diagonal)
        return qn_stats_h_walk(l->stats, input, add_row, &(struct adding){sum, n}, err);
    qn_stats_vectors v;
    QN_TRY(qn_stats_vectors_read(l->stats, input, &v, err));
    for (uint32_t j = 0; j < n; j++)
        sum[j] += v.sum_sq[j];
    qn_stats_vectors_release(l->stats, &v);
    return QN_OK;
}

/* The layers of a family, one after the other: NULL begins. */
static const qn_lossy_layer *next_of_family(const qn_lossy *l, uint32_t family, const qn_lossy_layer *y)
{
    for (y = y ? y + 1 : l->layers; y < l->layers + l->n_layers; y++)
        if (y->pick.family == family && !y->pick.kept && y->item)
            return y;
    return NULL;
}

/* The sum over a family, remembered under its first input: gate and up have the same ones. */
static qn_code get_mean(qn_lossy *l, const qn_lossy_layer *y, const qn_lossy_mean **out, qn_err *err)
{
    const uint32_t family = y->pick.family, n = y->pick.view.cols;
    const qn_lossy_layer *first = next_of_family(l, family, NULL);
    const bool diagonal = !has_h(l, y->item->input);
    qn_lossy_mean *m = &l->means[0];
    for (unsigned i = 0; i < QN_LOSSY_MEANS; i++) {
        qn_lossy_mean *x = &l->means[i];
        if (x->n == n && x->input == first->item->input && x->diagonal == diagonal) {
            x->used = ++l->clock;
            *out = x;
            return QN_OK;
        }
        m = x->used < m->used ? x : m;
    }
    qn_mem_put(l->env->alloc, m->sum);
    *m = (qn_lossy_mean){0};
    m->sum = qn_mem_zeros(l->env->alloc, diagonal ? n : (uint64_t)n * n, sizeof *m->sum, err);
    if (!m->sum)
        return QN_E_MEMORY;
    for (const qn_lossy_layer *x = first; x; x = next_of_family(l, family, x))
        if (x->pick.view.cols == n && (diagonal || has_h(l, x->item->input))) {
            QN_TRY(add_input(l, x->item->input, n, diagonal, m->sum, err));
            m->count += (double)l->stats->inputs[x->item->input].count;
        }
    m->n = n;
    m->input = first->item->input;
    m->diagonal = diagonal;
    m->used = ++l->clock;
    *out = m;
    return QN_OK;
}

static qn_code lean(qn_lossy *l, const qn_lossy_layer *y, double *h, uint64_t n_values, qn_err *err)
{
    const qn_lossy_mean *m;
    QN_TRY(get_mean(l, y, &m, err));
    const double kappa = m->count > 0 ? QN_LOSSY_LEAN * (double)y->pick.view.cols / m->count : 0;
    for (uint64_t i = 0; i < n_values; i++)
        h[i] += kappa * m->sum[i];
    return QN_OK;
}

/* The block of columns col0 … of a matrix of n, moved to its beginning. */
static void cut_out(const qn_lossy_layer *y, double *h, uint32_t n)
{
    for (uint32_t i = 0; i < y->cols && y->cols < n; i++)
        memmove(h + (uint64_t)i * y->cols, h + (uint64_t)(y->col0 + i) * n + y->col0, y->cols * sizeof *h);
}

qn_code qn_lossy_moment(qn_lossy *l, const qn_lossy_layer *y, double **h, double **diagonal, qn_err *err)
{
    const uint32_t n = y->pick.view.cols, input = y->item->input;
    const bool full = has_h(l, input);
    const uint64_t n_values = full ? (uint64_t)n * n : n;
    double *v = qn_mem_zeros(l->env->alloc, n_values, sizeof *v, err);
    if (!v)
        return QN_E_MEMORY;
    *(full ? h : diagonal) = v;
    QN_TRY(full ? qn_stats_h_read_f64(l->stats, input, v, n, err) : add_input(l, input, n, true, v, err));
    if (qn_lossy_leans(l, y))
        QN_TRY(lean(l, y, v, n_values, err));
    if (full)
        cut_out(y, v, n);
    else if (y->col0)
        memmove(v, v + y->col0, y->cols * sizeof *v);
    return QN_OK;
}
