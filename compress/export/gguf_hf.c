/* gguf_hf.c: what a folder's config.json says, in the keys of llama.cpp's architectures. What those cannot say is refused by name: a file that loads and
 * computes something else is worse than none. Sources: the loaders of llama.cpp (what is read, what is required), the classes of transformers (defaults). */
#include "base/err.h"
#include "base/num.h"
#include "compress/export/gguf_impl.h"
#include "compress/export/gguf_rope.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 1 << 24 };

struct family;
typedef qn_code (*family_fn)(qn_ggx *x, const struct family *f, qn_err *err);

struct family {
    const char *family, *arch; /* of the graph; of the file */
    family_fn keys;
    double eps, theta, partial; /* the class's defaults */
    uint64_t head_dim;          /* 0: hidden / heads */
};

static qn_code refuse(const qn_ggx *x, qn_err *err, const char *key, const char *found)
{
    return qn_config_fail(&x->config, err, QN_E_UNSUPPORTED, "%s is %s: llama.cpp's \"%s\" cannot say that", key, found, x->arch);
}

/* Must be false, or absent where `otherwise` is false. */
static qn_code no(const qn_ggx *x, const char *key, bool otherwise, qn_err *err)
{
    bool v;
    QN_TRY(qn_config_bool_or(&x->config, key, otherwise, &v, err));
    return v ? refuse(x, err, key, "true") : QN_OK;
}

/* Must be one of the words (separated by spaces). */
static qn_code word(const qn_ggx *x, const char *key, const char *otherwise, const char *allowed, qn_err *err)
{
    const char *v;
    char shown[48];
    QN_TRY(qn_config_str_or(&x->config, key, otherwise, &v, err));
    const size_t n = strlen(v);
    for (const char *a = allowed; n && (a = strstr(a, v)); a += n)
        if ((a == allowed || a[-1] == ' ') && (a[n] == ' ' || !a[n]))
            return QN_OK;
    qn_printable(shown, sizeof shown, v, n);
    return refuse(x, err, key, shown);
}

/* --- sizes that most have ------------------------------------------------------------------------------------------------ */

static qn_code sizes(qn_ggx *x, const struct family *f, const char *layers, const char *hidden, const char *heads, qn_err *err)
{
    const qn_config *c = &x->config;
    QN_TRY(qn_config_u64(c, layers, 1, 10000, &x->n_layers, err));
    QN_TRY(qn_config_u64(c, hidden, 1, MOST, &x->hidden, err));
    QN_TRY(qn_config_u64(c, heads, 1, 65536, &x->heads, err));
    x->kv_heads = x->heads;
    if (strcmp(x->arch, "gptneox") && strcmp(x->arch, "gpt2")) /* which have no such thing */
        QN_TRY(qn_config_u64_or(c, "num_key_value_heads", 1, 65536, x->heads, &x->kv_heads, err));
    QN_TRY(qn_config_u64_or(c, "head_dim", 1, 65536, f->head_dim ? f->head_dim : x->hidden / x->heads, &x->head_dim, err));
    QN_TRY(qn_ggx_u32(x, "block_count", x->n_layers, err));
    QN_TRY(qn_ggx_u32(x, "embedding_length", x->hidden, err));
    QN_TRY(qn_ggx_u32(x, "attention.head_count", x->heads, err));
    return qn_ggx_u32(x, "attention.head_count_kv", x->kv_heads, err);
}

static qn_code context(qn_ggx *x, const char *keys, uint64_t otherwise, uint64_t *n, qn_err *err)
{
    QN_TRY(qn_config_u64_or(&x->config, keys, 1, UINT32_MAX, otherwise, n, err));
    return qn_ggx_u32(x, "context_length", *n, err);
}

static qn_code real_key(qn_ggx *x, const char *from, double otherwise, const char *to, qn_err *err)
{
    double v;
    QN_TRY(qn_config_f64_or(&x->config, from, 0, 1, otherwise, &v, err));
    return qn_ggx_f32(x, to, v, err);
}

/* --- llama and its relatives ------------------------------------------------------------------------------------------------ */

