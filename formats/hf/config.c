/* config.c: reading config.json; see config.h. */
#include "formats/hf/config.h"
#include "base/err.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The file of that name at the top of the source, or NULL. */
static const qn_source_file *find_file(const qn_source *s)
{
    for (uint64_t i = 0; s->is_dir && i < s->n_files; i++)
        if (!strcmp(s->files[i].path, "config.json"))
            return &s->files[i];
    return NULL;
}

bool qn_config_exists(const qn_source *s)
{
    return find_file(s) != NULL;
}

void qn_config_without_python(char *text, size_t n)
{
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        if (in_string && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            in_string = !in_string;
        else if (!in_string && n - i >= 8 && !memcmp(text + i, "Infinity", 8))
            memcpy(text + i, "1e308   ", 8);
        else if (!in_string && n - i >= 3 && !memcmp(text + i, "NaN", 3))
            memcpy(text + i, "0.0", 3);
    }
}

qn_code qn_config_parse(qn_config *c, const char *text, size_t n_bytes, const char *path, qn_err *err)
{
    json_error_t e;
    memset(c, 0, sizeof *c);
    json_t *root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &e);
    if (!root) {
        char shown[160];
        qn_printable(shown, sizeof shown, e.text, strlen(e.text));
        return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, e.position >= 0 ? (uint64_t)e.position : QN_NO_OFFSET, "line %d: %s",
                                           e.line, shown), path);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, 0, "the configuration must be a JSON object"), path);
    }
    *c = (qn_config){.root = root, .at = root, .path = path};
    json_t *text_config = json_object_get(root, "text_config");
    if (json_is_object(text_config)) {
        c->at = text_config;
        c->outer = root;
    }
    return QN_OK;
}

qn_code qn_config_text(qn_source *s, char **out, uint64_t *n_bytes, qn_err *err)
{
    const qn_source_file *f = find_file(s);
    *out = NULL;
    *n_bytes = 0;
    if (!f)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "there is no config.json that says what the tensors mean"),
                              s->path);
    if (f->n_bytes > QN_CONFIG_BYTES_MAX)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " bytes: at most %d are expected", f->n_bytes,
                                           (int)QN_CONFIG_BYTES_MAX), f->path);
    char *text = qn_mem_get(s->env->alloc, f->n_bytes + 1, err);
    if (!text)
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    size_t n = 0;
    for (uint64_t i = f->first_object; i < f->first_object + f->n_objects && rc == QN_OK; i++) {
        rc = qn_source_read(s, i, 0, s->objects[i].n_bytes, text + n, err);
        n += (size_t)s->objects[i].n_bytes; /* objects of a file cover it: their sum is f->n_bytes */
    }
    if (rc != QN_OK) {
        qn_mem_put(s->env->alloc, text);
        return rc;
    }
    text[n] = '\0';
    *out = text;
    *n_bytes = n;
    return QN_OK;
}

qn_code qn_config_open(qn_config *c, qn_source *s, qn_err *err)
{
    char *text;
    uint64_t n;
    memset(c, 0, sizeof *c);
    QN_TRY(qn_config_text(s, &text, &n, err));
    qn_config_without_python(text, (size_t)n);
    const qn_code rc = qn_config_parse(c, text, (size_t)n, find_file(s)->path, err);
    qn_mem_put(s->env->alloc, text);
    return rc;
}

void qn_config_release(qn_config *c)
{
    json_decref(c->root);
    memset(c, 0, sizeof *c);
}

qn_code qn_config_fail(const qn_config *c, qn_err *err, qn_code code, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return qn_err_in_path(err, QN_FAIL(err, code, QN_NO_OFFSET, "%s%s", c->under, text), c->path ? c->path : "config.json");
}

static json_t *member(json_t *o, const char *key)
{
    json_t *v = o ? json_object_get(o, key) : NULL;
    return v && !json_is_null(v) ? v : NULL;
}

