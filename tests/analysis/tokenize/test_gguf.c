/* test_gguf.c: tokenizers in GGUF files end to end, with ids worked out by hand; and malformed ones. */
#include "analysis/tokenize/tokenizer.h"
#include "tests/support/sp_build.h"
#include "tests/support/gguf_build.h"
#include <criterion/criterion.h>
#include <string.h>

#define SP "\xe2\x96\x81"
#define M(name)      "\"tokenizer.ggml.model\" i8 \"" name "\" "
#define ARRAY(k, t, n) "\"tokenizer.ggml." k "\" i9 i" t " q" n " "
#define ID(k, v)     "\"tokenizer.ggml." k "_token_id\" i4 i" v " "
#define FLAG(k, v)   "\"tokenizer.ggml." k "\" i7 b" v " "
#define HEAD(n)      "GGUF i3 q0 q" n " "
/* f32 bits */
#define F_0  "i0 "
#define F_1  "i0xbf800000 " /* −1   */
#define F_2  "i0xc0000000 " /* −2   */
#define F_05 "i0xbf000000 " /* −0.5 */

/* 0 <unk> 1 <s> 2 </s> 3 ▁ 4 a 5 b 6 ▁a 7 ab 8 <x> (user-defined) 9 <0x0A> */
#define LLAMA                                                                                                               \
    ARRAY("tokens", "8", "10") "\"<unk>\" \"<s>\" \"</s>\" \"" SP "\" \"a\" \"b\" \"" SP "a\" \"ab\" \"<x>\" \"<0x0A>\" "       \
    ARRAY("scores", "6", "10") F_0 F_0 F_0 F_2 F_2 F_2 F_1 F_05 F_0 F_0                                                      \
    ARRAY("token_type", "5", "10") "i2 i3 i3 i1 i1 i1 i1 i1 i4 i6 "

static qn_tokenizer *open_text(const char *text, qt_buf *b)
{
    uint64_t mark;
    qt_add_gguf(b, text, &mark);
    return qt_sp_open("m.gguf", b);
}

