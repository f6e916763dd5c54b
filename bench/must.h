/* must.h: benchmarks have no use for failures: they end there. */
#ifndef QN_BENCH_MUST_H
#define QN_BENCH_MUST_H

#include "base/alloc.h"
#include <stdlib.h>

static inline void *must_get(size_t n_bytes)
{
    void *p = malloc(n_bytes);
    if (!p)
        abort();
    return p;
}

static inline void must(qn_code rc)
{
    if (rc != QN_OK)
        abort();
}

#endif
