/* cases_matmul.c: MatMul. */
#include "tests/analysis/grad/cases.h"

const qt_grad_op qt_cases_matmul[] = {
    {.type = "MatMul", .in = {{QT_NORMAL, 2, {5, 7}}, {QT_NORMAL, 2, {7, 3}}}},
    {.type = "MatMul", .what = "rows of any shape", .in = {{QT_NORMAL, 4, {2, 1, 3, 4}}, {QT_NORMAL, 2, {4, 3}}}},
    {.type = "MatMul", .what = "batched", .in = {{QT_NORMAL, 4, {2, 3, 4, 5}}, {QT_NORMAL, 4, {2, 3, 5, 2}}}},
    {.type = "MatMul", .what = "batches repeated", .in = {{QT_NORMAL, 4, {3, 1, 2, 4}}, {QT_NORMAL, 3, {2, 4, 3}}}},
    {.type = "MatMul", .what = "left repeated", .in = {{QT_NORMAL, 2, {2, 4}}, {QT_NORMAL, 3, {5, 4, 3}}}},
    {.type = "MatMul", .what = "vectors", .in = {{QT_NORMAL, 1, {6}}, {QT_NORMAL, 1, {6}}}},
    {.type = "MatMul", .what = "vector left", .in = {{QT_NORMAL, 1, {6}}, {QT_NORMAL, 3, {2, 6, 3}}}},
    {.type = "MatMul", .what = "vector right", .in = {{QT_NORMAL, 3, {2, 3, 6}}, {QT_NORMAL, 1, {6}}}},
    {.type = "MatMul", .what = "nothing to sum", .in = {{QT_NORMAL, 2, {3, 0}}, {QT_NORMAL, 2, {0, 4}}}},
    {.type = "MatMul", .what = "no rows", .in = {{QT_NORMAL, 2, {0, 3}}, {QT_NORMAL, 2, {3, 4}}}},
    {.type = "MatMul", .what = "no batches", .in = {{QT_NORMAL, 3, {0, 2, 3}}, {QT_NORMAL, 3, {1, 3, 4}}}},
    {.type = "MatMul", .what = "left fixed", .in = {{QT_FIXED, 2, {5, 7}}, {QT_NORMAL, 2, {7, 3}}}},
    {.type = "MatMul", .what = "many tiles", .in = {{QT_NORMAL, 2, {70, 300}}, {QT_NORMAL, 2, {300, 150}}}},
    {.type = NULL},
};
