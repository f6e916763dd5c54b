/* test_build_bad.c: configurations and tensors that cannot be: each is refused by one clear line that names key or tensor, what was found
 * and what is allowed. */
#include "base/err.h"
#include "tests/support/lm_made.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The llama of lm_made.h with one part of its config.json replaced. */
struct bad_config {
    const char *from, *to;
    qn_code code;
    const char *words;
};

#define HEADS "\"num_attention_heads\": 2"
#define LAST  "\"tie_word_embeddings\": false"
#define ROPE(x) LAST, LAST ", \"rope_scaling\": {" x "}"

static const struct bad_config bad_configs[] = {
    {"{\"arch", "[\"arch", QN_E_INPUT, "line 1"},
    {"{\"arch", "{\"hidden_size\": 8, \"arch", QN_E_INPUT, "duplicate object key"},
    {"\"LlamaForCausalLM\"", "\"ElmForCausalLM\"", QN_E_UNSUPPORTED, "the architecture \"ElmForCausalLM\" is not known"},
    {"\"LlamaForCausalLM\"", "\"LlamaForSequenceClassification\"", QN_E_UNSUPPORTED, "\"LlamaForSequenceClassification\" is not known"},
    {"\"LlamaForCausalLM\"", "7", QN_E_INPUT, "architectures[0] is 7: a string"},
    {"\"LlamaForCausalLM\"], \"model_type\": \"llama\"", "], \"model_type\": \"\\u001b[31m\"", QN_E_UNSUPPORTED, "the model type \"\\x1b[31m\" is not known"},
    {"[\"LlamaForCausalLM\"], \"model_type\": \"llama\"", "null", QN_E_UNSUPPORTED, "neither architectures nor model_type"},
    {"\"hidden_size\": 8,", "", QN_E_INPUT, "hidden_size is missing"},
    {"\"hidden_size\": 8", "\"hidden_size\": -8", QN_E_INPUT, "hidden_size is -8: an integer from 1 to 16777216 is expected"},
    {"\"hidden_size\": 8", "\"hidden_size\": 1e30", QN_E_INPUT, "hidden_size is 1e+30: an integer"},
    {"\"hidden_size\": 8", "\"hidden_size\": \"8\"", QN_E_INPUT, "hidden_size is \"8\": an integer"},
    {"\"hidden_size\": 8", "\"hidden_size\": [8]", QN_E_INPUT, "hidden_size is a list: an integer"},
    {"\"hidden_size\": 8", "\"hidden_size\": 7", QN_E_INPUT, "num_attention_heads is 2: it must divide hidden_size, 7"},
    {"\"hidden_size\": 8", "\"hidden_size\": 1e400", QN_E_INPUT, "real number overflow"},
    {HEADS, "\"num_attention_heads\": 0", QN_E_INPUT, "num_attention_heads is 0"},
    {HEADS, "\"num_attention_heads\": 3, \"head_dim\": 4", QN_E_INPUT, "shape (8, 8): (12, 8) is expected by the configuration (num_attention_heads × head_dim, hidden_size)"},
    {"\"num_key_value_heads\": 1", "\"num_key_value_heads\": 3", QN_E_INPUT, "num_key_value_heads is 3: it must divide num_attention_heads, 2"},
    {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", QN_E_INPUT, "model.layers.2.input_layernorm.weight"},
    {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4000000000", QN_E_INPUT, "num_hidden_layers is 4000000000: an integer from 1 to 10000"},
    {"\"vocab_size\": 11", "\"vocab_size\": 12", QN_E_INPUT, "shape (11, 8): (12, 8) is expected by the configuration (vocab_size, hidden_size)"},
    {"\"intermediate_size\": 6", "\"intermediate_size\": 5", QN_E_INPUT, "shape (6, 8): (5, 8)"},
    {"\"rms_norm_eps\": 1e-5", "\"rms_norm_eps\": -1", QN_E_INPUT, "rms_norm_eps is -1: a number from 0 to 1"},
    {"\"rope_theta\": 10000.0", "\"rope_theta\": 0", QN_E_INPUT, "rope_theta is 0: a number"},
    {"\"hidden_act\": \"silu\"", "\"hidden_act\": \"mish\"", QN_E_UNSUPPORTED, "hidden_act is \"mish\": this activation is not known"},
    {"\"hidden_act\": \"silu\"", "\"hidden_act\": true", QN_E_INPUT, "hidden_act is true: a string"},
    {LAST, "\"tie_word_embeddings\": 1", QN_E_INPUT, "tie_word_embeddings is 1: true or false"},
    {LAST, "\"attention_bias\": true", QN_E_INPUT, "self_attn.q_proj.bias"},
    {LAST, LAST ", \"quantization_config\": {\"quant_method\": \"gptq\"}", QN_E_UNSUPPORTED, "quant_method \"gptq\""},
    {LAST, LAST ", \"rope_scaling\": 4", QN_E_INPUT, "rope_scaling is 4: an object"},
    {ROPE("\"type\": \"spiral\""), QN_E_UNSUPPORTED, "rope_scaling.rope_type is \"spiral\": default, linear"},
    {ROPE("\"type\": \"linear\""), QN_E_INPUT, "rope_scaling.factor is missing"},
    {ROPE("\"type\": \"linear\", \"factor\": 0"), QN_E_INPUT, "rope_scaling.factor is 0: a number from 0.001"},
    {ROPE("\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 1"), QN_E_INPUT, "high_freq_factor is 1: more than"},
    {ROPE("\"type\": \"longrope\", \"long_factor\": [1, 2]"), QN_E_INPUT, "short_factor has 0 elements: 2, half of"},
    {ROPE("\"type\": \"longrope\", \"long_factor\": [1, -2], \"short_factor\": [1, 1]"), QN_E_INPUT, "long_factor[1] is -2: a number"},
    {LAST, LAST ", \"partial_rotary_factor\": 0.3", QN_E_INPUT, "1 channels of a head are rotated: an even number"},
    {LAST, LAST ", \"rope_parameters\": {\"rope_theta\": \"x\"}", QN_E_INPUT, "rope_parameters.rope_theta is \"x\": a number"},
    {"\"LlamaForCausalLM\"", "\"Qwen2ForCausalLM\"", QN_E_INPUT, "self_attn.q_proj.bias"},
    {"\"LlamaForCausalLM\"", "\"Qwen3ForCausalLM\"", QN_E_INPUT, "(256, 8) is expected"},
    {"\"LlamaForCausalLM\"", "\"MixtralForCausalLM\"", QN_E_INPUT, "num_local_experts is missing"},
    {"\"LlamaForCausalLM\"], ", "\"MixtralForCausalLM\"], \"num_local_experts\": 4, \"num_experts_per_tok\": 5, ", QN_E_INPUT,
     "num_experts_per_tok is 5: an integer from 1 to 4"},
    {"\"LlamaForCausalLM\"], ", "\"MixtralForCausalLM\"], \"num_local_experts\": 4, ", QN_E_INPUT, "block_sparse_moe.gate.weight"},
    {"\"LlamaForCausalLM\"], ", "\"Qwen3MoeForCausalLM\"], \"num_experts\": 8, \"moe_intermediate_size\": 4, \"mlp_only_layers\": [2], ", QN_E_INPUT,
     "mlp_only_layers[0] is 2: an integer from 0 to 1"},
    {"\"LlamaForCausalLM\"", "\"MistralForCausalLM\"], \"layer_types\": [\"full_attention\"", QN_E_INPUT, "layer_types has 1 elements: one for each of the 2"},
    {"\"LlamaForCausalLM\"", "\"MistralForCausalLM\"], \"layer_types\": [\"full_attention\", \"linear_attention\"", QN_E_UNSUPPORTED,
     "layer_types[1] is \"linear_attention\""},
    {"\"LlamaForCausalLM\"", "\"MistralForCausalLM\"], \"sliding_window\": null, \"layer_types\": [\"full_attention\", \"sliding_attention\"", QN_E_INPUT,
     "there is no sliding_window"},
    {"\"LlamaForCausalLM\"", "\"Gemma2ForCausalLM\"], \"head_dim\": 4, \"query_pre_attn_scalar\": 0, \"x\": [\"\"", QN_E_INPUT,
     "query_pre_attn_scalar is 0"},
    {"\"LlamaForCausalLM\"", "\"Phi3ForCausalLM\"", QN_E_INPUT, "self_attn.qkv_proj.weight"},
};

static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    cr_assert_not_null(at, "'%s' is not in the text", from);
    char *out = qt_made_keep(malloc(strlen(text) + strlen(to) + 1));
    sprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static qn_code open_graph(const char *path, qn_err *err)
{
    const qn_env *env = qt_made_env(1);
    qn_graph *g = NULL;
    qn_source *s = qt_made_open(env, path);
    const qn_code rc = qn_graph_open(env, s, &g, err);
    cr_assert((rc == QN_OK) == (g != NULL));
    qn_graph_close(g);
    qn_source_close(s);
    return rc;
}

/* One line, printable, with the words. */
static void check_line(const char *name, const qn_err *err, const char *words)
{
    char line[1024];
    qn_err_line(err, line, sizeof line);
    cr_assert(strstr(line, words), "%s: '%s' has no '%s'", name, line, words);
    cr_assert(!strpbrk(line, "\n\r\033"), "%s: more than a line", name);
    cr_assert(err->path[0], "%s: no path in '%s'", name, line);
}

Test(build_bad, configurations)
{
    for (size_t i = 0; i < sizeof bad_configs / sizeof bad_configs[0]; i++) {
        const struct bad_config *b = &bad_configs[i];
        char dir[16];
        qn_err err = {.off = QN_NO_OFFSET};
        snprintf(dir, sizeof dir, "bad%zu", i);
        const char *path = qt_lm_made(dir, replaced(qt_lm_llama_config, b->from, b->to), qt_lm_llama_tensors, 2, 1);
        const qn_code rc = open_graph(path, &err);
        cr_assert_eq(rc, b->code, "%s → %s: code %d (%s), not %d", b->from, b->to, (int)rc, err.text, (int)b->code);
        check_line(b->to, &err, b->words);
    }
}

Test(build_bad, tensors)
{
    static const struct bad_config bad[] = {
        {"model.norm.weight 8;", "", QN_E_INPUT, "model.norm.weight"},
        {"model.norm.weight 8;", "model.norm.weight 2x4;", QN_E_INPUT, "shape (2, 4): (8) is expected by the configuration (hidden_size)"},
        {"model.embed_tokens.weight 11x8;", "", QN_E_INPUT, "model.embed_tokens.weight"},
        {"down_proj.weight 8x6", "down_proj.weight 6x8", QN_E_INPUT, "shape (6, 8): (8, 6)"},
        {"k_proj.weight 4x8", "k_proj.weight 8x8", QN_E_INPUT, "(4, 8) is expected by the configuration (num_key_value_heads × head_dim"},
        {"lm_head.weight 11x8", "lm_head.weight 10x8", QN_E_INPUT, "shape (10, 8): (11, 8)"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char dir[16];
        qn_err err = {.off = QN_NO_OFFSET};
        snprintf(dir, sizeof dir, "worse%zu", i);
        const char *path = qt_lm_made(dir, qt_lm_llama_config, replaced(qt_lm_llama_tensors, bad[i].from, bad[i].to), 2, 1);
        const qn_code rc = open_graph(path, &err);
        cr_assert_eq(rc, bad[i].code, "%s: code %d (%s)", bad[i].to, (int)rc, err.text);
        check_line(bad[i].to, &err, bad[i].words);
    }
}

Test(build_bad, nothing_says_what_it_is)
{
    static const float v[2] = {1, 2};
    const qt_made_tensor t = {"a", QN_F32, 1, {2}, v};
    qn_err err = {.off = QN_NO_OFFSET};
    cr_assert_eq(open_graph(qt_made_safetensors("plain.safetensors", &t, 1, NULL), &err), QN_E_UNSUPPORTED);
    check_line("one file", &err, "nothing here says what the tensors mean");
}

/* Whatever request for memory fails, it is an error and nothing is lost (the sanitizer looks). */
Test(build_bad, no_memory)
{
    const char *path = qt_lm_made("short", qt_lm_llama_config, qt_lm_llama_tensors, 2, 1);
    for (uint64_t nth = 1;; nth++) {
        qn_err err = {.off = QN_NO_OFFSET};
        qn_source *s = qt_made_open(qt_made_env(1), path);
        const qn_env *env = qt_made_env_short(nth);
        const qn_env *before = s->env;
        qn_graph *g = NULL;
        s->env = env;
        const qn_code rc = qn_graph_open(env, s, &g, &err);
        s->env = before;
        qn_graph_close(g);
        qn_source_close(s);
        if (rc == QN_OK) {
            cr_assert(!qt_made_memory_failed() || nth > 3);
            cr_assert(nth > 3, "no request was made to fail");
            if (!qt_made_memory_failed())
                break;
        } else {
            cr_assert_eq(rc, QN_E_MEMORY, "request %llu: %d %s", (unsigned long long)nth, (int)rc, err.text);
        }
        cr_assert(nth < 5000);
    }
}
