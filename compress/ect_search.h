/* ect_search.h: the path through the trellis that costs least: distortion + λ · bits. Tables: runtime/ect.h.
 *
 * Costs are whole numbers (1/512 of a squared step) from f32 arithmetic in a fixed order, so that the path is the same on
 * every machine. Viterbi's algorithm with sums of 16 bits that saturate and are renewed every eighth row. */
#ifndef QN_COMPRESS_ECT_SEARCH_H
#define QN_COMPRESS_ECT_SEARCH_H

#include "base/alloc.h"
#include "runtime/kern_ect.h"

#define QN_ECT_LEVEL_MAX 30000 /* no |level| beyond that is chosen */
#define QN_ECT_COST_MAX  8191  /* of a branch: eight of them still are below 2^16 */
#define QN_ECT_ESCAPE_BITS (QN_ECT_BITS + 16)

/* A shape's tables as the encoder needs them. Read-only once made. */
typedef struct qn_ect_book {
    qn_ect_code code;
    unsigned shape, top, kind;
    float lambda;                         /* squared steps a bit                   */
    float len[QN_ECT_TABS][QN_ECT_SYMS];  /* bits; QN_ECT_ESCAPE_BITS for escapes  */
    float point[QN_ECT_TABS][QN_ECT_SYMS]; /* as the decoder has them              */
    uint16_t freq[QN_ECT_TABS][QN_ECT_SYMS];
    float far[QN_ECT_CLASSES];            /* offset of levels that are escaped     */
} qn_ect_book;

/* lambda ≤ 0: the slope of the rate-distortion function. */
void qn_ect_book_make(qn_ect_book *b, unsigned log2_states, unsigned shape, float lambda);

/* One row's four branches: subset d = 2z + (k & 1). Costs are over the smallest of the four. */
typedef struct qn_ect_branch {
    uint16_t cost[4];
    int16_t level[4];
} qn_ect_branch;

/* One Viterbi run: rows branches → levels. decisions: rows × max(states, 8) / 8 bytes. */
typedef void (*qn_ect_viterbi_fn)(const qn_ect_code *code, const qn_ect_branch *b, uint32_t rows, uint8_t *decisions);
typedef void (*qn_ect_branch_fn)(const qn_ect_book *b, const float *x, const uint8_t *class, uint32_t rows, qn_ect_branch *out);

typedef struct qn_ekern_ect {
    qn_ect_branch_fn branch;
    qn_ect_viterbi_fn viterbi; /* also writes the best last state after the decisions, one byte */
} qn_ekern_ect;

void qn_ekern_ect_init(qn_ekern_ect *k, unsigned cpu);

/* Bytes of scratch that a search of so many rows needs. */
uint64_t qn_ect_search_bytes(unsigned log2_states, uint32_t rows);
/* x: targets in steps, finite; class: of each row, clamped. level: rows. room: 64-byte aligned. */
void qn_ect_search(const qn_ekern_ect *k, const qn_ect_book *b, const float *x, const uint8_t *class, uint32_t rows,
                   int16_t *level, void *room);

/* Bits and reconstruction (in steps) of a level in a class. */
float qn_ect_bits_of(const qn_ect_book *b, unsigned class, int32_t level);
float qn_ect_point_of(const qn_ect_book *b, unsigned class, int32_t level);

void qn_ect_branch_c(const qn_ect_book *b, const float *x, const uint8_t *class, uint32_t rows, qn_ect_branch *out);
void qn_ect_viterbi_c(const qn_ect_code *code, const qn_ect_branch *b, uint32_t rows, uint8_t *decisions);
#if defined(__x86_64__) && defined(__GNUC__)
void qn_ect_viterbi_avx2(const qn_ect_code *code, const qn_ect_branch *b, uint32_t rows, uint8_t *decisions);
void qn_ect_branch_avx512(const qn_ect_book *b, const float *x, const uint8_t *class, uint32_t rows, qn_ect_branch *out);
void qn_ect_viterbi_avx512(const qn_ect_code *code, const qn_ect_branch *b, uint32_t rows, uint8_t *decisions);
#endif

#endif
