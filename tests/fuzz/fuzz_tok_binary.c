/* fuzz_tok_binary.c: any bytes as tokenizer.model, or as a GGUF file with a tokenizer in it; which of them the first byte says. What
 * loads must give ids that have tokens, the same each time and with the text in one piece or not, and text for them. */
#include "analysis/tokenize/tokenizer.h"
#include "base/err.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/gguf_build.h"
#include "tests/support/proto.h"
#include <string.h>

#define SP "\xe2\x96\x81"

static void use(const qn_tokenizer *t, const void *text, size_t n, unsigned flags, const qn_alloc *alloc)
{
    qn_tokens a = {.n = 0}, b = {.n = 0};
    qn_err err = {0};
    char *back = NULL;
    uint64_t n_back = 0, cap = 0;
    size_t len;
    qn_code rc = qn_tokenizer_encode(t, text, n, flags, &a, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_UNSUPPORTED); /* a part that has no token, where there is no unknown one */
    if (rc == QN_OK) {
        QF_CHECK(qn_tokenizer_encode(t, text, n, flags, &b, &err) == QN_OK);
        QF_CHECK(a.n == b.n && (a.n == 0 || memcmp(a.ids, b.ids, a.n * sizeof *a.ids) == 0));
        for (uint64_t i = 0; i < a.n; i++)
            QF_CHECK(a.ids[i] < qn_tokenizer_size(t) && qn_tokenizer_token(t, a.ids[i], &len));
        QF_CHECK(qn_tokenizer_decode(t, a.ids, a.n, (flags & QN_TOKENIZE_PLAIN) != 0, &back, &n_back, &cap, &err) == QN_OK);
    }
    qn_mem_put(alloc, back);
    qn_tokens_release(&a, alloc);
    qn_tokens_release(&b, alloc);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char fixed[] = "Hello  ab" SP "abba <s> 123 \xe4\xbd\xa0 e\xcc\x81 \xff\xf0\x9f\x98\n\n\t A\0bc";
    qt_files files;
    qt_counter counter;
    qn_tokenizer *t = NULL;
    qn_err err = {0};
    const char *name = n && p[0] & 1 ? "m.gguf" : "m/tokenizer.model";
    const char *path = n && p[0] & 1 ? "m.gguf" : "m";
    qt_files_init(&files);
    qt_files_add(&files, name, n ? p + 1 : p, n ? n - 1 : 0);
    qt_counter_init(&counter);
    const qn_env env = qt_env(&files, &counter);
    const qn_code rc = qn_tokenizer_open(&env, path, &t, &err);
    QF_CHECK(rc == QN_OK || ((rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED) && err.text[0] && err.path[0]));
    QF_CHECK(files.n_open == 0);
    if (rc == QN_OK) {
        use(t, fixed, sizeof fixed - 1, QN_TOKENIZE_SPECIAL, env.alloc);
        use(t, p, n, QN_TOKENIZE_PLAIN, env.alloc);
    }
    qn_tokenizer_close(t);
    QF_CHECK(counter.live == 0);
    return 0;
}

#define K "\"tokenizer.ggml."
#define TOKENS K "tokens\" i9 i8 q7 \"<unk>\" \"<s>\" \"</s>\" \"" SP "\" \"a\" \"b\" \"ab\" "
#define SCORES K "scores\" i9 i6 q7 i0 i0 i0 i0xc0000000 i0xbf800000 i0xbf800000 i0xbf000000 "

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const models[] = {
        "@1{@1{'<unk>'} #3=2} @1{@1{'<s>'} #3=3} @1{@1{'a'} %2=3212836864} @1{@1{'b'}} @1{@1{'ab'}} @1{@1{'bc'} #3=4} @2{#3=2 #24=1}",
        "@1{@1{'<unk>'} #3=2} @1{@1{'a'} %2=3212836864} @1{@1{'ab'} #3=5} @1{@1{'abb'}} @2{#3=2} @3{#4=0 #5=0}",
        "@1{@1{'<unk>'} #3=2} @1{@1{'a'} %2=3212836864} @1{@1{'ab'} #3=4} @1{@1{'abb'}} @3{@2{0c000000 00000100 410d0000 00000080 'b' 00}}",
        "@1{@1{'<unk>'} #3=2} @1{@1{'a'}} @2{#3=3} @5{@2{0c000000 00000100 610d0000 00000080 'b' 00}}",
        "@1{@1{'<unk>'} #3=2} @1{@1{'a'}} @2{#3=4}",
    };
    static const char *const files[] = {
        "GGUF i3 q0 q5 " K "model\" i8 \"llama\" " TOKENS SCORES K "token_type\" i9 i5 q7 i2 i3 i3 i1 i1 i1 i4 " K "add_eos_token\" i7 b1",
        "GGUF i3 q0 q5 " K "model\" i8 \"t5\" " TOKENS SCORES K "remove_extra_whitespaces\" i7 b1 "
        K "precompiled_charsmap\" i9 i0 q18 b12 b0 b0 b0 b0 b0 b1 b0 b65 b13 b0 b0 b0 b0 b0 b128 b98 b0",
        "GGUF i3 q0 q6 " K "model\" i8 \"gpt2\" " TOKENS K "merges\" i9 i8 q1 \"a b\" " K "pre\" i8 \"qwen2\" "
        K "bos_token_id\" i4 i1 " K "add_bos_token\" i7 b1",
        "GGUF i3 q0 q5 " K "model\" i8 \"bert\" " TOKENS K "unknown_token_id\" i4 i0 " K "bos_token_id\" i4 i1 "
        K "seperator_token_id\" i4 i2",
    };
    for (size_t i = 0; i < sizeof models / sizeof *models + sizeof files / sizeof *files; i++) {
        const bool gguf = i >= sizeof models / sizeof *models;
        qt_buf b = {0};
        uint64_t mark;
        qt_add(&b, gguf ? "\1" : "\0", 1);
        if (gguf)
            qt_add_gguf(&b, files[i - sizeof models / sizeof *models], &mark);
        else
            qt_add_proto(&b, models[i], &mark);
        emit(ctx, b.p, b.n);
        qt_buf_free(&b);
    }
}
