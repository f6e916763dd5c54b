/* test_gguf_write.c: files of the GGUF writer, byte for byte where they are small, and read back by our reader. */
#include "base/num.h"
#include "formats/gguf/names.h"
#include "formats/gguf/write.h"
#include "tests/support/gguf_build.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static qn_err err;

static const uint8_t data[64] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
                                 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36};

static void is_file(const char *path, const char *text)
{
    qt_buf want = {0};
    uint64_t mark;
    static uint8_t got[1 << 16];
    qt_add_gguf(&want, text, &mark);
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s", path);
    const size_t n = fread(got, 1, sizeof got, f);
    fclose(f);
    cr_assert_eq(n, want.n, "%zu bytes, not %zu", n, want.n);
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(got[i], want.p[i], "byte %zu is %02x, not %02x", i, got[i], want.p[i]);
    qt_buf_free(&want);
}

Test(gguf_write, every_kind_of_key_and_tensor)
{
    const char *path = qt_made_path("w.gguf");
    const uint64_t w[2] = {2, 32}, e[1] = {0}, b[1] = {3}, numbers[3] = {1, 2, 0xffff};
    qn_gguf_writer g;
    OK(qn_gguf_writer_open(&g, qt_made_env(1), path, 0, false, &err));
    OK(qn_gguf_put_str(&g, "s", "llama", &err));
    OK(qn_gguf_put_u32(&g, "u", 7, &err));
    OK(qn_gguf_put_u64(&g, "q", 1ull << 40, &err));
    OK(qn_gguf_put_f32(&g, "f", 1.0f, &err));
    OK(qn_gguf_put_bool(&g, "b", true, &err));
    OK(qn_gguf_put_number(&g, "i8", QN_GGUF_I8, (uint64_t)-1, &err));
    OK(qn_gguf_put_number(&g, "d", QN_GGUF_F64, 0x3ff0000000000000, &err));
    OK(qn_gguf_put_array(&g, "t", QN_GGUF_STR, 3, &err));
    OK(qn_gguf_put_array_str(&g, "a", 1, &err));
    OK(qn_gguf_put_array_str(&g, "", 0, &err));
    OK(qn_gguf_put_array_str(&g, "bc", 2, &err));
    OK(qn_gguf_put_array(&g, "n", QN_GGUF_U16, 3, &err));
    OK(qn_gguf_put_array_numbers(&g, numbers, 1, &err));
    OK(qn_gguf_put_array_numbers(&g, numbers + 1, 2, &err));
    OK(qn_gguf_put_array(&g, "none", QN_GGUF_F32, 0, &err));
    OK(qn_gguf_put_tensor(&g, "w", QN_Q4_0, w, 2, &err));
    OK(qn_gguf_put_tensor(&g, "e", QN_F32, e, 1, &err));
    OK(qn_gguf_put_tensor(&g, "b", QN_F16, b, 1, &err));
    OK(qn_gguf_put_data(&g, data, 10, &err));
    OK(qn_gguf_put_data(&g, data + 10, 26, &err));
    OK(qn_gguf_put_data(&g, data, 6, &err));
    cr_assert_eq(access(path, F_OK), -1, "no name before it is whole");
    OK(qn_gguf_writer_finish(&g, &err));
    qn_gguf_writer_close(&g);
    is_file(path, "GGUF i3 q3 q10 \"s\" i8 \"llama\" \"u\" i4 i7 \"q\" i10 q0x10000000000 \"f\" i6 i0x3f800000 \"b\" i7 b1 "
                  "\"i8\" i1 b255 \"d\" i12 q0x3ff0000000000000 \"t\" i9 i8 q3 \"a\" \"\" \"bc\" \"n\" i9 i2 q3 h1 h2 h0xffff "
                  "\"none\" i9 i6 q0 \"w\" i2 q32 q2 i2 q0 \"e\" i1 q0 i0 q64 \"b\" i1 q3 i1 q64 | d36 | d6 |");
    /* every key again, from the file */
    qn_source *s = qt_made_open(qt_made_env(1), path);
    qn_gguf from;
    qn_arena ar;
    qn_arena_init(&ar, NULL);
    OK(qn_gguf_open(&from, &ar, s, &err));
    OK(qn_gguf_writer_open(&g, qt_made_env(1), qt_made_path("c.gguf"), 64, false, &err));
    for (uint64_t i = 0; i < from.n_keys; i++)
        OK(qn_gguf_put_copy(&g, &from, &from.keys[i], &err));
    OK(qn_gguf_put_tensor(&g, "b", QN_F16, b, 1, &err));
    OK(qn_gguf_put_data(&g, data, 6, &err));
    OK(qn_gguf_writer_finish(&g, &err));
    qn_gguf_writer_close(&g);
    qn_source *c = qt_made_open(qt_made_env(1), qt_made_path("c.gguf"));
    qn_gguf copy;
    OK(qn_gguf_open(&copy, &ar, c, &err));
    cr_assert_eq(copy.alignment, 64);
    cr_assert_eq(copy.n_keys, from.n_keys + 1);
    for (uint64_t i = 0; i < from.n_keys; i++) {
        const qn_gguf_key *x = &from.keys[i], *y = qn_gguf_find(&copy, x->name);
        uint8_t p[16], q[16];
        const uint64_t n = x->type == QN_GGUF_STR ? x->n : x->type == QN_GGUF_ARRAY ? 0 : 1;
        cr_assert(y && y->type == x->type && y->n == x->n, "%s", x->name);
        OK(from.read(from.ctx, p, n, x->off, &err));
        OK(copy.read(copy.ctx, q, n, y->off, &err));
        cr_assert_eq(memcmp(p, q, n), 0, "%s", x->name);
    }
    qn_gguf_strings it;
    uint64_t n;
    size_t len;
    char text[8];
    OK(qn_gguf_strings_begin(&it, &copy, "t", &n, &err));
    OK(qn_gguf_strings_next(&it, text, sizeof text, &len, &err));
    OK(qn_gguf_strings_next(&it, text, sizeof text, &len, &err));
    OK(qn_gguf_strings_next(&it, text, sizeof text, &len, &err));
    cr_assert_str_eq(text, "bc");
    qn_source_close(s);
    qn_source_close(c);
    qn_arena_release(&ar);
}

