/* test_pvq.c: the pvq quantizer and decoder: what is promised is decoded, by a second decoder too that was written from
 * docs/codecs/pvq.md alone; damaged payloads; rates and distortions. */
#include "base/cpu.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/quantizer.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct coded {
    uint8_t *payload;
    size_t n_bytes, cap;
    float *recon; /* (rows, cols) */
    uint32_t rows, cols;
    qn_dtype t;
} coded;

static coded encode(double bits, qn_dtype t, uint32_t rows, uint32_t cols, const float *w, const double *weight, unsigned cpu)
{
    coded c = {.cap = 4096 + (size_t)rows * cols * 8, .rows = rows, .cols = cols, .t = t};
    const qn_quant_settings set = {.bits = bits};
    const qn_quant_layer layer = {.name = "w", .rows = rows, .cols = cols, .dtype = t, .weight = weight, .sample = w, .n_sample = rows};
    const qn_quantizer *q;
    const void *plan;
    void *state;
    qn_arena arena;
    qn_err err = {0};
    qn_arena_init(&arena, NULL);
    c.payload = malloc(c.cap);
    c.recon = malloc((size_t)rows * cols * sizeof *c.recon);
    cr_assert_eq(qn_quantizer_open("pvq", &set, cpu, &arena, &q, &err), QN_OK, "%s", err.text);
    cr_assert_eq(q->ops->begin(q, &layer, &arena, &plan, &err), QN_OK);
    const qn_quant_segment s = {.rows = rows, .w = w, .scratch = &arena};
    cr_assert_eq(q->ops->segment(q, &layer, plan, &s, &state, &err), QN_OK);
    float *col = malloc(rows * sizeof *col), *out = malloc(rows * sizeof *out);
    for (uint32_t j = cols; j-- > 0;) {
        for (uint32_t i = 0; i < rows; i++)
            col[i] = w[(size_t)i * cols + j];
        cr_assert_eq(q->ops->column(state, j, col, out, &err), QN_OK);
        for (uint32_t i = 0; i < rows; i++)
            c.recon[(size_t)i * cols + j] = out[i];
    }
    cr_assert_eq(q->ops->finish(state, c.payload, c.cap, &c.n_bytes, &err), QN_OK);
    free(col);
    free(out);
    qn_arena_release(&arena);
    return c;
}

static void put_away(coded *c)
{
    free(c->payload);
    free(c->recon);
}

static qn_code decode(unsigned cpu, const qn_block *b, const uint8_t *p, size_t n, uint8_t *dst, qn_err *err)
{
    qn_kern k;
    qn_arena scratch;
    qn_err_clear(err);
    qn_kern_init(&k, cpu);
    qn_arena_init(&scratch, NULL);
    const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch};
    const qn_code rc = qn_codec_decode(&cx, QN_CODEC_PVQ, b, p, n, dst, err);
    qn_arena_release(&scratch);
    return rc;
}

/* --- the second decoder: slow, and sure of its payload ------------------------------------------------------------- */

/* V(n, k) by its own sum, Σ 2^i C(n, i) C(k − 1, i − 1), in f80: exact below 2^64. */
static uint64_t count(unsigned n, unsigned k)
{
    long double sum = 0;
    if (k == 0)
        return 1;
    for (unsigned i = 1; i <= n && i <= k; i++) {
        long double term = 1;
        for (unsigned a = 0; a < i; a++)
            term = term * (n - a) / (a + 1);
        for (unsigned a = 0; a + 1 < i; a++)
            term = term * (k - 1 - a) / (a + 1);
        sum += rintl(term) * (long double)(UINT64_C(1) << i);
    }
    return (uint64_t)sum;
}

static unsigned length(uint64_t v) /* bits of an index below v */
{
    unsigned n = 0;
    while (n < 64 && (v - 1) >> n)
        n++;
    return n;
}

static void slow_point(unsigned n, unsigned k, uint64_t index, int *y)
{
    for (unsigned i = 0; i < n; i++) {
        y[i] = 0;
        for (unsigned v = 0; v <= k; v++) {
            const uint64_t size = i + 1 < n ? count(n - i - 1, k - v) : k == v;
            if (index < size) {
                y[i] = (int)v;
                k -= v;
                break;
            }
            index -= size;
            if (v && index < size) {
                y[i] = -(int)v;
                k -= v;
                break;
            }
            index -= v ? size : 0;
        }
    }
}

static uint64_t slow_bits(const uint8_t *p, uint64_t *at, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++, ++*at)
        v |= (uint64_t)(p[*at / 8] >> *at % 8 & 1) << i;
    return v;
}

