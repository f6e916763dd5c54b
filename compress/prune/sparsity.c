/* sparsity.c: see sparsity.h: what is made sparse, in what order, and how far. */
#include "compress/prune/sparsity.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/prune/repair_impl.h"
#include "compress/prune/sparsity_impl.h"
#include <cblas.h>
#include <math.h>
#include <string.h>

#define KNEE_NATS  0.01  /* about one in a hundred of a perplexity */
#define KNEE_ERROR 1e-4  /* one in a hundred of the outputs' norm  */

struct run {
    const qn_env *env;
    const qn_graph *graph;
    const qn_calibrate_feed *feed;
    qn_measure *measure;
    const qn_sparsity_options *o;
    qn_repair_plan plan;       /* all products, as units in the order in which they run */
    qn_sparsity_report *report;
    uint32_t *tensor_of;       /* per value: its row in the report, or UINT32_MAX */
    double *share;             /* per tensor: what is to go                       */
    double *energy;            /* per tensor: ‖W X‖², while errors are added up    */
    qn_overlay *w;
};

/* --- what is made sparse --------------------------------------------------------------------------------------------- */

/* Everything that multiplies with a weight, as if it were the readers of one family: the plan of repairs then has all of them. */
static qn_code make_plan(struct run *r, qn_err *err)
{
    const uint64_t n_nodes = r->graph->n_nodes + 1ull;
    const uint8_t wanted = 1;
    qn_consumer *c = qn_mem_zeros(r->env->alloc, n_nodes, sizeof *c, err);
    if (!c)
        return QN_E_MEMORY;
    qn_family family = {.name = "", .consumers = c};
    qn_groups all = {.graph = r->graph, .families = &family, .n_families = 1};
    for (uint32_t i = 0; i < r->graph->n_nodes; i++) {
        const qn_node *n = &r->graph->nodes[i];
        if (n->n_in > 1 && n->in[1] != QN_NO_VALUE && r->graph->values[n->in[1]].kind == QN_VALUE_WEIGHT && r->graph->values[n->in[1]].rank >= 2 &&
            !(r->o->skip && r->o->skip[n->in[1]]))
            c[family.n_consumers++] = (qn_consumer){.node = i, .weight = n->in[1], .bias = QN_NO_VALUE, .per_index = 1, .tapped = true};
    }
    const qn_code rc = qn_repair_plan_make(&r->plan, r->env, r->graph, &all, &wanted, err);
    qn_mem_put(r->env->alloc, c);
    return rc;
}

static qn_code list_tensors(struct run *r, qn_err *err)
{
    const qn_alloc *a = r->env->alloc;
    qn_sparsity_report *out = r->report;
    r->tensor_of = qn_mem_get(a, (r->graph->n_values + 1ull) * sizeof *r->tensor_of, err);
    out->tensors = r->tensor_of ? qn_mem_zeros(a, r->plan.n_units + 1ull, sizeof *out->tensors, err) : NULL;
    r->share = out->tensors ? qn_mem_zeros(a, 2 * (r->plan.n_units + 1ull), sizeof *r->share, err) : NULL;
    if (!r->share)
        return QN_E_MEMORY;
    r->energy = r->share + r->plan.n_units + 1;
    for (uint32_t v = 0; v < r->graph->n_values; v++)
        r->tensor_of[v] = UINT32_MAX;
    for (uint32_t u = 0; u < r->plan.n_units; u++) {
        const uint32_t v = r->plan.units[u].weight;
        if (r->tensor_of[v] != UINT32_MAX)
            continue;
        r->tensor_of[v] = out->n_tensors;
        out->tensors[out->n_tensors++] = (qn_sparsity_tensor){.value = v, .n = qn_value_elems(&r->graph->values[v]), .error = (double)NAN,
                                                              .note = r->plan.units[u].no_refit};
    }
    return QN_OK;
}

/* Units that no_refit names are read in several places: what is right for one reader need not be for the others. */
static bool is_left_alone(const struct run *r, uint32_t tensor)
{
    return r->plan.units[r->plan.unit_of[r->report->tensors[tensor].value]].no_refit != NULL;
}

