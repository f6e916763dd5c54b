/* sparsity_mask.c: which weights are the smallest: of a whole, and of every run of neighbours. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/prune/sparsity_impl.h"
#include <string.h>

enum { BINS = 65536 };

/* Floats ≥ 0 stand in the order of their bits; NaN counts as the largest. */
static uint32_t bits_of(float v)
{
    return qn_f32_bits(v) & 0x7fffffffu;
}

qn_code qn_smallest_open(qn_smallest *s, const qn_alloc *alloc, uint64_t k, qn_err *err)
{
    *s = (qn_smallest){.alloc = alloc, .k = k};
    s->count = qn_mem_zeros(alloc, BINS, sizeof *s->count, err);
    return s->count ? QN_OK : QN_E_MEMORY;
}

void qn_smallest_close(qn_smallest *s)
{
    if (s->count)
        qn_mem_put(s->alloc, s->count);
    s->count = NULL;
}

void qn_smallest_see(qn_smallest *s, const float *score, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        const uint32_t b = bits_of(score[i]);
        if (s->pass == 0)
            s->count[b >> 16]++;
        else if (b >> 16 == s->high)
            s->count[b & 0xffff]++;
    }
}

/* The bin that holds the k-th smallest; k becomes its rank there. */
static uint32_t find_bin(qn_smallest *s)
{
    uint32_t b = 0;
    while (b + 1 < BINS && s->count[b] < s->k)
        s->k -= s->count[b++];
    return b;
}

void qn_smallest_next(qn_smallest *s)
{
    const bool none = s->k == 0;
    const uint32_t bin = find_bin(s);
    if (s->pass++ == 0) {
        s->high = bin;
        memset(s->count, 0, BINS * sizeof *s->count);
    } else {
        s->threshold = s->high << 16 | bin;
        s->ties = s->k;
    }
    if (none) {
        s->threshold = 0;
        s->ties = 0;
    }
}

void qn_smallest_mark(qn_smallest *s, const float *score, uint64_t n, uint8_t *zero)
{
    for (uint64_t i = 0; i < n; i++) {
        const uint32_t b = bits_of(score[i]);
        zero[i] = b < s->threshold;
        if (b == s->threshold && s->ties) {
            zero[i] = 1;
            s->ties--;
        }
    }
}

qn_code qn_mark_smallest(const qn_alloc *alloc, const float *score, uint64_t n, uint64_t k, uint8_t *zero, qn_err *err)
{
    qn_smallest s;
    QN_TRY(qn_smallest_open(&s, alloc, k, err));
    for (unsigned pass = 0; pass < 2; pass++) {
        qn_smallest_see(&s, score, n);
        qn_smallest_next(&s);
    }
    qn_smallest_mark(&s, score, n, zero);
    qn_smallest_close(&s);
    return QN_OK;
}

/* --- patterns --------------------------------------------------------------------------------------------------------- */

static uint32_t runs_a_place(const qn_nm *p)
{
    return (uint32_t)qn_ceil_div(p->n_cols / p->per, p->of);
}

uint32_t qn_nm_runs(const qn_nm *p)
{
    return runs_a_place(p) * p->per;
}

uint32_t qn_nm_run(const qn_nm *p, uint32_t run, uint32_t *cols)
{
    const uint32_t place = run / runs_a_place(p), first = run % runs_a_place(p) * p->of, channels = p->n_cols / p->per;
    uint32_t n = 0;
    for (uint32_t c = first; c < first + p->of && c < channels; c++)
        cols[n++] = c * p->per + place;
    return n;
}

uint32_t qn_nm_run_of(const qn_nm *p, uint32_t col)
{
    return col % p->per * runs_a_place(p) + col / p->per / p->of;
}

void qn_nm_mark(const qn_nm *p, const float *score, const uint32_t *cols, uint32_t n, uint8_t *zero)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t larger = 0;
        for (uint32_t k = 0; k < n; k++)
            larger += score[cols[k]] > score[cols[i]] || (k < i && score[cols[k]] >= score[cols[i]]);
        zero[cols[i]] = larger >= p->keep;
    }
}
