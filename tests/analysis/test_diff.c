/* test_diff.c: structure, bits, numbers, files; the same answer from one thread and from three. */
#include "analysis/diff.h"
#include "base/half.h"
#include "base/num.h"
#include "tests/support/made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qn_diff diff(const char *a, const char *b, const qn_diff_options *opt, unsigned n_threads)
{
    const qn_env *env = qt_made_env(n_threads);
    qn_source *x = qt_made_open(env, a), *y = qt_made_open(env, b);
    qn_diff d;
    cr_assert_eq(qn_diff_run(env, x, y, opt, &d, NULL), QN_OK);
    for (uint64_t i = 0; i < d.n_rows; i++)
        d.rows[i].name = qt_made_keep(strdup(d.rows[i].name)); /* outlives the sources */
    qt_made_keep(d.rows);
    qt_made_keep(d.files);
    qn_source_close(x);
    qn_source_close(y);
    return d;
}

static const qn_diff_row *row(const qn_diff *d, const char *name)
{
    for (uint64_t i = 0; i < d->n_rows; i++)
        if (strcmp(d->rows[i].name, name) == 0)
            return &d->rows[i];
    cr_assert_fail("no row %s", name);
    return NULL;
}

Test(diff, structure)
{
    static const float v[6] = {1, 2, 3, 4, 5, 6}, w[6] = {1, 2, 3, 4, 5, 7};
    static const uint16_t h[6] = {0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0}; /* 1 … 6 in bf16 */
    const qt_made_tensor a[] = {{"same", QN_F32, 2, {2, 3}, v}, {"gone", QN_F32, 1, {6}, v}, {"shape", QN_F32, 2, {2, 3}, v},
                           {"dtype", QN_F32, 1, {6}, v},   {"value", QN_F32, 1, {6}, v}};
    const qt_made_tensor b[] = {{"new", QN_F32, 1, {6}, v},    {"value", QN_F32, 1, {6}, w}, {"dtype", QN_BF16, 1, {6}, h},
                           {"shape", QN_F32, 2, {3, 2}, v}, {"same", QN_F32, 2, {2, 3}, v}};
    const char *pa = qt_made_safetensors("a.safetensors", a, 5, NULL), *pb = qt_made_safetensors("b.safetensors", b, 5, NULL);
    qn_diff d = diff(pa, pb, NULL, 2);
    cr_assert(d.different);
    cr_assert_eq(d.n_rows, 6);
    static const char *const order[] = {"same", "gone", "shape", "dtype", "value", "new"};
    static const qn_diff_status status[] = {QN_DIFF_EQUAL, QN_DIFF_ONLY_A, QN_DIFF_SHAPE,
                                            QN_DIFF_DTYPE, QN_DIFF_VALUES, QN_DIFF_ONLY_B};
    for (unsigned i = 0; i < 6; i++) {
        cr_assert_str_eq(d.rows[i].name, order[i]);
        cr_assert_eq(d.rows[i].status, status[i]);
        cr_assert_eq(d.n_by_status[status[i]], 1);
        cr_assert_eq(d.rows[i].within, i == 0);
    }
    const qn_diff_row *r = row(&d, "value");
    cr_assert(r->measured && r->n_differing == 1 && r->first_differing == 5);
    cr_assert_eq(r->e.max_abs, 1);
    cr_assert_eq(r->e.aa, 91);
    r = row(&d, "dtype");
    cr_assert(r->measured && r->n_differing == 0 && r->first_differing == UINT64_MAX && r->e.n == 6);
    cr_assert_eq(d.n_files, 0, "tensors differ in kind: headers are not compared");
}

