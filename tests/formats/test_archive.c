/* test_archive.c: one model in every kind of archive must read the same; archives that are hostile or damaged are refused in
 * words, at every place where they may be cut. */
#define _GNU_SOURCE
#include "formats/archive/spool.h"
#include "formats/source.h"
#include "tests/support/tar_build.h"
#include "tests/support/testkit.h"
#include "tests/support/torch_build.h"
#include <archive.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAD "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}"
#define CONFIG "{\"hidden_size\": 3}"

static qt_buf model; /* a safetensors file */

static void make_model(void)
{
    if (!model.n)
        qt_add_safetensors(&model, HEAD, 24);
}

static void add_folder(qt_buf *b, const char *top)
{
    char name[300];
    make_model();
    snprintf(name, sizeof name, "%sconfig.json", top);
    qt_tar_add(b, name, '0', CONFIG, strlen(CONFIG));
    snprintf(name, sizeof name, "%smodel.safetensors", top);
    qt_tar_add(b, name, '0', model.p, model.n);
}

static qn_code open_in(const char *path, const qt_buf *b, qt_counter *c, qn_source **s, qt_files *t, qn_env *env, qn_err *err)
{
    qt_files_init(t);
    qt_files_add(t, path, b->p, b->n);
    *env = qt_env(t, c);
    qn_err_clear(err);
    return qn_source_open(env, path, s, err);
}

static qn_code try(const char *path, const qt_buf *b, qt_counter *c, qn_err *err)
{
    qn_source *s;
    qt_files t;
    qn_env env;
    const qn_code rc = open_in(path, b, c, &s, &t, &env, err);
    if (rc == QN_OK)
        qn_source_close(s);
    cr_assert_eq(t.n_open, 0, "a file stays open");
    cr_assert(!c || c->n_live == 0, "memory is lost");
    return rc;
}

/* The files that were put in come out, under these names. */
static void expect_model(const char *path, const qt_buf *b, bool is_dir, const char *format)
{
    qn_source *s;
    qt_files t;
    qn_env env;
    qn_err err;
    qt_counter c;
    uint8_t got[1024];
    qt_counter_init(&c);
    cr_assert_eq(open_in(path, b, &c, &s, &t, &env, &err), QN_OK, "%s: %s", path, err.text);
    cr_expect_str_eq(s->ops->format, format, "%s", path);
    cr_expect_str_eq(s->bundle, path);
    cr_expect_eq(s->is_dir, is_dir, "%s", path);
    cr_assert_eq(s->n_files, is_dir ? 2 : 1, "%s", path);
    const qn_source_file *f = &s->files[s->n_files - 1];
    cr_expect_str_eq(f->path, "model.safetensors", "%s", path);
    for (uint64_t i = 0; i < s->n_files; i++) {
        size_t at = 0;
        for (uint64_t k = s->files[i].first_object; k < s->files[i].first_object + s->files[i].n_objects; k++) {
            cr_assert_eq(qn_source_read(s, k, 0, s->objects[k].n_bytes, got + at, &err), QN_OK, "%s", err.text);
            at += s->objects[k].n_bytes;
        }
        if (is_dir && i == 0)
            cr_expect(at == strlen(CONFIG) && memcmp(got, CONFIG, at) == 0, "%s: config.json", path);
        else
            cr_expect(at == model.n && memcmp(got, model.p, at) == 0, "%s: model.safetensors", path);
    }
    const uint64_t a = qn_source_tensor_find(s, "a");
    cr_assert_neq(a, UINT64_MAX);
    cr_assert_eq(qn_source_tensor_read(s, a, 5, 9, got, &err), QN_OK);
    for (uint8_t i = 0; i < 9; i++)
        cr_expect_eq(got[i], 5 + i);
    qn_source_close(s);
    cr_expect(t.n_open == 0 && c.n_live == 0, "%s", path);
}

