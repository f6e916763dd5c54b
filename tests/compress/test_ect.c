/* test_ect.c: the entropy-coded trellis codec: search, payload, quantizer; a second decoder written from docs/codecs/ect.md. */
#include "base/cpu.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/ect_pack.h"
#include "compress/feedback.h"
#include "runtime/nest.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static qn_kern kern;
static qn_ekern ekern;

/* --- the second decoder: one unit at a time, slots looked up by counting ------------------------------------------ */

static void plain_decode(const uint8_t *p, size_t n_bytes, uint32_t n, float *out)
{
    qn_arena scratch;
    qn_err e = {0};
    qn_code rc = QN_OK;
    qn_arena_init(&scratch, NULL);
    const qn_dec_ctx cx = {.kern = &kern, .scratch = &scratch};
    qn_cur c = qn_cur_over(p, n_bytes);
    const unsigned first = qn_cur_u8(&c), shape = qn_cur_u8(&c), nu = first & 15, lanes = 1u << (first >> 4);
    const float base = qn_bits_f32(qn_cur_u32(&c));
    const uint32_t cols = (uint32_t)qn_cur_varint(&c), rows = n / cols;
    const qn_block by_col = {QN_U8, cols, cols}, by_row = {QN_U8, rows, rows};
    const uint8_t *q = qn_nest_get(&cx, &c, &by_col, "q", &rc, &e), *stored = qn_nest_get(&cx, &c, &by_col, "v", &rc, &e),
                  *row = qn_nest_get(&cx, &c, &by_row, "r", &rc, &e);
    cr_assert(q && stored && row);
    const uint64_t n_escapes = qn_cur_varint(&c), n_words = qn_cur_varint(&c);
    uint32_t x[64];
    for (unsigned i = 0; i < lanes; i++)
        x[i] = qn_cur_u32(&c);
    qn_cur words = qn_cur_over(qn_cur_take(&c, 2 * n_words), 2 * n_words), escapes = qn_cur_over(qn_cur_take(&c, 2 * n_escapes), 2 * n_escapes);
    const uint8_t *low = p + c.at;
    uint64_t low_at = 0;
    static const unsigned tops[] = {29, 29, 28, 25, 23}, h0[] = {0, 0, 2, 5, 9, 18, 33, 78, 166}, h1[] = {0, 0, 1, 2, 2, 4, 10, 43, 121};
    unsigned *state = calloc(cols, sizeof *state);
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < cols; j++) {
            int class = (uint8_t)(stored[j] - 3 * q[j] / 8) + (int8_t)row[i], e_bits = 0;
            class = class < 0 ? 0 : class > (int)tops[shape] + 48 ? (int)tops[shape] + 48 : class;
            const int whole = class;
            for (; class > (int)tops[shape]; class -= 6)
                e_bits++;
            uint16_t freq[64];
            uint64_t bucket[64];
            const unsigned z = state[j] & 1;
            qn_ect_freq(shape, (unsigned)class, z, freq);
            qn_ect_alias(freq, bucket);
            uint32_t *s = &x[j % lanes];
            const unsigned slot = *s % 16384, in = slot % 256;
            const uint64_t b = bucket[slot / 256];
            const bool own = in < b % 512;
            const unsigned symbol = own ? slot / 256 : b >> 9 & 63, offset = own ? in : (in + (b >> 15 & 16383)) % 16384;
            *s = freq[symbol] * (*s / 16384) + offset;
            if (*s < 65536)
                *s = *s * 65536 + qn_cur_u16(&words);
            int half = ((int)symbol - 32 - (int)(symbol & 1)) / 2;
            if (symbol < 2)
                half = (int16_t)qn_cur_u16(&escapes);
            for (int k = 0; k < e_bits; k++)
                half *= 2;
            for (int k = 0; k < e_bits; k++, low_at++)
                half += (low[low_at / 8] >> low_at % 8 & 1) << k;
            const int k = 2 * half + (int)(symbol & 1), level = 2 * k + (int)z;
            float point = (float)level;
            if (!e_bits)
                point = (float)qn_ect_point(nu == 0 ? 0 : nu <= 3 ? 1 : 2, shape, (unsigned)whole, level) / 64;
            out[(size_t)i * cols + j] = point * qn_ect_step(base, q[j]);
            state[j] = state[j] / 2 ^ (z ? h0[nu] : 0) ^ (k & 1 ? h1[nu] : 0);
        }
    free(state);
    cr_assert_eq(qn_cur_left(&words) + qn_cur_left(&escapes), 0);
    cr_assert_eq((low_at + 7) / 8, n_bytes - c.at);
    qn_arena_release(&scratch);
}

