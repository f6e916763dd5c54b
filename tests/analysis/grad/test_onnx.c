/* Derivatives of ONNX's operators against central differences: every row of backward_tab.c has a case. */
#include "tests/analysis/grad/cases.h"
#include <criterion/criterion.h>
#include <string.h>

static const qt_grad_op *const tables[] = {qt_cases_matmul, qt_cases_conv, qt_cases_pool, qt_cases_norm, qt_cases_binary, qt_cases_unary, qt_cases_move,
                                           qt_cases_reduce};

Test(grad, every_row_has_a_case)
{
    for (const qn_backward *row = qn_backwards; row->name; row++) {
        bool found = !strcmp(row->domain, "quern"); /* test_lm's */
        for (unsigned t = 0; t < sizeof tables / sizeof *tables && !found; t++)
            for (const qt_grad_op *c = tables[t]; c->type && !found; c++)
                found = !strcmp(c->type, row->name) && !strcmp(c->domain ? c->domain : "", row->domain);
        cr_assert(found, "%s%s%s has a derivative and no case", row->domain, *row->domain ? "." : "", row->name);
    }
}

Test(grad, matmul)
{
    qt_grad_check_all(qt_cases_matmul);
}

Test(grad, conv)
{
    qt_grad_check_all(qt_cases_conv);
}

Test(grad, pool)
{
    qt_grad_check_all(qt_cases_pool);
}

Test(grad, norm)
{
    qt_grad_check_all(qt_cases_norm);
}

Test(grad, binary)
{
    qt_grad_check_all(qt_cases_binary);
}

Test(grad, unary)
{
    qt_grad_check_all(qt_cases_unary);
}

Test(grad, move)
{
    qt_grad_check_all(qt_cases_move);
}

Test(grad, reduce)
{
    qt_grad_check_all(qt_cases_reduce);
}

#define DATA(...) (const float[]){__VA_ARGS__}
#define WANT(...) (const float *const[]){__VA_ARGS__}

/* One of equal candidates gets all: the first of a sum's axes and of a window, the last operand. At a kink the side of the forward pass counts. */
Test(grad, ties_and_kinks)
{
    qt_grad_gives(&(qt_grad_op){.type = "ReduceMax", .in = {{QT_EXACT, 2, {2, 3}, DATA(1, 2, 2, 5, 5, 5)}, {QT_LIST(1)}}}, WANT(DATA(0, 1, 0, 1, 0, 0)));
    qt_grad_gives(&(qt_grad_op){.type = "ReduceMin", .in = {{QT_EXACT, 2, {2, 3}, DATA(1, 1, 2, 5, 4, 4)}, {QT_LIST(1)}}}, WANT(DATA(1, 0, 0, 0, 1, 0)));
    qt_grad_gives(&(qt_grad_op){.type = "MaxPool", .attrs = {QT_INTS("kernel_shape", 2)}, .in = {{QT_EXACT, 3, {1, 1, 5}, DATA(0, 3, 3, 3, 1)}}},
                  WANT(DATA(0, 2, 1, 1, 0)));
    qt_grad_gives(&(qt_grad_op){.type = "Max", .in = {{QT_EXACT, 1, {3}, DATA(1, 2, 3)}, {QT_EXACT, 1, {3}, DATA(1, 0, 3)}, {QT_EXACT, 1, {3}, DATA(1, 2, 0)}}},
                  WANT(DATA(0, 0, 0), DATA(0, 0, 1), DATA(1, 1, 0)));
    qt_grad_gives(&(qt_grad_op){.type = "Min", .in = {{QT_EXACT, 1, {2}, DATA(1, 2)}, {QT_EXACT, 1, {1}, DATA(1)}}}, WANT(DATA(0, 0), DATA(2)));
    qt_grad_gives(&(qt_grad_op){.type = "Relu", .in = {{QT_EXACT, 1, {3}, DATA(-1, 0, 1)}}}, WANT(DATA(0, 0, 1)));
    qt_grad_gives(&(qt_grad_op){.type = "Abs", .in = {{QT_EXACT, 1, {3}, DATA(-1, 0, 1)}}}, WANT(DATA(-1, 0, 1)));
    qt_grad_gives(&(qt_grad_op){.type = "Clip", .in = {{QT_EXACT, 1, {4}, DATA(-1, 0, 1, 2)}, {QT_SCALAR(0)}, {QT_SCALAR(1)}}}, WANT(DATA(0, 1, 1, 0)));
    qt_grad_gives(&(qt_grad_op){.type = "ReduceL2", .in = {{QT_EXACT, 1, {2}, DATA(0, 0)}}}, WANT(DATA(0, 0)));
}