/* The value of the first key that is there; *key is then its name, else the first of the list. Keys are from our own sources. */
static json_t *get(const qn_config *c, const char *keys, char key[64])
{
    json_t *v = NULL;
    char first[64] = "";
    if (!*keys) {
        memcpy(key, "list", 5);
        return c->at;
    }
    for (const char *p = keys; *p && !v;) {
        const size_t n = strcspn(p, "|");
        snprintf(key, 64, "%.*s", (int)n, p);
        if (!first[0])
            memcpy(first, key, sizeof first);
        v = member(c->at, key);
        if (!v)
            v = member(c->outer, key);
        p += n + (p[n] == '|');
    }
    if (!v)
        memcpy(key, first, sizeof first);
    return v;
}

bool qn_config_has(const qn_config *c, const char *keys)
{
    char key[64];
    return get(c, keys, key) != NULL;
}

bool qn_config_named(const qn_config *c, const char *key)
{
    return (c->at && json_object_get(c->at, key)) || (c->outer && json_object_get(c->outer, key));
}

/* What a value is, for messages. */
static const char *found(json_t *v, char buf[96])
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    case JSON_INTEGER: snprintf(buf, 96, "%lld", (long long)json_integer_value(v)); return buf;
    case JSON_REAL: snprintf(buf, 96, "%g", json_real_value(v)); return buf;
    case JSON_STRING: {
        char shown[64];
        qn_printable(shown, sizeof shown, json_string_value(v), json_string_length(v));
        snprintf(buf, 96, "\"%s\"", shown);
        return buf;
    }
    }
    return "?";
}

static qn_code wrong(const qn_config *c, const char *key, json_t *v, const char *want, qn_err *err)
{
    char buf[96];
    return qn_config_fail(c, err, QN_E_INPUT, "%s is %s: %s is expected", key, found(v, buf), want);
}

static qn_code as_u64(const qn_config *c, const char *key, json_t *v, uint64_t low, uint64_t high, uint64_t *out, qn_err *err)
{
    char want[96];
    uint64_t u = 0;
    bool fits = false;
    if (json_is_integer(v)) {
        fits = json_integer_value(v) >= 0;
        u = fits ? (uint64_t)json_integer_value(v) : 0;
    } else if (json_is_real(v)) {
        const double d = json_real_value(v);
        fits = d >= 0 && d <= 9007199254740992.0 && d == (double)(uint64_t)d;
        u = fits ? (uint64_t)d : 0;
    }
    if (!fits || u < low || u > high) {
        snprintf(want, sizeof want, "an integer from %" PRIu64 " to %" PRIu64, low, high);
        return wrong(c, key, v, want, err);
    }
    *out = u;
    return QN_OK;
}

static qn_code as_f64(const qn_config *c, const char *key, json_t *v, double low, double high, double *out, qn_err *err)
{
    char want[96];
    const double d = json_number_value(v); /* finite: JSON has no other numbers */
    if (!json_is_number(v) || !(d >= low && d <= high)) {
        snprintf(want, sizeof want, "a number from %g to %g", low, high);
        return wrong(c, key, v, want, err);
    }
    *out = d;
    return QN_OK;
}

static qn_code missing(const qn_config *c, const char *key, qn_err *err)
{
    return qn_config_fail(c, err, QN_E_INPUT, "%s is missing", key);
}

qn_code qn_config_u64(const qn_config *c, const char *keys, uint64_t low, uint64_t high, uint64_t *v, qn_err *err)
{
    char key[64];
    json_t *j = get(c, keys, key);
    return j ? as_u64(c, key, j, low, high, v, err) : missing(c, key, err);
}

qn_code qn_config_f64(const qn_config *c, const char *keys, double low, double high, double *v, qn_err *err)
{
    char key[64];
    json_t *j = get(c, keys, key);
    return j ? as_f64(c, key, j, low, high, v, err) : missing(c, key, err);
}

qn_code qn_config_u64_or(const qn_config *c, const char *keys, uint64_t low, uint64_t high, uint64_t otherwise, uint64_t *v,
                         qn_err *err)
{
    *v = otherwise;
    return qn_config_has(c, keys) ? qn_config_u64(c, keys, low, high, v, err) : QN_OK;
}

qn_code qn_config_f64_or(const qn_config *c, const char *keys, double low, double high, double otherwise, double *v, qn_err *err)
{
    *v = otherwise;
    return qn_config_has(c, keys) ? qn_config_f64(c, keys, low, high, v, err) : QN_OK;
}

