/* test_emit_hf.c: folders of language models cut: what is written opens and computes what the model with zeros computes; what the configuration says;
 * what is refused and why. Groups are made by hand, from the papers' layouts of heads and feed-forward channels. */
#include "compress/prune/emit.h"
#include "tests/support/lm_cut.h"
#include "tests/support/lm_made.h"
#include "tests/support/ok.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const int64_t tokens[] = {1, 5, 10, 0, 3, 7, 7, 2, 9, 4, 6, 8, 1, 2, 3};
enum { TOKENS = sizeof tokens / sizeof tokens[0] };

static const qn_emit_options plain = {0};

/* Hidden size 8, 4 heads of 4 over 2 key heads, ffn 6. */
#define CONFIG(class, type, more)                                                                                                              \
    "{\"architectures\": [\"" class "\"], \"model_type\": \"" type "\", \"hidden_size\": 8, \"intermediate_size\": 6, \"num_hidden_layers\": 3, "       \
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 4, \"vocab_size\": 11, \"max_position_embeddings\": 64, "            \
    "\"rms_norm_eps\": 1e-05, \"hidden_act\": \"silu\"" more "}"
#define REST "model.embed_tokens.weight 11x8; model.norm.weight 8; model.layers.*.input_layernorm.weight 8; model.layers.*.post_attention_layernorm.weight 8;"
#define HEADS                                                                                                                                  \
    "model.layers.*.self_attn.q_proj.weight 16x8; model.layers.*.self_attn.k_proj.weight 8x8; model.layers.*.self_attn.v_proj.weight 8x8;"             \
    "model.layers.*.self_attn.o_proj.weight 8x16;"
#define FFN "model.layers.*.mlp.gate_proj.weight 6x8; model.layers.*.mlp.up_proj.weight 6x8; model.layers.*.mlp.down_proj.weight 8x6;"
static const char llama[] = REST HEADS FFN "lm_head.weight 11x8";

#define FFN_GROUP "model.layers.*.mlp.gate_proj.weight/0; model.layers.*.mlp.up_proj.weight/0; model.layers.*.mlp.down_proj.weight/1"
#define KV_GROUP                                                                                                                               \
    "model.layers.*.self_attn.q_proj.weight/0; model.layers.*.self_attn.k_proj.weight/0; model.layers.*.self_attn.v_proj.weight/0;"                    \
    "model.layers.*.self_attn.o_proj.weight/1"

struct cut {
    qt_lm_model m;
    qn_groups *s;
    qn_cut *c;
};

/* Families are added by the caller between the two. */
static struct cut begin(const char *path)
{
    struct cut x = {.m = qt_lm_open(path)};
    x.s = qt_groups_new(x.m.g);
    return x;
}

static void take(struct cut *x)
{
    qn_err err = {0};
    OK(qn_cut_new(qt_made_env(1), x->s, &x->c, &err));
}

static void end(struct cut *x)
{
    qn_cut_free(x->c);
    qt_lm_close(&x->m);
}

/* Emits, opens and compares with the model with zeros; returns the new folder. scale: to which relative difference. */
static const char *emit(struct cut *x, const char *name, const qn_depth *d, qn_overlay *w, const qn_emit_options *o, double within)
{
    const char *out = qt_made_path(name);
    qn_err err = {0};
    uint64_t n, m;
    const float *want = qt_lm_run(x->m.g, w, tokens, TOKENS, &n);
    OK(qn_emit_check(x->m.g, x->c, d, o, &err));
    OK(qn_emit(qt_made_env(1), x->m.g, x->c, d, w, out, o, &err));
    qt_lm_model cut = qt_lm_open(out);
    cr_assert_eq(cut.g->n_warnings, 0u, "%s", cut.g->n_warnings ? cut.g->warnings[0] : "");
    const float *found = qt_lm_run(cut.g, NULL, tokens, TOKENS, &m);
    cr_assert_eq(n, m);
    const double apart = qt_lm_apart(found, want, n);
    cr_assert(apart <= within, "%s: %g from the model with zeros", name, apart);
    qt_lm_close(&cut);
    return out;
}

