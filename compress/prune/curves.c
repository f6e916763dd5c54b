/* curves.c: what it costs to take groups out of each family alone: the dense model's own statistics, removals to the last group. */
#include "base/err.h"
#include "compress/prune/repair_impl.h"
#include <string.h>

static qn_code one_curve(const qn_env *env, const qn_groups *s, qn_repair_plan *p, const qn_repair_options *o, uint32_t f, qn_curves *out, qn_err *err)
{
    return qn_choose(env, s, p, o, NULL, f, NULL, s->families[f].n_groups, true, out->order[f], out->error[f] + 1, err);
}

/* Units that no family waits for any more give their moments back. */
static void let_go(qn_repair_plan *p, uint32_t stage, const uint32_t *last, const qn_alloc *a)
{
    for (uint32_t u = 0; u < p->n_units; u++) {
        bool waiting = p->units[u].stage > stage;
        for (uint32_t l = 0; l < p->n_links && !waiting; l++)
            waiting = p->links[l].unit == u && last[p->links[l].family] > stage;
        if (!waiting)
            qn_unit_forget(&p->units[u], a);
    }
}

static qn_code walk(const qn_env *env, const qn_groups *s, qn_repair_plan *p, qn_stages *t, uint32_t *last, qn_curves *out, qn_err *err)
{
    for (uint32_t f = 0; f < s->n_families; f++) {
        bool several;
        last[f] = qn_family_has_units(p, f) ? qn_family_stage(p, f, &several) : 0;
        t->keeps_all |= qn_family_has_units(p, f) && several;
    }
    QN_TRY(qn_stages_open(t, err));
    while (t->stage < p->n_stages) {
        QN_TRY(qn_stages_collect(t, err));
        for (uint32_t f = 0; f < s->n_families; f++)
            if (qn_family_has_units(p, f) && last[f] == t->stage)
                QN_TRY(one_curve(env, s, p, t->o, f, out, err));
        let_go(p, t->stage, last, env->alloc);
        QN_TRY(qn_stages_next(t, err));
    }
    return QN_OK;
}

static qn_code curves(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, const qn_groups *s, const qn_repair_options *o,
                      uint32_t *last, uint8_t *wanted, qn_curves *out, qn_err *err)
{
    qn_repair_plan p;
    memset(wanted, 1, s->n_families);
    QN_TRY(qn_repair_plan_make(&p, env, g, s, wanted, err));
    qn_stages t = {.env = env, .plan = &p, .feed = feed, .o = o};
    qn_code rc = QN_OK;
    if (p.n_units) {
        rc = walk(env, s, &p, &t, last, out, err);
        qn_stages_close(&t);
    }
    for (uint32_t f = 0; f < s->n_families && rc == QN_OK; f++)
        if (!qn_family_has_units(&p, f))
            rc = one_curve(env, s, NULL, o, f, out, err);
    qn_repair_plan_release(&p);
    return rc;
}

qn_code qn_repair_curves(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, const qn_groups *s, const qn_repair_options *o,
                         qn_curves *out, qn_err *err)
{
    const uint64_t n = s->n_families;
    *out = (qn_curves){.env = env};
    out->error = qn_mem_zeros(env->alloc, n + 1, sizeof *out->error, err);
    out->order = out->error ? qn_mem_zeros(env->alloc, n + 1, sizeof *out->order, err) : NULL;
    out->n_families = out->order ? s->n_families : 0;
    uint32_t *last = out->order ? qn_mem_zeros(env->alloc, n + 1, sizeof *last, err) : NULL;
    uint8_t *wanted = last ? qn_mem_zeros(env->alloc, n + 1, 1, err) : NULL;
    qn_code rc = wanted ? QN_OK : QN_E_MEMORY;
    for (uint32_t f = 0; f < s->n_families && rc == QN_OK; f++) {
        const uint64_t k = (uint64_t)s->families[f].n_groups + 1;
        out->error[f] = qn_mem_zeros(env->alloc, k, sizeof **out->error, err);
        out->order[f] = out->error[f] ? qn_mem_zeros(env->alloc, k, sizeof **out->order, err) : NULL;
        rc = out->order[f] ? QN_OK : QN_E_MEMORY;
    }
    if (rc == QN_OK)
        rc = curves(env, g, feed, s, o, last, wanted, out, err);
    qn_mem_put(env->alloc, wanted);
    qn_mem_put(env->alloc, last);
    if (rc != QN_OK)
        qn_curves_release(out);
    return rc;
}

void qn_curves_release(qn_curves *c)
{
    for (uint32_t f = 0; f < c->n_families; f++) {
        qn_mem_put(c->env->alloc, c->error[f]);
        qn_mem_put(c->env->alloc, c->order[f]);
    }
    if (c->env) {
        qn_mem_put(c->env->alloc, c->error);
        qn_mem_put(c->env->alloc, c->order);
    }
    *c = (qn_curves){0};
}
