/* fuzz_corpus.c: the data of eval and calibrate as a file: the first byte chooses text, JSON lines or tokens (an array of which the rest
 * is the data, or the whole file), the second how they are cut. What comes out must be cuts that a model can be shown. */
#include "analysis/eval/corpus.h"
#include "base/num.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/hostile.h"
#include <string.h>

enum { VOCAB = 5 };

static const char tokenizer[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true}],"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],"
    "\"special_tokens\":{\"<s>\":{\"ids\":[0]}}},\"decoder\":{\"type\":\"Fuse\"},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<s>\",\"vocab\":{\"<s>\":0,\"a\":1,\"b\":2,\"ab\":3,\"\\n\":4},\"merges\":[\"a b\"]}}";

static void check(const qn_corpus *c, const qn_corpus_options *o)
{
    uint64_t n_scored = 0;
    QF_CHECK(c->n_chunks > 0 && c->starts[0] == 0 && c->starts[c->n_chunks] == c->n_tokens);
    QF_CHECK(!o->max_chunks || c->n_chunks <= o->max_chunks);
    for (uint64_t i = 0; i < c->n_chunks; i++) {
        const uint64_t len = c->starts[i + 1] - c->starts[i];
        QF_CHECK(len >= 2 && len <= c->context + c->documents && c->score_from[i] >= 1 && c->score_from[i] < len);
        n_scored += len - c->score_from[i];
    }
    QF_CHECK(n_scored == c->n_scored);
    for (uint64_t i = 0; i < c->n_tokens; i++)
        QF_CHECK(c->tokens[i] < VOCAB);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const names[4] = {"t.txt", "t.jsonl", "t.npy", "t.npy"};
    if (n < 2)
        return 0;
    qt_buf file = {0};
    const char *name = names[p[0] & 3];
    if ((p[0] & 3) == 2) { /* a good header: rank 1 or 2, of the type that the bits above choose */
        static const char *const types[4] = {"<u2", "<i4", "<i8", "|u1"};
        static const unsigned width[4] = {2, 4, 8, 1};
        char head[118];
        const unsigned t = p[0] >> 2 & 3, rows = p[0] & 16 ? 2 : 0;
        const size_t items = (n - 2) / width[t];
        if (rows)
            snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': False, 'shape': (%u, %zu), }", types[t], rows, items / rows);
        else
            snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': False, 'shape': (%zu,), }", types[t], items);
        qt_add(&file, "\x93NUMPY\1\0\x76\0", 10);
        qt_addf(&file, "%-117s\n", head);
        qt_add(&file, p + 2, (rows ? items / rows * rows : items) * width[t]);
    } else {
        qt_add(&file, p + 2, n - 2);
    }
    qt_files t;
    qt_counter c;
    qt_files_init(&t);
    qt_files_add(&t, "tokenizer.json", tokenizer, sizeof tokenizer - 1);
    qt_files_add(&t, name, file.p, file.n);
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    qn_err err = {.off = QN_NO_OFFSET};
    qn_tokenizer *tok;
    QF_CHECK(qn_tokenizer_open(&env, "tokenizer.json", &tok, &err) == QN_OK);
    const qn_corpus_options o = {.context = 2 + (p[1] & 15), .score_all = p[1] & 16, .separator = p[1] & 32 ? "ab" : NULL,
                                 .max_chunks = p[1] & 64 ? 3 : 0, .field = p[1] & 128 ? "a" : NULL};
    qn_corpus corpus;
    const qn_code rc = qn_corpus_open(&env, name, tok, VOCAB, &o, &corpus, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED || rc == QN_E_USAGE);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    if (rc == QN_OK) {
        check(&corpus, &o);
        qn_corpus_release(&corpus);
    }
    qn_tokenizer_close(tok);
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    qt_buf_free(&file);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[] = {
        "0\1abababab ba\nab",                                  /* text in chunks of 3 */
        ("0\x22" "ba aab abba ab\tab"),                          /* documents            */
        "1\x02{\"text\":\"abba\"}\n\n{\"text\":\"aab\\u0000b\"}\n",
        "1\x82{\"a\":\"bab\",\"b\":[1,2]}",
        "1\x02{\"text\":7}",
        "1\x02{\"text\":\"a",
        "\2\1\1\1\1\1\2\1\3\1",
        "\x1e\1\1\2\3\4\1\2\3\4",
        "\x1e\x21\1\2\3\4\1\2\3\4",
        "3\1\x93NUMPY\1",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
        emit(ctx, (const uint8_t *)seeds[i], strlen(seeds[i]));
}
