/* test_views.c: which matrix each kind of layer is taken as, what is kept and why, and that what is packed decodes to what lies near:
 * rows stored the other way, convolutions, stacks of experts, recurrences, tensors larger than a chunk. */
#include "analysis/model_digest.h"
#include "analysis/stats/stats.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/lossy_impl.h"
#include "compress/pack.h"
#include "tests/support/lm_made.h"
#include "tests/support/proto.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct opened {
    qn_source *src;
    qn_graph *graph;
    qn_lossy_pick *picks;
};

static struct opened open_model(const qn_env *env, const char *path)
{
    struct opened o;
    qn_err err;
    qn_err_clear(&err);
    o.src = qt_made_open(env, path);
    cr_assert_eq(qn_graph_open(env, o.src, &o.graph, &err), QN_OK, "%s", err.text);
    o.picks = calloc(o.src->n_objects + 1, sizeof *o.picks);
    qn_lossy_pick_all(o.src, o.graph, o.picks);
    return o;
}

static void close_model(struct opened *o)
{
    free(o->picks);
    qn_graph_close(o->graph);
    qn_source_close(o->src);
}

static const qn_lossy_pick *pick(const struct opened *o, const char *name)
{
    const uint64_t i = qn_source_find(o->src, name);
    cr_assert_neq(i, UINT64_MAX, "%s", name);
    return &o->picks[i];
}

static void is_matrix(const struct opened *o, const char *name, qn_lossy_role role, uint32_t rows, uint32_t cols, uint32_t parts, bool turned)
{
    const qn_lossy_pick *p = pick(o, name);
    cr_expect_null(p->kept, "%s: %s", name, p->kept);
    cr_expect_eq(p->role, role, "%s: role %d", name, p->role);
    cr_expect(p->view.rows == rows && p->view.cols == cols && p->view.parts == parts && p->view.turned == turned, "%s: %u x %u, %u, %d", name,
              p->view.rows, p->view.cols, p->view.parts, p->view.turned);
}

static void is_kept(const struct opened *o, const char *name, const char *why)
{
    const qn_lossy_pick *p = pick(o, name);
    cr_expect_neq(p->role, QN_ROLE_NONE, "%s has no row", name);
    cr_expect(p->kept && strstr(p->kept, why), "%s: %s", name, p->kept);
}

/* --- models ------------------------------------------------------------------------------------------------------- */

static const char *gpt2(const char *dir, unsigned hidden, unsigned inner)
{
    char config[600], tensors[1200];
    (void)snprintf(config, sizeof config, "{\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"n_embd\": %u, \"n_layer\": 2, \"n_head\": 4, "
                   "\"n_positions\": 64, \"n_ctx\": 64, \"n_inner\": %u, \"vocab_size\": 50, \"layer_norm_epsilon\": 1e-5, \"activation_function\": "
                   "\"gelu_new\"}", hidden, inner);
    (void)snprintf(tensors, sizeof tensors, "wte.weight 50x%u; wpe.weight 64x%u; ln_f.weight %u; ln_f.bias %u; h.*.ln_1.weight %u; h.*.ln_1.bias %u;"
                   "h.*.ln_2.weight %u; h.*.ln_2.bias %u; h.*.attn.c_attn.weight %ux%u; h.*.attn.c_attn.bias %u; h.*.attn.c_proj.weight %ux%u;"
                   "h.*.attn.c_proj.bias %u; h.*.mlp.c_fc.weight %ux%u; h.*.mlp.c_fc.bias %u; h.*.mlp.c_proj.weight %ux%u; h.*.mlp.c_proj.bias %u",
                   hidden, hidden, hidden, hidden, hidden, hidden, hidden, hidden, hidden, 3 * hidden, 3 * hidden, hidden, hidden, hidden, hidden,
                   inner, inner, inner, hidden, hidden);
    return qt_lm_made(dir, config, tensors, 2, 5);
}

