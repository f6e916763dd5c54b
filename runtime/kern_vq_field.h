/* kern_vq_field.h: fields of a strip → places in the book: compiled with each variant. */
#ifndef QN_RUNTIME_KERN_VQ_FIELD_H
#define QN_RUNTIME_KERN_VQ_FIELD_H

#include "base/num.h"
#include "runtime/kern_vq.h"

/* The 25 bits at least from bit `at` on; zeros behind the end. */
static inline __attribute__((always_inline)) uint32_t qn_vq_bits_at(const uint8_t *p, size_t n_bytes, uint64_t at)
{
    const size_t byte = (size_t)(at / 8);
    uint32_t v = 0;
    if (n_bytes - byte >= 4)
        return qn_load32(p + byte) >> at % 8;
    for (unsigned i = 0; byte + i < n_bytes; i++)
        v |= (uint32_t)p[byte + i] << 8 * i;
    return v >> at % 8;
}

/* Columns from … from + n − 1 → main[0 …], residual[0 …]; residual may be NULL. */
static inline __attribute__((always_inline)) void qn_vq_places(const qn_vq_strip *s, uint32_t from, uint32_t n,
                                                               uint32_t *restrict main, uint32_t *restrict residual)
{
    const unsigned v = s->v;
    if (!s->of) {
        const qn_vq_run r = *s->run;
        const unsigned width = r.main_bits + r.residual_bits;
        const uint32_t mask = (1u << r.main_bits) - 1, mask2 = (1u << r.residual_bits) - 1;
        if (width == 8 && r.residual_bits == 0) {
            for (uint32_t i = 0; i < n; i++)
                main[i] = r.main + s->bytes[from + i] * v;
        } else if (!residual) {
            /* eight fields are `width` bytes, from 8 on they begin at a byte */
            uint32_t i = 0;
            const uint8_t *p = s->bytes + (uint64_t)from * width / 8;
            if (from % 8 == 0 && width <= 16)
                for (; i + 8 <= n && (size_t)(p - s->bytes) + width / 2u + 8 <= s->n_bytes; i += 8, p += width) {
                    const uint64_t lo = qn_load64(p), hi = qn_load64(p + width / 2u) >> (width & 1) * 4;
                    for (unsigned k = 0; k < 4; k++) {
                        main[i + k] = r.main + ((uint32_t)(lo >> k * width) & mask) * v;
                        main[i + 4 + k] = r.main + ((uint32_t)(hi >> k * width) & mask) * v;
                    }
                }
            for (; i < n; i++)
                main[i] = r.main + (qn_vq_bits_at(s->bytes, s->n_bytes, (uint64_t)(from + i) * width) & mask) * v;
        } else {
            for (uint32_t i = 0; i < n; i++) {
                const uint32_t f = qn_vq_bits_at(s->bytes, s->n_bytes, (uint64_t)(from + i) * width);
                main[i] = r.main + (f & mask) * v;
                residual[i] = r.residual + (f >> r.main_bits & mask2) * v;
            }
        }
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        const qn_vq_run *r = s->run + s->of[from + i];
        const uint32_t f = r->main_bits ? qn_vq_bits_at(s->bytes, s->n_bytes, s->bit[from + i]) : 0;
        main[i] = r->main + (f & ((1u << r->main_bits) - 1)) * v;
        if (residual)
            residual[i] = r->residual + (f >> r->main_bits & ((1u << r->residual_bits) - 1)) * v;
    }
}

#endif
