/* gguf_kinds.c: one build function for each tokenizer.ggml.model. Those that tokenizer.json knows too are handed to its
 * builders. */
#include "analysis/tokenize/bytelevel.h"
#include "analysis/tokenize/decoders.h"
#include "analysis/tokenize/gguf_load.h"
#include "analysis/tokenize/gguf_pre.h"
#include "analysis/tokenize/normalizers.h"
#include "analysis/tokenize/wordpiece.h"
#include <string.h>

#define K "tokenizer.ggml."

/* ---- small trees, as the reader of tokenizer.json would make them ---- */

static qn_tok_node node_bool(const char *key, bool v)
{
    return (qn_tok_node){.kind = QN_NODE_BOOL, .key = key, .truth = v};
}

static qn_tok_node node_str(const char *key, const char *s)
{
    return (qn_tok_node){.kind = QN_NODE_STRING, .key = key, .s = s, .n = strlen(s)};
}

/* An object of n members, which are chained. */
static qn_tok_node node_obj(const char *key, qn_tok_node *m, uint32_t n)
{
    for (uint32_t i = 0; i + 1 < n; i++)
        m[i].next = &m[i + 1];
    return (qn_tok_node){.kind = QN_NODE_OBJECT, .key = key, .first = n ? m : NULL, .n_children = n};
}

/* ---- llama ---- */

static qn_code build_llama(qn_gguf_load *l, qn_err *err)
{
    qn_tokenizer *t = l->t;
    qn_sp_data *d;
    QN_TRY(qn_sp_data_new(t, QN_SP_BPE, QN_SP_AS_LLAMA_CPP, &d, err));
    QN_TRY(qn_gguf_load_scores(l, d->score, err));
    memcpy(d->type, l->type, (size_t)l->n);
    d->byte_fallback = true;
    d->raw_bytes = true;
    d->rules = (qn_sp_rules){.add_dummy_prefix = true, .escape_whitespaces = true, .keep_malformed = true};
    QN_TRY(qn_gguf_load_bool(l, K "add_space_prefix", &d->rules.add_dummy_prefix, err));
    d->strip_first = d->rules.add_dummy_prefix;
    t->kind = "sentencepiece BPE";
    t->any_bytes = true;
    return qn_sp_add_steps(t, d, err);
}

/* ---- t5 ---- */

static qn_code charsmap(qn_gguf_load *l, qn_charsmap *map, qn_err *err)
{
    const qn_gguf_key *key = qn_gguf_find(&l->g, K "precompiled_charsmap");
    if (!key)
        return QN_OK;
    const qn_gguf_type type = key->type == QN_GGUF_ARRAY && key->elem == QN_GGUF_I8 ? QN_GGUF_I8 : QN_GGUF_U8;
    uint64_t n;
    QN_TRY(qn_gguf_get_array(&l->g, key->name, type, &n, err));
    if (n > QN_SP_CHARSMAP_MAX)
        return QN_FAIL(err, QN_E_INPUT, key->off, "key '%s' has %llu bytes: %d are allowed", key->name, (unsigned long long)n,
                       QN_SP_CHARSMAP_MAX);
    uint8_t *p = qn_arena_get(&l->t->arena, n + 1, 4, err);
    if (!p)
        return QN_E_MEMORY;
    QN_TRY(qn_gguf_get_elems(&l->g, key->name, type, 0, n, p, err));
    return qn_charsmap_init(map, p, n, err);
}

static qn_code build_t5(qn_gguf_load *l, qn_err *err)
{
    qn_tokenizer *t = l->t;
    qn_sp_data *d;
    QN_TRY(qn_sp_data_new(t, QN_SP_UNIGRAM, QN_SP_AS_LLAMA_CPP, &d, err));
    QN_TRY(qn_gguf_load_scores(l, d->score, err));
    memcpy(d->type, l->type, (size_t)l->n);
    d->raw_bytes = true;
    d->rules = (qn_sp_rules){.escape_whitespaces = true, .space_with_word = true};
    QN_TRY(qn_gguf_load_bool(l, K "add_space_prefix", &d->rules.add_dummy_prefix, err));
    QN_TRY(qn_gguf_load_bool(l, K "remove_extra_whitespaces", &d->rules.remove_extra_whitespaces, err));
    QN_TRY(charsmap(l, &d->rules.map, err));
    d->strip_first = d->rules.add_dummy_prefix;
    t->kind = "unigram";
    t->any_bytes = true;
    return qn_sp_add_steps(t, d, err);
}

