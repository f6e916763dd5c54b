/* build_rope.c: the frequencies of rotary positions and their ways of being stretched.
 *
 *   plain     f_k = base^(−2k / d), d rotated channels                                     Su et al. 2021
 *   linear    f / factor                                                                   Chen et al. 2023
 *   dynamic   the base grows with the length of the sequence: lm_rope.c                    NTK-aware scaling
 *   llama3    by wavelength w = 2π / f: below orig / high kept, above orig / low divided, between both mixed      Llama 3.1
 *   yarn      a ramp between kept and divided over k; cos and sin times an attention factor    Peng et al. 2023
 *   longrope  f / short_k or f / long_k by the length of the sequence, and an attention factor  Ding et al. 2024 */
#include "analysis/graph/build.h"
#include "base/err.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { PAIRS_MAX = 512 };
static const double two_pi = 6.283185307179586476925;

/* What is read from. */
struct reading {
    const qn_config *top;
    qn_config p;           /* rope_parameters or rope_scaling; maybe empty */
    double f[PAIRS_MAX];
    double base;
    uint64_t dim, max_positions;
};

static void plain(double *f, double base, uint64_t dim)
{
    for (uint64_t k = 0; k < dim / 2; k++)
        f[k] = pow(base, -2.0 * (double)k / (double)dim);
}

static qn_code constant(qn_build *b, const char *name, const double *f, uint64_t pairs, uint32_t *v, qn_err *err)
{
    const int64_t dims[1] = {(int64_t)pairs};
    return qn_graph_const(b->g, name, QN_F64, dims, 1, f, v, err);
}

/* original_max_position_embeddings: at the top level it wins over the inner one (Phi-3). */
static qn_code original(const struct reading *r, uint64_t otherwise, uint64_t *v, qn_err *err)
{
    const char *key = "original_max_position_embeddings";
    QN_TRY(qn_config_u64_or(&r->p, key, 1, UINT32_MAX, otherwise, v, err));
    return qn_config_u64_or(r->top, key, 1, UINT32_MAX, *v, v, err);
}

static qn_code factor_of(const struct reading *r, double *factor, qn_err *err)
{
    return qn_config_f64(&r->p, "factor", 1e-3, 1e6, factor, err);
}

static qn_code linear(struct reading *r, qn_rope *out, qn_err *err)
{
    double factor;
    (void)out;
    QN_TRY(factor_of(r, &factor, err));
    for (uint64_t k = 0; k < r->dim / 2; k++)
        r->f[k] /= factor;
    return QN_OK;
}

static qn_code dynamic(struct reading *r, qn_rope *out, qn_err *err)
{
    QN_TRY(factor_of(r, &out->dynamic, err));
    out->original = r->max_positions;
    if (!out->original)
        return qn_config_fail(&r->p, err, QN_E_INPUT, "rope_type is dynamic, and max_position_embeddings is missing");
    return QN_OK;
}

static qn_code llama3(struct reading *r, qn_rope *out, qn_err *err)
{
    double factor, low, high;
    uint64_t orig;
    (void)out;
    QN_TRY(factor_of(r, &factor, err));
    QN_TRY(qn_config_f64_or(&r->p, "low_freq_factor", 1e-6, 1e6, 1, &low, err));
    QN_TRY(qn_config_f64_or(&r->p, "high_freq_factor", 1e-6, 1e6, 4, &high, err));
    QN_TRY(original(r, 8192, &orig, err));
    if (!(high > low))
        return qn_config_fail(&r->p, err, QN_E_INPUT, "high_freq_factor is %g: more than low_freq_factor, %g, is expected", high, low);
    for (uint64_t k = 0; k < r->dim / 2; k++) {
        const double turns = (double)orig * r->f[k] / two_pi; /* in the original context: orig / w */
        const double s = (turns - low) / (high - low);
        if (turns < low)
            r->f[k] /= factor;
        else if (turns <= high)
            r->f[k] *= (1 - s) / factor + s;
    }
    return QN_OK;
}

static double magnitude(double factor, double scale)
{
    return factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1;
}

