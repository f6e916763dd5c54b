/* lm_feed.c: see lm_feed.h. */
#include "analysis/eval/lm_feed.h"
#include "base/err.h"
#include <inttypes.h>
#include <string.h>

uint64_t qn_lm_feed_length(const qn_lm_feed *f, uint64_t chunk)
{
    return f->corpus->starts[chunk + 1] - f->corpus->starts[chunk] - !f->whole;
}

qn_code qn_lm_feed_open(qn_lm_feed *f, const qn_env *env, const qn_corpus *c, uint64_t batch_tokens, bool whole, qn_err *err)
{
    *f = (qn_lm_feed){.corpus = c, .alloc = env->alloc, .whole = whole};
    f->first = qn_mem_zeros(env->alloc, c->n_chunks + 1, sizeof *f->first, err);
    if (!f->first)
        return QN_E_MEMORY;
    uint64_t held = 0;
    for (uint64_t i = 0; i < c->n_chunks; i++) {
        const uint64_t n = qn_lm_feed_length(f, i);
        if (i == 0 || held + n > batch_tokens) {
            f->first[f->n_batches++] = i;
            held = 0;
        }
        held += n;
        f->n_tokens += n;
    }
    f->first[f->n_batches] = c->n_chunks;
    return QN_OK;
}

void qn_lm_feed_release(qn_lm_feed *f)
{
    qn_mem_put(f->alloc, f->first);
    f->first = NULL;
}

qn_code qn_lm_feed_batch(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err)
{
    const qn_lm_feed *f = ctx;
    const uint64_t lo = f->first[batch], hi = f->first[batch + 1];
    int64_t n = 0;
    for (uint64_t c = lo; c < hi; c++)
        n += (int64_t)qn_lm_feed_length(f, c);
    const int64_t n_starts = (int64_t)(hi - lo + 1);
    QN_TRY(qn_array_new(f->pool, &inputs[0], QN_I64, &n, 1, err));
    QN_TRY(qn_array_new(f->pool, &inputs[1], QN_I64, &n_starts, 1, err));
    int64_t *tokens = inputs[0].data, *starts = inputs[1].data, at = 0;
    for (uint64_t c = lo; c < hi; c++) {
        const uint32_t *ids = f->corpus->tokens + f->corpus->starts[c];
        const uint64_t len = qn_lm_feed_length(f, c);
        *starts++ = at;
        for (uint64_t i = 0; i < len; i++)
            tokens[at++] = ids[i];
    }
    *starts = at;
    return QN_OK;
}

qn_code qn_lm_check(const qn_graph *g, qn_err *err)
{
    if (!g->n_vocab || g->n_inputs != 2 || g->n_outputs != 1 || strcmp(g->values[g->inputs[0]].name, "tokens") != 0 ||
        strcmp(g->values[g->inputs[1]].name, "starts") != 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model (%s) is no language model: it has no tokens to predict", g->family);
    return qn_graph_check_runs(g, err);
}
