/* trellis_search.c: see trellis_search.h; the C reference and what goes around it. */
#include "compress/trellis_search.h"
#include "base/cpu.h"
#include "base/num.h"
#include <string.h>

enum {
    PIECE = 512,  /* rows that are decided at a time                                  */
    AHEAD = 64,   /* rows of sight: several times what a window remembers             */
    AROUND = 64   /* rows before and after the seam that say where it is best         */
};
#define FAR 1e30f /* no path leads there */

void qn_trellis_rows_c(const qn_trellis_walk *w, const float *x, uint32_t rows, float *cost, float *other, uint8_t *decision)
{
    const unsigned k = w->k, bits = w->log2_windows - k;
    const uint32_t nodes = 1u << bits, ways = 1u << k;
    for (uint32_t i = 0; i < rows; i++, decision += nodes) {
        for (uint32_t n = 0; n < nodes; n++) {
            float best = 0;
            unsigned at = 0;
            for (uint32_t a = 0; a < ways; a++) {
                const uint32_t window = a << bits | n;
                const float e = x[i] - w->value[window], c = cost[window >> k] + e * e;
                if (a == 0 || c < best) {
                    best = c;
                    at = a;
                }
            }
            other[n] = best;
            decision[n] = (uint8_t)at;
        }
        float *swap = cost;
        cost = other;
        other = swap;
    }
}

void qn_ekern_trellis_init(qn_ekern_trellis *k, unsigned cpu)
{
    k->rows = qn_trellis_rows_c;
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX2)
        k->rows = qn_trellis_rows_avx2;
    if (cpu & QN_CPU_AVX512)
        k->rows = qn_trellis_rows_avx512;
#endif
    (void)cpu;
}

typedef struct work {
    const qn_ekern_trellis *kern;
    const qn_trellis_walk *w;
    uint32_t nodes;
    float *cost, *other;
    uint8_t *decision;
} work;

uint64_t qn_trellis_search_bytes(unsigned log2_windows)
{
    const uint64_t nodes = UINT64_C(1) << (log2_windows - 1); /* K = 1 has the most */
    return 2 * (nodes + QN_TRELLIS_NODES_PAD) * sizeof(float) + nodes * (PIECE + AHEAD) + 2 * AROUND * sizeof(float);
}

/* Costs of nodes, all alike or all but one far away; runs; returns where the costs are then. */
static const float *run(work *s, int64_t from, const float *x, uint32_t rows)
{
    for (uint32_t n = 0; n < s->nodes; n++)
        s->cost[n] = from < 0 || from == n ? 0 : FAR;
    memset(s->cost + s->nodes, 0, QN_TRELLIS_NODES_PAD * sizeof(float));
    memset(s->other + s->nodes, 0, QN_TRELLIS_NODES_PAD * sizeof(float));
    s->kern->rows(s->w, x, rows, s->cost, s->other, s->decision);
    return rows % 2 ? s->other : s->cost;
}

static uint32_t least(const float *cost, uint32_t nodes)
{
    uint32_t at = 0;
    for (uint32_t n = 1; n < nodes; n++)
        at = cost[n] < cost[at] ? n : at;
    return at;
}

/* Back from a node after `rows` to the one after `to` rows; the bits of the rows between go to bits[row], if wanted. */
static uint32_t back(const work *s, uint32_t node, uint32_t rows, uint32_t to, uint8_t *bits)
{
    const unsigned k = s->w->k, high = s->w->log2_windows - k;
    for (uint32_t i = rows; i-- > to;) {
        const uint32_t window = (uint32_t)s->decision[(size_t)i * s->nodes + node] << high | node;
        if (bits)
            bits[i] = (uint8_t)(window & ((1u << k) - 1));
        node = window >> k;
    }
    return node;
}

/* Where a path that knows nothing of the ends goes through the seam between the last row and the first. */
static uint32_t seam(work *s, const float *x, uint32_t rows, float *around)
{
    for (uint32_t i = 0; i < 2 * AROUND; i++) /* x[−AROUND …], the column repeated as often as it takes */
        around[i] = x[(i + (uint64_t)rows * AROUND - AROUND) % rows];
    const float *cost = run(s, -1, around, 2 * AROUND);
    return back(s, least(cost, s->nodes), 2 * AROUND, AROUND, NULL);
}

uint32_t qn_trellis_search(const qn_ekern_trellis *k, const qn_trellis_walk *w, const float *x, uint32_t rows, uint8_t *bits, void *room)
{
    work s = {.kern = k, .w = w, .nodes = 1u << (w->log2_windows - w->k), .cost = room};
    s.other = s.cost + s.nodes + QN_TRELLIS_NODES_PAD;
    float *around = s.other + s.nodes + QN_TRELLIS_NODES_PAD;
    s.decision = (uint8_t *)(around + 2 * AROUND);
    const bool bites = (uint64_t)rows * w->k >= w->log2_windows - w->k;
    const uint32_t first = bites ? seam(&s, x, rows, around) : 0;
    uint32_t node = first;
    for (uint32_t at = 0; at < rows;) {
        const uint32_t left = rows - at, n = left < PIECE + AHEAD ? left : PIECE + AHEAD, keep = n == left ? n : PIECE;
        const float *cost = run(&s, node, x + at, n);
        const uint32_t end = back(&s, n == left && bites ? first : least(cost, s.nodes), n, keep, NULL);
        (void)back(&s, end, keep, 0, bits + at);
        node = end;
        at += keep;
    }
    return first;
}
