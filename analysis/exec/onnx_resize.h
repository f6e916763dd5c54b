/* onnx_resize.h: what Resize and its derivative share: sizes, and for each axis which input places an output place takes, with what weights. */
#ifndef QN_ANALYSIS_EXEC_ONNX_RESIZE_H
#define QN_ANALYSIS_EXEC_ONNX_RESIZE_H

#include "analysis/exec/onnx_help.h"

typedef enum qn_interpolation { QN_RESIZE_NEAREST, QN_RESIZE_LINEAR, QN_RESIZE_CUBIC } qn_interpolation;

typedef struct qn_resize {
    qn_interpolation mode;
    const char *coordinates, *nearest;
    float a, extrapolated; /* cubic coefficient                                         */
    bool exclude_outside, antialias, crop;
    unsigned rank;
    int64_t in[QN_ARRAY_RANK_MAX], out[QN_ARRAY_RANK_MAX];
    float scale[QN_ARRAY_RANK_MAX];
    float begin[QN_ARRAY_RANK_MAX], end[QN_ARRAY_RANK_MAX]; /* of the region, as parts of the axis */
} qn_resize;

qn_code qn_resize_read(qn_resize *r, const qn_node *n, const qn_array *in, qn_err *err) QN_MUST_CHECK;
/* The axis is worked on at all. */
static inline bool qn_resize_changes(const qn_resize *r, unsigned axis)
{
    return r->in[axis] != r->out[axis] || r->scale[axis] != 1 || r->crop;
}
/* place: i64, weight: f32, both (out, taps). */
qn_code qn_resize_taps(qn_exec *x, const qn_resize *r, unsigned axis, qn_array *place, qn_array *weight, qn_err *err) QN_MUST_CHECK;
/* Under tf_crop_and_resize: what lies outside of the input gets this value. */
void qn_resize_extrapolate(const qn_resize *r, float value, float *y);

#endif
