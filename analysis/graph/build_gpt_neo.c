/* build_gpt_neo.c: GPT-Neo (Black et al. 2021): GPT-2 with projections (out, in), scores that are not scaled, and layers that
 * look at a window of the tokens before. */
#include "analysis/graph/build_all.h"
#include "analysis/graph/build_more.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

/* "global" or "local"; others are not known. */
static qn_code is_local(const qn_config *c, const char *kind, bool *local, qn_err *err)
{
    char shown[64];
    *local = !strcmp(kind, "local");
    qn_printable(shown, sizeof shown, kind, strlen(kind));
    return *local || !strcmp(kind, "global") ? QN_OK
                                             : qn_config_fail(c, err, QN_E_UNSUPPORTED, "attention \"%s\"; global and local are known", shown);
}

/* attention_types: [[["global", "local"], 12], …]: the kinds in turn, that many times. */
static qn_code local_by_types(const qn_config *c, uint64_t layer, bool *local, qn_err *err)
{
    uint64_t n, at = 0;
    QN_TRY(qn_config_list(c, "attention_types", &n, err));
    for (uint64_t i = 0; i < n; i++) {
        qn_config pair, kinds;
        uint64_t n_pair, n_kinds, times;
        const char *kind;
        QN_TRY(qn_config_item_list(c, "attention_types", i, &pair, &n_pair, err));
        if (n_pair != 2)
            return qn_config_fail(c, err, QN_E_INPUT, "attention_types: pairs of a list and a number are expected");
        QN_TRY(qn_config_item_list(&pair, "", 0, &kinds, &n_kinds, err));
        QN_TRY(qn_config_item_u64(&pair, "", 1, 0, QN_LAYERS_MAX, &times, err));
        if (n_kinds > QN_LAYERS_MAX)
            return qn_config_fail(c, err, QN_E_INPUT, "attention_types: a list is too long");
        if (layer - at < n_kinds * times) {
            QN_TRY(qn_config_item_str(&kinds, "", (layer - at) % n_kinds, &kind, err));
            return is_local(c, kind, local, err);
        }
        at += n_kinds * times;
    }
    return qn_config_fail(c, err, QN_E_INPUT, "attention_types says nothing of layer %u", (unsigned)layer);
}

/* Without either list: global and local in turn, as the class has it. */
static qn_code local_layer(const qn_config *c, uint64_t layer, bool *local, qn_err *err)
{
    const char *kind;
    uint64_t n;
    QN_TRY(qn_config_list(c, "attention_layers", &n, err));
    if (n) {
        if (layer >= n)
            return qn_config_fail(c, err, QN_E_INPUT, "attention_layers says nothing of layer %u", (unsigned)layer);
        QN_TRY(qn_config_item_str(c, "attention_layers", layer, &kind, err));
        return is_local(c, kind, local, err);
    }
    if (qn_config_has(c, "attention_types"))
        return local_by_types(c, layer, local, err);
    *local = layer % 2 != 0;
    return QN_OK;
}

struct neo {
    qn_dim width, heads, inner;
    uint64_t head;
    double eps;
    const char *act;
};

static qn_code layer(qn_build *b, const struct neo *m, const char *p, uint64_t window, uint32_t *x, qn_err *err)
{
    static const char *const names[3] = {"q_proj", "k_proj", "v_proj"};
    uint32_t y, qkv[3];
    QN_TRY(qn_build_layer_norm(b, qn_name("%sln_1", p).s, *x, m->width, m->eps, QN_BIAS_YES, &y, err));
    for (unsigned i = 0; i < 3; i++)
        QN_TRY(qn_build_linear(b, qn_name("%sattn.attention.%s", p, names[i]).s, y, m->width, m->width, QN_BIAS_NONE, &qkv[i], err));
    QN_TRY(qn_build_attention(b, qn_name("%sattn.attention", p).s, qkv, m->heads.n, m->heads.n, m->head, 1, window, &y, err));
    QN_TRY(qn_build_linear(b, qn_name("%sattn.attention.out_proj", p).s, y, m->width, m->width, QN_BIAS_YES, &y, err));
    QN_TRY(qn_build_add(b, qn_name("%sattn.sum", p).s, *x, y, x, err));
    QN_TRY(qn_build_layer_norm(b, qn_name("%sln_2", p).s, *x, m->width, m->eps, QN_BIAS_YES, &y, err));
    QN_TRY(qn_build_mlp(b, qn_name("%smlp.c_fc", p).s, qn_name("%smlp.c_proj", p).s, m->act, y, m->width, m->inner, QN_BIAS_YES, &y, err));
    return qn_build_add(b, qn_name("%smlp.sum", p).s, *x, y, x, err);
}

qn_code qn_build_gpt_neo(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    static const char *const buffers[] = {".attention.bias", ".attention.masked_bias", NULL};
    struct neo m;
    qn_dim vocab, places;
    uint64_t n_layers, window;
    QN_TRY(qn_build_dim(b, "hidden_size", &m.width, err));
    QN_TRY(qn_build_dim(b, "num_heads|num_attention_heads", &m.heads, err));
    QN_TRY(qn_build_dim_or(b, "intermediate_size", 4 * m.width.n, &m.inner, err));
    QN_TRY(qn_build_dim(b, "vocab_size", &vocab, err));
    QN_TRY(qn_build_dim(b, "max_position_embeddings", &places, err));
    QN_TRY(qn_build_layers(b, "num_layers|num_hidden_layers", &n_layers, err));
    QN_TRY(qn_config_u64_or(b->config, "window_size", 1, QN_WIDTH_MAX, 256, &window, err));
    QN_TRY(qn_build_head_size(b, m.width, m.heads, &m.head, err));
    QN_TRY(qn_config_f64_or(b->config, "layer_norm_epsilon", 0, 1, 1e-5, &m.eps, err));
    QN_TRY(qn_build_act_of(b, "activation_function", "gelu_new", &m.act, err));

    QN_TRY(qn_build_begin(b, env, s, "gpt_neo", err));
    uint32_t x, y;
    QN_TRY(qn_build_embed(b, "transformer.wte", b->tokens, vocab, m.width, &x, err));
    QN_TRY(qn_build_places(b, "transformer.wpe", places, 0, m.width, &y, err));
    QN_TRY(qn_build_add(b, "embedding.sum", x, y, &x, err));
    for (uint64_t i = 0; i < n_layers; i++) {
        bool local;
        QN_TRY(local_layer(b->config, i, &local, err));
        QN_TRY(qn_build_layer(b, i, err));
        QN_TRY(layer(b, &m, qn_name("transformer.h.%u.", (unsigned)i).s, local ? window : 0, &x, err));
    }
    QN_TRY(qn_graph_begin_block(b->g, "head", err));
    QN_TRY(qn_build_layer_norm(b, "transformer.ln_f", x, m.width, m.eps, QN_BIAS_YES, &x, err));
    QN_TRY(qn_build_head(b, "lm_head", "transformer.wte", true, x, vocab, m.width, QN_BIAS_NONE, &x, err));
    b->g->n_vocab = (uint32_t)vocab.n;
    b->g->context = places.n;
    return qn_build_end(b, x, buffers, err);
}
