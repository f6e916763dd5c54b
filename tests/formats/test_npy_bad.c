/* test_npy_bad.c: malformed numpy arrays, each with the error that it must give; arrays of every order read as they should.
 *
 * A row is a header dict and a number of bytes behind it. '^' in the text is no part of it: it marks the byte at which the
 * error must be reported. Without a mark the offset is in the row. */
#include "base/num.h"
#include "formats/source.h"
#include "tests/support/hostile.h"
#include "tests/support/npz_build.h"
#include <criterion/criterion.h>
#include <string.h>

#define ANY  QN_NO_OFFSET
#define HEAD 10
#define D    "'descr': '<f4'"
#define F    "'fortran_order': False"
#define S    "'shape': (2,)"
#define REST ", " F ", " S ", }"
#define DESCR(x) "{'descr': " x REST
#define SHAPE(x) "{" D ", " F ", 'shape': " x ", }"

static const struct row {
    const char *name, *dict;
    size_t n_data;
    uint64_t off;
    qn_code code;
    const char *text;
} rows[] = {
    /* the dict */
    {"empty header", "", 0, 64, QN_E_INPUT, "header ends where '{' is expected"},
    {"a list", "^[]", 0, ANY, QN_E_INPUT, "'[' in the header, '{' is expected"},
    {"a number", "^3", 0, ANY, QN_E_INPUT, "'3' in the header, '{' is expected"},
    {"a call", "^dict(descr='<f4')", 0, ANY, QN_E_INPUT, "'d' in the header, '{' is expected"},
    {"never closed", "{" D ", " F ", " S, 8, 128, QN_E_INPUT, "header ends where a comma or '}' is expected"},
    {"never closed after a comma", "{" D ", " F ", " S ", ", 8, 128, QN_E_INPUT, "header ends where a key is expected"},
    {"text behind it", "{" D REST " ^x", 8, ANY, QN_E_INPUT, "'x' in the header, nothing but spaces is expected"},
    {"a second dict", "{" D REST "^{}", 8, ANY, QN_E_INPUT, "'{' in the header, nothing but spaces is expected"},
    {"comma first", "{^, " D REST, 8, ANY, QN_E_INPUT, "',' in the header, a key is expected"},
    {"two commas", "{" D ",^, " F ", " S "}", 8, ANY, QN_E_INPUT, "',' in the header, a key is expected"},
    {"comma missing", "{" D " ^" F ", " S "}", 8, ANY, QN_E_INPUT, "''' in the header, a comma or '}' is expected"},
    {"colon missing", "{'descr' ^'<f4'" REST, 8, ANY, QN_E_INPUT, "a colon is expected"},
    {"equals sign", "{'descr'^='<f4'" REST, 8, ANY, QN_E_INPUT, "'=' in the header, a colon is expected"},
    {"key without quotes", "{^descr: '<f4'" REST, 8, ANY, QN_E_INPUT, "'d' in the header, a key is expected"},
    {"key is a number", "{^1: '<f4'" REST, 8, ANY, QN_E_INPUT, "'1' in the header, a key is expected"},
    {"no descr", "{^" F ", " S "}", 8, HEAD, QN_E_INPUT, "header without 'descr'"},
    {"no fortran_order", "{" D ", " S "}", 8, HEAD, QN_E_INPUT, "header without 'fortran_order'"},
    {"no shape", "{" D ", " F "}", 8, HEAD, QN_E_INPUT, "header without 'shape'"},
    {"no keys", "{}", 0, HEAD, QN_E_INPUT, "header without 'descr'"},
    {"descr twice", "{" D ", ^" D REST, 8, ANY, QN_E_INPUT, "key 'descr' stands twice"},
    {"shape twice", "{" D ", " S ", " F ", ^" S "}", 8, ANY, QN_E_INPUT, "key 'shape' stands twice"},
    {"fortran_order twice", "{" D ", " F ", ^" F ", " S "}", 8, ANY, QN_E_INPUT, "key 'fortran_order' stands twice"},
    {"fourth key", "{" D ", ^'extra': 1, " F ", " S "}", 8, ANY, QN_E_INPUT, "key 'extra' in the header"},
    {"key in capitals", "{^'Descr': '<f4'" REST, 8, ANY, QN_E_INPUT, "key 'Descr' in the header"},
    {"quotes mixed", "{^'descr\": '<f4'" REST, 8, ANY, QN_E_INPUT, "key 'descr\": ' in the header"},
    {"string never ends", "{\"descr", 0, 64 - 1, QN_E_INPUT, "byte 0x0a in a string"},
    {"escape in a key", "{'des^\\x63r': '<f4'" REST, 8, ANY, QN_E_INPUT, "byte 0x5c in a string"},
    {"control byte in a key", "{'des^\x1b[2Jcr': '<f4'" REST, 8, ANY, QN_E_INPUT, "byte 0x1b in a string"},
    {"byte above ASCII", "{'des^\xc3\xa4': '<f4'" REST, 8, ANY, QN_E_INPUT, "byte 0xc3 in a string"},
    {"key of 70 bytes", "{^'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd': 1}", 8, ANY, QN_E_INPUT,
     "string of more than 63 bytes"},
    {"vertical tab", "{^\v" D REST, 8, ANY, QN_E_INPUT, "byte 0x0b in the header"},
    {"prefixed string", "{^u'descr': '<f4'" REST, 8, ANY, QN_E_INPUT, "'u' in the header"},
    /* dtypes */
    {"structured", DESCR("^[('x', '<f4')]"), 8, ANY, QN_E_UNSUPPORTED, "dtype with fields"},
    {"small arrays", DESCR("^('<f4', (2,))"), 8, ANY, QN_E_UNSUPPORTED, "dtype of small arrays"},
    {"objects", DESCR("^'|O'"), 8, ANY, QN_E_UNSUPPORTED, "dtype '|O' is Python objects, which are never loaded"},
    {"objects with a size", DESCR("^'<O8'"), 8, ANY, QN_E_UNSUPPORTED, "Python objects"},
    {"text", DESCR("^'<U4'"), 8, ANY, QN_E_UNSUPPORTED, "dtype '<U4' is text"},
    {"bytes text", DESCR("^'|S4'"), 8, ANY, QN_E_UNSUPPORTED, "dtype '|S4' is text"},
    {"void", DESCR("^'|V2'"), 4, ANY, QN_E_UNSUPPORTED, "dtype '|V2' is bytes without a meaning"},
    {"dates", DESCR("^'<M8[ns]'"), 8, ANY, QN_E_UNSUPPORTED, "dates or times"},
    {"long double", DESCR("^'<f16'"), 8, ANY, QN_E_UNSUPPORTED, "dtype '<f16' is not known"},
    {"complex of doubles", DESCR("^'<c16'"), 8, ANY, QN_E_UNSUPPORTED, "dtype '<c16' is not known"},
    {"three-byte float", DESCR("^'<f3'"), 8, ANY, QN_E_UNSUPPORTED, "dtype '<f3' is not known"},
    {"16-bit bool", DESCR("^'<b2'"), 8, ANY, QN_E_UNSUPPORTED, "dtype '<b2' is not known"},
    {"no size", DESCR("^'<f'"), 8, ANY, QN_E_UNSUPPORTED, "dtype '<f' is not known"},
    {"negative size", DESCR("^'<f-4'"), 8, ANY, QN_E_UNSUPPORTED, "dtype '<f-4' is not known"},
    {"empty dtype", DESCR("^''"), 8, ANY, QN_E_UNSUPPORTED, "dtype '' is not known"},
    {"a name", DESCR("^'float32'"), 8, ANY, QN_E_UNSUPPORTED, "dtype 'float32' is not known"},
    {"two types", DESCR("^'<f4,<f4'"), 8, ANY, QN_E_UNSUPPORTED, "dtype '<f4,<f4' is not known"},
    {"order of this machine", DESCR("^'=f4'"), 8, ANY, QN_E_UNSUPPORTED, "the byte order must be stated"},
    {"order left out", DESCR("^'|f4'"), 8, ANY, QN_E_UNSUPPORTED, "the byte order must be stated"},
    {"dtype a number", DESCR("^4"), 8, ANY, QN_E_INPUT, "'4' in the header, a dtype is expected"},
    {"dtype None", DESCR("^None"), 8, ANY, QN_E_INPUT, "'N' in the header, a dtype is expected"},
    /* order */
    {"order a number", "{" D ", 'fortran_order': ^0, " S "}", 8, ANY, QN_E_INPUT, "True or False is expected"},
    {"order a string", "{" D ", 'fortran_order': ^'False', " S "}", 8, ANY, QN_E_INPUT, "True or False is expected"},
    {"order in small letters", "{" D ", 'fortran_order': ^false, " S "}", 8, ANY, QN_E_INPUT, "True or False is expected"},
    {"order misspelt", "{" D ", 'fortran_order': ^Trve, " S "}", 8, ANY, QN_E_INPUT, "True or False is expected"},
    {"order too long", "{" D ", 'fortran_order': False^y, " S "}", 8, ANY, QN_E_INPUT, "a comma or '}' is expected"},
    /* shape */
    {"shape a number", SHAPE("^2"), 8, ANY, QN_E_INPUT, "a shape in brackets is expected"},
    {"shape a list", SHAPE("^[2]"), 8, ANY, QN_E_INPUT, "a shape in brackets is expected"},
    {"number in brackets", SHAPE("(2^)"), 8, ANY, QN_E_INPUT, "')' in the header, a comma is expected"},
    {"shape never closed", SHAPE("(2, ^"), 8, ANY, QN_E_INPUT, "',' in the header, a dimension"},
    {"shape comma first", SHAPE("(^,)"), 8, ANY, QN_E_INPUT, "',' in the header, a dimension"},
    {"shape two commas", SHAPE("(2,^,)"), 8, ANY, QN_E_INPUT, "',' in the header, a dimension"},
    {"shape without comma", SHAPE("(2 ^2)"), 8, ANY, QN_E_INPUT, "a comma or the end of the shape"},
    {"negative dimension", SHAPE("(^-2,)"), 8, ANY, QN_E_INPUT, "'-' in the header, a dimension"},
    {"plus sign", SHAPE("(^+2,)"), 8, ANY, QN_E_INPUT, "'+' in the header, a dimension"},
    {"dimension a float", SHAPE("(2^.0,)"), 8, ANY, QN_E_INPUT, "'.' in the header, a comma"},
    {"dimension in hex", SHAPE("(0^x2,)"), 8, ANY, QN_E_INPUT, "'x' in the header, a comma"},
    {"dimension with underscore", SHAPE("(1^_0,)"), 8, ANY, QN_E_INPUT, "'_' in the header, a comma"},
    {"leading zero", SHAPE("(^02,)"), 8, ANY, QN_E_INPUT, "a number begins with 0"},
    {"two suffixes", SHAPE("(2L^L,)"), 8, ANY, QN_E_INPUT, "'L' in the header, a comma"},
    {"dimension a string", SHAPE("(^'2',)"), 8, ANY, QN_E_INPUT, "a dimension or the end"},
    {"dimension nested", SHAPE("(^(2,),)"), 8, ANY, QN_E_INPUT, "a dimension or the end"},
    {"dimension 2^48+1", SHAPE("(^281474976710657,)"), 8, ANY, QN_E_INPUT, "integer of 0 to 2^48"},
    {"dimension 2^64+2", SHAPE("(^18446744073709551618,)"), 8, ANY, QN_E_INPUT, "integer of 0 to 2^48"},
    {"dimension of 50 digits", SHAPE("(^99999999999999999999999999999999999999999999999999,)"), 8, ANY, QN_E_INPUT,
     "integer of 0 to 2^48"},
    {"17 dimensions", SHAPE("(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, ^1)"), 8, ANY, QN_E_INPUT, "more than 16"},
    {"product wraps to 0", SHAPE("(4294967296, 4294967296)"), 0, HEAD, QN_E_INPUT, "size overflows"},
    {"bytes wrap", SHAPE("(281474976710656, 16384)"), 0, HEAD, QN_E_INPUT, "size overflows"},
    /* data */
    {"no data", SHAPE("(2,)"), 0, 128, QN_E_INPUT, "array needs 8 bytes, 0 follow its header"},
    {"a byte missing", SHAPE("(2,)"), 7, 128 + 7, QN_E_INPUT, "array needs 8 bytes, 7 follow"},
    {"scalar without data", SHAPE("()"), 0, 128, QN_E_INPUT, "array needs 4 bytes, 0 follow"},
    {"far more than there is", SHAPE("(281474976710656,)"), 8, 128 + 8, QN_E_INPUT, "array needs 1125899906842624 bytes"},
};

