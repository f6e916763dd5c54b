/* lm_parts.h: what the operators of language models and their derivatives (analysis/grad/) both need: attributes taken apart, the routing of experts, the
 * turning of rotary positions. Forward functions: ops_lm.h. */
#ifndef QN_ANALYSIS_EXEC_LM_PARTS_H
#define QN_ANALYSIS_EXEC_LM_PARTS_H

#include "analysis/exec/lm_act.h"
#include "analysis/exec/lm_help.h"

/* Rope of in[0] with the node's other operands → *out; back: by the opposite angles, which is what its derivative does with ∂loss/∂y. */
qn_code qn_lm_rope_turn(qn_exec *x, const qn_node *n, const qn_array *in, bool back, qn_array *out, qn_err *err) QN_MUST_CHECK;

typedef struct qn_lm_attention {
    const float *q, *k, *v, *slopes; /* slopes: (heads) or NULL */
    const int64_t *starts;           /* (n_seq + 1)             */
    uint64_t n_seq, heads, kv_heads, head_dim, v_dim, window; /* window 0: none */
    float scale, softcap;            /* softcap 0: none         */
    bool causal;
} qn_lm_attention;
/* Operands and attributes of an Attention, checked. */
qn_code qn_lm_attention_get(const qn_node *n, const qn_array *in, qn_lm_attention *a, qn_err *err) QN_MUST_CHECK;
/* Tokens of the longest sequence, at least 1. */
uint64_t qn_lm_attention_longest(const qn_lm_attention *a);

typedef enum qn_moe_layout { QN_MOE_SEPARATE, QN_MOE_STACKED, QN_MOE_FUSED } qn_moe_layout;
typedef struct qn_lm_moe {
    uint64_t n, top_k, cols, rows; /* experts; chosen for a token; values of a token; tokens                         */
    uint64_t ffn, ffn_most;        /* values inside of the expert at hand, and of the widest: pruned ones may differ */
    qn_moe_layout layout;
    bool norm;
    const qn_lm_act *act;
    const float *logits;                /* (rows, n)                                       */
    int64_t *chosen;                    /* (rows, top_k) experts                           */
    float *share;                       /* (rows, top_k) what their output is multiplied with */
} qn_lm_moe;
/* Operands and attributes of an Experts node, checked; chosen and share are not set. */
qn_code qn_lm_moe_get(const qn_node *n, const qn_array *in, qn_lm_moe *m, qn_err *err) QN_MUST_CHECK;
/* Fills m->chosen and m->share, which are made here: the arrays hold them. */
qn_code qn_lm_moe_route(qn_exec *x, qn_lm_moe *m, qn_array *chosen, qn_array *share, qn_err *err) QN_MUST_CHECK;
/* Position of a weight among the node's inputs; role 0 gate (or gate and up), 1 up, 2 down. */
unsigned qn_lm_moe_input(const qn_lm_moe *m, unsigned role, uint64_t expert);
/* Width inside of an expert: columns of its down weight. */
uint64_t qn_lm_moe_ffn(const qn_lm_moe *m, const qn_array *in, uint64_t expert);
/* Where in chosen and share an expert is, in order → place; place / top_k is the token. Returns how many. */
uint64_t qn_lm_moe_places(const qn_lm_moe *m, uint64_t expert, int64_t *place);
/* Tokens of the expert that has most of them. */
uint64_t qn_lm_moe_most(const qn_lm_moe *m);
/* The content of an expert's weight of one role: where it is held, or read into *room (made or grown; the caller releases it). */
qn_code qn_lm_moe_weight(qn_exec *x, const qn_node *n, const qn_lm_moe *m, const qn_array *in, unsigned role, uint64_t expert, qn_array *room,
                         const float **w, qn_err *err) QN_MUST_CHECK;

#endif
