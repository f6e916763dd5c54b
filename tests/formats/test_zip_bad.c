/* test_zip_bad.c: zip archives that two readers would understand differently, one damaged field each: code, offset and text of the
 * error; then cuts, insertions, and what a good one gives. */
#include "base/num.h"
#include "formats/zip/zip.h"
#include "tests/support/zip_build.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum part { LOCAL, DATA, DESCRIPTOR, CENTRAL, END64, LOCATOR, END, FILE_END };

/* Entry 0: stored, descriptor, aligned, as PyTorch writes. 1: stored. 2: deflated. 3: wide with descriptor. 4: wide. */
static void make(qt_zip *z)
{
    static const char ones[500] = {1};
    *z = (qt_zip){0};
    qt_zip_add(z, "m/data.pkl", "12345678", 8, QT_ZIP_DESCRIPTOR | QT_ZIP_ALIGN);
    qt_zip_add(z, "m/b", "abcd", 4, 0);
    qt_zip_add(z, "m/c", ones, sizeof ones, QT_ZIP_DEFLATE);
    qt_zip_add(z, "m/d", "wide", 4, QT_ZIP_DESCRIPTOR | QT_ZIP_WIDE);
    qt_zip_add(z, "m/e", "wide too", 8, QT_ZIP_WIDE);
    qt_zip_finish(z, true);
}

static size_t place(const qt_zip *z, enum part part, size_t i)
{
    switch (part) {
    case LOCAL:
        return z->e[i].local;
    case DATA:
        return z->e[i].data;
    case DESCRIPTOR:
        return z->e[i].descriptor;
    case CENTRAL:
        return z->e[i].central;
    case END64:
        return z->end64;
    case LOCATOR:
        return z->locator;
    case END:
        return z->end;
    default:
        return z->file.n;
    }
}

