/* plan.c: which products are refitted, in what order, and the graph cut into blocks that end where their inputs are known. */
#include "base/err.h"
#include "compress/prune/repair_impl.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Users of a value among the nodes; *node: the last. */
static uint32_t users(const qn_graph *g, uint32_t value, uint32_t *node)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (unsigned k = 0; k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] == value) {
                n++;
                *node = i;
            }
    return n;
}

/* How a product reads its weight; n_parts 0: not in a way that is known here. */
struct reading {
    uint32_t n_parts, d, m;
    uint64_t part_step, row_step, col_step;
    double gain;     /* of the product over W x */
    double beta;     /* of the bias             */
    bool biased;     /* a bias is one number per output */
};

static uint64_t prod(const qn_value *v, unsigned from, unsigned to)
{
    uint64_t n = 1;
    for (unsigned i = from; i < to; i++)
        n *= (uint64_t)v->dims[i];
    return n;
}

static void set(struct reading *r, uint64_t parts, uint64_t d, uint64_t m, bool out_in)
{
    if (parts == 0 || d == 0 || m == 0 || parts > UINT32_MAX / 2 || d > INT32_MAX / 2 || m > INT32_MAX / 2)
        return;
    *r = (struct reading){.n_parts = (uint32_t)parts, .d = (uint32_t)d, .m = (uint32_t)m, .part_step = d * m, .row_step = out_in ? d : 1,
                          .col_step = out_in ? 1 : m, .gain = 1, .beta = 1, .biased = true};
}

static struct reading reading_of(const qn_graph *g, uint32_t node, uint32_t weight)
{
    struct reading r = {0};
    const qn_node *n = &g->nodes[node];
    const qn_value *v = &g->values[weight];
    if (n->n_in < 2 || n->in[1] != weight || v->kind != QN_VALUE_WEIGHT || v->dtype != QN_F32 || v->rank < 1)
        return r;
    if (!strcmp(n->type, "Linear") && v->rank == 2) {
        const bool in_out = !strcmp(qn_node_string(n, "layout", "out_in"), "in_out");
        set(&r, 1, prod(v, in_out ? 0 : 1, in_out ? 1 : 2), prod(v, in_out ? 1 : 0, in_out ? 2 : 1), !in_out);
    } else if (!strcmp(n->type, "Gemm") && v->rank == 2) {
        const bool t = qn_node_int(n, "transB", 0) != 0;
        set(&r, 1, prod(v, t ? 1 : 0, t ? 2 : 1), prod(v, t ? 0 : 1, t ? 1 : 2), t);
        r.gain = qn_node_float(n, "alpha", 1);
        r.beta = qn_node_float(n, "beta", 1);
        r.biased = r.beta != 0;
    } else if (!strcmp(n->type, "MatMul")) {
        const unsigned k = v->rank;
        set(&r, k > 2 ? prod(v, 0, k - 2) : 1, prod(v, k > 1 ? k - 2 : 0, k > 1 ? k - 1 : 1), k > 1 ? prod(v, k - 1, k) : 1, false);
        r.biased = r.n_parts == 1;
    } else if (!strcmp(n->type, "Conv") && v->rank >= 3) {
        const int64_t groups = qn_node_int(n, "group", 1);
        if (groups >= 1 && v->dims[0] % groups == 0)
            set(&r, (uint64_t)groups, prod(v, 1, v->rank), (uint64_t)(v->dims[0] / groups), true);
    } else if (!strcmp(n->type, "ConvTranspose") && v->rank >= 3 && qn_node_int(n, "group", 1) == 1) {
        set(&r, 1, prod(v, 0, 1), prod(v, 1, v->rank), false);
        r.biased = false; /* its outputs overlap: the bias of one tap is not a bias of the sum */
    }
    return r;
}

/* A bias that can take the mean: a weight of one element per output, which only this product's sum reads. */
static uint32_t bias_of(const qn_graph *g, const qn_consumer *c, const struct reading *r)
{
    uint32_t node = 0;
    if (!r->biased || c->bias == QN_NO_VALUE || c->bias >= g->n_values)
        return QN_NO_VALUE;
    const qn_value *v = &g->values[c->bias];
    if (v->kind != QN_VALUE_WEIGHT || v->dtype != QN_F32 || qn_value_elems(v) != (uint64_t)r->m * r->n_parts || users(g, c->bias, &node) != 1)
        return QN_NO_VALUE;
    return c->bias;
}

