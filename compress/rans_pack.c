/* rans_pack.c: see rans_pack.h. */
#include "compress/rans_pack.h"
#include "base/err.h"
#include "compress/ilog.h"

typedef struct bit_writer {
    uint8_t *p;
    size_t n_bits;
} bit_writer;

static void put_bits(bit_writer *b, unsigned v, unsigned n)
{
    for (unsigned i = 0; i < n; i++, b->n_bits++) {
        if (b->n_bits % 8 == 0)
            b->p[b->n_bits / 8] = 0;
        b->p[b->n_bits / 8] |= (uint8_t)((v >> i & 1) << (b->n_bits % 8));
    }
}

static void put_gamma(bit_writer *b, unsigned v)
{
    const unsigned n = 31u - (unsigned)__builtin_clz(v + 1);
    put_bits(b, 0, n);
    put_bits(b, 1, 1);
    put_bits(b, (v + 1) & ((1u << n) - 1), n);
}

/* f with `keep` bits below its leading one, to nearest, still at most M − 1. */
static unsigned round_to(unsigned f, unsigned keep)
{
    const unsigned len = 32u - (unsigned)__builtin_clz(f);
    if (len - 1 <= keep)
        return f;
    const unsigned shift = len - 1 - keep, r = (f + (1u << (shift - 1))) >> shift << shift;
    return r < QN_RANS_M ? r : (QN_RANS_M - 1) >> shift << shift;
}

/* Exact counts → whole numbers that sum to about M, at least 1 each. */
static void scale(const uint32_t count[256], unsigned n_sym, uint64_t sum, uint16_t w[256])
{
    for (unsigned i = 0; i < 256; i++) {
        const uint64_t f = i < n_sym ? ((uint64_t)count[i] * QN_RANS_M + sum / 2) / sum : 0;
        w[i] = (uint16_t)(i >= n_sym || count[i] == 0 ? 0 : f == 0 ? 1 : f >= QN_RANS_M ? QN_RANS_M - 1 : f);
    }
}

static size_t write_table(const uint16_t w[256], unsigned n_sym, unsigned keep, uint8_t *dst)
{
    bit_writer b = {.p = dst};
    unsigned last = 0;
    put_bits(&b, keep, 4);
    for (unsigned at = 0; at < n_sym;) {
        const unsigned len = w[at] ? 32u - (unsigned)__builtin_clz(w[at]) : 0;
        put_gamma(&b, len > last ? 2 * (len - last) - 1 : 2 * (last - len));
        if (len == 0) {
            unsigned run = 0;
            while (at + 1 + run < n_sym && w[at + 1 + run] == 0)
                run++;
            put_gamma(&b, run);
            at += 1 + run;
        } else {
            const unsigned low = len - 1 < keep ? len - 1 : keep;
            put_bits(&b, (w[at] >> (len - 1 - low)) & ((1u << low) - 1), low);
            at++;
        }
        last = len;
    }
    return (b.n_bits + 7) / 8;
}

void qn_rans_plan_make(qn_rans_plan *p, const uint32_t count[256], unsigned n_sym)
{
    static const uint8_t keeps[] = {0, 1, 2, 3, 4, 5, 6, 8, QN_RANS_KEEP_MAX};
    uint16_t exact[256], w[256], freq[256];
    uint8_t room[QN_RANS_TABLE_MAX];
    uint64_t sum = 0, best = UINT64_MAX;
    for (unsigned i = 0; i < n_sym; i++)
        sum += count[i];
    scale(count, n_sym, sum, exact);
    for (size_t k = 0; k < sizeof keeps; k++) {
        uint64_t cost = 0;
        for (unsigned i = 0; i < 256; i++)
            w[i] = (uint16_t)(exact[i] ? round_to(exact[i], keeps[k]) : 0);
        qn_rans_normalise(w, n_sym, freq);
        for (unsigned i = 0; i < n_sym; i++)
            if (count[i])
                cost += count[i] * (uint64_t)((QN_RANS_BITS << 16) - qn_ilog2(freq[i]));
        const size_t n_bytes = write_table(w, n_sym, keeps[k], room);
        if (cost + ((uint64_t)n_bytes << 19) < best) {
            best = cost + ((uint64_t)n_bytes << 19);
            p->cost = cost;
            p->table_bytes = n_bytes;
            memcpy(p->freq, freq, sizeof freq);
            memcpy(p->table, room, n_bytes);
        }
    }
}

