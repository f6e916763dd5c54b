/* enc_dequant.c: finds group size and grid by probing a few groups of 16, which are parts of all larger groups; then
 * larger groups as long as they still fit; then fits every group. Ordinary weights fail the first four probes at their
 * second or third value. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/fit.h"
#include "compress/nest.h"
#include <string.h>

enum { PROBE = 16, ROW_MAX = 1 << 16, N_PROBES = 8, LOOK_FOR = 6, EXC_SHARE = 8 };

struct dequant {
    const qn_block *b;
    const uint8_t *src;
    unsigned unit;
    qn_fit fit;
    uint8_t *codes; /* n */
};

/* Do most of a few groups of this size fit? Groups of (nearly) nothing but zeros say nothing and are passed over. */
static bool probe(struct dequant *d, uint32_t group, bool bail_early)
{
    const qn_groups gs = qn_groups_of(d->b, group);
    uint32_t fits = 0, asked = 0, len;
    const uint32_t n_probes = gs.count < N_PROBES ? gs.count : N_PROBES;
    d->fit.top = 0;
    for (uint32_t i = 0; i < n_probes; i++) {
        const uint32_t spread = (uint32_t)((uint64_t)gs.count * i / n_probes);
        for (uint32_t skip = 0; skip < LOOK_FOR && spread + skip < gs.count; skip++) {
            float scale;
            const uint32_t at = qn_group_at(&gs, spread + skip, &len);
            if (!qn_fit_load(&d->fit, d->src + (size_t)at * d->unit, len) || d->fit.n_nonzero < 6)
                continue;
            asked++;
            fits += qn_fit_search(&d->fit, &scale, d->codes);
            break;
        }
        if (bail_early && asked >= 3 && fits == 0)
            return false;
    }
    return asked > 0 && fits * 4 >= asked * 3;
}

/* The largest group that fits, 0 when none does. */
static uint32_t find_group(struct dequant *d)
{
    const uint32_t cols = d->b->cols, least = cols < PROBE ? cols : PROBE;
    const uint32_t sizes[] = {cols <= ROW_MAX ? cols : 0, 1024, 512, 256, 128, 64, 32};
    if (!probe(d, least, true))
        return 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i] > least && sizes[i] <= cols && probe(d, sizes[i], false))
            return sizes[i];
    return least;
}

struct found {
    uint32_t *exc; /* groups that do not fit */
    uint32_t n_exc, n_exc_units;
    uint8_t *scale, *bias; /* f32, little-endian */
};

/* One group: the scale of the group above or before it first, so that scales shared by blocks of a matrix come out
 * equal; then the search. */
static bool fit_one(struct dequant *d, const qn_groups *gs, uint32_t g, uint8_t *codes, float *scale, float last,
                    const uint8_t *scales)
{
    if (d->fit.grid != QN_GRID_I8_BIAS) {
        if (g >= gs->per_row) {
            const float above = qn_bits_f32(qn_load32(scales + 4 * (size_t)(g - gs->per_row)));
            if (above != 0 && qn_fit_try(&d->fit, above, codes))
                return *scale = above, true;
        }
        if (last != 0 && qn_fit_try(&d->fit, last, codes))
            return *scale = last, true;
    }
    return qn_fit_search(&d->fit, scale, codes);
}

static bool fit_all(struct dequant *d, const qn_groups *gs, struct found *f)
{
    float last = 0;
    d->fit.top = 0;
    for (uint32_t g = 0; g < gs->count; g++) {
        uint32_t len;
        float scale = last;
        const uint32_t at = qn_group_at(gs, g, &len);
        const bool ok = qn_fit_load(&d->fit, d->src + (size_t)at * d->unit, len) &&
                        fit_one(d, gs, g, d->codes + at, &scale, last, f->scale);
        if (!ok) {
            if ((f->n_exc + 1) > gs->count / EXC_SHARE + 1)
                return false;
            f->exc[f->n_exc++] = g;
            f->n_exc_units += len;
            memset(d->codes + at, 0, len);
            d->fit.bias = 0;
            scale = last;
        }
        qn_store32(f->scale + 4 * (size_t)g, qn_f32_bits(scale));
        qn_store32(f->bias + 4 * (size_t)g, qn_f32_bits(d->fit.bias));
        last = scale;
    }
    return true;
}

