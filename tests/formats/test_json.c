/* test_json.c: what readers of other people's JSON ask for beyond structure: reals to the nearest double, long texts, NUL. */
#include "base/err.h"
#include "formats/json/json.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qn_code read_text(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    (void)err;
    memcpy(dst, (const char *)ctx + off, n);
    return QN_OK;
}

static qn_json reader(char *text)
{
    qn_json j;
    cr_assert_eq(qn_json_open(&j, NULL, read_text, text, 0, strlen(text), NULL), QN_OK);
    return j;
}

static double real_of(const char *spelling)
{
    char text[256];
    qn_json_token tok;
    (void)snprintf(text, sizeof text, "%s", spelling);
    qn_json j = reader(text);
    j.read_reals = true;
    cr_assert_eq(qn_json_next(&j, &tok, NULL), QN_OK, "%s", spelling);
    cr_assert_eq(tok, QN_JSON_NUMBER);
    qn_json_release(&j);
    return j.real;
}

/* Against the C library, in its "C" locale: the nearest double, bit for bit. */
Test(json, reals)
{
    static const char *const rows[] = {
        "0", "-0", "1", "-1", "0.1", "-9.210340371976184", "1e22", "1e23", "123456789012345678901234567890", "1.7976931348623157e308",
        "4.9e-324", "2.2250738585072011e-308", "1e400", "-1e400", "1e-400", "0.30000000000000004", "9007199254740993", "9007199254740992.5",
        "3.141592653589793238462643383279502884197169399375105820974944592307", "0.00000000000000000000000000000000000000000000000012345",
        "1e99999999999999999999", "100000000000000000000000000000000000000000000000000000000000000000000000000", "-12.5E+1", "5e-1",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double got = real_of(rows[i]), want = strtod(rows[i], NULL);
        cr_expect_eq(memcmp(&got, &want, sizeof got), 0, "%s: %.17g, %.17g", rows[i], got, want);
    }
}

Test(json, integers_beside_reals)
{
    char text[] = "[18446744073709551615,18446744073709551616,-1,1.0,1e2]";
    const bool is_uint[] = {true, false, false, false, false};
    qn_json_token tok;
    qn_json j = reader(text);
    cr_assert_eq(qn_json_next(&j, &tok, NULL), QN_OK);
    for (size_t i = 0; i < sizeof is_uint / sizeof *is_uint; i++) {
        cr_assert_eq(qn_json_next(&j, &tok, NULL), QN_OK);
        cr_expect_eq(j.is_uint, is_uint[i], "%zu", i);
    }
    qn_json_release(&j);
}

Test(json, long_texts)
{
    enum { N = 100000 };
    char *text = malloc(N + 3);
    qn_json_token tok;
    memset(text, 'x', N + 2);
    text[0] = text[N + 1] = '"';
    text[N + 2] = '\0';
    for (int limit = 0; limit < 3; limit++) {
        qn_json j = reader(text);
        const size_t keeps[] = {QN_JSON_STRING_MAX, N, 50000};
        if (limit)
            qn_json_text_limit(&j, limit == 1 ? 1 << 20 : 50000);
        cr_assert_eq(qn_json_next(&j, &tok, NULL), QN_OK);
        cr_expect_eq(j.n_text, keeps[limit]);
        cr_expect_eq(j.cut, limit != 1);
        cr_expect_eq(strlen(j.text), keeps[limit]);
        qn_json_release(&j);
    }
    free(text);
}

Test(json, nul_when_allowed)
{
    char text[] = "\"a\\u0000b\"";
    qn_json_token tok;
    qn_json j = reader(text);
    cr_expect_eq(qn_json_next(&j, &tok, NULL), QN_E_INPUT);
    qn_json_release(&j);
    j = reader(text);
    j.allow_nul = true;
    cr_assert_eq(qn_json_next(&j, &tok, NULL), QN_OK);
    cr_expect_eq(j.n_text, 3u);
    cr_expect_eq(memcmp(j.text, "a\0b", 4), 0);
    qn_json_release(&j);
}