static const char *mixtral(bool fused)
{
    static const char config[] =
        "{\"architectures\": [\"MixtralForCausalLM\"], \"model_type\": \"mixtral\", \"hidden_size\": 32, \"intermediate_size\": 48, \"num_hidden_layers\": 2,"
        " \"num_attention_heads\": 4, \"num_key_value_heads\": 4, \"vocab_size\": 50, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"rope_theta\":"
        " 10000.0, \"hidden_act\": \"silu\", \"num_local_experts\": 20, \"num_experts_per_tok\": 2, \"tie_word_embeddings\": false}";
    static char tensors[16000];
    size_t n = (size_t)snprintf(tensors, sizeof tensors, "model.embed_tokens.weight 50x32; model.norm.weight 32; lm_head.weight 50x32;");
    for (unsigned l = 0; l < 2; l++) {
        n += (size_t)snprintf(tensors + n, sizeof tensors - n, "model.layers.%u.input_layernorm.weight 32; model.layers.%u.post_attention_layernorm.weight 32;"
                              "model.layers.%u.block_sparse_moe.gate.weight 20x32;", l, l, l);
        for (unsigned k = 0; k < 4; k++)
            n += (size_t)snprintf(tensors + n, sizeof tensors - n, "model.layers.%u.self_attn.%c_proj.weight 32x32;", l, "qkvo"[k]);
        if (fused)
            n += (size_t)snprintf(tensors + n, sizeof tensors - n, "model.layers.%u.block_sparse_moe.experts.gate_up_proj 20x96x32;"
                                  "model.layers.%u.block_sparse_moe.experts.down_proj 20x32x48;", l, l);
        for (unsigned e = 0; !fused && e < 20; e++)
            n += (size_t)snprintf(tensors + n, sizeof tensors - n, "model.layers.%u.block_sparse_moe.experts.%u.w1.weight 48x32;"
                                  "model.layers.%u.block_sparse_moe.experts.%u.w2.weight 32x48; model.layers.%u.block_sparse_moe.experts.%u.w3.weight 48x32;",
                                  l, e, l, e, l, e);
    }
    tensors[n - 1] = '\0'; /* the last semicolon */
    return qt_lm_made(fused ? "fused" : "mixtral", config, tensors, 1, 6);
}

static const char *onnx(const char *name, const char *graph)
{
    qt_buf b = {0};
    qt_add_proto(&b, "#1=8 @8{#2=13} ", NULL);
    qt_add_proto(&b, graph, NULL);
    const char *path = qt_made_file(name, b.p, b.n);
    qt_buf_free(&b);
    return path;
}

/* --- what is taken for what ----------------------------------------------------------------------------------------- */

Test(views, gpt2)
{
    const qn_env *env = qt_made_env(1);
    struct opened o = open_model(env, gpt2("gpt2", 32, 80));
    is_matrix(&o, "h.0.attn.c_attn.weight", QN_ROLE_LINEAR, 96, 32, 1, true);
    is_matrix(&o, "h.1.mlp.c_fc.weight", QN_ROLE_LINEAR, 80, 32, 1, true);
    is_matrix(&o, "h.1.mlp.c_proj.weight", QN_ROLE_LINEAR, 32, 80, 1, true);
    is_matrix(&o, "wte.weight", QN_ROLE_HEAD, 50, 32, 1, false);
    is_kept(&o, "wpe.weight", "positions");
    cr_expect_eq(pick(&o, "ln_f.weight")->role, QN_ROLE_NONE);
    close_model(&o);
}

