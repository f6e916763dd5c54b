/* pickle_impl.h: what opcodes, globals and constructors share. */
#ifndef QN_FORMATS_TORCH_PICKLE_IMPL_H
#define QN_FORMATS_TORCH_PICKLE_IMPL_H

#include "base/err.h"
#include "formats/torch/pickle.h"

/* What a global may be used for. */
typedef enum qn_pk_kind {
    QN_PK_K_NOTHING,  /* a value that is only handed around                  */
    QN_PK_K_REFUSED,  /* known, and refused with its own words (detail: which) */
    QN_PK_K_STORAGE,  /* a storage class (detail: dtype)                      */
    QN_PK_K_DTYPE,    /* torch.float16 and the like (detail: dtype)           */
    QN_PK_K_DICT,     /* OrderedDict and its kin                              */
    QN_PK_K_COUNTED,  /* defaultdict: a dict whose one argument is a global   */
    QN_PK_K_TENSOR,   /* _rebuild_tensor(storage, first, size, stride)        */
    QN_PK_K_TENSOR2,  /* _rebuild_tensor_v2(…, requires_grad, hooks[, metadata]) */
    QN_PK_K_TENSOR3,  /* _rebuild_tensor_v3(…, requires_grad, hooks, dtype[, metadata]) */
    QN_PK_K_PARAMETER, /* _rebuild_parameter(tensor, requires_grad, hooks[, state]) */
    QN_PK_K_SUBCLASS, /* _rebuild_from_type_v2(function, type, arguments, state) */
    QN_PK_K_SIZE,     /* torch.Size(tuple)                                    */
    QN_PK_K_SET,      /* set(list)                                            */
    QN_PK_K_ENCODE,   /* _codecs.encode(text, encoding): bytes                */
    QN_PK_K_INERT,    /* any arguments, any state: an object without meaning  */
} qn_pk_kind;

typedef struct qn_pk_global {
    const char *name; /* "module.name" */
    uint8_t kind, detail;
} qn_pk_global;

extern const qn_pk_global qn_pk_globals[];
extern const unsigned qn_pk_n_globals;
extern const char *const qn_pk_refusals[]; /* what a REFUSED global stands for, by detail */

/* A new value, counted; NULL when there is no memory or there are too many. */
qn_pk *qn_pk_new(qn_pickle *p, unsigned tag, qn_err *err) QN_MUST_CHECK;
qn_code qn_pk_append(qn_pickle *p, qn_pk *container, qn_pk *item, qn_err *err) QN_MUST_CHECK;

/* REDUCE and NEWOBJ: the callable applied to a tuple. */
qn_code qn_pk_apply(qn_pickle *p, const qn_pk *callable, qn_pk *args, qn_pk **out, qn_err *err) QN_MUST_CHECK;
/* BUILD: a state given to a value. */
qn_code qn_pk_build(qn_pickle *p, const qn_pk *value, const qn_pk *state, qn_err *err) QN_MUST_CHECK;
/* BINPERSID: the storage that a tuple describes. */
qn_code qn_pk_persistent(qn_pickle *p, const qn_pk *id, qn_pk **out, qn_err *err) QN_MUST_CHECK;

/* An error at the opcode at work. */
#define QN_PK_FAIL(p, err, code, ...) QN_FAIL(err, code, (p)->op_off, __VA_ARGS__)

#endif
