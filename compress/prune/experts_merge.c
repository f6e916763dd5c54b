/* experts_merge.c: experts that go, averaged into those that stay; see qn_depth_merge in depth.h. Channels of an expert can stand in any order, so they are
 * paired first: the stronger ones choose before the weaker, each the nearest that is left (a greedy assignment). */
#include "base/err.h"
#include "compress/prune/depth_impl.h"
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64 }; /* channels of which all angles are held at one time */

static bool is(const qn_node *n, const char *type)
{
    return !strcmp(n->domain, "quern") && !strcmp(n->type, type);
}

/* Where one expert's weights are: gate and up (ffn, width), down (width, ffn). */
struct expert {
    float *gate, *up, *down;
};

struct layer {
    const qn_env *env;
    struct expert *experts;
    const float *router;     /* (n, width) */
    uint64_t n, ffn, width;
    float *key, *other;      /* (ffn, 3 · width): a channel's weights as one row, of length 1 */
    float *angles;           /* (BLOCK, ffn)                                                   */
    struct channel {
        double norm;
        uint32_t at;
    } *order;                /* of the one that stays, the strongest first                     */
    uint32_t *match, *home;  /* which channel of the other is whose; where each expert goes    */
    uint8_t *taken;
};

static qn_code find_weights(const qn_graph *g, const qn_node *n, struct layer *l, qn_overlay *w, qn_err *err)
{
    const char *layout = qn_node_string(n, "layout", "");
    const bool separate = !strcmp(layout, "separate"), fused = !strcmp(layout, "fused");
    const qn_value *down = &g->values[n->in[n->n_in - 1u]];
    l->ffn = (uint64_t)down->dims[down->rank - 1u];
    l->width = (uint64_t)down->dims[down->rank - 2u];
    const uint64_t elems = l->ffn * l->width;
    for (uint64_t e = 0; e < l->n; e++) {
        struct expert *x = &l->experts[e];
        if (separate) {
            QN_TRY(qn_overlay_edit(w, n->in[2 + e], &x->gate, err));
            QN_TRY(qn_overlay_edit(w, n->in[2 + l->n + e], &x->up, err));
            QN_TRY(qn_overlay_edit(w, n->in[2 + 2 * l->n + e], &x->down, err));
            const qn_value *v = &g->values[n->in[2 + 2 * l->n + e]];
            if ((uint64_t)v->dims[1] != l->ffn)
                return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "experts of different widths cannot be merged");
            continue;
        }
        QN_TRY(qn_overlay_edit(w, n->in[2], &x->gate, err));
        QN_TRY(qn_overlay_edit(w, n->in[3], fused ? &x->down : &x->up, err));
        if (!fused)
            QN_TRY(qn_overlay_edit(w, n->in[4], &x->down, err));
        x->gate += e * elems * (fused ? 2 : 1);
        x->up = fused ? x->gate + elems : x->up + e * elems;
        x->down += e * elems;
    }
    return QN_OK;
}

static qn_code find_router(const qn_graph *g, const qn_node *n, struct layer *l, qn_overlay *w, qn_err *err)
{
    const qn_node *router = g->values[n->in[1]].kind == QN_VALUE_NODE ? &g->nodes[g->values[n->in[1]].node] : NULL;
    float *p;
    if (!router || !is(router, "Linear") || g->values[router->in[1]].kind != QN_VALUE_WEIGHT)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s: its router is no product with a weight", n->name);
    QN_TRY(qn_overlay_edit(w, router->in[1], &p, err));
    l->router = p;
    return QN_OK;
}