/* The test would prove nothing if the zeros changed nothing. */
static void check_moved(const struct cut *x, qn_overlay *w)
{
    uint64_t n;
    const float *dense = qt_lm_run(x->m.g, NULL, tokens, TOKENS, &n), *zeroed = qt_lm_run(x->m.g, w, tokens, TOKENS, &n);
    cr_assert_gt(qt_lm_apart(zeroed, dense, n), 1e-3);
}

static void refuse(const struct cut *x, const qn_depth *d, const qn_emit_options *o, qn_code code, const char *words)
{
    qn_err err = {0};
    char line[1024];
    const qn_code rc = qn_emit_check(x->m.g, x->c, d, o, &err);
    qn_err_line(&err, line, sizeof line);
    cr_assert_eq(rc, code, "%d: %s", (int)rc, line);
    cr_assert(strstr(line, words), "%s", line);
}

Test(emit_hf, ffn_and_heads)
{
    struct cut x = begin(qt_lm_made("llama", CONFIG("LlamaForCausalLM", "llama", ""), llama, 3, 1));
    qt_made_file("llama/tokenizer.json", "{\"x\": 1}", 8);
    qt_made_file("llama/sub/notes.txt", "as it is", 8);
    qt_made_file("llama/pytorch_model.bin", "weights of old", 14);
    end(&x);
    x = begin(qt_made_path("llama"));
    for (unsigned i = 0; i < 3; i++) {
        qt_groups_add(x.s, "ffn", 6, FFN_GROUP, i);
        qt_groups_add(x.s, "heads", 2, KV_GROUP, i);
    }
    take(&x);
    for (uint32_t i = 0; i < 3; i++) {
        qn_cut_set(x.c, 2 * i, i, true);
        qn_cut_set(x.c, 2 * i, 5 - i, true);
        qn_cut_set(x.c, 2 * i + 1, i % 2, true);
    }
    qn_overlay *w = qt_lm_zeroed(x.m.g, x.c);
    check_moved(&x, w);
    const qn_emit_options o = {.record = "{\"kept\": []}\n"};
    const char *out = emit(&x, "llama-cut", NULL, w, &o, 1e-6);
    cr_assert_str_eq(qt_text_of(out, "config.json"),
                     "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 8, \"intermediate_size\": 4, "
                     "\"num_hidden_layers\": 3, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 4, \"vocab_size\": 11, "
                     "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-05, \"hidden_act\": \"silu\"}");
    cr_assert_str_eq(qt_text_of(out, "tokenizer.json"), "{\"x\": 1}");
    cr_assert_str_eq(qt_text_of(out, "sub/notes.txt"), "as it is");
    cr_assert_str_eq(qt_text_of(out, "pruning.json"), o.record);
    cr_assert_null(qt_text_of(out, "pytorch_model.bin"));
    /* The name is taken now. */
    qn_err err = {0};
    cr_assert_eq(qn_emit(qt_made_env(1), x.m.g, x.c, NULL, w, out, &o, &err), QN_E_USAGE);
    const qn_emit_options again = {.overwrite = true};
    OK(qn_emit(qt_made_env(1), x.m.g, x.c, NULL, w, out, &again, &err));
    cr_assert_null(qt_text_of(out, "pruning.json"));
    cr_assert_null(qt_text_of(qt_made_path("llama-cut.quern-unpack"), "lock"));
    err = (qn_err){0};
    cr_assert_eq(qn_emit(qt_made_env(1), x.m.g, x.c, NULL, w, qt_made_path("llama"), &again, &err), QN_E_USAGE);
    cr_assert(strstr(err.text, "is being read"), "%s", err.text);
    cr_assert_eq(mkdir(qt_made_path("other"), 0777), 0);
    err = (qn_err){0};
    cr_assert_eq(qn_emit(qt_made_env(1), x.m.g, x.c, NULL, w, qt_made_path("other"), &again, &err), QN_E_USAGE);
    cr_assert(strstr(err.text, "no model folder"), "%s", err.text);
    qn_overlay_free(w);
    end(&x);
}

