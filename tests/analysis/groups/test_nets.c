/* test_nets.c: networks of ONNX operators whose families are known by hand: what is found, and that zeroed is sliced. */
#include "tests/support/net_made.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define OP(n, type, in, out, ...)                                                             \
    do {                                                                                      \
        const qn_attr attrs_[] = {{.name = NULL}, __VA_ARGS__};                               \
        qt_net_op(n, type, in, out, attrs_ + 1, sizeof attrs_ / sizeof attrs_[0] - 1);        \
    } while (0)
#define INTS(n, name, ...) qt_net_ints(n, name, sizeof((const int64_t[]){__VA_ARGS__}) / 8, (const int64_t[]){__VA_ARGS__})
#define PADS1 QT_INTS("pads", 1, 1, 1, 1)

/* What is expected of a family. */
struct want {
    const char *name;
    unsigned groups;
    bool exact;
};

static qn_groups *find(qt_net *n, const qn_groups_options *o)
{
    qn_err err = {0};
    qn_groups *s;
    cr_assert_eq(qn_groups_find(qt_made_env(1), n->graph ? n->graph : qt_net_graph(n), o, &s, &err), QN_OK, "%s", err.text);
    return s;
}

static void show(const qn_groups *s)
{
    for (uint32_t i = 0; i < s->n_families; i++)
        fprintf(stderr, "# family %s (%s): %u groups, %s\n", s->families[i].name, s->families[i].kind, s->families[i].n_groups,
                s->families[i].reason ? s->families[i].reason : "exact");
    for (uint32_t i = 0; i < s->n_frozen; i++)
        fprintf(stderr, "# frozen %s: %lu of %lu, %s\n", s->frozen[i].value == QN_NO_VALUE ? "-" : s->graph->values[s->frozen[i].value].name,
                (unsigned long)s->frozen[i].n, (unsigned long)s->frozen[i].of, s->frozen[i].reason);
}

/* A quarter, half, three quarters of the exact groups go; something must have moved by it, or the check says nothing. */
static void check(qt_net *n, const qn_groups_options *o)
{
    for (unsigned k = 1; k < 4; k++) {
        const qt_net_result r = qt_net_check(n, o, 0.25 * k);
        cr_expect(!r.n_cut || r.moved > 1e-3, "%llu groups went and nothing moved", (unsigned long long)r.n_cut);
    }
}

/* Inexact ones are listed. Then half of the exact groups go, several times over. */
static void expect(qt_net *n, const struct want *w, unsigned n_want)
{
    qn_groups *s = find(n, &(qn_groups_options){.inexact = true});
    if (s->n_families != n_want)
        show(s);
    cr_expect_eq(s->n_families, n_want, "%u families", s->n_families);
    for (unsigned i = 0; i < n_want; i++) {
        unsigned groups = 0;
        bool exact = true;
        for (uint32_t f = 0; f < s->n_families; f++)
            if (!strcmp(s->families[f].name, w[i].name)) {
                groups = s->families[f].n_groups;
                exact = !s->families[f].reason;
            }
        if (groups != w[i].groups || exact != w[i].exact)
            show(s);
        cr_expect_eq(groups, w[i].groups, "family %s has %u groups, not %u", w[i].name, groups, w[i].groups);
        cr_expect_eq(exact, w[i].exact, "family %s", w[i].name);
    }
    qn_groups_free(s);
    check(n, NULL);
}

#define EXPECT(n, ...) expect(n, (const struct want[]){__VA_ARGS__}, sizeof((const struct want[]){__VA_ARGS__}) / sizeof(struct want))

