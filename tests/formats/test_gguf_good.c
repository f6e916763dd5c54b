/* test_gguf_good.c: GGUF files that must open: objects, tensors, keys of every type; and real ones. */
#include "formats/gguf/gguf.h"
#include "tests/support/gguf_build.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct opened {
    qt_buf file;
    qt_files t;
    qn_env env;
    qn_source *s;
    qn_arena arena;
    qn_gguf g;
};

static void open_text(struct opened *x, const char *text)
{
    uint64_t mark;
    qn_err err = {0};
    *x = (struct opened){0};
    qt_add_gguf(&x->file, text, &mark);
    qt_files_init(&x->t);
    qt_files_add(&x->t, "dir/m.gguf", x->file.p, x->file.n);
    x->t.max_read = 7; /* short reads and EINTR */
    x->env = qt_env(&x->t, NULL);
    cr_assert_eq(qn_source_open(&x->env, "dir/m.gguf", &x->s, &err), QN_OK, "%s", err.text);
    qn_arena_init(&x->arena, NULL);
    cr_assert_eq(qn_gguf_open(&x->g, &x->arena, x->s, &err), QN_OK, "%s", err.text);
}

static void close_text(struct opened *x)
{
    qn_arena_release(&x->arena);
    qn_source_close(x->s);
    cr_assert_eq(x->t.n_open, 0);
    qt_buf_free(&x->file);
}

Test(gguf_good, objects)
{
    struct opened x;
    open_text(&x, "GGUF i2 q4 q0 \"w\" i2 q32 q2 i2 q0 \"e\" i2 q0 q5 i0 q64 \"s\" i0 i27 q64 \"b\" i3 q1 q2 q3 i30 q96 | d36 | d8 | d12 |");
    static const struct {
        const char *name;
        qn_dtype t;
        uint64_t n_bytes, dims[3];
        unsigned rank;
    } want[] = {{"", QN_BYTES, 0, {0}, 0}, {"w", QN_Q4_0, 36, {2, 32}, 2}, {"", QN_BYTES, 28, {0}, 0},
                {"e", QN_F32, 0, {5, 0}, 2}, {"s", QN_I64, 8, {0}, 0}, {"", QN_BYTES, 24, {0}, 0},
                {"b", QN_BF16, 12, {3, 2, 1}, 3}, {"", QN_BYTES, 20, {0}, 0}};
    uint64_t at = 0;
    cr_assert_eq(x.s->n_objects, sizeof want / sizeof want[0]);
    for (uint64_t i = 0; i < x.s->n_objects; i++) {
        const qn_object *o = &x.s->objects[i];
        cr_expect_str_eq(o->name, want[i].name);
        cr_expect(o->dtype == want[i].t && o->rank == want[i].rank && o->off == at, "object %d", (int)i);
        cr_expect(i == 0 || o->n_bytes == want[i].n_bytes, "object %d", (int)i);
        cr_expect(o->rank == 0 || memcmp(o->dims, want[i].dims, o->rank * 8) == 0, "dims of %d", (int)i);
        at += o->n_bytes;
    }
    cr_assert_eq(at, x.file.n);
    cr_assert_eq(x.s->n_tensors, 4);
    cr_expect_str_eq(x.s->ops->format, "gguf");
    cr_expect_str_eq(x.s->files[0].path, "m.gguf");
    uint8_t back[12];
    qn_err err = {0};
    cr_assert_eq(qn_source_tensor_read(x.s, qn_source_tensor_find(x.s, "b"), 0, 12, back, &err), QN_OK);
    cr_expect(back[0] == 1 && back[11] == 12);
    cr_expect_eq(x.g.version, 2);
    close_text(&x);
}

