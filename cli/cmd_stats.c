/* cmd_stats.c: quern stats FILE…. */
#include "analysis/stats/imatrix.h"
#include "analysis/stats/merge.h"
#include "base/err.h"
#include "cli/commands.h"
#include "cli/stats_report.h"
#include "cli/units.h"
#include "formats/gguf/names.h"
#include <limits.h>
#include <string.h>

struct args {
    qn_common common;
    bool merge, import, check, force, dry_run;
    const char *output, *export, *arch;
    qn_texts tensors;
    uint64_t starved;
};

static const qn_option options[] = {
    {.name = "tensor", .letter = 'T', .type = QN_OPT_TEXTS, .at = offsetof(struct args, tensors), .arg = "PATTERN",
     .help = "only tensors whose name matches: * and ? as in file names, or a regular expression after 're:'"},
    {.name = "starved", .type = QN_OPT_COUNT, .at = offsetof(struct args, starved), .arg = "ROWS", .fallback = "256",
     .help = "call an expert starved that saw fewer rows"},
    {.name = "check", .type = QN_OPT_FLAG, .at = offsetof(struct args, check),
     .help = "read everything, and compare it with its checksums"},
    {.name = "merge", .type = QN_OPT_FLAG, .at = offsetof(struct args, merge),
     .help = "add statistics of one model, from different data, into OUTPUT"},
    {.name = "import-imatrix", .type = QN_OPT_FLAG, .at = offsetof(struct args, import),
     .help = "FILE is an importance matrix of llama.cpp (GGUF or .dat): write it as statistics to OUTPUT"},
    {.name = "export-imatrix", .type = QN_OPT_PATH, .at = offsetof(struct args, export), .arg = "OUTPUT",
     .help = "write an importance matrix for llama.cpp: OUTPUT ends with .gguf or .dat"},
    {.name = "arch", .type = QN_OPT_TEXT, .at = offsetof(struct args, arch), .arg = "NAME",
     .help = "the model's architecture (llama, qwen3, mixtral, ...): --import-imatrix then takes GGUF's names for those of "
             "Hugging Face, and --export-imatrix translates by it; without it imported names stay as they are"},
    {.name = "output", .letter = 'o', .type = QN_OPT_PATH, .at = offsetof(struct args, output), .arg = "OUTPUT",
     .help = "the file that --merge and --import-imatrix write"},
    {.name = "force", .letter = 'f', .type = QN_OPT_FLAG, .at = offsetof(struct args, force),
     .help = "replace OUTPUT when it exists"},
    {.name = "dry-run", .letter = 'n', .type = QN_OPT_FLAG, .at = offsetof(struct args, dry_run),
     .help = "read and check what would be written, and write nothing"},
};

static qn_code check_args(const qn_cli *cli, const struct args *a, qn_err *err)
{
    const unsigned n_tasks = (unsigned)a->merge + (unsigned)a->import + (a->export ? 1u : 0u);
    if (n_tasks > 1)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "stats: one of --merge, --import-imatrix and --export-imatrix at a time");
    if ((a->merge || a->import) && !a->output)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "stats: --%s needs -o OUTPUT", a->merge ? "merge" : "import-imatrix");
    if (a->output && !a->merge && !a->import)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "stats: -o goes with --merge and --import-imatrix");
    if (n_tasks == 0 && (a->dry_run || a->force))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "stats: --%s goes with what writes a file", a->force ? "force" : "dry-run");
    if (n_tasks && (a->tensors.n || a->check))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "stats: --%s goes with listing", a->check ? "check" : "tensor");
    if (a->arch && !a->import && !a->export)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "stats: --arch goes with --import-imatrix and --export-imatrix");
    if (a->merge && cli->operands.n < 2)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "stats: --merge needs two files or more");
    if ((a->import || a->export) && cli->operands.n > 1)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "stats: %s takes one file", a->import ? "--import-imatrix"
                                                                                       : "--export-imatrix");
    return QN_OK;
}

static qn_code find_arch(qn_cli *cli, const char *name, uint32_t *bit, qn_err *err)
{
    char known[300];
    size_t at = 0;
    *bit = name ? qn_gguf_arch_bit(name) : UINT32_MAX;
    if (*bit)
        return QN_OK;
    for (unsigned i = 0; qn_gguf_archs[i] && at < sizeof known; i++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", qn_gguf_archs[i]);
    qn_hint_set(&cli->hint, "known: %s", known);
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "stats: --arch '%s' is not known", name);
}

/* ---- listing ---- */

