/* table.h: rows and columns that fit the terminal.
 *
 * All cells are kept until the end, because a column is as wide as its widest cell. When the table is wider than the
 * terminal, the one column marked `shrink` gives way: if it is the first (names), each text gets a line of its own above
 * the other cells; else texts are cut in the middle. Without a terminal nothing is cut. */
#ifndef QN_CLI_TABLE_H
#define QN_CLI_TABLE_H

#include "base/alloc.h"
#include "cli/term.h"

typedef struct qn_column {
    const char *title;
    bool right;  /* numbers */
    bool shrink;
} qn_column;

enum { QN_COLUMNS_MAX = 16 };

typedef struct qn_table {
    const qn_term *term;
    const qn_column *columns; /* borrowed */
    unsigned n_columns, indent;
    qn_arena *arena;
    const char **cells;       /* row by row, in blocks from the arena */
    uint64_t n_cells, cap_cells;
    const qn_alloc *alloc;
} qn_table;

void qn_table_init(qn_table *t, const qn_term *term, qn_arena *arena, const qn_column *columns, unsigned n_columns,
                   unsigned indent);
/* The next cell, row by row; the text is copied, control bytes are escaped. */
qn_code qn_table_cell(qn_table *t, qn_err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), warn_unused_result));
/* Prints and forgets the rows. */
void qn_table_print(qn_table *t);
void qn_table_release(qn_table *t);

#endif
