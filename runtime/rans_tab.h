/* rans_tab.h: what surrounds the rANS kernel: frequency tables as they are stored, alias tables, states, and whole
 * streams. Shared by the dense and the order0 codec, decoder and encoder. Format: docs/codecs/order0.md. */
#ifndef QN_RUNTIME_RANS_TAB_H
#define QN_RUNTIME_RANS_TAB_H

#include "base/num.h"
#include "runtime/codec.h"

#define QN_RANS_KEEP_MAX 11 /* most bits of a weight stored below its leading one */

/* Weights → frequencies that sum to QN_RANS_M: every positive weight gets at least 1; a lone symbol gets a companion,
 * so that none reaches M. At least one weight must be positive, and their sum below 2^32. */
void qn_rans_normalise(const uint16_t weight[256], unsigned n_sym, uint16_t freq[256]);

/* Reads the weights of n_sym (≤ 256) symbols and normalises them. `kept` (may be NULL): the stored precision. */
qn_code qn_rans_read_freq(qn_cur *c, unsigned n_sym, uint16_t freq[256], qn_err *err) QN_MUST_CHECK;

/* Alias tables of freq (sum QN_RANS_M, all below M, zero from n_sym on). Up to 64 live symbols get 64 buckets: they
 * are renumbered in rising order, and `map` leads back. */
void qn_rans_tab_make(qn_rans_tab *t, const uint16_t freq[256]);
/* The same for exactly 64 symbols that stay as they are. */
void qn_rans_tab_make64(qn_rans_tab *t, const uint16_t freq[64]);

/* Lane states (n_lanes × u32), each ≥ 2^16. */
qn_code qn_rans_begin(qn_rans *s, qn_cur *c, unsigned log2_lanes, qn_err *err) QN_MUST_CHECK;
/* All words used, all lanes back at the start. */
qn_code qn_rans_finish(const qn_rans *s, bool exact, qn_err *err) QN_MUST_CHECK;

/* Decodes a whole order0 payload to n bytes. */
qn_code qn_rans_unpack(const qn_kern *k, const uint8_t *payload, size_t n_bytes, uint8_t *dst, size_t n,
                       qn_err *err) QN_MUST_CHECK;
/* The same behind a varint length, as side information is stored inside other payloads; a length of n means n plain bytes. */
qn_code qn_rans_unpack_side(const qn_kern *k, qn_cur *c, uint8_t *dst, size_t n, qn_err *err) QN_MUST_CHECK;

#endif
