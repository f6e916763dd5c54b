/* test_emit_onnx.c: cut ONNX models. A model without channels must compute what the same model with zeros in their place computes, for other sizes
 * of what varies too; and say the numbers that it should. */
#include "analysis/graph/build.h"
#include "compress/prune/emit.h"
#include "formats/onnx/onnx.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/onnx_made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <string.h>

static qn_err err;

#define INT(name, v)  "@5{@1{'" name "'} #3=" v " #20=2}"
#define INTS(name, v) "@5{@1{'" name "'} " v " #20=7}"
#define PAD1 INTS("pads", "#8=1 #8=1 #8=1 #8=1")

/* About half of every family, as far as that can be; at least one group of some family. */
static uint32_t choose(qn_cut *c, uint64_t seed)
{
    qt_rng r = qt_seed(seed);
    uint32_t gone = 0;
    for (uint32_t f = 0; f < c->groups->n_families; f++) {
        const uint32_t n = c->groups->families[f].n_groups;
        qn_err why = {0};
        for (uint32_t i = 0, left = n / 2; i < n; i++)
            if (qt_below(&r, n - i) < left) {
                qn_cut_set(c, f, i, true);
                left--;
            }
        if (qn_cut_check(c, &why) != QN_OK)
            for (uint32_t i = 0; i < n; i++)
                qn_cut_set(c, f, i, false);
        gone += c->n_gone[f];
    }
    return gone;
}

static void zero(const qn_cut *c, qn_overlay *w)
{
    const qn_graph *g = c->groups->graph;
    for (uint32_t v = 0; v < g->n_values; v++) {
        float *data;
        if (g->values[v].kind != QN_VALUE_WEIGHT || g->values[v].dtype != QN_F32 || !qn_cut_touches(c, v))
            continue;
        OK(qn_overlay_edit(w, v, &data, &err));
        OK(qn_cut_zero(c, v, data, &err));
    }
}

/* Cut, written, opened again and compared over sizes 2 and 3 of unknown dimensions. */
static qt_onnx_open cut_model(const char *path, const qn_groups_options *o, uint64_t seed)
{
    const qn_env *env = qt_made_env(1);
    const qn_groups_options plain = {0};
    const qn_emit_options e = {.overwrite = true, .record = "{\"cut\":1}"};
    qt_onnx_open a = qt_onnx_load(path), b;
    qn_groups *s;
    qn_cut *c;
    qn_overlay *w;
    OK(qn_groups_find(env, a.g, o ? o : &plain, &s, &err));
    OK(qn_cut_new(env, s, &c, &err));
    OK(qn_overlay_new(env, a.g, &w, &err));
    cr_assert_gt(choose(c, seed), 0u, "nothing can go: %u families, %u frozen (%s)", s->n_families, s->n_frozen,
                 s->n_frozen ? s->frozen[0].reason : "");
    zero(c, w);
    OK(qn_emit_onnx(env, a.g, c, w, qt_made_path("cut.onnx"), &e, &err));
    b = qt_onnx_load(qt_made_path("cut.onnx"));
    for (unsigned i = 0; i < a.g->n_outputs; i++)
        for (int64_t size = 2; size < 4; size++) {
            const qn_array x = qt_onnx_eval(a.g, w, 17, size, i), y = qt_onnx_eval(b.g, NULL, 17, size, i), z = qt_onnx_eval(a.g, NULL, 17, size, i);
            cr_assert_lt(qt_onnx_apart(&y, &x), 1e-5, "output %u", i);
            cr_assert_gt(qt_onnx_apart(&x, &z), 1e-3, "zeros change nothing: the test is no test");
        }
    qn_overlay_free(w);
    qn_cut_free(c);
    qn_groups_free(s);
    qt_onnx_close(&a);
    return b;
}

static const qn_node *node_of(const qn_graph *g, const char *type, unsigned which)
{
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (!strcmp(g->nodes[i].type, type) && which-- == 0)
            return &g->nodes[i];
    cr_assert_fail("no %s", type);
    return NULL;
}

