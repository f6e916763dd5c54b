/* grid.h: the parts of a GRID payload, for decoder and encoder. docs/codecs/grid.md. */
#ifndef QN_RUNTIME_GRID_H
#define QN_RUNTIME_GRID_H

#include "base/shape.h"
#include "runtime/kern_grid.h"

enum { QN_GRID_EXPONENT_MAX = 100 };

/* Where zero lies among the codes 0 … 2^bits − 1. */
enum { QN_GRID_ZERO_LEVEL = 0, /* at 2^(bits − 1): zero is a level             */
       QN_GRID_ZERO_MIDDLE = 1, /* between the two middle codes: symmetric      */
       QN_GRID_ZERO_STORED = 2, /* at a code of its own for each group          */
       QN_GRID_ZEROS = 3 };

enum { QN_GRID_PACKED = 0, QN_GRID_NESTED = 1, QN_GRID_FORMS = 2 };

typedef struct qn_grid_head {
    unsigned bits, zero, form;
    int exponent;   /* scales are multiplied by 2^exponent */
    uint32_t group;
} qn_grid_head;

static inline bool qn_grid_dtype(qn_dtype t)
{
    return t == QN_F32 || t == QN_BF16 || t == QN_F16;
}

static inline qn_grid_out qn_grid_out_of(qn_dtype t)
{
    return t == QN_F32 ? QN_GRID_F32 : t == QN_BF16 ? QN_GRID_BF16 : QN_GRID_F16;
}

static inline size_t qn_grid_row_bytes(uint32_t n, unsigned bits)
{
    return (size_t)(((uint64_t)n * bits + 7) / 8);
}

#endif
