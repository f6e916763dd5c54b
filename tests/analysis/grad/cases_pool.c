/* cases_pool.c: pooling. */
#include "tests/analysis/grad/cases.h"

const qt_grad_op qt_cases_pool[] = {
    {.type = "MaxPool", .attrs = {QT_INTS("kernel_shape", 2, 2), QT_INTS("strides", 2, 2)}, .in = {{QT_APART, 4, {2, 2, 5, 6}}}},
    {.type = "MaxPool", .what = "overlapping, pads", .attrs = {QT_INTS("kernel_shape", 3, 3), QT_INTS("strides", 2, 1), QT_INTS("pads", 1, 1, 1, 1)},
     .in = {{QT_APART, 4, {2, 2, 5, 6}}}},
    {.type = "MaxPool", .what = "with indices", .attrs = {QT_INTS("kernel_shape", 3), QT_INTS("dilations", 2), QT_I("ceil_mode", 1), QT_INTS("strides", 2)},
     .in = {{QT_APART, 3, {2, 3, 10}}}, .n_out = 2},
    {.type = "MaxPool", .what = "3 axes", .attrs = {QT_INTS("kernel_shape", 2, 2, 2)}, .in = {{QT_APART, 5, {1, 2, 3, 3, 4}}}},
    {.type = "MaxPool", .what = "same", .attrs = {QT_INTS("kernel_shape", 3, 3), QT_INTS("strides", 2, 2), QT_S("auto_pad", "SAME_UPPER")}, .in = {{QT_APART, 4, {2, 2, 5, 6}}}},
    {.type = "MaxPool", .what = "no images", .attrs = {QT_INTS("kernel_shape", 2, 2)}, .in = {{QT_APART, 4, {0, 2, 5, 6}}}},
    {.type = "AveragePool", .attrs = {QT_INTS("kernel_shape", 2, 2), QT_INTS("strides", 2, 2)}, .in = {{QT_NORMAL, 4, {2, 2, 5, 6}}}},
    {.type = "AveragePool", .what = "pads", .attrs = {QT_INTS("kernel_shape", 3, 3), QT_INTS("pads", 1, 2, 1, 0)}, .in = {{QT_NORMAL, 4, {2, 2, 5, 6}}}},
    {.type = "AveragePool", .what = "pads that count", .attrs = {QT_INTS("kernel_shape", 3, 3), QT_INTS("pads", 1, 2, 1, 0), QT_I("count_include_pad", 1)},
     .in = {{QT_NORMAL, 4, {2, 2, 5, 6}}}},
    {.type = "AveragePool", .what = "up", .version = 19, .attrs = {QT_INTS("kernel_shape", 3, 3), QT_INTS("strides", 2, 2), QT_I("ceil_mode", 1), QT_INTS("pads", 1, 1, 0, 0),
     QT_I("count_include_pad", 1), QT_INTS("dilations", 1, 2)}, .in = {{QT_NORMAL, 4, {2, 2, 6, 7}}}},
    {.type = "AveragePool", .what = "1 axis", .attrs = {QT_INTS("kernel_shape", 4), QT_S("auto_pad", "SAME_LOWER")}, .in = {{QT_NORMAL, 3, {2, 2, 7}}}},
    {.type = "GlobalAveragePool", .in = {{QT_NORMAL, 4, {2, 3, 4, 5}}}},
    {.type = "GlobalAveragePool", .what = "no images", .in = {{QT_NORMAL, 4, {0, 3, 4, 5}}}},
    {.type = "GlobalMaxPool", .in = {{QT_APART, 5, {2, 3, 2, 2, 3}}}},
    {.type = NULL},
};
