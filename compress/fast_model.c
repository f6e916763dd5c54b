/* fast_model.c: which symbols a table codes, with which frequencies, in which slot order.
 *
 * With states of 16 bits and 256 slots the textbook estimate, log2(256 / f) bits for a symbol of
 * frequency f, is off by enough to matter. In equilibrium a state x is distributed about like 1/x
 * over [2^8, 2^16), so the slot x mod 256 is not uniform: slot t is met with a probability
 * proportional to the sum over q = 1 … 255 of log((256q + t + 1) / (256q + t)), which falls by a
 * sixth from slot 0 to slot 255 (all of it from small q). A symbol in slots [a, a + f) is hence
 * coded as if its probability were
 *
 *     P(a, f) = (mass(a + f) − mass(a)) / mass(256),   mass(t) = sum over q of log2((256q + t) /
 * (256q)),  mass(256) = 8
 *
 * What looks like a loss of the small state is a freedom: symbols that rounding gave too little go
 * to low slots, those that got too much to high ones. This makes frequencies finer than 1/256 at no
 * cost to the decoder. */
#include "compress/fast_model.h"
#include <string.h>

uint32_t qn_fast_lg(uint64_t v)
{
    const unsigned e = 63 - (unsigned)__builtin_clzll(v);
    const uint64_t m = v << (63 - e); /* 1.63 */
    const uint32_t i = (uint32_t)(m >> 55) & 255, frac = (uint32_t)(m >> 39) & 0xffff,
                   a = qn_fast_lg_tab[i];
    return (e << 16) + a + ((qn_fast_lg_tab[i + 1] - a) * frac >> 16);
}

#define LG_256 (UINT64_C(8) << 16)

/* An escape is paid for twice: decoders mispredict a branch at most of them. This many bits are
 * what that is worth. */
#define SPEED_BITS      4u
#define SPEED_FROM_SIZE 65536 /* weights: below it nobody waits */

/* One set of symbols with counts and frequencies. */
typedef struct set {
    unsigned n;
    uint64_t count[QN_FAST_SYMS];
    unsigned freq[QN_FAST_SYMS];
    unsigned sym[QN_FAST_SYMS]; /* QN_FAST_NO_ESC: the escape */
} set;

static uint64_t gain_up(const set *s, unsigned i)
{
    return s->count[i] * (qn_fast_lg(s->freq[i] + 1) - qn_fast_lg(s->freq[i]));
}

static uint64_t loss_down(const set *s, unsigned i)
{
    return s->freq[i] < 2 ? UINT64_MAX
                          : s->count[i] * (qn_fast_lg(s->freq[i]) - qn_fast_lg(s->freq[i] - 1));
}

/* Frequencies of least cost sum count log2(256 / freq): the cost is convex in each, so single steps
 * reach it. */
static void normalise(set *s, uint64_t total)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < s->n; i++) {
        const unsigned f = (unsigned)((s->count[i] * 256 + total / 2) / total);
        sum += s->freq[i] = f < 1 ? 1 : f > 255 ? 255 : f;
    }
    for (unsigned step = 0; step < 512; step++) {
        unsigned up = 0, down = 0;
        uint64_t best_up = 0, best_down = UINT64_MAX;
        for (unsigned i = 0; i < s->n; i++) {
            const uint64_t g = gain_up(s, i), l = loss_down(s, i);
            if (g > best_up && s->freq[i] < 255) {
                best_up = g;
                up = i;
            }
            if (l < best_down) {
                best_down = l;
                down = i;
            }
        }
        if (sum < 256) {
            s->freq[up]++;
            sum++;
        } else if (sum > 256) {
            s->freq[down]--;
            sum--;
        } else if (best_up > best_down && up != down) {
            s->freq[up]++;
            s->freq[down]--;
        } else {
            return;
        }
    }
}

static uint64_t plain_cost(const set *s)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < s->n; i++)
        bits += s->count[i] * (LG_256 - qn_fast_lg(s->freq[i]));
    return bits;
}

/* The same by P(a, f). */
static uint64_t placed_cost(const set *s)
{
    uint64_t bits = 0;
    unsigned a = 0;
    for (unsigned i = 0; i < s->n; a += s->freq[i], i++) {
        const uint32_t mass = qn_fast_mass_tab[a + s->freq[i]] - qn_fast_mass_tab[a];
        bits += s->count[i] * ((UINT64_C(23) << 16) - qn_fast_lg(mass));
    }
    return bits;
}

