/* dtype.c: names and widths of the element types, in the order of qn_dtype. */
#include "quern/base.h"

static const struct {
    const char *name;
    unsigned bits;
} tab[QN_DTYPE_COUNT] = {
    [QN_BYTES] = {"BYTES", 8},
    [QN_BOOL] = {"BOOL", 8},
    [QN_F4] = {"F4", 4},
    [QN_F6_E2M3] = {"F6_E2M3", 6},
    [QN_F6_E3M2] = {"F6_E3M2", 6},
    [QN_U8] = {"U8", 8},
    [QN_I8] = {"I8", 8},
    [QN_F8_E5M2] = {"F8_E5M2", 8},
    [QN_F8_E4M3] = {"F8_E4M3", 8},
    [QN_F8_E8M0] = {"F8_E8M0", 8},
    [QN_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8},
    [QN_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8},
    [QN_I16] = {"I16", 16},
    [QN_U16] = {"U16", 16},
    [QN_F16] = {"F16", 16},
    [QN_BF16] = {"BF16", 16},
    [QN_I32] = {"I32", 32},
    [QN_U32] = {"U32", 32},
    [QN_F32] = {"F32", 32},
    [QN_C64] = {"C64", 64},
    [QN_F64] = {"F64", 64},
    [QN_I64] = {"I64", 64},
    [QN_U64] = {"U64", 64},
};

const char *qn_dtype_name(qn_dtype t)
{
    return (unsigned)t < QN_DTYPE_COUNT ? tab[t].name : NULL;
}

unsigned qn_dtype_bits(qn_dtype t)
{
    return (unsigned)t < QN_DTYPE_COUNT ? tab[t].bits : 0;
}

const char *qn_version(void)
{
    return QN_VERSION;
}