static qn_code write(const qn_enc_ctx *cx, struct dequant *d, const qn_groups *gs, const struct found *f, qn_sink *s,
                     qn_err *err)
{
    static const qn_dtype code_dtype[QN_GRID_COUNT] = {QN_I8, QN_F8_E4M3, QN_F8_E5M2, QN_I8};
    const unsigned grid = d->fit.grid;
    const qn_block sb = {QN_F32, gs->count, gs->per_row < gs->count ? gs->per_row : gs->count};
    const qn_block cb = {code_dtype[grid], d->b->n, d->b->cols};
    qn_sink_u8(s, grid);
    qn_sink_varint(s, gs->group);
    qn_sink_varint(s, f->n_exc);
    qn_sink_positions(s, f->exc, f->n_exc);
    QN_TRY(qn_nest_encode(cx, s, &sb, f->scale, true, err));
    if (grid == QN_GRID_I8_BIAS)
        QN_TRY(qn_nest_encode(cx, s, &sb, f->bias, true, err));
    QN_TRY(qn_nest_encode(cx, s, &cb, d->codes, false, err));
    if (f->n_exc_units == 0)
        return QN_OK;
    const qn_block xb = {d->b->dtype, f->n_exc_units, gs->group < f->n_exc_units ? gs->group : f->n_exc_units};
    uint8_t *raw = qn_arena_get(cx->scratch, (size_t)f->n_exc_units * d->unit, 64, err);
    if (!raw)
        return QN_E_MEMORY;
    size_t n = 0;
    for (uint32_t i = 0; i < f->n_exc; i++) {
        uint32_t len;
        const uint32_t at = qn_group_at(gs, f->exc[i], &len);
        memcpy(raw + n, d->src + (size_t)at * d->unit, (size_t)len * d->unit);
        n += (size_t)len * d->unit;
    }
    return qn_nest_encode(cx, s, &xb, raw, false, err);
}

static qn_code encode(const qn_enc_ctx *cx, struct dequant *d, uint32_t group, qn_sink *s, qn_err *err)
{
    const qn_groups gs = qn_groups_of(d->b, group);
    struct found f = {0};
    f.exc = qn_arena_get(cx->scratch, ((uint64_t)gs.count / EXC_SHARE + 2) * sizeof *f.exc, 64, err);
    f.scale = qn_arena_get(cx->scratch, (uint64_t)gs.count * 4, 64, err);
    f.bias = qn_arena_get(cx->scratch, (uint64_t)gs.count * 4, 64, err);
    if (!f.exc || !f.scale || !f.bias)
        return QN_E_MEMORY;
    if (!fit_all(d, &gs, &f)) {
        s->full = true;
        return QN_OK;
    }
    return write(cx, d, &gs, &f, s, err);
}

qn_code qn_enc_dequant(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap,
                       size_t *n_out, qn_err *err)
{
    const qn_arena_mark mark = qn_arena_tell(cx->scratch);
    struct dequant d = {.b = b, .src = src, .unit = qn_unit_bytes(b->dtype)};
    *n_out = 0;
    if (!qn_dequant_dtype(b->dtype) || !qn_nest_allowed(cx) || b->cols < QN_GROUP_MIN || b->n < 64)
        return QN_OK;
    d.codes = qn_arena_get(cx->scratch, b->n, 64, err);
    if (!d.codes)
        return QN_E_MEMORY;
    QN_TRY(qn_fit_open(&d.fit, cx->scratch, b, b->cols <= ROW_MAX ? (b->cols < 1024 ? 1024 : b->cols) : 1024, err));
    for (unsigned grid = 0; grid < QN_GRID_COUNT && *n_out == 0; grid++) {
        if (grid == QN_GRID_I8_BIAS && qn_unit_bytes(b->dtype) == 2)
            break; /* a bias and a scale of unknown bits: too much freedom to search */
        d.fit.grid = grid;
        const uint32_t group = find_group(&d);
        const qn_arena_mark trial = qn_arena_tell(cx->scratch);
        qn_sink s = qn_sink_over(dst, cap);
        if (group == 0)
            continue;
        QN_TRY(encode(cx, &d, group, &s, err));
        qn_arena_rewind(cx->scratch, trial);
        *n_out = s.full ? 0 : s.n;
    }
    qn_arena_rewind(cx->scratch, mark);
    return QN_OK;
}
