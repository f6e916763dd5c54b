/* test_onnx_nbits.c: MatMulNBits against the product with weights that are dequantized here, one code at a time, in double precision. */
#include "base/half.h"
#include "tests/support/onnx_op.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { M = 3, N = 13, K_MOST = 150, BLOCK = 32, BLOCKS_MOST = 5 };

static qn_err err;

typedef struct made {
    uint8_t b[N * BLOCKS_MOST * BLOCK], zero[N * BLOCKS_MOST];
    float scale[N * BLOCKS_MOST], zero_f[N * BLOCKS_MOST], a[M * K_MOST], bias[N];
} made;

static void fill(made *m, uint64_t seed)
{
    qt_rng r = qt_seed(seed);
    for (unsigned i = 0; i < sizeof m->b; i++)
        m->b[i] = (uint8_t)qt_below(&r, 256);
    for (unsigned i = 0; i < sizeof m->zero; i++)
        m->zero[i] = (uint8_t)qt_below(&r, 256);
    for (unsigned i = 0; i < N * BLOCKS_MOST; i++) {
        m->scale[i] = (float)(0.1 + fabs(qt_normal(&r)));
        m->zero_f[i] = (float)qt_below(&r, 8) + 0.5f;
    }
    for (unsigned i = 0; i < M * K_MOST; i++)
        m->a[i] = (float)qt_normal(&r);
    for (unsigned i = 0; i < N; i++)
        m->bias[i] = (float)qt_normal(&r);
}

/* Code number i of a string of bits, the lowest first. */
static unsigned code(const uint8_t *p, unsigned i, unsigned bits)
{
    unsigned v = 0;
    for (unsigned k = 0; k < bits; k++)
        v |= (unsigned)(p[(i * bits + k) / 8] >> ((i * bits + k) % 8) & 1) << k;
    return v;
}

/* zeros: 0 none, 1 packed integers, 2 floats */
static double weight(const made *m, unsigned bits, unsigned k_all, unsigned zeros, unsigned n, unsigned k)
{
    const unsigned blocks = (k_all + BLOCK - 1) / BLOCK, g = k / BLOCK, at = n * blocks + g, row = (blocks * bits + 7) / 8;
    const double zero = zeros == 1 ? code(m->zero + n * row, g, bits) : zeros == 2 ? (double)m->zero_f[at] : (double)(1u << (bits - 1));
    return (code(m->b + at * BLOCK * bits / 8, k % BLOCK, bits) - zero) * (double)m->scale[at];
}

static void check(unsigned bits, unsigned k_all, unsigned zeros, bool biased, bool flat)
{
    static made m;
    const int64_t blocks = (k_all + BLOCK - 1) / BLOCK, blob = BLOCK * bits / 8, row = (blocks * bits + 7) / 8;
    qn_array y;
    fill(&m, bits * 1000 + k_all);
    qt_op op = {.type = "MatMulNBits", .domain = "com.microsoft", .version = 1,
                .attrs = {QT_I("K", k_all), QT_I("N", N), QT_I("bits", bits), QT_I("block_size", BLOCK)},
                .in = {{.data = m.a, .rank = 3, .dims = {1, M, k_all}},
                       {.data = m.b, .dtype = QN_U8, .rank = 3, .dims = {N, blocks, blob}, .constant = true},
                       {.data = m.scale, .rank = flat ? 1 : 2, .dims = {flat ? N * blocks : N, blocks}, .constant = true}}};
    if (zeros == 1)
        op.in[3] = (qt_op_in){.data = m.zero, .dtype = QN_U8, .rank = flat ? 1 : 2, .dims = {flat ? N * row : N, row}, .constant = true};
    if (zeros == 2)
        op.in[3] = (qt_op_in){.data = m.zero_f, .rank = 2, .dims = {N, blocks}, .constant = true};
    if (biased)
        op.in[5] = (qt_op_in){.data = m.bias, .rank = 1, .dims = {N}, .constant = true};
    cr_assert_eq(qt_onnx_run(&op, &y, &err), QN_OK, "%s", err.text);
    cr_assert(y.rank == 3 && y.dims[1] == M && y.dims[2] == N);
    for (unsigned i = 0; i < M; i++)
        for (unsigned n = 0; n < N; n++) {
            double sum = biased ? (double)m.bias[n] : 0, size = 1;
            for (unsigned k = 0; k < k_all; k++) {
                const double term = (double)m.a[i * k_all + k] * weight(&m, bits, k_all, zeros, n, k);
                sum += term;
                size += fabs(term);
            }
            cr_assert_float_eq((double)((float *)y.data)[i * N + n], sum, 1e-6 * size, "%u bits, K %u, zeros %u: %g, not %g", bits, k_all, zeros,
                               (double)((float *)y.data)[i * N + n], sum);
        }
}

Test(onnx_nbits, products)
{
    for (unsigned bits = 2; bits <= 8; bits *= 2)
        for (unsigned zeros = 0; zeros < 3; zeros++) {
            check(bits, 96, zeros, false, false);
            check(bits, 150, zeros, true, zeros == 1);
            check(bits, 17, zeros, false, true);
        }
}

Test(onnx_nbits, refused)
{
    static made m;
    const struct {
        int64_t k, n, bits, block, blocks;
        qn_code rc;
        const char *text;
    } cases[] = {
        {64, N, 4, 32, 3, QN_E_INPUT, "B is"},
        {64, N, 3, 32, 2, QN_E_UNSUPPORTED, "bits"},
        {64, N, 4, 24, 3, QN_E_INPUT, "block_size"},
        {64, N, 4, 8, 8, QN_E_INPUT, "block_size"},
        {0, N, 4, 32, 2, QN_E_INPUT, "K of 0"},
        {64, INT64_MAX, 4, 32, 2, QN_E_INPUT, "N of"},
        {INT32_MAX, INT32_MAX, 8, 16, 2, QN_E_INPUT, ""},
        {65, N, 4, 32, 3, QN_E_INPUT, "last axis"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qt_op op = {.type = "MatMulNBits", .domain = "com.microsoft", .version = 1, .attrs = {QT_I("K", cases[i].k), QT_I("N", cases[i].n),
                    QT_I("bits", cases[i].bits), QT_I("block_size", cases[i].block)},
                    .in = {{.data = m.a, .rank = 2, .dims = {M, 64}}, {.data = m.b, .dtype = QN_U8, .rank = 3, .dims = {N, cases[i].blocks, 16}},
                           {.data = m.scale, .rank = 2, .dims = {N, 2}}}};
        err = (qn_err){0};
        cr_assert_eq(qt_onnx_run(&op, NULL, &err), cases[i].rc, "case %u: %s", i, err.text);
        cr_assert(strstr(err.text, cases[i].text), "case %u: %s", i, err.text);
    }
}
