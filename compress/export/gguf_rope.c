/* gguf_rope.c: see gguf_rope.h. Formulas: analysis/graph/build_rope.c; what llama.cpp makes of the keys:
 *
 *   linear    positions / factor
 *   llama3    no key: a tensor of divisors of the frequencies, rope_freqs.weight (head / 2)
 *   longrope  two tensors of divisors; the long ones from original_context_length on; attn_factor multiplies cos and sin
 *   yarn      the ramp as in the paper, corners rounded outwards; cos and sin times 1 + 0.1 ln factor, times attn_factor
 *   dynamic   not there: up to the model's own length it is the plain one */
#include "compress/export/gguf_rope.h"
#include "base/err.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const double two_pi = 6.283185307179586476925;

static qn_code find_parameters(const qn_config *top, const qn_ggx_rope_of *r, qn_config *p, bool *is_new, qn_err *err)
{
    bool there, is_object = false;
    QN_TRY(qn_config_sub(top, "rope_parameters", p, is_new, err));
    if (!*is_new) {
        QN_TRY(qn_config_sub(top, "rope_scaling", p, &there, err));
        if (r->local)
            memset(p, 0, sizeof *p);
        return QN_OK;
    }
    if (!qn_config_key(p, 0, &is_object) || !is_object)
        return QN_OK;
    const qn_config all = *p;
    return qn_config_sub(&all, r->layer_type ? r->layer_type : "full_attention", p, &there, err);
}

static qn_code original(const qn_ggx *x, const qn_config *p, uint64_t otherwise, uint64_t *v, qn_err *err)
{
    QN_TRY(qn_config_u64_or(p, "original_max_position_embeddings", 1, UINT32_MAX, otherwise, v, err));
    return qn_config_u64_or(&x->config, "original_max_position_embeddings", 1, UINT32_MAX, *v, v, err);
}

static qn_code add_factors(qn_ggx *x, const char *name, const float *f, uint64_t n, qn_err *err)
{
    qn_ggx_tensor *t = qn_ggx_add(x, err);
    if (!t)
        return QN_E_MEMORY;
    *t = (qn_ggx_tensor){.name = name, .dims = {n}, .rank = 1, .rows = n, .cols = 1, .made = f, .dtype = QN_F32};
    return QN_OK;
}

static qn_code llama3(qn_ggx *x, const qn_config *p, double base, uint64_t dim, qn_err *err)
{
    double factor, low, high;
    uint64_t orig;
    float *f = qn_arena_get(x->arena, dim / 2 * sizeof *f, 8, err);
    if (!f)
        return QN_E_MEMORY;
    QN_TRY(qn_config_f64(p, "factor", 1e-3, 1e6, &factor, err));
    QN_TRY(qn_config_f64_or(p, "low_freq_factor", 1e-6, 1e6, 1, &low, err));
    QN_TRY(qn_config_f64_or(p, "high_freq_factor", 1e-6, 1e6, 4, &high, err));
    QN_TRY(original(x, p, 8192, &orig, err));
    for (uint64_t k = 0; k < dim / 2; k++) {
        const double turns = (double)orig * pow(base, -2.0 * (double)k / (double)dim) / two_pi, s = (turns - low) / (high - low);
        f[k] = (float)(turns < low ? factor : turns > high ? 1 : 1 / ((1 - s) / factor + s));
    }
    return add_factors(x, "rope_freqs.weight", f, dim / 2, err);
}

static qn_code factors(qn_ggx *x, const qn_config *p, const char *key, const char *name, uint64_t dim, qn_err *err)
{
    uint64_t n;
    float *f = qn_arena_get(x->arena, dim / 2 * sizeof *f, 8, err);
    if (!f)
        return QN_E_MEMORY;
    QN_TRY(qn_config_list(p, key, &n, err));
    if (n != dim / 2)
        return qn_config_fail(p, err, QN_E_INPUT, "%s has %" PRIu64 " elements: %" PRIu64 " are expected", key, n, dim / 2);
    for (uint64_t k = 0; k < n; k++) {
        double by;
        QN_TRY(qn_config_item_f64(p, key, k, 1e-6, 1e9, &by, err));
        f[k] = (float)by;
    }
    return add_factors(x, name, f, n, err);
}

static qn_code longrope(qn_ggx *x, const qn_config *p, const qn_ggx_rope_of *r, uint64_t dim, qn_err *err)
{
    uint64_t orig;
    double factor = 1, scale;
    QN_TRY(original(x, p, 0, &orig, err));
    if (orig)
        factor = r->max_positions ? (double)r->max_positions / (double)orig : 1;
    else
        QN_TRY(qn_config_f64_or(p, "factor", 1e-3, 1e6, 1, &factor, err));
    if (!orig)
        orig = r->max_positions;
    QN_TRY(qn_config_f64_or(p, "attention_factor", 1e-6, 1e6, factor <= 1 || orig < 2 ? 1 : sqrt(1 + log(factor) / log((double)orig)), &scale, err));
    QN_TRY(qn_ggx_str(x, "rope.scaling.type", "longrope", err));
    QN_TRY(qn_ggx_u32(x, "rope.scaling.original_context_length", orig, err));
    QN_TRY(qn_ggx_f32(x, "rope.scaling.attn_factor", scale, err));
    QN_TRY(factors(x, p, "long_factor", "rope_factors_long.weight", dim, err));
    return factors(x, p, "short_factor", "rope_factors_short.weight", dim, err);
}

