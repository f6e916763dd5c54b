/* names.h: the names that one tensor has in a Hugging Face checkpoint and in a GGUF file, for the architectures of names_tab.c.
 *
 * Experts are tensors of their own there ("model.layers.3.mlp.experts.7.up_proj.weight") and one tensor of three dimensions
 * here ("blk.3.ffn_up_exps.weight", expert 7). */
#ifndef QN_FORMATS_GGUF_NAMES_H
#define QN_FORMATS_GGUF_NAMES_H

#include "quern/base.h"

#define QN_GGUF_NO_EXPERT UINT32_MAX

enum { QN_GGUF_NAME_CAP = 192 }; /* room for any name that is made here */

/* Bits of qn_gguf_name_row.archs, one for each row of qn_gguf_archs. */
typedef struct qn_gguf_name_row {
    uint32_t archs;
    const char *hf, *gguf; /* without ".weight"; # stands for the layer, @ for the expert */
} qn_gguf_name_row;

extern const char *const qn_gguf_archs[]; /* GGUF's general.architecture or HF's model_type; ended by NULL */
extern const qn_gguf_name_row qn_gguf_name_tab[];
extern const unsigned qn_gguf_name_rows;

/* The bit of an architecture; 0 when it is not in the table. */
uint32_t qn_gguf_arch_bit(const char *arch);

/* HF → GGUF. arch: a bit, or UINT32_MAX for any (the first row that fits). "transformer.", "language_model." and
 * "model.language_model." in front do not count. False when no row fits; *expert: QN_GGUF_NO_EXPERT for most. */
bool qn_gguf_name_from_hf(uint32_t arch, const char *hf, char out[QN_GGUF_NAME_CAP], uint32_t *expert);
/* GGUF → HF. Where architectures differ, `any` takes the row that stands first: mostly llama's. */
bool qn_gguf_name_to_hf(uint32_t arch, const char *gguf, uint32_t expert, char out[QN_GGUF_NAME_CAP]);

#endif
