/* cmd_inspect.c: quern inspect INPUT…. */
#include "base/err.h"
#include "base/num.h"
#include "cli/commands.h"
#include "cli/graph_report.h"
#include "cli/groups_report.h"
#include "cli/inspect_report.h"
#include "cli/names.h"
#include "cli/pattern.h"
#include "formats/quern/source.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { SORT_FILE = 0, SORT_SIZE = 1, SORT_NAME = 2 };
static const char *const sorts[] = {"file", "size", "name", NULL};

struct args {
    qn_common common;
    bool stats, exact, graph, groups, inner, force;
    qn_texts tensors;
    int sort;
    const char *base, *svg;
};

static const qn_option options[] = {
    {.name = "stats", .letter = 's', .type = QN_OPT_FLAG, .at = offsetof(struct args, stats),
     .help = "read the tensors: entropy, what each level would make of them, range and special values, narrower types "
             "in hiding, duplicates"},
    {.name = "exact", .type = QN_OPT_FLAG, .at = offsetof(struct args, exact),
     .help = "with --stats: encode everything at every level instead of a sample; the slowest level does a few MB/s"},
    {.name = "tensor", .letter = 'T', .type = QN_OPT_TEXTS, .at = offsetof(struct args, tensors), .arg = "PATTERN",
     .help = "only tensors whose name matches: * and ? as in file names, or a regular expression after 're:'"},
    {.name = "sort", .type = QN_OPT_CHOICE, .at = offsetof(struct args, sort), .arg = "ORDER", .choices = sorts,
     .fallback = "file", .help = "order of the tensors: as in the file, by size (largest first), or by name"},
    {.name = "graph", .letter = 'g', .type = QN_OPT_FLAG, .at = offsetof(struct args, graph),
     .help = "what the model computes: its operators, block by block; layers that are alike are shown once"},
    {.name = "groups", .letter = 'G', .type = QN_OPT_FLAG, .at = offsetof(struct args, groups),
     .help = "what can be cut of the model: families of channels, heads and units that only go together, and what they cost"},
    {.name = "inner", .type = QN_OPT_FLAG, .at = offsetof(struct args, inner),
     .help = "with --groups: where an axis is heads times size, cut sizes in place of whole heads"},
    {.name = "svg", .type = QN_OPT_PATH, .at = offsetof(struct args, svg), .arg = "FILE",
     .help = "draw the graph into FILE; with --groups a colour for each family"},
    {.name = "force", .letter = 'f', .type = QN_OPT_FLAG, .at = offsetof(struct args, force), .help = "with --svg: replace FILE when it exists"},
    {.name = "base", .type = QN_OPT_PATH, .at = offsetof(struct args, base), .arg = "CHECKPOINT",
     .help = "with --stats: the checkpoint that was given to compress --base"},
};

struct key {
    const char *name;
    uint64_t tensor, n_bytes;
};

static int by_size(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    if (x->n_bytes != y->n_bytes)
        return x->n_bytes < y->n_bytes ? 1 : -1;
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct key *)a)->name, ((const struct key *)b)->name);
}

static qn_code list(qn_cli *cli, qn_inspection *x, qn_patterns *patterns, int sort, qn_err *err)
{
    const qn_source *s = x->source;
    struct key *keys = qn_mem_get(cli->env.alloc, s->n_tensors * sizeof *keys, err);
    x->order = qn_mem_get(cli->env.alloc, s->n_tensors * sizeof *x->order, err);
    if (!keys || !x->order) {
        qn_mem_put(cli->env.alloc, keys);
        return QN_E_MEMORY;
    }
    for (uint64_t i = 0; i < s->n_tensors; i++)
        if (qn_patterns_want(patterns, s->tensors[i].name))
            keys[x->n_tensors++] = (struct key){s->tensors[i].name, i, s->tensors[i].n_bytes};
    if (sort != SORT_FILE)
        qsort(keys, (size_t)x->n_tensors, sizeof *keys, sort == SORT_SIZE ? by_size : by_name);
    for (uint64_t i = 0; i < x->n_tensors; i++)
        x->order[i] = keys[i].tensor;
    qn_mem_put(cli->env.alloc, keys);
    return QN_OK;
}

static qn_code survey(qn_cli *cli, const struct args *a, qn_inspection *x, qn_patterns *patterns, qn_err *err)
{
    qn_survey_options opt = {.want = qn_patterns_want, .want_ctx = patterns};
    for (unsigned l = QN_LEVEL_FAST; l < QN_LEVELS; l++) {
        opt.level[l] = true;
        opt.sample_bytes[l] = a->exact ? UINT64_MAX : 0;
    }
    QN_TRY(qn_survey_run(&cli->env, x->source, &opt, &x->survey, err));
    x->has_stats = true;
    return QN_OK;
}

