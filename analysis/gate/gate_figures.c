/* gate_figures.c: the rungs that look at the whole model: divergence and size. See gate.h for verdicts and pairing. */
#include "analysis/gate/gate.h"
#include "base/err.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const qn_estimate nothing = {.value = (double)NAN, .se = (double)NAN, .low = (double)NAN, .high = (double)NAN};

static qn_estimate point(double v)
{
    return (qn_estimate){.value = v, .se = (double)NAN, .low = (double)NAN, .high = (double)NAN};
}

/* value NaN: it was not measured. */
static qn_estimate found(const qn_report *r, qn_metric m)
{
    const qn_report_output *worst = qn_report_worst_output(r);
    switch (m) {
    case QN_M_KLD_MEAN: return r->is_lm ? r->kl : nothing;
    case QN_M_KLD_P99: return r->is_lm ? r->kl_p99 : nothing;
    case QN_M_TOP1: return r->is_lm ? r->same_top : r->is_io ? r->io_same_top : nothing;
    case QN_M_PPL_RATIO: return r->is_lm ? r->ppl_ratio : nothing;
    case QN_M_PROB_CHANGE: return point(r->is_lm ? r->max_dp : (double)NAN);
    case QN_M_OUTPUT_REL: return point(worst ? worst->rel_rms : (double)NAN);
    case QN_M_OUTPUT_MAX_REL: return point(worst ? worst->max_rel : (double)NAN);
    case QN_M_ACCURACY: return r->is_io ? r->io_right : nothing;
    case QN_M_SIZE: return point((double)r->size_bytes);
    case QN_M_BPW: return point(qn_report_bpw(r));
    default: return nothing;
    }
}

/* Has it an interval, when there are chunks enough? */
static bool has_interval(qn_metric m)
{
    return m == QN_M_KLD_MEAN || m == QN_M_KLD_P99 || m == QN_M_TOP1 || m == QN_M_PPL_RATIO || m == QN_M_ACCURACY;
}

static qn_verdict verdict(const qn_estimate *e, double limit, bool at_least, bool interval)
{
    if (!interval)
        return (at_least ? e->value >= limit : e->value <= limit) ? QN_PASS : QN_FAIL_GATE;
    if (isnan(e->low) || isnan(e->high)) /* one chunk */
        return QN_INCONCLUSIVE;
    if (at_least ? e->low >= limit : e->high <= limit)
        return QN_PASS;
    return (at_least ? e->high < limit : e->low > limit) ? QN_FAIL_GATE : QN_INCONCLUSIVE;
}

/* An interval shrinks with the root of the chunks: as many as bring its end on the side of the limit to where the limit is. */
static uint64_t chunks_needed(const qn_estimate *e, double limit, uint64_t n)
{
    const double away = fabs(limit - e->value), half = limit > e->value ? e->high - e->value : e->value - e->low;
    if (n < 2)
        return 2;
    const double want = away > 0 ? ceil((double)n * (half / away) * (half / away)) : (double)INFINITY;
    return want < 1e9 ? (uint64_t)want : 0;
}

/* "0.0312", "93.2 %", "12345". */
static const char *number(char buf[40], qn_metric m, double v)
{
    if (qn_metric_tab[m].points)
        (void)snprintf(buf, 40, "%.2f %%", 100 * v);
    else if (m == QN_M_SIZE)
        (void)snprintf(buf, 40, "%.0f", v);
    else
        (void)snprintf(buf, 40, "%.4g", v);
    return buf;
}

