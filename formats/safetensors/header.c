/* header.c: reads a safetensors header as a stream. Memory grows with the tensor table, not with the header's
 * text; time is linear but for one sort, which a file in data order does not need. */
#include "base/err.h"
#include "base/num.h"
#include "formats/json/json.h"
#include "formats/safetensors/safetensors.h"
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES_MAX = 4096 };

struct header {
    qn_source *s;
    uint64_t file, file_bytes, data_off, data_bytes;
    const char *prefix;
    qn_json json;
};

/* One tensor's entry while it is read. */
struct entry {
    qn_object o;
    uint64_t begin, end, at; /* at: where the entry stands in the file, for messages */
    uint64_t dims[QN_RANK_MAX];
    bool has_dtype, has_shape, has_offsets;
};

/* QN_BYTES when there is none. */
static qn_dtype dtype_named(const char *name)
{
    for (unsigned t = QN_BYTES + 1; t < QN_DTYPE_PLAIN; t++)
        if (strcmp(qn_dtype_name((qn_dtype)t), name) == 0)
            return (qn_dtype)t;
    return QN_BYTES;
}

static qn_code read_text(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    struct header *h = ctx;
    return qn_fileset_read(h->s, h->file, off, n, dst, err);
}

static qn_code next(struct header *h, qn_json_token *tok, qn_err *err)
{
    return qn_json_next(&h->json, tok, err);
}

static qn_code expect(struct header *h, qn_json_token want, const char *what, qn_err *err)
{
    qn_json_token tok;
    QN_TRY(next(h, &tok, err));
    if (tok != want)
        return QN_FAIL(err, QN_E_INPUT, h->json.token_off, "%s", what);
    return QN_OK;
}

