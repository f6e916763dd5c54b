/* cmd_gate.c: quern gate MODEL --against REFERENCE. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/gate_measure.h"
#include "cli/gate_out.h"
#include "cli/report_html.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ANNOTATE_AUTO, ANNOTATE_GITHUB, ANNOTATE_NONE };

struct args {
    qn_common common;
    qn_gate_data data;
    const char *against, *baseline, *thresholds, *current, *junit, *markdown, *html, *report, *write_baseline, *reason;
    bool all, update;
    int annotate, inconclusive;
};

static const char *const annotations[] = {"auto", "github", "none", NULL};
static const char *const outcomes[] = {"exit", "pass", "fail", NULL};

static const qn_option options[] = {
    {.name = "against", .type = QN_OPT_PATH, .at = offsetof(struct args, against), .arg = "MODEL", .help = "the reference, mostly the dense model"},
    {.name = "baseline", .letter = 'b', .type = QN_OPT_PATH, .at = offsetof(struct args, baseline), .arg = "FILE",
     .help = "a report of how it was before; without --thresholds nothing may be worse than noise allows"},
    {.name = "thresholds", .letter = 'T', .type = QN_OPT_PATH, .at = offsetof(struct args, thresholds), .arg = "FILE",
     .help = "limits, in YAML: docs/gate.md lists them"},
    {.name = "current", .type = QN_OPT_PATH, .at = offsetof(struct args, current), .arg = "FILE",
     .help = "in place of MODEL: a report that compare or gate wrote, which is judged without measuring again"},
    {.name = "all", .letter = 'a', .type = QN_OPT_FLAG, .at = offsetof(struct args, all),
     .help = "judge everything, also what lies behind a rung that fails"},
    {.name = "inconclusive", .type = QN_OPT_CHOICE, .at = offsetof(struct args, inconclusive), .arg = "HOW", .choices = outcomes, .fallback = "exit",
     .help = "what it means when the data are too few to say: exit code 8 (exit), pass or fail"},
    {.name = "report", .letter = 'r', .type = QN_OPT_PATH, .at = offsetof(struct args, report), .arg = "FILE", .help = "write all that was measured as JSON"},
    {.name = "junit", .type = QN_OPT_PATH, .at = offsetof(struct args, junit), .arg = "FILE", .help = "write the verdicts as JUnit XML"},
    {.name = "markdown", .type = QN_OPT_PATH, .at = offsetof(struct args, markdown), .arg = "FILE",
     .help = "write a summary in Markdown; in GitHub Actions it is appended to the step's summary by itself"},
    {.name = "html", .type = QN_OPT_PATH, .at = offsetof(struct args, html), .arg = "FILE", .help = "write a page with drawings, as 'quern report' does"},
    {.name = "annotate", .type = QN_OPT_CHOICE, .at = offsetof(struct args, annotate), .arg = "HOW", .choices = annotations, .fallback = "auto",
     .help = "print annotations for GitHub: when GITHUB_ACTIONS is true (auto), always (github), or never (none)"},
    {.name = "write-baseline", .type = QN_OPT_PATH, .at = offsetof(struct args, write_baseline), .arg = "FILE",
     .help = "make what was measured the baseline, in FILE; needs --reason"},
    {.name = "update", .type = QN_OPT_FLAG, .at = offsetof(struct args, update), .help = "the same, in place of --baseline's file"},
    {.name = "reason", .type = QN_OPT_TEXT, .at = offsetof(struct args, reason), .arg = "TEXT", .help = "why the baseline is written: it is kept there"},
    QN_GATE_DATA_OPTIONS(struct args, data),
};

/* What is in memory while it runs. */
struct gating {
    qn_cli *cli;
    const struct args *a;
    qn_report report, baseline;
    bool has_baseline;
    qn_thresholds limits;
    qn_gate gate;
};

static const char *baseline_target(const struct args *a)
{
    return a->update ? a->baseline : a->write_baseline;
}

static qn_code check_args(qn_cli *cli, const struct args *a, qn_err *err)
{
    if ((cli->operands.n == 1) == (a->current != NULL))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gate: either a MODEL or --current REPORT is judged");
    if (!a->current && !a->against) {
        qn_hint_set(&cli->hint, "for example: quern gate %s --against model/ --data text.txt --baseline baseline.json", cli->operands.items[0]);
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gate: --against MODEL says what the model is compared with");
    }
    if (a->current && (a->against || a->data.lm.data || a->data.inputs || a->report))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gate: --current is judged as it was measured: no --%s", a->against ? "against" : a->report ? "report" : "data");
    if (a->update && !a->baseline)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gate: --update replaces the file of --baseline: which?");
    if (a->update && a->write_baseline)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gate: --update and --write-baseline do not go together");
    if (baseline_target(a) && (!a->reason || !*a->reason))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gate: a baseline is written for a reason: give --reason TEXT");
    if (a->reason && !baseline_target(a))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gate: --reason goes with --update and --write-baseline");
    return qn_gate_data_check(cli, &a->data, err);
}

