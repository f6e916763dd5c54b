/* enc_max.c: the MAX codec, encoding: chooses the header's parameters, range encoder. Mirror of runtime/dec_max.c. */
#include "base/err.h"
#include "compress/encode.h"
#include "runtime/max_walk.h"
#include <string.h>

/* `low` is 33 bits: bit 32 is a carry into bytes already produced. The last produced byte and the 0xff run before it are
 * held back until it is known whether a carry comes. */
typedef struct range_enc {
    uint64_t low, n_held;
    uint32_t range;
    uint8_t held;
    bool any;
    uint8_t *p;
    size_t n_bytes, cap; /* n_bytes runs past cap when there is no room */
} range_enc;

static inline void emit(range_enc *e, uint8_t byte)
{
    if (e->n_bytes < e->cap)
        e->p[e->n_bytes] = byte;
    e->n_bytes++;
}

/* The top byte of low leaves. */
static void shift_out(range_enc *e)
{
    const uint8_t carry = (uint8_t)(e->low >> 32), top = (uint8_t)(e->low >> 24);
    if (carry || top != 0xff) {
        if (e->any)
            emit(e, (uint8_t)(e->held + carry));
        for (; e->n_held > 0; e->n_held--)
            emit(e, (uint8_t)(0xff + carry));
        e->held = top;
        e->any = true;
    } else {
        e->n_held++;
    }
    e->low = (e->low & 0xffffff) << 8;
}

static inline void renorm(range_enc *e)
{
    while (e->range < UINT32_C(1) << 24) {
        e->range <<= 8;
        shift_out(e);
    }
}

static inline unsigned put_bit(void *io, uint32_t p, unsigned bit)
{
    range_enc *e = io;
    const uint32_t one = (uint32_t)((uint64_t)e->range * p >> 16);
    if (bit) {
        e->range = one;
    } else {
        e->low += one;
        e->range -= one;
    }
    renorm(e);
    return bit;
}

static inline uint64_t put_raw(void *io, unsigned n_bits, uint64_t bits)
{
    range_enc *e = io;
    while (n_bits > 0) {
        const unsigned k = n_bits < 8 ? n_bits : 8;
        n_bits -= k;
        e->range >>= k;
        e->low += (uint64_t)e->range * (bits >> n_bits & ((1u << k) - 1));
        renorm(e);
    }
    return bits;
}

/* A multiple of 2^24 within [low, low + range): range is never smaller than that. */
static void finish(range_enc *e)
{
    e->low = (e->low + 0xffffff) & ~UINT64_C(0xffffff);
    shift_out(e);
    /* what is still held: no carry can come any more */
    if (e->any)
        emit(e, e->held);
    for (; e->n_held > 0; e->n_held--)
        emit(e, 0xff);
}

typedef struct in {
    const uint8_t *src;
    unsigned unit_bytes;
} in;

static inline uint64_t get_unit(void *data, uint32_t i)
{
    const in *s = data;
    const uint8_t *p = s->src + (size_t)i * s->unit_bytes;
    return s->unit_bytes == 1 ? *p : s->unit_bytes == 2 ? qn_load16(p) : s->unit_bytes == 4 ? qn_load32(p) : qn_load64(p);
}

static inline void nothing(void *data, uint32_t i, uint64_t u)
{
    (void)data;
    (void)i;
    (void)u;
}

/* Distances at which signs and magnitudes repeat, such as the rows of a convolution's kernels: the two in 2 … 64 whose
 * neighbours agree best, over a sample. Agreement: of signs, squared deviation from one half; of classes, how much
 * rarer a difference than with the neighbours at all other distances. All integer, ties to the shorter distance. */
