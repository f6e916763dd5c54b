/* gate.c: see gate.h. The ladder, its first two rungs, and what stands around it. */
#include "analysis/gate/gate.h"
#include "base/err.h"
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LISTED = 50 };

const char *const qn_verdict_names[4] = {"pass", "fail", "inconclusive", "skipped"};
const char *const qn_rung_names[QN_N_RUNGS] = {"binding", "structure", "lossless", "tensors", "layers", "divergence", "size"};

const char *qn_gate_text(struct qn_judge *j, qn_err *err, const char *fmt, ...)
{
    char buf[700];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    return qn_arena_str(&j->g->arena, buf, strlen(buf), err);
}

qn_code qn_gate_add(struct qn_judge *j, const qn_check *c, qn_err *err)
{
    qn_gate *g = j->g;
    if (!c->text)
        return QN_E_MEMORY;
    if (g->n_checks == g->cap_checks) {
        const uint64_t cap = 2 * g->cap_checks + 32;
        qn_check *more = qn_arena_get(&g->arena, cap * sizeof *more, 16, err);
        if (!more)
            return QN_E_MEMORY;
        if (g->n_checks)
            memcpy(more, g->checks, g->n_checks * sizeof *more);
        g->checks = more;
        g->cap_checks = cap;
    }
    g->checks[g->n_checks] = *c;
    if (c->line)
        g->checks[g->n_checks].file = j->t->file;
    g->n_checks++;
    g->by_verdict[c->verdict]++;
    return QN_OK;
}

static qn_check plain(qn_rung rung, const char *id, qn_verdict v, const char *subject, const char *text)
{
    return (qn_check){.rung = rung, .id = id, .verdict = v, .subject = subject, .text = text, .found = (double)NAN, .low = (double)NAN,
                      .high = (double)NAN, .limit = (double)NAN};
}

static bool is_zero(const qn_digest *d)
{
    return qn_digest_equal(d, &(qn_digest){{0}});
}

static qn_code binding(struct qn_judge *j, qn_err *err)
{
    const qn_report *r = j->r;
    if (!r->tokenizer_trouble && is_zero(&r->b.tokenizer))
        return QN_OK;
    const qn_check c = plain(QN_RUNG_BINDING, "tokenizer", r->tokenizer_trouble ? QN_FAIL_GATE : QN_PASS, r->tokenizer_trouble ? "tokenizer" : NULL,
                             qn_gate_text(j, err, "%s", r->tokenizer_trouble ? r->tokenizer_trouble : "the reference's tokenizer"));
    return qn_gate_add(j, &c, err);
}

static qn_code structure(struct qn_judge *j, qn_err *err)
{
    const qn_report *r = j->r;
    uint64_t n = 0;
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        const qn_report_tensor *t = &r->tensors[i];
        if (!t->trouble)
            continue;
        if (n++ >= LISTED)
            continue;
        const qn_check c = plain(QN_RUNG_STRUCTURE, "structure", QN_FAIL_GATE, t->name, qn_gate_text(j, err, "%s", t->trouble));
        QN_TRY(qn_gate_add(j, &c, err));
    }
    if (n > LISTED) {
        const qn_check c = plain(QN_RUNG_STRUCTURE, "structure", QN_FAIL_GATE, NULL, qn_gate_text(j, err, "and %" PRIu64 " tensors more", n - LISTED));
        return qn_gate_add(j, &c, err);
    }
    if (n || !r->n_tensors)
        return QN_OK;
    const qn_check c = plain(QN_RUNG_STRUCTURE, "structure", QN_PASS, NULL, qn_gate_text(j, err, "%" PRIu64 " tensors of the reference's names and shapes", r->n_tensors));
    return qn_gate_add(j, &c, err);
}

/* --- limits kept in a baseline ------------------------------------------------------------------------------------------ */

