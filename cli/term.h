/* term.h: what the two output streams are connected to. */
#ifndef QN_CLI_TERM_H
#define QN_CLI_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef enum qn_color { QN_COLOR_AUTO = 0, QN_COLOR_ALWAYS = 1, QN_COLOR_NEVER = 2 } qn_color;

typedef struct qn_term {
    FILE *f;
    bool is_tty;
    bool color;     /* a terminal that wants it: not NO_COLOR, not TERM=dumb; or as --color says  */
    bool utf8;      /* the locale's encoding                                                      */
    unsigned width; /* columns; 0 when it is not a terminal: then nothing is cut                  */
} qn_term;

qn_term qn_term_of(FILE *f, qn_color when);

/* Terminal sequences, or "" where colour is off. */
const char *qn_term_bold(const qn_term *t);
const char *qn_term_red(const qn_term *t);
const char *qn_term_green(const qn_term *t);
const char *qn_term_dim(const qn_term *t);
const char *qn_term_plain(const qn_term *t);

/* Columns that a UTF-8 text takes: code points, which is right for all but wide East Asian letters. */
size_t qn_text_width(const char *s);
/* Prints text wrapped to `width` columns, each line after the first indented; words longer than a line stay whole.
 * `at` is the column where the first line begins. Newlines in text begin a new line. */
void qn_text_wrap(FILE *f, const char *text, unsigned at, unsigned indent, unsigned width);

#endif
