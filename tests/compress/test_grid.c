/* test_grid.c: the grid codec: payloads worked by hand, every width, form and dtype under every CPU variant between guard
 * pages, extremes, damage. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/feedback.h"
#include "runtime/grid.h"
#include "tests/support/coded.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static qn_code decode(unsigned cpu, const qn_block *b, const uint8_t *p, size_t n, uint8_t *dst)
{
    qn_err err;
    const qn_code rc = qt_decode(QN_CODEC_GRID, cpu, b, p, n, dst, &err);
    cr_assert(rc == QN_OK || err.text[0]);
    return rc;
}

/* ---- by hand ---- */

/* Two rows of 5, groups of 3 (3 and 2), 3 bits, stored zero points, exponent 1: scales are doubled.
 * scales 1, 0.5 | 2, −1 as raw F16; zero points 0, 1 | 4, 7. Codes 0 1 7 5 2 | 3 6 4 7 0. */
static const uint8_t hand[] = {3, 2, 0, 1, 3,
                               QN_CODEC_RAW, 8, 0x00, 0x3c, 0x00, 0x38, 0x00, 0x40, 0x00, 0xbc,
                               QN_CODEC_RAW, 4, 0, 1, 4, 7,
                               /* 0 | 1 << 3 | 7 << 6 | 5 << 9 | 2 << 12 = 0x2bc8; 3 | 6 << 3 | 4 << 6 | 7 << 9 = 0x0f33 */
                               0xc8, 0x2b, 0x33, 0x0f};
static const float hand_values[] = {0, 2, 14, 4, 1, -4, 8, 0, 0, 14};

Test(grid, worked_by_hand)
{
    const qn_dtype types[] = {QN_F32, QN_BF16, QN_F16};
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (unsigned t = 0; t < 3; t++)
        for (unsigned c = 0; c < n_cpu; c++) {
            const qn_block b = {types[t], 10, 5};
            uint8_t out[40], want[40];
            for (unsigned i = 0; i < 10; i++)
                qt_put(types[t], (double)hand_values[i], want + i * qn_unit_bytes(types[t]));
            cr_assert_eq(decode(cpu[c], &b, hand, sizeof hand, out), QN_OK);
            for (unsigned i = 0; i < 10; i++) /* 0 × −1 is −0: compared as numbers, then as bits but for that one */
                if (i != 8)
                    cr_assert_eq(memcmp(out + i * qn_unit_bytes(types[t]), want + i * qn_unit_bytes(types[t]), qn_unit_bytes(types[t])), 0,
                                 "%u", i);
        }
}

Test(grid, middle_and_level)
{
    /* one row of 4, 2 bits, scale 2: levels −3 −1 1 3 around the middle, −4 −2 0 2 with zero a level */
    uint8_t p[] = {2, QN_GRID_ZERO_MIDDLE, 0, 0, 4, QN_CODEC_RAW, 2, 0x00, 0x40, 0xe4};
    const qn_block b = {QN_F32, 4, 4};
    float out[4];
    cr_assert_eq(decode(0, &b, p, sizeof p, (uint8_t *)out), QN_OK);
    cr_assert(out[0] == -3 && out[1] == -1 && out[2] == 1 && out[3] == 3);
    p[1] = QN_GRID_ZERO_LEVEL;
    cr_assert_eq(decode(0, &b, p, sizeof p, (uint8_t *)out), QN_OK);
    cr_assert(out[0] == -4 && out[1] == -2 && out[2] == 0 && out[3] == 2);
}

