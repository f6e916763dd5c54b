/* tokenizer.c: the whole way from text to ids and back; what is common to all tokenizers. */
#include "analysis/tokenize/added.h"
#include "analysis/tokenize/utf8.h"

enum { CACHE_FROM = 2048 }; /* bytes of a text that are worth a cache */

/* ---- lists of ids, scratch ---- */

void qn_tokens_release(qn_tokens *t, const qn_alloc *a)
{
    qn_mem_put(a, t->ids);
    *t = (qn_tokens){.ids = NULL};
}

qn_code qn_tokens_put(qn_tokens *t, const qn_alloc *a, uint32_t id, qn_err *err)
{
    if (t->n == t->cap) {
        uint32_t *p = qn_mem_grow(a, t->ids, t->n, &t->cap, t->n + 1, sizeof *p, err);
        if (!p)
            return QN_E_MEMORY;
        t->ids = p;
    }
    t->ids[t->n++] = id;
    return QN_OK;
}

qn_code qn_tok_room(qn_tok_scratch *s, uint64_t n, uint64_t size, void **out, qn_err *err)
{
    bool ovf = false;
    const uint64_t want = qn_mul(n, size, &ovf);
    if (ovf)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "tokenizer: a piece needs more than 2^64 bytes");
    if (want > s->room_bytes) {
        void *p = qn_mem_grow(s->alloc, s->room, 0, &s->room_bytes, want, 1, err);
        if (!p)
            return QN_E_MEMORY;
        s->room = p;
    }
    *out = s->room;
    return QN_OK;
}

qn_tok_cached *qn_tok_cache_at(const qn_tok_scratch *s, const char *piece, uint64_t n, bool *hit)
{
    *hit = false;
    if (!s->cache || n == 0 || n > QN_TOK_CACHE_BYTES)
        return NULL;
    qn_tok_cached *c = &s->cache[qn_hash64(piece, n) & (QN_TOK_CACHE_ENTRIES - 1)];
    *hit = c->n == n && memcmp(c->s, piece, n) == 0;
    return c;
}

void qn_tok_cache_set(qn_tok_cached *c, const char *piece, uint64_t n, const uint32_t *ids, uint64_t n_ids)
{
    if (n_ids > QN_TOK_CACHE_IDS)
        return;
    c->n = (uint8_t)n;
    c->n_ids = (uint8_t)n_ids;
    memcpy(c->s, piece, n);
    memcpy(c->ids, ids, n_ids * sizeof *ids);
}

/* ---- added tokens, finishing ---- */

qn_code qn_tok_add_added(qn_tokenizer *t, const qn_tok_added *a, qn_err *err)
{
    uint32_t was;
    if (a->n > QN_TOK_ADDED_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "tokenizer: an added token of %u bytes, at most %d are supported",
                       a->n, QN_TOK_ADDED_MAX);
    const qn_tok_entry *e = a->id < t->vocab.n ? &t->vocab.entry[a->id] : NULL;
    if (!e || !e->s || e->n != a->n || memcmp(e->s, a->s, a->n) != 0)
        QN_TRY(qn_tok_vocab_add(t, a->id, a->s, a->n, &was, err));
    if (t->n_added == t->cap_added) {
        qn_tok_added *p = qn_mem_grow(t->alloc, t->added, t->n_added, &t->cap_added, t->n_added + 1, sizeof *p, err);
        if (!p)
            return QN_E_MEMORY;
        t->added = p;
    }
    t->vocab.entry[a->id].flags |= QN_TOK_IS_ADDED | (a->special ? QN_TOK_IS_SPECIAL : 0u);
    t->added[t->n_added] = *a;
    t->added[t->n_added++].s = t->vocab.entry[a->id].s;
    return QN_OK;
}

static void find_bytes(qn_tokenizer *t)
{
    static const char hex[] = "0123456789ABCDEF";
    t->has_bytes = true;
    for (unsigned b = 0; b < 256; b++) {
        const char s[6] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'};
        t->byte_id[b] = qn_tok_vocab_find(&t->vocab, s, sizeof s);
        if (t->byte_id[b] == QN_TOK_NONE)
            t->has_bytes = false;
        else
            t->vocab.entry[t->byte_id[b]].flags |= QN_TOK_IS_BYTE;
    }
}

