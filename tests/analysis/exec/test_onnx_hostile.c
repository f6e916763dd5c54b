/* What a file may say and cannot be meant: one clear error, found by the shape rule or by the forward pass; and sizes of zero, which are
 * fine. */
#include "tests/support/made.h"
#include "tests/support/onnx_op.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static const float f[64] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, zero[1] = {0}, minus[1] = {-1}, many[1] = {1e30f}, none[4] = {NAN, NAN, NAN, NAN};
static const int64_t i0[1] = {0}, i1[4] = {1, 1, 1, 1}, huge[2] = {INT64_MAX, INT64_MAX}, wide[1] = {INT64_C(1) << 40}, neg[2] = {-1, -1}, nine[4] = {9, 9, 9, 9};
static const uint8_t u8[64] = {1, 2, 3};

#define F(...)      {f, .rank = sizeof((int64_t[]){__VA_ARGS__}) / 8, .dims = {__VA_ARGS__}}
#define D(p, ...)   {p, .rank = sizeof((int64_t[]){__VA_ARGS__}) / 8, .dims = {__VA_ARGS__}, .constant = true}
#define I(p, ...)   {p, .dtype = QN_I64, .rank = sizeof((int64_t[]){__VA_ARGS__}) / 8, .dims = {__VA_ARGS__}, .constant = true}
#define U(...)      {u8, .dtype = QN_U8, .rank = sizeof((int64_t[]){__VA_ARGS__}) / 8, .dims = {__VA_ARGS__}}
#define SCALAR(p)   {p, .rank = 0, .constant = true}
#define ISCALAR(p)  {p, .dtype = QN_I64, .rank = 0, .constant = true}
#define CONV_IN     {F(1, 2, 8), F(2, 2, 3)}

