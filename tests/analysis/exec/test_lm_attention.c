/* test_lm_attention.c: Attention and Rope against their definitions in f64, written as plainly as they can be; alone and in a ragged
 * batch; with one thread and with several; operands that do not fit. */
#include "base/err.h"
#include "tests/support/made.h"
#include "tests/support/one_op.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Past a tile of keys (512) and past one of queries (64), a lone token, nothing at all. */
enum { SEQS = 5, TOKENS = 700 + 1 + 0 + 65 + 40 };
static const int64_t starts_of[SEQS + 1] = {0, 700, 701, 701, 766, TOKENS};

struct setting {
    const char *name;
    int heads, kv_heads, dim, v_dim, window, causal;
    double scale, softcap;
    bool slopes;
};

static const struct setting settings[] = {
    {"plain", 4, 4, 8, 8, 0, 1, 0.35, 0, false},        {"shared key heads", 6, 2, 8, 8, 0, 1, 0.35, 0, false},
    {"window", 2, 1, 8, 8, 17, 1, 0.35, 0, false},      {"window past a tile", 2, 1, 4, 4, 600, 1, 0.5, 0, false},
    {"window of one", 2, 1, 4, 4, 1, 1, 0.5, 0, false}, {"softcap", 2, 2, 8, 8, 0, 1, 1.5, 4, false},
    {"slopes", 3, 3, 8, 8, 0, 1, 0.35, 0, true},        {"other values' size", 2, 2, 8, 3, 0, 1, 0.35, 0, false},
    {"not causal", 2, 2, 8, 8, 0, 0, 0.35, 0, false},   {"large scores", 2, 2, 8, 8, 0, 1, 30, 0, false},
};

static void attend(const struct setting *s, const float *q, const float *k, const float *v, const float *slopes, double *y)
{
    for (int seq = 0; seq < SEQS; seq++)
        for (int64_t i = starts_of[seq]; i < starts_of[seq + 1]; i++)
            for (int h = 0; h < s->heads; h++) {
                const int kv = h / (s->heads / s->kv_heads);
                double score[TOKENS], most = -HUGE_VAL, sum = 0, *out = y + (i * s->heads + h) * s->v_dim;
                memset(out, 0, (size_t)s->v_dim * sizeof *out);
                for (int64_t j = starts_of[seq]; j < starts_of[seq + 1]; j++) {
                    double dot = 0;
                    for (int c = 0; c < s->dim; c++)
                        dot += (double)q[(i * s->heads + h) * s->dim + c] * (double)k[(j * s->kv_heads + kv) * s->dim + c];
                    dot *= s->scale;
                    if (s->softcap > 0)
                        dot = s->softcap * tanh(dot / s->softcap);
                    if (slopes)
                        dot -= (double)slopes[h] * (double)(i - j);
                    if ((s->causal && j > i) || (s->window && i - j >= s->window))
                        dot = -HUGE_VAL;
                    score[j] = dot;
                    most = fmax(most, dot);
                }
                for (int64_t j = starts_of[seq]; j < starts_of[seq + 1]; j++)
                    sum += score[j] = exp(score[j] - most);
                for (int64_t j = starts_of[seq]; j < starts_of[seq + 1]; j++)
                    for (int c = 0; c < s->v_dim; c++)
                        out[c] += score[j] / sum * (double)v[(j * s->kv_heads + kv) * s->v_dim + c];
            }
}

static qn_array rows(const float *p, int64_t first, int64_t n, int cols)
{
    return qt_op_floats(p + first * cols, 2, (int)n, cols);
}

