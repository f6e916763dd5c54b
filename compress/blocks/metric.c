/* metric.c: see metric.h. M_ab = Σ_j L_jj² L̃_aj L̃_bj over the columns j of a span that are visited after a and b, L̃_jj = 1.
 *
 * The order inside a span does not matter to M, so it is chosen anew, as blocks want it (qn_span_order): weights and feed are then those of M alone. */
#include "compress/blocks/metric.h"
#include "base/err.h"
#include "compress/blocks/span.h"
#include <math.h>
#include <string.h>

struct room {
    float *m, *feed, *weight, *diag;
    uint16_t *order;
};

static bool get_room(struct room *r, uint32_t n, bool fed, qn_arena *arena, qn_err *err)
{
    const uint64_t square = (uint64_t)n * n;
    float *f = qn_arena_get(arena, ((fed ? 2 * square : 0) + 2 * n) * sizeof *f, 64, err);
    r->order = f ? qn_arena_get(arena, n * sizeof *r->order, 64, err) : NULL;
    if (!r->order)
        return false;
    r->m = fed ? f : NULL;
    r->feed = fed ? f + square : NULL;
    r->weight = fed ? f + 2 * square : f;
    r->diag = r->weight + n;
    return true;
}

static void publish(qn_span_metric *m, const struct room *r, uint32_t n, const qn_span_kern *kern)
{
    *m = (qn_span_metric){.n = n, .m = r->m, .weight = r->weight, .diag = r->diag, .order = r->order, .feed = r->feed, .kern = kern};
}

/* b: (n, n) f64 by visit, row a: √L_jj² L̃_aj of the columns j not before a. M = B Bᵀ. */
static void multiply(const double *b, uint32_t n, const struct room *r)
{
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t c = a; c < n; c++) {
            double sum = 0;
            for (uint32_t j = c; j < n; j++)
                sum += b[(size_t)a * n + j] * b[(size_t)c * n + j];
            r->m[(size_t)r->order[a] * n + r->order[c]] = r->m[(size_t)r->order[c] * n + r->order[a]] = (float)sum;
        }
    for (uint32_t a = 0; a < n; a++)
        r->diag[a] = r->m[(size_t)a * n + a];
}

static void of_group(const qn_ldl *l, uint32_t v0, uint32_t n, uint32_t col0, double *b, double *root, const struct room *r)
{
    for (uint32_t a = 0; a < n; a++) {
        const uint32_t j = l->visit[v0 + a];
        r->order[a] = (uint16_t)(j - col0);
        r->weight[j - col0] = l->weight ? (float)l->weight[j] : 1;
        root[a] = l->weight ? l->weight[j] : 1;
    }
    for (uint32_t a = 0; a < n; a++) {
        const float *row = l->feed + (uint64_t)(v0 + a) * l->n + v0;
        for (uint32_t c = 0; c < n; c++) {
            const float v = c < a ? 0 : c == a ? 1 : row[c];
            r->feed[(size_t)a * n + c] = c > a ? v : 0;
            b[(size_t)a * n + c] = (double)v;
        }
    }
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t c = a; c < n; c++)
            b[(size_t)a * n + c] *= sqrt(root[c]);
    multiply(b, n, r);
}

/* M is not positive definite in f32: as if nothing could be fed back inside the span. */
static void alone(struct room *r, uint32_t n)
{
    r->m = r->feed = NULL;
    memcpy(r->weight, r->diag, n * sizeof *r->weight);
}

qn_code qn_span_metrics_fed(qn_span_metrics *out, const qn_ldl *l, uint32_t span, const qn_span_kern *kern, qn_arena *arena, qn_err *err)
{
    const uint32_t n_spans = (l->n - 1) / span + 1, most = span < l->n ? span : l->n;
    qn_span_metric *m = qn_arena_get(arena, n_spans * sizeof *m, 64, err);
    uint32_t *v0s = m ? qn_arena_get(arena, n_spans * sizeof *v0s, 8, err) : NULL;
    if (!v0s)
        return QN_E_MEMORY;
    if (!l->feed || l->n_groups != n_spans || span > QN_SPAN_MAX)
        return QN_BUG(err, "blocks: %u groups of %u columns, the factor has %u", n_spans, span, l->n_groups);
    double *b = qn_mem_get(l->alloc, ((uint64_t)most + 1) * most * sizeof *b, err);
    if (!b)
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    for (uint32_t g = 0; g < l->n_groups && rc == QN_OK; g++) {
        struct room r;
        const uint32_t v0 = l->begins[g], n = l->begins[g + 1] - v0, at = l->visit[v0] / span;
        if (!get_room(&r, n, true, arena, err)) {
            rc = QN_E_MEMORY;
            break;
        }
        of_group(l, v0, n, at * span, b, b + (size_t)most * most, &r);
        if (!qn_span_order(n, r.m, r.diag, r.order, r.feed, r.weight, b))
            alone(&r, n);
        publish(&m[at], &r, n, kern);
        v0s[at] = v0;
    }
    qn_mem_put(l->alloc, b);
    *out = (qn_span_metrics){span, n_spans, v0s, m};
    return rc;
}

qn_code qn_span_metrics_plain(qn_span_metrics *out, const double *weight, uint32_t cols, uint32_t span, const qn_span_kern *kern, qn_arena *arena,
                              qn_err *err)
{
    const uint32_t n_spans = (cols - 1) / span + 1;
    qn_span_metric *m = qn_arena_get(arena, n_spans * sizeof *m, 64, err);
    if (!m)
        return QN_E_MEMORY;
    for (uint32_t s = 0; s < n_spans; s++) {
        struct room r;
        const uint32_t col0 = s * span, n = cols - col0 < span ? cols - col0 : span;
        if (!get_room(&r, n, false, arena, err))
            return QN_E_MEMORY;
        for (uint32_t j = 0; j < n; j++) {
            r.order[j] = (uint16_t)j;
            r.weight[j] = r.diag[j] = weight ? (float)weight[col0 + j] : 1;
        }
        publish(&m[s], &r, n, kern);
    }
    *out = (qn_span_metrics){span, n_spans, NULL, m};
    return QN_OK;
}
