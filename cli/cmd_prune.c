/* cmd_prune.c: quern prune MODEL --ratio R: groups of weights go, the rest is refitted, the model becomes smaller. */
#include "base/err.h"
#include "cli/array_data.h"
#include "cli/commands.h"
#include "cli/eval_io.h"
#include "cli/names.h"
#include "cli/prune_report.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct args {
    qn_common common;
    qn_data_args data;
    const char *output, *zeroed, *sparsity, *labels;
    double ratio, most, rate, ridge;
    uint64_t multiple, seed, recover, generations, drop_layers, drop_experts;
    int by, allocate, saliency, layout, gradual, sparse_by;
    qn_texts keep;
    bool no_refit, inexact, inner, any_heads, at_most, sparse_global, force, dry_run;
};

/* Of --gradual: none when it is not given. */
static const char *const gradual[] = {"no", "hesso", "dhspg", NULL};
static const char *const sparse_by[] = {"magnitude", "wanda", "feedback", NULL};

static const qn_option options[] = {
    {.name = "output", .letter = 'o', .type = QN_OPT_PATH, .at = offsetof(struct args, output), .arg = "PATH",
     .help = "write the pruned model to PATH: a file for a file, a folder for a folder. Without it MODEL-pruned beside the model"},
    {.name = "ratio", .letter = 'r', .type = QN_OPT_REAL, .at = offsetof(struct args, ratio), .arg = "R", .min = 0, .max = 1,
     .help = "the share that goes, between 0 and 1"},
    {.name = "by", .type = QN_OPT_CHOICE, .at = offsetof(struct args, by), .arg = "WHAT", .choices = qn_prune_units, .fallback = "params",
     .help = "of what: parameters, multiplications, bytes, the time of a run on this machine, or the groups of every family alike"},
    {.name = "at-most", .type = QN_OPT_FLAG, .at = offsetof(struct args, at_most),
     .help = "be content with less than --ratio when not as much can go; without it that is an error"},
    QN_DATA_OPTIONS(struct args, data),
    {.name = "saliency", .type = QN_OPT_CHOICE, .at = offsetof(struct args, saliency), .arg = "NAME", .choices = qn_prune_saliencies, .fallback = "obs",
     .help = "what decides which groups go: obs, the exact rise of the error of what reads them when the rest reacts; the others are cheaper and worse"},
    {.name = "no-refit", .type = QN_OPT_FLAG, .at = offsetof(struct args, no_refit),
     .help = "leave the weights that stay as they are, instead of fitting them to the dense model's outputs"},
    {.name = "ridge", .type = QN_OPT_REAL, .at = offsetof(struct args, ridge), .arg = "X", .max = 1000,
     .help = "how strongly a refit is held to the old weights, relative to the mean square of its inputs; chosen by the number of samples when not given"},
    {.name = "allocate", .type = QN_OPT_CHOICE, .at = offsetof(struct args, allocate), .arg = "HOW", .choices = qn_prune_methods, .fallback = "curves",
     .help = "how the families share the cut: one share for all (uniform), by their error curves (curves), by runs of the whole model with each of them "
             "cut (table), or by evolution from there (evolve)"},
    {.name = "generations", .type = QN_OPT_COUNT, .at = offsetof(struct args, generations), .arg = "N", .min = 1, .max = 100000,
     .help = "of --allocate=evolve; 30 when not given"},
    {.name = "keep", .type = QN_OPT_TEXTS, .at = offsetof(struct args, keep), .arg = "PATTERN",
     .help = "families with a weight of that name stay whole (a glob, or re:EXPRESSION); may be given several times"},
    {.name = "multiple", .type = QN_OPT_COUNT, .at = offsetof(struct args, multiple), .arg = "N", .min = 1, .max = 1 << 16,
     .help = "keep a multiple of N groups of each family that has as many: 8 or 32 suits most kernels"},
    {.name = "most", .type = QN_OPT_REAL, .at = offsetof(struct args, most), .arg = "R", .max = 1, .fallback = "0.9",
     .help = "the largest share of one family that may go"},
    {.name = "inexact", .type = QN_OPT_FLAG, .at = offsetof(struct args, inexact),
     .help = "also cut widths over which a norm is taken: the cut model is then not the zeroed one exactly"},
    {.name = "inner", .type = QN_OPT_FLAG, .at = offsetof(struct args, inner), .help = "cut the size of heads instead of whole heads"},
    {.name = "layout", .type = QN_OPT_CHOICE, .at = offsetof(struct args, layout), .arg = "HOW", .choices = qn_prune_layouts, .fallback = "uniform",
     .help = "layers of a language model keep equal widths, which every runtime loads, or each its own"},
    {.name = "any-heads", .type = QN_OPT_FLAG, .at = offsetof(struct args, any_heads),
     .help = "of a model folder: also numbers of heads that do not divide the hidden size. llama.cpp loads them; the newest transformers' llama does not"},
    {.name = "recover", .type = QN_OPT_COUNT, .at = offsetof(struct args, recover), .arg = "STEPS", .implied = "400", .min = 1, .max = 1 << 24,
     .help = "then train what is left for STEPS steps to do what the dense model does on the calibration data; no labels are needed"},
    {.name = "gradual", .type = QN_OPT_CHOICE, .at = offsetof(struct args, gradual), .arg = "HOW", .choices = gradual, .fallback = "no", .implied = "hesso",
     .help = "with --recover: choose the groups and shrink them little by little while it trains (hesso), or, with --labels, push them to zero and "
             "project (dhspg)"},
    {.name = "labels", .type = QN_OPT_PATH, .at = offsetof(struct args, labels), .arg = "FILE",
     .help = "with --recover: the right class of every sample (.npy), to train for beside the dense model's outputs"},
    {.name = "rate", .type = QN_OPT_REAL, .at = offsetof(struct args, rate), .arg = "X", .max = 1,
     .help = "learning rate of --recover; 0.001, for language models 0.0001, when not given"},
    {.name = "drop-layers", .type = QN_OPT_COUNT, .at = offsetof(struct args, drop_layers), .arg = "N", .min = 1, .max = 10000,
     .help = "of a language model: N whole layers go, one after another those that it misses least"},
    {.name = "drop-experts", .type = QN_OPT_COUNT, .at = offsetof(struct args, drop_experts), .arg = "N", .min = 1, .max = 4096,
     .help = "of a mixture of experts: N experts of every layer go, those that add least to the stream"},
    {.name = "sparsity", .type = QN_OPT_TEXT, .at = offsetof(struct args, sparsity), .arg = "WHAT",
     .help = "set single weights to 0, after all else: a share (0.5), at most 2 of every 4 neighbours (2:4), or as many as cost next to nothing (knee). "
             "Shapes stay; packed files get smaller"},
    {.name = "sparse-by", .type = QN_OPT_CHOICE, .at = offsetof(struct args, sparse_by), .arg = "NAME", .choices = sparse_by, .fallback = "magnitude",
     .help = "with --sparsity: which weights go; feedback moves the others to make up for them"},
    {.name = "sparse-global", .type = QN_OPT_FLAG, .at = offsetof(struct args, sparse_global),
     .help = "with --sparsity: one threshold for all weights, in place of the same share of each"},
    {.name = "seed", .type = QN_OPT_COUNT, .at = offsetof(struct args, seed), .arg = "N", .max = UINT32_MAX, .help = "of everything that is drawn"},
    {.name = "zeroed", .type = QN_OPT_PATH, .at = offsetof(struct args, zeroed), .arg = "PATH",
     .help = "also write the model of full shape with zeros in place of what goes: it computes the same, for checks elsewhere"},
    {.name = "force", .letter = 'f', .type = QN_OPT_FLAG, .at = offsetof(struct args, force), .help = "replace the output when it exists"},
    {.name = "dry-run", .letter = 'n', .type = QN_OPT_FLAG, .at = offsetof(struct args, dry_run),
     .help = "find the groups and share the cut out, tell what would go, and write nothing"},
};

