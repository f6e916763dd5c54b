/* kern_pvq.c: the C reference, and the choice of variants. */
#include "runtime/kern_pvq.h"
#include "base/cpu.h"
#include "runtime/kern_pvq_row.h"

#define WALK(word_t)                                                                                                       \
    do {                                                                                                                   \
        const word_t *const w = t->w;                                                                                      \
        for (size_t c = 0; c < count; c++) {                                                                               \
            word_t r = (word_t)from_end[c];                                                                          \
            uint32_t k = of[c];                                                                                            \
            for (uint32_t left = m; left > 0; left--) {                                                                    \
                const word_t *const row = w + (size_t)left * t->stride;                                                    \
                uint32_t rest = k;                                                                                         \
                while (row[rest] > r)                                                                                      \
                    rest--;                                                                                                \
                r -= row[rest];                                                                                            \
                int v = (int)(k - rest);                                                                                   \
                if (v) {                                                                                                   \
                    const word_t half = (word_t)(row[rest + 1] - row[rest]) >> 1;                                          \
                    const bool plus = r >= half;                                                                           \
                    r -= plus ? half : 0;                                                                                  \
                    v = plus ? v : -v;                                                                                     \
                }                                                                                                          \
                y[(m - left) * ld + c] = (int8_t)v;                                                                        \
                k = rest;                                                                                                  \
            }                                                                                                              \
        }                                                                                                                  \
    } while (0)

void qn_pvq_points_c(const qn_pvq_tab *t, uint32_t m, const uint64_t *from_end, const uint8_t *of, size_t count, int8_t *y, size_t ld)
{
    if (t->word == 4)
        WALK(uint32_t);
    else
        WALK(uint64_t);
}

static void norms_c(const int8_t *y, size_t ld, uint32_t m, size_t count, uint32_t *norm2)
{
    qn_pvq_norms_any(y, ld, m, count, norm2);
}

static void row_c(qn_dtype t, const int8_t *y, const float shift[2], const float *scale, const uint32_t *pos, size_t n, uint8_t *dst)
{
    qn_pvq_row_any(t, y, shift, scale, pos, n, dst);
}

void qn_kern_pvq_init(qn_kern_pvq *k, unsigned cpu)
{
    *k = (qn_kern_pvq){.cpu = cpu, .points = qn_pvq_points_c, .norms = norms_c, .row = row_c};
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        qn_kern_pvq_avx2(k);
    if (cpu & QN_CPU_AVX512)
        qn_kern_pvq_avx512(k);
#endif
}
