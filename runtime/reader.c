/* reader.c: an open .quern: where its bytes come from, and chunks decoded out of it.
 *
 * Threads: the index is read-only after open. Scratch comes from a pool of workers behind a mutex, so any number of
 * threads may decode on one reader at once. */
#include "runtime/reader.h"
#include "base/err.h"
#include "base/num.h"
#include "runtime/reader_impl.h"
#include <string.h>

static qn_code read_file(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const qn_reader *r = ctx;
    return qn_file_read(&r->file, dst, n, off, err);
}

static qn_code read_memory(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const qn_reader *r = ctx;
    if (off > r->in.n_bytes || n > r->in.n_bytes - off)
        return QN_FAIL(err, QN_E_INPUT, off, "ends early");
    memcpy(dst, r->memory + off, (size_t)n);
    return QN_OK;
}

static qn_reader *reader_new(const qn_alloc *alloc, unsigned cpu, const char *path, qn_err *err)
{
    qn_reader *r = qn_mem_zeros(alloc, 1, sizeof *r, err);
    if (!r)
        return NULL;
    r->alloc = alloc;
    r->file = QN_FILE_CLOSED;
    qn_arena_init(&r->arena, alloc);
    qn_kern_init(&r->kern, cpu);
    if (pthread_mutex_init(&r->lock, NULL) != 0) {
        qn_mem_put(alloc, r);
        (void)QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: a mutex wanted");
        return NULL;
    }
    r->path = qn_arena_str(&r->arena, path, strlen(path), err);
    if (!r->path) {
        qn_reader_close(r);
        return NULL;
    }
    return r;
}

static qn_code reader_start(qn_reader *r, qn_reader **out, qn_err *err)
{
    const qn_code rc = qn_index_open(&r->index, &r->arena, r->alloc, &r->in, err);
    if (rc != QN_OK) {
        (void)qn_err_in_path(err, rc, r->path);
        qn_reader_close(r);
        return rc;
    }
    *out = r;
    return QN_OK;
}

static qn_code open_path(const qn_fs *fs, const qn_alloc *alloc, unsigned cpu, const char *path, qn_reader **out,
                         qn_err *err)
{
    *out = NULL;
    qn_reader *r = reader_new(alloc, cpu, path, err);
    if (!r)
        return QN_E_MEMORY;
    qn_stat st;
    qn_code rc = qn_file_open(&r->file, fs, alloc, path, QN_OPEN_READ, err);
    if (rc == QN_OK)
        rc = qn_file_stat(&r->file, &st, err);
    if (rc == QN_OK && !st.is_regular)
        rc = qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "not a regular file"), path);
    if (rc != QN_OK) {
        qn_reader_close(r);
        return rc;
    }
    r->in = (qn_bytes_in){.read = read_file, .ctx = r, .n_bytes = st.n_bytes};
    return reader_start(r, out, err);
}

qn_code qn_reader_open_env(const qn_env *env, const char *path, qn_reader **out, qn_err *err)
{
    return open_path(env->fs, env->alloc, env->cpu, path, out, err);
}

/* Base given as another reader: tensors are matched by name. */
static qn_code base_from_reader(void *ctx, const qn_index_object *t, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    qn_reader *base = ctx;
    const uint64_t i = qn_index_find(&base->index, t->name);
    const qn_index_object *o = i == UINT64_MAX ? NULL : &base->index.objects[base->index.tensors[i]];
    if (!o || o->dtype != t->dtype || o->rank != t->rank || memcmp(o->dims, t->dims, t->rank * sizeof *t->dims) != 0)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the base has no tensor of this name, type and shape");
    return qn_reader_object_bytes(base, base->index.tensors[i], off, n, dst, err);
}

static qn_code apply_options(qn_reader *r, const qn_reader_options *opt)
{
    if (opt && opt->struct_bytes >= sizeof *opt && opt->base)
        qn_reader_set_base(r, base_from_reader, opt->base);
    return QN_OK;
}

