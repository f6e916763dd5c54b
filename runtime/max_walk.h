/* max_walk.h: the order in which a weight becomes decisions, and what each decision looks at.
 *
 * A magnitude is a *class* and the mantissa bits below its leading one. Classes are the exponents, continued through
 * the subnormals: 0 is zero; 1 + p is a subnormal whose leading one is bit p; man_bits + e is exponent e ≥ 1, infinity and
 * NaN being the last. So a class is an octave in every dtype, and log2 |w| is the class and the mantissa as its
 * fraction, near enough.
 *
 * The class is coded in unary, outward from where the scales say that half of the weights lie; the top
 * mantissa bits and the sign follow, the rest goes as it is. Contexts are of three kinds: the position of the decision's
 * threshold relative to an estimate of the local scale, which learns one shape for all rows; the neighbours left,
 * above and at two lags the encoder chose; the row and the column themselves.
 *
 * Included by the decoder and the encoder, each with its own way to code a decision: `io` and the two functions below.
 * Not a translation unit of its own so that the compiler can specialise it twice. */
#ifndef QN_RUNTIME_MAX_WALK_H
#define QN_RUNTIME_MAX_WALK_H

#include "base/num.h"
#include "runtime/max_model.h"

#define QN_MAX_INLINE static inline __attribute__((always_inline))

/* Codes `bit` with probability p of a one (decoders ignore `bit`), returns the bit. */
typedef unsigned (*qn_max_bit_fn)(void *io, uint32_t p, unsigned bit);
/* The same for n_bits ≤ 64 equally probable bits. */
typedef uint64_t (*qn_max_raw_fn)(void *io, unsigned n_bits, uint64_t bits);

typedef struct qn_max_io {
    void *io;
    qn_max_bit_fn bit;
    qn_max_raw_fn raw;
} qn_max_io;

/* A unit taken apart. */
typedef struct qn_max_unit {
    uint64_t rest; /* mantissa below the leading one */
    unsigned cls, n_rest, sign;
} qn_max_unit;

QN_MAX_INLINE qn_max_unit qn_max_split(const qn_max_form *f, uint64_t u)
{
    qn_max_unit s;
    const unsigned bits = f->exp_bits + f->man_bits;
    const uint64_t mag = u & ((UINT64_C(1) << bits) - 1);
    s.sign = (unsigned)(u >> bits) & 1;
    const unsigned e = (unsigned)(mag >> f->man_bits);
    s.n_rest = f->man_bits;
    s.cls = f->man_bits + e;
    if (e == 0) {
        s.n_rest = mag == 0 ? 0 : 63 - (unsigned)__builtin_clzll(mag);
        s.cls = mag == 0 ? 0 : 1 + s.n_rest;
    }
    s.rest = mag & ((UINT64_C(1) << s.n_rest) - 1);
    return s;
}

QN_MAX_INLINE uint64_t qn_max_join(const qn_max_form *f, const qn_max_unit *s)
{
    uint64_t mag = s->rest;
    if (s->cls > f->man_bits)
        mag |= (uint64_t)(s->cls - f->man_bits) << f->man_bits;
    else if (s->cls > 0)
        mag |= UINT64_C(1) << (s->cls - 1);
    return mag | (uint64_t)s->sign << (f->exp_bits + f->man_bits);
}

/* Class and fraction in 1/256 octave. */
QN_MAX_INLINE uint32_t qn_max_lg(const qn_max_unit *s)
{
    const uint64_t frac = s->n_rest >= 8 ? s->rest >> (s->n_rest - 8) : s->rest << (8 - s->n_rest);
    return s->cls << 8 | (uint32_t)frac;
}

QN_MAX_INLINE unsigned qn_max_bits_of(uint32_t v)
{
    return v == 0 ? 0 : 32 - (unsigned)__builtin_clz(v);
}

