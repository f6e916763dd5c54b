/* emit_plan.c: from a cut to the numbers of a configuration, and the reasons why it has none for some; see emit_plan.h.
 *
 * Cutting the stream's width from D to D′ leaves the sum of squares that an RMS norm divides by as it was when what went was 0, but not its mean:
 *     x / √(Σx²/D + ε) · γ  =  x / √(Σx²/D′ + ε D/D′) · γ √(D/D′)
 * so γ grows by √(D/D′), and ε, of which a configuration has one for all norms, by D/D′. */
#include "compress/prune/emit_plan.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define REFUSE(err, ...) QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, __VA_ARGS__)

static const char *const width_names[QN_EMIT_WIDTHS] = {"?", "feed-forward width", "number of heads", "hidden width", "experts' width",
                                                       "shared expert's width", "number of experts"};

static bool is(const qn_node *n, const char *type)
{
    return !strcmp(n->domain, "quern") && !strcmp(n->type, type);
}

static const char *key_of(const qn_emit_arch *a, qn_emit_width w)
{
    const char *const keys[QN_EMIT_WIDTHS] = {NULL, a->ffn, a->heads, a->hidden, a->expert_ffn, a->shared_ffn, a->experts};
    return keys[w];
}

static const char *family_name(const qn_emit_plan *p, uint32_t f)
{
    const qn_family *x = &p->c->groups->families[f];
    return x->name ? x->name : "?";
}

/* ---- depth ---- */

static qn_code plan_layers(qn_emit_plan *p, const qn_depth *d, qn_err *err)
{
    if (d && d->layers && d->n_layers != p->n_layers)
        return QN_BUG(err, "%" PRIu32 " flags for %" PRIu32 " layers", d->n_layers, p->n_layers);
    for (uint32_t i = 0; i < p->n_layers; i++)
        p->layers[i].to = d && d->layers && d->layers[i] ? QN_EMIT_GONE : p->n_kept++;
    if (p->n_layers && !p->n_kept)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "all %" PRIu32 " layers are to go: at least one must stay", p->n_layers);
    if (p->n_kept < p->n_layers && !p->prefix)
        return REFUSE(err, "layers are to go, and no tensor's name says which it is of");
    for (uint32_t i = 0; i < p->n_layers && p->n_kept < p->n_layers; i++) {
        const uint32_t n = p->layers[i].attention;
        if (n == QN_NO_NODE || strcmp(p->g->family, "gpt2"))
            continue;
        /* scale_attn_by_inverse_layer_idx: a layer's scores depend on its number */
        const double scale = qn_node_float(&p->g->nodes[n], "scale", 1), first = qn_node_float(&p->g->nodes[p->layers[0].attention], "scale", 1);
        if (p->layers[i].to != QN_EMIT_GONE && p->layers[i].to != i && fabs(scale - first) > 1e-9 * first)
            return REFUSE(err, "layers cannot go: scale_attn_by_inverse_layer_idx makes each depend on its number");
    }
    return QN_OK;
}

/* Experts of a layer that stay: of those, that neither the depth nor the cut takes. */
static qn_code plan_experts(qn_emit_plan *p, const qn_depth *d, qn_err *err)
{
    for (uint32_t i = 0; i < p->n_layers; i++) {
        qn_emit_layer *l = &p->layers[i];
        uint32_t kept = 0;
        if (l->experts == QN_NO_NODE)
            continue;
        const uint8_t *gone = d && d->experts ? d->experts[i] : NULL;
        if (gone && d->n_experts != l->old[QN_EMIT_EXPERTS])
            return QN_BUG(err, "%" PRIu32 " flags for %" PRIu64 " experts", d->n_experts, l->old[QN_EMIT_EXPERTS]);
        for (uint64_t e = 0; e < l->old[QN_EMIT_EXPERTS]; e++)
            l->expert_to[e] = gone && gone[e] ? QN_EMIT_GONE : kept++;
        l->now[QN_EMIT_EXPERTS] = kept;
        if (kept < l->old[QN_EMIT_EXPERTS] && !(p->arch && p->arch->experts))
            return REFUSE(err, "experts cannot go: the configuration of a %s model has no number of them", p->g->family);
        if (kept < p->top_k && l->to != QN_EMIT_GONE)
            return REFUSE(err, "layer %" PRIu32 " would keep %" PRIu32 " experts, and every token goes to %" PRIu64, i, kept, p->top_k);
    }
    return QN_OK;
}

/* ---- widths ---- */