Test(views, experts)
{
    const qn_env *env = qt_made_env(1);
    struct opened o = open_model(env, mixtral(false));
    is_matrix(&o, "model.layers.1.block_sparse_moe.experts.7.w1.weight", QN_ROLE_LINEAR, 48, 32, 1, false);
    is_kept(&o, "model.layers.1.block_sparse_moe.gate.weight", "sends tokens");
    const uint32_t w1 = pick(&o, "model.layers.1.block_sparse_moe.experts.7.w1.weight")->family;
    cr_expect(w1 != 0 && w1 == pick(&o, "model.layers.1.block_sparse_moe.experts.0.w1.weight")->family);
    cr_expect_neq(w1, pick(&o, "model.layers.1.block_sparse_moe.experts.7.w2.weight")->family);
    cr_expect_neq(w1, pick(&o, "model.layers.0.block_sparse_moe.experts.7.w1.weight")->family);
    cr_expect_eq(pick(&o, "lm_head.weight")->family, 0);
    close_model(&o);
    o = open_model(env, mixtral(true));
    is_matrix(&o, "model.layers.1.block_sparse_moe.experts.gate_up_proj", QN_ROLE_LINEAR, 96, 32, 20, false);
    is_matrix(&o, "model.layers.1.block_sparse_moe.experts.down_proj", QN_ROLE_LINEAR, 32, 48, 20, false);
    cr_expect(pick(&o, "model.layers.1.block_sparse_moe.experts.down_proj")->view.own_statistics);
    close_model(&o);
}

Test(views, mamba)
{
    static const char config[] =
        "{\"architectures\": [\"MambaForCausalLM\"], \"model_type\": \"mamba\", \"hidden_size\": 32, \"intermediate_size\": 64, \"state_size\": 16, "
        "\"conv_kernel\": 4, \"time_step_rank\": 32, \"num_hidden_layers\": 2, \"vocab_size\": 50, \"layer_norm_epsilon\": 1e-5, \"use_conv_bias\": true, "
        "\"use_bias\": false, \"hidden_act\": \"silu\", \"tie_word_embeddings\": true}";
    static const char tensors[] =
        "backbone.embeddings.weight 50x32; backbone.norm_f.weight 32; backbone.layers.*.norm.weight 32; backbone.layers.*.mixer.in_proj.weight 128x32;"
        "backbone.layers.*.mixer.conv1d.weight 64x1x4; backbone.layers.*.mixer.conv1d.bias 64; backbone.layers.*.mixer.x_proj.weight 64x64;"
        "backbone.layers.*.mixer.dt_proj.weight 64x32; backbone.layers.*.mixer.dt_proj.bias 64; backbone.layers.*.mixer.A_log 64x16;"
        "backbone.layers.*.mixer.D 64; backbone.layers.*.mixer.out_proj.weight 32x64";
    struct opened o = open_model(qt_made_env(1), qt_lm_made("mamba", config, tensors, 2, 9));
    is_matrix(&o, "backbone.layers.0.mixer.in_proj.weight", QN_ROLE_LINEAR, 128, 32, 1, false);
    is_matrix(&o, "backbone.layers.0.mixer.x_proj.weight", QN_ROLE_LINEAR, 64, 64, 1, false);
    is_matrix(&o, "backbone.layers.0.mixer.dt_proj.weight", QN_ROLE_LINEAR, 64, 32, 1, false);
    is_matrix(&o, "backbone.layers.1.mixer.out_proj.weight", QN_ROLE_LINEAR, 32, 64, 1, false);
    is_kept(&o, "backbone.layers.1.mixer.A_log", "decay of a scan");
    is_kept(&o, "backbone.layers.1.mixer.D", "vector of a scan");
    is_kept(&o, "backbone.layers.1.mixer.conv1d.weight", "few taps");
    close_model(&o);
}

