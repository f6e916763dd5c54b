/* test_build_good.c: graphs of language models as they should be: blocks and names, warnings, tied outputs, memory and threads, the
 * ragged batch; from a folder, from a .quern that holds it, from a GGUF file. */
#include "analysis/graph/op.h"
#include "base/err.h"
#include "compress/pack.h"
#include "tests/support/lm_made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t tokens[] = {1, 5, 10, 0, 3, 7, 7, 2, 9, 4, 6, 8, 1, 2, 3}, starts[] = {0, 6, 7, 7, 15};
enum { SEQS = 4, TOKENS = 15, VOCAB = 11 };

struct opened {
    qn_source *s;
    qn_graph *g;
};

static struct opened open_graph(const char *path)
{
    struct opened o = {.s = qt_made_open(qt_made_env(1), path)};
    qn_err err = {0};
    cr_assert_eq(qn_graph_open(qt_made_env(1), o.s, &o.g, &err), QN_OK, "%s", err.text);
    return o;
}

static void close_graph(struct opened *o)
{
    qn_graph_close(o->g);
    qn_source_close(o->s);
}

Test(build_good, blocks_and_names)
{
    struct opened o = open_graph(qt_lm_made("blocks", qt_lm_llama_config, qt_lm_llama_tensors, 2, 1));
    const qn_graph *g = o.g;
    static const char *const blocks[] = {"embedding", "layers.0", "layers.1", "head"};
    static const char *const nodes[] = {"model.embed_tokens", "model.layers.1.self_attn.q_proj", "model.layers.0.mlp.down_proj", "lm_head"};
    cr_assert_eq(g->n_blocks, 4);
    for (unsigned i = 0; i < 4; i++) {
        cr_assert_str_eq(g->blocks[i].name, blocks[i]);
        cr_assert_gt(g->blocks[i].n_nodes, 0u);
    }
    for (unsigned i = 0; i < 4; i++) {
        const uint32_t v = qn_graph_find(g, nodes[i]);
        cr_assert_neq(v, QN_NO_VALUE, "%s", nodes[i]);
        cr_assert_str_eq(g->nodes[g->values[v].node].name, nodes[i]);
    }
    const qn_value *head = &g->values[g->outputs[0]];
    cr_assert(head->rank == 2 && head->dims[0] == QN_DIM_UNKNOWN && head->dims[1] == VOCAB);
    cr_assert(g->n_vocab == VOCAB && g->context == 64 && g->n_warnings == 0);
    cr_assert_eq(qn_graph_first_opaque(g), QN_NO_NODE);
    cr_assert_str_eq(g->family, "llama");
    close_graph(&o);
}