static void conv(qt_onnx *m, const char *x, const char *y, int in, int out, int k, const char *attrs)
{
    char w[40], b[40], ins[120];
    snprintf(w, sizeof w, "%s.w", y);
    snprintf(b, sizeof b, "%s.b", y);
    snprintf(ins, sizeof ins, "%s,%s,%s", x, w, b);
    qt_onnx_floats(m, w, 0.4, 0, 4, out, in, k, k);
    qt_onnx_floats(m, b, 0.4, 0, 1, out);
    qt_onnx_node(m, "Conv", ins, y, attrs);
}

static void dense(qt_onnx *m, const char *x, const char *y, int in, int out)
{
    char w[40], b[40], t[40], ins[120];
    snprintf(w, sizeof w, "%s.w", y);
    snprintf(b, sizeof b, "%s.b", y);
    snprintf(t, sizeof t, "%s.t", y);
    snprintf(ins, sizeof ins, "%s,%s", x, w);
    qt_onnx_floats(m, w, 0.4, 0, 2, in, out);
    qt_onnx_floats(m, b, 0.4, 0, 1, out);
    qt_onnx_node(m, "MatMul", ins, t, "");
    snprintf(ins, sizeof ins, "%s,%s", t, b);
    qt_onnx_node(m, "Add", ins, y, "");
}

/* ---- tests ---- */

Test(emit_onnx, residual_concat_depthwise)
{
    for (uint64_t seed = 1; seed < 4; seed++) {
        qt_onnx m;
        qt_onnx_begin(&m, 13);
        qt_onnx_input(&m, "x", "N,3,5,5");
        conv(&m, "x", "a", 3, 8, 3, PAD1);
        qt_onnx_node(&m, "Relu", "a", "b", "");
        conv(&m, "b", "c", 1, 8, 3, PAD1 INT("group", "8"));
        qt_onnx_node(&m, "Add", "b,c", "d", "");
        conv(&m, "d", "e", 8, 6, 1, "");
        qt_onnx_node(&m, "Sigmoid", "e", "f", "");
        qt_onnx_node(&m, "Concat", "d,f", "g", INT("axis", "1"));
        for (unsigned k = 0; k < 4; k++) {
            static const char *const p[] = {"bn.s", "bn.t", "bn.m", "bn.v"};
            qt_onnx_floats(&m, p[k], 0.1, k == 0 || k == 3 ? 1 : 0, 1, 14);
        }
        qt_onnx_node(&m, "BatchNormalization", "g,bn.s,bn.t,bn.m,bn.v", "h", "");
        conv(&m, "h", "y", 14, 4, 1, "");
        qt_onnx_output(&m, "y", "N,4,5,5");
        qt_onnx_open o = cut_model(qt_onnx_write(&m, "rcd.onnx"), NULL, seed);
        cr_assert_eq(qn_node_int(node_of(o.g, "Conv", 1), "group", 1), 4);
        qt_onnx_close(&o);
    }
}

Test(emit_onnx, grouped_convolution)
{
    qt_onnx m;
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "N,3,4,4");
    conv(&m, "x", "a", 3, 8, 1, "");
    conv(&m, "a", "b", 4, 8, 3, PAD1 INT("group", "2"));
    conv(&m, "b", "y", 8, 2, 1, "");
    qt_onnx_output(&m, "y", "N,2,4,4");
    qt_onnx_open o = cut_model(qt_onnx_write(&m, "grouped.onnx"), NULL, 1);
    const qn_node *n = node_of(o.g, "Conv", 1);
    cr_assert_eq(qn_node_int(n, "group", 1) * o.g->values[n->in[1]].dims[1], o.g->values[node_of(o.g, "Conv", 0)->in[1]].dims[0]);
    qt_onnx_close(&o);
}

