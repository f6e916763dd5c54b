/* cut.c: which groups go, and what that leaves of a weight. */
#include "analysis/groups/cut.h"
#include "base/err.h"
#include <inttypes.h>
#include <string.h>

/* refs by value: counted, then filled. */
static void index_members(qn_cut *c)
{
    const qn_groups *s = c->groups;
    for (uint32_t f = 0; f < s->n_families; f++)
        for (uint32_t m = 0; m < s->families[f].n_members; m++)
            c->first[s->families[f].members[m].value + 2]++;
    for (uint32_t v = 0; v < s->graph->n_values; v++)
        c->first[v + 2] += c->first[v + 1];
    for (uint32_t f = 0; f < s->n_families; f++)
        for (uint32_t m = 0; m < s->families[f].n_members; m++) {
            const uint32_t at = c->first[s->families[f].members[m].value + 1]++;
            c->refs[2 * at] = f;
            c->refs[2 * at + 1] = m;
        }
}

qn_code qn_cut_new(const qn_env *env, const qn_groups *s, qn_cut **out, qn_err *err)
{
    uint64_t n_members = 0, n_groups = 0;
    for (uint32_t f = 0; f < s->n_families; f++) {
        n_members += s->families[f].n_members;
        n_groups += s->families[f].n_groups;
    }
    qn_cut *c = qn_mem_zeros(env->alloc, 1, sizeof *c, err);
    if (!c)
        return QN_E_MEMORY;
    *c = (qn_cut){.env = env, .groups = s};
    c->gone = qn_mem_zeros(env->alloc, (uint64_t)s->n_families + 1, sizeof *c->gone, err);
    c->n_gone = qn_mem_zeros(env->alloc, (uint64_t)s->n_families + 1, sizeof *c->n_gone, err);
    c->first = qn_mem_zeros(env->alloc, (uint64_t)s->graph->n_values + 3, sizeof *c->first, err);
    c->refs = qn_mem_zeros(env->alloc, n_members + 1, 2 * sizeof *c->refs, err);
    uint8_t *flags = qn_mem_zeros(env->alloc, n_groups + 1, 1, err);
    if (!c->gone || !c->n_gone || !c->first || !c->refs || !flags) {
        qn_mem_put(env->alloc, flags);
        qn_cut_free(c);
        return QN_E_MEMORY;
    }
    c->gone[0] = flags; /* also without families: the flags hang here */
    for (uint32_t f = 1; f < s->n_families; f++)
        c->gone[f] = c->gone[f - 1] + s->families[f - 1].n_groups;
    index_members(c);
    *out = c;
    return QN_OK;
}

void qn_cut_free(qn_cut *c)
{
    if (!c)
        return;
    const qn_alloc *a = c->env->alloc;
    if (c->gone)
        qn_mem_put(a, c->gone[0]);
    qn_mem_put(a, c->gone);
    qn_mem_put(a, c->n_gone);
    qn_mem_put(a, c->first);
    qn_mem_put(a, c->refs);
    qn_mem_put(a, c);
}

void qn_cut_set(qn_cut *c, uint32_t family, uint32_t group, bool gone)
{
    uint8_t *flag = &c->gone[family][group];
    if (*flag == gone)
        return;
    *flag = gone;
    if (gone)
        c->n_gone[family]++;
    else
        c->n_gone[family]--;
}

void qn_cut_copy(qn_cut *dst, const qn_cut *src)
{
    for (uint32_t f = 0; f < src->groups->n_families; f++) {
        memcpy(dst->gone[f], src->gone[f], src->groups->families[f].n_groups);
        dst->n_gone[f] = src->n_gone[f];
    }
}

/* Member r of a value. */
static const qn_member *member(const qn_cut *c, uint32_t r, uint32_t *family)
{
    *family = c->refs[2 * r];
    return &c->groups->families[*family].members[c->refs[2 * r + 1]];
}

qn_code qn_cut_axis(const qn_cut *c, uint32_t value, unsigned axis, uint8_t *keep, uint64_t n, uint64_t *n_kept, qn_err *err)
{
    memset(keep, 1, n);
    for (uint32_t r = c->first[value]; r < c->first[value + 1]; r++) {
        uint32_t f;
        const qn_member *m = member(c, r, &f);
        if (m->axis != axis)
            continue;
        for (uint32_t i = 0; i < c->groups->families[f].n_groups; i++)
            for (uint32_t k = m->start[i]; c->gone[f][i] && k < m->start[i + 1]; k++) {
                if (m->index[k] >= n)
                    return QN_BUG(err, "'%s' has no index %" PRIu32 " on axis %u", c->groups->graph->values[value].name, m->index[k], axis);
                keep[m->index[k]] = 0;
            }
    }
    *n_kept = 0;
    for (uint64_t i = 0; i < n; i++)
        *n_kept += keep[i];
    return QN_OK;
}

bool qn_cut_touches(const qn_cut *c, uint32_t value)
{
    for (uint32_t r = c->first[value]; r < c->first[value + 1]; r++) {
        uint32_t f;
        const qn_member *m = member(c, r, &f);
        for (uint32_t i = 0; c->n_gone[f] && i < c->groups->families[f].n_groups; i++)
            if (c->gone[f][i] && m->start[i] < m->start[i + 1])
                return true;
    }
    return false;
}

