/* gguf_open.c: what a GGUF file will hold, from a model folder or from another GGUF file; see gguf_impl.h. */
#include "base/err.h"
#include "base/num.h"
#include "compress/export/gguf_impl.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- keys ----------------------------------------------------------------------------------------------------------- */

static struct qn_ggx_key *add_key(qn_ggx *x, const char *name, qn_gguf_type type, qn_err *err)
{
    const bool whole = !strncmp(name, "general.", 8) || !strncmp(name, "tokenizer.", 10);
    if (x->n_keys == x->cap_keys) {
        const uint32_t cap = x->cap_keys ? 2 * x->cap_keys : 64;
        struct qn_ggx_key *p = qn_arena_get(x->arena, cap * sizeof *p, 8, err);
        if (!p)
            return NULL;
        if (x->n_keys)
            memcpy(p, x->key, x->n_keys * sizeof *p);
        x->key = p;
        x->cap_keys = cap;
    }
    char text[160];
    snprintf(text, sizeof text, "%s%s%s", whole ? "" : x->arch, whole ? "" : ".", name);
    struct qn_ggx_key *k = &x->key[x->n_keys];
    *k = (struct qn_ggx_key){.name = qn_arena_str(x->arena, text, strlen(text), err), .type = type};
    if (!k->name)
        return NULL;
    x->n_keys++;
    return k;
}

qn_code qn_ggx_u32(qn_ggx *x, const char *name, uint64_t v, qn_err *err)
{
    struct qn_ggx_key *k = add_key(x, name, QN_GGUF_U32, err);
    if (!k)
        return QN_E_MEMORY;
    k->u = (uint32_t)qn_min_u64(v, UINT32_MAX);
    return QN_OK;
}

qn_code qn_ggx_f32(qn_ggx *x, const char *name, double v, qn_err *err)
{
    struct qn_ggx_key *k = add_key(x, name, QN_GGUF_F32, err);
    if (!k)
        return QN_E_MEMORY;
    k->f = (float)v;
    return QN_OK;
}

qn_code qn_ggx_bool(qn_ggx *x, const char *name, bool v, qn_err *err)
{
    struct qn_ggx_key *k = add_key(x, name, QN_GGUF_BOOL, err);
    if (!k)
        return QN_E_MEMORY;
    k->u = v;
    return QN_OK;
}

qn_code qn_ggx_str(qn_ggx *x, const char *name, const char *v, qn_err *err)
{
    struct qn_ggx_key *k = add_key(x, name, QN_GGUF_STR, err);
    if (!k)
        return QN_E_MEMORY;
    k->s = qn_arena_str(x->arena, v, strlen(v), err);
    return k->s ? QN_OK : QN_E_MEMORY;
}

qn_code qn_ggx_array(qn_ggx *x, const char *name, qn_gguf_type elem, const uint64_t *v, uint32_t n, qn_err *err)
{
    struct qn_ggx_key *k = add_key(x, name, QN_GGUF_ARRAY, err);
    if (!k)
        return QN_E_MEMORY;
    k->elem = elem;
    k->array = v;
    k->n = n;
    return QN_OK;
}

/* --- tensors --------------------------------------------------------------------------------------------------------- */

qn_ggx_tensor *qn_ggx_add(qn_ggx *x, qn_err *err)
{
    if (x->n == x->cap) {
        const uint32_t cap = x->cap ? 2 * x->cap : 256;
        qn_ggx_tensor *p = qn_arena_get(x->arena, cap * sizeof *p, 8, err);
        if (!p)
            return NULL;
        if (x->n)
            memcpy(p, x->list, x->n * sizeof *p);
        x->list = p;
        x->cap = cap;
    }
    memset(&x->list[x->n], 0, sizeof *x->list);
    return &x->list[x->n++];
}

