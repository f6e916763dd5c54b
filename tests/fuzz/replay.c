/* replay.c: runs a fuzz target without libFuzzer.
 *
 *   PROGRAM [FOLDER …]         seeds, all their prefixes, QUERN_FUZZ_ROUNDS mutations each (2000), files of the folders
 *   PROGRAM --seeds FOLDER     writes the seeds there, for libFuzzer to start from */
#define _GNU_SOURCE
#include "tests/fuzz/fuzz.h"
#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <time.h>

struct tally {
    uint64_t n_seeds, n_runs, n_files, rounds, state;
    const char *dir;
};

static const uint8_t *now;
static size_t n_now;

/* What was running, as \x…, so that a finding can become a regression file. */
static void on_abort(int sig)
{
    (void)sig;
    for (size_t i = 0; i < n_now && i < 8192; i++)
        fprintf(stderr, now[i] >= 0x20 && now[i] < 0x7f && now[i] != '\\' ? "%c" : "\\x%02x", now[i]);
    fprintf(stderr, "\n");
    signal(SIGABRT, SIG_DFL);
    abort();
}

/* Input in a block of exactly its size, so that a sanitizer sees a read past the end. */
static void run(struct tally *t, const uint8_t *p, size_t n)
{
    uint8_t *exact = calloc(1, n ? n : 1);
    if (!exact)
        abort();
    if (n)
        memcpy(exact, p, n);
    now = exact;
    n_now = n;
    (void)LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    t->n_runs++;
}

static uint64_t next(struct tally *t)
{
    uint64_t z = t->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static size_t mutate(struct tally *t, uint8_t *p, size_t n, size_t cap)
{
    const size_t at = n ? next(t) % n : 0;
    if (n == 0)
        return 0;
    switch (next(t) % 7) {
    case 0:
        p[at] ^= (uint8_t)(1u << next(t) % 8);
        return n;
    case 1:
        p[at] = (uint8_t)next(t);
        return n;
    case 2:
        p[at] = (uint8_t)(p[at] + 1 - 2 * (next(t) % 2));
        return n;
    case 3: /* take a byte out */
        memmove(p + at, p + at + 1, n - at - 1);
        return n - 1;
    case 4: /* put one in */
        if (n == cap)
            return n;
        memmove(p + at + 1, p + at, n - at);
        p[at] = (uint8_t)next(t);
        return n + 1;
    case 5: /* a stretch again somewhere else */
        if (n > 8) {
            const size_t len = 1 + next(t) % 8, to = next(t) % (n - len), from = next(t) % (n - len);
            memmove(p + to, p + from, len);
        }
        return n;
    default:
        memset(p + at, next(t) % 2 ? 0xff : 0, n - at < 8 ? n - at : 1 + next(t) % 8);
        return n;
    }
}

static void on_seed(void *ctx, const uint8_t *p, size_t n)
{
    struct tally *t = ctx;
    t->n_seeds++;
    if (t->dir) {
        char path[4096];
        snprintf(path, sizeof path, "%s/seed-%03u", t->dir, (unsigned)t->n_seeds);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0)
            abort();
        return;
    }
    run(t, p, n);
    for (size_t cut = 0; cut < n; cut += n > 4096 ? n / 512 : 1)
        run(t, p, cut);
    uint8_t *m = malloc(n + 64);
    if (!m)
        abort();
    for (uint64_t r = 0; r < t->rounds; r++) {
        size_t len = n;
        memcpy(m, p, n);
        for (uint64_t k = 1 + next(t) % 4; k; k--)
            len = mutate(t, m, len, n + 64);
        run(t, m, len);
    }
    free(m);
}

static void run_file(struct tally *t, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return;
    uint8_t *p = malloc(16 << 20);
    const size_t n = p ? fread(p, 1, 16 << 20, f) : 0;
    fclose(f);
    run(t, p, n);
    free(p);
    t->n_files++;
}

static void run_dir(struct tally *t, const char *dir)
{
    DIR *d = opendir(dir);
    if (!d)
        return; /* no regressions yet */
    for (const struct dirent *e; (e = readdir(d));) {
        char path[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        run_file(t, path);
    }
    closedir(d);
}

int main(int argc, char **argv)
{
    const char *rounds = getenv("QUERN_FUZZ_ROUNDS");
    struct tally t = {.rounds = rounds ? strtoull(rounds, NULL, 10) : 2000, .state = 1};
    const clock_t begin = clock();
    signal(SIGABRT, on_abort);
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
        t.dir = argv[2];
    qf_seeds(on_seed, &t);
    for (int i = 1; i < argc && !t.dir; i++)
        run_dir(&t, argv[i]);
    const double s = (double)(clock() - begin) / CLOCKS_PER_SEC;
    printf("%llu seeds, %llu files, %llu inputs, %.0f a second\n", (unsigned long long)t.n_seeds,
           (unsigned long long)t.n_files, (unsigned long long)t.n_runs, s > 0 ? (double)t.n_runs / s : 0);
    return 0;
}