Test(diff, equal_to_itself_in_every_dtype_and_shape)
{
    uint8_t v[8 * 24];
    qt_made_tensor t[(QN_DTYPE_PLAIN - 1) * 4];
    unsigned n = 0;
    char names[QN_DTYPE_PLAIN * 4][24];
    for (size_t i = 0; i < sizeof v; i++)
        v[i] = (uint8_t)(i * 37);
    for (unsigned k = 1; k < QN_DTYPE_PLAIN; k++)
        for (unsigned shape = 0; shape < 4; shape++) {
            if (qn_dtype_bits((qn_dtype)k) < 8 && shape == 1)
                continue; /* one packed element fills no byte */
            snprintf(names[n], sizeof names[n], "%s.%u", qn_dtype_name((qn_dtype)k), shape);
            t[n] = (qt_made_tensor){names[n], (qn_dtype)k, shape == 1 ? 0 : 2, {3, shape == 2 ? 0 : 8}, v};
            n++;
        }
    const char *pa = qt_made_safetensors("a.safetensors", t, n, NULL), *pb = qt_made_safetensors("b.safetensors", t, n, NULL);
    qn_diff d = diff(pa, pb, NULL, 3);
    cr_assert(!d.different);
    cr_assert_eq(d.n_by_status[QN_DIFF_EQUAL], n);
    cr_assert_eq(d.n_files, 1);
    cr_assert_eq(d.files[0].status, QN_DIFF_EQUAL);
    /* now one byte of each changed */
    v[5] ^= 0x11;
    d = diff(pa, qt_made_safetensors("b.safetensors", t, n, NULL), NULL, 3);
    for (unsigned i = 0; i < n; i++) {
        uint64_t elems, bytes;
        cr_assert(qn_shape_bytes(t[i].dtype, t[i].dims, t[i].rank, &elems, &bytes));
        cr_assert_eq(d.rows[i].status, bytes > 5 ? QN_DIFF_VALUES : QN_DIFF_EQUAL);
        if (bytes <= 5)
            continue;
        const unsigned bits = qn_dtype_bits(t[i].dtype);
        cr_assert_eq(d.rows[i].n_differing, bits == 4 ? 2 : 1);
        cr_assert_eq(d.rows[i].first_differing, bits == 6 ? 5 : 5 * 8 / bits, "%s", t[i].name);
    }
}

Test(diff, bits_count_where_numbers_are_equal)
{
    const uint32_t x[] = {0, 0x7fc00000, 0x3f800000, 0x7f800000}, y[] = {0x80000000, 0x7fc00001, 0x3f800000, 0x7f800000};
    const qt_made_tensor a = {"w", QN_F32, 1, {4}, x}, b = {"w", QN_F32, 1, {4}, y};
    const char *pa = qt_made_safetensors("a.safetensors", &a, 1, NULL), *pb = qt_made_safetensors("b.safetensors", &b, 1, NULL);
    qn_diff d = diff(pa, pb, NULL, 1);
    cr_assert(d.different);
    cr_assert_eq(d.rows[0].n_differing, 2);
    cr_assert_eq(d.rows[0].first_differing, 0);
    cr_assert_eq(d.rows[0].e.max_abs, 0);
    qn_tolerance zero = QN_TOLERANCE_ANY;
    zero.max_abs = 0;
    d = diff(pa, pb, &(qn_diff_options){.tolerance = &zero}, 1);
    cr_assert(!d.different && d.n_within == 1 && d.rows[0].within);
}

