/* test_dense.c: the DENSE codec: every dtype, every small size, every bit pattern, hostile payloads. */
#include "tests/support/testkit.h"
#include "base/num.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const qn_dtype floats[] = {QN_BF16, QN_F16, QN_F32, QN_F64, QN_C64};
enum { N_FLOATS = sizeof floats / sizeof floats[0] };

/* Round trip with room to spare: small blocks and noise may grow. */
static size_t trip(qn_dtype t, uint32_t n, uint32_t cols, const uint8_t *src, uint8_t *payload)
{
    const qn_block b = {t, n, cols};
    return qt_codec_round_trip(QN_CODEC_DENSE, qn_enc_dense, QN_LEVEL_DENSE, &b, src, NULL, payload,
                               3 * (size_t)n * qn_unit_bytes(t) + 4096);
}

static void fill(qt_rng *r, qn_dtype t, double sigma, uint32_t n, uint8_t *dst)
{
    if (t == QN_C64)
        t = QN_F32;
    for (uint32_t i = 0; i < n; i++)
        qt_put(t, sigma * qt_normal(r), dst + (size_t)i * qn_unit_bytes(t));
}

Test(dense, every_small_size)
{
    uint8_t src[8 * 257];
    qt_rng r = qt_seed(1);
    for (uint32_t n = 1; n <= 257; n++) {
        const qn_dtype t = floats[n % N_FLOATS];
        const uint32_t cols[] = {1, n, 1 + (uint32_t)qt_below(&r, n)};
        fill(&r, t, 0.02, n, src);
        for (size_t c = 0; c < 3; c++) {
            cr_assert_gt(trip(QN_BF16, n, cols[c], src, NULL), 0);
            cr_assert_gt(trip(t, n, cols[c], src, NULL), 0);
        }
    }
}

/* Rows and columns of very different scales: rows, columns and all numbers of tables get used. */
Test(dense, scaled_rows_and_columns)
{
    enum { N = 66000 };
    uint8_t *src = malloc(8 * (size_t)N), seen[256] = {0};
    uint8_t *payload = malloc(24 * (size_t)N + 4096);
    qt_rng r = qt_seed(2);
    const uint32_t sizes[] = {257, 1023, 4097, 16411, 65537}, cols[] = {1, 31, 32, 33, 64, 100, 256, 1000, 5000};
    for (size_t s = 0; s < 5; s++)
        for (size_t c = 0; c < 9; c++)
            for (size_t k = 0; k < N_FLOATS; k++) {
                const uint32_t n = sizes[s], w = cols[c] < n ? cols[c] : n;
                const qn_dtype t = floats[k] == QN_C64 ? QN_F32 : floats[k];
                if (s == 4 && (c + k) % 3)
                    continue;
                double row = 1;
                for (uint32_t i = 0; i < n; i++) {
                    if (i % w == 0)
                        row = ldexp(1.0 + (double)qt_below(&r, 4) / 4, -(int)qt_below(&r, 6));
                    qt_put(t, 0.1 * row * ldexp(qt_normal(&r), (int)(k % 2 ? i % w % 3 : 0)),
                           src + (size_t)i * qn_unit_bytes(t));
                }
                const size_t m = trip(floats[k], n, w, src, payload);
                cr_assert_gt(m, 0);
                seen[payload[0]] = 1;
                if (n > 1000)
                    cr_assert_lt(m, (size_t)n * qn_unit_bytes(t));
            }
    unsigned rows = 0, columns = 0, four = 0;
    for (unsigned i = 0; i < 256; i++) {
        rows += seen[i] && (i & 32);
        columns += seen[i] && (i & 64);
        four += seen[i] && (i >> 3 & 3) == 3;
    }
    cr_assert(rows && columns && four);
    free(src);
    free(payload);
}

Test(dense, all_patterns_of_16_bits)
{
    uint8_t *src = malloc(2 * 65536);
    qt_rng r = qt_seed(3);
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < 65536; i++)
            qn_store16(src + 2 * (size_t)i, (uint16_t)i);
        for (unsigned i = 65535; pass && i > 0; i--) { /* shuffled */
            const size_t j = qt_below(&r, i + 1);
            const uint16_t a = qn_load16(src + 2 * (size_t)i), b = qn_load16(src + 2 * j);
            qn_store16(src + 2 * (size_t)i, b);
            qn_store16(src + 2 * j, a);
        }
        for (unsigned k = 0; k < 2; k++) {
            cr_assert_gt(trip(floats[k], 65536, 65536, src, NULL), 0);
            cr_assert_gt(trip(floats[k], 65536, 256, src, NULL), 0);
        }
    }
    free(src);
}

