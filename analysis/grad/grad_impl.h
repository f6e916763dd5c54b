/* grad_impl.h: the tape, as its parts see it. */
#ifndef QN_ANALYSIS_GRAD_GRAD_IMPL_H
#define QN_ANALYSIS_GRAD_GRAD_IMPL_H

#include "analysis/exec/exec_impl.h"
#include "analysis/grad/grad.h"

struct qn_grad {
    const qn_env *env;
    const qn_graph *graph;
    qn_exec *exec;
    uint32_t n_weights;
    bool running;         /* a batch of qn_grad_run: whoever else runs the executor wants nothing kept             */
    qn_array *sums;       /* per asked weight: its derivative                                                     */
    bool *fresh;          /* per asked weight: the sum is 0, whatever stands in it                                 */
    uint32_t *weight_of;  /* per value: index of the asked weight, or QN_NO_VALUE                                 */
    const qn_backward **rows; /* per node: how it goes back; NULL: it does not                                    */
    bool *active;         /* per value: an asked weight leads to it, and it leads to an output, by rows all along  */
    bool *keep;           /* per value: a derivative reads its data                                               */
    uint32_t *first_read; /* per value that is kept: the last node, going back, that reads it                     */
    bool *open;           /* per value, while the graph is walked                                                 */
    qn_array *kept;       /* per value, while a batch runs: with or without its data                              */
    qn_array *d;          /* per value, going back: what has been summed up so far                                */
};

/* Fills rows, active, keep and first_read; all are empty before, first_read QN_NO_NODE. QN_E_UNSUPPORTED: see qn_grad_open. */
qn_code qn_grad_plan(qn_grad *t, const qn_grad_options *o, qn_err *err) QN_MUST_CHECK;

#endif