static void choose_lags(qn_max_head *h, const qn_max_form *f, const qn_block *b, in *s)
{
    enum { FROM = 2, TO = 64, SAMPLE = 16384 };
    const uint32_t n = b->n < SAMPLE ? b->n : SAMPLE;
    uint64_t best[2] = {0, 0};
    uint32_t diff[TO + 1] = {0};
    int64_t agree[TO + 1] = {0};
    uint64_t mean = 0;
    if (n < 4 * TO)
        return;
    for (uint32_t i = TO; i < n; i++) {
        const qn_max_unit u = qn_max_split(f, get_unit(s, i));
        for (uint32_t k = FROM; k <= TO; k++) {
            const qn_max_unit w = qn_max_split(f, get_unit(s, i - k));
            const uint32_t d = u.cls > w.cls ? u.cls - w.cls : w.cls - u.cls;
            diff[k] += d < 8 ? d : 8;
            agree[k] += u.sign == w.sign ? 1 : -1;
        }
    }
    for (uint32_t k = FROM; k <= TO; k++)
        mean += diff[k];
    mean /= TO - FROM + 1;
    for (uint32_t k = FROM; k <= TO; k++) {
        const uint64_t lead = mean > diff[k] ? mean - diff[k] : 0;
        const uint64_t score = lead * lead + (uint64_t)(agree[k] * agree[k]);
        if (score > best[0]) {
            best[1] = best[0];
            h->lag[1] = h->lag[0];
            best[0] = score;
            h->lag[0] = k;
        } else if (score > best[1]) {
            best[1] = score;
            h->lag[1] = k;
        }
    }
}

/* The bits below the third are noise in trained weights, not in what was rounded, scaled or cut: model them when one
 * bit plane of the leading-one-aligned mantissa is far from balanced (more than 8 standard deviations). */
static unsigned choose_modelled(const qn_max_form *f, const qn_block *b, in *s)
{
    const unsigned top = f->man_bits < 3 ? f->man_bits : 3;
    const unsigned most = f->man_bits < QN_MAX_MODELLED ? f->man_bits : QN_MAX_MODELLED;
    int64_t lean[QN_MAX_MODELLED] = {0};
    uint64_t n = 0;
    unsigned want = top;
    for (uint32_t i = 0; i < b->n; i++) {
        const qn_max_unit u = qn_max_split(f, get_unit(s, i));
        if (u.n_rest < most)
            continue;
        n++;
        for (unsigned k = top; k < most; k++)
            lean[k] += u.rest >> (u.n_rest - 1 - k) & 1 ? 1 : -1;
    }
    for (unsigned k = top; k < most; k++)
        if ((uint64_t)(lean[k] * lean[k]) > 64 * n)
            want = k + 1;
    return want;
}

/* Signs are mostly fair coins: modelling them costs time and, through what it has to learn, bytes. They are modelled when
 * they agree with a neighbour's, or lean within columns or rows, by more than chance would have it: agreement is a
 * sum of n fair ±1 (variance n); Σ over columns of (sum of signs)² has mean n and variance about 2 n × rows. */
static qn_code choose_sign(qn_max_head *h, const qn_max_form *f, const qn_block *b, in *s, qn_arena *scratch, qn_err *err)
{
    int32_t *col = qn_arena_get(scratch, (uint64_t)b->cols * sizeof *col, 64, err);
    if (!col)
        return QN_E_MEMORY;
    memset(col, 0, b->cols * sizeof *col);
    const unsigned at = f->exp_bits + f->man_bits;
    const uint32_t back[5] = {1, 2, b->cols, h->lag[0], h->lag[1]};
    const int64_t n = b->n, rows = (n + b->cols - 1) / b->cols;
    int64_t agree[5] = {0}, total = 0, by_col = 0, by_row = 0, row = 0;
    uint32_t j = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const unsigned x = (unsigned)(get_unit(s, i) >> at) & 1;
        for (unsigned k = 0; k < 5; k++)
            if (back[k] > 0 && i >= back[k])
                agree[k] += ((unsigned)(get_unit(s, i - back[k]) >> at) & 1) == x ? 1 : -1;
        total += x ? 1 : -1;
        row += x ? 1 : -1;
        col[j] += x ? 1 : -1;
        if (++j == b->cols || i + 1 == b->n) {
            by_row += row * row;
            row = 0;
            j = 0;
        }
    }
    for (j = 0; j < b->cols; j++)
        by_col += (int64_t)col[j] * col[j];
    h->model_sign = total * total > 16 * n;
    for (unsigned k = 0; k < 5; k++)
        h->model_sign = h->model_sign || agree[k] * agree[k] > 16 * n;
    /* more than 4 standard deviations above the mean; scaled so that squares fit */
    const int64_t over_col = (by_col - n) >> 12, over_row = (by_row - n) >> 12;
    const int64_t var_col = (2 * n * rows) >> 24, var_row = (2 * n * (int64_t)b->cols) >> 24;
    h->model_sign = h->model_sign || (over_col > 0 && over_col * over_col > 16 * (var_col + 1)) ||
                    (over_row > 0 && over_row * over_row > 16 * (var_row + 1));
    return QN_OK;
}