static void unmark(const char *marked, qt_buf *text, uint64_t *off)
{
    const char *m = strchr(marked, '^');
    qt_add(text, marked, m ? (size_t)(m - marked) : strlen(marked));
    if (m && *off == ANY)
        *off = HEAD + text->n;
    if (m)
        qt_add(text, m + 1, strlen(m + 1));
}

static qn_code open_bytes(const void *p, size_t n, qt_counter *counter, qn_err *err)
{
    return qt_open_bytes("w.npy", p, n, counter, err);
}

Test(npy_bad, rows)
{
    const size_t n_rows = sizeof rows / sizeof rows[0];
    size_t n_bad = 0;
    for (size_t i = 0; i < n_rows; i++) {
        const struct row *r = &rows[i];
        qt_buf text = {0}, file = {0};
        uint64_t off = r->off;
        qn_err err;
        qt_counter c;
        unmark(r->dict, &text, &off);
        qt_add(&text, "", 0); /* a terminator also when it is empty */
        qt_add_npy(&file, (char *)text.p, r->n_data);
        qt_counter_init(&c);
        const qn_code rc = open_bytes(file.p, file.n, &c, &err);
        n_bad += !qt_err_is(r->name, &err, rc, r->code, off, "", r->text) || strcmp(err.path, "w.npy") != 0;
        cr_expect_leq(c.peak, 2 * file.n + (1 << 20), "%s takes %llu bytes", r->name, (unsigned long long)c.peak);
        qt_buf_free(&text);
        qt_buf_free(&file);
    }
    cr_expect_eq(n_bad, 0, "%zu of %zu files give another error", n_bad, n_rows);
    fprintf(stderr, "# %zu malformed arrays refused\n", n_rows);
}

