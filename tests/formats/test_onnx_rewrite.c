/* test_onnx_rewrite.c: models written again: byte for byte where nothing changes, and exactly what was asked where something does. Expected files
 * are written down as text. */
#include "base/num.h"
#include "formats/onnx/rewrite.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/proto.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static qn_err err;

/* ---- help ---- */

static qn_source *open_text(const char *rel, const char *text)
{
    qt_buf b = {0};
    qt_add_proto(&b, text, NULL);
    const char *path = qt_made_file(rel, b.p, b.n);
    qt_buf_free(&b);
    return qt_made_open(qt_made_env(1), path);
}

static qt_buf contents(const char *path)
{
    qt_buf b = {0};
    qt_add(&b, "", 0);
    FILE *f = fopen(path, "rb");
    uint8_t some[4096];
    cr_assert(f, "%s", path);
    for (size_t n; (n = fread(some, 1, sizeof some, f)) > 0;)
        qt_add(&b, some, n);
    fclose(f);
    return b;
}

static void is_file(const char *path, const char *text)
{
    qt_buf want = {0}, got = contents(path);
    qt_add_proto(&want, text, NULL);
    for (size_t i = 0; i < got.n && i < want.n; i++)
        cr_assert_eq(got.p[i], want.p[i], "byte %zu is %02x, not %02x", i, got.p[i], want.p[i]);
    cr_assert_eq(got.n, want.n, "%zu bytes, not %zu", got.n, want.n);
    qt_buf_free(&got);
    qt_buf_free(&want);
}

static const qn_onnx_tensor *tensor_of(const qn_source *s, const char *name)
{
    const qn_onnx_model *m = qn_onnx_source_model(s);
    for (uint64_t i = 0; i < m->n_weights; i++)
        if (!strcmp(m->weights[i].name, name))
            return m->weights[i].tensor;
    cr_assert_fail("no tensor %s", name);
    return NULL;
}

/* Content of id k: k, k + 1, … */
static qn_code counting(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *e)
{
    (void)ctx;
    (void)e;
    for (uint64_t i = 0; i < n; i++)
        ((uint8_t *)dst)[i] = (uint8_t)(id + off + i);
    return QN_OK;
}

static qn_code failing(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *e)
{
    (void)ctx;
    (void)id;
    (void)off;
    memset(dst, 0, n);
    return QN_FAIL(e, QN_E_INPUT, QN_NO_OFFSET, "a content that fails");
}

static const qn_onnx_rewrite_options plain = {.overwrite = true};

static void rewrite(qn_source *s, const qn_onnx_edits *e, const char *path, const qn_onnx_rewrite_options *o)
{
    OK(qn_onnx_rewrite(qt_made_env(1), s, e, path, o ? o : &plain, &err));
    qn_source_close(s);
}

static void has(qn_source *s, const char *name, const void *want, size_t n)
{
    const uint64_t i = qn_source_tensor_find(s, name);
    cr_assert_neq(i, UINT64_MAX, "%s is not there", name);
    cr_assert_eq(s->tensors[i].n_bytes, n);
    uint8_t *got = malloc(n + 1);
    OK(qn_source_tensor_read(s, i, 0, n, got, &err));
    cr_assert(memcmp(got, want, n) == 0, "%s: other bytes", name);
    free(got);
}

/* ---- tests ---- */

