/* test_onnx_good.c: models by hand: what they mean, and that every weight reads the same wherever one begins. */
#include "formats/onnx/onnx.h"
#include "tests/support/proto.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "#1=8 @8{#2=13} "

struct opened {
    qt_buf file;
    qt_files files;
    qn_env env;
    qn_source *s;
};

static void open_text(struct opened *o, const char *text)
{
    qn_err err = {0};
    *o = (struct opened){0};
    qt_add_proto(&o->file, text, NULL);
    qt_files_init(&o->files);
    qt_files_add(&o->files, "m.onnx", o->file.p, o->file.n);
    o->env = qt_env(&o->files, NULL);
    cr_assert_eq(qn_source_open(&o->env, "m.onnx", &o->s, &err), QN_OK, "%s at %llu", err.text, (unsigned long long)err.off);
}

static void close_text(struct opened *o)
{
    qn_source_close(o->s);
    qt_buf_free(&o->file);
}

/* Every range of a tensor is that range of all of it. */
static void check_bytes(struct opened *o, const char *name, qn_dtype dtype, const void *want, size_t n)
{
    const uint64_t i = qn_source_tensor_find(o->s, name);
    qn_err err = {0};
    cr_assert_neq(i, UINT64_MAX, "%s is not there", name);
    const qn_source_tensor *t = &o->s->tensors[i];
    cr_expect_eq(t->dtype, dtype, "%s: %s", name, qn_dtype_name((qn_dtype)t->dtype));
    cr_assert_eq(t->n_bytes, n, "%s: %llu bytes", name, (unsigned long long)t->n_bytes);
    for (size_t from = 0; from <= n; from++)
        for (size_t to = from; to <= n; to++) {
            uint8_t got[64];
            cr_assert_eq(qn_source_tensor_read(o->s, i, from, to - from, got, &err), QN_OK, "%s", err.text);
            cr_assert(memcmp(got, (const uint8_t *)want + from, to - from) == 0, "%s: bytes %zu to %zu", name, from, to);
        }
}

