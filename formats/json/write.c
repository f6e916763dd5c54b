/* write.c (json): see write.h. */
#include "formats/json/write.h"
#include "base/path.h"
#include <math.h>
#include <string.h>

size_t qn_json_utf8(const char *s)
{
    const unsigned char c = (unsigned char)*s;
    const size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80)
            return 0;
    return n && qn_utf8_is_valid(s, n) ? n : 0;
}

static void quoted(qn_textbuf *t, const char *s)
{
    qn_textbuf_char(t, '"');
    while (*s) {
        const size_t n = qn_json_utf8(s);
        const unsigned char c = (unsigned char)*s;
        if (n == 0)
            qn_textbuf_puts(t, "\\ufffd");
        else if (c == '"' || c == '\\')
            qn_textbuf_format(t, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            qn_textbuf_format(t, "\\u%04x", c);
        else
            qn_textbuf_add(t, s, n);
        s += n ? n : 1;
    }
    qn_textbuf_char(t, '"');
}

static void key_of(qn_json_out *j, const char *key)
{
    if (j->depth && j->flat)
        qn_textbuf_puts(j->t, j->first ? "" : ", ");
    else if (j->depth)
        qn_textbuf_format(j->t, "%s\n%*s", j->first ? "" : ",", (int)(2 * j->depth), "");
    j->first = false;
    if (key) {
        quoted(j->t, key);
        qn_textbuf_puts(j->t, ": ");
    }
}

void qn_json_out_begin(qn_json_out *j, const char *key, char bracket)
{
    key_of(j, key);
    qn_textbuf_char(j->t, bracket);
    j->depth++;
    j->first = true;
}

void qn_json_out_end(qn_json_out *j, char bracket)
{
    j->depth--;
    if (!j->first && !j->flat)
        qn_textbuf_format(j->t, "\n%*s", (int)(2 * j->depth), "");
    qn_textbuf_char(j->t, bracket);
    j->first = false;
    if (j->depth == 0)
        qn_textbuf_char(j->t, '\n');
}

void qn_json_out_text(qn_json_out *j, const char *key, const char *v)
{
    key_of(j, key);
    if (v)
        quoted(j->t, v);
    else
        qn_textbuf_puts(j->t, "null");
}

void qn_json_out_u64(qn_json_out *j, const char *key, uint64_t v)
{
    key_of(j, key);
    qn_textbuf_format(j->t, "%llu", (unsigned long long)v);
}

void qn_json_out_real(qn_json_out *j, const char *key, double v)
{
    key_of(j, key);
    if (isnan(v))
        qn_textbuf_puts(j->t, "null");
    else if (isinf(v))
        qn_textbuf_puts(j->t, v > 0 ? "\"inf\"" : "\"-inf\"");
    else
        qn_textbuf_format(j->t, "%.17g", v);
}

void qn_json_out_bool(qn_json_out *j, const char *key, bool v)
{
    key_of(j, key);
    qn_textbuf_puts(j->t, v ? "true" : "false");
}
