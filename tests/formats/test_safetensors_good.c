/* test_safetensors_good.c: what must be read: every dtype, odd shapes, odd order; and large or ill-meant headers in
 * linear time and little memory. */
#include "base/hash.h"
#include "base/num.h"
#include "formats/safetensors/safetensors.h"
#include "tests/support/hostile.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static qn_source *open_good(qt_files *t, const qn_env *env, const qt_buf *file)
{
    qn_source *s = NULL;
    qn_err err;
    qt_files_init(t);
    qt_files_add(t, "m.safetensors", file->p, file->n);
    qn_err_clear(&err);
    const qn_code rc = qn_source_open(env, "m.safetensors", &s, &err);
    char line[600];
    qn_err_line(&err, line, sizeof line);
    cr_assert_eq(rc, QN_OK, "%s", line);
    return s;
}

static const qn_object *tensor(const qn_source *s, const char *name)
{
    const uint64_t i = qn_source_find(s, name);
    cr_assert_neq(i, UINT64_MAX, "no tensor %s", name);
    return &s->objects[i];
}

Test(safetensors_good, every_dtype)
{
    qt_buf header = {0}, file = {0};
    qt_files t = {0};
    const qn_env env = qt_env(&t, NULL);
    uint64_t at = 0;
    qt_addf(&header, "{");
    for (unsigned d = 1; d < QN_DTYPE_PLAIN; d++) {
        const uint64_t n = 3 * 8 * (uint64_t)qn_dtype_bits((qn_dtype)d) / 8;
        qt_addf(&header, "%s\"%s\":{\"shape\":[3,8],\"data_offsets\":[%llu,%llu],\"dtype\":\"%s\"}", d > 1 ? "," : "",
                qn_dtype_name((qn_dtype)d), (unsigned long long)at, (unsigned long long)(at + n), qn_dtype_name((qn_dtype)d));
        at += n;
    }
    qt_addf(&header, "}");
    qt_add_safetensors(&file, (char *)header.p, at);
    qn_source *s = open_good(&t, &env, &file);
    cr_expect_eq(s->n_tensors, QN_DTYPE_PLAIN - 1);
    for (unsigned d = 1; d < QN_DTYPE_PLAIN; d++) {
        const qn_object *o = tensor(s, qn_dtype_name((qn_dtype)d));
        uint8_t got[24 * 8];
        qn_err err = {0};
        cr_assert_eq(o->dtype, d);
        cr_assert_eq(qn_source_read(s, (uint64_t)(o - s->objects), 0, o->n_bytes, got, &err), QN_OK);
        cr_expect_eq(memcmp(got, file.p + o->off, o->n_bytes), 0);
    }
    qn_source_close(s);
    qt_buf_free(&header);
    qt_buf_free(&file);
}

