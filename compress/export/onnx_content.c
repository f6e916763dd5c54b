/* onnx_content.c: the bytes of the new tensors: codes, scales and zero points as the form lays them out, weights as f16. One tensor is in memory at a
 * time, and a run of rows of its codes. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/export/onnx_impl.h"
#include <float.h>

enum { CODES_AT_ONCE = 16 << 20 };

/* A run of rows as the .quern has them. */
typedef struct run {
    uint32_t row0, n, groups;
    const uint8_t *codes;        /* (n, cols)          */
    const float *scales, *zeros; /* (n, groups)        */
} run;

/* Code of the form; zero point of the form. */
static unsigned code_of(const qn_to_onnx_pick *p, unsigned code)
{
    return code * p->times;
}

static unsigned zero_of(const qn_to_onnx_pick *p, float zero)
{
    return (unsigned)(zero * (float)p->times);
}

/* Group of the .quern that column `col` belongs to. */
static uint32_t group_of(const qn_to_onnx_pick *p, uint32_t col)
{
    return p->codes.group < p->codes.cols ? col / p->codes.group : 0;
}

static void put_code(uint8_t *dst, uint64_t i, unsigned bits, unsigned code)
{
    dst[i * bits / 8] = (uint8_t)(dst[i * bits / 8] | code << (i * bits % 8));
}

/* ---- MatMulNBits: row by row, block by block ---- */

static void nbits_codes(const qn_to_onnx_pick *p, const run *r, uint8_t *dst)
{
    const uint32_t blocks = qn_to_onnx_blocks(p);
    const uint64_t row_bytes = (uint64_t)blocks * p->block * p->bits / 8;
    for (uint32_t i = 0; i < r->n; i++) {
        uint8_t *row = dst + (r->row0 + i) * row_bytes;
        for (uint32_t j = 0; j < p->cols; j++)
            put_code(row, j, p->bits, code_of(p, r->codes[(uint64_t)i * p->cols + j]));
        for (uint64_t j = p->cols; j < (uint64_t)blocks * p->block; j++) /* past the end: zeros */
            put_code(row, j, p->bits, zero_of(p, r->zeros[(uint64_t)i * r->groups + r->groups - 1]));
    }
}

static void nbits_zeros(const qn_to_onnx_pick *p, const run *r, uint8_t *dst)
{
    const uint32_t blocks = qn_to_onnx_blocks(p);
    const uint64_t row_bytes = qn_ceil_div((uint64_t)blocks * p->bits, 8);
    for (uint32_t i = 0; i < r->n; i++)
        for (uint32_t b = 0; b < blocks; b++)
            put_code(dst + (r->row0 + i) * row_bytes, b, p->bits, zero_of(p, r->zeros[(uint64_t)i * r->groups + group_of(p, b * p->block)]));
}

/* ---- DequantizeLinear: in the weight's own shape; blocks as (out, in) ---- */

static uint64_t place(const qn_to_onnx_pick *p, uint64_t row, uint64_t col)
{
    return p->turned && p->bits == 8 ? col * p->rows + row : row * p->cols + col;
}

/* Signed where zero is in the middle of the range and no zero points are written, else unsigned. */
static void qdq_codes(const qn_to_onnx_pick *p, const run *r, uint8_t *dst)
{
    const unsigned flip = p->zeros ? 0 : 1u << (p->bits - 1); /* q − 2^(bits − 1) in two's complement */
    for (uint32_t i = 0; i < r->n; i++)
        for (uint32_t j = 0; j < p->cols; j++)
            put_code(dst, place(p, r->row0 + i, j), p->bits, code_of(p, r->codes[(uint64_t)i * p->cols + j]) ^ flip);
}

static void qdq_zeros(const qn_to_onnx_pick *p, const run *r, uint8_t *dst)
{
    const uint32_t blocks = qn_to_onnx_blocks(p);
    for (uint32_t i = 0; i < r->n; i++)
        for (uint32_t b = 0; b < blocks; b++)
            put_code(dst, (uint64_t)(r->row0 + i) * blocks + b, p->bits, zero_of(p, r->zeros[(uint64_t)i * r->groups + group_of(p, b * p->block)]));
}

