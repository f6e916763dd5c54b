/* bpe_merge.c: one piece: characters become symbols, then the adjacent pair of lowest rank is merged, the leftmost first, until
 * no pair has a rank. Short pieces by search, long ones with a heap: O(n log n). */
#include "analysis/tokenize/bpe.h"
#include "analysis/tokenize/utf8.h"

enum { SEARCH_MAX = 40 }; /* symbols: up to here the search is quicker */

#define NO_RANK UINT32_MAX

/* ---- characters to symbols ---- */

/* id QN_TOK_NONE: a character that the vocabulary has not, with no token for the unknown: nothing merges across it and it
 * leaves no trace. */
static uint64_t put_unknown(const qn_tokenizer *t, const qn_bpe *b, uint32_t *ids, uint64_t n)
{
    if (b->fuse_unk && t->unk != QN_TOK_NONE && n > 0 && ids[n - 1] == t->unk)
        return n;
    ids[n] = t->unk;
    return n + 1;
}

static uint64_t put_missing(const qn_tokenizer *t, const qn_bpe *b, const char *s, uint64_t n_s, uint32_t *ids, uint64_t n)
{
    bool all = b->byte_fallback;
    for (uint64_t i = 0; all && i < n_s; i++)
        all = t->byte_id[(uint8_t)s[i]] != QN_TOK_NONE;
    if (!all)
        return put_unknown(t, b, ids, n);
    for (uint64_t i = 0; i < n_s; i++)
        ids[n++] = t->byte_id[(uint8_t)s[i]];
    return n;
}

/* A character with what stands around it in the vocabulary: "##" before all but the first, "</w>" after the last. */
static uint64_t put_affixed(const qn_tokenizer *t, const qn_bpe *b, const char *c, unsigned len, bool first, bool last,
                            uint32_t *ids, uint64_t n)
{
    char s[2 * QN_BPE_AFFIX_MAX + 4];
    uint64_t k = 0;
    if (!first) {
        memcpy(s, b->prefix, b->n_prefix);
        k = b->n_prefix;
    }
    memcpy(s + k, c, len);
    k += len;
    if (last) {
        memcpy(s + k, b->suffix, b->n_suffix);
        k += b->n_suffix;
    }
    const uint32_t id = qn_tok_vocab_find(&t->vocab, s, k);
    if (id == QN_TOK_NONE)
        return put_missing(t, b, s, k, ids, n);
    ids[n] = id;
    return n + 1;
}

static uint64_t to_symbols(const qn_tokenizer *t, const qn_bpe *b, const char *s, uint64_t n, uint32_t *ids)
{
    uint64_t k = 0;
    for (uint64_t i = 0; i < n;) {
        unsigned len;
        const uint32_t c = qn_utf8_get(s + i, &len);
        if (b->n_prefix + b->n_suffix) {
            k = put_affixed(t, b, s + i, len, i == 0, i + len == n, ids, k);
        } else {
            const uint32_t id = c < QN_BPE_SINGLE ? b->single[c] : qn_tok_vocab_find(&t->vocab, s + i, len);
            if (id == QN_TOK_NONE)
                k = put_missing(t, b, s + i, len, ids, k);
            else
                ids[k++] = id;
        }
        i += len;
    }
    return k;
}

/* ---- merging ---- */

static uint32_t rank_of(const qn_bpe *b, uint32_t left, uint32_t right, uint32_t *id)
{
    const qn_bpe_slot *m = qn_bpe_find(b, left, right);
    *id = m ? m->id : 0;
    return m ? m->rank : NO_RANK;
}

