/* cmd_calibrate.c: quern calibrate MODEL --data FILE -o STATS. */
#include "analysis/calibrate/calibrate.h"
#include "analysis/eval/io_feed.h"
#include "analysis/eval/lm_feed.h"
#include "analysis/model_digest.h"
#include "analysis/stats/file.h"
#include "base/err.h"
#include "cli/commands.h"
#include "cli/graph_report.h"
#include "cli/json_write.h"
#include "cli/lm_data.h"
#include "cli/names.h"
#include "cli/units.h"
#include <inttypes.h>
#include <string.h>

struct args {
    qn_common common;
    qn_lm_data_args lm;
    const char *output, *inputs;
    uint64_t batch, wide, starved;
    bool diagonal, force, restart, dry_run;
};

static const qn_option options[] = {
    {.name = "output", .letter = 'o', .type = QN_OPT_PATH, .at = offsetof(struct args, output), .arg = "FILE",
     .help = "write the statistics to FILE; without it MODEL.qstats beside the model"},
    QN_LM_DATA_OPTIONS(struct args, lm),
    {.name = "inputs", .type = QN_OPT_PATH, .at = offsetof(struct args, inputs), .arg = "FILE",
     .help = "instead of --data, for models that are no language models: arrays (.npz, or .npy for a single input) named as the "
             "model's inputs, samples along the first axis"},
    {.name = "batch", .type = QN_OPT_COUNT, .at = offsetof(struct args, batch), .arg = "N", .min = 1, .max = 1 << 24,
     .help = "tokens (1024), or samples of --inputs (16), that go through the model together"},
    {.name = "diagonal", .type = QN_OPT_FLAG, .at = offsetof(struct args, diagonal),
     .help = "keep only the diagonal of H: what an importance matrix holds, in a file that is much smaller"},
    {.name = "wide", .type = QN_OPT_COUNT, .at = offsetof(struct args, wide), .arg = "N", .min = 1, .max = 1 << 24, .fallback = "32768",
     .help = "inputs with more than N columns keep only the diagonal: H takes 2 N squared bytes"},
    {.name = "starved", .type = QN_OPT_COUNT, .at = offsetof(struct args, starved), .arg = "ROWS", .fallback = "256",
     .help = "name the experts that saw fewer rows"},
    {.name = "force", .letter = 'f', .type = QN_OPT_FLAG, .at = offsetof(struct args, force), .help = "replace the output when it exists"},
    {.name = "restart", .type = QN_OPT_FLAG, .at = offsetof(struct args, restart),
     .help = "begin again instead of resuming an unfinished run"},
    {.name = "dry-run", .letter = 'n', .type = QN_OPT_FLAG, .at = offsetof(struct args, dry_run),
     .help = "read and check model and data, tell what would be run, and write nothing"},
};

/* What is open while the command runs. */
struct opened {
    qn_source *model;
    qn_graph *graph;
    qn_tokenizer *tok;
    qn_corpus corpus;
    qn_lm_feed lm;
    qn_io_feed io;
    bool is_lm;
    qn_calibrate_feed feed;
    qn_stats_meta meta;
    qn_stats_source data;
    qn_stats_prop props[2];
    const char *out;
};

static void close_all(struct opened *x)
{
    qn_lm_feed_release(&x->lm);
    qn_io_feed_close(&x->io);
    qn_corpus_release(&x->corpus);
    qn_tokenizer_close(x->tok);
    qn_graph_close(x->graph);
    qn_source_close(x->model);
}

static qn_code open_text(qn_cli *cli, const struct args *a, struct opened *x, qn_err *err)
{
    QN_TRY(qn_lm_check(x->graph, err));
    QN_TRY(qn_lm_data_open(cli, &a->lm, x->model, x->graph, true, &x->tok, &x->corpus, err));
    QN_TRY(qn_lm_feed_open(&x->lm, &cli->env, &x->corpus, a->batch ? a->batch : 1024, true, err));
    x->is_lm = true;
    x->feed = (qn_calibrate_feed){.n_batches = x->lm.n_batches, .n_tokens = x->lm.n_tokens, .feed = qn_lm_feed_batch, .ctx = &x->lm, .pool = &x->lm.pool};
    x->data = (qn_stats_source){.digest = x->corpus.digest, .tokens = x->lm.n_tokens, .label = qn_name_last(a->lm.data)};
    x->meta.sequences = x->corpus.n_chunks;
    x->meta.context = (uint32_t)x->corpus.context;
    if (x->tok)
        x->meta.tokenizer = qn_tokenizer_digest(x->tok);
    return QN_OK;
}

