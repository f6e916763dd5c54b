/* build_llama.c: what the config.jsons of the llama family share; llama, mistral, qwen2, qwen3. */
#include "analysis/graph/build_all.h"
#include "analysis/graph/build_decoder.h"
#include "base/err.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const qn_decoder_names qn_decoder_names_llama = {
    .embed = "embed_tokens", .layers = "layers", .norm = "norm",
    .attn_norm = "input_layernorm", .q = "self_attn.q_proj", .k = "self_attn.k_proj", .v = "self_attn.v_proj", .o = "self_attn.o_proj",
    .q_norm = "self_attn.q_norm", .k_norm = "self_attn.k_norm",
    .ffn_norm = "post_attention_layernorm", .gate = "mlp.gate_proj", .up = "mlp.up_proj", .down = "mlp.down_proj",
};

/* Where the language model's tensors are: checkpoints of models of several parts nest them. */
static void find_prefix(const qn_build *b, qn_decoder *d)
{
    static const char *const known[][2] = {
        {"model.", "lm_head"},
        {"model.language_model.", "lm_head"},
        {"language_model.model.", "language_model.lm_head"},
        {"", "lm_head"},
    };
    size_t found = 0;
    for (size_t i = sizeof known / sizeof known[0]; i-- > 0;)
        if (qn_build_has(b, qn_name("%s%s.weight", known[i][0], d->names.embed).s))
            found = i;
    snprintf(d->prefix, sizeof d->prefix, "%s", known[found][0]);
    snprintf(d->head, sizeof d->head, "%s", known[found][1]);
}

qn_code qn_decoder_marks(qn_build *b, qn_decoder *d, qn_err *err)
{
    uint8_t *marks = qn_arena_get(&b->g->arena, 2 * d->n_layers, 1, err);
    if (!marks)
        return QN_E_MEMORY;
    memset(marks, 0, 2 * d->n_layers);
    d->sliding = marks;
    d->sparse = marks + d->n_layers;
    return QN_OK;
}

qn_code qn_decoder_layers(qn_build *b, qn_decoder *d, uint64_t pattern, uint64_t first, qn_err *err)
{
    const qn_config *c = b->config;
    uint64_t n;
    QN_TRY(qn_config_list(c, "layer_types", &n, err));
    if (n && n != d->n_layers)
        return qn_config_fail(c, err, QN_E_INPUT, "layer_types has %" PRIu64 " elements: one for each of the %" PRIu64 " layers is expected", n,
                              d->n_layers);
    for (uint64_t i = 0; i < d->n_layers; i++) {
        const char *type;
        d->sliding[i] = i >= first && (pattern == 1 || (pattern > 1 && (i + 1) % pattern));
        if (!n)
            continue;
        QN_TRY(qn_config_item_str(c, "layer_types", i, &type, err));
        d->sliding[i] = !strcmp(type, "sliding_attention");
        if (!d->sliding[i] && strcmp(type, "full_attention")) {
            char shown[64];
            qn_printable(shown, sizeof shown, type, strlen(type));
            return qn_config_fail(c, err, QN_E_UNSUPPORTED, "layer_types[%" PRIu64 "] is \"%s\": full_attention and sliding_attention are known", i,
                                  shown);
        }
        if (d->sliding[i] && !d->window)
            return qn_config_fail(c, err, QN_E_INPUT, "layer_types[%" PRIu64 "] is sliding_attention, and there is no sliding_window", i);
    }
    return QN_OK;
}

