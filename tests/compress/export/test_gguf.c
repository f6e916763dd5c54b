/* test_gguf.c: exports to GGUF, read back by our own reader and graph builder: the same logits as the folder's for every family that builder knows, the layouts by
 * formula for those it does not, tokenizers that give the same ids, blocks taken over from a solve, and what is refused. */
#include "analysis/tokenize/to_gguf.h"
#include "compress/export/run.h"
#include "formats/gguf/gguf.h"
#include "tests/support/lm_made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "\"hidden_size\": 8, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"vocab_size\": 11, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, "
#define KV1 HEAD "\"intermediate_size\": 6, \"num_key_value_heads\": 1, \"head_dim\": 4, "
#define OUTSIDE "model.embed_tokens.weight 11x8; model.norm.weight 8;"
#define NORMS "model.layers.*.input_layernorm.weight 8; model.layers.*.post_attention_layernorm.weight 8;"
#define ATTENTION \
    "model.layers.*.self_attn.q_proj.weight 8x8; model.layers.*.self_attn.k_proj.weight 4x8; model.layers.*.self_attn.v_proj.weight 4x8;" \
    "model.layers.*.self_attn.o_proj.weight 8x8;"
#define QK_NORMS "model.layers.*.self_attn.q_norm.weight 4; model.layers.*.self_attn.k_norm.weight 4;"
#define BIASES "model.layers.*.self_attn.q_proj.bias 8; model.layers.*.self_attn.k_proj.bias 4; model.layers.*.self_attn.v_proj.bias 4;"
#define FFN "model.layers.*.mlp.gate_proj.weight 6x8; model.layers.*.mlp.up_proj.weight 6x8; model.layers.*.mlp.down_proj.weight 8x6;"
#define TWO_NORMS "model.layers.*.pre_feedforward_layernorm.weight 8; model.layers.*.post_feedforward_layernorm.weight 8;"
#define EXPERT(m, e, g, u, d) m "." #e "." g ".weight 6x8;" m "." #e "." u ".weight 6x8;" m "." #e "." d ".weight 8x6;"
#define QWEN_EXPERTS \
    EXPERT("model.layers.*.mlp.experts", 0, "gate_proj", "up_proj", "down_proj") EXPERT("model.layers.*.mlp.experts", 1, "gate_proj", "up_proj", "down_proj") \
    EXPERT("model.layers.*.mlp.experts", 2, "gate_proj", "up_proj", "down_proj") "model.layers.*.mlp.gate.weight 3x8;"
#define HEAD_OF_ITS_OWN "lm_head.weight 11x8"
#define GEMMA "\"hidden_activation\": \"gelu_pytorch_tanh\", \"query_pre_attn_scalar\": 4"
#define MOE "\"num_experts\": 3, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 6, "

struct family {
    const char *name, *config, *tensors;
};

