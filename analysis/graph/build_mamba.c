/* build_mamba.c: Mamba (Gu and Dao 2023, figure 3) and Mamba-2 (Dao and Gu 2024, figure 6): layers of one part each, x + mixer(norm x).
 *
 * Mamba-2's norm before the output projection goes over each group of heads by itself, as in the code it was published with; where
 * there is one group, that is the whole width. */
#include "analysis/graph/build_all.h"
#include "analysis/graph/build_more.h"
#include "base/err.h"

struct mamba {
    qn_dim width, inner, state, kernel, rank; /* rank: Mamba   */
    qn_dim heads, head, groups;               /* Mamba-2       */
    double eps, dt_min, dt_max;
    bool norm;
    qn_bias bias, conv_bias;
    const char *act;
};

/* act(causal convolution), <prefix>.weight (n, 1, kernel). */
static qn_code conv(qn_build *b, const struct mamba *m, const char *prefix, uint32_t x, qn_dim n, uint32_t *y, qn_err *err)
{
    uint32_t in[4] = {x, b->starts, QN_NO_VALUE, QN_NO_VALUE};
    QN_TRY(qn_build_weight(b, qn_name("%s.weight", prefix).s, (qn_dim[]){n, {1, "depthwise"}, m->kernel}, 3, &in[2], err));
    if (m->conv_bias == QN_BIAS_YES)
        QN_TRY(qn_build_weight(b, qn_name("%s.bias", prefix).s, &n, 1, &in[3], err));
    QN_TRY(qn_build_node(b, "CausalConv1d", prefix, in, m->conv_bias == QN_BIAS_YES ? 4 : 3, NULL, 0, y, err));
    return qn_build_act(b, qn_name("%s.act", prefix).s, m->act, *y, y, err);
}

static qn_code gate(qn_build *b, const struct mamba *m, const char *name, uint32_t z, uint32_t x, uint32_t *y, qn_err *err)
{
    const uint32_t in[2] = {z, x};
    const qn_attr kind = qn_attr_s("kind", m->act);
    return qn_build_node(b, "Gated", name, in, 2, &kind, 1, y, err);
}

static qn_code mixer1(qn_build *b, const struct mamba *m, const char *p, uint32_t x, uint32_t *y, qn_err *err)
{
    const qn_dim two = {2 * m->inner.n, "2 intermediate_size"}, xn = {m->rank.n + 2 * m->state.n, "time_step_rank + 2 state_size"};
    const int64_t halves[2] = {(int64_t)m->inner.n, (int64_t)m->inner.n};
    const int64_t sizes[3] = {(int64_t)m->rank.n, (int64_t)m->state.n, (int64_t)m->state.n};
    uint32_t xz[2], dbc[3], dt, scan[7];
    QN_TRY(qn_build_linear(b, qn_name("%sin_proj", p).s, x, m->width, two, m->bias, &x, err));
    QN_TRY(qn_build_split(b, qn_name("%sxz", p).s, x, halves, 2, 1, xz, err));
    QN_TRY(conv(b, m, qn_name("%sconv1d", p).s, xz[0], m->inner, &x, err));
    QN_TRY(qn_build_linear(b, qn_name("%sx_proj", p).s, x, m->inner, xn, QN_BIAS_NONE, &dt, err));
    QN_TRY(qn_build_split(b, qn_name("%sdbc", p).s, dt, sizes, 3, 1, dbc, err));
    QN_TRY(qn_build_linear(b, qn_name("%sdt_proj", p).s, dbc[0], m->rank, m->inner, QN_BIAS_YES, &dt, err));
    scan[0] = x;
    scan[1] = dt;
    QN_TRY(qn_build_weight(b, qn_name("%sA_log", p).s, (qn_dim[]){m->inner, m->state}, 2, &scan[2], err));
    scan[3] = dbc[1];
    scan[4] = dbc[2];
    QN_TRY(qn_build_weight(b, qn_name("%sD", p).s, &m->inner, 1, &scan[5], err));
    scan[6] = b->starts;
    QN_TRY(qn_build_node(b, "SelectiveScan", qn_name("%sscan", p).s, scan, 7, NULL, 0, &x, err));
    QN_TRY(gate(b, m, qn_name("%sgate", p).s, xz[1], x, &x, err));
    return qn_build_linear(b, qn_name("%sout_proj", p).s, x, m->inner, m->width, m->bias, y, err);
}

