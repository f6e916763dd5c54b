/* recover_gradual.c: groups that go while the model trains (HESSO, Chen et al. 2024): the first half of the steps is cut into periods; at the start of each the
 * groups that go next are chosen, over its L steps they shrink linearly to 0, x ← x · (L − t − 1) / (L − t) after step t, and then they are gone for good. What
 * shrinks are the columns that read the group (slices.h), which works for any activation. */
#include "base/err.h"
#include "compress/prune/recover_impl.h"

qn_code qn_gradual_begin(void *ctx, qn_train_view *v, qn_err *err)
{
    qn_recover_run *r = ctx;
    const uint32_t period = v->step / r->length;
    if (period >= r->periods || v->step % r->length)
        return QN_OK;
    QN_TRY(qn_recover_score(r, v, err));
    return qn_recover_choose(r, (double)(period + 1) / (double)r->periods, period + 1 == r->periods, err);
}

qn_code qn_gradual_after(void *ctx, qn_train_view *v, qn_err *err)
{
    qn_recover_run *r = ctx;
    const uint32_t t = v->step % r->length;
    if (v->step / r->length >= r->periods)
        return QN_OK;
    for (uint32_t g = 0; g < r->slices.n; g++)
        r->by[g] = r->state[g] == 2 ? (double)(r->length - t - 1) / (double)(r->length - t) : 1;
    qn_slices_scale(&r->slices, r->by, v->w);
    if (t + 1 < r->length)
        return QN_OK;
    for (uint32_t g = 0; g < r->slices.n; g++)
        r->state[g] = r->state[g] == 2 ? 1 : r->state[g];
    return qn_recover_commit(r, v, err);
}