static void add_u64(qn_hasher *h, uint64_t v)
{
    uint8_t b[8];
    qn_store64(b, v);
    qn_hasher_add(h, b, sizeof b);
}

static void add_bytes(qn_hasher *h, const void *p, uint64_t n)
{
    add_u64(h, n);
    if (n)
        qn_hasher_add(h, p, n);
}

static void add_ids(qn_hasher *h, const uint32_t *ids, uint64_t n)
{
    add_u64(h, n);
    for (uint64_t i = 0; i < n; i++)
        add_u64(h, ids[i]);
}

static void add_steps(qn_hasher *h, const qn_tok_steps *list)
{
    add_u64(h, list->n);
    for (uint64_t i = 0; i < list->n; i++) {
        add_bytes(h, list->v[i].ops->name, strlen(list->v[i].ops->name));
        add_bytes(h, list->v[i].digest, list->v[i].n_digest);
    }
}

static qn_code make_digest(qn_tokenizer *t, qn_err *err)
{
    qn_hasher h;
    QN_TRY(qn_hasher_open(&h, err));
    add_bytes(&h, t->kind, strlen(t->kind));
    add_u64(&h, t->vocab.n);
    for (uint64_t i = 0; i < t->vocab.n; i++) {
        add_u64(&h, t->vocab.entry[i].s != NULL);
        add_bytes(&h, t->vocab.entry[i].s, t->vocab.entry[i].n);
    }
    add_u64(&h, t->n_added);
    for (uint64_t i = 0; i < t->n_added; i++) {
        const qn_tok_added *a = &t->added[i];
        add_u64(&h, a->id);
        add_u64(&h, (uint64_t)a->special | (uint64_t)a->single_word << 1 | (uint64_t)a->lstrip << 2 |
                        (uint64_t)a->rstrip << 3 | (uint64_t)a->normalized << 4);
    }
    add_steps(&h, &t->normalizers);
    add_steps(&h, &t->pre_tokenizers);
    add_steps(&h, &t->decoders);
    add_ids(&h, t->prefix, t->n_prefix);
    add_ids(&h, t->suffix, t->n_suffix);
    add_u64(&h, t->unk);
    t->model->digest(t, &h);
    t->digest = qn_hasher_digest(&h);
    qn_hasher_close(&h);
    return QN_OK;
}

qn_code qn_tok_finish(qn_tokenizer *t, qn_err *err)
{
    if (!t->model)
        return QN_BUG(err, "a tokenizer was loaded without a model");
    if (t->unk == QN_TOK_NONE && t->unk_name)
        t->unk = qn_tok_vocab_find(&t->vocab, t->unk_name, t->n_unk_name);
    find_bytes(t);
    if (t->model->finish)
        QN_TRY(t->model->finish(t, err));
    QN_TRY(qn_tok_index_open(t, false, &t->raw_index, err));
    QN_TRY(qn_tok_index_open(t, true, &t->norm_index, err));
    return make_digest(t, err);
}

static void release_steps(qn_tokenizer *t, qn_tok_steps *list)
{
    for (uint64_t i = 0; i < list->n; i++)
        if (list->v[i].ops->release)
            list->v[i].ops->release(&list->v[i]);
    qn_mem_put(t->alloc, list->v);
}

void qn_tokenizer_close(qn_tokenizer *t)
{
    if (!t)
        return;
    if (t->model && t->model->release)
        t->model->release(t);
    release_steps(t, &t->normalizers);
    release_steps(t, &t->pre_tokenizers);
    release_steps(t, &t->decoders);
    qn_tok_index_close(t->raw_index, t->alloc);
    qn_tok_index_close(t->norm_index, t->alloc);
    qn_mem_put(t->alloc, t->added);
    qn_mem_put(t->alloc, t->vocab.entry);
    qn_mem_put(t->alloc, t->vocab.slots);
    qn_arena_release(&t->arena);
    qn_mem_put(t->alloc, t);
}

/* ---- encode ---- */

struct encoder {
    const qn_tokenizer *t;
    qn_tokens *out;
    qn_tok_scratch scratch;
    qn_tok_list norm, pieces, tmp;
    bool plain;
};

