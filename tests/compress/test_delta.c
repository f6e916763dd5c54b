/* test_delta.c: against a base checkpoint. */
#include "tests/compress/see.h"

Test(delta, small_changes_of_all_widths)
{
    const qn_dtype types[] = {QN_U8, QN_BF16, QN_F32, QN_F64};
    enum { N = 6000 };
    static uint8_t src[8 * N], base[8 * N];
    qt_rng r = qt_seed(1);
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        const unsigned unit = qn_unit_bytes(types[t]);
        const qn_block b = {types[t], N, 60};
        for (uint32_t i = 0; i < N; i++) {
            const uint64_t v = qt_next(&r), w = v + qt_below(&r, 7) - 3;
            memcpy(base + i * unit, &v, unit);
            memcpy(src + i * unit, &w, unit);
        }
        const size_t m = see_check(QN_CODEC_DELTA, qn_enc_delta, &b, src, base, 500);
        cr_assert(m > 0 && m < N * 4 / 10 + 100, "unit %u: %zu", unit, m);
        cr_assert_eq(see_check(QN_CODEC_DELTA, qn_enc_delta, &b, src, NULL, 0), 0);
        const size_t same = see_check(QN_CODEC_DELTA, qn_enc_delta, &b, base, base, 0);
        cr_assert(same > 0 && same <= 12);
    }
}

Test(delta, edge_differences)
{
    const uint16_t edge[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    uint8_t src[2 * 36 * 8], base[2 * 36 * 8];
    const qn_block b = {QN_U16, 36 * 8, 36};
    for (unsigned i = 0; i < 36 * 8; i++) {
        qn_store16(src + 2 * i, edge[i % 6]);
        qn_store16(base + 2 * i, edge[i / 6 % 6]);
    }
    cr_assert_gt(see_check(QN_CODEC_DELTA, qn_enc_delta, &b, src, base, 300), 0);
}

Test(delta, without_base_it_is_refused)
{
    const uint8_t payload[] = {0, QN_CODEC_FILL, 2, 0, 0};
    uint8_t dst[20];
    const qn_block b = {QN_U16, 10, 10};
    const qn_dec_ctx dx = {0};
    qn_err err = {0};
    cr_assert_eq(qn_codec_decode(&dx, QN_CODEC_DELTA, &b, payload, sizeof payload, dst, &err), QN_E_INPUT);
}
