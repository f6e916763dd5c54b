/* write.c (json): see write.h. */
#include "formats/json/write.h"
#include "base/path.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void to_text(void *to, const char *s, size_t n)
{
    qn_textbuf_add(to, s, n);
}

qn_json_out qn_json_out_open(void (*put)(void *to, const char *s, size_t n), void *to)
{
    return (qn_json_out){.put = put, .to = to, .first = true};
}

qn_json_out qn_json_out_of(qn_textbuf *t)
{
    return qn_json_out_open(to_text, t);
}

static void puts_of(qn_json_out *j, const char *s)
{
    j->put(j->to, s, strlen(s));
}

/* Length of the well-formed UTF-8 sequence at s, 0 when there is none. */
static size_t sequence(const char *s)
{
    const unsigned char c = (unsigned char)*s;
    const size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80)
            return 0;
    return n && qn_utf8_is_valid(s, n) ? n : 0;
}

static void quoted(qn_json_out *j, const char *s)
{
    puts_of(j, "\"");
    while (*s) {
        const size_t n = sequence(s);
        const unsigned char c = (unsigned char)*s;
        char escaped[8];
        if (n == 0) {
            puts_of(j, "\\ufffd");
        } else if (c == '"' || c == '\\') {
            snprintf(escaped, sizeof escaped, "\\%c", c);
            puts_of(j, escaped);
        } else if (c < 0x20 || c == 0x7f) {
            snprintf(escaped, sizeof escaped, "\\u%04x", c);
            puts_of(j, escaped);
        } else {
            j->put(j->to, s, n);
        }
        s += n ? n : 1;
    }
    puts_of(j, "\"");
}

static void new_line(qn_json_out *j)
{
    puts_of(j, "\n");
    for (unsigned i = 0; i < j->depth; i++)
        puts_of(j, "  ");
}

static void key_of(qn_json_out *j, const char *key)
{
    if (j->depth && !j->first)
        puts_of(j, j->flat ? ", " : ",");
    if (j->depth && !j->flat)
        new_line(j);
    j->first = false;
    if (key) {
        quoted(j, key);
        puts_of(j, ": ");
    }
}

void qn_json_out_begin(qn_json_out *j, const char *key, char bracket)
{
    key_of(j, key);
    j->put(j->to, &bracket, 1);
    j->depth++;
    j->first = true;
}

void qn_json_out_end(qn_json_out *j, char bracket)
{
    j->depth--;
    if (!j->first && !j->flat)
        new_line(j);
    j->put(j->to, &bracket, 1);
    j->first = false;
    if (j->depth == 0)
        puts_of(j, "\n");
}

void qn_json_out_raw(qn_json_out *j, const char *key, const char *v)
{
    key_of(j, key);
    puts_of(j, v);
}

void qn_json_out_text(qn_json_out *j, const char *key, const char *v)
{
    key_of(j, key);
    if (v)
        quoted(j, v);
    else
        puts_of(j, "null");
}

void qn_json_out_u64(qn_json_out *j, const char *key, uint64_t v)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, v);
    qn_json_out_raw(j, key, digits);
}

void qn_json_out_real(qn_json_out *j, const char *key, double v)
{
    char number[40];
    snprintf(number, sizeof number, "%.17g", v);
    qn_json_out_raw(j, key, isnan(v) ? "null" : isinf(v) ? v > 0 ? "\"inf\"" : "\"-inf\"" : number);
}

void qn_json_out_bool(qn_json_out *j, const char *key, bool v)
{
    qn_json_out_raw(j, key, v ? "true" : "false");
}

void qn_json_string(qn_textbuf *t, const char *s)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    qn_textbuf_puts(t, "\"");
    while (*s) {
        const size_t plain = strcspn(s, "\"\\\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14"
                                        "\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f");
        qn_textbuf_add(t, s, plain);
        s += plain;
        if (!*s)
            break;
        char esc[16] = {'\\'};
        const char *at = strchr(from, *s);
        if (at)
            esc[1] = to[at - from];
        else
            snprintf(esc, sizeof esc, "\\u%04x", (unsigned)(unsigned char)*s);
        qn_textbuf_puts(t, esc);
        s++;
    }
    qn_textbuf_puts(t, "\"");
}