Test(gguf_write, no_tensors)
{
    qn_gguf_writer g;
    OK(qn_gguf_writer_open(&g, qt_made_env(1), qt_made_path("v.gguf"), 0, false, &err));
    OK(qn_gguf_put_u32(&g, "a", 1, &err));
    OK(qn_gguf_writer_finish(&g, &err));
    qn_gguf_writer_close(&g);
    is_file(qt_made_path("v.gguf"), "GGUF i3 q0 q1 \"a\" i4 i1 |");
}

Test(gguf_write, many_names)
{
    qn_gguf_writer g;
    const uint64_t one[1] = {1};
    char name[64];
    OK(qn_gguf_writer_open(&g, qt_made_env(1), qt_made_path("m.gguf"), 8, false, &err));
    for (unsigned i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "n%u", i);
        OK(qn_gguf_put_u32(&g, name, i, &err));
        OK(qn_gguf_put_tensor(&g, name, QN_I8, one, 1, &err));
    }
    for (unsigned i = 0; i < 3000; i++)
        OK(qn_gguf_put_data(&g, &data[i % 32], 1, &err));
    OK(qn_gguf_writer_finish(&g, &err));
    qn_gguf_writer_close(&g);
    qn_source *s = qt_made_open(qt_made_env(1), qt_made_path("m.gguf"));
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t b;
        snprintf(name, sizeof name, "n%u", i);
        OK(qn_source_tensor_read(s, qn_source_tensor_find(s, name), 0, 1, &b, &err));
        cr_assert_eq(b, data[i % 32]);
    }
    qn_source_close(s);
}

static void refused(qn_code rc, qn_code code, const char *text)
{
    cr_assert_eq(rc, code, "code %d: %s", rc, err.text);
    cr_assert(strstr(err.text, text), "'%s' does not say '%s'", err.text, text);
    qn_err_clear(&err);
}

