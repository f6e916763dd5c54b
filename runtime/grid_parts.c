/* grid_parts.c: the parts of a GRID payload, all checked. docs/codecs/grid.md. */
#include "base/err.h"
#include "runtime/grid.h"
#include "runtime/nest.h"

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

/* binary16, little-endian. */
static qn_code scales(const qn_dec_ctx *cx, qn_cur *c, const qn_groups *gs, const uint8_t **out, qn_err *err)
{
    const qn_block sb = {QN_F16, gs->count, gs->per_row < gs->count ? gs->per_row : gs->count};
    qn_code rc;
    const uint8_t *p = *out = qn_nest_get(cx, c, &sb, "grid: scales", &rc, err);
    if (!p)
        return rc;
    bool bad = false;
    for (uint32_t g = 0; g < gs->count; g++)
        bad |= (qn_load16(p + 2 * (size_t)g) & 0x7c00) == 0x7c00;
    return bad ? QN_FAIL(err, QN_E_INPUT, c->at, "grid: a scale is not a finite number") : QN_OK;
}

static qn_code zeros(const qn_dec_ctx *cx, qn_cur *c, const qn_groups *gs, unsigned bits, const uint8_t **out, qn_err *err)
{
    const qn_block zb = {QN_U8, gs->count, gs->per_row < gs->count ? gs->per_row : gs->count};
    qn_code rc;
    const uint8_t *p = *out = qn_nest_get(cx, c, &zb, "grid: zero points", &rc, err);
    if (!p)
        return rc;
    bool bad = false;
    for (uint32_t g = 0; g < gs->count; g++)
        bad |= p[g] >> bits != 0;
    return bad ? QN_FAIL(err, QN_E_INPUT, c->at, "grid: a zero point has more than %u bits", bits) : QN_OK;
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

qn_code qn_grid_open(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_grid_parts *out,
                     qn_err *err)
{
    qn_cur c = qn_cur_over(payload, n_bytes);
    *out = (qn_grid_parts){.zeros = NULL};
    QN_TRY(read_head(&c, b, &out->head, err));
    out->groups = qn_groups_of(b, out->head.group);
    QN_TRY(scales(cx, &c, &out->groups, &out->scales, err));
    if (out->head.zero == QN_GRID_ZERO_STORED)
        QN_TRY(zeros(cx, &c, &out->groups, out->head.bits, &out->zeros, err));
    QN_TRY(codes(cx, &c, b, &out->head, &out->codes, &out->bits, err));
    QN_TRY(qn_nest_end(&c, "grid", err));
    out->row_bytes = qn_grid_row_bytes(b->cols, out->bits);
    const uint8_t *p = out->codes;
    for (uint32_t left = b->n; left > 0; p += out->row_bytes) {
        const uint32_t n = left < b->cols ? left : b->cols;
        if (!clean_end(p, n, out->bits))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "grid: bits after the end of a row are not zero");
        left -= n;
    }
    return QN_OK;
}

void qn_grid_pack(const uint8_t *codes, uint32_t n, unsigned bits, uint8_t *dst)
{
    uint32_t word = 0;
    unsigned held = 0;
    for (uint32_t j = 0; j < n; j++) {
        word |= (uint32_t)codes[j] << held;
        for (held += bits; held >= 8; held -= 8, word >>= 8)
            *dst++ = (uint8_t)word;
    }
    if (held)
        *dst = (uint8_t)word;
}
