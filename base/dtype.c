/* dtype.c: names and widths of the element types, in the order of qn_dtype. Rows that no type has are empty. */
#include "quern/base.h"

static const struct {
    const char *name;
    uint8_t bits; /* of an element; 0: only a block has a width */
    uint16_t block_elems, block_bytes;
} tab[QN_DTYPE_COUNT] = {
    [QN_BYTES] = {"BYTES", 8, 1, 1},
    [QN_BOOL] = {"BOOL", 8, 1, 1},
    [QN_F4] = {"F4", 4, 2, 1},
    [QN_F6_E2M3] = {"F6_E2M3", 6, 4, 3},
    [QN_F6_E3M2] = {"F6_E3M2", 6, 4, 3},
    [QN_U8] = {"U8", 8, 1, 1},
    [QN_I8] = {"I8", 8, 1, 1},
    [QN_F8_E5M2] = {"F8_E5M2", 8, 1, 1},
    [QN_F8_E4M3] = {"F8_E4M3", 8, 1, 1},
    [QN_F8_E8M0] = {"F8_E8M0", 8, 1, 1},
    [QN_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8, 1, 1},
    [QN_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8, 1, 1},
    [QN_I16] = {"I16", 16, 1, 2},
    [QN_U16] = {"U16", 16, 1, 2},
    [QN_F16] = {"F16", 16, 1, 2},
    [QN_BF16] = {"BF16", 16, 1, 2},
    [QN_I32] = {"I32", 32, 1, 4},
    [QN_U32] = {"U32", 32, 1, 4},
    [QN_F32] = {"F32", 32, 1, 4},
    [QN_C64] = {"C64", 64, 1, 8},
    [QN_F64] = {"F64", 64, 1, 8},
    [QN_I64] = {"I64", 64, 1, 8},
    [QN_U64] = {"U64", 64, 1, 8},
    [QN_Q4_0] = {"Q4_0", 0, 32, 18},
    [QN_Q4_1] = {"Q4_1", 0, 32, 20},
    [QN_Q5_0] = {"Q5_0", 0, 32, 22},
    [QN_Q5_1] = {"Q5_1", 0, 32, 24},
    [QN_Q8_0] = {"Q8_0", 0, 32, 34},
    [QN_Q2_K] = {"Q2_K", 0, 256, 84},
    [QN_Q3_K] = {"Q3_K", 0, 256, 110},
    [QN_Q4_K] = {"Q4_K", 0, 256, 144},
    [QN_Q5_K] = {"Q5_K", 0, 256, 176},
    [QN_Q6_K] = {"Q6_K", 0, 256, 210},
    [QN_IQ2_XXS] = {"IQ2_XXS", 0, 256, 66},
    [QN_IQ2_XS] = {"IQ2_XS", 0, 256, 74},
    [QN_IQ3_XXS] = {"IQ3_XXS", 0, 256, 98},
    [QN_IQ1_S] = {"IQ1_S", 0, 256, 50},
    [QN_IQ4_NL] = {"IQ4_NL", 0, 32, 18},
    [QN_IQ3_S] = {"IQ3_S", 0, 256, 110},
    [QN_IQ2_S] = {"IQ2_S", 0, 256, 82},
    [QN_IQ4_XS] = {"IQ4_XS", 0, 256, 136},
    [QN_IQ1_M] = {"IQ1_M", 0, 256, 56},
    [QN_TQ1_0] = {"TQ1_0", 0, 256, 54},
    [QN_TQ2_0] = {"TQ2_0", 0, 256, 66},
    [QN_MXFP4] = {"MXFP4", 0, 32, 17},
    [QN_NVFP4] = {"NVFP4", 0, 64, 36},
    [QN_Q1_0] = {"Q1_0", 0, 128, 18},
    [QN_Q2_0] = {"Q2_0", 0, 64, 18},
};

const char *qn_dtype_name(qn_dtype t)
{
    return (unsigned)t < QN_DTYPE_COUNT ? tab[t].name : NULL;
}

unsigned qn_dtype_bits(qn_dtype t)
{
    return (unsigned)t < QN_DTYPE_COUNT ? tab[t].bits : 0;
}

unsigned qn_dtype_block_elems(qn_dtype t)
{
    return (unsigned)t < QN_DTYPE_COUNT ? tab[t].block_elems : 0;
}

unsigned qn_dtype_block_bytes(qn_dtype t)
{
    return (unsigned)t < QN_DTYPE_COUNT ? tab[t].block_bytes : 0;
}

const char *qn_version(void)
{
    return QN_VERSION;
}
