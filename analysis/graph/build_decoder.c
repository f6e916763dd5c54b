/* build_decoder.c: the graph of a decoder of the llama family:
 *
 *     x = embed(tokens) · embed_scale
 *     each layer:  x += [norm] o(attention(rope([norm] q(norm x)), rope([norm] k(norm x)), v(norm x)));  x += [norm] ffn(norm x)
 *     logits = [softcap] head(norm x)                                                          (Touvron et al. 2023; Gemma 2, 2024) */
#include "analysis/graph/build_decoder.h"
#include "base/err.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

qn_code qn_decoder_ffn(qn_build *b, const qn_decoder *d, const char *layer, const char *const names[3], uint32_t x, qn_dim ffn, uint32_t *y,
                       qn_err *err)
{
    uint32_t v[2];
    const qn_bias bias = d->mlp_bias ? QN_BIAS_YES : QN_BIAS_NONE;
    const qn_attr kind = qn_attr_s("kind", d->act);
    QN_TRY(qn_build_linear(b, qn_name("%s.%s", layer, names[0]).s, x, d->hidden, ffn, bias, &v[0], err));
    QN_TRY(qn_build_linear(b, qn_name("%s.%s", layer, names[1]).s, x, d->hidden, ffn, bias, &v[1], err));
    QN_TRY(qn_build_node(b, "Gated", qn_name("%s.%s.gated", layer, names[0]).s, v, 2, &kind, 1, &v[0], err));
    return qn_build_linear(b, qn_name("%s.%s", layer, names[2]).s, v[0], ffn, d->hidden, bias, y, err);
}

/* The same with one tensor for gate and up (phi-3). */
static qn_code fused_ffn(qn_build *b, const qn_decoder *d, const char *layer, uint32_t x, uint32_t *y, qn_err *err)
{
    uint32_t both, v[2];
    const qn_decoder_names *t = &d->names;
    const qn_attr kind = qn_attr_s("kind", d->act);
    const int64_t sizes[2] = {(int64_t)d->ffn.n, (int64_t)d->ffn.n};
    const qn_attr split = qn_attr_ints("sizes", sizes, 2);
    const qn_dim twice = {2 * d->ffn.n, "2 × intermediate_size"};
    QN_TRY(qn_build_linear(b, qn_name("%s.%s", layer, t->gate_up).s, x, d->hidden, twice, QN_BIAS_NONE, &both, err));
    QN_TRY(qn_graph_node(b->g, "quern", "Split", 0, qn_name("%s.%s.split", layer, t->gate_up).s, &both, 1, &split, 1, NULL, v, 2, err));
    QN_TRY(qn_build_node(b, "Gated", qn_name("%s.%s.gated", layer, t->gate_up).s, v, 2, &kind, 1, &v[0], err));
    return qn_build_linear(b, qn_name("%s.%s", layer, t->down).s, v[0], d->ffn, d->hidden, QN_BIAS_NONE, y, err);
}

/* x → q, k, v, from three tensors or one. */
static qn_code project(qn_build *b, const qn_decoder *d, const char *layer, uint32_t x, uint32_t qkv[3], qn_err *err)
{
    const qn_decoder_names *t = &d->names;
    const qn_bias bias = d->qkv_bias ? QN_BIAS_YES : QN_BIAS_NONE;
    if (t->qkv) {
        uint32_t all;
        const qn_dim out = {d->q.n + 2 * d->kv.n, "(num_attention_heads + 2 × num_key_value_heads) × head_dim"};
        const int64_t sizes[3] = {(int64_t)d->q.n, (int64_t)d->kv.n, (int64_t)d->kv.n};
        const qn_attr split = qn_attr_ints("sizes", sizes, 3);
        QN_TRY(qn_build_linear(b, qn_name("%s.%s", layer, t->qkv).s, x, d->hidden, out, bias, &all, err));
        return qn_graph_node(b->g, "quern", "Split", 0, qn_name("%s.%s.split", layer, t->qkv).s, &all, 1, &split, 1, NULL, qkv, 3, err);
    }
    QN_TRY(qn_build_linear(b, qn_name("%s.%s", layer, t->q).s, x, d->hidden, d->q, bias, &qkv[0], err));
    QN_TRY(qn_build_linear(b, qn_name("%s.%s", layer, t->k).s, x, d->hidden, d->kv, bias, &qkv[1], err));
    return qn_build_linear(b, qn_name("%s.%s", layer, t->v).s, x, d->hidden, d->kv, bias, &qkv[2], err);
}

