/* test_df11_code.c: codes of DFloat11 against a reader of their tables and against Huffman's merging of the two rarest. */
#include "compress/export/df11_code.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <string.h>

/* Bits of all weights under Huffman's code, with an end that occurs once: the sum of all merged counts. */
static uint64_t huffman_bits(const uint64_t count[256])
{
    uint64_t heap[257], sum = 0;
    unsigned n = 0;
    for (unsigned s = 0; s < 256; s++)
        if (count[s])
            heap[n++] = count[s];
    heap[n++] = 1;
    while (n > 1) {
        for (unsigned k = 0; k < 2; k++)
            for (unsigned i = k + 1; i < n; i++)
                if (heap[i] < heap[k]) {
                    const uint64_t t = heap[i];
                    heap[i] = heap[k];
                    heap[k] = t;
                }
        sum += heap[0] + heap[1];
        heap[0] += heap[1];
        heap[1] = heap[--n];
    }
    return sum;
}

/* As a reader does: what the tables say of 32 bits. */
static unsigned look_up(const qn_df11_code *c, uint32_t window)
{
    unsigned e = c->luts[window >> 24];
    for (unsigned k = 1; k < 4 && e >= QN_DF11_POINTER; k++)
        e = c->luts[256 * (256 - e) + (window >> (24 - 8 * k) & 255)];
    return e;
}

static uint64_t check(const uint64_t count[256])
{
    qn_df11_code c;
    uint64_t bits = 0;
    qt_rng r = qt_seed(7);
    cr_assert(qn_df11_code_make(&c, count));
    cr_assert_leq(c.n_rows, 18u);
    for (unsigned s = 0; s < 256; s++) {
        cr_assert_eq(c.bits[s] > 0, count[s] > 0);
        cr_assert_eq(c.luts[256 * (c.n_rows - 1) + s], c.bits[s]);
        bits += count[s] * c.bits[s];
        if (!c.bits[s])
            continue;
        cr_assert(c.bits[s] >= 2 && c.bits[s] <= 32);
        const unsigned rest = 32u - c.bits[s];
        for (unsigned k = 0; k < 20; k++) {
            const uint32_t noise = rest ? (uint32_t)(qt_next(&r) >> (64 - rest)) : 0;
            cr_assert_eq(look_up(&c, (rest < 32 ? c.code[s] << rest : 0) | noise), s);
        }
    }
    for (unsigned s = 0; s < QN_DF11_SYMBOLS; s++) /* no code begins another, the end included */
        for (unsigned t = 0; t < QN_DF11_SYMBOLS; t++)
            if (s != t && c.bits[s] && c.bits[t] >= c.bits[s])
                cr_assert_neq(c.code[t] >> (c.bits[t] - c.bits[s]), c.code[s]);
    for (unsigned i = 0; i < 2000; i++) { /* whatever stands in a stream, a reader finds an exponent and goes on */
        const unsigned e = look_up(&c, (uint32_t)qt_next(&r));
        cr_assert(e < QN_DF11_POINTER && c.bits[e] > 0);
    }
    return bits;
}

Test(df11_code, as_short_as_huffman)
{
    qt_rng r = qt_seed(1);
    unsigned n_compared = 0;
    for (unsigned round = 0; round < 40; round++) {
        uint64_t count[256] = {0};
        for (unsigned i = 0, n = 4 + round * 5; i < n; i++)
            count[qt_below(&r, 240)] = 1 + (qt_next(&r) >> (34 + qt_below(&r, 28)));
        uint64_t sum = 0, most = 0;
        for (unsigned e = 0; e < 256; e++) {
            sum += count[e];
            most = count[e] > most ? count[e] : most;
        }
        const uint64_t got = check(count), want = huffman_bits(count);
        if (most >= sum / 3) /* then Huffman's might have a code of one bit */
            continue;
        n_compared++;
        cr_assert_leq(got, want);                       /* that one counts the end, */
        cr_assert_geq(got + QN_DF11_BITS_MAX, want);    /* which has at most so many bits */
    }
    cr_assert_geq(n_compared, 10u);
}

Test(df11_code, long_codes)
{
    uint64_t count[256] = {0}, a = 1, b = 1;
    for (unsigned i = 0; i < 60; i++) { /* Fibonacci: Huffman's code would have 60 bits */
        count[i] = a;
        const uint64_t c = a + b;
        a = b;
        b = c;
    }
    check(count);
}

/* Hundreds of rare exponents below a few frequent ones: more rows than entries can name, unless the code gives way. */
Test(df11_code, many_rows)
{
    uint64_t count[256] = {0};
    for (unsigned i = 0; i < 240; i++)
        count[i] = 1000 + i;
    count[120] = 1500000;
    count[121] = 700000;
    check(count);
    for (unsigned i = 0; i < 240; i++)
        count[i] = 1;
    count[7] = UINT64_C(1) << 40;
    check(count);
}

Test(df11_code, few_exponents)
{
    uint64_t count[256] = {0};
    count[0] = 5;
    cr_assert_eq(check(count), 10u); /* two bits each: one would let too many weights into a block */
    count[239] = 1;
    check(count);
    count[100] = 1000000;
    check(count);
}

Test(df11_code, refused)
{
    qn_df11_code c;
    uint64_t count[256] = {0};
    cr_assert_not(qn_df11_code_make(&c, count));
    count[3] = 10;
    count[240] = 1;
    cr_assert_not(qn_df11_code_make(&c, count));
    count[240] = 0;
    count[255] = 1;
    cr_assert_not(qn_df11_code_make(&c, count));
}
