/* test_shuffle.c: byte planes. */
#include "tests/compress/see.h"

Test(shuffle, all_widths_and_lengths)
{
    const qn_dtype types[] = {QN_U16, QN_I32, QN_F32, QN_F64, QN_U64, QN_C64, QN_BF16};
    uint8_t src[8 * 700];
    qt_rng r = qt_seed(1);
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (uint32_t n = 1; n < 700; n += 1 + n / 8) {
            const unsigned unit = qn_unit_bytes(types[t]);
            const qn_block b = {types[t], n, n > 3 ? n / 3 : n};
            for (size_t i = 0; i < (size_t)n * unit; i++)
                src[i] = i % unit == unit - 1 ? 0x3f : (uint8_t)qt_below(&r, 9);
            const size_t m = see_check(QN_CODEC_SHUFFLE, qn_enc_shuffle, &b, src, NULL, n % 5 ? 0 : 40);
            cr_assert(n < 64 || (m > 0 && m < (size_t)n * unit));
        }
}

Test(shuffle, one_byte_units_do_not_apply)
{
    const uint8_t src[100] = {0};
    const qn_block b = {QN_U8, 100, 100};
    cr_assert_eq(qt_codec_round_trip(QN_CODEC_SHUFFLE, qn_enc_shuffle, QN_LEVEL_MAX, &b, src, NULL, NULL, 200), 0);
}

Test(shuffle, damage)
{
    enum { N = 3000 };
    uint8_t src[N * 4];
    qt_rng r = qt_seed(2);
    qt_fill_normal(&r, QN_I32, 300, N, src);
    const qn_block b = {QN_I32, N, 100};
    cr_assert_gt(see_check(QN_CODEC_SHUFFLE, qn_enc_shuffle, &b, src, NULL, 2000), 0);
}
