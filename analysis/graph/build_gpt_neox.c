/* build_gpt_neox.c: GPT-NeoX and Pythia (Black et al. 2022): q, k and v of a head side by side in one projection, some channels
 * of each head turned, attention and feed-forward side by side or one after the other. */
#include "analysis/graph/build_all.h"
#include "analysis/graph/build_more.h"
#include "base/err.h"
#include <math.h>

struct neox {
    qn_dim width, heads, inner;
    uint64_t head;
    double eps;
    const char *act;
    bool parallel;
    qn_bias bias;
    qn_rope rope;
};

static qn_code layer(qn_build *b, const struct neox *m, const char *p, uint32_t *x, qn_err *err)
{
    const qn_dim three = {3 * m->width.n, "3 hidden_size"};
    const int64_t h = (int64_t)m->head, sizes[3] = {h, h, h};
    uint32_t y, z, qkv[3];
    QN_TRY(qn_build_layer_norm(b, qn_name("%sinput_layernorm", p).s, *x, m->width, m->eps, QN_BIAS_YES, &y, err));
    QN_TRY(qn_build_linear(b, qn_name("%sattention.query_key_value", p).s, y, m->width, three, m->bias, &y, err));
    QN_TRY(qn_build_split(b, qn_name("%sattention.qkv", p).s, y, sizes, 3, m->heads.n, qkv, err));
    QN_TRY(qn_build_rope(b, qn_name("%sattention.q_rope", p).s, &m->rope, qkv[0], m->head, &qkv[0], err));
    QN_TRY(qn_build_rope(b, qn_name("%sattention.k_rope", p).s, &m->rope, qkv[1], m->head, &qkv[1], err));
    QN_TRY(qn_build_attention(b, qn_name("%sattention", p).s, qkv, m->heads.n, m->heads.n, m->head, 1 / sqrt((double)m->head), 0, &y, err));
    QN_TRY(qn_build_linear(b, qn_name("%sattention.dense", p).s, y, m->width, m->width, m->bias, &y, err));
    QN_TRY(qn_build_add(b, qn_name("%sattention.sum", p).s, *x, y, &y, err));
    QN_TRY(qn_build_layer_norm(b, qn_name("%spost_attention_layernorm", p).s, m->parallel ? *x : y, m->width, m->eps, QN_BIAS_YES, &z, err));
    QN_TRY(qn_build_mlp(b, qn_name("%smlp.dense_h_to_4h", p).s, qn_name("%smlp.dense_4h_to_h", p).s, m->act, z, m->width, m->inner,
                        QN_BIAS_YES, &z, err));
    return qn_build_add(b, qn_name("%smlp.sum", p).s, y, z, x, err);
}

qn_code qn_build_gpt_neox(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    static const char *const buffers[] = {".attention.bias", ".attention.masked_bias", NULL};
    struct neox m;
    qn_dim vocab;
    uint64_t n_layers, places;
    double part;
    bool biased;
    QN_TRY(qn_build_dim(b, "hidden_size", &m.width, err));
    QN_TRY(qn_build_dim(b, "num_attention_heads", &m.heads, err));
    QN_TRY(qn_build_dim(b, "intermediate_size", &m.inner, err));
    QN_TRY(qn_build_dim(b, "vocab_size", &vocab, err));
    QN_TRY(qn_build_layers(b, "num_hidden_layers", &n_layers, err));
    QN_TRY(qn_config_u64_or(b->config, "max_position_embeddings", 1, QN_WIDTH_MAX, 2048, &places, err));
    QN_TRY(qn_build_head_size(b, m.width, m.heads, &m.head, err));
    QN_TRY(qn_config_f64_or(b->config, "layer_norm_eps", 0, 1, 1e-5, &m.eps, err));
    QN_TRY(qn_config_f64_or(b->config, "rotary_pct", 0, 1, 0.25, &part, err));
    QN_TRY(qn_config_bool_or(b->config, "use_parallel_residual", true, &m.parallel, err));
    QN_TRY(qn_config_bool_or(b->config, "attention_bias", true, &biased, err));
    QN_TRY(qn_build_act_of(b, "hidden_act", "gelu", &m.act, err));
    m.bias = biased ? QN_BIAS_YES : QN_BIAS_NONE;

    QN_TRY(qn_build_begin(b, env, s, "gpt_neox", err));
    QN_TRY(qn_build_rope_config(b, "rope", NULL, "rotary_emb_base", 10000, part, true, m.head, places, &m.rope, err));
    uint32_t x;
    QN_TRY(qn_build_embed(b, "gpt_neox.embed_in", b->tokens, vocab, m.width, &x, err));
    for (uint64_t i = 0; i < n_layers; i++) {
        QN_TRY(qn_build_layer(b, i, err));
        QN_TRY(layer(b, &m, qn_name("gpt_neox.layers.%u.", (unsigned)i).s, &x, err));
    }
    QN_TRY(qn_graph_begin_block(b->g, "head", err));
    QN_TRY(qn_build_layer_norm(b, "gpt_neox.final_layer_norm", x, m.width, m.eps, QN_BIAS_YES, &x, err));
    QN_TRY(qn_build_head(b, "embed_out", "gpt_neox.embed_in", false, x, vocab, m.width, QN_BIAS_NONE, &x, err));
    b->g->n_vocab = (uint32_t)vocab.n;
    b->g->context = places;
    return qn_build_end(b, x, buffers, err);
}
