/* kern_dense_avx2.c: placeholder until its kernels are written. */
#if defined(__x86_64__)
#include "runtime/kern_dense.h"

bool qn_rans_decode_avx2(qn_rans *s, const qn_rans_tab *t, uint8_t *dst, size_t n)
{
    return qn_rans_decode_c(s, t, dst, n);
}

bool qn_dense_merge_avx2(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst)
{
    return qn_dense_merge_c(cut, row, dst);
}
#endif
