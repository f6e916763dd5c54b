/* build_more.h: steps that the builders of GPT-2, GPT-Neo, GPT-NeoX, OPT, Phi, Mamba and RWKV share, beyond build.h. */
#ifndef QN_ANALYSIS_GRAPH_BUILD_MORE_H
#define QN_ANALYSIS_GRAPH_BUILD_MORE_H

#include "analysis/graph/build.h"

enum { QN_LAYERS_MAX = 1 << 16, QN_WIDTH_MAX = 1 << 26 };

/* A size that config.json must give, from 1 to QN_WIDTH_MAX; keys as in config.h. */
qn_code qn_build_dim(const qn_build *b, const char *keys, qn_dim *d, qn_err *err) QN_MUST_CHECK;
qn_code qn_build_dim_or(const qn_build *b, const char *keys, uint64_t otherwise, qn_dim *d, qn_err *err) QN_MUST_CHECK;
qn_code qn_build_layers(const qn_build *b, const char *keys, uint64_t *n, qn_err *err) QN_MUST_CHECK;
/* width / heads; QN_E_INPUT when it is no whole number. */
qn_code qn_build_head_size(const qn_build *b, qn_dim width, qn_dim heads, uint64_t *head, qn_err *err) QN_MUST_CHECK;
/* The activation that a key names, as the operator calls it. */
qn_code qn_build_act_of(const qn_build *b, const char *key, const char *otherwise, const char **kind, qn_err *err) QN_MUST_CHECK;

/* Block "layers.<i>". */
qn_code qn_build_layer(qn_build *b, uint64_t i, qn_err *err) QN_MUST_CHECK;
/* Rows of <prefix>.weight (places + offset, width), picked by each token's place in its sequence: learned positions. */
qn_code qn_build_places(qn_build *b, const char *prefix, qn_dim places, unsigned offset, qn_dim width, uint32_t *y,
                        qn_err *err) QN_MUST_CHECK;
/* Attention; window 0: all tokens before. */
qn_code qn_build_attention(qn_build *b, const char *name, const uint32_t qkv[3], uint64_t heads, uint64_t kv_heads, uint64_t head,
                           double scale, uint64_t window, uint32_t *y, qn_err *err) QN_MUST_CHECK;
/* Split of the last axis; out: n values. */
qn_code qn_build_split(qn_build *b, const char *name, uint32_t x, const int64_t *sizes, unsigned n, uint64_t groups, uint32_t *out,
                       qn_err *err) QN_MUST_CHECK;
/* down(act(up x)): <up>.weight (inner, width), <down>.weight (width, inner). */
qn_code qn_build_mlp(qn_build *b, const char *up, const char *down, const char *kind, uint32_t x, qn_dim width, qn_dim inner,
                     qn_bias bias, uint32_t *y, qn_err *err) QN_MUST_CHECK;

#endif
