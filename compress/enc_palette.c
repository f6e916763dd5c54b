/* enc_palette.c: few distinct values. The table is sorted as unsigned integers, so that equal blocks give equal
 * bytes; ordinary weights show their 257th value after about as many units, which makes the test free. */
#include "base/err.h"
#include "base/num.h"
#include "compress/nest.h"
#include <string.h>

enum { SLOTS = 1024, MAX_VALUES = 256 };

struct palette {
    uint64_t value[MAX_VALUES];
    uint16_t slot[SLOTS]; /* 0: empty, else 1 + entry */
    unsigned count;
};

static uint64_t get_unit(const uint8_t *p, unsigned unit)
{
    switch (unit) {
    case 1:
        return *p;
    case 2:
        return qn_load16(p);
    case 4:
        return qn_load32(p);
    default:
        return qn_load64(p);
    }
}

/* Entry of v, entered when new; MAX_VALUES when there is no room. */
static unsigned find(struct palette *p, uint64_t v)
{
    uint32_t h = (uint32_t)(v * 0x9e3779b97f4a7c15u >> 54);
    for (; p->slot[h]; h = (h + 1) % SLOTS)
        if (p->value[p->slot[h] - 1] == v)
            return p->slot[h] - 1u;
    if (p->count == MAX_VALUES)
        return MAX_VALUES;
    p->value[p->count++] = v;
    p->slot[h] = (uint16_t)p->count;
    return p->count - 1;
}

static bool fill(struct palette *p, const uint8_t *src, uint32_t n, unsigned unit, unsigned limit)
{
    uint64_t last = ~get_unit(src, unit);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t v = get_unit(src + (size_t)i * unit, unit);
        if (v != last && (find(p, v) == MAX_VALUES || p->count > limit))
            return false;
        last = v;
    }
    return true;
}

static void sort(struct palette *p, uint8_t rank[MAX_VALUES])
{
    uint8_t order[MAX_VALUES];
    for (unsigned i = 0; i < p->count; i++) {
        unsigned at = i;
        for (; at > 0 && p->value[order[at - 1]] > p->value[i]; at--)
            order[at] = order[at - 1];
        order[at] = (uint8_t)i;
    }
    for (unsigned i = 0; i < p->count; i++)
        rank[order[i]] = (uint8_t)i;
}

qn_code qn_enc_palette(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                       size_t *n_out, qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const qn_arena_mark mark = qn_arena_tell(cx->scratch);
    uint8_t rank[MAX_VALUES], table[MAX_VALUES * 8];
    *n_out = 0;
    if (!qn_nest_allowed(cx) || b->n < 8)
        return QN_OK;
    struct palette *p = qn_arena_get(cx->scratch, sizeof *p, 64, err);
    uint8_t *index = qn_arena_get(cx->scratch, b->n, 64, err);
    if (!p || !index)
        return QN_E_MEMORY;
    memset(p, 0, sizeof *p);
    /* indices of a byte pay only when they pack; a table must not cost what it saves */
    if (fill(p, src, b->n, unit, unit == 1 ? 16 : MAX_VALUES) && p->count < b->n / 2) {
        sort(p, rank);
        for (unsigned i = 0; i < p->count; i++)
            for (unsigned k = 0; k < unit; k++)
                table[rank[i] * unit + k] = (uint8_t)(p->value[i] >> 8 * k);
        const unsigned bits = p->count <= 2 ? 1 : p->count <= 4 ? 2 : p->count <= 16 ? 4 : 8, per = 8 / bits;
        const uint32_t packed = (b->n + per - 1) / per;
        memset(index, 0, packed);
        uint64_t last = 0;
        unsigned r = 0;
        for (uint32_t i = 0; i < b->n; i++) {
            const uint64_t v = get_unit(src + (size_t)i * unit, unit);
            if (v != last || i == 0)
                r = rank[find(p, v)];
            last = v;
            index[i / per] |= (uint8_t)(r << i % per * bits);
        }
        qn_sink s = qn_sink_over(dst, cap);
        const qn_block ib = {QN_U8, packed, bits == 8 ? b->cols : packed};
        qn_sink_u8(&s, p->count - 1);
        qn_sink_put(&s, table, (size_t)p->count * unit);
        QN_TRY(qn_nest_encode(cx, &s, &ib, index, false, err));
        *n_out = s.full ? 0 : s.n;
    }
    qn_arena_rewind(cx->scratch, mark);
    return QN_OK;
}
