/* build_onnx_blocks.c: where an ONNX graph is cut into blocks, whose weights are in memory at a time.
 *
 * ONNX knows no layers. A good place to cut is where a single value crosses: all that came before goes on through it. So a block
 * ends at the first such place once it has BLOCK_BYTES of weights; past FAR times that, where few values cross, then anywhere. */
#include "analysis/graph/onnx_build.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <stdio.h>

enum { BLOCK_BYTES = 16 << 20, FAR = 4, FEW = 4 };

/* Weights are held as 32-bit numbers. */
static uint64_t weight_bytes(const qn_value *v)
{
    bool ovf = false;
    uint64_t n = 4;
    for (unsigned k = 0; k < v->rank; k++)
        n = qn_mul(n, (uint64_t)v->dims[k], &ovf);
    return ovf ? UINT64_MAX / 2 : n;
}

struct cut {
    qn_graph *g;
    uint32_t *last;   /* per value: node that reads it last; the number of nodes for outputs */
    uint8_t *seen;    /* per value: its weight has been counted */
    uint32_t *ending; /* per node: values that nobody reads after it */
};

static void use(struct cut *c, uint32_t value, uint32_t node)
{
    if (value != QN_NO_VALUE && c->g->values[value].kind == QN_VALUE_NODE)
        c->last[value] = node;
}

static void find_uses(struct cut *c)
{
    qn_graph *g = c->g;
    for (uint32_t i = 0; i < g->n_values; i++)
        c->last[i] = g->values[i].kind == QN_VALUE_NODE ? g->values[i].node : QN_NO_NODE;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        for (unsigned k = 0; k < n->n_in; k++)
            use(c, n->in[k], i);
        for (unsigned k = 0; k < n->n_attrs; k++)
            for (uint32_t v = 0; n->attrs[k].type == QN_ATTR_GRAPH && v < n->attrs[k].v.graph->n_values; v++)
                if (n->attrs[k].v.graph->values[v].kind == QN_VALUE_OUTER)
                    use(c, n->attrs[k].v.graph->values[v].outer, i);
    }
    for (uint32_t i = 0; i < g->n_outputs; i++)
        use(c, g->outputs[i], g->n_nodes);
    for (uint32_t i = 0; i < g->n_values; i++)
        if (c->last[i] < g->n_nodes)
            c->ending[c->last[i]]++;
}

static qn_code cut(struct cut *c, qn_err *err)
{
    qn_graph *g = c->g;
    uint64_t n_bytes = 0;
    uint32_t live = 0;
    find_uses(c);
    g->n_blocks = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        qn_node *n = &g->nodes[i];
        /* Before node i: `live` values cross. */
        if (i == 0 || (n_bytes >= BLOCK_BYTES && live <= 1) || (n_bytes >= FAR * (uint64_t)BLOCK_BYTES && live <= FEW) ||
            n_bytes >= 2 * FAR * (uint64_t)BLOCK_BYTES) {
            char name[32];
            snprintf(name, sizeof name, "part.%" PRIu32, g->n_blocks);
            QN_TRY(qn_graph_begin_block(g, name, err));
            g->blocks[g->n_blocks - 1].first_node = i;
            n_bytes = 0;
        }
        n->block = g->n_blocks - 1;
        g->blocks[n->block].n_nodes++;
        for (unsigned k = 0; k < n->n_in; k++) {
            const uint32_t v = n->in[k];
            if (v == QN_NO_VALUE || g->values[v].kind != QN_VALUE_WEIGHT || c->seen[v])
                continue;
            c->seen[v] = 1;
            n_bytes += weight_bytes(&g->values[v]);
        }
        for (unsigned k = 0; k < n->n_out; k++)
            live += n->out[k] != QN_NO_VALUE;
        live -= c->ending[i];
    }
    return g->n_blocks ? QN_OK : qn_graph_begin_block(g, "part.0", err);
}

qn_code qn_onnx_cut_blocks(qn_onnx_build *b, qn_graph *g, qn_err *err)
{
    const qn_alloc *a = b->env->alloc;
    struct cut c = {.g = g, .last = qn_mem_get(a, ((uint64_t)g->n_values + 1) * sizeof *c.last, err)};
    qn_code rc = QN_E_MEMORY;
    if (c.last && (c.seen = qn_mem_zeros(a, (uint64_t)g->n_values + 1, 1, err)) &&
        (c.ending = qn_mem_zeros(a, (uint64_t)g->n_nodes + 1, sizeof *c.ending, err)))
        rc = cut(&c, err);
    qn_mem_put(a, c.last);
    qn_mem_put(a, c.seen);
    qn_mem_put(a, c.ending);
    return rc;
}
