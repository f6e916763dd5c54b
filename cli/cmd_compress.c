/* cmd_compress.c: quern compress INPUT. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/lossy_options.h"
#include "cli/names.h"
#include "cli/pack_report.h"
#include "cli/pruned.h"
#include <string.h>

struct args {
    qn_common common;
    qn_lossy_args lossy;
    qn_data_args data;
    const char *output, *base;
    double prune;
    int level; /* position in levels[] */
    bool force, restart, dry_run;
};

static const char *const levels[] = {"fast", "dense", "max", NULL};
static const qn_level level_of[] = {QN_LEVEL_FAST, QN_LEVEL_DENSE, QN_LEVEL_MAX};

static const qn_option options[] = {
    {.name = "output", .letter = 'o', .type = QN_OPT_PATH, .at = offsetof(struct args, output), .arg = "FILE",
     .help = "write FILE; without it INPUT.quern beside the input"},
    {.name = "lossless", .type = QN_OPT_CHOICE, .at = offsetof(struct args, level), .arg = "LEVEL", .choices = levels,
     .fallback = "dense", .implied = "dense",
     .help = "how much effort: fast (packs and unpacks quicker than most disks), dense (smaller, still quick) or max "
             "(smallest, a few MB/s, for archives). Every level gives back every bit"},
    {.name = "base", .type = QN_OPT_PATH, .at = offsetof(struct args, base), .arg = "CHECKPOINT",
     .help = "write tensors as differences to those of the same name, type and shape in CHECKPOINT, for fine-tuned "
             "models. CHECKPOINT is needed again to decompress"},
    {.name = "prune", .type = QN_OPT_REAL, .at = offsetof(struct args, prune), .arg = "R", .max = 1,
     .help = "first cut away this share of the parameters, as 'quern prune' does, then measure statistics anew and pack what is left; details under "
             "'prune' in a recipe"},
    QN_DATA_OPTIONS(struct args, data),
    {.name = "force", .letter = 'f', .type = QN_OPT_FLAG, .at = offsetof(struct args, force),
     .help = "replace the output when it exists"},
    {.name = "restart", .type = QN_OPT_FLAG, .at = offsetof(struct args, restart),
     .help = "begin again instead of resuming an unfinished run"},
    {.name = "dry-run", .letter = 'n', .type = QN_OPT_FLAG, .at = offsetof(struct args, dry_run),
     .help = "tell what would be written, and the memory it takes, and write nothing"},
};

static void hint_after(qn_cli *cli, qn_code rc, const struct args *a, const char *out)
{
    if (rc == QN_E_CANCELLED && !a->dry_run)
        qn_hint_set(&cli->hint, "the same command again goes on from here; what is done waits in %s.partial and %s.journal",
                    out, out);
}

static qn_code pack_with(qn_cli *cli, const struct args *a, qn_source *src, const qn_pack_options *opt, const char *out, qn_err *err)
{
    qn_pack_report report;
    const double began = qn_cli_now();
    qn_code rc = qn_pack(&cli->env, src, out, opt, &report, err);
    qn_progress_clear(&cli->progress);
    if (rc != QN_OK) {
        hint_after(cli, rc, a, out);
        return rc;
    }
    const qn_pack_facts facts = {.source = src, .report = &report, .out_path = out, .level = levels[a->level],
                                 .base_path = a->base, .dry_run = a->dry_run, .seconds = qn_cli_now() - began,
                                 .memory_bytes = qn_pack_memory(&cli->env, src, opt), .lossy = opt->lossy};
    if (cli->common->json)
        rc = qn_pack_report_json(cli, &facts, err);
    else if (!cli->common->quiet)
        rc = qn_pack_report_text(cli, &facts, err);
    qn_pack_report_release(&cli->env, &report);
    return rc;
}

static qn_code pack(qn_cli *cli, const struct args *a, qn_session *s, qn_source *src, qn_source *base, const char *out, qn_err *err)
{
    qn_pack_options opt = {.level = level_of[a->level], .base = base, .overwrite = a->force, .restart = a->restart, .dry_run = a->dry_run};
    if (qn_recipe_is_lossy(&s->recipe)) {
        if (a->base)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "compress: --base does not go with an approximation");
        QN_TRY(qn_lossy_session_open(s, cli, &a->lossy, src, &opt, false, err));
        opt.lossy = s->lossy;
    }
    return pack_with(cli, a, src, &opt, out, err);
}

