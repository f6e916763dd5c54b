/* Derivatives of the language models' operators against central differences: every row of domain quern has a case. */
#include "tests/support/grad_check.h"
#include <criterion/criterion.h>
#include <string.h>

#define QT_LONGS(...)   QT_CONST, 1, {sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)}, (const int64_t[]){__VA_ARGS__}, QN_I64
#define QT_DOUBLES(...) QT_CONST, 1, {sizeof((const double[]){__VA_ARGS__}) / sizeof(double)}, (const double[]){__VA_ARGS__}, QN_F64
#define QT_FLOATS_OF(...) QT_CONST, 1, {sizeof((const float[]){__VA_ARGS__}) / sizeof(float)}, (const float[]){__VA_ARGS__}, QN_F32
#define LM .domain = "quern"

static const qt_grad_op linear[] = {
    {LM, .type = "Linear", .in = {{QT_NORMAL, 2, {5, 7}}, {QT_NORMAL, 2, {3, 7}}, {QT_NORMAL, 1, {3}}}},
    {LM, .type = "Linear", .what = "without bias", .in = {{QT_NORMAL, 2, {5, 7}}, {QT_NORMAL, 2, {3, 7}}}},
    {LM, .type = "Linear", .what = "in × out", .attrs = {QT_S("layout", "in_out")}, .in = {{QT_NORMAL, 3, {2, 3, 7}}, {QT_NORMAL, 2, {7, 4}}, {QT_NORMAL, 1, {4}}}},
    {LM, .type = "Linear", .what = "x fixed", .in = {{QT_FIXED, 2, {5, 7}}, {QT_NORMAL, 2, {3, 7}}, {QT_NORMAL, 1, {3}}}},
    {LM, .type = "Linear", .what = "many tiles", .in = {{QT_NORMAL, 2, {70, 300}}, {QT_NORMAL, 2, {150, 300}}, {QT_NORMAL, 1, {150}}}},
    {LM, .type = "Embed", .in = {{QT_LONGS(3, 0, 3, 4, 3)}, {QT_NORMAL, 2, {6, 5}}}},
    {LM, .type = "Embed", .what = "scaled, wide", .attrs = {QT_F("scale", 1.5)}, .in = {{QT_LONGS(1, 1, 0)}, {QT_NORMAL, 2, {3, 150}}}},
    {.type = NULL},
};

static const qt_grad_op norms[] = {
    {LM, .type = "RMSNorm", .attrs = {QT_F("eps", 1e-2)}, .in = {{QT_NORMAL, 2, {5, 12}}, {QT_NORMAL, 1, {12}}}},
    {LM, .type = "RMSNorm", .what = "offset", .attrs = {QT_F("eps", 1e-2), QT_I("offset", 1)}, .in = {{QT_NORMAL, 2, {5, 12}}, {QT_NORMAL, 1, {12}}}},
    {LM, .type = "RMSNorm", .what = "heads", .attrs = {QT_F("eps", 1e-2)}, .in = {{QT_NORMAL, 2, {5, 12}}, {QT_NORMAL, 1, {4}}}},
    {LM, .type = "RMSNorm", .what = "no weight", .attrs = {QT_F("eps", 1e-2), QT_I("size", 6)}, .in = {{QT_NORMAL, 2, {5, 12}}}},
    {LM, .type = "RMSNorm", .what = "wide", .attrs = {QT_F("eps", 1e-2)}, .in = {{QT_NORMAL, 2, {40, 150}}, {QT_NORMAL, 1, {150}}}},
    {LM, .type = "LayerNorm", .attrs = {QT_F("eps", 1e-2)}, .in = {{QT_NORMAL, 2, {5, 12}}, {QT_NORMAL, 1, {12}}, {QT_NORMAL, 1, {12}}}},
    {LM, .type = "LayerNorm", .what = "no bias", .attrs = {QT_F("eps", 1e-2)}, .in = {{QT_NORMAL, 2, {5, 12}}, {QT_NORMAL, 1, {12}}}},
    {LM, .type = "LayerNorm", .what = "nothing", .attrs = {QT_F("eps", 1e-2)}, .in = {{QT_NORMAL, 2, {5, 12}}}},
    {LM, .type = "GroupNorm", .attrs = {QT_F("eps", 1e-2), QT_I("groups", 3)}, .in = {{QT_NORMAL, 2, {5, 12}}, {QT_NORMAL, 1, {12}}, {QT_NORMAL, 1, {12}}}},
    {LM, .type = "GroupNorm", .what = "shared", .attrs = {QT_F("eps", 1e-2), QT_I("groups", 3)},
     .in = {{QT_NORMAL, 2, {5, 12}}, {QT_NORMAL, 1, {4}}, {QT_NORMAL, 1, {4}}}},
    {.type = NULL},
};

#define ACT(name, how) \
    {LM, .type = "Act", .what = name, .attrs = {QT_S("kind", name)}, .in = {{how, 2, {4, 9}}}}, \
    {LM, .type = "Gated", .what = name, .attrs = {QT_S("kind", name)}, .in = {{how, 2, {4, 9}}, {QT_NORMAL, 2, {4, 9}}}}

