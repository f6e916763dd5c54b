/* test_emit_depth.c: layers and experts out of language models: what is written computes what the model computes that passes them by, or whose router
 * never takes them; what the configuration says of layers by their number. */
#include "compress/prune/depth.h"
#include "tests/support/lm_cut.h"
#include "tests/support/lm_made.h"
#include "tests/support/ok.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t tokens[] = {1, 5, 10, 0, 3, 7, 7, 2, 9, 4, 6, 8, 1, 2, 3};
enum { TOKENS = sizeof tokens / sizeof tokens[0] };

static const qn_emit_options plain = {0};

#define CONFIG(class, type, layers, more)                                                                                                      \
    "{\"architectures\": [\"" class "\"], \"model_type\": \"" type "\", \"hidden_size\": 8, \"intermediate_size\": 6, \"num_hidden_layers\": " layers   \
    ", \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 4, \"vocab_size\": 11, \"max_position_embeddings\": 64, "          \
    "\"rms_norm_eps\": 1e-05, \"hidden_act\": \"silu\"" more "}"
#define REST "model.embed_tokens.weight 11x8; model.norm.weight 8; model.layers.*.input_layernorm.weight 8; model.layers.*.post_attention_layernorm.weight 8;"
#define HEADS                                                                                                                                  \
    "model.layers.*.self_attn.q_proj.weight 16x8; model.layers.*.self_attn.k_proj.weight 8x8; model.layers.*.self_attn.v_proj.weight 8x8;"             \
    "model.layers.*.self_attn.o_proj.weight 8x16;"
#define FFN "model.layers.*.mlp.gate_proj.weight 6x8; model.layers.*.mlp.up_proj.weight 6x8; model.layers.*.mlp.down_proj.weight 8x6;"
#define NORMS2 "model.layers.*.pre_feedforward_layernorm.weight 8; model.layers.*.post_feedforward_layernorm.weight 8;"
#define BIASES "model.layers.*.self_attn.q_proj.bias 16; model.layers.*.self_attn.k_proj.bias 8; model.layers.*.self_attn.v_proj.bias 8;"
#define NEO                                                                                                                                    \
    "transformer.wte.weight 11x8; transformer.wpe.weight 64x8; transformer.ln_f.weight 8; transformer.ln_f.bias 8; transformer.h.*.ln_1.weight 8;"     \
    "transformer.h.*.ln_1.bias 8; transformer.h.*.ln_2.weight 8; transformer.h.*.ln_2.bias 8; transformer.h.*.attn.attention.q_proj.weight 8x8;"       \
    "transformer.h.*.attn.attention.k_proj.weight 8x8; transformer.h.*.attn.attention.v_proj.weight 8x8; transformer.h.*.attn.attention.out_proj.weight 8x8;" \
    "transformer.h.*.attn.attention.out_proj.bias 8; transformer.h.*.mlp.c_fc.weight 32x8; transformer.h.*.mlp.c_fc.bias 32;"                          \
    "transformer.h.*.mlp.c_proj.weight 8x32; transformer.h.*.mlp.c_proj.bias 8"

static void compare(const char *out, const float *want, uint64_t n)
{
    uint64_t m;
    qt_lm_model cut = qt_lm_open(out);
    const float *found = qt_lm_run(cut.g, NULL, tokens, TOKENS, &m);
    cr_assert_eq(n, m);
    cr_assert_leq(qt_lm_apart(found, want, n), 1e-6, "%s: %g", out, qt_lm_apart(found, want, n));
    qt_lm_close(&cut);
}

