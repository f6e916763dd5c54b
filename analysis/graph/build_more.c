/* build_more.c: see build_more.h. */
#include "analysis/graph/build_more.h"
#include "base/err.h"
#include <inttypes.h>

qn_code qn_build_dim(const qn_build *b, const char *keys, qn_dim *d, qn_err *err)
{
    d->from = keys;
    return qn_config_u64(b->config, keys, 1, QN_WIDTH_MAX, &d->n, err);
}

qn_code qn_build_dim_or(const qn_build *b, const char *keys, uint64_t otherwise, qn_dim *d, qn_err *err)
{
    d->from = keys;
    return qn_config_u64_or(b->config, keys, 1, QN_WIDTH_MAX, otherwise, &d->n, err);
}

qn_code qn_build_layers(const qn_build *b, const char *keys, uint64_t *n, qn_err *err)
{
    return qn_config_u64(b->config, keys, 1, QN_LAYERS_MAX, n, err);
}

qn_code qn_build_head_size(const qn_build *b, qn_dim width, qn_dim heads, uint64_t *head, qn_err *err)
{
    if (width.n % heads.n)
        return qn_config_fail(b->config, err, QN_E_INPUT, "%s is %" PRIu64 ", which is no multiple of the %" PRIu64 " of %s", width.from,
                              width.n, heads.n, heads.from);
    *head = width.n / heads.n;
    return QN_OK;
}

qn_code qn_build_act_of(const qn_build *b, const char *key, const char *otherwise, const char **kind, qn_err *err)
{
    const char *name;
    QN_TRY(qn_config_str_or(b->config, key, otherwise, &name, err));
    return qn_build_act_kind(b, key, name, kind, err);
}

qn_code qn_build_layer(qn_build *b, uint64_t i, qn_err *err)
{
    return qn_graph_begin_block(b->g, qn_name("layers.%" PRIu64, i).s, err);
}

qn_code qn_build_places(qn_build *b, const char *prefix, qn_dim places, unsigned offset, qn_dim width, uint32_t *y, qn_err *err)
{
    const uint32_t in[2] = {b->tokens, b->starts};
    const qn_attr attrs[] = {qn_attr_i("offset", offset), qn_attr_i("limit", (int64_t)places.n)};
    uint32_t ids;
    QN_TRY(qn_build_node(b, "Positions", qn_name("%s.ids", prefix).s, in, 2, attrs, 2, &ids, err));
    places.n += offset;
    return qn_build_embed(b, prefix, ids, places, width, y, err);
}

qn_code qn_build_attention(qn_build *b, const char *name, const uint32_t qkv[3], uint64_t heads, uint64_t kv_heads, uint64_t head,
                           double scale, uint64_t window, uint32_t *y, qn_err *err)
{
    const uint32_t in[4] = {qkv[0], qkv[1], qkv[2], b->starts};
    const qn_attr attrs[] = {qn_attr_i("heads", (int64_t)heads), qn_attr_i("kv_heads", (int64_t)kv_heads),
                             qn_attr_i("head_dim", (int64_t)head), qn_attr_f("scale", scale), qn_attr_i("window", (int64_t)window)};
    return qn_build_node(b, "Attention", name, in, 4, attrs, 5, y, err);
}

qn_code qn_build_split(qn_build *b, const char *name, uint32_t x, const int64_t *sizes, unsigned n, uint64_t groups, uint32_t *out,
                       qn_err *err)
{
    const qn_attr attrs[] = {qn_attr_ints("sizes", sizes, n), qn_attr_i("groups", (int64_t)groups)};
    return qn_graph_node(b->g, "quern", "Split", 0, name, &x, 1, attrs, 2, NULL, out, n, err);
}

qn_code qn_build_mlp(qn_build *b, const char *up, const char *down, const char *kind, uint32_t x, qn_dim width, qn_dim inner,
                     qn_bias bias, uint32_t *y, qn_err *err)
{
    QN_TRY(qn_build_linear(b, up, x, width, inner, bias, &x, err));
    QN_TRY(qn_build_act(b, qn_name("%s.act", up).s, kind, x, &x, err));
    return qn_build_linear(b, down, x, inner, width, bias, y, err);
}
