/* names.c: see names.h. Open addressing, linear probing. */
#define _DEFAULT_SOURCE /* getentropy */
#include "base/names.h"
#include "base/hash.h"
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t qn_names_slots(uint64_t n)
{
    uint64_t cap = 16;
    while (cap < n + n / 2)
        cap *= 2;
    return cap;
}

/* Where the system gives no randomness, an address and a clock still are more than the writer of a file knows. */
static uint64_t random_key(const void *p)
{
    uint64_t key;
    struct timespec now = {0};
    if (getentropy(&key, sizeof key) == 0)
        return key;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)(uintptr_t)p ^ (uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec;
}

void qn_names_init(qn_names *t, qn_name_slot *slots, uint64_t n_slots)
{
    *t = (qn_names){.slots = slots, .mask = n_slots - 1, .key = random_key(slots)};
}

/* The slot that holds the name, or the free one where it belongs. */
static qn_name_slot *slot_of(const qn_names *t, const char *name, uint32_t *tag, qn_name_of of, const void *ctx)
{
    const uint64_t h = qn_hash64_keyed(name, strlen(name), t->key);
    uint64_t i = h & t->mask;
    *tag = (uint32_t)(h >> 32);
    for (; t->slots[i].item; i = (i + 1) & t->mask)
        if (t->slots[i].tag == *tag && strcmp(of(ctx, t->slots[i].item - 1), name) == 0)
            break;
    return &t->slots[i];
}

uint32_t qn_names_find(const qn_names *t, const char *name, qn_name_of of, const void *ctx)
{
    uint32_t tag;
    if (!t->slots)
        return QN_NAMES_NONE;
    return slot_of(t, name, &tag, of, ctx)->item - 1; /* 0 − 1 is QN_NAMES_NONE */
}

uint32_t qn_names_add(qn_names *t, const char *name, uint32_t item, qn_name_of of, const void *ctx)
{
    uint32_t tag;
    qn_name_slot *s = slot_of(t, name, &tag, of, ctx);
    if (s->item)
        return s->item - 1;
    *s = (qn_name_slot){.item = item + 1, .tag = tag};
    return QN_NAMES_NONE;
}
