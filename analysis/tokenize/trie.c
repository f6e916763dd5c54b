/* trie.c: see trie.h. */
#include "analysis/tokenize/trie.h"
#include "base/err.h"
#include "base/hash.h"
#include <string.h>

enum { EDGES_MIN = 512 };

qn_code qn_trie_init(qn_trie *t, const qn_alloc *a, uint64_t hash_key, qn_err *err)
{
    memset(t, 0, sizeof *t);
    t->alloc = a;
    t->hash_key = hash_key;
    t->n_nodes = 1;
    t->edges = qn_mem_zeros(a, EDGES_MIN, sizeof *t->edges, err);
    t->mask = EDGES_MIN - 1;
    return t->edges ? QN_OK : QN_E_MEMORY;
}

void qn_trie_release(qn_trie *t)
{
    qn_mem_put(t->alloc, t->edges);
    t->edges = NULL;
}

/* The edge under the key, or the free place where it belongs. */
static qn_trie_edge *edge_of(const qn_trie *t, uint64_t key)
{
    uint64_t i = qn_hash64_keyed(&key, sizeof key, t->hash_key) & t->mask;
    while (t->edges[i].key && t->edges[i].key != key)
        i = (i + 1) & t->mask;
    return &t->edges[i];
}

static qn_code grow(qn_trie *t, qn_err *err)
{
    qn_trie bigger = *t;
    const uint64_t n = (t->mask + 1) * 2;
    bigger.edges = qn_mem_zeros(t->alloc, n, sizeof *t->edges, err);
    if (!bigger.edges)
        return QN_E_MEMORY;
    bigger.mask = n - 1;
    for (uint64_t i = 0; i <= t->mask; i++)
        if (t->edges[i].key)
            *edge_of(&bigger, t->edges[i].key) = t->edges[i];
    qn_mem_put(t->alloc, t->edges);
    *t = bigger;
    return QN_OK;
}

qn_code qn_trie_add(qn_trie *t, const char *s, uint64_t n, uint32_t id, qn_err *err)
{
    uint32_t node = 0;
    qn_trie_edge *e = NULL;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t key = (uint64_t)node * 256 + (uint8_t)s[i] + 1;
        e = edge_of(t, key);
        if (!e->key) {
            if (t->n_nodes == UINT32_MAX)
                return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a vocabulary of more than 2^32 bytes");
            if (t->n_nodes > (t->mask + 1) / 2) {
                QN_TRY(grow(t, err));
                e = edge_of(t, key);
            }
            *e = (qn_trie_edge){.key = key, .to = t->n_nodes++, .id = QN_TRIE_NONE};
        }
        node = e->to;
    }
    if (e)
        e->id = id;
    return QN_OK;
}

void qn_trie_seal(qn_trie *t)
{
    for (uint32_t c = 0; c < 256; c++) {
        const qn_trie_edge *e = edge_of(t, (uint64_t)c + 1);
        t->root[c] = e->key ? (uint32_t)(e - t->edges) + 1 : 0;
    }
}

bool qn_trie_step(const qn_trie *t, uint32_t *node, uint8_t byte, uint32_t *id)
{
    const qn_trie_edge *e;
    if (*node == 0) {
        if (!t->root[byte])
            return false;
        e = &t->edges[t->root[byte] - 1];
    } else {
        e = edge_of(t, (uint64_t)*node * 256 + byte + 1);
        if (!e->key)
            return false;
    }
    *node = e->to;
    *id = e->id;
    return true;
}

uint64_t qn_trie_longest(const qn_trie *t, const char *s, uint64_t n, uint32_t *id)
{
    uint64_t found = 0;
    uint32_t node = 0, here;
    for (uint64_t i = 0; i < n && qn_trie_step(t, &node, (uint8_t)s[i], &here); i++)
        if (here != QN_TRIE_NONE) {
            *id = here;
            found = i + 1;
        }
    return found;
}