/* A limit that is measured by a baseline, and none: it would pass whatever is found. */
static qn_code check_needs_no_baseline(const qn_thresholds *t, qn_err *err)
{
    for (unsigned m = 0; m < QN_N_METRICS; m++) {
        const qn_limit *l = t->versus[m].given ? &t->versus[m] : t->bound[m].times ? &t->bound[m] : NULL;
        if (l)
            return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "line %u: %s is limited by a baseline: give --baseline FILE", l->line,
                                               qn_metric_tab[m].id), t->file);
    }
    return QN_OK;
}

static qn_code judge(struct gating *x, qn_rung last, qn_err *err)
{
    const qn_gate_options o = {.all = x->a->all || baseline_target(x->a), .last = last};
    qn_gate_release(&x->gate);
    x->gate = (qn_gate){0};
    return qn_gate_judge(&x->report, x->has_baseline ? &x->baseline : NULL, &x->limits, &o, x->cli->env.alloc, &x->gate, err);
}

/* A baseline of other data or another reference: an error, unless it is about to be replaced. */
static qn_code bind(struct gating *x, const qn_report *r, qn_err *err)
{
    qn_err why;
    qn_err_clear(&why);
    if (!x->has_baseline)
        return QN_OK;
    const qn_code rc = qn_gate_check_binding(r, &x->baseline, &why);
    if (rc == QN_OK)
        return QN_OK;
    if (!baseline_target(x->a)) {
        *err = why;
        return qn_err_in_path(err, rc, x->a->baseline);
    }
    qn_cli_note(x->cli, "note: %s", why.text);
    qn_report_release(&x->baseline);
    x->has_baseline = false;
    return QN_OK;
}

/* Once the tensors are known: is the rest worth its time? */
static qn_code stop(void *ctx, const qn_report *r, bool *yes, qn_err *err)
{
    struct gating *x = ctx;
    QN_TRY(bind(x, r, err));
    QN_TRY(judge(x, QN_RUNG_TENSORS, err));
    *yes = x->gate.verdict == QN_FAIL_GATE && !x->a->all && !baseline_target(x->a);
    return QN_OK;
}

static qn_code measure(struct gating *x, qn_err *err)
{
    const struct args *a = x->a;
    if (a->current) {
        qn_report_release(&x->report);
        QN_TRY(qn_report_read(&x->report, &x->cli->env, a->current, err));
        return bind(x, &x->report, err);
    }
    if (x->has_baseline && !baseline_target(a) && (x->baseline.is_lm || x->baseline.is_io) && !a->data.lm.data && !a->data.inputs)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gate: the baseline was measured on data: give --%s", x->baseline.is_lm ? "data" : "inputs");
    QN_TRY(qn_gate_measure(x->cli, &a->data, x->cli->operands.items[0], a->against, stop, x, &x->report, err));
    return bind(x, &x->report, err);
}

static void print_change(const char *what, double was, double now)
{
    if (!isnan(was) && !isnan(now))
        printf("  %-20s %.6g, it was %.6g\n", what, now, was);
    else if (!isnan(now))
        printf("  %-20s %.6g\n", what, now);
}

/* The limits that will hold against this baseline. */
static qn_code record_limits(struct gating *x, qn_err *err)
{
    qn_thresholds t;
    qn_thresholds_init(&t, true);
    qn_code rc = x->a->thresholds ? qn_thresholds_read(&t, &x->cli->env, x->a->thresholds, &x->cli->arena, err) : QN_OK;
    if (rc == QN_OK)
        rc = qn_gate_record_limits(&x->report, &t, err);
    qn_thresholds_release(&t);
    return rc;
}

