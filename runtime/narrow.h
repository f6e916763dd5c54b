/* narrow.h: which dtypes can hide in which, and the widening that both sides of NARROW share. */
#ifndef QN_RUNTIME_NARROW_H
#define QN_RUNTIME_NARROW_H

#include "quern/base.h"

/* F32, C64 ← BF16 F16 E4M3 E5M2; F64 ← F32; F16 ← BF16 E4M3 E5M2; BF16 ← E4M3 E5M2; integers ← narrower ones of the same
 * signedness. */
bool qn_narrow_pair(qn_dtype wide, qn_dtype narrow);

/* n units; the pair must be allowed. BF16 → F16 rounds to nearest even; everything else is exact. */
void qn_narrow_widen(qn_dtype wide, qn_dtype narrow, const uint8_t *src, uint32_t n, uint8_t *dst);

#endif
