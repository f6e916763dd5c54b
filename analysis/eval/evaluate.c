/* evaluate.c: see evaluate.h. */
#include "analysis/eval/evaluate.h"
#include "analysis/eval/lm_feed.h"
#include "base/err.h"
#include "base/num.h"
#include "base/team.h"
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

const double qn_eval_quantiles[7] = {0, 0.05, 0.5, 0.95, 0.99, 0.999, 1};

enum { BATCH_TOKENS = 1024, ROWS_PER_PART = 8 };

/* A model on its way. */
struct side {
    const qn_graph *graph;
    qn_exec *exec;
    qn_streamer *stream;
    qn_lm_feed feed;
};

struct run {
    const qn_env *env;
    const qn_corpus *corpus;
    const qn_eval_options *o;
    qn_eval *e;
    struct side model, ref, own; /* own: the model again, whose blocks are given what the reference's get */
    qn_team *team;
    float *kl, *dp;         /* per scored token, for the quantiles */
    uint64_t n_done;        /* of them */
    uint64_t work, work_done; /* tokens × blocks, of both */
};

static void progress(struct run *r, uint64_t more)
{
    r->work_done += more;
    if (r->env->progress)
        r->env->progress(r->env->progress_ctx, "evaluating tokens",
                         (uint64_t)((double)r->work_done / (double)r->work * (double)r->model.feed.n_tokens), r->model.feed.n_tokens);
}

static qn_code open_side(struct run *r, struct side *s, const qn_graph *g, uint64_t memory, uint64_t batch, bool is_ref, qn_err *err)
{
    s->graph = g;
    QN_TRY(qn_lm_check(g, err));
    const qn_exec_options o = {.memory_bytes = memory, .read = is_ref ? NULL : r->o->read, .read_ctx = r->o->read_ctx};
    QN_TRY(qn_exec_open(r->env, g, &o, &s->exec, err));
    QN_TRY(qn_lm_feed_open(&s->feed, r->env, r->corpus, batch, false, err));
    s->feed.pool = qn_exec_pool(s->exec);
    const qn_stream st = {.n_batches = s->feed.n_batches, .feed = qn_lm_feed_batch, .ctx = &s->feed};
    r->work += s->feed.n_tokens * g->n_blocks;
    return qn_streamer_open(s->exec, &st, &s->stream, err);
}

static void close_side(struct side *s)
{
    qn_streamer_close(s->stream);
    qn_exec_close(s->exec);
    qn_lm_feed_release(&s->feed);
}

static qn_code step(struct run *r, struct side *s, bool *more, uint32_t *block, qn_err *err)
{
    QN_TRY(qn_streamer_step(s->stream, more, block, err));
    if (*more)
        progress(r, s->feed.n_tokens);
    return QN_OK;
}

/* Error of what waits behind a block of a model, over all batches and values. */
static qn_code compare_block(struct run *r, qn_streamer *model, uint32_t block, double *rel, double *most, qn_err *err)
{
    double diff2 = 0, ref2 = 0;
    *most = 0;
    for (uint64_t b = 0; b < r->model.feed.n_batches; b++)
        for (uint32_t i = 0; qn_streamer_waiting(model, i) != QN_NO_VALUE; i++) {
            qn_array y = {0}, want = {0};
            if (qn_streamer_waiting(r->ref.stream, i) == QN_NO_VALUE)
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the models differ in what flows out of block '%s'", r->model.graph->blocks[block].name);
            qn_code rc = qn_streamer_look(model, b, i, &y, err);
            if (rc == QN_OK)
                rc = qn_streamer_look(r->ref.stream, b, i, &want, err);
            if (rc == QN_OK && (y.n != want.n || y.dtype != QN_F32 || want.dtype != QN_F32))
                rc = QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the models differ in the shape of what flows out of block '%s'",
                             r->model.graph->blocks[block].name);
            for (uint64_t k = 0; rc == QN_OK && k < y.n; k++) {
                const double w = (double)((const float *)want.data)[k], d = (double)((const float *)y.data)[k] - w;
                diff2 += d * d;
                ref2 += w * w;
                *most = fmax(*most, fabs(d));
            }
            qn_array_release(&y);
            qn_array_release(&want);
            QN_TRY(rc);
        }
    *rel = ref2 > 0 ? sqrt(diff2 / ref2) : diff2 > 0 ? (double)INFINITY : 0;
    return QN_OK;
}

