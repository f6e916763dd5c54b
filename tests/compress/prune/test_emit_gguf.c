/* test_emit_gguf.c: GGUF files of language models cut: what is written computes what the model with zeros computes; keys; what is refused. */
#include "compress/prune/depth.h"
#include "formats/gguf/write.h"
#include "tests/support/lm_cut.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t tokens[] = {1, 5, 10, 0, 3, 7, 7, 2, 9, 4, 6, 8, 1, 2, 3};
enum { TOKENS = sizeof tokens / sizeof tokens[0], LAYERS = 3, EXPERTS = 4 };

static const qn_emit_options plain = {0};

static void put(qn_gguf_writer *w, const char *name, uint64_t a, uint64_t b, uint64_t c, qn_dtype t)
{
    const uint64_t dims[3] = {a, b, c};
    qn_err err = {0};
    OK(qn_gguf_put_tensor(w, name, t, dims, c ? 3 : b ? 2 : 1, &err));
}

/* Hidden 32, 4 heads of 8 over 2 key heads, ffn 64, vocabulary 11; alignment 64. moe: experts of 16 in place of the ffn. down: dtype of ffn_down. */
static const char *make(const char *file, const char *arch, bool moe, qn_dtype down)
{
    static const struct {
        const char *name;
        uint64_t a, b, c;
        int moe; /* 0 both, 1 only with, -1 only without */
    } of_layer[] = {
        {"attn_norm", 32, 0, 0, 0}, {"attn_q", 32, 32, 0, 0}, {"attn_k", 16, 32, 0, 0}, {"attn_v", 16, 32, 0, 0}, {"attn_output", 32, 32, 0, 0},
        {"ffn_norm", 32, 0, 0, 0}, {"ffn_gate", 64, 32, 0, -1}, {"ffn_up", 64, 32, 0, -1}, {"ffn_down", 32, 64, 0, -1}, {"ffn_gate_inp", EXPERTS, 32, 0, 1},
        {"ffn_gate_exps", EXPERTS, 16, 32, 1}, {"ffn_up_exps", EXPERTS, 16, 32, 1}, {"ffn_down_exps", EXPERTS, 32, 16, 1},
    };
    static const struct {
        const char *key;
        uint32_t v;
    } sizes[] = {{"context_length", 64}, {"embedding_length", 32}, {"block_count", LAYERS}, {"feed_forward_length", 64}, {"attention.head_count", 4},
                 {"attention.head_count_kv", 2}};
    qn_gguf_writer w;
    qn_err err = {0};
    const char *path = qt_made_path(file);
    char name[96];
    qt_rng r = qt_seed(5);
    (void)qt_made_dir();
    OK(qn_gguf_writer_open(&w, qt_made_env(1), path, 64, true, &err));
    OK(qn_gguf_put_str(&w, "general.architecture", arch, &err));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        snprintf(name, sizeof name, "%s.%s", arch, sizes[i].key);
        OK(qn_gguf_put_u32(&w, name, moe && !strcmp(sizes[i].key, "feed_forward_length") ? 16 : sizes[i].v, &err));
    }
    snprintf(name, sizeof name, "%s.attention.layer_norm_rms_epsilon", arch);
    OK(qn_gguf_put_f32(&w, name, 1e-5f, &err));
    snprintf(name, sizeof name, "%s.attention.sliding_window", arch);
    OK(qn_gguf_put_u32(&w, name, 3, &err));
    if (moe) {
        OK(qn_gguf_put_u32(&w, "llama.expert_count", EXPERTS, &err));
        OK(qn_gguf_put_u32(&w, "llama.expert_used_count", 2, &err));
    }
    OK(qn_gguf_put_array(&w, "tokenizer.ggml.tokens", QN_GGUF_STR, 2, &err));
    OK(qn_gguf_put_array_str(&w, "ab", 2, &err));
    OK(qn_gguf_put_array_str(&w, "", 0, &err));
    put(&w, "token_embd.weight", 11, 32, 0, QN_F32);
    put(&w, "output_norm.weight", 32, 0, 0, QN_F32);
    for (unsigned l = 0; l < LAYERS; l++)
        for (size_t i = 0; i < sizeof of_layer / sizeof of_layer[0]; i++) {
            if (of_layer[i].moe && (of_layer[i].moe > 0) != moe)
                continue;
            snprintf(name, sizeof name, "blk.%u.%s.weight", l, of_layer[i].name);
            put(&w, name, of_layer[i].a, of_layer[i].b, of_layer[i].c, !strcmp(of_layer[i].name, "ffn_down") ? down : QN_F32);
        }
    if (!strcmp(arch, "gemma2"))
        for (unsigned l = 0; l < LAYERS; l++) {
            snprintf(name, sizeof name, "blk.%u.post_attention_norm.weight", l);
            put(&w, name, 32, 0, 0, QN_F32);
            snprintf(name, sizeof name, "blk.%u.post_ffw_norm.weight", l);
            put(&w, name, 32, 0, 0, QN_F32);
        }
    for (uint64_t i = 0; i < w.n_tensors; i++) {
        uint8_t *p = qt_made_keep(malloc(w.tensor_bytes[i]));
        const bool norm = strstr(w.tensor_names.items[i], "norm") != NULL;
        for (uint64_t k = 0; k < w.tensor_bytes[i] / 4; k++)
            qt_put(QN_F32, norm ? 1 + 0.3 * qt_normal(&r) : 0.3 * qt_normal(&r), p + 4 * k);
        if (strstr(w.tensor_names.items[i], "ffn_down.") && down != QN_F32)
            memset(p, 17, w.tensor_bytes[i]);
        OK(qn_gguf_put_data(&w, p, w.tensor_bytes[i], &err));
    }
    OK(qn_gguf_writer_finish(&w, &err));
    qn_gguf_writer_close(&w);
    return path;
}