static uint32_t places(const struct run *r, const qn_unit *u)
{
    const qn_value *v = &r->graph->values[u->weight];
    uint64_t n = 1;
    for (unsigned k = 2; k < v->rank && !strcmp(r->graph->nodes[u->node].type, "Conv"); k++)
        n *= (uint64_t)v->dims[k];
    return (uint32_t)n;
}

/* --- by magnitude ----------------------------------------------------------------------------------------------------- */

static qn_code weight_of(struct run *r, uint32_t tensor, float **w, float *size, qn_err *err)
{
    const qn_sparsity_tensor *t = &r->report->tensors[tensor];
    QN_TRY(qn_overlay_edit(r->w, t->value, w, err));
    for (uint64_t i = 0; size && i < t->n; i++)
        size[i] = fabsf((*w)[i]);
    return QN_OK;
}

static uint64_t largest(const struct run *r)
{
    uint64_t most = 1;
    for (uint32_t i = 0; i < r->report->n_tensors; i++)
        most = qn_max_u64(most, r->report->tensors[i].n);
    return most;
}

/* One threshold: shares of the tensors, and, with `put`, the zeros themselves. */
static qn_code global(struct run *r, double ratio, float *size, uint8_t *zero, bool put, qn_err *err)
{
    uint64_t all = 0;
    float *w;
    qn_smallest s;
    for (uint32_t i = 0; i < r->report->n_tensors; i++)
        all += is_left_alone(r, i) ? 0 : r->report->tensors[i].n;
    QN_TRY(qn_smallest_open(&s, r->env->alloc, (uint64_t)(ratio * (double)all + 0.5), err));
    qn_code rc = QN_OK;
    for (unsigned pass = 0; pass < 3 && rc == QN_OK; pass++) {
        for (uint32_t i = 0; i < r->report->n_tensors && rc == QN_OK; i++) {
            const uint64_t n = r->report->tensors[i].n;
            uint64_t n_zero = 0;
            if (is_left_alone(r, i))
                continue;
            rc = weight_of(r, i, &w, size, err);
            if (rc == QN_OK && pass < 2)
                qn_smallest_see(&s, size, n);
            if (rc != QN_OK || pass < 2)
                continue;
            qn_smallest_mark(&s, size, n, zero);
            for (uint64_t k = 0; k < n; k++) {
                n_zero += zero[k];
                w[k] = zero[k] && put ? 0 : w[k];
            }
            r->share[i] = n ? (double)n_zero / (double)n : 0;
        }
        if (pass < 2)
            qn_smallest_next(&s);
    }
    qn_smallest_close(&s);
    return rc;
}

static qn_code each(struct run *r, double ratio, float *size, uint8_t *zero, qn_err *err)
{
    float *w;
    for (uint32_t i = 0; i < r->report->n_tensors; i++) {
        const uint64_t n = r->report->tensors[i].n;
        if (is_left_alone(r, i))
            continue;
        QN_TRY(weight_of(r, i, &w, size, err));
        QN_TRY(qn_mark_smallest(r->env->alloc, size, n, (uint64_t)(ratio * (double)n + 0.5), zero, err));
        for (uint64_t k = 0; k < n; k++)
            w[k] = zero[k] ? 0 : w[k];
    }
    return QN_OK;
}

/* score: m × d, larger stays; mask: 1 goes. */
static qn_code mark_pattern(const struct run *r, const qn_unit *u, const float *score, uint8_t *mask, qn_err *err)
{
    const qn_nm p = {.n_cols = u->d, .per = places(r, u), .keep = r->o->keep, .of = r->o->of};
    uint32_t *cols = qn_mem_get(r->env->alloc, p.of * sizeof *cols, err);
    if (!cols)
        return QN_E_MEMORY;
    for (uint32_t run = 0; run < qn_nm_runs(&p); run++) {
        const uint32_t n = qn_nm_run(&p, run, cols);
        for (uint64_t row = 0; row < u->m; row++)
            qn_nm_mark(&p, score + row * u->d, cols, n, mask + row * u->d);
    }
    qn_mem_put(r->env->alloc, cols);
    return QN_OK;
}

