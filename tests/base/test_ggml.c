/* test_ggml.c: blocks of ggml's types. The differential test against ggml itself is tests/interop/gguf_ggml.py; here stand
 * values worked out by hand, so that the suite says something without the library. */
#include "base/ggml.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "base/shape.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static float y[256];

static void decode(qn_dtype t, const uint8_t *b)
{
    qn_err err = {0};
    cr_assert_eq(qn_ggml_f32(t, b, qn_dtype_block_elems(t), y, &err), QN_OK, "%s", err.text);
}

Test(ggml, the_table_of_types)
{
    unsigned n = 0;
    for (unsigned t = 0; t < 256; t++) {
        const char *name = qn_dtype_name((qn_dtype)t);
        cr_expect_eq(name != NULL, qn_dtype_block_bytes((qn_dtype)t) != 0, "%u", t);
        cr_expect_eq(name != NULL, qn_dtype_block_elems((qn_dtype)t) != 0, "%u", t);
        if (!name) {
            uint64_t elems, bytes, dim = 0;
            cr_expect_eq(qn_dtype_bits((qn_dtype)t), 0);
            cr_expect(!qn_shape_bytes((qn_dtype)t, &dim, 1, &elems, &bytes), "%u has a size", t);
            continue;
        }
        const unsigned bits = qn_dtype_bits((qn_dtype)t), per = qn_dtype_block_elems((qn_dtype)t);
        cr_expect(bits == 0 || bits * per == 8 * qn_dtype_block_bytes((qn_dtype)t), "%s", name);
        cr_expect_eq(bits == 0, t >= QN_DTYPE_PLAIN, "%s", name);
        cr_expect_eq(qn_ggml_block((qn_dtype)t) != NULL, bits == 0, "%s", name);
        if (bits == 0) {
            n++;
            cr_expect(QN_GGML_BLOCK_MAX % per == 0 && per >= 32, "%s", name);
            cr_expect_eq(qn_unit_bytes((qn_dtype)t), 1u, "%s", name);
        }
    }
    cr_expect_eq(n, 25);
}

Test(ggml, blocks_and_nothing_else)
{
    const uint8_t b[18] = {0};
    double d[32];
    float f[32];
    qn_err err = {0};
    cr_expect_eq(qn_widen(QN_Q4_0, b, 32, d, &err), QN_OK);
    cr_expect_eq(qn_widen(QN_Q4_0, b, 31, d, &err), QN_E_USAGE);
    cr_expect(strstr(err.text, "its blocks hold 32"), "%s", err.text);
    cr_expect_eq(qn_ggml_f32(QN_F32, b, 1, f, NULL), QN_E_UNSUPPORTED);
    cr_expect_eq(qn_ggml_f32((qn_dtype)68, b, 0, f, NULL), QN_E_UNSUPPORTED);
    cr_expect_eq(qn_ggml_f32((qn_dtype)255, b, 0, f, NULL), QN_E_UNSUPPORTED);
    cr_expect_eq(qn_widen((qn_dtype)68, b, 0, d, NULL), QN_E_UNSUPPORTED);
}

/* Widening to f64 is the f32 result, for random bytes in every type. */
Test(ggml, widened_as_f32)
{
    qt_rng r = qt_seed(3);
    uint8_t b[4 * 256];
    float f[4 * 256];
    double d[4 * 256];
    for (unsigned t = QN_DTYPE_PLAIN; t < QN_DTYPE_COUNT; t++) {
        if (!qn_dtype_name((qn_dtype)t))
            continue;
        for (unsigned round = 0; round < 200; round++) {
            for (size_t i = 0; i < sizeof b; i++)
                b[i] = (uint8_t)qt_next(&r);
            const uint64_t n = 4 * qn_dtype_block_elems((qn_dtype)t);
            cr_assert_eq(qn_ggml_f32((qn_dtype)t, b, n, f, NULL), QN_OK);
            cr_assert_eq(qn_widen((qn_dtype)t, b, n, d, NULL), QN_OK);
            for (uint64_t i = 0; i < n; i++) {
                const double want = (double)f[i];
                cr_assert(memcmp(&want, &d[i], sizeof want) == 0 || (isnan(want) && isnan(d[i])));
            }
        }
    }
}

