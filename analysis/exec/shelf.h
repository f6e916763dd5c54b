/* shelf.h: where the values that flow from one block to the next wait, for every batch: in memory or in a file. */
#ifndef QN_ANALYSIS_EXEC_SHELF_H
#define QN_ANALYSIS_EXEC_SHELF_H

#include "analysis/exec/array.h"
#include "base/env.h"

typedef struct qn_shelf {
    const qn_env *env;
    qn_pool *pool;
    qn_array *slots;   /* n_batches × n_values; spilled ones have no data */
    uint64_t *offs;    /* where in the file                               */
    uint64_t n_slots, end_off;
    qn_file file;      /* closed unless something was spilled             */
    bool spill;
} qn_shelf;

qn_code qn_shelf_open(qn_shelf *s, const qn_env *env, qn_pool *pool, uint64_t n_slots, bool spill, qn_err *err) QN_MUST_CHECK;
/* Takes the reference over. */
qn_code qn_shelf_put(qn_shelf *s, uint64_t slot, qn_array *a, qn_err *err) QN_MUST_CHECK;
/* A reference of the caller's own. */
qn_code qn_shelf_get(qn_shelf *s, uint64_t slot, qn_array *a, qn_err *err) QN_MUST_CHECK;
void qn_shelf_close(qn_shelf *s); /* a zeroed one is fine */

#endif
