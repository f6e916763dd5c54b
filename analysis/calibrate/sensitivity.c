/* sensitivity.c: see sensitivity.h. */
#include "analysis/calibrate/sensitivity.h"
#include "analysis/calibrate/noise.h"
#include "analysis/eval/score.h"
#include "analysis/exec/shelf.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_PER_PART = 8 };

/* A weight to be measured: by block, then items with one input together, which share its factor. */
struct spot {
    uint32_t block; /* the first that reads it */
    uint32_t input, item, value, node;
};

struct run {
    const qn_env *env;
    const qn_graph *graph;
    const qn_calibrate_options *o;
    const qn_calibrate_feed *feed;
    qn_stats_writer *writer;
    uint32_t n_done;           /* blocks whose sensitivities an earlier run has left */
    qn_stats_file file;
    qn_exec *exec;
    qn_streamer *stream;       /* stands before the block whose weights are measured */
    qn_shelf dense;            /* logits of every batch, as the model without errors has them */
    bool dense_pass;           /* weights are those of the model itself */
    struct spot *spots;        /* what is measured, in order */
    uint64_t n_spots;
    /* the weight that has an error now */
    uint32_t value, part;
    const float *noisy;        /* the matrix, as it is stored; NULL: none */
    uint64_t n_noisy;
    uint64_t work, work_done;  /* tokens × blocks */
};

/* Takes the place of one weight, or of one matrix of a stack. */
static qn_code read(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err)
{
    const struct run *r = ctx;
    const qn_value *v = &g->values[value];
    const bool ours = r->noisy && g == r->graph && value == r->value;
    if (ours && v->rank == 2) {
        memcpy(dst, r->noisy + first * (uint64_t)v->dims[1], n * (uint64_t)v->dims[1] * sizeof(float));
        return QN_OK;
    }
    QN_TRY(r->o->read && !r->dense_pass ? r->o->read(r->o->read_ctx, g, value, first, n, dst, err)
                      : qn_weight_from_source(r->env, g->source, g, value, first, n, dst, err));
    if (ours && r->part >= first && r->part < first + n)
        memcpy((float *)dst + (r->part - first) * r->n_noisy, r->noisy, r->n_noisy * sizeof(float));
    return QN_OK;
}

static void progress(struct run *r, uint64_t blocks)
{
    r->work_done += blocks * r->feed->n_tokens;
    if (r->env->progress && r->graph->n_blocks)
        r->env->progress(r->env->progress_ctx, "sensitivity tokens", r->work_done / r->graph->n_blocks, r->work / r->graph->n_blocks);
}