/* Layers whose attention sees a window only: marks; none when *window is 0. `pattern`: all but each pth; 1: all. */
static qn_code sliding(qn_ggx *x, uint64_t pattern, uint64_t first, uint64_t *marks, bool *any, qn_err *err)
{
    uint64_t n;
    *any = false;
    QN_TRY(qn_config_list(&x->config, "layer_types", &n, err));
    for (uint64_t i = 0; i < x->n_layers; i++) {
        const char *type;
        marks[i] = i >= first && (pattern == 1 || (pattern > 1 && (i + 1) % pattern));
        if (i < n) {
            QN_TRY(qn_config_item_str(&x->config, "layer_types", i, &type, err));
            marks[i] = !strcmp(type, "sliding_attention");
        }
        *any = *any || marks[i];
    }
    return QN_OK;
}

/* llama.cpp's llama, qwen2, qwen3 and phi3 let every token see all before it. */
static qn_code no_window(qn_ggx *x, uint64_t max_positions, qn_err *err)
{
    const bool qwen = !strncmp(x->arch, "qwen", 4), named = qn_config_named(&x->config, "sliding_window");
    bool use = true, any = false;
    uint64_t window, first = 0, *marks = qn_arena_get(x->arena, x->n_layers * sizeof *marks, 8, err);
    if (!marks)
        return QN_E_MEMORY;
    if (!strcmp(x->family, "llama"))
        return QN_OK;
    if (qwen) {
        QN_TRY(qn_config_bool_or(&x->config, "use_sliding_window", false, &use, err));
        QN_TRY(qn_config_u64_or(&x->config, "max_window_layers", 0, UINT32_MAX, 28, &first, err));
    }
    QN_TRY(qn_config_u64_or(&x->config, "sliding_window", 1, UINT32_MAX, named || !strcmp(x->family, "mixtral") || !strcmp(x->family, "phi3") ? 0 : 4096, &window,
                            err));
    if (use && window)
        QN_TRY(sliding(x, 1, first, marks, &any, err));
    if (any && window < max_positions)
        qn_export_say(x->job, "layers look back %" PRIu64 " tokens only; llama.cpp lets them see all: past that length results differ from the model's own", window);
    return QN_OK;
}

static qn_code experts(qn_ggx *x, qn_err *err)
{
    const bool mixtral = !strcmp(x->family, "mixtral"), two = !strcmp(x->family, "qwen2_moe");
    const qn_config *c = &x->config;
    uint64_t used, ffn, step, n;
    bool norm;
    QN_TRY(qn_config_u64(c, mixtral ? "num_local_experts" : "num_experts|num_local_experts", 1, 4096, &x->n_experts, err));
    QN_TRY(qn_config_u64_or(c, "num_experts_per_tok", 1, x->n_experts, mixtral ? 2 : two ? 4 : 8, &used, err));
    QN_TRY(qn_ggx_u32(x, "expert_count", x->n_experts, err));
    QN_TRY(qn_ggx_u32(x, "expert_used_count", used, err));
    if (mixtral)
        return QN_OK;
    QN_TRY(qn_config_u64(c, "moe_intermediate_size", 1, MOST, &ffn, err));
    QN_TRY(qn_ggx_u32(x, "expert_feed_forward_length", ffn, err));
    if (two) {
        QN_TRY(qn_config_u64(c, "shared_expert_intermediate_size", 1, MOST, &ffn, err));
        QN_TRY(qn_ggx_u32(x, "expert_shared_feed_forward_length", ffn, err));
    }
    QN_TRY(qn_config_bool_or(c, "norm_topk_prob", false, &norm, err));
    if (norm == two)
        return refuse(x, err, "norm_topk_prob", two ? "true" : "false");
    QN_TRY(qn_config_u64_or(c, "decoder_sparse_step", 1, 10000, 1, &step, err));
    QN_TRY(qn_config_list(c, "mlp_only_layers", &n, err));
    return step != 1 || n ? refuse(x, err, step != 1 ? "decoder_sparse_step" : "mlp_only_layers", "given: layers without experts") : QN_OK;
}

