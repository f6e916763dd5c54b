/* export.c: what every target uses of a job: rows and notes of its report. */
#include "compress/export/export.h"
#include "base/err.h"
#include "base/num.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const qn_export_target *qn_export_target_find(const char *name, size_t n_bytes)
{
    for (unsigned i = 0; qn_export_targets[i]; i++)
        if (strlen(qn_export_targets[i]->name) == n_bytes && memcmp(qn_export_targets[i]->name, name, n_bytes) == 0)
            return qn_export_targets[i];
    return NULL;
}

qn_code qn_export_note(qn_export_job *j, const qn_export_row *row, qn_err *err)
{
    if (j->n_rows == j->cap_rows) {
        const uint64_t cap = j->cap_rows ? 2 * j->cap_rows : 64;
        qn_export_row *rows = qn_arena_get(j->arena, cap * sizeof *rows, 8, err);
        if (!rows)
            return QN_E_MEMORY;
        if (j->n_rows)
            memcpy(rows, j->rows, j->n_rows * sizeof *rows);
        j->rows = rows;
        j->cap_rows = cap;
    }
    j->rows[j->n_rows++] = *row;
    return QN_OK;
}

void qn_export_say(qn_export_job *j, const char *fmt, ...)
{
    char text[301];
    qn_err ignored = {0};
    if (j->n_notes == sizeof j->notes / sizeof j->notes[0])
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (unsigned i = 0; i < j->n_notes; i++)
        if (strcmp(j->notes[i], text) == 0)
            return; /* planning said it already */
    const char *kept = qn_arena_str(j->arena, text, strlen(text), &ignored);
    if (kept)
        j->notes[j->n_notes++] = kept;
}