Test(gguf_write, refuses_what_readers_refuse)
{
    qn_gguf_writer g;
    const uint64_t dims[5] = {2, 2, 2, 2, 2}, row[1] = {33}, huge[2] = {1ull << 40, 1ull << 40};
    char name[80];
    qn_err_clear(&err);
    refused(qn_gguf_writer_open(&g, qt_made_env(1), qt_made_path("x"), 48, false, &err), QN_E_USAGE, "alignment 48");
    qn_gguf_writer_close(&g);
    OK(qn_gguf_writer_open(&g, qt_made_env(1), qt_made_path("x"), 0, false, &err));
    OK(qn_gguf_put_u32(&g, "a", 1, &err));
    refused(qn_gguf_put_str(&g, "a", "b", &err), QN_E_USAGE, "key 'a' is given twice");
    refused(qn_gguf_put_u32(&g, "", 1, &err), QN_E_USAGE, "of 0 bytes");
    refused(qn_gguf_put_u32(&g, "\xff", 1, &err), QN_E_USAGE, "UTF-8");
    refused(qn_gguf_put_array(&g, "c", QN_GGUF_ARRAY, 1, &err), QN_E_UNSUPPORTED, "arrays of arrays");
    OK(qn_gguf_put_tensor(&g, "t", QN_F32, dims, 1, &err));
    refused(qn_gguf_put_tensor(&g, "t", QN_F32, dims, 1, &err), QN_E_USAGE, "tensor 't' is given twice");
    refused(qn_gguf_put_tensor(&g, "u", QN_F32, dims, 5, &err), QN_E_UNSUPPORTED, "5 dimensions");
    refused(qn_gguf_put_tensor(&g, "u", QN_U8, dims, 1, &err), QN_E_UNSUPPORTED, "U8");
    refused(qn_gguf_put_tensor(&g, "u", QN_Q4_0, row, 1, &err), QN_E_UNSUPPORTED, "does not suit Q4_0");
    refused(qn_gguf_put_tensor(&g, "u", QN_F32, huge, 2, &err), QN_E_UNSUPPORTED, "does not suit F32");
    memset(name, 'n', 64);
    name[64] = '\0';
    refused(qn_gguf_put_tensor(&g, name, QN_F32, dims, 1, &err), QN_E_USAGE, "64 bytes: 1 to 63");
    qn_gguf_writer_close(&g);
    cr_assert(access(qt_made_path("x"), F_OK) != 0 && access(qt_made_path("x.quern-export"), F_OK) != 0, "nothing is left");
    (void)qt_made_file("there.gguf", "abc", 3);
    refused(qn_gguf_writer_open(&g, qt_made_env(1), qt_made_path("there.gguf"), 0, false, &err), QN_E_USAGE, "exists");
    qn_gguf_writer_close(&g);
}

Test(gguf_write, types_both_ways)
{
    const char *why;
    unsigned n = 0;
    for (unsigned d = 0; d < QN_DTYPE_COUNT; d++) {
        uint32_t type;
        if (qn_gguf_type_of((qn_dtype)d, &type)) {
            cr_assert_eq(qn_gguf_dtype(type, &why), (qn_dtype)d);
            n++;
        }
    }
    cr_assert_eq(n, 33, "%u types", n); /* F32 F16 BF16 F64 I8 I16 I32 I64 and 25 of blocks */
    uint32_t type;
    cr_assert(qn_gguf_type_of(QN_BF16, &type) && type == 30);
    cr_assert(qn_gguf_type_of(QN_Q6_K, &type) && type == 14);
}

