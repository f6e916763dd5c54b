/* measure_lm.c: what a model does on tokens; see measure.h.
 *
 * Interval of the 99th percentile of the divergence: Woodruff's (1952). The share of tokens above the percentile has an interval
 * over chunks; the quantiles at its ends are the interval's ends. */
#include "analysis/eval/evaluate.h"
#include "analysis/gate/measure.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void *keep(qn_report *r, const void *p, uint64_t n_bytes, qn_err *err)
{
    void *to = qn_arena_get(&r->arena, n_bytes + 1, 16, err);
    if (to)
        memcpy(to, p, n_bytes);
    return to;
}

static const char *keep_text(qn_report *r, const char *s, qn_err *err)
{
    return qn_arena_str(&r->arena, s, strlen(s), err);
}

/* Is the tensor of that name read by a node of the block? */
static bool reads(const qn_graph *g, uint32_t block, const char *name)
{
    const qn_graph_block *b = &g->blocks[block];
    const uint32_t v = qn_graph_find(g, name);
    for (uint32_t k = b->first_node; v != QN_NO_VALUE && k < b->first_node + b->n_nodes; k++)
        for (unsigned in = 0; in < g->nodes[k].n_in; in++)
            if (g->nodes[k].in[in] == v)
                return true;
    return false;
}

/* Stored bits per weight of the weights that a block reads. Names are the candidate's, the reference's, or (of two formats) those of neither. */
static double bits_of(const qn_graph *g, const qn_graph *ref, uint32_t block, const qn_report *r)
{
    uint64_t n_bytes = 0, n = 0;
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        const qn_report_tensor *t = &r->tensors[i];
        const bool by_number = t->layer != QN_REPORT_NO_LAYER && t->layer == qn_report_layer_of(g->blocks[block].name);
        if (by_number || reads(g, block, t->name) || reads(ref, block, t->name)) {
            n_bytes += t->n_bytes;
            n += t->n_weights;
        }
    }
    return n ? 8 * (double)n_bytes / (double)n : (double)NAN;
}

static qn_code take_layers(qn_report *r, const qn_graph *g, const qn_graph *ref, const qn_eval *e, qn_err *err)
{
    r->layers = qn_arena_get(&r->arena, (e->n_layers + 1u) * sizeof *r->layers, 16, err);
    if (!r->layers)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < e->n_layers; i++) {
        const qn_eval_layer *y = &e->layers[i];
        r->layers[i] = (qn_report_layer){.name = keep_text(r, y->name, err), .rel_rms = y->rel_rms, .max_abs = y->max_abs, .own_rel = y->own_rel,
                                         .bits = bits_of(g, ref, i, r)};
        if (!r->layers[i].name)
            return QN_E_MEMORY;
    }
    r->n_layers = e->n_layers;
    return QN_OK;
}

static void fill_histogram(qn_report *r, const float *kl, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        const double at = kl[i] > 0 ? floor(2 * (log2((double)kl[i]) + QN_REPORT_OCTAVE)) : 0;
        r->kl_histogram[at < 0 ? 0 : at >= QN_REPORT_BINS ? QN_REPORT_BINS - 1 : (unsigned)at]++;
    }
}

/* kl is reordered. */
static qn_code estimate_p99(qn_report *r, const qn_alloc *alloc, float *kl, uint64_t n, qn_err *err)
{
    const double q = 0.99;
    r->kl_p99 = (qn_estimate){.value = r->kl_quantiles[4], .se = (double)NAN, .low = (double)NAN, .high = (double)NAN};
    if (r->n_chunks < 2)
        return QN_OK;
    qn_chunk_score *above = qn_mem_zeros(alloc, r->n_chunks, sizeof *above, err);
    if (!above)
        return QN_E_MEMORY;
    uint64_t at = 0;
    for (uint64_t c = 0; c < r->n_chunks; c++)
        for (uint64_t i = 0; i < r->chunks[c].n && at < n; i++, at++) {
            above[c].n++;
            above[c].kl += (double)kl[at] > r->kl_p99.value; /* a share, as a mean of zeros and ones */
        }
    const qn_estimate share = qn_mean_of(above, r->n_chunks, offsetof(qn_chunk_score, kl));
    const double half = qn_student95(r->n_chunks - 1) * fmax(share.se, sqrt(q * (1 - q) / (double)n));
    r->kl_p99.low = qn_quantile(kl, n, fmax(0, q - half));
    r->kl_p99.high = qn_quantile(kl, n, fmin(1, q + half));
    qn_mem_put(alloc, above);
    return QN_OK;
}