/* Sizes as an attribute, as an operand, not said at all. */
Test(emit_onnx, splits)
{
    for (unsigned kind = 0; kind < 5; kind++) {
        qt_onnx m;
        qt_onnx_begin(&m, kind < 2 ? 11 : kind == 4 ? 18 : 13);
        qt_onnx_input(&m, "x", "N,3,4,4");
        conv(&m, "x", "a", 3, 12, 1, "");
        if (kind == 2)
            qt_onnx_ints(&m, "sizes", 2, 6, 6);
        qt_onnx_node(&m, "Split", kind == 2 ? "a,sizes" : "a", "b,c", kind == 0 ? INT("axis", "1") INTS("split", "#8=6 #8=6")
                     : kind == 4 ? INT("axis", "1") INT("num_outputs", "2") : INT("axis", "1"));
        conv(&m, "b", "d", 6, 4, 1, "");
        conv(&m, "c", "e", 6, 4, 1, "");
        qt_onnx_node(&m, "Add", "d,e", "y", "");
        qt_onnx_output(&m, "y", "N,4,4,4");
        const char *path = qt_onnx_write(&m, "split.onnx");
        for (uint64_t seed = 1; seed < 4; seed++) {
            qt_onnx_open o = cut_model(path, NULL, seed);
            qt_onnx_close(&o);
        }
    }
}

Test(emit_onnx, picks)
{
    for (uint64_t seed = 1; seed < 5; seed++) {
        qt_onnx m;
        qt_onnx_begin(&m, 13);
        qt_onnx_input(&m, "x", "N,5");
        dense(&m, "x", "a", 5, 12);
        qt_onnx_ints(&m, "idx", 5, 11, 0, 3, -4, 7);
        qt_onnx_node(&m, "Gather", "a,idx", "b", INT("axis", "1"));
        qt_onnx_ints(&m, "two", 1, 2);
        qt_onnx_ints(&m, "far", 1, 1000);
        qt_onnx_ints(&m, "one", 1, 1);
        qt_onnx_node(&m, "Slice", "a,two,far,one", "c", "");
        qt_onnx_node(&m, "Concat", "b,c", "e", INT("axis", "1"));
        dense(&m, "e", "y", 15, 3);
        qt_onnx_output(&m, "y", "N,3");
        qt_onnx_open o = cut_model(qt_onnx_write(&m, "picks.onnx"), NULL, seed);
        qt_onnx_close(&o);
    }
}

Test(emit_onnx, slices_of_old)
{
    for (uint64_t seed = 1; seed < 4; seed++) {
        qt_onnx m;
        qt_onnx_begin(&m, 9);
        m.ir = 3;
        qt_onnx_input(&m, "x", "N,5");
        qt_onnx_floats(&m, "w", 0.4, 0, 2, 5, 9);
        qt_onnx_node(&m, "MatMul", "x,w", "a", "");
        qt_onnx_node(&m, "Slice", "a", "b", INTS("starts", "#8=1") INTS("ends", "#8=6") INTS("axes", "#8=1"));
        qt_onnx_node(&m, "Slice", "a", "c", INTS("starts", "#8=-5") INTS("ends", "#8=9223372036854775807") INTS("axes", "#8=1"));
        qt_onnx_node(&m, "Add", "b,c", "d", "");
        qt_onnx_floats(&m, "v", 0.4, 0, 2, 5, 3);
        qt_onnx_node(&m, "MatMul", "d,v", "e", "");
        qt_onnx_floats(&m, "u", 0.4, 0, 2, 9, 3);
        qt_onnx_node(&m, "MatMul", "a,u", "f", "");
        qt_onnx_node(&m, "Add", "e,f", "y", "");
        qt_onnx_output(&m, "y", "N,3");
        qt_onnx_input(&m, "w", "5,9");
        qt_onnx_input(&m, "v", "5,3");
        qt_onnx_input(&m, "u", "9,3");
        qt_onnx_open o = cut_model(qt_onnx_write(&m, "old.onnx"), NULL, seed);
        const qn_onnx_graph *g = qn_onnx_source_model(o.s)->graph;
        cr_assert_eq(g->n_inputs, 4u);
        for (uint32_t i = 1; i < 4; i++)
            for (uint32_t k = 0; k < 3; k++)
                if (!strcmp(g->inputs[i].name, g->initializers[k].name))
                    for (unsigned d = 0; d < 2; d++)
                        cr_assert_eq(g->inputs[i].type.dims[d].value, (int64_t)g->initializers[k].dims[d], "%s", g->inputs[i].name);
        qt_onnx_close(&o);
    }
}