/* ---- both ---- */

static void put_scales(const qn_to_onnx_pick *p, const run *r, uint8_t *dst)
{
    const uint32_t blocks = qn_to_onnx_blocks(p);
    const bool half = p->file->data_type == QN_ONNX_FLOAT16;
    for (uint32_t i = 0; i < r->n; i++)
        for (uint32_t b = 0; b < blocks; b++) {
            const float s = r->scales[(uint64_t)i * r->groups + group_of(p, b * p->block)] / (float)p->times;
            const uint64_t at = (uint64_t)(r->row0 + i) * blocks + b;
            if (half)
                qn_store16(dst + 2 * at, qn_f32_to_f16(s));
            else
                qn_store32(dst + 4 * at, qn_f32_bits(s));
        }
}

/* Zero points of MatMulNBits in the type of the scales. */
static void put_float_zeros(const qn_to_onnx_pick *p, const run *r, uint8_t *dst)
{
    const uint32_t blocks = qn_to_onnx_blocks(p);
    const bool half = p->file->data_type == QN_ONNX_FLOAT16;
    for (uint32_t i = 0; i < r->n; i++)
        for (uint32_t b = 0; b < blocks; b++) {
            const float zero = r->zeros[(uint64_t)i * r->groups + group_of(p, b * p->block)];
            const uint64_t at = (uint64_t)(r->row0 + i) * blocks + b;
            if (half)
                qn_store16(dst + 2 * at, qn_f32_to_f16(zero));
            else
                qn_store32(dst + 4 * at, qn_f32_bits(zero));
        }
}

static uint64_t part_bytes(const qn_to_onnx_export *x, const qn_to_onnx_pick *p, qn_to_onnx_part part)
{
    const bool nbits = x->want.form == QN_TO_ONNX_FORM_NBITS;
    if (part == QN_TO_ONNX_PART_HALVES)
        return 2 * p->file->n_elems;
    const uint64_t blocks = qn_to_onnx_blocks(p), rows = p->rows;
    switch (part) {
    case QN_TO_ONNX_PART_CODES: return nbits ? rows * blocks * p->block * p->bits / 8 : qn_ceil_div(rows * p->cols * p->bits, 8);
    case QN_TO_ONNX_PART_SCALES: return rows * blocks * (p->file->data_type == QN_ONNX_FLOAT16 ? 2 : 4);
    case QN_TO_ONNX_PART_ZEROS:
        if (p->float_zeros)
            return part_bytes(x, p, QN_TO_ONNX_PART_SCALES);
        return nbits ? rows * qn_ceil_div(blocks * p->bits, 8) : qn_ceil_div(rows * blocks * p->bits, 8);
    case QN_TO_ONNX_PART_HALVES: break;
    }
    return 0;
}

uint64_t qn_to_onnx_content_bytes(const qn_to_onnx_export *x, const qn_to_onnx_pick *p)
{
    if (x->want.form == QN_TO_ONNX_FORM_HALF)
        return part_bytes(x, p, QN_TO_ONNX_PART_HALVES);
    return part_bytes(x, p, QN_TO_ONNX_PART_CODES) + part_bytes(x, p, QN_TO_ONNX_PART_SCALES) + (p->zeros ? part_bytes(x, p, QN_TO_ONNX_PART_ZEROS) : 0);
}

static void put_run(const qn_to_onnx_export *x, const qn_to_onnx_pick *p, qn_to_onnx_part part, const run *r, uint8_t *dst)
{
    const bool nbits = x->want.form == QN_TO_ONNX_FORM_NBITS;
    if (part == QN_TO_ONNX_PART_SCALES)
        put_scales(p, r, dst);
    else if (part == QN_TO_ONNX_PART_ZEROS && p->float_zeros)
        put_float_zeros(p, r, dst);
    else if (part == QN_TO_ONNX_PART_ZEROS)
        (nbits ? nbits_zeros : qdq_zeros)(p, r, dst);
    else
        (nbits ? nbits_codes : qdq_codes)(p, r, dst);
}