static qn_code check_args(qn_cli *cli, const struct args *a, qn_err *err)
{
    if (!(a->ratio > 0 && a->ratio < 1) && (a->ratio != 0 || !(a->drop_layers || a->drop_experts || a->sparsity))) {
        qn_hint_set(&cli->hint, "for example: quern prune %s --ratio 0.3 --inputs images.npz", cli->operands.items[0]);
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "prune: --ratio must be between 0 and 1: how much shall go");
    }
    if (a->keep.n > QN_PRUNE_KEEP_MAX)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "prune: --keep: at most %d patterns", (int)QN_PRUNE_KEEP_MAX);
    if (a->labels && !a->recover)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "prune: --labels goes with --recover");
    if (a->gradual == 2 && !a->labels)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "prune: --gradual=dhspg needs --labels");
    if ((a->sparse_by || a->sparse_global) && !a->sparsity)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "prune: --sparse-%s goes with --sparsity", a->sparse_by ? "by" : "global");
    return qn_data_check(cli, &a->data, err);
}

static void fill_wish(const struct args *a, qn_prune_wish *w)
{
    *w = (qn_prune_wish){.ratio = a->ratio, .most = a->most, .ridge = a->ridge, .rate = a->rate, .by = (unsigned)a->by,
                         .allocate = (unsigned)a->allocate, .saliency = (unsigned)a->saliency, .multiple = (uint32_t)a->multiple,
                         .recover = (uint32_t)a->recover, .generations = (uint32_t)a->generations, .seed = (uint32_t)a->seed,
                         .drop_layers = (uint32_t)a->drop_layers, .drop_experts = (uint32_t)a->drop_experts, .no_refit = a->no_refit, .gradual = a->gradual > 0, .inexact = a->inexact, .inner = a->inner, .per_layer = a->layout == 1, .any_heads = a->any_heads,
                         .at_most = a->at_most};
    for (unsigned i = 0; i < a->keep.n && i < QN_PRUNE_KEEP_MAX; i++)
        w->keep[w->n_keep++] = a->keep.items[i];
}

