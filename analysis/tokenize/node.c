/* node.c: the small parts of a tokenizer.json as trees. */
#include "analysis/tokenize/json_read.h"

static qn_tok_node *new_node(struct qn_tok_reader *r, uint64_t off, qn_err *err)
{
    if (r->n_nodes++ == QN_TOK_NODES_MAX) {
        QN_IGNORE(QN_FAIL(err, QN_E_INPUT, off, "tokenizer: more than %d values outside the vocabulary", QN_TOK_NODES_MAX));
        return NULL;
    }
    qn_tok_node *n = qn_arena_get(&r->arena, sizeof *n, 8, err);
    if (n)
        *n = (qn_tok_node){.off = off};
    return n;
}

static qn_code failed(const qn_err *err)
{
    return err && err->code != QN_OK ? err->code : QN_E_MEMORY;
}

qn_code qn_tok_text(struct qn_tok_reader *r, qn_err *err)
{
    if (r->j.cut)
        return QN_FAIL(err, QN_E_INPUT, r->j.token_off, "tokenizer: a string of more than %d bytes", QN_TOK_TEXT_MAX);
    return QN_OK;
}

static qn_code keep_text(struct qn_tok_reader *r, const char **s, uint64_t *n, qn_err *err)
{
    QN_TRY(qn_tok_text(r, err));
    *s = qn_arena_str(&r->arena, r->j.text, r->j.n_text, err);
    *n = r->j.n_text;
    return *s ? QN_OK : QN_E_MEMORY;
}

static qn_code scalar(struct qn_tok_reader *r, qn_json_token tok, qn_tok_node *n, qn_err *err)
{
    n->kind = tok == QN_JSON_STRING ? QN_NODE_STRING : tok == QN_JSON_NUMBER ? QN_NODE_NUMBER :
              tok == QN_JSON_NULL ? QN_NODE_NULL : QN_NODE_BOOL;
    n->truth = tok == QN_JSON_TRUE;
    n->is_uint = r->j.is_uint;
    n->number = r->j.number;
    n->real = r->j.real;
    return tok == QN_JSON_STRING ? keep_text(r, &n->s, &n->n, err) : QN_OK;
}

qn_code qn_tok_node_read(struct qn_tok_reader *r, qn_json_token tok, const qn_tok_node **out, qn_err *err)
{
    struct level {
        qn_tok_node *node, *last;
    } stack[QN_JSON_DEPTH_MAX + 1];
    unsigned depth = 0;
    const char *key = NULL;
    for (;;) {
        if (tok == QN_JSON_OBJECT_END || tok == QN_JSON_ARRAY_END) {
            depth--;
        } else if (tok == QN_JSON_KEY) {
            uint64_t n;
            QN_TRY(keep_text(r, &key, &n, err));
        } else {
            qn_tok_node *n = new_node(r, r->j.token_off, err);
            if (!n)
                return failed(err);
            n->key = key;
            key = NULL;
            if (depth == 0) {
                *out = n;
            } else {
                struct level *up = &stack[depth - 1];
                if (up->last)
                    up->last->next = n;
                else
                    up->node->first = n;
                up->last = n;
                up->node->n_children++;
            }
            if (tok == QN_JSON_OBJECT || tok == QN_JSON_ARRAY) {
                n->kind = tok == QN_JSON_OBJECT ? QN_NODE_OBJECT : QN_NODE_ARRAY;
                stack[depth++] = (struct level){.node = n}; /* the JSON reader bounds the depth */
            } else {
                QN_TRY(scalar(r, tok, n, err));
            }
        }
        if (depth == 0)
            return QN_OK;
        QN_TRY(qn_json_next(&r->j, &tok, err));
    }
}

const qn_tok_node *qn_tok_node_get(const qn_tok_node *o, const char *key)
{
    const qn_tok_node *found = NULL; /* the last of a name counts, as where a table is filled */
    if (!o || o->kind != QN_NODE_OBJECT)
        return NULL;
    for (const qn_tok_node *n = o->first; n; n = n->next)
        if (strcmp(n->key, key) == 0)
            found = n;
    return found && found->kind != QN_NODE_NULL ? found : NULL;
}

static qn_code wrong_kind(const qn_tok_node *n, const char *what, qn_err *err)
{
    char shown[48];
    qn_printable(shown, sizeof shown, n->key, strlen(n->key));
    return QN_FAIL(err, QN_E_INPUT, n->off, "tokenizer: \"%s\" is not %s", shown, what);
}

qn_code qn_tok_node_bool(const qn_tok_node *o, const char *key, bool *out, qn_err *err)
{
    const qn_tok_node *n = qn_tok_node_get(o, key);
    if (n && n->kind != QN_NODE_BOOL)
        return wrong_kind(n, "true or false", err);
    *out = n ? n->truth : *out;
    return QN_OK;
}

qn_code qn_tok_node_str(const qn_tok_node *o, const char *key, const char **s, uint64_t *n_bytes, qn_err *err)
{
    const qn_tok_node *n = qn_tok_node_get(o, key);
    if (n && n->kind != QN_NODE_STRING)
        return wrong_kind(n, "a string", err);
    if (n) {
        *s = n->s;
        *n_bytes = n->n;
    }
    return QN_OK;
}

qn_code qn_tok_node_uint(const qn_tok_node *o, const char *key, uint64_t *out, qn_err *err)
{
    const qn_tok_node *n = qn_tok_node_get(o, key);
    if (n && (n->kind != QN_NODE_NUMBER || !n->is_uint))
        return wrong_kind(n, "a non-negative integer", err);
    *out = n ? n->number : *out;
    return QN_OK;
}

/* Tag, length and bytes of each value, depth first: two trees that differ have different texts. */
qn_code qn_tok_node_digest(const qn_tok_node *n, qn_tok_buf *out, qn_err *err)
{
    uint8_t head[17] = {(uint8_t)((unsigned)n->kind << 1 | n->truth)};
    qn_store64(head + 1, n->kind == QN_NODE_STRING ? n->n : n->kind == QN_NODE_NUMBER ? n->number : n->n_children);
    memcpy(head + 9, &n->real, sizeof n->real);
    QN_TRY(qn_tok_buf_put(out, head, sizeof head, err));
    if (n->key)
        QN_TRY(qn_tok_buf_put(out, n->key, strlen(n->key) + 1, err));
    if (n->kind == QN_NODE_STRING)
        QN_TRY(qn_tok_buf_put(out, n->s, n->n, err));
    for (const qn_tok_node *c = n->first; c; c = c->next)
        QN_TRY(qn_tok_node_digest(c, out, err)); /* the JSON reader bounds the depth */
    return QN_OK;
}
