/* see.h: data for the tests of see-through codecs: real weights where they are, and what quantisers make of them. */
#ifndef QN_TESTS_SEE_H
#define QN_TESTS_SEE_H

#include "base/half.h"
#include "base/num.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char see_levels[] = {QN_LEVEL_FAST, QN_LEVEL_DENSE};

/* n trained weights from the middle of a model, or normal numbers. */
static inline float *see_weights(size_t n)
{
    float *w = malloc(n * sizeof *w);
    const char *path = qt_shared("models/use-lite/model-f32.safetensors");
    FILE *f = path ? fopen(path, "rb") : NULL;
    size_t got = 0;
    if (f && fseek(f, 16 << 20, SEEK_SET) == 0)
        got = fread(w, sizeof *w, n, f);
    if (f)
        fclose(f);
    qt_rng r = qt_seed(99);
    for (; got < n; got++)
        w[got] = (float)(0.05 * qt_normal(&r));
    return w;
}

static inline void see_put(qn_dtype t, float v, uint8_t *dst, size_t i)
{
    if (t == QN_F32)
        qn_store32(dst + 4 * i, qn_f32_bits(v));
    else
        qn_store16(dst + 2 * i, t == QN_BF16 ? qn_f32_to_bf16(v) : qn_f32_to_f16(v));
}

/* Round half away, without libm. */
static inline int see_round(float v)
{
    return (int)(v < 0 ? v - 0.5f : v + 0.5f);
}

static inline float see_scale_as(qn_dtype t, float s)
{
    return t == QN_F16 ? qn_f16_to_f32(qn_f32_to_f16(s)) : t == QN_BF16 ? qn_bf16_to_f32(qn_f32_to_bf16(s)) : s;
}

/* Symmetric integers −q … q by absmax, with scales of dtype st, written as dtype t. */
static inline void see_dequant(qn_dtype t, qn_dtype st, const float *w, size_t n, size_t group, int q, uint8_t *dst)
{
    for (size_t g = 0; g < n; g += group) {
        const size_t len = n - g < group ? n - g : group;
        float max = 0;
        for (size_t i = 0; i < len; i++)
            max = w[g + i] > max ? w[g + i] : -w[g + i] > max ? -w[g + i] : max;
        const float s = max / (float)q, stored = see_scale_as(st, s);
        for (size_t i = 0; i < len; i++)
            see_put(t, (float)(max == 0 ? 0 : see_round(w[g + i] / s)) * stored, dst, g + i);
    }
}

static inline unsigned see_best(qn_level level, const qn_block *b, const uint8_t *src, const uint8_t *base, size_t *n)
{
    const size_t total = (size_t)b->n * qn_unit_bytes(b->dtype);
    qn_ekern ek;
    qn_kern k;
    qn_arena scratch;
    qn_err err = {0};
    unsigned codec;
    uint8_t *out = malloc(total), *back = malloc(total);
    qn_ekern_init(&ek, 7);
    qn_kern_init(&k, 7);
    qn_arena_init(&scratch, NULL);
    const qn_enc_ctx cx = {.ekern = &ek, .kern = &k, .scratch = &scratch, .base = base, .level = level};
    cr_assert_eq(qn_encode_best(&cx, b, src, out, total, &codec, n, &err), QN_OK, "%s", err.text);
    cr_assert_leq(*n, total);
    qn_arena_reset(&scratch);
    const qn_dec_ctx dx = {.kern = &k, .scratch = &scratch, .base = base};
    cr_assert_eq(qn_codec_decode(&dx, codec, b, out, *n, back, &err), QN_OK, "codec %u: %s", codec, err.text);
    cr_assert_eq(memcmp(src, back, total), 0, "codec %u", codec);
    qn_arena_release(&scratch);
    free(out);
    free(back);
    return codec;
}

/* Round trip, then the extended payload refused, then damage. */
static inline size_t see_check(unsigned codec, qn_encode_fn encode, const qn_block *b, const uint8_t *src,
                               const uint8_t *base, unsigned rounds)
{
    const size_t cap = (size_t)b->n * qn_unit_bytes(b->dtype) + 64;
    uint8_t *p = malloc(cap + 1), *dst = malloc(cap);
    size_t n = 0;
    for (unsigned l = 0; l < 2; l++)
        n = qt_codec_round_trip(codec, encode, (qn_level)see_levels[l], b, src, base, p, cap);
    if (n) {
        qn_kern k;
        qn_arena scratch;
        qn_err err = {0};
        qn_kern_init(&k, 0);
        qn_arena_init(&scratch, NULL);
        p[n] = 0;
        const qn_dec_ctx dx = {.kern = &k, .scratch = &scratch, .base = base};
        cr_assert_eq(qn_codec_decode(&dx, codec, b, p, n + 1, dst, &err), QN_E_INPUT);
        cr_assert_neq(qn_codec_decode(&dx, codec, b, p, n - 1, dst, &err), QN_OK);
        qn_arena_release(&scratch);
        /* a changed byte of a nested raw payload is not seen, so only many rounds must refuse some */
        const size_t refused = rounds ? qt_codec_mutate(codec, b, p, n, base, n, rounds) : 0;
        cr_assert(rounds < 500 || refused > 0);
    }
    free(p);
    free(dst);
    return n;
}

#endif
