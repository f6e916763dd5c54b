/* construct.c: what applying a global to arguments builds, and what may be given a state. Nothing is ever called. */
#include "base/num.h"
#include "formats/torch/pickle_impl.h"
#include <string.h>

static const qn_pk *arg(const qn_pk *args, uint32_t i)
{
    return args->u.items[i];
}

static const char *global_name(const qn_pk *g)
{
    return qn_pk_globals[g->u.global].name;
}

static bool is_global_of(const qn_pk *v, qn_pk_kind kind)
{
    return v->tag == QN_PK_GLOBAL && qn_pk_globals[v->u.global].kind == kind;
}

/* Integers of 0 to 2^48, as a tuple (or torch.Size, which is one) or a list. */
static qn_code read_dims(qn_pickle *p, const qn_pk *v, const char *what, const uint64_t **dims, qn_err *err)
{
    uint64_t *d;
    if (v->tag != QN_PK_TUPLE && v->tag != QN_PK_LIST)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "%s of a tensor is a %s: a tuple is expected", what, qn_pk_tag_name(v->tag));
    if (v->n > QN_RANK_MAX)
        return QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "%s of a tensor has %u dimensions: up to %d are read", what, v->n,
                          QN_RANK_MAX);
    d = qn_arena_get(&p->arena, v->n * sizeof *d, 8, err);
    if (!d)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < v->n; i++) {
        const qn_pk *e = v->u.items[i];
        if (e->tag != QN_PK_INT || e->u.i < 0 || (uint64_t)e->u.i > QN_DIM_MAX)
            return QN_PK_FAIL(p, err, QN_E_INPUT, "%s of a tensor: integers of 0 to 2^48 are expected", what);
        d[i] = (uint64_t)e->u.i;
    }
    *dims = d;
    return QN_OK;
}

/* The last element that (first, size, stride) reach must be in the storage. */
static qn_code check_reach(qn_pickle *p, const qn_pk_tensor *t, uint64_t n_storage, qn_err *err)
{
    bool ovf = false;
    uint64_t last = t->first, n_elems, n_bytes;
    if (!qn_shape_bytes((qn_dtype)t->dtype, t->size, t->rank, &n_elems, &n_bytes))
        return QN_PK_FAIL(p, err, QN_E_INPUT, "size of a tensor overflows");
    for (uint32_t i = 0; i < t->rank && n_elems > 0; i++)
        last = qn_add(last, qn_mul(t->size[i] - 1, t->stride[i], &ovf), &ovf);
    if (ovf || (n_elems > 0 && last >= n_storage))
        return QN_PK_FAIL(p, err, QN_E_INPUT, "tensor reaches element %llu of a storage of %llu",
                          ovf ? (unsigned long long)UINT64_MAX : (unsigned long long)last, (unsigned long long)n_storage);
    /* A small storage expanded without bound would be read without end. */
    enum { EXPANDED_MAX = 1024 };
    if (n_elems / EXPANDED_MAX > qn_max_u64(n_storage, EXPANDED_MAX))
        return QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "tensor repeats a storage of %llu elements as %llu",
                          (unsigned long long)n_storage, (unsigned long long)n_elems);
    return QN_OK;
}

/* metadata: a dict or None; a view that is conjugated or negated on reading is not what its bytes say. */
static qn_code check_metadata(qn_pickle *p, const qn_pk *m, qn_err *err)
{
    if (m->tag != QN_PK_NONE && m->tag != QN_PK_DICT)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "metadata of a tensor is a %s: a dict is expected", qn_pk_tag_name(m->tag));
    static const char *const marks[] = {"conj", "neg"};
    for (size_t i = 0; i < 2; i++) {
        const qn_pk *v = qn_pk_get(m, marks[i]);
        if (v && !(v->tag == QN_PK_BOOL && v->u.i == 0))
            return QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "tensors with the '%s' mark cannot be read", marks[i]);
    }
    return QN_OK;
}

