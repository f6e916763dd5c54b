/* test_readers.c: the second moment of an embedding that the layers behind it give: against what an error does there, as the definition has
 * it; which embeddings have one; and that the loss that is told is the one under it. */
#include "base/err.h"
#include "base/num.h"
#include "compress/lossy_impl.h"
#include "compress/pack.h"
#include "runtime/widths.h"
#include "tests/support/lm_made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N = 32 }; /* columns; the feed-forward of 300 is more than a slab of rows */

#define SIZES "\"hidden_size\": 32, \"intermediate_size\": 300, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"vocab_size\": 48, " \
              "\"max_position_embeddings\": 64, "
#define LAYER "model.layers.*."
#define LLAMA_TENSORS                                                                                                     \
    "model.embed_tokens.weight 48x32; model.norm.weight 32;" LAYER "input_layernorm.weight 32;" LAYER                       \
    "post_attention_layernorm.weight 32;" LAYER "self_attn.q_proj.weight 32x32;" LAYER "self_attn.k_proj.weight 16x32;" LAYER \
    "self_attn.v_proj.weight 16x32;" LAYER "self_attn.o_proj.weight 32x32;" LAYER "mlp.gate_proj.weight 300x32;" LAYER      \
    "mlp.up_proj.weight 300x32;" LAYER "mlp.down_proj.weight 32x300"

static const char *llama(bool tied)
{
    char config[600];
    (void)snprintf(config, sizeof config, "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", " SIZES
                   "\"num_key_value_heads\": 1, \"rms_norm_eps\": 1e-5, \"rope_theta\": 1e4, \"hidden_act\": \"silu\", \"tie_word_embeddings\": %s}",
                   tied ? "true" : "false");
    return qt_lm_made(tied ? "tied" : "llama", config, tied ? LLAMA_TENSORS : LLAMA_TENSORS "; lm_head.weight 48x32", 2, 3);
}

#define GPT "gpt_neox.layers.*."
static const char *neox(void)
{
    return qt_lm_made("neox", "{\"architectures\": [\"GPTNeoXForCausalLM\"], " SIZES "\"rotary_pct\": 0.5}",
                      "gpt_neox.embed_in.weight 48x32; embed_out.weight 48x32; gpt_neox.final_layer_norm.weight 32;"
                      "gpt_neox.final_layer_norm.bias 32;" GPT
                      "input_layernorm.weight 32;" GPT "input_layernorm.bias 32;" GPT "post_attention_layernorm.weight 32;" GPT
                      "post_attention_layernorm.bias 32;" GPT "attention.query_key_value.weight 96x32;" GPT "attention.query_key_value.bias 96;" GPT
                      "attention.dense.weight 32x32;" GPT "attention.dense.bias 32;" GPT "mlp.dense_h_to_4h.weight 300x32;" GPT
                      "mlp.dense_h_to_4h.bias 300;" GPT "mlp.dense_4h_to_h.weight 32x300;" GPT "mlp.dense_4h_to_h.bias 32", 2, 8);
}

static const char *mixtral(void)
{
    return qt_lm_made("mixtral", "{\"architectures\": [\"MixtralForCausalLM\"], \"model_type\": \"mixtral\", " SIZES
                      "\"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-5, \"rope_theta\": 1e4, \"hidden_act\": \"silu\", \"num_local_experts\": 2, "
                      "\"num_experts_per_tok\": 1, \"tie_word_embeddings\": false}",
                      "model.embed_tokens.weight 48x32; model.norm.weight 32; lm_head.weight 48x32;" LAYER "input_layernorm.weight 32;" LAYER
                      "post_attention_layernorm.weight 32;" LAYER "block_sparse_moe.gate.weight 2x32;" LAYER "self_attn.q_proj.weight 32x32;" LAYER
                      "self_attn.k_proj.weight 32x32;" LAYER "self_attn.v_proj.weight 32x32;" LAYER "self_attn.o_proj.weight 32x32;" LAYER
                      "block_sparse_moe.experts.gate_up_proj 2x600x32;" LAYER "block_sparse_moe.experts.down_proj 2x32x300", 2, 9);
}

struct opened {
    qn_source *src;
    qn_graph *graph;
    qn_recipe recipe;
    qn_lossy *lossy;
};