static const struct family families[] = {
    {"llama", "{\"architectures\": [\"LlamaForCausalLM\"], " KV1 "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 4, \"low_freq_factor\": 1, "
              "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 16}}", OUTSIDE NORMS ATTENTION FFN HEAD_OF_ITS_OWN},
    {"tied", "{\"architectures\": [\"LlamaForCausalLM\"], " KV1 "\"attention_bias\": true, \"mlp_bias\": true, \"tie_word_embeddings\": true}",
     OUTSIDE NORMS ATTENTION FFN BIASES "model.layers.*.self_attn.o_proj.bias 8; model.layers.*.mlp.gate_proj.bias 6; model.layers.*.mlp.up_proj.bias 6;"
     "model.layers.*.mlp.down_proj.bias 8"},
    {"yarn", "{\"architectures\": [\"MistralForCausalLM\"], " KV1 "\"sliding_window\": null, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, "
             "\"original_max_position_embeddings\": 16}}", OUTSIDE NORMS ATTENTION FFN HEAD_OF_ITS_OWN},
    {"mixtral", "{\"architectures\": [\"MixtralForCausalLM\"], " KV1 "\"num_local_experts\": 2, \"num_experts_per_tok\": 1}",
     OUTSIDE NORMS ATTENTION EXPERT("model.layers.*.block_sparse_moe.experts", 0, "w1", "w3", "w2")
         EXPERT("model.layers.*.block_sparse_moe.experts", 1, "w1", "w3", "w2") "model.layers.*.block_sparse_moe.gate.weight 2x8;" HEAD_OF_ITS_OWN},
    {"fused", "{\"architectures\": [\"Qwen3MoeForCausalLM\"], " KV1 MOE "\"norm_topk_prob\": true}",
     OUTSIDE NORMS ATTENTION QK_NORMS "model.layers.*.mlp.gate.weight 3x8; model.layers.*.mlp.experts.gate_up_proj 3x12x8;"
     "model.layers.*.mlp.experts.down_proj 3x8x6;" HEAD_OF_ITS_OWN},
    {"qwen2", "{\"architectures\": [\"Qwen2ForCausalLM\"], " KV1 "\"rope_theta\": 1000}", OUTSIDE NORMS ATTENTION FFN BIASES HEAD_OF_ITS_OWN},
    {"qwen2moe", "{\"architectures\": [\"Qwen2MoeForCausalLM\"], " KV1 MOE "\"shared_expert_intermediate_size\": 5}",
     OUTSIDE NORMS ATTENTION BIASES QWEN_EXPERTS "model.layers.*.mlp.shared_expert.gate_proj.weight 5x8; model.layers.*.mlp.shared_expert.up_proj.weight 5x8;"
     "model.layers.*.mlp.shared_expert.down_proj.weight 8x5; model.layers.*.mlp.shared_expert_gate.weight 1x8;" HEAD_OF_ITS_OWN},
    {"qwen3", "{\"architectures\": [\"Qwen3ForCausalLM\"], " KV1 "\"rope_theta\": 1000}", OUTSIDE NORMS ATTENTION QK_NORMS FFN HEAD_OF_ITS_OWN},
    {"qwen3moe", "{\"architectures\": [\"Qwen3MoeForCausalLM\"], " KV1 MOE "\"norm_topk_prob\": true}",
     OUTSIDE NORMS ATTENTION QK_NORMS QWEN_EXPERTS HEAD_OF_ITS_OWN},
    {"gemma", "{\"architectures\": [\"GemmaForCausalLM\"], " KV1 "\"hidden_act\": \"gelu\"}", OUTSIDE NORMS ATTENTION FFN},
    {"gemma2", "{\"architectures\": [\"Gemma2ForCausalLM\"], " KV1 GEMMA ", \"sliding_window\": 3}", OUTSIDE NORMS TWO_NORMS ATTENTION FFN},
    {"gemma3", "{\"architectures\": [\"Gemma3ForCausalLM\"], " KV1 GEMMA ", \"sliding_window\": 3, \"layer_types\": [\"full_attention\", \"sliding_attention\"], "
               "\"rope_local_base_freq\": 500}", OUTSIDE NORMS TWO_NORMS ATTENTION QK_NORMS FFN},
    {"fused3", "{\"architectures\": [\"Phi3ForCausalLM\"], " KV1 "\"original_max_position_embeddings\": 4, \"rope_scaling\": {\"type\": \"longrope\", "
               "\"short_factor\": [1, 1.5], \"long_factor\": [2, 3]}}",
     OUTSIDE NORMS "model.layers.*.self_attn.qkv_proj.weight 16x8; model.layers.*.self_attn.o_proj.weight 8x8; model.layers.*.mlp.gate_up_proj.weight 12x8;"
     "model.layers.*.mlp.down_proj.weight 8x6;" HEAD_OF_ITS_OWN},
};

static qn_code export(const qn_env *env, const char *model, const char *variant, const char *path, const qn_export_wish *wish, qn_export_run *x, qn_source **src,
                      qn_err *err)
{
    static qn_export_options o;
    o = (qn_export_options){.overwrite = true};
    if (wish)
        o.wish = *wish;
    const qn_export_request r = {.target = qn_export_target_find("gguf", 4), .variant = variant, .path = path};
    *src = qt_made_open(env, model);
    QN_TRY(qn_export_open(x, env, *src, &r, 1, &o, err));
    return qn_export_all(x, err);
}

/* Must succeed. */
static void write_gguf(const qn_env *env, const char *model, const char *variant, const char *path, const qn_export_wish *wish)
{
    qn_export_run x;
    qn_source *src;
    qn_err err;
    qn_err_clear(&err);
    const qn_code rc = export(env, model, variant, path, wish, &x, &src, &err);
    cr_assert_eq(rc, QN_OK, "%s to %s: %s: %s", model, variant, err.tensor, err.text);
    qn_export_close(&x);
    qn_source_close(src);
}

