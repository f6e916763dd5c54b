/* pvq_points.h: how well levels of a length suit groups whose points of a pyramid are known. */
#ifndef QN_BENCH_PVQ_POINTS_H
#define QN_BENCH_PVQ_POINTS_H

#include <stdint.h>

/* Mean squared error of x (groups, n), whose lengths along their points are `length`, with levels of this many bits and the one scale that suits
 * them best. */
double quant_pvq_distortion(uint32_t n, uint32_t groups, const float *x, const float *length, unsigned bits);

#endif
