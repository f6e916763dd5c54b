/* fuzz_onnx_rewrite.c: a file as an ONNX model, written again with edits that its bytes choose: tensors of other shapes, nodes gone or changed, tensors
 * added, data moved out. What our reader has taken, it must take again, with the new content in it; without edits the bytes are the same. */
#include "base/io_mem.h"
#include "base/num.h"
#include "formats/onnx/rewrite.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds.h"
#include "tests/support/proto.h"
#include <string.h>

enum { EDITS_MAX = 8, DIM_MAX = 40 };

static const uint8_t beside[64] = "data of a file that the model may name";

static uint64_t state;

static uint64_t next(uint64_t n)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % n;
}

static qn_code content(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    (void)ctx;
    (void)err;
    for (uint64_t i = 0; i < n; i++)
        ((uint8_t *)dst)[i] = (uint8_t)(id * 7 + off + i);
    return QN_OK;
}

struct edits {
    qn_onnx_edits e;
    qn_onnx_new_tensor tensors[EDITS_MAX];
    qn_onnx_new_node nodes[EDITS_MAX];
    qn_onnx_add_tensor added;
    uint64_t dims[EDITS_MAX + 1][3];
    const char *dropped[1];
};

static void pick_dims(uint64_t dims[3], uint8_t *rank)
{
    *rank = (uint8_t)next(4);
    for (unsigned k = 0; k < *rank; k++)
        dims[k] = next(DIM_MAX);
}

/* n of m things, in order: each is taken with equal chance as long as there is room. */
static bool taken(uint32_t n_taken)
{
    return n_taken < EDITS_MAX && next(3) == 0;
}

static void choose(struct edits *x, const qn_onnx_model *m)
{
    static const char *const names[] = {"a", "", "other"};
    static const int64_t ints[] = {-1, 7, INT64_MAX};
    static const qn_onnx_new_attr attrs[] = {{.name = "axis", .ints = ints, .n = QN_ONNX_ONE_INT}, {.name = "pads", .ints = ints, .n = 3},
                                             {.name = "f", .f = 1, .n = QN_ONNX_ONE_FLOAT}};
    static const char *const drop[] = {"value", "axis"};
    static const qn_onnx_pair prop = {.key = "k", .value = "a new value"};
    memset(x, 0, sizeof *x);
    x->e = (qn_onnx_edits){.tensors = x->tensors, .nodes = x->nodes, .added = &x->added, .drop_initializers = x->dropped, .props = &prop,
                           .n_props = (uint32_t)next(2), .drop_value_info = next(2), .read = content};
    for (uint64_t i = 0; i < m->n_weights; i++) {
        const qn_onnx_tensor *t = m->weights[i].tensor;
        if (qn_onnx_dtype_get(t->data_type)->bits == 0 || !taken(x->e.n_tensors))
            continue;
        qn_onnx_new_tensor *n = &x->tensors[x->e.n_tensors];
        *n = (qn_onnx_new_tensor){.tensor = t, .dims = x->dims[x->e.n_tensors], .id = x->e.n_tensors};
        pick_dims(x->dims[x->e.n_tensors++], &n->rank);
    }
    for (uint32_t i = 0; i < m->graph->n_nodes; i++) {
        if (!taken(x->e.n_nodes))
            continue;
        /* a Constant that goes takes its tensor with it, and that may have new content: only others go */
        qn_onnx_new_node *n = &x->nodes[x->e.n_nodes++];
        *n = (qn_onnx_new_node){.node = &m->graph->nodes[i], .remove = next(4) == 0 && m->graph->nodes[i].n_attrs == 0};
        n->inputs = next(2) ? names : NULL;
        n->n_inputs = n->inputs ? (uint32_t)next(4) : 0;
        n->op_type = next(3) ? NULL : "Else";
        n->attrs = attrs;
        n->n_attrs = m->graph->nodes[i].n_attrs ? 0 : (uint32_t)next(4);
        n->drop_attrs = drop;
        n->n_drop_attrs = m->graph->nodes[i].n_attrs ? 0 : (uint32_t)next(3);
    }
    x->added = (qn_onnx_add_tensor){.name = "a name that nothing has", .dims = x->dims[EDITS_MAX], .data_type = QN_ONNX_FLOAT, .id = EDITS_MAX};
    x->e.n_added = (uint32_t)next(2);
    pick_dims(x->dims[EDITS_MAX], &x->added.rank);
}

static void check_tensor(const qn_onnx_new_tensor *t, qn_source *s, const char *name)
{
    qn_err err = {0};
    const uint64_t i = qn_source_tensor_find(s, name);
    if (i == UINT64_MAX) /* complex numbers are not listed */
        return;
    uint8_t *p = malloc((size_t)s->tensors[i].n_bytes + 1);
    QF_CHECK(p && qn_source_tensor_read(s, i, 0, s->tensors[i].n_bytes, p, &err) == QN_OK);
    for (uint64_t k = 0; k < s->tensors[i].n_bytes; k++)
        QF_CHECK(p[k] == (uint8_t)(t->id * 7 + k));
    free(p);
}

