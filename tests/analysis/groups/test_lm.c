/* test_lm.c: decoders of our own operators: groups of key heads, ffn channels, experts, the residual stream; small ones made here, and what the builders
 * make of a checkpoint. */
#include "tests/support/lm_made.h"
#include "tests/support/net_made.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 12, HEADS = 4, KV = 2, SIZE = 4, FFN = 10, VOCAB = 11 };

#define OP(n, type, in, out, ...)                                                             \
    do {                                                                                      \
        const qn_attr attrs_[] = {{.name = NULL}, __VA_ARGS__};                               \
        qt_net_op(n, type, in, out, attrs_ + 1, sizeof attrs_ / sizeof attrs_[0] - 1);        \
    } while (0)

static void begin(qt_net *n)
{
    qt_net_input(n, "tokens", 1, -1);
    qt_net_input(n, "starts", 1, -1);
    qt_net_weight(n, "embed", 2, VOCAB, WIDTH);
    qt_net_weight(n, "n1", 1, WIDTH);
    qt_net_weight(n, "n2", 1, WIDTH);
    qt_net_weight(n, "n3", 1, WIDTH);
    qt_net_weight(n, "o", 2, WIDTH, HEADS * SIZE);
    qt_net_weight(n, "down", 2, WIDTH, FFN);
    qt_net_doubles(n, "freq", 2, (const double[]){1, 0.1});
    OP(n, "quern.Embed", "tokens embed", "e");
    OP(n, "quern.RMSNorm", "e n1", "x1", QT_F("eps", 1e-5));
}

static void attention(qt_net *n)
{
    OP(n, "quern.Rope", "q starts freq", "qr", QT_I("head_dim", SIZE));
    OP(n, "quern.Rope", "k starts freq", "kr", QT_I("head_dim", SIZE));
    OP(n, "quern.Attention", "qr kr v starts", "att", QT_I("heads", HEADS), QT_I("kv_heads", KV), QT_I("head_dim", SIZE), QT_I("causal", 1));
    OP(n, "quern.Linear", "att o", "oo");
    OP(n, "quern.Add", "e oo", "h");
    OP(n, "quern.RMSNorm", "h n2", "x2", QT_F("eps", 1e-5));
}

static void head(qt_net *n)
{
    OP(n, "quern.Linear", "act down", "dd");
    OP(n, "quern.Add", "h dd", "h2");
    OP(n, "quern.RMSNorm", "h2 n3", "x3", QT_F("eps", 1e-5));
    OP(n, "quern.Linear", "x3 embed", "logits"); /* tied */
    qt_net_output(n, "logits");
}

static qn_groups *find(qt_net *n, const qn_groups_options *o)
{
    qn_err err = {0};
    qn_groups *s;
    cr_assert_eq(qn_groups_find(qt_made_env(1), n->graph ? n->graph : qt_net_graph(n), o, &s, &err), QN_OK, "%s", err.text);
    return s;
}

static void check(qt_net *n, const qn_groups_options *o)
{
    for (unsigned k = 1; k < 4; k++) {
        const qt_net_result r = qt_net_check(n, o, 0.25 * k);
        cr_expect(!r.n_cut || r.moved > 1e-3);
    }
}

