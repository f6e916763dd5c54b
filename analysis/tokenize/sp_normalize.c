/* sp_normalize.c: text as sentencepiece models see it.
 *
 * Prefix by prefix: a user-defined string as it is; else the longest key of the charsmap, replaced; else a character as it is; a
 * byte that begins no well-formed character becomes U+FFFD, which the charsmap then does not see. With
 * remove_extra_whitespaces, spaces at the ends go and runs become one; what is a space is decided after replacement. */
#include "analysis/tokenize/sp.h"
#include <string.h>

static bool trail(uint8_t b)
{
    return (b & 0xc0) == 0x80;
}

unsigned qn_sp_character(const uint8_t *s, uint64_t n)
{
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] < 0xe0)
        return n >= 2 && trail(s[1]) ? 2 : 0;
    if (s[0] >= 0xe0 && s[0] < 0xf0) {
        if (n < 3 || !trail(s[1]) || !trail(s[2]) || (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0))
            return 0;
        return 3;
    }
    if (s[0] >= 0xf0 && s[0] < 0xf5) {
        if (n < 4 || !trail(s[1]) || !trail(s[2]) || !trail(s[3]) || (s[0] == 0xf0 && s[1] < 0x90) ||
            (s[0] == 0xf4 && s[1] >= 0x90))
            return 0;
        return 4;
    }
    return 0;
}

/* What the text begins with becomes *p, *n bytes; returns how many bytes of s that takes. */
static uint64_t prefix(const qn_sp_rules *r, const char *s, uint64_t n, const char **p, uint64_t *n_p)
{
    uint32_t id;
    uint64_t took = r->user ? qn_trie_longest(r->user, s, n, &id) : 0;
    if (took == 0) {
        took = qn_charsmap_find(&r->map, s, n, false, p);
        if (took) {
            *n_p = strlen(*p);
            return took;
        }
        took = qn_sp_character((const uint8_t *)s, n);
        if (took == 0 && r->keep_malformed)
            took = 1;
        if (took == 0) {
            *p = "\xef\xbf\xbd";
            *n_p = 3;
            return 1;
        }
    }
    *p = s;
    *n_p = took;
    return took;
}

static qn_code put_space(const qn_sp_rules *r, qn_tok_buf *out, qn_err *err)
{
    return r->escape_whitespaces ? qn_tok_buf_put(out, QN_SP_SPACE, QN_SP_SPACE_BYTES, err) : qn_tok_buf_put(out, " ", 1, err);
}

static qn_code put_text(const qn_sp_rules *r, const char *p, uint64_t n, qn_tok_buf *out, qn_err *err)
{
    if (!r->escape_whitespaces)
        return qn_tok_buf_put(out, p, n, err);
    while (n) {
        const char *space = memchr(p, ' ', (size_t)n);
        const uint64_t k = space ? (uint64_t)(space - p) : n;
        QN_TRY(qn_tok_buf_put(out, p, k, err));
        if (!space)
            break;
        QN_TRY(qn_tok_buf_put(out, QN_SP_SPACE, QN_SP_SPACE_BYTES, err));
        p += k + 1;
        n -= k + 1;
    }
    return QN_OK;
}

/* As llama.cpp does it for unigram vocabularies: spaces are put in front of words, not taken away behind them. */
static qn_code by_words(const qn_sp_rules *r, const char *s, uint64_t n, qn_tok_buf *out, qn_err *err)
{
    bool prefix_due = r->add_dummy_prefix && !r->whitespace_as_suffix, in_word = false;
    const char *p = NULL;
    uint64_t n_p = 0;
    for (uint64_t at = 0; at < n;) {
        at += prefix(r, s + at, n - at, &p, &n_p);
        for (; n_p; n_p--, p++) {
            if (*p != ' ') {
                if (!in_word && (prefix_due || r->remove_extra_whitespaces))
                    QN_TRY(put_space(r, out, err));
                prefix_due = false;
                in_word = true;
                QN_TRY(qn_tok_buf_put(out, p, 1, err));
            } else {
                in_word = false;
                if (!r->remove_extra_whitespaces)
                    QN_TRY(put_space(r, out, err));
            }
        }
    }
    return r->whitespace_as_suffix && r->add_dummy_prefix ? put_space(r, out, err) : QN_OK;
}

qn_code qn_sp_normalize(const qn_sp_rules *r, const char *s, uint64_t n, qn_tok_buf *out, qn_err *err)
{
    const uint64_t begin = out->n;
    const char *p = NULL;
    uint64_t n_p = 0, at = 0;
    if (r->space_with_word)
        return by_words(r, s, n, out, err);
    if (r->remove_extra_whitespaces)
        while (at < n) {
            const uint64_t took = prefix(r, s + at, n - at, &p, &n_p);
            if (n_p != 1 || *p != ' ')
                break;
            at += took;
        }
    if (at == n)
        return QN_OK;
    if (!r->whitespace_as_suffix && r->add_dummy_prefix)
        QN_TRY(put_space(r, out, err));
    bool after_space = r->remove_extra_whitespaces;
    while (at < n) {
        at += prefix(r, s + at, n - at, &p, &n_p);
        for (; after_space && n_p && *p == ' '; n_p--)
            p++;
        if (n_p) {
            QN_TRY(put_text(r, p, n_p, out, err));
            after_space = r->remove_extra_whitespaces && p[n_p - 1] == ' ';
        }
    }
    if (r->remove_extra_whitespaces) {
        const char *space = r->escape_whitespaces ? QN_SP_SPACE : " ";
        const uint64_t n_space = strlen(space);
        while (out->n - begin >= n_space && memcmp(out->p + out->n - n_space, space, (size_t)n_space) == 0)
            out->n -= n_space;
    }
    if (r->whitespace_as_suffix && r->add_dummy_prefix)
        QN_TRY(put_space(r, out, err));
    return QN_OK;
}

static qn_code apply(const qn_tok_step *s, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const qn_sp_data *d = s->data;
    for (uint64_t i = 0; i < in->n; i++) {
        const uint64_t from = out->text.n;
        QN_TRY(qn_sp_normalize(&d->rules, in->text.p + in->span[i].off, in->span[i].n, &out->text, err));
        QN_TRY(qn_tok_list_span(out, from, out->text.n - from, in->span[i].first, err));
    }
    return QN_OK;
}

const qn_tok_step_ops qn_sp_normalizer_ops = {.name = "SentencePiece", .apply = apply};
