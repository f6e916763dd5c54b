/* cases_binary.c: operators of two operands. */
#include "tests/analysis/grad/cases.h"

const qt_grad_op qt_cases_binary[] = {
    {.type = "Add", .in = {{QT_NORMAL, 2, {3, 4}}, {QT_NORMAL, 2, {3, 4}}}},
    {.type = "Add", .what = "a row", .in = {{QT_NORMAL, 3, {3, 2, 4}}, {QT_NORMAL, 1, {4}}}},
    {.type = "Add", .what = "both repeated", .in = {{QT_NORMAL, 4, {3, 1, 4, 1}}, {QT_NORMAL, 3, {2, 1, 5}}}},
    {.type = "Add", .what = "a scalar", .in = {{QT_NORMAL, 0, {0}}, {QT_NORMAL, 3, {2, 3, 4}}}},
    {.type = "Add", .what = "by channel", .in = {{QT_NORMAL, 4, {2, 3, 2, 5}}, {QT_NORMAL, 4, {1, 3, 1, 1}}}},
    {.type = "Add", .what = "empty", .in = {{QT_NORMAL, 2, {0, 4}}, {QT_NORMAL, 1, {4}}}},
    {.type = "Add", .what = "a long sum", .in = {{QT_FIXED, 3, {2, 3, 9001}}, {QT_NORMAL, 2, {3, 1}}}},
    {.type = NULL},
};
