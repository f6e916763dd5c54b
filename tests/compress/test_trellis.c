/* test_trellis.c: the trellis codec: its code against published numbers; what is promised is decoded, by a second decoder too that was
 * written from docs/codecs/trellis.md alone; damaged payloads; rates and distortions; that the path is the best one. */
#include "base/cpu.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/quantizer.h"
#include "compress/trellis_rate.h"
#include "compress/trellis_search.h"
#include "runtime/trellis.h"
#include "tests/support/coded.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static qt_coded encode(double bits, unsigned window, qn_dtype t, uint32_t rows, uint32_t cols, const float *w, const double *weight, unsigned cpu)
{
    return qt_coded_columns(QN_CODEC_TRELLIS, &(qn_quant_settings){.bits = bits, .window = window}, t, rows, cols, w, weight, cpu);
}

/* --- the second decoder: bit by bit, and sure of its payload ---------------------------------------------------------- */

static int slow_code(unsigned window, unsigned window_bits, unsigned k)
{
    const uint64_t x = (uint64_t)window * qn_trellis_multiplier[window_bits - 10][k - 1] % (UINT64_C(1) << 32);
    return (int)(x % 256 + x / 256 % 256 + x / 65536 % 256 + x / 16777216) - 510;
}

static void slow_decode(const qt_coded *c, float *dst)
{
    qn_cur cur = qn_cur_over(c->payload, c->n_bytes);
    const unsigned window_bits = qn_cur_u8(&cur);
    uint8_t *k = calloc(c->cols, 1), *steps = calloc(c->cols, 2), **string = calloc(c->cols, sizeof *string);
    uint32_t *have = calloc(c->cols, sizeof *have);
    qt_decode_nested(&cur, QN_U8, c->cols, k);
    qt_decode_nested(&cur, QN_BF16, c->cols, steps);
    for (uint32_t j = 0; j < c->cols; j++)
        string[j] = calloc(8 * (size_t)c->rows + 64, 1); /* a byte for each bit */
    for (uint32_t top = 0; top < c->rows; top += 32)
        for (uint32_t j0 = 0; j0 < c->cols; j0 += 16)
            for (uint32_t i = top; i < c->rows && i < top + 32; i++)
                for (uint32_t j = j0; j < c->cols && j < j0 + 16; j++)
                    if (k[j] * (i + 1) > have[j]) {
                        const uint32_t word = qn_cur_u32(&cur);
                        for (unsigned b = 0; b < 32; b++)
                            string[j][have[j]++] = word >> (31 - b) & 1;
                    }
    cr_assert(!cur.failed && qn_cur_left(&cur) == 0);
    for (uint32_t j = 0; j < c->cols; j++)
        for (uint32_t i = 0; i < c->rows; i++) {
            const int64_t n = (int64_t)k[j] * c->rows, end = (int64_t)k[j] * (i + 1);
            const float step = qn_bits_f32((uint32_t)qn_load16(steps + 2 * j) << 16);
            unsigned window = 0;
            for (int64_t b = end - window_bits; b < end; b++)
                window = window << 1 | (b >= 0 ? string[j][b] : n >= (int64_t)window_bits - k[j] ? string[j][n + b] : 0);
            dst[(size_t)i * c->cols + j] = k[j] ? (float)slow_code(window, window_bits, k[j]) * step : 0;
        }
    for (uint32_t j = 0; j < c->cols; j++)
        free(string[j]);
    free(string);
    free(have);
    free(steps);
    free(k);
}

/* The sum of bytes at windows 0, 1, 2 and 65535 (exllamav3's "mul1", quantization literature). */
Test(trellis, code)
{
    static const int want[][2] = {{0, -510}, {1, 95}, {2, -66}, {65535, -96}};
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(qn_trellis_value((uint32_t)want[i][0], 0x83DCD12D), want[i][1]);
    for (unsigned bits = 10; bits <= 16; bits++)
        for (unsigned k = 1; k <= 8; k++) {
            double sum = 0, square = 0;
            for (unsigned w = 0; w < 1u << bits; w++) {
                const int v = qn_trellis_value(w, qn_trellis_multiplier[bits - 10][k - 1]);
                cr_assert_eq(v, slow_code(w, bits, k));
                sum += v;
                square += (double)v * v;
            }
            cr_assert(qn_trellis_multiplier[bits - 10][k - 1] % 2, "all windows differ");
            cr_assert(fabs(sum) < 10.0 * (1 << bits) && fabs(sqrt(square / (1 << bits)) - 147.8) < 6, "L %u, K %u: mean %g, spread %g", bits, k,
                      sum / (1 << bits), sqrt(square / (1 << bits)));
        }
}

