/* graph_svg.c: the graph as a drawing: one box a node, top to bottom, in layers (a node lies below all that it reads), each
 * layer ordered by where its inputs stand (the barycentre rule of Sugiyama, Tagawa and Toda 1981, one sweep down). Blocks that are
 * alike are drawn once, in a frame that says how many there are. */
#include "analysis/graph/repeat.h"
#include "base/err.h"
#include "cli/graph_report.h"
#include "cli/markup.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BOX_W = 190, BOX_H = 46, GAP_X = 26, GAP_Y = 34, GAP_BLOCK = 22, MARGIN = 40, FRAME = 14 };

struct box {
    uint32_t node, layer, group; /* group: blocks drawn before this one */
    double x, y, want; /* want: mean x of what it reads */
};

struct drawing {
    const qn_graph *g;
    const char *const *colors; /* per node, or NULL */
    qn_outfile *out;
    qn_code rc;         /* the first failure of writing; nothing is written after it */
    qn_err *err;
    uint32_t *leader;   /* per block */
    uint32_t *box_of;   /* per node: its box, or that of its double in the block that is drawn */
    struct box *boxes;
    uint32_t n_boxes, n_layers, n_groups;
    double width;
};

static void put(struct drawing *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct drawing *d, const char *fmt, ...)
{
    char s[2048]; /* the style sheet is the longest */
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    if (d->rc == QN_OK)
        d->rc = n >= 0 && (size_t)n < sizeof s ? qn_outfile_add(d->out, s, (uint64_t)n, d->err) : QN_BUG(d->err, "a piece of a drawing is too long");
}

enum { NAME_MOST = 200 };

/* At most `most` bytes of a name; its end says more than its beginning. */
static void text(struct drawing *d, const char *s, size_t most)
{
    char name[4 * NAME_MOST + 1], escaped[6 * sizeof name];
    const size_t n = strlen(s);
    const char *from = n > most ? s + n - most : s;
    while (((unsigned char)*from & 0xc0) == 0x80)
        from++;
    qn_printable(name, sizeof name, from, strlen(from));
    size_t at = 0;
    for (const char *c = name; *c; c++) {
        const char *as = qn_markup_entity(*c);
        const size_t len = as ? strlen(as) : 1;
        memcpy(escaped + at, as ? as : c, len);
        at += len;
    }
    escaped[at] = '\0';
    if (d->rc == QN_OK && from != s)
        d->rc = qn_outfile_add(d->out, "\xe2\x80\xa6", 3, d->err);
    if (d->rc == QN_OK)
        d->rc = qn_outfile_add(d->out, escaped, at, d->err);
}

static const char *style_of(const qn_node *n)
{
    if (!n->op || !n->op->forward)
        return "opaque";
    switch ((qn_axis_rule)n->op->axis) {
    case QN_AXIS_LINEAR:
    case QN_AXIS_GEMM:
    case QN_AXIS_MATMUL:
    case QN_AXIS_EINSUM:
    case QN_AXIS_CONV:
    case QN_AXIS_CONV_TRANSPOSE:
    case QN_AXIS_EMBED:
    case QN_AXIS_EXPERTS: return "product";
    case QN_AXIS_ROPE:
    case QN_AXIS_ATTENTION:
    case QN_AXIS_SCAN: return "mixer";
    case QN_AXIS_NORM:
    case QN_AXIS_LM_NORM:
    case QN_AXIS_GROUP_NORM:
    case QN_AXIS_ALONG:
    case QN_AXIS_UNIT:
    case QN_AXIS_LRN:
    case QN_AXIS_MVN:
    case QN_AXIS_BATCH_NORM: return "norm";
    default: return "plain";
    }
}

/* The node that stands for `node` in the drawing. */
static uint32_t drawn(const struct drawing *d, uint32_t node)
{
    const qn_graph *g = d->g;
    const uint32_t b = g->nodes[node].block, lead = d->leader[b];
    return g->blocks[lead].first_node + (node - g->blocks[b].first_node);
}

