/* utf8.h: code points of text that is known to be UTF-8, and repair of text that is not. */
#ifndef QN_ANALYSIS_TOKENIZE_UTF8_H
#define QN_ANALYSIS_TOKENIZE_UTF8_H

#include "analysis/tokenize/tokenizer_impl.h"

/* The code point at p, of valid UTF-8; *n its bytes. */
static inline uint32_t qn_utf8_get(const char *p, unsigned *n)
{
    const uint8_t *b = (const uint8_t *)p;
    if (b[0] < 0x80) {
        *n = 1;
        return b[0];
    }
    if (b[0] < 0xe0) {
        *n = 2;
        return (uint32_t)(b[0] & 0x1f) << 6 | (b[1] & 0x3fu);
    }
    if (b[0] < 0xf0) {
        *n = 3;
        return (uint32_t)(b[0] & 0x0f) << 12 | (uint32_t)(b[1] & 0x3f) << 6 | (b[2] & 0x3fu);
    }
    *n = 4;
    return (uint32_t)(b[0] & 0x07) << 18 | (uint32_t)(b[1] & 0x3f) << 12 | (uint32_t)(b[2] & 0x3f) << 6 | (b[3] & 0x3fu);
}

/* Bytes of the character at p, of valid UTF-8. */
static inline unsigned qn_utf8_len(const char *p)
{
    const uint8_t b = (uint8_t)*p;
    return b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
}

/* Where the character begins that ends before p + n > p. */
static inline uint64_t qn_utf8_back(const char *p, uint64_t n)
{
    do
        n--;
    while (((uint8_t)p[n] & 0xc0) == 0x80);
    return n;
}

/* Writes c (a scalar value) at p, room for 4; returns the bytes. */
unsigned qn_utf8_put(char *p, uint32_t c);
/* Bytes at p that are valid UTF-8, up to the first fault. */
uint64_t qn_utf8_prefix(const char *p, uint64_t n);
/* Appends the text with every fault replaced by U+FFFD: one for each longest run of bytes that begins a character but does not
 * finish it, one for each other byte (the rule of the WHATWG Encoding standard and of Unicode, section 3.9, U+FFFD substitution
 * of maximal subparts). */
qn_code qn_utf8_repair(const char *p, uint64_t n, qn_tok_buf *out, qn_err *err) QN_MUST_CHECK;

/* Properties, by utf8proc. White_Space of Unicode: what \s and trimming mean. */
bool qn_uni_is_space(uint32_t c);
bool qn_uni_is_mark(uint32_t c);        /* M  */
bool qn_uni_is_nonspacing(uint32_t c);  /* Mn */
bool qn_uni_is_number(uint32_t c);      /* N  */
bool qn_uni_is_punctuation(uint32_t c); /* P, or ASCII that is neither letter nor digit nor control nor space */
bool qn_uni_is_word(uint32_t c);        /* letter, mark, number, connector: what may not stand beside a single_word token */

#endif
