/* tally_bits.c: what the bit patterns of a tensor tell: symbol counts, distinct patterns, common trailing zeros, and
 * whether a narrower type would have held the values. */
#include "analysis/tally_impl.h"
#include "base/half.h"
#include "base/num.h"
#include "base/shape.h"
#include <math.h>
#include <string.h>

/* Types worth looking for, by the type they may hide in. Fewest mantissa bits first: of two types that both hold the
 * values, the coarser one says more about where they came from. */
static const qn_dtype in_f64[QN_TALLY_HIDDEN] = {QN_BF16, QN_F16, QN_F32};
static const qn_dtype in_f32[QN_TALLY_HIDDEN] = {QN_F8_E5M2, QN_F8_E4M3, QN_BF16, QN_F16};
static const qn_dtype in_f16[QN_TALLY_HIDDEN] = {QN_F8_E5M2, QN_F8_E4M3, QN_BF16};
static const qn_dtype in_bf16[QN_TALLY_HIDDEN] = {QN_F8_E5M2, QN_F8_E4M3};

/* A piece in which more than one value in this many does not fit decides against a type. */
enum { EXCEPTIONS_ONE_IN = 32 };

static const qn_dtype *hidden_in(qn_dtype t)
{
    static const qn_dtype none[QN_TALLY_HIDDEN];
    switch (t) {
    case QN_F64:
        return in_f64;
    case QN_F32:
    case QN_C64:
        return in_f32;
    case QN_F16:
        return in_f16;
    case QN_BF16:
        return in_bf16;
    default:
        return none;
    }
}

/* Position and mask of the exponent field of float dtypes that are coded by it. */
static bool exponent_field(qn_dtype t, unsigned *shift, uint64_t *mask)
{
    switch (t) {
    case QN_F16:
        *shift = 10, *mask = 0x1f;
        return true;
    case QN_BF16:
        *shift = 7, *mask = 0xff;
        return true;
    case QN_F32:
    case QN_C64:
        *shift = 23, *mask = 0xff;
        return true;
    case QN_F64:
        *shift = 52, *mask = 0x7ff;
        return true;
    default:
        return false;
    }
}

/* The same for 8-bit floats, where whole bytes are counted and the exponent is read off afterwards. */
static bool exponent_in_byte(qn_dtype t, unsigned *shift, unsigned *mask)
{
    const bool e4 = t == QN_F8_E4M3 || t == QN_F8_E4M3FNUZ, e5 = t == QN_F8_E5M2 || t == QN_F8_E5M2FNUZ;
    *shift = e4 ? 3 : 2;
    *mask = e4 ? 0x0f : 0x1f;
    return e4 || e5;
}

static uint64_t unit_at(const uint8_t *p, uint64_t i, unsigned unit)
{
    switch (unit) {
    case 2:
        return qn_load16(p + 2 * i);
    case 4:
        return qn_load32(p + 4 * i);
    case 8:
        return qn_load64(p + 8 * i);
    default:
        return p[i];
    }
}

static bool f32_fits(qn_dtype narrow, uint32_t u)
{
    const float f = qn_bits_f32(u);
    switch (narrow) {
    case QN_BF16:
        return (u & 0xffff) == 0;
    case QN_F16:
        return qn_f32_bits(qn_f16_to_f32(qn_f32_to_f16(f))) == u;
    case QN_F8_E4M3:
        return qn_f32_bits(qn_e4m3_to_f32(qn_f32_to_e4m3(f))) == u;
    case QN_F8_E5M2:
        return qn_f32_bits(qn_e5m2_to_f32(qn_f32_to_e5m2(f))) == u;
    default:
        return true;
    }
}

/* Does the value with these bits in dtype t survive a trip through the narrower type, bit for bit? */
static bool fits(qn_dtype t, qn_dtype narrow, uint64_t bits)
{
    if (t == QN_BF16)
        return f32_fits(narrow, (uint32_t)bits << 16);
    if (t == QN_F16)
        return f32_fits(narrow, qn_f32_bits(qn_f16_to_f32((uint16_t)bits)));
    if (t != QN_F64)
        return f32_fits(narrow, (uint32_t)bits);
    double d, back;
    memcpy(&d, &bits, sizeof d);
    if (!(fabs(d) <= 0x1.fffffep127) && !isinf(d))
        return false; /* too large, or a NaN, whose payload is not worth a look */
    const float f = (float)d;
    back = (double)f;
    return memcmp(&back, &d, sizeof d) == 0 && f32_fits(narrow, qn_f32_bits(f));
}

static void look_for_hidden(qn_tally *t, const uint8_t *p, uint64_t n, unsigned unit)
{
    const qn_dtype *types = hidden_in(t->dtype);
    for (unsigned k = 0; k < QN_TALLY_HIDDEN && types[k] != QN_BYTES; k++)
        for (uint64_t i = 0; i < n && !t->crowded[k]; i++)
            if (!fits(t->dtype, types[k], unit_at(p, i, unit)))
                t->crowded[k] = ++t->miss[k] > n / EXCEPTIONS_ONE_IN;
}

/* Adds a pattern to the sorted list while there are few. */
static void add_distinct(qn_tally *t, uint64_t u)
{
    unsigned lo = 0, hi = t->n_distinct;
    while (lo < hi) {
        const unsigned mid = (lo + hi) / 2;
        if (t->distinct[mid] < u)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < t->n_distinct && t->distinct[lo] == u)
        return;
    if (t->n_distinct < QN_TALLY_DISTINCT) {
        memmove(&t->distinct[lo + 1], &t->distinct[lo], (t->n_distinct - lo) * sizeof *t->distinct);
        t->distinct[lo] = u;
    }
    t->n_distinct++;
}

