/* pvq.c: tables of the pyramid and walks through it; the mathematics is in pvq.h. */
#include "runtime/pvq_codec.h"
#include "base/err.h"
#include <limits.h>
#include <string.h>

/* col[m] = U(m, j) → U(m, j + 1), m ≤ n, in place; j ≥ 0. */
static bool next_column(qn_u128 *col, uint32_t n)
{
    bool ovf = false;
    qn_u128 diagonal = col[0]; /* U(m−1, j) */
    col[0] = qn_u128_of(0);
    for (uint32_t m = 1; m <= n; m++) {
        const qn_u128 left = col[m];
        /* U(1, j + 1) = 1, also for j = 0 where the recurrence has nothing to start from; U(m, 1) = 1 follows from it */
        col[m] = m == 1 ? qn_u128_of(1) : qn_u128_add(qn_u128_add(col[m - 1], left, &ovf), diagonal, &ovf);
        diagonal = left;
    }
    return !ovf;
}

bool qn_pvq_size(uint32_t n, uint32_t k, qn_u128 *v)
{
    qn_u128 col[QN_PVQ_N_MAX + 1] = {{0, 0}};
    bool ovf = false;
    if (n == 0 || n > QN_PVQ_N_MAX || k > QN_PVQ_K_MAX)
        return false;
    for (uint32_t j = 0; j < k; j++)
        if (!next_column(col, n))
            return false;
    const qn_u128 positive = col[n]; /* U(n, k) */
    if (!next_column(col, n))
        return false;
    *v = qn_u128_add(positive, col[n], &ovf);
    return !ovf;
}

unsigned qn_pvq_bits(uint32_t n, uint32_t k)
{
    qn_u128 v;
    return qn_pvq_size(n, k, &v) ? qn_u128_bits(qn_u128_sub(v, qn_u128_of(1))) : UINT_MAX;
}

static void put(qn_pvq_tab *t, void *w, uint32_t m, uint32_t j, qn_u128 v)
{
    const size_t at = (size_t)m * t->stride + j;
    if (t->word == 4)
        ((uint32_t *)w)[at] = (uint32_t)v.lo;
    else if (t->word == 8)
        ((uint64_t *)w)[at] = v.lo;
    else
        ((qn_u128 *)w)[at] = v;
}

qn_u128 qn_pvq_tab_at(const qn_pvq_tab *t, uint32_t m, uint32_t j)
{
    const size_t at = (size_t)m * t->stride + j;
    if (t->word == 4)
        return qn_u128_of(((const uint32_t *)t->w)[at]);
    if (t->word == 8)
        return qn_u128_of(((const uint64_t *)t->w)[at]);
    return ((const qn_u128 *)t->w)[at];
}

/* V(m, j) = V(m−1, j) + 2 U(m, j), V(0, j) = 0 for j > 0. */
qn_u128 qn_pvq_tab_size(const qn_pvq_tab *t, uint32_t m, uint32_t j)
{
    qn_u128 v = qn_u128_of(j == 0);
    bool ovf = false;
    for (uint32_t i = 1; i <= m; i++)
        v = qn_u128_add(v, qn_pvq_tab_at(t, i, j), &ovf);
    return v;
}

static unsigned bits_of(const qn_pvq_tab *t, uint32_t m, uint32_t j)
{
    return qn_u128_bits(qn_u128_sub(qn_pvq_tab_size(t, m, j), qn_u128_of(1)));
}

static qn_code make_low(qn_pvq_tab *t, qn_arena *arena, qn_err *err)
{
    t->n_low = t->n;
    t->low = t->w;
    if (t->word == 4)
        return QN_OK;
    while (bits_of(t, t->n_low, t->k) > 32)
        t->n_low--;
    const size_t n_words = (size_t)(t->n_low + 1) * t->stride;
    uint32_t *low = qn_arena_get(arena, n_words * sizeof *low, 64, err);
    if (!low)
        return QN_E_MEMORY;
    for (size_t i = 0; i < n_words; i++)
        low[i] = (uint32_t)qn_pvq_tab_at(t, (uint32_t)(i / t->stride), (uint32_t)(i % t->stride)).lo; /* 2^32 − 1 behind k */
    t->low = low;
    return QN_OK;
}

qn_code qn_pvq_tab_make(qn_pvq_tab *t, uint32_t n, uint32_t k, qn_arena *arena, qn_err *err)
{
    qn_u128 col[QN_PVQ_N_MAX + 1] = {{0, 0}};
    const unsigned bits = qn_pvq_bits(n, k);
    if (bits == UINT_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET,
                       "pvq: %u pulses on %u coordinates: allowed are 1 to %d coordinates and at most 2^128 points", k, n,
                       QN_PVQ_N_MAX);
    *t = (qn_pvq_tab){.n = n, .k = k, .stride = 16, .word = bits <= 32 ? 4 : bits <= 64 ? 8 : 16};
    while (t->stride <= k)
        t->stride *= 2;
    const size_t n_bytes = (size_t)(n + 1) * t->stride * t->word;
    void *w = qn_arena_get(arena, n_bytes, 64, err);
    if (!w)
        return QN_E_MEMORY;
    memset(w, 0xff, n_bytes);
    for (uint32_t j = 0; j <= k; j++) {
        bool ovf = false;
        for (uint32_t m = 0; m <= n; m++)
            put(t, w, m, j, qn_u128_add(col[m], col[m], &ovf)); /* 2 U(m, j) ≤ V(m, j) ≤ V(n, k) */
        if (j < k && (ovf || !next_column(col, n)))
            return QN_BUG(err, "pvq: table of P(%u, %u) overflows", n, k);
    }
    t->w = w;
    return make_low(t, arena, err);
}

bool qn_pvq_point(const qn_pvq_tab *t, uint32_t m, uint32_t j, qn_u128 index, int16_t *y)
{
    const qn_u128 v = qn_pvq_tab_size(t, m, j);
    if (qn_u128_le(v, index))
        return false;
    qn_u128 r = qn_u128_sub(qn_u128_sub(v, index), qn_u128_of(1));
    for (uint32_t left = m; left > 0; left--) {
        uint32_t rest = j;
        while (!qn_u128_le(qn_pvq_tab_at(t, left, rest), r))
            rest--;
        const qn_u128 base = qn_pvq_tab_at(t, left, rest);
        int v1 = (int)(j - rest);
        r = qn_u128_sub(r, base);
        if (rest < j) {
            const qn_u128 half = qn_u128_half(qn_u128_sub(qn_pvq_tab_at(t, left, rest + 1), base));
            if (qn_u128_le(half, r))
                r = qn_u128_sub(r, half);
            else
                v1 = -v1;
        }
        y[m - left] = (int16_t)v1;
        j = rest;
    }
    return true;
}

uint32_t qn_pvq_short_k(const qn_pvq_tab *t, uint32_t k, unsigned gain_bits, uint32_t m, unsigned *width)
{
    const unsigned whole = k ? bits_of(t, t->n, k) + gain_bits : 0;
    const unsigned room = whole * m / t->n;
    uint32_t j = k;
    while (j > 0 && bits_of(t, m, j) + gain_bits > room)
        j--;
    *width = j ? bits_of(t, m, j) + gain_bits : 0;
    return j;
}

float qn_pvq_inverse_root(uint32_t q)
{
    union {
        double f;
        uint64_t u;
    } x = {.f = q};
    x.u = 0x5fe6eb50c7b537a9u - (x.u >> 1);
    for (unsigned i = 0; i < 5; i++)
        x.f *= 1.5 - 0.5 * q * x.f * x.f;
    return (float)x.f;
}