static qn_code check_prune(const qn_cli *cli, const struct args *a, qn_recipe *r, qn_err *err)
{
    if (a->prune > 0)
        r->prune.ratio = a->prune;
    QN_TRY(qn_data_check(cli, &a->data, err));
    if (!qn_prune_wish_any(&r->prune))
        return qn_data_given(&a->data) ? QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "compress: --data and --inputs go with --prune; statistics "
                                                                                "come from 'quern calibrate'") : QN_OK;
    QN_TRY(qn_prune_wish_check(&r->prune, err));
    if (a->lossy.stats)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "compress: with --prune statistics are measured on the pruned model: give --data or --inputs "
                                                      "in place of --stats");
    return a->base ? QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "compress: --base does not go with --prune") : QN_OK;
}

/* Cuts the input in a copy; *in is what to pack then. */
static qn_code prune_first(qn_cli *cli, const struct args *a, struct args *then, const qn_recipe *r, qn_pruned *x, const char **in, const char *out, qn_err *err)
{
    if (!qn_prune_wish_any(&r->prune))
        return QN_OK;
    const qn_pruned_options o = {.wish = &r->prune, .data = &a->data, .shapes_only = a->dry_run, .calibrate = qn_recipe_is_lossy(r)};
    QN_TRY(qn_pruned_open(x, cli, *in, out, &o, err));
    *in = x->path;
    then->lossy.stats = x->statistics;
    return QN_OK;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    struct args copy = *(const struct args *)args;
    const struct args *a = &copy;
    const char *in = cli->operands.items[0], *out = a->output;
    qn_source *src = NULL, *base = NULL;
    qn_pruned pruned = {0};
    qn_session session = QN_SESSION_CLOSED;
    QN_TRY(qn_lossy_recipe_of(&session.recipe, cli, &a->lossy, err));
    qn_code rc = check_prune(cli, a, &session.recipe, err);
    if (rc == QN_OK && !out)
        rc = qn_name_packed(&cli->arena, in, &out, err);
    if (rc == QN_OK)
        rc = prune_first(cli, a, &copy, &session.recipe, &pruned, &in, out, err);
    if (rc == QN_OK)
        rc = qn_cli_open(cli, in, &src, err);
    if (rc == QN_OK && src->bundle && !a->output)
        rc = qn_name_packed_bundle(&cli->arena, in, src->is_dir ? NULL : src->files[0].path, &out, err);
    if (rc == QN_OK && a->base)
        rc = qn_cli_open(cli, a->base, &base, err);
    if (rc == QN_OK)
        rc = pack(cli, a, &session, src, base, out, err);
    if (rc == QN_OK && src->bundle)
        qn_cli_note(cli, "note: the files in the archive are packed, the archive around them is not: decompress gives back %s",
                    src->is_dir ? "their folder" : "the file");
    qn_session_close(&session);
    qn_source_close(src);
    qn_source_close(base);
    qn_pruned_close(&pruned);
    return rc;
}

