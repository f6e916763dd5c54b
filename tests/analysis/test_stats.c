/* test_stats.c: sums of inputs against sums made here, one product after another; files written and read; runs that go on
 * after a stop; merging. */
#include "analysis/stats/merge.h"
#include "analysis/stats/stats.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/stats_build.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static qn_err err;

static void fails(qn_code rc, qn_code code, const char *text)
{
    cr_assert_eq(rc, code, "code %d: %s", rc, err.text);
    cr_assert(strstr(err.text, text), "'%s' does not say '%s'", err.text, text);
    qn_err_clear(&err);
}

/* Long double sums: what H is by its definition. */
static void check_h(const qn_stats_entry *e, const float *x, size_t rows, size_t ld, size_t n)
{
    double *s = malloc(n * sizeof *s);
    for (size_t i = 0; i < n; i++) {
        long double t = 0;
        for (size_t r = 0; r < rows; r++)
            t += (long double)x[r * ld + i] * (long double)x[r * ld + i];
        s[i] = sqrt((double)t);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j += 1 + (j - i) / 8) { /* the diagonal's neighbours all, others now and then */
            long double t = 0;
            for (size_t r = 0; r < rows; r++)
                t += (long double)x[r * ld + i] * (long double)x[r * ld + j];
            const double got = qn_stats_h(e, (uint32_t)i, (uint32_t)j);
            cr_assert_leq(fabs(got - (double)t), 3e-7 * s[i] * s[j], "H %zu %zu: %g, not %Lg", i, j, got, t);
            cr_assert_eq(got, qn_stats_h(e, (uint32_t)j, (uint32_t)i));
        }
    free(s);
}

Test(stats, sums_of_inputs)
{
    static const struct {
        uint32_t n, rows, ld;
        double sigma, mean;
    } cases[] = {{1, 1, 1, 1, 0},      {2, 33, 5, 1, 0},       {127, 65, 127, 1, 0},   {128, 32, 130, 1, 0}, {129, 31, 129, 1, 3},
                 {260, 40, 260, 1, 0}, {257, 100, 300, 1e20, 0}, {130, 50, 130, 1e-25, 0}, {40, 90, 40, 0.01, 1000}};
    qt_rng rng = qt_seed(3);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const uint32_t n = cases[k].n, rows = cases[k].rows, ld = cases[k].ld;
        float *x = malloc((size_t)rows * ld * sizeof *x);
        qn_stats *s;
        qn_stats_entry *e;
        for (size_t i = 0; i < (size_t)rows * ld; i++)
            x[i] = i % ld < n ? (float)(cases[k].mean + cases[k].sigma * qt_normal(&rng)) : NAN; /* behind a row: not looked at */
        OK(qn_stats_new(qt_made_env(2), NULL, &s, &err));
        OK(qn_stats_open(s, "w", QN_STATS_NO_EXPERT, n, QN_STATS_H, &e, &err));
        OK(qn_stats_add(s, e, x, rows / 2, ld, &err)); /* in two batches */
        OK(qn_stats_add(s, e, x + (size_t)(rows / 2) * ld, rows - rows / 2, ld, &err));
        OK(qn_stats_add(s, e, x, 0, ld, &err));
        cr_assert_eq(qn_stats_count(e), rows);
        check_h(e, x, rows, ld, n);
        qn_stats_free(s);
        free(x);
    }
}

Test(stats, names_kinds_and_faults)
{
    qn_stats *s;
    qn_stats_entry *e, *f;
    float x[6] = {1, 2, 3, 4, 5, 6};
    OK(qn_stats_new(qt_made_env(1), &(qn_stats_options){.h_max_columns = 2}, &s, &err));
    OK(qn_stats_open(s, "wide", QN_STATS_NO_EXPERT, 3, QN_STATS_H, &e, &err));
    cr_assert_eq(qn_stats_entry_kind(e), QN_STATS_DIAG);
    OK(qn_stats_open(s, "narrow", 7, 2, QN_STATS_H, &f, &err));
    cr_assert_eq(qn_stats_entry_kind(f), QN_STATS_H);
    OK(qn_stats_alias(s, e, "other", &err));
    cr_assert_eq(qn_stats_get(s, "other", QN_STATS_NO_EXPERT), e);
    cr_assert_eq(qn_stats_get(s, "narrow", 7), f);
    cr_assert_null(qn_stats_get(s, "narrow", 6));
    fails(qn_stats_alias(s, f, "narrow", &err), QN_E_USAGE, "is watched already");
    fails(qn_stats_open(s, "wide", QN_STATS_NO_EXPERT, 3, QN_STATS_H, &f, &err), QN_E_USAGE, "is watched already");
    fails(qn_stats_open(s, "zero", 0, 0, QN_STATS_H, &f, &err), QN_E_UNSUPPORTED, "0 columns");
    OK(qn_stats_add(s, e, x, 2, 3, &err));
    cr_assert_eq(qn_stats_h(e, 1, 1), 4.0 + 25.0);
    x[4] = NAN;
    cr_assert_eq(qn_stats_add(s, e, x, 2, 3, &err), QN_E_INPUT);
    cr_assert_str_eq(err.tensor, "wide");
    fails(QN_E_INPUT, QN_E_INPUT, "its input is NaN in row 1, column 1 of the batch");
    cr_assert_eq(qn_stats_count(e), 2);
    cr_assert_eq(qn_stats_h(e, 0, 0), 1.0 + 16.0);
    x[4] = -INFINITY;
    fails(qn_stats_add_outputs(s, e, "other", x, 2, 3, 3, &err), QN_E_INPUT, "its output is infinite in row 1, column 1");
    qn_stats_free(s);
}

