/* test_simple.c: FILL and ZSTD. */
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <string.h>

Test(simple, fill_is_one_unit)
{
    uint8_t src[8 * 300];
    const qn_dtype types[] = {QN_U8, QN_BF16, QN_F32, QN_F64, QN_C64};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (uint32_t n = 1; n < 300; n += 7) {
            const unsigned unit = qn_unit_bytes(types[t]);
            const qn_block b = {types[t], n, n};
            for (size_t i = 0; i < (size_t)n * unit; i++)
                src[i] = (uint8_t)(0x80 + i % unit);
            cr_assert_eq(qt_codec_round_trip(QN_CODEC_FILL, qn_enc_fill, QN_LEVEL_FAST, &b, src, NULL, NULL, 64), unit);
            src[(size_t)n * unit - 1] ^= 1;
            if (n > 1)
                cr_assert_eq(qt_codec_round_trip(QN_CODEC_FILL, qn_enc_fill, QN_LEVEL_FAST, &b, src, NULL, NULL, 64), 0);
        }
}

Test(simple, zstd_round_trip_and_damage)
{
    enum { N = 5000 };
    uint8_t src[N], payload[N];
    qt_rng r = qt_seed(1);
    for (size_t i = 0; i < N; i++)
        src[i] = (uint8_t)qt_below(&r, 5);
    const qn_block b = {QN_U8, N, N};
    const size_t n = qt_codec_round_trip(QN_CODEC_ZSTD, qn_enc_zstd, QN_LEVEL_DENSE, &b, src, NULL, payload, N);
    cr_assert(n > 0 && n < N / 2);
    cr_assert_gt(qt_codec_mutate(QN_CODEC_ZSTD, &b, payload, n, NULL, 2, 500), 0);
}
