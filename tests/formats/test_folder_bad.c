/* test_folder_bad.c: model folders and shard indexes that do not fit together, and paths that try to leave the folder. */
#define _GNU_SOURCE
#include "formats/source.h"
#include "tests/support/hostile.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* shard files: one F32 tensor of two elements each */
#define SHARD(t) "{\"" t "\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"
#define PAIR "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}"

static const struct row {
    const char *name, *index; /* '^' marks the byte of the error */
    const char *tensor, *text;
} rows[] = {
    {"empty index", "^", "", "ends early"},
    {"index an array", "^[]", "", "must be a JSON object"},
    {"weight_map missing", "^{\"metadata\":{}}", "", "weight_map is missing"},
    {"weight_map an array", "{\"weight_map\":^[]}", "", "an object is expected"},
    {"weight_map null", "{\"weight_map\":^null}", "", "an object is expected"},
    {"weight_map twice", "{\"weight_map\":{},^\"weight_map\":{}}", "", "stands twice"},
    {"shard a number", "{\"weight_map\":{\"a\":^1}}", "", "a file name is expected"},
    {"shard an object", "{\"weight_map\":{\"a\":^{}}}", "", "a file name is expected"},
    {"shard empty", "{\"weight_map\":{\"a\":^\"\"}}", "", "plain file name"},
    {"shard .", "{\"weight_map\":{\"a\":^\".\"}}", "", "plain file name"},
    {"shard ..", "{\"weight_map\":{\"a\":^\"..\"}}", "", "plain file name"},
    {"shard above", "{\"weight_map\":{\"a\":^\"../1.safetensors\"}}", "", "plain file name"},
    {"shard absolute", "{\"weight_map\":{\"a\":^\"/etc/passwd\"}}", "", "plain file name"},
    {"shard in a folder", "{\"weight_map\":{\"a\":^\"x/1.safetensors\"}}", "", "plain file name"},
    {"shard ./", "{\"weight_map\":{\"a\":^\"./1.safetensors\"}}", "", "plain file name"},
    {"shard with backslash", "{\"weight_map\":{\"a\":^\"..\\\\1.safetensors\"}}", "", "plain file name"},
    {"shard with escaped slash", "{\"weight_map\":{\"a\":^\"..\\u002f1.safetensors\"}}", "", "plain file name"},
    {"shard with line feed", "{\"weight_map\":{\"a\":^\"1\\n.safetensors\"}}", "", "plain file name"},
    {"shard with DEL", "{\"weight_map\":{\"a\":^\"1\x7f.safetensors\"}}", "", "plain file name"},
    {"shard with NUL", "{\"weight_map\":{\"a\":\"1\\u000^0\"}}", "", "NUL in a string"},
    {"shard of another tensor", "{\"weight_map\":{^\"a\":\"2.safetensors\",\"b\":\"2.safetensors\"}}", "a", "the index says it is in 2.safetensors: it is in 1.safetensors"},
    {"stale entry", "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\",^\"c\":\"2.safetensors\"}}", "c", "the index says it is in 2.safetensors: it is in no file"},
    {"entry twice", "{\"weight_map\":{\"a\":\"1.safetensors\",^\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}", "a", "stands twice in the index"},
    {"text behind", PAIR "^x", "", "after the end"},
    {"cut", "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}^", "", "ends early"},
    {"depth bomb", "{\"metadata\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[^[[[[]]]]}", "", "nested deeper than 32"},
    {"shard name a bomb for terminals", "{\"weight_map\":{^\"a\":\"\\u202e2\",\"b\":\"2.safetensors\"}}", "a", "\\xe2\\x80\\xae2"},
};

static qn_code open_in(qt_files *t, const char *path, qt_counter *c, qn_err *err)
{
    qn_source *s;
    const qn_env env = qt_env(t, c);
    qn_err_clear(err);
    const qn_code rc = qn_source_open(&env, path, &s, err);
    if (rc == QN_OK)
        qn_source_close(s);
    cr_assert(!t || t->n_open == 0, "a file stays open");
    cr_assert(!c || c->n_live == 0, "memory is lost");
    return rc;
}

static void put_pair(qt_files *t, qt_buf b[2])
{
    qt_add_safetensors(&b[0], SHARD("a"), 8);
    qt_add_safetensors(&b[1], SHARD("b"), 8);
    qt_files_init(t);
    qt_files_add(t, "m/1.safetensors", b[0].p, b[0].n);
    qt_files_add(t, "m/2.safetensors", b[1].p, b[1].n);
}

