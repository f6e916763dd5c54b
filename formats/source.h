/* source.h: an opened checkpoint of any format.
 *
 * A source is a list of *files* (what the user gave: one file, or the files of a model directory, sorted by path) and a
 * list of *objects*. Objects lie end to end in their file, in file order, and cover it completely: a TENSOR is
 * the payload of one tensor; a BLOB is everything between (a header, a tokenizer, a whole config.json). So the
 * concatenation of a file's objects is the file, byte for byte: this is what lossless packing restores.
 *
 * Objects of file f are objects[file.first_object … + n_objects). Names of TENSOR objects are unique in a source.
 *
 * Beside them stands the list of *tensors*: what the checkpoint means rather than how its bytes lie. Packing goes by
 * objects, everything that asks for weights goes by tensors. */
#ifndef QN_FORMATS_SOURCE_H
#define QN_FORMATS_SOURCE_H

#include "base/alloc.h"
#include "base/env.h"
#include "base/hash.h"
#include "base/names.h"
#include "base/path.h"
#include "base/shape.h"

typedef enum qn_object_kind { QN_OBJECT_BLOB = 0, QN_OBJECT_TENSOR = 1 } qn_object_kind;

typedef struct qn_object {
    const char *name;     /* tensor name, UTF-8, no NUL inside; "" for a blob. Owned by the source.     */
    const uint64_t *dims; /* rank of them, outermost first. Owned by the source.                        */
    uint64_t n_bytes;
    uint64_t off;         /* position in its file                                                       */
    uint32_t file;
    uint8_t kind, dtype, rank; /* qn_object_kind, qn_dtype (BYTES for a blob)                            */
} qn_object;

typedef struct qn_source_file {
    const char *path; /* relative, '/'-separated, no "..", not absolute; a single file has its base name */
    uint64_t n_bytes;
    uint64_t first_object, n_objects;
} qn_source_file;

#define QN_NO_OBJECT UINT64_MAX

/* A tensor as the model means it: `n_bytes` in `dtype`, row-major, outermost dimension first. Mostly these are the very
 * bytes of one object; a format whose files hold tensors otherwise (deflated, strided, sharing storage, byte-swapped)
 * puts them together on demand. */
typedef struct qn_source_tensor {
    const char *name;     /* UTF-8, no NUL inside. Owned by the source.        */
    const uint64_t *dims; /* rank of them. Owned by the source.                */
    uint64_t n_bytes;
    uint64_t object;      /* whose bytes these are, or QN_NO_OBJECT            */
    uint32_t file;        /* that it lies in, or mostly                        */
    uint8_t dtype, rank;
} qn_source_tensor;

typedef struct qn_source qn_source;

typedef struct qn_source_ops {
    const char *format; /* "safetensors", "hf", "quern", … */
    /* n bytes of object `obj` from byte `off` within it. Thread-safe. Range already checked by the caller. */
    qn_code (*read)(qn_source *s, uint64_t obj, uint64_t off, uint64_t n, void *dst, qn_err *err);
    /* The same of a tensor that is no object; NULL when there are none. */
    qn_code (*read_tensor)(qn_source *s, uint64_t tensor, uint64_t off, uint64_t n, void *dst, qn_err *err);
    void (*close)(qn_source *s);
} qn_source_ops;

/* Filled by a format's open; read-only afterwards. */
struct qn_source {
    const qn_source_ops *ops;
    const qn_env *env;      /* borrowed; must outlive the source                                      */
    qn_arena arena;         /* names and dims                                                         */
    const char *path;       /* of the file or folder, in env->fs: as the user gave it, but for a bundle */
    bool is_dir;            /* files go into a directory when restored; else there is exactly one file */
    bool whole_dir;         /* all that lies in the folder `path` belongs to it, and would if it were put there     */
    uint64_t n_files, n_objects, n_tensor_objects, n_tensors;
    qn_source_file *files;  /* files, objects, tensors: owned, from the allocator                      */
    qn_object *objects;
    qn_source_tensor *tensors; /* filled by the format, or by qn_source_seal: one for each TENSOR object */
    qn_names names;         /* tensor objects by name, made by qn_source_seal; slots owned             */
    qn_names tensor_names;  /* tensors by name when the format has listed them, else empty             */
    uint64_t n_warnings;    /* things a user should see but that are no errors; first QN_SOURCE_WARNINGS kept */
    char *warnings[8];
    void *impl;             /* the format's own */
    const char *bundle;     /* the archive that holds the files, as the user gave it, or NULL. Then env->fs shows its members:
                               `path` is one of them, and nothing else (docs/bundles.md)                     */
    void (*release)(void *under); /* called last of all when the source is closed; NULL mostly       */
    void *under;
    struct qn_df11 *df11; /* weights that lie coded (formats/dfloat11), the last of the tensors; or NULL */
};

/* What the user named: for messages and reports. */
static inline const char *qn_source_given(const qn_source *s)
{
    return s->bundle ? s->bundle : s->path;
}

/* Opens by content, whatever formats/registry.c recognises. QN_E_UNSUPPORTED names a format that is recognised but cannot be
 * read yet. */
qn_code qn_source_open(const qn_env *env, const char *path, qn_source **out, qn_err *err) QN_MUST_CHECK;
void qn_source_close(qn_source *s); /* NULL is fine */
qn_code qn_source_read(qn_source *s, uint64_t obj, uint64_t off, uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;
/* Object index of the TENSOR object of that name, or UINT64_MAX. O(1), thread-safe. */
uint64_t qn_source_find(const qn_source *s, const char *name);
/* n bytes of a tensor from byte `off` of its row-major content. Thread-safe. */
qn_code qn_source_tensor_read(qn_source *s, uint64_t tensor, uint64_t off, uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;
/* n bytes of a file from byte `off`, out of the objects that cover it. Thread-safe. QN_E_INPUT when it ends before. */
qn_code qn_source_file_read(qn_source *s, uint64_t file, uint64_t off, uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;
/* Index of the tensor of that name, or UINT64_MAX. O(1), thread-safe. */
uint64_t qn_source_tensor_find(const qn_source *s, const char *name);
/* Called by a format's open when objects and files are filled: checks the invariants above (bytes cover each file,
 * names unique, paths safe and unique), counts tensors, builds the name index. */
qn_code qn_source_seal(qn_source *s, qn_err *err) QN_MUST_CHECK;
/* Another list of tensors for a sealed source; t, from its allocator, becomes its own whatever is returned. */
qn_code qn_source_relist(qn_source *s, qn_source_tensor *t, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* Adds a warning (printf-like); never fails, drops past the limit but counts. */
void qn_source_warn(qn_source *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
