/* dense_model.c: see dense_model.h.
 *
 * Scales first: a row's scale is the mean of its magnitudes, in quarter octaves; a column's is the mean of what its rows
 * leave over, in whole octaves. Histograms of magnitude relative to scale, one for each quarter of an octave, then
 * price every configuration without encoding anything: tables for half or whole octaves are sums of them, coarser
 * codes are sums of bins. For the cheapest one, each row's scale is chosen again among its neighbours by what the
 * row costs under the tables (a step of hard expectation maximisation), and the tables are counted anew. */
#include "compress/dense_model.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/ilog.h"
#include "compress/rans_pack.h"
#include <string.h>

enum { SHAPE_MAX = 1 << 17 /* units: more can afford tables of their own */ };
enum { COARSE_MAX = 1 << 14 };
enum { SURE = 2048 }; /* the mean of so many logarithms needs no second look */

typedef struct hist { /* by quarter: magnitude bin × 2 + sign */
    uint32_t at[4][2 * QN_DM_SPAN], zero[2];
} hist;

typedef struct fit {
    const qn_dense_view *v;
    int16_t *q; /* by row: scale in quarter octaves, absolute */
    int16_t *col; /* by column: octaves, may be negative; NULL */
    hist *h;
    uint32_t (*kept)[QN_DM_SPAN]; /* by table: bins with m = 2 */
    uint32_t full_n;              /* units of the block when this is a sample of it */
    unsigned lo, hi;              /* bins in use: lo … hi − 1 */
} fit;

static uint32_t row_len(const qn_dense_view *v, uint32_t r)
{
    const uint32_t left = v->n - r * v->cols;
    return left < v->cols ? left : v->cols;
}

static int floor_oct(int q) /* quarter octaves → octaves, towards −∞ */
{
    return (q + 4096) / 4 - 1024;
}

/* Rounded quotient of a sum that may be negative. */
static int mean_of(int64_t sum, int64_t n)
{
    return (int)((2 * sum + n + (sum < 0 ? -2 * n : 0)) / (2 * n));
}

static void row_scales(fit *f)
{
    const qn_dense_view *v = f->v;
    int last = 0;
    uint32_t unset = 0; /* rows of zeros at the start take the first scale there is */
    for (uint32_t r = 0; r < v->n_rows; r++) {
        const uint16_t *p = v->fine + (size_t)r * v->cols;
        const uint32_t len = row_len(v, r);
        int64_t sum = 0;
        uint32_t live = 0;
        if (f->col) {
            for (uint32_t i = 0; i < len; i++) {
                const bool on = p[i] > 1;
                sum += on ? (p[i] >> 1) - 4 * f->col[i] : 0;
                live += on;
            }
        } else {
            uint32_t s = 0; /* up to 2^20 units × 2^13 are beyond 32 bits only for f64: rows are cut there */
            uint64_t total = 0;
            for (uint32_t i = 0; i < len;) {
                const uint32_t stop = len - i < 32768 ? len : i + 32768;
                for (s = 0; i < stop; i++) {
                    s += p[i] >> 1;
                    live += p[i] > 1;
                }
                total += s;
            }
            sum = (int64_t)total;
        }
        if (live == 0) {
            f->q[r] = (int16_t)last;
            unset += unset == r;
            continue;
        }
        last = mean_of(sum, live);
        f->q[r] = (int16_t)last;
        for (; unset < r && unset != UINT32_MAX; unset++)
            f->q[unset] = (int16_t)last;
        unset = UINT32_MAX;
    }
}

/* Whole octaves by column; false when all are the same. */
static bool col_scales(fit *f, int16_t *col, int64_t *sum, uint32_t *live)
{
    const qn_dense_view *v = f->v;
    int low = INT16_MAX, high = INT16_MIN;
    memset(sum, 0, v->cols * sizeof *sum);
    memset(live, 0, v->cols * sizeof *live);
    for (uint32_t r = 0; r < v->n_rows; r++) {
        const uint16_t *p = v->fine + (size_t)r * v->cols;
        const uint32_t len = row_len(v, r);
        const int q = f->q[r];
        for (uint32_t i = 0; i < len; i++) {
            const int on = p[i] > 1;
            sum[i] += on ? (p[i] >> 1) - q : 0;
            live[i] += (uint32_t)on;
        }
    }
    for (uint32_t i = 0; i < v->cols; i++) {
        col[i] = (int16_t)(live[i] ? mean_of(sum[i], 4 * (int64_t)live[i]) : 0);
        low = col[i] < low ? col[i] : low;
        high = col[i] > high ? col[i] : high;
    }
    return low != high && high - low < 256;
}

