/* slices.c: see slices.h. A weight is walked row by row, sums are by index of the axis and then by group: no strided columns. */
#include "compress/prune/slices.h"
#include "base/num.h"
#include <string.h>

static bool stands(const qn_slices *s, uint32_t f, const qn_member *m)
{
    return s->weight_of[m->value] != QN_NO_VALUE && (!s->consumers[f] || m->role == QN_MEMBER_CONSUMER);
}

/* Shape of a weight around one axis. */
struct axis {
    uint64_t outer, n, inner;
};

static struct axis axis_of(const qn_groups *s, const qn_member *m)
{
    const int64_t *dims = s->dims + (uint64_t)m->value * QN_ARRAY_RANK_MAX;
    struct axis a = {.outer = 1, .n = (uint64_t)dims[m->axis], .inner = 1};
    for (unsigned k = 0; k < s->rank[m->value]; k++)
        if (k != m->axis)
            *(k < m->axis ? &a.outer : &a.inner) *= (uint64_t)dims[k];
    return a;
}

static uint64_t count(const qn_slices *s, uint64_t *longest)
{
    uint64_t n = 0;
    for (uint32_t f = 0; f < s->groups->n_families; f++) {
        const qn_family *fam = &s->groups->families[f];
        for (uint32_t k = 0; k < fam->n_members; k++) {
            const qn_member *m = &fam->members[k];
            if (s->weight_of[m->value] == QN_NO_VALUE)
                continue;
            *longest = qn_max_u64(*longest, axis_of(s->groups, m).n);
            s->consumers[f] |= m->role == QN_MEMBER_CONSUMER;
        }
        n += fam->n_groups;
    }
    return n;
}

qn_code qn_slices_open(const qn_env *env, const qn_groups *g, const uint32_t *weights, uint32_t n_weights, qn_slices *s, qn_err *err)
{
    uint64_t longest = 1;
    *s = (qn_slices){.env = env, .groups = g};
    s->weight_of = qn_mem_get(env->alloc, ((uint64_t)g->graph->n_values + 1) * sizeof *s->weight_of, err);
    s->first = qn_mem_zeros(env->alloc, (uint64_t)g->n_families + 1, sizeof *s->first, err);
    s->consumers = qn_mem_zeros(env->alloc, (uint64_t)g->n_families + 1, 1, err);
    if (!s->weight_of || !s->first || !s->consumers)
        return QN_E_MEMORY;
    memset(s->weight_of, 0xff, ((uint64_t)g->graph->n_values + 1) * sizeof *s->weight_of);
    for (uint32_t i = 0; i < n_weights; i++)
        s->weight_of[weights[i]] = i;
    s->n = (uint32_t)count(s, &longest);
    for (uint32_t f = 0; f < g->n_families; f++)
        s->first[f + 1] = s->first[f] + g->families[f].n_groups;
    s->room = qn_mem_zeros(env->alloc, longest, sizeof *s->room, err);
    s->elems = qn_mem_zeros(env->alloc, (uint64_t)s->n + 1, sizeof *s->elems, err);
    if (!s->room || !s->elems)
        return QN_E_MEMORY;
    for (uint32_t f = 0; f < g->n_families; f++)
        for (uint32_t k = 0; k < g->families[f].n_members; k++) {
            const qn_member *m = &g->families[f].members[k];
            const struct axis a = axis_of(g, m);
            for (uint32_t i = 0; stands(s, f, m) && i < g->families[f].n_groups; i++)
                s->elems[s->first[f] + i] += (m->start[i + 1] - m->start[i]) * a.outer * a.inner;
        }
    return QN_OK;
}

void qn_slices_close(qn_slices *s)
{
    if (!s->env)
        return;
    void *const all[] = {s->weight_of, s->first, s->consumers, s->room, s->elems};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        qn_mem_put(s->env->alloc, all[i]);
}

static void axis_dot(const struct axis *a, const float *x, const float *y, double *sum)
{
    memset(sum, 0, a->n * sizeof *sum);
    for (uint64_t o = 0; o < a->outer; o++)
        for (uint64_t i = 0; i < a->n; i++)
            for (uint64_t k = 0; k < a->inner; k++, x++, y++)
                sum[i] += (double)*x * (double)*y;
}

void qn_slices_dot(const qn_slices *s, float *const *a, float *const *b, double *dot)
{
    memset(dot, 0, s->n * sizeof *dot);
    for (uint32_t f = 0; f < s->groups->n_families; f++) {
        const qn_family *fam = &s->groups->families[f];
        for (uint32_t k = 0; k < fam->n_members; k++) {
            const qn_member *m = &fam->members[k];
            const uint32_t w = s->weight_of[m->value];
            if (!stands(s, f, m) || !a[w] || !b[w])
                continue;
            const struct axis x = axis_of(s->groups, m);
            axis_dot(&x, a[w], b[w], s->room);
            for (uint32_t i = 0; i < fam->n_groups; i++)
                for (uint32_t j = m->start[i]; j < m->start[i + 1]; j++)
                    dot[s->first[f] + i] += s->room[m->index[j]];
        }
    }
}

/* w · by, or w + by · x; `none`: the factor that leaves an entry as it is. */
static void change(const qn_slices *s, const struct axis *a, const float *x, double none, float *w)
{
    for (uint64_t o = 0; o < a->outer; o++)
        for (uint64_t i = 0; i < a->n; i++) {
            const uint64_t at = (o * a->n + i) * a->inner;
            const float by = (float)s->room[i];
            if (s->room[i] == none)
                continue;
            for (uint64_t e = at; e < at + a->inner; e++)
                w[e] = x ? w[e] + by * x[e] : w[e] * by;
        }
}

static void change_all(const qn_slices *s, const double *by, float *const *x, double none, float *const *w)
{
    for (uint32_t f = 0; f < s->groups->n_families; f++) {
        const qn_family *fam = &s->groups->families[f];
        bool some = false;
        for (uint32_t i = 0; i < fam->n_groups; i++)
            some = some || by[s->first[f] + i] != none;
        for (uint32_t k = 0; some && k < fam->n_members; k++) {
            const qn_member *m = &fam->members[k];
            if (!stands(s, f, m) || (x && !x[s->weight_of[m->value]]))
                continue;
            const struct axis a = axis_of(s->groups, m);
            for (uint64_t i = 0; i < a.n; i++)
                s->room[i] = none;
            for (uint32_t i = 0; i < fam->n_groups; i++)
                for (uint32_t j = m->start[i]; j < m->start[i + 1]; j++)
                    s->room[m->index[j]] = by[s->first[f] + i];
            change(s, &a, x ? x[s->weight_of[m->value]] : NULL, none, w[s->weight_of[m->value]]);
        }
    }
}

void qn_slices_scale(const qn_slices *s, const double *by, float *const *w)
{
    change_all(s, by, NULL, 1, w);
}

void qn_slices_add(const qn_slices *s, const double *by, float *const *x, float *const *w)
{
    change_all(s, by, x, 0, w);
}
