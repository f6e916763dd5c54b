/* test_models.c: Unigram, Precompiled and WordPiece in tokenizer.json, with ids worked out by hand; the trie under them. */
#include "analysis/tokenize/trie.h"
#include "tests/support/sp_build.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static qn_tokenizer *open_json(const char *text, qt_buf *b)
{
    qt_add(b, text, strlen(text));
    return qt_sp_open("tokenizer.json", b);
}

static void refused(const char *text, const char *why)
{
    qt_buf b = {0};
    qn_err err = {0};
    qt_add(&b, text, strlen(text));
    const qn_code rc = qt_sp_try("tokenizer.json", &b, &err);
    cr_expect(rc == QN_E_INPUT && strstr(err.text, why), "%d: %s, expected %s", rc, err.text, why);
    qt_buf_free(&b);
}

#define UNIGRAM(vocab, more) "{\"model\":{\"type\":\"Unigram\",\"vocab\":[" vocab "]" more "}}"
#define PIECES "[\"<unk>\",0],[\"a\",-1],[\"b\",-1],[\"ab\",-2],[\"abb\",-2.5]"

Test(tok_models, unigram)
{
    qt_buf b = {0};
    qn_tokenizer *t = open_json(UNIGRAM(PIECES, ",\"unk_id\":0"), &b);
    qt_sp_expect(t, 0, "ab", "3", NULL);      /* −2 either way: the piece that begins further left */
    qt_sp_expect(t, 0, "abb", "4", NULL);
    qt_sp_expect(t, 0, "axyb", "1 0 2", NULL);
    qt_sp_expect(t, 0, "a\xff", "1 0", NULL);
    cr_expect_str_eq(qn_tokenizer_kind(t), "unigram");
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

/* Bytes are spelled only when all of a piece's have tokens. */
Test(tok_models, unigram_bytes)
{
    qt_buf b = {0};
    qn_tokenizer *t = open_json(UNIGRAM(PIECES ",[\"<0xC3>\",-9],[\"<0xA9>\",-9]", ",\"unk_id\":0,\"byte_fallback\":true"), &b);
    qt_sp_expect(t, 0, "a\xc3\xa9", "1 5 6", NULL);
    qt_sp_expect(t, 0, "\xc3\xa8" "b", "0 2", NULL);
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

Test(tok_models, unigram_without_unknown)
{
    qt_buf b = {0};
    qn_tokens got = {0};
    qn_err err = {0};
    qn_tokenizer *t = open_json(UNIGRAM("[\"a\",-1]", ""), &b);
    qt_sp_expect(t, 0, "aa", "0 0", NULL);
    cr_expect_eq(qn_tokenizer_encode(t, "ab", 2, 0, &got, &err), QN_E_UNSUPPORTED);
    cr_expect(strstr(err.text, "no unknown token"), "%s", err.text);
    qn_tokens_release(&got, NULL);
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

Test(tok_models, unigram_refused)
{
    refused(UNIGRAM("[\"a\",-1]", ",\"unk_id\":1"), "unk_id 1, vocab has 1 pieces");
    refused(UNIGRAM("[\"a\",-1]", ",\"unk_id\":\"a\""), "unk_id");
    refused("{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":0}}}", "a list of pieces");
    refused("{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"DA*A\"},\"model\":{\"type\":\"Unigram\",\"vocab\":"
            "[[\"a\",-1]]}}", "not base64");
    refused("{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"DAAAAAA=\"},\"model\":{\"type\":\"Unigram\",\"vocab\":"
            "[[\"a\",-1]]}}", "a trie of 12 bytes, 1 are there");
}

/* One rule, A → b (the bytes 0c000000 00000100 410d0000 00000080 'b' 00). A cluster of fewer than 6 bytes that begins with a key is
 * replaced whole, its accent too. */
Test(tok_models, precompiled)
{
    qt_buf b = {0};
    qn_tokenizer *t = open_json("{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"DAAAAAAAAQBBDQAAAAAAgGIA\"},"
                                "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[" PIECES "]}}", &b);
    qt_sp_expect(t, 0, "aA", "3", NULL);
    qt_sp_expect(t, 0, "aA\xcc\x81" "b", "4", NULL);
    qt_sp_expect(t, 0, "A\xcc\x81\xcc\x81\xcc\x81", "2 0", NULL); /* 7 bytes: each character by itself */
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

#define WORDPIECE(more)                                                                                                       \
    "{\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\"" more                                       \
    ",\"vocab\":{\"[UNK]\":0,\"un\":1,\"##aff\":2,\"##able\":3,\"##a\":4,\"unaf\":5,\"a\":6,\"\xe4\xbd\xa0\":7,\"##\xe4\xbd\xa0\":8,\"-a\":9}}}"

Test(tok_models, wordpiece)
{
    qt_buf b = {0};
    qn_tokenizer *t = open_json(WORDPIECE(""), &b);
    qt_sp_expect(t, 0, "unaa", "1 4 4", NULL);
    qt_sp_expect(t, 0, "unaffable", "0", NULL); /* unaf first, then nothing fits: no second try with un */
    qt_sp_expect(t, 0, "unable a", "1 3 6", NULL);
    qt_sp_expect(t, 0, "\xe4\xbd\xa0\xe4\xbd\xa0", "7 8", NULL);
    qt_sp_expect(t, 0, "b unab ", "0 0", NULL);
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

/* The limit counts characters; another prefix; an unknown token that is not there fails only when it is needed. */
Test(tok_models, wordpiece_options)
{
    qt_buf b = {0};
    qn_tokens got = {0};
    qn_err err = {0};
    qn_tokenizer *t = open_json(WORDPIECE(",\"max_input_chars_per_word\":2"), &b);
    qt_sp_expect(t, 0, "\xe4\xbd\xa0\xe4\xbd\xa0 una", "7 8 0", NULL);
    qn_tokenizer_close(t);
    b.n = 0;
    t = open_json(WORDPIECE(",\"continuing_subword_prefix\":\"-\",\"unk_token\":\"x\""), &b);
    qt_sp_expect(t, 0, "una", "1 9", NULL);
    cr_expect_eq(qn_tokenizer_encode(t, "unaff", 5, 0, &got, &err), QN_E_UNSUPPORTED);
    qn_tokens_release(&got, NULL);
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

Test(tok_models, trie)
{
    qn_trie t;
    qn_err err = {0};
    uint32_t id = 0;
    cr_assert_eq(qn_trie_init(&t, NULL, 7, &err), QN_OK);
    char s[8];
    for (uint32_t i = 0; i < 5000; i++) { /* grows several times */
        const int n = snprintf(s, sizeof s, "%u", i);
        cr_assert_eq(qn_trie_add(&t, s, (uint64_t)n, i, &err), QN_OK);
    }
    qn_trie_seal(&t);
    for (uint32_t i = 0; i < 5000; i++) {
        const int n = snprintf(s, sizeof s, "%u", i);
        cr_assert(qn_trie_longest(&t, s, (uint64_t)n, &id) == (uint64_t)n && id == i);
    }
    cr_expect_eq(qn_trie_longest(&t, "49999", 5, &id), 4);
    cr_expect_eq(id, 4999);
    cr_expect_eq(qn_trie_longest(&t, "5000", 4, &id), 3);
    cr_expect_eq(qn_trie_longest(&t, "x", 1, &id), 0);
    cr_expect_eq(qn_trie_longest(&t, "1", 0, &id), 0);
    qn_trie_release(&t);
}