static unsigned bin_of(int rel)
{
    return (unsigned)(rel < -QN_DM_ZERO ? 0 : rel >= QN_DM_ZERO ? QN_DM_SPAN - 1 : rel + QN_DM_ZERO);
}

static bool used(const hist *h, unsigned bin)
{
    uint32_t any = 0;
    for (unsigned q = 0; q < 4; q++)
        any |= h->at[q][2 * bin] | h->at[q][2 * bin + 1];
    return any != 0;
}

static void count(fit *f, bool rows)
{
    const qn_dense_view *v = f->v;
    memset(f->h, 0, sizeof *f->h);
    for (uint32_t r = 0; r < v->n_rows; r++) {
        const uint16_t *p = v->fine + (size_t)r * v->cols;
        const uint32_t len = row_len(v, r);
        const int q = rows ? f->q[r] : f->q[0], oct = floor_oct(q);
        uint32_t *const at = f->h->at[rows ? q & 3 : 0];
        for (uint32_t i = 0; i < len; i++) {
            const unsigned mag = p[i] >> 1, sign = p[i] & 1;
            if (mag == 0)
                f->h->zero[sign]++;
            else
                at[2 * bin_of((int)mag - 4 * (oct + (f->col ? f->col[i] : 0))) + sign]++;
        }
    }
    f->lo = 0;
    f->hi = QN_DM_SPAN;
    while (f->lo < f->hi && !used(f->h, f->lo))
        f->lo++;
    while (f->hi > f->lo && !used(f->h, f->hi - 1))
        f->hi--;
    f->lo &= ~3u; /* whole octaves */
    f->hi = (f->hi + 3) & ~3u;
}

/* Bits × 2^16 that do not grow with the block, as part of a sample's. */
static uint64_t fixed_cost(const fit *f, unsigned n_bits)
{
    return ((uint64_t)n_bits << 16) * f->v->n / f->full_n;
}

/* Prices one table: bins at[0 … n) of codes, `zero` units of code 0. Finds the window. */
static uint64_t price(const fit *f, const uint32_t *at, unsigned n, uint32_t zero, unsigned *window)
{
    enum { WIDE = 64 - QN_DENSE_FIRST };
    uint64_t total = zero, in = 0, best = 0, cost = 0;
    *window = 0;
    for (unsigned i = 0; i < n; i++)
        total += at[i];
    if (total == 0)
        return 0;
    for (unsigned i = 0; i < n; i++) {
        in += at[i];
        if (i >= WIDE)
            in -= at[i - WIDE];
        if (in > best) {
            best = in;
            *window = i >= WIDE ? i - (WIDE - 1) : 0;
        }
    }
    const uint64_t all = qn_ilog2((uint32_t)total), escapes = total - zero - best;
    unsigned live = 2;
    for (unsigned i = *window; i < *window + WIDE && i < n; i++)
        if (at[i]) {
            const uint64_t c = all - qn_ilog2(at[i]);
            cost += at[i] * (c < 12u << 16 ? c : 12u << 16);
            live++;
        }
    if (zero)
        cost += zero * (all - qn_ilog2(zero));
    if (escapes)
        cost += escapes * (all - qn_ilog2((uint32_t)escapes) + (16u << 16));
    return cost + fixed_cost(f, live * 4 + 24); /* a table: some four bits a symbol */
}

/* Bits of the row values, as the entropy of a histogram. */
static uint64_t price_rows(const fit *f, unsigned per_table)
{
    uint32_t at[1024] = {0};
    uint64_t cost = 0;
    const uint32_t n = f->v->n_rows;
    unsigned live = 0;
    for (uint32_t r = 0; r < n; r++)
        at[(unsigned)(f->q[r] + 4096) / per_table % 1024]++;
    for (unsigned i = 0; i < 1024; i++)
        if (at[i]) {
            cost += at[i] * (uint64_t)(qn_ilog2(n) - qn_ilog2(at[i]));
            live++;
        }
    cost += fixed_cost(f, live * 5 + 64);
    return cost < (uint64_t)n << 19 ? cost : (uint64_t)n << 19;
}