/* Header text, data bytes, tensors expected: all of it is valid. */
Test(safetensors_good, odd_but_valid)
{
    static const struct {
        const char *name, *header;
        size_t n_data;
        uint64_t n_tensors;
    } rows[] = {
        {"empty object", "{}", 0, 0},
        {"only metadata", "{\"__metadata__\":{}}", 0, 0},
        {"metadata with escapes", "{\"__metadata__\":{\"a\\n\":\"\\u00e9\\ud83d\\ude00\"}}", 0, 0},
        {"metadata last", "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"__metadata__\":{\"format\":\"pt\"}}", 1, 1},
        {"scalar", "{\"t\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 1},
        {"zero first", "{\"t\":{\"dtype\":\"F32\",\"shape\":[0,281474976710656],\"data_offsets\":[0,0]}}", 0, 1},
        {"zero last, products past 2^64", "{\"t\":{\"dtype\":\"F32\",\"shape\":[281474976710656,281474976710656,0],\"data_offsets\":[0,0]}}", 0, 1},
        {"sixteen dimensions", "{\"t\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,2]}}", 2, 1},
        {"unaligned data", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[1,9]}}", 9, 2},
        {"data order against header order", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[4,5]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, 2},
        {"unknown keys", "{\"t\":{\"x\":{\"y\":[1,-2.5e-3,null,true,{}]},\"dtype\":\"U8\",\"z\":\"\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1},
        {"spaces everywhere", "{ \t\r\n\"t\" : { \"dtype\" : \"U8\" , \"shape\" : [ 1 ] , \"data_offsets\" : [ 0 , 1 ] } }      ", 1, 1},
        {"empty tensors in a row", "{\"c\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 1, 3},
        {"name with escapes", "{\"\\u0041\\/\\\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1},
        {"unicode names", "{\"gewicht.\xc3\xa4\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"\xf0\x9f\x98\x80\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, 2},
        {"names that normalise alike", "{\"\xc3\xa4\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\xcc\x88\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, 2},
        {"name empty", "{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1},
        {"four-bit pair", "{\"t\":{\"dtype\":\"F4\",\"shape\":[1,2],\"data_offsets\":[0,1]}}", 1, 1},
        {"brace in a name", "{\"}{\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        qt_buf file = {0};
        qt_files t = {0};
        const qn_env env = qt_env(&t, NULL);
        qt_add_safetensors(&file, rows[i].header, rows[i].n_data);
        for (unsigned piece = 0; piece < 2; piece++) {
            qn_source *s = open_good(&t, &env, &file);
            cr_expect_eq(s->n_tensors, rows[i].n_tensors, "%s", rows[i].name);
            qn_source_close(s);
        }
        qt_buf_free(&file);
    }
    fprintf(stderr, "# %zu odd but valid headers read\n", sizeof rows / sizeof rows[0]);
}

Test(safetensors_good, names_are_decoded)
{
    qt_buf file = {0};
    qt_files t = {0};
    const qn_env env = qt_env(&t, NULL);
    qt_add_safetensors(&file, "{\"\\u0041\\/\\\"\\ud83d\\ude00\\u00e4\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
    qn_source *s = open_good(&t, &env, &file);
    cr_expect_neq(qn_source_find(s, "A/\"\xf0\x9f\x98\x80\xc3\xa4"), UINT64_MAX);
    cr_expect_eq(qn_source_find(s, "A"), UINT64_MAX);
    qn_source_close(s);
    qt_buf_free(&file);
}

/* A header of n one-byte tensors with `pad` bytes of spaces, in pieces. */
static void many_tensors(qt_buf *file, uint64_t n, size_t pad)
{
    qt_add_zeros(file, 8);
    qt_addf(file, "{");
    for (uint64_t i = 0; i < n; i++)
        qt_addf(file, "%s\"model.layers.%llu.self_attn.q_proj.weight\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%llu,%llu]}",
                i ? "," : "", (unsigned long long)i, (unsigned long long)i, (unsigned long long)i + 1);
    qt_addf(file, "}");
    for (; pad; pad--)
        qt_add(file, " ", 1);
    qn_store64(file->p, file->n - 8);
    qt_add_zeros(file, n);
}

static double time_open(const qt_buf *file, qt_counter *c)
{
    qt_files t = {0};
    const qn_env env = qt_env(&t, c);
    qt_counter_init(c);
    const double t0 = qt_cpu_ms();
    qn_source *s = open_good(&t, &env, file);
    const double ms = qt_cpu_ms() - t0;
    qn_source_close(s);
    return ms;
}

/* 50 000 tensors against 200 000 (a million with QUERN_TEST_FULL): time grows with the number, memory stays a small
 * multiple of the table. */
Test(safetensors_good, many_tensors_in_linear_time, .timeout = 240)
{
    const uint64_t n = getenv("QUERN_TEST_FULL") ? 1000000 : 200000;
    qt_buf small = {0}, large = {0};
    qt_counter c;
    many_tensors(&small, n / 4, 0);
    many_tensors(&large, n, 0);
    const double a = time_open(&small, &c), b = time_open(&large, &c);
    fprintf(stderr, "# %llu tensors, header of %zu bytes: %.0f ms (%.0f ms for a quarter), %llu bytes of memory\n",
            (unsigned long long)n, large.n, b, a, (unsigned long long)c.peak);
    cr_expect_lt(b, 10 * a + 20 * qt_slack(), "%.0f ms against %.0f ms for a quarter", b, a);
    cr_expect_lt(c.peak, 2 * large.n + (1 << 20));
    qt_buf_free(&small);
    qt_buf_free(&large);
}

/* A header beyond the 100 MB at which other readers stop: memory does not depend on its length. */
Test(safetensors_good, header_beyond_100_MB, .timeout = 240)
{
    const size_t pad = getenv("QUERN_TEST_FULL") ? 120u << 20 : 20u << 20;
    qt_buf file = {0};
    qt_counter c;
    many_tensors(&file, 10, pad);
    const double ms = time_open(&file, &c);
    fprintf(stderr, "# header of %zu bytes: %.0f ms, %llu bytes of memory\n", pad, ms, (unsigned long long)c.peak);
    cr_expect_lt(c.peak, 1u << 20);
    qt_buf_free(&file);
}

/* Whatever stands in a megabyte, the answer comes at once. */
static double time_any(const qt_buf *file, const char *name)
{
    qt_files t = {0};
    const qn_env env = qt_env(&t, NULL);
    qn_source *s = NULL;
    qn_err err;
    qt_files_init(&t);
    qt_files_add(&t, "m.safetensors", file->p, file->n);
    qn_err_clear(&err);
    const double t0 = qt_cpu_ms();
    const qn_code rc = qn_source_open(&env, "m.safetensors", &s, &err);
    const double ms = qt_cpu_ms() - t0;
    if (rc == QN_OK)
        qn_source_close(s);
    fprintf(stderr, "# %s: %zu bytes, %.1f ms, code %d\n", name, file->n, ms, rc);
    cr_expect_lt(ms, 100 * qt_slack(), "%s takes %.1f ms", name, ms);
    return ms;
}

/* Names whose unkeyed hash has the same low 12 bits: in a table of that hash all would fall on one place. */
static void colliding_names(qt_buf *file, unsigned n)
{
    uint64_t k = 0;
    qt_add_zeros(file, 8);
    qt_addf(file, "{");
    for (unsigned i = 0; i < n;) {
        char name[24];
        const int len = snprintf(name, sizeof name, "%llx", (unsigned long long)k++);
        if ((qn_hash64(name, (size_t)len) & 0xfff) != 7)
            continue;
        qt_addf(file, "%s\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", i++ ? "," : "", name);
    }
    qt_addf(file, "}");
    qn_store64(file->p, file->n - 8);
}

Test(safetensors_good, a_megabyte_in_100_ms, .timeout = 120)
{
    qt_buf f = {0};
    colliding_names(&f, 15000);
    (void)time_any(&f, "colliding names");
    f.n = 0;
    qt_add_zeros(&f, 8); /* digits without end */
    qt_addf(&f, "{\"t\":{\"x\":1");
    while (f.n < 1 << 20)
        qt_addf(&f, "00000000000000000000000000000000");
    qn_store64(f.p, f.n - 8);
    (void)time_any(&f, "digits");
    f.n = 0;
    qt_add_zeros(&f, 8); /* brackets */
    qt_addf(&f, "{\"t\":{\"x\":");
    while (f.n < 1 << 20)
        qt_addf(&f, "[");
    qn_store64(f.p, f.n - 8);
    (void)time_any(&f, "brackets");
    f.n = 0;
    qt_add_zeros(&f, 8); /* one string */
    qt_addf(&f, "{\"");
    while (f.n < 1 << 20)
        qt_addf(&f, "\\ud83d\\ude00");
    qn_store64(f.p, f.n - 8);
    (void)time_any(&f, "one name");
    f.n = 0;
    qt_add_zeros(&f, 8); /* long names with one beginning, all empty, all at one place: the sort compares names */
    char head[3000];
    memset(head, 'x', sizeof head);
    head[sizeof head - 1] = '\0';
    qt_addf(&f, "{");
    for (unsigned i = 0; f.n < (1 << 20) - 4000; i++)
        qt_addf(&f, "%s\"%s%u\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", i ? "," : "", head, 100000 - i);
    qt_addf(&f, "}");
    qn_store64(f.p, f.n - 8);
    (void)time_any(&f, "long names");
    f.n = 0;
    many_tensors(&f, 9000, 0);
    f.p[f.n - 9001] = ']'; /* wrong at the very end */
    (void)time_any(&f, "wrong at the end");
    qt_buf_free(&f);
}

/* Short reads and interrupted calls change nothing. */
Test(safetensors_good, in_small_pieces)
{
    qt_buf file = {0};
    many_tensors(&file, 40, 5);
    qt_files t = {0};
    qt_files_init(&t);
    qt_files_add(&t, "m.safetensors", file.p, file.n);
    t.max_read = 3;
    const qn_env env = qt_env(&t, NULL);
    qn_source *s;
    qn_err err;
    qn_err_clear(&err);
    cr_assert_eq(qn_source_open(&env, "m.safetensors", &s, &err), QN_OK, "%s", err.text);
    cr_expect_eq(s->n_tensors, 40);
    qn_source_close(s);
    qt_buf_free(&file);
}

/* The length of the header stands first. 640 bytes, 896, 1152, 1408: its first two bytes are those of a pickle. */
Test(safetensors_good, header_lengths_that_begin_like_a_pickle)
{
    for (unsigned protocol = 2; protocol <= 5; protocol++) {
        qt_buf file = {0};
        qt_files t = {0};
        const qn_env env = qt_env(&t, NULL);
        const size_t n = protocol << 8 | 0x80;
        char *header = malloc(n + 1);
        memset(header, ' ', n);
        header[n] = '\0';
        static const char text[] = "{\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}";
        memcpy(header, text, sizeof text - 1);
        qt_add_safetensors(&file, header, 4);
        cr_assert_eq(file.p[0], 0x80);
        cr_assert_eq(file.p[1], protocol);
        qn_source *s = open_good(&t, &env, &file);
        cr_expect_eq(s->n_tensors, 1u);
        qn_source_close(s);
        free(header);
        qt_buf_free(&file);
    }
}