Test(groups_lm, llama)
{
    qt_net *n = qt_net_new(21);
    begin(n);
    qt_net_weight(n, "wq", 2, HEADS * SIZE, WIDTH);
    qt_net_weight(n, "wk", 2, KV * SIZE, WIDTH);
    qt_net_weight(n, "wv", 2, KV * SIZE, WIDTH);
    qt_net_weight(n, "bv", 1, KV * SIZE);
    qt_net_weight(n, "qn", 1, SIZE);
    qt_net_weight(n, "gate", 2, FFN, WIDTH);
    qt_net_weight(n, "up", 2, FFN, WIDTH);
    OP(n, "quern.Linear", "x1 wq", "q0");
    OP(n, "quern.RMSNorm", "q0 qn", "q", QT_F("eps", 1e-5));
    OP(n, "quern.Linear", "x1 wk", "k");
    OP(n, "quern.Linear", "x1 wv bv", "v");
    attention(n);
    OP(n, "quern.Linear", "x2 gate", "g");
    OP(n, "quern.Linear", "x2 up", "u");
    OP(n, "quern.Gated", "g u", "act", QT_S("kind", "silu"));
    head(n);
    qn_groups *s = find(n, NULL);
    cr_assert_eq(s->n_families, 2, "the width is inexact and not asked for");
    const qn_family *f = qt_net_family(s, "wq");
    cr_assert(f != NULL);
    cr_expect_str_eq(f->kind, "heads");
    cr_expect_eq(f->n_groups, KV);
    cr_expect_eq(qt_net_holds(s, f, "wq", 0), 8u);
    cr_expect_eq(qt_net_holds(s, f, "wk", 0), 4u);
    cr_expect_eq(qt_net_holds(s, f, "wv", 0), 4u);
    cr_expect_eq(qt_net_holds(s, f, "bv", 0), 4u);
    cr_expect_eq(qt_net_holds(s, f, "o", 1), 8u);
    cr_expect_eq(qt_net_holds(s, f, "qn", 0), 0u, "common to all heads");
    cr_expect_eq(f->params_each, (8u + 4 + 4) * WIDTH + 4 + 8 * WIDTH);
    f = qt_net_family(s, "gate");
    cr_assert(f != NULL);
    cr_expect_str_eq(f->kind, "ffn");
    cr_expect_eq(f->n_groups, FFN);
    cr_expect_eq(f->params_each, 3u * WIDTH);
    cr_expect_eq(f->n_consumers, 1);
    qn_groups_free(s);
    check(n, NULL);

    const qn_groups_options all = {.inexact = true};
    s = find(n, &all);
    cr_assert_eq(s->n_families, 3);
    f = qt_net_family(s, "o");
    cr_assert(f && f->reason);
    cr_expect_str_eq(f->kind, "width");
    cr_expect_eq(f->n_groups, WIDTH);
    cr_expect_eq(qt_net_holds(s, f, "embed", 1), 1u);
    cr_expect_eq(qt_net_holds(s, f, "n3", 0), 1u);
    cr_expect_eq(f->n_consumers, 6); /* q, k, v, gate, up, and the head, which is the embedding */
    /* embed, 3 norms, columns of q k v gate up, rows of o and down */
    cr_expect_eq(f->params_each, VOCAB + 3u + 16 + 8 + 8 + 10 + 10 + 16 + 10);
    cr_expect_eq(s->n_free, s->n_channels - s->n_outputs);
    qn_groups_free(s);

    /* Sizes: rope keeps those of q and k; those of v go in all heads. q's norm is over the size: inexact, were it free. */
    const qn_groups_options inner = {.inner = true};
    s = find(n, &inner);
    f = qt_net_family(s, "wv");
    cr_assert(f != NULL);
    cr_expect_str_eq(f->kind, "head size");
    cr_expect_eq(f->n_groups, SIZE);
    cr_expect_eq(qt_net_holds(s, f, "wv", 0), 2u);
    cr_expect_eq(qt_net_holds(s, f, "o", 1), 4u);
    cr_expect(!qt_net_family(s, "wq"));
    qn_groups_free(s);
    check(n, &inner);
    qt_net_free(n);
}

/* One tensor for q, k, v; one for gate and up. */
Test(groups_lm, fused)
{
    qt_net *n = qt_net_new(22);
    begin(n);
    qt_net_weight(n, "qkv", 2, (HEADS + 2 * KV) * SIZE, WIDTH);
    qt_net_weight(n, "gate_up", 2, WIDTH, 2 * FFN);
    qt_net_weight(n, "bias", 1, 2 * FFN);
    OP(n, "quern.Linear", "x1 qkv", "all");
    OP(n, "quern.Split", "all", "q k v", QT_INTS("sizes", HEADS * SIZE, KV * SIZE, KV * SIZE));
    attention(n);
    OP(n, "quern.Linear", "x2 gate_up bias", "both", QT_S("layout", "in_out"));
    OP(n, "quern.Split", "both", "g u", QT_INTS("sizes", FFN, FFN));
    OP(n, "quern.Gated", "g u", "act", QT_S("kind", "gelu"));
    head(n);
    qn_groups *s = find(n, NULL);
    cr_assert_eq(s->n_families, 2);
    cr_expect_eq(qt_net_holds(s, qt_net_family(s, "qkv"), "qkv", 0), 16u);
    const qn_family *f = qt_net_family(s, "gate_up");
    cr_expect_eq(qt_net_holds(s, f, "gate_up", 1), 2u);
    cr_expect_eq(qt_net_holds(s, f, "bias", 0), 2u);
    const qn_member *m = f->members;
    while (strcmp(n->graph->values[m->value].name, "gate_up") != 0)
        m++;
    cr_expect_eq(m->index[0], 0u);
    cr_expect_eq(m->index[1], (uint32_t)FFN);
    qn_groups_free(s);
    check(n, NULL);
    qt_net_free(n);
}

