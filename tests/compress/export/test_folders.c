/* test_folders.c: model folders for other runtimes, from a made model to what is in their tensors: a slow decoder for each layout, an element at a time, gives what the
 * .quern of the solve decodes to; what cannot be held is dense, refused or solved anew; configurations say what is there. tests/interop/export_numpy.py does the same by
 * other means for real models. */
#include "base/half.h"
#include "base/num.h"
#include "compress/export/codes.h"
#include "compress/export/run.h"
#include "tests/support/lm_cut.h"
#include "tests/support/lm_made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows of 64, and of 96 in down_proj. */
static const char config[] = "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 2, "
                             "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"vocab_size\": 40, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, "
                             "\"rope_theta\": 10000.0, \"hidden_act\": \"silu\", \"tie_word_embeddings\": false, \"torch_dtype\": \"float32\"}";
static const char tensors[] = "model.embed_tokens.weight 40x64; model.norm.weight 64; lm_head.weight 40x64; model.layers.*.input_layernorm.weight 64;"
                              "model.layers.*.self_attn.q_proj.weight 64x64; model.layers.*.self_attn.k_proj.weight 32x64; model.layers.*.self_attn.v_proj.weight 32x64;"
                              "model.layers.*.self_attn.o_proj.weight 64x64; model.layers.*.post_attention_layernorm.weight 64; model.layers.*.mlp.gate_proj.weight 96x64;"
                              "model.layers.*.mlp.up_proj.weight 96x64; model.layers.*.mlp.down_proj.weight 64x96";

static const char *model(void)
{
    const char *path = qt_lm_made("m", config, tensors, 2, 11);
    qt_made_file("m/tokenizer.json", "{\"x\": 1}", 8);
    return path;
}

/* input → out; keep: the solve. The report's rows stay until the next call. */
static qn_code export_to(const char *input, const char *to, const char *variant, const char *out, const char *keep, const qn_export_wish *wish, qn_export_run *x, qn_err *err)
{
    static qn_source *src;
    const qn_env *env = qt_made_env(2);
    const qn_export_options o = {.wish = *wish, .keep = keep, .overwrite = true};
    static qn_export_options kept;
    kept = o;
    src = qt_made_open(env, input);
    const qn_export_request r = {qn_export_target_find(to, strlen(to)), variant, out};
    cr_assert_not_null(r.target, "%s", to);
    qn_err_clear(err);
    qn_code rc = qn_export_open(x, env, src, &r, 1, &kept, err);
    if (rc == QN_OK)
        rc = qn_export_all(x, err);
    return rc;
}

static void end(qn_export_run *x)
{
    qn_source *src = x->input;
    qn_export_close(x);
    qn_source_close(src);
}

/* --- slow decoders --------------------------------------------------------------------------------------------------- */

struct folder {
    qn_source *s;
    char module[80];
    uint32_t rows, cols, group;
    unsigned bits;
};

static const uint8_t *bytes(const struct folder *f, const char *suffix, qn_dtype t)
{
    char name[160];
    qn_err err;
    (void)snprintf(name, sizeof name, "%s.%s", f->module, suffix);
    const uint64_t i = qn_source_tensor_find(f->s, name);
    cr_assert_neq(i, UINT64_MAX, "%s", name);
    cr_assert_eq(f->s->tensors[i].dtype, t, "%s", name);
    uint8_t *p = qt_made_keep(malloc(f->s->tensors[i].n_bytes + 8));
    OK(qn_source_tensor_read(f->s, i, 0, f->s->tensors[i].n_bytes, p, &err));
    return p;
}

static float f32_at(const uint8_t *p, size_t i)
{
    return qn_bits_f32(qn_load32(p + 4 * i));
}

static float f16_at(const uint8_t *p, size_t i)
{
    return qn_f16_to_f32(qn_load16(p + 2 * i));
}

static unsigned bit_at(const uint8_t *words, size_t word, unsigned bit)
{
    return qn_load32(words + 4 * word) >> bit & 1;
}

