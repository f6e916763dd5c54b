/* ONNX operators on inputs so small that their results are worked out by hand, in the comments. */
#include "tests/support/made.h"
#include "tests/support/onnx_op.h"
#include <criterion/criterion.h>
#include <math.h>

#define GIVES(op, ...) qt_onnx_gives(&(op), (const float[]){__VA_ARGS__}, sizeof((const float[]){__VA_ARGS__}) / sizeof(float))

static const float one_to_five[] = {1, 2, 3, 4, 5}, ones[] = {1, 1, 1, 1};

/* 5 places, kernel 2, stride 2: 3 windows reach over 6, one pad is needed: behind (upper) or in front (lower). */
Test(onnx_worked, same_pads_of_odd_sizes)
{
    qt_op op = {.type = "Conv", .attrs = {QT_S("auto_pad", "SAME_UPPER"), QT_INTS("strides", 2)},
                .in = {{one_to_five, .rank = 3, .dims = {1, 1, 5}}, {ones, .rank = 3, .dims = {1, 1, 2}}}};
    GIVES(op, 1 + 2, 3 + 4, 5);
    op.attrs[0].v.s = "SAME_LOWER";
    GIVES(op, 1, 2 + 3, 4 + 5);
    op.attrs[0].v.s = "VALID";
    GIVES(op, 1 + 2, 3 + 4);
}

Test(onnx_worked, convolution_with_dilation_bias_groups)
{
    static const float x[] = {1, 2, 3, 4, 10, 20, 30, 40}, w[] = {1, 1, 1, -1}, b[] = {0.5f, 0};
    /* two groups of one channel; taps 2 apart: x0 + x2 + ½, then x0 − x2 of the other */
    const qt_op op = {.type = "Conv", .attrs = {QT_I("group", 2), QT_INTS("dilations", 2)},
                      .in = {{x, .rank = 3, .dims = {1, 2, 4}}, {w, .rank = 3, .dims = {2, 1, 2}}, {b, .rank = 1, .dims = {2}}}};
    GIVES(op, 4.5f, 6.5f, -20, -20);
}

/* Full: each input spreads over two places, 2 apart: 1 1 2 2. output_padding adds a 0 behind; pads take one from either end. */
Test(onnx_worked, transposed_convolution)
{
    qt_op op = {.type = "ConvTranspose", .attrs = {QT_INTS("strides", 2)},
                .in = {{one_to_five, .rank = 3, .dims = {1, 1, 2}}, {ones, .rank = 3, .dims = {1, 1, 2}}}};
    GIVES(op, 1, 1, 2, 2);
    op.attrs[1] = (qn_attr)QT_INTS("output_padding", 1);
    GIVES(op, 1, 1, 2, 2, 0);
    op.attrs[1] = (qn_attr)QT_INTS("pads", 1, 1);
    GIVES(op, 1, 2);
    /* kernel 3: 1 1 1+2 2 2 is 5 long; 3 are wanted: 1 of 2 superfluous ones goes in front */
    op.in[1].dims[2] = 3;
    op.attrs[1] = (qn_attr)QT_INTS("output_shape", 3);
    GIVES(op, 1, 3, 2);
}

Test(onnx_worked, pooling_rounded_up)
{
    qt_op op = {.type = "MaxPool", .attrs = {QT_INTS("kernel_shape", 2), QT_INTS("strides", 2), QT_I("ceil_mode", 1)},
                .in = {{one_to_five, .rank = 3, .dims = {1, 1, 5}}}};
    GIVES(op, 2, 4, 5);
    op.attrs[2].v.i = 0;
    GIVES(op, 2, 4);
    /* 0 1 2 3 4 0, windows of 3 every 2: (0 1 2), (2 3 4), and the last one sees 4 and one pad, not what lies past it */
    qt_op mean = {.type = "AveragePool", .version = 19, .attrs = {QT_INTS("kernel_shape", 3), QT_INTS("strides", 2), QT_INTS("pads", 1, 1),
                  QT_I("ceil_mode", 1), QT_I("count_include_pad", 1)}, .in = {{one_to_five, .rank = 3, .dims = {1, 1, 4}}}};
    GIVES(mean, 1, 3, 2);
    mean.attrs[4].v.i = 0;
    GIVES(mean, 1.5f, 3, 4);
    /* 0 1 2 3 4 0, windows of 2 every 3: a third one, rounded up, would begin behind the last pad */
    const qt_op none = {.type = "MaxPool", .attrs = {QT_INTS("kernel_shape", 2), QT_INTS("strides", 3), QT_INTS("pads", 1, 1),
                        QT_I("ceil_mode", 1)}, .in = {{one_to_five, .rank = 3, .dims = {1, 1, 4}}}};
    GIVES(none, 1, 4);
}

