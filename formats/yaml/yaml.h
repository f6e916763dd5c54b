/* yaml.h: small files of settings in YAML: recipes and thresholds.
 *
 * A mapping is handed on pair by pair to a function that knows its keys. Every complaint carries the line it is about: keys that the function
 * does not know, keys given twice, values of another kind, a second document. Files are at most 1 MiB. */
#ifndef QN_FORMATS_YAML_YAML_H
#define QN_FORMATS_YAML_YAML_H

#include "base/env.h"

/* libyaml's own, so that its header is needed by nobody else. */
typedef struct yaml_node_s qn_yaml_node;

typedef struct qn_yaml {
    void *doc;   /* a yaml_document_t */
    qn_err *err; /* where complaints with a line go */
} qn_yaml;

/* Takes one pair. A failure recorded in *err gets the key's line in front when it is QN_E_USAGE; one recorded in y->err (by qn_yaml_fail, a nested
 * qn_yaml_pairs) has its line already. */
typedef qn_code (*qn_yaml_put)(const qn_yaml *y, void *to, const char *key, const qn_yaml_node *value, qn_err *err);

/* `put` for every pair of the document's mapping. QN_E_USAGE with `name` as the path. */
qn_code qn_yaml_parse(const char *text, size_t n_bytes, const char *name, qn_yaml_put put, void *to, qn_err *err) QN_MUST_CHECK;
/* The same of a file. what: "a recipe", for messages. */
qn_code qn_yaml_read(const qn_env *env, const char *path, const char *what, qn_yaml_put put, void *to, qn_err *err) QN_MUST_CHECK;

/* `put` for every pair of a mapping inside. */
qn_code qn_yaml_pairs(const qn_yaml *y, const qn_yaml_node *map, qn_yaml_put put, void *to) QN_MUST_CHECK;
/* A single value without NUL inside, or NULL. */
const char *qn_yaml_scalar(const qn_yaml_node *n);
/* Items of a list; of anything else SIZE_MAX. */
size_t qn_yaml_count(const qn_yaml_node *n);
const qn_yaml_node *qn_yaml_item(const qn_yaml *y, const qn_yaml_node *list, size_t i);
bool qn_yaml_is_map(const qn_yaml_node *n);
unsigned qn_yaml_line(const qn_yaml_node *n);
/* "line 3: what". */
qn_code qn_yaml_fail(const qn_yaml *y, const qn_yaml_node *n, const char *what);
/* "KEY: found no single value", for a `put`. */
qn_code qn_yaml_no_value(const char *key, qn_err *err);

#endif
