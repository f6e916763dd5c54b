/* view.c: tensors that do not lie in their storage as they read: slices, transposes, expanded and shared ones.
 *
 * What is asked for is a range of bytes of the row-major content. The innermost dimensions that lie in order are runs, copied at
 * once; between runs an odometer steps through the outer ones. When all that the range touches spans little, it is read in one
 * piece and gathered in memory; else each run is read by itself. */
#include "base/err.h"
#include "base/num.h"
#include "formats/torch/torch.h"
#include <string.h>

#define SPAN_MAX (UINT64_C(64) << 20)

struct gather {
    qn_source *s;
    const qn_torch_view *v;
    const uint64_t *dims;
    unsigned n_outer;    /* dimensions that the odometer steps through */
    uint64_t n_elem;     /* bytes of an element           */
    uint64_t run_elems;  /* elements that lie in order    */
    uint64_t at[QN_RANK_MAX];
    uint64_t base;       /* element of the storage where the current run begins */
    const uint8_t *span; /* storage bytes from span_off on, or NULL */
    uint64_t span_off;
};

static void find_runs(struct gather *g, const qn_source_tensor *t)
{
    g->run_elems = 1;
    g->n_outer = t->rank;
    while (g->n_outer > 0 && (t->dims[g->n_outer - 1] == 1 || g->v->stride[g->n_outer - 1] == g->run_elems))
        g->run_elems *= t->dims[--g->n_outer];
}

static void seek(struct gather *g, uint64_t run)
{
    g->base = g->v->first;
    for (unsigned i = g->n_outer; i-- > 0;) {
        g->at[i] = run % g->dims[i];
        run /= g->dims[i];
        g->base += g->at[i] * g->v->stride[i];
    }
}

static void step(struct gather *g)
{
    for (unsigned i = g->n_outer; i-- > 0;) {
        g->base += g->v->stride[i];
        if (++g->at[i] < g->dims[i])
            return;
        g->base -= g->dims[i] * g->v->stride[i];
        g->at[i] = 0;
    }
}

/* Storage bytes [*lo, *hi) that runs first … last touch: where the coordinates of both agree they are fixed, the first that
 * differs has a range, all behind it may be anything. */
static void find_span(struct gather *g, uint64_t first, uint64_t last, uint64_t *lo, uint64_t *hi)
{
    uint64_t a[QN_RANK_MAX];
    bool free_dim = false;
    seek(g, first);
    memcpy(a, g->at, sizeof a);
    seek(g, last);
    uint64_t from = g->v->first, to = g->v->first;
    for (unsigned i = 0; i < g->n_outer; i++) {
        from += (free_dim ? 0 : a[i]) * g->v->stride[i];
        to += (free_dim ? g->dims[i] - 1 : g->at[i]) * g->v->stride[i];
        free_dim = free_dim || a[i] != g->at[i];
    }
    *lo = from * g->n_elem;
    *hi = (to + g->run_elems) * g->n_elem;
}

/* Bytes [at, at + n) of the content. */
static qn_code copy_runs(struct gather *g, uint64_t at, uint64_t n, uint8_t *dst, qn_err *err)
{
    const uint64_t run_bytes = g->run_elems * g->n_elem;
    uint64_t skip = at % run_bytes;
    seek(g, at / run_bytes);
    while (n > 0) {
        const uint64_t take = qn_min_u64(n, run_bytes - skip), from = g->base * g->n_elem + skip;
        if (g->span)
            memcpy(dst, g->span + (from - g->span_off), (size_t)take);
        else
            QN_TRY(qn_fileset_read(g->s, g->v->file, g->v->off + from, take, dst, err));
        dst += take;
        n -= take;
        skip = 0;
        if (n > 0)
            step(g);
    }
    return QN_OK;
}

qn_code qn_torch_read_view(qn_source *s, const qn_source_tensor *t, const void *view, uint64_t at, uint64_t n, uint8_t *dst,
                           qn_err *err)
{
    enum { LONG_RUN = 4096 };
    const qn_torch_view *v = view;
    struct gather g = {.s = s, .v = v, .dims = t->dims, .n_elem = qn_dtype_bits((qn_dtype)t->dtype) / 8};
    find_runs(&g, t);
    const uint64_t run_bytes = g.run_elems * g.n_elem;
    if (run_bytes >= LONG_RUN)
        return copy_runs(&g, at, n, dst, err);
    uint64_t lo, hi;
    find_span(&g, at / run_bytes, (at + n - 1) / run_bytes, &lo, &hi);
    if (hi - lo > SPAN_MAX)
        return copy_runs(&g, at, n, dst, err);
    uint8_t *span = qn_mem_get(s->env->alloc, hi - lo, err);
    if (!span)
        return QN_E_MEMORY;
    g.span = span;
    g.span_off = lo;
    qn_code rc = qn_fileset_read(s, v->file, v->off + lo, hi - lo, span, err);
    if (rc == QN_OK)
        rc = copy_runs(&g, at, n, dst, err);
    qn_mem_put(s->env->alloc, span);
    return rc;
}
