/* test_build_onnx.c: graphs of ONNX models: what is refused, what is known of shapes, what runs. Expected values are worked by
 * hand. */
#include "analysis/exec/exec.h"
#include "analysis/graph/build.h"
#include "tests/support/proto.h"
#include <criterion/criterion.h>
#include <string.h>

#define HEAD "#1=8 @8{#2=13} "
#define X "@11{@1{'x'} @2{@1{#1=1 @2{@1{#1=2} @1{#1=3}}}}} "
#define Y "@12{@1{'y'}} "

struct opened {
    qt_buf file;
    qt_files files;
    qt_counter counter;
    qn_env env;
    qn_source *s;
    qn_graph *g;
    qn_err err;
};

static qn_code open_graph(struct opened *o, const char *text)
{
    memset(o, 0, sizeof *o);
    qt_add_proto(&o->file, text, NULL);
    qt_files_init(&o->files);
    qt_files_add(&o->files, "m.onnx", o->file.p, o->file.n);
    qt_counter_init(&o->counter);
    o->env = qt_env(&o->files, &o->counter);
    qn_err_clear(&o->err);
    const qn_code rc = qn_source_open(&o->env, "m.onnx", &o->s, &o->err);
    return rc == QN_OK ? qn_graph_of_onnx(&o->env, o->s, &o->g, &o->err) : rc;
}

static void close_graph(struct opened *o)
{
    qn_graph_close(o->g);
    qn_source_close(o->s);
    cr_expect_eq(o->counter.n_live, 0, "memory lost");
    cr_expect_eq(o->files.n_open, 0);
    qt_buf_free(&o->file);
}

/* x: f32 (2, 3) = 1, −2, 3, −4, 5, −6; expects the one output y. */
static void expect_run(const char *what, const char *text, const float *want, uint64_t n)
{
    struct opened o;
    qn_exec *x = NULL;
    qn_array y = {0}, in;
    float data[6] = {1, -2, 3, -4, 5, -6};
    const int64_t dims[2] = {2, 3};
    cr_assert_eq(open_graph(&o, text), QN_OK, "%s: %s", what, o.err.text);
    cr_assert_eq(qn_array_wrap(&in, QN_F32, dims, 2, data, &o.err), QN_OK);
    cr_assert_eq(qn_exec_open(&o.env, o.g, NULL, &x, &o.err), QN_OK);
    cr_assert_eq(qn_exec_run(x, &in, &y, &o.err), QN_OK, "%s: %s", what, o.err.text);
    cr_assert_eq(y.n, n, "%s: %lu elements", what, (unsigned long)y.n);
    for (uint64_t i = 0; i < n; i++)
        cr_expect_float_eq(((float *)y.data)[i], want[i], 1e-6, "%s: element %lu is %g, not %g", what, (unsigned long)i,
                           (double)((float *)y.data)[i], (double)want[i]);
    qn_array_release(&y);
    qn_exec_close(x);
    close_graph(&o);
}

