/* emit.c: which kind of checkpoint a cut model is written as; what allocation must know of that. See emit.h. */
#include "compress/prune/emit.h"
#include "base/err.h"
#include "compress/prune/emit_plan.h"
#include "formats/gguf/gguf.h"
#include "formats/hf/config.h"
#include <inttypes.h>
#include <string.h>

enum kind { ONNX, FOLDER, GGUF, UNKNOWN };

static enum kind kind_of(const qn_graph *g)
{
    uint8_t magic[4] = {0};
    qn_source *s = g->source;
    if (!strcmp(g->family, "onnx"))
        return ONNX;
    if (qn_config_exists(s))
        return FOLDER;
    if (!s->is_dir && s->n_objects && s->objects[0].kind == QN_OBJECT_BLOB && s->objects[0].n_bytes >= sizeof magic &&
        qn_source_read(s, 0, 0, sizeof magic, magic, NULL) == QN_OK && !memcmp(magic, "GGUF", 4))
        return GGUF;
    return UNKNOWN;
}

static qn_code unknown(const qn_graph *g, qn_err *err)
{
    return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "nothing here says what the tensors mean, so there is nowhere to say what "
                                                                            "is left of them"), qn_source_given(g->source));
}

static qn_code no_depth(const qn_depth *d, qn_err *err)
{
    return d && (d->layers || d->experts) ? QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "whole layers and experts can go of language models only: an "
                                                                                        "ONNX model is cut by its channels")
                                          : QN_OK;
}

qn_code qn_emit_check(const qn_graph *g, const qn_cut *c, const qn_depth *d, const qn_emit_options *o, qn_err *err)
{
    const enum kind kind = kind_of(g);
    if (kind == UNKNOWN)
        return unknown(g, err);
    if (c)
        QN_TRY(qn_cut_check(c, err));
    if (kind == ONNX)
        return no_depth(d, err);
    qn_emit_plan p;
    const qn_code rc = qn_emit_plan_make(g->env, g, c, d, o, kind == GGUF, &p, err);
    qn_emit_plan_release(&p);
    return rc;
}

qn_code qn_emit(const qn_env *env, const qn_graph *g, const qn_cut *c, const qn_depth *d, const qn_overlay *w, const char *path,
                const qn_emit_options *o, qn_err *err)
{
    switch (kind_of(g)) {
    case ONNX:
        QN_TRY(no_depth(d, err));
        return qn_emit_onnx(env, g, c, w, path, o, err);
    case FOLDER:
        return qn_emit_hf(env, g, c, d, w, path, o, err);
    case GGUF:
        return qn_emit_gguf(env, g, c, d, w, path, o, err);
    case UNKNOWN:
        break;
    }
    return unknown(g, err);
}

/* Do the groups of an attention's family go as whole heads? */
static bool whole_heads(const qn_emit_plan *p, const qn_family *f)
{
    for (uint32_t m = 0; m < f->n_members; m++) {
        const qn_member *x = &f->members[m];
        const qn_emit_weight *w = &p->weights[x->value];
        if (w->anchor != QN_EMIT_HEADS || w->anchor_axis != x->axis)
            continue;
        const uint64_t heads = p->layers[w->layer].heads, size = (uint64_t)p->g->values[x->value].dims[x->axis] / heads;
        for (uint32_t i = 0; i < f->n_groups; i++) {
            uint64_t of_head = 0;
            for (uint32_t k = x->start[i]; k < x->start[i + 1]; k++)
                of_head += x->index[k] / size == x->index[x->start[i]] / size;
            if (of_head % size || (x->start[i + 1] - x->start[i]) % size)
                return false;
        }
    }
    return true;
}

static bool is_allowed(const qn_emit_plan *p, const qn_family *f, qn_emit_width w)
{
    const qn_emit_arch *a = p->arch;
    if (!a)
        return false;
    switch (w) {
    case QN_EMIT_FFN:
        return a->ffn != NULL;
    case QN_EMIT_HEADS:
        return a->heads && whole_heads(p, f);
    case QN_EMIT_HIDDEN:
        return a->hidden && a->eps;
    case QN_EMIT_EXPERT_FFN:
        return a->expert_ffn != NULL;
    case QN_EMIT_SHARED_FFN:
        return a->shared_ffn != NULL;
    case QN_EMIT_EXPERTS:
    case QN_EMIT_OTHER:
        break;
    }
    return false;
}

qn_code qn_emit_constraints(const qn_graph *g, const qn_groups *s, const qn_emit_options *o, uint32_t *class_of, uint8_t *allowed, qn_err *err)
{
    const enum kind kind = kind_of(g);
    (void)o;
    for (uint32_t f = 0; f < s->n_families; f++) {
        class_of[f] = UINT32_MAX;
        allowed[f] = kind == ONNX;
    }
    if (kind == UNKNOWN)
        return unknown(g, err);
    if (kind == ONNX)
        return QN_OK;
    qn_emit_plan p;
    const qn_code rc = qn_emit_plan_look(g->env, g, s, kind == GGUF, &p, err);
    for (uint32_t f = 0; rc == QN_OK && f < s->n_families; f++) {
        allowed[f] = is_allowed(&p, &s->families[f], (qn_emit_width)p.width_of[f]);
        if (allowed[f])
            class_of[f] = p.width_of[f];
    }
    qn_emit_plan_release(&p);
    return rc;
}

qn_code qn_emit_keep(const qn_graph *g, const qn_groups *s, const qn_emit_options *o, uint32_t family, uint32_t *keep, qn_err *err)
{
    const enum kind kind = kind_of(g);
    qn_emit_plan p;
    if (kind != FOLDER || o->any_loader)
        return QN_OK;
    const qn_code rc = qn_emit_plan_look(g->env, g, s, false, &p, err);
    if (rc == QN_OK && p.arch && p.arch->divides && p.width_of[family] == QN_EMIT_HEADS) {
        const uint32_t n = s->families[family].n_groups;
        const uint64_t hidden = p.old[QN_EMIT_HIDDEN], heads = p.layers[0].heads;
        while (*keep < n && (!*keep || hidden % (heads / n * *keep)))
            ++*keep;
    }
    qn_emit_plan_release(&p);
    return rc;
}
