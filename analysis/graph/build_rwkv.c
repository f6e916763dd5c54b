/* build_rwkv.c: RWKV-5.2 (Peng et al. 2024, "Eagle and Finch", section 4). Its checkpoints come without a configuration: sizes are
 * those of the tensors.
 *
 * Two kinds of files are about. Training writes time_decay and time_faaaa (heads, head) and the decay as x of exp(−exp x); rwkv.cpp
 * converts them to (heads, head, 1) and the decay to what it means. The last axis tells them apart. */
#include "analysis/graph/build_all.h"
#include "analysis/graph/build_more.h"
#include "base/err.h"
#include <inttypes.h>

struct rwkv {
    qn_dim width, inner;
    uint64_t heads;
    bool raw;
};

static const qn_source_tensor *tensor_of(const qn_build *b, const char *name)
{
    const uint64_t i = qn_source_tensor_find(b->g->source, name);
    return i == UINT64_MAX ? NULL : &b->g->source->tensors[i];
}

/* A tensor of n values whose axes of length 1 do not matter: (n), (1, 1, n), (heads, head, 1). */
static qn_code flat(qn_build *b, const char *name, uint64_t n, uint32_t *v, qn_err *err)
{
    QN_TRY(qn_graph_weight(b->g, name, v, err));
    const qn_source_tensor *t = tensor_of(b, name);
    uint64_t have;
    if (!qn_shape_bytes(QN_U8, t->dims, t->rank, &have, &have) || have != n || b->g->values[*v].dtype != QN_F32)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " floats are expected", n), name);
    return QN_OK;
}

static qn_code shift(qn_build *b, const struct rwkv *m, const char *p, char which, uint32_t x, uint32_t *y, qn_err *err)
{
    const qn_name_text mix = qn_name("%stime_mix_%c", p, which);
    uint32_t in[3] = {x, b->starts, QN_NO_VALUE};
    QN_TRY(flat(b, mix.s, m->width.n, &in[2], err));
    return qn_build_node(b, "TokenShift", qn_name("%sshift_%c", p, which).s, in, 3, NULL, 0, y, err);
}

/* A projection of x shifted by its own mix. */
static qn_code projected(qn_build *b, const struct rwkv *m, const char *p, char which, const char *name, qn_dim out, uint32_t x,
                         uint32_t *y, qn_err *err)
{
    QN_TRY(shift(b, m, p, which, x, y, err));
    return qn_build_linear(b, qn_name("%s%s", p, name).s, *y, m->width, out, QN_BIAS_NONE, y, err);
}

static qn_code attention(qn_build *b, const struct rwkv *m, const char *p, uint32_t x, uint32_t *y, qn_err *err)
{
    const qn_attr raw = qn_attr_i("raw", m->raw), silu = qn_attr_s("kind", "silu");
    /* 64e-5: the values are divided by the head size divisor 8 in training, where the norm has 1e-5. */
    const qn_attr norm[] = {qn_attr_i("groups", (int64_t)m->heads), qn_attr_f("eps", 64e-5)};
    uint32_t in[6], gn[3], gated[2];
    QN_TRY(projected(b, m, p, 'r', "receptance", m->width, x, &in[0], err));
    QN_TRY(projected(b, m, p, 'k', "key", m->width, x, &in[1], err));
    QN_TRY(projected(b, m, p, 'v', "value", m->width, x, &in[2], err));
    QN_TRY(projected(b, m, p, 'g', "gate", m->width, x, &gated[0], err));
    QN_TRY(flat(b, qn_name("%stime_decay", p).s, m->width.n, &in[3], err));
    QN_TRY(flat(b, qn_name("%stime_faaaa", p).s, m->width.n, &in[4], err));
    in[5] = b->starts;
    QN_TRY(qn_build_node(b, "Wkv5", qn_name("%swkv", p).s, in, 6, &raw, 1, &gn[0], err));
    QN_TRY(qn_build_weight(b, qn_name("%sln_x.weight", p).s, &m->width, 1, &gn[1], err));
    QN_TRY(qn_build_weight(b, qn_name("%sln_x.bias", p).s, &m->width, 1, &gn[2], err));
    QN_TRY(qn_build_node(b, "GroupNorm", qn_name("%sln_x", p).s, gn, 3, norm, 2, &gated[1], err));
    QN_TRY(qn_build_node(b, "Gated", qn_name("%sgated", p).s, gated, 2, &silu, 1, y, err));
    return qn_build_linear(b, qn_name("%soutput", p).s, *y, m->width, m->width, QN_BIAS_NONE, y, err);
}

