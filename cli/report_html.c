/* report_html.c: see report_html.h. From the verdict down to single tensors: whoever stops reading early has read what matters most. */
#include "cli/report_html.h"
#include "cli/compare_report.h"
#include "cli/svg_plot.h"
#include "cli/units.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS_OPEN = 12, ROWS_MOST = 4000 }; /* tensors that are listed at once, and behind a click */

static void head(qn_textbuf *t, const char *title)
{
    qn_textbuf_puts(t, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>");
    qn_html_text(t, title);
    qn_textbuf_puts(t, "</title><style>\n");
    for (unsigned i = 0; qn_report_style[i]; i++)
        qn_textbuf_puts(t, qn_report_style[i]);
    qn_textbuf_puts(t, "</style></head><body>\n");
}

static const char *last_of(const char *path)
{
    const char *name = path ? path : "";
    for (const char *c = name; *c; c++)
        if (*c == '/' && c[1])
            name = c + 1;
    return name;
}

/* --- the first lines ------------------------------------------------------------------------------------------------- */

static void tile(qn_textbuf *t, const char *label, const char *value, const char *below)
{
    qn_textbuf_puts(t, "<div class=\"tile\"><span>");
    qn_html_text(t, label);
    qn_textbuf_puts(t, "</span><b>");
    qn_html_text(t, value);
    qn_textbuf_puts(t, "</b><span>");
    qn_html_text(t, below);
    qn_textbuf_puts(t, "</span></div>\n");
}

/* scale 100: per cent. */
static void tile_of(qn_textbuf *t, const char *label, const qn_estimate *e, double scale, const char *unit)
{
    char number[40], value[48], low[32], high[32], below[120];
    qn_plot_number(number, sizeof number, scale * e->value);
    snprintf(value, sizeof value, "%s%s", number, unit);
    qn_plot_number(low, sizeof low, scale * e->low);
    qn_plot_number(high, sizeof high, scale * e->high);
    snprintf(below, sizeof below, isfinite(e->low) ? "95 %%: %s to %s" : "one chunk: no interval", low, high);
    tile(t, label, value, below);
}

static void tiles(qn_textbuf *t, const qn_report *r)
{
    char value[64], below[120], size[32];
    qn_textbuf_puts(t, "<div class=\"tiles\">\n");
    qn_human_bytes(value, sizeof value, r->size_bytes);
    qn_human_bytes(size, sizeof size, r->reference_bytes);
    snprintf(below, sizeof below, "%.1f %% of the reference's %s", r->reference_bytes ? 100.0 * (double)r->size_bytes / (double)r->reference_bytes : 0.0, size);
    tile(t, "size", value, below);
    if (isfinite(qn_report_bpw(r))) {
        qn_human_count(size, sizeof size, r->n_weights);
        snprintf(value, sizeof value, "%.3f", qn_report_bpw(r));
        snprintf(below, sizeof below, "of %s weights", size);
        tile(t, "bits per weight", value, below);
    }
    if (r->is_lm) {
        tile_of(t, "KL divergence, mean of tokens", &r->kl, 1, "");
        tile_of(t, "same token first", &r->same_top, 100, " %");
        tile_of(t, "perplexity, of the reference's", &r->ppl_ratio, 100, " %");
    }
    if (r->is_io) {
        const qn_report_output *w = qn_report_worst_output(r);
        if (w) {
            qn_plot_number(value, sizeof value, w->rel_rms);
            snprintf(below, sizeof below, "of the worst output, %.80s", w->name);
            tile(t, "relative error", value, below);
        }
        tile_of(t, "largest value in the same place", &r->io_same_top, 100, " %");
        if (isfinite(r->io_right.value))
            tile_of(t, "right class first", &r->io_right, 100, " %");
    }
    qn_textbuf_puts(t, "</div>\n");
}

static void title(qn_textbuf *t, const qn_report *r, const qn_gate *g)
{
    if (g)
        qn_textbuf_format(t, "<span class=\"badge %s\">%s</span>\n", qn_verdict_names[g->verdict], qn_verdict_names[g->verdict]);
    qn_textbuf_puts(t, "<h1>");
    qn_html_text(t, last_of(r->b.candidate_path));
    qn_textbuf_puts(t, " against ");
    qn_html_text(t, last_of(r->b.reference_path));
    qn_textbuf_puts(t, "</h1>\n<p class=\"soft\">");
    if (r->b.data_path) {
        qn_html_text(t, last_of(r->b.data_path));
        qn_textbuf_format(t, r->is_lm ? ": %llu chunks of %llu tokens, %llu of them scored" : ": %llu runs", (unsigned long long)r->b.n_chunks,
                          (unsigned long long)r->b.context, (unsigned long long)r->b.n_scored);
    } else {
        qn_textbuf_puts(t, "weights only, no data");
    }
    qn_textbuf_puts(t, "</p>\n");
    const char *const troubles[] = {r->tokenizer_trouble, r->cannot_run};
    for (unsigned i = 0; i < 2; i++)
        if (troubles[i]) {
            qn_textbuf_puts(t, "<p class=\"fail\">");
            qn_html_text(t, troubles[i]);
            qn_textbuf_puts(t, "</p>\n");
        }
}

/* --- tables ---------------------------------------------------------------------------------------------------------- */

static const char checks_head[] = "<th>verdict</th><th>check</th><th>of</th><th>found, allowed</th>";
static const char tensors_head[] = "<th>tensor</th><th>stored as</th><th class=\"n\">weights</th><th class=\"n\">size</th><th class=\"n\">bits</th>"
                                   "<th class=\"n\">relative error</th><th></th>";

static void table_head(qn_textbuf *t, const char *css, const char *cells)
{
    qn_textbuf_format(t, "<div class=\"scroll\"><table class=\"%s\"><tr>%s</tr>\n", css, cells);
}

/* The name of a tensor, which may be broken behind its dots. */
static void name_text(qn_textbuf *t, const char *name)
{
    char part[2] = "";
    for (; *name; name++) {
        part[0] = *name;
        qn_html_text(t, part);
        if (*name == '.')
            qn_textbuf_puts(t, "<wbr>");
    }
}

/* --- checks ---------------------------------------------------------------------------------------------------------- */

static void check_row(qn_textbuf *t, const qn_check *c)
{
    qn_textbuf_format(t, "<tr><td class=\"%s\">%s</td><td>", qn_verdict_names[c->verdict], qn_verdict_names[c->verdict]);
    qn_html_text(t, c->id);
    qn_textbuf_puts(t, "</td><td class=\"name\">");
    name_text(t, c->subject ? c->subject : "the model");
    qn_textbuf_puts(t, "</td><td>");
    qn_html_text(t, c->text ? c->text : "");
    if (c->n_needed)
        qn_textbuf_format(t, "; about %llu chunks would settle it", (unsigned long long)c->n_needed);
    qn_textbuf_puts(t, "</td></tr>\n");
}

/* Those that do not pass first, a few of them at once. */
static void checks(qn_textbuf *t, const qn_gate *g)
{
    static const qn_verdict order[] = {QN_FAIL_GATE, QN_INCONCLUSIVE, QN_PASS, QN_SKIPPED};
    if (!g || !g->n_checks)
        return;
    qn_textbuf_format(t, "<h2>Checks</h2>\n<p class=\"soft\">%llu passed, %llu failed, %llu inconclusive</p>\n", (unsigned long long)g->by_verdict[QN_PASS],
                      (unsigned long long)g->by_verdict[QN_FAIL_GATE], (unsigned long long)g->by_verdict[QN_INCONCLUSIVE]);
    uint64_t n = 0;
    table_head(t, "stack", checks_head);
    for (unsigned v = 0; v < 4; v++)
        for (uint64_t i = 0; i < g->n_checks; i++) {
            if (g->checks[i].verdict != order[v])
                continue;
            if (n++ == ROWS_OPEN) {
                qn_textbuf_format(t, "</table></div>\n<details><summary>%llu more</summary>\n", (unsigned long long)(g->n_checks - ROWS_OPEN));
                table_head(t, "stack", checks_head);
            }
            check_row(t, &g->checks[i]);
        }
    qn_textbuf_puts(t, n > ROWS_OPEN ? "</table></div>\n</details>\n" : "</table></div>\n");
    for (uint32_t i = 0; i < g->n_warnings; i++) {
        qn_textbuf_puts(t, "<p class=\"inconclusive\">");
        qn_html_text(t, g->warnings[i]);
        qn_textbuf_puts(t, "</p>\n");
    }
}

/* --- before and after -------------------------------------------------------------------------------------------------- */

static void bar(qn_textbuf *t, const char *label, double share, const char *value, const char *css)
{
    qn_textbuf_puts(t, "<span>");
    qn_html_text(t, label);
    qn_textbuf_format(t, "</span><span class=\"track\"><i class=\"%s\" style=\"width:%.1f%%\"></i></span><span class=\"v\">", css, 100 * fmax(0, fmin(1, share)));
    qn_html_text(t, value);
    qn_textbuf_puts(t, "</span>\n");
}

static void bars_of(qn_textbuf *t, const char *what, const double v[3], char text[3][48])
{
    static const char *const labels[] = {"reference", "baseline", "this model"}, *const css[] = {"two", "three", "one"};
    const double most = fmax(v[0], fmax(isfinite(v[1]) ? v[1] : 0, v[2]));
    qn_textbuf_puts(t, "<span class=\"head\">");
    qn_html_text(t, what);
    qn_textbuf_puts(t, "</span>\n");
    for (unsigned i = 0; i < 3; i++)
        if (isfinite(v[i]))
            bar(t, labels[i], most > 0 ? v[i] / most : 0, text[i], css[i]);
}

static void before_after(qn_textbuf *t, const qn_report *r, const qn_report *b)
{
    char text[3][48];
    const double none = (double)NAN;
    const double size[] = {(double)r->reference_bytes, b ? (double)b->size_bytes : none, (double)r->size_bytes};
    qn_textbuf_puts(t, "<h2>Before and after</h2>\n<div class=\"bars\">\n");
    for (unsigned i = 0; i < 3; i++)
        qn_human_bytes(text[i], sizeof text[i], isfinite(size[i]) ? (uint64_t)size[i] : 0);
    bars_of(t, "size", size, text);
    if (r->is_lm) {
        const double ppl[] = {r->ppl_ref.value, b && b->is_lm ? b->ppl.value : none, r->ppl.value};
        for (unsigned i = 0; i < 3; i++)
            snprintf(text[i], sizeof text[i], "%.4f", ppl[i]);
        bars_of(t, "perplexity", ppl, text);
    }
    if (r->is_io && isfinite(r->io_right.value)) {
        const double right[] = {r->io_right_ref.value, b && b->is_io ? b->io_right.value : none, r->io_right.value};
        for (unsigned i = 0; i < 3; i++)
            snprintf(text[i], sizeof text[i], "%.2f %%", 100 * right[i]);
        bars_of(t, "right class first", right, text);
    }
    qn_textbuf_puts(t, "</div>\n");
}

/* --- tensors ----------------------------------------------------------------------------------------------------------- */

static void tensor_row(qn_textbuf *t, const qn_report_tensor *x)
{
    char size[32], count[32], rel[32];
    qn_human_bytes(size, sizeof size, x->n_bytes);
    qn_human_count(count, sizeof count, x->n_weights);
    qn_plot_number(rel, sizeof rel, x->rel);
    qn_textbuf_puts(t, "<tr><td class=\"name\">");
    name_text(t, x->name);
    qn_textbuf_puts(t, "</td><td>");
    qn_html_text(t, x->codec ? x->codec : x->dtype ? x->dtype : "");
    qn_textbuf_format(t, "</td><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%.2f</td><td class=\"n\">%s</td><td%s>", count, size,
                      x->n_weights ? 8 * (double)x->n_bytes / (double)x->n_weights : 0.0, x->rel == 0 ? "equal" : isfinite(x->rel) ? rel : "–",
                      x->trouble ? " class=\"fail\"" : "");
    qn_html_text(t, x->trouble ? x->trouble : x->looks ? x->looks : "");
    qn_textbuf_puts(t, "</td></tr>\n");
}

static void table_of(qn_textbuf *t, const qn_report *r, const uint64_t *order, uint64_t first, uint64_t last)
{
    table_head(t, "", tensors_head);
    for (uint64_t i = first; i < last; i++)
        tensor_row(t, &r->tensors[order[i]]);
    qn_textbuf_puts(t, "</table></div>\n");
}

static void tensors(qn_textbuf *t, const qn_report *r)
{
    uint64_t *order = r->n_tensors ? qn_mem_get(t->alloc, r->n_tensors * sizeof *order, &t->err) : NULL;
    if (!order)
        return;
    const uint64_t n = r->n_tensors < ROWS_MOST ? r->n_tensors : ROWS_MOST, open = n < ROWS_OPEN ? n : ROWS_OPEN;
    qn_compare_order(r, order);
    qn_textbuf_puts(t, "<h2>Tensors, the worst first</h2>\n");
    table_of(t, r, order, 0, open);
    if (n > open) {
        qn_textbuf_format(t, "<details><summary>%llu more%s</summary>\n", (unsigned long long)(n - open), n < r->n_tensors ? " of them; the JSON has all" : "");
        table_of(t, r, order, open, n);
        qn_textbuf_puts(t, "</details>\n");
    }
    qn_mem_put(t->alloc, order);
}

/* --- what it depends on ------------------------------------------------------------------------------------------------- */

static void fact(qn_textbuf *t, const char *name, const char *value)
{
    if (!value || !*value)
        return;
    qn_textbuf_puts(t, "<dt>");
    qn_html_text(t, name);
    qn_textbuf_puts(t, "</dt><dd>");
    qn_html_text(t, value);
    qn_textbuf_puts(t, "</dd>\n");
}

static void digest(qn_textbuf *t, const char *name, const qn_digest *d)
{
    char hex[33];
    qn_digest_hex(d, hex);
    if (!qn_digest_equal(d, &(qn_digest){{0}}))
        fact(t, name, hex);
}

static void binding(qn_textbuf *t, const qn_report *r)
{
    char noise[64];
    qn_textbuf_puts(t, "<h2>Measured on</h2>\n<dl>\n");
    fact(t, "this model", r->b.candidate_path);
    fact(t, "reference", r->b.reference_path);
    fact(t, "data", r->b.data_path);
    fact(t, "recipe", r->b.recipe);
    fact(t, "reason", r->reason);
    fact(t, "quern", r->b.version);
    fact(t, "kernels", r->b.cpu);
    digest(t, "digest of this model", &r->b.candidate);
    digest(t, "digest of the reference", &r->b.reference);
    digest(t, "digest of the tokenizer", &r->b.tokenizer);
    digest(t, "digest of the data", &r->b.data);
    if (isfinite(r->noise_kl)) {
        snprintf(noise, sizeof noise, "%.2g nats of KL divergence", r->noise_kl);
        fact(t, "noise of measuring", noise);
    }
    qn_textbuf_puts(t, "</dl>\n");
}

void qn_report_html(qn_textbuf *t, const qn_report *r, const qn_report *baseline, const qn_gate *gate)
{
    char name[200];
    snprintf(name, sizeof name, "quern: %.80s against %.80s", last_of(r->b.candidate_path), last_of(r->b.reference_path));
    head(t, name);
    title(t, r, gate);
    tiles(t, r);
    checks(t, gate);
    before_after(t, r, baseline);
    qn_textbuf_puts(t, "<h2>Where the error is</h2>\n<div class=\"plots\">\n");
    qn_plot_depth(t, r, baseline);
    qn_plot_bits(t, r);
    qn_plot_tensors(t, r);
    qn_plot_divergence(t, r);
    qn_plot_chunks(t, r, baseline);
    qn_textbuf_puts(t, "</div>\n");
    tensors(t, r);
    binding(t, r);
    qn_textbuf_puts(t, "</body></html>\n");
}