/* Products that f64 holds and f32 does not cannot be written. */
Test(stats, beyond_the_file)
{
    const qn_env *env = qt_made_env(1);
    const char *path = qt_made_path("huge.qstats");
    const float x = 1e25f;
    qn_stats *s;
    qn_stats_entry *e;
    qn_stats_writer *w;
    OK(qn_stats_new(env, NULL, &s, &err));
    OK(qn_stats_open(s, "w", QN_STATS_NO_EXPERT, 1, QN_STATS_H, &e, &err));
    OK(qn_stats_add(s, e, &x, 1, 1, &err));
    OK(qn_stats_writer_open(&w, env, path, &(qn_stats_meta){0}, &(qn_stats_write_options){0}, &err));
    fails(qn_stats_flush(s, w, &err), QN_E_UNSUPPORTED, "beyond the range of f32");
    qn_stats_writer_close(w);
    cr_assert(access(path, F_OK) != 0);
    cr_assert(access(qt_made_path("huge.qstats.quern-export"), F_OK) != 0);
    qn_stats_free(s);
}

static const double h_q[3][3] = {{2, 2, -1}, {2, 4, 6}, {-1, 6, 25}}; /* of qt_stats_write's q, by hand */

static void check_written(const char *path)
{
    qn_stats_file f;
    qn_stats_vectors v;
    double h[3][4];
    float g[2][2];
    OK(qn_stats_file_open(&f, qt_made_env(1), path, &err));
    OK(qn_stats_check(&f, &err));
    cr_assert(f.complete);
    cr_assert_eq(f.n_inputs, 4);
    cr_assert_eq(f.n_items, 6);
    cr_assert_str_eq(f.meta.sources[0].label, "text.txt");
    cr_assert_str_eq(f.meta.props[0].value, "quern");
    const char *const order[] = {"d", "e", "e", "k", "q", "v"};
    for (unsigned i = 0; i < 6; i++)
        cr_assert_str_eq(f.items[i].name, order[i]);
    cr_assert_eq(f.items[1].expert, 0);
    cr_assert_eq(f.items[2].expert, 1);
    const qn_stats_item *q = qn_stats_find(&f, "q", QN_STATS_NO_EXPERT), *k = qn_stats_find(&f, "k", QN_STATS_NO_EXPERT);
    cr_assert(q && k && q->input == k->input);
    cr_assert_null(qn_stats_find(&f, "q", 0));
    cr_assert_null(qn_stats_find(&f, "e", QN_STATS_NO_EXPERT));
    OK(qn_stats_h_read_f64(&f, q->input, &h[0][0], 4, &err));
    for (unsigned i = 0; i < 3; i++)
        for (unsigned j = 0; j < 3; j++)
            cr_assert_eq(h[i][j], h_q[i][j], "H %u %u is %g", i, j, h[i][j]);
    OK(qn_stats_vectors_read(&f, q->input, &v, &err));
    cr_assert(v.sum_sq[2] == 25 && v.sum[0] == 0 && v.sum_abs[0] == 2 && v.sum[2] == 7 && v.min[0] == -1 && v.max[2] == 4);
    cr_assert(v.outputs[q->at] && v.outputs[q->at][0] == 10 && v.outputs[q->at][1] == 20);
    cr_assert_null(v.outputs[k->at]);
    qn_stats_vectors_release(&f, &v);
    const qn_stats_item *e0 = qn_stats_find(&f, "e", 0), *e1 = qn_stats_find(&f, "e", 1);
    const qn_stats_item *d = qn_stats_find(&f, "d", QN_STATS_NO_EXPERT);
    OK(qn_stats_h_read_f32(&f, e0->input, &g[0][0], 2, &err));
    cr_assert(g[0][0] == 35 && g[0][1] == 40 && g[1][0] == 40 && g[1][1] == 56);
    cr_assert(qn_stats_is_starved(&f, e0, 4) && !qn_stats_is_starved(&f, e0, 3) && qn_stats_is_starved(&f, e1, 1));
    cr_assert(!qn_stats_is_starved(&f, q, 1000));
    fails(qn_stats_h_read_f32(&f, d->input, &g[0][0], 2, &err), QN_E_UNSUPPORTED, "only the diagonal");
    OK(qn_stats_vectors_read(&f, d->input, &v, &err));
    cr_assert(v.sum_sq[0] == 9 && v.sum_sq[1] == 16);
    qn_stats_vectors_release(&f, &v);
    qn_stats_file_close(&f);
}