/* Unknown fields of every wire type, a length that is longer than it needs to be, odd orders, subgraphs and functions. */
Test(onnx_rewrite, nothing_changes)
{
    qn_source *s = open_text("same.onnx", "#1=8 @8{#2=13} @14{@1{'k'} @2{'v'}} #90=5 %91=7 &92=9 @93{'xy'} @7{2a 91 80 00 #1=2 #2=1 @8{'w'} @9{z8}"
                                          "@77{'?'} @10{'doc'} @1{@4{'If'} @5{@1{'then_branch'} @6{@5{#2=9 @8{'w'} #5=1}}}} @13{@1{'h'}} @2{'g'}"
                                          "@55{z71}}");
    const qn_onnx_edits none = {0};
    qt_buf want = contents(qt_made_path("same.onnx")), got;
    rewrite(s, &none, qt_made_path("same2.onnx"), NULL);
    got = contents(qt_made_path("same2.onnx"));
    cr_assert(got.n == want.n && memcmp(got.p, want.p, got.n) == 0);
    qt_buf_free(&want);
    qt_buf_free(&got);
    s = open_text("fn.onnx", "@25{@1{'fn'} @7{@2{'c'} @4{'Constant'} @5{@1{'value'} @5{#2=2 #5=7}}}} #1=8 @7{} @8{#2=13}");
    rewrite(s, &none, qt_made_path("fn2.onnx"), NULL);
    is_file(qt_made_path("fn2.onnx"), "@25{@1{'fn'} @7{@2{'c'} @4{'Constant'} @5{@1{'value'} @5{#2=2 #5=7}}}} #1=8 @7{} @8{#2=13}");
}

/* Every way in which a tensor may hold its values gives way to raw_data; what else stands in the message stays. */
Test(onnx_rewrite, every_way_to_hold_values)
{
    static const struct {
        const char *fields;
        unsigned data_type, n; /* bytes of 3 elements */
    } rows[] = {
        {"#2=1 @9{z8}", 1, 12},          {"@4{z8} #2=1", 1, 12},      {"#2=1 %4=1 %4=2", 1, 12},   {"#2=11 @10{z16}", 11, 24},
        {"#2=7 #7=1 #7=-1", 7, 24},      {"#2=7 @7{01 02}", 7, 24},   {"#2=2 @5{01 02}", 2, 3},    {"#2=9 #5=1 #5=0", 9, 3},
        {"#2=10 @5{8078 00}", 10, 6},    {"#2=16 @9{z4}", 16, 6},     {"#2=12 #11=1 #11=2", 12, 12}, {"#2=22 @9{21}", 22, 2},
        {"#2=14 @4{z16}", 14, 24},       {"#2=15 @10{z32}", 15, 48},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[400], content[200] = "", kept[40];
        snprintf(text, sizeof text, "#1=8 @8{#2=13} @7{@5{#1=2 @8{'w'} %s @77{'?'} @12{'doc'}}}", rows[i].fields);
        qn_source *s = open_text("one.onnx", text);
        const uint64_t three = 3;
        const qn_onnx_new_tensor t = {.tensor = qn_onnx_source_model(s)->graph->initializers, .dims = &three, .rank = 1, .id = 5};
        rewrite(s, &(qn_onnx_edits){.tensors = &t, .n_tensors = 1, .read = counting}, qt_made_path("two.onnx"), NULL);
        for (unsigned k = 0; k < rows[i].n; k++)
            snprintf(content + strlen(content), sizeof content - strlen(content), "%02x", 5 + k);
        snprintf(kept, sizeof kept, "#2=%u", rows[i].data_type);
        snprintf(text, sizeof text, "#1=8 @8{#2=13} @7{@5{#1=3 @8{'w'} %s @77{'?'} @12{'doc'} @9{%s}}}", kept, content);
        is_file(qt_made_path("two.onnx"), text);
    }
}