static const struct {
    const char *path;
    int filter;
} packings[] = {{"m.tar.gz", ARCHIVE_FILTER_GZIP}, {"m.tar.zst", ARCHIVE_FILTER_ZSTD}, {"m.tar.xz", ARCHIVE_FILTER_XZ},
                {"m.tar.bz2", ARCHIVE_FILTER_BZIP2}};
enum { N_PACKINGS = sizeof packings / sizeof packings[0] };

Test(archive, every_kind)
{
    static const char *const tops[] = {"", "./", "m/", "./deep/er/"};
    qt_buf tar = {0}, one = {0};
    for (size_t i = 0; i < sizeof tops / sizeof tops[0]; i++) {
        tar.n = 0;
        qt_tar_add(&tar, i == 1 ? "./" : "m/", '5', "", 0);
        add_folder(&tar, tops[i]);
        qt_tar_end(&tar);
        expect_model("x/m.tar", &tar, true, "hf");
    }
    for (size_t i = 0; i < N_PACKINGS; i++) {
        qt_buf packed = {0};
        qt_pack(&packed, packings[i].filter, tar.p, tar.n);
        expect_model(packings[i].path, &packed, true, "hf");
        packed.n = 0;
        qt_pack(&packed, packings[i].filter, model.p, model.n); /* no tar: the file itself */
        expect_model("model.safetensors.gz", &packed, false, "safetensors");
        qt_buf_free(&packed);
    }
    for (unsigned how = 0; how < 4; how++) {
        const unsigned flags = (how & 1 ? QT_ZIP_DEFLATE : 0) | (how & 2 ? QT_ZIP_DESCRIPTOR : 0);
        qt_zip z = {0};
        qt_zip_add(&z, "m/", "", 0, 0);
        qt_zip_add(&z, "m/model.safetensors", model.p, model.n, flags);
        qt_zip_add(&z, "m/config.json", CONFIG, strlen(CONFIG), how & 1 ? 0 : QT_ZIP_DEFLATE);
        qt_zip_finish(&z, false);
        expect_model("m.zip", &z.file, true, "hf");
        qt_zip_free(&z);
    }
    qt_tar_add(&one, "model.safetensors", '0', model.p, model.n);
    qt_tar_end(&one);
    qt_add_zeros(&one, 8192); /* padding to a record */
    expect_model("m.tar", &one, false, "safetensors");
    qt_buf_free(&tar);
    qt_buf_free(&one);
}

/* Names longer than a header holds, in each of the three ways. */
Test(archive, long_names)
{
    char top[200], name[260], record[300];
    qt_buf b = {0};
    make_model();
    memset(top, 'd', 150);
    top[150] = '\0';
    snprintf(name, sizeof name, "%s/model.safetensors", top);
    snprintf(record, sizeof record, "%zu path=%s\n", strlen(name) + 10, name);
    cr_assert_eq(strlen(record), strlen(name) + 10);
    qt_tar_add(&b, "pax", 'x', record, strlen(record));
    qt_tar_add(&b, "short", '0', model.p, model.n);
    qt_tar_end(&b);
    expect_model("m.tar", &b, false, "safetensors");
    b.n = 0;
    qt_tar_add(&b, "././@LongLink", 'L', name, strlen(name) + 1);
    qt_tar_add(&b, name, '0', model.p, model.n);
    memcpy(b.p + b.n - 512 - (model.n + 511) / 512 * 512 + 257, "ustar  ", 8);
    qt_tar_sum(&b, b.n - 512 - (model.n + 511) / 512 * 512);
    qt_tar_end(&b);
    expect_model("m.tar", &b, false, "safetensors");
    b.n = 0;
    qt_tar_add(&b, "model.safetensors", '0', model.p, model.n);
    memcpy(b.p + 345, top, 150);
    qt_tar_sum(&b, 0);
    qt_tar_end(&b);
    expect_model("m.tar", &b, false, "safetensors");
    b.n = 0; /* a size in a pax record, another in the header */
    snprintf(record, sizeof record, "12 size=%zu\n", model.n);
    cr_assert_eq(strlen(record), 11 + (model.n >= 100));
    record[1] = (char)('0' + strlen(record) % 10);
    qt_tar_add(&b, "pax", 'x', record, strlen(record));
    qt_tar_add(&b, "model.safetensors", '0', model.p, model.n);
    memcpy(b.p + 1024 + 124, "00000000000", 12);
    qt_tar_sum(&b, 1024);
    qt_tar_end(&b);
    expect_model("m.tar", &b, false, "safetensors");
    b.n = 0; /* and a size in GNU's binary */
    qt_tar_add(&b, "model.safetensors", '0', model.p, model.n);
    memset(b.p + 124, 0, 12);
    b.p[124] = 0x80;
    b.p[135] = (uint8_t)model.n;
    qt_tar_sum(&b, 0);
    qt_tar_end(&b);
    expect_model("m.tar", &b, false, "safetensors");
    qt_buf_free(&b);
}

