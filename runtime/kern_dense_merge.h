/* kern_dense_merge.h: the merge of symbols and raw bits, 16 units at a time, in plain C that vectorises: compiled once for any
 * machine and once for AVX2. */
#ifndef QN_RUNTIME_KERN_DENSE_MERGE_H
#define QN_RUNTIME_KERN_DENSE_MERGE_H

#include "base/num.h"
#include "runtime/kern_dense.h"

/* Whole sixteens while the packed plane lasts; n_low and coded are the cut's, as constants. *done = units written. */
static inline __attribute__((always_inline)) bool qn_dense_merge_16(const qn_dense_cut *cut, qn_dense_row *row, uint8_t *dst,
                                                                    const unsigned n_low, const bool coded, size_t *done)
{
    enum { TURN = 16 };
    const unsigned r = cut->n_pack, unit = n_low == 2 ? 4 : 2, sign_at = cut->top_bits - 1u, odd = (unsigned)(row->at * r % 8);
    const uint16_t raw_mask = (uint16_t)((1u << r) - 1), frac_mask = (uint16_t)((1u << cut->frac_bits) - 1);
    const uint16_t base = row->base, code_mask = cut->code_mask;
    const unsigned frac_bits = cut->frac_bits;
    size_t i = 0;
    for (; row->n - i >= TURN; i += TURN) {
        const size_t byte = (row->at + i) * r / 8;
        if (byte + r + 8 > row->n_pack_bytes)
            break;
        const uint64_t w[2] = {qn_load64(row->pack + byte) >> odd, qn_load64(row->pack + byte + r) >> odd};
        const uint8_t *sym = row->sym + i, *low = row->low + (row->at + i) * n_low;
        uint16_t raw[TURN], add[TURN], top[TURN];
        uint8_t special = 0;
        for (unsigned k = 0; k < TURN; k++)
            raw[k] = (uint16_t)((w[k / 8] >> (k % 8 * r)) & raw_mask);
        if (row->col)
            memcpy(add, row->col + i, sizeof add);
        else
            memset(add, 0, sizeof add);
        for (unsigned k = 0; k < TURN; k++)
            special |= sym[k] < QN_DENSE_FIRST;
        for (unsigned k = 0; k < TURN; k++) {
            const uint16_t code = (uint16_t)((sym[k] + base + add[k]) & code_mask);
            const uint16_t sign = (uint16_t)((coded ? code & 1u : (unsigned)(raw[k] >> frac_bits) & 1u) << sign_at);
            top[k] = (uint16_t)(sign | (unsigned)(code >> coded) << frac_bits | (raw[k] & frac_mask));
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
