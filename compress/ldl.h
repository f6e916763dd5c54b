/* ldl.h: from the second moment H of a layer's input to what error feedback needs: an order of columns, the coefficients by
 * which an error in one column moves the targets of later ones, and the weight of each column.
 *
 * H + damping = L Lᵀ, L̃ = L / diag(L). With E = W − Ŵ (rows are independent), columns taken from the last to the first,
 *     t_j = w_j + Σ_{k>j} e_k L̃_kj,        tr(E (H + damping) Eᵀ) = Σ_j L_jj² |t_j − ŵ_j|²
 * exactly, whatever ŵ is (LDLQ, Chee et al. 2023; the same as GPTQ, Frantar et al. 2023, without an inverse).
 *
 * H is scaled so that the mean of its diagonal over live columns is 1; `scale` times a loss is the loss in H's own unit. */
#ifndef QN_COMPRESS_LDL_H
#define QN_COMPRESS_LDL_H

#include "base/alloc.h"

typedef enum qn_ldl_kind {
    QN_LDL_NONE,     /* there were no statistics: every column weighs 1, no feedback             */
    QN_LDL_FULL,     /* Cholesky's factor                                                        */
    QN_LDL_DIAGONAL, /* only the diagonal could be used (or was all that was kept): no feedback  */
    QN_LDL_REFUSED   /* H was not finite or all zero: as if there were no statistics             */
} qn_ldl_kind;

typedef enum qn_ldl_order {
    QN_ORDER_NATURAL, /* as in the tensor                                                                         */
    QN_ORDER_ACT      /* largest diagonal first: groups by their mean, columns within each group (its columns stay
                         together, so that groups remain contiguous in storage)                                  */
} qn_ldl_order;

typedef struct qn_ldl {
    const qn_alloc *alloc;
    uint32_t n;          /* columns */
    uint32_t n_dead;     /* columns whose input was always zero */
    qn_ldl_kind kind;
    double damping;      /* what was added to the diagonal, over its mean */
    double scale;
    double spread;       /* largest L_jj² over the smallest, of live columns: the condition number is at least that */
    uint32_t *visit;     /* n: visit[v] = column of the v-th visit */
    uint32_t *begins;    /* group g is visits begins[g] … begins[g + 1] − 1 */
    uint32_t n_groups;
    double *weight;      /* by column: L_jj², 0 for a dead one; NULL when all are 1 */
    double *diagonal;    /* FULL: by column, of H: what an error costs when it is not fed back, 0 for a dead one. Else NULL */
    /* FULL: feed[a · n + b], a < b, is L̃ for an error in visit a and the target of visit b; the rest is not used. Else NULL. */
    float *feed;
    float *moment; /* NULL until qn_ldl_moment: H' as the factor has it, n × n, by visit, symmetric; 0 for dead columns */
} qn_ldl;

#define QN_LDL_EMPTY ((qn_ldl){0})

/* h: n × n (f64, row-major), or NULL with `diagonal` (n), or both NULL. `group` 1 … n: columns per group. damping:
 * what is added to the diagonal, over its mean, 0: QN_LDL_DAMPING; ten times as much, up to QN_LDL_DAMPING_MAX, when there
 * is no factor with it. Never fails for what H holds: see kind. QN_E_MEMORY. */
#define QN_LDL_DAMPING     1e-3
#define QN_LDL_DAMPING_MAX 1e-1
qn_code qn_ldl_make(qn_ldl *l, const qn_alloc *alloc, uint32_t n, const double *h, const double *diagonal, uint32_t group,
                    qn_ldl_order order, double damping, qn_err *err) QN_MUST_CHECK;
/* The same, but h is from `alloc` and is taken over, whatever is returned: everything is computed in its place, and n rows more. */
qn_code qn_ldl_take(qn_ldl *l, const qn_alloc *alloc, uint32_t n, double *h, const double *diagonal, uint32_t group,
                    qn_ldl_order order, double damping, qn_err *err) QN_MUST_CHECK;
void qn_ldl_release(qn_ldl *l);

/* Makes `moment` when there is a full factor and it is not there yet. Twice the memory of `feed` while it works. QN_E_MEMORY. */
qn_code qn_ldl_moment(qn_ldl *l, qn_err *err) QN_MUST_CHECK;

/* ½ log2 (arithmetic over geometric mean of the weights), in bits: what a quantizer with one step for all columns loses to
 * one whose step follows the weight. */
double qn_ldl_unevenness(const qn_ldl *l);

#endif
