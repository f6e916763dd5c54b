/* df11_group.c: see df11_group.h. */
#include "compress/export/df11_group.h"
#include "base/err.h"
#include "base/num.h"
#include "base/threads.h"
#include <string.h>

enum {
    PIECE = 1 << 18,                                   /* weights                             */
    SLICE_BITS = 8 * QN_DF11_SLICE,
    BLOCK_BITS = SLICE_BITS * QN_DF11_THREADS,
    GAP_BLOCK = QN_DF11_THREADS * 5 / 8                /* bytes of gaps for a block of codes */
};

const char *const qn_df11_field[QN_DF11_FIELDS] = {"encoded_exponent", "gaps", "luts", "output_positions", "sign_mantissa",
                                                   "split_positions"};

struct qn_df11_piece {
    uint64_t first;    /* weight of its tensor              */
    uint64_t start;    /* the same, of the group            */
    uint64_t bit;      /* where its codes begin             */
    uint32_t n, part;
    uint8_t last;      /* exponent of its last weight       */
};

static unsigned exponent(const uint8_t *w)
{
    return (w[0] >> 7 | w[1] << 1) & 255;
}

/* ---- counting ---- */

struct survey {
    qn_source *src;
    qn_df11_group *g;
    uint8_t *raw;      /* by slot                 */
    uint32_t *count;   /* (pieces, 256)           */
};

static qn_code count_piece(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct survey *s = ctx;
    struct qn_df11_piece *p = &s->g->pieces[task];
    uint8_t *raw = s->raw + (uint64_t)slot * PIECE * 2;
    uint32_t four[4][256] = {{0}}; /* runs of one exponent wait for one another */
    QN_TRY(qn_source_tensor_read(s->src, s->g->parts[p->part].tensor, p->first * 2, (uint64_t)p->n * 2, raw, err));
    for (uint32_t i = 0; i < p->n; i++)
        four[i & 3][exponent(raw + 2 * (size_t)i)]++;
    p->last = (uint8_t)exponent(raw + 2 * (size_t)(p->n - 1));
    for (unsigned e = 0; e < 256; e++)
        s->count[task * 256 + e] = four[0][e] + four[1][e] + four[2][e] + four[3][e];
    return QN_OK;
}

static qn_code list_pieces(const qn_env *env, qn_df11_group *g, qn_err *err)
{
    uint64_t n = 0, start = 0;
    for (uint32_t i = 0; i < g->n_parts; i++)
        n += qn_ceil_div(g->parts[i].n, PIECE);
    g->pieces = qn_mem_zeros(env->alloc, n, sizeof *g->pieces, err);
    if (!g->pieces)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < g->n_parts; i++)
        for (uint64_t at = 0; at < g->parts[i].n; at += PIECE) {
            const uint32_t m = (uint32_t)qn_min_u64(PIECE, g->parts[i].n - at);
            g->pieces[g->n_pieces++] = (struct qn_df11_piece){.first = at, .start = start, .n = m, .part = i};
            start += m;
        }
    g->n = start;
    return QN_OK;
}

static void settle(qn_df11_group *g, const uint32_t *count, uint32_t *misfit)
{
    uint64_t sum[256] = {0}, bit = 0;
    for (uint64_t i = 0; i < g->n_pieces; i++)
        for (unsigned e = 0; e < 256; e++) {
            sum[e] += count[i * 256 + e];
            if (e >= QN_DF11_POINTER && count[i * 256 + e]) {
                *misfit = g->pieces[i].part;
                return;
            }
        }
    (void)qn_df11_code_make(&g->code, sum); /* no misfit, and parts are not empty: there is one */
    for (uint64_t i = 0; i < g->n_pieces; i++) {
        g->pieces[i].bit = bit;
        for (unsigned e = 0; e < QN_DF11_POINTER; e++)
            bit += (uint64_t)count[i * 256 + e] * g->code.bits[e];
    }
    g->n_bits = bit;
    g->n_bytes = qn_ceil_div(bit, 8);
    g->n_blocks = qn_ceil_div(g->n_bytes, BLOCK_BITS / 8);
}