/* One shape for two nodes of which one is cut; a flattened image; sizes of other kinds. */
Test(emit_onnx, shapes)
{
    qt_onnx m;
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "N,3,4,4");
    conv(&m, "x", "a", 3, 6, 1, "");
    qt_onnx_ints(&m, "flat", 2, -1, 96);
    qt_onnx_node(&m, "Reshape", "a,flat", "b", "");
    dense(&m, "b", "c", 96, 96);
    qt_onnx_ints(&m, "four", 4, 0, 6, 4, 4);
    qt_onnx_node(&m, "Reshape", "c,four", "d", "");
    conv(&m, "d", "e", 6, 6, 1, "");
    qt_onnx_node(&m, "Reshape", "e,flat", "f", "");
    qt_onnx_node(&m, "Relu", "f", "g", "");
    dense(&m, "g", "h", 96, 5);
    qt_onnx_ints(&m, "by", 2, 1, 3);
    qt_onnx_node(&m, "Tile", "h,by", "i", "");
    dense(&m, "i", "y", 15, 2);
    qt_onnx_output(&m, "y", "N,2");
    const char *path = qt_onnx_write(&m, "shapes.onnx");
    for (uint64_t seed = 1; seed < 4; seed++) {
        qt_onnx_open o = cut_model(path, NULL, seed);
        qt_onnx_close(&o);
    }
}

Test(emit_onnx, sizes)
{
    qt_onnx m;
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "1,3,4,4");
    conv(&m, "x", "a", 3, 6, 1, "");
    qt_onnx_text(&m, "@5{#1=0 #2=1 @8{'roi'}} @5{#1=0 #2=1 @8{'scales'}}");
    qt_onnx_ints(&m, "sizes", 4, 1, 6, 8, 8);
    qt_onnx_node(&m, "Resize", "a,roi,scales,sizes", "b", "");
    qt_onnx_floats(&m, "e.w", 0.4, 0, 3, 6, 1, 1);
    qt_onnx_ints(&m, "to", 4, 1, 6, 8, 8);
    qt_onnx_node(&m, "Expand", "e.w,to", "c", "");
    qt_onnx_node(&m, "Mul", "b,c", "d", "");
    qt_onnx_node(&m, "ConstantOfShape", "to", "ones", "@5{@1{'value'} @5{#1=1 #2=1 @4{0000003f}} #20=4}");
    qt_onnx_node(&m, "Add", "d,ones", "e", "");
    conv(&m, "e", "y", 6, 2, 1, "");
    qt_onnx_output(&m, "y", "1,2,8,8");
    const char *path = qt_onnx_write(&m, "sizes.onnx");
    for (uint64_t seed = 1; seed < 4; seed++) {
        qt_onnx_open o = cut_model(path, NULL, seed);
        qt_onnx_close(&o);
    }
}

static void add_const(qt_onnx *m, const char *name, const char *tensor)
{
    char attrs[200];
    snprintf(attrs, sizeof attrs, "@5{@1{'value'} @5{%s} #20=4}", tensor);
    qt_onnx_node(m, "Constant", "", name, attrs);
}

