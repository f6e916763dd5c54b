/* cmd_bisect.c: quern bisect CANDIDATE REFERENCE: which tensors carry the damage. */
#include "analysis/gate/bisect.h"
#include "base/err.h"
#include "cli/commands.h"
#include "cli/gate_measure.h"
#include "cli/graph_report.h"
#include "cli/json_write.h"
#include "cli/table.h"
#include "cli/units.h"

struct args {
    qn_common common;
    qn_gate_data data;
    double share;
};

static const qn_option options[] = {
    QN_GATE_DATA_OPTIONS(struct args, data),
    {.name = "share", .type = QN_OPT_REAL, .at = offsetof(struct args, share), .arg = "X", .fallback = "0.9", .min = 0, .max = 1,
     .help = "how much of the divergence the tensors that are looked for must account for"},
};

struct opened {
    qn_source *cand, *ref, *base;
    qn_graph *graph;
    qn_tokenizer *tok;
    qn_corpus corpus;
    qn_io_feed feed;
};

static void close_all(struct opened *x)
{
    qn_corpus_release(&x->corpus);
    qn_tokenizer_close(x->tok);
    if (x->feed.graph)
        qn_io_feed_close(&x->feed);
    qn_graph_close(x->graph);
    qn_source_close(x->cand);
    qn_source_close(x->ref);
    qn_source_close(x->base);
}

static qn_code open_all(qn_cli *cli, const struct args *a, struct opened *x, qn_err *err)
{
    const qn_gate_data *d = &a->data;
    if (d->base)
        QN_TRY(qn_cli_open(cli, d->base, &x->base, err));
    QN_TRY(qn_cli_open_on(cli, cli->operands.items[0], x->base, &x->cand, err));
    QN_TRY(qn_cli_open_on(cli, cli->operands.items[1], x->base, &x->ref, err));
    QN_TRY(qn_err_in_path(err, qn_cli_graph(cli, x->ref, &x->graph, err), cli->operands.items[1]));
    if (d->inputs)
        return qn_io_feed_open(&x->feed, &cli->env, x->graph, d->inputs, d->batch ? d->batch : 1, d->lm.chunks, err);
    return qn_lm_data_open(cli, &d->lm, x->ref, x->graph, d->score == 1, &x->tok, &x->corpus, err);
}

static qn_code print_rows(qn_cli *cli, const qn_bisect *b, qn_err *err)
{
    static const qn_column columns[] = {{.title = "tensor", .shrink = true}, {"block"}, {"weights", .right = true}, {"alone", .right = true}, {"of all", .right = true}};
    qn_table t;
    qn_table_init(&t, &cli->out, &cli->arena, columns, 5, 2);
    qn_code rc = QN_OK;
    for (uint32_t i = 0; i < b->n_rows && rc == QN_OK; i++) {
        const qn_bisect_row *r = &b->rows[i];
        char count[32];
        qn_human_count(count, sizeof count, r->n_weights);
        rc = qn_table_cell(&t, err, "%s", r->name);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", r->block);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", count);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%.4g", r->alone);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%.1f %%", 100 * r->alone / b->all);
    }
    if (rc == QN_OK)
        qn_table_print(&t);
    qn_table_release(&t);
    return rc;
}

/* Blocks, when tensors were not looked at: the rows of one stand together. */
static qn_code print_blocks(qn_cli *cli, const qn_bisect *b, qn_err *err)
{
    static const qn_column columns[] = {{.title = "block", .shrink = true}, {"tensors", .right = true}, {"alone", .right = true}, {"of all", .right = true}};
    qn_table t;
    qn_table_init(&t, &cli->out, &cli->arena, columns, 4, 2);
    qn_code rc = QN_OK;
    for (uint32_t i = 0, n; i < b->n_rows && rc == QN_OK; i += n) {
        for (n = 1; i + n < b->n_rows && b->rows[i + n].block == b->rows[i].block;)
            n++;
        rc = qn_table_cell(&t, err, "%s", b->rows[i].block);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%u", n);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%.4g", b->rows[i].alone);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%.1f %%", 100 * b->rows[i].alone / b->all);
    }
    if (rc == QN_OK)
        qn_table_print(&t);
    qn_table_release(&t);
    return rc;
}

static qn_code print_text(qn_cli *cli, const qn_bisect *b, qn_err *err)
{
    FILE *f = cli->out.f;
    const char *what = b->tokens ? "mean KL divergence" : "relative error of the worst output";
    if (!b->n_differing || !(b->all > 0)) {
        fprintf(f, "%u of %u tensors differ; %s is 0: there is no damage\n", b->n_differing, b->n_tensors, what);
        return QN_OK;
    }
    fprintf(f, "%u of %u tensors differ; %s %.4g\n\n", b->n_differing, b->n_tensors, what, b->all);
    if (b->spread)
        fprintf(f, "the damage is spread: more than half of the blocks are needed for it. Below, the error of each of these blocks alone\n\n");
    else
        fprintf(f, "%u %s for %.4g of it (%.1f %%); with %s from the reference, %.4g would be left\n\n", b->n_rows, b->n_rows == 1 ? "tensor accounts" : "tensors account",
                b->explained, 100 * b->explained / b->all, b->n_rows == 1 ? "it" : "them", b->restored);
    QN_TRY(b->spread ? print_blocks(cli, b, err) : print_rows(cli, b, err));
    fprintf(f, "\n%llu runs\n", (unsigned long long)b->n_runs);
    return QN_OK;
}