Test(onnx_worked, where_the_largest_was)
{
    static const float x[] = {1, 9, 2, 3, 4, 8, /* channel 2 */ 7, 1, 1, 1, 1, 5};
    qn_array out[2];
    qn_err err = {0};
    qt_op op = {.type = "MaxPool", .n_out = 2, .attrs = {QT_INTS("kernel_shape", 2, 2)}, .in = {{x, .rank = 4, .dims = {1, 2, 2, 3}}}};
    cr_assert_eq(qt_onnx_run(&op, out, &err), QN_OK);
    static const int64_t by_row[] = {1, 1, 6, 11}, by_column[] = {2, 2, 6, 11};
    cr_assert_arr_eq(out[1].data, by_row, sizeof by_row);
    op.attrs[1] = (qn_attr)QT_I("storage_order", 1);
    cr_assert_eq(qt_onnx_run(&op, out, &err), QN_OK);
    cr_assert_arr_eq(out[1].data, by_column, sizeof by_column);
}

/* 2 → 4: places −¼ ¼ ¾ 1¼ of half_pixel; 0 ⅓ ⅔ 1 of align_corners; 0 ½ 1 1½ of asymmetric. */
Test(onnx_worked, resize_linear)
{
    static const int64_t four = 4;
    static const float x[] = {1, 2};
    qt_op op = {.type = "Resize", .attrs = {QT_S("mode", "linear"), QT_S("coordinate_transformation_mode", "half_pixel")},
                .in = {{x, .rank = 1, .dims = {2}}, [3] = {&four, .dtype = QN_I64, .rank = 1, .dims = {1}, .constant = true}}};
    GIVES(op, 1, 1.25f, 1.75f, 2);
    op.attrs[1].v.s = "align_corners";
    GIVES(op, 1, 4.0f / 3, 5.0f / 3, 2);
    op.attrs[1].v.s = "asymmetric";
    GIVES(op, 1, 1.5f, 2, 2);
}

Test(onnx_worked, resize_nearest)
{
    static const float half = 0.5f, two = 2;
    qt_op op = {.type = "Resize", .attrs = {QT_S("nearest_mode", "round_prefer_floor")},
                .in = {{one_to_five, .rank = 1, .dims = {4}}, [2] = {&half, .rank = 1, .dims = {1}, .constant = true}}};
    /* places ½ and 2½ */
    GIVES(op, 1, 3);
    op.attrs[0].v.s = "round_prefer_ceil";
    GIVES(op, 2, 4);
    op.attrs[0].v.s = "ceil";
    GIVES(op, 2, 4);
    /* version 10: x / scale, up when it shrinks, down when it grows */
    qt_op old = {.type = "Resize", .version = 10, .in = {{one_to_five, .rank = 1, .dims = {2}}, {&two, .rank = 1, .dims = {1}, .constant = true}}};
    GIVES(old, 1, 1, 2, 2);
    old.in[1].data = &half;
    old.in[0].dims[0] = 5;
    GIVES(old, 1, 3);
}

/* Place ½ between 4: Keys's weights at 1½ and ½ for a = −¾ are −3/32 and 19/32. */
Test(onnx_worked, resize_cubic)
{
    static const float half = 0.5f;
    qt_op op = {.type = "Resize", .attrs = {QT_S("mode", "cubic")},
                .in = {{one_to_five, .rank = 1, .dims = {4}}, [2] = {&half, .rank = 1, .dims = {1}, .constant = true}}};
    /* the place in front of the first counts as the first */
    GIVES(op, (-3 * 1 + 19 * 1 + 19 * 2 - 3 * 3) / 32.0f, (-3 * 2 + 19 * 3 + 19 * 4 - 3 * 4) / 32.0f);
    /* without it the others are scaled to sum to 1 */
    op.attrs[1] = (qn_attr)QT_I("exclude_outside", 1);
    GIVES(op, (19 * 1 + 19 * 2 - 3 * 3) / 35.0f, (-3 * 2 + 19 * 3 + 19 * 4) / 35.0f);
}