/* One tensor per dtype that is not raw, packed and single; the bytes are what the standard says. */
Test(onnx_good, every_way_to_hold_values)
{
    static const struct {
        const char *tensor;
        qn_dtype dtype;
        bool object;
        size_t n;
        const char *bytes;
    } rows[] = {
        {"#1=2 #2=1 @9{0000803f000000c0}", QN_F32, true, 8, "\0\0\x80\x3f\0\0\0\xc0"},
        {"@1{02} #2=1 @4{0000803f000000c0}", QN_F32, true, 8, "\0\0\x80\x3f\0\0\0\xc0"},
        {"#1=2 #2=1 %4=1065353216 %4=3221225472", QN_F32, false, 8, "\0\0\x80\x3f\0\0\0\xc0"},
        {"#1=2 #2=1 @4{0000803f} @4{000000c0}", QN_F32, false, 8, "\0\0\x80\x3f\0\0\0\xc0"},
        {"#1=3 #2=1 @4{0000803f} %4=5 @4{000000c0}", QN_F32, false, 12, "\0\0\x80\x3f\5\0\0\0\0\0\0\xc0"},
        {"#1=1 #2=14 @4{0000803f000000c0}", QN_C64, true, 8, "\0\0\x80\x3f\0\0\0\xc0"},
        {"#1=1 #2=11 @10{000000000000f03f}", QN_F64, true, 8, "\0\0\0\0\0\0\xf0\x3f"},
        {"#1=2 #2=11 &10=1 &10=258", QN_F64, false, 16, "\1\0\0\0\0\0\0\0\2\1\0\0\0\0\0\0"},
        {"#1=3 #2=2 @5{01 ff01 00}", QN_U8, false, 3, "\1\xff\0"},
        {"#1=3 #2=3 #5=-1 #5=-128 #5=127", QN_I8, false, 3, "\xff\x80\x7f"},
        {"#1=2 #2=4 @5{ffff03 01}", QN_U16, false, 4, "\xff\xff\1\0"},
        {"#1=2 #2=5 #5=-2 #5=3", QN_I16, false, 4, "\xfe\xff\3\0"},
        {"#1=2 #2=6 #5=-2 #5=3", QN_I32, false, 8, "\xfe\xff\xff\xff\3\0\0\0"},
        {"#1=2 #2=7 @7{feffffffffffffffff01} #7=5", QN_I64, false, 16, "\xfe\xff\xff\xff\xff\xff\xff\xff\5\0\0\0\0\0\0\0"},
        {"#1=2 #2=9 @5{0001}", QN_BOOL, false, 2, "\0\1"},
        {"#1=2 #2=10 @5{8078 00}", QN_F16, false, 4, "\0\x3c\0\0"},
        {"#1=1 #2=16 #5=16256", QN_BF16, false, 2, "\x80\x3f"},
        {"#1=2 #2=12 #11=4294967295 #11=1", QN_U32, false, 8, "\xff\xff\xff\xff\1\0\0\0"},
        {"#1=1 #2=13 #11=-1", QN_U64, false, 8, "\xff\xff\xff\xff\xff\xff\xff\xff"},
        {"#1=2 #2=17 @5{3880 01}", QN_F8_E4M3, false, 2, "\x38\x80"},
        {"#1=2 #2=18 @9{3801}", QN_F8_E4M3FNUZ, true, 2, "\x38\1"},
        {"#1=2 #2=19 @9{3801}", QN_F8_E5M2, true, 2, "\x38\1"},
        {"#1=2 #2=20 @9{3801}", QN_F8_E5M2FNUZ, true, 2, "\x38\1"},
        {"#1=2 #2=24 @9{3801}", QN_F8_E8M0, true, 2, "\x38\1"},
        {"#1=3 #2=21 @9{21 03}", QN_U8, true, 2, "\x21\3"},
        {"#1=3 #2=22 @5{8f01 03}", QN_U8, false, 2, "\x8f\3"},
        {"#1=4 #2=23 @9{21 43}", QN_F4, true, 2, "\x21\x43"},
        {"#1=3 #2=23 @9{21 03}", QN_U8, true, 2, "\x21\3"},
        {"#1=5 #2=25 @9{1b 02}", QN_U8, true, 2, "\x1b\2"},
        {"#2=1 @4{0000803f}", QN_F32, true, 4, "\0\0\x80\x3f"},
        {"#1=0 #1=4 #2=1", QN_F32, false, 0, ""},
        {"#1=0 #2=7 @9{}", QN_I64, false, 0, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[300];
        struct opened o;
        snprintf(text, sizeof text, HEAD "@7{@5{@8{'w'} %s}}", rows[i].tensor);
        open_text(&o, text);
        cr_expect_eq(o.s->n_tensors, 1u);
        cr_expect_eq(o.s->n_tensor_objects, rows[i].object, "%s", rows[i].tensor);
        check_bytes(&o, "w", rows[i].dtype, rows[i].bytes, rows[i].n);
        close_text(&o);
    }
    fprintf(stderr, "# %zu ways to hold values\n", sizeof rows / sizeof rows[0]);
}

/* Long enough for marks: any element is found without walking all. */
Test(onnx_good, long_coded_tensors)
{
    struct opened o;
    qn_err err = {0};
    open_text(&o, HEAD "@7{@5{@8{'p'} #1=200000 #2=7 @7{r100000(01 ac02)}} @5{@8{'s'} #1=140000 #2=6 r70000(#5=1 #5=300)}}");
    for (int k = 0; k < 2; k++) {
        const uint64_t i = qn_source_tensor_find(o.s, k ? "s" : "p"), width = k ? 4 : 8, n = k ? 140000 : 200000;
        uint8_t *all = malloc(n * width);
        cr_assert_eq(qn_source_tensor_read(o.s, i, 0, n * width, all, &err), QN_OK, "%s", err.text);
        for (uint64_t e = 0; e < n; e++) {
            uint64_t v = 0;
            memcpy(&v, all + e * width, width);
            cr_assert_eq(v, e % 2 ? 300u : 1u);
        }
        for (uint64_t e = 1; e < n * width; e += 9973) {
            uint8_t part[40];
            const uint64_t take = n * width - e < 40 ? n * width - e : 40;
            cr_assert_eq(qn_source_tensor_read(o.s, i, e, take, part, &err), QN_OK);
            cr_assert(memcmp(part, all + e, take) == 0);
        }
        free(all);
    }
    close_text(&o);
}

Test(onnx_good, structure)
{
    struct opened o;
    open_text(&o, HEAD "@8{@1{'com.x'} #2=3} @2{'maker'} @3{'1.0'} #5=7 @14{@1{'k'} @2{'v'}} #99=1 @100{'unknown'}"
                  "@7{@2{'g'} @1{@1{'x'} @1{} @1{'w'} @2{'y'} @3{'n'} @4{'Odd'} @7{'com.x'} @6{'doc'}"
                  "@5{@1{'f'} %2=1065353216 #20=1} @5{@1{'i'} #3=-5 #20=2} @5{@1{'s'} @4{'SAME' 00 'x'} #20=3}"
                  "@5{@1{'fs'} @7{0000803f} %7=0 #20=6} @5{@1{'is'} @8{01 ac02} #8=9} @5{@1{'ss'} @9{'a'} @9{} #20=8}"
                  "@5{@1{'none'} #20=7} @5{@1{'ref'} @21{'alpha'} #20=1} @5{@1{'tp'} @14{@1{#1=1}} #20=13}"
                  "@5{@1{'t'} @5{#1=1 #2=1 @9{z4}} #20=4}}"
                  "@11{@1{'x'} @2{@1{#1=1 @2{@1{@2{'N'}} @1{#1=3} @1{} @1{#1=-1}}}}} @12{@1{'y'} @2{@4{@1{@1{#1=7}}}}}"
                  "@13{@1{'any'} @2{@1{#1=10}}}} "
                  "@25{@1{'fn'} @10{'com.x'} @4{'a'} @5{'b'} @6{'alpha'} @9{#2=13} @7{@1{'a'} @2{'b'} @4{'Relu'}}}");
    const qn_onnx_model *m = qn_onnx_source_model(o.s);
    cr_assert_not_null(m);
    cr_expect_eq(m->ir_version, 8);
    cr_expect_eq(m->model_version, 7);
    cr_expect_str_eq(m->producer_name, "maker");
    cr_expect_str_eq(m->props[0].value, "v");
    cr_expect_eq(qn_onnx_opset(m, "ai.onnx"), 13);
    cr_expect_eq(qn_onnx_opset(m, "com.x"), 3);
    cr_expect_eq(qn_onnx_opset(m, "com.y"), 0);
    const qn_onnx_node *d = &m->graph->nodes[0];
    cr_assert_eq(d->n_inputs, 3u);
    cr_assert_eq(d->n_attrs, 10u);
    cr_expect_str_eq(d->op_type, "Odd");
    cr_expect_str_eq(d->inputs[1], "");
    cr_expect_eq(d->inputs[0], m->graph->inputs[0].name, "equal names are one string");
    cr_expect_eq(d->attrs[0].v.f, 1.0f);
    cr_expect_eq(d->attrs[1].v.i, -5);
    cr_expect_eq(d->attrs[2].v.strings[0].span.n_bytes, 6u);
    cr_expect(memcmp(d->attrs[2].v.strings[0].p, "SAME\0x", 7) == 0);
    cr_expect(d->attrs[3].n == 2 && d->attrs[3].v.floats[0] == 1.0f);
    cr_expect(d->attrs[4].type == QN_ONNX_ATTR_INTS && d->attrs[4].n == 3 && d->attrs[4].v.ints[1] == 300 &&
              d->attrs[4].v.ints[2] == 9);
    cr_expect(d->attrs[5].n == 2 && d->attrs[5].v.strings[1].span.n_bytes == 0);
    cr_expect(d->attrs[6].type == QN_ONNX_ATTR_INTS && d->attrs[6].n == 0);
    cr_expect(d->attrs[7].n == 0 && strcmp(d->attrs[7].ref, "alpha") == 0);
    cr_expect(d->attrs[8].type == QN_ONNX_ATTR_TYPE_PROTO && d->attrs[8].n == 1);
    cr_expect(d->attrs[9].n == 1 && d->attrs[9].v.tensors[0].n_bytes == 4);
    const qn_onnx_type *t = &m->graph->inputs[0].type;
    cr_expect(t->kind == QN_ONNX_KIND_TENSOR && t->elem_type == QN_ONNX_FLOAT && t->has_shape && t->rank == 4);
    cr_expect_str_eq(t->dims[0].param, "N");
    cr_expect(t->dims[1].value == 3 && t->dims[2].value == -1 && t->dims[3].value == -1);
    t = &m->graph->outputs[0].type;
    cr_expect(t->kind == QN_ONNX_KIND_SEQUENCE && t->inner && t->inner->elem_type == QN_ONNX_INT64);
    cr_expect(!m->graph->values[0].type.has_shape);
    cr_expect_str_eq(m->functions[0].attrs[0], "alpha");
    cr_expect_str_eq(m->functions[0].nodes[0].op_type, "Relu");
    cr_expect_eq(o.s->n_tensors, 0u, "an operator's tensor attribute is no weight");
    close_text(&o);
}

#define TENSOR(name) "#1=1 #2=3 @8{'" name "'} @9{01}"
#define CONST(out)   "@1{@2{'" out "'} @4{'Constant'} @5{@1{'value'} @5{#1=1 #2=3 @9{01}}}}"

Test(onnx_good, names)
{
    static const char *const want[] = {"w", "c", "if/w", "if/w.2", "if/inner/c", "if.2/x", "if/w.3", "loop/w", "out/w", "f/c"};
    struct opened o;
    open_text(&o, HEAD "@7{@5{" TENSOR("w") "}" CONST("c")
                  "@1{@3{'if'} @4{'If'} @5{@1{'then_branch'} @6{@5{" TENSOR("w") "}}}"
                  "@5{@1{'else_branch'} @6{@5{" TENSOR("w") "} @1{@3{'inner'} @4{'If'} @5{@1{'then_branch'} @6{" CONST("c") "}}}}}}"
                  "@1{@3{'if.2'} @4{'If'} @5{@1{'then_branch'} @6{@5{" TENSOR("x") "}}}}"
                  "@1{@3{'if'} @4{'If'} @5{@1{'then_branch'} @6{@5{" TENSOR("w") "}}}}"
                  "@1{@3{'loop'} @4{'Loop'} @5{@1{'body'} @6{@5{" TENSOR("w") "}}}}"
                  "@1{@2{'out'} @4{'Scan'} @5{@1{'body'} @6{@5{" TENSOR("w") "}}}}}"
                  "@25{@1{'f'} @7{@2{'c'} @4{'Constant'} @5{@1{'value'} @5{#1=1 #2=3 @9{01}}}}}");
    cr_assert_eq(o.s->n_tensors, sizeof want / sizeof want[0]);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        cr_expect_str_eq(o.s->tensors[i].name, want[i]);
        cr_expect_eq(qn_source_tensor_find(o.s, want[i]), i);
    }
    close_text(&o);
}