/* Heads without a head size in the file: it is written; where the number of heads does not divide the hidden size, only on demand. */
Test(emit_hf, head_size_is_said)
{
    struct cut x = begin(qt_lm_made("mha",
                                    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 8, \"intermediate_size\": 6, "
                                    "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"vocab_size\": 11, \"rms_norm_eps\": 1e-05}",
                                    REST FFN "model.layers.*.self_attn.q_proj.weight 8x8; model.layers.*.self_attn.k_proj.weight 8x8;"
                                             "model.layers.*.self_attn.v_proj.weight 8x8; model.layers.*.self_attn.o_proj.weight 8x8; lm_head.weight 11x8", 1, 2));
    qt_groups_add(x.s, "heads", 4, KV_GROUP, 0);
    take(&x);
    qn_cut_set(x.c, 0, 2, true);
    refuse(&x, NULL, &plain, QN_E_UNSUPPORTED, "3 heads would stay: transformers' LlamaConfig refuses");
    qn_emit_loader l;
    qn_err err = {0};
    OK(qn_emit_loader_open(&l, qt_made_env(1), x.m.g, x.s, &plain, &err));
    cr_assert(qn_emit_allows(&l, 0, 1) && qn_emit_allows(&l, 0, 2) && !qn_emit_allows(&l, 0, 3) && qn_emit_allows(&l, 0, 4) && !qn_emit_allows(&l, 0, 0));
    qn_emit_loader_close(&l);
    const qn_emit_options o = {.any_loader = true};
    OK(qn_emit_loader_open(&l, qt_made_env(1), x.m.g, x.s, &o, &err));
    cr_assert(qn_emit_allows(&l, 0, 3));
    qn_emit_loader_close(&l);
    qn_overlay *w = qt_lm_zeroed(x.m.g, x.c);
    const char *out = emit(&x, "mha-cut", NULL, w, &o, 1e-6);
    cr_assert_str_eq(qt_text_of(out, "config.json"),
                     "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 8, \"intermediate_size\": 6, "
                     "\"num_hidden_layers\": 1, \"num_attention_heads\": 3, \"vocab_size\": 11, \"rms_norm_eps\": 1e-05, \"head_dim\": 2}");
    qn_overlay_free(w);
    end(&x);
}

Test(emit_hf, uneven_layers_are_refused)
{
    struct cut x = begin(qt_lm_made("uneven", CONFIG("LlamaForCausalLM", "llama", ""), llama, 3, 1));
    qt_groups_add(x.s, "ffn", 6, FFN_GROUP, 1);
    qt_groups_add(x.s, "heads", 2, KV_GROUP, 2);
    qt_groups_add(x.s, "sizes", 4, "model.layers.*.self_attn.v_proj.weight/0+0,1+4,1; model.layers.*.self_attn.o_proj.weight/1+0,1+4,1+8,1+12,1", 0);
    qt_groups_add(x.s, "other", 11, "lm_head.weight/0", 0);
    take(&x);
    uint32_t class_of[4];
    uint8_t allowed[4];
    qn_err err = {0};
    OK(qn_emit_constraints(x.m.g, x.s, &plain, class_of, allowed, &err));
    cr_assert(allowed[0] && allowed[1] && !allowed[2] && !allowed[3]);
    cr_assert(class_of[0] != class_of[1] && class_of[2] == UINT32_MAX);
    qn_cut_set(x.c, 0, 3, true);
    refuse(&x, NULL, &plain, QN_E_UNSUPPORTED, "the feed-forward width would be 6 in layer 0 and 5 in layer 1: the configuration of a llama model");
    qn_cut_set(x.c, 0, 3, false);
    qn_cut_set(x.c, 1, 1, true);
    refuse(&x, NULL, &plain, QN_E_UNSUPPORTED, "the number of heads would be 4 in layer 0 and 2 in layer 2");
    qn_cut_set(x.c, 1, 1, false);
    qn_cut_set(x.c, 3, 1, true);
    refuse(&x, NULL, &plain, QN_E_UNSUPPORTED, "no key of a llama model's configuration says this width");
    qn_cut_set(x.c, 3, 1, false);
    qn_cut_set(x.c, 2, 1, true);
    refuse(&x, NULL, &plain, QN_E_UNSUPPORTED, "head 0 would keep 3 of its 4 channels");
    end(&x);
}

