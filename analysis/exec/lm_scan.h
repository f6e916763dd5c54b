/* lm_scan.h: what operators that run along a sequence share. */
#ifndef QN_ANALYSIS_EXEC_LM_SCAN_H
#define QN_ANALYSIS_EXEC_LM_SCAN_H

#include "analysis/exec/exec.h"
#include <string.h>

/* A shape rule's help: out becomes f32 of in's shape. */
void qn_scan_like(const qn_info *in, qn_info *out);
/* Refuses an operand whose number of elements is known and not n (n = QN_DIM_UNKNOWN: anything goes). */
qn_code qn_scan_info(const qn_info *in, const char *what, int64_t n, qn_err *err) QN_MUST_CHECK;
/* Last dimension, or QN_DIM_UNKNOWN. */
int64_t qn_scan_last(const qn_info *in);

/* Before a forward pass: `a` is f32 and has n elements. */
qn_code qn_scan_fits(const qn_array *a, const char *what, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* x is f32 (T, n): fills *T and *n. */
qn_code qn_scan_rows(const qn_array *x, const char *what, uint64_t *n_tokens, uint64_t *n, qn_err *err) QN_MUST_CHECK;
/* starts is i64 (S + 1), 0 = starts[0] ≤ … ≤ starts[S] = n_tokens; fills *n_seqs = S. */
qn_code qn_scan_starts(const qn_array *starts, uint64_t n_tokens, uint64_t *n_seqs, qn_err *err) QN_MUST_CHECK;

/* e^x to about 1.5 ulp, without a branch or a call, so that loops over it become vector code: 2^k · e^r, |r| ≤ ln 2 / 2,
 * e^r by its series to r^7. Below −87 it is 0; above 88 it stays at e^88; NaN stays NaN. */
static inline float qn_scan_exp(float x)
{
    const float low = x > -87.0f ? x : -87.0f, v = x != x ? x : low < 88.0f ? low : 88.0f;
    const float z = v * 0x1.715476p0f + 0x1.8p23f; /* the nearest integer stands in the low bits */
    uint32_t k;
    memcpy(&k, &z, 4);
    const float whole = z - 0x1.8p23f;
    const float r = v - whole * 0x1.62e4p-1f - whole * 0x1.7f7d1cp-20f;
    const float p = 1 + r * (1 + r * (0x1p-1f + r * (0x1.555556p-3f + r * (0x1.555556p-5f + r * (0x1.111112p-7f +
                        r * (0x1.6c16c2p-10f + r * 0x1.a01a02p-13f))))));
    k = (k + 127u) << 23;
    float two;
    memcpy(&two, &k, 4);
    return x < -87.0f ? 0.0f : p * two;
}

#endif