/* gone: one character a layer, 'x' goes. words: must be in the new configuration, NULL-ended. */
static void drop_layers(const char *name, const char *config, const char *tensors, const char *gone, const char *const *words)
{
    uint8_t flags[16];
    char to[64];
    const uint32_t n_layers = (uint32_t)strlen(gone);
    qn_err err = {0};
    uint64_t n, m;
    for (uint32_t i = 0; i < n_layers; i++)
        flags[i] = gone[i] == 'x';
    qt_lm_model x = qt_lm_open(qt_lm_made(name, config, tensors, n_layers, 7));
    qn_overlay *w;
    OK(qn_overlay_new(qt_made_env(1), x.g, &w, &err));
    OK(qn_depth_bypass(x.g, flags, n_layers, w, &err));
    const float *want = qt_lm_run(x.g, w, tokens, TOKENS, &n), *dense = qt_lm_run(x.g, NULL, tokens, TOKENS, &m);
    cr_assert_gt(qt_lm_apart(want, dense, n), 1e-3);
    const qn_depth d = {.layers = flags, .n_layers = n_layers};
    snprintf(to, sizeof to, "%s-cut", name);
    OK(qn_emit_check(x.g, NULL, &d, &plain, &err));
    OK(qn_emit(qt_made_env(1), x.g, NULL, &d, NULL, qt_made_path(to), &plain, &err));
    compare(qt_made_path(to), want, n);
    for (; *words; words++)
        cr_assert(strstr(qt_text_of(qt_made_path(to), "config.json"), *words), "%s: no %s in %s", name, *words, qt_text_of(qt_made_path(to), "config.json"));
    qn_overlay_free(w);
    qt_lm_close(&x);
}

Test(emit_depth, layers)
{
    drop_layers("llama", CONFIG("LlamaForCausalLM", "llama", "4", ""), REST HEADS FFN "lm_head.weight 11x8", "x.x.",
                (const char *const[]){"\"num_hidden_layers\": 2,", NULL});
    /* windows from layer 2 on: one of two such layers goes, and one of those before */
    drop_layers("qwen2", CONFIG("Qwen2ForCausalLM", "qwen2", "4", ", \"use_sliding_window\": true, \"sliding_window\": 3, \"max_window_layers\": 2"),
                REST HEADS BIASES FFN "lm_head.weight 11x8", "x..x", (const char *const[]){"\"max_window_layers\": 1", NULL});
    drop_layers("typed", CONFIG("Qwen2ForCausalLM", "qwen2", "3", ", \"use_sliding_window\": true, \"sliding_window\": 3, \"max_window_layers\": 1, "
                                "\"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\"]"),
                REST HEADS BIASES FFN "lm_head.weight 11x8", "x..", (const char *const[]){"\"layer_types\": [\"sliding_attention\", \"full_attention\"]", NULL});
    /* every second layer of gemma 2 sees all: then it must be said */
    drop_layers("gemma2", CONFIG("Gemma2ForCausalLM", "gemma2", "4", ", \"sliding_window\": 3"), REST HEADS FFN NORMS2 "lm_head.weight 11x8", ".x..",
                (const char *const[]){"\"layer_types\": [\"sliding_attention\", \"sliding_attention\", \"full_attention\"]", NULL});
    drop_layers("gpt_neo",
                "{\"architectures\": [\"GPTNeoForCausalLM\"], \"hidden_size\": 8, \"num_layers\": 4, \"num_heads\": 2, \"vocab_size\": 11, "
                "\"max_position_embeddings\": 64, \"window_size\": 3, \"attention_types\": [[[\"global\", \"local\"], 2]]}", NEO, "x..x",
                (const char *const[]){"\"num_layers\": 2,", "\"attention_types\": [[[\"local\"], 1], [[\"global\"], 1]]", NULL});
}

Test(emit_depth, layers_that_cannot_go)
{
    qn_err err = {0};
    uint8_t flags[3] = {1, 1, 1};
    qt_lm_model x = qt_lm_open(qt_lm_made("all", CONFIG("LlamaForCausalLM", "llama", "3", ""), REST HEADS FFN "lm_head.weight 11x8", 3, 1));
    const qn_depth d = {.layers = flags, .n_layers = 3};
    cr_assert_eq(qn_emit_check(x.g, NULL, &d, &plain, &err), QN_E_INPUT);
    cr_assert(strstr(err.text, "at least one must stay"), "%s", err.text);
    qt_lm_close(&x);
}

