/* depth.c: whole layers and experts out of a language model: how near the rest stays to the dense model, by how they are chosen.
 *
 * usage: depth MODEL TEXT CONTEXT CHUNKS LAYERS EXPERTS OUT
 *
 * LAYERS of them go: by angle, greedily, the first ones: mean KL divergence on the text's first CHUNKS, in nats. EXPERTS of each layer go (0: none): by their
 * share of the tokens or by what they put out, averaged into the others or not: models OUT-share, OUT-share-merged, OUT-reap, OUT-reap-merged, for
 * `quern eval`. */
#include "analysis/eval/lm_feed.h"
#include "analysis/tokenize/tokenizer.h"
#include "base/err.h"
#include "compress/prune/depth.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS_MAX = 128, CELLS_MAX = 1 << 14 };

struct bench {
    qn_env env;
    qn_source *s;
    qn_graph *g;
    qn_tokenizer *tok;
    qn_corpus corpus;
    qn_lm_feed feed;
    qn_calibrate_feed cal;
    uint32_t n_layers, n_experts;
};

static qn_code open_all(struct bench *b, char **argv, qn_err *err)
{
    const qn_corpus_options o = {.context = strtoull(argv[3], NULL, 10), .max_chunks = strtoull(argv[4], NULL, 10)};
    QN_TRY(qn_env_init(&b->env, err));
    QN_TRY(qn_source_open(&b->env, argv[1], &b->s, err));
    QN_TRY(qn_graph_open(&b->env, b->s, &b->g, err));
    QN_TRY(qn_tokenizer_open(&b->env, argv[1], &b->tok, err));
    QN_TRY(qn_corpus_open(&b->env, argv[2], b->tok, b->g->n_vocab, &o, &b->corpus, err));
    QN_TRY(qn_lm_feed_open(&b->feed, &b->env, &b->corpus, 1024, true, err));
    b->cal = (qn_calibrate_feed){.n_batches = b->feed.n_batches, .n_tokens = b->feed.n_tokens, .feed = qn_lm_feed_batch, .ctx = &b->feed, .pool = &b->feed.pool};
    qn_depth_size(b->g, &b->n_layers, &b->n_experts);
    if (b->n_layers > LAYERS_MAX || (uint64_t)b->n_layers * b->n_experts > CELLS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "too large for this");
    return QN_OK;
}

static qn_code loss_of(struct bench *b, qn_measure *m, const uint8_t *gone, const char *how, qn_err *err)
{
    qn_overlay *w;
    qn_distance d;
    QN_TRY(qn_overlay_new(&b->env, b->g, &w, err));
    QN_TRY(qn_depth_bypass(b->g, gone, b->n_layers, w, err));
    QN_TRY(qn_measure_run(m, w, 0, b->cal.n_batches, &d, err));
    printf("%-8s without layers", how);
    for (uint32_t i = 0; i < b->n_layers; i++)
        if (gone[i])
            printf(" %u", (unsigned)i);
    printf(": KL %.4f, same top %.3f\n", d.loss, d.same_top);
    qn_overlay_free(w);
    return QN_OK;
}

static qn_code layers(struct bench *b, uint32_t n_gone, qn_err *err)
{
    double angle[LAYERS_MAX];
    uint8_t gone[LAYERS_MAX];
    qn_measure *m;
    QN_TRY(qn_measure_open(&b->env, b->g, &b->cal, b->cal.n_batches, 0, &m, err));
    QN_TRY(qn_depth_angles(&b->env, b->g, &b->cal, 0, angle, b->n_layers, err));
    qn_depth_pick(angle, 1, b->n_layers, n_gone, gone);
    QN_TRY(loss_of(b, m, gone, "angle", err));
    memset(gone, 0, sizeof gone);
    QN_TRY(qn_depth_choose(b->g, m, NULL, b->cal.n_batches, n_gone, gone, b->n_layers, NULL, err));
    QN_TRY(loss_of(b, m, gone, "greedy", err));
    for (uint32_t i = 0; i < b->n_layers; i++)
        gone[i] = i < n_gone;
    QN_TRY(loss_of(b, m, gone, "first", err));
    qn_measure_close(m);
    return QN_OK;
}

static qn_code experts(struct bench *b, uint32_t n_gone, const char *out, qn_err *err)
{
    static double reap[CELLS_MAX], share[CELLS_MAX];
    static uint8_t gone[CELLS_MAX];
    const uint8_t *rows[LAYERS_MAX];
    for (uint32_t i = 0; i < b->n_layers; i++)
        rows[i] = gone + (uint64_t)i * b->n_experts;
    const qn_depth d = {.experts = rows, .n_experts = b->n_experts};
    QN_TRY(qn_depth_experts(&b->env, b->g, &b->cal, 0, reap, share, b->n_layers, b->n_experts, err));
    for (unsigned k = 0; k < 4; k++) {
        char path[1024];
        qn_overlay *w;
        snprintf(path, sizeof path, "%s-%s%s", out, k < 2 ? "share" : "reap", k % 2 ? "-merged" : "");
        qn_depth_pick(k < 2 ? share : reap, b->n_layers, b->n_experts, n_gone, gone);
        QN_TRY(qn_overlay_new(&b->env, b->g, &w, err));
        if (k % 2)
            QN_TRY(qn_depth_merge(b->g, &d, share, w, err));
        QN_TRY(qn_emit(&b->env, b->g, NULL, &d, w, path, &(qn_emit_options){.overwrite = true}, err));
        printf("%s\n", path);
        qn_overlay_free(w);
    }
    return QN_OK;
}

int main(int argc, char **argv)
{
    static struct bench b;
    qn_err err = {.off = QN_NO_OFFSET};
    if (argc != 8)
        return 2;
    qn_code rc = open_all(&b, argv, &err);
    if (rc == QN_OK && strtoul(argv[5], NULL, 10))
        rc = layers(&b, (uint32_t)strtoul(argv[5], NULL, 10), &err);
    if (rc == QN_OK && strtoul(argv[6], NULL, 10))
        rc = experts(&b, (uint32_t)strtoul(argv[6], NULL, 10), argv[7], &err);
    if (rc != QN_OK) {
        char line[1024];
        qn_err_line(&err, line, sizeof line);
        fprintf(stderr, "%s\n", line);
    }
    qn_lm_feed_release(&b.feed);
    qn_corpus_release(&b.corpus);
    qn_tokenizer_close(b.tok);
    qn_graph_close(b.g);
    qn_source_close(b.s);
    return (int)rc;
}
