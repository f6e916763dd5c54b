/* write.c (gguf): see write.h. Misuse by the caller is QN_E_USAGE or a bug, never a file that readers refuse. */
#include "formats/gguf/write.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include <string.h>

enum {
    ALIGNMENT_DEFAULT = 32,
    ALIGNMENT_MIN = 8, /* what the format's description asks */
    ALIGNMENT_MAX = 1 << 20,
    KEY_BYTES_MAX = 65535,
    NAME_BYTES_MAX = 63,
    RANK_MAX = 4,
    COPY_BYTES = 4096
};

bool qn_gguf_type_of(qn_dtype t, uint32_t *type)
{
    const char *why;
    for (uint32_t i = 0; i < QN_DTYPE_COUNT - 64; i++)
        if (t != QN_BYTES && qn_gguf_dtype(i, &why) == t) {
            *type = i;
            return true;
        }
    return false;
}

/* ---- lists in the making ---- */

static const char *item_name(const void *ctx, uint32_t i)
{
    return ((const struct qn_gguf_list *)ctx)->items[i];
}

static qn_code add_name(qn_gguf_writer *w, struct qn_gguf_list *l, const char *name, const char *what, qn_err *err)
{
    const qn_alloc *a = w->out.env->alloc;
    const size_t n = strlen(name), most = l == &w->key_names ? KEY_BYTES_MAX : NAME_BYTES_MAX;
    char shown[80];
    qn_printable(shown, sizeof shown, name, n);
    if (n == 0 || n > most || !qn_utf8_is_valid(name, n))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s '%s' of %zu bytes: 1 to %zu of UTF-8 are allowed", what, shown, n, most);
    const char **items = qn_mem_grow(a, l->items, l->n, &l->cap, l->n + 1, sizeof *items, err);
    if (!items)
        return QN_E_MEMORY;
    l->items = items;
    if (qn_names_slots(l->n + 1) > l->n_slots) {
        const uint64_t n_slots = 2 * qn_names_slots(l->n + 1);
        qn_name_slot *slots = qn_mem_zeros(a, n_slots, sizeof *slots, err);
        if (!slots)
            return QN_E_MEMORY;
        qn_mem_put(a, l->slots);
        l->slots = slots;
        l->n_slots = n_slots;
        qn_names_init(&l->table, slots, n_slots);
        for (uint64_t i = 0; i < l->n; i++)
            (void)qn_names_add(&l->table, items[i], (uint32_t)i, item_name, l);
    }
    items[l->n] = qn_arena_str(&w->arena, name, n, err);
    if (!items[l->n])
        return QN_E_MEMORY;
    if (qn_names_add(&l->table, items[l->n], (uint32_t)l->n, item_name, l) != QN_NAMES_NONE)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s '%s' is given twice", what, shown);
    l->n++;
    return QN_OK;
}

static qn_code add_bytes(qn_gguf_writer *w, struct qn_gguf_bytes *b, const void *p, uint64_t n, qn_err *err)
{
    uint8_t *mem = qn_mem_grow(w->out.env->alloc, b->p, b->n, &b->cap, b->n + n, 1, err);
    if (!mem)
        return QN_E_MEMORY;
    b->p = mem;
    if (n)
        memcpy(mem + b->n, p, (size_t)n);
    b->n += n;
    return QN_OK;
}

static qn_code add_number(qn_gguf_writer *w, struct qn_gguf_bytes *b, uint64_t v, unsigned n, qn_err *err)
{
    uint8_t p[8];
    qn_store64(p, v);
    return add_bytes(w, b, p, n, err);
}

static qn_code add_string(qn_gguf_writer *w, struct qn_gguf_bytes *b, const char *s, uint64_t n, qn_err *err)
{
    QN_TRY(add_number(w, b, n, 8, err));
    return add_bytes(w, b, s, n, err);
}