static const qt_grad_op elementwise[] = {
    ACT("silu", QT_NORMAL), ACT("gelu", QT_NORMAL), ACT("gelu_tanh", QT_NORMAL), ACT("quick_gelu", QT_NORMAL),
    ACT("relu", QT_APART), ACT("relu2", QT_APART), ACT("sigmoid", QT_NORMAL), ACT("tanh", QT_NORMAL),
    {LM, .type = "Scale", .attrs = {QT_F("by", -0.75)}, .in = {{QT_NORMAL, 2, {3, 5}}}},
    {LM, .type = "Softcap", .attrs = {QT_F("cap", 1.25)}, .in = {{QT_NORMAL, 2, {3, 5}}}},
    {LM, .type = "Add", .in = {{QT_NORMAL, 2, {3, 5}}, {QT_NORMAL, 2, {3, 5}}}},
    {LM, .type = "Add", .what = "a row", .in = {{QT_NORMAL, 2, {3, 5}}, {QT_NORMAL, 1, {5}}}},
    {LM, .type = "Add", .what = "a column", .in = {{QT_NORMAL, 2, {3, 5}}, {QT_NORMAL, 2, {3, 1}}}},
    {LM, .type = "Mul", .in = {{QT_NORMAL, 2, {3, 5}}, {QT_NORMAL, 2, {3, 5}}}},
    {LM, .type = "Mul", .what = "a row", .in = {{QT_NORMAL, 2, {3, 5}}, {QT_NORMAL, 1, {5}}}},
    {LM, .type = "Mul", .what = "a column", .in = {{QT_NORMAL, 2, {3, 5}}, {QT_NORMAL, 2, {3, 1}}}},
    {LM, .type = "Split", .attrs = {QT_INTS("sizes", 2, 5, 1)}, .in = {{QT_NORMAL, 2, {3, 8}}}, .n_out = 3},
    {LM, .type = "Split", .what = "heads", .attrs = {QT_INTS("sizes", 2, 1, 1), QT_I("groups", 3)}, .in = {{QT_NORMAL, 2, {3, 12}}}, .n_out = 3},
    {.type = NULL},
};

#define ROPE(...) {QT_NORMAL, 2, {6, 16}}, {QT_LONGS(0, 4, 4, 6)}, {__VA_ARGS__}
static const qt_grad_op ropes[] = {
    {LM, .type = "Rope", .attrs = {QT_I("head_dim", 8), QT_S("style", "half")}, .in = {ROPE(QT_DOUBLES(1, 0.5, 0.25, 0.1))}},
    {LM, .type = "Rope", .what = "interleaved", .attrs = {QT_I("head_dim", 8), QT_S("style", "interleaved")}, .in = {ROPE(QT_DOUBLES(1, 0.5, 0.25, 0.1))}},
    {LM, .type = "Rope", .what = "in part, scaled", .attrs = {QT_I("head_dim", 8), QT_F("scale", 1.25)}, .in = {ROPE(QT_DOUBLES(1, 0.5, 0.25))}},
    {LM, .type = "Rope", .what = "long", .attrs = {QT_I("head_dim", 8), QT_I("original", 3)},
     .in = {ROPE(QT_DOUBLES(1, 0.5, 0.25, 0.1)), {QT_DOUBLES(0.9, 0.4, 0.2, 0.05)}}},
    {LM, .type = "Rope", .what = "by length", .attrs = {QT_I("head_dim", 8), QT_I("original", 3), QT_F("dynamic", 2.5), QT_F("base", 100)},
     .in = {ROPE(QT_DOUBLES(1, 0.5, 0.25, 0.1))}},
    {.type = NULL},
};

