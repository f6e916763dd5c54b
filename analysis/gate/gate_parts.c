/* gate_parts.c: the rungs that look at single tensors and layers: bits that must be there, and errors by name. See gate.h. */
#include "analysis/gate/gate.h"
#include "base/err.h"
#include "base/names.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LISTED = 50 };
/* Below this an error is that of another order of additions, whatever the baseline had. */
#define FLOOR 1e-6

/* What fails, the worst first. */
struct finding {
    uint64_t item;
    double found, limit, was; /* was: in the baseline, NaN without */
    bool at_max;              /* the largest error of a weight, not the relative one */
};

/* The baseline's tensors by name. */
struct book {
    qn_names names;
    qn_name_slot *slots;
};

static const char *tensor_name(const void *ctx, uint32_t item)
{
    return ((const qn_report *)ctx)->tensors[item].name;
}

static qn_code open_book(struct book *k, const qn_report *b, const qn_alloc *alloc, qn_err *err)
{
    *k = (struct book){0};
    if (!b)
        return QN_OK;
    if (b->n_tensors >= UINT32_MAX - 1)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "too many tensors in the baseline");
    const uint64_t n = qn_names_slots(b->n_tensors);
    k->slots = qn_mem_zeros(alloc, n, sizeof *k->slots, err);
    if (!k->slots)
        return QN_E_MEMORY;
    qn_names_init(&k->names, k->slots, n);
    for (uint64_t i = 0; i < b->n_tensors; i++) /* of two equal names the first counts */
        (void)qn_names_add(&k->names, b->tensors[i].name, (uint32_t)i, tensor_name, b);
    return QN_OK;
}

static const qn_report_tensor *twin(const struct book *k, const qn_report *b, const char *name)
{
    const uint32_t at = b ? qn_names_find(&k->names, name, tensor_name, b) : QN_NAMES_NONE;
    return at == QN_NAMES_NONE ? NULL : &b->tensors[at];
}

static bool equal(const qn_report_tensor *t)
{
    return t->n_differing == 0 && !(t->rel > 0) && !isnan(t->rel);
}

/* --- bits ------------------------------------------------------------------------------------------------------------------------ */

/* Why a tensor must be equal bit for bit; NULL: it need not. */
static const char *must_be(const struct qn_judge *j, const qn_report_tensor *t, const qn_report_tensor *was, unsigned *line)
{
    *line = 0;
    for (uint32_t i = 0; i < j->t->n_lossless; i++)
        if (qn_pattern_match(&j->t->lossless[i], t->name)) {
            *line = j->t->lossless_line;
            return "the thresholds ask for every bit of it";
        }
    /* unless it is known to have been another: a decoded or tuned model, packed without loss */
    if (t->codec && strcmp(t->codec, "lossless") == 0 && !t->ref_dtype && (!was || equal(was)))
        return "the file holds it without loss";
    return was && equal(was) && !was->ref_dtype && !t->ref_dtype ? "the baseline has every bit of it" : NULL;
}

static qn_code lossless(struct qn_judge *j, const struct book *k, qn_err *err)
{
    const qn_report *r = j->r;
    uint64_t n = 0, bad = 0;
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        const qn_report_tensor *t = &r->tensors[i];
        unsigned line;
        const char *why = isnan(t->rel) ? NULL : must_be(j, t, twin(k, j->b, t->name), &line);
        if (!why)
            continue;
        n++;
        if (equal(t) || bad++ >= LISTED)
            continue;
        const qn_check c = {.rung = QN_RUNG_LOSSLESS, .id = "lossless", .subject = t->name, .verdict = QN_FAIL_GATE, .found = t->rel, .low = (double)NAN,
                            .high = (double)NAN, .limit = 0, .line = line,
                            .text = qn_gate_text(j, err, "%" PRIu64 " of %" PRIu64 " values differ, relative error %.3g%s%s: %s", t->n_differing, t->n_weights,
                                                 t->rel, t->looks ? "; " : "", t->looks ? t->looks : "", why)};
        QN_TRY(qn_gate_add(j, &c, err));
    }
    if (bad || !n)
        return QN_OK;
    const qn_check c = {.rung = QN_RUNG_LOSSLESS, .id = "lossless", .found = (double)NAN, .low = (double)NAN, .high = (double)NAN, .limit = (double)NAN,
                        .text = qn_gate_text(j, err, "%" PRIu64 " tensors that must be equal bit for bit are", n)};
    return qn_gate_add(j, &c, err);
}

