/* fileset.h: the files behind a source that was opened from plain files, and the lists in the making.
 * Shared by all formats whose objects are byte ranges of files. */
#ifndef QN_FORMATS_FILESET_H
#define QN_FORMATS_FILESET_H

#include "formats/source.h"

/* How a tensor that is no object is put together: n ≥ 1 bytes of its content from byte `at`, inside it. `how` is the
 * format's own, from the source's arena. Thread-safe. */
typedef qn_code (*qn_made_fn)(qn_source *s, const qn_source_tensor *t, const void *how, uint64_t at, uint64_t n, uint8_t *dst,
                              qn_err *err);
typedef struct qn_made {
    qn_made_fn read; /* NULL: the tensor is an object */
    const void *how;
} qn_made;

/* A source whose objects are byte ranges of ordinary files: read needs no more than file and position. */
typedef struct qn_fileset {
    qn_file *open;       /* one per file; fd −1: opened for each read instead (a folder may hold thousands) */
    char **paths;        /* one per file: where it really is */
    bool *beneath;       /* one per file: named by another file, so opened by those rules each time */
    uint64_t cap_files, cap_objects, cap_tensors, cap_open, cap_paths, cap_beneath, cap_made, n_open;
    qn_made *made;       /* n_made of them, one per tensor from the first on: of those added by qn_fileset_add_made */
    uint64_t n_made;
    void *own;           /* what the format keeps beside; its own to release            */
} qn_fileset;

/* A source with an empty fileset; its ops read from it (a format with ops of its own sets them
 * after this). Freed by qn_source_close also when half built. */
qn_code qn_fileset_new(const qn_env *env, const char *format, const char *path, qn_source **out, qn_err *err) QN_MUST_CHECK;
/* The same with operations of the format's own. It reads objects with qn_fileset_read_object; its close releases set->own,
 * also when that is still NULL, and then calls qn_fileset_close. */
qn_code qn_fileset_new_ops(const qn_env *env, const qn_source_ops *ops, const char *path, qn_source **out,
                           qn_err *err) QN_MUST_CHECK;
qn_code qn_fileset_read_object(qn_source *s, uint64_t obj, uint64_t off, uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;
/* The close of ops without a close of their own. */
void qn_fileset_close(qn_source *s);
/* Adds a file: `path` on disk, `rel` as restored. Refuses what is not a regular file. It is left open for reading
 * in set->open[] while fewer than a few hundred are. */
qn_code qn_fileset_add_file(qn_source *s, const char *path, const char *rel, qn_err *err) QN_MUST_CHECK;
/* The same of a file that is open already: it becomes the set's, or is closed. */
qn_code qn_fileset_add_opened(qn_source *s, qn_file *f, const char *rel, qn_err *err) QN_MUST_CHECK;
/* Adds a file that another one names: `rel` below the source's folder, as qn_file_open_beneath has it. */
qn_code qn_fileset_add_beneath(qn_source *s, const char *rel, qn_err *err) QN_MUST_CHECK;
/* Reads n bytes at off of file i. */
qn_code qn_fileset_read(qn_source *s, uint64_t file, uint64_t off, uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;
/* Appends an object to the last file. name and dims must live as long as the source (its arena). */
qn_code qn_fileset_add_object(qn_source *s, const qn_object *o, qn_err *err) QN_MUST_CHECK;
/* Appends a tensor of the last file to the source's list, for formats that list tensors themselves. */
qn_code qn_fileset_add_tensor(qn_source *s, const qn_source_tensor *t, qn_err *err) QN_MUST_CHECK;
/* The same of one that is no object; ops.read_tensor must be qn_fileset_read_made. */
qn_code qn_fileset_add_made(qn_source *s, const qn_source_tensor *t, qn_made_fn read, const void *how, qn_err *err) QN_MUST_CHECK;
qn_code qn_fileset_read_made(qn_source *s, uint64_t tensor, uint64_t off, uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;
/* Forgets what the last file has listed, down to these counts. */
void qn_fileset_rewind(qn_source *s, uint64_t n_objects, uint64_t n_tensors);
/* The whole last file as one BLOB (nothing at all for an empty file). */
qn_code qn_fileset_add_blob(qn_source *s, qn_err *err) QN_MUST_CHECK;

#endif