/* A pattern that matches no entry of any file is a mistake. */
static qn_code check_patterns(qn_patterns *p, qn_stats_file *files, unsigned n, qn_err *err)
{
    for (unsigned i = 0; i < n; i++)
        for (uint32_t k = 0; k < files[i].n_items; k++)
            (void)qn_patterns_want(p, files[i].items[k].name);
    for (unsigned t = 0; t < p->texts->n; t++)
        if (!p->used[t])
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "no tensor matches '%.100s'", p->texts->items[t]);
    return QN_OK;
}

static qn_code list(qn_cli *cli, const struct args *a, qn_stats_file *files, qn_err *err)
{
    const unsigned n = cli->operands.n;
    qn_patterns patterns;
    qn_json_writer j;
    QN_TRY(qn_patterns_open(&patterns, cli->env.alloc, &a->tensors, err));
    qn_code rc = check_patterns(&patterns, files, n, err);
    for (unsigned i = 0; i < n && rc == QN_OK && a->check; i++)
        rc = qn_stats_check(&files[i], err);
    if (rc == QN_OK && cli->common->json) {
        qn_jw_open(&j, stdout, "stats");
        qn_jw_begin(&j, "inputs", '[');
    }
    for (unsigned i = 0; i < n && rc == QN_OK; i++) {
        const qn_stats_view view = {.f = &files[i], .patterns = &patterns, .starved = a->starved};
        if (cli->common->json) {
            rc = qn_stats_json(&j, &view, err);
        } else if (!cli->common->quiet) {
            if (i > 0)
                putchar('\n');
            rc = qn_stats_text(cli, &view, err);
            if (rc == QN_OK && a->check)
                printf("all %lu inputs read, and have the right checksums\n", (unsigned long)files[i].n_inputs);
        }
    }
    if (rc == QN_OK && cli->common->json) {
        qn_jw_end(&j, ']');
        qn_jw_close(&j);
    }
    qn_patterns_release(&patterns);
    return rc;
}

/* ---- writing ---- */

static void report(const qn_cli *cli, const struct args *a, const char *out, const qn_imatrix_facts *x)
{
    char name[200];
    if (cli->common->json) {
        qn_json_writer j;
        qn_jw_open(&j, stdout, "stats");
        qn_jw_text(&j, "output", out);
        qn_jw_bool(&j, "dry_run", a->dry_run);
        if (x) {
            qn_jw_u64(&j, "tensors", x->n_entries);
            qn_jw_u64(&j, "tensors_with_experts", x->n_experts);
            qn_jw_u64(&j, "untranslated", x->n_untranslated);
            qn_jw_u64(&j, "left_out", x->n_left_out);
            qn_jw_u64(&j, "unseen", x->n_unseen);
        } else {
            qn_jw_u64(&j, "merged", cli->operands.n);
        }
        qn_jw_close(&j);
        return;
    }
    if (cli->common->quiet)
        return;
    qn_printable(name, sizeof name, out, strlen(out));
    printf("%s%s%s%s: ", a->dry_run ? "would write " : "", qn_term_bold(&cli->out), name, qn_term_plain(&cli->out));
    if (!x) {
        printf("the sum of %u files\n", cli->operands.n);
        return;
    }
    printf("%llu tensor%s", (unsigned long long)x->n_entries, x->n_entries == 1 ? "" : "s");
    if (x->n_experts)
        printf(", %llu of them with experts", (unsigned long long)x->n_experts);
    putchar('\n');
}

static void note_facts(qn_cli *cli, const qn_imatrix_facts *x)
{
    if (x->n_untranslated)
        qn_cli_note(cli, "warning: %llu names are not those of this architecture and stay as they are",
                    (unsigned long long)x->n_untranslated);
    if (x->n_left_out)
        qn_cli_note(cli, "warning: %llu tensors have no name in GGUF and are left out", (unsigned long long)x->n_left_out);
    if (x->n_unseen)
        qn_cli_note(cli, "warning: %llu tensors or experts saw no row", (unsigned long long)x->n_unseen);
}

static qn_code import(qn_cli *cli, const struct args *a, uint32_t arch, qn_err *err)
{
    const qn_imatrix_options opt = {.arch = arch, .keep_names = !a->arch, .overwrite = a->force, .dry_run = a->dry_run};
    qn_imatrix_facts facts;
    QN_TRY(qn_imatrix_import(&cli->env, cli->operands.items[0], a->output, &opt, &facts, err));
    note_facts(cli, &facts);
    report(cli, a, a->output, &facts);
    return QN_OK;
}