static qn_code compare_layer(struct run *r, uint32_t block, qn_err *err)
{
    qn_eval_layer y = {.name = r->model.graph->blocks[block].name, .own_rel = (double)NAN};
    double most;
    QN_TRY(compare_block(r, r->model.stream, block, &y.rel_rms, &y.max_abs, err));
    if (r->own.stream && block == 0)
        y.own_rel = y.rel_rms;
    else if (r->own.stream)
        QN_TRY(compare_block(r, r->own.stream, block, &y.own_rel, &most, err));
    r->e->layers[r->e->n_layers++] = y;
    return QN_OK;
}

/* Before the reference goes through the block it waits at: the model's block alone, on the same. */
static qn_code step_own(struct run *r, qn_err *err)
{
    uint32_t block;
    bool more;
    QN_TRY(qn_streamer_adopt(r->own.stream, r->ref.stream, err));
    return step(r, &r->own, &more, &block, err);
}

/* Rows of a batch's logits that are scored. */
struct scoring {
    const float *logits, *ref;
    uint32_t n_vocab;
    const uint64_t *rows;
    const uint32_t *targets;
    qn_token_score *scores;
    uint64_t n;
};

static qn_code score_part(void *ctx, uint64_t part, unsigned slot, qn_err *err)
{
    (void)slot;
    const struct scoring *s = ctx;
    for (uint64_t i = part * ROWS_PER_PART; i < s->n && i < (part + 1) * ROWS_PER_PART; i++) {
        const uint64_t at = s->rows[i] * s->n_vocab;
        QN_TRY(qn_score_token(s->logits + at, s->ref ? s->ref + at : NULL, s->n_vocab, s->targets[i], &s->scores[i], err));
    }
    return QN_OK;
}

static qn_code check_logits(const qn_array *a, uint64_t n_rows, uint32_t n_vocab, qn_err *err)
{
    char text[128];
    if (a->dtype != QN_F32 || a->rank != 2 || (uint64_t)a->dims[0] != n_rows || a->dims[1] != (int64_t)n_vocab)
        return QN_FAIL(err, QN_E_BUG, QN_NO_OFFSET, "logits %s for %" PRIu64 " tokens of %" PRIu32, qn_array_text(a, text), n_rows, n_vocab);
    return QN_OK;
}

static qn_code score_batch(struct run *r, uint64_t batch, const qn_array *y, const qn_array *ref, qn_err *err)
{
    const qn_corpus *c = r->corpus;
    const qn_lm_feed *f = &r->model.feed;
    uint64_t n = 0, n_rows = 0;
    for (uint64_t k = f->first[batch]; k < f->first[batch + 1]; k++) {
        n += qn_lm_feed_length(f, k) + 1 - c->score_from[k];
        n_rows += qn_lm_feed_length(f, k);
    }
    const uint32_t n_vocab = r->model.graph->n_vocab;
    QN_TRY(check_logits(y, n_rows, n_vocab, err));
    if (ref->data)
        QN_TRY(check_logits(ref, n_rows, n_vocab, err));
    uint64_t *rows = qn_mem_get(r->env->alloc, n * sizeof *rows, err);
    uint32_t *targets = rows ? qn_mem_get(r->env->alloc, n * sizeof *targets, err) : NULL;
    qn_token_score *scores = targets ? qn_mem_get(r->env->alloc, n * sizeof *scores, err) : NULL;
    qn_code rc = scores ? QN_OK : QN_E_MEMORY;
    uint64_t i = 0, row = 0;
    for (uint64_t k = f->first[batch]; k < f->first[batch + 1] && rc == QN_OK; k++) {
        const uint32_t *ids = c->tokens + c->starts[k];
        for (uint64_t t = c->score_from[k]; t <= qn_lm_feed_length(f, k); t++) {
            rows[i] = row + t - 1;
            targets[i++] = ids[t];
        }
        row += qn_lm_feed_length(f, k);
    }
    struct scoring s = {.logits = y->data, .ref = ref->data, .n_vocab = n_vocab, .rows = rows, .targets = targets, .scores = scores, .n = n};
    if (rc == QN_OK)
        rc = qn_team_run(r->team, qn_ceil_div(n, ROWS_PER_PART), score_part, &s, err);
    i = 0;
    for (uint64_t k = f->first[batch]; k < f->first[batch + 1] && rc == QN_OK; k++)
        for (uint64_t t = c->score_from[k]; t <= qn_lm_feed_length(f, k); t++, i++) {
            qn_chunk_add(&r->e->chunks[k], &scores[i]);
            if (r->kl) {
                r->kl[r->n_done] = (float)scores[i].kl;
                r->dp[r->n_done] = (float)scores[i].dp;
            }
            r->n_done++;
        }
    qn_mem_put(r->env->alloc, rows);
    qn_mem_put(r->env->alloc, targets);
    qn_mem_put(r->env->alloc, scores);
    return rc;
}