Test(diff, tolerance)
{
    const float x[] = {1, 2, 2}, y[] = {1, 2, 2.03f}; /* ‖a‖ = 3, error 0.03 */
    const uint32_t nan[] = {0x3f800000, 0x40000000, 0x7fc00000};
    const qt_made_tensor a = {"w", QN_F32, 1, {3}, x}, b = {"w", QN_F32, 1, {3}, y}, c = {"w", QN_F32, 1, {3}, nan};
    const char *pa = qt_made_safetensors("a.safetensors", &a, 1, NULL), *pb = qt_made_safetensors("b.safetensors", &b, 1, NULL),
               *pc = qt_made_safetensors("c.safetensors", &c, 1, NULL);
    const struct {
        qn_tolerance t;
        bool pass;
    } rows[] = {
        {{.max_abs = 0.031, .max_rel_rms = HUGE_VAL, .min_cosine = -HUGE_VAL, .min_sqnr_db = -HUGE_VAL}, true},
        {{.max_abs = 0.029, .max_rel_rms = HUGE_VAL, .min_cosine = -HUGE_VAL, .min_sqnr_db = -HUGE_VAL}, false},
        {{.max_abs = HUGE_VAL, .max_rel_rms = 0.0101, .min_cosine = -HUGE_VAL, .min_sqnr_db = -HUGE_VAL}, true},
        {{.max_abs = HUGE_VAL, .max_rel_rms = 0.0099, .min_cosine = -HUGE_VAL, .min_sqnr_db = -HUGE_VAL}, false},
        {{.max_abs = HUGE_VAL, .max_rel_rms = HUGE_VAL, .min_cosine = 0.999, .min_sqnr_db = 39.9}, true},
        {{.max_abs = HUGE_VAL, .max_rel_rms = HUGE_VAL, .min_cosine = 0.999, .min_sqnr_db = 40.1}, false},
        {{.max_abs = HUGE_VAL, .max_rel_rms = HUGE_VAL, .min_cosine = 1, .min_sqnr_db = 39.9}, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_assert_eq(diff(pa, pb, &(qn_diff_options){.tolerance = &rows[i].t}, 1).different, !rows[i].pass, "row %zu", i);
    cr_assert(diff(pa, pc, &(qn_diff_options){.tolerance = &QN_TOLERANCE_ANY}, 1).different, "a new NaN never passes");
}

/* Large enough for several pieces, across dtypes of different piece sizes, odd rows included. */
Test(diff, threads_do_not_matter)
{
    enum { ROWS = 1501, COLS = 1001 };
    const size_t n = (size_t)ROWS * COLS;
    float *x = qt_made_keep(malloc(n * 4));
    uint16_t *h = qt_made_keep(malloc(n * 2));
    qt_rng r = qt_seed(3);
    qt_fill_normal(&r, QN_F32, 0.02, n, (uint8_t *)x);
    long double aa = 0, sq = 0;
    double most = 0;
    size_t differing = 0, first = n;
    for (size_t i = 0; i < n; i++) {
        h[i] = qn_f32_to_bf16(x[i]);
        const double d = (double)x[i] - (double)qn_bf16_to_f32(h[i]);
        aa += (long double)x[i] * (long double)x[i];
        sq += (long double)d * (long double)d;
        most = fabs(d) > most ? fabs(d) : most;
        differing += d != 0;
        if (d != 0 && first == n)
            first = i;
    }
    const qt_made_tensor a = {"w", QN_F32, 2, {ROWS, COLS}, x}, b = {"w", QN_BF16, 2, {ROWS, COLS}, h};
    const char *pa = qt_made_safetensors("a.safetensors", &a, 1, NULL), *pb = qt_made_safetensors("b.safetensors", &b, 1, NULL);
    qn_diff one = diff(pa, pb, NULL, 1), three = diff(pa, pb, NULL, 3), back = diff(pb, pa, NULL, 3);
    cr_assert_eq(memcmp(&one.rows[0].e, &three.rows[0].e, sizeof one.rows[0].e), 0, "bit by bit");
    cr_assert_eq(one.rows[0].e.n, n);
    cr_assert_eq(one.rows[0].n_differing, differing);
    cr_assert_eq(one.rows[0].first_differing, first);
    cr_assert_eq(one.rows[0].e.max_abs, most);
    cr_assert_float_eq(one.rows[0].e.aa / (double)aa, 1, 1e-12);
    cr_assert_float_eq(one.rows[0].e.sq / (double)sq, 1, 1e-12);
    cr_assert_eq(back.rows[0].n_differing, differing);
    cr_assert_eq(back.rows[0].e.max_abs, most);
}

Test(diff, files_of_folders)
{
    static const float v[4] = {1, 2, 3, 4};
    const qt_made_tensor t = {"w", QN_F32, 1, {4}, v};
    qt_made_safetensors("a/model.safetensors", &t, 1, NULL);
    qt_made_safetensors("b/model.safetensors", &t, 1, "other");
    qt_made_file("a/config.json", "{\"x\":1}", 7);
    qt_made_file("b/config.json", "{\"x\":2}", 7);
    qt_made_file("a/same.txt", "same", 4);
    qt_made_file("b/same.txt", "same", 4);
    qt_made_file("a/longer.txt", "long", 4);
    qt_made_file("b/longer.txt", "longer", 6);
    qt_made_file("a/gone.txt", "", 0);
    qt_made_file("b/new.txt", "n", 1);
    const char *pa = qt_made_path("a"), *pb = qt_made_path("b");
    qn_diff d = diff(pa, pb, NULL, 2);
    static const qn_diff_status want[] = {QN_DIFF_VALUES, QN_DIFF_ONLY_A, QN_DIFF_VALUES,
                                          QN_DIFF_HEADER, QN_DIFF_ONLY_B, QN_DIFF_EQUAL};
    cr_assert(d.different);
    cr_assert_eq(d.n_by_status[QN_DIFF_EQUAL], 1);
    cr_assert_eq(d.n_files, 6);
    cr_assert_eq(d.n_files_differing, 5);
    for (unsigned i = 0; i < 6; i++)
        cr_assert_eq(d.files[i].status, want[i], "file %u", i);
    d = diff(pa, pb, &(qn_diff_options){.tensors_only = true}, 2);
    cr_assert(!d.different && d.n_files == 0);
    cr_assert(!diff(pa, pa, NULL, 2).different);
    d = diff(qt_made_path("a/model.safetensors"), pa, NULL, 2);
    cr_assert(!d.different, "one file against a folder: its companions are not missed");
}

Test(diff, other_order_of_the_same_tensors)
{
    static const float v[4] = {1, 2, 3, 4}, w[2] = {5, 6};
    const qt_made_tensor a[] = {{"v", QN_F32, 1, {4}, v}, {"w", QN_F32, 1, {2}, w}}, b[] = {a[1], a[0]};
    const char *pa = qt_made_safetensors("a.safetensors", a, 2, NULL), *pb = qt_made_safetensors("b.safetensors", b, 2, NULL);
    qn_diff d = diff(pa, pb, NULL, 1);
    cr_assert_eq(d.n_by_status[QN_DIFF_EQUAL], 2);
    cr_assert_eq(d.n_files, 1);
    cr_assert_eq(d.files[0].status, QN_DIFF_HEADER);
    cr_assert(d.different);
}

static bool only_w(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "w") == 0;
}

Test(diff, wanted_tensors_only)
{
    static const float v[4] = {1, 2, 3, 4}, w[4] = {0};
    const qt_made_tensor a[] = {{"v", QN_F32, 1, {4}, v}, {"w", QN_F32, 1, {4}, v}},
                    b[] = {{"v", QN_F32, 1, {4}, w}, {"w", QN_F32, 1, {4}, v}};
    const qn_diff_options opt = {.tensors_only = true, .want = only_w};
    qn_diff d = diff(qt_made_safetensors("a.safetensors", a, 2, NULL), qt_made_safetensors("b.safetensors", b, 2, NULL), &opt, 1);
    cr_assert(!d.different && d.n_rows == 1);
}

/* The first difference may lie in any piece: nothing of the two tensors may go unread. */
Test(diff, one_bit_anywhere)
{
    const size_t n = 9 << 20; /* three pieces */
    uint8_t *x = qt_made_keep(calloc(n, 1)), *y = qt_made_keep(calloc(n, 1));
    const size_t places[] = {0, 1, (4 << 20) - 1, 4 << 20, (5 << 20) + 3, n - 1};
    const qt_made_tensor a = {"w", QN_F32, 2, {9 << 10, 256}, x}, b = {"w", QN_F32, 2, {9 << 10, 256}, y};
    const char *pa = qt_made_safetensors("a.safetensors", &a, 1, NULL);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        y[places[i]] = 1;
        qn_diff d = diff(pa, qt_made_safetensors("b.safetensors", &b, 1, NULL), NULL, 3);
        cr_assert(d.different && d.rows[0].status == QN_DIFF_VALUES);
        cr_assert_eq(d.rows[0].first_differing, places[i] / 4);
        cr_assert_eq(d.rows[0].n_differing, 1);
        cr_assert_eq(d.rows[0].e.n, n / 4);
        y[places[i]] = 0;
    }
    cr_assert(!diff(pa, qt_made_safetensors("b.safetensors", &b, 1, NULL), NULL, 3).different);
    /* the same in a file of a folder */
    const qt_made_tensor t = {"w", QN_U8, 1, {1}, x};
    qt_made_safetensors("p/m.safetensors", &t, 1, NULL);
    qt_made_safetensors("q/m.safetensors", &t, 1, NULL);
    qt_made_file("p/big.bin", x, n);
    y[n - 1] = 1;
    qt_made_file("q/big.bin", y, n);
    qn_diff d = diff(qt_made_path("p"), qt_made_path("q"), NULL, 3);
    cr_assert(d.different && d.n_files_differing == 1 && d.files[0].status == QN_DIFF_VALUES);
}

