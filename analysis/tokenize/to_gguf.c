/* to_gguf.c: see to_gguf.h. Which `pre` cuts a text as a tokenizer.json does is found out by cutting: spelled differently, two patterns may mean the same.
 *
 * BPE over "▁" (llama 2, mistral, gemma) has no merges in GGUF: llama.cpp joins the neighbours whose union has the highest score. So a token's score is minus the
 * rank of the first merge that gives it; merges of one token stand side by side in files that were made from sentencepiece models, and then both are the same. */
#include "analysis/tokenize/to_gguf.h"
#include "analysis/tokenize/bpe.h"
#include "analysis/tokenize/gguf_load.h"
#include "analysis/tokenize/models.h"
#include <stdlib.h>
#include <string.h>

const char *const qn_tok_trial_lines[] = {
    "Once upon a time, there was a little girl named Lily. She didn't know what she'd do!",
    "I'm sure they've said it'll work; we're not. He'd gone, IT'S LATE, y'all.",
    "3.14159 and 1000000, 42nd, 2024-05-06 12:30:59, 0xDEADBEEF v1.2.3",
    "for (int i = 0; i < n; i++) { a[i] += b[i] * 2; }  // done\n\treturn a;\n",
    "  two  spaces   three    four\t\ttabs \t mixed ",
    "line one\nline two\n\nline four\r\n  indented\n\n\n",
    "na\xc3\xafve caf\xc3\xa9, \xc3\x9c" "ber stra\xc3\x9f" "e, \xc5\x82\xc3\xb3" "d\xc5\xba, \xc3\xb1" "and\xc3\xba",
    "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82, \xd0\xbc\xd0\xb8\xd1\x80! \xce\x93\xce\xb5\xce\xb9\xce\xac \xcf\x83\xce\xbf\xcf\x85",
    "\xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x8c\xe4\xb8\x96\xe7\x95\x8c\xe3\x80\x82\xe3\x81\x93\xe3\x82\x93\xe3\x81\xab\xe3\x81\xa1\xe3\x81\xaf 2024\xe5\xb9\xb4",
    "\xed\x95\x9c\xea\xb5\xad\xec\x96\xb4 \xd8\xa7\xd9\x84\xd8\xb9\xd8\xb1\xd8\xa8\xd9\x8a\xd8\xa9 \xd7\xa2\xd7\x91\xd7\xa8\xd7\x99\xd7\xaa \xe0\xa4\xb9\xe0\xa4\xbf",
    "\xf0\x9f\x98\x80\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd \xe2\x80\x9cquotes\xe2\x80\x9d \xe2\x80\x94 dash\xe2\x80\xa6 \xe2\x82\xac" "5 \xc2\xa9",
    "!!!???...---===+++ @user #tag $5.00 50% a/b\\c <b>&amp;</b> ~`^|_",
    "ALLCAPS camelCase snake_case kebab-case PascalCaseHTTPServer",
    "a", " a", "", " ", NULL};

/* What text becomes: normalized, cut, each piece followed by a NUL. */
static qn_code cut(const qn_tokenizer *t, const qn_tok_steps *normalizers, const qn_tok_steps *pre, const char *text, qn_tok_buf *out, qn_err *err)
{
    qn_tok_list io, tmp;
    out->n = 0;
    out->alloc = t->alloc;
    qn_tok_list_init(&io, t->alloc);
    qn_tok_list_init(&tmp, t->alloc);
    qn_code rc = qn_tok_list_put(&io, text, strlen(text), true, err);
    if (rc == QN_OK && normalizers)
        rc = qn_tok_run_steps(normalizers, &io, &tmp, err);
    if (rc == QN_OK)
        rc = qn_tok_run_steps(pre, &io, &tmp, err);
    for (uint64_t i = 0; i < io.n && rc == QN_OK; i++) {
        rc = qn_tok_buf_put(out, io.text.p + io.span[i].off, io.span[i].n, err);
        if (rc == QN_OK && io.span[i].n)
            rc = qn_tok_buf_put(out, "", 1, err);
    }
    qn_tok_list_release(&io);
    qn_tok_list_release(&tmp);
    return rc;
}

