/* build_phi.c: Phi-1, 1.5 and 2 (Gunasekar et al. 2023): one norm, then attention and feed-forward side by side. */
#include "analysis/graph/build_all.h"
#include "analysis/graph/build_more.h"
#include "base/err.h"
#include <math.h>

struct phi {
    qn_dim width, heads, kv, inner;
    uint64_t head;
    double eps;
    const char *act;
    bool norm_qk;
    qn_rope rope;
};

/* The same weights for every head. */
static qn_code norm_heads(qn_build *b, const struct phi *m, const char *prefix, uint64_t heads, uint32_t *x, qn_err *err)
{
    const qn_dim head = {m->head, "hidden_size / num_attention_heads"};
    const qn_attr attrs[] = {qn_attr_i("groups", (int64_t)heads), qn_attr_f("eps", m->eps)};
    uint32_t in[3] = {*x, QN_NO_VALUE, QN_NO_VALUE};
    QN_TRY(qn_build_weight(b, qn_name("%s.weight", prefix).s, &head, 1, &in[1], err));
    QN_TRY(qn_build_weight(b, qn_name("%s.bias", prefix).s, &head, 1, &in[2], err));
    return qn_build_node(b, "GroupNorm", prefix, in, 3, attrs, 2, x, err);
}

static qn_code attention(qn_build *b, const struct phi *m, const char *p, uint32_t x, uint32_t *y, qn_err *err)
{
    static const char names[] = "qkv";
    uint32_t qkv[3];
    for (unsigned i = 0; i < 3; i++) {
        const uint64_t heads = i ? m->kv.n : m->heads.n;
        const qn_dim out = {heads * m->head, i ? "num_key_value_heads, head size" : "hidden_size"};
        QN_TRY(qn_build_linear(b, qn_name("%s%c_proj", p, names[i]).s, x, m->width, out, QN_BIAS_YES, &qkv[i], err));
        if (i == 2)
            break;
        if (m->norm_qk)
            QN_TRY(norm_heads(b, m, qn_name("%s%c_layernorm", p, names[i]).s, heads, &qkv[i], err));
        QN_TRY(qn_build_rope(b, qn_name("%s%c_rope", p, names[i]).s, &m->rope, qkv[i], m->head, &qkv[i], err));
    }
    QN_TRY(qn_build_attention(b, qn_name("%sattend", p).s, qkv, m->heads.n, m->kv.n, m->head, 1 / sqrt((double)m->head), 0, y, err));
    return qn_build_linear(b, qn_name("%sdense", p).s, *y, m->width, m->width, QN_BIAS_YES, y, err);
}

static qn_code layer(qn_build *b, const struct phi *m, const char *p, uint32_t *x, qn_err *err)
{
    uint32_t a, y, z;
    QN_TRY(qn_build_layer_norm(b, qn_name("%sinput_layernorm", p).s, *x, m->width, m->eps, QN_BIAS_YES, &a, err));
    QN_TRY(attention(b, m, qn_name("%sself_attn.", p).s, a, &y, err));
    QN_TRY(qn_build_mlp(b, qn_name("%smlp.fc1", p).s, qn_name("%smlp.fc2", p).s, m->act, a, m->width, m->inner, QN_BIAS_YES, &z, err));
    QN_TRY(qn_build_add(b, qn_name("%sparts.sum", p).s, y, z, &y, err));
    return qn_build_add(b, qn_name("%ssum", p).s, *x, y, x, err);
}

qn_code qn_build_phi(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    struct phi m;
    qn_dim vocab;
    uint64_t n_layers, places;
    QN_TRY(qn_build_dim(b, "hidden_size", &m.width, err));
    QN_TRY(qn_build_dim(b, "num_attention_heads", &m.heads, err));
    QN_TRY(qn_build_dim_or(b, "num_key_value_heads", m.heads.n, &m.kv, err));
    QN_TRY(qn_build_dim(b, "intermediate_size", &m.inner, err));
    QN_TRY(qn_build_dim(b, "vocab_size", &vocab, err));
    QN_TRY(qn_build_layers(b, "num_hidden_layers", &n_layers, err));
    QN_TRY(qn_config_u64_or(b->config, "max_position_embeddings", 1, QN_WIDTH_MAX, 2048, &places, err));
    QN_TRY(qn_build_head_size(b, m.width, m.heads, &m.head, err));
    if (m.heads.n % m.kv.n)
        return qn_config_fail(b->config, err, QN_E_INPUT, "num_attention_heads is %u, which is no multiple of the %u of num_key_value_heads",
                              (unsigned)m.heads.n, (unsigned)m.kv.n);
    QN_TRY(qn_config_f64_or(b->config, "layer_norm_eps", 0, 1, 1e-5, &m.eps, err));
    QN_TRY(qn_config_bool_or(b->config, "qk_layernorm", false, &m.norm_qk, err));
    QN_TRY(qn_build_act_of(b, "hidden_act", "gelu_new", &m.act, err));

    QN_TRY(qn_build_begin(b, env, s, "phi", err));
    QN_TRY(qn_build_rope_config(b, "rope", NULL, "rope_theta", 10000, 0.5, true, m.head, places, &m.rope, err));
    uint32_t x;
    QN_TRY(qn_build_embed(b, "model.embed_tokens", b->tokens, vocab, m.width, &x, err));
    for (uint64_t i = 0; i < n_layers; i++) {
        QN_TRY(qn_build_layer(b, i, err));
        QN_TRY(layer(b, &m, qn_name("model.layers.%u.", (unsigned)i).s, &x, err));
    }
    QN_TRY(qn_graph_begin_block(b->g, "head", err));
    QN_TRY(qn_build_layer_norm(b, "model.final_layernorm", x, m.width, m.eps, QN_BIAS_YES, &x, err));
    QN_TRY(qn_build_head(b, "lm_head", "model.embed_tokens", false, x, vocab, m.width, QN_BIAS_YES, &x, err));
    b->g->n_vocab = (uint32_t)vocab.n;
    b->g->context = places;
    return qn_build_end(b, x, NULL, err);
}
