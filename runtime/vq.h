/* vq.h: what decoder and encoder of the vq codec share: docs/codecs/vq.md. */
#ifndef QN_RUNTIME_VQ_H
#define QN_RUNTIME_VQ_H

#include "base/num.h"
#include "base/shape.h"
#include "quern/base.h"

enum {
    QN_VQ_CLASSES = 64,     /* most classes of columns                          */
    QN_VQ_VECTOR_MAX = 16,  /* rows of a vector: 2, 4, 6, 8, 12, 16               */
    QN_VQ_BITS = 12,        /* most bits of an index                            */
    QN_VQ_CONSTANT_BITS = 8 /* books of more centroids are always stored        */
};

#define QN_VQ_BASE_MIN 0x1p-64f
#define QN_VQ_BASE_MAX 0x1p+64f

enum { QN_VQ_STORED = 1 }; /* flag of a class: its first book is in the payload */

static inline bool qn_vq_dtype(qn_dtype t)
{
    return t == QN_F32 || t == QN_F16 || t == QN_BF16;
}

static inline bool qn_vq_vector_ok(unsigned v)
{
    return v == 2 || v == 4 || v == 6 || v == 8 || v == 12 || v == 16;
}

/* What `fine` can be: 16 or 32 codes to an octave, or 32 whose scales have 8 significant bits (F16 and BF16 hold them both). */
enum { QN_VQ_COARSE = 0, QN_VQ_FINE = 1, QN_VQ_SHORT = 2 };

/* Scale of a code: 0 for 0, else 2^((code − 255) / (16 or 32)) in 25 or 8 significant bits. */
float qn_vq_scale(uint8_t code, unsigned fine);

/* The constant book of 2^bits centroids of v coordinates, in units of 1/4096; NULL when there is none: v is 2, 4 or 8 and bits 1 … 8. */
const int16_t *qn_vq_constant(unsigned v, unsigned bits);

/* f32 factor of a vector's coordinates: the row's part first. */
static inline float qn_vq_factor(float base, float row, float col)
{
    return base * row * col;
}

#endif