Test(folder_bad, rows)
{
    qt_buf b[2] = {0};
    size_t n_bad = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        const char *mark = strchr(r->index, '^');
        const size_t at = (size_t)(mark - r->index);
        qt_buf text = {0};
        qt_files t;
        qn_err err;
        qt_counter c;
        qt_add(&text, r->index, at);
        qt_add(&text, mark + 1, strlen(mark + 1));
        b[0].n = b[1].n = 0;
        put_pair(&t, b);
        qt_files_add(&t, "m/model.safetensors.index.json", text.p, text.n);
        qt_counter_init(&c);
        const qn_code rc = open_in(&t, "m", &c, &err);
        n_bad += !qt_err_is(r->name, &err, rc, QN_E_INPUT, at, r->tensor, r->text);
        n_bad += strcmp(err.path, "m/model.safetensors.index.json") != 0;
        cr_expect_leq(c.peak, 3 << 20);
        /* the same index given by itself: refused too */
        cr_expect_neq(open_in(&t, "m/model.safetensors.index.json", &c, &err), QN_OK, "%s", r->name);
        qt_buf_free(&text);
    }
    cr_expect_eq(n_bad, 0);
    fprintf(stderr, "# %zu malformed indexes refused\n", sizeof rows / sizeof rows[0]);
    qt_buf_free(&b[0]);
    qt_buf_free(&b[1]);
}

Test(folder_bad, sets)
{
    qt_buf b[2] = {0};
    qt_files t;
    qn_err err;
    put_pair(&t, b);
    qt_files_add(&t, "m/model.safetensors.index.json", PAIR, strlen(PAIR));
    cr_expect_eq(open_in(&t, "m", NULL, &err), QN_OK, "%s", err.text);
    cr_expect_eq(open_in(&t, "m/model.safetensors.index.json", NULL, &err), QN_OK, "%s", err.text);

    t.f[2].p = (const uint8_t *)"{\"weight_map\":{\"a\":\"1.safetensors\"}}"; /* b is in a file that is no shard: fine */
    t.f[2].n = strlen((const char *)t.f[2].p);
    cr_expect_eq(open_in(&t, "m", NULL, &err), QN_OK, "%s", err.text);

    qt_buf two = {0}; /* a shard with a tensor that the index does not know */
    qt_add_safetensors(&two, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"z\":{\"dtype\":\"F32\",\"shape\":[],"
                             "\"data_offsets\":[8,12]}}", 12);
    t.f[0].p = two.p;
    t.f[0].n = two.n;
    qn_code rc = open_in(&t, "m", NULL, &err);
    cr_expect(qt_err_is("unmapped tensor", &err, rc, QN_E_INPUT, QN_NO_OFFSET, "z", "is in 1.safetensors but not in the index"));

    t.n = 0; /* a shard that is missing */
    qt_files_add(&t, "m/1.safetensors", b[0].p, b[0].n);
    qt_files_add(&t, "m/model.safetensors.index.json", PAIR, strlen(PAIR));
    rc = open_in(&t, "m", NULL, &err);
    cr_expect(qt_err_is("shard missing, folder", &err, rc, QN_E_INPUT, 35, "b", "it is in no file"));
    rc = open_in(&t, "m/model.safetensors.index.json", NULL, &err);
    cr_expect(qt_err_is("shard missing, index", &err, rc, QN_E_IO, QN_NO_OFFSET, "", "cannot be opened"));
    cr_expect_str_eq(err.path, "m/2.safetensors");

    t.n = 0; /* a FIFO where a shard should be */
    qt_files_add(&t, "m/1.safetensors", b[0].p, b[0].n);
    t.f[0].fifo = true;
    rc = open_in(&t, "m", NULL, &err);
    cr_expect(qt_err_is("FIFO as shard", &err, rc, QN_E_INPUT, QN_NO_OFFSET, "", "is neither a file nor a folder"));

    t.n = 0; /* a folder without tensors */
    qt_files_add(&t, "m/config.json", "{}", 2);
    rc = open_in(&t, "m", NULL, &err);
    cr_expect(qt_err_is("no tensors", &err, rc, QN_E_INPUT, QN_NO_OFFSET, "", "no tensors found"));

    t.n = 0; /* a damaged shard names itself */
    qt_files_add(&t, "m/1.safetensors", b[0].p, b[0].n - 1);
    rc = open_in(&t, "m", NULL, &err);
    cr_expect(qt_err_is("shard cut", &err, rc, QN_E_INPUT, 9, "a", "not inside the 7 bytes"));
    cr_expect_str_eq(err.path, "m/1.safetensors");
    qt_buf_free(&two);
    qt_buf_free(&b[0]);
    qt_buf_free(&b[1]);
}