/* --- experts --- */

enum { EXPERTS = 4, LAYERS = 3 };

/* Layer 1 of the qwen is dense: every layer but that has experts. */
static const struct {
    const char *name, *config, *tensors;
    const char *words[4];
} moes[] = {
    {"mixtral", CONFIG("MixtralForCausalLM", "mixtral", "3", ", \"num_local_experts\": 4, \"num_experts_per_tok\": 2"),
     REST HEADS "model.layers.*.block_sparse_moe.gate.weight 4x8; model.layers.*.block_sparse_moe.experts.0.w1.weight 6x8;"
                "model.layers.*.block_sparse_moe.experts.0.w3.weight 6x8; model.layers.*.block_sparse_moe.experts.0.w2.weight 8x6;"
                "model.layers.*.block_sparse_moe.experts.1.w1.weight 6x8; model.layers.*.block_sparse_moe.experts.1.w3.weight 6x8;"
                "model.layers.*.block_sparse_moe.experts.1.w2.weight 8x6; model.layers.*.block_sparse_moe.experts.2.w1.weight 6x8;"
                "model.layers.*.block_sparse_moe.experts.2.w3.weight 6x8; model.layers.*.block_sparse_moe.experts.2.w2.weight 8x6;"
                "model.layers.*.block_sparse_moe.experts.3.w1.weight 6x8; model.layers.*.block_sparse_moe.experts.3.w3.weight 6x8;"
                "model.layers.*.block_sparse_moe.experts.3.w2.weight 8x6; lm_head.weight 11x8",
     {"\"num_local_experts\": 2,"}},
    {"qwen3_moe", CONFIG("Qwen3MoeForCausalLM", "qwen3_moe", "3", ", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 6, "
                         "\"norm_topk_prob\": true, \"mlp_only_layers\": [1]"),
     REST HEADS "model.layers.*.self_attn.q_norm.weight 4; model.layers.*.self_attn.k_norm.weight 4; model.layers.0.mlp.gate.weight 4x8;"
                "model.layers.2.mlp.gate.weight 4x8; model.layers.0.mlp.experts.gate_up_proj 4x12x8; model.layers.2.mlp.experts.gate_up_proj 4x12x8;"
                "model.layers.0.mlp.experts.down_proj 4x8x6; model.layers.2.mlp.experts.down_proj 4x8x6; model.layers.1.mlp.gate_proj.weight 6x8;"
                "model.layers.1.mlp.up_proj.weight 6x8; model.layers.1.mlp.down_proj.weight 8x6; lm_head.weight 11x8",
     {"\"num_experts\": 2,", "\"mlp_only_layers\": [1]"}},
};

static float *masked(const qn_graph *g, const qn_depth *d, uint64_t *n)
{
    qn_err err = {0};
    qn_exec *x;
    qn_depth_mask *mask;
    qn_array feeds[2], out;
    int64_t starts[2] = {0, TOKENS}, t[TOKENS], n_tokens = TOKENS, two = 2;
    memcpy(t, tokens, sizeof t);
    OK(qn_depth_mask_open(qt_made_env(1), g, d, &mask, &err));
    OK(qn_exec_open(qt_made_env(1), g, &(qn_exec_options){.on_output = qn_depth_mask_tap, .tap_ctx = mask}, &x, &err));
    OK(qn_array_wrap(&feeds[0], QN_I64, &n_tokens, 1, t, &err));
    OK(qn_array_wrap(&feeds[1], QN_I64, &two, 1, starts, &err));
    OK(qn_exec_run(x, feeds, &out, &err));
    float *y = qt_made_keep(malloc(qn_array_bytes(&out)));
    memcpy(y, out.data, qn_array_bytes(&out));
    *n = out.n;
    qn_array_release(&out);
    qn_exec_close(x);
    qn_depth_mask_close(mask);
    return y;
}

