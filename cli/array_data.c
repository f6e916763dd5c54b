/* array_data.c: see array_data.h. */
#include "cli/array_data.h"
#include "base/err.h"
#include <string.h>

bool qn_data_given(const qn_data_args *a)
{
    return a->inputs || a->lm.data;
}

qn_code qn_data_check(const qn_cli *cli, const qn_data_args *a, qn_err *err)
{
    if (a->lm.data && a->inputs)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: --data and --inputs do not go together", cli->command->name);
    /* --chunks also limits the runs of --inputs */
    return a->lm.data || a->inputs ? QN_OK : qn_lm_data_unused(cli, &a->lm, err);
}

static qn_code open_arrays(qn_data *d, const qn_graph *g, qn_calibrate_feed *out, qn_err *err)
{
    const qn_data_args *a = d->args;
    QN_TRY(qn_io_feed_open(&d->io, &d->cli->env, g, a->inputs, a->batch ? a->batch : 16, a->lm.chunks, err));
    *out = (qn_calibrate_feed){.n_batches = d->io.n_batches, .n_tokens = d->io.n_samples, .feed = qn_io_feed_batch, .ctx = &d->io, .pool = &d->io.pool};
    d->digest = d->io.digest;
    d->sequences = d->io.n_samples;
    return QN_OK;
}

static qn_code open_text(qn_data *d, const qn_graph *g, qn_calibrate_feed *out, qn_err *err)
{
    const qn_data_args *a = d->args;
    QN_TRY(qn_lm_check(g, err));
    QN_TRY(qn_lm_data_open(d->cli, &a->lm, g->source, g, true, &d->tok, &d->corpus, err));
    QN_TRY(qn_lm_feed_open(&d->lm, &d->cli->env, &d->corpus, a->batch ? a->batch : 1024, true, err));
    *out = (qn_calibrate_feed){.n_batches = d->lm.n_batches, .n_tokens = d->lm.n_tokens, .feed = qn_lm_feed_batch, .ctx = &d->lm, .pool = &d->lm.pool};
    d->digest = d->corpus.digest;
    d->sequences = d->corpus.n_chunks;
    return QN_OK;
}

qn_code qn_data_open(void *ctx, const qn_graph *g, qn_calibrate_feed *out, qn_err *err)
{
    qn_data *d = ctx;
    return d->args->inputs ? open_arrays(d, g, out, err) : open_text(d, g, out, err);
}

void qn_data_close(void *ctx)
{
    qn_data *d = ctx;
    qn_lm_feed_release(&d->lm);
    qn_io_feed_close(&d->io);
    qn_corpus_release(&d->corpus);
    qn_tokenizer_close(d->tok);
    *d = (qn_data){.cli = d->cli, .args = d->args};
}