/* Everything the contexts of one weight share. Magnitudes in 1/256 octave. */
typedef struct qn_max_view {
    int32_t both, row, col, near, above3;                   /* estimates of the scale here          */
    uint32_t left, left2, above, above_l, above_r, lag1, lag2; /* neighbours: lg << 1 | sign            */
    uint32_t left3, i, j, r;
    unsigned known; /* 0 … 35: how much of the row (6 steps) and of the column (6 steps) has been seen */
} qn_max_view;

QN_MAX_INLINE qn_max_view qn_max_look(const qn_max *m, uint32_t i, uint32_t r, uint32_t j)
{
    qn_max_view v;
    const uint32_t *w = m->past + QN_MAX_LEAD + i, cols = m->cols;
    const uint32_t none = m->past[0];
    v.left = w[-1];
    v.left2 = w[-2];
    v.left3 = w[-3];
    v.lag1 = m->head.lag[0] ? w[-(ptrdiff_t)m->head.lag[0]] : none;
    v.lag2 = m->head.lag[1] ? w[-(ptrdiff_t)m->head.lag[1]] : none;
    v.above = r ? w[-(ptrdiff_t)cols] : none;
    v.above_l = r && j ? w[-(ptrdiff_t)cols - 1] : none;
    v.above_r = r && j + 1 < cols ? w[1 - (ptrdiff_t)cols] : none;
    v.both = (m->whole + m->row + m->col[j]) >> 8;
    v.row = m->row_alone >> 8;
    v.col = (m->whole + m->col[j]) >> 8;
    v.near = m->near >> 8;
    v.above3 = (int32_t)((v.above_l >> 1) + 2 * (v.above >> 1) + (v.above_r >> 1)) / 4;
    v.i = i;
    v.j = j;
    v.r = r;
    const unsigned a = qn_max_bits_of(j) / 2, b = qn_max_bits_of(r) / 2;
    v.known = (a < 5 ? a : 5) * 6 + (b < 5 ? b : 5);
    return v;
}

QN_MAX_INLINE uint32_t qn_max_hash(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t h = a * UINT32_C(0x2C1B3C6D) + b * UINT32_C(0x297A2D39) + c * UINT32_C(0x85EBCA77);
    return h ^ h >> 15;
}

/* Distance from a scale in steps of 2^-(8 - shift) octave, never negative. */
QN_MAX_INLINE uint32_t qn_max_rel(int32_t at, int32_t scale, unsigned shift)
{
    return (uint32_t)((at - scale + (1 << 20)) >> shift);
}

/* kind: 0 first, 1 further up, 2 further down, 3 zero?; `t`: the class the decision is about. */
QN_MAX_INLINE unsigned qn_max_class_bit(qn_max *m, const qn_max_io *io, const qn_max_view *v, unsigned kind, unsigned step,
                                        uint32_t t, unsigned bit)
{
    const int32_t at = (int32_t)(t << 8);
    const uint32_t k = kind << 16 | t;
    const uint32_t ctx[QN_MAX_INPUTS] = {
        kind << 24 | qn_max_rel(at, v->both, 5),
        k,
        kind << 24 | qn_max_rel(at, v->row, 5),
        kind << 24 | qn_max_rel(at, v->col, 5),
        qn_max_hash(k, v->left >> 9, v->left2 >> 9),
        qn_max_hash(k, v->above >> 9, v->left >> 9),
        qn_max_hash(kind, qn_max_rel(at, v->row, 6), qn_max_rel(at, v->col, 6)),
        qn_max_hash(k, v->j, 1),
        qn_max_hash(kind, qn_max_rel(at, v->near, 5), qn_max_rel(at, v->both, 7)),
        qn_max_hash(k, v->lag1 >> 9, v->lag2 >> 9),
        qn_max_hash(k, v->r, 2),
        qn_max_hash(kind, qn_max_rel(at, v->above3, 6), qn_max_rel(at, v->both, 7)),
    };
    const unsigned set = kind == 0 ? 0 : kind == 3 ? 1 : kind == 1 ? 2 + (step < 7 ? step : 7) : 10 + (step < 7 ? step : 7);
    bit = io->bit(io->io, qn_max_predict(m, ctx, set, v->known), bit);
    qn_max_learn(m, bit);
    return bit;
}

