/* cmd_export.c: quern export INPUT --to FORMAT[:VARIANT]. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/export_report.h"
#include "cli/graph_report.h"
#include "cli/names.h"
#include <stdlib.h>
#include <string.h>

struct args {
    qn_common common;
    qn_texts to, output;
    const char *stats, *recipe, *like, *keep, *group;
    double bits;
    uint64_t size, shard;
    int asymmetric;
    bool force, dry_run;
};

static const char *const yes_no[] = {"default", "yes", "no", NULL};

static const qn_option options[] = {
    {.name = "to", .letter = 't', .type = QN_OPT_TEXTS, .at = offsetof(struct args, to), .arg = "FORMAT[:VARIANT]",
     .help = "what to write; may be given several times, what is quantized alike is then worked out once"},
    {.name = "output", .letter = 'o', .type = QN_OPT_TEXTS, .at = offsetof(struct args, output), .arg = "PATH",
     .help = "where to: one for each --to, in the same order. Without it a name beside INPUT, made of its name and the format's"},
    {.name = "stats", .type = QN_OPT_PATH, .at = offsetof(struct args, stats), .arg = "FILE",
     .help = "statistics of 'quern calibrate': errors are fed back, and weighed by what they do to the layer's output"},
    {.name = "bits", .letter = 'b', .type = QN_OPT_REAL, .at = offsetof(struct args, bits), .arg = "N", .max = 32,
     .help = "bits of a weight, where the variant leaves them open. For gguf any number: types are chosen so that the whole file has that many"},
    {.name = "size", .type = QN_OPT_SIZE, .at = offsetof(struct args, size), .arg = "SIZE", .min = 1,
     .help = "gguf: choose the type of each tensor so that the file is no larger"},
    {.name = "like", .type = QN_OPT_TEXT, .at = offsetof(struct args, like), .arg = "MIX",
     .help = "gguf: the types that llama-quantize gives each tensor under that name (Q4_K_M, IQ2_XS, …); the same as --to gguf:MIX"},
    {.name = "group", .type = QN_OPT_TEXT, .at = offsetof(struct args, group), .arg = "N",
     .help = "columns that share a scale, or 'row', where the format leaves that open"},
    {.name = "asymmetric", .type = QN_OPT_CHOICE, .at = offsetof(struct args, asymmetric), .arg = "YES|NO", .choices = yes_no, .fallback = "default",
     .implied = "yes", .help = "a zero point for each group, where the format leaves that open"},
    {.name = "recipe", .type = QN_OPT_PATH, .at = offsetof(struct args, recipe), .arg = "FILE",
     .help = "rules for single tensors ('tensors'), 'order', 'damping' and 'feedback' as compress takes them; the rules win over what the format would choose"},
    {.name = "shard-size", .type = QN_OPT_SIZE, .at = offsetof(struct args, shard), .arg = "SIZE", .min = 1 << 10,
     .help = "folders: most data in one file. onnx: weights go to a file of their own when the model would be larger"},
    {.name = "keep-solve", .type = QN_OPT_PATH, .at = offsetof(struct args, keep), .arg = "FILE",
     .help = "keep what was worked out as FILE (.quern): it can be exported again without rounding anything"},
    {.name = "force", .letter = 'f', .type = QN_OPT_FLAG, .at = offsetof(struct args, force), .help = "replace outputs that exist"},
    {.name = "dry-run", .letter = 'n', .type = QN_OPT_FLAG, .at = offsetof(struct args, dry_run),
     .help = "tell what each tensor would get, and write nothing"},
};

/* "gguf:q4_k" → its target and its variant. */
static qn_code find_target(qn_cli *cli, const char *text, const char *like, qn_export_request *r, qn_err *err)
{
    const char *colon = strchr(text, ':');
    const size_t n = colon ? (size_t)(colon - text) : strlen(text);
    r->target = qn_export_target_find(text, n);
    r->variant = colon ? colon + 1 : "";
    if (r->target) {
        if (like && strcmp(r->target->name, "gguf") == 0 && !*r->variant)
            r->variant = like;
        return QN_OK;
    }
    char names[200] = "";
    for (unsigned i = 0; qn_export_targets[i]; i++) {
        const size_t at = strlen(names);
        if (at + strlen(qn_export_targets[i]->name) + 3 < sizeof names) {
            memcpy(names + at, i ? ", " : "", i ? 2 : 0);
            memcpy(names + at + (i ? 2 : 0), qn_export_targets[i]->name, strlen(qn_export_targets[i]->name) + 1);
        }
    }
    qn_hint_set(&cli->hint, "formats: %s", names);
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "export: no format called '%.*s'", (int)(n < 40 ? n : 40), text);
}