static uint8_t *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s", path);
    uint8_t *p = malloc(1 << 16);
    *n = fread(p, 1, 1 << 16, f);
    fclose(f);
    return qt_made_keep(p);
}

Test(stats, written_and_read)
{
    OK(qt_stats_write(qt_made_env(1), qt_made_path("a.qstats"), 2, true, &err));
    check_written(qt_made_path("a.qstats"));
    fails(qt_stats_write(qt_made_env(1), qt_made_path("a.qstats"), 2, true, &err), QN_E_USAGE, "exists");
}

/* Stopped after a block, with and without a torn tail behind it: the same file in the end. */
Test(stats, resumed)
{
    const qn_env *env = qt_made_env(1);
    const char *path = qt_made_path("r.qstats"), *partial = qt_made_path("r.qstats.partial");
    size_t n_want, n;
    OK(qt_stats_write(env, qt_made_path("w.qstats"), 2, true, &err));
    const uint8_t *want = slurp(qt_made_path("w.qstats"), &n_want);
    for (unsigned torn = 0; torn < 200; torn += 3) {
        OK(qt_stats_write(env, path, 1, false, &err));
        const uint8_t *part = slurp(partial, &n);
        cr_assert_eq(memcmp(part, want, n), 0, "a partial is the front of the whole");
        FILE *f = fopen(partial, "ab");
        cr_assert(f && fwrite(want + n, 1, torn, f) == torn && fclose(f) == 0);
        OK(qt_stats_write(env, path, 2, true, &err));
        const uint8_t *got = slurp(path, &n);
        cr_assert(n == n_want && memcmp(got, want, n) == 0, "torn after %u bytes", torn);
        unlink(path);
    }
    /* the whole is there but not its name: the last segment is written anew */
    (void)qt_made_file("r.qstats.partial", want, n_want);
    OK(qt_stats_write(env, path, 2, true, &err));
    const uint8_t *got = slurp(path, &n);
    cr_assert(n == n_want && memcmp(got, want, n) == 0);
    unlink(path);
    /* a first block that was cut: from the front */
    (void)qt_made_file("r.qstats.partial", want, 100);
    OK(qt_stats_write(env, path, 2, true, &err));
    got = slurp(path, &n);
    cr_assert(n == n_want && memcmp(got, want, n) == 0);
}

Test(stats, partials_of_others)
{
    const qn_env *env = qt_made_env(1);
    const char *path = qt_made_path("p.qstats");
    qn_stats_writer *w, *again;
    OK(qt_stats_write(env, path, 1, false, &err));
    const qn_stats_meta other = {.model = {"model"}, .tokenizer = {"tokenizer"}, .settings = {"others"}};
    const qn_stats_write_options resume = {.resumable = true}, restart = {.resumable = true, .restart = true};
    fails(qn_stats_writer_open(&w, env, path, &other, &resume, &err), QN_E_USAGE, "differs in its settings");
    cr_assert_eq(access(qt_made_path("p.qstats.partial"), F_OK), 0, "the other run's work is still there");
    OK(qn_stats_writer_open(&w, env, path, &other, &restart, &err));
    cr_assert_eq(qn_stats_writer_done(w), 0);
    fails(qn_stats_writer_open(&again, env, path, &other, &restart, &err), QN_E_USAGE, "another run");
    qn_stats_writer_close(w);
    (void)qt_made_file("p.qstats.partial", "something else that a user has put here, longer than a header is ........", 70);
    fails(qn_stats_writer_open(&w, env, path, &other, &resume, &err), QN_E_USAGE, "not ours");
    cr_assert_eq(access(qt_made_path("p.qstats.partial"), F_OK), 0);
}

/* ---- merging ---- */