static qn_code patterns(struct run *r, float *size, uint8_t *zero, qn_err *err)
{
    for (uint32_t k = 0; k < r->plan.n_units; k++) {
        const qn_unit *u = &r->plan.units[k];
        float *w;
        if (u->no_refit)
            continue;
        QN_TRY(qn_overlay_edit(r->w, u->weight, &w, err));
        for (uint64_t row = 0; row < u->m; row++)
            for (uint64_t c = 0; c < u->d; c++)
                size[row * u->d + c] = fabsf(w[u->first + row * u->row_step + c * u->col_step]);
        QN_TRY(mark_pattern(r, u, size, zero, err));
        for (uint64_t row = 0; row < u->m; row++)
            for (uint64_t c = 0; c < u->d; c++)
                if (zero[row * u->d + c])
                    w[u->first + row * u->row_step + c * u->col_step] = 0;
    }
    return QN_OK;
}

/* --- by what the inputs say --------------------------------------------------------------------------------------------- */

/* ‖A X‖² over the rows of s; A: (rows, d). */
static qn_code norm_of(const qn_moments *s, const float *a, uint32_t rows, double *out, qn_err *err)
{
    const uint64_t n = (uint64_t)rows * s->d;
    double *x = qn_mem_get(s->alloc, (2 * n + 1) * sizeof *x, err);
    if (!x)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < n; i++)
        x[i] = (double)a[i];
    /* lower by rows: upper by columns */
    cblas_dsymm(CblasRowMajor, CblasRight, CblasLower, (blasint)rows, (blasint)s->d, 1, s->g, (blasint)s->d + 1, x, (blasint)s->d, 0, x + n, (blasint)s->d);
    *out = 0;
    for (uint64_t i = 0; i < n; i++)
        *out += x[i] * x[n + i];
    qn_mem_put(s->alloc, x);
    return QN_OK;
}

static bool has_rows(const qn_unit *u)
{
    return u->fit.n && !u->no_refit;
}

static qn_code plain_mask(const struct run *r, const qn_unit *u, const float *w, double share, uint8_t *mask, qn_err *err)
{
    const uint64_t n = (uint64_t)u->m * u->d;
    float *score = qn_mem_get(r->env->alloc, n * sizeof *score, err);
    if (!score)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t c = i % u->d;
        score[i] = fabsf(w[i]) * (has_rows(u) ? (float)sqrt(u->fit.g[c * (u->d + 1ull) + c]) : 1);
    }
    qn_code rc = QN_OK;
    if (r->o->kind == QN_SPARSITY_PATTERN)
        rc = mark_pattern(r, u, score, mask, err);
    else
        for (uint64_t row = 0; row < u->m && rc == QN_OK; row++)
            rc = qn_mark_smallest(r->env->alloc, score + row * u->d, u->d, (uint64_t)(share * u->d + 0.5), mask + row * u->d, err);
    qn_mem_put(r->env->alloc, score);
    return rc;
}

static qn_code feedback(const struct run *r, const qn_unit *u, double share, float *w, uint8_t *mask, bool *done, qn_err *err)
{
    const qn_nm p = {.n_cols = u->d, .per = places(r, u), .keep = r->o->keep, .of = r->o->of};
    double *h = qn_mem_get(r->env->alloc, ((uint64_t)u->d * u->d + 1) * sizeof *h, err);
    if (!h)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < u->d; i++)
        for (uint64_t k = 0; k <= i; k++)
            h[i * u->d + k] = h[k * u->d + i] = u->fit.g[i * (u->d + 1ull) + k];
    return qn_sparse_feedback(r->env->alloc, w, u->m, u->d, h, share, r->o->kind == QN_SPARSITY_PATTERN ? &p : NULL, mask, done, err);
}

struct work {
    float *plain, *fed, *error;
    uint8_t *mask;
};

