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
#include "cli/lossy_options.h"
#include "cli/names.h"
#include "cli/units.h"
#include "compress/sequential.h"
#include "formats/quern/source.h"
#include <inttypes.h>
#include <string.h>

struct args {
    qn_common common;
    qn_lossy_args lossy;
    qn_lm_data_args lm;
    const char *output, *inputs, *through, *from;
    uint64_t batch, wide, starved, sensitivity;
    bool sequential, diagonal, force, restart, dry_run;
};

#define NOISE 0.01 /* relative error of a layer's output that sensitivities are measured with */

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
    {.name = "sensitivity", .type = QN_OPT_COUNT, .at = offsetof(struct args, sensitivity), .arg = "CHUNKS", .implied = "16", .min = 1, .max = UINT32_MAX,
     .help = "also measure, on the first CHUNKS chunks, what an error in each weight costs the whole model: its predictions are "
             "compared with and without an error in that one weight. Takes a run over the chunks for every weight. Language models only"},
    {.name = "from", .type = QN_OPT_PATH, .at = offsetof(struct args, from), .arg = "FILE",
     .help = "with --sensitivity: take the statistics over from FILE instead of measuring them"},
    {.name = "through", .type = QN_OPT_PATH, .at = offsetof(struct args, through), .arg = "PACKED",
     .help = "measure what every layer sees when all weights are those of PACKED, a .quern file made from MODEL: for compressing MODEL again "
             "with these statistics"},
    {.name = "sequential", .type = QN_OPT_FLAG, .at = offsetof(struct args, sequential),
     .help = "measure each block behind blocks that are approximated already, as the options of approximation say. The statistics are "
             "for compressing with the same options"},
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
    qn_stats_prop props[4];
    const char *out;
    /* sensitivities */
    qn_corpus few;           /* the first chunks of corpus: borrows from it */
    qn_lm_feed few_lm;
    qn_calibrate_feed few_feed;
    qn_stats_file from;
    /* where the weights come from */
    qn_source *through;
    qn_recipe recipe;
    qn_sequential *sequential;
    qn_digest weights;
};
#define CLOSED ((struct opened){.from = QN_STATS_FILE_CLOSED, .recipe = QN_RECIPE_EMPTY})

static void close_all(struct opened *x)
{
    qn_sequential_close(x->sequential);
    qn_recipe_release(&x->recipe);
    qn_source_close(x->through);
    qn_stats_file_close(&x->from);
    qn_lm_feed_release(&x->few_lm);
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
    if (a->sensitivity) {
        x->few = x->corpus;
        x->few.n_chunks = a->sensitivity < x->few.n_chunks ? a->sensitivity : x->few.n_chunks;
        QN_TRY(qn_lm_feed_open(&x->few_lm, &cli->env, &x->few, a->batch ? a->batch : 1024, true, err));
        x->few_feed = (qn_calibrate_feed){.n_batches = x->few_lm.n_batches, .n_tokens = x->few_lm.n_tokens, .feed = qn_lm_feed_batch,
                                          .ctx = &x->few_lm, .pool = &x->few_lm.pool};
    }
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

static qn_code read_through(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err)
{
    const struct opened *x = ctx;
    return qn_weight_from_source(g->env, x->through, g, value, first, n, dst, err);
}

/* It must be the same model: what it was packed from, or what it gives back. */
static qn_code open_through(qn_cli *cli, const struct args *a, struct opened *x, qn_err *err)
{
    char ours[33];
    char *hex = qn_arena_get(&cli->arena, 33, 1, err);
    if (!hex)
        return QN_E_MEMORY;
    QN_TRY(qn_cli_open(cli, a->through, &x->through, err));
    QN_TRY(qn_model_digest(&cli->env, x->through, &x->weights, err));
    qn_digest_hex(&x->meta.model, ours);
    qn_digest_hex(&x->weights, hex);
    bool same = qn_digest_equal(&x->weights, &x->meta.model);
    qn_reader *r = qn_quern_source_reader(x->through);
    const qn_index *ix = r ? qn_reader_index(r) : NULL;
    for (uint64_t i = 0; ix && i < ix->n_props; i++)
        same = same || (!strcmp(ix->props[2 * i], "model") && !strcmp(ix->props[2 * i + 1], ours));
    if (!same)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "was not packed from this model, which is %s", ours), a->through);
    x->props[x->meta.n_props++] = (qn_stats_prop){"through", hex};
    return QN_OK;
}

static qn_code open_sequential(qn_cli *cli, struct opened *x, qn_err *err)
{
    if (x->recipe.size_bytes || x->recipe.bits_per_weight > 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "calibrate: --sequential needs bits, not a size: 'quern plan' finds them");
    QN_TRY(qn_sequential_open(&x->sequential, &cli->env, x->model, x->graph, &x->recipe, &x->meta.model, err));
    x->props[x->meta.n_props++] = (qn_stats_prop){"sequential", qn_sequential_recipe(x->sequential)};
    return QN_OK;
}

/* All but the sensitivities is from another file, and what is said about the data too. */
static qn_code open_from(qn_cli *cli, const struct args *a, struct opened *x, qn_err *err)
{
    QN_TRY(qn_stats_file_open(&x->from, &cli->env, a->from, err));
    if (!x->from.complete)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "is not complete: its calibration was stopped"), a->from);
    if (!qn_digest_equal(&x->from.meta.model, &x->meta.model))
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "was measured on another model"), a->from);
    x->meta = x->from.meta;
    return QN_OK;
}

