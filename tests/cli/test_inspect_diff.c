/* test_inspect_diff.c: inspect, diff and decompress --tensor as a user runs them: exit codes, JSON that parses, messages. */
#define _GNU_SOURCE
#include "tests/support/made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static char output[1 << 20];

/* Runs quern with these arguments (a shell line); stdout and stderr come together in `output`. */
static int quern(const char *fmt, ...)
{
    char args[4096], line[8192];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(args, sizeof args, fmt, ap);
    va_end(ap);
    snprintf(line, sizeof line, "cd '%s' && '%s' %s 2>&1", qt_made_dir(), QT_QUERN, args);
    FILE *p = popen(line, "r");
    cr_assert_not_null(p);
    const size_t n = fread(output, 1, sizeof output - 1, p);
    output[n] = '\0';
    const int status = pclose(p);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static json_t *parsed(void)
{
    json_error_t e;
    json_t *j = json_loads(output, JSON_REJECT_DUPLICATES, &e);
    cr_assert_not_null(j, "%s in %s", e.text, output);
    return j;
}

static const json_t *at(const json_t *j, const char *key)
{
    const json_t *v = json_object_get(j, key);
    cr_assert_not_null(v, "no key %s", key);
    return v;
}

static void make(void)
{
    static float v[300], w[300];
    static uint8_t empty;
    for (unsigned i = 0; i < 300; i++) {
        v[i] = (float)i * 0.37f;
        w[i] = v[i];
    }
    w[17] += 0.5f;
    const uint32_t odd[4] = {0x7fc00000, 0x7f800000, 0x80000000, 1};
    const qt_made_tensor a[] = {{"layer.0.w", QN_F32, 2, {20, 15}, v}, {"layer.1.w", QN_F32, 2, {20, 15}, v},
                           {"none", QN_BF16, 2, {0, 3}, &empty},  {"one", QN_F32, 0, {0}, v},
                           {"odd \x1b[31m\"name\"", QN_F32, 1, {4}, odd}};
    qt_made_tensor b[5];
    memcpy(b, a, sizeof b);
    b[1].data = w;
    /* the name must survive JSON in the header */
    qt_made_tensor x[5], y[5];
    memcpy(x, a, sizeof x);
    memcpy(y, b, sizeof y);
    x[4].name = y[4].name = "odd \\u001b[31m\\\"name\\\"";
    qt_made_safetensors("a.safetensors", x, 5, NULL);
    qt_made_safetensors("b.safetensors", y, 5, NULL);
}

Test(inspect, lists_and_json)
{
    make();
    cr_assert_eq(quern("inspect a.safetensors"), 0);
    cr_assert_not_null(strstr(output, "layer.0.w"));
    cr_assert_not_null(strstr(output, "[20, 15]"));
    cr_assert_null(strchr(output, '\x1b'), "hostile names do not reach the terminal");
    cr_assert_eq(quern("compress -q a.safetensors"), 0);
    cr_assert_eq(quern("inspect --json --stats a.safetensors a.safetensors.quern"), 0);
    json_t *j = parsed();
    const json_t *inputs = at(j, "inputs");
    cr_assert_eq(json_array_size(inputs), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *t = at(json_array_get(inputs, i), "tensors");
        cr_assert_eq(json_array_size(t), 5);
        const json_t *one = json_array_get(t, 1), *s = at(one, "stats");
        cr_assert_str_eq(json_string_value(at(s, "same_as")), "layer.0.w");
        cr_assert_eq(json_integer_value(at(s, "zeros")), 1);
        const json_t *odd = at(json_array_get(t, 4), "stats");
        cr_assert_eq(json_integer_value(at(odd, "nan")), 1);
        cr_assert_eq(json_integer_value(at(odd, "inf")), 1);
        cr_assert_eq(json_integer_value(at(odd, "negative_zeros")), 1);
        cr_assert_eq(json_integer_value(at(odd, "subnormals")), 1);
        cr_assert(json_is_null(at(at(json_array_get(t, 2), "stats"), "min")), "nothing has no minimum");
        if (i == 1)
            cr_assert_eq(json_integer_value(at(at(one, "chunks_by_codec"), "shared")), 1);
    }
    json_decref(j);
    cr_assert_eq(quern("inspect --stats a.safetensors"), 0);
    cr_assert_not_null(strstr(output, "layer.1.w  = layer.0.w"), "%s", output);
    cr_assert_not_null(strstr(output, "1 NaN, 1 Inf"));
}

Test(inspect, patterns_and_order)
{
    make();
    cr_assert_eq(quern("inspect --json --tensor 'layer.*' a.safetensors"), 0);
    json_t *j = parsed();
    cr_assert_eq(json_array_size(at(json_array_get(at(j, "inputs"), 0), "tensors")), 2);
    json_decref(j);
    cr_assert_eq(quern("inspect --json --tensor 're:^(one|none)$' --sort size a.safetensors"), 0);
    j = parsed();
    const json_t *t = at(json_array_get(at(j, "inputs"), 0), "tensors");
    cr_assert_eq(json_array_size(t), 2);
    cr_assert_str_eq(json_string_value(at(json_array_get(t, 0), "name")), "one");
    json_decref(j);
    cr_assert_eq(quern("inspect --tensor layer.0.v a.safetensors"), 2, "a pattern that matches nothing is a mistake");
    cr_assert_not_null(strstr(output, "did you mean 'layer.0.w'?"), "%s", output);
    cr_assert_eq(quern("inspect --tensor 're:(' a.safetensors"), 2);
    cr_assert_eq(quern("inspect --exact a.safetensors"), 2);
    cr_assert_eq(quern("inspect nothing.safetensors"), 5);
}

Test(diff, verdicts)
{
    make();
    cr_assert_eq(quern("compress -q a.safetensors"), 0);
    cr_assert_eq(quern("diff a.safetensors a.safetensors.quern"), 0);
    cr_assert_not_null(strstr(output, "equal: 5 tensors, and every byte around them"), "%s", output);
    cr_assert_eq(quern("diff a.safetensors b.safetensors"), 1);
    cr_assert_not_null(strstr(output, "different: 4 tensors equal, 1 tensor with other values"), "%s", output);
    cr_assert_eq(quern("diff -q a.safetensors b.safetensors"), 1);
    cr_assert_str_empty(output);
    cr_assert_eq(quern("diff a.safetensors b.safetensors --json"), 1);
    json_t *j = parsed();
    cr_assert(json_is_true(at(j, "different")));
    const json_t *t = at(j, "tensors");
    cr_assert_eq(json_array_size(t), 1);
    t = json_array_get(t, 0);
    cr_assert_eq(json_integer_value(at(t, "first_differing")), 17);
    cr_assert_float_eq(json_real_value(at(at(t, "error"), "max_abs")), 0.5, 1e-6);
    json_decref(j);
    cr_assert_eq(quern("diff a.safetensors b.safetensors --json --all"), 1);
    j = parsed();
    cr_assert_eq(json_array_size(at(j, "tensors")), 5);
    json_decref(j);
}

Test(diff, tolerances)
{
    make();
    cr_assert_eq(quern("diff -q a.safetensors b.safetensors --tolerance max-abs=0.6"), 0);
    cr_assert_eq(quern("diff -q a.safetensors b.safetensors --tolerance max-abs=0.4"), 1);
    cr_assert_eq(quern("diff -q a.safetensors b.safetensors --tolerance max-abs=0.6 --tolerance sqnr=90"), 1);
    cr_assert_eq(quern("diff -q a.safetensors b.safetensors --tensor layer.0.w"), 0);
    cr_assert_eq(quern("diff -q a.safetensors b.safetensors --tolerance 0.1"), 2);
    cr_assert_eq(quern("diff -q a.safetensors b.safetensors --tolerance max-abs=few"), 2);
    cr_assert_eq(quern("diff -q a.safetensors"), 2);
}

Test(extract, one_tensor)
{
    make();
    cr_assert_eq(quern("compress -q a.safetensors"), 0);
    cr_assert_eq(quern("decompress a.safetensors.quern --tensor layer.0.w -o x.npy"), 0);
    cr_assert_not_null(strstr(output, "[20, 15] of float32"), "%s", output);
    cr_assert_eq(quern("decompress a.safetensors.quern --tensor layer.0.w -o x.npy"), 2, "it exists");
    cr_assert_eq(quern("decompress a.safetensors.quern --tensor layer.0.w -o x.npy -f --rows 18: --json"), 0);
    json_t *j = parsed();
    cr_assert_eq(json_integer_value(json_array_get(at(j, "shape"), 0)), 2);
    json_decref(j);
    cr_assert_eq(quern("decompress a.safetensors --tensor none -o y.npy"), 0);
    cr_assert_not_null(strstr(output, "BF16 as bit patterns"), "%s", output);
    cr_assert_eq(quern("decompress a.safetensors --tensor one"), 2, "no output");
    cr_assert_eq(quern("decompress a.safetensors --tensor two -o z.npy"), 2);
    cr_assert_eq(quern("decompress a.safetensors --tensor one -o z.npy --rows 1:0"), 2);
    cr_assert_eq(quern("decompress a.safetensors.quern --rows 1:2"), 2);
}
