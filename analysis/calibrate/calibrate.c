/* calibrate.c: see calibrate.h. */
#include "analysis/calibrate/calibrate.h"
#include "analysis/calibrate/sensitivity.h"
#include "analysis/stats/merge.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <string.h>

struct run {
    const qn_env *env;
    const qn_graph *graph;
    const qn_calibrate_options *o;
    const qn_calibrate_feed *feed;
    qn_exec *exec;
    qn_stats *stats;
    qn_stats_writer *writer;
    uint32_t *user;          /* per value: of a weight, the only node that reads it; QN_NO_NODE: none; one less: several */
    uint32_t block, n_done;  /* the block that runs; blocks that need not be measured */
    uint64_t batch_fed;
    /* The last input that was shown: the next weight of the same node may see the very same. */
    uint32_t last_node, last_weight;
    const float *last_x;
    uint64_t last_rows, last_n, last_ld;
    qn_stats_entry *last_entry;
};

static void find_users(struct run *r)
{
    const qn_graph *g = r->graph;
    for (uint32_t v = 0; v < g->n_values; v++)
        r->user[v] = QN_NO_NODE;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (unsigned k = 0; k < g->nodes[i].n_in; k++) {
            const uint32_t v = g->nodes[i].in[k];
            if (v != QN_NO_VALUE && g->values[v].kind == QN_VALUE_WEIGHT)
                r->user[v] = r->user[v] == QN_NO_NODE ? i : QN_NO_NODE - 1;
        }
}

/* Several Linears of one value (q, k and v) have one input: the first of them leads. Decided by the graph, not by where the
 * data lie: memory is used again. */
static uint32_t leader(const struct run *r, uint32_t weight)
{
    const qn_graph *g = r->graph;
    const uint32_t node = r->user[weight];
    if (node >= g->n_nodes || strcmp(g->nodes[node].type, "Linear") != 0)
        return weight;
    const uint32_t x = g->nodes[node].in[0];
    const qn_graph_block *b = &g->blocks[g->nodes[node].block];
    for (uint32_t i = b->first_node; i < node; i++) {
        const qn_node *n = &g->nodes[i];
        if (strcmp(n->type, "Linear") == 0 && n->in[0] == x && n->in[1] != weight && g->values[n->in[1]].kind == QN_VALUE_WEIGHT &&
            r->user[n->in[1]] == i)
            return n->in[1];
    }
    return weight;
}

/* Experts' gate and up see the same rows one call after the other, within one node. */
static bool is_same_rows(const struct run *r, uint32_t node, const float *x, uint64_t rows, uint64_t n, uint64_t ld)
{
    return r->last_entry && node < r->graph->n_nodes && node == r->last_node && x == r->last_x && rows == r->last_rows && n == r->last_n &&
           ld == r->last_ld;
}

/* Which part of a weight: of one that stacks experts (experts, out, in), or the group of a convolution. */
static uint32_t expert_of(const qn_graph *g, uint32_t node, const qn_value *v, uint32_t part)
{
    const bool parts = node < g->n_nodes && (qn_node_int(&g->nodes[node], "group", 1) > 1 || !strcmp(g->nodes[node].type, "Experts"));
    return parts && v->rank >= 3 ? part : QN_STATS_NO_EXPERT;
}

static qn_code name_it(struct run *r, qn_stats_entry *e, uint32_t weight, uint32_t expert, qn_err *err)
{
    const char *name = r->graph->values[weight].name;
    if (expert == QN_STATS_NO_EXPERT)
        return qn_stats_get(r->stats, name, expert) ? QN_OK : qn_stats_alias(r->stats, e, name, err);
    return QN_OK;
}

static qn_code on_input(void *ctx, const qn_graph *g, uint32_t weight, uint32_t part, const float *x, uint64_t rows, uint64_t n,
                        uint64_t ld, qn_err *err)
{
    struct run *r = ctx;
    if (r->block < r->n_done || g != r->graph)
        return QN_OK; /* measured already; weights of subgraphs are not watched */
    if (n > QN_STATS_COLUMNS_MAX)
        return QN_OK;
    const qn_value *v = &g->values[weight];
    const uint32_t node = r->user[weight];
    const uint32_t expert = expert_of(g, node, v, part), lead = leader(r, weight);
    qn_stats_entry *e = qn_stats_get(r->stats, v->name, expert);
    if (lead != weight && (e = qn_stats_get(r->stats, g->values[lead].name, QN_STATS_NO_EXPERT)))
        return name_it(r, e, weight, expert, err); /* the leader has counted these rows */
    if (expert == QN_STATS_NO_EXPERT && weight != r->last_weight && is_same_rows(r, node, x, rows, n, ld))
        return name_it(r, r->last_entry, weight, expert, err);
    /* What a writer has from before the run was stopped cannot be in a block that is measured now. */
    if (!e)
        QN_TRY(qn_stats_open(r->stats, v->name, expert, (uint32_t)n, r->o->diagonal ? QN_STATS_DIAG : QN_STATS_H, &e, err));
    r->last_node = node;
    r->last_weight = weight;
    r->last_x = x;
    r->last_rows = rows;
    r->last_n = n;
    r->last_ld = ld;
    r->last_entry = e;
    return qn_stats_add(r->stats, e, x, rows, ld, err);
}