static void slow_bytes(qn_cur *c, uint32_t n, uint8_t *dst)
{
    const unsigned codec = qn_cur_u8(c);
    const uint64_t n_bytes = qn_cur_varint(c);
    const qn_block b = {QN_U8, n, n};
    qn_kern k;
    qn_arena scratch;
    qn_err err = {0};
    qn_kern_init(&k, 0);
    qn_arena_init(&scratch, NULL);
    const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch, .depth = 1};
    cr_assert_eq(qn_codec_decode(&cx, codec, &b, qn_cur_take(c, n_bytes), n_bytes, dst, &err), QN_OK, "%s", err.text);
    qn_arena_release(&scratch);
}

static float slow_scale(unsigned code) /* 2^((code − 255) / 16) in 24 bits */
{
    return code ? (float)(rint(exp2((double)(code % 16) / 16 - 15.0 / 16) * 0x1p24) * exp2((double)(code / 16) - 15 - 24)) : 0;
}

static void slow_decode(const coded *c, float *dst)
{
    qn_cur cur = qn_cur_over(c->payload, c->n_bytes);
    const unsigned n = 1u << qn_cur_u8(&cur), blocks = (c->rows + n - 1) / n;
    const float base = qn_bits_f32(qn_cur_u32(&cur));
    const unsigned classes = (unsigned)qn_cur_varint(&cur);
    unsigned pulses[64], gain[64];
    uint8_t *of = calloc(c->cols, 1), *col = calloc(c->cols, 1), *row = calloc(blocks, 1);
    for (unsigned i = 0; i < classes; i++) {
        pulses[i] = qn_cur_u8(&cur);
        gain[i] = qn_cur_u8(&cur);
    }
    if (classes > 1)
        slow_bytes(&cur, c->cols, of);
    slow_bytes(&cur, c->cols, col);
    slow_bytes(&cur, blocks, row);
    for (unsigned b = 0; b < blocks; b++) {
        const unsigned m = c->rows - b * n < n ? c->rows - b * n : n;
        uint64_t bit = 0;
        for (unsigned k = 0; k < classes; k++) {
            unsigned j = pulses[k], width = j ? length(count(n, j)) + gain[k] : 0;
            if (m < n) {
                const unsigned room = width * m / n;
                while (j && length(count(m, j)) + gain[k] > room)
                    j--;
                width = j ? length(count(m, j)) + gain[k] : 0;
            }
            for (uint32_t at = 0; at < c->cols; at++) {
                int y[32] = {0};
                if (of[at] != k)
                    continue;
                const unsigned g = width ? gain[k] : 0;
                const uint64_t index = slow_bits(cur.p + cur.at, &bit, width - g), level = slow_bits(cur.p + cur.at, &bit, g);
                slow_point(m, j, index, y);
                int norm = 0;
                for (unsigned i = 0; i < m; i++)
                    norm += y[i] * y[i];
                const float amplitude = base * slow_scale(row[b]) * slow_scale(col[at]) * ((float)qn_pvq_gain_levels(n, g)[level] / 4096);
                const float scale = norm ? amplitude * (float)(1 / sqrtl((long double)norm)) : 0;
                for (unsigned i = 0; i < m; i++)
                    dst[(size_t)(b * n + i) * c->cols + at] = (float)y[i] * scale;
            }
        }
        cr_assert(qn_cur_take(&cur, (size_t)((bit + 7) / 8)));
    }
    cr_assert_eq(qn_cur_left(&cur), 0);
    free(of);
    free(col);
    free(row);
}

/* --- */

static float *made(qt_rng *r, uint32_t rows, uint32_t cols, unsigned kind)
{
    float *w = malloc((size_t)rows * cols * sizeof *w);
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < cols; j++) {
            double v = 0.02 * qt_normal(r);
            if (kind == 1)
                v *= exp(0.7 * sin(0.1 * i)) * (j % 5 ? 1 : 0.1) * (qt_below(r, 200) ? 1 : 8);
            if (kind == 2)
                v = j % 4 == 1 || i / 16 == 1 ? 0 : v;
            if (kind == 3)
                v = 0;
            w[(size_t)i * cols + j] = (float)v;
        }
    return w;
}