static qn_code llama(qn_ggx *x, const struct family *f, qn_err *err)
{
    uint64_t ffn, max_positions;
    const bool moe = !strcmp(x->family, "mixtral") || strstr(x->family, "_moe");
    QN_TRY(sizes(x, f, "num_hidden_layers", "hidden_size", "num_attention_heads", err));
    QN_TRY(context(x, "max_position_embeddings", 2048, &max_positions, err));
    QN_TRY(qn_config_u64(&x->config, "intermediate_size", 1, MOST, &ffn, err));
    QN_TRY(qn_ggx_u32(x, "feed_forward_length", ffn, err));
    QN_TRY(qn_ggx_u32(x, "attention.key_length", x->head_dim, err));
    QN_TRY(qn_ggx_u32(x, "attention.value_length", x->head_dim, err));
    QN_TRY(real_key(x, "rms_norm_eps", f->eps, "attention.layer_norm_rms_epsilon", err));
    QN_TRY(word(x, "hidden_act", "silu", "silu swish", err));
    if (!strncmp(x->family, "qwen3", 5))
        QN_TRY(no(x, "attention_bias", false, err));
    if (moe)
        QN_TRY(experts(x, err));
    QN_TRY(no_window(x, max_positions, err));
    if (!strcmp(x->family, "phi3"))
        QN_TRY(qn_ggx_u32(x, "attention.sliding_window", 0, err)); /* its loader warns of any other */
    return qn_ggx_rope(x, &(qn_ggx_rope_of){.theta = f->theta, .partial = f->partial, .theta_key = "rope_theta", .max_positions = max_positions}, err);
}

/* --- gemma -------------------------------------------------------------------------------------------------------------------- */

static qn_code gemma_attention(qn_ggx *x, bool three, qn_err *err)
{
    const qn_config *c = &x->config;
    double per, softcap;
    QN_TRY(qn_config_f64_or(c, "query_pre_attn_scalar", 1e-6, 1e9, 256, &per, err));
    /* no key says it: head size, but of the largest model hidden / heads */
    const double scale = x->n_layers == (three ? 62u : 46u) ? (double)(x->hidden / x->heads) : (double)x->head_dim;
    if (fabs(per - scale) > 1e-6 * scale) {
        char shown[64];
        snprintf(shown, sizeof shown, "%g and not %g", per, scale);
        return refuse(x, err, "query_pre_attn_scalar", shown);
    }
    QN_TRY(qn_config_f64_or(c, "attn_logit_softcapping", 1e-3, 1e9, three || qn_config_named(c, "attn_logit_softcapping") ? 0 : 50, &softcap, err));
    if ((softcap > 0) == three)
        return refuse(x, err, "attn_logit_softcapping", three ? "given" : "null");
    if (!three)
        QN_TRY(qn_ggx_f32(x, "attn_logit_softcapping", softcap, err));
    QN_TRY(qn_config_f64_or(c, "final_logit_softcapping", 1e-3, 1e9, three || qn_config_named(c, "final_logit_softcapping") ? 0 : 30, &softcap, err));
    if (softcap <= 0 && !three)
        return refuse(x, err, "final_logit_softcapping", "null");
    return softcap > 0 ? qn_ggx_f32(x, "final_logit_softcapping", softcap, err) : QN_OK;
}

/* The window, and which layers have it: a key only where that is not what the loader takes for granted. */
static qn_code gemma_windows(qn_ggx *x, bool three, qn_err *err)
{
    const qn_config *c = &x->config;
    const uint64_t usual = three ? 6 : 2;
    uint64_t window, pattern, *marks = qn_arena_get(x->arena, x->n_layers * sizeof *marks, 8, err);
    bool any, same = true;
    if (!marks)
        return QN_E_MEMORY;
    QN_TRY(qn_config_u64_or(c, "sliding_window", 1, UINT32_MAX, qn_config_named(c, "sliding_window") ? 0 : 4096, &window, err));
    QN_TRY(qn_config_u64_or(c, "sliding_window_pattern|_sliding_window_pattern", 1, 10000, usual, &pattern, err));
    QN_TRY(sliding(x, window && pattern > 1 ? pattern : 0, 0, marks, &any, err));
    if (!any && !three)
        return refuse(x, err, "sliding_window", "not used");
    QN_TRY(qn_ggx_u32(x, "attention.sliding_window", any ? window : 0, err));
    for (uint64_t i = 0; i < x->n_layers; i++)
        same = same && marks[i] == ((i + 1) % usual != 0);
    return !any || same ? QN_OK : qn_ggx_array(x, "attention.sliding_window_pattern", QN_GGUF_BOOL, marks, (uint32_t)x->n_layers, err);
}

