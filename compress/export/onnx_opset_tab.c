/* onnx_opset_tab.c: what became of the operators of ONNX from version 7 to 21 (its operators' changelog). Softmax and its kin, Split and
 * BatchNormalization have more to them: onnx_opset.c. */
#include "compress/export/onnx_opset.h"

#define SAME(name) {(name), 0, NULL}

const qn_onnx_change qn_onnx_changes[] = {
    SAME("Abs"), SAME("Acos"), SAME("Acosh"), SAME("Add"), SAME("And"), SAME("ArgMax"), SAME("ArgMin"), SAME("Asin"), SAME("Asinh"), SAME("Atan"),
    SAME("Atanh"), SAME("AveragePool"), SAME("BitShift"), SAME("BitwiseAnd"), SAME("BitwiseNot"), SAME("BitwiseOr"), SAME("BitwiseXor"), SAME("Cast"),
    SAME("CastLike"), SAME("Ceil"), SAME("Celu"), SAME("Compress"), SAME("Concat"), SAME("Constant"), SAME("ConstantOfShape"), SAME("Conv"),
    SAME("ConvInteger"), SAME("Cos"), SAME("Cosh"), SAME("CumSum"), SAME("DepthToSpace"), SAME("DequantizeLinear"), SAME("Det"), SAME("Div"),
    SAME("DynamicQuantizeLinear"), SAME("Einsum"), SAME("Elu"), SAME("Equal"), SAME("Erf"), SAME("Exp"), SAME("Expand"), SAME("EyeLike"),
    SAME("Flatten"), SAME("Floor"), SAME("GRU"), SAME("Gather"), SAME("GatherElements"), SAME("GatherND"), SAME("Gelu"), SAME("Gemm"),
    SAME("GlobalAveragePool"), SAME("GlobalLpPool"), SAME("GlobalMaxPool"), SAME("Greater"), SAME("GreaterOrEqual"), SAME("HardSigmoid"),
    SAME("HardSwish"), SAME("Identity"), SAME("If"), SAME("InstanceNormalization"), SAME("IsInf"), SAME("IsNaN"), SAME("LRN"), SAME("LSTM"),
    SAME("LayerNormalization"), SAME("LeakyRelu"), SAME("Less"), SAME("LessOrEqual"), SAME("Log"), SAME("Loop"), SAME("LpNormalization"),
    SAME("LpPool"), SAME("MatMul"), SAME("MatMulInteger"), SAME("Max"), SAME("MaxPool"), SAME("Mean"), SAME("MeanVarianceNormalization"), SAME("Min"),
    SAME("Mish"), SAME("Mod"), SAME("Mul"), SAME("Neg"), SAME("NonMaxSuppression"), SAME("NonZero"), SAME("Not"), SAME("OneHot"), SAME("Or"),
    SAME("PRelu"), SAME("Pow"), SAME("QLinearConv"), SAME("QLinearMatMul"), SAME("QuantizeLinear"), SAME("RNN"), SAME("Range"), SAME("Reciprocal"),
    SAME("Relu"), SAME("Reshape"), SAME("ReverseSequence"), SAME("Round"), SAME("STFT"), SAME("ScatterElements"), SAME("ScatterND"), SAME("Selu"),
    SAME("Shape"), SAME("Shrink"), SAME("Sigmoid"), SAME("Sign"), SAME("Sin"), SAME("Sinh"), SAME("Size"), SAME("Softplus"), SAME("Softsign"),
    SAME("SpaceToDepth"), SAME("Sqrt"), SAME("Sub"), SAME("Sum"), SAME("Tan"), SAME("Tanh"), SAME("ThresholdedRelu"), SAME("Tile"),
    SAME("Transpose"), SAME("Trilu"), SAME("Unique"), SAME("Where"), SAME("Xor"),
    /* attributes that became inputs, or went */
    {"BatchNormalization", 9, "spatial"},
    {"Clip", 11, "max"}, {"Clip", 11, "min"},
    {"Dropout", 12, "ratio"},
    {"Pad", 11, NULL},
    {"ReduceL1", 18, "axes"}, {"ReduceL2", 18, "axes"}, {"ReduceLogSum", 18, "axes"}, {"ReduceLogSumExp", 18, "axes"}, {"ReduceMax", 18, "axes"},
    {"ReduceMean", 18, "axes"}, {"ReduceMin", 18, "axes"}, {"ReduceProd", 18, "axes"}, {"ReduceSum", 13, "axes"}, {"ReduceSumSquare", 18, "axes"},
    {"Slice", 10, NULL},
    {"Split", 13, "split"},
    {"Squeeze", 13, "axes"}, {"Unsqueeze", 13, "axes"},
    {"TopK", 10, NULL},
    /* other meanings */
    {"ConvTranspose", 11, "auto_pad"}, {"ConvTranspose", 11, "output_shape"},
    {"DFT", 20, NULL},
    {"GridSample", 20, NULL},
    {"GroupNormalization", 21, NULL},
    {"Hardmax", 13, NULL}, {"LogSoftmax", 13, NULL}, {"Softmax", 13, NULL},
    {"Resize", 11, NULL}, {"Resize", 13, NULL},
    {"RoiAlign", 16, NULL},
    {"Scan", 9, NULL},
    {"Scatter", 11, NULL},
    {"Upsample", 9, NULL}, {"Upsample", 10, NULL},
    {NULL, 0, NULL},
};