static int by_place(const void *a, const void *b)
{
    const struct spot *x = a, *y = b;
    if (x->block != y->block)
        return x->block < y->block ? -1 : 1;
    if (x->input != y->input)
        return x->input < y->input ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

/* Does this node multiply with the item's weight as with a matrix? */
static bool multiplies(const qn_node *n, const qn_value *v, const qn_stats_item *it)
{
    if (!strcmp(n->type, "Linear"))
        return v->rank == 2 && it->expert == QN_STATS_NO_EXPERT;
    if (strcmp(n->type, "Experts") != 0)
        return false;
    return v->rank == 2 ? it->expert == QN_STATS_NO_EXPERT : v->rank == 3 && it->expert < (uint64_t)v->dims[0];
}

/* first: per value, the first block that reads it; user: the last node of the kinds above that does. */
static void find_readers(const qn_graph *g, uint32_t *first, uint32_t *user)
{
    for (uint32_t v = 0; v < g->n_values; v++)
        first[v] = user[v] = UINT32_MAX;
    for (uint32_t k = 0; k < g->n_nodes; k++)
        for (unsigned j = 0; j < g->nodes[k].n_in; j++) {
            const uint32_t v = g->nodes[k].in[j];
            if (v == QN_NO_VALUE)
                continue;
            first[v] = g->nodes[k].block < first[v] ? g->nodes[k].block : first[v];
            if (!strcmp(g->nodes[k].type, "Linear") || !strcmp(g->nodes[k].type, "Experts"))
                user[v] = k;
        }
}

static void list_spots(struct run *r, const uint32_t *first, const uint32_t *user)
{
    const qn_graph *g = r->graph;
    for (uint32_t i = 0; i < r->file.n_items; i++) {
        const qn_stats_item *it = &r->file.items[i];
        const uint32_t value = qn_graph_find(g, it->name);
        if (value == QN_NO_VALUE || g->values[value].kind != QN_VALUE_WEIGHT || user[value] >= g->n_nodes ||
            !r->file.inputs[it->input].count || !multiplies(&g->nodes[user[value]], &g->values[value], it) || first[value] < r->n_done)
            continue;
        r->spots[r->n_spots++] = (struct spot){first[value], it->input, i, value, user[value]};
        r->work += (g->n_blocks - first[value]) * r->feed->n_tokens * (r->o->read ? 2 : 1);
    }
    if (r->n_spots > 1)
        qsort(r->spots, (size_t)r->n_spots, sizeof *r->spots, by_place);
    r->work += g->n_blocks * r->feed->n_tokens * (r->o->read ? 3 : 2);
}

static qn_code find_spots(struct run *r, qn_err *err)
{
    const qn_alloc *a = r->env->alloc;
    const uint64_t n = r->graph->n_values + 1ull;
    uint32_t *first = qn_mem_get(a, 2 * n * sizeof *first, err);
    r->spots = first ? qn_mem_get(a, (r->file.n_items + 1ull) * sizeof *r->spots, err) : NULL;
    if (r->spots) {
        find_readers(r->graph, first, first + n);
        list_spots(r, first, first + n);
    }
    qn_mem_put(a, first);
    return r->spots ? QN_OK : QN_E_MEMORY;
}

/* --- divergence ---------------------------------------------------------------------------------------------------- */

struct scoring {
    const float *logits, *dense;
    uint32_t n_vocab;
    uint64_t n;
    double *kl;
};

static qn_code score_part(void *ctx, uint64_t part, unsigned slot, qn_err *err)
{
    (void)slot;
    const struct scoring *s = ctx;
    for (uint64_t i = part * ROWS_PER_PART; i < s->n && i < (part + 1) * ROWS_PER_PART; i++) {
        qn_token_score t;
        QN_TRY(qn_score_token(s->logits + i * s->n_vocab, s->dense + i * s->n_vocab, s->n_vocab, 0, &t, err));
        s->kl[i] = t.kl;
    }
    return QN_OK;
}

static qn_code check_logits(const struct run *r, const qn_array *y, qn_err *err)
{
    char text[128];
    if (y->dtype != QN_F32 || y->rank != 2 || y->dims[1] != (int64_t)r->graph->n_vocab)
        return QN_BUG(err, "logits %s for a vocabulary of %" PRIu32, qn_array_text(y, text), r->graph->n_vocab);
    return QN_OK;
}

static qn_code score(struct run *r, const qn_array *y, const qn_array *dense, double *sum, uint64_t *n, qn_err *err)
{
    QN_TRY(check_logits(r, y, err));
    if (y->n != dense->n)
        return QN_BUG(err, "logits of %" PRIu64 " values, not %" PRIu64, y->n, dense->n);
    struct scoring s = {.logits = y->data, .dense = dense->data, .n_vocab = r->graph->n_vocab, .n = (uint64_t)y->dims[0]};
    s.kl = qn_mem_get(r->env->alloc, s.n * sizeof *s.kl, err);
    if (!s.kl)
        return QN_E_MEMORY;
    const qn_code rc = qn_exec_parts(r->exec, qn_ceil_div(s.n, ROWS_PER_PART), y->n, score_part, &s, err);
    for (uint64_t i = 0; i < s.n; i++)
        *sum += s.kl[i];
    *n += s.n;
    qn_mem_put(r->env->alloc, s.kl);
    return rc;
}

/* Runs what is left from where the stream stands. *kl: mean over all tokens. */
static qn_code diverge(struct run *r, double *kl, uint64_t *n_tokens, qn_err *err)
{
    qn_streamer *t = NULL;
    QN_TRY(qn_streamer_branch(r->stream, &t, err));
    bool more = true;
    uint32_t block;
    double sum = 0;
    uint64_t n = 0;
    qn_code rc = QN_OK;
    while (rc == QN_OK && more) {
        rc = qn_streamer_step(t, &more, &block, err);
        progress(r, more);
    }
    for (uint64_t b = 0; b < r->feed->n_batches && rc == QN_OK; b++) {
        qn_array y = {0}, dense = {0};
        rc = qn_streamer_take(t, b, &y, err);
        if (rc == QN_OK)
            rc = qn_shelf_get(&r->dense, b, &dense, err);
        if (rc == QN_OK)
            rc = score(r, &y, &dense, &sum, &n, err);
        qn_array_release(&y);
        qn_array_release(&dense);
    }
    progress(r, 1);
    qn_streamer_close(t);
    *kl = n ? sum / (double)n : 0;
    *n_tokens = n;
    return rc;
}

/* --- one weight ---------------------------------------------------------------------------------------------------- */

static qn_code measure_noisy(struct run *r, float *w, uint64_t rows, uint64_t cols, const qn_noise *noise, uint64_t seed, bool in_out,
                             qn_stats_cost *c, bool *measured, qn_err *err)
{
    double kl[2] = {0, 0};
    float *noisy = qn_mem_get(r->env->alloc, rows * cols * sizeof *noisy, err);
    if (!noisy)
        return QN_E_MEMORY;
    memcpy(noisy, w, rows * cols * sizeof *noisy);
    qn_code rc = qn_noise_add(noise, r->exec, noisy, rows, cols, in_out, seed, r->o->noise, measured, err);
    /* around a model that is compressed the first order does not vanish: an error and its opposite cancel it */
    for (unsigned sign = 0; rc == QN_OK && *measured && sign < (r->o->read ? 2u : 1u); sign++) {
        for (uint64_t i = 0; sign && i < rows * cols; i++)
            noisy[i] = 2 * w[i] - noisy[i];
        r->noisy = noisy;
        qn_exec_forget(r->exec, r->value);
        rc = diverge(r, &kl[sign], &c->tokens, err);
        r->noisy = NULL;
        qn_exec_forget(r->exec, r->value);
    }
    c->kl = r->o->read ? (kl[0] + kl[1]) / 2 : kl[0];
    qn_mem_put(r->env->alloc, noisy);
    return rc;
}

static qn_code measure_spot(struct run *r, const struct spot *p, qn_noise *noise, double base, qn_err *err)
{
    const qn_stats_item *it = &r->file.items[p->item];
    const qn_value *v = &r->graph->values[p->value];
    const bool in_out = !strcmp(qn_node_string(&r->graph->nodes[p->node], "layout", "out_in"), "in_out");
    const uint64_t rows = (uint64_t)v->dims[v->rank - 2], cols = (uint64_t)v->dims[v->rank - 1];
    if (r->file.inputs[p->input].n != (in_out ? rows : cols) || rows * cols == 0)
        return QN_OK;
    r->value = p->value;
    r->part = it->expert == QN_STATS_NO_EXPERT ? 0 : it->expert;
    r->n_noisy = rows * cols;
    QN_TRY(qn_noise_prepare(noise, &r->file, p->input, err));
    float *w = qn_mem_get(r->env->alloc, rows * cols * sizeof *w, err);
    if (!w)
        return QN_E_MEMORY;
    qn_stats_cost c = {.name = it->name, .expert = it->expert, .noise = r->o->noise};
    bool measured = false;
    qn_code rc = v->rank == 3 ? read(r, r->graph, r->value, r->part, 1, w, err) : read(r, r->graph, r->value, 0, rows, w, err);
    if (rc == QN_OK)
        rc = measure_noisy(r, w, rows, cols, noise, qn_hash64(it->key, strlen(it->key)), in_out, &c, &measured, err);
    c.kl -= base;
    if (rc == QN_OK && measured)
        rc = qn_stats_writer_add_cost(r->writer, &c, err);
    qn_mem_put(r->env->alloc, w);
    return rc;
}

/* --- the whole ----------------------------------------------------------------------------------------------------- */

static qn_code feed(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err)
{
    const struct run *r = ctx;
    return r->feed->feed(r->feed->ctx, batch, inputs, err);
}

static qn_code keep_logits(void *ctx, uint64_t batch, const qn_array *outs, qn_err *err)
{
    struct run *r = ctx;
    qn_array y;
    QN_TRY(check_logits(r, &outs[0], err));
    if (!r->dense.env) {
        bool over = false;
        const uint64_t all = qn_mul(qn_array_bytes(&outs[0]), r->feed->n_batches, &over), limit = r->o->memory_bytes;
        QN_TRY(qn_shelf_open(&r->dense, r->env, qn_exec_pool(r->exec), r->feed->n_batches, limit && (over || all > limit / 8), err));
    }
    qn_array_share(&outs[0], &y);
    return qn_shelf_put(&r->dense, batch, &y, err);
}

/* Logits of the model itself, also when it is looked at through a compressed copy. */
static qn_code run_dense(struct run *r, qn_err *err)
{
    const qn_stream s = {.n_batches = r->feed->n_batches, .feed = feed, .take = keep_logits, .ctx = r};
    r->dense_pass = true;
    QN_TRY(qn_exec_stream(r->exec, &s, err));
    r->dense_pass = false;
    for (uint32_t v = 0; r->o->read && v < r->graph->n_values; v++)
        if (r->graph->values[v].kind == QN_VALUE_WEIGHT)
            qn_exec_forget(r->exec, v);
    progress(r, r->graph->n_blocks);
    return QN_OK;
}

static qn_code measure_all(struct run *r, qn_err *err)
{
    const qn_stream s = {.n_batches = r->feed->n_batches, .feed = feed, .ctx = r};
    qn_noise noise = {.env = r->env, .input = UINT32_MAX};
    double base = 0;
    uint64_t n = 0, at = 0;
    QN_TRY(qn_streamer_open(r->exec, &s, &r->stream, err));
    qn_code rc = r->o->read ? diverge(r, &base, &n, err) : QN_OK;
    bool more = true;
    for (uint32_t b = 0; b < r->graph->n_blocks && rc == QN_OK; b++) {
        uint32_t block;
        for (; at < r->n_spots && r->spots[at].block == b && rc == QN_OK; at++) {
            rc = qn_env_check(r->env, err);
            if (rc == QN_OK)
                rc = qn_err_in_tensor(err, measure_spot(r, &r->spots[at], &noise, base, err), r->file.items[r->spots[at].item].name);
        }
        if (rc == QN_OK && b >= r->n_done)
            rc = qn_stats_writer_checkpoint(r->writer, err);
        if (rc == QN_OK && b + 1 < r->graph->n_blocks)
            rc = qn_streamer_step(r->stream, &more, &block, err);
        progress(r, 1);
    }
    qn_noise_release(&noise);
    qn_streamer_close(r->stream);
    return rc;
}

static qn_code run_all(struct run *r, qn_err *err)
{
    uint64_t limit = r->o->memory_bytes;
    QN_TRY(find_spots(r, err));
    if (limit && limit <= 2 * QN_EXEC_BESIDE_BYTES)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "--memory leaves no room: more than %llu MiB are needed",
                       2 * QN_EXEC_BESIDE_BYTES >> 20);
    if (limit)
        limit = (limit - QN_EXEC_BESIDE_BYTES) / 2; /* the other half is for the factor and the weight */
    const qn_exec_options o = {.memory_bytes = limit, .read = read, .read_ctx = r};
    QN_TRY(qn_exec_open(r->env, r->graph, &o, &r->exec, err));
    *r->feed->pool = qn_exec_pool(r->exec);
    QN_TRY(run_dense(r, err));
    return measure_all(r, err);
}

qn_code qn_sensitivity(const qn_env *env, const qn_graph *g, const qn_calibrate_options *o, qn_stats_writer *w, uint32_t n_before,
                       qn_err *err)
{
    const uint32_t n_there = qn_stats_writer_done(w);
    struct run r = {.env = env, .graph = g, .o = o, .feed = o->sensitivity, .writer = w, .n_done = n_there > n_before ? n_there - n_before : 0};
    if (r.n_done >= g->n_blocks)
        return QN_OK;
    QN_TRY(qn_stats_writer_read(w, &r.file, err));
    const qn_code rc = run_all(&r, err);
    qn_shelf_close(&r.dense);
    qn_exec_close(r.exec);
    qn_mem_put(env->alloc, r.spots);
    qn_stats_file_close(&r.file);
    return rc;
}