static const qn_alloc *option_alloc(const qn_reader_options *opt)
{
    return opt && opt->struct_bytes >= sizeof *opt ? opt->alloc : NULL;
}

qn_code qn_reader_open(const char *path, const qn_reader_options *options, qn_reader **out, qn_err *err)
{
    unsigned cpu;
    *out = NULL;
    QN_TRY(qn_cpu_from_env(&cpu, err));
    QN_TRY(open_path(&qn_fs_posix, option_alloc(options), cpu, path, out, err));
    return apply_options(*out, options);
}

qn_code qn_reader_open_memory(const void *data, size_t n_bytes, const qn_reader_options *options, qn_reader **out,
                              qn_err *err)
{
    unsigned cpu;
    *out = NULL;
    QN_TRY(qn_cpu_from_env(&cpu, err));
    qn_reader *r = reader_new(option_alloc(options), cpu, "(memory)", err);
    if (!r)
        return QN_E_MEMORY;
    r->memory = data;
    r->in = (qn_bytes_in){.read = read_memory, .ctx = r, .n_bytes = n_bytes};
    QN_TRY(reader_start(r, out, err));
    return apply_options(*out, options);
}

void qn_reader_close(qn_reader *r)
{
    if (!r)
        return;
    const qn_alloc *alloc = r->alloc;
    for (qn_worker *w = r->idle, *next; w; w = next) {
        next = w->next;
        qn_worker_release(w);
        qn_mem_put(alloc, w);
    }
    qn_file_drop(&r->file);
    qn_arena_release(&r->arena);
    pthread_mutex_destroy(&r->lock);
    qn_mem_put(alloc, r);
}

void qn_reader_set_base(qn_reader *r, qn_base_fn fn, void *ctx)
{
    r->base = fn;
    r->base_ctx = ctx;
}

const qn_index *qn_reader_index(const qn_reader *r)
{
    return &r->index;
}

const char *qn_reader_path(const qn_reader *r)
{
    return r->path;
}

void qn_worker_init(qn_worker *w, const qn_alloc *alloc)
{
    *w = (qn_worker){0};
    qn_arena_init(&w->scratch, alloc);
}

void qn_worker_release(qn_worker *w)
{
    qn_mem_put(w->scratch.alloc, w->payload);
    qn_mem_put(w->scratch.alloc, w->base);
    qn_arena_release(&w->scratch);
}

static qn_worker *worker_take(qn_reader *r, qn_err *err)
{
    pthread_mutex_lock(&r->lock);
    qn_worker *w = r->idle;
    if (w)
        r->idle = w->next;
    pthread_mutex_unlock(&r->lock);
    if (!w) {
        w = qn_mem_get(r->alloc, sizeof *w, err);
        if (w)
            qn_worker_init(w, r->alloc);
    }
    return w;
}

static void worker_give(qn_reader *r, qn_worker *w)
{
    pthread_mutex_lock(&r->lock);
    w->next = r->idle;
    r->idle = w;
    pthread_mutex_unlock(&r->lock);
}

/* Payload of a stored chunk with its checksum verified; borrowed from the worker or from memory. */
static qn_code load_payload(qn_reader *r, qn_worker *w, const qn_index_chunk *c, const uint8_t **p, qn_err *err)
{
    if (r->memory) {
        *p = r->memory + c->off; /* lies inside: invariant 2 */
    } else {
        uint8_t *buf = qn_mem_grow(r->alloc, w->payload, 0, &w->payload_cap, c->stored_bytes, 1, err);
        if (!buf)
            return QN_E_MEMORY;
        w->payload = buf;
        QN_TRY(qn_file_read(&r->file, buf, c->stored_bytes, c->off, err));
        *p = buf;
    }
    const uint64_t h = qn_hash64(*p, c->stored_bytes);
    if (h != c->hash)
        return QN_FAIL(err, QN_E_INPUT, c->off, "payload of %u bytes: checksum %016llx found, %016llx expected",
                       c->stored_bytes, (unsigned long long)h, (unsigned long long)c->hash);
    return QN_OK;
}

