/* test_units.c: numbers as people write and read them, and the nearest word. */
#include "cli/suggest.h"
#include "base/sizes.h"
#include "cli/units.h"
#include <criterion/criterion.h>
#include <string.h>

Test(units, sizes_are_read)
{
    static const struct {
        const char *s;
        uint64_t v;
    } good[] = {
        {"0", 0}, {"4096", 4096}, {"1b", 1}, {"2K", 2048}, {"2k", 2048}, {"2KiB", 2048}, {"2KB", 2000}, {"1.5G", 3ull << 29},
        {"0.5 MiB", 1 << 19}, {".5K", 512}, {"1.K", 1024}, {"3T", 3ull << 40}, {"1PB", 1000000000000000ull},
        {"18446744073709551615", UINT64_MAX}, {"16383P", 16383ull << 50},
    };
    static const char *const bad[] = {"", ".", "K", "-1", "+1", "1Q", "1KiBs", "1Ki", "1 K x", "0x10", "1e9", "1..5K",
                                      "18446744073709551616", "16384P", "99999999999P", "1,5G"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t v = 1;
        cr_assert(qn_parse_size(good[i].s, &v), "%s", good[i].s);
        cr_assert_eq(v, good[i].v, "%s: %llu", good[i].s, (unsigned long long)v);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t v;
        cr_assert_not(qn_parse_size(bad[i], &v), "%s", bad[i]);
    }
}

/* What is printed has three digits that count and reads back as about the same. */
Test(units, bytes_read_back)
{
    for (unsigned shift = 0; shift < 60; shift++)
        for (int d = -3; d <= 3; d++) {
            const uint64_t v = (UINT64_C(1) << shift) + (uint64_t)d + (d < 0 && (1u << (shift & 31)) < 4 ? 3 : 0);
            char s[32];
            uint64_t back;
            qn_human_bytes(s, sizeof s, v);
            cr_assert_leq(strlen(s), 10, "%s", s);
            char *const word = strstr(s, " byte");
            if (word)
                *word = '\0';
            cr_assert(qn_parse_size(s, &back), "%s", s);
            const uint64_t off = back > v ? back - v : v - back;
            cr_assert_leq(off, v / 180, "%s for %llu", s, (unsigned long long)v);
        }
}

Test(units, times_and_counts)
{
    char s[32];
    qn_human_seconds(s, sizeof s, 0.004);
    cr_assert_str_eq(s, "0.00 s");
    qn_human_seconds(s, sizeof s, 59.96);
    cr_assert_str_eq(s, "1 min 00 s");
    qn_human_seconds(s, sizeof s, 3599.7);
    cr_assert_str_eq(s, "1 h 00 min");
    qn_human_count(s, sizeof s, 999);
    cr_assert_str_eq(s, "999");
    qn_human_count(s, sizeof s, 7241732096);
    cr_assert_str_eq(s, "7.24 B");
    qn_human_count(s, sizeof s, 999999);
    cr_assert_str_eq(s, "1.00 M");
    qn_grouped(s, sizeof s, 1234567);
    cr_assert_str_eq(s, "1,234,567");
    qn_grouped(s, sizeof s, UINT64_MAX);
    cr_assert_str_eq(s, "18,446,744,073,709,551,615");
}

static const char *nearest(const char *word)
{
    static const char *const words[] = {"compress", "decompress", "verify", "help", "version"};
    qn_suggest s = qn_suggest_for(word, strlen(word));
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        qn_suggest_try(&s, words[i]);
    return s.best ? s.best : "";
}

Test(suggest, slips_are_understood)
{
    cr_assert_str_eq(nearest("comprses"), "compress");
    cr_assert_str_eq(nearest("decomp"), "decompress");
    cr_assert_str_eq(nearest("verfy"), "verify");
    cr_assert_str_eq(nearest("hlep"), "help");
    cr_assert_str_eq(nearest("quantize"), "");
    cr_assert_str_eq(nearest(""), "");
    char longest[200];
    memset(longest, 'v', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    cr_assert_str_eq(nearest(longest), "");
}
