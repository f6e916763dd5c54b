/* fit.c: the search for the scale of a group; see fit.h.
 *
 * Every value v was rounded, so v = s·g for a grid value g says only that s lies in [(v−h)/g, (v+h)/g], h half a step of
 * v's dtype. A guess of what the largest value is on the grid (1 … 128 for integers, the mantissas for fp8) bounds s well
 * enough to read off g for the other values, each of which narrows the interval or refutes the guess; a wrong guess falls
 * at the second or third value. Of the scales in the interval, those of few bits are tried first (scales that were
 * stored as bf16 or f16), and only the product's bits decide. f64 with basic operations: the same everywhere. */
#include "compress/fit.h"
#include "base/err.h"
#include "base/num.h"
#include "runtime/widths.h"
#include <string.h>

static double power_of_two(int e)
{
    union {
        uint64_t u;
        double d;
    } x = {.u = (uint64_t)(e + 1023) << 52};
    return x.d;
}

/* floor(log2 v) for normal v > 0. */
static int exponent_of(double v)
{
    union {
        double d;
        uint64_t u;
    } x = {.d = v};
    return (int)(x.u >> 52 & 0x7ff) - 1023;
}

static bool is_int(unsigned grid)
{
    return grid != QN_GRID_E4M3 && grid != QN_GRID_E5M2;
}

/* The grid value nearest to r ≥ 0, and the distance of its neighbours. r is at most a little beyond the largest. */
static inline double snap(unsigned grid, double r, double *step)
{
    if (is_int(grid)) {
        *step = 1;
        return (double)(uint32_t)(r + 0.5);
    }
    const int lowest = grid == QN_GRID_E4M3 ? -6 : -14, bits = grid == QN_GRID_E4M3 ? 3 : 2;
    const int e = r < 1e-30 ? lowest : exponent_of(r);
    *step = power_of_two((e < lowest ? lowest : e) - bits);
    return (double)(uint32_t)(r / *step + 0.5) * *step;
}

static double grid_max(unsigned grid)
{
    return grid == QN_GRID_E4M3 ? 448 : grid == QN_GRID_E5M2 ? 57344 : 128;
}

qn_code qn_fit_open(qn_fit *f, qn_arena *scratch, const qn_block *b, uint32_t room, qn_err *err)
{
    *f = (qn_fit){.dtype = b->dtype, .room = room};
    f->abs = qn_arena_get(scratch, (uint64_t)room * sizeof *f->abs, 64, err);
    f->half = qn_arena_get(scratch, (uint64_t)room * sizeof *f->half, 64, err);
    f->neg = qn_arena_get(scratch, room, 64, err);
    f->back = qn_arena_get(scratch, (uint64_t)room * 4, 64, err);
    return f->abs && f->half && f->neg && f->back ? QN_OK : QN_E_MEMORY;
}

static uint32_t unit_as_f32(qn_dtype t, const uint8_t *src, uint32_t i)
{
    return t == QN_BF16  ? (uint32_t)qn_load16(src + 2 * (size_t)i) << 16
           : t == QN_F16 ? qn_f16_wide(qn_load16(src + 2 * (size_t)i))
                         : qn_load32(src + 4 * (size_t)i);
}

static double half_step(qn_dtype t, double abs)
{
    const int digits = t == QN_BF16 ? 8 : t == QN_F16 ? 11 : 24, lowest = t == QN_F16 ? -14 : -126;
    const int e = abs < 1e-44 ? lowest : exponent_of(abs);
    return power_of_two((e < lowest ? lowest : e) - digits);
}

/* A group with a bias is taken to hold the code 0: the bias is then its least value, exactly. */
static float least(qn_dtype t, const uint8_t *src, uint32_t len)
{
    float low = qn_bits_f32(unit_as_f32(t, src, 0));
    for (uint32_t i = 1; i < len; i++) {
        const float v = qn_bits_f32(unit_as_f32(t, src, i));
        low = v < low ? v : low;
    }
    return low;
}

