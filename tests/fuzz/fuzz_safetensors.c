/* fuzz_safetensors.c: a safetensors file, raw (first byte odd) or as header text, a zero byte, and data: then the length in
 * front is always right and the search goes on in the header. What opens must give back the file, byte for byte. */
#include "formats/safetensors/safetensors.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/hostile.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_buf file = {0};
    if (n == 0)
        return 0;
    if (p[0] & 1) {
        qt_add(&file, p + 1, n - 1);
    } else {
        const uint8_t *zero = memchr(p + 1, 0, n - 1);
        const size_t n_head = zero ? (size_t)(zero - p - 1) : n - 1;
        const uint8_t len[8] = {(uint8_t)n_head, (uint8_t)(n_head >> 8), (uint8_t)(n_head >> 16)};
        qt_add(&file, len, 8);
        qt_add(&file, p + 1, n_head);
        if (zero)
            qt_add(&file, zero + 1, n - 2 - n_head);
    }
    qt_files t;
    qt_counter c;
    qn_err err;
    qn_source *s;
    qt_files_init(&t);
    qt_files_add(&t, "m.safetensors", file.p, file.n);
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    qn_err_clear(&err);
    const qn_code rc = qn_source_open(&env, "m.safetensors", &s, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    QF_CHECK(c.peak <= 2 * file.n + (1 << 20));
    if (rc == QN_OK) {
        if (strcmp(s->ops->format, "safetensors") == 0)
            check_source(s, &file);
        qn_source_close(s);
    }
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    qt_buf_free(&file);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const heads[] = {
        "{}", "{\"__metadata__\":{\"format\":\"pt\"}}   ",
        "{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"b\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[4,8]},\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
        "{\"e\":{\"dtype\":\"F64\",\"shape\":[0,3],\"data_offsets\":[8,8],\"x\":[1,{}]},\"\\u00e4\":{\"dtype\":\"F4\",\"shape\":[16],\"data_offsets\":[0,8]}}",
        "{\"t\":{\"dtype\":\"F32\",\"shape\":[281474976710656,65536],\"data_offsets\":[0,8]}}",
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        qt_buf b = {0};
        qt_add(&b, "\0", 1);
        qt_add(&b, heads[i], strlen(heads[i]));
        qt_add(&b, "\0" "12345678", i < 2 ? 1 : 9);
        emit(ctx, b.p, b.n);
        b.n = 0;
        qt_add(&b, "\1", 1);
        qt_add_safetensors(&b, heads[i], i < 2 ? 0 : 8);
        emit(ctx, b.p, b.n);
        qt_buf_free(&b);
    }
}