qn_code qn_config_bool_or(const qn_config *c, const char *keys, bool otherwise, bool *v, qn_err *err)
{
    char key[64];
    json_t *j = get(c, keys, key);
    *v = otherwise;
    if (!j)
        return QN_OK;
    if (!json_is_boolean(j))
        return wrong(c, key, j, "true or false", err);
    *v = json_is_true(j);
    return QN_OK;
}

static qn_code as_str(const qn_config *c, const char *key, json_t *j, const char **v, qn_err *err)
{
    if (!json_is_string(j) || json_string_length(j) > 255)
        return wrong(c, key, j, "a string of at most 255 bytes", err);
    *v = json_string_value(j); /* jansson refuses NUL inside */
    return QN_OK;
}

qn_code qn_config_str_or(const qn_config *c, const char *keys, const char *otherwise, const char **v, qn_err *err)
{
    char key[64];
    json_t *j = get(c, keys, key);
    *v = otherwise;
    return j ? as_str(c, key, j, v, err) : QN_OK;
}

qn_code qn_config_sub(const qn_config *c, const char *keys, qn_config *sub, bool *there, qn_err *err)
{
    char key[64];
    json_t *j = get(c, keys, key);
    *sub = (qn_config){.path = c->path};
    *there = j != NULL;
    if (!j)
        return QN_OK;
    if (!json_is_object(j))
        return wrong(c, key, j, "an object", err);
    sub->at = j;
    snprintf(sub->under, sizeof sub->under, "%.30s%.30s.", c->under, key);
    return QN_OK;
}

const char *qn_config_key(const qn_config *c, unsigned nth, bool *is_object)
{
    void *it = c->at ? json_object_iter(c->at) : NULL;
    for (; it && nth; nth--)
        it = json_object_iter_next(c->at, it);
    if (!it)
        return NULL;
    *is_object = json_is_object(json_object_iter_value(it));
    return json_object_iter_key(it);
}

qn_code qn_config_list(const qn_config *c, const char *keys, uint64_t *n, qn_err *err)
{
    char key[64];
    json_t *j = get(c, keys, key);
    *n = 0;
    if (!j)
        return QN_OK;
    if (!json_is_array(j))
        return wrong(c, key, j, "a list", err);
    *n = json_array_size(j);
    return QN_OK;
}

/* Element i; key becomes "name[i]". */
static qn_code item(const qn_config *c, const char *keys, uint64_t i, char key[96], json_t **v, qn_err *err)
{
    char name[64];
    json_t *j = get(c, keys, name);
    snprintf(key, 96, "%s[%" PRIu64 "]", name, i);
    if (!j)
        return missing(c, name, err);
    if (!json_is_array(j))
        return wrong(c, name, j, "a list", err);
    *v = json_array_get(j, (size_t)i);
    return *v ? QN_OK : missing(c, key, err);
}

qn_code qn_config_item_u64(const qn_config *c, const char *keys, uint64_t i, uint64_t low, uint64_t high, uint64_t *v, qn_err *err)
{
    char key[96];
    json_t *j = NULL;
    QN_TRY(item(c, keys, i, key, &j, err));
    return as_u64(c, key, j, low, high, v, err);
}

qn_code qn_config_item_f64(const qn_config *c, const char *keys, uint64_t i, double low, double high, double *v, qn_err *err)
{
    char key[96];
    json_t *j = NULL;
    QN_TRY(item(c, keys, i, key, &j, err));
    return as_f64(c, key, j, low, high, v, err);
}

qn_code qn_config_item_str(const qn_config *c, const char *keys, uint64_t i, const char **v, qn_err *err)
{
    char key[96];
    json_t *j = NULL;
    QN_TRY(item(c, keys, i, key, &j, err));
    return as_str(c, key, j, v, err);
}

qn_code qn_config_item_list(const qn_config *c, const char *keys, uint64_t i, qn_config *sub, uint64_t *n, qn_err *err)
{
    char key[96];
    json_t *j = NULL;
    QN_TRY(item(c, keys, i, key, &j, err));
    if (!json_is_array(j))
        return wrong(c, key, j, "a list", err);
    *sub = (qn_config){.path = c->path, .at = j};
    snprintf(sub->under, sizeof sub->under, "%.30s%.30s: ", c->under, key);
    *n = json_array_size(j);
    return QN_OK;
}
