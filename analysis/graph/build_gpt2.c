/* build_gpt2.c: GPT-2 (Radford et al. 2019): learned positions, norms before each part, projections that are kept (in, out). */
#include "analysis/graph/build_all.h"
#include "analysis/graph/build_more.h"
#include "base/err.h"
#include <math.h>

struct gpt2 {
    qn_dim width, heads, inner;
    uint64_t head;
    double eps, scale; /* scale: of attention scores */
    bool by_layer;     /* … divided by the layer's number, from 1 */
    const char *act;
};

/* y = x W + b with <prefix>.weight (in, out). */
static qn_code conv1d(qn_build *b, const char *prefix, uint32_t x, qn_dim in, qn_dim out, uint32_t *y, qn_err *err)
{
    const qn_attr layout = qn_attr_s("layout", "in_out");
    uint32_t v[3] = {x, QN_NO_VALUE, QN_NO_VALUE};
    QN_TRY(qn_build_weight(b, qn_name("%s.weight", prefix).s, (qn_dim[]){in, out}, 2, &v[1], err));
    QN_TRY(qn_build_weight(b, qn_name("%s.bias", prefix).s, &out, 1, &v[2], err));
    return qn_build_node(b, "Linear", prefix, v, 3, &layout, 1, y, err);
}

static qn_code layer(qn_build *b, const struct gpt2 *m, const char *p, uint64_t i, uint32_t *x, qn_err *err)
{
    const qn_dim three = {3 * m->width.n, "3 n_embd"};
    const int64_t n = (int64_t)m->width.n, sizes[3] = {n, n, n};
    uint32_t y, qkv[3];
    QN_TRY(qn_build_layer_norm(b, qn_name("%sln_1", p).s, *x, m->width, m->eps, QN_BIAS_YES, &y, err));
    QN_TRY(conv1d(b, qn_name("%sattn.c_attn", p).s, y, m->width, three, &y, err));
    QN_TRY(qn_build_split(b, qn_name("%sattn.qkv", p).s, y, sizes, 3, 1, qkv, err));
    QN_TRY(qn_build_attention(b, qn_name("%sattn", p).s, qkv, m->heads.n, m->heads.n, m->head,
                              m->by_layer ? m->scale / (double)(i + 1) : m->scale, 0, &y, err));
    QN_TRY(conv1d(b, qn_name("%sattn.c_proj", p).s, y, m->width, m->width, &y, err));
    QN_TRY(qn_build_add(b, qn_name("%sattn.sum", p).s, *x, y, x, err));
    QN_TRY(qn_build_layer_norm(b, qn_name("%sln_2", p).s, *x, m->width, m->eps, QN_BIAS_YES, &y, err));
    QN_TRY(conv1d(b, qn_name("%smlp.c_fc", p).s, y, m->width, m->inner, &y, err));
    QN_TRY(qn_build_act(b, qn_name("%smlp.act", p).s, m->act, y, &y, err));
    QN_TRY(conv1d(b, qn_name("%smlp.c_proj", p).s, y, m->inner, m->width, &y, err));
    return qn_build_add(b, qn_name("%smlp.sum", p).s, *x, y, x, err);
}

qn_code qn_build_gpt2(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    static const char *const buffers[] = {".attn.bias", ".attn.masked_bias", NULL};
    struct gpt2 m;
    qn_dim vocab, places;
    uint64_t n_layers;
    bool scaled;
    QN_TRY(qn_build_dim(b, "n_embd|hidden_size", &m.width, err));
    QN_TRY(qn_build_dim(b, "n_head|num_attention_heads", &m.heads, err));
    QN_TRY(qn_build_dim_or(b, "n_inner|intermediate_size", 4 * m.width.n, &m.inner, err));
    QN_TRY(qn_build_dim(b, "vocab_size", &vocab, err));
    QN_TRY(qn_build_dim(b, "n_positions|max_position_embeddings|n_ctx", &places, err));
    QN_TRY(qn_build_layers(b, "n_layer|num_hidden_layers", &n_layers, err));
    QN_TRY(qn_build_head_size(b, m.width, m.heads, &m.head, err));
    QN_TRY(qn_config_f64_or(b->config, "layer_norm_epsilon", 0, 1, 1e-5, &m.eps, err));
    QN_TRY(qn_config_bool_or(b->config, "scale_attn_weights", true, &scaled, err));
    QN_TRY(qn_config_bool_or(b->config, "scale_attn_by_inverse_layer_idx", false, &m.by_layer, err));
    QN_TRY(qn_build_act_of(b, "activation_function", "gelu_new", &m.act, err));
    m.scale = scaled ? 1 / sqrt((double)m.head) : 1;

    QN_TRY(qn_build_begin(b, env, s, "gpt2", err));
    const char *p = qn_build_has(b, "wte.weight") ? "" : "transformer.";
    uint32_t x, y;
    QN_TRY(qn_build_embed(b, qn_name("%swte", p).s, b->tokens, vocab, m.width, &x, err));
    QN_TRY(qn_build_places(b, qn_name("%swpe", p).s, places, 0, m.width, &y, err));
    QN_TRY(qn_build_add(b, "embedding.sum", x, y, &x, err));
    for (uint64_t i = 0; i < n_layers; i++) {
        QN_TRY(qn_build_layer(b, i, err));
        QN_TRY(layer(b, &m, qn_name("%sh.%u.", p, (unsigned)i).s, i, &x, err));
    }
    QN_TRY(qn_graph_begin_block(b->g, "head", err));
    QN_TRY(qn_build_layer_norm(b, qn_name("%sln_f", p).s, x, m.width, m.eps, QN_BIAS_YES, &x, err));
    QN_TRY(qn_build_head(b, "lm_head", qn_name("%swte", p).s, true, x, vocab, m.width, QN_BIAS_NONE, &x, err));
    b->g->n_vocab = (uint32_t)vocab.n;
    b->g->context = places.n;
    return qn_build_end(b, x, buffers, err);
}