static double cosine(const float *a, const float *b, uint64_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (uint64_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

/* Channels as rows of length 1; norms (may be NULL): what they were. */
static void rows_of(const struct layer *l, const struct expert *x, float *rows, struct channel *norms)
{
    const uint64_t h = l->width;
    for (uint64_t j = 0; j < l->ffn; j++) {
        float *r = rows + j * 3 * h;
        double sum = 0;
        memcpy(r, x->gate + j * h, h * sizeof *r);
        memcpy(r + h, x->up + j * h, h * sizeof *r);
        for (uint64_t k = 0; k < h; k++)
            r[2 * h + k] = x->down[k * l->ffn + j];
        for (uint64_t k = 0; k < 3 * h; k++)
            sum += (double)r[k] * (double)r[k];
        if (norms)
            norms[j] = (struct channel){sum, (uint32_t)j};
        for (uint64_t k = 0; k < 3 * h && sum > 0; k++)
            r[k] = (float)((double)r[k] / sqrt(sum));
    }
}

static int by_norm(const void *pa, const void *pb)
{
    const struct channel *a = pa, *b = pb;
    if (a->norm != b->norm)
        return a->norm > b->norm ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

/* match[j]: the channel of the other that goes to channel j. */
static void pair_channels(struct layer *l)
{
    const uint64_t f = l->ffn, h3 = 3 * l->width;
    memset(l->taken, 0, f);
    for (uint64_t at = 0; at < f; at += BLOCK) {
        const uint64_t n = f - at < BLOCK ? f - at : BLOCK;
        for (uint64_t i = 0; i < n; i++)
            cblas_sgemv(CblasRowMajor, CblasNoTrans, (blasint)f, (blasint)h3, 1, l->other, (blasint)h3, l->key + l->order[at + i].at * h3, 1, 0,
                        l->angles + i * f, 1);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t best = f;
            for (uint64_t k = 0; k < f; k++)
                if (!l->taken[k] && (best == f || l->angles[i * f + k] > l->angles[i * f + best]))
                    best = k;
            l->taken[best] = 1;
            l->match[l->order[at + i].at] = (uint32_t)best;
        }
    }
}

/* to += by · from, its channels as matched; first `to` itself has been multiplied with its own part. */
static void add_matched(const struct layer *l, struct expert *to, const struct expert *from, double by)
{
    for (uint64_t j = 0; j < l->ffn; j++) {
        const uint64_t m = l->match[j];
        for (uint64_t k = 0; k < l->width; k++) {
            to->gate[j * l->width + k] += (float)(by * (double)from->gate[m * l->width + k]);
            to->up[j * l->width + k] += (float)(by * (double)from->up[m * l->width + k]);
            to->down[k * l->ffn + j] += (float)(by * (double)from->down[k * l->ffn + m]);
        }
    }
}

static void scale(const struct layer *l, struct expert *x, double by)
{
    for (uint64_t i = 0; i < l->ffn * l->width; i++) {
        x->gate[i] = (float)(by * (double)x->gate[i]);
        x->up[i] = (float)(by * (double)x->up[i]);
        x->down[i] = (float)(by * (double)x->down[i]);
    }
}

/* home[e]: the one that stays and whose router row is nearest to that of e. */
static void find_homes(struct layer *l, const uint8_t *gone)
{
    for (uint64_t e = 0; e < l->n; e++) {
        double most = -(double)INFINITY;
        l->home[e] = (uint32_t)e;
        for (uint64_t k = 0; k < l->n && gone[e]; k++) {
            const double c = gone[k] ? -(double)INFINITY : cosine(l->router + e * l->width, l->router + k * l->width, l->width);
            if (c > most) {
                most = c;
                l->home[e] = (uint32_t)k;
            }
        }
    }
}

static void merge_into(struct layer *l, uint64_t s, const double *share)
{
    double all = 0;
    uint64_t n = 0;
    for (uint64_t e = 0; e < l->n; e++)
        if (l->home[e] == s) {
            all += share ? share[e] : 1;
            n++;
        }
    if (n < 2 || !(all > 0))
        return;
    rows_of(l, &l->experts[s], l->key, l->order); /* before anything is added to it */
    qsort(l->order, (size_t)l->ffn, sizeof *l->order, by_norm);
    scale(l, &l->experts[s], (share ? share[s] : 1) / all);
    for (uint64_t e = 0; e < l->n; e++) {
        if (e == s || l->home[e] != s)
            continue;
        rows_of(l, &l->experts[e], l->other, NULL);
        pair_channels(l);
        add_matched(l, &l->experts[s], &l->experts[e], (share ? share[e] : 1) / all);
    }
}

static qn_code room(struct layer *l, qn_err *err)
{
    const qn_alloc *a = l->env->alloc;
    l->key = qn_mem_zeros(a, l->ffn, 3 * l->width * sizeof *l->key, err);
    l->other = qn_mem_zeros(a, l->ffn, 3 * l->width * sizeof *l->other, err);
    l->angles = qn_mem_zeros(a, BLOCK, l->ffn * sizeof *l->angles, err);
    l->home = qn_mem_zeros(a, l->n, sizeof *l->home, err);
    l->order = qn_mem_zeros(a, l->ffn, sizeof *l->order, err);
    l->match = qn_mem_zeros(a, l->ffn, sizeof *l->match, err);
    l->taken = qn_mem_zeros(a, l->ffn, 1, err);
    return l->key && l->other && l->angles && l->home && l->order && l->match && l->taken ? QN_OK : QN_E_MEMORY;
}

static qn_code one_node(const qn_graph *g, const qn_node *n, const uint8_t *gone, const double *share, qn_overlay *w, qn_err *err)
{
    const qn_alloc *a = w->env->alloc;
    struct layer l = {.env = w->env, .n = (uint64_t)qn_node_int(n, "experts", 0)};
    l.experts = qn_mem_zeros(a, l.n + 1, sizeof *l.experts, err);
    qn_code rc = l.experts ? find_weights(g, n, &l, w, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = find_router(g, n, &l, w, err);
    if (rc == QN_OK)
        rc = room(&l, err);
    double sum = 0;
    for (uint64_t e = 0; share && e < l.n; e++)
        sum += share[e];
    if (rc == QN_OK)
        find_homes(&l, gone);
    for (uint64_t e = 0; rc == QN_OK && e < l.n; e++)
        if (!gone[e])
            merge_into(&l, e, sum > 0 ? share : NULL);
    void *const all[] = {l.experts, l.key, l.other, l.angles, l.home, l.order, l.match, l.taken};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        qn_mem_put(a, all[i]);
    return rc;
}

qn_code qn_depth_merge(const qn_graph *g, const qn_depth *d, const double *share, qn_overlay *w, qn_err *err)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const int64_t layer = is(&g->nodes[i], "Experts") ? qn_emit_layer_of(g, g->nodes[i].block) : -1;
        const uint8_t *gone = layer >= 0 && d->experts ? d->experts[layer] : NULL;
        if (gone)
            QN_TRY(one_node(g, &g->nodes[i], gone, share ? share + (uint64_t)layer * d->n_experts : NULL, w, err));
    }
    return QN_OK;
}