/* What is said about tensors that the model does not use, and about outputs that are tied or not. */
Test(build_good, warnings)
{
    static const struct {
        const char *from, *to;  /* in the configuration */
        const char *more;       /* tensors               */
        bool no_head;
        const char *words;      /* NULL: no warning      */
    } cases[] = {
        {"false}", "false}", "; visual.patch 2; model.layers.0.self_attn.rotary_emb.inv_freq 2; extra 1", false, "2 tensors that a llama model does not use: "},
        {"false}", "false}", "; a 1;b 1;c 1;d 1", false, "4 tensors that a llama model does not use: a, b, c, …"},
        {"false}", "false}", "; model.layers.0.self_attn.rotary_emb.inv_freq 2", false, NULL},
        {"false}", "true}", "", true, NULL},
        {"false}", "false}", "", true, "there is no lm_head.weight although tie_word_embeddings is not true"},
        {"false}", "true}", "", false, "tie_word_embeddings is true, but lm_head.weight differs from model.embed_tokens.weight"},
        {"false}", "false, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 32}}", "", false,
         "yarn: factor is not max_position_embeddings / original_max_position_embeddings (2)"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char config[2048], list[2048], dir[16];
        const char *at = strstr(qt_lm_llama_config, cases[i].from), *head = strstr(qt_lm_llama_tensors, "lm_head.weight 11x8;");
        snprintf(config, sizeof config, "%.*s%s", (int)(at - qt_lm_llama_config), qt_lm_llama_config, cases[i].to);
        snprintf(list, sizeof list, "%.*s%s%s", (int)(head - qt_lm_llama_tensors), qt_lm_llama_tensors,
                 cases[i].no_head ? head + strlen("lm_head.weight 11x8;") : head, cases[i].more);
        snprintf(dir, sizeof dir, "warn%u", i);
        struct opened o = open_graph(qt_lm_made(dir, config, list, 2, 1));
        cr_assert_eq(o.g->n_warnings, cases[i].words ? 1u : 0u, "case %u: %llu warnings, '%s'", i, (unsigned long long)o.g->n_warnings,
                     o.g->n_warnings ? o.g->warnings[0] : "");
        if (cases[i].words)
            cr_assert(strstr(o.g->warnings[0], cases[i].words), "case %u: %s", i, o.g->warnings[0]);
        close_graph(&o);
    }
}

/* The output layer's own copy of the embedding is not used twice. */
Test(build_good, a_copy_is_one_weight)
{
    static float v[88];
    for (unsigned i = 0; i < 88; i++)
        v[i] = (float)i;
    char config[1024];
    snprintf(config, sizeof config, "%s", qt_lm_llama_config);
    memcpy(strstr(config, "false}"), "true} ", 6);
    const char *path = qt_lm_made("copy", config, qt_lm_llama_tensors, 2, 1);
    /* the folder's first file in the order of names holds both; the other's are then qualified, so they are left out there */
    const char *rest = strchr(strstr(qt_lm_llama_tensors, "lm_head"), ';') + 1;
    char list[2048];
    snprintf(list, sizeof list, "model.norm.weight 8;%s", rest);
    qt_lm_made("copy", config, list, 2, 1);
    const qt_made_tensor both[] = {{"lm_head.weight", QN_F32, 2, {11, 8}, v}, {"model.embed_tokens.weight", QN_F32, 2, {11, 8}, v}};
    qt_made_safetensors("copy/a.safetensors", both, 2, NULL);
    struct opened o = open_graph(path);
    cr_assert_eq(o.g->n_warnings, 0u, "%s", o.g->n_warnings ? o.g->warnings[0] : "");
    cr_assert_eq(qn_graph_find(o.g, "lm_head.weight"), QN_NO_VALUE);
    close_graph(&o);
}

/* limit: memory for the run block by block; what an eighth of it cannot hold is read by rows. */
static void check_steady(const char *path, uint64_t limit)
{
    uint64_t n, m, whole, peak;
    float *y = qt_lm_logits(qt_made_env(1), path, tokens, starts, SEQS, 0, &n, &whole);
    cr_assert_eq(n, (uint64_t)TOKENS * VOCAB);
    double spread = 0;
    for (uint64_t i = 0; i < n; i++)
        spread = fmax(spread, fabs((double)y[i]));
    cr_assert(spread > 0.1 && isfinite(spread));
    for (unsigned t = 2; t < 4; t++) {
        const float *z = qt_lm_logits(qt_made_env(t), path, tokens, starts, SEQS, 0, &m, NULL);
        cr_assert_arr_eq(y, z, n * sizeof *y, "%u threads give other logits", t);
    }
    for (unsigned s = 0; s < SEQS; s++) {
        const int64_t alone[2] = {0, starts[s + 1] - starts[s]};
        if (!alone[1])
            continue;
        const float *z = qt_lm_logits(qt_made_env(1), path, tokens + starts[s], alone, 1, 0, &m, NULL);
        for (uint64_t i = 0; i < m; i++)
            cr_assert(fabs((double)(z[i] - y[starts[s] * VOCAB + (int64_t)i])) <= 1e-6 * spread, "sequence %u depends on its neighbours", s);
    }
    /* Block by block, weights dropped behind each, or read by rows: same numbers, and the limit holds. */
    cr_assert_lt(limit, whole);
    const float *z = qt_lm_streamed(qt_made_env(1), path, tokens, starts, SEQS, limit, &m, &peak);
    cr_assert_arr_eq(y, z, n * sizeof *y, "the limit changes the logits");
    cr_assert(peak <= limit && peak > limit / 3, "%llu bytes of %llu", (unsigned long long)peak, (unsigned long long)limit);
}

/* Eight layers instead of two, so that most of the memory is weights. */
static const char *eight(const char *config)
{
    char *text = qt_made_keep(strdup(config));
    *strchr(strstr(text, "num_hidden_layers"), '2') = '8';
    return text;
}

Test(build_good, llama_is_steady)
{
    check_steady(qt_lm_made("steady", eight(qt_lm_llama_config), qt_lm_llama_tensors, 8, 3), 9000);
}

static const char moe_config[] =
    "{\"architectures\": [\"Qwen3MoeForCausalLM\"], \"hidden_size\": 8, \"intermediate_size\": 6, \"num_hidden_layers\": 2, \"num_attention_heads\": 2,"
    " \"num_key_value_heads\": 1, \"head_dim\": 4, \"vocab_size\": 11, \"num_experts\": 4, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 5,"
    " \"norm_topk_prob\": true, \"tie_word_embeddings\": true}";

#define MOE_ATTENTION                                                                                                                      \
    "model.embed_tokens.weight 11x8; model.norm.weight 8; model.layers.*.input_layernorm.weight 8; model.layers.*.self_attn.q_proj.weight 8x8;" \
    "model.layers.*.self_attn.k_proj.weight 4x8; model.layers.*.self_attn.v_proj.weight 4x8; model.layers.*.self_attn.o_proj.weight 8x8;"    \
    "model.layers.*.self_attn.q_norm.weight 4; model.layers.*.self_attn.k_norm.weight 4; model.layers.*.post_attention_layernorm.weight 8;"  \
    "model.layers.*.mlp.gate.weight 4x8;"

Test(build_good, experts_are_steady)
{
    check_steady(qt_lm_made("moe", eight(moe_config),
                            MOE_ATTENTION "model.layers.*.mlp.experts.gate_up_proj 4x10x8;model.layers.*.mlp.experts.down_proj 4x8x5", 8, 4), 9000);
}

/* --- what the taps see ------------------------------------------------------------------------------------------------- */

struct tap {
    uint64_t rows[3], calls; /* by gate, up, down */
    double sum;
};

static qn_code on_input(void *ctx, const qn_graph *g, uint32_t weight, uint32_t part, const float *x, uint64_t rows, uint64_t n, uint64_t ld, qn_err *err)
{
    struct tap *t = ctx;
    const char *name = g->values[weight].name;
    const int role = strstr(name, "experts.") ? (strstr(name, "gate") ? 0 : strstr(name, "up_") ? 1 : 2) : -1;
    (void)err;
    (void)part;
    cr_assert_eq((uint64_t)g->values[weight].dims[g->values[weight].rank - 1], n);
    cr_assert_geq(ld, n);
    if (role >= 0) {
        t->rows[role] += rows;
        t->calls++;
        for (uint64_t i = 0; role == 0 && i < rows * n; i++)
            t->sum += (double)x[i];
    }
    return QN_OK;
}

Test(build_good, each_expert_reports_its_rows)
{
    char list[2048] = MOE_ATTENTION;
    for (unsigned e = 0; e < 4; e++)
        snprintf(list + strlen(list), sizeof list - strlen(list),
                 "model.layers.*.mlp.experts.%u.gate_proj.weight 5x8;model.layers.*.mlp.experts.%u.up_proj.weight 5x8;"
                 "model.layers.*.mlp.experts.%u.down_proj.weight 8x5%s", e, e, e, e < 3 ? ";" : "");
    struct opened o = open_graph(qt_lm_made("taps", moe_config, list, 2, 5));
    struct tap t = {0};
    qn_exec *x;
    qn_err err = {0};
    qn_array feeds[2], out;
    static int64_t own[TOKENS], own_starts[SEQS + 1];
    memcpy(own, tokens, sizeof own);
    memcpy(own_starts, starts, sizeof own_starts);
    const int64_t n = TOKENS, n_starts = SEQS + 1;
    cr_assert_eq(qn_exec_open(qt_made_env(2), o.g, &(qn_exec_options){.on_input = on_input, .tap_ctx = &t}, &x, &err), QN_OK);
    cr_assert_eq(qn_array_wrap(&feeds[0], QN_I64, &n, 1, own, &err), QN_OK);
    cr_assert_eq(qn_array_wrap(&feeds[1], QN_I64, &n_starts, 1, own_starts, &err), QN_OK);
    cr_assert_eq(qn_exec_run(x, feeds, &out, &err), QN_OK, "%s", err.text);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(t.rows[i], 2u * 2 * TOKENS, "two layers, two experts a token: %llu rows", (unsigned long long)t.rows[i]);
    cr_assert(t.calls <= 2u * 3 * 4 && t.calls >= 2u * 3 * 2);
    cr_assert(t.sum != 0);
    qn_array_release(&out);
    qn_exec_close(x);
    close_graph(&o);
}

/* --- other containers -------------------------------------------------------------------------------------------------- */

Test(build_good, packed_is_the_same)
{
    const qn_env *env = qt_made_env(2);
    const char *dir = qt_lm_made("packed", qt_lm_llama_config, qt_lm_llama_tensors, 2, 6), *packed = qt_made_path("packed.quern");
    qn_source *s = qt_made_open(env, dir);
    qn_pack_report report;
    qn_err err = {0};
    cr_assert_eq(qn_pack(env, s, packed, &(qn_pack_options){0}, &report, &err), QN_OK, "%s", err.text);
    qn_pack_report_release(env, &report);
    qn_source_close(s);
    uint64_t n, m;
    const float *a = qt_lm_logits(env, dir, tokens, starts, SEQS, 0, &n, NULL), *b = qt_lm_logits(env, packed, tokens, starts, SEQS, 0, &m, NULL);
    cr_assert(n == m && n == (uint64_t)TOKENS * VOCAB);
    cr_assert_arr_eq(a, b, n * sizeof *a);
}

Test(build_good, real_files_agree)
{
    const char *found = qt_shared("models/stories260k/hf-f32");
    if (!found)
        cr_skip_test("no ../shared");
    const char *dir = qt_made_keep(strdup(found)), *gguf = qt_shared("models/stories260k/gguf/stories260k-f32.gguf");
    cr_assert_not_null(gguf);
    static const int64_t ids[] = {1, 403, 407, 261, 378, 10, 44, 300}, one[] = {0, 8};
    uint64_t n, m;
    const float *a = qt_lm_logits(qt_made_env(2), dir, ids, one, 1, 0, &n, NULL), *b = qt_lm_logits(qt_made_env(2), gguf, ids, one, 1, 0, &m, NULL);
    cr_assert(n == m && n == 8 * 512);
    for (uint64_t i = 0; i < n; i++)
        cr_assert(fabs((double)(a[i] - b[i])) < 2e-5, "logit %llu: %g and %g", (unsigned long long)i, (double)a[i], (double)b[i]);
}
