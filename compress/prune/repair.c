/* repair.c: see repair.h: the order of things.
 *
 * A family whose consumers all read one value is chosen when that value is known in the pruned model, right before they are refitted. One with consumers in
 * several places, or one that changes statistics on its way (an inexact one), is chosen before anything runs, from the dense model's statistics,
 * so that all that follows sees its zeros. One that no product reads is chosen by magnitude. */
#include "base/err.h"
#include "compress/prune/refit.h"
#include <string.h>

struct repair {
    const qn_env *env;
    const qn_graph *g;
    const qn_groups *s;
    const qn_calibrate_feed *feed;
    const qn_repair_options *o;
    const uint32_t *keep;
    qn_cut *cut;
    qn_overlay *w;
    qn_repair_family *report;
    uint8_t *wanted, *early, *chosen; /* per family */
};

static uint32_t n_remove(const struct repair *r, uint32_t f)
{
    const uint32_t n = r->s->families[f].n_groups, keep = r->keep[f] < n ? r->keep[f] : n;
    return n - keep > r->cut->n_gone[f] ? n - keep : r->cut->n_gone[f];
}

/* Everything that a family takes away is 0 from here on. t: the models that run, or NULL. */
static qn_code zero(struct repair *r, uint32_t f, qn_stages *t, qn_err *err)
{
    const qn_family *fam = &r->s->families[f];
    for (uint32_t i = 0; i < fam->n_members; i++) {
        const uint32_t v = fam->members[i].value;
        float *to;
        if (r->g->values[v].kind != QN_VALUE_WEIGHT || r->g->values[v].dtype != QN_F32)
            continue;
        QN_TRY(qn_overlay_edit(r->w, v, &to, err));
        QN_TRY(qn_cut_zero(r->cut, v, to, err));
        if (t)
            qn_stages_forget(t, v);
    }
    return QN_OK;
}

static qn_code choose(struct repair *r, qn_repair_plan *p, uint32_t f, qn_err *err)
{
    const uint32_t n = n_remove(r, f);
    r->chosen[f] = 1;
    if (n == r->cut->n_gone[f])
        return QN_OK;
    uint32_t *order = qn_mem_get(r->env->alloc, n * sizeof *order, err);
    double *error = order ? qn_mem_get(r->env->alloc, n * sizeof *error, err) : NULL;
    qn_code rc = error ? qn_choose(r->env, r->s, p, r->o, r->w, f, r->cut->gone[f], n, false, order, error, err) : QN_E_MEMORY;
    for (uint32_t i = 0; i < n && rc == QN_OK; i++)
        qn_cut_set(r->cut, f, order[i], true);
    qn_mem_put(r->env->alloc, error);
    qn_mem_put(r->env->alloc, order);
    return rc;
}

static bool needs_rows(const struct repair *r)
{
    return r->o->refit || (r->o->saliency != QN_SALIENCY_MAGNITUDE && r->o->saliency != QN_SALIENCY_RANDOM);
}

/* Bytes that the overlay may grow to. */
static uint64_t overlay_bytes(const struct repair *r)
{
    uint64_t sum = 0;
    for (uint32_t v = 0; v < r->g->n_values; v++) {
        bool touched = r->w->data[v] != NULL;
        if (r->g->values[v].kind != QN_VALUE_WEIGHT)
            continue;
        for (uint32_t f = 0; f < r->s->n_families && !touched; f++)
            for (uint32_t i = 0; r->wanted[f] && i < r->s->families[f].n_members && !touched; i++)
                touched = r->s->families[f].members[i].value == v;
        sum += touched ? qn_value_elems(&r->g->values[v]) * sizeof(float) : 0;
    }
    return sum;
}

/* --- before anything runs -------------------------------------------------------------------------------------------------------- */

