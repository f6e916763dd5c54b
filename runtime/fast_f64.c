/* fast_f64.c: see fast_f64.h. A weight is sign 1, exponent 11, mantissa 52 bits; the raw bits are
 * mantissa << 1 | sign. */
#include "runtime/fast_f64.h"
#include "base/err.h"
#include "base/num.h"
#include "runtime/fast_stream.h"
#include <string.h>

static uint64_t load40(const uint8_t *p)
{
    return qn_load32(p) | (uint64_t)p[4] << 32;
}

static void merge8(const uint16_t *exps, const uint8_t *sym, size_t n, uint64_t five,
                   const uint8_t *raw6, uint8_t *dst)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *r = raw6 + 6 * i;
        const uint64_t w = (uint64_t)exps[sym[i]] << 53 | (five >> 5 * i & 31) << 48 |
                           (uint64_t)qn_load16(r + 4) << 32 | qn_load32(r);
        qn_store64(dst + 8 * i, w >> 1 | w << 63);
    }
}

qn_code qn_fast_dec_f64(const qn_kern_fast *kern, size_t n, const uint8_t *payload, size_t n_bytes,
                        uint8_t *dst, qn_arena *scratch, qn_err *err)
{
    const size_t n_raw5 = qn_fast_raw5_bytes(n), n_raw = n_raw5 + 6 * n;
    uint16_t exps[256];
    const uint8_t *sym;
    qn_cur c = qn_cur_over(payload, n_bytes);
    const uint64_t n_exps = qn_cur_varint(&c);
    uint64_t e = 0;
    if (n_exps == 0 || n_exps > 256)
        return QN_FAIL(err, QN_E_INPUT, 0, "fast: %llu exponents: allowed are 1 to 256",
                       (unsigned long long)n_exps);
    for (unsigned i = 0; i < n_exps; i++) {
        const uint64_t gap = qn_cur_varint(&c);
        if (c.failed || gap > 2047 || (i > 0 && gap == 0) || e + gap > 2047)
            return QN_FAIL(err, QN_E_INPUT, c.at, "fast: exponents are not ascending below 2048");
        e += gap;
        exps[i] = (uint16_t)e;
    }
    QN_TRY(qn_fast_stream_all(kern, n, (unsigned)n_exps, payload + c.at, n_bytes - c.at, n_raw, 0,
                              scratch, &sym, err));
    const uint8_t *raw5 = payload + (n_bytes - n_raw), *raw6 = raw5 + n_raw5;
    if (5 * n % 8 && raw5[n_raw5 - 1] >> 5 * n % 8)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "fast: spare bits are not zero");
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        merge8(exps, sym + i, 8, load40(raw5 + 5 * (i / 8)), raw6 + 6 * i, dst + 8 * i);
    if (i < n) {
        uint8_t last[5] = {0};
        memcpy(last, raw5 + 5 * (i / 8), n_raw5 - 5 * (i / 8));
        merge8(exps, sym + i, n - i, load40(last), raw6 + 6 * i, dst + 8 * i);
    }
    return QN_OK;
}

void qn_fast_split_f64(const uint8_t *src, size_t n, uint8_t *raw5, uint8_t *raw6)
{
    const size_t n_raw5 = qn_fast_raw5_bytes(n);
    for (size_t i = 0; i < n; i += 8) {
        uint64_t five = 0;
        for (size_t k = i; k < n && k < i + 8; k++) {
            const uint64_t v = qn_load64(src + 8 * k), w = v << 1 | v >> 63;
            qn_store32(raw6 + 6 * k, (uint32_t)w);
            qn_store16(raw6 + 6 * k + 4, (uint16_t)(w >> 32));
            five |= (w >> 48 & 31) << 5 * (k - i);
        }
        for (size_t b = 0; b < 5 && 5 * (i / 8) + b < n_raw5; b++)
            raw5[5 * (i / 8) + b] = (uint8_t)(five >> 8 * b);
    }
}