static qn_code read_metadata(struct header *h, qn_err *err)
{
    qn_json_token tok;
    QN_TRY(expect(h, QN_JSON_OBJECT, "__metadata__: an object is expected", err));
    for (;;) {
        QN_TRY(next(h, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            return QN_OK;
        QN_TRY(expect(h, QN_JSON_STRING, "__metadata__: only strings are allowed", err));
    }
}

static qn_code read_dtype(struct header *h, struct entry *e, qn_err *err)
{
    QN_TRY(expect(h, QN_JSON_STRING, "dtype: a string is expected", err));
    const qn_dtype t = dtype_named(h->json.text);
    if (t == QN_BYTES) {
        char shown[40];
        qn_printable(shown, sizeof shown, h->json.text, h->json.n_text);
        return QN_FAIL(err, QN_E_UNSUPPORTED, h->json.token_off, "dtype '%s' is not known", shown);
    }
    e->o.dtype = (uint8_t)t;
    return QN_OK;
}

static qn_code read_shape(struct header *h, struct entry *e, qn_err *err)
{
    qn_json_token tok;
    QN_TRY(expect(h, QN_JSON_ARRAY, "shape: an array is expected", err));
    for (e->o.rank = 0;; e->o.rank++) {
        QN_TRY(next(h, &tok, err));
        if (tok == QN_JSON_ARRAY_END)
            return QN_OK;
        if (tok != QN_JSON_NUMBER || !h->json.is_uint || h->json.number > QN_DIM_MAX)
            return QN_FAIL(err, QN_E_INPUT, h->json.token_off, "shape: a dimension must be an integer of 0 to 2^48");
        if (e->o.rank == QN_RANK_MAX)
            return QN_FAIL(err, QN_E_INPUT, h->json.token_off, "shape: more than %d dimensions", QN_RANK_MAX);
        e->dims[e->o.rank] = h->json.number;
    }
}

static qn_code read_offsets(struct header *h, struct entry *e, qn_err *err)
{
    uint64_t v[2];
    QN_TRY(expect(h, QN_JSON_ARRAY, "data_offsets: an array is expected", err));
    for (int i = 0; i < 2; i++) {
        QN_TRY(expect(h, QN_JSON_NUMBER, "data_offsets: two integers are expected", err));
        if (!h->json.is_uint)
            return QN_FAIL(err, QN_E_INPUT, h->json.token_off, "data_offsets: two integers are expected");
        v[i] = h->json.number;
    }
    QN_TRY(expect(h, QN_JSON_ARRAY_END, "data_offsets: two integers are expected", err));
    if (v[0] > v[1] || v[1] > h->data_bytes)
        return QN_FAIL(err, QN_E_INPUT, e->at, "data_offsets [%llu, %llu]: not inside the %llu bytes of data",
                       (unsigned long long)v[0], (unsigned long long)v[1], (unsigned long long)h->data_bytes);
    e->begin = v[0];
    e->end = v[1];
    return QN_OK;
}

static qn_code read_fields(struct header *h, struct entry *e, qn_err *err)
{
    for (;;) {
        qn_json_token tok;
        bool *seen = NULL;
        qn_code (*read)(struct header *, struct entry *, qn_err *) = NULL;
        QN_TRY(next(h, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            return QN_OK;
        if (strcmp(h->json.text, "dtype") == 0)
            read = read_dtype, seen = &e->has_dtype;
        else if (strcmp(h->json.text, "shape") == 0)
            read = read_shape, seen = &e->has_shape;
        else if (strcmp(h->json.text, "data_offsets") == 0)
            read = read_offsets, seen = &e->has_offsets;
        if (!read) { /* unknown keys are allowed, as in the reference reader */
            QN_TRY(next(h, &tok, err));
            QN_TRY(qn_json_skip(&h->json, tok, err));
            continue;
        }
        if (*seen)
            return QN_FAIL(err, QN_E_INPUT, h->json.token_off, "key '%s' stands twice", h->json.text);
        *seen = true;
        QN_TRY(read(h, e, err));
    }
}

static qn_code check_entry(const struct header *h, struct entry *e, qn_err *err)
{
    uint64_t n_elems, n_bytes;
    if (!e->has_dtype || !e->has_shape || !e->has_offsets)
        return QN_FAIL(err, QN_E_INPUT, e->at, "%s is missing",
                       !e->has_dtype ? "dtype" : !e->has_shape ? "shape" : "data_offsets");
    if (!qn_shape_bytes((qn_dtype)e->o.dtype, e->dims, e->o.rank, &n_elems, &n_bytes))
        return QN_FAIL(err, QN_E_INPUT, e->at, "shape: its size overflows or is no whole number of bytes");
    if (n_bytes != e->end - e->begin)
        return QN_FAIL(err, QN_E_INPUT, e->at, "data_offsets span %llu bytes, dtype and shape need %llu",
                       (unsigned long long)(e->end - e->begin), (unsigned long long)n_bytes);
    e->o.n_bytes = n_bytes;
    e->o.off = h->data_off + e->begin;
    return QN_OK;
}

static qn_code read_tensor(struct header *h, qn_err *err)
{
    struct entry e = {.at = h->json.token_off};
    const size_t n_prefix = strlen(h->prefix), n = h->json.n_text;
    if (h->json.cut || n > NAME_BYTES_MAX - n_prefix)
        return QN_FAIL(err, QN_E_INPUT, e.at, "tensor name longer than %d bytes", NAME_BYTES_MAX);
    char *name = qn_arena_get(&h->s->arena, n_prefix + n + 1, 1, err);
    if (!name)
        return QN_E_MEMORY;
    memcpy(name, h->prefix, n_prefix);
    memcpy(name + n_prefix, h->json.text, n + 1);
    qn_code rc = expect(h, QN_JSON_OBJECT, "an object is expected", err);
    if (rc == QN_OK)
        rc = read_fields(h, &e, err);
    if (rc == QN_OK)
        rc = check_entry(h, &e, err);
    QN_TRY(qn_err_in_tensor(err, rc, name));
    uint64_t *dims = qn_arena_get(&h->s->arena, e.o.rank * sizeof *dims, 8, err);
    if (!dims)
        return QN_E_MEMORY;
    memcpy(dims, e.dims, e.o.rank * sizeof *dims);
    e.o.name = name;
    e.o.dims = dims;
    e.o.kind = QN_OBJECT_TENSOR;
    return qn_fileset_add_object(h->s, &e.o, err);
}

static qn_code read_entries(struct header *h, qn_err *err)
{
    qn_json_token tok;
    bool metadata = false;
    QN_TRY(expect(h, QN_JSON_OBJECT, "the header must be a JSON object", err));
    for (;;) {
        QN_TRY(next(h, &tok, err));
        if (tok == QN_JSON_OBJECT_END)
            return next(h, &tok, err); /* END, or an error about what follows */
        if (strcmp(h->json.text, "__metadata__") != 0) {
            QN_TRY(read_tensor(h, err));
            continue;
        }
        if (metadata)
            return QN_FAIL(err, QN_E_INPUT, h->json.token_off, "__metadata__ stands twice");
        metadata = true;
        QN_TRY(read_metadata(h, err));
    }
}

/* By place; empty tensors at one place by name, so that the order never depends on the header's. */
static int by_place(const void *pa, const void *pb)
{
    const qn_object *a = pa, *b = pb;
    if (a->off != b->off)
        return a->off < b->off ? -1 : 1;
    if ((a->n_bytes == 0) != (b->n_bytes == 0))
        return a->n_bytes == 0 ? -1 : 1;
    return strcmp(a->name, b->name);
}

static qn_code check_cover(const struct header *h, uint64_t first, qn_err *err)
{
    qn_object *o = h->s->objects + first;
    const uint64_t n = h->s->n_objects - first;
    uint64_t at = h->data_off;
    bool sorted = true;
    for (uint64_t i = 1; i < n && sorted; i++)
        sorted = by_place(&o[i - 1], &o[i]) <= 0;
    if (!sorted)
        qsort(o, n, sizeof *o, by_place);
    for (uint64_t i = 0; i < n; i++) {
        if (o[i].off != at)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, o[i].off, "data %s: begins at %llu, the one before "
                                                 "ends at %llu", o[i].off < at ? "overlaps" : "leaves a hole",
                                                 (unsigned long long)(o[i].off - h->data_off),
                                                 (unsigned long long)(at - h->data_off)), o[i].name);
        at += o[i].n_bytes;
    }
    if (at != h->file_bytes)
        return QN_FAIL(err, QN_E_INPUT, at, "%llu bytes at the end belong to no tensor",
                       (unsigned long long)(h->file_bytes - at));
    return QN_OK;
}

static qn_code read_header(struct header *h, qn_err *err)
{
    uint8_t b[9];
    if (h->file_bytes < 10) /* length and "{}" */
        return QN_FAIL(err, QN_E_INPUT, h->file_bytes, "not a safetensors file: %llu bytes are too few",
                       (unsigned long long)h->file_bytes);
    QN_TRY(read_text(h, b, sizeof b, 0, err));
    const uint64_t n = qn_load64(b);
    if (n < 2 || n > h->file_bytes - 8)
        return QN_FAIL(err, QN_E_INPUT, 0, "header length %llu: 2 to %llu are allowed", (unsigned long long)n,
                       (unsigned long long)(h->file_bytes - 8));
    if (b[8] != '{')
        return QN_FAIL(err, QN_E_INPUT, 8, "header begins with byte 0x%02x, '{' expected", b[8]);
    h->data_off = 8 + n;
    h->data_bytes = h->file_bytes - h->data_off;
    QN_TRY(qn_fileset_add_object(h->s, &(qn_object){.name = "", .n_bytes = h->data_off}, err));
    const uint64_t first = h->s->n_objects;
    qn_code rc = qn_json_open(&h->json, h->s->env->alloc, read_text, h, 8, n, err);
    if (rc == QN_OK)
        rc = read_entries(h, err);
    qn_json_release(&h->json);
    return rc == QN_OK ? check_cover(h, first, err) : rc;
}

qn_code qn_safetensors_add(qn_source *s, const char *prefix, qn_err *err)
{
    struct header h = {.s = s, .file = s->n_files - 1, .prefix = prefix};
    h.file_bytes = s->files[h.file].n_bytes;
    return qn_err_in_path(err, read_header(&h, err), ((qn_fileset *)s->impl)->paths[h.file]);
}