Test(groups, mlp)
{
    qt_net *n = qt_net_new(1);
    qt_net_input(n, "x", 2, 3, 7);
    qt_net_weight(n, "w1", 2, 10, 7);
    qt_net_weight(n, "b1", 1, 10);
    qt_net_weight(n, "w2", 2, 10, 8);
    qt_net_weight(n, "b2", 1, 8);
    qt_net_weight(n, "w3", 2, 8, 4);
    OP(n, "Gemm", "x w1 b1", "h1", QT_I("transB", 1));
    OP(n, "Sigmoid", "h1", "a1");
    OP(n, "MatMul", "a1 w2", "m2");
    OP(n, "Add", "b2 m2", "h2");
    OP(n, "Relu", "h2", "a2");
    OP(n, "MatMul", "a2 w3", "y");
    qt_net_output(n, "y");
    qn_groups *s = find(n, NULL);
    /* Hand count: h1 has 7 + 1 + 8 of the weights and 3 · (7 + 8) products; h2 has 10 + 1 + 4 and 3 · (10 + 4). */
    cr_assert_eq(s->n_families, 2);
    cr_expect_str_eq(s->families[0].name, "w1");
    cr_expect_eq(s->families[0].params_each, 16u);
    cr_expect_float_eq(s->families[0].macs_each, 45, 1e-9);
    cr_expect_eq(s->families[1].params_each, 15u);
    cr_expect_float_eq(s->families[1].macs_each, 42, 1e-9);
    cr_expect_eq(s->params, 70u + 10 + 80 + 8 + 32);
    cr_expect_float_eq(s->macs, 3 * (70 + 80 + 32), 1e-9);
    cr_expect_eq(s->n_channels, 22u);
    cr_expect_eq(s->n_free, 18u);
    cr_expect_eq(s->n_outputs, 4u);
    cr_expect_str_eq(s->families[0].kind, "units");
    cr_assert_eq(s->families[0].n_consumers, 1);
    const qn_consumer *c = &s->families[0].consumers[0];
    cr_expect_str_eq(n->graph->values[c->weight].name, "w2");
    cr_expect_str_eq(n->graph->values[c->bias].name, "b2");
    cr_expect(c->tapped);
    cr_expect_eq(c->per_index, 1);
    cr_expect_eq(s->families[0].members[c->member].value, c->weight);
    cr_expect_eq(s->families[0].members[c->member].axis, 0);
    cr_expect_eq(s->families[0].members[c->member].role, QN_MEMBER_CONSUMER);
    cr_expect_eq(s->families[1].consumers[0].bias, QN_NO_VALUE);
    qn_groups_free(s);
    EXPECT(n, {"w1", 10, true}, {"w2", 8, true});
    qt_net_free(n);
}

/* Two convolutions added: one width; depthwise goes along; pooling, batch norm, flatten with 4 columns a channel. */
Test(groups, residual_depthwise_flatten)
{
    qt_net *n = qt_net_new(2);
    qt_net_input(n, "x", 4, 2, 3, 8, 8);
    qt_net_weight(n, "stem", 4, 6, 3, 3, 3);
    qt_net_weight(n, "scale", 1, 6);
    qt_net_weight(n, "shift", 1, 6);
    qt_net_weight(n, "mean", 1, 6);
    qt_net_weight(n, "var", 1, 6);
    qt_net_weight(n, "dw", 4, 6, 1, 3, 3);
    qt_net_weight(n, "dwb", 1, 6);
    qt_net_weight(n, "up", 4, 10, 6, 1, 1);
    qt_net_weight(n, "down", 4, 6, 10, 1, 1);
    qt_net_weight(n, "fc", 2, 5, 24);
    OP(n, "Conv", "x stem", "c1", PADS1);
    OP(n, "BatchNormalization", "c1 scale shift mean var", "n1");
    OP(n, "Relu", "n1", "r1");
    OP(n, "Conv", "r1 dw dwb", "c2", PADS1, QT_I("group", 6));
    OP(n, "Conv", "c2 up", "c3");
    OP(n, "HardSwish", "c3", "r3");
    OP(n, "Conv", "r3 down", "c4");
    OP(n, "Add", "c4 r1", "s");
    OP(n, "MaxPool", "s", "p", QT_INTS("kernel_shape", 4, 4), QT_INTS("strides", 4, 4));
    OP(n, "Flatten", "p", "f");
    OP(n, "Gemm", "f fc", "y", QT_I("transB", 1));
    qt_net_output(n, "y");
    qn_groups *s = find(n, NULL);
    const qn_family *f = qt_net_family(s, "stem");
    cr_expect_eq(qt_net_holds(s, f, "stem", 0), 1u);
    cr_expect_eq(qt_net_holds(s, f, "scale", 0), 1u);
    cr_expect_eq(qt_net_holds(s, f, "var", 0), 1u);
    cr_expect_eq(qt_net_holds(s, f, "dw", 0), 1u);
    cr_expect_eq(qt_net_holds(s, f, "dwb", 0), 1u);
    cr_expect_eq(qt_net_holds(s, f, "up", 1), 1u);
    cr_expect_eq(qt_net_holds(s, f, "down", 0), 1u);
    cr_expect_eq(qt_net_holds(s, f, "fc", 1), 4u);
    cr_expect_eq(f->n_consumers, 2); /* up, fc; not the depthwise one */
    /* 27 stem + 4 bn + 9 + 1 depthwise + 10 up + 10 down + 20 fc */
    cr_expect_eq(f->params_each, 81u);
    qn_groups_free(s);
    EXPECT(n, {"stem", 6, true}, {"up", 10, true});
    qt_net_free(n);
}

