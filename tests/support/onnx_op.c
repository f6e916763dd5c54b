/* onnx_op.c: see onnx_op.h. */
#include "tests/support/onnx_op.h"
#include "base/err.h"
#include "tests/support/made.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_inferred(const qn_value *v, const qn_array *t)
{
    if (v->dtype != QN_BYTES)
        cr_assert_eq(v->dtype, t->dtype, "inferred dtype %u, got %u", v->dtype, t->dtype);
    if (v->rank == QN_RANK_UNKNOWN)
        return;
    cr_assert_eq(v->rank, t->rank, "inferred rank %u, got %u", v->rank, t->rank);
    for (unsigned i = 0; i < t->rank; i++)
        if (v->dims[i] != QN_DIM_UNKNOWN)
            cr_assert_eq(v->dims[i], t->dims[i], "dimension %u: inferred %lld, got %lld", i, (long long)v->dims[i], (long long)t->dims[i]);
}

static qn_code run(const qt_op *op, qn_graph *g, qn_array *outs, qn_err *err)
{
    uint32_t in[QT_OP_IN], out[QT_OP_OUT];
    qn_array feeds[QT_OP_IN], results[QT_OP_OUT] = {{0}};
    unsigned n_in = 0, n_feeds = 0, n_attrs = 0;
    const unsigned n_out = op->n_out ? op->n_out : 1;
    QN_TRY(qn_graph_begin_block(g, "all", err));
    for (unsigned i = 0; i < QT_OP_IN; i++) {
        const qt_op_in *p = &op->in[i];
        const qn_dtype t = p->dtype ? p->dtype : QN_F32;
        char name[16];
        snprintf(name, sizeof name, "in%u", i);
        in[i] = QN_NO_VALUE;
        if (!p->data)
            continue;
        n_in = i + 1;
        if (p->constant) {
            QN_TRY(qn_graph_const(g, name, t, p->dims, p->rank, p->data, &in[i], err));
            continue;
        }
        union {
            const void *in;
            void *out;
        } u = {.in = p->data};
        QN_TRY(qn_array_wrap(&feeds[n_feeds++], t, p->dims, p->rank, u.out, err));
        QN_TRY(qn_graph_input(g, name, t, op->blind ? NULL : p->dims, p->rank, &in[i], err));
    }
    while (n_attrs < 10 && op->attrs[n_attrs].name)
        n_attrs++;
    QN_TRY(qn_graph_node(g, op->domain ? op->domain : "", op->type, op->version ? op->version : 18, "the node", in, n_in, op->attrs, n_attrs, NULL, out, n_out, err));
    for (unsigned i = 0; i < n_out; i++)
        QN_TRY(qn_graph_output(g, out[i], err));
    QN_TRY(qn_graph_seal(g, err));
    qn_exec *x;
    QN_TRY(qn_exec_open(g->env, g, op->options, &x, err));
    const qn_code rc = qn_exec_run(x, feeds, results, err);
    for (unsigned i = 0; i < n_out && rc == QN_OK; i++) {
        check_inferred(&g->values[out[i]], &results[i]);
        if (outs) {
            outs[i] = results[i];
            outs[i].buffer = NULL;
            outs[i].data = qt_made_keep(malloc((size_t)qn_array_bytes(&results[i]) + 1));
            memcpy(outs[i].data, results[i].data, (size_t)qn_array_bytes(&results[i]));
        }
        qn_array_release(&results[i]);
    }
    qn_exec_close(x);
    return rc;
}

qn_code qt_onnx_run(const qt_op *op, qn_array *outs, qn_err *err)
{
    qn_graph *g;
    QN_TRY(qn_graph_new(qt_made_env(op->n_threads ? op->n_threads : 1), NULL, "test", &g, err));
    const qn_code rc = run(op, g, outs, err);
    qn_graph_close(g);
    return rc;
}

void qt_onnx_gives(const qt_op *op, const float *want, uint64_t n)
{
    qn_err err = {0};
    qn_array out[QT_OP_OUT];
    cr_assert_eq(qt_onnx_run(op, out, &err), QN_OK, "%s: %s", op->type, err.text);
    cr_assert_eq(out[0].dtype, QN_F32);
    cr_assert_eq(out[0].n, n, "%s: %llu values, %llu expected", op->type, (unsigned long long)out[0].n, (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++)
        cr_assert(fabsf(((const float *)out[0].data)[i] - want[i]) <= 1e-5f, "%s: value %llu is %g, expected %g", op->type,
                  (unsigned long long)i, (double)((const float *)out[0].data)[i], (double)want[i]);
}