/* --- byte-level BPE -------------------------------------------------------------------------------------------------------- */

static bool has_step(const qn_tok_steps *list, const char *name)
{
    for (uint64_t i = 0; i < list->n; i++)
        if (!strcmp(list->v[i].ops->name, name))
            return true;
    return false;
}

/* Does this row cut the trial lines as t does? */
static qn_code same_cuts(const qn_tokenizer *t, const qn_gguf_pre *pre, bool *same, qn_err *err)
{
    qn_tokenizer *own = qn_mem_zeros(t->alloc, 1, sizeof *own, err);
    qn_tok_buf a = {.p = NULL}, b = {.p = NULL};
    if (!own)
        return QN_E_MEMORY;
    own->alloc = t->alloc;
    own->env = t->env;
    own->file = "";
    qn_arena_init(&own->arena, t->alloc);
    qn_code rc = qn_gguf_pre_steps(own, pre, err);
    *same = true;
    for (const char *const *line = qn_tok_trial_lines; *line && *same && rc == QN_OK; line++) {
        if (!**line)
            continue;
        rc = cut(t, &t->normalizers, &t->pre_tokenizers, *line, &a, err);
        if (rc == QN_OK)
            rc = cut(own, NULL, &own->pre_tokenizers, *line, &b, err);
        *same = rc == QN_OK && a.n == b.n && (a.n == 0 || !memcmp(a.p, b.p, a.n));
    }
    qn_mem_put(t->alloc, a.p);
    qn_mem_put(t->alloc, b.p);
    qn_tokenizer_close(own);
    return rc;
}

static bool same_patterns(const qn_gguf_pre *a, const qn_gguf_pre *b)
{
    for (unsigned i = 0; i < QN_GGUF_PATTERNS_MAX; i++) {
        if (!a->patterns[i] || !b->patterns[i])
            return a->patterns[i] == b->patterns[i];
        if (strcmp(a->patterns[i], b->patterns[i]))
            return false;
    }
    return true;
}

/* The first row that cuts so; one with the same ignore_merges rather than one without. */
static qn_code find_pre(const qn_tokenizer *t, bool ignore_merges, const char **name, qn_err *err)
{
    const qn_gguf_pre *found = NULL, *tried = NULL;
    bool same = false;
    for (const qn_gguf_pre *p = qn_gguf_pres; p->name; p++) {
        if (!tried || !same_patterns(tried, p))
            QN_TRY(same_cuts(t, p, &same, err));
        tried = p;
        if (same && (!found || (found->ignore_merges != ignore_merges && p->ignore_merges == ignore_merges)))
            found = p;
    }
    if (!found)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "tokenizer: text is cut in a way that llama.cpp has no name for");
    *name = strcmp(found->name, "llama3") ? found->name : "llama-bpe"; /* the name that its own converter writes */
    return QN_OK;
}

static int by_rank(const void *a, const void *b)
{
    const qn_bpe_slot *p = a, *q = b;
    return p->rank < q->rank ? -1 : p->rank > q->rank;
}

/* The merges by rank. */
static qn_code sorted_merges(const qn_bpe *b, qn_arena *arena, qn_bpe_slot **out, uint32_t *n, qn_err *err)
{
    *n = 0;
    for (uint64_t i = 0; i <= b->mask; i++)
        *n += b->slots[i].pair != UINT64_MAX;
    qn_bpe_slot *s = qn_arena_get(arena, ((uint64_t)*n + 1) * sizeof *s, 8, err);
    if (!s)
        return QN_E_MEMORY;
    uint32_t k = 0;
    for (uint64_t i = 0; i <= b->mask; i++)
        if (b->slots[i].pair != UINT64_MAX)
            s[k++] = b->slots[i];
    qsort(s, k, sizeof *s, by_rank);
    *out = s;
    return QN_OK;
}