bool qn_fit_load(qn_fit *f, const uint8_t *src, uint32_t len)
{
    const bool biased = f->grid == QN_GRID_I8_BIAS;
    f->src = src;
    f->len = len;
    f->max = f->max_half = 0;
    f->n_nonzero = 0;
    f->neg_zero = f->pos_zero = false;
    f->bias = biased ? least(f->dtype, src, len) : 0;
    for (uint32_t i = 0; i < len; i++) {
        const uint32_t u = unit_as_f32(f->dtype, src, i);
        if ((u & 0x7f800000) == 0x7f800000)
            return false;
        const double v = (double)qn_bits_f32(u), d = biased ? v - (double)f->bias : v, abs = d < 0 ? -d : d;
        f->abs[i] = abs;
        f->neg[i] = (uint8_t)(biased ? 0 : u >> 31);
        f->half[i] = half_step(f->dtype, v < 0 ? -v : v);
        if (biased) /* the product was rounded too */
            f->half[i] += half_step(QN_F32, abs);
        if (abs > f->max) {
            f->max = abs;
            f->max_half = f->half[i];
        }
        f->n_nonzero += abs != 0;
        f->neg_zero |= abs == 0 && f->neg[i];
        f->pos_zero |= abs == 0 && !f->neg[i];
    }
    return true;
}

static uint8_t code_of(unsigned grid, double g, bool neg)
{
    if (is_int(grid))
        return (uint8_t)(neg ? -(int)g : (int)g);
    const float v = (float)(neg ? -g : g);
    return grid == QN_GRID_E4M3 ? qn_f32_to_e4m3(v) : qn_f32_to_e5m2(v);
}

/* With few mantissa bits several integers can give the same v or the nearest one can miss it: look beside it. */
static bool repair(qn_fit *f, float scale, uint8_t *codes)
{
    const unsigned unit = qn_unit_bytes(f->dtype);
    if (unit != 2 || f->grid != QN_GRID_I8)
        return false;
    for (uint32_t i = 0; i < f->len; i++) {
        const int was = (int8_t)codes[i];
        bool fits = qn_load16(f->back + 2 * (size_t)i) == qn_load16(f->src + 2 * (size_t)i);
        for (int step = -1; step <= 1 && !fits; step += 2) {
            uint8_t v[2];
            if (was + step < -128 || was + step > 127)
                continue;
            codes[i] = (uint8_t)(int8_t)(was + step);
            fits = qn_dequant_group(f->dtype, f->grid, &codes[i], 1, scale, 0, v) &&
                   qn_load16(v) == qn_load16(f->src + 2 * (size_t)i);
        }
        if (!fits)
            return false;
    }
    return true;
}

bool qn_fit_try(qn_fit *f, float scale, uint8_t *codes)
{
    const double s = (double)(scale < 0 ? -scale : scale), max = grid_max(f->grid);
    const bool flip = scale < 0;
    if (s == 0 ? f->max != 0 : f->max > s * (max + 1))
        return false;
    const double inv = s == 0 ? 0 : 1 / s;
    for (uint32_t i = 0; i < f->len; i++) {
        double step;
        const double r = f->abs[i] * inv, g = snap(f->grid, r, &step), off = r > g ? r - g : g - r;
        /* the true code is within the rounding of v, so the nearest one is too */
        if (off > f->half[i] * inv * 1.001 + r * 0x1p-22)
            return false;
        const bool neg = f->neg[i] != flip;
        if (g > max || (g == 128 && !neg && is_int(f->grid)))
            return false;
        codes[i] = code_of(f->grid, g, neg);
    }
    if (!qn_dequant_group(f->dtype, f->grid, codes, f->len, scale, f->bias, f->back))
        return false;
    return memcmp(f->back, f->src, (size_t)f->len * qn_unit_bytes(f->dtype)) == 0 || repair(f, scale, codes);
}

