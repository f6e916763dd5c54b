/* json_model.c: `model` of a tokenizer.json: vocabulary and merges as they stream by, the options as trees. */
#include "analysis/tokenize/json_read.h"
#include "analysis/tokenize/models.h"

struct model {
    struct qn_tok_reader *r;
    qn_tok_vocab_row *rows;
    uint64_t n_rows, cap_rows;
    qn_tok_merge *merges;
    uint64_t n_merges, cap_merges;
    qn_tok_node options; /* OBJECT */
    qn_tok_node *last;
    const char *type;
    bool has_vocab, is_list, has_merges;
};

#define BAD(m, ...) QN_FAIL(err, QN_E_INPUT, (m)->r->j.token_off, "tokenizer: " __VA_ARGS__)

static qn_code next(struct model *m, qn_json_token *tok, qn_err *err)
{
    QN_TRY(qn_json_next(&m->r->j, tok, err));
    return *tok == QN_JSON_KEY || *tok == QN_JSON_STRING ? qn_tok_text(m->r, err) : QN_OK;
}

/* ---- vocab ---- */

static qn_code add_row(struct model *m, uint64_t id, const char *s, uint64_t n, double score, bool may_repeat, qn_err *err)
{
    qn_tokenizer *t = m->r->t;
    uint32_t was;
    if (id >= QN_TOK_VOCAB_MAX)
        return BAD(m, "token id %llu, at most %d is allowed", (unsigned long long)id, QN_TOK_VOCAB_MAX - 1);
    QN_TRY(qn_tok_vocab_add(t, (uint32_t)id, s, n, &was, err));
    if (was != QN_TOK_NONE && !may_repeat) {
        char shown[48];
        qn_printable(shown, sizeof shown, s, n);
        return BAD(m, "the token '%s' is in the vocabulary twice", shown);
    }
    if (m->n_rows == m->cap_rows) {
        qn_tok_vocab_row *p = qn_mem_grow(t->alloc, m->rows, m->n_rows, &m->cap_rows, m->n_rows + 1, sizeof *p, err);
        if (!p)
            return QN_E_MEMORY;
        m->rows = p;
    }
    m->rows[m->n_rows++] =
        (qn_tok_vocab_row){.s = t->vocab.entry[id].s, .n = (uint32_t)n, .id = (uint32_t)id, .score = score};
    return QN_OK;
}

