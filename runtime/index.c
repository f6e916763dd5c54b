/* index.c: reads the index of a .quern file and establishes the invariants of container.h.
 *
 * The index is hostile until its last byte is parsed. Everything that is allocated is first compared with
 * what the remaining bytes could describe, so memory is bounded by a small multiple of the index's length. */
#include "runtime/container.h"
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include <string.h>

enum { NAME_BYTES_MAX = 4096, PROP_BYTES_MAX = 1 << 20 };

struct parse {
    qn_cur cur;
    qn_arena *arena;
    qn_index *ix;
    qn_err *err;
    uint64_t at;        /* first free byte of the payload area, as the file is walked */
    uint64_t chunk_cap; /* room in ix->chunks                                        */
};

#define BAD(p, ...) QN_FAIL((p)->err, QN_E_INPUT, (p)->cur.at, "index: " __VA_ARGS__)

/* A count of records of which each takes at least min_bytes of what is left. */
static qn_code take_count(struct parse *p, uint64_t min_bytes, const char *what, uint64_t *n)
{
    *n = qn_cur_varint(&p->cur);
    if (p->cur.failed)
        return BAD(p, "%s count: ends early", what);
    if (*n > qn_cur_left(&p->cur) / min_bytes)
        return BAD(p, "%s count: %llu found, at most %llu fit", what, (unsigned long long)*n,
                   (unsigned long long)(qn_cur_left(&p->cur) / min_bytes));
    return QN_OK;
}

static qn_code take_string(struct parse *p, uint64_t max_bytes, const char *what, const char **out)
{
    const uint64_t n = qn_cur_varint(&p->cur);
    if (p->cur.failed || n > max_bytes || n > qn_cur_left(&p->cur))
        return BAD(p, "%s: length %llu found, at most %llu allowed", what, (unsigned long long)n,
                   (unsigned long long)qn_min_u64(max_bytes, qn_cur_left(&p->cur)));
    const char *s = (const char *)qn_cur_take(&p->cur, (size_t)n);
    if (!qn_utf8_is_valid(s, (size_t)n) || memchr(s, 0, (size_t)n))
        return BAD(p, "%s: not UTF-8 text", what);
    *out = qn_arena_str(p->arena, s, (size_t)n, p->err);
    return *out ? QN_OK : QN_E_MEMORY;
}

static qn_code parse_props(struct parse *p)
{
    uint64_t n;
    QN_TRY(take_count(p, 2, "property", &n));
    p->ix->n_props = n;
    p->ix->props = qn_arena_get(p->arena, 2 * n * sizeof *p->ix->props, 8, p->err);
    if (!p->ix->props)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < n; i++) {
        QN_TRY(take_string(p, 64, "property name", &p->ix->props[2 * i]));
        QN_TRY(take_string(p, PROP_BYTES_MAX, "property", &p->ix->props[2 * i + 1]));
        if (i > 0 && strcmp(p->ix->props[2 * i - 2], p->ix->props[2 * i]) >= 0)
            return BAD(p, "properties are not in ascending order");
    }
    return QN_OK;
}

/* A file that is also the folder of another cannot be restored. Paths are sorted: each parent is looked for. */
static qn_code check_parents(struct parse *p, const char *path, uint64_t n_before)
{
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        const size_t n = (size_t)(slash - path);
        uint64_t lo = 0, hi = n_before;
        while (lo < hi) {
            const uint64_t mid = lo + (hi - lo) / 2;
            const char *other = p->ix->files[mid].path;
            const int c = strncmp(other, path, n);
            if (c == 0 && other[n] == '\0')
                return BAD(p, "file path %llu is used as a folder", (unsigned long long)mid);
            if (c < 0)
                lo = mid + 1;
            else
                hi = mid;
        }
    }
    return QN_OK;
}

static qn_code parse_files(struct parse *p, uint64_t *n_objects)
{
    qn_index *ix = p->ix;
    bool ovf = false;
    QN_TRY(take_count(p, 3, "file", &ix->n_files));
    if (ix->n_files > UINT32_MAX)
        return BAD(p, "file count: %llu found, below 2^32 allowed", (unsigned long long)ix->n_files);
    if (!ix->is_dir && ix->n_files != 1)
        return BAD(p, "%llu files found, a single file expected", (unsigned long long)ix->n_files);
    ix->files = qn_arena_get(p->arena, ix->n_files * sizeof *ix->files, 8, p->err);
    if (!ix->files)
        return QN_E_MEMORY;
    *n_objects = 0;
    for (uint64_t i = 0; i < ix->n_files; i++) {
        qn_index_file *f = &ix->files[i];
        *f = (qn_index_file){.first_object = *n_objects};
        QN_TRY(take_string(p, 1024, "file path", &f->path));
        if (!qn_path_is_safe(f->path, strlen(f->path)))
            return BAD(p, "file path is not a plain relative path");
        if (i > 0 && strcmp(ix->files[i - 1].path, f->path) >= 0)
            return BAD(p, "file paths are not in ascending order");
        if (!ix->is_dir && strchr(f->path, '/'))
            return BAD(p, "a single file's path has a folder");
        QN_TRY(check_parents(p, f->path, i));
        f->n_objects = qn_cur_varint(&p->cur);
        *n_objects = qn_add(*n_objects, f->n_objects, &ovf);
    }
    /* an object takes at least a kind, a length and a digest */
    if (p->cur.failed || ovf || *n_objects > qn_cur_left(&p->cur) / 18)
        return BAD(p, "object count: more than the index can hold");
    return QN_OK;
}