/* Deliberate: nothing that is broken becomes a baseline, and what changes is said. */
static qn_code write_baseline(struct gating *x, qn_err *err)
{
    qn_report *r = &x->report;
    const qn_report *b = x->has_baseline ? &x->baseline : NULL;
    const double none = (double)NAN;
    for (uint64_t i = 0; i < r->n_tensors; i++)
        if (r->tensors[i].trouble)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_DIFFERENT, QN_NO_OFFSET, "%s: no baseline is written", r->tensors[i].trouble), r->tensors[i].name);
    if (r->cannot_run || r->tokenizer_trouble)
        return QN_FAIL(err, QN_E_DIFFERENT, QN_NO_OFFSET, "%s: no baseline is written", r->cannot_run ? r->cannot_run : r->tokenizer_trouble);
    r->reason = qn_arena_str(&r->arena, x->a->reason, strlen(x->a->reason), err);
    if (!r->reason)
        return QN_E_MEMORY;
    QN_TRY(record_limits(x, err));
    const double seconds = r->seconds; /* two equal measurements are equal files */
    r->seconds = 0;
    const qn_code rc = qn_gate_write_report(x->cli, r, baseline_target(x->a), err);
    r->seconds = seconds;
    if (rc != QN_OK || x->cli->common->quiet || x->cli->common->json)
        return rc;
    printf("%s: %s\n", baseline_target(x->a), x->a->reason);
    print_change("kld_mean", b ? b->kl.value : none, r->kl.value);
    print_change("kld_p99", b ? b->kl_p99.value : none, r->kl_p99.value);
    print_change("top1", b ? b->is_io ? b->io_same_top.value : b->same_top.value : none, r->is_io ? r->io_same_top.value : r->same_top.value);
    print_change("ppl_ratio", b ? b->ppl_ratio.value : none, r->ppl_ratio.value);
    const qn_report_output *was = b ? qn_report_worst_output(b) : NULL, *now = qn_report_worst_output(r);
    print_change("output_rel_err", was ? was->rel_rms : none, now ? now->rel_rms : none);
    print_change("accuracy", b ? b->io_right.value : none, r->io_right.value);
    print_change("size_bytes", b ? (double)b->size_bytes : none, (double)r->size_bytes);
    return QN_OK;
}

/* Appends: GitHub shows what every step has added. */
static qn_code append(qn_cli *cli, const qn_textbuf *t, const char *path, qn_err *err)
{
    qn_file f;
    qn_stat st;
    QN_TRY(qn_textbuf_check(t, err));
    QN_TRY(qn_file_open(&f, cli->env.fs, cli->env.alloc, path, qn_fs_exists(cli->env.fs, path) ? QN_OPEN_RDWR : QN_OPEN_NEW, err));
    qn_code rc = qn_file_stat(&f, &st, err);
    if (rc == QN_OK && t->n)
        rc = qn_file_write(&f, t->text, t->n, st.n_bytes, err);
    if (rc == QN_OK)
        return qn_file_close(&f, err);
    qn_file_drop(&f);
    return rc;
}

static qn_code write_files(qn_cli *cli, const struct args *a, const qn_gate_facts *f, const qn_report *baseline, bool in_actions, qn_err *err)
{
    const char *summary = in_actions ? getenv("GITHUB_STEP_SUMMARY") : NULL;
    qn_textbuf t;
    qn_textbuf_init(&t, cli->env.alloc);
    qn_code rc = QN_OK;
    if (a->junit) {
        qn_gate_junit(&t, f);
        rc = qn_gate_write_text(cli, &t, a->junit, err);
        qn_textbuf_release(&t);
    }
    if (rc == QN_OK && a->html) {
        qn_report_html(&t, f->report, baseline, f->gate);
        rc = qn_gate_write_text(cli, &t, a->html, err);
        qn_textbuf_release(&t);
    }
    if (rc == QN_OK && (a->markdown || (summary && *summary))) {
        qn_gate_markdown(&t, f);
        if (a->markdown)
            rc = qn_gate_write_text(cli, &t, a->markdown, err);
        if (rc == QN_OK && summary && *summary)
            rc = append(cli, &t, summary, err);
        qn_textbuf_release(&t);
    }
    return rc;
}

static qn_code show(qn_cli *cli, const qn_gate_facts *f, bool annotate, qn_err *err)
{
    qn_textbuf t;
    qn_textbuf_init(&t, cli->env.alloc);
    if (cli->common->json) {
        qn_gate_json(&t, f);
        if (t.n)
            fwrite(t.text, 1, (size_t)t.n, stdout);
    } else if (!cli->common->quiet) {
        qn_gate_text_out(cli, f);
    }
    qn_code rc = qn_textbuf_check(&t, err);
    qn_textbuf_release(&t);
    if (rc == QN_OK && annotate) {
        qn_gate_annotations(&t, f);
        rc = qn_textbuf_check(&t, err);
        if (t.n) /* the JSON object stays alone on standard output; GitHub reads both */
            fwrite(t.text, 1, (size_t)t.n, cli->common->json ? stderr : stdout);
        qn_textbuf_release(&t);
    }
    for (uint32_t i = 0; i < f->gate->n_warnings; i++)
        qn_cli_note(cli, "warning: %s", f->gate->warnings[i]);
    return rc;
}