qn_code qn_gate_lossless(struct qn_judge *j, qn_err *err)
{
    struct book k;
    QN_TRY(open_book(&k, j->b, j->g->arena.alloc, err));
    const qn_code rc = lossless(j, &k, err);
    qn_mem_put(j->g->arena.alloc, k.slots);
    return rc;
}

/* --- errors ---------------------------------------------------------------------------------------------------------------------- */

/* The bound for something whose value in the baseline is `was`; NaN: there is none. */
static double bound_of(const qn_limit *l, double was)
{
    if (!l->given)
        return (double)NAN;
    return l->times ? l->value * was + FLOOR * (was > 1 ? was : 1) : l->value;
}

static int worst_first(const void *a, const void *b)
{
    const struct finding *x = a, *y = b;
    const double p = x->found / (x->limit > FLOOR ? x->limit : FLOOR), q = y->found / (y->limit > FLOOR ? y->limit : FLOOR);
    if (p < q || p > q)
        return p < q ? 1 : -1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static const char *limit_text(struct qn_judge *j, const struct finding *f, const qn_limit *l, qn_err *err)
{
    if (l->times && isfinite(f->was))
        return qn_gate_text(j, err, "%.4g in the baseline, %.3gx is allowed", f->was, l->value);
    return qn_gate_text(j, err, "%.4g is allowed", f->limit);
}

/* One failing tensor. */
static qn_code add_tensor(struct qn_judge *j, const struct book *k, const struct finding *f, qn_err *err)
{
    const qn_report_tensor *t = &j->r->tensors[f->item], *was = twin(k, j->b, t->name);
    unsigned line;
    if (must_be(j, t, was, &line)) /* told by its own rung */
        return QN_OK;
    const qn_metric m = f->at_max ? QN_M_TENSOR_MAX : QN_M_TENSOR_REL;
    const qn_limit *l = &j->t->bound[m];
    const char *allowed = limit_text(j, f, l, err);
    if (!allowed)
        return QN_E_MEMORY;
    const bool recoded = was && was->codec && t->codec && strcmp(was->codec, t->codec) != 0;
    const qn_check c = {.rung = QN_RUNG_TENSORS, .id = qn_metric_tab[m].id, .subject = t->name, .verdict = QN_FAIL_GATE, .found = f->found,
                        .low = (double)NAN, .high = (double)NAN, .limit = f->limit, .line = l->line,
                        .text = qn_gate_text(j, err, "%s %.4g: %s%s%s%s%s%s%s%s", f->at_max ? "largest error" : "relative error", f->found, allowed,
                                             t->looks ? "; " : "", t->looks ? t->looks : "", recoded ? "; stored as " : "", recoded ? t->codec : "",
                                             recoded ? ", not " : "", recoded ? was->codec : "", recoded ? " as in the baseline" : "")};
    return qn_gate_add(j, &c, err);
}

/* Layers most of whose matrices fail: then it is the layer. */
static qn_code add_whole_layers(struct qn_judge *j, const struct finding *f, uint64_t n, qn_err *err)
{
    for (uint64_t i = 0; i < n; i++) {
        const uint32_t layer = j->r->tensors[f[i].item].layer;
        uint64_t bad = 0, all = 0, other = 0;
        uint32_t like = QN_REPORT_NO_LAYER;
        bool first = layer != QN_REPORT_NO_LAYER;
        for (uint64_t k = 0; k < i && first; k++)
            first = j->r->tensors[f[k].item].layer != layer;
        if (!first)
            continue;
        for (uint64_t k = 0; k < j->r->n_tensors; k++)
            all += j->r->tensors[k].layer == layer;
        for (uint64_t k = i; k < n; k++) {
            const qn_report_tensor *t = &j->r->tensors[f[k].item];
            const char *name = t->layer == layer && t->looks ? strstr(t->looks, "like the reference's '") : NULL;
            bad += t->layer == layer;
            if (!name)
                continue;
            like = qn_report_layer_of(name + strlen("like the reference's '"));
            other += like != layer && like != QN_REPORT_NO_LAYER;
        }
        if (bad < 3 || 2 * bad < all)
            continue;
        char subject[24];
        (void)snprintf(subject, sizeof subject, "layer %" PRIu32, layer);
        const char *name = qn_gate_text(j, err, "%s", subject);
        if (!name)
            return QN_E_MEMORY;
        qn_check c = {.rung = QN_RUNG_TENSORS, .id = "tensor_layer", .subject = name, .verdict = QN_FAIL_GATE, .found = (double)bad, .low = (double)NAN,
                      .high = (double)NAN, .limit = (double)NAN};
        c.text = 2 * other > bad ? qn_gate_text(j, err, "%" PRIu64 " of its %" PRIu64 " tensors are wrong: it looks like layer %" PRIu32 " of the reference", bad, all, like)
                                 : qn_gate_text(j, err, "%" PRIu64 " of its %" PRIu64 " tensors are wrong", bad, all);
        QN_TRY(qn_gate_add(j, &c, err));
    }
    return QN_OK;
}

static uint64_t find_tensors(struct qn_judge *j, const struct book *k, struct finding *f, struct finding *nearest)
{
    const qn_limit *rel = &j->t->bound[QN_M_TENSOR_REL], *max = &j->t->bound[QN_M_TENSOR_MAX];
    uint64_t n = 0;
    *nearest = (struct finding){.item = UINT64_MAX};
    for (uint64_t i = 0; i < j->r->n_tensors; i++) {
        const qn_report_tensor *t = &j->r->tensors[i], *was = twin(k, j->b, t->name);
        const struct finding a = {i, t->rel, bound_of(rel, was ? was->rel : (double)NAN), was ? was->rel : (double)NAN, false};
        const struct finding b = {i, t->max_abs, bound_of(max, was ? was->max_abs : (double)NAN), was ? was->max_abs : (double)NAN, true};
        if (isnan(t->rel))
            continue;
        if (a.found > a.limit)
            f[n++] = a;
        else if (b.found > b.limit)
            f[n++] = b;
        else if (!isnan(a.limit) && (nearest->item == UINT64_MAX || worst_first(&a, nearest) < 0))
            *nearest = a;
    }
    return n;
}

static qn_code tensors(struct qn_judge *j, const struct book *k, struct finding *f, qn_err *err)
{
    struct finding near;
    const uint64_t n = find_tensors(j, k, f, &near);
    qsort(f, (size_t)n, sizeof *f, worst_first);
    QN_TRY(add_whole_layers(j, f, n, err));
    for (uint64_t i = 0; i < n && i < LISTED; i++)
        QN_TRY(add_tensor(j, k, &f[i], err));
    if (n > LISTED) {
        const qn_check c = {.rung = QN_RUNG_TENSORS, .id = "tensor_rel_err", .verdict = QN_FAIL_GATE, .found = (double)NAN, .low = (double)NAN,
                            .high = (double)NAN, .limit = (double)NAN, .text = qn_gate_text(j, err, "and %" PRIu64 " tensors more", n - LISTED)};
        return qn_gate_add(j, &c, err);
    }
    if (n || near.item == UINT64_MAX)
        return QN_OK;
    const char *allowed = limit_text(j, &near, &j->t->bound[QN_M_TENSOR_REL], err);
    if (!allowed)
        return QN_E_MEMORY;
    const qn_check c = {.rung = QN_RUNG_TENSORS, .id = "tensor_rel_err", .subject = j->r->tensors[near.item].name, .found = near.found, .low = (double)NAN,
                        .high = (double)NAN, .limit = near.limit, .line = j->t->bound[QN_M_TENSOR_REL].line,
                        .text = qn_gate_text(j, err, "nearest to its limit: relative error %.4g, %s", near.found, allowed)};
    return qn_gate_add(j, &c, err);
}

qn_code qn_gate_tensors(struct qn_judge *j, qn_err *err)
{
    const qn_alloc *alloc = j->g->arena.alloc;
    struct book k;
    QN_TRY(open_book(&k, j->b, alloc, err));
    struct finding *f = qn_mem_get(alloc, (j->r->n_tensors + 1) * sizeof *f, err);
    const qn_code rc = f ? tensors(j, &k, f, err) : QN_E_MEMORY;
    qn_mem_put(alloc, f);
    qn_mem_put(alloc, k.slots);
    return rc;
}

/* --- layers ------------------------------------------------------------------------------------------------------------------------ */

static double layer_value(const qn_report_layer *y, qn_metric m)
{
    return m == QN_M_LAYER_OUTPUT || isnan(y->own_rel) ? y->rel_rms : y->own_rel;
}

static double layer_was(const struct qn_judge *j, const qn_report_layer *y, qn_metric m)
{
    for (uint64_t i = 0; j->b && i < j->b->n_layers; i++)
        if (strcmp(j->b->layers[i].name, y->name) == 0)
            return layer_value(&j->b->layers[i], m);
    return (double)NAN;
}

static qn_code layers(struct qn_judge *j, qn_metric m, struct finding *f, qn_err *err)
{
    const qn_limit *l = &j->t->bound[m];
    const char *what = m == QN_M_LAYER_OUTPUT ? "error of its output" : "its own error";
    struct finding near = {.item = UINT64_MAX};
    uint64_t n = 0;
    for (uint64_t i = 0; i < j->r->n_layers; i++) {
        const double was = layer_was(j, &j->r->layers[i], m);
        const struct finding a = {i, layer_value(&j->r->layers[i], m), bound_of(l, was), was, false};
        if (a.found > a.limit)
            f[n++] = a;
        else if (!isnan(a.limit) && (near.item == UINT64_MAX || worst_first(&a, &near) < 0))
            near = a;
    }
    qsort(f, (size_t)n, sizeof *f, worst_first);
    if (!n && near.item != UINT64_MAX)
        f[n++] = near;
    const qn_report_layer *jump = qn_report_jump(j->r, 3);
    for (uint64_t i = 0; i < n && i < LISTED; i++) {
        const bool bad = f[i].found > f[i].limit;
        const char *allowed = limit_text(j, &f[i], l, err);
        if (!allowed)
            return QN_E_MEMORY;
        const qn_check c = {.rung = QN_RUNG_LAYERS, .id = qn_metric_tab[m].id, .subject = j->r->layers[f[i].item].name, .verdict = bad ? QN_FAIL_GATE : QN_PASS,
                            .found = f[i].found, .low = (double)NAN, .high = (double)NAN, .limit = f[i].limit, .line = l->line,
                            .text = qn_gate_text(j, err, "%s%s %.4g: %s%s%s", bad ? "" : "nearest to its limit: ", what, f[i].found, allowed,
                                                 bad && jump && i == 0 ? "; the divergence first jumps at " : "", bad && jump && i == 0 ? jump->name : "")};
        QN_TRY(qn_gate_add(j, &c, err));
    }
    return QN_OK;
}

qn_code qn_gate_layers(struct qn_judge *j, qn_err *err)
{
    const qn_alloc *alloc = j->g->arena.alloc;
    struct finding *f = qn_mem_get(alloc, (j->r->n_layers + 1) * sizeof *f, err);
    qn_code rc = f ? layers(j, QN_M_LAYER_REL, f, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = layers(j, QN_M_LAYER_OUTPUT, f, err);
    qn_mem_put(alloc, f);
    return rc;
}
