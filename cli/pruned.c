/* pruned.c: see pruned.h. */
#include "cli/pruned.h"
#include "analysis/model_digest.h"
#include "base/err.h"
#include "base/path.h"
#include "cli/names.h"
#include "cli/units.h"
#include <string.h>

static qn_code prune(qn_pruned *x, qn_cli *cli, const char *input, const qn_pruned_options *o, qn_err *err)
{
    const bool data = qn_data_given(o->data);
    qn_prune_options opt = qn_prune_options_of(o->wish, data, cli->env.memory_bytes);
    qn_data d = {.cli = cli, .args = o->data};
    const qn_prune_data from = {.open = qn_data_open, .close = qn_data_close, .ctx = &d};
    qn_prune p = {0};
    char a[32], b[32];
    if (o->shapes_only) {
        opt.allocate.repair.refit = false;
        opt.recover = false;
    }
    qn_code rc = qn_prune_open(&p, &cli->env, input, x->path, data ? &from : NULL, &opt, err);
    if (rc == QN_OK)
        rc = qn_prune_plan(&p, err);
    if (rc == QN_OK && !p.plan.reached && !o->wish->at_most)
        rc = QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "at most %.1f %% of the %s can go, and %.1f %% were asked for", 100 * p.plan.share,
                     qn_prune_units[o->wish->by], 100 * o->wish->ratio);
    if (rc == QN_OK)
        rc = qn_prune_run(&p, err);
    if (rc == QN_OK) {
        x->before = p.cost_before;
        x->after = p.cost_after;
        x->distance = opt.recover ? p.recovered : p.repaired;
        qn_progress_clear(&cli->progress);
        qn_human_count(a, sizeof a, p.cost_before.params);
        qn_human_count(b, sizeof b, p.cost_after.params);
        qn_cli_note(cli, "note: pruned from %s to %s parameters; %.2g apart from the zeroed model", a, b, p.proof);
    }
    qn_prune_close(&p);
    return rc;
}

static qn_code calibrate(const qn_pruned *x, qn_cli *cli, const qn_data_args *data, qn_err *err)
{
    qn_source *s = NULL;
    qn_graph *g = NULL;
    qn_data d = {.cli = cli, .args = data};
    qn_calibrate_feed feed;
    qn_stats_meta meta = {0};
    const qn_stats_prop props[2] = {{"program", qn_version()}, {"through", "prune"}};
    qn_stats_source from = {.label = qn_name_last(data->inputs ? data->inputs : data->lm.data)};
    const qn_calibrate_options o = {.memory_bytes = cli->env.memory_bytes, .h_max_columns = 32768};
    qn_calibration done;
    qn_code rc = qn_source_open(&cli->env, x->path, &s, err);
    if (rc == QN_OK)
        rc = qn_graph_open(&cli->env, s, &g, err);
    if (rc == QN_OK)
        rc = qn_data_open(&d, g, &feed, err);
    if (rc == QN_OK)
        rc = qn_model_digest(&cli->env, s, &meta.model, err);
    if (rc == QN_OK) {
        from.digest = d.digest;
        from.tokens = feed.n_tokens;
        meta.tokens = feed.n_tokens;
        meta.sequences = d.sequences;
        meta.context = (uint32_t)d.corpus.context;
        meta.sources = &from;
        meta.n_sources = 1;
        meta.props = props;
        meta.n_props = 2;
        if (d.tok)
            meta.tokenizer = qn_tokenizer_digest(d.tok);
        rc = qn_calibrate(&cli->env, g, &feed, &meta, x->statistics, &o, &done, err);
    }
    qn_data_close(&d);
    qn_graph_close(g);
    qn_source_close(s);
    return rc;
}

qn_code qn_pruned_open(qn_pruned *x, qn_cli *cli, const char *input, const char *out, const qn_pruned_options *o, qn_err *err)
{
    const qn_fs *fs = cli->env.fs;
    *x = (qn_pruned){0};
    QN_TRY(qn_tmptree_open(&x->tree, &cli->env, out, ".quern-pruned", err));
    const int made = fs->mkdir(fs->ctx, x->tree.data);
    if (made != 0)
        return qn_err_in_path(err, QN_FAIL_SYS(err, -made, "folder cannot be created"), x->tree.data);
    char *name = qn_path_last(cli->env.alloc, input, err);
    x->path = name ? qn_path_join(cli->env.alloc, x->tree.data, name, err) : NULL;
    qn_mem_put(cli->env.alloc, name);
    if (!x->path)
        return QN_E_MEMORY;
    QN_TRY(prune(x, cli, input, o, err));
    if (!o->calibrate || !qn_data_given(o->data))
        return QN_OK;
    x->statistics = qn_path_join(cli->env.alloc, x->tree.data, "pruned.qstats", err);
    return x->statistics ? calibrate(x, cli, o->data, err) : QN_E_MEMORY;
}

void qn_pruned_close(qn_pruned *x)
{
    if (!x->tree.env)
        return;
    const qn_alloc *alloc = x->tree.env->alloc;
    qn_mem_put(alloc, x->path);
    qn_mem_put(alloc, x->statistics);
    qn_tmptree_close(&x->tree);
    *x = (qn_pruned){0};
}
