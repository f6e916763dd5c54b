/* dequant.h: what both sides of DEQUANT share: how rows are cut into groups, and the multiplication.
 * The encoder calls the same functions to see whether a group comes out bit for bit. */
#ifndef QN_RUNTIME_DEQUANT_H
#define QN_RUNTIME_DEQUANT_H

#include "runtime/codec.h"

/* Grids that codes stand on. Numbers are part of the format. */
enum {
    QN_GRID_I8 = 0,     /* −128 … 127; zero points are already subtracted                */
    QN_GRID_E4M3 = 1,
    QN_GRID_E5M2 = 2,
    QN_GRID_I8_BIAS = 3, /* as I8, and a second f32 for each group is added              */
    QN_GRID_COUNT = 4
};

enum { QN_GROUP_MIN = 8 };

/* Groups do not cross rows: each row is cut every `group` units, and its last group may be short. */
typedef struct qn_groups {
    uint32_t n, cols, group, per_row;
    uint32_t count; /* all of them */
} qn_groups;

static inline qn_groups qn_groups_of(const qn_block *b, uint32_t group)
{
    const uint32_t per_row = (b->cols - 1) / group + 1, tail = b->n % b->cols;
    return (qn_groups){.n = b->n,
                       .cols = b->cols,
                       .group = group,
                       .per_row = per_row,
                       .count = b->n / b->cols * per_row + (tail ? (tail - 1) / group + 1 : 0)};
}

/* First unit and length of group g < count. */
static inline uint32_t qn_group_at(const qn_groups *gs, uint32_t g, uint32_t *len)
{
    const uint32_t row = g / gs->per_row * gs->cols, at = g % gs->per_row * gs->group;
    const uint32_t in_row = gs->n - row < gs->cols ? gs->n - row : gs->cols;
    *len = in_row - at < gs->group ? in_row - at : gs->group;
    return row + at;
}

/* F32 (C64 halves too), BF16 and F16. */
static inline bool qn_dequant_dtype(qn_dtype t)
{
    return t == QN_F32 || t == QN_C64 || t == QN_BF16 || t == QN_F16;
}

/* len units of dtype t: fl32(code × scale), then + bias in QN_GRID_I8_BIAS (rounded again), then rounded to t, all to
 * nearest even. scale and bias are finite. False when a code is not a finite number. */
bool qn_dequant_group(qn_dtype t, unsigned grid, const uint8_t *codes, uint32_t len, float scale, float bias,
                      uint8_t *dst);

#endif