static qn_code early_stages(struct repair *r, qn_repair_plan *p, qn_err *err)
{
    qn_stages t = {.env = r->env, .plan = p, .feed = r->feed, .o = r->o, .keeps_all = true, .beside_bytes = overlay_bytes(r)};
    qn_code rc = qn_stages_open(&t, err);
    while (rc == QN_OK && t.stage < p->n_stages) {
        rc = qn_stages_collect(&t, err);
        for (uint32_t f = 0; f < r->s->n_families && rc == QN_OK; f++) {
            bool several;
            if (r->early[f] && qn_family_has_units(p, f) && qn_family_stage(p, f, &several) == t.stage)
                rc = choose(r, p, f, err);
        }
        if (rc == QN_OK)
            rc = qn_stages_next(&t, err);
    }
    qn_stages_close(&t);
    return rc;
}

static qn_code choose_early(struct repair *r, qn_err *err)
{
    qn_repair_plan p;
    const bool rows = r->o->saliency != QN_SALIENCY_MAGNITUDE && r->o->saliency != QN_SALIENCY_RANDOM;
    QN_TRY(qn_repair_plan_make(&p, r->env, r->g, r->s, r->early, err));
    qn_code rc = rows && p.n_units ? early_stages(r, &p, err) : QN_OK;
    for (uint32_t f = 0; f < r->s->n_families && rc == QN_OK; f++)
        if (r->early[f] && !r->chosen[f])
            rc = choose(r, NULL, f, err);
    for (uint32_t f = 0; f < r->s->n_families && rc == QN_OK; f++)
        if (r->early[f] || r->cut->n_gone[f])
            rc = zero(r, f, NULL, err);
    qn_repair_plan_release(&p);
    return rc;
}

/* --- the walk -------------------------------------------------------------------------------------------------------------------- */

static qn_code gone_columns(struct repair *r, qn_repair_plan *p, uint32_t unit, uint8_t *gone, qn_arena *scratch, qn_err *err)
{
    memset(gone, 0, p->units[unit].d);
    for (uint32_t l = 0; l < p->n_links; l++) {
        uint32_t *start, *cols;
        const uint32_t f = p->links[l].family;
        if (p->links[l].unit != unit)
            continue;
        QN_TRY(qn_unit_columns(r->s, &p->units[unit], &p->links[l], scratch, &start, &cols, err));
        for (uint32_t i = 0; i < r->s->families[f].n_groups; i++)
            for (uint32_t k = start[i]; r->cut->gone[f][i] && k < start[i + 1]; k++)
                gone[cols[k]] = 1;
    }
    return QN_OK;
}

static void tell(struct repair *r, const qn_repair_plan *p, uint32_t unit, const qn_refitted *d)
{
    for (uint32_t l = 0; l < p->n_links; l++) {
        qn_repair_family *f = &r->report[p->links[l].family];
        if (p->links[l].unit != unit)
            continue;
        f->before += d->before;
        f->after += d->after;
        f->refitted |= d->better;
        if (p->units[unit].no_refit)
            f->note = p->units[unit].no_refit;
        else if (!d->better && r->o->refit && !f->note)
            f->note = "a refit did not help on rows that it had not seen";
    }
}

static qn_code refit_unit(struct repair *r, qn_stages *t, uint32_t unit, qn_err *err)
{
    qn_unit *u = &t->plan->units[unit];
    qn_arena scratch;
    qn_refitted done = {0};
    qn_arena_init(&scratch, r->env->alloc);
    uint8_t *gone = qn_arena_get(&scratch, u->d, 1, err);
    qn_code rc = gone ? gone_columns(r, t->plan, unit, gone, &scratch, err) : QN_E_MEMORY;
    if (rc == QN_OK && !u->no_refit)
        rc = qn_refit_unit(u, r->o, gone, r->w, &done, err);
    if (rc == QN_OK)
        tell(r, t->plan, unit, &done);
    if (done.better) {
        qn_stages_forget(t, u->weight);
        if (u->bias != QN_NO_VALUE)
            qn_stages_forget(t, u->bias);
    }
    qn_arena_release(&scratch);
    return rc;
}

