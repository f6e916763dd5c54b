/* grad.h: derivatives of a scalar loss with respect to a model's weights: reverse mode over the operators of a graph.
 *
 * The graph runs once forward, keeping what the derivatives need, then backward. A row of backward_tab.c gives an operator's derivative; each is checked
 * against central differences. Operators without a row stop the derivative: QN_E_UNSUPPORTED names the node when a weight that is
 * asked for lies only behind such nodes. Results do not depend on the number of threads. */
#ifndef QN_ANALYSIS_GRAD_GRAD_H
#define QN_ANALYSIS_GRAD_GRAD_H

#include "analysis/exec/exec.h"

/* A derivative of one operator. in[], out[]: as they were; weights, constants and what is not f32 (indices, shapes) always with their data, the other
 * f32 only where the row says that they are read: else data is NULL and only the shape is there. d_out[i]: ∂loss/∂out[i], dtype BYTES where nobody needs
 * it (then it is 0). want[i]: d_in[i] is needed; it is to be made (qn_exec_new, shape of in[i]) and filled, not added to: the engine adds. It may share
 * d_out's data (qn_array_share, qn_array_view), and d_out[i] may be written when qn_array_is_only. An entry that is left empty is 0. f32. */
typedef qn_code (*qn_backward_fn)(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                                  qn_array *d_in, qn_err *err);
enum { QN_READS_SHAPES = 0, QN_READS_IN = 1, QN_READS_OUT = 2 }; /* what of the forward pass must be kept; less is less memory */
typedef struct qn_backward {
    const char *domain, *name;
    qn_backward_fn fn;
    unsigned reads;
} qn_backward;
extern const qn_backward qn_backwards[]; /* backward_tab.c; ended by a NULL name */
/* The row, or NULL. ai.onnx and "" are one domain. */
const qn_backward *qn_backward_find(const char *domain, const char *name);

/* The loss of the outputs, and its derivative by each: d_out[i] made by the callee (qn_array_new from `pool`, shape of outs[i]) or left empty: 0. */
typedef qn_code (*qn_loss_fn)(void *ctx, qn_pool *pool, const qn_array *outs, double *loss, qn_array *d_outs, qn_err *err);

typedef struct qn_grad qn_grad;
typedef struct qn_grad_options {
    qn_weight_read read;      /* as in qn_exec_options: mostly an overlay */
    void *read_ctx;
    uint64_t memory_bytes;
    const uint32_t *weights;  /* values of the graph, of kind WEIGHT and f32, whose derivatives are wanted */
    uint32_t n_weights;
} qn_grad_options;

qn_code qn_grad_open(const qn_env *env, const qn_graph *g, const qn_grad_options *o, qn_grad **out, qn_err *err) QN_MUST_CHECK;
/* One micro-batch: forward, loss, backward. Derivatives are added to those of earlier calls since qn_grad_clear. feeds are released. */
qn_code qn_grad_run(qn_grad *t, qn_array *feeds, qn_loss_fn loss, void *ctx, double *value, qn_err *err) QN_MUST_CHECK;
/* Of weight i of the options: its shape, row-major. Valid until the next run or clear. */
float *qn_grad_of(qn_grad *t, uint32_t i);
void qn_grad_clear(qn_grad *t);
/* The executor behind it: qn_exec_forget after a weight has changed; its pool for feeds. */
qn_exec *qn_grad_exec(qn_grad *t);
void qn_grad_close(qn_grad *t); /* NULL is fine */

#endif