Test(onnx_rewrite, nodes)
{
    static const char *const in[] = {"a", "", "b"}, *const out[] = {"z"}, *const drop[] = {"gone"};
    static const int64_t pads[] = {1, -1}, axis = -3;
    static const qn_onnx_new_attr attrs[] = {{.name = "pads", .ints = pads, .n = 2},
                                             {.name = "axis", .ints = &axis, .n = QN_ONNX_ONE_INT},
                                             {.name = "scale", .f = 1.0f, .n = QN_ONNX_ONE_FLOAT},
                                             {.name = "none", .n = 0}};
    qn_source *s = open_text("n.onnx", "#1=8 @8{#2=13} @7{@1{@1{'x'} @2{'y'} @3{'first'} @4{'Relu'} @6{'doc'} #99=1}"
                                       "@1{@1{'y'} @1{'w'} @2{'z'} @3{'second'} @4{'Pad'} @5{@1{'pads'} #8=5 #20=7} @5{@1{'keep'} #3=1 #20=2}"
                                       "@5{@1{'gone'} %2=1 #20=1}} @13{@1{'y'}} @13{@1{'z'}} @11{@1{'x'}} @12{@1{'z'}}}");
    const qn_onnx_node *d = qn_onnx_source_model(s)->graph->nodes;
    const qn_onnx_new_node nodes[] = {
        {.node = &d[1], .inputs = in, .n_inputs = 3, .outputs = out, .n_outputs = 1, .op_type = "Slice", .attrs = attrs, .n_attrs = 4,
         .drop_attrs = drop, .n_drop_attrs = 1},
        {.node = &d[0], .remove = true},
    };
    rewrite(s, &(qn_onnx_edits){.nodes = nodes, .n_nodes = 2}, qt_made_path("n2.onnx"), NULL);
    is_file(qt_made_path("n2.onnx"),
            "#1=8 @8{#2=13} @7{@1{@1{'a'} @1{} @1{'b'} @2{'z'} @4{'Slice'} @3{'second'} @5{@1{'keep'} #3=1 #20=2} @5{@1{'pads'} #8=1 #8=-1 #20=7}"
            "@5{@1{'axis'} #3=-3 #20=2} @5{@1{'scale'} %2=1065353216 #20=1} @5{@1{'none'} #20=7}} @13{@1{'z'}} @11{@1{'x'}} @12{@1{'z'}}}");
}

/* Of IR version 3 initializers are inputs too; also constants, subgraphs and functions are reached; properties are set. */
Test(onnx_rewrite, everywhere)
{
    qn_source *s = open_text("e.onnx",
        "#1=3 @8{#2=9} @14{@1{'quern.pruning'} @2{'old'}} @14{@1{'k'} @2{'v'}} @7{@5{#1=2 #2=1 @8{'w'} @9{z8}} @5{#1=1 #2=1 @8{'d'} @9{z4}}"
        "@1{@2{'c'} @4{'Constant'} @5{@1{'value'} @5{#1=1 #2=7 #7=3} #20=4}} @11{@1{'x'} @2{@1{#1=1}}} @11{@3{'doc'} @1{'w'} "
        "@2{@1{#1=1 @2{@1{#1=2}}}}} @11{@1{'d'}} @13{@1{'c'}}"
        "@1{@1{'b'} @3{'if'} @4{'If'} @5{@1{'then_branch'} @6{@5{#2=9 @8{'i'} #5=1}} #20=5}}}"
        "@25{@1{'fn'} @7{@2{'c'} @4{'Constant'} @5{@1{'value'} @5{#2=2 #5=7}}}}");
    static const uint64_t four[] = {2, 2}, one = 1;
    static const char *const drop[] = {"d"};
    static const qn_onnx_pair prop = {.key = "quern.pruning", .value = "new"};
    const qn_onnx_new_tensor t[] = {{.tensor = tensor_of(s, "fn/c"), .dims = &one, .rank = 1, .id = 1},
                                    {.tensor = tensor_of(s, "w"), .dims = four, .rank = 2, .id = 2},
                                    {.tensor = tensor_of(s, "c"), .dims = &one, .rank = 0, .id = 3},
                                    {.tensor = tensor_of(s, "if/i"), .dims = &one, .rank = 1, .id = 0}};
    const qn_onnx_add_tensor a = {.name = "n", .dims = &one, .rank = 1, .data_type = QN_ONNX_FLOAT, .id = 4};
    rewrite(s, &(qn_onnx_edits){.tensors = t, .n_tensors = 4, .added = &a, .n_added = 1, .drop_initializers = drop, .n_drop_initializers = 1,
                                .props = &prop, .n_props = 1, .drop_value_info = true, .read = counting}, qt_made_path("e2.onnx"), NULL);
    is_file(qt_made_path("e2.onnx"),
        "#1=3 @8{#2=9} @14{@1{'k'} @2{'v'}} @7{@5{#1=2 #1=2 #2=1 @8{'w'} @9{02030405060708090a0b0c0d0e0f1011}}"
        "@1{@2{'c'} @4{'Constant'} @5{@1{'value'} @5{#2=7 @9{030405060708090a}} #20=4}} @11{@1{'x'} @2{@1{#1=1}}} @11{@3{'doc'} @1{'w'} "
        "@2{@1{#1=1 @2{@1{#1=2} @1{#1=2}}}}}"
        "@1{@1{'b'} @3{'if'} @4{'If'} @5{@1{'then_branch'} @6{@5{#1=1 #2=9 @8{'i'} @9{00}}} #20=5}}"
        "@5{#1=1 #2=1 @8{'n'} @9{04050607}} @11{@1{'n'} @2{@1{#1=1 @2{@1{#1=1}}}}}}"
        "@25{@1{'fn'} @7{@2{'c'} @4{'Constant'} @5{@1{'value'} @5{#1=1 #2=2 @9{01}}}}} @14{@1{'quern.pruning'} @2{'new'}}");
}

