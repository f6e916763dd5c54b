/* layout.c: from tensors over storages to a source: objects that cover the file, tensors that say what they mean.
 *
 * A storage that one tensor fills from its first to its last element, in order, is an object of that tensor's name, dtype and
 * shape. Any other storage is an object of rank 1 under the name of its record. All else in the file is blobs. */
#include "base/err.h"
#include "base/num.h"
#include "formats/torch/torch.h"
#include <stdlib.h>
#include <string.h>

static const char *place_key(const void *ctx, uint32_t item)
{
    return ((const qn_torch_file *)ctx)->places[item].storage->key;
}

qn_torch_place *qn_torch_find_place(const qn_torch_file *f, const char *key)
{
    const uint32_t i = qn_names_find(&f->keys, key, place_key, f);
    return i == QN_NAMES_NONE ? NULL : &f->places[i];
}

const char *qn_torch_record_name(const qn_torch_file *f, const char *record, qn_err *err)
{
    const size_t n = strlen(f->record_prefix), m = strlen(record) + 1;
    char *p = qn_arena_get(&f->s->arena, n + m, 1, err);
    if (p) {
        memcpy(p, f->record_prefix, n);
        memcpy(p + n, record, m);
    }
    return p;
}

static uint64_t storage_bytes(const qn_pk_storage *s)
{
    return s->n * (qn_dtype_bits((qn_dtype)s->dtype) / 8); /* n ≤ 2^48, whole bytes */
}

qn_code qn_torch_list_places(qn_torch_file *f, qn_err *err)
{
    const qn_alloc *a = f->s->env->alloc;
    const uint64_t n = f->pickle.n_storages, n_slots = qn_names_slots(n);
    f->places = qn_mem_zeros(a, n, sizeof *f->places, err);
    qn_name_slot *slots = f->places ? qn_mem_zeros(a, n_slots, sizeof *slots, err) : NULL;
    if (!slots)
        return QN_E_MEMORY;
    qn_names_init(&f->keys, slots, n_slots);
    for (uint64_t i = 0; i < n; i++) {
        const qn_pk_storage *s = f->pickle.storages[i];
        f->places[f->n_places] = (qn_torch_place){.storage = s, .n_bytes = storage_bytes(s), .whole = UINT64_MAX,
                                                  .object = QN_NO_OBJECT};
        const uint32_t twin = qn_names_add(&f->keys, s->key, (uint32_t)f->n_places, place_key, f);
        if (twin == QN_NAMES_NONE)
            f->n_places++;
        else if (f->places[twin].n_bytes != storage_bytes(s))
            return QN_FAIL(err, QN_E_INPUT, s->off, "storage '%s' has %llu bytes here and %llu elsewhere", s->key,
                           (unsigned long long)storage_bytes(s), (unsigned long long)f->places[twin].n_bytes);
    }
    return QN_OK;
}

static bool is_contiguous(const qn_pk_tensor *t)
{
    uint64_t step = 1; /* of a non-empty tensor, whose products are checked */
    for (unsigned i = t->rank; i-- > 0;) {
        if (t->size[i] != 1 && t->stride[i] != step)
            return false;
        step *= t->size[i];
    }
    return true;
}

static uint64_t tensor_bytes(const qn_pk_tensor *t)
{
    uint64_t n_elems, n_bytes = 0;
    (void)qn_shape_bytes((qn_dtype)t->dtype, t->size, t->rank, &n_elems, &n_bytes); /* checked when it was built */
    return n_bytes;
}

/* Every tensor finds its storage, every storage the first tensor that is all of it. */
static void match(qn_torch_file *f)
{
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        qn_torch_tensor *t = &f->tensors[i];
        t->place = (uint64_t)(qn_torch_find_place(f, t->t->storage->key) - f->places);
        qn_torch_place *p = &f->places[t->place];
        if (p->whole == UINT64_MAX && p->n_bytes > 0 && t->t->first == 0 && tensor_bytes(t->t) == p->n_bytes &&
            is_contiguous(t->t))
            p->whole = i;
    }
}

static const uint64_t *copy_dims(qn_source *s, const uint64_t *from, unsigned n, qn_err *err)
{
    uint64_t *d = qn_arena_get(&s->arena, n * sizeof *d, 8, err);
    if (d && n)
        memcpy(d, from, n * sizeof *d);
    return d;
}

