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
    const unsigned per = qn_dtype_block_elems(t);
    if (ovf || per == 0 || n % per != 0)
        return false;
    /* so a block never runs from one row into the next */
    if (qn_dtype_is_block(t) && (rank == 0 || dims[rank - 1] % per != 0))
        return false;
    const uint64_t bits = qn_mul(n / per, (uint64_t)qn_dtype_block_bytes(t) * 8, &ovf);
    *n_elems = n;
    *n_bytes = bits / 8;
    return !ovf;
}

unsigned qn_unit_bytes(qn_dtype t)
{
    const unsigned bits = t == QN_C64 ? 32 : qn_dtype_bits(t);
    return bits < 8 ? 1 : bits / 8;
}

uint64_t qn_shape_cols(qn_dtype t, const uint64_t *dims, unsigned rank)
{
    enum { COLS_MIN = 32 };
    const uint64_t unit_bits = (uint64_t)qn_unit_bytes(t) * 8;
    uint64_t bits = qn_dtype_bits(t); /* of the innermost dimensions taken so far */
    unsigned i = rank;
    if (qn_dtype_is_block(t) && rank > 0)
        bits = 8 * qn_bytes_of_elems(t, dims[--i]);
    for (; i > 0 && bits < COLS_MIN * unit_bits; i--)
        bits *= dims[i - 1];
    return qn_max_u64(1, bits / unit_bits);
}
