/* zero_tab.c: what elementwise operators make of 0: for the question whether a value is 0 where the weights of a group are. */
#include "analysis/groups/zero.h"
#include <stddef.h>

const qn_zero_row qn_zero_rows[] = {
    {"Abs", QN_KEEPS},         {"Act", QN_KEEPS},        {"Asin", QN_KEEPS},          {"Asinh", QN_KEEPS},       {"Atan", QN_KEEPS},
    {"Atanh", QN_KEEPS},       {"Cast", QN_KEEPS},       {"CastLike", QN_FIRST},      {"Ceil", QN_KEEPS},        {"Celu", QN_KEEPS},
    {"Clip", QN_FIRST},        {"Dropout", QN_FIRST},    {"Elu", QN_KEEPS},           {"Erf", QN_KEEPS},         {"Floor", QN_KEEPS},
    {"Gelu", QN_KEEPS},        {"HardSwish", QN_KEEPS},  {"Identity", QN_KEEPS},      {"IsInf", QN_KEEPS},       {"IsNaN", QN_KEEPS},
    {"LeakyRelu", QN_KEEPS},   {"Mish", QN_KEEPS},       {"Neg", QN_KEEPS},           {"PRelu", QN_FIRST},       {"Pow", QN_FIRST},
    {"QuickGelu", QN_KEEPS},   {"Relu", QN_KEEPS},       {"Round", QN_KEEPS},         {"Scale", QN_KEEPS},       {"Selu", QN_KEEPS},
    {"Shrink", QN_KEEPS},      {"Sign", QN_KEEPS},       {"Sin", QN_KEEPS},           {"Sinh", QN_KEEPS},        {"Softcap", QN_KEEPS},
    {"Softsign", QN_KEEPS},    {"Sqrt", QN_KEEPS},       {"Tan", QN_KEEPS},           {"Tanh", QN_KEEPS},        {"ThresholdedRelu", QN_KEEPS},
    {"TokenShift", QN_FIRST},  {"BitShift", QN_FIRST},

    {"Add", QN_KEEPS},         {"Sub", QN_KEEPS},        {"Sum", QN_KEEPS},           {"Mean", QN_KEEPS},        {"Max", QN_KEEPS},
    {"Min", QN_KEEPS},         {"BiasGelu", QN_KEEPS},   {"FastGelu", QN_KEEPS},      {"Or", QN_KEEPS},          {"Xor", QN_KEEPS},
    {"BitwiseOr", QN_KEEPS},   {"BitwiseXor", QN_KEEPS}, {"Greater", QN_KEEPS},       {"Less", QN_KEEPS},        {"Where", QN_BRANCHES},

    {"Mul", QN_MULTIPLIES},    {"And", QN_MULTIPLIES},   {"BitwiseAnd", QN_MULTIPLIES}, {"Gated", QN_MULTIPLIES}, {"Div", QN_DIVIDES},
    {"Mod", QN_DIVIDES},       {"Log", QN_POLE},         {"Reciprocal", QN_POLE},
    {NULL, QN_LOSES},
};