/* The stream's width: the model with zeros divides by the old one, and so must the new one; tied embeddings and Gemma's factor in front of them. */
Test(emit_hf, hidden_width)
{
    static const char along[] = "model.embed_tokens.weight/1; model.norm.weight/0; lm_head.weight/1",
                      gemma_along[] = "model.embed_tokens.weight/1; model.norm.weight/0",
                      layer[] = "model.layers.*.input_layernorm.weight/0; model.layers.*.post_attention_layernorm.weight/0;"
                                "model.layers.*.self_attn.q_proj.weight/1; model.layers.*.self_attn.k_proj.weight/1; model.layers.*.self_attn.v_proj.weight/1;"
                                "model.layers.*.self_attn.o_proj.weight/0; model.layers.*.mlp.gate_proj.weight/1; model.layers.*.mlp.up_proj.weight/1;"
                                "model.layers.*.mlp.down_proj.weight/0",
                      gemma_layer[] = ";model.layers.*.pre_feedforward_layernorm.weight/0; model.layers.*.post_feedforward_layernorm.weight/0";
    for (unsigned gemma = 0; gemma < 2; gemma++) {
        char all[4096];
        const char *path =
            gemma ? qt_lm_made("gemma", CONFIG("Gemma2ForCausalLM", "gemma2", ", \"tie_word_embeddings\": true"),
                               REST HEADS FFN "model.layers.*.pre_feedforward_layernorm.weight 8; model.layers.*.post_feedforward_layernorm.weight 8", 3, 3)
                  : qt_lm_made("wide", CONFIG("LlamaForCausalLM", "llama", ""), llama, 3, 3);
        struct cut x = begin(path);
        int at = snprintf(all, sizeof all, "%s", gemma ? gemma_along : along);
        for (unsigned i = 0; i < 3; i++) { /* one family through all layers */
            char text[1500];
            snprintf(text, sizeof text, ";%s%s", layer, gemma ? gemma_layer : "");
            for (const char *p = text; *p; p++)
                all[at++] = *p == '*' ? (char)('0' + i) : *p;
            all[at] = '\0';
        }
        qt_groups_add(x.s, "width", 8, all, 0);
        take(&x);
        for (uint32_t k = 0; k < 4; k++)
            qn_cut_set(x.c, 0, 2 * k + (k > 1), true);
        qn_overlay *w = qt_lm_zeroed(x.m.g, x.c);
        check_moved(&x, w);
        const char *out = emit(&x, gemma ? "gemma-cut" : "wide-cut", NULL, w, &plain, 1e-6);
        cr_assert(strstr(qt_text_of(out, "config.json"), "\"hidden_size\": 4,") && strstr(qt_text_of(out, "config.json"), "\"rms_norm_eps\": 2e-05,"), "%s",
                  qt_text_of(out, "config.json"));
        qn_overlay_free(w);
        end(&x);
    }
}

