/* sp_model.c: what the models of sentencepiece vocabularies share; and the two plain ones, words and characters. */
#include "analysis/tokenize/sp.h"
#include <float.h>
#include <math.h>
#include <string.h>

qn_code qn_sp_data_new(qn_tokenizer *t, qn_sp_kind kind, qn_sp_follow follow, qn_sp_data **out, qn_err *err)
{
    static const qn_tok_model_ops *const ops[] = {NULL, &qn_sp_unigram_ops, &qn_sp_bpe_ops, &qn_sp_word_ops, &qn_sp_char_ops};
    const uint64_t n = t->vocab.n;
    qn_sp_data *d = qn_arena_get(&t->arena, sizeof *d, _Alignof(qn_sp_data), err);
    double *score = d ? qn_arena_get(&t->arena, n * sizeof *score + 1, _Alignof(double), err) : NULL;
    uint8_t *type = score ? qn_arena_get(&t->arena, n + 1, 1, err) : NULL;
    if (!type)
        return QN_E_MEMORY;
    memset(d, 0, sizeof *d);
    memset(type, 0, (size_t)n);
    for (uint64_t i = 0; i < n; i++)
        score[i] = 0;
    d->t = t;
    d->n = n;
    d->kind = kind;
    d->follow = follow;
    d->score = score;
    d->type = type;
    t->model = ops[kind];
    t->model_data = d;
    *out = d;
    return QN_OK;
}

qn_code qn_sp_add_steps(qn_tokenizer *t, qn_sp_data *d, qn_err *err)
{
    QN_TRY(qn_tok_add_step(t, &t->normalizers, &qn_sp_normalizer_ops, d, NULL, 0, err));
    return qn_tok_add_step(t, &t->decoders, &qn_sp_decoder_ops, d, NULL, 0, err);
}

/* Lowest and highest score that count: sentencepiece and llama.cpp look at normal pieces, tokenizers at all. The highest
 * begins with the smallest positive float in sentencepiece, so log-probabilities never raise it. */
static void span_of_scores(const qn_tokenizer *t, qn_sp_data *d)
{
    d->min_score = d->follow == QN_SP_AS_TOKENIZERS ? (double)INFINITY : (double)FLT_MAX;
    d->max_score = (double)FLT_MIN;
    for (uint64_t id = 0; id < d->n; id++)
        if (t->vocab.entry[id].s && (d->follow == QN_SP_AS_TOKENIZERS || d->type[id] == QN_SP_NORMAL)) {
            d->min_score = d->score[id] < d->min_score ? d->score[id] : d->min_score;
            d->max_score = d->score[id] > d->max_score ? d->score[id] : d->max_score;
        }
}

/* Pieces that the Viterbi search may put out. */
static bool comes_out(const qn_sp_data *d, uint64_t id)
{
    const uint8_t type = d->type[id];
    return d->follow == QN_SP_AS_TOKENIZERS || type == QN_SP_NORMAL || type == QN_SP_USER_DEFINED ||
           (type == QN_SP_UNUSED && d->follow == QN_SP_AS_LLAMA_CPP);
}

qn_code qn_sp_finish(qn_tokenizer *t, qn_err *err)
{
    qn_sp_data *d = t->model_data;
    if (t->unk == QN_TOK_NONE && !d->byte_fallback && d->follow != QN_SP_AS_TOKENIZERS)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "no token is of the type unknown");
    if (d->kind == QN_SP_UNIGRAM)
        QN_TRY(qn_trie_init(&d->trie, t->alloc, t->vocab.key, err));
    QN_TRY(qn_trie_init(&d->user, t->alloc, t->vocab.key, err));
    for (uint64_t id = 0; id < d->n; id++) {
        const qn_tok_entry *e = &t->vocab.entry[id];
        if (!e->s || e->n == 0)
            continue;
        if (d->kind == QN_SP_UNIGRAM && comes_out(d, id))
            QN_TRY(qn_trie_add(&d->trie, e->s, e->n, (uint32_t)id, err));
        if (d->type[id] == QN_SP_USER_DEFINED && (d->follow == QN_SP_AS_SENTENCEPIECE || d->kind == QN_SP_UNIGRAM)) {
            QN_TRY(qn_trie_add(&d->user, e->s, e->n, (uint32_t)id, err));
            d->has_user = true;
        }
        d->has_unused |= d->type[id] == QN_SP_UNUSED && d->follow == QN_SP_AS_SENTENCEPIECE && d->kind == QN_SP_BPE;
    }
    if (d->kind == QN_SP_UNIGRAM)
        qn_trie_seal(&d->trie);
    qn_trie_seal(&d->user);
    span_of_scores(t, d);
    if (d->has_user && d->follow != QN_SP_AS_TOKENIZERS)
        d->rules.user = &d->user;
    return d->kind == QN_SP_BPE ? qn_sp_pairs_build(t, d, err) : QN_OK;
}