static qn_code attention(qn_build *b, const qn_decoder *d, const char *layer, bool sliding, uint32_t x, uint32_t *y, qn_err *err)
{
    const qn_decoder_names *t = &d->names;
    uint32_t v[4];
    QN_TRY(project(b, d, layer, x, v, err));
    v[3] = b->starts;
    if (d->qk_norm) {
        QN_TRY(qn_build_rms_norm(b, qn_name("%s.%s", layer, t->q_norm).s, v[0], d->head_dim, d->eps, d->norm_offset, &v[0], err));
        QN_TRY(qn_build_rms_norm(b, qn_name("%s.%s", layer, t->k_norm).s, v[1], d->head_dim, d->eps, d->norm_offset, &v[1], err));
    }
    for (unsigned i = 0; i < 2; i++)
        QN_TRY(qn_build_rope(b, qn_name("%s.rope_%c", layer, "qk"[i]).s, &d->rope[sliding], v[i], d->head_dim.n, &v[i], err));
    const qn_attr attrs[] = {
        qn_attr_i("heads", (int64_t)d->heads), qn_attr_i("kv_heads", (int64_t)d->kv_heads), qn_attr_i("head_dim", (int64_t)d->head_dim.n),
        qn_attr_f("scale", d->attn_scale),     qn_attr_f("softcap", d->attn_softcap),       qn_attr_i("window", sliding ? (int64_t)d->window : 0),
        qn_attr_i("causal", 1)};
    QN_TRY(qn_build_node(b, "Attention", qn_name("%s.attention", layer).s, v, 4, attrs, 7, &v[0], err));
    return qn_build_linear(b, qn_name("%s.%s", layer, t->o).s, v[0], d->q, d->hidden, d->o_bias ? QN_BIAS_YES : QN_BIAS_NONE, y, err);
}

static qn_code norm(qn_build *b, const qn_decoder *d, const char *layer, const char *name, uint32_t x, uint32_t *y, qn_err *err)
{
    return qn_build_rms_norm(b, qn_name("%s.%s", layer, name).s, x, d->hidden, d->eps, d->norm_offset, y, err);
}

static qn_code one_layer(qn_build *b, const qn_decoder *d, uint64_t i, uint32_t *x, qn_err *err)
{
    const qn_decoder_names *t = &d->names;
    const qn_name_text layer = qn_name("%s%s.%" PRIu64, d->prefix, t->layers, i);
    uint32_t y;
    QN_TRY(qn_graph_begin_block(b->g, qn_name("layers.%" PRIu64, i).s, err));
    QN_TRY(norm(b, d, layer.s, t->attn_norm, *x, &y, err));
    QN_TRY(attention(b, d, layer.s, d->sliding[i], y, &y, err));
    if (t->attn_post)
        QN_TRY(norm(b, d, layer.s, t->attn_post, y, &y, err));
    QN_TRY(qn_build_add(b, qn_name("%s.add_attention", layer.s).s, *x, y, x, err));
    QN_TRY(norm(b, d, layer.s, t->ffn_norm, *x, &y, err));
    if (d->sparse[i])
        QN_TRY(qn_decoder_experts(b, d, layer.s, y, &y, err));
    else if (t->gate_up)
        QN_TRY(fused_ffn(b, d, layer.s, y, &y, err));
    else
        QN_TRY(qn_decoder_ffn(b, d, layer.s, (const char *const[]){t->gate, t->up, t->down}, y, d->ffn, &y, err));
    if (t->ffn_post)
        QN_TRY(norm(b, d, layer.s, t->ffn_post, y, &y, err));
    return qn_build_add(b, qn_name("%s.add_ffn", layer.s).s, *x, y, x, err);
}

qn_code qn_decoder_build(qn_build *b, const qn_decoder *d, qn_err *err)
{
    const qn_decoder_names *t = &d->names;
    const qn_name_text embed = qn_name("%s%s", d->prefix, t->embed);
    uint32_t x;
    QN_TRY(qn_build_embed(b, embed.s, b->tokens, d->vocab, d->hidden, &x, err));
    if (d->embed_scale != 1) {
        const qn_attr by = qn_attr_f("by", d->embed_scale);
        QN_TRY(qn_build_node(b, "Scale", qn_name("%s.scale", embed.s).s, &x, 1, &by, 1, &x, err));
    }
    qn_decoder own = *d;
    for (uint64_t i = 0; i < d->n_layers; i++) {
        if (d->each) {
            own.ffn.n = d->each[i].ffn;
            own.heads = d->each[i].heads;
            own.kv_heads = d->each[i].kv_heads;
            own.q.n = own.heads * d->head_dim.n;
            own.kv.n = own.kv_heads * d->head_dim.n;
        }
        QN_TRY(one_layer(b, &own, i, &x, err));
    }
    QN_TRY(qn_graph_begin_block(b->g, "head", err));
    QN_TRY(qn_build_rms_norm(b, qn_name("%s%s", d->prefix, t->norm).s, x, d->hidden, d->eps, d->norm_offset, &x, err));
    QN_TRY(qn_build_head(b, d->head, embed.s, d->tied, x, d->vocab, d->hidden, QN_BIAS_NONE, &x, err));
    if (d->final_softcap > 0) {
        const qn_attr cap = qn_attr_f("cap", d->final_softcap);
        QN_TRY(qn_build_node(b, "Softcap", qn_name("%s.softcap", d->head).s, &x, 1, &cap, 1, &x, err));
    }
    b->g->n_vocab = (uint32_t)d->vocab.n;
    b->g->context = d->max_positions;
    return qn_build_end(b, x, d->ignore, err);
}