Test(groups, concat_split_squeeze_excite)
{
    qt_net *n = qt_net_new(3);
    qt_net_input(n, "x", 4, 1, 2, 6, 6);
    qt_net_weight(n, "a", 4, 4, 2, 3, 3);
    qt_net_weight(n, "b", 4, 6, 2, 1, 1);
    qt_net_weight(n, "se1", 4, 5, 10, 1, 1);
    qt_net_weight(n, "se2", 4, 10, 5, 1, 1);
    qt_net_weight(n, "u", 4, 3, 4, 1, 1);
    qt_net_weight(n, "v", 4, 3, 6, 1, 1);
    INTS(n, "sizes", 4, 6);
    OP(n, "Conv", "x a", "ca", PADS1);
    OP(n, "Conv", "x b", "cb");
    OP(n, "Concat", "ca cb", "cat", QT_I("axis", 1));
    OP(n, "GlobalAveragePool", "cat", "gap");
    OP(n, "Conv", "gap se1", "e1");
    OP(n, "Relu", "e1", "e2");
    OP(n, "Conv", "e2 se2", "e3");
    OP(n, "HardSigmoid", "e3", "e4");
    OP(n, "Mul", "cat e4", "m");
    OP(n, "Split", "m sizes", "p q", QT_I("axis", 1));
    OP(n, "Conv", "p u", "y1");
    OP(n, "Conv", "q v", "y2");
    qt_net_output(n, "y1");
    qt_net_output(n, "y2");
    EXPECT(n, {"a", 4, true}, {"b", 6, true}, {"se1", 5, true});
    qt_net_free(n);
}

/* Grouped: 2 groups of 3 channels: the same one of each (3 groups of 2); 4 groups of 2: whole groups. */
Test(groups, grouped_convolution)
{
    qt_net *n = qt_net_new(4);
    qt_net_input(n, "x", 4, 1, 2, 5, 5);
    qt_net_weight(n, "a", 4, 6, 2, 1, 1);
    qt_net_weight(n, "g", 4, 8, 3, 3, 3);
    qt_net_weight(n, "gb", 1, 8);
    qt_net_weight(n, "h", 4, 12, 2, 1, 1);
    qt_net_weight(n, "o", 4, 3, 12, 1, 1);
    OP(n, "Conv", "x a", "ca");
    OP(n, "Tanh", "ca", "ta");
    OP(n, "Conv", "ta g gb", "cg", QT_I("group", 2), PADS1);
    OP(n, "Tanh", "cg", "tg");
    OP(n, "Conv", "tg h", "ch", QT_I("group", 4));
    OP(n, "Conv", "ch o", "y");
    qt_net_output(n, "y");
    /* ta: 3; tg: mod 4 ties {i, i + 4}, runs of 2 ties {2 i, 2 i + 1}: {0 1 4 5} and {2 3 6 7}, each with 2 · 3 outputs. */
    EXPECT(n, {"a", 3, true}, {"g", 2, true});
    qt_net_free(n);
}

