/* nest.h: payloads inside payloads: one byte codec id, varint length, payload. Decoded one level deeper. */
#ifndef QN_RUNTIME_NEST_H
#define QN_RUNTIME_NEST_H

#include "base/num.h"
#include "runtime/codec.h"

/* Decodes the nested payload at the cursor into dst (b->n × unit bytes). `what` names it in messages. */
qn_code qn_nest_decode(const qn_dec_ctx *cx, qn_cur *c, const qn_block *b, uint8_t *dst, const char *what,
                       qn_err *err) QN_MUST_CHECK;

/* The same into new scratch memory; NULL on failure, then *err and *rc say why. */
uint8_t *qn_nest_get(const qn_dec_ctx *cx, qn_cur *c, const qn_block *b, const char *what, qn_code *rc,
                     qn_err *err) QN_MUST_CHECK;

/* Every payload ends where its last part does. */
qn_code qn_nest_end(const qn_cur *c, const char *what, qn_err *err) QN_MUST_CHECK;

/* A list of n ascending positions below `limit`, as varints: distance to the one before, less one; the first is itself.
 * n is at most `limit`; storage comes from scratch. */
uint32_t *qn_nest_positions(const qn_dec_ctx *cx, qn_cur *c, uint64_t n, uint32_t limit, const char *what, qn_code *rc,
                            qn_err *err) QN_MUST_CHECK;

#endif