static void open_model(struct opened *o, const qn_env *env, const char *path, const char *codec, double bits)
{
    qn_err err;
    qn_err_clear(&err);
    o->src = qt_made_open(env, path);
    cr_assert_eq(qn_graph_open(env, o->src, &o->graph, &err), QN_OK, "%s", err.text);
    o->recipe = QN_RECIPE_EMPTY;
    o->recipe.all = (qn_recipe_part){.codec = codec, .set = {.bits = bits}};
    const qn_lossy_options opt = {.recipe = &o->recipe};
    cr_assert_eq(qn_lossy_open(&o->lossy, env, o->src, o->graph, &opt, &err), QN_OK, "%s", err.text);
}

static void close_model(struct opened *o)
{
    qn_lossy_close(o->lossy);
    qn_graph_close(o->graph);
    qn_source_close(o->src);
}

static const qn_lossy_layer *layer_of(const struct opened *o, const char *tensor)
{
    const uint64_t i = qn_source_find(o->src, tensor);
    cr_assert(i != UINT64_MAX && o->lossy->layer_of[i], "%s", tensor);
    return &o->lossy->layers[o->lossy->layer_of[i] - 1];
}

static float *values(qn_source *s, const char *tensor, uint64_t *n)
{
    const uint64_t i = qn_source_find(s, tensor);
    cr_assert_neq(i, UINT64_MAX, "%s", tensor);
    uint8_t *raw = qt_made_keep(malloc(s->objects[i].n_bytes));
    *n = s->objects[i].n_bytes / 4;
    float *f = qt_made_keep(malloc(*n * sizeof *f));
    cr_assert_eq(qn_source_read(s, i, 0, *n * 4, raw, NULL), QN_OK);
    for (uint64_t k = 0; k < *n; k++)
        f[k] = qn_bits_f32(qn_load32(raw + 4 * k));
    return f;
}

/* |W (g · e)|², e less its mean when `centred` */
static double done_by(qn_source *s, const char *gain, const char *weight, bool centred, const double *e)
{
    uint64_t n, n_gain;
    const float *g = values(s, gain, &n_gain), *w = values(s, weight, &n);
    double mean = 0, sum = 0;
    for (unsigned j = 0; j < N; j++)
        mean += centred ? e[j] / N : 0;
    for (uint64_t i = 0; i < n / N; i++) {
        double y = 0;
        for (unsigned j = 0; j < N; j++)
            y += (double)w[i * N + j] * (double)g[j] * (e[j] - mean);
        sum += y * y;
    }
    return sum;
}

static double form(const double *m, const double *e)
{
    double sum = 0;
    for (unsigned i = 0; i < N; i++)
        for (unsigned j = 0; j < N; j++)
            sum += e[i] * m[i * N + j] * e[j];
    return sum;
}

static void check_moment(const char *path, const char *embedding, bool centred, const char *const (*readers)[2], unsigned n_readers)
{
    struct opened o;
    qt_rng rng = qt_seed(11);
    double *h = NULL, *diagonal = NULL;
    open_model(&o, qt_made_env(1), path, "grid", 4);
    const qn_lossy_layer *y = layer_of(&o, embedding);
    cr_assert(y->by_readers && y->pick.role == QN_ROLE_EMBEDDING);
    cr_assert_eq(qn_lossy_readers_moment(o.lossy, y, &h, &diagonal, NULL), QN_OK);
    cr_assert(h && !diagonal);
    for (unsigned trial = 0; trial < 8; trial++) {
        double e[N], want = 0;
        for (unsigned j = 0; j < N; j++)
            e[j] = qt_normal(&rng) + (trial == 0 ? 5 : 0);
        for (unsigned r = 0; r < n_readers; r++)
            want += done_by(o.src, readers[r][0], readers[r][1], centred, e);
        const double got = form(h, e);
        cr_expect(fabs(got - want) < 1e-10 * want, "%s: %.17g, not %.17g", path, got, want);
    }
    for (unsigned i = 0; i < N; i++)
        for (unsigned j = 0; j < N; j++)
            cr_assert(h[i * N + j] >= h[j * N + i] && h[i * N + j] <= h[j * N + i]);
    /* a recipe without feedback asks for the diagonal alone */
    double *none = NULL;
    o.recipe.no_feedback = true;
    cr_assert_eq(qn_lossy_readers_moment(o.lossy, y, &none, &diagonal, NULL), QN_OK);
    cr_assert(!none && diagonal);
    for (unsigned i = 0; i < N; i++)
        cr_assert(diagonal[i] >= h[i * N + i] && diagonal[i] <= h[i * N + i]);
    qn_mem_put(NULL, h);
    qn_mem_put(NULL, diagonal);
    close_model(&o);
}