/* Fused projections: rows of q, k and v in one tensor, gate and up in another. */
Test(emit_hf, phi3_is_fused)
{
    struct cut x = begin(qt_lm_made("phi3", CONFIG("Phi3ForCausalLM", "phi3", ""),
                                    REST "model.layers.*.self_attn.qkv_proj.weight 32x8; model.layers.*.self_attn.o_proj.weight 8x16;"
                                         "model.layers.*.mlp.gate_up_proj.weight 12x8; model.layers.*.mlp.down_proj.weight 8x6; lm_head.weight 11x8", 3, 5));
    for (unsigned i = 0; i < 3; i++) {
        qt_groups_add(x.s, "ffn", 6, "model.layers.*.mlp.gate_up_proj.weight/0+0,1+6,1; model.layers.*.mlp.down_proj.weight/1", i);
        qt_groups_add(x.s, "heads", 2, "model.layers.*.self_attn.qkv_proj.weight/0+0,8+16,4+24,4; model.layers.*.self_attn.o_proj.weight/1", i);
    }
    take(&x);
    for (uint32_t f = 0; f < 6; f++)
        qn_cut_set(x.c, f, f % 2, true);
    qn_overlay *w = qt_lm_zeroed(x.m.g, x.c);
    const char *out = emit(&x, "phi3-cut", NULL, w, &plain, 1e-6);
    cr_assert(strstr(qt_text_of(out, "config.json"), "\"intermediate_size\": 5,") && strstr(qt_text_of(out, "config.json"), "\"num_key_value_heads\": 1,"));
    qn_overlay_free(w);
    end(&x);
}

/* GPT-2: (in, out) projections, biases, a width that the file does not say; heads that cannot go. */
Test(emit_hf, gpt2)
{
    struct cut x = begin(qt_lm_made("gpt2",
                                    "{\"architectures\": [\"GPT2LMHeadModel\"], \"n_embd\": 8, \"n_head\": 2, \"n_layer\": 3, \"n_inner\": null, "
                                    "\"vocab_size\": 11, \"n_positions\": 64}",
                                    "wte.weight 11x8; wpe.weight 64x8; ln_f.weight 8; ln_f.bias 8; h.*.ln_1.weight 8; h.*.ln_1.bias 8; h.*.ln_2.weight 8;"
                                    "h.*.ln_2.bias 8; h.*.attn.c_attn.weight 8x24; h.*.attn.c_attn.bias 24; h.*.attn.c_proj.weight 8x8; h.*.attn.c_proj.bias 8;"
                                    "h.*.mlp.c_fc.weight 8x32; h.*.mlp.c_fc.bias 32; h.*.mlp.c_proj.weight 32x8; h.*.mlp.c_proj.bias 8;"
                                    "h.*.attn.bias 1x1x64x64", 3, 6));
    for (unsigned i = 0; i < 3; i++)
        qt_groups_add(x.s, "ffn", 32, "h.*.mlp.c_fc.weight/1; h.*.mlp.c_fc.bias/0; h.*.mlp.c_proj.weight/0", i);
    qt_groups_add(x.s, "heads", 2, "h.*.attn.c_attn.weight/1+0,4+8,4+16,4; h.*.attn.c_attn.bias/0+0,4+8,4+16,4; h.*.attn.c_proj.weight/0", 1);
    take(&x);
    uint32_t class_of[4];
    uint8_t allowed[4];
    qn_err err = {0};
    OK(qn_emit_constraints(x.m.g, x.s, &plain, class_of, allowed, &err));
    cr_assert(allowed[0] && allowed[2] && !allowed[3] && class_of[0] == class_of[2]);
    qn_cut_set(x.c, 3, 1, true);
    refuse(&x, NULL, &plain, QN_E_UNSUPPORTED, "heads cannot go: the configuration of a gpt2 model has no head size");
    qn_cut_set(x.c, 3, 1, false);
    for (uint32_t f = 0; f < 3; f++)
        for (uint32_t k = 0; k < 12; k++)
            qn_cut_set(x.c, f, 2 * k + f, true);
    qn_overlay *w = qt_lm_zeroed(x.m.g, x.c);
    check_moved(&x, w);
    const char *out = emit(&x, "gpt2-cut", NULL, w, &plain, 1e-6);
    cr_assert(strstr(qt_text_of(out, "config.json"), "\"n_inner\": 20,"), "%s", qt_text_of(out, "config.json"));
    qn_overlay_free(w);
    end(&x);
}
