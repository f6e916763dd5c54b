/* cmd_compress.c: quern compress INPUT. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/graph_report.h"
#include "cli/names.h"
#include "cli/pack_report.h"
#include "compress/lossy.h"
#include <string.h>

struct args {
    qn_common common;
    const char *output, *base, *stats;
    int level; /* position in levels[] */
    int codec, order;
    double bits, head_bits, embedding_bits, gain, damping;
    uint64_t group, states;
    bool asymmetric, no_feedback;
    bool force, restart, dry_run;
};

static const char *const levels[] = {"fast", "dense", "max", NULL};
static const qn_level level_of[] = {QN_LEVEL_FAST, QN_LEVEL_DENSE, QN_LEVEL_MAX};

static const char *const codecs[] = {"lossless", "grid", "pvq", "ect", NULL};
static const char *const orders[] = {"act", "natural", NULL};
static const qn_ldl_order order_of[] = {QN_ORDER_ACT, QN_ORDER_NATURAL};

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
    {.name = "codec", .type = QN_OPT_CHOICE, .at = offsetof(struct args, codec), .arg = "CODEC", .choices = codecs,
     .fallback = "lossless",
     .help = "lossless, or how to approximate the weights of linear layers, head and embedding: grid (integers of 2 to 8 bits, with "
             "a scale for each group), pvq (points of pyramids, 0.25 to 4.3 bits, fractions too) or ect (an entropy-coded trellis: the "
             "smallest, slower to read). Everything else stays lossless"},
    {.name = "bits", .type = QN_OPT_REAL, .at = offsetof(struct args, bits), .arg = "N", .fallback = "4", .max = 8,
     .help = "with --codec: bits of a weight; ect takes fractions and counts everything it stores"},
    {.name = "states", .type = QN_OPT_COUNT, .at = offsetof(struct args, states), .arg = "N", .max = 256,
     .help = "with --codec=ect: states of the trellis, 1, 4, 8, … 256; more make it slower and smaller. Without it 256"},
    {.name = "group", .type = QN_OPT_COUNT, .at = offsetof(struct args, group), .arg = "N", .fallback = "32", .max = 1 << 20,
     .help = "with --codec=grid: columns that share a scale; 0: a whole row"},
    {.name = "stats", .type = QN_OPT_PATH, .at = offsetof(struct args, stats), .arg = "FILE",
     .help = "with --codec: statistics of this model, from 'quern calibrate'. They tell which errors matter; without them all count "
             "alike"},
    {.name = "head-bits", .type = QN_OPT_REAL, .at = offsetof(struct args, head_bits), .arg = "N", .max = 32,
     .help = "with --codec: bits of the head's weights; without it two more than --bits, 8 at most. 16 or more: lossless"},
    {.name = "embedding-bits", .type = QN_OPT_REAL, .at = offsetof(struct args, embedding_bits), .arg = "N", .max = 32,
     .help = "with --codec: the same of the embedding"},
    {.name = "asymmetric", .type = QN_OPT_FLAG, .at = offsetof(struct args, asymmetric),
     .help = "with --codec=grid: a zero point for each group, for weights that are not around zero"},
    {.name = "order", .type = QN_OPT_CHOICE, .at = offsetof(struct args, order), .arg = "ORDER", .choices = orders, .fallback = "act",
     .help = "with --stats: which columns are rounded first, those with the largest input (act) or the first ones (natural)"},
    {.name = "damping", .type = QN_OPT_REAL, .at = offsetof(struct args, damping), .arg = "X", .max = 1,
     .help = "with --stats: add X times its mean to the diagonal of the second moment (0.001); more trusts the calibration less"},
    {.name = "no-feedback", .type = QN_OPT_FLAG, .at = offsetof(struct args, no_feedback),
     .help = "with --stats: round every weight for itself; the statistics still weigh errors"},
    {.name = "gain", .type = QN_OPT_REAL, .at = offsetof(struct args, gain), .arg = "X", .max = 2,
     .help = "with --codec=grid: multiply the scales that were found by X"},
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

