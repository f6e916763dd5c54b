/* quantizer_tab.c: one row per quantizer. */
#include "compress/quantizer.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/blocks/quant_blocks.h"
#include "runtime/container.h"
#include <string.h>

const qn_quantizer_row qn_quantizer_tab[] = {
    {"ect", 16, 16, qn_quantizer_ect},
    {"fp8", 16, 16, qn_quantizer_fp8},
    {"grid", 8, 8, qn_quantizer_grid},
    /* rows of an embedding are looked up one at a time and differ in length: no vectors across them */
    {"pvq", 4.25, 0, qn_quantizer_pvq},
    {"vq", 8, 0, qn_quantizer_vq}, /* likewise */
    {"trellis", 8, 0, qn_quantizer_trellis},
};
const unsigned qn_quantizer_count = sizeof qn_quantizer_tab / sizeof qn_quantizer_tab[0];

/* One for all block types, which have names of their own. */
static const qn_quantizer_row of_blocks = {"blocks", 16, 16, qn_quantizer_blocks};

const qn_quantizer_row *qn_quantizer_find(const char *name)
{
    for (unsigned i = 0; i < qn_quantizer_count; i++)
        if (strcmp(qn_quantizer_tab[i].name, name) == 0)
            return qn_quantizer_tab + i;
    return qn_blocks_bits(name) > 0 ? &of_blocks : NULL;
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
    const qn_block_coder *coder = qn_block_coder_find(name);
    *q = (qn_quantizer){.name = coder ? coder->name : row->name};
    qn_kern_init(&q->kern, cpu);
    qn_ekern_init(&q->ekern, cpu);
    QN_TRY(row->open(q, set, arena, err));
    *out = q;
    return QN_OK;
}

uint32_t qn_quantizer_segment_rows(const qn_quantizer *q, qn_dtype t, const uint64_t *dims)
{
    const uint64_t row_bytes = dims[1] * qn_unit_bytes(t);
    if (!q->segment_bytes)
        return (uint32_t)(qn_chunk_units(t, dims, 2, dims[0] * row_bytes) / dims[1]);
    const uint64_t most = qn_min_u64(q->segment_bytes, QN_CHUNK_MAX_BYTES) / row_bytes;
    const uint64_t n = qn_ceil_div(dims[0], qn_max_u64(1, most)); /* equally large ones */
    const uint64_t rows = qn_ceil_div(dims[0], n), multiple = q->row_multiple;
    if (n == 1 || multiple <= 1 || most < multiple)
        return (uint32_t)rows;
    const uint64_t up = qn_ceil_div(rows, multiple) * multiple;
    return (uint32_t)(up <= most ? up : most / multiple * multiple);
}
