/* test_npy_write.c: bytes of .npy files against the format's description; numpy itself judges in tests/interop. */
#include "base/half.h"
#include "base/num.h"
#include "formats/npz/npy_write.h"
#include "tests/support/made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static size_t slurp(const char *path, uint8_t *buf, size_t cap)
{
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f, "%s", path);
    const size_t n = fread(buf, 1, cap, f);
    fclose(f);
    return n;
}

/* Writes one tensor and returns the file's bytes; *data is where the elements begin. */
static size_t written(const qt_made_tensor *t, const qn_npy_options *opt, uint8_t *buf, size_t cap, size_t *data,
                      qn_npy_written *w)
{
    const char *out = qt_made_path("x.npy");
    qn_source *s = qt_made_open(qt_made_env(1), qt_made_safetensors("t.safetensors", t, 1, NULL));
    qn_npy_options o = opt ? *opt : (qn_npy_options){0};
    o.overwrite = true;
    cr_assert_eq(qn_npy_write(s, qn_source_tensor_find(s, t->name), out, &o, w, NULL), QN_OK);
    qn_source_close(s);
    const size_t n = slurp(out, buf, cap);
    cr_assert_eq(n, w->n_bytes);
    cr_assert_eq(memcmp(buf, "\x93NUMPY\1\0", 8), 0);
    *data = 10u + qn_load16(buf + 8);
    cr_assert_eq(*data % 64, 0);
    cr_assert_eq(buf[*data - 1], '\n');
    return n;
}

