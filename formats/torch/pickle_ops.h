/* pickle_ops.h: between the machine and its opcodes. */
#ifndef QN_FORMATS_TORCH_PICKLE_OPS_H
#define QN_FORMATS_TORCH_PICKLE_OPS_H

#include "formats/torch/pickle.h"

/* "BINPUT"; "opcode" when there is none of that number. */
const char *qn_pk_op_name(uint8_t op);
/* Carries out p->op, whose operands come next in the input. STOP is not among them. */
qn_code qn_pk_step(qn_pickle *p, qn_err *err) QN_MUST_CHECK;

qn_code qn_pk_push(qn_pickle *p, qn_pk *v, qn_err *err) QN_MUST_CHECK; /* NULL: fails, as told already */
qn_code qn_pk_peek(qn_pickle *p, qn_pk **v, qn_err *err) QN_MUST_CHECK;
qn_code qn_pk_pop(qn_pickle *p, qn_pk **v, qn_err *err) QN_MUST_CHECK;
qn_code qn_pk_push_mark(qn_pickle *p, qn_err *err) QN_MUST_CHECK;
/* What was pushed since the last mark: n items, valid until the next push. */
qn_code qn_pk_pop_mark(qn_pickle *p, qn_pk ***items, uint32_t *n, qn_err *err) QN_MUST_CHECK;
qn_code qn_pk_memo_put(qn_pickle *p, uint64_t i, qn_err *err) QN_MUST_CHECK;
qn_code qn_pk_memo_get(qn_pickle *p, uint64_t i, qn_err *err) QN_MUST_CHECK;

#endif
