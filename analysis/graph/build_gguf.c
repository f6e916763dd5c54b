/* build_gguf.c: the llama family in a GGUF file: llama (also with experts), deci (llama whose layers differ in widths), qwen2, qwen2moe, qwen3, qwen3moe, gemma, gemma2, gemma3, phi3. Differences from the
 * folders of the same models: rows of llama's q and k are permuted for interleaved rope; the norms of gemma have their 1 added; llama 3's rope is a
 * tensor of divisors. */
#include "analysis/graph/build_all.h"
#include "analysis/graph/build_decoder.h"
#include "analysis/graph/build_gguf.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 1 << 24 };

static const qn_decoder_names gguf_names = {
    .embed = "token_embd", .layers = "blk", .norm = "output_norm",
    .attn_norm = "attn_norm", .q = "attn_q", .k = "attn_k", .v = "attn_v", .o = "attn_output", .q_norm = "attn_q_norm", .k_norm = "attn_k_norm",
    .ffn_norm = "ffn_norm", .gate = "ffn_gate", .up = "ffn_up", .down = "ffn_down",
    .router = "ffn_gate_inp", .expert = "experts", .expert_parts = {"ffn_gate", "ffn_up", "ffn_down"},
    .stacked = {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"},
    .shared = {"ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"}, .shared_gate = "ffn_gate_inp_shexp",
};

qn_code qn_build_gguf_range(const char *key, const char *found, const char *allowed, qn_err *err)
{
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "key '%s' is %s: %s is expected", key, found, allowed);
}

qn_code qn_build_gguf_u64(const qn_build *b, const char *name, uint64_t low, uint64_t high, uint64_t otherwise, uint64_t *v, qn_err *err)
{
    const qn_name_text key = qn_name("%s.%s", b->type, name);
    *v = otherwise;
    if (otherwise != UINT64_MAX && !qn_gguf_find(b->gguf, key.s))
        return QN_OK;
    QN_TRY(qn_gguf_get_u64(b->gguf, key.s, v, err));
    if (*v >= low && *v <= high)
        return QN_OK;
    return qn_build_gguf_range(key.s, qn_name("%" PRIu64, *v).s, qn_name("%" PRIu64 " to %" PRIu64, low, high).s, err);
}

qn_code qn_build_gguf_f64(const qn_build *b, const char *name, double low, double high, double otherwise, double *v, qn_err *err)
{
    const qn_name_text key = qn_name("%s.%s", b->type, name);
    *v = otherwise;
    if (!qn_gguf_find(b->gguf, key.s))
        return QN_OK;
    QN_TRY(qn_gguf_get_f64(b->gguf, key.s, v, err));
    if (*v >= low && *v <= high) /* false for NaN */
        return QN_OK;
    return qn_build_gguf_range(key.s, qn_name("%g", *v).s, qn_name("%g to %g", low, high).s, err);
}

qn_code qn_build_gguf_vocab(const qn_build *b, uint64_t *n, qn_err *err)
{
    const uint64_t t = qn_source_tensor_find(b->g->source, "token_embd.weight");
    const bool there = t != UINT64_MAX && b->g->source->tensors[t].rank == 2;
    return qn_build_gguf_u64(b, "vocab_size", 1, UINT32_MAX, there ? qn_min_u64(b->g->source->tensors[t].dims[0], UINT32_MAX) : 0, n, err);
}

/* <architecture>.<name>, one number or an array with one for each of n layers → v (n). */
static qn_code get_each(const qn_build *b, const char *name, uint64_t high, uint64_t n, uint64_t *v, qn_err *err)
{
    const qn_name_text key = qn_name("%s.%s", b->type, name);
    const qn_gguf_key *k = qn_gguf_find(b->gguf, key.s);
    uint64_t n_found;
    if (!k || k->type != QN_GGUF_ARRAY) {
        QN_TRY(qn_build_gguf_u64(b, name, 1, high, UINT64_MAX, &v[0], err));
        for (uint64_t i = 1; i < n; i++)
            v[i] = v[0];
        return QN_OK;
    }
    const qn_gguf_type type = k->elem == QN_GGUF_I32 ? QN_GGUF_I32 : QN_GGUF_U32;
    QN_TRY(qn_gguf_get_array(b->gguf, key.s, type, &n_found, err));
    if (n_found != n)
        return qn_build_gguf_range(key.s, qn_name("%" PRIu64 " numbers", n_found).s, qn_name("one for each of %" PRIu64 " layers", n).s, err);
    for (uint64_t i = 0; i < n; i++) {
        uint8_t raw[4];
        QN_TRY(qn_gguf_get_elems(b->gguf, key.s, type, i, 1, raw, err));
        v[i] = qn_load32(raw); /* negative ones are too large */
        if (v[i] < 1 || v[i] > high)
            return qn_build_gguf_range(key.s, qn_name("%" PRIu64 " in layer %" PRIu64, v[i], i).s, qn_name("1 to %" PRIu64, high).s, err);
    }
    return QN_OK;
}

