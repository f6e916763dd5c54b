/* score.c: saliencies without an inverse: what one pass over weights and moments tells about each group. */
#include "base/err.h"
#include "base/random.h"
#include "base/num.h"
#include "compress/prune/repair_impl.h"
#include <math.h>
#include <string.h>

/* Whether a parameter is added: other parameters (scales, statistics) say nothing in their squares. */
static bool is_added(const qn_graph *g, uint32_t value)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        for (unsigned k = 0; k < n->n_in; k++)
            if (n->in[k] == value)
                return !strcmp(n->type, "Add") || (k == 2 && (!strcmp(n->type, "Linear") || !strcmp(n->type, "Gemm") || !strcmp(n->type, "Conv") ||
                                                              !strcmp(n->type, "ConvTranspose")));
    }
    return false;
}

/* Squares of one member's weight, added to the groups' scores. */
static qn_code add_squares(const qn_env *env, const qn_graph *g, const qn_overlay *w, const qn_family *f, const qn_member *m, double *score,
                           qn_err *err)
{
    const qn_value *v = &g->values[m->value];
    uint64_t before = 1, n = (uint64_t)v->dims[m->axis], behind = 1;
    for (unsigned k = 0; k < v->rank; k++) {
        if (k < m->axis)
            before *= (uint64_t)v->dims[k];
        if (k > m->axis)
            behind *= (uint64_t)v->dims[k];
    }
    float *all = qn_mem_get(env->alloc, (before * n * behind + 1) * sizeof *all, err);
    double *sum = all ? qn_mem_zeros(env->alloc, n + 1, sizeof *sum, err) : NULL;
    if (!sum) {
        qn_mem_put(env->alloc, all);
        return QN_E_MEMORY;
    }
    qn_code rc;
    if (w) {
        qn_overlay copy = *w;
        rc = qn_overlay_read(&copy, g, m->value, 0, (uint64_t)v->dims[0], all, err);
    } else {
        rc = qn_weight_from_source(env, g->source, g, m->value, 0, (uint64_t)v->dims[0], all, err);
    }
    for (uint64_t i = 0; i < before && rc == QN_OK; i++)
        for (uint64_t j = 0; j < n; j++)
            for (uint64_t k = 0; k < behind; k++) {
                const double x = (double)all[(i * n + j) * behind + k];
                sum[j] += x * x;
            }
    for (uint32_t i = 0; i < f->n_groups && rc == QN_OK; i++)
        for (uint32_t k = m->start[i]; k < m->start[i + 1]; k++)
            if (m->index[k] < n)
                score[i] += sum[m->index[k]];
    qn_mem_put(env->alloc, all);
    qn_mem_put(env->alloc, sum);
    return rc;
}

static qn_code magnitude(const qn_env *env, const qn_groups *s, const qn_overlay *w, uint32_t family, double *score, qn_err *err)
{
    const qn_family *f = &s->families[family];
    for (uint32_t i = 0; i < f->n_members; i++) {
        const qn_member *m = &f->members[i];
        const qn_value *v = &s->graph->values[m->value];
        if (m->role == QN_MEMBER_VALUE || v->kind != QN_VALUE_WEIGHT || v->dtype != QN_F32 || m->axis >= v->rank)
            continue;
        if (m->role == QN_MEMBER_PARAMETER && !is_added(s->graph, m->value))
            continue;
        QN_TRY(add_squares(env, s->graph, w, f, m, score, err));
    }
    return QN_OK;
}

/* One number per column: Σ_r |w_rj| · √(Σ x²/n), or Var(x_j) · Σ_r w_rj². */
static void score_columns(const qn_unit *u, qn_saliency kind, double *col)
{
    const qn_moments *hold = u->hold.g ? &u->hold : NULL;
    const float *w = u->w[1] ? u->w[1] : u->w[0];
    const double rows = (double)u->fit.n + (hold ? (double)hold->n : 0);
    for (uint32_t j = 0; j < u->d; j++) {
        double sum = 0;
        for (uint64_t r = 0; r < u->m; r++) {
            const double x = (double)w[r * u->d + j];
            sum += kind == QN_SALIENCY_WANDA ? fabs(x) : x * x;
        }
        const double second = qn_moments_second(&u->fit, hold, kind == QN_SALIENCY_VARIANCE, j, j) / rows;
        col[j] = sum * (kind == QN_SALIENCY_WANDA ? sqrt(second > 0 ? second : 0) : second > 0 ? second : 0);
    }
}

/* Each unit's scores as shares of their sum, so that several consumers are on one scale. */
static qn_code by_inputs(const qn_env *env, const qn_groups *s, qn_repair_plan *p, qn_saliency kind, uint32_t family, double *score, qn_err *err)
{
    qn_arena scratch;
    qn_arena_init(&scratch, env->alloc);
    qn_code rc = QN_OK;
    for (uint32_t l = p->first_link[family]; l < p->first_link[family + 1] && rc == QN_OK; l++) {
        const qn_unit *u = &p->units[p->links[l].unit];
        uint32_t *start, *cols;
        double total = 0;
        if (!u->fit.g || !u->fit.n)
            continue;
        double *col = qn_arena_get(&scratch, u->d * sizeof *col, 8, err);
        rc = col ? qn_unit_columns(s, u, &p->links[l], &scratch, &start, &cols, err) : QN_E_MEMORY;
        if (rc != QN_OK)
            break;
        score_columns(u, kind, col);
        const uint32_t n = s->families[family].n_groups;
        for (uint32_t i = 0; i < start[n]; i++)
            total += col[cols[i]];
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t k = start[i]; k < start[i + 1]; k++)
                score[i] += total > 0 ? col[cols[k]] / total : 0;
        qn_arena_reset(&scratch);
    }
    qn_arena_release(&scratch);
    return rc;
}

/* Of family and group: the same whatever else is scored. */
static double noise(uint64_t seed, uint32_t family, uint32_t group)
{
    return (double)(qn_random_at(seed + QN_RANDOM_STEP * (((uint64_t)family << 32 | group) + 1)) >> 11) * 0x1p-53;
}

qn_code qn_saliency_score(const qn_env *env, const qn_groups *s, qn_repair_plan *p, const qn_repair_options *o, const qn_overlay *w,
                          uint32_t family, double *score, qn_err *err)
{
    const uint32_t n = s->families[family].n_groups;
    const bool inputs = p && qn_family_has_units(p, family) && (o->saliency == QN_SALIENCY_WANDA || o->saliency == QN_SALIENCY_VARIANCE);
    for (uint32_t i = 0; i < n; i++)
        score[i] = o->saliency == QN_SALIENCY_RANDOM ? noise(o->seed, family, i) : 0;
    if (o->saliency == QN_SALIENCY_RANDOM)
        return QN_OK;
    return inputs ? by_inputs(env, s, p, o->saliency, family, score, err) : magnitude(env, s, w, family, score, err);
}