static qn_code open_arrays(qn_cli *cli, const struct args *a, struct opened *x, qn_err *err)
{
    QN_TRY(qn_graph_check_runs(x->graph, err));
    QN_TRY(qn_io_feed_open(&x->io, &cli->env, x->graph, a->inputs, a->batch ? a->batch : 16, a->lm.chunks, err));
    x->feed = (qn_calibrate_feed){.n_batches = x->io.n_batches, .n_tokens = x->io.n_samples, .feed = qn_io_feed_batch, .ctx = &x->io, .pool = &x->io.pool};
    x->data = (qn_stats_source){.digest = x->io.digest, .tokens = x->io.n_samples, .label = qn_name_last(a->inputs)};
    x->meta.sequences = x->io.n_samples;
    return QN_OK;
}

static qn_code open_all(qn_cli *cli, const struct args *a, struct opened *x, qn_err *err)
{
    const char *path = cli->operands.items[0];
    QN_TRY(qn_cli_open(cli, path, &x->model, err));
    QN_TRY(qn_err_in_path(err, qn_cli_graph(cli, x->model, &x->graph, err), path));
    QN_TRY(a->inputs ? open_arrays(cli, a, x, err) : open_text(cli, a, x, err));
    QN_TRY(qn_model_digest(&cli->env, x->model, &x->meta.model, err));
    x->props[0] = (qn_stats_prop){"family", x->graph->family};
    x->props[1] = (qn_stats_prop){"program", qn_version()};
    x->meta.tokens = x->feed.n_tokens;
    x->meta.sources = &x->data;
    x->meta.n_sources = 1;
    x->meta.props = x->props;
    x->meta.n_props = 2;
    return QN_OK;
}

/* What is in the file now. */
struct summary {
    uint32_t n_inputs, n_tensors, n_starved;
    uint64_t n_bytes;
};

static qn_code summarise(qn_cli *cli, const struct args *a, const char *path, struct summary *s, qn_err *err)
{
    qn_stats_file f = QN_STATS_FILE_CLOSED;
    QN_TRY(qn_stats_file_open(&f, &cli->env, path, err));
    *s = (struct summary){.n_inputs = f.n_inputs, .n_tensors = f.n_items, .n_bytes = f.end};
    for (uint32_t i = 0; i < f.n_items; i++) {
        if (!qn_stats_is_starved(&f, &f.items[i], a->starved))
            continue;
        if (s->n_starved++ < 8 && !cli->common->json)
            qn_cli_note(cli, "warning: expert %s saw %" PRIu64 " rows only", f.items[i].name, f.inputs[f.items[i].input].count);
    }
    if (s->n_starved > 8 && !cli->common->json)
        qn_cli_note(cli, "warning: and %" PRIu32 " more experts like these", s->n_starved - 8);
    qn_stats_file_close(&f);
    return QN_OK;
}

static void report(qn_cli *cli, const struct args *a, const struct opened *x, const qn_calibration *c, const struct summary *s, double seconds)
{
    if (cli->common->json) {
        qn_json_writer j;
        char hex[33];
        qn_jw_open(&j, stdout, "calibrate");
        qn_jw_text(&j, "model", cli->operands.items[0]);
        qn_jw_text(&j, "data", a->inputs ? a->inputs : a->lm.data);
        qn_jw_text(&j, "output", x->out);
        qn_jw_bool(&j, "dry_run", a->dry_run);
        qn_digest_hex(&x->meta.model, hex);
        qn_jw_text(&j, "model_digest", hex);
        qn_digest_hex(&x->data.digest, hex);
        qn_jw_text(&j, "data_digest", hex);
        qn_jw_u64(&j, x->is_lm ? "tokens" : "samples", x->feed.n_tokens);
        qn_jw_u64(&j, "sequences", x->meta.sequences);
        qn_jw_u64(&j, "blocks", x->graph->n_blocks);
        if (!a->dry_run) {
            qn_jw_u64(&j, "blocks_resumed", c->n_resumed);
            qn_jw_u64(&j, "inputs", s->n_inputs);
            qn_jw_u64(&j, "tensors", s->n_tensors);
            qn_jw_u64(&j, "starved_experts", s->n_starved);
            qn_jw_u64(&j, "bytes", s->n_bytes);
            qn_jw_u64(&j, "peak_tensor_bytes", c->peak_bytes);
        }
        qn_jw_real(&j, "seconds", seconds);
        qn_jw_close(&j);
        return;
    }
    if (cli->common->quiet)
        return;
    char amount[32], size[32], time[32], name[200];
    qn_grouped(amount, sizeof amount, x->feed.n_tokens);
    qn_human_seconds(time, sizeof time, seconds);
    qn_printable(name, sizeof name, x->out, strlen(x->out));
    if (a->dry_run) {
        printf("would run %s %s in %" PRIu64 " batches through %" PRIu32 " blocks, and write %s\n", amount, x->is_lm ? "tokens" : "samples",
               x->feed.n_batches, x->graph->n_blocks, name);
        return;
    }
    qn_human_bytes(size, sizeof size, s->n_bytes);
    printf("%s: inputs of %" PRIu32 " tensors, %s, from %s %s, in %s\n", name, s->n_tensors, size, amount, x->is_lm ? "tokens" : "samples", time);
    if (c->n_resumed)
        printf("%" PRIu32 " of %" PRIu32 " blocks were there from a run that had been stopped\n", c->n_resumed, c->n_blocks);
}

