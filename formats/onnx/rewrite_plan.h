/* rewrite_plan.h: what a rewritten model will consist of: rewrite_plan.c finds it, rewrite.c writes it. */
#ifndef QN_FORMATS_ONNX_REWRITE_PLAN_H
#define QN_FORMATS_ONNX_REWRITE_PLAN_H

#include "formats/onnx/rewrite.h"
#include "formats/onnx/rope.h"

typedef struct qn_onnx_plan {
    const qn_env *env;
    const qn_onnx_model *model;
    const qn_onnx_edits *edits;
    qn_wire_read_fn read;      /* bytes of the model's file */
    void *read_ctx;
    uint64_t n_file_bytes;
    const char *location;      /* of the data file, as the model names it; NULL: everything goes into the model */
    qn_arena arena;
    qn_onnx_rope rope;         /* the model                                                       */
    qn_onnx_content *data, *data_last; /* of the data file, in the order of their places          */
    uint64_t n_data_bytes;
} qn_onnx_plan;

/* Fills rope, data and n_data_bytes; the fields above them are the caller's. Release in any case. */
qn_code qn_onnx_plan_make(qn_onnx_plan *p, qn_err *err) QN_MUST_CHECK;
void qn_onnx_plan_release(qn_onnx_plan *p);

#endif
