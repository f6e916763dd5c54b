/* grad_reduce.c: the derivative of broadcasting: sums over the axes along which an operand was repeated.
 *
 * Once merged, the axes of d are kept and summed by turns. Where the last one is kept, a block of neighbouring results is summed at once; where it is
 * summed, runs are added up, and few long sums are cut into segments whose sums are then added in order. */
#include "analysis/grad/grad_help.h"
#include "base/num.h"
#include <string.h>

enum { LANES = 8, BLOCK = 256, RUN = 8192 };

double qn_grad_sum(const float *a, uint64_t n)
{
    double s[LANES] = {0};
    uint64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (unsigned k = 0; k < LANES; k++)
            s[k] += (double)a[i + k];
    for (unsigned k = 0; i < n; i++, k++)
        s[k] += (double)a[i];
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

double qn_grad_dot(const float *a, const float *b, uint64_t n)
{
    double s[LANES] = {0};
    uint64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (unsigned k = 0; k < LANES; k++)
            s[k] += (double)a[i + k] * (double)b[i + k];
    for (unsigned k = 0; i < n; i++, k++)
        s[k] += (double)a[i] * (double)b[i];
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

/* Axes with their steps in d, outermost first. */
typedef struct axes {
    unsigned rank;
    uint64_t n, dims[QN_ARRAY_RANK_MAX], steps[QN_ARRAY_RANK_MAX];
} axes;

static void append(axes *a, uint64_t dim, uint64_t step)
{
    a->dims[a->rank] = dim;
    a->steps[a->rank++] = step;
    a->n *= dim;
}

static uint64_t offset(const axes *a, uint64_t i)
{
    uint64_t off = 0;
    for (unsigned k = a->rank; k-- > 0; i /= a->dims[k])
        off += i % a->dims[k] * a->steps[k];
    return off;
}

typedef struct sums {
    axes kept, summed;     /* without the last axis of d                 */
    uint64_t last;         /* its length                                 */
    uint64_t n_blocks;     /* of the last axis, when it is kept          */
    uint64_t pieces, segments, per_part, n_parts; /* when it is summed: of a run; of a result; segments in a part; parts of a result */
    const float *d, *by;
    float *out;
    double *partial;       /* (results, n_parts), or NULL: one part each */
} sums;

static qn_code sum_block(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const sums *s = ctx;
    const uint64_t j0 = i % s->n_blocks * BLOCK, n = qn_min_u64(BLOCK, s->last - j0), row = i / s->n_blocks, base = offset(&s->kept, row) + j0;
    double acc[BLOCK] = {0};
    for (uint64_t r = 0; r < s->summed.n; r++) {
        const uint64_t at = base + offset(&s->summed, r);
        const float *d = s->d + at;
        if (s->by) {
            const float *by = s->by + at;
            for (uint64_t j = 0; j < n; j++)
                acc[j] += (double)d[j] * (double)by[j];
        } else {
            for (uint64_t j = 0; j < n; j++)
                acc[j] += (double)d[j];
        }
    }
    float *out = s->out + row * s->last + j0;
    for (uint64_t j = 0; j < n; j++)
        out[j] = (float)acc[j];
    return QN_OK;
}

static qn_code sum_runs(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const sums *s = ctx;
    const uint64_t base = offset(&s->kept, i / s->n_parts), first = i % s->n_parts * s->per_part;
    double acc = 0;
    for (uint64_t g = first; g < qn_min_u64(first + s->per_part, s->segments); g++) {
        const uint64_t j = g % s->pieces * RUN, at = base + offset(&s->summed, g / s->pieces) + j, n = qn_min_u64(RUN, s->last - j);
        acc += s->by ? qn_grad_dot(s->d + at, s->by + at, n) : qn_grad_sum(s->d + at, n);
    }
    if (s->partial)
        s->partial[i] = acc;
    else
        s->out[i] = (float)acc;
    return QN_OK;
}

static qn_code run_sums(qn_exec *x, sums *s, uint64_t n, qn_err *err)
{
    s->pieces = qn_ceil_div(s->last, RUN);
    s->segments = s->summed.n * s->pieces;
    s->per_part = s->segments;
    s->n_parts = 1;
    if (s->kept.n >= 16 || n < 4 * RUN)
        return qn_exec_parts(x, s->kept.n, n, sum_runs, s, err);
    s->per_part = qn_max_u64(1, RUN / s->last);
    s->n_parts = qn_ceil_div(s->segments, s->per_part);
    qn_array partial;
    QN_TRY(qn_exec_new(x, &partial, QN_F64, (const int64_t[]){(int64_t)s->kept.n, (int64_t)s->n_parts}, 2, err));
    s->partial = partial.data;
    const qn_code rc = qn_exec_parts(x, s->kept.n * s->n_parts, n, sum_runs, s, err);
    for (uint64_t i = 0; i < s->kept.n && rc == QN_OK; i++) {
        double acc = 0;
        for (uint64_t k = 0; k < s->n_parts; k++)
            acc += s->partial[i * s->n_parts + k];
        s->out[i] = (float)acc;
    }
    qn_array_release(&partial);
    return rc;
}

qn_code qn_grad_reduce(qn_exec *x, const qn_array *d, const float *by, const qn_array *like, qn_array *out, qn_err *err)
{
    if (d->n == like->n && !by)
        return qn_array_view(d, out, like->dims, like->rank, err);
    QN_TRY(qn_grad_like(x, like, !d->n, out, err));
    if (!d->n || !like->n)
        return QN_OK;
    const qn_array *ops[] = {like};
    qn_walk w;
    qn_walk_init(&w, d->dims, d->rank, ops, 1);
    sums s = {.kept.n = 1, .summed.n = 1, .last = w.dims[w.rank - 1], .d = d->data, .by = by, .out = out->data};
    uint64_t step = 1, steps[QN_ARRAY_RANK_MAX];
    for (unsigned k = w.rank; k-- > 0; step *= w.dims[k])
        steps[k] = step;
    for (unsigned k = 0; k + 1 < w.rank; k++)
        append(w.strides[0][k] ? &s.kept : &s.summed, w.dims[k], steps[k]);
    if (!w.strides[0][w.rank - 1])
        return run_sums(x, &s, d->n, err);
    s.n_blocks = qn_ceil_div(s.last, BLOCK);
    return qn_exec_parts(x, s.kept.n * s.n_blocks, d->n, sum_block, &s, err);
}
