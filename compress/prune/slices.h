/* slices.h: the entries of trained weights that stand for a group while it is judged and shrunk. Internal to compress/prune/.
 *
 * They are the columns with which the group is read (members of role CONSUMER): when those are 0 the group has no influence, whatever the activation before them. A
 * family that nobody reads through a trained weight stands for itself with all its trained members. */
#ifndef QN_COMPRESS_PRUNE_SLICES_H
#define QN_COMPRESS_PRUNE_SLICES_H

#include "analysis/groups/cut.h"
#include "compress/train/train.h"

typedef struct qn_slices {
    const qn_env *env;
    const qn_groups *groups;
    uint32_t *weight_of; /* per value: its place among the trained weights, or QN_NO_VALUE        */
    uint32_t *first;     /* per family: number of its first group, counted over all; n_families + 1 */
    uint8_t *consumers;  /* per family: 1: its consumers stand for it                             */
    double *room;        /* as long as the longest axis                                            */
    uint64_t *elems;     /* per group of all: entries that stand for it                           */
    uint32_t n;          /* groups of all families                                                */
} qn_slices;

qn_code qn_slices_open(const qn_env *env, const qn_groups *s, const uint32_t *weights, uint32_t n_weights, qn_slices *out, qn_err *err) QN_MUST_CHECK;
void qn_slices_close(qn_slices *s); /* zeroed is fine */
/* dot[g] = Σ a · b over the entries of group g; a, b: per trained weight; where one is NULL the weight counts nothing. */
void qn_slices_dot(const qn_slices *s, float *const *a, float *const *b, double *dot);
/* Entries of group g times by[g], where by[g] is not 1. */
void qn_slices_scale(const qn_slices *s, const double *by, float *const *w);
/* Entries of group g: w += by[g] · x, where by[g] is not 0 and x not NULL. */
void qn_slices_add(const qn_slices *s, const double *by, float *const *x, float *const *w);

#endif
