/* wordpiece.c: a word is cut into tokens from its beginning, the longest that fits first; a word that cannot be cut to its end
 * is one unknown token. Two tries, one for the beginning of a word and one for its inside: linear in what they walk over. */
#include "analysis/tokenize/wordpiece.h"
#include "analysis/tokenize/models.h"
#include "analysis/tokenize/sp.h"
#include <string.h>

typedef struct wordpiece {
    const char *prefix, *start;
    uint64_t max_chars;
    qn_trie begin, inside;
} wordpiece;

static uint64_t count_chars(const char *s, uint64_t n)
{
    uint64_t k = 0;
    for (uint64_t i = 0; i < n; i++)
        k += ((uint8_t)s[i] & 0xc0) != 0x80;
    return k;
}

static qn_code encode(const qn_tokenizer *t, qn_tok_scratch *s, const char *piece, uint64_t n, qn_tokens *out, qn_err *err)
{
    const wordpiece *w = t->model_data;
    const uint64_t n_before = out->n;
    bool known = count_chars(piece, n) <= w->max_chars;
    (void)s;
    for (uint64_t at = 0, took; known && at < n; at += took) {
        uint32_t id = QN_TOK_NONE;
        took = qn_trie_longest(at ? &w->inside : &w->begin, piece + at, n - at, &id);
        known = took > 0;
        if (known)
            QN_TRY(qn_tokens_put(out, t->alloc, id, err));
    }
    if (known)
        return QN_OK;
    out->n = n_before;
    if (t->unk == QN_TOK_NONE)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a word has no tokens, and there is no unknown token");
    return qn_tokens_put(out, t->alloc, t->unk, err);
}

static qn_code add_tail(qn_trie *trie, const qn_tok_entry *e, const char *head, uint32_t id, qn_err *err)
{
    const size_t n = strlen(head);
    if (e->n <= n || memcmp(e->s, head, n) != 0)
        return QN_OK;
    return qn_trie_add(trie, e->s + n, e->n - n, id, err);
}

static qn_code finish(qn_tokenizer *t, qn_err *err)
{
    wordpiece *w = t->model_data;
    QN_TRY(qn_trie_init(&w->begin, t->alloc, t->vocab.key, err));
    QN_TRY(qn_trie_init(&w->inside, t->alloc, t->vocab.key, err));
    for (uint64_t id = 0; id < t->vocab.n; id++) {
        const qn_tok_entry *e = &t->vocab.entry[id];
        if (!e->s)
            continue;
        QN_TRY(add_tail(&w->begin, e, w->start, (uint32_t)id, err));
        QN_TRY(add_tail(&w->inside, e, w->prefix, (uint32_t)id, err));
    }
    qn_trie_seal(&w->begin);
    qn_trie_seal(&w->inside);
    return QN_OK;
}

static void digest(const qn_tokenizer *t, qn_hasher *h)
{
    const wordpiece *w = t->model_data;
    qn_hasher_add(h, w->prefix, strlen(w->prefix) + 1);
    qn_hasher_add(h, w->start, strlen(w->start) + 1);
    qn_hasher_add(h, &w->max_chars, sizeof w->max_chars);
}

static void release(qn_tokenizer *t)
{
    wordpiece *w = t->model_data;
    qn_trie_release(&w->begin);
    qn_trie_release(&w->inside);
}

static const qn_tok_model_ops ops = {.encode = encode, .finish = finish, .digest = digest, .release = release};

qn_code qn_tok_set_wordpiece(qn_tokenizer *t, const char *prefix, const char *start, uint64_t max_chars, qn_err *err)
{
    wordpiece *w = qn_arena_get(&t->arena, sizeof *w, _Alignof(wordpiece), err);
    if (!w)
        return QN_E_MEMORY;
    memset(w, 0, sizeof *w);
    w->prefix = prefix;
    w->start = start;
    w->max_chars = max_chars;
    w->begin.alloc = w->inside.alloc = t->alloc;
    t->model = &ops;
    t->model_data = w;
    t->kind = "wordpiece";
    return QN_OK;
}

static qn_code text_of(qn_tokenizer *t, const qn_tok_node *o, const char *key, const char **s, qn_err *err)
{
    uint64_t n = strlen(*s);
    const char *p = *s;
    QN_TRY(qn_tok_node_str(o, key, &p, &n, err));
    *s = qn_arena_str(&t->arena, p, (size_t)n, err);
    return *s ? QN_OK : QN_E_MEMORY;
}

qn_code qn_tok_build_wordpiece(qn_tokenizer *t, const qn_tok_model_json *m, qn_err *err)
{
    const char *unk = "[UNK]", *prefix = "##";
    uint64_t max_chars = 100;
    QN_TRY(text_of(t, m->options, "unk_token", &unk, err));
    QN_TRY(text_of(t, m->options, "continuing_subword_prefix", &prefix, err));
    QN_TRY(qn_tok_node_uint(m->options, "max_input_chars_per_word", &max_chars, err));
    QN_TRY(qn_tok_find_unk(t, unk, strlen(unk), m->off, err));
    return qn_tok_set_wordpiece(t, prefix, "", max_chars, err);
}