Test(groups, shuffle)
{
    qt_net *n = qt_net_new(5);
    qt_net_input(n, "x", 4, 1, 2, 4, 4);
    qt_net_weight(n, "a", 4, 12, 2, 1, 1);
    qt_net_weight(n, "g", 4, 12, 4, 1, 1);
    qt_net_weight(n, "o", 4, 3, 12, 1, 1);
    INTS(n, "five", 1, 3, 4, 4, 4);
    INTS(n, "four", 1, 12, 4, 4);
    OP(n, "Conv", "x a", "ca");
    OP(n, "Conv", "ca g", "cg", QT_I("group", 3));
    OP(n, "Reshape", "cg five", "r1");
    OP(n, "Transpose", "r1", "t", QT_INTS("perm", 0, 2, 1, 3, 4));
    OP(n, "Reshape", "t four", "r2");
    OP(n, "Conv", "r2 o", "y");
    qt_net_output(n, "y");
    qn_groups *s = find(n, NULL);
    cr_expect_eq(s->n_free, s->n_channels - s->n_outputs);
    qn_groups_free(s);
    check(n, NULL);
    qt_net_free(n);
}

/* Heads from reshape and transpose; softmax over tokens; MLP with gelu; LayerNorm: the stream is inexact. */
Test(groups, vit_block)
{
    qt_net *n = qt_net_new(6);
    qt_net_input(n, "x", 3, 2, 5, 7);
    qt_net_weight(n, "in", 2, 7, 12);
    qt_net_weight(n, "lnw", 1, 12);
    qt_net_weight(n, "lnb", 1, 12);
    qt_net_weight(n, "wqkv", 2, 12, 36);
    qt_net_weight(n, "bqkv", 1, 36);
    qt_net_weight(n, "wo", 2, 12, 12);
    qt_net_weight(n, "m1", 2, 12, 20);
    qt_net_weight(n, "m2", 2, 20, 12);
    qt_net_weight(n, "out", 2, 12, 3);
    INTS(n, "five", 2, 5, 3, 3, 4);
    INTS(n, "three", 2, 5, 12);
    INTS(n, "zero", 0);
    INTS(n, "one", 1);
    INTS(n, "two", 2);
    INTS(n, "first", 0);
    OP(n, "MatMul", "x in", "h0");
    OP(n, "LayerNormalization", "h0 lnw lnb", "l1");
    OP(n, "MatMul", "l1 wqkv", "qkv0");
    OP(n, "Add", "qkv0 bqkv", "qkv1");
    OP(n, "Reshape", "qkv1 five", "qkv2");
    OP(n, "Transpose", "qkv2", "qkv3", QT_INTS("perm", 2, 0, 3, 1, 4));
    OP(n, "Gather", "qkv3 zero", "q1", QT_I("axis", 0));
    OP(n, "Gather", "qkv3 one", "k1", QT_I("axis", 0));
    OP(n, "Gather", "qkv3 two", "v1", QT_I("axis", 0));
    OP(n, "Squeeze", "q1 first", "q");
    OP(n, "Squeeze", "k1 first", "k");
    OP(n, "Squeeze", "v1 first", "v");
    OP(n, "Transpose", "k", "kt", QT_INTS("perm", 0, 1, 3, 2));
    OP(n, "MatMul", "q kt", "sc");
    OP(n, "Softmax", "sc", "pr", QT_I("axis", -1));
    OP(n, "MatMul", "pr v", "ctx");
    OP(n, "Transpose", "ctx", "ctx2", QT_INTS("perm", 0, 2, 1, 3));
    OP(n, "Reshape", "ctx2 three", "ctx3");
    OP(n, "MatMul", "ctx3 wo", "att");
    OP(n, "Add", "att h0", "h1");
    OP(n, "MatMul", "h1 m1", "u");
    OP(n, "Gelu", "u", "g");
    OP(n, "MatMul", "g m2", "d");
    OP(n, "Add", "h1 d", "h2");
    OP(n, "MatMul", "h2 out", "y");
    qt_net_output(n, "y");
    qn_groups *s = find(n, NULL);
    const qn_family *f = qt_net_family(s, "wqkv");
    cr_assert(f != NULL);
    cr_expect_str_eq(f->kind, "heads");
    cr_expect_eq(f->n_groups, 3u);
    cr_expect_eq(qt_net_holds(s, f, "wqkv", 1), 12u);
    cr_expect_eq(qt_net_holds(s, f, "bqkv", 0), 12u);
    cr_expect_eq(qt_net_holds(s, f, "wo", 0), 4u);
    cr_expect_eq(f->members[0].index[0], 0u);
    qn_groups_free(s);
    EXPECT(n, {"in", 12, false}, {"wqkv", 3, true}, {"m1", 20, true});
    /* Sizes in place of heads: q and k pairs give products of things that are 0, v as well: exact. */
    const qn_groups_options inner = {.inner = true};
    s = find(n, &inner);
    f = qt_net_family(s, "wqkv");
    cr_assert(f != NULL);
    cr_expect_eq(f->n_groups, 4u);
    cr_expect_eq(qt_net_holds(s, f, "wo", 0), 3u);
    qn_groups_free(s);
    check(n, &inner);
    qt_net_free(n);
}