/* --- whole payloads ----------------------------------------------------------------------------------------------- */

typedef struct made {
    float *w, *recon;
    uint8_t *payload;
    size_t n_out;
    double error, square;
} made;

static made quantize(uint32_t rows, uint32_t cols, qn_dtype dtype, float *w, double bits, uint32_t states, unsigned cpu, const double *weight)
{
    const uint64_t n = (uint64_t)rows * cols;
    made m = {.w = w, .recon = malloc(n * 4), .payload = malloc(n * 8 + 4096)};
    qn_arena a, scratch;
    qn_err e = {0};
    const qn_quantizer *q;
    const void *plan;
    qn_ldl ldl = QN_LDL_EMPTY;
    double *diagonal = NULL;
    const qn_quant_settings set = {.bits = bits, .states = states};
    qn_arena_init(&a, NULL);
    qn_arena_init(&scratch, NULL);
    qn_kern_init(&kern, 0);
    qn_ekern_init(&ekern, 0);
    if (weight) {
        diagonal = malloc(cols * sizeof *diagonal);
        memcpy(diagonal, weight, cols * sizeof *diagonal);
    }
    cr_assert_eq(qn_quantizer_open("ect", &set, cpu, &a, &q, &e), QN_OK);
    cr_assert_eq(qn_ldl_make(&ldl, NULL, cols, NULL, diagonal, cols, QN_ORDER_NATURAL, 0, &e), QN_OK);
    const qn_quant_layer layer = {.name = "w", .rows = rows, .cols = cols, .dtype = dtype, .weight = ldl.weight, .sample = w,
                                  .n_sample = rows < 64 ? rows : 64, .ldl = &ldl, .segment_rows = rows};
    cr_assert_eq(q->ops->begin(q, &layer, &a, &plan, &e), QN_OK);
    const qn_feedback_job job = {.q = q, .layer = &layer, .plan = plan, .ldl = &ldl, .rows = rows, .w = w};
    qn_feedback_loss loss;
    cr_assert_eq(qn_feedback_segment(&job, m.recon, m.payload, n * 8 + 4096, &m.n_out, &loss, &scratch, &e), QN_OK, "%s", e.text);
    m.error = loss.error;
    m.square = loss.square;
    qn_ldl_release(&ldl);
    free(diagonal);
    qn_arena_release(&a);
    qn_arena_release(&scratch);
    return m;
}

static void free_made(made *m)
{
    free(m->w);
    free(m->recon);
    free(m->payload);
}

/* The library's decoder under every variant, and the second one, give what the quantizer said. */
static void check_decoders(const made *m, uint32_t rows, uint32_t cols, qn_dtype dtype)
{
    const uint32_t n = rows * cols, unit = qn_unit_bytes(dtype);
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    cr_assert_gt(m->n_out, 0);
    float *plain = malloc((size_t)n * 4);
    plain_decode(m->payload, m->n_out, n, plain);
    qn_feedback_round(dtype, plain, n);
    cr_assert_eq(memcmp(plain, m->recon, (size_t)n * 4), 0);
    for (unsigned i = 0; i < n_cpu; i++) {
        qn_kern k;
        qn_arena scratch;
        qn_err e = {0};
        qt_guarded out = qt_guard_tail((size_t)n * unit), in = qt_guard_tail(m->n_out);
        qn_kern_init(&k, cpu[i]);
        qn_arena_init(&scratch, NULL);
        memcpy(in.p, m->payload, m->n_out);
        const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch};
        const qn_block b = {dtype, n, cols};
        cr_assert_eq(qn_codec_decode(&cx, QN_CODEC_ECT, &b, in.p, m->n_out, out.p, &e), QN_OK, "%s", e.text);
        for (uint32_t j = 0; j < n; j++) {
            const float v = dtype == QN_F32 ? qn_bits_f32(qn_load32(out.p + 4 * (size_t)j))
                          : dtype == QN_BF16 ? qn_bf16_to_f32(qn_load16(out.p + 2 * (size_t)j))
                                             : qn_f16_to_f32(qn_load16(out.p + 2 * (size_t)j));
            cr_assert_eq(qn_f32_bits(v), qn_f32_bits(m->recon[j]));
        }
        qn_arena_release(&scratch);
        qt_guard_free(&out);
        qt_guard_free(&in);
    }
    free(plain);
}

static float *normal(qt_rng *r, uint32_t rows, uint32_t cols, double sigma)
{
    float *w = malloc((size_t)rows * cols * sizeof *w);
    for (size_t i = 0; i < (size_t)rows * cols; i++)
        w[i] = (float)(qt_normal(r) * sigma);
    return w;
}

