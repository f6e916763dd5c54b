/* ggml.c: see ggml.h. The families stand in ggml_q.c (one scale), ggml_k.c (scales of scales), ggml_iq.c (point sets),
 * ggml_fp.c (four-bit tables) and ggml_tq.c (ternary). */
#include "base/ggml.h"
#include "base/err.h"
#include "base/ggml_impl.h"

static const qn_ggml_block_fn tab[QN_DTYPE_COUNT] = {
    [QN_Q4_0] = qn_block_q4_0,
    [QN_Q4_1] = qn_block_q4_1,
    [QN_Q5_0] = qn_block_q5_0,
    [QN_Q5_1] = qn_block_q5_1,
    [QN_Q8_0] = qn_block_q8_0,
    [QN_Q2_K] = qn_block_q2_k,
    [QN_Q3_K] = qn_block_q3_k,
    [QN_Q4_K] = qn_block_q4_k,
    [QN_Q5_K] = qn_block_q5_k,
    [QN_Q6_K] = qn_block_q6_k,
    [QN_IQ2_XXS] = qn_block_iq2_xxs,
    [QN_IQ2_XS] = qn_block_iq2_xs,
    [QN_IQ3_XXS] = qn_block_iq3_xxs,
    [QN_IQ1_S] = qn_block_iq1_s,
    [QN_IQ4_NL] = qn_block_iq4_nl,
    [QN_IQ3_S] = qn_block_iq3_s,
    [QN_IQ2_S] = qn_block_iq2_s,
    [QN_IQ4_XS] = qn_block_iq4_xs,
    [QN_IQ1_M] = qn_block_iq1_m,
    [QN_TQ1_0] = qn_block_tq1_0,
    [QN_TQ2_0] = qn_block_tq2_0,
    [QN_MXFP4] = qn_block_mxfp4,
    [QN_NVFP4] = qn_block_nvfp4,
    [QN_Q1_0] = qn_block_q1_0,
    [QN_Q2_0] = qn_block_q2_0,
};

qn_ggml_block_fn qn_ggml_block(qn_dtype t)
{
    return (unsigned)t < QN_DTYPE_COUNT ? tab[t] : NULL;
}

static qn_code check(qn_dtype t, uint64_t n, qn_err *err)
{
    if (!qn_ggml_block(t))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s is no block type",
                       qn_dtype_name(t) ? qn_dtype_name(t) : "unknown dtype");
    if (n % qn_dtype_block_elems(t) != 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%llu elements of %s wanted: its blocks hold %u",
                       (unsigned long long)n, qn_dtype_name(t), qn_dtype_block_elems(t));
    return QN_OK;
}

qn_code qn_ggml_f32(qn_dtype t, const void *src, uint64_t n, float *dst, qn_err *err)
{
    QN_TRY(check(t, n, err));
    const qn_ggml_block_fn block = qn_ggml_block(t);
    const unsigned per = qn_dtype_block_elems(t), n_bytes = qn_dtype_block_bytes(t);
    const uint8_t *p = src;
    for (uint64_t i = 0; i < n; i += per, p += n_bytes)
        block(p, dst + i);
    return QN_OK;
}

qn_code qn_ggml_widen(qn_dtype t, const void *src, uint64_t n, double *dst, qn_err *err)
{
    QN_TRY(check(t, n, err));
    const qn_ggml_block_fn block = qn_ggml_block(t);
    const unsigned per = qn_dtype_block_elems(t), n_bytes = qn_dtype_block_bytes(t);
    const uint8_t *p = src;
    float y[QN_GGML_BLOCK_MAX];
    for (uint64_t i = 0; i < n; i += per, p += n_bytes) {
        block(p, y);
        for (unsigned k = 0; k < per; k++)
            dst[i + k] = (double)y[k];
    }
    return QN_OK;
}
