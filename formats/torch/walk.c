/* walk.c: names of tensors: the keys and indices on the way from the top, joined with '.'. */
#include "base/err.h"
#include "base/num.h"
#include "formats/torch/torch.h"
#include <stdio.h>
#include <string.h>

enum {
    DEPTH_MAX = 64,
    STEPS_MAX = 4 << 20, /* values met; a container in several places is met in each */
    NAME_BYTES_MAX = 4096,
};

struct walk {
    qn_torch_file *f;
    uint64_t n_steps, n_name_bytes, name_bytes_max;
    size_t n;
    char name[NAME_BYTES_MAX + 1];
};

static qn_code add(struct walk *w, const qn_pk_tensor *t, qn_err *err)
{
    qn_torch_file *f = w->f;
    qn_torch_tensor *p = qn_mem_grow(f->s->env->alloc, f->tensors, f->n_tensors, &f->cap_tensors, f->n_tensors + 1, sizeof *p, err);
    if (!p)
        return QN_E_MEMORY;
    f->tensors = p;
    w->n_name_bytes += w->n;
    if (w->n_name_bytes > w->name_bytes_max)
        return QN_FAIL(err, QN_E_UNSUPPORTED, t->off, "names of tensors take more than %llu bytes",
                       (unsigned long long)w->name_bytes_max);
    const char *own = w->n ? w->name : "tensor"; /* one by itself */
    const size_t n = w->n ? w->n : strlen(own), n_prefix = strlen(f->prefix);
    char *name = qn_arena_get(&f->s->arena, n_prefix + n + 1, 1, err);
    if (!name)
        return QN_E_MEMORY;
    memcpy(name, f->prefix, n_prefix);
    memcpy(name + n_prefix, own, n);
    name[n_prefix + n] = '\0';
    p[f->n_tensors++] = (qn_torch_tensor){.name = name, .t = t};
    return QN_OK;
}

/* The key as part of a name; keys that are neither short texts nor integers are told by their place. */
static const char *label(const qn_pk *key, uint32_t i, char buf[24])
{
    if (key && key->tag == QN_PK_STR && !key->cut && key->n > 0 && strlen(key->u.text) == key->n)
        return key->u.text;
    if (key && key->tag == QN_PK_INT)
        snprintf(buf, 24, "%lld", (long long)key->u.i);
    else
        snprintf(buf, 24, key ? "#%u" : "%u", i);
    return buf;
}

static qn_code visit(struct walk *w, qn_pk *v, unsigned depth, qn_err *err);

static qn_code visit_named(struct walk *w, const qn_pk *key, uint32_t i, qn_pk *v, unsigned depth, qn_err *err)
{
    char buf[24];
    if (v->tag != QN_PK_TENSOR && v->tag != QN_PK_DICT && v->tag != QN_PK_LIST && v->tag != QN_PK_TUPLE)
        return QN_OK;
    const char *l = label(key, i, buf);
    const size_t n = strlen(l), before = w->n;
    if (n + 1 > NAME_BYTES_MAX - before)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "name of a tensor is longer than %d bytes", NAME_BYTES_MAX);
    if (before)
        w->name[w->n++] = '.';
    memcpy(w->name + w->n, l, n);
    w->n += n;
    const qn_code rc = visit(w, v, depth + 1, err);
    w->n = before;
    return rc;
}

static qn_code visit(struct walk *w, qn_pk *v, unsigned depth, qn_err *err)
{
    qn_code rc = QN_OK;
    if (w->n_steps++ == STEPS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "more than %d values", STEPS_MAX);
    if (v->tag == QN_PK_TENSOR)
        return add(w, v->u.tensor, err);
    if (v->tag != QN_PK_DICT && v->tag != QN_PK_LIST && v->tag != QN_PK_TUPLE)
        return QN_OK;
    if (v->open)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a %s contains itself", qn_pk_tag_name(v->tag));
    if (depth == DEPTH_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "values nested deeper than %d", DEPTH_MAX);
    w->n_steps += v->n; /* small values are looked at too */
    if (w->n_steps > STEPS_MAX)
        w->n_steps = STEPS_MAX;
    v->open = true;
    if (v->tag == QN_PK_DICT)
        for (uint32_t i = 0; i + 1 < v->n && rc == QN_OK; i += 2)
            rc = visit_named(w, v->u.items[i], i / 2, v->u.items[i + 1], depth, err);
    else
        for (uint32_t i = 0; i < v->n && rc == QN_OK; i++)
            rc = visit_named(w, NULL, i, v->u.items[i], depth, err);
    v->open = false;
    return rc;
}

qn_code qn_torch_walk(qn_torch_file *f, qn_err *err)
{
    struct walk *w = qn_mem_get(f->s->env->alloc, sizeof *w, err);
    if (!w)
        return QN_E_MEMORY;
    w->f = f;
    w->n = 0;
    w->n_steps = w->n_name_bytes = 0;
    w->name_bytes_max = (1 << 20) + 16 * qn_min_u64(f->n_bytes, QN_PK_BYTES_MAX);
    const qn_code rc = visit(w, f->root, 0, err);
    qn_mem_put(f->s->env->alloc, w);
    return rc;
}