static void same_logits(const qn_env *env, const char *a, const char *b, double limit, const char *what)
{
    static const int64_t tokens[] = {1, 5, 10, 3, 3, 7, 2, 8, 0, 9, 4, 6, 1, 1}, starts[] = {0, 9, 14};
    uint64_t n, m;
    const float *p = qt_lm_logits(env, a, tokens, starts, 2, 0, &n, NULL), *q = qt_lm_logits(env, b, tokens, starts, 2, 0, &m, NULL);
    cr_assert_eq(n, m);
    double largest = 0, worst = 0;
    for (uint64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)p[i]));
        worst = fmax(worst, fabs((double)p[i] - (double)q[i]));
    }
    cr_expect(largest > 0.01 && worst <= limit * largest, "%s: logits differ by %g, the largest is %g", what, worst, largest);
}

Test(export_gguf, families)
{
    const qn_env *env = qt_made_env(1);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        char out[64];
        snprintf(out, sizeof out, "%s.gguf", families[i].name);
        const char *model = qt_lm_made(families[i].name, families[i].config, families[i].tensors, 2, 100 + i), *path = qt_made_path(out);
        write_gguf(env, model, "f32", path, NULL);
        same_logits(env, model, path, 1e-6, families[i].name);
        if (i < 2) {
            write_gguf(env, model, "bf16", path, NULL);
            same_logits(env, model, path, 0.05, "bf16");
        }
    }
}

/* --- layouts that our builder does not read -------------------------------------------------------------------------------------------- */

static float *read_all(qn_source *s, const char *name, uint64_t *n)
{
    qn_err err;
    const uint64_t t = qn_source_tensor_find(s, name);
    cr_assert_neq(t, UINT64_MAX, "no tensor %s", name);
    cr_assert_eq(s->tensors[t].dtype, QN_F32, "%s", name);
    float *p = qt_made_keep(malloc(s->tensors[t].n_bytes + 4));
    OK(qn_source_tensor_read(s, t, 0, s->tensors[t].n_bytes, p, &err));
    *n = s->tensors[t].n_bytes / 4;
    return p;
}

Test(export_gguf, gpt2_is_turned_and_gpt_neox_sorted)
{
    const qn_env *env = qt_made_env(1);
    uint64_t n, m;
    const char *gpt2 = qt_lm_made("gpt2", "{\"architectures\": [\"GPT2LMHeadModel\"], \"n_embd\": 8, \"n_head\": 2, \"n_layer\": 1, \"n_positions\": 16, \"vocab_size\": 11}",
                                  "wte.weight 11x8; wpe.weight 16x8; h.*.ln_1.weight 8; h.*.ln_1.bias 8; h.*.ln_2.weight 8; h.*.ln_2.bias 8; h.*.attn.c_attn.weight 8x24;"
                                  "h.*.attn.c_attn.bias 24; h.*.attn.c_proj.weight 8x8; h.*.attn.c_proj.bias 8; h.*.mlp.c_fc.weight 8x32; h.*.mlp.c_fc.bias 32;"
                                  "h.*.mlp.c_proj.weight 32x8; h.*.mlp.c_proj.bias 8; ln_f.weight 8; ln_f.bias 8", 1, 7);
    write_gguf(env, gpt2, "f32", qt_made_path("gpt2.gguf"), NULL);
    qn_source *a = qt_made_open(env, gpt2), *b = qt_made_open(env, qt_made_path("gpt2.gguf"));
    const float *w = read_all(a, "h.0.mlp.c_fc.weight", &n), *v = read_all(b, "blk.0.ffn_up.weight", &m);
    cr_assert(n == 256 && m == 256);
    for (unsigned i = 0; i < 8; i++)
        for (unsigned o = 0; o < 32; o++)
            cr_assert_eq(w[i * 32 + o], v[o * 8 + i]);
    qn_source_close(a);
    qn_source_close(b);
    const char *neox = qt_lm_made("neox", "{\"architectures\": [\"GPTNeoXForCausalLM\"], " HEAD "\"intermediate_size\": 6, \"rotary_pct\": 0.5}",
                                  "gpt_neox.embed_in.weight 11x8; embed_out.weight 11x8; gpt_neox.layers.*.input_layernorm.weight 8; gpt_neox.layers.*.input_layernorm.bias 8;"
                                  "gpt_neox.layers.*.post_attention_layernorm.weight 8; gpt_neox.layers.*.post_attention_layernorm.bias 8;"
                                  "gpt_neox.layers.*.attention.query_key_value.weight 24x8; gpt_neox.layers.*.attention.query_key_value.bias 24;"
                                  "gpt_neox.layers.*.attention.dense.weight 8x8; gpt_neox.layers.*.attention.dense.bias 8; gpt_neox.layers.*.mlp.dense_h_to_4h.weight 6x8;"
                                  "gpt_neox.layers.*.mlp.dense_h_to_4h.bias 6; gpt_neox.layers.*.mlp.dense_4h_to_h.weight 8x6; gpt_neox.layers.*.mlp.dense_4h_to_h.bias 8;"
                                  "gpt_neox.final_layer_norm.weight 8; gpt_neox.final_layer_norm.bias 8", 2, 8);
    write_gguf(env, neox, "f32", qt_made_path("neox.gguf"), NULL);
    a = qt_made_open(env, neox);
    b = qt_made_open(env, qt_made_path("neox.gguf"));
    for (int bias = 0; bias < 2; bias++) {
        const unsigned cols = bias ? 1 : 8;
        w = read_all(a, bias ? "gpt_neox.layers.1.attention.query_key_value.bias" : "gpt_neox.layers.1.attention.query_key_value.weight", &n);
        v = read_all(b, bias ? "blk.1.attn_qkv.bias" : "blk.1.attn_qkv.weight", &m);
        for (unsigned part = 0; part < 3; part++) /* q, k, v */
            for (unsigned head = 0; head < 2; head++)
                for (unsigned d = 0; d < 4 * cols; d++)
                    cr_assert_eq(v[(part * 2 + head) * 4 * cols + d], w[(head * 3 + part) * 4 * cols + d]);
    }
    qn_source_close(a);
    qn_source_close(b);
}

