/* test_codes.c: codes read out of a .quern give, by the formula of docs/codecs/grid.md and fp8.md, the very weights that it decodes to: packed and nested, with and
 * without zero points, turned, in several chunks, with merged rows; and what has no codes says so. */
#include "base/half.h"
#include "base/num.h"
#include "compress/export/codes.h"
#include "compress/session.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <stdio.h>
#include <string.h>

enum { HIDDEN = 64, WORDS = 48, INNER = 96 };

/* A GPT-2 of one layer: its layers lie (in, out). Every row of the table is there six times. */
static const char *model(void)
{
    static const struct {
        const char *name;
        uint64_t rows, cols;
    } list[] = {{"wte.weight", WORDS, HIDDEN}, {"wpe.weight", 32, HIDDEN}, {"ln_f.weight", HIDDEN, 0}, {"ln_f.bias", HIDDEN, 0}, {"h.0.ln_1.weight", HIDDEN, 0},
                {"h.0.ln_1.bias", HIDDEN, 0}, {"h.0.ln_2.weight", HIDDEN, 0}, {"h.0.ln_2.bias", HIDDEN, 0}, {"h.0.attn.c_attn.weight", HIDDEN, 3 * HIDDEN},
                {"h.0.attn.c_attn.bias", 3 * HIDDEN, 0}, {"h.0.attn.c_proj.weight", HIDDEN, HIDDEN}, {"h.0.attn.c_proj.bias", HIDDEN, 0},
                {"h.0.mlp.c_fc.weight", HIDDEN, INNER}, {"h.0.mlp.c_fc.bias", INNER, 0}, {"h.0.mlp.c_proj.weight", INNER, HIDDEN}, {"h.0.mlp.c_proj.bias", HIDDEN, 0}};
    enum { N = sizeof list / sizeof list[0] };
    static const char config[] = "{\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"n_embd\": 64, \"n_layer\": 1, \"n_head\": 4, \"n_positions\": 32, "
                                 "\"n_ctx\": 32, \"n_inner\": 96, \"vocab_size\": 48, \"layer_norm_epsilon\": 1e-5, \"activation_function\": \"gelu_new\"}";
    qt_made_tensor t[N];
    qt_rng r = qt_seed(3);
    for (unsigned k = 0; k < N; k++) {
        const uint64_t cols = list[k].cols ? list[k].cols : 1, n = list[k].rows * cols;
        uint8_t *p = qt_made_keep(malloc(n * 2));
        for (uint64_t i = 0; i < n; i++)
            qt_put(QN_BF16, 0.02 * qt_normal(&r), p + 2 * i);
        for (uint64_t i = 8; k == 0 && i < WORDS; i++)
            memcpy(p + i * HIDDEN * 2, p + i % 8 * HIDDEN * 2, HIDDEN * 2);
        t[k] = (qt_made_tensor){.name = list[k].name, .dtype = QN_BF16, .rank = list[k].cols ? 2 : 1, .dims = {list[k].rows, list[k].cols}, .data = p};
    }
    (void)qt_made_safetensors("gpt/model.safetensors", t, N, NULL);
    (void)qt_made_file("gpt/config.json", config, sizeof config - 1);
    return qt_made_path("gpt");
}

static qn_source *packed(const char *codec, const qn_quant_settings *set)
{
    const qn_env *env = qt_made_env(2);
    const char *out = qt_made_path("packed.quern");
    qn_source *src = qt_made_open(env, model());
    qn_session s = QN_SESSION_CLOSED;
    qn_pack_report report;
    qn_err err;
    s.recipe.all = (qn_recipe_part){.codec = codec, .set = *set};
    s.recipe.role[QN_ROLE_HEAD].set.bits = set->bits;
    const qn_pack_options plain = {.level = QN_LEVEL_FAST, .overwrite = true};
    OK(qn_session_open(&s, env, src, &(qn_session_options){.pack = &plain}, &err));
    const qn_pack_options po = {.level = QN_LEVEL_FAST, .overwrite = true, .lossy = s.lossy};
    OK(qn_pack(env, src, out, &po, &report, &err));
    qn_pack_report_release(env, &report);
    qn_session_close(&s);
    qn_source_close(src);
    return qt_made_open(env, out);
}