static void one_part(const char *name, const char *model, const char *data, const char *tensor, qn_stats_kind kind, float a, float b)
{
    const qn_env *env = qt_made_env(1);
    const float x[2] = {a, b};
    qn_stats_source src = {.tokens = 1, .label = data};
    qn_stats_meta meta = {.tokens = 10, .sequences = 1, .context = (uint32_t)a, .n_sources = 1, .sources = &src};
    memcpy(src.digest.b, data, strlen(data) + 1);
    memcpy(meta.model.b, model, strlen(model) + 1);
    qn_stats *s;
    qn_stats_entry *e;
    qn_stats_writer *w;
    OK(qn_stats_new(env, NULL, &s, &err));
    OK(qn_stats_open(s, tensor, QN_STATS_NO_EXPERT, 2, kind, &e, &err));
    OK(qn_stats_add(s, e, x, 1, 2, &err));
    OK(qn_stats_writer_open(&w, env, qt_made_path(name), &meta, &(qn_stats_write_options){.overwrite = true}, &err));
    OK(qn_stats_flush(s, w, &err));
    OK(qn_stats_writer_finish(w, NULL, &err));
    qn_stats_writer_close(w);
    qn_stats_free(s);
}

static qn_code merged(const char *const *names, uint32_t n, const char *out)
{
    qn_stats_file files[4], *list[4];
    for (uint32_t i = 0; i < n; i++) {
        OK(qn_stats_file_open(&files[i], qt_made_env(1), qt_made_path(names[i]), &err));
        list[i] = &files[i];
    }
    const qn_code rc = qn_stats_merge(qt_made_env(1), qt_made_path(out), list, n, false, false, &err);
    for (uint32_t i = 0; i < n; i++)
        qn_stats_file_close(&files[i]);
    return rc;
}

Test(stats, merge)
{
    size_t n1, n2;
    one_part("m1", "model", "one", "w", QN_STATS_H, 1, 2);
    one_part("m2", "model", "two", "w", QN_STATS_H, 30, -4);
    one_part("m3", "model", "three", "u", QN_STATS_H, 5, 6); /* another tensor */
    OK(merged((const char *[]){"m1", "m2", "m3"}, 3, "m123"));
    OK(merged((const char *[]){"m3", "m2", "m1"}, 3, "m321"));
    const uint8_t *a = slurp(qt_made_path("m123"), &n1), *b = slurp(qt_made_path("m321"), &n2);
    cr_assert(n1 == n2 && memcmp(a, b, n1) == 0);
    qn_stats_file f;
    qn_stats_vectors v;
    double h[4];
    OK(qn_stats_file_open(&f, qt_made_env(1), qt_made_path("m123"), &err));
    cr_assert(f.meta.tokens == 30 && f.meta.sequences == 3 && f.meta.context == 30 && f.meta.n_sources == 3);
    const qn_stats_item *w = qn_stats_find(&f, "w", QN_STATS_NO_EXPERT), *u = qn_stats_find(&f, "u", QN_STATS_NO_EXPERT);
    cr_assert(w && u && f.inputs[w->input].count == 2 && f.inputs[u->input].count == 1);
    OK(qn_stats_h_read_f64(&f, w->input, h, 2, &err));
    cr_assert(h[0] == 901 && h[1] == -118 && h[2] == -118 && h[3] == 20);
    OK(qn_stats_vectors_read(&f, w->input, &v, &err));
    cr_assert(v.sum[0] == 31 && v.sum[1] == -2 && v.sum_abs[1] == 6 && v.min[1] == -4 && v.max[1] == 2 && v.max[0] == 30);
    qn_stats_vectors_release(&f, &v);
    qn_stats_file_close(&f);
}

Test(stats, merge_refuses)
{
    one_part("m1", "model", "one", "w", QN_STATS_H, 1, 2);
    one_part("m2", "another", "two", "w", QN_STATS_H, 3, 4);
    one_part("m3", "model", "three", "w", QN_STATS_DIAG, 3, 4);
    one_part("m4", "model", "one", "w", QN_STATS_H, 7, 2);
    fails(merged((const char *[]){"m1", "m2"}, 2, "x"), QN_E_INPUT, "another model");
    fails(merged((const char *[]){"m1", "m3"}, 2, "x"), QN_E_INPUT, "measured in another way");
    fails(merged((const char *[]){"m1", "m1"}, 2, "x"), QN_E_INPUT, "the same as another of the files");
    fails(merged((const char *[]){"m1", "m4"}, 2, "x"), QN_E_INPUT, "'one' is in two of the files");
    cr_assert(access(qt_made_path("x"), F_OK) != 0 && access(qt_made_path("x.quern-export"), F_OK) != 0);
    OK(qt_stats_write(qt_made_env(1), qt_made_path("y"), 1, false, &err));
    fails(merged((const char *[]){"m1", "y.partial"}, 2, "x"), QN_E_INPUT, "has not ended");
}
