/* source.c (onnx): weights whose bytes lie in one place are TENSOR objects, all between them is BLOBs; weights that are coded
 * otherwise are tensors that are put together when they are read. */
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include "formats/fileset.h"
#include "formats/onnx/onnx.h"
#include <stdlib.h>

struct onnx {
    qn_onnx_model model;
    uint64_t file;             /* of the model among the source's files */
    const uint32_t *weight_of; /* of each tensor of the source          */
};

/* A weight whose bytes lie in one place. location NULL: in the model itself. */
struct place {
    const char *location;
    uint64_t off, n_bytes; /* n_bytes UINT64_MAX: to the end of its file */
    uint32_t weight;
};

struct build {
    qn_source *s;
    struct onnx *x;
    struct place *places; /* sorted by location, the model's own first */
    uint64_t n_places, n_own;
    uint64_t *object_of;  /* of each weight */
    uint64_t n_packed;
};

static struct onnx *onnx_of(const qn_source *s)
{
    return ((const qn_fileset *)s->impl)->own;
}

/* ---- reading ---- */

static qn_code read_model_file(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    qn_source *s = ctx;
    return qn_fileset_read(s, onnx_of(s)->file, off, n, dst, err);
}

static qn_code read_tensor(qn_source *s, uint64_t tensor, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    const struct onnx *x = onnx_of(s);
    const qn_onnx_tensor *t = x->model.weights[x->weight_of[tensor]].tensor;
    const qn_code rc = qn_onnx_decode(t, read_model_file, s, s->files[x->file].n_bytes, off, n, dst, err);
    return qn_err_in_path(err, rc, ((const qn_fileset *)s->impl)->paths[x->file]);
}

static const qn_source_ops ops = {.format = "onnx", .read = qn_fileset_read_object, .read_tensor = read_tensor,
                                  .close = qn_fileset_close};

const qn_onnx_model *qn_onnx_source_model(const qn_source *s)
{
    return s->ops == &ops ? &onnx_of(s)->model : NULL;
}

uint32_t qn_onnx_source_file(const qn_source *s)
{
    return (uint32_t)onnx_of(s)->file;
}

struct held {
    qn_source *s;
    uint64_t file;
};

static qn_code read_held(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const struct held *h = ctx;
    return qn_source_file_read(h->s, h->file, off, n, dst, err);
}

qn_code qn_onnx_model_of(qn_source *s, qn_arena *arena, const qn_onnx_model **model, uint32_t *file, qn_err *err)
{
    struct held h = {.s = s};
    *model = qn_onnx_source_model(s);
    if (*model) {
        *file = qn_onnx_source_file(s);
        return QN_OK;
    }
    while (h.file < s->n_files && !qn_text_ends(s->files[h.file].path, ".onnx"))
        h.file++;
    if (h.file == s->n_files)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "no file of the model is an .onnx file");
    qn_onnx_model *m = qn_arena_get(arena, sizeof *m, 8, err);
    if (!m)
        return QN_E_MEMORY;
    memset(m, 0, sizeof *m);
    *model = m;
    *file = (uint32_t)h.file;
    return qn_onnx_read(m, arena, s->env->alloc, read_held, &h, s->files[h.file].n_bytes, err);
}

/* ---- what is listed ---- */

/* What a weight is in our terms: its own dtype and shape, or the bytes that hold its elements. */
static qn_object as_object(const qn_onnx_weight *w, bool *packed)
{
    const qn_onnx_tensor *t = w->tensor;
    const qn_onnx_dtype_info *info = qn_onnx_dtype_get(t->data_type);
    *packed = info->packed || (info->bits < 8 && t->n_elems % 2);
    if (*packed)
        return (qn_object){.name = w->name, .dims = &t->n_bytes, .rank = 1, .n_bytes = t->n_bytes, .kind = QN_OBJECT_TENSOR,
                           .dtype = QN_U8};
    return (qn_object){.name = w->name, .dims = t->dims, .rank = t->rank, .n_bytes = t->n_bytes, .kind = QN_OBJECT_TENSOR,
                       .dtype = (uint8_t)info->dtype};
}

static bool is_opaque(const qn_onnx_tensor *t)
{
    return qn_onnx_dtype_get(t->data_type)->dtype == QN_BYTES;
}

static qn_code add_blob(struct build *b, uint64_t off, uint64_t end, qn_err *err)
{
    return end == off ? QN_OK : qn_fileset_add_object(b->s, &(qn_object){.name = "", .off = off, .n_bytes = end - off}, err);
}