/* Opens, looks, prints one input. */
static qn_code inspect(qn_cli *cli, const struct args *a, qn_source *src, qn_source *base, qn_patterns *patterns,
                       qn_json_writer *j, qn_err *err)
{
    qn_inspection x = {.source = src, .filtered = a->tensors.n > 0};
    if (qn_quern_source_reader(src)) {
        x.index = qn_reader_index(qn_quern_source_reader(src));
        if (base)
            qn_quern_source_set_base(src, base);
    }
    qn_code rc = list(cli, &x, patterns, a->sort, err);
    if (rc == QN_OK && a->stats)
        rc = survey(cli, a, &x, patterns, err);
    qn_progress_clear(&cli->progress);
    if (rc == QN_OK && j)
        qn_inspect_json(j, &x);
    else if (rc == QN_OK && !cli->common->quiet)
        rc = qn_inspect_text(cli, &x, err);
    qn_survey_release(&cli->env, &x.survey);
    qn_mem_put(cli->env.alloc, x.order);
    return rc;
}

static qn_code draw(qn_cli *cli, const struct args *a, const qn_graph *g, const qn_groups *groups, qn_err *err)
{
    const char *const *colors = NULL;
    if (groups)
        QN_TRY(qn_groups_colors(cli, groups, &colors, err));
    char title[300], name[200];
    const char *last = qn_name_last(cli->operands.items[0]);
    qn_printable(name, sizeof name, last, strlen(last));
    snprintf(title, sizeof title, "%s (%s)", name, g->family);
    qn_outfile out;
    qn_code rc = qn_outfile_open(&out, &cli->env, a->svg, a->force, err);
    if (rc == QN_OK)
        rc = qn_graph_svg(cli, g, title, colors, &out, err);
    if (rc == QN_OK)
        rc = qn_outfile_seal(&out, err);
    if (rc == QN_OK)
        rc = qn_outfile_publish(&out, err);
    qn_outfile_close(&out);
    return rc;
}

static qn_code inspect_graph(qn_cli *cli, const struct args *a, qn_source *src, qn_json_writer *j, qn_err *err)
{
    qn_graph *g;
    QN_TRY(qn_err_in_path(err, qn_cli_graph(cli, src, &g, err), src->path));
    qn_groups *groups = NULL;
    const qn_groups_options o = {.inner = a->inner, .inexact = true};
    qn_code rc = a->groups ? qn_err_in_path(err, qn_groups_find(&cli->env, g, &o, &groups, err), src->path) : QN_OK;
    if (rc == QN_OK && a->svg)
        rc = draw(cli, a, g, groups, err);
    if (rc == QN_OK && j) {
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "path", src->path);
        if (groups)
            qn_groups_json(j, groups);
        else
            rc = qn_graph_json(cli, j, g, err);
        qn_jw_end(j, '}');
    } else if (rc == QN_OK && groups && !cli->common->quiet) {
        rc = qn_groups_text(cli, groups, err);
    } else if (rc == QN_OK && a->graph && !cli->common->quiet) {
        rc = qn_graph_text(cli, g, err);
    }
    qn_groups_free(groups);
    qn_graph_close(g);
    return rc;
}

/* All are opened first, so that a wrong name or pattern is told before anything is printed. */
static qn_code inspect_all(qn_cli *cli, const struct args *a, qn_source **sources, qn_patterns *patterns, qn_err *err)
{
    const unsigned n = cli->operands.n;
    qn_source *base = NULL;
    for (unsigned i = 0; i < n; i++)
        QN_TRY(qn_cli_open(cli, cli->operands.items[i], &sources[i], err));
    QN_TRY(qn_patterns_check(patterns, sources, n, &cli->hint, err));
    if (a->base)
        QN_TRY(qn_cli_open(cli, a->base, &base, err));
    qn_json_writer j;
    if (cli->common->json) {
        qn_jw_open(&j, stdout, "inspect");
        qn_jw_begin(&j, "inputs", '[');
    }
    qn_code rc = QN_OK;
    for (unsigned i = 0; i < n && rc == QN_OK; i++) {
        if (i > 0 && !cli->common->json && !cli->common->quiet)
            putchar('\n');
        rc = a->graph || a->groups || a->svg ? inspect_graph(cli, a, sources[i], cli->common->json ? &j : NULL, err)
                                : inspect(cli, a, sources[i], base, patterns, cli->common->json ? &j : NULL, err);
    }
    if (cli->common->json && rc == QN_OK) {
        qn_jw_end(&j, ']');
        qn_jw_close(&j);
    }
    qn_source_close(base);
    return rc;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    qn_patterns patterns;
    if (a->exact && !a->stats)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "inspect: --exact says how --stats measures: give both");
    if (a->graph && a->groups)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "inspect: --graph and --groups are two views: give one");
    if (a->inner && !a->groups)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "inspect: --inner goes with --groups");
    if ((a->graph || a->groups || a->svg) && (a->stats || a->tensors.n))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "inspect: --graph, --groups and --svg show operators, not tensors: they go without --%s",
                       a->stats ? "stats" : "tensor");
    if (a->force && !a->svg)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "inspect: --force goes with --svg");
    if (a->svg && cli->operands.n > 1)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "inspect: --svg draws one model");
    qn_source **sources = qn_mem_zeros(cli->env.alloc, cli->operands.n, sizeof(qn_source *), err);
    if (!sources)
        return QN_E_MEMORY;
    qn_code rc = qn_patterns_open(&patterns, cli->env.alloc, &a->tensors, err);
    if (rc == QN_OK) {
        rc = inspect_all(cli, a, sources, &patterns, err);
        qn_patterns_release(&patterns);
    }
    for (unsigned i = 0; i < cli->operands.n; i++)
        qn_source_close(sources[i]);
    qn_mem_put(cli->env.alloc, sources);
    return rc;
}

