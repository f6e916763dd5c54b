/* quantizer_tab.c: one row per quantizer. */
#include "compress/quantizer.h"
#include "base/err.h"
#include <string.h>

const qn_quantizer_row qn_quantizer_tab[] = {
    {"ect", 16, 16, qn_quantizer_ect},
    {"grid", 8, 8, qn_quantizer_grid},
    /* rows of an embedding are looked up one at a time and differ in length: no vectors across them */
    {"pvq", 4.25, 0, qn_quantizer_pvq},
    {"vq", 8, 0, qn_quantizer_vq}, /* likewise */
    {"trellis", 8, 0, qn_quantizer_trellis},
};
const unsigned qn_quantizer_count = sizeof qn_quantizer_tab / sizeof qn_quantizer_tab[0];

const qn_quantizer_row *qn_quantizer_find(const char *name)
{
    for (unsigned i = 0; i < qn_quantizer_count; i++)
        if (strcmp(qn_quantizer_tab[i].name, name) == 0)
            return qn_quantizer_tab + i;
    return NULL;
}

qn_code qn_quantizer_open(const char *name, const qn_quant_settings *set, unsigned cpu, qn_arena *arena, const qn_quantizer **out,
                          qn_err *err)
{
    const qn_quantizer_row *row = qn_quantizer_find(name);
    if (!row)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "no codec called %s that approximates", name);
    qn_quantizer *q = qn_arena_get(arena, sizeof *q, 64, err);
    if (!q)
        return QN_E_MEMORY;
    *q = (qn_quantizer){.name = row->name};
    qn_kern_init(&q->kern, cpu);
    qn_ekern_init(&q->ekern, cpu);
    QN_TRY(row->open(q, set, arena, err));
    *out = q;
    return QN_OK;
}
