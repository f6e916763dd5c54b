/* gguf_rows.c: rows of the output from those of the source: moved, changed, and in the file's type. Blocks of a .quern that the file holds as they are are
 * moved as bytes: what moves are whole rows, and a row's codes know nothing of its place. */
#include "base/err.h"
#include "base/ggml.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/export/gguf_impl.h"
#include <math.h>
#include <string.h>

enum { BAND_BYTES = 1 << 20 };

static const qn_source_tensor *part_of(const qn_ggx_rows *r, uint32_t p)
{
    return &r->src->tensors[r->t->parts[p]];
}

/* Elements → f32. Block types: whole blocks. */
static qn_code widen(qn_dtype type, const uint8_t *src, uint64_t n, float *dst, qn_err *err)
{
    if (qn_dtype_is_block(type))
        return qn_ggml_f32(type, src, n, dst, err);
    for (uint64_t i = 0; i < n; i++)
        switch (type) {
        case QN_F32:
            dst[i] = qn_bits_f32(qn_load32(src + 4 * i));
            break;
        case QN_F16:
            dst[i] = qn_f16_to_f32(qn_load16(src + 2 * i));
            break;
        case QN_BF16:
            dst[i] = qn_bf16_to_f32(qn_load16(src + 2 * i));
            break;
        default: {
            double d;
            QN_TRY(qn_widen(type, src + qn_bytes_of_elems(type, i), 1, &d, err));
            dst[i] = (float)d;
        }
        }
    return QN_OK;
}

/* --- dense ------------------------------------------------------------------------------------------------------------------- */

/* n rows of a part as f32, from row0 of all its matrices. */
static qn_code read_dense(qn_ggx_rows *r, uint32_t p, uint64_t row0, uint64_t n, float *w, qn_err *err)
{
    const qn_source_tensor *from = part_of(r, p);
    const uint64_t cols = r->t->cols, row_bytes = qn_bytes_of_elems((qn_dtype)from->dtype, cols);
    if (qn_dtype_bits((qn_dtype)from->dtype) % 8)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s is not written to GGUF", qn_dtype_name((qn_dtype)from->dtype)), from->name);
    for (uint64_t at = 0; at < n;) {
        const uint64_t some = qn_min_u64(n - at, qn_max_u64(1, r->cap / qn_max_u64(row_bytes, 1)));
        QN_TRY(qn_err_in_tensor(err, qn_source_tensor_read(r->src, r->t->parts[p], (row0 + at) * row_bytes, some * row_bytes, r->raw, err), from->name));
        QN_TRY(qn_err_in_tensor(err, widen((qn_dtype)from->dtype, r->raw, some * cols, w + at * cols, err), from->name));
        at += some;
    }
    return QN_OK;
}

/* All of a (in, out) matrix, turned. */
static qn_code load_whole(qn_ggx_rows *r, qn_err *err)
{
    const qn_ggx_tensor *t = r->t;
    const uint64_t rows = t->rows, cols = t->cols;
    const qn_ggx_tensor lying = {.cols = rows, .parts = t->parts};
    qn_ggx_rows as = *r;
    bool ovf = false;
    const uint64_t bytes = qn_mul(qn_mul(rows, cols, &ovf), sizeof(float), &ovf);
    r->whole = ovf ? NULL : qn_mem_get(r->x->job->env->alloc, bytes, err);
    float *line = r->whole ? qn_mem_get(r->x->job->env->alloc, rows * sizeof *line, err) : NULL;
    if (!line)
        return QN_E_MEMORY;
    as.t = &lying;
    qn_code rc = QN_OK;
    for (uint64_t j = 0; j < cols && rc == QN_OK; j++) {
        rc = read_dense(&as, 0, j, 1, line, err);
        for (uint64_t i = 0; i < rows && rc == QN_OK; i++)
            r->whole[i * cols + j] = line[i];
    }
    qn_mem_put(r->x->job->env->alloc, line);
    return rc;
}

/* --- either ------------------------------------------------------------------------------------------------------------------------ */