static void count_bytes(qn_tally *t, const uint8_t *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        t->count[p[i]]++;
}

static void count_symbols(qn_tally *t, const uint8_t *p, uint64_t n, unsigned unit)
{
    unsigned shift = 0;
    uint64_t mask = 0, or_bits = 0;
    const bool field = exponent_field(t->dtype, &shift, &mask);
    if (unit == 1)
        count_bytes(t, p, n);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t u = unit_at(p, i, unit);
        or_bits |= u;
        if (field)
            t->count[u >> shift & mask]++;
        else
            for (unsigned b = 0; b < unit && unit > 1; b++)
                t->count[b * 256 + (u >> 8 * b & 0xff)]++;
    }
    t->or_bits |= or_bits;
}

void qn_tally_bits(qn_tally *t, const uint8_t *p, uint64_t n_bytes)
{
    const unsigned unit = qn_unit_bytes(t->dtype);
    const uint64_t n = n_bytes / unit;
    count_symbols(t, p, n, unit);
    for (uint64_t i = 0; i < n && unit > 1 && t->n_distinct <= QN_TALLY_DISTINCT; i++)
        if (i == 0 || unit_at(p, i, unit) != unit_at(p, i - 1, unit))
            add_distinct(t, unit_at(p, i, unit));
    look_for_hidden(t, p, n, unit);
}

void qn_tally_merge_bits(qn_tally *t, const qn_tally *p)
{
    t->or_bits |= p->or_bits;
    for (unsigned i = 0; i < QN_TALLY_SYMBOLS; i++)
        t->count[i] += p->count[i];
    for (unsigned k = 0; k < QN_TALLY_HIDDEN; k++) {
        t->miss[k] += p->miss[k];
        t->crowded[k] = t->crowded[k] || p->crowded[k];
    }
    if (p->n_distinct > QN_TALLY_DISTINCT)
        t->n_distinct = QN_TALLY_DISTINCT + 1;
    for (unsigned i = 0; i < p->n_distinct && t->n_distinct <= QN_TALLY_DISTINCT; i++)
        add_distinct(t, p->distinct[i]);
}

/* Order-0 entropy in bits per symbol. */
static double entropy(const uint64_t *count, unsigned n)
{
    uint64_t total = 0;
    double h = 0;
    for (unsigned i = 0; i < n; i++)
        total += count[i];
    for (unsigned i = 0; i < n; i++)
        if (count[i])
            h += (double)count[i] * log2((double)total / (double)count[i]);
    return total ? h / (double)total : 0;
}

static void finish_entropy(const qn_tally *t, qn_tensor_stats *out)
{
    unsigned shift, mask8;
    uint64_t mask;
    const unsigned unit = qn_unit_bytes(t->dtype), per = t->dtype == QN_C64 ? 2 : 1;
    const double bits = 8.0 * qn_dtype_block_bytes(t->dtype) / (qn_dtype_block_elems(t->dtype) * per); /* of a value */
    if (t->s.n_values == 0)
        return;
    if (exponent_field(t->dtype, &shift, &mask)) {
        out->has_exponent = true;
        out->exponent_bits = entropy(t->count, (unsigned)mask + 1);
        out->bound_bits = out->exponent_bits + bits - (double)__builtin_popcountll(mask);
        return;
    }
    for (unsigned b = 0; b < unit; b++)
        out->bound_bits += entropy(t->count + b * 256, 256);
    out->bound_bits *= bits / (8.0 * unit); /* bytes → values of packed types */
    if (exponent_in_byte(t->dtype, &shift, &mask8)) {
        uint64_t pooled[32] = {0};
        for (unsigned s = 0; s < 256; s++)
            pooled[s >> shift & mask8] += t->count[s];
        out->has_exponent = true;
        out->exponent_bits = entropy(pooled, 32);
    }
}

static void finish_hidden(const qn_tally *t, qn_tensor_stats *out)
{
    const qn_dtype *types = hidden_in(t->dtype);
    out->hidden = QN_BYTES;
    if (t->s.n_values == 0 || t->n_distinct == 1)
        return; /* one repeated value fits everywhere, which says nothing */
    for (unsigned k = 0; k < QN_TALLY_HIDDEN && types[k] != QN_BYTES; k++) {
        if (t->crowded[k] || (out->hidden != QN_BYTES && t->miss[k] >= out->n_hidden_exceptions))
            continue;
        out->hidden = types[k];
        out->n_hidden_exceptions = t->miss[k];
    }
}

static unsigned distinct_bytes(const qn_tally *t)
{
    unsigned n = 0;
    for (unsigned i = 0; i < 256; i++)
        n += t->count[i] != 0;
    return n;
}

void qn_tally_finish_bits(const qn_tally *t, qn_tensor_stats *out)
{
    const unsigned unit = qn_unit_bytes(t->dtype), bits = qn_dtype_bits(t->dtype);
    finish_entropy(t, out);
    finish_hidden(t, out);
    out->trailing_zeros = t->or_bits ? (unsigned)__builtin_ctzll(t->or_bits) : 8 * unit;
    if (t->s.n_values == 0)
        out->trailing_zeros = 0;
    if (unit > 1)
        out->n_distinct = t->n_distinct <= QN_TALLY_DISTINCT ? t->n_distinct : 0;
    else if (bits == 8)
        out->n_distinct = distinct_bytes(t);
}
