/* ridge.h: least squares with a ridge toward the old weights, from moments:
 *     W_S, t = argmin ‖Y − W_S X_S − t 1ᵀ‖² / n + λ ‖W_S − W_old,S‖²         (t, the change of the bias, is not penalised; 0 without a bias) */
#ifndef QN_COMPRESS_PRUNE_RIDGE_H
#define QN_COMPRESS_PRUNE_RIDGE_H

#include "compress/prune/moments.h"

typedef struct qn_ridge {
    const qn_moments *a, *b;  /* rows of both together; b may be NULL                   */
    bool centred;             /* there is a bias that takes the mean                    */
    double lambda;            /* > 0                                                    */
    const uint32_t *cols;     /* S: ascending                                           */
    uint32_t n_cols;
    const float *old;         /* m × d                                                  */
} qn_ridge;

/* δ × the mean of H's diagonal over columns that have seen something, H = X Xᵀ / n (about the means when centred); 0: all are dead. dead: per column flags, may be NULL. */
double qn_ridge_lambda(const qn_moments *a, const qn_moments *b, bool centred, double delta, uint8_t *dead);
/* H_SS + λ I, both triangles (n_cols × n_cols). */
void qn_ridge_matrix(const qn_ridge *r, double *h);
/* w: m × n_cols, t: m. h: n_cols² as qn_ridge_matrix made it; becomes its factor. QN_E_INPUT: no factor. */
qn_code qn_ridge_solve(const qn_ridge *r, double *h, double *w, double *t, qn_err *err) QN_MUST_CHECK;
/* ‖Y − W_S X_S − t 1ᵀ‖² over the rows of s. */
qn_code qn_ridge_error(const qn_moments *s, const uint32_t *cols, uint32_t n_cols, const double *w, const double *t, double *out,
                       qn_err *err) QN_MUST_CHECK;

#endif
