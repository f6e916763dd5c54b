/* cmd_diff.c: quern diff A B. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/diff_report.h"
#include "cli/pattern.h"
#include <stdlib.h>
#include <string.h>

struct args {
    qn_common common;
    bool all, tensors_only;
    qn_texts tensors, tolerances;
    const char *base;
};

static const qn_option options[] = {
    {.name = "all", .letter = 'a', .type = QN_OPT_FLAG, .at = offsetof(struct args, all),
     .help = "list every tensor and file, the equal ones too"},
    {.name = "tolerance", .type = QN_OPT_TEXTS, .at = offsetof(struct args, tolerances), .arg = "MEASURE=X",
     .help = "count a tensor as equal when its error is within X: max-abs (at most), rel-rms (at most), cosine (at least), "
             "sqnr in dB (at least). All that are given must hold; the dtype may then differ"},
    {.name = "tensors-only", .type = QN_OPT_FLAG, .at = offsetof(struct args, tensors_only),
     .help = "compare the tensors, not the files and headers around them"},
    {.name = "tensor", .letter = 'T', .type = QN_OPT_TEXTS, .at = offsetof(struct args, tensors), .arg = "PATTERN",
     .help = "compare only tensors whose name matches: * and ? as in file names, or a regular expression after 're:'; "
             "implies --tensors-only"},
    {.name = "base", .type = QN_OPT_PATH, .at = offsetof(struct args, base), .arg = "CHECKPOINT",
     .help = "the checkpoint that was given to compress --base when A or B was packed"},
};

static qn_code one_limit(const char *text, qn_tolerance *t, qn_hint *hint, qn_err *err)
{
    double *const at[] = {&t->max_abs, &t->max_rel_rms, &t->min_cosine, &t->min_sqnr_db};
    static const char *const names[] = {"max-abs", "rel-rms", "cosine", "sqnr"};
    const char *equals = strchr(text, '=');
    for (size_t i = 0; equals && i < sizeof names / sizeof names[0]; i++) {
        const size_t n = strlen(names[i]);
        if (n != (size_t)(equals - text) || memcmp(text, names[i], n) != 0)
            continue;
        char *end;
        const double v = strtod(equals + 1, &end);
        if (end == equals + 1 || *end || v != v)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "diff: --tolerance %s: '%s' is not a number", names[i], equals + 1);
        *at[i] = v;
        return QN_OK;
    }
    qn_hint_set(hint, "for example --tolerance rel-rms=0.01 or --tolerance max-abs=1e-6");
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET,
                   "diff: --tolerance '%s': max-abs=X, rel-rms=X, cosine=X or sqnr=X is allowed", text);
}

static qn_code compare(qn_cli *cli, const struct args *a, qn_diff_facts *f, qn_patterns *patterns, const qn_tolerance *t,
                       qn_err *err)
{
    const qn_diff_options opt = {.tolerance = f->tolerant ? t : NULL, .tensors_only = f->tensors_only,
                                 .want = a->tensors.n ? qn_patterns_want : NULL, .want_ctx = patterns};
    qn_source *const sides[2] = {f->a, f->b};
    qn_diff d;
    QN_TRY(qn_patterns_check(patterns, sides, 2, &cli->hint, err));
    const double began = qn_cli_now();
    QN_TRY(qn_diff_run(&cli->env, f->a, f->b, &opt, &d, err));
    f->diff = &d;
    f->seconds = qn_cli_now() - began;
    qn_progress_clear(&cli->progress);
    qn_code rc = QN_OK;
    if (cli->common->json)
        rc = qn_diff_report_json(cli, f, err);
    else if (!cli->common->quiet)
        rc = qn_diff_report_text(cli, f, err);
    if (rc == QN_OK && d.different)
        rc = QN_E_DIFFERENT;
    qn_diff_release(&cli->env, &d);
    return rc;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    qn_tolerance tolerance = QN_TOLERANCE_ANY;
    qn_diff_facts f = {.all = a->all, .tolerant = a->tolerances.n > 0, .tensors_only = a->tensors_only || a->tensors.n > 0};
    qn_patterns patterns;
    qn_source *base = NULL;
    for (unsigned i = 0; i < a->tolerances.n; i++)
        QN_TRY(one_limit(a->tolerances.items[i], &tolerance, &cli->hint, err));
    QN_TRY(qn_patterns_open(&patterns, cli->env.alloc, &a->tensors, err));
    qn_code rc = a->base ? qn_cli_open(cli, a->base, &base, err) : QN_OK;
    if (rc == QN_OK)
        rc = qn_cli_open_on(cli, cli->operands.items[0], base, &f.a, err);
    if (rc == QN_OK)
        rc = qn_cli_open_on(cli, cli->operands.items[1], base, &f.b, err);
    if (rc == QN_OK)
        rc = compare(cli, a, &f, &patterns, &tolerance, err);
    qn_source_close(f.a);
    qn_source_close(f.b);
    qn_source_close(base);
    qn_patterns_release(&patterns);
    return rc;
}

static const qn_example examples[] = {
    {"quern diff model.safetensors model.safetensors.quern", "prove that packing lost nothing"},
    {"quern diff model-f32/ model-bf16/ --tolerance rel-rms=0.003", "check a conversion: exit code 0 when all tensors are close"},
    {"quern diff a.safetensors b.safetensors --all --json", "every tensor with its error, for a program"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"a, b", "path, format, tensors, files of each side"},
    {"different", "the verdict"},
    {"tensors_by_status", "how many are equal, values (other bits), dtype, shape, only_a, only_b"},
    {"tensors_within", "how many differ but are within the tolerance"},
    {"files_differing", "files without tensors, and headers, that are not the same"},
    {"tensors[]", "name, status, within, a, b (dtype, shape), differing, first_differing, error; equal ones with --all only"},
    {"tensors[].error, error", "values, finite_pairs, nan_mismatches, inf_mismatches, max_abs, max_abs_at, max_rel, mean_abs, "
                               "rms, rel_rms, cosine, sqnr_db; null where infinite"},
    {"files[]", "path, status: bytes, header, only_a, only_b; equal ones with --all only"},
    {"seconds", "time taken"},
    {NULL, NULL},
};

const qn_command qn_cmd_diff = {
    .name = "diff",
    .summary = "compare two checkpoints of any format and measure the error",
    .synopsis = "A B [--tolerance MEASURE=X] [options]",
    .description =
        "Compares tensors by name, and the other files of model folders byte for byte. Equal means the same dtype, shape and "
        "bits. Where the bits or dtypes differ, the error of B against A is measured: the largest absolute error, "
        "the relative RMS |A-B|/|A|, the cosine, and the signal-to-noise ratio.\n\n"
        "The exit code is 0 when the two are equal, or every tensor is within the tolerance, and 1 when they differ.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 2,
    .max_operands = 2,
    .operand = "a checkpoint to compare",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