/* Code i of a stream whose words are `step` apart, from `first` on. */
static int code_at(const uint8_t *words, size_t first, size_t step, size_t i, unsigned bits)
{
    int v = 0;
    for (unsigned k = 0; k < bits; k++)
        v |= (int)(bit_at(words, first + (i * bits + k) / 32 * step, (unsigned)((i * bits + k) % 32)) << k);
    return v;
}

static void slow_pack(const struct folder *f, float *w)
{
    const uint8_t *q = bytes(f, "weight_packed", QN_I32), *s = bytes(f, "weight_scale", QN_F32), *z = bytes(f, "weight_zero_point", QN_I32), *n = bytes(f, "weight_shape", QN_I64);
    const size_t words = (f->cols * f->bits + 31) / 32, groups = f->cols / f->group;
    cr_assert(qn_load64(n) == f->rows && qn_load64(n + 8) == f->cols);
    for (size_t i = 0; i < f->rows; i++)
        for (size_t j = 0; j < f->cols; j++) {
            const size_t g = j / f->group;
            w[i * f->cols + j] = (float)(code_at(q, i * words, 1, j, f->bits) - code_at(z, g, groups, i, f->bits)) * f32_at(s, i * groups + g);
        }
}

static void slow_int8(const struct folder *f, float *w)
{
    const uint8_t *q = bytes(f, "weight", QN_I8), *s = bytes(f, "weight_scale", QN_F32);
    for (size_t i = 0; i < (size_t)f->rows * f->cols; i++)
        w[i] = (float)(int8_t)q[i] * f32_at(s, i / f->cols);
}

static void slow_fp8(const struct folder *f, float *w)
{
    const uint8_t *q = bytes(f, "weight", QN_F8_E4M3), *s = bytes(f, "weight_scale", QN_F32);
    for (size_t i = 0; i < (size_t)f->rows * f->cols; i++)
        w[i] = qn_e4m3_to_f32(q[i]) * f32_at(s, i / f->cols);
}

static void slow_mxfp4(const struct folder *f, float *w)
{
    static const float level[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    const uint8_t *q = bytes(f, "weight_packed", QN_U8), *s = bytes(f, "weight_scale", QN_U8);
    for (size_t i = 0; i < (size_t)f->rows * f->cols; i++) {
        const unsigned n = q[i / 2] >> (i % 2 ? 4 : 0) & 15;
        w[i] = ldexpf(n & 8 ? -level[n & 7] : level[n & 7], s[i / 32] - 127);
    }
}

static void slow_gptq(const struct folder *f, float *w)
{
    const uint8_t *q = bytes(f, "qweight", QN_I32), *z = bytes(f, "qzeros", QN_I32), *s = bytes(f, "scales", QN_F16), *g = bytes(f, "g_idx", QN_I32);
    for (size_t i = 0; i < f->rows; i++)
        for (size_t j = 0; j < f->cols; j++) {
            const size_t k = qn_load32(g + 4 * j);
            cr_assert_eq(k, j / f->group);
            w[i * f->cols + j] = (float)(code_at(q, i, f->rows, j, f->bits) - (code_at(z, k * f->rows * f->bits / 32, 1, i, f->bits) + 1)) * f16_at(s, k * f->rows + i);
        }
}

static int awq_at(const uint8_t *words, size_t row, size_t rows, size_t o)
{
    static const unsigned nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7}; /* where each of eight outputs is */
    return (int)(qn_load32(words + 4 * (row * (rows / 8) + o / 8)) >> 4 * nibble[o % 8] & 15);
}

static void slow_awq(const struct folder *f, float *w)
{
    const uint8_t *q = bytes(f, "qweight", QN_I32), *z = bytes(f, "qzeros", QN_I32), *s = bytes(f, "scales", QN_F16);
    for (size_t i = 0; i < f->rows; i++)
        for (size_t j = 0; j < f->cols; j++)
            w[i * f->cols + j] = (float)(awq_at(q, j, f->rows, i) - awq_at(z, j / f->group, f->rows, i)) * f16_at(s, j / f->group * f->rows + i);
}

