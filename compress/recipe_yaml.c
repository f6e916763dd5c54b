/* recipe_yaml.c: a recipe from a file:
 *
 *     codec: ect
 *     bits: 3              # or size: 40MB, or bits_per_weight: 2.8, of the whole file
 *     head: {bits: 6}
 *     embedding: {codec: grid, bits: 8}
 *     prune: {ratio: 0.3, by: macs}
 *     tensors:             # the last rule that matches wins
 *       - match: "*.down_proj.weight"
 *         bits: 4
 *       - match: model.layers.0.*
 *         codec: lossless
 *
 * Keys are those of qn_recipe_put. A key that is not known, or is given twice, is an error with its line. */
#include "base/err.h"
#include "compress/recipe.h"
#include "formats/yaml/yaml.h"
#include <string.h>

enum { RULES_MAX = 4096 };

struct reader {
    qn_recipe *r;
    qn_arena *arena;
};

/* A rule on its way. */
struct rule {
    qn_recipe_rule *rule;
    qn_arena *arena;
};

static qn_code put_part(const qn_yaml *y, void *to, const char *key, const qn_yaml_node *value, qn_err *err)
{
    (void)y;
    return qn_yaml_scalar(value) ? qn_recipe_part_put(to, key, qn_yaml_scalar(value), err) : qn_yaml_no_value(key, err);
}

static qn_code put_rule(const qn_yaml *y, void *to, const char *key, const qn_yaml_node *value, qn_err *err)
{
    const struct rule *in = to;
    if (strcmp(key, "match") != 0)
        return put_part(y, &in->rule->part, key, value, err);
    const char *text = qn_yaml_scalar(value);
    if (!text || !*text)
        return qn_yaml_no_value(key, err);
    const char *copy = qn_arena_str(in->arena, text, strlen(text), err);
    return copy ? qn_pattern_open(&in->rule->match, copy, err) : QN_E_MEMORY;
}

static qn_code put_rules(const qn_yaml *y, struct reader *x, const qn_yaml_node *list)
{
    const size_t n = qn_yaml_count(list);
    if (n == SIZE_MAX)
        return qn_yaml_fail(y, list, "tensors: found no list of rules ('- match: …')");
    if (n > RULES_MAX)
        return qn_yaml_fail(y, list, "tensors: more than 4096 rules");
    x->r->rules = qn_arena_get(x->arena, (n + 1) * sizeof *x->r->rules, 16, y->err);
    if (!x->r->rules)
        return QN_E_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const qn_yaml_node *item = qn_yaml_item(y, list, i);
        struct rule in = {.rule = &x->r->rules[x->r->n_rules++], .arena = x->arena};
        *in.rule = (qn_recipe_rule){.line = qn_yaml_line(item)};
        QN_TRY(qn_yaml_pairs(y, item, put_rule, &in));
        if (!in.rule->match.text)
            return qn_yaml_fail(y, item, "a rule without 'match'");
    }
    return QN_OK;
}

/* `keep` may be a list. */
static qn_code put_prune(const qn_yaml *y, void *to, const char *key, const qn_yaml_node *value, qn_err *err)
{
    struct reader *x = to;
    const bool list = strcmp(key, "keep") == 0 && qn_yaml_count(value) != SIZE_MAX;
    const size_t n = list ? qn_yaml_count(value) : 1;
    for (size_t i = 0; i < n; i++) {
        const char *text = qn_yaml_scalar(list ? qn_yaml_item(y, value, i) : value);
        if (!text)
            return qn_yaml_no_value(key, err);
        const char *copy = qn_arena_str(x->arena, text, strlen(text), err);
        if (!copy)
            return QN_E_MEMORY;
        QN_TRY(qn_prune_wish_put(&x->r->prune, key, copy, err));
    }
    return QN_OK;
}

static qn_code put_top(const qn_yaml *y, void *to, const char *key, const qn_yaml_node *value, qn_err *err)
{
    struct reader *x = to;
    if (strcmp(key, "head") == 0 || strcmp(key, "embedding") == 0)
        return qn_yaml_pairs(y, value, put_part, &x->r->role[*key == 'h' ? QN_ROLE_HEAD : QN_ROLE_EMBEDDING]);
    if (strcmp(key, "prune") == 0)
        return qn_yaml_pairs(y, value, put_prune, x);
    if (strcmp(key, "tensors") == 0)
        return put_rules(y, x, value);
    return qn_yaml_scalar(value) ? qn_recipe_put(x->r, key, qn_yaml_scalar(value), err) : qn_yaml_no_value(key, err);
}

qn_code qn_recipe_parse(qn_recipe *r, const char *text, size_t n_bytes, const char *name, qn_arena *arena, qn_err *err)
{
    struct reader x = {.r = r, .arena = arena};
    *r = QN_RECIPE_EMPTY;
    const qn_code rc = qn_yaml_parse(text, n_bytes, name, put_top, &x, err);
    if (rc != QN_OK)
        qn_recipe_release(r);
    return rc;
}

qn_code qn_recipe_read(qn_recipe *r, const qn_env *env, const char *path, qn_arena *arena, qn_err *err)
{
    struct reader x = {.r = r, .arena = arena};
    *r = QN_RECIPE_EMPTY;
    const qn_code rc = qn_yaml_read(env, path, "a recipe", put_top, &x, err);
    if (rc != QN_OK)
        qn_recipe_release(r);
    return rc;
}
