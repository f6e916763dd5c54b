/* test_palette.c: few distinct values. */
#include "tests/compress/see.h"

Test(palette, counts_and_widths)
{
    const qn_dtype types[] = {QN_U8, QN_BF16, QN_F32, QN_I64};
    const unsigned counts[] = {2, 3, 4, 5, 16, 17, 255, 256};
    enum { N = 2500 };
    static uint8_t src[8 * N];
    qt_rng r = qt_seed(1);
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++)
            for (uint32_t n = N - 3; n < N; n++) {
                const unsigned unit = qn_unit_bytes(types[t]), count = counts[k];
                const qn_block b = {types[t], n, 50};
                uint64_t values[256];
                for (unsigned i = 0; i < count; i++)
                    values[i] = unit == 1 ? i * (256 / count) : qt_next(&r);
                for (uint32_t i = 0; i < n; i++)
                    memcpy(src + i * unit, &values[i < count ? i : qt_below(&r, count)], unit);
                const size_t m = see_check(QN_CODEC_PALETTE, qn_enc_palette, &b, src, NULL, n == N - 1 ? 150 : 0);
                const unsigned bits = count <= 2 ? 1 : count <= 4 ? 2 : count <= 16 ? 4 : 8;
                if (unit == 1 && count > 16)
                    cr_assert_eq(m, 0);
                else
                    cr_assert(m > 0 && m <= count * unit + (n * bits + 7) / 8 + 8);
            }
}

Test(palette, one_value_more_does_not_apply)
{
    static uint8_t src[2 * 4000];
    const qn_block b = {QN_U16, 4000, 4000};
    for (uint32_t i = 0; i < 4000; i++)
        qn_store16(src + 2 * i, (uint16_t)(i % 257));
    cr_assert_eq(see_check(QN_CODEC_PALETTE, qn_enc_palette, &b, src, NULL, 0), 0);
}

Test(palette, damage)
{
    static uint8_t src[4 * 4001];
    qt_rng r = qt_seed(3);
    const qn_block b = {QN_F32, 4001, 4001};
    for (uint32_t i = 0; i < 4001; i++)
        qn_store32(src + 4 * i, (uint32_t)qt_below(&r, 11) << 23);
    cr_assert_gt(see_check(QN_CODEC_PALETTE, qn_enc_palette, &b, src, NULL, 2000), 0);
}