/* Shapes of the file's end: padded or not, nothing at all, a vocabulary alone; alignments. */
Test(gguf_good, ends)
{
    static const char *const files[] = {
        "GGUF i3 q0 q0",
        "GGUF i3 q0 q0 |",
        "GGUF i3 q0 q1 \"a\" i4 i1",
        "GGUF i3 q0 q1 \"a\" i4 i1 |",
        "GGUF i3 q1 q0 \"t\" i1 q2 i0 q0 | d8",
        "GGUF i3 q1 q0 \"t\" i1 q2 i0 q0 | d8 |",
        "GGUF i3 q2 q0 \"t\" i1 q2 i0 q0 \"u\" i1 q0 i0 q32 | d8 |",
        "GGUF i3 q1 q0 \"t\" i1 q8 i0 q0 | d32",
        "GGUF i3 q2 q1 \"general.alignment\" i4 i1 \"t\" i1 q3 i24 q0 \"u\" i1 q2 i24 q3 d5",
        "GGUF i3 q1 q1 \"general.alignment\" i4 i0x100000 \"t\" i1 q3 i24 q0 z1048486 d3",
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct opened x;
        open_text(&x, files[i]);
        for (uint64_t k = 0; k < x.s->n_objects; k++)
            cr_expect(x.s->objects[k].n_bytes > 0 || x.s->objects[k].kind == QN_OBJECT_TENSOR, "%s: an empty blob", files[i]);
        close_text(&x);
    }
}

Test(gguf_good, every_type)
{
    for (uint32_t t = 0; t < 64; t++) {
        const char *why;
        const qn_dtype d = qn_gguf_dtype(t, &why);
        char text[120];
        struct opened x;
        if (d == QN_BYTES)
            continue;
        snprintf(text, sizeof text, "GGUF i3 q1 q0 \"t\" i2 q%u q3 i%u q0 | z%u", qn_dtype_block_elems(d), (unsigned)t,
                 3 * qn_dtype_block_bytes(d));
        open_text(&x, text);
        const qn_source_tensor *w = &x.s->tensors[0];
        cr_expect(w->dtype == d && w->dims[0] == 3 && w->dims[1] == qn_dtype_block_elems(d), "type %u", (unsigned)t);
        close_text(&x);
    }
}

Test(gguf_good, getters)
{
    struct opened x;
    uint64_t u;
    int64_t i;
    double d;
    bool b;
    char s[8];
    qn_err err = {0};
    open_text(&x, "GGUF i3 q0 q14 \"u8\" i0 b200 \"i8\" i1 b200 \"u16\" i2 h65535 \"i16\" i3 h65535 \"u32\" i4 i-1 \"i32\" i5 i-1 "
                  "\"f32\" i6 i0x3fc00000 \"bool\" i7 b1 \"str\" i8 \"llama\" \"u64\" i10 q-1 \"i64\" i11 q-5 "
                  "\"f64\" i12 q0xbfe0000000000000 \"nul\" i8 q3 'a' b0 'b' \"ints\" i9 i5 q3 i7 i-8 i9");
    static const struct {
        const char *key;
        bool as_u64, as_i64;
        int64_t v;
    } ints[] = {{"u8", true, true, 200}, {"i8", false, true, -56}, {"u16", true, true, 65535}, {"i16", false, true, -1},
                {"u32", true, true, 4294967295}, {"i32", false, true, -1}, {"u64", true, false, -1}, {"i64", false, true, -5},
                {"f32", false, false, 0}, {"bool", false, false, 0}, {"str", false, false, 0}, {"ints", false, false, 0},
                {"none", false, false, 0}};
    for (size_t k = 0; k < sizeof ints / sizeof ints[0]; k++) {
        cr_expect_eq(qn_gguf_get_u64(&x.g, ints[k].key, &u, &err), ints[k].as_u64 ? QN_OK : QN_E_INPUT, "%s", ints[k].key);
        cr_expect(!ints[k].as_u64 || u == (uint64_t)ints[k].v, "%s", ints[k].key);
        cr_expect_eq(qn_gguf_get_i64(&x.g, ints[k].key, &i, &err), ints[k].as_i64 ? QN_OK : QN_E_INPUT, "%s", ints[k].key);
        cr_expect(!ints[k].as_i64 || i == ints[k].v, "%s", ints[k].key);
    }
    cr_expect(qn_gguf_get_f64(&x.g, "f32", &d, &err) == QN_OK && d > 1.4999 && d < 1.5001);
    cr_expect(qn_gguf_get_f64(&x.g, "f64", &d, &err) == QN_OK && d < -0.4999 && d > -0.5001);
    cr_expect_eq(qn_gguf_get_f64(&x.g, "u32", &d, &err), QN_E_INPUT);
    cr_expect(qn_gguf_get_bool(&x.g, "bool", &b, &err) == QN_OK && b);
    cr_expect_eq(qn_gguf_get_bool(&x.g, "u8", &b, &err), QN_E_INPUT);
    cr_expect(qn_gguf_get_str(&x.g, "str", s, sizeof s, &err) == QN_OK && strcmp(s, "llama") == 0);
    cr_expect_eq(qn_gguf_get_str(&x.g, "nul", s, sizeof s, &err), QN_E_INPUT, "a NUL inside");
    cr_expect_eq(qn_gguf_get_str(&x.g, "ints", s, sizeof s, &err), QN_E_INPUT);
    qn_err_clear(&err);
    cr_expect_eq(qn_gguf_get_str(&x.g, "str", s, 5, &err), QN_E_INPUT, "no room for the NUL");
    cr_expect(strstr(err.text, "key 'str' is a string of 5 bytes: fewer than 5 are expected"), "%s", err.text);
    int32_t v[3];
    cr_expect(qn_gguf_get_array(&x.g, "ints", QN_GGUF_I32, &u, &err) == QN_OK && u == 3);
    cr_expect(qn_gguf_get_elems(&x.g, "ints", QN_GGUF_I32, 1, 2, v, &err) == QN_OK && v[0] == -8 && v[1] == 9);
    cr_expect_eq(qn_gguf_get_elems(&x.g, "ints", QN_GGUF_I32, 2, 2, v, &err), QN_E_USAGE);
    cr_expect_eq(qn_gguf_get_elems(&x.g, "ints", QN_GGUF_I32, UINT64_MAX, 2, v, &err), QN_E_USAGE);
    qn_err_clear(&err);
    cr_expect_eq(qn_gguf_get_array(&x.g, "ints", QN_GGUF_U8, &u, &err), QN_E_INPUT);
    cr_expect(strstr(err.text, "key 'ints' is an array of i32: an array of u8 is expected"), "%s", err.text);
    cr_expect_eq(qn_gguf_get_array(&x.g, "u8", QN_GGUF_U8, &u, &err), QN_E_INPUT);
    close_text(&x);
}