/* Magic, version, and the length of the header. */
Test(npy_bad, leads)
{
    static const struct {
        const char *name, *lead;
        size_t n, n_file;
        uint64_t off;
        qn_code code;
        const char *text;
    } f[] = {
        {"empty file", "", 0, 0, 0, QN_E_INPUT, "0 bytes are too few"},
        {"nine bytes", "\x93NUMPY\1\0\x76", 9, 9, 9, QN_E_INPUT, "9 bytes are too few"},
        {"magic in text mode", "?NUMPY\1\0\x36\0", 10, 64, 0, QN_E_INPUT, "does not begin with the bytes 0x93 NUMPY"},
        {"a safetensors file", "\x18\0\0\0\0\0\0\0{}", 10, 64, 0, QN_E_INPUT, "does not begin with"},
        {"version 0.0", "\x93NUMPY\0\0\x36\0", 10, 64, 6, QN_E_UNSUPPORTED, "version 0.0: 1.0, 2.0 and 3.0"},
        {"version 4.0", "\x93NUMPY\4\0\x36\0", 10, 64, 6, QN_E_UNSUPPORTED, "version 4.0"},
        {"version 1.1", "\x93NUMPY\1\1\x36\0", 10, 64, 6, QN_E_UNSUPPORTED, "version 1.1"},
        {"version 255.255", "\x93NUMPY\xff\xff\x36\0", 10, 64, 6, QN_E_UNSUPPORTED, "version 255.255"},
        {"version 2 cut in its length", "\x93NUMPY\2\0\x36\0\0", 11, 11, 11, QN_E_INPUT, "of 11 bytes: too few"},
        {"header one too long", "\x93NUMPY\1\0\x37\0", 10, 64, 8, QN_E_INPUT, "header of 55 bytes: 54 follow"},
        {"header of 65535", "\x93NUMPY\1\0\xff\xff", 10, 64, 8, QN_E_INPUT, "header of 65535 bytes: 54 follow"},
        {"header of 2^32-1", "\x93NUMPY\2\0\xff\xff\xff\xff", 12, 64, 8, QN_E_INPUT, "header of 4294967295 bytes: 52 follow"},
        {"header of 65537", "\x93NUMPY\3\0\1\0\1\0", 12, 100000, 8, QN_E_INPUT, "header of 65537 bytes: 65536 are allowed"},
        {"length big-endian", "\x93NUMPY\1\0\0\x36", 10, 64, 8, QN_E_INPUT, "header of 13824 bytes: 54 follow"},
        {"header of no bytes", "\x93NUMPY\1\0\0\0", 10, 64, 10, QN_E_INPUT, "header ends where '{' is expected"},
        {"header of zeros", "\x93NUMPY\1\0\x36\0", 10, 64, 10, QN_E_INPUT, "byte 0x00 in the header"},
    };
    for (size_t i = 0; i < sizeof f / sizeof f[0]; i++) {
        qt_buf b = {0};
        qn_err err;
        qt_add(&b, f[i].lead, f[i].n);
        qt_add_zeros(&b, f[i].n_file - f[i].n);
        const qn_code rc = open_bytes(b.p, b.n, NULL, &err);
        cr_expect(qt_err_is(f[i].name, &err, rc, f[i].code, f[i].off, "", f[i].text));
        qt_buf_free(&b);
    }
    fprintf(stderr, "# %zu malformed beginnings refused\n", sizeof f / sizeof f[0]);
}

