/* gate_ci.c: a gate's verdicts for continuous integration: JUnit's XML, GitHub's Markdown and annotations. See gate_out.h. */
#include "base/err.h"
#include "cli/gate_out.h"
#include "cli/markup.h"
#include "cli/units.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { ANNOTATIONS_MAX = 10, ROWS_MAX = 60 };

/* --- JUnit ------------------------------------------------------------------------------------------------------------------- */

/* Text or attribute value; what XML 1.0 cannot hold becomes a question mark. */
static void xml(qn_textbuf *t, const char *s)
{
    for (; *s; s++) {
        const char *as = *s == '\'' ? "&apos;" : *s == '\n' ? "&#10;" : qn_markup_entity(*s);
        if (as)
            qn_textbuf_puts(t, as);
        else
            qn_textbuf_char(t, (unsigned char)*s < 0x20 ? '?' : *s);
    }
}

/* Names from files may hold anything but what a reader has refused; this makes it printable UTF-8 first. */
static void xml_name(qn_textbuf *t, const char *s)
{
    char buf[800];
    qn_printable(buf, sizeof buf, s, strlen(s));
    xml(t, buf);
}

static void property(qn_textbuf *t, const char *name, double v)
{
    if (isfinite(v))
        qn_textbuf_format(t, "      <property name=\"%s\" value=\"%.9g\"/>\n", name, v);
}

/* The element that says how a case ended; NULL: it passed. */
static const char *element_of(const qn_gate_facts *f, qn_verdict v)
{
    switch (v) {
    case QN_FAIL_GATE: return "failure";
    case QN_INCONCLUSIVE:
        return f->inconclusive == QN_ON_INCONCLUSIVE_EXIT ? "error" : f->inconclusive == QN_ON_INCONCLUSIVE_PASS ? "skipped" : "failure";
    case QN_SKIPPED: return "skipped";
    default: return NULL;
    }
}

static uint64_t count(const qn_gate_facts *f, const char *element)
{
    uint64_t n = 0;
    for (unsigned v = 0; v < 4; v++) {
        const char *e = element_of(f, (qn_verdict)v);
        n += e && strcmp(e, element) == 0 ? f->gate->by_verdict[v] : 0;
    }
    return n;
}

static void junit_counts(qn_textbuf *t, const qn_gate_facts *f)
{
    qn_textbuf_format(t, " tests=\"%" PRIu64 "\" failures=\"%" PRIu64 "\" errors=\"%" PRIu64 "\" skipped=\"%" PRIu64 "\" time=\"%.3f\">\n", f->gate->n_checks,
                      count(f, "failure"), count(f, "error"), count(f, "skipped"), f->report->seconds);
}

static void junit_case(qn_textbuf *t, const qn_gate_facts *f, const qn_check *c)
{
    const char *element = element_of(f, c->verdict);
    qn_textbuf_format(t, "    <testcase classname=\"gate.%s\" name=\"%s", qn_rung_names[c->rung], c->id);
    if (c->subject) {
        qn_textbuf_puts(t, " ");
        xml_name(t, c->subject);
    }
    qn_textbuf_puts(t, "\" time=\"0\">\n      ");
    if (element) {
        qn_textbuf_format(t, "<%s message=\"%s", element, c->verdict == QN_INCONCLUSIVE ? "inconclusive: " : "");
        xml_name(t, c->text);
        qn_textbuf_puts(t, "\"/>\n    </testcase>\n");
    } else {
        qn_textbuf_puts(t, "<system-out>");
        xml_name(t, c->text);
        qn_textbuf_puts(t, "</system-out>\n    </testcase>\n");
    }
}

void qn_gate_junit(qn_textbuf *t, const qn_gate_facts *f)
{
    const qn_report *r = f->report;
    qn_textbuf_puts(t, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"quern gate\"");
    junit_counts(t, f);
    qn_textbuf_puts(t, "  <testsuite name=\"");
    xml_name(t, r->b.candidate_path ? r->b.candidate_path : "model");
    qn_textbuf_puts(t, "\"");
    junit_counts(t, f);
    qn_textbuf_puts(t, "    <properties>\n");
    property(t, "kld_mean", r->kl.value);
    property(t, "kld_p99", r->kl_p99.value);
    property(t, "top1", r->is_io ? r->io_same_top.value : r->same_top.value);
    property(t, "perplexity", r->ppl.value);
    property(t, "ppl_ratio", r->ppl_ratio.value);
    property(t, "accuracy", r->io_right.value);
    property(t, "size_bytes", (double)r->size_bytes);
    property(t, "bpw", qn_report_bpw(r));
    qn_textbuf_puts(t, "    </properties>\n");
    for (uint64_t i = 0; i < f->gate->n_checks; i++)
        junit_case(t, f, &f->gate->checks[i]);
    qn_textbuf_puts(t, "  </testsuite>\n</testsuites>\n");
}

/* --- Markdown -------------------------------------------------------------------------------------------------------------------- */

/* In a cell of a table. */
static void cell(qn_textbuf *t, const char *s)
{
    char buf[800];
    qn_printable(buf, sizeof buf, s, strlen(s));
    for (s = buf; *s; s++) {
        if (strchr("|\\`*_<>[]&#~", *s))
            qn_textbuf_char(t, '\\');
        qn_textbuf_char(t, *s);
    }
}