static uint64_t key(const char *path, const char *name)
{
    qn_arena arena;
    qn_gguf g;
    uint64_t v = UINT64_MAX;
    qn_err err = {0};
    qn_source *s = qt_made_open(qt_made_env(1), path);
    qn_arena_init(&arena, qt_made_env(1)->alloc);
    OK(qn_gguf_open(&g, &arena, s, &err));
    if (qn_gguf_find(&g, name))
        OK(qn_gguf_get_u64(&g, name, &v, &err));
    qn_arena_release(&arena);
    qn_source_close(s);
    return v;
}

static void compare(const char *out, const float *want, uint64_t n, double within)
{
    uint64_t m;
    qt_lm_model cut = qt_lm_open(out);
    const float *found = qt_lm_run(cut.g, NULL, tokens, TOKENS, &m);
    cr_assert_eq(n, m);
    cr_assert_leq(qt_lm_apart(found, want, n), within, "%s: %g", out, qt_lm_apart(found, want, n));
    qt_lm_close(&cut);
}

Test(emit_gguf, ffn_and_heads)
{
    qt_lm_model x = qt_lm_open(make("plain.gguf", "llama", false, QN_F32));
    qn_groups *s = qt_groups_new(x.g);
    qn_cut *c;
    qn_err err = {0};
    uint64_t n, m;
    for (unsigned i = 0; i < LAYERS; i++) {
        qt_groups_add(s, "ffn", 64, "blk.*.ffn_gate.weight/0; blk.*.ffn_up.weight/0; blk.*.ffn_down.weight/1", i);
        qt_groups_add(s, "heads", 2, "blk.*.attn_q.weight/0; blk.*.attn_k.weight/0; blk.*.attn_v.weight/0; blk.*.attn_output.weight/1", i);
    }
    OK(qn_cut_new(qt_made_env(1), s, &c, &err));
    for (uint32_t i = 0; i < LAYERS; i++) {
        for (uint32_t k = 0; k < 13; k++)
            qn_cut_set(c, 2 * i, 3 * k + i, true);
        qn_cut_set(c, 2 * i + 1, i & 1, true);
    }
    uint32_t class_of[2 * LAYERS];
    uint8_t allowed[2 * LAYERS];
    OK(qn_emit_constraints(x.g, s, &plain, class_of, allowed, &err));
    cr_assert(allowed[0] && allowed[1] && class_of[0] == class_of[4] && class_of[1] == class_of[3] && class_of[0] != class_of[1]);
    qn_overlay *w = qt_lm_zeroed(x.g, c);
    const float *want = qt_lm_run(x.g, w, tokens, TOKENS, &n), *dense = qt_lm_run(x.g, NULL, tokens, TOKENS, &m);
    cr_assert_gt(qt_lm_apart(want, dense, n), 1e-3);
    const char *out = qt_made_path("plain-cut.gguf");
    OK(qn_emit(qt_made_env(1), x.g, c, NULL, w, out, &plain, &err));
    compare(out, want, n, 1e-6);
    static const struct {
        const char *name;
        uint64_t v;
    } keys[] = {{"llama.feed_forward_length", 51}, {"llama.attention.head_count", 2}, {"llama.attention.head_count_kv", 1}, {"llama.attention.key_length", 8},
                {"llama.attention.value_length", 8}, {"llama.rope.dimension_count", 8}, {"llama.block_count", 3}, {"general.alignment", 64},
                {"llama.embedding_length", 32}, {"llama.context_length", 64}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        cr_assert_eq(key(out, keys[i].name), keys[i].v, "%s: %llu", keys[i].name, (unsigned long long)key(out, keys[i].name));
    err = (qn_err){0};
    cr_assert_eq(qn_emit(qt_made_env(1), x.g, c, NULL, w, out, &plain, &err), QN_E_USAGE);
    err = (qn_err){0};
    cr_assert_eq(qn_emit(qt_made_env(1), x.g, c, NULL, w, qt_made_path("plain.gguf"), &(qn_emit_options){.overwrite = true}, &err), QN_E_USAGE);
    qn_overlay_free(w);
    qn_cut_free(c);
    qt_lm_close(&x);
}

/* Blocks of quantized weights cannot be cut; what is not touched stays as it is. */
Test(emit_gguf, quantized_is_refused)
{
    static const uint8_t gone[LAYERS] = {0, 1, 0};
    qt_lm_model x = qt_lm_open(make("quant.gguf", "llama", false, QN_Q8_0));
    qn_groups *s = qt_groups_new(x.g);
    qn_cut *c;
    qn_err err = {0};
    char line[512];
    for (unsigned i = 0; i < LAYERS; i++)
        qt_groups_add(s, "ffn", 64, "blk.*.ffn_gate.weight/0; blk.*.ffn_up.weight/0; blk.*.ffn_down.weight/1", i);
    OK(qn_cut_new(qt_made_env(1), s, &c, &err));
    for (uint32_t i = 0; i < LAYERS; i++)
        qn_cut_set(c, i, 3, true);
    cr_assert_eq(qn_emit_check(x.g, c, NULL, &plain, &err), QN_E_UNSUPPORTED);
    qn_err_line(&err, line, sizeof line);
    cr_assert(strstr(line, "ffn_down.weight': is Q8_0: only tensors of plain floats can be cut"), "%s", line);
    qn_cut_free(c);
    const qn_depth d = {.layers = gone, .n_layers = LAYERS};
    qn_overlay *w;
    uint64_t n;
    err = (qn_err){0};
    OK(qn_overlay_new(qt_made_env(1), x.g, &w, &err));
    OK(qn_depth_bypass(x.g, gone, LAYERS, w, &err));
    const float *want = qt_lm_run(x.g, w, tokens, TOKENS, &n);
    OK(qn_emit(qt_made_env(1), x.g, NULL, &d, NULL, qt_made_path("quant-cut.gguf"), &plain, &err));
    compare(qt_made_path("quant-cut.gguf"), want, n, 1e-6);
    cr_assert_eq(key(qt_made_path("quant-cut.gguf"), "llama.block_count"), 2u);
    qn_overlay_free(w);
    qt_lm_close(&x);
}

Test(emit_gguf, experts)
{
    static const uint8_t gone[LAYERS][EXPERTS] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 0, 1}};
    static const uint8_t *const rows[LAYERS] = {gone[0], gone[1], gone[2]};
    const qn_depth d = {.experts = rows, .n_experts = EXPERTS};
    qt_lm_model x = qt_lm_open(make("moe.gguf", "llama", true, QN_F32));
    qn_groups *s = qt_groups_new(x.g);
    qn_cut *c;
    qn_depth_mask *mask;
    qn_exec *exec;
    qn_array feeds[2], out;
    qn_err err = {0};
    int64_t t[TOKENS], starts[2] = {0, TOKENS}, n_tokens = TOKENS, two = 2;
    for (unsigned i = 0; i < LAYERS; i++)
        qt_groups_add(s, "ffn", 16, "blk.*.ffn_gate_exps.weight/1; blk.*.ffn_up_exps.weight/1; blk.*.ffn_down_exps.weight/2", i);
    OK(qn_cut_new(qt_made_env(1), s, &c, &err));
    for (uint32_t i = 0; i < LAYERS; i++)
        qn_cut_set(c, i, i, true);
    qn_overlay *w = qt_lm_zeroed(x.g, c);
    memcpy(t, tokens, sizeof t);
    OK(qn_depth_mask_open(qt_made_env(1), x.g, &d, &mask, &err));
    OK(qn_exec_open(qt_made_env(1), x.g, &(qn_exec_options){.read = qn_overlay_read, .read_ctx = w, .on_output = qn_depth_mask_tap, .tap_ctx = mask},
                    &exec, &err));
    OK(qn_array_wrap(&feeds[0], QN_I64, &n_tokens, 1, t, &err));
    OK(qn_array_wrap(&feeds[1], QN_I64, &two, 1, starts, &err));
    OK(qn_exec_run(exec, feeds, &out, &err));
    OK(qn_emit(qt_made_env(1), x.g, c, &d, w, qt_made_path("moe-cut.gguf"), &plain, &err));
    compare(qt_made_path("moe-cut.gguf"), out.data, out.n, 1e-6);
    cr_assert_eq(key(qt_made_path("moe-cut.gguf"), "llama.expert_count"), 3u);
    cr_assert_eq(key(qt_made_path("moe-cut.gguf"), "llama.feed_forward_length"), 15u);
    qn_array_release(&out);
    qn_exec_close(exec);
    qn_depth_mask_close(mask);
    qn_overlay_free(w);
    qn_cut_free(c);
    qt_lm_close(&x);
}

/* llama.cpp knows by a layer's number which of gemma 2 see all. */
Test(emit_gguf, periods)
{
    uint8_t gone[LAYERS] = {1, 0, 0};
    const qn_depth d = {.layers = gone, .n_layers = LAYERS};
    qn_err err = {0};
    qt_lm_model x = qt_lm_open(make("gemma.gguf", "gemma2", false, QN_F32));
    cr_assert_eq(qn_emit_check(x.g, NULL, &d, &plain, &err), QN_E_UNSUPPORTED);
    cr_assert(strstr(err.text, "layer 1 would be number 0: one in 2 gemma2 layers sees all tokens"), "%s", err.text);
    gone[1] = 1;
    err = (qn_err){0};
    OK(qn_emit(qt_made_env(1), x.g, NULL, &d, NULL, qt_made_path("gemma-cut.gguf"), &plain, &err));
    qt_lm_close(&x);
}