/* A tar of up to three members in front of a good model, then a change. */
static const struct row {
    const char *name;
    struct {
        const char *name;
        char type;
        const char *data;
    } m[3];
    int at; /* −1: nothing is changed */
    const char *bytes;
    size_t n_bytes;
    bool sum;
    qn_code code;
    uint64_t off;
    const char *text;
} rows[] = {
    {"absolute", {{"/etc/passwd", '0', "x"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "'/etc/passwd': a relative path"},
    {"above", {{"../x", '0', "x"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "'../x': a relative path"},
    {"above, inside", {{"m/../../x", '0', "x"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "a relative path"},
    {"backslash", {{"m\\x", '0', "x"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "a relative path"},
    {"folder above", {{"../m/", '5', ""}}, -1, NULL, 0, false, QN_E_INPUT, 0, "a relative path"},
    {"no name", {{"", '0', "x"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "a relative path"},
    {"not UTF-8", {{"\xff\xfe", '0', "x"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "'\\xff\\xfe': a relative path"},
    {"for terminals", {{"\x1b[2Jx", '0', "x"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "'\\x1b[2Jx'"},
    {"symlink", {{"m/link", '2', ""}}, 157, "/etc/passwd", 12, true, QN_E_UNSUPPORTED, 0, "'m/link' is a symlink to /etc/passwd"},
    {"hard link", {{"m/link", '1', ""}}, 157, "m/a", 4, true, QN_E_UNSUPPORTED, 0, "'m/link' is a hard link to m/a"},
    {"character device", {{"m/null", '3', ""}}, -1, NULL, 0, false, QN_E_UNSUPPORTED, 0, "a device or a pipe"},
    {"block device", {{"m/sda", '4', ""}}, -1, NULL, 0, false, QN_E_UNSUPPORTED, 0, "a device or a pipe"},
    {"pipe", {{"m/pipe", '6', ""}}, -1, NULL, 0, false, QN_E_UNSUPPORTED, 0, "a device or a pipe"},
    {"GNU sparse", {{"m/s", 'S', ""}}, -1, NULL, 0, false, QN_E_UNSUPPORTED, 0, "a sparse file"},
    {"pax sparse", {{"p", 'x', "22 GNU.sparse.major=1\n"}, {"m/s", '0', ""}}, -1, NULL, 0, false, QN_E_UNSUPPORTED, 0, "sparse file in a tar"},
    {"volume label", {{"label", 'V', ""}}, -1, NULL, 0, false, QN_E_UNSUPPORTED, 0, "type 0x56"},
    {"another volume", {{"m/x", 'M', ""}}, -1, NULL, 0, false, QN_E_UNSUPPORTED, 0, "type 0x4d"},
    {"twice", {{"m/x", '0', "1"}, {"m/x", '0', "2"}}, -1, NULL, 0, false, QN_E_INPUT, QN_NO_OFFSET, "two members are named 'm/x'"},
    {"twice, spelled otherwise", {{"m/x", '0', "1"}, {"./m/x", '0', "2"}}, -1, NULL, 0, false, QN_E_INPUT, QN_NO_OFFSET, "two members are named 'm/x'"},
    {"file and folder", {{"m/x", '0', "1"}, {"m/x-y", '0', "1"}, {"m/x/y", '0', "2"}}, -1, NULL, 0, false, QN_E_INPUT, QN_NO_OFFSET, "'m/x/y' lies below a member that is a file"},
    {"sum", {{"m/x", '0', "1"}}, 0, "n", 1, false, QN_E_INPUT, 0, "the sum of this tar header"},
    {"sum of the second", {{"m/x", '0', "1"}, {"m/y", '0', "1"}}, 1024, "n", 1, false, QN_E_INPUT, 1024, "the sum of this tar header"},
    {"no header", {{"m/x", '0', "1"}, {"m/y", '0', "1"}}, 1024 + 257, "x", 1, true, QN_E_INPUT, 1024, "a header of a tar archive is expected"},
    {"size no number", {{"m/x", '0', "1"}}, 124, "9", 1, true, QN_E_INPUT, 124, "size in a tar header is not a number"},
    {"size empty", {{"m/x", '0', "1"}}, 124, "\0\0\0\0\0\0\0\0\0\0\0", 12, true, QN_E_INPUT, 124, "size in a tar header is not a number"},
    {"size negative", {{"m/x", '0', "1"}}, 124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, true, QN_E_INPUT, 124, "size in a tar header is not a number"},
    {"size of 2^88", {{"m/x", '0', "1"}}, 124, "\x80\xff\0\0\0\0\0\0\0\0\0\0", 12, true, QN_E_INPUT, 124, "size in a tar header is not a number"},
    {"size of 2^64 − 1", {{"m/x", '0', "1"}}, 124, "\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 12, true, QN_E_INPUT, 0, "member of 18446744073709551615 bytes"},
    {"size past the end", {{"m/x", '0', "1"}}, 124, "00077777777", 12, true, QN_E_INPUT, 0, "member of 16777215 bytes"},
    {"folder with data", {{"m/x/", '5', "data"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "a folder with 4 bytes"},
    {"pax without a length", {{"p", 'x', "path=x\n"}, {"m/x", '0', "1"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "pax header: records"},
    {"pax length too long", {{"p", 'x', "99 path=x\n"}, {"m/x", '0', "1"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "pax header: records"},
    {"pax length too short", {{"p", 'x', "2 path=x\n"}, {"m/x", '0', "1"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "pax header: records"},
    {"pax length overflows", {{"p", 'x', "18446744073709551616 path=x\n"}, {"m/x", '0', "1"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "pax header: records"},
    {"pax without =", {{"p", 'x', "9 pathxx\n"}, {"m/x", '0', "1"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "pax header: records"},
    {"pax without a line end", {{"p", 'x', "9 path=x!"}, {"m/x", '0', "1"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "pax header: records"},
    {"pax path above", {{"p", 'x', "13 path=../x\n"}, {"m/x", '0', "1"}}, -1, NULL, 0, false, QN_E_INPUT, 1024, "'../x': a relative path"},
    {"pax size no number", {{"p", 'x', "10 size=1x\n"}, {"m/x", '0', "1"}}, 512, "11", 2, false, QN_E_INPUT, 0, "size is not a number"},
    {"pax size of 2^64", {{"p", 'x', "29 size=18446744073709551616\n"}, {"m/x", '0', "1"}}, -1, NULL, 0, false, QN_E_INPUT, 0, "size is not a number"},
    {"global name", {{"p", 'g', "10 path=x\n"}, {"m/x", '0', "1"}}, -1, NULL, 0, false, QN_E_UNSUPPORTED, 0, "gives every member the same"},
    {"archive in an archive", {{"m.tar.gz", '0', "\x1f\x8b"}}, -2, NULL, 0, false, QN_E_UNSUPPORTED, QN_NO_OFFSET, "an archive inside an archive"},
    {"several models", {{"a.gguf", '0', "GGUF"}, {"b.gguf", '0', "GGUF"}}, -2, NULL, 0, false, QN_E_UNSUPPORTED, QN_NO_OFFSET, "several models, 'a.gguf' and 'b.gguf'"},
    {"no model", {{"a.txt", '0', "x"}, {"b.txt", '0', "x"}}, -2, NULL, 0, false, QN_E_INPUT, QN_NO_OFFSET, "no tensors found"},
    {"nothing but a folder", {{"m/", '5', ""}}, -2, NULL, 0, false, QN_E_INPUT, QN_NO_OFFSET, "holds no files"},
    {"damaged model", {{"m/model.safetensors", '0', "\1\0\0\0\0\0\0\0x"}, {"m/x", '0', "1"}}, -2, NULL, 0, false, QN_E_INPUT, 9, "9 bytes are too few"},
};

static void build_row(const struct row *r, qt_buf *b)
{
    for (size_t k = 0; k < 3 && r->m[k].name; k++) /* the data may begin with NULs: those of the safetensors row have 9 bytes */
        qt_tar_add(b, r->m[k].name, r->m[k].type, r->m[k].data, r->m[k].data[0] == 1 ? 9 : strlen(r->m[k].data));
    if (r->at >= 0)
        memcpy(b->p + r->at, r->bytes, r->n_bytes);
    if (r->sum)
        qt_tar_sum(b, (size_t)r->at / 512 * 512);
    if (r->at != -2)
        add_folder(b, "m/");
    qt_tar_end(b);
}

Test(archive, refused)
{
    size_t n_bad = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        qt_buf b = {0}, packed = {0};
        qn_err err;
        qt_counter c;
        build_row(r, &b);
        qt_counter_init(&c);
        qn_code rc = try("m.tar", &b, &c, &err);
        n_bad += !qt_err_is(r->name, &err, rc, r->code, r->off, NULL, r->text);
        cr_expect_leq(c.peak, 3 << 20);
        qt_pack(&packed, ARCHIVE_FILTER_GZIP, b.p, b.n);
        rc = try("m.tar.gz", &packed, &c, &err);
        n_bad += !qt_err_is(r->name, &err, rc, r->code, r->off, NULL, r->text);
        qt_buf_free(&b);
        qt_buf_free(&packed);
    }
    cr_expect_eq(n_bad, 0);
    fprintf(stderr, "# %zu hostile tar archives refused, twice\n", sizeof rows / sizeof rows[0]);
}

Test(archive, refused_zips)
{
    static const struct {
        const char *name, *member;
        unsigned mode;
        const char *data;
        qn_code code;
        const char *text;
    } z_rows[] = {
        {"symlink", "m/link", 0120777, "/etc/passwd", QN_E_UNSUPPORTED, "'m/link' is a symlink"},
        {"pipe", "m/pipe", 0010644, "", QN_E_UNSUPPORTED, "'m/pipe' is a device or a pipe"},
        {"folder with data", "m/x/", 0, "data", QN_E_INPUT, "a folder with 4 bytes"},
        {"file and folder", "m", 0, "x", QN_E_INPUT, "lies below a member that is a file"},
        {"archive in an archive", "only.zip", 0, "PK\3\4", QN_E_UNSUPPORTED, "an archive inside an archive"},
    };
    size_t n_bad = 0;
    make_model();
    for (size_t i = 0; i < sizeof z_rows / sizeof z_rows[0]; i++) {
        qt_zip z = {0};
        qn_err err;
        qt_counter c;
        qt_zip_add(&z, z_rows[i].member, z_rows[i].data, strlen(z_rows[i].data), 0);
        if (strcmp(z_rows[i].member, "only.zip") != 0)
            qt_zip_add(&z, "m/model.safetensors", model.p, model.n, QT_ZIP_DEFLATE);
        qt_zip_finish(&z, false);
        z.file.p[z.e[0].central + 5] = 3; /* made on Unix */
        z.file.p[z.e[0].central + 40] = (uint8_t)z_rows[i].mode;
        z.file.p[z.e[0].central + 41] = (uint8_t)(z_rows[i].mode >> 8);
        qt_counter_init(&c);
        const qn_code rc = try("m.zip", &z.file, &c, &err);
        n_bad += rc != z_rows[i].code || !strstr(err.text, z_rows[i].text);
        cr_expect(rc == z_rows[i].code && strstr(err.text, z_rows[i].text), "%s: %d %s", z_rows[i].name, rc, err.text);
        qt_zip_free(&z);
    }
    cr_expect_eq(n_bad, 0);
}

/* A checkpoint of PyTorch is no bundle, wherever its data.pkl stands. */
Test(archive, torch_is_not_a_bundle)
{
    static const char pickle[] = "\x80\2}(" PT_KEY("w") PT_W "u.";
    static uint8_t data[32];
    qn_source *s;
    qt_files t;
    qn_env env;
    qn_err err;
    qt_zip z = {0};
    qt_zip_add(&z, "m/version", "3\n", 2, 0);
    qt_zip_add(&z, "m/data.pkl", pickle, sizeof pickle - 1, 0);
    qt_zip_add(&z, "m/data/0", data, sizeof data, 0);
    qt_zip_finish(&z, false);
    cr_assert_eq(open_in("x.bin", &z.file, NULL, &s, &t, &env, &err), QN_OK, "%s", err.text);
    cr_expect_str_eq(s->ops->format, "torch");
    cr_expect_null(s->bundle);
    qn_source_close(s);
    qt_zip_free(&z);
}

/* What is left out is told. */
Test(archive, left_out)
{
    qn_source *s;
    qt_files t;
    qn_env env;
    qn_err err;
    qt_buf b = {0};
    make_model();
    qt_tar_add(&b, "m/._model.safetensors", '0', "junk", 4);
    qt_tar_add(&b, "__MACOSX/m/x.safetensors", '0', "junk", 4);
    add_folder(&b, "m/");
    qt_tar_end(&b);
    cr_assert_eq(open_in("m.tar", &b, NULL, &s, &t, &env, &err), QN_OK, "%s", err.text);
    cr_expect_eq(s->n_files, 2);
    cr_assert_eq(s->n_warnings, 1);
    cr_expect(strstr(s->warnings[0], "2 files that macOS added"), "%s", s->warnings[0]);
    qn_source_close(s);
    qt_buf_free(&b);
}

/* Cut anywhere it is refused; damaged anywhere it is refused, or reads the same (a byte of a header that says nothing). */
Test(archive, cut_and_damaged)
{
    qt_buf tar = {0};
    qn_err err;
    size_t n_cut = 0, n_damaged = 0;
    add_folder(&tar, "m/");
    qt_tar_end(&tar);
    for (size_t n = 1; n < tar.n; n++) {
        const qt_buf part = {.p = tar.p, .n = n};
        const qn_code rc = try("m.tar", &part, NULL, &err);
        cr_assert(rc == QN_E_INPUT, "%zu bytes: %d", n, rc);
        n_cut++;
    }
    for (size_t i = 0; i < N_PACKINGS; i++) {
        qt_buf packed = {0};
        qt_pack(&packed, packings[i].filter, tar.p, tar.n);
        for (size_t n = 1; n < packed.n; n++) {
            const qt_buf part = {.p = packed.p, .n = n};
            const qn_code rc = try("m.tar.x", &part, NULL, &err);
            cr_assert(rc == QN_E_INPUT || (rc == QN_E_UNSUPPORTED && n < 12), "%s, %zu of %zu bytes: %d", packings[i].path, n, packed.n, rc);
            n_cut++;
        }
        for (size_t k = 0; k < packed.n && packings[i].filter != ARCHIVE_FILTER_ZSTD; k++) { /* zstd frames need have no sum */
            packed.p[k] ^= 0x10;
            if (try("m.tar.x", &packed, NULL, &err) == QN_OK)
                expect_model("m.tar.x", &packed, true, "hf");
            else
                n_damaged++;
            packed.p[k] ^= 0x10;
        }
        qt_add(&packed, "junk", 4);
        if (packings[i].filter == ARCHIVE_FILTER_GZIP)
            cr_expect(try("m.tar.x", &packed, NULL, &err) == QN_E_INPUT && strstr(err.text, "behind the end of the gzip data"), "%s", err.text);
        qt_buf_free(&packed);
    }
    cr_expect_gt(n_damaged, 500);
    fprintf(stderr, "# %zu cuts and %zu damaged bytes refused\n", n_cut, n_damaged);
    qt_buf_free(&tar);
}

/* Two gzip members are one stream, as gunzip has it. */
Test(archive, two_gzip_members)
{
    qt_buf tar = {0}, packed = {0};
    add_folder(&tar, "m/");
    qt_tar_end(&tar);
    qt_pack(&packed, ARCHIVE_FILTER_GZIP, tar.p, 700);
    qt_pack(&packed, ARCHIVE_FILTER_GZIP, tar.p + 700, tar.n - 700);
    expect_model("m.tar.gz", &packed, true, "hf");
    qt_buf_free(&tar);
    qt_buf_free(&packed);
}

Test(archive, memory_fails)
{
    qt_buf tar = {0}, packed[2] = {0};
    qt_zip z = {0};
    add_folder(&tar, "m/");
    qt_tar_end(&tar);
    qt_pack(&packed[0], ARCHIVE_FILTER_GZIP, tar.p, tar.n);
    qt_pack(&packed[1], ARCHIVE_FILTER_XZ, tar.p, tar.n);
    qt_zip_add(&z, "model.safetensors", model.p, model.n, QT_ZIP_DEFLATE);
    qt_zip_finish(&z, false);
    const qt_buf *all[] = {&tar, &packed[0], &packed[1], &z.file};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        qn_code rc = QN_E_MEMORY;
        uint64_t n = 0;
        while (rc != QN_OK) {
            qn_err err;
            qt_counter c;
            qt_counter_init(&c);
            c.fail_at = ++n;
            rc = try("m.tar", all[i], &c, &err);
            cr_assert(rc == QN_OK || rc == QN_E_MEMORY, "archive %zu, allocation %llu: %d %s", i, (unsigned long long)n, rc, err.text);
        }
        cr_expect_gt(n, 20);
    }
    qt_buf_free(&tar);
    qt_buf_free(&packed[0]);
    qt_buf_free(&packed[1]);
    qt_zip_free(&z);
}

/* Past its memory a spool goes on in a file without a name. */
Test(archive, spool)
{
    char dir[] = "/tmp/qt-spool-XXXXXX";
    qn_env env = qt_env(NULL, NULL);
    qn_spool sp;
    qn_err err;
    uint8_t block[700], got[1400];
    cr_assert_not_null(mkdtemp(dir));
    env.tmp_dir = dir;
    env.memory_bytes = 8 * 2000;
    qn_spool_init(&sp, &env);
    for (unsigned i = 0; i < 5; i++) {
        for (size_t k = 0; k < sizeof block; k++)
            block[k] = (uint8_t)((i * sizeof block + k) * 7 >> 3);
        cr_assert_eq(qn_spool_append(&sp, block, sizeof block, &err), QN_OK, "%s", err.text);
        cr_expect_eq(sp.file.fd >= 0, i >= 2, "%u", i);
        cr_expect_eq(sp.mem != NULL, i < 2, "%u", i);
    }
    cr_expect_eq(rmdir(dir), 0, "the temporary file has a name");
    cr_assert_eq(qn_spool_read(&sp, got, sizeof got, 1001, &err), QN_OK);
    for (size_t k = 0; k < sizeof got; k++)
        cr_assert_eq(got[k], (uint8_t)((1001 + k) * 7 >> 3), "%zu", k);
    qn_spool_release(&sp);
    env.tmp_dir = dir; /* is gone */
    qn_spool_init(&sp, &env);
    qn_err_clear(&err);
    cr_assert_eq(qn_spool_append(&sp, got, sizeof got, &err), QN_OK);
    cr_expect_eq(qn_spool_append(&sp, got, sizeof got, &err), QN_E_IO);
    cr_expect(strstr(err.path, dir), "%s", err.path);
    qn_spool_release(&sp);
}
