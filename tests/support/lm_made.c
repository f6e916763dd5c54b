/* lm_made.c: see lm_made.h. */
#include "tests/support/lm_made.h"
#include "base/err.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char qt_lm_llama_config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 8, \"intermediate_size\": 6, \"num_hidden_layers\": 2,"
    " \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"vocab_size\": 11, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5,"
    " \"rope_theta\": 10000.0, \"hidden_act\": \"silu\", \"tie_word_embeddings\": false}";

const char qt_lm_llama_tensors[] =
    "model.embed_tokens.weight 11x8; model.norm.weight 8; lm_head.weight 11x8; model.layers.*.input_layernorm.weight 8;"
    "model.layers.*.self_attn.q_proj.weight 8x8; model.layers.*.self_attn.k_proj.weight 4x8; model.layers.*.self_attn.v_proj.weight 4x8;"
    "model.layers.*.self_attn.o_proj.weight 8x8; model.layers.*.post_attention_layernorm.weight 8; model.layers.*.mlp.gate_proj.weight 6x8;"
    "model.layers.*.mlp.up_proj.weight 6x8; model.layers.*.mlp.down_proj.weight 8x6";

static void add(qt_made_tensor *t, const char *name, const char *shape, qt_rng *r)
{
    uint64_t n = 1;
    *t = (qt_made_tensor){.name = name, .dtype = QN_F32};
    for (char *end; *shape >= '0' && *shape <= '9'; shape = *end == 'x' ? end + 1 : end) {
        cr_assert(t->rank < 4);
        t->dims[t->rank] = strtoull(shape, &end, 10);
        n *= t->dims[t->rank++];
    }
    float *p = qt_made_keep(malloc((n + 1) * sizeof *p));
    for (uint64_t i = 0; i < n; i++)
        p[i] = (float)((strstr(name, "norm") ? 1 : 0) + 0.4 * qt_normal(r));
    t->data = p;
}

const char *qt_lm_made(const char *dir, const char *config, const char *tensors, unsigned n_layers, uint64_t seed)
{
    enum { MOST = 400 };
    static qt_made_tensor t[MOST];
    unsigned n = 0;
    qt_rng r = qt_seed(seed);
    char *text = qt_made_keep(strdup(tensors)), path[200];
    for (char *one = text; one && *one;) {
        char *next = strchr(one, ';');
        if (next)
            *next++ = '\0';
        one += strspn(one, " ");
        char *shape = strrchr(one, ' ');
        cr_assert_not_null(shape, "'%s' has no shape", one);
        *shape++ = '\0';
        const char *star = strchr(one, '*');
        for (unsigned i = 0; i < (star ? n_layers : 1); i++) {
            char name[160];
            cr_assert(n < MOST);
            if (star)
                snprintf(name, sizeof name, "%.*s%u%s", (int)(star - one), one, i, star + 1);
            else
                snprintf(name, sizeof name, "%s", one);
            add(&t[n++], qt_made_keep(strdup(name)), shape, &r);
        }
        one = next;
    }
    snprintf(path, sizeof path, "%s/config.json", dir);
    qt_made_file(path, config, strlen(config));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    qt_made_safetensors(path, t, n, NULL);
    return qt_made_path(dir);
}

struct batch {
    const int64_t *tokens, *starts;
    unsigned n_seq;
    float *y;
    uint64_t n;
};

static qn_code feed(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err)
{
    const struct batch *b = ctx;
    union {
        const int64_t *in;
        void *out;
    } u = {.in = b->tokens}, v = {.in = b->starts};
    const int64_t n_starts = (int64_t)b->n_seq + 1;
    (void)batch;
    QN_TRY(qn_array_wrap(&inputs[0], QN_I64, &b->starts[b->n_seq], 1, u.out, err));
    return qn_array_wrap(&inputs[1], QN_I64, &n_starts, 1, v.out, err);
}

static qn_code take(void *ctx, uint64_t batch, const qn_array *out, qn_err *err)
{
    struct batch *b = ctx;
    (void)batch;
    (void)err;
    b->y = qt_made_keep(malloc(qn_array_bytes(out) + 1));
    memcpy(b->y, out->data, qn_array_bytes(out));
    b->n = out->n;
    return QN_OK;
}

static float *logits(const qn_env *env, const char *path, struct batch *b, uint64_t memory_bytes, bool stream, uint64_t *peak)
{
    qn_err err = {0};
    qn_source *s = qt_made_open(env, path);
    qn_graph *g = NULL;
    qn_exec *x = NULL;
    qn_array feeds[2], out;
    cr_assert_eq(qn_graph_open(env, s, &g, &err), QN_OK, "%s", err.text);
    cr_assert_eq(qn_exec_open(env, g, &(qn_exec_options){.memory_bytes = memory_bytes}, &x, &err), QN_OK);
    if (stream) {
        const qn_stream how = {.n_batches = 1, .feed = feed, .take = take, .ctx = b};
        cr_assert_eq(qn_exec_stream(x, &how, &err), QN_OK, "%s", err.text);
    } else {
        cr_assert_eq(feed(b, 0, feeds, &err), QN_OK);
        cr_assert_eq(qn_exec_run(x, feeds, &out, &err), QN_OK, "%s", err.text);
        cr_assert_eq(take(b, 0, &out, &err), QN_OK);
        qn_array_release(&out);
    }
    if (peak)
        *peak = qn_exec_peak_bytes(x);
    qn_exec_close(x);
    qn_graph_close(g);
    qn_source_close(s);
    return b->y;
}

float *qt_lm_logits(const qn_env *env, const char *path, const int64_t *tokens, const int64_t *starts, unsigned n_seq, uint64_t memory_bytes,
                    uint64_t *n, uint64_t *peak)
{
    struct batch b = {.tokens = tokens, .starts = starts, .n_seq = n_seq};
    float *y = logits(env, path, &b, memory_bytes, false, peak);
    *n = b.n;
    return y;
}

float *qt_lm_streamed(const qn_env *env, const char *path, const int64_t *tokens, const int64_t *starts, unsigned n_seq, uint64_t memory_bytes,
                      uint64_t *n, uint64_t *peak)
{
    struct batch b = {.tokens = tokens, .starts = starts, .n_seq = n_seq};
    float *y = logits(env, path, &b, memory_bytes, true, peak);
    *n = b.n;
    return y;
}
