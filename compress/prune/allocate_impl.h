/* allocate_impl.h: what the methods of allocation share. */
#ifndef QN_COMPRESS_PRUNE_ALLOCATE_IMPL_H
#define QN_COMPRESS_PRUNE_ALLOCATE_IMPL_H

#include "compress/prune/allocate.h"

/* Families that keep equal numbers, as one. A *step* is a number of groups that may stay: 0 all of them, the last as few as may be. */
typedef struct qn_alloc_unit {
    const uint32_t *families;
    uint32_t n_families;
    uint32_t n;              /* groups of each           */
    const uint32_t *keep;    /* n_steps: falling         */
    uint32_t n_steps;        /* ≥ 1                      */
} qn_alloc_unit;

typedef struct qn_latency qn_latency; /* allocate_latency.c */

typedef struct qn_allocator {
    const qn_env *env;
    const qn_graph *graph;
    const qn_groups *groups;
    const qn_calibrate_feed *feed;
    qn_measure *measure;
    const qn_allocate_options *o;
    qn_arena arena;          /* units, and what lives as long as they do */
    qn_alloc_unit *units;
    uint32_t n_units;
    qn_curves curves;        /* of CURVES, else empty                    */
    qn_cut *cut;             /* as `at` says; groups go from the last on, or as the curves have them */
    uint32_t *at;            /* per unit: the step that the cut has      */
    qn_latency *latency;     /* of QN_BUDGET_LATENCY, else NULL          */
    double dense, limit;     /* cost of all, and what may be left of it  */
} qn_allocator;

/* With env … o set and the arena ready: makes units, cut, latency table, dense and limit. Closed also after a failure. */
qn_code qn_allocator_open(qn_allocator *a, qn_err *err) QN_MUST_CHECK;
void qn_allocator_close(qn_allocator *a);
/* Cost, in the budget's unit, of the model at these steps (per unit). */
qn_code qn_allocator_cost(qn_allocator *a, const uint32_t *steps, double *cost, qn_err *err) QN_MUST_CHECK;
/* The last step of a unit that keeps at least `keep` groups. */
uint32_t qn_alloc_unit_step(const qn_alloc_unit *u, double keep);
/* From the steps in at[], on to where the budget is met, where loss[u][step] rises least for what is saved; then back wherever there is room. Losses are
 * made convex here. loss[u][0] = 0. */
qn_code qn_allocator_descend(qn_allocator *a, double *const *loss, uint32_t *at, qn_err *err) QN_MUST_CHECK;
/* Back by single steps, while the budget stays met, where the loss falls most; loss NULL: where the smallest share is left, and at most one step each. */
qn_code qn_allocator_give_back(qn_allocator *a, double *const *loss, uint32_t *at, qn_err *err) QN_MUST_CHECK;
/* loss[u] of n_steps each, zeros, in the arena. */
qn_code qn_allocator_losses(qn_allocator *a, double ***loss, qn_err *err) QN_MUST_CHECK;

qn_code qn_allocate_uniform(qn_allocator *a, uint32_t *at, qn_err *err) QN_MUST_CHECK;
qn_code qn_allocate_curves(qn_allocator *a, uint32_t *at, qn_err *err) QN_MUST_CHECK;
/* TABLE and EVOLVE. *loss: measured end to end, of the model repaired at the result. */
qn_code qn_allocate_table(qn_allocator *a, uint32_t *at, double *loss, qn_err *err) QN_MUST_CHECK;

/* --- the table: each unit cut alone, at some levels ---------------------------------------------------------------- */

enum { QN_LEVELS_MAX = 9 }; /* the first is 0: nothing goes */

/* A weight as it was after one unit was cut at one level. */
typedef struct qn_piece {
    uint32_t value;
    float *w;                /* NULL: in the file, at off */
    uint64_t off;
} qn_piece;

typedef struct qn_cut_level {
    uint32_t step;
    double loss;             /* measured end to end                      */
    qn_cut *cut;             /* which groups went                        */
    qn_piece *pieces;        /* in the arena; none unless they are kept  */
    uint32_t n_pieces;
} qn_cut_level;

typedef struct qn_table {
    qn_allocator *a;
    qn_cut_level *levels;        /* n_units × QN_LEVELS_MAX, in the arena    */
    uint32_t *n_levels;      /* per unit                                 */
    bool keeps_pieces;
    qn_file file;            /* of pieces that did not fit in memory     */
    uint64_t end_off, held_bytes;
} qn_table;

/* Levels up to about 2.5 × share of each unit, each pruned, repaired and measured with all others left whole. Takes units × levels repairs. */
qn_code qn_levels_make(qn_table *t, qn_allocator *a, double share, bool keeps_pieces, qn_err *err) QN_MUST_CHECK;
void qn_levels_release(qn_table *t);
/* The weight of a piece into dst. */
qn_code qn_piece_read(const qn_table *t, const qn_piece *p, float *dst, qn_err *err) QN_MUST_CHECK;
/* Repairs the model at these steps, measures it on all batches. */
qn_code qn_allocator_try(qn_allocator *a, const uint32_t *steps, qn_cut *cut, qn_overlay *w, double *loss, qn_err *err) QN_MUST_CHECK;

/* Levels (per unit) improved by mutations that stay within the budget. fitness: on all batches of the measure, with the weights put together from the table's
 * pieces, before and after: never worse. */
qn_code qn_allocate_evolve(const qn_table *t, uint8_t *levels, double fitness[2], qn_err *err) QN_MUST_CHECK;
/* Cost at these levels. steps: room for n_units. */
qn_code qn_levels_cost(const qn_table *t, const uint8_t *levels, uint32_t *steps, double *cost, qn_err *err) QN_MUST_CHECK;

/* --- latency -------------------------------------------------------------------------------------------------------- */

qn_code qn_latency_open(qn_allocator *a, qn_latency **out, qn_err *err) QN_MUST_CHECK;
void qn_latency_close(qn_latency *l); /* NULL is fine */
/* Seconds of a run at these steps, by the table. */
double qn_latency_of(const qn_latency *l, const uint32_t *steps);

#endif