static const char *with(char letter, const char *text)
{
    static char room[8][64];
    static unsigned at;
    char *t = room[at++ % 8];
    snprintf(t, 64, "%s", text);
    for (char *c = t; *c; c++)
        if (*c == '@')
            *c = letter;
    return t;
}

static void repeat_heads(qt_net *n, char c)
{
    OP(n, "Reshape", with(c, "@0 ks"), with(c, "@1"));
    OP(n, "Transpose", with(c, "@1"), with(c, "@2"), QT_INTS("perm", 0, 2, 1, 3));
    OP(n, "Unsqueeze", with(c, "@2 axis2"), with(c, "@3"));
    OP(n, "Expand", with(c, "@3 big"), with(c, "@4"));
    OP(n, "Reshape", with(c, "@4 rep"), with(c, "@"));
}

/* Keys shared by two query heads each, repeated by Expand. */
Test(groups, grouped_queries)
{
    qt_net *n = qt_net_new(7);
    qt_net_input(n, "x", 3, 1, 5, 7);
    qt_net_weight(n, "wq", 2, 7, 24);
    qt_net_weight(n, "wk", 2, 7, 12);
    qt_net_weight(n, "wv", 2, 7, 12);
    qt_net_weight(n, "wo", 2, 24, 3);
    INTS(n, "qs", 1, 5, 6, 4);
    INTS(n, "ks", 1, 5, 3, 4);
    INTS(n, "axis2", 2);
    INTS(n, "big", 1, 3, 2, 5, 4);
    INTS(n, "rep", 1, 6, 5, 4);
    INTS(n, "flat", 1, 5, 24);
    OP(n, "MatMul", "x wq", "q0");
    OP(n, "Reshape", "q0 qs", "q1");
    OP(n, "Transpose", "q1", "q", QT_INTS("perm", 0, 2, 1, 3));
    OP(n, "MatMul", "x wk", "k0");
    OP(n, "MatMul", "x wv", "v0");
    repeat_heads(n, 'k');
    repeat_heads(n, 'v');
    OP(n, "Transpose", "k", "kt", QT_INTS("perm", 0, 1, 3, 2));
    OP(n, "MatMul", "q kt", "sc");
    OP(n, "Softmax", "sc", "pr", QT_I("axis", -1));
    OP(n, "MatMul", "pr v", "ctx");
    OP(n, "Transpose", "ctx", "ctx2", QT_INTS("perm", 0, 2, 1, 3));
    OP(n, "Reshape", "ctx2 flat", "ctx3");
    OP(n, "MatMul", "ctx3 wo", "y");
    qt_net_output(n, "y");
    qn_groups *s = find(n, NULL);
    const qn_family *f = qt_net_family(s, "wq");
    cr_assert(f != NULL);
    cr_expect_eq(f->n_groups, 3u);
    cr_expect_eq(qt_net_holds(s, f, "wq", 1), 8u);
    cr_expect_eq(qt_net_holds(s, f, "wk", 1), 4u);
    cr_expect_eq(qt_net_holds(s, f, "wv", 1), 4u);
    cr_expect_eq(qt_net_holds(s, f, "wo", 0), 8u);
    qn_groups_free(s);
    EXPECT(n, {"wq", 3, true});
    qt_net_free(n);
}