static const char whole[] = "{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }";

/* No prefix of a valid file is valid; what stands behind the array is kept and told. */
Test(npy_bad, prefixes_and_extensions)
{
    qt_buf file = {0};
    qn_err err;
    qt_add_npy(&file, whole, 24);
    cr_assert_eq(open_bytes(file.p, file.n, NULL, &err), QN_OK, "%s", err.text);
    for (size_t n = 0; n < file.n; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        memcpy(exact, file.p, n);
        cr_expect_eq(open_bytes(exact, n, NULL, &err), QN_E_INPUT, "prefix of %zu bytes", n);
        free(exact);
    }
    fprintf(stderr, "# %zu prefixes refused\n", file.n);
    qt_add(&file, "more", 4);
    qt_files t;
    qn_source *s;
    qt_files_init(&t);
    qt_files_add(&t, "w.npy", file.p, file.n);
    const qn_env env = qt_env(&t, NULL);
    cr_assert_eq(qn_source_open(&env, "w.npy", &s, &err), QN_OK);
    cr_expect_eq(s->n_warnings, 1);
    cr_expect(strstr(s->warnings[0], "4 bytes behind the array"), "%s", s->warnings[0]);
    cr_expect_eq(s->n_objects, 3);
    qn_source_close(s);
    qt_buf_free(&file);
}

