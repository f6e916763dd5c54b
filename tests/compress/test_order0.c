/* test_order0.c: the ORDER0 codec. */
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static size_t trip(uint32_t n, const uint8_t *src, uint8_t *payload)
{
    const qn_block b = {QN_U8, n, n};
    return qt_codec_round_trip(QN_CODEC_ORDER0, qn_enc_order0, QN_LEVEL_FAST, &b, src, NULL, payload, (size_t)n + 4096);
}

/* Bytes of several laws: constant, two values, small alphabets, bell, geometric, uniform, one byte rare. */
static void fill(qt_rng *r, unsigned law, uint32_t n, uint8_t *dst)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t x = qt_next(r);
        switch (law) {
        case 0: dst[i] = 200; break;
        case 1: dst[i] = x % 50 == 0 ? 255 : 0; break;
        case 2: dst[i] = (uint8_t)(x % 64 * 4); break;
        case 3: dst[i] = (uint8_t)(x % 65 * 3); break;
        case 4: dst[i] = (uint8_t)(int)(20 * qt_normal(r)); break;
        case 5: dst[i] = (uint8_t)__builtin_ctzll(x | UINT64_C(1) << 63); break;
        case 6: dst[i] = (uint8_t)x; break;
        default: dst[i] = i == n / 2; break;
        }
    }
}

Test(order0, every_small_size_and_law)
{
    uint8_t src[257];
    qt_rng r = qt_seed(1);
    for (uint32_t n = 1; n <= 257; n++)
        for (unsigned law = 0; law < 8; law += n % 16 ? 3 : 1) {
            fill(&r, (law + n) % 8, n, src);
            cr_assert_gt(trip(n, src, NULL), 0);
        }
}

Test(order0, big_blocks)
{
    const uint32_t sizes[] = {1023, 4097, 9001, 20001, 70001, 140003, 270001, 600013};
    uint8_t *src = malloc(600013);
    qt_rng r = qt_seed(2);
    for (unsigned s = 0; s < 8; s++)
        for (unsigned law = 0; law < 8; law++) {
            fill(&r, law, sizes[s], src);
            const size_t m = trip(sizes[s], src, NULL);
            cr_assert_gt(m, 0);
            if (law != 6)
                cr_assert_lt(m, sizes[s] * 19 / 20);
        }
    free(src);
}

/* Two hundred bytes of a bell must already pay. */
Test(order0, small_blocks_pay)
{
    uint8_t src[400];
    qt_rng r = qt_seed(3);
    for (unsigned i = 0; i < 400; i++)
        src[i] = (uint8_t)(int)(4 * qt_normal(&r));
    cr_assert_lt(trip(200, src, NULL), 150);
    cr_assert_lt(trip(400, src, NULL), 270);
}

Test(order0, damage)
{
    const uint32_t sizes[] = {30, 300, 5000, 70001};
    uint8_t *src = malloc(70001), *payload = malloc(70001 + 4096);
    qt_rng r = qt_seed(4);
    for (unsigned s = 0; s < 4; s++)
        for (unsigned law = 1; law < 7; law++) {
            fill(&r, law, sizes[s], src);
            const qn_block b = {QN_U8, sizes[s], sizes[s]};
            const size_t m = trip(sizes[s], src, payload);
            cr_assert_gt(qt_codec_mutate(QN_CODEC_ORDER0, &b, payload, m, NULL, s * 8 + law, s == 3 ? 60 : 600), 0);
        }
    free(src);
    free(payload);
}
