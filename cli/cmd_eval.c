/* cmd_eval.c: quern eval MODEL --data FILE. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/eval_io.h"
#include "cli/eval_report.h"
#include "cli/graph_report.h"
#include "cli/lm_data.h"
#include <string.h>

struct args {
    qn_common common;
    qn_lm_data_args lm;
    const char *against, *base, *inputs, *labels;
    uint64_t batch;
    bool layers;
    int score;
};

static const char *const scores[] = {"half", "all", NULL};

static const qn_option options[] = {
    QN_LM_DATA_OPTIONS(struct args, lm),
    {.name = "against", .type = QN_OPT_PATH, .at = offsetof(struct args, against), .arg = "MODEL",
     .help = "a reference, mostly the dense model: both see the same tokens (or arrays), and the divergence between them is measured"},
    {.name = "inputs", .type = QN_OPT_PATH, .at = offsetof(struct args, inputs), .arg = "FILE",
     .help = "instead of --data, for models that are no language models: arrays (.npz, or .npy for a single input) named as the "
             "model's inputs, samples along the first axis"},
    {.name = "labels", .type = QN_OPT_PATH, .at = offsetof(struct args, labels), .arg = "FILE",
     .help = "with --inputs: the right class of every sample (.npy), for the accuracy of the first output"},
    {.name = "layers", .type = QN_OPT_FLAG, .at = offsetof(struct args, layers),
     .help = "with --against: the error of what each layer puts out"},
    {.name = "score", .type = QN_OPT_CHOICE, .at = offsetof(struct args, score), .arg = "PART", .choices = scores, .fallback = "half",
     .help = "which tokens of a chunk count: the second half, which has half a chunk of context before it, or all but "
             "the first. Documents are always scored whole"},
    {.name = "batch", .type = QN_OPT_COUNT, .at = offsetof(struct args, batch), .arg = "N", .min = 1, .max = 1 << 24,
     .help = "tokens (1024), or samples of --inputs (1), that go through the model together"},
    {.name = "base", .type = QN_OPT_PATH, .at = offsetof(struct args, base), .arg = "CHECKPOINT",
     .help = "the checkpoint that was given to compress --base"},
};

/* What is open while the command runs. */
struct opened {
    qn_source *model, *ref, *base;
    qn_graph *graph, *ref_graph;
    qn_tokenizer *tok;
    qn_corpus corpus;
};

static void close_all(struct opened *x)
{
    qn_corpus_release(&x->corpus);
    qn_tokenizer_close(x->tok);
    qn_graph_close(x->graph);
    qn_graph_close(x->ref_graph);
    qn_source_close(x->model);
    qn_source_close(x->ref);
    qn_source_close(x->base);
}

static qn_code open_model(qn_cli *cli, const char *path, qn_source *base, qn_source **s, qn_graph **g, qn_err *err)
{
    QN_TRY(qn_cli_open_on(cli, path, base, s, err));
    return qn_err_in_path(err, qn_cli_graph(cli, *s, g, err), path);
}