Test(build_onnx, refused)
{
    static const struct {
        const char *name, *text;
        qn_code code;
        const char *part;
    } cases[] = {
        {"input that nothing gives", HEAD "@7{@1{@3{'n'} @1{'z'} @2{'y'} @4{'Relu'}} " X Y "}", QN_E_INPUT, "node 'n' (Relu) reads 'z'"},
        {"cycle", HEAD "@7{@1{@3{'a'} @1{'x'} @1{'q'} @2{'p'} @4{'Add'}} @1{@3{'b'} @1{'p'} @2{'q'} @4{'Relu'}} @1{@1{'q'} @2{'y'} @4{'Neg'}} " X Y "}",
         QN_E_INPUT, "cycle"},
        {"own output", HEAD "@7{@1{@3{'a'} @1{'y'} @2{'y'} @4{'Relu'}} " X Y "}", QN_E_INPUT, "node 'a' (Relu) needs its own output"},
        {"name twice", HEAD "@7{@1{@1{'x'} @2{'y'} @4{'Relu'}} @1{@1{'x'} @2{'y'} @4{'Neg'}} " X Y "}", QN_E_INPUT, "named 'y'"},
        {"name of an input", HEAD "@7{@1{@1{'x'} @2{'x'} @4{'Relu'}} " X "@12{@1{'x'}}}", QN_E_INPUT, "named 'x'"},
        {"output that nothing gives", HEAD "@7{@1{@1{'x'} @2{'z'} @4{'Relu'}} " X Y "}", QN_E_INPUT, "output 'y'"},
        {"too many inputs", HEAD "@7{@1{@3{'n'} @1{'x'} @1{'x'} @2{'y'} @4{'Relu'}} " X Y "}", QN_E_INPUT, "node 'n' (Relu) has 2 inputs"},
        {"too few inputs", HEAD "@7{@1{@3{'n'} @1{'x'} @2{'y'} @4{'Add'}} " X Y "}", QN_E_INPUT, "node 'n' (Add) has 1 inputs"},
        {"input left out", HEAD "@7{@1{@3{'n'} @1{} @1{'x'} @2{'y'} @4{'Add'}} " X Y "}", QN_E_INPUT, "node 'n' (Add) lacks its input 0"},
        {"too many outputs", HEAD "@7{@1{@3{'n'} @1{'x'} @2{'y'} @2{'z'} @4{'Relu'}} " X Y "}", QN_E_INPUT, "node 'n' (Relu) has 2 outputs"},
        {"attribute of a wrong type", HEAD "@7{@1{@3{'n'} @1{'x'} @2{'y'} @4{'Flatten'} @5{@1{'axis'} %2=1 #20=1}} " X Y "}", QN_E_INPUT,
         "node 'n' (Flatten): attribute 'axis'"},
        {"shapes that do not fit", HEAD "@7{@1{@3{'n'} @1{'x'} @1{'w'} @2{'y'} @4{'Add'}} @5{#1=4 #2=1 @9{z16} @8{'w'}} " X Y "}", QN_E_INPUT,
         "node 'n' (Add): shapes (2, 3) and (4) do not fit"},
        {"reshape to another count", HEAD "@7{@1{@3{'n'} @1{'x'} @1{'s'} @2{'y'} @4{'Reshape'}} @5{#1=1 #2=7 #7=5 @8{'s'}} " X Y "}", QN_E_INPUT,
         "node 'n' (Reshape)"},
        {"axis out of range", HEAD "@7{@1{@3{'n'} @1{'x'} @1{'x'} @2{'y'} @4{'Concat'} @5{@1{'axis'} #3=2 #20=2}} " X Y "}", QN_E_INPUT,
         "axis 2 of a tensor of rank 2"},
        {"in a branch", HEAD "@7{@1{@3{'n'} @1{'c'} @2{'y'} @4{'If'} @5{@1{'then_branch'} #20=5 @6{@1{@3{'m'} @1{'z'} @2{'t'} @4{'Neg'}} @12{@1{'t'}}}} "
         "@5{@1{'else_branch'} #20=5 @6{@12{@1{'x'}}}}} @5{#2=9 #5=1 @8{'c'}} " X Y "}", QN_E_INPUT, "node 'm' (Neg) reads 'z'"},
        {"function that calls itself", HEAD "@8{@1{'f'} #2=1} @7{@1{@3{'n'} @1{'x'} @2{'y'} @4{'fn'} @7{'f'}} " X Y "} "
         "@25{@1{'fn'} @4{'p'} @5{'q'} @7{@3{'m'} @1{'p'} @2{'q'} @4{'fn'} @7{'f'}} @9{@1{'f'} #2=1} @10{'f'}}", QN_E_INPUT, "calls itself"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct opened o;
        const qn_code rc = open_graph(&o, cases[i].text);
        cr_expect_eq(rc, cases[i].code, "%s: %d", cases[i].name, rc);
        cr_expect_not_null(strstr(o.err.text, cases[i].part), "%s: %s", cases[i].name, o.err.text);
        cr_expect_null(o.g);
        close_graph(&o);
    }
}

Test(build_onnx, every_allocation_may_fail)
{
    const char *text = HEAD "@7{@1{@1{'x'} @2{'s'} @4{'Shape'}} @1{@1{'x'} @1{'s'} @2{'y'} @4{'Reshape'}} " X Y "}";
    for (uint64_t at = 1;; at++) {
        qt_buf file = {0};
        qt_files files;
        qt_counter c;
        qn_source *s;
        qn_graph *g = NULL;
        qn_err err = {0};
        qt_add_proto(&file, text, NULL);
        qt_files_init(&files);
        qt_files_add(&files, "m.onnx", file.p, file.n);
        qt_counter_init(&c);
        const qn_env env = qt_env(&files, &c);
        cr_assert_eq(qn_source_open(&env, "m.onnx", &s, &err), QN_OK);
        c.fail_at = c.n_gets + at;
        const uint64_t before = c.n_gets;
        const qn_code rc = qn_graph_of_onnx(&env, s, &g, &err);
        const bool failed = c.n_gets >= before + at;
        cr_expect(rc == QN_OK || rc == QN_E_MEMORY, "%d: %s", rc, err.text);
        c.fail_at = 0;
        qn_graph_close(g);
        qn_source_close(s);
        cr_expect_eq(c.n_live, 0, "get %lu", (unsigned long)at);
        qt_buf_free(&file);
        if (!failed)
            break;
    }
}

Test(build_onnx, unknown_operators_are_opaque)
{
    struct opened o;
    cr_assert_eq(open_graph(&o, HEAD "@7{@1{@1{'x'} @2{'a'} @4{'Relu'}} @1{@3{'n'} @1{'a'} @2{'y'} @4{'Odd'} @7{'some.where'}} " X Y "}"), QN_OK, "%s",
                 o.err.text);
    const uint32_t i = qn_graph_first_opaque(o.g);
    cr_assert_eq(i, 1);
    cr_expect_str_eq(o.g->nodes[i].type, "Odd");
    cr_expect_str_eq(o.g->nodes[i].domain, "some.where");
    close_graph(&o);
}

/* (N, 3, 2) by Shape, Gather, Unsqueeze, Concat with −1: (N, 6), though N is not known. */
Test(build_onnx, shapes_worked_out_by_operators)
{
    struct opened o;
    cr_assert_eq(open_graph(&o, HEAD "@7{@1{@1{'x'} @2{'s'} @4{'Shape'}} @1{@1{'s'} @1{'i'} @2{'n'} @4{'Gather'}} "
                                     "@1{@1{'n'} @1{'z'} @2{'n1'} @4{'Unsqueeze'}} "
                                     "@1{@1{'n1'} @1{'m'} @2{'t'} @4{'Concat'} @5{@1{'axis'} #3=0 #20=2}} @1{@1{'x'} @1{'t'} @2{'y'} @4{'Reshape'}} "
                                     "@5{#2=7 #7=0 @8{'i'}} @5{#1=1 #2=7 #7=0 @8{'z'}} @5{#1=1 #2=7 #7=-1 @8{'m'}} "
                                     "@11{@1{'x'} @2{@1{#1=1 @2{@1{@2{'N'}} @1{#1=3} @1{#1=2}}}}} @12{@1{'y'}}}"),
                 QN_OK, "%s", o.err.text);
    const qn_value *y = &o.g->values[qn_graph_find(o.g, "y")], *x = &o.g->values[qn_graph_find(o.g, "x")];
    cr_assert_eq(y->rank, 2);
    cr_expect_eq(y->dims[0], QN_DIM_UNKNOWN);
    cr_expect_eq(y->dims[1], 6);
    cr_expect_eq(y->dtype, QN_F32);
    cr_expect_str_eq(x->symbols[0], "N");
    close_graph(&o);
}

/* An output declared with no dimensions has three: names of dimensions are then those of none of them. */
Test(build_onnx, declared_ranks_that_do_not_hold)
{
    struct opened o;
    cr_assert_eq(open_graph(&o, HEAD "@7{@1{@1{'x'} @2{'y'} @4{'Relu'}} @11{@1{'x'} @2{@1{#1=1 @2{@1{@2{'N'}} @1{#1=3} @1{#1=-1}}}}} "
                                     "@12{@1{'y'} @2{@1{#1=1 @2{}}}}}"),
                 QN_OK, "%s", o.err.text);
    const qn_value *y = &o.g->values[qn_graph_find(o.g, "y")];
    cr_assert_eq(y->rank, 3);
    cr_expect_eq(y->dims[1], 3);
    cr_expect_null(y->symbols);
    close_graph(&o);
}

/* a = −x is read once more after Relu(a): it must not be written over. y = a + relu(a). */
Test(build_onnx, operands_that_are_read_again)
{
    expect_run("in place", HEAD "@7{@1{@1{'x'} @2{'a'} @4{'Neg'}} @1{@1{'a'} @2{'b'} @4{'Relu'}} @1{@1{'a'} @1{'b'} @2{'y'} @4{'Add'}} " X Y "}",
               (float[]){-1, 4, -3, 8, -5, 12}, 6);
}

/* The order of the file is no order to run in. */
Test(build_onnx, nodes_in_any_order)
{
    expect_run("order", HEAD "@7{@1{@1{'a'} @2{'y'} @4{'Relu'}} @1{@1{'x'} @2{'a'} @4{'Neg'}} " X Y "}", (float[]){0, 2, 0, 4, 0, 6}, 6);
}

/* alpha is given by the caller: 0.5; the weight of the function is 2. y = leaky(x) · 2. */
Test(build_onnx, functions_in_place_of_their_calls)
{
    expect_run("function",
               HEAD "@8{@1{'f'} #2=1} @7{@1{@1{'x'} @2{'y'} @3{'call'} @4{'fn'} @7{'f'} @5{@1{'slope'} %2=1056964608 #20=1}} " X Y "} "
                    "@25{@1{'fn'} @4{'p'} @5{'q'} @6{'slope'} @7{@2{'w'} @4{'Constant'} @5{@1{'value'} #20=4 @5{#2=1 %4=1073741824}}} "
                    "@7{@1{'p'} @2{'l'} @4{'LeakyRelu'} @5{@1{'alpha'} @21{'slope'} #20=1}} @7{@1{'l'} @1{'w'} @2{'q'} @4{'Mul'}} @9{#2=13} @10{'f'}}",
               (float[]){2, -2, 6, -4, 10, -6}, 6);
}

/* Both branches read x of the graph around. The condition is true: y = −x. */
Test(build_onnx, branches_see_the_graph_around)
{
    expect_run("if", HEAD "@7{@1{@1{'c'} @2{'y'} @4{'If'} @5{@1{'then_branch'} #20=5 @6{@1{@1{'x'} @2{'t'} @4{'Neg'}} @12{@1{'t'}}}} "
                          "@5{@1{'else_branch'} #20=5 @6{@12{@1{'x'}}}}} @5{#2=9 #5=1 @8{'c'}} " X Y "}",
               (float[]){-1, 2, -3, 4, -5, 6}, 6);
}

/* v = x, three times v += x: 4 x. */
Test(build_onnx, loops_carry_a_state)
{
    expect_run("loop", HEAD "@7{@1{@1{'m'} @1{} @1{'x'} @2{'y'} @4{'Loop'} @5{@1{'body'} #20=5 @6{@1{@1{'v'} @1{'x'} @2{'w'} @4{'Add'}} @11{@1{'i'}} "
                            "@11{@1{'c'}} @11{@1{'v'}} @12{@1{'c'}} @12{@1{'w'}}}}} @5{#2=7 #7=3 @8{'m'}} " X Y "}",
               (float[]){4, -8, 12, -16, 20, -24}, 6);
}

/* INT4 −1 and 7 in one byte, scale 0.5 → −0.5, 3.5. */
Test(build_onnx, elements_below_a_byte)
{
    expect_run("int4", HEAD "@7{@1{@1{'p'} @1{'q'} @2{'y'} @4{'DequantizeLinear'}} @5{#1=2 #2=22 @9{7f} @8{'p'}} @5{#2=1 %4=1056964608 @8{'q'}} " X Y "}",
               (float[]){-0.5f, 3.5f}, 2);
}