/* Text without added tokens, normalized. */
static qn_code encode_plain(struct encoder *e, const char *s, uint64_t n, bool first, qn_err *err)
{
    const qn_tokenizer *t = e->t;
    if (n == 0)
        return QN_OK;
    if (t->pre_tokenizers.n == 0)
        return t->model->encode(t, &e->scratch, s, n, e->out, err);
    qn_tok_list_clear(&e->pieces);
    QN_TRY(qn_tok_list_put(&e->pieces, s, n, first, err));
    QN_TRY(qn_tok_run_steps(&t->pre_tokenizers, &e->pieces, &e->tmp, err));
    for (uint64_t i = 0; i < e->pieces.n; i++)
        if (e->pieces.span[i].n > 0)
            QN_TRY(t->model->encode(t, &e->scratch, e->pieces.text.p + e->pieces.span[i].off, e->pieces.span[i].n, e->out, err));
    return QN_OK;
}

static qn_code encode_raw_gap(struct encoder *e, const char *s, uint64_t n, bool first, qn_err *err);

/* Cuts out added tokens; `gap` gets the text between them. */
static qn_code encode_cut(struct encoder *e, const qn_tok_index *x, const char *s, uint64_t n, bool first,
                          qn_code (*gap)(struct encoder *, const char *, uint64_t, bool, qn_err *), qn_err *err)
{
    qn_tok_walk w = {.x = x, .s = s, .n = n, .plain = e->plain};
    uint32_t i;
    do {
        uint64_t begin, end;
        i = qn_tok_walk_next(&w, e->t, &begin, &end);
        if (begin < end)
            QN_TRY(gap(e, s + begin, end - begin, first && begin == 0, err));
        if (i != QN_TOK_NONE)
            QN_TRY(qn_tokens_put(e->out, e->t->alloc, e->t->added[i].id, err));
    } while (i != QN_TOK_NONE);
    return QN_OK;
}

static qn_code encode_raw_gap(struct encoder *e, const char *s, uint64_t n, bool first, qn_err *err)
{
    const qn_tokenizer *t = e->t;
    if (t->normalizers.n == 0)
        return encode_cut(e, t->norm_index, s, n, first, encode_plain, err);
    qn_tok_list_clear(&e->norm);
    QN_TRY(qn_tok_list_put(&e->norm, s, n, first, err));
    QN_TRY(qn_tok_run_steps(&t->normalizers, &e->norm, &e->tmp, err));
    const qn_tok_span all = e->norm.span[0];
    if (all.n == 0) /* then there may be no text at all */
        return QN_OK;
    return encode_cut(e, t->norm_index, e->norm.text.p + all.off, all.n, first, encode_plain, err);
}

static qn_code put_all(const qn_tokenizer *t, const uint32_t *ids, uint64_t n, qn_tokens *out, qn_err *err)
{
    for (uint64_t i = 0; i < n; i++)
        QN_TRY(qn_tokens_put(out, t->alloc, ids[i], err));
    return QN_OK;
}

static qn_code encode_text(struct encoder *e, const char *s, uint64_t n, unsigned flags, qn_err *err)
{
    const qn_tokenizer *t = e->t;
    if (n >= CACHE_FROM) {
        e->scratch.cache = qn_mem_zeros(t->alloc, QN_TOK_CACHE_ENTRIES, sizeof *e->scratch.cache, err);
        if (!e->scratch.cache)
            return QN_E_MEMORY;
    }
    if (flags & QN_TOKENIZE_SPECIAL)
        QN_TRY(put_all(t, t->prefix, t->n_prefix, e->out, err));
    QN_TRY(encode_cut(e, t->raw_index, s, n, true, encode_raw_gap, err));
    if (flags & QN_TOKENIZE_SPECIAL)
        QN_TRY(put_all(t, t->suffix, t->n_suffix, e->out, err));
    return QN_OK;
}