qn_code qn_df11_survey(const qn_env *env, qn_source *src, qn_df11_group *g, uint32_t *misfit, qn_err *err)
{
    struct survey s = {.src = src, .g = g};
    *misfit = UINT32_MAX;
    QN_TRY(list_pieces(env, g, err));
    s.raw = qn_mem_get(env->alloc, (uint64_t)env->n_threads * PIECE * 2, err);
    s.count = qn_mem_zeros(env->alloc, g->n_pieces, 256 * sizeof *s.count, err);
    qn_code rc = s.raw && s.count ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = qn_run(env, &(qn_job){.work = count_piece, .ctx = &s}, g->n_pieces, env->n_threads, err);
    if (rc == QN_OK)
        settle(g, s.count, misfit);
    qn_mem_put(env->alloc, s.raw);
    qn_mem_put(env->alloc, s.count);
    return rc;
}

uint64_t qn_df11_field_bytes(const qn_df11_group *g, unsigned field)
{
    switch (field) {
    case QN_DF11_CODES:
        return g->n_bytes;
    case QN_DF11_GAPS:
        return g->n_blocks * GAP_BLOCK;
    case QN_DF11_LUTS:
        return (uint64_t)g->code.n_rows * 256;
    case QN_DF11_POSITIONS:
        return (g->n_blocks + 1) * 4;
    case QN_DF11_REST:
        return g->n;
    default:
        return (uint64_t)(g->n_parts - 1) * 8;
    }
}

uint64_t qn_df11_bytes(const qn_df11_group *g)
{
    uint64_t n = 0;
    for (unsigned f = 0; f < QN_DF11_FIELDS; f++)
        n += qn_df11_field_bytes(g, f);
    return n;
}

/* ---- codes ---- */

enum { CODED_MAX = PIECE / 8 * QN_DF11_BITS_MAX + 16 };

struct coding {
    qn_source *src;
    qn_df11_group *g;
    uint8_t *raw, *coded; /* by slot */
    uint64_t first_piece;
    uint64_t off, n;      /* the bytes that are wanted; n 0: only gaps and positions */
    uint8_t *dst;
};

/* Where codes begin that open a slice, and those that open a block. */
static void mark(qn_df11_group *g, bool any_before, uint64_t before, uint64_t bit, uint64_t weight)
{
    if (any_before && before / SLICE_BITS == bit / SLICE_BITS)
        return;
    const uint64_t slice = bit / SLICE_BITS;
    if (slice >= g->n_blocks * QN_DF11_THREADS)
        return;
    g->gap[slice] = (uint8_t)(bit % SLICE_BITS);
    if (!any_before || before / BLOCK_BITS != bit / BLOCK_BITS)
        g->position[bit / BLOCK_BITS] = (uint32_t)weight;
}

static qn_code code_piece(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct coding *c = ctx;
    qn_df11_group *g = c->g;
    const struct qn_df11_piece *p = &g->pieces[c->first_piece + task];
    const qn_df11_code *code = &g->code;
    uint8_t *raw = c->raw + (uint64_t)slot * PIECE * 2, *out = c->coded + (uint64_t)slot * CODED_MAX;
    QN_TRY(qn_source_tensor_read(c->src, g->parts[p->part].tensor, p->first * 2, (uint64_t)p->n * 2, raw, err));
    uint64_t bit = p->bit, held = 0, before = p->start ? bit - code->bits[p[-1].last] : 0;
    unsigned n_held = (unsigned)(bit % 8);
    bool any_before = p->start > 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const unsigned e = exponent(raw + 2 * (size_t)i), bits = code->bits[e];
        mark(g, any_before, before, bit, p->start + i);
        any_before = true;
        before = bit;
        bit += bits;
        held = held << bits | code->code[e]; /* at most 31 bits are held between two weights */
        n_held += bits;
        while (n_held >= 8) {
            n_held -= 8;
            *out++ = (uint8_t)(held >> n_held);
        }
    }
    if (n_held)
        *out = (uint8_t)(held << (8 - n_held));
    return QN_OK;
}

