/* onnx_kit.h: what ONNX operators share.
 *
 * An operator's shape is worked out in one place, its shape rule; the forward pass asks the same rule with everything known
 * (qn_plan). So a shape rule must give all dims when all of its inputs' dims and contents are known. */
#ifndef QN_ANALYSIS_EXEC_ONNX_KIT_H
#define QN_ANALYSIS_EXEC_ONNX_KIT_H

#include "analysis/exec/exec.h"

/* ---- what is known ---- */

static inline bool qn_info_ranked(const qn_info *i)
{
    return i->rank != QN_RANK_UNKNOWN;
}
bool qn_info_full(const qn_info *i); /* rank and every dimension */
/* Elements, or −1. */
int64_t qn_info_count(const qn_info *i);
/* dtype and dims taken over, no content. */
void qn_info_like(qn_info *out, const qn_info *in);
/* An input that is given: not left out. */
static inline bool qn_node_has(const qn_node *n, unsigned i)
{
    return i < n->n_in && n->in[i] != QN_NO_VALUE;
}

/* Runs the node's shape rule over arrays; out[i] of every output (n->n_out of them) has all dims. */
qn_code qn_plan(const qn_node *n, const qn_array *in, qn_info *out, qn_err *err) QN_MUST_CHECK;
/* The same, and room for output 0. Further outputs are the caller's. */
qn_code qn_plan_new(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err) QN_MUST_CHECK;

/* ---- numbers ---- */

/* Element i as a number; integers past int64 wrap, floats are truncated and held to the range. */
int64_t qn_elem_int(const qn_array *a, uint64_t i);
double qn_elem_float(const qn_array *a, uint64_t i);
/* A list of integers: the content of input `input`, or, before it was an input, attribute `attr` (NULL: none). */
enum { QN_INTS_MAX = 64 };
typedef struct qn_ints {
    int64_t v[QN_INTS_MAX];
    unsigned n;
    bool there;  /* given at all                                          */
    bool sized;  /* n is known                                            */
    bool known;  /* all of v; when sized only, unknown ones are QN_INT_UNKNOWN */
} qn_ints;
qn_code qn_ints_of(const qn_node *n, const qn_info *in, unsigned input, const char *attr, qn_ints *out, qn_err *err) QN_MUST_CHECK;
/* −rank ≤ axis < rank → 0 … rank − 1. */
qn_code qn_axis_of(int64_t axis, unsigned rank, unsigned *out, qn_err *err) QN_MUST_CHECK;
/* List of axes → one bit each; each axis once. */
qn_code qn_axes_mask(const qn_ints *axes, unsigned rank, uint32_t *mask, qn_err *err) QN_MUST_CHECK;

static inline unsigned qn_elem_bytes(unsigned dtype)
{
    return qn_dtype_bits((qn_dtype)dtype) / 8;
}
static inline bool qn_is_float(unsigned dtype)
{
    return dtype == QN_F32 || dtype == QN_F64;
}
/* ONNX data_type → dtype while running; BYTES: cannot run. */
qn_dtype qn_dtype_of_onnx(int64_t data_type);

/* Product of dims [from, to). */
uint64_t qn_span(const int64_t *dims, unsigned from, unsigned to);

/* An error that names both shapes. */
qn_code qn_fail_shapes(const qn_info *a, const qn_info *b, qn_err *err);
/* "lacks", for an operand of a dtype that the operator does not have. */
qn_code qn_fail_dtype(const qn_array *a, qn_err *err);

/* ---- broadcasting (broadcast.c) ---- */

/* Operands aligned at the end, dims of 1 repeated; unknown stays unknown. QN_E_INPUT when they do not fit. */
qn_code qn_info_broadcast(const qn_info *in, unsigned n, qn_info *out, qn_err *err) QN_MUST_CHECK;

enum { QN_WALK_OPERANDS = 4 };
/* A walk over an output's elements with strides for each operand, in elements; adjacent dims merged. Inner runs go along the last
 * dim. */
typedef struct qn_walk {
    unsigned rank, n;      /* rank ≥ 1; operands */
    uint64_t dims[QN_ARRAY_RANK_MAX];
    int64_t strides[QN_WALK_OPERANDS][QN_ARRAY_RANK_MAX];
    uint64_t n_runs;       /* of dims[rank − 1] elements each */
} qn_walk;
/* Strides of row-major operands that are broadcast to dims. */
void qn_walk_init(qn_walk *w, const int64_t *dims, unsigned rank, const qn_array *const *operands, unsigned n);
/* With strides given: strides[k][d] of operand k in dim d. */
void qn_walk_strides(qn_walk *w, const int64_t *dims, unsigned rank, const int64_t (*strides)[QN_ARRAY_RANK_MAX], unsigned n);
/* One run: operand k begins at element off[k] and steps by strides[k][rank − 1]; the output's begin is `at`. */
typedef qn_code (*qn_run_fn)(void *ctx, const qn_walk *w, const int64_t *off, uint64_t at, uint64_t n, qn_err *err);
qn_code qn_walk_run(qn_exec *x, const qn_walk *w, qn_run_fn fn, void *ctx, qn_err *err) QN_MUST_CHECK;

/* Copies elements of elem_bytes along a walk with one operand into dst. */
qn_code qn_walk_copy(qn_exec *x, const qn_walk *w, unsigned elem_bytes, const void *src, void *dst, qn_err *err) QN_MUST_CHECK;

/* Converts n elements as Cast does. */
qn_code qn_convert(unsigned from, const void *src, unsigned to, void *dst, uint64_t n, qn_err *err) QN_MUST_CHECK;

#endif