static qn_code of_bytelevel(qn_tok_gguf *g, const qn_tokenizer *t, const qn_bpe *b, qn_arena *arena, qn_err *err)
{
    qn_bpe_slot *s;
    g->model = "gpt2";
    for (uint64_t i = 0; i < t->normalizers.n; i++)
        if (strcmp(t->normalizers.v[i].ops->name, "NFC")) /* which changes little, and llama.cpp leaves out */
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "tokenizer: the normalizer %s has no counterpart in llama.cpp", t->normalizers.v[i].ops->name);
    QN_TRY(find_pre(t, b->ignore_merges, &g->pre, err));
    QN_TRY(sorted_merges(b, arena, &s, &g->n_merges, err));
    g->merges = qn_arena_get(arena, ((uint64_t)g->n_merges + 1) * sizeof *g->merges, 8, err);
    if (!g->merges)
        return QN_E_MEMORY;
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n_merges; i++) {
        g->merges[n] = (qn_tok_gguf_merge){(uint32_t)(s[i].pair >> 32), (uint32_t)s[i].pair};
        n += g->merges[n].left < g->n && g->merges[n].right < g->n;
    }
    g->n_merges = n;
    return QN_OK;
}

/* --- pieces with "▁" ---------------------------------------------------------------------------------------------------------- */

/* Text must only have its spaces turned into "▁", and maybe one put in front. */
static qn_code space_prefix(qn_tok_gguf *g, const qn_tokenizer *t, qn_err *err)
{
    static const char text[] = "a bc  d.\n1", with[] = QN_SP_SPACE "a" QN_SP_SPACE "bc" QN_SP_SPACE QN_SP_SPACE "d.\n1";
    qn_tok_buf b = {.p = NULL};
    QN_TRY(cut(t, &t->normalizers, &t->pre_tokenizers, text, &b, err));
    uint64_t n = 0;
    for (uint64_t i = 0; i < b.n; i++)
        if (b.p[i])
            b.p[n++] = b.p[i];
    const uint64_t n_with = sizeof with - 1, skip = QN_SP_SPACE_BYTES;
    g->add_space_prefix = n == n_with && !memcmp(b.p, with, n);
    const bool plain = n == n_with - skip && !memcmp(b.p, with + skip, n);
    qn_mem_put(t->alloc, b.p);
    return g->add_space_prefix || plain ? QN_OK
                                        : QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "tokenizer: text is changed before it is cut, in a way that llama.cpp does not know");
}

static qn_code of_merges(qn_tok_gguf *g, const qn_tokenizer *t, const qn_bpe *b, qn_arena *arena, qn_err *err)
{
    enum { NEVER = -1000000000 };
    qn_bpe_slot *s;
    uint32_t n;
    g->model = "llama";
    g->pre = "default";
    QN_TRY(space_prefix(g, t, err));
    QN_TRY(sorted_merges(b, arena, &s, &n, err));
    g->score = qn_arena_get(arena, (uint64_t)g->n * sizeof *g->score, 8, err);
    if (!g->score)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < g->n; i++)
        g->score[i] = NEVER;
    for (uint32_t i = n; i-- > 0;)
        if (s[i].id < g->n)
            g->score[s[i].id] = -(float)s[i].rank;
    g->no_bytes = !b->byte_fallback || !t->has_bytes;
    for (uint32_t i = 0; i < g->n && i < t->vocab.n; i++) {
        if (b->byte_fallback && (t->vocab.entry[i].flags & QN_TOK_IS_BYTE))
            g->type[i] = QN_SP_BYTE;
        if (i == t->unk)
            g->type[i] = QN_SP_UNKNOWN;
    }
    return QN_OK;
}

