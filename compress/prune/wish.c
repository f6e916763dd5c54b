/* wish.c: see wish.h. */
#include "compress/prune/wish.h"
#include "base/err.h"
#include "base/sizes.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const qn_prune_units[] = {"groups", "params", "macs", "bytes", "latency", NULL};
const char *const qn_prune_methods[] = {"uniform", "curves", "table", "evolve", NULL};
const char *const qn_prune_saliencies[] = {"obs", "magnitude", "wanda", "variance", "random", NULL};
const char *const qn_prune_layouts[] = {"uniform", "per-layer", NULL};
static const char *const yes_no[] = {"no", "yes", NULL};

static qn_code put_choice(unsigned *v, const char *key, const char *value, const char *const *choices, qn_err *err)
{
    char list[128] = "";
    for (unsigned i = 0; choices[i]; i++) {
        const size_t n = strlen(list);
        if (strcmp(value, choices[i]) == 0) {
            *v = i;
            return QN_OK;
        }
        (void)snprintf(list + n, sizeof list - n, "%s%s", i == 0 ? "" : choices[i + 1] ? ", " : " and ", choices[i]);
    }
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: found '%.40s', allowed are %s", key, value, list);
}

static qn_code put_real(double *v, const char *key, const char *value, double most, qn_err *err)
{
    char *end = NULL;
    *v = (*value >= '0' && *value <= '9') || *value == '.' ? strtod(value, &end) : (double)NAN;
    if (!end || *end || !(*v >= 0 && *v <= most))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: found '%.40s', allowed are 0 to %g", key, value, most);
    return QN_OK;
}

static qn_code put_count(uint32_t *v, const char *key, const char *value, qn_err *err)
{
    uint64_t n;
    if (!qn_parse_count(value, &n) || n > 1u << 24)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: found '%.40s', allowed are whole numbers to %u", key, value, 1u << 24);
    *v = (uint32_t)n;
    return QN_OK;
}

static qn_code put_flag(bool *v, const char *key, const char *value, bool turned, qn_err *err)
{
    unsigned word = 0;
    QN_TRY(put_choice(&word, key, value, yes_no, err));
    *v = (word == 1) != turned;
    return QN_OK;
}

qn_code qn_prune_wish_put(qn_prune_wish *w, const char *key, const char *value, qn_err *err)
{
    const struct {
        const char *key;
        const char *const *choices;
        unsigned *to;
    } choices[] = {{"by", qn_prune_units, &w->by}, {"allocate", qn_prune_methods, &w->allocate}, {"saliency", qn_prune_saliencies, &w->saliency}};
    const struct {
        const char *key;
        double *to, most;
    } reals[] = {{"ratio", &w->ratio, 1}, {"most", &w->most, 1}, {"ridge", &w->ridge, 1000}, {"rate", &w->rate, 1}};
    const struct {
        const char *key;
        uint32_t *to;
    } counts[] = {{"multiple", &w->multiple}, {"recover", &w->recover}, {"generations", &w->generations}, {"seed", &w->seed},
                {"drop_layers", &w->drop_layers}, {"drop_experts", &w->drop_experts}};
    const struct {
        const char *key;
        bool *to, turned;
    } flags[] = {{"refit", &w->no_refit, true}, {"gradual", &w->gradual, false}, {"inexact", &w->inexact, false}, {"inner", &w->inner, false},
                 {"any_heads", &w->any_heads, false},
                 {"at_most", &w->at_most, false}};
    for (unsigned i = 0; i < sizeof choices / sizeof choices[0]; i++)
        if (strcmp(key, choices[i].key) == 0)
            return put_choice(choices[i].to, key, value, choices[i].choices, err);
    for (unsigned i = 0; i < sizeof reals / sizeof reals[0]; i++)
        if (strcmp(key, reals[i].key) == 0)
            return put_real(reals[i].to, key, value, reals[i].most, err);
    for (unsigned i = 0; i < sizeof counts / sizeof counts[0]; i++)
        if (strcmp(key, counts[i].key) == 0)
            return put_count(counts[i].to, key, value, err);
    for (unsigned i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (strcmp(key, flags[i].key) == 0)
            return put_flag(flags[i].to, key, value, flags[i].turned, err);
    if (strcmp(key, "layout") == 0) {
        unsigned word = 0;
        QN_TRY(put_choice(&word, key, value, qn_prune_layouts, err));
        w->per_layer = word == 1;
        return QN_OK;
    }
    if (strcmp(key, "keep") == 0) {
        if (w->n_keep == QN_PRUNE_KEEP_MAX)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "keep: more than %d patterns", (int)QN_PRUNE_KEEP_MAX);
        w->keep[w->n_keep++] = value;
        return QN_OK;
    }
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "prune has no setting called '%.40s'", key);
}

bool qn_prune_wish_any(const qn_prune_wish *w)
{
    return w->ratio > 0 || w->drop_layers || w->drop_experts;
}

qn_code qn_prune_wish_check(const qn_prune_wish *w, qn_err *err)
{
    if (w->ratio == 0 && qn_prune_wish_any(w) && !w->gradual)
        return QN_OK;
    if (!(w->ratio > 0 && w->ratio < 1))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "the ratio must be between 0 and 1: how much shall go");
    if ((w->gradual || w->rate > 0) && !w->recover)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s goes with recover", w->gradual ? "gradual" : "rate");
    if (w->generations && w->allocate != QN_ALLOCATE_EVOLVE)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "generations go with allocate=evolve");
    return QN_OK;
}

size_t qn_prune_wish_text(const qn_prune_wish *w, char *buf, size_t n_bytes)
{
    char more[64] = "";
    if (w->recover)
        (void)snprintf(more, sizeof more, ", recover %u%s", w->recover, w->gradual ? " gradual" : "");
    const int n = snprintf(buf, n_bytes, "prune %.6g of %s, %s, %s%s%s", w->ratio, qn_prune_units[w->by], qn_prune_methods[w->allocate],
                           qn_prune_saliencies[w->saliency], w->no_refit ? ", no refit" : "", more);
    return n > 0 ? (size_t)n : 0;
}