static void markdown_row(qn_textbuf *t, const qn_check *c)
{
    static const char *const words[4] = {"pass", "**fail**", "*inconclusive*", "not judged"};
    qn_textbuf_format(t, "| %s | `%s` | ", words[c->verdict], c->id);
    if (c->subject)
        cell(t, c->subject);
    qn_textbuf_puts(t, " | ");
    cell(t, c->text);
    qn_textbuf_puts(t, " |\n");
}

static void markdown_rows(qn_textbuf *t, const qn_gate *g, bool bad)
{
    uint64_t n = 0;
    qn_textbuf_puts(t, "\n| verdict | check | of | found and allowed |\n| --- | --- | --- | --- |\n");
    for (uint64_t i = 0; i < g->n_checks && n < ROWS_MAX; i++)
        if ((g->checks[i].verdict == QN_FAIL_GATE || g->checks[i].verdict == QN_INCONCLUSIVE) == bad) {
            markdown_row(t, &g->checks[i]);
            n++;
        }
}

void qn_gate_markdown(qn_textbuf *t, const qn_gate_facts *f)
{
    const qn_gate *g = f->gate;
    const qn_report *r = f->report;
    char size[32], ref[32];
    qn_human_bytes(size, sizeof size, r->size_bytes);
    qn_human_bytes(ref, sizeof ref, r->reference_bytes);
    qn_textbuf_format(t, "### Accuracy gate: %s\n\n", qn_verdict_names[qn_gate_outcome(f)]);
    cell(t, r->b.candidate_path ? r->b.candidate_path : "?");
    qn_textbuf_format(t, " (%s, %.3f bits per weight) against ", size, qn_report_bpw(r));
    cell(t, r->b.reference_path ? r->b.reference_path : "?");
    qn_textbuf_format(t, " (%s): %" PRIu64 " passed, %" PRIu64 " failed, %" PRIu64 " inconclusive, %" PRIu64 " not judged.\n", ref, g->by_verdict[QN_PASS],
                      g->by_verdict[QN_FAIL_GATE], g->by_verdict[QN_INCONCLUSIVE], g->by_verdict[QN_SKIPPED]);
    for (uint32_t i = 0; i < g->n_warnings; i++) {
        qn_textbuf_puts(t, "\n**Warning:** ");
        cell(t, g->warnings[i]);
        qn_textbuf_puts(t, "\n");
    }
    if (g->by_verdict[QN_FAIL_GATE] || g->by_verdict[QN_INCONCLUSIVE])
        markdown_rows(t, g, true);
    if (g->by_verdict[QN_PASS]) {
        qn_textbuf_puts(t, "\n<details><summary>What passed</summary>\n");
        markdown_rows(t, g, false);
        qn_textbuf_puts(t, "\n</details>\n");
    }
    qn_textbuf_puts(t, "\n");
}

/* --- annotations ------------------------------------------------------------------------------------------------------------------- */

/* What follows "::" must not end the command or look like one; a property's value must not end the property either. */
static void command_text(qn_textbuf *t, const char *s, bool property_value)
{
    char buf[800];
    qn_printable(buf, sizeof buf, s, strlen(s));
    for (s = buf; *s; s++) {
        const bool hide = *s == '%' || *s == '\r' || *s == '\n' || (property_value && (*s == ':' || *s == ','));
        if (hide)
            qn_textbuf_format(t, "%%%02X", (unsigned)(unsigned char)*s);
        else
            qn_textbuf_char(t, *s);
    }
}

static void annotate(qn_textbuf *t, const char *kind, const qn_check *c)
{
    qn_textbuf_format(t, "::%s ", kind);
    if (c->file) {
        qn_textbuf_puts(t, "file=");
        command_text(t, c->file, true);
        qn_textbuf_format(t, ",line=%u,", c->line);
    }
    qn_textbuf_puts(t, "title=");
    command_text(t, c->id, true);
    if (c->subject) {
        qn_textbuf_puts(t, " ");
        command_text(t, c->subject, true);
    }
    qn_textbuf_puts(t, "::");
    command_text(t, c->text, false);
    qn_textbuf_puts(t, "\n");
}

/* The worst of every rung before the second worst of any. */
static void annotate_all(qn_textbuf *t, const qn_gate *g, qn_verdict v, const char *kind, unsigned left)
{
    for (unsigned place = 0; left > 0 && place < g->n_checks; place++)
        for (unsigned rung = 0; rung < QN_N_RUNGS && left > 0; rung++) {
            unsigned at = 0;
            for (uint64_t i = 0; i < g->n_checks; i++) {
                const qn_check *c = &g->checks[i];
                if (c->verdict != v || c->rung != rung || at++ != place)
                    continue;
                annotate(t, kind, c);
                left--;
                break;
            }
        }
}

void qn_gate_annotations(qn_textbuf *t, const qn_gate_facts *f)
{
    const qn_gate *g = f->gate;
    unsigned left = ANNOTATIONS_MAX;
    annotate_all(t, g, QN_FAIL_GATE, "error", ANNOTATIONS_MAX);
    for (uint32_t i = 0; i < g->n_warnings && left > 0; i++, left--) {
        qn_textbuf_puts(t, "::warning title=looser limit::");
        command_text(t, g->warnings[i], false);
        qn_textbuf_puts(t, "\n");
    }
    annotate_all(t, g, QN_INCONCLUSIVE, "warning", left);
}
