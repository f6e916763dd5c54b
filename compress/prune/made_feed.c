/* made_feed.c: made-up inputs. */
#include "compress/prune/made_feed.h"
#include "base/err.h"
#include "base/random.h"
#include <string.h>

/* Near enough to a normal: four uniform numbers of 16 bits, variance 1. */
static float normal(uint64_t r)
{
    const double sum = (double)(r & 0xFFFF) + (double)((r >> 16) & 0xFFFF) + (double)((r >> 32) & 0xFFFF) + (double)(r >> 48);
    return (float)((sum / 65535 - 2) * 1.7320508075688772);
}

static void fill(const qn_graph *g, const char *name, uint64_t seed, qn_array *a)
{
    if (g->n_vocab && !strcmp(name, "starts")) {
        int64_t *p = a->data;
        const int64_t each = a->n > 1 ? p[a->n - 1] : 0; /* its last element was set to the number of tokens */
        for (uint64_t i = 0; i + 1 < a->n; i++)
            p[i] = each * (int64_t)i / (int64_t)(a->n - 1);
        return;
    }
    for (uint64_t i = 0; i < a->n; i++) {
        const uint64_t r = qn_random_at(seed + (i + 1) * QN_RANDOM_STEP); /* by its place: nothing needs a state */
        const uint64_t whole = g->n_vocab && !strcmp(name, "tokens") ? r % g->n_vocab : r >> 63;
        switch (a->dtype) {
        case QN_F32: ((float *)a->data)[i] = normal(r); break;
        case QN_F64: ((double *)a->data)[i] = (double)normal(r); break;
        case QN_I64: case QN_U64: ((uint64_t *)a->data)[i] = whole; break;
        case QN_I32: case QN_U32: ((uint32_t *)a->data)[i] = (uint32_t)whole; break;
        case QN_I16: case QN_U16: ((uint16_t *)a->data)[i] = (uint16_t)whole; break;
        default: ((uint8_t *)a->data)[i] = (uint8_t)whole; break;
        }
    }
}

static qn_code batch_of(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err)
{
    const qn_made_feed *m = ctx;
    const qn_graph *g = m->groups->graph;
    int64_t n_tokens = 0;
    for (uint32_t i = 0; i < g->n_inputs; i++)
        if (g->n_vocab && !strcmp(g->values[g->inputs[i]].name, "tokens"))
            n_tokens = m->groups->dims[(uint64_t)g->inputs[i] * QN_ARRAY_RANK_MAX];
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        const qn_value *v = &g->values[g->inputs[i]];
        const uint8_t rank = m->groups->rank[g->inputs[i]];
        if (rank > QN_ARRAY_RANK_MAX)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the shape of the input '%s' is not known: give data for it", v->name);
        QN_TRY(qn_array_new(m->pool, &inputs[i], (qn_dtype)v->dtype, m->groups->dims + (uint64_t)g->inputs[i] * QN_ARRAY_RANK_MAX, rank, err));
        if (inputs[i].n && v->dtype == QN_I64)
            ((int64_t *)inputs[i].data)[inputs[i].n - 1] = n_tokens;
        fill(g, v->name, m->seed * 1000003 + batch * 1009 + i, &inputs[i]);
    }
    return QN_OK;
}

void qn_made_feed_open(qn_made_feed *m, const qn_groups *s, uint64_t seed, uint64_t n_batches, qn_calibrate_feed *out)
{
    *m = (qn_made_feed){.groups = s, .seed = seed};
    *out = (qn_calibrate_feed){.n_batches = n_batches, .n_tokens = n_batches, .feed = batch_of, .ctx = m, .pool = &m->pool};
}