static void swap_at(set *s, unsigned i, unsigned j)
{
    const uint64_t c = s->count[i];
    const unsigned f = s->freq[i], v = s->sym[i];
    s->count[i] = s->count[j];
    s->freq[i] = s->freq[j];
    s->sym[i] = s->sym[j];
    s->count[j] = c;
    s->freq[j] = f;
    s->sym[j] = v;
}

/* Most underrated first: descending count / freq. */
static void sort_by_need(set *s)
{
    for (unsigned i = 1; i < s->n; i++)
        for (unsigned j = i; j > 0 && s->count[j] * s->freq[j - 1] > s->count[j - 1] * s->freq[j];
             j--)
            swap_at(s, j, j - 1);
}

static void sort_by_symbol(set *s)
{
    for (unsigned i = 1; i < s->n; i++)
        for (unsigned j = i; j > 0 && s->sym[j] < s->sym[j - 1]; j--)
            swap_at(s, j, j - 1);
}

/* Moves single units between symbols, reordering each time, as long as that helps: for large blocks
 * of few symbols, since each turn costs their number squared. */
static uint64_t place(set *s, bool search)
{
    sort_by_need(s);
    uint64_t best = placed_cost(s);
    for (bool again = search && s->n <= 24; again;) {
        again = false;
        for (unsigned i = 0; i < s->n; i++)
            for (unsigned j = 0; j < s->n; j++) {
                set t = *s;
                if (i == j || t.freq[i] < 2 || t.freq[j] > 254)
                    continue;
                t.freq[i]--;
                t.freq[j]++;
                sort_by_need(&t);
                const uint64_t cost = placed_cost(&t);
                if (cost < best) {
                    best = cost;
                    *s = t;
                    again = true;
                }
            }
    }
    return best;
}

/* Rough bits of what is nested: entropy of the escapes, and a small table. */
static uint64_t escape_cost(const uint32_t *counts, const uint8_t *kept, uint64_t n_esc,
                            unsigned n_kinds)
{
    uint64_t bits = (UINT64_C(48) + 10 * n_kinds) << 16;
    const uint32_t lg = qn_fast_lg(n_esc);
    for (unsigned v = 0; v < 256; v++)
        if (counts[v] && !kept[v])
            bits += counts[v] * (uint64_t)(lg - qn_fast_lg(counts[v]));
    return bits < n_esc << 19 ? bits : (n_esc << 19) + (UINT64_C(24) << 16);
}

/* The `keep` commonest symbols with different residues mod 64, and an escape if that is not all. */
static uint64_t try_set(const uint32_t *counts, const uint8_t *by_count, unsigned n_live,
                        uint64_t n, unsigned keep, set *s)
{
    uint8_t kept[256] = {0};
    uint64_t seen = 0, n_esc = n;
    s->n = 0;
    for (unsigned i = 0; i < n_live && s->n < keep; i++) {
        const unsigned v = by_count[i];
        if (seen >> (v & 63) & 1)
            continue;
        seen |= UINT64_C(1) << (v & 63);
        kept[v] = 1;
        s->sym[s->n] = v;
        s->count[s->n++] = counts[v];
        n_esc -= counts[v];
    }
    const unsigned n_coded = s->n;
    if (n_esc) {
        s->sym[s->n] = QN_FAST_NO_ESC;
        s->count[s->n++] = n_esc;
    }
    normalise(s, n);
    return plain_cost(s) +
           ((UINT64_C(10) * s->n + (n < SPEED_FROM_SIZE ? 0 : SPEED_BITS * n_esc)) << 16) +
           (n_esc ? escape_cost(counts, kept, n_esc, n_live - n_coded) : 0);
}

