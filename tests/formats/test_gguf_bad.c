/* test_gguf_bad.c: malformed GGUF files, each with the error that it must give. A row is the file in the text of
 * gguf_build.h; '^' marks the byte at which the error must be reported. */
#include "formats/source.h"
#include "tests/support/gguf_build.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define H(tensors, keys) "GGUF i3 q" #tensors " q" #keys " "
#define T32  "\"t\" i1 q2 i0 q0 "            /* F32 [2] at 0 */
#define KEYS "\"a\" i4 i1 "                  /* a: u32 1     */
#define FIT  " | d8"
#define IN   QN_E_INPUT
#define NO   QN_E_UNSUPPORTED

static const struct row {
    const char *name, *file;
    qn_code code;
    const char *tensor, *text;
} rows[] = {
    /* the first bytes */
    {"empty file", "^", IN, "", "magic needs 4 bytes, 0 are left"},
    {"other magic", "^ 'GGML' i3 q0 q0", IN, "", "begins with 47 47 4d 4c"},
    {"magic in small letters", "^ 'gguf' i3 q0 q0", IN, "", "not a GGUF file"},
    {"magic alone", "GGUF ^", IN, "", "version needs 4 bytes"},
    {"version 0", "GGUF ^ i0 q0 q0", IN, "", "GGUF version 0: 2 and 3 are read"},
    {"version 1", "GGUF ^ i1 q0 q0", NO, "", "GGUF version 1: 2 and 3 are read"},
    {"version 4", "GGUF ^ i4 q0 q0", NO, "", "GGUF version 4"},
    {"version 2^31", "GGUF ^ i0x80000000 q0 q0", NO, "", "big-endian"},
    {"version 2^32-1", "GGUF ^ i0xffffffff q0 q0", NO, "", "GGUF version 4294967295"},
    {"big-endian", "GGUF ^ i0x03000000 q0 q0", NO, "", "big-endian GGUF: only little-endian files are read"},
    {"no counts", "GGUF i3 ^", IN, "", "tensor count needs 8 bytes, 0 are left"},
    {"no key count", "GGUF i3 q0 ^ i0", IN, "", "key count needs 8 bytes, 4 are left"},
    {"counts of 32 bits, as in version 1", "GGUF i3 ^ i1 i0 i0 i0", IN, "", "1 tensors announced: the file has room for 0"},
    {"tensor count negative", "GGUF i3 ^ q-1 q0 z64", IN, "", "18446744073709551615 tensors announced: the file has room for 2"},
    {"tensor count times record wraps", "GGUF i3 ^ q0x0a3d70a3d70a3d71 q0 z64", IN, "", "tensors announced"},
    {"key count negative", "GGUF i3 q0 ^ q-1 z64", IN, "", "18446744073709551615 keys announced: the file has room for 4"},
    {"key count times record wraps", "GGUF i3 q0 ^ q0x1249249249249249 z64", IN, "", "keys announced"},
    {"one tensor more than there is", H(2, 0) T32 "^ z32", IN, "", "tensor name of 0 bytes"},
    {"one key more than there is", H(1, 2) KEYS "\"t\" i1 b2 ^ z7 i0 q0 | d8", IN, "", "tensor name of 0 bytes"},
    {"one tensor fewer than there is", H(0, 0) "^ " T32 FIT, IN, "", "bytes at the end belong to no tensor"},
    /* keys */
    {"key empty", H(0, 1) "^ \"\" i4 i1", IN, "", "key of 0 bytes: 1 to 65535 are allowed"},
    {"key of 64 KiB", H(0, 1) "^ q65536 z65600", IN, "", "key of 65536 bytes"},
    {"key length 2^64-1", H(0, 1) "^ q-1 'a' i4 i1 z4", IN, "", "key of 18446744073709551615 bytes"},
    {"key past the end", H(0, 1) "^ q100 'a' i4 i1", IN, "", "key needs 100 bytes, 9 are left"},
    {"key not UTF-8", H(0, 1) "^ \"a\x80\" i4 i1", IN, "", "key is not UTF-8 or has a NUL inside"},
    {"key with NUL", H(0, 1) "^ q3 'a' b0 'b' i4 i1", IN, "", "key is not UTF-8 or has a NUL inside"},
    {"key twice", H(0, 2) KEYS "^ " KEYS, IN, "", "key 'a' stands twice"},
    {"key twice, far, other type", H(0, 3) KEYS "\"b\" i0 b1 ^ \"a\" i8 \"x\"", IN, "", "key 'a' stands twice"},
    {"key twice, drives the terminal", H(0, 2) "\"\x1b[2J\" i4 i1 ^ \"\x1b[2J\" i4 i1", IN, "", "key '\\x1b[2J' stands twice"},
    {"value type 13", H(0, 1) "\"a\" ^ i13 i1", IN, "", "value type 13: 0 to 12 are allowed"},
    {"value type 2^32-1", H(0, 1) "\"a\" ^ i-1 i1", IN, "", "value type 4294967295"},
    {"value cut", H(0, 1) "\"a\" i10 ^ i1", IN, "", "value needs 8 bytes, 4 are left"},
    {"bool of 2", H(0, 1) "\"a\" i7 ^ b2", IN, "", "bool of value 2"},
    {"string length 2^64-1", H(0, 1) "\"a\" i8 q-1 ^ z8", IN, "", "string needs 18446744073709551615 bytes, 8 are left"},
    {"string one byte too long", H(0, 1) "\"a\" i8 q9 ^ z8", IN, "", "string needs 9 bytes, 8 are left"},
    {"array type 13", H(0, 1) "\"a\" i9 ^ i13 q0", IN, "", "array type 13"},
    {"array one element too long", H(0, 1) "\"a\" i9 i4 ^ q3 z8", IN, "", "array of 3 elements: 8 bytes are left"},
    {"array bytes wrap", H(0, 1) "\"a\" i9 i4 ^ q0x4000000000000001 z8", IN, "", "array of 4611686018427387905 elements"},
    {"array of 2^64-1", H(0, 1) "\"a\" i9 i0 ^ q-1 z8", IN, "", "array of 18446744073709551615 elements"},
    {"array of strings, count alone too large", H(0, 1) "\"a\" i9 i8 ^ q2 q0", IN, "", "array of 2 elements: 8 bytes are left"},
    {"array of strings, total too long", H(0, 1) "\"a\" i9 i8 q2 \"abc\" q3 ^ 'ab'", IN, "", "string needs 3 bytes, 2 are left"},
    {"array of strings, inner length 2^64-1", H(0, 1) "\"a\" i9 i8 q1 q-1 ^ z8", IN, "", "string needs 18446744073709551615"},
    {"arrays nested five deep", H(0, 1) "\"a\" i9 i9 q1 i9 q1 i9 q1 i9 q1 ^ i9 q1 i9 q1 i0 q0 z64", NO, "", "arrays in arrays deeper than 4"},
    {"arrays of arrays, count too large", H(0, 1) "\"a\" i9 i9 ^ q3 i0 q0 i0 q0", IN, "", "array of 3 elements: 24 bytes are left"},
    {"alignment 0", H(0, 1) "\"general.alignment\" i4 ^ i0", IN, "", "general.alignment is 0: a power of two"},
    {"alignment 3", H(0, 1) "\"general.alignment\" i4 ^ i3", IN, "", "general.alignment is 3"},
    {"alignment 2^21", H(0, 1) "\"general.alignment\" i4 ^ i0x200000", IN, "", "general.alignment is 2097152"},
    {"alignment 2^31", H(0, 1) "\"general.alignment\" i4 ^ i0x80000000", IN, "", "general.alignment is 2147483648"},
    {"alignment a u64", H(0, 1) "\"general.alignment\" i10 ^ q0x8000000000000000", IN, "", "general.alignment is u64: u32 is allowed"},
    {"alignment a string", H(0, 1) "\"general.alignment\" i8 q2 ^ '32'", IN, "", "general.alignment is string"},
    /* tensor infos */
    {"tensor name empty", H(1, 0) "^ \"\" i1 q2 i0 q0" FIT, IN, "", "tensor name of 0 bytes: 1 to 4096"},
    {"tensor name length 2^64-1", H(1, 0) "^ q-1 't' i1 q2 i0 q0" FIT, IN, "", "tensor name of 18446744073709551615"},
    {"tensor name not UTF-8", H(1, 0) "^ \"\xff\" i1 q2 i0 q0" FIT, IN, "", "tensor name is not UTF-8"},
    {"tensor name with NUL", H(1, 0) "^ q2 't' b0 i1 q2 i0 q0" FIT, IN, "", "has a NUL inside"},
    {"five dimensions", H(1, 0) "\"t\" ^ i5 q1 q1 q1 q1 q2 i0 q0" FIT, IN, "t", "5 dimensions: at most 4"},
    {"2^32-1 dimensions", H(1, 0) "\"t\" ^ i-1 q2 i0 q0" FIT, IN, "t", "4294967295 dimensions"},
    {"dimension negative", H(1, 0) "\"t\" i1 ^ q-2 i0 q0" FIT, IN, "t", "dimension 18446744073709551614: at most 2^48"},
    {"dimension 2^48+1", H(1, 0) "\"t\" i1 ^ q0x1000000000001 i0 q0" FIT, IN, "t", "at most 2^48"},
    {"product wraps to 0", H(1, 0) "\"t\" ^ i2 q0x100000000 q0x100000000 i0 q0" FIT, IN, "t", "its size overflows"},
    {"product wraps to 2", H(1, 0) "\"t\" ^ i3 q0x800000000001 q0x20000 q2 i0 q0" FIT, IN, "t", "its size overflows"},
    {"bytes wrap", H(1, 0) "\"t\" ^ i2 q0x1000000000000 q0x4000 i0 q0" FIT, IN, "t", "its size overflows"},
    {"block bytes wrap", H(1, 0) "\"t\" ^ i3 q0x1000000000000 q0x8000 q2 i8 q0" FIT, IN, "t", "its size overflows"},
    {"exabyte tensor", H(1, 0) "\"t\" i2 q0x1000000000000 q0x100 i0 ^ q0" FIT, IN, "t", "data of 288230376151711744 bytes at 0"},
    {"type 43", H(1, 0) "\"t\" i1 q2 ^ i43 q0" FIT, NO, "t", "type 43: F32, F16"},
    {"type 2^32-1", H(1, 0) "\"t\" i1 q2 ^ i-1 q0" FIT, NO, "t", "type 4294967295: "},
    {"type that is one of ours plus 2^32-64", H(1, 0) "\"t\" i1 q2 ^ i0xffffffd2 q0" FIT, NO, "t", "type 4294967250"},
    {"type Q4_2", H(1, 0) "\"t\" i1 q32 ^ i4 q0" FIT, NO, "t", "type 4, which ggml has given up"},
    {"type Q4_0_4_4", H(1, 0) "\"t\" i1 q32 ^ i31 q0" FIT, NO, "t", "type 31, which ggml has given up"},
    {"type Q8_1", H(1, 0) "\"t\" i1 q32 ^ i9 q0" FIT, NO, "t", "type 9, a type for computing"},
    {"type Q8_K", H(1, 0) "\"t\" i1 q256 ^ i15 q0" FIT, NO, "t", "type 15, a type for computing"},
    {"type of another program", H(1, 0) "\"t\" i1 q256 ^ i137 q0" FIT, NO, "t", "type 137: "},
    {"row not whole blocks", H(1, 0) "\"t\" ^ i1 q33 i2 q0 | d64", IN, "t", "rows of 33 elements in Q4_0: multiples of 32"},
    {"rows not whole blocks, tensor is", H(1, 0) "\"t\" ^ i2 q16 q2 i2 q0 | d18", IN, "t", "rows of 16 elements in Q4_0"},
    {"half a super-block", H(1, 0) "\"t\" ^ i1 q128 i14 q0 | d210", IN, "t", "rows of 128 elements in Q6_K: multiples of 256"},
    {"scalar of a block type", H(1, 0) "\"t\" ^ i0 i8 q0 | d34", IN, "t", "rows of 1 elements in Q8_0"},
    {"zero rows beside part of a block", H(1, 0) "\"t\" ^ i2 q33 q0 i2 q0 |", IN, "t", "rows of 33 elements"},
    {"hole at the front", H(1, 0) "\"t\" i1 q2 i0 ^ q32 | z32 d8", IN, "t", "data leaves a hole: begins at 32, 0 is expected"},
    {"hole", H(2, 0) T32 "\"u\" i1 q2 i0 ^ q64 | d8 | z32 d8", IN, "u", "data leaves a hole: begins at 64, 32 is expected"},
    {"no padding", H(2, 0) T32 "\"u\" i1 q2 i0 ^ q8 | d16", IN, "u", "data overlaps: begins at 8, 32 is expected"},
    {"overlap", H(2, 0) T32 "\"u\" i1 q2 i0 ^ q0 | d8", IN, "u", "data overlaps: begins at 0, 32 is expected"},
    {"backwards", H(2, 0) "\"t\" i1 q2 i0 ^ q32 \"u\" i1 q2 i0 q0 | d8 | d8", IN, "t", "data leaves a hole"},
    {"offset 2^64-32", H(1, 0) "\"t\" i1 q2 i0 ^ q0xffffffffffffffe0" FIT, IN, "t", "begins at 18446744073709551584"},
    {"the largest of all shapes", H(1, 0) "\"t\" i2 q0x1000000000000 q0x1fff i24 ^ q0" FIT, IN, "t", "data of 2305561534236983296 bytes at 0"},
    {"name twice, side by side", H(2, 0) T32 "\"t\" i1 q2 i0 q32 | d8 | ^ d8", IN, "t", "two tensors have this name"},
    {"name twice, far", H(3, 0) T32 "\"u\" i1 q2 i0 q32 \"t\" i1 q0 i0 q64 | d8 | d8 | ^", IN, "t", "two tensors have this name"},
    {"info cut in its name", H(1, 0) "^ q40 'blk' z14", IN, "", "tensor name needs 40 bytes, 17 are left"},
    {"info cut in its dimensions", H(1, 0) "\"tensor name\" i2 q2 ^ i0", IN, "tensor name", "dimension needs 8 bytes"},
    {"info cut in its offset", H(1, 0) "\"tensor.name\" i1 q2 i0 ^ i0", IN, "tensor.name", "tensor offset needs 8 bytes, 4 are left"},
    /* data */
    {"data cut", H(1, 0) T32 "| d7 ^", IN, "t", "data end at byte 72, the file at 71"},
    {"data missing", H(1, 0) T32 "^", IN, "t", "data end at byte 72, the file at 57"},
    {"trailing byte", H(1, 0) T32 "| d8 ^ b0", IN, "", "1 bytes at the end belong to no tensor: 0, or 24 of padding"},
    {"padding and a byte", H(1, 0) T32 "| d8 ^ | b0", IN, "", "25 bytes at the end belong to no tensor"},
    {"whole blocks and a byte", H(1, 0) "\"t\" i1 q32 i0 q0 | d128 ^ b0", IN, "", "1 bytes at the end belong to no tensor: 0, or 0"},
    {"data without tensors", H(0, 1) KEYS "^ d8", IN, "", "8 bytes at the end belong to no tensor"},
};