Test(lm_attention, against_its_definition)
{
    qt_rng r = qt_seed(71);
    qn_err err = {0};
    for (size_t c = 0; c < sizeof settings / sizeof settings[0]; c++) {
        const struct setting *s = &settings[c];
        const int nq = s->heads * s->dim, nk = s->kv_heads * s->dim, nv = s->kv_heads * s->v_dim, ny = s->heads * s->v_dim;
        const float *q = qt_op_random(&r, (uint64_t)(TOKENS * nq), 1, 0), *k = qt_op_random(&r, (uint64_t)(TOKENS * nk), 1, 0);
        const float *v = qt_op_random(&r, (uint64_t)(TOKENS * nv), 1, 0), slopes[3] = {0.5f, 0.25f, 0.0625f};
        const qn_attr attrs[] = {{.name = "heads", .type = QN_ATTR_INT, .v.i = s->heads},
                                 {.name = "kv_heads", .type = QN_ATTR_INT, .v.i = s->kv_heads},
                                 {.name = "head_dim", .type = QN_ATTR_INT, .v.i = s->dim},
                                 {.name = "v_head_dim", .type = QN_ATTR_INT, .v.i = s->v_dim},
                                 {.name = "window", .type = QN_ATTR_INT, .v.i = s->window},
                                 {.name = "causal", .type = QN_ATTR_INT, .v.i = s->causal},
                                 {.name = "scale", .type = QN_ATTR_FLOAT, .v.f = s->scale},
                                 {.name = "softcap", .type = QN_ATTR_FLOAT, .v.f = s->softcap}};
        qn_array in[5] = {rows(q, 0, TOKENS, nq), rows(k, 0, TOKENS, nk), rows(v, 0, TOKENS, nv), qt_op_ints(starts_of, SEQS + 1),
                          qt_op_floats(slopes, 1, s->heads)};
        const unsigned n_in = s->slopes ? 5 : 4;
        float *y, *z;
        cr_assert_eq(qt_op_run(1, "Attention", attrs, 8, in, n_in, &y, 1, &err), QN_OK, "%s: %s", s->name, err.text);
        double *want = qt_made_keep(calloc((size_t)(TOKENS * ny), sizeof *want));
        attend(s, q, k, v, s->slopes ? slopes : NULL, want);
        /* scores are f32: large ones have lost what is behind the point */
        qt_op_close(s->name, y, want, (uint64_t)(TOKENS * ny), s->scale > 10 ? 1e-4 : 3e-6);
        cr_assert_eq(qt_op_run(3, "Attention", attrs, 8, in, n_in, &z, 1, &err), QN_OK);
        cr_assert_arr_eq(y, z, (size_t)(TOKENS * ny) * sizeof *y, "%s: threads give other numbers", s->name);
        for (int seq = 0; seq < SEQS; seq++) {
            const int64_t n = starts_of[seq + 1] - starts_of[seq], alone[2] = {0, n};
            in[0] = rows(q, starts_of[seq], n, nq);
            in[1] = rows(k, starts_of[seq], n, nk);
            in[2] = rows(v, starts_of[seq], n, nv);
            in[3] = qt_op_ints(alone, 2);
            cr_assert_eq(qt_op_run(2, "Attention", attrs, 8, in, n_in, &z, 1, &err), QN_OK);
            cr_assert_arr_eq(y + starts_of[seq] * ny, z, (size_t)(n * ny) * sizeof *y, "%s: sequence %d depends on its neighbours", s->name, seq);
        }
    }
}

struct turn {
    const char *name, *style;
    int heads, dim, pairs;
    double scale, dynamic, base;
    int64_t original;
    bool long_freq;
};

static const struct turn turns[] = {
    {"half", "half", 3, 8, 4, 1, 0, 0, 1, false},
    {"interleaved", "interleaved", 3, 8, 4, 1, 0, 0, 1, false},
    {"part of the channels", "half", 2, 10, 3, 1.25, 0, 0, 1, false},
    {"part, interleaved", "interleaved", 2, 10, 3, 1, 0, 0, 1, false},
    {"long sequences otherwise", "half", 2, 8, 4, 1.1, 0, 0, 65, true},
    {"base by length", "half", 2, 8, 4, 1, 2.5, 100, 65, false},
};

Test(lm_attention, rope_against_complex_numbers)
{
    static const double freq[4] = {1, 0.3, 0.02, 0.001}, long_freq[4] = {0.7, 0.11, 0.009, 0.0004};
    qt_rng r = qt_seed(72);
    qn_err err = {0};
    for (size_t c = 0; c < sizeof turns / sizeof turns[0]; c++) {
        const struct turn *t = &turns[c];
        const int cols = t->heads * t->dim;
        const float *x = qt_op_random(&r, (uint64_t)(TOKENS * cols), 1, 0);
        const qn_attr attrs[] = {{.name = "head_dim", .type = QN_ATTR_INT, .v.i = t->dim},   {.name = "style", .type = QN_ATTR_STRING, .v.s = t->style},
                                 {.name = "scale", .type = QN_ATTR_FLOAT, .v.f = t->scale},  {.name = "original", .type = QN_ATTR_INT, .v.i = t->original},
                                 {.name = "dynamic", .type = QN_ATTR_FLOAT, .v.f = t->dynamic}, {.name = "base", .type = QN_ATTR_FLOAT, .v.f = t->base}};
        const qn_array in[4] = {rows(x, 0, TOKENS, cols), qt_op_ints(starts_of, SEQS + 1), qt_op_doubles(freq, t->pairs),
                                qt_op_doubles(long_freq, t->pairs)};
        double *want = qt_made_keep(calloc((size_t)(TOKENS * cols), sizeof *want));
        for (int seq = 0; seq < SEQS; seq++) {
            const int64_t n = starts_of[seq + 1] - starts_of[seq];
            double f[4];
            for (int k = 0; k < t->pairs; k++) {
                f[k] = t->long_freq && n > t->original ? long_freq[k] : freq[k];
                if (t->dynamic > 0 && n > t->original) {
                    const double d = 2 * t->pairs, b = t->base * pow(t->dynamic * (double)n / (double)t->original - (t->dynamic - 1), d / (d - 2));
                    f[k] = pow(b, -2.0 * k / d);
                }
            }
            for (int64_t i = 0; i < n; i++)
                for (int h = 0; h < t->heads; h++) {
                    const int64_t at = (starts_of[seq] + i) * cols + h * t->dim;
                    for (int k = 0; k < t->dim; k++)
                        want[at + k] = (double)x[at + k];
                    for (int k = 0; k < t->pairs; k++) {
                        const bool half = !strcmp(t->style, "half");
                        const int64_t a = at + (half ? k : 2 * k), b = half ? a + t->pairs : a + 1;
                        const double re = (double)x[a], im = (double)x[b], angle = (double)i * f[k];
                        want[a] = t->scale * (re * cos(angle) - im * sin(angle));
                        want[b] = t->scale * (re * sin(angle) + im * cos(angle));
                    }
                }
        }
        float *y, *z;
        cr_assert_eq(qt_op_run(1, "Rope", attrs, 6, in, t->long_freq ? 4 : 3, &y, 1, &err), QN_OK, "%s: %s", t->name, err.text);
        qt_op_close(t->name, y, want, (uint64_t)(TOKENS * cols), 3e-7);
        cr_assert_eq(qt_op_run(3, "Rope", attrs, 6, in, t->long_freq ? 4 : 3, &z, 1, &err), QN_OK);
        cr_assert_arr_eq(y, z, (size_t)(TOKENS * cols) * sizeof *y);
    }
}