/* Widths of deci: each layer's own. Layers without attention or without ffn, which it also has, are refused. */
static qn_code read_each(qn_build *b, qn_decoder *d, qn_err *err)
{
    const uint64_t n = d->n_layers;
    uint64_t *v = qn_arena_get(&b->g->arena, 3 * n * sizeof *v, 8, err);
    qn_decoder_layer *each = qn_arena_get(&b->g->arena, n * sizeof *each, 8, err);
    if (!v || !each)
        return QN_E_MEMORY;
    QN_TRY(get_each(b, "attention.head_count", 65536, n, v, err));
    QN_TRY(get_each(b, "attention.head_count_kv", 65536, n, v + n, err));
    QN_TRY(get_each(b, "feed_forward_length", MOST, n, v + 2 * n, err));
    for (uint64_t i = 0; i < n; i++) {
        each[i] = (qn_decoder_layer){.heads = v[i], .kv_heads = v[n + i], .ffn = v[2 * n + i]};
        if (v[i] % v[n + i])
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "attention.head_count is %" PRIu64 " in layer %" PRIu64 ": it does not fit head_count_kv, %" PRIu64,
                           v[i], i, v[n + i]);
    }
    d->each = each;
    d->heads = each[0].heads;
    d->kv_heads = each[0].kv_heads;
    d->ffn.n = each[0].ffn;
    return QN_OK;
}

static qn_code read_sizes(qn_build *b, qn_decoder *d, qn_err *err)
{
    uint64_t value_length;
    d->hidden.from = "embedding_length";
    d->ffn.from = "feed_forward_length";
    d->vocab.from = "vocab_size";
    d->head_dim.from = "attention.key_length";
    d->q.from = "attention.head_count × attention.key_length";
    d->kv.from = "attention.head_count_kv × attention.key_length";
    QN_TRY(qn_build_gguf_u64(b, "embedding_length", 1, MOST, UINT64_MAX, &d->hidden.n, err));
    QN_TRY(qn_build_gguf_u64(b, "block_count", 1, 10000, UINT64_MAX, &d->n_layers, err));
    if (!strcmp(b->type, "deci")) {
        QN_TRY(read_each(b, d, err));
    } else {
        QN_TRY(qn_build_gguf_u64(b, "attention.head_count", 1, 65536, UINT64_MAX, &d->heads, err));
        QN_TRY(qn_build_gguf_u64(b, "attention.head_count_kv", 1, 65536, d->heads, &d->kv_heads, err));
    }
    QN_TRY(qn_build_gguf_u64(b, "attention.key_length", 1, 65536, d->hidden.n / d->heads, &d->head_dim.n, err));
    QN_TRY(qn_build_gguf_u64(b, "attention.value_length", 1, 65536, d->head_dim.n, &value_length, err));
    QN_TRY(qn_build_gguf_u64(b, "context_length", 1, UINT32_MAX, 0, &d->max_positions, err));
    if (d->heads % d->kv_heads || !d->head_dim.n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "attention.head_count is %" PRIu64 ": it does not fit head_count_kv, %" PRIu64
                                                      ", and embedding_length, %" PRIu64, d->heads, d->kv_heads, d->hidden.n);
    if (value_length != d->head_dim.n)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "attention.value_length is %" PRIu64 " and key_length %" PRIu64 ": only equal ones are "
                                                            "supported", value_length, d->head_dim.n);
    d->q.n = d->heads * d->head_dim.n;
    d->kv.n = d->kv_heads * d->head_dim.n;
    QN_TRY(qn_build_gguf_vocab(b, &d->vocab.n, err));
    return qn_build_gguf_f64(b, "attention.layer_norm_rms_epsilon", 0, 1, 1e-6, &d->eps, err);
}

static qn_code read_experts(qn_build *b, qn_decoder *d, qn_err *err)
{
    const bool two = !strcmp(b->type, "qwen2moe"), qwen = two || !strcmp(b->type, "qwen3moe");
    d->n_experts.from = "expert_count";
    if (d->each)
        return QN_OK;
    QN_TRY(qn_build_gguf_u64(b, "expert_count", 0, 4096, qwen ? UINT64_MAX : 0, &d->n_experts.n, err));
    QN_TRY(qn_build_gguf_u64(b, "feed_forward_length", 1, MOST, qwen ? 0 : UINT64_MAX, &d->ffn.n, err));
    if (!d->n_experts.n)
        return QN_OK;
    QN_TRY(qn_build_gguf_u64(b, "expert_used_count", 1, d->n_experts.n, UINT64_MAX, &d->top_k, err));
    d->expert_ffn = d->ffn;
    d->expert_ffn.from = "expert_feed_forward_length";
    QN_TRY(qn_build_gguf_u64(b, "expert_feed_forward_length", 1, MOST, qwen ? UINT64_MAX : d->ffn.n, &d->expert_ffn.n, err));
    d->shared_ffn.from = "expert_shared_feed_forward_length";
    if (two)
        QN_TRY(qn_build_gguf_u64(b, "expert_shared_feed_forward_length", 1, MOST, UINT64_MAX, &d->shared_ffn.n, err));
    d->norm_topk = !two;
    memset(d->sparse, 1, d->n_layers);
    return QN_OK;
}