Test(gguf_names, by_hand)
{
    static const struct {
        const char *arch, *hf, *gguf;
        uint32_t expert;
    } rows[] = {
        {"llama", "model.layers.12.self_attn.q_proj.weight", "blk.12.attn_q.weight", QN_GGUF_NO_EXPERT},
        {"mistral", "model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight", QN_GGUF_NO_EXPERT},
        {"llama", "lm_head.weight", "output.weight", QN_GGUF_NO_EXPERT},
        {"llama", "model.layers.3.post_attention_layernorm.weight", "blk.3.ffn_norm.weight", QN_GGUF_NO_EXPERT},
        {"gemma2", "model.layers.3.post_attention_layernorm.weight", "blk.3.post_attention_norm.weight", QN_GGUF_NO_EXPERT},
        {"gemma3", "model.layers.3.pre_feedforward_layernorm.weight", "blk.3.ffn_norm.weight", QN_GGUF_NO_EXPERT},
        {"qwen2", "model.layers.1.self_attn.k_proj.bias", "blk.1.attn_k.bias", QN_GGUF_NO_EXPERT},
        {"qwen3", "model.layers.1.self_attn.k_norm.weight", "blk.1.attn_k_norm.weight", QN_GGUF_NO_EXPERT},
        {"phi3", "model.layers.1.mlp.gate_up_proj.weight", "blk.1.ffn_up.weight", QN_GGUF_NO_EXPERT},
        {"gpt2", "h.11.attn.c_attn.weight", "blk.11.attn_qkv.weight", QN_GGUF_NO_EXPERT},
        {"mixtral", "model.layers.1.block_sparse_moe.experts.7.w2.weight", "blk.1.ffn_down_exps.weight", 7},
        {"qwen3moe", "model.layers.47.mlp.experts.127.gate_proj.weight", "blk.47.ffn_gate_exps.weight", 127},
        {"qwen2moe", "model.layers.0.mlp.shared_expert.up_proj.weight", "blk.0.ffn_up_shexp.weight", QN_GGUF_NO_EXPERT},
    };
    char out[QN_GGUF_NAME_CAP];
    uint32_t expert;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const uint32_t arch = qn_gguf_arch_bit(rows[i].arch);
        cr_assert(arch && qn_gguf_name_from_hf(arch, rows[i].hf, out, &expert), "%s", rows[i].hf);
        cr_assert_str_eq(out, rows[i].gguf);
        cr_assert_eq(expert, rows[i].expert);
        cr_assert(qn_gguf_name_to_hf(arch, rows[i].gguf, expert, out), "%s", rows[i].gguf);
        cr_assert_str_eq(out, rows[i].hf);
    }
    cr_assert(qn_gguf_name_from_hf(UINT32_MAX, "transformer.h.2.mlp.c_fc.weight", out, &expert));
    cr_assert_str_eq(out, "blk.2.ffn_up.weight");
    cr_assert(qn_gguf_name_from_hf(UINT32_MAX, "model.language_model.layers.2.mlp.up_proj.weight", out, &expert));
    cr_assert_str_eq(out, "blk.2.ffn_up.weight");
    static const char *const strangers[] = {"", "model.layers.q.mlp.up_proj.weight", "model.layers.01.mlp.up_proj.weight",
                                            "model.layers.1.mlp.up_proj", "model.layers.1.mlp.up_proj.weight.x",
                                            "model.layers.99999999.mlp.up_proj.weight", "model.layers..mlp.up_proj.weight"};
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++)
        cr_assert_not(qn_gguf_name_from_hf(UINT32_MAX, strangers[i], out, &expert), "%s", strangers[i]);
    cr_assert_not(qn_gguf_name_to_hf(UINT32_MAX, "blk.1.ffn_up.weight", 3, out), "no expert in this one");
    cr_assert_eq(qn_gguf_arch_bit("nothing"), 0);
}

/* Each row there and back, for each of its architectures: no two of them meet. */
Test(gguf_names, rows_are_inverses)
{
    for (unsigned i = 0; i < qn_gguf_name_rows; i++)
        for (unsigned a = 0; qn_gguf_archs[a]; a++) {
            const qn_gguf_name_row *r = &qn_gguf_name_tab[i];
            char hf[200] = "", gguf[QN_GGUF_NAME_CAP], back[QN_GGUF_NAME_CAP];
            uint32_t expert;
            if (!(r->archs >> a & 1))
                continue;
            size_t n = 0;
            for (const char *p = r->hf; *p; p++)
                n += (size_t)(*p == '#' ? snprintf(hf + n, sizeof hf - n, "10") :
                              snprintf(hf + n, sizeof hf - n, "%c", *p == '@' ? '3' : *p));
            snprintf(hf + n, sizeof hf - n, ".weight");
            cr_assert(qn_gguf_name_from_hf(1u << a, hf, gguf, &expert), "%s %s", qn_gguf_archs[a], hf);
            cr_assert(qn_gguf_name_to_hf(1u << a, gguf, expert, back), "%s %s", qn_gguf_archs[a], gguf);
            cr_assert_str_eq(back, hf, "%s: %s became %s", qn_gguf_archs[a], hf, back);
        }
}
