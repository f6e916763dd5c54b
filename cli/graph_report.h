/* graph_report.h: a model's graph as a table, as JSON, as a drawing. Layers that are alike are shown once. */
#ifndef QN_CLI_GRAPH_REPORT_H
#define QN_CLI_GRAPH_REPORT_H

#include "analysis/graph/op.h"
#include "cli/cli.h"
#include "cli/json_write.h"
#include "formats/outfile.h"

/* The graph of a source, with its warnings printed. */
void qn_cli_graph_warnings(qn_cli *cli, const qn_graph *g);
qn_code qn_cli_graph(qn_cli *cli, qn_source *s, qn_graph **g, qn_err *err) QN_MUST_CHECK;

qn_code qn_graph_text(qn_cli *cli, const qn_graph *g, qn_err *err) QN_MUST_CHECK;
/* The member "graph". */
qn_code qn_graph_json(qn_cli *cli, qn_json_writer *j, const qn_graph *g, qn_err *err) QN_MUST_CHECK;
/* Writes an SVG of its own, no references to elsewhere; light and dark by the viewer's preference. colors: of each node's box, or NULL where it
 * is drawn by what the node is; NULL: of all. Blocks are drawn once when they are alike, with the colours of the first. */
qn_code qn_graph_svg(qn_cli *cli, const qn_graph *g, const char *title, const char *const *colors, qn_outfile *out, qn_err *err) QN_MUST_CHECK;

/* "F32 (?, 64)"; "" when nothing is known. */
void qn_value_text(char *buf, size_t n, const qn_value *v);

#endif