/* Two sets of equal names in one folder, each with its index: the later one is qualified by file, and its index still fits. */
Test(folder_bad, two_sets_of_equal_names)
{
    static const char second[] = "{\"weight_map\":{\"a\":\"z1.safetensors\",\"b\":\"z2.safetensors\"}}";
    static const char wrong[] = "{\"weight_map\":{\"a\":\"z2.safetensors\",\"b\":\"z2.safetensors\"}}";
    qt_buf b[2] = {0};
    qt_files t;
    qn_err err;
    put_pair(&t, b);
    qt_files_add(&t, "m/model.safetensors.index.json", PAIR, strlen(PAIR));
    qt_files_add(&t, "m/z.safetensors.index.json", second, strlen(second));
    qt_files_add(&t, "m/z1.safetensors", b[0].p, b[0].n);
    qt_files_add(&t, "m/z2.safetensors", b[1].p, b[1].n);
    cr_expect_eq(open_in(&t, "m", NULL, &err), QN_OK, "%s", err.text);
    t.f[3].p = (const uint8_t *)wrong;
    const qn_code rc = open_in(&t, "m", NULL, &err);
    cr_expect(qt_err_is("second set crossed", &err, rc, QN_E_INPUT, 15, "a", "the index says it is in z2.safetensors"));
    qt_buf_free(&b[0]);
    qt_buf_free(&b[1]);
}

static void spill(const char *dir, const char *name, const void *p, size_t n)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(p, 1, n, f) == n);
    fclose(f);
}

