/* cmd_verify.c: quern verify FILE. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/findings.h"
#include "cli/units.h"
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

static qn_code check(qn_cli *cli, qn_source *src, qn_err *err)
{
    qn_findings damage = {.cli = cli, .label = "damaged"};
    const double began = qn_cli_now();
    const qn_code rc = qn_verify(&cli->env, src, qn_findings_add, &damage, err);
    const double seconds = qn_cli_now() - began;
    qn_progress_clear(&cli->progress);
    if (rc == QN_OK || (rc == QN_E_INPUT && damage.n)) {
        if (cli->common->json) {
            qn_json_writer j;
            qn_jw_open(&j, stdout, "verify");
            qn_jw_text(&j, "input", src->path);
            qn_jw_u64(&j, "tensors", src->n_tensors);
            qn_jw_u64(&j, "files", src->n_files);
            qn_jw_real(&j, "seconds", seconds);
            qn_jw_bool(&j, "intact", rc == QN_OK);
            qn_findings_json(&damage, &j, "damaged");
            qn_jw_close(&j);
        } else if (!cli->common->quiet && rc == QN_OK) {
            char time[32], name[200];
            qn_human_seconds(time, sizeof time, seconds);
            qn_printable(name, sizeof name, src->path, strlen(src->path));
            printf("%s: %sintact%s, %llu tensors and %llu files decoded and checked in %s\n", name, qn_term_green(&cli->out),
                   qn_term_plain(&cli->out), (unsigned long long)src->n_tensors, (unsigned long long)src->n_files, time);
        }
    }
    qn_findings_release(&damage);
    return rc;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    const char *in = cli->operands.items[0];
    qn_source *src = NULL, *base = NULL;
    qn_code rc = qn_cli_open(cli, in, &src, err);
    if (rc == QN_OK && a->base)
        rc = qn_cli_open(cli, a->base, &base, err);
    if (rc == QN_OK && base && qn_quern_source_reader(src))
        qn_quern_source_set_base(src, base);
    if (rc == QN_OK && !qn_quern_source_reader(src) && !a->against) {
        qn_hint_set(&cli->hint, "--against SOURCE compares any two checkpoints");
        rc = qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is not a .quern file and has no checksums to verify"),
                            in);
    }
    if (rc == QN_OK)
        rc = check(cli, src, err);
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
    {"intact", "true when everything decodes to the recorded checksums"},
    {"damaged[], damaged_count", "file, tensor, offset, text of the first 1000, and how many there are"},
    {"seconds", "time taken"},
    {NULL, NULL},
};

const qn_command qn_cmd_verify = {
    .name = "verify",
    .summary = "check a packed file, alone or bit for bit against its source",
    .synopsis = "FILE [--against SOURCE] [options]",
    .description = "Reads a .quern file from the first to the last byte, checks structure and checksums, and decodes "
                   "everything. All damage is listed, and the exit code is 3 when there is any.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = 1,
    .operand = "the file to check",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