Test(tok_gguf, llama)
{
    qt_buf b = {0};
    qn_tokenizer *t = open_text(HEAD("4") M("llama") LLAMA, &b);
    qt_sp_expect(t, 0, "ab", "3 7", "ab");
    qt_sp_expect(t, QN_TOKENIZE_SPECIAL, "ab", "1 3 7", "<s>ab"); /* BOS unless the file says otherwise */
    qt_sp_expect(t, QN_TOKENIZE_SPECIAL, "", "1", NULL);
    qt_sp_expect(t, 0, " a", "3 6", " a");
    qt_sp_expect(t, 0, "a\nb", "6 9 5", "a\nb");
    qt_sp_expect(t, 0, "z", "3 0", NULL);                      /* no byte token for it */
    qt_sp_expect(t, 0, "a<x>a</s>b", "6 8 6 2 3 5", NULL);     /* a space comes after each token that was cut out */
    qt_sp_expect(t, QN_TOKENIZE_PLAIN, "a<x>", "6 8", NULL);   /* user-defined ones are cut out all the same */
    qt_sp_expect(t, QN_TOKENIZE_PLAIN, "<s>", "3 0 0 0", NULL);
    cr_expect_str_eq(qn_tokenizer_kind(t), "sentencepiece BPE");
    cr_expect(qn_tokenizer_bos(t) == 1 && qn_tokenizer_eos(t) == 2 && qn_tokenizer_size(t) == 10);
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

Test(tok_gguf, flags)
{
    qt_buf b = {0};
    qn_tokenizer *t = open_text(HEAD("9") M("llama") LLAMA FLAG("add_bos_token", "0") FLAG("add_eos_token", "1")
                                    FLAG("add_space_prefix", "0") ID("eos", "8") ID("bos", "99"), &b);
    qt_sp_expect(t, QN_TOKENIZE_SPECIAL, "ab", "7 8", NULL);
    qt_sp_expect(t, 0, "ab", "7", "ab");
    cr_expect_eq(qn_tokenizer_bos(t), 1, "an id that no token has is not taken");
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

/* 0 pad 1 </s> 2 <unk> 3 ▁ 4 a 5 ab 6 b */
Test(tok_gguf, t5)
{
    qt_buf b = {0};
    qn_tokenizer *t = open_text(
        HEAD("6") M("t5") ARRAY("tokens", "8", "7") "\"<pad>\" \"</s>\" \"<unk>\" \"" SP "\" \"a\" \"ab\" \"b\" "
        ARRAY("scores", "6", "7") F_0 F_0 F_0 F_2 F_1 F_2 F_1 ARRAY("token_type", "5", "7") "i3 i3 i2 i1 i1 i1 i1 "
        FLAG("add_space_prefix", "1") FLAG("remove_extra_whitespaces", "1"), &b);
    qt_sp_expect(t, QN_TOKENIZE_SPECIAL, "ab", "3 5 1", "ab</s>"); /* −2 either way */
    qt_sp_expect(t, 0, "  b  zz a", "3 6 3 2 3 4", NULL);
    cr_expect_str_eq(qn_tokenizer_kind(t), "unigram");
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

/* 0 a 1 b 2 Ġ 3 ab 4 Ġa 5 <e> */
#define GPT2(pre)                                                                                                   \
    M("gpt2") ARRAY("tokens", "8", "6") "\"a\" \"b\" \"\xc4\xa0\" \"ab\" \"\xc4\xa0" "a\" \"<e>\" "                      \
    ARRAY("token_type", "5", "6") "i1 i1 i1 i1 i1 i3 " ARRAY("merges", "8", "2") "\"a b\" \"\xc4\xa0 a\" "              \
    "\"tokenizer.ggml.pre\" i8 \"" pre "\" " ID("bos", "5") ID("eos", "5")

Test(tok_gguf, gpt2)
{
    static const struct {
        const char *file, *ids;
    } rows[] = {
        {HEAD("7") GPT2("gpt-2"), "3 2 3 4 5 0"},
        {HEAD("7") GPT2("llama-bpe"), "5 3 2 3 4 5 0"}, /* which has BOS unless told otherwise */
        {HEAD("7") GPT2("qwen2"), "3 2 3 4 5 0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        qt_buf b = {0};
        qn_tokenizer *t = open_text(rows[i].file, &b);
        qt_sp_expect(t, QN_TOKENIZE_SPECIAL, "ab ab a<e>a", rows[i].ids, NULL);
        qn_tokenizer_close(t);
        qt_buf_free(&b);
    }
}

/* 0 [UNK] 1 [CLS] 2 [SEP] 3 ▁un 4 able 5 ▁able 6 aff 7 ▁! */
Test(tok_gguf, bert)
{
    qt_buf b = {0};
    qn_tokenizer *t = open_text(
        HEAD("6") M("bert") ARRAY("tokens", "8", "8") "\"[UNK]\" \"[CLS]\" \"[SEP]\" \"" SP "un\" \"able\" \"" SP "able\" \"aff\" \"" SP
        "!\" " ARRAY("token_type", "5", "8") "i2 i3 i3 i1 i1 i1 i1 i1 " ID("unknown", "0") ID("bos", "1") ID("seperator", "2"), &b);
    qt_sp_expect(t, QN_TOKENIZE_SPECIAL, "Unaffable! able xyz unz", "1 3 6 4 7 5 0 0 2", NULL);
    qn_tokenizer_close(t);
    qt_buf_free(&b);
}

static const struct row {
    const char *name, *file;
    qn_code code;
    const char *text;
} bad[] = {
    {"no tokenizer", HEAD("1") "\"general.architecture\" i8 \"llama\"", QN_E_UNSUPPORTED, "has no tokenizer"},
    {"model a number", HEAD("1") "\"tokenizer.ggml.model\" i4 i1", QN_E_INPUT, "string is expected"},
    {"model unknown", HEAD("1") M("rwkv"), QN_E_UNSUPPORTED, "tokenizer 'rwkv' is not implemented"},
    {"no tokens", HEAD("1") M("llama"), QN_E_INPUT, "key 'tokenizer.ggml.tokens' is missing"},
    {"zero tokens", HEAD("2") M("llama") ARRAY("tokens", "8", "0"), QN_E_INPUT, "has 0 tokens"},
    {"tokens numbers", HEAD("2") M("llama") ARRAY("tokens", "4", "1") "i1", QN_E_INPUT, "an array of string is expected"},
    {"a token twice", HEAD("2") M("llama") ARRAY("tokens", "8", "3") "\"a\" \"b\" \"a\"", QN_E_INPUT,
     "token 'a' stands twice: as number 0 and 2"},
    {"too few types", HEAD("3") M("llama") ARRAY("tokens", "8", "2") "\"a\" \"b\" " ARRAY("token_type", "5", "1") "i1", QN_E_INPUT,
     "has 1 values for 2 tokens"},
    {"types of another kind", HEAD("3") M("llama") ARRAY("tokens", "8", "1") "\"a\" " ARRAY("token_type", "4", "1") "i1", QN_E_INPUT,
     "an array of i32 is expected"},
    {"too few scores", HEAD("3") M("llama") ARRAY("tokens", "8", "2") "\"a\" \"b\" " ARRAY("scores", "6", "1") F_0, QN_E_INPUT,
     "has 1 values for 2 tokens"},
    {"score NaN", HEAD("3") M("llama") ARRAY("tokens", "8", "1") "\"a\" " ARRAY("scores", "6", "1") "i0x7fc00000", QN_E_INPUT,
     "score of token 0 is not finite"},
    {"BOS wanted, none there", HEAD("3") M("t5") ARRAY("tokens", "8", "3") "\"a\" \"b\" \"c\" " FLAG("add_bos_token", "1"), QN_E_INPUT,
     "'tokenizer.ggml.bos_token_id' names none"},
    {"a flag a number", HEAD("3") M("llama") ARRAY("tokens", "8", "3") "\"a\" \"b\" \"c\" \"tokenizer.ggml.add_space_prefix\" i4 i1",
     QN_E_INPUT, "bool is expected"},
    {"pre unknown", HEAD("8") GPT2("nobody") "\"x\" i4 i1", QN_E_UNSUPPORTED, "pre-tokenizer 'nobody' is not known"},
    {"no merges", HEAD("2") M("gpt2") ARRAY("tokens", "8", "1") "\"a\"", QN_E_INPUT, "key 'tokenizer.ggml.merges' is missing"},
    {"merge of one", HEAD("3") M("gpt2") ARRAY("tokens", "8", "1") "\"a\" " ARRAY("merges", "8", "1") "\"aa\"", QN_E_INPUT,
     "number 0 is not two tokens"},
    {"merge of an unknown token", HEAD("3") M("gpt2") ARRAY("tokens", "8", "1") "\"a\" " ARRAY("merges", "8", "1") "\"a b\"",
     QN_E_INPUT, "'b'"},
    {"charsmap cut", HEAD("4") M("t5") ARRAY("tokens", "8", "3") "\"a\" \"b\" \"c\" " ARRAY("scores", "6", "3") F_0 F_0 F_0
     ARRAY("precompiled_charsmap", "0", "5") "z5", QN_E_INPUT, "precompiled_charsmap: a trie of 0 bytes"},
    {"charsmap of words", HEAD("3") M("t5") ARRAY("tokens", "8", "3") "\"a\" \"b\" \"c\" "
     ARRAY("precompiled_charsmap", "8", "1") "\"x\"", QN_E_INPUT, "an array of u8 is expected"},
    {"not a GGUF file", "'GGUX' z60", QN_E_INPUT, "not a GGUF file"},
    {"keys cut", HEAD("2") M("llama"), QN_E_INPUT, NULL},
};

Test(tok_gguf, malformed)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qt_buf b = {0};
        uint64_t mark;
        qn_err err = {0};
        qt_add_gguf(&b, bad[i].file, &mark);
        const qn_code rc = qt_sp_try("m.gguf", &b, &err);
        cr_expect(qt_err_is(bad[i].name, &err, rc, bad[i].code, err.off, "", bad[i].text), "%s", bad[i].name);
        cr_expect_str_eq(err.path, "m.gguf", "%s", bad[i].name);
        qt_buf_free(&b);
    }
}