static void digest_rules(const qn_sp_rules *r, qn_hasher *h)
{
    const uint8_t flags[6] = {r->add_dummy_prefix,     r->remove_extra_whitespaces, r->escape_whitespaces,
                              r->whitespace_as_suffix, r->keep_malformed,           r->space_with_word};
    qn_hasher_add(h, flags, sizeof flags);
    qn_hasher_add(h, &r->map.n_units, sizeof r->map.n_units);
    if (r->map.units)
        qn_hasher_add(h, r->map.units, (size_t)(4 * r->map.n_units));
    qn_hasher_add(h, &r->map.n_texts, sizeof r->map.n_texts);
    if (r->map.n_texts)
        qn_hasher_add(h, r->map.texts, (size_t)r->map.n_texts);
}

void qn_sp_digest(const qn_tokenizer *t, qn_hasher *h)
{
    const qn_sp_data *d = t->model_data;
    const uint8_t head[8] = {(uint8_t)d->kind, (uint8_t)d->follow, d->byte_fallback, d->has_denormal, d->strip_first, d->raw_bytes};
    qn_hasher_add(h, head, sizeof head);
    qn_hasher_add(h, d->type, (size_t)d->n);
    qn_hasher_add(h, d->score, (size_t)d->n * sizeof *d->score);
    digest_rules(&d->rules, h);
    digest_rules(&d->denormal, h);
    qn_hasher_add(h, d->unk_surface ? d->unk_surface : "", d->unk_surface ? strlen(d->unk_surface) + 1 : 0);
}

void qn_sp_release(qn_tokenizer *t)
{
    qn_sp_data *d = t->model_data;
    if (!d)
        return;
    qn_trie_release(&d->trie);
    qn_trie_release(&d->user);
    qn_mem_put(t->alloc, d->pairs.keys);
    d->pairs.keys = NULL;
}

/* tokenizers spells a piece in bytes only if all of them have tokens. */
static bool spelled(const qn_sp_sink *k, const char *w, uint64_t n)
{
    if (!k->d->byte_fallback)
        return false;
    for (uint64_t i = 0; i < n && k->d->follow == QN_SP_AS_TOKENIZERS; i++)
        if (k->t->byte_id[(uint8_t)w[i]] == QN_TOK_NONE)
            return false;
    return true;
}

qn_code qn_sp_put(qn_sp_sink *k, const char *w, uint64_t n, uint32_t id, qn_err *err)
{
    const qn_tokenizer *t = k->t;
    const bool unk = id == QN_TOK_NONE || id == t->unk;
    const bool again = unk && k->prev_unk;
    k->prev_unk = unk;
    if (!unk)
        return qn_tokens_put(k->out, t->alloc, id, err);
    if (spelled(k, w, n)) {
        for (uint64_t i = 0; i < n; i++) {
            uint32_t byte = t->byte_id[(uint8_t)w[i]];
            if (byte == QN_TOK_NONE && k->d->follow == QN_SP_AS_LLAMA_CPP)
                byte = qn_tok_vocab_find(&t->vocab, w + i, 1);
            if (byte == QN_TOK_NONE)
                byte = t->unk;
            if (byte == QN_TOK_NONE)
                return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "byte 0x%02x has no token, and there is no unknown token",
                               (uint8_t)w[i]);
            QN_TRY(qn_tokens_put(k->out, t->alloc, byte, err));
        }
        return QN_OK;
    }
    if (again)
        return QN_OK;
    if (t->unk == QN_TOK_NONE)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a part of the text has no token, and there is no unknown token");
    return qn_tokens_put(k->out, t->alloc, t->unk, err);
}

/* A word is what begins with U+2581, and what stands before the first. */
static qn_code encode_words(const qn_tokenizer *t, qn_tok_scratch *s, const char *piece, uint64_t n, qn_tokens *out, qn_err *err)
{
    qn_sp_sink k = {.t = t, .d = t->model_data, .out = out};
    (void)s;
    for (uint64_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n; to++)
            if (n - to >= QN_SP_SPACE_BYTES && memcmp(piece + to, QN_SP_SPACE, QN_SP_SPACE_BYTES) == 0)
                break;
        QN_TRY(qn_sp_put(&k, piece + from, to - from, qn_tok_vocab_find(&t->vocab, piece + from, to - from), err));
    }
    return QN_OK;
}

static qn_code encode_chars(const qn_tokenizer *t, qn_tok_scratch *s, const char *piece, uint64_t n, qn_tokens *out, qn_err *err)
{
    const qn_sp_data *d = t->model_data;
    qn_sp_sink k = {.t = t, .d = d, .out = out};
    uint32_t id;
    (void)s;
    for (uint64_t at = 0, took; at < n; at += took) {
        took = d->has_user ? qn_trie_longest(&d->user, piece + at, n - at, &id) : 0;
        if (!took)
            took = qn_min_u64(qn_sp_char_bytes((uint8_t)piece[at]), n - at);
        QN_TRY(qn_sp_put(&k, piece + at, took, qn_tok_vocab_find(&t->vocab, piece + at, took), err));
    }
    return QN_OK;
}

const qn_tok_model_ops qn_sp_word_ops = {.encode = encode_words, .finish = qn_sp_finish, .digest = qn_sp_digest,
                                         .release = qn_sp_release};
const qn_tok_model_ops qn_sp_char_ops = {.encode = encode_chars, .finish = qn_sp_finish, .digest = qn_sp_digest,
                                         .release = qn_sp_release};
