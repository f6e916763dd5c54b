/* wide_layer.c: a checkpoint with one large layer that is not zero, and statistics for it, to measure what compressing it takes.
 *
 *     bench/wide_layer FOLDER ROWS COLS      writes FOLDER/config.json, model.safetensors (BF16) and wide.qstats
 *     quern compress FOLDER --codec=grid --bits=4 --stats FOLDER/wide.qstats --recipe FOLDER/recipe.yaml -o wide.quern
 *
 * A Llama of one block: the layer is its gate projection when ROWS ≥ COLS, else the down projection. Everything else is zero (a hole in
 * the file), and the recipe leaves it alone. The second moment is that of a few rows of normal values on channels of unequal scale. */
#include "analysis/model_digest.h"
#include "analysis/stats/stats.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "bench/quant.h"
#include "runtime/widths.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VOCABULARY = 8, HEAD = 64, MEASURED = 256, BATCH = 32 };

static void die(const char *what, const qn_err *e)
{
    char line[512] = "";
    if (e)
        qn_err_line(e, line, sizeof line);
    (void)fprintf(stderr, "wide_layer: %s %s\n", what, line);
    exit(1);
}

static FILE *create(const char *folder, const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f)
        die("cannot write", NULL);
    return f;
}

static void write_config(const char *folder, uint64_t hidden, uint64_t ffn)
{
    FILE *f = create(folder, "config.json");
    (void)fprintf(f, "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": %llu, \"intermediate_size\": %llu, "
                     "\"num_hidden_layers\": 1, \"num_attention_heads\": 1, \"num_key_value_heads\": 1, \"head_dim\": %d, \"vocab_size\": %d, "
                     "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\", "
                     "\"tie_word_embeddings\": false}\n", (unsigned long long)hidden, (unsigned long long)ffn, HEAD, VOCABULARY);
    (void)fclose(f);
}

/* All but the layer: what codec it gets is for the command line. */
static void write_recipe(const char *folder, bool gate)
{
    FILE *f = create(folder, "recipe.yaml");
    (void)fprintf(f, "head:\n  codec: lossless\nembedding:\n  codec: lossless\ntensors:\n  - match: '*self_attn*'\n    codec: lossless\n"
                     "  - match: '*up_proj*'\n    codec: lossless\n  - match: '*%s_proj*'\n    codec: lossless\n", gate ? "down" : "gate");
    (void)fclose(f);
}

static void write_model(const char *folder, uint64_t hidden, uint64_t ffn, const char *name)
{
    const struct {
        const char *name;
        uint64_t rows, cols; /* cols 0: a vector */
    } t[] = {{"lm_head.weight", VOCABULARY, hidden}, {"model.embed_tokens.weight", VOCABULARY, hidden},
             {"model.layers.0.input_layernorm.weight", hidden, 0}, {"model.layers.0.mlp.down_proj.weight", hidden, ffn},
             {"model.layers.0.mlp.gate_proj.weight", ffn, hidden}, {"model.layers.0.mlp.up_proj.weight", ffn, hidden},
             {"model.layers.0.post_attention_layernorm.weight", hidden, 0}, {"model.layers.0.self_attn.k_proj.weight", HEAD, hidden},
             {"model.layers.0.self_attn.o_proj.weight", hidden, HEAD}, {"model.layers.0.self_attn.q_proj.weight", HEAD, hidden},
             {"model.layers.0.self_attn.v_proj.weight", HEAD, hidden}, {"model.norm.weight", hidden, 0}};
    char head[4096];
    size_t n = 0;
    uint64_t at = 0, from = 0, count = 0;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        const uint64_t bytes = 2 * t[i].rows * (t[i].cols ? t[i].cols : 1);
        char dims[64];
        (void)snprintf(dims, sizeof dims, t[i].cols ? "%llu,%llu" : "%llu", (unsigned long long)t[i].rows, (unsigned long long)t[i].cols);
        n += (size_t)snprintf(head + n, sizeof head - n, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}", i ? "," : "{",
                              t[i].name, dims, (unsigned long long)at, (unsigned long long)(at + bytes));
        if (strcmp(t[i].name, name) == 0) {
            from = at;
            count = bytes / 2;
        }
        at += bytes;
    }
    n += (size_t)snprintf(head + n, sizeof head - n, "}");
    while (n % 8)
        head[n++] = ' ';
    uint8_t len[8];
    qn_store64(len, n);
    FILE *f = create(folder, "model.safetensors");
    (void)fwrite(len, 1, 8, f);
    (void)fwrite(head, 1, n, f);
    (void)fflush(f);
    if (ftruncate(fileno(f), (off_t)(8 + n + at)) != 0 || fseeko(f, (off_t)(8 + n + from), SEEK_SET) != 0)
        die("cannot write the weights", NULL);
    for (uint64_t i = 0; i < count; i++) {
        uint8_t b[2];
        qn_store16(b, qn_bf16_narrow(qn_f32_bits((float)(0.02 * quant_normal()))));
        (void)fwrite(b, 1, 2, f);
    }
    if (fclose(f) != 0)
        die("cannot write the weights", NULL);
}