/* RMSNorm of each group, then the weights of the whole width. */
static qn_code norm_groups(qn_build *b, const struct mamba *m, const char *prefix, uint32_t *x, qn_err *err)
{
    const qn_attr attrs[] = {qn_attr_f("eps", m->eps), qn_attr_i("size", (int64_t)(m->inner.n / m->groups.n))};
    uint32_t in[2] = {*x, QN_NO_VALUE};
    QN_TRY(qn_build_node(b, "RMSNorm", prefix, in, 1, attrs, 2, &in[0], err));
    QN_TRY(qn_build_weight(b, qn_name("%s.weight", prefix).s, &m->inner, 1, &in[1], err));
    return qn_build_node(b, "Mul", qn_name("%s.scaled", prefix).s, in, 2, NULL, 0, x, err);
}

static qn_code mixer2(qn_build *b, const struct mamba *m, const char *p, uint32_t x, uint32_t *y, qn_err *err)
{
    const uint64_t bc = m->groups.n * m->state.n;
    const qn_dim xbc = {m->inner.n + 2 * bc, "num_heads head_dim + 2 n_groups state_size"};
    const qn_dim all = {m->inner.n + xbc.n + m->heads.n, "2 num_heads head_dim + 2 n_groups state_size + num_heads"};
    const int64_t outer[3] = {(int64_t)m->inner.n, (int64_t)xbc.n, (int64_t)m->heads.n};
    const int64_t inner[3] = {(int64_t)m->inner.n, (int64_t)bc, (int64_t)bc};
    const qn_attr attrs[] = {qn_attr_i("groups", (int64_t)m->groups.n), qn_attr_f("dt_min", m->dt_min), qn_attr_f("dt_max", m->dt_max)};
    uint32_t zxd[3], v[3], scan[8];
    QN_TRY(qn_build_linear(b, qn_name("%sin_proj", p).s, x, m->width, all, m->bias, &x, err));
    QN_TRY(qn_build_split(b, qn_name("%szxd", p).s, x, outer, 3, 1, zxd, err));
    QN_TRY(conv(b, m, qn_name("%sconv1d", p).s, zxd[1], xbc, &x, err));
    QN_TRY(qn_build_split(b, qn_name("%sxbc", p).s, x, inner, 3, 1, v, err));
    scan[0] = v[0];
    scan[1] = zxd[2];
    QN_TRY(qn_build_weight(b, qn_name("%sdt_bias", p).s, &m->heads, 1, &scan[2], err));
    QN_TRY(qn_build_weight(b, qn_name("%sA_log", p).s, &m->heads, 1, &scan[3], err));
    scan[4] = v[1];
    scan[5] = v[2];
    QN_TRY(qn_build_weight(b, qn_name("%sD", p).s, &m->heads, 1, &scan[6], err));
    scan[7] = b->starts;
    QN_TRY(qn_build_node(b, "SsdScan", qn_name("%sscan", p).s, scan, 8, attrs, 3, &x, err));
    QN_TRY(gate(b, m, qn_name("%sgate", p).s, zxd[0], x, &x, err));
    if (m->norm)
        QN_TRY(norm_groups(b, m, qn_name("%snorm", p).s, &x, err));
    return qn_build_linear(b, qn_name("%sout_proj", p).s, x, m->inner, m->width, m->bias, y, err);
}

typedef qn_code (*mixer_fn)(qn_build *b, const struct mamba *m, const char *p, uint32_t x, uint32_t *y, qn_err *err);

static qn_code build(qn_build *b, const struct mamba *m, mixer_fn mixer, bool tied, qn_err *err)
{
    const char *table = qn_build_has(b, "backbone.embedding.weight") ? "backbone.embedding" : "backbone.embeddings";
    qn_dim vocab;
    uint64_t n_layers;
    uint32_t x, y;
    QN_TRY(qn_build_dim(b, "vocab_size", &vocab, err));
    QN_TRY(qn_build_layers(b, "num_hidden_layers|n_layer", &n_layers, err));
    QN_TRY(qn_build_embed(b, table, b->tokens, vocab, m->width, &x, err));
    for (uint64_t i = 0; i < n_layers; i++) {
        const qn_name_text p = qn_name("backbone.layers.%u.", (unsigned)i);
        QN_TRY(qn_build_layer(b, i, err));
        QN_TRY(qn_build_rms_norm(b, qn_name("%snorm", p.s).s, x, m->width, m->eps, 0, &y, err));
        QN_TRY(mixer(b, m, qn_name("%smixer.", p.s).s, y, &y, err));
        QN_TRY(qn_build_add(b, qn_name("%ssum", p.s).s, x, y, &x, err));
    }
    QN_TRY(qn_graph_begin_block(b->g, "head", err));
    QN_TRY(qn_build_rms_norm(b, "backbone.norm_f", x, m->width, m->eps, 0, &x, err));
    QN_TRY(qn_build_head(b, "lm_head", table, tied, x, vocab, m->width, QN_BIAS_NONE, &x, err));
    b->g->n_vocab = (uint32_t)vocab.n;
    return qn_build_end(b, x, NULL, err);
}