static double bits_or_lossless(double v)
{
    return v >= 16 ? -1 : v;
}

/* What --codec needs: the graph tells what is multiplied, the statistics what it is multiplied with. */
struct lossy {
    qn_graph *graph;
    qn_stats_file stats;
    qn_lossy *it;
};

static uint32_t group_of(const struct args *a)
{
    if (strcmp(codecs[a->codec], "grid") != 0)
        return 0;
    return a->group ? (uint32_t)a->group : UINT32_MAX;
}

static qn_code open_lossy(qn_cli *cli, const struct args *a, qn_source *src, struct lossy *l, qn_err *err)
{
    const qn_lossy_options o = {.codec = codecs[a->codec],
                                .set = {.bits = a->bits, .group = group_of(a),
                                        .asymmetric = a->asymmetric, .gain = a->gain, .states = (uint32_t)a->states},
                                .head_bits = bits_or_lossless(a->head_bits), .embedding_bits = bits_or_lossless(a->embedding_bits),
                                .stats = a->stats ? &l->stats : NULL, .order = order_of[a->order], .damping = a->damping,
                                .no_feedback = a->no_feedback};
    QN_TRY(qn_cli_graph(cli, src, &l->graph, err));
    if (a->stats)
        QN_TRY(qn_stats_file_open(&l->stats, &cli->env, a->stats, err));
    if (a->stats && !l->stats.complete)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "is not complete: its calibration was stopped"), a->stats);
    return qn_lossy_open(&l->it, &cli->env, src, l->graph, &o, err);
}

static void close_lossy(struct lossy *l)
{
    qn_lossy_close(l->it);
    qn_stats_file_close(&l->stats);
    qn_graph_close(l->graph);
}

static qn_code pack_with(qn_cli *cli, const struct args *a, qn_source *src, qn_source *base, qn_lossy *lossy, const char *out,
                         qn_err *err)
{
    const qn_pack_options opt = {.level = level_of[a->level], .lossy = lossy, .base = base, .overwrite = a->force,
                                 .restart = a->restart, .dry_run = a->dry_run};
    qn_pack_report report;
    const double began = qn_cli_now();
    qn_code rc = qn_pack(&cli->env, src, out, &opt, &report, err);
    qn_progress_clear(&cli->progress);
    if (rc != QN_OK) {
        hint_after(cli, rc, a, out);
        return rc;
    }
    const qn_pack_facts facts = {.source = src, .report = &report, .out_path = out, .level = levels[a->level],
                                 .base_path = a->base, .dry_run = a->dry_run, .seconds = qn_cli_now() - began,
                                 .memory_bytes = qn_pack_memory(&cli->env, src, &opt), .lossy = lossy};
    if (cli->common->json)
        rc = qn_pack_report_json(cli, &facts, err);
    else if (!cli->common->quiet)
        rc = qn_pack_report_text(cli, &facts, err);
    qn_pack_report_release(&cli->env, &report);
    return rc;
}

static qn_code pack(qn_cli *cli, const struct args *a, qn_source *src, qn_source *base, const char *out, qn_err *err)
{
    struct lossy l = {.stats = QN_STATS_FILE_CLOSED};
    qn_code rc = a->codec ? open_lossy(cli, a, src, &l, err) : QN_OK;
    if (rc == QN_OK)
        rc = pack_with(cli, a, src, base, l.it, out, err);
    close_lossy(&l);
    return rc;
}