/* Three rows of 2, groups of two rows of a column: scales 1, 2 for the first two rows, −1, 0.5 for the third. */
Test(grid, columnwise_by_hand)
{
    static const uint8_t p[] = {2, QN_GRID_ZERO_LEVEL, QN_GRID_PACKED | QN_GRID_COLUMNWISE, 0, 2,
                                QN_CODEC_RAW, 8, 0x00, 0x3c, 0x00, 0x40, 0x00, 0xbc, 0x00, 0x38,
                                0x0c, 0x01, 0x0b}; /* codes 0 3 | 1 0 | 3 2: levels −2 1 | −1 −2 | 1 0 */
    static const float want[] = {-2, 2, -1, -4, -1, 0};
    const qn_block b = {QN_F32, 6, 2}, cut = {QN_F32, 5, 2};
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    for (unsigned c = 0; c < n_cpu; c++) {
        float out[6];
        cr_assert_eq(decode(cpu[c], &b, p, sizeof p, (uint8_t *)out), QN_OK);
        cr_assert_eq(memcmp(out, want, sizeof want), 0, "variant %x", cpu[c]);
    }
    float out[6];
    for (size_t n = 0; n < sizeof p; n++)
        cr_assert_eq(decode(0, &b, p, n, (uint8_t *)out), QN_E_INPUT, "cut at %zu", n);
    cr_assert_eq(decode(0, &cut, p, sizeof p, (uint8_t *)out), QN_E_INPUT); /* bits behind the end of the short row */
}

Test(grid, every_field_is_checked)
{
    static const struct {
        unsigned at, value;
        const char *what;
    } bad[] = {{0, 1, "one bit"}, {0, 9, "nine bits"}, {1, 3, "zero point kind"}, {2, 4, "form"}, {2, 2, "columnwise, groups of more rows than there are"}, {3, 101, "exponent"},
               {3, 0x9b, "exponent −101"}, {4, 0, "no group"}, {4, 6, "group wider than a row"}, {8, 0x7c, "infinite scale"},
               {8, 0x7e, "NaN scale"}, {17, 8, "zero point of four bits"}, {22, 0xab, "bits behind a row"}, {24, 0x8f, "the same"}};
    const qn_block b = {QN_F32, 10, 5};
    uint8_t p[sizeof hand + 1], out[40];
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memcpy(p, hand, sizeof hand);
        p[bad[i].at] = (uint8_t)bad[i].value;
        cr_assert_eq(decode(0, &b, p, sizeof hand, out), QN_E_INPUT, "%s", bad[i].what);
    }
    memcpy(p, hand, sizeof hand);
    p[sizeof hand] = 0;
    cr_assert_eq(decode(0, &b, p, sizeof p, out), QN_E_INPUT, "a byte too long");
    for (size_t n = 0; n < sizeof hand; n++)
        cr_assert_eq(decode(0, &b, p, n, out), QN_E_INPUT, "cut at %zu", n);
    const qn_block wrong = {QN_I32, 10, 5};
    cr_assert_eq(decode(0, &wrong, hand, sizeof hand, out), QN_E_INPUT);
}

/* ---- encoder and decoder ---- */

/* Quantizes for itself, without statistics. Returns the payload's size. */
static size_t encode(unsigned cpu, const qn_quant_settings *set, const qn_block *b, const float *w, uint8_t *payload, size_t cap,
                     uint8_t *decoded)
{
    const uint32_t rows = b->n / b->cols;
    qn_arena a, scratch;
    qn_ldl l;
    const qn_quantizer *q;
    qn_feedback_loss loss;
    qn_err err;
    size_t n_out;
    qn_err_clear(&err);
    qn_arena_init(&a, NULL);
    qn_arena_init(&scratch, NULL);
    cr_assert_eq(qn_quantizer_open("grid", set, cpu, &a, &q, &err), QN_OK, "%s", err.text);
    const uint32_t group = q->group_cols && q->group_cols < b->cols ? q->group_cols : b->cols;
    cr_assert_eq(qn_ldl_make(&l, NULL, b->cols, NULL, NULL, group, QN_ORDER_NATURAL, 0, &err), QN_OK);
    const qn_quant_layer layer = {.name = "w", .rows = rows, .cols = b->cols, .dtype = b->dtype};
    const qn_feedback_job j = {.q = q, .layer = &layer, .ldl = &l, .rows = rows, .w = w};
    float *recon = malloc((size_t)b->n * sizeof *recon);
    cr_assert_eq(qn_feedback_segment(&j, recon, payload, cap, &n_out, &loss, &scratch, &err), QN_OK, "%s", err.text);
    for (uint32_t i = 0; n_out && i < b->n; i++) {
        uint8_t *to = decoded + (size_t)i * qn_unit_bytes(b->dtype);
        if (b->dtype == QN_F32)
            qn_store32(to, qn_f32_bits(recon[i]));
        else
            qn_store16(to, b->dtype == QN_F16 ? qn_f32_to_f16(recon[i]) : qn_f32_to_bf16(recon[i]));
    }
    free(recon);
    qn_ldl_release(&l);
    qn_arena_release(&scratch);
    qn_arena_release(&a);
    return n_out;
}