/* Other experts in each layer; the third case of names: one tensor per expert and one for all. */
Test(emit_depth, experts)
{
    static const uint8_t gone[LAYERS][EXPERTS] = {{1, 0, 0, 1}, {0, 1, 1, 0}, {0, 0, 1, 1}};
    const uint8_t *rows[LAYERS] = {gone[0], gone[1], gone[2]};
    for (size_t i = 0; i < sizeof moes / sizeof moes[0]; i++) {
        char to[64];
        qn_err err = {0};
        uint64_t n, m;
        qt_lm_model x = qt_lm_open(qt_lm_made(moes[i].name, moes[i].config, moes[i].tensors, LAYERS, 11));
        qn_depth d = {.experts = rows, .n_experts = EXPERTS};
        const float *want = masked(x.g, &d, &n), *dense = qt_lm_run(x.g, NULL, tokens, TOKENS, &m);
        cr_assert_gt(qt_lm_apart(want, dense, n), 1e-3);
        snprintf(to, sizeof to, "%s-cut", moes[i].name);
        OK(qn_emit(qt_made_env(1), x.g, NULL, &d, NULL, qt_made_path(to), &plain, &err));
        compare(qt_made_path(to), want, n);
        for (const char *const *w = moes[i].words; *w; w++)
            cr_assert(strstr(qt_text_of(qt_made_path(to), "config.json"), *w), "%s", qt_text_of(qt_made_path(to), "config.json"));
        /* fewer than a token goes to; another number in one layer */
        static const uint8_t three[EXPERTS] = {1, 0, 1, 1}, one[EXPERTS] = {1, 0, 0, 0};
        rows[2] = three;
        cr_assert_eq(qn_emit_check(x.g, NULL, &d, &plain, &err), QN_E_UNSUPPORTED);
        cr_assert(strstr(err.text, "layer 2 would keep 1 experts, and every token goes to 2"), "%s", err.text);
        err = (qn_err){0};
        rows[2] = one;
        cr_assert_eq(qn_emit_check(x.g, NULL, &d, &plain, &err), QN_E_UNSUPPORTED);
        cr_assert(strstr(err.text, "the number of experts would be 2 in layer 0 and 3 in layer 2"), "%s", err.text);
        rows[2] = gone[2];
        qt_lm_close(&x);
    }
}

/* A layer with experts and the dense one before it go: the other dense one has another number then. */
Test(emit_depth, experts_and_layers)
{
    static const uint8_t layers[LAYERS] = {1, 0, 0}, gone[EXPERTS] = {0, 1, 0, 0};
    const uint8_t *rows[LAYERS] = {gone, NULL, gone};
    const qn_depth d = {.layers = layers, .n_layers = LAYERS, .experts = rows, .n_experts = EXPERTS};
    qn_err err = {0};
    qt_lm_model x = qt_lm_open(qt_lm_made("both", moes[1].config, moes[1].tensors, LAYERS, 12));
    OK(qn_emit(qt_made_env(1), x.g, NULL, &d, NULL, qt_made_path("both-cut"), &plain, &err));
    const char *text = qt_text_of(qt_made_path("both-cut"), "config.json");
    cr_assert(strstr(text, "\"num_hidden_layers\": 2,") && strstr(text, "\"num_experts\": 3,") && strstr(text, "\"mlp_only_layers\": [0]"), "%s", text);
    qt_lm_close(&x);
}

/* --- scores --- */

static qn_code feed_tokens(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err)
{
    static int64_t t[TOKENS], starts[3] = {0, 6, TOKENS};
    const int64_t n = TOKENS, three = 3;
    (void)ctx;
    for (unsigned i = 0; i < TOKENS; i++)
        t[i] = (tokens[i] + (int64_t)batch) % 11;
    QN_TRY(qn_array_wrap(&inputs[0], QN_I64, &n, 1, t, err));
    return qn_array_wrap(&inputs[1], QN_I64, &three, 1, starts, err);
}