static qn_code make_tensor(qn_pickle *p, const qn_pk *args, qn_pk_kind kind, qn_pk *out, qn_err *err)
{
    static const struct {
        uint8_t min, max;
    } n_args[] = {[QN_PK_K_TENSOR] = {4, 4}, [QN_PK_K_TENSOR2] = {6, 7}, [QN_PK_K_TENSOR3] = {7, 8}};
    if (args->n < n_args[kind].min || args->n > n_args[kind].max)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "tensor from %u arguments: %u to %u are expected", args->n, n_args[kind].min,
                          n_args[kind].max);
    if (arg(args, 0)->tag != QN_PK_STORAGE)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "tensor over a %s: a storage is expected", qn_pk_tag_name(arg(args, 0)->tag));
    const qn_pk *first = arg(args, 1);
    if (first->tag != QN_PK_INT || first->u.i < 0)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "storage offset of a tensor: an integer from 0 on is expected");
    qn_pk_tensor *t = qn_arena_get(&p->arena, sizeof *t, 8, err);
    if (!t)
        return QN_E_MEMORY;
    *t = (qn_pk_tensor){.storage = arg(args, 0)->u.storage, .first = (uint64_t)first->u.i, .off = p->op_off};
    uint64_t n = t->storage->n;
    t->dtype = t->storage->dtype;
    if (kind == QN_PK_K_TENSOR3) {
        if (!is_global_of(arg(args, 6), QN_PK_K_DTYPE))
            return QN_PK_FAIL(p, err, QN_E_INPUT, "dtype of a tensor is a %s", qn_pk_tag_name(arg(args, 6)->tag));
        t->dtype = qn_pk_globals[arg(args, 6)->u.global].detail;
        n = n * qn_dtype_bits((qn_dtype)t->storage->dtype) / qn_dtype_bits((qn_dtype)t->dtype); /* n ≤ 2^48 */
    } else if (t->storage->untyped) {
        return QN_PK_FAIL(p, err, QN_E_INPUT, "tensor over a storage without dtype");
    }
    const uint32_t meta = kind == QN_PK_K_TENSOR3 ? 7 : 6;
    if (args->n > meta)
        QN_TRY(check_metadata(p, arg(args, meta), err));
    QN_TRY(read_dims(p, arg(args, 2), "size", &t->size, err));
    QN_TRY(read_dims(p, arg(args, 3), "stride", &t->stride, err));
    if (arg(args, 2)->n != arg(args, 3)->n)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "tensor with %u sizes and %u strides", arg(args, 2)->n, arg(args, 3)->n);
    t->rank = (uint8_t)arg(args, 2)->n;
    QN_TRY(check_reach(p, t, n, err));
    out->tag = QN_PK_TENSOR;
    out->u.tensor = t;
    return QN_OK;
}

static qn_code make_parameter(qn_pickle *p, const qn_pk *args, qn_pk *out, qn_err *err)
{
    if (args->n < 3 || args->n > 4 || arg(args, 0)->tag != QN_PK_TENSOR)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "parameter: a tensor and two or three arguments more are expected");
    *out = *arg(args, 0);
    return QN_OK;
}

/* (function, type, arguments, state): the tensor inside counts, its class does not. */
static qn_code make_subclass(qn_pickle *p, const qn_pk *args, qn_pk *out, qn_err *err)
{
    if (args->n != 4 || arg(args, 0)->tag != QN_PK_GLOBAL || arg(args, 1)->tag != QN_PK_GLOBAL || arg(args, 2)->tag != QN_PK_TUPLE)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "tensor of a class: function, class, arguments and state are expected");
    const qn_pk_kind kind = qn_pk_globals[arg(args, 0)->u.global].kind;
    if (kind == QN_PK_K_PARAMETER)
        return make_parameter(p, arg(args, 2), out, err);
    if (kind == QN_PK_K_TENSOR || kind == QN_PK_K_TENSOR2 || kind == QN_PK_K_TENSOR3)
        return make_tensor(p, arg(args, 2), kind, out, err);
    return QN_PK_FAIL(p, err, QN_E_INPUT, "tensor of a class: '%s' does not rebuild one", global_name(arg(args, 0)));
}

