/* test_emit_files.c: the files of a cut folder: shards and their index, dtypes, a tied copy, a source that is a .quern file. */
#include "compress/pack.h"
#include "compress/prune/depth.h"
#include "tests/support/lm_cut.h"
#include "tests/support/lm_made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const int64_t tokens[] = {1, 5, 10, 0, 3, 7, 7, 2, 9};
enum { TOKENS = sizeof tokens / sizeof tokens[0] };

static const qn_emit_options plain = {0};
static const char ffn[] = "model.layers.*.mlp.gate_proj.weight/0; model.layers.*.mlp.up_proj.weight/0; model.layers.*.mlp.down_proj.weight/1";

/* The llama of lm_made with weights of this dtype, in two shards by layer, its head a copy of the embedding when tied. */
static const char *sharded(const char *dir, qn_dtype t, bool tied)
{
    static const struct {
        const char *name;
        unsigned rank;
        uint64_t dims[2];
    } all[] = {{"input_layernorm", 1, {8}}, {"post_attention_layernorm", 1, {8}}, {"self_attn.q_proj", 2, {8, 8}}, {"self_attn.k_proj", 2, {4, 8}},
               {"self_attn.v_proj", 2, {4, 8}}, {"self_attn.o_proj", 2, {8, 8}}, {"mlp.gate_proj", 2, {6, 8}}, {"mlp.up_proj", 2, {6, 8}},
               {"mlp.down_proj", 2, {8, 6}}};
    static qt_made_tensor list[16];
    qt_rng r = qt_seed(3);
    char path[100], config[1024], index[4096];
    int at = snprintf(index, sizeof index, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {");
    snprintf(config, sizeof config, "%s", qt_lm_llama_config);
    if (tied)
        memcpy(strstr(config, "false}"), "true }", 6);
    for (unsigned shard = 0; shard < 2; shard++) {
        unsigned n = 0;
        for (unsigned i = 0; i < 12; i++) {
            char name[100];
            if (i < 9)
                snprintf(name, sizeof name, "model.layers.%u.%s.weight", shard, all[i].name);
            else
                snprintf(name, sizeof name, "%s.weight", i == 9 ? "model.norm" : i == 10 ? "model.embed_tokens" : "lm_head");
            if (i >= 9 && shard == 0)
                continue;
            list[n] = (qt_made_tensor){.name = qt_made_keep(strdup(name)), .dtype = t, .rank = i < 9 ? all[i].rank : i == 9 ? 1 : 2, .dims = {11, 8}};
            if (i < 9)
                memcpy(list[n].dims, all[i].dims, sizeof all[i].dims);
            if (i == 9)
                list[n].dims[0] = 8;
            uint8_t *p = qt_made_keep(calloc(200, 4));
            for (unsigned k = 0; k < 88; k++)
                qt_put(t, (strstr(name, "norm") ? 1 : 0) + 0.4 * qt_normal(&r), p + k * qn_dtype_bits(t) / 8);
            list[n].data = i == 11 && tied ? list[n - 1].data : p;
            at += snprintf(index + at, sizeof index - (size_t)at, "%s\"%s\": \"model-0000%u-of-00002.safetensors\"", at > 60 ? ", " : "", name, shard + 1);
            n++;
        }
        snprintf(path, sizeof path, "%s/model-0000%u-of-00002.safetensors", dir, shard + 1);
        qt_made_safetensors(path, list, n, NULL);
    }
    snprintf(index + at, sizeof index - (size_t)at, "}}");
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    qt_made_file(path, index, strlen(index));
    snprintf(path, sizeof path, "%s/config.json", dir);
    qt_made_file(path, config, strlen(config));
    return qt_made_path(dir);
}

static bool there(const char *dir, const char *name)
{
    struct stat st;
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return stat(path, &st) == 0;
}

/* Cuts a third of the channels of both layers; compares. The caller closes what is returned. */
static qt_lm_model cut(const char *path, const char *out, const qn_depth *d, double within)
{
    qt_lm_model x = qt_lm_open(path);
    qn_groups *s = qt_groups_new(x.g);
    qn_cut *c;
    qn_err err = {0};
    uint64_t n, m;
    for (unsigned i = 0; i < 2; i++)
        qt_groups_add(s, "ffn", 6, ffn, i);
    OK(qn_cut_new(qt_made_env(1), s, &c, &err));
    for (uint32_t f = 0; f < 2; f++) {
        qn_cut_set(c, f, 1 + f, true);
        qn_cut_set(c, f, 4, true);
    }
    qn_overlay *w = qt_lm_zeroed(x.g, c);
    /* something that is changed and not cut */
    float *norm;
    OK(qn_overlay_edit(w, qn_graph_find(x.g, "model.norm.weight"), &norm, &err));
    for (unsigned i = 0; i < 8; i++)
        norm[i] *= 1.37f;
    qn_overlay_round(w);
    OK(qn_emit(qt_made_env(1), x.g, c, d, w, out, &plain, &err));
    if (d)
        OK(qn_depth_bypass(x.g, d->layers, d->n_layers, w, &err));
    const float *want = qt_lm_run(x.g, w, tokens, TOKENS, &n);
    qt_lm_model y = qt_lm_open(out);
    cr_assert_eq(y.s->n_warnings, 0u, "%s", y.s->n_warnings ? y.s->warnings[0] : "");
    const float *found = qt_lm_run(y.g, NULL, tokens, TOKENS, &m);
    cr_assert_eq(n, m);
    cr_assert_leq(qt_lm_apart(found, want, n), within);
    qn_overlay_free(w);
    qn_cut_free(c);
    qt_lm_close(&x);
    return y;
}

Test(emit_files, shards)
{
    static const qn_dtype dtypes[] = {QN_F32, QN_BF16, QN_F16};
    for (unsigned i = 0; i < 3; i++) {
        char dir[20], to[20];
        snprintf(dir, sizeof dir, "shards%u", i);
        snprintf(to, sizeof to, "shards%u-cut", i);
        const char *path = sharded(dir, dtypes[i], false);
        qt_lm_model y = cut(path, qt_made_path(to), NULL, 1e-6);
        for (uint64_t t = 0; t < y.s->n_tensors; t++)
            cr_assert_eq(y.s->tensors[t].dtype, dtypes[i]);
        qt_lm_close(&y);
        cr_assert(there(qt_made_path(to), "model-00001-of-00002.safetensors") && there(qt_made_path(to), "model-00002-of-00002.safetensors"));
        /* 16 channels of 8 rows and columns have gone of 2 · (8 · 21 + 16 · 8 …): counted from the shapes */
        const char *index = qt_text_of(qt_made_path(to), "model.safetensors.index.json");
        const unsigned elems = 2 * (16 + 64 + 32 + 32 + 64 + 3 * 32) + 8 + 2 * 88;
        char total[64];
        snprintf(total, sizeof total, "\"total_size\": %u\n", elems * qn_dtype_bits(dtypes[i]) / 8);
        cr_assert(strstr(index, total), "no %s in %s", total, index);
    }
}

/* The first shard's only layer goes: one file is left, and no index. */
Test(emit_files, a_shard_less)
{
    static const uint8_t gone[2] = {1, 0};
    const qn_depth d = {.layers = gone, .n_layers = 2};
    qt_lm_model y = cut(sharded("less", QN_F32, false), qt_made_path("less-cut"), &d, 1e-6);
    cr_assert(there(qt_made_path("less-cut"), "model.safetensors") && !there(qt_made_path("less-cut"), "model.safetensors.index.json") &&
              !there(qt_made_path("less-cut"), "model-00002-of-00002.safetensors"));
    cr_assert_eq(y.s->n_tensors, 12u);
    qt_lm_close(&y);
}

/* The head's own tensor, equal to the embedding's, is not read by the graph: it is cut like that. */
Test(emit_files, a_tied_copy)
{
    qt_lm_model x = qt_lm_open(sharded("tied", QN_F32, true));
    qn_groups *s = qt_groups_new(x.g);
    qn_cut *c;
    qn_err err = {0};
    uint64_t n, m;
    char members[2048], *p = members;
    static const char *const of_layer[] = {"input_layernorm.weight/0", "post_attention_layernorm.weight/0", "self_attn.q_proj.weight/1", "self_attn.k_proj.weight/1",
                                           "self_attn.v_proj.weight/1", "self_attn.o_proj.weight/0", "mlp.gate_proj.weight/1", "mlp.up_proj.weight/1",
                                           "mlp.down_proj.weight/0"};
    p += sprintf(p, "model.embed_tokens.weight/1; model.norm.weight/0");
    for (unsigned l = 0; l < 2; l++)
        for (unsigned i = 0; i < 9; i++)
            p += sprintf(p, "; model.layers.%u.%s", l, of_layer[i]);
    qt_groups_add(s, "width", 8, members, 0);
    OK(qn_cut_new(qt_made_env(1), s, &c, &err));
    for (uint32_t k = 0; k < 4; k++)
        qn_cut_set(c, 0, k + 2, true);
    cr_assert_eq(qn_graph_find(x.g, "lm_head.weight"), QN_NO_VALUE);
    qn_overlay *w = qt_lm_zeroed(x.g, c);
    const float *want = qt_lm_run(x.g, w, tokens, TOKENS, &n);
    OK(qn_emit(qt_made_env(1), x.g, c, NULL, w, qt_made_path("tied-cut"), &plain, &err));
    qt_lm_model y = qt_lm_open(qt_made_path("tied-cut"));
    cr_assert_eq(y.g->n_warnings, 0u, "%s", y.g->n_warnings ? y.g->warnings[0] : "");
    const uint64_t head = qn_source_tensor_find(y.s, "lm_head.weight");
    cr_assert(head != UINT64_MAX && y.s->tensors[head].dims[1] == 4);
    const float *found = qt_lm_run(y.g, NULL, tokens, TOKENS, &m);
    cr_assert_eq(n, m);
    cr_assert_leq(qt_lm_apart(found, want, n), 1e-6);
    qn_overlay_free(w);
    qn_cut_free(c);
    qt_lm_close(&y);
    qt_lm_close(&x);
}

/* A .quern file that holds the folder is as good. */
Test(emit_files, from_a_container)
{
    const char *packed = qt_made_path("folder.quern");
    const qn_env *env = qt_made_env(1);
    qn_err err = {0};
    qn_pack_report report;
    qn_source *s = qt_made_open(env, sharded("packed", QN_BF16, false));
    OK(qn_pack(env, s, packed, &(qn_pack_options){0}, &report, &err));
    qn_pack_report_release(env, &report);
    qn_source_close(s);
    qt_lm_model y = cut(packed, qt_made_path("packed-cut"), NULL, 1e-6);
    qt_lm_close(&y);
    cr_assert(there(qt_made_path("packed-cut"), "model-00002-of-00002.safetensors"));
}

/* Out of memory at any point: an error, and nothing has the name. */
Test(emit_files, memory_fails)
{
    const char *path = sharded("short", QN_F32, false), *out = qt_made_path("short-cut");
    unsigned failed = 0;
    for (uint64_t nth = 1;; nth += 1 + nth / 40) {
        qn_err err = {0};
        qn_source *s = NULL;
        qn_graph *g = NULL;
        static const uint8_t gone[2] = {0, 1};
        const qn_depth d = {.layers = gone, .n_layers = 2};
        const qn_env *env = qt_made_env_short(nth);
        qn_code rc = qn_source_open(env, path, &s, &err);
        if (rc == QN_OK)
            rc = qn_graph_open(env, s, &g, &err);
        if (rc == QN_OK)
            rc = qn_emit(env, g, NULL, &d, NULL, out, &plain, &err);
        qn_graph_close(g);
        qn_source_close(s);
        if (!qt_made_memory_failed()) {
            cr_assert_eq(rc, QN_OK, "%s", err.text);
            break;
        }
        failed++;
        cr_assert_eq(rc, QN_E_MEMORY, "request %llu: %d %s", (unsigned long long)nth, (int)rc, err.text);
        cr_assert(!there(out, ""), "request %llu", (unsigned long long)nth);
    }
    cr_assert_gt(failed, 50u);
}