/* {"token": id, …}; the token is kept aside while its number is read. */
static qn_code vocab_object(struct model *m, qn_tok_buf *key, qn_err *err)
{
    qn_json_token tok;
    for (;;) {
        QN_TRY(next(m, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            return QN_OK;
        key->n = 0;
        QN_TRY(qn_tok_buf_put(key, m->r->j.text, m->r->j.n_text, err));
        QN_TRY(next(m, &tok, err));
        if (tok != QN_JSON_NUMBER || !m->r->j.is_uint)
            return BAD(m, "a token's id is not a non-negative integer");
        QN_TRY(add_row(m, m->r->j.number, key->p, key->n, 0, false, err));
    }
}

/* [["piece", score], …] */
static qn_code vocab_list(struct model *m, qn_tok_buf *key, qn_err *err)
{
    qn_json_token tok;
    for (uint64_t id = 0;; id++) {
        QN_TRY(next(m, &tok, err));
        if (tok == QN_JSON_ARRAY_END)
            return QN_OK;
        if (tok != QN_JSON_ARRAY)
            return BAD(m, "vocab holds something that is not a pair of piece and score");
        QN_TRY(next(m, &tok, err));
        if (tok != QN_JSON_STRING)
            return BAD(m, "a piece is not a string");
        key->n = 0;
        QN_TRY(qn_tok_buf_put(key, m->r->j.text, m->r->j.n_text, err));
        QN_TRY(next(m, &tok, err));
        if (tok != QN_JSON_NUMBER)
            return BAD(m, "a score is not a number");
        QN_TRY(add_row(m, id, key->p, key->n, m->r->j.real, true, err));
        QN_TRY(next(m, &tok, err));
        if (tok != QN_JSON_ARRAY_END)
            return BAD(m, "a vocabulary entry of more than piece and score");
    }
}

static qn_code read_vocab(struct model *m, qn_err *err)
{
    qn_json_token tok;
    qn_tok_buf key = {.alloc = m->r->t->alloc};
    QN_TRY(next(m, &tok, err));
    if (m->has_vocab)
        return BAD(m, "two vocabularies");
    m->has_vocab = true;
    m->is_list = tok == QN_JSON_ARRAY;
    if (tok != QN_JSON_OBJECT && tok != QN_JSON_ARRAY)
        return BAD(m, "vocab is neither an object nor a list");
    const qn_code rc = m->is_list ? vocab_list(m, &key, err) : vocab_object(m, &key, err);
    qn_mem_put(key.alloc, key.p);
    return rc;
}

/* ---- merges ---- */

static qn_code add_merge(struct model *m, const char *left, uint64_t n_left, const char *right, uint64_t n_right, qn_err *err)
{
    struct qn_tok_reader *r = m->r;
    if (m->n_merges == QN_TOK_VOCAB_MAX)
        return BAD(m, "more than %d merges", QN_TOK_VOCAB_MAX);
    if (n_left > QN_TOK_STRING_MAX || n_right > QN_TOK_STRING_MAX)
        return BAD(m, "a merge of a token of more than %d bytes", QN_TOK_STRING_MAX);
    if (m->n_merges == m->cap_merges) {
        qn_tok_merge *p = qn_mem_grow(r->t->alloc, m->merges, m->n_merges, &m->cap_merges, m->n_merges + 1, sizeof *p, err);
        if (!p)
            return QN_E_MEMORY;
        m->merges = p;
    }
    qn_tok_merge *g = &m->merges[m->n_merges++];
    *g = (qn_tok_merge){.n_left = (uint32_t)n_left, .n_right = (uint32_t)n_right};
    g->left = qn_arena_str(&r->arena, left, n_left, err);
    g->right = g->left ? qn_arena_str(&r->arena, right, n_right, err) : NULL;
    return g->right ? QN_OK : QN_E_MEMORY;
}

/* "left right": one space, since tokens with spaces need the other form. */
static qn_code merge_of_string(struct model *m, qn_err *err)
{
    const char *s = m->r->j.text, *space = memchr(s, ' ', m->r->j.n_text);
    const uint64_t n = m->r->j.n_text, at = space ? (uint64_t)(space - s) : n;
    if (!space || memchr(space + 1, ' ', n - at - 1)) {
        char shown[64];
        qn_printable(shown, sizeof shown, s, n);
        return BAD(m, "merge '%s' is not two tokens with one space between them", shown);
    }
    return add_merge(m, s, at, space + 1, n - at - 1, err);
}

static qn_code merge_of_pair(struct model *m, qn_tok_buf *left, qn_err *err)
{
    qn_json_token tok;
    QN_TRY(next(m, &tok, err));
    if (tok != QN_JSON_STRING)
        return BAD(m, "a merge is not a pair of strings");
    left->n = 0;
    QN_TRY(qn_tok_buf_put(left, m->r->j.text, m->r->j.n_text, err));
    QN_TRY(next(m, &tok, err));
    if (tok != QN_JSON_STRING)
        return BAD(m, "a merge is not a pair of strings");
    QN_TRY(add_merge(m, left->n ? left->p : "", left->n, m->r->j.text, m->r->j.n_text, err));
    QN_TRY(next(m, &tok, err));
    return tok == QN_JSON_ARRAY_END ? QN_OK : BAD(m, "a merge of more than two tokens");
}

static qn_code merge_list(struct model *m, qn_tok_buf *left, qn_err *err)
{
    qn_json_token tok;
    for (;;) {
        QN_TRY(next(m, &tok, err));
        if (tok == QN_JSON_ARRAY_END)
            return QN_OK;
        if (tok == QN_JSON_STRING)
            QN_TRY(merge_of_string(m, err));
        else if (tok == QN_JSON_ARRAY)
            QN_TRY(merge_of_pair(m, left, err));
        else
            return BAD(m, "merges holds something that is no merge");
    }
}

static qn_code read_merges(struct model *m, qn_err *err)
{
    qn_json_token tok;
    qn_tok_buf left = {.alloc = m->r->t->alloc};
    QN_TRY(next(m, &tok, err));
    if (m->has_merges || tok != QN_JSON_ARRAY)
        return BAD(m, "merges is not one list");
    m->has_merges = true;
    const qn_code rc = merge_list(m, &left, err);
    qn_mem_put(left.alloc, left.p);
    return rc;
}

/* ---- the rest ---- */

static qn_code read_option(struct model *m, qn_err *err)
{
    qn_json_token tok;
    const qn_tok_node *value;
    char *key = qn_arena_str(&m->r->arena, m->r->j.text, m->r->j.n_text, err);
    if (!key)
        return QN_E_MEMORY;
    QN_TRY(next(m, &tok, err));
    QN_TRY(qn_tok_node_read(m->r, tok, &value, err));
    qn_tok_node *mine = qn_arena_get(&m->r->arena, sizeof *mine, 8, err);
    if (!mine)
        return QN_E_MEMORY;
    *mine = *value;
    mine->key = key;
    if (m->last)
        m->last->next = mine;
    else
        m->options.first = mine;
    m->last = mine;
    m->options.n_children++;
    return QN_OK;
}

static qn_code read_members(struct model *m, qn_err *err)
{
    qn_json_token tok;
    for (;;) {
        QN_TRY(next(m, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            return QN_OK;
        if (strcmp(m->r->j.text, "vocab") == 0)
            QN_TRY(read_vocab(m, err));
        else if (strcmp(m->r->j.text, "merges") == 0)
            QN_TRY(read_merges(m, err));
        else
            QN_TRY(read_option(m, err));
    }
}

/* Old files do not say what they are. */
static const char *guess(const struct model *m)
{
    if (m->has_merges)
        return "BPE";
    if (m->is_list)
        return "Unigram";
    return qn_tok_node_get(&m->options, "max_input_chars_per_word") ||
                   qn_tok_node_get(&m->options, "continuing_subword_prefix") ? "WordPiece" : "WordLevel";
}

static qn_code build(struct model *m, qn_err *err)
{
    const char *type = NULL;
    uint64_t n = 0;
    QN_TRY(qn_tok_node_str(&m->options, "type", &type, &n, err));
    if (!m->has_vocab)
        return QN_FAIL(err, QN_E_INPUT, m->options.off, "tokenizer: the model has no vocabulary");
    type = type ? type : guess(m);
    const qn_tok_model_json j = {.type = type, .options = &m->options, .vocab = m->rows, .n_vocab = m->n_rows,
                                 .vocab_is_list = m->is_list, .merges = m->merges, .n_merges = m->n_merges,
                                 .off = m->options.off};
    for (const qn_tok_model_kind *k = qn_tok_model_kinds; k->type; k++)
        if (strcmp(k->type, type) == 0)
            return k->build(m->r->t, &j, err);
    char shown[48];
    qn_printable(shown, sizeof shown, type, strlen(type));
    return QN_FAIL(err, QN_E_UNSUPPORTED, m->options.off, "tokenizer: the model '%s' is not supported", shown);
}

qn_code qn_tok_read_model(struct qn_tok_reader *r, qn_err *err)
{
    struct model m = {.r = r, .options = {.kind = QN_NODE_OBJECT, .off = r->j.token_off}};
    qn_code rc = read_members(&m, err);
    if (rc == QN_OK)
        rc = build(&m, err);
    qn_mem_put(r->t->alloc, m.rows);
    qn_mem_put(r->t->alloc, m.merges);
    return rc;
}
