/* kern_vq_tmpl.h: the vq kernel for LANES (8 or 16) columns at a time, included once per instruction set by a file that defines
 * TARGET, LANES, NAME(x), VEC (the vector of floats) and, on it, quads(book, place): four coordinates of the centroids of columns
 * 0, 4, 8, … at place[0], place[4], …; pairs(book, place): two coordinates each of columns 0, 1, 4, 5, 8, 9, …; low, high, low_pairs,
 * high_pairs: unpack within 128 bits; evens, odds: of two vectors, within 128 bits; add, mul, all(x); load(p); store(t, to, v).
 *
 * Vectors down the columns become rows by a 4 × 4 transposition in each 128 bits. */
#include "runtime/kern_vq_field.h"
#include "runtime/widths.h"
#include <string.h>

#define INLINE TARGET static inline __attribute__((always_inline))

enum { NAME(PIECE) = 256 };

typedef uint32_t NAME(u32) __attribute__((vector_size(4 * LANES)));

INLINE NAME(u32) NAME(read)(const uint32_t *p)
{
    NAME(u32) v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Places of the centroids of n columns, n a multiple of LANES. Two walks: a vector that is read right behind the small writes that
 * made it would wait for them. */
INLINE void NAME(places)(const qn_vq_strip *s, uint32_t from, uint32_t n, uint32_t *main, uint32_t *residual)
{
    const qn_vq_fields *a = &s->at;
    uint32_t field[NAME(PIECE)];
    if (s->bytes_all) {
        const uint32_t base = a->base[0];
        for (uint32_t i = 0; i < n; i++)
            main[i] = base + s->bytes[from + i] * s->v;
        return;
    }
    if (s->n_bytes - a->byte[from + n - 1] >= 4)
        for (uint32_t i = 0; i < n; i++)
            field[i] = qn_load32(s->bytes + a->byte[from + i]);
    else
        for (uint32_t i = 0; i < n; i++)
            field[i] = qn_vq_field(s, from + i);
    for (uint32_t i = 0; i < n; i += LANES) {
        const uint32_t j = from + i;
        const NAME(u32) f = NAME(read)(field + i);
        const NAME(u32) at = NAME(read)(a->base + j) + (f >> NAME(read)(a->shift + j) & NAME(read)(a->mask + j)) * s->v;
        memcpy(main + i, &at, sizeof at);
        if (residual) {
            const NAME(u32) at2 = NAME(read)(a->base2 + j) + (f >> NAME(read)(a->shift2 + j) & NAME(read)(a->mask2 + j)) * s->v;
            memcpy(residual + i, &at2, sizeof at2);
        }
    }
}

/* Rows of four coordinates from `place` on. */
INLINE void NAME(four)(const float *book, const uint32_t *place, VEC *row)
{
    const VEC a = quads(book, place), b = quads(book, place + 1), c = quads(book, place + 2), d = quads(book, place + 3);
    const VEC ab = low(a, b), cd = low(c, d), ab2 = high(a, b), cd2 = high(c, d);
    row[0] = low_pairs(ab, cd);
    row[1] = high_pairs(ab, cd);
    row[2] = low_pairs(ab2, cd2);
    row[3] = high_pairs(ab2, cd2);
}

/* Both rows of vectors of two. */
INLINE void NAME(two)(const float *book, const uint32_t *place, VEC *row)
{
    const VEC a = pairs(book, place), b = pairs(book, place + 2);
    row[0] = evens(a, b);
    row[1] = odds(a, b);
}

/* Columns of one piece, rows i0 … i0 + n_rows − 1, of which `m` are wanted. */
INLINE void NAME(columns)(const qn_vq_strip *s, qn_dtype t, uint32_t i0, unsigned n_rows, uint32_t m, uint32_t at, uint32_t n,
                          const uint32_t *main, const uint32_t *residual, uint8_t *dst, size_t row_bytes)
{
    const size_t unit = t == QN_F32 ? 4 : 2;
    for (uint32_t c = 0; c < n; c += LANES) {
        VEC x[4], y[4];
        const VEC scale = mul(all(s->row), load(s->col + at + c));
        if (n_rows == 2)
            NAME(two)(s->book, main + c, x);
        else
            NAME(four)(s->book + i0, main + c, x);
        if (residual) {
            if (n_rows == 2)
                NAME(two)(s->book, residual + c, y);
            else
                NAME(four)(s->book + i0, residual + c, y);
            for (unsigned i = 0; i < n_rows; i++)
                x[i] = add(x[i], y[i]);
        }
        uint8_t *to = dst + i0 * row_bytes + (at + c) * unit;
        for (unsigned i = 0; i < n_rows; i++)
            if (i < m)
                store(t, to + i * row_bytes, mul(x[i], scale));
    }
}

INLINE void NAME(rows)(const qn_vq_strip *s, qn_dtype t, uint32_t m, uint8_t *dst, size_t row_bytes)
{
    const uint32_t whole = s->cols / LANES * LANES;
    for (uint32_t at = 0; at < whole; at += NAME(PIECE)) {
        uint32_t main[NAME(PIECE)], residual[NAME(PIECE)];
        const uint32_t n = whole - at < NAME(PIECE) ? whole - at : NAME(PIECE);
        const uint32_t *second = s->at.base2 ? residual : NULL;
        NAME(places)(s, at, n, main, second ? residual : NULL);
        if (s->v == 2)
            NAME(columns)(s, t, 0, 2, m, at, n, main, second, dst, row_bytes);
        else if (m % 4 == 0)
            for (uint32_t i = 0; i < m; i += 4)
                NAME(columns)(s, t, i, 4, 4, at, n, main, second, dst, row_bytes);
        else
            for (uint32_t i = 0; i < m; i += 4)
                NAME(columns)(s, t, i, 4, m - i, at, n, main, second, dst, row_bytes);
    }
    if (whole < s->cols)
        qn_vq_rows_from(s, t, m, whole, dst, row_bytes);
}

TARGET static void NAME(any)(const qn_vq_strip *s, qn_dtype t, uint32_t m, uint8_t *dst, size_t row_bytes)
{
    if (t == QN_F32)
        NAME(rows)(s, QN_F32, m, dst, row_bytes);
    else if (t == QN_BF16)
        NAME(rows)(s, QN_BF16, m, dst, row_bytes);
    else
        NAME(rows)(s, QN_F16, m, dst, row_bytes);
}
