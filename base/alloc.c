/* alloc.c: see alloc.h. The only file that calls malloc and free. */
#include "base/alloc.h"
#include "base/err.h"
#include "base/num.h"
#include <stdlib.h>
#include <string.h>

void *qn_mem_get(const qn_alloc *a, uint64_t n_bytes, qn_err *err)
{
    void *p = NULL;
    if (n_bytes == 0)
        n_bytes = 1;
    if (n_bytes <= PTRDIFF_MAX) { /* no object may be larger: differences of pointers into it would overflow */
        if (a)
            p = a->get(a->ctx, (size_t)n_bytes);
        else if (posix_memalign(&p, 64, (size_t)n_bytes) != 0)
            p = NULL;
    }
    if (!p)
        (void)QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: %llu bytes wanted", (unsigned long long)n_bytes);
    return p;
}

void *qn_mem_zeros(const qn_alloc *a, uint64_t n, uint64_t size, qn_err *err)
{
    bool ovf = false;
    const uint64_t bytes = qn_mul(n, size, &ovf);
    if (ovf) {
        (void)QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: %llu items of %llu bytes wanted",
                      (unsigned long long)n, (unsigned long long)size);
        return NULL;
    }
    void *p = qn_mem_get(a, bytes, err);
    if (p)
        memset(p, 0, (size_t)bytes);
    return p;
}

void qn_mem_put(const qn_alloc *a, void *p)
{
    if (!p)
        return;
    if (a)
        a->put(a->ctx, p);
    else
        free(p);
}

void *qn_mem_shrink(const qn_alloc *a, void *p, uint64_t n_bytes)
{
    void *q = a ? NULL : realloc(p, (size_t)qn_max_u64(n_bytes, 1));
    return q ? q : p;
}

void *qn_mem_grow(const qn_alloc *a, void *p, uint64_t n_used, uint64_t *cap, uint64_t want, uint64_t size, qn_err *err)
{
    if (want <= *cap && p)
        return p;
    bool ovf = false;
    const uint64_t half_more = qn_add(*cap, *cap / 2, &ovf);
    const uint64_t new_cap = qn_max_u64(qn_max_u64(want, 16), ovf ? want : half_more);
    ovf = false;
    const uint64_t bytes = qn_mul(new_cap, size, &ovf);
    void *q = qn_mem_get(a, ovf ? UINT64_MAX : bytes, err);
    if (!q)
        return NULL;
    if (p) {
        memcpy(q, p, (size_t)(n_used * size));
        qn_mem_put(a, p);
    }
    *cap = new_cap;
    return q;
}

/* A block's data begins 64 bytes in, so that it is as aligned as the block. */
struct qn_arena_block {
    struct qn_arena_block *next;
    uint64_t cap, used;
};

enum { BLOCK_HEAD = 64, BLOCK_MIN = 16 << 10 };

void qn_arena_init(qn_arena *ar, const qn_alloc *a)
{
    *ar = (qn_arena){.alloc = a};
}

/* Blocks grow with what has been handed out, up to 16 MiB: a million small strings cost few calls, and the room left over
 * is at most a quarter of what was asked for. */
static struct qn_arena_block *new_block(qn_arena *ar, uint64_t n_bytes, qn_err *err)
{
    uint64_t cap = qn_min_u64(qn_max_u64(ar->used_bytes / 4, BLOCK_MIN), 16u << 20);
    cap = qn_max_u64(cap, n_bytes);
    if (cap > UINT64_MAX - BLOCK_HEAD)
        cap = UINT64_MAX - BLOCK_HEAD; /* qn_mem_get refuses it */
    struct qn_arena_block *b = qn_mem_get(ar->alloc, cap + BLOCK_HEAD, err);
    if (!b)
        return NULL;
    *b = (struct qn_arena_block){.next = ar->head, .cap = cap};
    ar->head = b;
    return b;
}

void *qn_arena_get(qn_arena *ar, uint64_t n_bytes, unsigned align, qn_err *err)
{
    struct qn_arena_block *b = ar->head;
    uint64_t at = b ? (b->used + align - 1) & ~(uint64_t)(align - 1) : 0;
    if (!b || at > b->cap || n_bytes > b->cap - at) {
        b = new_block(ar, n_bytes, err);
        if (!b)
            return NULL;
        at = 0;
    }
    b->used = at + n_bytes;
    ar->used_bytes += n_bytes;
    return (uint8_t *)b + BLOCK_HEAD + at;
}

/* Only the newest block is still filled, so the peak changes only where a block is dropped or the arena reset. */
static void note_peak(qn_arena *ar)
{
    uint64_t held = 0;
    for (const struct qn_arena_block *b = ar->head; b; b = b->next)
        held += b->used + 64; /* alignment of what follows it in one block */
    ar->peak_bytes = qn_max_u64(ar->peak_bytes, held);
}

qn_arena_mark qn_arena_tell(const qn_arena *ar)
{
    return (qn_arena_mark){.head = ar->head, .used = ar->head ? ar->head->used : 0, .used_bytes = ar->used_bytes};
}

void qn_arena_rewind(qn_arena *ar, qn_arena_mark m)
{
    note_peak(ar);
    while (ar->head != m.head) {
        struct qn_arena_block *next = ar->head->next;
        qn_mem_put(ar->alloc, ar->head);
        ar->head = next;
    }
    if (ar->head)
        ar->head->used = m.used;
    ar->used_bytes = m.used_bytes;
}

char *qn_arena_str(qn_arena *ar, const char *s, size_t n, qn_err *err)
{
    char *p = qn_arena_get(ar, (uint64_t)n + 1, 1, err);
    if (p) {
        if (n) /* s may be NULL then */
            memcpy(p, s, n);
        p[n] = '\0';
    }
    return p;
}

static void free_blocks(const qn_arena *ar, struct qn_arena_block *b)
{
    while (b) {
        struct qn_arena_block *next = b->next;
        qn_mem_put(ar->alloc, b);
        b = next;
    }
}

void qn_arena_reset(qn_arena *ar)
{
    struct qn_arena_block *b = ar->head;
    if (b && (b->next || ar->peak_bytes > b->cap)) {
        /* Grow into one block that would have held it all: the next round then takes no page faults. If
         * there is no memory for that, carry on with none: the next get asks again. */
        note_peak(ar);
        const uint64_t want = ar->peak_bytes;
        free_blocks(ar, b);
        ar->head = NULL;
        (void)new_block(ar, want, NULL);
    } else if (b) {
        b->used = 0;
    }
    ar->used_bytes = ar->peak_bytes = 0;
}

void qn_arena_release(qn_arena *ar)
{
    free_blocks(ar, ar->head);
    ar->head = NULL;
    ar->used_bytes = 0;
}