static void refused(const char *type, const qn_attr *attrs, unsigned n_attrs, const qn_array *in, unsigned n_in, const char *words)
{
    qn_err err = {0};
    float *y;
    const qn_code rc = qt_op_run(1, type, attrs, n_attrs, in, n_in, &y, 1, &err);
    cr_assert(rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED, "%s is taken", words);
    cr_assert(strstr(err.text, words), "%s stands for %s", err.text, words);
}

Test(lm_attention, what_does_not_fit_is_refused)
{
    static const float f[64] = {1};
    static const double freq[8] = {1};
    static const int64_t good[3] = {0, 1, 2}, backward[4] = {0, 2, 1, 2}, late[2] = {1, 2}, early[2] = {0, 1};
    qn_attr a[] = {{.name = "heads", .type = QN_ATTR_INT, .v.i = 2}, {.name = "head_dim", .type = QN_ATTR_INT, .v.i = 4},
                   {.name = "kv_heads", .type = QN_ATTR_INT, .v.i = 1}, {.name = "window", .type = QN_ATTR_INT, .v.i = 0}};
    qn_array in[4] = {qt_op_floats(f, 2, 2, 8), qt_op_floats(f, 2, 2, 4), qt_op_floats(f, 2, 2, 4), qt_op_ints(good, 3)};
    float *y;
    qn_err err = {0};
    cr_assert_eq(qt_op_run(1, "Attention", a, 4, in, 4, &y, 1, &err), QN_OK, "%s", err.text);
    in[3] = qt_op_ints(backward, 4);
    refused("Attention", a, 4, in, 4, "starts must rise from 0 to the 2 tokens");
    in[3] = qt_op_ints(late, 2);
    refused("Attention", a, 4, in, 4, "starts must rise");
    in[3] = qt_op_ints(early, 2);
    refused("Attention", a, 4, in, 4, "starts must rise");
    in[3] = qt_op_floats(f, 1, 2);
    refused("Attention", a, 4, in, 4, "starts is F32 (2)");
    in[3] = qt_op_ints(good, 3);
    in[1] = qt_op_floats(f, 2, 2, 8);
    refused("Attention", a, 4, in, 4, "k is F32 (2, 8): f32 (tokens, 4) is expected");
    in[1] = qt_op_floats(f, 2, 1, 4);
    refused("Attention", a, 4, in, 4, "q, k and v have 2, 1 and 2 rows");
    a[2].v.i = 3;
    refused("Attention", a, 4, in, 4, "2 heads cannot share 3 key heads");
    a[2].v.i = 1;
    a[3].v.i = -1;
    refused("Attention", a, 4, in, 4, "window is -1");
    a[0].v.i = 0;
    refused("Attention", a, 4, in, 4, "heads is 0");
    const qn_attr dim = {.name = "head_dim", .type = QN_ATTR_INT, .v.i = 3}, four = {.name = "head_dim", .type = QN_ATTR_INT, .v.i = 4};
    const qn_array rope[3] = {qt_op_floats(f, 2, 2, 8), qt_op_ints(good, 3), qt_op_doubles(freq, 3)};
    refused("Rope", &dim, 1, rope, 3, "do not fit together");
    refused("Rope", &four, 1, rope, 3, "do not fit together");
}
