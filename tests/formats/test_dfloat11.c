/* test_dfloat11.c: groups made bit by bit, read in every range; shapes that are told, and shapes that names tell; and groups that are refused. */
#include "base/num.h"
#include "formats/source.h"
#include "tests/support/df11_build.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { N = 10 + 3 * 199 };

static uint16_t weights[N];

static void make(qt_df11 *d, unsigned threads, unsigned slice, const char *version)
{
    qt_rng r = qt_seed(3);
    for (unsigned i = 0; i < N; i++)
        weights[i] = qt_df11_weight(qt_next(&r));
    qt_df11_make(d, weights, N, threads, slice, version);
}

struct opened {
    qt_files files;
    qt_counter counter;
    qn_env env;
    qt_buf file;
    qn_source *s;
};

static qn_code open_it(struct opened *x, const qt_df11 *d, qn_err *err)
{
    memset(x, 0, sizeof *x);
    qt_df11_file(d, &x->file);
    qt_files_init(&x->files);
    qt_files_add(&x->files, "m/config.json", d->config, strlen(d->config));
    qt_files_add(&x->files, "m/model.safetensors", x->file.p, x->file.n);
    qt_counter_init(&x->counter);
    x->env = qt_env(&x->files, &x->counter);
    qn_err_clear(err);
    return qn_source_open(&x->env, "m", &x->s, err);
}

static void close_it(struct opened *x)
{
    qn_source_close(x->s);
    cr_assert_eq(x->counter.n_live, 0, "memory is lost");
    qt_buf_free(&x->file);
}

static const qn_source_tensor *expect(qn_source *s, const char *name, const uint16_t *want, uint64_t n, bool all)
{
    const uint64_t i = qn_source_tensor_find(s, name);
    uint8_t *got = malloc(n * 2 + 1);
    qn_err err;
    qn_err_clear(&err);
    cr_assert_neq(i, UINT64_MAX, "%s", name);
    const qn_source_tensor *t = &s->tensors[i];
    cr_assert_eq(t->dtype, QN_BF16);
    cr_assert_eq(t->n_bytes, 2 * n);
    for (uint64_t from = 0; from < 2 * n; from += all ? 1 : 97)
        for (uint64_t m = 2 * n - from;; m = m / 2) {
            cr_assert_eq(qn_source_tensor_read(s, i, from, m, got, &err), QN_OK, "%s", err.text);
            for (uint64_t k = 0; k < m; k++)
                cr_assert_eq(got[k], (uint8_t)(want[(from + k) / 2] >> 8 * ((from + k) % 2)), "%s: byte %u", name, (unsigned)(from + k));
            if (m <= 1)
                break;
        }
    free(got);
    return t;
}

Test(dfloat11, every_range)
{
    static const char *const versions[] = {"0.2.0", "0.3.1", "0.3.2", "0.5.0"};
    static const unsigned threads[] = {1, 2, 3, 512}, slices[] = {4, 5, 8, 8};
    for (unsigned v = 0; v < 4; v++) {
        qt_df11 d;
        struct opened x;
        qn_err err;
        make(&d, threads[v], slices[v], versions[v]);
        cr_assert_eq(open_it(&x, &d, &err), QN_OK, "%s", err.text);
        cr_assert_eq(x.s->n_tensors, 3u);
        cr_assert_eq(x.s->n_objects, 9u); /* as the files have it: config, header and seven tensors */
        cr_assert_eq(x.s->n_warnings, 0u);
        const qn_source_tensor *a = expect(x.s, "net.0.a.q_proj.weight", weights, 10, true);
        cr_assert(a->rank == 2 && a->dims[0] == 2 && a->dims[1] == 5);
        expect(x.s, "net.0.down_proj.weight", weights + 10, N - 10, v == 1);
        close_it(&x);
        qt_df11_free(&d);
    }
}