/* Where s must lie if the largest value is `top` on the grid. False: nowhere. */
static bool narrow_down(const qn_fit *f, double top, double *lo_out, double *hi_out)
{
    double lo = (f->max - f->max_half) / top, hi = (f->max + f->max_half) / top;
    bool skipped = true;
    for (unsigned pass = 0; pass < 2 && skipped; pass++) {
        double mid = (lo + hi) / 2, inv = 1 / mid, spread = (hi - lo) / 2 * inv;
        skipped = false;
        for (uint32_t i = 0; i < f->len; i++) {
            double step;
            const double a = f->abs[i], r = a * inv, g = snap(f->grid, r, &step), off = r > g ? r - g : g - r;
            const double slack = f->half[i] * inv + (r + off) * (spread + 0x1p-40);
            if (a == 0)
                continue;
            if (slack > 0.45 * step) {
                skipped = true; /* which grid value it is will be clear when s is known better */
                continue;
            }
            if (off > slack || g == 0)
                return false;
            const double least_s = (a - f->half[i]) / g, most_s = (a + f->half[i]) / g;
            if (least_s > lo || most_s < hi) {
                lo = least_s > lo ? least_s : lo;
                hi = most_s < hi ? most_s : hi;
                if (lo > hi * (1 + 0x1p-22))
                    return false;
                mid = (lo + hi) / 2;
                inv = 1 / mid;
                spread = hi > lo ? (hi - lo) / 2 * inv : 0;
            }
        }
    }
    *lo_out = lo;
    *hi_out = hi;
    return true;
}

static float neighbour(float s, int steps)
{
    return qn_bits_f32(qn_f32_bits(s) + (uint32_t)steps);
}

static bool try_top(qn_fit *f, double top, float *scale, uint8_t *codes)
{
    double lo, hi;
    if (!narrow_down(f, top, &lo, &hi))
        return false;
    const float mid = (float)((lo + hi) / 2);
    const uint32_t u = qn_f32_bits(mid);
    if (u < 0x00800000 || u > 0x7f000000)
        return false; /* subnormal scales are not worth the trouble */
    const float candidate[] = {qn_bits_f32((u + 0x7fff) & 0xffff0000), qn_bits_f32((u + 0xfff) & 0xffffe000),
                               qn_bits_f32((u + 0x3f) & 0xffffff80),   mid,
                               neighbour(mid, 1),                      neighbour(mid, -1),
                               neighbour(mid, 2),                      neighbour(mid, -2)};
    const float sign = f->neg_zero ? -1.0f : 1.0f; /* 0 × −s is −0 */
    const double lowest = lo * (1 - 0x1p-21), highest = hi * (1 + 0x1p-21);
    for (unsigned i = 0; i < sizeof candidate / sizeof candidate[0]; i++) {
        const double s = (double)candidate[i];
        if (s < lowest || s > highest || !qn_fit_try(f, sign * candidate[i], codes))
            continue;
        *scale = sign * candidate[i];
        return true;
    }
    return false;
}

static bool search_fp8(qn_fit *f, float *scale, uint8_t *codes)
{
    const unsigned first = f->grid == QN_GRID_E4M3 ? 8 : 4;
    f->neg_zero = false; /* has a code of its own */
    for (unsigned m = first; m < 2 * first; m++) {
        /* in the highest binade, so that the small values of the group are still on the grid */
        const double top = (double)m * (f->grid == QN_GRID_E4M3 ? m == 15 ? 16 : 32 : 8192);
        if (top <= grid_max(f->grid) && try_top(f, top, scale, codes))
            return true;
    }
    return false;
}

bool qn_fit_search(qn_fit *f, float *scale, uint8_t *codes)
{
    if (f->max == 0) {
        if (f->neg_zero && f->pos_zero && is_int(f->grid))
            return false;
        *scale = f->neg_zero && !f->pos_zero ? -1.0f : 1.0f;
        return qn_fit_try(f, *scale, codes);
    }
    if (!is_int(f->grid))
        return search_fp8(f, scale, codes);
    if (f->neg_zero && f->pos_zero)
        return false;
    if (f->top && try_top(f, f->top, scale, codes))
        return true;
    for (unsigned top = 1; top <= 128; top++)
        if (top != f->top && try_top(f, top, scale, codes)) {
            f->top = top;
            return true;
        }
    return false;
}
