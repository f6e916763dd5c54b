/* dec_grid.c: integers, a scale and maybe a zero point for each group. docs/codecs/grid.md. */
#include "base/err.h"
#include "runtime/dequant.h"
#include "runtime/grid.h"
#include "runtime/nest.h"
#include "runtime/widths.h"

static qn_code read_head(qn_cur *c, const qn_block *b, qn_grid_head *h, qn_err *err)
{
    h->bits = qn_cur_u8(c);
    h->zero = qn_cur_u8(c);
    h->form = qn_cur_u8(c);
    h->exponent = (int8_t)qn_cur_u8(c);
    const uint64_t group = qn_cur_varint(c);
    if (c->failed || !qn_grid_dtype(b->dtype) || h->bits < QN_GRID_BITS_MIN || h->bits > QN_GRID_BITS_MAX)
        return QN_FAIL(err, QN_E_INPUT, 0, "grid: %u bits for %s", h->bits, qn_dtype_name(b->dtype));
    if (h->zero >= QN_GRID_ZEROS || h->form >= QN_GRID_FORMS)
        return QN_FAIL(err, QN_E_INPUT, 1, "grid: zero point %u, codes in form %u", h->zero, h->form);
    if (h->exponent < -QN_GRID_EXPONENT_MAX || h->exponent > QN_GRID_EXPONENT_MAX)
        return QN_FAIL(err, QN_E_INPUT, 3, "grid: exponent %d", h->exponent);
    if (group == 0 || group > b->cols)
        return QN_FAIL(err, QN_E_INPUT, 4, "grid: groups of %llu in rows of %u", (unsigned long long)group, b->cols);
    h->group = (uint32_t)group;
    return QN_OK;
}

static qn_code scales(const qn_dec_ctx *cx, qn_cur *c, const qn_groups *gs, int exponent, float *half, qn_err *err)
{
    const qn_block sb = {QN_F16, gs->count, gs->per_row < gs->count ? gs->per_row : gs->count};
    qn_code rc;
    const uint8_t *p = qn_nest_get(cx, c, &sb, "grid: scales", &rc, err);
    if (!p)
        return rc;
    const float unit = qn_bits_f32((uint32_t)(127 + exponent - 1) << 23);
    bool bad = false;
    for (uint32_t g = 0; g < gs->count; g++) {
        const uint16_t h = qn_load16(p + 2 * (size_t)g);
        bad |= (h & 0x7c00) == 0x7c00;
        half[g] = qn_bits_f32(qn_f16_wide(h)) * unit;
    }
    return bad ? QN_FAIL(err, QN_E_INPUT, c->at, "grid: a scale is not a finite number") : QN_OK;
}

static qn_code zeros(const qn_dec_ctx *cx, qn_cur *c, const qn_groups *gs, const qn_grid_head *h, int32_t *z2, qn_err *err)
{
    const int32_t middle = h->zero == QN_GRID_ZERO_LEVEL ? 1 << h->bits : (1 << h->bits) - 1;
    for (uint32_t g = 0; h->zero != QN_GRID_ZERO_STORED && g < gs->count; g++)
        z2[g] = middle;
    if (h->zero != QN_GRID_ZERO_STORED)
        return QN_OK;
    const qn_block zb = {QN_U8, gs->count, gs->per_row < gs->count ? gs->per_row : gs->count};
    qn_code rc;
    const uint8_t *p = qn_nest_get(cx, c, &zb, "grid: zero points", &rc, err);
    if (!p)
        return rc;
    bool bad = false;
    for (uint32_t g = 0; g < gs->count; g++) {
        bad |= p[g] >> h->bits != 0;
        z2[g] = 2 * p[g];
    }
    return bad ? QN_FAIL(err, QN_E_INPUT, c->at, "grid: a zero point has more than %u bits", h->bits) : QN_OK;
}

/* Codes of a row begin at a whole byte; the bits after its last code are zero. */
static bool clean_end(const uint8_t *row, uint32_t n, unsigned bits)
{
    const uint64_t used = (uint64_t)n * bits;
    return used % 8 == 0 || row[used / 8] >> used % 8 == 0;
}

static bool below(const uint8_t *p, size_t n, unsigned bits)
{
    uint8_t all = 0;
    for (size_t i = 0; i < n; i++)
        all |= p[i];
    return all >> bits == 0;
}

/* Where the codes are, and how many bits a stored code has. */
static qn_code codes(const qn_dec_ctx *cx, qn_cur *c, const qn_block *b, const qn_grid_head *h, const uint8_t **p,
                     unsigned *bits, qn_err *err)
{
    qn_code rc = QN_OK;
    *bits = h->bits;
    if (h->form == QN_GRID_PACKED) {
        const uint32_t rows = b->n / b->cols, rest = b->n % b->cols;
        *p = qn_cur_take(c, (size_t)rows * qn_grid_row_bytes(b->cols, h->bits) + qn_grid_row_bytes(rest, h->bits));
        return *p ? QN_OK : QN_FAIL(err, QN_E_INPUT, c->at, "grid: codes are cut off");
    }
    const qn_block cb = {QN_U8, b->n, b->cols};
    *bits = 8;
    *p = qn_nest_get(cx, c, &cb, "grid: codes", &rc, err);
    if (!*p)
        return rc;
    return below(*p, b->n, h->bits) ? QN_OK : QN_FAIL(err, QN_E_INPUT, c->at, "grid: a code has more than %u bits", h->bits);
}

qn_code qn_dec_grid(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, uint8_t *dst, qn_err *err)
{
    qn_cur c = qn_cur_over(payload, n_bytes);
    qn_grid_head h = {0};
    QN_TRY(read_head(&c, b, &h, err));
    const qn_groups gs = qn_groups_of(b, h.group);
    float *half = qn_arena_get(cx->scratch, (uint64_t)gs.count * sizeof *half, 64, err);
    int32_t *z2 = half ? qn_arena_get(cx->scratch, (uint64_t)gs.count * sizeof *z2, 64, err) : NULL;
    if (!z2)
        return QN_E_MEMORY;
    QN_TRY(scales(cx, &c, &gs, h.exponent, half, err));
    QN_TRY(zeros(cx, &c, &gs, &h, z2, err));
    const uint8_t *p;
    unsigned bits;
    QN_TRY(codes(cx, &c, b, &h, &p, &bits, err));
    QN_TRY(qn_nest_end(&c, "grid", err));
    const qn_grid_fn run = cx->kern->grid.run[qn_grid_out_of(b->dtype)];
    const size_t unit = qn_unit_bytes(b->dtype), row_bytes = qn_grid_row_bytes(b->cols, bits);
    for (uint32_t at = 0, g = 0; at < b->n; at += b->cols, g += gs.per_row, p += row_bytes) {
        const uint32_t n = b->n - at < b->cols ? b->n - at : b->cols;
        if (!clean_end(p, n, bits))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "grid: bits after the end of a row are not zero");
        run(&(qn_grid_row){.codes = p, .n = n, .group = h.group, .bits = bits, .half = half + g, .z2 = z2 + g}, dst + unit * at);
        if (b->n - at <= b->cols)
            break;
    }
    return QN_OK;
}
