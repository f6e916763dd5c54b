/* measure_tokenizer.c: does the candidate come with the reference's tokenizer? See measure.h. */
#include "analysis/gate/measure.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static qn_code say(qn_report *r, const char *text, qn_err *err)
{
    r->tokenizer_trouble = qn_arena_str(&r->arena, text, strlen(text), err);
    return r->tokenizer_trouble ? QN_OK : QN_E_MEMORY;
}

/* The first token that the two have another of; else something that no list of tokens shows. */
static void difference(const qn_tokenizer *a, const qn_tokenizer *b, char *buf, size_t n)
{
    const uint32_t na = qn_tokenizer_size(a), nb = qn_tokenizer_size(b), both = na < nb ? na : nb;
    char x[64], y[64];
    for (uint32_t i = 0; i < both; i++) {
        size_t la = 0, lb = 0;
        const char *ta = qn_tokenizer_token(a, i, &la), *tb = qn_tokenizer_token(b, i, &lb);
        if (la == lb && (!ta || !tb || memcmp(ta, tb, la) == 0) && !ta == !tb)
            continue;
        qn_printable(x, sizeof x, ta ? ta : "", ta ? la : 0);
        qn_printable(y, sizeof y, tb ? tb : "", tb ? lb : 0);
        (void)snprintf(buf, n, "another tokenizer than the reference's: token %" PRIu32 " is '%s', the reference's '%s'", i, x, y);
        return;
    }
    if (na != nb)
        (void)snprintf(buf, n, "another tokenizer than the reference's: %" PRIu32 " tokens, the reference has %" PRIu32, na, nb);
    else
        (void)snprintf(buf, n, "another tokenizer than the reference's: the same tokens, but other rules (merges, scores or special tokens)");
}

/* Tokenizers from files of different kinds: what they make of the text decides. */
static qn_code compare_tokens(const qn_env *env, const qn_tokenizer *a, const qn_tokenizer *b, const char *path, const qn_corpus_options *o, qn_report *r,
                              qn_err *err)
{
    qn_corpus ca, cb;
    char text[160];
    QN_TRY(qn_corpus_open(env, path, b, 0, o, &cb, err));
    const qn_code rc = qn_corpus_open(env, path, a, 0, o, &ca, err);
    if (rc != QN_OK) {
        qn_corpus_release(&cb);
        return rc;
    }
    qn_code said = QN_OK;
    if (!qn_digest_equal(&ca.digest, &cb.digest)) {
        uint64_t i = 0;
        while (i < ca.n_tokens && i < cb.n_tokens && ca.tokens[i] == cb.tokens[i])
            i++;
        (void)snprintf(text, sizeof text, "another tokenizer than the reference's: other tokens of this text, from place %" PRIu64 " on", i);
        said = say(r, text, err);
    }
    qn_corpus_release(&ca);
    qn_corpus_release(&cb);
    return said;
}

static qn_code compare(const qn_env *env, const qn_tokenizer *a, const qn_tokenizer *b, const char *path, const qn_corpus_options *o, qn_report *r,
                       qn_err *err)
{
    const qn_digest da = qn_tokenizer_digest(a), db = qn_tokenizer_digest(b);
    char text[300];
    if (qn_digest_equal(&da, &db))
        return QN_OK;
    if (strcmp(qn_tokenizer_kind(a), qn_tokenizer_kind(b)) != 0 || qn_text_ends(qn_tokenizer_file(a), ".gguf") != qn_text_ends(qn_tokenizer_file(b), ".gguf"))
        return path ? compare_tokens(env, a, b, path, o, r, err) : QN_OK;
    difference(a, b, text, sizeof text);
    return say(r, text, err);
}

qn_code qn_measure_tokenizers(const qn_env *env, qn_source *candidate, qn_source *reference, const char *data_path, const qn_corpus_options *o,
                              qn_report *r, qn_err *err)
{
    qn_tokenizer *a = NULL, *b = NULL;
    qn_err why;
    char text[600], line[512];
    qn_err_clear(&why);
    qn_code rc = qn_tokenizer_of_source(env, reference, &b, &why);
    if (rc != QN_OK) /* nothing to compare with; whoever needs it says why it cannot be had */
        return rc == QN_E_MEMORY || rc == QN_E_CANCELLED ? QN_FAIL(err, rc, QN_NO_OFFSET, "%s", why.text) : QN_OK;
    qn_err_clear(&why);
    rc = qn_tokenizer_of_source(env, candidate, &a, &why);
    if (rc == QN_OK) {
        rc = compare(env, a, b, data_path, o, r, err);
    } else if (rc == QN_E_INPUT) {
        qn_err_line(&why, line, sizeof line);
        (void)snprintf(text, sizeof text, "the candidate's tokenizer cannot be read: %s", line);
        rc = say(r, text, err);
    } else if (rc == QN_E_UNSUPPORTED) {
        rc = QN_OK;
    } else {
        rc = QN_FAIL(err, rc, QN_NO_OFFSET, "%s", why.text);
    }
    qn_tokenizer_close(a);
    qn_tokenizer_close(b);
    return rc;
}