static const char *limit_name(char buf[64], unsigned m, bool versus)
{
    const qn_metric_row *row = &qn_metric_tab[m];
    (void)snprintf(buf, 64, "%s%s", versus ? "vs_baseline." : row->section == 'l' ? "layers." : row->section == 't' ? "tensors." : "", row->key);
    return buf;
}

qn_code qn_gate_record_limits(qn_report *r, const qn_thresholds *t, qn_err *err)
{
    char name[64];
    r->limits = qn_arena_get(&r->arena, 2 * QN_N_METRICS * sizeof *r->limits, 16, err);
    r->n_limits = 0;
    if (!r->limits)
        return QN_E_MEMORY;
    for (unsigned k = 0; k < 2 * QN_N_METRICS; k++) {
        const bool versus = k >= QN_N_METRICS;
        const unsigned m = k % QN_N_METRICS;
        const qn_limit *l = versus ? &t->versus[m] : &t->bound[m];
        const bool of_tokens = m == QN_M_KLD_MEAN || m == QN_M_KLD_P99 || m == QN_M_PPL_RATIO || m == QN_M_PROB_CHANGE;
        const bool of_arrays = m == QN_M_OUTPUT_REL || m == QN_M_OUTPUT_MAX_REL || m == QN_M_ACCURACY;
        if (!l->given || (of_tokens && !r->is_lm) || (of_arrays && !r->is_io))
            continue;
        (void)limit_name(name, m, versus);
        qn_report_limit *to = &r->limits[r->n_limits++];
        *to = (qn_report_limit){.name = qn_arena_str(&r->arena, name, strlen(name), err), .value = l->value, .times = l->times};
        if (!to->name)
            return QN_E_MEMORY;
    }
    return QN_OK;
}

/* A limit that has become looser, or gone, since the baseline was written. */
static qn_code warn_of_looser(struct qn_judge *j, qn_err *err)
{
    char name[64];
    for (uint64_t i = 0; j->b && i < j->b->n_limits; i++) {
        const qn_report_limit *was = &j->b->limits[i];
        for (unsigned k = 0; k < 2 * QN_N_METRICS; k++) {
            const bool versus = k >= QN_N_METRICS;
            const unsigned m = k % QN_N_METRICS;
            const qn_limit *now = versus ? &j->t->versus[m] : &j->t->bound[m];
            if (strcmp(limit_name(name, m, versus), was->name) != 0 || j->g->n_warnings == QN_GATE_WARNINGS_MAX)
                continue;
            const bool least = qn_metric_tab[m].at_least && !versus;
            const char *text = NULL;
            if (!now->given)
                text = qn_gate_text(j, err, "%s has no limit any more; it was %.6g%s when the baseline was written", name, was->value, was->times ? "x baseline" : "");
            else if (now->times != was->times)
                text = qn_gate_text(j, err, "%s is limited in another way than when the baseline was written: %.6g%s, it was %.6g%s", name, now->value,
                                    now->times ? "x baseline" : "", was->value, was->times ? "x baseline" : "");
            else if (least ? now->value < was->value : now->value > was->value)
                text = qn_gate_text(j, err, "%s is looser than when the baseline was written: %.6g, it was %.6g", name, now->value, was->value);
            else
                continue;
            if (!text)
                return QN_E_MEMORY;
            j->g->warnings[j->g->n_warnings++] = text;
        }
    }
    return QN_OK;
}

/* --- bindings ----------------------------------------------------------------------------------------------------------------- */

static qn_code other(const char *what, const qn_digest *now, const qn_digest *then, const char *hint, qn_err *err)
{
    char a[33], b[33];
    qn_digest_hex(now, a);
    qn_digest_hex(then, b);
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the baseline was measured with another %s%s: %s here, %s there", what, hint, is_zero(now) ? "none" : a,
                   is_zero(then) ? "none" : b);
}