qn_code qn_tokenizer_encode(const qn_tokenizer *t, const char *text, uint64_t n_bytes, unsigned flags, qn_tokens *out,
                            qn_err *err)
{
    struct encoder e = {.t = t, .out = out, .scratch = {.alloc = t->alloc}, .plain = (flags & QN_TOKENIZE_PLAIN) != 0};
    qn_tok_buf repaired = {.alloc = t->alloc};
    qn_code rc = QN_OK;
    qn_tok_list_init(&e.norm, t->alloc);
    qn_tok_list_init(&e.pieces, t->alloc);
    qn_tok_list_init(&e.tmp, t->alloc);
    if (!t->any_bytes && qn_utf8_prefix(text, n_bytes) != n_bytes) {
        rc = qn_utf8_repair(text, n_bytes, &repaired, err);
        text = repaired.p;
        n_bytes = repaired.n;
    }
    if (rc == QN_OK)
        rc = encode_text(&e, text, n_bytes, flags, err);
    qn_tok_list_release(&e.norm);
    qn_tok_list_release(&e.pieces);
    qn_tok_list_release(&e.tmp);
    qn_mem_put(t->alloc, e.scratch.room);
    qn_mem_put(t->alloc, e.scratch.cache);
    qn_mem_put(t->alloc, repaired.p);
    return rc;
}

/* ---- decode ---- */

static qn_code list_tokens(const qn_tokenizer *t, const uint32_t *ids, uint64_t n, bool skip_special, qn_tok_list *out, qn_err *err)
{
    for (uint64_t i = 0; i < n; i++) {
        const qn_tok_entry *e = ids[i] < t->vocab.n ? &t->vocab.entry[ids[i]] : NULL;
        if (!e || !e->s)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "token %llu has id %u, which no token of the vocabulary has",
                           (unsigned long long)i, ids[i]);
        if (!skip_special || !(e->flags & QN_TOK_IS_SPECIAL))
            QN_TRY(qn_tok_list_put(out, e->s, e->n, i == 0, err));
    }
    return QN_OK;
}

static qn_code join(const qn_tok_list *l, const char *between, qn_tok_buf *out, qn_err *err)
{
    for (uint64_t i = 0; i < l->n; i++) {
        if (i > 0)
            QN_TRY(qn_tok_buf_put(out, between, strlen(between), err));
        if (l->span[i].n > 0)
            QN_TRY(qn_tok_buf_put(out, l->text.p + l->span[i].off, l->span[i].n, err));
    }
    return QN_OK;
}

qn_code qn_tokenizer_decode(const qn_tokenizer *t, const uint32_t *ids, uint64_t n_ids, bool skip_special, char **text,
                            uint64_t *n, uint64_t *cap, qn_err *err)
{
    qn_tok_list io, tmp;
    qn_tok_buf out = {.p = *text, .n = *n, .cap = *cap, .alloc = t->alloc};
    qn_tok_list_init(&io, t->alloc);
    qn_tok_list_init(&tmp, t->alloc);
    qn_code rc = list_tokens(t, ids, n_ids, skip_special, &io, err);
    if (rc == QN_OK)
        rc = qn_tok_run_steps(&t->decoders, &io, &tmp, err);
    if (rc == QN_OK)
        rc = join(&io, t->decoders.n ? "" : " ", &out, err);
    qn_tok_list_release(&io);
    qn_tok_list_release(&tmp);
    *text = out.p;
    *n = rc == QN_OK ? out.n : *n;
    *cap = out.cap;
    return rc;
}

/* ---- what it is ---- */

uint32_t qn_tokenizer_size(const qn_tokenizer *t)
{
    return (uint32_t)t->vocab.n;
}

const char *qn_tokenizer_token(const qn_tokenizer *t, uint32_t id, size_t *n_bytes)
{
    if (id >= t->vocab.n || !t->vocab.entry[id].s)
        return NULL;
    *n_bytes = t->vocab.entry[id].n;
    return t->vocab.entry[id].s;
}

uint32_t qn_tokenizer_find(const qn_tokenizer *t, const char *token, size_t n_bytes)
{
    return qn_tok_vocab_find(&t->vocab, token, n_bytes);
}

uint32_t qn_tokenizer_bos(const qn_tokenizer *t)
{
    return t->bos;
}

uint32_t qn_tokenizer_eos(const qn_tokenizer *t)
{
    return t->eos;
}

const char *qn_tokenizer_kind(const qn_tokenizer *t)
{
    return t->kind;
}

const char *qn_tokenizer_file(const qn_tokenizer *t)
{
    return t->file;
}

qn_digest qn_tokenizer_digest(const qn_tokenizer *t)
{
    return t->digest;
}