static uint64_t price_cols(const fit *f)
{
    uint32_t at[256] = {0};
    uint64_t cost = 0;
    for (uint32_t i = 0; i < f->v->cols; i++)
        at[(unsigned)f->col[i] & 255]++;
    for (unsigned i = 0; i < 256; i++)
        if (at[i])
            cost += at[i] * (uint64_t)(qn_ilog2(f->v->cols) - qn_ilog2(at[i]));
    return cost * f->v->n / f->full_n + fixed_cost(f, 64);
}

/* Bits × 2^16 that a histogram by table costs with a shape whose place is `place` (may be negative) in table 0. */
static uint64_t price_shape(const fit *f, unsigned n_tables, uint32_t zero, unsigned shape, int place)
{
    const int oct = (place + 1024) / 16 - 64, first = QN_DM_ZERO + 4 * (oct - QN_DENSE_SHAPE_WINDOW);
    uint64_t cost = zero * ((uint64_t)QN_RANS_BITS << 16);
    for (unsigned k = 0; k < n_tables; k++) {
        uint16_t weight[256];
        uint64_t in = 0, all = 0;
        uint32_t sum = 0;
        qn_dense_shape_weights(shape, (unsigned)(place - 16 * oct) + 16 * k / n_tables, weight);
        for (unsigned i = 0; i < 64; i++)
            sum += weight[i];
        const uint32_t log_sum = qn_ilog2(sum);
        for (int i = QN_DENSE_FIRST; i < 64; i++) {
            const int at = first + i - QN_DENSE_FIRST;
            const uint32_t n = at >= (int)f->lo && at < (int)f->hi ? f->kept[k][at] : 0;
            if (n == 0)
                continue;
            const uint32_t c = log_sum - qn_ilog2(weight[i]);
            cost += n * (uint64_t)(c < QN_RANS_BITS << 16 ? c : QN_RANS_BITS << 16);
            in += n;
        }
        for (unsigned i = f->lo; i < f->hi; i++)
            all += f->kept[k][i];
        cost += (all - in) * ((QN_RANS_BITS + 16u) << 16);
    }
    return cost + (24u << 16);
}

/* Looks for shape and place by steps downhill from the normal distribution at the histogram's mean logarithm. */
static uint64_t best_shape(const fit *f, unsigned n_tables, uint32_t zero, unsigned *shape, int *place)
{
    enum { NORMAL = 4, STEPS = 24 };
    static const int8_t way[4][2] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}};
    int64_t sum = 0, n = 0;
    for (unsigned k = 0; k < n_tables; k++)
        for (int i = (int)f->lo; i < (int)f->hi; i++) {
            sum += f->kept[k][i] * (int64_t)(4 * (i - QN_DM_ZERO) + 2 - (int)(16 * k / n_tables));
            n += f->kept[k][i];
        }
    if (n == 0)
        return UINT64_MAX;
    int at[2] = {NORMAL, mean_of(sum, n)}, last = -1;
    if (at[1] < -800 || at[1] > 800)
        return UINT64_MAX;
    uint64_t best = price_shape(f, n_tables, zero, NORMAL, at[1]);
    for (int i = 0, failed = 0; failed < 4 && i < STEPS; i++) {
        const int w = last >= 0 ? last : i & 3;
        const int s = at[0] + way[w][0], p = at[1] + way[w][1];
        const uint64_t cost = s < 0 || s >= QN_DENSE_SHAPES ? UINT64_MAX : price_shape(f, n_tables, zero, (unsigned)s, p);
        if (cost < best) {
            best = cost;
            at[0] = s;
            at[1] = p;
            last = w;
            failed = 0;
        } else {
            i = last >= 0 ? w : i;
            last = -1;
            failed++;
        }
    }
    *shape = (unsigned)at[0];
    *place = at[1];
    return best;
}

