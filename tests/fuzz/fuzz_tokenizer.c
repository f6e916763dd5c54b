/* fuzz_tokenizer.c: a tokenizer.json of any bytes, and a text of any bytes: what stands behind the first zero byte of the input, or
 * a fixed one. What loads must give ids that have tokens, the same each time, and text for them. */
#include "analysis/tokenize/tokenizer.h"
#include "base/err.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/hostile.h"
#include <string.h>

static void use(const qn_tokenizer *t, const char *text, size_t n, unsigned flags, const qn_alloc *alloc)
{
    qn_tokens a = {.n = 0}, b = {.n = 0};
    qn_err err;
    char *back = NULL;
    uint64_t n_back = 0, cap = 0;
    size_t len;
    qn_err_clear(&err);
    qn_code rc = qn_tokenizer_encode(t, text, n, flags, &a, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED); /* a word that a vocabulary lacks, a pattern that takes too long */
    if (rc == QN_OK) {
        QF_CHECK(qn_tokenizer_encode(t, text, n, flags, &b, &err) == QN_OK);
        QF_CHECK(a.n == b.n && (a.n == 0 || memcmp(a.ids, b.ids, a.n * sizeof *a.ids) == 0));
        for (uint64_t i = 0; i < a.n; i++)
            QF_CHECK(a.ids[i] < qn_tokenizer_size(t) && qn_tokenizer_token(t, a.ids[i], &len));
        rc = qn_tokenizer_decode(t, a.ids, a.n, false, &back, &n_back, &cap, &err);
        QF_CHECK(rc == QN_OK || rc == QN_E_INPUT);
    }
    qn_mem_put(alloc, back);
    qn_tokens_release(&a, alloc);
    qn_tokens_release(&b, alloc);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char fixed[] = "Hello  world's 123 \xe4\xbd\xa0\xe5\xa5\xbd e\xcc\x81 \xff\xf0\x9f\x98 <s>\n\n\t\xc2\x85" "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    qt_files files;
    qt_counter counter;
    qn_tokenizer *t = NULL;
    qn_err err;
    const uint8_t *zero = memchr(p, 0, n);
    const size_t n_json = zero ? (size_t)(zero - p) : n;
    qt_files_init(&files);
    qt_files_add(&files, "m/tokenizer.json", p, n_json);
    qt_counter_init(&counter);
    const qn_env env = qt_env(&files, &counter);
    qn_err_clear(&err);
    const qn_code rc = qn_tokenizer_open(&env, "m", &t, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED);
    QF_CHECK(rc == QN_OK || (err.text[0] && err.path[0]));
    QF_CHECK(files.n_open == 0);
    if (rc == QN_OK) {
        const char *text = zero ? (const char *)zero + 1 : fixed;
        const size_t n_text = zero ? n - n_json - 1 : sizeof fixed - 1;
        use(t, text, n_text, QN_TOKENIZE_SPECIAL, env.alloc);
        use(t, text, n_text, QN_TOKENIZE_PLAIN, env.alloc);
    }
    qn_tokenizer_close(t);
    QF_CHECK(counter.live == 0);
    return 0;
}

#define ADDED "\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true},{\"id\":1,\"content\":\"world\",\"single_word\":true," \
              "\"lstrip\":true,\"rstrip\":true,\"normalized\":true}]"
#define BPE "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<s>\",\"fuse_unk\":true,\"byte_fallback\":true,\"vocab\":{\"<s>\":0,\"world\":1,\"a\":2," \
            "\"aa\":3,\"l\":4,\"ll\":5,\"<0xFF>\":6,\" \":7,\"e\":8,\"el\":9},\"merges\":[\"a a\",[\"l\",\"l\"],\"e l\"]}"

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[] = {
        "{" ADDED "," BPE "}",
        "{" BPE ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":\"Lowercase\"},{\"type\":\"StripAccents\"},"
        "{\"type\":\"Strip\"},{\"type\":\"Nmt\"},{\"type\":\"BertNormalizer\"},{\"type\":\"Prepend\",\"prepend\":\"a\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"l\"},{\"type\":\"ByteLevel\"}]}}",
        "{" BPE ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{L}+|\\\\s+(?!\\\\S)|(?i:a[b-e])\"},"
        "\"behavior\":\"MergedWithNext\",\"invert\":true},{\"type\":\"Digits\"},{\"type\":\"Punctuation\"},{\"type\":\"FixedLength\",\"length\":3},"
        "{\"type\":\"Metaspace\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":true}]}}",
        "{" BPE ",\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"l+\"},\"content\":\"\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":1},"
        "{\"type\":\"Metaspace\"},{\"type\":\"WordPiece\"},{\"type\":\"BPEDecoder\"},{\"type\":\"ByteLevel\"},{\"type\":\"Fuse\"}]}}",
        "{" ADDED "," BPE ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":"
        "{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[0]}}}}",
        "{\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":{\"u\":0,\"123\":4}}}",
        "{\"model\":{\"end_of_word_suffix\":\"w\",\"continuing_subword_prefix\":\"#\",\"vocab\":{\"a\":0,\"#a\":1,\"aa\":2,\"#aw\":3},\"merges\":[\"a #a\"]}}",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++)
        emit(ctx, (const uint8_t *)seeds[i], strlen(seeds[i]));
}
