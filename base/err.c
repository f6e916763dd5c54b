/* err.c: see err.h. */
#include "base/err.h"
#include "base/path.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void qn_err_clear(qn_err *err)
{
    if (err)
        *err = (qn_err){.off = QN_NO_OFFSET};
}

/* Bytes at p that may go to a terminal as they are: a character that is neither a control (C0, DEL, C1) nor one of those
 * that turn the reading direction or the line (U+200E/F, U+2028 … 202E, U+2066 … 2069); 0 when there is none. */
static size_t plain_bytes(const unsigned char *p, size_t n)
{
    if (p[0] < 0x80)
        return p[0] >= 0x20 && p[0] != 0x7f;
    const size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (len > n || !qn_utf8_is_valid((const char *)p, len))
        return 0;
    if (p[0] == 0xc2 && p[1] < 0xa0)
        return 0;
    if (p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xa8 && p[2] <= 0xae)))
        return 0;
    if (p[0] == 0xe2 && p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9)
        return 0;
    return len;
}

void qn_printable(char *dst, size_t dst_bytes, const char *src, size_t src_bytes)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *p = (const unsigned char *)src;
    size_t at = 0;
    if (dst_bytes == 0)
        return;
    for (size_t i = 0; i < src_bytes;) {
        const size_t n = plain_bytes(p + i, src_bytes - i);
        if (at + (n ? n : 4) >= dst_bytes)
            break;
        if (n) {
            memcpy(dst + at, p + i, n);
            at += n;
            i += n;
        } else {
            dst[at++] = '\\';
            dst[at++] = 'x';
            dst[at++] = hex[p[i] >> 4];
            dst[at++] = hex[p[i] & 15];
            i++;
        }
    }
    dst[at] = '\0';
}

static void set_text(qn_err *err, qn_code code, int sys, uint64_t off, const char *file, int line, const char *fmt,
                     va_list ap)
{
    if (!err || err->code != QN_OK)
        return; /* the first cause wins */
    err->code = code;
    err->sys = sys;
    err->off = off;
    err->src_file = file;
    err->src_line = line;
    /* arguments may be words from a file: one line, whatever they hold */
    char raw[sizeof err->text];
    vsnprintf(raw, sizeof raw, fmt, ap);
    qn_printable(err->text, sizeof err->text, raw, strlen(raw));
}

qn_code qn_err_set(qn_err *err, qn_code code, int sys, uint64_t off, const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_text(err, code, sys, off, file, line, fmt, ap);
    va_end(ap);
    return code;
}

qn_code qn_err_bug(qn_err *err, const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_text(err, QN_E_BUG, 0, QN_NO_OFFSET, file, line, fmt, ap);
    va_end(ap);
#ifndef NDEBUG
    fprintf(stderr, "%s:%d: bug in quern\n", file, line);
    abort();
#endif
    return QN_E_BUG;
}

qn_code qn_err_in_path(qn_err *err, qn_code code, const char *path)
{
    if (code != QN_OK && err && err->path[0] == '\0' && path)
        qn_printable(err->path, sizeof err->path, path, strlen(path));
    return code;
}

qn_code qn_err_in_tensor(qn_err *err, qn_code code, const char *tensor)
{
    if (code != QN_OK && err && err->tensor[0] == '\0' && tensor)
        qn_printable(err->tensor, sizeof err->tensor, tensor, strlen(tensor));
    return code;
}

void qn_err_line(const qn_err *err, char *buf, size_t n_bytes)
{
    char at[40] = "", sys[160] = "";
    if (err->off != QN_NO_OFFSET)
        snprintf(at, sizeof at, " at byte 0x%llx", (unsigned long long)err->off);
    if (err->sys) {
        char why[128];
        /* the XSI form, not GNU's: fixed by _POSIX_C_SOURCE in meson.build */
        if (strerror_r(err->sys, why, sizeof why) != 0)
            snprintf(why, sizeof why, "errno %d", err->sys);
        snprintf(sys, sizeof sys, " (%s)", why);
    }
    const bool has_path = err->path[0] != '\0', has_tensor = err->tensor[0] != '\0';
    snprintf(buf, n_bytes, "%s%s%s%s%s%s%s%s%s", err->path, has_path && has_tensor ? ": " : "",
             has_tensor ? "tensor '" : "", err->tensor, has_tensor ? "'" : "", at,
             has_path || has_tensor || at[0] ? ": " : "", err->text, sys);
}
