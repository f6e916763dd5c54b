/* emit_verify.c: what was written, opened once more: shapes are checked by the graph's builder, and what a configuration says of each layer here. */
#include "base/err.h"
#include "compress/prune/emit_plan.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

static bool same(double a, double b)
{
    return fabs(a - b) <= 1e-6 * fmax(fabs(a), fabs(b));
}

static qn_code check_attention(const qn_emit_plan *p, const qn_emit_layer *l, const qn_node *now, uint32_t layer, qn_err *err)
{
    static const char *const reals[] = {"scale", "softcap"};
    const qn_node *old = &p->g->nodes[l->attention];
    const struct {
        const char *name;
        int64_t want, found;
    } ints[] = {{"heads", (int64_t)l->now[QN_EMIT_HEADS], qn_node_int(now, "heads", 0)},
                {"kv_heads", (int64_t)l->kv_now, qn_node_int(now, "kv_heads", qn_node_int(now, "heads", 0))},
                {"head_dim", (int64_t)l->head_dim, qn_node_int(now, "head_dim", 0)},
                {"window", (int64_t)l->window, qn_node_int(now, "window", 0)}};
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++)
        if (ints[i].want != ints[i].found)
            return QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "%s of layer %" PRIu32 " reads back as %" PRId64 ": %" PRId64 " was meant", ints[i].name, layer,
                           ints[i].found, ints[i].want);
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
        if (!same(qn_node_float(old, reals[i], 0), qn_node_float(now, reals[i], 0)))
            return QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "%s of layer %" PRIu32 " reads back as %g: %g was meant", reals[i], layer,
                           qn_node_float(now, reals[i], 0), qn_node_float(old, reals[i], 0));
    return QN_OK;
}

static qn_code compare(const qn_emit_plan *p, const qn_emit_plan *now, qn_err *err)
{
    if (now->n_layers != p->n_kept)
        return QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "%" PRIu32 " layers read back: %" PRIu32 " were meant", now->n_layers, p->n_kept);
    for (uint32_t i = 0; i < p->n_layers; i++) {
        const qn_emit_layer *l = &p->layers[i];
        if (l->to == QN_EMIT_GONE)
            continue;
        const qn_emit_layer *n = &now->layers[l->to];
        if ((l->attention == QN_NO_NODE) != (n->attention == QN_NO_NODE) || (l->experts == QN_NO_NODE) != (n->experts == QN_NO_NODE))
            return QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "layer %" PRIu32 " reads back as one of another kind", l->to);
        if (l->attention != QN_NO_NODE)
            QN_TRY(check_attention(p, l, &now->g->nodes[n->attention], l->to, err));
        if (l->experts != QN_NO_NODE && now->top_k != p->top_k)
            return QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "%" PRIu64 " experts a token read back: %" PRIu64 " were meant", now->top_k, p->top_k);
    }
    return QN_OK;
}

qn_code qn_emit_verify(const qn_emit_plan *p, const char *path, qn_err *err)
{
    qn_source *s = NULL;
    qn_graph *g = NULL;
    qn_emit_plan now = {0};
    qn_err why;
    qn_err_clear(&why);
    qn_code rc = qn_source_open(p->env, path, &s, &why);
    if (rc == QN_OK)
        rc = qn_graph_open(p->env, s, &g, &why);
    if (rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED)
        rc = qn_err_in_tensor(err, QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "what was written does not open again: %s", why.text), why.tensor);
    else if (rc != QN_OK && err && err->code == QN_OK)
        *err = why;
    if (rc == QN_OK)
        rc = qn_emit_plan_look(p->env, g, NULL, p->arch && p->arch->gguf, &now, err);
    if (rc == QN_OK)
        rc = compare(p, &now, err);
    qn_emit_plan_release(&now);
    qn_graph_close(g);
    qn_source_close(s);
    return rc;
}
