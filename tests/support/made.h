/* made.h: small checkpoints made by hand, in a scratch folder. Failures are Criterion's. */
#ifndef QN_TESTS_MADE_H
#define QN_TESTS_MADE_H

#include "formats/source.h"

/* An empty folder of this test's own; static storage, one per process, removed at exit. */
const char *qt_made_dir(void);
/* Memory from malloc that lives until exit. Returns p. */
void *qt_made_keep(void *p);
/* "scratch/name"; lives until exit. */
const char *qt_made_path(const char *name);

typedef struct qt_made_tensor {
    const char *name;
    qn_dtype dtype;
    unsigned rank;
    uint64_t dims[6];
    const void *data; /* as many bytes as the shape has */
} qt_made_tensor;

/* Writes a safetensors file at scratch/rel (folders are made) with n tensors in the given order and, when not NULL, one
 * metadata string under the key "note". Returns its path. */
const char *qt_made_safetensors(const char *rel, const qt_made_tensor *t, unsigned n, const char *note);
/* Writes any bytes at scratch/rel. */
const char *qt_made_file(const char *rel, const void *data, size_t n_bytes);

/* The process's environment with this many threads; and opening that must succeed. */
const qn_env *qt_made_env(unsigned n_threads);
/* One thread, and a heap whose nth request fails (1: the first; 0: none does). */
const qn_env *qt_made_env_short(uint64_t nth);
/* Has the request that was to fail been made since? */
bool qt_made_memory_failed(void);
qn_source *qt_made_open(const qn_env *env, const char *path);

#endif
