/* test_max.c: the MAX codec: round trips over every float dtype and awkward value, and damage. */
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <string.h>

static const qn_dtype types[] = {QN_BF16, QN_F16, QN_F32, QN_C64, QN_F64, QN_F8_E4M3, QN_F8_E5M2, QN_F8_E4M3FNUZ, QN_F8_E5M2FNUZ};
enum { N_TYPES = sizeof types / sizeof types[0], SLACK = 4096 };

static size_t trip(qn_dtype t, uint32_t n, uint32_t cols, const uint8_t *src, uint8_t *payload)
{
    const qn_block b = {t, n, cols};
    const size_t m = qt_codec_round_trip(QN_CODEC_MAX, qn_enc_max, QN_LEVEL_MAX, &b, src, NULL, payload,
                                         (size_t)n * 10 + SLACK);
    cr_assert_gt(m, 0);
    return m;
}

static void fill(qt_rng *r, qn_dtype t, double sigma, uint32_t n, uint8_t *p)
{
    if (t == QN_F8_E4M3FNUZ || t == QN_F8_E5M2FNUZ)
        for (uint32_t i = 0; i < n; i++)
            p[i] = (uint8_t)qt_next(r);
    else
        qt_fill_normal(r, t == QN_C64 ? QN_F32 : t, sigma, n, p);
}

Test(max, small_blocks)
{
    uint8_t src[257 * 8];
    qt_rng r = qt_seed(11);
    for (unsigned t = 0; t < N_TYPES; t++)
        for (uint32_t n = 1; n <= 257; n += t ? 1 + n / 8 : 1) {
            const uint32_t cols[] = {1, n, 1 + (uint32_t)qt_below(&r, n)};
            fill(&r, types[t], 0.02, n, src);
            for (unsigned c = 0; c < 3; c++)
                trip(types[t], n, cols[c], src, NULL);
        }
}

Test(max, random_bits)
{
    static uint8_t src[4099 * 8];
    qt_rng r = qt_seed(12);
    for (size_t i = 0; i < sizeof src; i++)
        src[i] = (uint8_t)qt_next(&r);
    for (unsigned t = 0; t < N_TYPES; t++) {
        trip(types[t], 4099, 64, src, NULL);
        trip(types[t], 4099, 4099, src, NULL);
    }
}

Test(max, every_16_bit_pattern)
{
    enum { N = 65536 };
    static uint8_t src[N * 2];
    for (unsigned order = 0; order < 2; order++)
        for (unsigned t = 0; t < 2; t++) {
            if (qt_sanitized() && order != t)
                continue;
            for (uint32_t i = 0; i < N; i++) {
                const uint32_t v = order ? i * 40503u : i;
                src[2 * i] = (uint8_t)v;
                src[2 * i + 1] = (uint8_t)(v >> 8);
            }
            trip(types[t], N, order ? 256 : 333, src, NULL);
        }
}

/* −0, subnormals, infinities and NaN payloads strewn over ordinary weights; then nothing but them. */
Test(max, specials)
{
    enum { N = 3001 };
    static const uint32_t odd[] = {0x80000000, 0, 1, 0x80000001, 0x7f800000, 0xff800000, 0x7fc00001, 0xff812345, 0x007fffff, 0x7f7fffff};
    static uint8_t src[N * 4], half[N * 2];
    qt_rng r = qt_seed(13);
    for (unsigned dense = 0; dense < 2; dense++) {
        fill(&r, QN_F32, 1, N, src);
        for (uint32_t i = 0; i < N; i++) {
            if (dense || qt_below(&r, 20) == 0)
                memcpy(src + 4 * i, &odd[qt_below(&r, 10)], 4);
            memcpy(half + 2 * i, src + 4 * i + 2, 2);
        }
        trip(QN_F32, N, 100, src, NULL);
        trip(QN_C64, N, 100, src, NULL);
        trip(QN_F64, N / 2, 100, src, NULL);
        trip(QN_BF16, N, 100, half, NULL);
        trip(QN_F16, N, 100, half, NULL);
        trip(QN_F8_E5M2, N, 3, src, NULL);
    }
}

/* Far-off magnitudes go through the escapes on both sides. */
Test(max, escapes)
{
    enum { N = 999 };
    static uint8_t src[N * 4];
    qt_rng r = qt_seed(14);
    fill(&r, QN_F32, 1, N, src);
    for (uint32_t i = 0; i < N; i += 7) {
        const uint32_t v = (uint32_t)qt_next(&r);
        memcpy(src + 4 * i, &v, 4);
    }
    trip(QN_F32, N, 50, src, NULL);
}

Test(max, smaller_than_order_0)
{
    enum { N = 1 << 17 };
    static uint8_t src[N * 2];
    qt_rng r = qt_seed(15);
    fill(&r, QN_BF16, 0.02, N, src);
    const size_t n = trip(QN_BF16, N, 512, src, NULL);
    cr_assert_lt((double)n / (2 * N), 0.6550); /* order 0: 0.6591; the true limit: 0.6539 */
}

Test(max, damage, .timeout = 200)
{
    static uint8_t src[700 * 8], payload[700 * 10 + SLACK];
    qt_rng r = qt_seed(16);
    for (unsigned t = 0; t < N_TYPES; t++) {
        const qn_block b = {types[t], 700, 50};
        fill(&r, types[t], 0.02, b.n, src);
        const size_t n = trip(types[t], b.n, b.cols, src, payload);
        cr_assert_gt(qt_codec_mutate(QN_CODEC_MAX, &b, payload, n, NULL, 17 + t, qt_rounds(800)), 0);
    }
}

/* One byte more and one byte less are refused, whatever the byte. */
Test(max, exact_length)
{
    uint8_t src[600], payload[8192], dst[600];
    qt_rng r = qt_seed(18);
    const qn_block b = {QN_BF16, 300, 30};
    fill(&r, QN_BF16, 1, b.n, src);
    const size_t n = trip(QN_BF16, b.n, b.cols, src, payload);
    for (unsigned v = 0; v < 256; v++) {
        qn_kern k;
        qn_arena scratch;
        qn_arena_init(&scratch, NULL);
        qn_kern_init(&k, 0);
        const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch};
        payload[n] = (uint8_t)v;
        cr_assert_eq(qn_codec_decode(&cx, QN_CODEC_MAX, &b, payload, n + 1, dst, NULL), QN_E_INPUT);
        cr_assert_eq(qn_codec_decode(&cx, QN_CODEC_MAX, &b, payload, n - 1, dst, NULL), QN_E_INPUT);
        qn_arena_release(&scratch);
    }
}