Test(npy_bad, every_allocation_fails)
{
    qt_buf file = {0};
    qn_err err;
    qt_add_npy(&file, whole, 24);
    for (int persistent = 0; persistent < 2; persistent++)
        for (uint64_t k = 1;; k++) {
            qt_counter c;
            qt_counter_init(&c);
            c.fail_at = k;
            c.fail_on = persistent;
            const qn_code rc = open_bytes(file.p, file.n, &c, &err);
            if (rc == QN_OK && c.n_gets < k)
                break;
            /* an arena that is short of its next block asks again for less: that is no failure */
            cr_assert(rc == QN_E_MEMORY || (rc == QN_OK && !persistent), "allocation %llu: code %d", (unsigned long long)k, rc);
        }
    qt_buf_free(&file);
}

/* Spellings that Python reads too. */
Test(npy_bad, other_spellings_are_good)
{
    static const char *const dicts[] = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
        "{\"shape\": (2,), \"descr\": \"<f4\", \"fortran_order\": False}",
        "{'shape':(2L,),'fortran_order':False,'descr':'<f4',}",
        "  { 'descr' : '<f4' , 'fortran_order' : True , 'shape' : ( 2 , ) , }  ",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2,), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (8,), }",
        "{'descr': '<i1', 'fortran_order': False, 'shape': (8,), }",
        "{'descr': '>b1', 'fortran_order': False, 'shape': (8,), }",
        "{'descr': '<c8', 'fortran_order': False, 'shape': (), }",
    };
    for (size_t i = 0; i < sizeof dicts / sizeof dicts[0]; i++) {
        qt_buf file = {0};
        qn_err err;
        qt_add_npy(&file, dicts[i], 8);
        cr_expect_eq(open_bytes(file.p, file.n, NULL, &err), QN_OK, "%s: %s", dicts[i], err.text);
        qt_buf_free(&file);
    }
}

