/* test_dequant.c: wide floats that are scale × small number. */
#include "tests/compress/see.h"

enum { N = 32 * 1024 };

static size_t check(qn_dtype t, uint32_t n, uint32_t cols, const uint8_t *src, unsigned rounds)
{
    const qn_block b = {t, n, cols};
    return see_check(QN_CODEC_DEQUANT, qn_enc_dequant, &b, src, NULL, rounds);
}

Test(dequant, integers_groups_and_scales)
{
    const qn_dtype types[] = {QN_F32, QN_BF16, QN_F16};
    const size_t groups[] = {16, 32, 64, 128, 256, 512};
    const int tops[] = {3, 7, 127};
    float *w = see_weights(N);
    uint8_t *src = malloc(4 * N);
    for (size_t t = 0; t < 3; t++)
        for (size_t s = 0; s < 3; s++)
            for (size_t g = 0; g < 6; g++)
                for (size_t q = 0; q < 3; q++) {
                    const unsigned unit = qn_unit_bytes(types[t]);
                    see_dequant(types[t], types[s], w, N, groups[g], tops[q], src);
                    const size_t m = check(types[t], N, 512, src, 3);
                    /* bf16 holds one bit more than an 8-bit integer: with f32 scales the search may give up */
                    if (m == 0 && types[t] != QN_F32 && tops[q] == 127)
                        continue;
                    cr_assert(m > 0, "%s group %zu top %d scale %s", qn_dtype_name(types[t]), groups[g], tops[q],
                              qn_dtype_name(types[s]));
                    cr_assert_lt(m, N * unit, "%zu", m);
                    if (types[t] == QN_F32)
                        cr_assert_leq(m, N + N / 20 + N / groups[g] * 4 + 200, "group %zu top %d: %zu", groups[g],
                                      tops[q], m);
                }
    free(w);
    free(src);
}

Test(dequant, fp8_with_scales)
{
    const qn_dtype types[] = {QN_F32, QN_BF16};
    float *w = see_weights(N);
    uint8_t *src = malloc(4 * N);
    for (size_t t = 0; t < 2; t++)
        for (unsigned e5 = 0; e5 < 2; e5++) {
            for (size_t i = 0; i < N; i++) {
                /* blocks of 32 rows × 128 columns */
                const float s = 1.0f / (float)(100 + 77 * (i / (512 * 32)) + 31 * (i % 512 / 128)), v = w[i] / s;
                see_put(types[t], (e5 ? qn_e5m2_to_f32(qn_f32_to_e5m2(v)) : qn_e4m3_to_f32(qn_f32_to_e4m3(v))) * s, src, i);
            }
            const size_t m = check(types[t], N, 512, src, 100);
            cr_assert(m > 0 && m < N + N / 20, "%s e5m2 %u: %zu", qn_dtype_name(types[t]), e5, m);
        }
    free(w);
    free(src);
}

Test(dequant, biased_groups)
{
    float *w = see_weights(N);
    uint8_t *src = malloc(4 * N);
    for (size_t g = 0; g < N; g += 32) {
        float lo = w[g], hi = w[g];
        for (size_t i = g; i < g + 32; i++) {
            lo = w[i] < lo ? w[i] : lo;
            hi = w[i] > hi ? w[i] : hi;
        }
        const float s = see_scale_as(QN_F16, (hi - lo) / 15), m = see_scale_as(QN_F16, lo);
        for (size_t i = g; i < g + 32; i++) {
            int q = see_round((w[i] - lo) / ((hi - lo) / 15));
            see_put(QN_F32, (float)q * s + m, src, i);
        }
    }
    const size_t m = check(QN_F32, N, 256, src, 200);
    cr_assert(m > 0 && m < N * 4 * 2 / 10, "%zu", m);
    free(w);
    free(src);
}

Test(dequant, some_groups_are_something_else)
{
    float *w = see_weights(N);
    uint8_t *src = malloc(4 * N);
    const uint32_t odd[] = {0x7f800000, 0xffc00001, 0x80000000, 0x00000001};
    see_dequant(QN_F32, QN_F16, w, N, 32, 127, src);
    for (unsigned k = 0; k < 40; k++)
        qn_store32(src + 4 * (k * 801 + 5), odd[k % 4]);
    const size_t m = check(QN_F32, N, 512, src, 2000);
    cr_assert(m > 0 && m < N * 125 / 100, "%zu", m);
    free(w);
    free(src);
}

Test(dequant, short_rows_and_tails)
{
    float *w = see_weights(N);
    uint8_t *src = malloc(4 * N);
    for (uint32_t cols = 8; cols < 400; cols += 37)
        for (uint32_t n = cols * 9; n < cols * 10; n += 1 + cols / 3) {
            see_dequant(QN_F32, QN_F32, w, n, cols, 127, src);
            const size_t m = check(QN_F32, n, cols, src, 5);
            cr_assert(m > 0, "%u in rows of %u", n, cols);
        }
    free(w);
    free(src);
}

Test(dequant, ordinary_weights_do_not_apply)
{
    float *w = see_weights(N);
    uint8_t *src = malloc(4 * N);
    const qn_dtype types[] = {QN_F32, QN_BF16, QN_F16};
    for (size_t t = 0; t < 3; t++) {
        for (size_t i = 0; i < N; i++)
            see_put(types[t], w[i], src, i);
        cr_assert_eq(check(types[t], N, 256, src, 0), 0);
    }
    free(w);
    free(src);
}
