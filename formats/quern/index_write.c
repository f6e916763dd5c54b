/* index_write.c: the index as bytes; the mirror of runtime/index.c, in the same order. */
#include "base/err.h"
#include "base/num.h"
#include "formats/quern/write.h"
#include <string.h>

/* A pass with p == NULL counts, a second one writes: the two cannot disagree, they are the same code. */
struct sink {
    uint8_t *p;
    uint64_t n;
};

static void put(struct sink *s, const void *src, uint64_t n)
{
    if (s->p)
        memcpy(s->p + s->n, src, (size_t)n);
    s->n += n;
}

static void put_u8(struct sink *s, unsigned v)
{
    const uint8_t b = (uint8_t)v;
    put(s, &b, 1);
}

static void put_u64(struct sink *s, uint64_t v)
{
    uint8_t b[8];
    qn_store64(b, v);
    put(s, b, 8);
}

static void put_var(struct sink *s, uint64_t v)
{
    uint8_t b[10];
    put(s, b, qn_put_varint(b, v));
}

static void put_string(struct sink *s, const char *text)
{
    const size_t n = strlen(text);
    put_var(s, n);
    put(s, text, n);
}

static void put_chunks(struct sink *s, const qn_index *ix, const qn_index_object *o)
{
    put_var(s, o->chunk_units);
    for (uint64_t c = o->first_chunk; c < o[1].first_chunk; c++) {
        const qn_index_chunk *k = &ix->chunks[c];
        if (k->codec == QN_CODEC_SHARED) {
            put_var(s, 1);
            put_var(s, c - k->off);
        } else {
            put_var(s, (uint64_t)k->stored_bytes << 1);
            put_u8(s, k->codec);
            put_u64(s, k->hash);
        }
    }
}

static void put_object(struct sink *s, const qn_index *ix, const qn_index_object *o)
{
    put_u8(s, (unsigned)o->is_tensor << 7 | o->dtype);
    if (o->is_tensor) {
        put_string(s, o->name);
        put_u8(s, o->rank);
        for (unsigned d = 0; d < o->rank; d++)
            put_var(s, o->dims[d]);
    } else {
        put_var(s, o->n_bytes);
    }
    put(s, o->digest.b, sizeof o->digest.b);
    if (o->n_bytes)
        put_chunks(s, ix, o);
}

static void put_index(struct sink *s, const qn_index *ix)
{
    put_u8(s, ix->is_dir ? QN_INDEX_DIR : 0);
    put_var(s, ix->n_props);
    for (uint64_t i = 0; i < 2 * ix->n_props; i++)
        put_string(s, ix->props[i]);
    put_var(s, ix->n_files);
    for (uint64_t i = 0; i < ix->n_files; i++) {
        put_string(s, ix->files[i].path);
        put_var(s, ix->files[i].n_objects);
    }
    put_var(s, ix->n_chunks);
    for (uint64_t i = 0; i < ix->n_objects; i++)
        put_object(s, ix, &ix->objects[i]);
}

qn_code qn_index_serialise(const qn_index *ix, const qn_alloc *alloc, uint8_t **out, uint64_t *n_bytes, qn_err *err)
{
    struct sink s = {0};
    put_index(&s, ix);
    *n_bytes = s.n;
    *out = qn_mem_get(alloc, s.n, err);
    if (!*out)
        return QN_E_MEMORY;
    s = (struct sink){.p = *out};
    put_index(&s, ix);
    return QN_OK;
}
