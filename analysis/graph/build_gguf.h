/* build_gguf.h: what the builders of GGUF files share: keys "<architecture>.<name>", and rotary positions by them. */
#ifndef QN_ANALYSIS_GRAPH_BUILD_GGUF_H
#define QN_ANALYSIS_GRAPH_BUILD_GGUF_H

#include "analysis/graph/build.h"
#include "formats/gguf/gguf.h"

/* `otherwise` when the key is not there; QN_E_INPUT when that is UINT64_MAX, and for what is not in [low, high]. */
qn_code qn_build_gguf_u64(const qn_build *b, const char *name, uint64_t low, uint64_t high, uint64_t otherwise, uint64_t *v, qn_err *err) QN_MUST_CHECK;
qn_code qn_build_gguf_f64(const qn_build *b, const char *name, double low, double high, double otherwise, double *v, qn_err *err) QN_MUST_CHECK;
/* QN_E_INPUT: "key '…' is FOUND: ALLOWED is expected". */
qn_code qn_build_gguf_range(const char *key, const char *found, const char *allowed, qn_err *err);
/* Rows of token_embd.weight, or the key vocab_size. */
qn_code qn_build_gguf_vocab(const qn_build *b, uint64_t *n, qn_err *err) QN_MUST_CHECK;

/* build_gguf_rope.c: keys rope.*, and tensors rope_freqs.weight, rope_factors_long.weight and rope_factors_short.weight where they are there. */
qn_code qn_build_gguf_rope(qn_build *b, uint64_t head_dim, uint64_t max_positions, qn_rope *r, qn_err *err) QN_MUST_CHECK;

#endif