/* Codes that end right behind the beginning of a block: some writers leave that block's position out. */
Test(dfloat11, one_position_fewer)
{
    qt_df11 d;
    struct opened x;
    qn_err err;
    make(&d, 2, 4, "0.5.0");
    unsigned n = N;
    while (qt_df11_free(&d), qt_df11_make(&d, weights, n, 2, 4, "0.5.0"), qn_load32(d.positions.p + d.positions.n - 8) != n && n > 40)
        n -= 3;
    cr_assert_gt(n, 40u);
    d.positions.n -= 4;
    cr_assert_eq(open_it(&x, &d, &err), QN_OK, "%s", err.text);
    expect(x.s, "net.0.down_proj.weight", weights + 10, n - 10, false);
    close_it(&x);
    qt_df11_free(&d);
}

static void set_config(qt_df11 *d, const char *more, const char *patterns)
{
    qt_buf b = {0};
    qt_addf(&b, "{%s\"dfloat11_config\": {\"version\": \"0.3.1\", \"threads_per_block\": [2], \"bytes_per_thread\": 4, \"pattern_dict\": %s}}%c", more, patterns,
            '\0');
    free(d->config);
    d->config = (char *)b.p;
}

#define OURS "{\"net\\\\.[0-9]+\": [\"a.q_proj\", \"down_proj\"]}"

/* As published folders are: shapes follow from config.json and names. */
Test(dfloat11, shapes_by_name)
{
    qt_df11 d;
    struct opened x;
    qn_err err;
    make(&d, 2, 4, "0.5.0");
    set_config(&d, "\"hidden_size\": 1, ", OURS);
    cr_assert_eq(open_it(&x, &d, &err), QN_OK, "%s", err.text);
    const qn_source_tensor *q = expect(x.s, "net.0.a.q_proj.weight", weights, 10, false);
    cr_assert(q->rank == 2 && q->dims[0] == 10 && q->dims[1] == 1); /* from 1 to 10, … */
    q = expect(x.s, "net.0.down_proj.weight", weights + 10, N - 10, false);
    cr_assert(q->rank == 2 && q->dims[0] == 1 && q->dims[1] == N - 10); /* … and back */
    close_it(&x);
    set_config(&d, "\"hidden_size\": 7, ", OURS); /* of which nothing is a multiple */
    cr_assert_eq(open_it(&x, &d, &err), QN_OK, "%s", err.text);
    q = expect(x.s, "net.0.a.q_proj.weight", weights, 10, false);
    cr_assert(q->rank == 1 && q->dims[0] == 10);
    cr_assert_eq(x.s->n_warnings, 2u);
    close_it(&x);
    qt_df11_free(&d);
}

Test(dfloat11, other_versions_are_left_alone)
{
    qt_df11 d;
    struct opened x;
    qn_err err;
    make(&d, 2, 4, "0.9.0");
    cr_assert_eq(open_it(&x, &d, &err), QN_OK, "%s", err.text);
    cr_assert_eq(x.s->n_tensors, 7u);
    cr_assert_eq(x.s->n_warnings, 1u);
    cr_assert_neq(qn_source_tensor_find(x.s, "net.0.luts"), UINT64_MAX);
    close_it(&x);
    qt_df11_free(&d);
}

/* ---- refused when opened ---- */

static void refuse(qt_df11 *d, const char *text)
{
    struct opened x;
    qn_err err;
    const qn_code rc = open_it(&x, d, &err);
    cr_assert_eq(rc, QN_E_INPUT, "%s: opens", text);
    cr_assert(qt_err_is(text, &err, rc, QN_E_INPUT, QN_NO_OFFSET, NULL, text), "%s", text);
    cr_assert_eq(x.counter.n_live, 0);
    cr_assert_eq(x.files.n_open, 0u);
    qt_buf_free(&x.file);
    qt_df11_free(d);
}

#define REFUSED(change, text)        \
    do {                             \
        qt_df11 d;                   \
        make(&d, 2, 4, "0.5.0");     \
        change;                      \
        refuse(&d, text);            \
    } while (0)