Test(ggml, one_scale)
{
    uint8_t q4[18] = {0x00, 0x38}, q8[34] = {0x00, 0xc0}, q5[24] = {0x00, 0x3c, 0x00, 0x40}; /* ½; −2; 1 and 2 */
    q4[2] = 0xf0;
    decode(QN_Q4_0, q4);
    cr_expect(y[0] == -4 && y[16] == 3.5f && y[1] == -4);
    q8[2] = 0x80;
    q8[33] = 3;
    decode(QN_Q8_0, q8);
    cr_expect(y[0] == 256 && y[31] == -6 && y[1] == 0 && signbit(y[1]), "zero takes the sign of the scale");
    q5[4] = 1;
    q5[7] = 0x80;
    q5[8] = 0x0f;
    decode(QN_Q5_1, q5);
    cr_expect(y[0] == 31 + 2 && y[16] == 2 && y[31] == 16 + 2);
    uint8_t q1[18] = {0x00, 0x3c, 0x02}, q2[18] = {0x00, 0x3c, 0xe4};
    decode(QN_Q1_0, q1);
    cr_expect(y[0] == -1 && y[1] == 1 && y[127] == -1);
    decode(QN_Q2_0, q2);
    cr_expect(y[0] == -1 && y[1] == 0 && y[2] == 1 && y[3] == 2);
}

Test(ggml, super_blocks)
{
    uint8_t q4[144] = {0x00, 0x3c, 0x00, 0x3c}; /* d = dmin = 1 */
    q4[4] = 63;          /* scale 0 */
    q4[8] = 5 | 3 << 6;  /* offset 0, and the high bits of offset 4 */
    q4[12] = 2 | 1 << 4; /* scale 4, offset 4 */
    q4[16] = 0x0f;
    q4[16 + 64] = 0x07;
    decode(QN_Q4_K, q4);
    cr_expect(y[0] == 63 * 15 - 5 && y[1] == -5);
    cr_expect(y[128] == 2 * 7 - (1 + 48), "%g", (double)y[128]);
    uint8_t q6[210] = {0};
    q6[208] = 0x00, q6[209] = 0x3c;
    q6[192] = 0xff; /* −1 */
    q6[0] = 0x01;
    q6[128] = 0x03;
    decode(QN_Q6_K, q6);
    cr_expect(y[0] == -(float)(1 + 48 - 32) && y[1] == 32 && y[16] == 0);
}

Test(ggml, tables_and_ternary)
{
    uint8_t mx[17] = {128}, nv[36] = {0x38, 0x7f, 0xff, 0x80}; /* 1, and the codes that are special */
    mx[1] = 0xf1;
    decode(QN_MXFP4, mx);
    cr_expect(y[0] == 1 && y[16] == -12);
    memset(nv + 4, 0x11, 32);
    decode(QN_NVFP4, nv);
    cr_expect(y[0] == 0.5f && y[16] == 0 && y[32] == 240 && y[48] == 0);
    uint8_t nl[18] = {0x00, 0x3c, 0xf0};
    decode(QN_IQ4_NL, nl);
    cr_expect(y[0] == -127 && y[16] == 113);
    uint8_t tq[54] = {0};
    tq[52] = 0x00, tq[53] = 0x3c;
    tq[0] = (uint8_t)((2 * 81 + 1 * 27 + 0 * 9 + 2 * 3 + 1) * 256 / 243 + 1);
    decode(QN_TQ1_0, tq);
    cr_expect(y[0] == 1 && y[32] == 0 && y[64] == -1 && y[96] == 1 && y[128] == 0);
}

Test(ggml, grids)
{
    uint8_t b[110] = {0x00, 0x3c};
    decode(QN_IQ2_XXS, b);
    for (unsigned i = 0; i < 8; i++)
        cr_expect(y[i] == 1, "point 0 is eight times the smallest step");
    b[6] = 1; /* one sign of seven: the eighth makes it even */
    decode(QN_IQ2_XXS, b);
    cr_expect(y[0] == -1 && y[1] == 1 && y[7] == -1);
    memset(b + 2, 0, sizeof b - 2);
    decode(QN_IQ3_S, b);
    cr_expect(y[0] == 1 && y[255] == 1);
    decode(QN_IQ1_S, b);
    cr_expect(y[0] == -0.875f && y[255] == -0.875f);
}
