/* yaml.c: see yaml.h. */
#include "formats/yaml/yaml.h"
#include "base/alloc.h"
#include "base/err.h"
#include <string.h>
#include <yaml.h>

enum { FILE_MAX_BYTES = 1 << 20 };

unsigned qn_yaml_line(const qn_yaml_node *n)
{
    return (unsigned)n->start_mark.line + 1;
}

qn_code qn_yaml_fail(const qn_yaml *y, const qn_yaml_node *n, const char *what)
{
    return QN_FAIL(y->err, QN_E_USAGE, QN_NO_OFFSET, "line %u: %s", qn_yaml_line(n), what);
}

qn_code qn_yaml_no_value(const char *key, qn_err *err)
{
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%.40s: found no single value", key);
}

const char *qn_yaml_scalar(const qn_yaml_node *n)
{
    const char *s = n && n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
    return s && strlen(s) == n->data.scalar.length ? s : NULL; /* no NUL inside */
}

size_t qn_yaml_count(const qn_yaml_node *n)
{
    return n && n->type == YAML_SEQUENCE_NODE ? (size_t)(n->data.sequence.items.top - n->data.sequence.items.start) : SIZE_MAX;
}

const qn_yaml_node *qn_yaml_item(const qn_yaml *y, const qn_yaml_node *list, size_t i)
{
    return yaml_document_get_node(y->doc, list->data.sequence.items.start[i]);
}

bool qn_yaml_is_map(const qn_yaml_node *n)
{
    return n && n->type == YAML_MAPPING_NODE;
}

qn_code qn_yaml_pairs(const qn_yaml *y, const qn_yaml_node *map, qn_yaml_put put, void *to)
{
    if (map->type != YAML_MAPPING_NODE)
        return qn_yaml_fail(y, map, "found no list of 'key: value'");
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = yaml_document_get_node(y->doc, p->key), *value = yaml_document_get_node(y->doc, p->value);
        const char *name = qn_yaml_scalar(key);
        if (!name)
            return qn_yaml_fail(y, key, "found a key that is not a word");
        for (const yaml_node_pair_t *q = map->data.mapping.pairs.start; q < p; q++) {
            const char *earlier = qn_yaml_scalar(yaml_document_get_node(y->doc, q->key));
            if (earlier && strcmp(earlier, name) == 0)
                return QN_FAIL(y->err, QN_E_USAGE, QN_NO_OFFSET, "line %u: '%.40s' is given twice", qn_yaml_line(key), name);
        }
        qn_err why;
        qn_err_clear(&why);
        const qn_code rc = put(y, to, name, value, &why);
        if (rc == QN_OK)
            continue;
        if (y->err->code != QN_OK) /* it told by itself, with the line */
            return rc;
        return rc == QN_E_USAGE ? QN_FAIL(y->err, rc, QN_NO_OFFSET, "line %u: %s", qn_yaml_line(key), why.text)
                                : QN_FAIL(y->err, rc, QN_NO_OFFSET, "%s", why.text);
    }
    return QN_OK;
}

static qn_code read_document(yaml_parser_t *parser, qn_yaml *y, qn_yaml_put put, void *to)
{
    yaml_document_t doc, next;
    if (!yaml_parser_load(parser, &doc))
        return QN_FAIL(y->err, parser->error == YAML_MEMORY_ERROR ? QN_E_MEMORY : QN_E_USAGE, QN_NO_OFFSET, "line %u: not YAML: %s",
                       (unsigned)parser->problem_mark.line + 1, parser->problem ? parser->problem : "it cannot be read");
    y->doc = &doc;
    const yaml_node_t *root = yaml_document_get_root_node(&doc);
    qn_code rc = root ? qn_yaml_pairs(y, root, put, to) : QN_FAIL(y->err, QN_E_USAGE, QN_NO_OFFSET, "holds nothing");
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

qn_code qn_yaml_parse(const char *text, size_t n_bytes, const char *name, qn_yaml_put put, void *to, qn_err *err)
{
    yaml_parser_t parser;
    qn_err why;
    qn_err_clear(&why);
    if (!yaml_parser_initialize(&parser))
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "cannot read YAML");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n_bytes);
    qn_yaml y = {.err = &why};
    const qn_code rc = read_document(&parser, &y, put, to);
    yaml_parser_delete(&parser);
    return rc == QN_OK ? QN_OK : qn_err_in_path(err, QN_FAIL(err, rc, QN_NO_OFFSET, "%s", why.text), name);
}

static qn_code read_text(const qn_file *f, const qn_env *env, const char *path, const char *what, char **text, uint64_t *n, qn_err *err)
{
    qn_stat st;
    QN_TRY(qn_file_stat(f, &st, err));
    if (st.n_bytes > FILE_MAX_BYTES)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%llu bytes found, %s has at most %d", (unsigned long long)st.n_bytes, what,
                                           FILE_MAX_BYTES), path);
    *n = st.n_bytes;
    *text = qn_mem_get(env->alloc, *n + 1, err);
    return *text ? qn_file_read(f, *text, *n, 0, err) : QN_E_MEMORY;
}

qn_code qn_yaml_read(const qn_env *env, const char *path, const char *what, qn_yaml_put put, void *to, qn_err *err)
{
    qn_file f;
    uint64_t n = 0;
    char *text = NULL;
    QN_TRY(qn_file_open(&f, env->fs, env->alloc, path, QN_OPEN_READ, err));
    qn_code rc = read_text(&f, env, path, what, &text, &n, err);
    qn_file_drop(&f);
    if (rc == QN_OK)
        rc = qn_yaml_parse(text, n, path, put, to, err);
    qn_mem_put(env->alloc, text);
    return rc;
}
