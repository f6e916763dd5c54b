/* quantizer_tab.c: one row per quantizer. */
#include "compress/quantizer.h"
#include "base/err.h"
#include <string.h>

const qn_quantizer_row qn_quantizer_tab[] = {
    {"grid", 8, qn_quantizer_grid},
    {"pvq", 4.25, qn_quantizer_pvq},
};
const unsigned qn_quantizer_count = sizeof qn_quantizer_tab / sizeof qn_quantizer_tab[0];

qn_code qn_quantizer_open(const char *name, const qn_quant_settings *set, unsigned cpu, qn_arena *arena, const qn_quantizer **out,
                          qn_err *err)
{
    for (unsigned i = 0; i < qn_quantizer_count; i++) {
        if (strcmp(qn_quantizer_tab[i].name, name) != 0)
            continue;
        qn_quantizer *q = qn_arena_get(arena, sizeof *q, 64, err);
        if (!q)
            return QN_E_MEMORY;
        *q = (qn_quantizer){.name = qn_quantizer_tab[i].name};
        qn_kern_init(&q->kern, cpu);
        qn_ekern_init(&q->ekern, cpu);
        QN_TRY(qn_quantizer_tab[i].open(q, set, arena, err));
        *out = q;
        return QN_OK;
    }
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "no codec called %s that approximates", name);
}

double qn_quantizer_bits_most(const char *name)
{
    for (unsigned i = 0; i < qn_quantizer_count; i++)
        if (strcmp(qn_quantizer_tab[i].name, name) == 0)
            return qn_quantizer_tab[i].bits_most;
    return 0;
}