/* `n` bytes of `value` are written at byte `at` of part `part` of entry `i`; the error is at `off` of off_part, off_i. */
static const struct row {
    const char *name;
    enum part part;
    uint8_t i, at, n;
    uint64_t value;
    qn_code code;
    enum part off_part;
    uint8_t off_i, off;
    const char *text;
} rows[] = {
    /* local header against central */
    {"local signature", LOCAL, 1, 0, 4, 0x04034b51, QN_E_INPUT, LOCAL, 1, 0, "local header is expected here"},
    {"version differs", LOCAL, 1, 4, 2, 10, QN_E_INPUT, LOCAL, 1, 4, "version needed is 0xa here, 0x14"},
    {"flags differ", LOCAL, 1, 6, 2, 0, QN_E_INPUT, LOCAL, 1, 6, "flags is 0x0 here, 0x800"},
    {"encrypted in the local header only", LOCAL, 1, 6, 2, 0x801, QN_E_INPUT, LOCAL, 1, 6, "flags is 0x801 here"},
    {"method differs", LOCAL, 1, 8, 2, 8, QN_E_INPUT, LOCAL, 1, 8, "method is 0x8 here, 0x0"},
    {"time differs", LOCAL, 1, 10, 2, 7, QN_E_INPUT, LOCAL, 1, 10, "time is 0x7"},
    {"date differs", LOCAL, 1, 12, 2, 7, QN_E_INPUT, LOCAL, 1, 12, "date is 0x7"},
    {"CRC differs", LOCAL, 1, 14, 4, 7, QN_E_INPUT, LOCAL, 1, 14, "CRC is 0x7 here"},
    {"CRC zero without descriptor", LOCAL, 1, 14, 4, 0, QN_E_INPUT, LOCAL, 1, 14, "CRC is 0x0 here"},
    {"CRC wrong beside a descriptor", LOCAL, 0, 14, 4, 7, QN_E_INPUT, LOCAL, 0, 14, "CRC is 0x7 here"},
    {"packed size differs", LOCAL, 1, 18, 4, 3, QN_E_INPUT, LOCAL, 1, 18, "packed size is 0x3 here, 0x4"},
    {"size differs", LOCAL, 1, 22, 4, 5, QN_E_INPUT, LOCAL, 1, 22, "size is 0x5 here, 0x4"},
    {"size differs, deflated", LOCAL, 2, 22, 4, 501, QN_E_INPUT, LOCAL, 2, 22, "size is 0x1f5 here"},
    {"size a sentinel without zip64", LOCAL, 1, 22, 4, 0xffffffff, QN_E_INPUT, LOCAL, 1, 22, "size is 0xffffffff here"},
    {"size not 0 beside a descriptor", LOCAL, 0, 22, 4, 9, QN_E_INPUT, LOCAL, 0, 22, "size is 0x9 here, 0x8"},
    {"name length differs", LOCAL, 1, 26, 2, 4, QN_E_INPUT, LOCAL, 1, 26, "length of the name is 0x4 here"},
    {"name differs", LOCAL, 1, 32, 1, 'x', QN_E_INPUT, LOCAL, 1, 30, "another name in its local header"},
    {"extra area past the entry", LOCAL, 1, 28, 2, 5, QN_E_INPUT, LOCAL, 1, 0, "overlaps the next one"},
    {"extra area over the data", LOCAL, 1, 28, 2, 0xffff, QN_E_INPUT, LOCAL, 1, 0, "overlaps the next one"},
    {"extra field past its area", LOCAL, 0, 42, 2, 500, QN_E_INPUT, LOCAL, 0, 40, "does not end with its area"},
    {"extra field with another name", LOCAL, 0, 40, 2, 0x7075, QN_E_UNSUPPORTED, LOCAL, 0, 40, "a second name"},
    {"zip64 size differs", LOCAL, 4, 37, 8, 9, QN_E_INPUT, LOCAL, 4, 22, "size is 0x9 here, 0x8"},
    {"zip64 packed size differs", LOCAL, 4, 45, 8, 9, QN_E_INPUT, LOCAL, 4, 18, "packed size is 0x9 here"},
    {"zip64 size hides behind a small one", LOCAL, 4, 22, 4, 8, QN_OK, LOCAL, 0, 0, ""},
    /* descriptors */
    {"descriptor signature", DESCRIPTOR, 0, 0, 4, 0, QN_E_INPUT, DESCRIPTOR, 0, 0, "data descriptor is expected here"},
    {"descriptor CRC", DESCRIPTOR, 0, 4, 4, 0, QN_E_INPUT, DESCRIPTOR, 0, 4, "CRC is 0x0 here"},
    {"descriptor packed size", DESCRIPTOR, 0, 8, 4, 9, QN_E_INPUT, DESCRIPTOR, 0, 8, "packed size is 0x9 here"},
    {"descriptor size", DESCRIPTOR, 0, 12, 4, 9, QN_E_INPUT, DESCRIPTOR, 0, 12, "size is 0x9 here"},
    {"wide descriptor packed size", DESCRIPTOR, 3, 12, 4, 1, QN_E_INPUT, DESCRIPTOR, 3, 8, "packed size is 0x100000004 here"},
    {"wide descriptor size", DESCRIPTOR, 3, 20, 4, 1, QN_E_INPUT, DESCRIPTOR, 3, 16, "size is 0x100000004 here"},
    /* central directory */
    {"central signature", CENTRAL, 1, 0, 4, 0, QN_E_INPUT, CENTRAL, 1, 0, "a header is expected here"},
    {"encrypted", CENTRAL, 1, 8, 2, 0x801, QN_E_UNSUPPORTED, CENTRAL, 1, 8, "'m/b' is encrypted"},
    {"strongly encrypted", CENTRAL, 1, 8, 2, 0x841, QN_E_UNSUPPORTED, CENTRAL, 1, 8, "is encrypted"},
    {"patched data", CENTRAL, 1, 8, 2, 0x820, QN_E_UNSUPPORTED, CENTRAL, 1, 8, "has flags 0x0820"},
    {"masked headers", CENTRAL, 1, 8, 2, 0x2800, QN_E_UNSUPPORTED, CENTRAL, 1, 8, "has flags 0x2800"},
    {"method bzip2", CENTRAL, 1, 10, 2, 12, QN_E_UNSUPPORTED, CENTRAL, 1, 10, "method 12"},
    {"method zstd", CENTRAL, 1, 10, 2, 93, QN_E_UNSUPPORTED, CENTRAL, 1, 10, "method 93"},
    {"stored but smaller", CENTRAL, 1, 20, 4, 3, QN_E_INPUT, CENTRAL, 1, 24, "3 bytes cannot become 4"},
    {"stored but larger", CENTRAL, 1, 24, 4, 400, QN_E_INPUT, CENTRAL, 1, 24, "4 bytes cannot become 400"},
    {"deflated beyond reason", CENTRAL, 2, 24, 4, 1u << 30, QN_E_INPUT, CENTRAL, 2, 24, "deflated bytes cannot become 1073741824"},
    {"packed size past the directory", CENTRAL, 1, 20, 4, 1u << 30, QN_E_INPUT, CENTRAL, 1, 20, "reach into the central directory"},
    {"position past the directory", CENTRAL, 1, 42, 4, 1u << 30, QN_E_INPUT, CENTRAL, 1, 20, "reach into the central directory"},
    {"position a sentinel without zip64", CENTRAL, 1, 42, 4, 0xffffffff, QN_E_INPUT, CENTRAL, 1, 49, "zip64 field is missing"},
    {"size a sentinel without zip64, central", CENTRAL, 1, 24, 4, 0xffffffff, QN_E_INPUT, CENTRAL, 1, 49, "zip64 field is missing"},
    {"zip64 field not called for", CENTRAL, 4, 24, 4, 8, QN_E_INPUT, CENTRAL, 4, 49, "zip64 field of 24 bytes: 16"},
    {"zip64 field too short", CENTRAL, 4, 51, 2, 16, QN_E_INPUT, CENTRAL, 4, 49, "too short: 16 bytes"},
    {"zip64 size wraps", CENTRAL, 4, 61, 8, UINT64_MAX - 3, QN_E_INPUT, CENTRAL, 4, 20, "reach into the central directory"},
    {"zip64 position wraps", CENTRAL, 4, 69, 8, UINT64_MAX - 3, QN_E_INPUT, CENTRAL, 4, 20, "reach into the central directory"},
    {"position of another entry", CENTRAL, 1, 42, 4, 0, QN_E_INPUT, LOCAL, 0, 0, "0 bytes up to the next one"},
    {"position in another entry", CENTRAL, 1, 42, 4, 64, QN_E_INPUT, LOCAL, 0, 0, "overlaps the next one"},
    {"first entry late", CENTRAL, 0, 42, 4, 8, QN_E_INPUT, LOCAL, 0, 0, "8 bytes before the first entry"},
    {"other disk", CENTRAL, 1, 34, 2, 1, QN_E_UNSUPPORTED, CENTRAL, 1, 34, "several disks"},
    {"name past the directory", CENTRAL, 4, 28, 2, 0x7fff, QN_E_INPUT, CENTRAL, 4, 28, "reaches past its end"},
    {"comment past the directory", CENTRAL, 4, 32, 2, 1, QN_E_INPUT, CENTRAL, 4, 28, "reaches past its end"},
    {"name empty", CENTRAL, 1, 28, 2, 0, QN_E_INPUT, CENTRAL, 1, 46, "entry name ''"},
    {"name with NUL", CENTRAL, 1, 47, 1, 0, QN_E_INPUT, CENTRAL, 1, 46, "entry name 'm\\x00b'"},
    {"name not UTF-8", CENTRAL, 1, 48, 1, 0xff, QN_E_INPUT, CENTRAL, 1, 46, "entry name 'm/\\xff'"},
    {"name with backslash", CENTRAL, 1, 47, 1, '\\', QN_E_INPUT, CENTRAL, 1, 46, "entry name"},
    {"name absolute", CENTRAL, 1, 46, 1, '/', QN_E_INPUT, CENTRAL, 1, 46, "entry name '//b'"},
    {"name with '..'", CENTRAL, 1, 46, 3, '.' | '.' << 8 | '/' << 16, QN_E_INPUT, CENTRAL, 1, 46, "entry name '../'"},
    {"name twice", CENTRAL, 2, 48, 1, 'b', QN_E_INPUT, CENTRAL, 2, 0, "two entries are named 'm/b'"},
    {"folder with bytes", CENTRAL, 1, 46, 3, 'm' | 'b' << 8 | '/' << 16, QN_E_INPUT, CENTRAL, 1, 24, "'mb/' is a folder with 4 bytes"},
    {"descriptor not announced", CENTRAL, 0, 8, 2, 0x800, QN_E_INPUT, LOCAL, 0, 6, "flags is 0x808 here, 0x800"},
    /* end records */
    {"other disk, end", END, 0, 4, 2, 1, QN_E_UNSUPPORTED, END, 0, 4, "several disks"},
    {"count here differs", END, 0, 8, 2, 4, QN_E_INPUT, END, 0, 8, "two counts of entries, 4 and 5"},
    {"count differs from zip64", END, 0, 8, 4, 4 | 4 << 16, QN_E_INPUT, END, 0, 0, "do not agree"},
    {"directory size differs from zip64", END, 0, 12, 4, 1, QN_E_INPUT, END, 0, 0, "do not agree"},
    {"directory position differs from zip64", END, 0, 16, 4, 1, QN_E_INPUT, END, 0, 0, "do not agree"},
    {"comment that is not there", END, 0, 20, 2, 1, QN_E_INPUT, END, 0, 0, "a comment of 1 bytes: 0 follow"},
    {"no end record", END, 0, 0, 4, 0, QN_E_INPUT, FILE_END, 0, 0, "no end record"},
    {"locator of several disks", LOCATOR, 0, 16, 4, 2, QN_E_UNSUPPORTED, LOCATOR, 0, 0, "several disks"},
    {"locator elsewhere", LOCATOR, 0, 8, 8, 3, QN_E_INPUT, LOCATOR, 0, 0, "locator names byte 0x3"},
    {"locator past the end", LOCATOR, 0, 8, 8, UINT64_MAX, QN_E_INPUT, LOCATOR, 0, 0, "locator names byte"},
    {"zip64 end signature", END64, 0, 0, 4, 0, QN_E_INPUT, LOCATOR, 0, 0, "the end record must lie at"},
    {"zip64 end with extensions", END64, 0, 4, 8, 45, QN_E_INPUT, END64, 0, 4, "record of 45 bytes"},
    {"zip64 end length wraps", END64, 0, 4, 8, UINT64_MAX, QN_E_INPUT, END64, 0, 4, "44 are allowed"},
    {"zip64 end of several disks", END64, 0, 16, 4, 1, QN_E_UNSUPPORTED, END64, 0, 16, "several disks"},
    {"zip64 counts differ", END64, 0, 24, 8, 4, QN_E_INPUT, END64, 0, 24, "two counts"},
    {"zip64 count beyond the directory", END64, 0, 24, 1, 5, QN_OK, END64, 0, 0, ""},
    {"zip64 directory size", END64, 0, 40, 8, UINT64_MAX, QN_E_INPUT, END, 0, 0, "do not agree"},
};

