/* rewrite_find.h: what a walk through a model's messages looks up: whether the message at this place, or the thing of this name, is to change. */
#ifndef QN_FORMATS_ONNX_REWRITE_FIND_H
#define QN_FORMATS_ONNX_REWRITE_FIND_H

#include "formats/onnx/rewrite.h"

/* Sorted lists, in an arena. */
typedef struct qn_onnx_places {
    struct qn_onnx_by_place {
        uint64_t off;
        const void *what;
    } *p;
    uint64_t n;
} qn_onnx_places;

typedef struct qn_onnx_named_list {
    struct qn_onnx_by_name {
        const char *name;
        const void *what;
    } *p;
    uint64_t n;
} qn_onnx_named_list;

typedef struct qn_onnx_sought {
    qn_onnx_places new_tensors, new_nodes; /* qn_onnx_new_tensor, qn_onnx_new_node                             */
    qn_onnx_places weights;                /* qn_onnx_tensor: all of the model                                 */
    const qn_onnx_add_node **behind;       /* added nodes by what they stand behind, then in their order; first those in front of all */
    uint32_t n_behind;
    qn_onnx_named_list new_shapes;         /* qn_onnx_new_tensor, of the main graph's initializers             */
    qn_onnx_named_list dropped, gone;      /* initializers; values that lose their node. Not NULL, that is all */
} qn_onnx_sought;

qn_code qn_onnx_sought_make(qn_onnx_sought *w, qn_arena *arena, const qn_onnx_model *m, const qn_onnx_edits *e, qn_err *err) QN_MUST_CHECK;
/* NULL: nothing of the kind. */
const void *qn_onnx_at_place(const qn_onnx_places *l, uint64_t off);
const void *qn_onnx_named(const qn_onnx_named_list *l, const char *name);
/* The first of the *n nodes that stand behind the one at this place. */
const qn_onnx_add_node *const *qn_onnx_behind(const qn_onnx_sought *w, uint64_t off, uint32_t *n);

#endif