static qn_code feed_forward(qn_build *b, const struct rwkv *m, const char *p, uint32_t x, uint32_t *y, qn_err *err)
{
    const qn_attr sigmoid = qn_attr_s("kind", "sigmoid");
    uint32_t k, in[2];
    QN_TRY(projected(b, m, p, 'k', "key", m->inner, x, &k, err));
    QN_TRY(qn_build_act(b, qn_name("%skey.act", p).s, "relu2", k, &k, err));
    QN_TRY(qn_build_linear(b, qn_name("%svalue", p).s, k, m->inner, m->width, QN_BIAS_NONE, &in[1], err));
    QN_TRY(projected(b, m, p, 'r', "receptance", m->width, x, &in[0], err));
    return qn_build_node(b, "Gated", qn_name("%sgated", p).s, in, 2, &sigmoid, 1, y, err);
}

/* The sizes, from the tensors that have them. */
static qn_code measure(const qn_build *b, struct rwkv *m, qn_dim *vocab, qn_err *err)
{
    const qn_source_tensor *emb = tensor_of(b, "emb.weight"), *decay = tensor_of(b, "blocks.0.att.time_decay");
    const qn_source_tensor *key = tensor_of(b, "blocks.0.ffn.key.weight");
    if (!emb || !decay || !key)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "an RWKV model needs emb.weight, blocks.0.att.time_decay and blocks.0.ffn.key.weight");
    if (emb->rank != 2 || emb->dims[0] < 1 || emb->dims[0] > QN_WIDTH_MAX || emb->dims[1] < 1 || emb->dims[1] > QN_WIDTH_MAX)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "(vocabulary, width) is expected"), emb->name);
    *vocab = (qn_dim){emb->dims[0], "emb.weight"};
    m->width = (qn_dim){emb->dims[1], "emb.weight"};
    m->raw = decay->rank == 2;
    if ((decay->rank != 2 && (decay->rank != 3 || decay->dims[2] != 1)) || decay->dims[0] < 1 || m->width.n % decay->dims[0] ||
        m->width.n / decay->dims[0] != decay->dims[1])
        return qn_err_in_tensor(err, QN_FAIL(err, decay->rank == 1 ? QN_E_UNSUPPORTED : QN_E_INPUT, QN_NO_OFFSET,
                                             "(heads, head size) with product %" PRIu64 " is expected, as in RWKV-5.2", m->width.n), decay->name);
    m->heads = decay->dims[0];
    if (key->rank != 2 || key->dims[0] < 1 || key->dims[0] > QN_WIDTH_MAX)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "(inner width, width) is expected"), key->name);
    m->inner = (qn_dim){key->dims[0], "blocks.0.ffn.key.weight"};
    return QN_OK;
}

qn_code qn_build_rwkv5(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    const double eps = 1e-5;
    struct rwkv m;
    qn_dim vocab;
    uint32_t x, y;
    QN_TRY(qn_build_begin(b, env, s, "rwkv5", err));
    QN_TRY(measure(b, &m, &vocab, err));
    QN_TRY(qn_build_embed(b, "emb", b->tokens, vocab, m.width, &x, err));
    QN_TRY(qn_build_layer_norm(b, "blocks.0.ln0", x, m.width, eps, QN_BIAS_YES, &x, err));
    for (unsigned i = 0; i < QN_LAYERS_MAX; i++) {
        const qn_name_text p = qn_name("blocks.%u.", i);
        if (i && !qn_build_has(b, qn_name("%sln1.weight", p.s).s) && !qn_build_has(b, qn_name("%satt.key.weight", p.s).s))
            break;
        QN_TRY(qn_build_layer(b, i, err));
        QN_TRY(qn_build_layer_norm(b, qn_name("%sln1", p.s).s, x, m.width, eps, QN_BIAS_YES, &y, err));
        QN_TRY(attention(b, &m, qn_name("%satt.", p.s).s, y, &y, err));
        QN_TRY(qn_build_add(b, qn_name("%satt.sum", p.s).s, x, y, &x, err));
        QN_TRY(qn_build_layer_norm(b, qn_name("%sln2", p.s).s, x, m.width, eps, QN_BIAS_YES, &y, err));
        QN_TRY(feed_forward(b, &m, qn_name("%sffn.", p.s).s, y, &y, err));
        QN_TRY(qn_build_add(b, qn_name("%sffn.sum", p.s).s, x, y, &x, err));
    }
    QN_TRY(qn_graph_begin_block(b->g, "head", err));
    QN_TRY(qn_build_layer_norm(b, "ln_out", x, m.width, eps, QN_BIAS_YES, &x, err));
    QN_TRY(qn_build_linear(b, "head", x, m.width, vocab, QN_BIAS_NONE, &x, err));
    b->g->n_vocab = (uint32_t)vocab.n;
    return qn_build_end(b, x, NULL, err);
}
