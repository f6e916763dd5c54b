/* cmd_verify.c: quern verify FILE. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/findings.h"
#include "cli/units.h"
#include "compress/against.h"
#include "compress/pack.h"
#include "formats/quern/source.h"
#include <string.h>

struct args {
    qn_common common;
    const char *against, *base;
};

static const qn_option options[] = {
    {.name = "against", .type = QN_OPT_PATH, .at = offsetof(struct args, against), .arg = "SOURCE",
     .help = "compare every tensor and file with SOURCE, bit for bit; exit code 1 when something differs"},
    {.name = "base", .type = QN_OPT_PATH, .at = offsetof(struct args, base), .arg = "CHECKPOINT",
     .help = "the checkpoint that was given to compress --base"},
};

/* What was found; `against` is all zero without --against, `checked` false when the file has no checksums. */
struct outcome {
    const qn_source *src;
    const char *against;
    bool checked, intact;
    qn_against_report cmp;
    double seconds;
    uint64_t n_lossy;
    qn_findings damage, differences;
};

static void report_json(const struct outcome *r)
{
    qn_json_writer j;
    qn_jw_open(&j, stdout, "verify");
    qn_jw_text(&j, "input", qn_source_given(r->src));
    qn_jw_text(&j, "against", r->against);
    qn_jw_u64(&j, "tensors", r->src->n_tensors);
    qn_jw_u64(&j, "files", r->src->n_files);
    qn_jw_bool(&j, "checksums", r->checked);
    if (r->checked)
        qn_jw_bool(&j, "intact", r->intact);
    if (r->checked)
        qn_jw_u64(&j, "approximated", r->n_lossy);
    qn_findings_json(&r->damage, &j, "damaged");
    if (r->against) {
        qn_jw_bool(&j, "equal", r->intact && r->cmp.n_different == 0);
        qn_jw_u64(&j, "bytes_compared", r->cmp.n_bytes);
        qn_findings_json(&r->differences, &j, "different");
    }
    qn_jw_real(&j, "seconds", r->seconds);
    qn_jw_close(&j);
}

static void report_text(const qn_cli *cli, const struct outcome *r)
{
    char time[32], size[32], name[200], other[200];
    const char *good = qn_term_green(&cli->out), *bad = qn_term_red(&cli->out), *plain = qn_term_plain(&cli->out);
    qn_human_seconds(time, sizeof time, r->seconds);
    qn_printable(name, sizeof name, qn_source_given(r->src), strlen(qn_source_given(r->src)));
    if (!r->intact) {
        printf("%s: %sdamaged%s, in %llu place%s\n", name, bad, plain, (unsigned long long)r->damage.n,
               r->damage.n == 1 ? "" : "s");
        return;
    }
    if (!r->against) {
        printf("%s: %sintact%s, %llu tensors and %llu file%s decoded and checked in %s\n", name, good, plain,
               (unsigned long long)r->src->n_tensors, (unsigned long long)r->src->n_files,
               r->src->n_files == 1 ? "" : "s", time);
        if (r->n_lossy)
            printf("%llu of the tensors are approximations of what was packed\n", (unsigned long long)r->n_lossy);
        return;
    }
    qn_printable(other, sizeof other, r->against, strlen(r->against));
    qn_human_bytes(size, sizeof size, r->cmp.n_bytes);
    if (r->cmp.n_different)
        printf("%s: %sdifferent%s from %s: %llu of the tensors and files\n", name, bad, plain, other,
               (unsigned long long)r->cmp.n_different);
    else
        printf("%s: %sidentical%s to %s: %llu tensors and %llu file%s, %s%s, every bit, in %s\n", name, good, plain, other,
               (unsigned long long)r->cmp.n_tensors, (unsigned long long)r->cmp.n_files, r->cmp.n_files == 1 ? "" : "s",
               size, r->checked ? ", checksums too" : "", time);
}

