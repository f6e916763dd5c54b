/* test_sparse.c: many zeros. */
#include "tests/compress/see.h"

Test(sparse, shares_widths_and_lengths)
{
    const qn_dtype types[] = {QN_BF16, QN_F32, QN_I64, QN_C64};
    static uint8_t src[8 * 1100];
    qt_rng r = qt_seed(1);
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (uint32_t n = 16; n < 1100; n += 1 + n / 5)
            for (unsigned share = 1; share < 8; share += 3) {
                const unsigned unit = qn_unit_bytes(types[t]);
                const qn_block b = {types[t], n, n / 2};
                for (uint32_t i = 0; i < n; i++) {
                    uint64_t v = qt_next(&r) | 1;
                    if (qt_below(&r, 8) < share)
                        v = 0;
                    memcpy(src + i * unit, &v, unit);
                }
                const size_t m = see_check(QN_CODEC_SPARSE, qn_enc_sparse, &b, src, NULL, n % 7 ? 0 : 60);
                cr_assert(n < 200 || (m > 0 && m < n * unit));
            }
}

Test(sparse, minus_zero_is_not_zero)
{
    static uint8_t src[4 * 1000];
    const qn_block b = {QN_F32, 1000, 1000};
    for (uint32_t i = 0; i < 1000; i++)
        qn_store32(src + 4 * i, i % 3 ? 0 : i % 2 ? 0x80000000u : 0x7f800001u);
    cr_assert_gt(see_check(QN_CODEC_SPARSE, qn_enc_sparse, &b, src, NULL, 2000), 0);
}