qn_code qn_decoder_read(qn_build *b, const qn_decoder_defaults *def, qn_decoder *d, qn_err *err)
{
    enum { MOST = 1 << 24 };
    const qn_config *c = b->config;
    const char *act;
    uint64_t head_dim = def->head_dim;
    d->hidden.from = "hidden_size";
    d->ffn.from = "intermediate_size";
    d->vocab.from = "vocab_size";
    d->head_dim.from = "head_dim";
    d->q.from = "num_attention_heads × head_dim";
    d->kv.from = "num_key_value_heads × head_dim";
    QN_TRY(qn_config_u64(c, "hidden_size", 1, MOST, &d->hidden.n, err));
    QN_TRY(qn_config_u64(c, "intermediate_size", 1, MOST, &d->ffn.n, err));
    QN_TRY(qn_config_u64(c, "vocab_size", 1, UINT32_MAX, &d->vocab.n, err));
    QN_TRY(qn_config_u64(c, "num_hidden_layers", 1, 10000, &d->n_layers, err));
    QN_TRY(qn_config_u64(c, "num_attention_heads", 1, 65536, &d->heads, err));
    QN_TRY(qn_config_u64_or(c, "num_key_value_heads", 1, 65536, d->heads, &d->kv_heads, err));
    if (!head_dim && !qn_config_has(c, "head_dim")) {
        head_dim = d->hidden.n / d->heads;
        if (!head_dim || d->hidden.n % d->heads)
            return qn_config_fail(c, err, QN_E_INPUT, "num_attention_heads is %" PRIu64 ": it must divide hidden_size, %" PRIu64
                                                      ", because there is no head_dim", d->heads, d->hidden.n);
    }
    QN_TRY(qn_config_u64_or(c, "head_dim", 1, 65536, head_dim, &d->head_dim.n, err));
    if (d->heads % d->kv_heads)
        return qn_config_fail(c, err, QN_E_INPUT, "num_key_value_heads is %" PRIu64 ": it must divide num_attention_heads, %" PRIu64, d->kv_heads,
                              d->heads);
    d->q.n = d->heads * d->head_dim.n;
    d->kv.n = d->kv_heads * d->head_dim.n;
    QN_TRY(qn_config_u64_or(c, "max_position_embeddings", 1, UINT32_MAX, 0, &d->max_positions, err));
    QN_TRY(qn_config_f64_or(c, "rms_norm_eps", 0, 1, def->eps, &d->eps, err));
    QN_TRY(qn_config_str_or(c, def->act_keys, def->act, &act, err));
    QN_TRY(qn_build_act_kind(b, def->act_keys, act, &d->act, err));
    d->attn_scale = 1 / sqrt((double)d->head_dim.n);
    d->embed_scale = 1;
    d->tied = def->tied;
    find_prefix(b, d);
    return qn_decoder_marks(b, d, err);
}

/* What else decides of the three models that are llama with a difference or two. */
static qn_code read_kind(qn_build *b, qn_decoder *d, qn_err *err)
{
    const qn_config *c = b->config;
    bool use = true;
    uint64_t window_default = 0, first = 0;
    if (!strcmp(b->type, "llama"))
        QN_TRY(qn_config_bool_or(c, "mlp_bias", false, &d->mlp_bias, err));
    if (!strcmp(b->type, "llama") || !strcmp(b->type, "qwen3")) {
        QN_TRY(qn_config_bool_or(c, "attention_bias", false, &d->qkv_bias, err));
        d->o_bias = d->qkv_bias;
    }
    if (!strcmp(b->type, "qwen2"))
        d->qkv_bias = true;
    d->qk_norm = !strcmp(b->type, "qwen3");
    if (!strcmp(b->type, "llama"))
        return QN_OK; /* its class has no window */
    if (!strcmp(b->type, "mistral")) {
        /* where the key is absent the class's own value counts; null says that there is none */
        window_default = qn_config_named(c, "sliding_window") ? 0 : 4096;
    } else {
        QN_TRY(qn_config_bool_or(c, "use_sliding_window", false, &use, err));
        QN_TRY(qn_config_u64_or(c, "max_window_layers", 0, UINT32_MAX, 28, &first, err));
        window_default = 4096;
    }
    if (use)
        QN_TRY(qn_config_u64_or(c, "sliding_window", 1, UINT32_MAX, window_default, &d->window, err));
    return qn_decoder_layers(b, d, d->window ? 1 : 0, first, err);
}

qn_code qn_build_llama(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    qn_decoder d = {.names = qn_decoder_names_llama};
    qn_decoder_defaults def = {.eps = 1e-6, .theta = 1e4, .partial = 1, .act_keys = "hidden_act", .act = "silu"};
    if (!strcmp(b->type, "qwen3"))
        def.head_dim = 128;
    QN_TRY(qn_build_begin(b, env, s, b->type, err));
    QN_TRY(qn_decoder_read(b, &def, &d, err));
    QN_TRY(read_kind(b, &d, err));
    QN_TRY(qn_build_rope_config(b, "rope", NULL, "rope_theta", def.theta, def.partial, true, d.head_dim.n, d.max_positions, &d.rope[0], err));
    d.rope[1] = d.rope[0];
    return qn_decoder_build(b, &d, err);
}