/* y = Gemm(Conv …): weights of zeros, whose shapes count. */
Test(views, onnx)
{
    const char *path = onnx("net.onnx",
        "@7{"
        "@1{@3{'c'} @1{'x'} @1{'wc'} @2{'a'} @4{'Conv'}}"
        "@1{@3{'p'} @1{'a'} @1{'w1'} @2{'b'} @4{'Conv'}}"
        "@1{@3{'g'} @1{'b'} @1{'wg'} @2{'c'} @4{'Conv'} @5{@1{'group'} #3=2 #20=2}}"
        "@1{@3{'d'} @1{'c'} @1{'wd'} @2{'d'} @4{'Conv'} @5{@1{'group'} #3=32 #20=2}}"
        "@1{@3{'t'} @1{'d'} @1{'wt'} @2{'e'} @4{'ConvTranspose'}}"
        "@1{@3{'f'} @1{'e'} @2{'f'} @4{'GlobalAveragePool'}}"
        "@1{@3{'h'} @1{'f'} @2{'h'} @4{'Flatten'}}"
        "@1{@3{'m'} @1{'h'} @1{'wm'} @2{'i'} @4{'MatMul'}}"
        "@1{@3{'j'} @1{'i'} @1{'wj'} @2{'j'} @4{'Gemm'} @5{@1{'transB'} #3=1 #20=2}}"
        "@1{@3{'k'} @1{'j'} @1{'wk'} @2{'y'} @4{'Gemm'}}"
        "@5{#1=32 #1=8 #1=5 #1=5 #2=1 @8{'wc'} @9{z25600}}"  /* (32, 8, 5, 5): rows of 25, 200 for a reader */
        "@5{#1=32 #1=32 #1=1 #1=1 #2=1 @8{'w1'} @9{z4096}}"
        "@5{#1=32 #1=16 #1=3 #1=3 #2=1 @8{'wg'} @9{z18432}}"
        "@5{#1=32 #1=1 #1=3 #1=3 #2=1 @8{'wd'} @9{z1152}}"
        "@5{#1=32 #1=20 #1=2 #1=2 #2=1 @8{'wt'} @9{z10240}}"
        "@5{#1=20 #1=64 #2=1 @8{'wm'} @9{z5120}}"            /* 20 columns are too few */
        "@5{#1=48 #1=64 #2=1 @8{'wj'} @9{z12288}}"
        "@5{#1=48 #1=16 #2=1 @8{'wk'} @9{z3072}}"
        "@11{@1{'x'} @2{@1{#1=1 @2{@1{#1=2} @1{#1=8} @1{#1=16} @1{#1=16}}}}} @12{@1{'y'}}}");
    struct opened o = open_model(qt_made_env(1), path);
    is_matrix(&o, "wc", QN_ROLE_LINEAR, 32, 200, 1, false);
    is_matrix(&o, "w1", QN_ROLE_LINEAR, 32, 32, 1, false);
    is_matrix(&o, "wg", QN_ROLE_LINEAR, 16, 144, 2, false);
    is_kept(&o, "wd", "each channel for itself");
    is_matrix(&o, "wt", QN_ROLE_LINEAR, 80, 32, 1, true);
    is_kept(&o, "wm", "too small");
    is_matrix(&o, "wj", QN_ROLE_LINEAR, 48, 64, 1, false);
    is_matrix(&o, "wk", QN_ROLE_HEAD, 16, 48, 1, true);
    close_model(&o);
}

Test(views, onnx_tables_and_recurrences)
{
    const char *path = onnx("gru.onnx",
        "@7{"
        "@1{@1{'table'} @1{'x'} @2{'a'} @4{'Gather'}}"
        "@1{@1{'a'} @1{'w'} @1{'r'} @2{'b'} @4{'GRU'} @5{@1{'hidden_size'} #3=32 #20=2} @5{@1{'direction'} @4{'bidirectional'} #20=3}}"
        "@1{@1{'both'} @1{'s'} @2{'c'} @4{'MatMul'}}"
        "@1{@1{'s'} @1{'both'} @2{'y'} @4{'MatMul'}}"
        "@5{#1=50 #1=32 #2=1 @8{'table'} @9{z6400}}"
        "@5{#1=2 #1=96 #1=32 #2=1 @8{'w'} @9{z24576}}"
        "@5{#1=2 #1=96 #1=32 #2=1 @8{'r'} @9{z24576}}"
        "@5{#1=32 #1=40 #2=1 @8{'both'} @9{z5120}}"
        "@11{@1{'x'} @2{@1{#1=7 @2{@1{#1=5} @1{#1=2}}}}} @11{@1{'s'} @2{@1{#1=1}}} @12{@1{'y'}} @12{@1{'b'}} @12{@1{'c'}}}");
    struct opened o = open_model(qt_made_env(1), path);
    is_matrix(&o, "table", QN_ROLE_EMBEDDING, 50, 32, 1, false);
    is_matrix(&o, "w", QN_ROLE_LINEAR, 96, 32, 2, false);
    is_matrix(&o, "r", QN_ROLE_LINEAR, 96, 32, 2, false);
    is_kept(&o, "both", "in two ways");
    close_model(&o);
}