struct bytes {
    const uint8_t *p;
    size_t n;
};

static qn_code read_bytes(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const struct bytes *b = ctx;
    if (off > b->n || n > b->n - off)
        return QN_FAIL(err, QN_E_BUG, off, "read past the end");
    if (n)
        memcpy(dst, b->p + off, n);
    return QN_OK;
}

static qn_code open_bytes(const void *p, size_t n, qt_counter *c, qn_err *err)
{
    struct bytes b = {p, n};
    qn_zip z;
    qn_err_clear(err);
    qn_code rc = qn_zip_open(&z, c ? &c->alloc : NULL, read_bytes, &b, n, err);
    if (rc == QN_OK)
        qn_zip_release(&z);
    if (rc != QN_OK)
        QN_IGNORE(qn_err_in_path(err, rc, "z"));
    cr_assert(!c || c->n_live == 0, "memory is lost");
    return rc;
}

Test(zip_bad, rows)
{
    size_t n_bad = 0, n_refused = 0;
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        const struct row *r = &rows[k];
        qt_zip z;
        qn_err err;
        qt_counter c;
        uint8_t v[8];
        make(&z);
        qn_store64(v, r->value);
        memcpy(z.file.p + place(&z, r->part, r->i) + r->at, v, r->n);
        qt_counter_init(&c);
        const qn_code rc = open_bytes(z.file.p, z.file.n, &c, &err);
        if (r->code == QN_OK)
            n_bad += rc != QN_OK && fprintf(stderr, "%s: %s\n", r->name, err.text) > 0;
        else
            n_bad += !qt_err_is(r->name, &err, rc, r->code, place(&z, r->off_part, r->off_i) + r->off, "", r->text);
        n_refused += rc != QN_OK;
        cr_expect_leq(c.peak, 2 * z.file.n + (1 << 20));
        qt_zip_free(&z);
    }
    cr_expect_eq(n_bad, 0);
    fprintf(stderr, "# %zu malformed zip archives refused\n", n_refused);
}