/* keep: of an anchored axis. Whole heads only: the channels of a head are turned by positions and scaled by their number. */
static qn_code count_heads(qn_emit_plan *p, qn_emit_layer *l, uint32_t value, const uint8_t *keep, qn_err *err)
{
    const uint64_t n = (uint64_t)p->g->values[value].dims[p->weights[value].anchor_axis], size = n / l->heads, rep = l->heads / l->kv_heads;
    uint64_t heads = 0, kv = 0, per_kv = 0;
    for (uint64_t g = 0; g < l->kv_heads; g++) {
        uint64_t of_group = 0;
        for (uint64_t h = g * rep; h < (g + 1) * rep; h++) {
            uint64_t stays = 0;
            for (uint64_t k = 0; k < size; k++)
                stays += keep[h * size + k];
            if (stays && stays < size)
                return qn_err_in_tensor(err, REFUSE(err, "head %" PRIu64 " would keep %" PRIu64 " of its %" PRIu64 " channels: no runtime loads heads "
                                                         "that are narrower for values alone, or whose rotary frequencies have gaps", h, stays, size),
                                        p->g->values[value].name);
            of_group += stays > 0;
        }
        heads += of_group;
        kv += of_group > 0;
        if (of_group && per_kv && of_group != per_kv)
            return qn_err_in_tensor(err, REFUSE(err, "key heads would serve %" PRIu64 " and %" PRIu64 " query heads: runtimes want one number", per_kv,
                                                of_group), p->g->values[value].name);
        per_kv = of_group ? of_group : per_kv;
    }
    l->now[QN_EMIT_HEADS] = heads;
    l->kv_now = kv;
    return QN_OK;
}

/* The width of an anchored axis after the cut. */
static qn_code plan_anchor(qn_emit_plan *p, uint32_t value, qn_err *err)
{
    const qn_emit_weight *w = &p->weights[value];
    const uint64_t n = (uint64_t)p->g->values[value].dims[w->anchor_axis];
    qn_emit_layer *l = &p->layers[w->layer];
    uint64_t kept = n;
    if (w->anchor != QN_EMIT_HIDDEN && l->to == QN_EMIT_GONE)
        return QN_OK;
    uint8_t *keep = qn_mem_get(p->env->alloc, n, err);
    if (!keep)
        return QN_E_MEMORY;
    memset(keep, 1, n);
    qn_code rc = p->c ? qn_cut_axis(p->c, value, w->anchor_axis, keep, n, &kept, err) : QN_OK;
    if (rc == QN_OK && !kept)
        rc = qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "nothing would be left of its axis %u", w->anchor_axis),
                              p->g->values[value].name);
    if (rc == QN_OK && w->anchor == QN_EMIT_HIDDEN)
        p->now[QN_EMIT_HIDDEN] = kept;
    else if (rc == QN_OK && w->anchor == QN_EMIT_HEADS)
        rc = count_heads(p, l, value, keep, err);
    else if (rc == QN_OK && w->anchor == QN_EMIT_EXPERTS && kept < n)
        rc = REFUSE(err, "experts go with the depth, not with a cut of the router");
    else if (rc == QN_OK && w->anchor != QN_EMIT_EXPERTS) {
        const bool stays = w->expert == QN_EMIT_GONE || l->expert_to[w->expert] != QN_EMIT_GONE;
        if (stays && l->now[w->anchor] && l->now[w->anchor] != kept)
            rc = qn_err_in_tensor(err, REFUSE(err, "%" PRIu64 " channels would stay, and %" PRIu64 " of another expert: runtimes want one number", kept,
                                              l->now[w->anchor]), p->g->values[value].name);
        if (stays)
            l->now[w->anchor] = kept;
    }
    qn_mem_put(p->env->alloc, keep);
    return rc;
}

/* One number for all layers, as configurations want it; the first layer that has another is named. */
static qn_code make_uniform(qn_emit_plan *p, qn_err *err)
{
    uint32_t first[QN_EMIT_WIDTHS] = {0};
    uint64_t heads = 0, kv = 0;
    for (uint32_t i = 0; i < p->n_layers; i++) {
        const qn_emit_layer *l = &p->layers[i];
        if (l->to == QN_EMIT_GONE)
            continue;
        for (unsigned w = 1; w < QN_EMIT_WIDTHS; w++) {
            if (w == QN_EMIT_HIDDEN || !l->old[w])
                continue;
            const uint64_t now = l->now[w] ? l->now[w] : l->old[w];
            if (p->now[w] && p->now[w] != now && p->old[w] == l->old[w])
                return REFUSE(err, "the %s would be %" PRIu64 " in layer %" PRIu32 " and %" PRIu64 " in layer %" PRIu32 ": the configuration of a %s "
                                   "model has one number for all layers, and transformers, vLLM and llama.cpp load no other", width_names[w], p->now[w],
                              first[w], now, i, p->g->family);
            if (!p->now[w]) {
                p->old[w] = l->old[w];
                p->now[w] = now;
                first[w] = i;
            }
        }
        if (l->attention == QN_NO_NODE)
            continue;
        if (heads && kv != l->kv_now)
            return REFUSE(err, "layers would have %" PRIu64 " and %" PRIu64 " key heads: the configuration of a %s model has one number for all layers", kv,
                          l->kv_now, p->g->family);
        heads = p->now[QN_EMIT_HEADS];
        kv = l->kv_now;
        p->kv_old = l->kv_heads;
        p->kv_now = kv;
        p->head_dim = l->head_dim;
    }
    return QN_OK;
}

