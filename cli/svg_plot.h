/* svg_plot.h: small charts as SVG inside a page: axes with few, round ticks, and what is drawn between them. Colours are classes of the page's style
 * sheet, so that one drawing serves light, dark and paper. */
#ifndef QN_CLI_SVG_PLOT_H
#define QN_CLI_SVG_PLOT_H

#include "base/textbuf.h"

typedef struct qn_scale {
    double low, high; /* of the values; of log10 of them when `log` */
    bool log;
    double from, to;  /* where they lie in the drawing            */
} qn_scale;

typedef struct qn_plot {
    qn_textbuf *t;
    qn_scale x, y;
} qn_plot;

enum { QN_PLOT_WIDTH = 460, QN_PLOT_HEIGHT = 280 }; /* of the drawing; the page scales it */

/* Text and attributes: & < > " escaped. */
void qn_html_text(qn_textbuf *t, const char *s);

/* An axis over [low, high]: widened to round ends. Of a log axis both are > 0, and it covers whole decades. */
qn_scale qn_scale_linear(double low, double high);
qn_scale qn_scale_log(double low, double high);
double qn_scale_at(const qn_scale *a, double v);

/* Writes a number for a tick or a cell: three digits that count, "1.2e-05" only where it must. */
void qn_plot_number(char *buf, size_t n, double v);

/* Begins the <svg>: grid lines, tick labels, axis titles. name: what it shows, for those who cannot see it. ticks of x: none when x_labels is false. `number` writes ticks of x
 * (NULL: qn_plot_number). */
void qn_plot_begin(qn_plot *p, qn_textbuf *t, const char *name, qn_scale x, qn_scale y, const char *x_title, const char *y_title, bool x_labels,
                   void (*number)(char *buf, size_t n, double v));
void qn_plot_end(qn_plot *p);

/* A dot with a line of text that shows when it is pointed at. */
void qn_plot_dot(qn_plot *p, double x, double y, double radius, const char *css, const char *hint);
/* From the x-axis up to y. */
void qn_plot_bar(qn_plot *p, double x0, double x1, double y, const char *css, const char *hint);
void qn_plot_line(qn_plot *p, const double *x, const double *y, uint64_t n, const char *css);
/* A vertical line at x with a label at the top, to the left of it or to the right. */
void qn_plot_mark(qn_plot *p, double x, const char *css, const char *label, bool left);

#endif
