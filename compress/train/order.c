/* order.c: see order.h. Fisher and Yates's shuffle over splitmix64. */
#include "compress/train/order.h"
#include "base/alloc.h"
#include "base/err.h"
#include "base/num.h"
#include "base/random.h"
#include <string.h>

static void shuffle(uint64_t *list, uint64_t n, uint64_t seed, uint64_t epoch)
{
    uint64_t state = seed;
    state = qn_random(&state) + epoch;
    for (uint64_t i = n; i > 1; i--) {
        const uint64_t k = qn_random(&state) % i, t = list[i - 1]; /* the bias of % is below n / 2^64 */
        list[i - 1] = list[k];
        list[k] = t;
    }
}

qn_code qn_train_order_open(const qn_env *env, uint64_t n_batches, uint64_t n_held, uint64_t seed, qn_train_order *r, qn_err *err)
{
    *r = (qn_train_order){.env = env, .seed = seed, .now = UINT64_MAX};
    r->held = qn_mem_zeros(env->alloc, n_batches + 1, sizeof *r->held, err);
    r->epoch = qn_mem_zeros(env->alloc, n_batches + 1, sizeof *r->epoch, err);
    if (!r->held || !r->epoch)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < n_batches; i++)
        r->held[i] = i;
    shuffle(r->held, n_batches, seed, 0);
    r->n_held = n_batches > 1 ? qn_min_u64(qn_max_u64(1, n_held), n_batches - 1) : n_batches;
    r->n_trained = n_batches > 1 ? n_batches - r->n_held : n_batches;
    r->trained = n_batches > 1 ? r->held + r->n_held : r->held;
    return QN_OK;
}

void qn_train_order_close(qn_train_order *r)
{
    if (!r->env)
        return;
    qn_mem_put(r->env->alloc, r->held);
    qn_mem_put(r->env->alloc, r->epoch);
}

qn_code qn_train_order_at(qn_train_order *r, uint64_t place, uint64_t *batch, qn_err *err)
{
    if (!r->n_trained)
        return QN_BUG(err, "no batches to train with");
    const uint64_t epoch = place / r->n_trained;
    if (epoch != r->now) {
        memcpy(r->epoch, r->trained, r->n_trained * sizeof *r->epoch);
        shuffle(r->epoch, r->n_trained, r->seed, epoch + 1);
        r->now = epoch;
    }
    *batch = r->epoch[place % r->n_trained];
    return QN_OK;
}