/* Slices, pads, gathers and tiles of channels; depth to space; a transposed convolution. */
Test(groups, moves)
{
    qt_net *n = qt_net_new(8);
    qt_net_input(n, "x", 4, 1, 2, 4, 4);
    qt_net_weight(n, "a", 4, 8, 2, 1, 1);
    qt_net_weight(n, "b", 4, 5, 2, 1, 1);
    qt_net_weight(n, "c", 4, 4, 8, 1, 1);
    qt_net_weight(n, "d", 4, 4, 3, 2, 2);
    qt_net_weight(n, "e", 4, 2, 3, 1, 1);
    qt_net_weight(n, "f", 4, 3, 8, 1, 1);
    INTS(n, "from", 1);
    INTS(n, "to", 6);
    INTS(n, "axis", 1);
    INTS(n, "pick", 7, 0, 3, 3);
    INTS(n, "pads", 0, 1, 0, 0, 0, 2, 0, 0);
    INTS(n, "times", 1, 2, 1, 1);
    OP(n, "Conv", "x a", "ca");
    OP(n, "Tanh", "ca", "ta");
    OP(n, "Conv", "x b", "cb");
    OP(n, "Slice", "ta from to axis", "sl");
    OP(n, "Add", "sl cb", "sum");
    OP(n, "Pad", "sum pads", "pd");
    OP(n, "Conv", "pd c", "cc");
    OP(n, "ConvTranspose", "cc d", "up", QT_INTS("strides", 2, 2));
    OP(n, "Conv", "up e", "y1");
    OP(n, "Gather", "ta pick", "ga", QT_I("axis", 1));
    OP(n, "Tile", "ga times", "ti");
    OP(n, "Conv", "ti f", "y2");
    qt_net_output(n, "y1");
    qt_net_output(n, "y2");
    qn_groups *s = find(n, NULL);
    cr_expect_eq(s->n_free, s->n_channels - s->n_outputs);
    qn_groups_free(s);
    check(n, NULL);
    qt_net_free(n);
}

Test(groups, depth_to_space)
{
    for (unsigned crd = 0; crd < 2; crd++) {
        qt_net *n = qt_net_new(9);
        qt_net_input(n, "x", 4, 1, 2, 4, 4);
        qt_net_weight(n, "a", 4, 12, 2, 1, 1);
        qt_net_weight(n, "b", 4, 2, 3, 3, 3);
        qt_net_weight(n, "c", 4, 2, 8, 1, 1);
        OP(n, "Conv", "x a", "ca");
        OP(n, "DepthToSpace", "ca", "ds", QT_I("blocksize", 2), QT_S("mode", crd ? "CRD" : "DCR"));
        OP(n, "Conv", "ds b", "y1");
        OP(n, "SpaceToDepth", "y1", "sd", QT_I("blocksize", 2));
        OP(n, "Conv", "sd c", "y");
        qt_net_output(n, "y");
        EXPECT(n, {"a", 3, true}, {"b", 2, true});
        qt_net_free(n);
    }
}

