/* build.c: what builders share; see build.h. */
#include "analysis/graph/build.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

qn_name_text qn_name(const char *fmt, ...)
{
    qn_name_text t;
    va_list args;
    va_start(args, fmt);
    vsnprintf(t.s, sizeof t.s, fmt, args);
    va_end(args);
    return t;
}

qn_code qn_build_begin(qn_build *b, const qn_env *env, qn_source *s, const char *family, qn_err *err)
{
    static const int64_t dims[1] = {QN_DIM_UNKNOWN};
    QN_TRY(qn_graph_new(env, s, family, &b->g, err));
    QN_TRY(qn_graph_input(b->g, "tokens", QN_I64, dims, 1, &b->tokens, err));
    QN_TRY(qn_graph_input(b->g, "starts", QN_I64, dims, 1, &b->starts, err));
    return qn_graph_begin_block(b->g, "embedding", err);
}

bool qn_build_has(const qn_build *b, const char *tensor)
{
    return qn_source_tensor_find(b->g->source, tensor) != UINT64_MAX;
}

/* "(64, 32)" of what is there and of what is expected, and where that comes from. */
static qn_code wrong_shape(const qn_source_tensor *t, const qn_dim *dims, unsigned rank, qn_err *err)
{
    char found[96], want[96], from[160];
    int f = 0, w = 0, k = 0;
    found[0] = want[0] = from[0] = '\0';
    for (unsigned i = 0; i < t->rank && f < 70; i++)
        f += snprintf(found + f, sizeof found - (size_t)f, "%s%" PRIu64, i ? ", " : "", t->dims[i]);
    for (unsigned i = 0; i < rank && w < 70; i++)
        w += snprintf(want + w, sizeof want - (size_t)w, "%s%" PRIu64, i ? ", " : "", dims[i].n);
    for (unsigned i = 0; i < rank && k < 120; i++)
        k += snprintf(from + k, sizeof from - (size_t)k, "%s%.60s", i ? ", " : "", dims[i].from);
    return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "shape (%s): (%s) is expected by the configuration (%s)", found, want,
                                         from), t->name);
}

qn_code qn_build_weight(qn_build *b, const char *tensor, const qn_dim *dims, unsigned rank, uint32_t *v, qn_err *err)
{
    QN_TRY(qn_graph_weight(b->g, tensor, v, err));
    const qn_source_tensor *t = &b->g->source->tensors[b->g->values[*v].tensor];
    bool same = t->rank == rank;
    for (unsigned i = 0; i < rank && same; i++)
        same = t->dims[i] == dims[i].n;
    if (!same)
        return wrong_shape(t, dims, rank, err);
    if (b->g->values[*v].dtype != QN_F32)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "dtype %s: floats of at most 32 bits are expected",
                                             qn_dtype_name((qn_dtype)t->dtype)), t->name);
    return QN_OK;
}

qn_code qn_build_node(qn_build *b, const char *type, const char *name, const uint32_t *in, unsigned n_in, const qn_attr *attrs,
                      unsigned n_attrs, uint32_t *y, qn_err *err)
{
    return qn_graph_node(b->g, "quern", type, 0, name, in, n_in, attrs, n_attrs, NULL, y, 1, err);
}

qn_code qn_build_embed(qn_build *b, const char *prefix, uint32_t ids, qn_dim rows, qn_dim width, uint32_t *y, qn_err *err)
{
    uint32_t in[2] = {ids, QN_NO_VALUE};
    QN_TRY(qn_build_weight(b, qn_name("%s.weight", prefix).s, (qn_dim[]){rows, width}, 2, &in[1], err));
    return qn_build_node(b, "Embed", prefix, in, 2, NULL, 0, y, err);
}

/* <prefix>.bias (n), or QN_NO_VALUE. */
static qn_code bias_of(qn_build *b, const char *prefix, qn_dim n, qn_bias bias, uint32_t *v, qn_err *err)
{
    const qn_name_text name = qn_name("%s.bias", prefix);
    *v = QN_NO_VALUE;
    if (bias == QN_BIAS_NONE || (bias == QN_BIAS_IF_THERE && !qn_build_has(b, name.s)))
        return QN_OK;
    return qn_build_weight(b, name.s, &n, 1, v, err);
}