/* Tries all codes and numbers of tables on the histogram; keeps the cheapest in *m. */
static void choose(const fit *f, bool rows, qn_dtype t, qn_dense_model *m)
{
    static const uint8_t codes[][2] = {{2, 0}, {2, 1}, {1, 0}, {1, 1}, {0, 0}, {0, 1}};
    uint32_t bins[2 * QN_DM_SPAN];
    const size_t n_codes = f->full_n < COARSE_MAX ? sizeof codes / sizeof codes[0] : 2; /* coarse codes save on tables only */
    for (size_t c = 0; c < n_codes; c++)
        for (unsigned k = 1; k <= (rows ? 4u : 1u); k *= 2) {
            qn_dense_cut cut;
            const unsigned down = 2u - codes[c][0], sign = codes[c][1];
            if (!qn_dense_cut_make(&cut, t, codes[c][0], sign))
                continue;
            uint64_t cost = (uint64_t)f->v->n * (cut.n_pack + 8u * cut.n_low) << 16;
            int window[4] = {0};
            for (unsigned table = 0; table < k; table++) {
                const unsigned at = (f->lo >> down) << sign, n = ((f->hi - f->lo) >> down) << sign;
                memset(bins + at, 0, n * sizeof *bins);
                for (unsigned q = table * 4 / k; q < (table + 1) * 4 / k; q++)
                    for (unsigned i = 2 * f->lo; i < 2 * f->hi; i++)
                        bins[((i >> 1 >> down) << sign) + (sign & i)] += f->h->at[q][i];
                /* −0 is coded as an escape when signs are coded */
                const uint32_t zero = table ? 0 : f->h->zero[0] + f->h->zero[1];
                unsigned w;
                cost += price(f, bins + at, n, zero, &w);
                window[table] = (int)(w + at) - (int)((QN_DM_ZERO >> down) << sign);
                if (c == 0)
                    memcpy(f->kept[table] + f->lo, bins + f->lo, (f->hi - f->lo) * sizeof *bins);
            }
            uint64_t side = rows ? price_rows(f, 4 / k) : 0;
            if (f->col)
                side += price_cols(f);
            cost += side;
            if (c == 0 && f->full_n <= SHAPE_MAX) {
                unsigned shape = 0;
                int place = 0;
                const uint32_t zero = f->h->zero[0] + f->h->zero[1];
                uint64_t with = best_shape(f, k, zero, &shape, &place);
                if (with != UINT64_MAX)
                    with += side + ((uint64_t)f->v->n * (cut.n_pack + 8u * cut.n_low) << 16);
                if (with < m->cost) {
                    const int oct = (place + 1024) / 16 - 64;
                    m->cost = with;
                    m->m = 2;
                    m->sign_coded = 0;
                    m->n_tables = k;
                    m->has_shape = true;
                    m->shape = shape;
                    m->phase = (unsigned)(place - 16 * oct);
                    for (unsigned i = 0; i < 4; i++)
                        m->window[i] = 4 * (oct - QN_DENSE_SHAPE_WINDOW);
                }
            }
            if (cost < m->cost) {
                m->has_shape = false;
                m->cost = cost;
                m->m = codes[c][0];
                m->sign_coded = sign;
                m->n_tables = k;
                memcpy(m->window, window, sizeof window);
            }
        }
}

/* Costs in 1/256 bit of a bin by table, at most 24 bits. */
static void bin_costs(const fit *f, unsigned n_tables, uint16_t (*cost)[QN_DM_SPAN])
{
    for (unsigned k = 0; k < n_tables; k++) {
        uint32_t bins[QN_DM_SPAN] = {0};
        uint32_t total = 1;
        for (unsigned q = k * 4 / n_tables; q < (k + 1) * 4 / n_tables; q++)
            for (unsigned i = f->lo; i < f->hi; i++)
                bins[i] += f->h->at[q][2 * i] + f->h->at[q][2 * i + 1];
        for (unsigned i = 0; i < QN_DM_SPAN; i++)
            total += 4 * bins[i] + 1;
        const uint32_t log_total = qn_ilog2(total);
        for (unsigned i = 0; i < QN_DM_SPAN; i++) {
            const uint32_t c = (log_total - (bins[i] ? qn_ilog2(4 * bins[i] + 1) : 0)) >> 8;
            cost[k][i] = (uint16_t)(c < 24 * 256 ? c : 24 * 256);
        }
    }
}

/* Chooses each row's scale again among its neighbours by what the row costs under the present tables, and what its
 * scale costs among those of all rows. */