static qn_code load_base(qn_reader *r, qn_worker *w, const qn_index_object *o, uint64_t i, const qn_block *b, qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const uint64_t n = (uint64_t)b->n * unit;
    uint8_t *buf = qn_mem_grow(r->alloc, w->base, 0, &w->base_cap, n, 1, err);
    if (!buf)
        return QN_E_MEMORY;
    w->base = buf;
    return r->base(r->base_ctx, o, i * o->chunk_units * unit, n, buf, err);
}

/* The object and chunk that hold what chunk i of an object decodes to: itself, or the one it is shared with, which is then decoded as that one is,
 * also with its base. */
static const qn_index_chunk *stored_chunk(const qn_reader *r, uint64_t *object, uint64_t *i)
{
    const qn_index_chunk *c = &r->index.chunks[r->index.objects[*object].first_chunk + *i];
    if (c->codec != QN_CODEC_SHARED)
        return c;
    *object = qn_index_object_of(&r->index, c->off);
    *i = c->off - r->index.objects[*object].first_chunk;
    return &r->index.chunks[c->off];
}

static qn_code decode_chunk(qn_reader *r, qn_worker *w, uint64_t object, uint64_t i, uint8_t *dst, qn_err *err)
{
    const qn_index_chunk *c = stored_chunk(r, &object, &i);
    const qn_index_object *o = &r->index.objects[object];
    const qn_block b = qn_index_block(o, i);
    const uint8_t *payload;
    QN_TRY(load_payload(r, w, c, &payload, err));
    qn_arena_reset(&w->scratch);
    qn_dec_ctx cx = {.kern = &r->kern, .scratch = &w->scratch};
    if (c->codec == QN_CODEC_DELTA) {
        if (!r->base)
            return QN_FAIL(err, QN_E_USAGE, c->off, "packed as a difference: give the base checkpoint (--base)");
        QN_TRY(load_base(r, w, o, i, &b, err));
        cx.base = w->base;
    }
    /* a decoder reports a position inside the payload: make it one in the file */
    qn_err inner;
    qn_err_clear(&inner);
    const qn_code rc = qn_codec_decode(&cx, c->codec, &b, payload, c->stored_bytes, dst, &inner);
    if (rc != QN_OK && err && err->code == QN_OK) {
        if (inner.code == QN_OK)
            inner.code = rc;
        inner.off = c->off + (inner.off == QN_NO_OFFSET ? 0 : inner.off);
        *err = inner;
    }
    return rc;
}

/* Puts file, tensor and chunk number around what went wrong inside. */
static qn_code in_chunk(const qn_reader *r, uint64_t object, uint64_t i, qn_code rc, qn_err *inner, qn_err *err)
{
    const qn_index_object *o = &r->index.objects[object];
    inner->text[sizeof inner->text - 64] = '\0'; /* room for the number in front */
    (void)qn_err_set(err, rc, inner->sys, inner->off, inner->src_file, inner->src_line, "chunk %llu of %llu: %s",
                     (unsigned long long)i + 1, (unsigned long long)qn_index_n_chunks(&r->index, object), inner->text);
    (void)qn_err_in_path(err, rc, inner->path[0] ? inner->path : r->path);
    return qn_err_in_tensor(err, rc, o->is_tensor ? o->name : r->index.files[o->file].path);
}

qn_code qn_reader_chunk(qn_reader *r, qn_worker *w, uint64_t object, uint64_t i, uint8_t *dst, qn_err *err)
{
    qn_err inner;
    qn_err_clear(&inner);
    const qn_code rc = decode_chunk(r, w, object, i, dst, &inner);
    return rc == QN_OK ? QN_OK : in_chunk(r, object, i, rc, &inner, err);
}