static qn_code measure(qn_cli *cli, const struct args *a, struct opened *x, qn_err *err)
{
    const qn_eval_options o = {.memory_bytes = cli->env.memory_bytes, .batch_tokens = a->batch, .layers = a->layers};
    qn_eval e;
    const double began = qn_cli_now();
    qn_code rc = qn_err_in_path(err, qn_evaluate(&cli->env, x->graph, x->ref_graph, &x->corpus, &o, &e, err), cli->operands.items[0]);
    qn_progress_clear(&cli->progress);
    QN_TRY(rc);
    const qn_eval_facts f = {.model = cli->operands.items[0], .against = a->against, .data = a->lm.data,
                             .tokenizer = x->tok ? qn_tokenizer_kind(x->tok) : NULL, .graph = x->graph, .ref = x->ref_graph,
                             .corpus = &x->corpus, .eval = &e, .score_all = a->score == 1, .seconds = qn_cli_now() - began};
    if (cli->common->json)
        qn_eval_json(&f);
    else if (!cli->common->quiet)
        rc = qn_eval_text(cli, &f, err);
    qn_eval_release(&e);
    return rc;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    struct opened x = {0};
    if (!a->lm.data == !a->inputs) {
        qn_hint_set(&cli->hint, "for example: quern eval %s --data text.txt", cli->operands.items[0]);
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "eval: either --data TEXT or --inputs ARRAYS says what to evaluate on");
    }
    if (a->inputs)
        QN_TRY(qn_lm_data_unused(cli, &a->lm, err));
    if (a->labels && !a->inputs)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "eval: --labels goes with --inputs");
    if (a->inputs && !a->against && !a->labels)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "eval: arrays say nothing by themselves: give --against MODEL or --labels FILE");
    if (a->inputs && a->layers)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "eval: --layers goes with --data");
    if (a->layers && !a->against)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "eval: --layers compares with a reference: give --against MODEL");
    qn_code rc = a->base ? qn_cli_open(cli, a->base, &x.base, err) : QN_OK;
    if (rc == QN_OK)
        rc = open_model(cli, cli->operands.items[0], x.base, &x.model, &x.graph, err);
    if (rc == QN_OK && a->against)
        rc = open_model(cli, a->against, x.base, &x.ref, &x.ref_graph, err);
    if (rc == QN_OK && a->inputs) {
        const qn_eval_io_args io = {.model = cli->operands.items[0], .against = a->against, .inputs = a->inputs, .labels = a->labels,
                                    .batch = a->batch ? a->batch : 1, .limit = a->lm.chunks};
        rc = qn_eval_io(cli, &io, x.graph, x.ref_graph, err);
        close_all(&x);
        return rc;
    }
    if (rc == QN_OK)
        rc = qn_lm_data_open(cli, &a->lm, x.model, x.graph, a->score == 1, &x.tok, &x.corpus, err);
    if (rc == QN_OK)
        rc = measure(cli, a, &x, err);
    close_all(&x);
    return rc;
}

static const qn_example examples[] = {
    {"quern eval model/ --data wiki.test.raw", "perplexity with its interval"},
    {"quern eval model.quern --data wiki.test.raw --against model/", "what compression cost: KL divergence, same token first"},
    {"quern eval model.gguf --data stories.txt --documents --context 256", "each document for itself"},
    {"quern eval net.quern --inputs images.npz --labels classes.npy", "how often it is right"},
    {"quern eval model.quern --data tokens.npy --against model/ --layers --json", "error by layer, for a program"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"model, against, data, tokenizer, family, vocabulary", "what was evaluated on what"},
    {"tokens_digest", "of the tokens and cuts: two runs with one digest have seen the same"},
    {"unit, context, n_chunks, tokens_fed, tokens_scored, tokens_left_out", "how the text was cut"},
    {"perplexity, nll, top1", "value, se, low, high (95 %, over chunks); nll in nats per token"},
    {"reference.perplexity, .perplexity_ratio, .kl, .same_top1, .probability_change", "against the reference: the same four numbers"},
    {"reference.kl_quantiles, .probability_change_quantiles", "of single tokens: min, p5, p50, p95, p99, p99.9, max"},
    {"layers[]", "with --layers: name, rel_rms, max_abs of each block's output"},
    {"chunks[]", "scored, nll, top, and against a reference nll_reference, kl, same_top, of each chunk"},
    {"inputs, inputs_digest, samples, runs, labels", "with --inputs: what was run"},
    {"outputs[]", "with --inputs: name, values, rel_rms, max_abs, max_rel (to the largest of the reference), cosine, same_top1, accuracy, "
                  "accuracy_reference"},
    {"peak_tensor_bytes, seconds", "largest size of all tensors held at a time; time taken"},
    {NULL, NULL},
};

const qn_command qn_cmd_eval = {
    .name = "eval",
    .summary = "measure how well a model predicts a text, alone or against a reference",
    .synopsis = "MODEL --data FILE [--against MODEL] [options]",
    .description =
        "Runs a language model of any readable format, a .quern file included, over a text, and prints its perplexity. With "
        "--against it also runs the reference over the same tokens, and measures how far the predictions diverge.\n\n"
        "Plain text is taken as one row of tokens and cut into chunks of --context tokens; a rest that does not fill a chunk is "
        "left out. When the tokenizer puts a BOS in front of text, every chunk begins with it. By default the second half of "
        "each chunk is scored, so figures can be compared with those of llama.cpp's perplexity tool. With --documents every "
        "document is a sequence of its own, cut after --context predicted tokens, and all of it is scored.\n\n"
        "Other models (ONNX) are evaluated on arrays, with --inputs: the error of each output against a reference, how often the "
        "largest value stands in the same place, and with --labels the accuracy.\n\n"
        "Intervals are for 95 %, over chunks: tokens within a chunk depend on one another.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = 1,
    .operand = "a model to evaluate",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
