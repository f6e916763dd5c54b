/* report_html.h: a report as one HTML page that needs nothing else: no scripts, no fonts or pictures from elsewhere. Light, dark, narrow and on paper. */
#ifndef QN_CLI_REPORT_HTML_H
#define QN_CLI_REPORT_HTML_H

#include "analysis/gate/gate.h"
#include "base/textbuf.h"

/* baseline, gate: NULL when there are none. Failures are the buffer's. */
void qn_report_html(qn_textbuf *t, const qn_report *r, const qn_report *baseline, const qn_gate *gate);

/* report_style_tab.c: the page's style sheet. */
extern const char *const qn_report_style[]; /* ended by NULL */

/* report_plots.c: the drawings; each writes a <figure>, or nothing when the report has nothing to show in it. */
void qn_plot_tensors(qn_textbuf *t, const qn_report *r);    /* size against error                     */
void qn_plot_bits(qn_textbuf *t, const qn_report *r);       /* bits per weight by layer               */
void qn_plot_depth(qn_textbuf *t, const qn_report *r, const qn_report *baseline); /* error by depth    */
void qn_plot_divergence(qn_textbuf *t, const qn_report *r); /* tokens by their KL divergence          */
void qn_plot_chunks(qn_textbuf *t, const qn_report *r, const qn_report *baseline); /* by chunk          */

#endif
