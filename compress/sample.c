/* sample.c: see sample.h. */
#include "compress/sample.h"
#include "base/num.h"
#include <string.h>

uint32_t qn_log2_1024(uint32_t v)
{
    const uint32_t top = 31u - (uint32_t)__builtin_clz(v);
    /* f in 0 … 1 (as 0 … 1024) above the power of two: log2(1 + f) ≈ f + 0.343 f (1 − f) */
    const uint32_t f = (uint32_t)(((uint64_t)v << 10 >> top) - 1024);
    return top * 1024 + f + f * (1024 - f) * 351 / (1024 * 1024);
}

uint32_t qn_hist_entropy(const uint32_t hist[256], uint32_t total)
{
    uint64_t sum = 0;
    uint32_t seen = 0;
    if (total == 0)
        return 8192;
    for (unsigned i = 0; i < 256; i++)
        if (hist[i]) {
            sum += (uint64_t)hist[i] * qn_log2_1024(hist[i]);
            seen++;
        }
    const uint32_t flat = qn_log2_1024(total), mean = (uint32_t)(sum / total);
    const uint32_t h = (flat > mean ? flat - mean : 0) + (seen - 1) * 739 / total;
    return h < 8192 ? h : 8192;
}

enum { PLANE_RUN = 64, PLANE_RUNS = 32 };

size_t qn_sample_planes(const uint8_t *src, uint32_t n, unsigned unit)
{
    uint32_t hist[8][256];
    const uint32_t run = n < PLANE_RUN ? n : PLANE_RUN;
    const uint32_t n_runs = n / run < PLANE_RUNS ? n / run : PLANE_RUNS;
    memset(hist, 0, unit * sizeof hist[0]);
    for (uint32_t r = 0; r < n_runs; r++) {
        const uint8_t *p = src + (size_t)qn_sample_at(n, run, n_runs, r) * unit;
        for (uint32_t i = 0; i < run; i++)
            for (unsigned k = 0; k < unit; k++)
                hist[k][p[i * unit + k]]++;
    }
    uint64_t bits = 0; /* in 1/1024 a unit */
    for (unsigned k = 0; k < unit; k++)
        bits += qn_hist_entropy(hist[k], run * n_runs);
    return (size_t)(bits * n / 8192);
}

unsigned qn_sample_repeats(const uint8_t *src, size_t n_bytes)
{
    enum { WORDS = 256, SLOTS = 1024 };
    uint64_t slot[SLOTS] = {0};
    unsigned repeats = 0;
    if (n_bytes < 8 * WORDS)
        return 256; /* so small that anything may be tried */
    for (unsigned i = 0; i < WORDS; i++) {
        const uint64_t v = qn_load64(src + ((n_bytes - 8) / (WORDS - 1) * i & ~(size_t)7));
        const uint64_t key = v * 0x9e3779b97f4a7c15u | 1; /* odd: never the empty slot */
        uint32_t h = (uint32_t)(key >> 54);
        while (slot[h] && slot[h] != key)
            h = (h + 1) % SLOTS;
        repeats += slot[h] == key;
        slot[h] = key;
    }
    return repeats;
}

unsigned qn_sample_zeros(const uint8_t *src, uint32_t n, unsigned unit)
{
    enum { RUN = 32, RUNS = 32 };
    const uint32_t run = n < RUN ? n : RUN, n_runs = n / run < RUNS ? n / run : RUNS;
    uint32_t zeros = 0;
    for (uint32_t r = 0; r < n_runs; r++) {
        const uint8_t *p = src + (size_t)qn_sample_at(n, run, n_runs, r) * unit;
        for (uint32_t i = 0; i < run; i++, p += unit) {
            uint64_t v = 0;
            memcpy(&v, p, unit);
            zeros += v == 0;
        }
    }
    return zeros * 1024 / (run * n_runs);
}

unsigned qn_sample_matches(const uint8_t *src, uint32_t n, unsigned unit)
{
    enum { WINDOWS = 4, WINDOW = 4096, SLOTS = 2048 };
    uint32_t slot[SLOTS] = {0};
    uint32_t chosen = 0, repeats = 0;
    const uint32_t run = n < WINDOW ? n : WINDOW, n_runs = n <= WINDOW ? 1 : WINDOWS;
    for (uint32_t w = 0; w < n_runs; w++) {
        const uint8_t *p = src + (size_t)qn_sample_at(n, run, n_runs, w) * unit;
        uint64_t v = 0;
        for (uint32_t i = 0; i < run; i++, p += unit) {
            v = v << 8 | *p;
            const uint64_t key = v * 0x9e3779b97f4a7c15u;
            if (i < 7 || key >> 60 != 0) /* one in sixteen */
                continue;
            const uint32_t odd = (uint32_t)(key >> 12) | 1; /* never the empty slot */
            uint32_t *s = &slot[key >> 48 & (SLOTS - 1)];
            chosen++;
            repeats += *s == odd;
            *s = odd;
        }
    }
    return chosen ? repeats * 256 / chosen : 0;
}
