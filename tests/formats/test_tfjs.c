/* test_tfjs.c: TensorFlow.js models: where weights lie, what they are worth (worked by hand), which file wins in a folder; and
 * manifests that are refused, each at its place. */
#include "base/num.h"
#include "formats/source.h"
#include "tests/support/hostile.h"
#include <criterion/criterion.h>
#include <string.h>

static qn_code open_in(qt_files *t, const char *path, qt_counter *c, qn_env *env, qn_source **s, qn_err *err)
{
    *env = qt_env(t, c);
    qn_err_clear(err);
    return qn_source_open(env, path, s, err);
}

static qn_code try(qt_files *t, const char *path, qt_counter *c, qn_err *err)
{
    qn_source *s;
    qn_env env;
    const qn_code rc = open_in(t, path, c, &env, &s, err);
    if (rc == QN_OK)
        qn_source_close(s);
    cr_assert_eq(t->n_open, 0, "a file stays open");
    cr_assert(!c || c->n_live == 0, "memory is lost");
    return rc;
}

/* 40 bytes in files of 10, 0, 17 and 13: 'i' ends the first and lies in the third too, 's' is 3 strings of 1, 0, 2 bytes. */
static const char manifest[] =
    "{\"format\":\"layers-model\",\"modelTopology\":{\"a\":[{\"weightsManifest\":1}]},\"weightsManifest\":[{\"paths\":[\"1.bin\","
    "\"2.bin\",\"d/3.bin\",\"4.bin\"],\"weights\":["
    "{\"name\":\"u8\",\"shape\":[3],\"dtype\":\"float32\",\"quantization\":{\"dtype\":\"uint8\",\"scale\":0.1,\"min\":-1,\"original_dtype\":\"float32\"}},"
    "{\"name\":\"i\",\"shape\":[1,2],\"dtype\":\"int32\"},"
    "{\"quantization\":{\"min\":-2.5,\"dtype\":\"uint8\",\"scale\":5e-1},\"name\":\"qi\",\"shape\":[4],\"dtype\":\"int32\"},"
    "{\"name\":\"s\",\"shape\":[3],\"dtype\":\"string\"},"
    "{\"name\":\"b\",\"shape\":[],\"dtype\":\"bool\"},"
    "{\"name\":\"h\",\"shape\":[2],\"dtype\":\"float32\",\"quantization\":{\"dtype\":\"float16\"}},"
    "{\"name\":\"none\",\"shape\":[0,7],\"dtype\":\"float32\"}]}],\"userDefinedMetadata\":{}}";
static const uint8_t data[40] = {0, 10, 255, 1, 0, 0, 0, 2, 0, 0, 1, /* u8, i: 1, 0x01000002 */
                                 0, 1, 2, 255, /* qi: −2.5, −2, −1.5, 125 → −2, −2, −1, 125: halves go up */
                                 1, 0, 0, 0, 'x', 0, 0, 0, 0, 2, 0, 0, 0, 0xc3, 0xa4, 1, /* s, b */
                                 0x00, 0x3c, 0x00, 0xfc, /* 1, −∞ */
                                 9, 9, 9, 9, 9}; /* nobody's */

static void put(qt_files *t)
{
    qt_files_init(t);
    qt_files_add(t, "m/1.bin", data, 10);
    qt_files_add(t, "m/2.bin", data, 0);
    qt_files_add(t, "m/4.bin", data + 27, 13);
    qt_files_add(t, "m/d/3.bin", data + 10, 17);
    qt_files_add(t, "m/model.json", manifest, strlen(manifest));
    qt_files_add(t, "m/readme.txt", "text", 4);
}