static double magnitude(double factor, double scale)
{
    return factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1;
}

static qn_code yarn(qn_ggx *x, const qn_config *p, const qn_ggx_rope_of *r, qn_err *err)
{
    double factor, fast, slow, m, all, scale;
    uint64_t orig;
    bool truncate;
    QN_TRY(qn_config_f64(p, "factor", 1e-3, 1e6, &factor, err));
    QN_TRY(qn_config_f64_or(p, "beta_fast", 1e-3, 1e6, 32, &fast, err));
    QN_TRY(qn_config_f64_or(p, "beta_slow", 1e-3, 1e6, 1, &slow, err));
    QN_TRY(qn_config_f64_or(p, "mscale", 0, 1e6, 0, &m, err));
    QN_TRY(qn_config_f64_or(p, "mscale_all_dim", 0, 1e6, 0, &all, err));
    QN_TRY(qn_config_bool_or(p, "truncate", true, &truncate, err));
    QN_TRY(original(x, p, r->max_positions, &orig, err));
    if (!truncate)
        return qn_config_fail(p, err, QN_E_UNSUPPORTED, "truncate is false: llama.cpp rounds the corners of yarn's ramp");
    QN_TRY(qn_config_f64_or(p, "attention_factor", 1e-6, 1e6, m > 0 && all > 0 ? magnitude(factor, m) / magnitude(factor, all) : magnitude(factor, 1), &scale, err));
    QN_TRY(qn_ggx_str(x, "rope.scaling.type", "yarn", err));
    QN_TRY(qn_ggx_f32(x, "rope.scaling.factor", factor, err));
    QN_TRY(qn_ggx_u32(x, "rope.scaling.original_context_length", orig, err));
    QN_TRY(qn_ggx_f32(x, "rope.scaling.yarn_beta_fast", fast, err));
    QN_TRY(qn_ggx_f32(x, "rope.scaling.yarn_beta_slow", slow, err));
    const double own = 1 + 0.1 * log(factor);
    return fabs(scale / own - 1) < 1e-6 ? QN_OK : qn_ggx_f32(x, "rope.scaling.attn_factor", scale / own, err);
}

qn_code qn_ggx_rope(qn_ggx *x, const qn_ggx_rope_of *r, qn_err *err)
{
    qn_config p;
    bool is_new;
    double theta = r->theta, partial = r->partial, factor;
    const char *type;
    QN_TRY(find_parameters(&x->config, r, &p, &is_new, err));
    QN_TRY(qn_config_f64_or(&x->config, r->theta_key, 1 + 1e-6, 1e15, theta, &theta, err));
    QN_TRY(qn_config_f64_or(&x->config, "partial_rotary_factor|rotary_pct", 0, 1, partial, &partial, err));
    if (is_new) {
        QN_TRY(qn_config_f64_or(&p, "rope_theta", 1 + 1e-6, 1e15, theta, &theta, err));
        QN_TRY(qn_config_f64_or(&p, "partial_rotary_factor", 0, 1, partial, &partial, err));
    }
    QN_TRY(qn_config_str_or(&p, "rope_type|type", "default", &type, err));
    const uint64_t dim = (uint64_t)((double)x->head_dim * partial);
    if (dim < 2 || dim % 2)
        return qn_config_fail(&x->config, err, QN_E_UNSUPPORTED, "%" PRIu64 " channels of a head are rotated: llama.cpp wants an even number", dim);
    if (r->local) {
        if (strcmp(type, "default"))
            return qn_config_fail(&p, err, QN_E_UNSUPPORTED, "rope_type is \"%.32s\" in sliding layers: llama.cpp scales only the others", type);
        return qn_ggx_f32(x, "rope.freq_base_swa", theta, err);
    }
    QN_TRY(qn_ggx_u32(x, "rope.dimension_count", dim, err));
    QN_TRY(qn_ggx_f32(x, "rope.freq_base", theta, err));
    if (!strcmp(type, "default") || !strcmp(type, "mrope"))
        return QN_OK;
    if (!strcmp(type, "linear")) {
        QN_TRY(qn_config_f64(&p, "factor", 1e-3, 1e6, &factor, err));
        QN_TRY(qn_ggx_str(x, "rope.scaling.type", "linear", err));
        return qn_ggx_f32(x, "rope.scaling.factor", factor, err);
    }
    if (!strcmp(type, "dynamic")) {
        qn_export_say(x->job, "positions are stretched dynamically; llama.cpp does not do that: up to %" PRIu64 " tokens it makes no difference", r->max_positions);
        return QN_OK;
    }
    if (!strcmp(type, "llama3") && (!strcmp(x->arch, "llama")))
        return llama3(x, &p, theta, dim, err);
    if ((!strcmp(type, "longrope") || !strcmp(type, "su")) && (!strcmp(x->arch, "llama") || !strcmp(x->arch, "phi3")))
        return longrope(x, &p, r, dim, err);
    if (!strcmp(type, "yarn"))
        return yarn(x, &p, r, err);
    return qn_config_fail(&p, err, QN_E_UNSUPPORTED, "rope_type is \"%.32s\": llama.cpp's \"%s\" does not have it", type, x->arch);
}