static qn_code export(qn_cli *cli, const struct args *a, const qn_stats_file *f, uint32_t arch, qn_err *err)
{
    const qn_imatrix_options opt = {.arch = arch, .overwrite = a->force, .dry_run = a->dry_run};
    qn_imatrix_facts facts;
    QN_TRY(qn_imatrix_export(f, a->export, &opt, &facts, err));
    note_facts(cli, &facts);
    report(cli, a, a->export, &facts);
    return QN_OK;
}

static qn_code merge(qn_cli *cli, const struct args *a, qn_stats_file *files, qn_err *err)
{
    qn_stats_file **list_of = qn_arena_get(&cli->arena, cli->operands.n * sizeof(qn_stats_file *), 8, err);
    if (!list_of)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < cli->operands.n; i++)
        list_of[i] = &files[i];
    QN_TRY(qn_stats_merge(&cli->env, a->output, list_of, cli->operands.n, a->force, a->dry_run, err));
    report(cli, a, a->output, NULL);
    return QN_OK;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    uint32_t arch;
    QN_TRY(check_args(cli, a, err));
    QN_TRY(find_arch(cli, a->arch, &arch, err));
    if (a->import)
        return import(cli, a, arch, err);
    qn_stats_file *files = qn_mem_zeros(cli->env.alloc, cli->operands.n, sizeof *files, err);
    if (!files)
        return QN_E_MEMORY;
    unsigned n = 0;
    qn_code rc = QN_OK;
    for (; n < cli->operands.n && rc == QN_OK; n++)
        rc = qn_stats_file_open(&files[n], &cli->env, cli->operands.items[n], err);
    if (rc == QN_OK)
        rc = a->merge ? merge(cli, a, files, err) : a->export ? export(cli, a, files, arch, err) : list(cli, a, files, err);
    for (unsigned i = 0; i < n; i++)
        qn_stats_file_close(&files[i]);
    qn_mem_put(cli->env.alloc, files);
    return rc;
}

static const qn_example examples[] = {
    {"quern stats model.qstats", "list what was measured, and what is odd about it"},
    {"quern stats --merge a.qstats b.qstats -o ab.qstats", "add two runs over different text"},
    {"quern stats model.qstats --export-imatrix imatrix.gguf", "give llama-quantize what was measured"},
    {"quern stats --import-imatrix imatrix.gguf --arch llama -o model.qstats", "use a published importance matrix"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"inputs[].input, inputs[].bytes, inputs[].complete", "path, size; false for a run that has not ended"},
    {"inputs[].model, tokenizer, settings", "digests, or null"},
    {"inputs[].tokens, sequences, context", "what was run"},
    {"inputs[].data[]", "label, digest, tokens of each text"},
    {"inputs[].provenance", "what the writer recorded"},
    {"inputs[].entries[]", "name, expert (of tensors that hold several), input (equal for tensors that share one), kind (h or "
                           "diagonal), n, rows, mean_abs, rms, max_abs, worst_over_rms, mean_share, dead_columns, low_rank, "
                           "starved, outputs; null where not known"},
    {"inputs[].entries[].sensitivity", "what a relative error of 1 in the layer's output costs, in nats a token, and what it is from: "
                                       "sensitivity_kl, sensitivity_noise, sensitivity_tokens; only where it was measured"},
    {"output, dry_run", "with what writes a file, instead of inputs"},
    {"merged", "with --merge: number of files"},
    {"tensors, tensors_with_experts, untranslated, left_out, unseen", "with --import-imatrix and --export-imatrix"},
    {NULL, NULL},
};

const qn_command qn_cmd_stats = {
    .name = "stats",
    .summary = "list, merge and convert calibration statistics",
    .synopsis = "FILE... [--merge -o OUTPUT] [options]",
    .description =
        "Lists what was measured of a model's inputs: for every weight the number of rows seen, the mean and largest |x|, "
        "and the ratio of the largest column's RMS to that of all. Notes: 'rank < n' means fewer rows than "
        "columns, 'dead' columns that were always zero, 'outliers' a column above 8 times the RMS, 'mean dominates' that more "
        "than half of the second moment is the mean's, 'starved' an expert that saw too little. The column 'sensitivity', when "
        "calibrate has measured it: what the divergence of the model's predictions (nats a token) is for a small relative error t² of "
        "the layer's output, over t².\n\n"
        "With --merge the files are added; the result does not depend on their order. Importance matrices of llama.cpp are "
        "read and written; they hold the diagonal only.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = UINT_MAX,
    .operand = "a statistics file",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