/* "0.5", "2:4", "knee" */
static qn_code read_sparsity(const struct args *a, qn_sparsity_options *s, qn_err *err)
{
    *s = (qn_sparsity_options){.by = (qn_sparsity_by)a->sparse_by, .global = a->sparse_global};
    char *end = NULL;
    if (strcmp(a->sparsity, "knee") == 0) {
        s->kind = QN_SPARSITY_KNEE;
        return QN_OK;
    }
    const double v = *a->sparsity >= '0' && *a->sparsity <= '9' ? strtod(a->sparsity, &end) : (double)NAN;
    if (end && *end == 0 && v > 0 && v < 1) {
        s->kind = QN_SPARSITY_RATIO;
        s->ratio = v;
        return QN_OK;
    }
    if (end && *end == ':' && end[1] >= '0' && end[1] <= '9' && v >= 1) {
        const double of = strtod(end + 1, &end);
        if (*end == 0 && of > v && of <= 64 && v == floor(v) && of == floor(of)) {
            *s = (qn_sparsity_options){.kind = QN_SPARSITY_PATTERN, .by = s->by, .global = s->global, .keep = (uint32_t)v, .of = (uint32_t)of};
            return QN_OK;
        }
    }
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "prune: --sparsity: found '%.40s', allowed are a share like 0.5, a pattern like 2:4, and knee", a->sparsity);
}

/* "a/net.onnx" → "a/net-pruned.onnx", "a/model/" → "a/model-pruned". */
static qn_code name_output(qn_cli *cli, const char *input, const char **out, qn_err *err)
{
    const char *dot = strrchr(qn_name_last(input), '.');
    if (!dot || dot == qn_name_last(input) || strchr(dot, '/'))
        return qn_name_beside(&cli->arena, input, "-pruned", out, err);
    const size_t stem = (size_t)(dot - input), tail = strlen(dot);
    char *name = qn_arena_get(&cli->arena, stem + tail + 8, 1, err);
    if (!name)
        return QN_E_MEMORY;
    memcpy(name, input, stem);
    memcpy(name + stem, "-pruned", 7);
    memcpy(name + stem + 7, dot, tail + 1);
    *out = name;
    return QN_OK;
}