Test(trellis, round_trip)
{
    static const uint32_t shape[][2] = {{32, 1}, {1, 1}, {1, 7}, {15, 3}, {33, 33}, {64, 64}, {70, 19}, {128, 17}, {640, 2}};
    static const qn_dtype types[] = {QN_BF16, QN_F16, QN_F32};
    qt_rng r = qt_seed(1);
    for (size_t s = 0; s < sizeof shape / sizeof shape[0]; s++)
        for (unsigned kind = 0; kind < 4; kind++) {
            const uint32_t rows = shape[s][0], cols = shape[s][1], window = (uint32_t)(10 + (s + 3 * kind) % 4);
            const double bits = 1.3 + (double)((s + kind) % 4);
            float *w = qt_coded_weights(&r, rows, cols, kind, 0.1);
            double *weight = malloc(cols * sizeof *weight);
            for (uint32_t j = 0; j < cols; j++)
                weight[j] = j % 9 == 4 ? 0 : exp(3 * qt_normal(&r));
            qt_coded c = encode(bits, window, types[(s + kind) % 3], rows, cols, w, kind % 2 ? weight : NULL, 0);
            qt_coded other = encode(bits, window, types[(s + kind) % 3], rows, cols, w, kind % 2 ? weight : NULL, qn_cpu_detect());
            cr_assert_gt(c.n_bytes, 0);
            cr_assert(c.n_bytes == other.n_bytes && memcmp(c.payload, other.payload, c.n_bytes) == 0);
            qt_coded_check(&c, slow_decode);
            qt_coded_free(&c);
            qt_coded_free(&other);
            free(w);
            free(weight);
        }
}

Test(trellis, damaged)
{
    qt_rng r = qt_seed(2);
    for (unsigned kind = 0; kind < 3; kind++) {
        const uint32_t rows = 40, cols = 50;
        float *w = qt_coded_weights(&r, rows, cols, kind, 0.1);
        double weight[50];
        for (uint32_t j = 0; j < cols; j++)
            weight[j] = exp(qt_normal(&r));
        qt_coded c = encode(2 + kind, 10, QN_BF16, rows, cols, w, weight, 0);
        const qn_block b = {QN_BF16, rows * cols, cols};
        cr_assert_gt(qt_codec_mutate(QN_CODEC_TRELLIS, &b, c.payload, c.n_bytes, NULL, 5 + kind, 400), 100);
        qt_coded_free(&c);
        free(w);
    }
}

/* One field wrong at a time; the payload by hand: 3 rows of 2 columns, K = 8 and 0, steps 1 and 0: one word, three bytes of it used. */
Test(trellis, refused)
{
    static const uint8_t good[] = {10, 0, 2, 8, 0, 0, 4, 0x80, 0x3f, 0, 0, 0, 3, 2, 1};
    const qn_block b = {QN_F32, 6, 2}, odd = {QN_F32, 5, 2}, ints = {QN_I32, 6, 2};
    uint8_t dst[64], bad[sizeof good + 4] = {0};
    qn_err err;
    cr_assert_eq(qt_decode(QN_CODEC_TRELLIS, 0, &b, good, sizeof good, dst, &err), QN_OK, "%s", err.text);
    /* windows: the last two bits of 03, then 01; 01 02; 02 03 */
    static const unsigned window[] = {0x301, 0x102, 0x203};
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(qn_bits_f32(qn_load32(dst + 8 * i)), (float)slow_code(window[i], 10, 8));
        cr_assert_eq(qn_load32(dst + 8 * i + 4), 0);
    }
    qt_coded_refused(QN_CODEC_TRELLIS, good, sizeof good, &odd, "whole rows");
    qt_coded_refused(QN_CODEC_TRELLIS, good, sizeof good, &ints, "F32, F16, BF16");
    qt_coded_refused(QN_CODEC_TRELLIS, good, sizeof good - 1, &b, "bytes of words");
    memcpy(bad, good, sizeof good);
    qt_coded_refused(QN_CODEC_TRELLIS, bad, sizeof bad, &b, "bytes of words");
    static const struct {
        unsigned at, v;
        const char *what;
    } one[] = {{0, 9, "windows of 9 bits"}, {0, 17, "windows of 17 bits"}, {3, 9, "column 0 has 9 bits"}, {8, 0x7f, "step"}, {8, 0xbf, "step"},
               {8, 0, "step"}, {10, 0x3f, "step but no bits"}, {11, 1, "bits behind the end of column 0"}};
    for (size_t i = 0; i < sizeof one / sizeof one[0]; i++) {
        memcpy(bad, good, sizeof good);
        bad[one[i].at] = (uint8_t)one[i].v;
        qt_coded_refused(QN_CODEC_TRELLIS, bad, sizeof good, &b, one[i].what);
    }
    bad[0] = 10;
    cr_assert_neq(qt_decode(QN_CODEC_TRELLIS, 0, &b, bad, 0, dst, &err), QN_OK);
}

