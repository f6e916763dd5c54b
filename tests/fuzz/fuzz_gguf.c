/* fuzz_gguf.c: a GGUF file. What opens must give back the file, byte for byte, and every getter on every key must answer. */
#include "formats/gguf/gguf.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds.h"
#include "tests/support/gguf_build.h"
#include <string.h>

static void check_source(qn_source *s, const qt_buf *file)
{
    uint8_t *back = malloc(file->n);
    size_t at = 0;
    for (uint64_t i = 0; i < s->n_objects; i++) {
        qn_err err = {0};
        const qn_object *o = &s->objects[i];
        QF_CHECK(o->n_bytes <= file->n - at);
        QF_CHECK(qn_source_read(s, i, 0, o->n_bytes, back + at, &err) == QN_OK);
        at += (size_t)o->n_bytes;
        if (o->kind == QN_OBJECT_TENSOR)
            QF_CHECK(qn_source_find(s, o->name) == i);
    }
    QF_CHECK(at == file->n && memcmp(back, file->p, at) == 0);
    free(back);
}

static bool answered(qn_code rc)
{
    return rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_USAGE;
}

static void check_key(const qn_gguf *g, const qn_gguf_key *key)
{
    uint64_t u, n;
    int64_t i;
    double d;
    bool b;
    char buf[64];
    qn_gguf_strings it;
    QF_CHECK(qn_gguf_find(g, key->name) == key);
    QF_CHECK(answered(qn_gguf_get_u64(g, key->name, &u, NULL)) && answered(qn_gguf_get_i64(g, key->name, &i, NULL)));
    QF_CHECK(answered(qn_gguf_get_f64(g, key->name, &d, NULL)) && answered(qn_gguf_get_bool(g, key->name, &b, NULL)));
    QF_CHECK(answered(qn_gguf_get_str(g, key->name, buf, sizeof buf, NULL)));
    for (unsigned t = 0; t < QN_GGUF_TYPES; t++)
        if (qn_gguf_get_array(g, key->name, (qn_gguf_type)t, &n, NULL) == QN_OK)
            QF_CHECK(answered(qn_gguf_get_elems(g, key->name, (qn_gguf_type)t, n / 2, n - n / 2 < 8 ? n - n / 2 : 8, buf, NULL)));
    if (qn_gguf_strings_begin(&it, g, key->name, &n, NULL) == QN_OK)
        for (size_t len; n > 0 && qn_gguf_strings_next(&it, buf, sizeof buf, &len, NULL) == QN_OK; n--)
            QF_CHECK(len < sizeof buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_buf file = {0};
    if (n == 0)
        return 0;
    qt_add(&file, p, n);
    qt_files t;
    qt_counter c;
    qn_err err;
    qn_source *s;
    qt_files_init(&t);
    qt_files_add(&t, "m.gguf", file.p, file.n);
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    qn_err_clear(&err);
    const qn_code rc = qn_source_open(&env, "m.gguf", &s, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    QF_CHECK(c.peak <= 20 * file.n + (1 << 20));
    if (rc == QN_OK) {
        if (strcmp(s->ops->format, "gguf") == 0) {
            qn_gguf g;
            qn_arena arena;
            qn_arena_init(&arena, env.alloc);
            check_source(s, &file);
            QF_CHECK(qn_gguf_open(&g, &arena, s, &err) == QN_OK);
            for (uint64_t i = 0; i < g.n_keys; i++)
                check_key(&g, &g.keys[i]);
            qn_arena_release(&arena);
        }
        qn_source_close(s);
    }
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    qt_buf_free(&file);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const files[] = {
        "GGUF i3 q0 q0",
        "GGUF i2 q0 q1 \"general.alignment\" i4 i8 |",
        "GGUF i3 q1 q0 \"t\" i1 q2 i0 q0 | d8",
        "GGUF i3 q3 q4 \"s\" i8 \"llama\" \"tokens\" i9 i8 q3 \"a\" \"\" \"bc\" \"n\" i9 i9 q2 i4 q1 i7 i0 q0 \"f\" i6 i0x3f800000 "
        "\"w\" i2 q32 q2 i2 q0 \"e\" i1 q0 i0 q64 \"b\" i1 q3 i1 q64 | d36 | d6 |",
        "GGUF i3 q1 q8 \"a\" i0 b1 \"b\" i1 b255 \"c\" i2 h7 \"d\" i3 h7 \"e\" i5 i-1 \"f\" i7 b1 \"g\" i10 q-1 \"h\" i12 q0 "
        "\"q\" i1 q256 i14 q0 | z210",
    };
    qf_emit_built(emit, ctx, qt_add_gguf, files, sizeof files / sizeof files[0]);
}