static const qn_example examples[] = {
    {"quern compress model.safetensors", "write model.safetensors.quern beside it"},
    {"quern compress llama-7b/ -o llama-7b.quern --lossless=max", "pack a whole model folder as small as it gets"},
    {"quern compress tuned.safetensors --base original.safetensors", "store a fine-tuned model as what was changed"},
    {"quern compress model.safetensors --dry-run", "see what it would bring"},
    {"quern compress model/ --bits=3 --stats model.qstats -o model.quern", "approximate the weights with about 3 bits each"},
    {"quern compress model/ --size=40MB --stats model.qstats -o model.quern", "… with as many as fit in 40 MB"},
    {"quern compress model/ --recipe recipe.yaml --stats model.qstats -o model.quern", "… as a file says, tensor by tensor"},
    {"quern compress model/ --prune=0.2 --bits=3 --data text.txt -o m.quern", "cut a fifth of the parameters away first"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"input, output, base", "paths as given; base is null without --base"},
    {"level", "fast, dense or max"},
    {"dry_run", "true when nothing was written"},
    {"estimated", "true when a dry run on a large input looked at a sample only"},
    {"source_bytes, packed_bytes", "sizes of all files before, and of the packed file"},
    {"ratio", "source_bytes / packed_bytes"},
    {"tensors, weights", "how many tensors, and elements in them"},
    {"bits_per_weight", "stored bits per element over all tensors; null when estimated"},
    {"dtypes[]", "dtype, tensors, weights, source_bytes, stored_bytes"},
    {"codecs[]", "codec, and the source_bytes it took and stored_bytes it made"},
    {"lossy", "the recipe, in one line, when something is approximated"},
    {"approximated[]", "tensor, role, and kept (why it is lossless, or null); else codec, settings, rows, cols, bits stored per weight, error "
                       "|W-W'|^2/|W|^2, loss (of the layer's output) and loss_rounded (with every weight rounded for itself), statistics "
                       "(full, diagonal, refused, none), damping, spread, unevenness_bits, dead_columns, rows_seen, matrices (experts, groups), matrices_starved, segments"},
    {"tied[]", "tensor, same_as, bytes: tensors that are stored once because they are equal"},
    {"chunks, chunks_shared, chunks_resumed", "pieces of work; stored once for several; done by an earlier run"},
    {"threads, memory_bytes, seconds", "workers used, planned peak memory, time taken"},
    {"verified", "true: every chunk was decoded and compared and the finished file read back"},
    {NULL, NULL},
};

const qn_command qn_cmd_compress = {
    .name = "compress",
    .summary = "pack a checkpoint, without losing a bit or by approximation",
    .synopsis = "INPUT [-o FILE] [--lossless[=LEVEL]] [--codec=CODEC] [--bits=N | --size=SIZE] [--stats=FILE] [options]",
    .description =
        "Packs a checkpoint into one .quern file from which 'quern decompress' restores the original, bit for bit: "
        "tensors, headers and all other files of a model folder. Of an archive (.tar, .zip, .tar.gz, …) that holds a model, "
        "the files in it are packed, as if it were unpacked: their bytes come back, the archive itself does not.\n\n"
        "Every chunk is decoded again and compared before it is written, and the finished file is read back before it "
        "gets its name. A run that was stopped (Ctrl-C, kill, power cut) is resumed by the same command; it keeps its "
        "work in FILE.partial and FILE.journal until then. The output depends on the input and the level only, not on "
        "threads, memory, or how often the run was resumed.\n\n"
        "With --codec, --bits, --size or --recipe, the weights of linear layers, experts, convolutions and recurrences, head and embedding are approximated instead, and everything else is packed "
        "as above; the result is read, restored and evaluated like any other, and says that it is an approximation. With "
        "--stats, the error of each column of weights is fed back into the columns that are still to be rounded, so that the layer's output "
        "on the calibration text changes as little as possible; the report compares that with rounding every weight for "
        "itself. The bytes then also depend on the processor's rounding of matrix products, not on threads. Files that hold a checksum "
        "of each tensor (.pt, .npz) are packed without loss, and so are norms, biases, tables of positions, routers of experts, the decay of "
        "scans, and convolutions of each channel for itself. 'quern plan' tells beforehand what each tensor gets.\n\n"
        "A recipe is a YAML file. Its keys are codec, size, bits_per_weight, order, damping, feedback (yes or no) and the settings below "
        "(bits, group, …); 'head' and 'embedding' have keys of their own; 'prune' has those of 'quern prune' (ratio, by, allocate, saliency, refit, keep, …); 'tensors' is a list of rules, each with 'match' (a pattern of names, * and ?, "
        "or re:EXPRESSION), and what is different for them. The last rule that matches wins; one that matches nothing is an error.",
    .options = {options, sizeof options / sizeof options[0]},
    .lossy_options = &qn_lossy_options_table,
    .min_operands = 1,
    .max_operands = 1,
    .operand = "the checkpoint to pack",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