/* What stays of every axis of a value. */
struct axes {
    uint8_t *keep[QN_ARRAY_RANK_MAX];
    uint64_t dims[QN_ARRAY_RANK_MAX], kept[QN_ARRAY_RANK_MAX];
    unsigned rank;
};

static void axes_release(const qn_cut *c, struct axes *a)
{
    qn_mem_put(c->env->alloc, a->keep[0]);
}

static qn_code axes_init(const qn_cut *c, uint32_t value, struct axes *a, qn_err *err)
{
    const qn_groups *s = c->groups;
    memset(a, 0, sizeof *a);
    a->rank = s->rank[value];
    if (a->rank > QN_ARRAY_RANK_MAX)
        return QN_BUG(err, "the shape of '%s' is not known", s->graph->values[value].name);
    uint64_t sum = 0;
    for (unsigned k = 0; k < a->rank; k++) {
        a->dims[k] = (uint64_t)s->dims[(uint64_t)value * QN_ARRAY_RANK_MAX + k];
        sum += a->dims[k];
    }
    a->keep[0] = qn_mem_get(c->env->alloc, sum + 1, err);
    if (!a->keep[0])
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    for (unsigned k = 0; k < a->rank && rc == QN_OK; k++) {
        if (k)
            a->keep[k] = a->keep[k - 1] + a->dims[k - 1];
        rc = qn_cut_axis(c, value, k, a->keep[k], a->dims[k], &a->kept[k], err);
    }
    if (rc != QN_OK)
        axes_release(c, a);
    return rc;
}

/* Calls for every run of the innermost axis: does it stay, counted over all outer axes; `at` counts runs. */
static bool run_stays(const struct axes *a, uint64_t at)
{
    for (unsigned k = a->rank - 1; k-- > 0;) {
        if (!a->keep[k][at % a->dims[k]])
            return false;
        at /= a->dims[k];
    }
    return true;
}

static uint64_t n_runs(const struct axes *a)
{
    uint64_t n = 1;
    for (unsigned k = 0; k + 1 < a->rank; k++)
        n *= a->dims[k];
    return n;
}

qn_code qn_cut_zero(const qn_cut *c, uint32_t value, float *w, qn_err *err)
{
    struct axes a;
    if (!qn_cut_touches(c, value))
        return QN_OK;
    QN_TRY(axes_init(c, value, &a, err));
    const uint64_t width = a.dims[a.rank - 1], n = n_runs(&a);
    const uint8_t *keep = a.keep[a.rank - 1];
    for (uint64_t i = 0; i < n; i++, w += width) {
        if (!run_stays(&a, i))
            memset(w, 0, width * sizeof *w);
        else if (a.kept[a.rank - 1] < width)
            for (uint64_t k = 0; k < width; k++)
                if (!keep[k])
                    w[k] = 0;
    }
    axes_release(c, &a);
    return QN_OK;
}

qn_code qn_cut_zero_overlay(const qn_cut *c, qn_overlay *w, qn_err *err)
{
    const qn_graph *g = c->groups->graph;
    for (uint32_t v = 0; v < g->n_values; v++) {
        float *data;
        if (g->values[v].kind != QN_VALUE_WEIGHT || g->values[v].dtype != QN_F32 || !qn_cut_touches(c, v))
            continue;
        QN_TRY(qn_overlay_edit(w, v, &data, err));
        QN_TRY(qn_cut_zero(c, v, data, err));
    }
    return QN_OK;
}

qn_code qn_cut_take(const qn_cut *c, uint32_t value, unsigned elem_bytes, const void *full, void *out, int64_t out_dims[QN_ARRAY_RANK_MAX],
                    qn_err *err)
{
    struct axes a;
    QN_TRY(axes_init(c, value, &a, err));
    const uint8_t *src = full;
    uint8_t *dst = out;
    for (unsigned k = 0; k < a.rank; k++)
        out_dims[k] = (int64_t)a.kept[k];
    if (a.rank == 0) {
        memcpy(dst, src, elem_bytes);
    } else {
        const uint64_t width = a.dims[a.rank - 1], n = n_runs(&a);
        const uint8_t *keep = a.keep[a.rank - 1];
        for (uint64_t i = 0; i < n; i++, src += width * elem_bytes) {
            if (!run_stays(&a, i))
                continue;
            for (uint64_t k = 0; k < width;) {
                uint64_t e = k; /* neighbours that stay are copied together */
                while (e < width && keep[e])
                    e++;
                memcpy(dst, src + k * elem_bytes, (e - k) * elem_bytes);
                dst += (e - k) * elem_bytes;
                for (k = e; k < width && !keep[k]; k++)
                    ;
            }
        }
    }
    axes_release(c, &a);
    return QN_OK;
}

qn_code qn_cut_dims(const qn_cut *c, uint32_t value, int64_t dims[QN_ARRAY_RANK_MAX], qn_err *err)
{
    struct axes a;
    QN_TRY(axes_init(c, value, &a, err));
    for (unsigned k = 0; k < a.rank; k++)
        dims[k] = (int64_t)a.kept[k];
    axes_release(c, &a);
    return QN_OK;
}
