/* build_experts.c: the ffn of a layer with experts: router, experts in the form that the source has, and the shared expert. */
#include "analysis/graph/build_decoder.h"
#include "base/err.h"
#include <inttypes.h>

/* A 3-D tensor, with ".weight" behind its name or without. */
static qn_code stacked_weight(qn_build *b, const char *layer, const char *name, const qn_dim dims[3], uint32_t *v, qn_err *err)
{
    const qn_name_text bare = qn_name("%s.%s", layer, name);
    return qn_build_weight(b, qn_build_has(b, bare.s) ? bare.s : qn_name("%s.weight", bare.s).s, dims, 3, v, err);
}

static bool has_stacked(const qn_build *b, const char *layer, const char *name)
{
    return name && (qn_build_has(b, qn_name("%s.%s", layer, name).s) || qn_build_has(b, qn_name("%s.%s.weight", layer, name).s));
}

/* in[2 …]: the weights; *layout: how they lie. */
static qn_code expert_weights(qn_build *b, const qn_decoder *d, const char *layer, uint32_t *in, unsigned *n_in, const char **layout, qn_err *err)
{
    const qn_decoder_names *t = &d->names;
    const qn_dim e = d->n_experts, f = d->expert_ffn, h = d->hidden, twice = {2 * f.n, "2 × the experts' size"};
    if (has_stacked(b, layer, t->fused[0])) {
        *layout = "fused";
        *n_in = 4;
        QN_TRY(stacked_weight(b, layer, t->fused[0], (qn_dim[]){e, twice, h}, &in[2], err));
        return stacked_weight(b, layer, t->fused[1], (qn_dim[]){e, h, f}, &in[3], err);
    }
    if (has_stacked(b, layer, t->stacked[0])) {
        *layout = "stacked";
        *n_in = 5;
        for (unsigned role = 0; role < 3; role++)
            QN_TRY(stacked_weight(b, layer, t->stacked[role], role == 2 ? (qn_dim[]){e, h, f} : (qn_dim[]){e, f, h}, &in[2 + role], err));
        return QN_OK;
    }
    *layout = "separate";
    *n_in = 2 + 3 * (unsigned)e.n;
    for (unsigned role = 0; role < 3; role++)
        for (uint64_t i = 0; i < e.n; i++)
            QN_TRY(qn_build_weight(b, qn_name("%s.%s.%" PRIu64 ".%s.weight", layer, t->expert, i, t->expert_parts[role]).s,
                                   role == 2 ? (qn_dim[]){h, f} : (qn_dim[]){f, h}, 2, &in[2 + role * e.n + i], err));
    return QN_OK;
}

/* σ(gate x) · ffn(x) for all tokens. */
static qn_code shared_expert(qn_build *b, const qn_decoder *d, const char *layer, uint32_t x, uint32_t *y, qn_err *err)
{
    const qn_decoder_names *t = &d->names;
    const qn_name_text gate = qn_name("%s.%s", layer, t->shared_gate);
    uint32_t v[2];
    QN_TRY(qn_decoder_ffn(b, d, layer, t->shared, x, d->shared_ffn, &v[0], err));
    QN_TRY(qn_build_linear(b, gate.s, x, d->hidden, (qn_dim){1, "one gate"}, QN_BIAS_NONE, &v[1], err));
    QN_TRY(qn_build_act(b, qn_name("%s.sigmoid", gate.s).s, "sigmoid", v[1], &v[1], err));
    return qn_build_node(b, "Mul", qn_name("%s.mul", gate.s).s, v, 2, NULL, 0, y, err);
}

qn_code qn_decoder_experts(qn_build *b, const qn_decoder *d, const char *layer, uint32_t x, uint32_t *y, qn_err *err)
{
    const qn_decoder_names *t = &d->names;
    const qn_alloc *a = b->g->env->alloc;
    uint32_t *in = qn_mem_get(a, (2 + 3 * d->n_experts.n) * sizeof *in, err);
    if (!in)
        return QN_E_MEMORY;
    unsigned n_in = 0;
    const char *layout = "";
    in[0] = x;
    qn_code rc = qn_build_linear(b, qn_name("%s.%s", layer, t->router).s, x, d->hidden, d->n_experts, QN_BIAS_NONE, &in[1], err);
    if (rc == QN_OK)
        rc = expert_weights(b, d, layer, in, &n_in, &layout, err);
    if (rc == QN_OK) {
        const qn_attr attrs[] = {qn_attr_s("layout", layout), qn_attr_i("experts", (int64_t)d->n_experts.n), qn_attr_i("top_k", (int64_t)d->top_k),
                                 qn_attr_i("norm", d->norm_topk), qn_attr_s("kind", d->act)};
        rc = qn_build_node(b, "Experts", qn_name("%s.experts", layer).s, in, n_in, attrs, 5, y, err);
    }
    qn_mem_put(a, in);
    QN_TRY(rc);
    if (!d->shared_ffn.n)
        return QN_OK;
    uint32_t shared;
    QN_TRY(shared_expert(b, d, layer, x, &shared, err));
    return qn_build_add(b, qn_name("%s.add_shared", layer).s, *y, shared, y, err);
}