static qn_code read_rope(qn_build *b, qn_decoder *d, qn_err *err)
{
    double local;
    QN_TRY(qn_build_gguf_rope(b, d->head_dim.n, d->max_positions, &d->rope[0], err));
    d->rope[0].interleaved = !strcmp(b->type, "llama") || d->each;
    d->rope[1] = d->rope[0];
    if (strcmp(b->type, "gemma3"))
        return QN_OK;
    QN_TRY(qn_build_gguf_f64(b, "rope.freq_base_swa", 1 + 1e-6, 1e15, 1e4, &local, err));
    return qn_build_rope_plain(b, "rope_local", local, d->rope[0].rotary, NULL, &d->rope[1], err);
}

/* Which layers see a window only: a mark for each, or the period; else every `usual`th sees all. */
static qn_code read_windows(qn_build *b, uint64_t usual, qn_decoder *d, qn_err *err)
{
    const qn_name_text key = qn_name("%s.attention.sliding_window_pattern", b->type);
    const qn_gguf_key *k = qn_gguf_find(b->gguf, key.s);
    uint64_t n, pattern = usual;
    if (k && k->type == QN_GGUF_ARRAY) {
        const unsigned width = k->elem == QN_GGUF_BOOL ? 1 : 4;
        if (width == 4 && k->elem != QN_GGUF_U32 && k->elem != QN_GGUF_I32)
            return qn_build_gguf_range(key.s, "an array of another kind", "one of bools or numbers", err);
        QN_TRY(qn_gguf_get_array(b->gguf, key.s, (qn_gguf_type)k->elem, &n, err));
        if (n != d->n_layers)
            return qn_build_gguf_range(key.s, qn_name("%" PRIu64 " marks", n).s, qn_name("one for each of %" PRIu64 " layers", d->n_layers).s, err);
        for (uint64_t i = 0; i < n; i++) {
            uint8_t raw[4] = {0};
            QN_TRY(qn_gguf_get_elems(b->gguf, key.s, (qn_gguf_type)k->elem, i, 1, raw, err));
            d->sliding[i] = d->window && qn_load32(raw) != 0;
        }
        return QN_OK;
    }
    QN_TRY(qn_build_gguf_u64(b, "attention.sliding_window_pattern", 0, 10000, usual, &pattern, err));
    for (uint64_t i = 0; i < d->n_layers; i++)
        d->sliding[i] = d->window && pattern && (i + 1) % pattern;
    return QN_OK;
}

static qn_code read_gemma(qn_build *b, qn_decoder *d, qn_err *err)
{
    const bool two = !strcmp(b->type, "gemma2"), three = !strcmp(b->type, "gemma3");
    d->act = "gelu_tanh";
    d->embed_scale = sqrt((double)d->hidden.n);
    if (!two && !three)
        return QN_OK;
    d->names.attn_post = "post_attention_norm";
    d->names.ffn_post = "post_ffw_norm";
    d->qk_norm = three;
    QN_TRY(qn_build_gguf_f64(b, "attn_logit_softcapping", 0, 1e9, two ? 50 : 0, &d->attn_softcap, err));
    QN_TRY(qn_build_gguf_f64(b, "final_logit_softcapping", 0, 1e9, two ? 30 : 0, &d->final_softcap, err));
    QN_TRY(qn_build_gguf_u64(b, "attention.sliding_window", 0, UINT32_MAX, two ? 4096 : 0, &d->window, err));
    QN_TRY(read_windows(b, two ? 2 : 6, d, err));
    /* The largest of each is scaled by hidden / heads; no key says so. */
    if (d->n_layers == (two ? 46u : 62u))
        d->attn_scale = 1 / sqrt((double)d->hidden.n / (double)d->heads);
    return QN_OK;
}

qn_code qn_build_gguf_llama(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    static const char *const known[] = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight", NULL};
    qn_decoder d = {.names = gguf_names, .act = "silu", .embed_scale = 1, .tied = true, .ignore = known};
    QN_TRY(qn_build_begin(b, env, s, b->type, err));
    QN_TRY(read_sizes(b, &d, err));
    QN_TRY(qn_decoder_marks(b, &d, err));
    QN_TRY(read_experts(b, &d, err));
    snprintf(d.head, sizeof d.head, "output");
    d.attn_scale = 1 / sqrt((double)d.head_dim.n);
    d.qkv_bias = qn_build_has(b, "blk.0.attn_q.bias");
    d.o_bias = qn_build_has(b, "blk.0.attn_output.bias");
    d.tied = !qn_build_has(b, "output.weight");
    d.mlp_bias = qn_build_has(b, "blk.0.ffn_up.bias");
    if (!strcmp(b->type, "phi3")) {
        d.names.qkv = "attn_qkv";
        d.names.gate_up = "ffn_up";
    }
    d.qk_norm = !strncmp(b->type, "qwen3", 5);
    if (!strncmp(b->type, "gemma", 5))
        QN_TRY(read_gemma(b, &d, err));
    QN_TRY(read_rope(b, &d, err));
    return qn_decoder_build(b, &d, err);
}
