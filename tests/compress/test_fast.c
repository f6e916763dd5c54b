/* test_fast.c: the fast float codec: every size, every pattern, hostile payloads, and the sizes it
 * promises. */
#include "base/num.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const qn_dtype types[] = {QN_BF16, QN_F16, QN_F32, QN_C64, QN_F64};
enum { N_TYPES = sizeof types / sizeof types[0] };

static size_t trip(qn_dtype t, size_t n, const uint8_t *src, uint8_t *payload)
{
    const qn_block b = {t, (uint32_t)n, (uint32_t)n};
    return qt_codec_round_trip(QN_CODEC_FAST, qn_enc_fast, QN_LEVEL_FAST, &b, src, NULL, payload,
                               n * qn_unit_bytes(t) + 512);
}

static uint8_t *room(size_t n)
{
    uint8_t *p = malloc(n + 1024);
    cr_assert(p != NULL);
    return p;
}

Test(fast, every_small_size_of_every_dtype)
{
    qt_rng r = qt_seed(1);
    uint8_t src[8 * 300];
    for (unsigned t = 0; t < N_TYPES; t++)
        for (size_t n = 1; n <= 257; n++) {
            qt_fill_normal(&r, types[t], 0.02, n, src);
            const size_t m = trip(types[t], n, src, NULL);
            cr_assert(n < 100 || (m > 0 && m < n * qn_unit_bytes(types[t])), "%u %zu: %zu", t, n,
                      m);
        }
}

Test(fast, sizes_around_every_choice_of_streams)
{
    static const size_t sizes[] = {511,  1023,  1024,   1025,   4095,   8191,  8192,
                                   8193, 20001, 131071, 131072, 131073, 200003};
    qt_rng r = qt_seed(2);
    for (unsigned t = 0; t < N_TYPES; t++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            const size_t n = sizes[i], unit = qn_unit_bytes(types[t]);
            uint8_t *src = room(n * unit);
            qt_fill_normal(&r, types[t], 0.02, n, src);
            const size_t m = trip(types[t], n, src, NULL);
            cr_assert(m > 0 && m < n * unit, "%u %zu: %zu", t, n, m);
            free(src);
        }
}

/* Exponents by recipe; all other bits random. */
static void fill_exponents(qt_rng *r, qn_dtype t, unsigned recipe, size_t n, uint8_t *src)
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t w = qt_next(r);
        const unsigned u = (unsigned)(w >> 32) & 0xffff;
        unsigned e;
        switch (recipe) {
        case 0: /* all equal */
            e = 120;
            break;
        case 1: /* uniform over everything: must not pay, must not break */
            e = u & 255;
            break;
        case 2: /* two of p = 1/2 */
            e = u & 1 ? 3 : 77;
            break;
        case 3: /* one rarity in thousands */
            e = u < 20 ? 255 : 0;
            break;
        case 4: /* equal residues mod 64: only one of them can be coded */
            e = 64 * (u & 3) + (u >> 2 & 1);
            break;
        case 5: /* a long flat tail of escapes, with escapes of their own */
            e = u & 7 ? 100 : u >> 3 & 7 ? 200 + (u >> 6 & 15) : u >> 6 & 255;
            break;
        case 6: /* 64 symbols */
            e = 64 + (u & 63);
            break;
        case 7: /* the extremes: zeros, subnormals, infinities, NaN */
            e = u & 1 ? 255 : 0;
            break;
        default: /* geometric, as weights are */
            e = 125 - (unsigned)__builtin_ctz(u | 0x8000);
            break;
        }
        if (t == QN_BF16)
            qn_store16(src + 2 * i, (uint16_t)((w & 0x807f) | e << 7));
        else if (t == QN_F16)
            qn_store16(src + 2 * i, (uint16_t)((w & 0x83ff) | (e & 31) << 10));
        else if (t == QN_F64)
            qn_store64(src + 8 * i,
                       (w & 0x800fffffffffffff) | (uint64_t)(e < 2 ? 2047 * e : e + 900) << 52);
        else
            qn_store32(src + 4 * i, (uint32_t)((w & 0x807fffff) | e << 23));
    }
}

Test(fast, adversarial_exponents)
{
    static const size_t sizes[] = {65, 1000, 9000, 140001};
    qt_rng r = qt_seed(3);
    for (unsigned t = 0; t < N_TYPES; t++)
        for (unsigned recipe = 0; recipe < 9; recipe++)
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                const size_t n = sizes[i];
                uint8_t *src = room(8 * n);
                fill_exponents(&r, types[t], recipe, n, src);
                const size_t m = trip(types[t], n, src, NULL);
                cr_assert(recipe == 1 || m > 0, "%u recipe %u n %zu", t, recipe, n);
                free(src);
            }
}

