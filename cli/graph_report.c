/* graph_report.c: see graph_report.h; the drawing is in graph_svg.c. */
#include "cli/graph_report.h"
#include "analysis/graph/repeat.h"
#include "base/err.h"
#include "cli/table.h"
#include "cli/units.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void qn_value_text(char *buf, size_t n, const qn_value *v)
{
    const char *dtype = v->dtype == QN_BYTES ? "" : qn_dtype_name((qn_dtype)v->dtype);
    int at = snprintf(buf, n, "%s", dtype ? dtype : "");
    if (!v->dims)
        return;
    at += snprintf(buf + at, n - (size_t)at, "%s(", at ? " " : "");
    for (unsigned k = 0; k < v->rank && (size_t)at + 48 < n; k++) {
        const char *comma = k ? ", " : "";
        if (v->dims[k] != QN_DIM_UNKNOWN)
            at += snprintf(buf + at, n - (size_t)at, "%s%" PRId64, comma, v->dims[k]);
        else
            at += snprintf(buf + at, n - (size_t)at, "%s%.20s", comma, v->symbols && v->symbols[k] ? v->symbols[k] : "?");
    }
    snprintf(buf + at, n - (size_t)at, ")");
}

static uint64_t weight_count(const qn_graph *g, uint64_t *n_elems)
{
    uint64_t n = 0;
    *n_elems = 0;
    for (uint32_t i = 0; i < g->n_values; i++)
        if (g->values[i].kind == QN_VALUE_WEIGHT) {
            *n_elems += qn_value_elems(&g->values[i]);
            n++;
        }
    return n;
}

static uint32_t *leaders(qn_cli *cli, const qn_graph *g, qn_err *err)
{
    uint32_t *leader = qn_arena_get(&cli->arena, ((uint64_t)g->n_blocks + 1) * sizeof *leader, 4, err);
    if (leader)
        qn_graph_repeats(g, leader);
    return leader;
}

/* "tokens, embed.weight (512, 64)": a weight with its shape, the rest by name; long lists are cut. */
static void inputs_text(char *buf, size_t n, const qn_graph *g, const qn_node *node)
{
    size_t at = 0;
    buf[0] = '\0';
    for (unsigned i = 0; i < node->n_in; i++) {
        char one[200], shape[120];
        if (node->in[i] == QN_NO_VALUE)
            continue;
        const qn_value *v = &g->values[node->in[i]];
        shape[0] = '\0';
        if (v->kind == QN_VALUE_WEIGHT || v->kind == QN_VALUE_CONST)
            qn_value_text(shape, sizeof shape, v);
        const char *paren = strchr(shape, '(');
        snprintf(one, sizeof one, "%s%.100s%s%.60s", at ? ", " : "", v->name, paren ? " " : "", paren ? paren : "");
        if (i >= 6 && node->n_in > 8) {
            snprintf(buf + at, n - at, ", and %u more", node->n_in - i);
            return;
        }
        if (at + strlen(one) + 24 >= n) {
            snprintf(buf + at, n - at, ", ...");
            return;
        }
        memcpy(buf + at, one, strlen(one) + 1);
        at += strlen(one);
    }
}

static qn_code node_row(qn_table *t, const qn_graph *g, const qn_node *n, qn_err *err)
{
    char in[400], out[160] = "";
    inputs_text(in, sizeof in, g, n);
    if (n->n_out && n->out[0] != QN_NO_VALUE)
        qn_value_text(out, sizeof out, &g->values[n->out[0]]);
    QN_TRY(qn_table_cell(t, err, "%s", n->name));
    QN_TRY(qn_table_cell(t, err, "%s%s", n->type, n->op && n->op->forward ? "" : " (not known)"));
    QN_TRY(qn_table_cell(t, err, "%s", in));
    return qn_table_cell(t, err, "%s", out);
}

static qn_code block_text(qn_cli *cli, const qn_graph *g, const qn_graph_block *b, uint32_t n_alike, const qn_graph_block *last, qn_err *err)
{
    static const qn_column columns[] = {{.title = "node"}, {.title = "operator"}, {.title = "inputs", .shrink = true}, {.title = "output"}};
    qn_table t;
    qn_table_init(&t, &cli->out, &cli->arena, columns, 4, 2);
    qn_code rc = QN_OK;
    if (n_alike > 1)
        printf("\n%s%s%s (%u blocks like this one, to %s)\n", qn_term_bold(&cli->out), b->name, qn_term_plain(&cli->out), n_alike, last->name);
    else
        printf("\n%s%s%s\n", qn_term_bold(&cli->out), b->name, qn_term_plain(&cli->out));
    for (uint32_t i = 0; i < b->n_nodes && rc == QN_OK; i++)
        rc = node_row(&t, g, &g->nodes[b->first_node + i], err);
    if (rc == QN_OK)
        qn_table_print(&t);
    qn_table_release(&t);
    return rc;
}

