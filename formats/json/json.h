/* json.h: a strict streaming JSON tokenizer. Holds a window of the text and one string, never a tree, so a header of any
 * size is read in bounded memory. Strict: RFC 8259 with nothing added (no comments, no trailing commas, no BOM),
 * UTF-8 checked, surrogate escapes must pair, no NUL in strings.
 *
 *     qn_json j;  QN_TRY(qn_json_open(&j, alloc, read, ctx, off, n_bytes, err));
 *     while ((rc = qn_json_next(&j, &tok, err)) == QN_OK && tok != QN_JSON_END) …
 *     qn_json_release(&j);
 */
#ifndef QN_FORMATS_JSON_JSON_H
#define QN_FORMATS_JSON_JSON_H

#include "base/alloc.h"

enum {
    QN_JSON_DEPTH_MAX = 32,
    QN_JSON_STRING_MAX = 8192 /* bytes kept of a string; `cut` tells when there were more */
};

typedef enum qn_json_token {
    QN_JSON_END, /* the one top-level value is complete and only spaces follow */
    QN_JSON_OBJECT,
    QN_JSON_OBJECT_END,
    QN_JSON_ARRAY,
    QN_JSON_ARRAY_END,
    QN_JSON_KEY, /* text, and the colon after it is consumed */
    QN_JSON_STRING,
    QN_JSON_NUMBER,
    QN_JSON_TRUE,
    QN_JSON_FALSE,
    QN_JSON_NULL
} qn_json_token;

/* n bytes of the text from byte `off` of the file. */
typedef qn_code (*qn_json_read_fn)(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err);

typedef struct qn_json {
    /* valid after KEY and STRING, until the next call: NUL-terminated UTF-8 */
    char *text;
    size_t n_text;
    bool cut;
    /* valid after NUMBER: is_uint when written as a plain non-negative integer below 2^64 */
    uint64_t number;
    bool is_uint;
    double real; /* valid after NUMBER when read_reals is set: the nearest double */
    uint64_t token_off; /* where the token begins */
    /* may be set between open and the first call */
    bool read_reals, allow_nul; /* fill `real`; take \u0000 in strings (n_text tells the length) */
    /* private */
    const qn_alloc *alloc;
    qn_json_read_fn read;
    void *ctx;
    uint64_t next_off, end_off; /* not yet read part of the text */
    uint8_t *win; /* owned, with the text's first room behind it */
    size_t win_n, win_at;
    char *long_text; /* owned: room of a text that outgrew the first */
    uint64_t text_cap, text_max;
    unsigned depth, state;
    uint8_t is_object[QN_JSON_DEPTH_MAX];
} qn_json;

/* The text is n_bytes from byte off of what `read` reads; offsets in errors are positions there. */
qn_code qn_json_open(qn_json *j, const qn_alloc *alloc, qn_json_read_fn read, void *ctx, uint64_t off, uint64_t n_bytes,
                     qn_err *err) QN_MUST_CHECK;
qn_code qn_json_next(qn_json *j, qn_json_token *tok, qn_err *err) QN_MUST_CHECK;
/* After `tok`, a token that may begin a value: passes over the rest of that value. */
qn_code qn_json_skip(qn_json *j, qn_json_token tok, qn_err *err) QN_MUST_CHECK;
/* Keeps up to `max` bytes of a string instead of QN_JSON_STRING_MAX; the room grows with what is read. */
void qn_json_text_limit(qn_json *j, uint64_t max);
void qn_json_release(qn_json *j);

#endif
