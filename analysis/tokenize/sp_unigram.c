/* sp_unigram.c: the unigram model. Of all ways to cut the text into pieces, the one with the largest sum of scores (log
 * probabilities): Viterbi over byte positions, one walk down a trie from each (Kudo 2018, "Subword regularization", section 3).
 *
 * A character that is no piece by itself may also be passed as unknown, at the lowest score less 10.
 * Sums: sentencepiece keeps them as f32 and adds in f64, which over a long text decides between near equals; the other two
 * keep f64. Of equals the first found stays: the one that begins furthest to the left. */
#include "analysis/tokenize/sp.h"

static const double UNKNOWN_PENALTY = 10;

typedef struct state {
    double sum;    /* of the best way to here                      */
    uint32_t from; /* where its last piece begins; NIL: no way yet */
    uint32_t id;
} state;

enum { NIL = UINT32_MAX };

static double rounded(const qn_sp_data *d, double v)
{
    return d->follow == QN_SP_AS_SENTENCEPIECE ? (double)(float)v : v;
}

static double score_of(const qn_sp_data *d, uint32_t id, uint64_t n_bytes)
{
    if (d->type[id] != QN_SP_USER_DEFINED || d->follow == QN_SP_AS_TOKENIZERS)
        return d->score[id];
    if (d->follow == QN_SP_AS_LLAMA_CPP)
        return 0;
    return (double)((float)n_bytes * (float)d->max_score) - 0.1; /* more than other pieces, whatever they are */
}

static void offer(const qn_sp_data *d, state *st, double sum, uint32_t from, uint32_t id)
{
    if (st->from == NIL || sum > st->sum)
        *st = (state){.sum = rounded(d, sum), .from = from, .id = id};
}

static void search(const qn_tokenizer *t, const qn_sp_data *d, const char *s, uint32_t n, state *best)
{
    const double unknown = rounded(d, d->min_score - UNKNOWN_PENALTY);
    for (uint32_t at = 0; at <= n; at++)
        best[at] = (state){.from = NIL};
    for (uint32_t at = 0, n_char; at < n; at += n_char) {
        const double here = best[at].sum;
        uint32_t node = 0, id;
        bool single = false;
        n_char = (uint32_t)qn_min_u64(qn_sp_char_bytes((uint8_t)s[at]), n - at);
        for (uint32_t to = at; to < n && qn_trie_step(&d->trie, &node, (uint8_t)s[to], &id); to++) {
            if (id == QN_TRIE_NONE)
                continue;
            offer(d, &best[to + 1], score_of(d, id, to + 1 - at) + here, at, id);
            single |= to + 1 - at == n_char;
        }
        if (!single)
            offer(d, &best[at + n_char], rounded(d, unknown + here), at, t->unk);
    }
}

/* Turns the chain of "from" around: best[i].from becomes where the piece that begins at i ends, .id its id. */
static void turn(state *best, uint32_t n)
{
    uint32_t end = 0, id = 0;
    for (uint32_t at = n, from; at > 0; at = from) {
        const state s = best[at];
        best[at].from = end;
        best[at].id = id;
        end = at;
        id = s.id;
        from = s.from;
    }
    best[0].from = end;
    best[0].id = id;
}

static qn_code encode(const qn_tokenizer *t, qn_tok_scratch *scratch, const char *piece, uint64_t n, qn_tokens *out, qn_err *err)
{
    const qn_sp_data *d = t->model_data;
    qn_sp_sink k = {.t = t, .d = d, .out = out};
    void *room;
    if (n > UINT32_MAX - 1)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a text of 4 GiB or more in one piece");
    QN_TRY(qn_tok_room(scratch, n + 1, sizeof(state), &room, err));
    state *best = room;
    search(t, d, piece, (uint32_t)n, best);
    turn(best, (uint32_t)n);
    for (uint32_t at = 0; at < n; at = best[at].from)
        QN_TRY(qn_sp_put(&k, piece + at, best[at].from - at, best[at].id, err));
    return QN_OK;
}

const qn_tok_model_ops qn_sp_unigram_ops = {.encode = encode, .finish = qn_sp_finish, .digest = qn_sp_digest,
                                            .release = qn_sp_release};