static double error_of(const qn_unit *u, const float *w, struct work *k, qn_code *rc, qn_err *err)
{
    const qn_moments *judge = u->hold.n ? &u->hold : &u->fit;
    double e = (double)INFINITY;
    for (uint64_t i = 0; i < (uint64_t)u->m * u->d; i++)
        k->error[i] = u->w[1][i] - w[i];
    if (*rc == QN_OK)
        *rc = norm_of(judge, k->error, u->m, &e, err);
    return e;
}

/* Which of the two is taken is said by rows that have decided nothing. */
static qn_code treat(struct run *r, qn_unit *u, struct work *k, qn_err *err)
{
    const uint32_t tensor = r->tensor_of[u->weight];
    qn_sparsity_tensor *t = &r->report->tensors[tensor];
    const uint64_t n = (uint64_t)u->m * u->d;
    bool done = false;
    float *to, *from = k->plain;
    double energy;
    memcpy(k->plain, u->w[1], n * sizeof(float));
    QN_TRY(plain_mask(r, u, k->plain, r->share[tensor], k->mask, err));
    for (uint64_t i = 0; i < n; i++)
        k->plain[i] = k->mask[i] ? 0 : k->plain[i];
    qn_code rc = QN_OK;
    if (has_rows(u)) {
        const qn_moments *judge = u->hold.n ? &u->hold : &u->fit;
        rc = norm_of(judge, u->w[1], u->m, &energy, err);
        double e = error_of(u, k->plain, k, &rc, err);
        if (rc == QN_OK && r->o->by == QN_SPARSITY_FEEDBACK) {
            memcpy(k->fed, u->w[1], n * sizeof(float));
            rc = feedback(r, u, r->share[tensor], k->fed, k->mask, &done, err);
            const double fed = done ? error_of(u, k->fed, k, &rc, err) : (double)INFINITY;
            if (fed < e) {
                from = k->fed;
                e = fed;
            } else
                t->note = done ? "feedback did not help on rows that it had not seen" : "no factor: its inputs are too much alike";
        }
        t->error = (isnan(t->error) ? 0 : t->error) + e;
        r->energy[tensor] += energy;
    } else
        t->note = u->no_refit ? u->no_refit : "it has seen no rows";
    if (rc == QN_OK)
        rc = qn_overlay_edit(r->w, u->weight, &to, err);
    for (uint64_t row = 0; row < u->m && rc == QN_OK; row++)
        for (uint64_t c = 0; c < u->d; c++)
            to[u->first + row * u->row_step + c * u->col_step] = from[row * u->d + c];
    return rc;
}

static qn_code treat_unit(struct run *r, qn_stages *t, qn_unit *u, qn_err *err)
{
    const qn_alloc *a = r->env->alloc;
    const uint64_t n = (uint64_t)u->m * u->d + 1;
    struct work k = {.plain = qn_mem_get(a, 3 * n * sizeof(float), err)};
    k.mask = k.plain ? qn_mem_get(a, n, err) : NULL;
    if (!k.mask) {
        qn_mem_put(a, k.plain);
        return QN_E_MEMORY;
    }
    k.fed = k.plain + n;
    k.error = k.fed + n;
    const qn_code rc = treat(r, u, &k, err);
    qn_stages_forget(t, u->weight);
    qn_mem_put(a, k.mask);
    qn_mem_put(a, k.plain);
    return rc;
}