/* Group norm: whole groups; einsum by letters; reductions: a sum is exact, a mean is not, a largest is frozen. */
Test(groups, norms_and_sums)
{
    qt_net *n = qt_net_new(10);
    qt_net_input(n, "x", 4, 1, 2, 4, 4);
    qt_net_weight(n, "a", 4, 12, 2, 1, 1);
    qt_net_weight(n, "gs", 1, 3);
    qt_net_weight(n, "gb", 1, 3);
    qt_net_weight(n, "b", 4, 6, 12, 1, 1);
    qt_net_weight(n, "c", 4, 5, 2, 1, 1);
    qt_net_weight(n, "d", 4, 7, 2, 1, 1);
    qt_net_weight(n, "f", 2, 8, 12);
    qt_net_weight(n, "g", 2, 4, 8);
    INTS(n, "axis", 1);
    OP(n, "Conv", "x a", "ca");
    OP(n, "GroupNormalization", "ca gs gb", "gn", QT_I("num_groups", 3));
    n->nodes[n->n_nodes - 1].version = 18;
    OP(n, "Conv", "gn b", "cb");
    OP(n, "ReduceSum", "cb axis", "y1", QT_I("keepdims", 1));
    OP(n, "Conv", "x c", "cc");
    OP(n, "ReduceMean", "cc", "y2", QT_INTS("axes", 1));
    OP(n, "Conv", "x d", "cd");
    OP(n, "ReduceMax", "cd", "y3", QT_INTS("axes", 1));
    OP(n, "Einsum", "gn f", "ei", QT_S("equation", "bchw,oc->bohw"));
    OP(n, "Einsum", "g ei", "y4", QT_S("equation", "po,bohw->bphw"));
    for (unsigned i = 1; i < 5; i++) {
        char y[4];
        snprintf(y, sizeof y, "y%u", i);
        qt_net_output(n, y);
    }
    EXPECT(n, {"a", 3, true}, {"b", 6, true}, {"c", 5, false}, {"f", 8, true});
    qn_groups *s = find(n, NULL);
    cr_expect_eq(s->n_families, 3, "inexact ones are not listed unless asked for");
    bool max = false, mean = false;
    for (uint32_t i = 0; i < s->n_frozen; i++) {
        max = max || (strstr(s->frozen[i].reason, "ReduceMax") && s->frozen[i].n == 7);
        mean = mean || (strstr(s->frozen[i].reason, "mean") && s->frozen[i].n == 5);
    }
    cr_expect(max && mean);
    qn_groups_free(s);
    qt_net_free(n);
}

/* A sum over what is not 0 where the weights are: sigmoid's 1/2. Division by it. Logarithm. */
Test(groups, zeros_that_are_none)
{
    qt_net *n = qt_net_new(11);
    qt_net_input(n, "x", 2, 3, 7);
    qt_net_weight(n, "a", 2, 7, 6);
    qt_net_weight(n, "b", 2, 7, 5);
    qt_net_weight(n, "c", 2, 7, 4);
    qt_net_weight(n, "d", 2, 7, 4);
    qt_net_weight(n, "e", 2, 4, 2);
    INTS(n, "axis", 1);
    OP(n, "MatMul", "x a", "ma");
    OP(n, "Sigmoid", "ma", "sa");
    OP(n, "ReduceSum", "sa axis", "y1"); /* inexact: a half goes with every unit */
    OP(n, "MatMul", "x b", "mb");
    OP(n, "Tanh", "mb", "tb");
    OP(n, "ReduceSum", "tb axis", "y2");
    OP(n, "MatMul", "x c", "mc");
    OP(n, "MatMul", "x d", "md");
    OP(n, "Div", "mc md", "q"); /* 0 / 0 */
    OP(n, "MatMul", "q e", "y3");
    for (unsigned i = 1; i < 4; i++) {
        char y[4];
        snprintf(y, sizeof y, "y%u", i);
        qt_net_output(n, y);
    }
    EXPECT(n, {"a", 6, false}, {"b", 5, true});
    qt_net_free(n);
}