/* Every range of a small array in Fortran order and big-endian, against the definition. */
Test(npy_bad, every_range_of_a_gathered_array)
{
    enum { A = 3, B = 2, C = 4, N = A * B * C };
    for (int big = 0; big < 2; big++) {
        qt_buf file = {0};
        uint8_t want[2 * N], got[2 * N];
        qn_err err;
        qt_add_npy(&file, big ? "{'descr': '>i2', 'fortran_order': True, 'shape': (3, 2, 4), }"
                              : "{'descr': '<i2', 'fortran_order': True, 'shape': (3, 2, 4), }", 0);
        for (unsigned f = 0; f < N; f++) { /* element f of the file is (f % A, f / A % B, f / A / B) */
            const unsigned a = f % A, b = f / A % B, c = f / A / B, v = 1000 + f;
            uint8_t two[2];
            qn_store16(two, (uint16_t)(big ? (v << 8 | v >> 8) : v));
            qt_add(&file, two, 2);
            qn_store16(want + 2 * ((a * B + b) * C + c), (uint16_t)v);
        }
        qt_files t;
        qn_source *s;
        qt_files_init(&t);
        qt_files_add(&t, "w.npy", file.p, file.n);
        const qn_env env = qt_env(&t, NULL);
        cr_assert_eq(qn_source_open(&env, "w.npy", &s, &err), QN_OK);
        cr_assert_eq(s->n_tensor_objects, 0);
        cr_assert_eq(s->tensors[0].object, QN_NO_OBJECT);
        for (size_t from = 0; from <= sizeof want; from++)
            for (size_t n = 0; from + n <= sizeof want; n++) {
                memset(got, 0xee, sizeof got);
                cr_assert_eq(qn_source_tensor_read(s, 0, from, n, got, &err), QN_OK);
                cr_assert(n == 0 || memcmp(got, want + from, n) == 0, "%zu bytes at %zu", n, from);
                cr_assert(n == sizeof got || got[n] == 0xee);
            }
        qn_source_close(s);
        qt_buf_free(&file);
    }
}