/* Into the bytes that are wanted; the first and the last may be shared with a neighbour. */
static qn_code place_piece(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct coding *c = ctx;
    const uint64_t piece = c->first_piece + task;
    const struct qn_df11_piece *p = &c->g->pieces[piece];
    const uint64_t end = piece + 1 < c->g->n_pieces ? p[1].bit : c->g->n_bits;
    const uint64_t from = p->bit / 8, to = qn_ceil_div(end, 8);
    const uint8_t *coded = c->coded + (uint64_t)slot * CODED_MAX;
    const uint64_t a = qn_max_u64(from, c->off), b = qn_min_u64(to, c->off + c->n);
    (void)err;
    if (a < b) {
        c->dst[a - c->off] |= coded[a - from];
        if (b - a > 2)
            memcpy(c->dst + (a + 1 - c->off), coded + (a + 1 - from), b - a - 2);
        if (b - a > 1)
            c->dst[b - 1 - c->off] |= coded[b - 1 - from];
    }
    return QN_OK;
}

/* Pieces [first, end): their gaps and positions, and their bytes where c wants any. */
static qn_code code_pieces(const qn_env *env, struct coding *c, uint64_t first, uint64_t end, qn_err *err)
{
    c->first_piece = first;
    c->raw = qn_mem_get(env->alloc, (uint64_t)env->n_threads * PIECE * 2, err);
    c->coded = qn_mem_get(env->alloc, (uint64_t)env->n_threads * CODED_MAX, err);
    const qn_job job = {.work = code_piece, .commit = c->n ? place_piece : NULL, .ctx = c};
    const qn_code rc = c->raw && c->coded ? qn_run(env, &job, end - first, env->n_threads, err) : QN_E_MEMORY;
    qn_mem_put(env->alloc, c->raw);
    qn_mem_put(env->alloc, c->coded);
    return rc;
}

static qn_code open_tables(const qn_env *env, qn_df11_group *g, qn_err *err)
{
    if (g->gap)
        return QN_OK;
    g->gap = qn_mem_zeros(env->alloc, g->n_blocks, QN_DF11_THREADS, err);
    g->position = qn_mem_get(env->alloc, (g->n_blocks + 1) * sizeof *g->position, err);
    if (!g->gap || !g->position)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i <= g->n_blocks; i++)
        g->position[i] = (uint32_t)g->n;
    g->n_walked = 0;
    /* what fills the last byte begins like a code of its own */
    mark(g, true, g->n_bits - g->code.bits[g->pieces[g->n_pieces - 1].last], g->n_bits, g->n);
    return QN_OK;
}

/* The last piece whose codes begin at or before a bit. */
static uint64_t piece_at(const qn_df11_group *g, uint64_t bit)
{
    uint64_t lo = 0, hi = g->n_pieces - 1;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo + 1) / 2;
        if (g->pieces[mid].bit <= bit)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

static qn_code read_codes(const qn_env *env, qn_source *src, qn_df11_group *g, uint64_t off, uint64_t n, uint8_t *dst, qn_err *err)
{
    struct coding c = {.src = src, .g = g, .off = off, .n = n, .dst = dst};
    /* A piece that ends within the byte before its neighbour's begins shares that byte with it. */
    const uint64_t first = piece_at(g, off * 8), end = piece_at(g, off * 8 + n * 8 - 1) + 1;
    QN_TRY(open_tables(env, g, err));
    memset(dst, 0, (size_t)n);
    QN_TRY(code_pieces(env, &c, first, end, err));
    if (first <= g->n_walked)
        g->n_walked = qn_max_u64(g->n_walked, end);
    const unsigned left = (unsigned)(g->n_bytes * 8 - g->n_bits), bits = g->code.bits[QN_DF11_END];
    if (off + n == g->n_bytes && left) {
        const uint64_t tail = g->code.code[QN_DF11_END];
        dst[n - 1] |= (uint8_t)(bits > left ? tail >> (bits - left) : tail << (left - bits));
    }
    return QN_OK;
}