static void expect(const char *name, const qt_buf *b, qn_code code, uint64_t off, const char *text)
{
    qn_err err;
    const qn_code rc = open_bytes(b->p, b->n, NULL, &err);
    cr_expect(qt_err_is(name, &err, rc, code, off, "", text));
}

/* What stands before, between, behind. */
Test(zip_bad, around)
{
    qt_zip z;
    qt_buf b = {0};
    make(&z);
    qt_add(&b, "junk", 4);
    qt_add(&b, z.file.p, z.file.n);
    expect("prefix", &b, QN_E_INPUT, z.locator + 4, "locator names byte");
    b.n = 0;
    qt_add(&b, z.file.p, z.file.n);
    qt_add(&b, z.file.p + z.end, 22);
    qn_store16(b.p + z.end + 20, 22);
    expect("end record in a comment", &b, QN_E_INPUT, z.end, "two end records of a zip fit");
    qn_store16(b.p + z.end + 20, 0);
    qn_store32(b.p + z.end, 0);
    expect("end record of another place", &b, QN_E_INPUT, z.file.n + 12, "it must end at");
    for (size_t more = 1; more <= 64; more++) {
        b.n = 0;
        qt_add(&b, z.file.p, z.file.n);
        qt_add_zeros(&b, more);
        expect("extension", &b, QN_E_INPUT, z.end, "follow");
    }
    b.n = 0;
    qt_add(&b, z.file.p, z.file.n);
    qt_add(&b, "said", 4);
    qn_store16(b.p + z.end + 20, 4);
    qn_err err;
    cr_expect_eq(open_bytes(b.p, b.n, NULL, &err), QN_OK, "a comment: %s", err.text);
    qt_zip_free(&z);

    z = (qt_zip){0}; /* a hole before the second entry, and none */
    qt_zip_add(&z, "a", "1", 1, 0);
    const size_t hole = z.file.n;
    qt_add(&z.file, "hole", 4);
    qt_zip_add(&z, "b", "2", 1, 0);
    qt_zip_finish(&z, false);
    expect("hole", &z.file, QN_E_INPUT, hole, "4 bytes behind entry 'a' belong to no entry");
    qt_zip_free(&z);
    qt_zip_add(&z, "a", "1", 1, QT_ZIP_DESCRIPTOR);
    const size_t behind = z.e[0].descriptor;
    qt_add(&z.file, "hole", 4);
    qt_zip_finish(&z, false);
    expect("hole behind a descriptor", &z.file, QN_E_INPUT, behind, "20 bytes up to the next one");
    qt_zip_free(&z);
    qt_zip_finish(&z, false);
    cr_expect_eq(open_bytes(z.file.p, z.file.n, NULL, &err), QN_OK, "an empty archive: %s", err.text);
    qt_zip_free(&z);
    qt_buf_free(&b);
}

