/* table.c: see table.h. */
#include "cli/table.h"
#include "base/err.h"
#include <stdarg.h>
#include <string.h>

enum { GAP = 2, SHRINK_MIN = 12 };

void qn_table_init(qn_table *t, const qn_term *term, qn_arena *arena, const qn_column *columns, unsigned n_columns,
                   unsigned indent)
{
    *t = (qn_table){.term = term, .arena = arena, .columns = columns, .n_columns = n_columns, .indent = indent,
                    .alloc = arena->alloc};
}

qn_code qn_table_cell(qn_table *t, qn_err *err, const char *fmt, ...)
{
    char raw[1200], text[1280];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    qn_printable(text, sizeof text, raw, strlen(raw));
    const char **grown = qn_mem_grow(t->alloc, t->cells, t->n_cells, &t->cap_cells, t->n_cells + 1, sizeof *grown, err);
    if (!grown)
        return QN_E_MEMORY;
    t->cells = grown;
    t->cells[t->n_cells] = qn_arena_str(t->arena, text, strlen(text), err);
    if (!t->cells[t->n_cells])
        return QN_E_MEMORY;
    t->n_cells++;
    return QN_OK;
}

static const char *skip_columns(const char *s, size_t n)
{
    while (*s && n > 0) {
        s++;
        while (((unsigned char)*s & 0xc0) == 0x80)
            s++;
        n--;
    }
    return s;
}

static void print_cut(const qn_term *term, const char *s, size_t width)
{
    const char *dots = term->utf8 ? "\xe2\x80\xa6" : "..";
    const size_t n = qn_text_width(s), gap = term->utf8 ? 1 : 2;
    const size_t tail = (width - gap) * 2 / 3, head = width - gap - tail; /* ends tell more than beginnings */
    fprintf(term->f, "%.*s%s%s", (int)(skip_columns(s, head) - s), s, dots, skip_columns(s, n - tail));
}

static void print_row(const qn_table *t, const char *const *cells, const size_t *widths, const char *on, const char *off)
{
    FILE *f = t->term->f;
    fprintf(f, "%*s%s", (int)t->indent, "", on);
    for (unsigned c = 0; c < t->n_columns; c++) {
        const size_t w = qn_text_width(cells[c]);
        const int pad = w < widths[c] ? (int)(widths[c] - w) : 0;
        if (t->columns[c].right)
            fprintf(f, "%*s", pad, "");
        if (w > widths[c])
            print_cut(t->term, cells[c], widths[c]);
        else
            fputs(cells[c], f);
        if (c + 1 < t->n_columns)
            fprintf(f, "%*s", (t->columns[c].right ? 0 : pad) + GAP, "");
    }
    fprintf(f, "%s\n", off);
}

/* A line of its own for the first cell, the others below it. */
static void print_stacked(const qn_table *t, const char *const *cells, const size_t *widths)
{
    const char *below[QN_COLUMNS_MAX] = {""};
    const size_t room = t->term->width > t->indent + SHRINK_MIN ? t->term->width - t->indent : SHRINK_MIN;
    fprintf(t->term->f, "%*s", (int)t->indent, "");
    if (qn_text_width(cells[0]) > room)
        print_cut(t->term, cells[0], room);
    else
        fputs(cells[0], t->term->f);
    fputc('\n', t->term->f);
    for (unsigned c = 1; c < t->n_columns; c++)
        below[c] = cells[c];
    print_row(t, below, widths, "", "");
}

/* Makes the table fit. True when that would cut into the first column: names that are cut cannot be told apart, so they
 * get lines of their own instead. */
static bool shrink(const qn_table *t, size_t *widths)
{
    size_t total = t->indent;
    for (unsigned c = 0; c < t->n_columns; c++)
        total += widths[c] + (c ? GAP : 0);
    if (t->term->width == 0 || total <= t->term->width)
        return false;
    if (t->columns[0].shrink) {
        widths[0] = t->columns[0].title ? qn_text_width(t->columns[0].title) : 0;
        return true;
    }
    const size_t over = total - t->term->width;
    for (unsigned c = 0; c < t->n_columns; c++)
        if (t->columns[c].shrink && widths[c] > SHRINK_MIN)
            widths[c] = widths[c] > over + SHRINK_MIN ? widths[c] - over : SHRINK_MIN;
    return false;
}

void qn_table_print(qn_table *t)
{
    size_t widths[QN_COLUMNS_MAX];
    const char *titles[QN_COLUMNS_MAX];
    bool titled = false;
    for (unsigned c = 0; c < t->n_columns; c++) {
        titles[c] = t->columns[c].title ? t->columns[c].title : "";
        titled = titled || *titles[c];
        widths[c] = qn_text_width(titles[c]);
    }
    for (uint64_t i = 0; i < t->n_cells; i++) {
        const size_t w = qn_text_width(t->cells[i]);
        size_t *const widest = &widths[i % t->n_columns];
        *widest = w > *widest ? w : *widest;
    }
    const bool stacked = shrink(t, widths);
    if (titled)
        print_row(t, titles, widths, qn_term_bold(t->term), qn_term_plain(t->term));
    for (uint64_t i = 0; i + t->n_columns <= t->n_cells; i += t->n_columns)
        if (stacked)
            print_stacked(t, t->cells + i, widths);
        else
            print_row(t, t->cells + i, widths, "", "");
    t->n_cells = 0;
}

void qn_table_release(qn_table *t)
{
    qn_mem_put(t->alloc, t->cells);
    t->cells = NULL;
    t->n_cells = t->cap_cells = 0;
}