/* An attention as exported: heads from shapes that the model works out, a scale from the width of a head. */
static const char *attention(bool literal)
{
    qt_onnx m;
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "N,T,6");
    dense(&m, "x", "q", 6, 12);
    dense(&m, "x", "k", 6, 12);
    dense(&m, "x", "v", 6, 12);
    qt_onnx_node(&m, "Shape", "x", "s", "");
    add_const(&m, "i0", "#2=7 #7=0");
    add_const(&m, "i1", "#2=7 #7=1");
    qt_onnx_ints(&m, "ax", 1, 0);
    qt_onnx_node(&m, "Gather", "s,i0", "n0", "");
    qt_onnx_node(&m, "Gather", "s,i1", "t0", "");
    qt_onnx_node(&m, "Unsqueeze", "n0,ax", "n", "");
    qt_onnx_node(&m, "Unsqueeze", "t0,ax", "t", "");
    qt_onnx_ints(&m, "heads", 1, 3);
    qt_onnx_ints(&m, "hd", 1, 4);
    if (literal) {
        qt_onnx_node(&m, "Concat", "n,t,heads,hd", "split", INT("axis", "0"));
    } else { /* the size of a head from the width of q */
        qt_onnx_node(&m, "Shape", "q", "qs", "");
        add_const(&m, "i2", "#1=1 #2=7 #7=2");
        qt_onnx_node(&m, "Gather", "qs,i2", "width", "");
        qt_onnx_node(&m, "Div", "width,heads", "size", "");
        qt_onnx_node(&m, "Concat", "n,t,heads,size", "split", INT("axis", "0"));
    }
    static const char *const names[] = {"q", "k", "v"};
    for (unsigned i = 0; i < 3; i++) {
        char ins[40], out[40], turned[40];
        snprintf(ins, sizeof ins, "%s,split", names[i]);
        snprintf(out, sizeof out, "%s4", names[i]);
        snprintf(turned, sizeof turned, "%st", names[i]);
        qt_onnx_node(&m, "Reshape", ins, out, "");
        qt_onnx_node(&m, "Transpose", out, turned, i == 1 ? INTS("perm", "#8=0 #8=2 #8=3 #8=1") : INTS("perm", "#8=0 #8=2 #8=1 #8=3"));
    }
    qt_onnx_node(&m, "MatMul", "qt,kt", "scores", "");
    qt_onnx_node(&m, "Shape", "qt", "qts", "");
    add_const(&m, "i3", "#2=7 #7=3");
    qt_onnx_node(&m, "Gather", "qts,i3", "d", "");
    qt_onnx_node(&m, "Cast", "d", "df", INT("to", "1"));
    qt_onnx_node(&m, "Sqrt", "df", "root", "");
    qt_onnx_node(&m, "Div", "scores,root", "scaled", "");
    qt_onnx_node(&m, "Softmax", "scaled", "p", INT("axis", "-1"));
    qt_onnx_node(&m, "MatMul", "p,vt", "o4", "");
    qt_onnx_node(&m, "Transpose", "o4", "ot", INTS("perm", "#8=0 #8=2 #8=1 #8=3"));
    qt_onnx_ints(&m, "all", 1, 12);
    qt_onnx_node(&m, "Concat", "n,t,all", "back", INT("axis", "0"));
    qt_onnx_node(&m, "Reshape", "ot,back", "o", "");
    dense(&m, "o", "y", 12, 6);
    qt_onnx_output(&m, "y", "N,T,6");
    return qt_onnx_write(&m, literal ? "attention.onnx" : "attention2.onnx");
}

Test(emit_onnx, attention_heads)
{
    for (unsigned literal = 0; literal < 2; literal++) {
        const char *path = attention(literal);
        for (unsigned inner = 0; inner < 2; inner++) {
            const qn_groups_options o = {.inner = inner};
            qt_onnx_open e = cut_model(path, &o, 3);
            qt_onnx_close(&e);
        }
    }
}

/* Narrow floats stay narrow, with new content in them; the record is there; nothing is written over what is there. */
Test(emit_onnx, narrow_weights_and_the_record)
{
    qt_onnx m;
    uint16_t h[24];
    char text[400] = "@5{#1=4 #1=6 #2=10 @8{'w'} @9{";
    qt_rng r = qt_seed(5);
    for (unsigned i = 0; i < 24; i++) {
        qt_put(QN_F16, qt_normal(&r), (uint8_t *)&h[i]);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%02x%02x", h[i] & 255, h[i] >> 8);
    }
    strcat(text, "}}");
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "N,4");
    qt_onnx_text(&m, text);
    qt_onnx_node(&m, "MatMul", "x,w", "a", "");
    dense(&m, "a", "y", 6, 2);
    qt_onnx_output(&m, "y", "N,2");
    qt_onnx_open o = cut_model(qt_onnx_write(&m, "half.onnx"), NULL, 2);
    const qn_onnx_model *model = qn_onnx_source_model(o.s);
    cr_assert_eq(model->n_props, 1u);
    cr_assert_str_eq(model->props[0].key, "quern.pruning");
    cr_assert_str_eq(model->props[0].value, "{\"cut\":1}");
    cr_assert_eq(o.s->tensors[qn_source_tensor_find(o.s, "w")].dtype, QN_F16);
    cr_assert_eq(o.s->tensors[qn_source_tensor_find(o.s, "w")].dims[1], 3u);
    qn_groups *s;
    qn_cut *c;
    const qn_groups_options plain = {0};
    const qn_emit_options keep = {0};
    OK(qn_groups_find(qt_made_env(1), o.g, &plain, &s, &err));
    OK(qn_cut_new(qt_made_env(1), s, &c, &err));
    cr_assert_eq(qn_emit_onnx(qt_made_env(1), o.g, c, NULL, qt_made_path("cut.onnx"), &keep, &err), QN_E_USAGE);
    qn_err_clear(&err);
    qn_cut_free(c);
    qn_groups_free(s);
    qt_onnx_close(&o);
}

