/* bench_fast.c: speed of the fast codec as a ratio to memcpy, and its size against the order-0
 * entropy.
 *
 *     bench_fast [weights a block] [MiB] [bf16|f16|f32] [scalar|avx2|avx512]
 *
 * Blocks of one buffer are encoded and decoded in turn; thread CPU time, best and median of several
 * passes. */
#include "base/cpu.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/encode.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PASSES = 15 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *what, double *secs, size_t n_bytes, double base, double *out)
{
    qsort(secs, PASSES, sizeof *secs, by_value);
    const double best = (double)n_bytes / secs[0] / 1e9,
                 median = (double)n_bytes / secs[PASSES / 2] / 1e9;
    printf("%-22s best %6.2f  median %6.2f GB/s", what, best, median);
    if (base > 0)
        printf("   %.2f x memcpy", median / base);
    printf("\n");
    if (out)
        *out = median;
}

/* Normal enough for speed: sum of eight bytes, scaled by a power of two chosen now and then. */
static uint64_t rng_state = 88172645463325252u;
static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static float normal(void)
{
    double v = 0;
    for (int i = 0; i < 3; i++) {
        const uint64_t w = rng();
        v += (double)(w & 0xffffffff) * 0x1p-32 + (double)(w >> 32) * 0x1p-32 +
             (double)(w >> 20 & 0xffffff) * 0x1p-24 - 1.5;
    }
    return (float)(v * 0.02);
}

int main(int argc, char **argv)
{
    const size_t per_block = argc > 1 ? strtoul(argv[1], NULL, 0) : 1u << 20,
                 mib = argc > 2 ? strtoul(argv[2], NULL, 0) : 128;
    const qn_dtype dtype = argc > 3 && strcmp(argv[3], "f32") == 0   ? QN_F32
                           : argc > 3 && strcmp(argv[3], "f16") == 0 ? QN_F16
                                                                     : QN_BF16;
    const size_t unit = dtype == QN_F32 ? 4 : 2, n_bytes = mib << 20, n = n_bytes / unit,
                 n_blocks = (n + per_block - 1) / per_block;
    uint8_t *src = aligned_alloc(64, n_bytes), *dst = aligned_alloc(64, n_bytes),
            *copy = aligned_alloc(64, n_bytes), *pay = aligned_alloc(64, n_bytes + 65536 * 64);
    size_t *at = calloc(n_blocks + 1, sizeof *at);
    int printed = 0;
    double secs[PASSES], mem = 0, counts[256] = {0};
    unsigned masks[] = {0, QN_CPU_AVX2, QN_CPU_AVX2 | QN_CPU_AVX512};
    if (!src || !dst || !copy || !pay || !at)
        return 6;
    for (size_t i = 0; i < n; i++) {
        const float v = normal();
        const uint32_t w = qn_f32_bits(v);
        counts[w >> 23 & 255]++;
        if (dtype == QN_F32)
            qn_store32(src + 4 * i, w);
        else
            qn_store16(src + 2 * i, dtype == QN_F16 ? qn_f32_to_f16(v) : qn_f32_to_bf16(v));
    }
    memset(dst, 1, n_bytes);
    memset(copy, 1, n_bytes);
    memset(pay, 1, n_bytes);
    for (int k = 0; k < PASSES; k++) {
        const double t = now();
        for (size_t b = 0; b < n_blocks; b++) {
            memcpy(copy + b * per_block * unit, src + b * per_block * unit,
                   (b + 1 < n_blocks ? per_block : n - b * per_block) * unit);
            __asm__ volatile("" ::"r"(copy) : "memory");
        }
        secs[k] = now() - t;
    }
    report("memcpy, block by block", secs, n_bytes, 0, &mem);
    for (int k = 0; k < PASSES; k++) {
        const double t = now();
        memcpy(copy, src, n_bytes);
        __asm__ volatile("" ::"r"(copy) : "memory");
        secs[k] = now() - t;
    }
    report("memcpy, at once", secs, n_bytes, 0, NULL);
    for (size_t m = 0; m < sizeof masks / sizeof masks[0]; m++) {
        if ((masks[m] & ~qn_cpu_detect()) ||
            (argc > 4 && strcmp(argv[4], qn_cpu_name(masks[m])) != 0))
            continue;
        qn_ekern ek;
        qn_kern kern;
        qn_arena scratch;
        char what[64];
        qn_err err = {0};
        qn_ekern_init(&ek, masks[m]);
        qn_kern_init(&kern, masks[m]);
        qn_arena_init(&scratch, NULL);
        const qn_enc_ctx ec = {
            .ekern = &ek, .kern = &kern, .scratch = &scratch, .level = QN_LEVEL_FAST};
        const qn_dec_ctx dc = {.kern = &kern, .scratch = &scratch};
        for (int k = 0; k < PASSES; k++) {
            const double t = now();
            for (size_t b = 0; b < n_blocks; b++) {
                size_t out;
                const uint32_t nb = (uint32_t)(b + 1 < n_blocks ? per_block : n - b * per_block);
                const qn_block blk = {dtype, nb, nb};
                qn_arena_reset(&scratch);
                if (qn_enc_fast(&ec, &blk, src + b * per_block * unit, pay + at[b],
                                (size_t)nb * unit, &out, &err) ||
                    !out)
                    return 70;
                at[b + 1] = at[b] + out;
            }
            secs[k] = now() - t;
        }
        if (!printed++)
            printf("ratio %.4f  %.4f bits/weight\n", (double)at[n_blocks] / (double)n_bytes,
                   8.0 * (double)at[n_blocks] / (double)n);
        snprintf(what, sizeof what, "encode %s", qn_cpu_name(masks[m]));
        report(what, secs, n_bytes, mem, NULL);
        for (int k = 0; k < PASSES; k++) {
            const double t = now();
            for (size_t b = 0; b < n_blocks; b++) {
                const uint32_t nb = (uint32_t)(b + 1 < n_blocks ? per_block : n - b * per_block);
                const qn_block blk = {dtype, nb, nb};
                qn_arena_reset(&scratch);
                if (qn_codec_decode(&dc, QN_CODEC_FAST, &blk, pay + at[b], at[b + 1] - at[b],
                                    dst + b * per_block * unit, &err)) {
                    fprintf(stderr, "%s\n", err.text);
                    return 70;
                }
            }
            secs[k] = now() - t;
        }
        snprintf(what, sizeof what, "decode %s", qn_cpu_name(masks[m]));
        report(what, secs, n_bytes, mem, NULL);
        if (memcmp(src, dst, n_bytes) != 0)
            return 70;
        qn_arena_release(&scratch);
    }
    return 0;
}
