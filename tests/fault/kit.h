/* kit.h: a small world for fault tests: files in memory behind a seam that fails on demand, a heap that counts and fails,
 * and the three jobs as a user runs them. Names begin with qt_. Failures are Criterion's. */
#ifndef QN_TESTS_FAULT_KIT_H
#define QN_TESTS_FAULT_KIT_H

#include "base/io_fault.h"
#include "base/io_mem.h"
#include "compress/pack.h"
#include "tests/support/testkit.h"
#include <stdio.h>

/* An allocator that fails its Nth call. */
typedef struct qt_heap {
    qn_alloc alloc;
    uint64_t nth; /* 1: the first; 0: never */
    bool on;      /* and all after it       */
    atomic_uint_fast64_t n_gets, n_out, now_bytes, peak_bytes;
} qt_heap;
void qt_heap_init(qt_heap *h);

typedef struct qt_world {
    qn_memfs *mem;
    qn_fault fault; /* set ops, nth, how …, then call qt_arm */
    qt_heap heap;
    qn_env env;
    qn_pack_options pack;
    qn_unpack_options unpack;
    qn_pack_report report; /* counts of the last pack; rows are gone */
    qn_err err;            /* of the last job */
} qt_world;

/* Holds the model folder "in": nine tensors of as many dtypes (one twice, one empty, one scalar) in two shards with
 * their index, config.json, an empty file, a file in a folder. One thread, a checkpoint every 200 bytes. */
void qt_world_open(qt_world *w);
void qt_world_close(qt_world *w);
void qt_arm(qt_world *w, unsigned ops, uint64_t nth, qn_fault_how how, int sys, bool on);
void qt_disarm(qt_world *w);

/* Source opened, job done, source closed; w->err holds the error. */
qn_code qt_pack(qt_world *w, const char *in, const char *out);
qn_code qt_unpack(qt_world *w, const char *in, const char *out);
qn_code qt_verify(qt_world *w, const char *in);

/* A file's bytes in memory of their own, *n of them; NULL when there is none. */
uint8_t *qt_copy_file(qt_world *w, const char *path, size_t *n);
bool qt_file_is(qt_world *w, const char *path, const uint8_t *bytes, size_t n);
/* Do both folders hold the same files with the same bytes? */
bool qt_same_tree(qt_world *w, const char *a, const char *b);
/* Number of paths that begin so. */
unsigned qt_n_paths(qt_world *w, const char *begin);
/* A fresh folder on the real disk (in memory where the machine has such a place) with a copy of "in" inside; its path, static
 * storage. w->env then works on the real file system through the failing seam. */
const char *qt_to_disk(qt_world *w);
void qt_remove_disk(const char *dir);
/* A file on the real disk; NULL when there is none. Freed with free(). */
uint8_t *qt_read_disk(const char *path, size_t *n);
/* The line that a user would see. Static storage. */
const char *qt_line(const qn_err *err);

#endif
