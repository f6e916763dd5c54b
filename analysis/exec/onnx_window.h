/* onnx_window.h: the sliding window of convolutions and poolings: kernel, strides, dilations, pads, in up to three axes.
 *
 * Axes are kept from the right: a window over (H, W) has axis 0 of size 1. So one loop over three axes serves all. */
#ifndef QN_ANALYSIS_EXEC_ONNX_WINDOW_H
#define QN_ANALYSIS_EXEC_ONNX_WINDOW_H

#include "analysis/exec/onnx_help.h"

typedef struct qn_window {
    unsigned n_axes;                  /* of the operator: 1 … 3; the others are of size 1          */
    int64_t in[3], out[3];            /* sizes; QN_DIM_UNKNOWN while shapes are inferred            */
    int64_t kernel[3], stride[3], dilation[3];
    int64_t pad[3], pad_end[3];       /* in front and behind                                        */
} qn_window;

/* Attributes kernel_shape, strides, dilations, pads, auto_pad of a node over n_axes axes of these sizes. kernel: from the weight, or
 * NULL when the attribute must be there. pool: ceil_mode counts too, and pads must be smaller than the window. Sizes may be
 * unknown; then `out` and pads of SAME_… are too. QN_E_INPUT: values out of range, a kernel larger than the padded input. */
qn_code qn_window_init(qn_window *w, const qn_node *n, unsigned n_axes, const int64_t *sizes, const int64_t *kernel, bool pool,
                       qn_err *err) QN_MUST_CHECK;

/* Output places [from, to) of an image of some channels → cols (channels · taps, to − from) with rows ld apart: row (channel, tap), one column for each
 * place; 0 outside of the image. */
void qn_window_unroll(const qn_window *w, uint64_t channels, const float *x, uint64_t from, uint64_t to, float *cols, uint64_t ld);
/* The other way: columns are added to the places of the image that they came from. */
void qn_window_roll(const qn_window *w, uint64_t channels, const float *cols, uint64_t ld, uint64_t from, uint64_t to, float *x);

/* The window of a ConvTranspose over an input of these dims and a weight: here `in` are the sizes of the operator's input, `out` those of its output. */
qn_code qn_window_transposed(qn_window *w, const qn_node *n, unsigned rank, const int64_t *x, const int64_t *weight, qn_err *err) QN_MUST_CHECK;

static inline uint64_t qn_window_in(const qn_window *w)
{
    return (uint64_t)w->in[0] * (uint64_t)w->in[1] * (uint64_t)w->in[2];
}

static inline uint64_t qn_window_out(const qn_window *w)
{
    return (uint64_t)w->out[0] * (uint64_t)w->out[1] * (uint64_t)w->out[2];
}

static inline uint64_t qn_window_taps(const qn_window *w)
{
    return (uint64_t)w->kernel[0] * (uint64_t)w->kernel[1] * (uint64_t)w->kernel[2];
}

/* Where output o of an axis finds the input: taps k in [*first, *last) lie inside, tap k at o·stride − pad + k·dilation. */
static inline void qn_window_inside(const qn_window *w, unsigned axis, int64_t o, int64_t *first, int64_t *last)
{
    const int64_t at = o * w->stride[axis] - w->pad[axis], d = w->dilation[axis], n = w->in[axis];
    const int64_t lo = at < 0 ? (-at + d - 1) / d : 0;
    const int64_t hi = at >= n ? 0 : (n - at + d - 1) / d;
    *first = lo < w->kernel[axis] ? lo : w->kernel[axis];
    *last = hi < w->kernel[axis] ? hi : w->kernel[axis];
    if (*last < *first)
        *last = *first;
}

/* Taps of a window that begins at `at` which lie inside of the padded input: what an average divides by when pads count. */
static inline double qn_window_covered(const qn_window *w, const int64_t at[3])
{
    double n = 1;
    for (unsigned i = 0; i < 3; i++) {
        const int64_t room = w->in[i] + w->pad_end[i] - at[i], fit = (room + w->dilation[i] - 1) / w->dilation[i];
        n *= (double)(fit < w->kernel[i] ? fit : w->kernel[i]);
    }
    return n;
}

#endif