/* Least cost of a path from `first` back to it: plain dynamic programming. */
static double least_from(uint32_t first, const float *value, unsigned l, unsigned k, const float *x, uint32_t rows)
{
    static double cost[2][1 << 9];
    const uint32_t nodes = 1u << (l - k);
    for (uint32_t n = 0; n < nodes; n++)
        cost[0][n] = n == first ? 0 : HUGE_VAL;
    for (uint32_t i = 0; i < rows; i++) {
        double *from = cost[i % 2], *to = cost[1 - i % 2];
        for (uint32_t n = 0; n < nodes; n++)
            to[n] = HUGE_VAL;
        for (uint32_t w = 0; w < 1u << l; w++) {
            const double e = (double)x[i] - (double)value[w], c = from[w >> k] + e * e;
            to[w % nodes] = c < to[w % nodes] ? c : to[w % nodes];
        }
    }
    return cost[rows % 2][first];
}

/* Against the best of all ways to bite the tail: a seam that is chosen first may lose a little, nothing else may. */
Test(trellis, best_path)
{
    enum { ROWS = 60, K = 2, L = 10 };
    static float value[1 << L];
    qt_rng r = qt_seed(4);
    qn_ekern_trellis kern;
    double found = 0, best = 0;
    void *room = aligned_alloc(64, (qn_trellis_search_bytes(L) + 63) / 64 * 64);
    qn_ekern_trellis_init(&kern, 0);
    for (unsigned i = 0; i < 1u << L; i++)
        value[i] = (float)slow_code(i, L, K);
    for (unsigned round = 0; round < 4; round++) {
        float x[ROWS];
        uint8_t bits[ROWS];
        double least = HUGE_VAL, have = 0;
        for (unsigned i = 0; i < ROWS; i++)
            x[i] = (float)(150 * qt_normal(&r));
        const qn_trellis_walk w = {value, L, K};
        const uint32_t before = qn_trellis_search(&kern, &w, x, ROWS, bits, room);
        uint32_t window = before;
        for (unsigned i = 0; i < ROWS; i++) {
            window = (window << K | bits[i]) & ((1u << L) - 1);
            have += ((double)x[i] - (double)value[window]) * ((double)x[i] - (double)value[window]);
        }
        cr_assert_eq(before, window & 255, "the last eight bits come first");
        cr_assert_float_eq(have / least_from(before, value, L, K, x, ROWS), 1, 1e-5);
        for (uint32_t n = 0; n < 256; n++) {
            const double c = least_from(n, value, L, K, x, ROWS);
            least = c < least ? c : least;
        }
        found += have;
        best += least;
    }
    cr_log_info("error of paths found: %.4f times the least", found / best);
    cr_assert(found >= best * (1 - 1e-5) && found < 1.05 * best, "%g", found / best);
    free(room);
}

