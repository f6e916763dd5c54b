/* svg_plot.c: see svg_plot.h. */
#include "cli/svg_plot.h"
#include "cli/markup.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LEFT = 58, RIGHT = 22, TOP = 14, BOTTOM = 44 };

void qn_html_text(qn_textbuf *t, const char *s)
{
    for (; *s; s++) {
        const char *as = qn_markup_entity(*s);
        if (as)
            qn_textbuf_puts(t, as);
        else
            qn_textbuf_char(t, (unsigned char)*s < 0x20 ? ' ' : *s);
    }
}

void qn_plot_number(char *buf, size_t n, double v)
{
    const double a = fabs(v);
    if (a == 0)
        snprintf(buf, n, "0");
    else if (a >= 1e5 || a < 1e-4)
        snprintf(buf, n, "%.3g", v);
    else
        snprintf(buf, n, "%.*f", a >= 100 ? 0 : a >= 10 ? 1 : a >= 1 ? 2 : a >= 0.1 ? 3 : a >= 0.01 ? 4 : a >= 0.001 ? 5 : 6, v);
    if (strchr(buf, '.') && !strchr(buf, 'e')) { /* 0.500 → 0.5 */
        size_t k = strlen(buf);
        while (k > 1 && buf[k - 1] == '0')
            buf[--k] = '\0';
        if (buf[k - 1] == '.')
            buf[k - 1] = '\0';
    }
}

/* The smallest of 1, 2, 5 × 10^k that is at least v. */
static double round_step(double v)
{
    const double base = pow(10, floor(log10(v)));
    const double f = v / base;
    return base * (f <= 1 ? 1 : f <= 2 ? 2 : f <= 5 ? 5 : 10);
}

static double step_of(const qn_scale *a)
{
    if (a->log)
        return fmax(1, ceil((a->high - a->low) / 6));
    return round_step((a->high - a->low) / 5);
}

qn_scale qn_scale_linear(double low, double high)
{
    qn_scale a = {.low = low, .high = high};
    if (!(high > low)) {
        a.low = low - fmax(fabs(low), 1) * 0.5;
        a.high = low + fmax(fabs(low), 1) * 0.5;
    }
    const double step = step_of(&a);
    a.low = floor(a.low / step + 1e-9) * step;
    a.high = ceil(a.high / step - 1e-9) * step;
    return a;
}

qn_scale qn_scale_log(double low, double high)
{
    qn_scale a = {.log = true, .low = floor(log10(low) + 1e-9), .high = ceil(log10(high) - 1e-9)};
    if (a.high <= a.low)
        a.high = a.low + 1;
    return a;
}

double qn_scale_at(const qn_scale *a, double v)
{
    const double u = a->log ? log10(v) : v;
    return a->from + (a->to - a->from) * (u - a->low) / (a->high - a->low);
}

static void ticks_y(qn_plot *p)
{
    const double step = step_of(&p->y);
    for (double v = p->y.low; v <= p->y.high + step * 1e-6; v += step) {
        char label[32];
        const double value = p->y.log ? pow(10, v) : v, at = qn_scale_at(&p->y, value);
        qn_plot_number(label, sizeof label, fabs(v) < step * 1e-6 && !p->y.log ? 0 : value);
        qn_textbuf_format(p->t, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, QN_PLOT_WIDTH - RIGHT, at, at);
        qn_textbuf_format(p->t, "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>", LEFT - 6, at + 4, label);
    }
}

