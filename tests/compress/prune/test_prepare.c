/* test_prepare.c: ONNX models made ready for pruning: what goes, what stays, and that the function is the same. */
#include "compress/prune/emit.h"
#include "formats/onnx/onnx.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/onnx_made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

static qn_err err;

#define GROUP(n) "@5{@1{'group'} #3=" n " #20=2}"
#define PAD1 "@5{@1{'pads'} #8=1 #8=1 #8=1 #8=1 #20=7}"
#define TRANS_B "@5{@1{'transB'} #3=1 #20=2}"

static void add_norm(qt_onnx *m, const char *x, const char *y, int n, const char *attrs)
{
    char name[4][40], ins[200];
    static const char *const what[] = {"scale", "shift", "mean", "var"};
    for (unsigned k = 0; k < 4; k++) {
        snprintf(name[k], sizeof name[k], "%s.%s", y, what[k]);
        qt_onnx_floats(m, name[k], k == 3 ? 0.05 : 0.5, k == 3 || k == 0 ? 1 : 0, 1, n);
    }
    snprintf(ins, sizeof ins, "%s,%s,%s,%s,%s", x, name[0], name[1], name[2], name[3]);
    qt_onnx_node(m, "BatchNormalization", ins, y, attrs);
}

/* Prepared, reopened, compared; what it has become. */
static qt_onnx_open prepared(qt_onnx *m, unsigned want_norms)
{
    const char *path = qt_onnx_write(m, "in.onnx"), *to = qt_made_path("out.onnx");
    qt_onnx_open a = qt_onnx_load(path), b;
    bool changed;
    uint32_t n_norms;
    (void)unlink(to);
    OK(qn_prepare_onnx(qt_made_env(1), a.g, to, &changed, &n_norms, &err));
    cr_assert(changed);
    cr_assert_eq(n_norms, want_norms, "%u norms folded", n_norms);
    b = qt_onnx_load(to);
    cr_assert_eq(a.g->n_outputs, b.g->n_outputs);
    for (unsigned i = 0; i < a.g->n_outputs; i++)
        for (uint64_t seed = 7; seed < 9; seed++) {
            const qn_array x = qt_onnx_eval(a.g, NULL, seed, 2, i), y = qt_onnx_eval(b.g, NULL, seed, 2, i);
            cr_assert_str_eq(a.g->values[a.g->outputs[i]].name, b.g->values[b.g->outputs[i]].name);
            cr_assert_lt(qt_onnx_apart(&y, &x), 2e-6, "output %u", i);
        }
    qt_onnx_close(&a);
    /* once more: nothing is left to be done */
    OK(qn_prepare_onnx(qt_made_env(1), b.g, qt_made_path("none.onnx"), &changed, &n_norms, &err));
    cr_assert(!changed && n_norms == 0);
    cr_assert_neq(access(qt_made_path("none.onnx"), F_OK), 0);
    return b;
}

Test(prepare, norms_behind_convolutions)
{
    qt_onnx m;
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "N,4,6,6");
    qt_onnx_floats(&m, "c1.weight", 0.3, 0, 4, 8, 4, 3, 3);
    qt_onnx_node(&m, "Conv", "x,c1.weight", "a", PAD1);
    add_norm(&m, "a", "b", 8, "");
    qt_onnx_node(&m, "Relu", "b", "c", "");
    qt_onnx_floats(&m, "w2", 0.3, 0, 4, 8, 4, 3, 3);
    qt_onnx_floats(&m, "b2", 0.3, 0, 1, 8);
    qt_onnx_node(&m, "Conv", "c,w2,b2", "d", PAD1 GROUP("2"));
    add_norm(&m, "d", "e", 8, "@5{@1{'epsilon'} %2=1008981770 #20=1}"); /* 0.01 */
    qt_onnx_floats(&m, "w3", 0.3, 0, 4, 8, 3, 2, 2);
    qt_onnx_floats(&m, "b3", 0.3, 0, 1, 6);
    qt_onnx_node(&m, "ConvTranspose", "e,w3,b3", "f", GROUP("2"));
    add_norm(&m, "f", "y", 6, "");
    qt_onnx_output(&m, "y", "N,6,7,7");
    qt_onnx_open o = prepared(&m, 3);
    cr_assert_eq(o.g->n_nodes, 4u);
    cr_assert_neq(qn_source_tensor_find(o.s, "c1.weight"), UINT64_MAX); /* changed in place */
    cr_assert_neq(qn_source_tensor_find(o.s, "c1.bias"), UINT64_MAX);   /* new              */
    cr_assert_eq(o.s->n_tensors, 6u);
    qt_onnx_close(&o);
}