/* Zeros of both signs, NaN payloads, infinities, subnormals, constants, random bits. */
Test(dense, odd_values)
{
    enum { N = 1501 };
    uint8_t src[8 * N];
    qt_rng r = qt_seed(4);
    static const uint64_t odd[] = {0, UINT64_C(1) << 63, UINT64_C(0x7ff0) << 48, UINT64_C(0xfff0) << 48, UINT64_C(0x7ff8) << 48,
                                   UINT64_C(0xfff4) << 48, 1, UINT64_MAX, UINT64_C(0x7f80) << 48, UINT64_C(0x8010) << 48};
    for (size_t k = 0; k < N_FLOATS; k++)
        for (unsigned kind = 0; kind < 5; kind++) {
            const unsigned u = qn_unit_bytes(floats[k]);
            fill(&r, floats[k], 1, N, src);
            for (size_t i = 0; i < N; i++) {
                uint8_t bits[8];
                qn_store64(bits, kind == 4 ? qt_next(&r) : odd[qt_below(&r, kind == 3 ? 2 : 10)] | (kind == 2 ? qt_next(&r) & 0xff : 0));
                if (kind == 0)
                    memset(src + i * u, 0, u);
                else if (kind > 1 || qt_below(&r, 8) == 0)
                    memcpy(src + i * u, bits + (8 - u), u);
            }
            cr_assert_gt(trip(floats[k], N, 50, src, NULL), 0);
            cr_assert_gt(trip(floats[k], N, N, src, NULL), 0);
        }
}

/* More lanes and units than the vector loops hold at once, and a lone long row. */
Test(dense, big_blocks)
{
    enum { N = 600011 };
    uint8_t *src = malloc(4 * (size_t)N);
    qt_rng r = qt_seed(5);
    fill(&r, QN_F32, 0.02, N, src);
    const size_t f32 = trip(QN_F32, N, 768, src, NULL), one = trip(QN_F32, N, N, src, NULL);
    cr_assert(f32 < (size_t)N * 4 * 84 / 100 && one < (size_t)N * 4 * 84 / 100);
    fill(&r, QN_BF16, 0.02, N, src);
    const size_t bf = trip(QN_BF16, N, 768, src, NULL);
    cr_assert_lt(bf, (size_t)N * 2 * 6565 / 10000);
    free(src);
}

Test(dense, damage)
{
    enum { N = 20000 };
    uint8_t *src = malloc(8 * (size_t)N), *payload = malloc(24 * (size_t)N + 4096);
    qt_rng r = qt_seed(6);
    for (size_t k = 0; k < N_FLOATS; k++) {
        const uint32_t sizes[] = {40, 700, k ? 5000 : N};
        for (size_t s = 0; s < 3; s++) {
            const uint32_t n = sizes[s], cols = s ? 64 : n;
            const qn_dtype t = floats[k] == QN_C64 ? QN_F32 : floats[k];
            for (uint32_t i = 0; i < n; i++)
                qt_put(t, ldexp(qt_normal(&r), -(int)(i / cols % 5) - (int)(i % cols % 3)), src + (size_t)i * qn_unit_bytes(t));
            const qn_block b = {floats[k], n, cols};
            const size_t m = trip(floats[k], n, cols, src, payload);
            cr_assert_gt(qt_codec_mutate(QN_CODEC_DENSE, &b, payload, m, NULL, k * 3 + s, qt_rounds(s == 2 ? 400 : 1500)), qt_rounds(100));
        }
    }
    free(src);
    free(payload);
}

/* Tensors too small for a table of their own: the shape's costs next to nothing, whatever the scale. */
Test(dense, shapes)
{
    enum { N = 4096 };
    static uint8_t src[2 * N], payload[6 * N + 4096];
    qt_rng r = qt_seed(7);
    for (int scale = -60; scale <= 60; scale += 15)
        for (unsigned kind = 0; kind < 3; kind++) { /* normal, Laplace, uniform: entropies 0.654, 0.674, 0.625; one in a hundred more is allowed */
            for (uint32_t i = 0; i < N; i++) {
                const double u = ((double)qt_below(&r, 1 << 24) + 0.5) / (1 << 24), sign = qt_below(&r, 2) ? 1 : -1;
                qt_put(QN_BF16, ldexp(kind == 0 ? qt_normal(&r) : sign * (kind == 1 ? -log(u) : u), scale), src + 2 * (size_t)i);
            }
            const size_t n = trip(QN_BF16, N, 64, src, payload);
            cr_assert_lt(n, (size_t)2 * N * (kind == 0 ? 661 : kind == 1 ? 680 : 631) / 1000, "%u: %zu", kind, n);
            cr_assert(kind == 2 || payload[0] & 128); /* so few codes are uniform values that a table may be cheaper */
        }
}
