/* view.c: see view.h. */
#include "analysis/gate/view.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/gguf/gguf.h"
#include "formats/gguf/names.h"
#include <stdio.h>
#include <string.h>

/* Where the content of a tensor of the view comes from. */
struct part {
    uint64_t tensor, off;  /* of the file's, and where it begins in it       */
    uint64_t heads;        /* rows are permuted within each head; 0: they are not */
    bool plus_one;         /* F32, one too large                             */
};

struct view {
    qn_source *under;
    struct part *parts;
};

bool qn_is_gguf(qn_source *s)
{
    uint8_t magic[4];
    if (s->is_dir || s->n_objects == 0 || s->objects[0].kind != QN_OBJECT_BLOB || s->objects[0].n_bytes < sizeof magic)
        return false;
    return qn_source_read(s, 0, 0, sizeof magic, magic, NULL) == QN_OK && memcmp(magic, "GGUF", sizeof magic) == 0;
}

/* Row r of a head as the folder has it → its place in the file: halves there, pairs here. */
static uint64_t file_row(uint64_t row, uint64_t rows, uint64_t heads)
{
    const uint64_t dim = rows / heads, head = row / dim, r = row % dim;
    return head * dim + r % (dim / 2) * 2 + r / (dim / 2);
}

static qn_code read_rows(qn_source *s, const qn_source_tensor *t, const struct part *p, uint64_t off, uint64_t n, uint8_t *dst, qn_err *err)
{
    const uint64_t rows = t->dims[0], row_bytes = t->n_bytes / rows;
    while (n > 0) {
        const uint64_t row = off / row_bytes, in = off % row_bytes, m = qn_min_u64(n, row_bytes - in);
        QN_TRY(qn_source_tensor_read(s, p->tensor, p->off + file_row(row, rows, p->heads) * row_bytes + in, m, dst, err));
        off += m;
        dst += m;
        n -= m;
    }
    return QN_OK;
}

static qn_code read_tensor(qn_source *s, uint64_t tensor, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    struct view *v = s->impl;
    const struct part *p = &v->parts[tensor];
    if (p->heads)
        return read_rows(v->under, &s->tensors[tensor], p, off, n, dst, err);
    QN_TRY(qn_source_tensor_read(v->under, p->tensor, p->off + off, n, dst, err));
    for (uint64_t i = 0; p->plus_one && i + 4 <= n; i += 4) {
        float f;
        memcpy(&f, (char *)dst + i, 4);
        f -= 1;
        memcpy((char *)dst + i, &f, 4);
    }
    return QN_OK;
}

static void close_view(qn_source *s)
{
    struct view *v = s->impl;
    if (v)
        qn_mem_put(s->env->alloc, v->parts);
    qn_mem_put(s->env->alloc, v);
}

static const qn_source_ops view_ops = {.format = "gguf", .read_tensor = read_tensor, .close = close_view};

/* What the keys say about how weights lie. */
struct layout {
    char arch[64];
    uint32_t bit;
    uint64_t heads, kv_heads; /* 0: not permuted */
    bool plus_one;
};

static void read_layout(qn_gguf *g, struct layout *y)
{
    char key[128];
    memset(y, 0, sizeof *y);
    if (qn_gguf_get_str(g, "general.architecture", y->arch, sizeof y->arch, NULL) != QN_OK)
        y->arch[0] = '\0';
    y->bit = qn_gguf_arch_bit(y->arch);
    y->plus_one = strncmp(y->arch, "gemma", 5) == 0;
    if (strcmp(y->arch, "llama") != 0)
        return;
    (void)snprintf(key, sizeof key, "%s.attention.head_count", y->arch);
    if (qn_gguf_get_u64(g, key, &y->heads, NULL) != QN_OK)
        y->heads = 0;
    (void)snprintf(key, sizeof key, "%s.attention.head_count_kv", y->arch);
    if (!qn_gguf_find(g, key) || qn_gguf_get_u64(g, key, &y->kv_heads, NULL) != QN_OK)
        y->kv_heads = y->heads;
}

static uint64_t heads_of(const struct layout *y, const char *gguf, const qn_source_tensor *t)
{
    const uint64_t heads = strstr(gguf, ".attn_q.") ? y->heads : strstr(gguf, ".attn_k.") ? y->kv_heads : 0;
    return heads && t->rank >= 1 && t->n_bytes > 0 && t->dims[0] % heads == 0 && t->dims[0] / heads % 2 == 0 ? heads : 0;
}

