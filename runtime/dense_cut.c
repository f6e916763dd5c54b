/* dense_cut.c: where each float type is cut into code, packed bits and low bytes; see kern_dense.h. */
#include "runtime/dense.h"

bool qn_dense_cut_make(qn_dense_cut *cut, qn_dtype t, unsigned m, bool sign_coded)
{
    unsigned exp_bits, frac_in_top;
    switch (t) {
    case QN_BF16:
    case QN_F32:
    case QN_C64:
        exp_bits = 8;
        frac_in_top = 7;
        break;
    case QN_F16:
        exp_bits = 5;
        frac_in_top = 2;
        break;
    case QN_F64:
        exp_bits = 11;
        frac_in_top = 4;
        break;
    default:
        return false;
    }
    if (m > QN_DENSE_M_MAX || m > frac_in_top)
        return false;
    cut->top_bits = (uint8_t)(1 + exp_bits + frac_in_top);
    cut->n_low = (uint8_t)(qn_unit_bytes(t) - cut->top_bits / 8u);
    cut->frac_bits = (uint8_t)(frac_in_top - m);
    cut->sign_coded = sign_coded;
    cut->n_pack = (uint8_t)(cut->frac_bits + !sign_coded);
    cut->code_mask = (uint16_t)((1u << (exp_bits + m + sign_coded)) - 1);
    return true;
}

qn_dense_tail qn_dense_tail_of(const qn_dense_cut *cut, size_t n, unsigned n_lanes)
{
    const size_t n_pack = (n * cut->n_pack + 7) / 8, n_low = n * cut->n_low;
    qn_dense_tail t = {.carry = 2 * (size_t)n_lanes};
    if (t.carry > n_pack + n_low)
        t.carry = n_pack + n_low;
    const size_t stored = n_pack + n_low - t.carry;
    if (stored >= n_pack)
        t.split = cut->n_low ? (stored - n_pack) / cut->n_low : n;
    else
        t.split = cut->n_low ? 0 : stored * 8 / cut->n_pack;
    t.split &= ~(size_t)7;
    t.pack_head = t.split / 8 * cut->n_pack;
    t.low_head = t.split * cut->n_low;
    t.pack_tail = n_pack - t.pack_head;
    t.low_tail = n_low - t.low_head;
    return t;
}