static void expect(qn_source *s, const char *name, qn_dtype dtype, unsigned rank, const void *want, size_t n, bool is_object)
{
    uint8_t got[64];
    qn_err err;
    const uint64_t i = qn_source_tensor_find(s, name);
    cr_assert_neq(i, UINT64_MAX, "%s", name);
    const qn_source_tensor *t = &s->tensors[i];
    cr_expect_eq(t->dtype, dtype, "%s", name);
    cr_expect_eq(t->rank, rank, "%s", name);
    cr_expect_eq(t->object != QN_NO_OBJECT, is_object, "%s", name);
    cr_assert_eq(t->n_bytes, n, "%s", name);
    for (size_t from = 0; from < n; from++)
        for (size_t m = 1; m <= n - from; m++) {
            cr_assert_eq(qn_source_tensor_read(s, i, from, m, got, &err), QN_OK, "%s", err.text);
            cr_assert_eq(memcmp(got, (const uint8_t *)want + from, m), 0, "%s: bytes %zu … %zu", name, from, from + m);
        }
}

static void expect_all(qn_source *s)
{
    static const float u8[3] = {-1.0f, 0.0f, 24.5f}, h[2] = {1.0f, -__builtin_inff()};
    static const uint32_t i[2] = {1, 0x01000002};
    static const int32_t qi[4] = {-2, -2, -1, 125};
    cr_expect_str_eq(s->ops->format, "tfjs");
    cr_assert_eq(s->n_tensors, 6);
    expect(s, "u8", QN_F32, 1, u8, sizeof u8, false);
    expect(s, "i", QN_I32, 2, i, sizeof i, false);
    expect(s, "qi", QN_I32, 1, qi, sizeof qi, false);
    expect(s, "b", QN_BOOL, 0, "\1", 1, true);
    expect(s, "h", QN_F32, 1, h, sizeof h, false);
    expect(s, "none", QN_F32, 2, "", 0, false);
    cr_expect_eq(s->n_tensor_objects, 4);
    const uint64_t codes = qn_source_find(s, "u8:uint8");
    cr_assert_neq(codes, UINT64_MAX);
    cr_expect(s->objects[codes].dtype == QN_U8 && s->objects[codes].n_bytes == 3);
    cr_expect_neq(qn_source_find(s, "h:float16"), UINT64_MAX);
    cr_expect_neq(qn_source_find(s, "qi:uint8"), UINT64_MAX);
    cr_expect_eq(s->n_warnings, 2);
}

static void expect_cover(qn_source *s, const qt_files *t)
{
    qn_err err;
    for (uint64_t f = 0; f < s->n_files; f++) {
        uint8_t got[2048];
        size_t at = 0;
        for (uint64_t k = s->files[f].first_object; k < s->files[f].first_object + s->files[f].n_objects; k++) {
            cr_assert_eq(qn_source_read(s, k, 0, s->objects[k].n_bytes, got + at, &err), QN_OK);
            at += s->objects[k].n_bytes;
        }
        for (unsigned i = 0; i < t->n; i++)
            if (strcmp(t->f[i].path + 2, s->files[f].path) == 0)
                cr_expect(at == t->f[i].n && memcmp(got, t->f[i].p, at) == 0, "%s", s->files[f].path);
    }
}

Test(tfjs, weights)
{
    qt_files t;
    qt_counter c;
    qn_env env;
    qn_source *s;
    qn_err err;
    put(&t);
    t.max_read = 3;
    static const char *const paths[] = {"m", "m/model.json"};
    for (unsigned i = 0; i < 2; i++) {
        qt_counter_init(&c);
        cr_assert_eq(open_in(&t, paths[i], &c, &env, &s, &err), QN_OK, "%s", err.text);
        cr_expect_eq(s->n_files, i ? 5 : 6);
        expect_all(s);
        expect_cover(s, &t);
        qn_source_close(s);
        cr_expect(c.n_live == 0 && t.n_open == 0);
    }
}

