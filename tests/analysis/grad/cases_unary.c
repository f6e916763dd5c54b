/* cases_unary.c: operators of one operand. */
#include "tests/analysis/grad/cases.h"

const qt_grad_op qt_cases_unary[] = {
    {.type = "Relu", .in = {{QT_APART, 2, {5, 7}}}},
    {.type = "Relu", .what = "empty", .in = {{QT_APART, 2, {5, 0}}}},
    {.type = NULL},
};