static qn_code stage(struct repair *r, qn_stages *t, qn_err *err)
{
    qn_repair_plan *p = t->plan;
    QN_TRY(qn_stages_collect(t, err));
    for (uint32_t f = 0; f < r->s->n_families; f++) {
        bool several;
        if (!r->chosen[f] && qn_family_has_units(p, f) && qn_family_stage(p, f, &several) == t->stage)
            QN_TRY(choose(r, p, f, err));
    }
    for (uint32_t u = 0; u < p->n_units; u++)
        if (p->units[u].stage == t->stage) {
            QN_TRY(refit_unit(r, t, u, err));
            qn_unit_forget(&p->units[u], r->env->alloc);
        }
    for (uint32_t f = 0; f < r->s->n_families; f++) {
        bool here = false;
        for (uint32_t l = p->first_link[f]; l < p->first_link[f + 1] && !here; l++)
            here = p->units[p->links[l].unit].stage == t->stage;
        if (here)
            QN_TRY(zero(r, f, t, err));
    }
    return qn_stages_next(t, err);
}

static qn_code walk(struct repair *r, qn_err *err)
{
    qn_repair_plan p;
    QN_TRY(qn_repair_plan_make(&p, r->env, r->g, r->s, r->wanted, err));
    qn_stages t = {.env = r->env, .plan = &p, .feed = r->feed, .o = r->o, .overlay = r->w, .beside_bytes = overlay_bytes(r)};
    qn_code rc = QN_OK;
    for (uint32_t f = 0; f < r->s->n_families; f++)
        if (r->wanted[f] && !qn_family_has_units(&p, f))
            r->report[f].note = "no product that can be refitted reads it; chosen by magnitude";
    if (p.n_units) {
        rc = qn_stages_open(&t, err);
        while (rc == QN_OK && t.stage < p.n_stages)
            rc = stage(r, &t, err);
        qn_stages_close(&t);
    }
    qn_repair_plan_release(&p);
    return rc;
}

/* Which families are chosen before anything runs. */
static qn_code sort_families(struct repair *r, qn_err *err)
{
    qn_repair_plan p;
    QN_TRY(qn_repair_plan_make(&p, r->env, r->g, r->s, r->wanted, err));
    for (uint32_t f = 0; f < r->s->n_families; f++) {
        bool several = false;
        (void)qn_family_stage(&p, f, &several);
        r->early[f] = r->wanted[f] && (several || r->s->families[f].reason || !qn_family_has_units(&p, f));
        for (uint32_t l = p.first_link[f]; l < p.first_link[f + 1]; l++)
            if (p.units[p.links[l].unit].no_refit) /* read in places that are not known here */
                r->early[f] = 1;
    }
    qn_repair_plan_release(&p);
    return QN_OK;
}

static qn_code repair(struct repair *r, qn_err *err)
{
    for (uint32_t f = 0; f < r->s->n_families; f++) {
        r->report[f] = (qn_repair_family){0};
        r->wanted[f] = n_remove(r, f) > 0;
    }
    if (!needs_rows(r)) {
        for (uint32_t f = 0; f < r->s->n_families; f++)
            r->early[f] = r->wanted[f];
        return choose_early(r, err);
    }
    QN_TRY(sort_families(r, err));
    QN_TRY(choose_early(r, err));
    return walk(r, err);
}

qn_code qn_repair(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, const uint32_t *keep, const qn_repair_options *o, qn_cut *cut,
                  qn_overlay *w, qn_repair_family *report, qn_err *err)
{
    const uint64_t n = cut->groups->n_families;
    struct repair r = {.env = env, .g = g, .s = cut->groups, .feed = feed, .o = o, .keep = keep, .cut = cut, .w = w, .report = report};
    uint8_t *flags = qn_mem_zeros(env->alloc, 3 * n + 3, 1, err);
    if (!flags)
        return QN_E_MEMORY;
    r.wanted = flags;
    r.early = flags + n + 1;
    r.chosen = r.early + n + 1;
    const qn_code rc = repair(&r, err);
    qn_mem_put(env->alloc, flags);
    return rc;
}
