/* trellis.h: the trellis codec (docs/codecs/trellis.md): its code, and the order in which words of bits are stored.
 *
 * A column is a string of K bits for each row, its first bit the highest. The weight of row t is a function of the *window*:
 * the L bits that end with row t's own. So the windows of a column are a path through a trellis of 2^(L−K) nodes (the bits that
 * are still in sight), and the number of a window says where the path is (Mao et al. 2024, "bitshift trellis"). The code is
 * computed: the four bytes of window × multiplier, added. They are nearly normal in number, and integers.
 *
 * Rows come in tiles of 32, so that a column takes exactly K words of 32 bits for each tile; columns come in groups of 16 lanes. Within a tile
 * a group's words are stored in the order in which a decoder that goes down all lanes at once runs out of bits: before row t
 * every lane takes a word whose window would end beyond the one it has. Lanes need not have one K. */
#ifndef QN_RUNTIME_TRELLIS_H
#define QN_RUNTIME_TRELLIS_H

#include "base/shape.h"
#include "runtime/kern_trellis.h"

enum { QN_TRELLIS_L_MIN = 10, QN_TRELLIS_L_MAX = 16 };

/* Smallest and largest step but 0: no operand or product is subnormal or infinite. */
#define QN_TRELLIS_STEP_MIN 0x1p-100f
#define QN_TRELLIS_STEP_MAX 0x1p+100f

/* A group of n lanes, each with its K: everything but `last` and `step`, which are zeros. Lanes of K = 0 stay at window 1 with the
 * multiplier 0x83DCD12D: 95 times a step of 0. The window before the first word is `last`. */
void qn_trellis_group_make(qn_trellis_group *g, unsigned log2_windows, const uint8_t *k, uint32_t n);

/* Words of the group for a tile of that many rows, 1 … 32. */
static inline uint32_t qn_trellis_words(const qn_trellis_group *g, uint32_t rows)
{
    return g->at[rows - 1] + (uint32_t)__builtin_popcount(g->refill[rows - 1]);
}

/* Place, among the group's words of a tile, of the i-th word that the lane takes in it; i < K. */
static inline uint32_t qn_trellis_place(const qn_trellis_group *g, uint32_t lane, uint32_t i)
{
    const uint32_t t = QN_TRELLIS_TILE * i / g->k[lane];
    return g->at[t] + (uint32_t)__builtin_popcount(g->refill[t] & ((1u << lane) - 1));
}

/* [L − 10][K − 1]: constants of the format. */
extern const uint32_t qn_trellis_multiplier[QN_TRELLIS_L_MAX - QN_TRELLIS_L_MIN + 1][QN_TRELLIS_K_MAX];

static inline bool qn_trellis_dtype(qn_dtype t)
{
    return t == QN_F32 || t == QN_BF16 || t == QN_F16;
}

static inline qn_trellis_out qn_trellis_out_of(qn_dtype t)
{
    return t == QN_F32 ? QN_TRELLIS_F32 : t == QN_BF16 ? QN_TRELLIS_BF16 : QN_TRELLIS_F16;
}

#endif