qn_code qn_gate_check_binding(const qn_report *r, const qn_report *baseline, qn_err *err)
{
    const qn_report_binding *a = &r->b, *b = &baseline->b;
    char hint[100];
    if (!qn_digest_equal(&a->reference, &b->reference))
        return other("reference", &a->reference, &b->reference, "", err);
    if (is_zero(&a->data) && !r->is_lm && !r->is_io)
        return QN_OK;
    if (!qn_digest_equal(&a->tokenizer, &b->tokenizer))
        return other("tokenizer", &a->tokenizer, &b->tokenizer, "", err);
    if (qn_digest_equal(&a->data, &b->data))
        return QN_OK;
    (void)snprintf(hint, sizeof hint, " (%" PRIu64 " chunks of %" PRIu64 " here, %" PRIu64 " of %" PRIu64 " there)", a->n_chunks, a->context, b->n_chunks,
                   b->context);
    return other("text or cut", &a->data, &b->data, a->context || b->context ? hint : "", err);
}

/* --- the ladder ------------------------------------------------------------------------------------------------------------------ */

static qn_code skip(struct qn_judge *j, qn_rung rung, qn_err *err)
{
    const qn_check c = plain(rung, qn_rung_names[rung], QN_SKIPPED, NULL, qn_gate_text(j, err, "not judged: an earlier rung fails (--all goes on)"));
    return qn_gate_add(j, &c, err);
}

static qn_code climb(struct qn_judge *j, const qn_gate_options *o, qn_err *err)
{
    static qn_code (*const rungs[QN_N_RUNGS])(struct qn_judge *, qn_err *) = {
        [QN_RUNG_BINDING] = binding, [QN_RUNG_STRUCTURE] = structure, [QN_RUNG_LOSSLESS] = qn_gate_lossless, [QN_RUNG_TENSORS] = qn_gate_tensors,
        [QN_RUNG_LAYERS] = qn_gate_layers, [QN_RUNG_DIVERGENCE] = qn_gate_divergence, [QN_RUNG_SIZE] = qn_gate_size,
    };
    bool over = false;
    for (unsigned k = 0; k <= o->last && k < QN_N_RUNGS; k++) {
        QN_TRY(over ? skip(j, (qn_rung)k, err) : rungs[k](j, err));
        /* bits and errors of tensors come from one pass over the files, and tell of one damage: both are judged */
        over = j->g->by_verdict[QN_FAIL_GATE] && !o->all && k != QN_RUNG_LOSSLESS;
    }
    return warn_of_looser(j, err);
}

/* By rung, and in a rung what fails before what is inconclusive before what passes; else as they came, which is the worst first. */
static void order(qn_gate *g)
{
    static const unsigned rank[4] = {[QN_FAIL_GATE] = 0, [QN_INCONCLUSIVE] = 1, [QN_PASS] = 2, [QN_SKIPPED] = 3};
    for (uint64_t i = 1; i < g->n_checks; i++) {
        const qn_check c = g->checks[i];
        uint64_t k = i;
        for (; k > 0 && g->checks[k - 1].rung == c.rung && rank[g->checks[k - 1].verdict] > rank[c.verdict]; k--)
            g->checks[k] = g->checks[k - 1];
        g->checks[k] = c;
    }
}

qn_code qn_gate_judge(const qn_report *r, const qn_report *baseline, const qn_thresholds *t, const qn_gate_options *o, const qn_alloc *alloc,
                      qn_gate *out, qn_err *err)
{
    struct qn_judge j = {.r = r, .b = baseline, .t = t, .g = out};
    *out = (qn_gate){0};
    qn_arena_init(&out->arena, alloc);
    const qn_code rc = climb(&j, o, err);
    if (rc != QN_OK)
        qn_gate_release(out);
    if (rc == QN_OK)
        order(out);
    out->verdict = out->by_verdict[QN_FAIL_GATE]      ? QN_FAIL_GATE
                   : out->by_verdict[QN_INCONCLUSIVE] ? QN_INCONCLUSIVE
                                                      : QN_PASS;
    return rc;
}

void qn_gate_release(qn_gate *g)
{
    qn_arena_release(&g->arena);
}
