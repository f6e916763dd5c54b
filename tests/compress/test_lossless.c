/* test_lossless.c: the selection: never worse than raw, and the right codec on constructed data. */
#include "tests/compress/see.h"

static const qn_level levels[] = {QN_LEVEL_FAST, QN_LEVEL_DENSE, QN_LEVEL_MAX};

Test(lossless, random_bytes_of_every_dtype_stay_raw_size)
{
    enum { BYTES = 8 * 1237 };
    uint8_t src[BYTES];
    qt_rng r = qt_seed(1);
    for (unsigned t = 0; t < QN_DTYPE_COUNT; t++)
        for (unsigned l = 0; l < 3; l++)
            for (uint32_t n = 1; n <= 1237; n = n * 3 + 1) {
                size_t m;
                for (size_t i = 0; i < BYTES; i++)
                    src[i] = (uint8_t)qt_next(&r);
                const qn_block b = {(qn_dtype)t, n, (n + 2) / 3};
                see_best(levels[l], &b, src, NULL, &m);
                cr_assert_leq(m, (size_t)n * qn_unit_bytes((qn_dtype)t));
            }
}

Test(lossless, constant_data_of_every_dtype_is_fill)
{
    uint8_t src[8 * 500];
    memset(src, 0x41, sizeof src);
    for (unsigned t = 0; t < QN_DTYPE_COUNT; t++) {
        size_t m;
        const qn_block b = {(qn_dtype)t, 500, 100};
        cr_assert_eq(see_best(QN_LEVEL_FAST, &b, src, NULL, &m), QN_CODEC_FILL);
    }
}

/* Data of small values in every dtype, with structure of several kinds at once: only the round trip and the bound. */
Test(lossless, mixed_structure_round_trips)
{
    enum { N = 4096 };
    static uint8_t src[8 * N], base[8 * N];
    qt_rng r = qt_seed(2);
    for (unsigned t = 0; t < QN_DTYPE_COUNT; t++)
        for (unsigned kind = 0; kind < 5; kind++) {
            const unsigned unit = qn_unit_bytes((qn_dtype)t);
            size_t m;
            qt_fill_normal(&r, (qn_dtype)t, kind == 1 ? 0.02 : 3, N, src);
            memcpy(base, src, sizeof base);
            for (uint32_t i = 0; i < N; i++) {
                if (kind == 2 && qt_below(&r, 2))
                    memset(src + i * unit, 0, unit);
                if (kind == 3 && i >= N / 2)
                    memcpy(src + i * unit, src + (i - N / 2) * unit, unit);
                if (kind == 4 && qt_below(&r, 16) == 0)
                    src[i * unit] ^= 1;
            }
            for (unsigned l = 0; l < 3; l++) {
                const qn_block b = {(qn_dtype)t, N, 128};
                see_best(levels[l], &b, src, kind == 4 ? base : NULL, &m);
                cr_assert_leq(m, N * unit);
                cr_assert(kind != 3 || m < N * unit * 6 / 10, "dtype %u level %u: %zu", t, l, m);
            }
        }
}

enum { N = 256 * 1024, COLS = 512 };

static unsigned best(qn_dtype t, const uint8_t *src, double share, size_t unit)
{
    const qn_block b = {t, N, COLS};
    size_t m;
    const unsigned codec = see_best(QN_LEVEL_FAST, &b, src, NULL, &m);
    fprintf(stderr, "# %s by %s: %.4f of raw\n", qn_dtype_name(t), qn_codec_tab[codec].name,
            (double)m / (double)(N * unit));
    cr_assert_leq((double)m, share * (double)(N * unit), "codec %u: %f", codec, (double)m / (double)(N * unit));
    return codec;
}

Test(lossless, the_right_codec)
{
    float *w = see_weights(N);
    uint8_t *src = malloc(8 * N);
    qt_rng r = qt_seed(3);

    see_dequant(QN_F32, QN_F16, w, N, 32, 127, src);
    cr_assert_eq(best(QN_F32, src, 0.27, 4), QN_CODEC_DEQUANT);
    see_dequant(QN_F32, QN_F32, w, N, 64, 7, src);
    cr_assert_eq(best(QN_F32, src, 0.15, 4), QN_CODEC_DEQUANT);
    see_dequant(QN_F32, QN_F16, w, N, 32, 7, src);
    cr_assert_eq(best(QN_F32, src, 0.15, 4), QN_CODEC_DEQUANT);
    see_dequant(QN_BF16, QN_BF16, w, N, 64, 7, src);
    cr_assert_eq(best(QN_BF16, src, 0.30, 2), QN_CODEC_DEQUANT);

    for (size_t i = 0; i < N; i++)
        qn_store32(src + 4 * i, (uint32_t)qn_f32_to_bf16(w[i]) << 16);
    cr_assert_eq(best(QN_F32, src, 0.36, 4), QN_CODEC_NARROW);
    for (size_t i = 0; i < N; i++)
        qn_store16(src + 2 * i, qn_f32_to_f16(qn_bf16_to_f32(qn_f32_to_bf16(w[i]))));
    best(QN_F16, src, 0.72, 2);
    for (size_t i = 0; i < N; i++)
        qn_store16(src + 2 * i, qt_below(&r, 2) ? qn_f32_to_bf16(w[i]) : 0);
    cr_assert_eq(best(QN_BF16, src, 0.45, 2), QN_CODEC_SPARSE);
    for (size_t i = 0; i < N; i++)
        qn_store16(src + 2 * i, qn_f32_to_bf16(w[i / COLS % 2 * COLS * 100 + i / (2 * COLS) * COLS / 4 + i % COLS]));
    for (size_t i = 0; i < N / 2; i++)
        memcpy(src + N + 2 * i, src + 2 * i, 2);
    cr_assert_eq(best(QN_BF16, src, 0.5, 2), QN_CODEC_ROWDUP);
    for (size_t i = 0; i < N; i++)
        qn_store32(src + 4 * i, qn_f32_bits((float)(see_round(w[i] * 100) & 63) * 0.37f));
    best(QN_F32, src, 0.2, 4);
    for (size_t i = 0; i < N; i++)
        qn_store64(src + 8 * i, qt_below(&r, 50000));
    best(QN_I64, src, 0.27, 8);
    free(w);
    free(src);
}

Test(lossless, ordinary_large_floats_are_never_larger_than_raw)
{
    float *w = see_weights(N);
    best(QN_F32, (const uint8_t *)w, 1.0, 4);
    free(w);
}