Test(dfloat11, malformed)
{
    REFUSED(d.positions.n -= 8, "another number of positions");
    REFUSED(qt_add_zeros(&d.positions, 4), "another number of positions");
    REFUSED(d.positions.p[0] = 1, "do not go from 0");
    REFUSED(d.positions.p[d.positions.n - 1] = 1, "do not go from 0");
    REFUSED(memset(d.positions.p + 4, 255, 4), "positions fall");
    REFUSED(d.gaps.n -= 2, "fewer gaps");
    REFUSED(d.luts.n -= 256 * (d.n_luts - 1), "tables of 2 to 18 rows");
    REFUSED(qt_add_zeros(&d.luts, 256 * 16), "tables of 2 to 18 rows");
    REFUSED(d.luts.p[d.luts.n - 256 + 127] = 33, "longer than 32 bits");
    REFUSED(d.rest.n = 0, "weights are allowed");
    REFUSED(d.codes.n = 0, "weights are allowed");
    REFUSED(qt_add_zeros(&d.rest, 1 << 14), "fewer bits than weights");
    REFUSED(qt_add_zeros(&d.splits, 8), "another number of split positions");
    REFUSED(d.splits.n = 0, "another number of split positions");
    REFUSED(d.splits.p[7] = 255, "do not rise");
    REFUSED(d.splits.p[0] = 0, "do not rise");
    REFUSED(d.splits.p[0] = 11, "has another number of weights than its shape");
}

Test(dfloat11, malformed_config)
{
    REFUSED(set_config(&d, "", "[]"), "pattern_dict must be an object");
    REFUSED(set_config(&d, "", "{\"net[\": []}"), "is none");
    REFUSED(set_config(&d, "", "{\"net\\\\.0\": [\"\"]}"), "lists of names");
    REFUSED(set_config(&d, "", "{\"net\\\\.0\": 3}"), "lists of names");
    REFUSED(set_config(&d, "", "{\"net\\\\.\": [\"a\", \"b\"]}"), "no expression");
    REFUSED(set_config(&d, "", "{\"net\\\\.0\": [\"a\", \"b\"], \"n.*\": [\"a\", \"b\"]}"), "two expressions");
    REFUSED(set_config(&d, "", "{\"(((n|e|t|[.]|0)+)+)+x\": [\"a\", \"b\"], \"(.?.?.?.?.?.?.?.?.?.?.?.?){40}x\": []}"), "expression of pattern_dict");
    REFUSED(set_config(&d, "", "{\"net\\\\.0\": [\"a\", \"a\"]}"), "two tensors have this name");
    REFUSED((free(d.config), d.config = strdup("{\"dfloat11_config\": {\"version\": \"0.5.0\", \"threads_per_block\": [0], \"bytes_per_thread\": 8}}")),
            "threads_per_block must be");
    REFUSED((free(d.config), d.config = strdup("{\"dfloat11_config\": {\"version\": \"0.5.0\", \"threads_per_block\": [2], \"bytes_per_thread\": 3}}")),
            "bytes_per_thread must be");
}

/* ---- refused when read ---- */

static void damaged(qt_df11 *d, const char *text)
{
    struct opened x;
    qn_err err;
    uint8_t got[2 * N];
    cr_assert_eq(open_it(&x, d, &err), QN_OK, "%s", err.text);
    const uint64_t i = qn_source_tensor_find(x.s, "net.0.down_proj.weight");
    cr_assert_eq(qn_source_tensor_read(x.s, i, 0, x.s->tensors[i].n_bytes, got, &err), QN_E_INPUT, "%s: is read", text);
    cr_assert_not_null(strstr(err.text, text), "%s: %s", text, err.text);
    close_it(&x);
    qt_df11_free(d);
}

#define DAMAGED(change, text)        \
    do {                             \
        qt_df11 d;                   \
        make(&d, 2, 4, "0.5.0");     \
        change;                      \
        damaged(&d, text);           \
    } while (0)

Test(dfloat11, damaged)
{
    DAMAGED(memset(d.luts.p, 240, 256), "no table");                                     /* row 16, which is not there */
    DAMAGED(memset(d.luts.p + d.luts.n - 256, 0, 256), "no table");                     /* codes without a length     */
    DAMAGED(memset(d.luts.p, 255, 512), "no table");                                    /* rows that never end        */
    DAMAGED(d.positions.p[4]++, "no table");                                            /* more weights than codes    */
    DAMAGED(d.positions.p[4]--, "more codes");
    DAMAGED(d.gaps.p[1] ^= 0x3e, "gap");                                                /* of the second block        */
    DAMAGED(memset(d.codes.p + 16, 0, 8), "");
}
