/* write.h (json): JSON as the values come, into a growing text or anywhere else: numbers come back bit for bit.
 * Members of objects have a key; elements of arrays are written with key NULL. Strings must be UTF-8; what is not becomes U+FFFD, byte
 * by byte. NaN is null, the infinities are the strings "inf" and "-inf". */
#ifndef QN_FORMATS_JSON_WRITE_H
#define QN_FORMATS_JSON_WRITE_H

#include "base/textbuf.h"

typedef struct qn_json_out {
    void (*put)(void *to, const char *s, size_t n); /* failures are the receiver's to remember */
    void *to;
    unsigned depth;
    bool first; /* nothing yet in the innermost object or array */
    bool flat;  /* no line breaks until it is cleared: rows of tables of numbers */
} qn_json_out;

qn_json_out qn_json_out_open(void (*put)(void *to, const char *s, size_t n), void *to);
qn_json_out qn_json_out_of(qn_textbuf *t);
void qn_json_out_begin(qn_json_out *j, const char *key, char bracket); /* '{' or '[' */
void qn_json_out_end(qn_json_out *j, char bracket);                    /* '}' or ']' */
void qn_json_out_text(qn_json_out *j, const char *key, const char *v); /* NULL: null */
void qn_json_out_u64(qn_json_out *j, const char *key, uint64_t v);
void qn_json_out_real(qn_json_out *j, const char *key, double v);
void qn_json_out_bool(qn_json_out *j, const char *key, bool v);
void qn_json_out_raw(qn_json_out *j, const char *key, const char *v); /* JSON already */

/* A string with its quotes, escaped as safetensors' reference writer does: bytes from 0x20 on stay as they are. */
void qn_json_string(qn_textbuf *t, const char *s);

#endif
