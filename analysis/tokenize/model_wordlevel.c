/* model_wordlevel.c: the model "WordLevel": a piece is a token or unknown. */
#include "analysis/tokenize/models.h"

static qn_code wordlevel_encode(const qn_tokenizer *t, qn_tok_scratch *s, const char *piece, uint64_t n, qn_tokens *out,
                                qn_err *err)
{
    uint32_t id = qn_tok_vocab_find(&t->vocab, piece, n);
    char shown[64];
    (void)s;
    if (id == QN_TOK_NONE)
        id = t->unk;
    if (id != QN_TOK_NONE)
        return qn_tokens_put(out, t->alloc, id, err);
    qn_printable(shown, sizeof shown, piece, n);
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tokenizer: '%s' is not in the vocabulary, which has no token for the unknown",
                   shown);
}

static void wordlevel_digest(const qn_tokenizer *t, qn_hasher *h)
{
    (void)t;
    (void)h;
}

qn_code qn_tok_build_wordlevel(qn_tokenizer *t, const qn_tok_model_json *m, qn_err *err)
{
    static const qn_tok_model_ops ops = {.encode = wordlevel_encode, .digest = wordlevel_digest};
    const char *unk = NULL;
    uint64_t n = 0;
    t->model = &ops;
    t->kind = "word level";
    QN_TRY(qn_tok_node_str(m->options, "unk_token", &unk, &n, err));
    return unk && n > 0 ? qn_tok_find_unk(t, unk, n, m->off, err) : QN_OK;
}