static unsigned width(unsigned type)
{
    static const uint8_t n[QN_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < QN_GGUF_TYPES ? n[type] : 0;
}

/* ---- keys ---- */

static qn_code array_is_full(const qn_gguf_writer *w, qn_err *err)
{
    return w->array_left == 0 ? QN_OK : QN_BUG(err, "an array of a GGUF file lacks %llu elements",
                                               (unsigned long long)w->array_left);
}

static qn_code begin_key(qn_gguf_writer *w, const char *key, qn_gguf_type type, qn_err *err)
{
    if (w->in_data)
        return QN_BUG(err, "a key of a GGUF file comes after data");
    QN_TRY(array_is_full(w, err));
    QN_TRY(add_name(w, &w->key_names, key, "key", err));
    QN_TRY(add_string(w, &w->keys, key, strlen(key), err));
    return add_number(w, &w->keys, type, 4, err);
}

qn_code qn_gguf_writer_open(qn_gguf_writer *w, const qn_env *env, const char *path, uint64_t alignment, bool overwrite,
                            qn_err *err)
{
    *w = (qn_gguf_writer){.out = QN_OUTFILE_CLOSED, .alignment = alignment ? alignment : ALIGNMENT_DEFAULT};
    qn_arena_init(&w->arena, env->alloc);
    w->out.env = env;
    if (w->alignment < ALIGNMENT_MIN || w->alignment > ALIGNMENT_MAX || (w->alignment & (w->alignment - 1)) != 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "alignment %llu: a power of two from 8 to 2^20 is allowed",
                       (unsigned long long)alignment);
    QN_TRY(qn_outfile_open(&w->out, env, path, overwrite, err));
    return w->alignment == ALIGNMENT_DEFAULT
               ? QN_OK : qn_gguf_put_u32(w, "general.alignment", (uint32_t)w->alignment, err);
}

void qn_gguf_writer_count(qn_gguf_writer *w, const qn_env *env)
{
    *w = (qn_gguf_writer){.out = QN_OUTFILE_CLOSED, .alignment = ALIGNMENT_DEFAULT};
    qn_arena_init(&w->arena, env->alloc);
    w->out.env = env;
}

uint64_t qn_gguf_writer_bytes(const qn_gguf_writer *w)
{
    bool ovf = false;
    const uint64_t head = qn_align_up(24 + w->keys.n + w->infos.n, w->alignment, &ovf);
    return qn_add(head, w->next_off, &ovf);
}

qn_code qn_gguf_put_number(qn_gguf_writer *w, const char *key, qn_gguf_type type, uint64_t bits, qn_err *err)
{
    if (width(type) == 0 || (type == QN_GGUF_BOOL && bits > 1))
        return QN_BUG(err, "type %d is no number, or the value none of it", (int)type);
    QN_TRY(begin_key(w, key, type, err));
    return add_number(w, &w->keys, bits, width(type), err);
}

qn_code qn_gguf_put_u32(qn_gguf_writer *w, const char *key, uint32_t v, qn_err *err)
{
    return qn_gguf_put_number(w, key, QN_GGUF_U32, v, err);
}

qn_code qn_gguf_put_u64(qn_gguf_writer *w, const char *key, uint64_t v, qn_err *err)
{
    return qn_gguf_put_number(w, key, QN_GGUF_U64, v, err);
}

qn_code qn_gguf_put_f32(qn_gguf_writer *w, const char *key, float v, qn_err *err)
{
    return qn_gguf_put_number(w, key, QN_GGUF_F32, qn_f32_bits(v), err);
}

qn_code qn_gguf_put_bool(qn_gguf_writer *w, const char *key, bool v, qn_err *err)
{
    return qn_gguf_put_number(w, key, QN_GGUF_BOOL, v, err);
}

qn_code qn_gguf_put_str(qn_gguf_writer *w, const char *key, const char *v, qn_err *err)
{
    QN_TRY(begin_key(w, key, QN_GGUF_STR, err));
    return add_string(w, &w->keys, v, strlen(v), err);
}

qn_code qn_gguf_put_array(qn_gguf_writer *w, const char *key, qn_gguf_type elem, uint64_t n, qn_err *err)
{
    if (width(elem) == 0 && elem != QN_GGUF_STR)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "key '%s': arrays of arrays are not written", key);
    QN_TRY(begin_key(w, key, QN_GGUF_ARRAY, err));
    QN_TRY(add_number(w, &w->keys, elem, 4, err));
    QN_TRY(add_number(w, &w->keys, n, 8, err));
    w->array_left = n;
    w->array_elem = elem;
    return QN_OK;
}