Test(readers, rms_norms_behind_each_other)
{
#define L0 "model.layers.0."
    static const char *const readers[][2] = {{L0 "input_layernorm.weight", L0 "self_attn.q_proj.weight"},
                                             {L0 "input_layernorm.weight", L0 "self_attn.k_proj.weight"},
                                             {L0 "input_layernorm.weight", L0 "self_attn.v_proj.weight"},
                                             {L0 "post_attention_layernorm.weight", L0 "mlp.gate_proj.weight"},
                                             {L0 "post_attention_layernorm.weight", L0 "mlp.up_proj.weight"}};
    check_moment(llama(false), "model.embed_tokens.weight", false, readers, 5);
}

Test(readers, layer_norms_side_by_side)
{
#define G0 "gpt_neox.layers.0."
    static const char *const readers[][2] = {{G0 "input_layernorm.weight", G0 "attention.query_key_value.weight"},
                                             {G0 "post_attention_layernorm.weight", G0 "mlp.dense_h_to_4h.weight"}};
    check_moment(neox(), "gpt_neox.embed_in.weight", true, readers, 2);
}

/* A head that is the embedding too has statistics; experts are not looked into, and the rest of the block is not enough. */
Test(readers, who_has_none)
{
    struct opened o;
    open_model(&o, qt_made_env(1), llama(true), "grid", 4);
    cr_expect(!layer_of(&o, "model.embed_tokens.weight")->by_readers);
    close_model(&o);
    open_model(&o, qt_made_env(1), mixtral(), "grid", 4);
    cr_expect(layer_of(&o, "model.embed_tokens.weight")->pick.role == QN_ROLE_EMBEDDING && !layer_of(&o, "model.embed_tokens.weight")->by_readers);
    close_model(&o);
    open_model(&o, qt_made_env(1), llama(false), "grid", 4);
    cr_expect(!layer_of(&o, "lm_head.weight")->by_readers && !layer_of(&o, "model.layers.0.mlp.gate_proj.weight")->by_readers);
    close_model(&o);
}

static uint8_t *packed(const char *path, const char *codec, double bits, unsigned n_threads, qn_lossy_row *row, size_t *n)
{
    qn_err err;
    qn_err_clear(&err);
    struct opened o;
    const qn_env *env = qt_made_env(n_threads);
    open_model(&o, env, path, codec, bits);
    const qn_pack_options po = {.level = QN_LEVEL_FAST, .lossy = o.lossy, .overwrite = true};
    qn_pack_report report;
    const char *out = qt_made_path("readers.quern");
    cr_assert_eq(qn_pack(env, o.src, out, &po, &report, &err), QN_OK, "%s", err.text);
    qn_pack_report_release(env, &report);
    for (uint64_t i = 0; i < qn_lossy_count(o.lossy); i++)
        if (qn_lossy_report(o.lossy, i).role == QN_ROLE_EMBEDDING)
            *row = qn_lossy_report(o.lossy, i);
    row->name = NULL; /* of the source */
    close_model(&o);
    FILE *f = fopen(out, "rb");
    cr_assert_not_null(f);
    uint8_t *p = qt_made_keep(malloc(1 << 20));
    *n = fread(p, 1, 1 << 20, f);
    fclose(f);
    return p;
}

Test(readers, packed)
{
    static const struct { const char *codec; double bits; } cases[] = {{"grid", 3}, {"ect", 3}, {"trellis", 3}};
    for (unsigned c = 0; c < 3; c++) {
        qn_lossy_row row = {0};
        size_t n, m;
        const uint8_t *one = packed(llama(false), cases[c].codec, cases[c].bits, 1, &row, &n);
        cr_expect(row.by_readers && row.kind == QN_LDL_FULL && row.seen == 0, "%s", cases[c].codec);
        cr_expect(row.damping >= QN_LOSSY_READERS_DAMPING && row.damping < 2 * QN_LOSSY_READERS_DAMPING);
        /* what it does in the block is less than what it is among the weights */
        cr_expect_lt(row.sum.loss / row.sum.energy, 0.9 * row.sum.error / row.sum.square, "%s", cases[c].codec);
        const uint8_t *four = packed(llama(false), cases[c].codec, cases[c].bits, 4, &row, &m);
        cr_expect(n == m && memcmp(one, four, n) == 0, "%s: threads make a difference", cases[c].codec);
    }
}