static void slow_mlx(const struct folder *f, float *w)
{
    const uint8_t *q = bytes(f, "weight", QN_U32), *s = bytes(f, "scales", QN_F32), *b = bytes(f, "biases", QN_F32);
    const size_t groups = f->cols / f->group;
    for (size_t i = 0; i < f->rows; i++)
        for (size_t j = 0; j < f->cols; j++) {
            const size_t g = i * groups + j / f->group;
            w[i * f->cols + j] = f32_at(s, g) * (float)code_at(q, i * f->cols * f->bits / 32, 1, j, f->bits) + f32_at(b, g);
        }
}

static void check(const char *out, const char *solve, const char *module, uint32_t rows, uint32_t cols, uint32_t group, unsigned bits,
                  void (*slow)(const struct folder *, float *))
{
    const qn_env *env = qt_made_env(1);
    struct folder f = {.s = qt_made_open(env, out), .rows = rows, .cols = cols, .group = group, .bits = bits};
    qn_source *packed = qt_made_open(env, solve);
    qn_codes c;
    qn_arena scratch;
    qn_err err;
    char name[100];
    qn_arena_init(&scratch, NULL);
    (void)snprintf(f.module, sizeof f.module, "%s", module);
    (void)snprintf(name, sizeof name, "%s.weight", module);
    float *w = malloc((size_t)rows * cols * 4), *want = malloc((size_t)rows * cols * 4);
    slow(&f, w);
    OK(qn_codes_open(&c, packed, qn_source_tensor_find(packed, name), &scratch, &err));
    OK(qn_codes_dense(&c, 0, rows, want, &scratch, &err));
    cr_assert_not_null(c.codec);
    for (size_t i = 0; i < (size_t)rows * cols; i++)
        cr_assert(w[i] == want[i], "%s, element %zu: %a found, %a in the .quern", module, i, (double)w[i], (double)want[i]);
    free(w);
    free(want);
    qn_arena_release(&scratch);
    qn_source_close(packed);
    qn_source_close(f.s);
}

static const struct {
    const char *to, *variant;
    unsigned bits;
    uint32_t group; /* asked for; 0: 96 wide rows have another one than those of 64 */
    int asymmetric;
    void (*slow)(const struct folder *, float *);
} cases[] = {
    {"compressed-tensors", "int4", 4, 32, 1, slow_pack}, {"compressed-tensors", "int8", 8, 16, 1, slow_pack}, {"compressed-tensors", "w8a8", 8, UINT32_MAX, 0, slow_int8},
    {"compressed-tensors", "fp8", 8, UINT32_MAX, 0, slow_fp8}, {"compressed-tensors", "mxfp4", 4, 32, 0, slow_mxfp4}, {"gptq", "int2", 2, 32, 0, slow_gptq}, {"gptq", "int3", 3, 32, 1, slow_gptq}, {"gptq", "", 4, 16, 1, slow_gptq},
    {"gptq", "int8", 8, 32, 0, slow_gptq}, {"awq", "", 4, 32, 0, slow_awq}, {"mlx", "int4", 4, 32, 0, slow_mlx}, {"mlx", "int5", 5, 32, 0, slow_mlx},
};

Test(folders, every_layout)
{
    const char *m = model(), *out = qt_made_path("out"), *solve = qt_made_path("solve.quern"), *again = qt_made_path("again");
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const bool fixed = cases[i].group == UINT32_MAX;
        const qn_export_wish wish = {.group = fixed ? 0 : cases[i].group, .asymmetric = cases[i].asymmetric};
        qn_export_run x;
        qn_err err;
        (void)remove(solve);
        const qn_code rc = export_to(m, cases[i].to, cases[i].variant, out, solve, &wish, &x, &err);
        cr_assert_eq(rc, QN_OK, "%s:%s: %s", cases[i].to, cases[i].variant, err.text);
        cr_assert_gt(x.jobs[0].n_bytes, 0u);
        end(&x);
        check(out, solve, "model.layers.0.self_attn.k_proj", 32, 64, fixed ? 64 : cases[i].group, cases[i].bits, cases[i].slow);
        check(out, solve, "model.layers.1.mlp.down_proj", 64, 96, fixed ? 96 : cases[i].group, cases[i].bits, cases[i].slow);
        cr_assert_str_eq(qt_text_of(out, "tokenizer.json"), "{\"x\": 1}");
        if (i % 3)
            continue;
        /* from the .quern, without a solve: the same */
        OK(export_to(solve, cases[i].to, cases[i].variant, again, NULL, &wish, &x, &err));
        cr_assert_eq(x.n_solves, 0u, "%s:%s", cases[i].to, cases[i].variant);
        end(&x);
        cr_assert_str_eq(qt_text_of(out, "config.json"), qt_text_of(again, "config.json"));
        check(again, solve, "model.layers.1.mlp.down_proj", 64, 96, fixed ? 96 : cases[i].group, cases[i].bits, cases[i].slow);
    }
}