/* Mantissa bit number b from the top; prefix: a one and the bits above. */
QN_MAX_INLINE unsigned qn_max_man_bit(qn_max *m, const qn_max_io *io, const qn_max_view *v, unsigned b, uint32_t prefix,
                                      uint32_t cls, unsigned bit)
{
    const int32_t at = (int32_t)(cls << 8);
    const uint32_t k = qn_max_hash(cls, prefix, 3);
    const uint32_t ctx[QN_MAX_INPUTS] = {
        qn_max_hash(prefix, qn_max_rel(at, v->both, 6), 4),
        k,
        qn_max_hash(prefix, qn_max_rel(at, v->row, 6), 5),
        qn_max_hash(prefix, qn_max_rel(at, v->col, 6), 6),
        qn_max_hash(k, v->left >> 7, 0),
        qn_max_hash(k, v->above >> 6, 0),
        qn_max_hash(prefix, qn_max_rel(at, v->row, 7), qn_max_rel(at, v->col, 7)),
        qn_max_hash(k, v->j, 1),
        qn_max_hash(prefix, qn_max_rel(at, v->near, 6), 7),
        qn_max_hash(k, v->lag1 >> 6, 0),
        qn_max_hash(k, v->r, 2),
        qn_max_hash(prefix, qn_max_rel(at, (int32_t)(v->above >> 1), 5), 8),
    };
    bit = io->bit(io->io, qn_max_predict(m, ctx, 18 + b, 36 + v->known), bit);
    qn_max_learn(m, bit);
    return bit;
}

QN_MAX_INLINE unsigned qn_max_sign_bit(qn_max *m, const qn_max_io *io, const qn_max_view *v, uint32_t lg, unsigned bit)
{
    const uint32_t k = 9u << 24, left = v->left & 1, above = v->above & 1;
    const uint32_t size = qn_max_rel((int32_t)lg, v->both, 8);
    const uint32_t row = (uint32_t)(m->row_sign + 16384) >> 11, col = (uint32_t)(m->col_sign[v->j] + 16384) >> 11;
    const uint32_t ctx[QN_MAX_INPUTS] = {
        k,
        k | left << 1 | above,
        qn_max_hash(k, row, size),
        qn_max_hash(k, col, size),
        qn_max_hash(k | (left << 2 | (v->left2 & 1) << 1 | (v->left3 & 1)), size, v->left >> 9),
        qn_max_hash(k | (above << 2 | (v->above_l & 1) << 1 | (v->above_r & 1)), size, v->above >> 9),
        qn_max_hash(k, row, col),
        qn_max_hash(k, v->j, 1),
        qn_max_hash(k | left, size, (lg >> 6) - (v->left >> 7)),
        qn_max_hash(k | (v->lag1 & 1) << 1 | (v->lag2 & 1), size, v->lag1 >> 9),
        qn_max_hash(k, v->r, 2),
        qn_max_hash(k | above, size, (lg >> 6) - (v->above >> 7)),
    };
    bit = io->bit(io->io, qn_max_predict(m, ctx, 40, 72 + v->known), bit);
    qn_max_learn(m, bit);
    return bit;
}