static const struct {
    qt_op op;
    const char *text; /* part of the message */
    qn_code code;     /* 0: QN_E_INPUT       */
} bad[] = {
    {{"Conv", .attrs = {QT_INTS("dilations", INT64_MAX)}, .in = CONV_IN}, "'dilations' holds 9223372036854775807"},
    {{"Conv", .attrs = {QT_INTS("dilations", INT32_MAX)}, .in = CONV_IN}, "a kernel that spans 4294967295 along axis 2"},
    {{"Conv", .attrs = {QT_INTS("strides", 0)}, .in = CONV_IN}, "'strides' holds 0; allowed is 1"},
    {{"Conv", .attrs = {QT_INTS("strides", 1, 1)}, .in = CONV_IN}, "'strides' has 2 values; 1 are needed"},
    {{"Conv", .attrs = {QT_INTS("pads", -1, 0)}, .in = CONV_IN}, "'pads' holds -1"},
    {{"Conv", .attrs = {QT_INTS("pads", INT64_C(1) << 40, 0)}, .in = CONV_IN}, "'pads' holds 1099511627776"},
    {{"Conv", .attrs = {QT_INTS("pads", INT32_MAX, INT32_MAX)}, .in = CONV_IN}, "memory limit", QN_E_MEMORY},
    {{"Conv", .attrs = {QT_I("group", 0)}, .in = CONV_IN}, "2 channels in 0 groups"},
    {{"Conv", .attrs = {QT_I("group", INT64_MIN)}, .in = CONV_IN}, "groups"},
    {{"Conv", .attrs = {QT_I("group", 2)}, .in = CONV_IN}, "2 channels in 2 groups do not fit a weight of 2 × 2"},
    {{"Conv", .attrs = {QT_INTS("kernel_shape", 4)}, .in = CONV_IN}, "kernel_shape says 4 along axis 2, the weight 3"},
    {{"Conv", .attrs = {QT_S("auto_pad", "SAME")}, .in = CONV_IN}, "auto_pad is 'SAME'"},
    {{"Conv", .in = {F(1, 2, 8), F(2, 2, 0)}}, "'kernel_shape' holds 0"},
    {{"Conv", .in = {F(2, 8), F(2, 3)}}, "rank 2"},
    {{"Conv", .in = {F(1, 2, 8), F(2, 2, 3, 1)}}, "rank 3 and a weight of rank 4"},
    {{"Conv", .in = {F(1, 1, 1, 1, 1, 1), F(1, 1, 1, 1, 1, 1)}}, "a window over 4 axes", QN_E_UNSUPPORTED},
    {{"Conv", .in = {F(1, 2, 2), F(2, 2, 3)}}, "a kernel that spans 3 along axis 2, where the input with its pads has 2"},
    {{"Conv", .in = {F(1, 2, 8), F(2, 2, 3), F(3)}}, "the bias is F32 (3); 2 values are needed"},
    {{"Conv", .in = {U(1, 2, 8), F(2, 2, 3)}}, "the input is U8"},
    {{"ConvTranspose", .attrs = {QT_INTS("strides", INT32_MAX)}, .in = CONV_IN}, "memory limit", QN_E_MEMORY},
    {{"ConvTranspose", .attrs = {QT_INTS("output_shape", INT64_MAX)}, .in = CONV_IN}, "output_shape 9223372036854775807"},
    {{"ConvTranspose", .attrs = {QT_INTS("pads", 9, 9)}, .in = CONV_IN}, "leave nothing of 10 along axis 2"},
    {{"ConvTranspose", .attrs = {QT_I("group", INT64_MAX)}, .in = CONV_IN}, "groups"},
    {{"MaxPool", .attrs = {QT_INTS("kernel_shape", 0)}, .in = {F(1, 2, 8)}}, "'kernel_shape' holds 0"},
    {{"MaxPool", .in = {F(1, 2, 8)}}, "'kernel_shape' is missing"},
    {{"MaxPool", .attrs = {QT_INTS("kernel_shape", 2), QT_INTS("pads", 2, 0)}, .in = {F(1, 2, 8)}}, "pads of 2 and 0 around a window that spans 2"},
    {{"AveragePool", .attrs = {QT_INTS("kernel_shape", 1)}, .in = {F(1, 8)}}, "rank 2"},
    {{"AveragePool", .attrs = {QT_INTS("kernel_shape", 1)}, .in = {U(1, 1, 8)}}, "floats are needed"},
    {{"GlobalAveragePool", .in = {F(1, 2, 0)}}, "which is empty"},
    {{"LpPool", .attrs = {QT_INTS("kernel_shape", 1), QT_I("p", 0)}, .in = {F(1, 1, 8)}}, "'p' is 0"},
    {{"MaxUnpool", .attrs = {QT_INTS("kernel_shape", 2)}, .in = {F(1, 1, 1), I(neg, 1, 1, 1)}}, "index -1; the output has 2 places"},
    {{"MaxUnpool", .attrs = {QT_INTS("kernel_shape", 2)}, .in = {F(1, 1, 1), I(nine, 1, 1, 1)}}, "index 9"},
    {{"RoiAlign", .in = {F(1, 1, 2, 2), F(1, 4), I(nine, 1)}}, "region 0 is of image 9 of 1"},
    {{"RoiAlign", .in = {F(1, 1, 2, 2), D(none, 1, 4), I(i1, 2)}}, "RoiAlign needs"},
    {{"Resize", .in = {F(2), [2] = D(zero, 1)}}, "scale 0 along axis 0"},
    {{"Resize", .in = {F(2), [2] = D(minus, 1)}}, "scale -1"},
    {{"Resize", .in = {F(2), [2] = D(many, 1)}}, "scale 1e+30"},
    {{"Resize", .in = {F(2), [2] = D(none, 1)}}, "scale nan"},
    {{"Resize", .in = {F(2), [3] = I(neg, 1)}}, "size -1"},
    {{"Resize", .in = {F(2), [3] = I(wide, 1)}}, "memory limit", QN_E_MEMORY},
    {{"Resize", .in = {F(2), [3] = I(huge, 1)}}, "size 9223372036854775807"},
    {{"Resize", .in = {F(2), [3] = I(i1, 2)}}, "2 sizes for 1 axes"},
    {{"Resize", .in = {F(2)}}, "neither scales nor sizes"},
    {{"Resize", .attrs = {QT_INTS("axes", 9)}, .in = {F(2), [3] = I(i1, 1)}}, "9"},
    {{"Resize", .attrs = {QT_S("mode", "best")}, .in = {F(2), [3] = I(i1, 1)}}, "mode 'best'"},
    {{"Resize", .attrs = {QT_S("coordinate_transformation_mode", "tf_crop_and_resize")}, .in = {F(2), [3] = I(i1, 1)}}, "needs a roi of 2"},
    {{"MatMul", .in = {F(2, 3), F(2, 3)}}, "MatMul of (…, 2, 3) with (…, 2, 3)"},
    {{"MatMul", .in = {F(2, 1, 2), F(3, 2, 1)}}, "MatMul of 2 matrices with 3"},
    {{"MatMul", .in = {F(2), {f, .rank = 0}}}, "scalar"},
    {{"MatMul", .in = {F(2), U(2)}}, "MatMul of F32 (2) with U8 (2)"},
    {{"Gemm", .in = {F(2), F(2, 2)}}, "rank 1 and 2"},
    {{"Gemm", .in = {F(2, 3), F(2, 3)}}, "sums over 3 of A and 2 of B"},
    {{"Gemm", .in = {F(2, 2), F(2, 2), F(3)}}, "C is F32 (3)"},
    {{"Einsum", .attrs = {QT_S("equation", "ij->")}, .in = {F(2)}}, "does not fit 1 operands"},
    {{"Einsum", .attrs = {QT_S("equation", "i,j->ij")}, .in = {F(2)}}, "does not fit 1 operands"},
    {{"Einsum", .attrs = {QT_S("equation", "i?")}, .in = {F(2)}}, "cannot be read"},
    {{"Einsum", .attrs = {QT_S("equation", "i->j")}, .in = {F(2)}}, "not in the operands"},
    {{"Einsum", .attrs = {QT_S("equation", "i->ii")}, .in = {F(2)}}, "twice"},
    {{"Einsum", .attrs = {QT_S("equation", "i,i->")}, .in = {F(2), F(3)}}, "stands for 2 and for 3"},
    {{"Softmax", .attrs = {QT_I("axis", 7)}, .in = {F(2, 2)}}, "7"},
    {{"Softmax", .attrs = {QT_I("axis", INT64_MIN)}, .in = {F(2, 2)}}, "-9223372036854775808"},
    {{"LayerNormalization", .in = {F(2, 4), F(3)}}, "scale is F32 (3); it does not fit"},
    {{"BatchNormalization", .in = {F(1, 2, 2), F(2), F(2), F(2), F(3)}}, "variance is F32 (3)"},
    {{"BatchNormalization", .attrs = {QT_I("training_mode", 1)}, .in = {F(1, 2, 2), F(2), F(2), F(2), F(2)}}, "training mode", QN_E_UNSUPPORTED},
    {{"GroupNormalization", .attrs = {QT_I("num_groups", 3)}, .in = {F(1, 4, 2), F(4), F(4)}}, "4 channels in 3 groups"},
    {{"LRN", .attrs = {QT_I("size", 0)}, .in = {F(1, 4)}}, "'size' is 0"},
    {{"LpNormalization", .attrs = {QT_I("p", 3)}, .in = {F(1, 4)}}, "'p' is 3"},
    {{"LSTM", .in = {F(1, 1, 2), F(1, 4, 2), F(1, 8, 2)}}, "W is F32 (1, 4, 2); (1, 8, 2) is needed"},
    {{"LSTM", .in = {F(1, 1, 2), F(1, 4, 2), F(8, 2)}}, "R is F32 (8, 2)"},
    {{"RNN", .in = {F(1, 1, 1), F(1, 1, 1), F(1, 1, 1), {NULL}, I(nine, 1)}}, "a sequence of 9 steps; X has 1"},
    {{"RNN", .in = {F(1, 1, 1), F(1, 1, 1), F(1, 1, 1), {NULL}, I(neg, 1)}}, "a sequence of -1 steps"},
    {{"RNN", .attrs = {QT_STRINGS("activations", "Best")}, .in = {F(1, 1, 1), F(1, 1, 1), F(1, 1, 1)}}, "activation 'Best'"},
    {{"GRU", .attrs = {QT_I("hidden_size", 7)}, .in = {F(1, 1, 1), F(1, 3, 1), F(1, 3, 1)}}, "hidden_size is 7, R has 1"},
    {{"GRU", .attrs = {QT_S("direction", "up")}, .in = {F(1, 1, 1), F(1, 3, 1), F(1, 3, 1)}}, "direction 'up'"},
    {{"DFT", .version = 17, .in = {F(1, 4, 1), ISCALAR(neg)}}, "DFT of length -1"},
    {{"DFT", .version = 17, .in = {F(1, 4, 1), ISCALAR(wide)}}, "1099511627776"},
    {{"DFT", .version = 17, .in = {F(1, 4, 3)}}, "the last dimension must be 1 or 2"},
    {{"STFT", .in = {F(1, 8, 1), ISCALAR(i0), {NULL}, ISCALAR(i1)}}, "frames of 1 every 0"},
    {{"STFT", .in = {F(1, 8, 1), ISCALAR(i1), {NULL}, ISCALAR(nine)}}, "frames of 9 every 1 of a signal of 8"},
    {{"HannWindow", .in = {ISCALAR(neg)}}, "-1"},
    {{"HannWindow", .in = {ISCALAR(wide)}}, "memory limit", QN_E_MEMORY},
    {{"MelWeightMatrix", .in = {ISCALAR(i1), ISCALAR(nine), ISCALAR(nine), SCALAR(none), SCALAR(none)}}, "from nan to nan Hz"},
    {{"QuantizeLinear", .in = {F(2, 2), F(2), U(1)}}, "2 scales and 1 zero points"},
    {{"QuantizeLinear", .attrs = {QT_I("block_size", -1)}, .in = {F(2, 2), F(2, 2)}}, "a scale of F32 (2, 2) along axis 1"},
    {{"DequantizeLinear", .attrs = {QT_I("axis", 5)}, .in = {U(2, 2), F(2)}}, "5"},
    {{"QLinearConv", .in = {U(1, 1, 3), F(1), U(1), U(1, 1, 2), F(1), U(1), F(1), F(1)}}, "y_zero_point is F32"},
    {{"MatMulInteger", .in = {U(2, 2), U(2, 2), U(3)}}, "3 values of A's zero point"},
    {{"GridSample", .in = {F(1, 1, 2, 2), F(1, 1, 1, 3)}}, "the grid of GridSample must be (1, h, w, 2)"},
    {{"RandomNormalLike", .in = {F(1)}}, "RandomNormalLike", QN_E_UNSUPPORTED},
};

