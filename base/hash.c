/* hash.c: see hash.h. */
#include "base/hash.h"
#include "base/err.h"
#include <string.h>
#include <xxhash.h>

uint64_t qn_hash64(const void *p, size_t n_bytes)
{
    return XXH3_64bits(p, n_bytes);
}

uint64_t qn_hash64_keyed(const void *p, size_t n_bytes, uint64_t key)
{
    return XXH3_64bits_withSeed(p, n_bytes, key);
}

static qn_digest canonical(XXH128_hash_t h)
{
    XXH128_canonical_t c;
    qn_digest d;
    XXH128_canonicalFromHash(&c, h);
    memcpy(d.b, c.digest, sizeof d.b);
    return d;
}

qn_digest qn_hash128(const void *p, size_t n_bytes)
{
    return canonical(XXH3_128bits(p, n_bytes));
}

bool qn_digest_equal(const qn_digest *a, const qn_digest *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

void qn_digest_hex(const qn_digest *d, char out[33])
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof d->b; i++) {
        out[2 * i] = hex[d->b[i] >> 4];
        out[2 * i + 1] = hex[d->b[i] & 15];
    }
    out[32] = '\0';
}

qn_code qn_hasher_open(qn_hasher *h, qn_err *err)
{
    h->state = XXH3_createState();
    if (!h->state)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: a hash state wanted");
    qn_hasher_reset(h);
    return QN_OK;
}

/* XXH3's reset and update cannot fail on a state that exists. */
void qn_hasher_reset(qn_hasher *h)
{
    (void)XXH3_128bits_reset(h->state);
}

void qn_hasher_add(qn_hasher *h, const void *p, size_t n_bytes)
{
    (void)XXH3_128bits_update(h->state, p, n_bytes);
}

qn_digest qn_hasher_digest(const qn_hasher *h)
{
    return canonical(XXH3_128bits_digest(h->state));
}

void qn_hasher_close(qn_hasher *h)
{
    if (h->state)
        (void)XXH3_freeState(h->state);
    h->state = NULL;
}