Test(ect, every_trellis_and_rate_comes_back)
{
    const uint32_t states[] = {1, 4, 8, 16, 32, 64, 128, 256};
    const double bits[] = {0.3, 2.5, 6};
    const qn_dtype types[] = {QN_F32, QN_BF16, QN_F16};
    qt_rng r = qt_seed(1);
    for (size_t s = 0; s < 8; s++)
        for (size_t k = 0; k < 3; k++) {
            const uint32_t rows = 40 + (uint32_t)qt_below(&r, 30), cols = 33 + (uint32_t)qt_below(&r, 60);
            made m = quantize(rows, cols, types[k], normal(&r, rows, cols, 0.02), bits[(s + k) % 3], states[s], 0, NULL);
            check_decoders(&m, rows, cols, types[k]);
            free_made(&m);
        }
}

/* Rows and columns of very different scales, outliers, zeros: escapes, low bits, classes at both ends. */
Test(ect, unruly_layers_come_back)
{
    enum { ROWS = 70, COLS = 64 };
    qt_rng r = qt_seed(2);
    unsigned n_fit = 0;
    for (unsigned round = 0; round < 12; round++) {
        double weight[COLS];
        float *w = normal(&r, ROWS, COLS, 0.05);
        for (uint32_t i = 0; i < ROWS; i++)
            for (uint32_t j = 0; j < COLS; j++) {
                float *v = &w[i * COLS + j];
                *v *= (float)exp2((double)(i % 7) - 3 + (round % 3) * (double)(j % 5));
                *v = j == 5 || i == 9 ? 0 : qt_below(&r, 200) == 0 ? *v * 1000 : *v;
            }
        for (uint32_t j = 0; j < COLS; j++)
            weight[j] = j == 3 ? 0 : exp2((double)(j % 13) * (round % 4) * 2 - 10);
        made m = quantize(ROWS, COLS, round & 1 ? QN_F32 : QN_BF16, w, round < 6 ? 3 : 7.5, round & 2 ? 8 : 256, 0, round & 4 ? NULL : weight);
        if (m.n_out) { /* 0: an outlier beyond the last level, in a row that the sample did not have */
            check_decoders(&m, ROWS, COLS, round & 1 ? QN_F32 : QN_BF16);
            for (uint32_t i = 0; i < ROWS * COLS; i++)
                cr_assert(isfinite(m.recon[i]));
            n_fit++;
        }
        free_made(&m);
    }
    cr_expect_geq(n_fit, 8);
}

/* Columns of which some count a million times as much as others: none runs out of levels. */
Test(ect, uneven_columns_keep_their_levels)
{
    enum { ROWS = 200, COLS = 48 };
    qt_rng r = qt_seed(11);
    double weight[COLS];
    for (uint32_t j = 0; j < COLS; j++)
        weight[j] = exp2((double)(j % 12) * 4 - 10);
    for (double bits = 4; bits <= 8; bits += 2) {
        made m = quantize(ROWS, COLS, QN_F32, normal(&r, ROWS, COLS, 0.05), bits, 8, 0, weight);
        for (uint32_t j = 0; j < COLS; j++) {
            double e = 0, s = 0;
            for (uint32_t i = 0; i < ROWS; i++) {
                const double w = (double)m.w[i * COLS + j], d = w - (double)m.recon[i * COLS + j];
                e += d * d;
                s += w * w;
            }
            if (weight[j] > 1e8)
                cr_expect_lt(e / s, 1e-5, "%g bits, column %u: %g", bits, j, e / s);
        }
        free_made(&m);
    }
}

/* The same payload whatever the processor. */
Test(ect, payloads_do_not_depend_on_the_processor)
{
    enum { ROWS = 150, COLS = 96 };
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (uint32_t states = 4; states <= 256; states *= 2) {
        qt_rng r = qt_seed(states);
        made a = quantize(ROWS, COLS, QN_F32, normal(&r, ROWS, COLS, 1), 2.2, states, 0, NULL);
        for (unsigned i = 1; i < n_cpu; i++) {
            r = qt_seed(states);
            made b = quantize(ROWS, COLS, QN_F32, normal(&r, ROWS, COLS, 1), 2.2, states, cpu[i], NULL);
            cr_assert(a.n_out == b.n_out && memcmp(a.payload, b.payload, a.n_out) == 0);
            free_made(&b);
        }
        free_made(&a);
    }
}