/* Damage ends it: what does not decode cannot be compared. */
static qn_code check(qn_cli *cli, qn_source *src, qn_source *other, struct outcome *r, qn_err *err)
{
    const double began = qn_cli_now();
    qn_code rc = QN_OK;
    r->checked = qn_quern_source_reader(src) != NULL;
    if (r->checked)
        r->n_lossy = qn_index_n_lossy(qn_reader_index(qn_quern_source_reader(src)));
    if (r->checked)
        rc = qn_verify(&cli->env, src, qn_findings_add, &r->damage, err);
    r->intact = rc == QN_OK;
    if (rc == QN_OK && other)
        rc = qn_against(&cli->env, src, other, qn_findings_add, &r->differences, &r->cmp, err);
    r->seconds = qn_cli_now() - began;
    qn_progress_clear(&cli->progress);
    if (rc == QN_OK || rc == QN_E_DIFFERENT || (rc == QN_E_INPUT && r->damage.n)) {
        if (cli->common->json)
            report_json(r);
        else if (!cli->common->quiet)
            report_text(cli, r);
    }
    if (rc == QN_E_DIFFERENT)
        qn_err_clear(err); /* the result has said it: not an error */
    return rc;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    const char *in = cli->operands.items[0];
    qn_source *src = NULL, *base = NULL, *other = NULL;
    qn_code rc = qn_cli_open(cli, in, &src, err);
    if (rc == QN_OK && a->base)
        rc = qn_cli_open(cli, a->base, &base, err);
    if (rc == QN_OK && a->against)
        rc = qn_cli_open(cli, a->against, &other, err);
    if (rc == QN_OK && base && qn_quern_source_reader(src))
        qn_quern_source_set_base(src, base);
    if (rc == QN_OK && base && other && qn_quern_source_reader(other))
        qn_quern_source_set_base(other, base);
    if (rc == QN_OK && !other && !qn_quern_source_reader(src)) {
        qn_hint_set(&cli->hint, "--against SOURCE compares any two checkpoints");
        rc = qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is not a .quern file and has no checksums to verify"),
                            in);
    }
    if (rc == QN_OK) {
        struct outcome r = {.src = src, .against = a->against, .damage = {.cli = cli, .label = "damaged"},
                            .differences = {.cli = cli, .label = "different"}};
        rc = check(cli, src, other, &r, err);
        qn_findings_release(&r.damage);
        qn_findings_release(&r.differences);
    }
    qn_source_close(other);
    qn_source_close(src);
    qn_source_close(base);
    return rc;
}

static const qn_example examples[] = {
    {"quern verify model.quern", "check that every byte is intact and decodes"},
    {"quern verify model.quern --against model/", "prove that it holds exactly that folder"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"input, against", "paths"},
    {"tensors, files", "what was checked"},
    {"checksums", "true when the input is a .quern file, whose checksums were verified"},
    {"intact", "with checksums: true when everything decodes to them"},
    {"approximated", "with checksums: tensors that were packed with loss"},
    {"damaged[], damaged_count", "file, tensor, offset, text of the first 1000, and how many there are"},
    {"equal", "with --against: true when every bit is the same"},
    {"bytes_compared", "with --against"},
    {"different[], different_count", "with --against: like damaged; offset counts within the tensor or file"},
    {"seconds", "time taken"},
    {NULL, NULL},
};

const qn_command qn_cmd_verify = {
    .name = "verify",
    .summary = "check a packed file, alone or bit for bit against its source",
    .synopsis = "FILE [--against SOURCE] [options]",
    .description = "Reads a .quern file from the first to the last byte, checks structure and checksums, and decodes "
                   "everything. All damage is listed, and the exit code is 3 when there is any.\n\n"
                   "With --against, compares with SOURCE as well, which may be of any readable format: each tensor by its "
                   "name, and every other byte of the files. All differences are listed, with the first byte of each, and "
                   "the exit code is 1 when there is any. Then FILE need not be a .quern file.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = 1,
    .operand = "the file to check",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