static qn_code add_chunk(struct parse *p, const qn_index_chunk *c)
{
    qn_index *ix = p->ix;
    if (ix->n_chunks == p->chunk_cap)
        return BAD(p, "more chunks than announced (%llu)", (unsigned long long)p->chunk_cap);
    ix->chunks[ix->n_chunks++] = *c;
    return QN_OK;
}

/* A shared chunk must decode to the same bytes whichever object asks: same dtype, units and columns. */
static qn_code parse_shared(struct parse *p, const qn_index_object *o, uint64_t i)
{
    qn_index *ix = p->ix;
    const uint64_t back = qn_cur_varint(&p->cur), self = ix->n_chunks;
    if (p->cur.failed || back == 0 || back > self)
        return BAD(p, "shared chunk: %llu steps back from chunk %llu", (unsigned long long)back,
                   (unsigned long long)self);
    const uint64_t target = self - back;
    if (ix->chunks[target].codec == QN_CODEC_SHARED)
        return BAD(p, "shared chunk: points to another shared chunk");
    const uint64_t owner = target >= o->first_chunk ? (uint64_t)(o - ix->objects) : qn_index_object_of(ix, target);
    const qn_index_object *to = &ix->objects[owner];
    const qn_block a = qn_index_block(o, i), b = qn_index_block(to, target - to->first_chunk);
    if (a.dtype != b.dtype || a.n != b.n || a.cols != b.cols)
        return BAD(p, "shared chunk: differs in type or shape from the chunk it points to");
    return add_chunk(p, &(qn_index_chunk){.off = target, .codec = QN_CODEC_SHARED});
}

static qn_code parse_chunks(struct parse *p, qn_index_object *o)
{
    const unsigned unit = qn_unit_bytes((qn_dtype)o->dtype);
    const uint64_t n_units = o->n_bytes / unit, cu = qn_cur_varint(&p->cur);
    if (p->cur.failed || cu == 0 || cu > n_units || cu > QN_CHUNK_MAX_BYTES / unit)
        return BAD(p, "chunk of %llu units found, 1 to %llu allowed", (unsigned long long)cu,
                   (unsigned long long)qn_min_u64(n_units, QN_CHUNK_MAX_BYTES / unit));
    o->chunk_units = (uint32_t)cu;
    const uint64_t n = qn_ceil_div(n_units, cu);
    if (n > qn_cur_left(&p->cur) / 2)
        return BAD(p, "%llu chunks found, at most %llu fit", (unsigned long long)n,
                   (unsigned long long)(qn_cur_left(&p->cur) / 2));
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t tag = qn_cur_varint(&p->cur);
        if (tag == 1) {
            QN_TRY(parse_shared(p, o, i));
            continue;
        }
        bool ovf = false;
        const uint64_t stored = tag >> 1, limit = (uint64_t)QN_CHUNK_MAX_BYTES;
        qn_index_chunk c = {.codec = qn_cur_u8(&p->cur)};
        c.hash = qn_cur_u64(&p->cur);
        c.off = qn_align_up(p->at, qn_payload_align(stored), &ovf);
        if (p->cur.failed || (tag & 1) || stored == 0 || stored > limit)
            return BAD(p, "chunk record of %llu stored bytes, 1 to %llu allowed", (unsigned long long)stored,
                       (unsigned long long)limit);
        if (c.codec == QN_CODEC_SHARED)
            return BAD(p, "chunk record: codec 0x%02x is reserved", c.codec);
        c.stored_bytes = (uint32_t)stored;
        p->at = qn_add(c.off, stored, &ovf);
        if (ovf)
            return BAD(p, "payloads reach past the end of all files");
        QN_TRY(add_chunk(p, &c));
    }
    return QN_OK;
}

