/* options.h: one table per command says what its options are. Parsing, help, man pages and shell completion all come
 * from it, so they cannot disagree.
 *
 * The rules of the line: options anywhere, `--name=value` or `--name value`, `-x value` or `-xvalue`, flags may be
 * joined (`-qf`), `--` ends options, names are never abbreviated, and an option that is not a list is given once. */
#ifndef QN_CLI_OPTIONS_H
#define QN_CLI_OPTIONS_H

#include "base/alloc.h"

typedef enum qn_option_type {
    QN_OPT_FLAG = 0, /* bool                                                           */
    QN_OPT_TEXT,     /* const char *, borrowed from argv                               */
    QN_OPT_PATH,     /* const char *; shells complete file names                       */
    QN_OPT_TEXTS,    /* qn_texts: may be given several times                           */
    QN_OPT_COUNT,    /* uint64_t within min … max                                      */
    QN_OPT_SIZE,     /* uint64_t bytes within min … max: 4096, 512M, 1.5G, 2GB         */
    QN_OPT_REAL,     /* double within min … max                                        */
    QN_OPT_CHOICE    /* int: position in `choices`                                     */
} qn_option_type;

typedef struct qn_texts {
    const char **items; /* array from the arena, strings borrowed from argv */
    unsigned n;
} qn_texts;

typedef struct qn_option {
    const char *name;           /* long name without dashes                                                   */
    char letter;                /* short name, 0: none                                                        */
    uint8_t type;               /* qn_option_type                                                             */
    size_t at;                  /* offsetof the value in the command's arguments                              */
    const char *arg;            /* what help calls the value: "FILE"; NULL for flags                          */
    const char *help;           /* one or two sentences, no trailing full stop                                */
    const char *fallback;       /* the value when it is not given, as a user would type it; NULL: zero        */
    const char *implied;        /* the value of a bare `--name`: then a value must be joined with '='; or NULL */
    const char *const *choices; /* CHOICE: NULL-terminated                                                    */
    uint64_t min, max;          /* COUNT, SIZE, REAL; max 0: no limit                                          */
} qn_option;

/* Tables are searched in order; a command's own come before the common ones. */
typedef struct qn_option_table {
    const qn_option *rows;
    unsigned n;
} qn_option_table;

#define QN_OPTION_TABLE(array) ((qn_option_table){(array), sizeof(array) / sizeof((array)[0])})

typedef struct qn_operands {
    const char **items; /* array from the arena, strings borrowed from argv */
    unsigned n;
} qn_operands;

/* Where a failed parse leaves a second line for the user; "" when it has none. */
typedef struct qn_hint {
    char text[320];
} qn_hint;
void qn_hint_set(qn_hint *hint, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Writes defaults and then what argv says into `args`. QN_E_USAGE for what is wrong with the line; `who` (the command)
 * begins the message. */
qn_code qn_options_parse(const qn_option_table *tables, unsigned n_tables, const char *who, int argc, char **argv,
                         qn_arena *arena, void *args, qn_operands *operands, qn_hint *hint, qn_err *err) QN_MUST_CHECK;

/* "-o, --output=FILE" as help and man pages print it. */
void qn_option_spelling(const qn_option *o, char *buf, size_t n_bytes);

#endif