/* The quoted form of Fifield's bomb: one kernel of deflated bytes that many headers share. */
Test(zip_bad, overlapping_bomb)
{
    enum { N = 8 };
    static const char *const names[N] = {"0", "1", "2", "3", "4", "5", "6", "7"};
    static const uint8_t zeros[4096];
    qt_zip z = {0};
    for (size_t i = 0; i < N; i++)
        qt_zip_add(&z, names[i], zeros, sizeof zeros, QT_ZIP_DEFLATE);
    for (size_t i = 0; i + 1 < N; i++) /* each covers all that follow */
        z.e[i].n_packed = z.e[N - 1].data + z.e[N - 1].n_packed - z.e[i].data;
    for (size_t i = 0; i + 1 < N; i++)
        qn_store32(z.file.p + z.e[i].local + 18, (uint32_t)z.e[i].n_packed);
    qt_zip_finish(&z, false);
    expect("overlapping entries", &z.file, QN_E_INPUT, 0, "entry '0' overlaps the next one");
    qt_zip_free(&z);
}

Test(zip_bad, prefixes)
{
    qt_zip z;
    make(&z);
    for (size_t n = 0; n < z.file.n; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        qn_err err;
        memcpy(exact, z.file.p, n);
        cr_expect_eq(open_bytes(exact, n, NULL, &err), QN_E_INPUT, "prefix of %zu bytes", n);
        free(exact);
    }
    fprintf(stderr, "# %zu prefixes refused\n", z.file.n);
    qt_zip_free(&z);
}