static char *at(const char *dir, const char *name)
{
    static char path[2][4096];
    static unsigned turn;
    char *p = path[turn++ % 2];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

/* On a real file system: what is neither file nor folder must not hang or be read; links are followed (the usual download
 * cache is made of them) but never beyond a bounded depth. */
Test(folder_bad, gauntlet, .timeout = 60)
{
    char dir[] = "/tmp/qt-gauntlet-XXXXXX";
    cr_assert(mkdtemp(dir));
    qt_buf a = {0};
    qn_err err;
    qt_add_safetensors(&a, SHARD("a"), 8);
    cr_assert_eq(mkdir(at(dir, "m"), 0777) | mkdir(at(dir, "blobs"), 0777), 0);
    spill(dir, "blobs/1", a.p, a.n);

    cr_assert_eq(symlink("../blobs/1", at(dir, "m/a.safetensors")), 0);
    cr_expect_eq(open_in(NULL, at(dir, "m"), NULL, &err), QN_OK, "%s", err.text);
    cr_expect_eq(open_in(NULL, at(dir, "m/a.safetensors"), NULL, &err), QN_OK, "%s", err.text);

    cr_assert_eq(mkfifo(at(dir, "m/pipe"), 0666), 0);
    qn_code rc = open_in(NULL, at(dir, "m"), NULL, &err);
    cr_expect(qt_err_is("FIFO in a folder", &err, rc, QN_E_INPUT, QN_NO_OFFSET, "", "is neither a file nor a folder"));
    rc = open_in(NULL, at(dir, "m/pipe"), NULL, &err);
    cr_expect(qt_err_is("FIFO by name", &err, rc, QN_E_INPUT, QN_NO_OFFSET, "", "is neither a file nor a folder"));
    cr_assert_eq(unlink(at(dir, "m/pipe")), 0);

    cr_assert_eq(symlink("/dev/zero", at(dir, "m/zero.safetensors")), 0);
    rc = open_in(NULL, at(dir, "m"), NULL, &err);
    cr_expect(qt_err_is("device", &err, rc, QN_E_INPUT, QN_NO_OFFSET, "", "is neither a file nor a folder"));
    cr_assert_eq(unlink(at(dir, "m/zero.safetensors")), 0);

    cr_assert_eq(symlink("nowhere", at(dir, "m/gone")), 0);
    rc = open_in(NULL, at(dir, "m"), NULL, &err);
    cr_expect(qt_err_is("dangling link", &err, rc, QN_E_IO, QN_NO_OFFSET, "", "cannot be opened"));
    cr_assert_eq(unlink(at(dir, "m/gone")), 0);

    cr_assert_eq(symlink("self", at(dir, "m/self")), 0);
    rc = open_in(NULL, at(dir, "m"), NULL, &err);
    cr_expect(qt_err_is("link to itself", &err, rc, QN_E_IO, QN_NO_OFFSET, "", "cannot be opened"));
    cr_assert_eq(unlink(at(dir, "m/self")), 0);

    cr_assert_eq(symlink(".", at(dir, "m/loop")), 0);
    rc = open_in(NULL, at(dir, "m"), NULL, &err);
    cr_expect(qt_err_is("folder in itself", &err, rc, QN_E_INPUT, QN_NO_OFFSET, "", "folders nested deeper than 8"));
    cr_assert_eq(unlink(at(dir, "m/loop")), 0);

    cr_assert_eq(mkdir(at(dir, "m/b.safetensors"), 0777), 0); /* a folder with a file's name is a folder */
    cr_expect_eq(open_in(NULL, at(dir, "m"), NULL, &err), QN_OK, "%s", err.text);
    rc = open_in(NULL, at(dir, "m/b.safetensors"), NULL, &err);
    cr_expect(qt_err_is("folder as a file", &err, rc, QN_E_INPUT, QN_NO_OFFSET, "", "no tensors found"));
    cr_assert_eq(rmdir(at(dir, "m/b.safetensors")), 0);

    spill(dir, "m/a\nb", "x", 1);
    rc = open_in(NULL, at(dir, "m"), NULL, &err);
    cr_expect(qt_err_is("line feed in a name", &err, rc, QN_E_INPUT, QN_NO_OFFSET, "", "name cannot be restored"));
    cr_assert_eq(unlink(at(dir, "m/a\nb")), 0);
    spill(dir, "m/a\xff", "x", 1);
    rc = open_in(NULL, at(dir, "m"), NULL, &err);
    cr_expect(qt_err_is("name not UTF-8", &err, rc, QN_E_INPUT, QN_NO_OFFSET, "", "name cannot be restored"));
    cr_assert_eq(unlink(at(dir, "m/a\xff")), 0);
    spill(dir, "m/a\\b", "x", 1);
    rc = open_in(NULL, at(dir, "m"), NULL, &err);
    cr_expect(qt_err_is("backslash in a name", &err, rc, QN_E_INPUT, QN_NO_OFFSET, "", "name cannot be restored"));
    cr_assert_eq(unlink(at(dir, "m/a\\b")), 0);

    rc = open_in(NULL, at(dir, "nothing"), NULL, &err);
    cr_expect(qt_err_is("no such path", &err, rc, QN_E_IO, QN_NO_OFFSET, "", "cannot be opened"));
    rc = open_in(NULL, "/proc/self/mem", NULL, &err);
    cr_expect(rc == QN_E_INPUT || rc == QN_E_IO, "%d", rc);
    unlink(at(dir, "m/a.safetensors"));
    unlink(at(dir, "blobs/1"));
    rmdir(at(dir, "m"));
    rmdir(at(dir, "blobs"));
    cr_expect_eq(rmdir(dir), 0);
    fprintf(stderr, "# 14 tricks with paths\n");
    qt_buf_free(&a);
}

/* By content, not by name: what is recognised but not readable says so. */
Test(folder_bad, other_formats)
{
    static const struct {
        const char *name, *head;
        size_t n;
        qn_code code;
        const char *text;
    } f[] = {
        {"GGUF", "GGUF\1\0\0\0\0\0\0\0", 12, QN_E_UNSUPPORTED, "GGUF version 1"},
        {"zip", "PK\3\4xxxxxxxx", 12, QN_E_INPUT, "not a zip archive: 12 bytes are too few"},
        {"pickle", "\x80\2}q\0xxxxxxx", 12, QN_E_UNSUPPORTED, "is a pickle without"},
        {"npy", "\x93NUMPY\1\0v\0{'", 12, QN_E_INPUT, "header of 118 bytes: 2 follow"},
        {"zstd", "\x28\xb5\x2f\xfdxxxxxxxx", 12, QN_E_INPUT, "zstd data are cut or damaged"},
        {"gzip", "\x1f\x8bxxxxxxxxxx", 12, QN_E_INPUT, "gzip data are damaged"},
        {"ONNX", "\x08\x07\x12\4abcdxxxx", 12, QN_E_INPUT, "not an ONNX model: it has no graph"},
        {"text", "hello, world", 12, QN_E_INPUT, "not a checkpoint"},
        {"nothing", "", 0, QN_E_INPUT, "not a checkpoint"},
        {"half our magic", "\x8bQUERN\r", 7, QN_E_INPUT, "not a checkpoint"},
        {"our magic alone", "\x8bQUERN\r\n", 8, QN_E_INPUT, "not a whole .quern file: 8 bytes found"},
        {"our magic in text mode", "\x8bQUERN\n", 7, QN_E_INPUT, "not a checkpoint"},
    };
    for (size_t i = 0; i < sizeof f / sizeof f[0]; i++) {
        qt_files t;
        qn_err err;
        qt_files_init(&t);
        qt_files_add(&t, "x.bin", f[i].head, f[i].n);
        const qn_code rc = open_in(&t, "x.bin", NULL, &err);
        cr_expect_eq(rc, f[i].code, "%s: %d", f[i].name, rc);
        cr_expect(strstr(err.text, f[i].text), "%s: %s", f[i].name, err.text);
        cr_expect_str_eq(err.path, "x.bin");
    }
}
