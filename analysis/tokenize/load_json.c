/* load_json.c: tokenizer.json, and of tokenizer_config.json what that does not say. */
#include "analysis/tokenize/json_read.h"
#include "analysis/tokenize/models.h"

struct loader {
    struct qn_tok_reader r;
    const qn_tok_node *added, *normalizer, *pre_tokenizer, *post, *decoder;
    bool has_model;
};

/* ---- steps ---- */

struct list_kind {
    const char *what, *members; /* "normalizer", "normalizers" */
    const qn_tok_step_kind *kinds;
};

static qn_code unsupported(const char *what, const char *type, uint64_t off, qn_err *err)
{
    char shown[48];
    qn_printable(shown, sizeof shown, type, strlen(type));
    return QN_FAIL(err, QN_E_UNSUPPORTED, off, "tokenizer: the %s '%s' is not supported", what, shown);
}

/* Every step gets the text of its description as its part of the digest. */
static qn_code describe(qn_tokenizer *t, qn_tok_steps *list, uint64_t from, const qn_tok_node *node, qn_err *err)
{
    qn_tok_buf b = {.alloc = t->alloc};
    qn_code rc = qn_tok_node_digest(node, &b, err);
    char *copy = rc == QN_OK ? qn_arena_str(&t->arena, b.p, b.n, err) : NULL;
    const uint64_t n = b.n;
    qn_mem_put(b.alloc, b.p);
    if (!copy)
        return rc != QN_OK ? rc : QN_E_MEMORY;
    for (uint64_t i = from; i < list->n; i++) {
        list->v[i].digest = copy;
        list->v[i].n_digest = n;
    }
    return QN_OK;
}

static qn_code build_steps(qn_tokenizer *t, qn_tok_steps *list, const struct list_kind *lk, const qn_tok_node *node, qn_err *err)
{
    const char *type = NULL;
    uint64_t n = 0;
    if (node->kind == QN_NODE_NULL)
        return QN_OK;
    if (node->kind != QN_NODE_OBJECT)
        return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: a %s is not an object", lk->what);
    QN_TRY(qn_tok_node_str(node, "type", &type, &n, err));
    if (!type)
        return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: a %s without a type", lk->what);
    if (strcmp(type, "Sequence") == 0) {
        const qn_tok_node *members = qn_tok_node_get(node, lk->members);
        if (!members || members->kind != QN_NODE_ARRAY)
            return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: a sequence without a list of %s", lk->members);
        for (const qn_tok_node *m = members->first; m; m = m->next)
            QN_TRY(build_steps(t, list, lk, m, err)); /* the JSON reader bounds the depth */
        return QN_OK;
    }
    for (const qn_tok_step_kind *k = lk->kinds; k->type; k++)
        if (strcmp(k->type, type) == 0) {
            const uint64_t from = list->n;
            QN_TRY(k->build(t, list, node, err));
            return describe(t, list, from, node, err);
        }
    return unsupported(lk->what, type, node->off, err);
}

/* ---- added tokens ---- */

static qn_code add_one(qn_tokenizer *t, const qn_tok_node *node, qn_err *err)
{
    const char *content = NULL;
    uint64_t n = 0, id = UINT64_MAX;
    qn_tok_added a = {.id = 0};
    QN_TRY(qn_tok_node_str(node, "content", &content, &n, err));
    QN_TRY(qn_tok_node_uint(node, "id", &id, err));
    if (!content || id >= QN_TOK_VOCAB_MAX || n > QN_TOK_STRING_MAX)
        return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: an added token needs a content and an id below %d",
                       QN_TOK_VOCAB_MAX);
    a.id = (uint32_t)id;
    a.s = content;
    a.n = (uint32_t)n;
    QN_TRY(qn_tok_node_bool(node, "special", &a.special, err));
    a.normalized = !a.special;
    QN_TRY(qn_tok_node_bool(node, "normalized", &a.normalized, err));
    QN_TRY(qn_tok_node_bool(node, "single_word", &a.single_word, err));
    QN_TRY(qn_tok_node_bool(node, "lstrip", &a.lstrip, err));
    QN_TRY(qn_tok_node_bool(node, "rstrip", &a.rstrip, err));
    return qn_tok_add_added(t, &a, err);
}