static void print_json(qn_cli *cli, const qn_bisect *b)
{
    qn_json_writer j;
    qn_jw_open(&j, cli->out.f, "bisect");
    qn_jw_text(&j, "candidate", cli->operands.items[0]);
    qn_jw_text(&j, "reference", cli->operands.items[1]);
    qn_jw_text(&j, "measure", b->tokens ? "kl" : "rel_rms");
    qn_jw_u64(&j, "tensors", b->n_tensors);
    qn_jw_u64(&j, "differing", b->n_differing);
    qn_jw_real(&j, "all", b->all);
    qn_jw_real(&j, "explained", b->explained);
    qn_jw_real(&j, "restored", b->restored);
    qn_jw_bool(&j, "spread", b->spread);
    qn_jw_begin(&j, "culprits", '[');
    for (uint32_t i = 0; i < b->n_rows; i++) {
        qn_jw_begin(&j, NULL, '{');
        qn_jw_text(&j, "tensor", b->rows[i].name);
        qn_jw_text(&j, "block", b->rows[i].block);
        qn_jw_u64(&j, "weights", b->rows[i].n_weights);
        qn_jw_real(&j, "alone", b->rows[i].alone);
        qn_jw_end(&j, '}');
    }
    qn_jw_end(&j, ']');
    qn_jw_u64(&j, "runs", b->n_runs);
    qn_jw_close(&j);
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    struct opened x = {0};
    qn_bisect b;
    const qn_bisect_options o = {.share = a->share, .memory_bytes = cli->env.memory_bytes, .batch_tokens = a->data.batch};
    if (!a->data.lm.data == !a->data.inputs) {
        qn_hint_set(&cli->hint, "for example: quern bisect %s %s --data text.txt", cli->operands.items[0], cli->operands.items[1]);
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "bisect: either --data TEXT or --inputs ARRAYS says on what damage is measured");
    }
    QN_TRY(qn_gate_data_check(cli, &a->data, err));
    qn_code rc = open_all(cli, a, &x, err);
    if (rc == QN_OK) {
        rc = qn_bisect_run(&cli->env, x.cand, x.graph, a->data.inputs ? NULL : &x.corpus, a->data.inputs ? &x.feed : NULL, &o, &b, err);
        qn_progress_clear(&cli->progress);
        if (rc == QN_OK) {
            if (cli->common->json)
                print_json(cli, &b);
            else if (!cli->common->quiet)
                rc = print_text(cli, &b, err);
            qn_bisect_release(&b);
        }
    }
    close_all(&x);
    return rc;
}

static const qn_example examples[] = {
    {"quern bisect model.quern model/ --data wiki.txt --chunks 8", "the tensors whose errors cost most, found on 8 chunks"},
    {"quern bisect model.gguf model/ --data wiki.txt --share=0.5", "those that account for half of it"},
    {"quern bisect net-int8.onnx net.onnx --inputs images.npz", "of a model that is no language model"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"candidate, reference, measure", "paths; kl (mean of tokens, nats) or rel_rms (of the worst output)"},
    {"tensors, differing", "weights of the model, and how many are not the reference's"},
    {"all, explained, restored", "the measure of the whole candidate, of what was found alone, and of the candidate without it"},
    {"spread", "true: more than half of the blocks are needed, and single tensors were not looked for"},
    {"culprits[]", "tensor, block, weights, alone (the measure when nothing else is changed)"},
    {"runs", "how often the model was run"},
    {NULL, NULL},
};

const qn_command qn_cmd_bisect = {
    .name = "bisect",
    .summary = "find the tensors that carry the damage of a compressed model",
    .synopsis = "CANDIDATE REFERENCE --data FILE [--share=X] [options]",
    .description =
        "Measures hybrids: the reference with some tensors taken from the candidate. First each block by itself, then the tensors of the blocks that matter, "
        "until a set is found that accounts for --share of the candidate's divergence and from which no tensor can be left out.\n\n"
        "A single damaged tensor is found in about as many runs as the model has blocks and the block has tensors. Few chunks are enough (--chunks 4): what is looked "
        "for is large. When the damage is spread over more than half of the blocks, there is no small set, and it says so.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 2,
    .max_operands = 2,
    .operand = "a candidate and a reference",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
