/* ekern_fast.c: C reference kernels of the fast codec, and the table. */
#include "compress/ekern_fast.h"
#include "base/cpu.h"
#include "base/num.h"
#include <string.h>

void qn_fast_symbols_c(qn_fast_kind kind, const uint8_t *src, size_t n, uint8_t *sym)
{
    switch (kind) {
    case QN_FAST_BF16:
        for (size_t i = 0; i < n; i++)
            sym[i] = (uint8_t)(qn_load16(src + 2 * i) >> 7);
        break;
    case QN_FAST_F16:
        for (size_t i = 0; i < n; i++)
            sym[i] = (uint8_t)(qn_load16(src + 2 * i) >> 9 & 63);
        break;
    case QN_FAST_F32:
        for (size_t i = 0; i < n; i++)
            sym[i] = (uint8_t)(qn_load32(src + 4 * i) >> 23);
        break;
    default:
        memcpy(sym, src, n);
    }
}

void qn_fast_raws_c(qn_fast_kind kind, const uint8_t *src, size_t n, uint8_t *raw2, uint8_t *raw, size_t n_raw)
{
    if (kind == QN_FAST_F32) {
        const size_t full = n_raw / 3;
        for (size_t i = 0; i < full; i++) {
            const uint32_t w = qn_load32(src + 4 * i);
            raw[3 * i] = (uint8_t)(w << 1 | w >> 31);
            raw[3 * i + 1] = (uint8_t)(w >> 7);
            raw[3 * i + 2] = (uint8_t)(w >> 15);
        }
        for (size_t k = 3 * full; k < n_raw; k++) {
            const uint32_t w = qn_load32(src + 4 * full);
            raw[k] = (uint8_t)((w << 1 | w >> 31) >> 8 * (k - 3 * full));
        }
        return;
    }
    for (size_t i = 0; i < n_raw; i++) {
        const unsigned w = qn_load16(src + 2 * i);
        raw[i] = (uint8_t)(w << 1 | w >> 15);
    }
    for (size_t i = 0; kind == QN_FAST_F16 && i < n; i += 4) {
        unsigned four = 0;
        for (size_t k = i; k < n && k < i + 4; k++)
            four |= (qn_load16(src + 2 * k) >> 7 & 3u) << 2 * (k - i);
        raw2[i / 4] = (uint8_t)four;
    }
}

void qn_fast_code_c(const qn_fast_etab *t, qn_fast_estate *st, const uint8_t *sym, size_t n)
{
    uint8_t *p = st->p;
    const size_t mask = st->n_streams - 1;
    for (size_t i = n; i-- > 0;) {
        const unsigned v = t->map[sym[i]], k = v & 63, f = t->freq[k];
        const size_t j = i & mask;
        uint32_t x = (uint32_t)st->lo[j] | (uint32_t)st->hi[j] << 8;
        if (v == t->esc)
            *--st->esc = sym[i];
        /* always stored, kept only if due: a branch would be a coin toss */
        const unsigned due = x >> 8 >= f;
        p[-1] = (uint8_t)x;
        p -= due;
        x >>= 8 * due;
        const uint32_t q = (uint32_t)((uint64_t)x * t->rcp[k] >> 24);
        st->lo[j] = (uint8_t)(x - q * f + t->start[k]);
        st->hi[j] = (uint8_t)q;
    }
    st->p = p;
}

/* Eight tables: equal neighbours, the common case, would else wait for each other's store. */
void qn_fast_count_c(const uint8_t *sym, size_t n, uint32_t counts[256])
{
    uint32_t c[8][256];
    size_t i = 0;
    if (n < 512) {
        for (; i < n; i++)
            counts[sym[i]]++;
        return;
    }
    memset(c, 0, sizeof c);
    for (; i + 8 <= n; i += 8) {
        const uint64_t w = qn_load64(sym + i);
        c[0][w & 255]++;
        c[1][w >> 8 & 255]++;
        c[2][w >> 16 & 255]++;
        c[3][w >> 24 & 255]++;
        c[4][w >> 32 & 255]++;
        c[5][w >> 40 & 255]++;
        c[6][w >> 48 & 255]++;
        c[7][w >> 56]++;
    }
    for (; i < n; i++)
        c[0][sym[i]]++;
    for (unsigned v = 0; v < 256; v++)
        for (unsigned k = 0; k < 8; k++)
            counts[v] += c[k][v];
}

bool qn_fast_common(const uint8_t *sym, size_t n, uint8_t common[QN_FAST_COMMON])
{
    enum { SAMPLE = 2048, WORTH = 16384 };
    uint32_t seen[256] = {0};
    uint64_t taken = 0;
    size_t covered = 0;
    if (n < WORTH)
        return false;
    for (size_t k = 0; k < SAMPLE / 64; k++)
        qn_fast_count_c(sym + k * (n / (SAMPLE / 64)), 64, seen);
    for (unsigned c = 0; c < QN_FAST_COMMON; c++) {
        unsigned best = 256;
        for (unsigned v = 0; v < 256; v++)
            if (!(taken >> (v & 63) & 1) && (best == 256 || seen[v] > seen[best]))
                best = v;
        taken |= UINT64_C(1) << (best & 63);
        common[c] = (uint8_t)best;
        covered += seen[best];
    }
    return covered >= SAMPLE - SAMPLE / 32;
}

void qn_ekern_fast_init(qn_ekern_fast *k, unsigned cpu)
{
    *k = (qn_ekern_fast){cpu, qn_fast_symbols_c, qn_fast_raws_c, qn_fast_count_c, qn_fast_code_c};
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        qn_ekern_fast_avx2(k);
    if (cpu & QN_CPU_AVX512)
        qn_ekern_fast_avx512(k);
#endif
}
