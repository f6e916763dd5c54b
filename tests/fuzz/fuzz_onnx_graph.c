/* fuzz_onnx_graph.c: a file as an ONNX model, its graph, and a run of it under a small memory limit. Whatever the file says: an error
 * with a text, or a result; never a crash, no memory lost, no file left open. */
#include "analysis/exec/exec.h"
#include "analysis/graph/build.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds.h"
#include "tests/support/proto.h"
#include <string.h>

enum { MEMORY = 1 << 20, OPERANDS = 16 };

/* Operators that may take long on small operands are not run: a loop that the file says to go round a million times. */
static bool has_loop(const qn_graph *g)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        if (!strcmp(g->nodes[i].type, "Loop") || !strcmp(g->nodes[i].type, "Scan"))
            return true;
        for (unsigned k = 0; k < g->nodes[i].n_attrs; k++)
            if (g->nodes[i].attrs[k].type == QN_ATTR_GRAPH && has_loop(g->nodes[i].attrs[k].v.graph))
                return true;
    }
    return false;
}

static void check_graph(const qn_graph *g)
{
    QF_CHECK(g->sealed);
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        QF_CHECK(n->block < g->n_blocks && n->name && n->type && n->domain);
        for (unsigned k = 0; k < n->n_in; k++)
            QF_CHECK(n->in[k] == QN_NO_VALUE || (n->in[k] < g->n_values &&
                                                 (g->values[n->in[k]].kind != QN_VALUE_NODE || g->values[n->in[k]].node < i)));
        for (unsigned k = 0; k < n->n_out; k++)
            QF_CHECK(n->out[k] == QN_NO_VALUE || (n->out[k] < g->n_values && g->values[n->out[k]].node == i));
        for (unsigned k = 0; k < n->n_attrs; k++)
            if (n->attrs[k].type == QN_ATTR_GRAPH)
                check_graph(n->attrs[k].v.graph);
    }
    for (uint32_t i = 0; i < g->n_values; i++)
        QF_CHECK(qn_graph_find(g, g->values[i].name) == i);
}

static void run(const qn_env *env, const qn_graph *g)
{
    qn_err err = {0};
    qn_exec *x;
    qn_array in[OPERANDS] = {{0}}, out[OPERANDS] = {{0}};
    if (g->n_inputs > OPERANDS || g->n_outputs > OPERANDS || has_loop(g))
        return;
    const qn_exec_options o = {.memory_bytes = MEMORY};
    QF_CHECK(qn_exec_open(env, g, &o, &x, &err) == QN_OK);
    qn_code rc = QN_OK;
    for (uint32_t i = 0; i < g->n_inputs && rc == QN_OK; i++) {
        const qn_value *v = &g->values[g->inputs[i]];
        int64_t dims[QN_ARRAY_RANK_MAX] = {0};
        const unsigned rank = v->dims ? v->rank : 1;
        for (unsigned k = 0; k < rank; k++)
            dims[k] = v->dims && v->dims[k] >= 0 ? v->dims[k] : 2;
        rc = qn_exec_new(x, &in[i], v->dtype == QN_BYTES ? QN_F32 : (qn_dtype)v->dtype, dims, rank, &err);
        for (uint64_t b = 0; rc == QN_OK && b < qn_array_bytes(&in[i]); b++)
            ((uint8_t *)in[i].data)[b] = v->dtype == QN_BOOL ? b & 1 : b % 4 == 3 ? 0x3f : (uint8_t)(b * 37);
    }
    if (rc == QN_OK)
        rc = qn_exec_run(x, in, out, &err);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0]));
    QF_CHECK(rc != QN_E_BUG && qn_exec_peak_bytes(x) <= MEMORY);
    for (unsigned i = 0; i < OPERANDS; i++) {
        qn_array_release(&in[i]);
        qn_array_release(&out[i]);
    }
    qn_exec_close(x);
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
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    qn_err_clear(&err);
    if (qn_source_open(&env, "m.onnx", &s, &err) == QN_OK) {
        qn_graph *g;
        if (!strcmp(s->ops->format, "onnx")) {
            qn_err_clear(&err);
            const qn_code rc = qn_graph_of_onnx(&env, s, &g, &err);
            QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED || rc == QN_E_MEMORY);
            QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
            if (rc == QN_OK) {
                check_graph(g);
                run(&env, g);
                qn_graph_close(g);
            }
        }
        qn_source_close(s);
    }
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    qt_buf_free(&file);
    return 0;
}

