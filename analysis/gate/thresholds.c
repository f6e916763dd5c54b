/* thresholds.c: see thresholds.h. */
#include "analysis/gate/thresholds.h"
#include "base/err.h"
#include "base/sizes.h"
#include "formats/yaml/yaml.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const qn_metric_row qn_metric_tab[QN_N_METRICS] = {
    [QN_M_KLD_MEAN] = {.key = "kld_mean", .id = "kld_mean"},
    [QN_M_KLD_P99] = {.key = "kld_p99", .id = "kld_p99"},
    [QN_M_TOP1] = {.key = "top1", .id = "top1", .at_least = true, .points = true},
    [QN_M_PPL_RATIO] = {.key = "ppl_ratio", .id = "ppl_ratio"},
    [QN_M_PROB_CHANGE] = {.key = "probability_change", .id = "probability_change"},
    [QN_M_OUTPUT_REL] = {.key = "output_rel_err", .id = "output_rel_err"},
    [QN_M_OUTPUT_MAX_REL] = {.key = "output_max_rel", .id = "output_max_rel"},
    [QN_M_ACCURACY] = {.key = "accuracy", .id = "accuracy", .at_least = true, .points = true},
    [QN_M_SIZE] = {.key = "size_bytes", .id = "size_bytes"},
    [QN_M_BPW] = {.key = "bpw", .id = "bpw"},
    [QN_M_LAYER_REL] = {.key = "rel_err", .id = "layer_rel_err", .section = 'l'},
    [QN_M_LAYER_OUTPUT] = {.key = "output_err", .id = "layer_output_err", .section = 'l'},
    [QN_M_TENSOR_REL] = {.key = "rel_err", .id = "tensor_rel_err", .section = 't'},
    [QN_M_TENSOR_MAX] = {.key = "max_abs", .id = "tensor_max_abs", .section = 't'},
};

enum { PATTERNS_MAX = 256 };

struct reader {
    qn_thresholds *t;
    qn_arena *arena;
    char section;     /* of the pairs being read */
    qn_limit *limit;  /* and the limit */
    const qn_metric_row *row;
};

static void versus(qn_thresholds *t, qn_metric m, double growth)
{
    t->versus[m] = (qn_limit){.given = true, .value = growth};
}

static void bound(qn_thresholds *t, qn_metric m, double value, bool times)
{
    t->bound[m] = (qn_limit){.given = true, .value = value, .times = times};
}

void qn_thresholds_init(qn_thresholds *t, bool baseline)
{
    *t = (qn_thresholds){0};
    bound(t, QN_M_TENSOR_REL, baseline ? 1.05 : 0.75, baseline);
    bound(t, QN_M_LAYER_REL, baseline ? 1.1 : 0.75, baseline);
    if (!baseline)
        return;
    bound(t, QN_M_TENSOR_MAX, 2, true);
    versus(t, QN_M_KLD_MEAN, 0.1);
    versus(t, QN_M_KLD_P99, 0.3);
    versus(t, QN_M_TOP1, 0.01);
    versus(t, QN_M_PPL_RATIO, 0.01);
    versus(t, QN_M_OUTPUT_REL, 0.1);
    versus(t, QN_M_ACCURACY, 0.005);
    versus(t, QN_M_SIZE, 0.02);
}

/* "kld_mean, kld_p99, …" of a section. */
static qn_code unknown_key(const char *key, char section, qn_err *err)
{
    char list[240];
    size_t at = 0;
    list[0] = '\0';
    for (unsigned m = 0; m < QN_N_METRICS && at < sizeof list; m++)
        if (qn_metric_tab[m].section == section)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", at ? ", " : "", qn_metric_tab[m].key);
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "'%.40s' is not known; allowed are %s%s", key, list,
                   section ? "" : ", vs_baseline, layers, tensors, lossless");
}

/* What is left of a number is at *rest, spaces skipped. */
static bool take_number(const char *s, double *v, const char **rest)
{
    char *end;
    *v = strtod(s, &end);
    if (end == s || !isfinite(*v))
        return false;
    while (*end == ' ')
        end++;
    *rest = end;
    return true;
}

/* "0.04", "93%", "40MB" for a size, "1.2x baseline" for layers and tensors. */
static qn_code take_bound(const struct reader *x, const char *key, const char *s, qn_err *err)
{
    const char *rest;
    uint64_t bytes;
    double v;
    if (x->row == &qn_metric_tab[QN_M_SIZE] && qn_parse_size(s, &bytes)) {
        x->limit->value = (double)bytes;
        return QN_OK;
    }
    if (take_number(s, &v, &rest) && v >= 0) {
        x->limit->value = *rest == '%' ? v / 100 : v;
        x->limit->times = x->row->section && strcmp(rest, "x baseline") == 0;
        if (!*rest || x->limit->times || (x->row->points && strcmp(rest, "%") == 0))
            return QN_OK;
    }
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: '%.40s' found; a number%s is expected", key, s,
                   x->row == &qn_metric_tab[QN_M_SIZE] ? " of bytes" : x->row->section ? ", or '1.2x baseline'," : x->row->points ? " or a percentage" : "");
}

static qn_code put_bound(const qn_yaml *y, void *to, const char *key, const qn_yaml_node *value, qn_err *err)
{
    const struct reader *x = to;
    (void)y;
    if (strcmp(key, x->row->at_least ? "min" : "max") != 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "'%.40s' is not known for %s; allowed is %s", key, x->row->id, x->row->at_least ? "min" : "max");
    return qn_yaml_scalar(value) ? take_bound(x, key, qn_yaml_scalar(value), err) : qn_yaml_no_value(key, err);
}