/* An estimate against a limit. base: "…, 0.11 in the baseline", or "". */
static qn_code add(struct qn_judge *j, qn_metric m, const char *id, const qn_estimate *e, double limit, bool interval, unsigned line, const char *base, qn_err *err)
{
    const bool least = qn_metric_tab[m].at_least;
    const qn_verdict v = verdict(e, limit, least, interval);
    char a[40], b[40], lo[40], hi[40], range[120] = "", more[64] = "";
    if (interval && !isnan(e->low))
        (void)snprintf(range, sizeof range, " (%s to %s, %" PRIu64 " chunks)", number(lo, m, e->low), number(hi, m, e->high), j->r->n_chunks);
    else if (interval)
        (void)snprintf(range, sizeof range, " (one chunk has no interval)");
    const uint64_t needed = v == QN_INCONCLUSIVE ? chunks_needed(e, limit, j->r->n_chunks) : 0;
    if (needed)
        (void)snprintf(more, sizeof more, "; about %" PRIu64 " chunks would tell", needed);
    const qn_check c = {.rung = m == QN_M_SIZE || m == QN_M_BPW ? QN_RUNG_SIZE : QN_RUNG_DIVERGENCE, .id = id, .verdict = v, .found = e->value,
                        .low = interval ? e->low : (double)NAN, .high = interval ? e->high : (double)NAN, .limit = limit, .at_least = least, .n_needed = needed,
                        .line = line,
                        .text = qn_gate_text(j, err, "%s%s: at %s %s is allowed%s%s", number(a, m, e->value), range, least ? "least" : "most", number(b, m, limit), base, more)};
    return qn_gate_add(j, &c, err);
}

static qn_code not_measured(struct qn_judge *j, qn_metric m, const char *id, unsigned line, const char *why, qn_err *err)
{
    const qn_check c = {.rung = m == QN_M_SIZE || m == QN_M_BPW ? QN_RUNG_SIZE : QN_RUNG_DIVERGENCE, .id = id, .verdict = QN_INCONCLUSIVE, .found = (double)NAN,
                        .low = (double)NAN, .high = (double)NAN, .limit = (double)NAN, .line = line, .text = qn_gate_text(j, err, "%s", why)};
    return qn_gate_add(j, &c, err);
}

static qn_code absolute(struct qn_judge *j, qn_metric m, qn_err *err)
{
    const qn_limit *l = &j->t->bound[m];
    const qn_estimate e = found(j->r, m);
    if (!l->given)
        return QN_OK;
    if (isnan(e.value)) /* a limit by default is for whatever was measured */
        return l->line ? not_measured(j, m, qn_metric_tab[m].id, l->line, "there is a limit, but it was not measured", err) : QN_OK;
    return add(j, m, qn_metric_tab[m].id, &e, l->value, has_interval(m), l->line, "", err);
}

/* --- paired with the baseline ----------------------------------------------------------------------------------------------- */

static bool chunks_match(const qn_report *a, const qn_report *b)
{
    if (a->n_chunks != b->n_chunks || a->is_lm != b->is_lm)
        return false;
    for (uint64_t i = 0; i < a->n_chunks; i++)
        if (a->chunks[i].n != b->chunks[i].n)
            return false;
    return true;
}

/* What the candidate has of a metric more than the baseline, by chunk, in the field kl. */
static double more_of(const qn_chunk_score *c, const qn_chunk_score *b, qn_metric m)
{
    switch (m) {
    case QN_M_KLD_MEAN: return c->kl - b->kl;
    case QN_M_PPL_RATIO: return (c->nll - c->nll_ref) - (b->nll - b->nll_ref);
    case QN_M_TOP1: return (double)c->n_same_top - (double)b->n_same_top;
    default: return (double)c->n_top - (double)b->n_top;
    }
}

static qn_code difference(const struct qn_judge *j, qn_metric m, qn_estimate *d, qn_err *err)
{
    const qn_alloc *alloc = j->g->arena.alloc;
    const uint64_t n = j->r->n_chunks;
    qn_chunk_score *c = qn_mem_zeros(alloc, n + 1, sizeof *c, err);
    if (!c)
        return QN_E_MEMORY;
    bool alike = true;
    for (uint64_t i = 0; i < n; i++) {
        c[i].n = j->r->chunks[i].n;
        c[i].kl = more_of(&j->r->chunks[i], &j->b->chunks[i], m);
        alike = alike && !(c[i].kl < 0 || c[i].kl > 0);
    }
    *d = alike ? (qn_estimate){0} : qn_mean_of(c, n, offsetof(qn_chunk_score, kl)); /* equal chunk by chunk: that is certain, of one chunk too */
    qn_mem_put(alloc, c);
    return QN_OK;
}

