/* test_recipe.c: what a recipe means for a tensor, and what a recipe may not say. */
#include "base/err.h"
#include "compress/recipe.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static qn_arena arena;
static qn_err err;

static void set_up(void)
{
    qn_arena_init(&arena, NULL);
    qn_err_clear(&err);
}

static void tear_down(void)
{
    qn_arena_release(&arena);
}

TestSuite(recipe, .init = set_up, .fini = tear_down);

static qn_code parse(qn_recipe *r, const char *text)
{
    qn_err_clear(&err);
    return qn_recipe_parse(r, text, strlen(text), "r.yaml", &arena, &err);
}

static const char *choice_text(qn_recipe *r, const char *name, qn_lossy_role role)
{
    static char buf[256];
    const qn_recipe_choice c = qn_recipe_choose(r, name, role, 0.01);
    (void)snprintf(buf, sizeof buf, "%s", c.codec);
    const size_t n = strlen(buf);
    if (strcmp(c.codec, QN_RECIPE_LOSSLESS) != 0)
        (void)qn_settings_write(&c.set, buf + n, sizeof buf - n);
    return buf;
}

Test(recipe, general_then_role_then_rules)
{
    qn_recipe r;
    cr_assert_eq(parse(&r, "codec: grid\nbits: 3\ngroup: 64\nasymmetric: yes\nhead: {bits: 6}\nembedding: {codec: ect, bits: 5.5}\n"
                           "tensors:\n  - match: '*.down.weight'\n    bits: 4\n  - {match: 're:^layers[.]0[.]', codec: ect, states: 8}\n"
                           "  - match: layers.0.keep\n    codec: lossless\n"), QN_OK, "%s", err.text);
    cr_assert_eq(qn_recipe_check(&r, &err), QN_OK, "%s", err.text);
    cr_expect_str_eq(choice_text(&r, "layers.1.up.weight", QN_ROLE_LINEAR), "grid bits=3 group=64 asymmetric");
    cr_expect_str_eq(choice_text(&r, "layers.1.down.weight", QN_ROLE_LINEAR), "grid bits=4 group=64 asymmetric");
    cr_expect_str_eq(choice_text(&r, "layers.0.down.weight", QN_ROLE_LINEAR), "ect bits=4 states=8"); /* the grid's settings are forgotten */
    cr_expect_str_eq(choice_text(&r, "layers.0.keep", QN_ROLE_LINEAR), "lossless");
    cr_expect_str_eq(choice_text(&r, "head", QN_ROLE_HEAD), "grid bits=6 group=64 asymmetric");
    cr_expect_str_eq(choice_text(&r, "embed", QN_ROLE_EMBEDDING), "ect bits=5.5");
    cr_expect_eq(qn_recipe_check_hits(&r, &err), QN_OK);
    qn_recipe_forget_hits(&r);
    cr_expect_eq(qn_recipe_check_hits(&r, &err), QN_E_USAGE);
    cr_expect(strstr(err.text, "'*.down.weight' matches none"), "%s", err.text);
    qn_recipe_release(&r);
}