static qn_code last_block(struct run *r, qn_err *err)
{
    for (uint64_t b = 0; b < r->model.feed.n_batches; b++) {
        qn_array y = {0}, ref = {0};
        qn_code rc = qn_streamer_take(r->model.stream, b, &y, err);
        if (rc == QN_OK && r->ref.stream)
            rc = qn_streamer_take(r->ref.stream, b, &ref, err);
        if (rc == QN_OK)
            rc = score_batch(r, b, &y, &ref, err);
        qn_array_release(&y);
        qn_array_release(&ref);
        QN_TRY(rc);
        uint64_t fed = 0;
        for (uint64_t k = r->model.feed.first[b]; k < r->model.feed.first[b + 1]; k++)
            fed += qn_lm_feed_length(&r->model.feed, k);
        progress(r, fed * (r->ref.stream ? 2 : 1));
    }
    return QN_OK;
}

static void summarise(struct run *r)
{
    qn_eval *e = r->e;
    const uint64_t m = e->n_chunks;
    e->nll = qn_mean_of(e->chunks, m, offsetof(qn_chunk_score, nll));
    e->ppl = qn_exp_estimate(e->nll);
    e->top = qn_share_of(e->chunks, m, false);
    if (!e->has_ref)
        return;
    e->nll_ref = qn_mean_of(e->chunks, m, offsetof(qn_chunk_score, nll_ref));
    e->ppl_ref = qn_exp_estimate(e->nll_ref);
    e->ppl_ratio = qn_exp_estimate(qn_mean_excess(e->chunks, m));
    e->kl = qn_mean_of(e->chunks, m, offsetof(qn_chunk_score, kl));
    e->dp = qn_mean_of(e->chunks, m, offsetof(qn_chunk_score, dp));
    e->dp_rms = sqrt(qn_mean_of(e->chunks, m, offsetof(qn_chunk_score, dp2)).value);
    e->same_top = qn_share_of(e->chunks, m, true);
    if (e->token_kl) /* the quantiles reorder */
        memcpy(e->token_kl, r->kl, r->n_done * sizeof *r->kl);
    for (unsigned i = 0; i < 7; i++) {
        e->kl_quantiles[i] = qn_quantile(r->kl, r->n_done, qn_eval_quantiles[i]);
        e->dp_quantiles[i] = qn_quantile(r->dp, r->n_done, qn_eval_quantiles[i]);
    }
}

static qn_code check_pair(const qn_graph *m, const qn_graph *ref, qn_err *err)
{
    if (m->n_vocab != ref->n_vocab)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the model has a vocabulary of %" PRIu32 ", its reference one of %" PRIu32, m->n_vocab, ref->n_vocab);
    return QN_OK;
}

