/* test_npz_bad.c: malformed numpy archives, each with the error that it must give, when it is opened or when its array is read;
 * and good ones, stored and deflated, read in any order. */
#include "base/num.h"
#include "formats/source.h"
#include "tests/support/npz_build.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define GOOD "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
/* An archive of the one member w.npy: a local header of 30 bytes, the name, and for GOOD, stored, 136 bytes of array; then the
 * central directory at 171 and the end record at 222. */
enum { DATA = 30 + 5 };

/* What is done to the archive before it is opened: n bytes at a place. */
enum where { NOTHING, LOCAL, CONTENT, CENTRAL, END, CUT };

static const struct row {
    const char *name;
    bool deflate;
    const char *dict; /* NULL: the member is `raw` */
    size_t n_data;
    const char *raw;
    enum where where;
    int at;
    const char *bytes;
    size_t n;
    qn_code code;
    uint64_t off;
    const char *tensor, *text;
} rows[] = {
    /* the array in the member */
    {"not an array", false, NULL, 0, "hello, world", .code = QN_E_INPUT, .off = DATA, .tensor = "w.npy", .text = "does not begin with"},
    {"not an array, deflated", true, NULL, 0, "hello, world", .code = QN_E_INPUT, .off = QN_NO_OFFSET, .tensor = "w.npy", .text = "does not begin with"},
    {"empty member", false, NULL, 0, "", .code = QN_E_INPUT, .off = DATA, .tensor = "w.npy", .text = "0 bytes are too few"},
    {"empty member, deflated", true, NULL, 0, "", .code = QN_E_INPUT, .off = QN_NO_OFFSET, .tensor = "w.npy", .text = "0 bytes are too few"},
    {"magic alone", false, NULL, 0, "\x93NUMPY\1", .code = QN_E_INPUT, .off = DATA + 7, .tensor = "w.npy", .text = "7 bytes are too few"},
    {"header longer than the member", false, NULL, 0, "\x93NUMPY\1\1xxxxxx", .where = CONTENT, .at = 7, .bytes = "\0\xff\xff", .n = 3, .code = QN_E_INPUT, .off = DATA + 8, .tensor = "w.npy", .text = "header of 65535 bytes: 4 follow"},
    {"version 9", false, GOOD, 8, NULL, CONTENT, 6, "\x09", 1, QN_E_UNSUPPORTED, DATA + 6, "w.npy", "version 9.0"},
    {"no descr", false, "{'fortran_order': False, 'shape': (2,), }", 8, .code = QN_E_INPUT, .off = DATA + 10, .tensor = "w.npy", .text = "without 'descr'"},
    {"no descr, deflated", true, "{'fortran_order': False, 'shape': (2,), }", 8, .code = QN_E_INPUT, .off = QN_NO_OFFSET, .tensor = "w.npy", .text = "without 'descr'"},
    {"shape not a tuple", true, "{'descr': '<f4', 'fortran_order': False, 'shape': 2, }", 8, .code = QN_E_INPUT, .off = QN_NO_OFFSET, .tensor = "w.npy", .text = "a shape in brackets"},
    {"size overflows", false, "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 8, .code = QN_E_INPUT, .off = DATA + 10, .tensor = "w.npy", .text = "size overflows"},
    {"size overflows, deflated", true, "{'descr': '<f8', 'fortran_order': True, 'shape': (281474976710656, 16384), }", 8, .code = QN_E_INPUT, .off = QN_NO_OFFSET, .tensor = "w.npy", .text = "size overflows"},
    {"a byte too few", false, GOOD, 7, .code = QN_E_INPUT, .off = DATA, .tensor = "w.npy", .text = "array needs 8 bytes, 7 follow its header in the member"},
    {"a byte too many", false, GOOD, 9, .code = QN_E_INPUT, .off = DATA, .tensor = "w.npy", .text = "array needs 8 bytes, 9 follow"},
    {"a byte too few, deflated", true, GOOD, 7, .code = QN_E_INPUT, .off = QN_NO_OFFSET, .tensor = "w.npy", .text = "array needs 8 bytes, 7 follow"},
    {"a byte too many, deflated", true, GOOD, 9, .code = QN_E_INPUT, .off = QN_NO_OFFSET, .tensor = "w.npy", .text = "array needs 8 bytes, 9 follow"},
    {"a petabyte of zeros", true, "{'descr': '|u1', 'fortran_order': False, 'shape': (281474976710656,), }", 8, .code = QN_E_INPUT, .off = QN_NO_OFFSET, .tensor = "w.npy", .text = "array needs 281474976710656 bytes, 8 follow"},
    {"only objects", false, "{'descr': '|O', 'fortran_order': False, 'shape': (), }", 8, .code = QN_E_UNSUPPORTED, .off = DATA + 20, .tensor = "w.npy", .text = "Python objects"},
    {"only text, deflated", true, "{'descr': '<U2', 'fortran_order': False, 'shape': (), }", 8, .code = QN_E_UNSUPPORTED, .off = QN_NO_OFFSET, .tensor = "w.npy", .text = "is text"},
    {"only fields", false, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", 8, .code = QN_E_UNSUPPORTED, .off = DATA + 20, .tensor = "w.npy", .text = "with fields"},
    /* the deflated data: told when they are read */
    {"reserved block", true, GOOD, 8, NULL, CONTENT, 0, "\xff\xff", 2, QN_E_INPUT, DATA, "w.npy", "damaged"},
    {"stored block of a wrong length", true, GOOD, 8, NULL, CONTENT, 0, "\x01\x10\0\x10\0", 5, QN_E_INPUT, DATA, "w.npy", "damaged"},
    {"end in the middle", true, GOOD, 8, NULL, CONTENT, 0, "\x03\0", 2, QN_E_INPUT, DATA, "w.npy", "less than its size"},
    {"CRC of both headers wrong", true, GOOD, 8, NULL, NOTHING, 1, "", 0, QN_E_INPUT, DATA, "w", "CRC of its data is"},
    {"declared longer than it is", true, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 8, NULL, NOTHING, 4, "", 0, QN_E_INPUT, DATA, "w", "give less than its size"},
    {"declared shorter than it is", true, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", 8, NULL, NOTHING, -4, "", 0, QN_E_INPUT, DATA, "w", "give more than its size"},
    /* the archive */
    {"local name differs", false, GOOD, 8, NULL, LOCAL, 30, "v", 1, QN_E_INPUT, 30, "", "another name in its local header"},
    {"local method differs", false, GOOD, 8, NULL, LOCAL, 8, "\x08", 1, QN_E_INPUT, 8, "", "method is 0x8 here"},
    {"local CRC differs", false, GOOD, 8, NULL, LOCAL, 14, "\xff", 1, QN_E_INPUT, 14, "", "CRC is"},
    {"local size differs", false, GOOD, 8, NULL, LOCAL, 22, "\1", 1, QN_E_INPUT, 22, "", "size is 0x1 here"},
    {"local signature", false, GOOD, 8, NULL, LOCAL, 2, "\5", 1, QN_E_INPUT, 0, "", NULL},
    {"encrypted", false, GOOD, 8, NULL, CENTRAL, 8, "\1", 1, QN_E_UNSUPPORTED, 179, "", "ncrypted"},
    {"method 12", false, GOOD, 8, NULL, CENTRAL, 10, "\x0c", 1, QN_E_UNSUPPORTED, 181, "", "method"},
    {"parent folder in a name", false, GOOD, 8, NULL, CENTRAL, 46, "../xx", 5, QN_E_INPUT, 217, "", "entry name '../xx'"},
    {"NUL in a name", false, GOOD, 8, NULL, CENTRAL, 46, "w\0npy", 5, QN_E_INPUT, 217, "", "entry name 'w\\x00npy'"},
    {"offset past the end", false, GOOD, 8, NULL, CENTRAL, 44, "\xff", 1, QN_E_INPUT, 191, "", "reach into the central directory"},
    {"central size of 2^32-1", false, GOOD, 8, NULL, CENTRAL, 24, "\xff\xff\xff\xff", 4, QN_E_INPUT, 222, "", "zip64 field is missing"},
    {"two entries declared", false, GOOD, 8, NULL, END, 8, "\2\0\2\0", 4, QN_E_INPUT, 232, "", "2 entries do not fit"},
    {"no entries declared", false, GOOD, 8, NULL, END, 8, "\0\0\0\0", 4, QN_E_INPUT, 171, "", "more than its 0 entries"},
    {"comment past the end", false, GOOD, 8, NULL, END, 20, "\1", 1, QN_E_INPUT, 222, "", "comment of 1 bytes"},
    {"no end record", false, GOOD, 8, NULL, CUT, 22, "", 0, QN_E_INPUT, 222, "", "no end record"},
    {"cut by one", false, GOOD, 8, NULL, CUT, 1, "", 0, QN_E_INPUT, 243, "", "no end record"},
};

static qn_code open_and_read(const qt_buf *file, qt_counter *counter, qn_err *err)
{
    qt_files t;
    qn_source *s;
    qt_files_init(&t);
    qt_files_add(&t, "m.npz", file->p, file->n);
    const qn_env env = qt_env(&t, counter);
    qn_err_clear(err);
    qn_code rc = qn_source_open(&env, "m.npz", &s, err);
    if (rc == QN_OK) {
        for (uint64_t i = 0; i < s->n_tensors && rc == QN_OK; i++) {
            uint8_t got[256];
            cr_assert_leq(s->tensors[i].n_bytes, sizeof got);
            rc = qn_source_tensor_read(s, i, 0, s->tensors[i].n_bytes, got, err);
        }
        qn_source_close(s);
    }
    cr_assert_eq(t.n_open, 0, "a file stays open");
    cr_assert(!counter || counter->n_live == 0, "memory is lost");
    return rc;
}

static void build(const struct row *r, qt_npz *z)
{
    qt_buf array = {0};
    if (r->dict)
        qt_add_npy(&array, r->dict, r->n_data);
    else
        qt_add(&array, r->raw, strlen(r->raw));
    const bool lies = r->where == NOTHING && r->bytes, longer = lies && r->at != 1;
    qt_npz_add_as(z, "w.npy", array.p ? array.p : (const uint8_t *)"", array.n, r->deflate,
                  (uint32_t)((int)array.n + (longer ? r->at : 0)), lies && !longer);
    const size_t central = z->file.n;
    qt_npz_end(z);
    const size_t base[] = {[LOCAL] = 0, [CONTENT] = DATA, [CENTRAL] = central, [END] = z->file.n - 22};
    if (r->where == CUT)
        z->file.n -= (size_t)r->at;
    else if (r->where != NOTHING)
        memcpy(z->file.p + base[r->where] + r->at, r->bytes, r->n);
    qt_buf_free(&array);
}

Test(npz_bad, rows)
{
    const size_t n_rows = sizeof rows / sizeof rows[0];
    size_t n_bad = 0;
    for (size_t i = 0; i < n_rows; i++) {
        const struct row *r = &rows[i];
        qt_npz z = {0};
        qn_err err;
        qt_counter c;
        build(r, &z);
        qt_counter_init(&c);
        const qn_code rc = open_and_read(&z.file, &c, &err);
        n_bad += !qt_err_is(r->name, &err, rc, r->code, r->off, r->tensor, r->text) || strcmp(err.path, "m.npz") != 0;
        cr_expect_leq(c.peak, 2 * z.file.n + (1 << 20), "%s takes %llu bytes", r->name, (unsigned long long)c.peak);
        qt_npz_free(&z);
    }
    cr_expect_eq(n_bad, 0, "%zu of %zu files give another error", n_bad, n_rows);
    fprintf(stderr, "# %zu malformed archives refused\n", n_rows);
}

static void add_array(qt_npz *z, const char *name, const char *dict, size_t n_data, bool deflate)
{
    qt_buf array = {0};
    qt_add_npy(&array, dict, n_data);
    qt_npz_add(z, name, array.p, array.n, deflate);
    qt_buf_free(&array);
}

/* Archives of more than one member. */
Test(npz_bad, sets)
{
    struct {
        const char *name, *names[2];
        qn_code code;
        const char *text;
    } sets[] = {
        {"two of one name", {"w.npy", "w.npy"}, QN_E_INPUT, NULL},
        {"no arrays", {"readme.txt", "model.json"}, QN_E_INPUT, "no arrays in this archive"},
        {"array without a name", {".npy", "w.npy"}, QN_E_INPUT, "array without a name"},
        {"absolute name", {"/w.npy", "v.npy"}, QN_E_INPUT, NULL},
        {"backslash", {"a\\w.npy", "v.npy"}, QN_E_INPUT, NULL},
        {"not UTF-8", {"\xff.npy", "v.npy"}, QN_E_INPUT, NULL},
    };
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        qt_npz z = {0};
        qn_err err;
        for (unsigned k = 0; k < 2; k++)
            add_array(&z, sets[i].names[k], GOOD, 8, false);
        qt_npz_end(&z);
        const qn_code rc = open_and_read(&z.file, NULL, &err);
        cr_expect_eq(rc, sets[i].code, "%s: %d", sets[i].name, rc);
        cr_expect(!sets[i].text || strstr(err.text, sets[i].text), "%s: %s", sets[i].name, err.text);
        cr_expect(err.text[0] && strcmp(err.path, "m.npz") == 0);
        qt_npz_free(&z);
    }
    qt_npz none = {0};
    qn_err err;
    qt_npz_end(&none);
    cr_expect_eq(open_and_read(&none.file, NULL, &err), QN_E_INPUT, "an empty archive");
    qt_npz_free(&none);
}

static void whole(qt_npz *z)
{
    add_array(z, "a.npy", GOOD, 8, false);
    add_array(z, "b.npy", GOOD, 8, true);
    add_array(z, "sub/c.npy", "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }", 12, true);
    add_array(z, "empty.npy", "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 3), }", 0, true);
    add_array(z, "t.npy", "{'descr': '<U2', 'fortran_order': False, 'shape': (), }", 8, false);
    qt_npz_add(z, "note.txt", "hello", 5, true);
    qt_npz_end(z);
}

/* Every prefix is refused: the directory lies at the end. */
Test(npz_bad, prefixes)
{
    qt_npz z = {0};
    qn_err err;
    whole(&z);
    cr_assert_eq(open_and_read(&z.file, NULL, &err), QN_OK, "%s", err.text);
    for (size_t n = 0; n < z.file.n; n++) {
        qt_buf cut = {.p = malloc(n ? n : 1), .n = n};
        memcpy(cut.p, z.file.p, n);
        cr_expect_eq(open_and_read(&cut, NULL, &err), QN_E_INPUT, "prefix of %zu bytes", n);
        qt_buf_free(&cut);
    }
    fprintf(stderr, "# %zu prefixes refused\n", z.file.n);
    qt_npz_free(&z);
}

Test(npz_bad, every_allocation_fails)
{
    qt_npz z = {0};
    qn_err err;
    whole(&z);
    for (int persistent = 0; persistent < 2; persistent++)
        for (uint64_t k = 1;; k++) {
            qt_counter c;
            qt_counter_init(&c);
            c.fail_at = k;
            c.fail_on = persistent;
            const qn_code rc = open_and_read(&z.file, &c, &err);
            if (rc == QN_OK && c.n_gets < k)
                break;
            /* an arena that is short of its next block asks again for less, a warning is dropped: no failures */
            cr_assert(rc == QN_E_MEMORY || (rc == QN_OK && !persistent), "allocation %llu: code %d", (unsigned long long)k, rc);
        }
    qt_npz_free(&z);
}

/* What is listed, and that the objects are the file. */
Test(npz_bad, a_good_one)
{
    qt_npz z = {0};
    qn_err err;
    whole(&z);
    qt_files t;
    qn_source *s;
    qt_files_init(&t);
    qt_files_add(&t, "m.npz", z.file.p, z.file.n);
    const qn_env env = qt_env(&t, NULL);
    cr_assert_eq(qn_source_open(&env, "m.npz", &s, &err), QN_OK);
    cr_assert_eq(s->n_tensors, 4);
    cr_assert_eq(s->n_tensor_objects, 1);
    cr_assert_eq(s->n_warnings, 1);
    cr_expect(strstr(s->warnings[0], "t.npy is kept but not read: dtype '<U2' is text"), "%s", s->warnings[0]);
    size_t at = 0;
    for (uint64_t i = 0; i < s->n_objects; i++) {
        uint8_t got[4096];
        cr_assert_eq(qn_source_read(s, i, 0, s->objects[i].n_bytes, got, &err), QN_OK);
        cr_assert_eq(memcmp(got, z.file.p + at, s->objects[i].n_bytes), 0);
        at += s->objects[i].n_bytes;
    }
    cr_assert_eq(at, z.file.n);
    static const uint8_t c[12] = {1, 0, 5, 4, 9, 8, 3, 2, 7, 6, 11, 10}; /* rows of big-endian numbers, turned round */
    uint8_t got[12];
    const uint64_t i = qn_source_tensor_find(s, "sub/c");
    cr_assert_eq(qn_source_tensor_read(s, i, 0, 12, got, &err), QN_OK);
    cr_expect_eq(memcmp(got, c, 12), 0);
    cr_expect_neq(qn_source_tensor_find(s, "empty"), UINT64_MAX);
    cr_expect_eq(qn_source_find(s, "b"), UINT64_MAX);
    qn_source_close(s);
    qt_npz_free(&z);
}

/* A deflated array in pieces of any size and order; two are read in turns, more than positions are kept. */
Test(npz_bad, deflated_in_any_order)
{
    enum { N = 300000, ARRAYS = 6 };
    qt_npz z = {0};
    qt_buf array = {0};
    qn_err err;
    qt_rng r = qt_seed(3);
    qt_add_npy(&array, "{'descr': '<i2', 'fortran_order': False, 'shape': (150000,), }", 0);
    const size_t head = array.n;
    for (unsigned i = 0; i < N; i++) {
        const uint8_t v = (uint8_t)(qt_next(&r) % 7);
        qt_add(&array, &v, 1);
    }
    for (unsigned k = 0; k < ARRAYS; k++) {
        char name[8];
        snprintf(name, sizeof name, "%u.npy", k);
        qt_npz_add(&z, name, array.p, array.n, true);
    }
    qt_npz_end(&z);
    qt_files t;
    qn_source *s;
    qt_counter c;
    qt_files_init(&t);
    qt_files_add(&t, "m.npz", z.file.p, z.file.n);
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    cr_assert_eq(qn_source_open(&env, "m.npz", &s, &err), QN_OK);
    for (unsigned round = 0; round < 200; round++) {
        static uint8_t got[N];
        const uint64_t off = qt_below(&r, N), n = 1 + qt_below(&r, N - off);
        cr_assert_eq(qn_source_tensor_read(s, qt_below(&r, ARRAYS), off, n, got, &err), QN_OK, "%s", err.text);
        cr_assert_eq(memcmp(got, array.p + head + off, n), 0);
    }
    cr_expect_lt(c.peak, 2u << 20, "%llu bytes", (unsigned long long)c.peak);
    qn_source_close(s);
    cr_assert_eq(c.n_live, 0);
    qt_npz_free(&z);
    qt_buf_free(&array);
}

/* A model that was saved by numpy: every array is read in place, and they have the bytes that lie in the file. */
Test(npz_bad, a_real_one)
{
    const char *path = qt_shared("models/g2p-gru-npz/checkpoint20.npz");
    if (!path)
        return;
    const qn_env env = qt_env(NULL, NULL);
    qn_source *s;
    qn_err err;
    qn_err_clear(&err);
    cr_assert_eq(qn_source_open(&env, path, &s, &err), QN_OK, "%s", err.text);
    cr_expect_str_eq(s->ops->format, "npz");
    cr_expect_eq(s->n_tensors, 12);
    cr_expect_eq(s->n_tensor_objects, 12);
    cr_expect_eq(s->n_warnings, 0);
    const uint64_t i = qn_source_tensor_find(s, "enc_w_ih");
    cr_assert_neq(i, UINT64_MAX);
    const qn_source_tensor *t = &s->tensors[i];
    cr_expect(t->dtype == QN_F32 && t->rank == 2 && t->dims[0] == 768 && t->dims[1] == 256 && t->n_bytes == 768 * 256 * 4);
    qn_source_close(s);
}