static qn_pool *pool;
static const qn_calibrate_feed feed = {.pool = &pool, .n_batches = 2, .n_tokens = 2 * TOKENS, .feed = feed_tokens};

/* A layer that adds nothing turns nothing, and is the first to go. */
Test(emit_depth, angles)
{
    qn_err err = {0};
    double score[3];
    uint32_t n_layers, n_experts;
    qt_lm_model x = qt_lm_open(qt_lm_made("angles", CONFIG("LlamaForCausalLM", "llama", "3", ""), REST HEADS FFN "lm_head.weight 11x8", 3, 1));
    qn_depth_size(x.g, &n_layers, &n_experts);
    cr_assert(n_layers == 3 && n_experts == 0);
    OK(qn_depth_angles(qt_made_env(1), x.g, &feed, 0, score, 3, &err));
    for (unsigned i = 0; i < 3; i++)
        cr_assert(score[i] > 1e-3 && score[i] < 2, "layer %u: %g", i, score[i]);
    qt_lm_close(&x);
    /* the same with layer 1's outputs at 0, through a written model */
    x = qt_lm_open(qt_made_path("angles"));
    qn_overlay *w;
    const uint8_t flags[3] = {0, 1, 0};
    OK(qn_overlay_new(qt_made_env(1), x.g, &w, &err));
    OK(qn_depth_bypass(x.g, flags, 3, w, &err));
    OK(qn_emit(qt_made_env(1), x.g, NULL, NULL, w, qt_made_path("angles-still"), &plain, &err));
    qt_lm_model still = qt_lm_open(qt_made_path("angles-still"));
    OK(qn_depth_angles(qt_made_env(1), still.g, &feed, 0, score, 3, &err));
    cr_assert(fabs(score[1]) < 1e-9 && score[0] > 1e-3 && score[2] > 1e-3);
    qn_measure *m;
    uint8_t choice[3] = {0};
    double loss[2];
    OK(qn_measure_open(qt_made_env(1), still.g, &feed, 2, 0, &m, &err));
    OK(qn_depth_choose(still.g, m, NULL, 2, 2, choice, 3, loss, &err));
    cr_assert(choice[1] && choice[0] + choice[1] + choice[2] == 2 && fabs(loss[0]) < 1e-9 && loss[1] > 1e-6, "%g %g", loss[0], loss[1]);
    qn_measure_close(m);
    qn_overlay_free(w);
    qt_lm_close(&still);
    qt_lm_close(&x);
}

/* Scores by their definition, in double, from the rows that a router's chosen experts are shown: mixtral's tensors one by one. */
struct slow {
    double reap[LAYERS * EXPERTS], n[LAYERS * EXPERTS];
};

static double *weight(const qn_graph *g, const char *fmt, unsigned layer, unsigned expert)
{
    char name[128];
    qn_err err = {0};
    snprintf(name, sizeof name, fmt, layer, expert);
    const uint32_t v = qn_graph_find(g, name);
    const uint64_t n = qn_value_elems(&g->values[v]);
    float *f = qt_made_keep(malloc(n * sizeof *f));
    double *d = qt_made_keep(malloc(n * sizeof *d));
    OK(qn_weight_from_source(qt_made_env(1), g->source, g, v, 0, (uint64_t)g->values[v].dims[0], f, &err));
    for (uint64_t i = 0; i < n; i++)
        d[i] = (double)f[i];
    return d;
}

static double dot(const double *w, const float *x, unsigned n)
{
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += w[i] * (double)x[i];
    return sum;
}