void qn_rans_etab_make(qn_rans_etab *e, const qn_rans_tab *t, const uint16_t freq[256])
{
    const unsigned shift = QN_RANS_BITS - t->log2_buckets;
    uint16_t cum[257] = {0};
    for (unsigned i = 0; i < 256; i++) {
        const uint32_t f = freq[i];
        e->sym[i] = (qn_rans_esym){.rcp = f ? (UINT64_C(1) << 43) / f : 0,
                                   .limit = f << 20,
                                   .freq = (uint16_t)f,
                                   .cum = cum[i]};
        e->pair[i] = f << 16 | cum[i];
        cum[i + 1] = (uint16_t)(cum[i] + f);
    }
    e->slot[QN_RANS_M] = 0;
    for (unsigned slot = 0; slot < QN_RANS_M; slot++) {
        const unsigned bucket = slot >> shift, in = slot & ((1u << shift) - 1);
        const bool other = slot >= t->split[bucket];
        const unsigned sym = other ? t->other[bucket] : bucket;
        const unsigned rank = (in + (other ? t->adj[bucket] : 0u)) & 0xffff;
        e->slot[e->sym[t->log2_buckets == 6 ? t->map[sym] : sym].cum + rank] = (uint16_t)slot;
    }
}

unsigned qn_rans_log2_lanes(size_t n)
{
    return n < 1024      ? 0
           : n < 4096    ? 1
           : n < 8192    ? 2
           : n < 16384   ? 3
           : n < 65536   ? 4
           : n < 131072  ? 5
           : n < 262144  ? 6
           : n < 524288  ? 7
                         : 8;
}

qn_code qn_rans_pack(const qn_enc_ctx *cx, const uint8_t *src, size_t n, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    const unsigned log2_lanes = qn_rans_log2_lanes(n), n_lanes = 1u << log2_lanes;
    uint32_t count[256] = {0}, x[QN_RANS_LANES_MAX];
    qn_rans_plan plan;
    qn_rans_tab tab;
    *n_out = 0;
    for (size_t i = 0; i < n; i++)
        count[src[i]]++;
    qn_rans_plan_make(&plan, count, 256);
    const size_t head = 1 + plan.table_bytes + 4 * (size_t)n_lanes;
    if (head + (plan.cost >> 19) > cap + 2 * (size_t)n_lanes + 8) /* hopeless: do not even code it */
        return QN_OK;
    qn_rans_etab *e = qn_arena_get(cx->scratch, sizeof *e, 64, err);
    uint8_t *words = qn_arena_get(cx->scratch, 2 * (uint64_t)n + 2, 64, err);
    if (!e || !words)
        return QN_E_MEMORY;
    qn_rans_tab_make(&tab, plan.freq);
    qn_rans_etab_make(e, &tab, plan.freq);
    for (unsigned i = 0; i < n_lanes; i++)
        x[i] = QN_RANS_START;
    const uint8_t *end = words + 2 + 2 * n, *first = cx->ekern->dense.encode(e, src, n, x, n_lanes, words + 2 + 2 * n);
    const size_t n_words = (size_t)(end - first);
    if (head + n_words > cap)
        return QN_OK;
    *dst++ = (uint8_t)log2_lanes;
    memcpy(dst, plan.table, plan.table_bytes);
    dst += plan.table_bytes;
    for (unsigned i = 0; i < n_lanes; i++, dst += 4)
        qn_store32(dst, x[i]);
    memcpy(dst, first, n_words);
    *n_out = head + n_words;
    return QN_OK;
}

qn_code qn_rans_pack_side(const qn_enc_ctx *cx, const uint8_t *src, size_t n, uint8_t *dst, size_t *n_out, qn_err *err)
{
    uint8_t *room = qn_arena_get(cx->scratch, n, 64, err);
    size_t m;
    if (!room)
        return QN_E_MEMORY;
    QN_TRY(qn_rans_pack(cx, src, n, room, n - 1, &m, err));
    const size_t len = qn_put_varint(dst, m ? m : n);
    memcpy(dst + len, m ? room : src, m ? m : n);
    *n_out = len + (m ? m : n);
    return QN_OK;
}
