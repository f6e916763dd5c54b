/* trellis_tab.c: multipliers by L and K: of some thousands of odd numbers (L = 12; fewer for wider windows) the one whose code had the least
 * distortion at normal weights; where none was looked for, M. */
#include "runtime/trellis.h"

#define M 0x83DCD12Du
const uint32_t qn_trellis_multiplier[QN_TRELLIS_L_MAX - QN_TRELLIS_L_MIN + 1][QN_TRELLIS_K_MAX] = {
    {M, M, M, M, M, M, M, M},
    {M, M, M, M, M, M, M, M},
    {0x406ac9b7u, 0x1f54c747u, 0x8e4fe957u, 0x0cc4f419u, 0x4b62307du, 0x8e4fe957u, 0x8e4fe957u, 0x7c8757c3u},
    {0x877516bbu, 0x6b375a53u, 0x877516bbu, 0x28d242a7u, M, M, M, M},
    {0xd0ddd285u, 0x314c37b1u, 0xccf8ca8bu, 0xe6ef4931u, M, M, M, M},
    {M, M, M, M, M, M, M, M},
    {0x8159769du, M, M, 0x8909cbefu, M, M, M, M},
};