static const char *name_of(const qn_onnx_model *m, const qn_onnx_tensor *t)
{
    for (uint64_t i = 0; i < m->n_weights; i++)
        if (m->weights[i].tensor == t)
            return m->weights[i].name;
    return "";
}

static void again(const qn_env *env, qn_memfs *fs, qn_source *s, const uint8_t *file, size_t n_file)
{
    const qn_onnx_model *m = qn_onnx_source_model(s);
    struct edits x;
    const bool none = next(4) == 0;
    const qn_onnx_rewrite_options o = {.external_bytes = next(2) ? 0 : 1 + next(64), .overwrite = true};
    qn_err err = {0};
    qn_source *t;
    choose(&x, m);
    const qn_onnx_edits nothing = {0};
    const qn_code rc = qn_onnx_rewrite(env, s, none ? &nothing : &x.e, "out.onnx", &o, &err);
    QF_CHECK(rc == QN_OK || (rc == QN_E_UNSUPPORTED && err.text[0]));
    QF_CHECK(!qn_memfs_get(fs, "out.onnx.quern-export", &(size_t){0}) && !qn_memfs_get(fs, "out.onnx.data.quern-export", &(size_t){0}));
    if (rc != QN_OK)
        return;
    QF_CHECK(qn_source_open(env, "out.onnx", &t, &err) == QN_OK);
    if (none && s->n_files == 1 && !o.external_bytes) {
        size_t n;
        const uint8_t *p = qn_memfs_get(fs, "out.onnx", &n);
        QF_CHECK(n == n_file && memcmp(p, file, n) == 0);
    }
    for (uint32_t i = 0; !none && i < x.e.n_tensors; i++)
        check_tensor(&x.tensors[i], t, name_of(m, x.tensors[i].tensor));
    qn_source_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_counter c;
    qn_err err = {0};
    qn_source *s;
    qn_memfs *fs = qn_memfs_new();
    QF_CHECK(fs && qn_memfs_put(fs, "m.onnx", p, n) == 0 && qn_memfs_put(fs, "d", beside, sizeof beside) == 0);
    qt_counter_init(&c);
    qn_env env = qt_env(NULL, &c);
    env.fs = qn_memfs_fs(fs);
    state = n;
    for (size_t i = 0; i < n; i++)
        state = state * 31 + p[i];
    if (qn_source_open(&env, "m.onnx", &s, &err) == QN_OK) {
        if (!strcmp(s->ops->format, "onnx"))
            again(&env, fs, s, p, n);
        qn_source_close(s);
    }
    QF_CHECK(c.n_live == 0 && qn_memfs_n_open(fs) == 0);
    qn_memfs_free(fs);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[] = {
        "#1=8 @8{#2=13} @7{}",
        "#1=8 @8{#2=13} @2{'p'} @14{@1{'k'} @2{'v'}} @7{@5{#1=2 #2=1 @8{'w'} @9{z8}} @5{#1=3 #2=7 @8{'i'} @7{01 ac02} #7=5}}",
        "#1=3 @7{@5{#1=2 #2=10 @8{'h'} @5{8078 00}} @5{#1=3 #2=22 @8{'q'} @5{8f01 03}} @11{@1{'h'} @2{@1{#1=10}}} @11{@1{'x'}} @13{@1{'v'}}}",
        "#1=8 @7{@1{@2{'c'} @4{'Constant'} @5{@1{'value'} #20=4 @5{@1{02} #2=1 %4=1 @4{z4}}}}"
        "@1{@3{'if'} @4{'If'} @5{@1{'then_branch'} @6{@5{#2=9 @8{'w'} #5=1}}} @5{@1{'else_branch'} @6{@5{#2=9 @8{'w'} #5=1}}}}}",
        "#1=8 @7{@11{@1{'x'} @2{@1{#1=1 @2{@1{@2{'N'}} @1{#1=3}}}}} @12{@1{'y'} @2{@4{@1{@1{#1=7}}}}}"
        "@1{@1{'x'} @2{'a'} @4{'Relu'}} @1{@1{'a'} @2{'y'} @4{'Neg'} @99{'unknown'}} #77=5}",
        "#1=8 @7{@5{#1=2 #2=1 @8{'a'} #14=1 @13{@1{'location'} @2{'d'}} @13{@1{'offset'} @2{'8'}} @13{@1{'length'} @2{'8'}}}"
        "@5{#1=12 #2=1 @8{'b'} #14=1 @13{@1{'location'} @2{'d'}} @13{@1{'offset'} @2{'16'}}}}",
        "#1=10 @7{@5{#1=600 #2=1 @8{'big'} @9{z2400}} @5{#1=2 #2=8 @8{'s'} @6{'ab'} @6{'c'}}} @25{@1{'fn'} @4{'a'} @5{'b'} @6{'alpha'} @9{#2=13} "
        "@7{@2{'c'} @4{'Constant'} @5{@1{'value'} @5{#2=2 #5=7}}}}",
    };
    qf_emit_built(emit, ctx, qt_add_proto, seeds, sizeof seeds / sizeof seeds[0]);
}
