/* test_safetensors_write.c: what is written is read back the same; what cannot be written is refused before a file appears;
 * failures leave nothing behind. */
#define _GNU_SOURCE
#include "formats/safetensors/write.h"
#include "tests/support/hostile.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[] = "/tmp/qt-write-XXXXXX";

static void make_dir(void)
{
    cr_assert(mkdtemp(dir));
}

static unsigned count_files(bool remove)
{
    DIR *d = opendir(dir);
    unsigned n = 0;
    for (const struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') {
            n++;
            if (remove)
                cr_assert_eq(unlinkat(dirfd(d), e->d_name, 0), 0);
        }
    closedir(d);
    return n;
}

static void drop_dir(void)
{
    (void)count_files(true);
    rmdir(dir);
}

TestSuite(safetensors_write, .init = make_dir, .fini = drop_dir);

static const char *in_dir(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static const char header[] =
    "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"\\u00e4 long one\"},"
    "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
    "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]},"
    "\"w\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[5,21]},"
    "\"x\\ty\":{\"dtype\":\"BF16\",\"shape\":[2,0],\"data_offsets\":[21,21]},"
    "\"s\":{\"dtype\":\"F4\",\"shape\":[],\"data_offsets\":[21,21]}}";

/* `s` above would be half a byte: cut it off where a valid file is wanted. */
static qn_source *sample(qt_files *t, const qn_env *env, qt_buf *file)
{
    char text[sizeof header];
    qn_source *s;
    qn_err err;
    memcpy(text, header, sizeof header);
    strcpy(strstr(text, ",\"s\""), "}");
    qt_add_safetensors(file, text, 21);
    qt_files_init(t);
    qt_files_add(t, "m.safetensors", file->p, file->n);
    qn_err_clear(&err);
    cr_assert_eq(qn_source_open(env, "m.safetensors", &s, &err), QN_OK, "%s", err.text);
    return s;
}

static void same_tensors(qn_source *a, qn_source *b)
{
    cr_assert_eq(a->n_tensors, b->n_tensors);
    for (uint64_t i = 0; i < a->n_objects; i++) {
        const qn_object *o = &a->objects[i];
        uint8_t x[64], y[64];
        if (o->kind != QN_OBJECT_TENSOR)
            continue;
        const uint64_t k = qn_source_find(b, o->name);
        cr_assert_neq(k, UINT64_MAX, "%s", o->name);
        const qn_object *p = &b->objects[k];
        cr_assert(p->dtype == o->dtype && p->rank == o->rank && p->n_bytes == o->n_bytes);
        cr_assert_eq(memcmp(p->dims, o->dims, o->rank * sizeof *o->dims), 0);
        cr_assert_eq(qn_source_read(a, i, 0, o->n_bytes, x, NULL), QN_OK);
        cr_assert_eq(qn_source_read(b, k, 0, o->n_bytes, y, NULL), QN_OK);
        cr_assert_eq(memcmp(x, y, o->n_bytes), 0);
    }
}

Test(safetensors_write, round_trip)
{
    qt_files t = {0};
    qt_buf file = {0};
    const qn_env mem = qt_env(&t, NULL), disk = qt_env(NULL, NULL);
    qn_source *s = sample(&t, &mem, &file), *back;
    qn_safetensors_options opt = {0};
    qn_err err;
    qn_err_clear(&err);
    cr_assert_eq(qn_safetensors_write_file(&disk, s, in_dir("o.safetensors"), &opt, &err), QN_OK, "%s", err.text);
    cr_assert_eq(count_files(false), 1);
    cr_assert_eq(qn_source_open(&disk, in_dir("o.safetensors"), &back, &err), QN_OK, "%s", err.text);
    same_tensors(s, back);
    uint8_t head[400];
    const uint64_t n = back->objects[0].n_bytes;
    cr_assert(n < sizeof head && n % 8 == 0);
    cr_assert_eq(qn_source_read(back, 0, 0, n, head, &err), QN_OK);
    head[n] = 0;
    /* metadata word for word, wide types first, then names in byte order */
    const char *want = "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"\\u00e4 long one\"},"
                       "\"w\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,16]},"
                       "\"x\\ty\":{\"dtype\":\"BF16\",\"shape\":[2,0],\"data_offsets\":[16,16]},"
                       "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[16,18]},"
                       "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[18,21]}}";
    cr_assert_eq(strncmp((char *)head + 8, want, strlen(want)), 0, "%s", (char *)head + 8);
    cr_assert_eq(strspn((char *)head + 8 + strlen(want), " "), n - 8 - strlen(want));
    qn_source_close(back);

    qn_code rc = qn_safetensors_write_file(&disk, s, in_dir("o.safetensors"), &opt, &err);
    cr_assert_eq(rc, QN_E_USAGE, "nothing is replaced unasked");
    opt.overwrite = true;
    opt.metadata = "{\"format\":\"tf\"}";
    cr_assert_eq(qn_safetensors_write_file(&disk, s, in_dir("o.safetensors"), &opt, NULL), QN_OK);
    cr_assert_eq(qn_source_open(&disk, in_dir("o.safetensors"), &back, NULL), QN_OK);
    char *meta;
    cr_assert_eq(qn_safetensors_metadata(back, &meta, NULL), QN_OK);
    cr_assert_str_eq(meta, "{\"format\":\"tf\"}");
    qn_mem_put(NULL, meta);
    /* into its own file: the source stays readable until it is closed */
    cr_assert_eq(qn_safetensors_write_file(&disk, back, in_dir("o.safetensors"), &opt, NULL), QN_OK);
    same_tensors(s, back);
    qn_source_close(back);
    qn_source_close(s);
    qt_buf_free(&file);
}

Test(safetensors_write, shards)
{
    qt_files t = {0};
    qt_buf file = {0};
    const qn_env mem = qt_env(&t, NULL), disk = qt_env(NULL, NULL);
    qn_source *s = sample(&t, &mem, &file), *back;
    for (uint64_t limit = 0; limit < 24; limit++) {
        const qn_safetensors_options opt = {.shard_bytes = limit};
        uint64_t n = 0;
        qn_err err;
        qn_err_clear(&err);
        cr_assert_eq(qn_safetensors_write_dir(&disk, s, dir, &opt, &n, &err), QN_OK, "%s", err.text);
        cr_assert_eq(count_files(false), n > 1 ? n + 1 : 1);
        cr_assert_eq(n, limit == 0 || limit >= 21 ? 1 : limit >= 5 ? 2 : 3, "limit %llu: %llu", (unsigned long long)limit,
                     (unsigned long long)n);
        cr_assert_eq(qn_source_open(&disk, dir, &back, &err), QN_OK, "%s", err.text);
        same_tensors(s, back);
        qn_source_close(back);
        cr_assert_eq(qn_safetensors_write_dir(&disk, s, dir, &opt, &n, NULL), QN_E_USAGE);
        (void)count_files(true);
    }
    qn_source_close(s);
    qt_buf_free(&file);
}

static qn_code zeros(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    const uint64_t *fail_id = ctx;
    (void)off;
    if (fail_id && id == *fail_id)
        return QN_FAIL(err, QN_E_INPUT, 0x40, "chunk 1 of 1: damaged");
    memset(dst, 0, n);
    return QN_OK;
}

Test(safetensors_write, refused)
{
    static const uint64_t d[] = {3}, wide[] = {UINT64_C(1) << 40, UINT64_C(1) << 40};
    static const struct {
        const char *name;
        qn_out_tensor t[2];
        unsigned n;
        const char *metadata;
        qn_code code;
        const char *tensor, *text;
    } rows[] = {
        {"bytes do not fit the shape", {{"a", d, 4, 0, QN_U8, 1}}, 1, NULL, QN_E_UNSUPPORTED, "a", "has no form"},
        {"half a byte", {{"a", d, 2, 0, QN_F4, 1}}, 1, NULL, QN_E_UNSUPPORTED, "a", "has no form"},
        {"no dtype", {{"a", d, 3, 0, QN_BYTES, 1}}, 1, NULL, QN_E_UNSUPPORTED, "a", "has no form"},
        {"shape wraps", {{"a", wide, 0, 0, QN_U8, 2}}, 1, NULL, QN_E_UNSUPPORTED, "a", "has no form"},
        {"one name twice", {{"a", d, 3, 0, QN_U8, 1}, {"a", d, 6, 1, QN_F16, 1}}, 2, NULL, QN_E_INPUT, "a", "two tensors"},
        {"name not UTF-8", {{"a\xff", d, 3, 0, QN_U8, 1}}, 1, NULL, QN_E_UNSUPPORTED, "a\\xff", "not UTF-8"},
        {"the name of the metadata", {{"__metadata__", d, 3, 0, QN_U8, 1}}, 1, NULL, QN_E_UNSUPPORTED, "__metadata__", "another meaning"},
        {"reading fails", {{"a", d, 3, 0, QN_U8, 1}, {"b", d, 3, 7, QN_U8, 1}}, 2, NULL, QN_E_INPUT, "b", "damaged"},
        {"metadata is no object", {{"a", d, 3, 0, QN_U8, 1}}, 1, "[]", QN_E_INPUT, "", "object is expected"},
        {"metadata breaks out", {{"a", d, 3, 0, QN_U8, 1}}, 1, "{},\"x\":{}", QN_E_INPUT, "x", "dtype is missing"},
    };
    const qn_env env = qt_env(NULL, NULL);
    uint64_t fail_id = 7;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        qn_out_tensor t[2] = {rows[i].t[0], rows[i].t[1]};
        const qn_safetensors_options opt = {.metadata = rows[i].metadata};
        qn_err err;
        qn_err_clear(&err);
        const qn_code rc = qn_safetensors_write(&env, in_dir("o.safetensors"), t, rows[i].n, zeros, &fail_id, &opt, &err);
        cr_expect_eq(rc, rows[i].code, "%s: %d", rows[i].name, rc);
        cr_expect_str_eq(err.tensor, rows[i].tensor, "%s", rows[i].name);
        cr_expect(strstr(err.text, rows[i].text), "%s: %s", rows[i].name, err.text);
        cr_expect_eq(count_files(true), 0, "%s leaves a file", rows[i].name);
    }
    atomic_int stop = 1;
    qn_env cancelled = env;
    qn_out_tensor one = {"a", d, 3, 0, QN_U8, 1};
    const qn_safetensors_options opt = {0};
    cancelled.cancel = &stop;
    cr_expect_eq(qn_safetensors_write(&cancelled, in_dir("o"), &one, 1, zeros, NULL, &opt, NULL), QN_E_CANCELLED);
    cr_expect_eq(count_files(true), 0);
    cr_expect_eq(qn_safetensors_write(&env, in_dir("o"), &one, 0, zeros, NULL, &opt, NULL), QN_OK, "no tensor at all");
}

