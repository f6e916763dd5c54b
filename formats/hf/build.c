/* build.c (hf): see build.h. Files stand in the byte order of their paths. */
#include "formats/hf/build.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/dfloat11/dfloat11.h"
#include "formats/hf/hf.h"
#include "formats/safetensors/safetensors.h"
#include "formats/tfjs/tfjs.h"
#include "formats/torch/torch.h"
#include <stdlib.h>
#include <string.h>

/* Tensor names so far, rebuilt larger when full. Two files may hold the same names (consolidated beside model, fp16
 * variants, adapters in folders): the later file's are then qualified by its path. */
struct names {
    qn_names table;
    uint64_t n, room;
};

struct build {
    qn_source *s;
    struct names names;
    char **dirs;       /* folders with a .safetensors file, "" for the top; some stand several times */
    uint64_t n_dirs, cap_dirs;
    qn_names dir_names;
    qn_tfjs_model *tfjs;
    qn_err passed_over; /* the first file that was to hold weights and is a blob now */
    bool torch_passed_over;
};

static void close_build(qn_source *s)
{
    qn_fileset *set = s->impl;
    if (set)
        qn_tfjs_release(set->own);
    qn_fileset_close(s);
}

const qn_source_ops qn_hf_ops = {.format = "hf", .read = qn_fileset_read_object, .read_tensor = qn_fileset_read_made,
                                 .close = close_build};
const qn_source_ops qn_hf_tfjs_ops = {.format = "tfjs", .read = qn_fileset_read_object, .read_tensor = qn_fileset_read_made,
                                      .close = close_build};

