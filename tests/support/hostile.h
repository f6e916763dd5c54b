/* hostile.h: what tests of readers share: bytes in the making, files in memory, an allocator that counts and fails, and
 * the check that an error is the expected one and one clear line. */
#ifndef QN_TESTS_HOSTILE_H
#define QN_TESTS_HOSTILE_H

#include "base/env.h"
#include "base/err.h"
#include <stdio.h>

/* A growing buffer. */
typedef struct qt_buf {
    uint8_t *p;
    size_t n, cap;
} qt_buf;
void qt_add(qt_buf *b, const void *src, size_t n);
void qt_add_zeros(qt_buf *b, size_t n);
void qt_addf(qt_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void qt_buf_free(qt_buf *b);
/* A safetensors file: length, header text, n_data bytes 0, 1, 2, … */
void qt_add_safetensors(qt_buf *b, const char *header, size_t n_data);

/* Files in memory, read-only, seen through a qn_fs. Folders exist by the files in them. Bytes are borrowed. */
enum { QT_FILES_MAX = 64 };
typedef struct qt_files {
    struct {
        const char *path;
        const uint8_t *p;
        uint64_t n;
        bool fifo;
    } f[QT_FILES_MAX];
    unsigned n;
    unsigned n_open;   /* handles not closed yet                                            */
    unsigned max_read; /* > 0: pread gives at most this many bytes, and EINTR every other time */
    unsigned n_reads;
    qn_fs fs; /* made by qt_files_init */
} qt_files;
void qt_files_init(qt_files *t);
void qt_files_add(qt_files *t, const char *path, const void *p, size_t n);

/* Counts bytes in use and at most in use; get number `fail_at` (from 1) fails, 0 = none. Thread-safe it is not. */
typedef struct qt_counter {
    uint64_t live, peak, n_gets, n_live, fail_at;
    bool fail_on; /* every get from fail_at on fails */
    qn_alloc alloc;
} qt_counter;
void qt_counter_init(qt_counter *c);

/* An environment over these seams: one thread, C kernels. Either may be NULL. */
qn_env qt_env(const qt_files *files, const qt_counter *counter);

/* Opens n bytes as a source of this name and closes it; asserts that no file stays open and no memory is lost. In
 * open_bytes.c, for test programs only. */
qn_code qt_open_bytes(const char *path, const void *p, size_t n, qt_counter *counter, qn_err *err);

/* Milliseconds of CPU time of this thread. */
double qt_cpu_ms(void);

/* Sanitizers and debug builds are slower than the figures that tests hold: the factor to allow. */
double qt_slack(void);

/* Is *err this? NULL tensor or text: any. `off`: QN_NO_OFFSET is checked too. Prints what differs under `name`; also
 * checks that the line is one line, printable, and names a path. */
bool qt_err_is(const char *name, const qn_err *err, qn_code rc, qn_code code, uint64_t off, const char *tensor,
               const char *text);

#endif