static const qn_export_row *row_of(const qn_export_run *x, const char *name)
{
    for (uint64_t i = 0; i < x->jobs[0].n_rows; i++)
        if (strcmp(x->jobs[0].rows[i].name, name) == 0)
            return &x->jobs[0].rows[i];
    cr_assert(false, "no row of %s", name);
    return x->jobs[0].rows;
}

static void has(const char *text, const char *what)
{
    cr_assert(text && strstr(text, what), "'%s' is not in %s", what, text);
}

/* Groups of 64 do not divide rows of 96: those get 32, and both are said. AWQ has one width for all. */
Test(folders, narrower_groups)
{
    const char *m = model(), *out = qt_made_path("out"), *solve = qt_made_path("solve.quern"), down[] = "model.layers.0.mlp.down_proj.weight";
    const qn_export_wish wish = {.group = 64}, none = {.group = 0};
    qn_export_run x;
    qn_err err;
    OK(export_to(m, "compressed-tensors", "", out, solve, &wish, &x, &err));
    cr_assert_str_eq(row_of(&x, down)->given, "int4 group 32");
    cr_assert_str_eq(row_of(&x, "lm_head.weight")->given, "F32");
    has(row_of(&x, down)->why, "no multiple");
    end(&x);
    has(qt_text_of(out, "config.json"), "\"targets\": [\"model.layers.0.mlp.down_proj\", \"model.layers.1.mlp.down_proj\"]");
    has(qt_text_of(out, "config.json"), "\"ignore\": [\"lm_head\"]");
    OK(export_to(m, "gptq", "", out, NULL, &wish, &x, &err));
    end(&x);
    has(qt_text_of(out, "quantize_config.json"), "\"+:^model\\\\.layers\\\\.0\\\\.mlp\\\\.down_proj$\": {\"bits\": 4, \"group_size\": 32, \"sym\": true}");
    OK(export_to(m, "awq", "", out, NULL, &none, &x, &err));
    cr_assert_str_eq(row_of(&x, down)->given, "int4 group 32, zero points");
    end(&x);
    has(qt_text_of(out, "config.json"), "\"group_size\": 32");
    OK(export_to(m, "mlx", "", out, NULL, &wish, &x, &err));
    cr_assert_str_eq(row_of(&x, down)->given, "F32");
    end(&x);
}

/* What the codec of an input cannot give is solved anew, and said; in write() alone it is refused by name. */
Test(folders, approximated_before)
{
    const char *m = model(), *out = qt_made_path("out"), *solve = qt_made_path("solve.quern");
    const qn_export_wish wish = {.group = 32};
    qn_export_run x;
    qn_err err;
    OK(export_to(m, "compressed-tensors", "fp8", out, solve, &(qn_export_wish){.group = 0}, &x, &err));
    end(&x);
    OK(export_to(solve, "gptq", "", out, NULL, &wish, &x, &err));
    cr_assert_eq(x.n_solves, 1u);
    cr_assert(row_of(&x, "model.layers.0.mlp.up_proj.weight")->rounded_again);
    cr_assert(!row_of(&x, "lm_head.weight")->rounded_again);
    end(&x);
    const qn_env *env = qt_made_env(1);
    qn_source *s = qt_made_open(env, solve);
    qn_graph *g;
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    OK(qn_graph_open(env, s, &g, &err));
    qn_export_job j = {.env = env, .src = s, .input = s, .graph = g, .variant = "", .wish = &wish, .path = qt_made_path("none"), .arena = &arena};
    qn_err_clear(&err);
    cr_assert_eq(qn_export_gptq.write(&j, &err), QN_E_UNSUPPORTED);
    has(err.text, "codec fp8");
    qn_graph_close(g);
    qn_source_close(s);
    qn_arena_release(&arena);
}

