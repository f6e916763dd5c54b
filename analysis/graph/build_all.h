/* build_all.h: the builders that arch_tab.c puts together: one line each. */
#ifndef QN_ANALYSIS_GRAPH_BUILD_ALL_H
#define QN_ANALYSIS_GRAPH_BUILD_ALL_H

#include "analysis/graph/build.h"

#define QN_BUILDER(name) qn_code name(qn_build *b, const qn_env *env, qn_source *s, qn_err *err) QN_MUST_CHECK

QN_BUILDER(qn_build_llama);
QN_BUILDER(qn_build_moe);
QN_BUILDER(qn_build_gemma);
QN_BUILDER(qn_build_phi3);
QN_BUILDER(qn_build_gguf_llama);
QN_BUILDER(qn_build_gpt2);
QN_BUILDER(qn_build_gpt_neo);
QN_BUILDER(qn_build_gpt_neox);
QN_BUILDER(qn_build_opt);
QN_BUILDER(qn_build_phi);
QN_BUILDER(qn_build_mamba);
QN_BUILDER(qn_build_mamba2);
QN_BUILDER(qn_build_rwkv5);

#endif
