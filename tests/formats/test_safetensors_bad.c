/* test_safetensors_bad.c: malformed safetensors files, each with the error that it must give.
 *
 * A row is a header text and a number of data bytes. '^' in the text is no part of it: it marks the byte at which the
 * error must be reported. Without a mark the offset is in the row. */
#include "formats/source.h"
#include "tests/support/hostile.h"
#include <criterion/criterion.h>
#include <string.h>

#define ANY  QN_NO_OFFSET
#define F32  "\"dtype\":\"F32\""
#define S2   "\"shape\":[2]"
#define O08  "\"data_offsets\":[0,8]"
#define T(x) "\"" x "\":{" F32 "," S2 "," O08 "}"
#define MARK "^"

static const struct row {
    const char *name, *header;
    size_t n_data;
    uint64_t off;
    qn_code code;
    const char *tensor, *text;
} rows[] = {
    /* JSON itself */
    {"not an object", "[]", 0, 8, QN_E_INPUT, "", "'{' expected"},
    {"leading space", " {}", 0, 8, QN_E_INPUT, "", "0x20, '{' expected"},
    {"byte order mark", "\xef\xbb\xbf{}", 0, 8, QN_E_INPUT, "", "0xef, '{' expected"},
    {"open object", "{  ^", 0, ANY, QN_E_INPUT, "", "ends early"},
    {"text after the end", "{}^x", 0, ANY, QN_E_INPUT, "", "after the end"},
    {"NUL padding", "{}    ^\1", 0, ANY, QN_E_INPUT, "", "after the end"},
    {"second object", "{}^{}", 0, ANY, QN_E_INPUT, "", "after the end"},
    {"trailing comma", "{" T("t") ",^}", 8, ANY, QN_E_INPUT, "", "where a key should begin"},
    {"comma first", "{^," T("t") "}", 8, ANY, QN_E_INPUT, "", "where a key should begin"},
    {"missing comma", "{" T("t") "^" T("u") "}", 8, ANY, QN_E_INPUT, "", "comma or an end"},
    {"missing colon", "{\"t\" ^{}}", 0, ANY, QN_E_INPUT, "", "colon is missing"},
    {"key without quotes", "{^t:{}}", 0, ANY, QN_E_INPUT, "", "where a key should begin"},
    {"single quotes", "{^'t':{}}", 0, ANY, QN_E_INPUT, "", "where a key should begin"},
    {"comment", "{^/*x*/}", 0, ANY, QN_E_INPUT, "", "where a key should begin"},
    {"mismatched end", "{\"t\":{" F32 ",\"shape\":[2^}," O08 "}}", 8, ANY, QN_E_INPUT, "t", "comma or an end"},
    {"name not UTF-8", "{\"a\x80^\":{}}", 0, ANY, QN_E_INPUT, "", "not UTF-8"},
    {"name with overlong NUL", "{\"a\xc0^\x80\":{}}", 0, ANY, QN_E_INPUT, "", "not UTF-8"},
    {"name with raw surrogate", "{\"\xed\xa0^\x80\":{}}", 0, ANY, QN_E_INPUT, "", "not UTF-8"},
    {"name past U+10FFFF", "{\"\xf4\x90\x80^\x80\":{}}", 0, ANY, QN_E_INPUT, "", "not UTF-8"},
    {"name with escaped NUL", "{\"a\\u000^0\":{}}", 0, ANY, QN_E_INPUT, "", "NUL in a string"},
    {"lone high surrogate", "{\"\\ud800^x\":{}}", 0, ANY, QN_E_INPUT, "", "lone surrogate \\ud800"},
    {"lone low surrogate", "{\"\\udc0^0\":{}}", 0, ANY, QN_E_INPUT, "", "lone surrogate \\udc00"},
    {"surrogates swapped", "{\"\\udc0^0\\ud800\":{}}", 0, ANY, QN_E_INPUT, "", "lone surrogate \\udc00"},
    {"surrogate pair without backslash", "{\"\\ud83d^ude00\":{}}", 0, ANY, QN_E_INPUT, "", "lone surrogate \\ud83d"},
    {"high surrogate twice", "{\"\\ud83d\\ud83^d\":{}}", 0, ANY, QN_E_INPUT, "", "lone surrogate \\ud83d"},
    {"three hex digits", "{\"\\u12^gg\":{}}", 0, ANY, QN_E_INPUT, "", "four hex digits"},
    {"unknown escape", "{\"\\^x41\":{}}", 0, ANY, QN_E_INPUT, "", "unknown escape"},
    {"line feed in a name", "{\"a^\nb\":{}}", 0, ANY, QN_E_INPUT, "", "control byte 0x0a"},
    {"name never ends", "{\"abc^", 0, ANY, QN_E_INPUT, "", "ends early"},
    {"escape at the end", "{\"abc\\^", 0, ANY, QN_E_INPUT, "", "ends early"},
    {"word cut", "{\"t\":tru^x}", 0, ANY, QN_E_INPUT, "t", NULL},
    {"NaN", "{\"t\":{\"x\":^NaN}}", 0, ANY, QN_E_INPUT, "t", "where a value should begin"},
    {"plus sign", "{\"t\":{\"x\":^+1}}", 0, ANY, QN_E_INPUT, "t", "where a value should begin"},
    {"dot first", "{\"t\":{\"x\":^.5}}", 0, ANY, QN_E_INPUT, "t", "where a value should begin"},
    {"dot last", "{\"t\":{\"x\":5.^}}", 0, ANY, QN_E_INPUT, "t", "digit is missing"},
    {"exponent empty", "{\"t\":{\"x\":5e+^}}", 0, ANY, QN_E_INPUT, "t", "digit is missing"},
    {"minus alone", "{\"t\":{\"x\":-^}}", 0, ANY, QN_E_INPUT, "t", "digit is missing"},
    {"hexadecimal", "{\"t\":{\"x\":0^x10}}", 0, ANY, QN_E_INPUT, "t", "comma or an end"},
    {"leading zero", "{\"t\":{" F32 ",\"shape\":[0^2]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "begins with 0"},
    /* entries */
    {"entry is null", "{\"t\":^null}", 0, ANY, QN_E_INPUT, "t", "object is expected"},
    {"entry is an array", "{\"t\":^[]}", 0, ANY, QN_E_INPUT, "t", "object is expected"},
    {"dtype missing", "{^\"t\":{" S2 "," O08 "}}", 8, ANY, QN_E_INPUT, "t", "dtype is missing"},
    {"shape missing", "{^\"t\":{" F32 "," O08 "}}", 8, ANY, QN_E_INPUT, "t", "shape is missing"},
    {"offsets missing", "{^\"t\":{" F32 "," S2 "}}", 8, ANY, QN_E_INPUT, "t", "data_offsets is missing"},
    {"dtype twice", "{\"t\":{" F32 ",^" F32 "," S2 "," O08 "}}", 8, ANY, QN_E_INPUT, "t", "'dtype' stands twice"},
    {"shape twice", "{\"t\":{" F32 "," S2 ",^" S2 "," O08 "}}", 8, ANY, QN_E_INPUT, "t", "'shape' stands twice"},
    {"offsets twice", "{\"t\":{" F32 "," O08 "," S2 ",^" O08 "}}", 8, ANY, QN_E_INPUT, "t", "'data_offsets' stands twice"},
    {"dtype unknown", "{\"t\":{\"dtype\":^\"F33\"," S2 "," O08 "}}", 8, ANY, QN_E_UNSUPPORTED, "t", "dtype 'F33' is not known"},
    {"dtype in small letters", "{\"t\":{\"dtype\":^\"f32\"," S2 "," O08 "}}", 8, ANY, QN_E_UNSUPPORTED, "t", "'f32' is not known"},
    {"dtype empty", "{\"t\":{\"dtype\":^\"\"," S2 "," O08 "}}", 8, ANY, QN_E_UNSUPPORTED, "t", "dtype '' is not known"},
    {"dtype of ours", "{\"t\":{\"dtype\":^\"BYTES\",\"shape\":[8]," O08 "}}", 8, ANY, QN_E_UNSUPPORTED, "t", "'BYTES' is not known"},
    {"dtype of ggml", "{\"t\":{\"dtype\":^\"Q8_0\",\"shape\":[32],\"data_offsets\":[0,34]}}", 34, ANY, QN_E_UNSUPPORTED, "t", "'Q8_0' is not known"},
    {"dtype drives the terminal", "{\"t\":{\"dtype\":^\"\\u001b[2J\\u009b\"," S2 "," O08 "}}", 8, ANY, QN_E_UNSUPPORTED, "t", "dtype '\\x1b[2J\\xc2\\x9b'"},
    {"dtype a number", "{\"t\":{\"dtype\":^4," S2 "," O08 "}}", 8, ANY, QN_E_INPUT, "t", "string is expected"},
    {"shape a number", "{\"t\":{" F32 ",\"shape\":^2," O08 "}}", 8, ANY, QN_E_INPUT, "t", "array is expected"},
    {"shape negative", "{\"t\":{" F32 ",\"shape\":[^-2]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "dimension must be"},
    {"shape minus zero", "{\"t\":{" F32 ",\"shape\":[^-0]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "dimension must be"},
    {"shape a float", "{\"t\":{" F32 ",\"shape\":[^2.0]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "dimension must be"},
    {"shape with exponent", "{\"t\":{" F32 ",\"shape\":[^2e0]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "dimension must be"},
    {"shape a string", "{\"t\":{" F32 ",\"shape\":[^\"2\"]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "dimension must be"},
    {"shape nested", "{\"t\":{" F32 ",\"shape\":[^[2]]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "dimension must be"},
    {"dimension 2^48+1", "{\"t\":{" F32 ",\"shape\":[^281474976710657]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "dimension must be"},
    {"dimension 2^64", "{\"t\":{" F32 ",\"shape\":[^18446744073709551616]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "dimension must be"},
    {"dimension 1e309", "{\"t\":{" F32 ",\"shape\":[^1e309]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "dimension must be"},
    {"17 dimensions", "{\"t\":{" F32 ",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2,^1]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "more than 16"},
    {"product wraps to 0", "{^\"t\":{" F32 ",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, ANY, QN_E_INPUT, "t", "size overflows"},
    {"product wraps to 4", "{\"t\":{\"dtype\":\"U8\",\"shape\":[^144115188075855873,4],\"data_offsets\":[0,4]}}", 4, ANY, QN_E_INPUT, "t", "dimension must be"},
    {"bytes wrap", "{^\"t\":{" F32 ",\"shape\":[281474976710656,16384],\"data_offsets\":[0,0]}}", 0, ANY, QN_E_INPUT, "t", "size overflows"},
    {"bits wrap", "{^\"t\":{\"dtype\":\"F64\",\"shape\":[281474976710656,4096],\"data_offsets\":[0,0]}}", 0, ANY, QN_E_INPUT, "t", "size overflows"},
    {"half a byte", "{^\"t\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, ANY, QN_E_INPUT, "t", "whole number of bytes"},
    {"three quarters of a byte", "{^\"t\":{\"dtype\":\"F6_E2M3\",\"shape\":[5],\"data_offsets\":[0,4]}}", 4, ANY, QN_E_INPUT, "t", "whole number of bytes"},
    {"zero dim beside bytes", "{^\"t\":{" F32 ",\"shape\":[0,2]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "span 8 bytes, dtype and shape need 0"},
    {"scalar of 8 bytes", "{^\"t\":{" F32 ",\"shape\":[]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "span 8 bytes, dtype and shape need 4"},
    {"too few bytes", "{^\"t\":{" F32 ",\"shape\":[3]," O08 "}}", 8, ANY, QN_E_INPUT, "t", "span 8 bytes, dtype and shape need 12"},
    {"offsets one number", "{\"t\":{" F32 "," S2 ",\"data_offsets\":[0^]}}", 8, ANY, QN_E_INPUT, "t", "two integers"},
    {"offsets three numbers", "{\"t\":{" F32 "," S2 ",\"data_offsets\":[0,8,^9]}}", 8, ANY, QN_E_INPUT, "t", "two integers"},
    {"offsets floats", "{\"t\":{" F32 "," S2 ",\"data_offsets\":[0,^8.0]}}", 8, ANY, QN_E_INPUT, "t", "two integers"},
    {"offsets negative", "{\"t\":{" F32 "," S2 ",\"data_offsets\":[^-8,0]}}", 8, ANY, QN_E_INPUT, "t", "two integers"},
    {"offsets 2^64", "{\"t\":{" F32 "," S2 ",\"data_offsets\":[0,^18446744073709551616]}}", 8, ANY, QN_E_INPUT, "t", "two integers"},
    {"offsets backwards", "{^\"t\":{" F32 "," S2 ",\"data_offsets\":[8,0]}}", 8, ANY, QN_E_INPUT, "t", "not inside the 8 bytes"},
    {"offsets past the end", "{^\"t\":{" F32 "," S2 ",\"data_offsets\":[8,16]}}", 8, ANY, QN_E_INPUT, "t", "not inside the 8 bytes"},
    {"offsets at 2^64-1", "{^\"t\":{" F32 "," S2 ",\"data_offsets\":[18446744073709551607,18446744073709551615]}}", 8, ANY, QN_E_INPUT, "t", "not inside the 8 bytes"},
    {"offsets null", "{\"t\":{" F32 "," S2 ",\"data_offsets\":^null}}", 8, ANY, QN_E_INPUT, "t", "array is expected"},
    {"depth bomb in an unknown key", "{\"t\":{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[^[[[[]]]]}}", 0, ANY, QN_E_INPUT, "t", "nested deeper than 32"},
    /* the set of entries */
    {"metadata a string", "{\"__metadata__\":^\"x\"}", 0, ANY, QN_E_INPUT, "", "object is expected"},
    {"metadata a number inside", "{\"__metadata__\":{\"a\":^1}}", 0, ANY, QN_E_INPUT, "", "only strings"},
    {"metadata nested", "{\"__metadata__\":{\"a\":^{}}}", 0, ANY, QN_E_INPUT, "", "only strings"},
    {"metadata null inside", "{\"__metadata__\":{\"a\":^null}}", 0, ANY, QN_E_INPUT, "", "only strings"},
    {"metadata twice", "{\"__metadata__\":{},^\"__metadata__\":{}}", 0, ANY, QN_E_INPUT, "", "stands twice"},
    {"name twice, side by side", "{" T("t") "," T("t") "}", 8, 115, QN_E_INPUT, "t", "overlaps"},
    {"name twice, both empty", "{\"t\":{" F32 ",\"shape\":[0],\"data_offsets\":[0,0]},\"t\":{" F32 ",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, 115, QN_E_INPUT, "t", "two tensors have this name"},
    {"name twice by escape", "{\"t\":{" F32 "," S2 "," O08 "},\"\\u0074\":{" F32 "," S2 ",\"data_offsets\":[8,16]}}", 16, 129, QN_E_INPUT, "t", "two tensors have this name"},
    {"overlap by one", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}", 7, 116, QN_E_INPUT, "b", "overlaps: begins at 3, the one before ends at 4"},
    {"one inside the other", "{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 8, 115, QN_E_INPUT, "b", "overlaps"},
    {"hole", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[5,8]}}", 8, 118, QN_E_INPUT, "b", "leaves a hole: begins at 5, the one before ends at 4"},
    {"hole at the front", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", 8, 65, QN_E_INPUT, "a", "leaves a hole"},
    {"empty tensor inside another", "{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},\"e\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}", 8, 115, QN_E_INPUT, "e", "overlaps"},
    {"trailing byte", "{" T("t") "}", 9, 70, QN_E_INPUT, "", "1 bytes at the end belong to no tensor"},
    {"data without tensors", "{}", 8, 10, QN_E_INPUT, "", "8 bytes at the end"},
    {"data cut", "{^" T("t") "}", 7, ANY, QN_E_INPUT, "t", "not inside the 7 bytes"},
};

/* Header text without the mark; *off is the marked byte's place in the file, or left alone. */
static void unmark(const char *marked, qt_buf *text, uint64_t *off)
{
    const char *m = strchr(marked, '^');
    qt_add(text, marked, m ? (size_t)(m - marked) : strlen(marked));
    if (m) {
        if (*off == ANY)
            *off = 8 + text->n;
        qt_add(text, m + 1, strlen(m + 1));
    }
}

static qn_code open_bytes(const void *p, size_t n, qt_counter *counter, qn_err *err)
{
    return qt_open_bytes("m.safetensors", p, n, counter, err);
}

Test(safetensors_bad, rows)
{
    const size_t n_rows = sizeof rows / sizeof rows[0];
    size_t n_bad = 0;
    double worst = 0;
    uint64_t worst_over = 0;
    for (size_t i = 0; i < n_rows; i++) {
        const struct row *r = &rows[i];
        qt_buf text = {0}, file = {0};
        uint64_t off = r->off;
        qn_err err;
        qt_counter c;
        unmark(r->header, &text, &off);
        qt_add_safetensors(&file, (char *)text.p, r->n_data);
        qt_counter_init(&c);
        const double t0 = qt_cpu_ms();
        const qn_code rc = open_bytes(file.p, file.n, &c, &err);
        const double ms = qt_cpu_ms() - t0;
        worst = ms > worst ? ms : worst;
        worst_over = c.peak > worst_over ? c.peak : worst_over;
        n_bad += !qt_err_is(r->name, &err, rc, r->code, off, r->tensor, r->text) || err.path[0] == '\0';
        cr_expect_leq(c.peak, 2 * file.n + (1 << 20), "%s takes %llu bytes", r->name, (unsigned long long)c.peak);
        qt_buf_free(&text);
        qt_buf_free(&file);
    }
    cr_expect_eq(n_bad, 0, "%zu of %zu files give another error", n_bad, n_rows);
    fprintf(stderr, "# %zu malformed safetensors files refused; slowest %.2f ms, most memory %llu bytes\n", n_rows, worst,
            (unsigned long long)worst_over);
}

/* Rows about the eight bytes of length and what is shorter. */
Test(safetensors_bad, lengths)
{
    static const struct {
        const char *name;
        uint64_t length;
        size_t n_bytes;
        uint64_t off;
        const char *text;
    } len[] = {
        {"empty file", 0, 0, 0, "0 bytes are too few"},
        {"one byte", 2, 1, 1, "1 bytes are too few"},
        {"only a length", 2, 8, 8, "8 bytes are too few"},
        {"length 0", 0, 16, 0, "header length 0: 2 to 8"},
        {"length 1", 1, 16, 0, "header length 1: 2 to 8"},
        {"length one too much", 9, 16, 0, "header length 9: 2 to 8"},
        {"length 2^32", UINT64_C(1) << 32, 16, 0, "header length 4294967296: 2 to 8"},
        {"length 2^63", UINT64_C(1) << 63, 16, 0, "header length 9223372036854775808"},
        {"length 2^64-8", UINT64_MAX - 7, 16, 0, "header length 18446744073709551608"},
        {"length 2^64-1", UINT64_MAX, 16, 0, "header length 18446744073709551615"},
        {"big-endian length", UINT64_C(2) << 56, 16, 0, "header length"},
    };
    for (size_t i = 0; i < sizeof len / sizeof len[0]; i++) {
        uint8_t b[16] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}', ' ', ' ', ' ', ' ', ' ', ' '};
        qn_err err;
        for (int k = 0; k < 8; k++)
            b[k] = (uint8_t)(len[i].length >> 8 * k);
        const qn_code rc = open_bytes(b, len[i].n_bytes, NULL, &err);
        cr_expect(qt_err_is(len[i].name, &err, rc, QN_E_INPUT, len[i].off, "", len[i].text));
    }
    fprintf(stderr, "# %zu malformed lengths refused\n", sizeof len / sizeof len[0]);
}

static const char whole[] = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":"
                            "[0,12]},\"b\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[12,14]}}   ";

/* No prefix and no extension of a valid file is valid. */
Test(safetensors_bad, prefixes_and_extensions)
{
    qt_buf file = {0};
    qn_err err;
    qt_add_safetensors(&file, whole, 14);
    cr_assert_eq(open_bytes(file.p, file.n, NULL, &err), QN_OK, "%s", err.text);
    for (size_t n = 0; n < file.n; n++) {
        uint8_t *exact = malloc(n ? n : 1); /* so that a read past the end is seen */
        memcpy(exact, file.p, n);
        const qn_code rc = open_bytes(exact, n, NULL, &err);
        cr_expect_eq(rc, QN_E_INPUT, "prefix of %zu bytes: code %d", n, rc);
        free(exact);
    }
    const size_t n_whole = file.n;
    for (size_t more = 1; more <= 64; more++) {
        qt_add(&file, more % 2 ? "\0" : "{", 1);
        const qn_code rc = open_bytes(file.p, file.n, NULL, &err);
        cr_expect(qt_err_is("extension", &err, rc, QN_E_INPUT, n_whole, "", "at the end belong to no tensor"));
    }
    fprintf(stderr, "# %zu prefixes and 64 extensions refused\n", n_whole);
    qt_buf_free(&file);
}

/* Whichever allocation fails: a clean error, nothing kept. */
Test(safetensors_bad, every_allocation_fails)
{
    qt_buf file = {0};
    qn_err err;
    qt_add_safetensors(&file, whole, 14);
    for (int persistent = 0; persistent < 2; persistent++)
        for (uint64_t k = 1;; k++) {
            qt_counter c;
            qt_counter_init(&c);
            c.fail_at = k;
            c.fail_on = persistent;
            const qn_code rc = open_bytes(file.p, file.n, &c, &err);
            if (rc == QN_OK) {
                cr_assert_gt(k, 5u);
                break;
            }
            cr_assert_eq(rc, QN_E_MEMORY, "allocation %llu: code %d", (unsigned long long)k, rc);
            cr_assert_eq(err.code, QN_E_MEMORY);
        }
    qt_buf_free(&file);
}