static void check(const coded *c)
{
    const qn_block b = {c->t, c->rows * c->cols, c->cols};
    const size_t unit = qn_unit_bytes(c->t), n = b.n * unit;
    uint8_t *want = malloc(n), *dst = malloc(n);
    float *slow = malloc(b.n * sizeof *slow);
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    slow_decode(c, slow);
    for (uint32_t i = 0; i < b.n; i++) {
        cr_assert(slow[i] == c->recon[i], "weight %u: %g, by the second decoder %g", i, (double)c->recon[i], (double)slow[i]);
        qt_put(c->t, (double)c->recon[i], want + i * unit);
    }
    for (unsigned v = 0; v < n_cpu; v++) {
        qn_err err;
        qt_guarded p = qt_guard_tail(c->n_bytes);
        memcpy(p.p, c->payload, c->n_bytes);
        memset(dst, 0x55, n);
        cr_assert_eq(decode(cpu[v], &b, p.p, p.n, dst, &err), QN_OK, "%s", err.text);
        cr_assert(memcmp(dst, want, n) == 0, "variant %x", cpu[v]);
        cr_assert_eq(decode(cpu[v], &b, p.p, p.n - 1, dst, &err), QN_E_INPUT);
        qt_guard_free(&p);
    }
    free(want);
    free(dst);
    free(slow);
}

Test(pvq, round_trip)
{
    static const uint32_t shape[][2] = {{16, 1}, {1, 1}, {1, 7}, {15, 3}, {17, 33}, {48, 64}, {70, 19}, {128, 100}, {64, 300}};
    static const qn_dtype types[] = {QN_BF16, QN_F16, QN_F32};
    qt_rng r = qt_seed(1);
    for (size_t s = 0; s < sizeof shape / sizeof shape[0]; s++)
        for (unsigned kind = 0; kind < 4; kind++) {
            const uint32_t rows = shape[s][0], cols = shape[s][1];
            float *w = made(&r, rows, cols, kind);
            double *weight = malloc(cols * sizeof *weight);
            for (uint32_t j = 0; j < cols; j++)
                weight[j] = j % 9 == 4 ? 0 : exp(2 * qt_normal(&r));
            coded c = encode(1.0 + (double)((s + kind) % 4), types[(s + kind) % 3], rows, cols, w, kind % 2 ? weight : NULL, 0);
            coded other = encode(1.0 + (double)((s + kind) % 4), types[(s + kind) % 3], rows, cols, w, kind % 2 ? weight : NULL, qn_cpu_detect());
            cr_assert_gt(c.n_bytes, 0);
            cr_assert(c.n_bytes == other.n_bytes && memcmp(c.payload, other.payload, c.n_bytes) == 0);
            check(&c);
            put_away(&c);
            put_away(&other);
            free(w);
            free(weight);
        }
}

Test(pvq, damaged)
{
    qt_rng r = qt_seed(2);
    for (unsigned kind = 0; kind < 3; kind++) {
        const uint32_t rows = 40, cols = 50;
        float *w = made(&r, rows, cols, kind);
        double weight[50];
        for (uint32_t j = 0; j < cols; j++)
            weight[j] = exp(qt_normal(&r));
        coded c = encode(2 + kind, QN_BF16, rows, cols, w, weight, 0);
        const qn_block b = {QN_BF16, rows * cols, cols};
        cr_assert_gt(qt_codec_mutate(QN_CODEC_PVQ, &b, c.payload, c.n_bytes, NULL, 5 + kind, 400), 200);
        put_away(&c);
        free(w);
    }
}

static void refused(const uint8_t *p, size_t n, const qn_block *b, const char *what)
{
    uint8_t dst[4096];
    qn_err err;
    cr_assert_eq(decode(0, b, p, n, dst, &err), QN_E_INPUT, "%s: taken", what);
    cr_assert(strstr(err.text, what), "'%s' does not say '%s'", err.text, what);
}

