/* trie.h: byte strings to numbers, walked byte by byte: all the strings of a vocabulary that begin at a place of a text are
 * found in one walk. Edges stand in one open-addressing table under (node, byte); its hash is keyed, as in base/names.h, so
 * that no vocabulary can be made to collide. */
#ifndef QN_ANALYSIS_TOKENIZE_TRIE_H
#define QN_ANALYSIS_TOKENIZE_TRIE_H

#include "base/alloc.h"

#define QN_TRIE_NONE UINT32_MAX

typedef struct qn_trie_edge {
    uint64_t key; /* node · 256 + byte + 1; 0 = free      */
    uint32_t to;  /* node                                 */
    uint32_t id;  /* of the string that ends here, or none */
} qn_trie_edge;

typedef struct qn_trie {
    const qn_alloc *alloc;
    qn_trie_edge *edges; /* owned */
    uint64_t mask, hash_key;
    uint32_t n_nodes;    /* the root is 0 */
    uint32_t root[256];  /* its edges' places + 1, made by qn_trie_seal */
} qn_trie;

/* hash_key: a random number (qn_tok_vocab has one). */
qn_code qn_trie_init(qn_trie *t, const qn_alloc *a, uint64_t hash_key, qn_err *err) QN_MUST_CHECK;
void qn_trie_release(qn_trie *t); /* a zeroed one is fine */
/* n > 0. The last id counts when a string is added again. */
qn_code qn_trie_add(qn_trie *t, const char *s, uint64_t n, uint32_t id, qn_err *err) QN_MUST_CHECK;
/* After the last add. */
void qn_trie_seal(qn_trie *t);
/* One step from *node (0 to begin with): false when it leads nowhere. *id: QN_TRIE_NONE where no string ends. */
bool qn_trie_step(const qn_trie *t, uint32_t *node, uint8_t byte, uint32_t *id);
/* Length of the longest string that s begins with, 0 when none; *id its number. */
uint64_t qn_trie_longest(const qn_trie *t, const char *s, uint64_t n, uint32_t *id);

#endif