/* Into a data file, back into the model, and from one data file into another. */
Test(onnx_rewrite, data_files)
{
    static uint8_t zeros[2048], rising[1200];
    const uint64_t n = 300;
    for (unsigned i = 0; i < sizeof rising; i++)
        rising[i] = (uint8_t)(9 + i);
    qn_source *s = open_text("d.onnx", "#1=8 @8{#2=13} @7{@5{#1=512 #2=1 @8{'big'} @9{z2048}} @5{#1=2 #2=1 @8{'small'} @9{z8}} @5{#1=300 #2=7 @8{'i'} "
                                       "r300(#7=-2)} @5{#1=1 #2=1 @8{'w'} %4=1}}");
    const qn_onnx_new_tensor t = {.tensor = tensor_of(s, "w"), .dims = &n, .rank = 1, .id = 9};
    const qn_onnx_edits e = {.tensors = &t, .n_tensors = 1, .read = counting};
    rewrite(s, &e, qt_made_path("d2.onnx"), &(qn_onnx_rewrite_options){.external_bytes = 1000});
    int64_t ints[300];
    for (unsigned i = 0; i < 300; i++)
        ints[i] = -2;
    const qn_onnx_edits none = {0};
    for (unsigned turn = 0; turn < 3; turn++) {
        static const char *const names[] = {"d2.onnx", "d3.onnx", "d4.onnx"};
        s = qt_made_open(qt_made_env(1), qt_made_path(names[turn]));
        cr_assert_eq(s->n_files, turn == 2 ? 1u : 2u);
        has(s, "big", zeros, 2048);
        has(s, "small", zeros, 8);
        has(s, "i", ints, sizeof ints);
        has(s, "w", rising, 1200);
        if (turn < 2)
            rewrite(s, &none, qt_made_path(names[turn + 1]), &(qn_onnx_rewrite_options){.external_bytes = turn ? 0 : 1000});
        else
            qn_source_close(s);
    }
    qt_buf one = contents(qt_made_path("d2.onnx.data")), two = contents(qt_made_path("d3.onnx.data"));
    cr_assert(one.n == two.n && memcmp(one.p, two.p, one.n) == 0);
    cr_assert_eq(one.n, 2048u + 2432 + 1200, "%zu", one.n);
    qt_buf_free(&one);
    qt_buf_free(&two);
}

