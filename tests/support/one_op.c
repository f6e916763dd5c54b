/* one_op.c: see one_op.h. */
#include "tests/support/one_op.h"
#include "base/err.h"
#include "tests/support/made.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

float *qt_op_random(qt_rng *r, uint64_t n, double sigma, double mean)
{
    float *p = qt_made_keep(malloc((n + 1) * sizeof *p));
    for (uint64_t i = 0; i < n; i++)
        p[i] = (float)(mean + sigma * qt_normal(r));
    return p;
}

static qn_array wrap(qn_dtype t, const int64_t *dims, unsigned rank, const void *p)
{
    union {
        const void *in;
        void *out;
    } u = {.in = p};
    qn_array a;
    cr_assert_eq(qn_array_wrap(&a, t, dims, rank, u.out, NULL), QN_OK);
    return a;
}

qn_array qt_op_floats(const float *p, unsigned rank, ...)
{
    int64_t dims[4];
    va_list args;
    va_start(args, rank);
    for (unsigned i = 0; i < rank; i++)
        dims[i] = va_arg(args, int);
    va_end(args);
    return wrap(QN_F32, dims, rank, p);
}

qn_array qt_op_doubles(const double *p, int64_t n)
{
    return wrap(QN_F64, &n, 1, p);
}

qn_array qt_op_ints(const int64_t *p, int64_t n)
{
    return wrap(QN_I64, &n, 1, p);
}

qn_code qt_op_run(unsigned n_threads, const char *type, const qn_attr *attrs, unsigned n_attrs, const qn_array *in, unsigned n_in, float **y,
                  unsigned n_out, qn_err *err)
{
    enum { OPERANDS = 64 };
    const qn_env *env = qt_made_env(n_threads);
    qn_graph *g;
    uint32_t v[OPERANDS], out[OPERANDS];
    qn_exec *x = NULL;
    qn_array result[OPERANDS];
    cr_assert(n_in <= OPERANDS && n_out <= OPERANDS);
    cr_assert_eq(qn_graph_new(env, NULL, "test", &g, err), QN_OK);
    for (unsigned i = 0; i < n_in; i++) {
        char name[16];
        snprintf(name, sizeof name, "in%u", i);
        cr_assert_eq(qn_graph_input(g, name, (qn_dtype)in[i].dtype, NULL, QN_RANK_UNKNOWN, &v[i], err), QN_OK);
    }
    cr_assert_eq(qn_graph_node(g, "quern", type, 0, "node", v, n_in, attrs, n_attrs, NULL, out, n_out, err), QN_OK);
    for (unsigned i = 0; i < n_out; i++)
        cr_assert_eq(qn_graph_output(g, out[i], err), QN_OK);
    qn_code rc = qn_graph_seal(g, err);
    if (rc == QN_OK) {
        cr_assert_eq(qn_exec_open(env, g, NULL, &x, err), QN_OK);
        rc = qn_exec_run(x, in, result, err);
        for (unsigned i = 0; i < n_out && rc == QN_OK; i++) {
            y[i] = qt_made_keep(malloc(qn_array_bytes(&result[i]) + 1));
            memcpy(y[i], result[i].data, qn_array_bytes(&result[i]));
            qn_array_release(&result[i]);
        }
        cr_assert_eq(atomic_load(&qn_exec_pool(x)->held_bytes), 0u, "%s keeps memory", type);
        qn_exec_close(x);
    }
    qn_graph_close(g);
    return rc;
}

void qt_op_close(const char *what, const float *y, const double *want, uint64_t n, double bar)
{
    double most = 0, worst = 0;
    uint64_t at = 0;
    for (uint64_t i = 0; i < n; i++) {
        const double d = fabs((double)y[i] - want[i]);
        most = fmax(most, fabs(want[i]));
        if (!(d <= worst)) {
            worst = d;
            at = i;
        }
    }
    cr_assert(most > 0.1, "%s: the test has no values", what);
    cr_assert(worst <= bar * most, "%s: element %llu is %g, not %g (largest %g)", what, (unsigned long long)at, (double)y[at], want[at], most);
}
