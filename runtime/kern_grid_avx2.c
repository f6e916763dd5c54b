/* kern_grid_avx2.c: eight units a vector. */
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2,bmi,bmi2,f16c")))
#define LANES 8
#define NAME(x) grid8_##x
#include <immintrin.h>
#define to_f16(v) ((grid8_u16)_mm256_cvtps_ph((__m256)(v), _MM_FROUND_TO_NEAREST_INT))
#include "runtime/kern_grid_tmpl.h"

void qn_kern_grid_avx2(qn_kern_grid *k)
{
    k->run[QN_GRID_F32] = grid8_f32_row;
    k->run[QN_GRID_BF16] = grid8_bf16_row;
    k->run[QN_GRID_F16] = grid8_f16_row;
}
#endif
