/* emit_look.c: what the graph says of a language model's layers: heads, widths, experts, and which axis of which weight each is read off. See emit_plan.h. */
#include "base/err.h"
#include "base/num.h"
#include "compress/prune/emit_plan.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is(const qn_node *n, const char *type)
{
    return !strcmp(n->domain, "quern") && !strcmp(n->type, type);
}

int64_t qn_emit_layer_of(const qn_graph *g, uint32_t block)
{
    const char *name = g->blocks[block].name;
    return !strncmp(name, "layers.", 7) && isdigit((unsigned char)name[7]) ? strtol(name + 7, NULL, 10) : -1;
}

/* The product with a weight that reads a value, or NULL. */
static const qn_node *product_of(const qn_graph *g, uint32_t value)
{
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (is(&g->nodes[i], "Linear") && g->nodes[i].in[0] == value && g->values[g->nodes[i].in[1]].kind == QN_VALUE_WEIGHT)
            return &g->nodes[i];
    return NULL;
}

static void anchor(qn_emit_plan *p, uint32_t value, unsigned axis, qn_emit_width what, uint32_t layer)
{
    p->weights[value].anchor = (uint8_t)what;
    p->weights[value].anchor_axis = (uint8_t)axis;
    p->weights[value].layer = layer;
}

/* The axis that a product sums over is read off as a width of the layer. */
static void read_off(qn_emit_plan *p, const qn_node *product, qn_emit_width what, uint32_t layer)
{
    const unsigned axis = strcmp(qn_node_string(product, "layout", "out_in"), "in_out") ? 1 : 0;
    anchor(p, product->in[1], axis, what, layer);
    p->layers[layer].old[what] = (uint64_t)p->g->values[product->in[1]].dims[axis];
}

static void look_at_attention(qn_emit_plan *p, const qn_node *n, uint32_t layer)
{
    qn_emit_layer *l = &p->layers[layer];
    const qn_node *out = product_of(p->g, n->out[0]);
    l->attention = (uint32_t)(n - p->g->nodes);
    l->heads = (uint64_t)qn_node_int(n, "heads", 0);
    l->kv_heads = (uint64_t)qn_node_int(n, "kv_heads", (int64_t)l->heads);
    l->head_dim = (uint64_t)qn_node_int(n, "head_dim", 0);
    l->window = (uint64_t)qn_node_int(n, "window", 0);
    if (!out || n->n_in > 4) /* slopes are one number per head, made from their count */
        return;
    read_off(p, out, QN_EMIT_HEADS, layer);
    l->old[QN_EMIT_HEADS] = l->heads;
}

static void router_rows(qn_emit_plan *p, uint32_t value, uint32_t layer)
{
    if (value == QN_NO_VALUE || p->g->values[value].kind != QN_VALUE_WEIGHT)
        return;
    anchor(p, value, 0, QN_EMIT_EXPERTS, layer);
    p->weights[value].by_expert = true;
}

static qn_code look_at_experts(qn_emit_plan *p, const qn_node *n, uint32_t layer, qn_err *err)
{
    qn_emit_layer *l = &p->layers[layer];
    const qn_graph *g = p->g;
    const uint64_t e = (uint64_t)qn_node_int(n, "experts", 0);
    const bool separate = !strcmp(qn_node_string(n, "layout", ""), "separate");
    l->experts = (uint32_t)(n - g->nodes);
    l->old[QN_EMIT_EXPERTS] = e;
    p->top_k = (uint64_t)qn_node_int(n, "top_k", 0);
    l->expert_to = qn_arena_get(&p->arena, e * sizeof *l->expert_to + 1, 4, err);
    if (!l->expert_to)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < e; i++)
        l->expert_to[i] = (uint32_t)i;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (unsigned k = 0; k < g->nodes[i].n_out; k++)
            if (g->nodes[i].out[k] == n->in[1] && is(&g->nodes[i], "Linear")) {
                router_rows(p, g->nodes[i].in[1], layer);
                if (g->nodes[i].n_in > 2)
                    router_rows(p, g->nodes[i].in[2], layer);
            }
    for (unsigned i = 2; i < n->n_in; i++) {
        qn_emit_weight *w = &p->weights[n->in[i]];
        w->layer = layer;
        w->by_expert = !separate;
        if (separate)
            w->expert = (uint32_t)((i - 2) % e);
        /* the last of gate, up, down (or of the fused pair) sums over the experts' width */
        if (separate ? i - 2 >= 2 * e : i + 1 == n->n_in) {
            const unsigned axis = separate ? 1 : 2;
            anchor(p, n->in[i], axis, QN_EMIT_EXPERT_FFN, layer);
            l->old[QN_EMIT_EXPERT_FFN] = (uint64_t)g->values[n->in[i]].dims[axis];
        }
    }
    return QN_OK;
}

/* An activation that a product reads is the middle of a feed-forward part; beside experts it is that of the one all tokens go to. */
static void look_at_ffn(qn_emit_plan *p, const qn_node *n, uint32_t layer)
{
    const qn_node *down = product_of(p->g, n->out[0]);
    if (down)
        read_off(p, down, p->layers[layer].experts != QN_NO_NODE ? QN_EMIT_SHARED_FFN : QN_EMIT_FFN, layer);
}

