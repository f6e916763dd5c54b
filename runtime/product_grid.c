/* product_grid.c: products with grid codes as they are packed. docs/codecs/grid.md.
 *
 * Scales are held by runs of 32 columns, whatever the groups are (kern_grid_mul.h). Codes are multiplied where they lie in the
 * payload; nested ones are unpacked once and packed here. */
#include "base/err.h"
#include "runtime/grid.h"
#include "runtime/product.h"
#include "runtime/widths.h"

struct held {
    qn_grid_mul mul;
    const qn_kern_grid_mul *kern;
};

/* What load leaves in `work`. */
struct loaded {
    qn_grid_x x;
};

static uint32_t padded_runs(const qn_grid_mul *m)
{
    return qn_grid_padded(m->cols) / QN_GRID_RUN;
}

static size_t work_bytes(const qn_grid_mul *m)
{
    return 64 + (size_t)qn_grid_padded(m->cols) * 2 * sizeof(int16_t) + (size_t)padded_runs(m) * 2 * sizeof(float);
}

/* One run, by a step of its own. An x that is not finite makes the run's step NaN. */
static void fix_run(const float *x, uint32_t n, int16_t *to, float *step2, float *sum)
{
    float top = 0;
    bool finite = true;
    for (uint32_t i = 0; i < n; i++) {
        const float a = qn_bits_f32(qn_f32_bits(x[i]) & 0x7fffffff);
        finite &= qn_f32_bits(a) < 0x7f800000;
        top = a > top ? a : top;
    }
    /* below that, the inverse would be infinite: far below anything that matters beside the other runs */
    const float inverse = finite && top > 0x1p-100f ? QN_GRID_X_MOST / top : 0;
    int32_t all = 0;
    for (uint32_t i = 0; i < QN_GRID_RUN; i++) {
        const float v = i < n && inverse > 0 ? x[i] * inverse : 0;
        to[i] = (int16_t)(v < 0 ? v - 0.5f : v + 0.5f);
        all += to[i];
    }
    const float step = finite ? top / QN_GRID_X_MOST : qn_bits_f32(0x7fc00000);
    *step2 = 2 * step;
    *sum = step * (float)all;
}

static void load(const qn_product *p, const float *x, void *work)
{
    const struct held *h = p->self;
    const uint32_t n = padded_runs(&h->mul), cols = h->mul.cols;
    struct loaded *l = work;
    uint8_t *at = (uint8_t *)work + 64;
    int16_t *numbers = (int16_t *)(void *)at;
    l->x.fixed = at + (size_t)n * QN_GRID_RUN * sizeof(int16_t);
    l->x.step2 = (float *)(void *)(at + (size_t)n * QN_GRID_RUN * 2 * sizeof(int16_t));
    l->x.sum = l->x.step2 + n;
    for (uint32_t g = 0, j = 0; g < n; g++, j += QN_GRID_RUN) {
        const uint32_t len = j >= cols ? 0 : cols - j < QN_GRID_RUN ? cols - j : QN_GRID_RUN;
        fix_run(x + (len ? j : 0), len, numbers + j, l->x.step2 + g, l->x.sum + g);
    }
    h->kern->fix(&h->mul, numbers, l->x.fixed);
}

static void rows_of(const qn_product *p, const void *work, uint32_t r0, uint32_t r1, float *y)
{
    const struct held *h = p->self;
    const struct loaded *l = work;
    h->kern->rows(&h->mul, &l->x, r0, r1, y);
}

/* Codes of 8 bits each → `bits` each. */
static uint8_t *packed(const qn_grid_parts *g, uint32_t rows, uint32_t cols, qn_arena *keep, qn_err *err)
{
    const size_t row_bytes = qn_grid_row_bytes(cols, g->head.bits);
    uint8_t *p = qn_arena_get(keep, rows * row_bytes, 64, err);
    for (uint32_t r = 0; p && r < rows; r++)
        qn_grid_pack(g->codes + (size_t)r * cols, cols, g->head.bits, p + r * row_bytes);
    return p;
}

static qn_code hold(const qn_dec_ctx *cx, const qn_grid_parts *g, uint32_t rows, uint32_t cols, qn_arena *keep, qn_product *p,
                    qn_err *err)
{
    const uint32_t runs = (cols - 1) / QN_GRID_RUN + 1, per = g->head.group / QN_GRID_RUN;
    const uint64_t n = (uint64_t)rows * runs;
    struct held *h = qn_arena_get(keep, sizeof *h, 64, err);
    uint16_t *scale = h ? qn_arena_get(keep, n * sizeof *scale, 64, err) : NULL;
    uint8_t *zero = scale && g->zeros ? qn_arena_get(keep, n, 64, err) : NULL;
    if (!scale || (g->zeros && !zero))
        return QN_E_MEMORY;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t i = 0; i < runs; i++) {
            const size_t from = (size_t)r * g->groups.per_row + (g->groups.per_row == 1 ? 0 : i / per), to = (size_t)r * runs + i;
            scale[to] = qn_load16(g->scales + 2 * from);
            if (zero)
                zero[to] = g->zeros[from];
        }
    const uint8_t *codes = g->codes;
    if (g->bits != g->head.bits && !(codes = packed(g, rows, cols, keep, err)))
        return QN_E_MEMORY;
    *h = (struct held){.mul = {.codes = codes, .row_bytes = qn_grid_row_bytes(cols, g->head.bits), .bits = g->head.bits,
                               .cols = cols, .runs = runs, .scale = scale, .zero = zero, .zero2 = (float)qn_grid_zero2(&g->head),
                               .unit = qn_bits_f32((uint32_t)(127 + g->head.exponent - 1) << 23)},
                       .kern = &cx->kern->grid_mul};
    p->n_bytes = rows * (uint64_t)h->mul.row_bytes + n * (zero ? 3 : 2);
    p->work_bytes = work_bytes(&h->mul);
    p->load = load;
    p->rows_of = rows_of;
    p->self = h;
    return QN_OK;
}

qn_code qn_product_grid(const qn_dec_ctx *cx, const qn_block *b, const uint8_t *payload, size_t n_bytes, qn_arena *keep,
                        qn_product *p, bool *taken, qn_err *err)
{
    qn_grid_parts g;
    QN_TRY(qn_grid_open(cx, b, payload, n_bytes, &g, err));
    *taken = b->n % b->cols == 0 && (g.head.group % QN_GRID_RUN == 0 || g.groups.per_row == 1);
    return *taken ? hold(cx, &g, b->n / b->cols, b->cols, keep, p, err) : QN_OK;
}
