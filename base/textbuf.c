/* textbuf.c: see textbuf.h. */
#include "base/textbuf.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void qn_textbuf_init(qn_textbuf *t, const qn_alloc *alloc)
{
    *t = (qn_textbuf){.alloc = alloc};
}

/* Room for n more bytes and the NUL. */
static bool room(qn_textbuf *t, uint64_t n)
{
    bool over = false;
    const uint64_t want = qn_add(qn_add(t->n, n, &over), 1, &over);
    if (t->err.code != QN_OK)
        return false;
    if (over) {
        (void)QN_FAIL(&t->err, QN_E_MEMORY, QN_NO_OFFSET, "a text is too long");
        return false;
    }
    if (want <= t->cap)
        return true;
    char *p = qn_mem_grow(t->alloc, t->text, t->n, &t->cap, want, 1, &t->err);
    if (!p)
        return false;
    t->text = p;
    return true;
}

void qn_textbuf_add(qn_textbuf *t, const char *s, uint64_t n)
{
    if (!room(t, n))
        return;
    memcpy(t->text + t->n, s, n);
    t->n += n;
    t->text[t->n] = '\0';
}

void qn_textbuf_puts(qn_textbuf *t, const char *s)
{
    qn_textbuf_add(t, s, strlen(s));
}

void qn_textbuf_char(qn_textbuf *t, char c)
{
    qn_textbuf_add(t, &c, 1);
}

void qn_textbuf_u64(qn_textbuf *t, uint64_t v)
{
    qn_textbuf_format(t, "%" PRIu64, v);
}

void qn_textbuf_format(qn_textbuf *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !room(t, (uint64_t)n))
        return;
    va_start(ap, fmt);
    (void)vsnprintf(t->text + t->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->n += (uint64_t)n;
}

qn_code qn_textbuf_check(const qn_textbuf *t, qn_err *err)
{
    return t->err.code == QN_OK ? QN_OK : QN_FAIL(err, t->err.code, QN_NO_OFFSET, "%s", t->err.text);
}

void qn_textbuf_release(qn_textbuf *t)
{
    qn_mem_put(t->alloc, t->text);
    *t = (qn_textbuf){.alloc = t->alloc};
}
