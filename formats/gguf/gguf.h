/* gguf.h: the GGUF format, versions 2 and 3, little-endian.
 *
 *   "GGUF" │ u32 version │ u64 tensors │ u64 keys │ keys │ tensor infos │ padding │ data, each tensor padded
 *
 * Rules: those of llama.cpp's reader, made strict (nothing may follow the last tensor but its padding; every size is compared
 * with the file before anything is allocated). The values of keys stay in the file: what is held is a table of where they
 * are. So a vocabulary of any size costs no memory until it is asked for, string by string. */
#ifndef QN_FORMATS_GGUF_GGUF_H
#define QN_FORMATS_GGUF_GGUF_H

#include "formats/registry.h"

extern const qn_format qn_format_gguf;

typedef enum qn_gguf_type {
    QN_GGUF_U8 = 0,
    QN_GGUF_I8 = 1,
    QN_GGUF_U16 = 2,
    QN_GGUF_I16 = 3,
    QN_GGUF_U32 = 4,
    QN_GGUF_I32 = 5,
    QN_GGUF_F32 = 6,
    QN_GGUF_BOOL = 7,
    QN_GGUF_STR = 8,
    QN_GGUF_ARRAY = 9,
    QN_GGUF_U64 = 10,
    QN_GGUF_I64 = 11,
    QN_GGUF_F64 = 12,
    QN_GGUF_TYPES = 13
} qn_gguf_type;

typedef struct qn_gguf_key {
    const char *name;
    uint64_t off;       /* of the value in the file; a string's: of its bytes; an array's: of its first element */
    uint64_t n;         /* bytes of a string, elements of an array, else 1                                     */
    uint8_t type, elem; /* elem: of an array                                                                    */
} qn_gguf_key;

/* n bytes of the file from `off`; the range lies inside it. */
typedef qn_code (*qn_gguf_read)(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err);

/* Read-only once parsed; the getters may run in any thread if `read` may. */
typedef struct qn_gguf {
    qn_gguf_read read;
    void *ctx;
    uint64_t n_bytes; /* of the file, or of what is there of it: at least all infos */
    uint32_t version;
    uint64_t n_tensors, alignment;
    uint64_t infos_off; /* where the tensor infos begin */
    uint64_t n_keys;
    qn_gguf_key *keys;  /* in file order; owned by the arena */
    qn_names names;
} qn_gguf;

/* Magic, counts and keys. Tables go into the arena, which must outlive *g. */
qn_code qn_gguf_parse(qn_gguf *g, qn_arena *arena, qn_gguf_read read, void *ctx, uint64_t n_bytes, qn_err *err) QN_MUST_CHECK;
/* The keys of an opened source, be it a GGUF file or a .quern file that holds one. QN_E_UNSUPPORTED: neither. */
qn_code qn_gguf_open(qn_gguf *g, qn_arena *arena, qn_source *s, qn_err *err) QN_MUST_CHECK;
/* Tensor infos → objects of the source's last file: a BLOB for all before the data, then tensors and paddings. */
qn_code qn_gguf_add_tensors(const qn_gguf *g, qn_source *s, qn_err *err) QN_MUST_CHECK;

/* The dtype of a ggml type number; QN_BYTES, and in *why a few words, for one that cannot be read. */
qn_dtype qn_gguf_dtype(uint32_t type, const char **why);
/* "u32", "string", …; NULL for no such type. */
const char *qn_gguf_type_name(unsigned type);

/* NULL when there is no such key. */
const qn_gguf_key *qn_gguf_find(const qn_gguf *g, const char *name);

/* Getters. Missing key, another type, a value that does not fit: QN_E_INPUT, with key and place.
 * Integers of any width are taken where they fit; floats of either width. */
qn_code qn_gguf_get_u64(const qn_gguf *g, const char *name, uint64_t *out, qn_err *err) QN_MUST_CHECK;
qn_code qn_gguf_get_i64(const qn_gguf *g, const char *name, int64_t *out, qn_err *err) QN_MUST_CHECK;
qn_code qn_gguf_get_f64(const qn_gguf *g, const char *name, double *out, qn_err *err) QN_MUST_CHECK;
qn_code qn_gguf_get_bool(const qn_gguf *g, const char *name, bool *out, qn_err *err) QN_MUST_CHECK;
/* NUL-terminated; a NUL inside is refused, and what does not fit `cap` bytes. */
qn_code qn_gguf_get_str(const qn_gguf *g, const char *name, char *buf, size_t cap, qn_err *err) QN_MUST_CHECK;
/* An array of exactly this element type: its length; then elements [first, first + n) as they stand in the file
 * (little-endian, 1 to 8 bytes each). Not for strings and arrays. */
qn_code qn_gguf_get_array(const qn_gguf *g, const char *name, qn_gguf_type elem, uint64_t *n, qn_err *err) QN_MUST_CHECK;
qn_code qn_gguf_get_elems(const qn_gguf *g, const char *name, qn_gguf_type elem, uint64_t first, uint64_t n, void *dst,
                          qn_err *err) QN_MUST_CHECK;

/* A buffered look at a stretch of the file. */
typedef struct qn_gguf_in {
    const qn_gguf *g;
    uint64_t at;       /* the next byte                          */
    uint64_t off;      /* of buf[0] in the file                  */
    size_t n;          /* bytes in buf                           */
    uint8_t buf[4096];
} qn_gguf_in;

void qn_gguf_in_begin(qn_gguf_in *in, const qn_gguf *g, uint64_t at);
uint64_t qn_gguf_in_left(const qn_gguf_in *in);
/* n bytes → dst (NULL: skipped). `what` stands in the message when they are not there. */
qn_code qn_gguf_in_take(qn_gguf_in *in, void *dst, uint64_t n, const char *what, qn_err *err) QN_MUST_CHECK;
qn_code qn_gguf_in_u32(qn_gguf_in *in, uint32_t *v, const char *what, qn_err *err) QN_MUST_CHECK;
qn_code qn_gguf_in_u64(qn_gguf_in *in, uint64_t *v, const char *what, qn_err *err) QN_MUST_CHECK;
/* u64 length and a name of 1 to `most` bytes, UTF-8 without NUL → the arena. */
qn_code qn_gguf_in_name(qn_gguf_in *in, qn_arena *arena, uint64_t most, const char *what, const char **name,
                        qn_err *err) QN_MUST_CHECK;

/* The strings of an array one after another, in constant memory. */
typedef struct qn_gguf_strings {
    qn_gguf_in in;
    const char *name;
    uint64_t n_left;
} qn_gguf_strings;

qn_code qn_gguf_strings_begin(qn_gguf_strings *it, const qn_gguf *g, const char *name, uint64_t *n, qn_err *err) QN_MUST_CHECK;
/* The next one: n bytes, then a NUL that is not counted. QN_E_INPUT when it does not fit `cap`; QN_E_USAGE when there is
 * none left. */
qn_code qn_gguf_strings_next(qn_gguf_strings *it, char *buf, size_t cap, size_t *n, qn_err *err) QN_MUST_CHECK;

#endif