/* In place; returns the symbols that are left. n ≤ SEARCH_MAX. */
static uint64_t merge_by_search(const qn_bpe *b, uint32_t *ids, uint64_t n)
{
    uint32_t rank[SEARCH_MAX], becomes[SEARCH_MAX];
    for (uint64_t i = 0; i + 1 < n; i++)
        rank[i] = rank_of(b, ids[i], ids[i + 1], &becomes[i]);
    while (n > 1) {
        uint64_t best = 0;
        for (uint64_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NO_RANK)
            break;
        ids[best] = becomes[best];
        n--;
        for (uint64_t i = best + 1; i < n; i++)
            ids[i] = ids[i + 1];
        for (uint64_t i = best + 1; i + 1 < n; i++) {
            rank[i] = rank[i + 1];
            becomes[i] = becomes[i + 1];
        }
        if (best + 1 < n)
            rank[best] = rank_of(b, ids[best], ids[best + 1], &becomes[best]);
        if (best > 0)
            rank[best - 1] = rank_of(b, ids[best - 1], ids[best], &becomes[best - 1]);
    }
    return n;
}

/* A symbol of a long piece. rank, becomes: of the pair that it begins. */
struct link {
    uint32_t id, rank, becomes, prev, next;
};

/* A heap of rank << 32 | place: the smallest is the pair of lowest rank, leftmost. A symbol whose rank has changed since leaves
 * its old entry behind; that one is passed over. */
struct heap {
    uint64_t *v;
    uint64_t n;
};

static void sift_down(struct heap *h, uint64_t i)
{
    const uint64_t x = h->v[i];
    for (uint64_t k; (k = 2 * i + 1) < h->n; i = k) {
        if (k + 1 < h->n && h->v[k + 1] < h->v[k])
            k++;
        if (x <= h->v[k])
            break;
        h->v[i] = h->v[k];
    }
    h->v[i] = x;
}

static void heap_push(struct heap *h, uint64_t x)
{
    uint64_t i = h->n++;
    for (; i > 0 && x < h->v[(i - 1) / 2]; i = (i - 1) / 2)
        h->v[i] = h->v[(i - 1) / 2];
    h->v[i] = x;
}

static uint64_t heap_pop(struct heap *h)
{
    const uint64_t top = h->v[0];
    h->v[0] = h->v[--h->n];
    if (h->n)
        sift_down(h, 0);
    return top;
}

static void rank_link(const qn_bpe *b, struct link *l, uint32_t i, struct heap *h)
{
    l[i].rank = l[i].next == QN_TOK_NONE ? NO_RANK : rank_of(b, l[i].id, l[l[i].next].id, &l[i].becomes);
    if (l[i].rank != NO_RANK)
        heap_push(h, (uint64_t)l[i].rank << 32 | i);
}

/* room: n links and 3 n heap entries (one for each symbol at first, two more with each of fewer than n merges). */
static uint64_t merge_by_heap(const qn_bpe *b, uint32_t *ids, uint64_t n, struct link *l, uint64_t *entries)
{
    struct heap h = {.v = entries};
    for (uint32_t i = 0; i < n; i++)
        l[i] = (struct link){.id = ids[i], .rank = NO_RANK, .prev = i - 1, .next = i + 1 < n ? i + 1 : QN_TOK_NONE};
    for (uint32_t i = 0; i < n; i++)
        rank_link(b, l, i, &h);
    while (h.n) {
        const uint64_t top = heap_pop(&h);
        const uint32_t i = (uint32_t)top;
        if (l[i].rank != (uint32_t)(top >> 32))
            continue;
        const uint32_t gone = l[i].next;
        l[i].id = l[i].becomes;
        l[i].next = l[gone].next;
        l[gone].rank = NO_RANK;
        if (l[i].next != QN_TOK_NONE)
            l[l[i].next].prev = i;
        rank_link(b, l, i, &h);
        if (l[i].prev != QN_TOK_NONE)
            rank_link(b, l, l[i].prev, &h);
    }
    uint64_t k = 0;
    for (uint32_t i = 0; i != QN_TOK_NONE; i = l[i].next)
        ids[k++] = l[i].id;
    return k;
}

/* ---- one piece ---- */

