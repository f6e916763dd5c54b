/* bytelevel.h: the map of bytes to printable characters that GPT-2 began and byte-level vocabularies are written in.
 * Bytes 0x21–0x7E, 0xA1–0xAC, 0xAE–0xFF stand for themselves as code points; the other 68, in order, for U+0100 … U+0143. */
#ifndef QN_ANALYSIS_TOKENIZE_BYTELEVEL_H
#define QN_ANALYSIS_TOKENIZE_BYTELEVEL_H

#include "analysis/tokenize/tokenizer_json.h"

enum { QN_BYTELEVEL_CHARS = 0x144 }; /* code points below this may stand for a byte */

/* The character of byte b as UTF-8, n bytes (1 or 2). */
typedef struct qn_bytelevel_char {
    char s[3];
    uint8_t n;
} qn_bytelevel_char;

typedef struct qn_bytelevel {
    qn_bytelevel_char of_byte[256];
    int16_t to_byte[QN_BYTELEVEL_CHARS]; /* by code point; −1: stands for no byte */
} qn_bytelevel;

void qn_bytelevel_init(qn_bytelevel *b);
qn_code qn_bytelevel_put(const qn_bytelevel *b, const char *s, uint64_t n, qn_tok_buf *out, qn_err *err) QN_MUST_CHECK;
/* Appends the bytes that s (UTF-8) stands for; *all = false, and nothing appended, when a character stands for none. */
qn_code qn_bytelevel_bytes(const qn_bytelevel *b, const char *s, uint64_t n, qn_tok_buf *out, bool *all, qn_err *err) QN_MUST_CHECK;

qn_code qn_tok_build_bytelevel_pre(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err) QN_MUST_CHECK;
qn_code qn_tok_build_bytelevel_norm(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err) QN_MUST_CHECK;
qn_code qn_tok_build_bytelevel_dec(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err) QN_MUST_CHECK;

#endif
