/* order.h: which batches are held out, and the order of the others: shuffles that the seed and the epoch decide alone. Internal to compress/train/. */
#ifndef QN_COMPRESS_TRAIN_ORDER_H
#define QN_COMPRESS_TRAIN_ORDER_H

#include "base/env.h"

typedef struct qn_train_order {
    const qn_env *env;
    uint64_t *held, *trained, *epoch; /* batches; epoch: `trained` in the order of epoch `now` */
    uint64_t n_held, n_trained, now, seed;
} qn_train_order;

/* n_held is lessened so that something is left to train; of one batch both lists hold it. */
qn_code qn_train_order_open(const qn_env *env, uint64_t n_batches, uint64_t n_held, uint64_t seed, qn_train_order *r, qn_err *err) QN_MUST_CHECK;
void qn_train_order_close(qn_train_order *r); /* zeroed is fine */
/* The batch at a place that counts on through the epochs. */
qn_code qn_train_order_at(qn_train_order *r, uint64_t place, uint64_t *batch, qn_err *err) QN_MUST_CHECK;

#endif
