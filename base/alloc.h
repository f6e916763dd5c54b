/* alloc.h: the allocator seam and arenas.
 *
 * Three lifetimes: an arena per opened model (names, tables), a scratch arena per worker (reset per chunk),
 * the caller's buffers for data. The C library's heap is touched in base/alloc.c and nowhere else. */
#ifndef QN_BASE_ALLOC_H
#define QN_BASE_ALLOC_H

#include "quern/base.h"

/* 64-byte aligned, uninitialised; NULL (and QN_E_MEMORY in *err) when there is none. n_bytes 0 is served as 1. */
void *qn_mem_get(const qn_alloc *a, uint64_t n_bytes, qn_err *err) QN_MUST_CHECK;
/* The same, zeroed, for n × size with the product checked. */
void *qn_mem_zeros(const qn_alloc *a, uint64_t n, uint64_t size, qn_err *err) QN_MUST_CHECK;
/* NULL is fine. */
void qn_mem_put(const qn_alloc *a, void *p);

/* Gives back what lies beyond the first n_bytes, where the allocator can: of the C library's heap. Returns where they are now. */
void *qn_mem_shrink(const qn_alloc *a, void *p, uint64_t n_bytes) QN_MUST_CHECK;

/* A growing array: returns storage for at least `want` items holding the first `n_used`; p is freed or returned.
 * NULL on failure, and then p is untouched and still owned by the caller. */
void *qn_mem_grow(const qn_alloc *a, void *p, uint64_t n_used, uint64_t *cap, uint64_t want, uint64_t size,
                  qn_err *err) QN_MUST_CHECK;

/* Arena: bump allocation in blocks, freed together. Not thread-safe. */
typedef struct qn_arena {
    const qn_alloc *alloc;
    struct qn_arena_block *head;
    uint64_t used_bytes; /* handed out since the last reset, less what was rewound */
    uint64_t peak_bytes; /* largest sum of what the blocks in use held, since the last reset */
} qn_arena;

/* A point to go back to: trials that nest leave nothing behind. */
typedef struct qn_arena_mark {
    struct qn_arena_block *head;
    uint64_t used, used_bytes;
} qn_arena_mark;

void qn_arena_init(qn_arena *ar, const qn_alloc *a);
/* Aligned to `align` (a power of two ≤ 64), uninitialised. NULL on failure. */
void *qn_arena_get(qn_arena *ar, uint64_t n_bytes, unsigned align, qn_err *err) QN_MUST_CHECK;
/* A NUL-terminated copy of n bytes. */
char *qn_arena_str(qn_arena *ar, const char *s, size_t n, qn_err *err) QN_MUST_CHECK;
/* Everything handed out since the mark is gone. Marks are undone in reverse order, and not across a reset. */
qn_arena_mark qn_arena_tell(const qn_arena *ar);
void qn_arena_rewind(qn_arena *ar, qn_arena_mark m);
/* Keeps the largest block for reuse, frees the others; everything handed out is gone. */
void qn_arena_reset(qn_arena *ar);
void qn_arena_release(qn_arena *ar);

#endif