/* ---- gpt2 ---- */

static qn_code find_pre(qn_gguf_load *l, const qn_gguf_pre **pre, qn_err *err)
{
    char name[64] = "default", shown[64];
    if (qn_gguf_find(&l->g, K "pre"))
        QN_TRY(qn_gguf_get_str(&l->g, K "pre", name, sizeof name, err));
    if (!name[0])
        memcpy(name, "default", sizeof "default");
    for (*pre = qn_gguf_pres; (*pre)->name; ++*pre)
        if (strcmp((*pre)->name, name) == 0)
            return QN_OK;
    qn_printable(shown, sizeof shown, name, strlen(name));
    return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "pre-tokenizer '%s' is not known", shown);
}

static qn_code get_merges(qn_gguf_load *l, qn_tok_merge **out, uint64_t *n, qn_err *err)
{
    qn_gguf_strings it;
    QN_TRY(qn_gguf_strings_begin(&it, &l->g, K "merges", n, err));
    bool ovf = false;
    const uint64_t n_bytes = qn_mul(*n, sizeof(qn_tok_merge), &ovf);
    qn_tok_merge *m = ovf ? NULL : qn_arena_get(&l->scratch, n_bytes + 1, _Alignof(qn_tok_merge), err);
    char *buf = m ? qn_arena_get(&l->scratch, QN_TOK_STRING_MAX, 1, err) : NULL;
    if (!buf)
        return ovf ? QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "key '" K "merges': too many") : QN_E_MEMORY;
    for (uint64_t i = 0; i < *n; i++) {
        size_t k;
        QN_TRY(qn_gguf_strings_next(&it, buf, QN_TOK_STRING_MAX, &k, err));
        const char *s = qn_arena_str(&l->scratch, buf, k, err);
        if (!s)
            return QN_E_MEMORY;
        const char *space = k > 1 ? memchr(s + 1, ' ', k - 1) : NULL; /* a token may itself begin with a space */
        if (!space || space + 1 == s + k)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "key '" K "merges': number %llu is not two tokens with a space between",
                           (unsigned long long)i);
        m[i] = (qn_tok_merge){.left = s, .right = space + 1, .n_left = (uint32_t)(space - s),
                              .n_right = (uint32_t)(s + k - (space + 1))};
    }
    *out = m;
    return QN_OK;
}

static qn_code build_bpe(qn_gguf_load *l, bool ignore_merges, qn_err *err)
{
    qn_tok_node member = node_bool("ignore_merges", ignore_merges);
    const qn_tok_node options = node_obj("model", &member, 1);
    qn_tok_merge *merges = NULL;
    uint64_t n_merges;
    QN_TRY(get_merges(l, &merges, &n_merges, err));
    qn_tok_vocab_row *rows = qn_arena_get(&l->scratch, l->n * sizeof *rows, _Alignof(qn_tok_vocab_row), err);
    if (!rows)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < l->n; i++)
        rows[i] = (qn_tok_vocab_row){.s = l->t->vocab.entry[i].s, .n = l->t->vocab.entry[i].n, .id = i};
    const qn_tok_model_json m = {.type = "BPE", .options = &options, .vocab = rows, .n_vocab = l->n, .merges = merges,
                                 .n_merges = n_merges};
    for (const qn_tok_model_kind *k = qn_tok_model_kinds; k->type; k++)
        if (strcmp(k->type, m.type) == 0)
            return k->build(l->t, &m, err);
    return QN_BUG(err, "no BPE model");
}

