/* dump_tokens.c: the ids of a text, for a script that compares them with another implementation's.
 *
 * usage: dump-tokens TOKENIZER TEXT CHUNK_BYTES OUT
 *
 * The text is cut behind the first line break at or after CHUNK_BYTES, and so on; each chunk is tokenized by itself. OUT: for
 * each chunk u32 number of ids, the ids, u32 bytes of the decoded text, the text. On stdout: seconds for encoding alone. */
#include "analysis/tokenize/tokenizer.h"
#include "base/env.h"
#include "base/num.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int fail(const qn_err *err)
{
    char line[1024];
    qn_err e = *err;
    (void)snprintf(line, sizeof line, "%s: %s", e.path, e.text);
    fprintf(stderr, "%s\n", line);
    return 1;
}

static void put32(FILE *f, uint64_t v)
{
    uint8_t b[4];
    qn_store32(b, (uint32_t)v);
    if (fwrite(b, 1, 4, f) != 4)
        exit(1);
}

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0)
        exit(1);
    *n = (size_t)ftell(f);
    rewind(f);
    char *p = malloc(*n + 1);
    if (!p || fread(p, 1, *n, f) != *n)
        exit(1);
    fclose(f);
    return p;
}

int main(int argc, char **argv)
{
    qn_env env;
    qn_err err = {.code = QN_OK};
    qn_tokenizer *t;
    if (argc != 5 || qn_env_init(&env, &err) != QN_OK)
        return 2;
    if (qn_tokenizer_open(&env, argv[1], &t, &err) != QN_OK)
        return fail(&err);
    size_t n;
    char *text = slurp(argv[2], &n);
    const size_t chunk = strtoull(argv[3], NULL, 10);
    FILE *out = fopen(argv[4], "wb");
    double seconds = 0;
    if (!out)
        return 1;
    for (size_t at = 0; at < n;) {
        size_t end = n - at > chunk ? at + chunk : n;
        const char *nl = end < n ? memchr(text + end, '\n', n - end) : NULL;
        end = nl ? (size_t)(nl - text) + 1 : n;
        qn_tokens ids = {.n = 0};
        char *back = NULL;
        uint64_t n_back = 0, cap = 0;
        const double began = now();
        if (qn_tokenizer_encode(t, text + at, end - at, QN_TOKENIZE_SPECIAL, &ids, &err) != QN_OK)
            return fail(&err);
        seconds += now() - began;
        if (qn_tokenizer_decode(t, ids.ids, ids.n, true, &back, &n_back, &cap, &err) != QN_OK)
            return fail(&err);
        put32(out, ids.n);
        for (uint64_t i = 0; i < ids.n; i++)
            put32(out, ids.ids[i]);
        put32(out, n_back);
        if (n_back && fwrite(back, 1, n_back, out) != n_back)
            return 1;
        qn_tokens_release(&ids, env.alloc);
        qn_mem_put(env.alloc, back);
        at = end;
    }
    if (fclose(out) != 0)
        return 1;
    printf("%.6f\n", seconds);
    free(text);
    qn_tokenizer_close(t);
    return 0;
}