Test(export_gguf, mamba_states_decay_by_minus_exp)
{
    const qn_env *env = qt_made_env(1);
    uint64_t n, m;
    const char *model = qt_lm_made("mamba", "{\"architectures\": [\"MambaForCausalLM\"], \"hidden_size\": 8, \"num_hidden_layers\": 1, \"state_size\": 3, \"time_step_rank\": 2, "
                                            "\"vocab_size\": 11}",
                                   "backbone.embeddings.weight 11x8; backbone.norm_f.weight 8; backbone.layers.*.norm.weight 8; backbone.layers.*.mixer.in_proj.weight 32x8;"
                                   "backbone.layers.*.mixer.conv1d.weight 16x1x4; backbone.layers.*.mixer.conv1d.bias 16; backbone.layers.*.mixer.x_proj.weight 8x16;"
                                   "backbone.layers.*.mixer.dt_proj.weight 16x2; backbone.layers.*.mixer.dt_proj.bias 16; backbone.layers.*.mixer.A_log 16x3;"
                                   "backbone.layers.*.mixer.D 16; backbone.layers.*.mixer.out_proj.weight 8x16", 1, 9);
    write_gguf(env, model, "f16", qt_made_path("mamba.gguf"), NULL);
    qn_source *a = qt_made_open(env, model), *b = qt_made_open(env, qt_made_path("mamba.gguf"));
    const float *w = read_all(a, "backbone.layers.0.mixer.A_log", &n), *v = read_all(b, "blk.0.ssm_a", &m);
    cr_assert(n == 48 && m == 48);
    for (unsigned i = 0; i < n; i++)
        cr_assert_float_eq((double)v[i], -exp((double)w[i]), 1e-6);
    const qn_source_tensor *conv = &b->tensors[qn_source_tensor_find(b, "blk.0.ssm_conv1d.weight")];
    cr_expect(conv->rank == 2 && conv->dims[0] == 16 && conv->dims[1] == 4 && conv->dtype == QN_F32, "a convolution stays as it is");
    qn_source_close(a);
    qn_source_close(b);
}

/* --- refused ------------------------------------------------------------------------------------------------------------------------------ */

