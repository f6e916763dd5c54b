/* grid_joint.h: scale and codes of one group of a row chosen together, when everything outside the group is known.
 *
 * With E = W − Ŵ, G = E H' (at the group's columns) and H' of the group, moving the group's reconstruction by d changes the loss by
 * −2 G·d + d H' dᵀ. Given a scale, codes follow by coordinate descent from the codes as they were: the P step (values) and the V
 * step (codes) of PV-Tuning, Malinovskii et al. 2024, in one. */
#ifndef QN_COMPRESS_GRID_JOINT_H
#define QN_COMPRESS_GRID_JOINT_H

#include "quern/base.h"
#include <stddef.h>

enum { QN_GRID_LANES = 16 /* rows that are worked on together */ };

typedef struct qn_grid_joint {
    uint32_t n;       /* columns                                                    */
    float top;        /* the largest code                                           */
    const float *h;   /* H' of the group, row c at h + c · ldh, symmetric           */
    size_t ldh;
    const float *g;   /* (n, QN_GRID_LANES): E H'                                   */
    const float *old; /* (n, QN_GRID_LANES): twice the levels, 2c − Z, as they are  */
    const float *scale, *zero2; /* (QN_GRID_LANES): as they are                     */
} qn_grid_joint;

/* Codes for another scale of each lane, or the same: twice the levels into level2 (n, QN_GRID_LANES), what the loss changes by
 * into change. room: n × QN_GRID_LANES floats. */
void qn_grid_joint_try(const qn_grid_joint *j, const float *scale, float *level2, float *change, float *room);

#endif