/* --- what is packed --------------------------------------------------------------------------------------------------- */

static double distance(qn_source *a, qn_source *b, uint64_t object)
{
    const uint64_t n = a->objects[object].n_bytes;
    uint8_t *x = malloc(n + 1), *y = malloc(n + 1);
    double e = 0, w = 1e-300;
    cr_assert_eq(qn_source_read(a, object, 0, n, x, NULL), QN_OK);
    cr_assert_eq(qn_source_read(b, object, 0, n, y, NULL), QN_OK);
    for (uint64_t i = 0; i < n; i += 4) {
        const double u = (double)qn_bits_f32(qn_load32(x + i)), v = (double)qn_bits_f32(qn_load32(y + i));
        e += (u - v) * (u - v);
        w += u * u;
    }
    free(x);
    free(y);
    return e / w;
}

/* Packs, checks that everything approximated lies within `most` and the rest is the same; returns how many TURN chunks there are. */
static uint64_t pack(const char *model, const char *codec, double bits, double most)
{
    const qn_env *env = qt_made_env(2);
    qn_err err;
    qn_err_clear(&err);
    qn_recipe recipe = QN_RECIPE_EMPTY;
    recipe.all = (qn_recipe_part){.codec = codec, .set = {.bits = bits}};
    struct opened o = open_model(env, model);
    qn_lossy *l = NULL;
    const qn_lossy_options lo = {.recipe = &recipe};
    cr_assert_eq(qn_lossy_open(&l, env, o.src, o.graph, &lo, &err), QN_OK, "%s", err.text);
    const qn_pack_options po = {.level = QN_LEVEL_FAST, .lossy = l, .overwrite = true};
    qn_pack_report report;
    const char *out = qt_made_path("packed.quern");
    cr_assert_eq(qn_pack(env, o.src, out, &po, &report, &err), QN_OK, "%s", err.text);
    qn_source *packed = qt_made_open(env, out);
    cr_assert_eq(qn_verify(env, packed, NULL, NULL, NULL), QN_OK);
    uint64_t turned = 0, row = 0;
    for (uint64_t i = 0; i < o.src->n_objects; i++) {
        if (o.src->objects[i].kind != QN_OBJECT_TENSOR)
            continue;
        const double d = distance(o.src, packed, i);
        turned += report.rows[i].stored_by_codec[QN_CODEC_TURN] > 0;
        cr_expect(qn_lossy_has(l, i) ? d > 0 && d < most : d <= 0, "%s: %s by %g", codec, o.src->objects[i].name, d);
    }
    for (; row < qn_lossy_count(l); row++) {
        const qn_lossy_row r = qn_lossy_report(l, row);
        if (r.kept)
            continue;
        cr_expect(r.n_done == r.n_segments && r.n_lossless == 0, "%s: %llu of %llu", r.name, (unsigned long long)r.n_done,
                  (unsigned long long)r.n_segments);
        cr_expect_eq((uint64_t)r.rows * r.cols * 4, o.src->objects[r.object].n_bytes);
    }
    qn_source_close(packed);
    qn_lossy_close(l);
    close_model(&o);
    qn_pack_report_release(env, &report);
    return turned;
}

Test(views, gpt2_packed)
{
    const char *model = gpt2("gpt2", 32, 80);
    cr_expect_eq(pack(model, "grid", 6, 0.002), 8);
    cr_expect_eq(pack(model, "ect", 4, 0.05), 8);
    cr_expect_eq(pack(model, "pvq", 4, 0.05), 8);
}

Test(views, experts_packed)
{
    cr_expect_eq(pack(mixtral(true), "grid", 6, 0.002), 0);
    cr_expect_eq(pack(mixtral(true), "ect", 4, 0.05), 0);
}