static void refused(const char *model, const char *variant, const qn_export_wish *wish, qn_code code, const char *part)
{
    qn_export_run x;
    qn_source *src;
    qn_err err;
    qn_err_clear(&err);
    const qn_code rc = export(qt_made_env(1), model, variant, qt_made_path("refused.gguf"), wish, &x, &src, &err);
    cr_expect(rc == code && strstr(err.text, part), "%s %s: %d, %s", model, variant, rc, err.text);
    cr_expect(!qn_fs_exists(qt_made_env(1)->fs, qt_made_path("refused.gguf")), "nothing may be written");
    qn_export_close(&x);
    qn_source_close(src);
}

Test(export_gguf, what_llama_cpp_cannot_say_is_refused)
{
    const char *llama = qt_lm_made("plain", families[0].config, families[0].tensors, 2, 1);
    refused(llama, "q9_z", NULL, QN_E_USAGE, "q9_z");
    refused(llama, "", NULL, QN_E_USAGE, "no variant");
    refused(llama, "q8_0", &(qn_export_wish){.bits = 4}, QN_E_USAGE, "--bits");
    refused(qt_lm_made("odd", "{\"architectures\": [\"Gemma2ForCausalLM\"], " KV1 "\"query_pre_attn_scalar\": 5, \"sliding_window\": 3}",
                       OUTSIDE NORMS TWO_NORMS ATTENTION FFN, 2, 2), "f32", NULL, QN_E_UNSUPPORTED, "query_pre_attn_scalar");
    refused(qt_lm_made("topk", "{\"architectures\": [\"Qwen3MoeForCausalLM\"], " KV1 MOE "\"norm_topk_prob\": false}",
                       OUTSIDE NORMS ATTENTION QK_NORMS QWEN_EXPERTS HEAD_OF_ITS_OWN, 2, 3), "f32", NULL, QN_E_UNSUPPORTED, "norm_topk_prob");
    refused(qt_lm_made("neo", "{\"architectures\": [\"GPTNeoForCausalLM\"], \"hidden_size\": 8, \"num_layers\": 1, \"num_heads\": 2, \"vocab_size\": 11, "
                              "\"max_position_embeddings\": 16, \"attention_layers\": [\"global\"]}",
                       "transformer.wte.weight 11x8; transformer.wpe.weight 16x8; transformer.h.*.ln_1.weight 8; transformer.h.*.ln_1.bias 8; transformer.h.*.ln_2.weight 8;"
                       "transformer.h.*.ln_2.bias 8; transformer.h.*.attn.attention.q_proj.weight 8x8; transformer.h.*.attn.attention.k_proj.weight 8x8;"
                       "transformer.h.*.attn.attention.v_proj.weight 8x8; transformer.h.*.attn.attention.out_proj.weight 8x8; transformer.h.*.attn.attention.out_proj.bias 8;"
                       "transformer.h.*.mlp.c_fc.weight 32x8; transformer.h.*.mlp.c_fc.bias 32; transformer.h.*.mlp.c_proj.weight 8x32; transformer.h.*.mlp.c_proj.bias 8;"
                       "transformer.ln_f.weight 8; transformer.ln_f.bias 8", 1, 4), "f32", NULL, QN_E_UNSUPPORTED, "gpt_neo");
}

/* --- tokenizers ------------------------------------------------------------------------------------------------------------------------------ */

/* A tokenizer's metadata in a file and back must give the ids of the tokenizer itself. */
static void same_ids(const char *model, const char *gguf, unsigned may_differ)
{
    const qn_env *env = qt_made_env(1);
    qn_tokenizer *a, *b;
    qn_err err;
    unsigned differ;
    const char *first;
    OK(qn_tokenizer_open(env, model, &a, &err));
    OK(qn_tokenizer_open(env, gguf, &b, &err));
    OK(qn_tok_agree(a, b, &differ, &first, &err));
    cr_expect_leq(differ, may_differ, "%u lines differ, for example '%s'", differ, first ? first : "");
    if (qn_tokenizer_bos(a) != UINT32_MAX) /* llama.cpp takes one for granted where none is named */
        cr_expect_eq(qn_tokenizer_bos(a), qn_tokenizer_bos(b));
    if (qn_tokenizer_eos(a) != UINT32_MAX)
        cr_expect_eq(qn_tokenizer_eos(a), qn_tokenizer_eos(b));
    qn_tokenizer_close(a);
    qn_tokenizer_close(b);
}

