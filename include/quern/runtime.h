/* quern/runtime.h: open a .quern file, list it, decode tensors or rows of them. The API of libquern-runtime.
 *
 *     qn_err err = {0};
 *     qn_reader *r;
 *     if (qn_reader_open("model.quern", NULL, &r, &err) != QN_OK)
 *         return report(&err);             // qn_err_format makes the line for the user
 *     ...
 *     qn_reader_close(r);
 *
 * A reader may be used from several threads at once. It holds no global state, prints nothing, starts no threads.
 * Every byte that a call returns came from chunks whose checksums were right.
 */
#ifndef QUERN_RUNTIME_H
#define QUERN_RUNTIME_H

#include "quern/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qn_reader qn_reader;

typedef struct qn_reader_options {
    size_t struct_bytes;   /* sizeof(qn_reader_options): lets the struct grow */
    const qn_alloc *alloc; /* NULL: the C library's heap; must outlive the reader */
    qn_reader *base;       /* the packed base for files made with --base, NULL when there is none;
                              it must outlive this reader */
} qn_reader_options;

/* Opens and checks header, index and footer; payloads are checked when they are read. `options` may be NULL. */
QN_API qn_code qn_reader_open(const char *path, const qn_reader_options *options, qn_reader **out,
                              qn_err *err) QN_MUST_CHECK;
/* The same over memory, which must stay until qn_reader_close. */
QN_API qn_code qn_reader_open_memory(const void *data, size_t n_bytes, const qn_reader_options *options,
                                     qn_reader **out, qn_err *err) QN_MUST_CHECK;
QN_API void qn_reader_close(qn_reader *r); /* NULL is fine */

/* A tensor as listed. Pointers are borrowed from the reader. */
typedef struct qn_tensor {
    const char *name;
    const uint64_t *dims; /* `rank` of them, outermost first */
    unsigned rank;
    qn_dtype dtype;
    uint64_t n_elems, n_bytes;     /* decoded                                          */
    uint64_t n_rows;               /* dims[0]; 1 for rank 0                            */
    uint64_t stored_bytes;         /* payloads; 0 when all of it is shared with another */
    uint64_t n_chunks;
} qn_tensor;

QN_API uint64_t qn_reader_n_tensors(const qn_reader *r);
QN_API qn_code qn_reader_tensor(const qn_reader *r, uint64_t i, qn_tensor *out, qn_err *err) QN_MUST_CHECK;
/* Index of the tensor with that name, UINT64_MAX if there is none. */
QN_API uint64_t qn_reader_find(const qn_reader *r, const char *name);

/* Decodes rows [first, first + n) along the outermost dimension into dst (dst_bytes must be exactly what they need).
 * `as`: the stored dtype, or QN_F32 / QN_F64 for a widened copy of any numeric dtype.
 * Only the chunks that hold these rows are read. */
QN_API qn_code qn_reader_rows(qn_reader *r, uint64_t tensor, uint64_t first, uint64_t n, qn_dtype as, void *dst,
                              size_t dst_bytes, qn_err *err) QN_MUST_CHECK;
/* n stored-dtype bytes of a tensor from byte `off`. */
QN_API qn_code qn_reader_bytes(qn_reader *r, uint64_t tensor, uint64_t off, uint64_t n, void *dst,
                               qn_err *err) QN_MUST_CHECK;

/* The original files that the container restores. Paths are relative and safe to create below a folder. */
typedef struct qn_packed_file {
    const char *path;
    uint64_t n_bytes;
} qn_packed_file;
QN_API uint64_t qn_reader_n_files(const qn_reader *r);
QN_API qn_code qn_reader_file(const qn_reader *r, uint64_t i, qn_packed_file *out, qn_err *err) QN_MUST_CHECK;

/* Provenance: value for a key ("creator", "recipe", "base", …), NULL if there is none. Borrowed. */
QN_API const char *qn_reader_property(const qn_reader *r, const char *key);

/* The line a user should see: "model.quern: tensor 'x' at byte 0x40: …". Writes at most n bytes with NUL. */
QN_API void qn_err_format(const qn_err *err, char *buf, size_t n);

#ifdef __cplusplus
}
#endif
#endif