static float e4m3(unsigned b)
{
    const unsigned e = b >> 3 & 15, m = b & 7;
    float v = e ? (float)(8 + m) : (float)m;
    for (unsigned k = e ? e : 1; k < 10; k++)
        v /= 2;
    for (unsigned k = 10; k < e; k++)
        v *= 2;
    return b >> 7 ? -v : v;
}

/* In pieces of rows that are no chunks. */
static void check(qn_source *s, const char *name, qn_codes_kind kind, uint32_t rows, uint32_t cols, uint32_t group, bool turned)
{
    const uint64_t t = qn_source_tensor_find(s, name);
    qn_codes c;
    qn_arena scratch;
    qn_err err;
    qn_arena_init(&scratch, NULL);
    cr_assert_neq(t, UINT64_MAX);
    OK(qn_codes_open(&c, s, t, &scratch, &err));
    cr_assert(c.kind == kind && c.rows == rows && c.cols == cols && c.parts == 1 && c.turned == turned && c.codec, "%s: kind %d, %u x %u", name, c.kind, c.rows, c.cols);
    cr_assert(qn_codes_approximated(s, t));
    cr_assert_eq(c.group, group);
    const uint32_t groups = qn_codes_groups(&c), steps[] = {1, 7, rows - 8};
    uint8_t *codes = malloc((size_t)rows * cols), *raw = malloc((size_t)rows * cols * 2);
    float *scales = malloc((size_t)rows * groups * 4), *zeros = malloc((size_t)rows * groups * 4), *w = malloc((size_t)rows * cols * 4);
    OK(qn_source_tensor_read(s, t, 0, (uint64_t)rows * cols * 2, raw, &err));
    for (uint32_t k = 0, at = 0; k < 3; at += steps[k++]) {
        OK(qn_codes_grid(&c, at, steps[k], codes + (size_t)at * cols, scales + (size_t)at * groups, zeros + (size_t)at * groups, &scratch, &err));
        OK(qn_codes_dense(&c, at, steps[k], w + (size_t)at * cols, &scratch, &err));
    }
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < cols; j++) {
            const size_t at = (size_t)i * cols + j, g = (size_t)i * groups + j / c.group;
            const float v = kind == QN_CODES_FP8 ? e4m3(codes[at]) * scales[g] : scales[g] * ((float)codes[at] - zeros[g]);
            const uint16_t lies = qn_load16(raw + 2 * (turned ? (size_t)j * rows + i : at));
            cr_assert_eq(qn_f32_to_bf16(v), lies, "%s: row %u, column %u", name, i, j);
            cr_assert_eq(qn_f32_bits(w[at]), (uint32_t)lies << 16);
        }
    free(codes);
    free(raw);
    free(scales);
    free(zeros);
    free(w);
    qn_arena_release(&scratch);
}

static void check_all(const char *codec, const qn_quant_settings *set, qn_codes_kind kind, uint32_t group, uint32_t row_of_inner)
{
    qn_source *s = packed(codec, set);
    check(s, "h.0.attn.c_attn.weight", kind, 3 * HIDDEN, HIDDEN, group, true);
    check(s, "h.0.mlp.c_proj.weight", kind, HIDDEN, INNER, row_of_inner, true);
    check(s, "wte.weight", kind, WORDS, HIDDEN, group, false);
    qn_source_close(s);
}

Test(codes, grid)
{
    check_all("grid", &(qn_quant_settings){.bits = 4, .group = 32, .packed = true}, QN_CODES_GRID, 32, 32);
    check_all("grid", &(qn_quant_settings){.bits = 3, .group = 40, .asymmetric = true}, QN_CODES_GRID, 40, 40);
    check_all("grid", &(qn_quant_settings){.bits = 8, .group = UINT32_MAX, .keepzero = true, .scalebits = 8}, QN_CODES_GRID, HIDDEN, INNER);
}

