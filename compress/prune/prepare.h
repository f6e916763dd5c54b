/* prepare.h: what the parts of prepare.c share: an ONNX model's values, and what has become of its nodes so far. */
#ifndef QN_COMPRESS_PRUNE_PREPARE_H
#define QN_COMPRESS_PRUNE_PREPARE_H

#include "analysis/exec/exec.h"
#include "compress/prune/onnx_edit.h"

typedef struct qn_prepare {
    const qn_env *env;
    const qn_graph *g;
    qn_onnx_edit edit;
    qn_pool pool;         /* of `known` */
    uint32_t *node;       /* per node of g: its node in the file while it stays, or QN_NO_NODE            */
    uint32_t *alias;      /* per value: the value that has taken its place, or itself                     */
    uint32_t *maker;      /* per value: the node of g that gives it in the end, or QN_NO_NODE             */
    const char **name;    /* per value: what the file calls it, or NULL                                   */
    qn_array *known;      /* per value: content, when it was computed here; in the dtype it runs in       */
    uint8_t *data_type;   /* per value: qn_onnx_dtype, 0: not known                                       */
    uint32_t *uses;       /* per value, of those without an alias: inputs that read it                    */
    bool *pinned;         /* per value: must go on meaning what it means                                  */
    uint32_t n_norms;
} qn_prepare;

/* Constant content of a value: a weight, a constant, or computed here. *there false: it is none. Released by the caller. */
bool qn_prepare_is_known(const qn_prepare *p, uint32_t value);
qn_code qn_prepare_content(qn_prepare *p, uint32_t value, qn_array *out, qn_err *err) QN_MUST_CHECK;
/* The value behind input i of a node, aliases followed; QN_NO_VALUE: left out. */
uint32_t qn_prepare_input(const qn_prepare *p, const qn_node *n, unsigned i);
/* Bytes of an array that runs as f32, f64 or an integer, in the file's type; from the allocator. */
qn_code qn_prepare_encode(qn_prepare *p, const qn_array *a, uint8_t data_type, void **out, qn_err *err) QN_MUST_CHECK;

/* prepare_fold.c: computes what is constant. prepare_norm.c: batch norms. */
qn_code qn_prepare_fold(qn_prepare *p, qn_err *err) QN_MUST_CHECK;
qn_code qn_prepare_norms(qn_prepare *p, qn_err *err) QN_MUST_CHECK;

#endif