/* ---- operators that do not run here: groups written down ---- */

struct by_hand {
    qn_groups s;
    qn_family family;
    qn_member members[4];
    uint32_t start[17], index[16];
    int64_t dims[64 * QN_ARRAY_RANK_MAX];
    uint8_t rank[64];
    bool varies[64 * QN_ARRAY_RANK_MAX];
};

/* Values of these names have an axis of n_groups × size that belongs to one family. */
static void hand_made(struct by_hand *h, const qn_graph *g, const char *const *names, const uint8_t *axes, unsigned n, uint32_t n_groups,
                      uint32_t size)
{
    memset(h, 0, sizeof *h);
    cr_assert_lt(g->n_values, 64u);
    for (uint32_t i = 0; i < n_groups * size; i++)
        h->index[i] = i;
    for (uint32_t i = 0; i <= n_groups; i++)
        h->start[i] = i * size;
    for (uint32_t v = 0; v < g->n_values; v++) {
        h->rank[v] = g->values[v].rank == QN_RANK_UNKNOWN ? 3 : g->values[v].rank;
        for (unsigned k = 0; k < h->rank[v]; k++)
            h->dims[v * QN_ARRAY_RANK_MAX + k] = g->values[v].dims && g->values[v].dims[k] > 0 ? g->values[v].dims[k] : k == 2 ? n_groups * size : 2;
    }
    for (unsigned i = 0; i < n; i++)
        h->members[i] = (qn_member){.value = qn_graph_find(g, names[i]), .axis = axes[i], .start = h->start, .index = h->index};
    h->family = (qn_family){.name = "f", .kind = "heads", .n_groups = n_groups, .n_members = n, .members = h->members};
    h->s = (qn_groups){.graph = g, .families = &h->family, .n_families = 1, .dims = h->dims, .rank = h->rank, .varies = h->varies};
}

Test(emit_onnx, heads_of_fused_attention)
{
    static const char *const names[] = {"wq", "q", "o", "wo"};
    static const uint8_t axes[] = {1, 2, 2, 0};
    for (unsigned inner = 0; inner < 2; inner++) {
        qt_onnx m;
        static struct by_hand h;
        qn_cut *c;
        const qn_emit_options o = {.overwrite = true};
        qt_onnx_begin(&m, 13);
        qt_onnx_input(&m, "x", "2,3,6");
        qt_onnx_floats(&m, "wq", 0.4, 0, 2, 6, 12);
        qt_onnx_node(&m, "MatMul", "x,wq", "q", "");
        qt_onnx_node(&m, "MultiHeadAttention", "q,q,q", "o", "@7{'com.microsoft'}" INT("num_heads", "3"));
        qt_onnx_floats(&m, "wo", 0.4, 0, 2, 12, 6);
        qt_onnx_node(&m, "MatMul", "o,wo", "y", "");
        qt_onnx_output(&m, "y", "2,3,6");
        qt_onnx_open a = qt_onnx_load(qt_onnx_write(&m, "mha.onnx")), b;
        hand_made(&h, a.g, names, axes, 4, inner ? 12 : 3, inner ? 1 : 4);
        OK(qn_cut_new(qt_made_env(1), &h.s, &c, &err));
        for (uint32_t i = 0; i < (inner ? 3u : 1u); i++) /* the second head; or the last number of each head */
            qn_cut_set(c, 0, inner ? 4 * i + 3 : 1, true);
        OK(qn_emit_onnx(qt_made_env(1), a.g, c, NULL, qt_made_path("mha2.onnx"), &o, &err));
        b = qt_onnx_load(qt_made_path("mha2.onnx"));
        const qn_node *n = node_of(b.g, "MultiHeadAttention", 0);
        cr_assert_eq(qn_node_int(n, "num_heads", 0), inner ? 3 : 2);
        cr_assert_float_eq(qn_node_float(n, "scale", 0), inner ? 0.5 : 0, 1e-7);
        cr_assert_eq(b.s->tensors[qn_source_tensor_find(b.s, "wq")].dims[1], inner ? 9u : 8u);
        cr_assert_eq(b.s->tensors[qn_source_tensor_find(b.s, "wo")].dims[0], inner ? 9u : 8u);
        /* heads of different sizes cannot be said */
        qn_cut_set(c, 0, 0, true);
        cr_assert_eq(qn_emit_onnx(qt_made_env(1), a.g, c, NULL, qt_made_path("mha3.onnx"), &o, &err), inner ? QN_E_UNSUPPORTED : QN_OK);
        cr_assert(!inner || strstr(err.text, "MultiHeadAttention"), "%s", err.text);
        qn_err_clear(&err);
        qn_cut_free(c);
        qt_onnx_close(&a);
        qt_onnx_close(&b);
    }
}