/* Every family of which something goes must have a key. */
static qn_code check_families(const qn_emit_plan *p, qn_err *err)
{
    for (uint32_t f = 0; p->c && f < p->c->groups->n_families; f++) {
        const qn_emit_width w = (qn_emit_width)p->width_of[f];
        if (!p->c->n_gone[f])
            continue;
        if (!p->arch)
            return REFUSE(err, "what of a %s model's widths its configuration can say is not known: nothing of it can be cut", p->g->family);
        if (w == QN_EMIT_OTHER)
            return qn_err_in_tensor(err, REFUSE(err, "is cut, and no key of a %s model's configuration says this width: no runtime could load it",
                                                p->g->family), family_name(p, f));
        if (!key_of(p->arch, w))
            return qn_err_in_tensor(err, REFUSE(err, w == QN_EMIT_HEADS ? "heads cannot go: the configuration of a %s model has no head size, runtimes "
                                                                         "take hidden size / heads"
                                                                       : "is cut, and the configuration of a %s model has no key for it", p->g->family),
                                    family_name(p, f));
    }
    if (!p->arch && p->n_kept < p->n_layers)
        return REFUSE(err, "how the configuration of a %s model counts layers is not known: none can go", p->g->family);
    return QN_OK;
}

/* ---- hidden width ---- */

/* Is the width of what a node reads that of the stream? */
static bool along_stream(const qn_emit_plan *p, const qn_node *n)
{
    return n->n_in > 1 && n->in[1] != QN_NO_VALUE && p->g->values[n->in[1]].kind == QN_VALUE_WEIGHT && qn_cut_touches(p->c, n->in[1]);
}

/* Gemma multiplies embeddings with √hidden: what a loader will make too small is put into the rows, and taken out of the last norm where those
 * rows are the head's too. */
static void scale_embedding(qn_emit_plan *p, double by)
{
    const qn_graph *g = p->g;
    uint32_t table = QN_NO_VALUE;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (is(&g->nodes[i], "Scale"))
            for (uint32_t k = 0; k < i; k++)
                if (is(&g->nodes[k], "Embed") && g->nodes[k].out[0] == g->nodes[i].in[0])
                    table = g->nodes[k].in[1];
    if (table == QN_NO_VALUE)
        return;
    p->weights[table].scale *= by;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        if (!is(&g->nodes[i], "Linear") || g->nodes[i].in[1] != table)
            continue;
        for (uint32_t k = 0; k < i; k++)
            if (is(&g->nodes[k], "RMSNorm") && g->nodes[k].out[0] == g->nodes[i].in[0])
                p->weights[g->nodes[k].in[1]].scale /= by;
    }
}

static qn_code plan_hidden(qn_emit_plan *p, qn_err *err)
{
    const double of = (double)p->old[QN_EMIT_HIDDEN], grow = sqrt(of / (double)p->now[QN_EMIT_HIDDEN]);
    if (!p->c || p->now[QN_EMIT_HIDDEN] == p->old[QN_EMIT_HIDDEN])
        return QN_OK;
    if (!p->arch || !p->arch->eps)
        return REFUSE(err, "the hidden width cannot be cut: a %s model's LayerNorm takes mean and variance over it", p->g->family);
    for (uint32_t i = 0; i < p->g->n_nodes; i++) {
        const qn_node *n = &p->g->nodes[i];
        if ((is(n, "LayerNorm") || is(n, "GroupNorm")) && along_stream(p, n))
            return REFUSE(err, "the hidden width cannot be cut: %s takes mean and variance over it", n->name);
        if (!is(n, "RMSNorm"))
            continue;
        if (p->eps < 0)
            p->eps = qn_node_float(n, "eps", 0) * of / (double)p->now[QN_EMIT_HIDDEN];
        if (!along_stream(p, n))
            continue;
        p->weights[n->in[1]].scale = grow;
        p->weights[n->in[1]].offset = (double)qn_node_int(n, "offset", 0);
    }
    scale_embedding(p, grow);
    const qn_source *s = p->g->source;
    for (uint64_t i = 0; i < s->n_tensors; i++)
        for (unsigned k = 0; k < s->tensors[i].rank && p->value_of[i] == QN_NO_VALUE; k++)
            if (s->tensors[i].dims[k] == p->old[QN_EMIT_HIDDEN])
                return qn_err_in_tensor(err, REFUSE(err, "the hidden width cannot be cut: the language model does not use this tensor, which seems to have "
                                                         "that width too"), s->tensors[i].name);
    return QN_OK;
}