/* Scores and types as the sentencepiece model has them. */
static qn_code of_pieces(qn_tok_gguf *g, const qn_tokenizer *t, const qn_sp_data *d, qn_arena *arena, qn_err *err)
{
    const bool unigram = t->model == &qn_sp_unigram_ops;
    g->model = unigram ? "t5" : "llama";
    g->pre = "default";
    g->score = qn_arena_get(arena, (uint64_t)g->n * sizeof *g->score, 8, err);
    if (!g->score)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < g->n; i++) {
        g->score[i] = i < d->n ? (float)d->score[i] : -10000;
        if (i < d->n && d->type[i])
            g->type[i] = d->type[i];
        else if (i < t->vocab.n && d->byte_fallback && (t->vocab.entry[i].flags & QN_TOK_IS_BYTE))
            g->type[i] = QN_SP_BYTE;
        if (i == t->unk)
            g->type[i] = QN_SP_UNKNOWN;
    }
    if (d->follow != QN_SP_AS_SENTENCEPIECE) {
        QN_TRY(space_prefix(g, t, err)); /* a tokenizer.json with a table of replacements is changed in more than spaces */
        return QN_OK;
    }
    if (d->rules.whitespace_as_suffix || !d->rules.escape_whitespaces)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "tokenizer: spaces are treated in a way that is not written to GGUF");
    if (!unigram && (d->rules.map.n_units || d->rules.remove_extra_whitespaces))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "tokenizer: a BPE model that normalizes text or drops spaces has no counterpart in llama.cpp");
    g->add_space_prefix = d->rules.add_dummy_prefix;
    g->remove_extra_whitespaces = d->rules.remove_extra_whitespaces;
    if (d->rules.map.n_units) { /* as it lies in the file: length, units, texts */
        g->charsmap = d->rules.map.units - 4;
        g->n_charsmap = 4 + 4 * d->rules.map.n_units + d->rules.map.n_texts;
    }
    g->no_bytes = !unigram && !t->has_bytes;
    return QN_OK;
}

/* --- all ------------------------------------------------------------------------------------------------------------------------ */

/* "▁" of a user's token → " ": llama.cpp looks for them before it turns spaces. Not where another token is spelled so. */
static qn_code spaced(qn_tok_gguf *g, const qn_tokenizer *t, uint32_t id, qn_arena *arena, qn_err *err)
{
    char *s = qn_arena_str(arena, g->token[id], g->n_bytes[id], err);
    uint32_t n = 0;
    if (!s)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < g->n_bytes[id]; n++)
        if (g->n_bytes[id] - i >= QN_SP_SPACE_BYTES && !memcmp(g->token[id] + i, QN_SP_SPACE, QN_SP_SPACE_BYTES)) {
            s[n] = ' ';
            i += QN_SP_SPACE_BYTES;
        } else {
            s[n] = g->token[id][i++];
        }
    if (n != g->n_bytes[id] && qn_tok_vocab_find(&t->vocab, s, n) == QN_TOK_NONE) {
        g->token[id] = s;
        g->n_bytes[id] = n;
    }
    return QN_OK;
}

static qn_code tokens(qn_tok_gguf *g, const qn_tokenizer *t, qn_arena *arena, qn_err *err)
{
    g->token = qn_arena_get(arena, (uint64_t)g->n * sizeof *g->token, 8, err);
    g->n_bytes = qn_arena_get(arena, (uint64_t)g->n * sizeof *g->n_bytes, 8, err);
    g->type = qn_arena_get(arena, (uint64_t)g->n * sizeof *g->type, 8, err);
    if (!g->token || !g->n_bytes || !g->type)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < g->n; i++) {
        const qn_tok_entry *e = i < t->vocab.n ? &t->vocab.entry[i] : NULL;
        char pad[32];
        g->type[i] = e && e->s ? QN_SP_NORMAL : QN_SP_UNUSED;
        snprintf(pad, sizeof pad, "[PAD%u]", i);
        g->token[i] = e && e->s ? e->s : qn_arena_str(arena, pad, strlen(pad), err);
        if (!g->token[i])
            return QN_E_MEMORY;
        g->n_bytes[i] = e && e->s ? e->n : (uint32_t)strlen(pad);
    }
    return QN_OK;
}