Test(onnx_hostile, one_clear_error)
{
    const qn_exec_options limit = {.memory_bytes = 1 << 20};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (unsigned blind = 0; blind < 2; blind++) {
            qn_err err = {0};
            qt_op op = bad[i].op;
            op.blind = blind;
            op.options = &limit;
            const qn_code want = bad[i].code ? bad[i].code : QN_E_INPUT, rc = qt_onnx_run(&op, NULL, &err);
            cr_expect_eq(rc, want, "%u (%s): code %d, not %d: %s", i, op.type, rc, want, err.text);
            cr_expect(strstr(err.text, bad[i].text), "%u (%s): '%s' does not say '%s'", i, op.type, err.text, bad[i].text);
            cr_expect(!strchr(err.text, '\n') && strstr(err.text, "the node"), "%u (%s): '%s'", i, op.type, err.text);
        }
}

static const struct {
    qt_op op;
    uint64_t n;
} empty[] = {
    {{"Conv", .in = {F(0, 2, 8), F(2, 2, 3)}}, 0},
    {{"Conv", .in = {F(1, 0, 8), F(2, 0, 3)}}, 12}, /* nothing to sum: 0 */
    {{"Conv", .in = {F(1, 2, 8), F(0, 2, 3)}}, 0},
    {{"ConvTranspose", .in = {F(0, 2, 8), F(2, 2, 3)}}, 0},
    {{"MaxPool", .attrs = {QT_INTS("kernel_shape", 2)}, .in = {F(0, 2, 8)}}, 0},
    {{"GlobalMaxPool", .in = {F(2, 0, 8)}}, 0},
    {{"Resize", .in = {F(0), [2] = D(f, 1)}}, 0},
    {{"MatMul", .in = {F(2, 0), F(0, 3)}}, 6},
    {{"MatMul", .in = {F(0, 2, 3), F(1, 3, 2)}}, 0},
    {{"Gemm", .in = {F(2, 0), F(0, 3)}}, 6},
    {{"Einsum", .attrs = {QT_S("equation", "ij,jk->ik")}, .in = {F(2, 0), F(0, 3)}}, 6},
    {{"Softmax", .in = {F(2, 0)}}, 0},
    {{"LayerNormalization", .in = {F(0, 2), F(2)}}, 0},
    {{"BatchNormalization", .in = {F(0, 2, 2), F(2), F(2), F(2), F(2)}}, 0},
    {{"RNN", .in = {F(0, 1, 1), F(1, 1, 1), F(1, 1, 1)}}, 0},
    {{"LSTM", .in = {F(1, 0, 1), F(1, 4, 1), F(1, 4, 1)}}, 0},
    {{"GridSample", .in = {F(0, 1, 2, 2), F(0, 1, 1, 2)}}, 0},
    {{"QuantizeLinear", .in = {F(0, 2), SCALAR(f)}}, 0},
    {{"DynamicQuantizeLinear", .n_out = 3, .in = {F(0)}}, 0},
    {{"MatMulInteger", .in = {U(2, 0), U(0, 3)}}, 6},
    {{"HannWindow", .in = {ISCALAR(i0)}}, 0},
};

Test(onnx_hostile, nothing_is_something)
{
    for (unsigned i = 0; i < sizeof empty / sizeof empty[0]; i++)
        for (unsigned blind = 0; blind < 2; blind++) {
            qn_err err = {0};
            qn_array out[QT_OP_OUT];
            qt_op op = empty[i].op;
            op.blind = blind;
            cr_assert_eq(qt_onnx_run(&op, out, &err), QN_OK, "%u (%s): %s", i, op.type, err.text);
            cr_assert_eq(out[0].n, empty[i].n, "%u (%s): %llu values", i, op.type, (unsigned long long)out[0].n);
            for (uint64_t k = 0; k < out[0].n; k++)
                cr_assert_eq(out[0].dtype == QN_F32 ? ((float *)out[0].data)[k] : (float)((int32_t *)out[0].data)[k], 0.0f, "%u (%s)", i, op.type);
        }
}
