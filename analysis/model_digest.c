/* model_digest.c: see model_digest.h. */
#include "analysis/model_digest.h"
#include "base/err.h"
#include "base/num.h"
#include "base/threads.h"
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 20 };

struct pass {
    qn_source *s;
    const qn_env *env;
    qn_digest *digests; /* per tensor */
};

static qn_code one(void *ctx, uint64_t t, unsigned slot, qn_err *err)
{
    (void)slot;
    struct pass *p = ctx;
    const qn_source_tensor *x = &p->s->tensors[t];
    qn_hasher h;
    QN_TRY(qn_env_check(p->env, err));
    QN_TRY(qn_hasher_open(&h, err));
    uint8_t *buf = qn_mem_get(p->env->alloc, qn_min_u64(PIECE, x->n_bytes), err);
    qn_code rc = buf ? QN_OK : QN_E_MEMORY;
    for (uint64_t at = 0; at < x->n_bytes && rc == QN_OK; at += PIECE) {
        const uint64_t n = qn_min_u64(PIECE, x->n_bytes - at);
        rc = qn_source_tensor_read(p->s, t, at, n, buf, err);
        if (rc == QN_OK)
            qn_hasher_add(&h, buf, n);
    }
    if (rc == QN_OK)
        p->digests[t] = qn_hasher_digest(&h);
    qn_hasher_close(&h);
    qn_mem_put(p->env->alloc, buf);
    return qn_err_in_tensor(err, rc, x->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const qn_source_tensor *const *)a)->name, (*(const qn_source_tensor *const *)b)->name);
}

static void add_tensor(qn_hasher *h, const qn_source_tensor *t, const qn_digest *content)
{
    uint8_t number[8];
    qn_hasher_add(h, t->name, strlen(t->name) + 1);
    number[0] = t->dtype;
    number[1] = t->rank;
    qn_hasher_add(h, number, 2);
    for (unsigned k = 0; k < t->rank; k++) {
        qn_store64(number, t->dims[k]);
        qn_hasher_add(h, number, 8);
    }
    qn_hasher_add(h, content->b, sizeof content->b);
}

qn_code qn_model_digest(const qn_env *env, qn_source *s, qn_digest *out, qn_err *err)
{
    struct pass p = {.s = s, .env = env};
    p.digests = qn_mem_zeros(env->alloc, s->n_tensors + 1, sizeof *p.digests, err);
    const qn_source_tensor **order = p.digests ? qn_mem_get(env->alloc, (s->n_tensors + 1) * sizeof *order, err) : NULL;
    const qn_job job = {.work = one, .ctx = &p};
    qn_code rc = order ? qn_run(env, &job, s->n_tensors, env->n_threads, err) : QN_E_MEMORY;
    qn_hasher h = {0};
    if (rc == QN_OK)
        rc = qn_hasher_open(&h, err);
    if (rc == QN_OK) {
        for (uint64_t i = 0; i < s->n_tensors; i++)
            order[i] = &s->tensors[i];
        qsort(order, (size_t)s->n_tensors, sizeof *order, by_name);
        for (uint64_t i = 0; i < s->n_tensors; i++)
            add_tensor(&h, order[i], &p.digests[order[i] - s->tensors]);
        *out = qn_hasher_digest(&h);
    }
    qn_hasher_close(&h);
    qn_mem_put(env->alloc, order);
    qn_mem_put(env->alloc, p.digests);
    return rc;
}