/* n rows of a part: f32, or the bytes of blocks. */
static qn_code read_part(qn_ggx_rows *r, uint32_t p, uint64_t row0, uint64_t n, void *dst, qn_err *err)
{
    if (r->codes)
        return qn_err_in_tensor(err, qn_codes_blocks(&r->codes[p], row0, (uint32_t)n, dst, &r->scratch, err), part_of(r, p)->name);
    return read_dense(r, p, row0, n, dst, err);
}

static uint64_t row_bytes_of(const qn_ggx_rows *r)
{
    return r->codes ? qn_bytes_of_elems(r->t->dtype, r->t->cols) : r->t->cols * sizeof(float);
}

/* --- moves -------------------------------------------------------------------------------------------------------------------- */

/* Where row i of a matrix comes from. */
static uint64_t moved(const qn_ggx_tensor *t, uint64_t i)
{
    if (t->move == QN_GGX_HEADS) {
        const uint64_t head = t->take / t->heads, h = i / head, j = i % head;
        return h * head + j / 2 + (j % 2) * (head / 2);
    }
    if (t->move == QN_GGX_THIRDS) {
        const uint64_t third = t->take / 3, head = third / t->heads, which = i / third, h = i % third / head;
        return (3 * h + which) * head + i % head;
    }
    return i;
}

/* Part, and row in it. */
static uint64_t origin(const qn_ggx_tensor *t, uint64_t row, uint32_t *part)
{
    const uint64_t per = t->stack * t->take, in = row % per;
    *part = (uint32_t)(row / per);
    return in / t->take * t->src_rows + t->from + moved(t, in % t->take);
}

uint64_t qn_ggx_rows_band(const qn_ggx_rows *r)
{
    const uint64_t fit = qn_max_u64(1, BAND_BYTES / qn_max_u64(r->t->cols * sizeof(float), 1));
    const uint64_t head = r->t->move == QN_GGX_HEADS ? r->t->take / r->t->heads : 1;
    return qn_max_u64(fit / head, 1) * head; /* qn_codes_blocks counts rows in 32 bits: fit is at most 2^18 */
}

/* Rows that follow each other in the source are read together; the heads of HEADS whole, and sorted afterwards. */
static qn_code gather(qn_ggx_rows *r, uint64_t row0, uint64_t n, uint8_t *dst, qn_err *err)
{
    const qn_ggx_tensor *t = r->t;
    const uint64_t row_bytes = row_bytes_of(r);
    if (t->move == QN_GGX_HEADS) {
        const uint64_t head = t->take / t->heads;
        if (row0 % head || n % head)
            return QN_BUG(err, "part of a head was asked for");
        QN_TRY(read_part(r, 0, row0, n, r->band, err));
        for (uint64_t i = 0; i < n; i++)
            memcpy(dst + i * row_bytes, r->band + (moved(t, row0 + i) - row0) * row_bytes, row_bytes);
        return QN_OK;
    }
    for (uint64_t i = 0; i < n;) {
        uint32_t p, q;
        uint64_t k = 1;
        const uint64_t at = origin(t, row0 + i, &p);
        while (i + k < n && origin(t, row0 + i + k, &q) == at + k && q == p)
            k++;
        QN_TRY(read_part(r, p, at, k, dst + i * row_bytes, err));
        i += k;
    }
    return QN_OK;
}

qn_code qn_ggx_rows_f32(qn_ggx_rows *r, uint64_t row0, uint64_t n, float *w, qn_err *err)
{
    const qn_ggx_tensor *t = r->t;
    const uint64_t k = n * t->cols;
    if (t->made)
        memcpy(w, t->made + row0 * t->cols, k * sizeof *w);
    else if (r->whole)
        memcpy(w, r->whole + row0 * t->cols, k * sizeof *w);
    else
        QN_TRY(gather(r, row0, n, (uint8_t *)w, err));
    for (uint64_t i = 0; i < k && t->value == QN_GGX_PLUS_ONE; i++)
        w[i] += 1;
    for (uint64_t i = 0; i < k && t->value == QN_GGX_MINUS_EXP; i++)
        w[i] = (float)-exp((double)w[i]);
    return QN_OK;
}

/* --- in the file's type --------------------------------------------------------------------------------------------------------- */

