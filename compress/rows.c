/* rows.c: see rows.h. First the leading bytes of the rows are counted, which reads one cache line a row; only
 * when enough of them repeat are whole rows hashed, and rows are only called equal after comparison. */
#include "compress/rows.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/num.h"
#include <string.h>

enum { ROW_MIN_BYTES = 16, SCAN_SLOTS = 1024 };

/* Row numbers in an open-addressing table by hash; 0 is empty, else 1 + number. */
struct rows {
    uint32_t *slot;
    uint64_t mask;
};

static qn_code rows_open(struct rows *t, qn_arena *scratch, uint32_t n_rows, qn_err *err)
{
    uint64_t n = 16;
    while (n < (uint64_t)n_rows * 2)
        n *= 2;
    t->mask = n - 1;
    t->slot = qn_arena_get(scratch, n * sizeof *t->slot, 64, err);
    if (!t->slot)
        return QN_E_MEMORY;
    memset(t->slot, 0, (size_t)n * sizeof *t->slot);
    return QN_OK;
}

/* Do at least 1 in 32 of the rows begin like an earlier one? Rows are picked by what they begin with, not by place,
 * so that of equal rows all are picked or none. A row may begin with zeros without being a copy: its middle counts too. */
static bool worth_hashing(const uint8_t *src, uint32_t n_rows, size_t row_bytes)
{
    uint64_t slot[SCAN_SLOTS] = {0};
    uint32_t picked = 0, repeats = 0;
    const size_t middle = row_bytes / 2 & ~(size_t)7;
    uint32_t odds = 0; /* picked when the low bits of the hash are zero: about SCAN_SLOTS / 4 rows */
    while (n_rows >> odds > SCAN_SLOTS / 4)
        odds++;
    for (uint32_t r = 0; r < n_rows && picked < SCAN_SLOTS / 2; r++) {
        const uint8_t *p = src + r * row_bytes;
        uint64_t h = (qn_load64(p) ^ (qn_load64(p + middle) * 0xc2b2ae3d27d4eb4fu)) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
        if (h & ((1u << odds) - 1))
            continue;
        h |= 1;
        uint32_t i = (uint32_t)(h >> 54);
        while (slot[i] && slot[i] != h)
            i = (i + 1) % SCAN_SLOTS;
        repeats += slot[i] == h;
        slot[i] = h;
        picked++;
    }
    return repeats > 0 && repeats >= picked / 32;
}

/* map[r] = which unique row, first[u] = where it was first seen. */
static uint32_t match(const struct rows *t, const uint8_t *src, uint32_t n_rows, size_t row_bytes, uint32_t *map,
                      uint32_t *first)
{
    uint32_t n_unique = 0;
    for (uint32_t r = 0; r < n_rows; r++) {
        const uint8_t *p = src + r * row_bytes;
        uint64_t i = qn_hash64(p, row_bytes) & t->mask;
        while (t->slot[i] && memcmp(src + first[t->slot[i] - 1] * row_bytes, p, row_bytes) != 0)
            i = (i + 1) & t->mask;
        if (!t->slot[i]) {
            first[n_unique++] = r;
            t->slot[i] = n_unique;
        }
        map[r] = t->slot[i] - 1;
    }
    return n_unique;
}

/* The map as steps: 0 for "the unique row after the previous row's", which new rows and copied runs both are. */
static void put_steps(const uint32_t *map, uint32_t n_rows, bool wide, uint8_t *out)
{
    uint32_t last = UINT32_MAX;
    for (uint32_t r = 0; r < n_rows; r++) {
        const uint32_t step = map[r] - last - 1;
        if (wide)
            qn_store32(out + 4 * (size_t)r, step);
        else
            qn_store16(out + 2 * (size_t)r, (uint16_t)step);
        last = map[r];
    }
}

qn_code qn_rows_match(qn_rows *m, const uint8_t *src, uint32_t n_rows, size_t row_bytes, qn_arena *scratch, qn_err *err)
{
    struct rows t;
    *m = (qn_rows){.n_rows = n_rows, .n_unique = n_rows};
    if (n_rows < 2 || row_bytes < ROW_MIN_BYTES || !worth_hashing(src, n_rows, row_bytes))
        return QN_OK;
    QN_TRY(rows_open(&t, scratch, n_rows, err));
    m->map = qn_arena_get(scratch, n_rows * sizeof *m->map, 64, err);
    m->first = m->map ? qn_arena_get(scratch, n_rows * sizeof *m->first, 64, err) : NULL;
    if (!m->first)
        return QN_E_MEMORY;
    m->n_unique = match(&t, src, n_rows, row_bytes, m->map, m->first);
    return QN_OK;
}

qn_code qn_rows_put_map(const qn_enc_ctx *cx, qn_sink *s, const qn_rows *m, qn_err *err)
{
    const bool wide = m->n_unique > 65536;
    const qn_block mb = {wide ? QN_U32 : QN_U16, m->n_rows, m->n_rows};
    uint8_t *steps = qn_arena_get(cx->scratch, (size_t)m->n_rows * 4, 64, err);
    if (!steps)
        return QN_E_MEMORY;
    put_steps(m->map, m->n_rows, wide, steps);
    qn_sink_varint(s, m->n_unique);
    return qn_nest_encode(cx, s, &mb, steps, false, err);
}
