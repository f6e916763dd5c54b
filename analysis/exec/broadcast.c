/* broadcast.c: walking several operands at once, some of them repeated. Declared in onnx_kit.h. */
#include "analysis/exec/onnx_kit.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

qn_code qn_info_broadcast(const qn_info *in, unsigned n, qn_info *out, qn_err *err)
{
    unsigned rank = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!qn_info_ranked(&in[i]))
            return QN_OK;
        rank = in[i].rank > rank ? in[i].rank : rank;
    }
    int64_t dims[QN_ARRAY_RANK_MAX];
    for (unsigned k = 0; k < rank; k++) {
        int64_t d = 1;
        for (unsigned i = 0; i < n; i++) {
            const unsigned lead = rank - in[i].rank;
            const int64_t e = k < lead ? 1 : in[i].dims[k - lead];
            if (e == 1 || e == d)
                continue;
            if (d == 1 || d == QN_DIM_UNKNOWN) /* what is not known is 1 or this */
                d = e;
            else if (e != QN_DIM_UNKNOWN)
                return qn_fail_shapes(&in[0], &in[i], err);
        }
        dims[k] = d;
    }
    out->rank = (uint8_t)rank;
    memcpy(out->dims, dims, sizeof dims);
    return QN_OK;
}

/* Merges dim k into k + 1 where every operand steps evenly across both; dims of 1 vanish. */
static void merge(qn_walk *w)
{
    unsigned at = 0;
    for (unsigned k = 0; k < w->rank; k++) {
        if (w->dims[k] == 1)
            continue;
        bool even = at > 0;
        for (unsigned i = 0; i < w->n && even; i++)
            even = w->strides[i][at - 1] == w->strides[i][k] * (int64_t)w->dims[k];
        if (even) {
            w->dims[at - 1] *= w->dims[k];
            for (unsigned i = 0; i < w->n; i++)
                w->strides[i][at - 1] = w->strides[i][k];
            continue;
        }
        w->dims[at] = w->dims[k];
        for (unsigned i = 0; i < w->n; i++)
            w->strides[i][at] = w->strides[i][k];
        at++;
    }
    if (at == 0) {
        w->dims[0] = 1;
        for (unsigned i = 0; i < w->n; i++)
            w->strides[i][0] = 0;
        at = 1;
    }
    w->rank = at;
    w->n_runs = 1;
    for (unsigned k = 0; k + 1 < at; k++)
        w->n_runs *= w->dims[k];
}

void qn_walk_strides(qn_walk *w, const int64_t *dims, unsigned rank, const int64_t (*strides)[QN_ARRAY_RANK_MAX], unsigned n)
{
    *w = (qn_walk){.rank = rank, .n = n};
    for (unsigned k = 0; k < rank; k++) {
        w->dims[k] = (uint64_t)dims[k];
        for (unsigned i = 0; i < n; i++)
            w->strides[i][k] = strides[i][k];
        if (dims[k] == 0) { /* nothing to do at all */
            *w = (qn_walk){.rank = 1, .n = n};
            return;
        }
    }
    merge(w);
}

void qn_walk_init(qn_walk *w, const int64_t *dims, unsigned rank, const qn_array *const *operands, unsigned n)
{
    int64_t strides[QN_WALK_OPERANDS][QN_ARRAY_RANK_MAX] = {{0}};
    for (unsigned i = 0; i < n; i++) {
        const unsigned lead = rank - operands[i]->rank;
        int64_t step = 1;
        for (unsigned k = operands[i]->rank; k-- > 0;) {
            strides[i][k + lead] = operands[i]->dims[k] == 1 ? 0 : step;
            step *= operands[i]->dims[k];
        }
    }
    qn_walk_strides(w, dims, rank, (const int64_t (*)[QN_ARRAY_RANK_MAX])strides, n);
}

/* ---- parallel: pieces of a run when there are few, bundles of runs when there are many ---- */

enum { PIECE = 1 << 15 };

struct job {
    const qn_walk *w;
    qn_run_fn fn;
    void *ctx;
    uint64_t run, pieces_per_run, runs_per_piece;
};

