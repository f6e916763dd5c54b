/* kern_dense_merge.h: the merge of symbols and raw bits, 16 units at a time, in plain C that vectorises: compiled once for any
 * machine and once for AVX2. */
#ifndef QN_RUNTIME_KERN_DENSE_MERGE_H
#define QN_RUNTIME_KERN_DENSE_MERGE_H

#include "base/num.h"
#include "runtime/kern_dense.h"

/* Eight fields of r ≤ 8 bits, one to a byte: halves apart, then quarters, then eighths. */
static inline __attribute__((always_inline)) uint64_t qn_dense_apart(uint64_t w, unsigned r)
{
    const uint64_t four = (UINT64_C(1) << 4 * r) - 1, two = ((UINT64_C(1) << 2 * r) - 1) * UINT64_C(0x0000000100000001);
    const uint64_t one = ((UINT64_C(1) << r) - 1) * UINT64_C(0x0001000100010001);
    w = (w & four) | (w >> 4 * r & four) << 32;
    w = (w & two) | (w >> 2 * r & two) << 16;
    return (w & one) | (w >> r & one) << 8;
}

/* Whole sixteens while the packed plane lasts; n_low and coded are the cut's, as constants. *done = units written. */
static inline __attribute__((always_inline)) bool qn_dense_merge_16(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst,
                                                                    const unsigned n_low, const bool coded, size_t *done)
{
    enum { TURN = 16 };
    const unsigned r = cut->n_pack, unit = n_low == 2 ? 4 : 2, sign_at = cut->top_bits - 1u, odd = (unsigned)(row->at * r % 8);
    const uint16_t frac_mask = (uint16_t)((1u << cut->frac_bits) - 1);
    const uint16_t base = row->base, code_mask = cut->code_mask;
    /* by multiplying: compilers know 16-bit vectors of products, but not of shifts by a variable */
    const uint16_t frac_up = (uint16_t)(1u << cut->frac_bits), sign_bit = coded ? 1 : frac_up;
    const uint16_t sign_up = (uint16_t)(1u << (coded ? sign_at : sign_at - cut->frac_bits));
    size_t i = 0;
    for (; row->n - i >= TURN; i += TURN) {
        const size_t byte = (row->at + i) * r / 8;
        if (byte + r + 8 > row->n_pack_bytes)
            break;
        const uint64_t w[2] = {qn_dense_apart(qn_load64(row->pack + byte) >> odd, r),
                               qn_dense_apart(qn_load64(row->pack + byte + r) >> odd, r)};
        const uint8_t *sym = row->sym + i, *low = row->low + (row->at + i) * n_low;
        uint16_t add[TURN], top[TURN];
        uint8_t raw[TURN], special = 0;
        qn_store64(raw, w[0]);
        qn_store64(raw + 8, w[1]);
        if (row->col)
            memcpy(add, row->col + i, sizeof add);
        else
            memset(add, 0, sizeof add);
        for (unsigned k = 0; k < TURN; k++)
            special |= sym[k] < QN_DENSE_FIRST;
        for (unsigned k = 0; k < TURN; k++) {
            const uint16_t code = (uint16_t)((sym[k] + base + add[k]) & code_mask);
            const uint16_t sign = (uint16_t)((uint16_t)((coded ? code : raw[k]) & sign_bit) * (unsigned)sign_up);
            const uint16_t high = (uint16_t)((uint16_t)(code >> coded) * (unsigned)frac_up);
            top[k] = (uint16_t)(sign | high | (raw[k] & frac_mask));
        }
        if (n_low == 0) {
            memcpy(dst + i * unit, top, sizeof top);
        } else if (n_low == 1) {
            for (unsigned k = 0; k < TURN; k++)
                top[k] = (uint16_t)((unsigned)top[k] << 8 | low[k]);
            memcpy(dst + i * unit, top, sizeof top);
        } else {
            uint16_t below[TURN];
            uint32_t out[TURN];
            memcpy(below, low, sizeof below);
            for (unsigned k = 0; k < TURN; k++)
                out[k] = (uint32_t)top[k] << 16 | below[k];
            memcpy(dst + i * unit, out, sizeof out);
        }
        for (unsigned k = 0; special && k < TURN; k++) {
            qn_dense_row one = *row;
            if (sym[k] >= QN_DENSE_FIRST)
                continue;
            one.sym += i + k;
            one.at += i + k;
            one.col = row->col ? row->col + i + k : NULL;
            one.n = 1;
            if (!qn_dense_merge_one(cut, &one, dst + (i + k) * unit))
                return false;
            row->esc = one.esc;
        }
    }
    *done = i;
    return true;
}

static inline __attribute__((always_inline)) bool qn_dense_merge_any(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst)
{
    size_t done = 0;
    bool ok = true;
    if (cut->n_low == 0)
        ok = cut->sign_coded ? qn_dense_merge_16(cut, row, dst, 0, true, &done) : qn_dense_merge_16(cut, row, dst, 0, false, &done);
    else if (cut->n_low == 1)
        ok = cut->sign_coded ? qn_dense_merge_16(cut, row, dst, 1, true, &done) : qn_dense_merge_16(cut, row, dst, 1, false, &done);
    else if (cut->n_low == 2)
        ok = cut->sign_coded ? qn_dense_merge_16(cut, row, dst, 2, true, &done) : qn_dense_merge_16(cut, row, dst, 2, false, &done);
    if (!ok)
        return false;
    qn_dense_row rest = *row;
    rest.sym += done;
    rest.at += done;
    rest.col = row->col ? row->col + done : NULL;
    rest.n -= done;
    ok = qn_dense_merge_one(cut, &rest, dst + done * (cut->top_bits / 8u + cut->n_low));
    row->esc = rest.esc;
    return ok;
}

#endif
