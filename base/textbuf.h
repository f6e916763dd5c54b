/* textbuf.h: a text that grows: what reports are put together in before they go to a file or a stream.
 *
 * Adding never fails on the spot: when memory is gone the buffer remembers it, takes nothing more, and qn_textbuf_check tells. */
#ifndef QN_BASE_TEXTBUF_H
#define QN_BASE_TEXTBUF_H

#include "base/alloc.h"

typedef struct qn_textbuf {
    const qn_alloc *alloc;
    char *text;   /* NUL-terminated once anything was added; NULL before */
    uint64_t n, cap; /* bytes, without the NUL */
    qn_err err;   /* QN_OK, or why it stopped */
} qn_textbuf;

void qn_textbuf_init(qn_textbuf *t, const qn_alloc *alloc);
void qn_textbuf_add(qn_textbuf *t, const char *s, uint64_t n);
void qn_textbuf_puts(qn_textbuf *t, const char *s);
void qn_textbuf_char(qn_textbuf *t, char c);
void qn_textbuf_u64(qn_textbuf *t, uint64_t v); /* in decimal */
void qn_textbuf_format(qn_textbuf *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool qn_textbuf_failed(const qn_textbuf *t)
{
    return t->err.code != QN_OK;
}

/* The failure of any call so far. */
qn_code qn_textbuf_check(const qn_textbuf *t, qn_err *err) QN_MUST_CHECK;
void qn_textbuf_release(qn_textbuf *t);

#endif
