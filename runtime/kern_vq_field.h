/* kern_vq_field.h: one field of a strip, as all variants read it. */
#ifndef QN_RUNTIME_KERN_VQ_FIELD_H
#define QN_RUNTIME_KERN_VQ_FIELD_H

#include "base/num.h"
#include "runtime/kern_vq.h"

/* The bytes of column j's field, from its first one on; zeros behind the end. */
static inline __attribute__((always_inline)) uint32_t qn_vq_field(const qn_vq_strip *s, uint32_t j)
{
    const size_t byte = s->at.byte[j];
    uint32_t v = 0;
    if (s->n_bytes - byte >= 4)
        return qn_load32(s->bytes + byte);
    for (unsigned i = 0; byte + i < s->n_bytes; i++)
        v |= (uint32_t)s->bytes[byte + i] << 8 * i;
    return v;
}

#endif
