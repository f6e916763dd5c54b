/* npy_gather.c: row-major, little-endian bytes out of arrays that lie otherwise; see npy.h.
 *
 * An array (d0, d1, …) in Fortran order is a run of columns of d0 elements, one for each combination of the other indices,
 * of which i1 goes fastest. Row-major, element (i0, column) lies at i0 · n_columns + j, where j counts the columns with the
 * last index fastest. A range of that is some rows, the first and the last in part: from each column a short run is
 * taken. Columns are visited in the order of the file through a window, so that neighbours are read together. */
#include "base/err.h"
#include "base/num.h"
#include "formats/npz/npy.h"
#include <string.h>

enum {
    WINDOW_MIN = 4 << 10,   /* to read less takes as long                     */
    WINDOW_MAX = 256 << 10,
    WASTE_MAX = 16          /* bytes read for one that is wanted, beyond the least */
};

struct gather {
    const qn_npy_head *h;
    qn_npy_read_fn read;
    void *ctx;
    uint64_t item, begin, end; /* wanted elements, row-major      */
    uint64_t n_columns;
    uint8_t *dst, *window;
    uint64_t at, have, room;   /* the window: bytes of the elements as they lie */
};

static void swap(uint8_t *p, uint64_t n_bytes, unsigned unit)
{
    for (uint64_t i = 0; i < n_bytes; i += unit)
        for (unsigned a = 0, b = unit - 1; a < b; a++, b--) {
            const uint8_t x = p[i + a];
            p[i + a] = p[i + b];
            p[i + b] = x;
        }
}

/* Elements i0 … end0 of column `file_column`, which is column j of the rows. */
static qn_code take(struct gather *g, uint64_t file_column, uint64_t j, uint64_t i0, uint64_t end0, qn_err *err)
{
    uint64_t from = (file_column * g->h->dims[0] + i0) * g->item;
    while (i0 < end0) {
        if (from < g->at || from >= g->at + g->have) {
            g->at = from;
            g->have = qn_min_u64(g->room, g->h->n_bytes - from);
            QN_TRY(g->read(g->ctx, g->window, g->have, from, err));
        }
        const uint64_t n = qn_min_u64(end0 - i0, (g->at + g->have - from) / g->item);
        const uint8_t *src = g->window + (from - g->at);
        uint8_t *dst = g->dst + (i0 * g->n_columns + j - g->begin) * g->item;
        for (uint64_t k = 0; k < n; k++)
            memcpy(dst + k * g->n_columns * g->item, src + k * g->item, (size_t)g->item);
        i0 += n;
        from += n * g->item;
    }
    return QN_OK;
}

/* Rows below `limit` that column j has elements of. */
static uint64_t rows_before(const struct gather *g, uint64_t limit, uint64_t j)
{
    return limit > j ? qn_ceil_div(limit - j, g->n_columns) : 0;
}

static qn_code all_columns(struct gather *g, qn_err *err)
{
    const qn_npy_head *h = g->h;
    uint64_t index[QN_RANK_MAX] = {0}, step[QN_RANK_MAX] = {0}, j = 0;
    step[h->rank - 1] = 1;
    for (unsigned k = h->rank - 1; k > 1; k--)
        step[k - 1] = step[k] * h->dims[k];
    for (uint64_t c = 0; c < g->n_columns; c++) {
        const uint64_t first = rows_before(g, g->begin, j), end = rows_before(g, g->end, j);
        if (first < end)
            QN_TRY(take(g, c, j, first, end, err));
        for (unsigned k = 1; k < h->rank; k++) {
            j += step[k];
            if (++index[k] < h->dims[k])
                break;
            j -= step[k] * h->dims[k];
            index[k] = 0;
        }
    }
    return QN_OK;
}

/* Less than a row: the columns that are wanted, found one by one. */
static qn_code some_columns(struct gather *g, qn_err *err)
{
    const qn_npy_head *h = g->h;
    for (uint64_t e = g->begin; e < g->end; e++) {
        const uint64_t i0 = e / g->n_columns, j = e % g->n_columns;
        uint64_t column = 0, rest = j, step = g->n_columns;
        for (unsigned k = h->rank - 1; k >= 1; k--) {
            step /= h->dims[k];
            column += rest % h->dims[k] * step;
            rest /= h->dims[k];
        }
        QN_TRY(take(g, column, j, i0, i0 + 1, err));
    }
    return QN_OK;
}

static qn_code gather_fortran(struct gather *g, const qn_alloc *alloc, bool forward, qn_err *err)
{
    const uint64_t n = g->end - g->begin, n_rows = n / g->n_columns + 1;
    g->room = qn_max_u64(WINDOW_MIN, qn_min_u64(WINDOW_MAX, n_rows * g->item * WASTE_MAX));
    g->window = qn_mem_get(alloc, g->room, err);
    if (!g->window)
        return QN_E_MEMORY;
    const qn_code rc = forward || n >= g->n_columns ? all_columns(g, err) : some_columns(g, err);
    qn_mem_put(alloc, g->window);
    return rc;
}

/* Whole elements. */
static qn_code gather(const qn_npy_head *h, const qn_alloc *alloc, qn_npy_read_fn read, void *ctx, bool forward,
                      uint64_t first, uint64_t n, uint8_t *dst, qn_err *err)
{
    const uint64_t item = qn_dtype_bits((qn_dtype)h->dtype) / 8;
    if (h->fortran) {
        struct gather g = {.h = h, .read = read, .ctx = ctx, .item = item, .begin = first, .end = first + n, .dst = dst};
        g.n_columns = h->n_elems / h->dims[0];
        QN_TRY(gather_fortran(&g, alloc, forward, err));
    } else {
        QN_TRY(read(ctx, dst, n * item, first * item, err));
    }
    if (h->swapped)
        swap(dst, n * item, qn_unit_bytes((qn_dtype)h->dtype));
    return QN_OK;
}

qn_code qn_npy_gather(const qn_npy_head *h, const qn_alloc *alloc, qn_npy_read_fn read, void *ctx, bool forward, uint64_t off,
                      uint64_t n, void *dst, qn_err *err)
{
    const uint64_t item = qn_dtype_bits((qn_dtype)h->dtype) / 8;
    uint8_t *p = dst;
    while (n > 0) {
        const uint64_t inside = off % item;
        uint64_t done = n / item * item;
        if (inside || done == 0) {
            uint8_t one[8];
            done = qn_min_u64(item - inside, n);
            QN_TRY(gather(h, alloc, read, ctx, forward, off / item, 1, one, err));
            memcpy(p, one + inside, (size_t)done);
        } else {
            QN_TRY(gather(h, alloc, read, ctx, forward, off / item, n / item, p, err));
        }
        p += done;
        off += done;
        n -= done;
    }
    return QN_OK;
}