static qn_code parse_tensor(struct parse *p, qn_index_object *o)
{
    QN_TRY(take_string(p, NAME_BYTES_MAX, "tensor name", &o->name));
    o->rank = qn_cur_u8(&p->cur);
    if (p->cur.failed || o->rank > QN_RANK_MAX)
        return qn_err_in_tensor(p->err, BAD(p, "rank %u found, at most %d allowed", o->rank, QN_RANK_MAX), o->name);
    uint64_t *dims = qn_arena_get(p->arena, (uint64_t)o->rank * sizeof *dims, 8, p->err);
    if (!dims)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < o->rank; i++) {
        dims[i] = qn_cur_varint(&p->cur);
        if (dims[i] > QN_DIM_MAX)
            return qn_err_in_tensor(p->err, BAD(p, "dimension %llu found, at most 2^48 allowed",
                                                (unsigned long long)dims[i]), o->name);
    }
    o->dims = dims;
    uint64_t n_elems;
    if (o->dtype == QN_BYTES || !qn_shape_bytes((qn_dtype)o->dtype, dims, o->rank, &n_elems, &o->n_bytes))
        return qn_err_in_tensor(p->err, BAD(p, "shape does not fit its type"), o->name);
    return QN_OK;
}

static qn_code parse_object(struct parse *p, qn_index_object *o)
{
    const uint8_t kind = qn_cur_u8(&p->cur);
    o->is_tensor = kind >> 7;
    o->dtype = kind & 0x7f;
    o->name = "";
    if (!qn_dtype_name((qn_dtype)o->dtype) || (!o->is_tensor && o->dtype != QN_BYTES))
        return BAD(p, "unknown object kind 0x%02x", kind);
    if (o->is_tensor)
        QN_TRY(parse_tensor(p, o));
    else
        o->n_bytes = qn_cur_varint(&p->cur);
    const uint8_t *d = qn_cur_take(&p->cur, sizeof o->digest.b);
    if (!d)
        return BAD(p, "ends early");
    memcpy(o->digest.b, d, sizeof o->digest.b);
    if (o->n_bytes == 0)
        return QN_OK;
    return qn_err_in_tensor(p->err, parse_chunks(p, o), o->is_tensor ? o->name : NULL);
}

static qn_code parse_objects(struct parse *p, uint64_t n_objects)
{
    qn_index *ix = p->ix;
    uint64_t n_chunks;
    QN_TRY(take_count(p, 2, "chunk", &n_chunks));
    p->chunk_cap = n_chunks;
    ix->n_objects = n_objects;
    ix->objects = qn_arena_get(p->arena, (n_objects + 1) * sizeof *ix->objects, 8, p->err);
    ix->chunks = qn_arena_get(p->arena, n_chunks * sizeof *ix->chunks, 8, p->err);
    if (!ix->objects || !ix->chunks)
        return QN_E_MEMORY;
    for (uint64_t f = 0; f < ix->n_files; f++) {
        bool ovf = false;
        for (uint64_t i = 0; i < ix->files[f].n_objects; i++) {
            const uint64_t at = ix->files[f].first_object + i;
            qn_index_object *o = &ix->objects[at];
            *o = (qn_index_object){.file = (uint32_t)f, .off = ix->files[f].n_bytes, .first_chunk = ix->n_chunks};
            ix->objects[at + 1] = (qn_index_object){.first_chunk = UINT64_MAX};
            ix->n_objects = at + 1; /* what qn_index_object_of may look at */
            QN_TRY(parse_object(p, o));
            ix->files[f].n_bytes = qn_add(ix->files[f].n_bytes, o->n_bytes, &ovf);
            ix->n_tensors += o->is_tensor;
        }
        if (ovf)
            return BAD(p, "a file's length overflows");
    }
    if (ix->n_chunks != n_chunks)
        return BAD(p, "%llu chunks found, %llu announced", (unsigned long long)ix->n_chunks,
                   (unsigned long long)n_chunks);
    ix->objects[n_objects] = (qn_index_object){.name = "", .first_chunk = n_chunks};
    return QN_OK;
}

static const char *tensor_name(const void *ctx, uint32_t item)
{
    const qn_index *ix = ctx;
    return ix->objects[ix->tensors[item]].name;
}

static qn_code index_names(struct parse *p)
{
    qn_index *ix = p->ix;
    if (ix->n_tensors >= UINT32_MAX)
        return BAD(p, "tensor count: %llu found, below 2^32 allowed", (unsigned long long)ix->n_tensors);
    const uint64_t n_slots = qn_names_slots(ix->n_tensors);
    qn_name_slot *slots = qn_arena_get(p->arena, n_slots * sizeof *slots, 8, p->err);
    ix->tensors = qn_arena_get(p->arena, ix->n_tensors * sizeof *ix->tensors, 8, p->err);
    if (!slots || !ix->tensors)
        return QN_E_MEMORY;
    memset(slots, 0, n_slots * sizeof *slots);
    qn_names_init(&ix->names, slots, n_slots);
    uint32_t t = 0;
    for (uint64_t i = 0; i < ix->n_objects; i++) {
        if (!ix->objects[i].is_tensor)
            continue;
        ix->tensors[t] = i;
        if (qn_names_add(&ix->names, ix->objects[i].name, t, tensor_name, ix) != QN_NAMES_NONE)
            return qn_err_in_tensor(p->err, BAD(p, "two tensors of one name"), ix->objects[i].name);
        t++;
    }
    return QN_OK;
}