Test(trellis, search_variants)
{
    enum { ROWS = 700 };
    qt_rng r = qt_seed(6);
    float *value = aligned_alloc(64, 4 << 12), x[ROWS];
    void *room = aligned_alloc(64, (qn_trellis_search_bytes(12) + 63) / 64 * 64);
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (unsigned k = 1; k <= 8; k++)
        for (unsigned l = 10; l <= 12; l += 2) {
            uint8_t want[ROWS], got[ROWS];
            const uint32_t rows = k % 3 ? 97 + k : ROWS;
            uint32_t first = 0;
            for (unsigned i = 0; i < 1u << l; i++)
                value[i] = (float)slow_code(i, l, k);
            for (unsigned i = 0; i < rows; i++)
                x[i] = (float)((qt_below(&r, 30) ? 150 : 900) * qt_normal(&r));
            const qn_trellis_walk w = {value, l, k};
            for (unsigned v = 0; v < n_cpu; v++) {
                qn_ekern_trellis kern;
                qn_ekern_trellis_init(&kern, cpu[v]);
                const uint32_t at = qn_trellis_search(&kern, &w, x, rows, v ? got : want, room);
                first = v ? first : at;
                cr_assert(at == first && (v == 0 || memcmp(want, got, rows) == 0), "variant %x, L %u, K %u", cpu[v], l, k);
            }
        }
    free(value);
    free(room);
}

/* The budget is used and not overdrawn; no single bit moved from one column to another would make the sum smaller. */
Test(trellis, rate)
{
    enum { N = 60 };
    qt_rng r = qt_seed(8);
    for (unsigned round = 0; round < 20; round++) {
        double value[N], sum = 0;
        uint8_t k[N];
        const double bits = 0.5 + 0.37 * round;
        for (unsigned j = 0; j < N; j++)
            value[j] = j % 7 == 3 ? 0 : exp(2 * qt_normal(&r));
        qn_trellis_rate_choose(value, N, bits, k);
        for (unsigned j = 0; j < N; j++)
            sum += k[j];
        cr_assert(sum <= bits * N && (sum > bits * N - 1 || round > 15), "%g of %g bits", sum, bits * N);
        for (unsigned a = 0; a < N; a++)
            for (unsigned b = 0; b < N; b++)
                if (a != b && k[a] > 0 && k[b] < 8)
                    cr_assert(value[a] * (qn_trellis_error[k[a] - 1] - qn_trellis_error[k[a]]) >=
                              value[b] * (qn_trellis_error[k[b]] - qn_trellis_error[k[b] + 1]) * (1 - 1e-9));
    }
}

/* Bits on the page and mean squared error for normal weights. */
Test(trellis, rate_and_distortion)
{
    const uint32_t rows = 512, cols = 16;
    static const struct {
        double bits, most;
    } want[] = {{1, .285}, {1.5, .184}, {2, .0740}, {2.5, .0490}, {3, .0198}, {4, .0055}, {5, .0017}};
    qt_rng r = qt_seed(3);
    float *w = qt_coded_weights(&r, rows, cols, 0, 0.1);
    double before = 1;
    for (size_t k = 0; k < sizeof want / sizeof want[0]; k++) {
        qt_coded c = encode(want[k].bits + 11.0 / rows, 12, QN_F32, rows, cols, w, NULL, qn_cpu_detect());
        double error = 0, square = 0;
        for (size_t i = 0; i < (size_t)rows * cols; i++) {
            error += ((double)w[i] - (double)c.recon[i]) * ((double)w[i] - (double)c.recon[i]);
            square += (double)w[i] * (double)w[i];
        }
        const double bits = (double)c.n_bytes * 8 / rows / cols;
        cr_log_info("%g bits: %.4f on the page, error %.5f", want[k].bits, bits, error / square);
        cr_assert(bits <= want[k].bits + 0.06 && bits > want[k].bits, "%g bits for %g", bits, want[k].bits);
        cr_assert(error / square < want[k].most && error / square < before, "%g bits: %g", bits, error / square);
        before = error / square;
        qt_coded_free(&c);
    }
    free(w);
}

Test(trellis, settings)
{
    static const qn_quant_settings bad[] = {{.bits = 0}, {.bits = 8.5}, {.bits = -1}, {.bits = (double)NAN}, {.bits = 2, .window = 9},
                                            {.bits = 2, .window = 17}};
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const qn_quantizer *q;
        qn_err err = {0};
        cr_assert_eq(qn_quantizer_open("trellis", &bad[i], 0, &arena, &q, &err), QN_E_USAGE);
        cr_assert(err.text[0]);
    }
    qn_arena_release(&arena);
}
