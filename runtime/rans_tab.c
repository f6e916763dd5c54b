/* rans_tab.c: see rans_tab.h.
 *
 * Stored frequencies need not be exact. A relative error e costs about e²/(2 ln 2) bits per symbol (second order of the
 * Kullback-Leibler divergence), so small blocks keep one or two bits below the leading one of each frequency, large
 * blocks all of them; the decoder scales what it reads to a sum of M. */
#include "runtime/rans_tab.h"
#include "base/err.h"

/* Bits from the low end of each byte upwards. Past the end they are zero and `failed` is set. */
typedef struct bits {
    qn_cur *c;
    unsigned have;
    uint32_t hold;
} bits;

static unsigned get_bits(bits *b, unsigned n)
{
    while (b->have < n) {
        b->hold |= (uint32_t)qn_cur_u8(b->c) << b->have;
        b->have += 8;
    }
    const unsigned v = b->hold & ((1u << n) - 1);
    b->hold >>= n;
    b->have -= n;
    return v;
}

/* Elias gamma, shifted to start at 0; at most 9 bits follow the zeros. */
static unsigned get_gamma(bits *b)
{
    unsigned n = 0;
    while (!b->c->failed && get_bits(b, 1) == 0)
        if (++n > 9) {
            b->c->failed = true;
            return 0;
        }
    return ((1u << n) | get_bits(b, n)) - 1;
}

void qn_rans_normalise(const uint16_t weight[256], unsigned n_sym, uint16_t freq[256])
{
    uint32_t sum = 0, total = 0;
    unsigned live = 0, top = 0;
    for (unsigned i = 0; i < n_sym; i++)
        sum += weight[i];
    for (unsigned i = 0; i < 256; i++) {
        const uint32_t w = i < n_sym ? weight[i] : 0;
        const uint32_t f = (uint32_t)((uint64_t)w * QN_RANS_M / sum);
        freq[i] = (uint16_t)(w == 0 ? 0 : f ? f : 1);
        total += freq[i];
        live += w != 0;
        if (freq[i] > freq[top])
            top = i;
    }
    if (live == 1) {
        freq[top] = QN_RANS_M - 1;
        freq[top == 0 ? 1 : 0] = 1;
        return;
    }
    if (total < QN_RANS_M)
        freq[top] = (uint16_t)(freq[top] + (QN_RANS_M - total));
    while (total > QN_RANS_M) { /* only when many ones were rounded up: less than 256 in all */
        top = 0;
        for (unsigned i = 1; i < 256; i++)
            if (freq[i] > freq[top])
                top = i;
        freq[top]--;
        total--;
    }
}

qn_code qn_rans_read_freq(qn_cur *c, unsigned n_sym, uint16_t freq[256], qn_err *err)
{
    uint16_t weight[256] = {0};
    bits b = {.c = c};
    const unsigned keep = get_bits(&b, 4);
    unsigned last = 0, at = 0, live = 0;
    while (at < n_sym && !c->failed) {
        const unsigned z = get_gamma(&b); /* 0, 1, 2, … mean steps of 0, +1, −1, +2, … */
        const unsigned len = z & 1 ? last + (z + 1) / 2 : last - z / 2;
        if (len > QN_RANS_BITS) /* unsigned: also when below zero */
            return QN_FAIL(err, QN_E_INPUT, c->at, "frequency table: symbol %u has %d bits, allowed are 0 to %d", at,
                           (int)len, QN_RANS_BITS);
        if (len == 0) {
            at += 1 + get_gamma(&b); /* a run of absent symbols */
        } else {
            const unsigned low = len - 1 < keep ? len - 1 : keep;
            weight[at++] = (uint16_t)(((1u << low) | get_bits(&b, low)) << (len - 1 - low));
            live++;
        }
        last = len;
    }
    if (c->failed || at > n_sym || live == 0 || keep > QN_RANS_KEEP_MAX || b.hold != 0)
        return QN_FAIL(err, QN_E_INPUT, c->at, "frequency table: %s",
                       c->failed ? "cut short" : live == 0 ? "empty" : "not well formed");
    qn_rans_normalise(weight, n_sym, freq);
    return QN_OK;
}

/* Vose's construction in one sweep, in integers. A symbol with fewer slots than a bucket has (S) leaves its bucket to be
 * completed by `big`, the first symbol with S or more; that one gives its highest ranks away and keeps 0 … left−1. When it
 * falls below S itself, the next big symbol completes its bucket at once. The frequencies sum to buckets × S, so there
 * always is a next one. */
