/* test_narrow.c: wide dtypes that hold narrow values. */
#include "runtime/narrow.h"
#include "runtime/widths.h"
#include "tests/compress/see.h"

Test(narrow, inline_conversions_are_those_of_half)
{
    qt_rng r = qt_seed(1);
    for (uint32_t h = 0; h < 65536; h++) {
        cr_assert_eq(qn_f16_wide((uint16_t)h), qn_f32_bits(qn_f16_to_f32((uint16_t)h)), "%x", h);
        cr_assert_eq(qn_f16_narrow(h << 16), qn_f32_to_f16(qn_bits_f32(h << 16)), "%x", h);
        for (uint32_t k = 0; k < 64; k++) { /* around every rounding boundary */
            const uint32_t u = h << 16 | (k < 32 ? k << 11 | (uint32_t)qt_below(&r, 3) : (uint32_t)qt_next(&r) & 0xffff);
            cr_assert_eq(qn_f16_narrow(u), qn_f32_to_f16(qn_bits_f32(u)), "%x", u);
        }
    }
}

/* Every code of the narrow dtype, widened: it must be seen, without an exception unless a NaN was made quiet. */
static void all_codes(qn_dtype wide, qn_dtype narrow, size_t most)
{
    const unsigned unit = qn_unit_bytes(wide), from = qn_unit_bytes(narrow);
    const uint32_t n = from == 1 ? 1 << 12 : 1 << 16;
    uint8_t *in = malloc(n * 4), *src = malloc(n * 8);
    qt_rng r = qt_seed(narrow);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t u = from == 4 ? (uint32_t)qt_next(&r) : i;
        memcpy(in + (size_t)i * from, &u, from);
    }
    qn_narrow_widen(wide, narrow, in, n, src);
    const qn_block b = {wide, n, 256};
    const size_t m = see_check(QN_CODEC_NARROW, qn_enc_narrow, &b, src, NULL, 20);
    cr_assert(m > 0 && m <= most + n * from + 64, "%s in %s: %zu", qn_dtype_name(narrow), qn_dtype_name(wide), m);
    (void)unit;
    free(in);
    free(src);
}

Test(narrow, every_code_of_every_pair)
{
    for (unsigned w = 0; w < QN_DTYPE_COUNT; w++)
        for (unsigned t = 0; t < QN_DTYPE_COUNT; t++)
            if (qn_narrow_pair((qn_dtype)w, (qn_dtype)t))
                all_codes((qn_dtype)w, (qn_dtype)t, w == QN_F16 ? 2000 : 0);
}

Test(narrow, every_bit_pattern_of_the_16_bit_types)
{
    const qn_dtype types[] = {QN_F16, QN_BF16, QN_I16, QN_U16};
    uint8_t *src = malloc(2 * 65536);
    for (uint32_t i = 0; i < 65536; i++)
        qn_store16(src + 2 * (size_t)i, (uint16_t)i);
    for (size_t t = 0; t < 4; t++) {
        const qn_block b = {types[t], 65536, 65536};
        see_check(QN_CODEC_NARROW, qn_enc_narrow, &b, src, NULL, 0);
    }
    free(src);
}

Test(narrow, a_few_exceptions)
{
    enum { N = 20000 };
    static uint8_t src[4 * N];
    const uint32_t odd[] = {0x7f800001, 0xffffffff, 0x00000001, 0x80000001, 0x3f800001, 0x7f7fffff};
    qt_rng r = qt_seed(2);
    const qn_block b = {QN_F32, N, 200};
    for (uint32_t i = 0; i < N; i++)
        qn_store32(src + 4 * i, (uint32_t)qn_f32_to_bf16((float)qt_normal(&r)) << 16);
    for (unsigned k = 0; k < 120; k++)
        qn_store32(src + 4 * (k == 0 ? 0 : k == 1 ? N - 1 : qt_below(&r, N)), odd[k % 6]);
    const size_t m = see_check(QN_CODEC_NARROW, qn_enc_narrow, &b, src, NULL, 2000);
    cr_assert(m > 0 && m < 2 * N + 1000, "%zu", m);
}

Test(narrow, ordinary_weights_do_not_apply)
{
    float *w = see_weights(5000);
    const qn_block b = {QN_F32, 5000, 100};
    cr_assert_eq(see_check(QN_CODEC_NARROW, qn_enc_narrow, &b, (const uint8_t *)w, NULL, 0), 0);
    free(w);
}
