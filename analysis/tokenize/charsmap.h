/* charsmap.h: precompiled_charsmap, the normalization table of sentencepiece: strings to look for, and what replaces each.
 *
 *     u32 n │ n bytes: a double-array trie of u32 units │ replacements, each NUL-terminated; a value is a position there
 *
 * A unit of the trie: bits 0–7 label, bit 31 a value (bits 0–30), bit 8 "a key ends here", bit 9 scale of the offset by 2^8,
 * bits 10–30 offset. From node i by byte c: i' = i ^ offset(i) ^ c, which must have the label c; its value stands at i' ^ offset(i').
 * Every step is compared with the number of units; a table may lead anywhere, never outside. */
#ifndef QN_ANALYSIS_TOKENIZE_CHARSMAP_H
#define QN_ANALYSIS_TOKENIZE_CHARSMAP_H

#include "quern/base.h"

typedef struct qn_charsmap {
    const uint8_t *units; /* borrowed; NULL: the empty table */
    uint64_t n_units;
    const char *texts;    /* borrowed; ends with a NUL       */
    uint64_t n_texts;
} qn_charsmap;

/* Over n bytes, which must outlive *m. 0 bytes are the empty table. */
qn_code qn_charsmap_init(qn_charsmap *m, const uint8_t *p, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* The longest (or shortest) key that s begins with: its length, 0 when none; *to, NUL-terminated: its replacement. */
uint64_t qn_charsmap_find(const qn_charsmap *m, const char *s, uint64_t n, bool shortest, const char **to);

#endif