static qn_code open_bytes(const void *p, size_t n, qt_counter *counter, qn_err *err)
{
    return qt_open_bytes("m.gguf", p, n, counter, err);
}

Test(gguf_bad, rows)
{
    const size_t n_rows = sizeof rows / sizeof rows[0];
    size_t n_bad = 0;
    double worst = 0;
    uint64_t worst_over = 0;
    for (size_t i = 0; i < n_rows; i++) {
        const struct row *r = &rows[i];
        qt_buf file = {0};
        uint64_t off = QN_NO_OFFSET;
        qn_err err;
        qt_counter c;
        qt_add_gguf(&file, r->file, &off);
        qt_counter_init(&c);
        uint8_t *exact = malloc(file.n ? file.n : 1);
        if (file.n)
            memcpy(exact, file.p, file.n);
        const double t0 = qt_cpu_ms();
        const qn_code rc = open_bytes(exact, file.n, &c, &err);
        const double ms = qt_cpu_ms() - t0;
        worst = ms > worst ? ms : worst;
        worst_over = c.peak > worst_over ? c.peak : worst_over;
        n_bad += !qt_err_is(r->name, &err, rc, r->code, off, r->tensor, r->text) || err.path[0] == '\0';
        cr_expect_leq(c.peak, 2 * file.n + (1 << 20), "%s takes %llu bytes", r->name, (unsigned long long)c.peak);
        free(exact);
        qt_buf_free(&file);
    }
    cr_expect_eq(n_bad, 0, "%zu of %zu files give another error", n_bad, n_rows);
    fprintf(stderr, "# %zu malformed GGUF files refused; slowest %.2f ms, most memory %llu bytes\n", n_rows, worst,
            (unsigned long long)worst_over);
}