Test(recipe, heads_and_embeddings_have_two_bits_more)
{
    static const struct {
        const char *recipe;
        const char *head, *embedding;
    } cases[] = {
        {"{codec: ect, bits: 2.5}", "ect bits=4.5", "ect bits=4.5"},
        {"{codec: ect, bits: 7}", "ect bits=8", "ect bits=8"},
        {"{codec: ect}", "ect bits=6", "ect bits=6"},
        {"{codec: pvq, bits: 2}", "pvq bits=4", "grid bits=4"},      /* no pyramids across rows that are looked up */
        {"{codec: pvq, bits: 2.5}", "grid bits=5", "grid bits=5"},   /* nor of so many bits */
        {"{codec: pvq, bits: 2, embedding: {codec: pvq}}", "pvq bits=4", "pvq bits=4"}, /* unless it is asked for */
        {"{codec: grid, bits: 4, head: {bits: 16}}", "lossless", "grid bits=6"},
        {"{codec: grid, bits: 4, embedding: {codec: lossless}}", "grid bits=6", "lossless"},
        {"{codec: q4_k}", "q4_k bits=4.5", "q4_k bits=4.5"}, /* block types have the bits that they have */
        {"{codec: q4_k, head: {codec: q6_k}, embedding: {bits: 16}}", "q6_k bits=6.5625", "lossless"},
        {"{codec: ect, bits: 3, head: {codec: q8_0}}", "q8_0 bits=8.5", "ect bits=5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qn_recipe r;
        cr_assert_eq(parse(&r, cases[i].recipe), QN_OK, "%s", err.text);
        cr_expect_str_eq(choice_text(&r, "h", QN_ROLE_HEAD), cases[i].head, "%s", cases[i].recipe);
        cr_expect_str_eq(choice_text(&r, "e", QN_ROLE_EMBEDDING), cases[i].embedding, "%s", cases[i].recipe);
        qn_recipe_release(&r);
    }
}

Test(recipe, large_heads_have_one_bit_more)
{
    qn_recipe r;
    cr_assert_eq(parse(&r, "{codec: ect, bits: 3}"), QN_OK, "%s", err.text);
    cr_expect_float_eq(qn_recipe_choose(&r, "h", QN_ROLE_HEAD, 0.049).set.bits, 5, 1e-12);
    cr_expect_float_eq(qn_recipe_choose(&r, "h", QN_ROLE_HEAD, 0.051).set.bits, 4, 1e-12);
    cr_expect_float_eq(qn_recipe_choose(&r, "l", QN_ROLE_LINEAR, 0.5).set.bits, 3, 1e-12);
    r.role[QN_ROLE_HEAD].set.bits = 6;
    cr_expect_float_eq(qn_recipe_choose(&r, "h", QN_ROLE_HEAD, 0.5).set.bits, 6, 1e-12);
}

Test(recipe, one_line)
{
    qn_recipe r;
    cr_assert_eq(parse(&r, "codec: grid\ngroup: row\ndamping: 0.01\norder: natural\nfeedback: no\nhead: {bits: 6}\n"
                           "tensors: [{match: a*, codec: lossless}]\n"), QN_OK, "%s", err.text);
    cr_expect_str_eq(qn_recipe_text(&r, true, &arena, &err), "grid bits=4 group=row; head: bits=6; a*: lossless; order=natural damping=0.01");
    r.no_feedback = false;
    r.order = QN_ORDER_ACT;
    cr_expect_str_eq(qn_recipe_text(&r, true, &arena, &err), "grid bits=4 group=row; head: bits=6; a*: lossless; order=act feedback damping=0.01");
    qn_recipe_release(&r);
}

Test(recipe, sizes)
{
    qn_recipe r;
    cr_assert_eq(parse(&r, "codec: ect\nsize: 40MB\n"), QN_OK, "%s", err.text);
    cr_expect_eq(r.size_bytes, 40000000u);
    cr_expect_eq(qn_recipe_check(&r, &err), QN_OK, "%s", err.text);
    cr_assert_eq(parse(&r, "codec: ect\nbits_per_weight: 2.8\n"), QN_OK, "%s", err.text);
    cr_expect_float_eq(r.bits_per_weight, 2.8, 1e-12);
}

/* What is wrong, and the line and words that must be told. */
Test(recipe, refused)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "holds nothing"},
        {"codec: [", "not YAML"},
        {"- a\n- b\n", "line 1: found no list of 'key: value'"},
        {"codec: zip\n", "line 1: codec: found 'zip', allowed are lossless,"},
        {"codec: ect\n\ncolour: red\n", "line 3: no setting called 'colour'"},
        {"codec: ect\nbits: 3\nbits: 4\n", "line 3: 'bits' is given twice"},
        {"bits: many\n", "line 1: bits: found 'many', allowed are 0.05 to 32"},
        {"bits: nan\n", "found 'nan'"},
        {"bits: 1e999\n", "found '1e999'"},
        {"bits: -3\n", "found '-3'"},
        {"bits: 0\n", "found '0'"},
        {"bits: {a: b}\n", "bits: found no single value"},
        {"states: 8.5\n", "states: found '8.5', allowed are whole numbers from 1 to 256"},
        {"group: col\n", "or 'row'"},
        {"asymmetric: perhaps\n", "asymmetric: found 'perhaps', allowed are yes and no"},
        {"size: 0\n", "size: found '0'"},
        {"size: huge\n", "size: found 'huge'"},
        {"order: random\n", "order: found 'random', allowed are act and natural"},
        {"damping: 2\n", "damping: found '2', allowed are 0 to 1"},
        {"head: 3\n", "line 1: found no list of 'key: value'"},
        {"head: {damping: 0.1}\n", "no setting called 'damping'"},
        {"tensors: {match: a}\n", "found no list of rules"},
        {"tensors:\n- bits: 3\n", "line 2: a rule without 'match'"},
        {"tensors:\n- match: 're:('\n", "line 2: 're:(':"},
        {"tensors:\n- {match: a, codec: x}\n", "codec: found 'x'"},
        {"? [a]\n: b\n", "found a key that is not a word"},
        {"bits: 3\n---\nbits: 4\n", "found a second document"},
        {"a: &x [*x]\n", ""},
        {"\xff\xfe\xff", "not YAML"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qn_recipe r;
        cr_expect_eq(parse(&r, cases[i].text), QN_E_USAGE, "%s", cases[i].text);
        cr_expect(strstr(err.text, cases[i].says), "%s: %s", cases[i].text, err.text);
        cr_expect_str_eq(err.path, "r.yaml");
        cr_expect_eq(r.n_rules, 0u);
    }
}