static void progress(struct run *r, uint64_t block, uint64_t batch)
{
    if (!r->env->progress || !r->feed->n_batches || !r->graph->n_blocks)
        return;
    const double part = ((double)block + (double)batch / (double)r->feed->n_batches) / (double)r->graph->n_blocks;
    r->env->progress(r->env->progress_ctx, "calibrating tokens", (uint64_t)(part * (double)r->feed->n_tokens), r->feed->n_tokens);
}

/* Every node of the block says where a run is. What it has shown is not what the next node or batch shows, even where memory is
 * used again and the addresses are the same. */
static qn_code on_output(void *ctx, const qn_graph *g, uint32_t node, const qn_array *out, qn_err *err)
{
    struct run *r = ctx;
    (void)out;
    (void)err;
    r->last_entry = NULL;
    if (g == r->graph && node == g->blocks[r->block].first_node)
        progress(r, r->block, r->batch_fed++);
    return QN_OK;
}

/* Entries without a row for experts to which no token was routed, named as if there had been one: what was never seen must show. */
static qn_code add_unseen(struct run *r, const qn_node *n, qn_err *err)
{
    const qn_graph *g = r->graph;
    const bool separate = !strcmp(qn_node_string(n, "layout", ""), "separate");
    const uint32_t n_experts = separate ? (n->n_in - 2u) / 3 : (uint32_t)qn_node_int(n, "experts", 0);
    const qn_stats_kind kind = r->o->diagonal ? QN_STATS_DIAG : QN_STATS_H;
    for (unsigned i = 2; i < n->n_in; i++) {
        const qn_value *v = &g->values[n->in[i]];
        if (v->kind != QN_VALUE_WEIGHT || v->dims[v->rank - 1] > (int64_t)QN_STATS_COLUMNS_MAX)
            continue;
        for (uint32_t e = 0; e < (separate ? 1 : n_experts); e++) {
            const uint32_t expert = separate ? QN_STATS_NO_EXPERT : e;
            qn_stats_entry *have = qn_stats_get(r->stats, v->name, expert);
            if (have)
                continue;
            /* an up projection sees what its gate sees */
            if (separate && i - 2 >= n_experts && i - 2 < 2 * n_experts)
                have = qn_stats_get(r->stats, g->values[n->in[i - n_experts]].name, expert);
            if (have)
                QN_TRY(qn_stats_alias(r->stats, have, v->name, err));
            else
                QN_TRY(qn_stats_open(r->stats, v->name, expert, (uint32_t)v->dims[v->rank - 1], kind, &have, err));
        }
    }
    return QN_OK;
}

static qn_code on_block(void *ctx, uint32_t block, bool *again, qn_err *err)
{
    struct run *r = ctx;
    const qn_graph_block *b = &r->graph->blocks[block];
    if (block >= r->n_done) {
        for (uint32_t i = b->first_node; i < b->first_node + b->n_nodes; i++)
            if (!strcmp(r->graph->nodes[i].type, "Experts"))
                QN_TRY(add_unseen(r, &r->graph->nodes[i], err));
        QN_TRY(qn_stats_flush(r->stats, r->writer, err));
        QN_TRY(qn_stats_writer_checkpoint(r->writer, err));
    }
    if (r->o->on_block)
        QN_TRY(r->o->on_block(r->o->block_ctx, r->writer, block, again, err));
    r->block = block + 1;
    r->batch_fed = 0;
    r->last_entry = NULL;
    progress(r, r->block, 0);
    return QN_OK;
}

static qn_code feed(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err)
{
    struct run *r = ctx;
    return r->feed->feed(r->feed->ctx, batch, inputs, err);
}

/* What decides the numbers besides model and data. */
static void settings(const qn_calibrate_options *o, const qn_graph *g, const qn_stats_meta *meta, uint64_t n_batches, qn_digest *out)
{
    uint8_t b[16 + 16 + 4 * 4 + 8];
    memcpy(b, meta->settings.b, 16);
    memset(b + 16, 0, 16);
    for (uint32_t i = 0; i < meta->n_sources; i++)
        for (unsigned k = 0; k < 16; k++)
            b[16 + k] ^= meta->sources[i].digest.b[k];
    qn_store32(b + 32, o->h_max_columns);
    qn_store32(b + 36, o->diagonal);
    qn_store32(b + 40, g->n_blocks);
    qn_store32(b + 44, meta->context);
    qn_store64(b + 48, n_batches); /* sums are rounded batch by batch */
    *out = qn_hash128(b, sizeof b);
    if (o->sensitivity || o->from || o->read) { /* what came later; without it digests are as they were */
        uint8_t more[16 + 16 + 8 + 8];
        memcpy(more, o->from ? o->from->meta.settings.b : out->b, 16);
        memcpy(more + 16, o->weights.b, 16);
        qn_store64(more + 32, o->sensitivity ? o->sensitivity->n_tokens : 0);
        qn_store64(more + 40, o->sensitivity ? o->sensitivity->n_batches : 0);
        *out = qn_hash128(more, sizeof more);
    }
}

