/* test_hash.c: XXH3 by published vectors, one-shot against streaming, and the name table. */
#include "base/hash.h"
#include "base/names.h"
#include "tests/support/hostile.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* XXH3 of the empty input with seed 0, as the specification of xxHash states it. */
Test(hash, known_values)
{
    char hex[33];
    cr_expect_eq(qn_hash64("", 0), UINT64_C(0x2d06800538d394c2));
    qn_digest d = qn_hash128("", 0);
    qn_digest_hex(&d, hex);
    cr_expect_str_eq(hex, "99aa06d3014798d86001c324468d497f");
    cr_expect_eq(qn_hash64_keyed("", 0, 0), qn_hash64("", 0));
}

Test(hash, streaming_is_one_shot)
{
    static uint8_t buf[5000];
    qt_rng r = qt_seed(11);
    qn_hasher h = {0};
    for (size_t i = 0; i < sizeof buf; i++)
        buf[i] = (uint8_t)qt_next(&r);
    cr_assert_eq(qn_hasher_open(&h, NULL), QN_OK);
    for (size_t n = 0; n < sizeof buf; n += 1 + n / 16) {
        const qn_digest want = qn_hash128(buf, n);
        qn_hasher_reset(&h);
        for (size_t at = 0; at < n;) {
            const size_t k = 1 + qt_below(&r, n - at);
            qn_hasher_add(&h, buf + at, k);
            at += k;
        }
        const qn_digest got = qn_hasher_digest(&h);
        cr_assert(qn_digest_equal(&got, &want), "%zu bytes", n);
        if (n) {
            buf[n / 2] ^= 1;
            const qn_digest other = qn_hash128(buf, n);
            cr_assert_not(qn_digest_equal(&other, &want));
            buf[n / 2] ^= 1;
        }
    }
    qn_hasher_close(&h);
    qn_hasher_close(&h);
}

static const char *name_of(const void *ctx, uint32_t item)
{
    return ((char *const *)ctx)[item];
}

Test(names, finds_what_was_added)
{
    enum { N = 5000 };
    char **names = calloc(N, sizeof *names);
    const uint64_t n_slots = qn_names_slots(N);
    qn_name_slot *slots = calloc(n_slots, sizeof *slots);
    qn_names t = {0};
    cr_assert_eq(qn_names_find(&t, "x", name_of, names), QN_NAMES_NONE, "an empty table has nothing");
    qn_names_init(&t, slots, n_slots);
    for (uint32_t i = 0; i < N; i++) {
        names[i] = malloc(32);
        snprintf(names[i], 32, "layer.%u.weight", i);
        cr_assert_eq(qn_names_find(&t, names[i], name_of, names), QN_NAMES_NONE);
        cr_assert_eq(qn_names_add(&t, names[i], i, name_of, names), QN_NAMES_NONE);
        cr_assert_eq(qn_names_add(&t, names[i], i + 1, name_of, names), i, "a second one of that name");
    }
    for (uint32_t i = 0; i < N; i++)
        cr_assert_eq(qn_names_find(&t, names[i], name_of, names), i);
    cr_assert_eq(qn_names_find(&t, "layer.5000.weight", name_of, names), QN_NAMES_NONE);
    cr_assert_eq(qn_names_find(&t, "", name_of, names), QN_NAMES_NONE);
    qn_names other;
    qn_names_init(&other, slots, n_slots);
    cr_assert_neq(other.key, t.key, "each table has its own key");
    for (uint32_t i = 0; i < N; i++)
        free(names[i]);
    free(names);
    free(slots);
}