Test(export_gguf, pieces_of_a_tokenizer_json)
{
    write_gguf(qt_made_env(1), QT_SOURCE_ROOT "/testdata/stories260k-bf16", "bf16", qt_made_path("stories.gguf"), NULL);
    same_ids(QT_SOURCE_ROOT "/testdata/stories260k-bf16", qt_made_path("stories.gguf"), 0);
}

/* All bytes as characters, and a few merges; cut as `pattern` says. */
static void byte_level_json(char *text, size_t cap, const char *pattern)
{
    size_t at = 0;
    unsigned other = 0x100;
    at += (size_t)snprintf(text + at, cap - at, "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 260, \"content\": \"<|end|>\", \"special\": true, \"normalized\": false}], "
                                                "\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": "
                                                "{\"Regex\": \"%s\"}, \"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                                                "\"use_regex\": false}]}, \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {", pattern);
    for (unsigned b = 0; b < 256; b++) {
        const bool self = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        at += (size_t)snprintf(text + at, cap - at, "\"\\u%04x\": %u, ", self ? b : other, b);
        other += !self;
    }
    snprintf(text + at, cap - at, "\"th\": 256, \"the\": 257, \"\\u0120the\": 258, \"12\": 259}, \"merges\": [\"t h\", \"th e\", \"\\u0120 the\", \"1 2\"]}}");
}

Test(export_gguf, byte_level_is_known_by_how_it_cuts)
{
    static const struct {
        const char *pattern, *pre;
    } cases[] = {
        /* GPT-2's, with the alternatives for contractions spelled another way */
        {"'(?:[stmd]|re|ve|ll)| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+", "gpt-2"},
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+", "dbrx"},
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+", "qwen2"},
    };
    enum { ROOM = 1 << 14 };
    char *text = qt_made_keep(malloc(ROOM)), name[64];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        byte_level_json(text, ROOM, cases[i].pattern);
        const char *model = qt_lm_made(cases[i].pre, "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 8, \"intermediate_size\": 6, \"num_hidden_layers\": 1, "
                                                     "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"vocab_size\": 264, \"tie_word_embeddings\": true}",
                                       "model.embed_tokens.weight 264x8; model.norm.weight 8;" NORMS ATTENTION FFN, 1, i);
        snprintf(name, sizeof name, "%s/tokenizer.json", cases[i].pre);
        qt_made_file(name, text, strlen(text));
        snprintf(name, sizeof name, "%s.gguf", cases[i].pre);
        write_gguf(qt_made_env(1), model, "f32", qt_made_path(name), NULL);
        same_ids(model, qt_made_path(name), 0);
        qn_source *s = qt_made_open(qt_made_env(1), qt_made_path(name));
        qn_gguf g;
        qn_arena arena;
        qn_err err;
        char pre[32];
        qn_arena_init(&arena, NULL);
        OK(qn_gguf_open(&g, &arena, s, &err));
        OK(qn_gguf_get_str(&g, "tokenizer.ggml.pre", pre, sizeof pre, &err));
        cr_expect_str_eq(pre, cases[i].pre);
        int32_t types[264];
        OK(qn_gguf_get_elems(&g, "tokenizer.ggml.token_type", QN_GGUF_I32, 0, 264, types, &err));
        cr_expect(types[65] == 1 && types[260] == 3 && types[263] == 5, "normal, control, unused: %d %d %d", types[65], types[260], types[263]);
        qn_arena_release(&arena);
        qn_source_close(s);
    }
}

/* --- blocks ------------------------------------------------------------------------------------------------------------------------------------ */

#define WIDE \
    "model.embed_tokens.weight 40x64; model.norm.weight 64; lm_head.weight 40x64; model.layers.*.input_layernorm.weight 64; model.layers.*.post_attention_layernorm.weight 64;" \
    "model.layers.*.self_attn.q_proj.weight 64x64; model.layers.*.self_attn.k_proj.weight 32x64; model.layers.*.self_attn.v_proj.weight 32x64;" \
    "model.layers.*.self_attn.o_proj.weight 64x64; model.layers.*.mlp.gate_proj.weight 96x64; model.layers.*.mlp.up_proj.weight 96x64; model.layers.*.mlp.down_proj.weight 64x96"
#define WIDE_CONFIG \
    "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, " \
    "\"num_key_value_heads\": 2, \"vocab_size\": 40, \"max_position_embeddings\": 64}"