/* More strings than the reader's buffer holds, one of them longer than it. */
Test(gguf_good, strings)
{
    qt_buf text = {0};
    struct opened x;
    qn_gguf_strings it;
    qn_err err = {0};
    uint64_t n;
    char *buf = malloc(6000);
    size_t len;
    qt_addf(&text, "GGUF i3 q0 q1 \"t\" i9 i8 q1001 q5000 z5000");
    for (unsigned i = 0; i < 1000; i++)
        qt_addf(&text, " \"%u\"", i * 7919);
    qt_add(&text, "", 1);
    open_text(&x, (char *)text.p);
    cr_assert_eq(qn_gguf_strings_begin(&it, &x.g, "t", &n, &err), QN_OK);
    cr_assert_eq(n, 1001);
    cr_assert_eq(qn_gguf_strings_next(&it, buf, 6000, &len, &err), QN_OK, "%s", err.text);
    cr_assert_eq(len, 5000);
    for (unsigned i = 0; i < 1000; i++) {
        cr_assert_eq(qn_gguf_strings_next(&it, buf, 20, &len, &err), QN_OK);
        cr_assert(len == strlen(buf) && strtoul(buf, NULL, 10) == i * 7919);
    }
    cr_assert_eq(qn_gguf_strings_next(&it, buf, 20, &len, &err), QN_E_USAGE);
    cr_assert_eq(qn_gguf_strings_begin(&it, &x.g, "t", &n, &err), QN_OK);
    cr_assert_eq(qn_gguf_strings_next(&it, buf, 5000, &len, &err), QN_E_INPUT, "no room for the NUL");
    close_text(&x);
    qt_buf_free(&text);
    free(buf);
}

Test(gguf_good, warnings)
{
    struct opened x;
    open_text(&x, "GGUF i3 q1 q2 \"split.no\" i2 h1 \"split.count\" i2 h3 "
                  "\"0123456789012345678901234567890123456789012345678901234567890123\" i1 q2 i0 q0 | d8");
    cr_assert_eq(x.s->n_warnings, 2);
    cr_expect_str_eq(x.s->warnings[0], "1 tensor names are longer than the 63 bytes that ggml takes");
    cr_expect_str_eq(x.s->warnings[1], "part 2 of 3: the other parts are not read");
    close_text(&x);
}