static qn_code look_at_nodes(qn_emit_plan *p, qn_err *err)
{
    const qn_graph *g = p->g;
    for (unsigned pass = 0; pass < 2; pass++) /* experts first: they decide what an activation beside them is */
        for (uint32_t i = 0; i < g->n_nodes; i++) {
            const qn_node *n = &g->nodes[i];
            const int64_t layer = qn_emit_layer_of(g, n->block);
            if (layer < 0 || layer >= p->n_layers)
                continue;
            if (pass == 0 && is(n, "Attention"))
                look_at_attention(p, n, (uint32_t)layer);
            else if (pass == 0 && is(n, "Experts"))
                QN_TRY(look_at_experts(p, n, (uint32_t)layer, err));
            else if (pass == 1 && (is(n, "Gated") || is(n, "Act")))
                look_at_ffn(p, n, (uint32_t)layer);
        }
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (is(&g->nodes[i], "Embed") && g->nodes[i].in[0] == g->inputs[0]) {
            anchor(p, g->nodes[i].in[1], 1, QN_EMIT_HIDDEN, 0);
            p->old[QN_EMIT_HIDDEN] = (uint64_t)g->values[g->nodes[i].in[1]].dims[1];
        }
    return QN_OK;
}

/* "model.layers." from the first weight of a layer. */
static qn_code find_prefix(qn_emit_plan *p, qn_err *err)
{
    const qn_graph *g = p->g;
    for (uint32_t i = 0; i < g->n_nodes && !p->prefix; i++) {
        const int64_t layer = qn_emit_layer_of(g, g->nodes[i].block);
        for (unsigned k = 0; layer >= 0 && k < g->nodes[i].n_in && !p->prefix; k++) {
            const uint32_t v = g->nodes[i].in[k];
            char part[32];
            snprintf(part, sizeof part, ".%" PRId64 ".", layer);
            const char *at = v != QN_NO_VALUE && g->values[v].kind == QN_VALUE_WEIGHT ? strstr(g->values[v].name, part) : NULL;
            if (at && !(p->prefix = qn_arena_str(&p->arena, g->values[v].name, (size_t)(at - g->values[v].name) + 1, err)))
                return QN_E_MEMORY;
        }
    }
    return QN_OK;
}

/* Which value a tensor is. A head's own tensor that the graph does not read, because it equals the embedding's, is cut like that. */
static qn_code map_tensors(qn_emit_plan *p, qn_err *err)
{
    const qn_graph *g = p->g;
    const qn_source *s = g->source;
    p->value_of = qn_arena_get(&p->arena, (s->n_tensors + 1) * sizeof *p->value_of, 4, err);
    if (!p->value_of)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < s->n_tensors; i++)
        p->value_of[i] = QN_NO_VALUE;
    for (uint32_t v = 0; v < g->n_values; v++)
        if (g->values[v].kind == QN_VALUE_WEIGHT)
            p->value_of[g->values[v].tensor] = v;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        char name[256];
        if (!is(&g->nodes[i], "Linear") || qn_emit_layer_of(g, g->nodes[i].block) >= 0)
            continue;
        snprintf(name, sizeof name, "%s.weight", g->nodes[i].name);
        const uint64_t t = qn_source_tensor_find(s, name);
        if (t != UINT64_MAX && p->value_of[t] == QN_NO_VALUE)
            p->value_of[t] = g->nodes[i].in[1];
    }
    return QN_OK;
}

/* A family is what one of its weights' axes is anchored as. */
static qn_code name_families(qn_emit_plan *p, const qn_groups *s, qn_err *err)
{
    p->width_of = qn_arena_get(&p->arena, (uint64_t)s->n_families + 1, 1, err);
    if (!p->width_of)
        return QN_E_MEMORY;
    for (uint32_t f = 0; f < s->n_families; f++) {
        p->width_of[f] = QN_EMIT_OTHER;
        for (uint32_t m = 0; m < s->families[f].n_members && p->width_of[f] == QN_EMIT_OTHER; m++) {
            const qn_member *x = &s->families[f].members[m];
            const qn_emit_weight *w = &p->weights[x->value];
            if (w->anchor != QN_EMIT_OTHER && w->anchor_axis == x->axis)
                p->width_of[f] = w->anchor;
        }
    }
    return QN_OK;
}

static const qn_emit_arch *find_arch(const qn_graph *g, bool gguf)
{
    for (const qn_emit_arch *a = qn_emit_archs; a->family; a++)
        if (a->gguf == gguf && !strcmp(a->family, g->family))
            return a;
    return NULL;
}

qn_code qn_emit_plan_look(const qn_env *env, const qn_graph *g, const qn_groups *s, bool gguf, qn_emit_plan *p, qn_err *err)
{
    memset(p, 0, sizeof *p);
    qn_arena_init(&p->arena, env->alloc);
    p->env = env;
    p->g = g;
    p->arch = find_arch(g, gguf);
    p->eps = -1;
    for (uint32_t b = 0; b < g->n_blocks; b++)
        p->n_layers += qn_emit_layer_of(g, b) >= 0;
    p->layers = qn_arena_get(&p->arena, ((uint64_t)p->n_layers + 1) * sizeof *p->layers, 8, err);
    p->weights = qn_arena_get(&p->arena, ((uint64_t)g->n_values + 1) * sizeof *p->weights, 8, err);
    if (!p->layers || !p->weights)
        return QN_E_MEMORY;
    memset(p->layers, 0, p->n_layers * sizeof *p->layers);
    for (uint32_t i = 0; i < p->n_layers; i++)
        p->layers[i].to = i, p->layers[i].attention = p->layers[i].experts = QN_NO_NODE;
    for (uint32_t v = 0; v < g->n_values; v++)
        p->weights[v] = (qn_emit_weight){.expert = QN_EMIT_GONE, .scale = 1};
    QN_TRY(look_at_nodes(p, err));
    QN_TRY(find_prefix(p, err));
    QN_TRY(map_tensors(p, err));
    return s ? name_families(p, s, err) : QN_OK;
}

void qn_emit_plan_release(qn_emit_plan *p)
{
    if (p->env)
        qn_arena_release(&p->arena);
    memset(p, 0, sizeof *p);
}
