/* test_survey.c: estimates against what packing really gives, duplicates, samples, threads. */
#include "compress/survey.h"
#include "compress/pack.h"
#include "tests/support/made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const qn_survey_options fast_and_dense = {.level = {[QN_LEVEL_FAST] = true, [QN_LEVEL_DENSE] = true}};

static qn_survey survey(qn_source *s, const qn_survey_options *opt)
{
    qn_survey out;
    cr_assert_eq(qn_survey_run(s->env, s, opt, &out, NULL), QN_OK);
    return out;
}

Test(survey, exact_when_small)
{
    enum { N = 4096 };
    static uint8_t a[N * 2], b[N], zeros[N * 4];
    qt_rng r = qt_seed(1);
    qt_fill_normal(&r, QN_BF16, 0.02, N, a);
    qt_fill_normal(&r, QN_I8, 20, N, b);
    const qt_made_tensor t[] = {{"a", QN_BF16, 2, {64, 64}, a}, {"b", QN_I8, 1, {N}, b},        {"tied", QN_BF16, 2, {64, 64}, a},
                           {"z", QN_F32, 1, {N}, zeros},   {"empty", QN_F32, 2, {0, 5}, b}, {"reshaped", QN_BF16, 1, {N}, a},
                           {"one", QN_F32, 0, {0}, b},     {"none", QN_F32, 1, {0}, b}};
    qn_source *s = qt_made_open(qt_made_env(2), qt_made_safetensors("t.safetensors", t, 8, NULL));
    qn_survey v = survey(s, &fast_and_dense);
    cr_assert_eq(v.n_rows, 8);
    cr_assert_eq(v.rows[2].duplicate_of, 0);
    cr_assert_eq(v.rows[5].duplicate_of, UINT64_MAX, "another shape is another tensor");
    cr_assert_eq(v.rows[7].duplicate_of, UINT64_MAX, "nothing is no duplicate of nothing");
    cr_assert(v.n_duplicates == 1 && v.duplicate_bytes == sizeof a);
    cr_assert(v.level_exact[QN_LEVEL_FAST] && v.level_exact[QN_LEVEL_DENSE] && !v.level_exact[QN_LEVEL_MAX]);
    cr_assert_eq(v.rows[3].level_bytes[QN_LEVEL_FAST], 4, "one repeated value");
    cr_assert_eq(v.rows[3].stats.n_zero, N);
    for (qn_level l = QN_LEVEL_FAST; l <= QN_LEVEL_DENSE; l++) {
        qn_pack_report report;
        cr_assert_eq(qn_pack(s->env, s, "", &(qn_pack_options){.level = l, .dry_run = true}, &report, NULL), QN_OK);
        for (uint64_t i = 0; i < v.n_rows; i++) {
            const qn_pack_row *row = &report.rows[s->tensors[v.rows[i].tensor].object];
            if (row->n_shared == 0)
                cr_assert_eq(v.rows[i].level_bytes[l], row->stored_bytes, "row %llu", (unsigned long long)i);
        }
        qn_pack_report_release(s->env, &report);
    }
    qn_survey_release(s->env, &v);
    qn_source_close(s);
}