/* Bytes of the statistics of the block that has most: f64, upper triangle, one for each input. */
static uint64_t stats_bytes(const struct run *r)
{
    const qn_graph *g = r->graph;
    uint64_t most = 0;
    for (uint32_t b = 0; b < g->n_blocks; b++) {
        uint64_t sum = 0;
        for (uint32_t i = g->blocks[b].first_node; i < g->blocks[b].first_node + g->blocks[b].n_nodes; i++) {
            const qn_node *n = &g->nodes[i];
            for (unsigned k = 1; k < n->n_in; k++) {
                if (n->in[k] == QN_NO_VALUE || g->values[n->in[k]].kind != QN_VALUE_WEIGHT || g->values[n->in[k]].rank < 2)
                    continue;
                const qn_value *w = &g->values[n->in[k]];
                uint64_t width = 1, many = w->rank == 3 && !strcmp(n->type, "Experts") ? (uint64_t)w->dims[0] : 1;
                if (!strcmp(n->type, "Linear"))
                    width = (uint64_t)w->dims[strcmp(qn_node_string(n, "layout", "out_in"), "in_out") ? 1 : 0];
                else if (!strcmp(n->type, "Experts"))
                    width = (uint64_t)w->dims[w->rank - 1];
                else
                    for (unsigned d = 1; d < w->rank; d++)
                        width *= (uint64_t)w->dims[d];
                if (leader(r, n->in[k]) == n->in[k])
                    sum += many * (r->o->diagonal || (r->o->h_max_columns && width > r->o->h_max_columns) ? 64 * width : 4 * width * width + 512 * width);
            }
        }
        most = sum > most ? sum : most;
    }
    return most;
}

static qn_code measure(struct run *r, qn_err *err)
{
    uint64_t limit = r->o->memory_bytes;
    if (limit) {
        const uint64_t sums = stats_bytes(r), beside = sums + QN_EXEC_BESIDE_BYTES;
        if (limit < beside + beside / 4)
            return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "--memory leaves no room: at least %" PRIu64 " MiB are needed, %" PRIu64
                           " of them for the statistics of one block (--diagonal or a smaller --wide take less)",
                           ((beside + beside / 4) >> 20) + 1, (sums >> 20) + 1);
        limit -= beside;
    }
    const qn_exec_options o = {.memory_bytes = limit, .read = r->o->read, .read_ctx = r->o->read_ctx, .on_input = on_input, .on_output = on_output, .tap_ctx = r};
    QN_TRY(qn_exec_open(r->env, r->graph, &o, &r->exec, err));
    *r->feed->pool = qn_exec_pool(r->exec);
    const qn_stream s = {.n_batches = r->feed->n_batches, .feed = feed, .on_block = on_block, .ctx = r};
    return qn_exec_stream(r->exec, &s, err);
}

/* What another file holds, as one segment. */
static qn_code take_over(struct run *r, qn_err *err)
{
    if (r->n_done)
        return QN_OK;
    QN_TRY(qn_stats_copy(r->env, r->o->from, r->writer, err));
    return qn_stats_writer_checkpoint(r->writer, err);
}

qn_code qn_calibrate(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed_from, const qn_stats_meta *meta,
                     const char *out_path, const qn_calibrate_options *o, qn_calibration *out, qn_err *err)
{
    struct run r = {.env = env, .graph = g, .o = o, .feed = feed_from, .last_node = QN_NO_NODE, .last_weight = QN_NO_VALUE};
    qn_stats_meta full = *meta;
    settings(o, g, meta, feed_from->n_batches, &full.settings);
    *out = (qn_calibration){.n_blocks = g->n_blocks};
    const qn_stats_options so = {.h_max_columns = o->h_max_columns};
    const qn_stats_write_options wo = {.overwrite = o->overwrite, .restart = o->restart, .resumable = true};
    r.user = qn_mem_zeros(env->alloc, (uint64_t)g->n_values + 1, sizeof *r.user, err);
    qn_code rc = r.user ? qn_stats_new(env, &so, &r.stats, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = qn_stats_writer_open(&r.writer, env, out_path, &full, &wo, err);
    if (rc == QN_OK) {
        find_users(&r);
        r.n_done = qn_stats_writer_done(r.writer);
        out->n_resumed = r.n_done < g->n_blocks ? r.n_done : g->n_blocks;
        rc = o->from ? take_over(&r, err) : r.n_done < g->n_blocks ? measure(&r, err) : QN_OK;
    }
    if (rc == QN_OK && o->sensitivity)
        rc = qn_sensitivity(env, g, o, r.writer, o->from ? 1 : g->n_blocks, err);
    if (rc == QN_OK)
        rc = qn_stats_writer_finish(r.writer, &full, err);
    if (rc == QN_OK)
        out->peak_bytes = r.exec ? qn_exec_peak_bytes(r.exec) : 0;
    qn_stats_writer_close(r.writer);
    qn_stats_free(r.stats);
    qn_exec_close(r.exec);
    qn_mem_put(env->alloc, r.user);
    return rc;
}
