/* gguf_mix_tab.c: names and numbers (llama_ftype) of llama.cpp v0.5.0. */
#include "compress/export/gguf_mix.h"

const qn_ggx_mix qn_ggx_mixes[] = {
    {"Q4_0", QN_MIX_Q4_0, QN_Q4_0, 2},           {"Q4_1", QN_MIX_Q4_1, QN_Q4_1, 3},           {"Q5_0", QN_MIX_Q5_0, QN_Q5_0, 8},
    {"Q5_1", QN_MIX_Q5_1, QN_Q5_1, 9},           {"Q8_0", QN_MIX_Q8_0, QN_Q8_0, 7},           {"Q2_K", QN_MIX_Q2_K, QN_Q2_K, 10},
    {"Q2_K_S", QN_MIX_Q2_K_S, QN_Q2_K, 21},      {"Q3_K_S", QN_MIX_Q3_K_S, QN_Q3_K, 11},      {"Q3_K_M", QN_MIX_Q3_K_M, QN_Q3_K, 12},
    {"Q3_K_L", QN_MIX_Q3_K_L, QN_Q3_K, 13},      {"Q4_K_S", QN_MIX_Q4_K_S, QN_Q4_K, 14},      {"Q4_K_M", QN_MIX_Q4_K_M, QN_Q4_K, 15},
    {"Q5_K_S", QN_MIX_Q5_K_S, QN_Q5_K, 16},      {"Q5_K_M", QN_MIX_Q5_K_M, QN_Q5_K, 17},      {"Q6_K", QN_MIX_Q6_K, QN_Q6_K, 18},
    {"IQ1_S", QN_MIX_IQ1_S, QN_IQ1_S, 24},       {"IQ1_M", QN_MIX_IQ1_M, QN_IQ1_M, 31},       {"IQ2_XXS", QN_MIX_IQ2_XXS, QN_IQ2_XXS, 19},
    {"IQ2_XS", QN_MIX_IQ2_XS, QN_IQ2_XS, 20},    {"IQ2_S", QN_MIX_IQ2_S, QN_IQ2_XS, 28},      {"IQ2_M", QN_MIX_IQ2_M, QN_IQ2_S, 29},
    {"IQ3_XXS", QN_MIX_IQ3_XXS, QN_IQ3_XXS, 23}, {"IQ3_XS", QN_MIX_IQ3_XS, QN_IQ3_S, 22},     {"IQ3_S", QN_MIX_IQ3_S, QN_IQ3_S, 26},
    {"IQ3_M", QN_MIX_IQ3_M, QN_IQ3_S, 27},       {"IQ4_NL", QN_MIX_IQ4_NL, QN_IQ4_NL, 25},    {"IQ4_XS", QN_MIX_IQ4_XS, QN_IQ4_XS, 30},
    {"TQ1_0", QN_MIX_TQ1_0, QN_TQ1_0, 36},       {"TQ2_0", QN_MIX_TQ2_0, QN_TQ2_0, 37},       {"Q2_0", QN_MIX_Q2_0, QN_Q2_0, 41},
    {"Q1_0", QN_MIX_Q1_0, QN_Q1_0, 40},          {"MXFP4_MOE", QN_MIX_MXFP4_MOE, QN_MXFP4, 38},
    {"Q3_K", QN_MIX_Q3_K_M, QN_Q3_K, 12},        {"Q4_K", QN_MIX_Q4_K_M, QN_Q4_K, 15},        {"Q5_K", QN_MIX_Q5_K_M, QN_Q5_K, 17}, /* its short names */
    {NULL, QN_MIX_Q4_0, QN_BYTES, 0},
};

const qn_ggx_type qn_ggx_type_tab[] = {
    {QN_Q4_0, 2},    {QN_Q4_1, 3},    {QN_Q5_0, 8},     {QN_Q5_1, 9},    {QN_Q8_0, 7},    {QN_Q2_K, 10},   {QN_Q3_K, 11},    {QN_Q4_K, 14},  {QN_Q5_K, 16},
    {QN_Q6_K, 18},   {QN_IQ1_S, 24},  {QN_IQ1_M, 31},   {QN_IQ2_XXS, 19}, {QN_IQ2_XS, 20}, {QN_IQ2_S, 28},  {QN_IQ3_XXS, 23}, {QN_IQ3_S, 26}, {QN_IQ4_NL, 25},
    {QN_IQ4_XS, 30}, {QN_TQ1_0, 36},  {QN_TQ2_0, 37},   {QN_MXFP4, 38},  {QN_NVFP4, 39},  {QN_Q1_0, 40},   {QN_Q2_0, 41},    {QN_BYTES, 0},
};