/* What the encoder says it decodes to is what it decodes to, everywhere. Returns Σ (w − ŵ)² / Σ w². */
static double check(const qn_quant_settings *set, const qn_block *b, const float *w, unsigned n_damages)
{
    const size_t n_bytes = (size_t)b->n * qn_unit_bytes(b->dtype), cap = n_bytes + 4096;
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    uint8_t *first = malloc(cap), *other = malloc(cap), *want = malloc(n_bytes);
    const size_t n = encode(0, set, b, w, first, cap, want);
    cr_assert(n > 0);
    qt_guarded pay = qt_guard_tail(n), dst = qt_guard_tail(n_bytes), head = qt_guard_head(n_bytes);
    memcpy(pay.p, first, n);
    for (unsigned i = 0; i < n_cpu; i++) {
        cr_assert_eq(encode(cpu[i], set, b, w, other, cap, want), n);
        cr_assert_eq(memcmp(first, other, n), 0, "variant %x encodes otherwise", cpu[i]);
        uint8_t *to = i % 2 ? head.p : dst.p;
        memset(to, 0xa5, n_bytes);
        cr_assert_eq(decode(cpu[i], b, pay.p, n, to), QN_OK);
        cr_assert_eq(memcmp(to, want, n_bytes), 0, "variant %x: %g bits group %u %s", cpu[i], set->bits, set->group,
                     qn_dtype_name(b->dtype));
    }
    if (n_damages)
        cr_assert(qt_codec_mutate(QN_CODEC_GRID, b, first, n, NULL, n, n_damages) > 0);
    double *v = malloc((size_t)b->n * sizeof *v), e2 = 0, w2 = 0;
    cr_assert_eq(qn_widen(b->dtype, want, b->n, v, NULL), QN_OK);
    for (uint32_t i = 0; i < b->n; i++) {
        e2 += (v[i] - (double)w[i]) * (v[i] - (double)w[i]);
        w2 += (double)w[i] * (double)w[i];
    }
    free(v);
    free(first);
    free(other);
    free(want);
    qt_guard_free(&pay);
    qt_guard_free(&dst);
    qt_guard_free(&head);
    return w2 > 0 ? e2 / w2 : e2;
}

Test(grid, all_widths_groups_dtypes)
{
    const qn_dtype types[] = {QN_F32, QN_BF16, QN_F16};
    static const uint32_t cols[] = {32, 64, 77, 200}, groups[] = {16, 32, 24, 37, UINT32_MAX};
    qt_rng r = qt_seed(1);
    float *w = malloc(200 * 21 * sizeof *w);
    for (unsigned bits = 2; bits <= 8; bits++)
        for (unsigned t = 0; t < 3; t++)
            for (unsigned c = 0; c < 4; c++)
                for (unsigned g = 0; g < 5; g++)
                    for (unsigned way = 0; way < 4; way++) {
                        if (qt_sanitized() && (bits + t + c + g + way) % 4)
                            continue;
                        const unsigned asym = way & 1;
                        const qn_block b = {types[t], cols[c] * 21, cols[c]};
                        const qn_quant_settings set = {.bits = bits, .group = way & 2 && g == 3 ? 7 : groups[g], .asymmetric = asym,
                                                       .columnwise = way & 2, .packed = (bits + g) % 3 == 0};
                        for (uint32_t i = 0; i < b.n; i++)
                            w[i] = (float)(0.02 * qt_normal(&r) + (asym ? 0.03 : 0));
                        const double e = check(&set, &b, w, g == 1 && c == 2 ? 200 : 0);
                        cr_assert_lt(e, pow(0.25, bits) * (bits < 4 ? 3 : 6) + 2e-5, "%u bits, group %u of %u, asymmetric %u: %g", bits,
                                     groups[g], cols[c], asym, e);
                    }
    free(w);
}