/* Objects of the file just added: these places, sorted, and blobs between them. */
static qn_code cover(struct build *b, const struct place *p, uint64_t n, qn_err *err)
{
    const uint64_t n_file = b->s->files[b->s->n_files - 1].n_bytes;
    uint64_t at = 0;
    for (uint64_t i = 0; i < n; i++) {
        const qn_onnx_weight *w = &b->x->model.weights[p[i].weight];
        bool packed;
        qn_object o = as_object(w, &packed);
        if (p[i].off > n_file || o.n_bytes > n_file - p[i].off)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, p[i].off, "its %llu bytes at this place are not inside the "
                                                 "%llu bytes of the file", (unsigned long long)o.n_bytes,
                                                 (unsigned long long)n_file), w->name);
        if (p[i].n_bytes == UINT64_MAX && n_file - p[i].off != o.n_bytes)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, p[i].off, "has the %llu bytes to the end of the file: dims "
                                                 "and data_type need %llu", (unsigned long long)(n_file - p[i].off),
                                                 (unsigned long long)o.n_bytes), w->name);
        if (o.n_bytes == 0 || is_opaque(w->tensor))
            continue;
        if (i > 0 && p[i - 1].off == p[i].off && b->object_of[p[i - 1].weight] != QN_NO_OBJECT &&
            b->s->objects[b->object_of[p[i - 1].weight]].n_bytes == o.n_bytes) {
            b->object_of[p[i].weight] = b->object_of[p[i - 1].weight]; /* the very same bytes */
            continue;
        }
        if (p[i].off < at)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, p[i].off, "its data overlap those of another tensor, which "
                                                 "end at byte %llu", (unsigned long long)at), w->name);
        QN_TRY(add_blob(b, at, p[i].off, err));
        o.off = p[i].off;
        b->object_of[p[i].weight] = b->s->n_objects;
        QN_TRY(qn_fileset_add_object(b->s, &o, err));
        at = o.off + o.n_bytes;
    }
    return add_blob(b, at, n_file, err);
}

static qn_code list_tensors(struct build *b, qn_err *err)
{
    qn_source *s = b->s;
    const qn_onnx_model *m = &b->x->model;
    uint32_t *weight_of = qn_arena_get(&s->arena, m->n_weights * sizeof *weight_of, 8, err);
    s->tensors = qn_mem_get(s->env->alloc, m->n_weights * sizeof *s->tensors, err);
    if (!weight_of || !s->tensors)
        return QN_E_MEMORY;
    b->x->weight_of = weight_of;
    for (uint64_t i = 0; i < m->n_weights; i++) {
        bool packed;
        const qn_object o = as_object(&m->weights[i], &packed);
        if (is_opaque(m->weights[i].tensor))
            continue;
        b->n_packed += packed;
        weight_of[s->n_tensors] = (uint32_t)i;
        s->tensors[s->n_tensors++] = (qn_source_tensor){.name = o.name, .dims = o.dims, .n_bytes = o.n_bytes,
                                                        .object = b->object_of[i],
                                                        .file = b->object_of[i] == QN_NO_OBJECT ? (uint32_t)b->x->file
                                                                : s->objects[b->object_of[i]].file,
                                                        .dtype = o.dtype, .rank = o.rank};
    }
    if (b->n_packed)
        qn_source_warn(s, "%s: %llu tensor%s of elements below a byte: listed as U8, the bytes that hold them", s->path,
                       (unsigned long long)b->n_packed, b->n_packed == 1 ? "" : "s");
    if (m->has_training)
        qn_source_warn(s, "%s: its training_info is kept, but weights in it are not listed", s->path);
    return QN_OK;
}

/* ---- where they lie ---- */

static int by_place(const void *pa, const void *pb)
{
    const struct place *a = pa, *b = pb;
    const int c = a->location && b->location ? strcmp(a->location, b->location) : (a->location != NULL) - (b->location != NULL);
    if (c)
        return c;
    if (a->off != b->off)
        return a->off < b->off ? -1 : 1;
    return (a->weight > b->weight) - (a->weight < b->weight);
}

static qn_code find_places(struct build *b, const char *name, qn_err *err)
{
    const qn_onnx_model *m = &b->x->model;
    const qn_alloc *a = b->s->env->alloc;
    b->places = qn_mem_get(a, m->n_weights * sizeof *b->places, err);
    b->object_of = qn_mem_get(a, m->n_weights * sizeof *b->object_of, err);
    if (!b->places || !b->object_of)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < m->n_weights; i++) {
        const qn_onnx_tensor *t = m->weights[i].tensor;
        b->object_of[i] = QN_NO_OBJECT;
        if (t->data != QN_ONNX_DATA_PLAIN && t->data != QN_ONNX_DATA_EXTERNAL)
            continue;
        const bool outside = t->data == QN_ONNX_DATA_EXTERNAL;
        if (outside && (!qn_path_is_safe(t->location, strlen(t->location)) || strcmp(t->location, name) == 0))
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, t->off, "external_data in '%.200s': a relative path of another "
                                                 "file below the model's folder is expected", t->location),
                                    m->weights[i].name);
        b->n_own += !outside;
        b->places[b->n_places++] = (struct place){outside ? t->location : NULL, t->span.off, t->span.n_bytes, (uint32_t)i};
    }
    if (b->n_places)
        qsort(b->places, (size_t)b->n_places, sizeof *b->places, by_place);
    return QN_OK;
}