static qn_code yarn(struct reading *r, qn_rope *out, qn_err *err)
{
    double factor, fast, slow, m, all;
    uint64_t orig;
    bool truncate;
    const double d = (double)r->dim;
    QN_TRY(factor_of(r, &factor, err));
    QN_TRY(qn_config_f64_or(&r->p, "beta_fast", 1e-3, 1e6, 32, &fast, err));
    QN_TRY(qn_config_f64_or(&r->p, "beta_slow", 1e-3, 1e6, 1, &slow, err));
    QN_TRY(qn_config_f64_or(&r->p, "mscale", 0, 1e6, 0, &m, err));
    QN_TRY(qn_config_f64_or(&r->p, "mscale_all_dim", 0, 1e6, 0, &all, err));
    QN_TRY(qn_config_bool_or(&r->p, "truncate", true, &truncate, err));
    QN_TRY(original(r, r->max_positions, &orig, err));
    if (!orig)
        return qn_config_fail(&r->p, err, QN_E_INPUT, "original_max_position_embeddings is missing");
    QN_TRY(qn_config_f64_or(&r->p, "attention_factor", 1e-6, 1e6,
                            m != 0 && all != 0 ? magnitude(factor, m) / magnitude(factor, all) : magnitude(factor, 1), &out->scale, err));
    /* the channel that turns `beta` times in the original context */
    double from = d * log((double)orig / (two_pi * fast)) / (2 * log(r->base)), to = d * log((double)orig / (two_pi * slow)) / (2 * log(r->base));
    if (truncate) {
        from = floor(from);
        to = ceil(to);
    }
    from = from > 0 ? from : 0;
    to = to < d - 1 ? to : d - 1;
    if (to == from)
        to += 0.001;
    for (uint64_t k = 0; k < r->dim / 2; k++) {
        double ramp = ((double)k - from) / (to - from);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        r->f[k] = r->f[k] / factor * ramp + r->f[k] * (1 - ramp);
    }
    const uint64_t max = r->max_positions;
    if (max && qn_config_has(&r->p, "original_max_position_embeddings") && fabs((double)max / (double)orig - factor) > 1e-6 * factor)
        out->mismatch = (double)max / (double)orig;
    return QN_OK;
}

static qn_code factors(struct reading *r, const char *key, double *f, qn_err *err)
{
    uint64_t n;
    QN_TRY(qn_config_list(&r->p, key, &n, err));
    if (n != r->dim / 2)
        return qn_config_fail(&r->p, err, QN_E_INPUT, "%s has %" PRIu64 " elements: %" PRIu64 ", half of the rotated channels, are expected", key, n,
                              r->dim / 2);
    for (uint64_t k = 0; k < n; k++) {
        double by;
        QN_TRY(qn_config_item_f64(&r->p, key, k, 1e-6, 1e9, &by, err));
        f[k] = r->f[k] / by;
    }
    return QN_OK;
}

static qn_code longrope(qn_build *b, const char *name, struct reading *r, qn_rope *out, qn_err *err)
{
    double f[PAIRS_MAX], factor = 1;
    uint64_t orig;
    QN_TRY(original(r, 0, &orig, err));
    if (orig)
        factor = r->max_positions ? (double)r->max_positions / (double)orig : 1;
    else
        QN_TRY(qn_config_f64_or(&r->p, "factor", 1e-3, 1e6, 1, &factor, err));
    if (!orig)
        orig = r->max_positions;
    if (!orig)
        return qn_config_fail(&r->p, err, QN_E_INPUT, "original_max_position_embeddings is missing");
    QN_TRY(qn_config_f64_or(&r->p, "attention_factor", 1e-6, 1e6,
                            factor <= 1 || orig < 2 ? 1 : sqrt(1 + log(factor) / log((double)orig)), &out->scale, err));
    out->original = orig;
    QN_TRY(factors(r, "long_factor", f, err));
    QN_TRY(constant(b, qn_name("%s.long_freq", name).s, f, r->dim / 2, &out->long_freq, err));
    return factors(r, "short_factor", r->f, err);
}

/* The object that the parameters stand in, by layer type or not. *is_new: it is rope_parameters, which may hold the base too. */
static qn_code find_parameters(const qn_config *top, const char *layer_type, bool scaled, qn_config *p, bool *is_new, qn_err *err)
{
    bool there, is_object = false;
    QN_TRY(qn_config_sub(top, "rope_parameters", p, is_new, err));
    if (!*is_new) {
        QN_TRY(qn_config_sub(top, "rope_scaling", p, &there, err));
        if (!scaled)
            memset(p, 0, sizeof *p);
        return QN_OK;
    }
    if (!qn_config_key(p, 0, &is_object) || !is_object)
        return QN_OK;
    const qn_config all = *p;
    return qn_config_sub(&all, layer_type ? layer_type : "full_attention", p, &there, err);
}

