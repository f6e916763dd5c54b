/* reader_impl.h: the inside of qn_reader, for reader.c and api.c only. */
#ifndef QN_RUNTIME_READER_IMPL_H
#define QN_RUNTIME_READER_IMPL_H

#include "runtime/reader.h"
#include <pthread.h>

struct qn_reader {
    const qn_alloc *alloc;
    qn_arena arena; /* index, path */
    const char *path;
    qn_file file;          /* closed when over memory */
    const uint8_t *memory; /* NULL when over a file   */
    qn_bytes_in in;
    qn_index index;
    qn_kern kern;
    qn_base_fn base;
    void *base_ctx;
    pthread_mutex_t lock; /* guards idle */
    qn_worker *idle;
};

#endif