static qn_code walk(struct run *r, qn_err *err)
{
    const qn_repair_options o = {.memory_bytes = r->o->memory_bytes};
    uint64_t beside = 0;
    for (uint32_t i = 0; i < r->report->n_tensors; i++)
        beside += r->report->tensors[i].n * sizeof(float);
    qn_stages t = {.env = r->env, .plan = &r->plan, .feed = r->feed, .o = &o, .overlay = r->w, .beside_bytes = beside};
    bool *alone = qn_mem_zeros(r->env->alloc, r->plan.n_units + 1ull, sizeof *alone, err);
    if (!alone)
        return QN_E_MEMORY;
    for (uint32_t u = 0; u < r->plan.n_units; u++) {
        alone[u] = r->plan.units[u].no_refit != NULL;
        r->plan.units[u].batch_rows = r->plan.units[u].n_picked = 0;
    }
    qn_code rc = qn_stages_open(&t, err);
    while (rc == QN_OK && t.stage < r->plan.n_stages) {
        rc = qn_stages_collect(&t, err);
        for (uint32_t u = 0; u < r->plan.n_units && rc == QN_OK; u++) {
            qn_unit *unit = &r->plan.units[u];
            if (unit->stage != t.stage)
                continue;
            if (!alone[u])
                rc = treat_unit(r, &t, unit, err);
            qn_unit_forget(unit, r->env->alloc);
            unit->no_refit = alone[u] ? unit->no_refit : NULL; /* what this run's rows said is not so in the next */
        }
        if (rc == QN_OK)
            rc = qn_stages_next(&t, err);
    }
    qn_stages_close(&t);
    qn_mem_put(r->env->alloc, alone);
    for (uint32_t i = 0; i < r->report->n_tensors; i++)
        if (!isnan(r->report->tensors[i].error))
            r->report->tensors[i].error = r->energy[i] > 0 ? r->report->tensors[i].error / r->energy[i] : 0;
    return rc;
}

/* --- one run, and the knee ------------------------------------------------------------------------------------------------ */

static qn_code once(struct run *r, double ratio, qn_err *err)
{
    const uint64_t n = largest(r);
    const bool by_size = r->o->by == QN_SPARSITY_MAGNITUDE;
    for (uint32_t i = 0; i < r->report->n_tensors; i++) {
        r->share[i] = ratio;
        r->energy[i] = 0;
        r->report->tensors[i].error = (double)NAN;
        r->report->tensors[i].note = r->plan.units[r->plan.unit_of[r->report->tensors[i].value]].no_refit;
    }
    float *size = qn_mem_get(r->env->alloc, n * sizeof *size, err);
    uint8_t *zero = size ? qn_mem_get(r->env->alloc, n, err) : NULL;
    qn_code rc = zero ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK && r->o->global)
        rc = global(r, ratio, size, zero, by_size, err);
    else if (rc == QN_OK && by_size)
        rc = r->o->kind == QN_SPARSITY_PATTERN ? patterns(r, size, zero, err) : each(r, ratio, size, zero, err);
    qn_mem_put(r->env->alloc, zero);
    qn_mem_put(r->env->alloc, size);
    return rc != QN_OK || by_size || !r->plan.n_units ? rc : walk(r, err);
}

static qn_code trial(struct run *r, double ratio, double *loss, qn_err *err)
{
    qn_overlay *const kept = r->w;
    qn_distance d;
    QN_TRY(qn_overlay_copy(kept, &r->w, err));
    qn_code rc = once(r, ratio, err);
    if (rc == QN_OK)
        rc = qn_measure_run(r->measure, r->w, 0, qn_measure_batches(r->measure), &d, err);
    qn_overlay_free(r->w);
    r->w = kept;
    QN_TRY(rc);
    *loss = d.loss;
    if (r->report->n_curve < QN_SPARSITY_CURVE) {
        r->report->curve[r->report->n_curve][0] = ratio;
        r->report->curve[r->report->n_curve++][1] = d.loss;
    }
    return QN_OK;
}

/* Steps of 5 % until it is too much, then bisection to 1 %. */
static qn_code find_knee(struct run *r, double *ratio, qn_err *err)
{
    const double most = r->o->loss > 0 ? r->o->loss : qn_measure_is_divergence(r->measure) ? KNEE_NATS : KNEE_ERROR;
    unsigned good = 0, bad = 100; /* per cent */
    double loss;
    for (unsigned at = 5; at < 100 && bad == 100; at += 5) {
        QN_TRY(qn_env_check(r->env, err));
        QN_TRY(trial(r, at / 100.0, &loss, err));
        if (loss <= most)
            good = at;
        else
            bad = at;
    }
    while (bad - good > 1 && bad < 100) {
        const unsigned mid = (good + bad) / 2;
        QN_TRY(trial(r, mid / 100.0, &loss, err));
        if (loss <= most)
            good = mid;
        else
            bad = mid;
    }
    *ratio = good / 100.0;
    return QN_OK;
}