static qn_code prune(qn_cli *cli, const struct args *a, qn_prune *p, qn_err *err)
{
    QN_TRY(qn_prune_plan(p, err));
    if (!p->plan.reached && !a->at_most) {
        qn_hint_set(&cli->hint, "--at-most takes what there is; --most=1 and --inexact allow more; 'quern inspect --groups' lists what is frozen, and why");
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "at most %.1f %% of the %s can go, and %.1f %% were asked for",
                                           100 * p->plan.share, qn_prune_units[a->by], 100 * a->ratio), p->input);
    }
    return a->dry_run ? QN_OK : qn_err_in_path(err, qn_prune_run(p, err), p->input);
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    qn_data d = {.cli = cli, .args = &a->data};
    const qn_prune_data data = {.open = qn_data_open, .close = qn_data_close, .ctx = &d};
    const bool has_data = qn_data_given(&a->data);
    const char *input = cli->operands.items[0], *output = a->output;
    qn_prune_options o;
    qn_prune_wish w;
    qn_sparsity_options sparsity;
    int64_t *labels = NULL;
    uint64_t n_labels = 0;
    qn_prune p = {0};
    const double began = qn_cli_now();
    QN_TRY(check_args(cli, a, err));
    if (!output)
        QN_TRY(name_output(cli, input, &output, err));
    fill_wish(a, &w);
    if (a->sparsity)
        QN_TRY(read_sparsity(a, &sparsity, err));
    if (qn_prune_wish_any(&w))
        QN_TRY(qn_prune_wish_check(&w, err));
    o = qn_prune_options_of(&w, has_data, cli->env.memory_bytes);
    o.zeroed = a->zeroed;
    o.overwrite = a->force;
    o.dry_run = a->dry_run;
    o.sparsity = a->sparsity ? &sparsity : NULL;
    if (a->labels)
        QN_TRY(qn_labels_read(cli, a->labels, &labels, &n_labels, err));
    o.recovery.labels = labels;
    o.recovery.n_labels = n_labels;
    o.recovery.half_space = a->gradual == 2;
    qn_code rc = qn_prune_open(&p, &cli->env, input, output, has_data ? &data : NULL, &o, err);
    if (rc == QN_OK)
        rc = prune(cli, a, &p, err);
    qn_progress_clear(&cli->progress);
    if (rc == QN_OK) {
        const qn_prune_facts f = {.prune = &p, .by = qn_prune_units[a->by], .data = a->data.inputs ? a->data.inputs : a->data.lm.data, .seconds = qn_cli_now() - began};
        if (cli->common->json)
            qn_prune_json(&f);
        else if (!cli->common->quiet)
            rc = qn_prune_text(cli, &f, err);
    }
    qn_prune_close(&p);
    qn_mem_put(cli->env.alloc, labels);
    return rc;
}

static const qn_example examples[] = {
    {"quern prune net.onnx --ratio 0.5 --by macs --inputs images.npz", "half of the multiplications go; what is left is refitted"},
    {"quern prune model/ --ratio 0.2 --data calibration.txt", "a language model: FFN channels and key heads with their queries"},
    {"quern prune net.onnx --ratio 0.7 --inputs images.npz --recover=2000 --gradual", "trained while it shrinks, without labels"},
    {"quern prune net.onnx --ratio 0.3 --inputs images.npz --keep 'head.*' -n", "what would go"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"model, output, data, dry_run", "what was pruned with what, and where it is"},
    {"ratio, by, share, reached", "what was asked for, and the share of it that went"},
    {"before, after", "params, macs (of one run), bytes (of files)"},
    {"families[].name, .kind, .groups, .kept, .exact, .reason", "each width that can be cut"},
    {"families[].error_cut, .error_refitted, .refitted, .note", "relative squared error of what reads it, on data held out"},
    {"frozen[].weight, .channels, .of, .reason", "channels that cannot go, and why"},
    {"cut, refitted, recovered", "distance from the dense model after each step: loss, rel_rms, same_top"},
    {"proof.largest, .change, .runs, .rounding, .exact", "written model against zeroed model; zeroed against dense; what rounding alone does, where that was looked at"},
    {NULL, NULL},
};

const qn_command qn_cmd_prune = {
    .name = "prune",
    .summary = "make a model smaller: cut channels and heads, mend the rest",
    .synopsis = "MODEL [-o OUTPUT] --ratio R [--inputs ARRAYS | --data TEXT] [options]",
    .description = "Finds which slices of the weights belong together (the channels of a stage, the heads of an attention with all that "
                   "reads and writes them), lets those go that cost least, fits what is left to the dense model's outputs on calibration data, and writes a "
                   "model of the same kind, ONNX file, folder or GGUF file, that is physically smaller and that other runtimes load.\n\n"
                   "Before the result gets its name it is opened and run against the model in which the same groups are only set to 0: "
                   "the two must agree. Groups over which a norm is taken change with their width and stay, unless --inexact.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = 1,
    .operand = "a model",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