static qn_code add_units(qn_repair_plan *p, uint64_t *cap, const qn_env *env, const qn_consumer *c, qn_err *err)
{
    const struct reading r = reading_of(p->graph, c->node, c->weight);
    uint32_t node = 0;
    if (r.n_parts == 0)
        return QN_OK;
    qn_unit *grown = qn_mem_grow(env->alloc, p->units, p->n_units, cap, (uint64_t)p->n_units + r.n_parts, sizeof *p->units, err);
    if (!grown)
        return QN_E_MEMORY;
    p->units = grown;
    const bool shared = users(p->graph, c->weight, &node) > 1;
    const uint32_t bias = bias_of(p->graph, c, &r);
    p->unit_of[c->weight] = p->n_units;
    for (uint32_t k = 0; k < r.n_parts; k++)
        p->units[p->n_units++] = (qn_unit){.weight = c->weight, .part = k, .node = c->node, .d = r.d, .m = r.m, .first = k * r.part_step,
                                           .row_step = r.row_step, .col_step = r.col_step, .bias = bias, .bias_first = (uint64_t)k * r.m,
                                           .bias_gain = r.beta != 0 ? r.gain / r.beta : 0, .rate = 1,
                                           .no_refit = shared ? "the weight is read by several operators" : NULL};
    return QN_OK;
}

static int by_place(const void *a, const void *b)
{
    const qn_unit *x = a, *y = b;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return x->part < y->part ? -1 : x->part > y->part;
}

/* Units in the order of their nodes; neighbours that read one value are one stage. */
static void find_stages(qn_repair_plan *p)
{
    const qn_graph *g = p->graph;
    if (p->n_units)
        qsort(p->units, p->n_units, sizeof *p->units, by_place);
    p->n_stages = 0;
    for (uint32_t i = 0; i < p->n_units; i++) {
        const bool same = i && g->nodes[p->units[i].node].in[0] == g->nodes[p->units[i - 1].node].in[0];
        p->n_stages += !same;
        p->units[i].stage = p->n_stages - 1;
    }
    for (uint32_t i = p->n_units; i-- > 0;)
        p->unit_of[p->units[i].weight] = i;
}

/* Each stage ends a block; what lies behind the last one is a block that nobody runs. */
static qn_code cut_blocks(qn_repair_plan *p, qn_err *err)
{
    const qn_graph *g = p->graph;
    qn_graph_block *b = qn_arena_get(&p->arena, ((uint64_t)p->n_stages + 1) * sizeof *b, 8, err);
    if (!b)
        return QN_E_MEMORY;
    uint32_t at = 0, n = 0;
    for (uint32_t i = 0; i < p->n_units; i++) {
        if (i + 1 < p->n_units && p->units[i + 1].stage == p->units[i].stage)
            continue;
        b[n++] = (qn_graph_block){.name = g->nodes[p->units[i].node].name, .first_node = at, .n_nodes = p->units[i].node + 1 - at};
        at = p->units[i].node + 1;
    }
    b[n++] = (qn_graph_block){.name = "rest", .first_node = at, .n_nodes = g->n_nodes - at};
    p->blocked = *g;
    p->blocked.blocks = b;
    p->blocked.n_blocks = n;
    return QN_OK;
}

static qn_code link_all(qn_repair_plan *p, const qn_env *env, const qn_groups *s, const uint8_t *wanted, qn_err *err)
{
    uint64_t cap = 0;
    for (uint32_t f = 0; f < s->n_families; f++) {
        const qn_family *fam = &s->families[f];
        p->first_link[f] = p->n_links;
        for (uint32_t k = 0; k < fam->n_consumers && wanted[f]; k++) {
            const uint32_t first = p->unit_of[fam->consumers[k].weight];
            for (uint32_t u = first; u < p->n_units && p->units[u].weight == fam->consumers[k].weight; u++) {
                qn_unit_link *grown = qn_mem_grow(env->alloc, p->links, p->n_links, &cap, (uint64_t)p->n_links + 1, sizeof *grown, err);
                if (!grown)
                    return QN_E_MEMORY;
                p->links = grown;
                p->links[p->n_links++] = (qn_unit_link){.family = f, .consumer = k, .unit = u};
            }
        }
    }
    p->first_link[s->n_families] = p->n_links;
    return QN_OK;
}