Test(prepare, norms_behind_products)
{
    qt_onnx m;
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "N,5");
    qt_onnx_floats(&m, "w1", 0.5, 0, 2, 6, 5);
    qt_onnx_floats(&m, "b1", 0.5, 0, 1, 6);
    qt_onnx_node(&m, "Gemm", "x,w1,b1", "a", TRANS_B "@5{@1{'alpha'} %2=1056964608 #20=1} @5{@1{'beta'} %2=1073741824 #20=1}");
    add_norm(&m, "a", "b", 6, "");
    qt_onnx_floats(&m, "w2", 0.5, 0, 2, 6, 7);
    qt_onnx_node(&m, "MatMul", "b,w2", "c", "");
    add_norm(&m, "c", "d", 7, "@5{@1{'momentum'} %2=1 #20=1}");
    qt_onnx_floats(&m, "w3", 0.5, 0, 2, 7, 4);
    qt_onnx_floats(&m, "b3", 0.5, 0, 1, 4);
    qt_onnx_node(&m, "MatMul", "d,w3", "e", "");
    qt_onnx_node(&m, "Add", "b3,e", "f", "");
    add_norm(&m, "f", "g", 4, "");
    qt_onnx_floats(&m, "w4", 0.5, 0, 2, 4, 3);
    qt_onnx_node(&m, "Gemm", "g,w4", "h", "");
    add_norm(&m, "h", "y", 3, "");
    qt_onnx_output(&m, "y", "N,3");
    qt_onnx_open o = prepared(&m, 4);
    cr_assert_eq(qt_onnx_count(o.g, "BatchNormalization"), 0u);
    cr_assert_eq(qt_onnx_count(o.g, "Add"), 2u);
    qt_onnx_close(&o);
}

/* A norm stays when something else reads the product; shared weights stay the others'. */
Test(prepare, norms_that_stay)
{
    qt_onnx m;
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "N,4,5,5");
    qt_onnx_floats(&m, "w", 0.3, 0, 4, 4, 4, 1, 1);
    qt_onnx_node(&m, "Conv", "x,w", "a", "");
    add_norm(&m, "a", "b", 4, "");
    qt_onnx_node(&m, "Add", "a,b", "c", ""); /* two readers of a */
    qt_onnx_node(&m, "Conv", "c,w", "d", "");
    add_norm(&m, "d", "e", 4, ""); /* folded, with a weight of its own */
    qt_onnx_node(&m, "Conv", "e,w", "f", "");
    qt_onnx_node(&m, "Conv", "f,w", "z", ""); /* an output of the model */
    add_norm(&m, "z", "y", 4, "");
    qt_onnx_output(&m, "y", "N,4,5,5");
    qt_onnx_output(&m, "z", "N,4,5,5");
    qt_onnx_open o = prepared(&m, 1);
    cr_assert_eq(qt_onnx_count(o.g, "BatchNormalization"), 2u);
    qt_onnx_close(&o);
}

Test(prepare, what_gives_its_input)
{
    qt_onnx m;
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "N,4");
    qt_onnx_floats(&m, "w", 0.5, 0, 2, 4, 4);
    qt_onnx_node(&m, "Identity", "w", "w2", "");
    qt_onnx_node(&m, "Identity", "w2", "w3", "");
    qt_onnx_node(&m, "Dropout", "x", "a,mask", "");
    qt_onnx_node(&m, "MatMul", "a,w2", "b", "");
    qt_onnx_node(&m, "Identity", "b", "c", "");
    qt_onnx_node(&m, "MatMul", "c,w3", "d", "");
    qt_onnx_node(&m, "Identity", "d", "y", ""); /* gives an output: stays */
    qt_onnx_output(&m, "y", "N,4");
    qt_onnx_open o = prepared(&m, 0);
    cr_assert_eq(o.g->n_nodes, 3u);
    cr_assert_eq(o.s->n_tensors, 1u); /* shared as before */
    qt_onnx_close(&o);
}

Test(prepare, constants)
{
    qt_onnx m;
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "N,6");
    qt_onnx_floats(&m, "w", 0.5, 0, 2, 8, 6);
    qt_onnx_node(&m, "Transpose", "w", "wt", "@5{@1{'perm'} #8=1 #8=0 #20=7}");
    qt_onnx_floats(&m, "by", 0.5, 1, 1, 8);
    qt_onnx_node(&m, "Mul", "wt,by", "ws", "");
    qt_onnx_node(&m, "MatMul", "x,ws", "a", "");
    qt_onnx_ints(&m, "shape", 2, 8, 3);
    qt_onnx_node(&m, "ConstantOfShape", "shape", "ones", "@5{@1{'value'} @5{#1=1 #2=1 @4{0000403f}} #20=4}");
    qt_onnx_node(&m, "MatMul", "a,ones", "b", "");
    qt_onnx_ints(&m, "one", 1, 1);
    qt_onnx_ints(&m, "three", 1, -1);
    qt_onnx_node(&m, "Concat", "one,three", "to", "@5{@1{'axis'} #3=0 #20=2}");
    qt_onnx_node(&m, "Reshape", "b,to", "y", "");
    qt_onnx_output(&m, "y", "1,M");
    qt_onnx_open o = prepared(&m, 0);
    cr_assert_eq(o.g->n_nodes, 3u);
    cr_assert_eq(o.s->n_tensors, 3u); /* ws, ones, to */
    cr_assert_neq(qn_source_tensor_find(o.s, "ws"), UINT64_MAX);
    qt_onnx_close(&o);
}