Test(safetensors_write, every_allocation_fails)
{
    qt_files t = {0};
    qt_buf file = {0};
    const qn_env mem = qt_env(&t, NULL);
    qn_source *s = sample(&t, &mem, &file);
    for (int shards = 0; shards < 2; shards++)
        for (uint64_t k = 1;; k++) {
            qt_counter c;
            qt_counter_init(&c);
            c.fail_at = k;
            c.fail_on = true;
            const qn_env env = qt_env(NULL, &c);
            const qn_safetensors_options opt = {.shard_bytes = 5};
            qn_err err;
            qn_err_clear(&err);
            const qn_code rc = shards ? qn_safetensors_write_dir(&env, s, dir, &opt, NULL, &err)
                                      : qn_safetensors_write_file(&env, s, in_dir("o"), &opt, &err);
            cr_assert_eq(c.n_live, 0, "allocation %llu", (unsigned long long)k);
            if (rc == QN_OK) {
                cr_assert_gt(k, 8u);
                (void)count_files(true);
                break;
            }
            cr_assert(rc == QN_E_MEMORY && err.code == rc, "allocation %llu: code %d", (unsigned long long)k, rc);
            for (unsigned left = count_files(true); left; left = 0)
                cr_assert(shards, "allocation %llu leaves a file", (unsigned long long)k);
        }
    qn_source_close(s);
    qt_buf_free(&file);
}