Test(recipe, contradictions)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{codec: grid, states: 8}", "states does not go with the codec grid, only with ect"},
        {"{codec: ect, head: {codec: grid, states: 8}}", "head: states does not go"},
        {"{codec: ect, tensors: [{match: a, codec: pvq, group: 32}]}", "line 1: a: group does not go with the codec pvq"},
        {"{codec: ect, tensors: [{match: a, codec: lossless, bits: 3}]}", "the codec lossless has no settings"},
        {"{codec: ect, bits: 3, size: 4MB}", "give one of them"},
        {"{codec: q4_k, bits: 4}", "q4_k has 4.5 bits, none can be given"},
        {"{codec: q4_k, head: {bits: 6}}", "head: q4_k has 4.5 bits"},
        {"{codec: ect, tensors: [{match: a, codec: q8_0, bits: 8}]}", "line 1: a: q8_0 has 8.5 bits"},
        {"{codec: q4_k, group: 32}", "group does not go with the codec q4_k"},
        {"{codec: q4_k, size: 4MB}", "no size can be asked for"},
        {"{codec: ect, size: 4MB, bits_per_weight: 2}", "one of them is enough"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qn_recipe r;
        cr_assert_eq(parse(&r, cases[i].text), QN_OK, "%s", err.text);
        cr_expect_eq(qn_recipe_check(&r, &err), QN_E_USAGE, "%s", cases[i].text);
        cr_expect(strstr(err.text, cases[i].says), "%s: %s", cases[i].text, err.text);
        qn_recipe_release(&r);
    }
}

/* Every row: what is written is read back to the same; names are found; nothing else is. */
Test(recipe, settings_written_and_read)
{
    for (unsigned i = 0; i < QN_N_SETTINGS; i++) {
        const qn_setting *s = &qn_setting_tab[i];
        qn_quant_settings a = {0}, b = {0};
        char value[40], text[128];
        (void)snprintf(value, sizeof value, "%.9g", s->kind == QN_SETTING_FLAG ? 1 : s->most);
        cr_assert_eq(qn_setting_find(s->name), s);
        cr_assert_eq(qn_setting_read(s, value, &a, &err), QN_OK, "%s: %s", s->name, err.text);
        cr_assert_gt(qn_settings_write(&a, text, sizeof text), strlen(s->name));
        cr_assert_eq(text[0], ' ');
        const char *eq = strchr(text, '=');
        cr_assert_eq(qn_setting_read(s, eq ? eq + 1 : "yes", &b, &err), QN_OK);
        cr_expect(qn_settings_equal(&a, &b));
        cr_expect_not(qn_settings_equal(&a, &(qn_quant_settings){0}));
    }
    cr_expect_null(qn_setting_find("bit"));
    cr_expect_null(qn_setting_find(""));
}
