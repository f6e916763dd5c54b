/* test_sentencepiece.c: tokenizer.model end to end, with ids worked out by hand. */
#include "tests/support/sp_build.h"
#include "tests/support/proto.h"
#include <criterion/criterion.h>
#include <string.h>

#define SP "\xe2\x96\x81"

/* 0 <unk> 1 <s> 2 </s> 3 ▁ 4 a 5 b 6 c 7 ab 8 bc 9 abc 10 ▁a 11 aa */
static void bpe_pieces(qt_buf *b, int bc_type)
{
    qt_sp_piece(b, "<unk>", 0, QT_UNKNOWN);
    qt_sp_piece(b, "<s>", 0, QT_CONTROL);
    qt_sp_piece(b, "</s>", 0, QT_CONTROL);
    qt_sp_piece(b, SP, -5, QT_NORMAL);
    qt_sp_piece(b, "a", -6, QT_NORMAL);
    qt_sp_piece(b, "b", -7, QT_NORMAL);
    qt_sp_piece(b, "c", -8, QT_NORMAL);
    qt_sp_piece(b, "ab", -1, QT_NORMAL);
    qt_sp_piece(b, "bc", -0.5f, bc_type);
    qt_sp_piece(b, "abc", -3, QT_NORMAL);
    qt_sp_piece(b, SP "a", -2, QT_NORMAL);
    qt_sp_piece(b, "aa", -4, QT_NORMAL);
}

static qn_tokenizer *finish(qt_buf *b, const char *specs)
{
    uint64_t mark;
    qt_add_proto(b, specs, &mark);
    return qt_sp_open("tokenizer.model", b);
}