static void alias(qn_rans_tab *t, const uint16_t *freq)
{
    const unsigned n = 1u << t->log2_buckets, each = QN_RANS_M >> t->log2_buckets;
    uint16_t left[256];
    unsigned big = 0;
    for (unsigned i = 0; i < n; i++) {
        left[i] = freq[i];
        t->freq16[i] = (uint16_t)(16u * freq[i]);
        t->split[i] = (uint16_t)(i * each); /* a full bucket: "other" is itself, from its first slot */
        t->other[i] = (uint16_t)i;
        t->adj[i] = 0;
    }
    while (big < n && freq[big] < each)
        big++;
    for (unsigned i = 0; i < n; i++) {
        if (freq[i] >= each)
            continue;
        for (unsigned j = i; big < n;) {
            t->split[j] = (uint16_t)(j * each + left[j]);
            t->other[j] = (uint16_t)big;
            left[big] = (uint16_t)(left[big] - (each - left[j]));
            t->adj[j] = (uint16_t)(left[big] - left[j]);
            if (left[big] >= each)
                break;
            j = big;
            do
                big++;
            while (big < n && freq[big] < each);
        }
    }
}

void qn_rans_tab_make(qn_rans_tab *t, const uint16_t freq[256])
{
    uint16_t packed[64] = {0};
    unsigned live = 0;
    memset(t->map, 0, sizeof t->map);
    for (unsigned i = 0; i < 256; i++)
        if (freq[i] && live++ < 64) {
            packed[live - 1] = freq[i];
            t->map[live - 1] = (uint8_t)i;
        }
    t->log2_buckets = live <= 64 ? 6 : 8;
    alias(t, live <= 64 ? packed : freq);
}

void qn_rans_tab_make64(qn_rans_tab *t, const uint16_t freq[64])
{
    t->log2_buckets = 6;
    for (unsigned i = 0; i < 64; i++)
        t->map[i] = (uint8_t)i;
    alias(t, freq);
}

qn_code qn_rans_begin(qn_rans *s, qn_cur *c, unsigned log2_lanes, qn_err *err)
{
    if (log2_lanes > 8)
        return QN_FAIL(err, QN_E_INPUT, c->at, "2^%u lanes: allowed are up to %d", log2_lanes, QN_RANS_LANES_MAX);
    s->n_lanes = 1u << log2_lanes;
    for (unsigned i = 0; i < s->n_lanes; i++) {
        const uint32_t x = qn_cur_u32(c);
        s->lo[i] = (uint16_t)x;
        s->hi[i] = (uint16_t)(x >> 16);
        if (s->hi[i] == 0)
            return QN_FAIL(err, QN_E_INPUT, c->at, "state of lane %u: %s", i, c->failed ? "cut short" : "below 2^16");
    }
    return QN_OK;
}

qn_code qn_rans_finish(const qn_rans *s, bool exact, qn_err *err)
{
    unsigned bad = s->p != s->end;
    for (unsigned i = 0; i < s->n_lanes; i++)
        bad |= (exact ? s->lo[i] : 0u) | (s->hi[i] ^ 1u);
    return bad ? QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "coded symbols do not end where they should") : QN_OK;
}

qn_code qn_rans_unpack(const qn_kern *k, const uint8_t *payload, size_t n_bytes, uint8_t *dst, size_t n, qn_err *err)
{
    qn_cur c = qn_cur_over(payload, n_bytes);
    uint16_t freq[256];
    qn_rans_tab t;
    qn_rans s;
    const unsigned log2_lanes = qn_cur_u8(&c);
    QN_TRY(qn_rans_read_freq(&c, 256, freq, err));
    qn_rans_tab_make(&t, freq);
    QN_TRY(qn_rans_begin(&s, &c, log2_lanes, err));
    s.p = payload + c.at;
    s.end = payload + n_bytes;
    if (!k->dense.decode(&s, &t, dst, n))
        return QN_FAIL(err, QN_E_INPUT, n_bytes, "coded symbols cut short");
    return qn_rans_finish(&s, true, err);
}

qn_code qn_rans_unpack_side(const qn_kern *k, qn_cur *c, uint8_t *dst, size_t n, qn_err *err)
{
    const uint64_t n_bytes = qn_cur_varint(c);
    const uint8_t *p = n_bytes <= n ? qn_cur_take(c, (size_t)n_bytes) : NULL;
    if (!p)
        return QN_FAIL(err, QN_E_INPUT, c->at, "side information for %zu rows or columns: cut short or too long", n);
    if (n_bytes == n) {
        memcpy(dst, p, n);
        return QN_OK;
    }
    return qn_rans_unpack(k, p, (size_t)n_bytes, dst, n, err);
}