static void ticks_x(qn_plot *p, void (*number)(char *, size_t, double))
{
    const double step = step_of(&p->x);
    for (double v = p->x.low; v <= p->x.high + step * 1e-6; v += step) {
        char label[32];
        const double value = p->x.log ? pow(10, v) : v, at = qn_scale_at(&p->x, value);
        number(label, sizeof label, fabs(v) < step * 1e-6 && !p->x.log ? 0 : value);
        qn_textbuf_format(p->t, "<line class=\"notch\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>", at, at, QN_PLOT_HEIGHT - BOTTOM,
                          QN_PLOT_HEIGHT - BOTTOM + 4);
        qn_textbuf_format(p->t, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>", at, QN_PLOT_HEIGHT - BOTTOM + 17, label);
    }
}

void qn_plot_begin(qn_plot *p, qn_textbuf *t, const char *name, qn_scale x, qn_scale y, const char *x_title, const char *y_title, bool x_labels,
                   void (*number)(char *buf, size_t n, double v))
{
    *p = (qn_plot){.t = t, .x = x, .y = y};
    p->x.from = LEFT;
    p->x.to = QN_PLOT_WIDTH - RIGHT;
    p->y.from = QN_PLOT_HEIGHT - BOTTOM;
    p->y.to = TOP + 14;
    qn_textbuf_format(t, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", QN_PLOT_WIDTH, QN_PLOT_HEIGHT);
    qn_html_text(t, name);
    qn_textbuf_puts(t, "\">");
    ticks_y(p);
    if (x_labels)
        ticks_x(p, number ? number : qn_plot_number);
    qn_textbuf_format(t, "<text class=\"axis\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (LEFT + QN_PLOT_WIDTH - RIGHT) / 2, QN_PLOT_HEIGHT - 8);
    qn_html_text(t, x_title);
    qn_textbuf_format(t, "</text><text class=\"axis\" x=\"4\" y=\"%d\">", TOP);
    qn_html_text(t, y_title);
    qn_textbuf_puts(t, "</text>");
}

void qn_plot_end(qn_plot *p)
{
    qn_textbuf_format(p->t, "<line class=\"base\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/></svg>\n", LEFT, QN_PLOT_WIDTH - RIGHT, QN_PLOT_HEIGHT - BOTTOM,
                      QN_PLOT_HEIGHT - BOTTOM);
}

static void hint_and_close(qn_plot *p, const char *hint, const char *tag)
{
    if (!hint) {
        qn_textbuf_puts(p->t, "/>");
        return;
    }
    qn_textbuf_puts(p->t, "><title>");
    qn_html_text(p->t, hint);
    qn_textbuf_format(p->t, "</title></%s>", tag);
}

void qn_plot_dot(qn_plot *p, double x, double y, double radius, const char *css, const char *hint)
{
    qn_textbuf_format(p->t, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"", css, qn_scale_at(&p->x, x), qn_scale_at(&p->y, y), radius);
    hint_and_close(p, hint, "circle");
}

void qn_plot_bar(qn_plot *p, double x0, double x1, double y, const char *css, const char *hint)
{
    const double a = qn_scale_at(&p->x, x0), b = qn_scale_at(&p->x, x1), top = fmin(qn_scale_at(&p->y, y), p->y.from);
    qn_textbuf_format(p->t, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"", css, a, top, fmax(b - a, 0.5), p->y.from - top);
    hint_and_close(p, hint, "rect");
}

void qn_plot_line(qn_plot *p, const double *x, const double *y, uint64_t n, const char *css)
{
    qn_textbuf_format(p->t, "<polyline class=\"%s\" points=\"", css);
    for (uint64_t i = 0; i < n; i++)
        qn_textbuf_format(p->t, "%s%.1f,%.1f", i ? " " : "", qn_scale_at(&p->x, x[i]), qn_scale_at(&p->y, y[i]));
    qn_textbuf_puts(p->t, "\"/>");
}

void qn_plot_mark(qn_plot *p, double x, const char *css, const char *label, bool left)
{
    const double at = qn_scale_at(&p->x, x);
    qn_textbuf_format(p->t, "<line class=\"%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", css, at, at, p->y.from, p->y.to);
    qn_textbuf_format(p->t, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", left ? at - 4 : at + 4, p->y.to + 9, left ? "end" : "start");
    qn_html_text(p->t, label);
    qn_textbuf_puts(p->t, "</text>");
}