/* Read by two nodes: the same channels. A weight that is a transposed tensor; a bias that is added later. */
Test(groups, shared_and_transposed)
{
    qt_net *n = qt_net_new(12);
    qt_net_input(n, "x", 2, 3, 7);
    qt_net_input(n, "z", 2, 3, 7);
    qt_net_weight(n, "w", 2, 9, 7);
    qt_net_weight(n, "v", 2, 4, 9);
    OP(n, "Transpose", "w", "wt", QT_INTS("perm", 1, 0));
    OP(n, "MatMul", "x wt", "h1");
    OP(n, "MatMul", "z wt", "h2");
    OP(n, "Tanh", "h1", "a1");
    OP(n, "Mul", "a1 h2", "m");
    OP(n, "Gemm", "m v", "y", QT_I("transB", 1));
    qt_net_output(n, "y");
    qn_groups *s = find(n, NULL);
    const qn_family *f = qt_net_family(s, "w");
    cr_assert(f != NULL);
    cr_expect_eq(qt_net_holds(s, f, "w", 0), 1u);
    cr_expect_eq(f->params_each, 7u + 4);
    cr_expect_float_eq(f->macs_each, 3 * (7 + 7 + 4), 1e-9);
    qn_groups_free(s);
    EXPECT(n, {"w", 9, true});
    qt_net_free(n);
}

/* An operator that nobody knows freezes what it touches, and is named. */
Test(groups, unknown_operator)
{
    qt_net *n = qt_net_new(13);
    qt_net_input(n, "x", 2, 3, 7);
    qt_net_weight(n, "a", 2, 7, 6);
    qt_net_weight(n, "b", 2, 6, 5);
    OP(n, "MatMul", "x a", "ma");
    OP(n, "MatMul", "ma b", "mb");
    OP(n, "Frobnicate", "mb", "y");
    qt_net_output(n, "y");
    qn_groups *s = find(n, NULL);
    cr_expect_eq(s->n_families, 1);
    cr_expect_str_eq(s->families[0].name, "a");
    cr_assert_eq(s->n_frozen, 1);
    cr_expect(strstr(s->frozen[0].reason, "Frobnicate") != NULL, "%s", s->frozen[0].reason);
    cr_expect_eq(s->frozen[0].n, 5u);
    qn_groups_free(s);
    qt_net_free(n);
}

/* Unknown sizes: channels are found all the same; the axes that vary are told. */
Test(groups, dynamic_sizes)
{
    qt_net *n = qt_net_new(14);
    qt_net_input(n, "x", 4, -1, 3, -1, -1);
    qt_net_weight(n, "a", 4, 8, 3, 3, 3);
    qt_net_weight(n, "b", 4, 4, 8, 1, 1);
    OP(n, "Conv", "x a", "ca", PADS1, QT_INTS("strides", 2, 2));
    OP(n, "Relu", "ca", "ra");
    OP(n, "Conv", "ra b", "y");
    qt_net_output(n, "y");
    qn_groups *s = find(n, NULL);
    cr_expect_eq(s->n_families, 1);
    cr_expect_eq(s->families[0].n_groups, 8);
    const uint32_t ra = qn_graph_find(n->graph, "ra") * QN_ARRAY_RANK_MAX;
    cr_expect(s->varies[ra] && !s->varies[ra + 1] && s->varies[ra + 2] && s->varies[ra + 3]);
    cr_expect_eq(s->dims[ra + 1], 8);
    qn_groups_free(s);
    qt_net_free(n);
}
