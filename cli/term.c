/* term.c: see term.h. */
#define _DEFAULT_SOURCE
#include "cli/term.h"
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool env_set(const char *name)
{
    const char *v = getenv(name);
    return v && *v;
}

static unsigned columns(int fd)
{
    struct winsize w;
    const char *env = getenv("COLUMNS");
    const long v = env ? strtol(env, NULL, 10) : 0;
    if (v >= 20 && v <= 10000)
        return (unsigned)v;
    if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col >= 20)
        return w.ws_col;
    return 80;
}

qn_term qn_term_of(FILE *f, qn_color when)
{
    qn_term t = {.f = f, .is_tty = isatty(fileno(f)) == 1};
    const char *term = getenv("TERM");
    t.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    t.width = t.is_tty ? columns(fileno(f)) : 0;
    t.color = when == QN_COLOR_ALWAYS || (when == QN_COLOR_AUTO && t.is_tty && !env_set("NO_COLOR") && term &&
                                          strcmp(term, "dumb") != 0);
    return t;
}

const char *qn_term_bold(const qn_term *t)
{
    return t->color ? "\033[1m" : "";
}

const char *qn_term_red(const qn_term *t)
{
    return t->color ? "\033[31m" : "";
}

const char *qn_term_green(const qn_term *t)
{
    return t->color ? "\033[32m" : "";
}

const char *qn_term_dim(const qn_term *t)
{
    return t->color ? "\033[2m" : "";
}

const char *qn_term_plain(const qn_term *t)
{
    return t->color ? "\033[0m" : "";
}

size_t qn_text_width(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static size_t columns_of(const char *s, size_t n)
{
    size_t w = 0;
    for (size_t i = 0; i < n; i++)
        w += ((unsigned char)s[i] & 0xc0) != 0x80;
    return w;
}

void qn_text_wrap(FILE *f, const char *text, unsigned at, unsigned indent, unsigned width)
{
    size_t col = at;
    bool first = true; /* on this line */
    while (*text) {
        if (*text == '\n') {
            fprintf(f, "\n%*s", text[1] && text[1] != '\n' ? (int)indent : 0, "");
            col = indent;
            first = true;
            text++;
            continue;
        }
        const size_t n = strcspn(text, " \n"), w = columns_of(text, n);
        if (!first && col + 1 + w > width) {
            fprintf(f, "\n%*s", (int)indent, "");
            col = indent;
            first = true;
        }
        fprintf(f, "%s%.*s", first ? "" : " ", (int)n, text);
        col += w + !first;
        first = false;
        text += n;
        while (*text == ' ')
            text++;
    }
    fputc('\n', f);
}