static qn_code check_args(const struct args *a, qn_err *err)
{
    if (!a->codec && (a->stats || a->asymmetric || a->no_feedback || a->gain > 0 || a->head_bits > 0 || a->embedding_bits > 0))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "compress: --%s goes with --codec",
                       a->stats ? "stats" : a->asymmetric ? "asymmetric" : a->no_feedback ? "no-feedback" : a->gain > 0 ? "gain"
                       : a->head_bits > 0 ? "head-bits" : "embedding-bits");
    if (a->states && strcmp(codecs[a->codec], "ect") != 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "compress: --states goes with --codec=ect");
    if (a->codec && a->base)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "compress: --base does not go with --codec=%s", codecs[a->codec]);
    return QN_OK;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    QN_TRY(check_args(a, err));
    const char *in = cli->operands.items[0], *out = a->output;
    qn_source *src = NULL, *base = NULL;
    if (!out)
        QN_TRY(qn_name_packed(&cli->arena, in, &out, err));
    qn_code rc = qn_cli_open(cli, in, &src, err);
    if (rc == QN_OK && src->bundle && !a->output)
        rc = qn_name_packed_bundle(&cli->arena, in, src->is_dir ? NULL : src->files[0].path, &out, err);
    if (rc == QN_OK && a->base)
        rc = qn_cli_open(cli, a->base, &base, err);
    if (rc == QN_OK)
        rc = pack(cli, a, src, base, out, err);
    if (rc == QN_OK && src->bundle)
        qn_cli_note(cli, "note: the files in the archive are packed, the archive around them is not: decompress gives back %s",
                    src->is_dir ? "their folder" : "the file");
    qn_source_close(src);
    qn_source_close(base);
    return rc;
}

static const qn_example examples[] = {
    {"quern compress model.safetensors", "write model.safetensors.quern beside it"},
    {"quern compress llama-7b/ -o llama-7b.quern --lossless=max", "pack a whole model folder as small as it gets"},
    {"quern compress tuned.safetensors --base original.safetensors", "store a fine-tuned model as what was changed"},
    {"quern compress model.safetensors --dry-run", "see what it would bring"},
    {"quern compress model/ --codec=grid --stats model.qstats -o model.quern", "approximate the weights with 4-bit integers"},
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
    {"lossy", "with --codec: what was asked for"},
    {"approximated[]", "with --codec: tensor, role, and kept (why it is lossless, or null); else rows, cols, bits stored per weight, error "
                       "|W-W'|^2/|W|^2, loss (of the layer's output) and loss_rounded (with every weight rounded for itself), statistics "
                       "(full, diagonal, refused, none), damping, spread, unevenness_bits, dead_columns, rows_seen, segments"},
    {"tied[]", "tensor, same_as, bytes: tensors that are stored once because they are equal"},
    {"chunks, chunks_shared, chunks_resumed", "pieces of work; stored once for several; done by an earlier run"},
    {"threads, memory_bytes, seconds", "workers used, planned peak memory, time taken"},
    {"verified", "true: every chunk was decoded and compared and the finished file read back"},
    {NULL, NULL},
};

const qn_command qn_cmd_compress = {
    .name = "compress",
    .summary = "pack a checkpoint, without losing a bit or by approximation",
    .synopsis = "INPUT [-o FILE] [--lossless[=LEVEL]] [--codec=CODEC --bits=N [--stats=FILE]] [options]",
    .description =
        "Packs a checkpoint into one .quern file from which 'quern decompress' restores the original, bit for bit: "
        "tensors, headers and all other files of a model folder. Of an archive (.tar, .zip, .tar.gz, …) that holds a model, "
        "the files in it are packed, as if it were unpacked: their bytes come back, the archive itself does not.\n\n"
        "Every chunk is decoded again and compared before it is written, and the finished file is read back before it "
        "gets its name. A run that was stopped (Ctrl-C, kill, power cut) is resumed by the same command; it keeps its "
        "work in FILE.partial and FILE.journal until then. The output depends on the input and the level only, not on "
        "threads, memory, or how often the run was resumed.\n\n"
        "With --codec, the weights of linear layers, head and embedding are approximated instead, and everything else is packed "
        "as above; the result is read, restored and evaluated like any other, and says that it is an approximation. With "
        "--stats, the error of each column of weights is fed back into the columns that are still to be rounded, so that the layer's output "
        "on the calibration text changes as little as possible; the report compares that with rounding every weight for "
        "itself. The bytes then also depend on the processor's rounding of matrix products, not on threads. Files that hold a checksum "
        "of each tensor (.pt, .npz) are packed without loss.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = 1,
    .operand = "the checkpoint to pack",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