static qn_code add_blob(qn_torch_file *f, uint64_t from, uint64_t to, qn_err *err)
{
    return from == to ? QN_OK : qn_fileset_add_object(f->s, &(qn_object){.name = "", .off = from, .n_bytes = to - from}, err);
}

static qn_code add_place(qn_torch_file *f, qn_torch_place *p, qn_err *err)
{
    qn_object o = {.name = p->record, .off = p->off, .n_bytes = p->n_bytes, .kind = QN_OBJECT_TENSOR, .rank = 1};
    if (p->whole != UINT64_MAX) {
        const qn_torch_tensor *t = &f->tensors[p->whole];
        o.name = t->name;
        o.rank = t->t->rank;
        o.dtype = t->t->dtype;
        o.dims = copy_dims(f->s, t->t->size, o.rank, err);
    } else {
        o.dtype = p->storage->dtype;
        o.dims = copy_dims(f->s, &p->storage->n, 1, err);
    }
    if (!o.dims)
        return QN_E_MEMORY;
    p->object = f->s->n_objects;
    return qn_fileset_add_object(f->s, &o, err);
}

static int by_offset(const void *a, const void *b)
{
    const qn_torch_place *const *x = a, *const *y = b;
    return (*x)->off < (*y)->off ? -1 : (*x)->off > (*y)->off;
}

/* Storages are entries of a zip or follow each other in a stream: they cannot overlap. */
static qn_code add_objects(qn_torch_file *f, qn_err *err)
{
    const qn_alloc *a = f->s->env->alloc;
    qn_torch_place **order = qn_mem_get(a, f->n_places * sizeof *order, err);
    if (!order)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < f->n_places; i++)
        order[i] = &f->places[i];
    if (f->n_places)
        qsort(order, f->n_places, sizeof *order, by_offset);
    uint64_t at = 0;
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < f->n_places && rc == QN_OK; i++) {
        if (order[i]->n_bytes == 0)
            continue;
        rc = add_blob(f, at, order[i]->off, err);
        if (rc == QN_OK)
            rc = add_place(f, order[i], err);
        at = order[i]->off + order[i]->n_bytes;
    }
    qn_mem_put(a, order);
    return rc == QN_OK ? add_blob(f, at, f->n_bytes, err) : rc;
}

/* A tensor that reads as an object does: all of it, in order, in its dtype. */
static bool is_object(const qn_torch_file *f, const qn_torch_tensor *t)
{
    const qn_torch_place *p = &f->places[t->place];
    return p->whole != UINT64_MAX && t->t->first == 0 && t->t->dtype == f->tensors[p->whole].t->dtype &&
           tensor_bytes(t->t) == p->n_bytes && is_contiguous(t->t);
}

static qn_code add_tensors(qn_torch_file *f, qn_err *err)
{
    qn_source *s = f->s;
    qn_torch_view *views = qn_arena_get(&s->arena, f->n_tensors * sizeof *views, 8, err);
    if (!s->tensors) /* also when there are none: storages by themselves are no tensors */
        s->tensors = qn_mem_get(s->env->alloc, sizeof *s->tensors, err);
    if (!views || !s->tensors)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const qn_torch_tensor *t = &f->tensors[i];
        const qn_torch_place *p = &f->places[t->place];
        const uint64_t *dims = copy_dims(s, t->t->size, t->t->rank, err), *stride = copy_dims(s, t->t->stride, t->t->rank, err);
        if (!dims || !stride)
            return QN_E_MEMORY;
        views[i] = (qn_torch_view){.off = p->off, .first = t->t->first, .stride = stride, .file = (uint32_t)f->file};
        const qn_source_tensor listed = {.name = t->name, .dims = dims, .n_bytes = tensor_bytes(t->t),
                                         .object = is_object(f, t) ? p->object : QN_NO_OBJECT, .dtype = t->t->dtype,
                                         .rank = t->t->rank};
        QN_TRY(qn_fileset_add_made(s, &listed, qn_torch_read_view, &views[i], err));
    }
    return QN_OK;
}

qn_code qn_torch_lay_out(qn_torch_file *f, qn_err *err)
{
    match(f);
    QN_TRY(add_objects(f, err));
    return add_tensors(f, err);
}