/* ---- what remains to be checked ---- */

static qn_code check_dtypes(const qn_emit_plan *p, qn_err *err)
{
    const qn_source *s = p->g->source;
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const uint32_t v = p->value_of[i];
        const qn_dtype t = (qn_dtype)s->tensors[i].dtype;
        if (v != QN_NO_VALUE && (t >= QN_DTYPE_PLAIN || qn_dtype_bits(t) < 8) &&
            (p->weights[v].scale != 1 || (p->c && qn_cut_touches(p->c, v))))
            return qn_err_in_tensor(err, REFUSE(err, "is %s: only tensors of plain floats can be cut, so prune first and quantize then",
                                                qn_dtype_name(t)), s->tensors[i].name);
    }
    return QN_OK;
}

static qn_code check_loaders(const qn_emit_plan *p, const qn_emit_options *o, qn_err *err)
{
    const uint64_t hidden = p->now[QN_EMIT_HIDDEN], heads = p->now[QN_EMIT_HEADS];
    const bool changed = heads != p->old[QN_EMIT_HEADS] || hidden != p->old[QN_EMIT_HIDDEN];
    if (p->arch && p->arch->divides && !o->any_loader && changed && heads && hidden % heads)
        return REFUSE(err, "%" PRIu64 " heads would stay: transformers' LlamaConfig refuses a hidden size, %" PRIu64 ", that is no multiple of them "
                           "(other runtimes load it: --layout loose)", heads, hidden);
    return QN_OK;
}

/* llama.cpp has the pattern of layers that see a window in its code: by their number. */
static qn_code check_pattern(const qn_emit_plan *p, bool gguf, qn_err *err)
{
    const bool two = !strcmp(p->g->family, "gemma2"), three = !strcmp(p->g->family, "gemma3");
    if (!gguf || !(two || three))
        return QN_OK;
    for (uint32_t i = 0; i < p->n_layers; i++) {
        const uint32_t pattern = two ? 2 : 6, to = p->layers[i].to;
        if (to != QN_EMIT_GONE && ((to + 1) % pattern == 0) != ((i + 1) % pattern == 0))
            return REFUSE(err, "layer %" PRIu32 " would be number %" PRIu32 ": one in %" PRIu32 " %s layers sees all tokens, by its number, so only whole periods can go", i,
                          to, pattern, p->g->family);
    }
    const double scale = p->n_layers ? qn_node_float(&p->g->nodes[p->layers[0].attention], "scale", 0) : 0;
    if (fabs(scale - 1 / sqrt((double)p->head_dim)) > 1e-6 &&
        (p->n_kept < p->n_layers || p->now[QN_EMIT_HEADS] != p->old[QN_EMIT_HEADS] || p->now[QN_EMIT_HIDDEN] != p->old[QN_EMIT_HIDDEN]))
        return REFUSE(err, "this model's scores are scaled by hidden size / heads, which llama.cpp knows by the number of layers");
    return QN_OK;
}

qn_code qn_emit_plan_make(const qn_env *env, const qn_graph *g, const qn_cut *c, const qn_depth *d, const qn_emit_options *o, bool gguf,
                          qn_emit_plan *p, qn_err *err)
{
    QN_TRY(qn_emit_plan_look(env, g, c ? c->groups : NULL, gguf, p, err));
    p->c = c;
    QN_TRY(plan_layers(p, d, err));
    QN_TRY(check_families(p, err));
    QN_TRY(plan_experts(p, d, err));
    p->now[QN_EMIT_HIDDEN] = p->old[QN_EMIT_HIDDEN];
    for (uint32_t v = 0; v < g->n_values; v++)
        if (p->weights[v].anchor != QN_EMIT_OTHER)
            QN_TRY(plan_anchor(p, v, err));
    for (uint32_t i = 0; i < p->n_layers; i++)
        if (!p->layers[i].now[QN_EMIT_HEADS]) /* its heads are not read off: all stay */
            p->layers[i].now[QN_EMIT_HEADS] = p->layers[i].heads, p->layers[i].kv_now = p->layers[i].kv_heads;
    QN_TRY(make_uniform(p, err));
    QN_TRY(plan_hidden(p, err));
    QN_TRY(check_dtypes(p, err));
    QN_TRY(check_pattern(p, gguf, err));
    return check_loaders(p, o, err);
}