qn_code qn_gguf_put_array_str(qn_gguf_writer *w, const char *v, uint64_t n_bytes, qn_err *err)
{
    if (w->array_left == 0 || w->array_elem != QN_GGUF_STR)
        return QN_BUG(err, "the array of a GGUF file does not take this string");
    w->array_left--;
    return add_string(w, &w->keys, v, n_bytes, err);
}

qn_code qn_gguf_put_array_numbers(qn_gguf_writer *w, const uint64_t *bits, uint64_t n, qn_err *err)
{
    if (n > w->array_left || w->array_elem == QN_GGUF_STR)
        return QN_BUG(err, "the array of a GGUF file does not take these numbers");
    for (uint64_t i = 0; i < n; i++)
        QN_TRY(add_number(w, &w->keys, bits[i], width(w->array_elem), err));
    w->array_left -= n;
    return QN_OK;
}

/* n bytes from `off` of another file. */
static qn_code copy_bytes(qn_gguf_writer *w, const qn_gguf *from, uint64_t off, uint64_t n, qn_err *err)
{
    uint8_t b[COPY_BYTES];
    while (n > 0) {
        const uint64_t some = qn_min_u64(n, sizeof b);
        QN_TRY(from->read(from->ctx, b, some, off, err));
        QN_TRY(add_bytes(w, &w->keys, b, some, err));
        off += some;
        n -= some;
    }
    return QN_OK;
}

/* Where n strings that begin at `off` end. */
static qn_code strings_end(const qn_gguf *from, uint64_t off, uint64_t n, uint64_t *end, qn_err *err)
{
    qn_gguf_in in;
    qn_gguf_in_begin(&in, from, off);
    for (; n > 0; n--) {
        uint64_t len;
        QN_TRY(qn_gguf_in_u64(&in, &len, "length of a string", err));
        QN_TRY(qn_gguf_in_take(&in, NULL, len, "string", err));
    }
    *end = in.at;
    return QN_OK;
}

qn_code qn_gguf_put_copy(qn_gguf_writer *w, const qn_gguf *from, const qn_gguf_key *key, qn_err *err)
{
    if (key->type == QN_GGUF_STR) {
        QN_TRY(begin_key(w, key->name, QN_GGUF_STR, err));
        QN_TRY(add_number(w, &w->keys, key->n, 8, err));
        return copy_bytes(w, from, key->off, key->n, err);
    }
    if (key->type != QN_GGUF_ARRAY) {
        QN_TRY(begin_key(w, key->name, (qn_gguf_type)key->type, err));
        return copy_bytes(w, from, key->off, width(key->type), err);
    }
    uint64_t end = key->off + key->n * width(key->elem);
    if (key->elem == QN_GGUF_STR)
        QN_TRY(strings_end(from, key->off, key->n, &end, err));
    QN_TRY(qn_gguf_put_array(w, key->name, (qn_gguf_type)key->elem, key->n, err));
    w->array_left = 0;
    return copy_bytes(w, from, key->off, end - key->off, err);
}

/* ---- tensors ---- */

static qn_code put_tensor(qn_gguf_writer *w, const char *name, qn_dtype dtype, const uint64_t *dims, unsigned rank, qn_err *err)
{
    uint32_t type;
    uint64_t n_elems, n_bytes;
    bool ovf = false;
    if (w->in_data)
        return QN_BUG(err, "a tensor of a GGUF file is listed after data");
    QN_TRY(array_is_full(w, err));
    if (!qn_gguf_type_of(dtype, &type) || rank > RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s of %u dimensions: GGUF has no such tensors", qn_dtype_name(dtype),
                       rank);
    if (!qn_shape_bytes(dtype, dims, rank, &n_elems, &n_bytes))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "its shape does not suit %s", qn_dtype_name(dtype));
    QN_TRY(add_name(w, &w->tensor_names, name, "tensor", err));
    uint64_t *list = qn_mem_grow(w->out.env->alloc, w->tensor_bytes, w->n_tensors, &w->cap_tensors, w->n_tensors + 1,
                                 sizeof *list, err);
    if (!list)
        return QN_E_MEMORY;
    w->tensor_bytes = list;
    list[w->n_tensors++] = n_bytes;
    QN_TRY(add_string(w, &w->infos, name, strlen(name), err));
    QN_TRY(add_number(w, &w->infos, rank, 4, err));
    for (unsigned i = rank; i > 0; i--) /* innermost first */
        QN_TRY(add_number(w, &w->infos, dims[i - 1], 8, err));
    QN_TRY(add_number(w, &w->infos, type, 4, err));
    QN_TRY(add_number(w, &w->infos, w->next_off, 8, err));
    w->next_off = qn_align_up(qn_add(w->next_off, n_bytes, &ovf), w->alignment, &ovf);
    if (ovf || w->next_off > INT64_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the file would be longer than files can be");
    return QN_OK;
}

