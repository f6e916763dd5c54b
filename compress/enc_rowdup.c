/* enc_rowdup.c: repeated rows. First the leading bytes of the rows are counted, which reads one cache line a row; only
 * when enough of them repeat are whole rows hashed, and rows are only called equal after comparison. */
#include "base/err.h"
#include "base/hash.h"
#include "base/num.h"
#include "compress/nest.h"
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

qn_code qn_enc_rowdup(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                      size_t *n_out, qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const uint32_t n_rows = b->n / b->cols, tail = b->n % b->cols;
    const size_t row_bytes = (size_t)b->cols * unit;
    const qn_arena_mark mark = qn_arena_tell(cx->scratch);
    struct rows t;
    *n_out = 0;
    if (!qn_nest_allowed(cx) || n_rows < 2 || row_bytes < ROW_MIN_BYTES || !worth_hashing(src, n_rows, row_bytes))
        return QN_OK;
    QN_TRY(rows_open(&t, cx->scratch, n_rows, err));
    uint32_t *map = qn_arena_get(cx->scratch, n_rows * sizeof *map, 64, err);
    uint32_t *first = qn_arena_get(cx->scratch, n_rows * sizeof *first, 64, err);
    if (!map || !first)
        return QN_E_MEMORY;
    const uint32_t n_unique = match(&t, src, n_rows, row_bytes, map, first);
    if (n_unique < n_rows) {
        const bool wide = n_unique > 65536;
        const qn_block mb = {wide ? QN_U32 : QN_U16, n_rows, n_rows};
        const qn_block ub = {b->dtype, n_unique * b->cols + tail, b->cols};
        uint8_t *steps = qn_arena_get(cx->scratch, (size_t)n_rows * 4, 64, err);
        uint8_t *rows = qn_arena_get(cx->scratch, (size_t)ub.n * unit, 64, err);
        if (!steps || !rows)
            return QN_E_MEMORY;
        put_steps(map, n_rows, wide, steps);
        for (uint32_t u = 0; u < n_unique; u++)
            memcpy(rows + u * row_bytes, src + first[u] * row_bytes, row_bytes);
        memcpy(rows + n_unique * row_bytes, src + n_rows * row_bytes, (size_t)tail * unit);
        qn_sink s = qn_sink_over(dst, cap);
        qn_sink_varint(&s, n_unique);
        QN_TRY(qn_nest_encode(cx, &s, &mb, steps, false, err));
        QN_TRY(qn_nest_encode(cx, &s, &ub, rows, true, err));
        *n_out = s.full ? 0 : s.n;
    }
    qn_arena_rewind(cx->scratch, mark);
    return QN_OK;
}