qn_code qn_reader_payload(qn_reader *r, qn_worker *w, uint64_t object, uint64_t i, qn_payload *out, qn_err *err)
{
    uint64_t from = object, at = i;
    const qn_index_chunk *c = stored_chunk(r, &from, &at);
    *out = (qn_payload){.codec = c->codec, .block = qn_index_block(&r->index.objects[from], at), .n_bytes = c->stored_bytes};
    qn_err inner;
    qn_err_clear(&inner);
    const qn_code rc = load_payload(r, w, c, &out->bytes, &inner);
    return rc == QN_OK ? QN_OK : in_chunk(r, object, i, rc, &inner, err);
}

qn_code qn_reader_check_payload(qn_reader *r, qn_worker *w, uint64_t object, uint64_t i, qn_err *err)
{
    qn_payload p;
    return qn_reader_payload(r, w, object, i, &p, err);
}

qn_code qn_reader_check_gap(qn_reader *r, uint64_t chunk, qn_err *err)
{
    const qn_index_chunk *c = &r->index.chunks[chunk];
    uint64_t prev_end = QN_HEADER_BYTES;
    if (c->codec == QN_CODEC_SHARED)
        return QN_OK;
    for (uint64_t i = chunk; i-- > 0;)
        if (r->index.chunks[i].codec != QN_CODEC_SHARED) {
            prev_end = r->index.chunks[i].off + r->index.chunks[i].stored_bytes;
            break;
        }
    uint8_t gap[64];
    QN_TRY(r->in.read(r->in.ctx, gap, c->off - prev_end, prev_end, err));
    for (uint64_t i = 0; i < c->off - prev_end; i++)
        if (gap[i] != 0)
            return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, prev_end + i, "padding byte is 0x%02x, 0 expected",
                                               gap[i]), r->path);
    return QN_OK;
}

qn_code qn_reader_object_bytes(qn_reader *r, uint64_t object, uint64_t off, uint64_t n, uint8_t *dst, qn_err *err)
{
    const qn_index_object *o = &r->index.objects[object];
    if (off > o->n_bytes || n > o->n_bytes - off)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "bytes %llu + %llu wanted, the tensor has %llu",
                       (unsigned long long)off, (unsigned long long)n, (unsigned long long)o->n_bytes);
    if (n == 0)
        return QN_OK;
    qn_worker *w = worker_take(r, err);
    uint8_t *whole = NULL;
    if (!w)
        return QN_E_MEMORY;
    const unsigned unit = qn_unit_bytes((qn_dtype)o->dtype);
    const uint64_t chunk_bytes = (uint64_t)o->chunk_units * unit;
    qn_code rc = QN_OK;
    while (n > 0 && rc == QN_OK) {
        const uint64_t i = off / chunk_bytes, skip = off % chunk_bytes;
        const uint64_t have = (uint64_t)qn_index_block(o, i).n * unit, take = qn_min_u64(n, have - skip);
        if (take == have) { /* all of it: decode in place */
            rc = qn_reader_chunk(r, w, object, i, dst, err);
        } else {
            if (!whole && !(whole = qn_mem_get(r->alloc, chunk_bytes, err))) {
                rc = QN_E_MEMORY;
                break;
            }
            rc = qn_reader_chunk(r, w, object, i, whole, err);
            if (rc == QN_OK)
                memcpy(dst, whole + skip, (size_t)take);
        }
        dst += take;
        off += take;
        n -= take;
    }
    qn_mem_put(r->alloc, whole);
    worker_give(r, w);
    return rc;
}

uint64_t qn_index_stored_bytes(const qn_index *ix, uint64_t object)
{
    uint64_t n = 0;
    for (uint64_t c = ix->objects[object].first_chunk; c < ix->objects[object + 1].first_chunk; c++)
        n += ix->chunks[c].stored_bytes; /* 0 for shared ones */
    return n;
}