/* Values beside the baseline's `was`, given the difference. */
static qn_estimate beside(double was, const qn_estimate *d, qn_metric m)
{
    const bool ratio = m == QN_M_PPL_RATIO;
    return (qn_estimate){.value = ratio ? was * exp(d->value) : was + d->value, .se = (double)NAN, .low = ratio ? was * exp(d->low) : was + d->low,
                         .high = ratio ? was * exp(d->high) : was + d->high};
}

static double noise_of(const struct qn_judge *j, qn_metric m)
{
    const double kl = fmax(isnan(j->r->noise_kl) ? 0 : j->r->noise_kl, isnan(j->b->noise_kl) ? 0 : j->b->noise_kl);
    const double nll = fmax(isnan(j->r->noise_nll) ? 0 : j->r->noise_nll, isnan(j->b->noise_nll) ? 0 : j->b->noise_nll);
    return m == QN_M_KLD_MEAN || m == QN_M_KLD_P99 ? fmax(2 * kl, 1e-9) : m == QN_M_PPL_RATIO ? 2 * nll : m == QN_M_OUTPUT_REL ? 1e-6 : 0;
}

static qn_code versus(struct qn_judge *j, qn_metric m, qn_err *err)
{
    const qn_limit *l = &j->t->versus[m];
    if (!l->given || !j->b)
        return QN_OK;
    const char *id = qn_gate_text(j, err, "vs_baseline.%s", qn_metric_tab[m].id);
    if (!id)
        return QN_E_MEMORY;
    qn_estimate e = found(j->r, m);
    const qn_estimate was = found(j->b, m);
    const bool paired = has_interval(m) && m != QN_M_KLD_P99; /* a percentile has no sum over chunks: it is compared as it is, on the same tokens */
    if (isnan(e.value) || isnan(was.value))
        return l->line ? not_measured(j, m, id, l->line, isnan(e.value) ? "there is a limit, but it was not measured" : "the baseline does not hold it", err) : QN_OK;
    if (paired) {
        qn_estimate d;
        if (!chunks_match(j->r, j->b))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the baseline's chunks are not those of this report, though its digests are");
        QN_TRY(difference(j, m, &d, err));
        e = beside(was.value, &d, m);
    }
    const double limit = qn_metric_tab[m].points ? was.value - l->value : was.value * (1 + l->value) + noise_of(j, m);
    char base[80], v[40];
    (void)snprintf(base, sizeof base, ", %s in the baseline", number(v, m, was.value));
    return add(j, m, id, &e, limit, paired, l->line, base, err);
}

qn_code qn_gate_divergence(struct qn_judge *j, qn_err *err)
{
    if (j->r->cannot_run) {
        const qn_check c = {.rung = QN_RUNG_DIVERGENCE, .id = "runs", .subject = "model", .verdict = QN_FAIL_GATE, .found = (double)NAN, .low = (double)NAN,
                            .high = (double)NAN, .limit = (double)NAN, .text = qn_gate_text(j, err, "cannot be run: %s", j->r->cannot_run)};
        return qn_gate_add(j, &c, err);
    }
    for (unsigned m = 0; m < QN_M_SIZE; m++)
        QN_TRY(absolute(j, (qn_metric)m, err));
    for (unsigned m = 0; m < QN_M_SIZE; m++)
        QN_TRY(versus(j, (qn_metric)m, err));
    return QN_OK;
}

qn_code qn_gate_size(struct qn_judge *j, qn_err *err)
{
    for (unsigned m = QN_M_SIZE; m <= QN_M_BPW; m++) {
        QN_TRY(absolute(j, (qn_metric)m, err));
        QN_TRY(versus(j, (qn_metric)m, err));
    }
    return QN_OK;
}