/* What both have. */
static qn_code common(qn_build *b, struct mamba *m, qn_err *err)
{
    bool biased, conv_biased;
    QN_TRY(qn_build_dim(b, "hidden_size|d_model", &m->width, err));
    QN_TRY(qn_build_dim_or(b, "conv_kernel", 4, &m->kernel, err));
    QN_TRY(qn_config_bool_or(b->config, "use_bias", false, &biased, err));
    QN_TRY(qn_config_bool_or(b->config, "use_conv_bias", true, &conv_biased, err));
    QN_TRY(qn_config_f64_or(b->config, "layer_norm_epsilon", 0, 1, 1e-5, &m->eps, err));
    QN_TRY(qn_build_act_of(b, "hidden_act", "silu", &m->act, err));
    m->bias = biased ? QN_BIAS_YES : QN_BIAS_NONE;
    m->conv_bias = conv_biased ? QN_BIAS_YES : QN_BIAS_NONE;
    return QN_OK;
}

/* time_step_rank: a number, or "auto": hidden_size / 16, rounded up. */
static qn_code rank_of(const qn_build *b, const struct mamba *m, uint64_t *rank, qn_err *err)
{
    const uint64_t automatic = (m->width.n + 15) / 16;
    const char *text;
    if (qn_config_str_or(b->config, "time_step_rank", "auto", &text, NULL) == QN_OK && text[0] == 'a') {
        *rank = automatic;
        return QN_OK;
    }
    return qn_config_u64_or(b->config, "time_step_rank", 1, QN_WIDTH_MAX, automatic, rank, err);
}

qn_code qn_build_mamba(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    struct mamba m = {.rank.from = "time_step_rank"};
    double expand;
    QN_TRY(common(b, &m, err));
    QN_TRY(qn_config_f64_or(b->config, "expand", 1, 64, 2, &expand, err));
    QN_TRY(qn_build_dim_or(b, "intermediate_size|d_inner", (uint64_t)(expand * (double)m.width.n), &m.inner, err));
    QN_TRY(qn_build_dim_or(b, "state_size", 16, &m.state, err));
    QN_TRY(rank_of(b, &m, &m.rank.n, err));
    QN_TRY(qn_build_begin(b, env, s, "mamba", err));
    return build(b, &m, mixer1, true, err);
}

qn_code qn_build_mamba2(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    struct mamba m = {.dt_max = 1e308};
    uint64_t n_limits;
    bool first;
    QN_TRY(common(b, &m, err));
    QN_TRY(qn_build_dim(b, "num_heads", &m.heads, err));
    QN_TRY(qn_build_dim_or(b, "head_dim", 64, &m.head, err));
    QN_TRY(qn_build_dim_or(b, "n_groups", 8, &m.groups, err));
    QN_TRY(qn_build_dim_or(b, "state_size", 128, &m.state, err));
    QN_TRY(qn_config_bool_or(b->config, "rms_norm", true, &m.norm, err));
    QN_TRY(qn_config_bool_or(b->config, "norm_before_gate", false, &first, err));
    if (first)
        return qn_config_fail(b->config, err, QN_E_UNSUPPORTED, "norm_before_gate is true; false is supported");
    if (m.heads.n % m.groups.n)
        return qn_config_fail(b->config, err, QN_E_INPUT, "num_heads is %u, which is no multiple of the %u of n_groups", (unsigned)m.heads.n,
                              (unsigned)m.groups.n);
    QN_TRY(qn_config_list(b->config, "time_step_limit", &n_limits, err));
    if (n_limits) {
        QN_TRY(qn_config_item_f64(b->config, "time_step_limit", 0, 0, 1e308, &m.dt_min, err));
        QN_TRY(qn_config_item_f64(b->config, "time_step_limit", 1, m.dt_min, 1e308, &m.dt_max, err));
    }
    m.inner = (qn_dim){m.heads.n * m.head.n, "num_heads head_dim"};
    QN_TRY(qn_build_begin(b, env, s, "mamba2", err));
    return build(b, &m, mixer2, false, err);
}