qn_code qn_index_parse(qn_index *ix, qn_arena *arena, const uint8_t *bytes, size_t n_bytes, qn_err *err)
{
    *ix = (qn_index){0};
    struct parse p = {.cur = qn_cur_over(bytes, n_bytes), .arena = arena, .ix = ix, .err = err, .at = QN_HEADER_BYTES};
    uint64_t n_objects = 0;
    const uint8_t flags = qn_cur_u8(&p.cur);
    if (flags & ~QN_INDEX_DIR)
        return QN_FAIL(err, QN_E_UNSUPPORTED, 0, "index: unknown flags 0x%02x", flags);
    ix->is_dir = flags & QN_INDEX_DIR;
    QN_TRY(parse_props(&p));
    QN_TRY(parse_files(&p, &n_objects));
    QN_TRY(parse_objects(&p, n_objects));
    if (p.cur.failed || qn_cur_left(&p.cur) != 0)
        return BAD(&p, "%zu bytes too many", qn_cur_left(&p.cur));
    ix->payload_end = p.at;
    return index_names(&p);
}

uint64_t qn_index_find(const qn_index *ix, const char *name)
{
    const uint32_t t = qn_names_find(&ix->names, name, tensor_name, ix);
    return t == QN_NAMES_NONE ? UINT64_MAX : t;
}

uint64_t qn_index_object_of(const qn_index *ix, uint64_t chunk)
{
    uint64_t lo = 0, hi = ix->n_objects; /* objects[lo].first_chunk ≤ chunk < objects[hi].first_chunk */
    while (hi - lo > 1) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (ix->objects[mid].first_chunk <= chunk)
            lo = mid;
        else
            hi = mid;
    }
    return lo; /* the last object that starts there: empty ones before it own no chunk */
}

qn_block qn_index_block(const qn_index_object *o, uint64_t i)
{
    const uint64_t n_units = o->n_bytes / qn_unit_bytes((qn_dtype)o->dtype);
    const uint64_t n = qn_min_u64(n_units - i * o->chunk_units, o->chunk_units);
    /* rows are known to codecs only when chunks hold whole ones */
    uint64_t cols = o->is_tensor ? qn_shape_cols((qn_dtype)o->dtype, o->dims, o->rank) : n;
    if (o->chunk_units % cols != 0 || cols > n)
        cols = n;
    return (qn_block){.dtype = (qn_dtype)o->dtype, .n = (uint32_t)n, .cols = (uint32_t)cols};
}

uint32_t qn_chunk_units(qn_dtype t, const uint64_t *dims, unsigned rank, uint64_t n_bytes)
{
    const unsigned unit = qn_unit_bytes(t);
    const uint64_t n = n_bytes / unit, target = (unit <= 2 ? 2u << 20 : 4u << 20) / unit;
    if (n == 0)
        return 0;
    const uint64_t n_chunks = qn_max_u64(1, (n + target / 4) / target); /* pieces of at most 5/4 … 3/2 of the target */
    const uint64_t even = qn_ceil_div(n, n_chunks);
    const uint64_t cols = t == QN_BYTES ? 1 : qn_shape_cols(t, dims, rank);
    if (cols > even) { /* inside a row: a multiple that suits SIMD, and whole blocks */
        const uint64_t step = qn_dtype_is_block(t) ? 64 * (uint64_t)qn_dtype_block_bytes(t) : 4096;
        return (uint32_t)qn_min_u64(n, (even + step - 1) / step * step);
    }
    return (uint32_t)qn_min_u64(n, qn_ceil_div(even, cols) * cols);
}

void qn_object_hash_begin(qn_hasher *h, const qn_index_object *o)
{
    uint8_t head[3 + 8 * (QN_RANK_MAX + 2)] = {o->is_tensor, o->dtype, o->rank};
    size_t n = 3;
    for (unsigned i = 0; i < o->rank; i++, n += 8)
        qn_store64(head + n, o->dims[i]);
    qn_store64(head + n, o->n_bytes);
    qn_store64(head + n + 8, o->chunk_units);
    qn_hasher_reset(h);
    qn_hasher_add(h, head, n + 16);
    qn_hasher_add(h, o->name, strlen(o->name) + 1);
}

void qn_object_hash_chunk(qn_hasher *h, const qn_digest *raw)
{
    qn_hasher_add(h, raw->b, sizeof raw->b);
}
