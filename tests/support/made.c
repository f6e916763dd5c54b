/* made.c: see made.h. */
#define _GNU_SOURCE
#include "tests/support/made.h"
#include "base/err.h"
#include "base/num.h"
#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[4096];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)st;
    (void)flag;
    (void)at;
    return remove(path);
}

static void remove_scratch(void)
{
    nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *qt_made_dir(void)
{
    if (scratch[0])
        return scratch;
    const char *tmp = getenv("TMPDIR");
    snprintf(scratch, sizeof scratch, "%s/quern-test-XXXXXX", tmp ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(scratch), "no scratch folder");
    atexit(remove_scratch);
    return scratch;
}

static struct kept {
    struct kept *next;
    void *p;
} *kept;

void *qt_made_keep(void *p)
{
    struct kept *k = malloc(sizeof *k);
    cr_assert_not_null(k);
    *k = (struct kept){kept, p};
    kept = k;
    return p;
}

const char *qt_made_path(const char *name)
{
    char *p;
    cr_assert_geq(asprintf(&p, "%s/%s", qt_made_dir(), name), 0);
    return qt_made_keep(p);
}

const char *qt_made_file(const char *rel, const void *data, size_t n_bytes)
{
    const char *path = qt_made_path(rel);
    char *dir = strdup(path), *slash = strrchr(dir, '/');
    *slash = '\0';
    (void)mkdir(dir, 0700); /* one level is enough here; it may be there */
    free(dir);
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f, "%s", path);
    cr_assert_eq(fwrite(data, 1, n_bytes, f), n_bytes);
    cr_assert_eq(fclose(f), 0);
    return path;
}

const char *qt_made_safetensors(const char *rel, const qt_made_tensor *t, unsigned n, const char *note)
{
    char *text;
    size_t n_text;
    uint64_t at = 0;
    FILE *m = open_memstream(&text, &n_text);
    fprintf(m, "{");
    if (note)
        fprintf(m, "\"__metadata__\":{\"note\":\"%s\"}%s", note, n ? "," : "");
    for (unsigned i = 0; i < n; i++) {
        uint64_t elems, bytes;
        cr_assert(qn_shape_bytes(t[i].dtype, t[i].dims, t[i].rank, &elems, &bytes));
        fprintf(m, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", t[i].name, qn_dtype_name(t[i].dtype));
        for (unsigned d = 0; d < t[i].rank; d++)
            fprintf(m, "%s%llu", d ? "," : "", (unsigned long long)t[i].dims[d]);
        fprintf(m, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)(at + bytes));
        at += bytes;
    }
    fprintf(m, "}");
    fclose(m);
    char *file;
    size_t n_file;
    uint8_t head[8];
    qn_store64(head, n_text);
    m = open_memstream(&file, &n_file);
    fwrite(head, 1, 8, m);
    fwrite(text, 1, n_text, m);
    for (unsigned i = 0; i < n; i++) {
        uint64_t elems, bytes;
        cr_assert(qn_shape_bytes(t[i].dtype, t[i].dims, t[i].rank, &elems, &bytes));
        if (bytes)
            fwrite(t[i].data, 1, bytes, m);
    }
    fclose(m);
    const char *path = qt_made_file(rel, file, n_file);
    free(text);
    free(file);
    return path;
}

const qn_env *qt_made_env(unsigned n_threads)
{
    static qn_env envs[8];
    qn_env *env = &envs[n_threads % 8];
    cr_assert_eq(qn_env_init(env, NULL), QN_OK);
    env->n_threads = n_threads;
    return env;
}

static uint64_t n_requests, failing;

static void *get(void *ctx, size_t n)
{
    (void)ctx;
    return ++n_requests == failing ? NULL : aligned_alloc(64, (n + 63) / 64 * 64);
}

static void put(void *ctx, void *p)
{
    (void)ctx;
    free(p);
}

const qn_env *qt_made_env_short(uint64_t nth)
{
    static const qn_alloc heap = {.get = get, .put = put};
    static qn_env env;
    cr_assert_eq(qn_env_init(&env, NULL), QN_OK);
    env.n_threads = 1;
    env.alloc = &heap;
    n_requests = 0;
    failing = nth;
    return &env;
}

bool qt_made_memory_failed(void)
{
    return failing && n_requests >= failing;
}

qn_source *qt_made_open(const qn_env *env, const char *path)
{
    qn_err err;
    char line[600];
    qn_source *s;
    qn_err_clear(&err);
    const qn_code rc = qn_source_open(env, path, &s, &err);
    qn_err_line(&err, line, sizeof line);
    cr_assert_eq(rc, QN_OK, "%s", line);
    return s;
}