Test(npy_write, header_and_elements)
{
    static const float v[6] = {1, -2, 3.5f, 0, 1e-40f, 7};
    const qt_made_tensor t = {"w", QN_F32, 2, {2, 3}, v};
    uint8_t buf[512];
    size_t data;
    qn_npy_written w;
    const size_t n = written(&t, NULL, buf, sizeof buf, &data, &w);
    static const char want[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
    cr_assert_eq(memcmp(buf + 10, want, sizeof want - 1), 0);
    cr_assert_eq(n - data, sizeof v);
    cr_assert_eq(memcmp(buf + data, v, sizeof v), 0);
    cr_assert_str_eq(w.numpy_name, "float32");
    cr_assert_not(w.as_bits);
}

Test(npy_write, shapes)
{
    static const uint8_t v[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const struct {
        qt_made_tensor t;
        const char *shape;
    } rows[] = {
        {{"w", QN_U8, 0, {0}, v}, "'shape': (), }"},
        {{"w", QN_U8, 1, {1}, v}, "'shape': (1,), }"},
        {{"w", QN_U8, 3, {2, 0, 3}, v}, "'shape': (2, 0, 3), }"},
        {{"w", QN_F4, 2, {2, 8}, v}, "'shape': (2, 4), }"},  /* bytes of the innermost dimension */
        {{"w", QN_F4, 2, {2, 3}, v}, "'shape': (3,), }"},    /* rows end inside a byte: flat     */
        {{"w", QN_F6_E2M3, 1, {8}, v}, "'shape': (6,), }"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t buf[512];
        size_t data;
        qn_npy_written w;
        const size_t n = written(&rows[i].t, NULL, buf, sizeof buf, &data, &w);
        buf[data - 1] = '\0';
        cr_assert_not_null(strstr((char *)buf + 10, rows[i].shape), "%s", (char *)buf + 10);
        uint64_t elems, bytes;
        cr_assert(qn_shape_bytes(rows[i].t.dtype, rows[i].t.dims, rows[i].t.rank, &elems, &bytes));
        cr_assert_eq(n - data, bytes);
        cr_assert_eq(memcmp(buf + data, v, bytes), 0);
    }
}

Test(npy_write, narrow_floats_as_bits_or_widened)
{
    static uint8_t bf16[65536 * 2], buf[65536 * 4 + 128];
    for (unsigned i = 0; i < 65536; i++)
        qn_store16(bf16 + 2 * i, (uint16_t)i);
    const qt_made_tensor t = {"w", QN_BF16, 2, {256, 256}, bf16};
    size_t data;
    qn_npy_written w;
    size_t n = written(&t, NULL, buf, sizeof buf, &data, &w);
    cr_assert(w.as_bits && memcmp(w.descr, "<u2", 4) == 0);
    cr_assert(n - data == sizeof bf16 && memcmp(buf + data, bf16, sizeof bf16) == 0);
    n = written(&t, &(qn_npy_options){.widen = true}, buf, sizeof buf, &data, &w);
    cr_assert(!w.as_bits && memcmp(w.descr, "<f4", 4) == 0 && n - data == 65536 * 4);
    for (unsigned i = 0; i < 65536; i++)
        cr_assert_eq(qn_load32(buf + data + 4 * i), (uint32_t)i << 16, "NaN payloads stay too");
    static const uint8_t f4[2] = {0x21, 0xf7}; /* 0.5 1 6 −6 */
    const qt_made_tensor p = {"w", QN_F4, 1, {4}, f4};
    n = written(&p, &(qn_npy_options){.widen = true}, buf, sizeof buf, &data, &w);
    static const float want[4] = {0.5f, 1, 6, -6};
    cr_assert(n - data == sizeof want && memcmp(buf + data, want, sizeof want) == 0);
}

Test(npy_write, rows)
{
    uint16_t v[10 * 3];
    for (uint16_t i = 0; i < 30; i++)
        v[i] = i;
    const qt_made_tensor t = {"w", QN_U16, 2, {10, 3}, v};
    uint8_t buf[512];
    size_t data;
    qn_npy_written w;
    for (uint64_t first = 0; first <= 10; first++)
        for (uint64_t n_rows = 0; first + n_rows <= 10; n_rows++) {
            const qn_npy_options o = {.some_rows = true, .first_row = first, .n_rows = n_rows};
            const size_t n = written(&t, &o, buf, sizeof buf, &data, &w);
            cr_assert_eq(w.dims[0], n_rows);
            cr_assert_eq(n - data, n_rows * 6);
            cr_assert_eq(memcmp(buf + data, v + first * 3, n_rows * 6), 0);
        }
}

Test(npy_write, refusals_leave_nothing_behind)
{
    static const uint8_t v[6];
    const qt_made_tensor t[] = {{"w", QN_U8, 1, {6}, v}, {"six", QN_F6_E3M2, 1, {8}, v}, {"odd", QN_F4, 2, {2, 3}, v}};
    qn_source *s = qt_made_open(qt_made_env(1), qt_made_safetensors("t.safetensors", t, 3, NULL));
    const char *out = qt_made_path("x.npy");
    const qn_npy_options far = {.some_rows = true, .first_row = 5, .n_rows = 2}, wide = {.widen = true},
                         half = {.some_rows = true, .first_row = 1, .n_rows = 1};
    cr_assert_eq(qn_npy_write(s, qn_source_tensor_find(s, "w"), out, &far, NULL, NULL), QN_E_USAGE);
    cr_assert_eq(qn_npy_write(s, qn_source_tensor_find(s, "six"), out, &wide, NULL, NULL), QN_E_UNSUPPORTED);
    cr_assert_eq(qn_npy_write(s, qn_source_tensor_find(s, "odd"), out, &half, NULL, NULL), QN_E_UNSUPPORTED);
    cr_assert_eq(qn_npy_write(s, qn_source_tensor_find(s, "w"), qt_made_dir(), NULL, NULL, NULL), QN_E_USAGE);
    cr_assert_neq(access(out, F_OK), 0);
    cr_assert_eq(qn_npy_write(s, qn_source_tensor_find(s, "w"), out, NULL, NULL, NULL), QN_OK);
    cr_assert_eq(qn_npy_write(s, qn_source_tensor_find(s, "w"), out, NULL, NULL, NULL), QN_E_USAGE, "it exists");
    qn_source_close(s);
}

Test(npy_write, out_of_memory_anywhere)
{
    static const uint8_t v[8];
    const qt_made_tensor t = {"w", QN_BF16, 1, {4}, v};
    const char *path = qt_made_safetensors("t.safetensors", &t, 1, NULL), *out = qt_made_path("x.npy");
    for (uint64_t nth = 1;; nth++) {
        const qn_env *env = qt_made_env_short(nth);
        qn_source *s = NULL;
        qn_code rc = qn_source_open(env, path, &s, NULL);
        if (rc == QN_OK)
            rc = qn_npy_write(s, qn_source_tensor_find(s, "w"), out, &(qn_npy_options){.widen = true, .overwrite = true}, NULL, NULL);
        qn_source_close(s);
        cr_assert_eq(rc, qt_made_memory_failed() ? QN_E_MEMORY : QN_OK, "request %llu", (unsigned long long)nth);
        cr_assert_neq(access(qt_made_path("x.npy.quern-npy"), F_OK), 0, "the temporary file is gone");
        if (!qt_made_memory_failed())
            break;
    }
}