static qn_code add_own(struct build *b, qn_file *f, const char *name, qn_err *err)
{
    b->x->file = b->s->n_files;
    QN_TRY(qn_fileset_add_opened(b->s, f, name, err));
    return cover(b, b->places, b->n_own, err);
}

/* All files in the order of their names, each with its objects. */
static qn_code add_files(struct build *b, qn_file *f, const char *name, const qn_stat *own, qn_err *err)
{
    qn_fileset *set = b->s->impl;
    bool own_added = false;
    for (uint64_t i = b->n_own, n; i < b->n_places; i += n) {
        const char *rel = b->places[i].location;
        qn_stat st;
        for (n = 1; i + n < b->n_places && strcmp(b->places[i + n].location, rel) == 0;)
            n++;
        if (!own_added && strcmp(name, rel) < 0) {
            QN_TRY(add_own(b, f, name, err));
            own_added = true;
        }
        qn_code rc = qn_fileset_add_beneath(b->s, rel, err);
        const qn_file *opened = rc == QN_OK ? &set->open[b->s->n_files - 1] : NULL;
        if (opened && opened->fd >= 0)
            rc = qn_file_stat(opened, &st, err);
        if (opened && opened->fd >= 0 && rc == QN_OK && st.dev == own->dev && st.ino == own->ino)
            rc = QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "external_data in the model itself");
        if (rc == QN_OK)
            rc = cover(b, &b->places[i], n, err);
        if (rc != QN_OK)
            return qn_err_in_path(err, qn_err_in_tensor(err, rc, b->x->model.weights[b->places[i].weight].name),
                                  opened ? set->paths[b->s->n_files - 1] : b->s->path);
    }
    return own_added ? QN_OK : add_own(b, f, name, err);
}

/* ---- opening ---- */

static qn_code read_opened(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    return qn_file_read(ctx, dst, n, off, err);
}

static qn_code build(struct build *b, qn_file *f, const char *path, qn_err *err)
{
    qn_source *s = b->s;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    qn_stat st;
    b->x = qn_arena_get(&s->arena, sizeof *b->x, 8, err);
    if (!b->x)
        return QN_E_MEMORY;
    *b->x = (struct onnx){0};
    ((qn_fileset *)s->impl)->own = b->x; /* in the arena */
    QN_TRY(qn_file_stat(f, &st, err));
    QN_TRY(qn_onnx_read(&b->x->model, &s->arena, s->env->alloc, read_opened, f, st.n_bytes, err));
    QN_TRY(find_places(b, name, err));
    if (b->n_own < b->n_places) { /* several files: then the source is their folder */
        char *dir = qn_path_dir(s->env->alloc, path, err);
        s->path = dir ? qn_arena_str(&s->arena, dir, strlen(dir), err) : NULL;
        qn_mem_put(s->env->alloc, dir);
        s->is_dir = true;
        if (!s->path)
            return QN_E_MEMORY;
    }
    QN_TRY(add_files(b, f, name, &st, err));
    if (s->files[b->x->file].n_bytes != st.n_bytes)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "has changed while it was read");
    QN_TRY(list_tensors(b, err));
    return qn_source_seal(s, err);
}

static qn_code open_model(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    struct build b = {0};
    qn_file f;
    *out = NULL;
    QN_TRY(qn_fileset_new_ops(env, &ops, path, &b.s, err));
    qn_code rc = qn_file_open(&f, env->fs, env->alloc, path, QN_OPEN_READ, err);
    if (rc == QN_OK) {
        rc = build(&b, &f, path, err);
        qn_file_drop(&f);
    }
    qn_mem_put(env->alloc, b.places);
    qn_mem_put(env->alloc, b.object_of);
    if (rc != QN_OK) {
        qn_source_close(b.s);
        return qn_err_in_path(err, rc, path);
    }
    *out = b.s;
    return QN_OK;
}

/* By name, so that a damaged one is told what is wrong with it; or by its first bytes: ir_version (field 1, a varint of one byte),
 * then a field 2, 3, 7 or 8 of length kind. */
static bool probe(const qn_probe *p)
{
    const size_t n = strlen(p->path);
    if (p->is_dir)
        return false;
    if (n >= 5 && strcmp(p->path + n - 5, ".onnx") == 0)
        return true;
    return p->n_head >= 4 && p->head[0] == 0x08 && p->head[1] >= 1 && p->head[1] <= 32 &&
           (p->head[2] == 0x12 || p->head[2] == 0x1a || p->head[2] == 0x3a || p->head[2] == 0x42);
}

const qn_format qn_format_onnx = {"an ONNX model", probe, open_model};
