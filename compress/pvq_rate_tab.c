/* pvq_rate_tab.c: the classes that columns are offered: groups of 16, the lower convex hull of distortion over bits. Measured on
 * 60000 groups of normal numbers of variance 1 (bench/quant --pvq-points 60000 16), one scale for all, to about 0.5 %. */
#include "compress/pvq_rate.h"

/* pulses, bits of gain, bits of a group, mean squared error of a weight */
const qn_pvq_offer qn_pvq_offers[] = {
    {0, 0, 0, 1},
    {1, 0, 5, 0.7305},
    {2, 0, 9, 0.5645},
    {3, 0, 13, 0.4475},
    {4, 0, 16, 0.3616},
    {6, 0, 21, 0.2476},
    {7, 0, 23, 0.2095},
    {7, 1, 24, 0.1931},
    {8, 1, 26, 0.163},
    {9, 1, 28, 0.1393},
    {10, 1, 30, 0.1203},
    {12, 1, 33, 0.09248},
    {12, 2, 34, 0.08549},
    {15, 2, 38, 0.05943},
    {18, 2, 42, 0.0439},
    {19, 2, 43, 0.04011},
    {20, 2, 44, 0.03682},
    {21, 2, 45, 0.03395},
    {22, 2, 46, 0.03142},
    {26, 2, 49, 0.02386},
    {26, 3, 50, 0.02138},
    {30, 3, 53, 0.01647},
    {33, 3, 55, 0.01389},
    {38, 3, 58, 0.0108},
    {40, 3, 59, 0.009868},
    {42, 3, 60, 0.009063},
    {42, 4, 61, 0.008313},
    {44, 4, 62, 0.007621},
    {51, 4, 65, 0.005764},
    {56, 4, 67, 0.00484},
    {58, 4, 68, 0.004539},
    {58, 5, 69, 0.004328},
};
const unsigned qn_pvq_n_offers = sizeof qn_pvq_offers / sizeof qn_pvq_offers[0];