/* f32 of 300 x 20000 are 24 MB: two chunks of 150 input channels each; of 20000 x 300, two of 10000. */
Test(views, larger_than_a_chunk)
{
    const qn_env *env = qt_made_env(2);
    const char *model = gpt2("large", 300, 20000);
    struct opened o = open_model(env, model);
    is_matrix(&o, "h.0.mlp.c_fc.weight", QN_ROLE_LINEAR, 20000, 300, 1, true);
    is_matrix(&o, "h.0.mlp.c_proj.weight", QN_ROLE_LINEAR, 300, 20000, 1, true);
    close_model(&o);
    cr_expect_eq(pack(model, "grid", 5, 0.01), 8);
}

/* --- statistics of parts ----------------------------------------------------------------------------------------------- */

enum { MOST = 300 };

/* Row r of what expert e sees: small whole numbers, so that all sums are exact. */
static void input_row(uint32_t e, uint32_t r, uint32_t n, float *x)
{
    for (uint32_t j = 0; j < n; j++)
        x[j] = (float)((e * 31 + r * 17 + j * (r + 3)) % 7) - 3 + (j == (r + e) % n ? 5.0f : 0.0f);
}

/* `rows[e]` rows of each of n_parts inputs of n columns (QN_STATS_NO_EXPERT for n_parts = 0). */
static const char *write_stats(const qn_env *env, qn_source *src, const char *tensor, uint32_t n, const uint32_t *rows, uint32_t n_parts)
{
    qn_err err;
    qn_err_clear(&err);
    qn_stats *s = NULL;
    qn_stats_writer *w = NULL;
    qn_stats_meta meta = {0};
    const char *path = qt_made_path("views.qstats");
    cr_assert_eq(qn_model_digest(env, src, &meta.model, &err), QN_OK, "%s", err.text);
    cr_assert_eq(qn_stats_new(env, NULL, &s, &err), QN_OK);
    cr_assert_eq(qn_stats_writer_open(&w, env, path, &meta, &(qn_stats_write_options){.overwrite = true, .restart = true}, &err), QN_OK, "%s", err.text);
    for (uint32_t e = 0; e < (n_parts ? n_parts : 1); e++) {
        qn_stats_entry *one;
        float x[MOST];
        cr_assert_eq(qn_stats_open(s, tensor, n_parts ? e : QN_STATS_NO_EXPERT, n, QN_STATS_H, &one, &err), QN_OK, "%s", err.text);
        for (uint32_t r = 0; r < rows[e]; r++) {
            input_row(e, r, n, x);
            cr_assert_eq(qn_stats_add(s, one, x, 1, n, &err), QN_OK);
        }
    }
    cr_assert_eq(qn_stats_flush(s, w, &err), QN_OK, "%s", err.text);
    cr_assert_eq(qn_stats_writer_checkpoint(w, &err), QN_OK, "%s", err.text);
    cr_assert_eq(qn_stats_writer_finish(w, &meta, &err), QN_OK, "%s", err.text);
    qn_stats_writer_close(w);
    qn_stats_free(s);
    return path;
}

/* Σ x xᵀ of element (i, j), as the definition has it. */
static double sum_of(uint32_t e, uint32_t rows, uint32_t n, uint32_t i, uint32_t j)
{
    float x[MOST];
    double sum = 0;
    for (uint32_t r = 0; r < rows; r++) {
        input_row(e, r, n, x);
        sum += (double)x[i] * (double)x[j];
    }
    return sum;
}

struct lossy_of {
    struct opened o;
    qn_stats_file stats;
    qn_recipe recipe;
    qn_lossy *l;
};

static void open_lossy(struct lossy_of *t, const qn_env *env, const char *stats)
{
    qn_err err;
    qn_err_clear(&err);
    t->stats = QN_STATS_FILE_CLOSED;
    t->recipe = QN_RECIPE_EMPTY;
    t->recipe.all = (qn_recipe_part){.codec = "grid", .set = {.bits = 4}};
    cr_assert_eq(qn_stats_file_open(&t->stats, env, stats, &err), QN_OK, "%s", err.text);
    const qn_lossy_options lo = {.recipe = &t->recipe, .stats = &t->stats};
    cr_assert_eq(qn_lossy_open(&t->l, env, t->o.src, t->o.graph, &lo, &err), QN_OK, "%s", err.text);
}

