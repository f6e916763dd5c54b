/* onnx_impl.h: what the parts of the export to ONNX share: which weights of a graph get another form, and where that stands in the file.
 *
 *     onnx.c          variants, the recipe of what they need, the report, the files
 *     onnx_pick.c     weights and nodes that can have the form, or why not
 *     onnx_take.c     codes of a .quern, as far as the form can hold them
 *     onnx_put.c      nodes and tensors of the new model
 *     onnx_content.c  bytes of the new tensors
 *     onnx_proof.c    the written model against the one it was made of */
#ifndef QN_COMPRESS_EXPORT_ONNX_IMPL_H
#define QN_COMPRESS_EXPORT_ONNX_IMPL_H

#include "compress/export/codes.h"
#include "compress/export/export.h"
#include "compress/prune/onnx_edit.h"

typedef enum qn_to_onnx_form {
    QN_TO_ONNX_FORM_DENSE, /* the file as it is, weights decoded                          */
    QN_TO_ONNX_FORM_HALF,  /* f32 weights as f16, and a Cast back                         */
    QN_TO_ONNX_FORM_NBITS, /* com.microsoft.MatMulNBits in place of MatMul and Gemm        */
    QN_TO_ONNX_FORM_QDQ    /* integers and DequantizeLinear in front of MatMul, Gemm, Conv */
} qn_to_onnx_form;

/* What a variant of the target comes to. */
typedef struct qn_to_onnx_wanted {
    qn_to_onnx_form form;
    unsigned bits;
    uint32_t group;      /* UINT32_MAX: a row                                     */
    bool asymmetric;
    const char *text;    /* "int4 group 32": for the report, from the job's arena */
} qn_to_onnx_wanted;

typedef struct qn_to_onnx_use {
    uint32_t node, file; /* of the graph; of the file's main graph */
} qn_to_onnx_use;

/* A weight of the main graph. */
typedef struct qn_to_onnx_pick {
    uint32_t value;             /* of the graph                                             */
    uint64_t tensor;            /* of the source                                            */
    const qn_onnx_tensor *file;
    const char *name;           /* as the file's nodes call it                              */
    const char *why;            /* it stays as it is, and that is not what was asked for; NULL */
    bool chosen;
    bool matrix;                /* a weight of a layer: worth a reason                       */
    bool turned;                /* lies as (in, out)                                        */
    uint32_t rows, cols;        /* out, in; of a convolution in groups: all rows              */
    qn_to_onnx_use *uses;          /* nodes of the main graph that read it                      */
    uint32_t n_uses;
    /* onnx_take.c: how its codes become those of the form */
    qn_codes codes;
    unsigned bits;              /* of a code in the file                                    */
    uint32_t block;             /* columns of a scale in the file                           */
    unsigned times;             /* codes are multiplied by it, and scales divided: 1, or 2 where zero lies between two codes */
    bool zeros;                 /* zero points are written                                  */
    bool float_zeros;           /* in the type of the scales: halves, where doubled codes would take twice the bits */
} qn_to_onnx_pick;

typedef enum qn_to_onnx_part { QN_TO_ONNX_PART_CODES, QN_TO_ONNX_PART_SCALES, QN_TO_ONNX_PART_ZEROS, QN_TO_ONNX_PART_HALVES } qn_to_onnx_part;

typedef struct qn_to_onnx_export {
    const qn_env *env;
    qn_export_job *job;
    const qn_graph *g;
    qn_to_onnx_wanted want;
    qn_onnx_edit edit;
    qn_to_onnx_pick *picks;        /* in the edit's arena */
    uint32_t n_picks;
} qn_to_onnx_export;

/* Opens the edit and lists the weights of the job's source; chosen are those that can have the form by what reads them and how they lie.
 * Closed by the caller whatever is returned. */
qn_code qn_to_onnx_pick_all(qn_to_onnx_export *x, qn_export_job *job, const qn_to_onnx_wanted *want, qn_err *err) QN_MUST_CHECK;
void qn_to_onnx_export_close(qn_to_onnx_export *x);

/* Looks at the codes of a chosen weight; chosen = false and a reason when the form cannot hold them as they are. */
qn_code qn_to_onnx_take(qn_to_onnx_export *x, qn_to_onnx_pick *p, qn_err *err) QN_MUST_CHECK;
/* Edits nodes and tensors for all that is chosen. */
qn_code qn_to_onnx_put(qn_to_onnx_export *x, qn_err *err) QN_MUST_CHECK;
/* Content `id` = part + 4 × pick: qn_onnx_make_fn over a qn_to_onnx_export. */
qn_code qn_to_onnx_content_make(void *ctx, uint64_t id, void **data, uint64_t *n_bytes, qn_err *err) QN_MUST_CHECK;
/* Bytes of a weight in its new form. */
uint64_t qn_to_onnx_content_bytes(const qn_to_onnx_export *x, const qn_to_onnx_pick *p);

/* Is the model at `path` what it should be: does it open, and compute what the job's source computes? QN_E_VERIFY when not. *ran = false: too large
 * to be run, or of unknown shapes; then *why says so (static or from the job's arena). */
qn_code qn_to_onnx_proof(qn_to_onnx_export *x, const char *path, bool *ran, double *apart, const char **why, qn_err *err) QN_MUST_CHECK;

/* Scales of a row in the file. */
static inline uint32_t qn_to_onnx_blocks(const qn_to_onnx_pick *p)
{
    return (p->cols - 1) / p->block + 1;
}

#endif
