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
#include <string.h>
#include <yaml.h>

enum { FILE_MAX_BYTES = 1 << 20, RULES_MAX = 4096 };

struct reader {
    yaml_document_t *doc;
    qn_recipe *r;
    qn_arena *arena;
    qn_err *err;
};

static unsigned line_of(const yaml_node_t *n)
{
    return (unsigned)n->start_mark.line + 1;
}

static qn_code fail(const struct reader *y, const yaml_node_t *n, const char *what)
{
    return QN_FAIL(y->err, QN_E_USAGE, QN_NO_OFFSET, "line %u: %s", line_of(n), what);
}

static const char *scalar(const yaml_node_t *n)
{
    const char *s = n && n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
    return s && strlen(s) == n->data.scalar.length ? s : NULL; /* no NUL inside */
}

/* Calls `put` for every pair of a mapping; keys once each. */
typedef qn_code (*put_fn)(const struct reader *y, void *to, const char *key, const yaml_node_t *value, qn_err *err);

static qn_code pairs(const struct reader *y, const yaml_node_t *map, put_fn put, void *to)
{
    if (map->type != YAML_MAPPING_NODE)
        return fail(y, map, "found no list of 'key: value'");
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = yaml_document_get_node(y->doc, p->key), *value = yaml_document_get_node(y->doc, p->value);
        const char *name = scalar(key);
        if (!name)
            return fail(y, key, "found a key that is not a word");
        for (const yaml_node_pair_t *q = map->data.mapping.pairs.start; q < p; q++) {
            const char *earlier = scalar(yaml_document_get_node(y->doc, q->key));
            if (earlier && strcmp(earlier, name) == 0)
                return QN_FAIL(y->err, QN_E_USAGE, QN_NO_OFFSET, "line %u: '%.40s' is given twice", line_of(key), name);
        }
        qn_err why;
        qn_err_clear(&why);
        const qn_code rc = put(y, to, name, value, &why);
        if (rc == QN_OK)
            continue;
        if (y->err->code != QN_OK) /* it told by itself, with the line */
            return rc;
        return rc == QN_E_USAGE ? QN_FAIL(y->err, rc, QN_NO_OFFSET, "line %u: %s", line_of(key), why.text)
                                : QN_FAIL(y->err, rc, QN_NO_OFFSET, "%s", why.text);
    }
    return QN_OK;
}

static qn_code value_missing(const char *key, qn_err *err)
{
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%.40s: found no single value", key);
}

static qn_code put_part(const struct reader *y, void *to, const char *key, const yaml_node_t *value, qn_err *err)
{
    (void)y;
    return scalar(value) ? qn_recipe_part_put(to, key, scalar(value), err) : value_missing(key, err);
}

static qn_code put_rule(const struct reader *y, void *to, const char *key, const yaml_node_t *value, qn_err *err)
{
    qn_recipe_rule *rule = to;
    if (strcmp(key, "match") != 0)
        return put_part(y, &rule->part, key, value, err);
    const char *text = scalar(value);
    if (!text || !*text)
        return value_missing(key, err);
    const char *copy = qn_arena_str(y->arena, text, strlen(text), err);
    return copy ? qn_pattern_open(&rule->match, copy, err) : QN_E_MEMORY;
}

static qn_code put_rules(const struct reader *y, const yaml_node_t *list)
{
    if (list->type != YAML_SEQUENCE_NODE)
        return fail(y, list, "tensors: found no list of rules ('- match: …')");
    const size_t n = (size_t)(list->data.sequence.items.top - list->data.sequence.items.start);
    if (n > RULES_MAX)
        return fail(y, list, "tensors: more than 4096 rules");
    y->r->rules = qn_arena_get(y->arena, (n + 1) * sizeof *y->r->rules, 16, y->err);
    if (!y->r->rules)
        return QN_E_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const yaml_node_t *item = yaml_document_get_node(y->doc, list->data.sequence.items.start[i]);
        qn_recipe_rule *rule = &y->r->rules[y->r->n_rules++];
        *rule = (qn_recipe_rule){.line = line_of(item)};
        QN_TRY(pairs(y, item, put_rule, rule));
        if (!rule->match.text)
            return fail(y, item, "a rule without 'match'");
    }
    return QN_OK;
}

