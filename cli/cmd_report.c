/* cmd_report.c: quern report REPORT.json: what compare or gate measured, as a page. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/gate_measure.h"
#include "cli/json_write.h"
#include "cli/names.h"
#include "cli/report_html.h"
#include <string.h>

struct args {
    qn_common common;
    const char *output, *baseline, *thresholds;
    bool force;
};

static const qn_option options[] = {
    {.name = "output", .letter = 'o', .type = QN_OPT_PATH, .at = offsetof(struct args, output), .arg = "FILE",
     .help = "write the page to FILE; without it REPORT.html beside the report"},
    {.name = "baseline", .letter = 'b', .type = QN_OPT_PATH, .at = offsetof(struct args, baseline), .arg = "FILE",
     .help = "draw another report of the same data beside it, and judge as gate does"},
    {.name = "thresholds", .letter = 'T', .type = QN_OPT_PATH, .at = offsetof(struct args, thresholds), .arg = "FILE", .help = "judge by these limits, as gate does"},
    {.name = "force", .letter = 'f', .type = QN_OPT_FLAG, .at = offsetof(struct args, force), .help = "replace the page when it exists"},
};

static qn_code output_name(qn_cli *cli, const char **out, qn_err *err)
{
    const char *in = cli->operands.items[0];
    const size_t n = strlen(in), tail = n > 5 && strcmp(in + n - 5, ".json") == 0 ? 5 : 0;
    char *stem = qn_arena_str(&cli->arena, in, n - tail, err);
    return stem ? qn_name_beside(&cli->arena, stem, ".html", out, err) : QN_E_MEMORY;
}

struct opened {
    qn_report report, baseline;
    bool has_report, has_baseline;
    qn_thresholds limits;
    qn_gate gate;
};

static qn_code read_all(qn_cli *cli, const struct args *a, struct opened *x, qn_err *err)
{
    QN_TRY(qn_report_read(&x->report, &cli->env, cli->operands.items[0], err));
    x->has_report = true;
    if (a->baseline) {
        QN_TRY(qn_report_read(&x->baseline, &cli->env, a->baseline, err));
        x->has_baseline = true;
        QN_TRY(qn_err_in_path(err, qn_gate_check_binding(&x->report, &x->baseline, err), a->baseline));
    }
    qn_thresholds_init(&x->limits, x->has_baseline);
    return a->thresholds ? qn_thresholds_read(&x->limits, &cli->env, a->thresholds, &cli->arena, err) : QN_OK;
}

static qn_code write_page(qn_cli *cli, const struct args *a, struct opened *x, const char *out, qn_err *err)
{
    const qn_gate_options all = {.all = true, .last = QN_RUNG_SIZE};
    const bool judged = a->baseline || a->thresholds;
    qn_textbuf t;
    if (judged)
        QN_TRY(qn_gate_judge(&x->report, x->has_baseline ? &x->baseline : NULL, &x->limits, &all, cli->env.alloc, &x->gate, err));
    qn_textbuf_init(&t, cli->env.alloc);
    qn_report_html(&t, &x->report, x->has_baseline ? &x->baseline : NULL, judged ? &x->gate : NULL);
    const qn_code rc = qn_gate_write_text(cli, &t, out, err);
    const unsigned long long n = t.n;
    qn_textbuf_release(&t);
    QN_TRY(rc);
    if (cli->common->json) {
        qn_json_writer j;
        qn_jw_open(&j, cli->out.f, "report");
        qn_jw_text(&j, "report", cli->operands.items[0]);
        qn_jw_text(&j, "output", out);
        qn_jw_u64(&j, "bytes", n);
        qn_jw_close(&j);
    } else if (!cli->common->quiet) {
        fprintf(cli->out.f, "%s: %llu bytes, to be opened in a browser\n", out, n);
    }
    return QN_OK;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    const char *out = a->output;
    struct opened x = {0};
    if (!out)
        QN_TRY(output_name(cli, &out, err));
    QN_TRY(qn_fs_check_target(cli->env.fs, out, a->force, err));
    qn_code rc = read_all(cli, a, &x, err);
    if (rc == QN_OK)
        rc = write_page(cli, a, &x, out, err);
    qn_gate_release(&x.gate);
    qn_thresholds_release(&x.limits);
    if (x.has_baseline)
        qn_report_release(&x.baseline);
    if (x.has_report)
        qn_report_release(&x.report);
    return rc;
}

static const qn_example examples[] = {
    {"quern compare model.quern model/ --data wiki.txt --report model.json", "measure, and keep it"},
    {"quern report model.json", "model.html, a page with drawings"},
    {"quern report now.json --baseline base.json --thresholds limits.yaml", "with verdicts, and what was there before"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"report, output, bytes", "what was read, what was written, and how large it is"},
    {NULL, NULL},
};

const qn_command qn_cmd_report = {
    .name = "report",
    .summary = "draw what compare or gate measured as an HTML page",
    .synopsis = "REPORT.json [-o FILE.html] [--baseline FILE] [--thresholds FILE]",
    .description =
        "Makes one HTML page of a report that compare or gate wrote with --report: figures with their intervals, before and after, error by depth, bits by layer, size "
        "against error of tensors, the distribution of the divergence, and every tensor, the worst first. The page needs nothing else: no scripts, no network. It "
        "suits light and dark screens, telephones and paper.\n\n"
        "With --baseline or --thresholds it also holds the verdicts of gate, all of them. The exit code does not depend on them: that is gate's.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = 1,
    .operand = "a report (JSON) that compare or gate has written",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