Test(tok_sentencepiece, bpe)
{
    qt_buf b = {0};
    bpe_pieces(&b, QT_NORMAL);
    qn_tokenizer *t = finish(&b, "@2{#3=2}");
    qt_sp_expect(t, 0, "abc", "10 8", "abc");        /* bc −0.5, then ▁a −2 before abc −3 */
    qt_sp_expect(t, 0, "aaa", "10 11", "aaa");
    qt_sp_expect(t, 0, "baaa", "3 5 11 4", "baaa");  /* of two equal pairs the left one */
    qt_sp_expect(t, 0, "  a   b ", "10 3 5", "a b");
    qt_sp_expect(t, 0, "xyb", "3 0 5", " \xe2\x81\x87 b"); /* the unknown in a row are one; ▁ is taken off in front */
    qt_sp_expect(t, 0, "<s>a", "3 0 4", NULL);       /* control pieces are not found in a text */
    qt_sp_expect(t, 0, "", "", "");
    qt_sp_expect(t, 0, "   ", "", "");
    qt_sp_expect(t, 0, "a" SP, "10", "a");           /* U+2581 at the end goes the way of a space */
    qt_sp_expect(t, 0, "a" SP "b", "10 3 5", "a b");
    cr_expect_eq(qn_tokenizer_size(t), 12);
    cr_expect_eq(qn_tokenizer_bos(t), 1);
    cr_expect_eq(qn_tokenizer_eos(t), 2);
    cr_expect_eq(qn_tokenizer_find(t, "abc", 3), 9);
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

Test(tok_sentencepiece, whitespace)
{
    static const struct {
        const char *specs, *text, *ids, *back;
    } rows[] = {
        {"@2{#3=2} @3{#4=0}", " a  b ", "3 10 3 3 5 3", " a  b "},
        {"@2{#3=2} @3{#3=0}", "a b", "4 3 5", "a b"},
        {"@2{#3=2} @3{#3=0 #4=0}", " a", "10", " a"},
        {"@2{#3=2 #24=1}", "a b", "4 3 5 3", "a b "},
        {"@2{#3=2} @3{#5=0}", "a b", "0 4 0 5", NULL}, /* spaces stay spaces, which are no pieces here */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        qt_buf b = {0};
        bpe_pieces(&b, QT_NORMAL);
        qn_tokenizer *t = finish(&b, rows[i].specs);
        qt_sp_expect(t, 0, rows[i].text, rows[i].ids, rows[i].back);
        qn_tokenizer_close(t);
        qt_buf_free(&b);
    }
}

Test(tok_sentencepiece, user_defined)
{
    qt_buf b = {0};
    bpe_pieces(&b, QT_USER);
    qn_tokenizer *t = finish(&b, "@2{#3=2}");
    qt_sp_expect(t, 0, "abc", "10 8", "abc");
    qt_sp_expect(t, 0, "aabca", "10 4 8 4", "aabca"); /* nothing merges with bc, so aa is not tried across it */
    qt_sp_expect(t, 0, "ab", "3 7", "ab");            /* ab −1 before ▁a −2 */
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

/* bc is passed through on the way to abc, but does not come out. */
Test(tok_sentencepiece, unused)
{
    qt_buf b = {0};
    bpe_pieces(&b, QT_UNUSED);
    qn_tokenizer *t = finish(&b, "@2{#3=2}");
    qt_sp_expect(t, 0, "bc", "3 5 6", "bc");
    qt_sp_expect(t, 0, "abc", "10 5 6", "abc");
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

Test(tok_sentencepiece, bytes)
{
    qt_buf b = {0};
    bpe_pieces(&b, QT_NORMAL);
    qt_sp_bytes(&b); /* 12 … 267 */
    qn_tokenizer *t = finish(&b, "@2{#3=2 #35=1}");
    qt_sp_expect(t, 0, "\xc3\xa9", "3 207 181", "\xc3\xa9"); /* 12 + 0xc3, 12 + 0xa9 */
    qt_sp_expect(t, 0, "a\xff", "10 251 203 201", "a\xef\xbf\xbd");
    qt_sp_expect(t, 0, "\xe2\x82", "3 251 203 201 251 203 201", NULL); /* each byte of it alone */
    qt_sp_expect(t, 0, "<0x41>", "3 72 60 132 64 61 74", "<0x41>");
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

/* 0 <unk> 1 ▁ 2 a 3 b 4 ab 5 abc; unknown: −5 − 10 */
Test(tok_sentencepiece, unigram)
{
    qt_buf b = {0};
    qt_sp_piece(&b, "<unk>", 0, QT_UNKNOWN);
    qt_sp_piece(&b, SP, -3, QT_NORMAL);
    qt_sp_piece(&b, "a", -2, QT_NORMAL);
    qt_sp_piece(&b, "b", -2, QT_NORMAL);
    qt_sp_piece(&b, "ab", -4, QT_NORMAL);
    qt_sp_piece(&b, "abc", -5, QT_NORMAL);
    qn_tokenizer *t = finish(&b, "@2{#3=1}");
    qt_sp_expect(t, 0, "abc", "1 5", "abc");
    qt_sp_expect(t, 0, "ab", "1 4", "ab");     /* −4 either way: the one that begins further left */
    qt_sp_expect(t, 0, "ba", "1 3 2", "ba");
    qt_sp_expect(t, 0, "accb", "1 2 0 3", NULL);
    qt_sp_expect(t, 0, "c", "1 0", NULL);
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

/* A user-defined piece costs 0.1, so it wins over better scores. */
Test(tok_sentencepiece, unigram_user)
{
    qt_buf b = {0};
    qt_sp_piece(&b, "<unk>", 0, QT_UNKNOWN);
    qt_sp_piece(&b, SP, -3, QT_NORMAL);
    qt_sp_piece(&b, "a", -0.01f, QT_NORMAL);
    qt_sp_piece(&b, "b", -0.01f, QT_NORMAL);
    qt_sp_piece(&b, "aba", 0, QT_USER);
    qn_tokenizer *t = finish(&b, "@2{#3=1}");
    qt_sp_expect(t, 0, "aba", "1 2 3 2", "aba"); /* −0.03 against −0.1 */
    qn_tokenizer_close(t);
    qt_buf_free(&b);
    b = (qt_buf){0};
    qt_sp_piece(&b, "<unk>", 0, QT_UNKNOWN);
    qt_sp_piece(&b, SP, -3, QT_NORMAL);
    qt_sp_piece(&b, "a", -0.05f, QT_NORMAL);
    qt_sp_piece(&b, "b", -0.05f, QT_NORMAL);
    qt_sp_piece(&b, "aba", 0, QT_USER);
    t = finish(&b, "@2{#3=1}");
    qt_sp_expect(t, 0, "aba", "1 4", "aba");
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

Test(tok_sentencepiece, words_and_characters)
{
    qt_buf b = {0};
    qt_sp_piece(&b, "<unk>", 0, QT_UNKNOWN);
    qt_sp_piece(&b, SP "ab", 0, QT_NORMAL);
    qt_sp_piece(&b, "a", 0, QT_NORMAL);
    qt_sp_piece(&b, "b", 0, QT_NORMAL);
    qt_sp_piece(&b, SP, 0, QT_NORMAL);
    qt_sp_piece(&b, "ba", 0, QT_USER);
    const size_t n = b.n;
    qn_tokenizer *t = finish(&b, "@2{#3=3}");
    qt_sp_expect(t, 0, "ab c ab", "1 0 1", NULL);
    qn_tokenizer_close(t);
    b.n = n;
    t = finish(&b, "@2{#3=4}");
    qt_sp_expect(t, 0, "ab bax", "4 2 3 4 5 0", NULL);
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

/* The map has one rule, A → "b  "; its trie: unit 0 leads by 'A' to unit 1, whose value, position 0, stands in unit 2. */
Test(tok_sentencepiece, charsmap)
{
    qt_buf b = {0};
    bpe_pieces(&b, QT_NORMAL);
    qn_tokenizer *t = finish(&b, "@2{#3=2} @3{@2{0c000000 00000100 410d0000 00000080 'b  ' 00}}");
    qt_sp_expect(t, 0, "AcA", "3 5 3 3 6 5", "b  cb"); /* spaces of one replacement stay, but not at the end */
    qt_sp_expect(t, 0, "A c", "3 5 3 3 6", "b  c");     /* a space after a space goes */
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

Test(tok_sentencepiece, charsmap_malformed)
{
    static const struct {
        const char *map, *text;
    } rows[] = {
        {"'abcd'", "precompiled_charsmap of 4 bytes"},
        {"10000000 z8", "a trie of 16 bytes, 8 are there"},
        {"06000000 z9", "a trie of 6 bytes"},
        {"00000000 z9", "a trie of 0 bytes"},
        {"04000000 z4 'ab'", "its last replacement has no end"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        qt_buf b = {0};
        char specs[128];
        uint64_t mark;
        qn_err err = {0};
        bpe_pieces(&b, QT_NORMAL);
        snprintf(specs, sizeof specs, "@2{#3=2} @3{@2{%s}}", rows[i].map);
        qt_add_proto(&b, specs, &mark);
        const qn_code rc = qt_sp_try("tokenizer.model", &b, &err);
        cr_expect(qt_err_is(rows[i].map, &err, rc, QN_E_INPUT, QN_NO_OFFSET, "", rows[i].text));
        qt_buf_free(&b);
    }
}

/* Tries that lead outside: units, values. Such a rule does not apply; nothing is read out of bounds (the sanitizers look). */
Test(tok_sentencepiece, charsmap_outside)
{
    static const char *const maps[] = {"0c000000 000000ff 410d0000 00000080 'b' 00", "0c000000 00000100 41fdff7f 00000080 'b' 00",
                                       "0c000000 00000100 410d0000 09000080 'b' 00", "0c000000 00000100 410d0000 00000080"};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        qt_buf b = {0};
        char specs[128];
        bpe_pieces(&b, QT_NORMAL);
        snprintf(specs, sizeof specs, "@2{#3=2} @3{@2{%s}}", maps[i]);
        qn_tokenizer *t = finish(&b, specs);
        qt_sp_expect(t, 0, "Ab", "3 0 5", NULL);
        qn_tokenizer_close(t);
        qt_buf_free(&b);
    }
}

/* Time per byte must not grow with the text: one piece of a million equal characters. */
Test(tok_sentencepiece, long_text)
{
    qt_buf b = {0};
    qn_tokens got = {0};
    qn_err err = {0};
    bpe_pieces(&b, QT_NORMAL);
    qn_tokenizer *t = finish(&b, "@2{#3=2}");
    char *text = malloc(1000000);
    cr_assert_not_null(text);
    memset(text, 'a', 1000000);
    const double from = qt_cpu_ms();
    cr_assert_eq(qn_tokenizer_encode(t, text, 1000000, 0, &got, &err), QN_OK);
    cr_expect_lt(qt_cpu_ms() - from, 2000 * qt_slack());
    cr_expect_eq(got.n, 500001); /* ▁a, 499 999 times aa, a */
    cr_expect(got.ids[0] == 10 && got.ids[1] == 11 && got.ids[500000] == 4);
    free(text);
    qn_tokens_release(&got, NULL);
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}