static qn_code add_all(qn_tokenizer *t, const qn_tok_node *list, qn_err *err)
{
    if (!list || list->kind == QN_NODE_NULL)
        return QN_OK;
    if (list->kind != QN_NODE_ARRAY)
        return QN_FAIL(err, QN_E_INPUT, list->off, "tokenizer: added_tokens is not a list");
    for (const qn_tok_node *a = list->first; a; a = a->next)
        QN_TRY(add_one(t, a, err));
    return QN_OK;
}

/* ---- tokenizer_config.json ---- */

/* "bos_token": "<s>" or {"content": "<s>", …} */
static uint32_t named(const qn_tokenizer *t, const qn_tok_node *config, const char *key)
{
    const qn_tok_node *n = qn_tok_node_get(config, key);
    if (n && n->kind == QN_NODE_OBJECT)
        n = qn_tok_node_get(n, "content");
    return n && n->kind == QN_NODE_STRING ? qn_tok_vocab_find(&t->vocab, n->s, n->n) : QN_TOK_NONE;
}

static qn_code one_end(qn_tokenizer *t, bool add, uint32_t id, uint32_t **list, uint64_t *n, qn_err *err)
{
    if (!add || id == QN_TOK_NONE)
        return QN_OK;
    *list = qn_arena_get(&t->arena, sizeof **list, 8, err);
    if (!*list)
        return QN_E_MEMORY;
    (*list)[0] = id;
    *n = 1;
    return QN_OK;
}

static qn_code use_config(qn_tokenizer *t, const qn_tok_node *config, bool says, qn_err *err)
{
    bool bos = false, eos = false;
    const uint32_t named_bos = named(t, config, "bos_token"), named_eos = named(t, config, "eos_token");
    t->bos = named_bos != QN_TOK_NONE ? named_bos : t->bos;
    t->eos = named_eos != QN_TOK_NONE ? named_eos : t->eos;
    if (says)
        return QN_OK;
    QN_TRY(qn_tok_node_bool(config, "add_bos_token", &bos, err));
    QN_TRY(qn_tok_node_bool(config, "add_eos_token", &eos, err));
    QN_TRY(one_end(t, bos, t->bos, &t->prefix, &t->n_prefix, err));
    return one_end(t, eos, t->eos, &t->suffix, &t->n_suffix, err);
}

static qn_code open_json(struct qn_tok_reader *r, const qn_tok_file *f, qn_json_token *tok, qn_err *err)
{
    QN_TRY(qn_json_open(&r->j, r->t->alloc, f->read, f->ctx, 0, f->n_bytes, err));
    qn_json_text_limit(&r->j, QN_TOK_TEXT_MAX);
    r->j.allow_nul = r->j.read_reals = true;
    QN_TRY(qn_json_next(&r->j, tok, err));
    if (*tok != QN_JSON_OBJECT)
        return QN_FAIL(err, QN_E_INPUT, r->j.token_off, "tokenizer: the file is not a JSON object");
    return QN_OK;
}

static qn_code read_config(qn_tokenizer *t, const qn_tok_file *f, bool says, qn_err *err)
{
    struct qn_tok_reader r = {.t = t};
    const qn_tok_node *root;
    qn_json_token tok;
    qn_arena_init(&r.arena, t->alloc);
    qn_code rc = open_json(&r, f, &tok, err);
    if (rc == QN_OK)
        rc = qn_tok_node_read(&r, tok, &root, err);
    if (rc == QN_OK)
        rc = use_config(t, root, says, err);
    qn_json_release(&r.j);
    qn_arena_release(&r.arena);
    return qn_err_in_path(err, rc, f->path);
}

qn_code qn_tok_use_config(qn_tokenizer *t, qn_tok_place *place, bool says, qn_err *err)
{
    qn_tok_file config;
    bool there = false;
    if (place)
        QN_TRY(place->find(place, "tokenizer_config.json", &config, &there, err));
    return there ? read_config(t, &config, says, err) : QN_OK;
}

/* When nothing names them: what usually is. */
static void guess_ends(qn_tokenizer *t)
{
    static const char *const bos[] = {"<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", NULL};
    static const char *const eos[] = {"</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", NULL};
    for (int i = 0; t->bos == QN_TOK_NONE && bos[i]; i++)
        t->bos = qn_tok_vocab_find(&t->vocab, bos[i], strlen(bos[i]));
    for (int i = 0; t->eos == QN_TOK_NONE && eos[i]; i++)
        t->eos = qn_tok_vocab_find(&t->vocab, eos[i], strlen(eos[i]));
}

/* ---- the file ---- */