static qn_code measure(struct run *r, const qn_graph *model, const qn_graph *ref, qn_err *err)
{
    const qn_eval_options *o = r->o;
    /* tokens and scores are held besides the passes */
    const uint64_t beside = QN_EXEC_BESIDE_BYTES + 4 * r->corpus->n_tokens + (ref ? (o->tokens ? 12u : 8u) * r->corpus->n_scored : 0);
    if (o->memory_bytes && o->memory_bytes < beside + beside / 4)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "--memory leaves no room: at least %" PRIu64 " MiB are needed", ((beside + beside / 4) >> 20) + 1);
    const unsigned sides = ref && o->layers && o->own ? 3 : ref ? 2 : 1;
    const uint64_t memory = o->memory_bytes ? (o->memory_bytes - beside) / sides : 0, batch = o->batch_tokens ? o->batch_tokens : BATCH_TOKENS;
    QN_TRY(open_side(r, &r->model, model, memory, batch, false, err));
    if (ref) {
        QN_TRY(check_pair(model, ref, err));
        if (r->e->layers && model->n_blocks != ref->n_blocks)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the model has %" PRIu32 " blocks, its reference %" PRIu32, model->n_blocks,
                           ref->n_blocks);
        QN_TRY(open_side(r, &r->ref, ref, memory, batch, true, err));
        if (sides == 3)
            QN_TRY(open_side(r, &r->own, model, memory, batch, false, err));
    }
    r->e->n_tokens = r->model.feed.n_tokens;
    bool more = true;
    while (more) {
        uint32_t block = 0, block_ref = 0;
        bool more_ref = true;
        QN_TRY(step(r, &r->model, &more, &block, err));
        if (r->own.stream && more && block > 0)
            QN_TRY(step_own(r, err));
        if (r->ref.stream)
            do /* blocks need not be cut alike unless they are compared */
                QN_TRY(step(r, &r->ref, &more_ref, &block_ref, err));
            while (more_ref && !more);
        if (more && r->e->layers)
            QN_TRY(compare_layer(r, block, err));
    }
    return last_block(r, err);
}

qn_code qn_evaluate(const qn_env *env, const qn_graph *model, const qn_graph *ref, const qn_corpus *c, const qn_eval_options *o,
                    qn_eval *out, qn_err *err)
{
    *out = (qn_eval){.alloc = env->alloc, .n_chunks = c->n_chunks, .n_scored = c->n_scored, .has_ref = ref != NULL};
    struct run r = {.env = env, .corpus = c, .o = o, .e = out};
    out->chunks = qn_mem_zeros(env->alloc, c->n_chunks, sizeof *out->chunks, err);
    qn_code rc = out->chunks ? qn_team_open(env, env->n_threads, &r.team, err) : QN_E_MEMORY;
    if (rc == QN_OK && ref) {
        r.kl = qn_mem_get(env->alloc, c->n_scored * sizeof *r.kl, err);
        r.dp = r.kl ? qn_mem_get(env->alloc, c->n_scored * sizeof *r.dp, err) : NULL;
        if (r.dp && o->layers)
            out->layers = qn_mem_zeros(env->alloc, model->n_blocks, sizeof *out->layers, err);
        if (r.dp && o->tokens)
            out->token_kl = qn_mem_get(env->alloc, c->n_scored * sizeof *out->token_kl, err);
        rc = r.dp && (!o->layers || out->layers) && (!o->tokens || out->token_kl) ? QN_OK : QN_E_MEMORY;
    }
    if (rc == QN_OK)
        rc = measure(&r, model, ref, err);
    if (rc == QN_OK && r.n_done != c->n_scored)
        rc = QN_BUG(err, "%" PRIu64 " tokens were scored, not %" PRIu64, r.n_done, c->n_scored);
    if (rc == QN_OK)
        summarise(&r);
    if (rc == QN_OK)
        out->peak_bytes = qn_exec_peak_bytes(r.model.exec) + (r.ref.exec ? qn_exec_peak_bytes(r.ref.exec) : 0) + (r.own.exec ? qn_exec_peak_bytes(r.own.exec) : 0);
    close_side(&r.model);
    close_side(&r.ref);
    close_side(&r.own);
    qn_team_close(r.team);
    qn_mem_put(env->alloc, r.kl);
    qn_mem_put(env->alloc, r.dp);
    if (rc != QN_OK)
        qn_eval_release(out);
    return rc;
}

void qn_eval_release(qn_eval *e)
{
    qn_mem_put(e->alloc, e->chunks);
    qn_mem_put(e->alloc, e->layers);
    qn_mem_put(e->alloc, e->token_kl);
    e->chunks = NULL;
    e->layers = NULL;
    e->token_kl = NULL;
}