static bool begins_with(const char *s, const char *head)
{
    return strncmp(s, head, strlen(head)) == 0;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* ---- folders that have safetensors ---- */

static const char *dir_name(const void *ctx, uint32_t item)
{
    return ((const struct build *)ctx)->dirs[item];
}

static size_t dir_bytes(const char *rel)
{
    const char *slash = strrchr(rel, '/');
    return slash ? (size_t)(slash - rel) : 0;
}

static qn_code note_dirs(struct build *b, char **rel, uint64_t n, qn_err *err)
{
    const qn_alloc *a = b->s->env->alloc;
    for (uint64_t i = 0; i < n; i++) {
        if (!qn_text_ends(rel[i], ".safetensors"))
            continue;
        char **p = qn_mem_grow(a, b->dirs, b->n_dirs, &b->cap_dirs, b->n_dirs + 1, sizeof *p, err);
        b->dirs = p ? p : b->dirs;
        char *dir = p ? qn_arena_str(&b->s->arena, rel[i], dir_bytes(rel[i]), err) : NULL;
        if (!dir)
            return QN_E_MEMORY;
        b->dirs[b->n_dirs++] = dir;
    }
    const uint64_t n_slots = qn_names_slots(b->n_dirs);
    qn_name_slot *slots = qn_mem_zeros(a, n_slots, sizeof *slots, err);
    if (!slots)
        return QN_E_MEMORY;
    qn_names_init(&b->dir_names, slots, n_slots);
    for (uint64_t i = 0; i < b->n_dirs; i++)
        (void)qn_names_add(&b->dir_names, b->dirs[i], (uint32_t)i, dir_name, b);
    return QN_OK;
}

static qn_code has_safetensors(const struct build *b, const char *rel, bool *has, qn_err *err)
{
    char *dir = qn_path_cat(b->s->env->alloc, rel, "", err);
    if (!dir)
        return QN_E_MEMORY;
    dir[dir_bytes(rel)] = '\0';
    *has = qn_names_find(&b->dir_names, dir, dir_name, b) != QN_NAMES_NONE;
    qn_mem_put(b->s->env->alloc, dir);
    return QN_OK;
}

/* A folder has other .bin files too (training_args.bin). */
bool qn_hf_is_torch_name(const char *rel)
{
    const char *slash = strrchr(rel, '/'), *name = slash ? slash + 1 : rel;
    return qn_text_ends(name, ".bin") && (begins_with(name, "pytorch_model") || begins_with(name, "adapter_model") ||
                                       begins_with(name, "diffusion_pytorch_model"));
}

/* ---- names ---- */

static const char *tensor_name(const void *ctx, uint32_t item)
{
    return ((const qn_source *)ctx)->tensors[item].name;
}

static qn_code names_grow(struct names *t, const qn_source *s, uint64_t n_more, qn_err *err)
{
    if (t->n + n_more <= t->room && t->table.slots)
        return QN_OK;
    struct names bigger = {.n = t->n, .room = (t->n + n_more) * 2};
    const uint64_t n_slots = qn_names_slots(bigger.room);
    qn_name_slot *slots = qn_mem_zeros(s->env->alloc, n_slots, sizeof *slots, err);
    if (!slots)
        return QN_E_MEMORY;
    qn_names_init(&bigger.table, slots, n_slots);
    for (uint64_t i = 0; t->table.slots && i <= t->table.mask; i++) {
        const uint32_t item = t->table.slots[i].item;
        if (item)
            (void)qn_names_add(&bigger.table, s->tensors[item - 1].name, item - 1, tensor_name, s);
    }
    qn_mem_put(s->env->alloc, t->table.slots);
    *t = bigger;
    return QN_OK;
}

/* Do the tensors from `first` on bring a name that is there already? If not, they are added. */
static qn_code names_add(struct names *t, const qn_source *s, uint64_t first, bool *collide, qn_err *err)
{
    if (s->n_tensors >= UINT32_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "more than 2^32 tensors");
    QN_TRY(names_grow(t, s, s->n_tensors - first, err));
    *collide = false;
    for (uint64_t i = first; i < s->n_tensors && !*collide; i++)
        *collide = qn_names_find(&t->table, s->tensors[i].name, tensor_name, s) != QN_NAMES_NONE;
    for (uint64_t i = first; i < s->n_tensors && !*collide; i++)
        t->n += qn_names_add(&t->table, s->tensors[i].name, (uint32_t)i, tensor_name, s) == QN_NAMES_NONE;
    return QN_OK;
}

/* ---- files ---- */

static qn_code add_safetensors(qn_source *s, const char *prefix, const char *path, qn_err *err)
{
    const uint64_t first = s->n_objects;
    (void)path;
    QN_TRY(qn_safetensors_add(s, prefix, err));
    for (uint64_t i = first; i < s->n_objects; i++) {
        const qn_object *o = &s->objects[i];
        if (o->kind == QN_OBJECT_TENSOR)
            QN_TRY(qn_fileset_add_tensor(s, &(qn_source_tensor){.name = o->name, .dims = o->dims, .n_bytes = o->n_bytes,
                                                                .object = i, .dtype = o->dtype, .rank = o->rank}, err));
    }
    return QN_OK;
}

static qn_code add_torch(qn_source *s, const char *prefix, const char *path, qn_err *err)
{
    return qn_torch_add(s, prefix, path, err);
}

/* The weights of the last file; what still collides when qualified, qn_source_seal refuses. */
static qn_code add_weights(struct build *b, qn_code (*add)(qn_source *s, const char *prefix, const char *path, qn_err *err),
                           qn_err *err)
{
    qn_source *s = b->s;
    const uint64_t n_objects = s->n_objects, n_tensors = s->n_tensors;
    bool collide = false;
    char *path = qn_path_cat(s->env->alloc, s->files[s->n_files - 1].path, ":", err);
    qn_code rc = path ? add(s, "", path, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = names_add(&b->names, s, n_tensors, &collide, err);
    if (rc == QN_OK && collide) {
        qn_fileset_rewind(s, n_objects, n_tensors);
        rc = add(s, path, path, err);
    }
    qn_mem_put(s->env->alloc, path);
    return rc;
}

/* A file that was to hold weights and does not, for us: it is kept as it is. */
static void pass_over(struct build *b, const char *rel, const qn_err *why)
{
    qn_source_warn(b->s, "%s is kept but not read: %s", rel, why->text);
    if (b->passed_over.code == QN_OK)
        b->passed_over = *why;
}

static qn_code add_torch_or_blob(struct build *b, const char *rel, qn_err *err)
{
    qn_source *s = b->s;
    const uint64_t n_objects = s->n_objects, n_tensors = s->n_tensors;
    qn_err why;
    qn_err_clear(&why);
    const qn_code rc = add_weights(b, add_torch, &why);
    if (rc != QN_E_INPUT && rc != QN_E_UNSUPPORTED) {
        if (rc != QN_OK && err && err->code == QN_OK)
            *err = why;
        return rc;
    }
    pass_over(b, rel, &why);
    b->torch_passed_over = true;
    qn_fileset_rewind(s, n_objects, n_tensors);
    return qn_fileset_add_blob(s, err);
}

static qn_code add_file(struct build *b, const char *rel, qn_err *err)
{
    qn_source *s = b->s;
    bool beaten = false;
    char *path = qn_path_join(s->env->alloc, s->path, rel, err);
    if (!path)
        return QN_E_MEMORY;
    const qn_code rc = qn_fileset_add_file(s, path, rel, err);
    qn_mem_put(s->env->alloc, path);
    QN_TRY(rc);
    qn_tfjs_shard *shard = b->tfjs ? qn_tfjs_find_shard(b->tfjs, rel) : NULL;
    if (shard)
        return qn_tfjs_add_shard(b->tfjs, shard, err);
    if (qn_text_ends(rel, ".safetensors"))
        return add_weights(b, add_safetensors, err);
    if (!qn_hf_is_torch_name(rel))
        return qn_fileset_add_blob(s, err);
    QN_TRY(has_safetensors(b, rel, &beaten, err));
    return beaten ? qn_fileset_add_blob(s, err) : add_torch_or_blob(b, rel, err);
}

/* ---- model.json ---- */

static qn_code find_tfjs(struct build *b, char **rel, uint64_t n, qn_err *err)
{
    qn_fileset *set = b->s->impl;
    const char *name = NULL;
    bool beaten = false;
    QN_TRY(has_safetensors(b, "model.json", &beaten, err));
    for (uint64_t i = 0; i < n; i++) {
        beaten = beaten || (qn_hf_is_torch_name(rel[i]) && dir_bytes(rel[i]) == 0);
        name = strcmp(rel[i], "model.json") == 0 ? rel[i] : name;
    }
    if (!name || beaten)
        return QN_OK;
    char *path = qn_path_join(b->s->env->alloc, b->s->path, name, err);
    qn_err why;
    qn_tfjs_model *m = NULL;
    qn_err_clear(&why);
    qn_code rc = path ? qn_tfjs_read(b->s, path, &m, &why) : QN_E_MEMORY;
    qn_mem_put(b->s->env->alloc, path);
    set->own = m;
    b->tfjs = m;
    if (rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED) {
        pass_over(b, name, &why);
        rc = QN_OK;
    } else if (rc != QN_OK && err && err->code == QN_OK) {
        *err = why;
    }
    return rc;
}

static qn_code place_tfjs(struct build *b, const char *model_json, qn_err *err)
{
    const qn_code rc = qn_tfjs_place(b->tfjs, b->s->path, err);
    b->s->ops = &qn_hf_tfjs_ops;
    char *path = qn_path_join(b->s->env->alloc, b->s->path, model_json ? model_json : "model.json", rc == QN_OK ? err : NULL);
    const qn_code said = path ? qn_err_in_path(err, rc, path) : rc != QN_OK ? rc : QN_E_MEMORY;
    qn_mem_put(b->s->env->alloc, path);
    return said;
}

/* ---- all together ---- */

/* When every tensor is an object, the list says nothing that the objects do not: then qn_source_seal's will do. */
static void drop_plain_list(qn_source *s)
{
    for (uint64_t i = 0; i < s->n_tensors; i++)
        if (s->tensors[i].object == QN_NO_OBJECT || strcmp(s->objects[s->tensors[i].object].name, s->tensors[i].name) != 0 ||
            (i > 0 && s->tensors[i].object <= s->tensors[i - 1].object))
            return;
    uint64_t n_tensor_objects = 0;
    for (uint64_t i = 0; i < s->n_objects; i++)
        n_tensor_objects += s->objects[i].kind == QN_OBJECT_TENSOR;
    if (n_tensor_objects != s->n_tensors)
        return;
    qn_mem_put(s->env->alloc, s->tensors);
    s->tensors = NULL;
    s->n_tensors = 0;
}

static qn_code check_indexes(struct build *b, qn_err *err)
{
    qn_source *s = b->s;
    for (uint64_t i = 0; i < s->n_files; i++) {
        bool beaten = b->torch_passed_over;
        if (qn_text_ends(s->files[i].path, ".safetensors.index.json"))
            QN_TRY(qn_hf_check_index(s, i, err));
        if (!qn_text_ends(s->files[i].path, ".bin.index.json") || b->torch_passed_over)
            continue;
        QN_TRY(has_safetensors(b, s->files[i].path, &beaten, err));
        if (!beaten)
            QN_TRY(qn_hf_check_index(s, i, err));
    }
    return QN_OK;
}

static qn_code build(struct build *b, char **rel, uint64_t n, const char *model_json, qn_err *err)
{
    qn_source *s = b->s;
    QN_TRY(note_dirs(b, rel, n, err));
    if (!b->tfjs)
        QN_TRY(find_tfjs(b, rel, n, err));
    if (b->tfjs)
        QN_TRY(place_tfjs(b, model_json, err));
    for (uint64_t i = 0; i < n; i++)
        QN_TRY(add_file(b, rel[i], err));
    if (b->tfjs)
        QN_TRY(qn_tfjs_list(b->tfjs, err));
    drop_plain_list(s);
    QN_TRY(qn_source_seal(s, err));
    if (s->n_tensors == 0 && b->passed_over.code != QN_OK) {
        if (err && err->code == QN_OK)
            *err = b->passed_over;
        return b->passed_over.code;
    }
    if (s->n_tensors == 0)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "no tensors found: a folder with .safetensors files, "
                                           "pytorch_model.bin, or model.json and its shards is expected"), s->path);
    QN_TRY(check_indexes(b, err));
    return qn_df11_list(s, err);
}

qn_code qn_hf_build(qn_source *s, char **rel, uint64_t n, const char *model_json, qn_err *err)
{
    struct build b = {.s = s, .tfjs = ((qn_fileset *)s->impl)->own};
    qn_err_clear(&b.passed_over);
    if (n)
        qsort(rel, n, sizeof *rel, by_bytes);
    uint64_t n_kept = 0; /* an index names its shards over and over */
    for (uint64_t i = 0; i < n; i++)
        if (n_kept == 0 || strcmp(rel[n_kept - 1], rel[i]) != 0)
            rel[n_kept++] = rel[i];
    const qn_code rc = build(&b, rel, n_kept, model_json, err);
    qn_mem_put(s->env->alloc, b.names.table.slots);
    qn_mem_put(s->env->alloc, b.dir_names.slots);
    qn_mem_put(s->env->alloc, b.dirs);
    return rc;
}
