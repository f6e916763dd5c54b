/* streams.h: positions in deflated members of a zip, kept between reads. */
#ifndef QN_FORMATS_NPZ_STREAMS_H
#define QN_FORMATS_NPZ_STREAMS_H

#include "base/env.h"
#include "formats/zip/zip.h"
#include <pthread.h>

enum { QN_STREAMS_IDLE = 4 }; /* each about 100 KiB */

typedef struct qn_streams {
    const qn_env *env;
    const qn_zip *zip;
    pthread_mutex_t lock;
    qn_zip_stream idle[QN_STREAMS_IDLE]; /* the longest unused first */
    unsigned n_idle;
} qn_streams;

/* The zip and the environment are borrowed. */
void qn_streams_init(qn_streams *s, const qn_env *env, const qn_zip *zip);
void qn_streams_release(qn_streams *s);
/* n bytes at `off` of an entry's unpacked content; whoever comes to its end checks size and CRC. Thread-safe. */
qn_code qn_streams_read(qn_streams *s, const qn_zip_entry *e, uint64_t off, uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;

#endif
