/* pvq_shells.h: the form of the pvq codec in which every group tells its own number of pulses. docs/codecs/pvq.md. */
#ifndef QN_RUNTIME_PVQ_SHELLS_H
#define QN_RUNTIME_PVQ_SHELLS_H

#include "base/num.h"
#include "runtime/codec.h"

/* The rest of a payload, behind base, whose form and block were checked. */
qn_code qn_pvq_shells(const qn_dec_ctx *cx, const qn_block *b, float base, qn_cur *c, uint8_t *dst,
                      qn_err *err) QN_MUST_CHECK;

#endif