static qn_code take(qn_report *r, const qn_env *env, const qn_graph *g, const qn_graph *ref, const qn_eval *e, qn_err *err)
{
    r->kl = e->kl;
    r->ppl = e->ppl;
    r->ppl_ref = e->ppl_ref;
    r->ppl_ratio = e->ppl_ratio;
    r->same_top = e->same_top;
    r->excess = qn_mean_excess(e->chunks, e->n_chunks);
    memcpy(r->kl_quantiles, e->kl_quantiles, sizeof r->kl_quantiles);
    r->max_dp = fmax(-e->dp_quantiles[0], e->dp_quantiles[6]);
    r->chunks = keep(r, e->chunks, e->n_chunks * sizeof *e->chunks, err);
    if (!r->chunks)
        return QN_E_MEMORY;
    r->n_chunks = r->b.n_chunks = e->n_chunks;
    r->b.n_scored = e->n_scored;
    fill_histogram(r, e->token_kl, e->n_scored);
    QN_TRY(take_layers(r, g, ref, e, err));
    return estimate_p99(r, env->alloc, e->token_kl, e->n_scored, err);
}

/* The first chunks once more, on another number of threads and in other batches. */
static qn_code measure_noise(const qn_env *env, const qn_graph *g, const qn_graph *ref, const qn_corpus *c, const qn_measure_options *o,
                             qn_report *r, qn_err *err)
{
    const uint64_t n = qn_min_u64(o->noise_chunks, c->n_chunks);
    qn_corpus some = *c;
    qn_env other = *env;
    qn_eval e;
    some.n_chunks = n;
    some.n_tokens = c->starts[n];
    some.n_scored = 0;
    for (uint64_t i = 0; i < n; i++)
        some.n_scored += c->starts[i + 1] - c->starts[i] - c->score_from[i];
    other.n_threads = env->n_threads > 1 ? env->n_threads - 1 : 2;
    other.progress = NULL;
    const qn_eval_options eo = {.memory_bytes = o->memory_bytes, .batch_tokens = (o->batch_tokens ? o->batch_tokens : 1024) / 3 + 1};
    QN_TRY(qn_evaluate(&other, g, ref, &some, &eo, &e, err));
    r->noise_kl = r->noise_nll = 0;
    for (uint64_t i = 0; i < n; i++) {
        const double tokens = (double)e.chunks[i].n;
        r->noise_kl = fmax(r->noise_kl, fabs(e.chunks[i].kl - r->chunks[i].kl) / tokens);
        r->noise_nll = fmax(r->noise_nll, fabs(e.chunks[i].nll - r->chunks[i].nll) / tokens);
    }
    qn_eval_release(&e);
    return QN_OK;
}

qn_code qn_measure_lm(const qn_env *env, const qn_graph *g, const qn_graph *ref, const qn_corpus *c, const char *data_path,
                      const qn_digest *tokenizer, const qn_measure_options *o, qn_report *r, qn_err *err)
{
    const bool alike = g->n_blocks == ref->n_blocks;
    const qn_eval_options eo = {.memory_bytes = o->memory_bytes, .batch_tokens = o->batch_tokens, .layers = o->layers && alike,
                                .own = o->layers && alike, .tokens = true};
    qn_eval e;
    qn_err why;
    qn_err_clear(&why);
    r->b.data_path = keep_text(r, data_path, err);
    if (!r->b.data_path)
        return QN_E_MEMORY;
    r->b.data = c->digest;
    r->b.context = c->context;
    r->b.n_chunks = c->n_chunks;
    r->b.n_scored = c->n_scored;
    if (tokenizer)
        r->b.tokenizer = *tokenizer;
    qn_code rc = qn_evaluate(env, g, ref, c, &eo, &e, &why);
    if (rc == QN_E_INPUT) {
        char line[512];
        qn_err_line(&why, line, sizeof line);
        r->cannot_run = keep_text(r, line, err);
        return r->cannot_run ? QN_OK : QN_E_MEMORY;
    }
    if (rc != QN_OK) {
        if (err)
            *err = why;
        return rc;
    }
    r->is_lm = true;
    rc = take(r, env, g, ref, &e, err);
    qn_eval_release(&e);
    return rc == QN_OK && o->noise_chunks ? measure_noise(env, g, ref, c, o, r, err) : rc;
}