static qn_code open_all(qn_cli *cli, const struct args *a, struct opened *x, qn_err *err)
{
    const char *path = cli->operands.items[0];
    QN_TRY(qn_cli_open(cli, path, &x->model, err));
    QN_TRY(qn_err_in_path(err, qn_cli_graph(cli, x->model, &x->graph, err), path));
    QN_TRY(a->inputs ? open_arrays(cli, a, x, err) : open_text(cli, a, x, err));
    QN_TRY(qn_model_digest(&cli->env, x->model, &x->meta.model, err));
    x->props[x->meta.n_props++] = (qn_stats_prop){"family", x->graph->family};
    x->props[x->meta.n_props++] = (qn_stats_prop){"program", qn_version()};
    x->meta.tokens = x->feed.n_tokens;
    x->meta.sources = &x->data;
    x->meta.n_sources = 1;
    x->meta.props = x->props;
    if (a->sequential)
        QN_TRY(open_sequential(cli, x, err));
    if (a->through)
        QN_TRY(open_through(cli, a, x, err));
    return a->from ? open_from(cli, a, x, err) : QN_OK;
}

/* What is in the file now. */
struct summary {
    uint32_t n_inputs, n_tensors, n_starved, n_costs;
    uint64_t n_bytes;
};

static qn_code summarise(qn_cli *cli, const struct args *a, const char *path, struct summary *s, qn_err *err)
{
    qn_stats_file f = QN_STATS_FILE_CLOSED;
    QN_TRY(qn_stats_file_open(&f, &cli->env, path, err));
    *s = (struct summary){.n_inputs = f.n_inputs, .n_tensors = f.n_items, .n_costs = f.n_costs, .n_bytes = f.end};
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
            qn_jw_u64(&j, "sensitivities", s->n_costs);
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
    if (s->n_costs)
        printf("sensitivities of %" PRIu32 " weights\n", s->n_costs);
    if (c->n_resumed)
        printf("%" PRIu32 " of %" PRIu32 " blocks were there from a run that had been stopped\n", c->n_resumed, c->n_blocks);
}

static qn_code calibrate(qn_cli *cli, const struct args *a, struct opened *x, qn_err *err)
{
    qn_calibrate_options o = {.memory_bytes = cli->env.memory_bytes, .h_max_columns = (uint32_t)a->wide, .diagonal = a->diagonal,
                                    .overwrite = a->force, .restart = a->restart,
                              .sensitivity = a->sensitivity ? &x->few_feed : NULL, .noise = NOISE, .from = a->from ? &x->from : NULL,
                              .weights = x->weights};
    if (a->through) {
        o.read = read_through;
        o.read_ctx = x;
    }
    if (x->sequential)
        qn_sequential_join(x->sequential, &o);
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

static qn_code check_args(const struct args *a, qn_err *err)
{
    if (a->from && (!a->sensitivity || a->sequential))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "calibrate: --from goes with --sensitivity");
    if (a->sensitivity && a->inputs)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "calibrate: --sensitivity is for language models, with --data");
    if (a->sequential && (a->through || a->sensitivity))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "calibrate: --sequential does not go with --%s", a->through ? "through" : "sensitivity");
    if (a->lossy.stats)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "calibrate: --stats is for compress: statistics are measured here");
    return QN_OK;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    struct opened x = CLOSED;
    x.out = a->output;
    QN_TRY(check_args(a, err));
    QN_TRY(qn_lossy_recipe_of(&x.recipe, cli, &a->lossy, err));
    if (qn_recipe_is_lossy(&x.recipe) != a->sequential)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, a->sequential ? "calibrate: --sequential needs --bits, --codec or --recipe"
                                                                    : "calibrate: options of approximation go with --sequential");
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
    {"quern calibrate model/ --data calib.txt --sensitivity -o model.qstats", "and what errors in each weight cost"},
    {"quern calibrate model/ --data calib.txt --sequential --bits=2 -o two.qstats", "for 'compress --bits=2': every block as it will be behind compressed ones"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"model, data, output", "paths"},
    {"dry_run", "true when nothing was written"},
    {"model_digest, data_digest", "what the statistics belong to"},
    {"tokens (or samples), sequences", "what was run"},
    {"blocks, blocks_resumed", "of the model; those that were measured by a run that had been stopped"},
    {"inputs, tensors", "entries of the file; tensors whose input they are"},
    {"sensitivities", "weights whose sensitivity is in the file"},
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
        "With --sensitivity it is also measured what an error in each weight costs: one weight at a time gets an error of the shape that "
        "quantizers leave, and the divergence of the model's predictions is compared with the size of the error. Bits can be divided "
        "among the layers by that.\n\n"
        "With --sequential each block is approximated as soon as it is measured, and the next one sees what comes out of it; "
        "'quern compress' with the same options and these statistics then makes the same weights. Within a block, all inputs "
        "are measured before any of its weights changes. --through does the same with weights that were packed before.\n\n"
        "Use text like that which the model is for, and never the text that it will be evaluated on.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = 1,
    .operand = "a model to calibrate",
    .examples = examples,
    .json = keys,
    .lossy_options = &qn_lossy_options_table,
    .args_bytes = sizeof(struct args),
    .run = run,
};