/* Appends, without those that stand for nothing; `start`: where this piece's ids begin in out, for fuse_unk. */
static qn_code put_ids(const qn_tokenizer *t, const uint32_t *ids, uint64_t n, uint64_t start, qn_tokens *out, qn_err *err)
{
    const qn_bpe *b = t->model_data;
    for (uint64_t i = 0; i < n; i++) {
        if (ids[i] == QN_TOK_NONE)
            continue;
        if (b->fuse_unk && ids[i] == t->unk && out->n > start && out->ids[out->n - 1] == t->unk)
            continue;
        QN_TRY(qn_tokens_put(out, t->alloc, ids[i], err));
    }
    return QN_OK;
}

/* Symbols that n bytes can become. */
static uint64_t symbols_max(const qn_bpe *b, uint64_t n, bool *ovf)
{
    return qn_add(qn_mul(n, 1 + b->n_prefix, ovf), b->n_suffix, ovf);
}

static qn_code merge(const qn_tokenizer *t, qn_tok_scratch *s, const char *p, uint64_t n, uint32_t **ids, uint64_t *n_ids,
                     qn_err *err)
{
    const qn_bpe *b = t->model_data;
    bool ovf = false;
    void *room;
    const uint64_t max = qn_align_up(symbols_max(b, n, &ovf), 2, &ovf);
    if (ovf || max >= QN_TOK_NONE)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "tokenizer: a piece of %llu bytes is too long", (unsigned long long)n);
    const bool search = max <= SEARCH_MAX;
    QN_TRY(qn_tok_room(s, max, search ? 4 : 4 + 3 * 8 + sizeof(struct link), &room, err));
    uint64_t *entries = room;
    *ids = search ? room : (uint32_t *)(entries + 3 * max);
    const uint64_t k = to_symbols(t, b, p, n, *ids);
    if (k < 2)
        *n_ids = k;
    else
        *n_ids = search ? merge_by_search(b, *ids, k) : merge_by_heap(b, *ids, k, (struct link *)(*ids + max), entries);
    return QN_OK;
}

static qn_code encode_part(const qn_tokenizer *t, qn_tok_scratch *s, const char *p, uint64_t n, uint64_t start, qn_tokens *out,
                           qn_err *err)
{
    const qn_bpe *b = t->model_data;
    qn_tok_cached *c = NULL;
    uint32_t *ids = NULL, whole;
    uint64_t n_ids = 0;
    bool hit = false;
    if (n <= QN_TOK_CACHE_BYTES)
        c = qn_tok_cache_at(s, p, n, &hit);
    if (hit)
        return put_ids(t, c->ids, c->n_ids, start, out, err);
    if (b->ignore_merges && (whole = qn_tok_vocab_find(&t->vocab, p, n)) != QN_TOK_NONE) {
        ids = &whole;
        n_ids = 1;
    } else {
        QN_TRY(merge(t, s, p, n, &ids, &n_ids, err));
    }
    if (c)
        qn_tok_cache_set(c, p, n, ids, n_ids);
    return put_ids(t, ids, n_ids, start, out, err);
}

qn_code qn_bpe_encode(const qn_tokenizer *t, qn_tok_scratch *s, const char *piece, uint64_t n, qn_tokens *out, qn_err *err)
{
    const qn_bpe *b = t->model_data;
    const uint64_t start = out->n;
    if (n <= QN_TOK_CACHE_BYTES || !b->bridges)
        return encode_part(t, s, piece, n, start, out, err);
    /* Cut where no merge can cross. The characters' own ids do not depend on it, and fuse_unk looks back past the cut. */
    unsigned len;
    uint64_t begin = 0;
    uint32_t before = qn_utf8_get(piece, &len);
    for (uint64_t i = len; i < n; i += len) {
        const uint32_t c = qn_utf8_get(piece + i, &len);
        const uint32_t bit = qn_bpe_bridge(before, c);
        if (!(b->bridges[bit >> 6] >> (bit & 63) & 1)) {
            QN_TRY(encode_part(t, s, piece + begin, i - begin, start, out, err));
            begin = i;
        }
        before = c;
    }
    return encode_part(t, s, piece + begin, n - begin, start, out, err);
}