qn_code qn_build_rope_config(qn_build *b, const char *name, const char *layer_type, const char *theta_key, double theta, double partial,
                             bool scaled, uint64_t head_dim, uint64_t max_positions, qn_rope *out, qn_err *err)
{
    struct reading r = {.top = b->config, .max_positions = max_positions};
    bool is_new;
    const char *type;
    *out = (qn_rope){.freq = QN_NO_VALUE, .long_freq = QN_NO_VALUE, .scale = 1, .original = 1};
    QN_TRY(find_parameters(b->config, layer_type, scaled, &r.p, &is_new, err));
    QN_TRY(qn_config_f64_or(b->config, theta_key, 1 + 1e-6, 1e15, theta, &theta, err));
    QN_TRY(qn_config_f64_or(b->config, "partial_rotary_factor|rotary_pct", 0, 1, partial, &partial, err));
    if (is_new) {
        QN_TRY(qn_config_f64_or(&r.p, "rope_theta", 1 + 1e-6, 1e15, theta, &theta, err));
        QN_TRY(qn_config_f64_or(&r.p, "partial_rotary_factor", 0, 1, partial, &partial, err));
    }
    QN_TRY(qn_config_str_or(&r.p, "rope_type|type", "default", &type, err));
    r.base = out->base = theta;
    r.dim = out->rotary = (uint64_t)((double)head_dim * partial);
    if (r.dim % 2 || r.dim / 2 > PAIRS_MAX)
        return qn_config_fail(b->config, err, QN_E_INPUT, "%" PRIu64 " channels of a head are rotated: an even number up to %d is expected", r.dim,
                              2 * PAIRS_MAX);
    if (!r.dim)
        return QN_OK;
    plain(r.f, theta, r.dim);
    qn_code rc = QN_OK;
    if (!strcmp(type, "linear"))
        rc = linear(&r, out, err);
    else if (!strcmp(type, "dynamic"))
        rc = dynamic(&r, out, err);
    else if (!strcmp(type, "llama3"))
        rc = llama3(&r, out, err);
    else if (!strcmp(type, "yarn"))
        rc = yarn(&r, out, err);
    else if (!strcmp(type, "longrope") || !strcmp(type, "su"))
        rc = longrope(b, name, &r, out, err);
    else if (strcmp(type, "default") && strcmp(type, "mrope")) { /* mrope: text has one position for all its sections */
        char shown[64];
        qn_printable(shown, sizeof shown, type, strlen(type));
        rc = qn_config_fail(&r.p, err, QN_E_UNSUPPORTED, "rope_type is \"%s\": default, linear, dynamic, llama3, yarn and longrope are known", shown);
    }
    QN_TRY(rc);
    if (out->mismatch != 0)
        qn_graph_warn(b->g, "yarn: factor is not max_position_embeddings / original_max_position_embeddings (%g): factor counts", out->mismatch);
    return constant(b, qn_name("%s.freq", name).s, r.f, r.dim / 2, &out->freq, err);
}

qn_code qn_build_rope_plain(qn_build *b, const char *name, double base, uint64_t rotary, const double *divisors, qn_rope *out, qn_err *err)
{
    double f[PAIRS_MAX];
    *out = (qn_rope){.freq = QN_NO_VALUE, .long_freq = QN_NO_VALUE, .scale = 1, .original = 1, .rotary = rotary, .base = base};
    if (rotary % 2 || rotary / 2 > PAIRS_MAX || !rotary)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " channels of a head are rotated: an even number up to %d is expected", rotary,
                       2 * PAIRS_MAX);
    plain(f, base, rotary);
    for (uint64_t k = 0; divisors && k < rotary / 2; k++)
        f[k] /= divisors[k];
    return constant(b, qn_name("%s.freq", name).s, f, rotary / 2, &out->freq, err);
}

qn_code qn_build_rope(qn_build *b, const char *name, const qn_rope *r, uint32_t x, uint64_t head_dim, uint32_t *y, qn_err *err)
{
    const uint32_t in[4] = {x, b->starts, r->freq, r->long_freq};
    const qn_attr attrs[] = {qn_attr_i("head_dim", (int64_t)head_dim), qn_attr_s("style", r->interleaved ? "interleaved" : "half"),
                             qn_attr_f("scale", r->scale),             qn_attr_i("original", (int64_t)r->original),
                             qn_attr_f("dynamic", r->dynamic),         qn_attr_f("base", r->base)};
    if (!r->rotary) {
        *y = x;
        return QN_OK;
    }
    return qn_build_node(b, "Rope", name, in, r->long_freq == QN_NO_VALUE ? 3 : 4, attrs, 6, y, err);
}