/* Codes that cannot be compressed stay packed; ones that can are not, unless they must. */
Test(grid, forms)
{
    enum { COLS = 128, ROWS = 64, N = COLS * ROWS };
    qt_rng r = qt_seed(2);
    float *w = malloc(N * sizeof *w);
    uint8_t *p = malloc(4 * N), *d = malloc(4 * N);
    const qn_block b = {QN_F32, N, COLS};
    const qn_quant_settings set = {.bits = 4, .group = 128};
    for (unsigned flat = 0; flat < 2; flat++) {
        for (unsigned i = 0; i < N; i++) /* evenly spread over the 16 levels, or mostly near zero */
            w[i] = flat ? (float)qt_below(&r, 16) - 7.5f : (float)(qt_normal(&r) * (i % 50 ? 0.1 : 1));
        const size_t n = encode(0, &set, &b, w, p, 4 * N, d);
        cr_assert_eq(p[2], flat ? QN_GRID_PACKED : QN_GRID_NESTED);
        if (flat)
            cr_assert(n > N / 2 && n < N / 2 + 200, "%zu", n);
        else
            cr_assert_lt(n, N / 2);
        (void)check(&set, &b, w, 300);
        const qn_quant_settings must = {.bits = 4, .group = 128, .packed = true};
        uint8_t *same = malloc(4 * N);
        const size_t n_must = encode(0, &must, &b, w, p, 4 * N, same);
        cr_assert_eq(p[2], QN_GRID_PACKED);
        cr_assert(n_must > N / 2 && n_must < N / 2 + 200, "%zu", n_must);
        cr_assert_eq(memcmp(same, d, 4 * N), 0);
        (void)check(&must, &b, w, 0);
        free(same);
    }
    free(w);
    free(p);
    free(d);
}

Test(grid, extremes)
{
    enum { COLS = 64, ROWS = 3, N = COLS * ROWS };
    static const float sizes[] = {0, 1e-45f, 1e-38f, 1e-30f, 1e-6f, 1, 65504, 1e20f, 1e30f};
    float w[N];
    qt_rng r = qt_seed(3);
    for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (unsigned kind = 0; kind < 4; kind++)
            for (unsigned asym = 0; asym < 2; asym++) {
                const qn_quant_settings set = {.bits = 4, .group = 32, .asymmetric = asym};
                const qn_block b = {QN_F32, N, COLS};
                for (unsigned i = 0; i < N; i++)
                    w[i] = kind == 0   ? sizes[s]
                           : kind == 1 ? (float)qt_normal(&r) * sizes[s]
                           : kind == 2 ? (i % 32 == 7 ? sizes[s] : 0)
                                       : -sizes[s];
                const double e = check(&set, &b, w, 0);
                if (sizes[s] >= 1e-30f && sizes[s] <= 1e30f)
                    cr_assert_lt(e, 0.02, "%g kind %u: %g", (double)sizes[s], kind, e);
            }
}

/* Zeros that are many stay exactly zero. */
Test(grid, zeros_of_a_pruned_layer_stay)
{
    enum { COLS = 64, ROWS = 16, N = COLS * ROWS };
    float w[N];
    uint8_t p[4 * N], d[4 * N];
    qt_rng r = qt_seed(4);
    const qn_quant_settings set = {.bits = 4, .group = 32};
    const qn_block b = {QN_F32, N, COLS};
    for (unsigned i = 0; i < N; i++)
        w[i] = i % 2 ? 0 : (float)qt_normal(&r);
    cr_assert(encode(0, &set, &b, w, p, sizeof p, d) > 0);
    for (unsigned i = 1; i < N; i += 2)
        cr_assert_eq(qn_load32(d + 4 * i) << 1, 0);
}

Test(grid, settings_are_checked)
{
    static const double bad[] = {1, 9, 3.5, 0, -4, 1e9};
    qn_arena a;
    const qn_quantizer *q;
    qn_arena_init(&a, NULL);
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const qn_quant_settings set = {.bits = bad[i]};
        cr_assert_eq(qn_quantizer_open("grid", &set, 0, &a, &q, NULL), QN_E_USAGE);
    }
    const qn_quant_settings set = {.bits = 4};
    cr_assert_eq(qn_quantizer_open("grind", &set, 0, &a, &q, NULL), QN_E_USAGE);
    qn_arena_release(&a);
}