/* Whatever fails leaves nothing behind, and what was there as it was. */
Test(onnx_rewrite, failures_leave_nothing)
{
    const char *path = qt_made_path("f2.onnx");
    const uint64_t two = 2000;
    qn_source *s = open_text("f.onnx", "#1=8 @8{#2=13} @7{@5{#1=2 #2=1 @8{'w'} @9{z8}} @5{#1=1 #2=8 @8{'s'} @6{'abc'}}}");
    const qn_onnx_new_tensor t = {.tensor = tensor_of(s, "w"), .dims = &two, .rank = 1},
                             text = {.tensor = tensor_of(s, "s"), .dims = &two, .rank = 1};
    const qn_onnx_edits bad = {.tensors = &t, .n_tensors = 1, .read = failing}, strings = {.tensors = &text, .n_tensors = 1, .read = counting},
                        none = {0}, good = {.tensors = &t, .n_tensors = 1, .read = counting};
    const qn_onnx_rewrite_options keep = {0}, beside = {.external_bytes = 100};
    const qn_env *env = qt_made_env(1);
    cr_assert_eq(qn_onnx_rewrite(env, s, &bad, path, &keep, &err), QN_E_INPUT);
    cr_assert_str_eq(err.tensor, "w");
    qn_err_clear(&err);
    cr_assert_eq(qn_onnx_rewrite(env, s, &bad, path, &beside, &err), QN_E_INPUT);
    qn_err_clear(&err);
    cr_assert_eq(qn_onnx_rewrite(env, s, &strings, path, &keep, &err), QN_E_UNSUPPORTED);
    qn_err_clear(&err);
    static const char *const left[] = {"f2.onnx", "f2.onnx.data", "f2.onnx.quern-export", "f2.onnx.data.quern-export"};
    for (unsigned i = 0; i < 4; i++)
        cr_assert_neq(access(qt_made_path(left[i]), F_OK), 0, "%s", left[i]);
    qt_made_file("f2.onnx.data", "mine", 4);
    cr_assert_eq(qn_onnx_rewrite(env, s, &good, path, &beside, &err), QN_E_USAGE);
    qn_err_clear(&err);
    cr_assert_neq(access(path, F_OK), 0);
    OK(qn_onnx_rewrite(env, s, &none, path, &keep, &err));
    cr_assert_eq(qn_onnx_rewrite(env, s, &none, path, &keep, &err), QN_E_USAGE);
    qn_err_clear(&err);
    for (unsigned i = 2; i < 4; i++)
        cr_assert_neq(access(qt_made_path(left[i]), F_OK), 0, "%s", left[i]);
    qn_source_close(s);
}

/* A file that is damaged after it was opened: the reader's error, and nothing is left. */
Test(onnx_rewrite, a_source_that_changes)
{
    static const uint8_t damage[] = {0xff, 0xff, 0xff, 0xff, 0xff};
    qn_source *s = open_text("g.onnx", "#1=8 @8{#2=13} @7{@5{#1=2 #2=1 @8{'w'} @9{z8}} @1{@4{'Relu'}}}");
    const qn_onnx_edits none = {0};
    FILE *f = fopen(qt_made_path("g.onnx"), "r+b");
    cr_assert(f && fseek(f, 8, SEEK_SET) == 0 && fwrite(damage, 1, sizeof damage, f) == sizeof damage);
    fclose(f);
    cr_assert_eq(qn_onnx_rewrite(qt_made_env(1), s, &none, qt_made_path("g2.onnx"), &plain, &err), QN_E_INPUT, "%s", err.text);
    qn_err_clear(&err);
    cr_assert_neq(access(qt_made_path("g2.onnx"), F_OK), 0);
    cr_assert_neq(access(qt_made_path("g2.onnx.quern-export"), F_OK), 0);
    qn_source_close(s);
}

/* Each request for memory fails once. */
Test(onnx_rewrite, memory)
{
    qn_source *s = open_text("m.onnx", "#1=3 @8{#2=13} @7{@5{#1=2 #2=1 @8{'w'} @9{z8}} @1{@4{'Relu'}} @11{@1{'w'}}}");
    const uint64_t n = 400;
    const qn_onnx_new_tensor t = {.tensor = tensor_of(s, "w"), .dims = &n, .rank = 1};
    const qn_onnx_edits e = {.tensors = &t, .n_tensors = 1, .read = counting};
    const qn_onnx_rewrite_options o = {.external_bytes = 100, .overwrite = true};
    unsigned k = 1;
    for (;; k++) {
        const qn_env *env = qt_made_env_short(k);
        const qn_code rc = qn_onnx_rewrite(env, s, &e, qt_made_path("m2.onnx"), &o, &err);
        if (!qt_made_memory_failed()) {
            cr_assert_eq(rc, QN_OK, "%s", err.text);
            break;
        }
        cr_assert_eq(rc, QN_E_MEMORY, "request %u", k);
        qn_err_clear(&err);
        cr_assert_neq(access(qt_made_path("m2.onnx"), F_OK), 0, "request %u", k);
    }
    cr_assert_gt(k, 10u);
    qn_source_close(s);
}