Test(export_gguf, blocks_are_taken_over_and_not_rounded_again)
{
    const qn_env *env = qt_made_env(1);
    const char *model = qt_lm_made("wide", WIDE_CONFIG, WIDE, 2, 11), *path = qt_made_path("wide.gguf"), *kept = qt_made_path("wide.quern");
    const qn_export_request r = {.target = qn_export_target_find("gguf", 4), .variant = "Q4_0", .path = path};
    const qn_export_options o = {.keep = kept, .overwrite = true};
    qn_export_run x;
    qn_err err;
    qn_source *s = qt_made_open(env, model);
    OK(qn_export_open(&x, env, s, &r, 1, &o, &err));
    OK(qn_export_all(&x, &err));
    for (uint64_t i = 0; i < x.jobs[0].n_rows; i++) {
        const qn_export_row *row = &x.jobs[0].rows[i];
        cr_expect_str_eq(row->given, strstr(row->name, "norm") ? "F32" : "Q4_0", "%s", row->name);
        cr_expect(!row->why && !row->rounded_again, "%s", row->name);
    }
    qn_export_close(&x);
    qn_source_close(s);
    same_logits(env, kept, path, 1e-5, "the solve and the file"); /* q and k have moved rows of blocks */
    write_gguf(env, kept, "q4_0", qt_made_path("again.gguf"), NULL); /* holds: no second solve */
    same_logits(env, path, qt_made_path("again.gguf"), 0, "from the kept solve");
    write_gguf(env, path, "q4_0", qt_made_path("copy.gguf"), NULL); /* from GGUF to GGUF */
    same_logits(env, path, qt_made_path("copy.gguf"), 0, "a copy");
    write_gguf(env, path, "f32", qt_made_path("dense.gguf"), NULL);
    same_logits(env, path, qt_made_path("dense.gguf"), 1e-6, "dense again");
}

Test(export_gguf, rows_that_are_no_whole_blocks_get_smaller_ones)
{
    const qn_env *env = qt_made_env(1);
    const char *model = qt_lm_made("short", WIDE_CONFIG, WIDE, 2, 12);
    const qn_export_request r = {.target = qn_export_target_find("gguf", 4), .variant = "Q4_K_M", .path = qt_made_path("short.gguf")};
    const qn_export_options o = {.overwrite = true, .dry_run = true};
    qn_export_run x;
    qn_err err;
    qn_source *s = qt_made_open(env, model);
    OK(qn_export_open(&x, env, s, &r, 1, &o, &err)); /* a plan notes what each tensor gets */
    for (uint64_t i = 0; i < x.jobs[0].n_rows; i++) {
        const qn_export_row *row = &x.jobs[0].rows[i];
        /* as llama-quantize: of two layers the second has more bits for v and down, Q6_K, which falls back to Q8_0; a head of odd rows is Q8_0 at once */
        const bool more = strstr(row->name, "1.attn_v.weight") || strstr(row->name, "1.ffn_down.weight") || !strcmp(row->name, "output.weight");
        const char *given = strstr(row->name, "norm") ? "F32" : more ? "Q8_0" : "Q5_0";
        cr_expect_str_eq(row->given, given, "%s", row->name);
        cr_expect(!strcmp(row->asked, row->given) || (row->why && strstr(row->why, "no multiple of 256")), "%s", row->name);
    }
    qn_export_close(&x);
    qn_source_close(s);
}

Test(export_gguf, types_are_chosen_for_a_size)
{
    const qn_env *env = qt_made_env(1);
    const char *model = qt_lm_made("sized", WIDE_CONFIG, WIDE, 2, 13);
    static const uint64_t sizes[] = {42000, 50000, 80000};
    for (unsigned i = 0; i < 3; i++) {
        const qn_export_wish wish = {.size_bytes = sizes[i]};
        write_gguf(env, model, "", qt_made_path("sized.gguf"), &wish);
        qn_stat st;
        qn_err err;
        OK(qn_fs_stat(env->fs, qt_made_path("sized.gguf"), &st, &err));
        cr_expect(st.n_bytes <= sizes[i] && (double)st.n_bytes >= 0.95 * (double)sizes[i], "%llu bytes for %llu", (unsigned long long)st.n_bytes,
                  (unsigned long long)sizes[i]);
    }
    refused(model, "", &(qn_export_wish){.size_bytes = 1000}, QN_E_USAGE, "too few");
}