/* Codes the class; `cls` is ignored by decoders. A result above head.hi means a damaged payload. */
QN_MAX_INLINE uint32_t qn_max_class(qn_max *m, const qn_max_io *io, const qn_max_view *v, uint32_t cls)
{
    uint32_t lo = m->head.lo;
    const uint32_t hi = m->head.hi;
    if (lo == 0 && hi > 0) {
        if (qn_max_class_bit(m, io, v, 3, 0, 0, cls == 0))
            return 0;
        lo = 1;
    }
    if (lo == hi)
        return lo;
    /* the median of |w| is 0.67 σ: the octave it lies in */
    const int32_t mid = (v->both - 16) >> 8;
    const uint32_t from = mid <= (int32_t)lo ? lo + 1 : mid > (int32_t)hi ? hi : (uint32_t)mid;
    if (qn_max_class_bit(m, io, v, 0, 0, from, cls >= from)) {
        for (uint32_t t = from + 1, step = 0; t <= hi; t++, step++) {
            if (step == QN_MAX_UNARY) /* cls is in t − 1 … hi */
                return t - 1 + (uint32_t)io->raw(io->io, qn_max_bits_of(hi - t + 1), cls - t + 1);
            if (!qn_max_class_bit(m, io, v, 1, step, t, cls >= t))
                return t - 1;
        }
        return hi;
    }
    for (uint32_t t = from - 1, step = 0; t > lo; t--, step++) {
        if (step == QN_MAX_UNARY) { /* cls is in lo … t */
            const uint32_t down = (uint32_t)io->raw(io->io, qn_max_bits_of(t - lo), t - cls);
            return down > t - lo ? hi + 1 : t - down;
        }
        if (!qn_max_class_bit(m, io, v, 2, step, t, cls < t))
            return t;
    }
    return lo;
}

/* Codes unit i = r × cols + j. False: damaged payload. */
QN_MAX_INLINE bool qn_max_unit_code(qn_max *m, const qn_max_io *io, uint32_t i, uint32_t r, uint32_t j, uint64_t *u)
{
    const qn_max_form *f = &m->form;
    qn_max_unit s = qn_max_split(f, *u);
    const qn_max_view v = qn_max_look(m, i, r, j);
    s.cls = qn_max_class(m, io, &v, s.cls);
    if (s.cls > m->head.hi)
        return false;
    s.n_rest = s.cls > f->man_bits ? f->man_bits : s.cls > 0 ? s.cls - 1 : 0;
    const unsigned n_mod = s.n_rest < m->head.n_modelled ? s.n_rest : m->head.n_modelled, n_low = s.n_rest - n_mod;
    uint32_t prefix = 1;
    for (unsigned b = 0; b < n_mod; b++)
        prefix = prefix << 1 | qn_max_man_bit(m, io, &v, b, prefix, s.cls, (unsigned)(s.rest >> (s.n_rest - 1 - b)) & 1);
    const uint64_t top = prefix - (UINT32_C(1) << n_mod);
    if (m->head.model_sign) {
        const uint32_t lg = s.cls << 8 | (uint32_t)(n_mod >= 8 ? top >> (n_mod - 8) : top << (8 - n_mod));
        s.sign = qn_max_sign_bit(m, io, &v, lg, s.sign);
        s.rest = n_low ? io->raw(io->io, n_low, s.rest & ((UINT64_C(1) << n_low) - 1)) : 0;
    } else {
        const uint64_t low = s.rest & ((UINT64_C(1) << n_low) - 1);
        const uint64_t both = io->raw(io->io, n_low + 1, low << 1 | s.sign);
        s.sign = both & 1;
        s.rest = both >> 1;
    }
    s.rest |= top << n_low;
    *u = qn_max_join(f, &s);
    const uint32_t lg = qn_max_lg(&s);
    m->past[QN_MAX_LEAD + i] = lg << 1 | s.sign;
    qn_max_learn_scale(m, i, j, (int32_t)lg, s.sign);
    return true;
}

/* Codes a whole block: load before, store after, so that one loop serves both directions. */
QN_MAX_INLINE bool qn_max_walk(qn_max *m, const qn_max_io *io, uint64_t (*next)(void *, uint32_t),
                               void (*put)(void *, uint32_t, uint64_t), void *data, uint32_t *at)
{
    uint32_t i = 0;
    for (uint32_t r = 0; i < m->n; r++) {
        m->row = 0;
        m->row_alone = m->whole;
        m->row_sign = 0;
        for (uint32_t j = 0; j < m->cols && i < m->n; j++, i++) {
            uint64_t u = next(data, i);
            *at = i;
            if (!qn_max_unit_code(m, io, i, r, j, &u))
                return false;
            put(data, i, u);
        }
    }
    return true;
}

#endif
