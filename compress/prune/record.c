/* record.c: a cut as JSON. */
#include "compress/prune/record.h"
#include "base/err.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* [[first, last], …] of what stays. */
static json_t *runs(const uint8_t *keep, uint64_t n)
{
    json_t *list = json_array();
    for (uint64_t i = 0; i < n;) {
        uint64_t e = i;
        while (e < n && keep[e])
            e++;
        if (e > i)
            json_array_append_new(list, json_pack("[I,I]", (json_int_t)i, (json_int_t)(e - 1)));
        for (i = e; i < n && !keep[i]; i++)
            ;
    }
    return list;
}

static qn_code add_weight(const qn_env *env, const qn_cut *c, uint32_t value, json_t *kept, qn_err *err)
{
    const qn_groups *s = c->groups;
    json_t *axes = json_object();
    qn_code rc = QN_OK;
    for (unsigned k = 0; k < s->rank[value] && rc == QN_OK; k++) {
        const uint64_t n = (uint64_t)s->dims[(uint64_t)value * QN_ARRAY_RANK_MAX + k];
        uint64_t n_kept;
        uint8_t *keep = qn_mem_get(env->alloc, n + 1, err);
        rc = keep ? qn_cut_axis(c, value, k, keep, n, &n_kept, err) : QN_E_MEMORY;
        if (rc == QN_OK && n_kept < n) {
            char axis[8];
            snprintf(axis, sizeof axis, "%u", k);
            json_object_set_new(axes, axis, runs(keep, n));
        }
        qn_mem_put(env->alloc, keep);
    }
    if (json_object_size(axes))
        json_object_set(kept, s->graph->values[value].name, axes);
    json_decref(axes);
    return rc;
}

qn_code qn_prune_record(const qn_env *env, const qn_cut *c, char **out, qn_err *err)
{
    const qn_groups *s = c->groups;
    json_t *root = json_object(), *families = json_array(), *kept = json_object();
    qn_code rc = QN_OK;
    for (uint32_t f = 0; f < s->n_families; f++) {
        const qn_family *a = &s->families[f];
        if (c->n_gone[f])
            json_array_append_new(families, json_pack("{s:s, s:s, s:I, s:I}", "name", a->name, "kind", a->kind ? a->kind : "channels", "groups",
                                                      (json_int_t)a->n_groups, "kept", (json_int_t)(a->n_groups - c->n_gone[f])));
    }
    for (uint32_t v = 0; v < s->graph->n_values && rc == QN_OK; v++)
        if (s->graph->values[v].kind == QN_VALUE_WEIGHT && qn_cut_touches(c, v))
            rc = add_weight(env, c, v, kept, err);
    json_object_set_new(root, "program", json_pack("s++", "quern", " ", qn_version()));
    json_object_set_new(root, "families", families);
    json_object_set_new(root, "kept", kept);
    const size_t n = rc == QN_OK ? json_dumpb(root, NULL, 0, JSON_COMPACT) : 0;
    char *text = n ? qn_mem_get(env->alloc, n + 1, err) : NULL;
    if (rc == QN_OK && (!text || json_dumpb(root, text, n, JSON_COMPACT) != n)) {
        rc = QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "no memory for the record of the cut");
        qn_mem_put(env->alloc, text);
        text = NULL;
    }
    json_decref(root);
    if (text)
        text[n] = 0;
    *out = text;
    return rc;
}