/* Nodes in front, behind one that stays and behind one that goes; another operator in another domain; versions replaced and added. */
Test(onnx_rewrite, nodes_are_added)
{
    static const int64_t ints[] = {3, 4}, one[] = {7};
    static const char *const a[] = {"a"}, *const b[] = {"b", "", "c"}, *const out[] = {"d"};
    const qn_onnx_new_attr attrs[] = {{.name = "k", .ints = ints, .n = 2}, {.name = "n", .ints = one, .n = QN_ONNX_ONE_INT}};
    qn_source *s = open_text("nodes.onnx", "#1=7 @8{#2=11} @8{@1{'x'} #2=1} @7{@1{@1{'p'} @2{'q'} @4{'First'}} @1{@1{'q'} @2{'r'} @4{'Second'}}"
                                           "@2{'g'} @1{@1{'r'} @2{'s'} @4{'Third'} @7{'x'}}}");
    const qn_onnx_node *nodes = qn_onnx_source_model(s)->graph->nodes;
    const qn_onnx_add_node added[] = {
        {.behind = &nodes[1], .name = "n1", .op_type = "Behind", .domain = "com.x", .inputs = b, .n_inputs = 3, .outputs = out, .n_outputs = 1,
         .attrs = attrs, .n_attrs = 2},
        {.behind = NULL, .name = "", .op_type = "Front", .domain = "", .inputs = a, .n_inputs = 1, .outputs = out, .n_outputs = 1},
        {.behind = &nodes[1], .name = "n2", .op_type = "Again", .domain = "", .inputs = a, .n_inputs = 1, .outputs = a, .n_outputs = 1},
        {.behind = &nodes[0], .name = "", .op_type = "Next", .domain = "", .inputs = NULL, .n_inputs = 0, .outputs = a, .n_outputs = 1}};
    const qn_onnx_new_node changed[] = {{.node = &nodes[1], .remove = true}, {.node = &nodes[2], .op_type = "Other", .domain = ""}};
    const qn_onnx_pair opsets[] = {{.key = "ai.onnx", .version = 13}, {.key = "com.x", .version = 2}};
    const qn_onnx_edits e = {.added_nodes = added, .n_added_nodes = 4, .nodes = changed, .n_nodes = 2, .opsets = opsets, .n_opsets = 2, .ir_version = 9};
    rewrite(s, &e, qt_made_path("nodes2.onnx"), NULL);
    is_file(qt_made_path("nodes2.onnx"),
            "#1=9 @8{#2=13} @8{@1{'x'} #2=1} @7{@1{@1{'a'} @2{'d'} @4{'Front'}} @1{@1{'p'} @2{'q'} @4{'First'}} @1{@2{'a'} @4{'Next'}}"
            "@1{@1{'b'} @1{} @1{'c'} @2{'d'} @3{'n1'} @4{'Behind'} @5{@1{'k'} #8=3 #8=4 #20=7} @5{@1{'n'} #3=7 #20=2} @7{'com.x'}}"
            "@1{@1{'a'} @2{'a'} @3{'n2'} @4{'Again'}} @2{'g'} @1{@4{'Other'} @1{'r'} @2{'s'}}} @8{@1{'com.x'} #2=2}");
}

/* A graph without a node gets its first ones all the same. */
Test(onnx_rewrite, first_node)
{
    static const char *const a[] = {"a"};
    qn_source *s = open_text("bare.onnx", "#1=7 @8{#2=11} @7{@2{'g'} @5{#1=1 #2=2 @8{'w'} @9{z1}}}");
    const qn_onnx_add_node added = {.name = "", .op_type = "Only", .domain = "", .outputs = a, .n_outputs = 1};
    const qn_onnx_edits e = {.added_nodes = &added, .n_added_nodes = 1};
    rewrite(s, &e, qt_made_path("bare2.onnx"), NULL);
    is_file(qt_made_path("bare2.onnx"), "#1=7 @8{#2=11} @7{@2{'g'} @5{#1=1 #2=2 @8{'w'} @9{z1}} @1{@2{'a'} @4{'Only'}}}");
}