/* model.safetensors and gguf:q4_k → model-q4_k.gguf; a folder and gptq → model-gptq. */
static qn_code default_path(qn_cli *cli, const qn_export_request *r, const char **path, qn_err *err)
{
    static const char *const tails[] = {".quern", ".safetensors", ".gguf", ".onnx", ".npz", ".pt", ".pth", ".json"};
    const char *in = cli->operands.items[0];
    char *stem = qn_arena_str(&cli->arena, in, strlen(in), err);
    char tail[128];
    if (!stem)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        const size_t n = strlen(stem), k = strlen(tails[i]);
        if (n > k && strcmp(stem + n - k, tails[i]) == 0 && stem[n - k - 1] != '/')
            stem[n - k] = '\0';
    }
    const char *mark = *r->variant ? r->variant : r->target->name;
    snprintf(tail, sizeof tail, "-%s%s%s%s", r->target->folder ? r->target->name : mark, r->target->folder && *r->variant ? "-" : "",
             r->target->folder ? r->variant : "", r->target->suffix);
    for (char *c = tail; *c; c++)
        if (*c == '/' || *c == ':')
            *c = '-';
    return qn_name_beside(&cli->arena, stem, tail, path, err);
}

static qn_code requests_of(qn_cli *cli, const struct args *a, qn_export_request **out, unsigned *n, qn_err *err)
{
    static const char *gguf = "gguf";
    const qn_texts to = a->to.n || !a->like ? a->to : (qn_texts){&gguf, 1};
    if (!to.n) {
        qn_hint_set(&cli->hint, "for example: quern export %s --to gguf:Q4_K_M", cli->operands.items[0]);
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "export: --to says what to write");
    }
    if (a->output.n && a->output.n != to.n)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "export: %u formats and %u outputs: give one --output for each --to, or none", to.n, a->output.n);
    *out = qn_arena_get(&cli->arena, to.n * sizeof **out, 8, err);
    if (!*out)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < to.n; i++) {
        QN_TRY(find_target(cli, to.items[i], a->like, &(*out)[i], err));
        (*out)[i].path = a->output.n ? a->output.items[i] : NULL;
        if (!a->output.n)
            QN_TRY(default_path(cli, &(*out)[i], &(*out)[i].path, err));
        for (unsigned k = 0; k < i; k++)
            if (strcmp((*out)[k].path, (*out)[i].path) == 0)
                return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "export: two outputs are called %s", (*out)[i].path);
    }
    *n = to.n;
    return QN_OK;
}

static qn_code wish_of(const struct args *a, qn_export_wish *w, qn_err *err)
{
    *w = (qn_export_wish){.bits = a->bits, .size_bytes = a->size, .asymmetric = a->asymmetric == 1 ? 1 : a->asymmetric == 2 ? -1 : 0, .like = a->like,
                          .statistics = a->stats, .shard_bytes = a->shard};
    if (a->bits > 0 && a->size)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "export: either --bits or --size");
    if (a->group && strcmp(a->group, "row") == 0) {
        w->group = UINT32_MAX;
    } else if (a->group) {
        char *end;
        const unsigned long v = strtoul(a->group, &end, 10);
        if (*end || end == a->group || v < 1 || v > 1 << 20)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "export: --group is '%.40s': allowed are 1 to 1048576, or row", a->group);
        w->group = (uint32_t)v;
    }
    return QN_OK;
}

/* Of a recipe file only what says how, not what: the format decides that. */
static qn_code rules_of(qn_cli *cli, const struct args *a, qn_recipe *r, qn_err *err)
{
    QN_TRY(qn_recipe_read(r, &cli->env, a->recipe, &cli->arena, err));
    qn_quant_settings none = {0};
    if (r->all.codec || !qn_settings_equal(&r->all.set, &none) || r->role[QN_ROLE_HEAD].codec || r->role[QN_ROLE_EMBEDDING].codec || r->size_bytes ||
        r->bits_per_weight > 0 || qn_prune_wish_any(&r->prune))
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "only 'tensors', 'order', 'damping' and 'feedback' go with export: the rest "
                                                                           "follows from --to"), a->recipe);
    return QN_OK;
}

