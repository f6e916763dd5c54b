/* rans_pack.h: the encoder's side of runtime/rans_tab.h: frequency tables from counts, and whole streams. */
#ifndef QN_COMPRESS_RANS_PACK_H
#define QN_COMPRESS_RANS_PACK_H

#include "compress/encode.h"
#include "runtime/rans_tab.h"

#define QN_RANS_TABLE_MAX 1024 /* bytes of a stored frequency table, generous */

typedef struct qn_rans_plan {
    uint16_t freq[256];              /* as the decoder will have them    */
    uint8_t table[QN_RANS_TABLE_MAX]; /* as they are stored               */
    size_t table_bytes;
    uint64_t cost; /* bits × 2^16 of the symbols, without the table */
} qn_rans_plan;

/* The cheapest stored table for these counts (n_sym ≤ 256, sum ≥ 1), precision against its size. */
void qn_rans_plan_make(qn_rans_plan *p, const uint32_t count[256], unsigned n_sym);

void qn_rans_etab_make(qn_rans_etab *e, const qn_rans_tab *t, const uint16_t freq[256]);

/* How many lanes n units deserve: each costs about 2½ bytes and speeds decoding up. */
unsigned qn_rans_log2_lanes(size_t n);

/* n bytes as an order0 payload, or 0 when it would need more than cap bytes. */
qn_code qn_rans_pack(const qn_enc_ctx *cx, const uint8_t *src, size_t n, uint8_t *dst, size_t cap, size_t *n_out,
                     qn_err *err) QN_MUST_CHECK;
/* Side information: varint length and payload, or the plain bytes when those are shorter. dst has room for n + 10. */
qn_code qn_rans_pack_side(const qn_enc_ctx *cx, const uint8_t *src, size_t n, uint8_t *dst, size_t *n_out,
                          qn_err *err) QN_MUST_CHECK;

#endif