static qn_code gemma(qn_ggx *x, const struct family *f, qn_err *err)
{
    const bool one = !strcmp(x->family, "gemma"), three = !strcmp(x->family, "gemma3");
    uint64_t ffn, max_positions;
    QN_TRY(sizes(x, f, "num_hidden_layers", "hidden_size", "num_attention_heads", err));
    QN_TRY(context(x, "max_position_embeddings", three ? 131072 : 8192, &max_positions, err));
    QN_TRY(qn_config_u64(&x->config, "intermediate_size", 1, MOST, &ffn, err));
    QN_TRY(qn_ggx_u32(x, "feed_forward_length", ffn, err));
    QN_TRY(qn_ggx_u32(x, "attention.key_length", x->head_dim, err));
    QN_TRY(qn_ggx_u32(x, "attention.value_length", x->head_dim, err));
    QN_TRY(real_key(x, "rms_norm_eps", f->eps, "attention.layer_norm_rms_epsilon", err));
    QN_TRY(word(x, "hidden_activation", "gelu_pytorch_tanh", "gelu_pytorch_tanh gelu_new", err));
    QN_TRY(no(x, "attention_bias", false, err));
    if (!one) {
        QN_TRY(gemma_attention(x, three, err));
        QN_TRY(gemma_windows(x, three, err));
    }
    qn_ggx_rope_of r = {.theta = f->theta, .partial = 1, .theta_key = "rope_theta", .layer_type = "full_attention", .max_positions = max_positions};
    QN_TRY(qn_ggx_rope(x, &r, err));
    if (!three)
        return QN_OK;
    r = (qn_ggx_rope_of){.theta = 1e4, .partial = 1, .theta_key = "rope_local_base_freq", .layer_type = "sliding_attention", .local = true,
                         .max_positions = max_positions};
    return qn_ggx_rope(x, &r, err);
}

/* --- with layer norms ------------------------------------------------------------------------------------------------------------ */

static qn_code gpt2(qn_ggx *x, const struct family *f, qn_err *err)
{
    uint64_t ffn, places;
    bool scaled;
    QN_TRY(sizes(x, f, "n_layer|num_hidden_layers", "n_embd|hidden_size", "n_head|num_attention_heads", err));
    QN_TRY(context(x, "n_positions|max_position_embeddings|n_ctx", 1024, &places, err));
    QN_TRY(qn_config_u64_or(&x->config, "n_inner|intermediate_size", 1, MOST, 4 * x->hidden, &ffn, err));
    QN_TRY(qn_ggx_u32(x, "feed_forward_length", ffn, err));
    QN_TRY(real_key(x, "layer_norm_epsilon", f->eps, "attention.layer_norm_epsilon", err));
    QN_TRY(word(x, "activation_function", "gelu_new", "gelu_new gelu_pytorch_tanh gelu_fast", err));
    QN_TRY(no(x, "scale_attn_by_inverse_layer_idx", false, err));
    QN_TRY(qn_config_bool_or(&x->config, "scale_attn_weights", true, &scaled, err));
    return scaled ? QN_OK : refuse(x, err, "scale_attn_weights", "false");
}

static qn_code gpt_neox(qn_ggx *x, const struct family *f, qn_err *err)
{
    uint64_t ffn, places;
    bool parallel, bias;
    QN_TRY(sizes(x, f, "num_hidden_layers", "hidden_size", "num_attention_heads", err));
    QN_TRY(context(x, "max_position_embeddings", 2048, &places, err));
    QN_TRY(qn_config_u64(&x->config, "intermediate_size", 1, MOST, &ffn, err));
    QN_TRY(qn_ggx_u32(x, "feed_forward_length", ffn, err));
    QN_TRY(real_key(x, "layer_norm_eps", f->eps, "attention.layer_norm_epsilon", err));
    QN_TRY(qn_config_bool_or(&x->config, "use_parallel_residual", true, &parallel, err));
    QN_TRY(qn_ggx_bool(x, "use_parallel_residual", parallel, err));
    QN_TRY(qn_config_bool_or(&x->config, "attention_bias", true, &bias, err));
    if (!bias)
        return refuse(x, err, "attention_bias", "false");
    QN_TRY(word(x, "hidden_act", "gelu", "gelu gelu_new gelu_fast gelu_pytorch_tanh", err));
    return qn_ggx_rope(x, &(qn_ggx_rope_of){.theta = f->theta, .partial = f->partial, .theta_key = "rotary_emb_base|rope_theta", .max_positions = places}, err);
}

