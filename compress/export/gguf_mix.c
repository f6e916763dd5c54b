/* gguf_mix.c: what the named mixes give each tensor: behaviour of llama-quantize (llama.cpp v0.5.0), as a table of exceptions from the base type. Its special
 * case for 70B models (80 layers, GQA 8: v at least Q5_K) is included; that for Falcon is not, which is not written here. */
#include "compress/export/gguf_mix.h"
#include "base/num.h"
#include <stdio.h>
#include <string.h>

typedef enum kind { OTHER, HEAD, EMBED, Q, K, V, QKV, OUT, UP, GATE, DOWN } kind;

static kind kind_of(const char *name)
{
    static const struct {
        const char *part;
        kind is;
    } parts[] = {{"attn_qkv.weight", QKV}, {"attn_kv_b.weight", V}, {"attn_v.weight", V}, {"attn_k.weight", K}, {"attn_q.weight", Q},
                 {"attn_output.weight", OUT}, {"ffn_up", UP}, {"ffn_gate", GATE}, {"ffn_down", DOWN}};
    if (!strcmp(name, "output.weight"))
        return HEAD;
    if (!strcmp(name, "token_embd.weight"))
        return EMBED;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strstr(name, parts[i].part))
            return parts[i].is;
    return OTHER;
}

static bool among(qn_ggx_mix_id id, const qn_ggx_mix_id *list, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (list[i] == id)
            return true;
    return false;
}

#define ONE_OF(id, ...) among(id, (const qn_ggx_mix_id[]){__VA_ARGS__}, sizeof((const qn_ggx_mix_id[]){__VA_ARGS__}) / sizeof(qn_ggx_mix_id))

