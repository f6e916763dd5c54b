/* Arrays as inputs of a graph: what is converted to what, and what is refused. */
#include "analysis/eval/io_feed.h"
#include "base/err.h"
#include "tests/support/made.h"
#include <criterion/criterion.h>
#include <string.h>

/* A graph with one input "x" (?, 400) of dtype `to`, fed from a file that holds "x" (2, 400) of dtype `from`. */
static qn_code feed(qn_dtype from, const void *data, qn_dtype to, qn_array *out, qn_err *err)
{
    static qn_pool pool;
    const qn_env *env = qt_made_env(1);
    const int64_t dims[2] = {QN_DIM_UNKNOWN, 400};
    const qt_made_tensor t = {"x", from, 2, {2, 400}, data};
    qn_graph *g;
    uint32_t x;
    qn_io_feed f;
    memset(out, 0, sizeof *out);
    cr_assert_eq(qn_graph_new(env, NULL, "test", &g, err), QN_OK);
    cr_assert_eq(qn_graph_input(g, "x", to, dims, 2, &x, err), QN_OK);
    cr_assert_eq(qn_io_feed_open(&f, env, g, qt_made_safetensors("x.safetensors", &t, 1, NULL), 2, 0, err), QN_OK, "%s", err->text);
    cr_assert_eq(f.n_batches, 1);
    f.pool = &pool;
    const qn_code rc = qn_io_feed_batch(&f, 0, out, err);
    qn_io_feed_close(&f);
    qn_graph_close(g);
    return rc;
}

Test(io_feed, converts)
{
    double d[800];
    int32_t i[800];
    for (int k = 0; k < 800; k++) {
        d[k] = k * 0.25 - 100;
        i[k] = 7 - k;
    }
    qn_array a;
    qn_err err = {0};
    cr_assert_eq(feed(QN_F64, d, QN_F32, &a, &err), QN_OK, "%s", err.text);
    for (int k = 0; k < 800; k++)
        cr_assert_eq(((float *)a.data)[k], (float)d[k]);
    qn_array_release(&a);
    cr_assert_eq(feed(QN_I32, i, QN_I64, &a, &err), QN_OK, "%s", err.text);
    for (int k = 0; k < 800; k++)
        cr_assert_eq(((int64_t *)a.data)[k], 7 - k);
    qn_array_release(&a);
}

Test(io_feed, refuses)
{
    static const uint64_t zeros[800];
    static const struct { qn_dtype from, to; const char *text; } rows[] = {
        {QN_C64, QN_F32, "C64 where the model takes F32"}, {QN_C64, QN_F64, "C64 where the model takes F64"},
        {QN_C64, QN_I64, "C64 where the model takes I64"}, {QN_F32, QN_I64, "F32 where the model takes I64"},
        {QN_U64, QN_I64, "U64 where the model takes I64"}, {QN_I64, QN_BOOL, "I64 where the model takes BOOL"},
    };
    for (unsigned k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        qn_array a;
        qn_err err = {0};
        cr_assert_eq(feed(rows[k].from, zeros, rows[k].to, &a, &err), QN_E_INPUT, "row %u", k);
        cr_assert_str_eq(err.text, rows[k].text);
        cr_assert_str_eq(err.tensor, "x");
        qn_array_release(&a);
    }
    static const int64_t large[800] = {[500] = INT64_C(1) << 40};
    qn_array a;
    qn_err err = {0};
    cr_assert_eq(feed(QN_I64, large, QN_I32, &a, &err), QN_E_INPUT);
    cr_assert_str_eq(err.text, "1099511627776 is no I32, which the model takes");
    qn_array_release(&a);
}
