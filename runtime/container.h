/* container.h: the .quern file in memory: fixed header and footer, and the index.
 * docs/format.md is the specification; this header names its parts.
 *
 *   header (64) │ chunk payloads … │ index │ footer (64)
 *
 * Invariants that qn_index_open establishes, and everything behind it relies on:
 *  1. header, index and footer have the right checksums, and the footer's lengths add up to the file's;
 *  2. every payload lies between header and index, payloads are ascending and do not overlap;
 *  3. chunks of an object cover its bytes exactly; a chunk decodes to at most QN_CHUNK_MAX_BYTES;
 *  4. a shared chunk names an earlier, stored chunk of equal dtype, units and columns;
 *  5. tensor names are unique, file paths are safe, unique and sorted; objects are in file order. */
#ifndef QN_RUNTIME_CONTAINER_H
#define QN_RUNTIME_CONTAINER_H

#include "base/alloc.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/names.h"
#include "runtime/codec.h"

#define QN_MAGIC "\x8bQUERN\r\n" /* 8 bytes; the high bit and CR LF catch text-mode transfers */

enum {
    QN_FORMAT_MAJOR = 1, /* a reader refuses a higher major  */
    QN_FORMAT_MINOR = 0, /* and accepts any minor            */
    QN_HEADER_BYTES = 64,
    QN_FOOTER_BYTES = 64,
    QN_FOOTER_ZSTD = 1, /* footer flag: the index is one zstd frame */
    QN_INDEX_DIR = 1    /* index flag: files belong into a directory */
};

/* What a compressed index may expand to. Every object and stored chunk brings 8 to 24 bytes of hashes, which do not
 * compress; only long runs of shared chunks expand further than this, and a writer stores such an index plain.
 * So a small file cannot make a reader allocate much. */
static inline bool qn_index_ratio_ok(uint64_t stored_bytes, uint64_t plain_bytes)
{
    return plain_bytes / 16 <= stored_bytes + (64 << 10) / 16;
}

/* Payloads begin at multiples of this. Large ones are aligned for mapping and SIMD; small ones would waste
 * more than they hold. */
static inline unsigned qn_payload_align(uint64_t stored_bytes)
{
    return stored_bytes >= 4096 ? 64 : 8;
}

#define QN_CODEC_SHARED 0xff /* in memory only: qn_index_chunk.off is the index of the chunk that is stored */

typedef struct qn_index_chunk {
    uint64_t off;  /* in the file; for a shared chunk: index of the stored chunk */
    uint64_t hash; /* XXH3-64 of the payload                                     */
    uint32_t stored_bytes;
    uint8_t codec;
} qn_index_chunk;

typedef struct qn_index_object {
    const char *name; /* "" for a blob */
    const uint64_t *dims;
    uint64_t n_bytes;
    uint64_t off;         /* in its file                  */
    uint64_t first_chunk; /* the next object's is the end */
    qn_digest digest;     /* qn_object_hasher_*            */
    uint32_t chunk_units; /* 0 when n_bytes is 0          */
    uint32_t file;
    uint8_t is_tensor, dtype, rank;
} qn_index_object;

typedef struct qn_index_file {
    const char *path;
    uint64_t n_bytes, first_object, n_objects;
} qn_index_file;

typedef struct qn_index {
    uint64_t n_props, n_files, n_objects, n_tensors, n_chunks;
    const char **props; /* key, value, key, value, …; keys ascending */
    qn_index_file *files;
    qn_index_object *objects; /* n_objects + 1: the last is a sentinel holding first_chunk = n_chunks */
    qn_index_chunk *chunks;
    uint64_t *tensors;         /* object of tensor i */
    qn_names names;            /* tensors by name; slots in the arena */
    uint64_t payload_end;      /* first byte after the last payload */
    uint64_t index_off, file_bytes;
    bool is_dir;
} qn_index;

/* Bytes from which an index is read. */
typedef struct qn_bytes_in {
    qn_code (*read)(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err);
    void *ctx;
    uint64_t n_bytes;
} qn_bytes_in;

/* Reads and checks header, footer and index. Memory for the result comes from `arena`, scratch from `alloc`. */
qn_code qn_index_open(qn_index *ix, qn_arena *arena, const qn_alloc *alloc, const qn_bytes_in *in,
                      qn_err *err) QN_MUST_CHECK;
/* Parses the uncompressed index; exposed for the fuzzer. */
qn_code qn_index_parse(qn_index *ix, qn_arena *arena, const uint8_t *p, size_t n_bytes, qn_err *err) QN_MUST_CHECK;

/* Tensor of that name, UINT64_MAX if there is none. */
uint64_t qn_index_find(const qn_index *ix, const char *name);
/* Object that chunk c belongs to (its own, not the one it is shared with). */
uint64_t qn_index_object_of(const qn_index *ix, uint64_t chunk);
static inline uint64_t qn_index_n_chunks(const qn_index *ix, uint64_t object)
{
    return ix->objects[object + 1].first_chunk - ix->objects[object].first_chunk;
}
/* Tensors with a chunk that is an approximation (qn_codec_is_lossy). */
uint64_t qn_index_n_lossy(const qn_index *ix);
/* The block that chunk `i` (counted within the object) holds. */
qn_block qn_index_block(const qn_index_object *o, uint64_t i);

/* How writers cut an object into chunks; readers take chunk_units from the index. Whole rows, about 2 MiB
 * of bytes and 16-bit units or 4 MiB of wider ones; the pieces of an object are equally large, so that no chunk is a
 * sliver. A row longer than that is cut too. 0 for an empty object. */
uint32_t qn_chunk_units(qn_dtype t, const uint64_t *dims, unsigned rank, uint64_t n_bytes);

/* Digest of an object: XXH3-128 over its description and then the XXH3-128 of each chunk's raw bytes, so that
 * chunks can be hashed in parallel. `h` is an open hasher; begin resets it. */
void qn_object_hash_begin(qn_hasher *h, const qn_index_object *o);
void qn_object_hash_chunk(qn_hasher *h, const qn_digest *raw);

#endif