/* The first eighth, the last, and every third between. */
static bool more(uint32_t i, uint32_t n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static bool very_low(qn_ggx_mix_id id)
{
    return ONE_OF(id, QN_MIX_IQ2_XXS, QN_MIX_IQ2_XS, QN_MIX_IQ1_S, QN_MIX_IQ1_M, QN_MIX_IQ2_S, QN_MIX_IQ2_M);
}

static qn_dtype head(const qn_ggx_mix *m, const qn_ggx_tensor *t)
{
    const qn_dtype base = m->base;
    if (m->id == QN_MIX_MXFP4_MOE || t->cols % qn_dtype_block_elems(base))
        return QN_Q8_0;
    if (very_low(m->id) || m->id == QN_MIX_IQ3_XXS)
        return QN_Q5_K;
    return base == QN_Q8_0 ? base : QN_Q6_K;
}

static qn_dtype embedding(const qn_ggx_mix *m)
{
    if (ONE_OF(m->id, QN_MIX_IQ2_XXS, QN_MIX_IQ2_XS, QN_MIX_IQ1_S, QN_MIX_IQ1_M))
        return QN_Q2_K;
    if (ONE_OF(m->id, QN_MIX_IQ2_S, QN_MIX_IQ2_M, QN_MIX_IQ3_XXS))
        return QN_IQ3_S;
    return ONE_OF(m->id, QN_MIX_TQ1_0, QN_MIX_TQ2_0, QN_MIX_Q2_0) ? QN_Q4_K : m->base;
}

/* Mixes of 2.7 bits and less have exceptions of their own. */
static qn_dtype of_very_low(const qn_ggx *x, const qn_ggx_mix *m, kind k, qn_ggx_seen *seen)
{
    const bool two = ONE_OF(m->id, QN_MIX_IQ2_S, QN_MIX_IQ2_M);
    const qn_dtype some = two ? QN_IQ3_S : QN_Q2_K;
    if (k == V || k == QKV)
        return x->heads >= 4 * x->kv_heads || x->n_experts >= 4 ? QN_Q4_K : some;
    if (k == K && x->n_experts == 8)
        return QN_Q4_K;
    if (k == DOWN)
        return seen->down < seen->n_down / 8 ? some : m->base;
    if (k == OUT && x->n_experts == 8)
        return QN_Q5_K;
    if (k == OUT)
        return ONE_OF(m->id, QN_MIX_IQ1_S, QN_MIX_IQ1_M) ? QN_IQ2_XXS : two ? QN_IQ3_S : m->base;
    return m->base;
}

static qn_dtype value(const qn_ggx *x, const qn_ggx_mix *m, bool measured, const qn_ggx_seen *seen)
{
    const bool shared = x->heads >= 4 * x->kv_heads; /* few v for many q */
    qn_dtype t = m->base;
    switch (m->id) {
    case QN_MIX_Q2_K:
        t = shared ? QN_Q4_K : QN_Q3_K;
        break;
    case QN_MIX_Q2_K_S:
    case QN_MIX_IQ3_XS:
    case QN_MIX_IQ3_S:
        t = shared ? QN_Q4_K : t;
        break;
    case QN_MIX_IQ3_XXS:
        t = shared ? QN_Q4_K : measured ? QN_IQ3_XXS : QN_IQ3_S;
        break;
    case QN_MIX_IQ3_M:
        t = QN_Q4_K;
        break;
    case QN_MIX_Q3_K_M:
        t = seen->v < 2 ? QN_Q5_K : QN_Q4_K;
        break;
    case QN_MIX_Q3_K_L:
        t = QN_Q5_K;
        break;
    case QN_MIX_IQ4_NL:
    case QN_MIX_IQ4_XS:
        t = shared ? QN_Q5_K : t;
        break;
    case QN_MIX_Q4_K_M:
    case QN_MIX_Q5_K_M:
        t = more(seen->v, seen->n_v) ? QN_Q6_K : t;
        break;
    case QN_MIX_Q4_K_S:
        t = seen->v < 4 ? QN_Q5_K : t;
        break;
    default:
        break;
    }
    if (x->n_layers == 80 && x->heads == 8 * x->kv_heads && (t == QN_Q3_K || t == QN_Q4_K))
        t = QN_Q5_K;
    return x->n_experts == 8 ? QN_Q8_0 : t;
}

static qn_dtype down(const qn_ggx *x, const qn_ggx_mix *m, bool measured, uint32_t i, uint32_t n)
{
    const bool early = i < n / 8;
    switch (m->id) {
    case QN_MIX_Q2_K:
        return QN_Q3_K;
    case QN_MIX_Q2_K_S:
        return early ? QN_Q4_K : m->base;
    case QN_MIX_IQ3_XXS:
        return measured ? m->base : early ? QN_Q4_K : QN_Q3_K;
    case QN_MIX_Q3_K_M:
        return i < n / 16 ? QN_Q5_K : QN_Q4_K;
    case QN_MIX_IQ3_M:
        return early || (x->n_experts == 8 && more(i, n)) ? QN_Q4_K : m->base;
    case QN_MIX_Q3_K_L:
        return QN_Q5_K;
    case QN_MIX_Q4_K_M:
    case QN_MIX_Q5_K_M:
        return more(i, n) ? QN_Q6_K : m->base;
    case QN_MIX_IQ4_NL:
    case QN_MIX_IQ4_XS:
        return early && !measured ? QN_Q5_K : m->base;
    case QN_MIX_Q4_K_S:
        return early ? QN_Q5_K : m->base;
    case QN_MIX_Q4_0:
        return early && measured ? QN_Q4_1 : m->base;
    case QN_MIX_Q5_0:
        return early && measured ? QN_Q5_1 : m->base;
    default:
        return m->base;
    }
}

static qn_dtype output_of_attention(const qn_ggx *x, const qn_ggx_mix *m)
{
    if (x->n_experts == 8)
        return ONE_OF(m->id, QN_MIX_Q2_K, QN_MIX_IQ3_XS, QN_MIX_IQ3_XXS, QN_MIX_Q3_K_S, QN_MIX_Q3_K_M, QN_MIX_IQ4_NL, QN_MIX_Q4_K_S, QN_MIX_Q4_K_M,
                      QN_MIX_IQ3_S, QN_MIX_IQ3_M, QN_MIX_IQ4_XS) ? QN_Q5_K : m->base;
    switch (m->id) {
    case QN_MIX_Q2_K:
        return QN_Q3_K;
    case QN_MIX_IQ3_XXS:
        return QN_IQ3_S;
    case QN_MIX_Q3_K_M:
    case QN_MIX_IQ3_M:
        return QN_Q4_K;
    case QN_MIX_Q3_K_L:
        return QN_Q5_K;
    default:
        return m->base;
    }
}

static qn_dtype of_kind(const qn_ggx *x, const qn_ggx_mix *m, const qn_ggx_tensor *t, kind k, bool measured, qn_ggx_seen *seen)
{
    unsigned layer = 0;
    const bool in_layer = sscanf(t->name, "blk.%u.", &layer) == 1;
    const uint32_t n_layers = (uint32_t)x->n_layers;
    switch (k) {
    case Q:
    case K:
        if (k == K && x->n_experts == 8)
            return QN_Q8_0;
        return m->id == QN_MIX_IQ3_XS ? QN_IQ3_XXS : m->id == QN_MIX_IQ3_XXS ? QN_IQ2_S : m->base;
    case V:
    case QKV: /* which counts as v; exceptions that the tool has for itself are never reached */
        return value(x, m, measured, seen);
    case DOWN:
        return x->n_experts > 1 && in_layer ? down(x, m, measured, layer, n_layers) : down(x, m, measured, seen->down, seen->n_down);
    case OUT:
        return output_of_attention(x, m);
    case UP:
    case GATE:
        return m->id == QN_MIX_IQ3_XS && in_layer && layer >= n_layers / 8 && layer < 7 * n_layers / 8 ? QN_IQ3_XXS : m->base;
    default:
        return m->base;
    }
}

qn_dtype qn_ggx_mix_of(const qn_ggx *x, const qn_ggx_mix *m, const qn_ggx_tensor *t, bool measured, qn_ggx_seen *seen)
{
    const kind k = kind_of(t->name);
    if (!seen->n_down)
        for (uint32_t i = 0; i < x->n; i++) {
            const kind is = kind_of(x->list[i].name);
            seen->n_v += is == V || is == QKV;
        }
    seen->n_down = (uint32_t)qn_max_u64(x->n_layers, 1);
    qn_dtype type;
    if (k == HEAD || (k == EMBED && x->tied))
        type = head(m, t);
    else if (m->id == QN_MIX_MXFP4_MOE)
        type = t->rank > 2 && t->dims[0] > 1 ? QN_MXFP4 : QN_Q8_0;
    else if (k == EMBED)
        type = embedding(m);
    else
        type = very_low(m->id) ? of_very_low(x, m, k, seen) : of_kind(x, m, t, k, measured, seen);
    seen->v += k == V || k == QKV;
    seen->down += k == DOWN;
    return type;
}