/* Every other entry of an axis: what is left of it may be at equal distances, or has to be listed. The numbers that come out are looked at. */
Test(emit_onnx, slices_with_a_step)
{
    static const char *const names[] = {"w", "a"};
    static const uint8_t axes[] = {1, 1};
    static const struct {
        uint8_t gone[8]; /* of the 8 in front and, as ties would have it, of the 4 behind */
        const char *type;
        float want[4];
        unsigned n;
    } rows[] = {{{0, 1, 0, 1, 0, 1, 0, 1}, "Slice", {0, 2, 4, 6}, 4}, /* step 1 now     */
                {{0, 1, 0, 0, 0, 1, 0, 1}, "Gather", {0, 2, 4, 6}, 4}, /* places 0 1 3 4 */
                {{1, 0, 0, 1, 1, 0, 0, 0}, "Slice", {2, 6}, 2}};
    for (unsigned r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        static struct by_hand h;
        qt_onnx m;
        qn_cut *c;
        uint32_t start[9] = {0}, index[4];
        const qn_emit_options o = {.overwrite = true};
        qt_onnx_begin(&m, 13);
        qt_onnx_input(&m, "x", "1,1");
        qt_onnx_text(&m, "@5{#1=1 #1=8 #2=1 @8{'w'} @9{00000000 0000803f 00000040 00004040 00008040 0000a040 0000c040 0000e040}}");
        qt_onnx_node(&m, "MatMul", "x,w", "a", "");
        qt_onnx_ints(&m, "zero", 1, 0);
        qt_onnx_ints(&m, "far", 1, 1000);
        qt_onnx_ints(&m, "one", 1, 1);
        qt_onnx_ints(&m, "two", 1, 2);
        qt_onnx_node(&m, "Slice", "a,zero,far,one,two", "b", "");
        qt_onnx_node(&m, "Mul", "b,b", "y", "");
        qt_onnx_output(&m, "y", "1,M");
        qt_onnx_open a = qt_onnx_load(qt_onnx_write(&m, "step.onnx")), b;
        hand_made(&h, a.g, names, axes, 2, 8, 1);
        for (uint32_t i = 0; i < 8; i++) { /* group i holds entry i / 2 of b when i is even */
            start[i + 1] = start[i] + !(i % 2);
            if (!(i % 2))
                index[i / 2] = i / 2;
        }
        const uint32_t bv = qn_graph_find(a.g, "b");
        h.dims[bv * QN_ARRAY_RANK_MAX + 1] = 4;
        h.members[2] = (qn_member){.value = bv, .axis = 1, .start = start, .index = index};
        h.family.n_members = 3;
        OK(qn_cut_new(qt_made_env(1), &h.s, &c, &err));
        for (uint32_t i = 0; i < 8; i++)
            qn_cut_set(c, 0, i, rows[r].gone[i]);
        OK(qn_emit_onnx(qt_made_env(1), a.g, c, NULL, qt_made_path("step2.onnx"), &o, &err));
        b = qt_onnx_load(qt_made_path("step2.onnx"));
        cr_assert_str_eq(b.g->nodes[1].type, rows[r].type, "row %u", r);
        const qn_array x = qt_onnx_eval(a.g, NULL, 3, 1, 0), y = qt_onnx_eval(b.g, NULL, 3, 1, 0); /* x² · (0, 4, 16, 36), and what is left */
        const double unit = (double)((const float *)x.data)[1] / 4;
        cr_assert_eq(y.n, rows[r].n, "row %u: %u", r, (unsigned)y.n);
        for (unsigned i = 0; i < rows[r].n; i++)
            cr_assert_float_eq(((const float *)y.data)[i], unit * (double)rows[r].want[i] * (double)rows[r].want[i], 1e-4, "row %u, %u", r, i);
        qn_cut_free(c);
        qt_onnx_close(&a);
        qt_onnx_close(&b);
    }
}