static qn_code calibrate(qn_cli *cli, const struct args *a, struct opened *x, qn_err *err)
{
    const qn_calibrate_options o = {.memory_bytes = cli->env.memory_bytes, .h_max_columns = (uint32_t)a->wide, .diagonal = a->diagonal,
                                    .overwrite = a->force, .restart = a->restart};
    qn_calibration c = {0};
    struct summary s = {0};
    const double began = qn_cli_now();
    if (!a->dry_run) {
        const qn_code rc = qn_err_in_path(err, qn_calibrate(&cli->env, x->graph, &x->feed, &x->meta, x->out, &o, &c, err), cli->operands.items[0]);
        qn_progress_clear(&cli->progress);
        if (rc == QN_E_CANCELLED)
            qn_hint_set(&cli->hint, "the same command again goes on from here; what is done waits in %s.partial", x->out);
        QN_TRY(rc);
        QN_TRY(summarise(cli, a, x->out, &s, err));
    }
    report(cli, a, x, &c, &s, qn_cli_now() - began);
    return QN_OK;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    struct opened x = {.out = a->output};
    if (!a->lm.data == !a->inputs) {
        qn_hint_set(&cli->hint, "for example: quern calibrate %s --data text.txt", cli->operands.items[0]);
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "calibrate: either --data TEXT or --inputs ARRAYS says what to run");
    }
    if (a->inputs)
        QN_TRY(qn_lm_data_unused(cli, &a->lm, err));
    if (!x.out)
        QN_TRY(qn_name_beside(&cli->arena, cli->operands.items[0], ".qstats", &x.out, err));
    qn_code rc = open_all(cli, a, &x, err);
    if (rc == QN_OK)
        rc = calibrate(cli, a, &x, err);
    close_all(&x);
    return rc;
}

static const qn_example examples[] = {
    {"quern calibrate model/ --data calib.txt -o model.qstats", "what every layer sees on this text"},
    {"quern calibrate model/ --data calib.jsonl --chunks 128 --context 2048", "128 documents of at most 2048 tokens"},
    {"quern calibrate net.onnx --inputs samples.npz", "a model of images or sound, on arrays"},
    {"quern calibrate model/ --data calib.txt --memory 2G", "a model larger than memory, block by block"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"model, data, output", "paths"},
    {"dry_run", "true when nothing was written"},
    {"model_digest, data_digest", "what the statistics belong to"},
    {"tokens (or samples), sequences", "what was run"},
    {"blocks, blocks_resumed", "of the model; those that were measured by a run that had been stopped"},
    {"inputs, tensors", "entries of the file; tensors whose input they are"},
    {"starved_experts", "experts that saw fewer rows than --starved"},
    {"bytes", "of the file"},
    {"peak_tensor_bytes, seconds", "largest size of all tensors of the forward pass held at a time; time taken"},
    {NULL, NULL},
};

const qn_command qn_cmd_calibrate = {
    .name = "calibrate",
    .summary = "run a model over data and keep what every weight sees",
    .synopsis = "MODEL --data FILE [-o OUTPUT] [options]",
    .description =
        "Runs a model over text (or arrays, with --inputs) and writes a statistics file: for every linear layer, convolution and "
        "expert the second moment H of its input, sums, extremes and counts. Quantizers and pruning need it; `quern stats` "
        "shows it, merges files, and exchanges importance matrices with llama.cpp.\n\n"
        "The model runs block by block over all the data, so only one block's weights are in memory; what flows between "
        "blocks waits in a temporary file (in TMPDIR) when it passes a quarter of --memory. A run that is stopped goes on behind the "
        "last finished block when the same command is given again.\n\n"
        "Use text like that which the model is for, and never the text that it will be evaluated on.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = 1,
    .operand = "a model to calibrate",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