static qn_code count(struct run *r, qn_err *err)
{
    qn_sparsity_report *out = r->report;
    for (uint32_t i = 0; i < out->n_tensors; i++) {
        qn_sparsity_tensor *t = &out->tensors[i];
        float *w;
        const bool had = r->w->data[t->value] != NULL;
        QN_TRY(weight_of(r, i, &w, NULL, err));
        for (uint64_t k = 0; k < t->n; k++)
            t->n_zero += w[k] == 0;
        if (!had)
            qn_overlay_drop(r->w, t->value);
        out->n += t->n;
        out->n_zero += t->n_zero;
    }
    out->ratio = out->n ? (double)out->n_zero / (double)out->n : 0;
    return QN_OK;
}

static qn_code sparsify(struct run *r, qn_err *err)
{
    double ratio = r->o->ratio;
    QN_TRY(make_plan(r, err));
    QN_TRY(list_tensors(r, err));
    if (!r->report->n_tensors)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model has no product with a weight that could be made sparse");
    if (r->o->kind == QN_SPARSITY_KNEE)
        QN_TRY(find_knee(r, &ratio, err));
    QN_TRY(once(r, ratio, err));
    QN_TRY(count(r, err));
    return r->measure ? qn_measure_run(r->measure, r->w, 0, qn_measure_batches(r->measure), &r->report->distance, err) : QN_OK;
}

static qn_code check(const qn_calibrate_feed *feed, const qn_measure *m, const qn_sparsity_options *o, qn_err *err)
{
    if (o->kind == QN_SPARSITY_RATIO && !(o->ratio > 0 && o->ratio < 1))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "the sparsity is %g; it must lie between 0 and 1", o->ratio);
    if (o->kind == QN_SPARSITY_PATTERN && !(o->keep >= 1 && o->keep < o->of && o->of <= 64))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%u of %u weights are to stay; of at most 64, at least 1 must stay and 1 must go", o->keep, o->of);
    if (o->by != QN_SPARSITY_MAGNITUDE && !feed)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "calibration data are needed to judge weights by their inputs");
    if (o->kind == QN_SPARSITY_KNEE && !m)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "calibration data are needed to find the knee");
    if (o->global && (o->kind == QN_SPARSITY_PATTERN || o->by == QN_SPARSITY_WANDA))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "one threshold for all tensors is for magnitudes, and for shares that are free");
    return QN_OK;
}

qn_code qn_sparsify(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, qn_measure *m, const qn_sparsity_options *o,
                    qn_overlay *w, qn_sparsity_report *out, qn_err *err)
{
    struct run r = {.env = env, .graph = g, .feed = feed, .measure = m, .o = o, .report = out, .w = w};
    *out = (qn_sparsity_report){.env = env, .distance = {.loss = (double)NAN, .rel = (double)NAN, .same_top = (double)NAN}};
    QN_TRY(check(feed, m, o, err));
    const qn_code rc = sparsify(&r, err);
    if (r.plan.arena.alloc)
        qn_repair_plan_release(&r.plan);
    qn_mem_put(env->alloc, r.tensor_of);
    qn_mem_put(env->alloc, r.share);
    if (rc != QN_OK)
        qn_sparsity_report_release(out);
    return rc;
}

void qn_sparsity_report_release(qn_sparsity_report *r)
{
    if (r->env)
        qn_mem_put(r->env->alloc, r->tensors);
    r->tensors = NULL;
    r->n_tensors = 0;
}

double qn_sparsity_cubic(double from, double to, uint64_t step, uint64_t first, uint64_t last)
{
    if (step <= first)
        return from;
    if (step >= last)
        return to;
    const double left = 1 - (double)(step - first) / (double)(last - first);
    return to + (from - to) * left * left * left;
}