static void refine(fit *f, unsigned n_tables, uint16_t (*cost)[QN_DM_SPAN])
{
    enum { REACH = 2, WIDTH = 96, LONG = 128 };
    const qn_dense_view *v = f->v;
    const int step = (int)(4 / n_tables);
    uint32_t of_scale[1024] = {0}, log_rows = qn_ilog2(4 * v->n_rows);
    bin_costs(f, n_tables, cost);
    for (uint32_t r = 0; r < v->n_rows; r++)
        of_scale[(unsigned)(f->q[r] + 4096) / (unsigned)step % 1024]++;
    for (uint32_t r = 0; r < v->n_rows; r++) {
        const uint16_t *p = v->fine + (size_t)r * v->cols;
        const uint32_t len = row_len(v, r);
        const uint16_t *tab[2 * REACH + 1];
        int shift[2 * REACH + 1]; /* of a bin, when the row's scale moves by octaves: at most two, ±8 */
        uint64_t sum[2 * REACH + 1];
        const int q0 = (f->q[r] + 4096) / step * step - 4096;
        const int from = len < 256 ? 0 : 1, to = 2 * REACH - from; /* longer rows' means are surer */
        const int mid = floor_oct(q0);
        for (int d = 0; d <= 2 * REACH; d++) {
            const int q = q0 + (d - REACH) * step;
            tab[d] = cost[((unsigned)q & 3u) / (unsigned)step];
            shift[d] = 4 * (floor_oct(q) - mid);
            sum[d] = (log_rows - qn_ilog2(4 * of_scale[(unsigned)(q + 4096) / (unsigned)step % 1024] + 1)) >> 8;
        }
        uint32_t at[WIDTH] = {0};
        const int low = QN_DM_ZERO - WIDTH * 3 / 4;
        for (uint32_t i = 0; i < len; i++) {
            const int b = (int)(p[i] >> 1) - 4 * (mid + (f->col ? f->col[i] : 0)) + QN_DM_ZERO;
            if (len >= LONG) {
                const unsigned j = (unsigned)(b - low);
                at[j < WIDTH ? j : b < low ? 0 : WIDTH - 1]++;
            } else {
                const int c = b < 16 ? 16 : b > QN_DM_SPAN - 17 ? QN_DM_SPAN - 17 : b;
                for (int d = from; d <= to; d++)
                    sum[d] += tab[d][c - shift[d]];
            }
        }
        for (int d = from; len >= LONG && d <= to; d++) {
            uint32_t part = 0; /* 24 · 256 · len: rows here are shorter than SURE */
            for (unsigned j = 0; j < WIDTH; j++)
                part += at[j] * tab[d][low + (int)j - shift[d]];
            sum[d] += part;
        }
        int best = REACH;
        for (int d = from; d <= to; d++)
            if (sum[d] < sum[best])
                best = d;
        f->q[r] = (int16_t)(q0 + (best - REACH) * step);
    }
}

/* Scales of all rows (and columns) of the block for the model that was chosen, perhaps on a sample of rows. */
static qn_code apply(const qn_enc_ctx *cx, fit *f, qn_dense_model *m, qn_err *err)
{
    const qn_dense_view *v = f->v;
    int low = INT16_MAX, col_low = 0;
    const int step = 4 / (int)m->n_tables;
    uint16_t (*cost)[QN_DM_SPAN] = qn_arena_get(cx->scratch, 4 * sizeof *cost, 64, err);
    m->rows = qn_arena_get(cx->scratch, v->n_rows, 64, err);
    m->col = qn_arena_get(cx->scratch, v->cols, 64, err);
    if (!m->rows || !m->col || !cost)
        return QN_E_MEMORY;
    row_scales(f);
    if (v->cols < SURE)
        refine(f, m->n_tables, cost);
    for (uint32_t r = 0; r < v->n_rows; r++)
        low = f->q[r] < low ? f->q[r] : low;
    m->oct_first = floor_oct(low);
    for (uint32_t r = 0; r < v->n_rows; r++) {
        const int a = (f->q[r] - 4 * m->oct_first) / step;
        m->rows[r] = (uint8_t)(a < 255 ? a : 255);
    }
    if (!m->has_cols)
        return QN_OK;
    col_low = INT16_MAX;
    for (uint32_t i = 0; i < v->cols; i++)
        col_low = f->col[i] < col_low ? f->col[i] : col_low;
    for (uint32_t i = 0; i < v->cols; i++)
        m->col[i] = (uint8_t)(f->col[i] - col_low);
    m->oct_first += col_low;
    return QN_OK;
}