static void seek(const qn_walk *w, uint64_t run, uint64_t *index, int64_t *off)
{
    for (unsigned i = 0; i < w->n; i++)
        off[i] = 0;
    for (unsigned k = w->rank - 1; k-- > 0;) {
        index[k] = run % w->dims[k];
        run /= w->dims[k];
        for (unsigned i = 0; i < w->n; i++)
            off[i] += (int64_t)index[k] * w->strides[i][k];
    }
}

static void next(const qn_walk *w, uint64_t *index, int64_t *off)
{
    for (unsigned k = w->rank - 1; k-- > 0;) {
        for (unsigned i = 0; i < w->n; i++)
            off[i] += w->strides[i][k];
        if (++index[k] < w->dims[k])
            return;
        for (unsigned i = 0; i < w->n; i++)
            off[i] -= w->strides[i][k] * (int64_t)w->dims[k];
        index[k] = 0;
    }
}

static qn_code part(void *ctx, uint64_t p, unsigned slot, qn_err *err)
{
    (void)slot;
    const struct job *j = ctx;
    const qn_walk *w = j->w;
    uint64_t index[QN_ARRAY_RANK_MAX] = {0};
    int64_t off[QN_WALK_OPERANDS] = {0};
    if (j->pieces_per_run > 1) {
        const uint64_t run = p / j->pieces_per_run, from = p % j->pieces_per_run * PIECE;
        seek(w, run, index, off);
        for (unsigned i = 0; i < w->n; i++)
            off[i] += (int64_t)from * w->strides[i][w->rank - 1];
        return j->fn(j->ctx, w, off, run * j->run + from, qn_min_u64(PIECE, j->run - from), err);
    }
    const uint64_t first = p * j->runs_per_piece, last = qn_min_u64(first + j->runs_per_piece, w->n_runs);
    seek(w, first, index, off);
    for (uint64_t r = first; r < last; r++) {
        QN_TRY(j->fn(j->ctx, w, off, r * j->run, j->run, err));
        next(w, index, off);
    }
    return QN_OK;
}

qn_code qn_walk_run(qn_exec *x, const qn_walk *w, qn_run_fn fn, void *ctx, qn_err *err)
{
    struct job j = {.w = w, .fn = fn, .ctx = ctx, .run = w->dims[w->rank - 1], .runs_per_piece = 1};
    if (!w->n_runs || !j.run)
        return QN_OK;
    j.pieces_per_run = qn_ceil_div(j.run, PIECE);
    if (j.pieces_per_run == 1)
        j.runs_per_piece = qn_max_u64(1, PIECE / j.run);
    const uint64_t n = j.pieces_per_run > 1 ? w->n_runs * j.pieces_per_run : qn_ceil_div(w->n_runs, j.runs_per_piece);
    return qn_exec_parts(x, n, w->n_runs * j.run, part, &j, err);
}

/* ---- copying ---- */

struct copy {
    const uint8_t *src;
    uint8_t *dst;
    unsigned bytes;
};

#define COPY(T)                                              \
    do {                                                     \
        const T *s = (const T *)(const void *)c->src + off[0]; \
        T *d = (T *)(void *)c->dst + at;                     \
        for (uint64_t i = 0; i < n; i++)                     \
            d[i] = s[(int64_t)i * step];                     \
    } while (0)

static qn_code copy_run(void *ctx, const qn_walk *w, const int64_t *off, uint64_t at, uint64_t n, qn_err *err)
{
    const struct copy *c = ctx;
    const int64_t step = w->strides[0][w->rank - 1];
    if (step == 1) {
        memcpy(c->dst + at * c->bytes, c->src + off[0] * (int64_t)c->bytes, n * c->bytes);
        return QN_OK;
    }
    switch (c->bytes) {
    case 1: COPY(uint8_t); return QN_OK;
    case 2: COPY(uint16_t); return QN_OK;
    case 4: COPY(uint32_t); return QN_OK;
    case 8: COPY(uint64_t); return QN_OK;
    default: return QN_BUG(err, "elements of %u bytes", c->bytes);
    }
}

qn_code qn_walk_copy(qn_exec *x, const qn_walk *w, unsigned elem_bytes, const void *src, void *dst, qn_err *err)
{
    struct copy c = {.src = src, .dst = dst, .bytes = elem_bytes};
    return qn_walk_run(x, w, copy_run, &c, err);
}