/* The bytes of the source are those of the file. */
static bool as_they_are(const qn_ggx_rows *r)
{
    const qn_ggx_tensor *t = r->t;
    return t->parts && t->n_parts == 1 && t->move == QN_GGX_STAY && t->value == QN_GGX_SAME && t->stack * t->take == t->rows && t->from == 0 &&
           t->src_rows == t->take && part_of(r, 0)->dtype == t->dtype;
}

static void narrow(qn_dtype type, const float *w, uint64_t n, uint8_t *bytes)
{
    for (uint64_t i = 0; i < n; i++)
        if (type == QN_F16)
            qn_store16(bytes + 2 * i, qn_f32_to_f16(w[i]));
        else if (type == QN_BF16)
            qn_store16(bytes + 2 * i, qn_f32_to_bf16(w[i]));
        else
            qn_store32(bytes + 4 * i, qn_f32_bits(w[i]));
}

qn_code qn_ggx_rows_bytes(qn_ggx_rows *r, uint64_t row0, uint64_t n, uint8_t *bytes, qn_err *err)
{
    const qn_ggx_tensor *t = r->t;
    const uint64_t row_bytes = qn_bytes_of_elems(t->dtype, t->cols);
    if (r->codes)
        return gather(r, row0, n, bytes, err);
    if (as_they_are(r))
        return qn_source_tensor_read(r->src, t->parts[0], row0 * row_bytes, n * row_bytes, bytes, err);
    if (t->dtype != QN_F32 && t->dtype != QN_F16 && t->dtype != QN_BF16)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "its numbers are not there as %s", qn_dtype_name(t->dtype)), t->name);
    float *w = qn_mem_get(r->x->job->env->alloc, n * t->cols * sizeof *w, err);
    qn_code rc = w ? qn_ggx_rows_f32(r, row0, n, w, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        narrow(t->dtype, w, n * t->cols, bytes);
    qn_mem_put(r->x->job->env->alloc, w);
    return rc;
}

/* The codes of all parts, when the file's type is one of blocks that the source does not have as such. */
static qn_code open_codes(qn_ggx_rows *r, qn_err *err)
{
    const qn_ggx_tensor *t = r->t;
    if (!qn_dtype_is_block(t->dtype) || as_they_are(r))
        return QN_OK;
    r->codes = qn_mem_zeros(r->x->job->env->alloc, t->n_parts, sizeof *r->codes, err);
    if (!r->codes)
        return QN_E_MEMORY;
    for (uint32_t p = 0; p < t->n_parts; p++) {
        QN_TRY(qn_codes_open(&r->codes[p], r->src, t->parts[p], &r->scratch, err));
        if (r->codes[p].kind != QN_CODES_BLOCKS || r->codes[p].block != t->dtype)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "its blocks of %s are not there", qn_dtype_name(t->dtype)), part_of(r, p)->name);
    }
    return QN_OK;
}

qn_code qn_ggx_rows_open(qn_ggx_rows *r, const qn_ggx *x, const qn_ggx_tensor *t, qn_err *err)
{
    const qn_alloc *a = x->job->env->alloc;
    *r = (qn_ggx_rows){.x = x, .src = x->job->src, .t = t};
    qn_arena_init(&r->scratch, a);
    r->cap = qn_max_u64(BAND_BYTES, 8 * qn_max_u64(t->cols, t->move == QN_GGX_TURN ? t->rows : 0));
    r->raw = qn_mem_get(a, r->cap, err);
    if (!r->raw)
        return QN_E_MEMORY;
    if (t->move == QN_GGX_HEADS) {
        r->band = qn_mem_get(a, qn_ggx_rows_band(r) * t->cols * sizeof(float), err);
        if (!r->band)
            return QN_E_MEMORY;
    }
    QN_TRY(open_codes(r, err));
    return t->move == QN_GGX_TURN && !r->codes ? load_whole(r, err) : QN_OK;
}

void qn_ggx_rows_close(qn_ggx_rows *r)
{
    if (!r->x)
        return;
    const qn_alloc *a = r->x->job->env->alloc;
    qn_mem_put(a, r->whole);
    qn_mem_put(a, r->band);
    qn_mem_put(a, r->raw);
    qn_mem_put(a, r->codes);
    qn_arena_release(&r->scratch);
    memset(r, 0, sizeof *r);
}