/* Narrow floats stay narrow, quantized weights quantized; and what a body reads stays where it is. */
Test(prepare, what_stays)
{
    qt_onnx m;
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "N,2");
    qt_onnx_text(&m, "@5{#1=2 #1=2 #2=10 @8{'h'} @9{003c 0040 00c0 0038}}");
    qt_onnx_node(&m, "Transpose", "h", "ht", "");
    qt_onnx_node(&m, "Cast", "ht", "hf", "@5{@1{'to'} #3=1 #20=2}");
    qt_onnx_node(&m, "MatMul", "x,hf", "a", "");
    qt_onnx_text(&m, "@5{#1=2 #1=2 #2=3 @8{'q'} @9{01 ff 03 04}} @5{#2=1 @8{'s'} %4=1056964608} @5{#2=9 #5=1 @8{'cond'}}");
    qt_onnx_node(&m, "DequantizeLinear", "q,s", "qf", "");
    qt_onnx_node(&m, "MatMul", "a,qf", "b", "");
    qt_onnx_node(&m, "Identity", "b", "i", "");
    qt_onnx_node(&m, "If", "cond", "y", "@5{@1{'then_branch'} #20=5 @6{@1{@1{'i'} @2{'t'} @4{'Neg'}} @12{@1{'t'}}}}"
                                        "@5{@1{'else_branch'} #20=5 @6{@1{@1{'i'} @2{'t'} @4{'Abs'}} @12{@1{'t'}}}}");
    qt_onnx_output(&m, "y", "N,2");
    qt_onnx_open o = prepared(&m, 0);
    cr_assert_eq(qt_onnx_count(o.g, "DequantizeLinear"), 1u);
    cr_assert_eq(qt_onnx_count(o.g, "Identity"), 1u);
    cr_assert_eq(qt_onnx_count(o.g, "Transpose") + qt_onnx_count(o.g, "Cast"), 0u);
    qt_onnx_close(&o);
}

/* Real nets, when they are there. */
Test(prepare, third_party)
{
    static const char *const files[] = {"models/magika/model.onnx", "models/cifar-resnet20/resnet20.onnx"};
    for (unsigned k = 0; k < sizeof files / sizeof files[0]; k++) {
        const char *path = qt_shared(files[k]);
        bool changed;
        uint32_t n_norms;
        if (!path)
            continue;
        qt_onnx_open a = qt_onnx_load(path);
        OK(qn_prepare_onnx(qt_made_env(1), a.g, qt_made_path("real.onnx"), &changed, &n_norms, &err));
        fprintf(stderr, "# %s: %s, %u batch norms folded\n", files[k], changed ? "changed" : "as it was", n_norms);
        if (changed) {
            qt_onnx_open b = qt_onnx_load(qt_made_path("real.onnx"));
            const qn_array x = qt_onnx_eval(a.g, NULL, 5, 1, 0), y = qt_onnx_eval(b.g, NULL, 5, 1, 0);
            cr_assert_lt(qt_onnx_apart(&y, &x), 1e-5);
            qt_onnx_close(&b);
        }
        qt_onnx_close(&a);
    }
}

Test(prepare, memory)
{
    qt_onnx m;
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "N,4,3,3");
    qt_onnx_floats(&m, "w", 0.3, 0, 4, 4, 4, 1, 1);
    qt_onnx_node(&m, "Neg", "w", "wn", "");
    qt_onnx_node(&m, "Conv", "x,wn", "a", "");
    add_norm(&m, "a", "y", 4, "");
    qt_onnx_output(&m, "y", "N,4,3,3");
    qt_onnx_open o = qt_onnx_load(qt_onnx_write(&m, "mem.onnx"));
    unsigned k = 1;
    for (;; k++) {
        bool changed;
        uint32_t n_norms;
        const qn_code rc = qn_prepare_onnx(qt_made_env_short(k), o.g, qt_made_path("mem2.onnx"), &changed, &n_norms, &err);
        if (!qt_made_memory_failed()) {
            cr_assert(rc == QN_OK && changed);
            break;
        }
        cr_assert(rc == QN_OK || rc == QN_E_MEMORY, "request %u: %s", k, err.text); /* a node that cannot be run now stays */
        qn_err_clear(&err);
    }
    cr_assert_gt(k, 20u);
    qt_onnx_close(&o);
}