/* One field wrong at a time; the payload by hand: 16 rows, 2 columns, K = 1, so five bits a column. */
Test(pvq, refused)
{
    static const uint8_t good[] = {4, 0, 0, 0x80, 0x3f, 1, 1, 0, 1, 1, 0xff, 1, 1, 0xff, 0xe1, 0x03};
    const qn_block b = {QN_F32, 32, 2}, odd = {QN_F32, 31, 2}, ints = {QN_I32, 32, 2};
    uint8_t dst[128], bad[sizeof good + 1];
    qn_err err;
    cr_assert_eq(decode(0, &b, good, sizeof good, dst, &err), QN_OK, "%s", err.text);
    /* index 1: the last coordinate −1; index 31: the first one −1; amplitude 16130 / 4096 */
    for (unsigned i = 0; i < 32; i++)
        cr_assert_eq(qn_bits_f32(qn_load32(dst + 4 * i)) + 0.0f, i == 30 || i == 1 ? -16130.0f / 4096 : 0.0f);
    refused(good, sizeof good, &odd, "whole rows");
    refused(good, sizeof good, &ints, "F32, F16, BF16");
    refused(good, sizeof good - 1, &b, "bytes of groups");
    static const struct {
        unsigned at, v;
        const char *what;
    } one[] = {{0, 3, "groups of"},    {0, 200, "groups of"}, {4, 0x7f, "scale"}, {4, 0xbf, "scale"}, {4, 0, "scale"},
               {5, 0, "classes"},      {5, 65, "classes"},    {6, 128, "pulses"}, {6, 127, "bytes of groups"}, {7, 6, "gain"},
               {15, 0x07, "bits behind"}, {8, 77, "codec"}};
    for (size_t i = 0; i < sizeof one / sizeof one[0]; i++) {
        memcpy(bad, good, sizeof good);
        bad[one[i].at] = (uint8_t)one[i].v;
        if (one[i].at == 8) {
            cr_assert_neq(decode(0, &b, bad, sizeof good, dst, &err), QN_OK);
            continue;
        }
        refused(bad, sizeof good, &b, one[i].what);
    }
    memcpy(bad, good, sizeof good);
    bad[sizeof good] = 0;
    cr_assert_eq(decode(0, &b, bad, sizeof good + 1, dst, &err), QN_E_INPUT);
    /* K = 2: 512 points need 9 bits; K = 3: 5472 points of 13 bits: 5472 is one too many */
    static const uint8_t over[] = {4, 0, 0, 0x80, 0x3f, 1, 3, 0, 1, 1, 0xff, 1, 1, 0xff, 0x60, 0x15};
    const qn_block narrow = {QN_F32, 16, 1};
    memcpy(bad, over, sizeof over);
    refused(bad, sizeof over, &narrow, "P(16, 3)");
    bad[sizeof over - 2]--;
    cr_assert_eq(decode(0, &narrow, bad, sizeof over, dst, &err), QN_OK, "%s", err.text);
    /* no pulses but bits of gain; classes out of order */
    static const uint8_t no_pulses[] = {4, 0, 0, 0x80, 0x3f, 1, 0, 1}, twice[] = {4, 0, 0, 0x80, 0x3f, 2, 5, 1, 5, 1};
    refused(no_pulses, sizeof no_pulses, &b, "pulses");
    refused(twice, sizeof twice, &b, "pulses");
    static const uint8_t class_2[] = {4, 0, 0, 0x80, 0x3f, 2, 1, 0, 2, 0, 0, 2, 0, 2, 1, 1, 0xff, 1, 1, 0xff, 0, 0};
    refused(class_2, sizeof class_2, &b, "class 2 of 2");
}

/* Bits on the page and mean squared error for normal weights: what was asked for, and what the table of offers promises. */
Test(pvq, rate_and_distortion)
{
    const uint32_t rows = 512, cols = 96;
    static const struct {
        double bits, least, most; /* error of a weight of variance 1 */
    } want[] = {{1, .355, .385}, {1.5, .190, .205}, {2, .0985, .107}, {3, .0255, .0275}, {4, .0063, .0069}};
    qt_rng r = qt_seed(3);
    float *w = made(&r, rows, cols, 0);
    for (size_t k = 0; k < sizeof want / sizeof want[0]; k++) {
        coded c = encode(want[k].bits, QN_BF16, rows, cols, w, NULL, 0);
        double error = 0, square = 0;
        for (size_t i = 0; i < (size_t)rows * cols; i++) {
            error += ((double)w[i] - (double)c.recon[i]) * ((double)w[i] - (double)c.recon[i]);
            square += (double)w[i] * (double)w[i];
        }
        const double bits = (double)c.n_bytes * 8 / rows / cols;
        cr_log_info("%g bits: %.4f on the page, error %.5f", want[k].bits, bits, error / square);
        cr_assert(bits <= want[k].bits + 0.005 && bits > want[k].bits - 0.03, "%g bits for %g", bits, want[k].bits);
        cr_assert(error / square > want[k].least && error / square < want[k].most, "%g bits: %g", bits, error / square);
        put_away(&c);
    }
    free(w);
}

Test(pvq, settings)
{
    static const qn_quant_settings bad[] = {{.bits = 0}, {.bits = 4.5}, {.bits = -1}, {.bits = (double)NAN}, {.bits = 2, .group = 32},
                                            {.bits = 2, .asymmetric = true}};
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const qn_quantizer *q;
        qn_err err = {0};
        cr_assert_eq(qn_quantizer_open("pvq", &bad[i], 0, &arena, &q, &err), QN_E_USAGE);
        cr_assert(err.text[0]);
    }
    qn_arena_release(&arena);
}

/* No room, and weights beyond what scales reach: the chunk is left to others. */
Test(pvq, declines)
{
    qt_rng r = qt_seed(9);
    float *w = made(&r, 32, 8, 0);
    for (unsigned i = 0; i < 256; i++)
        w[i] *= 1e30f;
    coded c = encode(2, QN_F32, 32, 8, w, NULL, 0);
    cr_assert_eq(c.n_bytes, 0);
    put_away(&c);
    free(w);
}
