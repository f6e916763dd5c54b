/* dump_ids.c: ids and the text they give back, for comparison with other tokenizers.
 *
 *   dump-ids FILE [special] [plain] [skip] [ids]
 *
 * stdin: texts, each as a u32 length and bytes. stdout: for each, u32 number of ids, the ids as u32, u32 length, the decoded text.
 * With "ids", the bytes of stdin are ids, and only the decoded text comes out. "skip": without special tokens. */
#include "analysis/tokenize/tokenizer_impl.h"
#include "base/env.h"
#include "base/err.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const qn_err *err)
{
    char line[512];
    qn_err_line(err, line, sizeof line);
    fprintf(stderr, "%s\n", line);
    return (int)err->code;
}

static void put(uint64_t n, const void *p, size_t size)
{
    const uint32_t count = (uint32_t)n;
    if (fwrite(&count, sizeof count, 1, stdout) != 1 || (n && fwrite(p, size, (size_t)n, stdout) != n))
        abort();
}

struct how {
    unsigned flags;
    bool skip, ids;
};

static qn_code one(const qn_tokenizer *t, const qn_env *env, const char *text, uint32_t n, struct how how, qn_err *err)
{
    qn_tokens ids = {0};
    char *back = NULL;
    uint64_t n_back = 0, cap = 0;
    qn_code rc = QN_OK;
    if (!how.ids) {
        rc = qn_tokenizer_encode(t, text, n, how.flags, &ids, err);
        if (rc == QN_OK)
            put(ids.n, ids.ids, sizeof *ids.ids);
    }
    for (uint32_t i = 0; how.ids && rc == QN_OK && i + 4 <= n; i += 4) {
        uint32_t id;
        memcpy(&id, text + i, sizeof id);
        rc = qn_tokens_put(&ids, env->alloc, id, err);
    }
    if (rc == QN_OK)
        rc = qn_tokenizer_decode(t, ids.ids, ids.n, how.skip, &back, &n_back, &cap, err);
    if (rc == QN_OK)
        put(n_back, back, 1);
    qn_tokens_release(&ids, env->alloc);
    qn_mem_put(env->alloc, back);
    return rc;
}

int main(int argc, char **argv)
{
    qn_err err = {0};
    qn_env env;
    qn_tokenizer *t;
    struct how how = {.flags = 0};
    uint32_t n;
    if (argc < 2)
        return QN_E_USAGE;
    for (int i = 2; i < argc; i++) {
        how.flags |= strcmp(argv[i], "special") == 0 ? QN_TOKENIZE_SPECIAL : 0;
        how.flags |= strcmp(argv[i], "plain") == 0 ? QN_TOKENIZE_PLAIN : 0;
        how.skip |= strcmp(argv[i], "skip") == 0;
        how.ids |= strcmp(argv[i], "ids") == 0;
    }
    if (qn_env_init(&env, &err) != QN_OK || qn_tokenizer_open(&env, argv[1], &t, &err) != QN_OK)
        return failed(&err);
    while (fread(&n, sizeof n, 1, stdin) == 1) {
        char *text = malloc((size_t)n + 1);
        if (!text || fread(text, 1, n, stdin) != n)
            abort();
        if (one(t, &env, text, n, how, &err) != QN_OK)
            return failed(&err);
        free(text);
    }
    qn_tokenizer_close(t);
    return 0;
}
