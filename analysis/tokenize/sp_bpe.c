/* sp_bpe.c: byte-pair encoding by score. Of all neighbours that together are a piece, those with the highest score are merged, the
 * leftmost of equals, until none is left. A heap of candidates and a linked list of symbols: O(n log n).
 *
 * The text is cut first where two characters stand side by side that do so in no piece: merging never crosses such a place,
 * so each part can be merged alone, with the same result and little memory. Only with unused pieces is it one part: what
 * they are taken apart into depends on the whole text. */
#include "analysis/tokenize/sp.h"
#include <string.h>

enum { NIL = UINT32_MAX };

typedef struct symbol {
    uint32_t off, n;     /* n = 0: merged into another one */
    uint32_t prev, next;
    bool frozen;         /* a user-defined piece           */
} symbol;

typedef struct candidate {
    float score;
    uint32_t left, right, n; /* n: bytes of both when it was found */
} candidate;

typedef struct work {
    const qn_tokenizer *t;
    const qn_sp_data *d;
    qn_tok_scratch *scratch;
    qn_sp_sink sink;
    const char *s;
    symbol *sym;
    candidate *heap;
    uint64_t n_heap;
    uint32_t *split; /* by id: bytes of the left part that an unused piece was last put together from; NULL without such */
} work;

static bool before(const candidate *a, const candidate *b)
{
    return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static void push(work *w, candidate c)
{
    uint64_t i = w->n_heap++;
    while (i > 0 && before(&c, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = c;
}

static candidate pop(work *w)
{
    const candidate top = w->heap[0], last = w->heap[--w->n_heap];
    uint64_t i = 0;
    for (;;) {
        uint64_t k = 2 * i + 1;
        if (k >= w->n_heap)
            break;
        if (k + 1 < w->n_heap && before(&w->heap[k + 1], &w->heap[k]))
            k++;
        if (!before(&w->heap[k], &last))
            break;
        w->heap[i] = w->heap[k];
        i = k;
    }
    w->heap[i] = last;
    return top;
}

/* Do pieces of this type come out of merging? */
static bool merges(const qn_sp_data *d, uint32_t id)
{
    const unsigned type = qn_sp_type_of(d, id);
    return d->follow == QN_SP_AS_LLAMA_CPP || type == QN_SP_NORMAL || type == QN_SP_USER_DEFINED || type == QN_SP_UNUSED;
}

static void consider(work *w, uint32_t left, uint32_t right)
{
    if (left == NIL || right == NIL || w->sym[left].frozen || w->sym[right].frozen)
        return;
    const uint32_t n = w->sym[left].n + w->sym[right].n;
    const uint32_t id = qn_tok_vocab_find(&w->t->vocab, w->s + w->sym[left].off, n);
    if (id == QN_TOK_NONE || !merges(w->d, id))
        return;
    push(w, (candidate){.score = id < w->d->n ? (float)w->d->score[id] : 0, .left = left, .right = right, .n = n});
    if (w->split && qn_sp_type_of(w->d, id) == QN_SP_UNUSED)
        w->split[id] = w->sym[left].n;
}

static void merge_all(work *w)
{
    while (w->n_heap) {
        const candidate c = pop(w);
        symbol *l = &w->sym[c.left], *r = &w->sym[c.right];
        if (l->n == 0 || r->n == 0 || l->n + r->n != c.n)
            continue;
        l->n += r->n;
        l->next = r->next;
        if (r->next != NIL)
            w->sym[r->next].prev = c.left;
        r->n = 0;
        consider(w, l->prev, c.left);
        consider(w, c.left, l->next);
    }
}

/* A symbol's id; an unused piece is taken apart the way it was last put together. */
static qn_code put_symbol(work *w, uint32_t off, uint32_t n, qn_err *err)
{
    /* Right parts wait: fewer than the symbols it was merged from, so those that are still to come are not overwritten. */
    uint64_t n_wait = 0;
    symbol *wait = w->sym;
    for (;;) {
        const uint32_t id = qn_tok_vocab_find(&w->t->vocab, w->s + off, n);
        if (id != QN_TOK_NONE && w->split && qn_sp_type_of(w->d, id) == QN_SP_UNUSED && w->split[id]) {
            wait[n_wait++] = (symbol){.off = off + w->split[id], .n = n - w->split[id]};
            n = w->split[id];
            continue;
        }
        QN_TRY(qn_sp_put(&w->sink, w->s + off, n, id, err));
        if (n_wait == 0)
            return QN_OK;
        off = wait[--n_wait].off;
        n = wait[n_wait].n;
    }
}

/* Length of the symbol at byte i of s: a user-defined piece or a character. */
static uint64_t symbol_at(const qn_sp_data *d, const char *s, uint64_t n, bool *user)
{
    uint32_t id;
    const uint64_t n_user = d->has_user ? qn_trie_longest(&d->user, s, n, &id) : 0;
    *user = n_user > 0;
    return n_user ? n_user : qn_min_u64(qn_sp_char_bytes((uint8_t)*s), n);
}

/* Merges bytes [from, to) of s, n_sym symbols. */
static qn_code part(work *w, uint64_t from, uint64_t to, uint64_t n_sym, qn_err *err)
{
    void *room;
    const uint64_t n_split = w->d->has_unused ? w->d->n : 0;
    if (n_sym == 1 && !n_split)
        return qn_sp_put(&w->sink, w->s + from, to - from, qn_tok_vocab_find(&w->t->vocab, w->s + from, to - from), err);
    /* each merge takes one candidate and finds two at most: never more than 2n at a time */
    QN_TRY(qn_tok_room(w->scratch, 1, n_sym * (sizeof(symbol) + 2 * sizeof(candidate)) + n_split * sizeof(uint32_t), &room, err));
    w->heap = room;
    w->sym = (symbol *)(w->heap + 2 * n_sym);
    w->split = n_split ? (uint32_t *)(w->sym + n_sym) : NULL;
    w->n_heap = 0;
    if (n_split)
        memset(w->split, 0, (size_t)n_split * sizeof(uint32_t));
    uint32_t i = 0;
    for (uint64_t at = from; at < to; i++) {
        bool user;
        const uint64_t n = symbol_at(w->d, w->s + at, to - at, &user);
        w->sym[i] = (symbol){.off = (uint32_t)at, .n = (uint32_t)n, .prev = i ? i - 1 : NIL, .next = i + 1, .frozen = user};
        at += n;
    }
    w->sym[i - 1].next = NIL;
    for (uint32_t k = 1; k < i; k++)
        consider(w, k - 1, k);
    merge_all(w);
    for (uint32_t k = 0, next; k != NIL; k = next) {
        const symbol y = w->sym[k];
        next = y.next;
        QN_TRY(put_symbol(w, y.off, y.n, err));
    }
    return QN_OK;
}

static qn_code encode(const qn_tokenizer *t, qn_tok_scratch *s, const char *piece, uint64_t n, qn_tokens *out, qn_err *err)
{
    const qn_sp_data *d = t->model_data;
    work w = {.t = t, .d = d, .scratch = s, .s = piece, .sink = {.t = t, .d = d, .out = out}};
    uint64_t from = 0, n_sym = 0, n_last = 0;
    bool last_user = false;
    if (n > UINT32_MAX - 1)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a text of 4 GiB or more in one piece");
    for (uint64_t at = 0; at < n;) {
        bool user;
        const uint64_t n_here = symbol_at(d, piece + at, n - at, &user);
        if (at > from && !d->has_unused &&
            (user || last_user || !qn_sp_pairs_has(&d->pairs, piece + at - n_last, n_last, piece + at, n_here))) {
            QN_TRY(part(&w, from, at, n_sym, err));
            from = at;
            n_sym = 0;
        }
        n_sym++;
        at += n_last = n_here;
        last_user = user;
    }
    return n ? part(&w, from, n, n_sym, err) : QN_OK;
}

const qn_tok_model_ops qn_sp_bpe_ops = {.encode = encode, .finish = qn_sp_finish, .digest = qn_sp_digest,
                                        .release = qn_sp_release};