static qn_code fill(const qn_to_onnx_export *x, const qn_to_onnx_pick *p, qn_to_onnx_part part, uint8_t *dst, qn_arena *scratch, qn_err *err)
{
    const uint32_t groups = qn_codes_groups(&p->codes);
    const uint32_t most = p->cols < CODES_AT_ONCE ? CODES_AT_ONCE / p->cols : 1;
    for (uint32_t row = 0; row < p->rows; row += most) {
        const uint32_t n = p->rows - row < most ? p->rows - row : most;
        const qn_arena_mark mark = qn_arena_tell(scratch);
        uint8_t *codes = qn_arena_get(scratch, (uint64_t)n * p->cols, 64, err);
        float *scales = codes ? qn_arena_get(scratch, (uint64_t)n * groups * sizeof *scales, 64, err) : NULL;
        float *zeros = scales ? qn_arena_get(scratch, (uint64_t)n * groups * sizeof *zeros, 64, err) : NULL;
        if (!zeros)
            return QN_E_MEMORY;
        QN_TRY(qn_codes_grid(&p->codes, row, n, part == QN_TO_ONNX_PART_CODES ? codes : NULL, scales, zeros, scratch, err));
        put_run(x, p, part, &(run){.row0 = row, .n = n, .groups = groups, .codes = codes, .scales = scales, .zeros = zeros}, dst);
        qn_arena_rewind(scratch, mark);
    }
    return QN_OK;
}

/* f32 → f16, nearest even; past its range the largest number of it, so that no infinity appears. */
static qn_code halves(const qn_to_onnx_export *x, const qn_to_onnx_pick *p, uint8_t *dst, qn_err *err)
{
    enum { RUN = 1 << 16 };
    qn_source *s = x->job->src;
    uint8_t *raw = qn_mem_get(x->env->alloc, RUN * 4, err);
    qn_code rc = raw ? QN_OK : QN_E_MEMORY;
    for (uint64_t i = 0, n; i < p->file->n_elems && rc == QN_OK; i += n) {
        n = qn_min_u64(RUN, p->file->n_elems - i);
        rc = qn_source_tensor_read(s, p->tensor, 4 * i, 4 * n, raw, err);
        for (uint64_t k = 0; k < n && rc == QN_OK; k++) {
            const float v = qn_bits_f32(qn_load32(raw + 4 * k));
            qn_store16(dst + 2 * (i + k), qn_f32_to_f16(v > 65504 && v <= FLT_MAX ? 65504.0f : v < -65504 && v >= -FLT_MAX ? -65504.0f : v));
        }
    }
    qn_mem_put(x->env->alloc, raw);
    return rc;
}

qn_code qn_to_onnx_content_make(void *ctx, uint64_t id, void **data, uint64_t *n_bytes, qn_err *err)
{
    const qn_to_onnx_export *x = ctx;
    const qn_to_onnx_pick *p = &x->picks[id / 4];
    const qn_to_onnx_part part = (qn_to_onnx_part)(id % 4);
    *n_bytes = part_bytes(x, p, part);
    uint8_t *dst = qn_mem_zeros(x->env->alloc, *n_bytes + 1, 1, err);
    if (!dst)
        return QN_E_MEMORY;
    qn_arena scratch;
    qn_arena_init(&scratch, x->env->alloc);
    const qn_code rc = part == QN_TO_ONNX_PART_HALVES ? halves(x, p, dst, err) : fill(x, p, part, dst, &scratch, err);
    qn_arena_release(&scratch);
    if (rc != QN_OK)
        qn_mem_put(x->env->alloc, dst);
    else
        *data = dst;
    return qn_err_in_tensor(err, rc, p->name);
}
