/* build_opt.c: OPT (Zhang et al. 2022): learned positions that begin at row 2, norms before each part, or after it (350m), and
 * there embeddings narrower than the model, projected in and out. */
#include "analysis/graph/build_all.h"
#include "analysis/graph/build_more.h"
#include "base/err.h"
#include <math.h>

enum { FIRST_PLACE = 2 };

struct opt {
    qn_dim width, heads, inner;
    uint64_t head;
    const char *act;
    bool before, affine; /* norms before the parts; norms with weights */
    qn_bias bias;
};

static qn_code norm(qn_build *b, const struct opt *m, const char *prefix, uint32_t *x, qn_err *err)
{
    const double eps = 1e-5; /* torch's default: no key for it */
    if (m->affine)
        return qn_build_layer_norm(b, prefix, *x, m->width, eps, m->bias, x, err);
    const qn_attr attr = qn_attr_f("eps", eps);
    const uint32_t in = *x;
    return qn_build_node(b, "LayerNorm", prefix, &in, 1, &attr, 1, x, err);
}

static qn_code attention(qn_build *b, const struct opt *m, const char *p, uint32_t x, uint32_t *y, qn_err *err)
{
    static const char *const names[3] = {"q_proj", "k_proj", "v_proj"};
    uint32_t qkv[3];
    for (unsigned i = 0; i < 3; i++)
        QN_TRY(qn_build_linear(b, qn_name("%sself_attn.%s", p, names[i]).s, x, m->width, m->width, m->bias, &qkv[i], err));
    QN_TRY(qn_build_attention(b, qn_name("%sself_attn", p).s, qkv, m->heads.n, m->heads.n, m->head, 1 / sqrt((double)m->head), 0, y, err));
    return qn_build_linear(b, qn_name("%sself_attn.out_proj", p).s, *y, m->width, m->width, m->bias, y, err);
}

static qn_code layer(qn_build *b, const struct opt *m, const char *p, uint32_t *x, qn_err *err)
{
    const qn_name_text first = qn_name("%sself_attn_layer_norm", p), second = qn_name("%sfinal_layer_norm", p);
    uint32_t y = *x;
    if (m->before)
        QN_TRY(norm(b, m, first.s, &y, err));
    QN_TRY(attention(b, m, p, y, &y, err));
    QN_TRY(qn_build_add(b, qn_name("%sself_attn.sum", p).s, *x, y, x, err));
    if (!m->before)
        QN_TRY(norm(b, m, first.s, x, err));
    y = *x;
    if (m->before)
        QN_TRY(norm(b, m, second.s, &y, err));
    QN_TRY(qn_build_mlp(b, qn_name("%sfc1", p).s, qn_name("%sfc2", p).s, m->act, y, m->width, m->inner, m->bias, &y, err));
    QN_TRY(qn_build_add(b, qn_name("%sfc.sum", p).s, *x, y, x, err));
    return m->before ? QN_OK : norm(b, m, second.s, x, err);
}

qn_code qn_build_opt(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    struct opt m;
    qn_dim vocab, places, word;
    uint64_t n_layers;
    bool biased, unfinished;
    QN_TRY(qn_build_dim(b, "hidden_size", &m.width, err));
    QN_TRY(qn_build_dim(b, "num_attention_heads", &m.heads, err));
    QN_TRY(qn_build_dim(b, "ffn_dim", &m.inner, err));
    QN_TRY(qn_build_dim(b, "vocab_size", &vocab, err));
    QN_TRY(qn_build_dim(b, "max_position_embeddings", &places, err));
    QN_TRY(qn_build_dim_or(b, "word_embed_proj_dim", m.width.n, &word, err));
    QN_TRY(qn_build_layers(b, "num_hidden_layers", &n_layers, err));
    QN_TRY(qn_build_head_size(b, m.width, m.heads, &m.head, err));
    QN_TRY(qn_config_bool_or(b->config, "do_layer_norm_before", true, &m.before, err));
    QN_TRY(qn_config_bool_or(b->config, "_remove_final_layer_norm", false, &unfinished, err));
    QN_TRY(qn_config_bool_or(b->config, "enable_bias", true, &biased, err));
    QN_TRY(qn_config_bool_or(b->config, "layer_norm_elementwise_affine", true, &m.affine, err));
    QN_TRY(qn_build_act_of(b, "activation_function", "relu", &m.act, err));
    m.bias = biased ? QN_BIAS_YES : QN_BIAS_NONE;

    QN_TRY(qn_build_begin(b, env, s, "opt", err));
    const char *p = qn_build_has(b, "decoder.embed_tokens.weight") ? "decoder." : "model.decoder.";
    const qn_name_text table = qn_name("%sembed_tokens", p);
    uint32_t x, y;
    QN_TRY(qn_build_embed(b, table.s, b->tokens, vocab, word, &x, err));
    if (word.n != m.width.n)
        QN_TRY(qn_build_linear(b, qn_name("%sproject_in", p).s, x, word, m.width, QN_BIAS_NONE, &x, err));
    QN_TRY(qn_build_places(b, qn_name("%sembed_positions", p).s, places, FIRST_PLACE, m.width, &y, err));
    QN_TRY(qn_build_add(b, "embedding.sum", x, y, &x, err));
    for (uint64_t i = 0; i < n_layers; i++) {
        QN_TRY(qn_build_layer(b, i, err));
        QN_TRY(layer(b, &m, qn_name("%slayers.%u.", p, (unsigned)i).s, &x, err));
    }
    QN_TRY(qn_graph_begin_block(b->g, "head", err));
    if (m.before && !unfinished)
        QN_TRY(norm(b, &m, qn_name("%sfinal_layer_norm", p).s, &x, err));
    if (word.n != m.width.n)
        QN_TRY(qn_build_linear(b, qn_name("%sproject_out", p).s, x, m.width, word, QN_BIAS_NONE, &x, err));
    QN_TRY(qn_build_head(b, "lm_head", table.s, true, x, vocab, word, QN_BIAS_NONE, &x, err));
    b->g->n_vocab = (uint32_t)vocab.n;
    b->g->context = places.n;
    return qn_build_end(b, x, NULL, err);
}
