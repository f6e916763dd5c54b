/* df11_code.c: see df11_code.h. Lengths by package-merge (Larmore and Hirschberg 1990): the code of least cost under a limit. */
#include "compress/export/df11_code.h"
#include <stdlib.h>
#include <string.h>

struct leaf {
    uint64_t count;
    unsigned symbol;
};

/* Rarest first; of equals the end first, so that none has a longer code than it. */
static int by_count(const void *pa, const void *pb)
{
    const struct leaf *a = pa, *b = pb;
    if (a->count != b->count)
        return a->count < b->count ? -1 : 1;
    return a->symbol > b->symbol ? -1 : a->symbol < b->symbol;
}

/* bits[i] of leaf i; limit bits are enough for n leaves. Level l's list is the leaves merged with pairs of the list before; of the last
 * list the first 2n − 2 are taken, and of each list before twice as many as pairs were. A leaf has as many bits as lists it was taken from. */
static void limited_lengths(const struct leaf *leaf, unsigned n, unsigned limit, uint8_t *bits)
{
    enum { ITEMS = 2 * QN_DF11_SYMBOLS };
    uint64_t is_leaf[QN_DF11_BITS_MAX][ITEMS / 64 + 1]; /* a bit for each item */
    uint64_t before[ITEMS] = {0}, now[ITEMS];
    unsigned n_before = 0;
    memset(is_leaf, 0, sizeof is_leaf);
    for (unsigned l = 0; l < limit; l++) {
        unsigned n_now = 0, next_leaf = 0, next_pair = 0;
        while (next_leaf < n || next_pair + 1 < n_before) {
            const bool pairs = next_pair + 1 < n_before;
            const uint64_t pair = pairs ? before[next_pair] + before[next_pair + 1] : 0;
            const bool take = next_leaf < n && (!pairs || leaf[next_leaf].count <= pair);
            is_leaf[l][n_now / 64] |= (uint64_t)take << (n_now % 64);
            now[n_now++] = take ? leaf[next_leaf].count : pair;
            next_leaf += take;
            next_pair += take ? 0 : 2;
        }
        memcpy(before, now, n_now * sizeof *now);
        n_before = n_now;
    }
    memset(bits, 0, n);
    unsigned take = 2 * n - 2;
    for (unsigned l = limit; l-- > 0;) {
        unsigned n_leaves = 0;
        for (unsigned i = 0; i < take; i++)
            n_leaves += is_leaf[l][i / 64] >> (i % 64) & 1;
        for (unsigned i = 0; i < n_leaves; i++)
            bits[i]++;
        take = 2 * (take - n_leaves);
    }
}

static void number(qn_df11_code *c)
{
    uint32_t code = 0;
    for (unsigned l = 1; l <= QN_DF11_BITS_MAX; l++) {
        code <<= 1;
        for (unsigned s = 0; s < QN_DF11_SYMBOLS; s++)
            if (c->bits[s] == l)
                c->code[s] = code++;
    }
}

/* The first k bytes of a code of more than 8k bits. */
static uint32_t head(const qn_df11_code *c, unsigned s, unsigned k)
{
    return k ? c->code[s] >> (c->bits[s] - 8 * k) : 0;
}

struct row {
    unsigned k; /* bytes that lead to it */
    uint32_t bytes;
};

static unsigned find_row(const struct row *row, unsigned n, unsigned k, uint32_t bytes)
{
    unsigned r = 0;
    while (r < n && (row[r].k != k || row[r].bytes != bytes))
        r++;
    return r;
}

/* Entries that no code leads to say what the one before says: a reader that runs past the end must find something. */
static void fill_row(uint8_t *lut, const bool *set)
{
    unsigned first = 0;
    while (first < 255 && !set[first])
        first++;
    for (unsigned i = 0; i < first; i++)
        lut[i] = lut[first];
    for (unsigned i = first + 1; i < 256; i++)
        if (!set[i])
            lut[i] = lut[i - 1];
}

static bool make_tables(qn_df11_code *c)
{
    struct row row[QN_DF11_ROWS_MAX] = {{0, 0}};
    unsigned n = 1;
    for (unsigned k = 1; k < 4; k++)
        for (unsigned s = 0; s < 256; s++) {
            if (c->bits[s] <= 8 * k || find_row(row, n, k, head(c, s, k)) < n)
                continue;
            if (n == QN_DF11_ROWS_MAX)
                return false;
            row[n++] = (struct row){k, head(c, s, k)};
        }
    for (unsigned r = 0; r < n; r++) {
        uint8_t *lut = c->luts + 256 * r;
        bool set[256] = {false};
        for (unsigned s = 0; s < 256; s++) {
            const unsigned k = row[r].k, bits = c->bits[s];
            if (bits <= 8 * k || head(c, s, k) != row[r].bytes)
                continue;
            const bool goes_on = bits > 8 * (k + 1);
            const unsigned left = goes_on ? 0 : 8 * (k + 1) - bits;
            const unsigned from = goes_on ? head(c, s, k + 1) & 255 : (c->code[s] << left) & 255;
            const unsigned value = goes_on ? 256 - find_row(row, n, k + 1, head(c, s, k + 1)) : s;
            for (unsigned i = 0; i < 1u << left; i++) {
                lut[from + i] = (uint8_t)value;
                set[from + i] = true;
            }
        }
        fill_row(lut, set);
    }
    memcpy(c->luts + 256 * n, c->bits, 256);
    c->n_rows = n + 1;
    return true;
}

/* One bit in front of every code. */
static void widen(qn_df11_code *c)
{
    for (unsigned s = 0; s < QN_DF11_SYMBOLS; s++)
        c->bits[s] = (uint8_t)(c->bits[s] + (c->bits[s] > 0));
}

static bool try_limit(qn_df11_code *c, const struct leaf *leaf, unsigned n, unsigned limit)
{
    uint8_t bits[QN_DF11_SYMBOLS];
    unsigned least = QN_DF11_BITS_MAX;
    limited_lengths(leaf, n, limit, bits);
    memset(c, 0, sizeof *c);
    for (unsigned i = 0; i < n; i++) {
        c->bits[leaf[i].symbol] = bits[i];
        least = bits[i] < least ? bits[i] : least;
    }
    if (least < 2)
        widen(c);
    number(c);
    return make_tables(c);
}

bool qn_df11_code_make(qn_df11_code *c, const uint64_t count[256])
{
    struct leaf leaf[QN_DF11_SYMBOLS];
    unsigned n = 0;
    for (unsigned s = 0; s < 256; s++) {
        if (count[s] && s >= QN_DF11_POINTER)
            return false;
        if (count[s])
            leaf[n++] = (struct leaf){count[s], s};
    }
    if (n == 0)
        return false;
    leaf[n++] = (struct leaf){1, QN_DF11_END};
    qsort(leaf, n, sizeof *leaf, by_count);
    /* 31 leave room for widen. 8 bits hold all symbols there can be, and need no row but the first. */
    unsigned limit = QN_DF11_BITS_MAX - 1;
    bool fits = false;
    while (!(fits = try_limit(c, leaf, n, limit)) && limit > 8)
        limit--;
    if (!fits) {
        memset(c, 0, sizeof *c);
        for (unsigned i = 0; i < n; i++)
            c->bits[leaf[i].symbol] = 8;
        number(c);
        fits = make_tables(c);
    }
    return fits;
}