Test(survey, samples_and_threads)
{
    enum { ROWS = 3000, COLS = 1024 };
    const size_t n = (size_t)ROWS * COLS;
    uint8_t *a = malloc(n * 2);
    qt_rng r = qt_seed(2);
    qt_fill_normal(&r, QN_BF16, 0.02, n, a);
    const qt_made_tensor t[] = {{"big", QN_BF16, 2, {ROWS, COLS}, a}, {"small", QN_BF16, 2, {30, COLS}, a}};
    const char *path = qt_made_safetensors("t.safetensors", t, 2, NULL);
    qn_source *one = qt_made_open(qt_made_env(1), path), *three = qt_made_open(qt_made_env(3), path);
    qn_survey_options opt = {.level = {[QN_LEVEL_FAST] = true, [QN_LEVEL_DENSE] = true},
                             .sample_bytes = {[QN_LEVEL_FAST] = 2500000, [QN_LEVEL_DENSE] = 100000}};
    qn_survey v = survey(one, &opt), w = survey(three, &opt), all = survey(three, &fast_and_dense);
    cr_assert_eq(memcmp(v.rows, w.rows, v.n_rows * sizeof *v.rows), 0, "bit by bit");
    cr_assert(!v.level_exact[QN_LEVEL_FAST] && all.level_exact[QN_LEVEL_FAST]);
    for (qn_level l = QN_LEVEL_FAST; l <= QN_LEVEL_DENSE; l++) {
        const double guess = (double)v.rows[0].level_bytes[l], real = (double)all.rows[0].level_bytes[l];
        cr_assert(!v.rows[0].level_exact[l]);
        cr_assert_float_eq(guess / real, 1, 0.05, "level %d: %g of %g", (int)l, guess, real);
    }
    cr_assert_eq(memcmp(&v.rows[0].stats, &all.rows[0].stats, sizeof v.rows[0].stats), 0, "statistics see everything");
    cr_assert_eq(v.rows[0].stats.n_values, n);
    qn_survey_release(one->env, &v);
    qn_survey_release(three->env, &w);
    qn_survey_release(three->env, &all);
    qn_source_close(one);
    qn_source_close(three);
    free(a);
}

Test(survey, every_dtype)
{
    uint8_t v[8 * 64];
    qt_made_tensor t[QN_DTYPE_COUNT - 1];
    qt_rng r = qt_seed(9);
    for (size_t i = 0; i < sizeof v; i++)
        v[i] = (uint8_t)qt_next(&r);
    for (unsigned k = 1; k < QN_DTYPE_COUNT; k++)
        t[k - 1] = (qt_made_tensor){qn_dtype_name((qn_dtype)k), (qn_dtype)k, 2, {2, 32}, v};
    qn_source *s = qt_made_open(qt_made_env(3), qt_made_safetensors("t.safetensors", t, QN_DTYPE_COUNT - 1, NULL));
    qn_survey_options opt = fast_and_dense;
    opt.level[QN_LEVEL_MAX] = true;
    qn_survey out = survey(s, &opt);
    for (uint64_t i = 0; i < out.n_rows; i++) {
        const qn_source_tensor *o = &s->tensors[out.rows[i].tensor];
        cr_assert_eq(out.rows[i].stats.n_values, o->dtype == QN_C64 ? 128 : 64, "%s", o->name);
        for (qn_level l = QN_LEVEL_FAST; l <= QN_LEVEL_MAX; l++)
            cr_assert(out.rows[i].level_exact[l] && out.rows[i].level_bytes[l] <= o->n_bytes);
    }
    qn_survey_release(s->env, &out);
    qn_source_close(s);
}

/* Whichever request fails: a clean error, and nothing is leaked (which the sanitized build sees). */
Test(survey, out_of_memory_anywhere)
{
    uint8_t v[2 * 2048];
    qt_rng r = qt_seed(4);
    qt_fill_normal(&r, QN_BF16, 0.02, 2048, v);
    const qt_made_tensor t[] = {{"a", QN_BF16, 2, {32, 64}, v}, {"b", QN_I8, 1, {4096}, v}};
    const char *path = qt_made_safetensors("t.safetensors", t, 2, NULL);
    for (uint64_t nth = 1;; nth++) {
        const qn_env *env = qt_made_env_short(nth);
        qn_source *s = NULL;
        qn_survey out;
        qn_code rc = qn_source_open(env, path, &s, NULL);
        if (rc == QN_OK)
            rc = qn_survey_run(env, s, &fast_and_dense, &out, NULL);
        if (rc == QN_OK)
            qn_survey_release(env, &out);
        qn_source_close(s);
        if (!qt_made_memory_failed()) {
            cr_assert_eq(rc, QN_OK);
            break;
        }
        /* an arena that is short of its next block asks again for less: that is no failure */
        cr_assert(rc == QN_E_MEMORY || rc == QN_OK, "request %llu: %d", (unsigned long long)nth, (int)rc);
    }
}
