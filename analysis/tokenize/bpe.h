/* bpe.h: byte-pair encoding: the merges of a vocabulary, and how a piece is merged. For model_bpe.c and bpe_merge.c. */
#ifndef QN_ANALYSIS_TOKENIZE_BPE_H
#define QN_ANALYSIS_TOKENIZE_BPE_H

#include "analysis/tokenize/tokenizer_impl.h"

enum {
    QN_BPE_SINGLE = 0x180,   /* characters below this have their id in a table      */
    QN_BPE_BRIDGE_BITS = 20, /* log2 of the bits that remember which characters meet */
    QN_BPE_AFFIX_MAX = 64    /* bytes of prefix or suffix                            */
};

typedef struct qn_bpe_slot {
    uint64_t pair; /* left id << 32 | right id; ~0: free */
    uint32_t rank, id;
} qn_bpe_slot;

typedef struct qn_bpe {
    qn_bpe_slot *slots; /* owned; open addressing, linear probing */
    uint64_t mask, key;
    /* Bit h(a, b): some merge joins a token that ends in character a to one that begins with b. Where the bit is clear no merge
     * ever crosses, so a long piece can be cut there without changing the result. */
    uint64_t *bridges; /* owned; NULL: there is a prefix or suffix, and nothing is cut */
    uint32_t single[QN_BPE_SINGLE];
    const char *prefix, *suffix; /* continuing_subword_prefix, end_of_word_suffix; in the arena */
    uint64_t n_prefix, n_suffix;
    bool byte_fallback, fuse_unk, ignore_merges;
    qn_digest merges; /* of (left, right, rank) in order */
} qn_bpe;

static inline uint64_t qn_bpe_hash(uint64_t pair, uint64_t key)
{
    uint64_t h = (pair ^ key) * 0x9e3779b97f4a7c15u;
    h ^= h >> 32;
    return (h * 0xd6e8feb86659fd93u) >> 20;
}

static inline const qn_bpe_slot *qn_bpe_find(const qn_bpe *b, uint32_t left, uint32_t right)
{
    const uint64_t pair = (uint64_t)left << 32 | right;
    uint64_t i = qn_bpe_hash(pair, b->key) & b->mask;
    for (; b->slots[i].pair != UINT64_MAX; i = (i + 1) & b->mask)
        if (b->slots[i].pair == pair)
            return &b->slots[i];
    return NULL;
}

static inline uint32_t qn_bpe_bridge(uint32_t a, uint32_t b)
{
    return (a * 0x9e3779b1u ^ b * 0x85ebca77u) >> (32 - QN_BPE_BRIDGE_BITS);
}

/* Appends the ids of a piece. */
qn_code qn_bpe_encode(const qn_tokenizer *t, qn_tok_scratch *s, const char *piece, uint64_t n, qn_tokens *out,
                      qn_err *err) QN_MUST_CHECK;

#endif
