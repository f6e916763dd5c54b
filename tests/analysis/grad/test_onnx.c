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