static void close_lossy(struct lossy_of *t)
{
    qn_lossy_close(t->l);
    qn_stats_file_close(&t->stats);
    close_model(&t->o);
}

static const qn_lossy_layer *first_layer(const struct lossy_of *t, const char *tensor)
{
    const uint64_t i = qn_source_find(t->o.src, tensor);
    cr_assert(i != UINT64_MAX && t->l->layer_of[i]);
    return &t->l->layers[t->l->layer_of[i] - 1];
}

Test(views, experts_that_saw_little)
{
    enum { E = 20, N = 32 };
    const qn_env *env = qt_made_env(1);
    static const char name[] = "model.layers.1.block_sparse_moe.experts.gate_up_proj";
    static const uint32_t rows[E] = {0, 5, 40, 200, 3000, 1, 0, 64, 900, 1024, 0, 7, 7, 7, 7, 31, 32, 33, 100, 2};
    struct lossy_of t = {.o = open_model(env, mixtral(true))};
    open_lossy(&t, env, write_stats(env, t.o.src, name, N, rows, E));
    const qn_lossy_layer *y = first_layer(&t, name);
    uint32_t all = 0, starved = 0;
    for (uint32_t e = 0; e < E; e++) {
        all += rows[e];
        starved += rows[e] < 2 * N;
    }
    for (uint32_t e = 0; e < E; e++) {
        double *h = NULL, *diagonal = NULL;
        const bool leans = rows[e] < 8 * QN_LOSSY_LEAN * N;
        cr_assert_eq(qn_lossy_moment(t.l, &y[e], &h, &diagonal, NULL), QN_OK);
        cr_assert(h && !diagonal);
        for (uint32_t k = 0; k < 12; k++) {
            const uint32_t i = k * 5 % N, j = k * 11 % N;
            double want = sum_of(e, rows[e], N, i, j);
            for (uint32_t x = 0; x < E && leans; x++)
                want += QN_LOSSY_LEAN * (double)N / all * sum_of(x, rows[x], N, i, j);
            cr_expect(fabs(h[(size_t)i * N + j] - want) <= 1e-6 * (fabs(want) + 1), "expert %u (%u, %u): %g, not %g", e, i, j, h[(size_t)i * N + j], want);
        }
        qn_mem_put(env->alloc, h);
    }
    for (uint64_t i = 0; i < qn_lossy_count(t.l); i++) {
        const qn_lossy_row r = qn_lossy_report(t.l, i);
        if (strcmp(r.name, name) == 0)
            cr_expect(r.seen == 0 && r.n_parts == E && r.n_starved == starved && r.leans && r.rows == E * 96, "%u of %u", r.n_starved, r.n_parts);
    }
    close_lossy(&t);
}

/* The second chunk of a turned matrix has the block of H that belongs to its columns. */
Test(views, a_block_of_the_moment)
{
    enum { N = 300, HALF = 150 };
    const qn_env *env = qt_made_env(1);
    const uint32_t rows[1] = {400};
    struct lossy_of t = {.o = open_model(env, gpt2("large", N, 20000))};
    open_lossy(&t, env, write_stats(env, t.o.src, "h.1.mlp.c_fc.weight", N, rows, 0));
    const qn_lossy_layer *y = first_layer(&t, "h.1.mlp.c_fc.weight");
    cr_assert(y[0].cols == HALF && y[0].col0 == 0 && y[1].cols == HALF && y[1].col0 == HALF && y[1].object == y[0].object);
    double *h = NULL, *diagonal = NULL;
    cr_assert_eq(qn_lossy_moment(t.l, &y[1], &h, &diagonal, NULL), QN_OK);
    for (uint32_t k = 0; k < 40; k++) {
        const uint32_t i = k * 7 % HALF, j = k * 31 % HALF;
        cr_expect_float_eq(h[(size_t)i * HALF + j], sum_of(0, rows[0], N, HALF + i, HALF + j), 1e-6);
    }
    qn_mem_put(env->alloc, h);
    close_lossy(&t);
}
