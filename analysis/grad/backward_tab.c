/* backward_tab.c: operators that have a derivative, by domain and in the order of the alphabet; and what each reads of the forward pass. */
#include "analysis/grad/backs.h"
#include <string.h>

const qn_backward qn_backwards[] = {
    /* ---- ONNX ---- */
    {"", "Abs", qn_back_abs, QN_READS_IN},
    {"", "Add", qn_back_sum, QN_READS_SHAPES},
    {"", "AveragePool", qn_back_average_pool, QN_READS_SHAPES},
    {"", "BatchNormalization", qn_back_batch_norm, QN_READS_IN},
    {"", "Cast", qn_back_same, QN_READS_SHAPES},
    {"", "CastLike", qn_back_same, QN_READS_SHAPES},
    {"", "Celu", qn_back_celu, QN_READS_IN},
    {"", "Clip", qn_back_clip, QN_READS_IN},
    {"", "Conv", qn_back_conv, QN_READS_IN},
    {"", "ConvTranspose", qn_back_conv_transpose, QN_READS_IN},
    {"", "Cos", qn_back_cos, QN_READS_IN},
    {"", "Div", qn_back_div, QN_READS_IN},
    {"", "Dropout", qn_back_same, QN_READS_SHAPES},
    {"", "Elu", qn_back_elu, QN_READS_IN},
    {"", "Erf", qn_back_erf, QN_READS_IN},
    {"", "Exp", qn_back_exp, QN_READS_OUT},
    {"", "Gelu", qn_back_gelu, QN_READS_IN},
    {"", "Gemm", qn_back_gemm, QN_READS_IN},
    {"", "GlobalAveragePool", qn_back_global_average_pool, QN_READS_SHAPES},
    {"", "GlobalMaxPool", qn_back_global_max_pool, QN_READS_IN | QN_READS_OUT},
    {"", "GroupNormalization", qn_back_group_norm, QN_READS_IN},
    {"", "HardSigmoid", qn_back_hard_sigmoid, QN_READS_IN},
    {"", "HardSwish", qn_back_hard_swish, QN_READS_IN},
    {"", "Identity", qn_back_same, QN_READS_SHAPES},
    {"", "InstanceNormalization", qn_back_instance_norm, QN_READS_IN},
    {"", "LayerNormalization", qn_back_layer_norm, QN_READS_IN},
    {"", "LeakyRelu", qn_back_leaky_relu, QN_READS_IN},
    {"", "Log", qn_back_log, QN_READS_IN},
    {"", "LogSoftmax", qn_back_log_softmax, QN_READS_OUT},
    {"", "MatMul", qn_back_matmul, QN_READS_IN},
    {"", "Max", qn_back_extreme, QN_READS_IN | QN_READS_OUT},
    {"", "MaxPool", qn_back_max_pool, QN_READS_IN | QN_READS_OUT},
    {"", "Mean", qn_back_mean, QN_READS_SHAPES},
    {"", "Min", qn_back_extreme, QN_READS_IN | QN_READS_OUT},
    {"", "Mish", qn_back_mish, QN_READS_IN},
    {"", "Mul", qn_back_mul, QN_READS_IN},
    {"", "Neg", qn_back_neg, QN_READS_SHAPES},
    {"", "PRelu", qn_back_prelu, QN_READS_IN},
    {"", "Pow", qn_back_pow, QN_READS_IN},
    {"", "RMSNormalization", qn_back_rms_norm, QN_READS_IN},
    {"", "Reciprocal", qn_back_reciprocal, QN_READS_OUT},
    {"", "Relu", qn_back_relu, QN_READS_OUT},
    {"", "Selu", qn_back_selu, QN_READS_IN},
    {"", "Sigmoid", qn_back_sigmoid, QN_READS_OUT},
    {"", "Sin", qn_back_sin, QN_READS_IN},
    {"", "Softmax", qn_back_softmax, QN_READS_OUT},
    {"", "Softplus", qn_back_softplus, QN_READS_IN},
    {"", "Softsign", qn_back_softsign, QN_READS_IN},
    {"", "Sqrt", qn_back_sqrt, QN_READS_OUT},
    {"", "Sub", qn_back_sub, QN_READS_SHAPES},
    {"", "Sum", qn_back_sum, QN_READS_SHAPES},
    {"", "Tanh", qn_back_tanh, QN_READS_OUT},
    {"", "ThresholdedRelu", qn_back_thresholded_relu, QN_READS_IN},
    {"", "Where", qn_back_where, QN_READS_SHAPES},
    {"com.microsoft", "BiasGelu", qn_back_bias_gelu, QN_READS_IN},
    {"com.microsoft", "FastGelu", qn_back_fast_gelu, QN_READS_IN},
    {"com.microsoft", "Gelu", qn_back_gelu, QN_READS_IN},
    {"com.microsoft", "QuickGelu", qn_back_quick_gelu, QN_READS_IN},
    /* ---- language models ---- */
    {.name = NULL},
};

const qn_backward *qn_backward_find(const char *domain, const char *name)
{
    if (!strcmp(domain, "ai.onnx"))
        domain = "";
    for (const qn_backward *row = qn_backwards; row->name; row++)
        if (!strcmp(row->name, name) && !strcmp(row->domain, domain))
            return row;
    return NULL;
}