qn_code qn_build_linear(qn_build *b, const char *prefix, uint32_t x, qn_dim in, qn_dim out, qn_bias bias, uint32_t *y, qn_err *err)
{
    uint32_t v[3] = {x, QN_NO_VALUE, QN_NO_VALUE};
    QN_TRY(qn_build_weight(b, qn_name("%s.weight", prefix).s, (qn_dim[]){out, in}, 2, &v[1], err));
    QN_TRY(bias_of(b, prefix, out, bias, &v[2], err));
    return qn_build_node(b, "Linear", prefix, v, v[2] == QN_NO_VALUE ? 2 : 3, NULL, 0, y, err);
}

qn_code qn_build_rms_norm(qn_build *b, const char *prefix, uint32_t x, qn_dim n, double eps, unsigned offset, uint32_t *y, qn_err *err)
{
    uint32_t v[2] = {x, QN_NO_VALUE};
    const qn_attr attrs[] = {qn_attr_f("eps", eps), qn_attr_i("offset", offset)};
    QN_TRY(qn_build_weight(b, qn_name("%s.weight", prefix).s, &n, 1, &v[1], err));
    return qn_build_node(b, "RMSNorm", prefix, v, 2, attrs, 2, y, err);
}

qn_code qn_build_layer_norm(qn_build *b, const char *prefix, uint32_t x, qn_dim n, double eps, qn_bias bias, uint32_t *y, qn_err *err)
{
    uint32_t v[3] = {x, QN_NO_VALUE, QN_NO_VALUE};
    const qn_attr attrs[] = {qn_attr_f("eps", eps)};
    QN_TRY(qn_build_weight(b, qn_name("%s.weight", prefix).s, &n, 1, &v[1], err));
    QN_TRY(bias_of(b, prefix, n, bias, &v[2], err));
    return qn_build_node(b, "LayerNorm", prefix, v, v[2] == QN_NO_VALUE ? 2 : 3, attrs, 1, y, err);
}

qn_code qn_build_add(qn_build *b, const char *name, uint32_t x, uint32_t y, uint32_t *z, qn_err *err)
{
    const uint32_t in[2] = {x, y};
    return qn_build_node(b, "Add", name, in, 2, NULL, 0, z, err);
}

qn_code qn_build_act(qn_build *b, const char *name, const char *kind, uint32_t x, uint32_t *y, qn_err *err)
{
    const qn_attr attr = qn_attr_s("kind", kind);
    return qn_build_node(b, "Act", name, &x, 1, &attr, 1, y, err);
}

