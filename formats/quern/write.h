/* write.h: writing a .quern: payloads in order through a buffer, then index and footer. The reading side is
 * runtime/container.h. */
#ifndef QN_FORMATS_QUERN_WRITE_H
#define QN_FORMATS_QUERN_WRITE_H

#include "base/env.h"
#include "runtime/container.h"

/* Sequential writer over an open file. With fs == NULL in `file` nothing is written (dry runs), lengths still count. */
typedef struct qn_quern_writer {
    const qn_env *env;
    const qn_file *file; /* borrowed; NULL: dry run */
    uint8_t *buf;        /* owned */
    uint64_t buf_used;
    uint64_t at;         /* file position behind everything appended */
} qn_quern_writer;

/* Starts at byte `at`: 0 writes the header first; otherwise the file already holds `at` good bytes. */
qn_code qn_quern_writer_open(qn_quern_writer *w, const qn_env *env, const qn_file *file, uint64_t at,
                             qn_err *err) QN_MUST_CHECK;
/* Appends one payload at its alignment; *off = where it begins. */
qn_code qn_quern_writer_add(qn_quern_writer *w, const uint8_t *payload, uint32_t n_bytes, uint64_t *off,
                            qn_err *err) QN_MUST_CHECK;
/* Hands everything appended so far to the file. */
qn_code qn_quern_writer_flush(qn_quern_writer *w, qn_err *err) QN_MUST_CHECK;
/* Index and footer. Of `ix`: props, files (path, n_objects), objects (all but off), chunks, is_dir are read. */
qn_code qn_quern_writer_finish(qn_quern_writer *w, const qn_index *ix, qn_err *err) QN_MUST_CHECK;
void qn_quern_writer_release(qn_quern_writer *w);

/* The index as bytes, uncompressed; *out is owned by the caller (qn_mem_put). */
qn_code qn_index_serialise(const qn_index *ix, const qn_alloc *alloc, uint8_t **out, uint64_t *n_bytes,
                           qn_err *err) QN_MUST_CHECK;

#endif
