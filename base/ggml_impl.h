/* ggml_impl.h: one block of each of ggml's types → f32, and the point sets of the IQ types; for base/ggml*.c only.
 *
 * Every function: b = one block, y = its elements in order (the counts of qn_dtype_block_*). The values are those of ggml to the
 * last bit, so the order of the f32 operations in each formula matters: a product of three is not associative. */
#ifndef QN_BASE_GGML_IMPL_H
#define QN_BASE_GGML_IMPL_H

#include "base/half.h"
#include "base/num.h"

void qn_block_q4_0(const uint8_t *b, float *y);
void qn_block_q4_1(const uint8_t *b, float *y);
void qn_block_q5_0(const uint8_t *b, float *y);
void qn_block_q5_1(const uint8_t *b, float *y);
void qn_block_q8_0(const uint8_t *b, float *y);
void qn_block_q1_0(const uint8_t *b, float *y);
void qn_block_q2_0(const uint8_t *b, float *y);

void qn_block_q2_k(const uint8_t *b, float *y);
void qn_block_q3_k(const uint8_t *b, float *y);
void qn_block_q4_k(const uint8_t *b, float *y);
void qn_block_q5_k(const uint8_t *b, float *y);
void qn_block_q6_k(const uint8_t *b, float *y);

void qn_block_iq2_xxs(const uint8_t *b, float *y);
void qn_block_iq2_xs(const uint8_t *b, float *y);
void qn_block_iq2_s(const uint8_t *b, float *y);
void qn_block_iq3_xxs(const uint8_t *b, float *y);
void qn_block_iq3_s(const uint8_t *b, float *y);
void qn_block_iq1_s(const uint8_t *b, float *y);
void qn_block_iq1_m(const uint8_t *b, float *y);

void qn_block_iq4_nl(const uint8_t *b, float *y);
void qn_block_iq4_xs(const uint8_t *b, float *y);
void qn_block_mxfp4(const uint8_t *b, float *y);
void qn_block_nvfp4(const uint8_t *b, float *y);
void qn_block_tq1_0(const uint8_t *b, float *y);
void qn_block_tq2_0(const uint8_t *b, float *y);

extern const uint16_t qn_grid_iq2_xxs[256], qn_grid_iq2_xs[512], qn_grid_iq2_s[1024]; /* eight values each */
extern const uint16_t qn_grid_iq3_xxs[256], qn_grid_iq3_s[512];                       /* four               */
extern const uint16_t qn_grid_iq1[2048];                                              /* eight              */

/* The half at p. */
static inline float qn_block_half(const uint8_t *p)
{
    return qn_f16_to_f32(qn_load16(p));
}

#endif
