/* sp_decode.c: pieces of sentencepiece vocabularies back to text. Runs of byte pieces become the characters that they spell; bytes
 * that spell none become U+FFFD each (sentencepiece), or stay as they are (llama.cpp). U+2581 becomes a space; the one that the
 * normalizer put in front is taken off again. */
#include "analysis/tokenize/sp.h"
#include <string.h>

typedef struct work {
    const qn_sp_data *d;
    qn_tok_buf *text, bytes;
    bool begun;        /* something that is no control token has been put out  */
    bool expect_space; /* the next piece may lose its first U+2581             */
    bool lost_space;   /* the piece before did: that happens once              */
} work;

static qn_code put_bytes(work *w, qn_err *err)
{
    const uint8_t *b = (const uint8_t *)w->bytes.p;
    uint64_t at = 0;
    w->begun |= w->bytes.n > 0;
    if (w->d->raw_bytes)
        QN_TRY(qn_tok_buf_put(w->text, b, at = w->bytes.n, err));
    while (at < w->bytes.n) {
        const unsigned n = qn_sp_character(b + at, w->bytes.n - at);
        QN_TRY(qn_tok_buf_put(w->text, n ? (const char *)b + at : "\xef\xbf\xbd", n ? n : 3, err));
        at += n ? n : 1;
    }
    w->bytes.n = 0;
    return QN_OK;
}

static qn_code put_piece(work *w, const char *s, uint64_t n, qn_err *err)
{
    w->lost_space = false;
    if (w->expect_space && w->d->strip_first && n >= QN_SP_SPACE_BYTES && memcmp(s, QN_SP_SPACE, QN_SP_SPACE_BYTES) == 0) {
        s += QN_SP_SPACE_BYTES;
        n -= QN_SP_SPACE_BYTES;
        w->lost_space = !w->d->rules.remove_extra_whitespaces; /* else all in front go */
    }
    w->begun |= n > 0;
    while (n) {
        uint64_t k = 0;
        while (k < n && !(n - k >= QN_SP_SPACE_BYTES && memcmp(s + k, QN_SP_SPACE, QN_SP_SPACE_BYTES) == 0))
            k++;
        QN_TRY(qn_tok_buf_put(w->text, s, k, err));
        if (k == n)
            break;
        QN_TRY(qn_tok_buf_put(w->text, " ", 1, err));
        s += k + QN_SP_SPACE_BYTES;
        n -= k + QN_SP_SPACE_BYTES;
    }
    return QN_OK;
}

static qn_code put_token(work *w, const char *s, uint64_t n, qn_err *err)
{
    const qn_sp_data *d = w->d;
    const uint32_t id = qn_tok_vocab_find(&d->t->vocab, s, n);
    const unsigned type = qn_sp_type_of(d, id);
    const int byte = type == QN_SP_BYTE ? qn_sp_byte_of(s, (size_t)n) : -1;
    if (byte >= 0) {
        const char b = (char)byte;
        return qn_tok_buf_put(&w->bytes, &b, 1, err);
    }
    QN_TRY(put_bytes(w, err));
    if (w->lost_space || w->begun)
        w->expect_space = false;
    if (type == QN_SP_CONTROL || type == 0) {
        w->lost_space = false;
        return qn_tok_buf_put(w->text, s, n, err);
    }
    if (type == QN_SP_UNKNOWN && d->unk_surface) {
        w->lost_space = false;
        w->begun |= *d->unk_surface != '\0';
        return qn_tok_buf_put(w->text, d->unk_surface, strlen(d->unk_surface), err);
    }
    if (type == QN_SP_USER_DEFINED && d->follow == QN_SP_AS_LLAMA_CPP) {
        w->lost_space = false;
        w->begun |= n > 0;
        return qn_tok_buf_put(w->text, s, n, err);
    }
    return put_piece(w, s, n, err);
}

static qn_code all(work *w, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const qn_sp_data *d = w->d;
    qn_tok_buf plain = {.alloc = d->t->alloc};
    w->text = d->has_denormal ? &plain : &out->text;
    qn_code rc = QN_OK;
    for (uint64_t i = 0; rc == QN_OK && i < in->n; i++)
        rc = put_token(w, in->text.p + in->span[i].off, in->span[i].n, err);
    if (rc == QN_OK)
        rc = put_bytes(w, err);
    if (rc == QN_OK && d->has_denormal)
        rc = qn_sp_normalize(&d->denormal, plain.p, plain.n, &out->text, err);
    qn_mem_put(plain.alloc, plain.p);
    return rc;
}

static qn_code apply(const qn_tok_step *s, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    work w = {.d = s->data, .expect_space = true};
    const uint64_t from = out->text.n;
    w.bytes.alloc = w.d->t->alloc;
    const qn_code rc = all(&w, in, out, err);
    qn_mem_put(w.bytes.alloc, w.bytes.p);
    QN_TRY(rc);
    return qn_tok_list_span(out, from, out->text.n - from, true, err);
}

const qn_tok_step_ops qn_sp_decoder_ops = {.name = "SentencePiece", .apply = apply};