/* Bits above Shannon's bound for a normal source, all bytes counted, and the rate that was asked for. */
Test(ect, distance_to_the_bound, .timeout = 300)
{
    enum { ROWS = 4096, COLS = 64 };
    const struct {
        uint32_t states;
        double gap;
    } want[] = {{1, 0.28}, {4, 0.115}, {8, 0.098}, {256, 0.06}};
    for (size_t s = 0; s < 4; s++) {
        qt_rng r = qt_seed(3);
        made m = quantize(ROWS, COLS, QN_F32, normal(&r, ROWS, COLS, 0.3), 2, want[s].states, qn_cpu_detect(), NULL);
        const double bits = 8.0 * (double)m.n_out / (ROWS * COLS), gap = 0.5 * log2(m.error / m.square) + bits;
        cr_assert_lt(fabs(bits - 2), 0.06, /* told from 4096 weights */
                     "%u states: %g bits", want[s].states, bits);
        cr_assert_lt(gap, want[s].gap, "%u states", want[s].states);
        cr_assert_gt(gap, 0.02, "below the bound: something is not counted");
        free_made(&m);
    }
}

/* Against all paths of a short column. */
Test(ect, viterbi_finds_the_cheapest_path)
{
    enum { ROWS = 12 };
    qt_rng r = qt_seed(4);
    static qn_ect_book b;
    for (unsigned round = 0; round < 60; round++) {
        const unsigned nu = 2 + round % 7;
        qn_ect_branch br[ROWS + 16];
        uint8_t decisions[ROWS * 32 + 1];
        qn_ect_book_make(&b, nu, 0, 0);
        for (unsigned i = 0; i < ROWS; i++)
            for (unsigned d = 0; d < 4; d++)
                br[i].cost[d] = (uint16_t)qt_below(&r, round & 1 ? 2000 : QN_ECT_COST_MAX + 1);
        qn_ect_viterbi_c(&b.code, br, ROWS, decisions);
        unsigned least = UINT32_MAX, found = 0;
        for (unsigned path = 0; path < 1u << ROWS; path++) {
            unsigned s = 0, sum = 0;
            for (unsigned i = 0; i < ROWS; i++) {
                sum += br[i].cost[2 * (s & 1) + (path >> i & 1)];
                s = qn_ect_next(&b.code, s, path >> i & 1);
            }
            least = sum < least ? sum : least;
        }
        /* the path that was chosen, walked back and then forward */
        const unsigned n = 1u << nu, step = n < 8 ? 1 : n / 8;
        unsigned bit[ROWS], s = decisions[ROWS * step];
        for (unsigned i = ROWS; i-- > 0;) {
            bit[i] = decisions[i * step + s / 8] >> s % 8 & 1;
            unsigned before = n;
            for (unsigned t = 0; t < n; t++)
                before = qn_ect_next(&b.code, t, bit[i]) == s ? t : before;
            cr_assert_lt(before, n);
            s = before;
        }
        cr_assert_eq(s, 0u);
        for (unsigned i = 0; i < ROWS; i++) {
            found += br[i].cost[2 * (s & 1) + bit[i]];
            s = qn_ect_next(&b.code, s, bit[i]);
        }
        if (round & 1)
            cr_assert_eq(found, least);
        else /* sums may saturate */
            cr_assert_leq(least, found);
    }
}

Test(ect, damage)
{
    qt_rng r = qt_seed(5);
    for (unsigned round = 0; round < 4; round++) {
        const uint32_t rows = 37, cols = 64 + round;
        float *w = normal(&r, rows, cols, 1);
        for (uint32_t i = 0; i < rows * cols; i += 97)
            w[i] *= 3000;
        made m = quantize(rows, cols, QN_F32, w, round & 1 ? 7 : 2, round & 2 ? 1 : 64, 0, NULL);
        const qn_block b = {QN_F32, rows * cols, cols};
        cr_assert_gt(qt_codec_mutate(QN_CODEC_ECT, &b, m.payload, m.n_out, NULL, round, qt_rounds(1500)), qt_rounds(700));
        free_made(&m);
    }
}

Test(ect, settings_are_checked)
{
    qn_arena a;
    qn_err e = {0};
    const qn_quantizer *q;
    const qn_quant_settings bad[] = {{.bits = 2, .states = 2}, {.bits = 2, .states = 512}, {.bits = 2, .states = 12}, {.bits = 0.01}, {.bits = 9}};
    qn_arena_init(&a, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(qn_quantizer_open("ect", &bad[i], 0, &a, &q, &e), QN_E_USAGE);
    qn_arena_release(&a);
}
