/* build_gguf_rope.c: rotary positions as GGUF files say them; see compress/export/gguf_rope.c for what the keys mean to llama.cpp. */
#include "analysis/graph/build_gguf.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { PAIRS_MAX = 512 };
static const double two_pi = 6.283185307179586476925;

/* The divisors of a tensor (rotary / 2), when it is there: f is multiplied by them. */
static qn_code times(qn_build *b, const char *tensor, uint64_t rotary, double *f, bool *there, qn_err *err)
{
    const uint64_t t = qn_source_tensor_find(b->g->source, tensor);
    float raw[PAIRS_MAX];
    *there = t != UINT64_MAX;
    if (!*there)
        return QN_OK;
    const qn_source_tensor *w = &b->g->source->tensors[t];
    if (w->dtype != QN_F32 || w->rank != 1 || w->dims[0] != rotary / 2 || rotary / 2 > PAIRS_MAX)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "F32 (%" PRIu64 "), half of rope.dimension_count, is expected", rotary / 2),
                                w->name);
    QN_TRY(qn_source_tensor_read(b->g->source, t, 0, rotary / 2 * sizeof raw[0], raw, err));
    for (uint64_t k = 0; k < rotary / 2; k++) {
        if (!(raw[k] >= 1e-6f && raw[k] <= 1e9f))
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "element %" PRIu64 " is %g: a positive number is expected", k,
                                                 (double)raw[k]), w->name);
        f[k] *= (double)raw[k];
    }
    return QN_OK;
}

/* Peng et al. 2023: between the corners a ramp from kept to divided. *scale: of cos and sin. */
static qn_code yarn(const qn_build *b, double base, uint64_t rotary, uint64_t max_positions, double *f, double *scale, qn_err *err)
{
    double factor, fast, slow, attn;
    uint64_t orig;
    const double d = (double)rotary;
    QN_TRY(qn_build_gguf_f64(b, "rope.scaling.factor", 1e-3, 1e6, 1, &factor, err));
    QN_TRY(qn_build_gguf_u64(b, "rope.scaling.original_context_length", 1, UINT32_MAX, max_positions ? max_positions : UINT64_MAX, &orig, err));
    QN_TRY(qn_build_gguf_f64(b, "rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32, &fast, err));
    QN_TRY(qn_build_gguf_f64(b, "rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1, &slow, err));
    QN_TRY(qn_build_gguf_f64(b, "rope.scaling.attn_factor", 1e-6, 1e6, 1, &attn, err));
    const double from = fmax(0, floor(d * log((double)orig / (two_pi * fast)) / (2 * log(base))));
    const double to = fmin(d - 1, ceil(d * log((double)orig / (two_pi * slow)) / (2 * log(base))));
    for (uint64_t k = 0; k < rotary / 2; k++) {
        const double ramp = fmin(1, fmax(0, ((double)k - from) / fmax(0.001, to - from)));
        f[k] *= 1 / (ramp / factor + 1 - ramp);
    }
    *scale = attn * (1 + 0.1 * log(factor));
    return QN_OK;
}

static qn_code longrope(qn_build *b, double base, uint64_t rotary, uint64_t max_positions, qn_rope *r, qn_err *err)
{
    double f[PAIRS_MAX];
    bool there;
    qn_rope far;
    for (uint64_t k = 0; k < PAIRS_MAX; k++)
        f[k] = 1;
    QN_TRY(times(b, "rope_factors_long.weight", rotary, f, &there, err));
    if (!there)
        return QN_OK;
    QN_TRY(qn_build_rope_plain(b, "rope.long", base, rotary, f, &far, err));
    r->long_freq = far.freq;
    QN_TRY(qn_build_gguf_u64(b, "rope.scaling.original_context_length", 1, UINT32_MAX, max_positions ? max_positions : UINT64_MAX, &r->original, err));
    return qn_build_gguf_f64(b, "rope.scaling.attn_factor", 1e-6, 1e6, 1, &r->scale, err);
}

qn_code qn_build_gguf_rope(qn_build *b, uint64_t head_dim, uint64_t max_positions, qn_rope *r, qn_err *err)
{
    double base, factor = 1, scale = 1, f[PAIRS_MAX];
    uint64_t rotary;
    bool there = false;
    char type[32] = "none";
    const qn_name_text key = qn_name("%s.rope.scaling.type", b->type);
    QN_TRY(qn_build_gguf_u64(b, "rope.dimension_count", 2, head_dim, head_dim, &rotary, err));
    QN_TRY(qn_build_gguf_f64(b, "rope.freq_base", 1 + 1e-6, 1e15, 1e4, &base, err));
    if (rotary / 2 > PAIRS_MAX)
        return qn_build_gguf_range("rope.dimension_count", qn_name("%" PRIu64, rotary).s, "at most 1024", err);
    if (qn_gguf_find(b->gguf, key.s))
        QN_TRY(qn_gguf_get_str(b->gguf, key.s, type, sizeof type, err));
    if (!strcmp(type, "linear"))
        QN_TRY(qn_build_gguf_f64(b, "rope.scaling.factor", 1e-3, 1e6, 1, &factor, err));
    else if (strcmp(type, "none") && strcmp(type, "yarn") && strcmp(type, "longrope"))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "rope.scaling.type is \"%s\": none, linear, yarn and longrope are known", type);
    for (uint64_t k = 0; k < PAIRS_MAX; k++)
        f[k] = factor;
    QN_TRY(times(b, "rope_freqs.weight", rotary, f, &there, err));
    if (!there)
        QN_TRY(times(b, "rope_factors_short.weight", rotary, f, &there, err));
    if (!strcmp(type, "yarn"))
        QN_TRY(yarn(b, base, rotary, max_positions, f, &scale, err));
    QN_TRY(qn_build_rope_plain(b, "rope", base, rotary, f, r, err));
    r->scale = scale;
    return longrope(b, base, rotary, max_positions, r, err);
}