void qn_fast_model_choose(const uint32_t counts[256], uint64_t n, qn_fast_model *m)
{
    uint8_t by_count[256];
    unsigned n_live = 0, n_classes = 0;
    uint64_t seen = 0;
    for (unsigned v = 0; v < 256; v++)
        if (counts[v]) {
            unsigned j = n_live++;
            for (; j > 0 && counts[v] > counts[by_count[j - 1]]; j--)
                by_count[j] = by_count[j - 1];
            by_count[j] = (uint8_t)v;
            n_classes += !(seen >> (v & 63) & 1);
            seen |= UINT64_C(1) << (v & 63);
        }
    unsigned most =
        n_classes < n_live && n_classes > QN_FAST_SYMS - 1 ? QN_FAST_SYMS - 1 : n_classes;
    if (most > QN_FAST_SYMS)
        most = QN_FAST_SYMS;
    set best, s;
    uint64_t best_cost = UINT64_MAX;
    /* Only symbols worth less than half a slot are tried as escapes: decoders branch at each. */
    for (unsigned keep = most, tries = 0; keep > 0 && tries < 16; keep--, tries++) {
        if (keep < most && (uint64_t)counts[by_count[keep]] * 512 > n)
            break;
        const uint64_t cost = try_set(counts, by_count, n_live, n, keep, &s);
        if (cost < best_cost) {
            best_cost = cost;
            best = s;
        }
    }
    sort_by_symbol(&best);
    m->order = false;
    /* stating the order costs about log2(n!) bits; on small blocks it cannot be won back */
    if (n >= 4096) {
        s = best;
        const uint64_t here = placed_cost(&best),
                       there = place(&s, n >= SPEED_FROM_SIZE) + ((UINT64_C(5) * s.n) << 16);
        if (there < here) {
            best_cost -= here - there < best_cost ? here - there : 0;
            best = s;
            m->order = true;
        }
    }
    m->bits_q16 = best_cost;
    m->n = best.n;
    m->esc = QN_FAST_NO_ESC;
    m->n_esc = 0;
    seen = 0;
    for (unsigned i = 0; i < best.n; i++)
        if (best.sym[i] != QN_FAST_NO_ESC)
            seen |= UINT64_C(1) << (best.sym[i] & 63);
    for (unsigned i = 0; i < best.n; i++) {
        m->freq[i] = (uint8_t)best.freq[i];
        m->sym[i] = (uint8_t)best.sym[i];
        if (best.sym[i] == QN_FAST_NO_ESC) {
            for (m->esc = 0; seen >> m->esc & 1; m->esc++)
                ;
            m->sym[i] = (uint8_t)m->esc;
            m->n_esc = best.count[i];
        }
    }
}

typedef struct bits {
    uint8_t *p;
    size_t at;
} bits;

static void put(bits *b, unsigned v, unsigned n)
{
    for (unsigned i = 0; i < n; i++, b->at++)
        b->p[b->at / 8] = (uint8_t)(b->p[b->at / 8] | (v >> i & 1) << b->at % 8);
}

static void put_gamma(bits *b, unsigned v)
{
    const unsigned z = 31 - (unsigned)__builtin_clz(v);
    put(b, 0, z);
    put(b, 1, 1);
    put(b, v, z);
}

size_t qn_fast_model_write(const qn_fast_model *m, uint8_t *dst)
{
    bits b = {.p = dst};
    unsigned rank[QN_FAST_SYMS],
        last = 0; /* coded symbols ascending, then the escape: indices into m */
    unsigned n = 0;
    const bool esc = m->esc != QN_FAST_NO_ESC;
    for (unsigned v = 0; v < 256; v++)
        for (unsigned i = 0; i < m->n; i++)
            if (m->sym[i] == v && v != m->esc)
                rank[n++] = i;
    for (unsigned i = 0; esc && i < m->n; i++)
        if (m->sym[i] == m->esc)
            rank[n++] = i;
    const unsigned n_coded = m->n - esc;
    put(&b, n_coded - 1, 6);
    for (unsigned i = 0; i < n_coded; i++) {
        const unsigned v = m->sym[rank[i]];
        if (i == 0)
            put(&b, v, 8);
        else
            put_gamma(&b, v - last);
        last = v;
    }
    if (esc)
        put_gamma(&b, m->freq[rank[n_coded]]);
    for (unsigned i = 0; i + 1 < n_coded; i++)
        put_gamma(&b, m->freq[rank[i]]);
    for (unsigned i = 0; m->order && i < m->n; i++) {
        unsigned k = 0, width = 0;
        while (rank[k] != i)
            k++;
        while (1u << width < m->n - i)
            width++;
        put(&b, k, width);
        memmove(rank + k, rank + k + 1, (m->n - i - k - 1) * sizeof rank[0]);
    }
    return (b.at + 7) / 8;
}