static qn_code read_member(struct loader *l, qn_err *err)
{
    const struct {
        const char *key;
        const qn_tok_node **to;
    } parts[] = {{"added_tokens", &l->added}, {"normalizer", &l->normalizer}, {"pre_tokenizer", &l->pre_tokenizer},
                 {"post_processor", &l->post}, {"decoder", &l->decoder}};
    const uint64_t off = l->r.j.token_off;
    qn_json_token tok;
    const bool is_model = strcmp(l->r.j.text, "model") == 0;
    const qn_tok_node **to = NULL;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(l->r.j.text, parts[i].key) == 0)
            to = parts[i].to;
    QN_TRY(qn_json_next(&l->r.j, &tok, err));
    if (!is_model && !to)
        return qn_json_skip(&l->r.j, tok, err);
    if (is_model ? l->has_model : *to != NULL)
        return QN_FAIL(err, QN_E_INPUT, off, "tokenizer: a part stands in the file twice");
    if (!is_model)
        return qn_tok_node_read(&l->r, tok, to, err);
    if (tok != QN_JSON_OBJECT)
        return QN_FAIL(err, QN_E_INPUT, off, "tokenizer: model is not an object");
    l->has_model = true;
    return qn_tok_read_model(&l->r, err);
}

static qn_code read_file(struct loader *l, const qn_tok_file *f, qn_err *err)
{
    qn_json_token tok;
    QN_TRY(open_json(&l->r, f, &tok, err));
    for (;;) {
        QN_TRY(qn_json_next(&l->r.j, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            break;
        QN_TRY(read_member(l, err));
    }
    QN_TRY(qn_json_next(&l->r.j, &tok, err)); /* only spaces may follow */
    return l->has_model ? QN_OK : QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tokenizer: the file has no model");
}

static qn_code put_together(struct loader *l, bool *says, qn_err *err)
{
    static const struct list_kind kinds[3] = {{"normalizer", "normalizers", qn_tok_normalizer_kinds},
                                              {"pre-tokenizer", "pretokenizers", qn_tok_pre_tokenizer_kinds},
                                              {"decoder", "decoders", qn_tok_decoder_kinds}};
    qn_tokenizer *t = l->r.t;
    QN_TRY(add_all(t, l->added, err));
    if (l->normalizer)
        QN_TRY(build_steps(t, &t->normalizers, &kinds[0], l->normalizer, err));
    if (l->pre_tokenizer)
        QN_TRY(build_steps(t, &t->pre_tokenizers, &kinds[1], l->pre_tokenizer, err));
    if (l->decoder)
        QN_TRY(build_steps(t, &t->decoders, &kinds[2], l->decoder, err));
    if (l->post && l->post->kind != QN_NODE_NULL)
        QN_TRY(qn_tok_read_post(t, l->post, says, err));
    return QN_OK;
}

static bool has_step(const qn_tok_steps *list, const char *name)
{
    for (uint64_t i = 0; i < list->n; i++)
        if (strcmp(list->v[i].ops->name, name) == 0)
            return true;
    return false;
}

qn_code qn_tok_load_json(qn_tokenizer *t, const qn_tok_file *f, qn_tok_place *place, qn_err *err)
{
    struct loader l = {.r = {.t = t}};
    bool says = false;
    qn_arena_init(&l.r.arena, t->alloc);
    qn_code rc = read_file(&l, f, err);
    if (rc == QN_OK)
        rc = put_together(&l, &says, err);
    qn_json_release(&l.r.j);
    qn_arena_release(&l.r.arena);
    rc = qn_err_in_path(err, rc, f->path);
    QN_TRY(rc);
    QN_TRY(qn_tok_use_config(t, place, says, err));
    guess_ends(t);
    if (t->model == &qn_tok_bpe_ops && (has_step(&t->pre_tokenizers, "ByteLevel") || has_step(&t->normalizers, "ByteLevel")))
        t->kind = "byte-level BPE";
    return QN_OK;
}

qn_code qn_tok_find_unk(qn_tokenizer *t, const char *s, uint64_t n, uint64_t off, qn_err *err)
{
    char *copy = qn_arena_str(&t->arena, s, n, err);
    if (!copy)
        return QN_E_MEMORY;
    (void)off;
    t->unk = qn_tok_vocab_find(&t->vocab, s, n);
    t->unk_name = copy;
    t->n_unk_name = n;
    return QN_OK;
}