static void place_layers(struct drawing *d)
{
    const qn_graph *g = d->g;
    uint32_t block_top = 0, current = UINT32_MAX, group = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        if (d->leader[n->block] != n->block) {
            d->box_of[i] = d->box_of[drawn(d, i)];
            continue;
        }
        if (n->block != current) { /* a block begins below all before it, so that frames do not overlap */
            block_top = d->n_layers;
            group += current != UINT32_MAX;
            current = n->block;
        }
        uint32_t layer = block_top;
        for (unsigned k = 0; k < n->n_in; k++) {
            if (n->in[k] == QN_NO_VALUE || g->values[n->in[k]].kind != QN_VALUE_NODE)
                continue;
            const struct box *from = &d->boxes[d->box_of[g->values[n->in[k]].node]];
            layer = from->layer + 1 > layer ? from->layer + 1 : layer;
        }
        d->box_of[i] = d->n_boxes;
        d->boxes[d->n_boxes++] = (struct box){.node = i, .layer = layer, .group = group};
        d->n_groups = group + 1;
        d->n_layers = layer + 1 > d->n_layers ? layer + 1 : d->n_layers;
    }
}

static int by_want(const void *a, const void *b)
{
    const struct box *x = *(struct box *const *)a, *y = *(struct box *const *)b;
    if (x->want < y->want || x->want > y->want)
        return x->want < y->want ? -1 : 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

static double mean_of_inputs(const struct drawing *d, const struct box *b)
{
    const qn_node *n = &d->g->nodes[b->node];
    double sum = 0;
    unsigned count = 0;
    for (unsigned k = 0; k < n->n_in; k++)
        if (n->in[k] != QN_NO_VALUE && d->g->values[n->in[k]].kind == QN_VALUE_NODE) {
            const struct box *from = &d->boxes[d->box_of[d->g->values[n->in[k]].node]];
            if (from->layer < b->layer) {
                sum += from->x;
                count++;
            }
        }
    return count ? sum / count : 0;
}

static qn_code place_columns(struct drawing *d, qn_arena *arena, qn_err *err)
{
    struct box **row = qn_arena_get(arena, ((uint64_t)d->n_boxes + 1) * sizeof *row, 8, err);
    uint32_t *first = qn_arena_get(arena, ((uint64_t)d->n_layers + 2) * sizeof *first, 4, err);
    if (!row || !first)
        return QN_E_MEMORY;
    memset(first, 0, ((size_t)d->n_layers + 2) * sizeof *first);
    for (uint32_t i = 0; i < d->n_boxes; i++)
        first[d->boxes[i].layer + 1]++;
    for (uint32_t l = 0; l < d->n_layers; l++)
        first[l + 1] += first[l];
    uint32_t *at = qn_arena_get(arena, ((uint64_t)d->n_layers + 1) * sizeof *at, 4, err);
    if (!at)
        return QN_E_MEMORY;
    memcpy(at, first, ((size_t)d->n_layers + 1) * sizeof *at);
    for (uint32_t i = 0; i < d->n_boxes; i++)
        row[at[d->boxes[i].layer]++] = &d->boxes[i];
    for (uint32_t l = 0; l < d->n_layers; l++) {
        const uint32_t n = first[l + 1] - first[l];
        for (uint32_t i = 0; i < n; i++)
            row[first[l] + i]->want = mean_of_inputs(d, row[first[l] + i]);
        qsort(row + first[l], n, sizeof *row, by_want);
        const double span = (double)n * BOX_W + (double)(n - 1) * GAP_X;
        double middle = 0;
        for (uint32_t i = 0; i < n; i++)
            middle += row[first[l] + i]->want / n;
        for (uint32_t i = 0; i < n; i++) {
            struct box *b = row[first[l] + i];
            b->x = middle - span / 2 + (double)i * (BOX_W + GAP_X) + BOX_W / 2.0;
            b->y = MARGIN + 40 + (double)l * (BOX_H + GAP_Y) + (double)b->group * GAP_BLOCK;
        }
    }
    double least = 0, most = 0;
    for (uint32_t i = 0; i < d->n_boxes; i++) {
        least = d->boxes[i].x < least ? d->boxes[i].x : least;
        most = d->boxes[i].x > most ? d->boxes[i].x : most;
    }
    for (uint32_t i = 0; i < d->n_boxes; i++)
        d->boxes[i].x += MARGIN + FRAME + BOX_W / 2.0 - least;
    d->width = most - least + BOX_W + 2 * (MARGIN + FRAME) + 60;
    return QN_OK;
}

static void head(struct drawing *d, const char *title, double height)
{
    const double width = d->width < 480 ? 480 : d->width;
    put(d, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" font-family=\"sans-serif\">\n",
            width, height, width, height);
    put(d, "%s", "<style>\n"
          "svg{background:#fff}.b{stroke:#5b6470;stroke-width:1}.product{fill:#cfe3f7}.mixer{fill:#f6d7c3}.norm{fill:#dcebd3}"
          ".plain{fill:#eceef1}.opaque{fill:#f7c9cf}.t{font-size:13px;font-weight:600;fill:#1c2128}.s{font-size:10px;fill:#4a525c}"
          ".e{fill:none;stroke:#7b8490;stroke-width:1.2}.f{fill:none;stroke:#a8b0ba;stroke-dasharray:4 3}.h{font-size:12px;fill:#4a525c}"
          ".c{font-size:17px;font-weight:600;fill:#1c2128}\n"
          "@media (prefers-color-scheme:dark){svg{background:#15191e}.b{stroke:#8a94a0}.product{fill:#1f4467}.mixer{fill:#6b3f24}"
          ".norm{fill:#314d25}.plain{fill:#2b323a}.opaque{fill:#6d2530}.t,.c{fill:#eef1f4}.s,.h{fill:#b6bfc9}.e{stroke:#8a94a0}.f{stroke:#5b6470}.k{fill:#1c2128}}\n"
          "</style>\n<text class=\"c\" x=\"40\" y=\"34\">");
    text(d, title, 120);
    put(d, "</text>\n");
}

static void frames(struct drawing *d)
{
    const qn_graph *g = d->g;
    for (uint32_t b = 0; b < g->n_blocks && g->n_blocks > 1; b++) {
        if (d->leader[b] != b || !g->blocks[b].n_nodes)
            continue;
        uint32_t end = b + 1;
        while (end < g->n_blocks && d->leader[end] == b)
            end++;
        double x0 = 1e30, x1 = 0, y0 = 1e30, y1 = 0;
        for (uint32_t i = 0; i < g->blocks[b].n_nodes; i++) {
            const struct box *x = &d->boxes[d->box_of[g->blocks[b].first_node + i]];
            x0 = x->x - BOX_W / 2.0 < x0 ? x->x - BOX_W / 2.0 : x0;
            x1 = x->x + BOX_W / 2.0 > x1 ? x->x + BOX_W / 2.0 : x1;
            y0 = x->y < y0 ? x->y : y0;
            y1 = x->y + BOX_H > y1 ? x->y + BOX_H : y1;
        }
        put(d, "<rect class=\"f\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"8\"/>\n<text class=\"h\" x=\"%.1f\" y=\"%.1f\">", x0 - FRAME,
                y0 - FRAME, x1 - x0 + 2 * FRAME, y1 - y0 + 2 * FRAME - 2, x0 - FRAME + 4, y0 - FRAME - 3);
        text(d, g->blocks[b].name, 60);
        if (end - b > 1) {
            put(d, " to ");
            text(d, g->blocks[end - 1].name, 60);
            put(d, " (%u alike)", end - b);
        }
        put(d, "</text>\n");
    }
}

static void edges(struct drawing *d)
{
    const qn_graph *g = d->g;
    for (uint32_t i = 0; i < d->n_boxes; i++) {
        const struct box *to = &d->boxes[i];
        const qn_node *n = &g->nodes[to->node];
        for (unsigned k = 0; k < n->n_in; k++) {
            if (n->in[k] == QN_NO_VALUE || g->values[n->in[k]].kind != QN_VALUE_NODE)
                continue;
            const struct box *from = &d->boxes[d->box_of[g->values[n->in[k]].node]];
            if (from->layer >= to->layer)
                continue;
            const double y0 = from->y + BOX_H, dy = to->y - y0;
            /* A line over several layers bends around the boxes between. */
            const double bend = to->layer - from->layer > 1 ? (BOX_W / 2.0 + GAP_X / 2.0) * 4 / 3 : 0; /* a cubic goes ¾ of the way */
            put(d, "<path class=\"e\" d=\"M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f\"/>\n", from->x, y0, from->x + bend, y0 + dy * 0.45,
                    to->x + bend, to->y - dy * 0.45, to->x, to->y);
        }
    }
}

static void boxes(struct drawing *d)
{
    const qn_graph *g = d->g;
    for (uint32_t i = 0; i < d->n_boxes; i++) {
        const struct box *b = &d->boxes[i];
        const qn_node *n = &g->nodes[b->node];
        char weight[160] = "", out[160] = "";
        for (unsigned k = 0; k < n->n_in && !*weight; k++)
            if (n->in[k] != QN_NO_VALUE && g->values[n->in[k]].kind == QN_VALUE_WEIGHT && g->values[n->in[k]].rank >= 2)
                qn_value_text(weight, sizeof weight, &g->values[n->in[k]]);
        if (n->n_out && n->out[0] != QN_NO_VALUE)
            qn_value_text(out, sizeof out, &g->values[n->out[0]]);
        put(d, "<g><title>");
        text(d, n->name, 200);
        if (*out) {
            put(d, " \xe2\x86\x92 ");
            text(d, out, 100);
        }
        const char *color = d->colors ? d->colors[b->node] : NULL;
        put(d, "</title><rect class=\"b %s\" x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"%d\" rx=\"6\"", d->colors ? "plain" : style_of(n),
            b->x - BOX_W / 2.0, b->y, BOX_W, BOX_H);
        if (color) /* the text on it is dark whatever the viewer prefers */
            put(d, " style=\"fill:%s\"", color);
        put(d, "/>");
        put(d, "<text class=\"t%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", color ? " k" : "", b->x, b->y + 19);
        text(d, n->type, 24);
        const char *paren = strchr(weight, '(');
        if (paren) {
            put(d, " ");
            text(d, paren, 20);
        }
        put(d, "</text><text class=\"s%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", color ? " k" : "", b->x, b->y + 35);
        text(d, n->name, 30);
        put(d, "</text></g>\n");
    }
}

qn_code qn_graph_svg(qn_cli *cli, const qn_graph *g, const char *title, const char *const *colors, qn_outfile *out, qn_err *err)
{
    struct drawing d = {.g = g, .colors = colors, .out = out, .err = err};
    d.leader = qn_arena_get(&cli->arena, ((uint64_t)g->n_blocks + 1) * sizeof *d.leader, 4, err);
    d.box_of = qn_arena_get(&cli->arena, ((uint64_t)g->n_nodes + 1) * sizeof *d.box_of, 4, err);
    d.boxes = qn_arena_get(&cli->arena, ((uint64_t)g->n_nodes + 1) * sizeof *d.boxes, 8, err);
    if (!d.leader || !d.box_of || !d.boxes)
        return QN_E_MEMORY;
    qn_graph_repeats(g, d.leader);
    place_layers(&d);
    QN_TRY(place_columns(&d, &cli->arena, err));
    head(&d, title, 2 * MARGIN + 40 + (double)d.n_layers * (BOX_H + GAP_Y) + (double)d.n_groups * GAP_BLOCK);
    frames(&d);
    edges(&d);
    boxes(&d);
    put(&d, "</svg>\n");
    return d.rc;
}