static qn_code work(qn_cli *cli, const struct args *a, qn_export_run *x, double began, qn_err *err)
{
    if (x->graph)
        qn_cli_graph_warnings(cli, x->graph);
    qn_code rc = a->dry_run ? QN_OK : qn_export_all(x, err);
    qn_progress_clear(&cli->progress);
    if (rc == QN_E_CANCELLED)
        qn_hint_set(&cli->hint, "the same command again goes on from here");
    QN_TRY(rc);
    for (uint32_t i = 0; i < x->n_solves; i++)
        if (x->solves[i].reused)
            qn_cli_note(cli, "note: went on with %s, which an earlier run had finished", x->solves[i].path);
    if (cli->common->json)
        qn_export_json(cli, x, qn_cli_now() - began);
    else if (!cli->common->quiet)
        rc = qn_export_text(cli, x, qn_cli_now() - began, err);
    return rc;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    const double began = qn_cli_now();
    qn_export_request *r = NULL;
    unsigned n = 0;
    qn_export_options o = {.statistics = a->stats, .keep = a->keep, .overwrite = a->force, .dry_run = a->dry_run};
    qn_recipe rules = QN_RECIPE_EMPTY;
    qn_source *src = NULL;
    qn_export_run x = {0};
    QN_TRY(requests_of(cli, a, &r, &n, err));
    QN_TRY(wish_of(a, &o.wish, err));
    qn_code rc = a->recipe ? rules_of(cli, a, &rules, err) : QN_OK;
    o.rules = a->recipe ? &rules : NULL;
    if (rc == QN_OK)
        rc = qn_cli_open(cli, cli->operands.items[0], &src, err);
    if (rc == QN_OK) {
        rc = qn_export_open(&x, &cli->env, src, r, n, &o, err);
        if (rc == QN_OK)
            rc = work(cli, a, &x, began, err);
        qn_export_close(&x);
    }
    qn_source_close(src);
    qn_recipe_release(&rules);
    return rc;
}

static const qn_example examples[] = {
    {"quern export model/ --to gguf:Q4_K_M --stats model.qstats", "for llama.cpp, in the types that it knows by that name"},
    {"quern export model/ --to gguf --size=4GB --stats model.qstats", "… types chosen so that the file has 4 GB"},
    {"quern export model.quern --to safetensors -o dense/", "what was compressed, dense again"},
    {"quern export model/ --to compressed-tensors --to gptq", "two formats from one solve"},
    {"quern export net.onnx --to onnx:matmulnbits --bits=4", "an ONNX model with 4-bit weights"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"input, dry_run, seconds", "what was exported, whether nothing was written, time taken"},
    {"outputs[]", "path, format, variant, bytes, and recipe (of what was quantized, in one line, or null)"},
    {"outputs[].tensors[]", "tensor, asked and given (the type), why (they differ, or null), weights, bytes, rounded_again"},
    {"outputs[].notes[]", "what a user should know"},
    {NULL, NULL},
};

const qn_command qn_cmd_export = {
    .name = "export",
    .summary = "write a checkpoint in the form that another runtime loads",
    .synopsis = "INPUT --to FORMAT[:VARIANT] [-o PATH] [--stats=FILE] [options]",
    .description =
        "Writes a checkpoint, dense or packed, for other runtimes: in their own formats, down to the bit layout of their quantized types, but with weights that were "
        "chosen by quern's error feedback.\n\n"
        "gguf: for llama.cpp. Variants are f16, bf16, f32 (dense), a block type (q4_k, iq2_xs, mxfp4, …: all matrices in it), or the name of a mix (Q4_K_M, "
        "IQ3_M, …: what llama-quantize gives each tensor); with --bits or --size types are chosen. safetensors: dense, as it is or f32, f16, bf16. "
        "compressed-tensors: int4, int8, w8a8, fp8, mxfp4, for vLLM. gptq, awq, mlx: 2 to 8 bits as each has them. vptq: vectors. dfloat11: lossless. "
        "onnx: dense, f16, matmulnbits, qdq, qdq4. npz: f32, f16 or bits. docs/export-*.md tell what is written, and who loads it.\n\n"
        "What has to be quantized is worked out first and kept in a .quern beside the output until everything is written: a run that was "
        "stopped goes on when the same command is given again. A .quern that holds codes which the format can express is written code by code, "
        "and nothing is rounded a second time; otherwise weights are decoded, and the report says that they were rounded again.\n\n"
        "Each tensor gets the type that was asked for, or, where its shape does not allow that, another one, which the report names with the reason. "
        "With --stats, errors are fed back as 'quern compress' does it. Outputs appear under their names only when they are whole and were read back.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = 1,
    .operand = "the checkpoint to export",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
