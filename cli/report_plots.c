/* report_plots.c: the drawings of report_html.h. */
#include "analysis/eval/evaluate.h"
#include "cli/report_html.h"
#include "cli/svg_plot.h"
#include "cli/units.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static void open_figure(qn_textbuf *t, const char *title, const char *says)
{
    qn_textbuf_puts(t, "<figure><figcaption><b>");
    qn_html_text(t, title);
    qn_textbuf_puts(t, "</b> ");
    qn_html_text(t, says);
    qn_textbuf_puts(t, "</figcaption>\n");
}

static void bytes_tick(char *buf, size_t n, double v)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    unsigned u = 0;
    for (; v >= 1000 && u < 4; u++)
        v /= 1000;
    snprintf(buf, n, "%g %s", v, units[u]);
}

/* --- tensors -------------------------------------------------------------------------------------------------------- */

static bool is_drawn(const qn_report_tensor *x)
{
    return x->rel > 0 && isfinite(x->rel) && x->n_bytes > 0;
}

void qn_plot_tensors(qn_textbuf *t, const qn_report *r)
{
    double x0 = (double)INFINITY, x1 = 0, y0 = (double)INFINITY, y1 = 0;
    uint64_t n_equal = 0, n = 0;
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        const qn_report_tensor *x = &r->tensors[i];
        n_equal += x->rel == 0;
        if (!is_drawn(x))
            continue;
        n++;
        x0 = fmin(x0, (double)x->n_bytes);
        x1 = fmax(x1, (double)x->n_bytes);
        y0 = fmin(y0, x->rel);
        y1 = fmax(y1, x->rel);
    }
    if (!n)
        return;
    char says[160];
    snprintf(says, sizeof says, "Each dot is a tensor that is not the reference's, bit for bit; %llu more are.", (unsigned long long)n_equal);
    open_figure(t, "Size against error", says);
    qn_plot p;
    qn_plot_begin(&p, t, "size of each tensor against its relative error", qn_scale_log(x0, x1), qn_scale_log(y0, y1), "stored size", "relative error of the weights",
                  true, bytes_tick);
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        const qn_report_tensor *x = &r->tensors[i];
        if (!is_drawn(x))
            continue;
        char hint[400], size[32];
        qn_human_bytes(size, sizeof size, x->n_bytes);
        snprintf(hint, sizeof hint, "%.240s: %s, error %.3g%s%.60s", x->name, size, x->rel, x->codec ? ", " : "", x->codec ? x->codec : "");
        qn_plot_dot(&p, (double)x->n_bytes, x->rel, 4, x->layer == QN_REPORT_NO_LAYER ? "dot other" : "dot", hint);
    }
    qn_plot_end(&p);
    qn_textbuf_puts(t, "<p class=\"key\"><i class=\"chip one\"></i>in a layer <i class=\"chip two\"></i>embedding, head, others</p></figure>\n");
}

static const char *from_to(const qn_report *r, char *buf, size_t n)
{
    if (r->n_layers < 2)
        return r->n_layers ? r->layers[0].name : "";
    snprintf(buf, n, "%.40s … %.40s", r->layers[0].name, r->layers[r->n_layers - 1].name);
    return buf;
}

/* --- layers --------------------------------------------------------------------------------------------------------- */

void qn_plot_bits(qn_textbuf *t, const qn_report *r)
{
    char blocks[100];
    double most = 0;
    uint64_t n = 0;
    for (uint64_t i = 0; i < r->n_layers; i++)
        if (isfinite(r->layers[i].bits)) {
            most = fmax(most, r->layers[i].bits);
            n++;
        }
    if (!n)
        return;
    open_figure(t, "Bits per layer", "Stored bits for each weight, tables and scales included.");
    qn_plot p;
    qn_plot_begin(&p, t, "bits per weight of each layer", (qn_scale){.low = -0.6, .high = (double)r->n_layers - 0.4}, qn_scale_linear(0, most), from_to(r, blocks, sizeof blocks),
                  "bits per weight", false, NULL);
    for (uint64_t i = 0; i < r->n_layers; i++) {
        char hint[200];
        if (!isfinite(r->layers[i].bits))
            continue;
        snprintf(hint, sizeof hint, "%.120s: %.3f bits", r->layers[i].name, r->layers[i].bits);
        qn_plot_bar(&p, (double)i - 0.4, (double)i + 0.4, r->layers[i].bits, "bar", hint);
    }
    qn_plot_end(&p);
    qn_textbuf_puts(t, "</figure>\n");
}

static double layer_error(const qn_report_layer *l, bool own)
{
    return own ? l->own_rel : l->rel_rms;
}

static void error_line(qn_plot *p, const qn_report *r, bool own, const char *css, const char *dot, const char *what)
{
    double x[512], y[512];
    uint64_t n = 0;
    for (uint64_t i = 0; i < r->n_layers && n < 512; i++)
        if (layer_error(&r->layers[i], own) > 0 && isfinite(layer_error(&r->layers[i], own))) {
            x[n] = (double)i;
            y[n++] = layer_error(&r->layers[i], own);
        }
    if (!n)
        return;
    qn_plot_line(p, x, y, n, css);
    for (uint64_t i = 0; i < n; i++) {
        char hint[240];
        snprintf(hint, sizeof hint, "%.120s: %s %.3g", r->layers[(uint64_t)x[i]].name, what, y[i]);
        qn_plot_dot(p, x[i], y[i], 3, dot, hint);
    }
}

static void widen(const qn_report *r, bool own, double *low, double *high)
{
    for (uint64_t i = 0; i < r->n_layers; i++) {
        const double e = layer_error(&r->layers[i], own);
        if (e > 0 && isfinite(e)) {
            *low = fmin(*low, e);
            *high = fmax(*high, e);
        }
    }
}