qn_code qn_build_act_kind(const qn_build *b, const char *key, const char *name, const char **kind, qn_err *err)
{
    /* Pairs of config.json's name and ours. "gelu_fast" is the tanh form written otherwise. */
    static const char *const known[][2] = {
        {"silu", "silu"},           {"swish", "silu"},          {"gelu", "gelu"},       {"gelu_python", "gelu"},
        {"gelu_new", "gelu_tanh"},  {"gelu_fast", "gelu_tanh"}, {"gelu_pytorch_tanh", "gelu_tanh"},
        {"quick_gelu", "quick_gelu"}, {"relu", "relu"},         {"relu2", "relu2"},     {"sigmoid", "sigmoid"},
        {"tanh", "tanh"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(known[i][0], name)) {
            *kind = known[i][1];
            return QN_OK;
        }
    char shown[64];
    qn_printable(shown, sizeof shown, name, strlen(name));
    return qn_config_fail(b->config, err, QN_E_UNSUPPORTED, "%s is \"%s\": this activation is not known", key, shown);
}

/* Do two tensors hold the same bytes? */
static qn_code same_bytes(qn_source *s, const char *one, const char *two, bool *same, qn_err *err)
{
    enum { PIECE = 1 << 20 };
    const uint64_t i = qn_source_tensor_find(s, one), k = qn_source_tensor_find(s, two);
    const qn_source_tensor *a = &s->tensors[i], *c = &s->tensors[k];
    *same = a->dtype == c->dtype && a->n_bytes == c->n_bytes;
    if (!*same)
        return QN_OK;
    uint8_t *p = qn_mem_get(s->env->alloc, (uint64_t)PIECE * 2, err);
    if (!p)
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    for (uint64_t at = 0; at < a->n_bytes && rc == QN_OK && *same; at += PIECE) {
        const uint64_t n = qn_min_u64(PIECE, a->n_bytes - at);
        rc = qn_source_tensor_read(s, i, at, n, p, err);
        if (rc == QN_OK)
            rc = qn_source_tensor_read(s, k, at, n, p + PIECE, err);
        *same = rc == QN_OK && memcmp(p, p + PIECE, n) == 0;
    }
    qn_mem_put(s->env->alloc, p);
    return rc;
}

qn_code qn_build_head(qn_build *b, const char *head, const char *embed, bool tied, uint32_t x, qn_dim vocab, qn_dim width, qn_bias bias,
                      uint32_t *logits, qn_err *err)
{
    const qn_name_text own = qn_name("%s.weight", head), shared = qn_name("%s.weight", embed);
    bool use_own = qn_build_has(b, own.s);
    if (b->config)
        QN_TRY(qn_config_bool_or(b->config, "tie_word_embeddings", tied, &tied, err));
    if (use_own && tied && qn_build_has(b, shared.s)) {
        bool same;
        QN_TRY(same_bytes(b->g->source, own.s, shared.s, &same, err));
        use_own = !same;
        if (same)
            b->copy = qn_source_tensor_find(b->g->source, own.s);
        else
            qn_graph_warn(b->g, "tie_word_embeddings is true, but %s differs from %s: both are used", own.s, shared.s);
    }
    if (!use_own && !tied && b->config)
        qn_graph_warn(b->g, "there is no %s although tie_word_embeddings is not true: %s is used", own.s, shared.s);
    uint32_t v[3] = {x, QN_NO_VALUE, QN_NO_VALUE};
    QN_TRY(qn_build_weight(b, use_own ? own.s : shared.s, (qn_dim[]){vocab, width}, 2, &v[1], err));
    QN_TRY(bias_of(b, head, vocab, bias, &v[2], err));
    return qn_build_node(b, "Linear", head, v, v[2] == QN_NO_VALUE ? 2 : 3, NULL, 0, logits, err);
}

qn_code qn_build_check(const qn_build *b, qn_err *err)
{
    const char *method;
    qn_config q;
    bool there;
    QN_TRY(qn_config_sub(b->config, "quantization_config", &q, &there, err));
    if (!there)
        return QN_OK;
    QN_TRY(qn_config_str_or(&q, "quant_method", "?", &method, err));
    char shown[64];
    qn_printable(shown, sizeof shown, method, strlen(method));
    return qn_config_fail(b->config, err, QN_E_UNSUPPORTED, "quantization_config (quant_method \"%s\"): the model is quantized already, and "
                                                           "cannot be run as it is", shown);
}

static bool ignored(const char *name, const char *const *ignore)
{
    for (; ignore && *ignore; ignore++)
        if (qn_text_ends(name, *ignore))
            return true;
    /* Tables of angles, which old checkpoints carry along. */
    return qn_text_ends(name, "rotary_emb.inv_freq");
}

/* Warns of tensors that no value of the graph is. */
static qn_code warn_extra(qn_build *b, const char *const *ignore, qn_err *err)
{
    enum { SHOWN = 3 };
    const qn_source *s = b->g->source;
    uint8_t *used = qn_mem_zeros(s->env->alloc, s->n_tensors ? s->n_tensors : 1, 1, err);
    if (!used)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < b->g->n_values; i++)
        if (b->g->values[i].kind == QN_VALUE_WEIGHT)
            used[b->g->values[i].tensor] = 1;
    char names[300] = "";
    uint64_t n = 0;
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        if (used[i] || i == b->copy || ignored(s->tensors[i].name, ignore))
            continue;
        if (n++ < SHOWN) {
            char one[80];
            qn_printable(one, sizeof one, s->tensors[i].name, strlen(s->tensors[i].name));
            const size_t at = strlen(names);
            snprintf(names + at, sizeof names - at, "%s%s", at ? ", " : "", one);
        }
    }
    qn_mem_put(s->env->alloc, used);
    if (n)
        qn_graph_warn(b->g, "%" PRIu64 " tensor%s that a %s model does not use: %s%s", n, n > 1 ? "s" : "", b->g->family, names,
                      n > SHOWN ? ", …" : "");
    return QN_OK;
}

qn_code qn_build_end(qn_build *b, uint32_t logits, const char *const *ignore, qn_err *err)
{
    QN_TRY(qn_graph_output(b->g, logits, err));
    QN_TRY(warn_extra(b, ignore, err));
    return qn_graph_seal(b->g, err);
}
