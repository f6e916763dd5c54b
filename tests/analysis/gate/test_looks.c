/* test_looks.c: what damage of a tensor is taken for. */
#include "analysis/gate/looks.h"
#include "base/err.h"
#include "tests/support/made.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 64, COLS = 48, N = ROWS * COLS };

static float a[N], other[N], bad[N];

/* Values around zero, the same every time. */
static void fill(float *v, uint32_t x)
{
    for (unsigned i = 0; i < N; i++) {
        x = x * 1664525u + 1013904223u;
        v[i] = (float)(x >> 8) / (float)(1 << 23) - 1;
    }
}

/* What `bad` looks like beside a reference of `a` and `other`; "" when like nothing. */
static const char *looks(void)
{
    static qn_arena arena;
    static unsigned n;
    char rel[40];
    const qt_made_tensor ref[2] = {{"layers.0.w", QN_F32, 2, {ROWS, COLS}, a}, {"layers.5.w", QN_F32, 2, {ROWS, COLS}, other}};
    const qt_made_tensor cand = {"layers.0.w", QN_F32, 2, {ROWS, COLS}, bad};
    const qn_env *env = qt_made_env(1);
    const char *text = NULL;
    snprintf(rel, sizeof rel, "ref%u.safetensors", n);
    qn_source *r = qt_made_open(env, qt_made_safetensors(rel, ref, 2, NULL));
    snprintf(rel, sizeof rel, "cand%u.safetensors", n++);
    qn_source *c = qt_made_open(env, qt_made_safetensors(rel, &cand, 1, NULL));
    qn_arena_init(&arena, NULL);
    cr_assert_eq(qn_looks(env, r, qn_source_tensor_find(r, "layers.0.w"), c, 0, &arena, &text, NULL), QN_OK);
    qn_source_close(r);
    qn_source_close(c);
    static char buf[256];
    snprintf(buf, sizeof buf, "%s", text ? text : "");
    qn_arena_release(&arena);
    return buf;
}

Test(looks, names_the_damage)
{
    fill(a, 1);
    fill(other, 2);
    memcpy(bad, a, sizeof a);
    for (unsigned i = 0; i < N; i++)
        bad[i] *= 2;
    cr_expect_str_eq(looks(), "is about 2 × the reference's");
    for (unsigned i = 0; i < N; i++)
        bad[i] = -a[i];
    cr_expect_str_eq(looks(), "is about -1 × the reference's");
    memset(bad, 0, sizeof bad);
    cr_expect_str_eq(looks(), "is all zero");
    for (unsigned r = 0; r < ROWS; r++) /* the transposed matrix, in rows of the old length */
        for (unsigned c = 0; c < COLS; c++)
            bad[c * ROWS + r] = a[r * COLS + c];
    cr_expect_str_eq(looks(), "looks transposed");
    memcpy(bad, other, sizeof bad);
    cr_expect_str_eq(looks(), "looks like the reference's 'layers.5.w'");
    memcpy(bad, a, sizeof a);
    for (unsigned c = 0; c < COLS; c++)
        bad[17 * COLS + c] *= 3;
    cr_expect_str_eq(looks(), "100 % of the error is in 1 of 64 rows, most in row 17: about 3 × the reference's");
    memcpy(bad, a, sizeof a);
    for (unsigned i = 0; i < 12; i++) /* 12 of 3072, each in a row of its own */
        bad[i * 5 * COLS + i] += 2;
    cr_expect_str_eq(looks(), "100 % of the error is in 0.4 % of the values");
    fill(bad, 3);
    cr_expect_str_eq(looks(), "", "noise looks like nothing");
    for (unsigned i = 0; i < N; i++) /* as rounding does */
        bad[i] = a[i] + 0.05f * bad[i];
    cr_expect_str_eq(looks(), "");
}