static qn_code walk_rest(const qn_env *env, qn_source *src, qn_df11_group *g, qn_err *err)
{
    struct coding c = {.src = src, .g = g};
    QN_TRY(open_tables(env, g, err));
    if (g->n_walked < g->n_pieces)
        QN_TRY(code_pieces(env, &c, g->n_walked, g->n_pieces, err));
    g->n_walked = g->n_pieces;
    return QN_OK;
}

/* ---- the other tensors ---- */

static void read_gaps(const qn_df11_group *g, uint64_t off, uint64_t n, uint8_t *dst)
{
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *gap = g->gap + (off + i) / 5 * 8;
        uint64_t eight = 0;
        for (unsigned k = 0; k < 8; k++)
            eight = eight << 5 | gap[k];
        dst[i] = (uint8_t)(eight >> (32 - 8 * ((off + i) % 5)));
    }
}

static void read_positions(const qn_df11_group *g, uint64_t off, uint64_t n, uint8_t *dst)
{
    for (uint64_t i = 0; i < n; i++)
        dst[i] = (uint8_t)(g->position[(off + i) / 4] >> (8 * ((off + i) % 4)));
}

static void read_splits(const qn_df11_group *g, uint64_t off, uint64_t n, uint8_t *dst)
{
    uint64_t at = 0, sum = 0;
    for (uint32_t i = 0; i + 1 < g->n_parts; i++) {
        uint8_t eight[8];
        sum += g->parts[i].n;
        qn_store64(eight, sum);
        for (unsigned k = 0; k < 8; k++, at++)
            if (at >= off && at < off + n)
                dst[at - off] = eight[k];
    }
}

static qn_code read_rest(qn_source *src, const qn_df11_group *g, uint64_t off, uint64_t n, uint8_t *dst, qn_err *err)
{
    uint8_t raw[8192];
    for (uint32_t i = 0; i < g->n_parts && n; i++) {
        if (off >= g->parts[i].n) {
            off -= g->parts[i].n;
            continue;
        }
        while (n && off < g->parts[i].n) {
            const uint64_t m = qn_min_u64(qn_min_u64(n, sizeof raw / 2), g->parts[i].n - off);
            QN_TRY(qn_source_tensor_read(src, g->parts[i].tensor, off * 2, m * 2, raw, err));
            for (uint64_t k = 0; k < m; k++)
                dst[k] = (uint8_t)((raw[2 * k + 1] & 128) | (raw[2 * k] & 127));
            dst += m;
            off += m;
            n -= m;
        }
        off = 0;
    }
    return QN_OK;
}

static void close_tables(const qn_env *env, qn_df11_group *g)
{
    qn_mem_put(env->alloc, g->gap);
    qn_mem_put(env->alloc, g->position);
    g->gap = NULL;
    g->position = NULL;
}

qn_code qn_df11_read(const qn_env *env, qn_source *src, qn_df11_group *g, unsigned field, uint64_t off, uint64_t n, uint8_t *dst,
                     qn_err *err)
{
    switch (field) {
    case QN_DF11_CODES:
        return read_codes(env, src, g, off, n, dst, err);
    case QN_DF11_LUTS:
        memcpy(dst, g->code.luts + off, (size_t)n);
        return QN_OK;
    case QN_DF11_REST:
        return read_rest(src, g, off, n, dst, err);
    case QN_DF11_SPLITS:
        read_splits(g, off, n, dst);
        return QN_OK;
    default:
        QN_TRY(walk_rest(env, src, g, err));
    }
    if (field == QN_DF11_GAPS)
        read_gaps(g, off, n, dst);
    else
        read_positions(g, off, n, dst);
    if (field == QN_DF11_POSITIONS && off + n == (g->n_blocks + 1) * 4)
        close_tables(env, g); /* they are asked for last */
    return QN_OK;
}

void qn_df11_release(const qn_env *env, qn_df11_group *g)
{
    close_tables(env, g);
    qn_mem_put(env->alloc, g->pieces);
    g->pieces = NULL;
    g->n_pieces = 0;
}
