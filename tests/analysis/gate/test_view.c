/* test_view.c: a GGUF file seen as the folder it was made from: names, order of rows, experts, shared embedding. */
#include "analysis/gate/view.h"
#include "base/err.h"
#include "tests/support/gguf_build.h"
#include "tests/support/made.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static float values[8 * 3];

static uint64_t find(const qn_source *s, const char *name)
{
    const uint64_t t = qn_source_tensor_find(s, name);
    cr_assert_neq(t, UINT64_MAX, "%s", name);
    return t;
}

static void read_all(qn_source *s, const char *name, void *to)
{
    const uint64_t t = find(s, name);
    cr_assert_eq(qn_source_tensor_read(s, t, 0, s->tensors[t].n_bytes, to, NULL), QN_OK);
}

/* Bytes 0, 1, 2, … of the data as they lie in the file; d counts from 1. */
static const char llama[] = "GGUF i3 q4 q3 \"general.architecture\" i8 \"llama\" \"llama.attention.head_count\" i4 i2 \"llama.attention.head_count_kv\" i4 i1 "
                            "\"blk.0.attn_q.weight\" i2 q4 q8 i24 q0 \"blk.0.attn_k.weight\" i2 q4 q4 i24 q32 \"token_embd.weight\" i2 q4 q2 i24 q64 "
                            "\"blk.0.ffn_up_exps.weight\" i3 q2 q2 q3 i24 q96 | d32 d16 | d8 | d12 |";

static qn_source *open_file(const char *text)
{
    qt_buf b = {0};
    uint64_t mark = 0;
    qn_source *s = NULL;
    qn_err err;
    qn_err_clear(&err);
    qt_add_gguf(&b, text, &mark);
    cr_assert_eq(qn_source_open(qt_made_env(1), qt_made_file("m.gguf", b.p, b.n), &s, &err), QN_OK, "%s", err.text);
    qt_buf_free(&b);
    return s;
}

Test(view, names_rows_and_experts)
{
    /* rows of 4 bytes: 8 of q in heads of 4: the file's (0 1 2 3) is the folder's (0 2 1 3) */
    static const uint8_t q_rows[8] = {0, 2, 1, 3, 4, 6, 5, 7}, k_rows[4] = {0, 2, 1, 3};
    static const float head[2] = {0};
    const qt_made_tensor like = {"lm_head.weight", QN_F32, 1, {2}, head};
    qn_source *s = open_file(llama), *v = NULL, *other = NULL;
    uint8_t got[32];
    cr_assert(qn_is_gguf(s));
    cr_assert_eq(qn_source_open(qt_made_env(1), qt_made_safetensors("like.safetensors", &like, 1, NULL), &other, NULL), QN_OK);
    cr_assert_not(qn_is_gguf(other));
    cr_assert_eq(qn_gguf_view_open(qt_made_env(1), s, other, &v, NULL), QN_OK);
    cr_expect_eq(v->n_tensors, 7);
    read_all(v, "model.layers.0.self_attn.q_proj.weight", got);
    for (unsigned r = 0; r < 8; r++)
        for (unsigned c = 0; c < 4; c++)
            cr_expect_eq(got[4 * r + c], 4 * q_rows[r] + c + 1, "row %u", r);
    read_all(v, "model.layers.0.self_attn.k_proj.weight", got);
    for (unsigned r = 0; r < 4; r++)
        cr_expect_eq(got[4 * r], 4 * k_rows[r] + 1, "row %u", r);
    /* a stretch that begins and ends inside of rows */
    cr_assert_eq(qn_source_tensor_read(v, find(v, "model.layers.0.self_attn.q_proj.weight"), 6, 5, got, NULL), QN_OK);
    cr_expect_eq(memcmp(got, ((const uint8_t[]){11, 12, 5, 6, 7}), 5), 0);
    read_all(v, "lm_head.weight", got); /* it has no head: the embedding is one */
    cr_expect_eq(memcmp(got, ((const uint8_t[]){1, 2, 3, 4, 5, 6, 7, 8}), 8), 0);
    char name[100];
    for (unsigned e = 0; e < 3; e++) {
        snprintf(name, sizeof name, "model.layers.0.block_sparse_moe.experts.%u.w3.weight", e);
        read_all(v, name, got);
        cr_expect_eq(got[0], 4 * e + 1);
        cr_expect_eq(v->tensors[find(v, name)].rank, 2);
        cr_expect_eq(qn_gguf_view_origin(v, find(v, name)), qn_source_tensor_find(s, "blk.0.ffn_up_exps.weight"));
    }
    qn_source_close(v);
    qn_source_close(other);
    qn_source_close(s);
}

Test(view, norms_of_gemma_without_their_one)
{
    qt_buf b = {0};
    uint64_t mark = 0;
    qn_source *s, *v;
    for (unsigned i = 0; i < 8; i++)
        values[i] = 1 + (float)i / 8;
    qt_add_gguf(&b, "GGUF i3 q1 q1 \"general.architecture\" i8 \"gemma\" \"blk.0.attn_norm.weight\" i1 q8 i0 q0 |", &mark);
    qt_add(&b, values, 32);
    cr_assert_eq(qn_source_open(qt_made_env(1), qt_made_file("g.gguf", b.p, b.n), &s, NULL), QN_OK);
    cr_assert_eq(qn_gguf_view_open(qt_made_env(1), s, s, &v, NULL), QN_OK);
    float got[8];
    read_all(v, "model.layers.0.input_layernorm.weight", got);
    for (unsigned i = 0; i < 8; i++)
        cr_expect_eq(got[i], (float)i / 8);
    qn_source_close(v);
    qn_source_close(s);
    qt_buf_free(&b);
}