/* (2, 4) into (6, 6) without stretching: the smaller factor is 1½, so (3, 6); the larger 3: (6, 12). */
Test(onnx_worked, resize_keeps_the_aspect_ratio)
{
    static const int64_t six[] = {6, 6};
    static const float x[8] = {0};
    qn_array out[1];
    qn_err err = {0};
    qt_op op = {.type = "Resize", .attrs = {QT_S("keep_aspect_ratio_policy", "not_larger"), QT_INTS("axes", -1, 1)},
                .in = {{x, .rank = 3, .dims = {1, 2, 4}}, [3] = {six, .dtype = QN_I64, .rank = 1, .dims = {2}, .constant = true}}};
    cr_assert_eq(qt_onnx_run(&op, out, &err), QN_OK, "%s", err.text);
    cr_assert_eq(out[0].dims[1], 3);
    cr_assert_eq(out[0].dims[2], 6);
    op.attrs[0].v.s = "not_smaller";
    cr_assert_eq(qt_onnx_run(&op, out, &err), QN_OK, "%s", err.text);
    cr_assert_eq(out[0].dims[1], 6);
    cr_assert_eq(out[0].dims[2], 12);
}

/* All gates' inputs are 0 but R's for the new state (1) and its bias (1); the old state is 1. So z = r = ½, and the new state is
 * tanh(½ · 1 + 1) when the reset comes first, tanh(½ · (1 + 1)) when it comes last; h = ½ (new + old). */
Test(onnx_worked, gru_reset_before_and_after)
{
    static const float x = 1, w[3] = {0}, r[3] = {0, 0, 1}, b[6] = {0, 0, 0, 0, 0, 1}, h = 1;
    qt_op op = {.type = "GRU", .attrs = {QT_I("hidden_size", 1), QT_I("linear_before_reset", 0)},
                .in = {{&x, .rank = 3, .dims = {1, 1, 1}}, {w, .rank = 3, .dims = {1, 3, 1}}, {r, .rank = 3, .dims = {1, 3, 1}},
                       {b, .rank = 2, .dims = {1, 6}}, {NULL}, {&h, .rank = 3, .dims = {1, 1, 1}}}};
    GIVES(op, (tanhf(1.5f) + 1) / 2);
    op.attrs[1].v.i = 1;
    GIVES(op, (tanhf(1.0f) + 1) / 2);
}

/* With weights 1 and no bend, the state is the sum of what was seen. The second sequence has two steps. */
Test(onnx_worked, rnn_of_sequences_of_two_lengths)
{
    static const float x[] = {1, 10, 2, 20, 3, 30}; /* (steps, batch) */
    static const int32_t lens[] = {3, 2};
    qt_op op = {.type = "RNN", .attrs = {QT_S("direction", "bidirectional"), QT_STRINGS("activations", "Affine", "affine"),
                QT_FLOATS("activation_alpha", 1, 1)},
                .in = {{x, .rank = 3, .dims = {3, 2, 1}}, {ones, .rank = 3, .dims = {2, 1, 1}}, {ones, .rank = 3, .dims = {2, 1, 1}}, {NULL},
                       {lens, .dtype = QN_I32, .rank = 1, .dims = {2}}}};
    /* (steps, directions, batch) */
    GIVES(op, 1, 10, 6, 30, 3, 30, 5, 20, 6, 0, 3, 0);
    qn_array out[2];
    qn_err err = {0};
    op.n_out = 2;
    cr_assert_eq(qt_onnx_run(&op, out, &err), QN_OK);
    static const float last[] = {6, 30, 6, 30};
    cr_assert_arr_eq(out[1].data, last, sizeof last);
}