void qn_plot_depth(qn_textbuf *t, const qn_report *r, const qn_report *baseline)
{
    char blocks[100];
    double low = (double)INFINITY, high = 0;
    widen(r, false, &low, &high);
    widen(r, true, &low, &high);
    const bool also = baseline && baseline->n_layers == r->n_layers;
    if (also)
        widen(baseline, false, &low, &high);
    if (!(high > 0))
        return;
    open_figure(t, "Error by depth", "Of what each block puts out, against the reference on the same data.");
    qn_plot p;
    qn_plot_begin(&p, t, "relative error of each block's output", (qn_scale){.low = -0.6, .high = (double)r->n_layers - 0.4}, qn_scale_log(low, high),
                  from_to(r, blocks, sizeof blocks), "relative error of the output", false, NULL);
    if (also)
        error_line(&p, baseline, false, "line base-line", "dot base-dot", "baseline, ");
    error_line(&p, r, true, "line own-line", "dot other", "its own error");
    error_line(&p, r, false, "line", "dot", "error so far");
    qn_plot_end(&p);
    qn_textbuf_format(t, "<p class=\"key\"><i class=\"chip one\"></i>with all blocks before it <i class=\"chip two\"></i>its own alone%s</p></figure>\n",
                      also ? " <i class=\"chip three\"></i>the baseline's" : "");
}

/* --- divergence ----------------------------------------------------------------------------------------------------- */

static double bin_edge(unsigned i)
{
    return exp2((double)i / 2 - QN_REPORT_OCTAVE);
}

void qn_plot_divergence(qn_textbuf *t, const qn_report *r)
{
    unsigned first = QN_REPORT_BINS, last = 0;
    uint64_t total = 0;
    uint32_t most = 0;
    for (unsigned i = 0; i < QN_REPORT_BINS; i++) {
        total += r->kl_histogram[i];
        most = r->kl_histogram[i] > most ? r->kl_histogram[i] : most;
    }
    if (!r->is_lm || !total)
        return;
    for (unsigned i = 0; i < QN_REPORT_BINS; i++)
        if (r->kl_histogram[i] * 1000.0 >= (double)most) { /* tails that cannot be seen do not make the rest narrow */
            first = i < first ? i : first;
            last = i;
        }
    open_figure(t, "Divergence of tokens", "How many tokens have which Kullback-Leibler divergence (nats) from the reference.");
    qn_plot p;
    qn_scale x = qn_scale_log(bin_edge(first), bin_edge(last + 1));
    x.low = fmax(x.low, log10(bin_edge(first)) - 0.3);
    x.low = floor(x.low);
    qn_plot_begin(&p, t, "distribution of the divergence over tokens", x, qn_scale_linear(0, 100.0 * most / (double)total), "KL divergence of a token",
                  "% of tokens", true, NULL);
    for (unsigned i = first; i <= last; i++) {
        char hint[120];
        snprintf(hint, sizeof hint, "%.2g to %.2g: %u tokens, %.2f %%", bin_edge(i), bin_edge(i + 1), r->kl_histogram[i], 100.0 * r->kl_histogram[i] / (double)total);
        qn_plot_bar(&p, bin_edge(i) * 1.03, bin_edge(i + 1) / 1.03, 100.0 * r->kl_histogram[i] / (double)total, "bar", hint);
    }
    const double inside[] = {r->kl.value, r->kl_quantiles[4]};
    const char *const names[] = {"mean", "99 %"};
    for (unsigned i = 0; i < 2; i++)
        if (inside[i] >= bin_edge(first) && inside[i] <= bin_edge(last + 1))
            qn_plot_mark(&p, inside[i], "mark", names[i], i == 0);
    qn_plot_end(&p);
    qn_textbuf_puts(t, "</figure>\n");
}

static double chunk_kl(const qn_report *r, uint64_t i)
{
    return r->chunks[i].n ? r->chunks[i].kl / (double)r->chunks[i].n : (double)NAN;
}

void qn_plot_chunks(qn_textbuf *t, const qn_report *r, const qn_report *baseline)
{
    double most = 0;
    const bool also = baseline && baseline->n_chunks == r->n_chunks;
    if (!r->is_lm || r->n_chunks < 2)
        return;
    for (uint64_t i = 0; i < r->n_chunks; i++) {
        most = fmax(most, chunk_kl(r, i));
        if (also)
            most = fmax(most, chunk_kl(baseline, i));
    }
    if (!(most > 0))
        return;
    open_figure(t, "Divergence along the text", "Mean of each chunk: what the intervals are made of.");
    qn_plot p;
    qn_plot_begin(&p, t, "mean divergence of each chunk", qn_scale_linear(0, (double)r->n_chunks), qn_scale_linear(0, most), "chunk", "KL divergence", true, NULL);
    for (uint64_t i = 0; i < r->n_chunks; i++) {
        char hint[80];
        if (also && isfinite(chunk_kl(baseline, i)))
            qn_plot_dot(&p, (double)i + 0.5, chunk_kl(baseline, i), 2.5, "dot base-dot", NULL);
        snprintf(hint, sizeof hint, "chunk %llu: %.4g", (unsigned long long)i, chunk_kl(r, i));
        if (isfinite(chunk_kl(r, i)))
            qn_plot_dot(&p, (double)i + 0.5, chunk_kl(r, i), 3, "dot", hint);
    }
    qn_plot_end(&p);
    if (also)
        qn_textbuf_puts(t, "<p class=\"key\"><i class=\"chip one\"></i>this model <i class=\"chip three\"></i>the baseline</p>");
    qn_textbuf_puts(t, "</figure>\n");
}