/* Of a GGUF file: every tensor as it is. */
static qn_code list_of_gguf(qn_ggx *x, qn_err *err)
{
    const qn_source *s = x->job->src;
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const qn_source_tensor *from = &s->tensors[i];
        qn_ggx_tensor *t = qn_ggx_add(x, err);
        uint64_t *part = t ? qn_arena_get(x->arena, sizeof *part, 8, err) : NULL;
        if (!part)
            return QN_E_MEMORY;
        if (from->rank > 4)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%u dimensions: GGUF has up to 4", from->rank), from->name);
        *part = i;
        t->name = from->name;
        t->rank = from->rank;
        memcpy(t->dims, from->dims, from->rank * sizeof t->dims[0]);
        t->parts = part;
        t->n_parts = 1;
        t->dtype = (qn_dtype)from->dtype;
        t->cols = from->rank ? from->dims[from->rank - 1] : 1;
        t->rows = 1;
        for (unsigned d = 0; d + 1 < from->rank; d++)
            t->rows *= from->dims[d]; /* a source's shape has been checked */
        t->stack = 1;
        t->src_rows = t->take = t->rows;
    }
    return QN_OK;
}

static qn_code size_of(qn_ggx *x, const char *name, uint64_t otherwise, uint64_t *v, qn_err *err)
{
    char key[160];
    snprintf(key, sizeof key, "%s.%s", x->arch, name);
    const qn_gguf_key *k = qn_gguf_find(&x->keys, key);
    *v = otherwise;
    if (!k || k->type == QN_GGUF_STR)
        return QN_OK;
    if (k->type == QN_GGUF_ARRAY) { /* one for each layer: that of the first */
        uint8_t raw[4] = {0};
        if (k->n && (k->elem == QN_GGUF_U32 || k->elem == QN_GGUF_I32)) {
            QN_TRY(qn_gguf_get_elems(&x->keys, key, (qn_gguf_type)k->elem, 0, 1, raw, err));
            *v = qn_load32(raw);
        }
        return QN_OK;
    }
    return qn_gguf_get_u64(&x->keys, key, v, err);
}

static qn_code open_gguf(qn_ggx *x, qn_err *err)
{
    char arch[64];
    QN_TRY(qn_gguf_open(&x->keys, x->arena, x->job->src, err));
    QN_TRY(qn_gguf_get_str(&x->keys, "general.architecture", arch, sizeof arch, err));
    x->arch = qn_arena_str(x->arena, arch, strlen(arch), err);
    if (!x->arch)
        return QN_E_MEMORY;
    QN_TRY(size_of(x, "block_count", 0, &x->n_layers, err));
    QN_TRY(size_of(x, "embedding_length", 0, &x->hidden, err));
    QN_TRY(size_of(x, "attention.head_count", 1, &x->heads, err));
    QN_TRY(size_of(x, "attention.head_count_kv", x->heads, &x->kv_heads, err));
    QN_TRY(size_of(x, "expert_count", 0, &x->n_experts, err));
    return list_of_gguf(x, err);
}

/* Does the source hold a GGUF file? */
static qn_code holds_gguf(qn_source *s, bool *yes, qn_err *err)
{
    uint8_t magic[4] = {0};
    if (!s->is_dir && s->n_objects > 0 && s->objects[0].kind == QN_OBJECT_BLOB && s->objects[0].n_bytes >= sizeof magic)
        QN_TRY(qn_source_read(s, 0, 0, sizeof magic, magic, err));
    *yes = !memcmp(magic, "GGUF", 4);
    return QN_OK;
}

static qn_code open_folder(qn_ggx *x, qn_err *err)
{
    const qn_graph *graph = x->job->graph;
    if (!qn_config_exists(x->job->src))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "GGUF is written from a model folder with a config.json, and from GGUF files");
    if (!graph)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the architecture of this model is not known");
    x->family = graph->family;
    QN_TRY(qn_config_open(&x->config, x->job->src, err));
    QN_TRY(qn_ggx_config(x, err));
    return qn_ggx_list(x, err);
}

qn_code qn_ggx_open(qn_ggx *x, qn_export_job *job, qn_err *err)
{
    memset(x, 0, sizeof *x);
    x->job = job;
    x->arena = job->arena;
    QN_TRY(holds_gguf(job->src, &x->is_gguf, err));
    QN_TRY(x->is_gguf ? open_gguf(x, err) : open_folder(x, err));
    x->tied = true;
    for (uint32_t i = 0; i < x->n; i++) {
        if (!strcmp(x->list[i].name, "output.weight"))
            x->tied = false;
        if (!strcmp(x->list[i].name, "token_embd.weight"))
            x->vocab = x->list[i].rows;
    }
    return QN_OK;
}

void qn_ggx_release(qn_ggx *x)
{
    if (x->config.root)
        qn_config_release(&x->config);
}