static qn_code phi2(qn_ggx *x, const struct family *f, qn_err *err)
{
    uint64_t ffn, places;
    QN_TRY(sizes(x, f, "num_hidden_layers", "hidden_size", "num_attention_heads", err));
    QN_TRY(context(x, "max_position_embeddings", 2048, &places, err));
    QN_TRY(qn_config_u64(&x->config, "intermediate_size", 1, MOST, &ffn, err));
    QN_TRY(qn_ggx_u32(x, "feed_forward_length", ffn, err));
    QN_TRY(real_key(x, "layer_norm_eps", f->eps, "attention.layer_norm_epsilon", err));
    QN_TRY(word(x, "hidden_act", "gelu_new", "gelu_new gelu_fast gelu_pytorch_tanh", err));
    QN_TRY(no(x, "qk_layernorm", false, err));
    return qn_ggx_rope(x, &(qn_ggx_rope_of){.theta = f->theta, .partial = f->partial, .theta_key = "rope_theta", .max_positions = places}, err);
}

/* --- mamba --------------------------------------------------------------------------------------------------------------------- */

static qn_code mamba_rank(qn_ggx *x, uint64_t *rank, qn_err *err)
{
    const char *text;
    *rank = (x->hidden + 15) / 16;
    if (qn_config_str_or(&x->config, "time_step_rank", "auto", &text, NULL) == QN_OK && text[0] == 'a')
        return QN_OK;
    return qn_config_u64_or(&x->config, "time_step_rank", 1, MOST, *rank, rank, err);
}

/* Numbers that loaders want and models of this kind do not have. */
static qn_code mamba_common(qn_ggx *x, const struct family *f, uint64_t *inner, qn_err *err)
{
    const qn_config *c = &x->config;
    uint64_t kernel;
    double expand;
    bool conv;
    QN_TRY(qn_config_u64(c, "num_hidden_layers|n_layer", 1, 10000, &x->n_layers, err));
    QN_TRY(qn_config_u64(c, "hidden_size|d_model", 1, MOST, &x->hidden, err));
    QN_TRY(qn_config_u64_or(c, "conv_kernel", 1, 1024, 4, &kernel, err));
    QN_TRY(qn_config_f64_or(c, "expand", 1, 64, 2, &expand, err));
    QN_TRY(qn_config_u64_or(c, "intermediate_size|d_inner", 1, MOST, (uint64_t)(expand * (double)x->hidden), inner, err));
    QN_TRY(qn_ggx_u32(x, "block_count", x->n_layers, err));
    QN_TRY(qn_ggx_u32(x, "context_length", UINT64_C(1) << 20, err)); /* there is no limit */
    QN_TRY(qn_ggx_u32(x, "embedding_length", x->hidden, err));
    QN_TRY(qn_ggx_u32(x, "feed_forward_length", 0, err));
    QN_TRY(qn_ggx_u32(x, "attention.head_count", 0, err));
    QN_TRY(qn_ggx_u32(x, "ssm.conv_kernel", kernel, err));
    QN_TRY(qn_ggx_u32(x, "ssm.inner_size", *inner, err));
    QN_TRY(real_key(x, "layer_norm_epsilon", f->eps, "attention.layer_norm_rms_epsilon", err));
    QN_TRY(word(x, "hidden_act", "silu", "silu swish", err));
    QN_TRY(no(x, "use_bias", false, err));
    QN_TRY(qn_config_bool_or(c, "use_conv_bias", true, &conv, err));
    return conv ? QN_OK : refuse(x, err, "use_conv_bias", "false");
}

static qn_code mamba(qn_ggx *x, const struct family *f, qn_err *err)
{
    uint64_t inner, state, rank;
    QN_TRY(mamba_common(x, f, &inner, err));
    if (inner != 2 * x->hidden)
        return refuse(x, err, "intermediate_size", "not twice hidden_size");
    QN_TRY(qn_config_u64_or(&x->config, "state_size", 1, MOST, 16, &state, err));
    QN_TRY(mamba_rank(x, &rank, err));
    QN_TRY(qn_ggx_u32(x, "ssm.state_size", state, err));
    return qn_ggx_u32(x, "ssm.time_step_rank", rank, err);
}

