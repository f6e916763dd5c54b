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