static qn_code choose(qn_max_head *h, const qn_max_form *f, const qn_block *b, in *s, qn_arena *scratch, qn_err *err)
{
    uint64_t sum = 0, n = 0;
    *h = (qn_max_head){.lo = UINT32_MAX};
    for (uint32_t i = 0; i < b->n; i++) {
        const qn_max_unit u = qn_max_split(f, get_unit(s, i));
        h->lo = u.cls < h->lo ? u.cls : h->lo;
        h->hi = u.cls > h->hi ? u.cls : h->hi;
        if (u.cls > 0) {
            sum += qn_max_lg(&u);
            n++;
        }
    }
    /* E log2 |z| = −0.916 for a normal z: the mean of lg lies 235/256 octave below σ */
    const uint64_t last = (((uint64_t)f->man_bits + (1u << f->exp_bits)) << 4) - 1;
    h->scale = (unsigned)(n ? qn_min_u64((sum / n + 235) >> 4, last) : 0);
    h->n_modelled = choose_modelled(f, b, s);
    choose_lags(h, f, b, s);
    return choose_sign(h, f, b, s, scratch, err);
}

static void write_head(const qn_max_head *h, uint8_t *p)
{
    p[0] = (uint8_t)h->n_modelled;
    p[1] = h->model_sign;
    qn_store16(p + 2, (uint16_t)h->lo);
    qn_store16(p + 4, (uint16_t)h->hi);
    qn_store16(p + 6, (uint16_t)h->scale);
    p[8] = (uint8_t)h->lag[0];
    p[9] = (uint8_t)h->lag[1];
    p[10] = 0;
}

qn_code qn_enc_max(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap, size_t *n_out,
                   qn_err *err)
{
    qn_max_form f;
    qn_max_head h;
    *n_out = 0;
    if (!qn_max_form_of(b->dtype, &f) || cap <= QN_MAX_HEADER_BYTES)
        return QN_OK;
    in s = {src, f.unit_bytes};
    QN_TRY(choose(&h, &f, b, &s, cx->scratch, err));
    write_head(&h, dst);
    qn_max *m = qn_arena_get(cx->scratch, sizeof *m, 64, err);
    if (!m)
        return QN_E_MEMORY;
    QN_TRY(qn_max_init(m, b, &h, cx->scratch, err));
    range_enc e = {.range = UINT32_MAX, .p = dst + QN_MAX_HEADER_BYTES, .cap = cap - QN_MAX_HEADER_BYTES};
    const qn_max_io io = {&e, put_bit, put_raw};
    uint32_t at = 0;
    if (!qn_max_walk(m, &io, get_unit, nothing, &s, &at))
        return QN_BUG(err, "max: unit %u has a class above %u", at, h.hi);
    finish(&e);
    if (e.n_bytes <= e.cap)
        *n_out = QN_MAX_HEADER_BYTES + e.n_bytes;
    return QN_OK;
}
