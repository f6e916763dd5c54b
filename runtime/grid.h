/* grid.h: the parts of a GRID payload, for decoder and encoder. docs/codecs/grid.md. */
#ifndef QN_RUNTIME_GRID_H
#define QN_RUNTIME_GRID_H

#include "runtime/dequant.h"

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

/* A payload's parts, checked. They are in the payload or in scratch. */
typedef struct qn_grid_parts {
    qn_grid_head head;
    qn_groups groups;
    const uint8_t *scales; /* groups.count of binary16                                  */
    const uint8_t *zeros;  /* groups.count; NULL: all are at qn_grid_zero2              */
    const uint8_t *codes;  /* row by row, row_bytes each; a short last row has fewer    */
    unsigned bits;         /* of a code as it lies there: head.bits or 8                */
    size_t row_bytes;
} qn_grid_parts;

qn_code qn_grid_open(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_grid_parts *out,
                     qn_err *err) QN_MUST_CHECK;

/* n codes, one a byte → `bits` bits each, ceil(n · bits / 8) bytes. */
void qn_grid_pack(const uint8_t *codes, uint32_t n, unsigned bits, uint8_t *dst);

/* Twice the zero point, where it is not stored. */
static inline int32_t qn_grid_zero2(const qn_grid_head *h)
{
    return h->zero == QN_GRID_ZERO_LEVEL ? 1 << h->bits : (1 << h->bits) - 1;
}

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