/* OrderedDict(): empty, or from a list of pairs as Python 2 wrote it. */
static qn_code make_dict(qn_pickle *p, const qn_pk *args, qn_pk *out, qn_err *err)
{
    out->tag = QN_PK_DICT;
    if (args->n == 0)
        return QN_OK;
    const qn_pk *list = arg(args, 0);
    if (args->n == 1 && list->tag == QN_PK_DICT) {
        for (uint32_t i = 0; i < list->n; i++)
            QN_TRY(qn_pk_append(p, out, list->u.items[i], err));
        return QN_OK;
    }
    if (args->n != 1 || list->tag != QN_PK_LIST)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "dict from %u arguments, the first a %s: none, or a list of pairs is expected",
                          args->n, qn_pk_tag_name(list->tag));
    for (uint32_t i = 0; i < list->n; i++) {
        const qn_pk *pair = list->u.items[i];
        if ((pair->tag != QN_PK_LIST && pair->tag != QN_PK_TUPLE) || pair->n != 2)
            return QN_PK_FAIL(p, err, QN_E_INPUT, "dict from a list: item %u is no pair", i);
        QN_TRY(qn_pk_append(p, out, pair->u.items[0], err));
        QN_TRY(qn_pk_append(p, out, pair->u.items[1], err));
    }
    return QN_OK;
}

static qn_code wants_one(qn_pickle *p, const qn_pk *callable, const qn_pk *args, qn_pk_tag a, qn_pk_tag b, qn_err *err)
{
    if (args->n == 1 && (arg(args, 0)->tag == a || arg(args, 0)->tag == b))
        return QN_OK;
    return QN_PK_FAIL(p, err, QN_E_INPUT, "'%s' from %u arguments: one %s is expected", global_name(callable), args->n,
                      qn_pk_tag_name(a));
}

qn_code qn_pk_apply(qn_pickle *p, const qn_pk *callable, qn_pk *args, qn_pk **out, qn_err *err)
{
    if (callable->tag != QN_PK_GLOBAL)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "a %s cannot be applied", qn_pk_tag_name(callable->tag));
    if (args->tag != QN_PK_TUPLE)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "arguments are a %s: a tuple is expected", qn_pk_tag_name(args->tag));
    qn_pk *v = qn_pk_new(p, QN_PK_OBJECT, err);
    if (!v)
        return QN_E_MEMORY;
    *out = v;
    const qn_pk_kind kind = qn_pk_globals[callable->u.global].kind;
    switch (kind) {
    case QN_PK_K_TENSOR:
    case QN_PK_K_TENSOR2:
    case QN_PK_K_TENSOR3:
        return make_tensor(p, args, kind, v, err);
    case QN_PK_K_PARAMETER:
        return make_parameter(p, args, v, err);
    case QN_PK_K_SUBCLASS:
        return make_subclass(p, args, v, err);
    case QN_PK_K_DICT:
        return make_dict(p, args, v, err);
    case QN_PK_K_COUNTED:
        v->tag = QN_PK_DICT;
        if (args->n > 1 || (args->n == 1 && arg(args, 0)->tag != QN_PK_GLOBAL && arg(args, 0)->tag != QN_PK_NONE))
            return QN_PK_FAIL(p, err, QN_E_INPUT, "'%s': nothing, or one global is expected", global_name(callable));
        return QN_OK;
    case QN_PK_K_SIZE:
        QN_TRY(wants_one(p, callable, args, QN_PK_TUPLE, QN_PK_LIST, err));
        *v = *arg(args, 0);
        v->tag = QN_PK_TUPLE;
        return QN_OK;
    case QN_PK_K_SET:
        QN_TRY(args->n == 0 ? QN_OK : wants_one(p, callable, args, QN_PK_LIST, QN_PK_TUPLE, err));
        v->tag = QN_PK_SET; /* tensors cannot be told apart in one: what it holds has no meaning here */
        return QN_OK;
    case QN_PK_K_ENCODE:
        if (args->n < 1 || args->n > 2 || arg(args, 0)->tag != QN_PK_STR || arg(args, args->n - 1)->tag != QN_PK_STR)
            return QN_PK_FAIL(p, err, QN_E_INPUT, "'%s': a text and an encoding are expected", global_name(callable));
        v->tag = QN_PK_BYTES;
        return QN_OK;
    case QN_PK_K_INERT:
        return QN_OK;
    default:
        return QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "'%s' cannot be applied", global_name(callable));
    }
}