static qn_code conclude(struct gating *x, qn_err *err)
{
    qn_cli *cli = x->cli;
    const struct args *a = x->a;
    const char *actions = getenv("GITHUB_ACTIONS");
    const bool in_actions = actions && strcmp(actions, "true") == 0;
    const qn_gate_facts f = {.report = &x->report, .gate = &x->gate, .baseline = x->has_baseline ? a->baseline : NULL, .baseline_recipe = x->has_baseline ? x->baseline.b.recipe : NULL, .thresholds = a->thresholds,
                             .inconclusive = (qn_on_inconclusive)a->inconclusive};
    QN_TRY(show(cli, &f, a->annotate == ANNOTATE_GITHUB || (a->annotate == ANNOTATE_AUTO && in_actions), err));
    if (a->report)
        QN_TRY(qn_gate_write_report(cli, &x->report, a->report, err));
    QN_TRY(write_files(cli, a, &f, x->has_baseline ? &x->baseline : NULL, in_actions, err));
    if (baseline_target(a))
        return write_baseline(x, err);
    const qn_verdict v = qn_gate_outcome(&f);
    return v == QN_FAIL_GATE ? QN_E_DIFFERENT : v == QN_INCONCLUSIVE ? QN_E_INCONCLUSIVE : QN_OK;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    struct gating x = {.cli = cli, .a = a};
    QN_TRY(check_args(cli, a, err));
    qn_report_init(&x.report, cli->env.alloc);
    qn_code rc = QN_OK;
    if (a->baseline && !(a->update && !qn_fs_exists(cli->env.fs, a->baseline))) {
        rc = qn_report_read(&x.baseline, &cli->env, a->baseline, err);
        x.has_baseline = rc == QN_OK;
    }
    qn_thresholds_init(&x.limits, x.has_baseline);
    if (rc == QN_OK && a->thresholds)
        rc = qn_thresholds_read(&x.limits, &cli->env, a->thresholds, &cli->arena, err);
    if (rc == QN_OK && !x.has_baseline && !baseline_target(a))
        rc = check_needs_no_baseline(&x.limits, err);
    if (rc == QN_OK)
        rc = measure(&x, err);
    if (rc == QN_OK)
        rc = judge(&x, QN_RUNG_SIZE, err);
    if (rc == QN_OK)
        rc = conclude(&x, err);
    qn_gate_release(&x.gate);
    qn_thresholds_release(&x.limits);
    if (x.has_baseline)
        qn_report_release(&x.baseline);
    qn_report_release(&x.report);
    return rc;
}

static const qn_example examples[] = {
    {"quern gate m.quern --against m/ -d t.txt --write-baseline b.json --reason x", "how it is now, kept for later"},
    {"quern gate m.quern --against m/ --data wiki.txt --baseline b.json", "nothing may have become worse"},
    {"quern gate m.quern --against m/ -d t.txt --thresholds t.yaml --junit g.xml", "limits of your own, for a CI"},
    {"quern gate --current now.json --baseline b.json", "judge a report that is there already"},
    {"quern gate m.quern --against m/ -d t.txt -b b.json --update --reason x", "a change that is meant"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"verdict", "pass, fail or inconclusive, with --inconclusive taken into account"},
    {"passed, failed, inconclusive, skipped", "how many checks"},
    {"checks[]", "rung, id, subject, verdict, found, low, high (95 %), most or least (the limit), chunks_needed, text, line (of the thresholds)"},
    {"warnings[]", "limits that are looser than when the baseline was written"},
    {"candidate, reference, baseline, thresholds", "paths"},
    {"seconds", "time taken"},
    {NULL, NULL},
};

const qn_command qn_cmd_gate = {
    .name = "gate",
    .summary = "pass or fail a compressed model by limits and by how it was before",
    .synopsis = "MODEL --against REFERENCE [--data FILE] [--baseline FILE] [--thresholds FILE] [options]",
    .description =
        "Measures a model against its reference, as compare does, and judges what it finds: tokenizer, structure, tensors that must keep every "
        "bit, errors of tensors and layers, divergence on the data, size. The first of these rungs that fails ends it, unless --all is given.\n\n"
        "Limits come from --thresholds, and from --baseline: figures of an earlier run over the same data, which are compared chunk by chunk. A check "
        "passes when the whole 95 % interval of what was measured keeps the limit, fails when none of it does, and is inconclusive else: then it tells how "
        "many chunks would be enough.\n\n"
        "The exit code is 0 for pass, 1 for fail, 8 for inconclusive. A baseline that was measured with another reference, tokenizer or text is an error.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 0,
    .max_operands = 1,
    .operand = "a model to judge",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