qn_code qn_repair_plan_make(qn_repair_plan *p, const qn_env *env, const qn_graph *g, const qn_groups *s, const uint8_t *wanted, qn_err *err)
{
    uint64_t cap = 0;
    *p = (qn_repair_plan){.graph = g};
    qn_arena_init(&p->arena, env->alloc);
    p->unit_of = qn_arena_get(&p->arena, ((uint64_t)g->n_values + 1) * sizeof *p->unit_of, 8, err);
    p->first_link = qn_arena_get(&p->arena, ((uint64_t)s->n_families + 1) * sizeof *p->first_link, 8, err);
    qn_code rc = p->unit_of && p->first_link ? QN_OK : QN_E_MEMORY;
    for (uint32_t v = 0; v < g->n_values && rc == QN_OK; v++)
        p->unit_of[v] = UINT32_MAX;
    for (uint32_t f = 0; f < s->n_families && rc == QN_OK; f++)
        for (uint32_t k = 0; k < s->families[f].n_consumers && wanted[f] && rc == QN_OK; k++) {
            const qn_consumer *c = &s->families[f].consumers[k];
            if (c->tapped && p->unit_of[c->weight] == UINT32_MAX)
                rc = add_units(p, &cap, env, c, err);
        }
    if (rc == QN_OK) {
        find_stages(p);
        rc = cut_blocks(p, err);
    }
    if (rc == QN_OK)
        rc = link_all(p, env, s, wanted, err);
    if (rc != QN_OK)
        qn_repair_plan_release(p);
    return rc;
}

void qn_repair_plan_release(qn_repair_plan *p)
{
    const qn_alloc *a = p->arena.alloc;
    for (uint32_t u = 0; u < p->n_units; u++)
        qn_unit_forget(&p->units[u], a);
    qn_mem_put(a, p->units);
    qn_mem_put(a, p->links);
    qn_arena_release(&p->arena);
    p->units = NULL;
    p->links = NULL;
    p->n_units = p->n_links = 0;
}

bool qn_family_has_units(const qn_repair_plan *p, uint32_t family)
{
    return p->first_link[family + 1] > p->first_link[family];
}

uint32_t qn_family_stage(const qn_repair_plan *p, uint32_t family, bool *several)
{
    uint32_t last = 0, first = UINT32_MAX;
    for (uint32_t l = p->first_link[family]; l < p->first_link[family + 1]; l++) {
        const uint32_t s = p->units[p->links[l].unit].stage;
        last = s > last ? s : last;
        first = s < first ? s : first;
    }
    *several = first != UINT32_MAX && first != last;
    return last;
}

qn_code qn_unit_columns(const qn_groups *s, const qn_unit *u, const qn_unit_link *l, qn_arena *scratch, uint32_t **start, uint32_t **cols,
                        qn_err *err)
{
    const qn_family *f = &s->families[l->family];
    const qn_consumer *c = &f->consumers[l->consumer];
    const qn_member *m = &f->members[c->member];
    const uint64_t per = c->per_index, n = m->start[f->n_groups] * per;
    *start = qn_arena_get(scratch, ((uint64_t)f->n_groups + 1) * sizeof **start, 8, err);
    *cols = *start ? qn_arena_get(scratch, (n + 1) * sizeof **cols, 8, err) : NULL;
    if (!*cols)
        return QN_E_MEMORY;
    uint32_t at = 0;
    for (uint32_t i = 0; i < f->n_groups; i++) {
        (*start)[i] = at;
        for (uint32_t k = m->start[i]; k < m->start[i + 1]; k++)
            for (uint64_t q = 0; q < per; q++) {
                const uint64_t col = m->index[k] * per + q;
                if (col >= u->d)
                    return QN_BUG(err, "family '%s': index %" PRIu32 " of '%s' is no column of its %" PRIu32, f->name, m->index[k],
                                  s->graph->values[u->weight].name, u->d);
                (*cols)[at++] = (uint32_t)col;
            }
    }
    (*start)[f->n_groups] = at;
    return QN_OK;
}