/* What cannot be said is refused by name, and nothing is written. */
Test(emit_onnx, refusals)
{
    static const char *const names[] = {"w", "a", "b", "v"};
    static const uint8_t axes[] = {1, 1, 1, 0};
    static struct by_hand h;
    qt_onnx m;
    qn_cut *c;
    const qn_emit_options o = {.overwrite = true};
    qt_onnx_begin(&m, 13);
    qt_onnx_input(&m, "x", "2,3");
    qt_onnx_floats(&m, "w", 0.4, 0, 2, 3, 6);
    qt_onnx_node(&m, "MatMul", "x,w", "a", "");
    qt_onnx_ints(&m, "idx", 6, 5, 4, 3, 2, 1, 0);
    qt_onnx_node(&m, "Gather", "a,idx", "b", INT("axis", "1")); /* not the order that the family says */
    qt_onnx_floats(&m, "v", 0.4, 0, 2, 6, 2);
    qt_onnx_node(&m, "MatMul", "b,v", "y", "");
    qt_onnx_output(&m, "y", "2,2");
    qt_onnx_open a = qt_onnx_load(qt_onnx_write(&m, "refused.onnx"));
    hand_made(&h, a.g, names, axes, 4, 6, 1);
    OK(qn_cut_new(qt_made_env(1), &h.s, &c, &err));
    qn_cut_set(c, 0, 1, true);
    cr_assert_eq(qn_emit_onnx(qt_made_env(1), a.g, c, NULL, qt_made_path("refused2.onnx"), &o, &err), QN_E_UNSUPPORTED);
    cr_assert(strstr(err.text, "(Gather)"), "%s", err.text);
    qn_err_clear(&err);
    FILE *f = fopen(qt_made_path("refused2.onnx"), "rb");
    cr_assert(!f);
    qn_cut_free(c);
    qt_onnx_close(&a);
}

/* Each request for memory fails once: an error, and nothing lost. */
Test(emit_onnx, memory)
{
    const char *path = attention(true);
    qt_onnx_open a = qt_onnx_load(path);
    const qn_groups_options plain = {0};
    const qn_emit_options o = {.overwrite = true};
    qn_groups *s;
    qn_cut *c;
    OK(qn_groups_find(qt_made_env(1), a.g, &plain, &s, &err));
    OK(qn_cut_new(qt_made_env(1), s, &c, &err));
    cr_assert_gt(choose(c, 3), 0u);
    unsigned k = 1;
    for (;; k++) {
        const qn_code rc = qn_emit_onnx(qt_made_env_short(k), a.g, c, NULL, qt_made_path("mem.onnx"), &o, &err);
        if (!qt_made_memory_failed()) {
            cr_assert_eq(rc, QN_OK, "%s", err.text);
            break;
        }
        cr_assert(rc == QN_OK || rc == QN_E_MEMORY || rc == QN_E_UNSUPPORTED, "request %u: %s", k, err.text); /* a shape not worked out */
        qn_err_clear(&err);
    }
    cr_assert_gt(k, 50u);
    qn_cut_free(c);
    qn_groups_free(s);
    qt_onnx_close(&a);
}
