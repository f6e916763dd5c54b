/* test_zip_write.c: archives that are written: members read back, a file that nothing is left of when it is not finished. */
#include "formats/zip/write.h"
#include "formats/zip/zip.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qn_code read_file(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    return qn_file_read(ctx, dst, n, off, err);
}

static void put(qn_zip_out *o, const char *name, const uint8_t *p, size_t n, bool deflated, size_t step)
{
    qn_err err = {0};
    OK(qn_zip_out_begin(o, name, n, deflated, &err));
    for (size_t at = 0; at < n; at += step)
        OK(qn_zip_out_add(o, p + at, n - at < step ? n - at : step, &err));
    OK(qn_zip_out_end(o, &err));
}

static void there_and_back(uint64_t wide_from)
{
    enum { N = 3 << 20 };
    qn_err err = {0};
    qt_rng r = qt_seed(5);
    uint8_t *noise = malloc(N), *zeros = calloc(1, N), *got = malloc(N);
    for (size_t i = 0; i < N; i++)
        noise[i] = (uint8_t)qt_next(&r);
    const struct {
        const char *name;
        const uint8_t *p;
        size_t n, step;
        bool deflated;
    } m[] = {{"a.npy", noise, 10, 3, false}, {"leer", noise, 0, 1, false}, {"leer2", noise, 0, 1, true}, {"\xc3\xa4/b.npy", zeros, N, N, true},
             {"noise", noise, N, 70001, true}, {"stored", noise, N, 70001, false}};
    const char *path = qt_made_path("out.zip");
    qn_zip_out o;
    uint64_t n_bytes;
    OK(qn_zip_out_open(&o, qt_made_env(1), path, true, &err));
    o.wide_from = wide_from;
    for (size_t i = 0; i < sizeof m / sizeof m[0]; i++)
        put(&o, m[i].name, m[i].p, m[i].n, m[i].deflated, m[i].step);
    OK(qn_zip_out_finish(&o, &n_bytes, &err));
    qn_zip_out_close(&o);

    qn_file f;
    qn_stat st;
    qn_zip z;
    OK(qn_file_open(&f, &qn_fs_posix, NULL, path, QN_OPEN_READ, &err));
    OK(qn_file_stat(&f, &st, &err));
    cr_assert_eq(st.n_bytes, n_bytes);
    cr_assert_lt(n_bytes, 2 * N + 100000u); /* the zeros are gone */
    OK(qn_zip_open(&z, NULL, read_file, &f, n_bytes, &err));
    cr_assert_eq(z.n_entries, sizeof m / sizeof m[0]);
    for (size_t i = 0; i < sizeof m / sizeof m[0]; i++) {
        const qn_zip_entry *e = qn_zip_find(&z, m[i].name);
        qn_zip_stream s;
        cr_assert_not_null(e, "%s", m[i].name);
        cr_assert_eq(e->n_bytes, m[i].n);
        cr_assert_eq(e->method, m[i].deflated ? QN_ZIP_DEFLATED : QN_ZIP_STORED);
        OK(qn_zip_check(&z, e, &err));
        OK(qn_zip_stream_open(&s, &z, e, &err));
        OK(qn_zip_stream_read(&s, got, m[i].n, &err));
        qn_zip_stream_close(&s);
        cr_assert_eq(memcmp(got, m[i].p, m[i].n), 0, "%s", m[i].name);
    }
    qn_zip_release(&z);
    OK(qn_file_close(&f, &err));
    free(noise);
    free(zeros);
    free(got);
}

Test(zip_write, there_and_back)
{
    there_and_back(UINT64_C(0xf0000000));
}

Test(zip_write, wide_sizes)
{
    there_and_back(0);
}

Test(zip_write, nothing_is_left)
{
    qn_err err = {0};
    qn_zip_out o;
    const char *path = qt_made_path("none.zip");
    char tmp[4200];
    OK(qn_zip_out_open(&o, qt_made_env(1), path, false, &err));
    put(&o, "a", (const uint8_t *)"b", 1, false, 1);
    OK(qn_zip_out_begin(&o, "c", 100, true, &err));
    qn_zip_out_close(&o);
    snprintf(tmp, sizeof tmp, "%s.quern-export", path);
    cr_assert(!qn_fs_exists(&qn_fs_posix, path) && !qn_fs_exists(&qn_fs_posix, tmp));
}