Test(folders, dense)
{
    const char *m = model(), *out = qt_made_path("out");
    const qn_export_wish wish = {.shard_bytes = 20000};
    qn_export_run x;
    qn_err err;
    OK(export_to(m, "safetensors", "bf16", out, NULL, &wish, &x, &err));
    end(&x);
    has(qt_text_of(out, "config.json"), "\"torch_dtype\": \"bfloat16\"");
    has(qt_text_of(out, "model.safetensors.index.json"), "weight_map");
    qn_source *a = qt_made_open(qt_made_env(1), m), *b = qt_made_open(qt_made_env(1), out);
    cr_assert_eq(a->n_tensors, b->n_tensors);
    for (uint64_t i = 0; i < a->n_tensors; i++) {
        const uint64_t k = qn_source_tensor_find(b, a->tensors[i].name), n = a->tensors[i].n_bytes;
        uint8_t *p = malloc(n), *q = malloc(n / 2);
        cr_assert(b->tensors[k].dtype == QN_BF16 && b->tensors[k].n_bytes == n / 2);
        OK(qn_source_tensor_read(a, i, 0, n, p, &err));
        OK(qn_source_tensor_read(b, k, 0, n / 2, q, &err));
        for (uint64_t e = 0; e < n / 4; e++)
            cr_assert_eq(qn_load16(q + 2 * e), qn_f32_to_bf16(f32_at(p, e)));
        free(p);
        free(q);
    }
    qn_source_close(a);
    qn_source_close(b);
}

Test(folders, refused)
{
    static const struct {
        const char *to, *variant;
        qn_export_wish wish;
        qn_code code;
        const char *says;
    } bad[] = {
        {"compressed-tensors", "int5", {.bits = 0}, QN_E_USAGE, "int4, int8, w8a8, fp8 and mxfp4"}, {"compressed-tensors", "fp8", {.asymmetric = 1}, QN_E_USAGE, "no zero points"},
        {"compressed-tensors", "w8a8", {.group = 32}, QN_E_USAGE, "one scale for each row"}, {"compressed-tensors", "int4", {.bits = 3}, QN_E_USAGE, "the variant says"},
        {"compressed-tensors", "", {.bits = 5}, QN_E_UNSUPPORTED, "2, 4 or 8 bits"}, {"gptq", "", {.bits = 4.5}, QN_E_USAGE, "only whole numbers"},
        {"gptq", "int5", {.bits = 0}, QN_E_USAGE, "int2, int3, int4 and int8"}, {"awq", "", {.bits = 3}, QN_E_UNSUPPORTED, "4 bits only"},
        {"mlx", "", {.group = 16}, QN_E_UNSUPPORTED, "32, 64 or 128"}, {"safetensors", "f8", {.bits = 0}, QN_E_USAGE, "f32, f16 and bf16"},
        {"safetensors", "", {.bits = 4}, QN_E_USAGE, "dense"},
    };
    const char *m = model();
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        qn_export_run x;
        qn_err err;
        const qn_code rc = export_to(m, bad[i].to, bad[i].variant, qt_made_path("out"), NULL, &bad[i].wish, &x, &err);
        cr_expect_eq(rc, bad[i].code, "%s:%s: %d %s", bad[i].to, bad[i].variant, rc, err.text);
        cr_expect(strstr(err.text, bad[i].says), "%s:%s: %s", bad[i].to, bad[i].variant, err.text);
        end(&x);
    }
}
