/* lm_act.h: activations by name, for the operators that apply one. */
#ifndef QN_ANALYSIS_EXEC_LM_ACT_H
#define QN_ANALYSIS_EXEC_LM_ACT_H

#include "analysis/exec/exec.h"

typedef struct qn_lm_act {
    const char *name;
    void (*one)(const float *x, float *y, uint64_t n);                     /* y = f(x); may be in place     */
    void (*gated)(const float *x, const float *u, float *y, uint64_t n);   /* y = f(x) · u; may be in place */
    void (*back)(const float *x, const float *d, float *y, uint64_t n);    /* y = f'(x) · d; may be in place */
} qn_lm_act;

/* The one that the node's attribute `kind` names. */
qn_code qn_lm_act_find(const qn_node *n, const qn_lm_act **act, qn_err *err) QN_MUST_CHECK;

#endif