static void print_ends(const qn_graph *g, const char *what, const uint32_t *list, uint32_t n)
{
    printf("  %-9s", what);
    for (uint32_t i = 0; i < n; i++) {
        char text[160], name[120];
        qn_value_text(text, sizeof text, &g->values[list[i]]);
        qn_printable(name, sizeof name, g->values[list[i]].name, strlen(g->values[list[i]].name));
        printf("%s%s %s", i ? ", " : "", name, text);
    }
    putchar('\n');
}

qn_code qn_graph_text(qn_cli *cli, const qn_graph *g, qn_err *err)
{
    const uint32_t *leader = leaders(cli, g, err);
    if (!leader)
        return QN_E_MEMORY;
    uint64_t n_elems;
    const uint64_t n_weights = weight_count(g, &n_elems);
    char count[32];
    qn_human_count(count, sizeof count, n_elems);
    printf("graph: %s, %" PRIu32 " nodes in %" PRIu32 " block%s, %" PRIu64 " weights (%s)\n", g->family, g->n_nodes, g->n_blocks,
           g->n_blocks == 1 ? "" : "s", n_weights, count);
    print_ends(g, "inputs", g->inputs, g->n_inputs);
    print_ends(g, "outputs", g->outputs, g->n_outputs);
    const uint32_t opaque = qn_graph_first_opaque(g);
    if (opaque != QN_NO_NODE)
        printf("  cannot be run: operator %s of node '%s' is not known\n", g->nodes[opaque].type, g->nodes[opaque].name);
    for (uint32_t b = 0; b < g->n_blocks; b++) {
        uint32_t end = b + 1;
        if (leader[b] != b)
            continue;
        while (end < g->n_blocks && leader[end] == b)
            end++;
        QN_TRY(block_text(cli, g, &g->blocks[b], end - b, &g->blocks[end - 1], err));
    }
    return QN_OK;
}

static void json_value(qn_json_writer *j, const qn_graph *g, uint32_t value)
{
    static const char *const kinds[] = {"input", "weight", "const", "node", "outer"};
    if (value == QN_NO_VALUE) {
        qn_jw_text(j, NULL, NULL);
        return;
    }
    const qn_value *v = &g->values[value];
    qn_jw_begin(j, NULL, '{');
    qn_jw_text(j, "name", v->name);
    qn_jw_text(j, "kind", kinds[v->kind]);
    qn_jw_text(j, "dtype", v->dtype == QN_BYTES ? NULL : qn_dtype_name((qn_dtype)v->dtype));
    if (v->dims) {
        qn_jw_begin(j, "shape", '[');
        for (unsigned k = 0; k < v->rank; k++)
            if (v->dims[k] == QN_DIM_UNKNOWN)
                qn_jw_text(j, NULL, v->symbols ? v->symbols[k] : NULL);
            else
                qn_jw_u64(j, NULL, (uint64_t)v->dims[k]);
        qn_jw_end(j, ']');
    }
    qn_jw_end(j, '}');
}

static void json_values(qn_json_writer *j, const char *key, const qn_graph *g, const uint32_t *list, uint32_t n)
{
    qn_jw_begin(j, key, '[');
    for (uint32_t i = 0; i < n; i++)
        json_value(j, g, list[i]);
    qn_jw_end(j, ']');
}

qn_code qn_graph_json(qn_cli *cli, qn_json_writer *j, const qn_graph *g, qn_err *err)
{
    const uint32_t *leader = leaders(cli, g, err);
    if (!leader)
        return QN_E_MEMORY;
    qn_jw_begin(j, "graph", '{');
    qn_jw_text(j, "family", g->family);
    qn_jw_bool(j, "runs", qn_graph_first_opaque(g) == QN_NO_NODE);
    json_values(j, "inputs", g, g->inputs, g->n_inputs);
    json_values(j, "outputs", g, g->outputs, g->n_outputs);
    qn_jw_begin(j, "blocks", '[');
    for (uint32_t b = 0; b < g->n_blocks; b++) {
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "name", g->blocks[b].name);
        qn_jw_text(j, "like", g->blocks[leader[b]].name);
        qn_jw_begin(j, "nodes", '[');
        for (uint32_t i = 0; i < g->blocks[b].n_nodes; i++) {
            const qn_node *n = &g->nodes[g->blocks[b].first_node + i];
            qn_jw_begin(j, NULL, '{');
            qn_jw_text(j, "name", n->name);
            qn_jw_text(j, "operator", n->type);
            qn_jw_text(j, "domain", n->domain);
            qn_jw_bool(j, "known", n->op && n->op->forward);
            json_values(j, "inputs", g, n->in, n->n_in);
            json_values(j, "outputs", g, n->out, n->n_out);
            qn_jw_end(j, '}');
        }
        qn_jw_end(j, ']');
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
    qn_jw_end(j, '}');
    return QN_OK;
}
