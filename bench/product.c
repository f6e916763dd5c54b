/* product.c: y = W x with packed grid codes, against a read of as many bytes. Markdown on stdout.
 *
 *     bench/product [MB] [ROUNDS]       of codes and scales, 256 without it; at least 4 times the last cache
 *
 * Chunks of 1024 rows of 4096, groups of 32, random codes. GB/s: codes and scales that were read, by CPU time of each thread, the
 * sum over threads; rounds of product and plain read alternate, the best of each counts. "of read": their ratio. */
#include "base/alloc.h"
#include "base/cpu.h"
#include "base/num.h"
#include "bench/must.h"
#include "bench/timing.h"
#include "runtime/grid.h"
#include "runtime/product.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 1024, COLS = 4096, GROUP = 32, N = ROWS * COLS, THREADS = 2 };

struct part {
    const qn_product *p;
    unsigned from, to;
    const uint64_t *plain; /* as many bytes, anywhere */
    size_t n_bytes;
    const float *x;
    float *y;
    void *work;
    bool read;
    double sec;
    uint64_t sink;
};

static uint64_t next(uint64_t *s)
{
    return *s = *s * 6364136223846793005u + 1442695040888963407u;
}

/* Scales of about 1, codes at random: what they are does not matter for speed. */
static size_t make(unsigned bits, uint64_t *seed, uint8_t *p)
{
    const size_t scales = 2 * (size_t)N / GROUP, codes = (size_t)N * bits / 8;
    uint8_t *at = p;
    const uint8_t head[] = {(uint8_t)bits, QN_GRID_ZERO_MIDDLE, QN_GRID_PACKED, 0, GROUP, QN_CODEC_RAW};
    memcpy(at, head, sizeof head);
    at += sizeof head;
    size_t v = scales;
    for (; v >= 128; v >>= 7)
        *at++ = (uint8_t)(v | 128);
    *at++ = (uint8_t)v;
    for (size_t i = 0; i < scales; i += 2, at += 2)
        qn_store16(at, (uint16_t)(0x3c00 + (next(seed) >> 56)));
    for (size_t i = 0; i < codes; i++)
        *at++ = (uint8_t)(next(seed) >> 56);
    return (size_t)(at - p);
}

#if defined(__x86_64__)
__attribute__((target("avx2")))
#endif
static uint64_t read_all(const uint64_t *p, size_t n)
{
    uint64_t s[32] = {0};
    for (size_t i = 0; i + 32 <= n; i += 32)
        for (unsigned k = 0; k < 32; k++)
            s[k] ^= p[i + k];
    for (unsigned k = 1; k < 32; k++)
        s[0] ^= s[k];
    return s[0];
}

static void *run(void *arg)
{
    struct part *t = arg;
    const double begin = bench_cpu_now();
    if (t->read)
        t->sink += read_all(t->plain, t->n_bytes / 8);
    for (unsigned c = t->from; !t->read && c < t->to; c++) {
        t->p[c].load(&t->p[c], t->x, t->work);
        t->p[c].rows_of(&t->p[c], t->work, 0, ROWS, t->y);
    }
    t->sec = bench_cpu_now() - begin;
    return NULL;
}

/* GB/s of all threads together. */
static double rate(struct part *t, unsigned n, bool read)
{
    pthread_t id[THREADS];
    double sum = 0;
    for (unsigned i = 0; i < n; i++) {
        t[i].read = read;
        if (pthread_create(&id[i], NULL, run, &t[i]))
            abort();
    }
    for (unsigned i = 0; i < n; i++) {
        pthread_join(id[i], NULL);
        sum += (double)t[i].n_bytes / t[i].sec * 1e-9;
    }
    return sum;
}

static void one(unsigned bits, unsigned cpu, size_t want, unsigned rounds)
{
    const size_t payload = (size_t)N * bits / 8 + 2 * (size_t)N / GROUP + 64;
    const unsigned n_chunks = (unsigned)(want / payload + 2) / 2 * 2;
    qn_product *p = must_get(n_chunks * sizeof *p);
    float *x = must_get(COLS * sizeof *x), *y = must_get(ROWS * sizeof *y);
    uint64_t seed = 1;
    qn_kern k;
    qn_arena keep, scratch;
    qn_arena_init(&keep, NULL);
    qn_arena_init(&scratch, NULL);
    qn_kern_init(&k, cpu);
    const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch};
    const qn_block b = {QN_F32, N, COLS};
    uint8_t *first = must_get(payload);
    const size_t n_bytes = make(bits, &seed, first);
    for (unsigned c = 0; c < n_chunks; c++) {
        uint8_t *own = qn_arena_get(&keep, n_bytes, 64, NULL);
        memcpy(own, first, n_bytes);
        must(qn_product_prepare(&cx, QN_CODEC_GRID, &b, own, n_bytes, &keep, &p[c], NULL));
        qn_arena_reset(&scratch);
    }
    for (uint32_t j = 0; j < COLS; j++)
        x[j] = (float)(next(&seed) >> 40) * 0x1p-23f - 1;
    const size_t all = p[0].n_bytes * n_chunks;
    uint64_t *plain = must_get(all);
    memset(plain, 1, all);
    printf("| %u | %.2f | %s |", bits, (double)p[0].n_bytes * 8 / N, qn_cpu_name(cpu));
    for (unsigned n = 1; n <= THREADS; n++) {
        struct part t[THREADS];
        double product = 0, read = 0;
        for (unsigned i = 0; i < n; i++)
            t[i] = (struct part){.p = p, .from = n_chunks * i / n, .to = n_chunks * (i + 1) / n, .plain = plain + all / 8 / n * i,
                                 .n_bytes = all / n, .x = x, .y = n == 1 ? y : must_get(ROWS * sizeof *y), .work = must_get(p[0].work_bytes)};
        for (unsigned r = 0; r < rounds; r++) {
            const double a = rate(t, n, false), c = rate(t, n, true);
            product = a > product ? a : product;
            read = c > read ? c : read;
        }
        for (unsigned i = 0; i < n; i++) {
            free(t[i].work);
            if (n > 1)
                free(t[i].y);
        }
        printf(" %.1f | %.1f | %.1f | %.2f |", product / ((double)p[0].n_bytes / N), product, read, product / read);
    }
    printf("\n");
    fflush(stdout);
    free(p);
    free(x);
    free(y);
    free(plain);
    free(first);
    qn_arena_release(&keep);
    qn_arena_release(&scratch);
}

int main(int argc, char **argv)
{
    const size_t want = (argc > 1 ? strtoul(argv[1], NULL, 10) : 256) << 20;
    const unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 5;
    const unsigned cpus[] = {0, QN_CPU_AVX2, QN_CPU_AVX2 | QN_CPU_AVX512};
    printf("| bits | with scales | kernels | 1 thread Gw/s | GB/s | read GB/s | of read | %d threads Gw/s | GB/s | read GB/s | of read |\n"
           "|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|\n", THREADS);
    for (unsigned c = 3; c-- > 0;)
        for (unsigned bits = 2; bits <= 8; bits++)
            if ((cpus[c] & ~qn_cpu_detect()) == 0 && (cpus[c] || bits == 4))
                one(bits, cpus[c], cpus[c] ? want : want / 16, cpus[c] ? rounds : 1);
    return 0;
}
