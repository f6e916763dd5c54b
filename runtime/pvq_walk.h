/* pvq_walk.h: from the indices of one block of rows to its weights: what both forms of the pvq codec share. docs/codecs/pvq.md.
 *
 * The groups of a block have *places*: those whose tables are equally wide lie together, so that a kernel has many of them at once
 * and each looks into the smallest table that holds its K. These ranges of K are *tiers*: indices of 32 bits; of 64, with up to 15,
 * 31 and more pulses; of two limbs, whose first coordinates are walked one by one, until one limb is left. */
#ifndef QN_RUNTIME_PVQ_WALK_H
#define QN_RUNTIME_PVQ_WALK_H

#include "base/shape.h"
#include "runtime/kern.h"
#include "runtime/pvq_codec.h"

#define QN_PVQ_TIERS 5
#define QN_PVQ_TIER_WIDE 4

/* The index of a point of P(m, k), m and k given. */
typedef struct qn_pvq_index_of {
    qn_u128 last; /* V(m, k) − 1            */
    unsigned bits; /* of it                 */
} qn_pvq_index_of;

typedef struct qn_pvq_walk {
    uint32_t n, cols, rows, tail, k_most; /* tail: rows mod n */
    qn_pvq_tab tab[QN_PVQ_TIERS];   /* those that some K ≤ k_most needs */
    uint32_t n_rest;                /* of the last tier: the most coordinates with 64-bit indices; their table is `rest` */
    qn_pvq_tab rest;
    qn_pvq_index_of *of[2];         /* (k_most + 1): of whole groups, of those of `tail` rows */
    /* of one block of rows, by place */
    qn_u128 *wide;                  /* (cols): index from the end, of the last tier; NULL when no K is of it */
    uint64_t *from_end;             /* (cols): the same of the others */
    uint8_t *k;                     /* (cols)                       */
    int8_t *y;                      /* (n, cols)                    */
    /* by column */
    uint32_t *pos;                  /* (cols): its place; unused when NULL: column j is at place j */
    float *scale;                   /* (cols)                       */
} qn_pvq_walk;

/* Tables and room from `arena`. QN_E_INPUT when P(n, k_most) has more than 2^128 points. */
qn_code qn_pvq_walk_open(qn_pvq_walk *w, uint32_t n, uint32_t rows, uint32_t cols, uint32_t k_most, qn_arena *arena,
                         qn_err *err) QN_MUST_CHECK;

/* The tier of k, 0 … QN_PVQ_TIERS − 1. */
unsigned qn_pvq_tier(const qn_pvq_walk *w, uint32_t k);

/* Places first … first + count − 1, all of one tier, groups of m rows: from_end (or wide) and k → y. */
void qn_pvq_walk_points(qn_pvq_walk *w, const qn_kern *kern, uint32_t m, unsigned tier, uint32_t first, uint32_t count);

/* y, scale and pos → m rows of weights. */
void qn_pvq_walk_rows(const qn_pvq_walk *w, const qn_kern *kern, uint32_t m, qn_dtype t, const float shift[2], uint8_t *dst);

#endif
