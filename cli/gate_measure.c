/* gate_measure.c: see gate_measure.h. */
#include "cli/gate_measure.h"
#include "analysis/gate/measure.h"
#include "base/err.h"
#include "cli/eval_io.h"
#include "cli/graph_report.h"
#include "formats/outfile.h"
#include <string.h>

enum { NOISE_CHUNKS = 8 };

const char *const qn_gate_scores[] = {"half", "all", NULL};

/* What is open while it measures. */
struct opened {
    qn_source *cand, *ref, *base;
    qn_graph *graph, *ref_graph;
    qn_tokenizer *tok;
    qn_corpus corpus;
    qn_io_feed feed;
    int64_t *labels;
    uint64_t n_labels;
};

static void close_all(qn_cli *cli, struct opened *x)
{
    qn_corpus_release(&x->corpus);
    qn_tokenizer_close(x->tok);
    if (x->feed.graph)
        qn_io_feed_close(&x->feed);
    qn_mem_put(cli->env.alloc, x->labels);
    qn_graph_close(x->graph);
    qn_graph_close(x->ref_graph);
    qn_source_close(x->cand);
    qn_source_close(x->ref);
    qn_source_close(x->base);
}

qn_code qn_gate_data_check(const qn_cli *cli, const qn_gate_data *d, qn_err *err)
{
    const char *who = cli->command->name;
    if (d->lm.data && d->inputs)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: --data and --inputs do not go together", who);
    if (d->labels && !d->inputs)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: --labels goes with --inputs", who);
    return d->lm.data ? QN_OK : qn_lm_data_unused(cli, &d->lm, err);
}

/* A candidate that is no model is a finding. */
static qn_code open_candidate(qn_cli *cli, struct opened *x, const char *path, qn_report *r, qn_err *err)
{
    qn_err why;
    char line[600];
    qn_err_clear(&why);
    const qn_code rc = qn_err_in_path(&why, qn_graph_open(&cli->env, x->cand, &x->graph, &why), path);
    if (rc == QN_OK) {
        qn_cli_graph_warnings(cli, x->graph);
        return QN_OK;
    }
    if (rc != QN_E_INPUT && rc != QN_E_UNSUPPORTED) {
        *err = why;
        return rc;
    }
    qn_err_line(&why, line, sizeof line);
    r->cannot_run = qn_arena_str(&r->arena, line, strlen(line), err);
    return r->cannot_run ? QN_OK : QN_E_MEMORY;
}

/* Tokens are made by the reference's tokenizer: it says what they mean. By the candidate's when the reference has none. */
static qn_code open_text(qn_cli *cli, const qn_gate_data *d, struct opened *x, qn_err *err)
{
    qn_source *from = x->ref;
    qn_tokenizer *t = NULL;
    if (!d->lm.tokenizer && qn_tokenizer_of_source(&cli->env, x->ref, &t, NULL) != QN_OK)
        from = x->cand;
    qn_tokenizer_close(t);
    return qn_lm_data_open(cli, &d->lm, from, x->ref_graph, d->score == 1, &x->tok, &x->corpus, err);
}

static qn_code measure_data(qn_cli *cli, const qn_gate_data *d, struct opened *x, qn_report *r, qn_err *err)
{
    const qn_measure_options o = {.memory_bytes = cli->env.memory_bytes, .batch_tokens = d->batch, .layers = true, .noise_chunks = NOISE_CHUNKS};
    if (d->lm.data) {
        QN_TRY(open_text(cli, d, x, err));
        const qn_digest tok = x->tok ? qn_tokenizer_digest(x->tok) : (qn_digest){{0}};
        return qn_measure_lm(&cli->env, x->graph, x->ref_graph, &x->corpus, d->lm.data, x->tok ? &tok : NULL, &o, r, err);
    }
    if (d->labels)
        QN_TRY(qn_labels_read(cli, d->labels, &x->labels, &x->n_labels, err));
    QN_TRY(qn_io_feed_open(&x->feed, &cli->env, x->ref_graph, d->inputs, d->batch ? d->batch : 1, d->lm.chunks, err));
    return qn_measure_io(&cli->env, x->graph, x->ref_graph, &x->feed, x->labels, x->n_labels, d->inputs, &o, r, err);
}

static qn_code measure(qn_cli *cli, const qn_gate_data *d, const char *candidate, const char *reference, struct opened *x,
                       qn_code (*stop)(void *ctx, const qn_report *r, bool *yes, qn_err *err), void *ctx, qn_report *r, qn_err *err)
{
    const qn_corpus_options o = {.context = 2, .separator = NULL, .field = d->lm.field, .score_all = true};
    bool enough = false;
    if (d->base)
        QN_TRY(qn_cli_open(cli, d->base, &x->base, err));
    QN_TRY(qn_cli_open_on(cli, candidate, x->base, &x->cand, err));
    QN_TRY(qn_cli_open_on(cli, reference, x->base, &x->ref, err));
    QN_TRY(qn_measure_tensors(&cli->env, x->cand, x->ref, r, err));
    const bool text = d->lm.data && !qn_text_ends(d->lm.data, ".npy");
    if (!d->lm.tokenizer)
        QN_TRY(qn_measure_tokenizers(&cli->env, x->cand, x->ref, text ? d->lm.data : NULL, &o, r, err));
    if (d->lm.data || d->inputs) {
        QN_TRY(qn_err_in_path(err, qn_cli_graph(cli, x->ref, &x->ref_graph, err), reference));
        QN_TRY(open_candidate(cli, x, candidate, r, err));
        if (x->graph)
            qn_measure_forgive_names(x->graph, r);
    }
    if (stop)
        QN_TRY(stop(ctx, r, &enough, err));
    return enough || !x->graph ? QN_OK : measure_data(cli, d, x, r, err);
}

qn_code qn_gate_measure(qn_cli *cli, const qn_gate_data *d, const char *candidate, const char *reference,
                        qn_code (*stop)(void *ctx, const qn_report *r, bool *yes, qn_err *err), void *ctx, qn_report *r, qn_err *err)
{
    struct opened x = {0};
    const double began = qn_cli_now();
    const qn_code rc = measure(cli, d, candidate, reference, &x, stop, ctx, r, err);
    qn_progress_clear(&cli->progress);
    r->seconds = qn_cli_now() - began;
    close_all(cli, &x);
    return rc;
}

qn_code qn_gate_write_text(qn_cli *cli, const qn_textbuf *t, const char *path, qn_err *err)
{
    qn_outfile out = QN_OUTFILE_CLOSED;
    QN_TRY(qn_textbuf_check(t, err));
    qn_code rc = qn_outfile_open(&out, &cli->env, path, true, err);
    if (rc == QN_OK && t->n)
        rc = qn_outfile_add(&out, t->text, t->n, err);
    if (rc == QN_OK)
        rc = qn_outfile_seal(&out, err);
    if (rc == QN_OK)
        rc = qn_outfile_publish(&out, err);
    qn_outfile_close(&out);
    return rc;
}

qn_code qn_gate_write_report(qn_cli *cli, const qn_report *r, const char *path, qn_err *err)
{
    qn_textbuf t;
    qn_textbuf_init(&t, cli->env.alloc);
    qn_report_json(&t, r);
    const qn_code rc = qn_gate_write_text(cli, &t, path, err);
    qn_textbuf_release(&t);
    return rc;
}
