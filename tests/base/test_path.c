/* test_path.c: UTF-8 on all sequences of one to three bytes and the edges of four, safe paths, joining. */
#include "base/path.h"
#include "base/err.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* By decoding: the code point that the bytes spell, and whether that is its one spelling. */
static bool is_char(const unsigned char *p, size_t n)
{
    uint32_t u;
    if (n == 1)
        return p[0] < 0x80;
    const unsigned lead = n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0, mask = n == 2 ? 0x1f : n == 3 ? 0x0f : 0x07;
    if ((p[0] & ~mask & 0xff) != lead)
        return false;
    u = p[0] & mask;
    for (size_t i = 1; i < n; i++) {
        if (p[i] >> 6 != 2)
            return false;
        u = u << 6 | (p[i] & 63);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    return u >= least[n] && u <= 0x10ffff && !(u >= 0xd800 && u < 0xe000);
}

static bool by_decoding(const unsigned char *p, size_t n)
{
    if (n == 0)
        return true;
    for (size_t k = 1; k <= 4 && k <= n; k++)
        if (is_char(p, k) && by_decoding(p + k, n - k))
            return true;
    return false;
}

Test(path, utf8_exhaustive)
{
    unsigned char p[3];
    uint64_t n_valid = 0;
    for (uint32_t x = 0; x < 1u << 24; x++) {
        p[0] = (unsigned char)x;
        p[1] = (unsigned char)(x >> 8);
        p[2] = (unsigned char)(x >> 16);
        const size_t n = x < 256 ? 1 : x < 65536 ? 2 : 3; /* sequences that end in a zero byte are left to the shorter ones */
        const bool got = qn_utf8_is_valid((char *)p, n);
        if (got != by_decoding(p, n))
            cr_assert_fail("%02x %02x %02x", p[0], p[1], p[2]);
        n_valid += got;
    }
    fprintf(stderr, "# %u byte sequences, %llu valid\n", 1u << 24, (unsigned long long)n_valid);
}

Test(path, utf8_four_bytes)
{
    static const unsigned char edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    for (unsigned a = 0xe0; a < 256; a++)
        for (size_t b = 0; b < sizeof edges; b++)
            for (size_t c = 0; c < sizeof edges; c++)
                for (size_t d = 0; d < sizeof edges; d++) {
                    const unsigned char p[4] = {(unsigned char)a, edges[b], edges[c], edges[d]};
                    cr_assert_eq(qn_utf8_is_valid((const char *)p, 4), by_decoding(p, 4));
                }
}

Test(path, safe)
{
    static const char *const good[] = {"a", "a/b", "model-00001-of-00002.safetensors", "a b", "...", "..a", "a..", ".a",
                                       "a/.../b", "\xc3\xa4/\xf0\x9f\x98\x80", "a:b", "1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6"};
    static const char *const bad[] = {"", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/./b", "../a", "a/..",
                                      "a/../b", "a\\b", "\\", "a\nb", "a\tb", "\x7f", "a\x01", "\xff", "a\xc3", "\xed\xa0\x80",
                                      "1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        cr_expect(qn_path_is_safe(good[i], strlen(good[i])), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_not(qn_path_is_safe(bad[i], strlen(bad[i])), "%s", bad[i]);
    cr_expect_not(qn_path_is_safe("a\0b", 3));
    char lots[1026];
    memset(lots, 'x', sizeof lots);
    cr_expect(qn_path_is_safe(lots, 1024));
    cr_expect_not(qn_path_is_safe(lots, 1025));
}

Test(path, parts)
{
    static const struct {
        const char *path, *dir;
    } dirs[] = {{"a", "."}, {"a/b", "a"}, {"/b", "/"}, {"/", "/"}, {"a/b/", "a"}, {"a//b", "a"}, {"", "."},
                {"/a/b", "/a"}, {"a/", "."}, {"//", "/"}, {"./a", "."}};
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        char *d = qn_path_dir(NULL, dirs[i].path, NULL);
        cr_expect_str_eq(d, dirs[i].dir, "'%s' gives '%s'", dirs[i].path, d);
        qn_mem_put(NULL, d);
    }
    static const struct {
        const char *a, *b, *joined;
    } joins[] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}, {".", "b", "./b"}};
    for (size_t i = 0; i < sizeof joins / sizeof joins[0]; i++) {
        char *j = qn_path_join(NULL, joins[i].a, joins[i].b, NULL);
        cr_expect_str_eq(j, joins[i].joined);
        qn_mem_put(NULL, j);
    }
}

Test(path, printable)
{
    static const struct {
        const char *in, *out;
    } rows[] = {{"abc", "abc"}, {"a\nb", "a\\x0ab"}, {"\x1b[2J", "\\x1b[2J"}, {"\x7f", "\\x7f"}, {"\xc3\xa4", "\xc3\xa4"},
                {"\xc2\x9b" "31m", "\\xc2\\x9b31m"}, {"\xff", "\\xff"}, {"\xe2\x80\xaetxt", "\\xe2\\x80\\xaetxt"},
                {"\xe2\x81\xa6", "\\xe2\\x81\\xa6"}, {"\xe2\x82\xac", "\xe2\x82\xac"}, {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
                {"a\xc3", "a\\xc3"}, {"\xe2\x80\xa8", "\\xe2\\x80\\xa8"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[64];
        qn_printable(out, sizeof out, rows[i].in, strlen(rows[i].in));
        cr_expect_str_eq(out, rows[i].out);
    }
    for (size_t room = 1; room < 8; room++) { /* cut between characters, always ended */
        char out[8];
        memset(out, 'x', sizeof out);
        qn_printable(out, room, "a\xc3\xa4\nz", 5);
        cr_expect(strlen(out) < room && qn_utf8_is_valid(out, strlen(out)), "%zu: %s", room, out);
    }
}

Test(path, last_name)
{
    static const char *const cases[][2] = {{"a/b", "b"}, {"a/b/", "b"}, {"a", "a"}, {"a//", "a"}, {"/x/net.onnx", "net.onnx"}, {"", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *last = qn_path_last(NULL, cases[i][0], NULL);
        cr_expect_str_eq(last, cases[i][1]);
        qn_mem_put(NULL, last);
    }
}
