/* kern_grid_mul.h: kernels of products with packed grid codes: what they are given, what they promise.
 *
 * Columns are in runs of 32. Within a run x is held in fixed point, x_j ≈ X_j · step with |X_j| ≤ QN_GRID_X_MOST: then a product needs
 * integers alone until the run's end, where its scale comes in:
 *     y = unit · Σ_g h_g · (2 · step_g · Σ_j c_j X_j  −  Z_g · step_g · Σ_j X_j)
 * The integer sums are exact, and the same in every variant; sums over g are in binary32, in an order of the variant's own. */
#ifndef QN_RUNTIME_KERN_GRID_MUL_H
#define QN_RUNTIME_KERN_GRID_MUL_H

#include "quern/base.h"

enum { QN_GRID_RUN = 32, QN_GRID_STRIPE = 512 /* columns: x is padded with zeros to a multiple */,
       QN_GRID_X_MOST = 32512 /* 127/128 of 2^15: so that its two bytes, each rounded to nearest, are signed ones */ };

/* The matrix; all of it was checked. */
typedef struct qn_grid_mul {
    const uint8_t *codes;   /* rows of row_bytes, no byte behind the last one may be read    */
    size_t row_bytes;
    unsigned bits;
    uint32_t cols, runs;    /* runs = ceil(cols / QN_GRID_RUN)                                */
    const uint16_t *scale;  /* (rows, runs): binary16                                         */
    const uint8_t *zero;    /* (rows, runs), the zero points; NULL: all are zero2 / 2         */
    float zero2, unit;
} qn_grid_mul;

/* What a variant makes of x. Both arrays have a number for each run of the padded x. `fixed` is as the variant likes it. */
typedef struct qn_grid_x {
    float *step2; /* 2 · step                */
    float *sum;   /* step · Σ X              */
    void *fixed;  /* 2 bytes for each column of the padded x, aligned to 64 */
} qn_grid_x;

typedef struct qn_kern_grid_mul {
    /* X_j = x_j / step, to nearest: for all columns of the padded x. */
    void (*fix)(const qn_grid_mul *m, const int16_t *x, void *fixed);
    void (*rows)(const qn_grid_mul *m, const qn_grid_x *x, uint32_t r0, uint32_t r1, float *y);
} qn_kern_grid_mul;

static inline uint32_t qn_grid_padded(uint32_t cols)
{
    return (cols + QN_GRID_STRIPE - 1) / QN_GRID_STRIPE * QN_GRID_STRIPE;
}

void qn_kern_grid_mul_init(qn_kern_grid_mul *k, unsigned cpu);

#if defined(__x86_64__) && defined(__GNUC__)
void qn_kern_grid_mul_avx2(qn_kern_grid_mul *k);
void qn_kern_grid_mul_avx512(qn_kern_grid_mul *k);
#endif

#endif