/* One float input x (2, 3), integers in initializers, one node, output y. */
static void one(qt_buf *b, const char *node, const char *more)
{
    char text[2048];
    snprintf(text, sizeof text, "#1=8 @8{#2=13} @7{@1{%s @2{'y'}} %s @11{@1{'x'} @2{@1{#1=1 @2{@1{#1=2} @1{#1=3}}}}} @12{@1{'y'}}}", node, more);
    qt_add_proto(b, text, NULL);
}

#define INTS1(name, v) "@5{#1=1 #2=7 #7=" v " @8{'" name "'}}"
#define INTS2(name, v, w) "@5{#1=2 #2=7 #7=" v " #7=" w " @8{'" name "'}}"

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[][2] = {
        {"@1{'x'} @4{'Relu'}", ""},
        {"@1{'x'} @1{'x'} @4{'Add'}", ""},
        {"@1{'x'} @1{'s'} @4{'Reshape'}", INTS2("s", "-1", "2")},
        {"@1{'x'} @1{'a'} @1{'b'} @1{'c'} @1{'d'} @4{'Slice'}", INTS1("a", "2") INTS1("b", "-9") INTS1("c", "1") INTS1("d", "-1")},
        {"@1{'x'} @1{'i'} @4{'Gather'} @5{@1{'axis'} #3=1 #20=2}", INTS2("i", "-1", "0")},
        {"@1{'x'} @1{'p'} @4{'Pad'} @5{@1{'mode'} @4{'reflect'} #20=3}", "@5{#1=4 #2=7 #7=1 #7=1 #7=0 #7=2 @8{'p'}}"},
        {"@1{'x'} @1{'r'} @4{'Tile'}", INTS2("r", "2", "3")},
        {"@1{'x'} @1{'e'} @4{'Expand'}", "@5{#1=3 #2=7 #7=2 #7=2 #7=3 @8{'e'}}"},
        {"@1{'x'} @1{'k'} @4{'TopK'} @2{'z'}", INTS1("k", "2")},
        {"@1{'x'} @4{'ReduceSum'} @5{@1{'keepdims'} #3=0 #20=2} @1{'a'}", INTS1("a", "1")},
        {"@1{'x'} @4{'Transpose'} @5{@1{'perm'} #8=1 #8=0 #20=7}", ""},
        {"@1{'x'} @1{'a'} @4{'Unsqueeze'}", INTS1("a", "1")},
        {"@1{'x'} @1{'i'} @1{'x'} @4{'ScatterND'}", "@5{#1=2 #1=1 #2=7 #7=1 #7=0 @8{'i'}}"},
        {"@1{'x'} @4{'Unique'} @5{@1{'axis'} #3=1 #20=2}", ""},
        {"@1{'x'} @4{'Split'} @2{'z'} @5{@1{'axis'} #3=1 #20=2} @1{'s'}", INTS2("s", "1", "2")},
        {"@1{'x'} @1{'x'} @4{'Concat'} @5{@1{'axis'} #3=0 #20=2}", ""},
        {"@1{'s'} @4{'ConstantOfShape'} @5{@1{'value'} #20=4 @5{#1=1 #2=7 #7=9}}", INTS2("s", "2", "4")},
        {"@1{'a'} @1{'b'} @1{'d'} @4{'Range'}", "@5{#2=7 #7=1 @8{'a'}} @5{#2=7 #7=9 @8{'b'}} @5{#2=7 #7=3 @8{'d'}}"},
        {"@1{'x'} @1{'w'} @4{'MatMul'}", "@5{#1=3 #1=2 #2=1 @9{z24} @8{'w'}}"},
        {"@1{'x'} @1{'w'} @4{'Gemm'} @5{@1{'transB'} #3=1 #20=2}", "@5{#1=2 #1=3 #2=1 @9{z24} @8{'w'}}"},
        {"@1{'x'} @1{'x'} @4{'Einsum'} @5{@1{'equation'} @4{'ij,kj->ik'} #20=3}", ""},
        {"@1{'x'} @4{'Softmax'}", ""},
        {"@1{'x'} @4{'Cast'} @5{@1{'to'} #3=10 #20=2}", ""},
        {"@1{'x'} @4{'Unknown'} @7{'some.where'}", ""},
        {"@1{'c'} @4{'If'} @5{@1{'then_branch'} #20=5 @6{@1{@1{'x'} @2{'t'} @4{'Neg'}} @12{@1{'t'}}}} @5{@1{'else_branch'} #20=5 @6{@12{@1{'x'}}}}",
         "@5{#2=9 #5=1 @8{'c'}}"},
        {"@1{'m'} @1{} @1{'x'} @4{'Loop'} @5{@1{'body'} #20=5 @6{@1{@1{'v'} @1{'x'} @2{'w'} @4{'Add'}} @11{@1{'i'}} @11{@1{'c'}} @11{@1{'v'}} "
         "@12{@1{'c'}} @12{@1{'w'}}}}", "@5{#2=7 #7=3 @8{'m'}}"},
        {"@1{'x'} @4{'Shape'}", ""},
        {"@1{'x'} @1{'q'} @1{'z'} @4{'QuantizeLinear'}", "@5{#2=1 %4=1065353216 @8{'q'}} @5{#2=2 #5=3 @8{'z'}}"},
        {"@1{'p'} @1{'q'} @4{'DequantizeLinear'}", "@5{#1=4 #2=22 @9{01 f7} @8{'p'}} @5{#2=1 %4=1065353216 @8{'q'}}"},
    };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        qt_buf b = {0};
        one(&b, seeds[i][0], seeds[i][1]);
        emit(ctx, b.p, b.n);
        qt_buf_free(&b);
    }
    /* Shapes that the model works out; a function; images. */
    static const char *const whole[] = {
        "#1=8 @8{#2=13} @7{@1{@1{'x'} @2{'s'} @4{'Shape'}} @1{@1{'s'} @1{'i'} @2{'n'} @4{'Gather'}} @1{@1{'n'} @1{'z'} @2{'n1'} @4{'Unsqueeze'}}"
        "@1{@1{'n1'} @1{'m'} @2{'t'} @4{'Concat'} @5{@1{'axis'} #3=0 #20=2}} @1{@1{'x'} @1{'t'} @2{'y'} @4{'Reshape'}}"
        "@5{#2=7 #7=0 @8{'i'}} @5{#1=1 #2=7 #7=0 @8{'z'}} @5{#1=1 #2=7 #7=-1 @8{'m'}}"
        "@11{@1{'x'} @2{@1{#1=1 @2{@1{@2{'N'}} @1{#1=3} @1{#1=2}}}}} @12{@1{'y'}}}",
        "#1=8 @8{#2=13} @8{@1{'f'} #2=1} @7{@1{@1{'x'} @2{'y'} @3{'call'} @4{'fn'} @7{'f'} @5{@1{'a'} %2=1 #20=1}} @11{@1{'x'} @2{@1{#1=1 @2{@1{#1=4}}}}} "
        "@12{@1{'y'}}} @25{@1{'fn'} @4{'p'} @5{'q'} @6{'a'} @7{@1{'p'} @2{'q'} @4{'LeakyRelu'} @5{@1{'alpha'} @21{'a'} #20=1}} @9{#2=13} @10{'f'}}",
        "#1=8 @8{#2=13} @7{@1{@1{'x'} @1{'w'} @2{'c'} @4{'Conv'} @5{@1{'pads'} #8=1 #8=1 #8=1 #8=1 #20=7} @5{@1{'strides'} #8=1 #8=2 #20=7}}"
        "@1{@1{'c'} @2{'y'} @4{'MaxPool'} @5{@1{'kernel_shape'} #8=2 #8=2 #20=7}}"
        "@5{#1=2 #1=1 #1=3 #1=3 #2=1 @9{z72} @8{'w'}} @11{@1{'x'} @2{@1{#1=1 @2{@1{#1=1} @1{#1=1} @1{#1=4} @1{#1=5}}}}} @12{@1{'y'}}}",
    };
    qf_emit_built(emit, ctx, qt_add_proto, whole, sizeof whole / sizeof whole[0]);
}
