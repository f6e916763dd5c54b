/* config.h: the config.json of a model folder: what the tensors mean.
 *
 * Getters take a list of keys, "num_hidden_layers|n_layer": the first that is there counts; null is as if it were not there. Values are
 * checked where they are read: type, and range [low, high]. Errors are QN_E_INPUT and name the key, what was found and what is allowed.
 *
 * Models of several parts nest the language model's keys in "text_config". They are looked for there first, then outside. */
#ifndef QN_FORMATS_HF_CONFIG_H
#define QN_FORMATS_HF_CONFIG_H

#include "formats/source.h"

enum { QN_CONFIG_BYTES_MAX = 8 << 20 };

struct json_t;

typedef struct qn_config {
    struct json_t *root;  /* owned; NULL in a view that qn_config_sub has made   */
    struct json_t *at;    /* where keys are looked for                           */
    struct json_t *outer; /* … and then; NULL: nowhere else                      */
    const char *path;     /* for messages; the source's                          */
    char under[64];       /* "rope_scaling." in front of keys in messages, or "" */
} qn_config;

/* Does the source hold a config.json (a folder, or a .quern that holds one)? */
bool qn_config_exists(const qn_source *s);
/* QN_E_UNSUPPORTED when there is none; QN_E_INPUT for what is no JSON object, holds a key twice or is larger than QN_CONFIG_BYTES_MAX.
 * Python's Infinity is taken as 1e308, NaN as 0. */
qn_code qn_config_open(qn_config *c, qn_source *s, qn_err *err) QN_MUST_CHECK;
/* The same of a text in memory; `path` must outlive the config. */
qn_code qn_config_parse(qn_config *c, const char *text, size_t n_bytes, const char *path, qn_err *err) QN_MUST_CHECK;
void qn_config_release(qn_config *c); /* a zeroed one is fine */
/* The text of the source's config.json, n_bytes and a NUL, to be freed with qn_mem_put. Errors as of qn_config_open. */
qn_code qn_config_text(qn_source *s, char **text, uint64_t *n_bytes, qn_err *err) QN_MUST_CHECK;
/* Python writes Infinity and NaN, which JSON does not have: outside of strings they become numbers of the same length. */
void qn_config_without_python(char *text, size_t n);

bool qn_config_has(const qn_config *c, const char *keys);   /* present and not null */
bool qn_config_named(const qn_config *c, const char *key); /* present, maybe null  */
/* An object inside: a view that lives as long as *c. *there = false, and *sub empty (every getter finds nothing), when it is
 * not there or null. */
qn_code qn_config_sub(const qn_config *c, const char *keys, qn_config *sub, bool *there, qn_err *err) QN_MUST_CHECK;
/* Names of the object's own keys: nth, or NULL past the end; with it is_object of the value. For views whose keys are data. */
const char *qn_config_key(const qn_config *c, unsigned nth, bool *is_object);

/* Must be there … */
qn_code qn_config_u64(const qn_config *c, const char *keys, uint64_t low, uint64_t high, uint64_t *v, qn_err *err) QN_MUST_CHECK;
qn_code qn_config_f64(const qn_config *c, const char *keys, double low, double high, double *v, qn_err *err) QN_MUST_CHECK;
/* … or else is `otherwise`, which need not lie in the range. Integers are taken as floats, 4.0 is taken as 4. */
qn_code qn_config_u64_or(const qn_config *c, const char *keys, uint64_t low, uint64_t high, uint64_t otherwise, uint64_t *v,
                         qn_err *err) QN_MUST_CHECK;
qn_code qn_config_f64_or(const qn_config *c, const char *keys, double low, double high, double otherwise, double *v,
                         qn_err *err) QN_MUST_CHECK;
qn_code qn_config_bool_or(const qn_config *c, const char *keys, bool otherwise, bool *v, qn_err *err) QN_MUST_CHECK;
/* Borrowed; `otherwise` may be NULL. */
qn_code qn_config_str_or(const qn_config *c, const char *keys, const char *otherwise, const char **v, qn_err *err) QN_MUST_CHECK;
/* Number of elements of a list, 0 when it is not there. */
qn_code qn_config_list(const qn_config *c, const char *keys, uint64_t *n, qn_err *err) QN_MUST_CHECK;
/* Element i of a list that is there. */
qn_code qn_config_item_u64(const qn_config *c, const char *keys, uint64_t i, uint64_t low, uint64_t high, uint64_t *v,
                           qn_err *err) QN_MUST_CHECK;
qn_code qn_config_item_f64(const qn_config *c, const char *keys, uint64_t i, double low, double high, double *v,
                           qn_err *err) QN_MUST_CHECK;
qn_code qn_config_item_str(const qn_config *c, const char *keys, uint64_t i, const char **v, qn_err *err) QN_MUST_CHECK;
/* Element i of a list of lists: a list too; then item getters with "" as the key read from *sub. */
qn_code qn_config_item_list(const qn_config *c, const char *keys, uint64_t i, qn_config *sub, uint64_t *n, qn_err *err) QN_MUST_CHECK;

/* QN_E_INPUT about a key, for checks of a builder's own: "config.json: hidden_size is 100: …". */
qn_code qn_config_fail(const qn_config *c, qn_err *err, qn_code code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
