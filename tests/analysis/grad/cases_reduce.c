/* cases_reduce.c: Reduce…: the axes as an input or an attribute, kept or not. */
#include "tests/analysis/grad/cases.h"

const qt_grad_op qt_cases_reduce[] = {
    {.type = "ReduceSum", .in = {{QT_NORMAL, 3, {2, 3, 4}}, {QT_LIST(1)}}},
    {.type = "ReduceSum", .what = "not kept", .attrs = {QT_I("keepdims", 0)}, .in = {{QT_NORMAL, 4, {2, 3, 4, 2}}, {QT_LIST(0, -2)}}},
    {.type = "ReduceSum", .what = "all", .attrs = {QT_I("keepdims", 0)}, .in = {{QT_NORMAL, 2, {3, 4}}}},
    {.type = "ReduceSum", .what = "none", .attrs = {QT_I("noop_with_empty_axes", 1)}, .in = {{QT_NORMAL, 2, {3, 4}}}},
    {.type = "ReduceSum", .what = "of nothing", .in = {{QT_NORMAL, 2, {3, 0}}, {QT_LIST(1)}}},
    {.type = "ReduceMean", .version = 13, .attrs = {QT_INTS("axes", 2, 3)}, .in = {{QT_NORMAL, 4, {2, 3, 4, 5}}}},
    {.type = "ReduceMean", .what = "not kept", .attrs = {QT_I("keepdims", 0)}, .in = {{QT_NORMAL, 3, {2, 3, 4}}, {QT_LIST(-1)}}},
    {.type = "ReduceMean", .what = "all", .in = {{QT_NORMAL, 3, {2, 3, 4}}}},
    {.type = "ReduceMax", .in = {{QT_APART, 3, {2, 3, 4}}, {QT_LIST(1)}}},
    {.type = "ReduceMax", .what = "not kept", .version = 13, .attrs = {QT_I("keepdims", 0), QT_INTS("axes", 0, 2)}, .in = {{QT_APART, 3, {2, 3, 4}}}},
    {.type = "ReduceMin", .in = {{QT_APART, 3, {2, 3, 4}}, {QT_LIST(-1)}}},
    {.type = "ReduceL1", .in = {{QT_APART, 3, {2, 3, 4}}, {QT_LIST(1)}}},
    {.type = "ReduceL2", .in = {{QT_NORMAL, 3, {2, 3, 4}}, {QT_LIST(1)}}},
    {.type = "ReduceSumSquare", .in = {{QT_NORMAL, 3, {2, 3, 4}}, {QT_LIST(0, 1)}}},
    {.type = "ReduceLogSum", .in = {{QT_POSITIVE, 3, {2, 3, 4}}, {QT_LIST(1)}}},
    {.type = "ReduceLogSumExp", .in = {{QT_NORMAL, 3, {2, 3, 4}}, {QT_LIST(2)}}},
    {.type = NULL},
};