/* The objects are the file, whatever the window of the reader and however little a read gives. */
Test(onnx_good, covers_the_file)
{
    struct opened o;
    qn_err err = {0};
    open_text(&o, HEAD "@7{@1{@4{'Op'} @6{r9000('doc ')}} @5{@8{'a'} #1=70000 #2=2 @9{z70000}} @5{@8{'b'} #1=3 #2=1 @4{z12}}"
                  "@5{@8{'s'} #1=1 #2=8 @6{'text'}} @5{@8{'z'} #1=1 #2=15 @9{z16}}}");
    cr_expect_eq(o.s->n_tensors, 2u);
    uint8_t *back = malloc(o.file.n);
    for (unsigned little = 0; little < 2; little++) {
        uint64_t at = 0;
        o.files.max_read = little * 1000;
        for (uint64_t i = 0; i < o.s->n_objects; i++) {
            cr_assert_eq(qn_source_read(o.s, i, 0, o.s->objects[i].n_bytes, back + at, &err), QN_OK);
            at += o.s->objects[i].n_bytes;
        }
        cr_expect(at == o.file.n && memcmp(back, o.file.p, at) == 0);
    }
    free(back);
    qn_source_close(o.s);
    o.files.max_read = 7;
    cr_expect_eq(qn_source_open(&o.env, "m.onnx", &o.s, &err), QN_OK, "%s", err.text);
    close_text(&o);
}