/* One tensor of the file, or one expert of it. */
static qn_code add(qn_source *v, const struct layout *y, uint64_t tensor, uint32_t expert, const char *name, qn_err *err)
{
    struct view *in = v->impl;
    const qn_source_tensor *t = &in->under->tensors[tensor];
    const bool one = expert != QN_GGUF_NO_EXPERT;
    qn_source_tensor *x = &v->tensors[v->n_tensors];
    *x = (qn_source_tensor){.dims = one ? t->dims + 1 : t->dims, .n_bytes = one ? t->n_bytes / t->dims[0] : t->n_bytes, .object = QN_NO_OBJECT,
                            .dtype = t->dtype, .rank = one ? t->rank - 1 : t->rank};
    x->name = qn_arena_str(&v->arena, name, strlen(name), err);
    if (!x->name)
        return QN_E_MEMORY;
    in->parts[v->n_tensors++] = (struct part){.tensor = tensor, .off = one ? expert * x->n_bytes : 0, .heads = one ? 0 : heads_of(y, t->name, x),
                                              .plus_one = y->plus_one && t->dtype == QN_F32 && qn_text_ends(t->name, "norm.weight")};
    return QN_OK;
}

static bool is_stack(const qn_source_tensor *t)
{
    return t->rank == 3 && t->dims[0] > 0 && t->dims[0] <= UINT16_MAX && strstr(t->name, "_exps.");
}

static qn_code fill(qn_source *v, const qn_source *like, const struct layout *y, qn_err *err)
{
    const qn_source *under = ((struct view *)v->impl)->under;
    char name[QN_GGUF_NAME_CAP];
    uint64_t embedding = UINT64_MAX;
    bool head = false;
    for (uint64_t i = 0; i < under->n_tensors; i++) {
        const qn_source_tensor *t = &under->tensors[i];
        const uint64_t n = is_stack(t) ? t->dims[0] : 1;
        if (strncmp(t->name, "rope_", 5) == 0) /* made from the configuration */
            continue;
        if (strcmp(t->name, "token_embd.weight") == 0)
            embedding = i;
        head = head || strcmp(t->name, "output.weight") == 0;
        for (uint64_t e = 0; e < n; e++) {
            const uint32_t expert = is_stack(t) ? (uint32_t)e : QN_GGUF_NO_EXPERT;
            const bool known = qn_gguf_name_to_hf(y->bit ? y->bit : UINT32_MAX, t->name, expert, name);
            QN_TRY(add(v, y, i, known ? expert : QN_GGUF_NO_EXPERT, known ? name : t->name, err));
            if (!known)
                break;
        }
    }
    if (!head && embedding != UINT64_MAX && qn_source_tensor_find(like, "lm_head.weight") != UINT64_MAX)
        QN_TRY(add(v, y, embedding, QN_GGUF_NO_EXPERT, "lm_head.weight", err));
    return qn_source_seal(v, err);
}

static uint64_t most_tensors(const qn_source *s)
{
    uint64_t n = 1;
    for (uint64_t i = 0; i < s->n_tensors; i++)
        n += is_stack(&s->tensors[i]) ? s->tensors[i].dims[0] : 1;
    return n;
}

static qn_code open_layout(qn_source *s, struct layout *y, qn_err *err)
{
    qn_gguf g;
    qn_arena arena;
    qn_arena_init(&arena, s->env->alloc);
    const qn_code rc = qn_gguf_open(&g, &arena, s, err);
    if (rc == QN_OK)
        read_layout(&g, y);
    qn_arena_release(&arena);
    return rc;
}

qn_code qn_gguf_view_open(const qn_env *env, qn_source *s, const qn_source *like, qn_source **out, qn_err *err)
{
    struct layout y;
    QN_TRY(open_layout(s, &y, err));
    qn_source *v = qn_mem_zeros(env->alloc, 1, sizeof *v, err);
    if (!v)
        return QN_E_MEMORY;
    qn_arena_init(&v->arena, env->alloc);
    v->ops = &view_ops;
    v->env = env;
    v->path = s->path;
    v->bundle = s->bundle;
    const uint64_t most = most_tensors(s);
    struct view *in = v->impl = qn_mem_zeros(env->alloc, 1, sizeof *in, err);
    if (in) {
        in->under = s;
        in->parts = qn_mem_zeros(env->alloc, most, sizeof *in->parts, err);
    }
    v->tensors = in && in->parts ? qn_mem_zeros(env->alloc, most, sizeof *v->tensors, err) : NULL;
    v->files = v->tensors ? qn_mem_zeros(env->alloc, 1, sizeof *v->files, err) : NULL;
    qn_code rc = v->files ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK) {
        v->files[v->n_files++].path = "tensors";
        rc = fill(v, like, &y, err);
    }
    if (rc != QN_OK) {
        qn_source_close(v);
        return rc;
    }
    *out = v;
    return QN_OK;
}

uint64_t qn_gguf_view_origin(const qn_source *view, uint64_t t)
{
    return ((const struct view *)view->impl)->parts[t].tensor;
}