qn_code qn_pk_build(qn_pickle *p, const qn_pk *value, const qn_pk *state, qn_err *err)
{
    if (value->tag != QN_PK_OBJECT && value->tag != QN_PK_DICT && value->tag != QN_PK_TENSOR)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "a %s takes no state", qn_pk_tag_name(value->tag));
    if (value->tag != QN_PK_OBJECT && state->tag != QN_PK_DICT && state->tag != QN_PK_TUPLE)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "state of a %s is a %s: a dict is expected", qn_pk_tag_name(value->tag),
                          qn_pk_tag_name(state->tag));
    return QN_OK;
}

/* ("storage", class, key, device, elements[, view]) */
qn_code qn_pk_persistent(qn_pickle *p, const qn_pk *id, qn_pk **out, qn_err *err)
{
    if (id->tag != QN_PK_TUPLE || id->n < 5 || id->n > 6)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "persistent id is a %s of %u: a tuple of 5 or 6 is expected",
                          qn_pk_tag_name(id->tag), id->tag == QN_PK_TUPLE ? id->n : 0);
    const qn_pk *key = arg(id, 2), *n = arg(id, 4);
    if (arg(id, 0)->tag != QN_PK_STR || arg(id, 0)->cut || strcmp(arg(id, 0)->u.text, "storage") != 0)
        return QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "persistent id is of no storage");
    if (!is_global_of(arg(id, 1), QN_PK_K_STORAGE))
        return QN_PK_FAIL(p, err, QN_E_INPUT, "class of a storage is a %s", qn_pk_tag_name(arg(id, 1)->tag));
    if (key->tag != QN_PK_STR || key->cut || key->n == 0 || strlen(key->u.text) != key->n || strchr(key->u.text, '/'))
        return QN_PK_FAIL(p, err, QN_E_INPUT, "key of a storage: a short text without '/' and NUL is expected");
    if (arg(id, 3)->tag != QN_PK_STR)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "device of a storage is a %s", qn_pk_tag_name(arg(id, 3)->tag));
    if (n->tag != QN_PK_INT || n->u.i < 0 || (uint64_t)n->u.i > QN_DIM_MAX)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "elements of a storage: an integer of 0 to 2^48 is expected");
    if (id->n == 6 && arg(id, 5)->tag != QN_PK_NONE)
        return QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "storages that are part of another one cannot be read");
    qn_pk *v = qn_pk_new(p, QN_PK_STORAGE, err);
    qn_pk_storage *s = v ? qn_arena_get(&p->arena, sizeof *s, 8, err) : NULL;
    if (!s)
        return QN_E_MEMORY;
    const uint8_t dtype = qn_pk_globals[arg(id, 1)->u.global].detail;
    *s = (qn_pk_storage){.key = key->u.text, .n = (uint64_t)n->u.i, .off = p->op_off, .dtype = dtype ? dtype : QN_U8,
                         .untyped = dtype == QN_BYTES};
    v->u.storage = s;
    *out = v;
    const qn_pk_storage **list = qn_mem_grow(p->alloc, p->storages, p->n_storages, &p->cap_storages, p->n_storages + 1,
                                             sizeof *list, err);
    if (!list)
        return QN_E_MEMORY;
    p->storages = list;
    list[p->n_storages++] = s;
    return QN_OK;
}