/* Fits one way of using rows and columns; replaces *best and its histograms when it is cheaper. */
static qn_code try_rows(const qn_enc_ctx *cx, fit *f, qn_dtype t, qn_dense_model *best, hist *best_h, qn_err *err)
{
    qn_dense_model m = {.cost = UINT64_MAX, .has_rows = true, .has_cols = f->col != NULL};
    uint16_t (*cost)[QN_DM_SPAN] = qn_arena_get(cx->scratch, 4 * sizeof *cost, 64, err);
    if (!cost)
        return QN_E_MEMORY;
    row_scales(f);
    count(f, true);
    choose(f, true, t, &m);
    if (f->v->cols < SURE) {
        refine(f, m.n_tables, cost);
        count(f, true);
        m.cost = UINT64_MAX;
        choose(f, true, t, &m);
    }
    if (m.cost >= best->cost)
        return QN_OK;
    *best = m;
    *best_h = *f->h;
    return QN_OK;
}

/* Every k-th row, when there are enough of them. */
static qn_code sample(const qn_enc_ctx *cx, const qn_dense_view *v, qn_dense_view *s, qn_err *err)
{
    enum { ENOUGH = 1 << 14, ROWS = 16 };
    uint32_t step = v->n / ENOUGH;
    if (step > v->n_rows / ROWS)
        step = v->n_rows / ROWS;
    *s = *v;
    if (step < 2)
        return QN_OK;
    s->n_rows = (v->n_rows - 1) / step; /* whole ones */
    s->n = s->n_rows * v->cols;
    uint16_t *fine = qn_arena_get(cx->scratch, 2 * (uint64_t)s->n, 64, err);
    if (!fine)
        return QN_E_MEMORY;
    for (uint32_t r = 0; r < s->n_rows; r++)
        memcpy(fine + (size_t)r * v->cols, v->fine + (size_t)r * step * v->cols, 2 * (size_t)v->cols);
    s->fine = fine;
    return QN_OK;
}

qn_code qn_dense_model_fit(const qn_enc_ctx *cx, const qn_dense_view *v, qn_dtype t, qn_dense_model *out, qn_err *err)
{
    qn_dense_view part;
    QN_TRY(sample(cx, v, &part, err));
    fit f = {.v = &part, .full_n = v->n};
    f.q = qn_arena_get(cx->scratch, (uint64_t)v->n_rows * sizeof *f.q, 64, err);
    f.h = qn_arena_get(cx->scratch, sizeof *f.h, 64, err);
    f.kept = qn_arena_get(cx->scratch, 4 * sizeof *f.kept, 64, err);
    hist *best_h = qn_arena_get(cx->scratch, sizeof *best_h, 64, err);
    int16_t *col = qn_arena_get(cx->scratch, (uint64_t)v->cols * sizeof *col, 64, err);
    int64_t *sum = qn_arena_get(cx->scratch, (uint64_t)v->cols * sizeof *sum, 64, err);
    uint32_t *live = qn_arena_get(cx->scratch, (uint64_t)v->cols * sizeof *live, 64, err);
    if (!f.q || !f.h || !f.kept || !best_h || !col || !sum || !live)
        return QN_E_MEMORY;
    qn_dense_model best = {.cost = UINT64_MAX};
    row_scales(&f);
    if (v->log2_row == 0) {
        best.oct_first = floor_oct(f.q[0]);
        count(&f, false);
        choose(&f, false, t, &best);
    }
    if (part.n_rows >= 2) {
        QN_TRY(try_rows(cx, &f, t, &best, best_h, err));
        if (v->log2_row == 0 && part.n_rows >= 4 && col_scales(&f, col, sum, live)) {
            f.col = col;
            QN_TRY(try_rows(cx, &f, t, &best, best_h, err));
        }
    }
    best.log2_row = v->log2_row;
    best.cols = v->cols;
    best.n_rows = v->n_rows;
    if (part.n != v->n)
        best.cost = best.cost / part.n * v->n;
    if (best.cost >= out->cost)
        return QN_OK;
    if (best.has_rows) {
        f.v = v;
        f.col = NULL;
        f.h = best_h;
        f.lo = 0;
        f.hi = QN_DM_SPAN;
        if (best.has_cols) {
            if (part.n != v->n) { /* columns deserve all rows */
                row_scales(&f);
                best.has_cols = col_scales(&f, col, sum, live);
            }
            f.col = best.has_cols ? col : NULL;
        }
        QN_TRY(apply(cx, &f, &best, err));
    }
    *out = best;
    return QN_OK;
}
