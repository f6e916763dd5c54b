/* whole.c: the whole command on checkpoints of some GiB: CPU time, wall time and peak memory of `quern compress` and
 * `quern decompress`, as a Markdown table on stdout.
 *
 *     bench/whole QUERN SOURCE.safetensors WORK_DIR [GIB …] [--level LEVEL] [--threads N] [--stack BYTES]
 *
 * The checkpoint is made by tiling the tensors of a real bf16 file, and stacking copies of each matrix along its first dimension up
 * to the size that tensors have in checkpoints of this length; each copy gets other low mantissa bits, so that no two
 * are equal. `--stack BYTES` sets that size, 0: no stacking. Files are removed afterwards. */
#define _GNU_SOURCE
#include "base/num.h"
#include "bench/corpus.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct cost {
    double wall, user, sys;
    long peak_kib;
    int status;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* execv wants char *const and does not write through it. */
static struct cost run(const char *const argv[])
{
    union {
        const char *const *given;
        char *const *wanted;
    } args = {.given = argv};
    struct cost c = {0};
    struct rusage u;
    const double begin = now();
    const pid_t pid = fork();
    if (pid == 0) {
        execv(argv[0], args.wanted);
        _exit(127);
    }
    wait4(pid, &c.status, 0, &u);
    c.wall = now() - begin;
    c.user = (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec * 1e-6;
    c.sys = (double)u.ru_stime.tv_sec + (double)u.ru_stime.tv_usec * 1e-6;
    c.peak_kib = u.ru_maxrss;
    return c;
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Other values in the two lowest mantissa bits of four weights at once. */
static void noise(const uint8_t *src, uint8_t *dst, uint64_t n_bytes, uint64_t seed)
{
    for (uint64_t i = 0; i + 8 <= n_bytes; i += 8)
        qn_store64(dst + i, qn_load64(src + i) ^ (mix(seed + i) & 0x0003000300030003u));
    memcpy(dst + n_bytes / 8 * 8, src + n_bytes / 8 * 8, n_bytes % 8);
}

static uint64_t copies(const bench_tensor *t, uint64_t stack)
{
    return stack && t->rank > 1 ? qn_ceil_div(stack, t->n_bytes) : 1; /* biases and norms stay small */
}

static void make(const bench_corpus *c, const char *path, uint64_t want, uint64_t stack)
{
    uint64_t tile = 0, head = 0, largest = 0, seed = 0;
    for (size_t i = 0; i < c->n; i++) {
        tile += c->t[i].n_bytes * copies(&c->t[i], stack);
        largest = qn_max_u64(largest, c->t[i].n_bytes);
    }
    const uint64_t tiles = qn_ceil_div(want, tile);
    char *json = malloc(tiles * c->n * 320 + 16);
    uint64_t at = 0;
    head += (uint64_t)sprintf(json + head, "{");
    for (uint64_t k = 0; k < tiles; k++)
        for (size_t i = 0; i < c->n; i++) {
            const uint64_t n = copies(&c->t[i], stack), n_bytes = n * c->t[i].n_bytes;
            head += (uint64_t)sprintf(json + head, "%s\"tile%llu.%s\":{\"dtype\":\"BF16\",\"shape\":[", at ? "," : "",
                                      (unsigned long long)k, c->t[i].name);
            for (unsigned d = 0; d < c->t[i].rank; d++)
                head += (uint64_t)sprintf(json + head, d ? ",%llu" : "%llu",
                                          (unsigned long long)(c->t[i].dims[d] * (d ? 1 : n)));
            head += (uint64_t)sprintf(json + head, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                                      (unsigned long long)(at + n_bytes));
            at += n_bytes;
        }
    head += (uint64_t)sprintf(json + head, "}");
    FILE *f = fopen(path, "wb");
    uint8_t b[8], *room = malloc(largest);
    qn_store64(b, head);
    if (!f || fwrite(b, 1, 8, f) != 8 || fwrite(json, 1, head, f) != head)
        exit(5);
    for (uint64_t k = 0; k < tiles; k++)
        for (size_t i = 0; i < c->n; i++)
            for (uint64_t n = copies(&c->t[i], stack); n > 0; n--) {
                noise(c->t[i].data, room, c->t[i].n_bytes, seed++ << 32);
                if (fwrite(room, 1, c->t[i].n_bytes, f) != c->t[i].n_bytes)
                    exit(5);
            }
    if (fclose(f) != 0)
        exit(5);
    free(room);
    free(json);
}

static bool same_files(const char *a, const char *b, uint64_t *n_bytes)
{
    enum { N = 4 << 20 };
    FILE *fa = fopen(a, "rb"), *fb = fopen(b, "rb");
    char *pa = malloc(N), *pb = malloc(N);
    bool same = fa && fb;
    *n_bytes = 0;
    for (size_t n = N; same && n == N;) {
        n = fread(pa, 1, N, fa);
        same = fread(pb, 1, N, fb) == n && memcmp(pa, pb, n) == 0;
        *n_bytes += n;
    }
    free(pa);
    free(pb);
    if (fa)
        fclose(fa);
    if (fb)
        fclose(fb);
    return same;
}

static void print(const char *what, double gib, const struct cost *c, double ratio)
{
    printf("| %.2f GiB | %s | %.4f | %.2f | %.2f | %.2f | %ld |\n", gib, what, ratio, c->user / gib, c->sys / gib, c->wall / gib,
           c->peak_kib >> 10);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: whole QUERN SOURCE.safetensors WORK_DIR [GIB …] [--level fast|dense] [--threads N] [--stack BYTES]\n");
        return 2;
    }
    char in[4096], packed[4096], back[4096], level[64] = "--lossless=fast", threads[64] = "--threads=1";
    double sizes[16];
    uint64_t stack = 4 << 20;
    unsigned n_sizes = 0;
    for (int i = 4; i < argc; i++)
        if (strcmp(argv[i], "--level") == 0 && i + 1 < argc)
            snprintf(level, sizeof level, "--lossless=%s", argv[++i]);
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            snprintf(threads, sizeof threads, "--threads=%s", argv[++i]);
        else if (strcmp(argv[i], "--stack") == 0 && i + 1 < argc)
            stack = strtoull(argv[++i], NULL, 10);
        else if (n_sizes < 16)
            sizes[n_sizes++] = atof(argv[i]);
    if (n_sizes == 0)
        sizes[n_sizes++] = 1;
    qn_env env;
    bench_corpus c = {0};
    if (qn_env_init(&env, NULL) != QN_OK || !bench_corpus_add(&c, &env, argv[2], "tile"))
        return 3;
    snprintf(in, sizeof in, "%s/whole.safetensors", argv[3]);
    snprintf(packed, sizeof packed, "%s/whole.quern", argv[3]);
    snprintf(back, sizeof back, "%s/whole.back.safetensors", argv[3]);
    printf("%s %s\n\n| input | command | size ÷ input | user s ÷ GiB | system s ÷ GiB | wall s ÷ GiB | peak MiB |\n"
           "| --- | --- | ---: | ---: | ---: | ---: | ---: |\n", level, threads);
    for (unsigned i = 0; i < n_sizes; i++) {
        const char *const pack[] = {argv[1], "compress", in, "-o", packed, level, threads, "--force", "--quiet", NULL};
        const char *const unpack[] = {argv[1], "decompress", packed, "-o", back, threads, "--force", "--quiet", NULL};
        uint64_t n_bytes = 0;
        make(&c, in, (uint64_t)(sizes[i] * (1u << 30)), stack);
        const struct cost a = run(pack);
        FILE *f = fopen(packed, "rb");
        if (a.status != 0 || !f || fseek(f, 0, SEEK_END) != 0)
            return 70;
        const double stored = (double)ftell(f);
        fclose(f);
        const struct cost b = run(unpack);
        const bool same = b.status == 0 && same_files(in, back, &n_bytes);
        const double gib = (double)n_bytes / (1u << 30);
        print("compress", gib, &a, stored / (double)n_bytes);
        print(same ? "decompress, identical" : "decompress, DIFFERS", gib, &b, 1);
        fflush(stdout);
        unlink(in);
        unlink(packed);
        unlink(back);
        if (!same)
            return 7;
    }
    bench_corpus_release(&c);
    return 0;
}
