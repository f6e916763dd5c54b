/* kern_grid.h: kernel of the grid codec (docs/codecs/grid.md): codes of 2 to 8 bits → floats, a row at a time.
 *
 *     v = (float)(2 · code − z2) × half          z2: twice the zero point; half: half the scale
 *
 * in IEEE binary32, then rounded to nearest even to the dtype. Codes lie one after the other from the lowest bit of the first
 * byte up. `half` is 0 or normal, |half| · 2^(bits + 1) is finite: no operand or product is subnormal. */
#ifndef QN_RUNTIME_KERN_GRID_H
#define QN_RUNTIME_KERN_GRID_H

#include "quern/base.h"

enum { QN_GRID_BITS_MIN = 2, QN_GRID_BITS_MAX = 8 };

/* What the kernels can write. */
typedef enum qn_grid_out { QN_GRID_F32, QN_GRID_BF16, QN_GRID_F16, QN_GRID_OUTS } qn_grid_out;

typedef struct qn_grid_row {
    const uint8_t *codes; /* ceil(n · bits / 8) bytes, and no more may be read */
    uint32_t n, group;    /* group g is units g · group …; the last may be shorter */
    unsigned bits;
    const float *half;    /* by group */
    const int32_t *z2;    /* by group */
} qn_grid_row;

/* Writes n units to dst, any alignment. */
typedef void (*qn_grid_fn)(const qn_grid_row *r, uint8_t *dst);

typedef struct qn_kern_grid {
    unsigned cpu;
    qn_grid_fn run[QN_GRID_OUTS];
} qn_kern_grid;

void qn_kern_grid_init(qn_kern_grid *k, unsigned cpu);

/* The C reference from unit `from` on: also the end of a row for the others, and all of it when groups are no multiple of 8. */
void qn_grid_run_c(qn_grid_out out, const qn_grid_row *r, uint32_t from, uint8_t *dst);

#if defined(__x86_64__) && defined(__GNUC__)
void qn_kern_grid_avx2(qn_kern_grid *k);
void qn_kern_grid_avx512(qn_kern_grid *k);
#endif

#endif