static void write_statistics(const char *folder, uint32_t cols, const char *name)
{
    qn_err e = {0};
    qn_env env;
    qn_source *src = NULL;
    qn_stats *s = NULL;
    qn_stats_entry *entry;
    qn_stats_writer *w = NULL;
    qn_stats_meta meta = {.tokens = MEASURED, .sequences = 1, .context = MEASURED, .n_sources = 1,
                          .sources = &(qn_stats_source){.tokens = MEASURED, .label = "made"}};
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/wide.qstats", folder);
    float *x = malloc(sizeof *x * BATCH * cols);
    double *scale = malloc(cols * sizeof *scale);
    for (uint32_t j = 0; j < cols; j++)
        scale[j] = exp(0.7 * quant_normal());
    if (qn_env_init(&env, &e) != QN_OK || qn_source_open(&env, folder, &src, &e) != QN_OK ||
        qn_model_digest(&env, src, &meta.model, &e) != QN_OK ||
        qn_stats_writer_open(&w, &env, path, &meta, &(qn_stats_write_options){.overwrite = true}, &e) != QN_OK ||
        qn_stats_new(&env, NULL, &s, &e) != QN_OK || qn_stats_open(s, name, QN_STATS_NO_EXPERT, cols, QN_STATS_H, &entry, &e) != QN_OK)
        die("statistics:", &e);
    for (int i = 0; i < MEASURED; i += BATCH) {
        for (size_t k = 0; k < (size_t)BATCH * cols; k++)
            x[k] = (float)(scale[k % cols] * quant_normal());
        if (qn_stats_add(s, entry, x, BATCH, cols, &e) != QN_OK)
            die("statistics:", &e);
    }
    if (qn_stats_flush(s, w, &e) != QN_OK || qn_stats_writer_finish(w, NULL, &e) != QN_OK)
        die("statistics:", &e);
    qn_stats_free(s);
    qn_source_close(src);
    free(x);
    free(scale);
}

int main(int argc, char **argv)
{
    const uint64_t rows = argc == 4 ? strtoull(argv[2], NULL, 10) : 0, cols = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
    if (rows < HEAD || cols < HEAD || rows > UINT32_MAX || cols > UINT32_MAX) {
        (void)fprintf(stderr, "usage: wide_layer FOLDER ROWS COLS\n");
        return 2;
    }
    const bool gate = rows >= cols;
    const uint64_t hidden = gate ? cols : rows, ffn = gate ? rows : cols;
    const char *name = gate ? "model.layers.0.mlp.gate_proj.weight" : "model.layers.0.mlp.down_proj.weight";
    (void)mkdir(argv[1], 0777);
    write_config(argv[1], hidden, ffn);
    write_recipe(argv[1], gate);
    write_model(argv[1], hidden, ffn, name);
    write_statistics(argv[1], (uint32_t)cols, name);
    return 0;
}