static qn_code look_slowly(void *ctx, const qn_graph *g, uint32_t w, uint32_t part, const float *rows, uint64_t n_rows, uint64_t n, uint64_t ld, qn_err *err)
{
    struct slow *s = ctx;
    unsigned layer, e;
    (void)part;
    (void)err;
    if (sscanf(g->values[w].name, "model.layers.%u.block_sparse_moe.experts.%u.w1", &layer, &e) != 2 || !strstr(g->values[w].name, ".w1."))
        return QN_OK;
    const double *router = weight(g, "model.layers.%u.block_sparse_moe.gate.weight", layer, 0),
                 *w1 = weight(g, "model.layers.%u.block_sparse_moe.experts.%u.w1.weight", layer, e),
                 *w3 = weight(g, "model.layers.%u.block_sparse_moe.experts.%u.w3.weight", layer, e),
                 *w2 = weight(g, "model.layers.%u.block_sparse_moe.experts.%u.w2.weight", layer, e);
    for (uint64_t r = 0; r < n_rows; r++) {
        const float *x = rows + r * ld;
        double l[EXPERTS], first = -1e9, second = -1e9, norm = 0;
        for (unsigned k = 0; k < EXPERTS; k++) {
            l[k] = dot(router + k * n, x, (unsigned)n);
            second = l[k] > first ? first : fmax(second, l[k]);
            first = fmax(first, l[k]);
        }
        cr_assert(l[e] >= second - 1e-6);
        for (unsigned o = 0; o < 8; o++) {
            double y = 0;
            for (unsigned j = 0; j < 6; j++) {
                const double gate = dot(w1 + j * n, x, (unsigned)n);
                y += w2[o * 6 + j] * gate / (1 + exp(-gate)) * dot(w3 + j * n, x, (unsigned)n);
            }
            norm += y * y;
        }
        s->reap[layer * EXPERTS + e] += exp(l[e]) / (exp(first) + exp(second)) * sqrt(norm);
        s->n[layer * EXPERTS + e] += 1;
    }
    return QN_OK;
}

Test(emit_depth, expert_scores)
{
    qn_err err = {0};
    double reap[2][LAYERS * EXPERTS], share[LAYERS * EXPERTS];
    for (size_t i = 0; i < 2; i++) {
        qt_lm_model x = qt_lm_open(qt_lm_made(moes[i].name, moes[i].config, moes[i].tensors, LAYERS, 11));
        OK(qn_depth_experts(qt_made_env(1), x.g, &feed, 0, reap[i], share, LAYERS, EXPERTS, &err));
        for (unsigned l = 0; l < LAYERS; l++) {
            double sum = 0;
            for (unsigned e = 0; e < EXPERTS; e++) {
                sum += share[l * EXPERTS + e];
                cr_assert_eq(reap[i][l * EXPERTS + e] > 0, share[l * EXPERTS + e] > 0);
            }
            cr_assert(fabs(sum - (i == 1 && l == 1 ? 0 : 2)) < 1e-12, "layer %u: %g", l, sum);
        }
        struct slow slow = {0};
        qn_exec *exec;
        OK(qn_exec_open(qt_made_env(1), x.g, &(qn_exec_options){.on_input = look_slowly, .tap_ctx = &slow}, &exec, &err));
        for (uint64_t batch = 0; i == 0 && batch < feed.n_batches; batch++) {
            qn_array feeds[2], out;
            OK(feed_tokens(NULL, batch, feeds, &err));
            OK(qn_exec_run(exec, feeds, &out, &err));
            qn_array_release(&out);
        }
        qn_exec_close(exec);
        for (unsigned k = 0; i == 0 && k < LAYERS * EXPERTS; k++)
            cr_assert(fabs(reap[0][k] - (slow.n[k] > 0 ? slow.reap[k] / slow.n[k] : 0)) < 1e-5, "%u: %g, %g", k, reap[0][k], slow.reap[k] / slow.n[k]);
        qt_lm_close(&x);
    }
    uint8_t gone[LAYERS * EXPERTS];
    const double rows[] = {3, 1, 2, 1, 0, 0, 0, 0, 5, 6, 7, 4};
    qn_depth_pick(rows, LAYERS, EXPERTS, 2, gone);
    static const uint8_t want[] = {0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 1};
    cr_assert_arr_eq(gone, want, sizeof want);
}
