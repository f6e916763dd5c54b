/* kern_grid_avx512.c: sixteen units a vector. */
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,bmi,bmi2,f16c")))
#define LANES 16
#define NAME(x) grid16_##x
#include <immintrin.h>
#define to_f16(v) ((grid16_u16)_mm512_cvtps_ph((__m512)(v), _MM_FROUND_TO_NEAREST_INT))
#include "runtime/kern_grid_tmpl.h"

void qn_kern_grid_avx512(qn_kern_grid *k)
{
    k->run[QN_GRID_F32] = grid16_f32_row;
    k->run[QN_GRID_BF16] = grid16_bf16_row;
    k->run[QN_GRID_F16] = grid16_f16_row;
}
#endif
