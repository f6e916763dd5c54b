/* recover_impl.h: what the files of recovery share. */
#ifndef QN_COMPRESS_PRUNE_RECOVER_IMPL_H
#define QN_COMPRESS_PRUNE_RECOVER_IMPL_H

#include "compress/prune/recover.h"
#include "compress/prune/slices.h"

typedef struct qn_recover_run {
    const qn_env *env;
    const qn_graph *graph;
    const qn_recover_options *o;
    qn_cut *cut;
    qn_overlay *w;
    uint32_t *weights, n_weights; /* trained */
    qn_slices slices;
    uint8_t *state;       /* saved with the weights: per group of all 1: gone, 2: on its way */
    bool masked;          /* the masks of the weights are those of the cut */
    bool reached;
    qn_cost dense;        /* of the model when training began, and what had been there before the cut */
    /* gradual */
    uint32_t periods, length; /* length: steps of a period */
    double *score, *by;   /* per group of all */
    uint32_t *order;      /* groups of all, the cheapest first */
    uint32_t *family_of;  /* per group of all */
    /* half_space */
    float **before;       /* per trained weight that shrinks: as it was before the step, else NULL */
    double *xx, *xd, *dd; /* per group of all */
} qn_recover_run;

/* Which weights train, which entries stand still: those that the cut says are 0, which also are set to 0. */
qn_code qn_recover_mask(qn_recover_run *r, qn_train_view *v, qn_err *err) QN_MUST_CHECK;
/* Puts groups into state 1 and into the cut, and sets them to 0 for good. */
qn_code qn_recover_commit(qn_recover_run *r, qn_train_view *v, qn_err *err) QN_MUST_CHECK;

/* Hooks of the trainer (train.h); ctx: a qn_recover_run. */
qn_code qn_gradual_begin(void *ctx, qn_train_view *v, qn_err *err) QN_MUST_CHECK;
qn_code qn_gradual_after(void *ctx, qn_train_view *v, qn_err *err) QN_MUST_CHECK;
qn_code qn_dhspg_before(void *ctx, qn_train_view *v, qn_err *err) QN_MUST_CHECK;
qn_code qn_dhspg_after(void *ctx, qn_train_view *v, qn_err *err) QN_MUST_CHECK;

/* recover_score.c: r->score: what the loss is estimated to rise by when a group goes, in the loss's unit a row. */
qn_code qn_recover_score(qn_recover_run *r, qn_train_view *v, qn_err *err) QN_MUST_CHECK;
/* Puts the groups that r->score ranks lowest into state 2, so that `part` (0, 1] of what is asked for is gone or on its way. last: to a multiple. */
qn_code qn_recover_choose(qn_recover_run *r, double part, bool last, qn_err *err) QN_MUST_CHECK;
/* Has what was asked for gone? */
qn_code qn_recover_reached(const qn_recover_run *r, bool *yes, qn_err *err) QN_MUST_CHECK;

#endif
