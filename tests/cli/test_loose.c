/* test_loose.c: tensors that are no object of their file (deflated, in Fortran order) go through every command that asks for
 * tensors, and the file that holds them is packed and restored like any other. */
#define _GNU_SOURCE
#include "formats/safetensors/write.h"
#include "tests/support/made.h"
#include "tests/support/npz_build.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

enum { ROWS = 20, COLS = 15 };

static char output[1 << 16];
static float straight[ROWS * COLS], other[ROWS * COLS];

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

static void add(qt_npz *z, const char *name, bool fortran, bool deflate, const float *v)
{
    qt_buf b = {0};
    qt_add_npy(&b, fortran ? "{'descr': '<f4', 'fortran_order': True, 'shape': (20, 15), }"
                           : "{'descr': '<f4', 'fortran_order': False, 'shape': (20, 15), }", 0);
    for (unsigned i = 0; i < ROWS * COLS; i++)
        qt_add(&b, fortran ? &v[i % ROWS * COLS + i / ROWS] : &v[i], sizeof *v);
    qt_npz_add(z, name, b.p, b.n, deflate);
    qt_buf_free(&b);
}

/* m.npz; n.npz with one value changed in the deflated tensor; and the tensors of m as straight.safetensors. */
static void make(void)
{
    for (unsigned i = 0; i < ROWS * COLS; i++)
        straight[i] = other[i] = (float)(i + 1) * 0.25f;
    other[17] += 0.5f;
    for (unsigned k = 0; k < 2; k++) {
        qt_npz z = {0};
        add(&z, "plain.npy", false, false, straight);
        add(&z, "deflated.npy", false, true, k ? other : straight);
        add(&z, "fortran.npy", true, false, straight);
        add(&z, "both.npy", true, true, straight);
        qt_npz_end(&z);
        (void)qt_made_file(k ? "n.npz" : "m.npz", z.file.p, z.file.n);
        qt_npz_free(&z);
    }
    const qt_made_tensor t[] = {{"plain", QN_F32, 2, {ROWS, COLS}, straight}, {"deflated", QN_F32, 2, {ROWS, COLS}, straight},
                                {"fortran", QN_F32, 2, {ROWS, COLS}, straight}, {"both", QN_F32, 2, {ROWS, COLS}, straight}};
    (void)qt_made_safetensors("straight.safetensors", t, 4, NULL);
}

static json_t *inputs_of(void)
{
    json_error_t e;
    json_t *j = json_loads(output, JSON_REJECT_DUPLICATES, &e);
    cr_assert_not_null(j, "%s in %s", e.text, output);
    return j;
}

Test(loose, inspect)
{
    make();
    cr_assert_eq(quern("inspect m.npz"), 0);
    cr_expect_not_null(strstr(output, "m.npz: npz, 4 tensors"), "%s", output);
    cr_expect_not_null(strstr(output, "deflated  F32    [20, 15]"), "%s", output);
    cr_assert_eq(quern("inspect m.npz --json --stats"), 0);
    json_t *j = inputs_of();
    const json_t *t = json_object_get(json_array_get(json_object_get(j, "inputs"), 0), "tensors");
    cr_assert_eq(json_array_size(t), 4);
    for (size_t i = 0; i < 4; i++) {
        const json_t *one = json_array_get(t, i);
        const bool in_place = strcmp(json_string_value(json_object_get(one, "name")), "plain") == 0;
        cr_expect_eq(json_object_get(one, "offset") != NULL, in_place, "where it lies is told when it lies there");
        cr_expect_str_eq(json_string_value(json_object_get(one, "file")), "m.npz");
        cr_expect_eq(json_integer_value(json_object_get(one, "bytes")), sizeof straight);
        const json_t *stats = json_object_get(one, "stats");
        cr_expect_float_eq(json_number_value(json_object_get(stats, "max")), 75.0, 1e-9);
        cr_expect_eq(json_object_get(stats, "same_as") != NULL, i > 0, "all four are the same");
    }
    json_decref(j);
    cr_assert_eq(quern("inspect --tensor deflatd m.npz"), 2);
    cr_expect_not_null(strstr(output, "did you mean 'deflated'?"), "%s", output);
}

Test(loose, diff)
{
    make();
    cr_assert_eq(quern("diff straight.safetensors m.npz"), 0);
    cr_expect_not_null(strstr(output, "equal: 4 tensors"), "%s", output);
    cr_assert_eq(quern("diff m.npz m.npz"), 0);
    cr_expect_not_null(strstr(output, "equal: 4 tensors, and every byte around them"), "%s", output);
    cr_assert_eq(quern("diff m.npz n.npz"), 1);
    cr_expect_not_null(strstr(output, "3 tensors equal, 1 tensor with other values"), "%s", output);
    cr_assert_eq(quern("diff straight.safetensors n.npz --tolerance max-abs=0.6 -q"), 0);
    cr_assert_eq(quern("diff m.npz n.npz --tensor 'both' -q"), 0);
}

Test(loose, extract_and_pack)
{
    make();
    static const char *const names[] = {"plain", "deflated", "fortran", "both"};
    for (unsigned i = 0; i < 4; i++) {
        cr_assert_eq(quern("decompress m.npz --tensor %s -o %s.npy", names[i], names[i]), 0, "%s", output);
        cr_assert_eq(quern("decompress m.npz --tensor %s -o rows.npy -f --rows 3:5", names[i]), 0);
        uint8_t got[512];
        FILE *f = fopen(qt_made_path("rows.npy"), "rb");
        const size_t n = fread(got, 1, sizeof got, f);
        fclose(f);
        cr_assert_eq(n, 128 + 2 * COLS * sizeof *straight);
        cr_expect_eq(memcmp(got + 128, straight + 3 * COLS, 2 * COLS * sizeof *straight), 0, "%s", names[i]);
    }
    cr_assert_eq(quern("diff plain.npy both.npy"), 1, "of another name");
    cr_assert_eq(quern("compress -q m.npz -o m.quern"), 0, "%s", output);
    cr_assert_eq(quern("verify -q m.quern --against m.npz"), 0, "%s", output);
    cr_assert_eq(quern("decompress -q m.quern -o back.npz"), 0);
    cr_assert_eq(quern("diff -q m.npz back.npz"), 0);
}

Test(loose, export)
{
    make();
    const qn_env *env = qt_made_env(2);
    qn_source *s = qt_made_open(env, qt_made_path("m.npz"));
    const qn_safetensors_options opt = {.overwrite = true};
    cr_assert_eq(qn_safetensors_write_file(env, s, qt_made_path("out.safetensors"), &opt, NULL), QN_OK);
    qn_source_close(s);
    cr_assert_eq(quern("diff straight.safetensors out.safetensors --tensors-only"), 0, "%s", output);
}
