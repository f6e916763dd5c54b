/* dedup.c: open addressing, at most half full. */
#include "compress/dedup.h"
#include "base/num.h"
#include <string.h>

struct qn_dedup_slot {
    qn_digest digest;
    uint64_t chunk_plus_1; /* 0: empty */
};

qn_code qn_dedup_open(qn_dedup *d, const qn_alloc *alloc, uint64_t n_chunks, qn_err *err)
{
    uint64_t cap = 64;
    while (cap < n_chunks * 2)
        cap *= 2;
    *d = (qn_dedup){.alloc = alloc, .mask = cap - 1};
    d->slots = qn_mem_zeros(alloc, cap, sizeof *d->slots, err);
    return d->slots ? QN_OK : QN_E_MEMORY;
}

static struct qn_dedup_slot *slot_of(const qn_dedup *d, const qn_digest *digest)
{
    uint64_t i = qn_load64(digest->b) & d->mask;
    while (d->slots[i].chunk_plus_1 && !qn_digest_equal(&d->slots[i].digest, digest))
        i = (i + 1) & d->mask;
    return &d->slots[i];
}

uint64_t qn_dedup_find(const qn_dedup *d, const qn_digest *digest)
{
    return slot_of(d, digest)->chunk_plus_1 - 1; /* 0 − 1 = UINT64_MAX */
}

void qn_dedup_add(qn_dedup *d, const qn_digest *digest, uint64_t chunk)
{
    struct qn_dedup_slot *s = slot_of(d, digest);
    if (s->chunk_plus_1 == 0)
        *s = (struct qn_dedup_slot){.digest = *digest, .chunk_plus_1 = chunk + 1};
}

void qn_dedup_release(qn_dedup *d)
{
    qn_mem_put(d->alloc, d->slots);
    d->slots = NULL;
}
