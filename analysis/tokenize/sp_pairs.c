/* sp_pairs.c: which characters stand side by side in a piece; see sp.h. A set of 64-bit keys, open addressing. Keys of broken
 * characters may coincide with others': that is a needless "yes". */
#include "analysis/tokenize/sp.h"
#include <string.h>

enum { KEYS_MIN = 1024 };

static uint64_t key_of(const char *a, uint64_t na, const char *b, uint64_t nb)
{
    uint64_t k = 0;
    for (uint64_t i = 0; i < na; i++)
        k = k << 8 | (uint8_t)a[i];
    k <<= 32;
    uint64_t low = 0;
    for (uint64_t i = 0; i < nb; i++)
        low = low << 8 | (uint8_t)b[i];
    k |= low;
    return k + 1 ? k + 1 : 1; /* 0 is a free place */
}

static uint64_t *place(const qn_sp_pairs *p, uint64_t key)
{
    uint64_t i = qn_hash64_keyed(&key, sizeof key, p->hash_key) & p->mask;
    while (p->keys[i] && p->keys[i] != key)
        i = (i + 1) & p->mask;
    return &p->keys[i];
}

static qn_code add(qn_sp_pairs *p, const qn_alloc *a, uint64_t key, qn_err *err)
{
    if (2 * p->n > p->mask) {
        qn_sp_pairs bigger = *p;
        bigger.mask = 2 * p->mask + 1;
        bigger.keys = qn_mem_zeros(a, bigger.mask + 1, sizeof *p->keys, err);
        if (!bigger.keys)
            return QN_E_MEMORY;
        for (uint64_t i = 0; i <= p->mask; i++)
            if (p->keys[i])
                *place(&bigger, p->keys[i]) = p->keys[i];
        qn_mem_put(a, p->keys);
        *p = bigger;
    }
    uint64_t *k = place(p, key);
    p->n += *k == 0;
    *k = key;
    return QN_OK;
}

qn_code qn_sp_pairs_build(qn_tokenizer *t, qn_sp_data *d, qn_err *err)
{
    qn_sp_pairs *p = &d->pairs;
    p->hash_key = t->vocab.key;
    p->mask = KEYS_MIN - 1;
    p->keys = qn_mem_zeros(t->alloc, KEYS_MIN, sizeof *p->keys, err);
    if (!p->keys)
        return QN_E_MEMORY;
    for (uint64_t id = 0; id < t->vocab.n; id++) {
        const qn_tok_entry *e = &t->vocab.entry[id];
        if (!e->s)
            continue;
        for (uint64_t at = 0, n_last = 0, n; at < e->n; at += n_last = n) {
            n = qn_min_u64(qn_sp_char_bytes((uint8_t)e->s[at]), e->n - at);
            if (at)
                QN_TRY(add(p, t->alloc, key_of(e->s + at - n_last, n_last, e->s + at, n), err));
        }
    }
    return QN_OK;
}

bool qn_sp_pairs_has(const qn_sp_pairs *p, const char *a, uint64_t na, const char *b, uint64_t nb)
{
    return *place(p, key_of(a, na, b, nb)) != 0;
}
