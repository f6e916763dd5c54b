/* prune_depth.c: whole layers and experts of a language model, as a part of the pass. */
#include "base/err.h"
#include "compress/prune/prune.h"
#include <inttypes.h>

static qn_code layers(qn_prune *p, uint64_t n_batches, qn_err *err)
{
    const uint32_t n = p->options->drop_layers;
    if (!n)
        return QN_OK;
    if (n >= p->n_layers)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%" PRIu32 " of %" PRIu32 " layers shall go: at least 1 must stay", n, p->n_layers);
    if (!p->measure)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "choosing layers that go needs calibration data");
    p->layers_gone = qn_mem_zeros(p->env->alloc, p->n_layers, 1, err);
    if (!p->layers_gone)
        return QN_E_MEMORY;
    QN_TRY(qn_depth_choose(p->graph, p->measure, p->weights, n_batches, n, p->layers_gone, p->n_layers, NULL, err));
    return qn_depth_bypass(p->graph, p->layers_gone, p->n_layers, p->weights, err);
}

static qn_code experts(qn_prune *p, qn_err *err)
{
    const uint32_t n = p->options->drop_experts;
    if (!n)
        return QN_OK;
    if (n >= p->n_experts)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%" PRIu32 " of %" PRIu32 " experts shall go: at least 1 must stay", n, p->n_experts);
    if (!p->has_data)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "choosing experts that go needs calibration data");
    const uint64_t all = (uint64_t)p->n_layers * p->n_experts;
    double *score = qn_mem_zeros(p->env->alloc, all, sizeof *score, err);
    p->experts_gone = qn_mem_zeros(p->env->alloc, all, 1, err);
    p->experts_of = qn_mem_zeros(p->env->alloc, p->n_layers, sizeof *p->experts_of, err);
    qn_code rc = score && p->experts_gone && p->experts_of ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = qn_depth_experts(p->env, p->graph, &p->feed, p->options->memory_bytes, score, NULL, p->n_layers, p->n_experts, err);
    if (rc == QN_OK)
        qn_depth_pick(score, p->n_layers, p->n_experts, n, p->experts_gone);
    for (uint32_t i = 0; i < p->n_layers && rc == QN_OK; i++) {
        bool any = false;
        for (uint32_t e = 0; e < p->n_experts; e++)
            any = any || p->experts_gone[(uint64_t)i * p->n_experts + e];
        p->experts_of[i] = any ? p->experts_gone + (uint64_t)i * p->n_experts : NULL;
    }
    qn_mem_put(p->env->alloc, score);
    if (rc != QN_OK)
        return rc;
    const qn_depth d = qn_prune_depth_of(p);
    return qn_depth_mask_open(p->env, p->graph, &d, &p->mask, err);
}

qn_code qn_prune_depth(qn_prune *p, uint64_t n_batches, qn_err *err)
{
    if (!p->options->drop_layers && !p->options->drop_experts)
        return QN_OK;
    qn_depth_size(p->graph, &p->n_layers, &p->n_experts);
    QN_TRY(layers(p, n_batches, err));
    return experts(p, err);
}

qn_depth qn_prune_depth_of(const qn_prune *p)
{
    return (qn_depth){.layers = p->layers_gone, .n_layers = p->n_layers, .experts = p->experts_of, .n_experts = p->n_experts};
}

void qn_prune_depth_release(qn_prune *p)
{
    qn_mem_put(p->env->alloc, p->layers_gone);
    qn_mem_put(p->env->alloc, p->experts_gone);
    qn_mem_put(p->env->alloc, p->experts_of);
    qn_depth_mask_close(p->mask);
}