/* i = f = o = σ(0) = ½; the cell's input tanh(x): c = ½ tanh 1, h = ½ tanh c. A peephole on the output gate sees the new c. */
Test(onnx_worked, lstm_peephole)
{
    static const float x = 1, w[4] = {0, 0, 0, 1}, r[4] = {0}, p[3] = {0, 8, 0};
    qt_op op = {.type = "LSTM", .attrs = {QT_I("hidden_size", 1)},
                .in = {{&x, .rank = 3, .dims = {1, 1, 1}}, {w, .rank = 3, .dims = {1, 4, 1}}, {r, .rank = 3, .dims = {1, 4, 1}}}};
    const float c = tanhf(1) / 2;
    GIVES(op, tanhf(c) / 2);
    op.in[7] = (qt_op_in){p, .rank = 2, .dims = {1, 3}};
    GIVES(op, tanhf(c) / (1 + expf(-8 * c)));
}

/* Up to version 12 axis 1 takes the rest with it. */
Test(onnx_worked, softmax_of_old_and_new)
{
    static const float x[4] = {0, 0, 0, 0};
    qt_op op = {.type = "Softmax", .version = 11, .in = {{x, .rank = 3, .dims = {1, 2, 2}}}};
    GIVES(op, 0.25f, 0.25f, 0.25f, 0.25f);
    op.version = 13;
    GIVES(op, 0.5f, 0.5f, 0.5f, 0.5f);
}

/* Two rows of two, one scale for two values of a column: block 2 along axis 0. Halves go to the even one. */
Test(onnx_worked, quantize_by_axis_and_block)
{
    static const float x[] = {2.5f, 3.5f, -300, 8}, one = 1, scales[] = {1, 2};
    static const uint8_t zeros[] = {10, 20};
    qn_array out[1];
    qn_err err = {0};
    qt_op op = {.type = "QuantizeLinear", .version = 21, .attrs = {QT_I("axis", 0)},
                .in = {{x, .rank = 2, .dims = {2, 2}}, {&one, .rank = 0}}};
    cr_assert_eq(qt_onnx_run(&op, out, &err), QN_OK);
    cr_assert_arr_eq(out[0].data, ((uint8_t[]){2, 4, 0, 8}), 4);
    op.in[1] = (qt_op_in){scales, .rank = 1, .dims = {2}};
    op.in[2] = (qt_op_in){zeros, .dtype = QN_U8, .rank = 1, .dims = {2}};
    cr_assert_eq(qt_onnx_run(&op, out, &err), QN_OK);
    cr_assert_arr_eq(out[0].data, ((uint8_t[]){12, 14, 0, 24}), 4);
    op.attrs[1] = (qn_attr)QT_I("block_size", 2);
    op.in[1] = (qt_op_in){scales, .rank = 2, .dims = {1, 2}};
    op.in[2] = (qt_op_in){zeros, .dtype = QN_U8, .rank = 2, .dims = {1, 2}};
    cr_assert_eq(qt_onnx_run(&op, out, &err), QN_OK, "%s", err.text);
    cr_assert_arr_eq(out[0].data, ((uint8_t[]){12, 22, 0, 24}), 4);
    static const int8_t q[] = {-3, 4, 5, 6};
    const qt_op back = {.type = "DequantizeLinear", .version = 21, .attrs = {QT_I("axis", 0), QT_I("block_size", 2)},
                        .in = {{q, .dtype = QN_I8, .rank = 2, .dims = {2, 2}}, {scales, .rank = 2, .dims = {1, 2}}}};
    GIVES(back, -3, 8, 5, 12);
}

/* [1 2; 3 4] · [1; 1], all the ways numpy has it. */
Test(onnx_worked, matmul_of_vectors_and_batches)
{
    qt_op op = {.type = "MatMul", .in = {{one_to_five, .rank = 2, .dims = {2, 2}}, {ones, .rank = 1, .dims = {2}}}};
    GIVES(op, 3, 7);
    op.in[0] = (qt_op_in){ones, .rank = 1, .dims = {2}};
    op.in[1] = (qt_op_in){one_to_five, .rank = 2, .dims = {2, 2}};
    GIVES(op, 4, 6);
    op.in[1] = (qt_op_in){one_to_five, .rank = 3, .dims = {2, 2, 1}}; /* columns (1 2), (3 4) */
    GIVES(op, 3, 7);
    op.in[1] = (qt_op_in){ones, .rank = 1, .dims = {2}};
    GIVES(op, 2);
}
