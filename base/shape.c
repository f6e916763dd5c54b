/* shape.c: see shape.h. */
#include "base/shape.h"
#include "base/num.h"

bool qn_shape_bytes(qn_dtype t, const uint64_t *dims, unsigned rank, uint64_t *n_elems, uint64_t *n_bytes)
{
    uint64_t n = 1;
    bool ovf = false;
    for (unsigned i = 0; i < rank; i++)
        if (dims[i] == 0)
            n = 0;
    for (unsigned i = 0; i < rank && n != 0; i++)
        n = qn_mul(n, dims[i], &ovf);
    const uint64_t bits = qn_mul(n, qn_dtype_bits(t), &ovf);
    if (ovf || bits % 8 != 0)
        return false;
    *n_elems = n;
    *n_bytes = bits / 8;
    return true;
}

unsigned qn_unit_bytes(qn_dtype t)
{
    const unsigned bits = t == QN_C64 ? 32 : qn_dtype_bits(t);
    return t == QN_BYTES || bits < 8 ? 1 : bits / 8;
}

uint64_t qn_shape_cols(qn_dtype t, const uint64_t *dims, unsigned rank)
{
    enum { COLS_MIN = 32 };
    const uint64_t unit_bits = (uint64_t)qn_unit_bytes(t) * 8;
    uint64_t bits = qn_dtype_bits(t); /* of the innermost dimensions taken so far */
    for (unsigned i = rank; i > 0 && bits < COLS_MIN * unit_bits; i--)
        bits *= dims[i - 1];
    return qn_max_u64(1, bits / unit_bits);
}