static const char whole[] = "GGUF i3 q3 q4 \"general.architecture\" i8 \"llama\" \"tokens\" i9 i8 q3 \"a\" \"\" \"bc\" "
                            "\"nested\" i9 i9 q2 i4 q1 i7 i0 q0 \"f\" i6 i0x3f800000 "
                            "\"w\" i2 q32 q2 i2 q0 \"e\" i1 q0 i0 q64 \"b\" i1 q3 i1 q64 | d36 | d6";

/* No prefix of a valid file is valid, and of extensions only the one that pads. */
Test(gguf_bad, prefixes_and_extensions)
{
    qt_buf file = {0};
    uint64_t mark;
    qn_err err;
    qt_add_gguf(&file, whole, &mark);
    cr_assert_eq(open_bytes(file.p, file.n, NULL, &err), QN_OK, "%s", err.text);
    for (size_t n = 0; n < file.n; n++) {
        uint8_t *exact = malloc(n ? n : 1); /* so that a read past the end is seen */
        memcpy(exact, file.p, n);
        const qn_code rc = open_bytes(exact, n, NULL, &err);
        cr_expect_eq(rc, QN_E_INPUT, "prefix of %zu bytes: code %d", n, rc);
        free(exact);
    }
    const size_t n_whole = file.n, pad = -n_whole & 31;
    cr_assert_gt(pad, 0);
    for (size_t more = 1; more <= 64; more++) {
        qt_add(&file, more % 2 ? "\0" : "{", 1);
        const qn_code rc = open_bytes(file.p, file.n, NULL, &err);
        if (more == pad)
            cr_expect_eq(rc, QN_OK);
        else
            cr_expect(qt_err_is("extension", &err, rc, QN_E_INPUT, n_whole, "", "at the end belong to no tensor"));
    }
    fprintf(stderr, "# %zu prefixes and 63 extensions refused\n", n_whole);
    qt_buf_free(&file);
}

/* Whichever byte changes: opened or refused, never worse; short reads change nothing. */
Test(gguf_bad, every_byte)
{
    qt_buf file = {0};
    uint64_t mark;
    qn_err err;
    qt_add_gguf(&file, whole, &mark);
    size_t n_refused = 0;
    for (size_t i = 0; i < file.n; i++)
        for (unsigned k = 0; k < 3; k++) {
            const uint8_t old = file.p[i];
            file.p[i] = k == 0 ? (uint8_t)~old : k == 1 ? 0xff : (uint8_t)(old + 1);
            const qn_code rc = open_bytes(file.p, file.n, NULL, &err);
            cr_assert(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED, "byte %zu: code %d", i, rc);
            n_refused += rc != QN_OK;
            file.p[i] = old;
        }
    cr_expect_gt(n_refused, file.n);
    qt_buf_free(&file);
}

/* Whichever allocation fails: a clean error, nothing kept. */
Test(gguf_bad, every_allocation_fails)
{
    qt_buf file = {0};
    uint64_t mark;
    qn_err err;
    qt_add_gguf(&file, whole, &mark);
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