/* A folder may hold a model twice: then the safetensors or the PyTorch file is it. */
Test(tfjs, who_wins)
{
    qt_files t;
    qn_env env;
    qn_source *s;
    qn_err err;
    qt_buf safe = {0};
    qt_add_safetensors(&safe, "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2);
    put(&t);
    qt_files_add(&t, "m/config.json", "{}", 2);
    cr_assert_eq(open_in(&t, "m", NULL, &env, &s, &err), QN_OK, "%s", err.text);
    cr_expect_str_eq(s->ops->format, "tfjs");
    qn_source_close(s);
    qt_files_add(&t, "m/x.safetensors", safe.p, safe.n);
    cr_assert_eq(open_in(&t, "m", NULL, &env, &s, &err), QN_OK, "%s", err.text);
    cr_expect_str_eq(s->ops->format, "hf");
    cr_expect_eq(s->n_tensors, 1);
    qn_source_close(s);
    put(&t); /* below the top it is no matter */
    qt_files_add(&t, "m/sub/x.safetensors", safe.p, safe.n);
    cr_assert_eq(open_in(&t, "m", NULL, &env, &s, &err), QN_OK, "%s", err.text);
    cr_expect_eq(s->n_tensors, 7);
    qn_source_close(s);
    put(&t); /* a model.json of something else is a file like others */
    t.f[4].p = (const uint8_t *)"{\"class\":[1]}";
    t.f[4].n = 13;
    qt_files_add(&t, "m/sub/x.safetensors", safe.p, safe.n);
    cr_assert_eq(open_in(&t, "m", NULL, &env, &s, &err), QN_OK, "%s", err.text);
    cr_expect(s->n_tensors == 1 && s->n_warnings == 0 && strcmp(s->ops->format, "hf") == 0);
    qn_source_close(s);
    cr_expect_eq(try(&t, "m/model.json", NULL, &err), QN_E_INPUT);
    cr_expect(strstr(err.text, "no weightsManifest"), "%s", err.text);
    t.f[4].n = 12; /* and of nothing at all: told */
    cr_assert_eq(open_in(&t, "m", NULL, &env, &s, &err), QN_OK, "%s", err.text);
    cr_expect_eq(s->n_warnings, 1);
    qn_source_close(s);
    qt_buf_free(&safe);
}

#define W(text) "{\"weightsManifest\":[{\"paths\":[\"a.bin\"],\"weights\":[" text "]}]}"
#define P(text) "{\"weightsManifest\":[{\"paths\":[" text "],\"weights\":[]}]}"
#define Q(text) W("{\"name\":\"w\",\"shape\":[2],\"dtype\":\"float32\",\"quantization\":" text "}")

/* a.bin has 8 bytes: 2, 0, 0, 0, 'x', 'y', 0, 0 */
static const struct row {
    const char *name, *json; /* '^' marks the byte of the error; none: no offset */
    qn_code code;
    const char *tensor, *text;
} rows[] = {
    {"manifest an object", "{\"weightsManifest\":^{}}", QN_E_INPUT, "", "weightsManifest: an array"},
    {"manifest twice", "{\"weightsManifest\":[],^\"weightsManifest\":[]}", QN_E_INPUT, "", "stands twice"},
    {"group a number", "{\"weightsManifest\":[^1]}", QN_E_INPUT, "", "weightsManifest: objects"},
    {"group without paths", "{\"weightsManifest\":[^{\"weights\":[]}]}", QN_E_INPUT, "", "needs paths and weights"},
    {"group without weights", "{\"weightsManifest\":[^{\"paths\":[]}]}", QN_E_INPUT, "", "needs paths and weights"},
    {"paths twice", "{\"weightsManifest\":[{\"paths\":[],^\"paths\":[]}]}", QN_E_INPUT, "", "stands twice"},
    {"paths a text", "{\"weightsManifest\":[{\"paths\":^\"a.bin\"}]}", QN_E_INPUT, "", "paths: an array"},
    {"path a number", P("^1"), QN_E_INPUT, "", "paths: texts"},
    {"path absolute", P("^\"/etc/passwd\""), QN_E_INPUT, "", "a relative path below"},
    {"path above", P("^\"../a.bin\""), QN_E_INPUT, "", "a relative path below"},
    {"path above inside", P("^\"x/../../a.bin\""), QN_E_INPUT, "", "a relative path below"},
    {"path of a URL", P("^\"https://host/a.bin\""), QN_E_INPUT, "", "a relative path below"},
    {"path with backslash", P("^\"..\\\\a.bin\""), QN_E_INPUT, "", "a relative path below"},
    {"path empty", P("^\"\""), QN_E_INPUT, "", "a relative path below"},
    {"path twice", P("\"a.bin\",\"a.bin\""), QN_E_INPUT, "", "'a.bin' stands twice"},
    {"path not there", P("\"none.bin\""), QN_E_IO, "", "cannot be opened"},
    {"path a folder", P("\"d\""), QN_E_INPUT, "", "is no file"},
    {"weights an object", "{\"weightsManifest\":[{\"paths\":[],\"weights\":^{}}]}", QN_E_INPUT, "", "weights: an array"},
    {"weight a text", W("^\"x\""), QN_E_INPUT, "", "weights: objects"},
    {"weight without a name", W("^{\"shape\":[],\"dtype\":\"bool\"}"), QN_E_INPUT, "", "needs name, shape and dtype"},
    {"weight without a shape", W("^{\"name\":\"w\",\"dtype\":\"bool\"}"), QN_E_INPUT, "w", "needs name, shape and dtype"},
    {"weight without a dtype", W("^{\"name\":\"w\",\"shape\":[]}"), QN_E_INPUT, "w", "needs name, shape and dtype"},
    {"name twice", W("{\"name\":\"w\",^\"name\":\"w\"}"), QN_E_INPUT, "", "'name' stands twice"},
    {"name empty", W("{\"name\":^\"\"}"), QN_E_INPUT, "", "name of a weight"},
    {"name a number", W("{\"name\":^1}"), QN_E_INPUT, "", "name: a text"},
    {"shape a number", W("{\"shape\":^1}"), QN_E_INPUT, "", "shape: an array"},
    {"dimension negative", W("{\"shape\":[^-1]}"), QN_E_INPUT, "", "a dimension is a whole number"},
    {"dimension a fraction", W("{\"shape\":[^1.5]}"), QN_E_INPUT, "", "a dimension is a whole number"},
    {"dimension of 2^49", W("{\"shape\":[^562949953421312]}"), QN_E_INPUT, "", "a dimension is a whole number"},
    {"17 dimensions", W("{\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,^1]}"), QN_E_UNSUPPORTED, "", "more than 16 dimensions"},
    {"2^96 elements", W("^{\"name\":\"w\",\"shape\":[281474976710656,281474976710656],\"dtype\":\"bool\"}"), QN_E_INPUT, "w", "more elements than 64 bits"},
    {"2^63 codes for 2^65 bytes", W("^{\"name\":\"w\",\"shape\":[281474976710656,32768],\"dtype\":\"float32\",\"quantization\":{\"dtype\":\"uint8\",\"scale\":1,\"min\":0}}"), QN_E_INPUT, "w", "more elements than 64 bits"},
    {"unknown dtype", W("{\"dtype\":^\"float64\"}"), QN_E_UNSUPPORTED, "", "dtype 'float64'"},
    {"too long for its file", W("{\"name\":\"w\",\"shape\":[3],\"dtype\":\"float32\"}"), QN_E_INPUT, "w", "needs 12 bytes: 8 are left"},
    {"second too long", W("{\"name\":\"v\",\"shape\":[5],\"dtype\":\"bool\"},{\"name\":\"w\",\"shape\":[1],\"dtype\":\"int32\"}"), QN_E_INPUT, "w", "needs 4 bytes: 3 are left"},
    {"two of a name" /* byte 1 of a.bin */, "{^" "\"weightsManifest\":[{\"paths\":[\"a.bin\"],\"weights\":[{\"name\":\"w\",\"shape\":[1],\"dtype\":\"bool\"},{\"name\":\"w\",\"shape\":[1],\"dtype\":\"bool\"}]}]}", QN_E_INPUT, "w", "two tensors have this name"},
    {"quantization a text", Q("^\"uint8\""), QN_E_INPUT, "", "quantization: an object"},
    {"quantized as int4", Q("{\"dtype\":^\"int4\"}"), QN_E_UNSUPPORTED, "", "quantized as something else"},
    {"quantized as nothing", Q("{\"scale\":1^}"), QN_E_INPUT, "", "quantization without a dtype"},
    {"no scale", Q("{\"dtype\":\"uint8\",\"min\":0^}"), QN_E_INPUT, "", "without scale and min"},
    {"no min", Q("{\"dtype\":\"uint16\",\"scale\":0^}"), QN_E_INPUT, "", "without scale and min"},
    {"scale a text", Q("{\"scale\":^\"1\"}"), QN_E_INPUT, "", "scale and min: a number"},
    {"scale past all doubles", Q("{\"scale\":^1e999}"), QN_E_INPUT, "", "past the range of doubles"},
    {"scale without end", Q("{\"scale\":^0.00000000000000000000000000000000000000000000000000000000000000000000001}"), QN_E_UNSUPPORTED, "", "a number of 64 characters"},
    {"scale twice", Q("{\"scale\":1,^\"scale\":1}"), QN_E_INPUT, "", "'scale' stands twice"},
    {"bool quantized", W("^{\"name\":\"w\",\"shape\":[2],\"dtype\":\"bool\",\"quantization\":{\"dtype\":\"uint8\",\"scale\":1,\"min\":0}}"), QN_E_UNSUPPORTED, "w", "bool cannot be quantized"},
    {"int32 as float16", W("^{\"name\":\"w\",\"shape\":[2],\"dtype\":\"int32\",\"quantization\":{\"dtype\":\"float16\"}}"), QN_E_UNSUPPORTED, "w", "int32 cannot be quantized as float16"},
    {"more strings than bytes", W("{\"name\":\"s\",\"shape\":[3],\"dtype\":\"string\"}"), QN_E_INPUT, "s", "3 strings do not fit"},
    {"string past the end", W("{\"name\":\"b\",\"shape\":[1],\"dtype\":\"bool\"},{\"name\":\"s\",\"shape\":[1],\"dtype\":\"string\"}"), QN_E_INPUT, "s", "string 0 of 2013265920 bytes: 3 are left"},
    {"second string cut", W("{\"name\":\"s\",\"shape\":[2],\"dtype\":\"string\"}"), QN_E_INPUT, "s", "the data end before string 1"},
    {"text behind", "{\"weightsManifest\":[]}^x", QN_E_INPUT, "", "after the end"},
    {"cut", "{\"weightsManifest\":[]^", QN_E_INPUT, "", "ends early"},
};

Test(tfjs, refused)
{
    size_t n_bad = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        const char *mark = strchr(r->json, '^');
        qt_buf text = {0};
        qt_files t;
        qt_counter c;
        qn_err err;
        qt_add(&text, r->json, mark ? (size_t)(mark - r->json) : strlen(r->json));
        if (mark)
            qt_add(&text, mark + 1, strlen(mark + 1));
        qt_files_init(&t);
        qt_files_add(&t, "m/a.bin", "\2\0\0\0xy\0\0", 8);
        qt_files_add(&t, "m/d/x", "x", 1);
        qt_files_add(&t, "m/model.json", text.p, text.n);
        qt_counter_init(&c);
        qn_code rc = try(&t, "m/model.json", &c, &err);
        n_bad += !qt_err_is(r->name, &err, rc, r->code, mark ? (uint64_t)(mark - r->json) : QN_NO_OFFSET, r->tensor, r->text);
        cr_expect_leq(c.peak, 3 << 20);
        rc = try(&t, "m", &c, &err); /* as a folder: the same, or no tensors for other reasons */
        cr_expect(rc == r->code, "%s in a folder: %d %s", r->name, rc, err.text);
        qt_buf_free(&text);
    }
    cr_expect_eq(n_bad, 0);
    fprintf(stderr, "# %zu malformed manifests refused\n", sizeof rows / sizeof rows[0]);
}

Test(tfjs, memory_fails)
{
    qt_files t;
    qn_code rc = QN_E_MEMORY;
    uint64_t n = 0;
    while (rc != QN_OK) {
        qn_err err;
        qt_counter c;
        put(&t);
        qt_counter_init(&c);
        c.fail_at = ++n;
        rc = try(&t, "m", &c, &err);
        cr_assert(rc == QN_OK || rc == QN_E_MEMORY, "allocation %llu: %d %s", (unsigned long long)n, rc, err.text);
    }
    cr_expect_gt(n, 30);
}
