/* gate_text.c: a gate's verdicts at the terminal and as JSON; see gate_out.h. */
#include "base/err.h"
#include "cli/compare_report.h"
#include "cli/gate_out.h"
#include "cli/units.h"
#include "formats/json/write.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { FAILS_SHOWN = 10 };

qn_verdict qn_gate_outcome(const qn_gate_facts *f)
{
    if (f->gate->verdict != QN_INCONCLUSIVE || f->inconclusive == QN_ON_INCONCLUSIVE_EXIT)
        return f->gate->verdict;
    return f->inconclusive == QN_ON_INCONCLUSIVE_PASS ? QN_PASS : QN_FAIL_GATE;
}

static const char *color(const qn_cli *cli, qn_verdict v)
{
    return v == QN_FAIL_GATE ? qn_term_red(&cli->out) : v == QN_PASS ? qn_term_green(&cli->out) : v == QN_SKIPPED ? qn_term_dim(&cli->out) : qn_term_bold(&cli->out);
}

static void print_check(const qn_cli *cli, const qn_check *c)
{
    static const char *const words[4] = {"pass", "FAIL", "????", "skip"};
    char subject[200], text[800];
    qn_printable(text, sizeof text, c->text, strlen(c->text));
    printf("  %s%s%s  %-24s", color(cli, c->verdict), words[c->verdict], qn_term_plain(&cli->out), c->id);
    if (c->subject) {
        qn_printable(subject, sizeof subject, c->subject, strlen(c->subject));
        printf(" %s", subject);
        if (c->verdict == QN_FAIL_GATE)
            printf("\n%8s", "");
        else
            printf(":");
    }
    printf(" %s\n", text);
}

static void print_checks(const qn_cli *cli, const qn_gate *g)
{
    for (unsigned rung = 0; rung < QN_N_RUNGS; rung++) {
        uint64_t fails = 0;
        for (uint64_t i = 0; i < g->n_checks; i++) {
            if (g->checks[i].rung != rung)
                continue;
            if (g->checks[i].verdict == QN_FAIL_GATE && fails++ >= FAILS_SHOWN)
                continue;
            print_check(cli, &g->checks[i]);
        }
        if (fails > FAILS_SHOWN)
            printf("        and %" PRIu64 " more of %s\n", fails - FAILS_SHOWN, qn_rung_names[rung]);
    }
}

/* A recipe that is another than the baseline's explains much. */
static void print_recipes(const qn_gate_facts *f)
{
    const char *now = f->report->b.recipe ? f->report->b.recipe : "none", *was = f->baseline_recipe ? f->baseline_recipe : "none";
    char a[300], b[300];
    if (strcmp(now, was) == 0)
        return;
    qn_printable(a, sizeof a, now, strlen(now));
    qn_printable(b, sizeof b, was, strlen(was));
    printf("recipe %s; the baseline's was %s\n", a, b);
}

void qn_gate_text_out(qn_cli *cli, const qn_gate_facts *f)
{
    const qn_gate *g = f->gate;
    const qn_verdict v = qn_gate_outcome(f);
    char name[200], time[32];
    qn_compare_head(cli, f->report);
    if (f->baseline) {
        qn_printable(name, sizeof name, f->baseline, strlen(f->baseline));
        printf("baseline %s\n", name);
        print_recipes(f);
    }
    putchar('\n');
    print_checks(cli, g);
    qn_human_seconds(time, sizeof time, f->report->seconds);
    printf("\n%s%s%s: ", color(cli, v), qn_verdict_names[v], qn_term_plain(&cli->out));
    static const char *const phrases[4] = {"passed", "failed", "inconclusive", "not judged"};
    static const qn_verdict says[4] = {QN_FAIL_GATE, QN_INCONCLUSIVE, QN_PASS, QN_SKIPPED};
    const char *comma = "";
    for (unsigned i = 0; i < 4; i++)
        if (g->by_verdict[says[i]]) {
            printf("%s%" PRIu64 " %s", comma, g->by_verdict[says[i]], phrases[says[i]]);
            comma = ", ";
        }
    printf("%s in %s\n", *comma ? "" : "nothing to check", time);
}

void qn_gate_json(qn_textbuf *t, const qn_gate_facts *f)
{
    const qn_gate *g = f->gate;
    qn_json_out j = qn_json_out_of(t);
    qn_json_out_begin(&j, NULL, '{');
    qn_json_out_text(&j, "schema", "quern/gate/1");
    qn_json_out_text(&j, "version", qn_version());
    qn_json_out_text(&j, "verdict", qn_verdict_names[qn_gate_outcome(f)]);
    qn_json_out_text(&j, "candidate", f->report->b.candidate_path);
    qn_json_out_text(&j, "reference", f->report->b.reference_path);
    qn_json_out_text(&j, "baseline", f->baseline);
    qn_json_out_text(&j, "thresholds", f->thresholds);
    for (unsigned v = 0; v < 4; v++)
        qn_json_out_u64(&j, (const char *const[]){"passed", "failed", "inconclusive", "skipped"}[v], g->by_verdict[v]);
    qn_json_out_begin(&j, "checks", '[');
    for (uint64_t i = 0; i < g->n_checks; i++) {
        const qn_check *c = &g->checks[i];
        qn_json_out_begin(&j, NULL, '{');
        j.flat = true;
        qn_json_out_text(&j, "rung", qn_rung_names[c->rung]);
        qn_json_out_text(&j, "id", c->id);
        qn_json_out_text(&j, "subject", c->subject);
        qn_json_out_text(&j, "verdict", qn_verdict_names[c->verdict]);
        qn_json_out_real(&j, "found", c->found);
        qn_json_out_real(&j, "low", c->low);
        qn_json_out_real(&j, "high", c->high);
        qn_json_out_real(&j, c->at_least ? "least" : "most", c->limit);
        if (c->n_needed)
            qn_json_out_u64(&j, "chunks_needed", c->n_needed);
        qn_json_out_text(&j, "text", c->text);
        if (c->line)
            qn_json_out_u64(&j, "line", c->line);
        qn_json_out_end(&j, '}');
        j.flat = false;
    }
    qn_json_out_end(&j, ']');
    qn_json_out_begin(&j, "warnings", '[');
    for (uint32_t i = 0; i < g->n_warnings; i++)
        qn_json_out_text(&j, NULL, g->warnings[i]);
    qn_json_out_end(&j, ']');
    qn_json_out_real(&j, "seconds", f->report->seconds);
    qn_json_out_end(&j, '}');
}
