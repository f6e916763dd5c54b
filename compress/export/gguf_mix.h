/* gguf_mix.h: the named mixes of llama-quantize. */
#ifndef QN_COMPRESS_EXPORT_GGUF_MIX_H
#define QN_COMPRESS_EXPORT_GGUF_MIX_H

#include "compress/export/gguf_impl.h"

typedef enum qn_ggx_mix_id {
    QN_MIX_Q4_0, QN_MIX_Q4_1, QN_MIX_Q5_0, QN_MIX_Q5_1, QN_MIX_Q8_0, QN_MIX_Q2_K, QN_MIX_Q2_K_S, QN_MIX_Q3_K_S, QN_MIX_Q3_K_M, QN_MIX_Q3_K_L,
    QN_MIX_Q4_K_S, QN_MIX_Q4_K_M, QN_MIX_Q5_K_S, QN_MIX_Q5_K_M, QN_MIX_Q6_K, QN_MIX_IQ1_S, QN_MIX_IQ1_M, QN_MIX_IQ2_XXS, QN_MIX_IQ2_XS, QN_MIX_IQ2_S,
    QN_MIX_IQ2_M, QN_MIX_IQ3_XXS, QN_MIX_IQ3_XS, QN_MIX_IQ3_S, QN_MIX_IQ3_M, QN_MIX_IQ4_NL, QN_MIX_IQ4_XS, QN_MIX_TQ1_0, QN_MIX_TQ2_0, QN_MIX_Q2_0,
    QN_MIX_Q1_0, QN_MIX_MXFP4_MOE
} qn_ggx_mix_id;

typedef struct qn_ggx_mix {
    const char *name;
    qn_ggx_mix_id id;
    qn_dtype base;
    uint32_t file_type;
} qn_ggx_mix;
extern const qn_ggx_mix qn_ggx_mixes[]; /* gguf_mix_tab.c; ended by a NULL name */

/* A block type by its name, in either case; and the number that stands for a file that is mostly of it. */
typedef struct qn_ggx_type {
    qn_dtype type;
    uint32_t file_type;
} qn_ggx_type;
extern const qn_ggx_type qn_ggx_type_tab[]; /* ended by QN_BYTES */

/* What the mix gives a tensor that may be quantized, before its shape is looked at. `seen`: counts of tensors of its kind before it, kept between calls. */
typedef struct qn_ggx_seen {
    uint32_t v, down;  /* so far        */
    uint32_t n_v, n_down;
} qn_ggx_seen;
qn_dtype qn_ggx_mix_of(const qn_ggx *x, const qn_ggx_mix *m, const qn_ggx_tensor *t, bool measured, qn_ggx_seen *seen);

#endif