static qn_code put_metric(const qn_yaml *y, void *to, const char *key, const qn_yaml_node *value, qn_err *err)
{
    struct reader *x = to;
    for (unsigned m = 0; m < QN_N_METRICS; m++) {
        if (qn_metric_tab[m].section != x->section || strcmp(qn_metric_tab[m].key, key) != 0)
            continue;
        struct reader in = {.t = x->t, .row = &qn_metric_tab[m], .limit = &x->t->bound[m]};
        *in.limit = (qn_limit){.given = true, .line = qn_yaml_line(value)};
        if (!qn_yaml_is_map(value))
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%.40s: {%s: …} is expected", key, in.row->at_least ? "min" : "max");
        in.limit->value = (double)NAN;
        QN_TRY(qn_yaml_pairs(y, value, put_bound, &in));
        return isnan(in.limit->value) ? QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%.40s: {%s: …} is expected", key, in.row->at_least ? "min" : "max")
                                      : QN_OK;
    }
    return unknown_key(key, x->section, err);
}

/* "+10%", or "-1%" for what must not fall. */
static qn_code put_versus(const qn_yaml *y, void *to, const char *key, const qn_yaml_node *value, qn_err *err)
{
    struct reader *x = to;
    (void)y;
    for (unsigned m = 0; m < QN_N_METRICS; m++) {
        const qn_metric_row *row = &qn_metric_tab[m];
        if (row->section || strcmp(row->key, key) != 0)
            continue;
        const char *s = qn_yaml_scalar(value), *rest;
        double v;
        if (!s || !take_number(s, &v, &rest) || strcmp(rest, "%") != 0 || (row->at_least ? v > 0 || *s == '+' : v < 0 || *s == '-'))
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: '%.40s' found; '%s' is expected: by how much it may %s", key, s ? s : "", row->at_least ? "-1%" : "+10%",
                           row->at_least ? "fall" : "grow");
        x->t->versus[m] = (qn_limit){.given = true, .value = fabs(v) / 100, .line = qn_yaml_line(value)};
        return QN_OK;
    }
    return unknown_key(key, 0, err);
}

static qn_code put_lossless(const qn_yaml *y, struct reader *x, const qn_yaml_node *value, qn_err *err)
{
    const bool list = qn_yaml_count(value) != SIZE_MAX;
    const size_t n = list ? qn_yaml_count(value) : 1;
    if (n > PATTERNS_MAX)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "lossless: more than 256 patterns");
    x->t->lossless_line = qn_yaml_line(value);
    x->t->lossless = qn_arena_get(x->arena, (n + 1) * sizeof *x->t->lossless, 16, err);
    if (!x->t->lossless)
        return QN_E_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const char *s = qn_yaml_scalar(list ? qn_yaml_item(y, value, i) : value);
        if (!s || !*s)
            return qn_yaml_no_value("lossless", err);
        const char *copy = qn_arena_str(x->arena, s, strlen(s), err);
        if (!copy)
            return QN_E_MEMORY;
        memset(&x->t->lossless[i], 0, sizeof x->t->lossless[i]);
        QN_TRY(qn_pattern_open(&x->t->lossless[i], copy, err));
        x->t->n_lossless++;
    }
    return QN_OK;
}

static void forget(qn_thresholds *t, char section)
{
    for (unsigned m = 0; m < QN_N_METRICS; m++)
        if (section == 'v')
            t->versus[m] = (qn_limit){0};
        else if (qn_metric_tab[m].section == section)
            t->bound[m] = (qn_limit){0};
}

static qn_code put_top(const qn_yaml *y, void *to, const char *key, const qn_yaml_node *value, qn_err *err)
{
    static const struct {
        const char *key;
        char section;
    } sections[] = {{"vs_baseline", 'v'}, {"layers", 'l'}, {"tensors", 't'}};
    struct reader *x = to;
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (strcmp(key, sections[i].key) != 0)
            continue;
        const char *word = qn_yaml_scalar(value);
        forget(x->t, sections[i].section);
        if (word && strcmp(word, "none") == 0)
            return QN_OK;
        if (!qn_yaml_is_map(value))
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: limits, or 'none', are expected", key);
        x->section = sections[i].section;
        return qn_yaml_pairs(y, value, sections[i].section == 'v' ? put_versus : put_metric, x);
    }
    if (strcmp(key, "lossless") == 0)
        return put_lossless(y, x, value, err);
    x->section = 0;
    return put_metric(y, x, key, value, err);
}

qn_code qn_thresholds_parse(qn_thresholds *t, const char *text, size_t n_bytes, const char *name, qn_arena *arena, qn_err *err)
{
    struct reader x = {.t = t, .arena = arena};
    t->file = qn_arena_str(arena, name, strlen(name), err);
    return t->file ? qn_yaml_parse(text, n_bytes, name, put_top, &x, err) : QN_E_MEMORY;
}

qn_code qn_thresholds_read(qn_thresholds *t, const qn_env *env, const char *path, qn_arena *arena, qn_err *err)
{
    struct reader x = {.t = t, .arena = arena};
    t->file = qn_arena_str(arena, path, strlen(path), err);
    return t->file ? qn_yaml_read(env, path, "a file of thresholds", put_top, &x, err) : QN_E_MEMORY;
}

void qn_thresholds_release(qn_thresholds *t)
{
    for (uint32_t i = 0; i < t->n_lossless; i++)
        qn_pattern_close(&t->lossless[i]);
    t->n_lossless = 0;
}