qn_code qn_gguf_put_tensor(qn_gguf_writer *w, const char *name, qn_dtype dtype, const uint64_t *dims, unsigned rank, qn_err *err)
{
    return qn_err_in_tensor(err, put_tensor(w, name, dtype, dims, rank, err), name);
}

/* Everything before the data. */
static qn_code put_head(qn_gguf_writer *w, qn_err *err)
{
    uint8_t b[24] = {'G', 'G', 'U', 'F', 3};
    QN_TRY(array_is_full(w, err));
    qn_store64(b + 8, w->n_tensors);
    qn_store64(b + 16, w->key_names.n);
    w->in_data = true;
    QN_TRY(qn_outfile_add(&w->out, b, sizeof b, err));
    QN_TRY(qn_outfile_add(&w->out, w->keys.p, w->keys.n, err));
    QN_TRY(qn_outfile_add(&w->out, w->infos.p, w->infos.n, err));
    return qn_outfile_pad(&w->out, w->alignment, err);
}

qn_code qn_gguf_put_data(qn_gguf_writer *w, const void *p, uint64_t n, qn_err *err)
{
    if (!w->in_data)
        QN_TRY(put_head(w, err));
    if (n == 0)
        return QN_OK;
    while (w->tensor < w->n_tensors && w->tensor_bytes[w->tensor] == 0)
        w->tensor++;
    if (w->tensor == w->n_tensors || n > w->tensor_bytes[w->tensor] - w->given)
        return QN_BUG(err, "%llu bytes of data too many for the tensors of a GGUF file", (unsigned long long)n);
    QN_TRY(qn_outfile_add(&w->out, p, n, err));
    w->given += n;
    if (w->given < w->tensor_bytes[w->tensor])
        return QN_OK;
    w->tensor++;
    w->given = 0;
    return qn_outfile_pad(&w->out, w->alignment, err);
}

qn_code qn_gguf_writer_seal(qn_gguf_writer *w, qn_err *err)
{
    qn_source *s;
    if (!w->in_data)
        QN_TRY(put_head(w, err));
    while (w->tensor < w->n_tensors && w->tensor_bytes[w->tensor] == 0)
        w->tensor++;
    if (w->tensor != w->n_tensors)
        return QN_BUG(err, "data of %llu tensors of a GGUF file are missing", (unsigned long long)(w->n_tensors - w->tensor));
    QN_TRY(qn_outfile_seal(&w->out, err));
    QN_TRY(qn_format_gguf.open(w->out.env, w->out.tmp, &s, err));
    const bool all = s->n_tensors == w->n_tensors;
    qn_source_close(s);
    return all ? QN_OK : qn_err_in_path(err, QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "tensors are missing in what was written"),
                                        w->out.tmp);
}

qn_code qn_gguf_writer_finish(qn_gguf_writer *w, qn_err *err)
{
    QN_TRY(qn_gguf_writer_seal(w, err));
    return qn_outfile_publish(&w->out, err);
}

void qn_gguf_writer_close(qn_gguf_writer *w)
{
    if (!w->out.env)
        return;
    const qn_alloc *a = w->out.env->alloc;
    qn_outfile_close(&w->out);
    qn_arena_release(&w->arena);
    qn_mem_put(a, w->keys.p);
    qn_mem_put(a, w->infos.p);
    qn_mem_put(a, w->key_names.items);
    qn_mem_put(a, w->key_names.slots);
    qn_mem_put(a, w->tensor_names.items);
    qn_mem_put(a, w->tensor_names.slots);
    qn_mem_put(a, w->tensor_bytes);
    *w = (qn_gguf_writer){.out = QN_OUTFILE_CLOSED};
}