qn_code qn_gguf_pre_steps(qn_tokenizer *t, const qn_gguf_pre *pre, qn_err *err)
{
    for (unsigned i = 0; i < QN_GGUF_PATTERNS_MAX && pre->patterns[i]; i++) {
        qn_tok_node regex = node_str("Regex", pre->patterns[i]);
        qn_tok_node m[] = {node_str("type", "Split"), node_obj("pattern", &regex, 1), node_str("behavior", "Isolated"),
                           node_bool("invert", false)};
        const qn_tok_node split = node_obj("pre_tokenizer", m, 4);
        QN_TRY(qn_tok_build_split(t, &t->pre_tokenizers, &split, err));
    }
    qn_tok_node m[] = {node_str("type", "ByteLevel"), node_bool("add_prefix_space", false), node_bool("use_regex", false)};
    const qn_tok_node level = node_obj("pre_tokenizer", m, 3);
    return qn_tok_build_bytelevel_pre(t, &t->pre_tokenizers, &level, err);
}

static qn_code build_gpt2(qn_gguf_load *l, qn_err *err)
{
    qn_tokenizer *t = l->t;
    const qn_gguf_pre *pre;
    QN_TRY(find_pre(l, &pre, err));
    QN_TRY(build_bpe(l, pre->ignore_merges, err));
    QN_TRY(qn_gguf_pre_steps(t, pre, err));
    qn_tok_node m = node_str("type", "ByteLevel");
    const qn_tok_node level = node_obj("decoder", &m, 1);
    QN_TRY(qn_tok_build_bytelevel_dec(t, &t->decoders, &level, err));
    l->add_bos = pre->add_bos;
    t->kind = "byte-level BPE";
    return QN_OK;
}

/* ---- bert ---- */

static qn_code build_bert(qn_gguf_load *l, qn_err *err)
{
    qn_tokenizer *t = l->t;
    bool lower = true, strip;
    QN_TRY(qn_gguf_load_bool(l, K "normalizer.lowercase", &lower, err));
    strip = lower;
    QN_TRY(qn_gguf_load_bool(l, K "normalizer.strip_accents", &strip, err));
    qn_tok_node m[] = {node_str("type", "BertNormalizer"), node_bool("clean_text", true), node_bool("handle_chinese_chars", true),
                       node_bool("strip_accents", strip), node_bool("lowercase", lower)};
    const qn_tok_node norm = node_obj("normalizer", m, 5);
    qn_tok_node p = node_str("type", "BertPreTokenizer");
    const qn_tok_node pre = node_obj("pre_tokenizer", &p, 1);
    QN_TRY(qn_tok_build_bert_normalizer(t, &t->normalizers, &norm, err));
    QN_TRY(qn_tok_build_bert_pre(t, &t->pre_tokenizers, &pre, err));
    QN_TRY(qn_tok_set_wordpiece(t, "", QN_SP_SPACE, UINT64_MAX, err));
    qn_tok_node from = node_str("String", QN_SP_SPACE);
    qn_tok_node r[] = {node_str("type", "Replace"), node_obj("pattern", &from, 1), node_str("content", " ")};
    const qn_tok_node dec = node_obj("decoder", r, 3);
    qn_tok_node f = node_str("type", "Fuse");
    const qn_tok_node fuse = node_obj("decoder", &f, 1);
    qn_tok_node s[] = {node_str("type", "Strip"), node_str("content", " "), {.kind = QN_NODE_NUMBER, .key = "start", .is_uint = true, .number = 1, .real = 1},
                       {.kind = QN_NODE_NUMBER, .key = "stop", .is_uint = true}};
    const qn_tok_node strip_one = node_obj("decoder", s, 4);
    QN_TRY(qn_tok_build_replace(t, &t->decoders, &dec, err));
    QN_TRY(qn_tok_build_fuse(t, &t->decoders, &fuse, err));
    return qn_tok_build_strip_dec(t, &t->decoders, &strip_one, err);
}

const qn_gguf_kind qn_gguf_kinds[] = {
    {"llama", build_llama, 1, 2, 0, QN_TOK_NONE, true, false, false},
    {"gpt2", build_gpt2, 11, 11, QN_TOK_NONE, QN_TOK_NONE, false, false, false},
    {"t5", build_t5, QN_TOK_NONE, 1, 2, QN_TOK_NONE, false, true, false},
    {"bert", build_bert, 101, QN_TOK_NONE, 100, 102, true, false, true},
    {NULL, NULL, 0, 0, 0, 0, false, false, false},
};
