/* test_ect_model.c: constants and tables of the entropy-coded trellis codec against their definitions. */
#include "base/half.h"
#include "runtime/ect.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

Test(ect_model, constants_are_what_they_are_called)
{
    for (unsigned i = 1; i <= 64; i++)
        cr_assert_eq(qn_ect_log2_tab[i], (uint32_t)lrint(log2(i) * 65536));
    for (unsigned i = 0; i <= 256; i++)
        cr_assert_eq(qn_ect_exp2_tab[i], (uint32_t)lrint(exp2(i / 256.0) * 0x1p24));
    for (unsigned i = 0; i < QN_ECT_STEPS; i++)
        cr_assert_eq(qn_ect_step_tab[i], qn_f32_bits((float)exp2(i / 16.0)));
}

Test(ect_model, steps)
{
    cr_assert_eq(qn_ect_step(3.0f, 0), 3.0f);
    cr_assert_eq(qn_ect_step(3.0f, 16), 6.0f);
    cr_assert_eq(qn_ect_step(1.0f, 240), 32768.0f);
    for (unsigned q = 0; q < 256; q++)
        cr_assert_float_eq(qn_ect_step(0.001f, q), 0.001 * exp2(q / 16.0), 0.001 * exp2(q / 16.0) * 2e-7);
}

/* Frequencies follow exp(−|ℓ/s|^b / b) but for rounding to whole slots. */
Test(ect_model, frequencies_follow_the_density)
{
    for (unsigned shape = 0; shape < QN_ECT_SHAPES; shape++)
        for (unsigned table = 0; table <= qn_ect_top[shape]; table++)
            for (unsigned z = 0; z < 2; z++) {
                const double b = 2 - 0.25 * shape, s = 0.4 * exp2(table / 6.0);
                uint16_t f[QN_ECT_SYMS];
                double w[QN_ECT_SYMS] = {0}, sum = 0;
                unsigned total = 0;
                qn_ect_freq(shape, table, z, f);
                for (int k = -30; k <= 30 - (int)z; k++) {
                    w[k + 32] = exp(-pow(fabs(2.0 * k + z) / s, b) / b);
                    sum += w[k + 32];
                }
                for (unsigned u = 0; u < QN_ECT_SYMS; u++)
                    total += f[u];
                cr_assert_eq(total, QN_ECT_M);
                cr_assert(f[0] == 1 && f[1] == 1);
                for (unsigned u = 2; u < QN_ECT_SYMS; u++) {
                    const double want = w[u] / sum * (QN_ECT_M - 2);
                    cr_assert_lt(f[u], QN_ECT_M);
                    if (u == QN_ECT_ZERO) /* takes what rounding leaves */
                        cr_assert_lt(fabs(f[u] - want), 40, "%u %u %u: %u for %g", shape, table, z, f[u], want);
                    else
                        cr_assert_lt(fabs(f[u] - want), 1.6, "%u %u %u %u: %u for %g", shape, table, z, u, f[u], want);
                    if (want < 0.02)
                        cr_assert_eq(f[u], 0);
                }
            }
}

/* Every symbol owns as many slots as its frequency says, with offsets 0 … f − 1, each once. */
Test(ect_model, alias_tables_are_a_partition)
{
    for (unsigned shape = 0; shape < QN_ECT_SHAPES; shape++)
        for (unsigned tab = 0; tab < 2 * QN_ECT_CLASSES; tab++) {
            uint16_t f[QN_ECT_SYMS];
            uint64_t bucket[QN_ECT_SYMS];
            static bool seen[QN_ECT_SYMS][QN_ECT_M];
            memset(seen, 0, sizeof seen);
            qn_ect_freq(shape, tab / 2, tab & 1, f);
            qn_ect_alias(f, bucket);
            for (unsigned slot = 0; slot < QN_ECT_M; slot++) {
                const uint64_t e = bucket[slot >> 8];
                const unsigned in = slot & 255, split = e & 511, other = e >> 9 & 63, add = e >> 15 & 16383;
                const bool own = in < split;
                const unsigned symbol = own ? slot >> 8 : other, offset = own ? in : (in + add) % QN_ECT_M,
                               freq = own ? e >> 32 & 16383 : e >> 46 & 16383;
                cr_assert_eq(freq, f[symbol]);
                cr_assert_lt(offset, freq);
                cr_assert_not(seen[symbol][offset]);
                seen[symbol][offset] = true;
            }
        }
}

/* Each state has two predecessors with the same half of the levels, and branches that meet differ in k's parity. */
Test(ect_model, codes_are_trellises)
{
    qn_ect_code c;
    cr_assert_not(qn_ect_code_get(1, &c));
    cr_assert_not(qn_ect_code_get(9, &c));
    cr_assert(qn_ect_code_get(0, &c));
    cr_assert_eq(qn_ect_next(&c, 0, 0) | qn_ect_next(&c, 0, 1), 0);
    for (unsigned nu = 2; nu <= 8; nu++) {
        unsigned from[256][2], n[256] = {0};
        cr_assert(qn_ect_code_get(nu, &c));
        for (unsigned s = 0; s < 1u << nu; s++)
            for (unsigned k = 0; k < 2; k++) {
                const unsigned t = qn_ect_next(&c, s, k);
                cr_assert_lt(t, 1u << nu);
                cr_assert_lt(n[t], 2u);
                from[t][n[t]++] = s << 1 | k;
            }
        for (unsigned t = 0; t < 1u << nu; t++) {
            cr_assert_eq(n[t], 2u);
            cr_assert_eq(from[t][0] >> 1 & 1, from[t][1] >> 1 & 1);
            cr_assert_neq(from[t][0] & 1, from[t][1] & 1);
        }
    }
}

Test(ect_model, classes_and_low_bits)
{
    cr_assert_eq(qn_ect_clamp(-5, 29), 0u);
    cr_assert_eq(qn_ect_clamp(400, 29), 77u);
    for (unsigned top = 23; top <= 29; top++)
        for (unsigned c = 0; c <= top + 48; c++) {
            const unsigned e = qn_ect_low_bits(c, top), t = qn_ect_table(c, top);
            cr_assert_leq(e, QN_ECT_LOW_MAX);
            cr_assert_leq(t, top);
            cr_assert_eq(c, t + 6 * e);
            cr_assert(e == 0 || t > top - 6);
        }
}

Test(ect_model, points_are_near_their_levels_and_symmetric)
{
    for (unsigned kind = 0; kind < 3; kind++)
        for (unsigned shape = 0; shape < QN_ECT_SHAPES; shape++)
            for (unsigned t = 0; t < QN_ECT_CLASSES; t++)
                for (int l = 0; l < 200; l += kind ? 1 : 2) {
                    const int32_t p = qn_ect_point(kind, shape, t, l);
                    cr_assert_lt(abs(p - 64 * l), 64);
                    cr_assert_eq(qn_ect_point(kind, shape, t, -l), -p);
                }
}