static const qn_example examples[] = {
    {"quern inspect model.safetensors", "list the tensors: dtype, shape, size"},
    {"quern inspect model.quern --sort size", "list what is stored, largest first, with codec and ratio"},
    {"quern inspect model/ --stats", "see what each level would bring, and what is odd about the weights"},
    {"quern inspect model/ --tensor 'model.layers.0.*' --json", "one layer, for a program"},
    {"quern inspect model/ --graph --svg model.svg", "what the model computes, as a list and as a drawing"},
    {"quern inspect model.onnx --groups", "what pruning can cut, what it cannot, and why"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"inputs[].input, inputs[].format", "path as given; safetensors, hf, npy, npz, quern, …"},
    {"inputs[].source_bytes, inputs[].packed_bytes", "size of the original files; size of the .quern file"},
    {"inputs[].provenance", ".quern: what the packer recorded"},
    {"inputs[].files[]", "path, bytes"},
    {"inputs[].tensors[]", "name, dtype, shape, weights, bytes, file; offset, when its bytes lie in "
                           "the file as they are; .quern: stored_bytes, chunks, chunks_by_codec"},
    {"inputs[].tensors[].stats", "with --stats: values, exponent_bits, bound_bits_per_weight, levels[], nan, inf, zeros, "
                                 "negative_zeros, subnormals, min, max, abs_max, mean, std, hidden_dtype, hidden_exceptions, "
                                 "trailing_zero_bits, distinct_values (only when 256 or fewer), same_as"},
    {"inputs[].tensors[].stats.levels[]", "level, bytes, bits_per_weight, exact: false when scaled from a sample"},
    {"inputs[].path, inputs[].graph", "with --graph or --svg, instead of the above: family, runs (whether every operator is known), inputs[], outputs[], "
                                      "blocks[] with name, like (the first block of the same shape) and nodes[]"},
    {"inputs[].path, inputs[].groups", "with --groups: channels, free_channels, output_channels, params, free_params, macs, families[], frozen[]"},
    {"inputs[].groups.families[]", "name, kind, groups, params_each, macs_each, exact, reason (null when it is exact), weights[] with name, axis, "
                                   "role (producer, consumer, parameter) and indices_each"},
    {"inputs[].groups.frozen[]", "weight, axis, channels of all `of`, reason, node"},
    {"inputs[].stats", "with --stats: tensor_bytes, duplicates, duplicate_bytes, bound_bytes, levels[], duplicates counted once"},
    {NULL, NULL},
};

const qn_command qn_cmd_inspect = {
    .name = "inspect",
    .summary = "list what is in a checkpoint, and what packing would bring",
    .synopsis = "INPUT... [--stats] [--tensor PATTERN] [options]",
    .description =
        "Lists files and tensors of checkpoints in any readable format. For .quern files it also says how each tensor is "
        "stored.\n\n"
        "With --stats every byte is read. 'exp' is the order-0 entropy of the exponents; 'bound' adds the sign and "
        "mantissa bits: what a coder that looks at one exponent at a time cannot beat. The columns of the levels come from "
        "encoding: all of a small checkpoint, a sample of a large one (marked ~).\n\n"
        "With --graph it shows instead what the model computes: the operators, their inputs and the shapes of what comes out, block "
        "by block. --svg draws the same.\n\n"
        "With --groups it shows what pruning can cut: families of groups of weights that only go together. An exact group can go and the rest "
        "computes what it computed with zeros in its place; of others the reason is told. Parameters and multiplications are those of one group.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = UINT_MAX,
    .operand = "a checkpoint",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
