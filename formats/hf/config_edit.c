/* config_edit.c: see config_edit.h. The text is walked with the tokenizer, which tells where values stand; spans are then put in place. */
#include "formats/hf/config_edit.h"
#include "base/err.h"
#include "formats/hf/config.h"
#include "formats/json/json.h"
#include "formats/json/write.h"
#include <stdlib.h>
#include <string.h>

/* Bytes [from, to) become this text. */
struct splice {
    uint64_t from, to;
    const char *key, *json; /* key: one that is added, NULL: a value that is replaced */
    uint64_t order;         /* of those at one place                                   */
};

struct edit {
    const qn_alloc *alloc;
    const char *text;
    uint64_t n_bytes;
    const qn_config_change *c;
    uint32_t n;
    uint8_t *done;
    struct splice *s;
    uint64_t n_s, cap_s;
    uint64_t end, last; /* of the object that new keys go into: its brace, and where its last value ends (0: it is empty) */
    bool nested;
};

static qn_code read_text(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    (void)err;
    memcpy(dst, (const char *)ctx + off, (size_t)n);
    return QN_OK;
}

/* Where the value that begins at `at` ends, when it is no object or list. */
static uint64_t scalar_end(const char *t, uint64_t n, uint64_t at)
{
    if (t[at] == '"') {
        for (at++; at < n && t[at] != '"'; at++)
            at += t[at] == '\\';
        return at + 1;
    }
    while (at < n && !strchr(",]} \t\r\n", t[at]))
        at++;
    return at;
}

static qn_code add(struct edit *e, const struct splice *s, qn_err *err)
{
    struct splice *p = qn_mem_grow(e->alloc, e->s, e->n_s, &e->cap_s, e->n_s + 1, sizeof *p, err);
    if (!p)
        return QN_E_MEMORY;
    e->s = p;
    p[e->n_s] = *s;
    p[e->n_s].order = e->n_s;
    e->n_s++;
    return QN_OK;
}

/* Passes over the value that tok has begun; where it ends. */
static qn_code value_end(struct edit *e, qn_json *j, qn_json_token tok, uint64_t *end, qn_err *err)
{
    const uint64_t at = j->token_off;
    QN_TRY(qn_json_skip(j, tok, err));
    *end = tok == QN_JSON_OBJECT || tok == QN_JSON_ARRAY ? j->token_off + 1 : scalar_end(e->text, e->n_bytes, at);
    return QN_OK;
}

/* The members of an object whose brace has been read. */
static qn_code members(struct edit *e, qn_json *j, bool outer, qn_err *err)
{
    uint64_t last = 0;
    for (;;) {
        qn_json_token tok;
        QN_TRY(qn_json_next(j, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            break;
        const qn_config_change *c = NULL;
        for (uint32_t i = 0; i < e->n && !c; i++)
            c = j->cut || strcmp(j->text, e->c[i].key) ? NULL : &e->c[i];
        const bool within = outer && !strcmp(j->text, "text_config");
        QN_TRY(qn_json_next(j, &tok, err));
        const uint64_t at = j->token_off;
        if (within && tok == QN_JSON_OBJECT) {
            e->nested = true;
            QN_TRY(members(e, j, false, err));
            last = j->token_off + 1;
            continue;
        }
        QN_TRY(value_end(e, j, tok, &last, err));
        if (c) {
            e->done[c - e->c] = 1;
            QN_TRY(add(e, &(struct splice){.from = at, .to = last, .json = c->json}, err));
        }
    }
    if (!outer || !e->nested) {
        e->end = j->token_off;
        e->last = last;
    }
    return QN_OK;
}

static qn_code walk(struct edit *e, char *strict, qn_err *err)
{
    qn_json j;
    qn_json_token tok;
    qn_code rc = qn_json_open(&j, e->alloc, read_text, strict, 0, e->n_bytes, err);
    if (rc == QN_OK)
        rc = qn_json_next(&j, &tok, err);
    if (rc == QN_OK && tok != QN_JSON_OBJECT)
        rc = QN_FAIL(err, QN_E_INPUT, 0, "the configuration must be a JSON object");
    if (rc == QN_OK)
        rc = members(e, &j, true, err);
    if (rc == QN_OK)
        rc = qn_json_next(&j, &tok, err); /* nothing may follow */
    qn_json_release(&j);
    for (uint32_t i = 0; i < e->n && rc == QN_OK; i++)
        if (!e->done[i])
            rc = add(e, &(struct splice){.from = e->last ? e->last : e->end, .to = e->last ? e->last : e->end, .key = e->c[i].key,
                                         .json = e->c[i].json}, err);
    return rc;
}

static int by_place(const void *pa, const void *pb)
{
    const struct splice *a = pa, *b = pb;
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    return a->order < b->order ? -1 : 1; /* what is added at one place stays in the order of the changes */
}

/* What stands between the comma and the last key of the object: its own indentation. */
static void indent(const struct edit *e, qn_textbuf *out)
{
    uint64_t at = e->last;
    while (at > 0 && e->text[at - 1] != '\n' && e->text[at - 1] != '{')
        at--;
    uint64_t n = at;
    while (n < e->n_bytes && (e->text[n] == ' ' || e->text[n] == '\t'))
        n++;
    if (at > 0 && e->text[at - 1] == '\n') {
        qn_textbuf_puts(out, "\n");
        qn_textbuf_add(out, e->text + at, n - at);
    } else {
        qn_textbuf_puts(out, " ");
    }
}

static void put_together(const struct edit *e, qn_textbuf *out)
{
    uint64_t at = 0;
    for (uint64_t i = 0; i < e->n_s; i++) {
        const struct splice *s = &e->s[i];
        qn_textbuf_add(out, e->text + at, s->from - at);
        if (s->key) {
            if (e->last || (i && e->s[i - 1].key))
                qn_textbuf_puts(out, ",");
            indent(e, out);
            qn_json_string(out, s->key);
            qn_textbuf_puts(out, ": ");
        }
        qn_textbuf_puts(out, s->json);
        at = s->to;
    }
    qn_textbuf_add(out, e->text + at, e->n_bytes - at);
}

qn_code qn_config_edit(const char *text, uint64_t n_bytes, const qn_config_change *c, uint32_t n, qn_textbuf *out, qn_err *err)
{
    struct edit e = {.alloc = out->alloc, .text = text, .n_bytes = n_bytes, .c = c, .n = n};
    char *strict = qn_mem_get(e.alloc, n_bytes + 1, err);
    e.done = qn_mem_zeros(e.alloc, (uint64_t)n + 1, 1, err);
    qn_code rc = strict && e.done ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK) {
        memcpy(strict, text, (size_t)n_bytes);
        qn_config_without_python(strict, (size_t)n_bytes);
        rc = walk(&e, strict, err);
    }
    if (rc == QN_OK) {
        if (e.n_s)
            qsort(e.s, (size_t)e.n_s, sizeof *e.s, by_place);
        put_together(&e, out);
        rc = qn_textbuf_failed(out) ? QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: a configuration wanted") : QN_OK;
    }
    qn_mem_put(e.alloc, strict);
    qn_mem_put(e.alloc, e.done);
    qn_mem_put(e.alloc, e.s);
    return rc;
}
