/* lossy_view.c: how the matrix of a tensor lies in its bytes: where its parts begin, how it is cut into chunks, between the order of
 * the file and that of the matrix, and the payload around a payload that says so. */
#include "base/num.h"
#include "compress/lossy_impl.h"
#include "runtime/container.h"
#include "runtime/turn.h"
#include <string.h>

/* Stored rows (input channels) of one chunk of a turned matrix: all of them when they fit, else equally many. */
static uint32_t turned_cols(const qn_lossy_view *v, unsigned unit)
{
    const uint64_t most = QN_CHUNK_MAX_BYTES / ((uint64_t)v->rows * unit);
    return (uint32_t)qn_ceil_div(v->cols, qn_ceil_div(v->cols, most));
}

uint64_t qn_lossy_parts(const qn_lossy_view *v, qn_dtype t)
{
    return v->turned ? qn_ceil_div(v->cols, turned_cols(v, qn_unit_bytes(t))) : v->parts;
}

static uint32_t divisor(uint32_t rows, uint32_t most)
{
    uint32_t d = most < rows ? most : rows;
    while (rows % d)
        d--;
    return d;
}

void qn_lossy_cut(qn_lossy_layer *y, uint32_t part, qn_dtype t)
{
    const qn_lossy_view *v = &y->pick.view;
    y->rows = v->rows;
    y->cols = v->cols;
    if (v->turned) {
        const uint32_t each = turned_cols(v, qn_unit_bytes(t));
        y->col0 = part * each;
        y->cols = v->cols - y->col0 < each ? v->cols - y->col0 : each;
        y->chunk_rows = y->rows;
        y->unit0 = (uint64_t)y->col0 * y->rows;
    } else {
        y->chunk_rows = qn_quantizer_segment_rows(y->q, t, (uint64_t[]){v->rows, v->cols});
        if (v->parts > 1) /* no chunk holds rows of two matrices */
            y->chunk_rows = divisor(v->rows, y->chunk_rows);
        y->unit0 = (uint64_t)part * v->rows * v->cols;
    }
    y->n_segments = y->n_left = qn_ceil_div(y->rows, y->chunk_rows);
}

/* Is the block that a decoder is told of the matrix? */
bool qn_lossy_is_plain(const qn_lossy_layer *y, const qn_object *o, uint64_t units)
{
    const uint64_t cols = qn_shape_cols((qn_dtype)o->dtype, o->dims, o->rank);
    return !y->pick.view.turned && cols == y->cols && cols <= units;
}

size_t qn_lossy_wrap(const qn_lossy_layer *y, unsigned codec, uint8_t *dst, size_t n_bytes)
{
    size_t n = 0;
    uint8_t head[QN_LOSSY_WRAP_BYTES]; /* 1 + 5 + 1 + 4 at most: columns below 2^32, bytes up to 16 MiB */
    head[n++] = y->pick.view.turned ? QN_TURN_TURNED : QN_TURN_AS_IS;
    n += qn_put_varint(head + n, y->cols);
    head[n++] = (uint8_t)codec;
    n += qn_put_varint(head + n, n_bytes);
    memmove(dst + n, dst + QN_LOSSY_WRAP_BYTES, n_bytes);
    memcpy(dst, head, n);
    return n + n_bytes;
}