Test(zip_bad, every_allocation_fails)
{
    qt_zip z;
    qn_err err;
    make(&z);
    for (uint64_t k = 1;; k++) {
        qt_counter c;
        qt_counter_init(&c);
        c.fail_at = k;
        const qn_code rc = open_bytes(z.file.p, z.file.n, &c, &err);
        if (rc == QN_OK) {
            cr_expect_gt(k, 4u);
            break;
        }
        cr_assert_eq(rc, QN_E_MEMORY);
    }
    qt_zip_free(&z);
}

/* Entries of a good archive read as they were written; each flipped data byte is seen by the CRC or by the decoder. */
Test(zip_bad, contents)
{
    qt_zip z;
    qn_zip dir;
    qn_err err;
    make(&z);
    struct bytes b = {z.file.p, z.file.n};
    qn_err_clear(&err);
    cr_assert_eq(qn_zip_open(&dir, NULL, read_bytes, &b, b.n, &err), QN_OK, "%s", err.text);
    cr_assert_eq(dir.n_entries, 5);
    cr_expect_null(qn_zip_find(&dir, "m/x"));
    cr_expect_eq(qn_zip_find(&dir, "m/data.pkl")->data_off % 64, 0);
    const qn_zip_entry *c = qn_zip_find(&dir, "m/c");
    cr_assert(c && c->method == QN_ZIP_DEFLATED && c->n_bytes == 500);
    for (uint64_t piece = 1; piece <= 500; piece = piece * 3 + 1) {
        uint8_t out[500];
        qn_zip_stream st;
        cr_assert_eq(qn_zip_stream_open(&st, &dir, c, &err), QN_OK);
        for (uint64_t at = 0; at < 500; at += piece)
            cr_assert_eq(qn_zip_stream_read(&st, out + at, qn_min_u64(piece, 500 - at), &err), QN_OK, "%s", err.text);
        qn_zip_stream_close(&st);
        cr_expect(out[0] == 1 && out[1] == 0 && out[499] == 0);
    }
    size_t n_seen = 0;
    for (uint64_t i = 0; i < dir.n_entries; i++)
        for (uint64_t k = 0; k < dir.entries[i].n_packed; k++) {
            uint8_t *p = z.file.p + dir.entries[i].data_off + k;
            *p ^= 1;
            qn_err_clear(&err);
            const qn_code rc = qn_zip_check(&dir, &dir.entries[i], &err);
            *p ^= 1;
            const bool padding = dir.entries[i].method == QN_ZIP_DEFLATED && rc == QN_OK; /* bits that mean nothing */
            cr_expect(padding || (rc == QN_E_INPUT && err.off == dir.entries[i].data_off), "byte %llu of %s",
                      (unsigned long long)k, dir.entries[i].name);
            n_seen += !padding;
            cr_expect_eq(qn_zip_check(&dir, &dir.entries[i], &err), QN_OK);
        }
    fprintf(stderr, "# %zu flipped bytes seen\n", n_seen);
    qn_zip_release(&dir);
    qt_zip_free(&z);
}