Test(codes, fp8)
{
    check_all("fp8", &(qn_quant_settings){.bits = 8}, QN_CODES_FP8, HIDDEN, INNER);
    check_all("fp8", &(qn_quant_settings){.bits = 8, .group = 16}, QN_CODES_FP8, 16, 16);
}

/* Grids that other formats hold: zero is a level and no zero point is 0; scales are numbers of so many bits, and of binary16 by themselves. */
Test(codes, levels_that_others_have)
{
    for (unsigned asymmetric = 0; asymmetric < 2; asymmetric++) {
        qn_source *s = packed("grid", &(qn_quant_settings){.bits = 4, .group = 32, .keepzero = true, .scalebits = 8, .asymmetric = asymmetric});
        qn_codes c;
        qn_arena scratch;
        qn_err err;
        float scales[INNER * 2], zeros[INNER * 2];
        unsigned wide = 0;
        qn_arena_init(&scratch, NULL);
        OK(qn_codes_open(&c, s, qn_source_tensor_find(s, "h.0.mlp.c_fc.weight"), &scratch, &err));
        cr_assert_eq(c.zero, asymmetric ? QN_ZERO_STORED : QN_ZERO_LEVEL);
        OK(qn_codes_grid(&c, 0, INNER, NULL, scales, zeros, &scratch, &err));
        for (unsigned i = 0; i < INNER * 2; i++) {
            cr_assert(asymmetric ? zeros[i] >= 1 && zeros[i] <= 15 : zeros[i] == 8);
            cr_assert_eq(qn_f16_to_f32(qn_f32_to_f16(scales[i])), scales[i]);
            cr_assert_eq(qn_bf16_to_f32(qn_f32_to_bf16(scales[i])), scales[i]);
            wide += (qn_f32_bits(scales[i]) & 0x7ffff) != 0; /* more than 5 significant bits */
        }
        cr_assert_gt(wide, INNER);
        qn_arena_release(&scratch);
        qn_source_close(s);
    }
}

Test(codes, none)
{
    static const struct {
        const char *codec;
        qn_quant_settings set;
        qn_codes_kind kind;
    } cases[] = {{"ect", {.bits = 3}, QN_CODES_OTHER}, {"vq", {.bits = 2}, QN_CODES_VQ}, {"trellis", {.bits = 2}, QN_CODES_TRELLIS},
                 {"grid", {.bits = 4, .columnwise = true}, QN_CODES_OTHER}};
    qn_arena scratch;
    qn_err err;
    qn_codes c;
    qn_arena_init(&scratch, NULL);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qn_source *s = packed(cases[i].codec, &cases[i].set);
        OK(qn_codes_open(&c, s, qn_source_tensor_find(s, "h.0.mlp.c_fc.weight"), &scratch, &err));
        cr_expect(c.kind == cases[i].kind && c.codec && strcmp(c.codec, cases[i].codec) == 0, "%s: kind %d", cases[i].codec, c.kind);
        OK(qn_codes_open(&c, s, qn_source_tensor_find(s, "wpe.weight"), &scratch, &err));
        cr_expect(c.kind == QN_CODES_DENSE && !c.codec && c.rows == 32 && c.cols == HIDDEN);
        cr_expect(!qn_codes_approximated(s, qn_source_tensor_find(s, "wpe.weight")));
        qn_source_close(s);
    }
    qn_source *s = qt_made_open(qt_made_env(1), model());
    OK(qn_codes_open(&c, s, qn_source_tensor_find(s, "h.0.mlp.c_fc.weight"), &scratch, &err));
    cr_expect(c.kind == QN_CODES_DENSE && !c.codec && c.rows == HIDDEN && c.cols == INNER);
    float w[INNER];
    uint8_t raw[INNER * 2];
    OK(qn_codes_dense(&c, 5, 1, w, &scratch, &err));
    OK(qn_source_tensor_read(s, c.tensor, 5 * sizeof raw, sizeof raw, raw, &err));
    for (unsigned j = 0; j < INNER; j++)
        cr_expect_eq(qn_f32_bits(w[j]), (uint32_t)qn_load16(raw + 2 * j) << 16);
    qn_source_close(s);
    qn_arena_release(&scratch);
}