Test(fast, all_patterns_of_sixteen_bits)
{
    enum { N = 65536 };
    uint8_t *src = room(4 * N);
    for (unsigned t = 0; t < 2; t++)
        for (unsigned k = 1; k < 3; k++) {
            /* with as many equal weights besides, so that it pays */
            for (unsigned i = 0; i < N; i++) {
                qn_store16(src + 2 * i, (uint16_t)i);
                qn_store16(src + 2 * (N + i), 0x3c12);
            }
            const size_t m = trip(types[t], k * N, src, NULL);
            cr_assert(k == 1 || m > 0);
        }
    free(src);
}

Test(fast, damage_is_refused_alike)
{
    static const size_t sizes[] = {1, 5, 40, 300, 1500, 9000};
    qt_rng r = qt_seed(4);
    for (unsigned t = 0; t < N_TYPES; t++)
        for (unsigned recipe = 0; recipe < 9; recipe++)
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                const size_t n = sizes[i];
                static uint8_t src[8 * 9000], payload[8 * 9000 + 512];
                fill_exponents(&r, types[t], recipe, n, src);
                const size_t m = trip(types[t], n, src, payload);
                const qn_block b = {types[t], (uint32_t)n, (uint32_t)n};
                if (m)
                    cr_assert_gt(
                        qt_codec_mutate(QN_CODEC_FAST, &b, payload, m, NULL, 10 * n + recipe, 60),
                        0);
            }
}

Test(fast, damage_to_many_streams_is_refused_alike)
{
    enum { N = 131072 };
    qt_rng r = qt_seed(5);
    uint8_t *src = room(4 * N), *payload = room(4 * N);
    for (unsigned t = 0; t < 3; t++) {
        fill_exponents(&r, types[t], 8, N, src);
        const size_t m = trip(types[t], N, src, payload);
        const qn_block b = {types[t], N, N};
        cr_assert_gt(qt_codec_mutate(QN_CODEC_FAST, &b, payload, m, NULL, t, 300), 100);
    }
    free(src);
    free(payload);
}

Test(fast, one_byte_too_many_or_too_few)
{
    qt_rng r = qt_seed(6);
    for (size_t n = 1; n < 3000; n += 1 + n / 3) {
        static uint8_t src[2 * 3000], payload[2 * 3000 + 512], out[2 * 3000];
        qt_fill_normal(&r, QN_BF16, 0.02, n, src);
        const size_t m = trip(QN_BF16, n, src, payload);
        const qn_block b = {QN_BF16, (uint32_t)n, (uint32_t)n};
        qn_kern k;
        qn_arena scratch;
        qn_kern_init(&k, 0);
        qn_arena_init(&scratch, NULL);
        const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch};
        payload[m] = 0;
        for (size_t len = m - 1; len <= m + 1 && m > 0; len++) {
            qn_err err;
            const qn_code rc = qn_codec_decode(&cx, QN_CODEC_FAST, &b, payload, len, out, &err);
            cr_assert_eq(rc, len == m ? QN_OK : QN_E_INPUT, "n %zu, %zu of %zu bytes: %d", n, len,
                         m, rc);
        }
        qn_arena_release(&scratch);
    }
}

/* The promise on bf16: order-0 entropy of the exponents + 8 bits + 0.03, everything included. */
Test(fast, size_near_entropy)
{
    enum { N = 262144 };
    qt_rng r = qt_seed(7);
    uint8_t *src = room(2 * N);
    double counts[256] = {0}, bits = 0;
    qt_fill_normal(&r, QN_BF16, 0.02, N, src);
    for (size_t i = 0; i < N; i++)
        counts[qn_load16(src + 2 * i) >> 7 & 255]++;
    for (unsigned v = 0; v < 256; v++)
        if (counts[v] > 0)
            bits += counts[v] / N * log2(N / counts[v]);
    const double got = 8.0 * (double)trip(QN_BF16, N, src, NULL) / N;
    cr_log_info("bits a weight: %.4f, entropy %.4f", got, bits + 8);
    cr_assert_leq(got, bits + 8.03);
    free(src);
}

/* The example of docs/codecs/fast.md: the format must not drift. */
Test(fast, documented_example)
{
    static const uint16_t five[5] = {0x3c10, 0xbc93, 0x3d05, 0xbc21, 0x3b7f};
    static const uint8_t want[33] = {0x01, 0x83, 0x9d, 0x06, 0x27, 0xf0, 0x04, 0x27, 0x95,
                                     0xa6, 0x67, 0xb2, 0x39, 0xba, 0xb3, 0x20, 0x20, 0x27,
                                     0x0a, 0x43, 0xfe, 0x20, 0x27, 0x0a, 0x43, 0xfe, 0x20,
                                     0x27, 0x0a, 0x43, 0xfe, 0x20, 0x27};
    uint8_t src[40], payload[40 + 512];
    for (unsigned i = 0; i < 20; i++)
        qn_store16(src + 2 * i, five[i % 5]);
    cr_assert_eq(trip(QN_BF16, 20, src, payload), sizeof want);
    cr_assert_eq(memcmp(payload, want, sizeof want), 0);
}