static qn_code added(qn_tok_gguf *g, const qn_tokenizer *t, qn_arena *arena, qn_err *err)
{
    for (uint64_t i = 0; i < t->n_added; i++) {
        const qn_tok_added *a = &t->added[i];
        if (a->id >= g->n)
            continue;
        if (g->type[a->id] != QN_SP_UNKNOWN)
            g->type[a->id] = a->special ? QN_SP_CONTROL : QN_SP_USER_DEFINED;
        if (!a->special && strcmp(g->model, "gpt2"))
            QN_TRY(spaced(g, t, a->id, arena, err));
    }
    return QN_OK;
}

static qn_code around(qn_tok_gguf *g, const qn_tokenizer *t, qn_err *err)
{
    if (t->n_prefix > 1 || t->n_suffix > 1)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "tokenizer: more than one token is put around a text: llama.cpp puts one");
    g->bos = t->n_prefix ? t->prefix[0] : t->bos;
    g->eos = t->n_suffix ? t->suffix[0] : t->eos;
    g->unk = t->unk;
    g->bos = g->bos < g->n ? g->bos : QN_TOK_NONE;
    g->eos = g->eos < g->n ? g->eos : QN_TOK_NONE;
    g->unk = g->unk < g->n ? g->unk : QN_TOK_NONE;
    g->add_bos = t->n_prefix && g->bos != QN_TOK_NONE;
    g->add_eos = t->n_suffix && g->eos != QN_TOK_NONE;
    return QN_OK;
}

qn_code qn_tok_gguf_of(qn_tok_gguf *g, const qn_tokenizer *t, uint32_t n, qn_arena *arena, qn_err *err)
{
    *g = (qn_tok_gguf){.n = n};
    QN_TRY(tokens(g, t, arena, err));
    if (t->model == &qn_tok_bpe_ops) {
        const qn_bpe *b = t->model_data;
        if (b->n_prefix + b->n_suffix)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "tokenizer: BPE with marks at the ends of words has no counterpart in llama.cpp");
        const bool bytes = has_step(&t->pre_tokenizers, "ByteLevel") || has_step(&t->normalizers, "ByteLevel");
        QN_TRY(bytes ? of_bytelevel(g, t, b, arena, err) : of_merges(g, t, b, arena, err));
    } else if (t->model == &qn_sp_bpe_ops || t->model == &qn_sp_unigram_ops) {
        QN_TRY(of_pieces(g, t, t->model_data, arena, err));
    } else {
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "tokenizer: %s is not written to GGUF", t->kind);
    }
    QN_TRY(added(g, t, arena, err));
    return around(g, t, err);
}

qn_code qn_tok_agree(const qn_tokenizer *a, const qn_tokenizer *b, unsigned *n_differ, const char **first, qn_err *err)
{
    *n_differ = 0;
    *first = NULL;
    for (const char *const *line = qn_tok_trial_lines; *line; line++) {
        qn_tokens x = {0}, y = {0};
        qn_code rc = qn_tokenizer_encode(a, *line, strlen(*line), QN_TOKENIZE_SPECIAL, &x, err);
        if (rc == QN_OK)
            rc = qn_tokenizer_encode(b, *line, strlen(*line), QN_TOKENIZE_SPECIAL, &y, err);
        const bool same = rc == QN_OK && x.n == y.n && (x.n == 0 || !memcmp(x.ids, y.ids, x.n * sizeof *x.ids));
        qn_tokens_release(&x, a->alloc);
        qn_tokens_release(&y, b->alloc);
        QN_TRY(rc);
        if (!same && (*n_differ)++ == 0)
            *first = *line;
    }
    return QN_OK;
}