/* `keep` may be a list. */
static qn_code put_prune(const struct reader *y, void *to, const char *key, const yaml_node_t *value, qn_err *err)
{
    const bool list = value && value->type == YAML_SEQUENCE_NODE && strcmp(key, "keep") == 0;
    const size_t n = list ? (size_t)(value->data.sequence.items.top - value->data.sequence.items.start) : 1;
    for (size_t i = 0; i < n; i++) {
        const char *text = scalar(list ? yaml_document_get_node(y->doc, value->data.sequence.items.start[i]) : value);
        if (!text)
            return value_missing(key, err);
        const char *copy = qn_arena_str(y->arena, text, strlen(text), err);
        if (!copy)
            return QN_E_MEMORY;
        QN_TRY(qn_prune_wish_put(to, key, copy, err));
    }
    return QN_OK;
}

static qn_code put_top(const struct reader *y, void *to, const char *key, const yaml_node_t *value, qn_err *err)
{
    qn_recipe *r = to;
    if (strcmp(key, "head") == 0 || strcmp(key, "embedding") == 0)
        return pairs(y, value, put_part, &r->role[*key == 'h' ? QN_ROLE_HEAD : QN_ROLE_EMBEDDING]);
    if (strcmp(key, "prune") == 0)
        return pairs(y, value, put_prune, &r->prune);
    if (strcmp(key, "tensors") == 0)
        return put_rules(y, value);
    return scalar(value) ? qn_recipe_put(r, key, scalar(value), err) : value_missing(key, err);
}

static qn_code read_document(yaml_parser_t *parser, struct reader *y)
{
    yaml_document_t doc, next;
    if (!yaml_parser_load(parser, &doc))
        return QN_FAIL(y->err, parser->error == YAML_MEMORY_ERROR ? QN_E_MEMORY : QN_E_USAGE, QN_NO_OFFSET, "line %u: not YAML: %s",
                       (unsigned)parser->problem_mark.line + 1, parser->problem ? parser->problem : "it cannot be read");
    y->doc = &doc;
    const yaml_node_t *root = yaml_document_get_root_node(&doc);
    qn_code rc = root ? pairs(y, root, put_top, y->r) : QN_FAIL(y->err, QN_E_USAGE, QN_NO_OFFSET, "holds nothing");
    yaml_document_delete(&doc);
    if (rc != QN_OK)
        return rc;
    if (!yaml_parser_load(parser, &next))
        return QN_FAIL(y->err, QN_E_USAGE, QN_NO_OFFSET, "line %u: not YAML: %s", (unsigned)parser->problem_mark.line + 1,
                       parser->problem ? parser->problem : "it cannot be read");
    if (yaml_document_get_root_node(&next))
        rc = QN_FAIL(y->err, QN_E_USAGE, QN_NO_OFFSET, "found a second document");
    yaml_document_delete(&next);
    return rc;
}

qn_code qn_recipe_parse(qn_recipe *r, const char *text, size_t n_bytes, const char *name, qn_arena *arena, qn_err *err)
{
    yaml_parser_t parser;
    qn_err why;
    qn_err_clear(&why);
    *r = QN_RECIPE_EMPTY;
    if (!yaml_parser_initialize(&parser))
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "cannot read YAML");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n_bytes);
    struct reader y = {.r = r, .arena = arena, .err = &why};
    const qn_code rc = read_document(&parser, &y);
    yaml_parser_delete(&parser);
    if (rc != QN_OK) {
        qn_recipe_release(r);
        return qn_err_in_path(err, QN_FAIL(err, rc, QN_NO_OFFSET, "%s", why.text), name);
    }
    return QN_OK;
}

static qn_code read_text(const qn_file *f, const qn_env *env, const char *path, char **text, uint64_t *n, qn_err *err)
{
    qn_stat st;
    QN_TRY(qn_file_stat(f, &st, err));
    if (st.n_bytes > FILE_MAX_BYTES)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%llu bytes found, a recipe has at most %d",
                                           (unsigned long long)st.n_bytes, FILE_MAX_BYTES), path);
    *n = st.n_bytes;
    *text = qn_mem_get(env->alloc, *n + 1, err);
    return *text ? qn_file_read(f, *text, *n, 0, err) : QN_E_MEMORY;
}

qn_code qn_recipe_read(qn_recipe *r, const qn_env *env, const char *path, qn_arena *arena, qn_err *err)
{
    qn_file f;
    uint64_t n = 0;
    char *text = NULL;
    *r = QN_RECIPE_EMPTY;
    QN_TRY(qn_file_open(&f, env->fs, env->alloc, path, QN_OPEN_READ, err));
    qn_code rc = read_text(&f, env, path, &text, &n, err);
    qn_file_drop(&f);
    if (rc == QN_OK)
        rc = qn_recipe_parse(r, text, n, path, arena, err);
    qn_mem_put(env->alloc, text);
    return rc;
}
