/* fuzz_onnx.c: a file as an ONNX model, with a data file beside it. What opens must give back every file byte for byte, find every
 * tensor by its name and read it whole and in parts alike. */
#include "formats/onnx/onnx.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds.h"
#include "tests/support/proto.h"
#include <string.h>

static const uint8_t beside[64] = "data of a file that the model may name";

static void check_files(qn_source *s, const qt_buf *file)
{
    for (uint64_t f = 0; f < s->n_files; f++) {
        const bool own = strcmp(s->files[f].path, "m.onnx") == 0;
        const uint8_t *want = own ? file->p : beside;
        uint8_t *back = malloc((size_t)s->files[f].n_bytes + 1);
        uint64_t at = 0;
        QF_CHECK(back && s->files[f].n_bytes == (own ? file->n : sizeof beside));
        for (uint64_t i = s->files[f].first_object; i < s->files[f].first_object + s->files[f].n_objects; i++) {
            qn_err err = {0};
            QF_CHECK(qn_source_read(s, i, 0, s->objects[i].n_bytes, back + at, &err) == QN_OK);
            at += s->objects[i].n_bytes;
        }
        QF_CHECK(at == s->files[f].n_bytes && memcmp(back, want, (size_t)at) == 0);
        free(back);
    }
}

static void check_tensors(qn_source *s)
{
    QF_CHECK(s->n_tensors >= s->n_tensor_objects);
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const qn_source_tensor *t = &s->tensors[i];
        uint8_t *all = malloc((size_t)t->n_bytes + 1), *parts = malloc((size_t)t->n_bytes + 1);
        qn_err err = {0};
        QF_CHECK(all && parts && qn_source_tensor_find(s, t->name) == i);
        QF_CHECK(qn_source_tensor_read(s, i, 0, t->n_bytes, all, &err) == QN_OK);
        for (uint64_t at = 0, n; at < t->n_bytes; at += n) {
            n = t->n_bytes - at < 5 ? t->n_bytes - at : 5;
            QF_CHECK(qn_source_tensor_read(s, i, at, n, parts + at, &err) == QN_OK);
        }
        QF_CHECK(t->n_bytes == 0 || memcmp(all, parts, (size_t)t->n_bytes) == 0);
        free(all);
        free(parts);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_buf file = {0};
    qt_files t;
    qt_counter c;
    qn_err err;
    qn_source *s;
    qt_add(&file, p, n);
    qt_files_init(&t);
    qt_files_add(&t, "m.onnx", file.p, file.n);
    qt_files_add(&t, "d", beside, sizeof beside);
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    qn_err_clear(&err);
    const qn_code rc = qn_source_open(&env, "m.onnx", &s, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED || rc == QN_E_IO);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    QF_CHECK(c.peak <= 80 * file.n + (2 << 20));
    if (rc == QN_OK) {
        if (strcmp(s->ops->format, "onnx") == 0) {
            check_files(s, &file);
            check_tensors(s);
        }
        qn_source_close(s);
    }
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    qt_buf_free(&file);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[] = {
        "#1=8 @8{#2=13} @7{}",
        "#1=8 @8{#2=13} @2{'p'} @14{@1{'k'} @2{'v'}} @7{@5{#1=2 #2=1 @8{'w'} @9{z8}} @5{#1=3 #2=7 @8{'i'} @7{01 ac02} #7=5}}",
        "#1=8 @7{@5{#1=2 #2=10 @8{'h'} @5{8078 00}} @5{#1=3 #2=22 @8{'q'} @5{8f01 03}} @5{#1=4 #2=23 @8{'f'} @9{z2}}}",
        "#1=8 @7{@1{@2{'c'} @4{'Constant'} @5{@1{'value'} #20=4 @5{@1{02} #2=1 %4=1 @4{z4}}}}"
        "@1{@3{'if'} @4{'If'} @5{@1{'then_branch'} @6{@5{#2=9 @8{'w'} #5=1}}} @5{@1{'else_branch'} @6{@5{#2=9 @8{'w'} #5=1}}}}}",
        "#1=8 @7{@11{@1{'x'} @2{@1{#1=1 @2{@1{@2{'N'}} @1{#1=3}}}}} @12{@1{'y'} @2{@4{@1{@1{#1=7}}}}}"
        "@1{@4{'Op'} @5{@1{'f'} %2=1} @5{@1{'is'} @8{01} #8=2} @5{@1{'ss'} @9{'a'}} @5{@1{'fs'} @7{z4}}}}",
        "#1=8 @7{@5{#1=2 #2=1 @8{'a'} #14=1 @13{@1{'location'} @2{'d'}} @13{@1{'offset'} @2{'8'}} @13{@1{'length'} @2{'8'}}}"
        "@5{#1=12 #2=1 @8{'b'} #14=1 @13{@1{'location'} @2{'d'}} @13{@1{'offset'} @2{'16'}}}}",
        "#1=10 @7{} @25{@1{'fn'} @4{'a'} @5{'b'} @6{'alpha'} @9{#2=13} @7{@2{'c'} @4{'Constant'} @5{@1{'value'} @5{#2=2 #5=7}}}}",
    };
    qf_emit_built(emit, ctx, qt_add_proto, seeds, sizeof seeds / sizeof seeds[0]);
}