/* Three experts in the layouts that there are: separate ones go each for itself. */
Test(groups_lm, experts)
{
    static const char *const layouts[] = {"separate", "stacked", "fused"};
    for (unsigned l = 0; l < 3; l++) {
        qt_net *n = qt_net_new(23 + l);
        begin(n);
        qt_net_weight(n, "wq", 2, HEADS * SIZE, WIDTH);
        qt_net_weight(n, "wk", 2, KV * SIZE, WIDTH);
        qt_net_weight(n, "wv", 2, KV * SIZE, WIDTH);
        qt_net_weight(n, "router", 2, 3, WIDTH);
        OP(n, "quern.Linear", "x1 wq", "q");
        OP(n, "quern.Linear", "x1 wk", "k");
        OP(n, "quern.Linear", "x1 wv", "v");
        attention(n);
        OP(n, "quern.Linear", "x2 router", "r");
        if (l == 0) {
            for (unsigned i = 0; i < 9; i++) {
                char name[8];
                snprintf(name, sizeof name, "%c%u", "gud"[i / 3], i % 3);
                if (i < 6)
                    qt_net_weight(n, name, 2, FFN, WIDTH);
                else
                    qt_net_weight(n, name, 2, WIDTH, FFN);
            }
        } else if (l == 1) {
            qt_net_weight(n, "sg", 3, 3, FFN, WIDTH);
            qt_net_weight(n, "su", 3, 3, FFN, WIDTH);
            qt_net_weight(n, "sd", 3, 3, WIDTH, FFN);
        } else {
            qt_net_weight(n, "fg", 3, 3, 2 * FFN, WIDTH);
            qt_net_weight(n, "fd", 3, 3, WIDTH, FFN);
        }
        OP(n, "quern.Experts", l == 0 ? "x2 r g0 g1 g2 u0 u1 u2 d0 d1 d2" : l == 1 ? "x2 r sg su sd" : "x2 r fg fd", "ex", QT_S("layout", layouts[l]),
           QT_I("experts", 3), QT_I("top_k", 2), QT_I("norm", 1), QT_S("kind", "silu"));
        OP(n, "quern.Act", "ex", "act0", QT_S("kind", "tanh"));
        OP(n, "quern.Add", "h act0", "h3");
        OP(n, "quern.RMSNorm", "h3 n3", "x3", QT_F("eps", 1e-5));
        OP(n, "quern.Linear", "x3 embed", "logits");
        qt_net_output(n, "logits");
        qn_groups *s = find(n, NULL);
        const qn_family *f = qt_net_family(s, l == 0 ? "g1" : l == 1 ? "sg" : "fg");
        cr_assert(f != NULL, "%s", layouts[l]);
        cr_expect_str_eq(f->kind, "ffn");
        cr_expect_eq(f->n_groups, FFN);
        cr_expect_eq(f->params_each, (l == 0 ? 3u : 9u) * WIDTH);
        cr_expect_eq(s->n_families, l == 0 ? 4u : 2u);
        bool router = false;
        for (uint32_t i = 0; i < s->n_frozen; i++)
            router = router || (!strcmp(s->graph->values[s->frozen[i].value].name, "router") && s->frozen[i].n == 3);
        cr_expect(router);
        qn_groups_free(s);
        check(n, NULL);
        qt_net_free(n);
    }
}

/* What the builder makes of a folder with config.json. */
Test(groups_lm, checkpoint)
{
    const qn_env *env = qt_made_env(1);
    qn_err err = {0};
    qn_graph *g;
    qn_groups *s;
    qn_source *src = qt_made_open(env, qt_lm_made("llama", qt_lm_llama_config, qt_lm_llama_tensors, 2, 5));
    cr_assert_eq(qn_graph_open(env, src, &g, &err), QN_OK, "%s", err.text);
    cr_assert_eq(qn_groups_find(env, g, NULL, &s, &err), QN_OK, "%s", err.text);
    cr_expect_eq(s->n_families, 4); /* two layers: heads and ffn; the one key head is a family of one group */
    const qn_family *f = qt_net_family(s, "model.layers.1.mlp.gate_proj.weight");
    cr_assert(f != NULL);
    cr_expect_eq(f->n_groups, 6);
    cr_expect_eq(f->params_each, 24u);
    qn_groups_free(s);
    qn_graph_close(g);
    qn_source_close(src);
}