#define QKV(t, heads, kv, dim, v) {QT_NORMAL, 2, {t, (heads) * (dim)}}, {QT_NORMAL, 2, {t, (kv) * (dim)}}, {QT_NORMAL, 2, {t, (kv) * (v)}}
static const qt_grad_op attentions[] = {
    {LM, .type = "Attention", .attrs = {QT_I("heads", 2), QT_I("head_dim", 4)}, .in = {QKV(9, 2, 2, 4, 4), {QT_LONGS(0, 5, 6, 6, 9)}}},
    {LM, .type = "Attention", .what = "shared key heads, other size of values",
     .attrs = {QT_I("heads", 6), QT_I("kv_heads", 2), QT_I("head_dim", 4), QT_I("v_head_dim", 3), QT_F("scale", 0.7)},
     .in = {QKV(9, 6, 2, 4, 3), {QT_LONGS(0, 5, 9)}}},
    {LM, .type = "Attention", .what = "window, softcap", .attrs = {QT_I("heads", 2), QT_I("head_dim", 4), QT_I("window", 3), QT_F("softcap", 1.5), QT_F("scale", 1)},
     .in = {QKV(9, 2, 2, 4, 4), {QT_LONGS(0, 7, 9)}}},
    {LM, .type = "Attention", .what = "all see all", .attrs = {QT_I("heads", 2), QT_I("head_dim", 4), QT_I("causal", 0)},
     .in = {QKV(9, 2, 2, 4, 4), {QT_LONGS(0, 5, 9)}}},
    {LM, .type = "Attention", .what = "slopes and softcap", .attrs = {QT_I("heads", 2), QT_I("head_dim", 4), QT_F("softcap", 2), QT_F("scale", 1)},
     .in = {QKV(9, 2, 2, 4, 4), {QT_LONGS(0, 5, 9)}, {QT_FLOATS_OF(0.5f, 0.125f)}}},
    {LM, .type = "Attention", .what = "tiles of queries and keys", .attrs = {QT_I("heads", 2), QT_I("kv_heads", 1), QT_I("head_dim", 3)},
     .in = {QKV(640, 2, 1, 3, 3), {QT_LONGS(0, 10, 610, 640)}}},
    {LM, .type = "Attention", .what = "a window past a tile", .attrs = {QT_I("heads", 1), QT_I("head_dim", 3), QT_I("window", 550)},
     .in = {QKV(620, 1, 1, 3, 3), {QT_LONGS(0, 620)}}},
    {.type = NULL},
};

/* Routers whose choices stay the same when a logit moves by 1/16. */
#define ROUTER {QT_BETWEEN, 2, {7, 4}}
#define MOE(layout, norm, act) \
    .attrs = {QT_S("layout", layout), QT_I("experts", 4), QT_I("top_k", 2), QT_I("norm", norm), QT_S("kind", act)}
static const qt_grad_op experts[] = {
    {LM, .type = "Experts", .what = "stacked", MOE("stacked", 1, "silu"),
     .in = {{QT_NORMAL, 2, {7, 5}}, ROUTER, {QT_NORMAL, 3, {4, 6, 5}}, {QT_NORMAL, 3, {4, 6, 5}}, {QT_NORMAL, 3, {4, 5, 6}}}},
    {LM, .type = "Experts", .what = "stacked, shares as they are", MOE("stacked", 0, "gelu"),
     .in = {{QT_NORMAL, 2, {7, 5}}, ROUTER, {QT_NORMAL, 3, {4, 6, 5}}, {QT_NORMAL, 3, {4, 6, 5}}, {QT_NORMAL, 3, {4, 5, 6}}}},
    {LM, .type = "Experts", .what = "fused", MOE("fused", 1, "silu"),
     .in = {{QT_NORMAL, 2, {7, 5}}, ROUTER, {QT_NORMAL, 3, {4, 12, 5}}, {QT_NORMAL, 3, {4, 5, 6}}}},
    {LM, .type = "Experts", .what = "separate", .attrs = {QT_S("layout", "separate"), QT_I("experts", 2), QT_I("top_k", 1), QT_I("norm", 0), QT_S("kind", "silu")},
     .in = {{QT_NORMAL, 2, {7, 5}}, {QT_BETWEEN, 2, {7, 2}}, {QT_NORMAL, 2, {6, 5}}, {QT_NORMAL, 2, {6, 5}}, {QT_NORMAL, 2, {6, 5}}, {QT_NORMAL, 2, {6, 5}},
            {QT_NORMAL, 2, {5, 6}}, {QT_NORMAL, 2, {5, 6}}}},
    {LM, .type = "Experts", .what = "x fixed, all chosen",
     .attrs = {QT_S("layout", "fused"), QT_I("experts", 3), QT_I("top_k", 3), QT_I("norm", 1), QT_S("kind", "silu")},
     .in = {{QT_FIXED, 2, {7, 5}}, {QT_NORMAL, 2, {7, 3}}, {QT_NORMAL, 3, {3, 12, 5}}, {QT_NORMAL, 3, {3, 5, 6}}}},
    {.type = NULL},
};

static const qt_grad_op *const tables[] = {linear, norms, elementwise, ropes, attentions, experts};

Test(grad_lm, every_row_has_a_case)
{
    for (const qn_backward *row = qn_backwards; row->name; row++) {
        bool found = strcmp(row->domain, "quern") != 0;
        for (unsigned t = 0; t < sizeof tables / sizeof *tables && !found; t++)
            for (const qt_grad_op *c = tables[t]; c->type && !found; c++)
                found = !strcmp(c->type, row->name);
        cr_assert(found, "%s has a derivative and no case", row->name);
    }
}

Test(grad_lm, linear_and_embedding)
{
    qt_grad_check_all(linear);
}

Test(grad_lm, norms)
{
    qt_grad_check_all(norms);
}

Test(grad_lm, elementwise)
{
    qt_grad_check_all(elementwise);
}

Test(grad_lm, rope)
{
    qt_grad_check_all(ropes);
}

Test(grad_lm, attention)
{
    qt_grad_check_all(attentions);
}

Test(grad_lm, experts)
{
    qt_grad_check_all(experts);
}
