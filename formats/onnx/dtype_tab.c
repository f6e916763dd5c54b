/* dtype_tab.c: the element types of ONNX: ours, their width, and where values stand that are not raw_data. */
#include "formats/onnx/model.h"

enum { FLOATS = 4, INT32S = 5, STRINGS = 6, INT64S = 7, DOUBLES = 10, UINT64S = 11 };

static const qn_onnx_dtype_info tab[QN_ONNX_DTYPE_COUNT] = {
    [QN_ONNX_FLOAT] = {"FLOAT", QN_F32, 32, FLOATS, false, 0, 0},
    [QN_ONNX_UINT8] = {"UINT8", QN_U8, 8, INT32S, false, 0, 255},
    [QN_ONNX_INT8] = {"INT8", QN_I8, 8, INT32S, false, -128, 127},
    [QN_ONNX_UINT16] = {"UINT16", QN_U16, 16, INT32S, false, 0, 65535},
    [QN_ONNX_INT16] = {"INT16", QN_I16, 16, INT32S, false, -32768, 32767},
    [QN_ONNX_INT32] = {"INT32", QN_I32, 32, INT32S, false, INT32_MIN, INT32_MAX},
    [QN_ONNX_INT64] = {"INT64", QN_I64, 64, INT64S, false, INT64_MIN, INT64_MAX},
    [QN_ONNX_STRING] = {"STRING", QN_BYTES, 0, STRINGS, false, 0, 0},
    [QN_ONNX_BOOL] = {"BOOL", QN_BOOL, 8, INT32S, false, 0, 1},
    [QN_ONNX_FLOAT16] = {"FLOAT16", QN_F16, 16, INT32S, false, 0, 65535},
    [QN_ONNX_DOUBLE] = {"DOUBLE", QN_F64, 64, DOUBLES, false, 0, 0},
    [QN_ONNX_UINT32] = {"UINT32", QN_U32, 32, UINT64S, false, 0, UINT32_MAX},
    [QN_ONNX_UINT64] = {"UINT64", QN_U64, 64, UINT64S, false, INT64_MIN, INT64_MAX}, /* all 64 bits */
    [QN_ONNX_COMPLEX64] = {"COMPLEX64", QN_C64, 64, FLOATS, false, 0, 0},
    [QN_ONNX_COMPLEX128] = {"COMPLEX128", QN_BYTES, 128, DOUBLES, false, 0, 0},
    [QN_ONNX_BFLOAT16] = {"BFLOAT16", QN_BF16, 16, INT32S, false, 0, 65535},
    [QN_ONNX_FLOAT8E4M3FN] = {"FLOAT8E4M3FN", QN_F8_E4M3, 8, INT32S, false, 0, 255},
    [QN_ONNX_FLOAT8E4M3FNUZ] = {"FLOAT8E4M3FNUZ", QN_F8_E4M3FNUZ, 8, INT32S, false, 0, 255},
    [QN_ONNX_FLOAT8E5M2] = {"FLOAT8E5M2", QN_F8_E5M2, 8, INT32S, false, 0, 255},
    [QN_ONNX_FLOAT8E5M2FNUZ] = {"FLOAT8E5M2FNUZ", QN_F8_E5M2FNUZ, 8, INT32S, false, 0, 255},
    [QN_ONNX_UINT4] = {"UINT4", QN_U8, 4, INT32S, true, 0, 255},
    [QN_ONNX_INT4] = {"INT4", QN_U8, 4, INT32S, true, 0, 255},
    [QN_ONNX_FLOAT4E2M1] = {"FLOAT4E2M1", QN_F4, 4, INT32S, false, 0, 255},
    [QN_ONNX_FLOAT8E8M0] = {"FLOAT8E8M0", QN_F8_E8M0, 8, INT32S, false, 0, 255},
    [QN_ONNX_UINT2] = {"UINT2", QN_U8, 2, INT32S, true, 0, 255},
    [QN_ONNX_INT2] = {"INT2", QN_U8, 2, INT32S, true, 0, 255},
};

const qn_onnx_dtype_info *qn_onnx_dtype_get(uint64_t data_type)
{
    return data_type < QN_ONNX_DTYPE_COUNT && tab[data_type].name ? &tab[data_type] : NULL;
}