Test(diff, memory_limit)
{
    const size_t n = 4 << 20;
    uint8_t *x = qt_made_keep(calloc(n, 1));
    const qt_made_tensor a = {"w", QN_F32, 2, {1 << 10, 1024}, x};
    const char *pa = qt_made_safetensors("a.safetensors", &a, 1, NULL);
    qn_env env = *qt_made_env(4);
    qn_source *s = qt_made_open(&env, pa);
    qn_diff d;
    env.memory_bytes = 9 << 20;
    cr_assert_eq(qn_diff_run(&env, s, s, NULL, &d, NULL), QN_E_MEMORY);
    env.memory_bytes = 20 << 20;
    cr_assert_eq(qn_diff_run(&env, s, s, NULL, &d, NULL), QN_OK);
    qn_diff_release(&env, &d);
    qn_source_close(s);
}

/* Whichever request fails: a clean error, and nothing is leaked (which the sanitized build sees). */
Test(diff, out_of_memory_anywhere)
{
    static const float v[4] = {1, 2, 3, 4}, w[4] = {1, 2, 3, 5};
    const qt_made_tensor a = {"w", QN_F32, 1, {4}, v}, b = {"w", QN_F32, 1, {4}, w};
    const char *pa = qt_made_safetensors("a.safetensors", &a, 1, NULL), *pb = qt_made_safetensors("b.safetensors", &b, 1, NULL);
    for (uint64_t nth = 1;; nth++) {
        const qn_env *env = qt_made_env_short(nth);
        qn_source *x = NULL, *y = NULL;
        qn_diff d;
        qn_code rc = qn_source_open(env, pa, &x, NULL);
        if (rc == QN_OK)
            rc = qn_source_open(env, pb, &y, NULL);
        if (rc == QN_OK)
            rc = qn_diff_run(env, x, y, NULL, &d, NULL);
        if (rc == QN_OK)
            qn_diff_release(env, &d);
        qn_source_close(x);
        qn_source_close(y);
        cr_assert_eq(rc, qt_made_memory_failed() ? QN_E_MEMORY : QN_OK, "request %llu", (unsigned long long)nth);
        if (!qt_made_memory_failed())
            break;
    }
}