static qn_code mamba2(qn_ggx *x, const struct family *f, qn_err *err)
{
    const qn_config *c = &x->config;
    uint64_t inner, state, n;
    bool norm;
    QN_TRY(mamba_common(x, f, &inner, err));
    QN_TRY(qn_config_u64(c, "num_heads", 1, 65536, &x->heads, err));
    QN_TRY(qn_config_u64_or(c, "head_dim", 1, 65536, 64, &x->head_dim, err));
    QN_TRY(qn_config_u64_or(c, "n_groups", 1, 65536, 8, &x->kv_heads, err));
    QN_TRY(qn_config_u64_or(c, "state_size", 1, MOST, 128, &state, err));
    QN_TRY(qn_config_bool_or(c, "rms_norm", true, &norm, err));
    if (!norm)
        return refuse(x, err, "rms_norm", "false");
    if (x->heads * x->head_dim != inner)
        return refuse(x, err, "num_heads", "not intermediate_size / head_dim");
    QN_TRY(qn_config_list(c, "time_step_limit", &n, err));
    for (uint64_t i = 0; i < n && i < 2; i++) {
        double v;
        QN_TRY(qn_config_item_f64(c, "time_step_limit", i, 0, 1e308, &v, err));
        if (i ? v < 1e30 : v > 0)
            return refuse(x, err, "time_step_limit", "a limit");
    }
    QN_TRY(qn_ggx_u32(x, "ssm.state_size", state, err));
    QN_TRY(qn_ggx_u32(x, "ssm.time_step_rank", x->heads, err));
    return qn_ggx_u32(x, "ssm.group_count", x->kv_heads, err);
}

/* --- all --------------------------------------------------------------------------------------------------------------------------- */

static const struct family families[] = {
    {"llama", "llama", llama, 1e-6, 1e4, 1, 0},
    {"mistral", "llama", llama, 1e-6, 1e4, 1, 0},
    {"mixtral", "llama", llama, 1e-5, 1e6, 1, 0},
    {"qwen2", "qwen2", llama, 1e-6, 1e4, 1, 0},
    {"qwen2_moe", "qwen2moe", llama, 1e-6, 1e4, 1, 0},
    {"qwen3", "qwen3", llama, 1e-6, 1e4, 1, 128},
    {"qwen3_moe", "qwen3moe", llama, 1e-6, 1e4, 1, 0},
    {"gemma", "gemma", gemma, 1e-6, 1e4, 1, 256},
    {"gemma2", "gemma2", gemma, 1e-6, 1e4, 1, 256},
    {"gemma3", "gemma3", gemma, 1e-6, 1e6, 1, 256},
    {"phi3", "phi3", llama, 1e-5, 1e4, 1, 0},
    {"phi", "phi2", phi2, 1e-5, 1e4, 0.5, 0},
    {"gpt2", "gpt2", gpt2, 1e-5, 0, 0, 0},
    {"gpt_neox", "gptneox", gpt_neox, 1e-5, 1e4, 0.25, 0},
    {"mamba", "mamba", mamba, 1e-5, 0, 0, 0},
    {"mamba2", "mamba2", mamba2, 1e-5, 0, 0, 0},
    {.family = NULL},
};

/* The folder's own name; a path that someone's config.json holds is nobody's business. */
static qn_code name_of(qn_ggx *x, qn_err *err)
{
    const char *path = qn_source_given(x->job->input ? x->job->input : x->job->src);
    size_t n = strlen(path), from;
    while (n > 1 && path[n - 1] == '/')
        n--;
    for (from = n; from > 0 && path[from - 1] != '/'; from--)
        ;
    if (n - from > 6 && !strncmp(path + n - 6, ".quern", 6))
        n -= 6;
    const char *name = qn_arena_str(x->arena, path + from, n - from, err);
    if (!name)
        return QN_E_MEMORY;
    return name[0] && name[0] != '.' ? qn_ggx_str(x, "general.name", name, err) : QN_OK;
}

qn_code qn_ggx_config(qn_ggx *x, qn_err *err)
{
    const struct family *f = families;
    while (f->family && strcmp(f->family, x->family))
        f++;
    if (!f->family)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "llama.cpp runs no models of the kind \"%s\", so they are not written as GGUF", x->family);
    x->arch = f->arch;
    QN_TRY(qn_ggx_str(x, "general.architecture", f->arch, err));
    QN_TRY(qn_ggx_str(x, "general.type", "model", err));
    QN_TRY(name_of(x, err));
    return f->keys(x, f, err);
}
